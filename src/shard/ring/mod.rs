//! The ring of a shard. Only this module gives pointers to io_uring; its API has none.
//!
//! ```text
//!   turn of the shard:  next_completion .. (reap)  ->  logic  ->  start_run, arm_* ..  ->  enter
//!                              ^                                                            |
//!                              +---------- completions ------- kernel <--- one system call -+
//! ```
//! Invariants:
//! - memory that the kernel may touch is not moved, changed or freed before the last completion of
//!   the operation was taken, which is the notice of a send without a copy; memory of operations
//!   that do not end when the ring is dropped is leaked;
//! - a file is closed only after the last completion of its slot; of a removed file only the ends
//!   of its runs are reported;
//! - sends of one chain start in order, and none starts after a failed one.
//!
//! Bounds: `RingConfig`. Packets and frames allocate nothing once each slot was used.
//! DESIGN section 6.

mod buffers;
mod bytes;
mod completion;
mod config;
mod connect;
mod end;
mod features;
mod files;
mod gather;
mod gso;
pub mod kernel;
mod key;
mod message;
mod receive;
mod retries;
mod routes;
mod run;
mod sealed;
mod stream;
#[cfg(test)]
mod tests;
mod uring;
mod zerocopy;

use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::cqueue;

pub use bytes::Received;
pub use completion::{Completion, SendFailure};
pub use config::{RangeOutside, RingConfig, RingError};
pub use files::FileSlot;
pub use run::{DATAGRAM_BYTES_MAX, RUN_PACKETS_MAX, Run};
pub use stream::StreamSend;
pub use uring::Uring;
pub use zerocopy::ZerocopyStats;

use buffers::BufferRing;
use bytes::BytePool;
use connect::ConnectSlots;
use files::Files;
use gso::GsoRoutes;
use kernel::{EnterCounts, Kernel, Wait};
use key::{Op, OpKey};
use receive::{DATAGRAM_BUFFER_BYTES, STREAM_BUFFER_BYTES, Shared};
use retries::{Again, Retries};
use run::{OpenChain, RunSlots};
use stream::StreamSlots;
use zerocopy::Zerocopy;

use crate::base::mode::Mode;
use crate::base::time::Mono;

/// The ring of one shard. It stays on the thread that made it.
pub struct Ring<K: Kernel = Uring> {
    /// Declared before `memory`, so that it is closed first.
    uring: K,
    /// Memory that the kernel has pointers to. `Drop` frees it when nothing is in flight, or leaks
    /// it.
    memory: ManuallyDrop<Memory>,
    files: Files,
    gso: GsoRoutes,
    zerocopy: Zerocopy,
    pool: Rc<BytePool>,
    chain: Option<OpenChain>,
    retries: Retries,
    /// Number of queued datagram sends whose result is not reaped. Each gets its result within the
    /// `enter` that starts it.
    sends_unreaped: u32,
    /// Of the sends queued since the last `enter`, those that have a notice besides. A device that
    /// lets go of memory at once gives it within the `enter`, too.
    notices_queued: u32,
    stats: RingStats,
}

struct Memory {
    runs: RunSlots,
    streams: StreamSlots,
    connects: ConnectSlots,
    stream_buffers: BufferRing,
    datagram_buffers: BufferRing,
    shared: Box<Shared>,
}

/// Counters since the ring was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingStats {
    /// System calls to submit and wait.
    pub enters: u64,
    /// System calls after which the kernel kept completions back: the completion queue was full.
    pub overflows: u64,
    /// Times that the kernel took no operation.
    pub refusals: u64,
    /// Receives that found no buffer and were armed again.
    pub buffer_shortages: u64,
    /// Operations other than runs that the kernel has cancelled and the ring did not.
    pub cancelled: u64,
    /// Datagrams too long or without a usable sender.
    pub datagrams_dropped: u64,
    /// Runs that failed because the route refuses segmentation.
    pub gso_refusals: u64,
    /// Times that accepting, receiving or closing was put off for lack of descriptors or memory.
    pub pauses: u64,
    /// Sends without a copy.
    pub zerocopy: ZerocopyStats,
}

impl Ring {
    /// Makes a ring on the calling thread, which must be the thread that uses it.
    ///
    /// # Errors
    /// The kernel refuses the ring, lacks an operation, or has no memory.
    pub fn new(config: &RingConfig) -> Result<Self, RingError> {
        Self::on(Uring::new(config)?, config)
    }
}

