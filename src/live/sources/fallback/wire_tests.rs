//! Switches between sources as the readers of the path see them.

use proptest::prelude::*;

use super::*;

const S: u64 = 1_000_000_000;
const UTC_AHEAD: i64 = 1_790_000_000 * 1_000_000_000;

fn at(now_ms: u64) -> ArrivalTime {
    let now = Mono(now_ms * 1_000_000);
    ArrivalTime { now, utc_ns: UTC_AHEAD + i64::try_from(now.0).unwrap() }
}

fn packet(ssrc: u32, seq: u16, ts: u32, at_ms: u64) -> Packet {
    let (ssrc, seq, ts) = (Ssrc(ssrc), SeqNo(seq), RtpTs(ts));
    Packet { ssrc, seq, ts, received: Mono(at_ms * 1_000_000), clock: None, lasts: 0 }
}

fn wire() -> Wire {
    Wire::new([(Ssrc(77), 90_000), (Ssrc(78), 8_000)].into_iter())
}

/// Sequence number, RTP time and SSRC as written; `None` for a dropped packet.
fn write(wire: &mut Wire, track: u8, packet: &Packet) -> Option<(u16, u32, u32)> {
    let bytes = [&[0x80, 0xe0][..], &[9; 10], b"payload"].concat();
    let mut out = Vec::new();
    let now = ArrivalTime { now: packet.received, ..at(packet.received.0 / 1_000_000) };
    if !wire.write((track, 100), packet, &bytes, now, &mut out) {
        return None;
    }
    assert_eq!((out[1], &out[12..]), (0x80 | 100, &b"payload"[..]));
    Some(read(&out))
}

fn read(out: &[u8]) -> (u16, u32, u32) {
    let word = |from: usize| u32::from_be_bytes(out[from..from + 4].try_into().unwrap());
    (u16::from_be_bytes([out[2], out[3]]), word(4), word(8))
}

#[test]
fn numbers_and_time_go_on_over_a_switch_and_gaps_of_a_source_stay() {
    let mut wire = wire();
    assert_eq!(write(&mut wire, 0, &packet(1, 17, 1_000, 0)), Some((17, 1_000, 77)));
    assert_eq!(write(&mut wire, 0, &packet(1, 19, 4_600, 40)), Some((19, 4_600, 77)));
    let first = packet(2, 900, 5, 540);
    wire.cross(&[(0, first)], at(540));
    // Half a second without a packet.
    assert_eq!(write(&mut wire, 0, &first), Some((20, 4_600 + 45_000, 77)));
    assert_eq!(write(&mut wire, 0, &packet(2, 903, 3_605, 580)), Some((23, 53_200, 77)));
    assert_eq!(write(&mut wire, 0, &packet(2, 901, 5, 581)), Some((21, 49_600, 77)));
    assert_eq!(write(&mut wire, 0, &packet(2, 899, 1, 582)), None, "20 is another packet");
}

#[test]
fn group_of_pictures_from_before_the_switch_moves_sound_and_picture_alike() {
    let mut wire = wire();
    for n in 0..25_u16 {
        write(&mut wire, 0, &packet(1, n, u32::from(n) * 3_600, u64::from(n) * 40));
        write(&mut wire, 1, &packet(5, n, u32::from(n) * 320, u64::from(n) * 40));
    }
    // At 1000 ms from the group that began at 500 ms; the newest packets were those of 960 ms.
    let (picture, sound) = (packet(2, 0, 0, 500), packet(6, 0, 0, 510));
    wire.cross(&[(0, picture), (1, sound)], at(1_000));
    let (_, picture_ts, _) = write(&mut wire, 0, &picture).unwrap();
    let (_, sound_ts, _) = write(&mut wire, 1, &sound).unwrap();
    assert_eq!(picture_ts, 24 * 3_600 + 90, "a millisecond after the newest");
    assert_eq!(sound_ts, 24 * 320 + 88, "10 ms behind the picture");
    // The next switch gives the time back as far as there is a gap.
    let later = packet(3, 0, 0, 1_500);
    wire.cross(&[(0, later)], at(1_500));
    assert_eq!(write(&mut wire, 0, &later).unwrap().1, 1_500 * 90);
}

/// Readers compute the time of each packet anew from every report: a line that jumps would be time
/// that goes back.
#[test]
fn line_from_rtp_time_to_wall_clock_goes_on_when_a_source_is_moved() {
    let mut wire = wire();
    let clock = |ts| ClockPoint { utc_ns: UTC_AHEAD, ts: RtpTs(ts) };
    write(&mut wire, 0, &Packet { clock: Some(clock(0)), ..packet(1, 0, 0, 0) });
    let before = wire.ts_at(0, clock(0), UTC_AHEAD + S.cast_signed()).unwrap();
    // A picture that was captured at the same time as the newest one: it is moved behind that.
    let first = Packet { clock: Some(clock(700)), ..packet(2, 9, 700, 0) };
    wire.cross(&[(0, first)], at(10));
    assert_eq!(write(&mut wire, 0, &first).unwrap().1, 90);
    assert_eq!(wire.ts_at(0, clock(700), UTC_AHEAD + S.cast_signed()), Some(before));
}

#[test]
fn parameter_sets_take_numbers_of_their_own_and_the_time_of_the_key_frame() {
    let mut wire = wire();
    write(&mut wire, 0, &packet(1, 65_535, 0, 0));
    let first = packet(2, 7, 500, 40);
    wire.cross(&[(0, first)], at(40));
    let mut out = Vec::new();
    for (set, seq) in [([0x67, 1], 0), ([0x68, 2], 1)] {
        wire.write_set((0, 96), &first, &set, at(40), &mut out);
        assert_eq!((out[1], &out[12..], read(&out)), (96, &set[..], (seq, 3_600, 77)));
    }
    assert_eq!(write(&mut wire, 0, &first), Some((2, 3_600, 77)));
    assert!(wire.needs_sets(0, Ssrc(2)) && !wire.needs_sets(1, Ssrc(2)));
}

