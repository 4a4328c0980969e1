//! A node that goes on without its base, around sources that it does not reach, and by orders that
//! other nodes bring.

use super::*;
use crate::dist::ids::Digest;
use crate::dist::keys::BaseKeys;
use crate::dist::relay::{Answer, RelayError};
use crate::dist::wire::agent::Server;
use crate::dist::wire::relay::{Envelope, RelayEntry};

fn named(command: u32, epoch: u64, names: &[&str]) -> NodeOrder {
    let source = |name: &&str| Source {
        node: NodeName::new(name).ok().filter(|name| name.as_str() != "base"),
        addr: format!("{name}:1"),
        capability: "c".to_owned(),
        rate: 1,
        is_last_resort: false,
    };
    let sources = names.iter().map(source).collect();
    NodeOrder::Sources {
        content: content(command),
        epoch: Epoch(epoch),
        sources,
        further: Vec::new(),
    }
}

fn servers(names: &[&str]) -> NodeOrder {
    let servers = (0..).zip(names).map(|(index, name)| Server {
        index,
        node: NodeName::new(name).unwrap(),
        addr: format!("{name}:1"),
    });
    let servers = servers.collect::<Vec<_>>().into();
    NodeOrder::Servers { job: key(1).job, list_version: 1, servers }
}

impl World {
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.agent.handle_time(self.now, &mut self.out);
    }

    /// Does all that can be done but connections, which it gives.
    fn connections(&mut self) -> Vec<(LinkId, Source)> {
        let mut links = Vec::new();
        while let Some(at) = self.out.iter().position(|a| !matches!(a, Action::Use { .. })) {
            let action = self.out.remove(at);
            match action {
                Action::Connect { link, source, .. } => links.push((link, source)),
                other => {
                    self.out.insert(0, other);
                    self.step();
                }
            }
        }
        links
    }

    fn refuse(&mut self, link: LinkId) {
        let event = LinkEvent::Unreachable;
        self.agent.handle_link(content(1), link, event, self.now, &mut self.out);
    }
}

fn names(links: &[(LinkId, Source)]) -> Vec<String> {
    let name = |(_, source): &(LinkId, Source)| {
        source.node.as_ref().map_or("base", NodeName::as_str).to_owned()
    };
    links.iter().map(name).collect()
}

#[test]
fn plan_that_is_journaled_is_fetched_by_after_a_restart_without_a_word_of_the_base() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(named(1, 7, &["a", "b", "base"]));
    assert_eq!(names(&world.connections()), ["a"]);
    world.pass(Duration::from_secs(2));
    world.connections();
    world.agent = Agent::new(me(), world.journal.clone());
    (world.records, world.out) = (0, Vec::new());
    world.agent.start(world.now, &mut world.out);
    world.pass(Duration::from_millis(50));
    assert_eq!(names(&world.connections()), ["a"]);
    // A plan of the base counts, whatever its number.
    world.order(named(1, 1, &["b", "base"]));
    assert_eq!(world.agent.plans[&content(1)].0, Epoch(1));
    // Its snapshot makes the same agent.
    let again = Agent::new(me(), world.agent.snapshot());
    assert_eq!(again.plans[&content(1)].1, world.agent.plans[&content(1)].1);
}

#[test]
fn content_that_is_there_within_a_second_leaves_no_plan_in_the_journal() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    world.run();
    world.pass(Duration::from_secs(2));
    world.run();
    assert!(!world.journal.iter().any(|record| matches!(record, Record::Plan { .. })));
}

#[test]
fn node_asks_the_others_of_the_job_when_its_sources_are_used_up() {
    let mut world = World::new();
    world.order(servers(&["x", "me", "y", "z"]));
    world.order(put(1, "a.mp4"));
    world.order(named(1, 7, &["x", "base"]));
    world.agent.handle_online(false);
    for expected in ["x", "base"] {
        let links = world.connections();
        assert_eq!(names(&links), [expected]);
        world.refuse(links[0].0);
    }
    let asked: Vec<_> = world.out.extract_if(.., |a| matches!(a, Action::Ask { .. })).collect();
    let states = [("y", Some(1 << 16)), ("z", Some(2 << 16))];
    assert_eq!(asked.len(), states.len(), "x is in the plan: {asked:?}");
    for (action, (name, have)) in asked.into_iter().zip(states) {
        let Action::Ask { content, ask, source } = action else { continue };
        assert_eq!((source.node.unwrap().as_str(), source.capability.as_str()), (name, "c"));
        let state = have.map(|have| ContentState {
            have,
            end: None,
            via: Vec::new(),
            rate: 0,
            is_held: false,
        });
        world.agent.handle_state(content, ask, state.as_ref(), world.now, &mut world.out);
    }
    world.pass(Duration::from_millis(50));
    let links = world.connections();
    assert_eq!(names(&links), ["z"], "who has most");
    world.refuse(links[0].0);
    assert_eq!(names(&world.connections()), ["y"]);
}

