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
//! The owner of a reader ([`Owner`]) knows the reader's transport.
//!
//! Invariants: a run that was taken from a path is confirmed, or denied and then put back or lost;
//! nothing is allocated for a run or a reader.
//! Bounds: `LIVE_RUNS_MAX` and `BEHIND_RUNS_MAX` runs a turn. DESIGN sections 5.4, 5.5, 6.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::ids::Ssrc;
use crate::base::limits::{BURST_INTERVAL, BURST_PACKETS_MAX};
use crate::base::sink::{Gathered, RunSink};
use crate::base::time::Mono;
use crate::live::core::batch::{LivePacket, LiveRun, PacketBatch};
use crate::live::core::path::{DueRun, LivePath, Next, ReaderKey};
use crate::live::core::paths::LivePaths;
use crate::live::core::queues::TOUCHED_MAX;
use crate::live::core::reader::LiveMark;
use crate::metrics::cells::ShardCells;
use crate::rtp::HEADER_BYTES;

/// Sockets that send runs of batches.
pub trait BatchSink: RunSink {
    /// A run under construction.
    type Run<'a>: BatchRun
    where
        Self: 'a;

    /// Starts a run. `None`: there is no room in this turn.
    fn start_batch_run(&mut self, way: Self::Way) -> Option<Self::Run<'_>>;
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
    /// Appends a packet on a channel, with `header` instead of its first bytes. False: the send
    /// takes no more.
    fn push_packet(
        &mut self,
        channel: u8,
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool;
}

/// The owners of readers, by number.
pub trait Owners {
    /// Owner of a reader.
    type Owner: Owner;

    /// An owner by its number.
    fn owner(&self, name: u64) -> Option<&Self::Owner>;

    /// An owner.
    fn owner_mut(&mut self, name: u64) -> Option<&mut Self::Owner>;
}

/// Owner of a reader: knows the transport of the reader's packets.
pub trait Owner {
    /// Key of a connection.
    type Connection: Copy;

    /// Key of the reader.
    fn key(&self) -> ReaderKey;

    /// Number of streams; the order is that of the reader's streams.
    fn stream_count(&self) -> usize;

    /// Destination of a stream's packets.
    fn to(&self, stream_index: u8) -> To;

    /// Whether the packets are interleaved with a connection.
    fn is_interleaved(&self) -> bool;

    /// The connection, while it is open.
    fn connection(&self) -> Option<Self::Connection>;

    /// The packets of a stream are sent with this SSRC from now on.
    fn note_ssrc(&mut self, stream_index: u8, ssrc: Ssrc);
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
    /// A channel of the reader's connection.
    Channel(u8),
    /// No destination: there is no such stream, or the multicast sender sends the packets.
    Nowhere,
}

/// A run of a live path that was submitted to a sink.
#[derive(Debug, Clone, Copy)]
pub struct LiveRunMark {
    key: ReaderKey,
    mark: LiveMark,
}

impl LiveRunMark {
    /// The stream of the reader.
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
#[derive(Debug)]
pub struct Left<C> {
    /// Readers with a later due time, by number of the owner.
    pub wakes: Vec<(u64, Mono)>,
    /// Connections of readers with due packets.
    pub connections: Vec<C>,
}

impl<C> Default for Left<C> {
    fn default() -> Self {
        Self { wakes: Vec::new(), connections: Vec::new() }
    }
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
pub struct LivePump<'a, S, C> {
    sink: &'a mut S,
    cells: &'a ShardCells,
    left: &'a mut Left<C>,
    now: Mono,
    /// Runs, or connections, that may still be served in this round.
    runs_left: usize,
}

impl<'a, S: BatchSink, C: Copy> LivePump<'a, S, C> {
    /// A pump for the turn at time `now`.
    pub fn new(sink: &'a mut S, cells: &'a ShardCells, left: &'a mut Left<C>, now: Mono) -> Self {
        Self { sink, cells, left, now, runs_left: 0 }
    }

    /// Pumps ready readers of listed paths.
    pub fn pump<R>(&mut self, paths: &mut LivePaths, owners: &mut R)
    where
        R: Owners<Owner: Owner<Connection = C>>,
    {
        for (round, runs_max) in [(Round::Live, LIVE_RUNS_MAX), (Round::Behind, BEHIND_RUNS_MAX)] {
            self.runs_left = runs_max;
            for _ in 0..paths.listed_count() {
                let Some(key) = paths.pop_listed() else { break };
                if let Some(path) = paths.by_key(key) {
                    self.pump_path(path, owners, round);
                }
                // Readers that are left over come in the next round or turn.
                paths.list(key);
            }
        }
    }

