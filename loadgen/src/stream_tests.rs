//! One stream against packets made by hand: what is counted, and as what.

use super::*;
use crate::description::Format;
use crate::stats::Timing;
use rtcp_types::{Bye, Compound, RtcpPacketWriterExt, SenderReport};
use rtp_types::RtpPacketBuilder;

fn stream() -> Stream {
    Stream::new(&TrackInfo {
        control: rtsp_types::Url::parse("rtsp://h/t").expect("url"),
        kind: MediaKind::Video,
        formats: vec![Format { payload_type: 96, clock_rate_hz: 90_000 }],
        is_secure: false,
    })
}

fn rtp(seq: u16, ssrc: u32, payload_type: u8) -> Vec<u8> {
    RtpPacketBuilder::<&[u8], &[u8]>::new()
        .payload_type(payload_type)
        .ssrc(ssrc)
        .sequence_number(seq)
        .timestamp(u32::from(seq) * 3_600)
        .payload(b"media".as_slice())
        .write_vec()
        .expect("packet")
}

fn feed(stream: &mut Stream, packets: &[Vec<u8>]) -> Counts {
    let mut late = Timing::default();
    for (packet, at) in packets.iter().zip((0..).map(|n| Mono::from_ns(n * 40_000_000))) {
        stream.handle_rtp(packet, at, &mut late);
    }
    stream.finish(true, &mut late)
}

fn ended_after(packet_count: u32) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    let written = Compound::builder()
        .add_packet(SenderReport::builder(1).ntp_timestamp(3 << 16).packet_count(packet_count))
        .add_packet(Bye::builder().add_source(1))
        .write_into(&mut bytes)
        .expect("fits");
    bytes.truncate(written);
    bytes
}

#[test]
fn packet_of_another_source_or_type_is_counted_apart() {
    let mut stream = stream();
    stream.handle_announced(Some(2), Some(5), None);
    let packets = [rtp(5, 1, 96), rtp(6, 9, 96), rtp(6, 1, 97), b"noise".to_vec()];
    let counts = feed(&mut stream, &packets);
    assert_eq!((counts.packets, counts.lost), (2, 0));
    assert_eq!((counts.wrong_ssrc, counts.wrong_payload_type, counts.malformed), (1, 1, 1));
    assert_eq!(counts.unannounced_ssrc, 1);
}

#[test]
fn tail_lost_before_bye_is_known_from_the_sender_report() {
    let mut stream = stream();
    stream.handle_rtcp(&ended_after(5), Mono::from_ns(0));
    assert!(stream.has_ended());
    stream.handle_tail_read(Mono::from_ns(0));
    stream.handle_left(Mono::from_ns(0), None::<&mut Timing>);
    let counts = feed(&mut stream, &[rtp(1, 1, 96), rtp(2, 1, 96), rtp(3, 1, 96)]);
    assert_eq!((counts.lost, counts.lost_at_end, counts.byes), (2, 2, 1));
}

#[test]
fn tail_that_may_wait_unread_behind_bye_is_not_lost() {
    let mut stream = stream();
    stream.handle_rtcp(&ended_after(5), Mono::from_ns(7));
    assert!(!stream.has_unread_tail(Mono::from_ns(6)));
    stream.handle_tail_read(Mono::from_ns(6));
    assert!(stream.has_unread_tail(Mono::from_ns(7)));
    stream.handle_left(Mono::from_ns(0), None::<&mut Timing>);
    assert!(!stream.has_unread_tail(Mono::from_ns(7)));
    let counts = feed(&mut stream, &[rtp(1, 1, 96)]);
    assert_eq!((counts.lost, counts.lost_at_end, counts.byes), (0, 0, 1));
}

#[test]
fn count_of_a_bye_after_we_left_is_not_compared() {
    let mut stream = stream();
    feed(&mut stream, &[rtp(1, 1, 96)]);
    stream.handle_left(Mono::from_ns(0), None::<&mut Timing>);
    stream.handle_rtcp(&ended_after(5), Mono::from_ns(0));
    stream.handle_tail_read(Mono::from_ns(9));
    let counts = stream.finish(true, &mut Timing::default());
    assert_eq!((counts.lost, counts.lost_at_end, counts.byes), (0, 0, 1));
}

#[test]
fn bye_of_another_source_does_not_end_the_stream() {
    let mut stream = stream();
    feed(&mut stream, &[rtp(1, 33, 96)]);
    stream.handle_rtcp(&ended_after(5), Mono::from_ns(0));
    assert!(!stream.has_ended());
}

#[test]
fn report_tells_the_loss_since_the_last_one() {
    let mut stream = stream();
    assert_eq!(stream.report(Mono::from_ns(0), Claims::default()), None);
    feed(&mut stream, &[rtp(1, 1, 96), rtp(2, 1, 96), rtp(4, 1, 96)]);
    stream.handle_rtcp(&ended_after(5), Mono::from_ns(0));
    let first = stream.report(Mono::from_ns(NS_PER_S / 2), Claims::default()).expect("report");
    assert_eq!((first.fraction_lost, first.lost), (64, 1));
    assert_eq!((first.last_sender_report, first.delay_since_last), (3, 32_768));
    let second = stream.report(Mono::from_ns(NS_PER_S), Claims::default()).expect("report");
    assert_eq!((second.fraction_lost, second.lost), (0, 1));
}

