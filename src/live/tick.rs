//! Periodic work for live paths, every second while there are any.
//!
//! Silent publishers are ended, silent readers are reaped, reports that are due are sent, and paths
//! without readers are released. Bound: the paths of a shard, once a tick; sources and readers are
//! checked some in a turn (`backlog`).

use std::time::Duration;

use crate::live::core::message::OwnerRequest;
use crate::live::front::Live;
use crate::session::action::TimerKey;
use crate::session::cx::Cx;

impl Live {
    pub(crate) fn handle_live_tick(&mut self, cx: &mut Cx) {
        let now = cx.now;
        self.readers.backlog.look_after_all();
        self.sources.walks.begin();
        self.sources.go_on_with_sources(cx, &mut self.hub);
        self.readers.go_on_looking(cx, &mut self.hub);
        self.readers.look_after_groups(cx, &mut self.hub);
        for waiter in self.hub.paths.overdue(now) {
            self.readers.resume(cx, waiter, false);
        }
        self.sweep_paths(cx);
        self.say_again(cx);
        self.hub.is_ticking = false;
        self.settle_live(cx);
    }
}

impl Live {
    /// Releases paths without readers, when all relays have kept theirs.
    pub(crate) fn sweep_paths(&mut self, cx: &Cx) {
        if self.sources.walks.take_sweep() {
            for path in self.hub.paths.sweep(cx.now) {
                self.hub.request(&path, OwnerRequest::Unsubscribe { shard: cx.shard });
            }
        }
    }

    /// Starts the periodic work, unless it is under way.
    pub(crate) fn start_ticking(&mut self, cx: &mut Cx) {
        if !self.hub.is_ticking && self.has_work() {
            self.hub.is_ticking = true;
            cx.wheel.insert(cx.now + TICK, TimerKey::LiveTick);
        }
    }

    /// Whether there is anything to look after.
    fn has_work(&self) -> bool {
        !self.sources.publishers.is_empty()
            || !self.sources.pulls.is_empty()
            || !self.sources.relays.is_empty()
            || !self.readers.table.is_empty()
            || self.readers.groups.has_work()
            || self.hub.paths.has_work()
    }
}

/// Interval of the periodic work.
const TICK: Duration = Duration::from_secs(1);
