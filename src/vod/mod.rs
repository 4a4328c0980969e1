//! Players of titles: their commands, and the times at which their packets are due.
//!
//! ```text
//!  service    the players of a shard, the windows that they wait for, the starts of epochs
//!  table      the sessions of the players, with their timers
//!  methods/   SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER
//!  playback   one player: state, streams, epoch
//!  stream     one RTP stream: sequence, timestamps, place   <- cursor <- windows
//!  epoch      media time <-> wall time <-> RTP time
//!  images     packets that many streams send alike, from one place in memory
//!  exchange   feeds the same streams from another title
//!  pump       sends due packets to sockets or a connection, and finds when BYE is due
//!  stagger    spreads the starts of players, so that not many are due at once
//!  handover   a player that moves to another shard, takeover: to another process
//!  skip       moves a late player over TCP to a later sync sample
//!  reports    RTCP out and in          -> thinning: how much of the video is sent
//!             requests for lost packets -> retransmit: finds packets by number
//! ```
//! Plain code: commands, windows, reports and the time come in; tasks, answers and RTCP go out.

pub mod cursor;
pub mod epoch;
pub mod exchange;
pub mod handover;
mod images;
mod methods;
pub mod moving;
pub mod playback;
pub mod position;
pub mod pump;
mod reports;
pub mod retransmit;
pub mod service;
mod skip;
mod stagger;
pub mod stream;
pub mod table;
pub mod takeover;
#[cfg(test)]
mod tests;
pub mod thinning;
pub mod windows;
