//! The second hand: what happens because nothing happens.
//!
//! ```text
//! each second: nodes --silent 6 s--> suspect --15 s--> down      deadlines, windows, plans
//!              commands that a living node has not taken for 10 s are said again
//!              wait periods end, nodes that do not get on are asked and mended
//! each minute: idle jobs end, idle uploads are abandoned, old contents and answers go
//! ```
//! When the base itself stood still, nodes are not blamed for it: a gap between two ticks is taken
//! off their silence.

use crate::dist::book::answers::Answers;
use crate::dist::book::link::NS_PER_S;
use crate::dist::book::nodes::NodeId;
use crate::dist::book::options::ns;
use crate::dist::book::parts::Parts;
use crate::dist::book::presence::Presence;
use crate::dist::book::records::Job;
use crate::dist::book::relays;
use crate::dist::book::repair::Repair;
use crate::dist::book::terms::follow_windows;
use crate::dist::book::uploads::Upload;
use crate::dist::book::wait;
use crate::dist::delivery::DeliveryInput;
use crate::dist::ids::{CommandKey, ContentId, JobId, Stamp};
use crate::dist::job::JobInput;
use crate::dist::node::NodeInput;
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{DeliveryState, JobState, Reason};

/// When the book was last looked through.
#[derive(Debug)]
pub(super) struct Watch {
    ticked_ns: u64,
    swept_ns: u64,
}

impl Watch {
    pub(super) fn new(at: Stamp) -> Self {
        Self { ticked_ns: at.mono_ns, swept_ns: at.mono_ns }
    }

    /// A second has passed.
    pub(super) fn tick(&mut self, parts: &mut Parts, answers: &mut Answers) {
        let now_ns = parts.fx.now.mono_ns;
        let gap_ns = now_ns.saturating_sub(self.ticked_ns);
        self.ticked_ns = now_ns;
        let gap_ns = if gap_ns > GAP_NS { gap_ns } else { 0 };
        look_after_nodes(parts, gap_ns);
        end_overdue(parts);
        follow_windows(parts);
        wait::tick(parts, gap_ns);
        relays::tick(parts);
        parts.planner().tend();
        parts.live().tend();
        if now_ns.saturating_sub(self.swept_ns) >= SWEEP_NS {
            self.swept_ns = now_ns;
            sweep(parts);
            let (utc_ns, kept) = (parts.fx.now.utc_ns, ns(parts.options.timeouts.answer_kept));
            answers.forget(|at_ns| is_old(utc_ns, at_ns, kept));
        }
    }
}

fn look_after_nodes(parts: &mut Parts, gap_ns: u64) {
    let now_ns = parts.fx.now.mono_ns;
    let timeouts = parts.options.timeouts;
    let (suspect_ns, down_ns) = (ns(timeouts.suspect), ns(timeouts.down));
    let all: Vec<NodeId> = parts.nodes.iter().map(|(id, _)| id).collect();
    for id in all {
        let has_open = parts.jobs.open_count(id) > 0;
        let Some(node) = parts.nodes.there_mut(id) else { continue };
        node.heard_ns = node.heard_ns.saturating_add(gap_ns).min(now_ns);
        let silent_ns = now_ns.saturating_sub(node.heard_ns);
        // What was said long before the last sign of life was heard.
        let heard_ns = node.heard_ns;
        node.ends.retain(|(said_ns, _)| {
            said_ns.is_none_or(|said_ns| heard_ns < said_ns.saturating_add(ENDS_KEPT_NS))
        });
        let is_owed = has_open && now_ns.saturating_sub(node.took_ns) >= ns(timeouts.resend);
        let mut presence = Presence { parts: &mut *parts, node: id };
        if silent_ns >= down_ns {
            presence.change(NodeInput::Lost);
            // Others than active and suspect nodes are not down, but do not live either.
            parts.leave_all(id);
        } else if silent_ns >= suspect_ns {
            presence.change(NodeInput::Silent);
        } else if is_owed {
            presence.say_pending();
        }
        Repair { parts: &mut *parts, node: id }.tick(gap_ns);
    }
}

