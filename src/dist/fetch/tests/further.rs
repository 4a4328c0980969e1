//! A fetch from several sources at once, against a model of what they give.

use proptest::prelude::*;

use super::*;
use crate::dist::fetch::further::HELPERS_MAX;
use crate::dist::units::{AHEAD_BYTES_MAX, UNIT_BYTES};

/// A node, its disk, and sources that have everything.
struct Lab {
    fetch: Fetch,
    now: Mono,
    total: u64,
    /// Units without a gap, and those ahead.
    have: u64,
    ahead: BTreeSet<u64>,
    links: BTreeMap<LinkId, Open>,
    /// Units that came twice.
    twice: u64,
    is_whole: bool,
    starts: u64,
    told: Vec<Vec<Peer>>,
}

#[derive(Debug)]
struct Open {
    source: Peer,
    at: u64,
    to: Option<u64>,
    part: Option<Part>,
    is_used: bool,
}

impl Lab {
    fn new(units: u64, further: &str) -> Self {
        let mut lab = Self {
            fetch: Fetch::new(NodeName::new("me").unwrap(), 0, Some(units * UNIT_BYTES)),
            now: Mono(1),
            total: units,
            have: 0,
            ahead: BTreeSet::new(),
            links: BTreeMap::new(),
            twice: 0,
            is_whole: false,
            starts: 0,
            told: Vec::new(),
        };
        lab.start(further);
        lab
    }

    /// A fetch begins, with what is there.
    fn start(&mut self, further: &str) {
        self.starts += 1;
        let size = Some(self.total * UNIT_BYTES);
        self.fetch = Fetch::new(NodeName::new("me").unwrap(), self.have * UNIT_BYTES, size);
        self.links.clear();
        let here = self.ahead.iter().map(|unit| unit * UNIT_BYTES..(unit + 1) * UNIT_BYTES);
        self.fetch.set_here(here.collect());
        let further = sources(further);
        self.run(|fetch, now, out| {
            fetch.handle_sources(Epoch(1), sources("a b base"), now, out);
            fetch.handle_further(further, now);
        });
    }

    fn run(&mut self, step: impl FnOnce(&mut Fetch, Mono, &mut Vec<FetchAction>)) {
        let mut out = Vec::new();
        step(&mut self.fetch, self.now, &mut out);
        for action in out {
            self.perform(action);
        }
        self.check();
    }

    fn perform(&mut self, action: FetchAction) {
        match action {
            FetchAction::Connect { link, source, from, part, .. } => {
                let at = (from / UNIT_BYTES).max(self.have);
                let to = part.and_then(|part| part.to).map(|to| to.div_ceil(UNIT_BYTES));
                let source = source.node;
                let open = Open { source, at, to, part, is_used: false };
                assert!(self.links.insert(link, open).is_none());
            }
            FetchAction::Use { link } => {
                if let Some(open) = self.links.get_mut(&link) {
                    open.is_used = true;
                }
            }
            FetchAction::Close { link } => drop(self.links.remove(&link)),
            FetchAction::Ask { ask, .. } => {
                let end = ContentEnd { size: self.total * UNIT_BYTES, blake3: Digest([0; 32]) };
                let state = ContentState { end: Some(end), ..state(self.total * UNIT_BYTES, "") };
                self.run(|fetch, now, out| fetch.handle_state(ask, Some(&state), now, out));
            }
            FetchAction::Further { sources } => self.told.push(sources),
            FetchAction::Whole => self.is_whole = true,
            FetchAction::Switched { .. } | FetchAction::BadUnit { .. } | FetchAction::GaveUp(_) => {
            }
        }
    }

    /// Parts of further sources do not meet each other, and are within the window.
    fn check(&self) {
        let spare = self.links.values().filter(|open| open.part.is_some_and(|p| p.is_spare));
        let spare: Vec<_> = spare.collect();
        assert!(spare.len() <= HELPERS_MAX, "{spare:?}");
        for (place, one) in spare.iter().enumerate() {
            let end = one.to.unwrap();
            assert!(end * UNIT_BYTES <= self.have * UNIT_BYTES + AHEAD_BYTES_MAX);
            for other in &spare[place + 1..] {
                let meets = one.at < other.to.unwrap() && other.at < end;
                assert!(!meets && one.source != other.source, "{one:?} {other:?}");
            }
        }
        assert!(self.fetch.have() <= self.have * UNIT_BYTES);
    }

    fn event(&mut self, link: LinkId, event: LinkEvent) {
        self.run(|fetch, now, out| fetch.handle_link(link, event, now, out));
    }

