//! An agent in a world where everything works, unless a test says otherwise.

mod alone;

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::dist::ids::{CommandId, JobId};
use crate::dist::terms::Terms;
use crate::dist::wire::agent::OpenCommand;
use crate::dist::wire::job::{Attributes, DeliveryState};

const SIZE: u64 = 3 << 16;

fn me() -> NodeName {
    NodeName::new("me").unwrap()
}

fn key(command: u32) -> CommandKey {
    CommandKey { job: JobId(Uuid::from_u128(1)), command: CommandId(command) }
}

fn content(command: u32) -> ContentId {
    ContentId(Uuid::from_u128(u128::from(command)))
}

fn put(command: u32, path: &str) -> NodeOrder {
    let op = Op::Put { path: path.to_owned(), attrs: Attributes::default() };
    order(command, op)
}

fn order(command: u32, op: Op) -> NodeOrder {
    let content = matches!(op, Op::Put { .. }).then(|| content(command));
    let size = content.map(|_| SIZE);
    NodeOrder::Command {
        key: key(command),
        sequence: Order::Prefix,
        priority: 5,
        op,
        content,
        size,
    }
}

fn sources(command: u32) -> NodeOrder {
    let source = |name: &str| Source {
        node: NodeName::new(name).ok().filter(|name| name.as_str() != "base"),
        addr: "x:1".to_owned(),
        capability: "c".to_owned(),
        rate: 1,
        is_last_resort: false,
    };
    let sources = vec![source("a"), source("base")];
    NodeOrder::Sources { content: content(command), epoch: Epoch(1), sources, further: Vec::new() }
}

fn receipt(key: CommandKey) -> SignedReceipt {
    SignedReceipt { receipt: format!("{}", key.command), signature: String::new() }
}

/// What is around an agent: a journal, a store, sources and a media folder.
struct World {
    agent: Agent,
    now: Mono,
    journal: Vec<Record>,
    /// Records of this run.
    records: u64,
    /// Verified bytes by content.
    store: BTreeMap<ContentId, u64>,
    /// Changes of the media folder, in order; whether each may have been there before.
    applied: Vec<(u32, bool)>,
    /// Sources of the content that was applied last.
    via: BTreeMap<String, u64>,
    reports: Vec<Report>,
    out: Vec<Action>,
}

impl World {
    fn new() -> Self {
        let agent = Agent::new(me(), Vec::new());
        let mut world = Self {
            agent,
            now: Mono(1),
            journal: Vec::new(),
            records: 0,
            store: BTreeMap::new(),
            applied: Vec::new(),
            via: BTreeMap::new(),
            reports: Vec::new(),
            out: Vec::new(),
        };
        world.agent.handle_online(true);
        world
    }

    /// The process is killed and started again.
    fn restart(&mut self) {
        self.agent = Agent::new(me(), self.journal.clone());
        (self.records, self.out) = (0, Vec::new());
        self.agent.handle_online(true);
        self.agent.start(self.now, &mut self.out);
    }

    fn order(&mut self, order: NodeOrder) {
        self.agent.handle_order(order, self.now, &mut self.out);
    }

    /// Does the next action as a world would where all goes well; false when there is none.
    fn step(&mut self) -> bool {
        if self.out.is_empty() {
            return false;
        }
        let action = self.out.remove(0);
        let (now, out) = (self.now, &mut self.out);
        match action {
            Action::Journal(record) => {
                self.journal.push(record);
                self.records += 1;
                self.agent.handle_journaled(self.records, out);
            }
            Action::Reserve { content, .. } => {
                let have = *self.store.entry(content).or_default();
                let reserved = Reserved { have, is_whole: have == SIZE, here: Vec::new() };
                self.agent.handle_reserved(content, Ok(reserved), now, out);
            }
            Action::Connect { content, link, .. } => {
                self.agent.handle_link(content, link, LinkEvent::FirstByte, now, out);
            }
            Action::Use { content, link } => {
                let have = self.store.get_mut(&content).unwrap();
                let event = if *have < SIZE {
                    *have += 1 << 16;
                    LinkEvent::Grew { have: *have, bytes: 1 << 16, at: *have }
                } else {
                    LinkEvent::Whole
                };
                self.out.push(Action::Use { content, link });
                if event == LinkEvent::Whole {
                    self.out.pop();
                }
                self.agent.handle_link(content, link, event, now, &mut self.out);
            }
            Action::Apply(apply) => {
                self.applied.push((apply.key.command.0, apply.is_again));
                self.via = apply.via;
                self.agent.handle_applied(apply.key, Ok(receipt(apply.key)), now, out);
            }
            Action::Discard { content } => {
                self.store.remove(&content);
            }
            Action::Collect { known } => self.store.retain(|content, _| known.contains(content)),
            Action::Limit { .. }
            | Action::Close { .. }
            | Action::Ask { .. }
            | Action::Hand { .. }
            | Action::AskNode { .. }
            | Action::Live { .. }
            | Action::Probe { .. }
            | Action::HelloAgain { .. } => {}
        }
        true
    }

    fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// The base takes what is to be said; what was said, in short.
    fn take(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..1_000 {
            let (first, reports) = self.agent.next_batch(self.now);
            if reports.is_empty() {
                break;
            }
            self.agent.handle_taken(first + reports.len() as u64 - 1, &mut self.out);
            said.extend(reports.iter().map(short));
            self.reports.extend(reports);
        }
        said
    }
}

fn short(report: &Report) -> String {
    match report {
        Report::Received { key } => format!("{} received", key.command),
        Report::Fetching { key, offset, .. } => format!("{} fetching {offset}", key.command),
        Report::Further { key, sources, .. } => {
            format!("{} further {}", key.command, sources.len())
        }
        Report::Progress { key, offset, .. } => format!("{} progress {offset}", key.command),
        Report::Applying { key } => format!("{} applying", key.command),
        Report::Completed { receipt } => format!("{} completed", receipt.receipt),
        Report::Failed { key, reason, is_final, .. } => {
            format!("{} failed {reason:?} {is_final}", key.command)
        }
        Report::Cancelled { key } => format!("{} cancelled", key.command),
        Report::Answer { query, open, .. } => format!("answer {query}: {open} open"),
        Report::Probed { number, fault } => format!("probe {number}: {fault:?}"),
        Report::BadUnit { unit, .. } => format!("bad {unit}"),
        Report::Unreachable { source } => format!("unreachable {source}"),
        Report::Relayed { number } => format!("relayed {number}"),
        Report::Neighbour { node, query, answer } => {
            format!("{query}: {node} answers {}", answer.is_some())
        }
    }
}

#[test]
fn plan_of_a_new_base_counts_whatever_its_number_and_an_old_base_is_not_heard() {
    let mut world = World::new();
    assert!(world.agent.handle_base(BaseEpoch(5)));
    world.order(put(1, "a"));
    let plan = |epoch: u64, command: u32| match sources(command) {
        NodeOrder::Sources { content, sources, further, .. } => {
            NodeOrder::Sources { content, epoch: Epoch(epoch), sources, further }
        }
        other => other,
    };
    world.order(plan(9, 1));
    world.order(plan(8, 1));
    let known = |world: &World| world.agent.plans.get(&content(1)).map(|(epoch, _)| epoch.0);
    assert_eq!(known(&world), Some(9), "a plan of before from the same base");
    assert!(world.agent.handle_base(BaseEpoch(6)));
    world.order(plan(2, 1));
    assert_eq!(known(&world), Some(2));
    assert!(!world.agent.handle_base(BaseEpoch(5)));
    assert!(world.agent.handle_base(BaseEpoch(6)));
    assert!(world.agent.handle_base(BaseEpoch(0)), "a base that does not say");
}

#[test]
fn put_is_fetched_applied_and_reported_in_order() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.run();
    assert_eq!(world.take(), ["1 received"], "nothing to fetch from yet");
    world.order(sources(1));
    world.run();
    assert_eq!(world.take(), ["1 fetching 0", "1 applying", "1 completed"]);
    assert_eq!(world.applied, [(1, false)]);
    assert!(!world.agent.is_fetching());
}

