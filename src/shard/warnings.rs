//! Warnings that a shard logs once each, however often their cause occurs.
//!
//! Bound: the codes in the program.

use std::collections::HashSet;
use std::fmt::Display;

use crate::base::ids::ShardId;

/// The warnings that a shard has logged, by their codes.
#[derive(Debug)]
pub(super) struct Warnings {
    shard: ShardId,
    logged: HashSet<&'static str>,
}

impl Warnings {
    pub(super) fn new(shard: ShardId) -> Self {
        Self { shard, logged: HashSet::new() }
    }

    /// Logs `what` with its code and the detail of its first occurrence.
    pub(super) fn once(&mut self, code: &'static str, what: &'static str, detail: &dyn Display) {
        if self.logged.insert(code) {
            tracing::warn!(code, shard = self.shard.0, %detail, "{what}");
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.logged.len()
    }
}
