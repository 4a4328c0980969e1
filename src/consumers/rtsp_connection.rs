//! `RtspConnection`: one RTSP connection (RFC 2326), requests in, answers and interleaved data out.
//!
//! ```text
//!  bytes -> RequestReader -> request --+--> answered in place -----------> output
//!                                      +--> Task (title to be opened)  --.   ^
//!                                      +--> session of another shard   --+---+
//!                                      +--> PLAY waiting for windows   --'
//! ```
//! Invariant: one request at a time. While one waits, nothing more is read, so pipelined requests
//! are answered in their order (RFC 2326 s9.1) and a client that floods fills its own TCP window.
//! A connection that has made no request yet is half open. Its first request, and later any request
//! that has begun, has a time limit as long as the connection has no session (`due`).
//! Bounds: the reader's limits; `REQUESTS_A_VISIT` and `FRAMES_A_VISIT` messages before others have
//! their turn; `OUTPUT_BYTES_MAX` of answers that the client does not take.

mod beginning;
mod channel;
mod login;
mod moving;
mod secure_media;
mod takeover;
mod tunnelling;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Context;
use super::asked::Asked;
use super::describe;
use super::garbage::Garbage;
use super::taking::{PeerState, Stall, Taking};
use super::tls::Secured;
use super::tunnel::Carries;
use crate::base::addresses::AddressPlace;
use crate::base::ids::SessionId;
use crate::base::limits::{FRAMES_A_VISIT, OUTPUT_BYTES_MAX, REQUESTS_A_VISIT};
use crate::base::names::Name;
use crate::base::secrets::shown_url;
use crate::base::time::Mono;
use crate::base::wheel::Timer;
use crate::library::title::Title;
use crate::poll::consumer::{Disposition, Event, PollEventConsumer};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{OpenFailure, Outcome, Task, TaskClass, TaskOwner, Work};
use crate::rtsp::headers::{list_tokens, parse_session_id};
use crate::rtsp::reader::{Input, MessageLimits, RequestReader};
use crate::rtsp::request::{Method, Request};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::transport::only_private;
use crate::rtsp::uri::{Target, UriError, parse_target};
use crate::session::command::{Command, Executed, Given, Led, PUBLIC, ReplyTo, public};
use crate::session::cx::Cx;
use crate::session::holder::Sender;
use beginning::Beginning;
use channel::WaitsForChannel;
use login::{Login, WaitsForLeave};
use secure_media::MediaKeys;
pub(super) use secure_media::{media_of, without_srtp};

/// The consumer of an RTSP connection.
#[derive(Debug)]
pub struct RtspConnection {
    key: EntryKey,
    peer: SocketAddr,
    local: SocketAddr,
    /// Among the connections of its address.
    _place: AddressPlace,
    beginning: Beginning,
    reader: RequestReader,
    /// TLS around the connection.
    tls: Option<Box<Secured>>,
    /// What the first bytes have told.
    carries: Carries,
    garbage: Garbage,
    waiting: Waiting,
    /// Answers and interleaved RTCP to be sent, in order.
    output: Vec<u8>,
    /// The title that was described last, so that its SETUP needs no task. A connection that goes
    /// no further does not keep it open.
    described: Option<(String, Weak<Title>)>,
    login: Login,
    /// Keys of SRTP that were told.
    media_keys: MediaKeys,
    /// The line-up that was described last, and the channel that it was described by.
    described_channel: Option<(Arc<str>, u16)>,
    /// When the last whole message came.
    heard: Mono,
    /// When a session of it was last seen.
    served: Mono,
    taking: Taking,
    /// Close when the output is sent.
    is_closing: bool,
    /// Its key of the wheel: the next look at whether it does anything.
    idle_timer: Timer,
    /// When that look was due on a shard that the connection has left.
    look_due: Option<Mono>,
}

