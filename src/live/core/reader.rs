//! A reader of a path: where each of its streams is, and what it has been sent.
//!
//! ```text
//!  Idle --prepare--> Primed --play--> Playing --pause--> Idle
//!                    first packets     runs are taken,
//!                    are looked for    put back, skipped
//! ```
//! That is where its packets are (`FeedState`). Where its session stands is its owner's business:
//! this room knows no sessions, no PLAY that waits and nobody to answer.
//! The cursor is the queue: a place in the ring, nothing for each packet. A stream waits for a sync
//! sample where its decoder needs one; a break (`switch`) is crossed where the place comes upon it.
//!
//! Invariants: a run is taken once, or put back with everything that taking it changed; a stream
//! never goes back, but for a run that is put back; all streams of a reader skip together.
//! DESIGN section 5.4, 5.5.

use crate::base::time::Mono;
use crate::live::core::batch::{LivePacket, LiveRun, PacketBatch};
use crate::live::core::limits::SYNC_WAIT_MAX;
use crate::live::core::retransmit::RetransmitBudget;
use crate::live::core::ring::BatchRing;
use crate::live::core::start::{First, Pace, StartPolicy};
use crate::live::core::switch::{Beyond, Mapping, Origin, Trail};

/// How a reader's packets travel: names the reason when it is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Datagrams to the reader.
    Udp,
    /// Interleaved with its RTSP connection.
    Tcp,
    /// Datagrams to a group.
    Multicast,
}

/// Why a reader did not get what it should have got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// It reads more slowly from its connection than the path sends.
    TcpWindow,
    /// It was late for another reason: the socket, or this shard, is behind.
    LagBudget,
    /// What it should have got next has left the ring.
    Evicted,
}

/// What a reader was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SkipCounts {
    /// Skips, by reason, in the order of `SkipReason`.
    pub skips: [u64; 3],
    /// Packets that were passed over, as far as they were still there.
    pub packets: u64,
}

/// See the module's picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedState {
    /// Set up, or paused.
    Idle,
    /// PLAY waits for the first packets.
    Primed(StartPolicy),
    /// Packets are sent.
    Playing,
}

/// See the module.
#[derive(Debug)]
pub struct Reader {
    /// The owner's own name for it.
    pub owner: u64,
    /// How its packets travel.
    pub carrier: Carrier,
    /// Its streams, in the order of their SETUPs.
    pub streams: Vec<ReaderStream>,
    /// Where it is in its life.
    pub(crate) state: FeedState,
    pub(crate) pace: Pace,
    /// Counts skips and starts: a run from before one is not put back.
    pub(crate) epoch: u32,
    pub(crate) skipped: SkipCounts,
    /// What streams were sent that have been taken out of it: packets, and payload bytes.
    pub(crate) left: (u64, u64),
    /// It was put into the queue of readers to look at.
    pub(crate) is_queued: bool,
    /// Tells its newest entry in the path's queues from older ones.
    pub(crate) ticket: u32,
}

/// One stream of a reader.
#[derive(Debug)]
pub struct ReaderStream {
    /// Track of the path.
    pub track: u8,
    /// Its RTP clock.
    pub clock_rate_hz: u32,
    /// Its decoder must begin with a sync sample.
    pub needs_sync: bool,
    /// RTP packets that went out.
    pub packets_sent: u64,
    /// Payload bytes that went out.
    pub payload_bytes_sent: u64,
    /// Its packets are datagrams: it is sent what fits one.
    pub(crate) is_datagram: bool,
    /// How much may be sent again.
    pub retransmit: RetransmitBudget,
    pub(crate) cursor: Cursor,
}

/// A place in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Batch.
    pub(crate) no: u64,
    /// Run of the stream's track in it.
    run: usize,
    /// Packet of the run.
    packet: u16,
}

/// All that taking a run changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) place: Place,
    pub(crate) mapping: Option<Mapping>,
    pub(crate) trail: Option<Trail>,
    /// Where `mapping` begins: a batch, and an offset in it.
    pub(crate) mapped_from: (u64, u32),
    /// Nothing is sent before a sync sample, or before `SYNC_WAIT_MAX` is over.
    is_awaiting: bool,
    /// When the first packet came that was passed over for that.
    awaiting_from: Option<Mono>,
    /// What comes next does not follow what was sent last.
    is_broken: bool,
}

