//! The table of registered files: the descriptor of each slot, and the operations in flight on it.
//!
//! ```text
//! vacant --insert--> open --close--> closing --last op completed--> vacant (next generation)
//! ```
//! Invariants: a descriptor is closed, and its slot used again, only when no operation refers to
//! it; a `FileSlot` of an earlier generation finds nothing.
//! Bound: `files_max` slots.

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::key::Arm;

/// A registered file of one ring.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileSlot {
    index: u32,
    generation: u32,
}

impl FileSlot {
    /// Place in the ring's table. Places are small and dense: callers may index tables by them.
    #[must_use]
    pub fn index(self) -> u32 {
        self.index
    }
}

impl Default for FileSlot {
    /// A slot that names no file.
    fn default() -> Self {
        Self { index: u32::MAX, generation: u32::MAX }
    }
}

impl fmt::Debug for FileSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSlot({}.{})", self.index, self.generation)
    }
}

/// The registered files of one ring.
#[derive(Debug)]
pub(super) struct Files {
    entries: Vec<FileEntry>,
    vacant: Vec<u32>,
    files_max: u32,
}

#[derive(Debug, Default)]
struct FileEntry {
    fd: Option<Arc<OwnedFd>>,
    generation: u32,
    closing: bool,
    /// Operations that name this file, queued or in the kernel.
    in_flight: u32,
    armed: [bool; Arm::ALL.len()],
    tokens: [u32; Arm::ALL.len()],
    stream_busy: bool,
    /// Slot of the stream send that was begun last.
    stream: u32,
    /// Ways that are being ended, and not armed again.
    ends: [bool; Arm::ALL.len()],
    /// Ways that the ring has cancelled, and that have not completed yet.
    cancels: [bool; Arm::ALL.len()],
    /// Stream sends may end early, and are gone on with.
    has_kernel_tls: bool,
}

impl Files {
    pub(super) fn new(files_max: u32) -> Self {
        Self { entries: Vec::new(), vacant: Vec::new(), files_max }
    }

    pub(super) fn files_max(&self) -> u32 {
        self.files_max
    }

    /// Index that the next `insert` takes; `None` when all are taken.
    pub(super) fn next_index(&self) -> Option<u32> {
        self.vacant.last().copied().or_else(|| {
            let next = u32::try_from(self.entries.len()).ok()?;
            (next < self.files_max).then_some(next)
        })
    }

    /// Fills the slot that `next_index` named.
    pub(super) fn insert(&mut self, fd: OwnedFd) -> Result<FileSlot, OwnedFd> {
        let Some(index) = self.next_index() else { return Err(fd) };
        if self.vacant.pop().is_none() {
            self.entries.push(FileEntry::default());
        }
        let Some(entry) = self.entries.get_mut(index as usize) else { return Err(fd) };
        entry.fd = Some(Arc::new(fd));
        Ok(FileSlot { index, generation: entry.generation })
    }

    pub(super) fn is_open(&self, slot: FileSlot) -> bool {
        self.open(slot).is_some()
    }

