//! What the process may use: raises its soft limits, and fits the shards into the hard ones.
//!
//! A login shell gives 1,024 descriptors although it may give many more. A shard registers as many
//! files with its ring as its PollTable has rows, and the kernel allows no more than the limit on
//! open files; a server that needs `ulimit` before it starts is none for newcomers.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::addresses::{AddressLimit, Addresses};
use crate::config::Config;

/// Rows that each shard's PollTable gets, and why they are fewer than wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fitted {
    /// Rows of one table.
    pub(super) poll_entries_max: usize,
    /// Titles that may be kept open when nobody plays them.
    pub(super) titles_max: usize,
    /// For the banner, when that is less than configured.
    pub(super) warning: Option<String>,
}

/// Raises the soft limits on descriptors and locked memory as far as they are wanted and allowed,
/// and says how many rows `shard_count` tables of `wanted` rows may really have.
pub(super) fn fit(wanted: usize, shard_count: usize) -> Fitted {
    raise(Resource::Memlock, MEMLOCK_BYTES);
    let descriptors = (wanted + RING_FILES_EXTRA) * shard_count + PROCESS_DESCRIPTORS;
    let allowed = raise(Resource::Nofile, descriptors as u64);
    fitted(wanted, shard_count, allowed)
}

fn fitted(wanted: usize, shard_count: usize, allowed: Option<u64>) -> Fitted {
    let descriptors = (wanted + RING_FILES_EXTRA) * shard_count + PROCESS_DESCRIPTORS;
    let allowed = allowed.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    if allowed >= descriptors {
        return Fitted { poll_entries_max: wanted, titles_max: TITLES_MAX, warning: None };
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
    Fitted { poll_entries_max, titles_max, warning: Some(warning) }
}

/// What each address may have of what all shards have.
#[derive(Debug)]
pub(super) struct OfAddresses {
    pub(super) connections: Arc<Addresses>,
    pub(super) sessions: Arc<Addresses>,
}

pub(super) fn of_addresses(config: &Config, shard_count: usize) -> OfAddresses {
    let make = |max: Option<u32>, each: usize| {
        let total = each.saturating_mul(shard_count);
        let limit = max.map_or_else(|| AddressLimit::share_of(total), AddressLimit::of_all);
        Arc::new(Addresses::new(limit, total))
    };
    OfAddresses {
        connections: make(config.connections_per_address_max, config.poll_entries_max),
        sessions: make(config.sessions_per_address_max, config.sessions_max),
    }
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

/// Files of a shard's ring beside the rows of its table: those that are being closed.
pub(super) const RING_FILES_EXTRA: usize = 64;
/// Titles kept open when nobody plays them.
const TITLES_MAX: usize = 1_024;
/// Descriptors of the rest of the process: open titles, rings, files being read, the HTTP port.
const PROCESS_DESCRIPTORS: usize = TITLES_MAX + 512;
/// Listener, pipe, pair and a few connections: below this nothing can be served.
const ENTRIES_MIN: usize = 64;
/// What the workers' rings may lock; glommio wants 512 KiB for each.
const MEMLOCK_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_as_large_as_configured_when_the_limit_allows_it() {
        for allowed in [None, Some(1 << 20)] {
            let fitted = fitted(16_384, 4, allowed);
            assert_eq!((fitted.poll_entries_max, fitted.warning), (16_384, None));
        }
    }

    #[test]
    fn low_limit_makes_smaller_tables_and_says_so() {
        let small = fitted(16_384, 2, Some(4_096));
        assert_eq!(small.poll_entries_max, (4_096 - 1_536) / 2 - 64);
        assert!(small.warning.unwrap().contains("ulimit -n 34432"));
        let login_shell = fitted(16_384, 1, Some(1_024));
        assert_eq!((login_shell.poll_entries_max, login_shell.titles_max), (448, 256));
        assert_eq!(fitted(16_384, 8, Some(64)).poll_entries_max, 64, "as few as make sense");
    }

    #[test]
    fn raised_limit_is_never_below_what_it_was() {
        let before = getrlimit(Resource::Nofile).current;
        let after = raise(Resource::Nofile, 16);
        assert_eq!(after, before);
    }
}
