//! Live paths: packets of one source are sent to any number of readers, on any number of shards.
//!
//! ```text
//!  ANNOUNCE SETUP RECORD --> sources --RTP--> core: source --Feed--> owner of the path
//!  DESCRIBE SETUP PLAY   --> readers <------- core: path   <-Batch-----'
//! ```
//! | room | what is there |
//! |---|---|
//! | `core` | decisions: plain code without RTSP, sessions or addresses |
//! | `readers` | sessions that packets are sent to: DESCRIBE, SETUP, PLAY, PAUSE, feedback |
//! | `sources` | publishers, cameras that are pulled, inputs that listen, relays |
//! | `multicast` | members of a path's group, and the sender to the group |
//! | `front` | `Live`: carries requests to the owners of paths, and their effects back |
//! | `hub` | state that readers and sources share: the paths, the requests |
//! | `config`, `configure` | configuration of paths |
//! | `playlist` | playlists, as operators ask for them |
//! | `tick`, `renew` | periodic work; repetition of messages that may be lost |
//! | `stop` | the end of all sessions, when the server stops |
//! | `takeover` | paths that another process takes over, with `takeover` of the rooms above |
//! | `view`, `pages` | figures of paths: metrics, API |
//!
//! A command for a path that is not here yet is held, and executed again when the owner has
//! answered. DESIGN section 5.

mod config;
mod configure;
pub mod core;
mod failover;
pub mod front;
pub mod hub;
pub mod multicast;
mod pages;
mod playlist;
pub mod readers;
mod renew;
pub mod sources;
mod stop;
pub mod takeover;
#[cfg(test)]
mod tests;
mod tick;
mod view;
