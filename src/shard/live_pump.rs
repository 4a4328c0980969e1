//! Sends live paths to their readers: runs of batches over UDP, packets over RTSP connections.
//!
//! ```text
//!  path: reader that is ready --UDP--> its streams' runs --> ring --no room--> rewind, in 2 ms
//!                `--------------TCP--> connection is dirty --> packets with the next send
//! ```
//! A run whose headers are the source's own is one range of its batch; others are gathered packet
//! by packet with 12 bytes of header each. A reader is sent `BURST_PACKETS_MAX` packets of a stream
//! in a turn at most. Invariant: what was taken from a path is confirmed or put back.
//! DESIGN sections 5.4, 5.5, 6.

use std::sync::Arc;

use slab::Slab;

use super::ring::{FileSlot, Ring, SendFailure, StreamSend};
use super::sockets::to_socket_address;
use super::tcp_pump::Gathered;
use super::turn::{PairSlots, Shard};
use super::udp_pump::{BURST_NS, BURST_PACKETS_MAX, later, observe_lateness};
use crate::base::time::Mono;
use crate::live::batch::LivePacket;
use crate::live::path::{DueRun, LivePath, Next, ReaderKey};
use crate::live::reader::LiveMark;
use crate::metrics::cells::{ShardCells, TransportKind};
use crate::poll::poll_table::EntryKey;
use crate::session::live::desk::{LiveDesk, LiveName};
use crate::session::live::reader::LiveReader;
use crate::session::stream::Path;
use crate::session::table::Sessions;

/// A run of a live path that the kernel has.
#[derive(Debug)]
pub(super) struct LiveRunMark {
    path: Arc<str>,
    key: ReaderKey,
    mark: LiveMark,
}

/// The way of a reader's runs to the ring.
struct Outlet<'a> {
    ring: &'a mut Ring,
    runs: &'a mut Slab<LiveRunMark>,
    pairs: &'a [Option<PairSlots>],
    cells: &'a ShardCells,
    now: Mono,
}

impl Shard {
    /// Looks at the readers that have something due.
    pub(super) fn pump_live(&mut self) {
        if !std::mem::take(&mut self.sessions.live.is_ready) {
            return;
        }
        let Self { sessions, ring, live_runs, pairs, cells, .. } = self;
        let now = sessions.now;
        let LiveDesk { paths, readers, is_ready, .. } = &mut sessions.live;
        let mut out = Outlet { ring, runs: live_runs, pairs, cells, now };
        let (mut wakes, mut dirty) = (Vec::new(), Vec::new());
        for path in paths.iter_mut() {
            // Bounded: one that is queued again is looked at in another turn.
            for _ in 0..path.ready_count() {
                if !out.ring.has_free_run() {
                    *is_ready = true;
                    break;
                }
                let Some(key) = path.pop_ready() else { break };
                let Some(owner) = path.reader(key).map(|reader| reader.owner) else { continue };
                let place = usize::try_from(owner).unwrap_or(usize::MAX);
                let Some(reader) = readers.get_mut(place) else { continue };
                if reader.is_interleaved() {
                    dirty.extend(reader.connection);
                } else if let Some(due) = out.pump(path, reader) {
                    wakes.push((u32::try_from(place).unwrap_or(u32::MAX), due));
                }
            }
        }
        for (index, due) in wakes {
            self.sessions.wake_reader(index, due);
        }
        for entry in dirty {
            self.mark_dirty(entry);
        }
    }

