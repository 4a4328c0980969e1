//! Packets of a publisher, and packets of other senders.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::host::Host;
use crate::live::core::batch::LiveRun;
use crate::live::core::batch::tests::packet;
use crate::live::core::liveness::Feeder;

fn track(payload_type: u8, needs_sync: bool) -> LiveTrack {
    let payload_types = vec![payload_type];
    LiveTrack { clock_rate_hz: 90_000, payload_types, needs_sync, identity: "x".into() }
}

fn udp_publisher() -> Patience {
    Patience::new(Feeder::Publisher { is_tcp: false }, None)
}

fn source() -> Source {
    let tracks = vec![track(96, true), track(97, false)];
    let description = Arc::new(Description::new("".into(), tracks).unwrap());
    let mut source = Source::new("live/a".into(), description, Ssrc(99), false, Mono(0));
    let from = AddressLatch::Expected(Host::of(address(1)));
    assert!(source.set_up(0, from, from) && source.set_up(1, from, from));
    assert!(!source.set_up(2, from, from));
    source
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 5_000))
}

fn at(us: u64) -> ArrivalTime {
    ArrivalTime { now: Mono(us * 1_000), utc_ns: i64::try_from(us).unwrap() * 1_000 }
}

fn send(
    source: &mut Source,
    (track, seq, ts, ssrc): (u8, u16, u32, u32),
    (marker, is_sync): (bool, bool),
    us: u64,
) -> Result<(), SourceError> {
    let fields = RtpFields {
        payload_type: 96 + track,
        seq: SeqNo(seq),
        ts: RtpTs(ts),
        ssrc: Ssrc(ssrc),
        marker,
        header_bytes: 12,
    };
    let bytes = packet(seq, ts, ssrc, 1_000);
    source.handle_rtp(track, Some(address(1)), &fields, is_sync, &bytes, at(us))
}

#[test]
fn frame_is_one_batch_when_it_ends_and_not_before_unless_it_takes_too_long() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    for seq in 0..3 {
        send(&mut source, (0, seq, 7, 1), (false, true), 100).unwrap();
    }
    assert_eq!(source.poll_batch(at(200).now), None);
    send(&mut source, (0, 3, 7, 1), (true, false), 900).unwrap();
    let batch = source.poll_batch(at(900).now).unwrap();
    assert_eq!((batch.packet_count(), batch.generation()), (4, Generation(1)));
    // Of the packets that are marked, the first begins the key frame.
    assert_eq!(batch.runs_of(0).iter().map(|run| run.is_sync).collect::<Vec<_>>(), [true]);
    assert_eq!(batch.clock_of(0).map(|clock| clock.ts), Some(RtpTs(7)));
    send(&mut source, (0, 4, 8, 1), (false, false), 1_000).unwrap();
    assert_eq!(source.flush_due(), Some(at(3_000).now));
    assert_eq!(source.poll_batch(at(2_999).now), None);
    assert!(source.poll_batch(at(3_000).now).is_some());
    assert_eq!((source.poll_batch(at(9_000).now), source.flush_due()), (None, None));
    let counts = source.counts();
    assert_eq!((counts.packets, counts.batches, counts.sync_samples), (5, 2, 1));
}

#[test]
fn frame_beyond_a_batch_becomes_several_in_order() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    for seq in 0..1_200 {
        send(&mut source, (0, seq, 7, 1), (seq == 1_199, false), 0).unwrap();
    }
    let mut seqs = Vec::new();
    while let Some(batch) = source.poll_batch(Mono(0)) {
        let runs = batch.runs_of(0).iter();
        seqs.extend(runs.flat_map(|run| batch.packets_of(run)).map(|packet| packet.seq.0));
    }
    assert_eq!(seqs, (0..1_200).collect::<Vec<_>>());
}

