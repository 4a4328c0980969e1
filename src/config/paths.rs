//! Live paths in the configuration: what each may do, and which words are for which path.
//!
//! ```text
//!  [path."live/cam1"]     one path
//!  [path."*"]             every other one
//! ```
//! Invariant: every path has a configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::source::SourceAddress;

/// How a fetched source sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceTransport {
    /// UDP, and TCP when that is refused or nothing comes.
    #[default]
    Auto,
    /// UDP.
    Udp,
    /// Interleaved with its RTSP connection.
    Tcp,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartConfig {
    /// At the newest sync sample that is kept.
    #[default]
    Gop,
    /// At the next one.
    Live,
}

/// What the configuration says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathConfig {
    /// Where its packets come from.
    pub source: SourceAddress,
    /// How they are to be sent, when they are fetched by RTSP.
    pub source_transport: SourceTransport,
    /// A source is fetched when a reader wants it, not always.
    pub on_demand: bool,
    /// How long a source on demand lives without readers.
    pub idle_close: Duration,
    /// How long readers wait for a source that has gone.
    pub hold: Duration,
    /// A second publisher takes the path from the first.
    pub may_override: bool,
    /// Where readers begin.
    pub start: StartConfig,
    /// How late a reader may be before it skips.
    pub lag_budget: Duration,
    /// Memory of what is kept of it, on each shard that has readers.
    pub ring_bytes: usize,
    /// Readers on each shard at most.
    pub readers_max: usize,
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            source: SourceAddress::Publish,
            source_transport: SourceTransport::Auto,
            on_demand: false,
            idle_close: Duration::from_secs(10),
            hold: Duration::from_secs(10),
            may_override: false,
            start: StartConfig::Gop,
            lag_budget: Duration::from_secs(2),
            ring_bytes: 32 << 20,
            readers_max: 16_384,
        }
    }
}

/// All that is configured of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathTable {
    /// Those that are named.
    pub named: BTreeMap<String, Arc<PathConfig>>,
    /// All others.
    pub others: Arc<PathConfig>,
}

impl PathTable {
    /// What is said of a path.
    #[must_use]
    pub fn find(&self, path: &str) -> &Arc<PathConfig> {
        self.named.get(path).unwrap_or(&self.others)
    }
}
