//! One who feeds a path: its source, and how its packets come.
//!
//! ```text
//!  ANNOUNCE --Claim--> Claiming --Granted--> Announced --RECORD--> Recording
//! ```
//! What its session does with a command (RFC 2326 A.2). `Set up` is Announced with a track set up:
//!
//! | method | Claiming | Announced | Set up | Recording |
//! |---|---|---|---|---|
//! | SETUP | 455 | 200 Set up | 200 | 455 |
//! | RECORD | 455 | 455 | 200 Recording | 200 |
//! | PAUSE | 455 | 455 | 455 | 200 Set up |
//! | TEARDOWN | 200 ends | 200 ends | 200 ends | 200 ends |
//! | GET_PARAMETER | 200 | 200 | 200 | 200 |
//! | SET_PARAMETER | 200 | 200 | 200 | 200 |
//! | OPTIONS | 200 | 200 | 200 | 200 |
//! | ANNOUNCE | 455 | 455 | 455 | 455 |
//! | PLAY | 455 | 455 | 455 | 455 |
//! | DESCRIBE | 455 | 455 | 455 | 455 |
//! | REDIRECT | 455 | 455 | 455 | 455 |
//! | another | 455 | 455 | 455 | 455 |
//!
//! A cell is the answer's status, or `held` while there is none; then the state behind it, where
//! that is another one. A client knows the name of its session from the answer to SETUP on, so that
//! only a stranger who guesses it can say anything while it is Claiming.
//! The connection keeps some of these methods from coming here: it answers OPTIONS, REDIRECT and
//! methods that are none, and DESCRIBE as without a session.
//!
//! What a decoder can begin with is found packet by packet and told to the source; see `announced`
//! for its tracks and for what readers are told of them.
//! Bound: a track each media of the description, `LIVE_TRACKS_MAX` of them.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::addresses::AddressPlace;
use crate::base::ids::{SessionId, Ssrc};
use crate::base::time::Mono;
use crate::live::core::again::Again;
use crate::live::core::batch::Generation;
use crate::live::core::description::Description;
use crate::live::core::liveness::Feeder;
use crate::live::core::source::{RtpFields, Source};
use crate::live::sources::announced::{Origin, PublisherTrack};
use crate::poll::poll_table::EntryKey;
use crate::rtp::RtpView;
use crate::sdp::session::SessionSdp;
use crate::session::command::Waiter;
use crate::session::transport::Transport;

/// See the module.
#[derive(Debug)]
pub struct Publisher {
    /// How it came to be.
    pub(crate) way: Way,
    /// What its packets become.
    pub source: Source,
    /// Where it stands.
    pub(crate) state: PublisherState,
    /// As announced.
    pub(crate) sdp: SessionSdp,
    /// What descriptions made of it begin with.
    pub(crate) origin: Origin,
    /// What readers are told of it now.
    pub(crate) described: Arc<Description>,
    /// When its claim is said again.
    pub(crate) again: Again,
    /// When readers were last told of new parameter sets.
    pub(crate) redescribed: Option<Mono>,
    /// When its first packets came.
    pub(crate) fed_since: Option<Mono>,
    pub(crate) tracks: Vec<PublisherTrack>,
    pub(crate) connection: Option<EntryKey>,
    pub(crate) peer: SocketAddr,
    /// When the last command came.
    pub(crate) alive: Mono,
    /// Name in RTCP.
    pub(crate) cname: String,
    pub(crate) own_ssrc: Ssrc,
    /// It is on the list of those with packets that are not fed yet.
    pub(crate) is_unfed: bool,
    /// Tracks of a camera that have sent BYE, as bits, and when all had.
    pub(crate) byes: u16,
    pub(crate) all_said_bye: Option<Mono>,
}

/// See the module's picture.
#[derive(Debug)]
pub(crate) enum PublisherState {
    /// The home was asked; ANNOUNCE, if there was one, is not answered.
    Claiming(Option<(Waiter, Option<u32>)>),
    /// The path is its own.
    Announced(Generation),
    /// Packets are taken.
    Recording(Generation),
}

