//! Sends live paths to their readers: runs of batches over UDP, packets over RTSP connections.
//!
//! ```text
//!  path: reader that is ready --UDP--> its streams' runs --> ring --no room--> rewind, in 2 ms
//!                `--------------TCP--> connection is dirty --> packets with the next send
//! ```
//! A run whose headers are the source's own is one range of its batch; others are gathered packet
//! by packet with 12 bytes of header each. A reader is sent `BURST_PACKETS_MAX` packets of a stream
//! in a turn, of a large batch up to `LARGE_BURST_PACKETS_MAX`; the rest follows every 2 ms. Those
//! who are live come before those who catch up.
//!
//! Invariants: what was taken from a path is confirmed, or denied and put back or lost; nothing is
//! allocated for a run or a reader. Bounds: `LIVE_RUNS_MAX` and `BEHIND_RUNS_MAX` runs a turn.
//! DESIGN sections 5.4, 5.5, 6.

use slab::Slab;

use super::ring::{FileSlot, Ring, SendFailure, StreamSend};
use super::sockets::to_socket_address;
use super::turn::{PairSlots, Shard};
use crate::base::limits::{BURST_INTERVAL, BURST_PACKETS_MAX};
use crate::base::sink::Gathered;
use crate::base::time::Mono;
use crate::live::batch::{LivePacket, PacketBatch};
use crate::live::path::{DueRun, LivePath, Next, ReaderKey};
use crate::live::queues::TOUCHED_MAX;
use crate::live::reader::LiveMark;
use crate::metrics::cells::{ShardCells, TransportKind};
use crate::poll::poll_table::EntryKey;
use crate::session::directory::SessionRef;
use crate::session::live::desk::Live;
use crate::session::live::reader::{LiveReader, LiveStream};
use crate::session::sessions::Sessions;
use crate::session::stream::Path;

/// A run of a live path that the kernel has.
#[derive(Debug)]
pub(super) struct LiveRunMark {
    key: ReaderKey,
    mark: LiveMark,
}

/// What a turn's pumping leaves to be done; kept for its storage.
#[derive(Debug, Default)]
pub(super) struct LiveLeft {
    /// Readers to be looked at later.
    wakes: Vec<(u32, Mono)>,
    /// Connections of readers over TCP.
    connections: Vec<EntryKey>,
}

/// Which readers have their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Those that wait for what has just come.
    Live,
    /// Those that catch up, as far as that leaves the others alone.
    Behind,
}

/// The way of a reader's runs to the ring.
struct Outlet<'a> {
    ring: &'a mut Ring,
    runs: &'a mut Slab<LiveRunMark>,
    pairs: &'a [Option<PairSlots>],
    cells: &'a ShardCells,
    left: &'a mut LiveLeft,
    now: Mono,
    /// Runs, or connections, that may still be served in this round.
    runs_left: usize,
}

/// How far a stream or a reader got in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    /// It has had all that is there.
    All,
    /// There is more at this time.
    Until(Mono),
    /// There is more, as soon as the ring has room.
    NoSlot,
}

impl Shard {
    /// Looks at the readers that have something due.
    pub(super) fn pump_live(&mut self) {
        if std::mem::take(&mut self.sessions.live.hub.is_ready) {
            self.sessions.live.hub.paths.list_all();
        }
        if self.sessions.live.hub.paths.listed_count() == 0 {
            return;
        }
        let mut left = std::mem::take(&mut self.live_left);
        let Self { sessions, ring, live_runs, pairs, cells, .. } = self;
        let now = sessions.cx.now;
        let Live { hub, readers, .. } = &mut sessions.live;
        let (paths, readers) = (&mut hub.paths, &mut readers.table);
        let (runs, runs_left) = (live_runs, 0);
        let mut out = Outlet { ring, runs, pairs, cells, left: &mut left, now, runs_left };
        for (round, runs_max) in [(Round::Live, LIVE_RUNS_MAX), (Round::Behind, BEHIND_RUNS_MAX)] {
            out.runs_left = runs_max;
            for _ in 0..paths.listed_count() {
                let Some(key) = paths.pop_listed() else { break };
                if let Some(path) = paths.by_key(key) {
                    out.pump_path(path, readers, round);
                }
                // For the next round or turn, when somebody is left over.
                paths.list(key);
            }
        }
        for (index, due) in left.wakes.drain(..) {
            self.sessions.live.readers.wake_reader(&mut self.sessions.cx, index, due);
        }
        for entry in left.connections.drain(..) {
            self.mark_dirty(entry);
        }
        self.live_left = left;
    }

