//! Reads through a worker's ring: of media files, and of the worker's bell.
//!
//! Buffered reads, not DMA files: what is read here is sent by the shards from the page cache, and
//! direct I/O would pass it by, so that every page would come from the disk twice.
//!
//! Bound: `CHUNK_BYTES` in one operation, so that one large read does not hold up the other tasks
//! of the executor.
#![allow(unsafe_code, reason = "glommio takes over a descriptor only by its number")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{FromRawFd as _, IntoRawFd as _};

use glommio::GlommioError;
use glommio::io::{BufferedFile, ReadResult};

use super::bell::Bell;
use crate::metrics::cells::WorkerCells;

/// A media file, open on this worker's executor.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: BufferedFile,
    counts: &'a WorkerCells,
}

/// Why a range could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the file ends before byte {end}")]
    Short { end: u64 },
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl<'a> Reader<'a> {
    /// `file` is duplicated: the reader has a descriptor of its own. Only on an executor.
    pub(super) fn new(file: &File, counts: &'a WorkerCells) -> io::Result<Self> {
        Ok(Self { file: duplicate(file)?, counts })
    }

    /// Exactly the range.
    pub(super) async fn read(&self, offset: u64, bytes: usize) -> Result<Bytes, ReadError> {
        let end = u64::try_from(bytes).ok().and_then(|bytes| offset.checked_add(bytes));
        let end = end.ok_or(ReadError::Short { end: u64::MAX })?;
        if bytes == 0 {
            return Ok(Bytes::Joined(Vec::new()));
        }
        if bytes <= CHUNK_BYTES {
            let whole = self.read_some(offset, bytes).await?;
            if whole.len() == bytes {
                return Ok(Bytes::Whole(whole));
            }
        }
        // Large, or the kernel returned less than was asked for.
        let mut joined = Vec::new();
        joined.try_reserve_exact(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // Each round appends at least a byte, or ends.
        while joined.len() < bytes {
            let at = offset + joined.len() as u64;
            let part = self.read_some(at, (bytes - joined.len()).min(CHUNK_BYTES)).await?;
            if part.is_empty() {
                return Err(ReadError::Short { end });
            }
            joined.extend_from_slice(&part);
        }
        Ok(Bytes::Joined(joined))
    }

    /// Reads the range only to have it in the page cache.
    pub(super) async fn page_in(&self, offset: u64, bytes: u64) -> Result<(), ReadError> {
        let end = offset.checked_add(bytes).ok_or(ReadError::Short { end: u64::MAX })?;
        let mut at = offset;
        while at < end {
            let chunk = usize::try_from(end - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let part = self.read_some(at, chunk).await?;
            if part.is_empty() {
                return Err(ReadError::Short { end });
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Gives the descriptor back without waiting for the executor's next round.
    pub(super) async fn close(self) {
        // The file was only read: nothing is lost when closing fails.
        let _ = self.file.close().await;
    }

    async fn read_some(&self, offset: u64, bytes: usize) -> io::Result<ReadResult> {
        for _ in 0..INTERRUPTS_MAX {
            match self.file.read_at(offset, bytes).await {
                Ok(result) => {
                    self.counts.read_bytes.add(result.len() as u64);
                    return Ok(result);
                }
                Err(err) => {
                    let err = io_error(err);
                    let is_passing = matches!(
                        err.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    );
                    if !is_passing {
                        return Err(err);
                    }
                }
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }
}

/// The worker's end of its bell, on its executor.
#[derive(Debug)]
pub(super) struct BellReader {
    file: BufferedFile,
}

impl BellReader {
    pub(super) fn new(bell: &Bell) -> io::Result<Self> {
        Ok(Self { file: duplicate(bell.file())? })
    }

    /// Sleeps until the bell was rung since the last wait.
    pub(super) async fn wait(&self) -> io::Result<()> {
        // An eventfd hands out its count in eight bytes and has no offsets.
        self.file.read_at(0, size_of::<u64>()).await.map_err(io_error)?;
        Ok(())
    }

    pub(super) async fn close(self) {
        let _ = self.file.close().await;
    }
}

fn duplicate(file: &File) -> io::Result<BufferedFile> {
    let fd = file.try_clone()?.into_raw_fd();
    // SAFETY: `from_raw_fd` requires an open descriptor that nobody else owns and that needs only
    // `close`. `fd` was duplicated on the line before and given up by `into_raw_fd`; the
    // `BufferedFile` closes it, in `close` or when it is dropped.
    // Test: `range_is_read_exactly_and_past_the_end_is_short`.
    Ok(unsafe { BufferedFile::from_raw_fd(fd) })
}

/// What was read.
#[derive(Debug)]
pub(super) enum Bytes {
    Whole(ReadResult),
    Joined(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Whole(result) => result,
            Self::Joined(bytes) => bytes,
        }
    }
}

/// The kernel's own error, without glommio's wrapping where it can be taken off.
pub(super) fn io_error(err: GlommioError<()>) -> io::Error {
    match err {
        GlommioError::IoError(err) | GlommioError::EnhancedIoError { source: err, .. } => err,
        other => other.into(),
    }
}

/// One read operation at most.
const CHUNK_BYTES: usize = 4 << 20;

/// A signal or a full kernel queue may end a read early; more often than this is a fault.
const INTERRUPTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;

    #[test]
    fn range_is_read_exactly_and_past_the_end_is_short() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..=250).cycle().take(CHUNK_BYTES * 2 + 77).collect();
        file.write_all(&content).unwrap();
        let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 16);
        builder.make().unwrap().run(async {
            let counts = WorkerCells::default();
            let reader = Reader::new(&file, &counts).unwrap();
            for (offset, bytes) in [(0, 0), (0, 1), (5, 1000), (9, CHUNK_BYTES + 1)] {
                let read = reader.read(offset, bytes).await.unwrap();
                let start = usize::try_from(offset).unwrap();
                assert_eq!(&read[..], &content[start..start + bytes], "{offset} {bytes}");
            }
            let end = content.len() as u64;
            reader.page_in(end - 5, 5).await.unwrap();
            assert!(matches!(reader.read(end - 1, 2).await, Err(ReadError::Short { .. })));
            assert!(matches!(reader.read(end + 9, 2).await, Err(ReadError::Short { .. })));
            assert!(matches!(reader.read(u64::MAX, 2).await, Err(ReadError::Short { .. })));
            let short = reader.read(1, CHUNK_BYTES * 3).await;
            assert!(matches!(short, Err(ReadError::Short { .. })));
            assert!(matches!(reader.page_in(end, 1).await, Err(ReadError::Short { .. })));
            assert!(counts.read_bytes.value() > CHUNK_BYTES as u64);
            reader.close().await;
        });
        // The descriptor given was a duplicate: the file is still open.
        assert_eq!(file.metadata().unwrap().len(), content.len() as u64);
    }
}
