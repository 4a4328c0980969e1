//! The pool from end to end: real threads, rings and files; the media formats are fakes.
//!
//! A fake title is a file that starts with `GOOD`; its window `n` is the hundred bytes at
//! `100 * n`, as one packet. `BOOM` panics at open, all else is not playable.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::formats::{Formats, OpenJob, OpenStep, WindowJob};
use super::{Pool, PoolConfig, PoolError, TaskQueue};
use crate::access::question::nobody;
use crate::base::ids::ShardId;
use crate::base::time::Npt;
use crate::library::Library;
use crate::library::title::Title;
use crate::media::asset::{Asset, FileRange};
use crate::media::window::{Frame, PacketWindow, WindowBuilder, WindowKey, WindowKind};
use crate::metrics::cells::{SharedCounter, WorkerCells};
use crate::poll::task::{
    OpenFailure, Outcome, Task, TaskClass, TaskDone, TaskOwner, WindowFailure, Work,
};

/// Every open waits here for its turn, when a test holds the lock.
type Gate = Arc<Mutex<()>>;

#[derive(Default)]
pub(super) struct Fake {
    opens: Arc<AtomicUsize>,
    gate: Gate,
}

impl Formats for Fake {
    fn open_job(&self, file_bytes: u64) -> Box<dyn OpenJob> {
        self.opens.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock());
        Box::new(FakeOpen { file_bytes, head: Vec::new() })
    }

    fn window_job<'a>(
        &self,
        _asset: &'a Asset,
        key: WindowKey,
    ) -> Result<Box<dyn WindowJob + 'a>, String> {
        match key.track_index {
            0 => Ok(Box::new(FakeWindow { offset: u64::from(key.index) * 100, is_read: false })),
            9 => panic!("a packetizer with a fault (this panic is part of a test)"),
            _ => Err("no such track".into()),
        }
    }
}

struct FakeOpen {
    file_bytes: u64,
    head: Vec<u8>,
}

impl OpenJob for FakeOpen {
    fn step(&mut self) -> Result<OpenStep, String> {
        match self.head.as_slice() {
            b"" => Ok(OpenStep::Read { offset: 0, bytes: 4 }),
            b"GOOD" => Ok(OpenStep::Done(Box::new(Asset {
                tracks: Vec::new(),
                left_out: Vec::new(),
                duration: Npt::ZERO,
                container: "fake",
                file_bytes: self.file_bytes,
                created_utc_ns: None,
                problems: Vec::new(),
            }))),
            b"BOOM" => panic!("a parser with a fault (this panic is part of a test)"),
            _ => Err("not a fake".into()),
        }
    }

    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.head = bytes.to_vec();
        Ok(())
    }
}

struct FakeWindow {
    offset: u64,
    is_read: bool,
}

impl WindowJob for FakeWindow {
    fn wanted(&self) -> Option<FileRange> {
        (!self.is_read).then_some(FileRange { offset: self.offset, bytes: 100 })
    }

    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        assert_eq!(bytes.len(), 100);
        self.is_read = true;
        Ok(())
    }

    fn finish(self: Box<Self>) -> PacketWindow {
        let mut builder = WindowBuilder::new();
        builder.push_file(self.offset, 100);
        builder.end_packet(true);
        builder.end_frame(Frame::SYNC);
        builder.finish()
    }
}

/// A pool over a folder, with its answers.
struct Bench {
    pool: Pool,
    queue: Arc<TaskQueue>,
    counts: Arc<WorkerCells>,
    answers: Receiver<(ShardId, TaskDone)>,
    opens: Arc<AtomicUsize>,
    gate: Gate,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = Arc::new(Library::new(Some(folder.path().into())).unwrap());
        let config = PoolConfig {
            cpus: vec![None; workers],
            queue_max: 10_000,
            window_cache_bytes: 1 << 20,
            image_bytes: 8 << 20,
            titles_max: 8,
            titles_open_max: 16,
            concurrency_per_worker: 32,
        };
        let (inbox, answers) = channel();
        let deliver = Arc::new(move |shard, done| {
            let _ = inbox.send((shard, done));
        });
        let opens = Arc::new(AtomicUsize::new(0));
        let gate = Gate::default();
        let fake = Fake { opens: Arc::clone(&opens), gate: Arc::clone(&gate) };
        let pool = Pool::start_with(&config, library, deliver, (Box::new(fake), nobody())).unwrap();
        let (queue, counts) = (pool.queue(), pool.counts());
        Self { pool, queue, counts, answers, opens, gate, folder }
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }

    fn answer(&self) -> TaskDone {
        self.answers.recv_timeout(PATIENCE).unwrap().1
    }

    fn open(&self, name: Option<&str>) -> Result<Arc<Title>, OpenFailure> {
        self.queue.submit(open_task(1, name)).unwrap();
        match self.answer().outcome {
            Outcome::Opened(result) => result,
            other => panic!("{other:?} for a title"),
        }
    }

    fn window(
        &self,
        title: &Arc<Title>,
        track: u8,
        index: u32,
    ) -> Result<Arc<PacketWindow>, WindowFailure> {
        self.queue.submit(window_task(1, title, track, index)).unwrap();
        match self.answer().outcome {
            Outcome::Window(result) => result,
            other => panic!("{other:?} for a window"),
        }
    }
}

