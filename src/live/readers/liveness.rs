//! Liveness of readers: a client that gives no sign of life for too long is ended.
//!
//! ```text
//!  tick --> backlog: LOOKED_AT_A_TURN readers --silent for the limit--> BYE, ended
//!                                              `--report due----------> sender report
//! ```
//! Each reader is looked at about once a second anyway, for its skips and its reports. So its
//! silence is found by that walk, and not by a key of the wheel as for titles
//! (`vod::table::Players::watch`): a title's session has no other work each second.
//! Bound: that of `backlog`.

use std::time::Duration;

use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::live::readers::reader::ReaderState;
use crate::session::cx::Cx;

impl Readers {
    pub(crate) fn look_after(&mut self, cx: &mut Cx, hub: &mut Hub, index: u32) {
        let (now, timeout) = (cx.now, cx.config.timeout);
        let Some(reader) = self.table.get(index as usize) else { return };
        // As for titles (client rule C16).
        let is_carried = reader.is_interleaved()
            && reader.client.connection.is_some()
            && matches!(reader.state, ReaderState::Priming { .. } | ReaderState::Playing);
        let limit =
            if reader.client.connection.is_some() { timeout } else { timeout.min(ORPHAN_TIMEOUT) };
        let silent = now.since(reader.client.alive);
        if reader.is_session() && !is_carried && silent >= limit {
            tracing::info!(
                code = "HE-I311", session = %reader.client.id, silent_s = silent.as_secs(),
                "session timed out"
            );
            cx.cells.sessions_timed_out.add(1);
            self.dismiss_reader(cx, hub, index, "timeout");
        } else if reader.report_due <= now {
            self.send_live_reports(cx, hub, index);
        }
    }
}

/// As for titles: limit of a session whose RTSP connection closed without TEARDOWN.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(15);