/// What a connection that begins takes of what its address may have.
#[derive(Debug)]
pub struct Places {
    /// Among the connections of its address.
    pub connection: AddressPlace,
    /// Among those of them that are half open.
    pub half_open: AddressPlace,
}

/// What the request at hand waits for.
#[derive(Debug)]
enum Waiting {
    /// No request at hand.
    Nothing,
    /// Leave to be executed.
    Leave(Box<WaitsForLeave>),
    /// A title, for DESCRIBE or SETUP.
    Title(Box<WaitsForTitle>),
    /// A session, here or on another shard.
    Answer(Asked),
    /// The channel of a line-up that a session begins with.
    Channel(Box<WaitsForChannel>),
}

/// A DESCRIBE or SETUP whose title is being opened.
#[derive(Debug)]
struct WaitsForTitle {
    request: Request,
    target: Target,
    asked: Asked,
    given: Given,
}

/// What becomes of a request.
enum Flow {
    Answer(Response),
    Submit(Task),
    Wait,
    /// As `Wait`, and what is waited for is known already.
    Held,
}

impl RtspConnection {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new((peer, local): (SocketAddr, SocketAddr), places: Places, cx: &Cx) -> Self {
        let (now, limits) = (cx.now, &cx.config.limits);
        let limits =
            MessageLimits { head_bytes: limits.head_bytes_max, body_bytes: limits.body_bytes_max };
        Self {
            key: EntryKey { index: u32::MAX, generation: 0 },
            peer,
            local,
            _place: places.connection,
            beginning: Beginning::new(&cx.cells, places.half_open, now),
            reader: RequestReader::with_limits(limits),
            tls: None,
            carries: Carries::Unknown(Vec::new()),
            garbage: Garbage::default(),
            waiting: Waiting::Nothing,
            output: Vec::new(),
            described: None,
            login: Login::default(),
            media_keys: MediaKeys::default(),
            described_channel: None,
            heard: now,
            served: Mono(0),
            taking: Taking::default(),
            is_closing: false,
            idle_timer: Timer::NONE,
            look_due: None,
        }
    }

    /// The same, with TLS around it.
    #[must_use]
    pub fn with_tls(mut self, tls: Secured) -> Self {
        self.tls = Some(Box::new(tls));
        self
    }

