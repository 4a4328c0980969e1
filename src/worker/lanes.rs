//! Who may wait for a disk: a lane for each device, and in it a few places for each file.
//!
//! ```text
//!  bytes in memory      -----------------------------------------------> go on, at once
//!  bytes on device 8:1  --> line --> [8 of film a][8 of film b] .. 32 --> read --> go on
//!  bytes on device 0:47 --> line --> [8 of film z] ..               32 --> read --> go on
//! ```
//! A task that needs bytes which are not in memory takes a place here before it asks the ring for
//! them, and no longer counts as one that the worker has under way (see `serve`). So a window whose
//! file is in memory is built and answered while any number of others wait for their disks, a file
//! that does not answer holds up its own sessions, and a device that does not answer those of its
//! own files.
//!
//! Invariants: places are given in the order in which they were asked for, as far as the limits of
//! file and device allow; every place is given back, whatever becomes of its task (`Place::drop`).
//! Bounds: `FILE_READS_MAX`, `DEVICE_READS_MAX`; the line is as long as the worker takes tasks.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::notice::Notice;
use crate::library::title::FileIdentity;
use crate::metrics::cells::WorkerCells;

/// The lanes of one worker.
#[derive(Debug)]
pub(super) struct Lanes {
    devices: RefCell<HashMap<u64, Lane>>,
    count: Cell<usize>,
    /// Told when a task enters: the worker may take another one.
    notice: Rc<Notice>,
    counts: Arc<WorkerCells>,
}

/// A device's.
#[derive(Debug, Default)]
struct Lane {
    reading: usize,
    /// Of these, by inode.
    files: HashMap<u64, usize>,
    line: VecDeque<(u64, Rc<Turn>)>,
}

#[derive(Debug, Default)]
struct Turn {
    is_given: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Leave to read from a disk, given back on drop.
#[derive(Debug)]
pub(super) struct Place<'a> {
    lanes: &'a Lanes,
    device: u64,
    inode: u64,
    turn: Rc<Turn>,
}

impl Lanes {
    pub(super) fn new(notice: Rc<Notice>, counts: Arc<WorkerCells>) -> Self {
        Self { devices: RefCell::default(), count: Cell::new(0), notice, counts }
    }

    /// Tasks that read from a disk or wait for their turn to.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    /// Waits until `file` may be read from its disk.
    pub(super) async fn enter(&self, file: FileIdentity) -> Place<'_> {
        let (device, inode) = (file.device, file.inode);
        self.count.set(self.count.get() + 1);
        self.counts.reads_cold.add(1);
        self.counts.tasks_cold.add(1);
        self.notice.give();
        let place = Place { lanes: self, device, inode, turn: Rc::default() };
        self.devices.borrow_mut().entry(device).or_default().arrive(inode, &place.turn);
        place.turn.wait().await;
        place
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let lanes = self.lanes;
        lanes.count.set(lanes.count.get().saturating_sub(1));
        lanes.counts.tasks_cold.sub(1);
        let mut devices = lanes.devices.borrow_mut();
        let Some(lane) = devices.get_mut(&self.device) else { return };
        let next = lane.leave(self.inode, &self.turn);
        if lane.reading == 0 && lane.line.is_empty() {
            devices.remove(&self.device);
        }
        drop(devices);
        if let Some(turn) = next {
            turn.give();
        }
    }
}

impl Lane {
    fn arrive(&mut self, inode: u64, turn: &Rc<Turn>) {
        // Whoever stands in line already could not have gone either.
        if self.has_room(inode) {
            self.take(inode);
            turn.give();
        } else {
            self.line.push_back((inode, Rc::clone(turn)));
        }
    }

    /// Returns whose turn it is now. One that leaves makes room for one.
    fn leave(&mut self, inode: u64, turn: &Rc<Turn>) -> Option<Rc<Turn>> {
        if !turn.is_given.get() {
            self.line.retain(|(_, other)| !Rc::ptr_eq(other, turn));
            return None;
        }
        self.reading = self.reading.saturating_sub(1);
        if let Some(reading) = self.files.get_mut(&inode) {
            *reading = reading.saturating_sub(1);
            if *reading == 0 {
                self.files.remove(&inode);
            }
        }
        let place = self.line.iter().position(|(inode, _)| self.has_room(*inode))?;
        let (inode, next) = self.line.remove(place)?;
        self.take(inode);
        Some(next)
    }

    fn has_room(&self, inode: u64) -> bool {
        self.reading < DEVICE_READS_MAX
            && self.files.get(&inode).is_none_or(|reading| *reading < FILE_READS_MAX)
    }

    fn take(&mut self, inode: u64) {
        self.reading += 1;
        *self.files.entry(inode).or_default() += 1;
    }
}

