//! A path on a shard with readers: the ring of the path, its readers, the queue of ready readers.
//!
//! ```text
//!  batch --push--> ring, readers that wait are queued
//!  pump: pop_ready -> for each stream: next -> Run: send, take -> .. -> Waiting | At
//!                                        ^-----------rewind-------- no room
//! ```
//! Sums over the readers are kept with each count: a question for the sums visits no reader.
//!
//! `queues` has the order of ready readers. Invariants: a slow reader changes nothing for another
//! reader; the work for each packet of each reader is one count; the arrival of a batch costs the
//! same for any number of readers.
//! Bound: `READERS_MAX` readers, the ring's limits. DESIGN section 5.4.

use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::base::carrier::Carrier;
use crate::base::ids::{RtpTs, SeqNo};
use crate::base::time::Mono;
use crate::live::core::batch::{Generation, LiveRun, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::info::reader_totals;
use crate::live::core::limits::{IDLE_CLOSE, LAG_BUDGET, READERS_MAX};
use crate::live::core::queues::Queues;
use crate::live::core::reader::{
    Begun, FeedState, LiveMark, NextRun, Reader, ReaderStream, SkipReason, To,
};
use crate::live::core::retransmit::SentPacket;
use crate::live::core::rewrite::HeaderRewrite;
use crate::live::core::ring::{BatchRing, RingLimits};
use crate::live::core::start::{Pace, StartPolicy, StreamStart, stream_starts};
use crate::metrics::paths::PathTotals;
use crate::rtp::RtxRefusal;
use crate::rtp::srtp::SrtpStream;

/// Key of a path of the shard; the serial tells the path from a later one at the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PathKey {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

/// Key of a reader of the shard; the serial tells the reader from a later one at the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReaderKey {
    pub(crate) path: PathKey,
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

impl ReaderKey {
    /// Index among the readers of the path.
    #[must_use]
    pub fn place(self) -> usize {
        self.index as usize
    }
}

/// Limits of a path's readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathLimits {
    /// Limits of the ring.
    pub ring: RingLimits,
    /// Lag of a reader at which the reader skips.
    pub lag_budget: Duration,
    /// Most readers of the path on the shard.
    pub readers_max: usize,
    /// Time for which the shard keeps a path without readers.
    pub linger: Duration,
}

impl Default for PathLimits {
    fn default() -> Self {
        let ring = RingLimits::default();
        Self { ring, lag_budget: LAG_BUDGET, readers_max: READERS_MAX, linger: IDLE_CLOSE }
    }
}

/// A path on a shard with readers: see the module.
#[derive(Debug)]
pub struct LivePath {
    pub(crate) key: PathKey,
    /// The path is on the shard's list of paths with ready readers.
    pub(crate) is_listed: bool,
    name: Arc<str>,
    pub(crate) description: Arc<Description>,
    pub(crate) generation: Generation,
    pub(crate) ring: BatchRing,
    pub(crate) readers: Slab<(u32, Reader)>,
    serial: u32,
    primed_count: usize,
    /// Sum of `reader_totals` of all readers.
    pub(crate) totals: PathTotals,
    /// Number of readers, by carrier.
    carriers: [u64; Carrier::LABELS.len()],
    pub(crate) queues: Queues,
    limits: PathLimits,
    /// Time of the newest request for a key frame on behalf of readers that lost packets.
    pub(crate) sync_wanted: Option<Mono>,
}

/// The next packets of a stream, with the reader's lag and pace applied.
#[derive(Debug)]
pub enum Next<'a> {
    /// A run that is due now.
    Run(DueRun<'a>),
    /// Nothing is due before this time.
    At(Mono),
    /// Nothing is due before the next batch arrives.
    Waiting,
    /// The reader does not play, or has been removed.
    Idle,
}

