//! What a run is made of, by hand for named scenarios or drawn from a seed.
//!
//! Sizes are small, so that a thousand seeds fit into the time of the tests: 2 to 7 nodes, contents
//! of 0 to 9 units, rates at which a content takes some seconds.

use headend::dist::book::RELAY_FROM;
use headend::dist::ids::NodeName;
use headend::dist::wire::job::{Attributes, Late, Op, Order, Policy, PolicyChange, Targets};

use crate::base::{COMMIT_MS, QUEUE_MAX};
use crate::client::{Cancel, CommandPlan, JobPlan, Leave, Said};
use crate::dice::{Dice, S};
use crate::faults::{Fault, drawn, drawn_for_sinks};
use crate::sink;

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) jobs: Vec<JobPlan>,
    pub(crate) faults: Vec<(u64, Fault)>,
    /// From when on no fault is left.
    pub(crate) calm_at: u64,
    /// Seconds behind that in which everything has to come to its end.
    pub(crate) bound_s: u64,
    /// What the base says that it may send; what it can.
    pub(crate) base_up_rate: Option<u64>,
    pub(crate) base_real_rate: u64,
    pub(crate) latency_ms: (u64, u64),
    pub(crate) commit_ms: (u64, u64),
    pub(crate) queue_max: usize,
    pub(crate) tick_ns: u64,
    /// Bases of one ledger stand by for each other, and each start has an epoch of its own.
    pub(crate) has_lease: bool,
    /// What is said goes through its JSON.
    pub(crate) as_json: bool,
    pub(crate) children_max: usize,
    /// Nodes from which on orders go from node to node.
    pub(crate) relay_from: usize,
    /// Nodes do not read of further sources: as those that do not know them.
    pub(crate) has_one_source: bool,
    pub(crate) idle_job_s: u64,
    pub(crate) idle_upload_s: u64,
    pub(crate) capability_s: u64,
    pub(crate) content_kept_s: u64,
    pub(crate) hook_kept_s: u64,
    /// Shortest wait period, and the time for the effect of each repair try.
    pub(crate) wait_s: u64,
    pub(crate) repair_s: [u64; 3],
}

/// A node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodePlan {
    /// Bytes per second.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// It says what it can send, and what it can receive.
    pub(crate) declares: bool,
    pub(crate) declares_down: bool,
    /// Bytes of its disk.
    pub(crate) disk: u64,
    /// When it starts first.
    pub(crate) joins: u64,
}

impl Setup {
    /// Equal nodes, no job, no fault.
    pub(crate) fn plain(nodes: usize) -> Self {
        let node = NodePlan {
            up: RATE,
            down: RATE,
            declares: true,
            declares_down: false,
            disk: 1 << 30,
            joins: 0,
        };
        Self {
            seed: 1,
            nodes: vec![node; nodes],
            jobs: Vec::new(),
            faults: vec![(60 * S, Fault::Calm)],
            calm_at: 60 * S,
            bound_s: 300,
            base_up_rate: Some(RATE),
            base_real_rate: RATE,
            latency_ms: (1, 4),
            commit_ms: COMMIT_MS,
            queue_max: QUEUE_MAX,
            tick_ns: 50_000_000,
            has_lease: true,
            as_json: false,
            children_max: 16,
            relay_from: RELAY_FROM,
            has_one_source: false,
            idle_job_s: 120,
            idle_upload_s: 90,
            capability_s: 3_600,
            content_kept_s: 3_600,
            hook_kept_s: 72 * 3_600,
            wait_s: 30,
            repair_s: [5, 30, 120],
        }
    }

    /// One content of so many bytes for all nodes, from the fifth second on.
    pub(crate) fn one_file(nodes: usize, size: usize) -> Self {
        let mut setup = Self::plain(nodes);
        setup.jobs.push(JobPlan::of(vec![put("j0/title.mp4", size)]));
        setup
    }

