//! Live paths of a shard that another process takes over.
//!
//! ```text
//!  old   Quiet --Halt--> no datagram comes, sources are flushed --Pass, Pass--> batches are at all
//!        shards that have the path --Freeze--> recorded: no batch is between two shards
//!  new   Take: paths, then their publishers and readers
//! ```
//! A batch goes from the shard of its source to the owner of its path, and from there to shards
//! with readers. Each `Pass` is answered when all messages are handled that came before it, so two
//! of them are enough. Streams go on meanwhile.
//! Bound: `HALT_MAX`; `HELD_MAX` messages in a pass.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::recording::Making;
use super::waits::are_done;
use super::{Answer, HELD_MAX, Step};
use crate::base::time::Mono;
use crate::config::source::SourceAddress;
use crate::consumers::takeover::TakenPaths;
use crate::live::core::takeover::TakenPath;
use crate::live::takeover::RecordedBatches;
use crate::poll::poll_table::EntryKey;
use crate::session::action::InputSocket;
use crate::shard::ring::kernel::Kernel;
use crate::shard::state::Shard;
use crate::takeover::live::InputRecord;
use crate::takeover::v1::Fd;

/// A shard that receives nothing any more.
pub(super) struct Halting {
    since: Mono,
    /// Sockets at which datagrams were received.
    sockets: Vec<EntryKey>,
    answer: Answer<Result<(), String>>,
}

impl<K: Kernel> Shard<K> {
    /// Receives no datagram of a client any more, and answers when what has come is on its way to
    /// its path.
    pub(super) fn begin_halt(&mut self, answer: Answer<Result<(), String>>) {
        let is_quiet = matches!(&self.takeover.step, Step::Quiet(quiet) if quiet.answer.is_none());
        if !is_quiet || self.phase.is_stopping() {
            return answer(Err("the server stops, or was not made quiet".to_owned()));
        }
        let mut sockets = self.net.entries.receivers();
        sockets.retain(|key| {
            let link = self.net.entries.link(*key);
            let link = link.filter(|_| self.net.pairs.place_of(*key).is_some());
            let armed = link.filter(|link| self.net.ring.has_arrivals(link.slot));
            armed.inspect(|link| self.net.ring.end_arrivals(link.slot)).is_some()
        });
        self.takeover.unheard.clone_from(&sockets);
        let since = self.sessions.cx.now;
        self.takeover.halting = Some(Halting { since, sockets, answer });
    }

    /// Answers when all is handled that had come: once a turn.
    pub(in crate::shard) fn look_at_halt(&mut self) {
        let Some(Halting { since, sockets, .. }) = &mut self.takeover.halting else { return };
        let net = &self.net;
        let is_over = |key| match net.entries.link(key) {
            Some(link) => !net.ring.has_arrivals(link.slot),
            None => true,
        };
        let is_over = are_done(sockets, is_over) && self.arrivals.is_empty();
        let is_late = self.sessions.cx.now.since(*since) >= HALT_MAX;
        if !is_over && !is_late {
            return;
        }
        self.sessions.live.flush_sources(&mut self.sessions.cx);
        self.settle();
        if let Some(Halting { answer, .. }) = self.takeover.halting.take() {
            answer(match is_over {
                true => Ok(()),
                false => Err("packets kept coming; try again".to_owned()),
            });
        }
    }

    /// Handles what other shards have told of live paths, and tells them what follows.
    pub(super) fn pass(&mut self, answer: Answer<()>) {
        let inbox = Arc::clone(&self.inbox);
        for _ in 0..HELD_MAX {
            let Some(message) = inbox.pop_live() else { break };
            self.guarded(None, |shard| {
                shard.sessions.live.handle_live_message(&mut shard.sessions.cx, message);
            });
        }
        self.settle();
        answer(());
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
            let config = waiting.paths.find(&record.path);
            if matches!(config.source, SourceAddress::Udp(_) | SourceAddress::Sdp(_)) {
                let InputRecord { to, is_rtcp, senders, interface, .. } = record;
                let (track, may_widen) = (0, false);
                let socket = InputSocket { track, is_rtcp, to, senders, interface, may_widen };
                self.net.inputs.inherit(socket, fd);
            }
        }
    }

    /// Records the sockets at which sources are listened for: what comes there waits in them.
    fn record_inputs(&self, making: &mut Making) -> Result<(), String> {
        for (number, key, socket) in self.net.inputs.each() {
            let path = self.sessions.live.input_path(number);
            let (Some(link), Some(path)) = (self.net.entries.link(key), path) else { continue };
            let fd = making.add_file(self.net.ring.share_fd(link.slot));
            making.record.inputs.push(InputRecord {
                path: path.to_string(),
                to: socket.to,
                is_rtcp: socket.is_rtcp,
                senders: socket.senders.clone(),
                interface: socket.interface.clone(),
                socket: fd,
            });
        }
        Ok(())
    }

    /// Records live paths, with their packets in a file of their own.
    pub(super) fn record_live(&self, making: &mut Making) -> Result<(), String> {
        if self.sessions.live.sources.publishers.has_packets() {
            return Err("packets of a publisher were at hand; try again".to_owned());
        }
        self.record_inputs(making)?;
        let (paths, kept) = self.sessions.live.record_paths(self.sessions.cx.now);
        making.record.paths = paths;
        if !kept.batches.is_empty() {
            let file = file_of(&kept)
                .map_err(|error| format!("packets of live paths cannot be handed over: {error}"))?;
            let Fd(place) = making.add_file(Arc::new(file));
            making.record.packets = Some(Fd(place));
        }
        Ok(())
    }
}

/// A file without a name that has the bytes of the batches.
fn file_of(kept: &RecordedBatches) -> std::io::Result<OwnedFd> {
    use std::io::Write as _;
    let fd = rustix::fs::memfd_create("headend-packets", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    for batches in kept.batches.chunks(BATCHES_A_WRITE) {
        let mut slices: Vec<IoSlice<'_>> =
            batches.iter().map(|batch| IoSlice::new(batch.bytes())).collect();
        let mut left = slices.as_mut_slice();
        // Bounded: each round writes something.
        while !left.is_empty() {
            let written = file.write_vectored(left)?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
    }
    Ok(file.into())
}

/// How long the handling of what has come may take.
const HALT_MAX: Duration = Duration::from_millis(500);
/// Less than `IOV_MAX`.
const BATCHES_A_WRITE: usize = 512;
