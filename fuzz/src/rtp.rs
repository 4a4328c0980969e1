//! RTP: packets as they come, what is found in them, and what long ones are cut into.

use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::base::time::Mono;
use headend::live::core::reception::Reception;
use headend::rtp::cut::Pieces;
use headend::rtp::detect::access::AccessPoints;
use headend::rtp::detect::nal::SetKind;
use headend::rtp::detect::sets::{ParameterSets, SET_BYTES_MAX, SETS_MAX};
use headend::rtp::detect::{DetectorFormat, KeyFrameDetector};
use headend::rtp::{
    Arrival, ExtSeq, HEADER_BYTES, JitterMeter, RtpError, RtpView, RtxStream, SequenceTracker,
    aac_ticks, header_mut, is_rtcp, rtx_payload_type, rtx_pieces, set_payload_type, set_seq,
    set_ssrc, set_ts,
};

use crate::input::{Input, text};

/// A packet: every range lies inside of it and they cover it, the `rtp-types` crate agrees, a
/// changed header changes nothing else, and its retransmission has the same payload.
pub fn view(data: &[u8]) {
    let view = match RtpView::parse(data) {
        Ok(view) => view,
        Err(error) => {
            assert_eq!(matches!(error, RtpError::Rtcp { .. }), is_rtcp(data) && data.len() >= 12);
            return;
        }
    };
    assert!(!is_rtcp(data));
    let range = view.payload_range();
    assert_eq!(&data[range.clone()], view.payload());
    let extension_bytes = view.extension().map_or(0, |extension| {
        assert!(extension.data.len().is_multiple_of(4));
        extension.data.len() + 4
    });
    let optional_bytes = view.csrcs().count() * 4 + extension_bytes;
    assert_eq!(range.start, HEADER_BYTES + optional_bytes);
    let padding_bytes = if data[0] & 0x20 == 0 { 0 } else { usize::from(data[data.len() - 1]) };
    assert_eq!(range.end + padding_bytes, data.len());
    if let Ok(other) = rtp_types::RtpPacket::parse(data) {
        assert_eq!((other.payload(), other.marker_bit()), (view.payload(), view.marker()));
        assert_eq!(
            (other.sequence_number(), other.timestamp(), other.ssrc(), other.payload_type()),
            (view.seq().0, view.ts().0, view.ssrc().0, view.payload_type()),
        );
    }
    let mut changed = data.to_vec();
    let header = header_mut(&mut changed).expect("a packet has a header");
    set_seq(header, SeqNo(0x0102));
    set_ts(header, RtpTs(0x0304_0506));
    set_ssrc(header, Ssrc(7));
    set_payload_type(header, 96);
    assert_eq!(changed[HEADER_BYTES..], data[HEADER_BYTES..]);
    let read = RtpView::parse(&changed).expect("a packet with other numbers");
    assert_eq!((read.seq(), read.ts(), read.ssrc()), (SeqNo(0x0102), RtpTs(0x0304_0506), Ssrc(7)));
    assert_eq!((read.marker(), read.payload()), (view.marker(), view.payload()));
    let rtx = RtxStream { payload_type: 97, seq: SeqNo(9), ssrc: Ssrc(8) };
    let rtx_parts = rtx_pieces(&view, rtx);
    let again = [
        rtx_parts.fixed.as_slice(),
        &data[rtx_parts.optional],
        &rtx_parts.original,
        &data[rtx_parts.payload],
    ]
    .concat();
    let again = RtpView::parse(&again).expect("a retransmission");
    assert_eq!((again.seq(), again.ts(), again.payload_type()), (SeqNo(9), view.ts(), 97));
    let (number, payload) = again.payload().split_at(2);
    assert_eq!((number, payload), (view.seq().0.to_be_bytes().as_slice(), view.payload()));
    assert!(aac_ticks(view.payload()).is_none_or(|ticks| ticks >= 0));
    let free = rtx_payload_type(view.payload());
    assert!(free.is_none_or(|number| !view.payload().contains(&number) && number <= 127));
}

