//! A live path at the base and at agents, with a model of what flows: nodes are killed, drained and
//! started again, the base and the origin go and come back.
//!
//! ```text
//! Rig (book, rows) --orders--> Agent of each node --Open, Close--> a path with a list of sources
//!        ^                        |      ^                              |
//!        '------reports-----------'      '----Sight: who feeds it-------'
//! origin: a packet each step; a path passes on what its source had a step before, when that is new
//! ```
//! Nodes let nobody read who does not show the capability of the job when it begins; their clocks
//! are some minutes wrong, and capabilities live for a minute.
//! Packets carry the step in which the origin sent them, so that a circle feeds nobody: nothing
//! new comes around.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::time::Mono;
use crate::dist::agent::live::{LiveAction, LiveEvent};
use crate::dist::agent::{Action, Agent};
use crate::dist::journal::Record;
use crate::dist::keys::sign_answer;
use crate::dist::reflect::{LiveList, Sight};
use crate::dist::wire::agent::LiveSource;
use crate::dist::wire::job::JobState;
use crate::dist::wire::relay::SignedAnswer;

const ORIGIN: &str = "rtsp://192.0.2.1:8554/live/x";
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

struct Fleet {
    rig: Rig,
    nodes: Vec<FleetNode>,
    now: Mono,
    /// The origin sends.
    has_origin: bool,
    /// The newest packet of the origin.
    newest: u64,
    steps: u64,
    /// Readers that nodes have let in.
    admitted: u64,
}

struct FleetNode {
    name: &'static str,
    /// `None` while it is down.
    agent: Option<Agent>,
    journal: Vec<Record>,
    starts: u64,
    path: Option<FleetPath>,
    url: String,
    /// What its clock is wrong by.
    skew_s: i64,
}

#[derive(Default)]
struct FleetPath {
    key: Option<CommandKey>,
    list: LiveList,
    active: Option<String>,
    /// Since so many steps a better source was good.
    better: u32,
    /// The newest packet, and the same a step before.
    newest: (u64, u64),
    packets: u64,
    /// It had a new packet in this step.
    does_flow: bool,
}

impl Fleet {
    fn new() -> Self {
        let nodes = NAMES.iter().zip(1..).zip(SKEWS_S);
        let nodes = nodes.map(|((name, host), skew_s)| FleetNode {
            name,
            agent: None,
            journal: Vec::new(),
            starts: 0,
            path: None,
            url: format!("rtsp://10.1.0.{host}:8554/live/x"),
            skew_s,
        });
        let nodes = nodes.collect();
        let now = Mono(1);
        let mut rig = Rig::new();
        rig.options.timeouts.capability = CAPABILITY_LIFE;
        rig.restart();
        let (newest, steps, admitted) = (0, 0, 0);
        let mut fleet = Self { rig, nodes, now, has_origin: true, newest, steps, admitted };
        (0..NAMES.len()).for_each(|n| fleet.start(n));
        fleet
    }

    fn start(&mut self, n: usize) {
        let (now, node) = (self.now, &mut self.nodes[n]);
        if node.agent.is_some() {
            return;
        }
        node.starts += 1;
        let mut agent = Agent::new(name(node.name), node.journal.clone());
        agent.handle_online(true);
        agent.set_base_key(base_keys().verify_key());
        let mut out = Vec::new();
        agent.start(now, &mut out);
        node.agent = Some(agent);
        let (name, starts) = (node.name, node.starts);
        self.perform(n, out);
        self.hello(name, starts);
    }

    /// A node opens its stream of orders.
    fn hello(&mut self, node: &str, start: u64) {
        let orders = self.rig.hello(node, start).unwrap();
        let node = name(node);
        let said = std::mem::take(&mut self.rig.orders);
        self.rig.orders = said.into_iter().filter(|(to, _)| *to != node).collect();
        self.rig.orders.extend(orders.into_iter().map(|order| (node.clone(), order)));
    }

    fn kill(&mut self, n: usize) {
        (self.nodes[n].agent, self.nodes[n].path) = (None, None);
    }

    fn restart_base(&mut self) {
        self.rig.restart();
        for n in 0..NAMES.len() {
            if self.nodes[n].agent.is_some() {
                let (node, start) = (self.nodes[n].name, self.nodes[n].starts);
                self.hello(node, start);
            }
        }
    }

