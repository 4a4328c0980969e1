//! Configuration of a path, as the rules of its owner and the limits of its readers.

use std::sync::Arc;
use std::time::Duration;

use crate::config::paths::{PathConfig, StartConfig};
use crate::live::core::limits::{IDLE_CLOSE, RING_HISTORY};
use crate::live::core::message::{PathRules, SourceKind};
use crate::live::core::path::PathLimits;
use crate::live::core::ring::RingLimits;
use crate::live::core::start::StartPolicy;
use crate::session::cx::Cx;

impl Cx {
    /// The configuration of a path.
    pub(crate) fn path_config(&self, path: &str) -> &Arc<PathConfig> {
        self.configs.find(path)
    }

    /// The rules of a path for its owner.
    pub(crate) fn path_rules(&self, path: &str) -> Arc<PathRules> {
        Arc::new(rules(self.path_config(path)))
    }

    /// The limits of a path's readers.
    pub(crate) fn path_limits(&self, path: &str) -> PathLimits {
        limits(self.path_config(path))
    }
}

/// The rules for a path's owner, from the configuration.
pub(crate) fn rules(config: &PathConfig) -> PathRules {
    let kind = match (config.is_fetched(), config.on_demand) {
        (false, _) => SourceKind::Publish,
        (true, true) => SourceKind::OnDemand,
        (true, false) => SourceKind::Always,
    };
    PathRules {
        kind,
        // A fetched path has one source; `override` may come from the section for all paths.
        may_override: config.may_override && kind == SourceKind::Publish,
        hold: config.hold,
        // The shard of the last reader has kept the path for the rest of that time.
        idle_close: config.idle_close.saturating_sub(linger(config)),
        ring: ring_limits(config),
    }
}

/// The limits of a path's readers, from the configuration.
pub(crate) fn limits(config: &PathConfig) -> PathLimits {
    PathLimits {
        ring: ring_limits(config),
        lag_budget: config.lag_budget,
        readers_max: config.readers_max,
        linger: linger(config),
    }
}

fn ring_limits(config: &PathConfig) -> RingLimits {
    // The latest reader that is allowed finds its packets, and those that it asks for again.
    let history = RING_HISTORY.max(config.lag_budget.saturating_mul(2));
    RingLimits { bytes_max: config.ring_bytes, history }
}

/// How long a shard keeps a path without readers: at most as long as a source on demand may be
/// idle.
fn linger(config: &PathConfig) -> Duration {
    let is_on_demand = config.is_fetched() && config.on_demand;
    if is_on_demand { config.idle_close.min(IDLE_CLOSE) } else { IDLE_CLOSE }
}

/// Where readers of a path start.
pub(crate) fn start_policy(config: &PathConfig) -> StartPolicy {
    match config.start {
        StartConfig::Gop => StartPolicy::Gop,
        StartConfig::Live => StartPolicy::Live,
    }
}
