//! Any sequence of requests, reports, silence and restarts keeps the invariants of the book.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::dist::command::state_of;
use crate::dist::wire::job::{CommandState, JobState, Reason, Totals};

#[derive(Debug, Clone)]
enum Step {
    Job(u8),
    Put(usize),
    Mkdir(usize),
    Grow(usize),
    End(usize, bool),
    Abandon(usize),
    EndJob(usize),
    CancelJob(usize),
    CancelCommand(usize),
    Retry(usize),
    Report(u8, usize, u8),
    Again(u8),
    Hello(u8),
    Tick(u8),
    Restart,
}

const NODES: [&str; 4] = ["a", "b", "c", "d"];

fn any_step() -> impl Strategy<Value = Step> {
    let pick = || 0_usize..8;
    let node = || 0_u8..4;
    prop_oneof![
        1 => any::<u8>().prop_map(Step::Job),
        3 => pick().prop_map(Step::Put),
        2 => pick().prop_map(Step::Mkdir),
        2 => pick().prop_map(Step::Grow),
        3 => (pick(), prop::bool::weighted(0.9)).prop_map(|(at, is_good)| Step::End(at, is_good)),
        1 => pick().prop_map(Step::Abandon),
        1 => pick().prop_map(Step::EndJob),
        1 => pick().prop_map(Step::CancelJob),
        1 => pick().prop_map(Step::CancelCommand),
        1 => pick().prop_map(Step::Retry),
        16 => (node(), pick(), 0_u8..9).prop_map(|(node, at, kind)| Step::Report(node, at, kind)),
        2 => node().prop_map(Step::Again),
        2 => node().prop_map(Step::Hello),
        3 => (1_u8..20).prop_map(Step::Tick),
        1 => Just(Step::Restart),
    ]
}

/// The rig with what the steps pick from.
struct World {
    rig: Rig,
    jobs: Vec<JobId>,
    keys: Vec<CommandKey>,
    last: HashMap<u8, Reports>,
    ended: HashMap<(CommandKey, NodeName), DeliveryRow>,
    starts: u64,
}

fn pick<T: Copy>(from: &[T], at: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[at % from.len()])
}

impl World {
    fn new() -> Self {
        let rig = Rig::with_nodes(&NODES);
        let (jobs, keys, last) = (Vec::new(), Vec::new(), HashMap::new());
        Self { rig, jobs, keys, last, ended: HashMap::new(), starts: 1 }
    }

    fn step(&mut self, step: Step) {
        let at = self.rig.at;
        match step {
            Step::Job(mask) => {
                let wanted = (0..4).filter(|bit| mask & (1 << bit) != 0);
                let nodes = wanted.map(|bit| name(NODES[bit])).collect();
                let request = job_request(Targets::Nodes(nodes));
                self.jobs.extend(self.rig.book.request_job(CLIENT, request, at).map(|v| v.job_id));
            }
            Step::Put(pick_at) => self.command(pick_at, put("x")),
            Step::Mkdir(pick_at) => self.command(pick_at, mkdir("y")),
            Step::Grow(pick_at) => {
                if let Some(content) = self.content(pick_at) {
                    self.rig.book.upload_grew(content, 10, at);
                }
            }
            Step::End(pick_at, is_good) => {
                if let Some(content) = self.content(pick_at) {
                    let size = if is_good { 100 } else { 99 };
                    let _ = self.rig.book.upload_ended(content, end(size), at);
                }
            }
            Step::Abandon(pick_at) => {
                if let Some(content) = self.content(pick_at) {
                    self.rig.book.upload_abandoned(content, at);
                }
            }
            Step::EndJob(pick_at) => {
                let job = pick(&self.jobs, pick_at);
                let _ = job.map(|job| self.rig.book.end_job(CLIENT, job, at));
            }
            Step::CancelJob(pick_at) => {
                let job = pick(&self.jobs, pick_at);
                let _ = job.map(|job| self.rig.book.cancel_job(CLIENT, job, at));
            }
            Step::CancelCommand(pick_at) => {
                let key = pick(&self.keys, pick_at);
                let _ = key.map(|key| self.rig.book.cancel_command(CLIENT, key, at));
            }
            Step::Retry(pick_at) => {
                let job = pick(&self.jobs, pick_at);
                if job.is_some_and(|job| self.rig.book.retry_job(CLIENT, job, None, at).is_ok()) {
                    self.ended.retain(|_, row| row.state != DeliveryState::Failed);
                }
            }
            Step::Report(node, pick_at, kind) => self.report(node, pick_at, kind),
            Step::Again(node) => {
                if let Some(batch) = self.last.get(&node).cloned() {
                    let before = self.rig.events.len();
                    let _ = self.rig.book.reports(batch, at);
                    self.rig.commit();
                    let news = &self.rig.kinds()[before..];
                    let is_old = news.iter().all(|kind| kind.starts_with("node."));
                    assert!(is_old, "reports that came twice had a second effect: {news:?}");
                }
            }
            Step::Hello(node) => {
                self.starts += 1;
                self.last.remove(&node);
                self.rig.hello(NODES[usize::from(node)], self.starts).unwrap();
            }
            Step::Tick(seconds) => {
                self.rig.pass(u64::from(seconds));
                self.rig.book.tick(self.rig.at);
            }
            Step::Restart => self.rig.restart(),
        }
        self.rig.commit();
    }

