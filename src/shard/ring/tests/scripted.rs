//! A kernel that answers as a test says: for what a real one does once in a year.

#![allow(unsafe_code, reason = "makes completions, as a kernel does")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use io_uring::{cqueue, squeue};

use super::super::config::{RingConfig, RingError};
use super::super::kernel::{EnterCounts, Features, Kernel, Wait};
use super::super::key::{Op, OpKey};
use super::super::{FileSlot, Ring};
use crate::base::mode::Mode;
use crate::base::time::Mono;

/// What was queued: the name of the operation and its code.
pub(super) type Queued = (Op, u32);

#[derive(Debug)]
pub(super) struct Scripted {
    queue: VecDeque<(OpKey, u32)>,
    /// In the kernel, in the order in which it took them.
    pub(super) taken: Vec<(OpKey, u32)>,
    cqes: VecDeque<cqueue::Entry>,
    queued_count: u64,
    counts: EnterCounts,
    /// Operations that the kernel takes at the next `enter`.
    pub(super) takes: usize,
    is_refusing: bool,
    pub(super) features: Features,
    pub(super) now: Cell<u64>,
    /// Completions and times that were waited for.
    pub(super) waits: Vec<(u32, Wait)>,
    pub(super) register_fails: Cell<Option<i32>>,
    pub(super) unregister_fails: Cell<Option<i32>>,
    /// The group whose registration fails, and why.
    pub(super) buffers_fail: Option<(u16, i32)>,
    buffers_registered: Cell<u32>,
}

impl Scripted {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            taken: Vec::new(),
            cqes: VecDeque::new(),
            queued_count: 0,
            counts: EnterCounts::default(),
            takes: usize::MAX,
            is_refusing: false,
            features: Features { zerocopy: true, absolute_waits: true, no_iowait: true },
            now: Cell::new(1_000_000_000),
            waits: Vec::new(),
            register_fails: Cell::default(),
            unregister_fails: Cell::default(),
            buffers_fail: None,
            buffers_registered: Cell::default(),
        }
    }

    /// Completes the oldest operation of a kind that the kernel has.
    pub(super) fn complete(&mut self, op: Op, result: i32, flags: u32) {
        let place = self.taken.iter().position(|(key, _)| key.op == op);
        let place = place.unwrap_or_else(|| panic!("no {op:?} among {:?}", self.taken));
        let (key, _) = self.taken[place];
        if flags & MORE == 0 {
            self.taken.remove(place);
        }
        self.cqes.push_back(cqe(key, result, flags));
    }

    /// The operations that the kernel has.
    pub(super) fn running(&self) -> Vec<Queued> {
        self.taken.iter().map(|(key, code)| (key.op, *code)).collect()
    }

    pub(super) fn pass_ms(&self, ms: u64) {
        self.now.set(self.now.get() + ms * 1_000_000);
    }
}

/// A ring on such a kernel.
pub(super) fn scripted() -> Ring<Scripted> {
    ring_on(Scripted::new()).unwrap()
}

pub(super) fn ring_on(kernel: Scripted) -> Result<Ring<Scripted>, RingError> {
    let config = RingConfig {
        sq_entries: 8,
        files_max: 8,
        stream_buffers: 2,
        datagram_buffers: 2,
        run_slots: 8,
        gso: Mode::Auto,
        zerocopy: Mode::On,
    };
    Ring::on(kernel, &config)
}

/// Any file that a ring has.
pub(super) fn any_file(ring: &mut Ring<Scripted>) -> FileSlot {
    ring.install(File::open("/dev/null").unwrap().into()).unwrap()
}

impl Kernel for Scripted {
    // SAFETY: the duties are the caller's, as the trait says; no pointer of an entry is used here.
    unsafe fn queue(&mut self, entry: squeue::Entry) {
        self.queued_count += 1;
        let key = OpKey::from_user_data(entry.get_user_data()).unwrap();
        self.queue.push_back((key, entry.get_opcode()));
    }

    fn link_last(&mut self) {}

    fn drop_queued(&mut self) {
        self.queue.clear();
    }

    fn in_kernel(&self) -> u32 {
        u32::try_from(self.taken.len() + self.cqes.len()).unwrap()
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
        8
    }

    fn features(&self) -> Features {
        self.features
    }

    fn enter(&mut self, want: u32, wait: Wait) -> Result<(), RingError> {
        self.counts.enters += 1;
        self.waits.push((want, wait));
        let takes = self.takes.min(self.queue.len());
        self.taken.extend(self.queue.drain(..takes));
        self.is_refusing = !self.queue.is_empty();
        self.counts.refusals += u64::from(self.is_refusing);
        Ok(())
    }

    fn has_cqe(&mut self) -> bool {
        !self.cqes.is_empty()
    }

    fn next_cqe(&mut self) -> Option<cqueue::Entry> {
        self.cqes.pop_front()
    }

    fn register(&self, _: u32, _: BorrowedFd<'_>) -> io::Result<()> {
        fails(self.register_fails.get())
    }

    fn unregister(&self, _: u32) -> io::Result<()> {
        fails(self.unregister_fails.get())
    }

    fn unregister_files(&self) -> io::Result<()> {
        Ok(())
    }

    // SAFETY: as for `queue`.
    unsafe fn register_buffers(&self, _: u64, _: u16, group: u16) -> io::Result<()> {
        self.buffers_registered.set(self.buffers_registered.get() + 1);
        fails(self.buffers_fail.filter(|(fails, _)| *fails == group).map(|(_, errno)| errno))
    }

    fn unregister_buffers(&self, _: u16) -> io::Result<()> {
        Ok(())
    }

    fn now(&self) -> Mono {
        Mono(self.now.get())
    }
}

fn fails(errno: Option<i32>) -> io::Result<()> {
    errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
}

fn cqe(key: OpKey, result: i32, flags: u32) -> cqueue::Entry {
    let (low, high) = (u64::from(result.cast_unsigned()), u64::from(flags));
    let entry = [key.as_user_data(), high << 32 | low];
    const { assert!(cfg!(target_endian = "little")) };
    // SAFETY: `transmute` requires a value that is valid as the other type, of its size: an entry
    // is the layout of the kernel's header, a number of 64 bits and two of 32, of which the first
    // is the lower half on a machine whose low bytes come first. Test: all of `edges`.
    unsafe { std::mem::transmute::<[u64; 2], cqueue::Entry>(entry) }
}

/// More completions of the operation follow.
pub(super) const MORE: u32 = 2;
/// The completion is the notice of a send without a copy.
pub(super) const NOTICE: u32 = 8;
