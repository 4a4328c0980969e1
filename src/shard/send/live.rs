//! Sends to readers of live paths: the shard's side of `live::core::pump`.
//!
//! ```text
//!  live::core::pump --UDP--> RingSink --> ring --RunSent--> counted
//!      ^    `---TCP--> connection is dirty --> its next send
//!      `-- the reader is woken <-- refused --'
//! ```

use super::sink::RingSink;
use crate::base::sink::Gathered;
use crate::consumers::sessions::Sessions;
use crate::live::core::pump::{self, BatchFrames, Fed, LivePump, LiveRunMark};
use crate::live::core::reader::To;
use crate::live::front::Live;
use crate::metrics::cells::ShardCells;
use crate::session::directory::SessionRef;
use crate::shard::network::Network;
use crate::shard::ring::SendFailure;
use crate::shard::ring::kernel::Kernel;

impl<K: Kernel> Network<K> {
    /// Pumps the readers that have packets due.
    pub(in crate::shard) fn pump_live(&mut self, sessions: &mut Sessions) {
        if std::mem::take(&mut sessions.live.hub.is_ready) {
            sessions.live.hub.paths.list_all();
        }
        if sessions.live.hub.paths.listed_count() == 0 {
            return;
        }
        let mut left = std::mem::take(&mut self.live_left);
        let Self { ring, runs, pairs, srtp, cells, .. } = self;
        let now = sessions.cx.now;
        let Sessions { cx, live: Live { hub, readers, .. }, .. } = sessions;
        let mut sink = RingSink { ring, runs, pairs, srtp };
        LivePump::new(&mut sink, cells, &mut left, now).pump(&mut hub.paths);
        left.begun.drain(..).for_each(|begun| readers.note_begun(begun));
        for (owner, due) in left.wakes.drain(..) {
            readers.wake_reader(cx, u32::try_from(owner).unwrap_or(u32::MAX), due);
        }
        for owner in left.interleaved.drain(..) {
            let reader = usize::try_from(owner).ok().and_then(|index| readers.table.get(index));
            if let Some(entry) = reader.and_then(|reader| reader.client.connection) {
                self.entries.mark_dirty(entry);
            }
        }
        self.live_left = left;
    }

    /// Handles the failure of a run to a reader: the packets are sent again or lost.
    pub(in crate::shard) fn handle_live_run_refused(
        &mut self,
        sessions: &mut Sessions,
        mark: &LiveRunMark,
        error: &SendFailure,
    ) {
        let Some(owner) = pump::deny(&mut sessions.live.hub.paths, mark) else { return };
        let is_again = match error {
            SendFailure::Again | SendFailure::Cancelled => true,
            SendFailure::TooLarge => match pump::to(&mut sessions.live.hub.paths, mark) {
                To::Datagrams { pair, .. } => self.allow_fragments_on(sessions, pair),
                To::Channel(_) | To::Nowhere => false,
            },
            SendFailure::Closed
            | SendFailure::Fault
            | SendFailure::Unreachable(_)
            | SendFailure::Other(_) => false,
        };
        if !is_again {
            // The packets are lost, like any others on the network.
            self.cells.send_errors.add(1);
            self.warn_of_lost_packets(error);
            return;
        }
        self.cells.send_again.add(1);
        let Sessions { cx, live, .. } = sessions;
        if let Some(due) = pump::put_back(&mut live.hub.paths, mark, cx.now) {
            live.readers.wake_reader(cx, u32::try_from(owner).unwrap_or(u32::MAX), due);
        }
    }
}

/// Gathers the packets that are due to the readers among a connection's sessions. True: the send
/// has no room for all of them, and the rest goes with the next send.
pub(in crate::shard) fn gather_live(
    sessions: &mut Sessions,
    cells: &ShardCells,
    send: &mut impl BatchFrames,
    on_connection: &[SessionRef],
    gathered: &mut Gathered,
) -> bool {
    let now = sessions.cx.now;
    let mut has_more = false;
    for session in on_connection {
        let SessionRef::Reader(index) = *session else { continue };
        let Live { hub, readers, .. } = &mut sessions.live;
        let Some(key) = readers.table.get(index as usize).map(|reader| reader.key) else {
            continue;
        };
        let mut note = |begun| readers.note_begun(begun);
        match pump::gather(&mut hub.paths, key, (cells, now), send, gathered, &mut note) {
            Fed::Until(Some(due)) => readers.wake_reader(&mut sessions.cx, index, due),
            Fed::Until(None) => {}
            Fed::NoRoom => has_more = true,
        }
    }
    has_more
}
