//! Live paths of the server beside the agent, as its jobs want them.
//!
//! ```text
//! driver --Open, Close--> what is wanted of each path --> one task, and a look at each path
//!    ^                                                    |      |     every half a second
//!    '--Opened, Seen, Closed------------------------------'   ServerPaths (the server: its table
//!                                                             of paths, its shards)
//! ```
//! What is wanted last of a path takes the place of what was wanted before and is not done yet, so
//! nothing is refused for want of room, and no `Close` is lost. Paths are closed before others are
//! opened. A path that is open keeps the sources that it has while a part of the server takes no
//! configuration, and is given the new ones at the next look. Another capability for the same
//! sources goes past the configuration of the server: it cannot fail.
//!
//! Invariant: the path of one command is never that of another one, nor one of the server's own.
//! Bounds: one thing is wanted of each live command; a look has `LOOK_PATIENCE`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Event;
use crate::config::added_paths::{AddPathError, GivenPath, GivenSource, JobPath, ShownCapability};
use crate::dist::agent::Failure;
use crate::dist::agent::live::{LiveAction, LiveEvent};
use crate::dist::ids::CommandKey;
use crate::dist::keys::VerifyKey;
use crate::dist::reflect::{LiveList, Sight};
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
    wanted: Arc<Wanted>,
    /// Something is wanted. The task ends when it is dropped.
    bell: mpsc::Sender<()>,
}

/// What is to be done yet with the path of each command.
#[derive(Debug, Default)]
struct Wanted(Mutex<BTreeMap<CommandKey, LiveAction>>);

impl Wanted {
    fn put(&self, key: CommandKey, action: LiveAction) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, action);
    }

    /// The first that ends, or the first of all.
    fn take(&self) -> Option<(CommandKey, LiveAction)> {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ends =
            wanted.iter().filter(|(_, action)| matches!(action, LiveAction::Close { .. }));
        let key = ends.next().or_else(|| wanted.first_key_value()).map(|(key, _)| *key)?;
        wanted.remove_entry(&key)
    }

    /// Puts back what could not be done, where nothing newer is wanted.
    fn put_back(&self, key: CommandKey, action: LiveAction) {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.entry(key).or_insert(action);
    }
}

impl Lives {
    /// Starts the task. It ends with the driver. Nodes with capabilities by `base_key` may read.
    pub(super) fn spawn(
        paths: Arc<dyn ServerPaths>,
        base_key: VerifyKey,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (bell, bells) = mpsc::channel(1);
        let wanted = Arc::<Wanted>::default();
        let task =
            Task { paths, base_key, events, wanted: Arc::clone(&wanted), open: BTreeMap::new() };
        tokio::spawn(task.run(bells));
        Self { wanted, bell }
    }

    /// Has something done with the path of a command. What became of it is an event.
    pub(super) fn perform(&self, key: CommandKey, action: LiveAction) {
        self.wanted.put(key, action);
        // One that was rung and not heard yet is enough.
        let _is_rung = self.bell.try_send(());
    }
}

struct Task {
    paths: Arc<dyn ServerPaths>,
    base_key: VerifyKey,
    events: mpsc::Sender<Event>,
    wanted: Arc<Wanted>,
    open: BTreeMap<CommandKey, OpenPath>,
}

/// A path that the server has.
struct OpenPath {
    path: String,
    /// URLs of its sources, and whether they are shown the capability.
    sources: Vec<(String, bool)>,
    capability: ShownCapability,
}

/// Why a path has not the sources that it is to have.
enum OpenError {
    /// It has none.
    Closed(Failure),
    /// It has those from before, and no other ones for now.
    Busy(SetPathError),
}

