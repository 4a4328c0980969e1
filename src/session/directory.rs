//! The sessions of a shard by id, and by the RTSP connection that they were made on.
//!
//! ```text
//!  Session header --id--> SessionRef
//!  connection --> SessionRefs in the order of their SETUPs, and the interleaved channels they use
//! ```
//! Invariants: every session of a client is in `by_id` from its first command to its end, and in
//! `by_connection` while its connection lives. A channel of a connection has one owner.
//! Other rooms that keep something by a session's id mark it, and are told when it leaves.
//! Bounds: the sessions of the shard; 256 channels of a connection.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use crate::base::ids::{SessionId, ShardId};
use crate::poll::poll_table::EntryKey;

/// Key of a title's player in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(pub u32);

/// A stream of a title's player, in one epoch of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRef {
    /// Session.
    pub session: SessionKey,
    /// Stream of the session.
    pub stream_index: u8,
    /// Epoch of the session; the reference is stale in a later epoch.
    pub epoch_count: u32,
}

/// A session of a client, by its key in the table of its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionRef {
    /// A player of a title.
    Title(SessionKey),
    /// A reader of a live path.
    Reader(u32),
    /// A source of a live path.
    Publisher(u32),
}

/// The directory of one shard: see the module.
#[derive(Debug, Default)]
pub struct Directory {
    /// Sorted by id, because listings go page by page.
    by_id: BTreeMap<SessionId, SessionRef>,
    by_connection: HashMap<EntryKey, OnConnection>,
    /// Ids whose end is to be told.
    marked: HashSet<SessionId>,
    /// Those of them that have left.
    left: Vec<SessionId>,
    /// Sessions of other homes.
    guests: HashSet<SessionId>,
    /// Those of them that have ended.
    guests_left: Vec<SessionId>,
}

#[derive(Debug, Default)]
struct OnConnection {
    sessions: Vec<SessionRef>,
    /// The shard in the id of the first one.
    ids: Option<ShardId>,
    /// Interleaved channels in use.
    channels: Vec<(u8, SessionRef)>,
}

impl Directory {
    /// Number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are no sessions of clients.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A session by its id.
    #[must_use]
    pub fn find(&self, id: SessionId) -> Option<SessionRef> {
        self.by_id.get(&id).copied()
    }

