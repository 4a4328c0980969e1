//! Rates, windows, priorities and pauses by name: what a policy holds back, it holds back
//! everywhere, and nobody takes it for a failure.
//!
//! That no host is above a rate and none sends outside of a window is checked in every run, by
//! `shares`.

use headend::dist::ids::NodeName;
use headend::dist::wire::job::{Limit, Policy, PolicyChange, Targets};

use crate::client::JobPlan;
use crate::dice::S;
use crate::faults::Fault;
use crate::network::{BASE, Network};
use crate::setup::{RATE, Setup, put};
use crate::world::{Outcome, World};

/// Forty units, five seconds on one link.
const SIZE: usize = 40 * 65_536;

impl World {
    /// Bytes of the first content at all nodes.
    fn bytes_at_nodes(&self) -> u64 {
        let content = self.clients[0].commands.first().and_then(|command| command.1);
        let held = self.nodes.iter().filter_map(|node| node.disk.contents.get(&content?));
        held.map(|held| held.have()).sum()
    }

    fn limit(&self, c: usize) -> Option<Limit> {
        let client = &self.clients[c];
        let book = self.base.book.as_ref()?;
        book.job_view(&client.name, client.job?).ok()?.limited_by
    }

    fn bytes_from_base(&self, c: usize) -> u64 {
        let job = self.clients[c].job;
        job.map_or(0, |job| self.streams.shares.sent.get(&(BASE, job)).copied().unwrap_or(0))
    }

    fn is_published_by(&self, n: usize, c: usize) -> bool {
        let content = self.clients[c].commands.first().and_then(|command| command.1);
        content.is_some_and(|content| self.watch.published.contains_key(&(n, content)))
    }
}

fn completed(outcome: &Outcome, nodes: u64) {
    assert_eq!(outcome.counts.get("delivery.completed"), Some(&nodes), "{:?}", outcome.counts);
    assert_eq!(outcome.counts.get("delivery.retry_wait"), None, "{:?}", outcome.counts);
}

/// A job that begins three seconds before its window closes for a minute.
fn before_the_close() -> Setup {
    let mut setup = Setup::one_file(4, SIZE);
    setup.jobs[0].at = 57 * S;
    setup.jobs[0].policy.window = "00:00-00:01; 00:02-12:00".parse().ok();
    setup
}

#[test]
fn fill_window_closes_in_the_middle_and_what_is_there_goes_on_when_it_opens() {
    let mut world = World::new(before_the_close(), false);
    world.pass(62);
    let have = world.bytes_at_nodes();
    assert!(have > SIZE as u64 && have < 4 * SIZE as u64, "{have}");
    assert!(world.streams.all.is_empty(), "links are closed");
    let opens_at_ns = Some(crate::world::EPOCH_NS + 120_000_000_000);
    assert_eq!(world.limit(0), Some(Limit::Window { opens_at_ns }));
    world.pass(57);
    assert_eq!(world.bytes_at_nodes(), have, "nothing comes while it is closed");
    let from_base = world.bytes_from_base(0);
    world.until(12, "all have it", |world| (0..4).all(|n| world.is_published_by(n, 0)));
    completed(&world.run(), 4);
    assert!(from_base <= SIZE as u64 && world.bytes_from_base(0) <= SIZE as u64 * 115 / 100);
}

#[test]
fn nodes_close_a_window_by_themselves_when_the_base_is_away() {
    let mut setup = before_the_close();
    let away = (59 * S, Fault::CrashBase { is_dark: true });
    setup.calm_at = 100 * S;
    setup.faults = vec![away, (90 * S, Fault::StartBase), (setup.calm_at, Fault::Calm)];
    let mut world = World::new(setup, false);
    world.pass(65);
    let have = world.bytes_at_nodes();
    world.pass(20);
    assert_eq!(world.bytes_at_nodes(), have);
    let outcome = world.run();
    assert_eq!(outcome.counts.get("delivery.completed"), Some(&4), "{:?}", outcome.counts);
}

