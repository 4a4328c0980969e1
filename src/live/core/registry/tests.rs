//! Owners of paths: every effect for the shard, in order, as text.

mod configured;

use super::*;
use crate::live::core::batch::BatchBuilder;
use crate::live::core::batch::tests::{arrival, packet};
use crate::live::core::description::LiveTrack;
use crate::live::core::message::SourceKind;

const ONE: SourceRef = SourceRef { shard: ShardId(1), number: 11 };
const TWO: SourceRef = SourceRef { shard: ShardId(2), number: 22 };

struct World {
    registry: Registry,
    rules: Arc<PathRules>,
    now: Mono,
}

impl World {
    fn new(kind: SourceKind) -> Self {
        let range = (std::net::Ipv4Addr::new(239, 255, 0, 0), 31);
        let groups = GroupPool::new(range, (8_002, 8), ShardId(0), 2).unwrap();
        let rules = PathRules { kind, ..PathRules::default() };
        Self { registry: Registry::new(Some(groups)), rules: Arc::new(rules), now: Mono(0) }
    }

    /// Sends a message about `live/a`; returns its effects.
    fn request(&mut self, request: OwnerRequest) -> Vec<String> {
        self.registry.handle(ToOwner { path: "live/a".into(), request }, self.now);
        self.orders()
    }

    fn claim(&mut self, source: SourceRef, identity: &str) -> Vec<String> {
        let is_pulled = self.rules.kind != SourceKind::Publish;
        let rules = Arc::clone(&self.rules);
        self.request(OwnerRequest::Claim {
            source,
            description: description(identity),
            is_pulled,
            rules,
        })
    }

    fn subscribe(&mut self, shard: u8) -> Vec<String> {
        let rules = Arc::clone(&self.rules);
        self.request(OwnerRequest::Subscribe { shard: ShardId(shard), rules })
    }

    fn feed(&mut self, generation: u32, is_sync: bool) -> Vec<String> {
        let generation = Generation(generation);
        let mut builder = BatchBuilder::default();
        let bytes = packet(1, 2, 3, 100);
        builder.push(&arrival(&bytes, 0, is_sync), self.now).unwrap();
        let batch = Arc::new(builder.build(generation, |_| None).unwrap());
        self.request(OwnerRequest::Feed { generation, batch })
    }

    /// Lets time pass, and runs the timers.
    fn at(&mut self, s: u64) -> Vec<String> {
        self.now = Mono(s * 1_000_000_000);
        self.registry.handle_timer(&"live/a".into(), self.now);
        self.orders()
    }

    /// The effects without timers.
    fn orders(&mut self) -> Vec<String> {
        self.registry.out.drain(..).filter_map(|order| text(&order)).collect()
    }
}

fn description(identity: &str) -> Arc<Description> {
    let track = LiveTrack {
        clock_rate_hz: 90_000,
        payload_types: vec![96],
        needs_sync: true,
        identity: identity.into(),
    };
    Arc::new(Description::new("".into(), vec![track]).unwrap())
}

fn text(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Notify { shard, notification, .. } => {
            let notification = match notification {
                Notification::Granted { number, generation } => {
                    format!("granted {number} gen {}", generation.0)
                }
                Notification::Refused { number, why } => format!("refused {number}: {why}"),
                Notification::Evicted { number, is_overridden } => {
                    format!("evicted {number} {is_overridden}")
                }
                Notification::SyncWanted { number } => format!("sync wanted {number}"),
                Notification::Subscribed { generation, snapshot, .. } => {
                    format!("subscribed gen {} snapshot {}", generation.0, snapshot.len())
                }
                Notification::Described { generation, description } => {
                    format!("described gen {} {}", generation.0, description.sdp)
                }
                Notification::NotThere(why) => format!("not there: {why}"),
                Notification::Batch(batch) => format!("batch gen {}", batch.generation().0),
                Notification::Lost => "lost".to_owned(),
                Notification::Resumed { generation, .. } => format!("resumed gen {}", generation.0),
                Notification::Ended => "ended".to_owned(),
                Notification::Joined { group, .. } => {
                    format!("joined {:?}", group.map(|group| group.address))
                }
            };
            format!("{}: {notification}", shard.0)
        }
        Effect::StartPull(_) => "start pull".to_owned(),
        Effect::StopPull(_) => "stop pull".to_owned(),
        Effect::OpenGroup(_, group) => format!("open {}", group.address),
        Effect::CloseGroup(_, group) => format!("close {}", group.address),
        Effect::Timer(..) => return None,
    })
}