    /// A link gives its next unit.
    fn give(&mut self, link: LinkId) {
        let Some(open) = self.links.get_mut(&link) else { return };
        if !open.is_used {
            return self.event(link, LinkEvent::FirstByte);
        }
        let unit = open.at;
        if unit >= self.total {
            let is_whole = self.have == self.total;
            let event = if is_whole { LinkEvent::Whole } else { LinkEvent::Done };
            return self.event(link, event);
        }
        open.at += 1;
        let is_done = open.to.is_some_and(|to| open.at >= to);
        if unit < self.have || !self.ahead.insert(unit) {
            self.twice += 1;
        } else {
            while self.ahead.remove(&self.have) {
                self.have += 1;
            }
            let (have, at) = (self.have * UNIT_BYTES, (unit + 1) * UNIT_BYTES);
            self.event(link, LinkEvent::Grew { have, bytes: UNIT_BYTES, at });
        }
        if is_done {
            self.event(link, LinkEvent::Done);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.run(|fetch, now, out| fetch.handle_time(now, out));
    }

    fn of(&self, source: &str) -> Vec<LinkId> {
        let node = name(source);
        self.links.iter().filter(|(_, open)| open.source == node).map(|(id, _)| *id).collect()
    }

    /// For so many milliseconds each source gives so many units in each tenth of a second.
    fn flow(&mut self, rates: &[(&str, u64)], ms: u64) {
        for _ in 0..ms / 50 {
            for (source, rate) in rates {
                for _ in 0..rate.div_ceil(2) {
                    // A source may have a new link behind the last unit of one.
                    let Some(link) = self.of(source).pop() else { break };
                    self.give(link);
                }
            }
            if self.is_whole {
                return;
            }
            self.pass(50);
        }
    }
}

#[test]
fn further_sources_bring_what_the_main_one_does_not_and_nothing_comes_twice() {
    let mut lab = Lab::new(1_000, "c d e");
    let rates = [("a", 4), ("c", 4), ("d", 4), ("e", 4)];
    lab.flow(&rates, 10_000);
    let all = lab.have + lab.ahead.len() as u64;
    assert!(all >= 650, "{all} units in ten seconds; the main source alone gives 400");
    lab.flow(&rates, 10_000);
    assert!(lab.is_whole, "{} {:?} {:?}", lab.have, lab.ahead, lab.links);
    assert!(lab.twice <= 16, "{} came twice", lab.twice);
    let named: Vec<Peer> = ["c", "d", "e"].map(name).into();
    assert_eq!(lab.told.first().map(Vec::len), Some(3), "{:?}", lab.told);
    assert!(lab.told.contains(&named) && lab.told.len() <= 2, "{:?}", lab.told);
    let via = lab.fetch.via();
    assert!(["a", "c", "d", "e"].iter().all(|name| via[*name] > 100 * UNIT_BYTES), "{via:?}");
}

#[test]
fn main_source_that_is_not_behind_is_not_helped() {
    let mut lab = Lab::new(400, "");
    lab.flow(&[("a", 20)], 1_000);
    assert!(lab.links.values().all(|open| open.part.is_none()));
    // Named, but the main source brings all that it has.
    let (mut rig, _) = Rig::new("a b base");
    rig.run(|fetch, now, _| fetch.handle_further(sources("c d"), now));
    rig.link(1, LinkEvent::FirstByte);
    for step in 1..=40 {
        rig.grow(1, step * 65_536, 65_536);
        for said in rig.wait(100 * MS) {
            let ask = said.strip_prefix("ask ").unwrap_or_else(|| panic!("{said}"));
            let (ask, _) = ask.split_once(' ').unwrap();
            let out = rig.answer(ask.parse().unwrap(), Some(state((step + 2) * 65_536, "")));
            assert_eq!(out, [""; 0]);
        }
    }
}

#[test]
fn part_of_a_source_that_is_lost_comes_from_others_and_the_source_is_left_alone() {
    let mut lab = Lab::new(600, "c d");
    lab.flow(&[("a", 2), ("c", 4), ("d", 4)], 3_000);
    while lab.of("c").is_empty() {
        lab.flow(&[("a", 2), ("d", 4)], 50);
    }
    let lost = lab.of("c").pop().unwrap();
    lab.event(lost, LinkEvent::Lost);
    assert!(lab.of("c").is_empty());
    lab.flow(&[("a", 2), ("d", 4)], 4_000);
    assert!(lab.of("c").is_empty(), "for five seconds");
    lab.flow(&[("a", 2), ("c", 4), ("d", 4)], 20_000);
    assert!(lab.is_whole && lab.twice <= 16, "{} {}", lab.have, lab.twice);
}

#[test]
fn source_that_gives_nothing_of_its_part_loses_it_in_time() {
    let mut lab = Lab::new(600, "c d");
    lab.flow(&[("a", 2), ("d", 2)], 2_500);
    lab.flow(&[("a", 2), ("d", 2)], 20_000);
    assert!(lab.is_whole, "{} {:?}", lab.have, lab.links);
}

#[test]
fn source_that_spoils_a_unit_is_not_asked_again() {
    let mut lab = Lab::new(600, "c d");
    lab.flow(&[("a", 2), ("c", 4), ("d", 4)], 2_000);
    while lab.of("c").is_empty() {
        lab.flow(&[("a", 2), ("d", 4)], 50);
    }
    let bad = lab.of("c").pop().unwrap();
    lab.event(bad, LinkEvent::BadUnit { unit: 9 });
    for _ in 0..600 {
        lab.flow(&[("a", 2), ("d", 4)], 50);
        assert!(lab.of("c").is_empty());
    }
    assert!(lab.is_whole);
}

#[test]
fn main_source_that_dies_is_replaced_while_further_ones_go_on() {
    let mut lab = Lab::new(600, "c d");
    lab.flow(&[("a", 2), ("c", 4), ("d", 4)], 2_000);
    for link in lab.of("a") {
        lab.event(link, LinkEvent::Lost);
    }
    assert!(!lab.of("b").is_empty(), "{:?}", lab.links);
    lab.flow(&[("b", 2), ("c", 4), ("d", 4)], 20_000);
    assert!(lab.is_whole && lab.twice <= 24, "{} {}", lab.have, lab.twice);
}

#[test]
fn planned_rate_of_a_source_is_kept() {
    let mut lab = Lab::new(4_000, "");
    let mut slow = source("c");
    slow.rate = 10 * UNIT_BYTES;
    lab.run(|fetch, now, _| fetch.handle_further(vec![slow], now));
    // It could give a hundred units a second.
    lab.flow(&[("a", 4), ("c", 10)], 10_000);
    let came = lab.fetch.via()["c"] / UNIT_BYTES;
    assert!((60..=110).contains(&came), "{came} units in ten seconds");
}

#[derive(Debug, Clone)]
enum Step {
    Give(usize, u64),
    Pass(u64),
    Lose(usize),
    Busy(usize),
    Behind(usize, u64),
    Spoil(usize),
    Crash(u64),
    Propose(usize),
}

fn arb_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0_usize..8, 1_u64..9).prop_map(|(link, units)| Step::Give(link, units)),
        8 => (1_u64..400).prop_map(Step::Pass),
        2 => (0_usize..8).prop_map(Step::Lose),
        1 => (0_usize..8).prop_map(Step::Busy),
        1 => (0_usize..8, 0_u64..300).prop_map(|(link, have)| Step::Behind(link, have)),
        1 => (0_usize..8).prop_map(Step::Spoil),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => (0_usize..4).prop_map(Step::Propose),
    ]
}