    /// The kernel has taken a run of a live path, or not.
    pub(super) fn handle_live_run_sent(
        &mut self,
        token: u32,
        packets: u16,
        result: Result<(), SendFailure>,
    ) {
        let Some(run) = self.live_runs.try_remove((token & !LIVE_RUN) as usize) else { return };
        let LiveRunMark { path, key, mark } = run;
        let found = self.sessions.live.paths.path_mut(&path);
        let error = match result {
            Ok(()) => {
                let udp = TransportKind::Udp as usize;
                self.cells.send_calls[udp].add(1);
                self.cells.rtp_packets_sent[udp].add(u64::from(packets));
                self.cells.rtp_payload_bytes_sent[udp].add(u64::from(mark.payload_bytes));
                if packets > 1 {
                    self.cells.gso_segments.add(u64::from(packets));
                }
                if let Some(path) = found {
                    path.confirm(key, &mark);
                }
                return;
            }
            Err(error) => error,
        };
        let Some(owner) = found.and_then(|path| path.reader(key)).map(|reader| reader.owner) else {
            return;
        };
        let index = u32::try_from(owner).unwrap_or(u32::MAX);
        let is_again = match error {
            SendFailure::Again | SendFailure::Cancelled => true,
            SendFailure::TooLarge => {
                let reader = self.sessions.live.readers.get(index as usize);
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
            self.warn_once("RTP packets could not be sent", &error);
            return;
        }
        self.cells.send_again.add(1);
        let found = self.sessions.live.paths.path_mut(&path);
        if found.is_some_and(|path| path.rewind(key, &mark)) {
            self.sessions.wake_reader(index, later(self.sessions.now, BURST_NS));
        }
    }
}

impl Outlet<'_> {
    /// Hands what is due of a reader to the ring. When to look at it again, if not with the next
    /// batch.
    fn pump(&mut self, path: &mut LivePath, reader: &mut LiveReader) -> Option<Mono> {
        let mut wake: Option<Mono> = None;
        for index in 0..reader.streams.len() {
            let due = self.pump_stream(path, reader, index);
            wake = wake.into_iter().chain(due).min();
        }
        wake
    }

    fn pump_stream(
        &mut self,
        path: &mut LivePath,
        reader: &mut LiveReader,
        index: usize,
    ) -> Option<Mono> {
        let key = reader.key;
        let place = u8::try_from(index).unwrap_or(u8::MAX);
        let stream = reader.streams.get_mut(index)?;
        let Path::Udp { pair, rtp, .. } = stream.path else { return None };
        let again = later(self.now, BURST_NS);
        let Some(Some(pair)) = self.pairs.get(usize::from(pair)) else { return Some(again) };
        let (socket, to) = (pair.rtp, to_socket_address(rtp, pair.family));
        let mut sent = 0;
        // Bounded by the burst: every run has a packet at least.
        let wake = loop {
            if sent >= BURST_PACKETS_MAX {
                break Some(again);
            }
            let due = match path.next(key, place, self.now) {
                Next::Run(due) => due,
                Next::At(time) => break Some(time),
                Next::Waiting | Next::Idle => break None,
            };
            stream.ssrc = Some(due.mapping.ssrc);
            if sent == 0 {
                observe_lateness(self.cells, self.now, due.due, None);
            }
            let Some(run) = self.start(socket, to, &due) else { break Some(again) };
            let count = run.packet_count();
            let Some(mark) = path.take(key, place, count) else { break None };
            // Whatever this stream sends next in this turn must not overtake it.
            run.submit(true);
            self.runs.insert(LiveRunMark { path: Arc::clone(path.name()), key, mark });
            sent += usize::from(count);
        };
        if sent > 0 {
            self.cells.send_burst.observe_packets(sent as u64);
        }
        wake
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

/// Puts what is due to the readers of a connection into a send, the longest due first.
pub(super) fn gather_live(
    sessions: &mut Sessions,
    cells: &ShardCells,
    send: &mut StreamSend<'_>,
    entry: EntryKey,
    gathered: &mut Gathered,
) {
    let now = sessions.now;
    let mut wakes = Vec::new();
    for at in 0..sessions.live.of_connection(entry).len() {
        let Some(LiveName::Reader(index)) = sessions.live.of_connection(entry).get(at).copied()
        else {
            continue;
        };
        let LiveDesk { paths, readers, .. } = &mut sessions.live;
        let Some(reader) = readers.get_mut(index as usize) else { continue };
        if !reader.is_interleaved() {
            continue;
        }
        let Some(path) = paths.path_mut(&reader.path) else { continue };
        let before = gathered.packets;
        // Bounded by the room of a send: every round takes a packet at least.
        let wake = loop {
            match longest_due(path, reader, now) {
                Longest::Due { place, due } => {
                    if gathered.packets == before {
                        observe_lateness(cells, now, due, None);
                    }
                    if !gather_run(path, reader, place, now, send, gathered) {
                        // The rest goes with the next send.
                        break None;
                    }
                }
                Longest::At(wake) => break wake,
            }
        };
        wakes.extend(wake.map(|due| (index, due)));
    }
    for (index, due) in wakes {
        sessions.wake_reader(index, due);
    }
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
