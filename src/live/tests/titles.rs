//! Paths that are fed by titles: loops, seams, what goes wrong with files and workers.

mod playlists;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::time::Mono;
use crate::library::testing::{self, VideoClock};
use crate::library::title::Title;
use crate::poll::task::{OpenFailure, Outcome, WindowFailure, Work};

const TEXT: &str = "[path.\"live/a\"]\nsource = \"vod/film.mp4\"\n";
const SECOND: Duration = Duration::from_secs(1);

/// A packet as the batches of a path have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    at: Mono,
    seq: u16,
    ts: u32,
    ssrc: u32,
}

/// A path that titles feed, with workers that answer as the test wants.
struct Scene {
    bench: Bench,
    titles: BTreeMap<String, Result<Arc<Title>, OpenFailure>>,
    /// Windows of the first track, by number, that cannot be had.
    bad: BTreeMap<u32, WindowFailure>,
    /// The workers do nothing.
    is_stuck: bool,
    /// Tasks that the queue refuses from now on.
    refuses: usize,
    opened: Vec<String>,
    seen: [Vec<Seen>; 2],
    cursor: u64,
}

impl Scene {
    fn new(text: &str, titles: &[(&str, Arc<Title>)]) -> Self {
        let titles = titles.iter().map(|(name, title)| ((*name).to_owned(), Ok(Arc::clone(title))));
        Self {
            bench: Bench::configured(text),
            titles: titles.collect(),
            bad: BTreeMap::new(),
            is_stuck: false,
            refuses: 0,
            opened: Vec::new(),
            seen: [Vec::new(), Vec::new()],
            cursor: 0,
        }
    }

    fn film(seconds: u32) -> Self {
        Self::new(TEXT, &[("film.mp4", testing::title(seconds))])
    }

    fn do_task(&mut self, task: &Task) {
        let TaskOwner::Titles { feed, request } = task.owner else { panic!("{task:?}") };
        let name = (feed, request);
        let (live, cx) = (&mut self.bench.sessions.live, &mut self.bench.sessions.cx);
        if self.refuses > 0 {
            self.refuses -= 1;
            return live.sources.handle_title_refused(cx, &mut live.hub, name);
        }
        let outcome = match &task.work {
            Work::Open { name } => {
                let name = name.clone().unwrap_or_default();
                self.opened.push(name.clone());
                let title = self.titles.get(&name).cloned();
                Outcome::Opened(title.unwrap_or(Err(OpenFailure::NotFound)))
            }
            Work::WindowBytes { title, key } => {
                let bad = self.bad.get(&key.index).filter(|_| key.track_index == 0);
                Outcome::WindowBytes(match bad {
                    Some(failure) => Err(failure.clone()),
                    None => Ok(testing::payload_window(title, *key)),
                })
            }
            other => panic!("{other:?}"),
        };
        live.sources.handle_title_task(cx, &mut live.hub, name, outcome);
    }

    /// Lets the workers do what there is to do.
    fn work(&mut self) {
        // Bounded: a feed asks for a few windows at a time.
        for _ in 0..100 {
            self.bench.settle();
            if self.is_stuck || self.bench.title_tasks.is_empty() {
                return;
            }
            for task in std::mem::take(&mut self.bench.title_tasks) {
                self.do_task(&task);
            }
        }
        panic!("tasks without end: {:?}", self.bench.title_tasks);
    }

    fn run(&mut self, duration: Duration) {
        let end = self.bench.sessions.cx.now + duration;
        self.work();
        while self.bench.sessions.cx.now < end {
            let now = self.bench.sessions.cx.now;
            let step = now + Duration::from_millis(100);
            let next = self.bench.sessions.cx.wheel.next_due().unwrap_or(step).min(step).min(end);
            self.bench.turn(next.max(now + Duration::from_micros(100)));
            self.work();
            self.look();
        }
    }

    fn look(&mut self) {
        let at = self.bench.sessions.cx.now;
        let Some(path) = self.bench.sessions.live.hub.paths.path("live/a") else { return };
        let ring = path.ring();
        self.cursor = self.cursor.max(ring.first_no());
        while let Some(batch) = ring.batch(self.cursor) {
            self.cursor += 1;
            for (track, seen) in (0_u8..).zip(&mut self.seen) {
                for run in batch.runs_of(track) {
                    let packets = batch.packets_of(run).iter();
                    seen.extend(packets.map(|packet| Seen {
                        at,
                        seq: packet.seq.0,
                        ts: packet.ts.0,
                        ssrc: run.ssrc.0,
                    }));
                }
            }
        }
    }

