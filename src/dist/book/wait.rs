//! Wait periods of jobs (reference 002): when a job has had the time that it needs and a bit more,
//! its nodes that are not done are asked.
//!
//! ```text
//! all is uploaded, or a client ends its job --T--> nodes with open deliveries are asked --T--> ..
//! T = twice the time within which 95 of 100 nodes would be done at the rates of now, 30 s at least
//! ```
//! Invariant: a node is not asked for what it cannot have: while an upload of the job goes on, the
//! job is paused or its window is closed, the period does not end. A live path is waited for when
//! its job was ended, and before that at nodes that do not live. Bounds: `PERIOD_MAX_S` seconds a
//! period; for its length `LOOKS_MAX` deliveries are looked at.

use serde_json::json;

use crate::dist::book::effects::About;
use crate::dist::book::link::{NS_PER_S, planned_rate};
use crate::dist::book::nodes::NodeId;
use crate::dist::book::options::ns;
use crate::dist::book::parts::Parts;
use crate::dist::book::records::Job;
use crate::dist::book::repair::Repair;
use crate::dist::ids::{JobId, Stamp};
use crate::dist::rows::{Change, WaitRow};
use crate::dist::wire::job::{DeliveryState, Policy};

/// The period of a job that has open deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    until_ns: u64,
    period_s: u64,
    /// Periods that have ended.
    periods: u32,
}

impl Wait {
    /// What a row says, at the time of now.
    pub(super) fn from_row(row: &WaitRow, now: Stamp) -> Self {
        let left_ns = u64::try_from(row.until_ns.saturating_sub(now.utc_ns)).unwrap_or(0);
        let most_ns = row.period_s.min(PERIOD_MAX_S).saturating_mul(NS_PER_S);
        let until_ns = now.mono_ns.saturating_add(left_ns.min(most_ns));
        Self { until_ns, period_s: row.period_s, periods: row.periods }
    }

    fn row(&self, job: JobId, now: Stamp) -> WaitRow {
        let left_ns = i64::try_from(self.until_ns.saturating_sub(now.mono_ns)).unwrap_or(i64::MAX);
        WaitRow {
            job,
            until_ns: now.utc_ns.saturating_add(left_ns),
            period_s: self.period_s,
            periods: self.periods,
        }
    }
}

/// A second has passed; the base itself stood still for `gap_ns`.
pub(super) fn tick(parts: &mut Parts, gap_ns: u64) {
    let now_ns = parts.fx.now.mono_ns;
    let mut due = Vec::new();
    for job in parts.jobs.all_mut().filter(|job| job.row.state.is_live()) {
        if job.totals.open() == 0 {
            job.wait = None;
            continue;
        }
        if let Some(wait) = &mut job.wait {
            wait.until_ns = wait.until_ns.saturating_add(gap_ns);
        }
        if job.wait.is_none_or(|wait| wait.until_ns <= now_ns) {
            due.push((job.row.id, job.wait));
        }
    }
    for (id, wait) in due {
        match wait {
            None => begin(parts, id),
            Some(wait) => end(parts, id, wait),
        }
    }
}

/// The time that the job needs begins: nothing more comes from its client, or it is tried again.
pub(super) fn begin(parts: &mut Parts, id: JobId) {
    for node in waiting_nodes(parts, id) {
        if let Some(node) = parts.nodes.get_mut(node) {
            node.care.begin_period();
        }
    }
    let period_s = period_s(parts, id);
    let until_ns = parts.fx.now.mono_ns.saturating_add(period_s.saturating_mul(NS_PER_S));
    put(parts, id, Wait { until_ns, period_s, periods: 0 });
}

/// A period is over, if the nodes have had all of it.
fn end(parts: &mut Parts, id: JobId, wait: Wait) {
    let now = parts.fx.now;
    let period_ns = wait.period_s.saturating_mul(NS_PER_S);
    let given_ns = given_since_ns(parts, id).map(|since_ns| {
        u64::try_from(now.utc_ns.saturating_sub(since_ns)).unwrap_or(0).min(period_ns)
    });
    let given_ns = given_ns.unwrap_or(0);
    if given_ns < period_ns {
        let until_ns = now.mono_ns.saturating_add(period_ns - given_ns);
        return put(parts, id, Wait { until_ns, ..wait });
    }
    let nodes = waiting_nodes(parts, id);
    if nodes.is_empty() {
        // Live paths alone, for as long as their client wants them.
        let until_ns = now.mono_ns.saturating_add(period_ns);
        return put(parts, id, Wait { until_ns, ..wait });
    }
    let periods = wait.periods.saturating_add(1);
    let detail = json!({"seconds": wait.period_s, "periods": periods, "nodes": nodes.len()});
    parts.fx.event("wait.over", About::job(id), detail);
    for node in nodes {
        Repair { parts: &mut *parts, node }.period_over();
    }
    // Repairs may have ended it.
    if parts.jobs.get(id).is_none_or(|job| job.totals.open() == 0) {
        return;
    }
    let period_s = period_s(parts, id);
    let until_ns = now.mono_ns.saturating_add(period_s.saturating_mul(NS_PER_S));
    put(parts, id, Wait { until_ns, period_s, periods });
}