#[test]
fn foreign_packets_are_counted_by_reason_and_dropped() {
    let mut source = source();
    let refused = |source: &mut Source, at| send(source, at, (true, false), 0).unwrap_err();
    assert_eq!(refused(&mut source, (0, 0, 0, 1)), SourceError::NotGranted);
    source.grant(Generation(1), Mono(0));
    send(&mut source, (0, 0, 0, 1), (true, false), 0).unwrap();
    send(&mut source, (0, 30_000, 0, 2), (true, false), 0).unwrap();
    assert_eq!(refused(&mut source, (0, 1, 0, 1)), SourceError::ForeignSsrc, "it was replaced");
    assert_eq!(refused(&mut source, (2, 1, 0, 1)), SourceError::NoTrack);
    let fields = RtpFields {
        payload_type: 96,
        seq: SeqNo(30_001),
        ts: RtpTs(0),
        ssrc: Ssrc(2),
        marker: false,
        header_bytes: 12,
    };
    let mut rtp = |host, fields: RtpFields, bytes: &[u8]| {
        source.handle_rtp(0, Some(address(host)), &fields, false, bytes, at(0)).unwrap_err()
    };
    assert_eq!(rtp(2, fields, &[0; 20]), SourceError::ForeignAddress);
    let other = RtpFields { payload_type: 97, ..fields };
    assert_eq!(rtp(1, other, &[0; 20]), SourceError::PayloadType);
    assert_eq!(rtp(1, fields, &[0; 70_000]), SourceError::Length);
    assert_eq!(rtp(1, fields, &[0; 11]), SourceError::Length);
    assert_eq!(source.counts().dropped, [1, 1, 1, 1, 1, 2, 0, 0, 0]);
    assert_eq!(source.counts().packets, 2);
}

#[test]
fn publisher_gets_receiver_reports_every_five_seconds() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    for seq in [0, 1, 3] {
        send(&mut source, (0, seq, 0, 5), (true, false), 0).unwrap();
    }
    let report = (0x1_0000_0000_u64 << 16, RtpTs(0));
    source.handle_sender_report(0, Some(address(1)), Ssrc(5), report, at(0)).unwrap();
    let other = (report.0, RtpTs(1 << 31));
    let foreign = source.handle_sender_report(0, Some(address(1)), Ssrc(6), other, at(0));
    assert_eq!(foreign, Err(SourceError::ForeignSsrc));
    assert!(source.poll_reports(at(4_999_999).now).is_empty());
    let reports = source.poll_reports(at(5_000_000).now);
    assert_eq!(reports.len(), 1);
    let (track, block) = reports[0];
    assert_eq!((track, block.sender_ssrc, block.ssrc, block.cumulative_lost), (0, 99, 5, 1));
    assert_eq!(block.dlsr, 5 * 65_536);
    assert_eq!(source.report_due(), at(10_000_000).now);
}

#[test]
fn sender_report_before_the_first_packet_gives_the_time_of_that_packet() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    // Sound at 10 s of the source's clock, pictures one second later; they come together.
    let ntp = |s: u64| (2_208_988_800 + s) << 32;
    for (track, ssrc, s) in [(0, 5, 11), (1, 6, 10)] {
        let line = (ntp(s), RtpTs(90_000));
        source.handle_sender_report(track, Some(address(1)), Ssrc(ssrc), line, at(0)).unwrap();
    }
    send(&mut source, (0, 0, 90_000, 5), (true, true), 10).unwrap();
    send(&mut source, (1, 0, 90_000, 6), (true, false), 20).unwrap();
    let batch = source.poll_batch(at(20).now).unwrap();
    let [picture, sound] = [0, 1].map(|track| batch.clock_of(track).unwrap());
    assert_eq!((picture.ts, sound.ts), (RtpTs(90_000), RtpTs(90_000)));
    assert_eq!(picture.utc_ns - sound.utc_ns, 1_000_000_000);
    assert_eq!(source.counts().dropped, [0; DROP_REASONS]);
    // That of another stream tells nothing, and does not keep it alive.
    let other = source.handle_sender_report(0, None, Ssrc(7), (ntp(50), RtpTs(0)), at(9_000_000));
    assert_eq!(other, Err(SourceError::ForeignSsrc));
    let silent = Duration::from_secs(10);
    assert_eq!(source.check(udp_publisher(), at(10_000_020).now), SourceStatus::Gone { silent });
}

#[test]
fn key_frame_is_asked_for_once_in_a_while() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    assert_eq!(source.ask_sync(Mono(0)), None, "nobody is known yet");
    send(&mut source, (0, 0, 0, 5), (true, false), 0).unwrap();
    assert_eq!(source.ask_sync(Mono(0)), Some((0, Ssrc(5))));
    assert_eq!(source.ask_sync(at(499_999).now), None);
    assert!(source.ask_sync(at(500_000).now).is_some());
}

#[test]
fn silent_source_is_gone() {
    let mut source = source();
    source.grant(Generation(1), at(0).now);
    send(&mut source, (1, 0, 0, 5), (true, false), 4_000_000).unwrap();
    let patience = udp_publisher();
    assert_eq!(source.check(patience, at(13_000_000).now), SourceStatus::Alive);
    source.handle_sign_of_life(at(6_000_000).now);
    let silent = Duration::from_secs(10);
    assert_eq!(source.check(patience, at(16_000_000).now), SourceStatus::Gone { silent });
}

