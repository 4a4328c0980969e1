//! A clock of the host that jumps: what is sent, and who is there, follows the time that passes.

use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DAY_NS: i64 = 24 * 3_600 * 1_000_000_000;

/// Frames of ten seconds, halfway through which the clock jumps, and the NTP seconds of reports.
fn played(jump_ns: i64) -> (Vec<(u64, u8, u16)>, Vec<u32>) {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    let start = bench.sessions.cx.now;
    bench.run_for(SECOND * 5);
    bench.utc_ahead_ns = jump_ns;
    bench.run_for(SECOND * 5);
    assert!(bench.sessions.cx.directory.find(id).is_some(), "nobody has been silent for so long");
    assert!(bench.bye_ports().is_empty());
    let first = bench.sent[0].first_seq;
    let frame = |sent: &Sent| {
        let passed = u64::try_from(sent.at.since(start).as_nanos()).unwrap();
        (passed, sent.track, sent.first_seq.wrapping_sub(first))
    };
    let of_video = bench.sent_of(0);
    // The wall clock of sender reports is what a jump may change.
    let seconds = |(_, bytes): &(SocketAddr, Vec<u8>)| {
        (bytes[1] == 200).then(|| u32::from_be_bytes(bytes[8..12].try_into().unwrap()))
    };
    let reports = bench.datagrams.iter().filter_map(seconds).collect();
    (of_video.iter().map(frame).collect(), reports)
}

#[test]
fn clock_that_jumps_a_day_changes_no_packet_and_ends_no_session() {
    let (frames, _) = played(0);
    assert!(frames.len() > 200, "{}", frames.len());
    for jump_ns in [DAY_NS, -DAY_NS / 2, DAY_NS * 365] {
        let (same, reports) = played(jump_ns);
        assert!(same == frames, "a jump of {jump_ns} ns");
        let [first, .., last] = reports[..] else { panic!("{reports:?}") };
        let moved = i64::from(last.wrapping_sub(first).cast_signed());
        assert!((moved - jump_ns / 1_000_000_000).abs() <= 10, "{moved}: reports follow the clock");
    }
}