/// Jobs whose deadline has passed: what is open of them fails.
fn end_overdue(parts: &mut Parts) {
    while let Some(id) = parts.jobs.take_overdue(parts.fx.now.utc_ns) {
        let commands = parts.jobs.get(id).map(|job| job.commands.iter());
        let open = commands.into_iter().flatten().filter(|command| command.totals.open() > 0);
        let open: Vec<_> = open.map(|command| (command.row.key, command.row.content)).collect();
        parts.change_job(id, JobInput::End);
        for (key, content) in open.into_iter().rev() {
            // A live path ends at its deadline, and is completed by its receipts.
            if parts.is_of_live(key) {
                fail_dry(parts, key);
                continue;
            }
            parts.end_deliveries(key, Some(Reason::Deadline), "the job's deadline has passed");
            if let Some(mut upload) = content.and_then(|content| Upload::of(parts, content)) {
                upload.close();
            }
        }
        parts.settle(id);
    }
}

/// Fails a live path where no packet has come when its deadline passes.
fn fail_dry(parts: &mut Parts, key: CommandKey) {
    for node in parts.jobs.open_targets(key) {
        let delivery = parts.jobs.delivery(key, node);
        if delivery.is_some_and(|d| d.offset > 0 || d.state == DeliveryState::Fetching) {
            continue;
        }
        parts.advance(key, node, DeliveryInput::Fatal, |delivery| {
            delivery.reason = Some(Reason::Deadline);
            delivery.detail = Some("no packet had come when the job's deadline passed".into());
        });
        parts.nodes.say_end(node, NodeOrder::Cancel { key }, &mut parts.fx);
    }
}

/// Ends what nothing happens in, and lets go of what was kept long enough.
fn sweep(parts: &mut Parts) {
    let Stamp { mono_ns, utc_ns } = parts.fx.now;
    let timeouts = parts.options.timeouts;
    let is_idle = |since_ns: u64, wait| mono_ns.saturating_sub(since_ns) >= ns(wait);
    let uploads = parts.contents.open();
    let idle = uploads.filter(|content| is_idle(content.grew_ns, timeouts.idle_upload));
    let mut idle: Vec<ContentId> = idle.map(|content| content.row.id).collect();
    // The same rows give the same events.
    idle.sort_unstable();
    for content in idle {
        if let Some(mut upload) = Upload::of(parts, content) {
            upload.abandon();
        }
    }
    let open = parts.jobs.behind(None).filter(|job| job.row.state == JobState::Open);
    let idle = open.filter(|job| is_idle(last_use(job), timeouts.idle_job));
    let idle: Vec<JobId> = idle.map(|job| job.row.id).collect();
    for job in idle {
        parts.change_job(job, JobInput::End);
        parts.settle(job);
    }
    parts.hooks.minute();
    let kept_ns = ns(timeouts.content_kept);
    for id in parts.jobs.ended(|at_ns| is_old(utc_ns, at_ns, kept_ns)) {
        let Some(job) = parts.jobs.get(id).filter(|job| !job.is_expired) else { continue };
        if job.row.state == JobState::CompletedWithFailures {
            parts.forget_at_nodes(id);
        }
        parts.expire_contents(id);
    }
}

/// When a job was last asked for anything, or packets of a live path of it came.
fn last_use(job: &Job) -> u64 {
    let live = job.commands.iter().filter(|c| c.row.op.is_live() && c.totals.in_progress > 0);
    let came = live.flat_map(|command| &command.deliveries).map(|delivery| delivery.grew_ns);
    came.max().unwrap_or(0).max(job.touched_ns)
}

fn is_old(now_ns: i64, at_ns: i64, kept_ns: u64) -> bool {
    u64::try_from(now_ns.saturating_sub(at_ns)).is_ok_and(|age_ns| age_ns >= kept_ns)
}

/// Ticks are a second apart: the base stood still.
const GAP_NS: u64 = 3 * NS_PER_S;
const SWEEP_NS: u64 = 60 * NS_PER_S;
/// A node that lived on for this long after an end was said has heard it.
const ENDS_KEPT_NS: u64 = 60 * NS_PER_S;