#[test]
fn report_before_the_first_packet_is_not_counted_as_a_foreign_one() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    let report = (0, RtpTs(0));
    source.handle_sender_report(0, Some(address(1)), Ssrc(5), report, at(0)).unwrap();
    assert_eq!(source.counts().dropped, [0; DROP_REASONS]);
    send(&mut source, (0, 0, 0, 5), (true, false), 0).unwrap();
    let other = (0, RtpTs(1 << 31));
    let foreign = source.handle_sender_report(0, Some(address(1)), Ssrc(6), other, at(0));
    assert_eq!(foreign, Err(SourceError::ForeignSsrc));
}

/// SSRC, number and time that readers get, for each packet of a batch's first track.
fn shown(batch: &PacketBatch) -> Vec<(u32, u16, u32)> {
    let packets = batch.runs_of(0).iter().flat_map(|run| {
        batch.packets_of(run).iter().map(|packet| (run.ssrc, packet, batch.packet_bytes(packet)))
    });
    let shown = packets.map(|(ssrc, packet, bytes)| {
        assert_eq!(bytes[8..12], ssrc.0.to_be_bytes());
        assert_eq!(bytes[2..4], packet.seq.0.to_be_bytes());
        (ssrc.0, packet.seq.0, packet.ts.0)
    });
    shown.collect()
}

/// A camera that was seen: each group of pictures has an SSRC of its own.
#[test]
fn stream_that_continues_under_other_ssrcs_is_one_stream_to_readers() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    let (mut all, mut lines) = (Vec::new(), Vec::new());
    for n in 0..100_u16 {
        let (ssrc, ts, us) = (u32::from(n / 10) + 5, u32::from(n) * 3_600, u64::from(n) * 40_000);
        if n % 10 == 9 {
            // Its reports have the SSRC of the group, another, or the one of the next group.
            let ssrc = [ssrc, 99, ssrc + 1][usize::from(n / 10 % 3)];
            let ntp = (2_208_988_800 << 32) + (u64::from(n) << 32) / 25;
            let from = Some(address(1));
            source.handle_sender_report(0, from, Ssrc(ssrc), (ntp, RtpTs(ts)), at(us)).unwrap();
        }
        send(&mut source, (0, n, ts, ssrc), (true, n % 10 == 0), us).unwrap();
        let batch = source.poll_batch(at(us).now).unwrap();
        all.extend(shown(&batch));
        lines.push(batch.clock_of(0).unwrap());
    }
    let wanted: Vec<_> = (0..100_u16).map(|n| (5, n, u32::from(n) * 3_600)).collect();
    assert_eq!(all, wanted);
    assert!(lines.iter().all(|line| line.utc_ns_of(RtpTs(0), 90_000) == 0), "{lines:?}");
    assert_eq!((source.counts().dropped, source.packets_lost()), ([0; DROP_REASONS], 0));
    assert_eq!(source.counts().sync_samples, 10);
    let report = source.poll_reports(at(5_000_000).now)[0].1;
    assert_eq!((report.ssrc, report.cumulative_lost, report.ext_highest_seq), (14, 0, 99));
    assert_ne!(report.lsr, 0);
    assert_eq!(source.ask_sync(at(5_000_000).now), Some((0, Ssrc(14))));
}

#[test]
fn stream_that_restarts_its_numbers_at_the_same_address_is_accepted_at_once_as_another() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    send(&mut source, (0, 1, 0, 5), (true, true), 0).unwrap();
    send(&mut source, (0, 40_000, 1 << 31, 6), (true, true), 10).unwrap();
    send(&mut source, (0, 40_001, (1 << 31) + 3_600, 6), (true, false), 20).unwrap();
    let batch = source.poll_batch(at(20).now).unwrap();
    assert_eq!(shown(&batch)[1..], [(6, 40_000, 1 << 31), (6, 40_001, (1 << 31) + 3_600)]);
    assert!(batch.runs_of(0)[1].is_sync, "readers go on with it");
    assert_eq!(source.counts().dropped, [0; DROP_REASONS]);
}

