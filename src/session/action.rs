//! Actions that sessions request from their shard, and keys of their timers.
//!
//! ```text
//!  sessions --Action--> shard: sockets, connections, workers
//!  wheel --TimerKey--> sessions
//! ```
//! Actions are carried out in the order of the requests, within the turn.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::ids::{CameraName, SeqNo, SessionId, ShardId};
use crate::config::source::SourceTls;
use crate::live::core::groups::{Group, MulticastSettings};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::Task;
use crate::rtsp::response::Response;
use crate::session::command::{Command, ReplyTo};
use crate::session::directory::{SessionKey, SessionRef};

/// An action of the shard for a session.
#[derive(Debug)]
pub enum Action {
    /// Hands a task to the workers.
    Submit(Task),
    /// Sends the answer to a command.
    Respond {
        /// Connection that waits for the answer.
        reply_to: ReplyTo,
        /// The answer.
        response: Response,
    },
    /// Sends RTCP from a pair's RTCP socket.
    Datagram {
        /// Index of the pair.
        pair: u16,
        /// Destination.
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
    /// Sends a lost packet again, if that is allowed.
    Resend {
        /// Session.
        session: SessionRef,
        /// Stream of the session.
        stream_index: u8,
        /// Epoch of a player, or serial of a reader: another session may have taken the place.
        epoch_count: u32,
        /// Sequence number of the lost packet.
        seq: SeqNo,
    },
    /// Connects to a camera.
    Connect {
        /// Name of the connection.
        camera: CameraName,
        /// Address of the camera.
        to: SocketAddr,
        /// TLS around the connection.
        tls: Option<CameraSecurity>,
    },
    /// Sends bytes on a camera's connection.
    Write {
        /// The connection.
        entry: EntryKey,
        /// Requests, as a rule.
        bytes: Vec<u8>,
    },
    /// Opens another pair of sockets for a track of a pulled source.
    OpenPair {
        /// Number of the source.
        source: u32,
        /// Index of the track.
        track: u8,
    },
    /// Punches the NAT for packets that will arrive at a pair.
    PunchNat {
        /// Index of the pair.
        pair: u16,
        /// Address that RTP will come from.
        rtp: SocketAddr,
        /// Address that RTCP will come from.
        rtcp: SocketAddr,
    },
    /// Closes a pair of sockets that no client uses any more.
    ClosePair(u16),
    /// Opens the sockets of an input; `handle_input_opened` gets the result. RTCP sockets may fail.
    OpenInput {
        /// Number of the input.
        number: u32,
        /// Sockets to open.
        sockets: Vec<InputSocket>,
    },
    /// Closes the sockets of an input.
    CloseInput(u32),
    /// Hands a report on to the shard that its session is on.
    Report {
        /// The session.
        id: SessionId,
        /// Pair that the report came in at.
        pair: u16,
        /// The client's RTCP address.
        from: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// Tells the home of a session that addresses are free.
    Freed {
        /// The home.
        home: ShardId,
        /// Pair of the home.
        pair: u16,
        /// The client's RTP address.
        rtp: SocketAddr,
        /// The client's RTCP address.
        rtcp: SocketAddr,
    },
    /// Closes a connection after its queued bytes are sent.
    HangUp(EntryKey),
    /// Changes the sockets of multicast groups.
    Group(GroupAction),
    /// Executes a held command.
    Execute(Box<Command>),
}

/// TLS to a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraSecurity {
    /// Name or address, which its certificate is to have.
    pub host: String,
    /// Who is believed.
    pub trust: SourceTls,
}

/// A socket that an input listens at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSocket {
    /// Track of the input.
    pub track: u8,
    /// The socket receives RTCP.
    pub is_rtcp: bool,
    /// Address of a group, or of the server.
    pub to: SocketAddr,
    /// Senders for which a group is joined; empty joins for every sender.
    pub senders: Vec<IpAddr>,
    /// Interface that joins a group; `None` leaves the choice to the routing table.
    pub interface: Option<String>,
    /// Any address of the server will do if `to` is not one.
    pub may_widen: bool,
}

impl InputSocket {
    /// Whether the socket of another one is as good as its own.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.to == other.to
            && self.is_rtcp == other.is_rtcp
            && self.senders == other.senders
            && self.interface == other.interface
    }
}

/// An action on the sockets of multicast groups.
#[derive(Debug)]
pub enum GroupAction {
    /// Opens the pair that groups are sent from.
    OpenPair(MulticastSettings),
    /// Opens the RTCP sockets of a path's group.
    Hear {
        /// Name of the path.
        path: Arc<str>,
        /// The path's group.
        group: Group,
        /// Number of the group's pairs of ports.
        tracks: u8,
    },
    /// Closes the RTCP sockets of the path's group.
    Leave(Arc<str>),
}

/// A key of the wheel.
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
    /// BYE of a stream that has sent everything is due.
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
    /// A check whether the client is alive.
    Liveness {
        /// Session.
        session: SessionKey,
        /// Id of the session: another session may have taken the place.
        id: SessionId,
    },
    /// A check whether an RTSP connection is still in use.
    Connection(EntryKey),
    /// The turn of a login that was slowed down.
    Login(EntryKey),
    /// A reader of a live path is due.
    LiveReader {
        /// Index of the reader.
        index: u32,
        /// Serial of the reader: another reader may have taken the place.
        serial: u32,
    },
    /// Periodic work for live paths.
    LiveTick,
    /// The relay with this number decides among its sources.
    Relay(u32),
    /// A change of what a session plays waits for packets.
    Tuning(u32),
    /// The feed of titles with this number has something to do.
    Titles(u32),
    /// A digit of a line-up's session stays the last one of its number.
    Lineup(SessionId),
}

impl TimerKey {
    /// The session of a player's key; `None` for other keys.
    #[must_use]
    pub fn session(self) -> Option<SessionKey> {
        match self {
            Self::Stream { session, .. }
            | Self::Report { session, .. }
            | Self::Bye { session, .. }
            | Self::Pause { session, .. }
            | Self::Liveness { session, .. } => Some(session),
            Self::Connection(_)
            | Self::Login(_)
            | Self::LiveReader { .. }
            | Self::LiveTick
            | Self::Relay(_)
            | Self::Tuning(_)
            | Self::Titles(_)
            | Self::Lineup(_) => None,
        }
    }
}
