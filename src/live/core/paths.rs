//! The paths that a shard listens to, or has asked for.
//!
//! ```text
//!  (nothing) --want: Request--> Requested(waiters) --Subscribed--> Here(LivePath) --unused--> gone
//!                                 `-----------NotThere-----> (nothing)        `----Ended----> gone
//! ```
//! A DESCRIBE of a path that is here waits, too, while the description lacks parameter sets that
//! the source may still send: for `SETS_WAIT` from the first such wait for a source.
//!
//! DESCRIBE subscribes to a path as SETUP does, and most clients that describe a path set it up
//! next. So the shard keeps a path without readers for a while.
//!
//! A path has a key, so that work for a run or a reader looks up no name. Paths with readers to
//! serve are on a list, so that the other paths cost nothing.
//!
//! Invariants: the owner is asked once for a path, however many waiters there are; each waiter is
//! answered once; batches of a path that is not here are dropped: they are from before its release.
//! Bounds: `PATHS_MAX` paths, `WAITERS_MAX` waiters for one path. DESIGN section 5.1.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use slab::Slab;

use crate::base::time::Mono;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::limits::{PATHS_MAX, SETS_WAIT};
use crate::live::core::message::{Notification, RefusedError};
use crate::live::core::path::{Continuation, LivePath, PathKey, PathLimits, ReaderKey};
use crate::live::core::repeat::RequestRepeat;

/// All paths of one shard: see the module.
#[derive(Debug, Default)]
pub struct LivePaths {
    pub(super) entries: HashMap<Arc<str>, Entry>,
    here: Slab<Box<LivePath>>,
    /// Paths with readers to serve, each once.
    listed: VecDeque<PathKey>,
    serial: u32,
    /// Paths whose batches arrive although the shard does not listen.
    strays: HashSet<Arc<str>>,
}

#[derive(Debug)]
pub(super) enum Entry {
    /// The owner has not answered. The caller names the waiters by numbers that grow.
    Requested { waiters: BTreeSet<u64>, limits: PathLimits, repeat: RequestRepeat },
    /// The shard listens: `place` is an index into `here`.
    Here { place: usize, wanted: Mono, sets: SetsWait },
}

/// DESCRIBE requests that wait for parameter sets.
#[derive(Debug, Default)]
pub(super) struct SetsWait {
    waiters: BTreeSet<u64>,
    /// No DESCRIBE waits for this source after this time.
    until: Option<Mono>,
}

/// Result of a request for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The path is here.
    Here,
    /// The waiter is answered by `PathEffect::Answer`.
    Requested,
    /// The waiter is answered by `PathEffect::Answer`; `OwnerRequest::Subscribe` is to be sent.
    Request,
    /// The shard has `PATHS_MAX` paths, or the path has `WAITERS_MAX` waiters.
    TooMany,
}

/// Effect of an owner's message, for the caller to carry out.
#[derive(Debug)]
pub enum PathEffect {
    /// Nothing.
    Nothing,
    /// Answers the waiters: the path is here, or refused.
    Answer {
        /// Waiters as given to `want`.
        waiters: Vec<u64>,
        /// Why the path is not here.
        refused: Option<RefusedError>,
    },
    /// A batch arrived: readers of the path are ready, and a PLAY may be answered.
    Fed,
    /// The source has gone; readers wait for a successor.
    Lost,
    /// The path has ended, or has other tracks than its readers were told.
    End {
        /// Readers to end with BYE; the caller removes them.
        readers: Vec<(ReaderKey, u64)>,
        /// DESCRIBE requests that waited for parameter sets, to be executed again.
        waiters: Vec<u64>,
    },
    /// The message is for a source of the shard, not for readers.
    ForSource(Notification),
}

