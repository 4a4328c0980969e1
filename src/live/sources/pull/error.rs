//! Why a source cannot be pulled, as text for the operator.

use std::net::{IpAddr, SocketAddr};

use crate::live::core::description::DescriptionError;
use crate::live::core::message::RefusedError;
use crate::poll::task::ResolveFailure;
use crate::rtsp::auth::ClientAuthError;
use crate::rtsp::error::ParseError;
use crate::rtsp::source_url::SourceUrlError;
use crate::sdp::read::SdpError;

/// Why a source cannot be pulled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PullError {
    /// The resolver has no address for the host.
    #[error(transparent)]
    Unresolved(#[from] ResolveFailure),
    /// The address is link-local, and its interface is unknown.
    #[error("{ip} is link-local and its network interface is unknown")]
    NoInterface {
        /// The address.
        ip: IpAddr,
    },
    /// No address accepts a connection; the error names the last one tried.
    #[error("no connection to {to}: {why}")]
    Refused {
        /// The address that was tried last.
        to: SocketAddr,
        /// The system's error.
        why: String,
    },
    /// A step has exceeded its time limit.
    #[error("{step} takes longer than {limit_s} s")]
    Late {
        /// The step.
        step: &'static str,
        /// Time limit in seconds.
        limit_s: u64,
    },
    /// The camera has closed the connection.
    #[error("connection closed by the camera during {step}")]
    Closed {
        /// The step at that time.
        step: &'static str,
    },
    /// The camera has answered with an error status.
    #[error("{status} {reason} to {method}")]
    Status {
        /// Status code.
        status: u16,
        /// Reason phrase of the camera.
        reason: String,
        /// The request.
        method: &'static str,
    },
    /// 401, and the URL has no credentials.
    #[error("401: the source URL has no user name and password")]
    NoCredentials,
    /// 401 or 403, and the capability of a job was shown.
    #[error("{status}: the node does not take the capability of the job; its log says why")]
    NotCapable {
        /// Status code.
        status: u16,
    },
    /// 401 after a redirect to a server that the source URL's credentials are not sent to.
    #[error(
        "401 after a redirect to {to}: the source URL's user name and password are not sent there"
    )]
    CredentialsKept {
        /// Host and port of that server.
        to: String,
    },
    /// 401, and the credentials do not help.
    #[error("401: {0}")]
    Auth(#[from] ClientAuthError),
    /// The camera redirects in a circle.
    #[error("more than {max} redirects")]
    Redirects {
        /// `REDIRECTS_MAX`.
        max: u8,
    },
    /// The redirect leads into a network that the source is not in.
    #[error("redirect to {to} refused: not allowed for a source at {origin}")]
    RedirectInside {
        /// Target of the redirect.
        to: IpAddr,
        /// Address of the source.
        origin: IpAddr,
    },
    /// The target of the redirect is no RTSP URL.
    #[error("redirect refused: invalid source URL: {0}")]
    RedirectUrl(#[from] SourceUrlError),
    /// The redirect leads from TLS to none, or the other way.
    #[error("redirect refused: it may not lead from rtsp:// to rtsps:// or back")]
    Secure,
    /// The body of DESCRIBE's answer is not SDP.
    #[error("answer to DESCRIBE is not SDP")]
    NotSdp,
    /// The SDP cannot be parsed.
    #[error("invalid description: {0}")]
    Sdp(#[from] SdpError),
    /// The SDP has no media that can be carried.
    #[error("description has no RTP media that can be carried")]
    NoMedia,
    /// The SDP makes no valid description.
    #[error("invalid description: {0}")]
    Description(#[from] DescriptionError),
    /// The owner has refused the path.
    #[error("{0}")]
    NotGranted(RefusedError),
    /// The camera insists on a transport that was not requested and cannot be used.
    #[error("SETUP answered with a transport that was not requested")]
    Transport,
    /// Every pair of ports that may be opened has a stream of the camera's host.
    #[error("no free pair of UDP ports for the camera's host; set source_transport = \"tcp\"")]
    NoPorts,
    /// The bytes on the connection are not RTSP.
    #[error("invalid RTSP from the camera: {0}")]
    Garbage(ParseError),
    /// All tracks have sent BYE.
    #[error("RTCP BYE received on all tracks")]
    Bye,
    /// The server has ended the source.
    #[error("{0}")]
    Ended(&'static str),
}

impl PullError {
    /// An error status, with the reason phrase clipped to fit a line of the log.
    pub(crate) fn status(status: u16, reason: &str, method: &'static str) -> Self {
        let clean = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX);
        Self::Status { status, reason: clean.collect(), method }
    }
}

const REASON_CHARS_MAX: usize = 60;
