//! The configuration read again while the appliance runs, and paths that are added to it: what is
//! said of paths, users and tokens is applied.
//!
//! ```text
//!  agent of a node --added paths--.
//!  SIGHUP, POST /v1/config:reload --> file, environment, flags --check--> table of paths
//!       --> every shard: paths about which something else is said  (the rest: named, not applied)
//! ```
//! Invariants: a configuration that is wrong changes nothing; one reading at a time; what shards go
//! by is what the last reading that succeeded said. Bound: that of the file.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::operators;
use super::playlists::PlaylistStore;
use crate::agent::live::SetPathError;
use crate::cli::missing;
use crate::config::Config;
use crate::config::added_paths::{AddedPaths, GivenPath};
use crate::config::paths::PathTable;
use crate::http::operators::Operators;
use crate::http::{Reload, ReloadError, ReloadReport};
use crate::library::Library;
use crate::poll::poller::Poller;
use crate::shard::inbox::{Inbox, Message};

/// Reads file, environment and flags again; an error is one sentence.
pub type ReadAgain = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Reads the configuration again and applies it to the shards.
pub(super) struct Reloader {
    read: Option<ReadAgain>,
    /// What counts outside of `[path]` until the next start.
    started: Config,
    paths: Mutex<Paths>,
    playlists: Arc<PlaylistStore>,
    library: Arc<Library>,
    operators: Operators,
}

/// What is said of paths.
#[derive(Debug)]
struct Paths {
    /// By the file.
    file: Arc<PathTable>,
    /// By the agent of a node.
    added: AddedPaths,
    /// What the shards go by: both, and edits of playlists.
    table: Arc<PathTable>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Reloader {
    /// Without `read` there is no file to be read again.
    pub(super) fn new(
        started: Config,
        read: Option<ReadAgain>,
        (playlists, library): (Arc<PlaylistStore>, Arc<Library>),
        operators: Operators,
    ) -> Self {
        let (file, table) = (Arc::clone(&started.paths), playlists.restore(&started.paths));
        let paths = Mutex::new(Paths { file, added: AddedPaths::default(), table });
        Self { read, started, paths, playlists, library, operators }
    }

    /// Whether there is a file to be read again.
    pub(super) fn is_reloadable(&self) -> bool {
        self.read.is_some()
    }

    /// Reads, checks, and tells the shards. Blocks on the disk.
    pub(super) fn reload(&self, poller: &Poller<Inbox>) -> Result<Reload, ReloadError> {
        let read = self.read.as_ref().ok_or(ReloadError::NoFile)?;
        // Held for the whole of it: two readings one after the other, and shards in their order.
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read().and_then(|new| Ok((operators::read(&new)?, new)));
        let read = read.map_err(ReloadError::Refused);
        let (tokens, new) = read.inspect_err(|error| {
            let fix = "mend the file and reload again; headend config check -c FILE says the same";
            tracing::error!(code = "HE-E403", %error, fix, "the running configuration stays");
        })?;
        let table = paths.added.table(&self.playlists.restore(&new.paths));
        let mut warnings = new.warnings();
        warnings.extend(missing::warnings(&new.paths, &self.library));
        let report = ReloadReport {
            paths: paths.file.changes(&new.paths),
            needs_restart: self.started.changed_keys(&new),
            warnings,
        };
        let applied = apply(poller, &table, &paths.table);
        let applied = applied.map_err(|shard| ReloadError::Busy { shard })?;
        (paths.file, paths.table) = (Arc::clone(&new.paths), table);
        self.playlists.drop_others(&new.paths);
        self.operators.replace(tokens);
        tell_log(&report);
        Ok(Reload { report, applied })
    }

    /// Reads edits of playlists again, which a process before this one may have kept since. The
    /// shards wait so far.
    ///
    /// # Errors
    /// A shard does not take it.
    pub(super) fn restore_playlists(&self, poller: &Poller<Inbox>) -> Result<(), String> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let table = paths.added.table(&self.playlists.restore(&paths.file));
        if table.edited_playlists == paths.table.edited_playlists {
            return Ok(());
        }
        let told = tell_shards(poller, &table);
        told.map_err(|shard| format!("shard {shard} does not take the edits of playlists"))?;
        paths.table = table;
        Ok(())
    }

