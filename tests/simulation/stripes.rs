//! Several sources at once, where one is slower than the downlink.
//!
//! ```text
//! base --> n --> n --> n --> slow --> last       last: what the slow one gives, and what the
//!   '- - - - '- - - '- - - '- - - - - - ^        uplinks of the others have over
//! ```
//! Links and sizes are those of the budget (B7): eight nodes with 200 Mbit/s, the uplinks of two of
//! them with a quarter of that, 256 MiB; or a quarter of all, which takes the same time.

use std::collections::BTreeSet;

use headend::dist::ids::NodeName;

use crate::dice::{MS, S};
use crate::faults::Fault;
use crate::network::{BASE, Host, host_of};
use crate::scenarios::all_completed;
use crate::setup::Setup;
use crate::world::World;

/// 200 Mbit/s.
const LINK: u64 = 25_000_000;
/// 256 MiB.
const SIZE: usize = 256 << 20;
const NODES: usize = 8;
const SLOW: [usize; 2] = [1, 4];

/// Eight nodes, two of them with a quarter of the uplink; `part` of all rates and bytes.
fn budget(knows_rates: bool, part: u64) -> Setup {
    let link = LINK / part;
    let mut setup = Setup::one_file(NODES, SIZE / usize::try_from(part).unwrap());
    for (n, node) in setup.nodes.iter_mut().enumerate() {
        (node.up, node.down) = (link, link);
        if SLOW.contains(&n) {
            node.up = link / 4;
        }
        (node.declares, node.declares_down) = (knows_rates, knows_rates);
    }
    setup.base_up_rate = knows_rates.then_some(link);
    setup.base_real_rate = link;
    let job = &mut setup.jobs[0];
    (job.chunk, job.pause_ms) = (1 << 20, 5);
    setup
}

impl World {
    /// Time of a node over that of the content on one link, in hundredths.
    fn over_bound(&self, n: usize) -> u64 {
        let content = self.content().unwrap();
        let begun = self.clients[0].plan.at;
        let took = self.watch.published[&(n, content)] - begun;
        took / MS * 100 / (SIZE as u64 * 1_000 / LINK)
    }

    fn last_over_bound(&self) -> u64 {
        (0..self.nodes.len()).map(|n| self.over_bound(n)).max().unwrap()
    }

    /// The node that has parts from others, and from whom.
    fn helped(&self) -> Option<(usize, BTreeSet<Host>)> {
        let spare = self.streams.all.values().filter(|s| s.is_spare() && s.is_used);
        let spare: Vec<_> = spare.collect();
        let n = spare.first()?.node;
        Some((n, spare.iter().filter(|s| s.node == n).map(|s| s.source).collect()))
    }

    /// Bytes that a node fetched of the file, over its size, in thousandths.
    fn fetched_permille(&self, n: usize) -> u64 {
        let name = &self.nodes[n].name;
        let (client, book) = (&self.clients[0], self.base.book.as_ref().unwrap());
        let report = book.report(&client.name, client.job.unwrap()).unwrap();
        let of = |node: &NodeName| node == name;
        let node = report.nodes.iter().find(|node| of(&node.node)).unwrap();
        let came: u64 = node.deliveries[0].via.values().sum();
        came * 1_000 / client.plan.commands[0].size as u64
    }
}

/// Until a node has a third of the file, and parts of it come from a node.
fn with_helpers() -> (World, usize, usize) {
    let mut world = World::new(budget(true, 4), false);
    world.until(20, "several sources at once", |world| {
        world.helped().is_some_and(|(n, sources)| {
            world.have(n) >= SIZE as u64 / 12 && sources.iter().any(|source| *source != BASE)
        })
    });
    let (n, sources) = world.helped().unwrap();
    let helper = sources.into_iter().find(|source| *source != BASE).unwrap() - 1;
    (world, n, helper)
}

#[test]
fn budget_is_kept_with_known_rates_and_nobody_is_far_behind() {
    let mut world = World::new(budget(true, 1), false);
    let outcome = world.run();
    all_completed(&outcome, 8);
    let ratios: Vec<u64> = (0..NODES).map(|n| world.over_bound(n)).collect();
    assert!(world.last_over_bound() <= 130, "{ratios:?} {:?}", outcome.counts);
    // Those that help have children, which are slowed to the rate of all, and no more.
    let worst = (0..NODES).filter(|n| !SLOW.contains(n)).map(|n| world.over_bound(n)).max();
    assert!(worst.unwrap() <= 130, "{ratios:?}");
    assert!(outcome.counts["delivery.further"] >= 1, "{:?}", outcome.counts);
    assert!(outcome.counts["delivery.further"] <= 12, "it flaps: {:?}", outcome.counts);
    let most = (0..NODES).map(|n| world.fetched_permille(n)).max().unwrap();
    assert!(most <= 1_020, "{most} thousandths of the file were fetched");
}

/// The rate of the job is half of what links carry: the file takes twice as long, and no longer
/// behind uplinks of a quarter of the rate.
#[test]
fn job_that_keeps_to_a_rate_has_several_sources_too() {
    let mut setup = budget(true, 4);
    setup.jobs[0].policy.max_rate = Some(LINK / 8);
    for n in SLOW {
        setup.nodes[n].up = LINK / 32;
    }
    let mut world = World::new(setup, false);
    let outcome = world.run();
    all_completed(&outcome, 8);
    assert!(outcome.counts["delivery.further"] >= 1, "{:?}", outcome.counts);
    assert!(outcome.counts["delivery.further"] <= 24, "it flaps: {:?}", outcome.counts);
    assert!(!outcome.counts.contains_key("node.slow"), "{:?}", outcome.counts);
    assert!(world.last_over_bound() <= 2 * 140, "{}", world.last_over_bound());
}

