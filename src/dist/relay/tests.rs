//! Handing on among nodes that all work, and among some that do not.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::dist::ids::JobId;
use crate::dist::keys::BaseKeys;

const NUMBER: u64 = 7;
const BASE_NS: i64 = 1_767_225_600_000_000_000;
const JOB: JobId = JobId(Uuid::nil());

fn keys() -> BaseKeys {
    BaseKeys::from_bytes(&[5; 32])
}

fn name(n: usize) -> NodeName {
    NodeName::new(&format!("n{n}")).unwrap()
}

fn addr(n: usize) -> String {
    format!("10.0.0.1:{n}")
}

fn common() -> String {
    serde_json::to_string(&[NodeOrder::Idle]).unwrap()
}

fn envelope(n: usize) -> Envelope {
    Envelope {
        node: name(n),
        addr: addr(n),
        base: BaseEpoch(3),
        number: NUMBER,
        at_ns: BASE_NS,
        common: Digest(*blake3::hash(common().as_bytes()).as_bytes()),
        orders: vec![NodeOrder::Forget { job: JOB }],
    }
}

fn entry(n: usize) -> RelayEntry {
    let index = u32::try_from(n).unwrap();
    RelayEntry { index, envelope: keys().seal_envelope(&envelope(n)) }
}

fn body(entries: Vec<RelayEntry>) -> RelayBody {
    RelayBody { number: NUMBER, job: JOB, list_version: 1, common: common(), entries }
}

fn node(n: usize) -> Relay {
    let mut relay = Relay::new(name(n));
    relay.set_key(keys().verify_key());
    relay.set_clock(BASE_NS - 1, Mono(1));
    relay
}

/// Nodes that hand on to each other; some are away.
struct World {
    nodes: Vec<Relay>,
    away: BTreeSet<usize>,
    /// Times that each has taken the orders.
    taken: BTreeMap<usize, u32>,
    /// Messages to each that were answered with `Taken` or not at all.
    approached: BTreeMap<usize, u32>,
    messages: usize,
    rounds: usize,
}

impl World {
    fn new(count: usize, away: BTreeSet<usize>) -> Self {
        Self {
            nodes: (0..count).map(node).collect(),
            away,
            taken: BTreeMap::new(),
            approached: BTreeMap::new(),
            messages: 0,
            rounds: 0,
        }
    }

    /// The base hands a list on; each source sends one message a round.
    fn run(&mut self) {
        let all = (0..self.nodes.len()).map(entry).collect();
        let mut queues: BTreeMap<usize, VecDeque<(Option<HandId>, RelayBody)>> = BTreeMap::new();
        let base = self.nodes.len();
        let own = parts(all).into_iter().map(|part| (None, body(part)));
        queues.insert(base, own.collect());
        while queues.values().any(|queue| !queue.is_empty()) {
            self.rounds += 1;
            let mut sent = Vec::new();
            for (source, queue) in &mut queues {
                sent.extend(queue.pop_front().map(|(hand, body)| (*source, hand, body)));
            }
            for (source, hand, body) in sent {
                let to = usize::try_from(body.entries[0].index).unwrap();
                self.messages += 1;
                *self.approached.entry(to).or_default() += 1;
                let mut out = Vec::new();
                let is_taken = !self.away.contains(&to);
                if is_taken {
                    let from = if source == base { From::Base } else { From::Peer };
                    let answer = self.nodes[to].handle(body, from, Mono(1), &mut out);
                    assert_eq!(answer, Ok(Answer::Taken));
                    self.follow(to, out, &mut queues);
                }
                if let Some(hand) = hand {
                    let mut out = Vec::new();
                    self.nodes[source].handle_handed(hand, is_taken, Mono(1), &mut out);
                    self.follow(source, out, &mut queues);
                }
            }
        }
    }

