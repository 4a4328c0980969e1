//! Nodes that help each other: without the base, without one source, and with orders that they hand
//! on.

use std::collections::BTreeSet;

use headend::dist::wire::agent::NodeOrder;
use headend::dist::wire::job::{DeliveryState, JobState, Op};

use crate::client::{CommandPlan, Said};
use crate::dice::{MS, S};
use crate::faults::Fault;
use crate::network::{BASE, Host, host_of};
use crate::scenarios::{SIZE, all_completed};
use crate::setup::{RATE, Setup, put};
use crate::world::World;

impl World {
    fn is_everywhere(&self) -> bool {
        (0..self.nodes.len()).all(|n| self.is_published(n))
    }
}

#[test]
fn node_that_starts_while_the_base_is_away_fetches_on_by_its_journal() {
    let mut world = World::new(Setup::one_file(5, SIZE), false);
    world.until(20, "half of the file", World::is_half_there);
    let n = (0..5).min_by_key(|n| world.have(*n)).unwrap();
    world.fault(Fault::Crash { n, is_dark: false });
    world.until(20, "another has it", |world| (0..5).any(|n| world.is_published(n)));
    world.fault(Fault::CrashBase { is_dark: true });
    world.pass(1);
    assert!(!world.is_published(n));
    world.fault(Fault::Start(n));
    world.until(15, "all have it", World::is_everywhere);
    assert!(world.base.book.is_none(), "the base is away all the time");
    world.fault(Fault::StartBase);
    all_completed(&world.run(), 5);
}

#[test]
fn nodes_that_all_start_anew_while_the_base_is_away_find_the_one_that_has_it() {
    let mut world = World::new(Setup::one_file(6, SIZE), false);
    world.until(20, "one has it", |world| (0..6).any(|n| world.is_published(n)));
    let whole = (0..6).find(|n| world.is_published(*n)).unwrap();
    world.fault(Fault::CrashBase { is_dark: true });
    world.pass(1);
    for n in (0..6).filter(|n| *n != whole) {
        world.fault(Fault::Crash { n, is_dark: true });
    }
    world.pass(2);
    for n in (0..6).filter(|n| *n != whole) {
        world.fault(Fault::Start(n));
    }
    world.until(40, "all have it", World::is_everywhere);
    world.fault(Fault::StartBase);
    all_completed(&world.run(), 6);
}

#[test]
fn far_side_of_a_partition_completes_from_the_one_that_has_all_though_no_plan_names_it() {
    let mut world = World::new(Setup::one_file(6, SIZE), false);
    world.until(20, "one has it", |world| (0..6).any(|n| world.is_published(n)));
    // The one that has all, and those at the end of the chain: their sources are on the near side.
    let whole = (0..6).find(|n| world.is_published(*n)).unwrap();
    let mut behind: Vec<usize> = (0..6).filter(|n| !world.is_published(*n)).collect();
    behind.sort_by_key(|n| world.have(*n));
    let far: BTreeSet<Host> = [behind[0], whole].map(host_of).into();
    world.fault(Fault::Partition(far));
    world.until(30, "the far side has it", |world| world.is_published(behind[0]));
    let away = &world.base.ledger.nodes[&world.nodes[whole].name];
    assert_ne!(away.heard_at_ns, 0);
    let job = world.base.ledger.jobs.values().next().unwrap();
    assert_eq!(job.state, JobState::Closing);
    world.fault(Fault::Join([behind[0], whole].map(host_of).into()));
    all_completed(&world.run(), 6);
}

#[test]
fn far_side_that_has_not_all_goes_on_to_what_its_members_hold() {
    let mut world = World::new(Setup::one_file(6, SIZE), false);
    world.until(20, "half of the file", World::is_half_there);
    let far = [0, 2, 4];
    world.fault(Fault::Partition(far.map(host_of).into()));
    world.pass(1);
    let most = far.map(|n| world.have(n)).into_iter().max().unwrap();
    assert!(most > 0 && most < SIZE as u64);
    world.until(30, "all of them have as much", |world| {
        let least = far.map(|n| world.have(n)).into_iter().min().unwrap();
        least + 2 * 65_536 >= most
    });
    world.fault(Fault::Join(far.map(host_of).into()));
    all_completed(&world.run(), 6);
}

