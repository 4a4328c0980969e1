//! A shard: a pinned thread with one ring, one PollTable, its sockets, its sessions and its timers.
//!
//! ```text
//!  a turn:  reap completions -> arrivals to consumers -> inbox -> a question -> timers
//!           -> pump due streams -> flush connections -> enter once
//! ```
//! | file | what is there |
//! |---|---|
//! | `turn` | the loop and its order |
//! | `arrivals` | what has come in and waits for its share of a turn |
//! | `dispatch` | consumers, tasks, messages, actions of the sessions |
//! | `entries` | rows of the PollTable with their descriptors |
//! | `connections` | how RTSP connections end |
//! | `inbox`, `questions` | the pipe from other threads; what the control thread asks, one a turn |
//! | `send` | what is due, over UDP and RTSP connections, and what becomes of it |
//! | `sockets` | how each kind of socket is opened, received from and closed |
//! | `priority` | how urgent the thread is to the kernel |
//! | `ring` | io_uring, and nothing else knows it |

mod arrivals;
mod connections;
mod dispatch;
mod entries;
pub mod inbox;
pub mod priority;
pub mod questions;
pub mod ring;
mod send;
pub mod sockets;
#[cfg(test)]
mod tests;
mod turn;

pub use turn::{Shard, ShardConfig};
