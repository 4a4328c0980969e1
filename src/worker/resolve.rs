//! `Work::Resolve`: the addresses of a host by its name.
//!
//! The system's resolver (hosts file, DNS, mDNS, whatever the host is set up for) blocks, for half
//! a minute when a name server is silent. So each name has a thread of its own: an executor would
//! have all its other tasks wait, and a pool of a few threads would have the names of cameras that
//! are up wait for those that are not.
//! A link-local address is not looked up; its interface is, by name or number, each time anew: an
//! interface that comes again has another number.
//! Bound: `RESOLVING_MAX` threads; one more is a failure, and the source tries again later.

use std::io;
use std::net::{Ipv6Addr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketType, socket};

use super::reply::Reply;
use crate::base::host::Host;
use crate::poll::task::{Outcome, ResolveFailure};

/// Resolves `host` on a thread of its own, and answers from there.
pub(super) fn resolve(
    resolving: &Arc<AtomicUsize>,
    host: String,
    zone: Option<String>,
    reply: Reply,
) {
    let ticket = Ticket::new(resolving);
    if ticket.count > RESOLVING_MAX {
        let full = ResolveFailure::Name("too many names at once".into());
        return reply.send(Outcome::Resolved(Err(full)));
    }
    let thread = std::thread::Builder::new().name("resolve".to_owned());
    let spawned = thread.spawn(move || {
        let found = match zone {
            Some(zone) => on_link(&host, &zone).map(|host| vec![host]),
            None => find(&host),
        };
        drop(ticket);
        reply.send(Outcome::Resolved(found));
    });
    if let Err(error) = spawned {
        // The reply went with the closure, and said that the task was given up.
        tracing::warn!(code = "HE-W701", %error, "no thread to resolve a name");
    }
}

fn find(host: &str) -> Result<Vec<Host>, ResolveFailure> {
    let named = |error: io::Error| ResolveFailure::Name(error.to_string());
    let mut hosts: Vec<Host> = Vec::new();
    for host in (host, 0).to_socket_addrs().map_err(named)?.map(Host::of).take(ADDRESSES_MAX) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    if hosts.is_empty() { Err(ResolveFailure::Name("no address".into())) } else { Ok(hosts) }
}

/// A link-local address by the interface `zone`. A name of digits alone is possible, and goes
/// before the number.
fn on_link(ip: &str, zone: &str) -> Result<Host, ResolveFailure> {
    let ip: Ipv6Addr =
        ip.parse().map_err(|_| ResolveFailure::Name(format!("{ip} is no IPv6 address")))?;
    let index = || {
        // Any socket will do (netdevice(7)).
        let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
        let by_number = || {
            let digits = Some(zone).filter(|zone| zone.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse().ok());
            number.filter(|index| *index > 0 && index_to_name(&any, *index).is_ok())
        };
        name_to_index(&any, zone).ok().or_else(by_number)
    };
    let index = index().ok_or_else(|| ResolveFailure::Interface { zone: zone.to_owned() })?;
    Ok(Host::new(ip.into(), index))
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
    use crate::poll::task::{Task, TaskClass, TaskOwner, Work};

    fn task(number: u64) -> Task {
        let work = Work::Resolve { host: "localhost".to_owned(), zone: None };
        Task {
            shard: ShardId(0),
            owner: TaskOwner::numbered(number),
            class: TaskClass::Control,
            work,
        }
    }

    #[test]
    fn name_is_resolved_and_one_too_many_is_refused_at_once() {
        let (desk, kept) = desk();
        let full = Arc::new(AtomicUsize::new(RESOLVING_MAX));
        resolve(&full, "localhost".to_owned(), None, Reply::new(&desk, &task(1)));
        assert_eq!(full.load(Ordering::Relaxed), RESOLVING_MAX);
        let none = Arc::new(AtomicUsize::new(0));
        resolve(&none, "localhost".to_owned(), None, Reply::new(&desk, &task(2)));
        for _ in 0..1_000 {
            if kept.lock().unwrap().len() == 2 {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let kept = kept.lock().unwrap();
        let outcomes: Vec<_> =
            kept.iter().map(|done| (done.owner.number(), &done.outcome)).collect();
        let [(1, Outcome::Resolved(Err(refused))), (2, Outcome::Resolved(Ok(found)))] =
            outcomes.as_slice()
        else {
            panic!("{outcomes:?}")
        };
        let why = "the name of its host is not found: too many names at once";
        assert_eq!(refused.to_string(), why);
        assert!(found.iter().all(|host| host.ip().is_loopback()), "{found:?}");
    }

    #[test]
    fn name_that_cannot_be_is_a_failure() {
        assert!(find("no such host").is_err());
    }
    #[test]
    fn interface_is_found_by_its_name_or_number_and_by_nothing_else() {
        let by_name = on_link("fe80::7", "lo").unwrap();
        let index = by_name.scope_id().unwrap();
        assert_eq!(by_name, Host::new("fe80::7".parse().unwrap(), index));
        assert_eq!(on_link("fe80::7", &index.to_string()), Ok(by_name));
        for zone in
            ["nosuch0", "0", "-1", "+1", "4294967295", "4294967296", "a-name-that-is-too-long", ""]
        {
            let failure = on_link("fe80::7", zone).unwrap_err();
            assert_eq!(failure, ResolveFailure::Interface { zone: zone.to_owned() });
        }
        assert!(on_link("10.0.0.7", "lo").is_err());
    }
}