impl LivePaths {
    /// Subscribes `waiter` to a path. `limits` are the path's, for a path that is not here yet.
    pub fn want(&mut self, name: &Arc<str>, limits: PathLimits, waiter: u64, now: Mono) -> Wanted {
        let count = self.entries.len();
        match self.entries.get_mut(name) {
            Some(Entry::Here { wanted, .. }) => {
                *wanted = now;
                Wanted::Here
            }
            Some(Entry::Requested { waiters, .. }) if waiters.len() >= WAITERS_MAX => {
                Wanted::TooMany
            }
            Some(Entry::Requested { waiters, .. }) => {
                waiters.insert(waiter);
                Wanted::Requested
            }
            None if count >= PATHS_MAX => Wanted::TooMany,
            None => {
                let waiters = BTreeSet::from([waiter]);
                let asked = Entry::Requested { waiters, limits, repeat: RequestRepeat::new(now) };
                self.entries.insert(Arc::clone(name), asked);
                Wanted::Request
            }
        }
    }

    /// Whether a DESCRIBE waits for parameter sets of a path that is here. `PathEffect::Answer`,
    /// `PathEffect::End` or `overdue` answers such a DESCRIBE.
    pub fn await_sets(&mut self, name: &str, waiter: u64, now: Mono) -> bool {
        let awaits_sets = self.path(name).is_some_and(|path| path.description().awaits_sets);
        let Some(Entry::Here { sets, .. }) = self.entries.get_mut(name) else { return false };
        let until = *sets.until.get_or_insert(now + SETS_WAIT);
        let waits = awaits_sets && now < until && sets.waiters.len() < WAITERS_MAX;
        if waits {
            sets.waiters.insert(waiter);
        }
        waits
    }

    /// DESCRIBE requests that have waited for parameter sets long enough.
    pub fn overdue(&mut self, now: Mono) -> Vec<u64> {
        let mut overdue = Vec::new();
        for entry in self.entries.values_mut() {
            if let Entry::Here { sets, .. } = entry
                && sets.until.is_some_and(|until| until <= now)
            {
                overdue.extend(std::mem::take(&mut sets.waiters));
            }
        }
        overdue
    }

    /// Whether the path is here, or its owner has been asked and has not answered.
    #[must_use]
    pub fn is_asked(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Removes a waiter.
    pub fn forget_waiter(&mut self, name: &str, waiter: u64) {
        if let Some(
            Entry::Requested { waiters, .. } | Entry::Here { sets: SetsWait { waiters, .. }, .. },
        ) = self.entries.get_mut(name)
        {
            waiters.remove(&waiter);
        }
    }

    fn take_sets_wait(&mut self, name: &str) -> Vec<u64> {
        let Some(Entry::Here { sets, .. }) = self.entries.get_mut(name) else { return Vec::new() };
        std::mem::take(sets).waiters.into_iter().collect()
    }

    /// A path that is here, by name.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<&LivePath> {
        self.here.get(self.place_of(name)?).map(|path| &**path)
    }

    /// A path that is here, by name.
    pub fn path_mut(&mut self, name: &str) -> Option<&mut LivePath> {
        self.here.get_mut(self.place_of(name)?).map(|path| &mut **path)
    }

    /// A path by its key.
    pub fn by_key(&mut self, key: PathKey) -> Option<&mut LivePath> {
        self.here.get_mut(key.index as usize).filter(|path| path.key == key).map(|path| &mut **path)
    }

    /// The path of a reader.
    pub fn path_of(&mut self, reader: ReaderKey) -> Option<&mut LivePath> {
        self.by_key(reader.path)
    }

    /// A reader has more to send, or may send again.
    pub fn queue(&mut self, reader: ReaderKey) {
        if let Some(path) = self.path_of(reader) {
            path.queue(reader);
            self.list(reader.path);
        }
    }

    /// Lists all paths with readers to serve.
    pub fn list_all(&mut self) {
        let Self { here, listed, .. } = self;
        let ready = here.iter_mut().map(|(_, path)| path);
        for path in ready.filter(|path| path.has_ready() && !path.is_listed) {
            path.is_listed = true;
            listed.push_back(path.key);
        }
    }

    /// The next path with readers to serve. The caller lists the path again if readers are left.
    pub fn pop_listed(&mut self) -> Option<PathKey> {
        // Bounded: each round takes one path out.
        while let Some(key) = self.listed.pop_front() {
            if let Some(path) = self.by_key(key) {
                path.is_listed = false;
                return Some(key);
            }
        }
        None
    }

