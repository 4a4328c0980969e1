//! What a shard waits for before its sessions are recorded: lists that only become shorter.
//!
//! ```text
//!  Quiet   receives to be ended --> requests at hand, accepts, PLAYs that wait for windows
//!  Freeze  datagrams that are received, sends on connections that go
//! ```
//! Who has been seen to be done stays so: nobody begins anything meanwhile. So a turn looks at
//! those who are left, from the end of a list until one is not done. Whoever records checks each
//! unit all the same.
//! Bound: `LOOKS_A_TURN`.

use crate::poll::poll_table::EntryKey;
use crate::session::directory::SessionRef;

/// What is to end before a shard is quiet.
#[derive(Debug, Default)]
pub(super) struct QuietWaits {
    /// Connections whose receives are still to be ended.
    pub(super) to_end: Vec<EntryKey>,
    pub(super) listeners: Vec<EntryKey>,
    /// Connections with a request at hand, as far as is known.
    pub(super) connections: Vec<EntryKey>,
    /// Sessions with a command under way, as far as is known.
    pub(super) sessions: Vec<SessionRef>,
}

/// What is to end before a shard is frozen.
#[derive(Debug, Default)]
pub(super) struct FreezingWaits {
    /// Sockets at which datagrams were received.
    pub(super) sockets: Vec<EntryKey>,
    /// Connections with a send under way that are recorded when it has ended.
    pub(super) sends: Vec<EntryKey>,
    /// Their sends were cut.
    pub(super) has_cut: bool,
}

/// Takes those off a list that are done, from its end. True: none is left.
pub(super) fn are_done<T: Copy>(list: &mut Vec<T>, mut is_done: impl FnMut(T) -> bool) -> bool {
    for _ in 0..LOOKS_A_TURN {
        match list.last().copied() {
            None => return true,
            Some(last) if is_done(last) => drop(list.pop()),
            Some(_) => return false,
        }
    }
    list.is_empty()
}

/// As many as cost a turn less than a tenth of a millisecond.
pub(super) const LOOKS_A_TURN: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_looked_at_until_it_is_done_and_a_turn_has_its_share() {
        let mut list: Vec<usize> = (0..2 * LOOKS_A_TURN + 1).collect();
        let mut looks = 0;
        let mut look = |list: &mut Vec<usize>, busy: Option<usize>| {
            let all_done = are_done(list, |one| {
                looks += 1;
                Some(one) != busy
            });
            (all_done, list.len(), std::mem::take(&mut looks))
        };
        assert_eq!(look(&mut list, None), (false, LOOKS_A_TURN + 1, LOOKS_A_TURN));
        assert_eq!(look(&mut list, Some(LOOKS_A_TURN - 1)), (false, LOOKS_A_TURN, 2));
        assert_eq!(look(&mut list, Some(LOOKS_A_TURN - 1)), (false, LOOKS_A_TURN, 1));
        assert_eq!(look(&mut list, None), (true, 0, LOOKS_A_TURN));
        assert_eq!(look(&mut list, None), (true, 0, 0));
    }
}
