//! RTSP sessions and their streams (RFC 2326 s12.37): what is due, when, what a command changes.
//!
//! ```text
//!  methods/   SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER
//!  sessions   all sessions of a shard: whose each command, report and timer is
//!  cx         what they share: time, wheel, sockets, outbox; directory: by id, by connection
//!  table      players of titles, with the window desk
//!  session    one session: state, streams, epoch
//!  stream     one RTP stream: sequence, timestamps, place   <- cursor <- windows
//!  epoch      media time <-> wall time <-> RTP time
//!  pump       what is due into sockets or a connection, and when BYE is due
//!  reports    RTCP out and in   -> quality: how much of the picture is sent
//!  live/      sessions of live paths: publishers and readers
//!  pages      what the outside is shown of them
//!  nack       lost packets again             -> resend: from numbers back to packets
//! ```
//! Plain code: commands, windows, reports and the time come in; tasks, answers and RTCP go out.

pub mod action;
mod admission;
pub mod client;
pub mod cursor;
pub mod cx;
pub mod desk;
pub mod directory;
pub mod epoch;
pub mod feedback;
pub mod info;
mod lag;
pub mod live;
mod methods;
mod nack;
mod pages;
pub mod position;
pub mod pump;
pub mod quality;
mod reports;
pub mod request;
pub mod resend;
#[expect(clippy::module_inception, reason = "a file is named after its main type")]
pub mod session;
pub mod sessions;
pub mod sockets;
mod starts;
pub mod stream;
pub mod table;
#[cfg(test)]
mod tests;
pub mod transport;
