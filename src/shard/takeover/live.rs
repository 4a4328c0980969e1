//! Live paths of a shard that another process takes over.
//!
//! ```text
//!  old   Quiet --Packets--> the packets that go along are written, streams go on
//!        --Halt--> no packet comes, publishers are flushed, other sources feed nothing
//!        --Pass, Pass--> batches are at all shards that have the path
//!        --Freeze--> recorded: no batch is between two shards
//!  new   Take: paths, then their publishers and readers
//! ```
//! A batch goes from the shard of its source to the owner of its path, and from there to shards
//! with readers. Each `Pass` is answered when no message of live paths is left, so two of them are
//! enough. A batch that does not find room in an inbox is lost, and the takeover fails. Streams go
//! on meanwhile. What cameras, titles and relays have waits in `Hub`, and so do the requests of
//! this shard to owners: they are carried out when it goes on.
//! Bounds: `HALT_MAX`; in each turn `WRITE_A_TURN`, `FLUSH_A_TURN` and `LOOKS_A_TURN`.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::recording::Making;
use super::waits::{LOOKS_A_TURN, are_done};
use super::{Answer, REQUEST_PATIENCE, Step};
use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::config::source::SourceAddress;
use crate::consumers::takeover::TakenPaths;
use crate::live::core::takeover::TakenPath;
use crate::live::sources::listen::plan::{plan_rtcp, plan_udp};
use crate::live::takeover::RecordedBatches;
use crate::poll::poll_table::EntryKey;
use crate::session::action::InputSocket;
use crate::shard::dispatch::shard_count;
use crate::shard::ring::kernel::Kernel;
use crate::shard::state::Shard;
use crate::takeover::live::InputRecord;

/// Live paths of a shard that hands over.
#[derive(Default)]
pub(super) struct Giving {
    packets: Packets,
    /// Until the packets are written.
    writing: Option<Answer<Result<(), String>>>,
    halting: Option<Halting>,
    /// Until no message is left.
    passing: Option<Answer<()>>,
    /// When the last packet came.
    halted: Option<Mono>,
    /// A batch did not come through to another shard since then.
    has_lost: bool,
}

/// A shard that receives nothing any more.
struct Halting {
    since: Mono,
    /// Sockets at which datagrams were received.
    sockets: Vec<EntryKey>,
    /// Connections of publishers whose receives are still to be ended.
    to_end: Vec<EntryKey>,
    /// Those with a request at hand, as far as is known.
    connections: Vec<EntryKey>,
    /// Sources that are still to be flushed; `None`: something may come.
    sources: Option<Vec<u32>>,
    answer: Answer<Result<(), String>>,
}

/// Packets in a file without a name.
#[derive(Default)]
struct Packets {
    kept: RecordedBatches,
    file: Option<File>,
}

impl Giving {
    /// Whether the shard may not sleep.
    pub(super) fn is_pressing(&self) -> bool {
        self.writing.is_some() || self.halting.as_ref().is_some_and(|it| it.sources.is_some())
    }

    /// Whether something is looked at again and again.
    pub(super) fn is_under_way(&self) -> bool {
        self.halting.is_some() || self.passing.is_some()
    }
}

impl<K: Kernel> Shard<K> {
    /// Writes the packets that go along as far as they are here, some in each turn.
    pub(super) fn begin_packets(&mut self, answer: Answer<Result<(), String>>) {
        if !self.is_made_quiet() {
            return answer(Err(NOT_QUIET.to_owned()));
        }
        let giving = &mut self.takeover.live;
        self.sessions.live.keep_batches(self.sessions.cx.now, &mut giving.packets.kept);
        giving.writing = Some(answer);
    }

    /// Receives no packet of a client any more, and answers when what has come is on its way to its
    /// path.
    pub(super) fn begin_halt(&mut self, answer: Answer<Result<(), String>>) {
        if !self.is_made_quiet() {
            return answer(Err(NOT_QUIET.to_owned()));
        }
        let sockets = self.end_datagrams();
        let mut connections = self.net.entries.connections();
        connections.retain(|key| {
            let link = self.net.entries.link_mut(*key);
            link.is_some_and(|link| std::mem::take(&mut link.is_heard))
        });
        let (since, to_end) = (self.sessions.cx.now, connections.clone());
        let giving = &mut self.takeover.live;
        (giving.halted, giving.has_lost) = (Some(since), false);
        giving.halting =
            Some(Halting { since, sockets, to_end, connections, sources: None, answer });
    }

