//! Warnings that a shard logs once each, however often their cause occurs.
//!
//! Bound: the texts in the code.

use std::collections::HashSet;
use std::fmt::Display;

use crate::base::ids::ShardId;

/// See the module.
#[derive(Debug)]
pub(super) struct Warnings {
    shard: ShardId,
    logged: HashSet<&'static str>,
}

impl Warnings {
    pub(super) fn new(shard: ShardId) -> Self {
        Self { shard, logged: HashSet::new() }
    }

    /// Logs `what` with the detail of its first occurrence.
    pub(super) fn once(&mut self, what: &'static str, detail: &dyn Display) {
        if self.logged.insert(what) {
            tracing::warn!(shard = self.shard.0, %detail, "{what}");
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.logged.len()
    }
}
