//! Viewers by WebRTC among the sessions of the API, as those of a shard with the id of the guest;
//! and how many watch each path by WebRTC and HLS.

use std::time::Instant;

use super::viewers::Viewers;
use crate::base::ids::SessionId;
use crate::base::limits::SESSIONS_A_PAGE;
use crate::live::core::info::{PathPart, PathsPage};
use crate::metrics::paths::PathTallies;
use crate::session::info::{SessionInfo, SessionsPage, StreamInfo};
use crate::shard::questions::Question;
use crate::whep::{TrackInfo, ViewerInfo};

/// Answers a question of the control thread.
pub(super) fn answer(question: Question, viewers: &Viewers, watchers: &super::Watchers) {
    match question {
        Question::Sessions { after, reply } => reply(page(viewers, after)),
        Question::Session { id, reply } => {
            reply(viewers.whep().viewer(id, Instant::now()).map(session));
        }
        Question::Paths { wanted, reply, .. } => {
            let mut page = PathsPage::default();
            let is_wanted = |path: &str| wanted.as_deref().is_none_or(|wanted| wanted == path);
            for (path, count) in viewers.whep().watched().filter(|(path, _)| is_wanted(path)) {
                let mut part = PathPart::new(path.clone());
                part.readers.webrtc = count as u64;
                page.parts.push(part);
            }
            for (path, count) in watchers.counts().into_iter().filter(|(path, _)| is_wanted(path)) {
                let mut part = PathPart::new(path);
                part.readers.hls = count as u64;
                page.parts.push(part);
            }
            reply(page);
        }
        // Sums of what shards count.
        Question::PathTable(reply) => reply(PathTallies::default()),
    }
}

fn page(viewers: &Viewers, after: Option<SessionId>) -> SessionsPage {
    let mut found = viewers.whep().viewers(after, SESSIONS_A_PAGE + 1, Instant::now());
    let has_more = found.len() > SESSIONS_A_PAGE;
    found.truncate(SESSIONS_A_PAGE);
    let next = found.last().map(|viewer| viewer.session).filter(|_| has_more);
    let sessions = found.into_iter().map(session).collect();
    SessionsPage { sessions, away: Vec::new(), next }
}

fn session(viewer: ViewerInfo) -> SessionInfo {
    let peer = viewer.addr.map_or_else(|| viewer.from.to_string(), |addr| addr.to_string());
    SessionInfo {
        id: viewer.session.to_string(),
        shard: None,
        role: "reader",
        path: viewer.path.to_string(),
        peer,
        user_agent: viewer.user_agent,
        user: viewer.user.as_deref().map(str::to_owned),
        state: if viewer.is_connected { "playing" } else { "ready" },
        transport: "webrtc",
        npt_s: 0.0,
        scale: 1.0,
        speed: 1.0,
        age_s: viewer.age.as_secs_f64(),
        streams: viewer.tracks.into_iter().map(stream).collect(),
        channel: None,
        reader: None,
        source: None,
    }
}

fn stream(track: TrackInfo) -> StreamInfo {
    let report = track.report;
    let packets_lost = report.and_then(|report| report.packets_lost);
    StreamInfo {
        track: track.track,
        encoding: track.encoding.to_owned(),
        ssrc: format!("{:08X}", track.ssrc),
        packets_sent: track.packets,
        payload_bytes_sent: track.payload_bytes,
        quality: None,
        fraction_lost: report.and_then(|report| report.fraction_lost),
        packets_lost,
        jitter_s: report.and_then(|report| report.jitter_s),
        round_trip_s: report.and_then(|report| report.round_trip).map(|time| time.as_secs_f64()),
    }
}