#[test]
fn sender_report_with_any_ssrc_is_used_if_its_time_fits_the_track() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    let ntp = |s: u64| (2_208_988_800 + s) << 32;
    // In front of the first packet as well.
    source.handle_sender_report(1, None, Ssrc(1), (ntp(9), RtpTs(8_000)), at(0)).unwrap();
    send(&mut source, (1, 0, 8_100, 6), (true, false), 10).unwrap();
    let line = |source: &mut Source, us: u64| {
        source.poll_batch(at(us + 2_000).now).unwrap().clock_of(1).unwrap()
    };
    assert_eq!(line(&mut source, 10).ts, RtpTs(8_000));
    let report = (ntp(12), RtpTs(8_000 + 270_000));
    assert!(source.is_report_of(1, Ssrc(2), report.1, at(3_000_000).now));
    source.handle_sender_report(1, None, Ssrc(2), report, at(3_000_000)).unwrap();
    send(&mut source, (1, 1, 278_000, 6), (true, false), 3_000_010).unwrap();
    assert_eq!(line(&mut source, 3_000_010).ts, RtpTs(278_000));
    assert!(!source.is_report_of(1, Ssrc(2), RtpTs(1 << 31), at(3_000_000).now));
    assert!(!source.is_report_of(0, Ssrc(2), RtpTs(0), at(0).now), "nothing has come of it");
}

#[test]
fn tracks_are_metered_across_a_change_of_ssrc_and_groups_of_pictures_by_rtp_time() {
    let mut source = source();
    source.grant(Generation(1), at(7).now);
    assert_eq!(source.began(), Some(at(7).now));
    for (seq, ts) in [(0, 0), (1, 0), (4, 180_000)] {
        send(&mut source, (0, seq, ts, 5), (true, true), 10).unwrap();
    }
    let after = 3_000_000;
    send(&mut source, (0, 900, 0, 6), (true, true), after).unwrap();
    send(&mut source, (0, 902, 0, 6), (true, false), after).unwrap();
    let track = source.track(0).unwrap();
    let meter = track.meter();
    assert_eq!(
        (meter.packets, meter.payload_type, meter.newest),
        (5, Some(96), Some(at(after).now))
    );
    assert_eq!((track.packets_lost(), source.packets_lost()), (3, 3));
    assert_eq!(meter.gop_ticks, None, "the new stream has shown one key frame only");
    send(&mut source, (0, 903, 90_000, 6), (true, true), after).unwrap();
    assert_eq!(source.track(0).unwrap().meter().gop_ticks, Some(90_000));
    assert_eq!(source.bits_per_s(), 0);
    source.measure(at(0).now);
    send(&mut source, (0, 904, 90_000, 6), (true, false), after).unwrap();
    source.measure(at(1_000_000).now);
    assert_eq!(source.bits_per_s(), 8_000);
}

/// Packets for readers over UDP, as (number, marker, is sync, bytes).
fn datagrams(batch: &PacketBatch) -> Vec<(u16, bool, bool, usize)> {
    let runs = batch.datagram_runs_of(0).iter();
    let packets =
        runs.flat_map(|run| batch.packets_of(run).iter().map(move |packet| (run, packet)));
    let shown = packets.map(|(run, packet)| {
        let bytes = batch.packet_bytes(packet);
        let view = crate::rtp::RtpView::parse(bytes).unwrap();
        assert_eq!((view.seq(), view.ssrc(), view.ts()), (packet.seq, run.ssrc, packet.ts));
        assert_eq!(view.marker(), packet.marker);
        (packet.seq.0, packet.marker, packet.is_sync, bytes.len())
    });
    shown.collect()
}

#[test]
fn packet_longer_than_a_datagram_is_fragmented_for_readers_over_udp_only() {
    let mut source = source();
    source.set_formats(vec![DetectorFormat::H264, DetectorFormat::Any]);
    source.grant(Generation(1), Mono(0));
    let mut send = |seq: u16, ts: u32, ssrc: u32, len: usize, marker: bool, is_sync: bool| {
        let mut bytes = packet(seq, ts, ssrc, len);
        bytes[12..].fill(0x65);
        bytes[1] = 96 | u8::from(marker) << 7;
        let (payload_type, header_bytes) = (96, 12);
        let (seq, ts, ssrc) = (SeqNo(seq), RtpTs(ts), Ssrc(ssrc));
        let fields = RtpFields { payload_type, seq, ts, ssrc, marker, header_bytes };
        source.handle_rtp(0, Some(address(1)), &fields, is_sync, &bytes, at(0)).unwrap();
        marker.then(|| source.poll_batch(at(0).now).unwrap())
    };
    let usual = send(7, 0, 5, 1_472, true, true).unwrap();
    assert_eq!(datagrams(&usual), [(7, true, true, 1_472)]);
    assert_eq!(usual.runs_of(0), usual.datagram_runs_of(0));
    send(8, 3_600, 5, 60_012, false, true);
    let long = send(9, 3_600, 5, 100, true, false).unwrap();
    assert_eq!(shown(&long), [(5, 8, 3_600), (5, 9, 3_600)]);
    assert_eq!(long.packet_bytes(&long.packets_of(&long.runs_of(0)[0])[0]).len(), 60_012);
    let cut = datagrams(&long);
    assert_eq!(cut.iter().map(|piece| piece.0).collect::<Vec<_>>(), (8..=52).collect::<Vec<_>>());
    assert!(cut.iter().all(|piece| piece.3 <= 1_400), "{cut:?}");
    assert_eq!(cut.iter().filter(|piece| piece.2).map(|piece| piece.0).collect::<Vec<_>>(), [8]);
    assert_eq!(cut.iter().filter(|piece| piece.1).map(|piece| piece.0).collect::<Vec<_>>(), [52]);
    // Numbers stay moved, and begin anew with another stream.
    let next = send(10, 7_200, 5, 100, true, false).unwrap();
    assert_eq!(
        (shown(&next), datagrams(&next)),
        (vec![(5, 10, 7_200)], vec![(53, true, false, 100)])
    );
    let other = send(40_000, 1 << 31, 6, 100, true, true).unwrap();
    assert_eq!(datagrams(&other), [(40_000, true, true, 100)]);
    assert_eq!(source.counts().dropped, [0; DROP_REASONS]);
}