    /// The kernel has taken a run of a live path, or not. Those that it takes, which nearly all
    /// are, need no look at their readers: they were counted when they were handed over.
    pub(super) fn handle_live_run_sent(
        &mut self,
        token: u32,
        packets: u16,
        result: Result<(), SendFailure>,
    ) {
        let Some(run) = self.live_runs.try_remove((token & !LIVE_RUN) as usize) else { return };
        match result {
            Ok(()) => {
                let udp = TransportKind::Udp as usize;
                self.cells.send_calls[udp].add(1);
                self.cells.rtp_packets_sent[udp].add(u64::from(packets));
                self.cells.rtp_payload_bytes_sent[udp].add(u64::from(run.mark.payload_bytes));
                if packets > 1 {
                    self.cells.gso_segments.add(u64::from(packets));
                }
            }
            Err(error) => self.handle_live_run_failed(&run, &error),
        }
    }

    #[cold]
    fn handle_live_run_failed(&mut self, run: &LiveRunMark, error: &SendFailure) {
        let LiveRunMark { key, mark } = run;
        let Some(path) = self.sessions.live.hub.paths.path_of(*key) else { return };
        path.deny(*key, mark);
        let Some(owner) = path.reader(*key).map(|reader| reader.owner) else { return };
        let index = u32::try_from(owner).unwrap_or(u32::MAX);
        let is_again = match error {
            SendFailure::Again | SendFailure::Cancelled => true,
            SendFailure::TooLarge => {
                let reader = self.sessions.live.readers.table.get(index as usize);
                let stream = reader.and_then(|r| r.streams.get(usize::from(mark.stream_index)));
                match stream.map(|stream| stream.path) {
                    Some(Path::Udp { pair, .. }) => self.allow_fragments_on(pair),
                    _ => false,
                }
            }
            _ => false,
        };
        if !is_again {
            // The packets are lost like any others on the way.
            self.cells.send_errors.add(1);
            self.warn_once("RTP packets could not be sent", error);
            return;
        }
        self.cells.send_again.add(1);
        let path = self.sessions.live.hub.paths.path_of(*key);
        if path.is_some_and(|path| path.rewind(*key, mark)) {
            let due = self.sessions.cx.now + BURST_INTERVAL;
            self.sessions.live.readers.wake_reader(&mut self.sessions.cx, index, due);
        }
    }
}

