//! The owner of a path, as a record.

use std::sync::Arc;

use crate::base::time::Mono;
use crate::live::core::batch::Generation;
use crate::live::core::description::Description;
use crate::live::core::limits::PULL_START_MAX;
use crate::live::core::message::{PathRules, SourceKind};
use crate::live::core::path::{LivePath, PathLimits};
use crate::live::core::paths::{Entry, LivePaths, SetsWait};
use crate::live::core::registry::owner::{PathOwner, State};
use crate::live::core::registry::{Effect, Registry};
use crate::live::core::ring::BatchRing;
use crate::live::core::takeover::feed::ring_of;
use crate::live::core::takeover::{TakenOwner, TakenPath};
use crate::takeover::live::OwnerRecord;

/// What an owner here knows of its path.
#[derive(Debug)]
pub struct OwnedPath<'a> {
    /// Number of the source.
    pub generation: Generation,
    /// Its description.
    pub description: &'a Arc<Description>,
    /// Its newest packets.
    pub ring: &'a BatchRing,
    /// The rest.
    pub record: OwnerRecord,
}

impl Registry {
    /// What is known of a path; `None`: it has neither a source nor readers that wait for one.
    #[must_use]
    pub fn owned(&self, path: &str) -> Option<OwnedPath<'_>> {
        let owner = self.owners.get(path)?;
        let hold_until = match owner.state {
            State::Empty => return None,
            State::Fed(_) => None,
            State::Held => owner.hold_until,
        };
        Some(OwnedPath {
            generation: owner.generation,
            description: owner.description.as_ref()?,
            ring: &owner.ring,
            record: OwnerRecord {
                sources_seen: owner.sources_seen,
                batches: owner.batches,
                hold_until_ns: hold_until.map(|until| until.0),
            },
        })
    }

    /// Takes a path in that another process has told.
    pub fn take_in(&mut self, taken: &TakenPath, rules: Arc<PathRules>, now: Mono) {
        let Some(owned) = &taken.owner else { return };
        let mut owner = PathOwner::new(Arc::clone(&taken.name), &rules);
        owner.generation = taken.generation;
        owner.description = Some(Arc::clone(&taken.description));
        owner.ring = ring_of(taken, rules.ring, now);
        owner.listeners.clone_from(&owned.listeners);
        let TakenOwner { sources_seen, batches, hold_until, .. } = *owned;
        (owner.sources_seen, owner.batches, owner.heard) = (sources_seen, batches, now);
        match taken.source {
            Some(source) => {
                owner.state = State::Fed(source);
                owner.watch_leases(now, &mut self.out);
            }
            None if owned.listeners.is_empty() => return,
            None => {
                // Its source was well, and is fetched anew: a camera takes its time, and may refuse
                // a second client before the first one has left.
                let until = hold_until.unwrap_or(now + rules.hold);
                let until = match rules.kind {
                    SourceKind::Publish => until,
                    SourceKind::Always | SourceKind::OnDemand => until.max(now + PULL_START_MAX),
                };
                (owner.state, owner.hold_until) = (State::Held, Some(until));
                self.out.push(Effect::Timer(Arc::clone(&taken.name), until));
            }
        }
        // Grants are counted over all paths of the registry.
        self.generation = self.generation.max(taken.generation);
        self.owners.insert(Arc::clone(&taken.name), owner);
    }
}

impl LivePaths {
    /// Takes a path in that another process has told, as one that the shard listens to.
    pub fn take_in(&mut self, taken: &TakenPath, limits: PathLimits, now: Mono) {
        let place = self.enter(LivePath::of_taken(taken, limits, now));
        let here = Entry::Here { place, wanted: now, sets: SetsWait::default() };
        self.entries.insert(Arc::clone(&taken.name), here);
    }
}
