//! Bytes and hashes of a content, from memory or from its file.
//!
//! Invariant: a unit from the file is hashed again before it is given away, so that a damaged disk
//! or a file that somebody changed never gets to another node.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::intake::blocking;
use super::{Content, FileKind, Place, Published};
use crate::dist::units::{HashFrame, UNIT_BYTES, UnitFrame, UnitHash, units_of};
use crate::store::beneath::MediaFolder;
use crate::store::journal::{self, HashLog};
use crate::store::limits;

/// What a reader keeps from one read to the next.
#[derive(Debug, Default)]
pub(super) struct Reader {
    file: Option<Arc<File>>,
    log: Option<Arc<HashLog>>,
}

impl Content {
    /// Verified bytes of `range`. Reads it whole into memory: callers ask for pieces.
    ///
    /// # Errors
    /// `UnexpectedEof` when not all of it is verified yet, `InvalidData` when the file is damaged,
    /// others of the file system.
    pub async fn read(self: &Arc<Self>, range: Range<u64>) -> io::Result<Bytes> {
        let mut reader = Reader::default();
        self.read_by(&mut reader, range).await
    }

    /// The bytes of `range` in pieces of a few units.
    ///
    /// The stream ends with an error as [`Self::read`] fails.
    pub fn bytes(
        self: &Arc<Self>,
        range: Range<u64>,
    ) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + use<> {
        let start = (Arc::clone(self), Reader::default(), range);
        futures_util::stream::try_unfold(start, |(content, mut reader, range)| async move {
            if range.is_empty() {
                return Ok(None);
            }
            let end =
                range.end.min(range.start.saturating_add(limits::READ_UNITS_MAX * UNIT_BYTES));
            let bytes = content.read_by(&mut reader, range.start..end).await?;
            Ok::<_, io::Error>(Some((bytes, (content, reader, end..range.end))))
        })
    }

