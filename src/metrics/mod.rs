//! Numbers about the appliance: written by shards and workers, read at scrape.
//!
//! ```text
//! shard 0 --> ShardCells --+
//! shard 1 --> ShardCells --+--> Exposition (sums, labels) --> GET /metrics
//! workers --> WorkerCells -+
//! shards  --> PathTallies ---+   when asked: what readers and sources of live paths have counted
//! ```
//! Invariant: a cell of a shard has one writer, so writing it is a plain load and a plain store,
//! without a lock prefix and without a shared cache line.
//! Bound: labels come from bounded sets only; never a session, a client or an SSRC.

pub mod cells;
pub mod descriptors;
pub mod distribution;
pub mod exposition;
mod families;
pub mod histogram;
mod hls;
pub mod limits;
mod path_families;
pub mod paths;
pub mod process;
pub mod requests;
pub mod whep;