    /// What follows from a seed.
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed_0000_0000_0000);
        let count = dice.between(2, 7);
        let mut setup = Self::plain(usize::try_from(count).unwrap_or(2));
        setup.seed = seed;
        setup.tick_ns = dice.ms(100, 300);
        setup.has_lease = seed.is_multiple_of(2);
        setup.as_json = seed.is_multiple_of(16);
        setup.children_max = dice.index(4) + 1;
        setup.base_up_rate = dice.chance(500).then_some(RATE);
        setup.base_real_rate = dice.between(RATE / 2, RATE * 4);
        setup.latency_ms = dice.pick(&[(0, 2), (1, 20), (20, 120)]);
        setup.commit_ms = dice.pick(&[COMMIT_MS, COMMIT_MS, (0, 0), (50, 900)]);
        setup.capability_s = dice.pick(&[3_600, 3_600, 30]);
        setup.content_kept_s = dice.pick(&[3_600, 30]);
        for node in &mut setup.nodes {
            node.up = dice.between(RATE / 2, RATE * 2);
            node.down = dice.between(RATE, RATE * 4);
            node.declares = dice.chance(600);
            node.joins = if dice.chance(200) { dice.ms(0, 20_000) } else { dice.ms(0, 500) };
        }
        if dice.chance(400) {
            (setup.wait_s, setup.repair_s) = (dice.between(3, 8), [1, 2, 4]);
        }
        let jobs = dice.between(1, 3);
        for j in 0..jobs {
            let plan = drawn_job(&mut dice, j, setup.nodes.len());
            setup.jobs.push(plan);
        }
        setup.calm_at = 45 * S;
        setup.faults = drawn(&mut dice, setup.nodes.len(), setup.calm_at);
        // Of their own, so that the rest of a run does not follow from them.
        let mut dice = Dice::new(seed ^ 0x0ca1_1bac_0000_0000);
        for job in &mut setup.jobs {
            job.notify = sink::drawn(&mut dice);
        }
        let of_sinks = drawn_for_sinks(&mut dice, setup.calm_at);
        let mut dice = Dice::new(seed ^ 0x4e1a_7000_0000_0000);
        setup.relay_from = dice.pick(&[0, 2, 2, 3]);
        draw_several_sources(seed, &mut setup);
        if dice.chance(300) {
            let at = dice.ms(0, 20_000);
            let lost = u32::try_from(dice.between(50, 600)).unwrap_or(50);
            setup.faults.insert(0, (at, Fault::Hands { lost }));
        }
        setup.faults.splice(0..0, of_sinks);
        setup
    }
}

/// Some runs have one more file, of some hundred units, for nodes of which some send little: others
/// give parts of it at the same time. Of their own, so that the rest does not follow from it.
fn draw_several_sources(seed: u64, setup: &mut Setup) {
    let mut dice = Dice::new(seed ^ 0x57a1_9e50_0000_0000);
    if !dice.chance(200) {
        return;
    }
    // A seed's seconds are many: so are the bytes in them.
    let link = RATE * dice.between(4, 8);
    setup.base_real_rate = link * dice.between(1, 2);
    setup.base_up_rate = dice.chance(900).then_some(setup.base_real_rate);
    for node in &mut setup.nodes {
        (node.up, node.down) = (link, link);
        if dice.chance(300) {
            node.up = link / dice.between(2, 8);
        }
        (node.declares, node.declares_down) = (dice.chance(950), true);
    }
    let units = usize::try_from(dice.between(60, 300)).unwrap_or(60);
    if let Some(job) = setup.jobs.first_mut() {
        job.commands.push(put("j0/large.mp4", units * 65_536 + dice.index(65_536)));
        job.chunk = 300_000;
        // At some kilobytes a second there would be no end in time.
        (job.policy.max_rate, job.policy.per_node_rate) = (None, None);
        job.changes.clear();
        job.pause_ms = dice.between(5, 40);
    }
}

impl JobPlan {
    /// These commands for all nodes, and nothing unusual.
    pub(crate) fn of(commands: Vec<CommandPlan>) -> Self {
        Self {
            at: 5 * S,
            targets: Targets::All,
            order: Order::Prefix,
            policy: Policy::default(),
            changes: Vec::new(),
            deadline_s: None,
            commands,
            chunk: 64 << 10,
            pause_ms: 10,
            leaves: None,
            cancels: None,
            retries: 0,
            late: Late::Deliver,
            says_end: true,
            notify: Vec::new(),
        }
    }
}

/// A put of so many bytes.
pub(crate) fn put(path: &str, size: usize) -> CommandPlan {
    let op = Op::Put { path: path.to_owned(), attrs: Attributes::default() };
    CommandPlan { op, size, says_size: true, hash: Said::Right }
}

