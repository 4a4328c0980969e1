//! A path on a shard that has readers of it: its ring, its readers, and which of them to look at.
//!
//! ```text
//!  batch --push--> ring, all that wait for one are queued
//!  pump: pop_ready -> for each stream: next -> Run: send, take -> .. -> Waiting | At
//!                                        ^-----------rewind-------- no room
//! ```
//! What its readers were sent is summed up as it is counted: whoever asks for the sums looks at no
//! reader.
//!
//! Who is looked at, and when, is in `queues`. Invariants: a slow reader changes nothing for
//! another; nothing is done for each packet of each reader but to count it, and nothing for each
//! reader when a batch comes.
//! Bound: `READERS_MAX` readers, the ring's limits. DESIGN section 5.4.

use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::base::ids::{RtpTs, SeqNo};
use crate::base::time::Mono;
use crate::live::core::batch::{Generation, LiveRun, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::info::reader_totals;
use crate::live::core::limits::{IDLE_CLOSE, LAG_BUDGET, READERS_MAX};
use crate::live::core::queues::Queues;
use crate::live::core::reader::{
    Carrier, FeedState, LiveMark, Peek, Reader, ReaderStream, SkipReason,
};
use crate::live::core::retransmit::{RetransmitError, SentPacket};
use crate::live::core::ring::{BatchRing, RingLimits};
use crate::live::core::start::{Pace, StartPolicy, StreamStart, stream_starts};
use crate::live::core::switch::Mapping;
use crate::metrics::paths::{CARRIERS, PathTotals};

/// Names a path that is here; the serial tells it from a later one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PathKey {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

/// Names a reader of a path on its shard; the serial tells it from a later one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReaderKey {
    pub(crate) path: PathKey,
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

impl ReaderKey {
    /// Its place among the readers of its path.
    #[must_use]
    pub fn place(self) -> usize {
        self.index as usize
    }
}

/// What readers of a path are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathLimits {
    /// What the ring may keep.
    pub ring: RingLimits,
    /// How late a reader may be.
    pub lag_budget: Duration,
    /// Readers on this shard at most.
    pub readers_max: usize,
    /// How long the shard keeps it without readers.
    pub linger: Duration,
}

impl Default for PathLimits {
    fn default() -> Self {
        let ring = RingLimits::default();
        Self { ring, lag_budget: LAG_BUDGET, readers_max: READERS_MAX, linger: IDLE_CLOSE }
    }
}

/// See the module.
#[derive(Debug)]
pub struct LivePath {
    pub(crate) key: PathKey,
    /// It is on the shard's list of paths with readers to look at.
    pub(crate) is_listed: bool,
    name: Arc<str>,
    pub(crate) description: Arc<Description>,
    pub(crate) generation: Generation,
    pub(crate) ring: BatchRing,
    pub(crate) readers: Slab<(u32, Reader)>,
    serial: u32,
    primed_count: usize,
    /// What `reader_totals` of all readers add up to.
    totals: PathTotals,
    /// Readers, by carrier.
    carriers: [u64; CARRIERS.len()],
    pub(crate) queues: Queues,
    limits: PathLimits,
    /// When a key frame was last asked for because readers had lost one.
    pub(crate) sync_wanted: Option<Mono>,
}

/// What a stream sends next.
#[derive(Debug)]
pub enum Next<'a> {
    /// This run now.
    Run(DueRun<'a>),
    /// Nothing before this time.
    At(Mono),
    /// Nothing before the next batch.
    Waiting,
    /// The reader does not play, or is gone.
    Idle,
}

/// A run that is due to a reader.
#[derive(Debug)]
pub struct DueRun<'a> {
    /// Holds the bytes: to be held until they are sent.
    pub batch: &'a Arc<PacketBatch>,
    /// The run.
    pub run: LiveRun,
    /// Packets at its beginning that the reader has already.
    pub skip_packets: u16,
    /// What its headers differ by.
    pub mapping: Mapping,
    /// When it was due.
    pub due: Mono,
}

