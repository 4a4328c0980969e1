//! The network of a shard: the ring, rows with descriptors, sockets, runs in flight.
//!
//! ```text
//!  sessions --Action, packets--> Network --> ring --results--> counted, or a stream is told
//!                                   |- entries                  rows of the PollTable
//!                                   |- pairs, inputs, groups    sockets by what they are for
//!                                   `- runs                     owners of the runs in flight
//! ```
//! Methods here open and close sockets; methods in `send` send from them. Methods of `Shard` hand
//! events to consumers and end connections.
//!
//! Invariant: a descriptor has a slot of the ring and a row in `entries`, or neither; a socket of
//! `pairs`, `inputs` or `groups` has both. Bounds: rows of the PollTable, slots of the ring.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use slab::Slab;

use super::entries::Entries;
use super::ring::kernel::Kernel;
use super::ring::{Ring, RingError, Uring};
use super::send::sink::RunOwner;
use super::send::srtp::SrtpShare;
use super::sockets::groups::{GroupSockets, group_pair};
use super::sockets::inputs::Inputs;
use super::sockets::pairs::Pairs;
use super::sockets::{Family, UdpPair};
use super::warnings::Warnings;
use crate::base::host::Host;
use crate::base::ids::ShardId;
use crate::consumers::sessions::Sessions;
use crate::live::core::groups::MulticastSettings;
use crate::live::core::pump::Left;
use crate::metrics::cells::ShardCells;
use crate::session::action::{GroupAction, InputSocket};

/// The ring of a shard and everything that has a place in it.
#[derive(Debug)]
pub(super) struct Network<K: Kernel = Uring> {
    pub(super) id: ShardId,
    pub(super) cells: Arc<ShardCells>,
    pub(super) ring: Ring<K>,
    pub(super) entries: Entries,
    pub(super) pairs: Pairs,
    /// Address to which further pairs are bound.
    pub(super) pair_host: Host,
    pub(super) inputs: Inputs,
    pub(super) groups: GroupSockets,
    /// Owners of the runs in flight, by token.
    pub(super) runs: Slab<RunOwner>,
    /// What the turn may still encrypt of SRTP.
    pub(super) srtp: SrtpShare,
    /// Readers to wake and connections to flush after a live pump; kept for its storage.
    pub(super) live_left: Left,
    pub(super) warnings: Warnings,
}

impl<K: Kernel> Network<K> {
    /// A network without sockets other than those of `entries`.
    pub(super) fn new(
        id: ShardId,
        cells: Arc<ShardCells>,
        (ring, entries): (Ring<K>, Entries),
        pair_host: Host,
    ) -> Self {
        Self {
            id,
            srtp: SrtpShare::new(Arc::clone(&cells)),
            cells,
            ring,
            entries,
            pairs: Pairs::default(),
            pair_host,
            inputs: Inputs::default(),
            groups: GroupSockets::default(),
            runs: Slab::with_capacity(1_024),
            live_left: Left::default(),
            warnings: Warnings::new(id),
        }
    }

    /// Opens a pair to clients: both sockets or neither.
    pub(super) fn add_pair(
        &mut self,
        sessions: &mut Sessions,
        pair: UdpPair,
    ) -> Result<u16, RingError> {
        self.add_pair_of(sessions, pair, None)
    }

    /// As `add_pair`, for sessions whose ids name another shard; `None`: this one.
    fn add_pair_of(
        &mut self,
        sessions: &mut Sessions,
        pair: UdpPair,
        ids: Option<ShardId>,
    ) -> Result<u16, RingError> {
        let place = self.add_waiting_pair(sessions, pair, ids)?;
        self.pairs.arm(&mut self.ring, place);
        Ok(place)
    }

    /// Opens a pair to multicast groups: both sockets or neither.
    fn add_group_pair(&mut self, sessions: &mut Sessions, pair: UdpPair) -> Result<u16, RingError> {
        let Some(place) = sessions.cx.sockets.next_place() else {
            return Err(RingError::unavailable("no room for another pair of sockets"));
        };
        let rtp_port = pair.rtp_port;
        self.pairs.open(&mut self.ring, &mut self.entries, place, pair, Family::V4)?;
        sessions.cx.sockets.add_pair_for(rtp_port, true);
        Ok(place)
    }

    /// As `add_pair_of`, of a pair at which nothing is received yet.
    pub(super) fn add_waiting_pair(
        &mut self,
        sessions: &mut Sessions,
        pair: UdpPair,
        ids: Option<ShardId>,
    ) -> Result<u16, RingError> {
        let Some(place) = sessions.cx.sockets.next_place() else {
            return Err(RingError::unavailable("no room for another pair of sockets"));
        };
        let (rtp_port, family) = (pair.rtp_port, self.family_of(&pair));
        self.pairs.open_foreign(&mut self.ring, &mut self.entries, place, pair, family)?;
        sessions.cx.sockets.add_pair_of(rtp_port, ids);
        Ok(place)
    }

