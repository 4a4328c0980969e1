//! Faults of a run, and their end.
//!
//! ```text
//! crash, power loss (node, base)   cut, partition, slow link   spoiled frames   clock jump
//! orders and reports again, late   disk full, slow, faulty     drain, retire    join storm
//! receivers of notifications that are down, refuse, and whose answers are lost
//! ```
//! Invariant: each fault ends by itself before `calm_at`; then all hosts run, all links are whole,
//! disks have room, quarantine is lifted.

use std::collections::BTreeSet;

use crate::base::Ask;
use crate::client::ClientAsk;
use crate::dice::{Dice, MS, S};
use crate::network::{BASE, Host, host_of};
use crate::world::World;

/// Something goes wrong, or is well again.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Start(usize),
    Crash {
        n: usize,
        is_dark: bool,
    },
    StartBase,
    CrashBase {
        is_dark: bool,
    },
    Cut(Host, Host),
    Heal(Host, Host),
    /// These are on another side than the base.
    Partition(BTreeSet<Host>),
    Join(BTreeSet<Host>),
    Slow(Host, u64),
    Spoil(Host, u32),
    Clock {
        n: usize,
        skew_ns: i64,
    },
    /// So many bytes are left on the disk; `None`: as many as before.
    Full {
        n: usize,
        left: Option<u64>,
    },
    SlowDisk {
        n: usize,
        sync_ms: (u64, u64),
    },
    SlowLedger((u64, u64)),
    Messages {
        again: u32,
        late: u32,
    },
    IoErrors(u32),
    /// Thousandths of messages from node to node, and of answers to them, that are lost.
    Hands {
        lost: u32,
    },
    /// Receivers of notifications answer no more, or again.
    Sinks {
        are_down: bool,
    },
    /// Thousandths of notifications that are refused, and of which the base does not hear the end.
    Calls {
        refused: u32,
        lost: u32,
    },
    Drain(usize),
    Undrain(usize),
    Retire(usize),
    /// An operator says in how many seconds a node will be back.
    Expect(usize, u64),
    Calm,
}

/// What messages and disks suffer from now.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Thousandths of orders that come twice, that come late, and of reports that come twice.
    pub(crate) orders_again: u32,
    pub(crate) orders_late: u32,
    pub(crate) reports_again: u32,
    /// Thousandths of changes of a media folder that fail.
    pub(crate) io_errors: u32,
    /// Thousandths of messages from node to node, and of answers, that are lost.
    pub(crate) hands_lost: u32,
    /// Disks that were made smaller, with what they had.
    full: Vec<(usize, u64)>,
    pub(crate) is_calm: bool,
}

impl World {
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.trace.note(self.now, "fault", self.watch.steps, 0);
        self.trace.say(self.now, || format!("{fault:?}"));
        match fault {
            Fault::Start(n) => self.start_node(n),
            Fault::Crash { n, is_dark } => self.crash_node(n, is_dark),
            Fault::StartBase => self.start_base(),
            Fault::CrashBase { is_dark } => self.crash_base(is_dark),
            Fault::Cut(one, other) => self.net.cut(one, other),
            Fault::Heal(one, other) => {
                self.net.heal(one, other);
                self.healed();
            }
            Fault::Partition(hosts) => hosts.iter().for_each(|host| self.net.set_side(*host, 1)),
            Fault::Join(hosts) => {
                hosts.iter().for_each(|host| self.net.set_side(*host, 0));
                self.healed();
            }
            Fault::Slow(host, divisor) => self.net.set_slower(host, divisor),
            Fault::Spoil(host, frames) => {
                *self.streams.spoils.entry(host).or_default() += frames;
            }
            Fault::Clock { n, skew_ns } => self.nodes[n].skew_ns = skew_ns,
            Fault::Full { n, left } => self.fill_disk(n, left),
            Fault::SlowDisk { n, sync_ms } => self.nodes[n].sync_ms = sync_ms,
            Fault::SlowLedger(commit_ms) => self.base.commit_ms = commit_ms,
            Fault::Messages { again, late } => {
                self.faults.orders_again = again;
                self.faults.reports_again = again;
                self.faults.orders_late = late;
            }
            Fault::IoErrors(permille) => self.faults.io_errors = permille,
            Fault::Hands { lost } => self.faults.hands_lost = lost,
            Fault::Sinks { are_down } => self.sinks.is_down = are_down,
            Fault::Calls { refused, lost } => {
                (self.sinks.refused, self.sinks.lost) = (refused, lost);
            }
            Fault::Drain(n) => self.operate(ClientAsk::Drain(self.nodes[n].name.clone())),
            Fault::Undrain(n) => self.operate(ClientAsk::Undrain(self.nodes[n].name.clone())),
            Fault::Retire(n) => {
                self.watch.retired.insert(n);
                self.operate(ClientAsk::Retire(self.nodes[n].name.clone()));
            }
            Fault::Expect(n, seconds) => {
                let at_ns = self.stamp().utc_ns + i64::try_from(seconds * S).unwrap_or(0);
                self.operate(ClientAsk::Expect(self.nodes[n].name.clone(), at_ns));
            }
            Fault::Calm => self.calm(),
        }
    }

    fn operate(&mut self, what: ClientAsk) {
        self.asked(Ask::Client { c: usize::MAX, ask: 0, what: Box::new(what) });
    }

    fn healed(&mut self) {
        self.go_on();
        self.lines_go_on();
    }

    fn fill_disk(&mut self, n: usize, left: Option<u64>) {
        let disk = &mut self.nodes[n].disk;
        match left {
            Some(left) => {
                self.faults.full.push((n, disk.capacity));
                disk.capacity = disk.used() + left;
            }
            None => {
                let known = self.faults.full.iter().position(|(full, _)| *full == n);
                if let Some(at) = known {
                    disk.capacity = self.faults.full.remove(at).1;
                }
            }
        }
    }

    /// Everything is well from now on.
    fn calm(&mut self) {
        self.net.heal_all();
        self.healed();
        let full = std::mem::take(&mut self.faults.full);
        for (n, capacity) in full.into_iter().rev() {
            self.nodes[n].disk.capacity = capacity;
        }
        self.faults = Faults { is_calm: true, ..Faults::default() };
        self.streams.spoils.clear();
        (self.sinks.is_down, self.sinks.refused, self.sinks.lost) = (false, 0, 0);
        self.base.commit_ms = self.setup.commit_ms;
        self.start_base();
        for n in 0..self.nodes.len() {
            self.nodes[n].sync_ms = (1, 10);
            self.start_node(n);
            if !self.watch.retired.contains(&n) {
                self.operate(ClientAsk::Undrain(self.nodes[n].name.clone()));
            }
        }
    }
}