#[test]
fn subscribed_shard_gets_each_batch_once_after_its_snapshot() {
    let mut world = World::new(SourceKind::Publish);
    assert_eq!(world.subscribe(3), ["3: not there: the path has no source"]);
    assert_eq!(world.registry.count(), 0, "a question leaves nothing behind");
    assert_eq!(world.claim(ONE, "a"), ["1: granted 11 gen 1"]);
    assert_eq!(world.feed(1, true), [""; 0]);
    assert_eq!(world.feed(1, false), [""; 0]);
    assert_eq!(world.subscribe(3), ["3: subscribed gen 1 snapshot 2"]);
    assert_eq!(world.subscribe(1), ["1: subscribed gen 1 snapshot 2"]);
    assert_eq!(world.feed(1, false), ["3: batch gen 1", "1: batch gen 1"]);
    assert_eq!(world.request(OwnerRequest::Unsubscribe { shard: ShardId(3) }), [""; 0]);
    assert_eq!(world.feed(1, false), ["1: batch gen 1"]);
}

#[test]
fn second_publisher_is_refused_unless_the_path_may_be_overridden() {
    let mut world = World::new(SourceKind::Publish);
    world.claim(ONE, "a");
    assert_eq!(world.claim(TWO, "a"), ["2: refused 22: the path has a source already"]);
    assert_eq!(world.claim(ONE, "a"), ["1: granted 11 gen 3"], "it announces anew");
    world.rules = Arc::new(PathRules { may_override: true, ..PathRules::default() });
    world.subscribe(0);
    assert_eq!(
        world.claim(TWO, "a"),
        ["1: evicted 11 true", "2: granted 22 gen 4", "0: resumed gen 4"]
    );
    assert_eq!(world.feed(3, true), [""; 0], "what the first still sends is left");
    assert_eq!(world.request(OwnerRequest::Release { generation: Generation(3) }), [""; 0]);
    assert_eq!(world.feed(4, true), ["0: batch gen 4"]);
}

#[test]
fn readers_continue_when_their_publisher_returns_within_the_hold_time() {
    let mut world = World::new(SourceKind::Publish);
    world.claim(ONE, "a");
    world.subscribe(0);
    world.feed(1, true);
    assert_eq!(world.request(OwnerRequest::Release { generation: Generation(1) }), ["0: lost"]);
    assert_eq!(world.subscribe(5), ["5: not there: the path has no source"]);
    assert_eq!(world.at(9), [""; 0]);
    assert_eq!(world.claim(TWO, "a"), ["2: granted 22 gen 2", "0: resumed gen 2"]);
    assert_eq!(world.at(30), [""; 0], "the old timer means nothing");
    assert_eq!(world.subscribe(5), ["5: subscribed gen 2 snapshot 0"], "its picture is too old");
    assert_eq!(world.feed(2, true), ["0: batch gen 2", "5: batch gen 2"]);
}

#[test]
fn readers_end_after_the_hold_time_and_the_path_is_removed() {
    let mut world = World::new(SourceKind::Publish);
    world.claim(ONE, "a");
    world.subscribe(0);
    world.request(OwnerRequest::Release { generation: Generation(1) });
    assert_eq!(world.at(10), ["0: ended"]);
    assert_eq!(world.registry.count(), 0);
    world.claim(ONE, "a");
    assert_eq!(world.request(OwnerRequest::Release { generation: Generation(2) }), [""; 0]);
    assert_eq!(world.registry.count(), 0, "without readers at once");
    assert_eq!(world.feed(2, true), [""; 0]);
}

