//! One path at its owner: its states, and the messages to shards when a state changes.
//!
//! Fetching has states of its own beside the path's: a camera that is opened again while readers
//! wait is `Held` and `On`. Timers are compared with the stored times only, so a superfluous timer
//! has no effect. DESIGN section 5.6.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::groups::Group;
use crate::live::core::info::OwnerInfo;
use crate::live::core::limits::{
    LEASE, PULL_BACKOFF, PULL_BACKOFF_MAX, PULL_START_MAX, SYNC_REQUEST_INTERVAL,
};
use crate::live::core::message::{Notification, PathRules, RefusedError, SourceKind, SourceRef};
use crate::live::core::registry::Effect;
use crate::live::core::ring::BatchRing;

/// The owner of one path.
#[derive(Debug)]
pub(crate) struct PathOwner {
    pub(crate) path: Arc<str>,
    pub(crate) rules: Arc<PathRules>,
    pub(crate) state: State,
    pub(crate) generation: Generation,
    pub(in crate::live::core) description: Option<Arc<Description>>,
    pub(in crate::live::core) ring: BatchRing,
    pub(in crate::live::core) listeners: Vec<ShardId>,
    /// Shards whose readers wait for a source that is being fetched.
    waiting: Vec<ShardId>,
    /// The path's group and the shards that listen to the group, each with its last renewal.
    pub(crate) group: Option<(Group, Vec<(ShardId, Mono)>)>,
    sync_asked: Option<Mono>,
    /// Last renewal of the source.
    pub(in crate::live::core) heard: Mono,
    /// When the leases of the source and of the group's members are checked.
    leases_at: Option<Mono>,
    pull: Pull,
    /// Until when readers wait for a source.
    pub(in crate::live::core) hold_until: Option<Mono>,
    /// When a source on demand without readers is stopped.
    idle_at: Option<Mono>,
    /// Cause of the newest failure of the source.
    reason: Option<String>,
    pub(in crate::live::core) batches: u64,
    pub(in crate::live::core) sources_seen: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Fed(SourceRef),
    /// The source has ended; readers wait for a successor.
    Held,
}

/// State of fetching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pull {
    /// The path is not being fetched.
    Off,
    /// The source is being opened, after `failures` in a row, or is open; readers wait until
    /// `patience`.
    On { failures: u32, patience: Mono },
    /// The source failed and is tried again at `retry_at`.
    Failed { failures: u32, retry_at: Mono, patience: Mono },
}

impl PathOwner {
    pub(crate) fn new(path: Arc<str>, rules: &PathRules) -> Self {
        Self {
            path,
            rules: Arc::new(rules.clone()),
            state: State::Empty,
            generation: Generation(0),
            description: None,
            ring: BatchRing::new(None, rules.ring),
            listeners: Vec::new(),
            waiting: Vec::new(),
            group: None,
            sync_asked: None,
            heard: Mono(0),
            leases_at: None,
            pull: Pull::Off,
            hold_until: None,
            idle_at: None,
            reason: None,
            batches: 0,
            sources_seen: 0,
        }
    }

    pub(crate) fn set_rules(&mut self, rules: Arc<PathRules>) {
        self.ring.set_limits(rules.ring);
        self.rules = rules;
    }

    /// Whether a source, a reader or the configuration needs the path.
    pub(crate) fn is_needed(&self) -> bool {
        self.state != State::Empty
            || !self.has_no_readers()
            || self.group.is_some()
            || self.pull != Pull::Off
    }

