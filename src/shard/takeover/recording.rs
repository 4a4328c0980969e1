//! The record of a shard's sessions: what they are, by reference, with their sockets.
//!
//! ```text
//!  units --check_unit--> record_unit --> ShardRecord, descriptors
//!             `-- cannot go: as many as were told before, or the record fails
//! ```
//! Invariants: `check_unit` is the one judge: a unit that passes is recorded, or nothing is;
//! nothing of the sessions changes. Bound: the sessions of the shard.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Given;
use crate::base::time::Mono;
use crate::consumers::parcel::Unit;
use crate::consumers::takeover::LeftBehind;
use crate::library::title::Title;
use crate::poll::poll_table::EntryKey;
use crate::session::directory::SessionRef;
use crate::session::handover::MoveRefusal;
use crate::shard::ring::FileSlot;
use crate::shard::ring::kernel::Kernel;
use crate::shard::sockets::UdpPair;
use crate::shard::state::Shard;
use crate::takeover::exact::Bytes;
use crate::takeover::v1::{
    ConnectionRecord, DatagramRecord, Fd, PairRecord, ShardRecord, TitleRecord, UnitRecord,
};

/// A record that is being made.
pub(super) struct Making {
    pub(super) record: ShardRecord,
    files: Vec<Arc<OwnedFd>>,
    /// Places of titles in the record.
    titles: HashMap<*const Title, u32>,
    open: Vec<Arc<Title>>,
    /// Places in the record of pairs, by their places here.
    pairs: HashMap<u16, u32>,
    /// Places in the record of inputs.
    pub(super) inputs: HashMap<EntryKey, usize>,
}

impl Making {
    pub(super) fn add_file(&mut self, file: Arc<OwnedFd>) -> Fd {
        self.files.push(file);
        Fd(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX))
    }
}

impl<K: Kernel> Shard<K> {
    pub(super) fn titles_in_play(&self) -> Vec<Arc<Title>> {
        let mut titles: Vec<Arc<Title>> = Vec::new();
        let mut seen = HashMap::new();
        for title in self.sessions.vod.players.titles() {
            if seen.insert(Arc::as_ptr(title), ()).is_none() {
                titles.push(Arc::clone(title));
            }
        }
        titles
    }

    /// Pairs of sockets that clients use, each with the number of the shard in the ids of its
    /// sessions.
    pub(super) fn open_pairs(&self) -> Result<Vec<(u8, UdpPair)>, String> {
        let sockets = &self.sessions.cx.sockets;
        let mut pairs = Vec::new();
        for place in sockets.places() {
            let (Some(pair), Some((rtp_port, _)), Some(ids)) =
                (self.net.pairs.get(place), sockets.ports(place), sockets.ids_of(place, self.id))
            else {
                continue;
            };
            let (rtp, rtcp) = (self.duplicate(pair.rtp)?, self.duplicate(pair.rtcp)?);
            pairs.push((ids.0, UdpPair { rtp, rtcp, rtp_port }));
        }
        Ok(pairs)
    }

    pub(super) fn duplicate(&self, slot: FileSlot) -> Result<OwnedFd, String> {
        let fd = self.net.ring.fd(slot).try_clone_to_owned();
        fd.map_err(|error| no_descriptor(&error))
    }

    /// Sessions that cannot be handed over.
    pub(super) fn left_behind(&mut self) -> LeftBehind {
        let mut left = LeftBehind::default();
        for unit in self.units() {
            let link = unit.connection.and_then(|key| self.net.entries.link(key));
            match self.check_unit(&unit) {
                Ok(()) => {}
                // It is waited for when packets end.
                Err(MoveRefusal::Busy) if link.is_some_and(|link| link.is_heard) => {}
                Err(why) => self.sessions.leave(&unit, why, &mut left),
            }
        }
        left
    }

    pub(super) fn units(&mut self) -> Vec<Unit> {
        let connections = self.net.entries.connections();
        self.sessions.units(&connections)
    }

    /// Whether a unit can be handed over.
    ///
    /// # Errors
    /// Why not. `Busy`: not at the moment.
    pub(super) fn check_unit(&mut self, unit: &Unit) -> Result<(), MoveRefusal> {
        self.check_titles(unit)?;
        if let Some(key) = unit.connection {
            let connection = self.net.entries.connection_mut(key).ok_or(MoveRefusal::Busy)?;
            connection.check_takeover()?;
            let can_wait = connection.is_quiet() || connection.request_at_hand().is_some();
            self.sessions.check_takeover(unit)?;
            let can_wait = can_wait || self.sessions.held_request(key).is_some();
            return if can_wait { Ok(()) } else { Err(MoveRefusal::Busy) };
        }
        self.sessions.check_takeover(unit)
    }

    /// Whether the other process has the titles of a unit.
    fn check_titles(&self, unit: &Unit) -> Result<(), MoveRefusal> {
        let without = &self.takeover.without;
        if without.is_empty() {
            return Ok(());
        }
        let lacks = |title: &Arc<Title>| without.iter().any(|one| Arc::ptr_eq(one, title));
        let is_lacking = unit.sessions.iter().any(|(_, session)| match session {
            SessionRef::Title(key) => self.sessions.vod.players.titles_of(*key).any(lacks),
            SessionRef::Reader(_) | SessionRef::Publisher(_) => false,
        });
        if is_lacking { Err(MoveRefusal::Title) } else { Ok(()) }
    }