#[test]
fn receipt_of_a_node_that_was_killed_names_the_sources_of_before() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    while world.store.get(&content(1)) != Some(&(2 << 16)) {
        assert!(world.step());
    }
    world.now = world.now + Duration::from_secs(10);
    world.agent.handle_time(world.now, &mut world.out);
    let is_use = |action: &Action| matches!(action, Action::Use { .. });
    while !world.out.iter().all(is_use) {
        let at = world.out.iter().position(|action| !is_use(action)).unwrap();
        let action = world.out.remove(at);
        world.out.insert(0, action);
        world.step();
    }
    world.restart();
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    world.run();
    assert_eq!(world.via, BTreeMap::from([("a".to_owned(), SIZE)]));
}

#[test]
fn nothing_is_said_before_the_journal_has_it() {
    let mut world = World::new();
    world.order(order(1, Op::Query));
    let journal = world.out.remove(0);
    assert!(matches!(journal, Action::Journal(Record::Command { .. })));
    assert_eq!(world.take(), [""; 0]);
    world.agent.handle_journaled(1, &mut world.out);
    assert_eq!(world.take(), ["1 received"]);
}

#[test]
fn order_that_comes_again_has_no_second_effect_and_its_receipt_is_said_again() {
    let mut world = World::new();
    for _ in 0..2 {
        world.order(put(1, "a.mp4"));
        world.order(sources(1));
    }
    world.run();
    assert_eq!(world.take().last().unwrap(), "1 completed");
    for _ in 0..2 {
        world.order(put(1, "a.mp4"));
        world.order(sources(1));
        world.run();
    }
    assert_eq!(world.take(), ["1 completed"]);
    world.restart();
    world.order(put(1, "a.mp4"));
    world.run();
    assert_eq!(world.take(), ["1 completed"]);
    assert_eq!(world.applied, [(1, false)]);
}

#[test]
fn contents_are_fetched_ahead_and_applied_in_the_order_of_their_paths() {
    let mut world = World::new();
    world.order(put(1, "a/x.mp4"));
    world.order(order(2, Op::Move { path: "a".to_owned(), to: "b".to_owned() }));
    world.order(put(3, "a/x.mp4"));
    world.order(put(4, "c.mp4"));
    world.order(sources(3));
    world.order(sources(4));
    world.run();
    assert_eq!(world.applied, [(4, false)]);
    assert_eq!(world.store[&content(3)], SIZE, "there, and waiting");
    world.order(sources(1));
    world.run();
    assert_eq!(world.applied, [(4, false), (1, false), (2, false), (3, false)]);
}

#[test]
fn full_disk_fails_one_command_at_once_and_an_order_again_is_another_attempt() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    world.order(put(2, "b.mp4"));
    world.order(sources(2));
    let full = |world: &mut World| {
        let is_first = |action: &Action| matches!(action, Action::Reserve { content: c, .. } if *c == content(1));
        let at = world.out.iter().position(is_first).unwrap();
        world.out.remove(at);
        let full = Failure { reason: Reason::NoSpace, detail: "full".to_owned() };
        world.agent.handle_reserved(content(1), Err(full), world.now, &mut world.out);
    };
    full(&mut world);
    // Once it is cleared of what no command needs.
    assert!(world.out.contains(&Action::Collect { known: vec![content(1), content(2)] }));
    world.agent.handle_time(world.now, &mut world.out);
    full(&mut world);
    assert!(world.out.contains(&Action::Discard { content: content(1) }));
    world.run();
    let said = world.take();
    assert!(said.contains(&"1 failed NoSpace false".to_owned()), "{said:?}");
    assert!(said.contains(&"1 failed NoSpace true".to_owned()), "{said:?}");
    assert!(said.contains(&"2 completed".to_owned()), "{said:?}");
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    world.run();
    let said = world.take();
    assert_eq!(said, ["1 received", "1 fetching 0", "1 applying", "1 completed"]);
}

#[test]
fn question_of_the_base_is_answered_with_what_is_open_and_why_it_waits() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(put(2, "b.mp4"));
    world.order(sources(2));
    world.run();
    let _said = world.take();
    world.order(NodeOrder::Query { query: 7 });
    let (_, reports) = world.agent.next_batch(world.now);
    let state = DeliveryState::Received;
    let commands = vec![OpenCommand { key: key(1), state, offset: 0, reason: None }];
    assert_eq!(reports, [Report::Answer { query: 7, open: 1, commands }]);
}

