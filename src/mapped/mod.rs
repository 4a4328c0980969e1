//! Media files as memory, for the kernel's eyes only.
//!
//! A gather-send takes payload straight from the page cache through these maps. User code never
//! reads them: a file truncated under us would be a SIGBUS here and is an `EFAULT` on one send
//! there (DESIGN section 4.3).
//!
//! Invariant: no reference to mapped bytes is ever made, only addresses for the kernel.
//! memmap2 holds the unsafe code: raw maps hand out addresses, never slices.

mod block;

use std::fs::File;
use std::io;

use memmap2::{Advice, MmapOptions, MmapRaw};

pub use block::Block;

/// A file mapped read-only as a whole.
#[derive(Debug)]
pub struct MappedFile {
    map: Option<MmapRaw>,
    bytes: u64,
}

impl MappedFile {
    /// Maps `file` at its present length. An empty file has no map and no valid range.
    ///
    /// # Errors
    /// What `fstat` and `mmap` report.
    pub fn new(file: &File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if len == 0 {
            return Ok(Self { map: None, bytes });
        }
        let map = MmapOptions::new().len(len).map_raw_read_only(file)?;
        Ok(Self { map: Some(map), bytes })
    }

    /// Length of the file when it was mapped.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.bytes
    }

    /// Address of a range for the kernel to read from; `None` when the range leaves the map.
    /// The address is valid as long as `self` lives, the bytes behind it only as long as the file
    /// keeps its length: hand it to a system call, never dereference it.
    #[must_use]
    pub fn kernel_address(&self, offset: u64, bytes: u16) -> Option<*const u8> {
        let end = offset.checked_add(u64::from(bytes))?;
        let map = self.map.as_ref().filter(|_| end <= self.bytes)?;
        let offset = usize::try_from(offset).ok()?;
        Some(map.as_ptr().wrapping_add(offset))
    }

    /// Brings a range into the page cache and into the page tables (`MADV_POPULATE_READ`), so
    /// that a send from it takes no fault. Reads from the disk when it has to, so it is for
    /// workers only; on Linux before 5.14 it does nothing.
    ///
    /// # Errors
    /// `UnexpectedEof` when the range leaves the map or the file has become shorter: the kernel
    /// reports here (`EFAULT`) what would be a SIGBUS to a reader. Otherwise what `madvise`
    /// reports.
    pub fn populate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let is_inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        let Some(map) = self.map.as_ref().filter(|_| is_inside) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        // The map is a usize long and the range is inside it.
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        match map.advise_range(Advice::PopulateRead, offset, bytes) {
            Err(err) if err.raw_os_error() == Some(libc::EFAULT) => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            // An old kernel does not know the advice.
            Err(err) if err.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file_of(bytes: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        file
    }

    #[test]
    fn address_is_given_inside_the_file_and_nowhere_else() {
        let map = MappedFile::new(&file_of(10_000)).unwrap();
        assert_eq!(map.file_bytes(), 10_000);
        let first = map.kernel_address(0, 1).unwrap() as usize;
        assert_eq!(map.kernel_address(9_990, 10).unwrap() as usize, first + 9_990);
        assert_eq!(map.kernel_address(10_000, 0).unwrap() as usize, first + 10_000);
        for (offset, bytes) in [(9_991, 10), (10_001, 0), (u64::MAX, 1), (u64::MAX - 1, u16::MAX)] {
            assert_eq!(map.kernel_address(offset, bytes), None, "{offset} {bytes}");
        }
    }

    #[test]
    fn empty_file_has_no_map() {
        let map = MappedFile::new(&file_of(0)).unwrap();
        assert_eq!(map.kernel_address(0, 0), None);
        assert!(map.populate(0, 0).is_ok());
        assert_eq!(map.populate(0, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn populate_of_a_truncated_file_is_an_error_and_not_a_signal() {
        let file = file_of(40_000);
        let map = MappedFile::new(&file).unwrap();
        for (offset, bytes) in [(0, 40_000), (1, 1), (4_095, 2), (39_999, 1)] {
            map.populate(offset, bytes).unwrap();
        }
        for (offset, bytes) in [(0, 40_001), (40_000, 1), (u64::MAX, 2)] {
            let kind = map.populate(offset, bytes).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::UnexpectedEof, "{offset} {bytes}");
        }
        file.set_len(100).unwrap();
        map.populate(0, 100).unwrap();
        let kind = map.populate(20_000, 10).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::UnexpectedEof);
    }
}