    /// Plays the path, which keeps it here.
    fn read(&mut self) -> SessionId {
        self.work();
        let setup = self.bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
        let id = session_id(&setup);
        let played = self.bench.reader(Method::Play, URL, Some(id));
        assert!(played.is_none_or(|answer| answer.status().code() == 200));
        id
    }

    /// Numbers without a gap, one SSRC; returns the steps of RTP time of the track's frames.
    fn steps(&self, track: usize) -> Vec<i64> {
        let seen = &self.seen[track];
        let mut steps = Vec::new();
        for pair in seen.windows(2) {
            assert_eq!(pair[1].ssrc, pair[0].ssrc);
            assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1), "{pair:?}");
            let step = i64::from(pair[1].ts.wrapping_sub(pair[0].ts).cast_signed());
            steps.extend((step != 0).then_some(step));
        }
        steps
    }

    fn state(&self) -> (String, Option<String>) {
        let owner = shown(&self.bench).0.unwrap().owner;
        (owner.state.to_owned(), owner.reason)
    }

    fn is_idle(&self) -> bool {
        self.bench.sessions.live.sources.titles.is_empty()
    }
}

#[test]
fn title_is_sent_in_real_time_and_again_and_again_without_a_seam() {
    let mut scene = Scene::film(3);
    scene.read();
    scene.run(10 * SECOND);
    let sound = scene.steps(1);
    assert!((480..=510).contains(&sound.len()), "{}", sound.len());
    assert!(sound.iter().all(|step| *step == 960), "three seams without a gap");
    let pictures = scene.steps(0);
    assert!((245..=255).contains(&pictures.len()), "{}", pictures.len());
    assert!(pictures.iter().all(|step| [7_200, -3_600, 10_800, 3_600].contains(step)));
    assert!(scene.opened.len() >= 4 && scene.opened.iter().all(|name| name == "film.mp4"));
    // Sound and picture stay together, and with the wall clock.
    for (track, hz) in [(0, 90_000_u64), (1, 48_000)] {
        let (first, last) = (scene.seen[track][0], *scene.seen[track].last().unwrap());
        let wall = last.at.since(first.at).as_millis();
        let media = u128::from(last.ts.wrapping_sub(first.ts)) * 1_000 / u128::from(hz);
        assert!(wall.abs_diff(media) < 150, "track {track}: {wall} {media}");
    }
}

#[test]
fn path_shows_the_title_that_plays_and_the_position_in_it() {
    let mut scene = Scene::film(3);
    scene.read();
    scene.run(4 * SECOND);
    let source = shown(&scene.bench).0.unwrap().source.unwrap();
    assert_eq!((source.kind, source.state), ("title", "recording"));
    assert_eq!(source.title.as_deref(), Some("vod/film.mp4"));
    assert_eq!((source.url.as_deref(), &*source.peer), (Some("vod/film.mp4"), "vod/film.mp4"));
    let position = source.position_s.unwrap();
    assert!((0.8..1.1).contains(&position), "{position}");
}

#[test]
fn title_on_demand_stops_with_its_last_reader_and_is_begun_anew() {
    let text = format!("{TEXT}on_demand = true\nidle_close = \"1s\"\n");
    let mut scene = Scene::new(&text, &[("film.mp4", testing::title(3))]);
    scene.run(SECOND);
    assert!(scene.is_idle());
    assert!(scene.bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).is_none());
    scene.work();
    let setup = scene.bench.answer(READER).unwrap();
    let id = session_id(&setup);
    scene.bench.reader(Method::Play, URL, Some(id));
    scene.run(2 * SECOND);
    assert!(!scene.is_idle() && !scene.seen[0].is_empty());
    assert!(scene.bench.sessions.end_session(id, "test"));
    scene.run(5 * SECOND);
    assert!(scene.is_idle());
    assert!(scene.bench.sessions.live.sources.publishers.is_empty());
}

#[test]
fn title_that_is_not_there_fails_the_source_and_is_tried_again() {
    let mut scene = Scene::new(TEXT, &[]);
    scene.work();
    assert_eq!(scene.state(), ("failed".to_owned(), Some("no such title".to_owned())));
    assert!(scene.is_idle());
    scene.titles.insert("film.mp4".to_owned(), Ok(testing::title(3)));
    scene.run(3 * SECOND);
    assert_eq!(scene.state(), ("live".to_owned(), None));
}

