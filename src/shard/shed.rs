//! Sessions that a busy shard gives to another one.
//!
//! `appliance::balance` says how many, and to which shard. Sessions are looked at in the order of
//! their ids, from where the last look ended, so that each has its turn. Bound: `LOOKS_MAX`.

use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::ids::ShardId;
use crate::consumers::parcel::Unit;

impl<K: Kernel> Shard<K> {
    /// Begins to move some sessions that play to another shard.
    pub(super) fn shed(&mut self, to: ShardId, count: usize) {
        let mut left = count;
        let behind = self.sessions.cx.directory.behind(self.moves.shed_behind);
        let some: Vec<_> = behind.take(LOOKS_MAX).collect();
        let are_all = some.len() < LOOKS_MAX;
        for (id, session) in some {
            if left == 0 {
                return;
            }
            self.moves.shed_behind = Some(id);
            let can_move = |shard: &mut Self| {
                shard.check_move(id, to).is_ok_and(|(_, unit)| !shard.is_slow(&unit))
            };
            if self.sessions.plays(session) && can_move(self) {
                left -= 1;
                self.begin_move(id, to, Box::new(|_| {}));
            }
        }
        if are_all {
            self.moves.shed_behind = None;
        }
    }

    /// Whether a send to the client is under way: one that takes its time would be frozen in vain.
    fn is_slow(&self, unit: &Unit) -> bool {
        let link = unit.connection.and_then(|key| self.net.entries.link(key));
        link.is_some_and(|link| link.is_sending)
    }
}

/// Sessions that are looked at for some that can move.
const LOOKS_MAX: usize = 256;
