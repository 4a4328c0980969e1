//! What a worker does about pages, without a pool: one executor that the test drives.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::engine::Engine;
use super::executor::yield_once;
use super::lanes::{FILE_READS_MAX, Lanes};
use super::pool_tests::{Fake, PATIENCE, good, open_task, window_task};
use super::read::BellReader;
use super::reply::tests::desk;
use super::serve::{Local, serve_with};
use super::task;
use super::task_queue::TaskQueue;
use crate::base::time::Mono;
use crate::library::Library;
use crate::library::title::Title;
use crate::media::pages::Pages;
use crate::poll::task::{Outcome, TaskDone};

/// An engine over a folder, on an executor of the test's thread.
struct Bench {
    engine: Engine,
    kept: Arc<Mutex<Vec<TaskDone>>>,
    lanes: Lanes,
    executor: LocalExecutor,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = Arc::new(Library::new(Some(folder.path().into())).unwrap());
        let (desk, kept) = desk();
        let lanes = Lanes::new(Rc::default(), Arc::clone(&desk.counts));
        let engine = Engine::new(library, Box::new(Fake::default()), desk, 8, 1 << 20, 1 << 20);
        let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 16);
        Self { engine, kept, lanes, executor: builder.make().unwrap(), folder }
    }

    fn open(&self, name: &str, bytes: usize) -> Arc<Title> {
        std::fs::write(Path::join(self.folder.path(), name), good(bytes)).unwrap();
        self.executor.run(task::run(&self.engine, &self.lanes, open_task(1, Some(name))));
        match self.kept.lock().unwrap().remove(0).outcome {
            Outcome::Opened(Ok(title)) => title,
            other => panic!("{other:?}"),
        }
    }
}

thread_local! {
    /// The engine's clock in seconds; tests run on threads of their own.
    static CLOCK_S: Cell<u64> = const { Cell::new(0) };
}

fn clock() -> Mono {
    Mono(CLOCK_S.get() * 1_000_000_000)
}

#[test]
fn cached_window_is_paged_in_again_unless_its_pages_are_fresh() {
    let mut bench = Bench::new();
    bench.engine.clock = clock;
    let title = bench.open("a.mp4", 1_000);
    let mut read = Vec::new();
    for now_s in [100, 101, 103, 104] {
        CLOCK_S.set(now_s);
        bench.executor.run(task::run(&bench.engine, &bench.lanes, window_task(1, &title, 0, 2)));
        let outcome = bench.kept.lock().unwrap().remove(0).outcome;
        let Outcome::Window(Ok(window)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(window.pages(clock()), Pages::Fresh, "{now_s}");
        read.push(bench.engine.counts().read_bytes.value());
    }
    // The head, the window's bytes, and later the page that they lie in.
    assert_eq!(read, [104, 104, 1_104, 1_104]);
    assert_eq!(bench.engine.counts().windows_renewed.value(), 1);
}

/// Ten times as many tasks as the worker has slots wait for one file when a window of another is
/// asked for.
#[test]
fn file_whose_disk_does_not_answer_holds_up_no_window_of_another() {
    let mut bench = Bench::new();
    let (cold, hot) = (bench.open("cold.mp4", 10_000), bench.open("hot.mp4", 10_000));
    bench.engine.asks_cache = false;
    let Bench { engine, kept, executor, .. } = bench;
    let queue = Arc::new(TaskQueue::new(100, 1).unwrap());
    for ticket in 0..40 {
        queue.submit(window_task(u64::from(ticket), &cold, 0, ticket)).unwrap();
    }
    queue.submit(window_task(99, &hot, 0, 0)).unwrap();
    let (engine, answered) = (Arc::new(engine), || kept.lock().unwrap().len());
    executor.run(async {
        let local = Rc::new(Local::new(&engine));
        let mut stuck = Vec::new();
        for _ in 0..FILE_READS_MAX {
            stuck.push(local.lanes.enter(cold.identity).await);
        }
        let bell = BellReader::new(queue.bell(0).unwrap()).unwrap();
        let parts = (Arc::clone(&engine), Arc::clone(&queue), Rc::clone(&local));
        let serving = serve_with(parts.0, parts.1, bell, (0, 4), parts.2);
        let serving = glommio::spawn_local(serving).detach();
        until(|| answered() == 1 && local.lanes.count() == FILE_READS_MAX + 40).await;
        assert_eq!(kept.lock().unwrap().first().unwrap().owner.number(), 99);
        drop(stuck);
        until(|| answered() == 41).await;
        queue.close();
        serving.await;
        assert_eq!(local.lanes.count(), 0);
    });
    let is_window = |done: &TaskDone| matches!(done.outcome, Outcome::Window(Ok(_)));
    assert!(kept.lock().unwrap().iter().all(is_window));
}

/// Lets the executor work until the condition holds.
async fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it never comes about");
        yield_once().await;
    }
}