/// What a stream would send next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peek {
    /// This run, from this packet of it on.
    Run { no: u64, run: LiveRun, packet: u16, mapping: Mapping },
    /// Nothing before the next batch.
    Waiting,
    /// What it should send next has gone.
    Evicted,
}

/// A run on its way: what to go back to when the socket does not take it.
#[derive(Debug, Clone, Copy)]
pub struct LiveMark {
    /// Stream of the reader.
    pub stream_index: u8,
    /// Packets of it.
    pub packets: u16,
    /// Their payload.
    pub payload_bytes: u32,
    pub(crate) epoch: u32,
    pub(crate) before: Cursor,
}

impl Reader {
    /// A reader that has been sent nothing.
    #[must_use]
    pub fn new(owner: u64, carrier: Carrier, streams: Vec<ReaderStream>) -> Self {
        Self {
            owner,
            carrier,
            streams,
            state: FeedState::Idle,
            pace: Pace::LIVE,
            epoch: 0,
            skipped: SkipCounts::default(),
            left: (0, 0),
            is_queued: false,
            ticket: 0,
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> FeedState {
        self.state
    }

    /// What it was not sent.
    #[must_use]
    pub fn skipped(&self) -> SkipCounts {
        self.skipped
    }

    /// RTP packets and payload bytes that went out, of all its streams so far.
    #[must_use]
    pub fn sent(&self) -> (u64, u64) {
        let sum = |(packets, bytes), stream: &ReaderStream| {
            (packets + stream.packets_sent, bytes + stream.payload_bytes_sent)
        };
        self.streams.iter().fold(self.left, sum)
    }

    /// Places all streams for a start.
    pub(crate) fn prepare(&mut self, ring: &BatchRing, policy: StartPolicy) {
        self.state = FeedState::Primed(policy);
        self.epoch = self.epoch.wrapping_add(1);
        let has_sync = self.streams.iter().any(|stream| stream.needs_sync);
        let start = match policy {
            StartPolicy::Live if has_sync => None,
            StartPolicy::Live | StartPolicy::Gop => ring.newest_start(),
        };
        for stream in &mut self.streams {
            stream.prepare(ring, start);
        }
    }

    /// All streams go on with the newest group of pictures, as far as they are behind it. Returns
    /// how many packets they pass over.
    pub(crate) fn skip(&mut self, ring: &BatchRing, now: Mono, reason: SkipReason) -> u64 {
        let to = ring.newest_start().unwrap_or_else(|| ring.end_no());
        let passed = self.streams.iter_mut().map(|stream| stream.skip(ring, to)).sum();
        self.skipped.packets += passed;
        self.epoch = self.epoch.wrapping_add(1);
        self.skipped.skips[reason as usize] += 1;
        self.pace = match ring.batch(to) {
            Some(batch) => Pace::catch_up(now, batch.received()),
            None => Pace::LIVE,
        };
        passed
    }

    /// The reason when it is late.
    pub(crate) fn late_reason(&self) -> SkipReason {
        match self.carrier {
            Carrier::Tcp => SkipReason::TcpWindow,
            Carrier::Udp | Carrier::Multicast => SkipReason::LagBudget,
        }
    }
}

impl ReaderStream {
    /// A stream that has been sent nothing.
    #[must_use]
    pub fn new(track: u8, clock_rate_hz: u32, needs_sync: bool) -> Self {
        let place = Place { no: 0, run: 0, packet: 0 };
        let cursor = Cursor {
            place,
            mapping: None,
            trail: None,
            mapped_from: (0, 0),
            is_awaiting: needs_sync,
            awaiting_from: None,
            is_broken: true,
        };
        Self {
            track,
            clock_rate_hz,
            needs_sync,
            packets_sent: 0,
            payload_bytes_sent: 0,
            is_datagram: false,
            retransmit: RetransmitBudget::default(),
            cursor,
        }
    }

    /// Its runs of a batch.
    fn runs<'a>(&self, batch: &'a PacketBatch) -> &'a [LiveRun] {
        match self.is_datagram {
            true => batch.datagram_runs_of(self.track),
            false => batch.runs_of(self.track),
        }
    }

