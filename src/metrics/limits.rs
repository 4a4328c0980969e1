//! Limits on what strangers can grow: how much of each is used.
//!
//! ```text
//!  appliance: [Limit] --CellSet--> headend_limit{shard, what}, headend_limit_used{shard, what}
//!                             `--> GET /v1/limits, headend limits
//! ```
//! A limit of a shard has a sample for each shard; one of the process has `shard="all"`. Nothing is
//! kept: what is used is read when it is asked for.

use std::fmt;

use serde::Serialize;

use super::cells::{ShardCells, WorkerCells};
use super::exposition::CellSet;

/// One limit of this process.
pub struct Limit {
    /// What is limited, as the label `what`.
    pub what: &'static str,
    /// The key of the configuration that sets it; empty where it follows from something else.
    pub key: &'static str,
    /// How much there may be.
    pub max: u64,
    /// How much there is.
    pub used: Used,
}

/// Where a limit's use is read.
pub enum Used {
    /// In the cells of each shard, each of which has the limit.
    Shard(fn(&ShardCells) -> u64),
    /// Beside the cells, for each shard by its number.
    Each(Box<dyn Fn(usize) -> u64 + Send + Sync>),
    /// In the cells of the workers.
    Workers(fn(&WorkerCells) -> u64),
    /// Somewhere else in the process.
    Process(Box<dyn Fn() -> u64 + Send + Sync>),
}

/// A limit and what is used of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitState {
    /// What is limited.
    pub what: &'static str,
    /// Of which shard; `None`: of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<usize>,
    /// How much there is.
    pub used: u64,
    /// How much there may be.
    pub limit: u64,
    /// The key of the configuration; empty where it follows from something else.
    pub key: &'static str,
}

/// All limits, and what is used of them now.
#[must_use]
pub fn states(cells: &CellSet) -> Vec<LimitState> {
    let mut states = Vec::new();
    for Limit { what, key, max, used } in cells.limits.iter() {
        let state = |shard, used| LimitState { what, shard, used, limit: *max, key };
        match used {
            Used::Shard(read) => {
                let shards = cells.shards.iter().enumerate();
                states.extend(shards.map(|(shard, cells)| state(Some(shard), read(cells))));
            }
            Used::Each(read) => {
                let shards = 0..cells.shards.len();
                states.extend(shards.map(|shard| state(Some(shard), read(shard))));
            }
            Used::Workers(read) => states.push(state(None, read(&cells.workers))),
            Used::Process(read) => states.push(state(None, read())),
        }
    }
    states
}

impl LimitState {
    /// The label `shard`.
    pub(super) fn shard_label(&self) -> String {
        self.shard.map_or_else(|| "all".to_owned(), |shard| shard.to_string())
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("what", &self.what)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shard(_) => "Shard",
            Self::Each(_) => "Each",
            Self::Workers(_) => "Workers",
            Self::Process(_) => "Process",
        })
    }
}
