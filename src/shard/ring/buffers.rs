//! A provided buffer ring: memory from which the kernel takes a buffer when bytes arrive.
//!
//! ```text
//! one block:  [ entry 0 | entry 1 | .. ] page end [ buffer 0 ][ buffer 1 ] ..
//!               `tail` lives in entry 0's spare field
//! kernel takes at its head --> completion names the buffer --> we read, then publish it again
//! ```
//! Invariants: a buffer belongs to the kernel, except from a completion that names it until
//! `publish`. Only then the shard reads it.
//! Bound: a power of two of buffers, allocated once.
#![allow(unsafe_code, reason = "memory shared with the kernel; a room with unsafe code")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::config::RingError;
use super::kernel::Kernel;

/// A registered buffer ring with its memory.
#[derive(Debug)]
pub(super) struct BufferRing {
    block: NonNull<u8>,
    layout: Layout,
    /// Offset of the first buffer in the block.
    buffers_at: usize,
    count: u16,
    buffer_bytes: u32,
    group: u16,
    tail: u16,
}

impl BufferRing {
    /// Registers `count` buffers, rounded up to a power of two, as buffer group `group`.
    pub(super) fn new(
        kernel: &impl Kernel,
        group: u16,
        count: u16,
        buffer_bytes: u32,
    ) -> Result<Self, RingError> {
        let count = count.clamp(1, COUNT_MAX).next_power_of_two();
        let failure = |source: io::Error| match source.kind() {
            io::ErrorKind::OutOfMemory => RingError::NoMemory { what: "receive buffers", source },
            _ => RingError::Buffers { count: count.into(), source },
        };
        let entries_bytes = usize::from(count) * size_of::<BufRingEntry>();
        let buffers_at = entries_bytes.next_multiple_of(PAGE_BYTES);
        let block_bytes = buffers_at + usize::from(count) * buffer_bytes as usize;
        let layout = Layout::from_size_align(block_bytes, PAGE_BYTES)
            .map_err(|_| failure(io::ErrorKind::OutOfMemory.into()))?;
        // SAFETY: `alloc_zeroed` requires a layout of more than 0 bytes: `count` is at least 1, so
        // there is at least a page of entries. Test: `datagram_flood_beyond_buffers_is_survived`.
        let block = unsafe { alloc_zeroed(layout) };
        let block =
            NonNull::new(block).ok_or_else(|| failure(io::ErrorKind::OutOfMemory.into()))?;
        let mut ring = Self { block, layout, buffers_at, count, buffer_bytes, group, tail: 0 };
        let address = block.as_ptr().expose_provenance() as u64;
        // SAFETY: the block must be valid until the group is unregistered or the ring destroyed.
        // - It is page-aligned and has room for `count` entries.
        // - It is freed only by `Drop`; `Ring` drops its memory after the kernel's side is closed,
        //   and only when no operation is left, otherwise never.
        // Test: `drop_with_operations_in_flight_frees_everything`.
        unsafe { kernel.register_buffers(address, count, group) }.map_err(failure)?;
        for buffer in 0..count {
            ring.publish(buffer);
        }
        Ok(ring)
    }

    /// Number of the group for buffer selection.
    pub(super) fn group(&self) -> u16 {
        self.group
    }

    /// Size of each buffer.
    pub(super) fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    /// The first `len` bytes of a buffer that a completion has named and that was not published
    /// since. `None`: there is no such buffer, or it is shorter.
    pub(super) fn taken(&self, buffer: u16, len: usize) -> Option<&[u8]> {
        if buffer >= self.count || len > self.buffer_bytes as usize {
            return None;
        }
        let at = self.buffers_at + usize::from(buffer) * self.buffer_bytes as usize;
        // SAFETY: `from_raw_parts` requires `len` initialised bytes that nobody writes to.
        // - `buffer < count` and `len <= buffer_bytes`, so the range lies in the block, which is
        //   zeroed at first and lives as long as `self`.
        // - The kernel writes only to published buffers; the borrow ends before `publish`, which
        //   needs `&mut self`.
        // Test: `request_arrives_and_polling_stays_off_until_armed_again`.
        Some(unsafe { std::slice::from_raw_parts(self.block.as_ptr().add(at), len) })
    }

    /// Gives a taken buffer back to the kernel.
    pub(super) fn publish(&mut self, buffer: u16) {
        if buffer >= self.count {
            return;
        }
        let place = usize::from(self.tail & (self.count - 1));
        let at = self.buffers_at + usize::from(buffer) * self.buffer_bytes as usize;
        let address = self.block.as_ptr().wrapping_add(at).expose_provenance() as u64;
        let entries = self.block.as_ptr().cast::<BufRingEntry>();
        // SAFETY: dereferencing requires a valid, aligned entry without another reference to it.
        // - `place < count`, and the block starts with `count` entries on a page boundary.
        // - The kernel reads entries only up to the tail, which is moved below; the tail itself
        //   lies in entry 0's spare field, which the setters do not touch.
        // Test: `datagram_flood_beyond_buffers_is_survived`.
        let entry = unsafe { &mut *entries.add(place) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `tail` requires the address of the first entry; `from_ptr` requires an aligned
        // u16 that is accessed atomically while the reference lives: the kernel loads it with
        // acquire, we are the only writer. Test: as above.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: `dealloc` requires the block and layout of `alloc_zeroed`, used no more.
        // The kernel's side was closed before (see `new`). Test: as in `new`.
        unsafe { dealloc(self.block.as_ptr(), self.layout) };
    }
}

/// Alignment of the entries that the kernel requires.
const PAGE_BYTES: usize = 4_096;

/// Most buffers that the kernel accepts in one ring.
const COUNT_MAX: u16 = 1 << 15;