    pub(super) fn fd(&self, slot: FileSlot) -> Option<BorrowedFd<'_>> {
        self.open(slot)?.fd.as_ref().map(|fd| fd.as_fd())
    }

    pub(super) fn share(&self, slot: FileSlot) -> Option<Arc<OwnedFd>> {
        self.open(slot)?.fd.clone()
    }

    /// Marks a slot as armed. False: it is not open, or armed in this way already.
    pub(super) fn start_arm(&mut self, slot: FileSlot, arm: Arm, token: u32) -> bool {
        let Some(entry) = self.open_mut(slot) else { return false };
        let armed = &mut entry.armed[arm.place()];
        if *armed {
            return false;
        }
        *armed = true;
        entry.tokens[arm.place()] = token;
        true
    }

    /// Marks a slot as not armed: the operation has ended and the ring does not arm it again.
    pub(super) fn end_arm(&mut self, index: u32, arm: Arm) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.armed[arm.place()] = false;
            entry.ends[arm.place()] = false;
            entry.cancels[arm.place()] = false;
        }
    }

    /// Marks a way of a slot as being ended. False: it is not armed, or it is marked already.
    pub(super) fn begin_end(&mut self, slot: FileSlot, arm: Arm) -> bool {
        let Some(entry) = self.open_mut(slot) else { return false };
        let place = arm.place();
        if !entry.armed[place] || entry.ends[place] {
            return false;
        }
        (entry.ends[place], entry.cancels[place]) = (true, true);
        true
    }

    /// Takes the mark of `begin_end` back.
    pub(super) fn keep_arm(&mut self, slot: FileSlot, arm: Arm) {
        if let Some(entry) = self.open_mut(slot) {
            entry.ends[arm.place()] = false;
        }
    }

    pub(super) fn is_armed(&self, slot: FileSlot, arm: Arm) -> bool {
        self.open(slot).is_some_and(|entry| entry.armed[arm.place()])
    }

    pub(super) fn is_ending(&self, index: u32, arm: Arm) -> bool {
        self.entries.get(index as usize).is_some_and(|entry| entry.ends[arm.place()])
    }

    /// The stream send that is under way on a slot.
    pub(super) fn stream(&self, slot: FileSlot) -> Option<u32> {
        self.open(slot).filter(|entry| entry.stream_busy).map(|entry| entry.stream)
    }

    /// Notes which stream send was begun.
    pub(super) fn note_stream(&mut self, index: u32, stream: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.stream = stream;
        }
    }

    /// Whether the ring has cancelled the way that has completed now. Once.
    pub(super) fn take_cancelled(&mut self, index: u32, arm: Arm) -> bool {
        let entry = self.entries.get_mut(index as usize);
        entry.is_some_and(|entry| std::mem::take(&mut entry.cancels[arm.place()]))
    }

    /// Whether so many more files have slots.
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.vacant.len() + (self.files_max as usize).saturating_sub(self.entries.len()) >= count
    }

    /// Token that was given when the file was armed.
    pub(super) fn token(&self, index: u32, arm: Arm) -> u32 {
        self.entries.get(index as usize).map_or(0, |entry| entry.tokens[arm.place()])
    }

    /// Marks a stream send as in flight. False: one is already, or the slot is not open.
    pub(super) fn start_stream(&mut self, slot: FileSlot) -> bool {
        let Some(entry) = self.open_mut(slot) else { return false };
        !std::mem::replace(&mut entry.stream_busy, true)
    }

    /// The kernel encrypts what is sent on the slot.
    pub(super) fn set_kernel_tls(&mut self, slot: FileSlot) {
        if let Some(entry) = self.open_mut(slot) {
            entry.has_kernel_tls = true;
        }
    }

    pub(super) fn has_kernel_tls(&self, index: u32) -> bool {
        self.entries.get(index as usize).is_some_and(|entry| entry.has_kernel_tls)
    }

    pub(super) fn end_stream(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.stream_busy = false;
        }
    }

    /// Counts an operation on the file as queued.
    pub(super) fn start_op(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.in_flight += 1;
        }
    }

    /// Counts an operation as completed. True: it was the last one of a closing slot, and the
    /// caller vacates the slot.
    #[must_use]
    pub(super) fn end_op(&mut self, index: u32) -> bool {
        let Some(entry) = self.entries.get_mut(index as usize) else { return false };
        assert!(entry.in_flight > 0, "more completions than operations on file {index}");
        entry.in_flight -= 1;
        entry.closing && entry.in_flight == 0
    }

    /// The file that has a place now, open or closing.
    pub(super) fn slot_at(&self, index: u32) -> FileSlot {
        let generation =
            self.entries.get(index as usize).map_or(u32::MAX, |entry| entry.generation);
        FileSlot { index, generation }
    }

    /// Number of operations of a file that is closing; `None`: it is open, or was closed.
    pub(super) fn closing_ops(&self, slot: FileSlot) -> Option<u32> {
        let entry = self.entries.get(slot.index as usize)?;
        (entry.generation == slot.generation && entry.closing).then_some(entry.in_flight)
    }

    pub(super) fn is_closing(&self, index: u32) -> bool {
        self.entries.get(index as usize).is_some_and(|entry| entry.closing)
    }

    /// Marks a slot as closing. Returns whether operations are in flight that it must wait for;
    /// `None`: it was not open.
    pub(super) fn close(&mut self, slot: FileSlot) -> Option<bool> {
        let entry = self.open_mut(slot)?;
        entry.closing = true;
        Some(entry.in_flight > 0)
    }

    /// Frees a closing slot that has no operations, and returns its descriptor.
    pub(super) fn vacate(&mut self, index: u32) -> Option<Arc<OwnedFd>> {
        let entry = self.entries.get_mut(index as usize)?;
        assert!(entry.closing && entry.in_flight == 0, "file {index} is in use");
        let generation = entry.generation.wrapping_add(1);
        let fd = std::mem::replace(entry, FileEntry { generation, ..FileEntry::default() }).fd;
        self.vacant.push(index);
        fd
    }

    fn open(&self, slot: FileSlot) -> Option<&FileEntry> {
        let entry = self.entries.get(slot.index as usize)?;
        (entry.generation == slot.generation && entry.fd.is_some() && !entry.closing)
            .then_some(entry)
    }

    fn open_mut(&mut self, slot: FileSlot) -> Option<&mut FileEntry> {
        let entry = self.entries.get_mut(slot.index as usize)?;
        (entry.generation == slot.generation && entry.fd.is_some() && !entry.closing)
            .then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn slot_is_used_again_only_after_its_last_operation() {
        let mut files = Files::new(1);
        let first = files.insert(any_fd()).unwrap();
        assert!(files.insert(any_fd()).is_err(), "full");
        assert!(files.start_arm(first, Arm::Receive, 5));
        assert!(!files.start_arm(first, Arm::Receive, 6), "armed already");
        files.start_op(first.index());
        assert_eq!(files.close(first), Some(true));
        assert_eq!(files.close(first), None, "closed once");
        assert!(files.fd(first).is_none());
        assert_eq!(files.next_index(), None);
        assert!(files.end_op(first.index()));
        assert!(files.vacate(first.index()).is_some());
        let second = files.insert(any_fd()).unwrap();
        assert_eq!(second.index(), first.index());
        assert!(!files.is_open(first), "an old name finds nothing");
        assert!(files.start_arm(second, Arm::Receive, 7), "arms of the old file are gone");
        assert_eq!(files.token(second.index(), Arm::Receive), 7);
    }

    #[test]
    fn second_stream_send_on_a_file_is_refused_until_the_first_ended() {
        let mut files = Files::new(4);
        let slot = files.insert(any_fd()).unwrap();
        assert!(files.start_stream(slot));
        assert!(!files.start_stream(slot));
        files.end_stream(slot.index());
        assert!(files.start_stream(slot));
    }
}
