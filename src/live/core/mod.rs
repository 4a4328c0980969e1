//! Live paths: packets of one source are sent to any number of readers, on any number of shards.
//!
//! ```text
//!  shard of the publisher          owner shard of the path          each shard with readers
//!  [source]  -> [batch]   --Feed-> [registry] + [ring]   --Batch-> [path]: [ring], [reader]s
//!   latch, clock, reception         who feeds, who listens          start, switch, retransmit
//! ```
//! Plain code: packets, messages and the time come in; messages and runs of packets come out. The
//! room has no RTSP, sessions or sockets; the caller marks the packets that begin a key frame.
//!
//! - [`batch`]: packets as received, in one block, cut into runs; a run is one send for each reader
//! - [`datagrams`]: cuts packets that are longer than a datagram, for readers over UDP
//! - [`ring`]: the newest batches of a path, and where its newest group of pictures begins
//! - [`source`]: turns a publisher's packets into batches; with [`demux`], [`latch`] and
//!   [`ssrc_latch`] (foreign senders), [`clock`] (RTP time and wall clock), [`reception`] (reports)
//!   and [`liveness`]
//! - [`registry`]: the owners of paths; [`message`]: messages between shards
//! - [`paths`]: the paths that a shard listens to; [`path`]: one path; with [`reader`] (the
//!   position of each reader), [`start`] (where and how fast a reader begins), [`rewrite`]
//!   (sequence numbers and time across a break), [`crossing`] (RTP time when another feed takes
//!   over), [`entering`] (a session that had another feed), [`retransmit`], and [`refresh`]
//!   (requests for key frames, new parameter sets)
//! - [`pump`]: plans the sends of a turn and takes in their results
//! - [`groups`]: multicast groups that paths are sent to
//! - [`takeover`]: paths that another process takes over
//! - [`info`]: figures of paths for the API, with [`meter`] (bit rate of sources)
//!
//! DESIGN section 5.

pub mod batch;
pub mod clock;
pub mod crossing;
pub mod datagrams;
pub mod demux;
pub mod description;
pub mod entering;
pub mod failover;
pub mod groups;
pub mod handover;
mod held;
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
pub mod repeat;
pub mod retransmit;
pub mod rewrite;
pub mod ring;
pub mod source;
pub mod ssrc_latch;
pub mod start;
pub mod takeover;

#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod wait_tests;