impl<K: Kernel> Ring<K> {
    /// Makes a ring on a kernel.
    ///
    /// # Errors
    /// The kernel refuses the buffers, or has no memory.
    pub fn on(uring: K, config: &RingConfig) -> Result<Self, RingError> {
        let stream_buffers =
            BufferRing::new(&uring, STREAM_GROUP, config.stream_buffers, STREAM_BUFFER_BYTES)?;
        let (count, bytes) = (config.datagram_buffers, DATAGRAM_BUFFER_BYTES);
        let datagram_buffers = match BufferRing::new(&uring, DATAGRAM_GROUP, count, bytes) {
            Ok(buffers) => buffers,
            Err(error) => {
                // The ring goes first, so that no group is left that names freed memory.
                drop(uring);
                return Err(error);
            }
        };
        let zerocopy = Zerocopy::new(config.zerocopy, uring.features().zerocopy);
        Ok(Self {
            uring,
            memory: ManuallyDrop::new(Memory {
                runs: RunSlots::new(config.run_slots),
                streams: StreamSlots::default(),
                connects: ConnectSlots::default(),
                stream_buffers,
                datagram_buffers,
                shared: Shared::new(),
            }),
            files: Files::new(config.files_max),
            gso: GsoRoutes::new(config.gso),
            zerocopy,
            pool: BytePool::new(),
            chain: None,
            retries: Retries::default(),
            sends_unreaped: 0,
            notices_queued: 0,
            stats: RingStats::default(),
        })
    }

    /// The kernel that the ring is on.
    #[must_use]
    pub fn kernel(&self) -> &K {
        &self.uring
    }

    /// Number of stream sends that have not ended.
    #[must_use]
    pub fn stream_send_count(&self) -> usize {
        self.memory.streams.in_use()
    }

