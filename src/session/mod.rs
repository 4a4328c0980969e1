//! Code that RTSP sessions of all roles share (RFC 2326 s12.37).
//!
//! ```text
//!  command    a request on its way to a session, and the target of its answer
//!  directory  sessions by id, and by the connection that they were made on
//!  client     who plays or reads: address, connection, last sign of life
//!  cx         time, wheel, sockets, configuration, and the actions for the shard
//!  action     actions that sessions request from the shard, and keys of their timers
//!  shown      the state of a player as API and metrics show it: ready, playing, paused
//!  sockets    UDP sockets that many clients share, told apart by the client's address
//!  outgoing   the wire identity of a stream: numbers, transport, reports, whatever feeds it
//!  draining   no new sessions, and the end of those that are left
//!  handover   a session between two shards: the steps, and the order of its events
//!  departing  the addresses of such a session
//!  moving     a session between two roles: client, transports and numbers go on
//!  transport  the transport of a stream's packets: chosen, placed and answered in SETUP
//!  admission  room for one more session, and sessions that a player has left behind
//!  shares     what each address may have of what one shard has for strangers
//!  rtcp       RTCP to clients, and the reports of players
//!  holder     whose a session is, and whether a command comes from there
//!  srtp       keys of encrypted media, from a connection to the streams of a session
//!  feedback   requests of players for lost packets
//! ```
//! Players of titles are in `vod`, readers and sources of live paths in `live`; neither uses the
//! other. Plain code: commands and the time come in, actions go out.

pub mod action;
mod admission;
pub mod client;
pub mod command;
pub mod cx;
mod departing;
pub mod directory;
pub mod draining;
pub mod feedback;
pub mod handover;
pub mod holder;
pub mod info;
pub mod moving;
pub mod outgoing;
pub mod rtcp;
pub mod shares;
pub mod shown;
pub mod sockets;
pub mod srtp;
pub mod transport;