    fn prepare(&mut self, ring: &BatchRing, start: Option<u64>) {
        let place = self.cursor.place.no;
        let is_new = self.cursor.trail.is_none();
        let no = match start {
            // After a pause within a group of pictures it goes on where it was: its decoder has
            // what came before, and time does not go back.
            Some(start) if !is_new && (start.max(ring.first_no())..).contains(&place) => return,
            // Sound may not have come since the sync sample did: its newest packet, then.
            Some(start) if is_new && !self.needs_sync => {
                let has_some = (start..ring.end_no())
                    .any(|no| ring.batch(no).is_some_and(|b| !self.runs(b).is_empty()));
                let before = || ring.newest_with(self.track, start).unwrap_or(start);
                if has_some { start } else { before() }
            }
            Some(start) => start,
            None => ring.end_no(),
        };
        self.move_to(no);
    }

    /// PLAY is answered: what it was told holds, even when the stream skips before it has sent
    /// anything.
    pub(crate) fn promise(&mut self, ring: &BatchRing) {
        let Peek::Run { no, run, packet, mapping } = self.peek(ring, &mut 0) else { return };
        let Some(batch) = ring.batch(no).filter(|_| self.cursor.trail.is_none()) else { return };
        if let Some(first) = batch.packets_of(&run).get(usize::from(packet)) {
            let mut trail = Trail::begin(mapping, first, batch.received());
            trail.seq = trail.seq.plus(u16::MAX);
            trail.clock = batch.clock_of(self.track);
            self.cursor.trail = Some(trail);
        }
    }

    fn move_to(&mut self, no: u64) {
        self.cursor.place = Place { no, run: 0, packet: 0 };
        (self.cursor.is_awaiting, self.cursor.is_broken) = (self.needs_sync, true);
        self.cursor.awaiting_from = None;
    }

    /// Whether a sync sample has been waited for long enough, up to a run of `batch`. Frames begin
    /// with the first of a batch, as a rule.
    fn has_waited(&mut self, batch: &PacketBatch, run_index: usize) -> bool {
        let from = *self.cursor.awaiting_from.get_or_insert_with(|| batch.received());
        run_index == 0 && batch.received().since(from) >= SYNC_WAIT_MAX
    }

    /// Goes on with batch `to`, if it is behind it. Returns how many packets it passes over.
    fn skip(&mut self, ring: &BatchRing, to: u64) -> u64 {
        let Place { no, run, packet } = self.cursor.place;
        if no >= to {
            return 0;
        }
        let count = |runs: &[LiveRun]| runs.iter().map(|r| u64::from(r.packet_count)).sum::<u64>();
        let passed = (no.max(ring.first_no())..to)
            .filter_map(|at| {
                let runs = self.runs(ring.batch(at)?);
                let sent = if at == no { run } else { 0 };
                Some(count(runs.get(sent..).unwrap_or_default()))
            })
            .sum::<u64>();
        self.move_to(to);
        passed.saturating_sub(u64::from(packet))
    }

    /// Looks at what comes next, passing over what is not for this stream. `passed` counts packets
    /// that are not sent because a sync sample is waited for.
    pub(crate) fn peek(&mut self, ring: &BatchRing, passed: &mut u64) -> Peek {
        // Bounded: each round goes on by a run or a batch of the ring.
        loop {
            let Place { no, run: index, packet } = self.cursor.place;
            if no < ring.first_no() {
                return Peek::Evicted;
            }
            let Some(batch) = ring.batch(no) else { return Peek::Waiting };
            let Some(&run) = self.runs(batch).get(index) else {
                self.cursor.place = Place { no: no + 1, run: 0, packet: 0 };
                continue;
            };
            let origin = Origin { generation: batch.generation(), ssrc: run.ssrc };
            let old = self.cursor.mapping.map(|mapping| mapping.origin);
            if old.is_some_and(|old| old != origin) && self.needs_sync && packet == 0 {
                self.cursor.is_awaiting = true;
            }
            if self.cursor.is_awaiting && !run.is_sync && !self.has_waited(batch, index) {
                *passed += u64::from(run.packet_count);
                self.cursor.place = Place { no, run: index + 1, packet: 0 };
                continue;
            }
            (self.cursor.is_awaiting, self.cursor.awaiting_from) = (false, None);
            if old != Some(origin) || self.cursor.is_broken {
                let Some(first) = batch.packets_of(&run).get(usize::from(packet)) else {
                    self.cursor.place = Place { no: no + 1, run: 0, packet: 0 };
                    continue;
                };
                self.cursor.mapping = Some(self.cross(batch, first, origin));
                self.cursor.mapped_from = (no, first.offset);
                self.cursor.is_broken = false;
            }
            let mapping = self.cursor.mapping.unwrap_or_else(|| Mapping::untouched(origin));
            return Peek::Run { no, run, packet, mapping };
        }
    }