const FURTHER: [&str; 4] = ["", "c d", "c d e f g h i j k", "e"];

proptest! {
    #[test]
    fn whatever_is_lost_or_killed_each_unit_is_there_once_in_the_end(
        units in 1_u64..400,
        steps in prop::collection::vec(arb_step(), 1..300),
    ) {
        let mut lab = Lab::new(units, FURTHER[2]);
        for step in steps {
            let link = |at: usize| lab.links.keys().nth(at % lab.links.len().max(1)).copied();
            match step {
                Step::Give(at, count) => {
                    if let Some(link) = link(at) {
                        (0..count).for_each(|_| lab.give(link));
                    }
                }
                Step::Pass(ms) => lab.pass(ms),
                Step::Lose(at) => link(at).into_iter().for_each(|l| lab.event(l, LinkEvent::Lost)),
                Step::Busy(at) => {
                    let busy = LinkEvent::Busy { retry_after: Duration::from_secs(1) };
                    link(at).into_iter().for_each(|link| lab.event(link, busy));
                }
                Step::Behind(at, have) => {
                    let link = link(at).filter(|l| lab.links[l].part.is_some_and(|p| p.is_spare));
                    let have = have * UNIT_BYTES;
                    link.into_iter().for_each(|link| lab.event(link, LinkEvent::Behind { have }));
                }
                Step::Spoil(at) => {
                    let bad = LinkEvent::BadUnit { unit: 0 };
                    link(at).into_iter().for_each(|link| lab.event(link, bad));
                }
                // Some of what is ahead of a gap was written.
                Step::Crash(kept) => {
                    lab.ahead.retain(|unit| kept >> (unit % 64) & 1 == 1);
                    lab.start(FURTHER[2]);
                }
                Step::Propose(which) => {
                    let list = sources(FURTHER[which]);
                    lab.run(|fetch, now, _| fetch.handle_further(list, now));
                }
            }
            if lab.is_whole {
                break;
            }
        }
        // From now on all goes well.
        for _ in 0..4_000 {
            if lab.is_whole {
                break;
            }
            if lab.links.is_empty() && lab.fetch.state == State::Over {
                lab.start(FURTHER[1]);
            }
            for link in lab.links.keys().copied().collect::<Vec<_>>() {
                (0..4).for_each(|_| lab.give(link));
            }
            lab.pass(50);
        }
        prop_assert!(lab.is_whole, "{} of {}, {:?}", lab.have, units, lab.links);
        prop_assert_eq!((lab.have, lab.ahead.len()), (units, 0));
        prop_assert!(lab.links.is_empty(), "{:?}", lab.links);
    }
}
