//! Failures by name, and what the product does about each.
//!
//! ```text
//! one file, equal links: base --> n --> n --> n --> n      something fails in the middle
//! ```
//! Times are virtual, so they are exact: the fluid bound of a file is its size over the rate of a
//! link, and each test says how much more there may be.

use std::collections::BTreeSet;

use headend::dist::ids::ContentId;
use headend::dist::wire::agent::NodeOrder;
use headend::dist::wire::hook::{HookState, Topic};
use headend::dist::wire::job::{Attributes, DeliveryState, JobState, NodeState, Op, Order, Reason};

use crate::client::{Cancel, CommandPlan, Leave, Said};
use crate::dice::{MS, S};
use crate::faults::Fault;
use crate::network::{BASE, Host, host_of};
use crate::setup::{RATE, Setup, put};
use crate::sink::{Sinks, notify};
use crate::world::{Outcome, World};

/// Forty units, five seconds on one link.
pub(crate) const SIZE: usize = 40 * 65_536;
const SIZE_S: u64 = SIZE as u64 / RATE;

impl World {
    pub(crate) fn content(&self) -> Option<ContentId> {
        self.clients.first()?.commands.first()?.1
    }

    pub(crate) fn have(&self, n: usize) -> u64 {
        let held = self.content().and_then(|id| self.nodes[n].disk.contents.get(&id));
        held.map_or(0, |held| held.have())
    }

    /// From whom a node has its bytes now.
    pub(crate) fn source(&self, n: usize) -> Option<Host> {
        let mut used =
            self.streams.all.values().filter(|s| s.is_used && s.node == n && !s.is_spare());
        used.next().map(|stream| stream.source)
    }

    /// A node that is fed by a node and feeds one.
    pub(crate) fn middle(&self) -> Option<usize> {
        let feeds = |n: usize| self.child(n).is_some();
        let is_fed = |n: usize| self.source(n).is_some_and(|source| source != BASE);
        (0..self.nodes.len()).find(|n| is_fed(*n) && feeds(*n))
    }

    pub(crate) fn child(&self, n: usize) -> Option<usize> {
        (0..self.nodes.len()).find(|child| self.source(*child) == Some(host_of(n)))
    }

    pub(crate) fn state(&self, n: usize) -> Option<DeliveryState> {
        let mut rows = self.base.ledger.deliveries.values();
        rows.find(|row| row.node == self.nodes[n].name).map(|row| row.state)
    }

    /// When a node had the file, behind the first byte at the base.
    fn took_ms(&self, n: usize) -> u64 {
        let published = self.content().and_then(|id| self.watch.published.get(&(n, id)));
        let at = published.unwrap_or_else(|| panic!("n{n} has not published"));
        (at - self.clients[0].plan.at) / MS
    }

    pub(crate) fn is_published(&self, n: usize) -> bool {
        self.content().is_some_and(|id| self.watch.published.contains_key(&(n, id)))
    }

    pub(crate) fn is_half_there(&self) -> bool {
        self.middle().is_some_and(|n| self.have(n) >= SIZE as u64 / 2)
    }
}

/// One file for nodes on equal links, until the middle of the chain has half of it.
fn half_way(nodes: usize) -> (World, usize) {
    let mut world = World::new(Setup::one_file(nodes, SIZE), false);
    world.until(20, "half of the file", World::is_half_there);
    let n = world.middle().expect("a chain has a middle");
    (world, n)
}

pub(crate) fn all_completed(outcome: &Outcome, nodes: u64) {
    assert_eq!(outcome.counts.get("delivery.completed"), Some(&nodes), "{:?}", outcome.counts);
    assert_eq!(outcome.counts.get("job.completed"), Some(&1), "{:?}", outcome.counts);
}

/// The others had the file so many milliseconds behind the bound at the latest.
fn others_are_in_time(world: &World, n: usize, late_ms: u64) {
    for other in (0..world.nodes.len()).filter(|other| *other != n) {
        let (took, bound) = (world.took_ms(other), SIZE_S * 1_000);
        assert!(took <= bound + late_ms, "n{other}: {took} ms; the bound is {bound} ms");
    }
}

