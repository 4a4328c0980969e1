//! The system calls of the ring: submission, the wait, completions, registered files.
//!
//! ```text
//! queue() -> VecDeque --enter--> submission queue --> kernel --> completion queue -> next_cqe()
//! ```
//! Operations wait in a queue of the program, and `enter` hands them over in order. So adding an
//! operation never fails for lack of room, and no chain of linked operations is cut: the kernel
//! ends a chain where a submission ends.
//!
//! When the kernel takes no operation (no memory; completions must be reaped first), the queue
//! stays as it is, and `enter` waits for completions instead, `REFUSED_NS` at most: the shard
//! neither spins nor stalls. A chain that the kernel takes in two parts is cut there.
//!
//! Invariants: operations start in the order in which they were queued. `in_kernel` is exact.
//! Bound: the queue has at most one entry for each slot and armed way, which are bounded.
#![allow(unsafe_code, reason = "system calls with pointers; a room with unsafe code")]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue, types};

use super::config::{RingConfig, RingError};
use super::features::{Features, Offer};
use super::kernel::{EnterCounts, Kernel, Wait};
use super::message::empty_message;
use super::zerocopy::REPORT_USAGE;
use crate::base::time::Mono;

/// One io_uring with the queue before it, and the system calls of the product.
pub struct Uring {
    uring: IoUring,
    queue: VecDeque<Queued>,
    in_kernel: u32,
    queued_count: u64,
    enter_flags: EnterFlags,
    counts: EnterCounts,
    is_refusing: bool,
    features: Features,
}

struct Queued {
    entry: squeue::Entry,
    /// The next entry of the queue starts only when this one has succeeded.
    links_next: bool,
}

impl Uring {
    /// Makes an io_uring.
    ///
    /// # Errors
    /// The kernel refuses it, lacks an operation, or has no memory.
    pub fn new(config: &RingConfig) -> Result<Self, RingError> {
        let (uring, features) = open(config.sq_entries)?;
        let files_max = config.files_max;
        uring.submitter().register_files_sparse(files_max).map_err(|source| {
            match source.raw_os_error() {
                Some(libc::ENOMEM) => RingError::NoMemory { what: "registered files", source },
                _ => RingError::Files { files_max, source },
            }
        })?;
        let mut enter_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if features.no_iowait {
            // A shard that waits for its next packet's time is idle, not waiting for a disk.
            enter_flags |= EnterFlags::NO_IOWAIT;
        }
        let queue = VecDeque::with_capacity(config.sq_entries as usize);
        let (in_kernel, queued_count, counts) = (0, 0, EnterCounts::default());
        Ok(Self {
            uring,
            queue,
            in_kernel,
            queued_count,
            enter_flags,
            counts,
            is_refusing: false,
            features,
        })
    }

    /// Asks the kernel whether it has what a shard's ring needs, with a small ring that is closed
    /// again.
    ///
    /// # Errors
    /// The kernel refuses it, lacks an operation, or has no memory.
    pub fn check() -> Result<(), RingError> {
        open(CHECK_ENTRIES).map(drop)
    }

    /// Moves entries to the submission queue, chains as a whole. True: the queue is empty.
    fn fill(&mut self) -> bool {
        let mut submission = self.uring.submission();
        while !self.queue.is_empty() {
            let chain = 1 + self.queue.iter().take_while(|queued| queued.links_next).count();
            let chain = chain.min(self.queue.len()).min(submission.capacity());
            if submission.capacity() - submission.len() < chain {
                return false;
            }
            for queued in self.queue.drain(..chain) {
                let link =
                    if queued.links_next { squeue::Flags::IO_LINK } else { squeue::Flags::empty() };
                // SAFETY: `push` requires the entry's pointers to be valid for the whole operation.
                // Whoever called `Uring::queue` has promised that; nothing is changed here but a
                // flag. Tests: all of `ring::tests`.
                let pushed = unsafe { submission.push(&queued.entry.flags(link)) };
                assert!(pushed.is_ok(), "room was checked");
                self.in_kernel += 1;
            }
        }
        true
    }

