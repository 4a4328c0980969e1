//! The parts of a shard.
//!
//! ```text
//!  Shard --- net: ring, sockets, runs in flight    (`network`)
//!        |-- sessions: titles and live paths       (`consumers::sessions`)
//!        |-- inbox, queue, poller: other threads
//!        `-- arrivals, questions, timers: work that waits for its share of a turn
//! ```
//! The methods of `Shard` are in the files of their purpose; `mod.rs` has the list.

use std::collections::VecDeque;
use std::sync::Arc;

use super::arrivals::Arrivals;
use super::inbox::Inbox;
use super::moves::Moves;
use super::network::Network;
use super::phase::Phase;
use super::places::{Dropped, NoRoom};
use super::questions::Questions;
use super::ring::Uring;
use super::ring::kernel::Kernel;
use super::send::tcp::Flushing;
use super::send::tls::Sealing;
use super::takeover::Takeover;
use super::tls::TlsSettings;
use crate::base::addresses::Addresses;
use crate::base::ids::ShardId;
use crate::base::oldest::Oldest;
use crate::base::seldom::Seldom;
use crate::consumers::sessions::Sessions;
use crate::consumers::tunnel::TunnelMessage;
use crate::consumers::tunnel::table::Tunnels;
use crate::metrics::cells::ShardCells;
use crate::poll::poll_table::EntryKey;
use crate::poll::poller::Poller;
use crate::poll::task::Task;
use crate::session::action::{Action, TimerKey};
use crate::worker::TaskQueue;

/// One shard. `build` makes it, `turn` runs it.
#[derive(Debug)]
pub struct Shard<K: Kernel = Uring> {
    pub(super) id: ShardId,
    pub(super) poller: Arc<Poller<Inbox>>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) queue: Arc<TaskQueue>,
    pub(super) cells: Arc<ShardCells>,
    pub(super) net: Network<K>,
    pub(super) sessions: Sessions,
    /// The connection that is flushed; kept for its storage.
    pub(super) flushing: Flushing,
    /// RTCP datagrams that found no free send in the ring: the next turn sends them first.
    pub(super) unsent: Vec<Action>,
    /// Storage that `settle` exchanges with that of `Cx::out`.
    pub(super) spare_actions: Vec<Action>,
    /// Tasks that the queue handed back. `settle` tells their connections before the turn ends.
    pub(super) refused: Vec<(EntryKey, Task)>,
    /// Timer keys that are due; between turns, keys of streams that found no free run.
    pub(super) due: Vec<TimerKey>,
    /// Due keys of other kinds, which wait for their share of a turn.
    pub(super) waiting_timers: VecDeque<TimerKey>,
    pub(super) arrivals: Arrivals,
    pub(super) questions: Questions,
    pub(super) phase: Phase,
    /// Sessions that move to other shards, and from them.
    pub(super) moves: Moves,
    /// Another process that takes over, or from which this one does.
    pub(super) takeover: Takeover,
    pub(super) addresses: Arc<Addresses>,
    /// Tunnels over HTTP whose cookies are known here.
    pub(super) tunnels: Tunnels,
    /// For tables of tunnels whose inboxes were full.
    pub(super) leaves: VecDeque<(ShardId, TunnelMessage)>,
    /// TLS of connections that begin.
    pub(super) tls: TlsSettings,
    /// The record that is filled; kept for its storage.
    pub(super) sealing: Sealing,
    /// Limits the log lines about addresses with too many connections.
    pub(super) refusals_said: Seldom,
    /// The same about connections for which there is no room, by the reason.
    pub(super) no_room_said: [Seldom; NoRoom::COUNT],
    /// Connections without a request.
    pub(super) half_open: Oldest<EntryKey>,
    /// Connections in a handshake of TLS.
    pub(super) handshaking: Oldest<EntryKey>,
    /// Limits the log lines about connections that made room for new ones, by their kind.
    pub(super) drops_said: [Seldom; Dropped::COUNT],
}
