//! Locks of WebDAV (RFC 4918 s6): who holds one may write, nobody else.
//!
//! They are in memory: a base that starts again has none, and clients take theirs anew.
//! Invariants: a lock ends by itself within `TIMEOUT_MAX`; two exclusive locks never cover the same
//! place. Bound: `LOCKS_MAX` locks; another is refused as if it were in conflict.

use std::future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use dav_server::davpath::DavPath;
use dav_server::ls::{DavLock, DavLockSystem, LsFuture};
use uuid::Uuid;
use xmltree::Element;

/// All locks of a base.
#[derive(Debug, Clone, Default)]
pub(super) struct Locks(Arc<Mutex<Vec<DavLock>>>);

impl Locks {
    /// Whether a client with these headers may write to a place.
    pub(super) fn admits(&self, path: &DavPath, client: &str, headers: &HeaderMap) -> bool {
        let tokens = submitted(headers);
        self.conflict(path, Some(client), false, false, &tokens).is_none()
    }

    /// The locks that have not ended.
    fn live(&self) -> MutexGuard<'_, Vec<DavLock>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        locks.retain(|lock| lock.timeout_at.is_some_and(|end| end > now));
        locks
    }

    fn conflict(
        &self,
        path: &DavPath,
        principal: Option<&str>,
        any_principal: bool,
        deep: bool,
        tokens: &[String],
    ) -> Option<DavLock> {
        let locks = self.live();
        let is_held = |lock: &DavLock| {
            tokens.contains(&lock.token)
                && (any_principal || principal == lock.principal.as_deref())
        };
        let covering = || locks.iter().filter(|lock| covers(lock, path));
        let others = || covering().filter(|lock| !is_held(lock));
        let exclusive = others().find(|lock| !lock.shared);
        // One shared lock of several is enough to write.
        let shared = others().next().filter(|_| !covering().any(is_held));
        let beneath = locks.iter().find(|lock| {
            deep && is_within(lock.path.as_bytes(), path.as_bytes()) && !is_held(lock)
        });
        exclusive.or(shared).or(beneath).cloned()
    }
}

