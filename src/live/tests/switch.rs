//! An operator switches the source of a path.

use std::sync::mpsc::{Receiver, channel};

use super::fallback::{SETS_A, SETS_B, Scene, ms, sdp};
use super::*;
use crate::live::core::failover::{
    FailoverInfo, SwitchError, SwitchReply, SwitchReport, SwitchRequest, SwitchResult, SwitchTo,
    Timing,
};

const TEXT: &str = "[path.\"live/a\"]\nfallback = [\"live/b\"]\nreturn_after = \"1s\"\n\
    switch_interval = \"500ms\"\n";

fn ask(bench: &mut Bench, path: &str, to: &str, timing: Timing) -> Receiver<SwitchResult> {
    let (answer, receiver) = channel();
    let to = if to == "auto" { SwitchTo::Auto } else { SwitchTo::Source(to.to_owned()) };
    let reply = SwitchReply::new(move |result| drop(answer.send(result)));
    let Sessions { live, cx, .. } = &mut bench.sessions;
    live.switch_path(cx, path, SwitchRequest { to, timing }, reply);
    receiver
}

impl Scene {
    fn switch(&mut self, to: &str, timing: Timing) -> Receiver<SwitchResult> {
        ask(&mut self.bench, "live/a", to, timing)
    }

    /// The answer to a switch that is refused at once.
    fn refused(&mut self, to: &str) -> SwitchError {
        self.switch(to, Timing::Now).try_recv().unwrap().unwrap_err()
    }

    fn both(text: &str) -> Self {
        let mut scene = Self::new(text);
        scene.a.begin(&mut scene.bench, &sdp(SETS_A));
        scene.b.begin(&mut scene.bench, &sdp(SETS_B));
        scene.run(ms(2_000));
        scene.read();
        scene.run(ms(1_000));
        scene
    }

    fn failover(&self) -> FailoverInfo {
        shown(&self.bench).0.unwrap().failover.unwrap()
    }

    fn states(&self) -> Vec<&'static str> {
        self.failover().sources.iter().map(|source| source.state).collect()
    }

    fn encoders(&self) -> Vec<u8> {
        self.order().iter().map(|(of, _)| *of).collect()
    }
}

fn done(answer: &Receiver<SwitchResult>) -> SwitchReport {
    answer.try_recv().unwrap().unwrap()
}

#[test]
fn switch_is_done_at_a_key_frame_and_stays_until_its_source_is_lost() {
    let mut scene = Scene::both(TEXT);
    let answer = scene.switch("live/b", Timing::NextKeyFrame);
    assert_eq!(scene.states(), ["active", "off"]);
    scene.run(ms(40));
    assert!(answer.try_recv().is_err(), "it waits for a key frame");
    scene.run(ms(800));
    let report = done(&answer);
    assert_eq!((report.from.as_deref(), report.to.as_deref()), (Some("live/a~0"), Some("live/b")));
    assert!(report.switched && report.pinned && report.pinned_until.is_some());
    assert!(report.gap_ms.is_some_and(|gap| gap <= 80), "{report:?}");
    assert_eq!(scene.order().last().unwrap(), &(12, vec![7, 8, 5]));
    scene.run(ms(3_000));
    assert_eq!(scene.encoders(), [11, 12], "the better source does not take over");
    assert_eq!(scene.states(), ["good", "active"]);
    let shown = scene.failover();
    assert_eq!(shown.pinned.as_deref(), Some("live/b"));
    let last = shown.last_switch.unwrap();
    assert_eq!((last.cause, last.gap_ms, last.to.as_str()), ("operator", report.gap_ms, "live/b"));
    assert!((3.0..4.0).contains(&last.age_s) && last.at.is_some());

    scene.b.end(&mut scene.bench);
    scene.run(ms(200));
    assert_eq!(scene.encoders(), [11, 12, 11]);
    assert_eq!(scene.failover().pinned, None);
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.run(ms(3_000));
    assert_eq!(scene.encoders(), [11, 12, 11], "the order of preference rules again");
    scene.assert_continuous();
    assert_eq!(scene.handovers(), [0, 1, 0, 1]);
}

#[test]
fn switch_now_to_a_standby_is_done_within_the_turn_from_its_newest_key_frame() {
    let mut scene = Scene::both(&format!("{TEXT}standby = true\n"));
    assert_eq!(scene.states(), ["active", "standby"]);
    let answer = scene.switch("1", Timing::Now);
    let now = scene.bench.sessions.cx.now;
    scene.bench.turn(now + Duration::from_micros(100));
    let report = done(&answer);
    assert_eq!((report.to.as_deref(), report.gap_ms), (Some("live/b"), Some(0)));
    scene.look();
    assert_eq!(scene.order().last().unwrap(), &(12, vec![7, 8, 5]));
    scene.run(ms(1_000));
    let back = scene.switch("auto", Timing::NextKeyFrame);
    let report = done(&back);
    assert!(!report.switched && !report.pinned);
    scene.run(ms(2_000));
    assert_eq!(scene.encoders(), [11, 12, 11]);
    scene.assert_continuous();
}

