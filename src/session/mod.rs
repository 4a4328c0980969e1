//! What RTSP sessions of all roles share (RFC 2326 s12.37).
//!
//! ```text
//!  command    a request on its way to a session, and where its answer goes
//!  directory  sessions by id, and by the connection they were made on
//!  cx         the time, the wheel, the sockets, the configuration; what is asked of the shard
//!  action     what sessions ask of the shard, and what falls due for them
//!  shown      what a player is shown and counted as: ready, playing, paused
//!  sockets    UDP sockets that many clients share, told apart by the client's address
//!  transport  how the packets of a stream travel
//!  rtcp       where RTCP goes, and what a player's report says
//! ```
//! Players of titles are in `vod`, readers and sources of live paths in `live`; neither uses the
//! other. Plain code: commands and the time come in, actions go out.

pub mod action;
mod admission;
pub mod client;
pub mod command;
pub mod cx;
pub mod directory;
pub mod feedback;
pub mod info;
pub mod rtcp;
pub mod shown;
pub mod sockets;
pub mod transport;
