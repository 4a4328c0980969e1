//! Live paths of the server beside the agent, as its jobs want them.
//!
//! ```text
//! driver --Open, Close--> one task: jobs in order, a look at each path every half a second
//!    ^                        |            |
//!    '--Opened, Seen, Closed--'         ServerPaths (the server: its table of paths, its shards)
//! ```
//! Invariants: jobs of a path are done in the order in which they came; the path of one command is
//! never that of another one, nor one of the server's own. Bounds: `JOBS_MAX` jobs wait, then the
//! oldest are done first and the newest fails; a look has `LOOK_PATIENCE`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Event;
use crate::config::added_paths::{AddPathError, GivenPath, GivenSource, JobPath};
use crate::dist::agent::Failure;
use crate::dist::agent::live::{LiveAction, LiveEvent};
use crate::dist::ids::CommandKey;
use crate::dist::keys::VerifyKey;
use crate::dist::reflect::Sight;
use crate::dist::wire::job::Reason;

/// Live paths of the server.
pub trait ServerPaths: Send + Sync + fmt::Debug {
    /// Adds a path, or gives it other sources. Blocks for a moment.
    ///
    /// # Errors
    /// See [`SetPathError`].
    fn set(&self, path: &str, given: &GivenPath) -> Result<(), SetPathError>;

    /// Takes a path away again. Blocks for a moment.
    fn remove(&self, path: &str);

    /// What there is of a path now; `None` when the server does not say.
    fn look(&self, path: &str) -> Pin<Box<dyn Future<Output = Option<Sight>> + Send>>;

    /// Whether somebody publishes to a path that is not added yet.
    fn is_published(&self, path: &str) -> Pin<Box<dyn Future<Output = bool> + Send>>;
}

/// Why a path has not got its sources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetPathError {
    /// It cannot be.
    #[error(transparent)]
    Refused(#[from] AddPathError),
    /// A part of the server takes nothing for now.
    #[error("shard {0} of the server takes no configuration")]
    Busy(usize),
}

/// The task, as the driver has it.
#[derive(Debug)]
pub(super) struct Lives {
    jobs: mpsc::Sender<(CommandKey, LiveAction)>,
    events: mpsc::Sender<Event>,
}

impl Lives {
    /// Starts the task. It ends with the driver. Nodes with capabilities by `base_key` may read.
    pub(super) fn spawn(
        paths: Arc<dyn ServerPaths>,
        base_key: VerifyKey,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        let task = Task { paths, base_key, events: events.clone(), open: BTreeMap::new() };
        tokio::spawn(task.run(receiver));
        Self { jobs, events }
    }

    /// Has something done with the path of a command. What became of it is an event.
    pub(super) fn perform(&self, key: CommandKey, action: LiveAction) {
        if self.jobs.try_send((key, action)).is_ok() {
            return;
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            let detail = "too much is to be done with live paths at once".to_owned();
            let failed = LiveEvent::Opened(Err(Failure { reason: Reason::Io, detail }));
            let _agent_ended = events.send(Event::Live { key, event: failed }).await;
        });
    }
}

struct Task {
    paths: Arc<dyn ServerPaths>,
    base_key: VerifyKey,
    events: mpsc::Sender<Event>,
    /// Names of paths that are open.
    open: BTreeMap<CommandKey, String>,
}

impl Task {
    async fn run(mut self, mut jobs: mpsc::Receiver<(CommandKey, LiveAction)>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_told = tokio::select! {
                job = jobs.recv() => {
                    let Some((key, action)) = job else { break };
                    let event = self.perform(key, action).await;
                    self.events.send(Event::Live { key, event }).await
                }
                _ = looks.tick(), if !self.open.is_empty() => self.look_at_all().await,
            };
            if is_told.is_err() {
                break;
            }
        }
        for path in std::mem::take(&mut self.open).into_values() {
            self.paths.remove(&path);
        }
    }

    async fn perform(&mut self, key: CommandKey, action: LiveAction) -> LiveEvent {
        match action {
            LiveAction::Open { path, sources } => {
                LiveEvent::Opened(self.open(key, path, sources).await)
            }
            LiveAction::Close { path } => {
                let sight = self.look(&path).await;
                if self.open.remove(&key).is_some() {
                    self.apart(move |paths| paths.remove(&path)).await;
                }
                LiveEvent::Closed(sight)
            }
        }
    }

    async fn open(
        &mut self,
        key: CommandKey,
        path: String,
        sources: Vec<GivenSource>,
    ) -> Result<(), Failure> {
        let conflict = |detail: String| Failure { reason: Reason::PathConflict, detail };
        if !self.open.contains_key(&key) {
            if self.open.values().any(|open| *open == path) {
                return Err(conflict(format!("another job has brought the path {path} here")));
            }
            if self.paths.is_published(&path).await {
                let detail = format!("somebody publishes to the path {path} of this node");
                return Err(conflict(detail));
            }
        }
        let (base_key, name) = (*self.base_key.as_bytes(), path.clone());
        let (job, command) = (key.job.0.as_u128(), key.command.0);
        let job = Some(Arc::new(JobPath { base_key, job, command }));
        let given = GivenPath { sources, job };
        let set = self.apart(move |paths| paths.set(&name, &given)).await;
        match set {
            Some(Ok(())) => {
                self.open.insert(key, path);
                Ok(())
            }
            Some(Err(SetPathError::Refused(error))) => Err(conflict(error.to_string())),
            Some(Err(busy @ SetPathError::Busy(_))) => {
                Err(Failure { reason: Reason::Io, detail: busy.to_string() })
            }
            None => Err(Failure { reason: Reason::Io, detail: "the node ends".to_owned() }),
        }
    }

    async fn look_at_all(&self) -> Result<(), mpsc::error::SendError<Event>> {
        for (key, path) in &self.open {
            if let Some(sight) = self.look(path).await {
                let event = LiveEvent::Seen(sight);
                self.events.send(Event::Live { key: *key, event }).await?;
            }
        }
        Ok(())
    }

    async fn look(&self, path: &str) -> Option<Sight> {
        timeout(LOOK_PATIENCE, self.paths.look(path)).await.ok().flatten()
    }

    /// Runs what blocks where it holds up nobody.
    async fn apart<T: Send + 'static>(
        &self,
        f: impl FnOnce(&dyn ServerPaths) -> T + Send + 'static,
    ) -> Option<T> {
        let paths = Arc::clone(&self.paths);
        tokio::task::spawn_blocking(move || f(&*paths)).await.ok()
    }
}

/// Between two looks at a path.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A shard answers within a turn.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
/// Paths of all jobs, each opened, changed and closed.
const JOBS_MAX: usize = 1_024;
