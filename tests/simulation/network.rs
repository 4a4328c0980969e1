//! The virtual network: who reaches whom, and how long bytes take.
//!
//! ```text
//! host --uplink (bytes a second, one after the other)--> latency --downlink--> host
//! ```
//! Bytes on a connection are neither lost nor reordered, as TCP has it: what a cut holds up goes on
//! when it is healed. Requests are lost when they meet a cut.

use std::collections::BTreeMap;

use crate::dice::S;

/// A host: 0 is the base, `n + 1` node `n`.
pub(crate) type Host = usize;

pub(crate) const BASE: Host = 0;

/// The host of a node.
pub(crate) const fn host_of(node: usize) -> Host {
    node + 1
}

#[derive(Debug)]
pub(crate) struct Network {
    hosts: Vec<Links>,
    /// How many faults hold each pair apart.
    cuts: BTreeMap<(Host, Host), u32>,
    /// Milliseconds at least and at most.
    pub(crate) latency_ms: (u64, u64),
}

#[derive(Debug, Clone, Copy)]
struct Links {
    up: u64,
    down: u64,
    /// Faults that slow it, as a divisor.
    slower: u64,
    up_free: u64,
    down_free: u64,
    /// Side of a partition.
    side: u8,
}

impl Network {
    pub(crate) fn new(rates: &[(u64, u64)], latency_ms: (u64, u64)) -> Self {
        let links = |&(up, down): &(u64, u64)| Links {
            up,
            down,
            slower: 1,
            up_free: 0,
            down_free: 0,
            side: 0,
        };
        Self { hosts: rates.iter().map(links).collect(), cuts: BTreeMap::new(), latency_ms }
    }

    pub(crate) fn reaches(&self, from: Host, to: Host) -> bool {
        self.hosts[from].side == self.hosts[to].side && !self.cuts.contains_key(&pair(from, to))
    }

    pub(crate) fn cut(&mut self, one: Host, other: Host) {
        *self.cuts.entry(pair(one, other)).or_default() += 1;
    }

    pub(crate) fn heal(&mut self, one: Host, other: Host) {
        if let Some(count) = self.cuts.get_mut(&pair(one, other)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&pair(one, other));
            }
        }
    }

    /// Puts a host on one side of a partition; 0 is that of the base.
    pub(crate) fn set_side(&mut self, host: Host, side: u8) {
        self.hosts[host].side = side;
    }

    pub(crate) fn set_slower(&mut self, host: Host, divisor: u64) {
        self.hosts[host].slower = divisor.max(1);
    }

    /// When the last of `bytes` has left `from`, and when it is at `to`, but for the latency. Both
    /// ends work at once: what leaves also arrives, as fast as the slower end.
    pub(crate) fn carry(&mut self, from: Host, to: Host, bytes: u64, now: u64) -> (u64, u64) {
        let sender = &mut self.hosts[from];
        let begins = sender.up_free.max(now);
        sender.up_free = begins + bytes * S / (sender.up / sender.slower).max(1);
        let leaves = sender.up_free;
        let receiver = &mut self.hosts[to];
        receiver.down_free = receiver.down_free.max(begins) + bytes * S / receiver.down.max(1);
        (leaves, leaves.max(receiver.down_free))
    }

    /// No fault is left.
    pub(crate) fn heal_all(&mut self) {
        self.cuts.clear();
        for links in &mut self.hosts {
            (links.side, links.slower) = (0, 1);
        }
    }
}

fn pair(one: Host, other: Host) -> (Host, Host) {
    (one.min(other), one.max(other))
}