    /// Makes the system call with all that is in the submission queue (`submits`), or without.
    fn enter_once(&mut self, submits: bool, want: u32, wait: Wait) -> Result<(), RingError> {
        self.counts.enters += 1;
        let (ns, kind) = match wait {
            Wait::For(ns) => (ns, EnterFlags::empty()),
            Wait::Until(Mono(ns)) => (Some(ns), EnterFlags::ABS_TIMER),
        };
        let time = ns.map(|ns| Timespec::from(std::time::Duration::from_nanos(ns)));
        let args = SubmitArgs::new();
        let args = time.as_ref().map_or(args, |time| args.timespec(time));
        let submit = if submits { self.submission_len() } else { 0 };
        let want = want.min(self.uring.params().cq_entries());
        let flags = (self.enter_flags | kind).bits();
        // SAFETY: `enter` requires parameters as io_uring_enter(2) describes them.
        // - `submit` is the number of entries in the submission queue.
        // - EXT_ARG is set, so the argument is an io_uring_getevents_arg, which `SubmitArgs` is.
        // - `time` outlives the call, and the kernel only reads it.
        // Test: `wait_ends_by_time_without_completions`.
        let result = unsafe { self.uring.submitter().enter(submit, want, flags, Some(&args)) };
        // The kernel takes what it keeps back at the next call, as far as there is room.
        self.counts.overflows += u64::from(self.uring.submission().cq_overflow());
        let count = self.uring.completion().overflow();
        match result {
            _ if count > 0 => Err(RingError::CompletionsLost { count }),
            Err(source) if !is_passing(&source) => Err(RingError::Enter { source }),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn submission_len(&mut self) -> u32 {
        u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX)
    }

    /// Waits a little for completions, because the kernel takes no operation.
    fn enter_refused(&mut self, want: u32, wait: Wait) -> Result<(), RingError> {
        self.counts.refusals += 1;
        let ns = match wait {
            Wait::For(Some(ns)) => ns.min(REFUSED_NS),
            Wait::For(None) | Wait::Until(_) => REFUSED_NS,
        };
        if ns == 0 || self.has_cqe() {
            return Ok(());
        }
        self.enter_once(false, want.min(1), Wait::For(Some(ns)))
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("in_kernel", &self.in_kernel).finish_non_exhaustive()
    }
}

impl Kernel for Uring {
    // SAFETY: the duties are the caller's, as the trait says; the entry is handed over unchanged.
    unsafe fn queue(&mut self, entry: squeue::Entry) {
        self.queued_count += 1;
        self.queue.push_back(Queued { entry, links_next: false });
    }

    fn link_last(&mut self) {
        if let Some(last) = self.queue.back_mut() {
            last.links_next = true;
        }
    }

    fn drop_queued(&mut self) {
        self.queue.clear();
    }

    fn in_kernel(&self) -> u32 {
        self.in_kernel
    }

    fn queued_count(&self) -> u64 {
        self.queued_count
    }

    fn is_refusing(&self) -> bool {
        self.is_refusing
    }

    fn counts(&self) -> EnterCounts {
        self.counts
    }

    fn sq_entries(&self) -> u32 {
        self.uring.params().sq_entries()
    }

    fn features(&self) -> Features {
        self.features
    }

    fn enter(&mut self, want: u32, wait: Wait) -> Result<(), RingError> {
        loop {
            let is_all = self.fill();
            let before = self.submission_len();
            let (now_want, now_wait) = if is_all { (want, wait) } else { (0, NO_WAIT) };
            self.enter_once(true, now_want, now_wait)?;
            let left = self.submission_len();
            self.is_refusing = left > 0 && left == before;
            if left == 0 && is_all {
                return Ok(());
            }
            // Each round takes at least one operation.
            if self.is_refusing {
                return self.enter_refused(want, wait);
            }
        }
    }

