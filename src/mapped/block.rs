//! Memory of whole pages that is sent from and belongs to no file.
//!
//! Its own mapping and not the allocator's: it begins on a page, so a send touches as few pages as
//! it can, and it goes back to the system as a whole, on the thread that drops it. A few hundred
//! pages take some tens of microseconds then: that thread is to be a worker's.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// See the module.
#[derive(Debug)]
pub struct Block {
    map: MmapMut,
    bytes: usize,
}

impl Block {
    /// So many bytes, all zero.
    ///
    /// # Errors
    /// What `mmap` reports: the system has no memory.
    pub fn zeroed(bytes: usize) -> io::Result<Self> {
        // There is no mapping without bytes.
        Ok(Self { map: MmapMut::map_anon(bytes.max(1))?, bytes })
    }

    /// Memory that a block of so many bytes takes: whole pages.
    #[must_use]
    pub fn memory_bytes_of(bytes: usize) -> usize {
        bytes.max(1).next_multiple_of(rustix::param::page_size().max(1))
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.get(..self.bytes).unwrap_or_default()
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.map.get_mut(..self.bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_has_the_bytes_asked_for_and_begins_on_a_page() {
        for bytes in [0, 1, 4_096, 10_000] {
            let mut block = Block::zeroed(bytes).unwrap();
            assert_eq!((block.len(), block.as_ptr().addr() % 4_096), (bytes, 0));
            block.fill(7);
            assert!(block.iter().all(|byte| *byte == 7));
            let page_bytes = rustix::param::page_size();
            let memory_bytes = Block::memory_bytes_of(bytes);
            assert!(memory_bytes >= bytes.max(1) && memory_bytes.is_multiple_of(page_bytes));
        }
    }
}
