//! Nodes that do not get on, by name: a base asks, extends, mends, gives up, and brings late what
//! was missed.

use std::collections::BTreeSet;

use headend::dist::ids::ContentId;
use headend::dist::wire::job::{CarePhase, DeliveryState, JobState, Late, NodeState, Reason};
use uuid::Uuid;

use crate::dice::S;
use crate::disk::Held;
use crate::faults::Fault;
use crate::network::{BASE, Host, host_of};
use crate::scenarios::{SIZE, all_completed};
use crate::setup::Setup;
use crate::world::World;

/// One file for nodes on equal links; nothing is mended by itself within the first ten minutes.
fn setup(nodes: usize) -> Setup {
    let mut setup = Setup::one_file(nodes, SIZE);
    setup.calm_at = 600 * S;
    setup.faults = vec![(600 * S, Fault::Calm)];
    setup
}

/// The same, until the middle of the chain has half of it.
fn half_way(setup: Setup) -> (World, usize) {
    let mut world = World::new(setup, false);
    world.until(20, "half of the file", World::is_half_there);
    let n = world.middle().expect("a chain has a middle");
    (world, n)
}

impl World {
    fn node_state(&self, n: usize) -> NodeState {
        self.base.ledger.nodes[&self.nodes[n].name].state
    }

    fn job_state(&self) -> JobState {
        self.base.ledger.jobs.values().next().unwrap().state
    }

    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.base.ledger.counts.get(kind).copied().unwrap_or(0)
    }
}

#[test]
fn nodes_that_get_on_slowly_are_asked_and_their_wait_period_is_extended() {
    let mut world = World::new(setup(3), false);
    world.until(20, "the job has ended for its client", |world| {
        world.base.ledger.jobs.values().any(|row| row.state == JobState::Closing)
    });
    // All bytes come from it, a twentieth as fast for a while.
    world.fault(Fault::Slow(BASE, 20));
    world.until(120, "it is extended", |world| world.count("wait.extended") > 0);
    assert!(!world.is_published(1));
    world.fault(Fault::Slow(BASE, 1));
    world.until(200, "all have it", |world| (0..3).all(|n| world.is_published(n)));
    world.fault(Fault::Calm);
    let outcome = world.run();
    all_completed(&outcome, 3);
    assert_eq!(outcome.counts.get("repair.begun"), None, "{:?}", outcome.counts);
}

#[test]
fn silent_node_is_asked_three_times_then_mended_and_goes_on_by_its_journal() {
    let (mut world, n) = half_way(setup(5));
    let have = world.have(n);
    world.fault(Fault::Crash { n, is_dark: true });
    world.until(60, "it is mended", |world| world.node_state(n) == NodeState::Repairing);
    assert_eq!(world.count("wait.asked"), 3);
    assert_eq!(world.job_state(), JobState::Closing, "nothing is given up");
    world.fault(Fault::Start(n));
    world.until(10, "it is back", |world| world.node_state(n) == NodeState::Active);
    assert!(world.have(n) + 16 * 65_536 >= have, "{} of {have}", world.have(n));
    world.until(60, "it has the file", |world| world.is_published(n));
    world.fault(Fault::Calm);
    let outcome = world.run();
    all_completed(&outcome, 5);
    assert_eq!((outcome.counts["repair.returned"], outcome.counts["repair.ended"]), (1, 1));
    assert_eq!(outcome.counts.get("repair.failed"), None);
}

#[test]
fn node_that_was_cut_off_is_not_restarted_to_be_active_again() {
    let (mut world, n) = half_way(setup(4));
    let side: BTreeSet<Host> = [host_of(n)].into();
    world.fault(Fault::Partition(side.clone()));
    world.until(60, "it is mended", |world| world.node_state(n) == NodeState::Repairing);
    let runs = world.nodes[n].runs;
    world.fault(Fault::Join(side));
    world.until(40, "it is back", |world| world.node_state(n) == NodeState::Active);
    world.until(60, "it has the file", |world| world.is_published(n));
    world.fault(Fault::Calm);
    all_completed(&world.run(), 4);
    assert_eq!(world.nodes[n].runs, runs);
}

