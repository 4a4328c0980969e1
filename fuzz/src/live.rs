//! Live paths: packets of a publisher or a camera on their way into batches.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use headend::base::ids::Ssrc;
use headend::base::time::Mono;
use headend::live::core::batch::{Generation, LivePacket, LiveRun, PacketBatch};
use headend::live::core::description::{Description, LiveTrack};
use headend::live::core::latch::AddressLatch;
use headend::live::core::limits::{
    BATCH_BYTES_MAX, BATCH_PACKETS_MAX, DATAGRAM_BYTES_MAX, RUN_BYTES_MAX, RUN_PACKETS_MAX,
};
use headend::live::core::source::{ArrivalTime, RtpFields, Source};
use headend::live::sources::listen::sniff::{SniffError, Sniffer};
use headend::rtcp::{Packet, packets};
use headend::rtp::detect::{DetectorFormat, KeyFrameDetector};
use headend::rtp::{RtpView, is_rtcp};

use crate::input::Input;

/// RTP and RTCP of a source with a picture and sound: each packet is in one batch or counted as
/// dropped, batches have the bytes that came in the order in which they came, and their runs can
/// be sent.
pub fn source(data: &[u8]) {
    let mut input = Input::new(data);
    let format =
        [DetectorFormat::H264, DetectorFormat::H265, DetectorFormat::MpegTs, DetectorFormat::Vp8]
            [usize::from(input.u8() & 3)];
    let mut source = made_source(format);
    let mut detector = KeyFrameDetector::new(format);
    let mut now = Mono(1_000_000_000);
    let mut taken: [Vec<Vec<u8>>; 2] = Default::default();
    let mut batches = Vec::new();
    while !input.is_empty() {
        let (what, step) = (input.u8(), input.u8());
        now = Mono(now.0 + u64::from(step) * 100_000);
        let at = ArrivalTime { now, utc_ns: 1_700_000_000_000_000_000 + now.0.cast_signed() };
        let track = what & 1;
        // Zeros may follow, so that a few bytes of input make a packet that is too long.
        let mut bytes = input.long().to_vec();
        bytes.resize(bytes.len() + usize::from(what >> 4) * 300, 0);
        if is_rtcp(&bytes) {
            for packet in packets(&bytes).flatten() {
                if let Packet::SenderReport { ssrc, info, .. } = packet {
                    let report = (info.ntp, info.rtp_ts);
                    let _ = source.handle_sender_report(track, None, ssrc, report, at);
                }
            }
        } else if let Ok(view) = RtpView::parse(&bytes) {
            let fields = RtpFields {
                payload_type: view.payload_type(),
                seq: view.seq(),
                ts: view.ts(),
                ssrc: view.ssrc(),
                marker: view.marker(),
                header_bytes: u16::try_from(view.payload_range().start).unwrap_or(u16::MAX),
            };
            let is_sync = track == 0 && detector.detect(view.payload()).sync;
            let before = source.counts();
            match source.handle_rtp(track, None, &fields, is_sync, &bytes, at) {
                Ok(()) => taken[usize::from(track)].push(bytes),
                Err(error) => {
                    let dropped = source.counts().dropped[error.index()];
                    assert_eq!(dropped, before.dropped[error.index()] + 1, "{error}");
                }
            }
        } else {
            source.refuse_malformed();
        }
        if what & 2 != 0 {
            batches.extend(std::iter::from_fn(|| source.poll_batch(now)).take(8));
        }
        if what & 4 != 0 {
            source.measure(now);
            assert!(source.poll_reports(now).len() <= 2);
            let _ = (source.flush_due(), source.ask_sync(now), source.packets_lost());
        }
    }
    batches.extend(std::iter::from_fn(|| source.poll_batch(now)).take(8));
    batches.extend(source.finish());
    check_all(&batches, &taken);
    let count = taken.iter().map(Vec::len).sum::<usize>();
    assert_eq!(source.counts().packets, count as u64);
}

