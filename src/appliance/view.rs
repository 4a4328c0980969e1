//! The appliance as the control thread sees it: questions go to the shards' inboxes.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use super::balance;
use super::certificates::{self, Certificates};
use super::draining::Draining;
use super::playlists::PlaylistStore;
use super::reload::Reloader;
use crate::agent::live::SetPathError;
use crate::base::ids::{SessionId, ShardId};
use crate::base::names::is_path_name;
use crate::cli;
use crate::cli::missing::find_title;
use crate::cli::urls::encode_path;
use crate::config::Config;
use crate::config::added_paths::GivenPath;
use crate::host::Check;
use crate::http::{
    ApplianceView, DrainRequest, DrainState, LogLine, Reload, ReloadError, TitleEntry,
};
use crate::library::{LIBRARY_PATH, Library, Listed};
use crate::lineup::requests::{EventsAnswer, EventsRequest};
use crate::live::core::failover::{SwitchReply, SwitchRequest, SwitchResult};
use crate::live::core::info::{PathsPage, PathsPlace};
use crate::live::core::message::owner_of;
use crate::live::sources::titles::playlists::{PlaylistAnswer, PlaylistRefusal, PlaylistRequest};
use crate::metrics::cells::{ShardCells, WorkerCells};
use crate::metrics::limits::Limit;
use crate::metrics::paths::PathTallies;
use crate::poll::poller::Poller;
use crate::session::handover::MoveRefusal;
use crate::session::info::{SessionInfo, SessionsPage};
use crate::shard::inbox::{Inbox, Message};
use crate::shard::questions::{Question, Reply};

/// The shards, as the HTTP API asks them.
#[derive(Debug)]
pub(super) struct View {
    poller: Arc<Poller<Inbox>>,
    shard_cells: Vec<Arc<ShardCells>>,
    worker_cells: Arc<WorkerCells>,
    library: Arc<Library>,
    reloader: Reloader,
    certificates: Arc<Certificates>,
    playlists: Arc<PlaylistStore>,
    limits: Arc<[Limit]>,
    hls_addrs: Vec<SocketAddr>,
    draining: Draining,
    /// Sessions move by themselves.
    rebalances: bool,
    is_ready: AtomicBool,
    told: OnceLock<Told>,
}

/// What is known when everything is started.
#[derive(Debug)]
pub(super) struct Told {
    /// The start-up text, for programs.
    pub(super) startup: serde_json::Value,
    /// What was found on the machine.
    pub(super) checks: Vec<Check>,
    /// URL of the base, of a node.
    pub(super) base: Option<String>,
}

impl View {
    pub(super) fn new(
        poller: Arc<Poller<Inbox>>,
        shard_cells: Vec<Arc<ShardCells>>,
        worker_cells: Arc<WorkerCells>,
        library: Arc<Library>,
        (reloader, certificates): (Reloader, Arc<Certificates>),
        (playlists, limits, hls_addrs): (Arc<PlaylistStore>, Arc<[Limit]>, Vec<SocketAddr>),
        config: &Config,
    ) -> Arc<Self> {
        Arc::new(Self {
            poller,
            shard_cells,
            worker_cells,
            library,
            reloader,
            certificates,
            playlists,
            limits,
            hls_addrs,
            draining: Draining::new(config.redirect.clone()),
            rebalances: config.rebalances,
            is_ready: AtomicBool::new(false),
            told: OnceLock::new(),
        })
    }

    /// Everything is started: players are served.
    pub(super) fn begin(&self, told: Told) {
        let _told_before = self.told.set(told);
        self.is_ready.store(true, Ordering::Relaxed);
    }

    /// Files of the state folder are this process's from now on. Blocks on the disk.
    pub(super) fn own_files(&self) {
        self.reloader.begin();
    }

    /// Players are not served any more.
    pub(super) fn end(&self) {
        self.is_ready.store(false, Ordering::Relaxed);
    }

    /// Reads the certificate of RTSPS again. False: there is none.
    pub(super) fn reload_certificate(&self) -> bool {
        let has_files = self.certificates.has_files();
        if has_files {
            self.certificates.reload(None, &self.poller);
        }
        has_files
    }