#[test]
fn node_that_is_back_behind_the_end_of_its_job_gets_what_it_missed() {
    let (mut world, n) = half_way(setup(4));
    world.fault(Fault::Crash { n, is_dark: true });
    world.until(260, "the job ends without it", |world| {
        world.job_state() == JobState::CompletedWithFailures
    });
    assert_eq!(world.node_state(n), NodeState::FailedHw);
    world.pass(60);
    // Where it was is known to a later start of the base, too.
    world.fault(Fault::CrashBase { is_dark: false });
    world.fault(Fault::StartBase);
    world.fault(Fault::Start(n));
    world.until(60, "it has the file", |world| world.is_published(n));
    world.fault(Fault::Calm);
    let outcome = world.run();
    all_completed(&outcome, 4);
    assert_eq!(outcome.counts["late.begun"], 1);
    let book = world.base.book.as_ref().unwrap();
    let job = *world.base.ledger.jobs.keys().next().unwrap();
    let report = book.report("client0", job).unwrap();
    let late = report.nodes.iter().filter(|node| node.deliveries[0].is_late);
    let late: Vec<_> = late.map(|node| &node.node).collect();
    assert_eq!(late, [&world.nodes[n].name]);
}

#[test]
fn node_that_is_back_late_gets_nothing_when_the_job_says_so() {
    let mut setup = setup(3);
    setup.jobs[0].late = Late::Drop;
    let (mut world, n) = half_way(setup);
    world.fault(Fault::Crash { n, is_dark: false });
    world.until(260, "the job ends without it", |world| {
        world.job_state() == JobState::CompletedWithFailures
    });
    world.fault(Fault::Start(n));
    world.until(30, "it is told", |world| world.count("late.dropped") == 1);
    world.fault(Fault::Calm);
    let outcome = world.run();
    assert_eq!(outcome.counts.get("job.completed"), None);
    assert!(!world.is_published(n) && world.nodes[n].disk.used() == 0);
}

#[test]
fn node_that_never_comes_back_is_given_up_over_starts_of_the_base_and_the_client_is_told() {
    let (mut world, n) = half_way(setup(4));
    world.fault(Fault::Crash { n, is_dark: true });
    world.fault(Fault::Expect(n, 86_400));
    for phase in [CarePhase::Asked, CarePhase::Repairing] {
        world.until(60, "it is cared for", |world| {
            let care = world.base.ledger.cares.get(&world.nodes[n].name);
            care.is_some_and(|care| care.phase == phase)
        });
        world.fault(Fault::CrashBase { is_dark: false });
        world.pass(2);
        world.fault(Fault::StartBase);
    }
    world.until(260, "the job ends without it", |world| {
        world.job_state() == JobState::CompletedWithFailures
    });
    assert_eq!(world.count("delivery.completed"), 3);
    let name = &world.nodes[n].name;
    let rows = world.base.ledger.deliveries.values();
    let row = rows.into_iter().find(|row| row.node == *name).unwrap();
    assert_eq!((row.state, row.reason), (DeliveryState::Failed, Some(Reason::NodeFailed)));
    assert!(world.base.ledger.cares[name].expected_back_ns.is_some());
    assert_eq!(world.node_state(n), NodeState::FailedHw);
    world.check_end();
    world.fault(Fault::Retire(n));
    world.pass(2);
    assert_eq!(world.node_state(n), NodeState::Retired);
}

#[test]
fn nodes_whose_disks_fail_drop_what_they_have_and_fetch_it_anew() {
    let mut world = World::new(setup(3), false);
    world.until(20, "half of the file", World::is_half_there);
    world.fault(Fault::IoErrors(1_000));
    world.until(90, "one is mended", |world| world.count("repair.tried") > 0);
    world.pass(2);
    world.fault(Fault::IoErrors(0));
    world.until(120, "all have it", |world| (0..3).all(|n| world.is_published(n)));
    world.until(30, "one is well", |world| world.count("repair.ended") > 0);
    world.fault(Fault::Calm);
    let outcome = world.run();
    all_completed(&outcome, 3);
    assert!(outcome.counts["repair.ended"] >= 1, "{:?}", outcome.counts);
}

#[test]
fn disk_that_is_full_of_what_nobody_needs_is_cleared_and_the_command_is_tried_again() {
    let mut setup = setup(3);
    setup.nodes[1].disk = SIZE as u64 * 3 / 2;
    let mut world = World::new(setup, false);
    world.pass(3);
    let strange = ContentId(Uuid::from_u128(7));
    let held = Held::new(strange, Some(SIZE as u64));
    world.nodes[1].disk.contents.insert(strange, held);
    assert!(world.nodes[1].disk.free() < SIZE as u64);
    world.until(40, "all have it", |world| (0..3).all(|n| world.is_published(n)));
    assert!(!world.nodes[1].disk.contents.contains_key(&strange));
    world.fault(Fault::Calm);
    let outcome = world.run();
    all_completed(&outcome, 3);
    assert_eq!(outcome.counts["delivery.retry_wait"], 1);
}
