//! The pieces that one send gathers: copied bytes in an arena, and payload in file maps, in blocks
//! of windows and in batches of live paths.
//!
//! ```text
//! arena   [hdr fu][hdr fu][hdr ..            map   ....[nal bytes]......[nal bytes]...
//!           |       |       |                            |                |
//! iovecs  [ a ][ m ][ a ][ m ] ..                one entry each, neighbours in the arena share one
//! ```
//! Invariants: a gather has all pieces of a packet or none. Each entry outside the arena lies in
//! the map of a title, a block of a window, a batch or a buffer of encrypted packets, which `held`
//! keeps until `clear`. Nothing is added between submission and completion.
//! Bounds: `GatherLimits`. Memory is kept for the next use, so steady sending allocates nothing.

use std::ops::Range;
use std::sync::Arc;

use super::config::RangeOutside;
use crate::library::title::Title;
use crate::live::core::batch::PacketBatch;
use crate::media::image::{ImageRun, PacketImage};
use crate::media::window::{Packet, PacketWindow, Piece};

/// Upper bounds of one send.
#[derive(Debug, Clone, Copy)]
pub(super) struct GatherLimits {
    pub(super) iovecs: usize,
    pub(super) arena_bytes: usize,
    /// Titles, blocks of windows and batches that the pieces lie in.
    pub(super) held: usize,
}

/// Owner of bytes that the kernel reads; they stay in place while it is held.
#[derive(Debug)]
enum Held {
    Title(Arc<Title>),
    Inline(Arc<[u8]>),
    Batch(Arc<PacketBatch>),
    Sealed(Vec<u8>),
    /// Nothing looks at it; it is kept until the kernel is done.
    Image {
        _image: Arc<PacketImage>,
    },
}

/// The pieces of one send.
#[derive(Debug)]
pub(super) struct Gather {
    iovecs: Vec<libc::iovec>,
    arena: Vec<u8>,
    /// Owners of the bytes that `iovecs` point to. Short inline bytes of windows are copied.
    held: Vec<Held>,
    bytes: usize,
    /// The last iovec ends where the arena ends, so it can grow.
    ends_in_arena: bool,
    limits: GatherLimits,
}

/// State before a packet, for the case that the packet does not fit.
struct Mark {
    iovecs: usize,
    last_iovec_bytes: usize,
    arena: usize,
    held: usize,
    bytes: usize,
    ends_in_arena: bool,
}

impl Gather {
    /// Allocates all memory now, and never grows.
    pub(super) fn with_all_memory(limits: GatherLimits) -> Self {
        Self::with_memory(limits, limits)
    }

    /// Allocates the memory that `usual` needs, and grows up to `limits`.
    pub(super) fn with_memory(usual: GatherLimits, limits: GatherLimits) -> Self {
        Self {
            iovecs: Vec::with_capacity(usual.iovecs),
            arena: Vec::with_capacity(usual.arena_bytes),
            held: Vec::with_capacity(usual.held),
            bytes: 0,
            ends_in_arena: false,
            limits,
        }
    }

    /// Number of bytes of the whole send.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The iovecs for the kernel, valid until the next change.
    pub(super) fn iovecs_mut(&mut self) -> &mut [libc::iovec] {
        &mut self.iovecs
    }

    /// Removes all pieces and releases their owners. Keeps memory, up to `keep_bytes` of the arena.
    pub(super) fn clear(&mut self, keep_bytes: usize) {
        self.iovecs.clear();
        self.arena.clear();
        self.arena.shrink_to(keep_bytes);
        self.held.clear();
        self.bytes = 0;
        self.ends_in_arena = false;
    }

    /// Removes bytes at the front, which the kernel has taken; owners of the rest stay held.
    pub(super) fn skip(&mut self, bytes: usize) {
        let mut left = bytes.min(self.bytes);
        self.bytes -= left;
        let mut whole = 0;
        for iovec in &mut self.iovecs {
            if iovec.iov_len > left {
                iovec.iov_base = iovec.iov_base.wrapping_byte_add(left);
                iovec.iov_len -= left;
                break;
            }
            left -= iovec.iov_len;
            whole += 1;
        }
        self.iovecs.drain(..whole);
    }

