//! An owner whose path gets another configuration.

use std::time::Duration;

use super::*;
use crate::live::core::ring::RingLimits;

impl World {
    /// The configuration is read again.
    fn configure(&mut self, rules: PathRules, is_other_source: bool) -> Vec<String> {
        self.rules = Arc::new(rules);
        self.request(OwnerRequest::Configure { rules: Arc::clone(&self.rules), is_other_source })
    }
}

fn rules(kind: SourceKind) -> PathRules {
    PathRules { kind, ..PathRules::default() }
}

#[test]
fn change_of_other_settings_keeps_source_and_readers() {
    let mut world = World::new(SourceKind::Publish);
    world.claim(ONE, "a");
    world.subscribe(3);
    let hold = Duration::from_secs(3);
    assert_eq!(world.configure(PathRules { hold, ..rules(SourceKind::Publish) }, false), [""; 0]);
    assert_eq!(world.feed(1, true), ["3: batch gen 1"]);
    assert_eq!(world.request(OwnerRequest::Release { generation: Generation(1) }), ["3: lost"]);
    assert_eq!(world.at(2), [""; 0]);
    assert_eq!(world.at(3), ["3: ended"], "the new hold counts");
}

#[test]
fn smaller_ring_limit_applies_from_the_next_batch() {
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
fn new_source_url_ends_the_publisher_and_holds_readers() {
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
fn change_of_the_source_url_restarts_the_source_and_keeps_readers() {
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
fn removal_of_the_source_url_stops_the_source_and_ends_readers_after_the_hold_time() {
    let mut world = World::new(SourceKind::Always);
    let open = OwnerRequest::Open { rules: Arc::clone(&world.rules) };
    assert_eq!(world.request(open), ["start pull"]);
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
fn waiting_requests_are_refused_when_the_source_url_is_removed() {
    let mut world = World::new(SourceKind::OnDemand);
    assert_eq!(world.subscribe(3), ["start pull"]);
    assert_eq!(
        world.configure(rules(SourceKind::Publish), true),
        ["stop pull", "3: not there: the path has no source"]
    );
    assert_eq!(world.registry.count(), 0);
}

#[test]
fn on_demand_source_made_permanent_stays_and_permanent_source_made_on_demand_ends_when_idle() {
    let mut world = World::new(SourceKind::OnDemand);
    world.subscribe(3);
    world.claim(ONE, "a");
    world.request(OwnerRequest::Unsubscribe { shard: ShardId(3) });
    assert_eq!(world.configure(rules(SourceKind::Always), false), [""; 0]);
    assert_eq!(world.at(30), [""; 0], "it is wanted always now");
    let open = OwnerRequest::Open { rules: Arc::clone(&world.rules) };
    assert_eq!(world.request(open), [""; 0], "it is there");
    assert_eq!(world.configure(rules(SourceKind::OnDemand), false), [""; 0]);
    assert_eq!(world.at(39), [""; 0]);
    assert_eq!(world.at(40), ["1: evicted 11 false", "stop pull"]);
    assert_eq!(world.registry.count(), 0);
}