/// The formats in the order of the numbers that inputs have for them.
const FORMATS: [DetectorFormat; 9] = [
    DetectorFormat::H264,
    DetectorFormat::H265,
    DetectorFormat::MpegTs,
    DetectorFormat::Mpeg4Visual,
    DetectorFormat::Av1,
    DetectorFormat::Vp8,
    DetectorFormat::Vp9,
    DetectorFormat::Jpeg,
    DetectorFormat::Any,
];

/// A payload that is cut: no piece is longer than asked for or empty, and a depacketizer makes of
/// the pieces what it makes of the payload.
pub fn cut(data: &[u8]) {
    let mut input = Input::new(data);
    let format = FORMATS[usize::from(input.u8()) % 4];
    let bytes_max = usize::from(input.u16() & 0x7ff);
    let payload = input.rest();
    let mut pieces = Pieces::default();
    if !pieces.cut(format, payload, bytes_max) {
        assert_eq!((pieces.count(), pieces.iter().count()), (0, 0));
        return;
    }
    assert_eq!(pieces.count(), pieces.iter().count());
    assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= bytes_max));
    assert!(pieces.bytes() <= payload.len() + 3 * pieces.count());
    match format {
        DetectorFormat::H264 | DetectorFormat::H265 => {
            // Behind a start code it is another payload, and a second one is part of the unit.
            let is_plain = |bytes: &[u8]| !bytes.starts_with(&[0, 0]);
            if is_plain(payload) && pieces.iter().all(is_plain) {
                let whole = units(format, [payload].into_iter());
                assert_eq!(units(format, pieces.iter()), whole, "{format:?} {bytes_max}");
            }
        }
        _ => assert_eq!(pieces.iter().flatten().copied().collect::<Vec<_>>(), payload),
    }
}

/// A unit, whether its start was there, and whether its end was.
pub(crate) type Unit = (Vec<u8>, bool, bool);

/// Units out of RFC 6184 and RFC 7798 payloads; those without bytes do not count.
pub(crate) fn units<'a>(
    format: DetectorFormat,
    payloads: impl Iterator<Item = &'a [u8]>,
) -> Vec<Unit> {
    let is_h264 = format == DetectorFormat::H264;
    let (header_bytes, aggregate, fragment) = if is_h264 { (1, 24, 28) } else { (2, 48, 49) };
    let mut units: Vec<Unit> = Vec::new();
    for payload in payloads {
        let kind = if is_h264 { payload[0] & 0x1f } else { payload[0] >> 1 & 0x3f };
        if kind == aggregate {
            let mut rest = &payload[header_bytes..];
            while let Some((length, behind)) = rest.split_first_chunk::<2>() {
                let bytes = usize::from(u16::from_be_bytes(*length));
                let (unit, behind) = behind.split_at(bytes.min(behind.len()));
                rest = behind;
                if !unit.is_empty() {
                    units.push((unit.to_vec(), true, true));
                }
            }
        } else if kind == fragment {
            let (header, body) = payload.split_at(header_bytes + 1);
            let fu = header[header_bytes];
            let mut header = header[..header_bytes].to_vec();
            header[0] = match is_h264 {
                true => header[0] & 0xe0 | fu & 0x1f,
                false => header[0] & 0x81 | (fu & 0x3f) << 1,
            };
            let (starts, ends) = (fu & 0x80 != 0, fu & 0x40 != 0);
            match units.last_mut().filter(|last| !starts && !last.2) {
                Some((bytes, _, is_over)) => {
                    bytes.extend_from_slice(body);
                    *is_over = ends;
                }
                None => units.push(([&header, body].concat(), starts, ends)),
            }
        } else {
            units.push((payload.to_vec(), true, true));
        }
    }
    units
}

