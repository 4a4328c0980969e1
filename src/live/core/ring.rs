//! The newest batches of a path, and where its newest group of pictures begins.
//!
//! ```text
//!  first                       newest key frame       end
//!   [b17][b18][b19][b20][b21]..[b40: S][b41]..[b55]    b56 comes next
//!     ^ a late reader             ^ a new reader        ^ the others
//! ```
//! Numbers belong to one ring: batches are the same blocks on every shard, their numbers differ.
//! Where tables come apart from their key frame (MPEG-TS), readers start at the batch with the
//! newest tables before the key frame; the start is known when the key frame arrives.
//!
//! The ring keeps all batches from the newest key frame on, and a history before it, within the
//! budget. A ring over budget drops its oldest batches, even the start of the group of pictures.
//!
//! Invariants: numbers have no gaps; a start lies in the ring and in the present source.
//! Bounds: a budget of bytes, less of it while all rings hold too much (`held`),
//! `RING_BATCHES_MAX` batches. DESIGN section 5.3.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::SeqNo;
use crate::base::time::Mono;
use crate::live::core::batch::{LivePacket, PacketBatch};
use crate::live::core::held::budget_of;
use crate::live::core::limits::{RING_BATCHES_MAX, RING_BYTES, RING_HISTORY};

/// Limits of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// Memory, bookkeeping included.
    pub bytes_max: usize,
    /// Time kept before the newest group of pictures.
    pub history: Duration,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { bytes_max: RING_BYTES, history: RING_HISTORY }
    }
}

/// The newest batches of a path: see the module.
#[derive(Debug)]
pub struct BatchRing {
    batches: VecDeque<Arc<PacketBatch>>,
    first_no: u64,
    bytes: usize,
    /// Numbers of the batches in which a key frame begins, oldest first.
    syncs: VecDeque<u64>,
    /// Number of the newest batch with a start, whether its key frame has arrived or not.
    entry: Option<u64>,
    /// Number of the present source's first batch.
    source_from: u64,
    sync_track: Option<u8>,
    limits: RingLimits,
}

/// A packet found by its sequence number.
#[derive(Debug, Clone)]
pub struct Found {
    /// Number of its batch.
    pub no: u64,
    /// The batch that it is in.
    pub batch: Arc<PacketBatch>,
    /// The packet in that batch.
    pub packet: LivePacket,
}

impl BatchRing {
    /// An empty ring of a path whose readers start at key frames of `sync_track`.
    #[must_use]
    pub fn new(sync_track: Option<u8>, limits: RingLimits) -> Self {
        let (batches, syncs) = (VecDeque::new(), VecDeque::new());
        let entry = None;
        Self { batches, first_no: 0, bytes: 0, syncs, entry, source_from: 0, sync_track, limits }
    }

    /// Sets the limits from the next batch on.
    pub fn set_limits(&mut self, limits: RingLimits) {
        self.limits = limits;
    }

    /// Adds the newest batch, and drops batches beyond the limits. Returns the batch's number.
    pub fn push(&mut self, batch: Arc<PacketBatch>, now: Mono) -> u64 {
        let no = self.end_no();
        let is_new_source =
            self.batches.back().is_some_and(|last| last.generation() != batch.generation());
        if is_new_source && self.source_from < no {
            self.break_off();
        }
        if let Some(track) = self.sync_track {
            self.note_syncs(&batch, track, no);
        }
        self.bytes += batch.memory_bytes();
        self.batches.push_back(batch);
        self.evict(now);
        no
    }

    fn note_syncs(&mut self, batch: &PacketBatch, track: u8, no: u64) {
        if batch.completes_start(track)
            && let Some(entry) = self.entry.take()
            && entry >= self.first_no
            && self.syncs.back().is_none_or(|newest| *newest < entry)
        {
            self.syncs.push_back(entry);
        }
        if batch.has_sync(track) {
            self.entry = Some(no);
            if !batch.awaits_picture(track) {
                self.syncs.push_back(no);
            }
        }
    }