fn drawn_job(dice: &mut Dice, j: u64, nodes: usize) -> JobPlan {
    let mut commands: Vec<CommandPlan> = Vec::new();
    for at in 0..dice.between(1, 4) {
        let command = drawn_command(dice, j, at);
        commands.push(command);
    }
    let mut plan = JobPlan::of(commands);
    plan.at = dice.ms(500, 12_000);
    plan.order = dice.pick(&[Order::Prefix, Order::Prefix, Order::Strict, Order::None]);
    draw_policy(dice, &mut plan);
    if dice.chance(300) {
        let some = (0..nodes).filter(|_| dice.chance(600)).collect::<Vec<_>>();
        let names = some.into_iter().filter_map(|n| NodeName::new(&format!("n{n}")).ok());
        let names: Vec<_> = names.collect();
        if !names.is_empty() {
            plan.targets = Targets::Nodes(names);
        }
    }
    plan.deadline_s = dice.chance(60).then(|| dice.between(5, 60));
    plan.chunk = dice.pick(&[3_000, 20_000, 65_536, 200_000]);
    plan.pause_ms = dice.between(5, 150);
    if dice.chance(150) {
        let back = dice.chance(600).then(|| dice.ms(500, 30_000));
        let command = dice.index(plan.commands.len());
        plan.leaves = Some(Leave { command, permille: dice.between(0, 950), back });
    }
    if dice.chance(120) {
        let command = dice.chance(500).then(|| dice.index(plan.commands.len()));
        plan.cancels = Some(Cancel { at: plan.at + dice.ms(0, 15_000), command });
    }
    plan.retries = u32::try_from(dice.between(0, 2)).unwrap_or(0);
    plan.late = if dice.chance(800) { Late::Deliver } else { Late::Drop };
    plan.says_end = dice.chance(950);
    if plan.leaves.is_none() && dice.chance(120) {
        let at = plan.at + dice.ms(0, 8_000);
        let paused = |paused| PolicyChange { paused: Some(paused), ..PolicyChange::default() };
        plan.changes = vec![(at, paused(true)), (at + dice.ms(500, 20_000), paused(false))];
    }
    if plan.leaves.is_none() && dice.chance(120) {
        let rate = dice.chance(700).then(|| dice.between(RATE / 8, RATE));
        let mut change = PolicyChange { max_rate: Some(rate), ..PolicyChange::default() };
        if dice.chance(300) {
            change = PolicyChange { per_node_rate: Some(rate), ..PolicyChange::default() };
        }
        plan.changes.push((plan.at + dice.ms(0, 15_000), change));
        plan.changes.sort_by_key(|(at, _)| *at);
    }
    plan
}

/// A window, a priority and rates.
fn draw_policy(dice: &mut Dice, plan: &mut JobPlan) {
    let policy = &mut plan.policy;
    policy.priority = u8::try_from(dice.between(0, 9)).unwrap_or(0);
    policy.max_rate = dice.chance(120).then(|| dice.between(RATE / 8, RATE));
    policy.per_node_rate = dice.chance(120).then(|| dice.between(RATE / 8, RATE));
    // Runs begin at midnight and have some minutes.
    let windows =
        ["00:01-23:00", "00:00-00:01; 00:02-12:00", "00:01-00:02 UTC; 01:03-05:00 +01:00"];
    let window = dice.chance(120).then(|| dice.pick(&windows));
    policy.window = window.and_then(|text| text.parse().ok());
}

fn drawn_command(dice: &mut Dice, j: u64, at: u64) -> CommandPlan {
    let name = |dice: &mut Dice| format!("j{j}/{}", dice.pick(&["a.mp4", "b.mp4", "c/d.mp4", "c"]));
    let mode = |dice: &mut Dice| Attributes {
        mode: dice.chance(500).then_some(0o640),
        mtime_ns: dice.chance(300).then_some(1_000_000_000),
        ..Attributes::default()
    };
    // The first brings something to work on.
    let kind = if at == 0 { 0 } else { dice.index(12) };
    let op = match kind {
        8 => Op::Mkdir { path: format!("j{j}/c"), attrs: mode(dice) },
        9 => Op::Delete { path: name(dice) },
        10 => Op::Move { path: name(dice), to: format!("j{j}/moved/{at}") },
        11 if dice.chance(500) => Op::SetAttributes { path: name(dice), attrs: mode(dice) },
        11 => Op::Query,
        _ => Op::Put { path: name(dice), attrs: mode(dice) },
    };
    let units = dice.pick(&[0, 1, 2, 3, 4, 6, 9]);
    let rest = dice.pick(&[0, 0, 1, 30_000, 65_535]);
    let hash = if dice.chance(20) { Said::Wrong } else { dice.pick(&[Said::Right, Said::Nothing]) };
    CommandPlan { op, size: units * 65_536 + rest, says_size: dice.chance(700), hash }
}

/// Bytes per second of a link: eight units.
pub(crate) const RATE: u64 = 512 << 10;