/// What a sender report of a reader's stream says (RFC 3550 s6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamReport {
    /// RTP time at the time that was asked for.
    pub rtp_ts: RtpTs,
    /// RTP packets sent.
    pub packets: u64,
    /// Payload bytes sent.
    pub payload_bytes: u64,
}

/// What happens to readers when their path has a source again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// They go on.
    GoOn,
    /// They were told of other tracks: they end.
    End,
}

/// Why a path on this shard does not take a reader or a stream. Its owner has not refused the shard
/// (`RefusedError`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// As many as may.
    #[error("{max} readers are enough")]
    TooManyReaders {
        /// The limit.
        max: usize,
    },
    /// The path has no such track.
    #[error("no track {track}")]
    NoTrack {
        /// The one asked for.
        track: u8,
    },
    /// The reader has gone.
    #[error("no such reader")]
    NoReader,
}

impl LivePath {
    /// A path as a shard begins to listen to it: with the home's snapshot.
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
            carriers: [0; CARRIERS.len()],
            queues: Queues::default(),
            limits,
            sync_wanted: None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it carries.
    #[must_use]
    pub fn description(&self) -> &Arc<Description> {
        &self.description
    }

    /// What is kept of it.
    #[must_use]
    pub fn ring(&self) -> &BatchRing {
        &self.ring
    }

    /// Readers are allowed something else from now on; those who are here stay.
    pub fn set_limits(&mut self, limits: PathLimits) {
        self.ring.set_limits(limits.ring);
        self.limits = limits;
    }

    /// How long the shard keeps it without readers.
    #[must_use]
    pub fn linger(&self) -> Duration {
        self.limits.linger
    }

    /// A batch has come: all readers that have had all before it are queued.
    pub fn push(&mut self, batch: Arc<PacketBatch>, now: Mono) {
        if batch.generation() != self.generation {
            // Of a source that has gone; the home tells of a new one first.
            return;
        }
        self.ring.push(batch, now);
        self.queues.release();
    }

    /// The path has a source again.
    pub fn handle_source(
        &mut self,
        generation: Generation,
        description: Arc<Description>,
    ) -> Succession {
        if generation == self.generation {
            // Said again.
            self.description = description;
            return Succession::GoOn;
        }
        let goes_on = description.continues(&self.description);
        if goes_on {
            self.ring.break_off();
        } else {
            self.ring.clear(description.sync_track());
        }
        (self.generation, self.description) = (generation, description);
        if goes_on { Succession::GoOn } else { Succession::End }
    }

    /// What the shard knows of the source.
    pub(crate) fn held(&self) -> (Arc<str>, Generation, Arc<Description>) {
        (Arc::clone(&self.name), self.generation, Arc::clone(&self.description))
    }

    /// A new reader. `owner` is the caller's own name for it.
    ///
    /// # Errors
    /// There are enough.
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

    /// One more stream of a reader; returns its place.
    ///
    /// # Errors
    /// No such reader, no such track.
    pub fn add_stream(&mut self, key: ReaderKey, track: u8) -> Result<u8, PathError> {
        let Some(spec) = self.description.tracks.get(usize::from(track)) else {
            return Err(PathError::NoTrack { track });
        };
        let mut stream = ReaderStream::new(track, spec.clock_rate_hz, spec.needs_sync);
        let reader = self.reader_mut(key).ok_or(PathError::NoReader)?;
        stream.is_datagram = reader.carrier != Carrier::Tcp;
        reader.streams.push(stream);
        Ok(u8::try_from(reader.streams.len() - 1).unwrap_or(u8::MAX))
    }

