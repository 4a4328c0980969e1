//! How many watch by HLS: clients who have asked for a playlist, a segment or a part of a path
//! within `SEEN_MAX`, told apart by address and `User-Agent`.
//!
//! HLS has no sessions: this is an estimate. Viewers behind one address who have the same browser
//! are one, and so are those behind a CDN.
//! Bounds: `WATCHERS_MAX` clients, and the usual share of them for an address; others are not
//! counted until some are forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::base::addresses::{AddressPlace, Addresses};
use crate::base::time::Mono;
use crate::metrics::cells::HLS;

/// Clients: see the module.
#[derive(Debug)]
pub struct Watchers {
    seen: Mutex<Seen>,
    hasher: RandomState,
    addresses: Arc<Addresses>,
}

impl Default for Watchers {
    fn default() -> Self {
        let addresses = Addresses::sharing(WATCHERS_MAX);
        Self { seen: Mutex::default(), hasher: RandomState::new(), addresses }
    }
}

#[derive(Debug, Default)]
struct Seen {
    paths: HashMap<Arc<str>, HashMap<u64, Watcher>>,
    count: usize,
}

/// When a client has asked last.
#[derive(Debug)]
struct Watcher {
    at: Mono,
    _address: AddressPlace,
}

impl Watchers {
    /// A client has been answered.
    pub(super) fn note(&self, path: &str, (ip, headers): (IpAddr, &HeaderMap), now: Mono) {
        let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
        let client = self.hasher.hash_one((ip.to_canonical(), agent));
        let mut seen = self.lock();
        if let Some(known) = seen.paths.get_mut(path).and_then(|clients| clients.get_mut(&client)) {
            known.at = now;
            return;
        }
        // Whoever names another browser each time keeps nobody else from being counted.
        if seen.count < WATCHERS_MAX
            && let Ok(address) = self.addresses.enter(ip)
        {
            seen.count += 1;
            seen.paths
                .entry(path.into())
                .or_default()
                .insert(client, Watcher { at: now, _address: address });
            HLS.viewers.set(seen.count as u64);
        }
    }

    /// Forgets those who have not asked for a while.
    pub fn forget(&self, now: Mono) {
        let mut seen = self.lock();
        seen.paths.retain(|_, clients| {
            clients.retain(|_, client| now.since(client.at) < SEEN_MAX);
            !clients.is_empty()
        });
        seen.count = seen.paths.values().map(HashMap::len).sum();
        HLS.viewers.set(seen.count as u64);
    }

    /// Paths, live ones and titles, with their clients.
    #[must_use]
    pub fn counts(&self) -> Vec<(Arc<str>, usize)> {
        let seen = self.lock();
        seen.paths.iter().map(|(path, clients)| (Arc::clone(path), clients.len())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So long a player with full buffers asks for nothing.
const SEEN_MAX: Duration = Duration::from_secs(30);
/// As many as `leave` knows.
const WATCHERS_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_a_path_are_counted_once_until_they_ask_no_more() {
        let watchers = Watchers::default();
        let at = |s: u64| Mono(s * 1_000_000_000);
        let mut phone = HeaderMap::new();
        phone.insert(header::USER_AGENT, HeaderValue::from_static("phone"));
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for (path, from, s) in [
            ("live/a", (one, &HeaderMap::new()), 0),
            ("live/a", (one, &phone), 1),
            ("live/a", (two, &phone), 2),
            ("live/a", (one, &phone), 3),
            ("vod/b", (two, &phone), 20),
        ] {
            watchers.note(path, from, at(s));
        }
        let counts = || {
            let mut counts = watchers.counts();
            counts.sort();
            counts.into_iter().map(|(path, count)| (path.to_string(), count)).collect::<Vec<_>>()
        };
        assert_eq!(counts(), [("live/a".to_owned(), 3), ("vod/b".to_owned(), 1)]);
        watchers.forget(at(32));
        assert_eq!(counts(), [("live/a".to_owned(), 1), ("vod/b".to_owned(), 1)]);
        watchers.forget(at(60));
        assert!(counts().is_empty());
        for n in 0..10_000_u32 {
            let from = IpAddr::from(std::net::Ipv4Addr::from(n));
            watchers.note("live/a", (from, &phone), at(61));
        }
        assert_eq!(counts(), [("live/a".to_owned(), WATCHERS_MAX)]);
        watchers.forget(at(100));
        for n in 0..3_000 {
            let agent = HeaderValue::from_str(&n.to_string()).unwrap();
            let agent: HeaderMap = [(header::USER_AGENT, agent)].into_iter().collect();
            watchers.note("live/a", (one, &agent), at(101));
        }
        watchers.note("live/b", (two, &phone), at(101));
        let share = ("live/a".to_owned(), WATCHERS_MAX / 4);
        assert_eq!(counts(), [share, ("live/b".to_owned(), 1)]);
    }
}