    /// Another source follows. The present batches stay for late readers; new readers start with
    /// the new source.
    pub fn break_off(&mut self) {
        self.syncs.clear();
        self.entry = None;
        self.source_from = self.end_no();
    }

    /// Drops everything: the path goes on with other tracks.
    pub fn clear(&mut self, sync_track: Option<u8>) {
        self.first_no = self.end_no();
        self.batches.clear();
        self.break_off();
        (self.bytes, self.sync_track) = (0, sync_track);
    }

    /// A batch by its number; `None` when the batch has been dropped or has not arrived.
    #[must_use]
    pub fn batch(&self, no: u64) -> Option<&Arc<PacketBatch>> {
        self.batches.get(usize::try_from(no.checked_sub(self.first_no)?).ok()?)
    }

    /// Number of the oldest batch, or of the next one in an empty ring.
    #[must_use]
    pub fn first_no(&self) -> u64 {
        self.first_no
    }

    /// Number of the next batch.
    #[must_use]
    pub fn end_no(&self) -> u64 {
        self.first_no + self.batches.len() as u64
    }

    /// The batch in which the newest group of pictures begins. Without a track that needs key
    /// frames: the newest batch.
    #[must_use]
    pub fn newest_start(&self) -> Option<u64> {
        match self.sync_track {
            Some(_) => self.syncs.back().copied(),
            None => self.end_no().checked_sub(1).filter(|no| *no >= self.source_from),
        }
    }

    /// The newest batch of the present source, from `from` backwards, with packets of a track.
    #[must_use]
    pub fn newest_with(&self, track: u8, from: u64) -> Option<u64> {
        let has = |no: &u64| self.batch(*no).is_some_and(|b| !b.runs_of(track).is_empty());
        (self.first_no.max(self.source_from)..self.end_no().min(from.saturating_add(1)))
            .rev()
            .find(has)
    }

    /// The oldest batch.
    #[must_use]
    pub fn oldest(&self) -> Option<&Arc<PacketBatch>> {
        self.batches.front()
    }

