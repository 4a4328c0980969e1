//! What the process may use: raises its soft limits, and fits the shards into the hard ones.
//!
//! A login shell gives 1,024 descriptors although it may give many more. A shard registers as many
//! files with its ring as its PollTable has rows, and the kernel allows no more than the limit on
//! open files; a server that needs `ulimit` before it starts is none for newcomers.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::access::throttle::Throttle;
use crate::session::shares::Shares;
use crate::shard::ring::RingConfig;
use crate::worker::reads_on_threads;

use crate::base::addresses::{AddressLimit, Addresses};
use crate::config::Config;
use crate::http::Intake;
use crate::metrics::descriptors::keep_some_of;

/// Rows that each shard's PollTable gets, and why they are fewer than wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fitted {
    /// Rows of one table.
    pub(super) poll_entries_max: usize,
    /// Titles that may be open.
    pub(super) titles: Titles,
    /// For the banner, when that is less than configured.
    pub(super) warning: Option<String>,
}

/// Titles that may be open at once: each has a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Titles {
    /// When nobody plays them.
    pub(super) kept_max: usize,
    /// In all.
    pub(super) open_max: usize,
}

impl Titles {
    /// No more than configured, if anything is.
    pub(super) fn at_most(self, open_max: Option<u32>) -> Self {
        let max = open_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        Self { kept_max: self.kept_max.min(max), open_max: self.open_max.min(max) }
    }
}

/// How much memory may be locked. Rings count against it, those of all processes of the user
/// together; containers give 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LockedMemory {
    /// RLIMIT_MEMLOCK; `None` is without limit.
    limit_bytes: Option<u64>,
    /// CAP_IPC_LOCK: the kernel does not count.
    is_exempt: bool,
}

impl LockedMemory {
    /// Raises the soft limit as far as it is wanted and allowed. Root who will not be root raises
    /// the hard one as well, and capabilities that do not stay exempt nobody.
    pub(super) fn raise(capabilities_stay: bool) -> Self {
        if !capabilities_stay {
            raise_hard(Resource::Memlock, MEMLOCK_BYTES);
        }
        let limit_bytes = raise(Resource::Memlock, MEMLOCK_BYTES);
        let sets = capabilities(None);
        let is_exempt = capabilities_stay
            && sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
        Self { limit_bytes, is_exempt }
    }

    fn for_rings(self) -> Option<u64> {
        self.limit_bytes.filter(|_| !self.is_exempt)
    }

    /// Shards whose rings, made as small as they may be, can be had.
    pub(super) fn shards_max(self) -> usize {
        let count = self.for_rings().map(|bytes| bytes / ring_bytes(RING_ENTRIES_MIN));
        count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX)).max(1)
    }

    /// Entries of the submission queue of each of `shard_count` rings.
    pub(super) fn ring_entries(self, shard_count: usize) -> u32 {
        let wanted = RingConfig::default().sq_entries;
        let Some(bytes) = self.for_rings() else { return wanted };
        let share = bytes / u64::try_from(shard_count.max(1)).unwrap_or(u64::MAX);
        let halved = std::iter::successors(Some(wanted), |entries| Some(entries / 2));
        let mut possible = halved.take_while(|entries| *entries > RING_ENTRIES_MIN);
        possible.find(|entries| ring_bytes(*entries) <= share).unwrap_or(RING_ENTRIES_MIN)
    }

    /// For the banner, what a low limit costs `shard_count` shards and the workers.
    pub(super) fn warning(self, shard_count: usize) -> Option<String> {
        let wanted = RingConfig::default().sq_entries;
        let entries = self.ring_entries(shard_count);
        let mut costs = Vec::new();
        if entries < wanted {
            costs.push(format!(
                "rings of {shard_count} shards take {entries} operations at once instead of \
                 {wanted}"
            ));
        }
        if reads_on_threads(self.limit_bytes) {
            costs.push("workers read titles that are not in memory on threads".to_owned());
        }
        let limit_kib = self.limit_bytes.filter(|_| !costs.is_empty())? >> 10;
        Some(format!(
            "only {limit_kib} KiB of memory may be locked: {}; both cost CPU time; run: \
             ulimit -l 65536 (systemd: LimitMEMLOCK=64M, docker: --ulimit memlock=-1) (HE-W108)",
            costs.join(", ")
        ))
    }
}

