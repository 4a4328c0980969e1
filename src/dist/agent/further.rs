//! Further sources of contents: several at once for a few contents of a node.
//!
//! Bound: `HELPED_MAX` contents come from several sources at a time, because bytes ahead of a gap
//! are in memory.

use super::{Action, Agent, Delivery};
use crate::base::time::Mono;
use crate::dist::fetch::Fetch;
use crate::dist::ids::{ContentId, Epoch};
use crate::dist::wire::agent::Source;

impl Agent {
    /// Keeps what a plan proposes, unless it is an old one.
    pub(super) fn note_further(&mut self, content: ContentId, epoch: Epoch, further: Vec<Source>) {
        let is_old = self.plans.get(&content).is_some_and(|(known, _)| epoch < *known);
        if is_old {
            return;
        }
        if further.is_empty() {
            self.further.remove(&content);
        } else if self.further.len() < NOTED_MAX || self.further.contains_key(&content) {
            self.further.insert(content, further);
        }
    }

    /// A content that is on its way may come from these, too.
    pub(super) fn use_further(&mut self, content: ContentId, now: Mono, out: &mut Vec<Action>) {
        let fetching = self.fetching.iter().filter_map(|key| self.deliveries.get(key));
        let is_helped = |it: &&Delivery| {
            it.content != Some(content) && it.fetch.as_ref().is_some_and(Fetch::may_have_further)
        };
        if fetching.filter(is_helped).count() >= HELPED_MAX {
            return;
        }
        let mut sources = self.further.get(&content).cloned().unwrap_or_default();
        let capability = self.plans.get(&content).and_then(|(_, plan)| plan.first());
        let Some(capability) = capability.map(|source| source.capability.clone()) else { return };
        sources.retain(|source| !self.edges.is_barred(source, now));
        for source in &mut sources {
            source.capability.clone_from(&capability);
        }
        self.with_fetch(content, now, out, |fetch, _| fetch.handle_further(sources, now));
    }
}

/// Contents that come from several sources at once.
const HELPED_MAX: usize = 4;
/// Contents whose further sources are kept.
const NOTED_MAX: usize = 1_024;
