//! Playlists of the paths with their owner on this shard, and what operators do to them.
//!
//! ```text
//!  shown, edited, configured anew --> Schedule: kept here, or by the feed while the path is fed
//! ```
//! A schedule is made when it is first needed, and outlives its feed: edits and the place in the
//! list stay. Bound: the paths that are configured.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::config::paths::PathTable;
use crate::config::playlist::PlaylistItem;
use crate::live::core::message::OwnerRequest;
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::table::OfPath;
use crate::live::sources::titles::feed::Feed;
use crate::live::sources::titles::schedule::Schedule;
use crate::live::sources::titles::schedule::edits::{EditError, PlaylistEdit};
use crate::live::sources::titles::schedule::info::PlaylistInfo;
use crate::session::cx::Cx;

/// Schedules of paths that are not fed at the moment.
#[derive(Debug, Default)]
pub(crate) struct Playlists {
    resting: BTreeMap<Arc<str>, Schedule>,
}

/// What is asked of a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaylistRequest {
    /// The list as it is.
    Show,
    /// An edit.
    Edit(PlaylistEdit),
}

/// A playlist, after what was asked is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaylistAnswer {
    /// Number of the item that an edit was about.
    pub item: Option<u64>,
    /// The list.
    pub info: PlaylistInfo,
    /// The list that the configuration has.
    pub configured: Arc<[PlaylistItem]>,
}

/// Why a playlist is not shown or edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaylistRefusal {
    /// There is no such path.
    #[error("no such path")]
    UnknownPath,
    /// The path has another source.
    #[error("the path has no playlist: its source is another one")]
    NoPlaylist,
    /// The edit cannot be.
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl Sources {
    /// Starts the feed of a playlist, for its owner on this shard.
    pub(crate) fn start_playlist(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        if self.titles.table.number_of(path).is_none() {
            let resting = self.playlists.resting.remove(path);
            let schedule = resting.unwrap_or_else(|| Schedule::of_path(&cx.configs, path));
            self.start_titles(cx, hub, path, schedule);
        }
    }

    /// Keeps the schedule of a playlist whose feed has ended.
    pub(super) fn rest_playlist(&mut self, cx: &Cx, feed: Option<Feed>) {
        let Some(feed) = feed.filter(|feed| cx.path_config(feed.path()).is_playlist()) else {
            return;
        };
        let path = Arc::clone(feed.path());
        let mut schedule = feed.into_schedule();
        schedule.rest();
        self.playlists.resting.insert(path, schedule);
    }

    /// Shows or edits the playlist of a path with its owner here.
    ///
    /// # Errors
    /// An edit that cannot be.
    pub(crate) fn ask_playlist(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        request: &PlaylistRequest,
    ) -> Result<PlaylistAnswer, PlaylistRefusal> {
        let config = Arc::clone(cx.path_config(path));
        let utc_ns = cx.utc_ns;
        let schedule = self.schedule_of(&cx.configs, path);
        let item = match request {
            PlaylistRequest::Show => None,
            PlaylistRequest::Edit(edit) => {
                let item = schedule.edit(edit, utc_ns)?;
                note_edit(path, edit, item);
                Some(item)
            }
        };
        let info = schedule.info(&config);
        if item.is_some() {
            self.go_on_after_edit(cx, hub, path);
        }
        Ok(PlaylistAnswer { item, info, configured: Arc::clone(&config.playlist) })
    }

    /// Takes over what a new configuration says of playlists.
    pub(crate) fn configure_playlists(&mut self, cx: &mut Cx, hub: &mut Hub, before: &PathTable) {
        let new = Arc::clone(&cx.configs);
        self.playlists.resting.retain(|path, _| new.find(path).is_playlist());
        let feeds = self.titles.table.range_from(Bound::Unbounded);
        let fed = feeds.filter_map(|number| self.titles.table.get(number).map(OfPath::path));
        let names: Vec<Arc<str>> = fed.chain(self.playlists.resting.keys()).cloned().collect();
        for path in names {
            let pair = (&**before.find(&path), &**new.find(&path));
            // Another kind of source is fetched anew by the owner of the path.
            let is_changed = pair.0 != pair.1 || before.zone != new.zone;
            if is_changed && pair.0.is_playlist() && pair.1.is_playlist() {
                let utc_ns = cx.utc_ns;
                self.schedule_of(&new, &path).configure(&new, pair, utc_ns);
                self.go_on_after_edit(cx, hub, &path);
            }
        }
    }

    fn schedule_of(&mut self, table: &PathTable, path: &Arc<str>) -> &mut Schedule {
        let number = self.titles.table.number_of(path);
        if let Some(feed) = number.and_then(|number| self.titles.table.get_mut(number)) {
            return feed.schedule_mut();
        }
        let resting = self.playlists.resting.entry(Arc::clone(path));
        resting.or_insert_with(|| Schedule::of_path(table, path))
    }

    /// The feed looks at what was edited. A path that had nothing to play may have something now.
    fn go_on_after_edit(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        match self.titles.table.number_of(path) {
            Some(number) => self.with_feed(cx, hub, number, |feed, _| feed.handle_edit()),
            None => {
                let rules = cx.path_rules(path);
                hub.request(path, OwnerRequest::Configure { rules, is_other_source: true });
            }
        }
    }
}

fn note_edit(path: &str, edit: &PlaylistEdit, number: u64) {
    let (verb, title) = match edit {
        PlaylistEdit::Insert { item, .. } => ("insert", Some(&*item.title)),
        PlaylistEdit::Remove { .. } => ("remove", None),
        PlaylistEdit::Skip => ("skip", None),
    };
    tracing::info!(
        code = "HE-I316",
        event = "playlist.edited",
        path,
        verb,
        item = number,
        title,
        "playlist of {path} edited by an operator: {verb}"
    );
}