#[test]
fn source_on_demand_is_fetched_for_its_first_reader_and_ends_after_its_last() {
    let mut world = World::new(SourceKind::OnDemand);
    assert_eq!(world.subscribe(0), ["start pull"]);
    assert_eq!(world.subscribe(1), [""; 0]);
    assert_eq!(
        world.claim(ONE, "a"),
        ["1: granted 11 gen 1", "0: subscribed gen 1 snapshot 0", "1: subscribed gen 1 snapshot 0"]
    );
    world.request(OwnerRequest::Unsubscribe { shard: ShardId(0) });
    world.request(OwnerRequest::Unsubscribe { shard: ShardId(1) });
    assert_eq!(world.at(5), [""; 0]);
    world.subscribe(1);
    assert_eq!(world.at(20), [""; 0], "somebody came back");
    world.request(OwnerRequest::Unsubscribe { shard: ShardId(1) });
    assert_eq!(world.at(30), ["1: evicted 11 false", "stop pull"]);
    assert_eq!(world.registry.count(), 0);
}

#[test]
fn failed_fetch_is_retried_with_growing_delays_while_the_path_is_wanted() {
    let mut world = World::new(SourceKind::Always);
    let rules = Arc::clone(&world.rules);
    assert_eq!(world.request(OwnerRequest::Open { rules }), ["start pull"]);
    let mut starts = Vec::new();
    world.request(OwnerRequest::PullFailed { reason: "401".to_owned() });
    for s in 1..200 {
        if world.at(s) == ["start pull"] {
            starts.push(s);
            assert_eq!(
                world.request(OwnerRequest::PullFailed { reason: "401".to_owned() }),
                [""; 0]
            );
            assert_eq!(
                world.request(OwnerRequest::PullFailed { reason: "401".to_owned() }),
                [""; 0],
                "said twice"
            );
        }
    }
    assert_eq!(starts, [1, 3, 7, 15, 31, 61, 91, 121, 151, 181]);
    world.subscribe(4);
    assert_eq!(world.at(209), ["4: not there: the source of the path does not answer"]);
    assert_eq!(world.at(211), ["start pull"]);
    assert_eq!(world.claim(ONE, "a"), ["1: granted 11 gen 1"]);
    world.request(OwnerRequest::PullFailed { reason: "401".to_owned() });
    assert_eq!(world.at(240), [""; 0], "it was there, and sent nothing");
    assert_eq!(world.at(241), ["start pull"]);
    assert_eq!(world.claim(ONE, "a")[0], "1: granted 11 gen 2");
    world.feed(2, true);
    world.request(OwnerRequest::PullFailed { reason: "404".to_owned() });
    let info = world.registry.infos().remove(0);
    assert_eq!((info.state, info.reason.as_deref()), ("failed", Some("404")));
    assert_eq!((info.failed_tries, info.retry_after_s), (1, Some(1)));
    assert_eq!(world.at(242), ["start pull"], "after packets it begins with a second again");
}

#[test]
fn publisher_is_refused_on_a_fetched_path_and_a_fetched_source_on_a_published_path() {
    let mut world = World::new(SourceKind::OnDemand);
    let rules = Arc::clone(&world.rules);
    let (source, description) = (ONE, description("a"));
    let claim = OwnerRequest::Claim { source, description, is_pulled: false, rules };
    assert_eq!(
        world.request(claim),
        ["1: refused 11: the path is configured for another kind of source"]
    );
    assert_eq!(world.registry.count(), 0);
}