    /// Lists a path if it has readers to serve.
    pub fn list(&mut self, key: PathKey) {
        if let Some(path) = self.by_key(key)
            && path.has_ready()
            && !std::mem::replace(&mut path.is_listed, true)
        {
            self.listed.push_back(key);
        }
    }

    /// Number of listed paths; some of them may have ended.
    #[must_use]
    pub fn listed_count(&self) -> usize {
        self.listed.len()
    }

    /// Upper bound of the paths' indices: each path keeps its index while it is here.
    #[must_use]
    pub fn place_count(&self) -> usize {
        self.here.capacity()
    }

    /// The path with this index.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&LivePath> {
        self.here.get(place).map(|path| &**path)
    }

    /// Number of paths that are here.
    #[must_use]
    pub fn here_count(&self) -> usize {
        self.here.len()
    }

    /// All paths that are here, to look at.
    pub fn iter(&self) -> impl Iterator<Item = &LivePath> {
        self.here.iter().map(|(_, path)| &**path)
    }

    /// All paths that are here.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut LivePath> {
        self.here.iter_mut().map(|(_, path)| &mut **path)
    }

    /// Sets new limits: `limits_of` returns those of a path.
    pub fn set_limits(&mut self, limits_of: impl Fn(&str) -> PathLimits) {
        for (name, entry) in &mut self.entries {
            match entry {
                Entry::Requested { limits, .. } => *limits = limits_of(name),
                Entry::Here { place, .. } => {
                    if let Some(path) = self.here.get_mut(*place) {
                        path.set_limits(limits_of(name));
                    }
                }
            }
        }
    }

    /// Handles a message from an owner.
    pub fn handle(&mut self, name: &Arc<str>, notification: Notification, now: Mono) -> PathEffect {
        match notification {
            Notification::Subscribed { generation, description, snapshot } => {
                self.handle_subscribed(name, (generation, description), snapshot, now)
            }
            Notification::NotThere(why) => match self.entries.remove(name) {
                Some(Entry::Requested { waiters, .. }) => PathEffect::Answer {
                    waiters: waiters.into_iter().collect(),
                    refused: Some(why),
                },
                Some(here @ Entry::Here { .. }) => {
                    self.entries.insert(Arc::clone(name), here);
                    PathEffect::Nothing
                }
                None => PathEffect::Nothing,
            },
            Notification::Batch(batch) => match self.path_mut(name) {
                Some(path) => {
                    path.push(batch, now);
                    let key = path.key;
                    self.list(key);
                    PathEffect::Fed
                }
                None => {
                    if !self.entries.contains_key(name) && self.strays.len() < PATHS_MAX {
                        self.strays.insert(Arc::clone(name));
                    }
                    PathEffect::Nothing
                }
            },
            Notification::Lost => PathEffect::Lost,
            Notification::Resumed { generation, description } => {
                let Some(path) = self.path_mut(name) else { return PathEffect::Nothing };
                let continuation = path.handle_source(generation, description);
                let readers = owners(path);
                // Executed again, these requests wait for the parameter sets of the new source.
                let waiters = self.take_sets_wait(name);
                match continuation {
                    Continuation::GoOn => PathEffect::Answer { waiters, refused: None },
                    Continuation::End => PathEffect::End { readers, waiters },
                }
            }
            Notification::Described { generation, description } => {
                if let Some(path) = self.path_mut(name) {
                    path.redescribe(generation, description);
                    if !path.description().awaits_sets {
                        let waiters = self.take_sets_wait(name);
                        return PathEffect::Answer { waiters, refused: None };
                    }
                }
                PathEffect::Nothing
            }
            Notification::Ended => self.handle_ended(name),
            notification @ (Notification::Granted { .. }
            | Notification::Refused { .. }
            | Notification::Evicted { .. }
            | Notification::SyncWanted { .. }
            | Notification::Joined { .. }) => PathEffect::ForSource(notification),
        }
    }

    fn handle_subscribed(
        &mut self,
        name: &Arc<str>,
        of_source: (Generation, Arc<Description>),
        snapshot: Vec<Arc<PacketBatch>>,
        now: Mono,
    ) -> PathEffect {
        let known = self.entries.remove(name);
        let Some(Entry::Requested { waiters, limits, .. }) = known else {
            // The path was released in between, or the answer is a repetition.
            if let Some(here) = known {
                self.entries.insert(Arc::clone(name), here);
            }
            return PathEffect::Nothing;
        };
        let path = LivePath::new(Arc::clone(name), of_source, snapshot, limits, now);
        let place = self.enter(path);
        let here = Entry::Here { place, wanted: now, sets: SetsWait::default() };
        self.entries.insert(Arc::clone(name), here);
        PathEffect::Answer { waiters: waiters.into_iter().collect(), refused: None }
    }

    fn handle_ended(&mut self, name: &Arc<str>) -> PathEffect {
        match self.entries.remove(name) {
            Some(Entry::Here { place, sets, .. }) => PathEffect::End {
                readers: self.here.try_remove(place).map_or_else(Vec::new, |p| owners(&p)),
                waiters: sets.waiters.into_iter().collect(),
            },
            Some(asked @ Entry::Requested { .. }) => {
                // The end is that of an earlier subscription; the owner will answer this one.
                self.entries.insert(Arc::clone(name), asked);
                PathEffect::Nothing
            }
            None => PathEffect::Nothing,
        }
    }

    /// Whether there are paths to look after.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.entries.is_empty() || !self.strays.is_empty()
    }

    /// Paths without an answer for a while: their owners are to be sent `OwnerRequest::Subscribe`
    /// again.
    pub fn unanswered(&mut self, now: Mono) -> Vec<Arc<str>> {
        let entries = self.entries.iter_mut();
        let due = entries.filter_map(|(name, entry)| match entry {
            Entry::Requested { repeat, .. } => repeat.is_due(now).then(|| Arc::clone(name)),
            Entry::Here { .. } => None,
        });
        due.collect()
    }

    /// Paths whose batches arrive although the shard does not listen: `OwnerRequest::Unsubscribe`
    /// was lost and is to be sent again.
    pub fn strays(&mut self) -> Vec<Arc<str>> {
        let Self { entries, strays, .. } = self;
        strays.drain().filter(|name| !entries.contains_key(name)).collect()
    }

    /// Paths that the shard listens to, for renewal at their owners.
    pub fn held(&self) -> impl Iterator<Item = (Arc<str>, Generation, Arc<Description>)> {
        self.here.iter().map(|(_, path)| path.held())
    }

    /// Releases paths without readers or recent requests: their owners are to be sent
    /// `OwnerRequest::Unsubscribe`. To be called every second or so.
    pub fn sweep(&mut self, now: Mono) -> Vec<Arc<str>> {
        let mut unused = Vec::new();
        let here = &mut self.here;
        self.entries.retain(|name, entry| {
            let Entry::Here { place, wanted, sets } = entry else { return true };
            let Some(path) = here.get(*place) else { return false };
            if path.reader_count() > 0 || !sets.waiters.is_empty() {
                *wanted = now;
            }
            let is_unused = now.since(*wanted) >= path.linger();
            if is_unused {
                unused.push(Arc::clone(name));
                drop(here.try_remove(*place));
            }
            !is_unused
        });
        unused
    }

    /// The index of a path that is here.
    #[must_use]
    pub fn place_of(&self, name: &str) -> Option<usize> {
        match self.entries.get(name)? {
            Entry::Here { place, .. } => Some(*place),
            Entry::Requested { .. } => None,
        }
    }

    pub(super) fn enter(&mut self, mut path: LivePath) -> usize {
        self.serial = self.serial.wrapping_add(1);
        let entry = self.here.vacant_entry();
        let place = entry.key();
        // Bounded by `PATHS_MAX`.
        let index = u32::try_from(place).unwrap_or(u32::MAX);
        path.key = PathKey { index, serial: self.serial };
        entry.insert(Box::new(path));
        place
    }
}

