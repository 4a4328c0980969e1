//! PLAY (RFC 2326 s10.5): start, resume, seek, change of Scale or Speed.
//!
//! A PLAY with a Range (or one that changes which samples are sent) moves the streams and waits for
//! their first windows. The answer is written when the windows are here, so that a title that
//! cannot be played is refused instead of silent, and the first packet follows the answer at once.
//! A PLAY that only continues keeps every stream at its next packet: no packet is repeated or
//! skipped. A PLAY while playing takes effect at once; the queue of RFC 2326 s10.5 is not kept.

use crate::base::time::{Npt, rescale};
use crate::media::codec::MediaKind;
use crate::media::window::WindowKind;
use crate::poll::task::WindowFailure;
use crate::rtsp::headers::{RtpInfo, parse_scale, parse_speed, write_rate, write_rtp_info};
use crate::rtsp::range::{NptStart, Range, RangeHeader, parse_range};
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::action::TimerKey;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::SessionKey;
use crate::session::directory::StreamRef;
use crate::vod::cursor::Next;
use crate::vod::epoch::{Epoch, Rate};
use crate::vod::methods::{aggregate_only, answer};
use crate::vod::playback::{Echo, Priming, Session, State};
use crate::vod::position::{
    self, actual_start, is_sent, nearest_scale, nearest_speed, window_kind,
};
use crate::vod::service::Vod;
use crate::vod::stream::{Phase, Stream};

/// The parameters of a PLAY request.
struct Asked {
    range: Option<RangeHeader>,
    start: Option<Npt>,
    end: Option<Npt>,
    scale: f64,
    speed: f64,
    echo: Echo,
}

impl Vod {
    pub(crate) fn play(&mut self, cx: &mut Cx, command: Command, key: SessionKey) -> Executed {
        let Some(session) = self.players.session(key) else {
            return command.refuse(Status::SessionNotFound);
        };
        let asked = match asked(session, &command) {
            Ok(asked) => asked,
            Err(status) => return command.refuse(status),
        };
        let now = cx.now;
        if let Some(session) = self.players.session_mut(key) {
            session.play_received = Some(now);
        }
        if asked.start.is_none() && self.continues(key, asked.scale) {
            return self.go_on(cx, &command, key, &asked);
        }
        self.move_to(cx, command, key, asked)
    }

    /// Whether the streams can stay in place: playing or paused, with the same samples to send.
    fn continues(&self, key: SessionKey, scale: f64) -> bool {
        let Some(session) = self.players.session(key) else { return false };
        let is_under_way = matches!(session.state, State::Playing | State::Paused { .. });
        let same_samples = session.epoch.is_some_and(|epoch| {
            window_kind(epoch.scale) == window_kind(scale) && (epoch.scale < 0.0) == (scale < 0.0)
        });
        // A stream that was set up during the pause has no place yet.
        let all_placed = session.streams.iter().all(|stream| {
            let is_sent = session.track(stream).is_some_and(|track| is_sent(track, scale));
            stream.feed.cursor.is_some() || !is_sent
        });
        is_under_way && same_samples && all_placed
    }