#[test]
fn sync_sample_is_asked_for_once_for_many_readers() {
    let mut world = World::new(SourceKind::Publish);
    assert_eq!(world.request(OwnerRequest::WantSync), [""; 0]);
    world.claim(ONE, "a");
    assert_eq!(world.request(OwnerRequest::WantSync), ["1: sync wanted 11"]);
    assert_eq!(world.request(OwnerRequest::WantSync), [""; 0]);
    world.now = Mono(500_000_000);
    assert_eq!(world.request(OwnerRequest::WantSync), ["1: sync wanted 11"]);
}

#[test]
fn group_is_open_while_sessions_have_joined_and_taken_back_after() {
    let mut world = World::new(SourceKind::Publish);
    let join = |world: &mut World, shard| {
        world.request(OwnerRequest::JoinGroup { shard: ShardId(shard), serial: 0 })
    };
    assert_eq!(join(&mut world, 3), ["3: joined None"], "there is no such path");
    world.claim(ONE, "a");
    assert_eq!(join(&mut world, 3), ["open 239.255.0.0", "3: joined Some(239.255.0.0)"]);
    assert_eq!(join(&mut world, 2), ["2: joined Some(239.255.0.0)"]);
    assert_eq!(world.request(OwnerRequest::LeaveGroup { shard: ShardId(3) }), [""; 0]);
    assert_eq!(
        world.request(OwnerRequest::LeaveGroup { shard: ShardId(2) }),
        ["close 239.255.0.0"]
    );
    assert_eq!(world.request(OwnerRequest::LeaveGroup { shard: ShardId(2) }), [""; 0]);
    assert_eq!(join(&mut world, 2), ["open 239.255.0.0", "2: joined Some(239.255.0.0)"]);
}

#[test]
fn kick_ends_source_and_readers() {
    let mut world = World::new(SourceKind::Publish);
    world.claim(ONE, "a");
    world.subscribe(4);
    assert_eq!(world.request(OwnerRequest::Kick), ["1: evicted 11 false", "4: ended"]);
    assert_eq!(world.registry.count(), 0);
}

#[test]
fn number_of_paths_is_bounded() {
    let mut world = World::new(SourceKind::Publish);
    let claim = |world: &mut World, n: usize| {
        let rules = Arc::clone(&world.rules);
        let (source, description) = (ONE, description("a"));
        let request = OwnerRequest::Claim { source, description, is_pulled: false, rules };
        world.registry.handle(ToOwner { path: format!("live/{n}").into(), request }, Mono(0));
        world.orders()
    };
    for n in 0..PATHS_MAX {
        claim(&mut world, n);
    }
    assert_eq!(claim(&mut world, PATHS_MAX), ["1: refused 11: too many paths"]);
    assert_eq!(world.registry.infos().len(), PATHS_MAX);
    assert_eq!(world.registry.infos()[0].state, "live");
}

#[test]
fn new_description_is_sent_to_subscribed_shards_and_later_subscribers() {
    let mut world = World::new(SourceKind::Publish);
    world.claim(ONE, "a");
    world.subscribe(3);
    let said = |identity, sdp: &str| {
        let tracks = description(identity).tracks.clone();
        Arc::new(Description::new(sdp.into(), tracks).unwrap())
    };
    let mut say = |generation, description| {
        world.request(OwnerRequest::Describe { generation: Generation(generation), description })
    };
    assert_eq!(say(1, said("a", "new")), ["3: described gen 1 new"]);
    assert!(say(2, said("a", "newer")).is_empty(), "of a source that does not hold the path");
    assert!(say(1, said("b", "newer")).is_empty(), "of other tracks");
    world.registry.handle(
        ToOwner {
            path: "live/a".into(),
            request: OwnerRequest::Subscribe { shard: ShardId(4), rules: Arc::default() },
        },
        Mono(0),
    );
    let told = world.registry.out.iter().find_map(|effect| match effect {
        Effect::Notify { notification: Notification::Subscribed { description, .. }, .. } => {
            Some(description)
        }
        _ => None,
    });
    assert_eq!(&*told.unwrap().sdp, "new");
}