    /// Half a second.
    fn step(&mut self) {
        self.steps += 1;
        self.now = self.now + Duration::from_millis(500);
        self.rig.at.mono_ns += SECOND / 2;
        self.rig.at.utc_ns += i64::try_from(SECOND / 2).unwrap();
        self.flow();
        for n in 0..NAMES.len() {
            self.tick(n);
        }
        if self.steps.is_multiple_of(2) {
            self.rig.book.tick(self.rig.at);
            self.rig.commit();
        }
    }

    /// Packets go one node further.
    fn flow(&mut self) {
        self.newest += u64::from(self.has_origin);
        for path in self.nodes.iter_mut().filter_map(|node| node.path.as_mut()) {
            path.newest.1 = path.newest.0;
        }
        for n in 0..self.nodes.len() {
            let Some(mut path) = self.nodes[n].path.take() else { continue };
            let at = |url: &String| match url.as_str() {
                ORIGIN if self.has_origin => self.newest,
                ORIGIN => 0,
                url => {
                    let node = self.nodes.iter().find(|node| node.url == url);
                    node.and_then(|node| node.path.as_ref()).map_or(0, |path| path.newest.1)
                }
            };
            let is_new = |url: &String| at(url) > path.newest.1;
            let is_listed =
                |url: &String| path.list.sources.iter().any(|source| source.url == *url);
            let active = path.active.clone().filter(|url| is_listed(url) && is_new(url));
            // Who reads is not asked again.
            let may_read = |source: &&LiveSource| {
                active.as_ref() == Some(&source.url) || self.admits(&path, source)
            };
            let mut new = path.list.sources.iter().filter(|source| is_new(&source.url));
            let best = new.find(may_read).map(|source| source.url.clone());
            let was_active = path.active.clone();
            path.better = if active != best && active.is_some() { path.better + 1 } else { 0 };
            path.active = if path.better > 2 { best } else { active.or(best) };
            path.does_flow = path.active.is_some();
            let is_admitted = path.active != was_active && path.active.as_deref() != Some(ORIGIN);
            self.admitted += u64::from(is_admitted && path.does_flow);
            if let Some(active) = &path.active {
                path.newest.0 = at(active);
                path.packets += 1;
            }
            self.nodes[n].path = Some(path);
        }
    }

    /// Whether a source lets a node begin to read, by the clock of the source.
    fn admits(&self, path: &FleetPath, source: &LiveSource) -> bool {
        let shown = path.list.shown_to(source);
        let Some(node) = self.nodes.iter().find(|node| node.url == source.url) else {
            assert_eq!(shown, None, "the origin knows of no jobs");
            return source.url == ORIGIN;
        };
        let open = node.path.as_ref().and_then(|path| path.key);
        let Some((key, shown)) = open.zip(shown) else { return false };
        let utc_s = self.rig.at.utc_ns.div_euclid(1_000_000_000) + node.skew_s;
        let admitted = base_keys().verify_key().admit_live(shown.expose(), (key, "live/x"), utc_s);
        admitted.is_ok_and(|capability| Some(capability.key) == path.key)
    }

    /// A node sees its path, does what it is told, and reports.
    fn tick(&mut self, n: usize) {
        let now = self.now;
        let orders = self.rig.orders_of(NAMES[n]);
        let node = &mut self.nodes[n];
        let Some(agent) = &mut node.agent else { return };
        let mut out = Vec::new();
        for order in orders {
            agent.handle_order(order, now, &mut out);
        }
        let seen = node.path.as_ref().and_then(|path| Some((path.key?, path.sight())));
        if let Some((key, sight)) = seen {
            agent.handle_live(key, LiveEvent::Seen(sight), now, &mut out);
        }
        agent.handle_time(now, &mut out);
        self.perform(n, out);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let (first, reports) = agent.next_batch(now);
        let batch = self.rig.batch(&name(NAMES[n]), first, reports);
        let taken = self.rig.book.reports(batch, self.rig.at).unwrap().taken;
        self.rig.commit();
        let mut out = Vec::new();
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.handle_taken(taken, &mut out);
        self.perform(n, out);
    }