    /// Sessions after an id, in the order of their ids; without an id, from the first one.
    pub(crate) fn behind(
        &self,
        after: Option<SessionId>,
    ) -> impl Iterator<Item = (SessionId, SessionRef)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((from, Bound::Unbounded)).map(|(id, session)| (*id, *session))
    }

    /// Sessions that were made on a connection, in the order of their SETUP.
    #[must_use]
    pub fn of_connection(&self, entry: EntryKey) -> &[SessionRef] {
        self.by_connection.get(&entry).map_or(&[], |on| on.sessions.as_slice())
    }

    /// The shard in the id of the first session that was made on a connection.
    #[must_use]
    pub(crate) fn ids_on(&self, entry: EntryKey) -> Option<ShardId> {
        self.by_connection.get(&entry)?.ids
    }

    /// Adds a session, with its connection if the connection is on this shard.
    pub(crate) fn enter(
        &mut self,
        id: SessionId,
        connection: Option<EntryKey>,
        session: SessionRef,
    ) {
        self.by_id.insert(id, session);
        if let Some(entry) = connection {
            let on = self.by_connection.entry(entry).or_default();
            on.sessions.push(session);
            on.ids.get_or_insert_with(|| id.shard());
        }
    }

    /// Removes a session from both tables, and frees its channels.
    pub(crate) fn leave(
        &mut self,
        id: SessionId,
        connection: Option<EntryKey>,
        session: SessionRef,
    ) {
        self.note_left(id);
        self.depart(id, connection, session);
    }

    /// Removes a session that moves to another shard from both tables, with its channels.
    pub(crate) fn depart(
        &mut self,
        id: SessionId,
        connection: Option<EntryKey>,
        session: SessionRef,
    ) {
        self.by_id.remove(&id);
        self.guests.remove(&id);
        let Some(entry) = connection else { return };
        let Some(on) = self.by_connection.get_mut(&entry) else { return };
        on.sessions.retain(|other| *other != session);
        on.channels.retain(|(_, owner)| *owner != session);
        if on.sessions.is_empty() {
            self.by_connection.remove(&entry);
        }
    }

    /// A session has another role: it keeps its id, its connection and its channels.
    pub(crate) fn rename(
        &mut self,
        id: SessionId,
        connection: Option<EntryKey>,
        from: SessionRef,
        to: SessionRef,
    ) {
        if let Some(session) = self.by_id.get_mut(&id).filter(|session| **session == from) {
            *session = to;
        }
        let Some(on) = connection.and_then(|entry| self.by_connection.get_mut(&entry)) else {
            return;
        };
        let channels = on.channels.iter_mut().map(|(_, owner)| owner);
        for owner in on.sessions.iter_mut().chain(channels).filter(|owner| **owner == from) {
            *owner = to;
        }
    }

    /// Forgets the id of a session that ends later in the turn: no command finds the session any
    /// more.
    pub(crate) fn forget_id(&mut self, id: SessionId) -> bool {
        self.note_left(id);
        self.by_id.remove(&id).is_some()
    }

    /// `take_left` is to tell when this id leaves.
    pub(crate) fn mark(&mut self, id: SessionId) {
        self.marked.insert(id);
    }

    /// Marked ids that have left since the last call. A session that has changed its role has left
    /// as well, and is found all the same.
    pub(crate) fn take_left(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.left)
    }

    /// The session has another home: `take_guests_left` is to tell when it ends.
    pub(crate) fn note_guest(&mut self, id: SessionId) {
        self.guests.insert(id);
    }

    /// Whether `take_guests_left` has something to tell.
    #[must_use]
    pub(crate) fn has_guests_left(&self) -> bool {
        !self.guests_left.is_empty()
    }

    /// Sessions of other homes that have ended here since the last call.
    pub(crate) fn take_guests_left(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.guests_left)
    }

    fn note_left(&mut self, id: SessionId) {
        if self.guests.remove(&id) {
            self.guests_left.push(id);
        }
        if self.marked.remove(&id) {
            self.left.push(id);
        }
    }

    /// Forgets a closed connection. Returns the sessions that were made on it.
    pub(crate) fn close_connection(&mut self, entry: EntryKey) -> Vec<SessionRef> {
        self.by_connection.remove(&entry).map_or_else(Vec::new, |on| on.sessions)
    }

    /// The interleaved channels that a client asked for, or the next free ones: clients accept the
    /// server's choice (rule C18), and some clients name no channels (rule C19). `None` when the
    /// connection has no two channels left.
    #[must_use]
    pub(crate) fn free_channels(
        &self,
        entry: EntryKey,
        asked: Option<(u8, u8)>,
    ) -> Option<(u8, u8)> {
        let mut is_used = [false; 1 << u8::BITS];
        let used = self.by_connection.get(&entry).map_or(&[][..], |on| &on.channels);
        for (channel, _) in used {
            is_used[usize::from(*channel)] = true;
        }
        let is_free =
            |(a, b): &(u8, u8)| a != b && !is_used[usize::from(*a)] && !is_used[usize::from(*b)];
        let mut pairs = (0..=u8::MAX / 2).map(|n| (n * 2, n * 2 + 1));
        asked.filter(is_free).or_else(|| pairs.find(is_free))
    }

    /// Gives interleaved channels of a connection to a session, until it leaves or returns them.
    pub(crate) fn take_channels(
        &mut self,
        entry: EntryKey,
        (channel, rtcp_channel): (u8, u8),
        session: SessionRef,
    ) {
        if let Some(on) = self.by_connection.get_mut(&entry) {
            on.channels.extend([(channel, session), (rtcp_channel, session)]);
        }
    }

    /// Frees the channels of a stream that has ended while its session continues.
    pub(crate) fn give_channels_back(&mut self, entry: EntryKey, (a, b): (u8, u8)) {
        if let Some(on) = self.by_connection.get_mut(&entry) {
            on.channels.retain(|(channel, _)| *channel != a && *channel != b);
        }
    }

    /// The session that uses an interleaved channel of a connection.
    #[must_use]
    pub(crate) fn of_channel(&self, entry: EntryKey, channel: u8) -> Option<SessionRef> {
        let channels = &self.by_connection.get(&entry)?.channels;
        channels.iter().find(|(used, _)| *used == channel).map(|(_, session)| *session)
    }

    /// All sessions, and those of each connection, for tests of leftovers.
    #[cfg(test)]
    pub(crate) fn entries(
        &self,
    ) -> (impl Iterator<Item = SessionRef>, impl Iterator<Item = (EntryKey, &[SessionRef])>) {
        let on = self.by_connection.iter().map(|(entry, on)| (*entry, on.sessions.as_slice()));
        (self.by_id.values().copied(), on)
    }
}

