//! A publisher: a source that feeds a path, or claims one. Clients that sent ANNOUNCE, cameras and
//! inputs are publishers alike.
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
//! that is another one. The answer to SETUP is the first to name the session, so a command reaches
//! a session that is Claiming only if its sender guesses the name.
//! The connection keeps some of these methods from coming here: it answers OPTIONS, REDIRECT and
//! methods that are none, and DESCRIBE as without a session.
//!
//! The tracks of a publisher, and the description that readers get, are in `announced`.
//! Bound: `LIVE_TRACKS_MAX` tracks, one for each media of the description.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::addresses::AddressPlace;
use crate::base::ids::{SessionId, ShardId, Ssrc};
use crate::base::time::Mono;
use crate::live::core::batch::Generation;
use crate::live::core::description::Description;
use crate::live::core::liveness::Feeder;
use crate::live::core::repeat::RequestRepeat;
use crate::live::core::source::{RtpFields, Source};
use crate::live::sources::announced::{Origin, PublisherTrack};
use crate::metrics::cells::Share;
use crate::poll::poll_table::EntryKey;
use crate::rtp::RtpView;
use crate::sdp::session::SessionSdp;
use crate::session::command::ReplyTo;
use crate::session::holder::Holder;
use crate::session::transport::Transport;

/// A source that feeds a path, or claims one: see the module.
#[derive(Debug)]
pub struct Publisher {
    /// Origin of the packets.
    pub(crate) way: Way,
    /// Checks packets and makes batches of them.
    pub source: Source,
    pub(crate) state: PublisherState,
    /// Description of the source, as received.
    pub(crate) sdp: SessionSdp,
    /// `o=` and `s=` of the descriptions for readers.
    pub(crate) origin: Origin,
    /// Present description for readers.
    pub(crate) described: Arc<Description>,
    /// When the claim is repeated.
    pub(crate) repeat: RequestRepeat,
    /// When readers were last told of new parameter sets.
    pub(crate) redescribed: Option<Mono>,
    /// Time of the first packets.
    pub(crate) fed_since: Option<Mono>,
    pub(crate) tracks: Vec<PublisherTrack>,
    pub(crate) connection: Option<EntryKey>,
    pub(crate) peer: SocketAddr,
    /// Time of the last command.
    pub(crate) alive: Mono,
    /// CNAME of the server in RTCP to the source.
    pub(crate) cname: String,
    pub(crate) own_ssrc: Ssrc,
    /// The publisher is in `Publishers::unfed`.
    pub(crate) is_unfed: bool,
    /// Tracks of a camera that have sent BYE, as bits.
    pub(crate) byes: u16,
    /// When all tracks had sent BYE.
    pub(crate) all_said_bye: Option<Mono>,
}

/// State of a publisher: see the picture of the module.
#[derive(Debug)]
pub(crate) enum PublisherState {
    /// The owner has not answered the claim. The ANNOUNCE that waits for the answer, if any.
    Claiming(Option<(ReplyTo, Option<u32>)>),
    /// The owner has granted the path.
    Announced(Generation),
    /// Packets are accepted.
    Recording(Generation),
}

/// Origin of a publisher's packets.
#[derive(Debug)]
pub(crate) enum Way {
    /// A client that sent ANNOUNCE: its session, the URL of ANNOUNCE, which is the base of the URLs
    /// of SETUP, who it has shown to be, its count among the sessions of its address, and among the
    /// publishers.
    Announced {
        id: SessionId,
        uri: String,
        user_agent: Option<String>,
        user: Option<Arc<str>>,
        _admitted: [AddressPlace; 2],
        _counted: Share,
    },
    /// A camera: see `live::sources::pull`.
    Pulled,
    /// Sockets of the server: see `live::sources::listen`.
    Input,
    /// The relay with this number, from the path `from`: see `live::sources::fallback`.
    Relay { relay: u32, from: Arc<str> },
    /// Titles: see `live::sources::titles`. The one that plays, by its name in URLs, and when it
    /// has begun, or would have if it had not been cut.
    Title { title: Arc<str>, zero: Mono },
}

/// A claim to a path: the data that the origins of packets provide.
#[derive(Debug)]
pub(crate) struct Claimant {
    pub(crate) way: Way,
    /// The ANNOUNCE that waits for the answer.
    pub(crate) reply_to: Option<(ReplyTo, Option<u32>)>,
    pub(crate) sdp: SessionSdp,
    pub(crate) origin: Origin,
    /// Description for readers.
    pub(crate) description: Arc<Description>,
    pub(crate) connection: Option<EntryKey>,
    pub(crate) peer: SocketAddr,
}

