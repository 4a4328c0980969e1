//! What notifications have to do with jobs, nodes and the chain of events.
//!
//! Invariant: an event and what it is for a receiver are in one batch of changes, so in one commit.

use std::collections::BTreeSet;

use serde_json::json;

use crate::dist::book::effects::About;
use crate::dist::book::hooks::{HookReport, JobFate, Settled};
use crate::dist::book::parts::Parts;
use crate::dist::ids::{JobId, NodeName};
use crate::dist::rows::Change;
use crate::dist::wire::job::{EventView, JobState};

/// Notes events that are about to be written, and adds rows of notifications to them.
pub(super) fn note(parts: &mut Parts, changes: &mut Vec<Change>) {
    let now = parts.fx.now;
    if parts.hooks.count() == 0 {
        return;
    }
    let down: Vec<NodeName> = events(changes)
        .filter(|event| event.kind == NODE_DOWN && event.job.is_none())
        .filter_map(|event| event.node.clone())
        .collect();
    for node in down {
        node_is_down(parts, &node);
    }
    changes.extend(parts.fx.take_changes());
    for event in events(changes) {
        parts.hooks.note(event, now);
    }
    // The last event of a job may be among them.
    if parts.hooks.take_sweep() {
        sweep(parts);
    }
    changes.extend(parts.hooks.take_changed().map(Change::Hook));
}

/// Clients that are told of failures learn of a node at which something of theirs is open.
fn node_is_down(parts: &mut Parts, name: &NodeName) {
    let Some(node) = parts.nodes.id_of(name) else { return };
    let jobs: BTreeSet<JobId> = parts.jobs.open_at(node).into_iter().map(|key| key.job).collect();
    for job in parts.hooks.wants_failures(&jobs) {
        parts.fx.event("job.node_down", About::node_of_job(job, name), json!({}));
    }
}

/// Takes the end of an attempt; what a client has to know of it later is an event.
pub(super) fn settle(parts: &mut Parts, report: HookReport) {
    let (hook, now) = (report.hook, parts.fx.now);
    let settled = parts.hooks.settle(report, &parts.options.timeouts, now);
    let (kind, detail) = match settled {
        Settled::Nothing => return,
        Settled::Told { url, attempts } => {
            ("webhook.delivered", json!({"hook": hook.hook, "url": url, "attempts": attempts}))
        }
        Settled::Dropped { url, count } => {
            ("webhook.dropped", json!({"hook": hook.hook, "url": url, "events": count}))
        }
        Settled::Disabled { url, count } => {
            ("webhook.disabled", json!({"hook": hook.hook, "url": url, "events": count}))
        }
    };
    parts.fx.event(kind, About::job(hook.job), detail);
}

/// Ends notifications of jobs of which nothing follows.
fn sweep(parts: &mut Parts) {
    let jobs = &parts.jobs;
    parts.hooks.sweep(|id| match jobs.get(id).map(|job| job.row.state) {
        None => JobFate::Gone,
        Some(JobState::Denied | JobState::Completed | JobState::Cancelled) => JobFate::Ended,
        Some(
            JobState::Requested
            | JobState::Open
            | JobState::Closing
            | JobState::CompletedWithFailures,
        ) => JobFate::Open,
    });
}

fn events(changes: &[Change]) -> impl Iterator<Item = &EventView> {
    changes.iter().filter_map(|change| match change {
        Change::Event(event) => Some(event),
        _ => None,
    })
}

const NODE_DOWN: &str = "node.down";