pub(super) fn open_task(number: u64, name: Option<&str>) -> Task {
    let work = Work::Open { name: name.map(str::to_owned) };
    Task { shard: ShardId(0), owner: TaskOwner::numbered(number), class: TaskClass::Control, work }
}

pub(super) fn window_task(number: u64, title: &Arc<Title>, track_index: u8, index: u32) -> Task {
    let key = WindowKey { track_index, kind: WindowKind::All, index };
    let work = Work::Window { title: Arc::clone(title), key };
    Task { shard: ShardId(0), owner: TaskOwner::numbered(number), class: TaskClass::Prefetch, work }
}

pub(super) fn good(bytes: usize) -> Vec<u8> {
    let mut content = b"GOOD".to_vec();
    content.resize(bytes, b'.');
    content
}

/// Ends a test that would hang; nothing is measured by it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn tasks_from_many_threads_are_each_answered_once_at_their_shard() {
    let bench = Bench::new(2);
    bench.write("a.mp4", &good(100_000));
    let title = bench.open(Some("a.mp4")).unwrap();
    std::thread::scope(|scope| {
        for shard in 0..4_u8 {
            let (queue, title) = (&bench.queue, &title);
            scope.spawn(move || {
                for ticket in 0..1_000_u32 {
                    let class = [TaskClass::Control, TaskClass::Prefetch, TaskClass::Bulk];
                    let mut task = match ticket % 4 {
                        0 => open_task(0, Some("a.mp4")),
                        1 => open_task(0, Some("missing.mp4")),
                        2 => window_task(0, title, 1, ticket),
                        _ => window_task(0, title, 0, ticket % 500),
                    };
                    task.shard = ShardId(shard);
                    task.owner = TaskOwner::Window(ticket);
                    task.class = class[ticket as usize % 3];
                    queue.submit(task).unwrap();
                }
            });
        }
    });
    let mut seen = vec![[false; 1_000]; 4];
    for _ in 0..4_000 {
        let (shard, done) = bench.answers.recv_timeout(PATIENCE).unwrap();
        let ticket = usize::try_from(done.owner.number()).unwrap();
        assert!(!std::mem::replace(&mut seen[usize::from(shard.0)][ticket], true), "twice");
        let is_expected = match (ticket % 4, done.outcome) {
            (0, Outcome::Opened(Ok(opened))) => Arc::ptr_eq(&opened, &title),
            (1, Outcome::Opened(Err(failure))) => failure == OpenFailure::NotFound,
            (2, Outcome::Window(Err(failure))) => matches!(failure, WindowFailure::Corrupt(_)),
            (3, Outcome::Window(Ok(window))) => window.frames().len() == 1,
            _ => false,
        };
        assert!(is_expected, "{ticket}");
    }
    bench.pool.stop();
    assert!(bench.answers.try_recv().is_err());
    assert_eq!(bench.counts.tasks_done.iter().map(SharedCounter::value).sum::<u64>(), 4_001);
}

/// Each round trip lets the workers fall asleep in between, so a lost wake-up would end it.
#[test]
fn sleeping_worker_is_woken_for_every_single_task() {
    let bench = Bench::new(3);
    bench.write("a.mp4", &good(1_000));
    for round in 0..3_000_u64 {
        let mut task = open_task(round, Some("a.mp4"));
        task.class = [TaskClass::Control, TaskClass::Prefetch, TaskClass::Bulk]
            [usize::try_from(round % 3).unwrap()];
        bench.queue.submit(task).unwrap();
        assert_eq!(bench.answer().owner.number(), round);
    }
}