    fn follow(
        &mut self,
        source: usize,
        out: Vec<RelayAction>,
        queues: &mut BTreeMap<usize, VecDeque<(Option<HandId>, RelayBody)>>,
    ) {
        for action in out {
            match action {
                RelayAction::Take { base, number, orders } => {
                    assert_eq!((base, number), (BaseEpoch(3), NUMBER));
                    let all = [NodeOrder::Idle, NodeOrder::Forget { job: JOB }];
                    assert_eq!(orders, all);
                    *self.taken.entry(source).or_default() += 1;
                }
                RelayAction::Hand { hand, node, addr: at, body } => {
                    let to = usize::try_from(body.entries[0].index).unwrap();
                    assert_eq!((node, at), (name(to), addr(to)));
                    queues.entry(source).or_default().push_back((Some(hand), body));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn parts_are_disjoint_and_all_of_the_list(count in 0_usize..300) {
        let parts = parts((0..count).collect());
        let mut all: Vec<usize> = parts.iter().flatten().copied().collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
        prop_assert!(parts.iter().all(|part| part.is_sorted()));
        prop_assert!(parts.len() <= rounds(count) as usize);
    }

    #[test]
    fn each_is_approached_once_in_as_few_rounds_as_there_can_be(count in 1_usize..200) {
        let mut world = World::new(count, BTreeSet::new());
        world.run();
        prop_assert_eq!(world.messages, count);
        prop_assert!(world.approached.values().all(|times| *times == 1));
        prop_assert_eq!(world.taken.len(), count);
        prop_assert_eq!(world.rounds, (count + 1).next_power_of_two().ilog2() as usize);
        prop_assert_eq!(world.rounds, rounds(count) as usize);
    }

    #[test]
    fn nodes_behind_one_that_is_away_get_their_orders_from_its_source(
        count in 1_usize..80,
        away in prop::collection::btree_set(0_usize..80, 0..30),
    ) {
        let mut world = World::new(count, away.clone());
        world.run();
        prop_assert!(world.approached.values().all(|times| *times == 1), "never twice");
        prop_assert!(world.taken.values().all(|times| *times == 1));
        // What the base itself has handed to a node that is away is the base's to take back.
        let lost: BTreeSet<usize> = parts((0..count).collect())
            .into_iter()
            .filter(|part| away.contains(&part[0]))
            .flatten()
            .collect();
        for n in 0..count {
            let expected = !away.contains(&n) && !lost.contains(&n);
            prop_assert_eq!(world.taken.contains_key(&n), expected, "n{}", n);
        }
    }
}

#[test]
fn orders_that_come_twice_count_once_and_are_not_handed_on_again() {
    let mut relay = node(0);
    let (mut out, entries) = (Vec::new(), vec![entry(0), entry(1), entry(2)]);
    let answer = relay.handle(body(entries.clone()), From::Peer, Mono(1), &mut out);
    assert_eq!((answer, out.len()), (Ok(Answer::Taken), 2));
    out.clear();
    let answer = relay.handle(body(entries), From::Base, Mono(1), &mut out);
    assert_eq!((answer, out.len()), (Ok(Answer::Duplicate), 0));
    let counts = relay.counts();
    assert_eq!((counts.taken, counts.duplicates, counts.sent), (1, 1, 1));
}

#[test]
fn part_without_an_answer_is_taken_back_after_two_seconds_and_goes_to_the_next() {
    let mut relay = node(0);
    let mut out = Vec::new();
    let entries = (0..4).map(entry).collect();
    relay.handle(body(entries), From::Peer, Mono(1), &mut out).unwrap();
    let handed = |out: &[RelayAction]| -> Vec<Vec<u32>> {
        let bodies = out.iter().filter_map(|action| match action {
            RelayAction::Hand { body, .. } => Some(body),
            RelayAction::Take { .. } => None,
        });
        bodies.map(|body| body.entries.iter().map(|entry| entry.index).collect()).collect()
    };
    assert_eq!(handed(&out), [vec![1, 2], vec![3]]);
    relay.handle_handed(HandId(2), true, Mono(1), &mut out);
    out.clear();
    relay.handle_time(Mono(1) + Duration::from_millis(1_999), &mut out);
    assert_eq!(out, []);
    relay.handle_time(Mono(1) + TAKEN_WITHIN, &mut out);
    assert_eq!(handed(&out), [vec![2]]);
    // A late answer has no effect.
    relay.handle_handed(HandId(1), false, Mono(1) + TAKEN_WITHIN, &mut out);
    assert_eq!((handed(&out).len(), relay.counts().taken_back), (1, 1));
}

#[test]
fn orders_that_the_base_has_not_made_for_this_node_are_refused() {
    let refused = |body: RelayBody| {
        let (mut relay, mut out) = (node(0), Vec::new());
        let answer = relay.handle(body, From::Peer, Mono(1), &mut out);
        assert_eq!((out, relay.counts().refused), (vec![], 1));
        answer.unwrap_err()
    };
    assert_eq!(refused(body(vec![])), RelayError::Strange);
    assert_eq!(refused(body(vec![entry(1), entry(0)])), RelayError::Strange, "of another node");
    assert_eq!(refused(RelayBody { number: 8, ..body(vec![entry(0)]) }), RelayError::Strange);
    let other = serde_json::to_string(&[NodeOrder::HelloAgain]).unwrap();
    let forged = RelayBody { common: other, ..body(vec![entry(0)]) };
    assert_eq!(refused(forged), RelayError::Strange, "orders for all are under the signature, too");
    let stranger = BaseKeys::from_bytes(&[6; 32]).seal_envelope(&envelope(0));
    let forged = body(vec![RelayEntry { index: 0, envelope: stranger }]);
    assert_eq!(refused(forged), RelayError::Strange);
    let many = (0..=ENTRIES_MAX).map(|_| entry(0)).collect();
    assert_eq!(refused(body(many)), RelayError::Strange);
}

#[test]
fn node_connects_to_nobody_whom_the_base_has_not_named() {
    let (mut relay, mut out) = (node(0), Vec::new());
    let stranger = BaseKeys::from_bytes(&[6; 32]).seal_envelope(&envelope(1));
    let forged = RelayEntry { index: 1, envelope: stranger };
    // Neither does one place in the list get two messages.
    let entries = vec![entry(0), forged, entry(2), entry(2)];
    relay.handle(body(entries), From::Peer, Mono(1), &mut out).unwrap();
    let to: Vec<_> = out
        .iter()
        .filter_map(|action| match action {
            RelayAction::Hand { node, .. } => Some(node.clone()),
            RelayAction::Take { .. } => None,
        })
        .collect();
    assert!(to.is_empty() || to == [name(2)], "{to:?}");
}

#[test]
fn old_orders_count_only_over_the_stream_of_the_base() {
    let take = |relay: &mut Relay, from, now| {
        relay.handle(body(vec![entry(0)]), from, now, &mut Vec::new())
    };
    let minute = Mono(1) + Duration::from_secs(61);
    assert_eq!(take(&mut node(0), From::Peer, minute), Err(RelayError::Old));
    assert_eq!(take(&mut node(0), From::Base, minute), Ok(Answer::Taken));
    // Made before this start of the node.
    let mut relay = Relay::new(name(0));
    relay.set_key(keys().verify_key());
    assert_eq!(take(&mut relay, From::Peer, Mono(1)), Err(RelayError::NoClock));
    relay.set_clock(BASE_NS + 1, Mono(1));
    assert_eq!(take(&mut relay, From::Peer, Mono(1)), Err(RelayError::Old));
    assert_eq!(take(&mut relay, From::Base, Mono(1)), Ok(Answer::Taken));
}