impl DavLockSystem for Locks {
    fn lock(
        &'_ self,
        path: &DavPath,
        principal: Option<&str>,
        owner: Option<&Element>,
        timeout: Option<Duration>,
        shared: bool,
        deep: bool,
    ) -> LsFuture<'_, Result<DavLock, DavLock>> {
        let mut locks = self.live();
        let other = locks.iter().find(|lock| {
            let is_near =
                covers(lock, path) || deep && is_within(lock.path.as_bytes(), path.as_bytes());
            is_near && !(shared && lock.shared)
        });
        let refused = other.or_else(|| locks.first().filter(|_| locks.len() >= LOCKS_MAX)).cloned();
        let timeout = timeout.unwrap_or(TIMEOUT_MAX).min(TIMEOUT_MAX);
        let locked = refused.map_or_else(
            || {
                let lock = DavLock {
                    token: Uuid::now_v7().urn().to_string(),
                    path: Box::new(path.clone()),
                    principal: principal.map(str::to_owned),
                    owner: owner.cloned().map(Box::new),
                    timeout_at: Some(SystemTime::now() + timeout),
                    timeout: Some(timeout),
                    shared,
                    deep,
                };
                locks.push(lock.clone());
                Ok(lock)
            },
            Err,
        );
        Box::pin(future::ready(locked))
    }

    fn unlock(&'_ self, path: &DavPath, token: &str) -> LsFuture<'_, Result<(), ()>> {
        let mut locks = self.live();
        let known = locks.len();
        locks.retain(|lock| !(lock.token == token && covers(lock, path)));
        Box::pin(future::ready(if locks.len() < known { Ok(()) } else { Err(()) }))
    }

    fn refresh(
        &'_ self,
        path: &DavPath,
        token: &str,
        timeout: Option<Duration>,
    ) -> LsFuture<'_, Result<DavLock, ()>> {
        let mut locks = self.live();
        let lock = locks.iter_mut().find(|lock| lock.token == token && covers(lock, path));
        let timeout = timeout.unwrap_or(TIMEOUT_MAX).min(TIMEOUT_MAX);
        let refreshed = lock.map(|lock| {
            lock.timeout = Some(timeout);
            lock.timeout_at = Some(SystemTime::now() + timeout);
            lock.clone()
        });
        Box::pin(future::ready(refreshed.ok_or(())))
    }

    fn check(
        &'_ self,
        path: &DavPath,
        principal: Option<&str>,
        ignore_principal: bool,
        deep: bool,
        submitted_tokens: &[String],
    ) -> LsFuture<'_, Result<(), DavLock>> {
        let conflict = self.conflict(path, principal, ignore_principal, deep, submitted_tokens);
        Box::pin(future::ready(conflict.map_or(Ok(()), Err)))
    }

    fn discover(&'_ self, path: &DavPath) -> LsFuture<'_, Vec<DavLock>> {
        let found = self.live().iter().filter(|lock| covers(lock, path)).cloned().collect();
        Box::pin(future::ready(found))
    }

    fn delete(&'_ self, path: &DavPath) -> LsFuture<'_, Result<(), ()>> {
        self.live().retain(|lock| {
            let (own, gone) = (lock.path.as_bytes(), path.as_bytes());
            trimmed(own) != trimmed(gone) && !is_within(own, gone)
        });
        Box::pin(future::ready(Ok(())))
    }
}

fn covers(lock: &DavLock, path: &DavPath) -> bool {
    let (own, path) = (lock.path.as_bytes(), path.as_bytes());
    trimmed(own) == trimmed(path) || lock.deep && is_within(path, own)
}

/// Whether `path` is beneath `folder`, and not the folder itself.
fn is_within(path: &[u8], folder: &[u8]) -> bool {
    let rest = trimmed(path).strip_prefix(trimmed(folder));
    rest.is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn trimmed(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// The lock tokens of `If` (RFC 4918 s10.4): `(<urn:uuid:..>)`. Those of `Not` conditions name
/// locks that the client does not hold.
fn submitted(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all("if").into_iter().filter_map(|value| value.to_str().ok());
    let lists = values.flat_map(|value| value.split('(').skip(1));
    let tokens = lists.filter_map(|list| list.split(')').next()).flat_map(|list| {
        let mut words = list.split('<');
        let mut before = words.next().unwrap_or_default();
        let mut tokens = Vec::new();
        for word in words {
            let (token, behind) = word.split_once('>').unwrap_or((word, ""));
            if !before.trim_end().to_ascii_lowercase().ends_with("not") {
                tokens.push(token.to_owned());
            }
            before = behind;
        }
        tokens
    });
    tokens.collect()
}

/// Clients refresh theirs well before; one that is gone does not lock others out for a day.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// A few for each editor and each mounted folder.
const LOCKS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use futures_util::FutureExt;

    use super::*;

    fn path(path: &str) -> DavPath {
        DavPath::new(path).unwrap()
    }

    fn take(locks: &Locks, at: &str, shared: bool, deep: bool) -> Result<DavLock, DavLock> {
        let taken = locks.lock(&path(at), Some("me"), None, None, shared, deep);
        taken.now_or_never().unwrap()
    }

    fn holding(token: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("</x> (<{token}>)")).unwrap();
        HeaderMap::from_iter([(HeaderName::from_static("if"), value)])
    }

    #[test]
    fn only_the_holder_of_the_token_may_write() {
        let locks = Locks::default();
        let lock = take(&locks, "/j/a", false, false).unwrap();
        assert!(!locks.admits(&path("/j/a"), "me", &HeaderMap::new()));
        assert!(locks.admits(&path("/j/a"), "me", &holding(&lock.token)));
        assert!(!locks.admits(&path("/j/a"), "other", &holding(&lock.token)));
        assert!(locks.admits(&path("/j/ab"), "other", &HeaderMap::new()));
        assert!(locks.unlock(&path("/j/a"), &lock.token).now_or_never().unwrap().is_ok());
        assert!(locks.admits(&path("/j/a"), "other", &HeaderMap::new()));
    }

    #[test]
    fn deep_lock_covers_what_is_beneath_and_shared_ones_go_together() {
        let locks = Locks::default();
        take(&locks, "/j/a/", false, true).unwrap();
        assert!(take(&locks, "/j/a/b", false, false).is_err());
        assert!(take(&locks, "/j", false, true).is_err());
        take(&locks, "/j/c", true, false).unwrap();
        take(&locks, "/j/c", true, false).unwrap();
        assert!(take(&locks, "/j/c", false, false).is_err());
        locks.delete(&path("/j")).now_or_never().unwrap().unwrap();
        assert!(take(&locks, "/j", false, true).is_ok());
    }

    #[test]
    fn more_locks_than_there_may_be_are_refused() {
        let locks = Locks::default();
        for number in 0..LOCKS_MAX {
            take(&locks, &format!("/{number}"), false, false).unwrap();
        }
        assert!(take(&locks, "/more", false, false).is_err());
    }

    #[test]
    fn tokens_of_not_conditions_are_not_held() {
        let value = HeaderValue::from_static("(<urn:a> [\"e\"]) (Not <urn:b> <urn:c>)");
        let headers = HeaderMap::from_iter([(HeaderName::from_static("if"), value)]);
        assert_eq!(submitted(&headers), ["urn:a", "urn:c"]);
    }
}