#[test]
fn without_a_fault_the_last_node_is_near_the_bound_and_the_base_sends_once() {
    let mut world = World::new(Setup::one_file(6, SIZE), false);
    let outcome = world.run();
    all_completed(&outcome, 6);
    others_are_in_time(&world, usize::MAX, 1_000);
    let content = world.content().unwrap();
    let sent = world.base.sent_in_all[&content];
    assert!(sent <= SIZE as u64 * 103 / 100, "{sent} bytes left the base");
}

#[test]
fn node_killed_in_the_middle_costs_its_children_no_byte_and_goes_on_by_its_journal() {
    let (mut world, n) = half_way(6);
    let (child, have) = (world.child(n).unwrap(), world.have(n));
    world.fault(Fault::Crash { n, is_dark: false });
    world.until(2, "the child goes on", |world| {
        world.source(child).is_some_and(|source| source != host_of(n))
    });
    world.pass(1);
    world.fault(Fault::Start(n));
    world.until(1, "it takes up what it has", |world| world.have(n) > 0);
    assert!(world.have(n) + 16 * 65_536 >= have, "{} of {have}", world.have(n));
    let outcome = world.run();
    all_completed(&outcome, 6);
    others_are_in_time(&world, n, 1_500);
}

#[test]
fn node_cut_off_without_a_word_is_left_by_the_stall_rule() {
    let (mut world, n) = half_way(6);
    let child = world.child(n).unwrap();
    let cuts: Vec<Host> = (0..=world.nodes.len()).filter(|host| *host != host_of(n)).collect();
    cuts.iter().for_each(|host| world.fault(Fault::Cut(host_of(n), *host)));
    world.until(4, "the child goes on", |world| {
        world.source(child).is_some_and(|source| source != host_of(n))
    });
    world.until(20, "the others have it", |world| {
        (0..6).all(|other| other == n || world.is_published(other))
    });
    cuts.iter().for_each(|host| world.fault(Fault::Heal(host_of(n), *host)));
    let outcome = world.run();
    all_completed(&outcome, 6);
    others_are_in_time(&world, n, 4_000);
    let sent = world.base.sent_in_all[&world.content().unwrap()];
    assert!(sent <= SIZE as u64 * 23 / 10, "{sent} bytes left the base");
}

#[test]
fn machine_that_loses_its_power_is_left_the_same_way_and_resumes_at_what_was_synced() {
    let (mut world, n) = half_way(5);
    let have = world.have(n);
    world.fault(Fault::Crash { n, is_dark: true });
    world.pass(5);
    world.fault(Fault::Start(n));
    world.until(1, "it takes up what it has", |world| world.have(n) > 0);
    // A second of bytes is not synced at most.
    assert!(world.have(n) + RATE + 2 * 65_536 >= have, "{} of {have}", world.have(n));
    let outcome = world.run();
    all_completed(&outcome, 5);
}

#[test]
fn base_killed_behind_the_first_copy_stops_no_transfer_and_loses_no_receipt() {
    let mut world = World::new(Setup::one_file(5, SIZE), false);
    world.until(20, "a node has it", |world| (0..5).any(|n| world.is_published(n)));
    world.fault(Fault::CrashBase { is_dark: false });
    world.until(15, "all have it", |world| (0..5).all(|n| world.is_published(n)));
    let waiting = world.nodes.iter().filter_map(|node| node.run.as_ref()?.agent.as_ref());
    assert!(waiting.map(|agent| agent.reports_open()).sum::<usize>() >= 4);
    world.pass(10);
    world.fault(Fault::StartBase);
    let outcome = world.run();
    all_completed(&outcome, 5);
    assert!(outcome.counts["base.started"] == 2);
}

#[test]
fn base_that_takes_over_is_obeyed_and_the_one_before_is_not_any_more() {
    let (mut world, n) = half_way(5);
    let (key, old) = (world.clients[0].commands[0].0, world.base_epoch());
    world.fault(Fault::CrashBase { is_dark: true });
    // The lease of the one before runs out.
    world.pass(10);
    world.fault(Fault::StartBase);
    world.until(12, "all have said hello to it", |world| {
        world.nodes.iter().all(|node| node.run.as_ref().is_some_and(|run| run.contact.is_online()))
    });
    assert!(world.base_epoch() > old);
    world.order_again(n, old, NodeOrder::Cancel { key });
    world.order_again(n, old, NodeOrder::Forget { job: key.job });
    let outcome = world.run();
    all_completed(&outcome, 5);
    assert_eq!(outcome.counts.get("delivery.cancelled"), None);
}

