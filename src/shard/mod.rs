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
//! | `dispatch` | PollTable rows, consumers, tasks, messages, actions of the sessions |
//! | `sink` | the ring as what the pumps send into |
//! | `udp_pump` | what is due over the shared sockets, and what becomes of it |
//! | `tcp_pump` | sends answers and what is due over RTSP connections |
//! | `cameras` | connections to cameras that are pulled from |
//! | `connections`, `peer_state` | how RTSP connections end, and what the kernel knows of clients |
//! | `live_pump` | what is due to readers of live paths, both ways |
//! | `group_sockets` | what groups are sent by, and where their reports come |
//! | `inbox`, `questions` | the pipe from other threads; what the control thread asks, one a turn |
//! | `inputs`, `membership` | sockets of sources that listen, and groups that they join |
//! | `sockets` | how sockets are opened |
//! | `priority` | how urgent the thread is to the kernel |
//! | `resend` | lost packets once more |
//! | `ring` | io_uring, and nothing else knows it |

mod arrivals;
mod cameras;
mod connections;
mod dispatch;
pub mod group_sockets;
pub mod inbox;
mod inputs;
mod live_pump;
mod membership;
mod peer_state;
pub mod priority;
pub mod questions;
mod resend;
pub mod ring;
mod sink;
pub mod sockets;
mod tcp_pump;
#[cfg(test)]
mod tests;
mod turn;
mod udp_pump;

pub use turn::{Shard, ShardConfig};