/// Payloads of one stream, each with its number of bytes in front: sets within their bounds, the
/// same found by two detectors, and places to begin that lie behind each other.
pub fn detect(data: &[u8]) {
    let mut input = Input::new(data);
    let format = FORMATS[usize::from(input.u8()) % FORMATS.len()];
    let (mut detector, mut twin) = (KeyFrameDetector::new(format), KeyFrameDetector::new(format));
    let mut sets = ParameterSets::new(format);
    let mut points = AccessPoints::default();
    let (mut seq, mut told) = (0, 0);
    while !input.is_empty() {
        let step = input.u8();
        let payload = input.long();
        let content = detector.detect(payload);
        assert_eq!(twin.detect(payload), content);
        if step & 0x80 != 0 {
            points.handle_gap();
            seq += 5;
        }
        seq += 1;
        let ts = RtpTs(u32::from(step & 0x0f).wrapping_mul(3_000));
        if let Some(point) = points.handle_packet(ExtSeq(seq), ts, content) {
            assert!(told <= point.0 && point.0 <= seq, "{told} {point:?} {seq}");
            told = point.0;
        }
        let was_complete = sets.is_complete();
        let has_changed = sets.handle_payload(payload);
        assert!(has_changed || was_complete == sets.is_complete());
        if step & 0x40 != 0 {
            sets.handle_sprop(&text(payload));
        }
        for kind in [SetKind::Vps, SetKind::Sps, SetKind::Pps] {
            assert!(sets.of_kind(kind).count() <= SETS_MAX);
            assert!(sets.of_kind(kind).all(|set| set.len() <= SET_BYTES_MAX && !set.is_empty()));
        }
    }
    for (name, value) in sets.fmtp() {
        assert!(!name.is_empty() && value.is_ascii(), "{name}={value}");
        assert!(!value.contains([';', ' ', '\r', '\n']), "{name}={value}");
    }
}

/// Sequence numbers of a stream: those that count only grow, and any give a report.
pub fn sequence(data: &[u8]) {
    let mut input = Input::new(data);
    let (rate, first) = (input.u32(), SeqNo(input.u16()));
    let mut tracker = SequenceTracker::new(first);
    let mut jitter = JitterMeter::new(rate);
    let mut reception = Reception::new(Ssrc(1), rate.max(1), first);
    let mut highest = tracker.highest();
    assert_eq!((highest.seq(), tracker.start()), (first, highest));
    let mut now = Mono(0);
    while !input.is_empty() {
        let (what, step, ts) = (input.u8(), input.u16(), RtpTs(input.u32()));
        now = Mono(now.0 + u64::from(step) * 100_000);
        // Near the highest one more often than chance has it.
        let seq = if what & 1 == 0 { SeqNo(step) } else { highest.seq().plus(step & 0x1f) };
        match tracker.handle_seq(seq) {
            Arrival::Next { seq: next, missing_count } => {
                assert!(next > highest && next.seq() == seq);
                assert_eq!(next.0 - highest.0, u64::from(missing_count) + 1);
                highest = next;
            }
            Arrival::Restart { seq: next } => {
                assert!(next > highest && next.seq() == seq);
                highest = next;
            }
            Arrival::Late { seq: late } => assert!(late <= highest && late.seq() == seq),
            Arrival::Jump => {}
        }
        assert_eq!(tracker.highest(), highest);
        jitter.handle_packet(now, ts);
        reception.handle_packet(seq, ts, now);
        if what & 2 != 0 {
            let report = tracker.report();
            assert!((-0x80_0000..0x80_0000).contains(&report.cumulative_lost));
            let block = reception.report(Ssrc(2), now);
            assert!((-0x80_0000..0x80_0000).contains(&block.cumulative_lost));
        }
        if what & 4 != 0 {
            jitter.handle_restart();
            reception.rename(Ssrc(ts.0));
        }
        if what & 8 != 0 {
            reception.handle_sender_report(u64::from(ts.0) << 16, now);
        }
        let _ = (jitter.jitter_rtp(), reception.lost(), reception.jitter_ticks());
    }
}
