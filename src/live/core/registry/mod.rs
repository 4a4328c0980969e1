//! The owners of the paths that a shard owns: source, listening shards and ring of each path.
//!
//! ```text
//!            Claim                  Release, silence
//!  Empty ------------> Fed(gen) ----------------------> Held --Claim--> Fed(gen + 1)
//!    ^                    ^                              | hold is over
//!    |                    |  pulled: Pulling <--retry----+--> readers end, Empty or forgotten
//!    `--------------------+------------'
//! ```
//! Invariants: at most one source feeds a path; a batch of a stale generation is dropped; a shard
//! that listens gets every batch from its snapshot on, once, in order.
//! Bounds: `PATHS_MAX` paths; a shard is in each list of a path once. DESIGN sections 5.1, 5.6.

pub(super) mod owner;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::live::core::batch::Generation;
use crate::live::core::description::Description;
use crate::live::core::groups::{Group, GroupPool};
use crate::live::core::info::OwnerInfo;
use crate::live::core::limits::{LEASE, PATHS_MAX};
use crate::live::core::message::{
    Notification, OwnerRequest, PathRules, RefusedError, SourceRef, ToOwner,
};
use crate::live::core::registry::owner::{PathOwner, State};

/// Effects of the owners, to be applied by the shard in this order.
#[derive(Debug)]
pub enum Effect {
    /// Sends a message to a shard; the owner's own shard gets the message without the inbox.
    Notify {
        /// The shard.
        shard: ShardId,
        /// Name of the path.
        path: Arc<str>,
        /// The message.
        notification: Notification,
    },
    /// Fetches a path: the source claims the path when it is there, or `PullFailed` follows.
    StartPull(Arc<str>),
    /// Stops fetching a path.
    StopPull(Arc<str>),
    /// Sends the path to a multicast group; the group's sender counts as one reader.
    OpenGroup(Arc<str>, Group),
    /// Stops sending the path to its group.
    CloseGroup(Arc<str>, Group),
    /// Calls `handle_timer` for the path at this time.
    Timer(Arc<str>, Mono),
}

/// The owners of one shard: see the module.
#[derive(Debug)]
pub struct Registry {
    /// Sorted by name, because listings go page by page.
    pub(super) owners: BTreeMap<Arc<str>, PathOwner>,
    groups: Option<GroupPool>,
    /// Counter of the grants of all paths, so that batches for an earlier life of a path are stale.
    pub(super) generation: Generation,
    /// Effects that the shard must apply next.
    pub out: Vec<Effect>,
}

impl Registry {
    /// A registry without paths. Without `groups` there is no multicast.
    #[must_use]
    pub fn new(groups: Option<GroupPool>) -> Self {
        Self { owners: BTreeMap::new(), groups, generation: Generation(0), out: Vec::new() }
    }