#[test]
fn long_packet_of_an_unfragmentable_format_is_dropped_over_udp_and_logged_once() {
    let mut source = source();
    source.grant(Generation(1), Mono(0));
    for (seq, len) in [(0, 100), (1, 3_000), (2, 100), (3, 3_000)] {
        let bytes = packet(seq, 0, 5, len);
        let fields = RtpFields {
            payload_type: 96,
            seq: SeqNo(seq),
            ts: RtpTs(0),
            ssrc: Ssrc(5),
            marker: seq == 3,
            header_bytes: 12,
        };
        source.handle_rtp(0, None, &fields, seq == 0, &bytes, at(0)).unwrap();
    }
    let batch = source.poll_batch(at(0).now).unwrap();
    assert_eq!(shown(&batch).len(), 4);
    // What came before the first long one, in the same batch, is there too.
    assert_eq!(datagrams(&batch), [(0, false, true, 100), (2, false, false, 100)]);
    assert_eq!(source.counts().dropped[SourceError::TooLongForUdp.index()], 2);
    assert!(source.has_news_of_left_out() && !source.has_news_of_left_out());
}

/// Packets of a stream for readers over UDP: (SSRC, RTP time), once for all pieces of a packet.
fn sources_of(batch: &PacketBatch, runs: &[LiveRun]) -> Vec<(u32, u32)> {
    let packets = runs
        .iter()
        .flat_map(|run| batch.packets_of(run).iter().map(move |packet| (run.ssrc.0, packet.ts.0)));
    let mut packets: Vec<_> = packets.collect();
    packets.dedup();
    packets
}

proptest! {
    /// A camera over TCP that was seen: long packets, and other numbers with each group of
    /// pictures.
    #[test]
    fn readers_over_udp_get_each_packet_of_streams_that_begin_within_a_batch(
        packets in prop::collection::vec(
            (prop::bool::weighted(0.2), prop::bool::weighted(0.3), prop::bool::weighted(0.3)), 1..60,
        ),
    ) {
        let mut source = source();
        source.set_formats(vec![DetectorFormat::H264, DetectorFormat::Any]);
        source.grant(Generation(1), Mono(0));
        let (mut ssrc, mut seq) = (5, 0_u16);
        let (mut sent, mut came, mut got) = (vec![], vec![], vec![]);
        for (ts, (is_long, begins, marker)) in (0..).zip(packets) {
            if begins {
                (ssrc, seq) = (ssrc + 1, seq.wrapping_add(5_000));
            }
            seq = seq.wrapping_add(1);
            let mut bytes = packet(seq, ts, ssrc, if is_long { 9_000 } else { 40 });
            bytes[12..].fill(0x65);
            let (payload_type, header_bytes) = (96, 12);
            let fields = RtpFields {
                payload_type, seq: SeqNo(seq), ts: RtpTs(ts), ssrc: Ssrc(ssrc), marker, header_bytes,
            };
            source.handle_rtp(0, None, &fields, false, &bytes, at(0)).unwrap();
            sent.push((ssrc, ts));
            let due = if marker { at(0).now } else { Mono(0) };
            while let Some(batch) = source.poll_batch(due) {
                came.extend(sources_of(&batch, batch.runs_of(0)));
                got.extend(sources_of(&batch, batch.datagram_runs_of(0)));
            }
        }
        while let Some(batch) = source.finish() {
            came.extend(sources_of(&batch, batch.runs_of(0)));
            got.extend(sources_of(&batch, batch.datagram_runs_of(0)));
        }
        prop_assert_eq!(came, sent.clone());
        prop_assert_eq!(got, sent);
    }
}