/// A due run of a reader.
#[derive(Debug)]
pub struct DueRun<'a> {
    /// Owner of the bytes: to be kept until the bytes are sent.
    pub batch: &'a Arc<PacketBatch>,
    /// The run in the batch.
    pub run: LiveRun,
    /// Packets at the beginning of the run that were sent already.
    pub skip_packets: u16,
    /// Difference between the reader's headers and the source's.
    pub rewrite: HeaderRewrite,
    /// Time at which the run was due.
    pub due: Mono,
}

/// Figures of a sender report on a reader's stream (RFC 3550 s6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamReport {
    /// RTP time of the moment that `report` was asked for.
    pub rtp_ts: RtpTs,
    /// RTP packets sent.
    pub packets: u64,
    /// Payload bytes sent.
    pub payload_bytes: u64,
}

/// Whether readers go on with a new source of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuation {
    /// The readers go on.
    GoOn,
    /// The readers end: the SDP told them of other tracks.
    End,
}

/// Why a path on this shard does not take a reader or a stream. Its owner has not refused the shard
/// (`RefusedError`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path has `readers_max` readers.
    #[error("{max} readers are enough")]
    TooManyReaders {
        /// `readers_max`.
        max: usize,
    },
    /// The path has no such track.
    #[error("no track {track}")]
    NoTrack {
        /// The requested track.
        track: u8,
    },
    /// The reader has been removed.
    #[error("no such reader")]
    NoReader,
}