impl Turn {
    fn give(&self) {
        self.is_given.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        std::future::poll_fn(|context| {
            if self.is_given.get() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Reads of one device under way: more do not make a disk faster, and fewer leave it idle.
const DEVICE_READS_MAX: usize = 32;

/// Reads of one file under way: two windows each of four sessions that start in it at once. A
/// quarter of the device's, so that the files that answer go on beside one that does not.
pub(super) const FILE_READS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};

    use proptest::prelude::*;

    use super::*;

    /// Somebody in line: which file, since when, and his wait.
    type Waiting<'a> = (FileIdentity, usize, Pin<Box<dyn Future<Output = Place<'a>> + 'a>>);

    fn file(device: u64, inode: u64) -> FileIdentity {
        FileIdentity { device, inode, bytes: 0, modified_ns: 0 }
    }

    fn lanes() -> Lanes {
        Lanes::new(Rc::default(), Arc::default())
    }

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn take_all(lanes: &Lanes, count: usize, file: FileIdentity) -> Vec<Place<'_>> {
        let one = |_| match poll(pin!(lanes.enter(file))) {
            Poll::Ready(place) => place,
            Poll::Pending => panic!("no room"),
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn file_that_does_not_answer_leaves_room_for_others_on_its_device() {
        let lanes = lanes();
        let stuck = take_all(&lanes, FILE_READS_MAX, file(1, 1));
        let mut next = pin!(lanes.enter(file(1, 1)));
        assert!(poll(next.as_mut()).is_pending());
        drop(take_all(&lanes, DEVICE_READS_MAX / FILE_READS_MAX, file(1, 2)));
        assert_eq!(lanes.count(), FILE_READS_MAX + 1);
        drop(stuck);
        assert!(poll(next.as_mut()).is_ready());
    }

    #[test]
    fn device_that_does_not_answer_leaves_other_devices_alone() {
        let lanes = lanes();
        let files = (0..).take(DEVICE_READS_MAX / FILE_READS_MAX);
        let stuck: Vec<_> =
            files.flat_map(|inode| take_all(&lanes, FILE_READS_MAX, file(1, inode))).collect();
        let mut next = pin!(lanes.enter(file(1, 99)));
        assert!(poll(next.as_mut()).is_pending());
        drop(take_all(&lanes, FILE_READS_MAX, file(2, 99)));
        drop(stuck);
        let Poll::Ready(place) = poll(next.as_mut()) else { panic!("it is his turn") };
        assert!(lanes.devices.borrow().len() == 1 && lanes.count() == 1);
        drop(place);
        assert!(lanes.devices.borrow().is_empty());
    }

    #[test]
    fn task_that_gives_up_in_line_leaves_nothing_behind() {
        let lanes = lanes();
        let held = take_all(&lanes, FILE_READS_MAX, file(1, 1));
        {
            let mut gone = pin!(lanes.enter(file(1, 1)));
            assert!(poll(gone.as_mut()).is_pending());
        }
        assert_eq!(lanes.count(), FILE_READS_MAX);
        drop(held);
        assert!(lanes.devices.borrow().is_empty());
        assert_eq!((lanes.count(), lanes.counts.tasks_cold.value()), (0, 0));
        assert_eq!(lanes.counts.reads_cold.value(), FILE_READS_MAX as u64 + 1);
    }

    proptest! {
        /// Whatever comes and goes: the limits hold, nobody waits who could go, and each file's
        /// readers go in the order in which they came.
        #[test]
        fn places_keep_their_limits_and_their_order(
            steps in prop::collection::vec((0_u64..2, 0_u64..6, prop::bool::ANY), 1..300),
        ) {
            let lanes = lanes();
            let mut here: Vec<Waiting<'_>> = Vec::new();
            let mut placed: Vec<(FileIdentity, Place<'_>)> = Vec::new();
            let mut went: HashMap<FileIdentity, usize> = HashMap::new();
            for (number, (device, inode, leaves)) in steps.into_iter().enumerate() {
                let file = file(device, inode);
                if leaves {
                    if let Some(place) = placed.iter().position(|(other, _)| *other == file) {
                        placed.remove(place);
                    }
                } else {
                    here.push((file, number, Box::pin(lanes.enter(file))));
                }
                let mut still = Vec::new();
                for (file, number, mut future) in here.drain(..) {
                    match poll(future.as_mut()) {
                        Poll::Ready(place) => {
                            prop_assert!(went.insert(file, number).is_none_or(|last| last < number));
                            placed.push((file, place));
                        }
                        Poll::Pending => still.push((file, number, future)),
                    }
                }
                here = still;
                prop_assert_eq!(lanes.count(), here.len() + placed.len());
                let reading = |is_file: &dyn Fn(&FileIdentity) -> bool| {
                    placed.iter().filter(|(file, _)| is_file(file)).count()
                };
                for (file, ..) in &here {
                    let of_file = reading(&|other| other == file);
                    let of_device = reading(&|other| other.device == file.device);
                    prop_assert!(of_file == FILE_READS_MAX || of_device == DEVICE_READS_MAX);
                }
                for (file, _) in &placed {
                    prop_assert!(reading(&|other| other == file) <= FILE_READS_MAX);
                    let of_device = reading(&|other| other.device == file.device);
                    prop_assert!(of_device <= DEVICE_READS_MAX);
                }
            }
        }
    }
}
