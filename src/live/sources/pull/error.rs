//! Why a source cannot be pulled, in words for whoever has to mend it.

use std::net::{IpAddr, SocketAddr};

use crate::live::core::description::DescriptionError;
use crate::live::core::message::RefusedError;
use crate::poll::task::ResolveFailure;
use crate::rtsp::auth::ClientAuthError;
use crate::rtsp::error::ParseError;
use crate::rtsp::source_url::SourceUrlError;
use crate::sdp::read::SdpError;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PullError {
    /// The resolver has no address.
    #[error(transparent)]
    Unresolved(#[from] ResolveFailure),
    /// A link-local address, of which no interface is known.
    #[error("{ip} is link-local, and nothing says by which network interface it is reached")]
    NoInterface {
        /// Which.
        ip: IpAddr,
    },
    /// No address takes the connection; this is the last one that was tried.
    #[error("no connection to {to}: {why}")]
    Refused {
        /// Which.
        to: SocketAddr,
        /// As the system says it.
        why: String,
    },
    /// A step took too long.
    #[error("{step} takes longer than {limit_s} s")]
    Late {
        /// Which.
        step: &'static str,
        /// Seconds.
        limit_s: u64,
    },
    /// It has closed the connection.
    #[error("it closed the connection during {step}")]
    Closed {
        /// What it was to do.
        step: &'static str,
    },
    /// It refuses.
    #[error("{status} {reason} to {method}")]
    Status {
        /// Code.
        status: u16,
        /// Its own words.
        reason: String,
        /// To which request.
        method: &'static str,
    },
    /// 401, and the URL has no credentials.
    #[error("401: the source URL has no user name and password")]
    NoCredentials,
    /// 401 after a redirect to where the credentials of the source URL are not sent.
    #[error(
        "401: it redirects to {to}, where the user name and password of the source URL are not sent"
    )]
    CredentialsKept {
        /// Host and port.
        to: String,
    },
    /// 401, and nothing helps.
    #[error("401: {0}")]
    Auth(#[from] ClientAuthError),
    /// Round and round.
    #[error("it redirects more than {max} times")]
    Redirects {
        /// The limit.
        max: u8,
    },
    /// Into a network that the source is not in.
    #[error("it redirects to {to}, which a source at {origin} may not lead to")]
    RedirectInside {
        /// Where to.
        to: IpAddr,
        /// Where the source is.
        origin: IpAddr,
    },
    /// Somewhere that is no RTSP URL.
    #[error("it redirects to what cannot be: {0}")]
    RedirectUrl(#[from] SourceUrlError),
    /// TLS is not spoken.
    #[error("it redirects to rtsps://, which is not supported")]
    Secure,
    /// DESCRIBE gave something else.
    #[error("its description is not SDP")]
    NotSdp,
    /// The description cannot be read.
    #[error("its description: {0}")]
    Sdp(#[from] SdpError),
    /// Nothing that can be carried.
    #[error("its description has no RTP that can be carried")]
    NoMedia,
    /// No path can have it.
    #[error("its description: {0}")]
    Description(#[from] DescriptionError),
    /// The home gives the path to somebody else.
    #[error("{0}")]
    NotGranted(RefusedError),
    /// It wants to send another way than it was asked to, and none that we can take.
    #[error("it answers SETUP with a transport that was not asked for")]
    Transport,
    /// Every pair of ports that we may open has a stream of its host.
    #[error("no free pair of UDP ports for its host; set source_transport = \"tcp\"")]
    NoPorts,
    /// What it sends is no RTSP.
    #[error("it sends what is no RTSP: {0}")]
    Garbage(ParseError),
    /// BYE on all its streams.
    #[error("it says BYE")]
    Bye,
    /// We end it.
    #[error("{0}")]
    Ended(&'static str),
}

impl PullError {
    /// A refusal, with what it says for itself: so much of it as fits a line of a log.
    pub(crate) fn status(status: u16, reason: &str, method: &'static str) -> Self {
        let clean = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX);
        Self::Status { status, reason: clean.collect(), method }
    }
}

const REASON_CHARS_MAX: usize = 60;