/// Faults of a seed; some seeds have none.
pub(crate) fn drawn(dice: &mut Dice, nodes: usize, calm_at: u64) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    for _ in 0..dice.pick(&[0, 1, 1, 2, 2, 3, 4, 6, 9]) {
        let at = dice.between(S, calm_at - 10 * S);
        let end = at + dice.between(200 * MS, calm_at - at - S);
        let n = dice.index(nodes);
        let (from, to) = pair(dice, n, nodes);
        faults.extend(match dice.index(16) {
            0..=2 => {
                let is_dark = dice.chance(400);
                [(at, Fault::Crash { n, is_dark }), (end, Fault::Start(n))]
            }
            3 => {
                let is_dark = dice.chance(300);
                [(at, Fault::CrashBase { is_dark }), (end, Fault::StartBase)]
            }
            4 | 5 => [(at, Fault::Cut(from, to)), (end, Fault::Heal(from, to))],
            6 => {
                let side: BTreeSet<Host> =
                    (0..nodes).filter(|_| dice.chance(500)).map(host_of).collect();
                [(at, Fault::Partition(side.clone())), (end, Fault::Join(side))]
            }
            7 => {
                let host = dice.index(nodes + 1);
                let divisor = dice.between(2, 20);
                [(at, Fault::Slow(host, divisor)), (end, Fault::Slow(host, 1))]
            }
            8 => {
                let (host, again) = (dice.index(nodes + 1), dice.index(nodes + 1));
                let count = u32::try_from(dice.between(1, 4)).unwrap_or(1);
                [(at, Fault::Spoil(host, count)), (end, Fault::Spoil(again, count))]
            }
            9 => {
                let (skew_ns, back) = (hours(dice), hours(dice));
                [(at, Fault::Clock { n, skew_ns }), (end, Fault::Clock { n, skew_ns: back })]
            }
            10 => {
                let left = Some(dice.between(0, 300_000));
                [(at, Fault::Full { n, left }), (end, Fault::Full { n, left: None })]
            }
            11 => {
                let sync_ms = dice.pick(&[(100, 900), (1_000, 6_000)]);
                [
                    (at, Fault::SlowDisk { n, sync_ms }),
                    (end, Fault::SlowDisk { n, sync_ms: (1, 10) }),
                ]
            }
            12 => {
                let slow = dice.pick(&[(200, 800), (1_000, 12_000)]);
                [(at, Fault::SlowLedger(slow)), (end, Fault::SlowLedger((1, 12)))]
            }
            13 => {
                let (again, late) = (percents(dice), percents(dice));
                let none = Fault::Messages { again: 0, late: 0 };
                [(at, Fault::Messages { again, late }), (end, none)]
            }
            14 => [(at, Fault::IoErrors(percents(dice))), (end, Fault::IoErrors(0))],
            _ if dice.chance(200) => [(at, Fault::Retire(n)), (end, Fault::Start(n))],
            _ => [(at, Fault::Drain(n)), (end, Fault::Undrain(n))],
        });
    }
    faults.push((calm_at, Fault::Calm));
    faults
}

/// Faults of receivers of notifications.
pub(crate) fn drawn_for_sinks(dice: &mut Dice, calm_at: u64) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    if dice.chance(300) {
        let at = dice.between(S, calm_at - 5 * S);
        let end = at + dice.between(S, calm_at - at - S);
        faults.push((at, Fault::Sinks { are_down: true }));
        faults.push((end, Fault::Sinks { are_down: false }));
    }
    if dice.chance(300) {
        let (refused, lost) = (percents(dice), percents(dice) / 4);
        faults.push((0, Fault::Calls { refused, lost }));
    }
    faults
}

/// A host and another.
fn pair(dice: &mut Dice, n: usize, nodes: usize) -> (Host, Host) {
    let host = host_of(n);
    let other = dice.index(nodes + 1);
    (host, if other == host { BASE } else { other })
}

fn percents(dice: &mut Dice) -> u32 {
    u32::try_from(dice.between(1, 40) * 10).unwrap_or(10)
}

fn hours(dice: &mut Dice) -> i64 {
    let minutes = i64::try_from(dice.between(0, 240)).unwrap_or(0) - 120;
    minutes * 60 * 1_000_000_000
}
