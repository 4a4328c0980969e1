//! Players of titles: what is due, when, and what a command changes.
//!
//! ```text
//!  table      the players of a shard, with the windows that they wait for
//!  methods/   SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER
//!  playback   one player: state, streams, epoch
//!  stream     one RTP stream: sequence, timestamps, place   <- cursor <- windows
//!  epoch      media time <-> wall time <-> RTP time
//!  pump       what is due into sockets or a connection, and when BYE is due
//!  stagger    when a player begins, so that many are not due at once
//!  skip       a player over TCP that is late goes on at a sync sample
//!  reports    RTCP out and in    -> thinning: how much of the picture is sent
//!  nack       lost packets again -> retransmit: from numbers back to packets
//! ```
//! Plain code: commands, windows, reports and the time come in; tasks, answers and RTCP go out.

pub mod cursor;
pub mod epoch;
mod methods;
mod nack;
pub mod playback;
pub mod position;
pub mod pump;
mod reports;
pub mod retransmit;
mod skip;
mod stagger;
pub mod stream;
pub mod table;
#[cfg(test)]
mod tests;
pub mod thinning;
pub mod windows;