    fn perform(&mut self, n: usize, out: Vec<Action>) {
        let mut waiting = std::collections::VecDeque::from(out);
        for _ in 0..10_000 {
            let Some(action) = waiting.pop_front() else { return };
            let node = &mut self.nodes[n];
            let Some(agent) = &mut node.agent else { return };
            let mut more = Vec::new();
            match action {
                Action::Journal(record) => {
                    node.journal.push(record);
                    // Numbers count from the start of the agent.
                    agent.handle_journaled(u64::MAX, &mut more);
                }
                Action::Live { key, action: LiveAction::Open { list, .. } } => {
                    let is_own = |source: &LiveSource| source.url == node.url;
                    let sources = &list.sources;
                    assert!(!sources.is_empty() && !sources.iter().any(is_own), "{sources:?}");
                    let path = node.path.get_or_insert_default();
                    (path.key, path.list) = (Some(key), list);
                    agent.handle_live(key, LiveEvent::Opened(Ok(())), self.now, &mut more);
                }
                Action::Live { key, action: LiveAction::Close { .. } } => {
                    let sight = node.path.take().map(|path| path.sight());
                    agent.handle_live(key, LiveEvent::Closed(sight), self.now, &mut more);
                }
                Action::Apply(apply) => {
                    let size = apply.via.values().sum();
                    let (via, live) = (apply.via, apply.live);
                    let receipt = self.rig.receipt(apply.key, NAMES[n]);
                    let receipt = signed(&Receipt { size, via, live, ..receipt });
                    agent.handle_applied(apply.key, Ok(receipt), self.now, &mut more);
                }
                Action::Limit { .. } => {}
                Action::Probe { number, .. } => agent.handle_probed(number, Ok(())),
                Action::HelloAgain { is_new_start } => {
                    node.starts += u64::from(is_new_start);
                    let (name, starts) = (node.name, node.starts);
                    self.hello(name, starts);
                }
                Action::AskNode { node: asked, query, envelope, .. } => {
                    let answer = self.answer_of(&asked, &envelope);
                    let Some(agent) = &mut self.nodes[n].agent else { return };
                    agent.handle_neighbour(asked, query, answer);
                }
                other => panic!("{other:?}"),
            }
            waiting.extend(more);
        }
        panic!("it does not come to rest");
    }

    /// What a node says that another one asks for the base.
    fn answer_of(&self, asked: &NodeName, envelope: &str) -> Option<SignedAnswer> {
        let node = self.nodes.iter().find(|node| node.name == asked.as_str())?;
        let alive = node.agent.as_ref()?.handle_question(envelope, self.now).ok()?;
        Some(sign_answer(&node_keys(asked), &alive))
    }

    /// Who feeds whom, for people.
    fn shown(&self) -> String {
        let show = |node: &FleetNode| {
            let path = node.path.as_ref();
            let active = path.and_then(|path| path.active.as_deref()).unwrap_or("nobody");
            let sources = path.map(|path| path.list.sources.iter().map(|source| &*source.url));
            let urls: Vec<&str> = sources.into_iter().flatten().collect();
            let (url, is_up, urls) = (&node.url, node.agent.is_some(), urls.join(" "));
            format!("{url} is up: {is_up}, fed by {active} of {urls}")
        };
        self.nodes.iter().map(show).collect::<Vec<_>>().join("\n")
    }

    fn do_all_flow(&self) -> bool {
        let up = self.nodes.iter().filter(|node| node.agent.is_some());
        up.into_iter().all(|node| node.path.as_ref().is_some_and(|path| path.does_flow))
    }

    /// A job that brings the path to all.
    fn bring(&mut self) -> (JobId, CommandKey) {
        let job = self.rig.job(Targets::All);
        let (path, from) = ("live/x".to_owned(), ORIGIN.to_owned());
        let op = Op::Live { path, from };
        let key = self.rig.command(job, CommandRequest { op, size: None, blake3: None });
        (job, key)
    }

    /// Waits until all nodes that are up have the path.
    fn until_all_flow(&mut self) {
        for _ in 0..SETTLED_STEPS {
            self.step();
            if self.do_all_flow() {
                return;
            }
        }
        panic!("after {} steps:\n{}", self.steps, self.shown());
    }
}