    /// Resumes, changes the rate, or repeats the present state.
    fn go_on(
        &mut self,
        cx: &mut Cx,
        command: &Command,
        key: SessionKey,
        asked: &Asked,
    ) -> Executed {
        let now = cx.now;
        let Some(session) = self.players.slab.get_mut(key.0 as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        let at = if let State::Paused { at } = session.state { at } else { now };
        let (scale, speed) = (asked.scale, asked.speed);
        let rate = Rate { now, wall: self.stagger.next(now), scale, speed };
        let old = session.epoch;
        let Some(epoch) = session.continued_epoch(at, rate) else {
            return command.refuse(Status::MethodNotValidInThisState);
        };
        if asked.range.is_some() {
            session.end = asked.end;
        }
        session.end_epoch(&mut cx.wheel);
        let anchors = session
            .streams
            .iter()
            .map(|stream| rescale(epoch.npt.0, 1_000_000_000, stream.outgoing.clock_rate_hz))
            .collect::<Vec<_>>();
        self.begin_epoch(cx, key, epoch, &anchors, old.as_ref());
        let Some(session) = self.players.session(key) else {
            return command.refuse(Status::SessionNotFound);
        };
        let response =
            play_answer(answer(command, session), session, asked.range.as_ref(), asked.echo);
        Executed::Reply(response)
    }

    /// Seeks, or starts for the first time: the streams move, and the answer waits for their
    /// windows.
    fn move_to(
        &mut self,
        cx: &mut Cx,
        command: Command,
        key: SessionKey,
        asked: Asked,
    ) -> Executed {
        let now = cx.now;
        let Some(session) = self.players.slab.get_mut(key.0 as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        let is_over = matches!(session.state, State::Ended | State::Ready);
        let wanted = asked.start.unwrap_or_else(|| match asked.scale < 0.0 {
            // At the end, or never started: begins at the start of the title; backwards, at its
            // end.
            true if is_over => session.title.asset.duration,
            false if is_over => Npt::ZERO,
            _ => session.next_npt(now),
        });
        let before = match session.state {
            State::Paused { at } => State::Paused { at },
            State::Playing | State::Priming(_) => State::Paused { at: now },
            State::Ready => State::Ready,
            State::Ended => State::Ended,
        };
        session.end_epoch(&mut cx.wheel);
        let npt = actual_start(session.tracks(), wanted);
        let mut anchors = Vec::with_capacity(session.streams.len());
        let title = session.title.clone();
        for stream in &mut session.streams {
            stream.phase = Phase::Idle;
            let track = title.asset.tracks.get(usize::from(stream.feed.track_index));
            let start = track
                .filter(|track| is_sent(track, asked.scale))
                .and_then(|track| position::start(track, npt, asked.scale));
            anchors.push(start.as_ref().map_or(0, |start| start.anchor_ticks));
            let is_video = track.is_some_and(|t| t.kind == MediaKind::Video);
            let skip = (is_video && npt > Npt::ZERO && asked.scale > 0.0).then_some(npt);
            match start {
                Some(start) => stream.seek(start.cursor, skip),
                None => stream.feed.cursor = None,
            }
        }
        let priming = Priming {
            reply_to: command.reply_to,
            cseq: command.request.cseq,
            asked: asked.range,
            npt,
            end: asked.end,
            scale: asked.scale,
            speed: asked.speed,
            echo: asked.echo,
            anchors,
            before,
        };
        let count = session.streams.len();
        self.players.set_state(cx, key, State::Priming(Box::new(priming)));
        for index in 0..count {
            self.request_windows(cx, key, u8::try_from(index).unwrap_or(u8::MAX));
        }
        self.finish_play_when_primed(cx, key);
        Executed::Later
    }

    /// Answers the PLAY and starts the streams when the first window of each is here.
    pub(crate) fn finish_play_when_primed(&mut self, cx: &mut Cx, key: SessionKey) {
        let now = cx.now;
        let Some(session) = self.players.slab.get_mut(key.0 as usize) else { return };
        let State::Priming(priming) = &session.state else { return };
        let is_here = |stream: &Stream| stream.feed.cursor.is_none() || stream.window().is_some();
        if !session.streams.iter().all(is_here) {
            return;
        }
        let (scale, speed) = (priming.scale, priming.speed);
        let (reply_to, cseq, echo) = (priming.reply_to, priming.cseq, priming.echo);
        let (asked, npt, mut anchors) = (priming.asked, priming.npt, priming.anchors.clone());
        session.end = priming.end;
        let npt = first_npt(session, npt, &mut anchors);
        let due_zero = first_due(session, npt, scale);
        let wall = self.stagger.next(now);
        let epoch = Epoch { wall, npt, due_zero, scale, speed, playout_ns: 0 };
        let playout_ns = session.epoch.map_or(0, |old| {
            let sent = session.playout_sent_ns().saturating_add(RTP_TIME_STEP_NS);
            let early = first_lead_ns(session, &epoch, &anchors);
            old.playout_at(now).max(sent.saturating_add(early))
        });
        let epoch = Epoch { playout_ns, ..epoch };
        self.begin_epoch(cx, key, epoch, &anchors, None);
        let Some(session) = self.players.session(key) else { return };
        let response =
            Response::new(Status::Ok, cseq).header("Session", session.client.id.to_string());
        let response = play_answer(response, session, asked.as_ref(), echo);
        cx.out.push(Action::Respond { reply_to, response });
        self.players.release_held(cx, key);
    }

    /// Puts every stream with samples to send on the wheel, due at once. `from` is the epoch that
    /// this one continues; `None` when the streams were moved.
    fn begin_epoch(
        &mut self,
        cx: &mut Cx,
        key: SessionKey,
        epoch: Epoch,
        anchors: &[i64],
        from: Option<&Epoch>,
    ) {
        let Some(session) = self.players.slab.get_mut(key.0 as usize) else { return };
        session.epoch = Some(epoch);
        let epoch_count = session.epoch_count;
        let mut active = Vec::with_capacity(session.streams.len());
        for (index, stream) in session.streams.iter_mut().enumerate() {
            stream.begin_epoch(&epoch, anchors.get(index).copied().unwrap_or(0), from);
            if stream.feed.cursor.is_some() && stream.phase != Phase::Ended {
                active.push(u8::try_from(index).unwrap_or(u8::MAX));
            }
        }
        let now = cx.now;
        if active.is_empty() {
            // A track without samples: a player waits for its BYE (rule C9).
            for (index, stream) in session.streams.iter_mut().enumerate() {
                stream.phase = Phase::Finishing;
                let stream_index = u8::try_from(index).unwrap_or(u8::MAX);
                let timer = TimerKey::Bye { session: key, stream_index, epoch_count };
                cx.wheel.replace(&mut stream.timer, now, timer);
            }
        }
        self.players.set_state(cx, key, State::Playing);
        for stream_index in active {
            self.request_windows(cx, key, stream_index);
            self.players.schedule(cx, StreamRef { session: key, stream_index, epoch_count }, now);
        }
        self.players.wait_for_report(cx, key, now);
    }

    /// Refuses a PLAY that waits for windows, because too many tasks wait already.
    pub(crate) fn refuse_play(&mut self, cx: &mut Cx, key: SessionKey) {
        self.answer_priming(cx, key, Status::ServiceUnavailable, Some("1"));
        let Some(session) = self.players.slab.get_mut(key.0 as usize) else { return };
        session.end_epoch(&mut cx.wheel);
        // The streams stand where the refused PLAY would have begun: the next PLAY places them
        // anew.
        for stream in &mut session.streams {
            stream.feed.cursor = None;
        }
        self.players.release_held(cx, key);
    }

    /// Refuses a PLAY whose windows cannot be built; the session ends after that.
    pub(crate) fn fail_play(&mut self, cx: &mut Cx, key: SessionKey, failure: &WindowFailure) {
        let status = match failure {
            WindowFailure::FileChanged => Status::NotFound,
            _ => Status::InternalServerError,
        };
        self.answer_priming(cx, key, status, None);
    }

    fn answer_priming(
        &mut self,
        cx: &mut Cx,
        key: SessionKey,
        status: Status,
        retry_after: Option<&str>,
    ) {
        let Some(session) = self.players.session_mut(key) else { return };
        if !matches!(session.state, State::Priming(_)) {
            return;
        }
        // The gauge counts `Playing` as it counts `Priming`; the old state comes back right after.
        let taken = std::mem::replace(&mut session.state, State::Playing);
        let State::Priming(priming) = taken else { return };
        let reply_to = priming.reply_to;
        let mut response = Response::new(status, priming.cseq);
        if let Some(seconds) = retry_after {
            response = response.header("Retry-After", seconds);
        }
        cx.out.push(Action::Respond { reply_to, response });
        self.players.set_state(cx, key, priming.before);
    }
}

/// Reads Range, Scale and Speed of a PLAY.
fn asked(session: &Session, command: &Command) -> Result<Asked, Status> {
    aggregate_only(session, command)?;
    let request = &command.request;
    let has_video = session.tracks().any(|track| track.kind == MediaKind::Video);
    let (scale_text, speed_text) = (request.header("Scale"), request.header("Speed"));
    let scale = match scale_text {
        Some(text) => parse_scale(text).map_err(|_| Status::BadRequest)?,
        // RFC 2326 s12.34: without the header, normal play; a resume keeps its rate only on
        // request.
        None => 1.0,
    };
    let speed = match speed_text {
        Some(text) => parse_speed(text).map_err(|_| Status::BadRequest)?,
        None => 1.0,
    };
    if scale == 0.0 || !scale.is_finite() || !speed.is_finite() || speed <= 0.0 {
        return Err(Status::BadRequest);
    }
    let scale = nearest_scale(scale, has_video);
    let range = match request.header("Range") {
        Some(text) => Some(parse_range(text).map_err(|_| Status::BadRequest)?),
        None => None,
    };
    let (start, end) = match &range {
        Some(header) => {
            let span = position::resolve(&header.range, &session.title, scale < 0.0)
                .map_err(|_| Status::InvalidRange)?;
            (span.start, span.end)
        }
        None if matches!(session.state, State::Ended) => (None, None),
        None => (None, session.end),
    };
    let echo = Echo { scale: scale_text.is_some(), speed: speed_text.is_some() };
    Ok(Asked { range, start, end, scale, speed: nearest_speed(speed), echo })
}

/// Answers PLAY with Range, RTP-Info, and with Scale and Speed if requested or not 1.
fn play_answer(
    response: Response,
    session: &Session,
    asked: Option<&RangeHeader>,
    echo: Echo,
) -> Response {
    let Some(epoch) = &session.epoch else { return response };
    let mut response = response.header("Range", answered_range(session, epoch, asked));
    #[expect(clippy::float_cmp, reason = "1 is the value that means: as recorded")]
    let (is_scaled, is_sped) = (epoch.scale != 1.0, epoch.speed != 1.0);
    if echo.scale || is_scaled {
        response = response.header("Scale", write_rate(epoch.scale));
    }
    if echo.speed || is_sped {
        response = response.header("Speed", write_rate(epoch.speed));
    }
    let entries: Vec<RtpInfo> = session
        .streams
        .iter()
        .filter(|stream| !matches!(stream.phase, Phase::Idle | Phase::Ended))
        .map(|stream| RtpInfo {
            url: stream.outgoing.control_url.to_string(),
            seq: stream.next_seq().0,
            rtptime: stream.epoch_ts().0,
        })
        .collect();
    response.header("RTP-Info", write_rtp_info(&entries))
}

/// The range that is actually played, in the requested unit. The answer has an end only if the
/// request has one, as with live555's server: GStreamer drops frames after the end of the range,
/// and by GStreamer's clock the last frame often is after the end.
fn answered_range(session: &Session, epoch: &Epoch, asked: Option<&RangeHeader>) -> String {
    let start = epoch.npt;
    let end = session.end.or_else(|| (epoch.scale < 0.0).then_some(Npt::ZERO));
    let range = match asked.map(|header| &header.range) {
        Some(Range::Smpte { kind, .. }) => Range::Smpte { kind: *kind, start, end },
        Some(Range::Clock { .. }) => {
            let zero = session.title.recorded_utc_ns();
            Range::Clock {
                start_utc_ns: zero.saturating_add(start.0),
                end_utc_ns: end.map(|end| zero.saturating_add(end.0)),
            }
        }
        Some(Range::Npt { .. }) | None => Range::Npt { start: Some(NptStart::At(start)), end },
    };
    range.to_string()
}

/// Start of the range by the first frames at `npt`: with video, the time of the sync sample; with
/// sound alone, the time of the packet that `npt` lies in.
pub(crate) fn first_npt(session: &mut Session, npt: Npt, anchors: &mut [i64]) -> Npt {
    let Session { title, streams, .. } = session;
    let is_video = |stream: &Stream| {
        let track = title.asset.tracks.get(usize::from(stream.feed.track_index));
        stream.feed.cursor.is_some() && track.is_some_and(|track| track.kind == MediaKind::Video)
    };
    if npt <= Npt::ZERO || streams.iter().any(is_video) {
        return npt;
    }
    let first = streams.iter_mut().enumerate().find_map(|(index, stream)| {
        match stream.feed.cursor.as_mut()?.peek() {
            Next::Frame(frame) => Some((index, frame)),
            Next::Waiting | Next::End => None,
        }
    });
    let Some((index, frame)) = first.filter(|(_, f)| (Npt::ZERO..=npt).contains(&f.npt)) else {
        return npt;
    };
    for (at, (stream, anchor)) in streams.iter().zip(anchors).enumerate() {
        *anchor = if at == index {
            frame.rtp_ticks
        } else {
            rescale(frame.npt.0, 1_000_000_000, stream.outgoing.clock_rate_hz)
        };
    }
    frame.npt
}

/// Playout time from the earliest first frame to the start of the range: sound begins with the
/// packet that the start falls into.
fn first_lead_ns(session: &mut Session, epoch: &Epoch, anchors: &[i64]) -> i64 {
    let streams = session.streams.iter_mut().zip(anchors);
    let leads = streams.filter_map(|(stream, anchor)| match stream.feed.cursor.as_mut()?.peek() {
        Next::Frame(frame) => {
            let ticks = epoch.rtp_delta(&frame, *anchor).saturating_neg();
            Some(rescale(ticks, stream.outgoing.clock_rate_hz, 1_000_000_000))
        }
        Next::Waiting | Next::End => None,
    });
    leads.max().unwrap_or(0).max(0)
}

/// Earliest decode time of all streams' first frames: the wall clock starts there.
pub(crate) fn first_due(session: &mut Session, npt: Npt, scale: f64) -> Npt {
    if window_kind(scale) == WindowKind::Sync {
        return npt;
    }
    let frames =
        session.streams.iter_mut().filter_map(|stream| match stream.feed.cursor.as_mut()?.peek() {
            Next::Frame(frame) => Some(frame.due),
            _ => None,
        });
    frames.min().unwrap_or(npt)
}

/// Least step of RTP time after a seek: the length of a frame.
const RTP_TIME_STEP_NS: i64 = 40_000_000;