/// Datagrams at an address without a description: a verdict within its bound, and a description
/// for each verdict that has one.
pub fn sniff(data: &[u8]) {
    let mut input = Input::new(data);
    let mut sniffer = Sniffer::default();
    let from = |port: u8| SocketAddr::from((Ipv4Addr::LOCALHOST, 5_000 + u16::from(port)));
    for count in 1..=64 {
        let sender = input.u8() & 1;
        // Repeated, so that a few bytes of input make packets that look alike.
        let repeat = usize::from(input.u8() & 7) + 1;
        let mut datagram = input.long().repeat(repeat);
        datagram.truncate(2_048);
        let Some(verdict) = sniffer.handle_datagram(from(sender), &datagram) else { continue };
        if let Ok(found) = verdict {
            let description = found.description().expect("a description of what was found");
            assert_eq!(description.medias().len(), 1);
        } else {
            assert!(count == 64 || verdict != Err(SniffError::Unknown));
        }
        assert!((1..=16).contains(&sniffer.into_kept(from(sender)).count()));
        return;
    }
    panic!("no verdict after 64 datagrams");
}

/// A path with a picture of 90 kHz and sound of 48 kHz, which holds it.
fn made_source(format: DetectorFormat) -> Source {
    let track = |clock_rate_hz, number, needs_sync| LiveTrack {
        clock_rate_hz,
        payload_types: vec![number],
        needs_sync,
        identity: "".into(),
    };
    let tracks = vec![track(90_000, 96, true), track(48_000, 97, false)];
    let description = Description::new("".into(), tracks).expect("two tracks");
    let now = Mono(1_000_000_000);
    let mut source = Source::new("live/a".into(), Arc::new(description), Ssrc(1), false, now);
    source.set_formats(vec![format, DetectorFormat::Any]);
    for track in [0, 1] {
        assert!(source.set_up(track, AddressLatch::Any, AddressLatch::Any));
    }
    source.grant(Generation(1), now);
    source
}

/// What stands in all batches of a track is what was taken, but for SSRCs: a source that changes
/// its own is told to readers under the first one.
fn check_all(batches: &[Arc<PacketBatch>], taken: &[Vec<Vec<u8>>; 2]) {
    for (track, wanted) in (0_u8..).zip(taken) {
        let mut wanted = wanted.iter();
        for batch in batches {
            assert!(batch.packet_count() <= BATCH_PACKETS_MAX);
            check_runs(batch, batch.runs_of(track), usize::MAX);
            check_runs(batch, batch.datagram_runs_of(track), DATAGRAM_BYTES_MAX);
            for packet in batch.runs_of(track).iter().flat_map(|run| batch.packets_of(run)) {
                let bytes = batch.packet_bytes(packet);
                let came = wanted.next().expect("a packet that came");
                assert_eq!((&bytes[..8], &bytes[12..]), (&came[..8], &came[12..]), "track {track}");
            }
        }
        assert_eq!(wanted.len(), 0, "packets of track {track} are in no batch");
    }
    for batch in batches {
        assert_eq!(batch.generation(), Generation(1));
        assert!(batch.memory_bytes() <= 4 * BATCH_BYTES_MAX);
    }
}

/// Runs are packets of one size and one SSRC behind each other, the last one may be shorter.
fn check_runs(batch: &PacketBatch, runs: &[LiveRun], bytes_max: usize) {
    for run in runs {
        let packets: &[LivePacket] = batch.packets_of(run);
        assert!((1..=usize::from(RUN_PACKETS_MAX)).contains(&packets.len()));
        assert_eq!(packets.len(), usize::from(run.packet_count));
        assert!(packets.len() == 1 || run.bytes <= RUN_BYTES_MAX);
        let bytes = batch.run_bytes(run);
        assert_eq!(bytes.len(), run.bytes as usize);
        assert_eq!(packets.iter().map(|p| u32::from(p.bytes)).sum::<u32>(), run.bytes);
        for (place, packet) in packets.iter().enumerate() {
            let is_last = place + 1 == packets.len();
            let fits = packet.bytes == run.segment_bytes;
            assert!(fits || is_last && packet.bytes < run.segment_bytes, "{run:?} {packet:?}");
            assert!(usize::from(packet.bytes) <= bytes_max, "{packet:?} is no datagram");
            let at = run.offset + u32::from(run.segment_bytes) * u32::try_from(place).unwrap_or(0);
            assert_eq!(packet.offset, at, "{run:?}");
            assert!(!packet.is_sync || place == 0, "a key frame in a run: {run:?}");
            let view = RtpView::parse(batch.packet_bytes(packet)).expect("a packet of a batch");
            assert_eq!((view.ssrc(), view.seq(), view.ts()), (run.ssrc, packet.seq, packet.ts));
            assert_eq!(view.marker(), packet.marker);
        }
        assert_eq!(run.is_sync, packets[0].is_sync);
    }
}