#[test]
fn source_that_is_not_reached_is_barred_and_the_base_plans_no_such_edge() {
    let mut setup = Setup::one_file(4, SIZE);
    setup.nodes[0].up = 2 * RATE;
    // Nobody but n0 is faster: the others would be fed by it, and n3 does not reach it.
    setup.faults.push((0, Fault::Cut(host_of(0), host_of(3))));
    setup.jobs[0].commands.push(put("j0/second.mp4", SIZE));
    let mut world = World::new(setup, false);
    world.until(40, "both are there", |world| {
        world.base.ledger.deliveries.values().filter(|row| row.receipt.is_some()).count() == 8
    });
    assert!(world.count("edge.barred") <= 2, "{}", world.count("edge.barred"));
    all_completed(&world.run(), 8);
}

#[test]
fn edge_that_fails_under_way_is_told_to_the_base_once_in_half_a_minute() {
    let mut world = World::new(Setup::one_file(5, 3 * SIZE), false);
    world.until(20, "half of the file", |world| world.middle().is_some_and(|n| world.have(n) > 0));
    let n = world.middle().unwrap();
    let others = (0..5).filter(|other| *other != n).map(host_of);
    let cuts: Vec<Host> = others.collect();
    // Nodes do not reach it; the base does, and it reaches the base.
    cuts.iter().for_each(|host| world.fault(Fault::Cut(host_of(n), *host)));
    let outcome = world.run();
    all_completed(&outcome, 5);
    let barred = outcome.counts.get("edge.barred").copied().unwrap_or(0);
    assert!(barred <= 8, "{barred} edges");
}

/// A command without a content for many nodes.
fn mkdir(nodes: usize, relay_from: usize) -> Setup {
    let mut setup = Setup::plain(nodes);
    let op = Op::Mkdir { path: "j0/c".to_owned(), attrs: Default::default() };
    let command = CommandPlan { op, size: 0, says_size: false, hash: Said::Nothing };
    setup.jobs.push(crate::client::JobPlan::of(vec![command]));
    setup.relay_from = relay_from;
    setup
}

#[test]
fn command_for_many_goes_from_node_to_node_and_each_is_approached_once() {
    let mut world = World::new(mkdir(60, 2), false);
    world.until(20, "all have it", |world| world.count("delivery.completed") == 60);
    let took = world.now - world.clients[0].plan.at;
    // Six rounds of some milliseconds, two commits and the reports.
    assert!(took < 500 * MS, "{} ms", took / MS);
    let counts = world.relay_counts();
    let book = world.base.book.as_ref().unwrap().relay_numbers();
    // The job with its server list, and the command.
    assert!(counts.sent + book.sent <= 3 * 60, "{counts:?} {book:?}");
    assert!(book.sent <= 3 * 6, "the base speaks to some: {book:?}");
    assert_eq!((counts.taken_back, counts.duplicates, book.stepped_in), (0, 0, 0));
    world.run();
}

#[test]
fn orders_that_are_lost_on_the_way_are_taken_back_and_the_base_steps_in() {
    let mut setup = mkdir(40, 2);
    setup.faults.insert(0, (0, Fault::Hands { lost: 400 }));
    let mut world = World::new(setup, false);
    world.until(30, "all have it", |world| world.count("delivery.completed") == 40);
    let took = world.now - world.clients[0].plan.at;
    assert!(took < 8 * S, "{} ms", took / MS);
    let counts = world.relay_counts();
    let book = world.base.book.as_ref().unwrap().relay_numbers();
    assert!(counts.taken_back > 0 && book.stepped_in > 0, "{counts:?} {book:?}");
    // An answer that was lost: the orders come twice, and count once.
    assert!(counts.duplicates > 0, "{counts:?}");
    let outcome = world.run();
    assert_eq!(outcome.counts["delivery.completed"], 40);
}

