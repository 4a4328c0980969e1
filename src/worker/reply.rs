//! The duty to answer a task.
//!
//! Invariant: a reply is given exactly once: by `send`, or, when the task panicked, was cut short
//! or was never begun, by `drop`. Sockets stay suspended until the outcome of their task is back,
//! so a task without an answer would be a client that hangs.

use std::fmt;
use std::sync::Arc;

use crate::access::question::Answer;
use crate::base::ids::ShardId;
use crate::metrics::cells::{TaskKind, WorkerCells};
use crate::poll::task::{
    DescriptionFailure, ImageFailure, OpenFailure, Outcome, ResolveFailure, Task, TaskDone,
    TaskOwner, WindowFailure, Work,
};

/// Hands an outcome to a shard: its inbox's push. Called on worker threads.
pub type Deliver = dyn Fn(ShardId, TaskDone) + Send + Sync;

/// Where answers go.
pub(super) struct Desk {
    pub(super) deliver: Arc<Deliver>,
    pub(super) counts: Arc<WorkerCells>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// The duty to answer one task. Dropped without an answer, it answers that the task failed.
#[derive(Debug)]
pub(super) struct Reply {
    desk: Arc<Desk>,
    shard: ShardId,
    owner: TaskOwner,
    /// The answer, given on drop: a failure until `send` puts the outcome here.
    outcome: Option<Outcome>,
}

impl Reply {
    pub(super) fn new(desk: &Arc<Desk>, task: &Task) -> Self {
        let outcome = match task.work {
            Work::Open { .. } | Work::Adopt(_) => {
                Outcome::Opened(Err(OpenFailure::Unavailable(GAVE_UP.into())))
            }
            Work::Resolve { .. } => Outcome::Resolved(Err(ResolveFailure::Name(GAVE_UP.into()))),
            Work::Window { .. } => Outcome::Window(Err(WindowFailure::Unreadable(GAVE_UP.into()))),
            Work::WindowBytes { .. } => {
                Outcome::WindowBytes(Err(WindowFailure::Unreadable(GAVE_UP.into())))
            }
            Work::Image { .. } => Outcome::Image(Err(ImageFailure::Busy)),
            Work::Judge(_) => Outcome::Judged(Answer::Unavailable),
            Work::ReadDescription { .. } => Outcome::Described(Err(DescriptionFailure::Busy)),
        };
        Self {
            desk: Arc::clone(desk),
            shard: task.shard,
            owner: task.owner,
            outcome: Some(outcome),
        }
    }

    /// Gives the answer.
    pub(super) fn send(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            let (kind, is_failure) = match &outcome {
                Outcome::Opened(result) => (TaskKind::Open, result.is_err()),
                Outcome::Resolved(result) => (TaskKind::Resolve, result.is_err()),
                Outcome::Window(result) => (TaskKind::Window, result.is_err()),
                Outcome::WindowBytes(result) => (TaskKind::Window, result.is_err()),
                // What cannot be had is no failure: nobody waits for it.
                Outcome::Image(_) => (TaskKind::Image, false),
                Outcome::Judged(answer) => (TaskKind::Judge, *answer == Answer::Unavailable),
                Outcome::Described(result) => (TaskKind::Describe, result.is_err()),
            };
            let counts = &self.desk.counts;
            counts.tasks_done[kind as usize].add(1);
            counts.tasks_failed[kind as usize].add(u64::from(is_failure));
            (self.desk.deliver)(self.shard, TaskDone { owner: self.owner, outcome });
        }
    }
}

const GAVE_UP: &str = "the worker gave up on this task; the log says why";

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::poll::task::TaskClass;

    /// A desk that keeps what was delivered.
    pub(in crate::worker) fn desk() -> (Arc<Desk>, Arc<Mutex<Vec<TaskDone>>>) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let inbox = Arc::clone(&kept);
        let deliver = Arc::new(move |_shard, done| inbox.lock().unwrap().push(done));
        (Arc::new(Desk { deliver, counts: Arc::default() }), kept)
    }

    pub(in crate::worker) fn open_reply(desk: &Arc<Desk>, number: u64) -> Reply {
        let work = Work::Open { name: None };
        Reply::new(
            desk,
            &Task {
                shard: ShardId(0),
                owner: TaskOwner::numbered(number),
                class: TaskClass::Control,
                work,
            },
        )
    }

    #[test]
    fn reply_is_given_once_and_a_dropped_one_is_a_failure() {
        let (desk, kept) = desk();
        open_reply(&desk, 1).send(Outcome::Opened(Err(OpenFailure::NotFound)));
        drop(open_reply(&desk, 2));
        let kept = kept.lock().unwrap();
        assert_eq!(kept.iter().map(|done| done.owner.number()).collect::<Vec<_>>(), [1, 2]);
        assert!(matches!(kept[0].outcome, Outcome::Opened(Err(OpenFailure::NotFound))));
        assert!(matches!(kept[1].outcome, Outcome::Opened(Err(OpenFailure::Unavailable(_)))));
        assert_eq!(desk.counts.tasks_done[0].value(), 2);
    }
}
