//! A book from the rows of a ledger.
//!
//! Rows are taken as they are. What they lack (a ledger that was mended by hand) is filled in: a
//! node that a job names and no row has counts as retired, a delivery without a row as pending.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::dist::book::answers::Answers;
use crate::dist::book::care::Care;
use crate::dist::book::contents::Content;
use crate::dist::book::nodes::NodeId;
use crate::dist::book::options::ns;
use crate::dist::book::parts::Parts;
use crate::dist::book::records::{Delivery, command_at};
use crate::dist::book::terms::Tell;
use crate::dist::book::wait::Wait;
use crate::dist::ids::{CommandId, CommandKey, NodeName};
use crate::dist::rows::{DeliveryRow, Rows};
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{DeliveryState, JobState};

/// Reads rows into a book that has nothing yet.
pub(super) fn read(parts: &mut Parts, answers: &mut Answers, rows: Rows) {
    let Rows { jobs, mut commands, deliveries, nodes, contents, waits, cares, hooks, .. } = rows;
    let mut kept = rows.answers;
    let now_ns = parts.fx.now.mono_ns;
    let heard: HashMap<NodeName, i64> =
        nodes.iter().map(|row| (row.name.clone(), row.heard_at_ns)).collect();
    for row in nodes {
        parts.nodes.add(row, now_ns);
    }
    for row in jobs {
        parts.fx.saw_id(row.id.0);
        let servers = row.servers.iter();
        let nodes = servers.map(|server| parts.nodes.known_or_ghost(&server.node, now_ns));
        let targets = nodes.collect();
        parts.jobs.add(row, targets, None, now_ns);
    }
    commands.sort_unstable_by_key(|row| row.key);
    for row in commands {
        let Some(job) = parts.jobs.get(row.key.job) else { continue };
        // Numbers without a gap: one that is missing has made all behind it unusable.
        if command_at(job.commands.len()) == row.key.command {
            parts.jobs.add_command(row);
        }
    }
    for row in deliveries {
        read_delivery(parts, row);
    }
    for row in contents {
        parts.fx.saw_id(row.id.0);
        if let Some(job) = parts.jobs.get(row.key.job).filter(|_| !row.is_abandoned) {
            parts.tenants.charge(&job.row.client, row.id, row.size.unwrap_or(0));
        }
        parts.contents.insert(Content::new(row, now_ns));
    }
    let now = parts.fx.now;
    for row in waits {
        if let Some(job) = parts.jobs.get_mut(row.job).filter(|job| job.row.state.is_live()) {
            job.wait = Some(Wait::from_row(&row, now));
        }
    }
    for row in cares {
        let id = parts.nodes.id_of(&row.node);
        if let Some(node) = id.and_then(|id| parts.nodes.there_mut(id)) {
            node.care = Care::from_row(&row, now);
        }
    }
    for row in hooks {
        parts.hooks.add(row, false, parts.fx.now);
    }
    kept.sort_by_key(|row| row.at_ns);
    kept.into_iter().for_each(|row| answers.remember(row));
    catch_up(parts, &heard);
    parts.lives.hold(now_ns);
}

fn read_delivery(parts: &mut Parts, row: DeliveryRow) {
    let now_ns = parts.fx.now.mono_ns;
    let Some(node) = parts.nodes.id_of(&row.node) else { return };
    let source = row.source.and_then(|name| parts.nodes.id_of(&name));
    let delivery = Delivery {
        state: row.state,
        offset: row.offset,
        is_fresh: true,
        rate: 0,
        source,
        further: Box::default(),
        switches: row.switches,
        attempts: row.attempts,
        reason: row.reason,
        detail: row.detail.map(String::into_boxed_str),
        receipt: row.receipt.map(Box::new),
        updated_at_ns: row.updated_at_ns,
        moved_ns: now_ns,
        grew_ns: now_ns,
    };
    parts.jobs.put_delivery(row.key, node, delivery);
}

/// What follows from the rows: bytes and withdrawals of jobs, and what was not done any more when
/// the base stopped.
fn catch_up(parts: &mut Parts, heard: &HashMap<NodeName, i64>) {
    let mut ends: Vec<(i64, NodeId, NodeOrder)> = Vec::new();
    let mut orphans: Vec<(NodeId, CommandKey)> = Vec::new();
    let (mut closing, mut live) = (Vec::new(), Vec::new());
    let (now_ns, kept_ns) = (parts.fx.now.utc_ns, ns(parts.options.timeouts.content_kept));
    let Parts { jobs, nodes, contents, fx, .. } = &mut *parts;
    for job in jobs.all_mut() {
        let mut undone = Vec::new();
        for command in &job.commands {
            let key = command.row.key;
            for (node, delivery) in job.targets.iter().zip(&command.deliveries) {
                if delivery.state.is_open() {
                    let is_there = nodes.get(*node).is_some_and(|node| node.is_there());
                    orphans.extend((!is_there).then_some((*node, key)));
                } else if delivery.state != DeliveryState::Completed {
                    // Withdrawn, or failed by the base, which the node may not have heard.
                    ends.push((delivery.updated_at_ns, *node, NodeOrder::Cancel { key }));
                }
            }
            let content = command.row.content.and_then(|id| contents.row(id));
            if let Some(content) = content {
                let is_whole = content.blake3.is_some();
                let size = content.size.filter(|_| is_whole).unwrap_or(0);
                job.content_bytes = job.content_bytes.saturating_add(size);
            }
            let is_abandoned = content.is_some_and(|content| content.is_abandoned);
            let is_withdrawn = command.totals.cancelled > 0 && command.totals.open() == 0;
            if is_abandoned || is_withdrawn {
                undone.push(key.command);
            }
        }
        undone.into_iter().for_each(|command| job.undo(command));
        let (id, state) = (job.row.id, job.row.state);
        closing.extend((state == JobState::Closing).then_some(id));
        live.extend(state.is_live().then_some(id));
        let Some(ended_at) = job.row.ended_at_ns else { continue };
        let age_ns = u64::try_from(now_ns.saturating_sub(ended_at)).unwrap_or(0);
        if state == JobState::Cancelled || age_ns >= kept_ns {
            // The base may have been stopped before it removed them.
            job.is_expired = true;
            let contents = job.commands.iter().filter_map(|command| command.row.content);
            contents.for_each(|content| fx.expire(content));
        }
        if matches!(state, JobState::Completed | JobState::Cancelled) {
            let forget = NodeOrder::Forget { job: id };
            ends.extend(job.targets.iter().map(|node| (ended_at, *node, forget.clone())));
        }
    }
    for job in live {
        Tell { parts: &mut *parts, job }.renew();
    }
    for (node, key) in orphans {
        parts.fail_at_retired(key, node);
    }
    for job in closing {
        parts.settle(job);
    }
    // As they were said: the last command first, then that nothing of the job is needed.
    let last_first = |order: &NodeOrder| match order {
        NodeOrder::Cancel { key } => (false, Reverse(key.command)),
        _ => (true, Reverse(CommandId(0))),
    };
    ends.sort_by_key(|(at_ns, _, order)| (*at_ns, last_first(order)));
    for (at_ns, id, order) in ends {
        let Some(node) = parts.nodes.there_mut(id) else { continue };
        let heard_ns = heard.get(&node.row.name).copied().unwrap_or(i64::MIN);
        if at_ns >= heard_ns.saturating_sub(ENDS_MARGIN_NS) {
            node.add_end(None, order);
        }
    }
}

/// What ended up to a minute before the last sign of life may not have come through.
const ENDS_MARGIN_NS: i64 = 60_000_000_000;
