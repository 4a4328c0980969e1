//! Room for a parcel: rows of the table, and sockets of its home.
//!
//! Invariant: a socket of another shard is open for as long as a session here sends by it.

use super::Parcel;
use crate::base::ids::ShardId;
use crate::session::handover::MoveRefusal;
use crate::shard::ring::kernel::Kernel;
use crate::shard::sockets::UdpPair;
use crate::shard::state::Shard;

impl<K: Kernel> Shard<K> {
    /// Whether the parcel's descriptors have places. Sockets of its home are opened here.
    pub(super) fn make_room_for(&mut self, parcel: &Parcel) -> Result<(), MoveRefusal> {
        let rows = 1 + 2 * parcel.files.pairs.len();
        let count = self.net.entries.table.count();
        if count + rows > self.net.entries.table.entries_max() || !self.net.ring.has_room(rows) {
            return Err(MoveRefusal::Full);
        }
        if parcel.home == self.id {
            return Ok(());
        }
        for (place, sockets) in &parcel.files.pairs {
            let home = (parcel.home, *place);
            if self.sessions.cx.sockets.foreign(home).is_some() {
                continue;
            }
            let opened = self.net.add_foreign_pair(&mut self.sessions, sockets, home);
            opened.map_err(|_| MoveRefusal::Full)?;
        }
        Ok(())
    }

    /// Closes sockets that were opened for a parcel and by which no session sends.
    pub(super) fn close_unused_pairs(&mut self, home: ShardId, pairs: &[(u16, UdpPair)]) {
        for (place, _) in pairs {
            if let Some(pair) = self.sessions.cx.sockets.foreign((home, *place)) {
                self.net.close_pair(&mut self.sessions, pair);
            }
        }
    }
}
