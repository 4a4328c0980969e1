//! What becomes of a client that reads more slowly than it is played to.
//!
//! ```text
//! due       ----I------P------P------I------P------now
//! sent      ----I                    ^ goes on here, when it is later than the budget
//! ```
//! An interleaved session is paced by its connection: while that takes nothing the cursors wait. So
//! a player that pauses by not reading loses nothing, and without a budget it stays as late as that
//! made it. With one (`vod.lag_budget`), a session that is later than it skips to the newest sync
//! sample that is due, all its streams together: sequence numbers go on without a gap, time makes
//! the jump, and no frame is cut. Where there is no sync sample between, it goes on as it is.

use std::time::Duration;

use crate::base::time::Mono;
use crate::media::codec::MediaKind;
use crate::session::cx::Cx;
use crate::session::directory::SessionKey;
use crate::vod::playback::{Session, State};
use crate::vod::position;
use crate::vod::stream::Phase;
use crate::vod::table::Vod;

impl Vod {
    /// Skips ahead if a session, whose next frame was due at `due_at`, is too late. True: its
    /// streams stand at another place and wait for their windows.
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
            streams.iter().filter_map(|s| title.asset.tracks.get(usize::from(s.track_index)));
        let npt = position::actual_start(tracks, epoch.npt_at(now));
        // Only ahead, and by more than what the streams of a place are apart: a group of pictures
        // longer than the budget has nothing to skip to.
        if epoch.wall_of_npt(npt) < due_at + SKIP_MIN {
            return false;
        }
        for stream in streams {
            let is_sent = !matches!(stream.phase, Phase::Idle | Phase::Finishing | Phase::Ended);
            let track = title.asset.tracks.get(usize::from(stream.track_index));
            let Some(track) = track.filter(|_| is_sent) else { continue };
            let Some(start) = position::start(track, npt, epoch.scale) else { continue };
            let leading = (track.kind == MediaKind::Video).then_some(npt);
            stream.seek(start.cursor, leading);
            stream.phase = Phase::WaitsForWindow;
        }
        cx.cells.lag_skips.add(1);
        tracing::info!(
            session = %session.id, peer = %session.peer, late_s = late.as_secs_f64(),
            "the client reads too slowly (tcp_window): skipped to the newest sync sample"
        );
        true
    }
}

/// Reordered pictures are due up to some tenths of a second before they are shown, and sound begins
/// with the frame that a picture falls into.
const SKIP_MIN: Duration = Duration::from_millis(500);
