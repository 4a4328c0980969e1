//! Sends live paths to their readers: runs of batches over UDP, packets over connections.
//!
//! ```text
//!  path: reader that is ready --UDP--> its streams' runs --> sink --refused--> rewind, in 2 ms
//!                `--------------TCP--> connection is ready --> packets with the next send
//! ```
//! A run whose headers are the source's own is one range of its batch; others are gathered packet
//! by packet with 12 bytes of header each. A reader is sent `BURST_PACKETS_MAX` packets of a stream
//! in a turn, of a large batch up to `LARGE_BURST_PACKETS_MAX`; the rest follows every 2 ms. Live
//! readers come before readers that catch up.
//!
//! The path's reader has all that a send needs. What its owner must do is left to the turn
//! ([`Left`]).
//!
//! Invariants: a run that was taken from a path is confirmed, or denied and then put back or lost;
//! nothing is allocated for a run or a reader.
//! Bounds: `LIVE_RUNS_MAX` and `BEHIND_RUNS_MAX` runs a turn. DESIGN sections 5.4, 5.5, 6.

use std::sync::Arc;

use crate::base::carrier::Carrier;
use crate::base::limits::{BURST_INTERVAL, BURST_PACKETS_MAX};
use crate::base::sink::{Gathered, RunSink};
use crate::base::time::Mono;
use crate::live::core::batch::{LivePacket, LiveRun, PacketBatch};
use crate::live::core::path::{DueRun, LivePath, Next, ReaderKey};
use crate::live::core::paths::LivePaths;
use crate::live::core::queues::TOUCHED_MAX;
use crate::live::core::reader::{Begun, LiveMark, To};
use crate::metrics::cells::ShardCells;
use crate::rtp::HEADER_BYTES;
use crate::rtp::srtp::SrtpStream;

/// Sockets that send runs of batches.
pub trait BatchSink: RunSink {
    /// A run under construction.
    type Run<'a>: BatchRun
    where
        Self: 'a;

    /// Starts a run. `None`: there is no room in this turn.
    /// With `srtp` its packets are encrypted.
    fn start_batch_run(
        &mut self,
        way: Self::Way,
        srtp: Option<&SrtpStream>,
    ) -> Option<Self::Run<'_>>;
}

/// A run of a batch's packets. Dropped without `submit`, nothing is sent.
pub trait BatchRun {
    /// Makes this the whole run: packets as they stand in the batch, one range of bytes. False: add
    /// the packets one by one.
    fn set_range(&mut self, batch: &Arc<PacketBatch>, range: &LiveRun) -> bool;

    /// Adds a packet with `header` instead of its first bytes. False: the run takes no more.
    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool;

    /// Packets in the run.
    fn packet_count(&self) -> u16;

    /// Sends the run, linked to the next one to the same client. If it is refused, `mark` comes
    /// back in [`deny`].
    fn submit(self, mark: LiveRunMark);
}

/// A send on a connection that takes interleaved packets.
pub trait BatchFrames {
    /// Appends a packet on a channel, with `header` instead of its first bytes, encrypted with
    /// `srtp`. False: the send takes no more.
    fn push_packet(
        &mut self,
        channel: (u8, Option<&SrtpStream>),
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool;
}

/// A run of a live path that was submitted to a sink.
#[derive(Debug, Clone, Copy)]
pub struct LiveRunMark {
    key: ReaderKey,
    mark: LiveMark,
}

impl LiveRunMark {
    /// Stream of the reader.
    #[must_use]
    pub fn stream_index(&self) -> u8 {
        self.mark.stream_index
    }

    /// Payload bytes of the run.
    #[must_use]
    pub fn payload_bytes(&self) -> u32 {
        self.mark.payload_bytes
    }
}

/// Work that pumping leaves to the turn; kept for its storage.
#[derive(Debug, Default)]
pub struct Left {
    /// Readers with a later due time, by number of the owner.
    pub wakes: Vec<(u64, Mono)>,
    /// Owners whose connections have packets due.
    pub interleaved: Vec<u64>,
    /// Streams whose first packet was sent.
    pub begun: Vec<Begun>,
}

/// The readers that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Readers that wait for the newest batch.
    Live,
    /// Readers that catch up, within a budget that does not delay live readers.
    Behind,
}

