//! One who feeds a path: its source, and how its packets come.
//!
//! ```text
//!  ANNOUNCE --Claim--> Claiming --Granted--> Announced --RECORD--> Recording
//! ```
//! What a decoder can begin with is found here, packet by packet, and told to the source.
//! Bound: a track each media of the description, `LIVE_TRACKS_MAX` of them.

use std::net::SocketAddr;

use crate::base::ids::{SessionId, Ssrc};
use crate::base::time::Mono;
use crate::live::batch::Generation;
use crate::live::description::{Description, DescriptionError, LiveTrack};
use crate::live::source::{RtpFields, Source};
use crate::poll::poll_table::EntryKey;
use crate::rtp::RtpView;
use crate::rtp::peek::{Peek, PeekFormat, Peeker};
use crate::sdp::live::{LiveDescription, LiveMedia, describe_live};
use crate::sdp::session::{MediaSdp, SessionSdp};
use crate::session::request::Waiter;
use crate::session::stream::Path;

/// See the module.
#[derive(Debug)]
pub struct Publisher {
    /// How it came to be.
    pub(super) way: Way,
    /// What its packets become.
    pub source: Source,
    /// Where it stands.
    pub(super) state: PublisherState,
    /// As announced.
    pub(super) sdp: SessionSdp,
    pub(super) tracks: Vec<PublisherTrack>,
    pub(super) connection: Option<EntryKey>,
    pub(super) peer: SocketAddr,
    /// When the last command came.
    pub(super) alive: Mono,
    /// Name in RTCP.
    pub(super) cname: String,
    pub(super) own_ssrc: Ssrc,
    /// It is on the list of those with packets that are not fed yet.
    pub(super) is_unfed: bool,
}

/// See the module's picture.
#[derive(Debug)]
pub(super) enum PublisherState {
    /// The home was asked; ANNOUNCE, if there was one, is not answered.
    Claiming(Option<(Waiter, Option<u32>)>),
    /// The path is its own.
    Announced(Generation),
    /// Packets are taken.
    Recording(Generation),
}

/// How a source of a path came to be.
#[derive(Debug)]
pub(super) enum Way {
    /// By ANNOUNCE: its session, and the URL that those of SETUP are read against.
    Announced { id: SessionId, uri: String },
}

/// One media of a publisher.
#[derive(Debug)]
pub(super) struct PublisherTrack {
    /// How its packets come; `None` before SETUP.
    pub(super) path: Option<Path>,
    payload_type: u8,
    peeker: Peeker,
    /// Parameter sets have come and no picture since.
    has_fresh_sets: bool,
}

impl Publisher {
    /// What it holds its path by.
    pub(super) fn generation(&self) -> Option<Generation> {
        match self.state {
            PublisherState::Claiming(_) => None,
            PublisherState::Announced(generation) | PublisherState::Recording(generation) => {
                Some(generation)
            }
        }
    }

    /// Its session, when it has announced.
    pub(super) fn id(&self) -> Option<SessionId> {
        match self.way {
            Way::Announced { id, .. } => Some(id),
        }
    }

    /// What URLs of SETUP are read against.
    pub(super) fn announce_uri(&self) -> Option<&str> {
        match &self.way {
            Way::Announced { uri, .. } => Some(uri),
        }
    }

    /// RECORD was answered.
    pub(super) fn is_recording(&self) -> bool {
        matches!(self.state, PublisherState::Recording(_))
    }

    /// Whether a datagram from a port that was not announced can be this track's. Players knock
    /// with packets without payload.
    pub(super) fn fits(&self, track: u8, bytes: &[u8]) -> bool {
        let Ok(view) = RtpView::parse(bytes) else { return false };
        let spec = self.source.description().tracks.get(usize::from(track));
        self.is_recording()
            && !view.payload().is_empty()
            && spec.is_some_and(|spec| spec.payload_types.contains(&view.payload_type()))
    }
}

impl PublisherTrack {
    pub(super) fn new(media: &MediaSdp) -> Self {
        let payload_type = media.payload_types().next().unwrap_or(0);
        let peeker = Peeker::new(format_of(media));
        Self { path: None, payload_type, peeker, has_fresh_sets: false }
    }

    /// Whether a decoder can begin with a packet. Parameter sets that come with a time of their own
    /// belong to the picture behind them: it does not begin anew.
    pub(super) fn is_sync(&mut self, view: &RtpView<'_>) -> bool {
        if view.payload_type() != self.payload_type {
            return false;
        }
        let Peek { picture, sync, sets, .. } = self.peeker.peek(view.payload());
        let is_behind_sets = self.has_fresh_sets;
        self.has_fresh_sets = (is_behind_sets || sets) && !picture;
        (sync || sets) && !is_behind_sets
    }
}

/// What the header says.
pub(super) fn fields(view: &RtpView<'_>) -> RtpFields {
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

/// What readers of `path` are told of what was announced.
pub(super) fn description(
    sdp: &SessionSdp,
    path: &str,
    local: std::net::IpAddr,
    (session_id, version): (u64, u64),
) -> Result<Description, DescriptionError> {
    let medias: Vec<LiveMedia> = (0..sdp.medias().len())
        .map(|source_index| LiveMedia {
            source_index,
            control: format!("trackID={source_index}"),
            fmtp: Vec::new(),
            rtx: None,
        })
        .collect();
    let name = path.rsplit('/').next().unwrap_or(path);
    let text = describe_live(&LiveDescription {
        source: sdp,
        name,
        session_id,
        version,
        origin: local,
        medias: &medias,
    });
    Description::new(text.into(), sdp.medias().iter().map(live_track).collect())
}

fn live_track(media: &MediaSdp) -> LiveTrack {
    let payload_types: Vec<u8> =
        media.payload_types().filter(|number| !media.is_rtx(*number)).collect();
    let first = payload_types.first().copied().unwrap_or(0);
    let encoding = media.encoding(first);
    let mut identity = format!("{} {encoding:?}", media.kind);
    for number in &payload_types {
        identity += &format!(" {number}:{}", media.fmtp(*number).unwrap_or_default());
    }
    LiveTrack {
        // Of a payload type that the description says nothing of: as most have it.
        clock_rate_hz: encoding.map_or(90_000, |encoding| encoding.clock_rate_hz),
        payload_types,
        needs_sync: media.kind == "video" && format_of(media) != PeekFormat::Any,
        identity: identity.into(),
    }
}

fn format_of(media: &MediaSdp) -> PeekFormat {
    let encoding = media.payload_types().next().and_then(|number| media.encoding(number));
    encoding.map_or(PeekFormat::Any, |encoding| PeekFormat::from_encoding_name(&encoding.name))
}