    /// Names of the kernel features in use, for the banner.
    #[must_use]
    pub fn features(&self) -> Vec<&'static str> {
        let mut features = vec![
            "single issuer",
            "deferred task work",
            "registered files",
            "multishot accept and recvmsg",
            "provided buffers",
        ];
        if self.uring.features().no_iowait {
            features.push("no iowait");
        }
        features.push(match self.gso.mode() {
            Mode::Auto => "gso auto",
            Mode::On => "gso on",
            Mode::Off => "gso off",
        });
        features.push(match self.zerocopy.mode() {
            Mode::Auto => "zero copy auto",
            Mode::On => "zero copy on",
            Mode::Off => "zero copy off",
        });
        features.extend(self.uring.features().substitutes());
        features
    }

    /// Counters since the ring was made.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        let zerocopy = self.zerocopy.stats();
        let EnterCounts { enters, overflows, refusals } = self.uring.counts();
        RingStats { enters, overflows, refusals, zerocopy, ..self.stats }
    }

    /// Registers a descriptor and takes ownership of it.
    ///
    /// # Errors
    /// All slots are taken, or the kernel refuses; the descriptor is handed back.
    pub fn install(&mut self, fd: OwnedFd) -> Result<FileSlot, (OwnedFd, RingError)> {
        let full = RingError::Full { files_max: self.files.files_max() };
        let Some(index) = self.files.next_index() else { return Err((fd, full)) };
        match self.uring.register(index, fd.as_fd()) {
            Ok(()) => self.files.insert(fd).map_err(|fd| (fd, full)),
            Err(source) => Err((fd, RingError::Register { source })),
        }
    }

    /// Whether so many more descriptors have slots.
    #[must_use]
    pub fn has_room(&self, count: usize) -> bool {
        self.files.has_room(count)
    }

    /// The descriptor in a slot, for socket options and addresses.
    ///
    /// # Panics
    /// When the slot was removed.
    #[must_use]
    pub fn fd(&self, slot: FileSlot) -> BorrowedFd<'_> {
        let Some(fd) = self.files.fd(slot) else { panic!("{slot:?} was removed") };
        fd
    }

    /// The same descriptor for another thread: it stays open until that has let it go, too.
    ///
    /// # Panics
    /// When the slot was removed.
    #[must_use]
    pub fn share_fd(&self, slot: FileSlot) -> Arc<OwnedFd> {
        let Some(fd) = self.files.share(slot) else { panic!("{slot:?} was removed") };
        fd
    }

    /// Ends all operations of a slot, and closes the descriptor after the last completion. Only the
    /// ends of its runs are reported from now on. Operations queued before are still submitted, but
    /// a stream send that waits for its reader is cut: callers wait for `StreamSent` before. A slot
    /// is removed once.
    pub fn remove(&mut self, slot: FileSlot) {
        match self.files.close(slot) {
            Some(true) => self.queue_cancel(slot.index()),
            Some(false) => self.vacate(slot.index()),
            None => debug_assert!(false, "{slot:?} was removed before"),
        }
    }

    /// Submits all operations and waits for a completion, at most `wait_ns` (`None`: without a
    /// limit; 0: not at all). Results and notices of datagram sends do not end the wait, so that a
    /// turn takes one system call; where notices come late, others may wait for them, until the end
    /// of the wait. With such sends the wait lasts 2 ms at most, so that failures among them
    /// are seen. The caller reaps all completions before the next call.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    pub fn enter(&mut self, wait_ns: Option<u64>) -> Result<(), RingError> {
        let until_retry = self.try_again().map(|due| length_ns(self.uring.now(), due));
        let for_sends = (self.sends_unreaped > 0).then_some(SEND_REPORT_NS_MAX);
        let limits = [wait_ns, until_retry, for_sends];
        self.enter_and_wait(Wait::For(limits.into_iter().flatten().min()))
    }

    /// As `enter`, until `deadline`. Submission takes time inside the call, so a wait of a given
    /// length would end too late.
    ///
    /// # Errors
    /// As `enter`.
    pub fn enter_until(&mut self, now: Mono, deadline: Mono) -> Result<(), RingError> {
        if !self.uring.features().absolute_waits {
            return self.enter(Some(length_ns(now, deadline)));
        }
        let for_sends = Mono(now.0.saturating_add(SEND_REPORT_NS_MAX));
        let for_sends = (self.sends_unreaped > 0).then_some(for_sends);
        let limits = self.try_again().into_iter().chain(for_sends);
        self.enter_and_wait(Wait::Until(limits.fold(deadline, Mono::min)))
    }

    /// Queues what is to be tried again now. Returns when the next pause ends.
    fn try_again(&mut self) -> Option<Mono> {
        if self.retries.is_empty() {
            return None;
        }
        let now = self.uring.now();
        while let Some((file, again)) = self.retries.take_due(now) {
            match again {
                Again::Arm(arm) if self.files.is_ending(file.index(), arm) => {
                    self.files.end_arm(file.index(), arm);
                }
                Again::Arm(arm) if self.files.is_open(file) => self.queue_arm(file.index(), arm),
                Again::Send(index) => self.send_again(index),
                Again::Cancel if self.files.closing_ops(file) > Some(0) => {
                    self.queue_cancel(file.index());
                }
                Again::Unregister if self.files.closing_ops(file) == Some(0) => {
                    self.vacate(file.index());
                }
                Again::End if self.files.is_open(file) => self.end_again(file),
                // The file was closed meanwhile.
                Again::Arm(_) | Again::Cancel | Again::End | Again::Unregister => {}
            }
        }
        self.retries.next_due()
    }

    /// Has something tried again after a pause.
    fn pause(&mut self, index: u32, again: Again) {
        self.stats.pauses += 1;
        self.retries.add(self.uring.now(), self.files.slot_at(index), again);
    }

    fn enter_and_wait(&mut self, wait: Wait) -> Result<(), RingError> {
        self.chain = None;
        let sends = self.sends_unreaped;
        let notices = std::mem::take(&mut self.notices_queued);
        if wait == Wait::For(Some(0)) || self.uring.has_cqe() {
            return self.uring.enter(sends, Wait::For(Some(0)));
        }
        self.uring.enter(sends.saturating_add(notices).saturating_add(1), wait)
    }

    /// Whether the kernel has datagram sends without a result. Such sends never wait: once all
    /// completions are reaped, the rest are linked runs that have not started. Sends that the
    /// kernel did not take do not count: they are queued, and later ones queue behind them.
    #[must_use]
    pub fn has_unsent_runs(&self) -> bool {
        self.sends_unreaped > 0 && !self.uring.is_refusing()
    }

    /// Takes the next completion; `None`: there is none until the next `enter`.
    pub fn next_completion(&mut self) -> Option<Completion> {
        while let Some(cqe) = self.uring.next_cqe() {
            if let Some(completion) = self.handle(&cqe) {
                return Some(completion);
            }
        }
        None
    }

    fn handle(&mut self, cqe: &cqueue::Entry) -> Option<Completion> {
        let Some(OpKey { op, index }) = OpKey::from_user_data(cqe.user_data()) else {
            panic!("completion {:#x} is of no operation", cqe.user_data());
        };
        match op {
            Op::Arm(arm) => self.armed_completed(index, arm, cqe),
            Op::Run => self.run_completed(index, cqe),
            Op::Stream => self.stream_completed(index, cqe),
            Op::Connect => self.connect_completed(index, cqe),
            Op::Cancel => {
                // Nothing was found, or it is ending: both are ends.
                let errno = cqe.result().saturating_neg();
                let is_refused = errno > 0 && !matches!(errno, libc::ENOENT | libc::EALREADY);
                if is_refused {
                    let is_closing = self.files.is_closing(index);
                    self.pause(index, if is_closing { Again::Cancel } else { Again::End });
                }
                self.end_op(index);
                None
            }
        }
    }

    /// Counts an operation on a file as completed.
    fn end_op(&mut self, index: u32) {
        if self.files.end_op(index) {
            self.vacate(index);
        }
    }

    fn vacate(&mut self, index: u32) {
        // While the kernel has the file, its peer would not see the end.
        if self.uring.unregister(index).is_err() {
            return self.pause(index, Again::Unregister);
        }
        self.gso.forget(index);
        self.zerocopy.forget(index);
        drop(self.files.vacate(index));
    }
}

impl<K: Kernel> fmt::Debug for Ring<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("in_kernel", &self.uring.in_kernel()).finish_non_exhaustive()
    }
}

/// Nanoseconds from `now` to `due`.
fn length_ns(now: Mono, due: Mono) -> u64 {
    u64::try_from(due.since(now).as_nanos()).unwrap_or(u64::MAX)
}

/// Longest time until a failed datagram send is noticed: one slot of the timer wheel.
const SEND_REPORT_NS_MAX: u64 = 2_000_000;

const STREAM_GROUP: u16 = 1;
const DATAGRAM_GROUP: u16 = 2;