    /// This process serves, and what it was started with is in force: files that nobody needs go.
    pub(super) fn begin(&self) {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        self.playlists.drop_unfinished();
        self.playlists.drop_others(&paths.file);
    }

    /// What the file says of paths.
    pub(super) fn file_paths(&self) -> Arc<PathTable> {
        Arc::clone(&self.paths.lock().unwrap_or_else(PoisonError::into_inner).file)
    }

    /// Adds a path to those of the file, or gives it other sources, and tells the shards.
    pub(super) fn add_path(
        &self,
        poller: &Poller<Inbox>,
        path: &str,
        given: &GivenPath,
    ) -> Result<(), SetPathError> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let mut added = paths.added.clone();
        added.set(&paths.file, path, given)?;
        self.change_added(poller, &mut paths, added).map_err(SetPathError::Busy)
    }

    /// Takes a path that was added away again.
    pub(super) fn remove_path(&self, poller: &Poller<Inbox>, path: &str) {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let mut added = paths.added.clone();
        // What a shard does not take goes with the next change.
        if added.remove(path) && self.change_added(poller, &mut paths, added.clone()).is_err() {
            paths.added = added;
        }
    }

    /// The URL of the source, of a path that was added, whose path has this name.
    pub(super) fn added_url(&self, path: &str, source_path: &str) -> Option<String> {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.added.url_of(path, source_path).map(str::to_owned)
    }

    /// The shards go by the file and by this. The error is a shard that does not take it.
    fn change_added(
        &self,
        poller: &Poller<Inbox>,
        paths: &mut Paths,
        added: AddedPaths,
    ) -> Result<(), usize> {
        let table = added.table(&self.playlists.restore(&paths.file));
        apply(poller, &table, &paths.table)?;
        (paths.added, paths.table) = (added, table);
        Ok(())
    }
}

/// Gives all shards a new table, or none. The error is a shard that does not take it.
fn apply(
    poller: &Poller<Inbox>,
    new: &Arc<PathTable>,
    before: &Arc<PathTable>,
) -> Result<Vec<oneshot::Receiver<()>>, usize> {
    tell_shards(poller, new).inspect_err(|shard| {
        let refused = *shard;
        tracing::error!(code = "HE-E404", shard, "a shard does not take the configuration");
        for shard in take_back(poller, refused, before) {
            let fix = "reload again, or restart the server when that is refused too";
            tracing::error!(code = "HE-E404", shard, fix, "it goes by another configuration");
        }
    })
}

/// Gives all shards the table. The error is the first one that does not take it: those before it
/// have the table, and those behind it were not told.
fn tell_shards(
    poller: &Poller<Inbox>,
    paths: &Arc<PathTable>,
) -> Result<Vec<oneshot::Receiver<()>>, usize> {
    let inboxes = poller.inboxes().chain(poller.guest()).enumerate();
    inboxes.map(|(shard, inbox)| tell_shard(inbox, paths).ok_or(shard)).collect()
}

/// All shards or none: those before `refused` go back to what they went by. Room in an inbox cannot
/// be kept, so one of them may not take that any more, and then it goes by the new table until the
/// next reading. Returns those.
fn take_back(poller: &Poller<Inbox>, refused: usize, paths: &Arc<PathTable>) -> Vec<usize> {
    let told = poller.inboxes().chain(poller.guest()).enumerate().take(refused);
    told.filter(|(_, inbox)| tell_shard(inbox, paths).is_none()).map(|(shard, _)| shard).collect()
}

/// Gives one shard the table, if it takes it.
fn tell_shard(inbox: &Inbox, paths: &Arc<PathTable>) -> Option<oneshot::Receiver<()>> {
    let (done, is_done) = oneshot::channel();
    let done = Box::new(move || {
        let _nobody_waits = done.send(());
    });
    let message = Message::Configure { paths: Arc::clone(paths), done };
    push_patiently(inbox, message).is_ok().then_some(is_done)
}

/// Pushes a message into an inbox that may be full for a moment.
///
/// # Errors
/// Hands it back when the shard does not read its inbox at all.
pub(super) fn push_patiently(inbox: &Inbox, message: Message) -> Result<(), Message> {
    let mut message = message;
    for _ in 0..PUSHES_MAX {
        match inbox.push(message) {
            Ok(()) => return Ok(()),
            Err(back) => message = back,
        }
        std::thread::yield_now();
    }
    Err(message)
}

