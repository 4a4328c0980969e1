//! A shard that is drained: the end of the sessions that are left at the deadline.
//!
//! ```text
//!  Drain(order) --> no new sessions --deadline--> sessions end, some a turn --> none is left
//! ```
//! Bound: `SESSIONS_ENDED_A_TURN`.

use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::time::Mono;
use crate::session::draining::{Drain, DrainOrder, SESSIONS_ENDED_A_TURN};

impl<K: Kernel> Shard<K> {
    /// Begins to drain, goes on by another order, or serves again.
    pub(super) fn drain(&mut self, order: Option<DrainOrder>) {
        let cx = &mut self.sessions.cx;
        cx.drain = order.map(|order| Drain::new(order, cx.now));
        self.cells.draining.set(u64::from(cx.drain.is_some()));
    }

    /// When sessions end because the shard is drained; `None`: there is nothing to be ended.
    pub(super) fn drain_due(&self) -> Option<Mono> {
        let drain = self.sessions.cx.drain.as_ref().filter(|_| !self.phase.is_stopping())?;
        drain.deadline().filter(|_| !self.sessions.cx.directory.is_empty())
    }

    /// Ends sessions that are left at the deadline, as many as a turn has room for.
    pub(super) fn end_drained_sessions(&mut self) {
        if self.drain_due().is_none_or(|due| due > self.sessions.cx.now) {
            return;
        }
        let sessions = self.sessions.cx.directory.behind(None).take(SESSIONS_ENDED_A_TURN);
        let ids: Vec<_> = sessions.map(|(id, _)| id).collect();
        for id in ids {
            self.sessions.end_session(id, "ended for maintenance");
        }
        self.settle();
    }
}