#[test]
fn base_killed_under_an_upload_goes_on_at_the_offset_that_it_kept() {
    let mut setup = Setup::one_file(3, SIZE);
    setup.jobs[0].pause_ms = 150;
    let mut world = World::new(setup, false);
    world.until(20, "a third of the upload", |world| {
        world.base.contents.values().any(|stored| stored.accepted() > SIZE as u64 / 3)
    });
    world.fault(Fault::CrashBase { is_dark: true });
    world.pass(7);
    let kept = world.base.contents.values().next().unwrap().accepted();
    assert!(kept > 0);
    world.fault(Fault::StartBase);
    let outcome = world.run();
    all_completed(&outcome, 3);
}

#[test]
fn source_of_a_spoiled_unit_is_left_and_the_unit_comes_from_another() {
    let (mut world, n) = half_way(5);
    world.fault(Fault::Spoil(host_of(n), 1));
    world.until(5, "the unit is found", |world| world.base.ledger.counts.contains_key("unit.bad"));
    assert!(world.child(n).is_none(), "its child has left it");
    let outcome = world.run();
    all_completed(&outcome, 5);
}

#[test]
fn node_that_spoiled_two_units_serves_nobody_any_more() {
    let mut setup = Setup::one_file(5, SIZE);
    setup.jobs[0].commands.push(put("j0/other.mp4", SIZE));
    let mut world = World::new(setup, false);
    world.until(20, "half of the file", World::is_half_there);
    let n = world.middle().unwrap();
    for count in 1..=2 {
        world.fault(Fault::Spoil(host_of(n), 1));
        world.until(10, "the unit is found", |world| {
            world.base.ledger.counts.get("unit.bad") >= Some(&count)
        });
    }
    world.until(2, "it is shut out", |world| {
        let row = &world.base.ledger.nodes[&world.nodes[n].name];
        row.state == NodeState::Quarantined
    });
    world.until(3, "its children have left it", |world| world.child(n).is_none());
    all_completed(&world.run(), 10);
}

#[test]
fn full_disk_fails_within_a_second_with_its_reason_and_stops_nobody() {
    let mut setup = Setup::one_file(4, SIZE);
    setup.nodes[1].disk = SIZE as u64 / 2;
    setup.jobs[0].retries = 0;
    let at = setup.jobs[0].at;
    let mut world = World::new(setup, false);
    world.until(20, "it fails", |world| world.state(1) == Some(DeliveryState::Failed));
    assert!(world.now <= at + S + 500 * MS, "{}", world.now);
    let mut rows = world.base.ledger.deliveries.values();
    let row = rows.find(|row| row.node.as_str() == "n1").unwrap();
    assert_eq!(row.reason, Some(Reason::NoSpace));
    let outcome = world.run();
    assert_eq!(outcome.counts.get("delivery.completed"), Some(&3));
    assert_eq!(outcome.counts.get("job.completed_with_failures"), Some(&1));
    others_are_in_time(&world, 1, 1_500);
}

#[test]
fn retry_of_what_failed_for_want_of_space_completes_when_there_is_room() {
    let mut setup = Setup::one_file(4, SIZE);
    setup.jobs[0].retries = 3;
    setup.faults.push((0, Fault::Full { n: 2, left: Some(1_000) }));
    setup.faults.push((9 * S, Fault::Full { n: 2, left: None }));
    let outcome = World::new(setup, false).run();
    assert_eq!(outcome.counts.get("delivery.completed"), Some(&4), "{:?}", outcome.counts);
    assert!(outcome.counts["delivery.failed"] >= 1, "{:?}", outcome.counts);
    assert_eq!(outcome.counts.get("job.completed"), Some(&1), "{:?}", outcome.counts);
}

#[test]
fn slow_receiver_is_late_alone() {
    let mut setup = Setup::one_file(5, SIZE);
    setup.nodes[3].down = RATE / 4;
    let mut world = World::new(setup, false);
    let outcome = world.run();
    all_completed(&outcome, 5);
    others_are_in_time(&world, 3, 3_000);
    assert!(world.took_ms(3) >= SIZE_S * 3_900);
}