/// Result of pumping a stream or a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    /// All packets are sent.
    All,
    /// More packets are due at this time.
    Until(Mono),
    /// More packets are due as soon as the sink has room.
    NoSlot,
}

/// Result of filling a send on a connection for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// All due packets are in the send; more are due at this time, if one is known.
    Until(Option<Mono>),
    /// The send is full: the rest goes with the next send.
    NoRoom,
}

/// The pump in one turn of a shard.
#[derive(Debug)]
pub struct LivePump<'a, S> {
    sink: &'a mut S,
    cells: &'a ShardCells,
    left: &'a mut Left,
    now: Mono,
    /// Runs, or connections, that may still be served in this round.
    runs_left: usize,
}

impl<'a, S: BatchSink> LivePump<'a, S> {
    /// A pump for the turn at time `now`.
    pub fn new(sink: &'a mut S, cells: &'a ShardCells, left: &'a mut Left, now: Mono) -> Self {
        Self { sink, cells, left, now, runs_left: 0 }
    }

    /// Pumps ready readers of listed paths.
    pub fn pump(&mut self, paths: &mut LivePaths) {
        for (round, runs_max) in [(Round::Live, LIVE_RUNS_MAX), (Round::Behind, BEHIND_RUNS_MAX)] {
            self.runs_left = runs_max;
            for _ in 0..paths.listed_count() {
                let Some(key) = paths.pop_listed() else { break };
                if let Some(path) = paths.by_key(key) {
                    self.pump_path(path, round);
                }
                // Readers that are left over come in the next round or turn.
                paths.list(key);
            }
        }
    }

    fn pump_path(&mut self, path: &mut LivePath, round: Round) {
        let count = match round {
            Round::Live => path.ready_count(),
            Round::Behind => path.behind_count(),
        };
        // Bounded: a reader that is queued again is pumped in another turn.
        for number in 0..count {
            if number % TOUCHED_MAX == 0 {
                path.touch_next(round == Round::Behind);
            }
            if self.runs_left == 0 || !self.sink.has_free_run() {
                return;
            }
            let popped = match round {
                Round::Live => path.pop_ready(),
                Round::Behind => path.pop_behind(),
            };
            let Some(key) = popped else { return };
            let Some(reader) = path.reader(key) else { continue };
            let (owner, stream_count) = (reader.owner, reader.streams.len());
            if reader.carrier == Carrier::Tcp {
                self.runs_left = self.runs_left.saturating_sub(1);
                self.left.interleaved.push(owner);
                continue;
            }
            match self.pump_reader(path, key, stream_count) {
                Pumped::All => {}
                Pumped::Until(due) => {
                    // Batches that arrive meanwhile wait, too: bursts stay apart.
                    path.defer(key);
                    self.left.wakes.push((owner, due));
                }
                Pumped::NoSlot => path.queue(key),
            }
        }
    }

    /// Hands the due packets of a reader to the sink.
    fn pump_reader(&mut self, path: &mut LivePath, key: ReaderKey, stream_count: usize) -> Pumped {
        let mut wake: Option<Mono> = None;
        for index in 0..stream_count {
            match self.pump_stream(path, key, u8::try_from(index).unwrap_or(u8::MAX)) {
                Pumped::All => {}
                Pumped::Until(due) => wake = wake.into_iter().chain([due]).min(),
                Pumped::NoSlot => return Pumped::NoSlot,
            }
        }
        wake.map_or(Pumped::All, Pumped::Until)
    }