#[test]
fn stream_without_packets_of_a_played_session_is_silent() {
    assert_eq!(feed(&mut stream(), &[]).silent, 1);
}

#[test]
fn claimed_and_dropped_loss_are_in_the_report_and_not_in_the_counts() {
    let mut stream = stream();
    for seq in 1..=200 {
        stream.handle_rtp(&rtp(seq, 1, 96), Mono::from_ns(0), &mut Timing::default());
    }
    let claims = Claims { loss: Some(0.05) };
    let claimed = stream.report(Mono::from_ns(9), claims).expect("report");
    assert_eq!((claimed.fraction_lost, claimed.lost), (12, 10));
    (0..50).for_each(|_| stream.handle_dropped());
    let honest = stream.report(Mono::from_ns(9), Claims::default()).expect("report");
    assert_eq!(honest.lost, 50);
    let counts = stream.finish(true, &mut Timing::default());
    assert_eq!((counts.lost, counts.dropped, counts.packets), (0, 50, 200));
}

/// Packets of numbers with arrivals 40 ms apart, the first at `start_ms`.
fn play(stream: &mut Stream, seqs: std::ops::Range<u16>, start_ms: u64, late: &mut Timing) {
    for (seq, n) in seqs.zip(0..) {
        let at = Mono::from_ns((start_ms + n * 40) * 1_000_000);
        stream.handle_rtp(&rtp(seq, 1, 96), at, late);
    }
}

#[test]
fn pause_and_seek_with_numbers_that_go_on_lose_nothing_and_are_not_late() {
    let (mut stream, mut late) = (stream(), Timing::default());
    play(&mut stream, 1..51, 1_000, &mut late);
    stream.handle_paused(&mut late);
    stream.handle_switch();
    let announced = Announced { seq: Some(51), time: Some(51 * 3_600) };
    assert_eq!(stream.handle_epoch(announced, &mut late), None);
    play(&mut stream, 51..101, 60_000, &mut late);
    let counts = stream.finish(true, &mut late);
    assert_eq!((counts.packets, counts.lost, counts.stale, counts.wrong_rtp_time), (100, 0, 0, 0));
    assert_eq!((late.summary().count, late.summary().max_ms), (100, 0.0));
}

#[test]
fn packets_around_the_answer_are_told_apart_by_rtp_info() {
    let (mut stream, mut late) = (stream(), Timing::default());
    play(&mut stream, 1..11, 1_000, &mut late);
    stream.handle_switch();
    // One of the old place, then the first two of the new one, before the answer is read.
    play(&mut stream, 11..12, 1_400, &mut late);
    play(&mut stream, 900..902, 5_000, &mut late);
    let announced = Announced { seq: Some(900), time: Some(1) };
    let first = stream.handle_epoch(announced, &mut late);
    assert_eq!(first, Some(Mono::from_ns(5_000_000_000)));
    // One that the server had on its way still.
    play(&mut stream, 12..13, 5_010, &mut late);
    play(&mut stream, 902..910, 5_080, &mut late);
    let counts = stream.finish(true, &mut late);
    assert_eq!((counts.packets, counts.lost, counts.stale), (22, 0, 1));
    assert_eq!(counts.wrong_rtp_time, 1, "900 frames of 40 ms are not at the announced time");
    assert_eq!(late.summary().max_ms, 0.0);
}

#[test]
fn loss_before_the_seek_is_known_from_the_announced_number() {
    let (mut stream, mut late) = (stream(), Timing::default());
    play(&mut stream, 1..11, 1_000, &mut late);
    stream.handle_switch();
    stream.handle_epoch(Announced { seq: Some(13), time: None }, &mut late);
    play(&mut stream, 13..20, 2_000, &mut late);
    assert_eq!(stream.finish(true, &mut late).lost, 2);
}

#[test]
fn new_source_after_a_seek_is_followed() {
    let (mut stream, mut late) = (stream(), Timing::default());
    play(&mut stream, 1..5, 1_000, &mut late);
    stream.handle_switch();
    stream.handle_epoch(Announced { seq: Some(30_000), time: None }, &mut late);
    let at = Mono::from_ns(2_000_000_000);
    assert_eq!(stream.handle_rtp(&rtp(30_000, 8, 96), at, &mut late), Taken::Yes);
    assert_eq!(stream.handle_rtp(&rtp(30_001, 9, 96), at, &mut late), Taken::No);
    let counts = stream.finish(true, &mut late);
    assert_eq!((counts.changed_ssrc, counts.wrong_ssrc, counts.lost), (1, 1, 0));
}

#[test]
fn silence_before_we_leave_is_owed_unless_the_server_said_bye() {
    let (mut open, mut late) = (stream(), Timing::default());
    play(&mut open, 1..51, 1_000, &mut late);
    open.handle_left(Mono::from_ns(13_000_000_000), Some(&mut late));
    assert_eq!(open.finish(true, &mut late).overdue_frames, 251);
    let (mut ended, mut late) = (stream(), Timing::default());
    play(&mut ended, 1..51, 1_000, &mut late);
    ended.handle_rtcp(&ended_after(50), Mono::from_ns(3_000_000_000));
    ended.handle_left(Mono::from_ns(13_000_000_000), Some(&mut late));
    assert_eq!(ended.finish(true, &mut late).overdue_frames, 0);
}