impl Outlet<'_> {
    fn pump_path(&mut self, path: &mut LivePath, readers: &mut Slab<LiveReader>, round: Round) {
        let count = match round {
            Round::Live => path.ready_count(),
            Round::Behind => path.behind_count(),
        };
        // Bounded: one that is queued again is looked at in another turn.
        for number in 0..count {
            if number % TOUCHED_MAX == 0 {
                touch_next(path, readers, round);
            }
            if self.runs_left == 0 || !self.ring.has_free_run() {
                return;
            }
            let popped = match round {
                Round::Live => path.pop_ready(),
                Round::Behind => path.pop_behind(),
            };
            let Some(key) = popped else { return };
            let Some(owner) = path.reader(key).map(|reader| reader.owner) else { continue };
            let place = usize::try_from(owner).unwrap_or(usize::MAX);
            let Some(reader) = readers.get_mut(place) else { continue };
            if reader.is_interleaved() {
                self.runs_left = self.runs_left.saturating_sub(1);
                self.left.connections.extend(reader.connection);
                continue;
            }
            match self.pump(path, reader) {
                Pumped::All => {}
                Pumped::Until(due) => {
                    // What comes meanwhile waits, too, or bursts would not be apart.
                    path.defer(key);
                    self.left.wakes.push((u32::try_from(place).unwrap_or(u32::MAX), due));
                }
                Pumped::NoSlot => path.queue(key),
            }
        }
    }

    /// Hands what is due of a reader to the ring.
    fn pump(&mut self, path: &mut LivePath, reader: &mut LiveReader) -> Pumped {
        let mut wake: Option<Mono> = None;
        for index in 0..reader.streams.len() {
            match self.pump_stream(path, reader, index) {
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
        reader: &mut LiveReader,
        index: usize,
    ) -> Pumped {
        let key = reader.key;
        let place = u8::try_from(index).unwrap_or(u8::MAX);
        let Some(stream) = reader.streams.get_mut(index) else { return Pumped::All };
        let Path::Udp { pair, rtp, .. } = stream.path else { return Pumped::All };
        let again = Pumped::Until(self.now + BURST_INTERVAL);
        let Some(Some(pair)) = self.pairs.get(usize::from(pair)) else { return again };
        let (socket, to) = (pair.rtp, to_socket_address(rtp, pair.family));
        let (mut sent, mut sent_max) = (0, BURST_PACKETS_MAX);
        // Bounded by the burst: every run has a packet at least.
        let pumped = loop {
            if sent >= sent_max {
                break again;
            }
            let due = match path.next(key, place, self.now) {
                Next::Run(due) => due,
                Next::At(time) => break Pumped::Until(time),
                Next::Waiting | Next::Idle => break Pumped::All,
            };
            stream.ssrc = Some(due.mapping.ssrc);
            sent_max = sent_max.max(burst_max(due.batch));
            if sent == 0 {
                self.cells.observe_lateness(self.now, due.due);
            }
            let Some(run) = self.start(socket, to, &due) else {
                break if self.ring.has_free_run() { again } else { Pumped::NoSlot };
            };
            let count = run.packet_count();
            let Some(mark) = path.take(key, place, count) else { break Pumped::All };
            path.confirm(key, &mark);
            // Whatever this stream sends next in this turn must not overtake it.
            run.submit(true);
            self.runs.insert(LiveRunMark { key, mark });
            self.runs_left = self.runs_left.saturating_sub(1);
            sent += usize::from(count);
        };
        if sent > 0 {
            self.cells.send_burst.observe_packets(sent as u64);
        }
        pumped
    }

    /// A run of the packets that are due, as many as the route takes in one send.
    fn start(
        &mut self,
        socket: FileSlot,
        to: std::net::SocketAddr,
        due: &DueRun<'_>,
    ) -> Option<super::ring::Run<'_>> {
        let DueRun { batch, run: range, skip_packets, mapping, .. } = due;
        let token = u32::try_from(self.runs.vacant_key()).unwrap_or(!LIVE_RUN) | LIVE_RUN;
        let mut run = self.ring.start_run(socket, to, token)?;
        if *skip_packets == 0 && mapping.is_untouched() && run.set_range(batch, range) {
            return Some(run);
        }
        for packet in batch.packets_of(range).iter().skip(usize::from(*skip_packets)) {
            if !run.try_live_packet(&mapping.header(batch, packet), batch, packet) {
                break;
            }
        }
        (run.packet_count() > 0).then_some(run)
    }
}

/// As `LivePath::touch_next`, of what is read of readers here.
fn touch_next(path: &LivePath, readers: &Slab<LiveReader>, round: Round) {
    let mut owners = [0; TOUCHED_MAX];
    let count = path.touch_next(round == Round::Behind, &mut owners);
    let next = || {
        let places = owners.iter().take(count).filter_map(|owner| usize::try_from(*owner).ok());
        places.filter_map(|place| readers.get(place))
    };
    let sum = next().fold(0, |sum, reader| sum ^ reader.streams.len() ^ reader.key.place());
    let paths = next().filter_map(|reader| reader.streams.first());
    let is_udp = |stream: &LiveStream| matches!(stream.path, Path::Udp { .. });
    let sum = paths.fold(sum, |sum, stream| sum ^ usize::from(is_udp(stream)));
    std::hint::black_box(sum);
}

/// Packets of a stream in a turn at most, while it sends from this batch: one of many packets is
/// through in five turns, if a receiver can take that.
fn burst_max(batch: &PacketBatch) -> usize {
    batch.packet_count().div_ceil(LARGE_BATCH_TURNS).min(LARGE_BURST_PACKETS_MAX)
}