/// Where no rate is known nobody is slowed for the sake of others.
#[test]
fn first_push_without_known_rates_is_no_slower_for_further_sources() {
    let ratio = |has_one_source| {
        let mut world = World::new(Setup { has_one_source, ..budget(false, 1) }, false);
        all_completed(&world.run(), 8);
        (0..NODES).map(|n| world.over_bound(n)).collect::<Vec<_>>()
    };
    let (without, with) = (ratio(true), ratio(false));
    let last = |ratios: &[u64]| ratios.iter().copied().max();
    assert!(last(&with) <= Some(155), "{with:?}");
    assert!(last(&with) <= last(&without), "{with:?}, without {without:?}");
    let sum = |ratios: &[u64]| ratios.iter().sum::<u64>();
    assert!(sum(&with) <= sum(&without) + 8, "{with:?}, without {without:?}");
    println!("without known rates: {with:?}, with one source {without:?}");
}

#[test]
fn nodes_that_do_not_know_further_sources_get_their_file_all_the_same() {
    let mut setup = budget(true, 4);
    setup.has_one_source = true;
    let mut world = World::new(setup, false);
    all_completed(&world.run(), 8);
    assert!(world.last_over_bound() <= 250, "{}", world.last_over_bound());
}

#[test]
fn further_source_killed_in_the_middle_of_a_part_costs_nobody_anything() {
    let (mut world, n, helper) = with_helpers();
    world.fault(Fault::Crash { n: helper, is_dark: false });
    world.pass(3);
    world.fault(Fault::Start(helper));
    let outcome = world.run();
    all_completed(&outcome, 8);
    assert!(world.over_bound(n) <= 160, "{}", world.over_bound(n));
    assert!(world.fetched_permille(n) <= 1_020, "{}", world.fetched_permille(n));
}

#[test]
fn further_source_cut_off_without_a_word_loses_its_part() {
    let (mut world, n, helper) = with_helpers();
    world.fault(Fault::Cut(host_of(helper), host_of(n)));
    let outcome = world.run();
    all_completed(&outcome, 8);
    assert!(world.over_bound(n) <= 160, "{}", world.over_bound(n));
}

#[test]
fn further_source_that_spoils_units_is_named_and_left() {
    let (mut world, n, helper) = with_helpers();
    world.fault(Fault::Spoil(host_of(helper), 8));
    world.until(5, "a unit is found", |world| world.base.ledger.counts.contains_key("unit.bad"));
    let outcome = world.run();
    all_completed(&outcome, 8);
    assert!(world.over_bound(n) <= 200, "{}", world.over_bound(n));
}

#[test]
fn main_source_that_dies_is_replaced_while_further_ones_give() {
    let (mut world, n, _) = with_helpers();
    // It rests in between.
    world.until(5, "the main source gives", |world| world.source(n).is_some());
    let main = world.source(n).unwrap();
    assert_ne!(main, BASE);
    world.fault(Fault::Crash { n: main - 1, is_dark: false });
    let before = world.have(n);
    world.pass(1);
    assert!(world.have(n) > before, "bytes come");
    world.pass(2);
    world.fault(Fault::Start(main - 1));
    all_completed(&world.run(), 8);
}

#[test]
fn node_killed_with_parts_ahead_of_a_gap_goes_on_with_what_was_written() {
    let (mut world, n, _) = with_helpers();
    for _ in 0..3 {
        world.fault(Fault::Crash { n, is_dark: false });
        world.pass(1);
        world.fault(Fault::Start(n));
        world.pass(2);
    }
    let outcome = world.run();
    all_completed(&outcome, 8);
    // Three kills: up to a second of bytes each was not synced.
    assert!(world.fetched_permille(n) <= 1_300, "{}", world.fetched_permille(n));
}

#[test]
fn base_that_goes_away_leaves_the_sources_as_they_are() {
    let (mut world, n, _) = with_helpers();
    // The first copy is out by then.
    let others =
        |world: &World| (0..NODES).filter(|other| *other != n).any(|n| world.is_published(n));
    world.until(20, "one has it", others);
    world.fault(Fault::CrashBase { is_dark: true });
    world.until(20, "all have it", |world| (0..NODES).all(|n| world.is_published(n)));
    world.fault(Fault::StartBase);
    all_completed(&world.run(), 8);
}

/// What a further source sends to others, its child does not lose: the child has the bytes in the
/// time that it would take alone at the rate to which the base slows all.
#[test]
fn children_of_further_sources_keep_their_rate() {
    let (mut world, _, helper) = with_helpers();
    let child = world.child(helper).expect("it feeds one");
    let (before, now) = (world.have(child), world.now);
    world.pass(3);
    let rate = (world.have(child) - before) * S / (world.now - now);
    let link = LINK / 4;
    assert!(rate >= link * 75 / 100, "{rate} of {link} bytes a second");
    all_completed(&world.run(), 8);
}