impl FleetPath {
    fn sight(&self) -> Sight {
        Sight {
            active: self.active.clone(),
            is_better: false,
            packets: self.packets,
            bytes: self.packets * 1_000,
            reason: None,
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Kill(usize),
    Start(usize),
    Drain(usize),
    Undrain(usize),
    Origin,
    Base,
    Pass(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let node = 0..NAMES.len();
    prop_oneof![
        3 => node.clone().prop_map(Step::Kill),
        3 => node.clone().prop_map(Step::Start),
        1 => node.clone().prop_map(Step::Drain),
        1 => node.prop_map(Step::Undrain),
        1 => Just(Step::Origin),
        1 => Just(Step::Base),
        6 => (1_u8..60).prop_map(Step::Pass),
    ]
}

fn run(steps: &[Step]) {
    let mut fleet = Fleet::new();
    let (job, key) = fleet.bring();
    fleet.until_all_flow();
    for step in steps {
        match step {
            Step::Kill(n) => fleet.kill(*n),
            Step::Start(n) => fleet.start(*n),
            Step::Drain(n) => drop(fleet.rig.book.drain_node(&name(NAMES[*n]), fleet.rig.at)),
            Step::Undrain(n) => drop(fleet.rig.book.undrain_node(&name(NAMES[*n]), fleet.rig.at)),
            Step::Origin => fleet.has_origin = !fleet.has_origin,
            Step::Base => fleet.restart_base(),
            Step::Pass(steps) => (0..*steps).for_each(|_| fleet.step()),
        }
        fleet.rig.commit();
    }
    fleet.has_origin = true;
    fleet.until_all_flow();
    // Who was given up meanwhile has to be back before the end, and be taken again.
    (0..NAMES.len()).for_each(|n| fleet.start(n));
    fleet.until_all_flow();
    (0..40).for_each(|_| fleet.step());
    assert!(fleet.do_all_flow(), "{}", fleet.shown());
    fleet.rig.book.end_job(CLIENT, job, fleet.rig.at).unwrap();
    fleet.rig.commit();
    for _ in 0..SETTLED_STEPS {
        fleet.step();
        if fleet.rig.view(job).state == JobState::Completed {
            break;
        }
    }
    assert!(fleet.admitted > 0, "nobody has read by a capability");
    let said = fleet.rig.events.iter().map(|event| event.detail.to_string());
    assert!(!said.collect::<String>().contains("hdl_"), "an event shows a capability");
    let view = fleet.rig.view(job);
    assert_eq!((view.state, view.totals.completed), (JobState::Completed, 5), "{view:?}");
    for node in &fleet.nodes {
        assert!(node.path.is_none(), "the path of {} has outlived its job", node.name);
        let receipt = fleet.rig.delivery(key, node.name).receipt.unwrap();
        let receipt: Receipt = serde_json::from_str(&receipt.receipt).unwrap();
        assert!(receipt.live.unwrap().packets > 0 && receipt.size > 0, "{receipt:?}");
    }
}

#[test]
fn middle_nodes_that_are_killed_one_after_the_other_hold_up_nobody() {
    let steps = [
        Step::Pass(10),
        Step::Kill(1),
        Step::Pass(4),
        Step::Kill(2),
        Step::Pass(60),
        Step::Start(1),
        Step::Base,
        Step::Pass(3),
        Step::Kill(0),
        Step::Start(2),
        Step::Origin,
        Step::Pass(30),
        Step::Origin,
    ];
    run(&steps);
}

#[test]
fn node_that_takes_no_capability_for_its_wrong_clock_is_passed_over() {
    let mut fleet = Fleet::new();
    let wrong = 1;
    fleet.nodes[wrong].skew_s = 7_200;
    fleet.bring();
    fleet.until_all_flow();
    let mut first_count = 0;
    for _ in 0..SETTLED_STEPS {
        fleet.step();
        assert!(fleet.do_all_flow(), "{}", fleet.shown());
        let url = &fleet.nodes[wrong].url;
        let mut paths = fleet.nodes.iter().filter_map(|node| node.path.as_ref());
        let is_first = |path: &&FleetPath| path.list.sources[0].url == *url;
        first_count += paths.clone().filter(is_first).count();
        assert!(paths.all(|path| path.active.as_ref() != Some(url)), "{}", fleet.shown());
    }
    assert!(first_count > 0, "nobody was told to read from it");
    assert!(fleet.admitted > 0, "others are read");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whoever_goes_and_comes_back_all_nodes_that_are_up_get_the_path(
        steps in prop::collection::vec(any_step(), 1..30),
    ) {
        run(&steps);
    }
}

/// Much shorter than a run.
const CAPABILITY_LIFE: Duration = Duration::from_secs(60);
/// A source allows five minutes, and half of the life may be over.
const SKEWS_S: [i64; NAMES.len()] = [0, 200, -250, 90, 250];
/// Two minutes: a node that was given up is asked, and taken again.
const SETTLED_STEPS: usize = 240;