    /// Whether what is sent is to be encrypted here.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_here())
    }

    /// Whether what is sent is encrypted, here or by the kernel.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// TLS around the connection.
    pub fn tls_mut(&mut self) -> Option<&mut Secured> {
        self.tls.as_deref_mut()
    }

    /// What is to be sent, and what it is sealed by.
    pub fn wire_mut(&mut self) -> (&mut Vec<u8>, Option<&mut Secured>) {
        (&mut self.output, self.tls.as_deref_mut())
    }

    /// Its key of the wheel, to be replaced or cancelled.
    pub fn idle_timer_mut(&mut self) -> &mut Timer {
        &mut self.idle_timer
    }

    /// Tells the connection its place in the PollTable.
    pub fn set_key(&mut self, key: EntryKey) {
        self.key = key;
    }

    /// What is to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `bytes` of the output are handed to the socket.
    pub fn consume_output(&mut self, bytes: usize) {
        self.output.drain(..bytes.min(self.output.len()));
    }

    /// Puts bytes that the socket has not taken in front of the output.
    pub fn put_back(&mut self, mut bytes: Vec<u8>) {
        bytes.append(&mut self.output);
        self.output = bytes;
    }

    /// Appends an interleaved packet (RFC 2326 s10.12). False when the client has stopped reading
    /// and the packet is left out: RTCP that comes late is of no use.
    pub fn push_interleaved(&mut self, channel: u8, payload: &[u8]) -> bool {
        let Ok(bytes) = u16::try_from(payload.len()) else { return false };
        if self.output.len() > OUTPUT_BYTES_MAX {
            return false;
        }
        self.output.extend_from_slice(&[b'$', channel]);
        self.output.extend_from_slice(&bytes.to_be_bytes());
        self.output.extend_from_slice(payload);
        true
    }

    /// The client does not take its answers: it is not read from until it does.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.output.len() > OUTPUT_BYTES_MAX
    }

    /// Close as soon as the output is sent.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Close when what is there is sent.
    pub fn close_when_sent(&mut self) {
        self.is_closing = true;
    }

    /// The client.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the client takes nothing and says nothing, and for what reason it ends then.
    pub fn judge_taking(
        &mut self,
        peer: &PeerState,
        now: Mono,
        timeout: Duration,
    ) -> Option<Stall> {
        self.taking.judge(peer, self.heard, now, timeout)
    }

    /// A session of the connection is there.
    pub fn note_served(&mut self, now: Mono) {
        self.served = now;
    }

    /// When the connection was last seen to have a session; `Mono(0)` when it never was.
    #[must_use]
    pub fn served(&self) -> Mono {
        self.served
    }

    /// When the client was last heard of on this connection.
    #[must_use]
    pub fn heard(&self) -> Mono {
        self.heard
    }

    /// A request is at hand.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !matches!(self.waiting, Waiting::Nothing)
    }

    /// Takes bytes of the socket. `Some`: there is nothing to be pumped.
    fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Option<Disposition> {
        let Some(mut tls) = self.tls.take_if(|tls| tls.is_here()) else {
            return self.take(bytes, cx);
        };
        let progress = tls.handle_bytes(bytes, self.peer, &cx.sessions.cx.cells);
        let taken = self.take(tls.plain(), cx);
        self.tls = Some(tls);
        // The end of what a client sends by TLS is followed by that of its connection.
        if progress.is_none() { Some(self.closing()) } else { taken }
    }

    /// Takes what the client has said.
    fn read(&mut self, bytes: &[u8], cx: &Context<'_>) {
        let shared = &cx.sessions.cx;
        self.reader.set_channels(cx.sessions.live.sources.media_channels_on(shared, self.key));
        self.reader.handle_bytes(bytes);
    }

    /// Works through some of what the reader holds, until a request must wait.
    fn pump(&mut self, cx: &mut Context<'_>) -> Disposition {
        let mut room = FRAMES_A_VISIT;
        while room > 0 && !self.is_congested() && !self.is_closing {
            let Some(input) = self.reader.poll() else {
                self.beginning.note_rest(self.reader.buffered_bytes(), cx.sessions.cx.now);
                return self.done();
            };
            self.beginning.note_message(&input, &cx.sessions.cx);
            let is_frame = matches!(input, Input::Interleaved { .. });
            room =
                room.saturating_sub(if is_frame { 1 } else { FRAMES_A_VISIT / REQUESTS_A_VISIT });
            // Not with every byte: one a minute must not hold a connection.
            self.heard = cx.sessions.cx.now;
            match input {
                Input::Interleaved { channel, payload } => {
                    cx.sessions.handle_report_interleaved(self.key, channel, &payload);
                }
                Input::Response(_) => {}
                Input::Garbage { bytes } => {
                    cx.sessions.cx.count_resync();
                    self.garbage.handle(bytes, Some(self.peer), cx.sessions.cx.now);
                }
                Input::Malformed { error, cseq, framing_lost } => {
                    tracing::debug!(peer = %self.peer, %error, "malformed request");
                    let asked = Asked::malformed(cx.sessions.cx.now);
                    self.answer(Response::new(error.status(), cseq), &asked, cx);
                    if framing_lost {
                        return self.closing();
                    }
                }
                Input::Request(request) => {
                    let asked = Asked::new(&request, cx.sessions.cx.now);
                    match self.handle_request(request, cx) {
                        Flow::Answer(response) => self.answer(response, &asked, cx),
                        Flow::Submit(task) => return Disposition::Submit(task),
                        Flow::Wait => {
                            self.waiting = Waiting::Answer(asked);
                            return Disposition::Wait;
                        }
                        Flow::Held => return Disposition::Wait,
                    }
                }
            }
        }
        self.rest()
    }

    /// Messages may be left: the others come first. Not while answers are not taken: it goes on
    /// when they are.
    fn rest(&self) -> Disposition {
        if self.reader.buffered_bytes() > 0 && !self.is_closing && !self.is_congested() {
            return Disposition::Unfinished;
        }
        self.done()
    }

    fn done(&self) -> Disposition {
        if self.is_closing { Disposition::Close } else { Disposition::Handled }
    }

    fn handle_request(&mut self, mut request: Request, cx: &mut Context<'_>) -> Flow {
        if let Err(response) = check(&request) {
            return Flow::Answer(response);
        }
        let target = match parse_target(&request.uri) {
            Ok(target) => target,
            // Well-formed, and nothing can be there.
            Err(UriError::EncodedSlash | UriError::BadTrack) => {
                return refuse(&request, Status::NotFound);
            }
            Err(_) => return refuse(&request, Status::BadRequest),
        };
        let session = match request.header("Session").map(parse_session) {
            Some(Some(id)) => Some(id),
            // Not one of ours, however it is spelled.
            Some(None) if request.method != Method::Options => {
                return refuse(&request, Status::SessionNotFound);
            }
            Some(None) | None => None,
        };
        if request.method == Method::Setup
            && self.is_secure()
            && !cx.sessions.cx.config.plain_media
            && let Err(response) = keep_private(&mut request)
        {
            return Flow::Answer(response);
        }
        if session.is_none()
            && let shared = &cx.sessions.cx
            && let Some(drain) = &shared.drain
            && let Some(away) =
                drain.turn_away(&request, self.is_secure(), &shared.cells, shared.now)
        {
            return Flow::Answer(away);
        }
        self.ask_leave(request, target, session, cx)
    }

    /// Executes a request whose client may do what it asks for.
    fn obey(
        &mut self,
        request: Request,
        target: Target,
        session: Option<SessionId>,
        given: Given,
        cx: &mut Context<'_>,
    ) -> Flow {
        let connection = ReplyTo { shard: cx.shard, entry: self.key };
        let sender = Sender { connection, peer: self.peer.ip(), user: given.user.as_deref() };
        cx.sessions.note_request(&sender, session);
        let given = match self.srtp_leave(&request, &target, cx) {
            Ok(srtp) => Given { srtp, ..given },
            Err(status) => return refuse(&request, status),
        };
        match request.method {
            Method::Options => {
                // A sign of life of its session, on whichever shard that is.
                let shared = &cx.sessions.cx;
                let is_elsewhere =
                    |id: SessionId| shared.shard_of(id) != cx.shard || shared.away.contains(&id);
                if session.is_some_and(is_elsewhere) {
                    return self.command(request, target, (session, given), cx);
                }
                let response = Response::new(Status::Ok, request.cseq);
                Flow::Answer(response.header("Public", public(&target.path)))
            }
            Method::Describe => self.open_title(request, target, given, cx),
            // Titles are not published to.
            Method::Announce | Method::Record
                if matches!(target.name(), Name::Clip | Name::Title(_)) =>
            {
                not_allowed(&request)
            }
            Method::Setup if session.is_none() => self.setup(request, target, given, cx),
            Method::GetParameter | Method::SetParameter if session.is_none() => {
                let is_ping = request.body.iter().all(u8::is_ascii_whitespace);
                let status = if is_ping { Status::Ok } else { Status::ParameterNotUnderstood };
                refuse(&request, status)
            }
            Method::Setup
            | Method::Play
            | Method::Pause
            | Method::Teardown
            | Method::GetParameter
            | Method::SetParameter
            | Method::Announce
            | Method::Record => self.command(request, target, (session, given), cx),
            Method::Redirect => not_allowed(&request),
            Method::Unknown(_) => {
                let response = Response::new(Status::NotImplemented, request.cseq);
                Flow::Answer(response.header("Public", PUBLIC))
            }
        }
    }

    /// DESCRIBE and the first SETUP need the title: the workers open it, or find it open.
    fn open_title(
        &mut self,
        request: Request,
        target: Target,
        given: Given,
        cx: &mut Context<'_>,
    ) -> Flow {
        if request.method == Method::Describe
            && let Err(status) = describe::check_accept(&request)
        {
            return refuse(&request, status);
        }
        let name = match target.name() {
            Name::Clip => None,
            Name::Title(name) => Some(name.to_owned()),
            Name::Live(path) => match self.first_channel(&request, path, cx) {
                Some(first) => {
                    let asked = Asked::new(&request, cx.sessions.cx.now);
                    let waits = WaitsForChannel { request, target, asked, first, given };
                    return self.find_channel(Box::new(waits), cx);
                }
                None => return self.command(request, target, (None, given), cx),
            },
            Name::Root | Name::Library | Name::Nothing => {
                return self.command(request, target, (None, given), cx);
            }
        };
        let asked = Asked::new(&request, cx.sessions.cx.now);
        self.waiting = Waiting::Title(Box::new(WaitsForTitle { request, target, asked, given }));
        Flow::Submit(self.open_task(name, cx))
    }

    fn open_task(&self, name: Option<String>, cx: &Context<'_>) -> Task {
        Task {
            shard: cx.shard,
            owner: TaskOwner::Connection(self.key),
            class: TaskClass::Control,
            work: Work::Open { name },
        }
    }

    fn setup(
        &mut self,
        request: Request,
        target: Target,
        given: Given,
        cx: &mut Context<'_>,
    ) -> Flow {
        match &self.described {
            Some((path, title)) if *path == target.path.trim_end_matches('/') => {
                match title.upgrade() {
                    Some(title) => {
                        self.execute(request, target, (None, given), (Some(title), Led::Not), cx)
                    }
                    None => self.open_title(request, target, given, cx),
                }
            }
            _ => self.open_title(request, target, given, cx),
        }
    }

    /// Leaves a command to its session, on whichever shard that is.
    fn command(
        &self,
        request: Request,
        target: Target,
        from: (Option<SessionId>, Given),
        cx: &mut Context<'_>,
    ) -> Flow {
        self.execute(request, target, from, (None, Led::Not), cx)
    }

    fn execute(
        &self,
        request: Request,
        target: Target,
        (session, given): (Option<SessionId>, Given),
        (title, led): (Option<Arc<Title>>, Led),
        cx: &mut Context<'_>,
    ) -> Flow {
        let shard = session.map_or(cx.shard, |id| cx.sessions.cx.shard_of(id));
        let is_away = session.is_some_and(|id| cx.sessions.cx.away.contains(&id));
        if shard.0 >= cx.shard_count {
            return refuse(&request, Status::SessionNotFound);
        }
        let reply_to = ReplyTo { shard: cx.shard, entry: self.key };
        let (peer, local) = (self.peer, self.local.ip());
        let command =
            Command { request, target, session, reply_to, peer, local, title, led, given };
        // The home of one that is away, which this shard may be, knows where it is.
        if shard != cx.shard || is_away {
            cx.forwards.push((shard, command));
            return Flow::Wait;
        }
        match cx.sessions.execute(command) {
            Executed::Reply(response) => Flow::Answer(response),
            Executed::Later => Flow::Wait,
            Executed::NeedsPair(command) => {
                cx.needs_pair.push(*command);
                Flow::Wait
            }
        }
    }

    /// The title that a request waited for is open, or will not open.
    fn handle_title(
        &mut self,
        opened: Result<Arc<Title>, OpenFailure>,
        cx: &mut Context<'_>,
    ) -> Option<Disposition> {
        let waiting = std::mem::replace(&mut self.waiting, Waiting::Nothing);
        let Waiting::Title(waits) = waiting else {
            self.waiting = waiting;
            return None;
        };
        let WaitsForTitle { request, target, asked, given } = *waits;
        let title = match opened {
            Ok(title) => title,
            Err(failure) => {
                note_not_opened(self.peer, &request, &failure);
                self.answer(describe::refusal(&request, &failure), &asked, cx);
                return None;
            }
        };
        if request.method == Method::Describe {
            let path = target.path.trim_end_matches('/').to_owned();
            let response =
                describe::answer(&request, &title, self.local.ip(), cx.sessions.cx.retransmits());
            self.described = Some((path, Arc::downgrade(&title)));
            self.answer(response, &asked, cx);
            return None;
        }
        match self.execute(request, target, (None, given), (Some(title), Led::Not), cx) {
            Flow::Answer(response) => {
                self.answer(response, &asked, cx);
                None
            }
            Flow::Submit(task) => Some(Disposition::Submit(task)),
            Flow::Held => Some(Disposition::Wait),
            Flow::Wait => {
                self.waiting = Waiting::Answer(asked);
                Some(Disposition::Wait)
            }
        }
    }

    /// The workers have no room for what a request waits for.
    fn handle_no_worker(&mut self, cx: &Context<'_>) -> Disposition {
        let (cseq, asked) = match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Title(waits) => (waits.request.cseq, waits.asked),
            Waiting::Channel(waits) => (waits.request.cseq, waits.asked),
            Waiting::Leave(waits) => (waits.request.cseq, waits.asked),
            Waiting::Nothing | Waiting::Answer(_) => return self.rest(),
        };
        let response = Response::new(Status::ServiceUnavailable, cseq);
        self.answer(response.header("Retry-After", "1"), &asked, cx);
        self.rest()
    }

    fn answer(&mut self, response: Response, asked: &Asked, cx: &Context<'_>) {
        let response = self.or_challenge(response, asked, cx);
        let response = self.with_keys(response, asked, cx);
        let taken = cx.sessions.cx.now.since(asked.since);
        cx.sessions.cx.count_request(asked.method_index, response.status().code(), taken);
        let response = asked.complete(response, cx.sessions.cx.now);
        response.write_to(cx.sessions.cx.utc_ns.div_euclid(1_000_000_000), &mut self.output);
        // Requests behind it are not read (RFC 2068 s14.10).
        self.is_closing |= asked.is_last;
    }

    /// The answer, or a challenge in place of 454 where a user may go on with a session from
    /// another address: it is to say who it is.
    fn or_challenge(&mut self, response: Response, asked: &Asked, cx: &Context<'_>) -> Response {
        let shared = &cx.sessions.cx;
        let is_unknown = response.status() == Status::SessionNotFound && asked.is_bare_in_session;
        if is_unknown && shared.config.session_roaming && !shared.configs.access.users.is_empty() {
            return self.challenge_roaming(response.cseq(), cx);
        }
        response
    }

    fn closing(&mut self) -> Disposition {
        self.is_closing = true;
        Disposition::Close
    }
}

