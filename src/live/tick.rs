//! Periodic work for live paths, every second while there are any.
//!
//! Silent publishers are ended, silent readers are reaped, reports that are due are sent, and paths
//! without readers are released. Bound: the paths of a shard, once a tick; sources and readers are
//! checked some in a turn (`crowd`).

use std::sync::Arc;
use std::time::Duration;

use crate::live::core::message::{Ask, ToHome};
use crate::live::desk::Live;
use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::live::readers::reader::ReaderState;
use crate::live::sources::Sources;
use crate::session::cx::Cx;

impl Live {
    pub(crate) fn handle_live_tick(&mut self, cx: &mut Cx) {
        let now = cx.now;
        self.readers.crowd.look_after_all();
        self.sources.walks.begin();
        self.sources.go_on_with_sources(cx, &mut self.hub);
        self.readers.go_on_looking(cx, &mut self.hub);
        self.readers.look_after_groups(cx, &mut self.hub);
        for waiter in self.hub.paths.overdue(now) {
            self.readers.resume(cx, waiter, false);
        }
        for path in self.hub.paths.sweep(now) {
            self.hub.ask(&path, Ask::Unsubscribe { shard: cx.shard });
        }
        self.say_again(cx);
        self.hub.is_ticking = false;
        self.settle_live(cx);
    }
}

impl Sources {
    pub(crate) fn look_after_publisher(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        let now = cx.now;
        let Some(publisher) = self.publishers.get_mut(&number) else { return };
        publisher.source.measure(now);
        if publisher.fed_since.is_some()
            && let Some(ask) = publisher.poll_description(now)
        {
            let path = Arc::clone(publisher.source.path());
            hub.asks.push(ToHome { path, ask });
        }
        if !publisher.is_recording() {
            if now.since(publisher.alive) < cx.config.timeout {
                return;
            }
            let is_answered = self.refuse_unanswered_claim(cx, hub, number);
            if !is_answered {
                self.dismiss_publisher(cx, hub, number, "publisher did not send RECORD in time");
            }
        } else if !self.report_to_publisher(cx, number, now) {
            self.dismiss_publisher(cx, hub, number, "no RTP from the source");
        }
    }
}

impl Readers {
    pub(crate) fn look_after(&mut self, cx: &mut Cx, hub: &mut Hub, index: u32) {
        let (now, timeout) = (cx.now, cx.config.timeout);
        let Some(reader) = self.table.get(index as usize) else { return };
        // As for titles (client rule C16).
        let is_carried = reader.is_interleaved()
            && reader.connection.is_some()
            && matches!(reader.state, ReaderState::Priming { .. } | ReaderState::Playing);
        let limit = if reader.connection.is_some() { timeout } else { timeout.min(ORPHAN_TIMEOUT) };
        let silent = now.since(reader.alive);
        if reader.is_session() && !is_carried && silent >= limit {
            tracing::info!(
                code = "HE-I311", session = %reader.id, silent_s = silent.as_secs(),
                "session timed out"
            );
            cx.cells.sessions_timed_out.add(1);
            self.dismiss_reader(cx, hub, index, "timeout");
        } else if reader.report_due <= now {
            self.send_live_reports(cx, hub, index);
        }
    }
}

impl Live {
    /// Whether there is anything to look after.
    pub(crate) fn has_work(&self) -> bool {
        !self.sources.publishers.is_empty()
            || !self.sources.pulls.is_empty()
            || !self.readers.table.is_empty()
            || self.readers.groups.has_work()
            || self.hub.paths.has_work()
    }
}

/// Interval of the periodic work.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// As for titles: limit of a session whose RTSP connection closed without TEARDOWN.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(15);
