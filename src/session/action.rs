//! What sessions ask of their shard, and what falls due for them.
//!
//! ```text
//!  sessions --Action--> shard: sockets, connections, workers
//!  wheel --TimerKey--> sessions
//! ```
//! Actions are carried out in the order in which they were asked for, within the turn.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::ids::{CameraName, SeqNo, SessionId};
use crate::live::core::groups::{Group, MulticastSettings};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::Task;
use crate::rtsp::response::Response;
use crate::session::command::{Command, Waiter};
use crate::session::directory::{SessionKey, SessionRef};

/// What the shard does for the sessions.
#[derive(Debug)]
pub enum Action {
    /// Hands a task to the workers.
    Submit(Task),
    /// Answers a command.
    Respond {
        /// Who waits.
        waiter: Waiter,
        /// The answer.
        response: Response,
    },
    /// Sends RTCP from a pair's RTCP socket.
    Datagram {
        /// Pair.
        pair: u16,
        /// To.
        to: SocketAddr,
        /// A compound packet.
        bytes: Vec<u8>,
    },
    /// Sends RTCP on an interleaved connection.
    Interleaved {
        /// The connection.
        entry: EntryKey,
        /// Channel.
        channel: u8,
        /// A compound packet.
        bytes: Vec<u8>,
    },
    /// Sends a packet again that was lost, if it may be.
    Resend {
        /// Session.
        session: SessionRef,
        /// Stream of the session.
        stream_index: u8,
        /// Epoch of a player, serial of a reader: the place may be another's by now.
        epoch_count: u32,
        /// Sequence number that the packet bore.
        seq: SeqNo,
    },
    /// Connects to a camera.
    Connect {
        /// What the connection is known by.
        camera: CameraName,
        /// Where it is.
        to: SocketAddr,
    },
    /// Sends bytes on a camera's connection.
    Write {
        /// The connection.
        entry: EntryKey,
        /// Requests, as a rule.
        bytes: Vec<u8>,
    },
    /// Opens another pair of sockets for a track of a source that is pulled.
    OpenPair {
        /// Number of the source.
        source: u32,
        /// Which track.
        track: u8,
    },
    /// Opens the way for packets that will come to a pair.
    Knock {
        /// Pair.
        pair: u16,
        /// Where RTP will come from.
        rtp: SocketAddr,
        /// Where RTCP will come from.
        rtcp: SocketAddr,
    },
    /// Closes a pair of sockets that no client uses any more.
    ClosePair(u16),
    /// Opens sockets of an input; the shard tells `handle_input_opened`. Those for RTCP may fail.
    OpenInput {
        /// Its number.
        number: u32,
        /// They.
        sockets: Vec<InputSocket>,
    },
    /// Closes the sockets of an input.
    CloseInput(u32),
    /// Closes a connection when what waits on it is sent.
    HangUp(EntryKey),
    /// Does something with the sockets of groups.
    Group(GroupAction),
    /// Executes a held command.
    Execute(Box<Command>),
}

/// A socket that an input listens at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSocket {
    /// Track of the input.
    pub track: u8,
    /// For RTCP.
    pub is_rtcp: bool,
    /// A group, or an address of ours.
    pub to: SocketAddr,
    /// A group is joined for these senders only; empty: whoever sends to it.
    pub senders: Vec<IpAddr>,
    /// By which interface a group is joined; otherwise the routing table says.
    pub interface: Option<String>,
    /// Any address of ours will do when `to` is none.
    pub may_widen: bool,
}

/// What the shard does with the sockets of groups.
#[derive(Debug)]
pub enum GroupAction {
    /// Opens the pair that groups are sent by.
    OpenPair(MulticastSettings),
    /// Listens to the reports that come to a path's group.
    Hear {
        /// Which path.
        path: Arc<str>,
        /// Its group.
        group: Group,
        /// How many pairs of ports it has.
        tracks: u8,
    },
    /// Listens there no more.
    Leave(Arc<str>),
}

/// What falls due on the wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKey {
    /// A stream's next frame.
    Stream {
        /// Session.
        session: SessionKey,
        /// Stream of the session.
        stream_index: u8,
        /// Valid in this epoch only.
        epoch_count: u32,
        /// Valid only as the stream's newest key.
        timer_count: u32,
    },
    /// A stream's next sender report.
    Report {
        /// Session.
        session: SessionKey,
        /// Valid in this epoch only.
        epoch_count: u32,
    },
    /// A stream has sent all; its BYE is due.
    Bye {
        /// Session.
        session: SessionKey,
        /// Stream of the session.
        stream_index: u8,
        /// Valid in this epoch only.
        epoch_count: u32,
    },
    /// A pause point of a PAUSE with a Range (RFC 2326 s10.6).
    Pause {
        /// Session.
        session: SessionKey,
        /// Valid in this epoch only.
        epoch_count: u32,
    },
    /// See whether the client still lives.
    Liveness {
        /// Session.
        session: SessionKey,
        /// Its name: the place may have been taken by another.
        id: SessionId,
    },
    /// See whether an RTSP connection still does something.
    Connection(EntryKey),
    /// A reader of a live path.
    LiveReader {
        /// Its place.
        index: u32,
        /// Tells it from another in that place.
        serial: u32,
    },
    /// Look after the sessions of live paths.
    LiveTick,
}

impl TimerKey {
    /// The session that it is for.
    #[must_use]
    pub fn session(self) -> Option<SessionKey> {
        match self {
            Self::Stream { session, .. }
            | Self::Report { session, .. }
            | Self::Bye { session, .. }
            | Self::Pause { session, .. }
            | Self::Liveness { session, .. } => Some(session),
            Self::Connection(_) | Self::LiveReader { .. } | Self::LiveTick => None,
        }
    }
}