#[test]
fn bytes_that_are_to_be_renewed_go_and_come_again_and_the_same_order_again_does_nothing() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    // Two of three units.
    while world.store.get(&content(1)).is_none_or(|have| *have < SIZE - 65_536) {
        assert!(world.step());
    }
    world.order(NodeOrder::Renew { key: key(1), number: 5 });
    assert!(world.out.contains(&Action::Discard { content: content(1) }));
    world.out.retain(|action| !matches!(action, Action::Use { .. }));
    world.run();
    assert!(!world.store.contains_key(&content(1)));
    world.order(NodeOrder::Renew { key: key(1), number: 5 });
    assert!(world.out.is_empty());
    world.agent.handle_time(world.now, &mut world.out);
    world.run();
    let said = world.take();
    assert_eq!(said.last().map(String::as_str), Some("1 completed"), "{said:?}");
    assert!(said.contains(&"1 failed Io false".to_owned()), "{said:?}");
    assert_eq!(world.via, BTreeMap::from([("a".to_owned(), SIZE)]));
}

#[test]
fn agent_that_begins_anew_says_hello_as_a_new_start_and_goes_on_at_its_bytes() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    while world.store.get(&content(1)).is_none_or(|have| *have < SIZE - 65_536) {
        assert!(world.step());
    }
    world.order(NodeOrder::Restart { number: 5 });
    let hello = Action::HelloAgain { is_new_start: true };
    assert!(world.out.contains(&hello), "{:?}", world.out);
    world.out.retain(|action| !matches!(action, Action::Use { .. } | Action::HelloAgain { .. }));
    world.order(NodeOrder::Restart { number: 5 });
    assert!(!world.out.contains(&hello), "{:?}", world.out);
    world.agent.handle_time(world.now, &mut world.out);
    world.run();
    let said = world.take();
    assert_eq!(said.last().map(String::as_str), Some("1 completed"), "{said:?}");
    assert_eq!(world.via, BTreeMap::from([("a".to_owned(), SIZE)]));
}

#[test]
fn failures_are_tried_again_later_and_later_and_end_when_nothing_moves() {
    let mut world = World::new();
    world.order(order(1, Op::Delete { path: "a".to_owned() }));
    let (mut pauses, mut said) = (Vec::new(), Vec::new());
    let mut failed_at = world.now;
    for _ in 0..100_000 {
        said.extend(world.take());
        if let Some(at) = world.out.iter().position(|a| matches!(a, Action::Apply(_))) {
            world.out.remove(at);
            pauses.push(world.now.since(failed_at).as_secs());
            failed_at = world.now;
            let failure = Failure { reason: Reason::Io, detail: "EIO".to_owned() };
            world.agent.handle_applied(key(1), Err(failure), world.now, &mut world.out);
        }
        world.run();
        world.now = world.now + Duration::from_millis(100);
        world.agent.handle_time(world.now, &mut world.out);
    }
    assert_eq!(pauses.len(), 21);
    let sums = pauses.iter().sum::<u64>();
    assert!((700..1_300).contains(&sums), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 75), "{pauses:?}");
    assert_eq!(said.last().unwrap(), "1 failed Attempts true");
    assert_eq!(said.iter().filter(|said| *said == "1 failed Io false").count(), 20);
}

#[test]
fn without_the_base_missing_sources_do_not_count() {
    let mut world = World::new();
    world.agent.handle_online(false);
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    let mut connects = 0;
    for _ in 0..100_000 {
        while let Some(action) = world.out.first().cloned() {
            if let Action::Connect { content, link, .. } = action {
                connects += 1;
                world.out.remove(0);
                let out = &mut world.out;
                world.agent.handle_link(content, link, LinkEvent::Lost, world.now, out);
            } else {
                world.step();
            }
        }
        world.now = world.now + Duration::from_millis(100);
        world.agent.handle_time(world.now, &mut world.out);
    }
    let said = world.take();
    assert!(connects > 100, "{connects}");
    assert!(!said.iter().any(|said| said.ends_with("true")));
    // The base is told how it stands, not all of how it came to that.
    assert!((2..20).contains(&said.len()), "{said:?}");
}

