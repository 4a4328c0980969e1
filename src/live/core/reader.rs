//! A reader of a path: where each of its streams is, and what it has been sent.
//!
//! ```text
//!  Idle --prepare--> Primed --play--> Playing --pause--> Idle
//!                    first packets     runs are taken,
//!                    are looked for    put back, skipped
//! ```
//! These are the states of the feed (`FeedState`). The state of the RTSP session is kept by the
//! caller: this room knows no sessions and no requests.
//! The cursor is the queue: a place in the ring, nothing for each packet. A stream waits for a key
//! frame if its decoder needs one. Where the source changes, numbers and time are rewritten
//! (`rewrite`).
//!
//! Invariants: a run is taken once, or put back with everything that taking the run changed; the
//! place of a stream moves back only when a run is put back; all streams of a reader skip together.
//! DESIGN section 5.4, 5.5.

use std::net::SocketAddr;

use crate::base::carrier::Carrier;
use crate::base::ids::Ssrc;
use crate::base::time::Mono;
use crate::live::core::batch::{LivePacket, LiveRun, PacketBatch};
use crate::live::core::limits::SYNC_WAIT_MAX;
use crate::live::core::retransmit::RetransmitBudget;
use crate::live::core::rewrite::{HeaderRewrite, LastSent, NextPacket, Origin};
use crate::live::core::ring::BatchRing;
use crate::live::core::start::{First, Pace, StartPolicy};
use crate::rtp::srtp::SrtpStream;

/// Why a reader skipped packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// The client reads more slowly from its connection than the path sends.
    TcpWindow,
    /// The socket or the shard is behind.
    LagBudget,
    /// The next packets of the reader have left the ring.
    Evicted,
}

/// Counters of skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SkipCounts {
    /// Skips, by reason, in the order of `SkipReason`.
    pub skips: [u64; 3],
    /// Skipped packets that were still in the ring.
    pub packets: u64,
}

/// Counters of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReaderCounts {
    /// Counters of skips.
    pub skipped: SkipCounts,
    /// RTP packets and payload bytes sent.
    pub sent: (u64, u64),
}

impl SkipCounts {
    fn plus(&self, more: &Self) -> Self {
        let [a, b, c] = more.skips;
        let [x, y, z] = self.skips;
        Self { skips: [x + a, y + b, z + c], packets: self.packets + more.packets }
    }
}

/// State of a reader's feed: the picture of the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedState {
    /// The reader is set up, or paused.
    Idle,
    /// A PLAY request waits for the first packets.
    Primed(StartPolicy),
    /// The reader is sent packets.
    Playing,
}

/// The reader of a path: see the module.
#[derive(Debug)]
pub struct Reader {
    /// The caller's number of the reader.
    pub owner: u64,
    /// Transport of the packets: the reason of a skip depends on it.
    pub carrier: Carrier,
    /// Streams, in the order of their SETUP requests.
    pub streams: Vec<ReaderStream>,
    /// State of the feed.
    pub(crate) state: FeedState,
    pub(crate) pace: Pace,
    /// Nanoseconds from the capture of a frame to the wall-clock time that sender reports name for
    /// it: the reader is so far behind its source.
    pub(crate) delay_ns: i64,
    /// Number of skips and starts: a run from an earlier epoch is not put back.
    pub(crate) epoch: u32,
    pub(crate) skipped: SkipCounts,
    /// What it was sent and skipped on shards that it has left: the path's counters have it there.
    pub(crate) elsewhere: ReaderCounts,
    /// Packets and payload bytes of streams that were removed from the reader.
    pub(crate) left: (u64, u64),
    /// The reader is in the path's queue of ready readers.
    pub(crate) is_queued: bool,
    /// Number of the reader's newest entry in the path's queues; older entries are stale.
    pub(crate) ticket: u32,
}