impl Task {
    async fn run(mut self, mut bells: mpsc::Receiver<()>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_told = tokio::select! {
                bell = bells.recv() => match bell {
                    Some(()) => self.do_all().await,
                    None => break,
                },
                _ = looks.tick(), if !self.open.is_empty() => self.look_at_all().await,
            };
            if is_told.is_err() {
                break;
            }
        }
        for open in std::mem::take(&mut self.open).into_values() {
            self.paths.remove(&open.path);
        }
    }

    /// Does what is wanted. What a part of the server does not take is done at the next look.
    async fn do_all(&mut self) -> Result<(), mpsc::error::SendError<Event>> {
        let mut later = Vec::new();
        while let Some((key, action)) = self.wanted.take() {
            let event = match action {
                LiveAction::Open { path, list } => match self.open(key, &path, &list).await {
                    Ok(()) => LiveEvent::Opened(Ok(())),
                    Err(OpenError::Closed(failure)) => LiveEvent::Opened(Err(failure)),
                    Err(OpenError::Busy(error)) => {
                        tracing::debug!(path, %error, "the path keeps the sources that it has");
                        later.push((key, LiveAction::Open { path, list }));
                        continue;
                    }
                },
                LiveAction::Close { path } => {
                    let sight = self.look(&path).await;
                    if self.open.remove(&key).is_some() {
                        self.apart(move |paths| paths.remove(&path)).await;
                    }
                    LiveEvent::Closed(sight)
                }
            };
            self.events.send(Event::Live { key, event }).await?;
        }
        for (key, action) in later {
            self.wanted.put_back(key, action);
        }
        Ok(())
    }

    /// Gives a path a list of sources. Its server is asked where the list has other sources.
    async fn open(
        &mut self,
        key: CommandKey,
        path: &str,
        list: &LiveList,
    ) -> Result<(), OpenError> {
        let sources = list.sources.iter();
        let sources: Vec<(String, bool)> =
            sources.map(|source| (source.url.clone(), list.shown_to(source).is_some())).collect();
        let known = self.open.get(&key);
        if known.is_none() {
            self.check_free(path).await.map_err(OpenError::Closed)?;
        }
        let capability = known.map(|known| known.capability.clone()).unwrap_or_default();
        capability.set(list.capability.clone());
        if known.is_some_and(|known| known.sources == sources) {
            return Ok(());
        }
        let given = self.given(key, &sources, &capability);
        let name = path.to_owned();
        let set = self.apart(move |paths| paths.set(&name, &given)).await;
        match set {
            Some(Ok(())) => {
                let path = path.to_owned();
                self.open.insert(key, OpenPath { path, sources, capability });
                Ok(())
            }
            Some(Err(busy @ SetPathError::Busy(_))) if self.open.contains_key(&key) => {
                Err(OpenError::Busy(busy))
            }
            Some(Err(busy @ SetPathError::Busy(_))) => {
                Err(OpenError::Closed(Failure { reason: Reason::Io, detail: busy.to_string() }))
            }
            Some(Err(SetPathError::Refused(error))) => {
                Err(OpenError::Closed(conflict(error.to_string())))
            }
            None => {
                let detail = "the node ends".to_owned();
                Err(OpenError::Closed(Failure { reason: Reason::Io, detail }))
            }
        }
    }

    /// No other job and no publisher has a path.
    async fn check_free(&self, path: &str) -> Result<(), Failure> {
        if self.open.values().any(|open| open.path == path) {
            return Err(conflict(format!("another job has brought the path {path} here")));
        }
        if self.paths.is_published(path).await {
            return Err(conflict(format!("somebody publishes to the path {path} of this node")));
        }
        Ok(())
    }

    /// What the server is given of a path.
    fn given(
        &self,
        key: CommandKey,
        sources: &[(String, bool)],
        capability: &ShownCapability,
    ) -> GivenPath {
        let source = |(url, is_shown): &(String, bool)| GivenSource {
            url: url.clone(),
            capability: is_shown.then(|| capability.clone()),
        };
        let base_key = *self.base_key.as_bytes();
        let (job, command) = (key.job.0.as_u128(), key.command.0);
        let job = Some(Arc::new(JobPath { base_key, job, command }));
        GivenPath { sources: sources.iter().map(source).collect(), job }
    }

    /// Looks at each path, and does what could not be done before.
    async fn look_at_all(&mut self) -> Result<(), mpsc::error::SendError<Event>> {
        self.do_all().await?;
        for (key, open) in &self.open {
            if let Some(sight) = self.look(&open.path).await {
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

fn conflict(detail: String) -> Failure {
    Failure { reason: Reason::PathConflict, detail }
}

/// Between two looks at a path.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A shard answers within a turn.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::sync::Notify;
    use uuid::Uuid;

    use super::*;
    use crate::base::secret::Secret;
    use crate::dist::ids::{CommandId, JobId, NodeName};
    use crate::dist::keys::BaseKeys;
    use crate::dist::wire::agent::LiveSource;

    /// A server that writes down what it is told.
    #[derive(Debug, Default)]
    struct Server {
        state: Mutex<ServerState>,
        /// Something was refused.
        refused: Notify,
    }

    #[derive(Debug, Default)]
    struct ServerState {
        done: Vec<String>,
        last: Option<GivenPath>,
        is_busy: bool,
    }

    impl Server {
        fn state(&self) -> std::sync::MutexGuard<'_, ServerState> {
            self.state.lock().unwrap()
        }

        /// What the first source is shown now.
        fn shown(&self) -> Option<Secret> {
            let state = self.state();
            let source = state.last.as_ref().and_then(|given| given.sources.first());
            source.and_then(|source| source.capability.as_ref()).and_then(ShownCapability::now)
        }
    }

    impl ServerPaths for Server {
        fn set(&self, path: &str, given: &GivenPath) -> Result<(), SetPathError> {
            let mut state = self.state();
            if state.is_busy {
                state.done.push(format!("busy {path}"));
                self.refused.notify_one();
                return Err(SetPathError::Busy(1));
            }
            let urls: Vec<&str> = given.sources.iter().map(|source| source.url.as_str()).collect();
            state.done.push(format!("set {path} {}", urls.join(" ")));
            state.last = Some(given.clone());
            Ok(())
        }

        fn remove(&self, path: &str) {
            self.state().done.push(format!("remove {path}"));
        }

        fn look(&self, _: &str) -> Pin<Box<dyn Future<Output = Option<Sight>> + Send>> {
            Box::pin(ready(None))
        }

        fn is_published(&self, _: &str) -> Pin<Box<dyn Future<Output = bool> + Send>> {
            Box::pin(ready(false))
        }
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Rig {
        lives: Lives,
        server: Arc<Server>,
        events: mpsc::Receiver<Event>,
    }

    impl Rig {
        fn new() -> Self {
            let (sender, events) = mpsc::channel(16);
            let server = Arc::<Server>::default();
            let paths: Arc<dyn ServerPaths> = Arc::<Server>::clone(&server);
            let lives = Lives::spawn(paths, BaseKeys::from_bytes(&[7; 32]).verify_key(), sender);
            Self { lives, server, events }
        }

        fn open(&self, command: u32, nodes: &[&str], capability: &str) {
            let source = |node: &&str| LiveSource {
                node: Some(NodeName::new(node).unwrap()),
                url: format!("rtsp://{node}/x"),
                takes_capability: true,
            };
            let sources = nodes.iter().map(source).collect();
            let list = LiveList { sources, capability: Some(Secret::new(capability)) };
            self.lives.perform(key(command), LiveAction::Open { path: "x".to_owned(), list });
        }

        fn close(&self, command: u32) {
            self.lives.perform(key(command), LiveAction::Close { path: "x".to_owned() });
        }

        /// The command and the event that comes next.
        async fn next(&mut self) -> String {
            let event = timeout(PATIENCE, self.events.recv()).await;
            let Some(Event::Live { key, event }) = event.expect("an event") else { panic!("none") };
            let word = match event {
                LiveEvent::Opened(Ok(())) => "opened".to_owned(),
                LiveEvent::Opened(Err(failure)) => format!("{:?}", failure.reason),
                LiveEvent::Seen(_) => "seen".to_owned(),
                LiveEvent::Closed(_) => "closed".to_owned(),
            };
            format!("{} {word}", key.command.0)
        }

        fn done(&self) -> Vec<String> {
            std::mem::take(&mut self.server.state().done)
        }
    }

    fn key(command: u32) -> CommandKey {
        CommandKey { job: JobId(Uuid::nil()), command: CommandId(command) }
    }

    /// Each renewal was another configuration of the whole server, on every shard.
    #[tokio::test]
    async fn another_capability_is_shown_and_configures_nothing() {
        let mut rig = Rig::new();
        rig.open(1, &["a", "b"], "hdl_1");
        assert_eq!(
            (rig.next().await, rig.done()),
            ("1 opened".into(), vec!["set x rtsp://a/x rtsp://b/x".into()])
        );
        assert_eq!(rig.server.shown(), Some(Secret::new("hdl_1")));
        // Nor can it fail when nothing can be configured.
        rig.server.state().is_busy = true;
        for renewed in ["hdl_2", "hdl_3"] {
            rig.open(1, &["a", "b"], renewed);
            assert_eq!((rig.next().await, rig.done()), ("1 opened".into(), vec![]));
            assert_eq!(rig.server.shown(), Some(Secret::new(renewed)));
        }
        rig.close(1);
        assert_eq!((rig.next().await, rig.done()), ("1 closed".into(), vec!["remove x".into()]));
    }

    /// A shard without room for a new list of sources had the path taken away under its readers.
    #[tokio::test]
    async fn path_that_flows_keeps_its_sources_until_the_server_takes_others() {
        let mut rig = Rig::new();
        rig.server.state().is_busy = true;
        rig.open(1, &["a"], "hdl_1");
        assert_eq!(rig.next().await, "1 Io", "it has none");
        rig.server.state().is_busy = false;
        rig.open(1, &["a"], "hdl_1");
        assert_eq!(rig.next().await, "1 opened");
        rig.done();
        rig.server.state().is_busy = true;
        rig.open(1, &["b"], "hdl_2");
        for _ in 0..2 {
            timeout(PATIENCE, rig.server.refused.notified()).await.expect("another try");
        }
        assert!(rig.events.try_recv().is_err(), "nobody need know");
        let done = rig.done();
        assert!(done.iter().all(|done| done == "busy x"), "{done:?}");
        assert_eq!(rig.server.shown(), Some(Secret::new("hdl_2")), "to the sources that it has");
        rig.server.state().is_busy = false;
        assert_eq!(rig.next().await, "1 opened");
        assert_eq!(rig.done(), ["set x rtsp://b/x"]);
        // The end takes the place of what could not be done.
        rig.server.state().is_busy = true;
        rig.open(1, &["c"], "hdl_2");
        rig.close(1);
        assert_eq!(rig.next().await, "1 closed");
        assert_eq!(rig.done().last().unwrap(), "remove x");
    }

    /// A `Close` that found no room in a queue was answered as an `Open` that failed.
    #[tokio::test]
    async fn no_end_is_lost_and_ends_come_before_beginnings() {
        let mut rig = Rig::new();
        rig.open(2, &["a"], "hdl_1");
        assert_eq!(rig.next().await, "2 opened");
        // Nothing is heard before the next `await`.
        for other in 10..3_000 {
            rig.close(other);
        }
        rig.open(1, &["a"], "hdl_1");
        rig.close(2);
        assert_eq!(rig.next().await, "2 closed", "the first that ends");
        for other in 10..3_000 {
            assert_eq!(rig.next().await, format!("{other} closed"));
        }
        assert_eq!(rig.next().await, "1 opened", "the path is free");
        assert_eq!(rig.done(), ["set x rtsp://a/x", "remove x", "set x rtsp://a/x"]);
        rig.open(3, &["a"], "hdl_1");
        assert_eq!(rig.next().await, "3 PathConflict");
    }
}