impl Publisher {
    /// Generation under which the publisher holds its path.
    pub(crate) fn generation(&self) -> Option<Generation> {
        match self.state {
            PublisherState::Claiming(_) => None,
            PublisherState::Announced(generation) | PublisherState::Recording(generation) => {
                Some(generation)
            }
        }
    }

    /// Session of a client that sent ANNOUNCE.
    pub(crate) fn id(&self) -> Option<SessionId> {
        match self.way {
            Way::Announced { id, .. } => Some(id),
            Way::Pulled | Way::Input | Way::Relay { .. } | Way::Title { .. } => None,
        }
    }

    /// URL of ANNOUNCE, which is the base of the URLs of SETUP.
    pub(crate) fn announce_uri(&self) -> Option<&str> {
        match &self.way {
            Way::Announced { uri, .. } => Some(uri),
            Way::Pulled | Way::Input | Way::Relay { .. } | Way::Title { .. } => None,
        }
    }

    /// Whether the publisher is a camera.
    pub(crate) fn is_pulled(&self) -> bool {
        matches!(self.way, Way::Pulled)
    }

    /// The path that a relay feeds this one from.
    pub(crate) fn relayed_from(&self) -> Option<&Arc<str>> {
        match &self.way {
            Way::Relay { from, .. } => Some(from),
            Way::Announced { .. } | Way::Pulled | Way::Input | Way::Title { .. } => None,
        }
    }

    /// The title that feeds the path, and when it began.
    pub(crate) fn plays(&self) -> Option<(&Arc<str>, Mono)> {
        match &self.way {
            Way::Title { title, zero } => Some((title, *zero)),
            Way::Announced { .. } | Way::Pulled | Way::Input | Way::Relay { .. } => None,
        }
    }

    /// Kind of the source, for the rules of its liveness.
    pub(crate) fn feeder(&self) -> Feeder {
        let transports = self.tracks.iter().filter_map(|track| track.transport);
        let is_tcp = transports.clone().count() > 0
            && transports.into_iter().all(|transport| matches!(transport, Transport::Tcp { .. }))
            && self.connection.is_some();
        match self.way {
            Way::Announced { .. } => Feeder::Publisher { is_tcp },
            Way::Pulled => Feeder::Camera { is_tcp, has_sent: self.source.counts().packets > 0 },
            Way::Input | Way::Relay { .. } | Way::Title { .. } => Feeder::Input,
        }
    }

    /// `User-Agent` of the client.
    pub(crate) fn user_agent(&self) -> Option<&str> {
        match &self.way {
            Way::Announced { user_agent, .. } => user_agent.as_deref(),
            Way::Pulled | Way::Input | Way::Relay { .. } | Way::Title { .. } => None,
        }
    }

    /// Whose session it is, of this shard.
    pub(crate) fn holder(&self, shard: ShardId) -> Holder<'_> {
        let mut transports = self.tracks.iter().filter_map(|track| track.transport);
        Holder {
            peer: self.peer.ip(),
            connection: self.connection.map(|entry| ReplyTo { shard, entry }),
            is_interleaved: transports.any(|transport| matches!(transport, Transport::Tcp { .. })),
            user: self.user(),
        }
    }

    /// Who the client has shown to be.
    pub(crate) fn user(&self) -> Option<&str> {
        match &self.way {
            Way::Announced { user, .. } => user.as_deref(),
            Way::Pulled | Way::Input | Way::Relay { .. } | Way::Title { .. } => None,
        }
    }

    /// Whether packets are accepted.
    pub(crate) fn is_recording(&self) -> bool {
        matches!(self.state, PublisherState::Recording(_))
    }

    /// Whether a datagram from a port that was not announced can be this track's. Players open
    /// their NAT by packets without payload.
    pub(crate) fn fits(&self, track: u8, bytes: &[u8]) -> bool {
        let Ok(view) = RtpView::parse(bytes) else { return false };
        let spec = self.source.description().tracks.get(usize::from(track));
        self.is_recording()
            && !view.payload().is_empty()
            && spec.is_some_and(|spec| spec.payload_types.contains(&view.payload_type()))
    }
}

/// Fields of the RTP header.
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