impl LivePath {
    /// A path with the snapshot that the owner sent.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        (generation, description): (Generation, Arc<Description>),
        snapshot: Vec<Arc<PacketBatch>>,
        limits: PathLimits,
        now: Mono,
    ) -> Self {
        let mut ring = BatchRing::new(description.sync_track(), limits.ring);
        for batch in snapshot {
            ring.push(batch, now);
        }
        Self {
            key: PathKey::default(),
            is_listed: false,
            name,
            description,
            generation,
            ring,
            readers: Slab::new(),
            serial: 0,
            primed_count: 0,
            totals: PathTotals::default(),
            carriers: [0; Carrier::LABELS.len()],
            queues: Queues::default(),
            limits,
            sync_wanted: None,
        }
    }

    /// Name of the path.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Description of the present source.
    #[must_use]
    pub fn description(&self) -> &Arc<Description> {
        &self.description
    }

    /// The batches that are kept.
    #[must_use]
    pub fn ring(&self) -> &BatchRing {
        &self.ring
    }

    /// Sets new limits. Present readers stay, even above `readers_max`.
    pub fn set_limits(&mut self, limits: PathLimits) {
        self.ring.set_limits(limits.ring);
        self.limits = limits;
    }

    /// Time for which the shard keeps the path without readers.
    #[must_use]
    pub fn linger(&self) -> Duration {
        self.limits.linger
    }

    /// A batch has arrived: readers that wait for a batch become ready.
    pub fn push(&mut self, batch: Arc<PacketBatch>, now: Mono) {
        if batch.generation() != self.generation {
            // The batch is of an earlier source: the owner announces a new source first.
            return;
        }
        self.ring.push(batch, now);
        self.queues.release();
    }

    /// The path has another source.
    pub fn handle_source(
        &mut self,
        generation: Generation,
        description: Arc<Description>,
    ) -> Continuation {
        if generation == self.generation {
            // The message is a repetition.
            self.description = description;
            return Continuation::GoOn;
        }
        let goes_on = description.continues(&self.description);
        if goes_on {
            self.ring.break_off();
        } else {
            self.ring.clear(description.sync_track());
        }
        (self.generation, self.description) = (generation, description);
        if goes_on { Continuation::GoOn } else { Continuation::End }
    }

    /// Generation and description of the present source, as known on this shard.
    pub(crate) fn held(&self) -> (Arc<str>, Generation, Arc<Description>) {
        (Arc::clone(&self.name), self.generation, Arc::clone(&self.description))
    }

    /// Adds a reader. `owner` is the caller's number of the reader.
    ///
    /// # Errors
    /// `TooManyReaders` when the path has `readers_max`.
    pub fn add_reader(&mut self, owner: u64, carrier: Carrier) -> Result<ReaderKey, PathError> {
        if self.readers.len() >= self.limits.readers_max {
            return Err(PathError::TooManyReaders { max: self.limits.readers_max });
        }
        self.serial = self.serial.wrapping_add(1);
        self.carriers[carrier as usize] += 1;
        let reader = Reader::new(owner, carrier, Vec::new());
        let index = u32::try_from(self.readers.insert((self.serial, reader))).unwrap_or(u32::MAX);
        Ok(ReaderKey { path: self.key, index, serial: self.serial })
    }

    /// Whether the path takes one more reader.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.readers.len() < self.limits.readers_max
    }

    /// Adds a stream to a reader, with the destination of its packets. Returns the index of the
    /// stream.
    ///
    /// # Errors
    /// `NoReader`, `NoTrack`.
    pub fn add_stream(&mut self, key: ReaderKey, track: u8, to: To) -> Result<u8, PathError> {
        let Some(spec) = self.description.tracks.get(usize::from(track)) else {
            return Err(PathError::NoTrack { track });
        };
        let mut stream = ReaderStream::new(track, spec.clock_rate_hz, spec.needs_sync);
        let reader = self.reader_mut(key).ok_or(PathError::NoReader)?;
        stream.is_datagram = reader.carrier != Carrier::Tcp;
        stream.to = to;
        reader.streams.push(stream);
        Ok(u8::try_from(reader.streams.len() - 1).unwrap_or(u8::MAX))
    }

    /// Sets what encrypts the packets of a stream.
    pub fn set_srtp(&mut self, key: ReaderKey, stream_index: u8, srtp: Option<SrtpStream>) {
        let reader = self.reader_mut(key);
        let stream = reader.and_then(|r| r.streams.get_mut(usize::from(stream_index)));
        if let Some(stream) = stream {
            stream.srtp = srtp;
        }
    }

    /// Removes a stream of a reader; the indices of later streams decrease by one.
    pub fn remove_stream(&mut self, key: ReaderKey, stream_index: u8) {
        let Some(reader) = self.reader_mut(key) else { return };
        if usize::from(stream_index) < reader.streams.len() {
            let stream = reader.streams.remove(usize::from(stream_index));
            reader.left.0 += stream.packets_sent;
            reader.left.1 += stream.payload_bytes_sent;
            // Marks name streams by index.
            reader.epoch = reader.epoch.wrapping_add(1);
        }
    }

    /// Removes a reader.
    pub fn remove_reader(&mut self, key: ReaderKey) -> Option<Reader> {
        let (_, reader) =
            self.readers.get(key.index as usize).filter(|(serial, _)| *serial == key.serial)?;
        self.primed_count -= usize::from(matches!(reader.state, FeedState::Primed(_)));
        self.carriers[reader.carrier as usize] -= 1;
        self.totals.subtract(&reader_totals(reader));
        // An entry of the reader in the queue is skipped later.
        self.readers.try_remove(key.index as usize).map(|(_, reader)| reader)
    }

    /// A reader by its key.
    #[must_use]
    pub fn reader(&self, key: ReaderKey) -> Option<&Reader> {
        let (serial, reader) = self.readers.get(key.index as usize)?;
        (*serial == key.serial).then_some(reader)
    }

    /// All readers.
    pub fn readers(&self) -> impl Iterator<Item = (ReaderKey, &Reader)> {
        self.readers.iter().map(|(index, (serial, reader))| {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            (ReaderKey { path: self.key, index, serial: *serial }, reader)
        })
    }

    /// Upper bound of the readers' indices: each reader keeps its index.
    #[must_use]
    pub fn reader_places(&self) -> usize {
        self.readers.capacity()
    }

    /// The reader with this index.
    #[must_use]
    pub fn reader_at(&self, place: usize) -> Option<(ReaderKey, &Reader)> {
        let (serial, reader) = self.readers.get(place)?;
        let index = u32::try_from(place).unwrap_or(u32::MAX);
        Some((ReaderKey { path: self.key, index, serial: *serial }, reader))
    }

    /// Key of the reader with this index.
    #[must_use]
    pub fn key(&self) -> PathKey {
        self.key
    }

    /// Number of readers.
    #[must_use]
    pub fn reader_count(&self) -> usize {
        self.readers.len()
    }

    /// Sum of the counters of the present readers.
    #[must_use]
    pub fn totals(&self) -> &PathTotals {
        &self.totals
    }

    /// Number of present readers, by carrier.
    #[must_use]
    pub fn readers_by_carrier(&self) -> [u64; Carrier::LABELS.len()] {
        self.carriers
    }

    /// Whether the PLAY request of any reader waits: `starts` may know more after a batch.
    #[must_use]
    pub fn has_primed(&self) -> bool {
        self.primed_count > 0
    }

    /// Whether the PLAY request of this reader waits.
    #[must_use]
    pub fn is_primed(&self, key: ReaderKey) -> bool {
        self.reader(key).is_some_and(|reader| matches!(reader.state, FeedState::Primed(_)))
    }

    /// Handles PLAY: moves the reader to where it begins. The reader is sent nothing before `play`.
    pub fn prepare(&mut self, key: ReaderKey, policy: StartPolicy) {
        self.set_feed_state(key, FeedState::Primed(policy));
        let Some((serial, reader)) = self.readers.get_mut(key.index as usize) else { return };
        if *serial == key.serial {
            reader.prepare(&self.ring, policy);
        }
    }

    /// First packets of the reader's streams for `RTP-Info`, in the order of the streams; `None`
    /// for a stream whose first packet is not known yet.
    pub fn starts(&mut self, key: ReaderKey) -> Vec<Option<StreamStart>> {
        let Some((serial, reader)) = self.readers.get_mut(key.index as usize) else {
            return Vec::new();
        };
        let FeedState::Primed(policy) = reader.state else { return Vec::new() };
        if *serial != key.serial {
            return Vec::new();
        }
        let ring = &self.ring;
        let is_evicted =
            |reader: &mut Reader| reader.streams.iter_mut().any(|s| s.first(ring).is_err());
        if is_evicted(reader) {
            reader.prepare(ring, policy);
        }
        let firsts: Vec<_> =
            reader.streams.iter_mut().map(|stream| stream.first(ring).ok().flatten()).collect();
        stream_starts(&firsts)
    }

    /// PLAY is answered: the reader is sent packets from now on.
    pub fn play(&mut self, key: ReaderKey, now: Mono) {
        self.set_feed_state(key, FeedState::Playing);
        let ring = &self.ring;
        let Some((_, reader)) =
            self.readers.get_mut(key.index as usize).filter(|(serial, _)| *serial == key.serial)
        else {
            return;
        };
        let places = reader.streams.iter().map(|stream| stream.cursor.place.no);
        let first = places.min().and_then(|no| ring.batch(no));
        reader.pace = first.map_or(Pace::LIVE, |batch| Pace::catch_up(now, batch.received()));
        for stream in &mut reader.streams {
            stream.promise(ring);
        }
        self.queue(key);
    }

    /// Handles PAUSE: no more packets are sent, and runs in flight are not put back.
    pub fn pause(&mut self, key: ReaderKey) {
        self.set_feed_state(key, FeedState::Idle);
        if let Some(reader) = self.reader_mut(key) {
            reader.epoch = reader.epoch.wrapping_add(1);
        }
    }

    /// The next packets of a stream. A reader that is too late skips here.
    pub fn next(&mut self, key: ReaderKey, stream_index: u8, now: Mono) -> Next<'_> {
        let lag_budget = self.limits.lag_budget;
        let Some((serial, reader)) = self.readers.get_mut(key.index as usize) else {
            return Next::Idle;
        };
        if *serial != key.serial || reader.state != FeedState::Playing {
            return Next::Idle;
        }
        // Bounded: after a skip a stream is neither late nor behind the ring.
        for _ in 0..3 {
            let Some(stream) = reader.streams.get_mut(usize::from(stream_index)) else {
                return Next::Idle;
            };
            let mut passed = 0;
            let found = stream.peek(&self.ring, &mut passed);
            reader.skipped.packets += passed;
            self.totals.packets_skipped += passed;
            let (no, run, skip_packets, rewrite) = match found {
                NextRun::Run { no, run, packet, rewrite } => (no, run, packet, rewrite),
                NextRun::Waiting => return Next::Waiting,
                NextRun::Evicted => {
                    // The reason is the reader if the ring keeps as much as the lag budget
                    // allows behind the reader's pace.
                    let oldest = self.ring.oldest().map(|batch| reader.pace.due(batch.received()));
                    let is_ring_short = oldest.is_some_and(|due| now.since(due) <= lag_budget);
                    let late = reader.late_reason();
                    let reason = if is_ring_short { SkipReason::Evicted } else { late };
                    self.totals.packets_skipped += reader.skip(&self.ring, now, reason);
                    self.totals.skips[reason as usize] += 1;
                    continue;
                }
            };
            let Some(batch) = self.ring.batch(no) else { return Next::Waiting };
            let due = reader.pace.due(batch.received());
            let is_late = now.since(due) > lag_budget;
            if is_late && self.ring.newest_start().is_some_and(|start| start > no) {
                let reason = reader.late_reason();
                self.totals.packets_skipped += reader.skip(&self.ring, now, reason);
                self.totals.skips[reason as usize] += 1;
                continue;
            }
            if due > now {
                return Next::At(due);
            }
            return Next::Run(DueRun { batch, run, skip_packets, rewrite, due });
        }
        Next::Waiting
    }

    /// Takes `packets` packets of the run that `next` returned for the stream.
    pub fn take(&mut self, key: ReaderKey, stream_index: u8, packets: u16) -> Option<LiveMark> {
        let (serial, reader) = self.readers.get_mut(key.index as usize)?;
        let epoch = reader.epoch;
        let stream = reader.streams.get_mut(usize::from(stream_index))?;
        if *serial != key.serial {
            return None;
        }
        stream.take(&self.ring, stream_index, epoch, packets)
    }

    /// Destination of a stream's packets.
    #[must_use]
    pub fn to(&self, key: ReaderKey, stream_index: u8) -> To {
        let stream = self.reader(key).and_then(|r| r.streams.get(usize::from(stream_index)));
        stream.map_or(To::Nowhere, |stream| stream.to)
    }

    /// The same, with what encrypts the packets.
    #[must_use]
    pub fn outlet(&self, key: ReaderKey, stream_index: u8) -> (To, Option<SrtpStream>) {
        let stream = self.reader(key).and_then(|r| r.streams.get(usize::from(stream_index)));
        stream.map_or((To::Nowhere, None), |stream| (stream.to, stream.srtp.clone()))
    }

    /// The packets of a mark were sent, or handed over to the kernel, which sends nearly all.
    /// Returns whether they are the first of the stream.
    pub fn confirm(&mut self, key: ReaderKey, mark: &LiveMark) -> Option<Begun> {
        self.count_sent(key, mark, ReaderStream::confirm);
        let reader = self.reader_mut(key)?;
        let owner = reader.owner;
        let stream = reader.streams.get_mut(usize::from(mark.stream_index))?;
        if std::mem::replace(&mut stream.has_begun, true) {
            return None;
        }
        let ssrc = stream.cursor.rewrite?.ssrc;
        Some(Begun { owner, stream_index: mark.stream_index, ssrc })
    }

    /// Undoes `confirm`: the packets of the mark were not sent.
    pub fn deny(&mut self, key: ReaderKey, mark: &LiveMark) {
        self.count_sent(key, mark, ReaderStream::deny);
    }

    /// The socket refused the run: the stream goes back to it. False when the mark is stale.
    pub fn rewind(&mut self, key: ReaderKey, mark: &LiveMark) -> bool {
        let is_current = |reader: &&mut Reader| reader.epoch == mark.epoch;
        let Some(reader) = self.reader_mut(key).filter(is_current) else { return false };
        let stream = reader.streams.get_mut(usize::from(mark.stream_index));
        stream.is_some_and(|stream| stream.rewind(mark))
    }

    /// Figures of a sender report for the time `utc_ns`. `None` when no packet was sent, or when
    /// the clock of the track is unknown.
    #[must_use]
    pub fn report(&self, key: ReaderKey, stream_index: u8, utc_ns: i64) -> Option<StreamReport> {
        let reader = self.reader(key)?;
        let stream = reader.streams.get(usize::from(stream_index))?;
        let last_sent = stream.cursor.last_sent?;
        let captured_ns = utc_ns.saturating_sub(reader.delay_ns);
        let source_ts = last_sent.clock?.ts_at(captured_ns, stream.clock_rate_hz);
        Some(StreamReport {
            rtp_ts: last_sent.rewrite.map_ts(source_ts),
            packets: stream.sent_before.0 + stream.packets_sent,
            payload_bytes: stream.sent_before.1 + stream.payload_bytes_sent,
        })
    }

    /// The packet to retransmit that the reader knows by the sequence number `seq`.
    ///
    /// # Errors
    /// The packet was not sent or has left the ring, or the budget is used up.
    pub fn find_sent(
        &mut self,
        key: ReaderKey,
        stream_index: u8,
        seq: SeqNo,
    ) -> Result<SentPacket, RtxRefusal> {
        let entry = self.readers.get_mut(key.index as usize);
        let reader = entry.filter(|(serial, _)| *serial == key.serial).map(|(_, reader)| reader);
        let stream = reader.and_then(|reader| reader.streams.get_mut(usize::from(stream_index)));
        stream.ok_or(RtxRefusal::Unknown)?.find_sent(&self.ring, seq)
    }

    /// Lag of a reader: the time between its latest stream and the newest batch.
    #[must_use]
    pub fn lag(&self, key: ReaderKey) -> Duration {
        let place = |reader: &Reader| reader.streams.iter().map(|s| s.cursor.place.no).min();
        let Some(no) = self.reader(key).and_then(place) else { return Duration::ZERO };
        let oldest = self.ring.batch(no.max(self.ring.first_no()));
        let newest = self.ring.newest();
        oldest.zip(newest).map_or(Duration::ZERO, |(a, b)| b.received().since(a.received()))
    }

    pub(crate) fn reader_mut(&mut self, key: ReaderKey) -> Option<&mut Reader> {
        let (serial, reader) = self.readers.get_mut(key.index as usize)?;
        (*serial == key.serial).then_some(reader)
    }

    /// Changes the counters of a stream, and the sums with them.
    fn count_sent(
        &mut self,
        key: ReaderKey,
        mark: &LiveMark,
        count: impl FnOnce(&mut ReaderStream, &LiveMark),
    ) {
        let Some((serial, reader)) = self.readers.get_mut(key.index as usize) else { return };
        let stream = reader.streams.get_mut(usize::from(mark.stream_index));
        let Some(stream) = stream.filter(|_| *serial == key.serial) else { return };
        let before = (stream.packets_sent, stream.payload_bytes_sent);
        count(stream, mark);
        let (totals, carrier) = (&mut self.totals, reader.carrier as usize);
        // Modulo 2^64: no more is subtracted than was added before.
        let one = |sum: &mut u64, before: u64, after: u64| {
            *sum = sum.wrapping_add(after.wrapping_sub(before));
        };
        one(&mut totals.packets_sent[carrier], before.0, stream.packets_sent);
        one(&mut totals.payload_bytes_sent[carrier], before.1, stream.payload_bytes_sent);
    }

    fn set_feed_state(&mut self, key: ReaderKey, state: FeedState) {
        let Some(reader) = self.reader_mut(key) else { return };
        let was_primed = matches!(reader.state, FeedState::Primed(_));
        reader.state = state;
        let is_primed = matches!(state, FeedState::Primed(_));
        self.primed_count += usize::from(is_primed);
        self.primed_count -= usize::from(was_primed);
    }
}