    async fn read_by(
        self: &Arc<Self>,
        reader: &mut Reader,
        range: Range<u64>,
    ) -> io::Result<Bytes> {
        if range.end > self.have() {
            let text = format!("{} verified bytes, asked for {}", self.have(), range.end);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let mut unit = range.start / UNIT_BYTES;
        let last = units_of(range.end);
        let mut found = BytesMut::new();
        while unit < last && !range.is_empty() {
            let count = (last - unit).min(limits::READ_UNITS_MAX);
            for frame in self.units(reader, unit, count).await? {
                let start = unit * UNIT_BYTES;
                let from = usize::try_from(range.start.saturating_sub(start)).unwrap_or(0);
                let to = usize::try_from(range.end - start).unwrap_or(usize::MAX);
                let bytes = frame.bytes();
                let to = to.min(bytes.len());
                found.extend_from_slice(bytes.get(from.min(to)..to).unwrap_or_default());
                unit += 1;
            }
        }
        Ok(found.freeze())
    }

    /// 1 to `count` verified units from `first` on. `first` is one that is there.
    pub(super) async fn units(
        self: &Arc<Self>,
        reader: &mut Reader,
        first: u64,
        count: u64,
    ) -> io::Result<Vec<UnitFrame>> {
        let limit = {
            let state = self.lock();
            if state.is_removed {
                return Err(removed());
            }
            let taken = usize::try_from(count).unwrap_or(1);
            let found: Vec<UnitFrame> = state.ring.from(first).take(taken).cloned().collect();
            if !found.is_empty() {
                return Ok(found);
            }
            state.written
        };
        let last = first.saturating_add(count).min(units_of(limit));
        let hashes = self.hashes(reader, first..last).await?;
        let file = self.file(reader).await?;
        let id = self.id;
        blocking(move || {
            let mut units = Vec::with_capacity(hashes.len());
            for (number, hash) in (first..).zip(hashes) {
                let start = number * UNIT_BYTES;
                let len = usize::try_from(UNIT_BYTES.min(limit - start)).unwrap_or(0);
                let unit = UnitFrame::fill(number, len, |bytes| file.read_exact_at(bytes, start))?;
                if UnitHash::of(number, unit.bytes()).value != hash {
                    tracing::error!(
                        code = "HE-E911", content = %id, unit = number,
                        "a content's file is damaged or was changed: nothing of it is sent on"
                    );
                    let text = format!("unit {number} on the disk fails its hash");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                units.push(unit);
            }
            Ok(units)
        })
        .await
    }

    /// The frame with the hash of `unit`.
    pub(super) async fn hash_frame(
        self: &Arc<Self>,
        reader: &mut Reader,
        unit: u64,
    ) -> io::Result<HashFrame> {
        let kept = self.lock().log.as_ref().map(|log| log.frame_of(unit).cloned());
        let frame = match kept {
            Some(frame) => frame,
            None => self.log(reader).await?.frame_of(unit).cloned(),
        };
        frame.ok_or_else(no_hash)
    }

    async fn hashes(
        self: &Arc<Self>,
        reader: &mut Reader,
        units: Range<u64>,
    ) -> io::Result<Vec<[u8; 32]>> {
        let kept = {
            let state = self.lock();
            state.log.as_ref().map(|log| units.clone().map(|unit| log.hash_of(unit)).collect())
        };
        let hashes: Option<Vec<[u8; 32]>> = match kept {
            Some(hashes) => hashes,
            None => {
                let log = self.log(reader).await?;
                units.map(|unit| log.hash_of(unit)).collect()
            }
        };
        hashes.filter(|hashes| !hashes.is_empty()).ok_or_else(no_hash)
    }

    /// The log of a whole content, read back from its journal and shared by all who need it now.
    async fn log(self: &Arc<Self>, reader: &mut Reader) -> io::Result<Arc<HashLog>> {
        if let Some(log) = &reader.log {
            return Ok(Arc::clone(log));
        }
        let shared = self.lock().loaded.upgrade();
        let log = match shared {
            Some(log) => log,
            None => {
                let (depot, id) = (Arc::clone(&self.depot), self.id);
                let log: io::Result<HashLog> = blocking(move || {
                    let file = depot.reopen(id, FileKind::Units)?;
                    // Signatures were checked as the frames came in; receivers check them again.
                    Ok(journal::read(&file, id, |_| true)?.log)
                })
                .await;
                let log = Arc::new(log?);
                self.lock().loaded = Arc::downgrade(&log);
                log
            }
        };
        reader.log = Some(Arc::clone(&log));
        Ok(log)
    }

    async fn file(self: &Arc<Self>, reader: &mut Reader) -> io::Result<Arc<File>> {
        if let Some(file) = &reader.file {
            return Ok(Arc::clone(file));
        }
        let (open, place) = {
            let state = self.lock();
            (state.files.as_ref().map(|files| Arc::clone(&files.data)), state.place.clone())
        };
        let file = match open {
            Some(file) => file,
            None => {
                let (depot, id) = (Arc::clone(&self.depot), self.id);
                let file: io::Result<File> = blocking(move || match place {
                    Place::Store => depot.reopen(id, FileKind::Data),
                    Place::Media(published) => published.open(),
                })
                .await;
                Arc::new(file?)
            }
        };
        reader.file = Some(Arc::clone(&file));
        Ok(file)
    }
}

impl Published {
    /// Opens the file, if it is still the one that was published.
    pub(in crate::store) fn open(&self) -> io::Result<File> {
        let file =
            MediaFolder::open(&self.root)?.open_file(&self.path).map_err(io::Error::other)?;
        let found = file.metadata()?;
        if (found.dev(), found.ino(), found.len()) != (self.device, self.inode, self.size) {
            let text = format!("'{}' is another file now", self.path);
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(file)
    }
}

pub(super) fn removed() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the content was removed")
}

fn no_hash() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a unit's hash is not in the journal")
}