    fn cross(&self, batch: &PacketBatch, first: &LivePacket, origin: Origin) -> Mapping {
        let Some(trail) = &self.cursor.trail else { return Mapping::untouched(origin) };
        let next = Beyond {
            origin,
            seq: first.seq,
            ts: first.ts,
            received: batch.received(),
            clock: batch.clock_of(self.track),
        };
        trail.cross(&next, self.clock_rate_hz)
    }

    /// The first packet that would be sent now.
    pub(crate) fn first(&mut self, ring: &BatchRing) -> Result<Option<First>, Evicted> {
        let (no, run, packet, mapping) = match self.peek(ring, &mut 0) {
            Peek::Run { no, run, packet, mapping } => (no, run, packet, mapping),
            Peek::Waiting => return Ok(None),
            Peek::Evicted => return Err(Evicted),
        };
        let Some(batch) = ring.batch(no) else { return Ok(None) };
        let first = batch.packets_of(&run).get(usize::from(packet));
        Ok(first.map(|packet| {
            let stamp = mapping.stamp(packet);
            First {
                seq: stamp.seq,
                ts: stamp.ts,
                source_ts: packet.ts,
                clock: batch.clock_of(self.track),
                clock_rate_hz: self.clock_rate_hz,
            }
        }))
    }

    /// Takes `count` packets of the run that `peek` gave.
    pub(crate) fn take(
        &mut self,
        ring: &BatchRing,
        stream_index: u8,
        epoch: u32,
        count: u16,
    ) -> Option<LiveMark> {
        let before = self.cursor;
        let Place { no, run: index, packet } = before.place;
        let (batch, mapping) = (ring.batch(no)?, before.mapping?);
        let run = self.runs(batch).get(index)?;
        let last = packet.saturating_add(count).min(run.packet_count);
        let mut trail = before.trail;
        let mut payload_bytes = 0;
        for packet in batch.packets_of(run).get(usize::from(packet)..usize::from(last))? {
            payload_bytes += u32::from(packet.bytes - packet.header_bytes);
            match &mut trail {
                Some(trail) => trail.extend(mapping, packet, batch.received()),
                None => trail = Some(Trail::begin(mapping, packet, batch.received())),
            }
        }
        if let Some(trail) = &mut trail {
            trail.clock = batch.clock_of(self.track).or(trail.clock);
        }
        self.cursor.trail = trail;
        self.cursor.place = match last == run.packet_count {
            true => Place { no, run: index + 1, packet: 0 },
            false => Place { no, run: index, packet: last },
        };
        let packets = last - packet;
        Some(LiveMark { stream_index, packets, payload_bytes, epoch, before })
    }

    /// The packets of a mark have gone out.
    pub(crate) fn confirm(&mut self, mark: &LiveMark) {
        self.packets_sent += u64::from(mark.packets);
        self.payload_bytes_sent += u64::from(mark.payload_bytes);
        self.retransmit.handle_sent(mark.packets);
    }

    /// They have not, after all.
    pub(crate) fn deny(&mut self, mark: &LiveMark) {
        self.packets_sent = self.packets_sent.saturating_sub(u64::from(mark.packets));
        self.payload_bytes_sent =
            self.payload_bytes_sent.saturating_sub(u64::from(mark.payload_bytes));
    }

    /// The socket did not take them: they are next again. False when an earlier run was put back
    /// already, and this one with it.
    pub(crate) fn rewind(&mut self, mark: &LiveMark) -> bool {
        let is_ahead = mark.before.place < self.cursor.place;
        if is_ahead {
            self.cursor = mark.before;
        }
        is_ahead
    }
}

/// What a stream should begin with has gone.
#[derive(Debug)]
pub(crate) struct Evicted;
