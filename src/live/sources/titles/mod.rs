//! Paths that are fed by titles: recorded media as a live source, one title after another.
//!
//! ```text
//!  owner --StartPull--> Feed: schedule --> open, windows with bytes (workers)
//!                         `--ready--> Claim --Granted--> packets when they are due --> publisher
//!                         `--nothing can be played--> PullFailed: the owner tries again
//!  owner --StopPull--> the feed ends
//! ```
//! To its path's owner a feed is a source that is fetched. Its packets go the way of all packets of
//! publishers. The bytes come with the windows: a shard does not read mapped files.
//!
//! | room | what is there |
//! |---|---|
//! | `schedule` | which title plays, and when |
//! | `playlists` | schedules of playlists, and what operators do to them |
//! | `reel` | one title on its way: opened, checked, windows ahead |
//! | `asking` | a request to the workers, tried again |
//! | `stream` | the RTP streams of the path, and what may feed them |
//! | `seam` | the timeline, and one title behind another on it |
//! | `feed` | one feed: prepares, claims, sends, goes on |
//!
//! Invariants: a feed of a path at a time; an order to start ends in a claim, in `PullFailed`, or
//! waits for a time that its schedule names.
//! Bounds: a feed for each path with its owner here; those of `feed` and `reel`; `FEEDS_A_TURN`.

mod asking;
mod feed;
pub mod playlists;
mod reel;
pub mod schedule;
mod seam;
mod stream;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::base::names::{CLIP_NAME, Name};
use crate::live::core::message::OwnerRequest;
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::log::note_source_down;
use crate::live::sources::table::{OfPath as _, SourceTable};
use crate::live::sources::titles::feed::{Feed, Room};
use crate::live::sources::titles::schedule::Schedule;
use crate::poll::task::Outcome;
use crate::session::cx::Cx;

/// The feeds of one shard: see the module.
#[derive(Debug, Default)]
pub(crate) struct Titles {
    table: SourceTable<Feed>,
    /// Feeds with packets left for the next turn.
    ready: BTreeSet<u32>,
    /// The feed that was the last to go on: the next turn begins behind it.
    went_on: u32,
}

impl Titles {
    /// Whether there are none.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether packets are left for the next turn.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next feed with packets left, in turn.
    fn pop_ready(&mut self) -> Option<u32> {
        let behind = (Bound::Excluded(self.went_on), Bound::Unbounded);
        let next = self.ready.range(behind).next().or_else(|| self.ready.first()).copied()?;
        self.ready.remove(&next);
        self.went_on = next;
        Some(next)
    }

    fn remove(&mut self, cx: &mut Cx, number: u32) -> Option<Feed> {
        let mut feed = self.table.remove(number)?;
        self.ready.remove(&number);
        feed.cancel_timer(cx);
        Some(feed)
    }
}

impl Sources {
    /// Starts the feed of a path, for its owner on this shard, with a title by its name in URLs.
    pub(crate) fn start_title(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>, url: &str) {
        self.start_titles(cx, hub, path, Schedule::repeat(library_name(url)));
    }

    /// Starts the feed of a path with a schedule. One that is there already goes on.
    pub(crate) fn start_titles(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        schedule: Schedule,
    ) {
        if self.titles.table.number_of(path).is_none() {
            let number = hub.next_serial();
            self.titles.table.insert(number, Feed::new(number, path, schedule));
            self.with_feed(cx, hub, number, |_, _| {});
        }
    }

    /// Stops the feed of a path, if it has one.
    pub(crate) fn stop_titles_of(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let Some(number) = self.titles.table.number_of(path) else { return };
        let feed = self.titles.remove(cx, number);
        self.rest_playlist(cx, feed);
        self.forget_publisher(cx, hub, number);
    }

    /// Stops all feeds; their publishers are left to the caller.
    pub(crate) fn stop_titles(&mut self, cx: &mut Cx) {
        let numbers: Vec<u32> = self.titles.table.range_from(Bound::Unbounded).collect();
        for number in numbers {
            self.titles.remove(cx, number);
        }
    }

    /// The owner does not give the path: it tries again after a while.
    pub(crate) fn refuse_titles(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        reason: String,
    ) {
        if self.titles.table.get(number).is_some() {
            self.fail_titles(cx, hub, number, reason);
        }
    }

    /// The claim of a feed is granted.
    pub(crate) fn handle_titles_granted(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        self.with_feed(cx, hub, number, |_, _| {});
    }

    /// The time of a feed's next frame or decision has come.
    pub(crate) fn handle_titles_due(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        self.with_feed(cx, hub, number, |feed, _| feed.handle_due());
    }

    /// A worker has done a task for a feed.
    pub fn handle_title_task(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        (number, request): (u32, u32),
        outcome: Outcome,
    ) {
        self.with_feed(cx, hub, number, |feed, room| feed.handle_task(room, request, outcome));
    }

    /// The workers' queue has refused a task of a feed: it is asked again soon.
    pub fn handle_title_refused(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        (number, request): (u32, u32),
    ) {
        self.with_feed(cx, hub, number, |feed, room| feed.handle_refused(request, room.cx.now));
    }

    /// Sends the packets that are left from the turn before.
    pub(crate) fn go_on_with_titles(&mut self, cx: &mut Cx, hub: &mut Hub) {
        for _ in 0..self.titles.ready.len().min(FEEDS_A_TURN) {
            let Some(number) = self.titles.pop_ready() else { return };
            self.with_feed(cx, hub, number, |_, _| {});
        }
    }

    /// Tells a feed of an event, and carries out what follows.
    fn with_feed(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        event: impl FnOnce(&mut Feed, &mut Room<'_>),
    ) {
        let Some(feed) = self.titles.table.get_mut(number) else { return };
        let mut room = Room { cx, hub, publishers: &mut self.publishers };
        event(feed, &mut room);
        feed.go_on(&mut room);
        if feed.has_more() {
            self.titles.ready.insert(number);
        }
        if let Some(reason) = feed.take_failure() {
            self.fail_titles(cx, hub, number, reason);
        }
    }

    /// Ends a feed that can play nothing. Its last packets come before the end.
    fn fail_titles(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32, reason: String) {
        let Some(feed) = self.titles.remove(cx, number) else { return };
        if let Some(mut publisher) = self.forget_publisher(cx, hub, number) {
            note_source_down(&publisher, &reason);
            if let Some(generation) = publisher.generation() {
                while let Some(batch) = publisher.source.finish() {
                    hub.request(feed.path(), OwnerRequest::Feed { generation, batch });
                }
            }
        }
        hub.request(feed.path(), OwnerRequest::PullFailed { reason });
        self.rest_playlist(cx, Some(feed));
    }
}

/// The name in the library of a title, by its name in URLs.
fn library_name(url: &str) -> &str {
    match Name::parse(url) {
        Name::Title(name) => name,
        Name::Clip => CLIP_NAME,
        Name::Root | Name::Library | Name::Live(_) | Name::Nothing => url,
    }
}

/// Feeds that go on with packets that were left, in one turn.
const FEEDS_A_TURN: usize = 32;