/// One stream of a reader.
#[derive(Debug)]
pub struct ReaderStream {
    /// Track of the path.
    pub track: u8,
    /// RTP clock rate.
    pub clock_rate_hz: u32,
    /// The decoder must begin with a key frame.
    pub needs_sync: bool,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// Payload bytes sent.
    pub payload_bytes_sent: u64,
    /// RTP packets and payload bytes that another feed of the stream sent before.
    pub(crate) sent_before: (u64, u64),
    /// The packets are datagrams: the stream is sent the form that fits a datagram.
    pub(crate) is_datagram: bool,
    /// A packet was sent.
    pub(crate) has_begun: bool,
    /// Destination of the packets.
    pub(crate) to: To,
    /// Encrypts the packets; `None`: they are sent in the clear.
    pub(crate) srtp: Option<SrtpStream>,
    /// Budget of retransmissions.
    pub retransmit: RetransmitBudget,
    pub(crate) cursor: Cursor,
}

/// Destination of a stream's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Datagrams to an address of the client.
    Datagrams {
        /// Number of the pair of sockets that sends.
        pair: u16,
        /// The client's RTP address.
        client: SocketAddr,
    },
    /// A channel of the owner's connection.
    Channel(u8),
    /// No destination: the multicast sender sends the packets.
    Nowhere,
}

/// A stream of a reader has been sent its first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Owner of the reader.
    pub owner: u64,
    /// Stream of the reader.
    pub stream_index: u8,
    /// SSRC of the packets; it never changes.
    pub ssrc: Ssrc,
}

/// A place in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Number of the batch.
    pub(crate) no: u64,
    /// Index of the run among the batch's runs of the track.
    pub(super) run: usize,
    /// Index of the packet in the run.
    pub(super) packet: u16,
}

/// The place of a stream, with the state that taking a run changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) place: Place,
    pub(crate) rewrite: Option<HeaderRewrite>,
    pub(crate) last_sent: Option<LastSent>,
    /// The first packet of `rewrite`: number of the batch, offset in the batch.
    pub(crate) rewrite_from: (u64, u32),
    /// The stream waits for a key frame, at most for `SYNC_WAIT_MAX`.
    pub(super) is_awaiting: bool,
    /// Arrival of the first packet that was skipped while waiting.
    pub(super) awaiting_from: Option<Mono>,
    /// The next packet does not follow the last one sent.
    pub(super) is_broken: bool,
}

/// The next packets of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NextRun {
    /// A run, from a packet of the run on.
    Run { no: u64, run: LiveRun, packet: u16, rewrite: HeaderRewrite },
    /// The next batch has not arrived.
    Waiting,
    /// The next packets have left the ring.
    Evicted,
}