#[test]
fn title_is_opened_once_and_window_is_built_once_for_all_who_ask() {
    let bench = Bench::new(2);
    bench.write("a.mp4", &good(10_000));
    for ticket in 0..200 {
        bench.queue.submit(open_task(ticket, Some("a.mp4"))).unwrap();
    }
    let mut titles = Vec::new();
    for _ in 0..200 {
        let Outcome::Opened(Ok(title)) = bench.answer().outcome else { panic!("not opened") };
        titles.push(title);
    }
    assert_eq!(bench.opens.load(Ordering::SeqCst), 1);
    assert!(titles.iter().all(|title| Arc::ptr_eq(title, &titles[0])));
    for ticket in 0..200 {
        bench.queue.submit(window_task(ticket, &titles[0], 0, 7)).unwrap();
    }
    for _ in 0..200 {
        let Outcome::Window(Ok(window)) = bench.answer().outcome else { panic!("not built") };
        assert_eq!(window.frames().len(), 1);
    }
    assert_eq!(bench.counts.windows_built.value(), 1);
    assert_eq!(bench.counts.windows_hit.value(), 199);
    assert_eq!(bench.counts.titles_open.value(), 1);
    assert!(bench.counts.windows_cached_bytes.value() > 0);
    assert_eq!(bench.counts.read_bytes.value(), 104);
}

#[test]
fn replaced_file_is_another_title_and_a_deleted_one_is_not_found() {
    let bench = Bench::new(1);
    bench.write("a.mp4", &good(1_000));
    let first = bench.open(Some("a.mp4")).unwrap();
    assert_eq!((first.name.as_str(), first.asset.file_bytes), ("a.mp4", 1_000));
    bench.write("next", &good(2_000));
    std::fs::rename(bench.folder.path().join("next"), bench.folder.path().join("a.mp4")).unwrap();
    let second = bench.open(Some("a.mp4")).unwrap();
    assert_eq!(second.asset.file_bytes, 2_000);
    assert_eq!(bench.counts.titles_open.value(), 1);
    std::fs::remove_file(bench.folder.path().join("a.mp4")).unwrap();
    assert_eq!(bench.open(Some("a.mp4")).unwrap_err(), OpenFailure::NotFound);
    assert_eq!(bench.counts.titles_open.value(), 0);
    // The cache holds neither file: only these two handles do.
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
}

#[test]
fn bad_file_is_parsed_once_and_plays_as_soon_as_it_is_complete() {
    let bench = Bench::new(1);
    bench.write("a.mp4", b"half");
    for _ in 0..3 {
        let failure = bench.open(Some("a.mp4")).unwrap_err();
        assert_eq!(failure, OpenFailure::Unplayable("not a fake".into()));
    }
    assert_eq!(bench.opens.load(Ordering::SeqCst), 1);
    bench.write("a.mp4", &good(500));
    assert_eq!(bench.open(Some("a.mp4")).unwrap().asset.file_bytes, 500);
    bench.write("empty.mp4", b"");
    let failure = bench.open(Some("empty.mp4")).unwrap_err();
    assert_eq!(failure, OpenFailure::Unplayable("the file ends before byte 4".into()));
    assert_eq!(bench.open(Some("../a.mp4")).unwrap_err(), OpenFailure::NotFound);
}

fn overwrite(path: &Path) {
    std::fs::write(path, good(10_000)).unwrap();
    let file = std::fs::File::open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
}

fn truncate(path: &Path) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(150).unwrap();
}

