//! What the outside is shown of a shard's sessions: one of them, or all of them page by page.
//!
//! ```text
//!  directory: the next SESSIONS_A_PAGE ids behind `after` --> SessionsPage, next
//! ```
//! Invariant: pages that follow one another show each session that was there all along once, in the
//! order of the ids, whatever begins and ends between them.
//! Bound: a page looks at `SESSIONS_A_PAGE` sessions.

use std::ops::Bound;

use crate::base::carrier::Lower;
use crate::base::ids::SessionId;
use crate::base::limits::SESSIONS_A_PAGE;
use crate::base::time::Npt;
use crate::consumers::sessions::Sessions;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::info::{SessionInfo, SessionsPage, StreamInfo};
use crate::vod::playback::Session;

impl Sessions {
    /// The sessions behind `after` in the order of their ids, from the first one without it.
    #[must_use]
    pub fn page(&self, after: Option<SessionId>) -> SessionsPage {
        // One more than a page shows whether there is another.
        let behind = self.cx.directory.behind(after);
        // Guests are on the pages of their homes.
        let own = behind
            .filter(|(id, _)| self.cx.home_of(*id) == self.cx.shard)
            .take(SESSIONS_A_PAGE + 1);
        let own = own.map(|(id, session)| (id, Some(session)));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let away = self.cx.away.range((from, Bound::Unbounded)).take(SESSIONS_A_PAGE + 1);
        let mut page: Vec<_> = own.chain(away.map(|id| (*id, None))).collect();
        page.sort_by_key(|(id, _)| *id);
        let has_more = page.len() > SESSIONS_A_PAGE;
        page.truncate(SESSIONS_A_PAGE);
        let next = page.last().map(|(id, _)| *id).filter(|_| has_more);
        let away = page.iter().filter(|(_, session)| session.is_none()).map(|(id, _)| *id);
        let away = away.collect();
        let here = page.into_iter().filter_map(|(id, session)| self.info_of(id, session?));
        SessionsPage { sessions: here.collect(), away, next }
    }

    /// One session.
    #[must_use]
    pub fn session_info(&self, id: SessionId) -> Option<SessionInfo> {
        self.info_of(id, self.cx.directory.find(id)?)
    }

    fn info_of(&self, id: SessionId, session: SessionRef) -> Option<SessionInfo> {
        let mut info = match session {
            SessionRef::Title(key) => {
                self.vod.players.session(key).map(|session| title_info(&self.cx, session))
            }
            SessionRef::Reader(_) | SessionRef::Publisher(_) => {
                self.live.session_info(&self.cx, session)
            }
        }?;
        info.channel = self.lineups.channel_info(&self.cx, id);
        if let Some(channel) = &info.channel {
            info.path.clone_from(&channel.lineup);
        }
        Some(info)
    }

    /// All of them.
    #[cfg(test)]
    pub(crate) fn infos(&self) -> Vec<SessionInfo> {
        let (mut infos, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(after);
            infos.extend(page.sessions);
            after = page.next;
            if after.is_none() {
                return infos;
            }
        }
    }
}

fn title_info(cx: &Cx, session: &Session) -> SessionInfo {
    let streams = session.streams.iter().map(|stream| {
        let report = stream.outgoing.report.as_ref();
        StreamInfo {
            track: stream.track_index,
            encoding: session
                .track(stream)
                .map(|track| track.payload.encoding_name.clone())
                .unwrap_or_default(),
            ssrc: format!("{:08X}", stream.outgoing.ssrc().map_or(0, |ssrc| ssrc.0)),
            packets_sent: stream.outgoing.sent().packets,
            payload_bytes_sent: stream.outgoing.sent().payload_bytes,
            quality: stream.quality.as_ref().map(|_| stream.level().as_str()),
            fraction_lost: report.map(|r| f64::from(r.block.fraction_lost) / 256.0),
            packets_lost: report.map(|r| i64::from(r.block.cumulative_lost)),
            jitter_s: report.map(|r| {
                f64::from(r.block.jitter) / f64::from(stream.outgoing.clock_rate_hz.max(1))
            }),
            round_trip_s: report
                .and_then(|r| r.round_trip_ns)
                .map(|ns| Npt(i64::try_from(ns).unwrap_or(i64::MAX)).as_secs_f64()),
        }
    });
    let lower = if session.is_interleaved() { Lower::Tcp } else { Lower::Udp };
    SessionInfo {
        id: session.client.id.to_string(),
        shard: Some(cx.shard.0),
        role: "reader",
        path: session.described.url_path.clone(),
        peer: session.client.peer.to_string(),
        user_agent: session.client.user_agent.clone(),
        user: session.client.user.as_deref().map(str::to_owned),
        state: session.state.shown().as_str(),
        transport: lower.label(),
        npt_s: session.npt_at(cx.now).as_secs_f64(),
        scale: session.epoch.map_or(1.0, |epoch| epoch.scale),
        speed: session.epoch.map_or(1.0, |epoch| epoch.speed),
        age_s: cx.now.since(session.client.created).as_secs_f64(),
        streams: streams.collect(),
        channel: None,
        reader: None,
        source: None,
    }
}