    /// Takes a stream out of a reader; those behind it move up.
    pub fn remove_stream(&mut self, key: ReaderKey, stream_index: u8) {
        let Some(reader) = self.reader_mut(key) else { return };
        if usize::from(stream_index) < reader.streams.len() {
            let stream = reader.streams.remove(usize::from(stream_index));
            reader.left.0 += stream.packets_sent;
            reader.left.1 += stream.payload_bytes_sent;
            // Marks name streams by their place.
            reader.epoch = reader.epoch.wrapping_add(1);
        }
    }

    /// A reader goes.
    pub fn remove_reader(&mut self, key: ReaderKey) -> Option<Reader> {
        let (_, reader) =
            self.readers.get(key.index as usize).filter(|(serial, _)| *serial == key.serial)?;
        self.primed_count -= usize::from(matches!(reader.state, FeedState::Primed(_)));
        self.carriers[reader.carrier as usize] -= 1;
        self.totals.subtract(&reader_totals(reader));
        // Its place in the queue is passed over when it comes up.
        self.readers.try_remove(key.index as usize).map(|(_, reader)| reader)
    }

    /// A reader.
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

    /// Places of readers: each has one below this number, and keeps it.
    #[must_use]
    pub fn reader_places(&self) -> usize {
        self.readers.capacity()
    }

    /// The reader in a place.
    #[must_use]
    pub fn reader_at(&self, place: usize) -> Option<(ReaderKey, &Reader)> {
        let (serial, reader) = self.readers.get(place)?;
        let index = u32::try_from(place).unwrap_or(u32::MAX);
        Some((ReaderKey { path: self.key, index, serial: *serial }, reader))
    }

    /// What it is known by here.
    #[must_use]
    pub fn key(&self) -> PathKey {
        self.key
    }

    /// Readers.
    #[must_use]
    pub fn reader_count(&self) -> usize {
        self.readers.len()
    }

    /// What its readers of now were sent, together.
    #[must_use]
    pub fn totals(&self) -> &PathTotals {
        &self.totals
    }

    /// Its readers of now, by carrier.
    #[must_use]
    pub fn readers_by_carrier(&self) -> [u64; CARRIERS.len()] {
        self.carriers
    }

    /// Whether a reader's PLAY waits: after a batch, `starts` may know more.
    #[must_use]
    pub fn has_primed(&self) -> bool {
        self.primed_count > 0
    }

    /// Whether this reader's PLAY waits.
    #[must_use]
    pub fn is_primed(&self, key: ReaderKey) -> bool {
        self.reader(key).is_some_and(|reader| matches!(reader.state, FeedState::Primed(_)))
    }

    /// PLAY: finds where the reader begins. It is sent nothing before `play`.
    pub fn prepare(&mut self, key: ReaderKey, policy: StartPolicy) {
        self.set_feed_state(key, FeedState::Primed(policy));
        let Some((serial, reader)) = self.readers.get_mut(key.index as usize) else { return };
        if *serial == key.serial {
            reader.prepare(&self.ring, policy);
        }
    }

    /// The reader's part of `RTP-Info`, a stream each, in their order; `None` where the first
    /// packet is not known yet.
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

    /// PLAY is answered: from now on the reader is sent what is due.
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

    /// PAUSE: nothing more is sent, and what is in flight is not put back.
    pub fn pause(&mut self, key: ReaderKey) {
        self.set_feed_state(key, FeedState::Idle);
        if let Some(reader) = self.reader_mut(key) {
            reader.epoch = reader.epoch.wrapping_add(1);
        }
    }