    /// The record of all units that can go, and these units. `told` are the sessions of which it
    /// was said that they cannot.
    pub(super) fn record_all(
        &mut self,
        since: Mono,
        told: &LeftBehind,
    ) -> Result<(Given, Vec<Unit>), String> {
        let record = ShardRecord { shard: self.id.0, frozen_ns: since.0, ..ShardRecord::default() };
        let mut making = Making {
            record,
            files: Vec::new(),
            titles: HashMap::new(),
            open: Vec::new(),
            pairs: HashMap::new(),
            inputs: HashMap::new(),
        };
        self.record_live(&mut making)?;
        let (mut given, mut left) = (Vec::new(), LeftBehind::default());
        for unit in self.units() {
            match self.check_unit(&unit) {
                Ok(()) => {
                    self.record_unit(&unit, &mut making)?;
                    given.push(unit);
                }
                Err(MoveRefusal::Busy) => return Err("a request was at hand; try again".into()),
                Err(why) => self.sessions.leave(&unit, why, &mut left),
            }
        }
        if let Some(more) = left.more_than(told) {
            return Err(format!("sessions began that cannot be handed over ({more}); try again"));
        }
        for title in std::mem::take(&mut making.open) {
            let file = title.file.try_clone().map_err(|error| no_descriptor(&error))?;
            let file = making.add_file(Arc::new(file.into()));
            let name = (!title.is_clip()).then(|| title.name.clone());
            making.record.titles.push(TitleRecord { name, file, wire: title.wire.random() });
        }
        self.record_datagrams(&mut making);
        let Making { record, files, .. } = making;
        Ok((Given { record, files }, given))
    }

    /// Records a pair, once.
    fn record_pair(&self, place: u16, making: &mut Making) {
        let sockets = &self.sessions.cx.sockets;
        if making.pairs.contains_key(&place) {
            return;
        }
        let (Some(pair), Some((home, _)), Some((rtp_port, _))) =
            (self.net.pairs.get(place), sockets.home_of(place, self.id), sockets.ports(place))
        else {
            return;
        };
        let shared = [pair.rtp, pair.rtcp].map(|slot| self.net.ring.share_fd(slot));
        let [rtp, rtcp] = shared.map(|socket| making.add_file(socket));
        let at = u32::try_from(making.record.pairs.len()).unwrap_or(u32::MAX);
        making.record.pairs.push(PairRecord { shard: home.0, rtp_port, rtp, rtcp });
        making.pairs.insert(place, at);
    }

    /// Records a unit that can go, whole.
    ///
    /// # Errors
    /// A sentence: there are no descriptors, or it cannot go after all.
    fn record_unit(&mut self, unit: &Unit, making: &mut Making) -> Result<(), String> {
        for place in self.sessions.pairs_of(unit) {
            self.record_pair(place, making);
        }
        let Making { titles, open, pairs, .. } = making;
        let mut title_of = |title: &Arc<Title>| {
            *titles.entry(Arc::as_ptr(title)).or_insert_with(|| {
                open.push(Arc::clone(title));
                u32::try_from(open.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let pair_of = |place: u16| pairs.get(&place).copied();
        let sessions = self.sessions.record(unit, &mut title_of, &pair_of).ok_or(NOT_RECORDED)?;
        let connection = match unit.connection {
            None => None,
            Some(key) => Some(self.record_connection(key, making)?),
        };
        making.record.units.push(UnitRecord { connection, sessions });
        Ok(())
    }

    fn record_connection(
        &mut self,
        key: EntryKey,
        making: &mut Making,
    ) -> Result<ConnectionRecord, String> {
        let link = self.net.entries.link(key).ok_or(NOT_RECORDED)?;
        let socket = making.add_file(self.net.ring.share_fd(link.slot));
        let connection = self.net.entries.connection_mut(key).ok_or(NOT_RECORDED)?;
        let at_hand = connection.request_at_hand().or_else(|| self.sessions.held_request(key));
        Ok(connection.record(socket, at_hand))
    }

    /// Keeps datagrams that came and were not looked at, and records them.
    fn record_datagrams(&mut self, making: &mut Making) {
        // All are kept before one is recorded: whatever fails, this process has them.
        for (token, from, bytes) in self.arrivals.take_datagrams() {
            if let Some(key) = self.net.entries.table.key_at(token) {
                self.takeover.held.datagrams.push((key, from, bytes));
            }
        }
        for (key, from, bytes) in &self.takeover.held.datagrams {
            let (from, bytes) = (*from, Bytes(bytes.clone()));
            if let Some(place) = making.inputs.get(key) {
                let input = making.record.inputs.get_mut(*place);
                input.into_iter().for_each(|input| input.datagrams.push((from, bytes.clone())));
            } else if let Some((place, is_rtcp)) = self.net.pairs.place_of(*key) {
                self.record_pair(place, making);
                if let Some(pair) = making.pairs.get(&place).copied() {
                    making.record.datagrams.push(DatagramRecord { pair, is_rtcp, from, bytes });
                }
            }
        }
    }
}

fn no_descriptor(error: &std::io::Error) -> String {
    format!("sockets cannot be handed over: {error}")
}

const NOT_RECORDED: &str = "a session cannot be recorded; try again";
