//! RTCP: reports and feedback of players and publishers, and what we write.

use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::live::core::clock::{ClockPoint, SourceClock, utc_ns_from_ntp};
use headend::rtcp::{
    BYES_MAX, CompoundWriter, Packet, REPORTS_MAX, ReportBlock, SenderInfo, ntp_from_utc_ns,
    packets, parse, round_trip_ns,
};

use crate::input::{Input, text};

/// A compound packet: what is collected is what the walk over it finds, within the bounds.
pub fn read(data: &[u8]) {
    let (mut reports, mut byes) = (Vec::new(), Vec::new());
    let mut count = 0;
    for packet in packets(data) {
        count += 1;
        match packet {
            Ok(Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. }) => {
                assert!(blocks.iter().count() <= 31);
                reports.extend(blocks.iter());
            }
            Ok(Packet::Bye(bye)) => {
                assert!(bye.sources().count() <= 31);
                assert!(bye.reason().is_none_or(|reason| reason.len() <= 255));
                byes.extend(bye.sources().map(|ssrc| ssrc.0));
            }
            Ok(Packet::Sdes(sdes)) => {
                assert!(sdes.cnames().count() <= 31);
                assert!(sdes.cnames().all(|(_, name)| name.len() <= 255));
            }
            Ok(Packet::Nack(nack)) => assert!(nack.lost().count() <= 64 * 17),
            Ok(Packet::Fir(fir)) => assert!(fir.entries().count() <= 64),
            Ok(_) | Err(_) => {}
        }
    }
    assert!(count <= data.len().div_ceil(4), "{count} packets in {} bytes", data.len());
    match parse(data) {
        Ok(feedback) => {
            reports.truncate(REPORTS_MAX);
            byes.truncate(BYES_MAX);
            assert_eq!((feedback.reports, feedback.byes), (reports, byes));
        }
        Err(_) => assert!(count <= 1 && reports.is_empty() && byes.is_empty()),
    }
}

/// Compound packets that are written: whole packets only, that read back as what they say.
pub fn write(data: &[u8]) {
    let mut input = Input::new(data);
    let mut memory = [0; 1_024];
    let room = usize::from(input.u16()) % memory.len();
    let mut writer = CompoundWriter::new(&mut memory[..room]);
    let mut wanted = Vec::new();
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        let what = input.u8();
        let (sender, media) = (Ssrc(input.u32()), Ssrc(input.u32()));
        let before = writer.as_bytes().len();
        let written = match what % 7 {
            0 => {
                let (ntp, rtp_ts) = (input.u64(), RtpTs(input.u32()));
                let info = SenderInfo { ntp, rtp_ts, packet_count: 1, octet_count: u32::MAX };
                writer.sender_report(sender, &info, &blocks(&mut input, sender, what))
            }
            1 => writer.receiver_report(sender, &blocks(&mut input, sender, what)),
            2 => writer.cname(sender, &text(input.short())),
            3 => writer.bye(sender, &text(input.short())),
            4 => {
                let lost: Vec<SeqNo> = (0..what >> 3).map(|_| SeqNo(input.u16())).collect();
                writer.nack(sender, media, &lost)
            }
            5 => writer.pli(sender, media),
            _ => writer.fir(sender, media, what),
        };
        let bytes = writer.as_bytes().len();
        assert!(bytes.is_multiple_of(4) && bytes <= room);
        match written {
            Ok(()) if bytes > before => wanted.push((what % 7, sender)),
            Ok(()) => {}
            Err(no_room) => {
                assert_eq!(bytes, before, "a part of a packet was written");
                assert_eq!(no_room.room_bytes, room - before);
                assert!(no_room.packet_bytes > no_room.room_bytes);
            }
        }
    }
    let found = packets(writer.as_bytes()).map(|packet| match packet.expect("a packet of ours") {
        Packet::SenderReport { ssrc, blocks, .. } => {
            assert!(blocks.iter().all(|block| block.sender_ssrc == ssrc.0));
            (0, ssrc)
        }
        Packet::ReceiverReport { ssrc, .. } => (1, ssrc),
        Packet::Sdes(sdes) => (2, sdes.cnames().next().expect("a name").0),
        Packet::Bye(bye) => (3, bye.sources().next().expect("a source")),
        Packet::Nack(nack) => (4, nack.sender),
        Packet::Pli { sender, .. } => (5, sender),
        Packet::Fir(fir) => (6, fir.sender),
        other => panic!("{other:?} is none of ours"),
    });
    assert_eq!(found.collect::<Vec<_>>(), wanted);
}

fn blocks(input: &mut Input<'_>, sender: Ssrc, what: u8) -> Vec<ReportBlock> {
    let block = |_| ReportBlock {
        sender_ssrc: sender.0,
        ssrc: input.u32(),
        fraction_lost: input.u8(),
        cumulative_lost: i32::from(input.u8()),
        ext_highest_seq: input.u32(),
        jitter: 1,
        lsr: 2,
        dlsr: 3,
    };
    (0..what >> 6).map(block).collect()
}

/// NTP, RTP time and our clock: conversions go back and forth, and tracks keep their distance.
pub fn clock(data: &[u8]) {
    let mut input = Input::new(data);
    let (ntp, utc_ns, lsr, dlsr) =
        (input.u64(), i64::from_be_bytes(input.u64().to_be_bytes()), input.u32(), input.u32());
    assert!(round_trip_ns(ntp, lsr, dlsr).unwrap_or(0) <= 32_768 * 1_000_000_000);
    // A fraction of 2^-32 s is less than a nanosecond.
    let back = utc_ns_from_ntp(ntp_from_utc_ns(utc_ns_from_ntp(ntp)));
    assert!(back.abs_diff(utc_ns_from_ntp(ntp)) <= 1, "{ntp:x} {back}");
    let rate = input.u32().max(1);
    let point = ClockPoint { utc_ns, ts: RtpTs(input.u32()) };
    assert_eq!(point.utc_ns_of(point.ts, rate), utc_ns);
    assert_eq!(point.ts_at(utc_ns, rate), point.ts);
    let mut clock = SourceClock::new([rate, 48_000], input.u8() & 1 != 0);
    while !input.is_empty() {
        let (what, ts, step) = (input.u8(), RtpTs(input.u32()), input.u64());
        let track = what & 1;
        let utc_ns = i64::from_be_bytes(step.to_be_bytes());
        match what >> 1 & 3 {
            0 => clock.handle_packet(track, ts, utc_ns),
            1 | 2 => clock.handle_report(track, utc_ns_from_ntp(step), ts, utc_ns),
            _ => clock.forget_track(track),
        }
        let _ = (clock.point(0), clock.point(1), clock.point(2));
    }
}
