//! Live channels: one source to any number of readers, on any number of shards.
//!
//! ```text
//!  shard of the publisher          home shard of the path          each shard with readers
//!  [source]  -> [batch]   --Feed-> [registry] + [ring]   --Batch-> [path]: [ring], [reader]s
//!   latch, clock, reception         who feeds, who listens          start, switch, retransmit
//! ```
//! Plain code: packets, messages and the time come in, messages and runs of packets come out. It
//! knows nothing of RTSP, of sessions or of sockets; what a key frame looks like is told to it.
//!
//! - [`batch`]: packets as they came, in one block, cut into runs that are one send for each reader
//! - [`datagrams`]: what readers over UDP get of packets that are longer than a datagram
//! - [`ring`]: the newest batches; where the newest group of pictures begins
//! - [`source`]: takes a publisher's packets and makes batches; with [`demux`], [`latch`] and
//!   [`ssrc_latch`] (strangers), [`clock`] (RTP time and wall clock), [`reception`] (reports) and
//!   [`liveness`]
//! - [`registry`]: the homes of the paths; [`message`]: what shards tell each other
//! - [`paths`]: what a shard listens to; [`path`]: one of them; with [`reader`] (where each is),
//!   [`start`] (where it begins, and how fast), [`switch`] (numbers and time across a break)
//!   and [`retransmit`]; [`refresh`] (key frames that are wanted, new parameter sets)
//! - [`pump`]: which readers are sent what in a turn, and what becomes of it
//! - [`groups`]: groups that paths are sent to
//! - [`info`]: what the outside is shown, with [`meter`] (what sources send)
//!
//! DESIGN section 5.

pub mod again;
pub mod batch;
pub mod clock;
pub mod datagrams;
pub mod demux;
pub mod description;
pub mod groups;
pub mod info;
pub mod latch;
pub mod limits;
pub mod liveness;
pub mod message;
pub mod meter;
pub mod path;
pub mod paths;
pub mod pump;
pub mod queues;
pub mod reader;
pub mod reception;
pub mod refresh;
pub mod registry;
pub mod retransmit;
pub mod ring;
pub mod source;
pub mod ssrc_latch;
pub mod start;
pub mod switch;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod wait_tests;
