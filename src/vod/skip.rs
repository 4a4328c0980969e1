//! Skips ahead for a client that reads more slowly than it is played to.
//!
//! ```text
//! due       ----I------P------P------I------P------now
//! sent      ----I                    ^ continues here if the lag exceeds the budget
//! ```
//! The connection paces an interleaved session: while the connection takes nothing the cursors
//! wait. So a player that pauses by not reading loses nothing; without a budget the player keeps
//! that lag. With a budget (`vod.lag_budget`) a session with a larger lag skips to the newest sync
//! sample that is due, all streams together: sequence numbers have no gap, RTP time jumps, and no
//! frame is cut. Without a sync sample in between the session continues as it is.

use std::time::Duration;

use crate::base::time::Mono;
use crate::media::codec::MediaKind;
use crate::session::cx::Cx;
use crate::session::directory::SessionKey;
use crate::vod::playback::{Session, State};
use crate::vod::position;
use crate::vod::stream::Phase;
use crate::vod::table::Players;

impl Players {
    /// Skips ahead if a session, whose next frame was due at `due_at`, is too late. True when the
    /// streams have moved and wait for their windows.
    pub fn skip_if_late(&mut self, cx: &mut Cx, key: SessionKey, due_at: Mono) -> bool {
        let (now, budget) = (cx.now, cx.config.lag_budget);
        let late = now.since(due_at);
        if budget.is_zero() || late <= budget {
            return false;
        }
        let Some(session) = self.slab.get_mut(key.0 as usize) else { return false };
        let Session { title, state: State::Playing, epoch: Some(epoch), streams, .. } = session
        else {
            return false;
        };
        let is_backward = epoch.scale < 0.0;
        let can_skip = streams.iter().all(crate::vod::stream::Stream::is_at_frame_start);
        if is_backward || !can_skip {
            return false;
        }
        let tracks =
            streams.iter().filter_map(|s| title.asset.tracks.get(usize::from(s.feed.track_index)));
        let npt = position::actual_start(tracks, epoch.npt_at(now));
        // Only forwards, and by more than the streams of one place are apart: in a group of
        // pictures that is longer than the budget there is nothing to skip to.
        if epoch.wall_of_npt(npt) < due_at + SKIP_MIN {
            return false;
        }
        for stream in streams {
            let is_sent = !matches!(stream.phase, Phase::Idle | Phase::Finishing | Phase::Ended);
            let track = title.asset.tracks.get(usize::from(stream.feed.track_index));
            let Some(track) = track.filter(|_| is_sent) else { continue };
            let Some(start) = position::start(track, npt, epoch.scale) else { continue };
            let leading = (track.kind == MediaKind::Video).then_some(npt);
            stream.seek(start.cursor, leading);
            stream.phase = Phase::WaitsForWindow;
        }
        cx.cells.lag_skips.add(1);
        tracing::info!(
            code = "HE-I203", session = %session.client.id, peer = %session.client.peer,
            late_s = late.as_secs_f64(),
            "client reads too slowly (tcp_window): skipped to the newest sync sample"
        );
        true
    }
}

/// Reordered frames are due up to some tenths of a second before their presentation, and sound
/// begins with the packet that a frame falls into.
const SKIP_MIN: Duration = Duration::from_millis(500);