    /// Handles a message for a path of this shard.
    pub fn handle(&mut self, message: ToOwner, now: Mono) {
        let ToOwner { path, request } = message;
        match request {
            OwnerRequest::Claim { source, description, is_pulled, rules } => {
                if let Err(why) = self.claim(&path, source, description, is_pulled, rules, now) {
                    let notification = Notification::Refused { number: source.number, why };
                    self.out.push(Effect::Notify { shard: source.shard, path, notification });
                }
            }
            OwnerRequest::Open { rules } => {
                if let Ok(mut owner) = self.owner_mut(&path, rules) {
                    owner.start_pull(now);
                    self.collect(&path);
                }
            }
            OwnerRequest::Subscribe { shard, rules } => self.subscribe(path, shard, rules, now),
            OwnerRequest::JoinGroup { shard, serial } => self.join(path, shard, serial, now),
            OwnerRequest::LeaveGroup { shard } => self.leave(&path, shard),
            OwnerRequest::Feed { generation, batch } => {
                self.with(&path, |owner, out| owner.feed(generation, batch, now, out));
            }
            OwnerRequest::Describe { generation, description } => {
                self.with(&path, |owner, out| owner.redescribe(generation, &description, out));
            }
            OwnerRequest::Hold { source, generation, description }
                if self.owners.contains_key(&path) =>
            {
                self.with(&path, |owner, out| {
                    owner.renew_source(source, generation, &description, now, out);
                });
            }
            OwnerRequest::Hold { source, .. } => {
                let notification =
                    Notification::Evicted { number: source.number, is_overridden: false };
                self.out.push(Effect::Notify { shard: source.shard, path, notification });
            }
            OwnerRequest::Listen { shard, generation, description }
                if self.owners.contains_key(&path) =>
            {
                self.with(&path, |owner, out| {
                    owner.renew_listener(shard, generation, &description, out);
                });
            }
            OwnerRequest::Listen { shard, .. } => {
                self.out.push(Effect::Notify { shard, path, notification: Notification::Ended });
            }
            OwnerRequest::Release { generation } => {
                self.with(&path, |owner, out| {
                    if matches!(owner.state, State::Fed(_)) && owner.generation == generation {
                        owner.lose(now, out);
                    }
                });
            }
            OwnerRequest::Configure { rules, is_other_source } => self.with(&path, |owner, out| {
                owner.configure(rules, is_other_source, now, out);
            }),
            OwnerRequest::PullFailed { reason } => {
                self.with(&path, |owner, out| owner.pull_failed(reason, now, out));
            }
            OwnerRequest::Unsubscribe { shard } => {
                self.with(&path, |owner, out| owner.unsubscribe(shard, now, out));
            }
            OwnerRequest::WantSync => self.with(&path, |owner, out| owner.want_sync(now, out)),
            OwnerRequest::Kick => self.with(&path, |owner, out| owner.kick(now, out)),
        }
    }

    /// The time of an `Effect::Timer` has come.
    pub fn handle_timer(&mut self, path: &Arc<str>, now: Mono) {
        let is_gone = |(_, heard): &&(ShardId, Mono)| now.since(*heard) >= LEASE;
        let members = self.owners.get(path).and_then(|owner| owner.group.as_ref());
        let gone: Vec<ShardId> = members
            .map(|(_, members)| members.iter().filter(is_gone).map(|(shard, _)| *shard).collect())
            .unwrap_or_default();
        for shard in gone {
            self.leave(path, shard);
        }
        self.with(path, |owner, out| owner.handle_timer(now, out));
    }

    /// Number of paths.
    #[must_use]
    pub fn count(&self) -> usize {
        self.owners.len()
    }

