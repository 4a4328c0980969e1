//! Begins an item: claims the path for the first one, finds its zero at the seam, tells the clock.
//!
//! ```text
//!  first item   ready --claim--> granted --> zero = 0, the first frame is due now
//!  others       ready --> zero at the seam; later, where a start time or a pause says so
//! ```
//! The clock is told as a sender report would, so that readers keep sound and picture together.
//! Invariant: a path is claimed with a title at hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Npt;
use crate::live::core::source::ArrivalTime;
use crate::live::sources::announced::{Origin as SdpOrigin, description};
use crate::live::sources::publisher::{Claimant, Way};
use crate::live::sources::titles::feed::{Feed, Playing, Room};
use crate::live::sources::titles::reel::Reel;
use crate::live::sources::titles::seam::Origin;
use crate::live::sources::titles::stream::session_of;
use crate::rtcp::ntp_from_utc_ns;

impl Feed {
    /// Begins the next item, if it is ready and may begin. True when it has, or when another one
    /// is to be prepared instead.
    pub(super) fn begin_next(&mut self, room: &mut Room<'_>) -> bool {
        let utc_ns = room.cx.utc_ns;
        let Some(next) = &self.next else { return false };
        if !next.is_ready() {
            return self.wait(room);
        }
        self.wait = None;
        let begins = next.upcoming.begins_utc_ns;
        if let Some(begins) = begins.filter(|begins| begins.saturating_sub(EARLY_NS) > utc_ns) {
            self.wake_at_utc(room, begins.saturating_sub(EARLY_NS));
            return false;
        }
        if !self.is_claimed {
            return match self.claim(room) {
                Ok(()) => false,
                Err(reason) => {
                    self.skip_next(room, &reason);
                    true
                }
            };
        }
        let publisher = room.publishers.get(&self.number);
        if !publisher.is_some_and(|publisher| publisher.is_recording()) {
            return false;
        }
        let Some(reel) = self.next.take() else { return false };
        self.begin(room, reel, begins);
        true
    }

    fn begin(&mut self, room: &mut Room<'_>, mut reel: Reel, begins: Option<i64>) {
        let (now, utc_ns) = (room.cx.now, room.cx.utc_ns);
        let (origin, zero) = match (self.origin, self.seam) {
            (Some(origin), Some(seam)) => {
                let first = reel.follow(seam.sound);
                let zero = seam.next_zero(first);
                let waits_ns = begins.map(|begins| begins.saturating_sub(utc_ns));
                let by_time = waits_ns.map(|ns| Npt(origin.at(now).0.saturating_add(ns)));
                (origin, by_time.map_or(zero, |at| zero.max(at)))
            }
            _ => {
                let early_ns = reel.first_due().unwrap_or(Npt::ZERO).0.clamp(-EARLY_NS, 0);
                let waits_ns = begins.map_or(0, |begins| begins.saturating_sub(utc_ns).max(0));
                (Origin(now.offset_ns(waits_ns.max(-early_ns))), Npt::ZERO)
            }
        };
        self.origin = Some(origin);
        for stream in &mut self.streams {
            stream.line.begin_item();
        }
        self.schedule.handle_begun(reel.item(), utc_ns);
        (self.plan.is_stale, self.plan.cut_asked, self.ended) = (true, None, None);
        self.plan.is_skipping = false;
        let (path, title) = (&self.path, Arc::<str>::from(reel.upcoming.url()));
        tracing::debug!(%path, %title, "a title begins");
        if let Some(publisher) = room.publishers.get_mut(&self.number) {
            publisher.way = Way::Title { title, zero: origin.wall_of(zero) };
        }
        self.current = Some(Playing { reel, zero, shown: Npt::ZERO, has_failed: false });
    }

    /// Claims the path with the title that is ready.
    fn claim(&mut self, room: &mut Room<'_>) -> Result<(), String> {
        let Room { cx, hub, publishers } = room;
        let reel = self.next.as_ref().and_then(|reel| Some((reel, reel.title()?)));
        let Some((reel, title)) = reel else { return Ok(()) };
        let sdp = session_of(&self.streams, title)?;
        let origin = SdpOrigin {
            local: Ipv4Addr::UNSPECIFIED.into(),
            session_id: u64::from(cx.shard.0) << 32 | u64::from(self.number),
            version: cx.utc_ns.unsigned_abs() / 1_000_000_000,
        };
        let described = description(&sdp, &self.path, origin).map_err(|error| error.to_string())?;
        let claimant = Claimant {
            way: Way::Title { title: reel.upcoming.url().into(), zero: cx.now },
            reply_to: None,
            sdp,
            origin,
            description: Arc::new(described),
            connection: None,
            peer: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        };
        publishers.claim(cx, hub, self.number, &self.path, claimant);
        self.is_claimed = true;
        Ok(())
    }

    /// Tells the path of the clock of its streams, every few seconds.
    pub(super) fn tell_clock(&mut self, room: &mut Room<'_>, origin: Origin) {
        let at = ArrivalTime { now: room.cx.now, utc_ns: room.cx.utc_ns };
        if self.told.is_some_and(|told| at.now.since(told) < CLOCK_INTERVAL) {
            return;
        }
        self.told = Some(at.now);
        let Some(publisher) = room.publishers.get_mut(&self.number) else { return };
        let ntp = ntp_from_utc_ns(at.utc_ns);
        for (track, stream) in (0_u8..).zip(&self.streams) {
            let ts = stream.ts_of(stream.line.ticks_at(origin.at(at.now)));
            // The source counts a report that is not its own.
            let _foreign =
                publisher.source.handle_sender_report(track, None, stream.ssrc, (ntp, ts), at);
        }
    }
}

/// Frames that are decoded before they are shown are sent so much before the item's time at most.
const EARLY_NS: i64 = 500_000_000;
/// As publishers send reports.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);