    /// Family of a pair, which a process before this one may have bound to another address than
    /// this one's pairs are.
    fn family_of(&self, pair: &UdpPair) -> Family {
        let family = self.ring.kernel().family_of(&pair.rtp);
        family.unwrap_or_else(|| Family::of(self.pair_host.ip()))
    }

    /// Opens duplicates of another shard's sockets, by which streams of its sessions are sent.
    pub(super) fn add_foreign_pair(
        &mut self,
        sessions: &mut Sessions,
        sockets: &UdpPair,
        home: (ShardId, u16),
    ) -> Result<(), RingError> {
        let duplicate =
            |fd: &OwnedFd| fd.try_clone().map_err(|source| RingError::Register { source });
        let (rtp, rtcp) = (duplicate(&sockets.rtp)?, duplicate(&sockets.rtcp)?);
        let Some(place) = sessions.cx.sockets.next_place() else {
            return Err(RingError::unavailable("no room for another pair of sockets"));
        };
        let pair = UdpPair { rtp, rtcp, rtp_port: sockets.rtp_port };
        let family = self.family_of(&pair);
        self.pairs.open_foreign(&mut self.ring, &mut self.entries, place, pair, family)?;
        sessions.cx.sockets.add_foreign_pair(sockets.rtp_port, home);
        Ok(())
    }

    /// Opens one more pair to clients on any free ports, for sessions with such ids. False: there
    /// is none, which is logged.
    pub(super) fn add_free_pair(&mut self, sessions: &mut Sessions, ids: ShardId) -> bool {
        let ids = Some(ids).filter(|ids| *ids != self.id);
        let opened = self
            .ring
            .kernel()
            .udp_pair(self.pair_host)
            .map_err(|error| error.to_string())
            .and_then(|pair| {
                self.add_pair_of(sessions, pair, ids).map_err(|error| error.to_string())
            });
        if let Err(error) = &opened {
            tracing::warn!(code = "HE-W601", %error, "no further pair of RTP sockets");
        }
        opened.is_ok()
    }

    /// Closes a pair that no client uses any more.
    pub(super) fn close_pair(&mut self, sessions: &mut Sessions, pair: u16) {
        if sessions.cx.sockets.remove_unused_pair(pair) {
            self.pairs.close(&mut self.ring, &mut self.entries, pair);
        }
    }

    /// Opens all sockets of an input or none; RTCP sockets may be missing.
    pub(super) fn open_input(
        &mut self,
        sessions: &mut Sessions,
        number: u32,
        sockets: &[InputSocket],
    ) {
        let Self { inputs, ring, entries, .. } = self;
        let opened = sockets.iter().try_for_each(|socket| {
            match inputs.open(ring, entries, number, socket) {
                Err(error) if socket.is_rtcp => {
                    let shard = self.id.0;
                    tracing::info!(code = "HE-I603", shard, %error, "a source goes without RTCP");
                    Ok(())
                }
                opened => opened,
            }
        });
        if opened.is_err() {
            inputs.close(ring, entries, number);
        }
        let opened = opened.as_ref().map_err(|error| error as &dyn fmt::Display).copied();
        let Sessions { cx, live, .. } = sessions;
        live.sources.handle_input_opened(cx, &mut live.hub, number, opened);
    }

    pub(super) fn act_for_group(&mut self, sessions: &mut Sessions, action: GroupAction) {
        match action {
            GroupAction::OpenPair(settings) => self.open_group_pair(sessions, &settings),
            GroupAction::Hear { path, group, tracks } => {
                let Some(settings) = sessions.live.hub.multicast else { return };
                let Self { groups, ring, entries, .. } = self;
                let opened = groups.open(ring, entries, (&path, group, tracks), &settings);
                if let Err(error) = opened {
                    let what = "what a group's players report is not heard";
                    self.warnings.once("HE-W607", what, &error);
                }
            }
            GroupAction::Leave(path) => {
                self.groups.close(&mut self.ring, &mut self.entries, &path);
            }
        }
    }

    fn open_group_pair(&mut self, sessions: &mut Sessions, settings: &MulticastSettings) {
        if sessions.cx.sockets.group_pair().is_some() {
            return;
        }
        let opened = group_pair(settings).map_err(|source| RingError::Register { source });
        let opened = opened.and_then(|pair| self.add_group_pair(sessions, pair));
        let Sessions { cx, live, .. } = sessions;
        match opened {
            Ok(_) => live.readers.start_groups(cx, &mut live.hub),
            Err(error) => self.warnings.once("HE-W608", "nothing can be sent to groups", &error),
        }
    }
}