/// What the kernel counts for a shard's ring: submission queue, completion queue four times as
/// long, and the two rings of receive buffers, each in whole pages.
fn ring_bytes(entries: u32) -> u64 {
    const PAGE: u64 = 4_096;
    let entries = u64::from(entries);
    let submission = (64 * entries).next_multiple_of(PAGE);
    let completion = (4 * 16 * entries + 4 * entries + 512).next_multiple_of(PAGE);
    submission + completion + BUFFER_RINGS_BYTES
}

/// Raises the soft limit on descriptors as far as it is wanted and allowed, and says how many rows
/// `shard_count` tables of `wanted` rows may really have.
pub(super) fn fit(wanted: usize, shard_count: usize) -> Fitted {
    let descriptors = (wanted + RING_FILES_EXTRA) * shard_count + PROCESS_DESCRIPTORS;
    let allowed = raise(Resource::Nofile, (descriptors + TITLES_OPEN_MAX) as u64);
    keep_some_of(allowed);
    fitted(wanted, shard_count, allowed)
}

fn fitted(wanted: usize, shard_count: usize, allowed: Option<u64>) -> Fitted {
    let descriptors = (wanted + RING_FILES_EXTRA) * shard_count + PROCESS_DESCRIPTORS;
    let allowed = allowed.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    if allowed >= descriptors {
        let left = allowed - (descriptors - TITLES_MAX);
        let titles = Titles { kept_max: TITLES_MAX, open_max: left.min(TITLES_OPEN_MAX) };
        return Fitted { poll_entries_max: wanted, titles, warning: None };
    }
    // Half of a small limit is kept for the rest of the process, and of that a half for titles.
    let kept = PROCESS_DESCRIPTORS.min(allowed / 2);
    let left = (allowed - kept) / shard_count.max(1);
    let poll_entries_max = left.saturating_sub(RING_FILES_EXTRA).clamp(ENTRIES_MIN, wanted);
    let warning = format!(
        "only {allowed} descriptors may be open, which makes {poll_entries_max} rows for \
         connections and sockets a shard instead of {wanted}; run: ulimit -n {descriptors} \
         (systemd: LimitNOFILE={descriptors}) (HE-W103)"
    );
    let titles_max = TITLES_MAX.min(kept / 2).max(1);
    let titles = Titles { kept_max: titles_max, open_max: titles_max };
    Fitted { poll_entries_max, titles, warning: Some(warning) }
}

/// What each address may have of what all shards have.
#[derive(Debug)]
pub(super) struct OfAddresses {
    pub(super) connections: Arc<Addresses>,
    pub(super) sessions: Arc<Addresses>,
    /// Of what each shard has of its own.
    pub(super) shares: Arc<[Arc<Shares>]>,
    /// Of connections to the HTTP API.
    pub(super) admin: Intake,
    /// Of connections to a node's port for contents.
    pub(super) peers: Intake,
    /// Of viewers of HLS.
    pub(super) hls: Intake,
    /// Of viewers by WebRTC.
    pub(super) viewers: Arc<Addresses>,
    /// Logins that have failed.
    pub(super) throttle: Arc<Throttle>,
}

pub(super) fn of_addresses(config: &Config, shard_count: usize) -> OfAddresses {
    let make_of = |max: Option<u32>, total: usize| {
        let usual = AddressLimit::share_of(total);
        let limit = max.map_or(usual, |max| usual.with_remote(max));
        Arc::new(Addresses::new(limit, total))
    };
    let make = |max, each: usize| make_of(max, each.saturating_mul(shard_count));
    OfAddresses {
        connections: make(config.connections_per_address_max, config.poll_entries_max),
        sessions: make(config.sessions_per_address_max, config.sessions_max),
        shares: (0..shard_count)
            .map(|_| Arc::new(Shares::of(&config.limits, config.http.tunnels_max)))
            .collect(),
        admin: Intake::of_admin(&config.limits),
        peers: Intake::of_distribution(&config.limits),
        hls: Intake::of_hls(&config.hls, &config.limits),
        viewers: make_of(config.webrtc.viewers_per_address_max, config.webrtc.viewers_max),
        throttle: Arc::default(),
    }
}

/// Raises the number of files that may be open, for a base: each connection is one. As far as it is
/// allowed; gives what it is then.
pub(super) fn raise_files() -> Option<u64> {
    let allowed = raise(Resource::Nofile, BASE_FILES);
    keep_some_of(allowed);
    allowed
}

