//! A shard: a pinned thread with one ring, one PollTable, its sockets, its sessions and its timers.
//!
//! ```text
//!  a turn:  reap completions -> arrivals to consumers -> inbox -> a question -> timers
//!           -> pump due streams -> flush connections -> enter once
//! ```
//! | file | what is there |
//! |---|---|
//! | `build` | what a shard consists of, and how it is built |
//! | `turn` | the loop and its order |
//! | `arrivals` | what has come in and waits for its share of a turn |
//! | `entries` | rows of the PollTable with their descriptors |
//! | `dispatch` | events to consumers |
//! | `actions` | carries out what sessions and consumers ask for |
//! | `connections` | how RTSP connections begin and end |
//! | `inbox`, `messages` | the pipe from other threads; what becomes of its contents |
//! | `questions` | what the control thread asks, one a turn |
//! | `send` | what is due, over UDP and RTSP connections, and what becomes of it |
//! | `sockets` | how each kind of socket is opened, received from and closed |
//! | `stop` | the end of a shard |
//! | `warnings` | what is logged once |
//! | `priority` | how urgent the thread is to the kernel |
//! | `ring` | io_uring, and nothing else knows it |

mod actions;
mod arrivals;
mod build;
mod connections;
mod dispatch;
mod entries;
pub mod inbox;
mod messages;
pub mod priority;
pub mod questions;
pub mod ring;
mod send;
pub mod sockets;
mod stop;
#[cfg(test)]
mod tests;
mod turn;
mod warnings;

pub use build::{Shard, ShardConfig};