    fn has_no_readers(&self) -> bool {
        self.listeners.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn may_claim(
        &self,
        source: SourceRef,
        is_pulled: bool,
        out: &mut Vec<Effect>,
    ) -> Result<(), RefusedError> {
        if is_pulled != (self.rules.kind != SourceKind::Publish) {
            return Err(RefusedError::NotPublished);
        }
        let State::Fed(old) = self.state else { return Ok(()) };
        if old == source {
            return Ok(());
        }
        if !self.rules.may_override {
            return Err(RefusedError::Occupied);
        }
        self.notify(
            old.shard,
            Notification::Evicted { number: old.number, is_overridden: true },
            out,
        );
        Ok(())
    }

    pub(crate) fn grant(
        &mut self,
        generation: Generation,
        source: SourceRef,
        description: Arc<Description>,
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        (self.generation, self.sources_seen) = (generation, self.sources_seen.saturating_add(1));
        self.ring.clear(description.sync_track());
        self.description = Some(Arc::clone(&description));
        (self.state, self.hold_until) = (State::Fed(source), None);
        self.heard = now;
        self.watch_leases(now, out);
        if let Pull::On { patience, .. } | Pull::Failed { patience, .. } = self.pull {
            let failures = self.pull.failures();
            self.pull = Pull::On { failures, patience };
        }
        self.notify(source.shard, Notification::Granted { number: source.number, generation }, out);
        for shard in &self.listeners {
            let description = Arc::clone(&description);
            self.notify(*shard, Notification::Resumed { generation, description }, out);
        }
        for shard in std::mem::take(&mut self.waiting) {
            self.listen(shard, &description, out);
        }
        self.look_if_idle(now, out);
    }

    pub(crate) fn feed(
        &mut self,
        generation: Generation,
        batch: Arc<PacketBatch>,
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        let is_present = matches!(self.state, State::Fed(_)) && generation == self.generation;
        if !is_present || batch.generation() != generation {
            return;
        }
        // A camera that describes itself may still send nothing: only packets reset the failures.
        if let Pull::On { failures, .. } = &mut self.pull {
            *failures = 0;
        }
        (self.reason, self.heard) = (None, now);
        for shard in &self.listeners {
            self.notify(*shard, Notification::Batch(Arc::clone(&batch)), out);
        }
        self.batches += 1;
        self.ring.push(batch, now);
    }

    /// Repeats the grant to the path's source.
    pub(crate) fn grant_again(&self, source: SourceRef, out: &mut Vec<Effect>) {
        let notification =
            Notification::Granted { number: source.number, generation: self.generation };
        self.notify(source.shard, notification, out);
    }

    /// Whether the present description is this very one.
    pub(crate) fn describes(&self, description: &Arc<Description>) -> bool {
        self.description.as_ref().is_some_and(|known| Arc::ptr_eq(known, description))
    }

    /// Renews the claim of a publisher. Lost messages are made good: a changed description to the
    /// owner, and an eviction to the publisher.
    pub(crate) fn renew_source(
        &mut self,
        source: SourceRef,
        generation: Generation,
        description: &Arc<Description>,
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        if self.state != State::Fed(source) || self.generation != generation {
            let is_overridden = matches!(self.state, State::Fed(_));
            let notification = Notification::Evicted { number: source.number, is_overridden };
            return self.notify(source.shard, notification, out);
        }
        self.heard = now;
        if !self.describes(description) {
            self.redescribe(generation, description, out);
        }
    }

    /// Renews the subscription of a shard.
    pub(crate) fn renew_listener(
        &mut self,
        shard: ShardId,
        generation: Generation,
        description: &Arc<Description>,
        out: &mut Vec<Effect>,
    ) {
        let is_new = !self.listeners.contains(&shard);
        let known = match self.state {
            State::Fed(_) => self.description.clone(),
            // The shard waits for a successor of the source.
            State::Held if !is_new => return,
            State::Held | State::Empty => None,
        };
        let Some(known) = known else { return self.notify(shard, Notification::Ended, out) };
        if is_new {
            self.idle_at = None;
            self.listeners.push(shard);
        }
        let present = self.generation;
        if is_new || generation != present {
            let notification = Notification::Resumed { generation: present, description: known };
            self.notify(shard, notification, out);
        } else if !Arc::ptr_eq(&known, description) {
            let notification = Notification::Described { generation: present, description: known };
            self.notify(shard, notification, out);
        }
    }

    /// Requests a timer to check the leases.
    pub(crate) fn watch_leases(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.leases_at.is_none() {
            let at = now + LEASE;
            self.leases_at = Some(at);
            out.push(Effect::Timer(Arc::clone(&self.path), at));
        }
    }

    /// Ends a publisher without a renewal for `LEASE`: its `Release` was lost. (A source that is
    /// fetched lives on the owner's own shard.)
    fn look_at_leases(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.leases_at.is_none_or(|at| at > now) {
            return;
        }
        self.leases_at = None;
        if let State::Fed(source) = self.state
            && self.rules.kind == SourceKind::Publish
            && now.since(self.heard) >= LEASE
        {
            let notification =
                Notification::Evicted { number: source.number, is_overridden: false };
            self.notify(source.shard, notification, out);
            self.lose(now, out);
        }
        if matches!(self.state, State::Fed(_)) || self.group.is_some() {
            self.watch_leases(now, out);
        }
    }

    /// The source has changed the description of the same tracks: new readers get the new one.
    pub(crate) fn redescribe(
        &mut self,
        generation: Generation,
        description: &Arc<Description>,
        out: &mut Vec<Effect>,
    ) {
        let is_present = matches!(self.state, State::Fed(_)) && generation == self.generation;
        let goes_on = self.description.as_ref().is_some_and(|old| old.continues(description));
        if !is_present || !goes_on {
            return;
        }
        self.description = Some(Arc::clone(description));
        for shard in &self.listeners {
            let description = Arc::clone(description);
            self.notify(*shard, Notification::Described { generation, description }, out);
        }
    }

    /// The source has ended.
    pub(crate) fn lose(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.has_no_readers() {
            (self.state, self.hold_until) = (State::Empty, None);
        } else {
            let until = now + self.rules.hold;
            (self.state, self.hold_until) = (State::Held, Some(until));
            out.push(Effect::Timer(Arc::clone(&self.path), until));
        }
        for shard in &self.listeners {
            self.notify(*shard, Notification::Lost, out);
        }
        if self.pull != Pull::Off {
            self.pull_again(now, out);
        }
    }

    pub(crate) fn subscribe(
        &mut self,
        shard: ShardId,
        now: Mono,
        out: &mut Vec<Effect>,
    ) -> Result<(), RefusedError> {
        self.idle_at = None;
        if let (State::Fed(_), Some(description)) = (self.state, self.description.clone()) {
            self.listen(shard, &description, out);
            return Ok(());
        }
        if self.rules.kind == SourceKind::Publish {
            return Err(RefusedError::NoSource);
        }
        if self.waiting.contains(&shard) {
            // A repeated request does not lengthen the wait.
            return Ok(());
        }
        self.waiting.push(shard);
        let patience = now + PULL_START_MAX;
        match &mut self.pull {
            Pull::Off => self.start_pull(now, out),
            Pull::On { patience: until, .. } | Pull::Failed { patience: until, .. } => {
                *until = patience;
                out.push(Effect::Timer(Arc::clone(&self.path), patience));
            }
        }
        Ok(())
    }

    fn listen(&mut self, shard: ShardId, description: &Arc<Description>, out: &mut Vec<Effect>) {
        if !self.listeners.contains(&shard) {
            self.listeners.push(shard);
        }
        let snapshot = self.ring.snapshot();
        let (generation, description) = (self.generation, Arc::clone(description));
        self.notify(shard, Notification::Subscribed { generation, description, snapshot }, out);
    }

    pub(crate) fn unsubscribe(&mut self, shard: ShardId, now: Mono, out: &mut Vec<Effect>) {
        self.listeners.retain(|other| *other != shard);
        self.waiting.retain(|other| *other != shard);
        if self.state == State::Held && self.has_no_readers() {
            (self.state, self.hold_until) = (State::Empty, None);
        }
        self.look_if_idle(now, out);
    }

    /// Stops a source on demand that has had no readers for `idle_close`.
    fn look_if_idle(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let is_on_demand = self.rules.kind == SourceKind::OnDemand && self.pull != Pull::Off;
        if is_on_demand && self.has_no_readers() && self.idle_at.is_none() {
            let at = now + self.rules.idle_close;
            self.idle_at = Some(at);
            out.push(Effect::Timer(Arc::clone(&self.path), at));
        }
    }

    pub(crate) fn want_sync(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let State::Fed(source) = self.state else { return };
        if self.sync_asked.is_some_and(|asked| now.since(asked) < SYNC_REQUEST_INTERVAL) {
            return;
        }
        self.sync_asked = Some(now);
        self.notify(source.shard, Notification::SyncWanted { number: source.number }, out);
    }

    pub(crate) fn start_pull(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.pull != Pull::Off || self.rules.kind == SourceKind::Publish {
            return;
        }
        let patience = now + PULL_START_MAX;
        self.pull = Pull::On { failures: 0, patience };
        out.push(Effect::StartPull(Arc::clone(&self.path)));
        out.push(Effect::Timer(Arc::clone(&self.path), patience));
    }

    pub(crate) fn pull_failed(&mut self, reason: String, now: Mono, out: &mut Vec<Effect>) {
        if let Pull::On { failures, .. } = self.pull {
            let retry_s = backoff(failures).as_secs();
            let path = &self.path;
            tracing::warn!(code = "HE-W301", %path, %reason, retry_s, "source failed: {reason}");
            self.reason = Some(reason);
        }
        if let State::Fed(_) = self.state {
            self.lose(now, out);
        } else {
            self.pull_again(now, out);
        }
    }

    fn pull_again(&mut self, now: Mono, out: &mut Vec<Effect>) {
        // Off: the owner itself stopped the source. Failed: a second report of the same failure.
        let Pull::On { failures, patience } = self.pull else { return };
        let retry_at = now + backoff(failures);
        self.pull = Pull::Failed { failures: failures.saturating_add(1), retry_at, patience };
        out.push(Effect::Timer(Arc::clone(&self.path), retry_at));
    }

    pub(crate) fn handle_timer(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.look_at_leases(now, out);
        if self.hold_until.is_some_and(|until| until <= now) {
            self.end_readers(RefusedError::NoSource, out);
            (self.state, self.hold_until) = (State::Empty, None);
            self.look_if_idle(now, out);
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            self.idle_at = None;
            if self.has_no_readers() && self.group.is_none() {
                self.stop(out);
            }
        }
        let is_fed = matches!(self.state, State::Fed(_));
        if let Pull::Failed { failures, retry_at, patience } = self.pull
            && retry_at <= now
        {
            self.pull = Pull::On { failures, patience };
            out.push(Effect::StartPull(Arc::clone(&self.path)));
        }
        let (Pull::On { patience, .. } | Pull::Failed { patience, .. }) = self.pull else { return };
        if patience <= now && !is_fed {
            for shard in std::mem::take(&mut self.waiting) {
                self.notify(shard, Notification::NotThere(RefusedError::SourceSilent), out);
            }
            self.look_if_idle(now, out);
        }
    }

    /// An operator ends the path: a publisher is told, a source on demand is fetched at the next
    /// wish.
    pub(crate) fn kick(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.stop(out);
        self.end_readers(RefusedError::NoSource, out);
        if self.rules.kind == SourceKind::Always {
            self.start_pull(now, out);
        }
    }

    /// Applies a changed configuration. Readers wait for another source as for one that comes back.
    pub(crate) fn configure(
        &mut self,
        rules: Arc<PathRules>,
        is_other_source: bool,
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        self.set_rules(rules);
        self.idle_at = None;
        if is_other_source {
            self.leave_source(now, out);
        }
        match self.rules.kind {
            SourceKind::Publish => {
                for shard in std::mem::take(&mut self.waiting) {
                    self.notify(shard, Notification::NotThere(RefusedError::NoSource), out);
                }
            }
            SourceKind::Always => self.start_pull(now, out),
            SourceKind::OnDemand if self.has_no_readers() => self.look_if_idle(now, out),
            SourceKind::OnDemand => self.start_pull(now, out),
        }
    }

    fn leave_source(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.pull != Pull::Off {
            out.push(Effect::StopPull(Arc::clone(&self.path)));
            self.pull = Pull::Off;
        }
        if let State::Fed(source) = self.state {
            let notification =
                Notification::Evicted { number: source.number, is_overridden: false };
            self.notify(source.shard, notification, out);
            self.lose(now, out);
        }
    }

    /// Ends the source from the server's side.
    fn stop(&mut self, out: &mut Vec<Effect>) {
        if let State::Fed(source) = self.state {
            let notification =
                Notification::Evicted { number: source.number, is_overridden: false };
            self.notify(source.shard, notification, out);
        }
        if self.pull != Pull::Off {
            out.push(Effect::StopPull(Arc::clone(&self.path)));
        }
        (self.state, self.pull) = (State::Empty, Pull::Off);
        (self.hold_until, self.idle_at) = (None, None);
        self.ring.clear(None);
        self.description = None;
    }

    fn end_readers(&mut self, why: RefusedError, out: &mut Vec<Effect>) {
        for shard in std::mem::take(&mut self.listeners) {
            self.notify(shard, Notification::Ended, out);
        }
        for shard in std::mem::take(&mut self.waiting) {
            self.notify(shard, Notification::NotThere(why), out);
        }
        self.ring.clear(self.description.as_ref().and_then(|known| known.sync_track()));
    }

    fn notify(&self, shard: ShardId, notification: Notification, out: &mut Vec<Effect>) {
        out.push(Effect::Notify { shard, path: Arc::clone(&self.path), notification });
    }

    pub(crate) fn shown_state(&self) -> &'static str {
        match (self.state, self.pull) {
            (State::Fed(_), _) => "live",
            (State::Held, _) => "held",
            (State::Empty, Pull::Off) => "idle",
            (State::Empty, Pull::On { .. }) => "starting",
            (State::Empty, Pull::Failed { .. }) => "failed",
        }
    }