/// A run that was taken: the cursor before it, in case that the socket refuses the run.
#[derive(Debug, Clone, Copy)]
pub struct LiveMark {
    /// Stream of the reader.
    pub stream_index: u8,
    /// Packets of the run.
    pub packets: u16,
    /// Payload bytes of the run.
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
            delay_ns: 0,
            epoch: 0,
            skipped: SkipCounts::default(),
            elsewhere: ReaderCounts::default(),
            left: (0, 0),
            is_queued: false,
            ticket: 0,
        }
    }

    /// State of the feed.
    #[must_use]
    pub fn state(&self) -> FeedState {
        self.state
    }

    /// Counters of skips.
    #[must_use]
    pub fn skipped(&self) -> SkipCounts {
        self.skipped
    }

    /// RTP packets and payload bytes sent on all streams, removed ones included.
    #[must_use]
    pub fn sent(&self) -> (u64, u64) {
        let sum = |(packets, bytes), stream: &ReaderStream| {
            (packets + stream.packets_sent, bytes + stream.payload_bytes_sent)
        };
        self.streams.iter().fold(self.left, sum)
    }

    /// What it was sent and skipped since its session began, on whatever shard.
    #[must_use]
    pub fn counts(&self) -> ReaderCounts {
        let ReaderCounts { skipped, sent } = self.elsewhere;
        let here = self.sent();
        ReaderCounts {
            skipped: skipped.plus(&self.skipped),
            sent: (sent.0 + here.0, sent.1 + here.1),
        }
    }

    /// Moves all streams to where a start begins.
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

    /// Moves all streams that are behind the newest group of pictures to that group. Returns the
    /// number of skipped packets.
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

    /// The reason of a skip when the reader is late.
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
            rewrite: None,
            last_sent: None,
            rewrite_from: (0, 0),
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
            sent_before: (0, 0),
            is_datagram: false,
            has_begun: false,
            to: To::Nowhere,
            srtp: None,
            retransmit: RetransmitBudget::default(),
            cursor,
        }
    }

    /// The runs of a batch in the stream's form.
    pub(super) fn runs<'a>(&self, batch: &'a PacketBatch) -> &'a [LiveRun] {
        match self.is_datagram {
            true => batch.datagram_runs_of(self.track),
            false => batch.runs_of(self.track),
        }
    }

    fn prepare(&mut self, ring: &BatchRing, start: Option<u64>) {
        let place = self.cursor.place.no;
        let is_new = self.cursor.last_sent.is_none();
        let no = match start {
            // After a pause within a group of pictures the stream goes on where it was: the
            // decoder has the frames before, and RTP time does not go back.
            Some(start) if !is_new && (start.max(ring.first_no())..).contains(&place) => return,
            // No sound may have arrived since the key frame: the newest packet of sound, then.
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

    /// PLAY is answered: `RTP-Info` of the answer stays true, even when the stream skips before it
    /// has sent a packet.
    pub(crate) fn promise(&mut self, ring: &BatchRing) {
        let NextRun::Run { no, run, packet, rewrite } = self.peek(ring, &mut 0) else { return };
        let Some(batch) = ring.batch(no).filter(|_| self.cursor.last_sent.is_none()) else {
            return;
        };
        if let Some(first) = batch.packets_of(&run).get(usize::from(packet)) {
            let mut last_sent = LastSent::begin(rewrite, first, batch.received());
            last_sent.seq = last_sent.seq.plus(u16::MAX);
            last_sent.clock = batch.clock_of(self.track);
            self.cursor.last_sent = Some(last_sent);
        }
    }

    pub(super) fn move_to(&mut self, no: u64) {
        self.cursor.place = Place { no, run: 0, packet: 0 };
        (self.cursor.is_awaiting, self.cursor.is_broken) = (self.needs_sync, true);
        self.cursor.awaiting_from = None;
    }

    /// Whether the stream has waited long enough for a key frame when it reaches a run of `batch`.
    /// As a rule frames begin with the first run of a batch.
    fn has_waited(&mut self, batch: &PacketBatch, run_index: usize) -> bool {
        let from = *self.cursor.awaiting_from.get_or_insert_with(|| batch.received());
        run_index == 0 && batch.received().since(from) >= SYNC_WAIT_MAX
    }

    /// Moves the stream to batch `to` if the stream is behind it. Returns the number of skipped
    /// packets.
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

    /// The next packets of the stream. `passed` counts packets that are skipped because the stream
    /// waits for a key frame.
    pub(crate) fn peek(&mut self, ring: &BatchRing, passed: &mut u64) -> NextRun {
        // Bounded: each round moves on by a run or a batch of the ring.
        loop {
            let Place { no, run: index, packet } = self.cursor.place;
            if no < ring.first_no() {
                return NextRun::Evicted;
            }
            let Some(batch) = ring.batch(no) else { return NextRun::Waiting };
            let Some(&run) = self.runs(batch).get(index) else {
                self.cursor.place = Place { no: no + 1, run: 0, packet: 0 };
                continue;
            };
            let origin = Origin { generation: batch.generation(), ssrc: run.ssrc };
            let old = self.cursor.rewrite.map(|rewrite| rewrite.origin);
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
                self.cursor.rewrite = Some(self.rebase(batch, first, origin));
                self.cursor.rewrite_from = (no, first.offset);
                self.cursor.is_broken = false;
            }
            let rewrite = self.cursor.rewrite.unwrap_or_else(|| HeaderRewrite::untouched(origin));
            return NextRun::Run { no, run, packet, rewrite };
        }
    }

    fn rebase(&self, batch: &PacketBatch, first: &LivePacket, origin: Origin) -> HeaderRewrite {
        let Some(last_sent) = &self.cursor.last_sent else {
            return HeaderRewrite::untouched(origin);
        };
        let next = NextPacket {
            origin,
            seq: first.seq,
            ts: first.ts,
            received: batch.received(),
            clock: batch.clock_of(self.track),
        };
        let mut last_sent = *last_sent;
        // Other packets follow those that the socket may have refused.
        let ssrc = last_sent.rewrite.ssrc;
        if let Some(next) = self.srtp.as_ref().and_then(|srtp| srtp.close(ssrc)) {
            last_sent.seq = next.plus(u16::MAX);
        }
        last_sent.rebase(&next, self.clock_rate_hz)
    }

    /// The first packet of a start, for `RTP-Info`.
    pub(crate) fn first(&mut self, ring: &BatchRing) -> Result<Option<First>, Evicted> {
        let (no, run, packet, rewrite) = match self.peek(ring, &mut 0) {
            NextRun::Run { no, run, packet, rewrite } => (no, run, packet, rewrite),
            NextRun::Waiting => return Ok(None),
            NextRun::Evicted => return Err(Evicted),
        };
        let Some(batch) = ring.batch(no) else { return Ok(None) };
        let first = batch.packets_of(&run).get(usize::from(packet));
        Ok(first.map(|packet| {
            let stamp = rewrite.stamp(packet);
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
        let (batch, rewrite) = (ring.batch(no)?, before.rewrite?);
        let run = self.runs(batch).get(index)?;
        let last = packet.saturating_add(count).min(run.packet_count);
        let mut last_sent = before.last_sent;
        let mut payload_bytes = 0;
        for packet in batch.packets_of(run).get(usize::from(packet)..usize::from(last))? {
            payload_bytes += u32::from(packet.bytes - packet.header_bytes);
            match &mut last_sent {
                Some(last_sent) => last_sent.extend(rewrite, packet, batch.received()),
                None => last_sent = Some(LastSent::begin(rewrite, packet, batch.received())),
            }
        }
        if let Some(last_sent) = &mut last_sent {
            last_sent.clock = batch.clock_of(self.track).or(last_sent.clock);
        }
        self.cursor.last_sent = last_sent;
        self.cursor.place = match last == run.packet_count {
            true => Place { no, run: index + 1, packet: 0 },
            false => Place { no, run: index, packet: last },
        };
        let packets = last - packet;
        Some(LiveMark { stream_index, packets, payload_bytes, epoch, before })
    }

    /// The packets of a mark were sent.
    pub(crate) fn confirm(&mut self, mark: &LiveMark) {
        self.packets_sent += u64::from(mark.packets);
        self.payload_bytes_sent += u64::from(mark.payload_bytes);
        self.retransmit.handle_sent(mark.packets);
    }

    /// Undoes `confirm`: the packets of the mark were not sent.
    pub(crate) fn deny(&mut self, mark: &LiveMark) {
        self.packets_sent = self.packets_sent.saturating_sub(u64::from(mark.packets));
        self.payload_bytes_sent =
            self.payload_bytes_sent.saturating_sub(u64::from(mark.payload_bytes));
    }

    /// The socket refused the run: the stream goes back to it. False when an earlier run was put
    /// back already, and this one with it; or when with SRTP other packets follow since: then those
    /// of the run are lost.
    pub(crate) fn rewind(&mut self, mark: &LiveMark) -> bool {
        let is_back = mark.before.place < self.cursor.place && self.rewind_srtp(mark);
        if is_back {
            self.cursor = mark.before;
        }
        is_back
    }

    /// The packets behind those that were sent are sent again, under the same numbers. A packet of
    /// the run that came late has a lower number, which may be that of another packet for all that
    /// is known now: it stays used, and the packet is left out the second time.
    fn rewind_srtp(&self, mark: &LiveMark) -> bool {
        let (Some(srtp), Some(rewrite)) = (&self.srtp, self.cursor.rewrite) else { return true };
        match mark.before.last_sent {
            Some(last) => srtp.rewind(rewrite.ssrc, last.seq.plus(1)),
            None => srtp.restart(rewrite.ssrc),
        }
    }
}

/// The first packets of a start have left the ring.
#[derive(Debug)]
pub(crate) struct Evicted;
