//! Windows that arrive late, are refused, or cannot be built.

use std::time::Duration;

use crate::poll::task::{Task, WindowFailure, Work};
use crate::vod::tests::{Bench, Sent, range_start_ms, status, window_request};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn play_is_answered_when_the_first_window_of_every_stream_is_here() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.keeps_tasks = true;
    assert!(bench.play(id, &[]).is_none());
    assert_eq!(bench.tasks.len(), 2);
    let sound = bench.tasks.pop().unwrap();
    bench.finish_tasks();
    assert!(bench.answers.is_empty());
    bench.finish_task(&sound);
    bench.settle();
    assert_eq!(status(&bench.answers[0].1), 200);
}

#[test]
fn windows_are_asked_for_once_however_long_they_take() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.keeps_tasks = true;
    bench.play(id, &[]);
    bench.finish_tasks();
    bench.run_for(SECOND);
    assert_eq!(bench.tasks.len(), 2, "the next window of each stream");
    bench.run_for(SECOND * 5);
    assert_eq!(bench.tasks.len(), 2);
    let frames = bench.sent.len();
    bench.finish_tasks();
    bench.run_for(SECOND);
    assert!(bench.sent.len() > frames);
}

#[test]
fn session_that_waits_for_a_window_does_not_move_to_another_shard() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.keeps_tasks = true;
    bench.play(id, &[]);
    let key = bench.key(id);
    let is_at_rest = |bench: &Bench| bench.sessions.vod.players.is_at_rest(key);
    assert!(!is_at_rest(&bench), "PLAY waits");
    bench.finish_tasks();
    assert!(is_at_rest(&bench));
    bench.run_for(SECOND * 6);
    assert!(!is_at_rest(&bench), "the next windows are asked for, and have not come");
    bench.finish_tasks();
    assert!(is_at_rest(&bench));
}

#[test]
fn two_sessions_share_one_task_and_one_window() {
    let mut bench = Bench::new();
    let (one, two) =
        (bench.opened(), crate::vod::tests::session_id(&bench.setup_udp(0, None, 6_000)));
    bench.keeps_tasks = true;
    bench.play(one, &[]);
    bench.play(two, &[]);
    assert_eq!(bench.tasks.len(), 2);
    bench.finish_tasks();
    assert_eq!(bench.answers.len(), 2);
}

#[test]
fn refused_play_leaves_the_session_where_it_was() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 3);
    let at = range_start_ms(&bench.pause(id));
    bench.run_for(SECOND * 4);
    bench.refuses_tasks = true;
    let refused = bench.play(id, &[("Range", "npt=15-")]).unwrap();
    assert_eq!(status(&refused), 503);
    assert_eq!(refused.header_value("Retry-After"), Some("1"));
    assert_eq!(range_start_ms(&bench.pause(id)), at, "the pause holds its position");
    bench.refuses_tasks = false;
    let frames = bench.sent.len();
    let resumed = bench.play(id, &[]).unwrap();
    assert_eq!(range_start_ms(&resumed), at / 1_000 * 1_000, "from the sync sample before");
    bench.run_for(SECOND);
    let first = bench.sent[frames..].iter().find(|sent| sent.track == 0).unwrap();
    assert_eq!(first.frame.npt.0 / 1_000_000, range_start_ms(&resumed));
}

#[test]
fn refused_first_play_leaves_the_session_ready() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.refuses_tasks = true;
    assert_eq!(status(&bench.play(id, &[]).unwrap()), 503);
    assert_eq!(bench.session(id).state.shown().as_str(), "ready");
    let gauges: Vec<u64> = bench.cells.sessions.iter().map(|gauge| gauge.value()).collect();
    assert_eq!(gauges, [1, 0, 0]);
    bench.refuses_tasks = false;
    assert_eq!(status(&bench.play(id, &[]).unwrap()), 200);
}

