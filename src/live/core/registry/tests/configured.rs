//! A home whose path gets another configuration.

use std::time::Duration;

use super::*;
use crate::live::core::ring::RingLimits;

impl World {
    /// The configuration is read again.
    fn configure(&mut self, rules: PathRules, is_other_source: bool) -> Vec<String> {
        self.rules = Arc::new(rules);
        self.ask(Ask::Configure { rules: Arc::clone(&self.rules), is_other_source })
    }
}

fn rules(kind: SourceKind) -> PathRules {
    PathRules { kind, ..PathRules::default() }
}

#[test]
fn other_words_about_a_path_leave_its_source_and_readers_alone() {
    let mut world = World::new(SourceKind::Publish);
    world.claim(ONE, "a");
    world.subscribe(3);
    let hold = Duration::from_secs(3);
    assert_eq!(world.configure(PathRules { hold, ..rules(SourceKind::Publish) }, false), [""; 0]);
    assert_eq!(world.feed(1, true), ["3: batch gen 1"]);
    assert_eq!(world.ask(Ask::Release { generation: Generation(1) }), ["3: lost"]);
    assert_eq!(world.at(2), [""; 0]);
    assert_eq!(world.at(3), ["3: ended"], "the new hold counts");
}

#[test]
fn smaller_ring_counts_from_the_next_batch_on() {
    let mut world = World::new(SourceKind::Publish);
    world.claim(ONE, "a");
    for _ in 0..5 {
        world.feed(1, false);
    }
    world.feed(1, true);
    world.feed(1, false);
    let kept = |world: &World| world.registry.infos()[0].kept_bytes;
    let (before, ring) = (kept(&world), RingLimits { bytes_max: 1, ..RingLimits::default() });
    world.configure(PathRules { ring, ..rules(SourceKind::Publish) }, false);
    world.feed(1, false);
    assert!(kept(&world) < before / 4, "{} of {before}", kept(&world));
}

#[test]
fn published_path_that_is_to_be_fetched_lets_its_publisher_go_and_holds_its_readers() {
    let mut world = World::new(SourceKind::Publish);
    world.claim(ONE, "a");
    world.subscribe(3);
    assert_eq!(
        world.configure(rules(SourceKind::Always), true),
        ["1: evicted 11 false", "3: lost", "start pull"]
    );
    assert_eq!(world.feed(1, true), [""; 0], "what the publisher still sends is left");
    assert_eq!(world.claim(TWO, "a"), ["2: granted 22 gen 2", "3: resumed gen 2"]);
    assert_eq!(world.at(10), [""; 0], "nobody waits any more");
}

#[test]
fn fetched_path_that_is_fetched_from_elsewhere_changes_its_source_under_its_readers() {
    let mut world = World::new(SourceKind::OnDemand);
    world.subscribe(3);
    world.claim(ONE, "a");
    assert_eq!(
        world.configure(rules(SourceKind::OnDemand), true),
        ["stop pull", "1: evicted 11 false", "3: lost", "start pull"]
    );
    assert_eq!(world.claim(TWO, "a"), ["2: granted 22 gen 2", "3: resumed gen 2"]);
}

#[test]
fn path_that_is_not_fetched_any_more_stops_and_its_readers_end_after_the_hold() {
    let mut world = World::new(SourceKind::Always);
    let open = Ask::Open { rules: Arc::clone(&world.rules) };
    assert_eq!(world.ask(open), ["start pull"]);
    world.claim(ONE, "a");
    world.subscribe(3);
    assert_eq!(
        world.configure(rules(SourceKind::Publish), true),
        ["stop pull", "1: evicted 11 false", "3: lost"]
    );
    assert_eq!(world.at(10), ["3: ended"]);
    assert_eq!(world.registry.count(), 0);
}

#[test]
fn who_waits_for_a_fetched_source_is_told_when_there_will_be_none() {
    let mut world = World::new(SourceKind::OnDemand);
    assert_eq!(world.subscribe(3), ["start pull"]);
    assert_eq!(
        world.configure(rules(SourceKind::Publish), true),
        ["stop pull", "3: not there: the path has no source"]
    );
    assert_eq!(world.registry.count(), 0);
}

#[test]
fn source_on_demand_that_is_wanted_always_stays_and_the_other_way_round_ends_when_idle() {
    let mut world = World::new(SourceKind::OnDemand);
    world.subscribe(3);
    world.claim(ONE, "a");
    world.ask(Ask::Unsubscribe { shard: ShardId(3) });
    assert_eq!(world.configure(rules(SourceKind::Always), false), [""; 0]);
    assert_eq!(world.at(30), [""; 0], "it is wanted always now");
    let open = Ask::Open { rules: Arc::clone(&world.rules) };
    assert_eq!(world.ask(open), [""; 0], "it is there");
    assert_eq!(world.configure(rules(SourceKind::OnDemand), false), [""; 0]);
    assert_eq!(world.at(39), [""; 0]);
    assert_eq!(world.at(40), ["1: evicted 11 false", "stop pull"]);
    assert_eq!(world.registry.count(), 0);
}