    /// Appends a copy of `bytes`. False: there is no room, and nothing has changed.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) -> bool {
        let mark = self.mark();
        let fits = self.append_copy(bytes);
        if !fits {
            self.go_back(&mark);
        }
        fits
    }

    /// Appends `head` (the RTP header and the interleaved prefix) and the payload of a packet.
    /// False: there is no room, and nothing has changed.
    #[inline]
    pub(super) fn push_packet<const N: usize>(
        &mut self,
        head: &[u8; N],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        let mark = self.mark();
        if self.append_copy(head) {
            match self.append_pieces(window, packet, title) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(outside) => {
                    self.go_back(&mark);
                    return Err(outside);
                }
            }
        }
        self.go_back(&mark);
        if self.is_empty() {
            // Another send would be as small: after "no room" the caller would try for ever.
            let Packet { piece_count, payload_bytes, .. } = *packet;
            return Err(RangeOutside::TooLarge { piece_count, payload_bytes });
        }
        Ok(false)
    }

    /// Appends encrypted packets. They are all there is in the gather.
    pub(super) fn push_sealed(&mut self, sealed: Vec<u8>) {
        debug_assert!(self.is_empty(), "a run is encrypted whole");
        if self.append_held(&sealed) {
            self.held.push(Held::Sealed(sealed));
        }
    }

    /// Takes the buffer of encrypted packets out; the gather is cleared next.
    pub(super) fn take_sealed(&mut self) -> Option<Vec<u8>> {
        match self.held.last_mut() {
            Some(Held::Sealed(sealed)) => Some(std::mem::take(sealed)),
            Some(Held::Title(_) | Held::Inline(_) | Held::Batch(_) | Held::Image { .. }) | None => {
                None
            }
        }
    }

    /// Appends a copy of `head`, and bytes of a batch without a copy. False: there is no room, or
    /// the batch has no such bytes; nothing has changed.
    pub(super) fn push_range(
        &mut self,
        head: &[u8],
        batch: &Arc<PacketBatch>,
        range: Range<usize>,
    ) -> bool {
        let mark = self.mark();
        let fits =
            self.append_copy(head) && self.append_range(batch, range) && self.hold_batch(batch);
        if !fits {
            self.go_back(&mark);
        }
        fits
    }

    /// Appends packets as they stand in an image, without a copy. False: there is no room, or the
    /// image has no such packets; nothing has changed.
    pub(super) fn push_image(&mut self, image: &Arc<PacketImage>, part: &ImageRun) -> bool {
        let mark = self.mark();
        let fits = image.bytes_of(part).is_some_and(|bytes| self.append_held(bytes))
            && self.keep(|| Held::Image { _image: Arc::clone(image) });
        if !fits {
            self.go_back(&mark);
        }
        fits
    }

    fn append_range(&mut self, batch: &PacketBatch, range: Range<usize>) -> bool {
        batch.bytes_in(range).is_some_and(|bytes| self.append_held(bytes))
    }

    /// Appends bytes without a copy; the caller holds their owner.
    fn append_held(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        if self.iovecs.len() == self.limits.iovecs {
            return false;
        }
        let base = bytes.as_ptr().cast_mut().cast();
        self.iovecs.push(libc::iovec { iov_base: base, iov_len: bytes.len() });
        self.bytes += bytes.len();
        self.ends_in_arena = false;
        true
    }

    #[inline]
    fn append_pieces(
        &mut self,
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        let mut takes_from_file = false;
        for piece in window.pieces(packet) {
            match *piece {
                Piece::Inline { offset, bytes } if bytes <= INLINE_COPY_BYTES_MAX => {
                    if !self.append_copy(window.inline_bytes(offset, bytes)) {
                        return Ok(false);
                    }
                }
                Piece::Inline { offset, bytes } => {
                    let bytes = window.inline_bytes(offset, bytes);
                    if !self.append_held(bytes) || !self.hold_inline(window.inline_block()) {
                        return Ok(false);
                    }
                }
                Piece::File { offset, bytes } => {
                    let file_bytes = title.map.file_bytes();
                    let Some(address) = title.map.kernel_address(offset, bytes) else {
                        return Err(RangeOutside::File { offset, bytes, file_bytes });
                    };
                    if self.iovecs.len() == self.limits.iovecs {
                        return Ok(false);
                    }
                    let len = usize::from(bytes);
                    let base = address.cast_mut().cast();
                    self.iovecs.push(libc::iovec { iov_base: base, iov_len: len });
                    self.bytes += len;
                    self.ends_in_arena = false;
                    takes_from_file = true;
                }
            }
        }
        Ok(!takes_from_file || self.hold(title))
    }

    /// Holds a title's map until `clear`.
    fn hold(&mut self, title: &Arc<Title>) -> bool {
        let is_same = |held: &Held| matches!(held, Held::Title(held) if Arc::ptr_eq(held, title));
        self.held.iter().rev().any(is_same) || self.keep(|| Held::Title(Arc::clone(title)))
    }

    /// Holds a window's inline bytes until `clear`.
    fn hold_inline(&mut self, block: &Arc<[u8]>) -> bool {
        let is_same = |held: &Held| matches!(held, Held::Inline(held) if Arc::ptr_eq(held, block));
        self.held.iter().rev().any(is_same) || self.keep(|| Held::Inline(Arc::clone(block)))
    }

    /// Holds a batch until `clear`.
    fn hold_batch(&mut self, batch: &Arc<PacketBatch>) -> bool {
        let is_same = |held: &Held| matches!(held, Held::Batch(held) if Arc::ptr_eq(held, batch));
        self.held.iter().rev().any(is_same) || self.keep(|| Held::Batch(Arc::clone(batch)))
    }

    fn keep(&mut self, what: impl FnOnce() -> Held) -> bool {
        let has_room = self.held.len() < self.limits.held;
        if has_room {
            self.held.push(what());
        }
        has_room
    }

    /// The caller goes back to a mark when this is false. Inlined, so that the copy of a header,
    /// whose length is known then, is two instructions and not a call.
    #[inline(always)]
    fn append_copy(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        if self.arena.len() + bytes.len() > self.limits.arena_bytes {
            return false;
        }
        if self.arena.capacity() - self.arena.len() < bytes.len() {
            self.grow(bytes.len());
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        if let Some(last) = self.iovecs.last_mut().filter(|_| self.ends_in_arena) {
            last.iov_len += bytes.len();
        } else if self.iovecs.len() < self.limits.iovecs {
            let base = self.arena.as_mut_ptr().wrapping_add(start).cast();
            self.iovecs.push(libc::iovec { iov_base: base, iov_len: bytes.len() });
        } else {
            return false;
        }
        self.ends_in_arena = true;
        self.bytes += bytes.len();
        true
    }

    /// Makes room in the arena. When it moves, the iovecs into it move along.
    #[cold]
    fn grow(&mut self, more: usize) {
        let old = self.arena.as_ptr().addr()..self.arena.as_ptr().addr() + self.arena.len();
        self.arena.reserve(more.max(ARENA_GROWTH_BYTES));
        let base = self.arena.as_mut_ptr();
        for iovec in &mut self.iovecs {
            let address = iovec.iov_base.addr();
            if old.contains(&address) {
                iovec.iov_base = base.wrapping_add(address - old.start).cast();
            }
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            iovecs: self.iovecs.len(),
            last_iovec_bytes: self.iovecs.last().map_or(0, |last| last.iov_len),
            arena: self.arena.len(),
            held: self.held.len(),
            bytes: self.bytes,
            ends_in_arena: self.ends_in_arena,
        }
    }

    fn go_back(&mut self, mark: &Mark) {
        self.iovecs.truncate(mark.iovecs);
        if let Some(last) = self.iovecs.last_mut() {
            last.iov_len = mark.last_iovec_bytes;
        }
        self.arena.truncate(mark.arena);
        self.held.truncate(mark.held);
        self.bytes = mark.bytes;
        self.ends_in_arena = mark.ends_in_arena;
    }
}

/// A frame of two hundred interleaved packets has its headers in this.
const ARENA_GROWTH_BYTES: usize = 4_096;

/// Inline bytes up to this count are copied: headers are a few bytes each, and parameter sets
/// rarely more. An arena has room for as many behind each header of a run.
const INLINE_COPY_BYTES_MAX: u16 = 240;