#[test]
fn title_that_becomes_another_one_is_not_sent_under_the_old_description() {
    let clock = VideoClock { timescale: 90_000, frame_ticks: 3_600, group: 25, count: 75 };
    let mut scene = Scene::film(3);
    scene.read();
    scene.run(2 * SECOND);
    let other = testing::title_of_clock(clock);
    scene.titles.insert("film.mp4".to_owned(), Ok(testing::title_without_samples()));
    scene.run(5 * SECOND);
    assert_eq!(scene.state(), ("held".to_owned(), Some("it has no video".to_owned())));
    scene.steps(0);
    scene.titles.insert("film.mp4".to_owned(), Ok(other));
    scene.run(10 * SECOND);
    assert_eq!(scene.state().0, "live");
}

#[test]
fn refused_tasks_and_failed_reads_are_tried_again() {
    let mut scene = Scene::film(6);
    scene.refuses = 3;
    scene.run(2 * SECOND);
    scene.read();
    scene.bad.insert(2, WindowFailure::Unreadable("Input/output error".to_owned()));
    scene.run(SECOND);
    scene.refuses = 2;
    scene.run(Duration::from_millis(700));
    scene.bad.clear();
    scene.run(8 * SECOND);
    assert!(scene.steps(1).iter().all(|step| *step == 960), "nothing was lost");
    scene.steps(0);
}

#[test]
fn title_that_changes_while_it_plays_ends_where_its_bytes_end() {
    let mut scene = Scene::film(8);
    scene.read();
    scene.run(Duration::from_millis(500));
    scene.bad.insert(2, WindowFailure::FileChanged);
    scene.run(Duration::from_millis(500));
    let opens = scene.opened.len();
    scene.run(SECOND);
    scene.bad.clear();
    scene.run(4 * SECOND);
    assert!(scene.opened.len() > opens, "opened anew");
    let steps = scene.steps(1);
    assert!(steps.iter().all(|step| *step == 960), "{steps:?}");
    // Pictures 0 to 99, then the title's first ones again.
    let steps = scene.steps(0);
    assert!(steps.iter().all(|step| [7_200, -3_600, 10_800, 3_600].contains(step)), "{steps:?}");
    assert!((145..=155).contains(&steps.len()), "{}", steps.len());
    assert_eq!(scene.state().0, "live");
}

#[test]
fn bytes_that_come_late_leave_the_gap_that_viewers_saw_and_no_burst() {
    let mut scene = Scene::film(20);
    scene.read();
    scene.run(SECOND);
    scene.is_stuck = true;
    scene.run(6 * SECOND);
    scene.is_stuck = false;
    scene.run(3 * SECOND);
    let steps = scene.steps(1);
    let gaps: Vec<i64> = steps.iter().copied().filter(|step| *step != 960).collect();
    let [gap] = gaps[..] else { panic!("{gaps:?}") };
    assert!((48_000 * 2..48_000 * 6).contains(&gap), "{gap}");
    let (first, last) = (scene.seen[1][0], *scene.seen[1].last().unwrap());
    let wall = i64::try_from(last.at.since(first.at).as_millis()).unwrap() * 48;
    let media = i64::from(last.ts.wrapping_sub(first.ts));
    assert!((wall - media).abs() < 48 * 350, "{wall} {media}");
}

#[test]
fn title_without_any_bytes_is_given_up_with_a_reason() {
    let mut scene = Scene::film(20);
    scene.is_stuck = true;
    scene.run(10 * SECOND + Duration::from_millis(500));
    let (state, reason) = scene.state();
    assert_eq!((&*state, reason.as_deref()), ("failed", Some("no bytes of it for 10 s")));
    // An answer that comes after all is for nobody.
    scene.is_stuck = false;
    scene.work();
}

#[test]
fn reload_ends_the_title_or_begins_another_and_a_stop_ends_all() {
    let other = testing::title(5);
    let mut scene = Scene::new(TEXT, &[("film.mp4", testing::title(3)), ("b.mp4", other)]);
    scene.read();
    scene.run(2 * SECOND);
    scene.bench.configure(&TEXT.replace("film", "b"));
    scene.run(4 * SECOND);
    assert_eq!(scene.opened.last().unwrap(), "b.mp4");
    let source = shown(&scene.bench).0.unwrap().source.unwrap();
    assert_eq!(source.title.as_deref(), Some("vod/b.mp4"));
    scene.bench.configure("");
    assert!(scene.is_idle());
    scene.bench.configure(TEXT);
    scene.work();
    assert!(!scene.is_idle());
    let (live, cx) = (&mut scene.bench.sessions.live, &mut scene.bench.sessions.cx);
    live.end_live_sessions(cx, 100, "test");
    assert!(live.sources.titles.is_empty() && live.sources.publishers.is_empty());
}

