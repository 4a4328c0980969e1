//! The second hand: what happens because nothing happens.
//!
//! ```text
//! each second: nodes --silent 6 s--> suspect --15 s--> down      deadlines      plans
//!              commands that a living node has not taken for 10 s are said again
//! each minute: idle jobs end, idle uploads are abandoned, old contents and answers go
//! ```
//! When the base itself stood still, nodes are not blamed for it: a gap between two ticks is taken
//! off their silence.

use crate::dist::book::Book;
use crate::dist::book::options::ns;
use crate::dist::book::records::{NS_PER_S, NodeId};
use crate::dist::ids::{ContentId, JobId, Stamp};
use crate::dist::job::JobInput;
use crate::dist::node::NodeInput;
use crate::dist::wire::job::{DeliveryState, JobState, Reason};

impl Book {
    /// A second has passed.
    pub fn tick(&mut self, at: Stamp) {
        let gap_ns = at.mono_ns.saturating_sub(self.ticked_ns);
        self.fx.now = at;
        self.ticked_ns = at.mono_ns;
        self.look_after_nodes(if gap_ns > GAP_NS { gap_ns } else { 0 });
        self.end_overdue();
        self.tend_flows();
        if at.mono_ns.saturating_sub(self.swept_ns) >= SWEEP_NS {
            self.swept_ns = at.mono_ns;
            self.sweep();
        }
    }

    fn look_after_nodes(&mut self, gap_ns: u64) {
        let now_ns = self.fx.now.mono_ns;
        let timeouts = self.options.timeouts;
        let (suspect_ns, down_ns) = (ns(timeouts.suspect), ns(timeouts.down));
        for index in 0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX) {
            let id = NodeId(index);
            let Some(node) = self.node_at_mut(id).filter(|node| node.is_there()) else { continue };
            node.heard_ns = node.heard_ns.saturating_add(gap_ns).min(now_ns);
            let silent_ns = now_ns.saturating_sub(node.heard_ns);
            // What was said long before the last sign of life was heard.
            let heard_ns = node.heard_ns;
            node.ends.retain(|(said_ns, _)| {
                said_ns.is_none_or(|said_ns| heard_ns < said_ns.saturating_add(ENDS_KEPT_NS))
            });
            let is_owed =
                !node.open.is_empty() && now_ns.saturating_sub(node.took_ns) >= ns(timeouts.resend);
            if silent_ns >= down_ns {
                self.change_node(id, NodeInput::Lost);
                // Others than active and suspect nodes are not down, but do not live either.
                self.leave_flows(id);
            } else if silent_ns >= suspect_ns {
                self.change_node(id, NodeInput::Silent);
            } else if is_owed {
                self.say_pending(id);
            }
        }
    }

    /// Says commands again that a node has not taken.
    fn say_pending(&mut self, id: NodeId) {
        let now_ns = self.fx.now.mono_ns;
        let Some(node) = self.node_at_mut(id) else { return };
        node.took_ns = now_ns;
        for key in node.open.clone() {
            let job = self.jobs.get(&key.job);
            let state = job.and_then(|job| job.delivery(key.command, id)).map(|d| d.state);
            if state == Some(DeliveryState::Pending) {
                self.say_command(key, id);
            }
        }
    }

    /// Jobs whose deadline has passed: what is open of them fails.
    fn end_overdue(&mut self) {
        let now_ns = self.fx.now.utc_ns;
        while let Some((deadline, id)) = self.deadlines.first().copied() {
            if deadline > now_ns {
                return;
            }
            self.deadlines.pop_first();
            let Some(job) = self.jobs.get(&id).filter(|job| job.row.state.is_live()) else {
                continue;
            };
            let commands = job.commands.iter();
            let open = commands.filter(|command| command.totals.open() > 0);
            let open: Vec<_> = open.map(|command| (command.row.key, command.row.content)).collect();
            self.change_job(id, JobInput::End);
            for (key, content) in open {
                self.end_deliveries(key, Some(Reason::Deadline), "the job's deadline has passed");
                if let Some(content) = content {
                    self.close_upload(content);
                }
            }
            self.settle(id);
        }
    }

    fn sweep(&mut self) {
        let Stamp { mono_ns, utc_ns } = self.fx.now;
        let timeouts = self.options.timeouts;
        let is_idle = |since_ns: u64, wait| mono_ns.saturating_sub(since_ns) >= ns(wait);
        let idle_uploads: Vec<ContentId> = self
            .contents
            .values()
            .filter(|content| content.row.ended_at_ns.is_none())
            .filter(|content| is_idle(content.grew_ns, timeouts.idle_upload))
            .map(|content| content.row.id)
            .collect();
        for content in idle_uploads {
            self.abandon(content);
        }
        let idle_jobs: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.row.state == JobState::Open)
            .filter(|(_, job)| is_idle(job.touched_ns, timeouts.idle_job))
            .map(|(id, _)| *id)
            .collect();
        for job in idle_jobs {
            self.change_job(job, JobInput::End);
            self.settle(job);
        }
        let is_old = |at_ns: i64, kept| {
            u64::try_from(utc_ns.saturating_sub(at_ns)).is_ok_and(|age_ns| age_ns >= ns(kept))
        };
        let ended =
            self.ended.iter().take_while(|(at_ns, _)| is_old(*at_ns, timeouts.content_kept));
        let old: Vec<JobId> = ended.map(|(_, id)| *id).collect();
        for id in old {
            let Some(job) = self.jobs.get(&id).filter(|job| !job.is_expired) else { continue };
            if job.row.state == JobState::CompletedWithFailures {
                self.forget_at_nodes(id);
            }
            self.expire_contents(id);
        }
        self.answers.forget(|at_ns| is_old(at_ns, timeouts.answer_kept));
    }
}

/// Ticks are a second apart: the base stood still.
const GAP_NS: u64 = 3 * NS_PER_S;
const SWEEP_NS: u64 = 60 * NS_PER_S;
/// A node that lived on for this long after an end was said has heard it.
const ENDS_KEPT_NS: u64 = 60 * NS_PER_S;