    pub(crate) fn info(&self) -> OwnerInfo {
        OwnerInfo {
            path: self.path.to_string(),
            reason: self.reason.clone(),
            failed_tries: self.pull.failures(),
            retry_after_s: match self.pull {
                Pull::Failed { failures, .. } => {
                    Some(backoff(failures.saturating_sub(1)).as_secs())
                }
                Pull::Off | Pull::On { .. } => None,
            },
            state: self.shown_state(),
            source_shard: match self.state {
                State::Fed(source) => Some(source.shard.0),
                State::Held | State::Empty => None,
            },
            sources_seen: self.sources_seen,
            tracks: self.description.as_ref().map_or(0, |known| known.tracks.len()),
            listening_shards: self.listeners.len(),
            batches: self.batches,
            kept_bytes: self.ring.memory_bytes(),
            has_cached_picture: self.ring.newest_start().is_some(),
            group: self.group.as_ref().map(|(group, _)| group.address.to_string()),
        }
    }
}

impl Pull {
    /// Failed tries in a row.
    fn failures(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::On { failures, .. } | Self::Failed { failures, .. } => failures,
        }
    }
}

fn backoff(failures: u32) -> Duration {
    PULL_BACKOFF.saturating_mul(1 << failures.min(16)).min(PULL_BACKOFF_MAX)
}