/// One file of so long a time on one link, until the middle of the chain has a quarter of it.
fn quarter_way(nodes: usize, seconds: u64) -> (World, usize) {
    let size = usize::try_from(seconds * RATE).unwrap();
    let mut world = World::new(Setup::one_file(nodes, size), false);
    world.until(60, "a quarter of the file", |world| {
        world.middle().is_some_and(|n| world.have(n) >= size as u64 / 4)
    });
    let n = world.middle().expect("a chain has a middle");
    (world, n)
}

#[test]
fn node_whose_uplink_gets_slow_is_made_a_leaf_and_holds_up_nobody() {
    const BOUND_S: u64 = 20;
    let (mut world, n) = quarter_way(6, BOUND_S);
    let child = world.child(n).unwrap();
    world.fault(Fault::Slow(host_of(n), 10));
    world.until(5, "its child goes on", |world| {
        world.source(child).is_some_and(|source| source != host_of(n))
    });
    world.until(3, "it is found", |world| world.base.ledger.counts.contains_key("node.slow"));
    world.pass(1);
    assert!(world.child(n).is_none(), "it is a leaf");
    let outcome = world.run();
    all_completed(&outcome, 6);
    assert_eq!(outcome.counts["node.slow"], 1, "{:?}", outcome.counts);
    for other in 0..6 {
        let took = world.took_ms(other);
        assert!(took <= BOUND_S * 1_250, "n{other}: {took} ms");
    }
    let sent = world.base.sent_in_all[&world.content().unwrap()];
    assert!(sent <= BOUND_S * RATE * 105 / 100, "{sent} bytes left the base");
}

#[test]
fn uplink_that_comes_and_goes_moves_nobody_to_and_fro() {
    let (mut world, n) = quarter_way(5, 40);
    for second in 0..40 {
        world.fault(Fault::Slow(host_of(n), if second % 3 == 0 { 8 } else { 1 }));
        world.pass(1);
    }
    let outcome = world.run();
    all_completed(&outcome, 5);
    let changes = outcome.counts.get("delivery.source").copied().unwrap_or(0);
    assert!(changes <= 8, "{changes} changes of a source: {:?}", outcome.counts);
}

#[test]
fn side_of_a_partition_that_has_everything_completes_without_the_base() {
    let mut world = World::new(Setup::one_file(6, SIZE), false);
    world.until(20, "one has it and feeds others", |world| {
        (0..6).any(|n| world.is_published(n) && world.child(n).is_some())
    });
    let first = (0..6).find(|n| world.is_published(*n) && world.child(*n).is_some()).unwrap();
    let mut far: BTreeSet<Host> = [host_of(first)].into();
    let mut at = first;
    while let Some(child) = world.child(at) {
        far.insert(host_of(child));
        at = child;
    }
    world.fault(Fault::Partition(far.clone()));
    world.until(15, "the far side has it", |world| {
        far.iter().all(|host| world.is_published(host - 1))
    });
    world.pass(20);
    let away = far.iter().map(|host| &world.nodes[host - 1].name);
    let states: Vec<_> = away.map(|name| world.base.ledger.nodes[name].state).collect();
    assert!(states.iter().all(|state| *state == NodeState::Down), "{states:?}");
    let job = world.base.ledger.jobs.values().next().unwrap();
    assert_eq!(job.state, JobState::Closing, "what is away is not given up");
    world.fault(Fault::Join(far));
    all_completed(&world.run(), 6);
}

#[test]
fn edge_that_does_not_connect_is_passed_over() {
    let (mut world, n) = half_way(5);
    let child = world.child(n).unwrap();
    world.fault(Fault::Cut(host_of(n), host_of(child)));
    let outcome = world.run();
    all_completed(&outcome, 5);
    others_are_in_time(&world, usize::MAX, 4_000);
}

#[test]
fn orders_and_reports_that_come_twice_and_late_have_one_effect() {
    let mut setup = Setup::one_file(5, SIZE);
    let file = put("j0/other.mp4", 3 * 65_536);
    setup.jobs[0].commands.push(file);
    setup.faults.push((0, Fault::Messages { again: 1_000, late: 400 }));
    let outcome = World::new(setup, false).run();
    all_completed(&outcome, 10);
}