    /// Looks at the files of the certificate, until its runtime ends.
    pub(super) fn watch_certificate(&self) -> impl Future<Output = ()> + Send + 'static {
        certificates::watch(Arc::clone(&self.certificates), Arc::clone(&self.poller))
    }

    /// Whether there is a file to be read again.
    pub(super) fn is_reloadable(&self) -> bool {
        self.reloader.is_reloadable()
    }

    /// Reads edits of playlists again.
    ///
    /// # Errors
    /// A shard does not take them.
    pub(super) fn restore_playlists(&self) -> Result<(), String> {
        self.reloader.restore_playlists(&self.poller)
    }

    /// `None`: there is no such shard.
    fn ask<T: Send + 'static>(
        &self,
        shard: ShardId,
        question: impl FnOnce(Reply<T>) -> Question,
    ) -> Option<oneshot::Receiver<T>> {
        let inbox = self.poller.inbox(shard)?;
        let (answer, receiver) = oneshot::channel();
        let reply = Box::new(|answered| {
            let _nobody_waits = answer.send(answered);
        });
        // A full inbox drops the sender, which is how a missing answer is told.
        let _full = inbox.push(Message::Asked(question(reply)));
        Some(receiver)
    }

    /// The inbox of the owner of a path; `None` when no path can have this name.
    fn inbox_of_path(&self, path: &str) -> Option<&Arc<Inbox>> {
        self.poller.inbox(self.owner_of_path(path)?)
    }

    /// The shard of the owner of a path; `None` when no path can have this name.
    pub(super) fn owner_of_path(&self, path: &str) -> Option<ShardId> {
        let shard_count = u8::try_from(self.shard_cells.len()).unwrap_or(u8::MAX);
        is_path_name(path).then(|| owner_of(path, shard_count))
    }

    /// Adds a path to those of the configuration, or gives it other sources.
    ///
    /// # Errors
    /// See [`SetPathError`].
    pub(super) fn add_path(&self, path: &str, given: &GivenPath) -> Result<(), SetPathError> {
        self.reloader.add_path(&self.poller, path, given)
    }

    /// The URL of the source, of a path that was added, whose path has this name.
    pub(super) fn added_url(&self, path: &str, source_path: &str) -> Option<String> {
        self.reloader.added_url(path, source_path)
    }

    /// Takes a path that was added away again.
    pub(super) fn remove_path(&self, path: &str) {
        self.reloader.remove_path(&self.poller, path);
    }

    /// Has sessions move from busy shards, until its runtime ends.
    pub(super) fn balance(&self) -> impl Future<Output = ()> + Send + 'static {
        let is_needed = self.rebalances && self.shard_cells.len() > 1;
        let (cells, poller) = (self.shard_cells.clone(), Arc::clone(&self.poller));
        async move {
            if is_needed {
                balance::run(cells, poller).await;
            }
        }
    }

    /// Returns when the server is drained and its process is to end.
    pub(super) async fn until_exit(&self) {
        self.draining.until_exit(&self.shard_cells).await;
    }
}

impl ApplianceView for View {
    fn shard_cells(&self) -> Vec<Arc<ShardCells>> {
        self.shard_cells.clone()
    }

    fn worker_cells(&self) -> Arc<WorkerCells> {
        Arc::clone(&self.worker_cells)
    }

    fn limits(&self) -> Arc<[Limit]> {
        Arc::clone(&self.limits)
    }

    fn home_of(&self, id: SessionId) -> ShardId {
        self.poller.owner(id).unwrap_or(ShardId(0))
    }

    fn request_sessions(
        &self,
        shard: ShardId,
        after: Option<SessionId>,
    ) -> Option<oneshot::Receiver<SessionsPage>> {
        self.ask(shard, |reply| Question::Sessions { after, reply })
    }

    fn request_session(&self, id: SessionId) -> Option<oneshot::Receiver<Option<SessionInfo>>> {
        self.ask(self.poller.asked_about(id)?, |reply| Question::Session { id, reply })
    }

    fn request_paths(
        &self,
        shard: ShardId,
        path: Option<&str>,
        from: PathsPlace,
    ) -> Option<oneshot::Receiver<PathsPage>> {
        let wanted = path.map(str::to_owned);
        self.ask(shard, |reply| Question::Paths { wanted, from, reply })
    }

    fn request_path_tables(&self) -> Vec<oneshot::Receiver<PathTallies>> {
        let shards = (0..=u8::MAX).map(ShardId);
        shards.map_while(|shard| self.ask(shard, Question::PathTable)).collect()
    }

    fn kick_path(&self, path: &str) -> Option<oneshot::Receiver<bool>> {
        let inbox = self.inbox_of_path(path)?;
        let (answer, receiver) = oneshot::channel();
        let reply = Box::new(|is_known| {
            let _nobody_waits = answer.send(is_known);
        });
        let _full = inbox.push(Message::KickPath { path: path.to_owned(), reply });
        Some(receiver)
    }