impl PollEventConsumer<Context<'_>> for RtspConnection {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        let disposition = self.handle_event(event, cx);
        let disposition = self.count_held(disposition, &cx.sessions.cx);
        self.confirm(&disposition, cx);
        disposition
    }
}

impl RtspConnection {
    fn handle_event(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        match event {
            Event::Received([]) => return self.closing(),
            Event::Received(bytes) => {
                if let Some(taken) = self.receive(bytes, cx) {
                    return taken;
                }
                if self.is_waiting() {
                    // Cannot be: the entry is suspended. The bytes are kept all the same.
                    return Disposition::Wait;
                }
            }
            Event::Tunnel(event) => {
                if let Some(handled) = self.handle_tunnel(event, cx) {
                    return handled;
                }
            }
            Event::Writable => {}
            Event::Outcome(Outcome::Opened(opened)) => {
                if let Some(waits) = self.take_channel() {
                    let asked = waits.asked.clone();
                    let flow = self.handle_channel_title(waits, opened, cx);
                    return self.end_wait(flow, asked, cx);
                }
                return self.handle_title(opened, cx).unwrap_or_else(|| self.rest());
            }
            Event::Outcome(Outcome::Judged(answer)) => {
                let Some(waits) = self.take_leave() else { return self.rest() };
                let asked = waits.asked.clone();
                let flow = self.handle_answer(waits, answer, cx);
                return self.end_wait(flow, asked, cx);
            }
            Event::Due => {
                // A title or an answer that is waited for now: the login was long ago.
                let Some(waits) = self.take_leave() else {
                    return if self.is_waiting() { Disposition::Wait } else { self.rest() };
                };
                let asked = waits.asked.clone();
                let flow = self.handle_turn(waits, cx);
                return self.end_wait(flow, asked, cx);
            }
            Event::Refused(_task) => return self.handle_no_worker(cx),
            Event::Answered(response) => {
                if let Some(mut waits) = self.take_channel() {
                    let asked = waits.asked.clone();
                    let flow = match self.handle_channel(&mut waits, response) {
                        Some(response) => Flow::Answer(response),
                        None => self.find_channel(waits, cx),
                    };
                    return self.end_wait(flow, asked, cx);
                }
                let waiting = std::mem::replace(&mut self.waiting, Waiting::Nothing);
                if let Waiting::Answer(asked) = waiting {
                    self.answer(response, &asked, cx);
                }
                return self.rest();
            }
            Event::Accepted { .. }
            | Event::Connected(_)
            | Event::Datagram { .. }
            | Event::Outcome(
                Outcome::Resolved(_)
                | Outcome::Window(_)
                | Outcome::WindowBytes(_)
                | Outcome::Image(_)
                | Outcome::Described(_),
            ) => {
                return Disposition::Handled;
            }
        }
        self.pump(cx)
    }
}

