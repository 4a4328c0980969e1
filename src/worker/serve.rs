//! What one worker does all day: takes tasks while it may, sleeps when there are none.
//!
//! ```text
//! take -> start -> let the tasks run -> take ...            (one task of the executor per Task)
//! none -> announce -> look once more -> wait: bell or a finished task -> retract -> take ...
//! ```
//! Tasks run side by side, so one that waits for a cold disk holds up nobody else: it stands in its
//! device's lane (`lanes`) and takes up no slot meanwhile. After each start the tasks run before
//! the next is taken: a worker that computes does not hoard tasks that another could do.
//!
//! While there are images, one task of all workers looks every two seconds for those that nobody
//! uses (`images`); else an idle worker is not woken.
//!
//! Bounds: `Slots`: tasks at once by class. The lower classes leave room, so that a command never
//! waits for a slot behind prefetches. Besides, `COLD_TASKS_MAX` tasks that wait for disks.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use super::executor::{sleep, spawn_local, yield_once};
use super::lanes::Lanes;
use super::notice::Notice;
use super::read::BellReader;
use super::task;
use super::task_queue::{ALL_CLASSES, Classes, TaskQueue};
use crate::poll::task::{Task, TaskClass};

/// Runs until the queue is closed and all begun tasks are answered. `worker` is its number.
pub(super) async fn serve(
    engine: Arc<Engine>,
    queue: Arc<TaskQueue>,
    bell: BellReader,
    worker: usize,
    concurrency: usize,
) {
    let local = Rc::new(Local::new(&engine));
    serve_with(engine, queue, bell, (worker, concurrency), local).await;
}

/// `serve`, with what the tasks share.
pub(super) async fn serve_with(
    engine: Arc<Engine>,
    queue: Arc<TaskQueue>,
    bell: BellReader,
    (worker, concurrency): (usize, usize),
    local: Rc<Local>,
) {
    let listening = spawn_local(listen(Arc::clone(&queue), bell, Rc::clone(&local)));
    let slots = Slots::new(concurrency);
    while !queue.is_closed() {
        let may = slots.free(local.running.get(), local.lanes.count());
        if let Some(task) = queue.take(may) {
            engine.counts().queue_depth.set(queue.len() as u64);
            start(&engine, &local, task);
            yield_once().await;
            continue;
        }
        engine.counts().queue_depth.set(queue.len() as u64);
        queue.announce(worker, may);
        if let Some(task) = queue.take(may) {
            queue.retract(worker);
            start(&engine, &local, task);
            yield_once().await;
            continue;
        }
        if !queue.is_closed() {
            local.notice.wait().await;
        }
        queue.retract(worker);
    }
    while local.running.get() > 0 {
        local.notice.wait().await;
    }
    // Each worker takes what it finds; together they leave nothing.
    while let Some(task) = queue.take(Classes::ALL) {
        engine.refuse(&task);
    }
    listening.await;
}

fn start(engine: &Arc<Engine>, local: &Rc<Local>, task: Task) {
    local.running.set(local.running.get() + 1);
    let done = Done(Rc::clone(local));
    let engine = Arc::clone(engine);
    // It answers for itself: nobody waits for it.
    drop(spawn_local(async move {
        task::run(&engine, &done.0.lanes, task).await;
        drop(done);
        sweep_images(engine).await;
    }));
}

/// Gives images back that nobody uses, until there are none; one task of all workers does it. It
/// does not keep the engine from its end.
async fn sweep_images(engine: Arc<Engine>) {
    if !engine.images.begin_sweeping() {
        return;
    }
    let (interval, weak) = (engine.sweep_interval, Arc::downgrade(&engine));
    drop(engine);
    // Ends when nothing is kept: an image is kept ten seconds longer than it is used.
    loop {
        sleep(interval).await;
        let Some(engine) = weak.upgrade() else { return };
        if !engine.sweep_images() {
            return;
        }
    }
}

/// Passes each ring of the worker's bell on to its main task.
async fn listen(queue: Arc<TaskQueue>, bell: BellReader, local: Rc<Local>) {
    while !queue.is_closed() {
        if let Err(err) = bell.wait().await {
            // Never seen. Looking every few milliseconds keeps the tasks going all the same.
            tracing::error!(
                code = "HE-E703",
                "a worker's eventfd cannot be read ({err}); it polls its queue now"
            );
            sleep(POLL_INTERVAL).await;
        }
        local.notice.give();
    }
    bell.close().await;
}

/// What the tasks of one executor share. Never leaves its thread.
#[derive(Debug)]
pub(super) struct Local {
    running: Cell<usize>,
    pub(super) lanes: Lanes,
    notice: Rc<Notice>,
}

