//! The worker pool: everything that may wait for a disk, or for a name server.
//!
//! ```text
//! shard --Task--> TaskQueue --take--> worker (one pinned glommio executor per CPU)
//!   ^                                   | open: resolve, parse, map     -> Title cache
//!   |                                   | resolve: addresses of a host, on a thread of its own
//!   |                                   | window: packetize, page in    -> window cache
//!   |                                   | window_bytes: packetize, read
//!   |                                   | image: packets as on the wire -> images
//!   +------------TaskDone (inbox)-------+
//! ```
//! reference 001: Tasks wait on a FIFO queue for a pool of threads; the socket whose event asked
//! for one is not polled until its outcome is back.
//!
//! Invariants:
//! - every task that was accepted is answered exactly once, whatever becomes of it
//!   (`reply`: the answer is given when the task's reply is dropped, if not before);
//! - workers may lock and block, shards never do: all they touch here is `TaskQueue::submit`.
//!
//! Bounds: tasks queued, tasks at once per worker, titles and window bytes cached are all
//! configuration.

mod bell;
mod cache;
mod description;
mod engine;
mod executor;
mod formats;
mod image;
mod images;
mod lanes;
mod lone;
mod lru;
mod media;
#[cfg(test)]
mod media_tests;
mod notice;
mod open;
#[cfg(test)]
mod pages_tests;
mod pool;
#[cfg(test)]
mod pool_tests;
mod ranges;
mod read;
mod reply;
mod resolve;
mod serve;
mod task;
mod task_queue;
mod window;
mod window_bytes;

pub use lone::LoneWorker;
pub use pool::{Pool, PoolConfig, PoolError, has_topology, reads_on_threads};
pub use reply::Deliver;
pub use task_queue::{TaskQueue, WORKERS_MAX};
