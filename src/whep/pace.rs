//! How often an address may make offers.
//!
//! ```text
//!  turns of an address   64 when it has been quiet, one more each eighth of a second
//!  of this host, of one  eight times as many
//!  IPv6 site
//! ```
//! An offer has the thread of all viewers open a session, which takes it milliseconds, and costs
//! who sends it a few hundred bytes. So an address gets a fortieth of the thread for long, and a
//! fifth of a second of it at once: an office whose people all begin when a path does.
//! Bound: `KNOWN_MAX` addresses and sites. While as many have turns missing, others are not held
//! back by a rate of their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::prefix::Prefix;
use crate::base::time::Mono;

/// Turns of addresses: see the module.
#[derive(Debug, Default)]
pub struct Pace {
    /// When an address has all its turns again.
    full: HashMap<Prefix, Mono>,
}

impl Pace {
    /// Takes a turn of an address, and of its site. False: one of them has none left.
    pub fn take(&mut self, ip: IpAddr, now: Mono) -> bool {
        let of_address = if ip.to_canonical().is_loopback() { MANY } else { 1 };
        let both = [(Some(Prefix::of(ip)), of_address), (Prefix::site_of(ip), MANY)];
        let is_there = |(prefix, times): &(Option<Prefix>, u32)| {
            // A turn is as long as it takes to get it back.
            let others = INTERVAL / *times * (TURNS * *times - 1);
            let full = prefix.and_then(|prefix| self.full.get(&prefix));
            full.is_none_or(|full| *full <= now + others)
        };
        if !both.iter().all(is_there) {
            return false;
        }
        for (prefix, times) in both {
            if let Some(prefix) = prefix {
                self.note(prefix, INTERVAL / times, now);
            }
        }
        true
    }

    fn note(&mut self, prefix: Prefix, interval: Duration, now: Mono) {
        if self.full.len() >= KNOWN_MAX && !self.full.contains_key(&prefix) {
            self.full.retain(|_, full| *full > now);
            if self.full.len() >= KNOWN_MAX {
                return;
            }
        }
        let full = self.full.entry(prefix).or_insert(now);
        *full = (*full).max(now) + interval;
    }
}

/// In which an address gets a turn.
const INTERVAL: Duration = Duration::from_millis(125);
/// That an address has at once: more than `WAITING_PER_ADDRESS` offers that may wait.
const TURNS: u32 = 64;
/// So many times that of an address for programs of this host, proxies for instance, and for a
/// site.
const MANY: u32 = 8;
/// Addresses and sites whose turns are counted: half a megabyte.
const KNOWN_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono(1_000_000_000_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Offers that are let through at one moment.
    fn taken(pace: &mut Pace, ip: IpAddr, now: Mono) -> u32 {
        (0..10_000).map(|_| u32::from(pace.take(ip, now))).sum()
    }

    #[test]
    fn address_has_some_turns_at_once_and_then_one_each_interval() {
        let (mut pace, begun) = (Pace::default(), START);
        assert_eq!(taken(&mut pace, ip("192.0.2.1"), begun), TURNS);
        assert_eq!(taken(&mut pace, ip("192.0.2.1"), begun + INTERVAL / 2), 0);
        assert_eq!(taken(&mut pace, ip("192.0.2.1"), begun + INTERVAL * 3), 3);
        assert_eq!(taken(&mut pace, ip("192.0.2.2"), begun), TURNS, "another one has its own");
        let later = begun + INTERVAL * 1_000;
        assert_eq!(taken(&mut pace, ip("::ffff:192.0.2.1"), later), TURNS, "and no more than that");
    }

    #[test]
    fn networks_of_a_site_share_turns_and_this_host_has_more() {
        let (mut pace, now) = (Pace::default(), START);
        let of_site = |n: u32| ip(&format!("2001:db8:1:{n:x}::1"));
        let all: u32 = (0..100).map(|n| taken(&mut pace, of_site(n), now)).sum();
        assert_eq!(all, MANY * TURNS);
        assert_eq!(taken(&mut pace, ip("2001:db8:2::1"), now), TURNS);
        assert_eq!(taken(&mut pace, ip("127.0.0.1"), now), MANY * TURNS);
        assert_eq!(taken(&mut pace, ip("::1"), now), MANY * TURNS);
    }

    #[test]
    fn addresses_that_have_all_turns_again_are_forgotten() {
        let (mut pace, now) = (Pace::default(), START);
        let of = |n: u32| IpAddr::from(n.to_be_bytes());
        let first = 10 << 24;
        for n in 0..3 * u32::try_from(KNOWN_MAX).unwrap() {
            assert!(pace.take(of(first + n), now));
            assert!(pace.full.len() <= KNOWN_MAX);
        }
        assert!(pace.take(of(1), now + INTERVAL));
        assert_eq!(pace.full.len(), 1);
    }
}