    fn pump_stream(&mut self, path: &mut LivePath, key: ReaderKey, stream_index: u8) -> Pumped {
        let (To::Datagrams { pair, client }, srtp) = path.outlet(key, stream_index) else {
            return Pumped::All;
        };
        let again = Pumped::Until(self.now + BURST_INTERVAL);
        let Some(way) = self.sink.way_to(pair, client) else { return again };
        let (mut sent, mut sent_max) = (0, BURST_PACKETS_MAX);
        // Bounded by the burst: each run has at least one packet.
        let pumped = loop {
            if sent >= sent_max {
                break again;
            }
            let due = match path.next(key, stream_index, self.now) {
                Next::Run(due) => due,
                Next::At(time) => break Pumped::Until(time),
                Next::Waiting | Next::Idle => break Pumped::All,
            };
            debug_assert!(due.due <= self.now, "nothing goes out before its time");
            sent_max = sent_max.max(burst_max(due.batch));
            if sent == 0 {
                self.cells.observe_lateness(self.now, due.due);
            }
            let Some(run) = build_run(self.sink, (way, srtp.as_ref()), &due) else {
                break if self.sink.has_free_run() { again } else { Pumped::NoSlot };
            };
            let count = run.packet_count();
            let Some(mark) = path.take(key, stream_index, count) else { break Pumped::All };
            self.left.begun.extend(path.confirm(key, &mark));
            run.submit(LiveRunMark { key, mark });
            self.runs_left = self.runs_left.saturating_sub(1);
            sent += usize::from(count);
        };
        if sent > 0 {
            self.cells.send_burst.observe_packets(sent as u64);
        }
        pumped
    }
}

/// Submits a run of due packets, as many as the route takes in one send.
fn build_run<'a, S: BatchSink>(
    sink: &'a mut S,
    (way, srtp): (S::Way, Option<&SrtpStream>),
    due: &DueRun<'_>,
) -> Option<S::Run<'a>> {
    let DueRun { batch, run: range, skip_packets, rewrite, .. } = due;
    let mut run = sink.start_batch_run(way, srtp)?;
    if *skip_packets == 0 && rewrite.is_untouched() && run.set_range(batch, range) {
        return Some(run);
    }
    for packet in batch.packets_of(range).iter().skip(usize::from(*skip_packets)) {
        if !run.try_packet(&rewrite.header(batch, packet), batch, packet) {
            break;
        }
    }
    (run.packet_count() > 0).then_some(run)
}

/// Most packets of a stream in a turn while the stream sends from this batch: a large batch is sent
/// in five turns, if a receiver can take that.
fn burst_max(batch: &PacketBatch) -> usize {
    batch.packet_count().div_ceil(LARGE_BATCH_TURNS).min(LARGE_BURST_PACKETS_MAX)
}

/// Undoes the count of a run that was not sent. Returns the number of the reader's owner, unless
/// the reader has been removed.
pub fn deny(paths: &mut LivePaths, run: &LiveRunMark) -> Option<u64> {
    let path = paths.path_of(run.key)?;
    path.deny(run.key, &run.mark);
    path.reader(run.key).map(|reader| reader.owner)
}

/// Destination of a run; `Nowhere` when the reader has been removed.
pub fn to(paths: &mut LivePaths, run: &LiveRunMark) -> To {
    paths.path_of(run.key).map_or(To::Nowhere, |path| path.to(run.key, run.mark.stream_index))
}

/// Puts a denied run back. Returns the time at which the reader is pumped again; `None` when an
/// earlier run was put back already, and this one with it, when the mark is stale, or when its
/// packets are lost (`ReaderStream::rewind`).
pub fn put_back(paths: &mut LivePaths, run: &LiveRunMark, now: Mono) -> Option<Mono> {
    let path = paths.path_of(run.key)?;
    path.rewind(run.key, &run.mark).then(|| now + BURST_INTERVAL)
}

/// Puts due packets of a reader into a send on its connection, in the order of their due times.
/// `note` is told of streams whose first packet was sent.
pub fn gather(
    paths: &mut LivePaths,
    key: ReaderKey,
    (cells, now): (&ShardCells, Mono),
    send: &mut impl BatchFrames,
    gathered: &mut Gathered,
    note: &mut impl FnMut(Begun),
) -> Fed {
    let Some(path) = paths.path_of(key) else { return Fed::Until(None) };
    let Some(reader) = path.reader(key).filter(|reader| reader.carrier == Carrier::Tcp) else {
        return Fed::Until(None);
    };
    let stream_count = reader.streams.len();
    let before = gathered.packets;
    // Bounded by the room of a send: each round takes at least one packet.
    loop {
        match longest_due(path, key, stream_count, now) {
            Longest::Due { stream_index, due } => {
                if gathered.packets == before {
                    cells.observe_lateness(now, due);
                }
                if !gather_run(path, (key, stream_index), now, send, gathered, note) {
                    return Fed::NoRoom;
                }
            }
            Longest::At(wake) => return Fed::Until(wake),
        }
    }
}