#[test]
fn cancelled_put_is_stopped_and_discarded_and_may_be_ordered_again() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    while !matches!(world.out.first(), Some(Action::Use { .. })) {
        assert!(world.step());
    }
    world.step();
    world.order(NodeOrder::Cancel { key: key(1) });
    assert!(world.out.iter().any(|action| matches!(action, Action::Close { .. })));
    assert!(world.out.contains(&Action::Discard { content: content(1) }));
    world.out.retain(|action| !matches!(action, Action::Use { .. }));
    world.run();
    assert_eq!(world.take().last().unwrap(), "1 cancelled");
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    world.order(NodeOrder::Cancel { key: key(2) });
    world.run();
    let said = world.take();
    let again = ["2 cancelled", "1 received", "1 fetching 0", "1 applying", "1 completed"];
    assert!(again.iter().all(|report| said.contains(&(*report).to_owned())), "{said:?}");
    assert_eq!((said.len(), &world.applied[..]), (5, &[(1, false)][..]));
}

#[test]
fn job_that_is_forgotten_leaves_nothing() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    world.order(put(2, "a.mp4"));
    world.run();
    world.order(NodeOrder::Forget { job: key(1).job });
    world.run();
    assert!(world.store.is_empty());
    assert_eq!(world.agent.snapshot(), []);
    world.restart();
    assert_eq!(world.agent.snapshot(), []);
    assert_eq!(world.agent.contents().count(), 0);
}

#[test]
fn path_out_of_the_media_folder_fails_at_once() {
    let mut world = World::new();
    world.order(put(1, "../a.mp4"));
    world.order(order(2, Op::Delete { path: ".headend".to_owned() }));
    world.run();
    let said = world.take();
    assert_eq!(
        said.iter().filter(|said| said.ends_with("PathConflict true")).count(),
        2,
        "{said:?}"
    );
    assert_eq!(world.applied, []);
}

#[test]
fn base_that_has_lost_the_reports_is_told_them_under_new_numbers() {
    let mut world = World::new();
    world.order(order(1, Op::Query));
    world.run();
    let (first, reports) = world.agent.next_batch(world.now);
    assert_eq!((first, reports.len()), (1, 2));
    world.order(NodeOrder::HelloAgain);
    assert_eq!(world.out, [Action::HelloAgain { is_new_start: true }]);
    assert_eq!(world.agent.next_batch(world.now), (1, reports));
}

#[test]
fn snapshot_makes_the_same_agent_again() {
    let mut world = World::new();
    world.order(put(1, "a.mp4"));
    world.order(sources(1));
    world.order(put(2, "b.mp4"));
    world.order(order(3, Op::Query));
    world.run();
    let snapshot = world.agent.snapshot();
    assert_eq!(Agent::new(me(), snapshot.clone()).snapshot(), snapshot);
}

proptest! {
    #[test]
    fn process_that_is_killed_anywhere_completes_everything_once(
        ops in prop::collection::vec((0_u8..4, 0_u8..3), 1..8),
        kills in prop::collection::vec(0_usize..60, 0..5),
    ) {
        let orders: Vec<(NodeOrder, Option<NodeOrder>)> = (1_u32..).zip(&ops).map(|(number, (kind, path))| {
            let path = format!("p{path}");
            match kind {
                0 | 1 => (put(number, &path), Some(sources(number))),
                2 => (order(number, Op::Move { path, to: "q".to_owned() }), None),
                _ => (order(number, Op::Mkdir { path, attrs: Attributes::default() }), None),
            }
        }).collect();
        let mut world = World::new();
        let mut kills = kills.into_iter();
        loop {
            // As the base says open orders again after each hello.
            for (order, sources) in &orders {
                world.order(order.clone());
                sources.iter().for_each(|sources| world.order(sources.clone()));
            }
            let Some(steps) = kills.next() else { break };
            for _ in 0..steps {
                world.step();
            }
            world.restart();
        }
        world.run();
        world.take();
        for command in 1..=u32::try_from(ops.len()).unwrap() {
            // At least once; what cannot be done twice is told that it may be done already.
            let applied: Vec<bool> =
                world.applied.iter().filter(|(c, _)| *c == command).map(|(_, again)| *again).collect();
            prop_assert!(!applied.is_empty());
            let is_move = ops[usize::try_from(command).unwrap() - 1].0 == 2;
            prop_assert!(!is_move || applied.iter().skip(1).all(|again| *again), "{applied:?}");
            let completed = format!("{command} completed");
            prop_assert!(world.reports.iter().any(|report| short(report) == completed));
        }
        prop_assert!(!world.reports.iter().any(|report| short(report).contains("failed")));
    }
}