#[test]
fn two_jobs_share_the_uplink_of_the_base_by_their_priority_and_leave_nothing_idle() {
    let mut setup = Setup::plain(2);
    for (n, priority) in [(0, 9), (1, 0)] {
        let mut plan = JobPlan::of(vec![put(&format!("j{n}/title.mp4"), SIZE)]);
        let node = NodeName::new(&format!("n{n}")).unwrap();
        plan.targets = Targets::Nodes(vec![node]);
        plan.policy = Policy { priority, ..Policy::default() };
        (plan.chunk, plan.pause_ms) = (SIZE, 1);
        setup.jobs.push(plan);
    }
    for node in &mut setup.nodes {
        node.down = 4 * RATE;
    }
    let mut world = World::new(setup, false);
    // The cap is below what the link carries: a stream that has sent asks again in time.
    let (base, node) = ((8 * RATE, u64::MAX / S), (RATE, 4 * RATE));
    world.net = Network::new(&[base, node, node], (1, 4));
    world.until(20, "the first has its file", |world| world.is_published_by(0, 0));
    let (one, other) = (world.bytes_from_base(0), world.bytes_from_base(1));
    let tenth = one / 10;
    assert!(other.abs_diff(tenth) <= 3 * 65_536, "{one} and {other}");
    let first_ns = world.now - 5 * S;
    assert!(first_ns <= 5 * S * 11 / 10 + S, "{first_ns}");
    world.until(20, "the other has its own", |world| world.is_published_by(1, 1));
    let both_ns = world.now - 5 * S;
    assert!(both_ns <= 10 * S + S, "{both_ns}");
    completed(&world.run(), 2);
}

#[test]
fn job_that_is_paused_keeps_its_offsets_and_goes_on_there() {
    let mut setup = Setup::one_file(3, SIZE);
    let paused = |paused| PolicyChange { paused: Some(paused), ..PolicyChange::default() };
    setup.jobs[0].changes = vec![(6 * S, paused(true)), (40 * S, paused(false))];
    let mut world = World::new(setup, false);
    world.pass(15);
    let have = world.bytes_at_nodes();
    assert!(have > 0 && world.streams.all.is_empty());
    assert_eq!(world.limit(0), Some(Limit::Paused));
    world.pass(20);
    assert_eq!(world.bytes_at_nodes(), have);
    completed(&world.run(), 3);
    assert!(world.bytes_from_base(0) <= SIZE as u64 * 115 / 100);
}

#[test]
fn job_that_is_slow_by_its_policy_looks_like_no_slow_source() {
    for is_source in [true, false] {
        let mut setup = Setup::one_file(3, 6 * 65_536);
        // A unit in four seconds: far longer than a source may be silent.
        let rate = Some(16 << 10);
        let policy = &mut setup.jobs[0].policy;
        if is_source {
            policy.max_rate = rate;
        } else {
            policy.per_node_rate = rate;
        }
        let mut world = World::new(setup, false);
        world.until(20, "it goes on", |world| world.bytes_at_nodes() > 65_536);
        assert_eq!(world.limit(0), Some(Limit::Rate));
        let outcome = world.run();
        completed(&outcome, 3);
        let changes = outcome.counts["delivery.fetching"];
        assert_eq!(changes, 3, "no node looks for another source: {:?}", outcome.counts);
    }
}

#[test]
fn rate_of_a_job_counts_at_each_source_and_a_chain_is_as_fast() {
    let mut setup = Setup::one_file(4, SIZE);
    setup.jobs[0].policy.max_rate = Some(RATE / 2);
    let mut world = World::new(setup, false);
    world.until(30, "all have it", |world| (0..4).all(|n| world.is_published_by(n, 0)));
    let took = world.now - 5 * S;
    assert!((9 * S..=12 * S).contains(&took), "{took}");
    completed(&world.run(), 4);
}

#[test]
fn rate_that_is_lifted_while_a_job_runs_counts_at_once() {
    let mut setup = Setup::one_file(2, SIZE);
    setup.jobs[0].policy.max_rate = Some(RATE / 16);
    let lifted = PolicyChange { max_rate: Some(None), ..PolicyChange::default() };
    setup.jobs[0].changes = vec![(9 * S, lifted)];
    let mut world = World::new(setup, false);
    world.until(25, "it is over soon", |world| (0..2).all(|n| world.is_published_by(n, 0)));
    completed(&world.run(), 2);
}
