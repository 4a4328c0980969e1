//! Why a session did not do what was asked.
//!
//! The text of a failure is the key under which the report counts it, so it holds nothing that
//! differs from session to session.

use crate::request::Request;

/// Reason for which a session ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// TCP could not be connected.
    #[error("connect: {0}")]
    Connect(std::io::ErrorKind),
    /// The connection broke.
    #[error("connection: {0}")]
    Connection(std::io::ErrorKind),
    /// The server closed the connection.
    #[error("connection closed by the server")]
    Closed,
    /// An answer other than 2xx.
    #[error("{request} answered with {code}")]
    Status {
        /// The request.
        request: Request,
        /// Its status code.
        code: u16,
    },
    /// No answer in time.
    #[error("{0} not answered in time")]
    NotAnswered(Request),
    /// Bytes that are not RTSP.
    #[error(transparent)]
    Wire(#[from] crate::wire::WireError),
    /// A description without use.
    #[error(transparent)]
    Description(#[from] crate::description::DescriptionError),
    /// SETUP was answered with another kind of transport than asked for.
    #[error("SETUP answered with another transport than asked for")]
    OtherTransport,
    /// A redirection led to another one.
    #[error("redirected more than once")]
    RedirectedAgain,
    /// No UDP port pair could be had on this side.
    #[error("no local UDP port pair: {0}")]
    LocalPorts(std::io::ErrorKind),
    /// The run ended while the session was still being set up.
    #[error("not playing yet when the run ended")]
    NotPlaying,
    /// PLAY succeeded and nothing came.
    #[error("no packet after PLAY")]
    NoPacket,
    /// Packets stopped before the end.
    #[error("packets stopped before the end")]
    Stalled,
}