fn terms(epoch: u64, is_paused: bool) -> NodeOrder {
    let terms = Terms { is_paused, ..Terms::default() };
    NodeOrder::Terms { job: key(1).job, epoch: Epoch(epoch), terms }
}

#[test]
fn job_that_is_paused_fetches_nothing_and_goes_on_where_it_was() {
    let mut world = World::new();
    world.order(terms(1, true));
    world.order(put(1, "a"));
    world.order(sources(1));
    world.run();
    assert!(world.store.is_empty() && world.applied.is_empty());
    // A restart knows it from the journal.
    world.restart();
    world.order(sources(1));
    world.run();
    assert!(world.store.is_empty());
    world.order(terms(2, false));
    // Until two thirds of it are there.
    while world.store.get(&content(1)).is_none_or(|have| *have < 2 << 16) {
        assert!(world.step());
    }
    world.order(terms(3, true));
    world.out.retain(|action| !matches!(action, Action::Use { .. }));
    world.run();
    assert_eq!(world.store[&content(1)], 2 << 16);
    assert!(world.applied.is_empty() && !world.agent.is_fetching());
    // What came late has no effect.
    world.order(terms(2, false));
    world.run();
    assert!(world.applied.is_empty());
    world.order(terms(4, false));
    world.run();
    assert_eq!(world.applied, [(1, false)]);
    world.order(NodeOrder::Forget { job: key(1).job });
    world.run();
    assert_eq!(world.agent.snapshot(), []);
}

#[test]
fn job_that_waits_for_its_window_keeps_no_other_from_its_room() {
    let mut world = World::new();
    world.order(terms(1, true));
    for command in 1..=100 {
        world.order(put(command, &format!("{command}")));
        world.order(sources(command));
    }
    let other = CommandKey { job: JobId(Uuid::from_u128(2)), command: CommandId(101) };
    let op = Op::Put { path: "other".to_owned(), attrs: Attributes::default() };
    let content = Some(content(101));
    let (sequence, size) = (Order::Prefix, Some(SIZE));
    world.order(NodeOrder::Command { key: other, sequence, priority: 0, op, content, size });
    world.order(sources(101));
    world.run();
    assert_eq!(world.applied, [(101, false)]);
}

#[test]
fn priority_that_changes_counts_for_puts_that_wait_and_after_a_restart() {
    let mut world = World::new();
    // More of another job, in the same rank, than come at once.
    for command in 101..=130 {
        let other = CommandKey { job: JobId(Uuid::nil()), command: CommandId(command) };
        let op = Op::Put { path: format!("{command}"), attrs: Attributes::default() };
        let (content, size) = (Some(content(command)), Some(SIZE));
        let sequence = Order::Prefix;
        let put = NodeOrder::Command { key: other, sequence, priority: 5, op, content, size };
        world.order(put);
        world.order(sources(command));
    }
    world.order(put(2, "b"));
    world.order(sources(2));
    let terms = Terms { priority: 9, ..Terms::default() };
    world.order(NodeOrder::Terms { job: key(1).job, epoch: Epoch(1), terms });
    assert_eq!(world.agent.ready.first(), Some(&(Reverse(9), key(2))));
    let records = world.out.iter().filter_map(|action| match action {
        Action::Journal(record) => Some(record.clone()),
        _ => None,
    });
    world.journal = records.collect();
    world.restart();
    assert_eq!(world.agent.deliveries[&key(2)].priority, 9);
}

#[test]
fn probe_is_done_once_and_its_end_is_told() {
    let mut world = World::new();
    let probe = |number| NodeOrder::Probe { number, bytes: 10 };
    for number in [3, 3, 2] {
        world.order(probe(number));
    }
    assert_eq!(world.out, [Action::Probe { number: 3, bytes: 10 }]);
    world.out.clear();
    world.agent.handle_probed(3, Err("cut".to_owned()));
    world.order(probe(4));
    world.agent.handle_probed(4, Ok(()));
    assert_eq!(world.take(), ["probe 3: Some(\"cut\")", "probe 4: None"]);
}