    /// The newest batch.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<PacketBatch>> {
        self.batches.back()
    }

    /// Batches for a shard that begins to listen: from the newest start on.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Arc<PacketBatch>> {
        let from = self.newest_start().unwrap_or_else(|| self.end_no());
        (from..self.end_no()).filter_map(|no| self.batch(no).cloned()).collect()
    }

    /// The newest packet with a sequence number, as received or in the form for readers over UDP.
    /// Only batches from `oldest_no` on are searched.
    #[must_use]
    pub fn find(&self, track: u8, is_datagram: bool, seq: SeqNo, oldest_no: u64) -> Option<Found> {
        (self.first_no.max(oldest_no)..self.end_no()).rev().find_map(|no| {
            let batch = self.batch(no)?;
            let runs =
                if is_datagram { batch.datagram_runs_of(track) } else { batch.runs_of(track) };
            let mut packets = runs.iter().flat_map(|run| batch.packets_of(run));
            let packet = packets.find(|packet| packet.seq == seq).copied()?;
            Some(Found { no, batch: Arc::clone(batch), packet })
        })
    }

    /// Memory of all batches.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn evict(&mut self, now: Mono) {
        let budget = budget_of(self.limits.bytes_max);
        // Bounded: each round takes one batch out. The newest one always stays.
        while self.batches.len() > 1 {
            let Some(oldest) = self.batches.front() else { return };
            let is_over = self.bytes > budget || self.batches.len() > RING_BATCHES_MAX;
            let is_needed = self.syncs.back().is_some_and(|sync| *sync <= self.first_no);
            let is_old = now.since(oldest.received()) > self.limits.history && !is_needed;
            if !is_over && !is_old {
                return;
            }
            self.bytes -= oldest.memory_bytes();
            self.batches.pop_front();
            self.first_no += 1;
            while self.syncs.front().is_some_and(|sync| *sync < self.first_no) {
                self.syncs.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::live::core::batch::tests::{arrival, packet};
    use crate::live::core::batch::{BatchBuilder, Entry, Generation};

    fn batch(generation: u32, seq: u16, is_sync: bool, at_ms: u64) -> Arc<PacketBatch> {
        let mut builder = BatchBuilder::default();
        let bytes = packet(seq, 0, 1, 1_000);
        builder.push(&arrival(&bytes, 0, is_sync), Mono(at_ms * 1_000_000)).unwrap();
        Arc::new(builder.build(Generation(generation), |_| None).unwrap())
    }

    fn push(ring: &mut BatchRing, generation: u32, seq: u16, is_sync: bool, at_ms: u64) -> u64 {
        ring.push(batch(generation, seq, is_sync, at_ms), Mono(at_ms * 1_000_000))
    }

    #[test]
    fn newest_group_of_pictures_is_kept_however_long_it_is_and_history_behind_it() {
        let mut ring = BatchRing::new(Some(0), RingLimits::default());
        for n in 0..20_u16 {
            // A key frame at 0 s and at 10 s.
            push(&mut ring, 0, n, n % 10 == 0, u64::from(n) * 1_000);
            let start = if n < 10 { 0 } else { 10 };
            assert_eq!(ring.newest_start(), Some(start), "at {n} s");
            assert!(ring.batch(start).is_some());
        }
        // Four seconds of history at 10 s; the start of the group since then.
        assert_eq!((ring.first_no(), ring.end_no()), (10, 20));
        assert_eq!(ring.snapshot().len(), 10);
    }

    #[test]
    fn group_of_pictures_over_the_budget_loses_its_start() {
        let one = batch(0, 0, true, 0).memory_bytes();
        let limits = RingLimits { bytes_max: one * 4, ..RingLimits::default() };
        let mut ring = BatchRing::new(Some(0), limits);
        for n in 0..5 {
            push(&mut ring, 0, n, n == 0, 0);
        }
        assert_eq!((ring.newest_start(), ring.first_no()), (None, 1));
        assert!(ring.memory_bytes() <= limits.bytes_max && ring.snapshot().is_empty());
        assert_eq!(push(&mut ring, 0, 5, true, 0), 5);
        assert_eq!(ring.newest_start(), Some(5));
    }

    #[test]
    fn new_source_has_no_start_before_its_own_sync_sample() {
        let mut ring = BatchRing::new(Some(0), RingLimits::default());
        push(&mut ring, 0, 0, true, 0);
        ring.break_off();
        assert_eq!(ring.newest_start(), None, "told before it sends");
        push(&mut ring, 1, 900, false, 10);
        assert_eq!(ring.newest_start(), None);
        assert!(ring.batch(0).is_some(), "late readers still need it");
        assert_eq!(push(&mut ring, 1, 901, true, 20), 2);
        assert_eq!(ring.newest_start(), Some(2));
        assert_eq!((ring.newest_with(0, 1), ring.newest_with(1, 1)), (Some(1), None));
        push(&mut ring, 2, 0, false, 30);
        assert_eq!((ring.newest_start(), ring.newest_with(0, 2)), (None, None), "nor untold");
    }

    #[test]
    fn path_without_sync_samples_starts_with_the_newest_batch() {
        let mut ring = BatchRing::new(None, RingLimits::default());
        assert_eq!(ring.newest_start(), None);
        push(&mut ring, 0, 0, false, 0);
        push(&mut ring, 0, 1, false, 0);
        assert_eq!(ring.newest_start(), Some(1));
        ring.clear(Some(0));
        assert_eq!((ring.newest_start(), ring.end_no(), ring.memory_bytes()), (None, 2, 0));
    }

    #[test]
    fn transport_stream_starts_at_the_newest_tables_before_a_key_frame_that_has_come() {
        let mut ring = BatchRing::new(Some(0), RingLimits::default());
        let mut push = |entries: &[Entry]| {
            let mut builder = BatchBuilder::default();
            for entry in entries {
                let bytes = packet(0, 0, 1, 1_000);
                builder.push(&arrival(&bytes, 0, entry.is_sync()), Mono(0)).unwrap();
                builder.note_entry(0, *entry);
            }
            ring.push(Arc::new(builder.build(Generation(0), |_| None).unwrap()), Mono(0));
            ring.newest_start()
        };
        use Entry::{Nothing, Picture, Start, Tables};
        assert_eq!(push(&[Picture]), None, "nobody could begin without tables");
        assert_eq!(push(&[Tables, Nothing]), None);
        assert_eq!(push(&[Nothing, Tables, Nothing]), None);
        assert_eq!(push(&[Nothing]), None);
        assert_eq!(push(&[Nothing, Picture, Picture, Tables]), Some(2));
        assert_eq!(push(&[Nothing]), Some(2));
        assert_eq!(push(&[Picture]), Some(4), "tables behind a picture are the next one's");
        assert_eq!(push(&[Picture]), Some(4), "and only that one's");
        assert_eq!(push(&[Tables, Nothing, Tables, Picture]), Some(8));
        assert_eq!(push(&[Start, Tables]), Some(9));
        assert_eq!(push(&[Picture]), Some(9), "whose first sync packet is sent first");
        let syncs = |no| {
            let runs = ring.batch(no).unwrap().runs_of(0).iter().filter(|run| run.is_sync);
            runs.map(|run| run.first_packet).collect::<Vec<_>>()
        };
        assert_eq!(syncs(8), [2], "with the newest tables");
        assert_eq!(syncs(9), [0, 1]);
    }

    #[test]
    fn packet_is_found_by_number_while_it_is_in_the_ring_and_recent() {
        let mut ring = BatchRing::new(Some(0), RingLimits::default());
        for n in 0..10 {
            push(&mut ring, 0, 65_530_u16.wrapping_add(n), n == 0, 0);
        }
        let found = ring.find(0, false, SeqNo(2), 0).unwrap();
        assert_eq!(found.batch.packet_bytes(&found.packet), packet(2, 0, 1, 1_000));
        assert!(ring.find(0, true, SeqNo(65_530), 1).is_none());
        assert!(
            ring.find(0, false, SeqNo(77), 0).is_none()
                && ring.find(1, true, SeqNo(2), 0).is_none()
        );
    }

    proptest! {
        #[test]
        fn ring_stays_within_its_bounds_and_its_start_is_a_sync_sample(
            pushes in prop::collection::vec((0_u32..3, any::<bool>(), 0_u64..3_000), 1..300),
            batches_max in 1_usize..20,
        ) {
            let one = batch(0, 0, true, 0).memory_bytes();
            let limits = RingLimits { bytes_max: one * batches_max, ..RingLimits::default() };
            let mut ring = BatchRing::new(Some(0), limits);
            let (mut at, mut generation) = (0, 0);
            for (no, (step, is_sync, wait)) in (0_u64..).zip(&pushes) {
                at += wait;
                generation += u32::from(*step == 0);
                prop_assert_eq!(push(&mut ring, generation, 0, *is_sync, at), no);
                prop_assert!(ring.memory_bytes() <= limits.bytes_max);
                prop_assert_eq!(ring.end_no(), no + 1);
                let kept: usize = (ring.first_no()..ring.end_no())
                    .map(|no| ring.batch(no).unwrap().memory_bytes()).sum();
                prop_assert_eq!(kept, ring.memory_bytes());
                if let Some(start) = ring.newest_start() {
                    let batch = ring.batch(start).unwrap();
                    prop_assert!(batch.has_sync(0) && batch.generation() == Generation(generation));
                }
            }
        }
    }
}
