//! Configuration of a shard's paths, at the start and after a reload.
//!
//! ```text
//!  table --> paths with their owner here --Configure--> owners whose rules have changed
//!        --> paths with readers here    --limits-----> paths whose limits have changed
//!        --> paths that are fetched always, of owners here --Open-->
//! ```
//! Invariant: a path with unchanged configuration is left alone, and so are its readers. Present
//! publishers go on: `publish` is checked when a publisher begins. DESIGN section 5.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::config::paths::{PathConfig, PathTable};
use crate::config::source::SourceAddress;
use crate::live::config::{limits, rules};
use crate::live::core::groups::{GroupPool, MulticastError, MulticastSettings};
use crate::live::core::message::{OwnerRequest, SourceKind, owner_of};
use crate::live::core::registry::Registry;
use crate::live::front::Live;
use crate::session::cx::Cx;

impl Live {
    /// Applies a new table of configured paths.
    pub fn configure_paths(&mut self, cx: &mut Cx, new: Arc<PathTable>) {
        let old = std::mem::replace(&mut cx.configs, Arc::clone(&new));
        cx.configs_count += 1;
        let names: Vec<Arc<str>> = self.hub.registry.names().cloned().collect();
        for path in names {
            let (before, after) = (old.find(&path), new.find(&path));
            if before != after {
                let lists = [old.source_paths(&path), new.source_paths(&path)];
                let is_relay = lists.iter().all(|list| !list.is_empty());
                // Another list of sources is no other source: the relay goes on with it.
                let is_other_source = match is_relay {
                    true => relay_rules(before) != relay_rules(after),
                    false => is_other_source(before, after),
                };
                let rules = Arc::new(rules(after));
                self.hub.request(&path, OwnerRequest::Configure { rules, is_other_source });
                if is_relay && !is_other_source {
                    self.sources.relist_relay(cx, &mut self.hub, &path);
                }
            }
        }
        self.hub.paths.set_limits(|path| limits(new.find(path)));
        for (path, config) in &new.named {
            let rules = rules(config);
            let is_here = owner_of(path, self.hub.shard_count) == cx.shard;
            if is_here && rules.kind == SourceKind::Always {
                self.hub
                    .request(&path.as_str().into(), OwnerRequest::Open { rules: Arc::new(rules) });
            }
        }
        self.sources.configure_playlists(cx, &mut self.hub, &old);
        self.settle_live(cx);
    }

    /// Enables multicast: to be called before there are any paths.
    ///
    /// # Errors
    /// The range or the ports are not usable for multicast.
    pub fn offer_groups(
        &mut self,
        settings: MulticastSettings,
        shard: ShardId,
    ) -> Result<(), MulticastError> {
        let pool = GroupPool::of(&settings, shard, self.hub.shard_count)?;
        self.hub.registry = Registry::new(Some(pool));
        self.hub.multicast = Some(settings);
        Ok(())
    }
}

/// Whether the source or its transport has changed.
fn is_other_source(before: &PathConfig, after: &PathConfig) -> bool {
    let is_rtsp = matches!(after.source, SourceAddress::Rtsp(_));
    before.source != after.source
        || before.fallback != after.fallback
        || before.is_playlist() != after.is_playlist()
        || before.lineup.is_empty() != after.lineup.is_empty()
        || is_rtsp && before.source_transport != after.source_transport
        || is_rtsp && before.source_tls != after.source_tls
}

/// What a relay reads when it begins.
fn relay_rules(config: &PathConfig) -> (bool, [Duration; 2], Option<Duration>) {
    let times = [config.return_after, config.switch_interval];
    (config.standby, times, config.source_timeout)
}
