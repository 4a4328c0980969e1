//! The system calls of the ring: submission, the wait, completions, registered files.
//!
//! ```text
//! queue() -> VecDeque --enter--> submission queue --> kernel --> completion queue -> next_cqe()
//! ```
//! Operations wait in a queue of the program, and `enter` hands them over in order. So adding an
//! operation never fails for lack of room, and no chain of linked operations is cut: the kernel
//! ends a chain where a submission ends.
//!
//! Invariants: operations start in the order in which they were queued. `in_kernel` is exact.
//! Bound: the queue has at most one entry for each slot and armed way, which are bounded.
#![allow(unsafe_code, reason = "system calls with pointers; a room with unsafe code")]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};

use super::config::{RingConfig, RingError};
use super::kernel::{Kernel, Wait};
use crate::base::time::Mono;

/// One io_uring with the queue before it, and the system calls of the product.
pub struct Uring {
    uring: IoUring,
    queue: VecDeque<Queued>,
    in_kernel: u32,
    queued_count: u64,
    enter_flags: EnterFlags,
    enters: u64,
    has_zerocopy: bool,
    has_absolute_waits: bool,
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
        let uring = build(config)?;
        let params = uring.params();
        if !params.is_feature_ext_arg() || !params.is_feature_nodrop() {
            return Err(RingError::KernelTooOld { missing: "timed waits" });
        }
        let has_zerocopy = probe(&uring)?;
        uring
            .submitter()
            .register_files_sparse(config.files_max)
            .map_err(|source| RingError::Files { files_max: config.files_max, source })?;
        let mut enter_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if params.is_feature_no_iowait() {
            // A shard that waits for its next packet's time is idle, not waiting for a disk.
            enter_flags |= EnterFlags::NO_IOWAIT;
        }
        let queue = VecDeque::with_capacity(config.sq_entries as usize);
        let (in_kernel, queued_count, enters) = (0, 0, 0);
        // Came with the same kernel, Linux 6.12, and has no bit of its own.
        let has_absolute_waits = uring.params().is_feature_min_timeout();
        Ok(Self {
            uring,
            queue,
            in_kernel,
            queued_count,
            enter_flags,
            enters,
            has_zerocopy,
            has_absolute_waits,
        })
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

    fn enter_once(&mut self, want: u32, wait: Wait) -> io::Result<()> {
        self.enters += 1;
        let (ns, kind) = match wait {
            Wait::For(ns) => (ns, EnterFlags::empty()),
            Wait::Until(Mono(ns)) => (Some(ns), EnterFlags::ABS_TIMER),
        };
        let time = ns.map(|ns| Timespec::from(std::time::Duration::from_nanos(ns)));
        let args = SubmitArgs::new();
        let args = time.as_ref().map_or(args, |time| args.timespec(time));
        let submit = u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX);
        let want = want.min(self.uring.params().cq_entries());
        let flags = (self.enter_flags | kind).bits();
        // SAFETY: `enter` requires parameters as io_uring_enter(2) describes them.
        // - `submit` is the number of entries in the submission queue.
        // - EXT_ARG is set, so the argument is an io_uring_getevents_arg, which `SubmitArgs` is.
        // - `time` outlives the call, and the kernel only reads it.
        // Test: `wait_ends_by_time_without_completions`.
        let result = unsafe { self.uring.submitter().enter(submit, want, flags, Some(&args)) };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The time is over; a signal came; the completion queue must be reaped first; no
                // memory for an operation now. What was not submitted stays in the queue.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
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

    fn enters(&self) -> u64 {
        self.enters
    }

    fn sq_entries(&self) -> u32 {
        self.uring.params().sq_entries()
    }

    fn has_zerocopy(&self) -> bool {
        self.has_zerocopy
    }

    fn has_no_iowait(&self) -> bool {
        self.enter_flags.contains(EnterFlags::NO_IOWAIT)
    }

    fn has_absolute_waits(&self) -> bool {
        self.has_absolute_waits
    }

    fn enter(&mut self, want: u32, wait: Wait) -> Result<(), RingError> {
        loop {
            let all = self.fill();
            let room_before = self.uring.submission().len();
            let (want, wait) = if all { (want, wait) } else { (0, Wait::For(Some(0))) };
            let result = self.enter_once(want, wait);
            let progress = self.uring.submission().len() < room_before;
            match result {
                Ok(()) if all => return Ok(()),
                Ok(()) if progress => {}
                // The kernel takes no more now: completions must be reaped first.
                Ok(()) => return Ok(()),
                Err(source) => return Err(RingError::Enter { source }),
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

fn build(config: &RingConfig) -> Result<IoUring, RingError> {
    let built = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(config.sq_entries.saturating_mul(4))
        .build(config.sq_entries);
    built.map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) => RingError::KernelTooOld { missing: "deferred task work" },
        Some(libc::ENOMEM) => RingError::NoMemory { source },
        _ => RingError::Unavailable { source },
    })
}

/// Checks at the start for operations that old kernels and seccomp profiles do not allow. Returns
/// whether there are sends without a copy.
fn probe(uring: &IoUring) -> Result<bool, RingError> {
    let mut probe = Probe::new();
    let known = uring.submitter().register_probe(&mut probe);
    known.map_err(|source| RingError::Unavailable { source })?;
    let needed = [
        (opcode::AcceptMulti::CODE, "accept"),
        (opcode::Recv::CODE, "recv"),
        (opcode::RecvMsgMulti::CODE, "recvmsg"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::Read::CODE, "read"),
        (opcode::Timeout::CODE, "timeout"),
        (opcode::AsyncCancel2::CODE, "cancel"),
        (opcode::Connect::CODE, "connect"),
    ];
    match needed.into_iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, missing)) => Err(RingError::KernelTooOld { missing }),
        None => Ok(probe.is_supported(opcode::SendMsgZc::CODE)),
    }
}