/// Raises a soft limit to `wanted`, or as far as the hard limit lets it. Returns the soft limit as
/// it is then; `None` is without limit.
fn raise(resource: Resource, wanted: u64) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(resource);
    let have = current?;
    let target = maximum.map_or(wanted, |maximum| maximum.min(wanted)).max(have);
    let raised = setrlimit(resource, Rlimit { current: Some(target), maximum });
    Some(if raised.is_ok() { target } else { have })
}

/// Lets the user that root becomes give its threads this priority.
pub(super) fn allow_priority(priority: u8) {
    raise_hard(Resource::Rtprio, u64::from(priority));
}

/// Raises both limits to `wanted` where they are lower, as root alone can.
fn raise_hard(resource: Resource, wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(resource);
    let up = |limit: Option<u64>| limit.map(|limit| limit.max(wanted));
    // Who is not root stays within what there is.
    let _refused = setrlimit(resource, Rlimit { current: up(current), maximum: up(maximum) });
}

/// Connections of a base, and as many files of contents.
const BASE_FILES: u64 = 65_536;
/// Files of a shard's ring beside the rows of its table: those that are being closed.
pub(super) const RING_FILES_EXTRA: usize = 64;
/// Titles kept open when nobody plays them.
const TITLES_MAX: usize = 1_024;
/// Titles open at once where descriptors allow it: as many as a shard has sessions.
const TITLES_OPEN_MAX: usize = 16_384;
/// Descriptors of the rest of the process: open titles, rings, files being read, the HTTP port.
const PROCESS_DESCRIPTORS: usize = TITLES_MAX + 512;
/// Listener, pipe, pair and a few connections: below this nothing can be served.
const ENTRIES_MIN: usize = 64;
/// What rings may lock; glommio wants 512 KiB for each worker's.
const MEMLOCK_BYTES: u64 = 64 << 20;
/// Entries of the smallest ring: the runs of one stream in one turn fit as one chain.
const RING_ENTRIES_MIN: u32 = 32;
/// Rings of 256 and 512 receive buffers, 16 bytes for each.
const BUFFER_RINGS_BYTES: u64 = 12 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_as_large_as_configured_when_the_limit_allows_it() {
        for allowed in [None, Some(1 << 20)] {
            let fitted = fitted(16_384, 4, allowed);
            assert_eq!((fitted.poll_entries_max, fitted.warning), (16_384, None));
            assert_eq!(fitted.titles, Titles { kept_max: 1_024, open_max: 16_384 });
        }
    }

    #[test]
    fn low_limit_on_locked_memory_makes_smaller_rings_and_fewer_shards() {
        let locked = |kib: Option<u64>, is_exempt| LockedMemory {
            limit_bytes: kib.map(|kib| kib << 10),
            is_exempt,
        };
        for free in [locked(None, false), locked(Some(64), true), locked(Some(65_536), false)] {
            assert_eq!((free.ring_entries(2), free.shards_max() > 100), (1_024, true), "{free:?}");
        }
        assert_eq!(locked(None, false).warning(8), None);
        let container = locked(Some(64), false);
        assert_eq!([1, 2, 3].map(|shards| container.ring_entries(shards)), [256, 128, 32]);
        assert_eq!(container.shards_max(), 3);
        assert_eq!(locked(Some(0), false).shards_max(), 1, "one is tried in any case");
        let warning = container.warning(1).unwrap();
        assert!(warning.contains("256 operations") && warning.contains("on threads"), "{warning}");
        // Root of a container: rings are not counted, and glommio looks at the limit all the same.
        let root = locked(Some(64), true).warning(1).unwrap();
        assert!(!root.contains("operations") && root.contains("on threads"), "{root}");
    }

    #[test]
    fn low_limit_makes_smaller_tables_and_says_so() {
        let small = fitted(16_384, 2, Some(4_096));
        assert_eq!(small.poll_entries_max, (4_096 - 1_536) / 2 - 64);
        assert!(small.warning.unwrap().contains("ulimit -n 34432"));
        let login_shell = fitted(16_384, 1, Some(1_024));
        let titles = Titles { kept_max: 256, open_max: 256 };
        assert_eq!((login_shell.poll_entries_max, login_shell.titles), (448, titles));
        assert_eq!(fitted(16_384, 8, Some(64)).poll_entries_max, 64, "as few as make sense");
    }

    #[test]
    fn raised_limit_is_never_below_what_it_was() {
        let before = getrlimit(Resource::Nofile).current;
        let after = raise(Resource::Nofile, 16);
        assert_eq!(after, before);
    }
}
