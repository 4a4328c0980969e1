//! Reads of media files, from memory or through the worker's executor; and its read of the bell.
//!
//! ```text
//! read --> preadv2(RWF_NOWAIT): in the page cache? --all--> done: no operation, no wait
//!                                    | not all
//!                                    v
//!                               a place in the lane (`lanes`) --> ring --> the rest
//! ```
//! Buffered reads, not DMA files: what is read here is sent by the shards from the page cache, and
//! direct I/O would pass it by, so that every page would come from the disk twice. A file system
//! that does not know RWF_NOWAIT is taken as one whose bytes are never in memory.
//!
//! Bounds: `CACHED_BYTES` at once from memory, `CHUNK_BYTES` in one operation of the ring, so that
//! one large read does not hold up the other tasks of the executor.
#![allow(unsafe_code, reason = "glommio takes over a descriptor only by its number")]

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{FromRawFd as _, IntoRawFd as _};

use glommio::GlommioError;
use glommio::io::{BufferedFile, ReadResult};
use rustix::io::{ReadWriteFlags, preadv2};

use super::bell::Bell;
use super::executor::{ColdFile, Part, yield_once};
use super::lanes::Lanes;
use crate::library::title::FileIdentity;
use crate::metrics::cells::WorkerCells;
use crate::metrics::descriptors::lacks_descriptor;

