//! Readers of a path that move to another shard, whose ring has the same batches.
//!
//! ```text
//!  old ring   [b17][b18][b19]        the reader is at b19; its anchor is the newest batch
//!  new ring        [ b4][ b5][ b6]   the same block is b5 here: every place moves by -14
//! ```
//! Batches are the same blocks on every shard, so a block names a place in both rings.
//! Invariant: a reader goes on with the packet that follows the last one taken, or stays where it
//! was: what it would need is not in the new ring, or has not come yet.
//! Bound: the tracks of the path.

use std::sync::Arc;

use crate::base::carrier::Carrier;
use crate::live::core::batch::PacketBatch;
use crate::live::core::path::{LivePath, ReaderKey};
use crate::live::core::reader::{Cursor, FeedState, Reader, ReaderCounts, ReaderStream, To};
use crate::live::core::retransmit::RetransmitBudget;
use crate::live::core::ring::BatchRing;
use crate::live::core::start::Pace;

/// A reader of a path on its way.
#[derive(Debug)]
pub struct PackedFeed {
    carrier: Carrier,
    state: FeedState,
    pace: Pace,
    delay_ns: i64,
    epoch: u32,
    counts: ReaderCounts,
    streams: Vec<PackedFeedStream>,
    /// The newest batch of the ring that was left, and its number there.
    anchor: (u64, Arc<PacketBatch>),
}

#[derive(Debug)]
struct PackedFeedStream {
    track: u8,
    clock_rate_hz: u32,
    needs_sync: bool,
    /// Packets and payload bytes, for sender reports.
    sent: (u64, u64),
    is_datagram: bool,
    has_begun: bool,
    retransmit: RetransmitBudget,
    cursor: Cursor,
    /// The batch at its place; `None`: it has come to the end.
    at: Option<Arc<PacketBatch>>,
}

/// Whether a ring has what a reader needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Numbers of the new ring are those of the old one plus this, modulo 2^64.
    By(u64),
    /// The newest batch of the old ring has not come.
    NotYet,
    /// Packets that the reader still needs are not in the ring.
    Behind,
    /// The path has as many readers as it may.
    Full,
}

impl LivePath {
    /// Whether a reader can be packed: the ring has a batch that names its place.
    #[must_use]
    pub fn can_pack(&self, key: ReaderKey) -> bool {
        let is_primed = |reader: &Reader| matches!(reader.state, FeedState::Primed(_));
        self.ring.newest().is_some() && self.reader(key).is_some_and(|reader| !is_primed(reader))
    }

    /// Takes a reader from the path.
    pub fn pack_reader(&mut self, key: ReaderKey) -> Option<(PackedFeed, Reader)> {
        let anchor = (self.ring.end_no().checked_sub(1)?, Arc::clone(self.ring.newest()?));
        let reader = self.remove_reader(key)?;
        let ring = &self.ring;
        let streams = reader.streams.iter().map(|stream| PackedFeedStream {
            at: ring.batch(stream.cursor.place.no).cloned(),
            track: stream.track,
            clock_rate_hz: stream.clock_rate_hz,
            needs_sync: stream.needs_sync,
            sent: (
                stream.sent_before.0 + stream.packets_sent,
                stream.sent_before.1 + stream.payload_bytes_sent,
            ),
            is_datagram: stream.is_datagram,
            has_begun: stream.has_begun,
            retransmit: stream.retransmit,
            cursor: stream.cursor,
        });
        let packed = PackedFeed {
            carrier: reader.carrier,
            state: reader.state,
            pace: reader.pace,
            delay_ns: reader.delay_ns,
            epoch: reader.epoch,
            counts: reader.counts(),
            streams: streams.collect(),
            anchor,
        };
        Some((packed, reader))
    }

    /// Whether the path has what the reader needs.
    #[must_use]
    pub fn fit(&self, feed: &PackedFeed) -> Fit {
        let (old_no, anchor) = &feed.anchor;
        let Some(new_no) = self.ring.number_of(anchor) else {
            // Old batches go when a reader has been under way for long.
            let is_older = |newest: &Arc<PacketBatch>| newest.received() > anchor.received();
            return if self.ring.newest().is_some_and(is_older) {
                Fit::Behind
            } else {
                Fit::NotYet
            };
        };
        if !self.has_room() {
            return Fit::Full;
        }
        let by = new_no.wrapping_sub(*old_no);
        let is_playing = feed.state == FeedState::Playing;
        // Rings may lack batches that the other has: a full inbox costs its shard some.
        let is_here = |stream: &PackedFeedStream| {
            let here = self.ring.batch(stream.cursor.place.no.wrapping_add(by));
            self.has_from(stream.cursor.place.no, by)
                && stream
                    .at
                    .as_ref()
                    .is_none_or(|at| here.is_some_and(|here| Arc::ptr_eq(here, at)))
        };
        match !is_playing || feed.streams.iter().all(is_here) {
            true => Fit::By(by),
            false => Fit::Behind,
        }
    }