#[test]
fn source_that_is_not_reached_is_told_once_and_is_last_for_all_contents() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(named(1, 7, &["a", "base"]));
    let links = world.connections();
    world.refuse(links[0].0);
    assert_eq!(names(&world.connections()), ["base"]);
    world.order(put(2, "b.mp4"));
    world.order(named(2, 8, &["a", "base"]));
    assert_eq!(names(&world.connections()), ["base"]);
    let told = world.take();
    assert_eq!(told.iter().filter(|said| *said == "unreachable a").count(), 1);
    // Half a minute later it is as any other.
    world.pass(edges::BARRED);
    world.order(put(3, "c.mp4"));
    world.order(named(3, 9, &["a", "base"]));
    assert_eq!(names(&world.connections()), ["a"]);
}

fn base_keys() -> BaseKeys {
    BaseKeys::from_bytes(&[5; 32])
}

/// Orders for all nodes and for this one, signed by the base.
fn body(number: u64, orders: &[NodeOrder], own: Vec<NodeOrder>) -> RelayBody {
    let common = serde_json::to_string(orders).unwrap();
    let digest = Digest(*blake3::hash(common.as_bytes()).as_bytes());
    let envelope = Envelope {
        node: me(),
        addr: "me:1".to_owned(),
        base: BaseEpoch(3),
        number,
        at_ns: 10,
        common: digest,
        orders: own,
    };
    let envelope = base_keys().seal_envelope(&envelope);
    let entries = vec![RelayEntry { index: 0, envelope }];
    RelayBody { number, job: key(1).job, list_version: 1, common, entries }
}

fn hand(world: &mut World, body: &RelayBody) -> Result<Answer, RelayError> {
    world.agent.handle_relay(body.clone(), world.now, &mut world.out)
}

/// An agent that has heard from its base, and takes what nodes bring.
fn relaying() -> World {
    let mut world = World::new();
    world.agent.set_base_key(base_keys().verify_key());
    world.agent.handle_base_time(5, world.now, &mut world.out);
    world
}

#[test]
fn relayed_command_is_left_to_the_base_while_the_one_in_front_of_it_is_not_known() {
    let mut world = relaying();
    assert_eq!(hand(&mut world, &body(7, &[put(1, "a.mp4")], vec![])), Ok(Answer::Taken));
    world.run();
    assert_eq!(world.take(), ["1 received", "relayed 7"]);
    assert_eq!(hand(&mut world, &body(8, &[put(3, "c.mp4")], vec![])), Ok(Answer::Taken));
    world.run();
    assert_eq!(world.take(), [""; 0], "neither received nor taken");
    world.order(put(2, "b.mp4"));
    world.order(put(3, "c.mp4"));
    world.run();
    assert_eq!(world.take(), ["2 received", "3 received"]);
    assert_eq!(hand(&mut world, &body(9, &[put(4, "d.mp4")], vec![])), Ok(Answer::Taken));
    world.run();
    assert_eq!(world.take(), ["4 received", "relayed 9"]);
}

#[test]
fn relayed_orders_count_as_those_of_the_base_and_are_told_when_they_are_journaled() {
    let mut world = relaying();
    let first = body(7, &[put(1, "a.mp4")], vec![sources(1)]);
    assert_eq!(hand(&mut world, &first), Ok(Answer::Taken));
    assert_eq!(world.take(), [""; 0], "nothing is journaled");
    world.run();
    let said = world.take();
    assert_eq!(said[..2], ["1 received", "relayed 7"]);
    assert_eq!(said.last().unwrap(), "1 completed");
    assert_eq!(hand(&mut world, &first), Ok(Answer::Duplicate));
    world.run();
    assert_eq!((world.take(), &world.applied[..]), (vec![], &[(1, false)][..]));
    // Orders without a record are told at once.
    assert_eq!(hand(&mut world, &body(8, &[], vec![sources(1)])), Ok(Answer::Taken));
    assert_eq!(world.take(), ["relayed 8"]);
    // What was forgotten since does not come back, and a base of before is not heard.
    world.order(NodeOrder::Forget { job: key(1).job });
    world.run();
    assert_eq!(hand(&mut world, &body(9, &[put(2, "b.mp4")], vec![])), Ok(Answer::Taken));
    world.run();
    assert_eq!(world.take(), ["relayed 9"]);
    assert!(world.agent.handle_base(BaseEpoch(4)));
    assert_eq!(hand(&mut world, &body(10, &[put(3, "c.mp4")], vec![])), Ok(Answer::Taken));
    world.run();
    assert_eq!((world.take(), world.applied.len()), (vec![], 1));
}