    /// What a stream sends next. A reader that is too late skips here.
    pub fn next(&mut self, key: ReaderKey, stream_index: u8, now: Mono) -> Next<'_> {
        let lag_budget = self.limits.lag_budget;
        let Some((serial, reader)) = self.readers.get_mut(key.index as usize) else {
            return Next::Idle;
        };
        if *serial != key.serial || reader.state != FeedState::Playing {
            return Next::Idle;
        }
        // Bounded: behind a skip a stream is neither late nor gone from the ring.
        for _ in 0..3 {
            let Some(stream) = reader.streams.get_mut(usize::from(stream_index)) else {
                return Next::Idle;
            };
            let mut passed = 0;
            let found = stream.peek(&self.ring, &mut passed);
            reader.skipped.packets += passed;
            self.totals.packets_skipped += passed;
            let (no, run, skip_packets, mapping) = match found {
                Peek::Run { no, run, packet, mapping } => (no, run, packet, mapping),
                Peek::Waiting => return Next::Waiting,
                Peek::Evicted => {
                    // Whose fault that is: a ring that keeps what its readers may be late by has
                    // done its part.
                    let kept = self.ring.oldest().map(|batch| now.since(batch.received()));
                    let is_ring_short = kept.is_some_and(|kept| kept <= lag_budget);
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
            return Next::Run(DueRun { batch, run, skip_packets, mapping, due });
        }
        Next::Waiting
    }

    /// Takes `packets` of the run that `next` gave for the stream.
    pub fn take(&mut self, key: ReaderKey, stream_index: u8, packets: u16) -> Option<LiveMark> {
        let (serial, reader) = self.readers.get_mut(key.index as usize)?;
        let epoch = reader.epoch;
        let stream = reader.streams.get_mut(usize::from(stream_index))?;
        if *serial != key.serial {
            return None;
        }
        stream.take(&self.ring, stream_index, epoch, packets)
    }

    /// What was taken has gone out, or is handed over to whom takes nearly all.
    pub fn confirm(&mut self, key: ReaderKey, mark: &LiveMark) {
        self.count_sent(key, mark, ReaderStream::confirm);
    }

    /// What was confirmed has not gone out after all.
    pub fn deny(&mut self, key: ReaderKey, mark: &LiveMark) {
        self.count_sent(key, mark, ReaderStream::deny);
    }

    /// The socket did not take it: it is next again. False when that means nothing any more.
    pub fn rewind(&mut self, key: ReaderKey, mark: &LiveMark) -> bool {
        let is_current = |reader: &&mut Reader| reader.epoch == mark.epoch;
        let Some(reader) = self.reader_mut(key).filter(is_current) else { return false };
        let stream = reader.streams.get_mut(usize::from(mark.stream_index));
        stream.is_some_and(|stream| stream.rewind(mark))
    }

    /// What a sender report says, for the time `utc_ns`. `None`: nothing was sent, or nothing is
    /// known of the track's clock.
    #[must_use]
    pub fn report(&self, key: ReaderKey, stream_index: u8, utc_ns: i64) -> Option<StreamReport> {
        let stream = self.reader(key)?.streams.get(usize::from(stream_index))?;
        let trail = stream.cursor.trail?;
        let source_ts = trail.clock?.ts_at(utc_ns, stream.clock_rate_hz);
        Some(StreamReport {
            rtp_ts: trail.mapping.map_ts(source_ts),
            packets: stream.packets_sent,
            payload_bytes: stream.payload_bytes_sent,
        })
    }

    /// The packet that a reader knows as `seq`, to be sent again.
    ///
    /// # Errors
    /// It was not sent, is gone, or too much is asked for.
    pub fn find_sent(
        &mut self,
        key: ReaderKey,
        stream_index: u8,
        seq: SeqNo,
    ) -> Result<SentPacket, RetransmitError> {
        let entry = self.readers.get_mut(key.index as usize);
        let reader = entry.filter(|(serial, _)| *serial == key.serial).map(|(_, reader)| reader);
        let stream = reader.and_then(|reader| reader.streams.get_mut(usize::from(stream_index)));
        stream.ok_or(RetransmitError::NotSent)?.find_sent(&self.ring, seq)
    }

    /// How late a reader is: the distance of its latest stream to the newest batch.
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

    /// Changes what a stream has sent, and the sums of all with it.
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
        // Modulo 2^64: what is taken back is less than what was added before.
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
