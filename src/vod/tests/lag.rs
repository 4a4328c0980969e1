//! Sessions with a lag beyond their budget: where they continue, and that nothing else breaks.

use std::time::Duration;

use crate::base::time::Mono;
use crate::media::window::WindowKind;
use crate::vod::stream::{Due, Phase};
use crate::vod::tests::{Bench, SessionKey, StreamRef};

const SECOND: Duration = Duration::from_secs(1);

/// A session that has played for three seconds and then nothing for `stall`, because its connection
/// took nothing; returns when the next frame was due.
fn stalled(budget: Duration, stall: Duration) -> (Bench, SessionKey, Mono) {
    let mut bench = Bench::new();
    bench.sessions.cx.config.lag_budget = budget;
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 3);
    let key = bench.key(id);
    bench.sessions.cx.now = bench.sessions.cx.now + stall;
    let now = bench.sessions.cx.now;
    let session = bench.sessions.vod.players.session_mut(key).unwrap();
    let epoch = session.epoch.unwrap();
    let due_at = |stream: &mut crate::vod::stream::Stream| {
        stream.phase = Phase::WaitsForConnection;
        match stream.due(&epoch, None, now) {
            Due::Now { at, .. } => at,
            // Its window has aged meanwhile, or it stood at the end of one.
            _ => now.offset_ns(-i64::try_from(stall.as_nanos()).unwrap()),
        }
    };
    let due_at = session.streams.iter_mut().map(due_at).min().unwrap();
    (bench, key, due_at)
}

/// The streams continue where they are.
fn go_on(bench: &mut Bench, key: SessionKey) {
    let epoch_count = bench.sessions.vod.players.session(key).unwrap().epoch_count;
    for stream_index in 0..2 {
        let at = StreamRef { session: key, stream_index, epoch_count };
        bench.sessions.vod.plan(&mut bench.sessions.cx, at, Due::Waiting);
        bench.settle();
    }
    bench.run_for(SECOND * 2);
}

#[test]
fn session_past_its_lag_budget_skips_to_the_newest_sync_sample_that_is_due() {
    let (mut bench, key, due_at) = stalled(SECOND * 2, SECOND * 6);
    let before = bench.sent.len();
    assert!(bench.sessions.vod.players.skip_if_late(&mut bench.sessions.cx, key, due_at));
    assert_eq!(bench.cells.lag_skips.value(), 1);
    go_on(&mut bench, key);
    let first_after = bench.sent[before..].iter().find(|sent| sent.track == 0).unwrap();
    assert!(first_after.frame.is_sync);
    // Three seconds played and six stood still: a sync sample a second.
    let npt_s = first_after.frame.npt.as_secs_f64();
    assert!((8.0..=9.1).contains(&npt_s), "{npt_s}");
    for track in [0, 1] {
        for pair in bench.sent_of(track).windows(2) {
            let next = pair[0].first_seq.wrapping_add(pair[0].packets);
            assert_eq!(pair[1].first_seq, next, "numbers go on without a gap");
            let ticks = pair[1].frame.rtp_ticks - pair[0].frame.rtp_ticks;
            let sent_ticks = pair[1].ts.wrapping_sub(pair[0].ts).cast_signed();
            assert_eq!(i64::from(sent_ticks), ticks, "time makes the jump of the media");
        }
    }
    let epoch = bench.sessions.vod.players.session(key).unwrap().epoch.unwrap();
    let wall = epoch.wall_of(&first_after.frame, WindowKind::All);
    assert!(wall <= first_after.at, "nothing is sent before its time");
}

#[test]
fn session_within_its_budget_or_without_one_loses_nothing() {
    for (budget, stall) in [(SECOND * 10, SECOND * 6), (Duration::ZERO, SECOND * 6)] {
        let (mut bench, key, due_at) = stalled(budget, stall);
        assert!(!bench.sessions.vod.players.skip_if_late(&mut bench.sessions.cx, key, due_at));
        go_on(&mut bench, key);
        for pair in bench.sent_of(0).windows(2) {
            assert_eq!(pair[1].frame.sample_index, pair[0].frame.sample_index + 1);
        }
    }
}

#[test]
fn session_without_a_newer_sync_sample_does_not_skip() {
    let (mut bench, key, due_at) = stalled(Duration::from_millis(1), Duration::from_millis(30));
    assert!(!bench.sessions.vod.players.skip_if_late(&mut bench.sessions.cx, key, due_at));
    assert_eq!(bench.cells.lag_skips.value(), 0);
    go_on(&mut bench, key);
}