#[test]
fn switch_that_cannot_be_is_refused_at_once_and_changes_nothing() {
    let mut scene = Scene::both(TEXT);
    let refused = |scene: &mut Scene, path: &str| {
        ask(&mut scene.bench, path, "1", Timing::Now).try_recv().unwrap().unwrap_err()
    };
    assert_eq!(refused(&mut scene, "live/x"), SwitchError::NoPath);
    assert_eq!(refused(&mut scene, "live/b"), SwitchError::NoFallbacks);
    let known = "publish (live/a~0), live/b".to_owned();
    assert_eq!(scene.refused("live/c"), SwitchError::NoSource { known });
    let same = done(&scene.switch("0", Timing::Now));
    assert_eq!((same.switched, same.pinned, same.gap_ms), (false, true, None));
    scene.switch("live/b", Timing::Now);
    scene.run(ms(200));
    let SwitchError::TooSoon { wait } = scene.refused("0") else { panic!("it waits") };
    assert!(wait <= ms(500) && wait > Duration::ZERO);
    scene.run(ms(600));
    assert_eq!(scene.encoders(), [11, 12]);
    assert_eq!(scene.failover().pinned.as_deref(), Some("live/b"));
    // The source before has gone, and is watched because it is the better one.
    scene.a.end(&mut scene.bench);
    scene.run(ms(200));
    let reason = "its source has gone".to_owned();
    assert_eq!(scene.refused("0"), SwitchError::Down { path: "live/a~0".to_owned(), reason });
    assert_eq!(scene.states(), ["down", "active"]);
}

#[test]
fn switch_to_a_source_that_is_not_there_or_sends_no_key_frame_leaves_the_old_one() {
    let mut scene = Scene::both(TEXT);
    scene.b.end(&mut scene.bench);
    scene.run(ms(12_000));
    let answer = scene.switch("live/b", Timing::NextKeyFrame);
    scene.run(ms(80));
    let reason = "the path has no source".to_owned();
    let error = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(error, SwitchError::Down { path: "live/b".to_owned(), reason });
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.b.group = 1_000_000;
    scene.run(ms(1_000));
    let answer = scene.switch("live/b", Timing::NextKeyFrame);
    scene.run(ms(7_800));
    assert!(answer.try_recv().is_err());
    scene.run(ms(400));
    let error = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(error, SwitchError::NoKeyFrame { path: "live/b".to_owned() });
    assert_eq!((scene.encoders(), scene.failover().pinned), (vec![11], None));
    scene.assert_continuous();
}

#[test]
fn switch_is_answered_when_another_one_follows_or_the_configuration_changes() {
    let mut scene = Scene::both(TEXT);
    let first = scene.switch("live/b", Timing::NextKeyFrame);
    let second = scene.switch("live/b", Timing::NextKeyFrame);
    assert_eq!(first.try_recv().unwrap(), Err(SwitchError::Superseded));
    scene.bench.configure("");
    assert_eq!(second.try_recv().unwrap(), Err(SwitchError::Ended));
}

#[test]
fn path_on_demand_without_readers_shows_its_sources_and_cannot_be_switched() {
    let mut scene = Scene::new(&format!("{TEXT}on_demand = true\n"));
    assert_eq!(scene.states(), ["off", "off"]);
    assert_eq!(scene.refused("live/b"), SwitchError::Idle);
}

#[test]
fn source_is_shown_as_wanted_good_refused_and_silent_with_the_reason() {
    let text =
        "[path.\"live/a\"]\nfallback = [\"live/b\"]\nstandby = true\nreturn_after = \"3s\"\n";
    let mut scene = Scene::new(text);
    scene.b.begin(&mut scene.bench, &sdp(SETS_B).replace("H264", "H265"));
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.run(ms(3_000));
    assert_eq!(scene.states(), ["active", "refused"]);
    let reason = scene.failover().sources[1].reason.clone().unwrap();
    assert!(reason.contains("the source video H265/90000"), "{reason}");
    scene.b.end(&mut scene.bench);
    scene.run(ms(11_000));
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.run(ms(2_000));
    assert_eq!(scene.states(), ["active", "standby"]);
    let id = scene.b.id.take();
    scene.run(ms(2_500));
    assert_eq!(scene.states(), ["active", "down"]);
    let silent = &scene.failover().sources[1];
    assert_eq!(silent.reason.as_deref(), Some("no packets for 2s"));
    assert!((0.3..1.0).contains(&silent.age_s) && silent.since.is_some(), "{silent:?}");
    scene.b.id = id;
    scene.run(ms(500));
    scene.a.end(&mut scene.bench);
    scene.run(ms(500));
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.run(ms(500));
    assert_eq!(scene.states(), ["good", "active"]);
    let names: Vec<_> = scene.failover().sources.iter().map(|s| s.name.clone()).collect();
    assert_eq!(names, ["publish", "live/b"]);
}
