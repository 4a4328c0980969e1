//! Memory of packets as they go on the wire, of the kinds that a server might choose from.
//!
//! Invariant: it is written to before the first send only. Bound: the packets of a film.

use std::io;
use std::ops::Deref;

use memmap2::{Advice, MmapMut, MmapOptions};

/// Kind of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ImageMemory {
    /// Pages of the smallest size.
    Anonymous,
    /// Huge pages, where the system gives them (transparent huge pages).
    Huge,
    /// The page cache of a file.
    File,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) map: MmapMut,
}

impl Image {
    pub(crate) fn new(memory: ImageMemory, bytes: usize) -> io::Result<Self> {
        let bytes = bytes.max(1);
        let map = match memory {
            ImageMemory::Anonymous => {
                let map = MmapMut::map_anon(bytes)?;
                map.advise(Advice::NoHugePage)?;
                map
            }
            ImageMemory::Huge => {
                let map = MmapMut::map_anon(bytes.next_multiple_of(HUGE_PAGE_BYTES))?;
                map.advise(Advice::HugePage)?;
                map
            }
            ImageMemory::File => {
                let file = tempfile::tempfile_in("target")?;
                file.set_len(bytes as u64)?;
                map_shared(&file)?
            }
        };
        Ok(Self { map })
    }

    /// Puts bytes in place; the place behind them.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> usize {
        let end = at + bytes.len();
        self.map[at..end].copy_from_slice(bytes);
        end
    }
}

impl Deref for Image {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[allow(unsafe_code, reason = "a map of a file")]
fn map_shared(file: &std::fs::File) -> io::Result<MmapMut> {
    // SAFETY: `map_mut` requires that nobody changes the file meanwhile: it has no name, and this
    // is its only descriptor.
    unsafe { MmapOptions::new().map_mut(file) }
}

const HUGE_PAGE_BYTES: usize = 2 << 20;