/// Sessions made on one connection: as many as a proxy puts on one, and few enough that the
/// connection's own work, which visits each of them, stays small.
pub(crate) const SESSIONS_PER_CONNECTION_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: EntryKey = EntryKey { index: 1, generation: 0 };

    fn id(number: u64) -> SessionId {
        SessionId::new(ShardId(0), number << 8)
    }

    #[test]
    fn requested_channels_or_the_next_free_ones_are_in_use_until_their_session_leaves() {
        let mut directory = Directory::default();
        let (first, second) = (SessionRef::Reader(1), SessionRef::Publisher(1));
        for (number, session) in [(1, first), (2, second)] {
            directory.enter(id(number), Some(ENTRY), session);
        }
        assert_eq!(directory.free_channels(ENTRY, Some((7, 9))), Some((7, 9)));
        directory.take_channels(ENTRY, (0, 1), first);
        directory.take_channels(ENTRY, (4, 2), second);
        assert_eq!(directory.free_channels(ENTRY, Some((1, 8))), Some((6, 7)));
        assert_eq!(directory.free_channels(ENTRY, Some((8, 8))), Some((6, 7)));
        assert_eq!(directory.of_channel(ENTRY, 2), Some(second));
        directory.give_channels_back(ENTRY, (4, 2));
        assert_eq!(directory.free_channels(ENTRY, None), Some((2, 3)));
        directory.leave(id(1), Some(ENTRY), first);
        assert_eq!(directory.of_channel(ENTRY, 0), None);
        assert_eq!(directory.free_channels(ENTRY, None), Some((0, 1)));
    }

    #[test]
    fn connection_has_128_pairs_of_channels() {
        let mut directory = Directory::default();
        directory.enter(id(1), Some(ENTRY), SessionRef::Reader(1));
        for _ in 0..128 {
            let channels = directory.free_channels(ENTRY, None).unwrap();
            directory.take_channels(ENTRY, channels, SessionRef::Reader(1));
        }
        assert_eq!(directory.free_channels(ENTRY, None), None);
    }

    #[test]
    fn session_is_found_until_it_leaves_and_a_closed_connection_names_its_sessions_once() {
        let mut directory = Directory::default();
        let title = SessionRef::Title(SessionKey(3));
        directory.enter(id(1), Some(ENTRY), title);
        directory.enter(id(2), None, SessionRef::Reader(3));
        assert_eq!((directory.find(id(1)), directory.len()), (Some(title), 2));
        assert_eq!(directory.of_connection(ENTRY), [title]);
        assert_eq!(directory.close_connection(ENTRY), [title]);
        assert!(directory.close_connection(ENTRY).is_empty());
        assert_eq!(directory.find(id(1)), Some(title), "it outlives its connection");
        directory.leave(id(1), None, title);
        assert!(directory.forget_id(id(2)) && !directory.forget_id(id(2)));
        assert!(directory.is_empty());
    }
}
