//! A shard: a pinned thread with one ring, one PollTable, sockets, sessions and timers.
//!
//! ```text
//!  a turn:  reap completions -> arrivals to consumers -> inbox -> a question -> timers
//!           -> pump due streams -> flush connections -> enter once
//! ```
//! | file | what is there |
//! |---|---|
//! | `state` | what a shard consists of |
//! | `build` | how it is built on its thread |
//! | `network` | the ring with rows, sockets and runs in flight |
//! | `turn` | the loop and its order |
//! | `arrivals` | connections, requests and datagrams that wait for their share of a turn |
//! | `entries` | rows of the PollTable with their descriptors |
//! | `dispatch` | events to consumers |
//! | `actions` | carries out actions of sessions, commands and tasks |
//! | `connections`, `places` | how RTSP connections begin and end, and make room |
//! | `inbox`, `messages` | the pipe from other threads, and how its contents are handled |
//! | `questions` | questions of the control thread, one a turn |
//! | `send` | sends over UDP and RTSP connections, and their results |
//! | `sockets` | how each kind of socket is opened, received from and closed |
//! | `ktls` | TLS in the kernel |
//! | `tls` | TLS of connections that begin |
//! | `tunnels` | messages of tunnels over HTTP |
//! | `drain` | the end of sessions that are left when a drained shard is at its deadline |
//! | `moves` | sessions that move between shards, with their descriptors |
//! | `takeover` | a process that takes over from another one |
//! | `phase`, `stop` | whether a shard serves or stops, and how it ends sessions and connections |
//! | `warnings` | warnings that are logged once |
//! | `held` | what a shard holds, for tests |
//! | `clock` | the clocks |
//! | `priority` | the scheduling priority of the thread |
//! | `ring` | io_uring; no other module knows it. `ring::kernel`: all that is asked of a kernel |

mod actions;
mod arrivals;
mod build;
mod clock;
mod connections;
mod dispatch;
mod drain;
mod entries;
pub mod held;
pub mod inbox;
pub mod ktls;
mod messages;
pub mod moves;
mod network;
mod phase;
mod places;
pub mod priority;
pub mod questions;
pub mod ring;
mod send;
mod shed;
pub mod sockets;
mod state;
mod stop;
pub mod takeover;
#[cfg(test)]
mod tests;
mod tls;
mod tunnels;
mod turn;
mod warnings;

pub use build::ShardConfig;
pub use state::Shard;
pub use tls::TlsSettings;