#[test]
fn clock_of_a_source_decides_when_it_suits_the_arrival_and_is_passed_on() {
    let mut wire = wire();
    let clock =
        |ts, ms: i64| Some(ClockPoint { utc_ns: UTC_AHEAD + ms * 1_000_000, ts: RtpTs(ts) });
    write(&mut wire, 0, &Packet { clock: clock(0, 0), ..packet(1, 0, 0, 30) });
    // Captured at 100 ms, arrived 200 ms later.
    let first = Packet { clock: clock(90_000, 1_100), ..packet(2, 0, 0, 300) };
    wire.cross(&[(0, first)], at(300));
    assert_eq!(write(&mut wire, 0, &first).unwrap().1, 9_000);
    let point = first.clock.unwrap();
    assert_eq!(wire.ts_at(0, point, UTC_AHEAD + 1_000_000_000), Some(RtpTs(90_000)));
    assert_eq!(wire.ts_at(1, point, 0), None, "nothing was sent");
    let lost = Packet { clock: clock(0, 3_600_000), ..packet(3, 0, 0, 400) };
    wire.cross(&[(0, lost)], at(400));
    assert_eq!(write(&mut wire, 0, &lost).unwrap().1, 9_000 + 27_000);
}

proptest! {
    #[test]
    fn any_switches_keep_numbers_without_gap_and_time_forward(
        steps in prop::collection::vec((any::<bool>(), 1_u64..3_000, any::<u16>(), any::<u32>()), 1..60),
    ) {
        let mut wire = wire();
        let (mut ssrc, mut seq, mut ts, mut now) = (0, 0_u16, 0_u32, 10_000);
        let mut last: Option<(u16, u32)> = None;
        for (is_switch, wait, new_seq, new_ts) in steps {
            now += wait;
            let behind = if is_switch { wait / 2 } else { 0 };
            if is_switch {
                (ssrc, seq, ts) = (ssrc + 1, new_seq, new_ts);
            } else {
                (seq, ts) = (seq.wrapping_add(1), ts.wrapping_add(u32::try_from(wait).unwrap() * 90));
            }
            let next = packet(ssrc, seq, ts, now - behind);
            if is_switch {
                wire.cross(&[(0, next)], at(now));
            }
            let (seq, ts, _) = write(&mut wire, 0, &next).unwrap();
            if let Some((last_seq, last_ts)) = last {
                prop_assert_eq!(seq, last_seq.wrapping_add(1));
                prop_assert!(ts.wrapping_sub(last_ts) < 1 << 31 && ts != last_ts);
            }
            last = Some((seq, ts));
        }
        prop_assert!(now < 1_000 * S);
    }
}

#[test]
fn wire_for_readers_of_other_paths_needs_sets_from_its_first_packet_on() {
    let mut wire = wire().with_sets(true);
    let first = packet(1, 17, 1_000, 0);
    assert!(wire.needs_sets(0, first.ssrc));
    let mut out = Vec::new();
    wire.write_set((0, 100), &first, b"sets", at(0), &mut out);
    assert_eq!((read(&out), &out[12..]), ((17, 1_000, 77), &b"sets"[..]));
    assert_eq!(write(&mut wire, 0, &first), Some((18, 1_000, 77)));
    assert_eq!(write(&mut wire, 0, &packet(1, 18, 4_600, 40)), Some((19, 4_600, 77)));
    assert!(wire.needs_sets(0, first.ssrc) && !self::wire().needs_sets(0, first.ssrc));
}

#[test]
fn sound_of_the_next_source_begins_behind_all_frames_of_the_last_packet() {
    let mut wire = Wire::new([(Ssrc(77), 48_000)].into_iter());
    let last = Packet { lasts: 4_096, ..packet(1, 17, 1_000, 0) };
    assert_eq!(write(&mut wire, 0, &last), Some((17, 1_000, 77)));
    let first = packet(2, 900, 5, 10);
    wire.cross(&[(0, first)], at(10));
    assert_eq!(write(&mut wire, 0, &first), Some((18, 5_096, 77)));
}

#[test]
fn sound_and_picture_of_an_encoder_that_looks_ahead_stay_together() {
    // What was captured at 0 s comes at 1.4 s, and its sound at 1.2 s.
    let captured = |ssrc, seq, ms: i64, late_ms: i64, hz: i64| {
        let point = ClockPoint { utc_ns: UTC_AHEAD, ts: RtpTs(0) };
        let ts = u32::try_from(ms * hz / 1_000).unwrap();
        let received = u64::try_from(ms + late_ms).unwrap();
        Packet { clock: Some(point), ..packet(ssrc, seq, ts, received) }
    };
    let mut wire = wire();
    let mut send = |track, packet: &Packet| write(&mut wire, track, packet).unwrap().1;
    let at_first =
        [send(0, &captured(1, 1, 1_000, 0, 90_000)), send(1, &captured(5, 1, 1_000, 0, 8_000))];
    let (video, sound) =
        (captured(2, 1, 2_000, 1_400, 90_000), captured(6, 1, 2_000, 1_200, 8_000));
    wire.cross(&[(0, video), (1, sound)], at(3_400));
    let mut send = |track, packet: &Packet| write(&mut wire, track, packet).unwrap().1;
    let steps = [send(0, &video) - at_first[0], send(1, &sound) - at_first[1]];
    assert_eq!(steps, [90_000, 8_000], "a second of what was captured");
}
