//! What is done for live paths by the clock, every second while there are any.
//!
//! Publishers that are silent end, readers that are not heard of are reaped, reports that are due
//! go out, and paths that nobody reads are let go of. Bound: the publishers of a shard, once a
//! tick; readers are looked at some in a turn (`crowd`).

use std::sync::Arc;
use std::time::Duration;

use super::desk::LiveDesk;
use super::reader::ReaderState;
use crate::live::message::{Ask, ToHome};
use crate::session::table::Sessions;

impl Sessions {
    pub(in crate::session) fn handle_live_tick(&mut self) {
        let now = self.cx.now;
        let publishers: Vec<u32> = self.live.publishers.keys().copied().collect();
        for number in publishers {
            let Some(publisher) = self.live.publishers.get_mut(&number) else { continue };
            publisher.source.measure(now);
            if publisher.fed_since.is_some()
                && let Some(ask) = publisher.poll_description(now)
            {
                let path = Arc::clone(publisher.source.path());
                self.live.asks.push(ToHome { path, ask });
            }
            if !publisher.is_recording() {
                if now.since(publisher.alive) < self.cx.config.timeout {
                    continue;
                }
                let is_answered = self.refuse_unanswered_claim(number);
                if !is_answered {
                    self.dismiss_publisher(number, "it does not begin");
                }
            } else if !self.report_to_publisher(number, now) {
                self.dismiss_publisher(number, "nothing comes from it");
            }
        }
        self.tick_pulls();
        self.live.crowd.look_after_all();
        self.go_on_looking();
        self.look_after_groups();
        for waiter in self.live.paths.overdue(now) {
            self.resume(waiter, false);
        }
        for path in self.live.paths.sweep(now) {
            self.live.ask(&path, Ask::Unsubscribe { shard: self.cx.shard });
        }
        self.say_again();
        self.live.is_ticking = false;
        self.settle_live();
    }

    pub(super) fn look_after(&mut self, index: u32) {
        let (now, timeout) = (self.cx.now, self.cx.config.timeout);
        let Some(reader) = self.live.readers.get(index as usize) else { return };
        // As for titles (client rule C16).
        let is_carried = reader.is_interleaved()
            && reader.connection.is_some()
            && matches!(reader.state, ReaderState::Priming { .. } | ReaderState::Playing);
        let limit = if reader.connection.is_some() { timeout } else { timeout.min(ORPHAN_TIMEOUT) };
        let silent = now.since(reader.alive);
        if reader.is_session() && !is_carried && silent >= limit {
            tracing::info!(session = %reader.id, silent_s = silent.as_secs(), "session timed out");
            self.cx.cells.sessions_timed_out.add(1);
            self.dismiss_reader(index, "timeout");
        } else if reader.report_due <= now {
            self.send_live_reports(index);
        }
    }
}

impl LiveDesk {
    /// There is something to look after.
    pub(super) fn has_work(&self) -> bool {
        !self.publishers.is_empty()
            || !self.pulls.is_empty()
            || !self.readers.is_empty()
            || self.groups.has_work()
            || self.paths.has_work()
    }
}

/// How often.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// As for titles: a session whose RTSP connection closed without TEARDOWN.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(15);