    fn is_made_quiet(&self) -> bool {
        let is_quiet = matches!(&self.takeover.step, Step::Quiet(quiet) if quiet.answer.is_none());
        is_quiet && !self.phase.is_stopping()
    }

    /// Ends what receives datagrams, until the shard goes on. Returns the sockets.
    pub(super) fn end_datagrams(&mut self) -> Vec<EntryKey> {
        let mut sockets = self.net.entries.receivers();
        // By those of other shards is only sent.
        sockets.retain(|key| {
            let link = self.net.entries.link(*key);
            let armed = link.filter(|link| self.net.ring.has_arrivals(link.slot));
            armed.inspect(|link| self.net.ring.end_arrivals(link.slot)).is_some()
        });
        self.takeover.unheard.extend_from_slice(&sockets);
        sockets
    }

    /// Answers what is done: once a turn.
    pub(in crate::shard) fn look_at_live(&mut self) {
        if let Some(answer) = self.takeover.live.writing.take() {
            match self.takeover.live.packets.write_some(WRITE_A_TURN) {
                Ok(true) => self.takeover.live.writing = Some(answer),
                Ok(false) => answer(Ok(())),
                Err(error) => answer(Err(not_written(&error))),
            }
        }
        if self.inbox.has_no_live()
            && let Some(answer) = self.takeover.live.passing.take()
        {
            self.settle();
            answer(());
        }
        self.look_at_halt();
    }

    fn look_at_halt(&mut self) {
        let Some(mut halting) = self.takeover.live.halting.take() else { return };
        let taken = self.sessions.cx.now.since(halting.since);
        match self.what_comes_still(&mut halting, taken) {
            Some(what) if taken >= HALT_MAX => {
                return (halting.answer)(Err(format!("{what}; try again")));
            }
            Some(_) => {}
            None => {
                let live = &mut self.sessions.live;
                let sources =
                    halting.sources.get_or_insert_with(|| live.sources.publishers.numbers());
                live.flush_sources(&mut self.sessions.cx, sources, FLUSH_A_TURN);
                self.settle();
                if sources.is_empty() {
                    self.sessions.live.hub.halt();
                    return (halting.answer)(Ok(()));
                }
            }
        }
        self.takeover.live.halting = Some(halting);
    }

