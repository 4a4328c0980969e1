//! Sources that we fetch: what a home orders, handed to those who can.
//!
//! ```text
//!  StartPull --configuration--> rtsp: a client   |   udp, file: sockets that listen
//!  both --Claim--> home --Granted--> packets --Feed-->   ...   Release | PullFailed
//! ```
//! Invariant: an order to start ends in a claim or in `PullFailed`. DESIGN section 5.6.

use std::sync::Arc;
use std::time::Duration;

use super::publisher::{Publisher, PublisherState, Way};
use super::pull::PullPlan;
use crate::config::paths::{PathConfig, StartConfig};
use crate::config::source::SourceAddress;
use crate::live::limits::{IDLE_CLOSE, RING_HISTORY};
use crate::live::message::{Ask, PathRules, RefusedError, SourceKind};
use crate::live::path::PathLimits;
use crate::live::ring::RingLimits;
use crate::live::start::StartPolicy;
use crate::session::table::Sessions;

impl Sessions {
    /// What is configured of a path.
    pub(super) fn path_config(&self, path: &str) -> &Arc<PathConfig> {
        self.cx.configs.find(path)
    }

    /// What its home is told of that.
    pub(super) fn path_rules(&self, path: &str) -> Arc<PathRules> {
        Arc::new(rules(self.path_config(path)))
    }

    /// What its readers are allowed.
    pub(super) fn path_limits(&self, path: &str) -> PathLimits {
        limits(self.path_config(path))
    }

    /// A home here orders its source.
    pub(super) fn start_fetch(&mut self, path: &Arc<str>) {
        if self.live.is_stopping {
            return;
        }
        let config = Arc::clone(self.path_config(path));
        match config.source {
            SourceAddress::Rtsp(ref url) => {
                let (url, transport) = (url.clone(), config.source_transport);
                self.start_pull(path, PullPlan { url, transport, worked: None });
            }
            SourceAddress::Udp(ref source) => self.start_udp_input(path, source),
            SourceAddress::Sdp(ref file) => self.start_described_input(path, file),
            SourceAddress::Publish => {
                let reason = "it is not fetched".to_owned();
                self.live.ask(path, Ask::PullFailed { reason });
            }
        }
    }

    /// The path is a fetched source's: its packets may come.
    pub(super) fn go_on_fetching(&mut self, number: u32) {
        let now = self.cx.now;
        let Some(publisher) = self.live.publishers.get_mut(&number) else { return };
        if let PublisherState::Announced(generation) = publisher.state {
            publisher.source.grant(generation, now);
            match publisher.way {
                // Its tracks are to be set up before: only then the transport is known.
                Way::Pulled => self.handle_pull_granted(number),
                Way::Announced { .. } | Way::Input => {
                    publisher.state = PublisherState::Recording(generation);
                    self.note_source_up(number);
                }
            }
        }
    }

    /// The path is not for what was fetched.
    pub(super) fn fetch_refused(&mut self, number: u32, why: RefusedError) {
        self.forget_publisher(number);
        self.handle_pull_refused(number, why);
    }

    /// A home here wants its source no more.
    pub(super) fn stop_fetch(&mut self, path: &Arc<str>) {
        self.stop_pull(path);
        let is_it =
            |publisher: &Publisher| publisher.id().is_none() && publisher.source.path() == path;
        let found = self.live.publishers.iter().find(|(_, publisher)| is_it(publisher));
        if let Some(number) = found.map(|(number, _)| *number) {
            self.forget_publisher(number);
        }
        self.stop_input(path);
    }
}

/// What a path's home is told of its configuration.
pub(super) fn rules(config: &PathConfig) -> PathRules {
    let kind = match (config.source.is_fetched(), config.on_demand) {
        (false, _) => SourceKind::Publish,
        (true, true) => SourceKind::OnDemand,
        (true, false) => SourceKind::Always,
    };
    PathRules {
        kind,
        // Of a fetched source there is one; the word may come from the section for all.
        may_override: config.may_override && kind == SourceKind::Publish,
        hold: config.hold,
        // The shard whose last reader left has kept it for the rest of that time.
        idle_close: config.idle_close.saturating_sub(linger(config)),
        ring: ring_limits(config),
    }
}

/// What readers of a path are allowed.
pub(super) fn limits(config: &PathConfig) -> PathLimits {
    PathLimits {
        ring: ring_limits(config),
        lag_budget: config.lag_budget,
        readers_max: config.readers_max,
        linger: linger(config),
    }
}

fn ring_limits(config: &PathConfig) -> RingLimits {
    // A reader that is as late as it may be finds its packets, and those that it asks for again.
    let history = RING_HISTORY.max(config.lag_budget.saturating_mul(2));
    RingLimits { bytes_max: config.ring_bytes, history }
}

/// How long a shard keeps a path without readers. A source on demand must not outlive its idle
/// time by that.
fn linger(config: &PathConfig) -> Duration {
    let is_on_demand = config.source.is_fetched() && config.on_demand;
    if is_on_demand { config.idle_close.min(IDLE_CLOSE) } else { IDLE_CLOSE }
}

/// Where readers of a path begin.
pub(super) fn start_policy(config: &PathConfig) -> StartPolicy {
    match config.start {
        StartConfig::Gop => StartPolicy::Gop,
        StartConfig::Live => StartPolicy::Live,
    }
}
