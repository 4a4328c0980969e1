//! Runs of packets that were encrypted: their bytes lie in one pooled buffer.
//!
//! ```text
//!  spare --sealed_mut--> buffer of the run: packet, packet .. --submit--> slot --sent--> spare
//! ```
//! Invariant: a buffer is not changed from `submit` until the slot is free again.
//! Bound: `SPARE_MAX` buffers without a run, of `SEALED_BYTES_USUAL` bytes as a rule.

use super::kernel::Kernel;
use super::run::{Run, RunSlots};

impl<K: Kernel> Run<'_, K> {
    /// Whether a packet of so many bytes fits behind those that are there.
    pub fn has_sealed_room(&mut self, bytes: usize) -> bool {
        self.has_room_for_more(self.sealed.len(), bytes)
    }

    /// The bytes of the run so far, to append a packet. Only for runs that have nothing else.
    pub fn sealed_mut(&mut self) -> &mut Vec<u8> {
        if self.sealed.capacity() == 0 {
            self.sealed = self.take_spare();
        }
        &mut self.sealed
    }

    /// The last `bytes` bytes that were appended are a packet.
    pub fn count_sealed(&mut self, bytes: usize) {
        self.count_packet(bytes);
    }
}

impl RunSlots {
    /// An empty buffer.
    pub(super) fn take_spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(SEALED_BYTES_USUAL))
    }

    /// A buffer that nobody reads any more.
    pub(super) fn give_spare(&mut self, mut buffer: Vec<u8>) {
        let is_usual = (1..=SEALED_BYTES_USUAL).contains(&buffer.capacity());
        if is_usual && self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// A run of 16 packets of the usual length; longer ones get a buffer of their own.
const SEALED_BYTES_USUAL: usize = 24 << 10;
/// As many runs as a turn encrypts: 3 MiB of spare memory.
const SPARE_MAX: usize = 128;
