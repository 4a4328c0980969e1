//! The RTSP side of one session, without sockets: messages and time in, bytes and events out.
//!
//! ```text
//! Idle -> Options -> Describe -> Planning -> Setup(0) .. Setup(n-1) -> Play ---> Playing
//!                      (caller gives ports)                            ^           |  |
//!                                                play() ---------------+-----------+  | pause()
//!                                                                      +-- Paused <- Pause
//!                                       Closed <- Teardown <- teardown(), from any state
//! any state --bad answer, no answer--> Closed, with the failure as event
//! Options, Describe --3xx--> Closed, with the new place as event
//! any request --401--> the same again with the answer to the challenge, if the URL has a user
//! ```
//! RFC 2326 s10 and appendix A.1. Requests are not pipelined, apart from keep-alives, whose
//! answers nobody waits for (some cameras never send them).
//! Invariant: after `Event::Ended` or `Event::Failed` no further event and no byte comes out.
//! Bound: at most [`PENDING_MAX`] requests wait for their answers.

use crate::auth::Login;
use crate::description::TrackInfo;
use crate::failure::Failure;
use crate::headers::{RtpInfo, TransportReply};
use crate::request::{Head, Request, TransportAsk};
use crate::time::Mono;
use rtsp_types::headers as names;
use rtsp_types::{Message, Method, Response, StatusCode, Url, Version};
use std::collections::VecDeque;
use std::time::Duration;

/// Requests that may wait for an answer at once.
pub const PENDING_MAX: usize = 8;
/// How long an answer is waited for.
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// A server that does not answer TEARDOWN holds up the end of the run no longer than this; one that
/// gets ten thousand at once needs a few seconds.
pub const TEARDOWN_WAIT: Duration = Duration::from_secs(5);
/// RFC 2326 s12.37: the timeout when the server names none.
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(1);

/// What the caller should know or do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An answer came after this time.
    Answered(Request, Duration),
    /// Tracks are known: call [`RtspClient::handle_transports`].
    Described,
    /// SETUP of this track was answered.
    TrackReady(usize),
    /// PLAY was answered.
    Playing,
    /// PAUSE was answered.
    Paused,
    /// The title is elsewhere; this client is done.
    Redirected(Url),
    /// TEARDOWN is done.
    Ended,
    /// The session is over.
    Failed(Failure),
}

/// A track and what the server said about it.
#[derive(Debug, Clone)]
pub struct Track {
    /// From the description.
    pub info: TrackInfo,
    /// From the answer to SETUP.
    pub transport: Option<TransportReply>,
    /// From the answer to PLAY.
    pub rtp_info: Option<RtpInfo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Options,
    Describe,
    Planning,
    Setup { track: usize },
    Play,
    Playing,
    Pause,
    Paused,
    Teardown,
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    cseq: u32,
    request: Request,
    sent: Mono,
}

/// One client session.
#[derive(Debug)]
pub struct RtspClient {
    state: State,
    url: Url,
    aggregate: Url,
    tracks: Vec<Track>,
    asks: Vec<TransportAsk>,
    length: Option<Duration>,
    session_id: Option<String>,
    session_timeout: Duration,
    has_get_parameter: bool,
    login: Option<Login>,
    start: Option<Duration>,
    keep_alive_due: Option<Mono>,
    cseq: u32,
    pending: VecDeque<Pending>,
    out: Vec<u8>,
}

impl RtspClient {
    /// A client for `url` that has not said anything yet. A user in the URL is kept for servers
    /// that ask for one.
    #[must_use]
    pub fn new(mut url: Url) -> Self {
        let login = Login::take_from(&mut url);
        Self {
            state: State::Idle,
            aggregate: url.clone(),
            url,
            tracks: Vec::new(),
            asks: Vec::new(),
            length: None,
            session_id: None,
            session_timeout: SESSION_TIMEOUT,
            has_get_parameter: false,
            login,
            start: None,
            keep_alive_due: None,
            cseq: 0,
            pending: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// Bytes for the server; the caller drains what it has written.
    pub const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// The tracks, known from [`Event::Described`] on.
    #[must_use]
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Length of the title, absent for live.
    #[must_use]
    pub const fn length(&self) -> Option<Duration> {
        self.length
    }

    /// True from the answer to PLAY until TEARDOWN.
    #[must_use]
    pub fn is_playing(&self) -> bool {
        self.state == State::Playing
    }

    /// True from the answer to PAUSE until the next request.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state == State::Paused
    }

    /// True while the session stands and nothing about it is being asked.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self.state, State::Playing | State::Paused)
    }

    /// Asks for PAUSE; only a playing session does.
    pub fn pause(&mut self, now: Mono) {
        if self.state == State::Playing {
            self.state = State::Pause;
            self.send(Request::Pause, now);
        }
    }

    /// Asks for PLAY from `start`, or from where it is; only a session that is settled does.
    pub fn play(&mut self, start: Option<Duration>, now: Mono) {
        if self.is_settled() {
            self.state = State::Play;
            self.start = start;
            self.send(Request::Play, now);
        }
    }

    /// True after the last event.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The connection stands.
    pub fn handle_connected(&mut self, now: Mono) {
        if self.state == State::Idle {
            self.state = State::Options;
            self.send(Request::Options, now);
        }
    }

