//! The sessions of a shard that another process takes over.
//!
//! ```text
//!  old process: units --check--> record ..  left: those that cannot go
//!  new process: PackedTitle::of --> unpack, as a session that has come from another shard
//! ```
//! Invariant: a unit goes as a whole, or stays as a whole. Bound: the sessions of the shard.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::SessionId;
use crate::consumers::parcel::Unit;
use crate::consumers::sessions::Sessions;
use crate::library::title::Title;
use crate::live::core::takeover::TakenPath;
use crate::live::front::Live;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::request::Request;
use crate::session::directory::SessionRef;
use crate::session::handover::MoveRefusal;
use crate::takeover::v1::SessionRecord;
use crate::vod::handover::PackedTitle;

/// Live paths that another process has told, by name.
pub type TakenPaths = HashMap<Arc<str>, TakenPath>;

/// Sessions that cannot be handed over, by what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftBehind {
    counts: BTreeMap<&'static str, usize>,
}

impl LeftBehind {
    /// Whether all can go.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// Number of sessions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.counts.values().sum()
    }

    /// What there is more of than in another list; `None`: nothing.
    #[must_use]
    pub fn more_than(&self, other: &Self) -> Option<Self> {
        let more = self.counts.iter().filter_map(|(what, count)| {
            let before = other.counts.get(what).copied().unwrap_or(0);
            (*count > before).then(|| (*what, count - before))
        });
        let counts: BTreeMap<_, _> = more.collect();
        (!counts.is_empty()).then_some(Self { counts })
    }

    /// Adds sessions that no shard has.
    pub fn add_others(&mut self, what: &'static str, count: usize) {
        if count > 0 {
            *self.counts.entry(what).or_default() += count;
        }
    }

    fn note(&mut self, why: MoveRefusal) {
        let what = match why {
            MoveRefusal::Tls => "over TLS",
            MoveRefusal::Tunnel => "in a tunnel over HTTP",
            MoveRefusal::Srtp => "with SRTP",
            MoveRefusal::Publisher => "of a publisher",
            MoveRefusal::Lineup => "of a line-up",
            MoveRefusal::Multicast => "of a multicast group",
            MoveRefusal::Title => "of a title that does not open in the new program",
            MoveRefusal::Busy => "with a request at hand",
            _ => "with ports of several shards",
        };
        *self.counts.entry(what).or_default() += 1;
    }
}

impl fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (what, count)) in self.counts.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {what}")?;
        }
        Ok(())
    }
}

impl Sessions {
    /// All connections with their sessions, and sessions without one.
    #[must_use]
    pub fn units(&self, connections: &[EntryKey]) -> Vec<Unit> {
        let mut seen = HashSet::new();
        let mut units: Vec<Unit> = Vec::with_capacity(connections.len());
        for entry in connections {
            let unit = self.unit_on(*entry);
            seen.extend(unit.sessions.iter().map(|(id, _)| *id));
            units.push(unit);
        }
        let others = self.cx.directory.behind(None).filter(|(id, _)| !seen.contains(id));
        units.extend(others.map(|one| Unit { connection: None, sessions: vec![one] }));
        units
    }

    /// A connection with its sessions.
    #[must_use]
    pub fn unit_on(&self, connection: EntryKey) -> Unit {
        let sessions = self.cx.directory.of_connection(connection).iter();
        let sessions = sessions.filter_map(|session| Some((self.any_id_of(*session)?, *session)));
        Unit { connection: Some(connection), sessions: sessions.collect() }
    }

    fn any_id_of(&self, session: SessionRef) -> Option<SessionId> {
        match session {
            SessionRef::Publisher(number) => self.live.sources.publishers.id_of(number),
            SessionRef::Title(_) | SessionRef::Reader(_) => self.id_of(session),
        }
    }

    /// Whether a unit can be handed over, as far as its sessions are concerned.
    ///
    /// # Errors
    /// Why not.
    pub fn check_takeover(&self, unit: &Unit) -> Result<(), MoveRefusal> {
        let Some((first, _)) = unit.sessions.first() else { return Ok(()) };
        let home = self.cx.home_of(*first);
        for (id, session) in &unit.sessions {
            if self.cx.home_of(*id) != home {
                return Err(MoveRefusal::SeveralHomes);
            }
            if self.lineups.has(*id) {
                return Err(MoveRefusal::Lineup);
            }
            match *session {
                SessionRef::Title(key) => self.vod.players.check_move(&self.cx, key)?,
                SessionRef::Reader(index) => self.live.readers.check_move(&self.cx, index)?,
                SessionRef::Publisher(number) => {
                    self.live.sources.publishers.check_takeover(&self.cx, number)?;
                }
            }
        }
        self.check_ids(unit)?;
        let is_busy = unit.sessions.iter().any(|(_, session)| !self.is_quiet(*session));
        if is_busy { Err(MoveRefusal::Busy) } else { Ok(()) }
    }