fn put(parts: &mut Parts, id: JobId, wait: Wait) {
    let now = parts.fx.now;
    let Some(job) = parts.jobs.get_mut(id) else { return };
    job.wait = Some(wait);
    parts.fx.keep(Change::Wait(wait.row(id, now)));
}

/// Nodes with open deliveries of the job.
fn waiting_nodes(parts: &Parts, id: JobId) -> Vec<NodeId> {
    let Some(job) = parts.jobs.get(id) else { return Vec::new() };
    let nodes = job.targets.iter().copied();
    let is_open = |node: &NodeId| {
        let mut open = parts.jobs.open_of(*node, id);
        open.any(|key| parts.is_waited_for(key) || !parts.is_live(*node))
    };
    nodes.filter(is_open).collect()
}

/// UTC nanoseconds since when nodes can have all that was ordered; `None` while an upload goes on,
/// or nodes may fetch nothing.
fn given_since_ns(parts: &Parts, id: JobId) -> Option<i64> {
    let job = parts.jobs.get(id)?;
    if !job.terms.is_open() {
        return None;
    }
    let mut since_ns = job.row.created_at_ns.max(job.terms.opened_at_ns());
    for command in &job.commands {
        since_ns = since_ns.max(command.row.created_at_ns);
        if let Some(content) = command.row.content.and_then(|id| parts.contents.row(id)) {
            since_ns = since_ns.max(content.ended_at_ns?);
        }
    }
    Some(since_ns)
}

/// Seconds that the next period of a job has.
fn period_s(parts: &Parts, id: JobId) -> u64 {
    let least_s = (ns(parts.options.timeouts.wait) / NS_PER_S).max(1);
    let Some(job) = parts.jobs.get(id) else { return least_s };
    let mut times: Vec<u64> = Vec::new();
    let mut looks = 0;
    for node in &job.targets {
        let (left, rate, seen) = left_at(parts, job, *node);
        looks += seen;
        if seen > 0 {
            times.push(left / rate.max(1));
        }
        if looks >= LOOKS_MAX {
            break;
        }
    }
    times.sort_unstable();
    let place = (times.len() * 95).div_ceil(100).saturating_sub(1);
    let needed_s = times.get(place).copied().unwrap_or(0);
    needed_s.saturating_mul(2).clamp(least_s, PERIOD_MAX_S.max(least_s))
}

/// Bytes of the job that a node lacks, the rate at which they come, and the number of deliveries.
/// A rate that has just begun to grow says nothing: then the one that is planned with counts.
fn left_at(parts: &Parts, job: &Job, node: NodeId) -> (u64, u64, usize) {
    let Policy { max_rate, per_node_rate, .. } = &job.row.policy;
    let rate_max = max_rate.unwrap_or(u64::MAX).min(per_node_rate.unwrap_or(u64::MAX));
    let (mut left, mut rate, mut seen) = (0_u64, 0_u64, 0);
    for key in parts.jobs.open_of(node, job.row.id).take(LOOKS_MAX) {
        seen += 1;
        let Some(delivery) = job.delivery(key.command, node) else { continue };
        let content = parts.jobs.content_of(key).and_then(|id| parts.contents.row(id));
        let size = content.and_then(|content| content.size).unwrap_or(0);
        left = left.saturating_add(size.saturating_sub(delivery.offset));
        let moved_ns = parts.fx.now.mono_ns.saturating_sub(delivery.moved_ns);
        if delivery.state == DeliveryState::Fetching && moved_ns >= SETTLED_NS {
            rate = rate.saturating_add(delivery.rate);
        }
    }
    if rate == 0 {
        let row = parts.nodes.get(node).map(|node| &node.row);
        rate = row.map_or(1, |row| planned_rate(row.down_rate_cap, row.down_rate_seen));
        rate = rate.min(rate_max);
    }
    (left, rate, seen)
}

/// An hour: a node that gives no sign is found within it, however slow a job is.
const PERIOD_MAX_S: u64 = 3_600;
/// Nodes report a mean over some three seconds: behind a change of the source it is too low.
const SETTLED_NS: u64 = 6 * NS_PER_S;
/// Deliveries of which the time is estimated.
const LOOKS_MAX: usize = 50_000;