    fn has_cqe(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    fn next_cqe(&mut self) -> Option<cqueue::Entry> {
        let cqe = self.uring.completion().next()?;
        if !cqueue::more(cqe.flags()) {
            self.in_kernel -= 1;
        }
        Some(cqe)
    }

    fn register(&self, index: u32, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.uring.submitter().register_files_update(index, &[fd.as_raw_fd()]).map(drop)
    }

    fn unregister(&self, index: u32) -> io::Result<()> {
        self.uring.submitter().register_files_update(index, &[-1]).map(drop)
    }

    fn unregister_files(&self) -> io::Result<()> {
        self.uring.submitter().unregister_files()
    }

    // SAFETY: the duties are the caller's, as the trait says.
    unsafe fn register_buffers(&self, address: u64, count: u16, group: u16) -> io::Result<()> {
        // SAFETY: the duties are those of this function, and the caller's.
        // Test: `drop_with_operations_in_flight_frees_everything`.
        unsafe { self.uring.submitter().register_buf_ring_with_flags(address, count, group, 0) }
    }

    fn unregister_buffers(&self, group: u16) -> io::Result<()> {
        self.uring.submitter().unregister_buf_ring(group)
    }
}

/// Makes an io_uring, and finds out what its kernel has.
fn open(entries: u32) -> Result<(IoUring, Features), RingError> {
    let mut uring = build(entries)?;
    let params = uring.params();
    let offer = Offer {
        has_timed_waits: params.is_feature_ext_arg(),
        drops_no_completion: params.is_feature_nodrop(),
        // Came with the same kernel, and has no bit of its own.
        has_absolute_waits: params.is_feature_min_timeout(),
        has_no_iowait: params.is_feature_no_iowait(),
    };
    // Old kernels and seccomp profiles do not have all operations.
    let mut probe = Probe::new();
    let known = uring.submitter().register_probe(&mut probe);
    known.map_err(|source| RingError::Unavailable { source })?;
    let mut features = offer.judge(|code| probe.is_supported(code))?;
    features.zerocopy = features.zerocopy && reports_usage(&mut uring)?;
    Ok((uring, features))
}

fn build(entries: u32) -> Result<IoUring, RingError> {
    let built = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(entries.saturating_mul(4))
        .build(entries);
    built.map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) => {
            RingError::KernelTooOld { missing: "deferred task work", since: "6.1" }
        }
        Some(libc::ENOMEM) => RingError::NoMemory { what: "queues", source },
        _ => RingError::Unavailable { source },
    })
}

/// Whether notices of sends without a copy say if the bytes were copied after all (Linux 6.2). No
/// probe tells: a send on no socket is refused for its flag, or for the socket.
fn reports_usage(uring: &mut IoUring) -> Result<bool, RingError> {
    let unavailable = |source| RingError::Unavailable { source };
    let message = empty_message();
    let send = opcode::SendMsgZc::new(types::Fd(-1), &raw const message).ioprio(REPORT_USAGE);
    // SAFETY: `push` requires the entry's pointer to be valid for the whole operation: it was
    // copied when the operation was submitted below, before the function ends; if it could not be
    // submitted, the ring is closed by the caller without submitting it.
    // Test: `kernel_has_what_it_says`.
    let pushed = unsafe { uring.submission().push(&send.build()) };
    assert!(pushed.is_ok(), "the submission queue is empty");
    let mut is_known = false;
    loop {
        uring.submitter().submit_and_wait(1).map_err(unavailable)?;
        let cqe = uring.completion().next();
        let cqe = cqe.ok_or_else(|| unavailable(io::ErrorKind::Interrupted.into()))?;
        is_known |= cqe.result() == -libc::EBADF;
        // A notice may follow, also of a send that was refused.
        if !cqueue::more(cqe.flags()) {
            return Ok(is_known);
        }
    }
}

/// Whether a failed `io_uring_enter` has changed nothing for good: the time is over; a signal came;
/// completions must be reaped first; there is no memory for an operation now. What was not
/// submitted stays in the queue.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
    )
}

const NO_WAIT: Wait = Wait::For(Some(0));

/// How long a kernel that takes no operation is waited for: a slot of the timer wheel.
const REFUSED_NS: u64 = 1_000_000;

/// Entries of the ring that is made to ask what the kernel has.
const CHECK_ENTRIES: u32 = 8;