/// How a source of a path came to be.
#[derive(Debug)]
pub(crate) enum Way {
    /// By ANNOUNCE: its session, the URL that those of SETUP are read against, its place among the
    /// sessions of its address.
    Announced { id: SessionId, uri: String, user_agent: Option<String>, _admitted: AddressPlace },
    /// Fetched from a camera: see `crate::live::sources::pull`.
    Pulled,
    /// It came to sockets of ours: `input` has them by the publisher's number.
    Input,
}

/// Who wants a path: what differs from one way to feed it to another.
#[derive(Debug)]
pub(crate) struct Claimant {
    pub(crate) way: Way,
    /// Who waits for the answer to ANNOUNCE.
    pub(crate) waiter: Option<(Waiter, Option<u32>)>,
    pub(crate) sdp: SessionSdp,
    pub(crate) origin: Origin,
    /// What readers will be told.
    pub(crate) description: Arc<Description>,
    pub(crate) connection: Option<EntryKey>,
    pub(crate) peer: SocketAddr,
}

impl Publisher {
    /// What it holds its path by.
    pub(crate) fn generation(&self) -> Option<Generation> {
        match self.state {
            PublisherState::Claiming(_) => None,
            PublisherState::Announced(generation) | PublisherState::Recording(generation) => {
                Some(generation)
            }
        }
    }

    /// Its session, when it has announced.
    pub(crate) fn id(&self) -> Option<SessionId> {
        match self.way {
            Way::Announced { id, .. } => Some(id),
            Way::Pulled | Way::Input => None,
        }
    }

    /// What URLs of SETUP are read against.
    pub(crate) fn announce_uri(&self) -> Option<&str> {
        match &self.way {
            Way::Announced { uri, .. } => Some(uri),
            Way::Pulled | Way::Input => None,
        }
    }

    /// It is fetched from a camera.
    pub(crate) fn is_pulled(&self) -> bool {
        matches!(self.way, Way::Pulled)
    }

    /// What it is to those who ask whether it lives.
    pub(crate) fn feeder(&self) -> Feeder {
        let paths = self.tracks.iter().filter_map(|track| track.path);
        let is_tcp = paths.clone().count() > 0
            && paths.into_iter().all(|path| matches!(path, Transport::Tcp { .. }))
            && self.connection.is_some();
        match self.way {
            Way::Announced { .. } => Feeder::Publisher { is_tcp },
            Way::Pulled => Feeder::Camera { is_tcp, has_sent: self.source.counts().packets > 0 },
            Way::Input => Feeder::Input,
        }
    }

    /// What it calls itself.
    pub(crate) fn user_agent(&self) -> Option<&str> {
        match &self.way {
            Way::Announced { user_agent, .. } => user_agent.as_deref(),
            Way::Pulled | Way::Input => None,
        }
    }

    /// RECORD was answered.
    pub(crate) fn is_recording(&self) -> bool {
        matches!(self.state, PublisherState::Recording(_))
    }

    /// Whether a datagram from a port that was not announced can be this track's. Players knock
    /// with packets without payload.
    pub(crate) fn fits(&self, track: u8, bytes: &[u8]) -> bool {
        let Ok(view) = RtpView::parse(bytes) else { return false };
        let spec = self.source.description().tracks.get(usize::from(track));
        self.is_recording()
            && !view.payload().is_empty()
            && spec.is_some_and(|spec| spec.payload_types.contains(&view.payload_type()))
    }
}

/// What the header says.
pub(crate) fn fields(view: &RtpView<'_>) -> RtpFields {
    RtpFields {
        payload_type: view.payload_type(),
        seq: view.seq(),
        ts: view.ts(),
        ssrc: view.ssrc(),
        marker: view.marker(),
        // A header is shorter than a datagram.
        header_bytes: u16::try_from(view.payload_range().start).unwrap_or(u16::MAX),
    }
}