impl Local {
    pub(super) fn new(engine: &Engine) -> Self {
        let notice = Rc::<Notice>::default();
        let lanes = Lanes::new(Rc::clone(&notice), Arc::clone(&engine.desk.counts));
        Self { running: Cell::new(0), lanes, notice }
    }
}

/// Counts a task out, even when it panicked.
#[derive(Debug)]
struct Done(Rc<Local>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get().saturating_sub(1));
        self.0.notice.give();
    }
}

/// How many tasks may run at once before a class has to wait.
#[derive(Debug, Clone, Copy)]
struct Slots {
    max: [usize; 3],
}

impl Slots {
    /// Commands may use all slots, prefetches seven of eight, the rest half.
    fn new(concurrency: usize) -> Self {
        let all = concurrency.max(1);
        Self { max: [all, (all - all / 8).max(1), (all / 2).max(1)] }
    }

    /// What may be begun beside `running` tasks, of which `cold` wait for a disk.
    fn free(self, running: usize, cold: usize) -> Classes {
        let busy = running - cold.min(running).min(COLD_TASKS_MAX);
        let free = |(_, max): &(TaskClass, usize)| busy < *max;
        let by_class = ALL_CLASSES.into_iter().zip(self.max).filter(free);
        by_class.fold(Classes::NONE, |set, (class, _)| set.with(class))
    }
}

/// Tasks of one worker that wait for disks without taking up a slot: as many as a full shard's
/// sessions have windows under way when none of their disks answers, at some kilobytes each.
const COLD_TASKS_MAX: usize = 8_192;

/// Only when the eventfd fails.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::base::ids::ShardId;
    use crate::base::time::Mono;
    use crate::library::Library;
    use crate::poll::task::{TaskOwner, Work};
    use crate::worker::executor::Threads;
    use crate::worker::images;
    use crate::worker::media::Media;
    use crate::worker::reply::Desk;

    static NOW_NS: AtomicU64 = AtomicU64::new(1_000_000_000);

    #[test]
    fn image_that_nobody_uses_goes_without_a_task_for_it() {
        let clock = || Mono(NOW_NS.load(Ordering::Relaxed));
        let desk = Arc::new(Desk { deliver: Arc::new(|_, _| {}), counts: Arc::default() });
        let library = Arc::new(Library::new(None).unwrap());
        let mut engine = Engine::new(library, Box::new(Media), desk, 8, 1 << 20, 1_000);
        (engine.clock, engine.sweep_interval) = (clock, Duration::ZERO);
        let (engine, window) = (Arc::new(engine), images::tests::window());
        let local = Rc::new(Local::new(&engine));
        assert!(images::tests::give(&engine.images, &window, clock()));
        let until = async |is_so: &dyn Fn() -> bool| {
            for _ in 0..10_000 {
                if is_so() {
                    return;
                }
                sleep(Duration::from_millis(1)).await;
            }
            panic!("it has not come about");
        };
        Threads::new().unwrap().block_on(async {
            let (owner, class) = (TaskOwner::Window(0), TaskClass::Control);
            let work = Work::Open { name: None };
            start(&engine, &local, Task { shard: ShardId(0), owner, class, work });
            until(&|| local.running.get() == 0).await;
            assert_eq!(engine.images.gauges(), (1, 100), "it was entered lately");
            NOW_NS.store(60_000_000_000, Ordering::Relaxed);
            until(&|| engine.images.gauges() == (0, 0)).await;
        });
        assert!(window.image().load().is_none());
        assert_eq!(engine.counts().images_bytes.value(), 0);
    }

    #[test]
    fn lower_classes_leave_slots_for_commands() {
        let slots = Slots::new(32);
        let free = |running| ALL_CLASSES.map(|class| slots.free(running, 0).has(class));
        assert_eq!(free(0), [true, true, true]);
        assert_eq!(free(15), [true, true, true]);
        assert_eq!(free(16), [true, true, false]);
        assert_eq!(free(28), [true, false, false]);
        assert_eq!(free(32), [false, false, false]);
        for concurrency in [0, 1] {
            assert_eq!(Slots::new(concurrency).free(0, 0), Classes::ALL);
            assert_eq!(Slots::new(concurrency).free(1, 0), Classes::NONE);
        }
    }

    #[test]
    fn tasks_that_wait_for_disks_take_up_no_slot_until_there_are_too_many() {
        let slots = Slots::new(32);
        assert_eq!(slots.free(COLD_TASKS_MAX, COLD_TASKS_MAX), Classes::ALL);
        assert_eq!(slots.free(COLD_TASKS_MAX + 32, COLD_TASKS_MAX + 32), Classes::NONE);
        assert_eq!(slots.free(40, 8), Classes::NONE);
        // A task may enter two lanes one after the other, never both at once; still, no underflow.
        assert_eq!(slots.free(1, 2), Classes::ALL);
    }
}
