//! RTCP of titles' players: periodic sender reports, BYE at the end, and reports from players.
//!
//! The first sender report goes out with the first packet, so that a player can synchronise sound
//! and video from the start (RFC 3550 s6.4).

use rand::RngExt;

use crate::base::ids::{SessionId, Ssrc};
use crate::base::random;
use crate::base::time::Mono;
use crate::metrics::cells::{QUALITY_CAUSES, ShardCells};
use crate::rtcp::interval::interval;
use crate::rtcp::{self, Feedback};
use crate::session::action::TimerKey;
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, SessionRef, StreamRef};
use crate::session::feedback::NackedStream;
use crate::session::outgoing::Own;
use crate::session::rtcp::{observe_report, send_rtcp, sender_info};
use crate::session::transport::Transport;
use crate::vod::playback::{Session, State};
use crate::vod::stream::{Phase, Stream};
use crate::vod::table::Players;
use crate::vod::thinning::Change;

impl Players {
    /// Sends the sender reports of a session, which are due.
    pub fn handle_report_due(&mut self, cx: &mut Cx, key: SessionKey, epoch_count: u32) {
        // After BYE on all streams there is nothing to report any more.
        let is_current =
            |s: &Session| s.epoch_count == epoch_count && matches!(s.state, State::Playing);
        if !self.session(key).is_some_and(is_current) {
            return;
        }
        self.send_reports(cx, key);
        self.observe_lag(cx, key);
        let bandwidth = self.session(key).map_or(0, session_bandwidth_bits);
        let random = random::rng().random_range(0.0..1.0);
        // Two members: the player, and the server as the only sender.
        let wait = interval(bandwidth, 2, 1, true, REPORT_BYTES, false, random);
        self.wait_for_report(cx, key, cx.now + wait);
    }

    /// Schedules the reports of a session at `due`; this replaces an earlier time.
    pub(crate) fn wait_for_report(&mut self, cx: &mut Cx, key: SessionKey, due: Mono) {
        let Some(session) = self.slab.get_mut(key.0 as usize) else { return };
        let timer = TimerKey::Report { session: key, epoch_count: session.epoch_count };
        cx.wheel.replace(&mut session.timers.report, due, timer);
    }

    /// Schedules BYE on a stream at `due`: the stream sends nothing else.
    pub fn wait_for_bye(&mut self, cx: &mut Cx, at: StreamRef, due: Mono) {
        let StreamRef { session, stream_index, epoch_count } = at;
        let Some(stream) = self
            .slab
            .get_mut(session.0 as usize)
            .and_then(|session| session.streams.get_mut(usize::from(stream_index)))
        else {
            return;
        };
        stream.phase = Phase::Finishing;
        let key = TimerKey::Bye { session, stream_index, epoch_count };
        cx.wheel.replace(&mut stream.timer, due, key);
    }

    /// Sends a sender report on every playing stream.
    pub(crate) fn send_reports(&self, cx: &mut Cx, key: SessionKey) {
        let count = self.session(key).map_or(0, |s| s.streams.len());
        for index in 0..count {
            let Some(session) = self.session(key) else { return };
            let phase = session.streams[index].phase;
            if !matches!(phase, Phase::Idle | Phase::Ended) {
                self.send_report(cx, key, index, None);
            }
        }
    }

    /// Sends BYE on a stream whose last frame has been shown.
    pub fn handle_bye_due(
        &mut self,
        cx: &mut Cx,
        key: SessionKey,
        stream_index: u8,
        epoch_count: u32,
    ) {
        let Some(session) = self.slab.get_mut(key.0 as usize) else { return };
        if session.epoch_count != epoch_count {
            return;
        }
        let index = usize::from(stream_index);
        let Some(stream) = session.streams.get_mut(index) else { return };
        if stream.phase != Phase::Finishing {
            return;
        }
        stream.phase = Phase::Ended;
        let is_over = session.streams.iter().all(|s| matches!(s.phase, Phase::Ended | Phase::Idle));
        // A session of a line-up plays something else under the same SSRC.
        let says_bye = session.client.told.is_none();
        if says_bye {
            self.send_report(cx, key, index, Some("end of stream"));
        }
        if is_over {
            self.set_state(cx, key, State::Ended);
            // Muted streams end with the others: a player waits for the BYE of each stream (rule
            // C9).
            let count = self.session(key).map_or(0, |s| s.streams.len());
            for index in 0..count {
                let Some(stream) = self.stream_mut(key, index) else { return };
                if stream.phase == Phase::Idle {
                    stream.phase = Phase::Ended;
                    if says_bye {
                        self.send_report(cx, key, index, Some("end of stream"));
                    }
                }
            }
        }
    }

    /// Sends BYE on every stream that has not sent it, if the player has had packets of the stream.
    pub(crate) fn say_bye(&self, cx: &mut Cx, key: SessionKey, reason: Option<&str>) {
        let count = self.session(key).map_or(0, |s| s.streams.len());
        for index in 0..count {
            let Some(session) = self.session(key) else { return };
            let has_said =
                session.streams[index].phase == Phase::Ended && session.client.told.is_none();
            if session.epoch.is_some() && !has_said {
                self.send_report(cx, key, index, Some(reason.unwrap_or("session ended")));
            }
        }
    }