#[test]
fn stream_whose_window_is_refused_tries_again_and_loses_nothing() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.refuses_tasks = true;
    bench.run_for(SECOND * 6);
    bench.refuses_tasks = false;
    bench.run_for(SECOND * 6);
    for track in 0..2 {
        let sent = bench.sent_of(track);
        assert!(sent.windows(2).all(|w| w[1].frame.sample_index == w[0].frame.sample_index + 1));
        assert!(sent.last().unwrap().frame.npt.0 > 8_000_000_000);
    }
}

#[test]
fn refusal_does_not_wake_a_stream_that_has_said_bye() {
    let mut bench = Bench::new();
    let id = bench.opened();
    // The range ends before the window does whose successor is asked for in vain.
    bench.keeps_tasks = true;
    bench.play(id, &[("Range", "npt=0-1")]);
    bench.finish_tasks();
    bench.run_for(SECOND * 2);
    assert_eq!(bench.bye_ports().len(), 2);
    for task in std::mem::take(&mut bench.tasks) {
        bench.sessions.vod.handle_window_refused(&mut bench.sessions.cx, window_request(&task));
    }
    bench.run_for(SECOND);
    assert_eq!(bench.bye_ports().len(), 2);
}

#[test]
fn window_that_cannot_be_built_refuses_the_play_and_ends_the_session() {
    for (failure, expected) in
        [(WindowFailure::FileChanged, 404), (WindowFailure::Corrupt("sample 3".to_owned()), 500)]
    {
        let mut bench = Bench::new();
        let id = bench.opened();
        bench.keeps_tasks = true;
        bench.play(id, &[]);
        for task in std::mem::take(&mut bench.tasks) {
            bench.sessions.vod.handle_window(
                &mut bench.sessions.cx,
                window_request(&task),
                Err(failure.clone()),
            );
        }
        bench.settle();
        let answers: Vec<u16> = bench.answers.iter().map(|(_, r)| status(r)).collect();
        assert_eq!(answers, [expected], "answered once");
        assert_eq!(bench.sessions.cx.directory.find(id), None);
        assert_eq!(bench.sessions.cx.sockets.tuple_count(), 0);
    }
}

#[test]
fn window_that_fails_while_playing_ends_the_session_with_bye() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.keeps_tasks = true;
    bench.play(id, &[]);
    bench.finish_tasks();
    bench.run_for(SECOND);
    let task = bench.tasks.pop().unwrap();
    bench.sessions.vod.handle_window(
        &mut bench.sessions.cx,
        window_request(&task),
        Err(WindowFailure::FileChanged),
    );
    bench.settle();
    assert_eq!(bench.sessions.cx.directory.find(id), None);
    assert_eq!(bench.bye_ports().len(), 2);
}

#[test]
fn window_of_an_earlier_epoch_is_ignored() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.keeps_tasks = true;
    bench.play(id, &[("Range", "npt=15-")]);
    let stale = std::mem::take(&mut bench.tasks);
    assert!(!stale.is_empty());
    // Over another connection this would be held; a window that never comes ends the wait.
    for task in &stale {
        bench.sessions.vod.handle_window_refused(&mut bench.sessions.cx, window_request(task));
    }
    bench.settle();
    bench.keeps_tasks = false;
    bench.play(id, &[("Range", "npt=5-")]);
    for task in &stale {
        bench.finish_task(task);
    }
    bench.run_for(SECOND);
    let last = bench.sent_of(0).last().copied().unwrap();
    assert!((5_000..7_000).contains(&(last.frame.npt.0 / 1_000_000)), "{last:?}");
}

