//! What moves from one shard to another: a connection with its sessions, or a session without one.
//!
//! ```text
//!  Sessions::unit_of --> Unit --check, is_at_rest--> pack --> Packed --> unpack on the other shard
//! ```
//! State and descriptors are apart: [`Packed`] is what is known of the sessions, and names sockets
//! by their place on the shard that is their home; the shard sends descriptors beside it.
//! Invariant: every session of a unit is packed, or none. Bound: the sessions of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::ids::{SessionId, ShardId};
use crate::consumers::rtsp_connection::RtspConnection;
use crate::consumers::sessions::Sessions;
use crate::live::core::handover::Fit;
use crate::live::readers::Readers;
use crate::live::readers::handover::PackedReader;
use crate::live::readers::reader::ReaderState;
use crate::poll::poll_table::EntryKey;
use crate::session::directory::SessionRef;
use crate::session::handover::MoveRefusal;
use crate::session::transport::Transport;
use crate::vod::handover::PackedTitle;
use crate::vod::playback::State;

/// What moves together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The connection; `None` for a session whose connection is closed or elsewhere.
    pub connection: Option<EntryKey>,
    /// Its sessions, in the order of their SETUPs.
    pub sessions: Vec<(SessionId, SessionRef)>,
}

/// A unit on its way, without descriptors.
#[derive(Debug)]
pub struct Packed {
    /// The connection.
    pub connection: Option<Box<RtspConnection>>,
    /// Its sessions, in the order of their SETUPs.
    pub sessions: Vec<PackedSession>,
}

/// A session on its way.
#[derive(Debug)]
pub enum PackedSession {
    /// A player of a title.
    Title(Box<PackedTitle>),
    /// A reader of a live path.
    Reader(Box<PackedReader>),
}

impl Unit {
    /// Ids of the sessions.
    #[must_use]
    pub fn ids(&self) -> Vec<SessionId> {
        self.sessions.iter().map(|(id, _)| *id).collect()
    }
}

impl PackedSession {
    /// Id of the session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        match self {
            Self::Title(title) => title.id(),
            Self::Reader(reader) => reader.id(),
        }
    }
}

impl PackedSession {
    /// Addresses of the client that are in use: the pair at home, RTP, RTCP.
    #[must_use]
    pub fn addresses(&self) -> Vec<(u16, SocketAddr, SocketAddr)> {
        let transports = match self {
            Self::Title(title) => title.transports(),
            Self::Reader(reader) => reader.transports(),
        };
        let addresses = transports.into_iter().filter_map(|transport| match transport {
            Transport::Udp { pair, rtp, rtcp } => Some((pair, rtp, rtcp)),
            Transport::Tcp { .. } | Transport::Group { .. } => None,
        });
        addresses.collect()
    }
}

impl Sessions {
    /// What moves with a session.
    ///
    /// # Errors
    /// `NoSession`, or why it cannot move at all.
    pub fn unit_of(&self, id: SessionId) -> Result<Unit, MoveRefusal> {
        let session = self.cx.directory.find(id).ok_or(MoveRefusal::NoSession)?;
        let connection = self.connection_of(session)?;
        let Some(entry) = connection else {
            return Ok(Unit { connection, sessions: vec![(id, session)] });
        };
        let all = self.cx.directory.of_connection(entry).iter();
        let sessions: Option<Vec<_>> =
            all.map(|session| Some((self.id_of(*session)?, *session))).collect();
        Ok(Unit { connection, sessions: sessions.ok_or(MoveRefusal::Publisher)? })
    }

    fn connection_of(&self, session: SessionRef) -> Result<Option<EntryKey>, MoveRefusal> {
        match session {
            SessionRef::Title(key) => {
                self.vod.players.session(key).map(|session| session.client.connection)
            }
            SessionRef::Reader(index) => {
                self.live.readers.table.get(index as usize).map(|reader| reader.client.connection)
            }
            SessionRef::Publisher(_) => return Err(MoveRefusal::Publisher),
        }
        .ok_or(MoveRefusal::NoSession)
    }

    /// `None` for a publisher.
    pub(super) fn id_of(&self, session: SessionRef) -> Option<SessionId> {
        match session {
            SessionRef::Title(key) => self.vod.players.session(key).map(|s| s.client.id),
            SessionRef::Reader(index) => {
                self.live.readers.table.get(index as usize).map(|reader| reader.client.id)
            }
            SessionRef::Publisher(_) => None,
        }
    }