#[test]
fn first_node_that_is_away_holds_its_part_up_for_two_seconds() {
    let mut world = World::new(mkdir(30, 2), false);
    world.pass(4);
    // The base does not know it yet, and hands half of the list to it.
    world.fault(Fault::Crash { n: 0, is_dark: true });
    world.until(20, "all others have it", |world| world.count("delivery.completed") == 29);
    let took = world.now - world.clients[0].plan.at;
    assert!(took < 4 * S, "{} ms", took / MS);
    world.fault(Fault::Start(0));
    let outcome = world.run();
    assert_eq!(outcome.counts["delivery.completed"], 30);
}

#[test]
fn files_for_many_are_handed_on_with_their_plans() {
    let mut setup = Setup::one_file(12, 4 * 65_536);
    setup.relay_from = 2;
    setup.as_json = true;
    for n in 0..20 {
        setup.jobs[0].commands.push(put(&format!("j0/{n}.mp4"), 65_536));
    }
    let mut world = World::new(setup, false);
    let outcome = world.run();
    assert_eq!(outcome.counts["delivery.completed"], 21 * 12);
    let counts = world.relay_counts();
    assert!(counts.taken > 0 && counts.refused == 0, "{counts:?}");
}

#[test]
fn node_that_the_base_does_not_reach_is_found_by_a_neighbour_and_not_mended() {
    let mut setup = Setup::one_file(4, 8 * SIZE);
    (setup.wait_s, setup.repair_s) = (3, [1, 2, 4]);
    setup.calm_at = 600 * S;
    setup.faults = vec![(600 * S, Fault::Calm)];
    let mut world = World::new(setup, false);
    world.until(20, "bytes come", |world| (0..4).all(|n| world.have(n) > 0));
    world.fault(Fault::Cut(BASE, host_of(2)));
    world.until(200, "it is not heard of at the end of a wait period", |world| {
        world.count("wait.parted") >= 1
    });
    assert_eq!((world.count("repair.begun"), world.count("node.failed_hw")), (0, 0));
    assert!(world.count("node.seen") >= 1);
    assert_ne!(world.state(2), Some(DeliveryState::Failed));
    world.fault(Fault::Heal(BASE, host_of(2)));
    all_completed(&world.run(), 4);
}

#[test]
fn node_that_nobody_reaches_is_mended_as_before() {
    let mut setup = Setup::one_file(4, SIZE);
    (setup.wait_s, setup.repair_s) = (3, [1, 2, 4]);
    setup.calm_at = 600 * S;
    setup.faults = vec![(600 * S, Fault::Calm)];
    let mut world = World::new(setup, false);
    world.until(20, "bytes come", |world| (0..4).all(|n| world.have(n) > 0));
    world.fault(Fault::Crash { n: 2, is_dark: true });
    world.until(120, "it is mended", |world| world.count("repair.begun") == 1);
    assert_eq!((world.count("node.seen"), world.count("wait.parted")), (0, 0));
    world.fault(Fault::Start(2));
    all_completed(&world.run(), 4);
}

#[test]
fn relayed_orders_of_a_base_of_before_have_no_effect() {
    let mut world = World::new(mkdir(8, 2), false);
    world.pass(4);
    world.until(20, "all have it", |world| world.count("delivery.completed") == 8);
    let old = world.base_epoch();
    world.fault(Fault::CrashBase { is_dark: true });
    world.pass(10);
    world.fault(Fault::StartBase);
    world.until(12, "all have said hello to it", |world| {
        world.nodes.iter().all(|node| node.run.as_ref().is_some_and(|run| run.contact.is_online()))
    });
    let key = world.clients[0].commands[0].0;
    world.order_again(0, old, NodeOrder::Forget { job: key.job });
    let outcome = world.run();
    assert_eq!(outcome.counts["delivery.completed"], 8);
}