    fn pump_path<R>(&mut self, path: &mut LivePath, owners: &mut R, round: Round)
    where
        R: Owners<Owner: Owner<Connection = C>>,
    {
        let count = match round {
            Round::Live => path.ready_count(),
            Round::Behind => path.behind_count(),
        };
        // Bounded: a reader that is queued again is pumped in another turn.
        for number in 0..count {
            if number % TOUCHED_MAX == 0 {
                touch_next(path, owners, round);
            }
            if self.runs_left == 0 || !self.sink.has_free_run() {
                return;
            }
            let popped = match round {
                Round::Live => path.pop_ready(),
                Round::Behind => path.pop_behind(),
            };
            let Some(key) = popped else { return };
            let Some(name) = path.reader(key).map(|reader| reader.owner) else { continue };
            let Some(owner) = owners.owner_mut(name) else { continue };
            if owner.is_interleaved() {
                self.runs_left = self.runs_left.saturating_sub(1);
                self.left.connections.extend(owner.connection());
                continue;
            }
            match self.pump_reader(path, owner) {
                Pumped::All => {}
                Pumped::Until(due) => {
                    // Batches that arrive meanwhile wait, too: bursts stay apart.
                    path.defer(key);
                    self.left.wakes.push((name, due));
                }
                Pumped::NoSlot => path.queue(key),
            }
        }
    }

    /// Hands the due packets of a reader to the sink.
    fn pump_reader(&mut self, path: &mut LivePath, owner: &mut impl Owner) -> Pumped {
        let mut wake: Option<Mono> = None;
        for index in 0..owner.stream_count() {
            match self.pump_stream(path, owner, u8::try_from(index).unwrap_or(u8::MAX)) {
                Pumped::All => {}
                Pumped::Until(due) => wake = wake.into_iter().chain([due]).min(),
                Pumped::NoSlot => return Pumped::NoSlot,
            }
        }
        wake.map_or(Pumped::All, Pumped::Until)
    }

    fn pump_stream(
        &mut self,
        path: &mut LivePath,
        owner: &mut impl Owner,
        stream_index: u8,
    ) -> Pumped {
        let key = owner.key();
        let To::Datagrams { pair, client } = owner.to(stream_index) else { return Pumped::All };
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
            owner.note_ssrc(stream_index, due.rewrite.ssrc);
            sent_max = sent_max.max(burst_max(due.batch));
            if sent == 0 {
                self.cells.observe_lateness(self.now, due.due);
            }
            let Some(run) = build_run(self.sink, way, &due) else {
                break if self.sink.has_free_run() { again } else { Pumped::NoSlot };
            };
            let count = run.packet_count();
            let Some(mark) = path.take(key, stream_index, count) else { break Pumped::All };
            path.confirm(key, &mark);
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
    way: S::Way,
    due: &DueRun<'_>,
) -> Option<S::Run<'a>> {
    let DueRun { batch, run: range, skip_packets, rewrite, .. } = due;
    let mut run = sink.start_batch_run(way)?;
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

/// Prefetches the owners of the next readers, as `LivePath::touch_next` does the readers.
fn touch_next<R: Owners>(path: &LivePath, owners: &R, round: Round) {
    let mut names = [0; TOUCHED_MAX];
    let count = path.touch_next(round == Round::Behind, &mut names);
    let next = || names.iter().take(count).filter_map(|name| owners.owner(*name));
    let sum = next().fold(0, |sum, owner| sum ^ owner.stream_count() ^ owner.key().place());
    let is_udp = |owner: &R::Owner| matches!(owner.to(0), To::Datagrams { .. });
    let sum = next().fold(sum, |sum, owner| sum ^ usize::from(is_udp(owner)));
    std::hint::black_box(sum);
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

/// Puts a denied run back. Returns the time at which the reader is pumped again; `None` when an
/// earlier run was put back already, and this one with it, or when the mark is stale.
pub fn put_back(paths: &mut LivePaths, run: &LiveRunMark, now: Mono) -> Option<Mono> {
    let path = paths.path_of(run.key)?;
    path.rewind(run.key, &run.mark).then(|| now + BURST_INTERVAL)
}

/// Puts due packets of a reader into a send on its connection, in the order of their due times.
pub fn gather(
    paths: &mut LivePaths,
    owner: &mut impl Owner,
    (cells, now): (&ShardCells, Mono),
    send: &mut impl BatchFrames,
    gathered: &mut Gathered,
) -> Fed {
    if !owner.is_interleaved() {
        return Fed::Until(None);
    }
    let Some(path) = paths.path_of(owner.key()) else { return Fed::Until(None) };
    let before = gathered.packets;
    // Bounded by the room of a send: each round takes at least one packet.
    loop {
        match longest_due(path, owner, now) {
            Longest::Due { stream_index, due } => {
                if gathered.packets == before {
                    cells.observe_lateness(now, due);
                }
                if !gather_run(path, owner, stream_index, now, send, gathered) {
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

fn longest_due(path: &mut LivePath, owner: &impl Owner, now: Mono) -> Longest {
    let (mut first, mut wake): (Option<(Mono, u8)>, Option<Mono>) = (None, None);
    for stream_index in 0..u8::try_from(owner.stream_count()).unwrap_or(u8::MAX) {
        match path.next(owner.key(), stream_index, now) {
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
    owner: &mut impl Owner,
    stream_index: u8,
    now: Mono,
    send: &mut impl BatchFrames,
    gathered: &mut Gathered,
) -> bool {
    let key = owner.key();
    let To::Channel(channel) = owner.to(stream_index) else { return false };
    let Next::Run(due) = path.next(key, stream_index, now) else { return false };
    let DueRun { batch, run, skip_packets, rewrite, .. } = due;
    owner.note_ssrc(stream_index, rewrite.ssrc);
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
    path.confirm(key, &mark);
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
    use crate::base::ids::{RtpTs, SeqNo};
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