#[test]
fn slate_feeds_a_path_whose_publisher_is_not_there() {
    let text = "[path.\"live/a\"]\nfallback = [\"vod/film.mp4\"]\n";
    let mut scene = Scene::new(text, &[("film.mp4", testing::title(3))]);
    scene.run(4 * SECOND);
    scene.read();
    scene.run(7 * SECOND);
    assert!(scene.steps(1).iter().all(|step| *step == 960));
    scene.steps(0);
    let source = shown(&scene.bench).0.unwrap().source.unwrap();
    assert_eq!((source.kind, source.url.as_deref()), ("fallback", Some("live/a~1")));
    let live = &scene.bench.sessions.live;
    let (paths, cx) = (live, &scene.bench.sessions.cx);
    let slate = paths.sources.publishers.values().find(|p| p.plays().is_some()).unwrap();
    assert_eq!(&**slate.source.path(), "live/a~1");
    assert!(cx.configs.find("live/a~1").on_demand);
}

/// What may go wrong with files and workers.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Pass(u64),
    Unreadable(u32),
    Changed(u32),
    Refuse(usize),
    Stuck,
    Gone,
    Other(u32),
    Mended,
}

fn any_trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        4 => (1_u64..3_000).prop_map(Trouble::Pass),
        1 => (0_u32..4).prop_map(Trouble::Unreadable),
        1 => (0_u32..4).prop_map(Trouble::Changed),
        1 => (1_usize..20).prop_map(Trouble::Refuse),
        1 => Just(Trouble::Stuck),
        1 => Just(Trouble::Gone),
        2 => (1_u32..8).prop_map(Trouble::Other),
        2 => Just(Trouble::Mended),
    ]
}

impl Scene {
    fn cause(&mut self, trouble: Trouble) {
        let film = "film.mp4".to_owned();
        match trouble {
            Trouble::Pass(ms) => self.run(Duration::from_millis(ms)),
            Trouble::Unreadable(window) => {
                self.bad.insert(window, WindowFailure::Unreadable("EIO".to_owned()));
            }
            Trouble::Changed(window) => {
                self.bad.insert(window, WindowFailure::FileChanged);
            }
            Trouble::Refuse(count) => self.refuses = count,
            Trouble::Stuck => self.is_stuck = true,
            Trouble::Gone => {
                self.titles.remove(&film);
            }
            Trouble::Other(seconds) => {
                self.titles.insert(film, Ok(testing::title(seconds)));
            }
            Trouble::Mended => {
                (self.is_stuck, self.refuses) = (false, 0);
                self.bad.clear();
                self.titles.insert(film, Ok(testing::title(3)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Within one claim numbers have no gap and sound goes forward; whatever has happened, the path
    /// is live again soon after all is well.
    #[test]
    fn any_trouble_leaves_order_and_ends_when_its_cause_does(
        troubles in prop::collection::vec(any_trouble(), 1..25),
    ) {
        let mut scene = Scene::new(&format!("{TEXT}hold = \"1h\"\n"), &[("film.mp4", testing::title(3))]);
        scene.read();
        for trouble in troubles {
            scene.cause(trouble);
        }
        scene.cause(Trouble::Mended);
        // The longest wait before the next try, and a little.
        scene.run(32 * SECOND);
        prop_assert_eq!(scene.state().0, "live");
        let now = scene.bench.sessions.cx.now;
        for seen in &scene.seen {
            prop_assert!(seen.last().is_some_and(|seen| now.since(seen.at) < SECOND));
            for pair in seen.windows(2).filter(|pair| pair[0].ssrc == pair[1].ssrc) {
                prop_assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1));
            }
        }
        for pair in scene.seen[1].windows(2).filter(|pair| pair[0].ssrc == pair[1].ssrc) {
            let step = i64::from(pair[1].ts.wrapping_sub(pair[0].ts).cast_signed());
            prop_assert!((960..48_000 * 40).contains(&step), "{}", step);
        }
    }
}