    /// Names of all paths.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.owners.keys()
    }

    /// Names of the paths after `after`, in order; of all paths without it.
    pub fn names_behind(&self, after: Option<&str>) -> impl Iterator<Item = &Arc<str>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.owners.range::<str, _>((from, Bound::Unbounded)).map(|(name, _)| name)
    }

    /// Whether the path has an owner here.
    #[must_use]
    pub fn knows(&self, path: &str) -> bool {
        self.owners.contains_key(path)
    }

    /// States of all paths, as `OwnerInfo` has them.
    pub fn states(&self) -> impl Iterator<Item = &'static str> {
        self.owners.values().map(PathOwner::shown_state)
    }

    /// Figures of a path.
    #[must_use]
    pub fn info(&self, path: &str) -> Option<OwnerInfo> {
        self.owners.get(path).map(PathOwner::info)
    }

    /// Figures of all paths.
    #[cfg(test)]
    pub(crate) fn infos(&self) -> Vec<OwnerInfo> {
        self.owners.values().map(PathOwner::info).collect()
    }

    /// Calls `act` for a path that exists; a path that is not needed afterwards is forgotten.
    fn with(&mut self, path: &Arc<str>, act: impl FnOnce(&mut PathOwner, &mut Vec<Effect>)) {
        let Some(owner) = self.owners.get_mut(path) else { return };
        act(owner, &mut self.out);
        self.collect(path);
    }

    /// Forgets a path that is not needed.
    fn collect(&mut self, path: &Arc<str>) {
        let Some(owner) = self.owners.get(path) else { return };
        if !owner.is_needed() {
            self.owners.remove(path);
        }
    }

    fn owner_mut(
        &mut self,
        path: &Arc<str>,
        rules: Arc<PathRules>,
    ) -> Result<OwnerAnd<'_>, RefusedError> {
        if !self.owners.contains_key(path) {
            if self.owners.len() >= PATHS_MAX {
                return Err(RefusedError::TooManyPaths);
            }
            self.owners.insert(Arc::clone(path), PathOwner::new(Arc::clone(path), &rules));
        }
        let owner = self.owners.get_mut(path).ok_or(RefusedError::TooManyPaths)?;
        owner.set_rules(rules);
        Ok(OwnerAnd { owner, out: &mut self.out })
    }

    fn claim(
        &mut self,
        path: &Arc<str>,
        source: SourceRef,
        description: Arc<Description>,
        is_pulled: bool,
        rules: Arc<PathRules>,
        now: Mono,
    ) -> Result<(), RefusedError> {
        let known = self.owners.get(path).filter(|owner| owner.state == State::Fed(source));
        if let Some(owner) = known.filter(|owner| owner.describes(&description)) {
            // A repeated claim of the holder: the answer was lost.
            owner.grant_again(source, &mut self.out);
            return Ok(());
        }
        let generation = Generation(self.generation.0.wrapping_add(1));
        self.generation = generation;
        let OwnerAnd { owner, out } = self.owner_mut(path, rules)?;
        let refused = owner.may_claim(source, is_pulled, out);
        if refused.is_ok() {
            owner.grant(generation, source, description, now, out);
        }
        self.collect(path);
        refused
    }

    fn subscribe(&mut self, path: Arc<str>, shard: ShardId, rules: Arc<PathRules>, now: Mono) {
        let refused = match self.owner_mut(&path, rules) {
            Ok(mut found) => found.subscribe(shard, now),
            Err(why) => Err(why),
        };
        if let Err(why) = refused {
            let (path, notification) = (Arc::clone(&path), Notification::NotThere(why));
            self.out.push(Effect::Notify { shard, path, notification });
        }
        self.collect(&path);
    }

    /// Adds a shard to the path's group; a repetition adds nothing.
    fn join(&mut self, path: Arc<str>, shard: ShardId, serial: u32, now: Mono) {
        let group = match self.owners.get_mut(&path) {
            Some(owner) => match &mut owner.group {
                Some((group, members)) => {
                    members.retain(|(member, _)| *member != shard);
                    members.push((shard, now));
                    Some(*group)
                }
                None => {
                    let taken = self.groups.as_mut().and_then(GroupPool::take);
                    owner.group = taken.map(|group| (group, vec![(shard, now)]));
                    let opened = taken.map(|group| Effect::OpenGroup(Arc::clone(&path), group));
                    self.out.extend(opened);
                    owner.watch_leases(now, &mut self.out);
                    taken
                }
            },
            None => None,
        };
        let notification = Notification::Joined { serial, group };
        self.out.push(Effect::Notify { shard, path, notification });
    }

    fn leave(&mut self, path: &Arc<str>, shard: ShardId) {
        let Some(owner) = self.owners.get_mut(path) else { return };
        let Some((group, members)) = &mut owner.group else { return };
        members.retain(|(member, _)| *member != shard);
        if !members.is_empty() {
            return;
        }
        let group = *group;
        owner.group = None;
        if let Some(pool) = &mut self.groups {
            pool.give_back(group);
        }
        self.out.push(Effect::CloseGroup(Arc::clone(path), group));
        self.collect(path);
    }
}

/// An owner with the registry's effects.
struct OwnerAnd<'a> {
    owner: &'a mut PathOwner,
    out: &'a mut Vec<Effect>,
}

impl OwnerAnd<'_> {
    fn start_pull(&mut self, now: Mono) {
        self.owner.start_pull(now, self.out);
    }

    fn subscribe(&mut self, shard: ShardId, now: Mono) -> Result<(), RefusedError> {
        self.owner.subscribe(shard, now, self.out)
    }
}

#[cfg(test)]
mod tests;