    /// The home of a unit whose sessions can move: the shard of all its ids and ports.
    ///
    /// # Errors
    /// Why a session cannot move.
    pub fn check_move(&self, unit: &Unit) -> Result<ShardId, MoveRefusal> {
        let home = self.cx.home_of(unit.sessions.first().ok_or(MoveRefusal::NoSession)?.0);
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
                SessionRef::Publisher(_) => return Err(MoveRefusal::Publisher),
            }
        }
        Ok(home)
    }

    /// Whether nothing of a unit's sessions is under way.
    pub fn is_at_rest(&mut self, unit: &Unit) -> bool {
        unit.sessions.iter().all(|(_, session)| match *session {
            SessionRef::Title(key) => self.vod.players.is_at_rest(key),
            SessionRef::Reader(index) => self.live.readers.is_at_rest(&mut self.live.hub, index),
            SessionRef::Publisher(_) => false,
        })
    }

    /// Whether packets are sent to the client of a session.
    #[must_use]
    pub fn plays(&self, session: SessionRef) -> bool {
        match session {
            SessionRef::Title(key) => self
                .vod
                .players
                .session(key)
                .is_some_and(|session| matches!(session.state, State::Playing)),
            SessionRef::Reader(index) => self
                .live
                .readers
                .table
                .get(index as usize)
                .is_some_and(|reader| matches!(reader.state, ReaderState::Playing)),
            SessionRef::Publisher(_) => false,
        }
    }

    /// Names of the live paths that a unit reads.
    #[must_use]
    pub fn paths_of(&self, unit: &Unit) -> Vec<Arc<str>> {
        let paths = unit.sessions.iter().filter_map(|(_, session)| match *session {
            SessionRef::Reader(index) => {
                self.live.readers.table.get(index as usize).map(|r| Arc::clone(&r.path))
            }
            SessionRef::Title(_) | SessionRef::Publisher(_) => None,
        });
        paths.collect()
    }

    /// Has this shard listen to live paths. `None`: an owner has not answered yet.
    pub fn prepare_paths(&mut self, paths: &[Arc<str>]) -> Option<Result<(), MoveRefusal>> {
        let mut are_here = true;
        for path in paths {
            match self.live.readers.prepare_path(&self.cx, &mut self.live.hub, path) {
                Some(true) => {}
                Some(false) => return Some(Err(MoveRefusal::NoPath)),
                None => are_here = false,
            }
        }
        are_here.then_some(Ok(()))
    }

    /// Pairs of sockets, by their places here, that a unit's streams are sent from.
    #[must_use]
    pub fn pairs_of(&self, unit: &Unit) -> Vec<u16> {
        let mut pairs: Vec<u16> = Vec::new();
        let mut add = |transport: Transport| {
            if let Transport::Udp { pair, .. } = transport
                && !pairs.contains(&pair)
            {
                pairs.push(pair);
            }
        };
        for (_, session) in &unit.sessions {
            match *session {
                SessionRef::Title(key) => {
                    let session = self.vod.players.session(key);
                    let streams = session.into_iter().flat_map(|session| &session.streams);
                    streams.for_each(|stream| add(stream.outgoing.transport));
                }
                SessionRef::Reader(index) => {
                    let reader = self.live.readers.table.get(index as usize);
                    let streams = reader.into_iter().flat_map(|reader| &reader.streams);
                    streams.for_each(|stream| add(stream.outgoing.transport));
                }
                SessionRef::Publisher(number) => {
                    self.live
                        .sources
                        .publishers
                        .transports_of(number)
                        .into_iter()
                        .for_each(&mut add);
                }
            }
        }
        pairs
    }

    /// Takes the sessions of a unit from this shard.
    pub fn pack(&mut self, unit: &Unit) -> Vec<PackedSession> {
        let Self { cx, vod, live, .. } = self;
        let packed = unit.sessions.iter().filter_map(|(_, session)| match *session {
            SessionRef::Title(key) => {
                vod.players.pack(cx, key).map(|title| PackedSession::Title(Box::new(title)))
            }
            SessionRef::Reader(index) => live
                .readers
                .pack(cx, &mut live.hub, index)
                .map(|reader| PackedSession::Reader(Box::new(reader))),
            SessionRef::Publisher(_) => None,
        });
        packed.collect()
    }

    /// Whether all sessions find here what they are sent. `None`: something has not come yet.
    #[must_use]
    pub fn fit(&self, packed: &Packed) -> Option<Result<(), MoveRefusal>> {
        let room = self.cx.config.sessions_max.saturating_sub(self.cx.session_count());
        if room < packed.sessions.len() {
            return Some(Err(MoveRefusal::Full));
        }
        for session in &packed.sessions {
            let PackedSession::Reader(reader) = session else { continue };
            match Readers::fit(&self.live.hub, reader) {
                Ok(Fit::By(_)) => {}
                Ok(Fit::NotYet) => return None,
                Ok(Fit::Full) => return Some(Err(MoveRefusal::Full)),
                Ok(Fit::Behind) => return Some(Err(MoveRefusal::Behind)),
                Err(why) => return Some(Err(why)),
            }
        }
        Some(Ok(()))
    }

    /// Takes a session in, whose connection has this entry here. False: its path takes no more
    /// readers, and the session has ended.
    pub fn unpack(&mut self, session: PackedSession, connection: Option<EntryKey>) -> bool {
        let Self { cx, vod, live, .. } = self;
        match session {
            PackedSession::Title(title) => {
                vod.unpack(cx, *title, connection);
                true
            }
            PackedSession::Reader(reader) => {
                live.readers.unpack(cx, &mut live.hub, *reader, connection)
            }
        }
    }
}
