//! A content as frames, from any unit to its end, as it grows.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::watch;

use super::read::{Reader, removed};
use super::{Content, Progress};
use crate::dist::units::{UNIT_BYTES, units_of};
use crate::store::limits;

/// Where a stream is.
struct Cursor {
    content: Arc<Content>,
    progress: watch::Receiver<Progress>,
    reader: Reader,
    /// The next unit.
    unit: u64,
    /// The stream ends in front of this unit.
    last: u64,
    /// Units before this have their hash sent.
    covered: u64,
    ready: VecDeque<Bytes>,
    /// True while it is behind the ring.
    reads_disk: bool,
    has_ended: bool,
}

impl Content {
    /// Frames of `wire::peer` from the unit of byte `from` on. Waits for growth; the end frame is
    /// the last item. An error ends it: the content was removed, or its file is damaged.
    pub fn frames(
        self: &Arc<Self>,
        from: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        self.frames_until(from, u64::MAX)
    }

    /// The same for a part: it ends behind the unit with the byte before `to`, without a frame of
    /// the end.
    pub fn frames_until(
        self: &Arc<Self>,
        from: u64,
        to: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let cursor = Cursor {
            content: Arc::clone(self),
            progress: self.watch(),
            reader: Reader::default(),
            unit: from / UNIT_BYTES,
            last: units_of(to),
            covered: 0,
            ready: VecDeque::new(),
            reads_disk: false,
            has_ended: false,
        };
        futures_util::stream::try_unfold(cursor, |mut cursor| async move {
            let next = cursor.next().await?;
            Ok::<_, io::Error>(next.map(|bytes| (bytes, cursor)))
        })
    }
}

impl Cursor {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if self.has_ended || self.unit >= self.last {
                return Ok(None);
            }
            let now = *self.progress.borrow_and_update();
            if now.is_removed {
                return Err(removed());
            }
            let units = units_of(now.have);
            if self.unit < units {
                self.take_units(units).await?;
            } else if let Some(end) = self.content.end_frame() {
                self.has_ended = true;
                // From behind the end on there is nothing to send: not even what the end is.
                if self.unit <= units {
                    self.ready.push_back(end);
                }
            } else if self.progress.changed().await.is_err() {
                return Err(removed());
            }
        }
    }

    /// Gets the next units ready, and the frame with their hashes before them.
    async fn take_units(&mut self, units: u64) -> io::Result<()> {
        if self.unit >= self.covered {
            let frame = self.content.hash_frame(&mut self.reader, self.unit).await?;
            self.covered = frame.end();
            self.ready.push_back(frame.encoded().clone());
        }
        let last = self.covered.min(units).min(self.last);
        let count = (last - self.unit).min(limits::READ_UNITS_MAX);
        self.note_reader();
        let found = self.content.units(&mut self.reader, self.unit, count).await?;
        self.unit += found.len() as u64;
        self.ready.extend(found.iter().map(|unit| unit.encoded().clone()));
        Ok(())
    }

    /// Tells the content whether this stream needs its pages.
    fn note_reader(&mut self) {
        let mut state = self.content.lock();
        let reads_disk = state.ring.get(self.unit).is_none();
        if reads_disk && !self.reads_disk {
            state.disk_readers += 1;
        } else if !reads_disk && self.reads_disk {
            state.disk_readers -= 1;
        }
        self.reads_disk = reads_disk;
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if self.reads_disk {
            self.content.lock().disk_readers -= 1;
        }
    }
}

impl Content {
    fn end_frame(&self) -> Option<Bytes> {
        self.lock().end.as_ref().map(|frame| frame.encoded().clone())
    }
}
