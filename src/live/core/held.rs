//! Memory that packets of live paths take in the whole process.
//!
//! ```text
//!  batch built --Held--> counted .. last reader, ring and message let go of it --> counted out
//! ```
//! Shards pass on the same blocks, so what each of them keeps says nothing about the sum. While
//! more is held than `limits.live_memory`, nobody may begin to publish, and each ring keeps an
//! eighth of its budget: the newest pictures, without history for late readers.
//! Invariant: a batch is counted from its making until the last `Arc` of it is dropped.

use crate::metrics::cells::LIVE;

/// The memory of one batch.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Held(usize);

impl Held {
    pub(super) fn new(bytes: usize) -> Self {
        LIVE.bytes.add(bytes as u64);
        Self(bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        LIVE.bytes.sub(self.0 as u64);
    }
}

/// What a ring may keep of its own budget.
pub(super) fn budget_of(bytes_max: usize) -> usize {
    if LIVE.is_over() { bytes_max / OVER_SHARE } else { bytes_max }
}

const OVER_SHARE: usize = 8;
