//! `Work::Resolve`: the addresses of a host by its name.
//!
//! The system's resolver (hosts file, DNS, mDNS, whatever the host is set up for) blocks, for half
//! a minute when a name server is silent. So each name has a thread of its own: an executor would
//! have all its other tasks wait, and a pool of a few threads would have the names of cameras that
//! are up wait for those that are not.
//! Bound: `RESOLVING_MAX` threads; one more is a failure, and the source tries again later.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::reply::Reply;
use crate::poll::task::{Outcome, ResolveFailure};

/// Resolves `host` on a thread of its own, and answers from there.
pub(super) fn resolve(resolving: &Arc<AtomicUsize>, host: String, reply: Reply) {
    let ticket = Ticket::new(resolving);
    if ticket.count > RESOLVING_MAX {
        return reply.send(Outcome::Resolved(Err(ResolveFailure("too many names at once".into()))));
    }
    let thread = std::thread::Builder::new().name("resolve".to_owned());
    let spawned = thread.spawn(move || {
        let found = find(&host);
        drop(ticket);
        reply.send(Outcome::Resolved(found));
    });
    if let Err(error) = spawned {
        // The reply went with the closure, and said that the task was given up.
        tracing::warn!(%error, "no thread to resolve a name");
    }
}

fn find(host: &str) -> Result<Vec<IpAddr>, ResolveFailure> {
    let found = (host, 0).to_socket_addrs().map_err(|error| ResolveFailure(error.to_string()))?;
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in found.map(|address| address.ip().to_canonical()).take(ADDRESSES_MAX) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    if ips.is_empty() { Err(ResolveFailure("no address".into())) } else { Ok(ips) }
}

/// Counts a thread that resolves.
struct Ticket {
    resolving: Arc<AtomicUsize>,
    count: usize,
}

impl Ticket {
    fn new(resolving: &Arc<AtomicUsize>) -> Self {
        let count = resolving.fetch_add(1, Ordering::Relaxed) + 1;
        Self { resolving: Arc::clone(resolving), count }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.resolving.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Names that are being resolved: all cameras of a building whose name server is down, at a small
/// stack each.
const RESOLVING_MAX: usize = 64;
/// More than are tried.
const ADDRESSES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::reply::tests::desk;
    use super::*;
    use crate::base::ids::ShardId;
    use crate::poll::task::{Task, TaskClass, Work};

    fn task(ticket: u64) -> Task {
        let work = Work::Resolve { host: "localhost".to_owned() };
        Task { shard: ShardId(0), ticket, class: TaskClass::Control, work }
    }

    #[test]
    fn name_is_resolved_and_one_too_many_is_refused_at_once() {
        let (desk, kept) = desk();
        let full = Arc::new(AtomicUsize::new(RESOLVING_MAX));
        resolve(&full, "localhost".to_owned(), Reply::new(&desk, &task(1)));
        assert_eq!(full.load(Ordering::Relaxed), RESOLVING_MAX);
        let none = Arc::new(AtomicUsize::new(0));
        resolve(&none, "localhost".to_owned(), Reply::new(&desk, &task(2)));
        for _ in 0..1_000 {
            if kept.lock().unwrap().len() == 2 {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let kept = kept.lock().unwrap();
        let outcomes: Vec<_> = kept.iter().map(|done| (done.ticket, &done.outcome)).collect();
        let [(1, Outcome::Resolved(Err(refused))), (2, Outcome::Resolved(Ok(found)))] =
            outcomes.as_slice()
        else {
            panic!("{outcomes:?}")
        };
        assert_eq!(refused.to_string(), "too many names at once");
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[test]
    fn name_that_cannot_be_is_a_failure() {
        assert!(find("no such host").is_err());
    }
}