    fn ask_playlist(
        &self,
        path: &str,
        request: PlaylistRequest,
    ) -> Option<oneshot::Receiver<Result<PlaylistAnswer, PlaylistRefusal>>> {
        let inbox = self.inbox_of_path(path)?;
        let (answer, receiver) = oneshot::channel();
        let reply = Box::new(|answered| {
            let _nobody_waits = answer.send(answered);
        });
        let _full = inbox.push(Message::Playlist { path: path.to_owned(), request, reply });
        Some(receiver)
    }

    fn keep_playlist(&self, path: &str, answer: &PlaylistAnswer) -> Result<bool, String> {
        self.playlists.keep(path, answer)
    }

    fn find_title(&self, name: &str) -> Result<(), String> {
        find_title(&self.library, name)
    }

    fn switch_path(
        &self,
        path: &str,
        request: SwitchRequest,
    ) -> Option<oneshot::Receiver<SwitchResult>> {
        let inbox = self.inbox_of_path(path)?;
        let (answer, receiver) = oneshot::channel();
        let reply = SwitchReply::new(|result| {
            let _nobody_waits = answer.send(result);
        });
        let _full = inbox.push(Message::SwitchPath { path: path.to_owned(), request, reply });
        Some(receiver)
    }

    fn end_session(&self, id: &str) -> Option<oneshot::Receiver<bool>> {
        let id = SessionId::parse(id)?;
        let inbox = self.poller.inbox(self.poller.asked_about(id)?)?;
        let (answer, receiver) = oneshot::channel();
        let reply = Box::new(|ended| {
            let _nobody_waits = answer.send(ended);
        });
        let _full = inbox.push(Message::EndSession { id, reply });
        Some(receiver)
    }

    fn move_session(
        &self,
        id: SessionId,
        to: ShardId,
    ) -> Option<oneshot::Receiver<Result<ShardId, MoveRefusal>>> {
        let inbox = self.poller.inbox(self.poller.asked_about(id)?)?;
        let (answer, receiver) = oneshot::channel();
        let reply = Box::new(|moved| {
            let _nobody_waits = answer.send(moved);
        });
        let _full = inbox.push(Message::MoveSession { id, to, reply });
        Some(receiver)
    }

    fn send_events(
        &self,
        id: &str,
        request: EventsRequest,
    ) -> Option<oneshot::Receiver<EventsAnswer>> {
        let id = SessionId::parse(id)?;
        let inbox = self.poller.inbox(self.poller.asked_about(id)?)?;
        let (answer, receiver) = oneshot::channel();
        let reply = Box::new(|answered| {
            let _nobody_waits = answer.send(answered);
        });
        let _full = inbox.push(Message::Events { id, request, reply });
        Some(receiver)
    }

    fn titles(&self, after: Option<&str>, limit: usize) -> io::Result<Vec<TitleEntry>> {
        let entry = |title: Listed| TitleEntry {
            url_path: format!("/{LIBRARY_PATH}{}", encode_path(&title.name)),
            name: title.name,
            bytes: title.bytes,
            modified_utc_s: title.modified_utc_s,
            problem: None,
        };
        Ok(self.library.list(after, limit)?.into_iter().map(entry).collect())
    }

    fn reload(&self) -> Result<Reload, ReloadError> {
        let reload = self.reloader.reload(&self.poller)?;
        self.certificates.reload(Some(&self.reloader.file_paths()), &self.poller);
        Ok(reload)
    }

    fn hls_addrs(&self) -> Vec<SocketAddr> {
        self.hls_addrs.clone()
    }

    fn drain(&self, request: DrainRequest) -> Option<Vec<oneshot::Receiver<()>>> {
        self.draining.drain(&self.poller, request)
    }

    fn undrain(&self) -> Option<Vec<oneshot::Receiver<()>>> {
        self.draining.undrain(&self.poller)
    }

    fn drain_state(&self) -> DrainState {
        self.draining.state(&self.shard_cells)
    }

    fn info(&self) -> serde_json::Value {
        let told = self.told.get();
        let base = told.and_then(|told| told.base.as_deref());
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "role": if base.is_some() { "node" } else { "serve" },
            "base": base,
            "host": rustix::system::uname().nodename().to_string_lossy(),
            "shards": self.shard_cells.len(),
            "root": self.library.root().map(|root| root.display().to_string()),
            "reloads": self.is_reloadable(),
            "startup": told.map(|told| &told.startup),
        })
    }

    fn checks(&self) -> serde_json::Value {
        serde_json::json!({ "checks": self.told.get().map(|told| &told.checks) })
    }

    fn log_lines(&self) -> Vec<LogLine> {
        cli::log::recent()
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed) && !self.draining.is_on()
    }
}