fn replace(path: &Path) {
    let next = path.with_extension("next");
    std::fs::write(&next, good(10_000)).unwrap();
    std::fs::rename(next, path).unwrap();
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

#[test]
fn file_that_changes_while_it_plays_is_noticed_by_cached_and_new_windows() {
    for change in [overwrite, truncate, replace, remove] {
        let bench = Bench::new(1);
        bench.write("a.mp4", &good(10_000));
        let title = bench.open(Some("a.mp4")).unwrap();
        assert!(bench.window(&title, 0, 3).is_ok());
        change(&bench.folder.path().join("a.mp4"));
        assert_eq!(bench.window(&title, 0, 3), Err(WindowFailure::FileChanged));
        assert_eq!(bench.window(&title, 0, 4), Err(WindowFailure::FileChanged));
        assert_eq!(bench.counts.titles_open.value(), 0);
        assert_eq!(bench.counts.windows_cached_bytes.value(), 0);
    }
}

#[test]
fn index_that_points_past_the_file_is_a_failure_of_that_window_only() {
    let bench = Bench::new(1);
    bench.write("a.mp4", &good(150));
    let title = bench.open(Some("a.mp4")).unwrap();
    assert_eq!(bench.window(&title, 0, 1), Err(WindowFailure::FileChanged));
    assert!(bench.window(&title, 0, 0).is_ok());
    assert!(matches!(bench.window(&title, 5, 0), Err(WindowFailure::Corrupt(_))));
}

#[test]
fn panic_in_a_task_is_a_failure_of_that_task_only() {
    let bench = Bench::new(1);
    bench.write("boom.mp4", b"BOOM");
    bench.write("a.mp4", &good(1_000));
    let failure = bench.open(Some("boom.mp4")).unwrap_err();
    assert!(matches!(failure, OpenFailure::Unavailable(_)));
    let title = bench.open(Some("a.mp4")).unwrap();
    assert!(matches!(bench.window(&title, 9, 0), Err(WindowFailure::Unreadable(_))));
    assert!(bench.window(&title, 0, 0).is_ok());
    assert_eq!(bench.counts.panics.value(), 2);
    bench.pool.stop();
}

#[test]
fn stop_ends_what_was_begun_and_refuses_what_waits() {
    let bench = Bench::new(1);
    bench.write("a.mp4", &good(1_000));
    let gate = Arc::clone(&bench.gate);
    let held = gate.lock().unwrap();
    bench.queue.submit(open_task(0, Some("a.mp4"))).unwrap();
    while bench.opens.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    for ticket in 1..=20 {
        bench.queue.submit(open_task(ticket, Some("a.mp4"))).unwrap();
    }
    let (queue, pool) = (bench.queue, bench.pool);
    let stopping = std::thread::spawn(move || pool.stop());
    while !queue.is_closed() {
        std::thread::yield_now();
    }
    assert_eq!(queue.submit(open_task(99, None)).unwrap_err().owner.number(), 99);
    drop(held);
    stopping.join().unwrap();
    let mut answers: Vec<_> = bench.answers.try_iter().map(|(_, done)| done).collect();
    answers.sort_by_key(|done| done.owner.number());
    let tickets: Vec<u64> = answers.iter().map(|done| done.owner.number()).collect();
    assert_eq!(tickets, (0..=20).collect::<Vec<_>>());
    assert!(matches!(answers[0].outcome, Outcome::Opened(Ok(_))));
    for done in &answers[1..] {
        assert!(matches!(done.outcome, Outcome::Opened(Err(OpenFailure::Unavailable(_)))));
    }
    assert!(queue.is_empty());
}

#[test]
fn built_in_clip_is_read_like_a_file() {
    // It is no fake title, so the fake formats refuse it, after having read it.
    let bench = Bench::new(1);
    let failure = bench.open(None).unwrap_err();
    assert_eq!(failure, OpenFailure::Unplayable("not a fake".into()));
    assert_eq!(bench.counts.read_bytes.value(), 4);
}

#[test]
fn pool_that_cannot_start_says_why() {
    let start = |cpus: Vec<Option<usize>>| {
        let library = Arc::new(Library::new(None).unwrap());
        let config = PoolConfig {
            cpus,
            queue_max: 1,
            window_cache_bytes: 0,
            image_bytes: 8 << 20,
            titles_max: 0,
            titles_open_max: 16,
            concurrency_per_worker: 1,
        };
        Pool::start(config, library, Arc::new(|_, _| {}), nobody())
    };
    assert!(matches!(start(vec![]), Err(PoolError::NoWorkers)));
    assert!(matches!(start(vec![None; 65]), Err(PoolError::TooManyWorkers { given: 65 })));
    let missing = start(vec![Some(0), Some(4_095)]).unwrap_err();
    assert!(matches!(missing, PoolError::Cpu { worker: 1, cpu: 4_095, .. }), "{missing}");
    start(vec![Some(0)]).unwrap().stop();
}