    fn command(&mut self, at: usize, request: CommandRequest) {
        let Some(job) = pick(&self.jobs, at) else { return };
        let request = match request.op {
            Op::Put { .. } => CommandRequest { size: Some(100), ..request },
            _ => request,
        };
        let accepted = self.rig.book.command(CLIENT, job, request, self.rig.at);
        self.keys.extend(accepted.map(|taken| CommandKey { job, command: taken.command_id }));
    }

    fn content(&self, at: usize) -> Option<ContentId> {
        let rows: Vec<_> = self.rig.rows.contents.iter().map(|row| row.id).collect();
        pick(&rows, at)
    }

    fn report(&mut self, node: u8, at: usize, kind: u8) {
        let Some(key) = pick(&self.keys, at) else { return };
        let (index, node) = (node, NODES[usize::from(node)]);
        let failed =
            |is_final| Report::Failed { key, reason: Reason::Io, detail: String::new(), is_final };
        let content = ContentId(Uuid::from_u128(u128::from(kind)));
        let receipt = |rig: &Rig| {
            let mut receipt = rig.receipt(key, node);
            receipt.size = receipt.size.max(1);
            Report::Completed { receipt: signed(&receipt) }
        };
        let report = match kind {
            0 => Report::Received { key },
            1 => fetching(key, 5, Some("a")),
            2 => Report::Progress { key, offset: 50, rate: 1 },
            3 => Report::Applying { key },
            4 => self.rig.completed(key, node),
            5 => failed(false),
            6 => failed(true),
            7 => receipt(&self.rig),
            _ => Report::BadUnit { content, source: None, unit: 0 },
        };
        let next = self.rig.next.entry(name(node)).or_insert(1);
        let first = *next;
        *next += 1;
        let batch = self.rig.batch(&name(node), first, vec![report]);
        self.last.insert(index, batch.clone());
        self.rig.book.reports(batch, self.rig.at).unwrap();
    }

    fn check(&mut self) {
        for row in &self.rig.rows.deliveries {
            let place = (row.key, row.node.clone());
            if let Some(before) = self.ended.get(&place) {
                assert_eq!(before, row, "a delivery changed after its end");
            }
            if !row.state.is_open() {
                self.ended.insert(place, row.clone());
            }
            let is_done = row.state == DeliveryState::Completed;
            assert!(!is_done || row.receipt.is_some(), "completed without a receipt");
        }
        for job in &self.jobs {
            let view = self.rig.view(*job);
            let mut all = Totals::default();
            for command in self.rig.book.command_views(CLIENT, *job, None, 0).unwrap() {
                let mut totals = Totals::default();
                let rows = self.rig.rows.deliveries.iter();
                let key = CommandKey { job: *job, command: command.command_id };
                rows.filter(|row| row.key == key).for_each(|row| totals.add(row.state));
                assert_eq!(command.totals, totals);
                assert_eq!(command.state, state_of(&totals));
                let is_put = matches!(command.op, Op::Put { .. });
                if is_put && command.state == CommandState::Completed {
                    assert!(command.blake3.is_some(), "completed without a hash");
                }
                for (sum, part) in [
                    (&mut all.new, totals.new),
                    (&mut all.in_progress, totals.in_progress),
                    (&mut all.completed, totals.completed),
                    (&mut all.failed, totals.failed),
                    (&mut all.cancelled, totals.cancelled),
                ] {
                    *sum += part;
                }
            }
            assert_eq!(view.totals, all);
            let is_open = view.totals.open() > 0;
            assert!(view.state.is_live() || !is_open, "{:?} with open deliveries", view.state);
            assert!(view.state != JobState::Closing || is_open, "nothing is open, but it waits");
        }
    }

    /// The orders of a book that is made from the rows are those of the book itself.
    fn check_restart(&mut self) {
        let orders = |book: &mut Book| {
            let mut text = Vec::new();
            for node in NODES {
                for order in book.open_orders(&name(node)) {
                    if let NodeOrder::Command { key, .. } = &order {
                        text.push(format!("{node} {key:?}"));
                    }
                }
            }
            text
        };
        let before = orders(&mut self.rig.book);
        let counts = self.rig.book.delivery_counts();
        self.rig.restart();
        assert_eq!(orders(&mut self.rig.book), before);
        assert_eq!(self.rig.book.delivery_counts(), counts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_steps_keep_ends_totals_and_what_is_open(
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        let mut world = World::new();
        world.step(Step::Job(0b1111));
        for step in steps {
            world.step(step);
            world.check();
        }
        world.check_restart();
        world.check();
    }
}