#[test]
fn late_order_of_a_command_that_has_failed_is_taken_back() {
    let mut setup = Setup::one_file(3, SIZE);
    setup.nodes[1].disk = SIZE as u64 / 2;
    let mut world = World::new(setup, false);
    world.until(20, "it fails", |world| world.state(1) == Some(DeliveryState::Failed));
    world.pass(1);
    let row = world.base.ledger.commands.values().next().unwrap().clone();
    let order = NodeOrder::Command {
        key: row.key,
        sequence: Order::Prefix,
        priority: 0,
        op: row.op,
        content: row.content,
        size: Some(SIZE as u64),
    };
    world.order_again(1, world.base_epoch(), order);
    assert!(world.nodes[1].open_commands().contains(&row.key), "it begins once more");
    world.until(2, "it is told to stop", |world| world.nodes[1].open_commands().is_empty());
    let outcome = world.run();
    assert_eq!(outcome.counts.get("delivery.completed"), Some(&2));
}

/// Found by a seed: the end of the first command was not said again, and in strict order the second
/// one waited for it without end.
#[test]
fn upload_refused_while_nodes_are_away_ends_there_too_when_the_base_starts_anew_in_between() {
    let mut setup = Setup::one_file(2, 3 * 65_536);
    let job = &mut setup.jobs[0];
    job.order = Order::Strict;
    job.pause_ms = 1_000;
    job.commands[0].hash = Said::Wrong;
    let op = Op::Mkdir { path: "j0/c".to_owned(), attrs: Attributes::default() };
    job.commands.push(CommandPlan { op, size: 0, says_size: false, hash: Said::Nothing });
    let away: BTreeSet<Host> = [host_of(0), host_of(1)].into();
    setup.faults.push((6 * S, Fault::Partition(away.clone())));
    setup.faults.push((12 * S, Fault::CrashBase { is_dark: false }));
    setup.faults.push((14 * S, Fault::StartBase));
    setup.faults.push((16 * S, Fault::Join(away)));
    let outcome = World::new(setup, false).run();
    assert_eq!(outcome.counts.get("upload.refused"), Some(&1), "{:?}", outcome.counts);
    assert_eq!(outcome.counts.get("delivery.completed"), Some(&2), "{:?}", outcome.counts);
    assert_eq!(outcome.counts.get("job.completed_with_failures"), Some(&1));
}

#[test]
fn client_that_leaves_its_upload_may_come_back_and_go_on() {
    let mut setup = Setup::one_file(3, SIZE);
    setup.jobs[0].leaves = Some(Leave { command: 0, permille: 500, back: Some(20 * S) });
    let mut world = World::new(setup, false);
    world.until(20, "nodes hold what came", |world| {
        (0..3).all(|n| world.have(n) >= SIZE as u64 / 2)
    });
    all_completed(&world.run(), 3);
}

#[test]
fn upload_that_is_left_for_good_fails_as_abandoned_and_leaves_nothing() {
    let mut setup = Setup::one_file(3, SIZE);
    setup.jobs[0].leaves = Some(Leave { command: 0, permille: 500, back: None });
    let mut world = World::new(setup, false);
    let outcome = world.run();
    assert_eq!(outcome.counts.get("upload.abandoned"), Some(&1));
    assert_eq!(outcome.counts.get("delivery.failed"), Some(&3));
    let reasons = world.base.ledger.deliveries.values().map(|row| row.reason);
    assert!(reasons.into_iter().all(|reason| reason == Some(Reason::UploadAbandoned)));
    assert!(world.base.contents.is_empty());
}

#[test]
fn job_that_is_withdrawn_leaves_no_byte_anywhere() {
    let mut setup = Setup::one_file(4, SIZE);
    setup.jobs[0].cancels = Some(Cancel { at: 7 * S, command: None });
    setup.jobs[0].pause_ms = 100;
    let mut world = World::new(setup, false);
    let outcome = world.run();
    assert_eq!(outcome.counts.get("job.cancelled"), Some(&1));
    assert_eq!(outcome.counts.get("delivery.completed"), None);
    assert!(world.base.contents.is_empty());
    assert!(world.nodes.iter().all(|node| node.disk.used() == 0));
}

#[test]
fn clocks_an_hour_off_and_jumping_change_nothing() {
    const HOUR: i64 = 3_600_000_000_000;
    let mut setup = Setup::one_file(4, SIZE);
    for (n, hours) in [1, -1, 0, 0].into_iter().enumerate() {
        setup.faults.push((0, Fault::Clock { n, skew_ns: hours * HOUR }));
    }
    setup.faults.push((7 * S, Fault::Clock { n: 1, skew_ns: HOUR }));
    setup.faults.push((7 * S, Fault::Clock { n: 2, skew_ns: -HOUR }));
    // A start by a clock that went back is a later start all the same.
    setup.faults.push((8 * S, Fault::Crash { n: 2, is_dark: false }));
    setup.faults.push((9 * S, Fault::Start(2)));
    let outcome = World::new(setup, false).run();
    all_completed(&outcome, 4);
}