/// A task whose window was here already: its pages are to be read again.
fn windows_of(tasks: &[Task]) -> Vec<(u8, u32)> {
    let key = |task: &Task| match &task.work {
        Work::Window { key, .. } => (key.track_index, key.index),
        Work::Open { .. }
        | Work::Adopt(_)
        | Work::Resolve { .. }
        | Work::WindowBytes { .. }
        | Work::Image { .. }
        | Work::Judge(_)
        | Work::ReadDescription { .. } => panic!("{task:?}"),
    };
    let mut keys: Vec<_> = tasks.iter().map(key).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn session_that_resumes_after_a_long_pause_waits_for_its_pages_and_loses_nothing() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 3);
    bench.pause(id);
    let before = bench.sent.len();
    bench.run_for(SECOND * 20);
    bench.keeps_tasks = true;
    // The answer does not wait, nor does anybody else.
    assert_eq!(status(&bench.play(id, &[]).unwrap()), 200);
    bench.run_for(SECOND / 2);
    assert_eq!(bench.sent.len(), before, "its pages may have left memory");
    assert_eq!(windows_of(&bench.tasks), [(0, 1), (1, 1)]);
    bench.finish_tasks();
    bench.run_for(SECOND / 2);
    assert!(bench.sent.len() > before);
    bench.keeps_tasks = false;
    bench.finish_tasks();
    bench.run_for(SECOND * 6);
    for track in 0..2 {
        let sent = bench.sent_of(track);
        assert!(sent.windows(2).all(|w| w[1].frame.sample_index == w[0].frame.sample_index + 1));
        let follows = |w: &[Sent]| w[1].first_seq == w[0].first_seq.wrapping_add(w[0].packets);
        assert!(sent.windows(2).all(follows));
        assert!(sent.last().unwrap().frame.npt.0 > 8_000_000_000);
    }
}

#[test]
fn session_that_resumes_soon_needs_no_check_of_its_pages() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND);
    bench.pause(id);
    bench.run_for(SECOND);
    bench.keeps_tasks = true;
    bench.play(id, &[]).unwrap();
    let before = bench.sent.len();
    bench.run_for(SECOND / 2);
    assert!(bench.sent.len() > before);
    assert!(bench.tasks.is_empty());
}

#[test]
fn stream_in_normal_play_never_waits_for_its_pages() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 18);
    assert!(bench.sent.iter().all(|sent| sent.at.since(sent.due_at) <= SECOND / 100));
}

#[test]
fn window_of_a_slow_stream_is_checked_while_it_plays() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[("Scale", "0.1")]).unwrap();
    bench.keeps_tasks = true;
    bench.run_for(SECOND * 7);
    let asked = windows_of(&bench.tasks);
    assert!(asked.contains(&(0, 0)), "{asked:?}");
    let tasks = bench.tasks.len();
    bench.run_for(SECOND / 2);
    assert_eq!(bench.tasks.len(), tasks, "once");
    bench.finish_tasks();
    bench.keeps_tasks = false;
    let before = bench.sent.len();
    bench.run_for(SECOND * 60);
    assert!(bench.sent.len() > before);
    assert!(bench.sent.iter().all(|sent| sent.at.since(sent.due_at) <= SECOND / 100));
}

#[test]
fn window_of_a_paused_session_is_checked_before_another_session_gets_it() {
    let mut bench = Bench::new();
    let paused = bench.opened();
    bench.play(paused, &[]).unwrap();
    bench.run_for(SECOND);
    bench.pause(paused);
    bench.run_for(SECOND * 20);
    let other = crate::vod::tests::session_id(&bench.setup_udp(0, None, 6_000));
    bench.keeps_tasks = true;
    assert!(bench.play(other, &[]).is_none(), "it is answered when the pages were seen to");
    assert_eq!(windows_of(&bench.tasks), [(0, 0)]);
    bench.finish_tasks();
    assert_eq!(bench.answers.len(), 1);
}

#[test]
fn refused_check_of_pages_is_tried_again() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND);
    bench.pause(id);
    bench.run_for(SECOND * 20);
    bench.refuses_tasks = true;
    bench.play(id, &[]).unwrap();
    let before = bench.sent.len();
    bench.run_for(SECOND);
    assert_eq!(bench.sent.len(), before);
    bench.refuses_tasks = false;
    bench.run_for(SECOND);
    assert!(bench.sent.len() > before);
}