    /// Whether the sessions of a unit, and their pairs, stay together for any number of shards.
    fn check_ids(&self, unit: &Unit) -> Result<(), MoveRefusal> {
        let (own, sockets) = (self.cx.shard, &self.cx.sockets);
        let ids = unit.sessions.first().map(|(id, _)| id.shard());
        let are_same = unit.sessions.iter().all(|(id, _)| Some(id.shard()) == ids);
        let is_theirs = |pair: u16| match sockets.home_of(pair, own) {
            Some((home, _)) if home == own => sockets.ids_of(pair, own) == ids,
            _ => true,
        };
        let is_one = are_same && self.pairs_of(unit).into_iter().all(is_theirs);
        if is_one { Ok(()) } else { Err(MoveRefusal::SeveralHomes) }
    }

    /// The request of a connection that is held until its path is there.
    #[must_use]
    pub fn held_request(&self, connection: EntryKey) -> Option<&Request> {
        self.live.readers.held.of(connection).map(|command| &command.request)
    }

    /// Notes a unit that cannot go.
    pub fn leave(&self, unit: &Unit, why: MoveRefusal, left: &mut LeftBehind) {
        let on = unit.connection.map_or(0, |entry| self.cx.directory.of_connection(entry).len());
        for _ in 0..on.max(unit.sessions.len()) {
            left.note(why);
        }
    }

    /// Whether no command of a session is under way.
    #[must_use]
    pub fn is_quiet(&self, session: SessionRef) -> bool {
        match session {
            SessionRef::Title(key) => self.vod.players.is_quiet(key),
            SessionRef::Reader(index) => self.live.readers.is_quiet(index),
            SessionRef::Publisher(_) => true,
        }
    }

    /// Answers a PLAY of a live path that waits for its first packets without what is not known:
    /// readers begin with the next key frame in either process.
    pub fn answer_early(&mut self, session: SessionRef) {
        if let SessionRef::Reader(index) = session {
            let Live { hub, readers, .. } = &mut self.live;
            readers.answer_play(&mut self.cx, hub, index, Duration::ZERO);
        }
    }

    /// Records of the sessions of a unit; `None`: `check_takeover` has refused it.
    pub fn record(
        &self,
        unit: &Unit,
        title_of: &mut dyn FnMut(&Arc<Title>) -> u32,
        pair_of: &dyn Fn(u16) -> Option<u32>,
    ) -> Option<Vec<SessionRecord>> {
        let records = unit.sessions.iter().map(|(_, session)| match *session {
            SessionRef::Title(key) => {
                let record = self.vod.players.record(&self.cx, key, title_of, pair_of)?;
                Some(SessionRecord::Title(Box::new(record)))
            }
            SessionRef::Reader(index) => {
                let record = self.live.readers.record(&self.live.hub, index, pair_of)?;
                Some(SessionRecord::Reader(Box::new(record)))
            }
            SessionRef::Publisher(number) => {
                let record = self.live.sources.publishers.record(number, pair_of)?;
                Some(SessionRecord::Publisher(Box::new(record)))
            }
        });
        records.collect()
    }

    /// Takes in a session that another process has recorded, whose connection has this entry.
    ///
    /// # Errors
    /// What does not fit.
    pub fn take_in(
        &mut self,
        record: SessionRecord,
        connection: Option<EntryKey>,
        (titles, paths): (&[Arc<Title>], &TakenPaths),
        pair_of: &dyn Fn(u32) -> Option<u16>,
    ) -> Result<(), &'static str> {
        let Self { cx, vod, live, .. } = self;
        let path_of = |name: &str| paths.get(name).ok_or("its path is missing");
        match record {
            SessionRecord::Title(record) => {
                let packed = PackedTitle::of(cx, *record, titles, pair_of);
                let packed = packed.ok_or("its title or its sockets are others")?;
                let key = vod.unpack(cx, packed, connection);
                vod.want_windows(cx, key);
                Ok(())
            }
            SessionRecord::Reader(record) => {
                let reader = (path_of(&record.path)?, *record);
                live.readers.take_in(cx, &mut live.hub, reader, connection, pair_of)
            }
            SessionRecord::Publisher(record) => {
                let publisher = (path_of(&record.path)?, *record);
                let Live { hub, sources, .. } = live;
                sources.publishers.take_in(cx, hub, publisher, connection, pair_of)
            }
        }
    }

    /// Forgets the sessions of a unit that another process has: nobody is told.
    pub fn abandon(&mut self, unit: &Unit) {
        let Self { cx, vod, live, .. } = self;
        for (_, session) in &unit.sessions {
            match *session {
                SessionRef::Title(key) => drop(vod.players.pack(cx, key)),
                SessionRef::Reader(index) => live.readers.abandon(cx, &mut live.hub, index),
                SessionRef::Publisher(number) => {
                    live.sources.publishers.abandon(cx, &mut live.hub, number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session that began behind the question was dropped without a word.
    #[test]
    fn what_cannot_go_is_compared_with_what_was_told() {
        let mut told = LeftBehind::default();
        let mut left = LeftBehind::default();
        assert_eq!(left.more_than(&told), None);
        left.note(MoveRefusal::Tls);
        let more = left.more_than(&told).unwrap();
        assert_eq!((more.count(), more.to_string().as_str()), (1, "1 over TLS"));
        told.note(MoveRefusal::Tls);
        assert_eq!(left.more_than(&told), None);
        told.note(MoveRefusal::Tls);
        assert_eq!(left.more_than(&told), None, "some have ended meanwhile");
        left.note(MoveRefusal::Srtp);
        assert_eq!(left.more_than(&told).unwrap().to_string(), "1 with SRTP");
    }
}