fn owners(path: &LivePath) -> Vec<(ReaderKey, u64)> {
    path.readers().map(|(key, reader)| (key, reader.owner)).collect()
}

/// Clients that arrive at once for a camera that is being opened.
const WAITERS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::carrier::Carrier;
    use crate::live::core::batch::tests::{arrival, packet};
    use crate::live::core::batch::{BatchBuilder, Generation};
    use crate::live::core::description::{Description, LiveTrack};
    use crate::live::core::start::StartPolicy;
    use std::time::Duration;

    const NOW: Mono = Mono(0);

    fn name() -> Arc<str> {
        "live/a".into()
    }

    fn description(identity: &str) -> Arc<Description> {
        let track = LiveTrack {
            clock_rate_hz: 90_000,
            payload_types: vec![96],
            needs_sync: false,
            identity: identity.into(),
        };
        Arc::new(Description::new("".into(), vec![track]).unwrap())
    }

    fn subscribed(generation: u32) -> Notification {
        let generation = Generation(generation);
        Notification::Subscribed { generation, description: description("a"), snapshot: Vec::new() }
    }

    fn batch(generation: u32) -> Notification {
        let mut builder = BatchBuilder::default();
        let bytes = packet(1, 2, 3, 100);
        builder.push(&arrival(&bytes, 0, false), NOW).unwrap();
        Notification::Batch(Arc::new(builder.build(Generation(generation), |_| None).unwrap()))
    }

    fn at(s: u64) -> Mono {
        Mono(s * 1_000_000_000)
    }

    #[test]
    fn owner_is_asked_once_and_each_waiting_request_is_answered_once() {
        let mut paths = LivePaths::default();
        assert_eq!(paths.want(&name(), PathLimits::default(), 1, NOW), Wanted::Request);
        assert_eq!(paths.want(&name(), PathLimits::default(), 2, NOW), Wanted::Requested);
        assert!(
            matches!(paths.handle(&name(), batch(1), NOW), PathEffect::Nothing),
            "not here yet"
        );
        let told = paths.handle(&name(), subscribed(1), NOW);
        assert!(matches!(told, PathEffect::Answer { waiters, refused: None } if waiters == [1, 2]));
        assert_eq!(paths.want(&name(), PathLimits::default(), 3, NOW), Wanted::Here);
        assert!(matches!(paths.handle(&name(), batch(1), NOW), PathEffect::Fed));
        assert_eq!(paths.path("live/a").map(|path| path.ring().end_no()), Some(1));
        paths.handle(&name(), batch(7), NOW);
        let end = paths.path("live/a").map(|path| path.ring().end_no());
        assert_eq!(end, Some(1), "of a source that it was not told of");
    }

    #[test]
    fn missing_path_is_refused_and_the_owner_is_asked_again_next_time() {
        let mut paths = LivePaths::default();
        paths.want(&name(), PathLimits::default(), 1, NOW);
        let told = paths.handle(&name(), Notification::NotThere(RefusedError::NoSource), NOW);
        let is_refused = |refused| refused == Some(RefusedError::NoSource);
        assert!(matches!(told, PathEffect::Answer { refused, .. } if is_refused(refused)));
        assert_eq!(paths.want(&name(), PathLimits::default(), 1, NOW), Wanted::Request);
    }

    #[test]
    fn path_is_dropped_after_a_time_without_readers_only() {
        let mut paths = LivePaths::default();
        paths.want(&name(), PathLimits::default(), 1, NOW);
        paths.handle(&name(), subscribed(1), NOW);
        let key = paths.path_mut("live/a").unwrap().add_reader(5, Carrier::Tcp).unwrap();
        assert!(paths.sweep(at(100)).is_empty());
        paths.path_mut("live/a").unwrap().remove_reader(key);
        assert!(paths.sweep(at(109)).is_empty());
        assert_eq!(paths.sweep(at(110)), [name()]);
        assert!(paths.path("live/a").is_none());
    }

    #[test]
    fn limits_are_those_of_the_path_and_change_under_its_readers() {
        let mut paths = LivePaths::default();
        let limits = |readers_max, linger_s| PathLimits {
            readers_max,
            linger: Duration::from_secs(linger_s),
            ..PathLimits::default()
        };
        paths.want(&name(), limits(1, 3), 1, NOW);
        paths.handle(&name(), subscribed(1), NOW);
        let path = paths.path_mut("live/a").unwrap();
        let key = path.add_reader(1, Carrier::Udp).unwrap();
        assert!(path.add_reader(2, Carrier::Udp).is_err());
        paths.set_limits(|_| limits(2, 7));
        let path = paths.path_mut("live/a").unwrap();
        let second = path.add_reader(2, Carrier::Udp).unwrap();
        paths.set_limits(|_| limits(1, 7));
        assert_eq!(paths.path("live/a").unwrap().reader_count(), 2, "who is here stays");
        for key in [key, second] {
            paths.path_mut("live/a").unwrap().remove_reader(key);
        }
        assert!(paths.sweep(at(6)).is_empty());
        assert_eq!(paths.sweep(at(7)), [name()]);
    }

    #[test]
    fn readers_end_with_their_path_and_when_another_takes_its_name() {
        let mut paths = LivePaths::default();
        paths.want(&name(), PathLimits::default(), 1, NOW);
        paths.handle(&name(), subscribed(1), NOW);
        let key = paths.path_mut("live/a").unwrap().add_reader(5, Carrier::Udp).unwrap();
        let resumed = |generation, identity| Notification::Resumed {
            generation: Generation(generation),
            description: description(identity),
        };
        let told = paths.handle(&name(), resumed(2, "a"), NOW);
        assert!(matches!(told, PathEffect::Answer { waiters, .. } if waiters.is_empty()));
        let told = paths.handle(&name(), resumed(3, "b"), NOW);
        assert!(matches!(told, PathEffect::End { readers, .. } if readers == [(key, 5)]));
        let told = paths.handle(&name(), Notification::Ended, NOW);
        assert!(matches!(told, PathEffect::End { readers, .. } if readers == [(key, 5)]));
        assert!(paths.path("live/a").is_none());
        let notification = Notification::SyncWanted { number: 1 };
        assert!(matches!(paths.handle(&name(), notification, NOW), PathEffect::ForSource(_)));
    }

    #[test]
    fn key_of_an_ended_path_does_not_find_the_path_in_its_place() {
        let mut paths = LivePaths::default();
        paths.want(&name(), PathLimits::default(), 1, NOW);
        paths.handle(&name(), subscribed(1), NOW);
        let old = paths.path_mut("live/a").unwrap().add_reader(5, Carrier::Udp).unwrap();
        paths.handle(&name(), Notification::Ended, NOW);
        paths.want(&name(), PathLimits::default(), 1, NOW);
        paths.handle(&name(), subscribed(2), NOW);
        let new = paths.path_mut("live/a").unwrap().add_reader(5, Carrier::Udp).unwrap();
        assert_eq!((old.path.index, old.index), (new.path.index, new.index));
        assert!(paths.path_of(old).is_none() && paths.path_of(new).is_some());
    }

    #[test]
    fn path_with_queued_readers_is_listed_once() {
        let mut paths = LivePaths::default();
        paths.want(&name(), PathLimits::default(), 1, NOW);
        paths.handle(&name(), subscribed(1), NOW);
        let path = paths.path_mut("live/a").unwrap();
        let reader = path.add_reader(5, Carrier::Udp).unwrap();
        path.prepare(reader, StartPolicy::Gop);
        paths.handle(&name(), batch(1), NOW);
        assert_eq!(paths.listed_count(), 0, "nobody plays");
        // Whoever calls the path itself has the list made anew.
        paths.path_mut("live/a").unwrap().play(reader, NOW);
        paths.list_all();
        paths.queue(reader);
        assert_eq!((paths.listed_count(), paths.pop_listed()), (1, Some(reader.path)));
        assert_eq!(paths.pop_listed(), None);
        assert_eq!(paths.path_of(reader).unwrap().pop_ready(), Some(reader));
        paths.list(reader.path);
        assert_eq!(paths.listed_count(), 0, "it waits");
        paths.handle(&name(), batch(1), NOW);
        assert_eq!(paths.listed_count(), 1);
    }

    #[test]
    fn number_of_requests_that_wait_for_paths_is_bounded() {
        let mut paths = LivePaths::default();
        for waiter in 0..4_096 {
            assert_ne!(paths.want(&name(), PathLimits::default(), waiter, NOW), Wanted::TooMany);
        }
        assert_eq!(paths.want(&name(), PathLimits::default(), 9, NOW), Wanted::TooMany);
    }
}