/// Puts what is due to the readers of a connection into a send, the longest due first. True: there
/// was no room for all of it, the rest goes with the next send.
pub(super) fn gather_live(
    sessions: &mut Sessions,
    cells: &ShardCells,
    send: &mut StreamSend<'_>,
    entry: EntryKey,
    gathered: &mut Gathered,
) -> bool {
    let now = sessions.cx.now;
    let mut has_more = false;
    for at in 0..sessions.cx.directory.of_connection(entry).len() {
        let session = sessions.cx.directory.of_connection(entry).get(at).copied();
        let Some(SessionRef::Reader(index)) = session else { continue };
        let Live { hub, readers, .. } = &mut sessions.live;
        let (paths, readers) = (&mut hub.paths, &mut readers.table);
        let Some(reader) = readers.get_mut(index as usize) else { continue };
        if !reader.is_interleaved() {
            continue;
        }
        let Some(path) = paths.path_of(reader.key) else { continue };
        let before = gathered.packets;
        // Bounded by the room of a send: every round takes a packet at least.
        let wake = loop {
            match longest_due(path, reader, now) {
                Longest::Due { place, due } => {
                    if gathered.packets == before {
                        cells.observe_lateness(now, due);
                    }
                    if !gather_run(path, reader, place, now, send, gathered) {
                        has_more = true;
                        break None;
                    }
                }
                Longest::At(wake) => break wake,
            }
        };
        if let Some(due) = wake {
            sessions.live.readers.wake_reader(&mut sessions.cx, index, due);
        }
    }
    has_more
}

/// Which of a reader's streams goes first.
enum Longest {
    Due { place: u8, due: Mono },
    At(Option<Mono>),
}

fn longest_due(path: &mut LivePath, reader: &LiveReader, now: Mono) -> Longest {
    let (mut first, mut wake): (Option<(Mono, u8)>, Option<Mono>) = (None, None);
    for place in 0..u8::try_from(reader.streams.len()).unwrap_or(u8::MAX) {
        match path.next(reader.key, place, now) {
            Next::Run(run) => {
                if first.is_none_or(|(due, _)| run.due < due) {
                    first = Some((run.due, place));
                }
            }
            Next::At(time) => wake = wake.into_iter().chain([time]).min(),
            Next::Waiting | Next::Idle => {}
        }
    }
    first.map_or(Longest::At(wake), |(due, place)| Longest::Due { place, due })
}

/// Puts a stream's next run into a send. False: no room for all of it.
fn gather_run(
    path: &mut LivePath,
    reader: &mut LiveReader,
    place: u8,
    now: Mono,
    send: &mut StreamSend<'_>,
    gathered: &mut Gathered,
) -> bool {
    let Some(stream) = reader.streams.get_mut(usize::from(place)) else { return false };
    let Path::Tcp { channel, .. } = stream.path else { return false };
    let Next::Run(due) = path.next(reader.key, place, now) else { return false };
    let DueRun { batch, run, skip_packets, mapping, .. } = due;
    stream.ssrc = Some(mapping.ssrc);
    let packets = batch.packets_of(&run).get(usize::from(skip_packets)..).unwrap_or_default();
    let fits = |packet: &&LivePacket| {
        send.push_live_packet(channel, &mapping.header(batch, packet), batch, packet)
    };
    let count = packets.iter().take_while(fits).count();
    let is_all = count == packets.len();
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    if count == 0 {
        return false;
    }
    let Some(mark) = path.take(reader.key, place, count) else { return false };
    // The connection delivers it or ends.
    path.confirm(reader.key, &mark);
    gathered.packets += u64::from(count);
    gathered.payload_bytes += u64::from(mark.payload_bytes);
    is_all
}

/// Whether a token of the ring is a live path's run.
pub(super) fn is_live_run(token: u32) -> bool {
    token & LIVE_RUN != 0 && token != super::dispatch::NO_RUN
}

/// Tells tokens of live paths' runs from others.
const LIVE_RUN: u32 = 1 << 31;
/// Runs, or connections, of a turn for those who are live. The next turn comes at once: what is
/// received meanwhile does not wait for the whole of a crowd, and the memory of few sends, which is
/// used again in the next turn, stays in the cache.
const LIVE_RUNS_MAX: usize = 256;
/// The same for those who catch up: half a millisecond of sending. The others wait so long for them
/// at most, however many begin at once; and on a shard that cannot keep up nobody waits for ever.
const BEHIND_RUNS_MAX: usize = 64;
/// A batch of many packets is spread over so many turns, `BURST_INTERVAL` apart: 10 ms.
const LARGE_BATCH_TURNS: usize = 5;
/// Two thirds of what a default receive buffer holds.
const LARGE_BURST_PACKETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{RtpTs, SeqNo, Ssrc};
    use crate::live::batch::{Arrival, BatchBuilder, Generation};

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