/// The stream of a reader with the earliest due time.
enum Longest {
    Due { stream_index: u8, due: Mono },
    At(Option<Mono>),
}

fn longest_due(path: &mut LivePath, key: ReaderKey, stream_count: usize, now: Mono) -> Longest {
    let (mut first, mut wake): (Option<(Mono, u8)>, Option<Mono>) = (None, None);
    for stream_index in 0..u8::try_from(stream_count).unwrap_or(u8::MAX) {
        match path.next(key, stream_index, now) {
            Next::Run(run) => {
                if first.is_none_or(|(due, _)| run.due < due) {
                    first = Some((run.due, stream_index));
                }
            }
            Next::At(time) => wake = wake.into_iter().chain([time]).min(),
            Next::Waiting | Next::Idle => {}
        }
    }
    first.map_or(Longest::At(wake), |(due, stream_index)| Longest::Due { stream_index, due })
}

/// Puts the next run of a stream into a send. False when the send is full before the run ends.
fn gather_run(
    path: &mut LivePath,
    (key, stream_index): (ReaderKey, u8),
    now: Mono,
    send: &mut impl BatchFrames,
    gathered: &mut Gathered,
    note: &mut impl FnMut(Begun),
) -> bool {
    let (To::Channel(channel), srtp) = path.outlet(key, stream_index) else { return false };
    let channel = (channel, srtp.as_ref());
    let Next::Run(due) = path.next(key, stream_index, now) else { return false };
    let DueRun { batch, run, skip_packets, rewrite, .. } = due;
    let packets = batch.packets_of(&run).get(usize::from(skip_packets)..).unwrap_or_default();
    let fits = |packet: &&LivePacket| {
        send.push_packet(channel, &rewrite.header(batch, packet), batch, packet)
    };
    let count = packets.iter().take_while(fits).count();
    let is_all = count == packets.len();
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    if count == 0 {
        return false;
    }
    let Some(mark) = path.take(key, stream_index, count) else { return false };
    // A connection delivers the packets or ends.
    if let Some(begun) = path.confirm(key, &mark) {
        note(begun);
    }
    gathered.packets += u64::from(count);
    gathered.payload_bytes += u64::from(mark.payload_bytes);
    is_all
}

/// Runs, or connections, of a turn for live readers. The next turn follows at once, so received
/// packets do not wait for thousands of readers, and the memory of a turn's sends, which the next
/// turn uses again, stays in the cache.
const LIVE_RUNS_MAX: usize = 256;
/// The same for readers that catch up: half a millisecond of sending. Live readers wait no longer
/// than that, however many readers start at once; on a shard that cannot keep up readers that catch
/// up are still served.
const BEHIND_RUNS_MAX: usize = 64;
/// Turns over which a large batch is spread, `BURST_INTERVAL` apart: 10 ms in all.
const LARGE_BATCH_TURNS: usize = 5;
/// Two thirds of what a default receive buffer holds.
const LARGE_BURST_PACKETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{RtpTs, SeqNo, Ssrc};
    use crate::live::core::batch::{Arrival, BatchBuilder, Generation};

    fn batch_of(packets: usize) -> PacketBatch {
        let mut builder = BatchBuilder::default();
        let bytes = [0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let (seq, ts, ssrc) = (SeqNo(0), RtpTs(0), Ssrc(0));
        let (track, marker, header_bytes, is_sync) = (0, false, 12, false);
        let arrival =
            Arrival { track, ssrc, seq, ts, marker, header_bytes, is_sync, bytes: &bytes };
        (0..packets).for_each(|_| builder.push(&arrival, Mono(0)).unwrap());
        builder.build(Generation(0), |_| None).unwrap()
    }

    #[test]
    fn large_batch_is_through_in_ten_milliseconds_as_far_as_a_receive_buffer_allows() {
        for (packets, in_a_turn) in [(1, 32), (51, 32), (160, 32), (250, 50), (512, 64)] {
            let most = burst_max(&batch_of(packets)).max(BURST_PACKETS_MAX);
            assert_eq!(most, in_a_turn, "{packets} packets");
        }
    }
}