    /// What may bring a packet of a client still.
    fn what_comes_still(&mut self, halting: &mut Halting, taken: Duration) -> Option<&'static str> {
        for _ in 0..LOOKS_A_TURN {
            let Some(key) = halting.to_end.pop() else { break };
            self.end_connection_receive(key);
        }
        let net = &self.net;
        let is_over = |key| match net.entries.link(key) {
            Some(link) => !net.ring.has_arrivals(link.slot),
            None => true,
        };
        if !are_done(&mut halting.sockets, is_over) || self.arrivals.has_datagrams() {
            return Some("datagrams kept coming");
        }
        let is_late = taken >= REQUEST_PATIENCE;
        if !halting.to_end.is_empty()
            || self.has_requests()
            || !are_done(&mut halting.connections, |key| self.is_done(key, is_late))
        {
            return Some("a publisher's request was at hand");
        }
        None
    }

    /// Answers when what other shards have told of live paths is handled.
    pub(super) fn pass(&mut self, answer: Answer<()>) {
        self.takeover.live.passing = Some(answer);
    }

    /// A batch did not find room in the inbox of a shard: what is recorded would not be whole.
    pub(in crate::shard) fn note_lost(&mut self, shard: ShardId) {
        let giving = &mut self.takeover.live;
        // A guest of another kind reads when it can, and is not handed over.
        giving.has_lost |= giving.halted.is_some() && shard.0 < shard_count(&self.poller);
    }

    /// Live paths go on.
    pub(super) fn resume_live(&mut self) {
        self.takeover.live = Giving::default();
        self.sessions.live.hub.go_on();
        self.settle();
    }

    /// Takes live paths in that another process has told.
    pub(super) fn take_paths(&mut self, paths: Vec<TakenPath>) -> TakenPaths {
        if let Step::Waiting(waiting) = &self.takeover.step {
            for path in &paths {
                self.sessions.live.take_path(&self.sessions.cx, &waiting.paths, path);
            }
        }
        paths.into_iter().map(|path| (Arc::clone(&path.name), path)).collect()
    }

    /// Keeps the sockets of sources that are listened for by the new configuration, too.
    pub(super) fn take_inputs(&mut self, inputs: Vec<(InputRecord, OwnedFd)>) {
        let Step::Waiting(waiting) = &self.takeover.step else { return };
        for (record, fd) in inputs {
            let source = &waiting.paths.find(&record.path).source;
            let InputRecord { to, is_rtcp, senders, interface, datagrams, .. } = record;
            let (track, may_widen) = (0, false);
            let socket = InputSocket { track, is_rtcp, to, senders, interface, may_widen };
            if may_ask_for(source, &socket) {
                let datagrams = datagrams.into_iter().map(|(from, bytes)| (from, bytes.0));
                self.net.inputs.inherit(socket, fd, datagrams.collect());
            }
        }
    }

    /// Records the sockets at which sources are listened for: what comes there waits in them.
    fn record_inputs(&self, making: &mut Making) {
        for (number, key, socket) in self.net.inputs.each() {
            let path = self.sessions.live.input_path(number);
            let (Some(link), Some(path)) = (self.net.entries.link(key), path) else { continue };
            let fd = making.add_file(self.net.ring.share_fd(link.slot));
            making.inputs.insert(key, making.record.inputs.len());
            making.record.inputs.push(InputRecord {
                path: path.to_string(),
                to: socket.to,
                is_rtcp: socket.is_rtcp,
                senders: socket.senders.clone(),
                interface: socket.interface.clone(),
                socket: fd,
                datagrams: Vec::new(),
            });
        }
    }

    /// Records live paths, with their packets in a file of their own.
    pub(super) fn record_live(&mut self, making: &mut Making) -> Result<(), String> {
        let live = &self.sessions.live;
        if live.sources.publishers.has_packets() {
            return Err("packets of a publisher were at hand; try again".to_owned());
        }
        let giving = &mut self.takeover.live;
        if giving.has_lost || live.hub.has_overrun() {
            return Err("packets of live paths came too fast; try again".to_owned());
        }
        making.record.halted_ns = giving.halted.map(|at| at.0);
        let packets = &mut giving.packets;
        making.record.paths = live.record_paths(self.sessions.cx.now, &mut packets.kept);
        // What has come since the others were written.
        while packets.write_some(WRITE_A_TURN).map_err(|error| not_written(&error))? {}
        if let Some(file) = packets.file.take() {
            making.record.packets = Some(making.add_file(Arc::new(file.into())));
        }
        self.record_inputs(making);
        Ok(())
    }
}

impl Packets {
    /// Writes the next batches, of about so many bytes. True: more are left.
    fn write_some(&mut self, bytes_max: usize) -> io::Result<bool> {
        let batches = self.kept.next(bytes_max, BATCHES_A_WRITE);
        if batches.is_empty() {
            return Ok(false);
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let flags = rustix::fs::MemfdFlags::CLOEXEC;
                let fd: OwnedFd = rustix::fs::memfd_create("headend-packets", flags)?;
                none.insert(File::from(fd))
            }
        };
        let mut slices: Vec<IoSlice<'_>> =
            batches.iter().map(|batch| IoSlice::new(batch.bytes())).collect();
        let mut left = slices.as_mut_slice();
        // Bounded: each round writes something.
        while !left.is_empty() {
            let written = file.write_vectored(left)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(true)
    }
}

/// Whether a source may listen at a socket: what a description asks for is not read yet.
pub(super) fn may_ask_for(source: &SourceAddress, socket: &InputSocket) -> bool {
    match source {
        SourceAddress::Udp(source) => {
            let rtp = plan_udp(source);
            rtp.is_like(socket) || plan_rtcp(&rtp).is_some_and(|rtcp| rtcp.is_like(socket))
        }
        SourceAddress::Sdp(_) => true,
        SourceAddress::Publish | SourceAddress::Rtsp(_) | SourceAddress::Title(_) => false,
    }
}

fn not_written(error: &io::Error) -> String {
    format!("packets of live paths cannot be handed over: {error}")
}

const NOT_QUIET: &str = "the server stops, or was not made quiet";
/// How long the handling of what has come may take.
const HALT_MAX: Duration = Duration::from_millis(500);
/// Less than `IOV_MAX`.
const BATCHES_A_WRITE: usize = 512;
/// Bytes of packets that a turn writes: less than half a millisecond.
const WRITE_A_TURN: usize = 512 << 10;
/// Sources that a turn flushes: their last batches find room in the inboxes.
const FLUSH_A_TURN: usize = 64;