/// What every request must meet, whatever its method.
fn check(request: &Request) -> Result<(), Response> {
    if request.version != (1, 0) {
        return Err(Response::new(Status::VersionNotSupported, request.cseq));
    }
    for name in ["Require", "Proxy-Require"] {
        if let Some(options) = request.header(name) {
            // RFC 2326 s12.32: we have no option tags yet, so each of them is unsupported.
            let unsupported = list_tokens(options).collect::<Vec<_>>().join(", ");
            let response = Response::new(Status::OptionNotSupported, request.cseq);
            return Err(response.header("Unsupported", unsupported));
        }
    }
    Ok(())
}

/// Media does not go beside TLS in the clear: of what a SETUP offers, interleaved and encrypted
/// transport is left, and 461 has the client offer it.
fn keep_private(request: &mut Request) -> Result<(), Response> {
    let Some(offered) = request.header("Transport") else { return Ok(()) };
    let Some(kept) = only_private(offered) else {
        return Err(Response::new(Status::UnsupportedTransport, request.cseq));
    };
    request.set_header("Transport", &kept);
    Ok(())
}

fn note_not_opened(peer: SocketAddr, request: &Request, failure: &OpenFailure) {
    let url = shown_url(&request.uri);
    tracing::info!(code = "HE-I206", %peer, url, %failure, "title not opened");
}

fn not_allowed(request: &Request) -> Flow {
    let response = Response::new(Status::MethodNotAllowed, request.cseq);
    Flow::Answer(response.header("Allow", PUBLIC))
}

fn refuse(request: &Request, status: Status) -> Flow {
    Flow::Answer(Response::new(status, request.cseq))
}

fn parse_session(header: &str) -> Option<SessionId> {
    SessionId::parse(parse_session_id(header)?)
}