/// A media file, as one task of a worker reads it.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: &'a File,
    identity: FileIdentity,
    /// The file for reads that wait, once something was not in memory.
    cold: OnceCell<ColdFile>,
    lanes: &'a Lanes,
    counts: &'a WorkerCells,
    /// False in tests that have nothing but what is in memory.
    asks_cache: bool,
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
    /// For `file`, which is the one that `identity` names. Only on an executor.
    pub(super) fn new(
        file: &'a File,
        identity: FileIdentity,
        lanes: &'a Lanes,
        counts: &'a WorkerCells,
    ) -> Self {
        Self { file, identity, cold: OnceCell::new(), lanes, counts, asks_cache: true }
    }

    /// Takes nothing to be in memory.
    pub(super) fn asking_cache(self, asks_cache: bool) -> Self {
        Self { asks_cache, ..self }
    }

    /// Exactly the range.
    pub(super) async fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, ReadError> {
        let end = u64::try_from(bytes).ok().and_then(|bytes| offset.checked_add(bytes));
        let end = end.ok_or(ReadError::Short { end: u64::MAX })?;
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        buffer.resize(bytes, 0);
        let mut place = None;
        let mut done = 0;
        // Each round reads a byte at least, or ends.
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = end - rest.len() as u64;
            let chunk = rest.len().min(CACHED_BYTES);
            let cached = rest.get_mut(..chunk).map_or(0, |part| self.read_cached(at, part));
            if cached > 0 {
                done += cached;
                if done < bytes {
                    yield_once().await;
                }
                continue;
            }
            if place.is_none() {
                place = Some(self.lanes.enter(self.identity).await);
            }
            let part = self.read_cold(at, rest.len().min(CHUNK_BYTES)).await?;
            match rest.get_mut(..part.len()) {
                Some(target) if !part.is_empty() => target.copy_from_slice(&part),
                _ => return Err(ReadError::Short { end }),
            }
            done += part.len();
        }
        Ok(buffer)
    }

    /// Reads the range only to have it in the page cache.
    pub(super) async fn page_in(&self, offset: u64, bytes: u64) -> Result<(), ReadError> {
        let end = offset.checked_add(bytes).ok_or(ReadError::Short { end: u64::MAX })?;
        let mut place = None;
        let mut at = offset;
        while at < end {
            let cached = self.touch_cached(at, end);
            if cached > 0 {
                at += cached;
                if at < end {
                    yield_once().await;
                }
                continue;
            }
            if place.is_none() {
                place = Some(self.lanes.enter(self.identity).await);
            }
            let chunk = usize::try_from(end - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let part = self.read_cold(at, chunk).await?;
            if part.is_empty() {
                return Err(ReadError::Short { end });
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Gives the descriptor back without waiting for the executor's next round.
    pub(super) async fn close(self) {
        if let Some(file) = self.cold.into_inner() {
            file.close().await;
        }
    }

    /// Bytes at the start of the range that are in memory, now in `buffer`. None is the answer to
    /// everything else, an error or the file's end too: a read through the ring tells which.
    fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> usize {
        if !self.asks_cache {
            return 0;
        }
        let mut into = [IoSliceMut::new(buffer)];
        let bytes = preadv2(self.file, &mut into, offset, ReadWriteFlags::NOWAIT).unwrap_or(0);
        self.counts.read_bytes.add(bytes as u64);
        bytes
    }

    /// Like `read_cached`, for bytes that nobody wants to have. To copy them is the one way to ask
    /// the kernel about the pages of a file that is not our own.
    fn touch_cached(&self, offset: u64, end: u64) -> u64 {
        let mut scratch = [0; SCRATCH_BYTES];
        let mut at = offset;
        while at < end && at - offset < CACHED_BYTES as u64 {
            let chunk = usize::try_from(end - at).unwrap_or(SCRATCH_BYTES).min(SCRATCH_BYTES);
            let Some(part) = scratch.get_mut(..chunk) else { break };
            let bytes = self.read_cached(at, part);
            if bytes == 0 {
                break;
            }
            at += bytes as u64;
        }
        at - offset
    }

    async fn read_cold(&self, offset: u64, bytes: usize) -> io::Result<Part> {
        if self.cold.get().is_none() {
            let cold = match ColdFile::new(self.file) {
                Ok(cold) => cold,
                // Others took the last descriptor. What plays goes on, and the other tasks of this
                // worker wait for one read.
                Err(error) if lacks_descriptor(&error) => {
                    let part = Part::read_at_once(self.file, offset, bytes)?;
                    self.counts.read_bytes.add(part.len() as u64);
                    return Ok(part);
                }
                Err(error) => return Err(error),
            };
            // Nobody else can have set it: there is no await in between.
            let _ = self.cold.set(cold);
        }
        let Some(file) = self.cold.get() else { return Err(io::ErrorKind::NotFound.into()) };
        for _ in 0..INTERRUPTS_MAX {
            match file.read_at(offset, bytes).await {
                Ok(result) => {
                    self.counts.read_bytes.add(result.len() as u64);
                    return Ok(result);
                }
                Err(err) => {
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
    file: ColdFile,
}

impl BellReader {
    pub(super) fn new(bell: &Bell) -> io::Result<Self> {
        Ok(Self { file: ColdFile::new(bell.file())? })
    }

    /// Sleeps until the bell was rung since the last wait.
    pub(super) async fn wait(&self) -> io::Result<()> {
        self.file.read_eventfd().await
    }

    pub(super) async fn close(self) {
        self.file.close().await;
    }
}

/// A file that is read through the worker's ring.
#[derive(Debug)]
pub(super) struct RingFile(BufferedFile);

impl RingFile {
    /// A duplicate of `file`. Only on glommio's executor.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        duplicate(file).map(Self)
    }

    /// At most `bytes` from `offset` on; none at the end of the file.
    pub(super) async fn read_at(&self, offset: u64, bytes: usize) -> io::Result<ReadResult> {
        self.0.read_at(offset, bytes).await.map_err(io_error)
    }

    pub(super) async fn close(self) {
        // The file was only read: nothing is lost when closing fails.
        let _ = self.0.close().await;
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

/// The kernel's own error, without glommio's wrapping where it can be taken off.
pub(super) fn io_error(err: GlommioError<()>) -> io::Error {
    match err {
        GlommioError::IoError(err) | GlommioError::EnhancedIoError { source: err, .. } => err,
        other => other.into(),
    }
}

/// One operation of the ring at most.
const CHUNK_BYTES: usize = 4 << 20;

/// Copied from memory before others have their turn: some 100 us.
const CACHED_BYTES: usize = 1 << 20;

/// Where bytes go that nobody wants to have: small enough to stay in the CPU's cache.
const SCRATCH_BYTES: usize = 32 << 10;

/// A signal or a full kernel queue may end a read early; more often than this is a fault.
const INTERRUPTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::rc::Rc;
    use std::sync::Arc;

    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;

    #[test]
    fn range_is_read_exactly_and_past_the_end_is_short() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..=250).cycle().take(CHUNK_BYTES * 2 + 77).collect();
        file.write_all(&content).unwrap();
        let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 16);
        builder.make().unwrap().run(async {
            for asks_cache in [true, false] {
                let counts = Arc::<WorkerCells>::default();
                let lanes = Lanes::new(Rc::default(), Arc::clone(&counts));
                let identity = FileIdentity::of(&file).unwrap();
                let reader = Reader::new(&file, identity, &lanes, &counts);
                check(&reader.asking_cache(asks_cache), &content).await;
                assert!(counts.read_bytes.value() > CHUNK_BYTES as u64);
                assert_eq!((lanes.count(), counts.tasks_cold.value()), (0, 0));
            }
        });
        // The descriptor given was a duplicate: the file is still open.
        assert_eq!(file.metadata().unwrap().len(), content.len() as u64);
    }

    async fn check(reader: &Reader<'_>, content: &[u8]) {
        for (offset, bytes) in [(0, 0), (0, 1), (5, 1000), (9, CHUNK_BYTES + 1)] {
            let read = reader.read(offset, bytes).await.unwrap();
            let start = usize::try_from(offset).unwrap();
            assert_eq!(&read[..], &content[start..start + bytes], "{offset} {bytes}");
        }
        let end = content.len() as u64;
        reader.page_in(end - 5, 5).await.unwrap();
        reader.page_in(0, end).await.unwrap();
        assert!(matches!(reader.read(end - 1, 2).await, Err(ReadError::Short { .. })));
        assert!(matches!(reader.read(end + 9, 2).await, Err(ReadError::Short { .. })));
        assert!(matches!(reader.read(u64::MAX, 2).await, Err(ReadError::Short { .. })));
        let short = reader.read(1, CHUNK_BYTES * 3).await;
        assert!(matches!(short, Err(ReadError::Short { .. })));
        assert!(matches!(reader.page_in(end, 1).await, Err(ReadError::Short { .. })));
    }

    #[test]
    fn bytes_in_memory_are_read_without_a_place_in_the_lane() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 16);
        builder.make().unwrap().run(async {
            for (asks_cache, expected) in [(true, 0), (false, 2)] {
                let counts = Arc::<WorkerCells>::default();
                let lanes = Lanes::new(Rc::default(), Arc::clone(&counts));
                let identity = FileIdentity::of(&file).unwrap();
                let reader = Reader::new(&file, identity, &lanes, &counts).asking_cache(asks_cache);
                let known = reader.read_cached(0, &mut [0]) > 0;
                reader.read(10, 90_000).await.unwrap();
                reader.page_in(10, 90_000).await.unwrap();
                if known || !asks_cache {
                    assert_eq!(counts.reads_cold.value(), expected);
                }
            }
        });
    }
}
