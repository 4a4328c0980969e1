//! Edges of io_uring that the dice bring about: what real kernels rarely do.
//!
//! ```text
//!  enter --takes all, or some whole chains--> operations --started, or cancelled at once
//!        <-- as many completions as the queue has room for; the others are kept back
//! ```

use super::abi::Op;
use super::network::Net;
use crate::dice::Dice;

/// What io_uring rarely does; chances in a thousand (DESIGN section 6.13).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edges {
    /// Room of the completion queue.
    pub(crate) completions: usize,
    /// Operations that the kernel cancels by itself.
    pub(crate) cancelled: u32,
    /// Receives that find no buffer although there are some.
    pub(crate) no_buffer: u32,
    /// Operations with many completions that end without an error.
    pub(crate) ended: u32,
    /// Calls that do not take all operations.
    pub(crate) refused: u32,
    /// Files that the kernel has no memory to take or to let go of, and operations that it has
    /// none to cancel.
    pub(crate) no_memory: u32,
}

impl Edges {
    /// A kernel that does what it is asked for.
    pub(crate) const NONE: Self = Self {
        completions: usize::MAX,
        cancelled: 0,
        no_buffer: 0,
        ended: 0,
        refused: 0,
        no_memory: 0,
    };

    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        Self {
            completions: dice.pick(&[1, 4, 32, usize::MAX, usize::MAX]),
            cancelled: dice.pick(&[0, 5, 50]),
            no_buffer: dice.pick(&[0, 50, 300]),
            ended: dice.pick(&[0, 50, 500]),
            refused: dice.pick(&[0, 10, 100]),
            no_memory: dice.pick(&[0, 20, 100]),
        }
    }
}

impl Net {
    /// Number of operations that the kernel takes of those that a shard has queued: all, or some
    /// whole chains.
    pub(super) fn taken_count(&mut self, shard: usize) -> usize {
        let count = self.machines[shard].queue.len();
        if count == 0 || !self.dice.chance(self.weather.edges.refused) {
            self.machines[shard].is_refusing = false;
            return count;
        }
        self.watch.count("edge.refused");
        self.note("refused", shard as u64, count as u64);
        let most = self.dice.index(count);
        let machine = &mut self.machines[shard];
        machine.is_refusing = true;
        machine.counts.refusals += 1;
        let last_end = machine.queue.iter().take(most).rposition(|(_, links_next)| !links_next);
        last_end.map_or(0, |place| place + 1)
    }

    pub(super) fn has_no_memory(&mut self) -> bool {
        let has_none = self.dice.chance(self.weather.edges.no_memory);
        if has_none {
            self.watch.count("edge.no memory");
        }
        has_none
    }

    /// Whether the kernel cancels an operation by itself.
    pub(super) fn is_cancelled(&mut self, op: Op) -> bool {
        let may_be = !matches!(op, Op::CancelAll | Op::CancelFile | Op::Connect);
        let is_cancelled = may_be && self.dice.chance(self.weather.edges.cancelled);
        if is_cancelled {
            self.watch.count("edge.cancelled");
        }
        is_cancelled
    }

    /// Whether an operation with many completions ends with the next one: by the dice, or because
    /// the completion queue has no room.
    pub(super) fn is_ended(&mut self, shard: usize) -> bool {
        let is_ended = self.dice.chance(self.weather.edges.ended);
        if is_ended {
            self.watch.count("edge.ended");
        }
        is_ended || !self.machines[shard].has_room()
    }
}