    fn has_from(&self, no: u64, by: u64) -> bool {
        let no = no.wrapping_add(by);
        (self.ring.first_no()..=self.ring.end_no()).contains(&no)
    }

    /// Takes a reader in that fits: see `fit`. `to` has the destination of each stream. `None` when
    /// the path has `readers_max` readers.
    pub fn unpack_reader(
        &mut self,
        feed: &PackedFeed,
        by: u64,
        owner: u64,
        to: &[To],
    ) -> Option<ReaderKey> {
        let key = self.add_reader(owner, feed.carrier).ok()?;
        let is_here: Vec<bool> =
            feed.streams.iter().map(|s| self.has_from(s.cursor.place.no, by)).collect();
        let reader = self.reader_mut(key)?;
        reader.state = feed.state;
        reader.pace = feed.pace;
        reader.delay_ns = feed.delay_ns;
        reader.epoch = feed.epoch;
        reader.elsewhere = feed.counts;
        let to = to.iter().copied().chain(std::iter::repeat(To::Nowhere));
        let streams = feed.streams.iter().zip(to).zip(is_here).map(|((stream, to), is_here)| {
            let mut made = ReaderStream::new(stream.track, stream.clock_rate_hz, stream.needs_sync);
            made.sent_before = stream.sent;
            made.is_datagram = stream.is_datagram;
            made.has_begun = stream.has_begun;
            made.to = to;
            made.retransmit = stream.retransmit;
            made.cursor = moved(stream.cursor, by);
            if !is_here {
                // One that does not play, whose place this ring never had: as one that begins.
                made.move_to(0);
            }
            made
        });
        reader.streams = streams.collect();
        Some(key)
    }
}

/// A cursor with the numbers of another ring. A place before its first batch is that of no batch.
fn moved(mut cursor: Cursor, by: u64) -> Cursor {
    let no = |no: u64| {
        let moved = no.wrapping_add(by);
        // Numbers count up from zero: one that would be below it is far above all.
        if moved > u64::MAX / 2 { 0 } else { moved }
    };
    cursor.place.no = no(cursor.place.no);
    cursor.rewrite_from.0 = no(cursor.rewrite_from.0);
    cursor
}

impl BatchRing {
    /// Number of a block in this ring; `None`: it is not here.
    #[must_use]
    pub fn number_of(&self, batch: &Arc<PacketBatch>) -> Option<u64> {
        // From the end: a block that is asked for is one of the newest.
        (self.first_no()..self.end_no())
            .rev()
            .find(|no| self.batch(*no).is_some_and(|here| Arc::ptr_eq(here, batch)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Mono;
    use crate::live::core::batch::tests::{arrival, packet};
    use crate::live::core::batch::{BatchBuilder, Generation};
    use crate::live::core::ring::RingLimits;

    #[test]
    fn block_that_two_rings_have_says_what_lies_between_their_numbers() {
        let (mut old, mut new) =
            [(), ()].map(|()| BatchRing::new(Some(0), RingLimits::default())).into();
        let mut blocks = Vec::new();
        for seq in 0..10 {
            let mut builder = BatchBuilder::default();
            let bytes = packet(seq, 0, 1, 1_000);
            builder.push(&arrival(&bytes, 0, seq % 3 == 0), Mono(1)).unwrap();
            let block = Arc::new(builder.build(Generation(0), |_| None).unwrap());
            old.push(Arc::clone(&block), Mono(1));
            // The new shard listens from the seventh on.
            if seq >= 6 {
                new.push(Arc::clone(&block), Mono(1));
            }
            blocks.push(block);
        }
        assert_eq!((old.number_of(&blocks[9]), new.number_of(&blocks[9])), (Some(9), Some(3)));
        assert_eq!(new.number_of(&blocks[5]), None, "it came before");
        let by = 3_u64.wrapping_sub(9);
        let mut cursor = ReaderStream::new(0, 90_000, true).cursor;
        cursor.place.no = 8;
        cursor.rewrite_from.0 = 1;
        let there = moved(cursor, by);
        assert_eq!((there.place.no, there.rewrite_from.0), (2, 0), "what is gone is before all");
        let back = moved(there, 9_u64.wrapping_sub(3));
        assert_eq!(back.place.no, 8);
    }
}