    pub(crate) fn send_report(
        &self,
        cx: &mut Cx,
        key: SessionKey,
        index: usize,
        bye: Option<&str>,
    ) {
        let (now, utc_ns) = (cx.now, cx.utc_ns);
        let mut bytes = cx.take_bytes();
        let Some(session) = self.session(key) else { return };
        let Some(stream) = session.streams.get(index) else { return };
        let Some(&Own { ssrc, sent, .. }) = stream.outgoing.own() else { return };
        match &session.epoch {
            Some(epoch) => {
                let rtp_ts = stream.ts_at(epoch, now);
                let info = sender_info(utc_ns, rtp_ts, sent.packets, sent.payload_bytes);
                rtcp::write_sender_report(&mut bytes, ssrc, &info, &session.client.cname, bye);
            }
            None => {
                let reason = bye.unwrap_or("session ended");
                rtcp::write_empty_rr_bye(&mut bytes, ssrc, &session.client.cname, reason);
            }
        }
        let way = (stream.outgoing.transport, stream.outgoing.srtp.as_ref());
        send_rtcp(cx, way, session.client.connection, bytes);
    }

    /// Requests retransmission of the packets that a player's compound packet names.
    fn handle_nacks(&self, cx: &mut Cx, key: SessionKey, bytes: &[u8]) {
        let Some(session) = self.session(key) else { return };
        let is_session_playing = matches!(session.state, State::Playing);
        let stream_of = |media| {
            let has_ssrc = |(_, stream): &(usize, &Stream)| stream.outgoing.ssrc() == Some(media);
            let (index, stream) = session.streams.iter().enumerate().find(has_ssrc)?;
            let is_sent = !matches!(stream.phase, Phase::Idle | Phase::Ended);
            let (has_rtx, is_playing) = (stream.resender.is_some(), is_session_playing && is_sent);
            Some(NackedStream { index, has_rtx, is_playing })
        };
        cx.handle_nacks(SessionRef::Title(key), session.epoch_count, bytes, stream_of);
    }

    /// Handles RTCP from a session's player: `feedback` is `bytes` parsed.
    pub(crate) fn handle_report(
        &mut self,
        cx: &mut Cx,
        key: SessionKey,
        feedback: &Feedback,
        bytes: &[u8],
    ) {
        self.touch(cx, key);
        self.handle_nacks(cx, key, bytes);
        let ntp = rtcp::ntp_from_utc_ns(cx.utc_ns);
        let Some(session) = self.slab.get_mut(key.0 as usize) else { return };
        let now = cx.now;
        let is_playing = matches!(session.state, State::Playing);
        for block in feedback.reports.iter().copied() {
            let has_ssrc = |s: &&mut Stream| s.outgoing.ssrc() == Some(Ssrc(block.ssrc));
            let Some(stream) = session.streams.iter_mut().find(has_ssrc) else { continue };
            let cells = &cx.cells;
            let clock_rate_hz = stream.outgoing.clock_rate_hz;
            let round_trip_ns = observe_report(cells, &block, clock_rate_hz, ntp);
            stream.outgoing.note_report(block, round_trip_ns);
            let is_sent = is_playing && !matches!(stream.phase, Phase::Idle | Phase::Ended);
            let is_udp = matches!(stream.outgoing.transport, Transport::Udp { .. });
            let quality = stream.quality.as_mut().filter(|_| is_sent && is_udp);
            if let Some(change) = quality.and_then(|q| q.handle_report(block.fraction_lost, now)) {
                change_level(&session.client.id, stream, change, cells);
            }
        }
    }

    /// Observes the lag of interleaved streams. Over TCP no packet is lost; a player on a narrow
    /// route falls behind. Such a stream is thinned only with a lag budget, which says that lag is
    /// worse than missing frames; a recorder that reads slowly gets everything. A player that asked
    /// for more than a second a second is behind by its own choice.
    fn observe_lag(&mut self, cx: &Cx, key: SessionKey) {
        if cx.config.lag_budget.is_zero() {
            return;
        }
        let now = cx.now;
        let Some(session) = self.slab.get_mut(key.0 as usize) else { return };
        let Some(epoch) = session.epoch.filter(|epoch| epoch.speed <= 1.0) else { return };
        for stream in &mut session.streams {
            if matches!(stream.outgoing.transport, Transport::Udp { .. })
                || stream.quality.is_none()
            {
                continue;
            }
            let lag = stream.lag(&epoch, now);
            let quality = stream.quality.as_mut();
            if let Some(change) = quality.and_then(|quality| quality.handle_lag(lag, now)) {
                change_level(&session.client.id, stream, change, &cx.cells);
            }
        }
    }
}

fn change_level(id: &SessionId, stream: &mut Stream, change: Change, cells: &ShardCells) {
    let Change { level, cause } = change;
    cells.quality_levels[stream.level() as usize].sub(1);
    cells.quality_levels[level as usize].add(1);
    cells.quality_changes[cause as usize].add(1);
    tracing::info!(
        code = "HE-I202", session = %id, level = level.as_str(),
        cause = QUALITY_CAUSES[cause as usize],
        "video quality changed"
    );
    stream.set_level(level);
}

/// Media bits per second of a session, for the RTCP share.
fn session_bandwidth_bits(session: &Session) -> u64 {
    let seconds = u64::try_from(session.title.asset.duration.0 / 1_000_000_000).unwrap_or(0).max(1);
    session.title.asset.file_bytes.saturating_mul(8) / seconds
}

/// Size of SR + SDES with a CNAME over UDP and IP, as averaged by RFC 3550 s6.3.1.
const REPORT_BYTES: f64 = 100.0;
