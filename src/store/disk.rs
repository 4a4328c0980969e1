//! Files by position.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

/// Writes all of `pieces`, one behind the other, from `offset` on.
pub(super) fn write_pieces(file: &File, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
    let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    let written = loop {
        match rustix::io::pwritev(file, &slices, offset) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    // The rest of a short write one by one: disks that are full write short.
    let (mut at, mut skip) = (offset + written as u64, written);
    if written < total {
        for piece in pieces {
            let rest = piece.get(skip.min(piece.len())..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            file.write_all_at(rest, at)?;
            at += rest.len() as u64;
        }
    }
    Ok(())
}

/// Writes behind all that is in a file which is only added to.
pub(super) fn append(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)
}

/// Reserves `size` bytes, without a change of the file's length.
pub(super) fn reserve(file: &File, size: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, size) {
        Ok(()) => Ok(()),
        // File systems that cannot reserve: what is free has to do.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let free = free_bytes(file)?;
            if free < size { Err(Errno::NOSPC.into()) } else { Ok(()) }
        }
        Err(error) => Err(error.into()),
    }
}

/// Bytes that may still be written where `file` is.
pub(super) fn free_bytes(file: &File) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(file)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Asks the kernel to begin to write `len` bytes from `offset` on; 0: all. Linux does so for pages
/// that are dirty when told that they are not needed, and drops only those that are clean: callers
/// have just written what they name.
pub(super) fn start_write_back(file: &File, offset: u64, len: u64) {
    // Only advice: what fails here changes nothing.
    let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(len), Advice::DontNeed);
}

/// Lets the page cache forget what is synced in `len` bytes from `offset` on.
pub(super) fn drop_pages(file: &File, offset: u64, len: u64) {
    start_write_back(file, offset, len);
}

/// True when all files are on one file system.
pub(super) fn are_together(files: &[&Arc<File>]) -> bool {
    let device = |file: &&Arc<File>| file.metadata().ok().map(|metadata| metadata.dev());
    let Some(first) = files.first().and_then(device) else { return false };
    files.iter().all(|file| device(file) == Some(first))
}

/// Syncs all that is on the file system of `file`.
pub(super) fn sync_file_system(file: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}