    /// Ports or channels for every track, in their order.
    pub fn handle_transports(&mut self, asks: Vec<TransportAsk>, now: Mono) {
        if self.state == State::Planning && asks.len() == self.tracks.len() {
            self.asks = asks;
            self.state = State::Setup { track: 0 };
            self.send(Request::Setup, now);
        }
    }

    /// One message of the server.
    pub fn handle_message(&mut self, message: &Message<Vec<u8>>, now: Mono, out: &mut Vec<Event>) {
        match message {
            Message::Response(response) => self.handle_response(response, now, out),
            Message::Request(request) => self.answer(request),
            // Interleaved frames are cut out before messages are parsed.
            Message::Data(_) => {}
        }
    }

    /// The connection is gone.
    pub fn handle_closed(&mut self, failure: Failure, out: &mut Vec<Event>) {
        match self.state {
            State::Closed => {}
            // Some servers close at TEARDOWN without an answer: that is an end, too.
            State::Teardown => self.close(Event::Ended, out),
            State::Idle
            | State::Options
            | State::Describe
            | State::Planning
            | State::Setup { .. }
            | State::Play
            | State::Playing
            | State::Pause
            | State::Paused => self.close(Event::Failed(failure), out),
        }
    }

    /// Time has passed: send what is due, give up what is overdue.
    pub fn handle_time(&mut self, now: Mono, out: &mut Vec<Event>) {
        if self.state == State::Closed {
            return;
        }
        self.pending.retain(|p| p.request != Request::KeepAlive || now.since(p.sent) < ANSWER_WAIT);
        if let Some(oldest) = self.pending.iter().find(|p| p.request != Request::KeepAlive) {
            let waited = now.since(oldest.sent);
            if self.state == State::Teardown && waited >= TEARDOWN_WAIT {
                self.close(Event::Ended, out);
            } else if waited >= ANSWER_WAIT {
                let failure = Failure::NotAnswered(oldest.request);
                self.close(Event::Failed(failure), out);
            }
        }
        if self.is_settled() && self.keep_alive_due.is_some_and(|due| now >= due) {
            self.keep_alive_due = Some(now.after(self.keep_alive_interval()));
            self.send(Request::KeepAlive, now);
        }
    }

    /// End the session politely.
    pub fn teardown(&mut self, now: Mono, out: &mut Vec<Event>) {
        match self.state {
            State::Closed | State::Teardown => {}
            _ if self.session_id.is_none() => self.close(Event::Ended, out),
            _ => {
                self.pending.clear();
                self.state = State::Teardown;
                self.send(Request::Teardown, now);
            }
        }
    }

    /// Give the session up for a reason the caller has found.
    pub fn fail(&mut self, failure: Failure, out: &mut Vec<Event>) {
        if self.state != State::Closed {
            self.close(Event::Failed(failure), out);
        }
    }

    fn close(&mut self, event: Event, out: &mut Vec<Event>) {
        self.state = State::Closed;
        self.pending.clear();
        out.push(event);
    }

    fn keep_alive_interval(&self) -> Duration {
        (self.session_timeout / 2).max(KEEP_ALIVE_MIN)
    }

    fn send(&mut self, request: Request, now: Mono) {
        if self.pending.len() >= PENDING_MAX {
            return;
        }
        let track = match self.state {
            State::Setup { track } => Some(track),
            _ => None,
        };
        let track_url = track.and_then(|track| self.tracks.get(track));
        let url = match request {
            Request::Options | Request::Describe => &self.url,
            Request::Announce | Request::Record => &self.url,
            Request::Setup => track_url.map_or(&self.aggregate, |track| &track.info.control),
            Request::Play | Request::Pause | Request::KeepAlive | Request::Teardown => {
                &self.aggregate
            }
        };
        let method = request.method(self.has_get_parameter);
        let login = self.login.as_mut();
        let authorization =
            login.and_then(|login| login.authorization((&method).into(), url.as_str()));
        self.cseq = self.cseq.wrapping_add(1);
        let head = Head {
            cseq: self.cseq,
            url,
            session_id: self.session_id.as_deref(),
            transport: track.and_then(|track| self.asks.get(track).copied()),
            is_secure: track
                .and_then(|track| self.tracks.get(track))
                .is_some_and(|track| track.info.is_secure),
            is_record: false,
            start: self.start,
            authorization: authorization.as_deref(),
            has_get_parameter: self.has_get_parameter,
            description: "",
        };
        request.write(&head, &mut self.out);
        self.pending.push_back(Pending { cseq: self.cseq, request, sent: now });
    }

    /// A server may ask whether we live; anything else it asks is not ours to do.
    fn answer<B>(&mut self, request: &rtsp_types::Request<B>) {
        let status = match request.method() {
            Method::Options | Method::GetParameter | Method::SetParameter => StatusCode::Ok,
            _ => StatusCode::NotImplemented,
        };
        let cseq = request.header(&names::CSEQ).map_or("0", |value| value.as_str());
        let reply = Response::builder(Version::V1_0, status).header(names::CSEQ, cseq).empty();
        let _ = reply.write(&mut self.out);
    }
}

#[path = "client_answers.rs"]
mod answers;

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