#[test]
fn thousand_nodes_that_join_at_once_wait_in_a_bounded_queue_and_get_their_file() {
    let mut setup = Setup::one_file(1_000, 2 * 65_536);
    setup.queue_max = 256;
    setup.tick_ns = S / 2;
    setup.jobs[0].at = 40 * S;
    for node in &mut setup.nodes {
        node.up = 4 * RATE;
    }
    setup.base_up_rate = Some(16 * RATE);
    let mut world = World::new(setup, false);
    let outcome = world.run();
    all_completed(&outcome, 1_000);
    assert_eq!(outcome.counts["node.joined"], 1_000);
    assert!(world.base.busy > 0 && world.base.queue_seen <= 256);
}

#[test]
fn webhook_sink_that_is_down_holds_nothing_up_and_is_told_all_in_order_later() {
    let mut setup = Setup::one_file(4, SIZE);
    let job = &setup.jobs[0];
    let plain = World::new(Setup::one_file(4, SIZE), false).run();
    let mut second = job.clone();
    second.commands = vec![put("j1/title.mp4", 4 * 65_536)];
    setup.jobs.push(second);
    for job in &mut setup.jobs {
        job.notify = vec![notify(&Topic::ALL), notify(&[Topic::End])];
    }
    setup.faults.insert(0, (0, Fault::Sinks { are_down: true }));
    setup.faults.insert(1, (40 * S, Fault::Sinks { are_down: false }));
    // It knows from its rows alone whom to call back.
    setup.faults.insert(2, (30 * S, Fault::CrashBase { is_dark: false }));
    setup.faults.insert(3, (31 * S, Fault::StartBase));
    let mut world = World::new(setup, false);
    world.until(25, "both jobs end", |world| {
        world.base.ledger.counts.get("job.completed") == Some(&2)
    });
    let Sinks { taken, attempts, .. } = &world.sinks;
    // Each of them takes ten seconds.
    assert!(taken.is_empty() && *attempts >= 2, "{attempts} attempts, {taken:?}");
    let commits = world.base.ledger.commits;
    assert!(world.base.queue_seen < 32, "{} requests waited", world.base.queue_seen);
    let outcome = world.run();
    assert_eq!(outcome.counts["delivery.completed"], plain.counts["delivery.completed"] * 2);
    assert_eq!(outcome.counts["webhook.delivered"], 4);
    assert!(world.base.ledger.commits > commits);
    // To each of four receivers of one host, and to no more at once than that host may have.
    assert_eq!(world.sinks.taken.len(), 4);
    assert!((1..=4).contains(&world.sinks.open_most), "{}", world.sinks.open_most);
}

#[test]
fn webhook_sink_that_stays_down_is_given_up_in_time_and_one_that_is_gone_at_once() {
    let mut setup = Setup::one_file(3, 65_536);
    setup.jobs[0].notify = vec![notify(&Topic::ALL)];
    setup.hook_kept_s = 60;
    setup.faults = vec![(0, Fault::Sinks { are_down: true })];
    let mut world = World::new(setup, false);
    world.until(300, "it is given up", |world| {
        world.base.ledger.counts.contains_key("webhook.dropped") && world.are_sinks_served()
    });
    let row = world.base.ledger.hooks.values().next().unwrap();
    assert_eq!((row.delivered, row.pending), (0, 0));
    assert!(row.dropped >= 7 && world.now >= 60 * S, "{row:?}");

    let mut setup = Setup::one_file(3, 65_536);
    setup.jobs[0].notify = vec![notify(&Topic::ALL)];
    let mut world = World::new(setup, false);
    world.sinks.are_gone = true;
    let outcome = world.run();
    let row = world.base.ledger.hooks.values().next().unwrap();
    assert_eq!((row.state, row.delivered), (HookState::Disabled, 0));
    assert_eq!((outcome.counts["webhook.disabled"], world.sinks.attempts), (1, 1));
}