/// The code in parentheses with which the sentence of a warning ends.
fn code_of(warning: &str) -> Option<&str> {
    let code = warning.strip_suffix(')')?.rsplit_once('(')?.1;
    Some(code).filter(|code| code.starts_with("HE-"))
}

fn tell_log(report: &ReloadReport) {
    let paths = &report.paths;
    tracing::info!(
        code = "HE-I402",
        added = paths.added.len(),
        changed = paths.changed.len(),
        removed = paths.removed.len(),
        others_changed = paths.are_others_changed,
        access_changed = paths.is_access_changed,
        "the configuration was read again"
    );
    for warning in &report.warnings {
        tracing::warn!(code = code_of(warning), "{warning}");
    }
    if !report.needs_restart.is_empty() {
        let keys = report.needs_restart.join(", ");
        tracing::warn!(code = "HE-W107", keys, "changed keys count from the next start on");
    }
}

/// A shard that does not read its inbox for this long hangs.
const PUSHES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::added_paths::GivenSource;

    fn poller() -> Poller<Inbox> {
        Poller::new(vec![Arc::new(Inbox::new(1).unwrap()), Arc::new(Inbox::new(1).unwrap())])
    }

    fn kept() -> (Arc<PlaylistStore>, Arc<Library>) {
        (Arc::default(), Arc::new(Library::new(None).unwrap()))
    }

    fn nobody() -> Operators {
        Operators::new(Vec::new())
    }

    /// Reads these files, one after the other.
    fn reloader(texts: &[&'static str]) -> Reloader {
        let texts = Mutex::new(texts.to_vec());
        let read = move || {
            let text = texts.lock().unwrap().remove(0);
            let loaded = config::load(Some(("f", text)), [], &[]);
            loaded.map(|loaded| loaded.config).map_err(|error| error.to_string())
        };
        Reloader::new(Config::default(), Some(Box::new(read)), kept(), nobody())
    }

    /// From there alone.
    fn given(url: &str) -> GivenPath {
        let source = GivenSource { url: url.to_owned(), capability: None };
        GivenPath { sources: vec![source], job: None }
    }

    fn told(poller: &Poller<Inbox>) -> usize {
        let pop = |inbox: &Arc<Inbox>| std::iter::from_fn(|| inbox.pop_message()).count();
        poller.inboxes().map(pop).sum()
    }

    #[test]
    fn every_shard_is_told_and_what_needs_a_restart_is_named() {
        let (poller, texts) = (poller(), ["[path.a]\nhold = \"1s\"\n[rtsp]\nudp.rtp = 10\n", ""]);
        let reloader = reloader(&texts);
        let first = reloader.reload(&poller).unwrap();
        assert_eq!((told(&poller), first.applied.len()), (2, 2));
        assert_eq!(first.report.paths.added, ["a"]);
        assert_eq!(first.report.needs_restart, ["rtsp.udp.rtp"]);
        let second = reloader.reload(&poller).unwrap().report;
        assert_eq!(second.paths.removed, ["a"]);
        assert!(second.needs_restart.is_empty(), "as when it was started");
    }

    #[test]
    fn path_that_was_added_outlives_a_reload_and_goes_when_it_is_removed() {
        let (poller, texts) = (poller(), ["[path.a]\n", "[path.\"live/x\"]\n", ""]);
        let reloader = reloader(&texts);
        let named = || {
            let tables = poller.inboxes().map(|inbox| {
                let mut last = Vec::new();
                while let Some(message) = inbox.pop_message() {
                    if let Message::Configure { paths, .. } = message {
                        last = paths.named.keys().cloned().collect();
                    }
                }
                last
            });
            let tables: Vec<Vec<String>> = tables.collect();
            assert_eq!(tables[0], tables[1]);
            tables[0].clone()
        };
        reloader.add_path(&poller, "live/x", &given("rtsp://n/live/x")).unwrap();
        assert_eq!(named(), ["live/x", "live/x~0"]);
        let report = reloader.reload(&poller).unwrap().report;
        assert_eq!((report.paths.added, report.paths.removed.len()), (vec!["a".to_owned()], 0));
        assert_eq!(named(), ["a", "live/x", "live/x~0"]);
        reloader.reload(&poller).unwrap();
        assert_eq!(named(), ["live/x"], "the file has it now");
        let refused = reloader.add_path(&poller, "live/x", &given("rtsp://m/live/x"));
        assert!(matches!(refused, Err(SetPathError::Refused(_))), "{refused:?}");
        reloader.reload(&poller).unwrap();
        assert_eq!(named(), ["live/x", "live/x~0"]);
        reloader.remove_path(&poller, "live/x");
        assert_eq!(named(), [""; 0]);
        let inboxes: Vec<_> = poller.inboxes().collect();
        while inboxes[1].push(Message::Stop).is_ok() {}
        let busy = reloader.add_path(&poller, "y", &given("rtsp://n/y"));
        assert_eq!(busy, Err(SetPathError::Busy(1)));
    }

    #[test]
    fn wrong_file_changes_nothing_and_the_next_right_one_does() {
        let (poller, texts) = (poller(), ["[path.a]\nhold = 1\n", "[path.a]\n"]);
        let reloader = reloader(&texts);
        let refused = reloader.reload(&poller).unwrap_err().to_string();
        assert!(refused.starts_with("f:2:8: path.\"a\".hold: `1` is not a duration"), "{refused}");
        assert_eq!(told(&poller), 0);
        assert_eq!(reloader.reload(&poller).unwrap().report.paths.added, ["a"]);
    }

    #[test]
    fn shard_that_takes_nothing_is_told_again_by_the_next_reading() {
        let (poller, texts) = (poller(), ["[path.a]\n", "[path.a]\n"]);
        let reloader = reloader(&texts);
        let inboxes: Vec<_> = poller.inboxes().collect();
        while inboxes[1].push(Message::Stop).is_ok() {}
        assert!(matches!(reloader.reload(&poller), Err(ReloadError::Busy { shard: 1 })));
        let tables: Vec<_> = std::iter::from_fn(|| inboxes[0].pop_message())
            .filter_map(|message| match message {
                Message::Configure { paths, .. } => Some(paths.changes(&Config::default().paths)),
                _ => None,
            })
            .collect();
        assert_eq!(tables.len(), 2, "told, and told the one before again");
        assert_eq!(tables[0].removed, ["a"]);
        assert!(tables[1].removed.is_empty(), "what it went by before");
        told(&poller);
        assert_eq!(reloader.reload(&poller).unwrap().report.paths.added, ["a"]);
        assert_eq!(told(&poller), 2);
    }

    #[test]
    fn shards_that_were_told_are_taken_back_and_no_others() {
        for busy in 0..3 {
            let inboxes: Vec<_> = (0..3).map(|_| Arc::new(Inbox::new(1).unwrap())).collect();
            let poller = Poller::new(inboxes.clone());
            let mut waiting = 0;
            while inboxes[busy].push(Message::Stop).is_ok() {
                waiting += 1;
            }
            let reloaded = reloader(&["[path.a]\n"]).reload(&poller);
            assert!(matches!(reloaded, Err(ReloadError::Busy { shard }) if shard == busy));
            let told =
                inboxes.iter().map(|inbox| std::iter::from_fn(|| inbox.pop_message()).count());
            let expected = (0..3).map(|shard| match shard.cmp(&busy) {
                std::cmp::Ordering::Less => 2,
                std::cmp::Ordering::Equal => waiting,
                std::cmp::Ordering::Greater => 0,
            });
            assert!(told.eq(expected), "{busy} is busy");
            while inboxes[busy].push(Message::Stop).is_ok() {}
            let paths = &Config::default().paths;
            assert_eq!(take_back(&poller, busy, paths), [0; 0], "that one need not take it");
            assert_eq!(take_back(&poller, 3, paths), [busy], "of those that were told");
        }
    }

    #[test]
    fn without_a_file_there_is_nothing_to_read_again() {
        let reloader = Reloader::new(Config::default(), None, kept(), nobody());
        assert!(matches!(reloader.reload(&poller()), Err(ReloadError::NoFile)));
    }
}
