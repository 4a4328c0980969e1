//! The RTSP side of publishing, without sockets: messages and time in, bytes and events out.
//!
//! ```text
//! Idle -> Options -> Announce -> Setup(0) .. Setup(n-1) -> Record -> Recording -> Teardown
//! any state --bad answer, no answer, end of the connection--> Closed, with the failure as event
//! any request --401--> the same again with the answer to the challenge, if the URL has a user
//! ```
//! RFC 2326 s10.3, s10.4, s10.11. Requests are not pipelined, apart from keep-alives, whose answers
//! nobody waits for. Invariant: after `Ended` or `Failed` no event and no byte comes out.
//! Bound: one request and one keep-alive wait for their answers.

use crate::auth::Login;
use crate::client::{ANSWER_WAIT, TEARDOWN_WAIT};
use crate::description::control_url;
use crate::failure::Failure;
use crate::headers::{self, TransportReply};
use crate::request::{Head, Request, TransportAsk};
use crate::time::Mono;
use rtsp_types::headers as names;
use rtsp_types::{HeaderName, Message, Response, StatusCode, Url};
use std::time::Duration;

const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// What the caller should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishEvent {
    /// RECORD was answered: send.
    Recording,
    /// TEARDOWN is done.
    Ended,
    /// It is over.
    Failed(Failure),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Options,
    Announce,
    Setup { track: usize },
    Record,
    Recording,
    Teardown,
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct PublishClient {
    state: State,
    url: Url,
    description: String,
    asks: Vec<TransportAsk>,
    replies: Vec<TransportReply>,
    session_id: Option<String>,
    has_get_parameter: bool,
    login: Option<Login>,
    cseq: u32,
    /// The request whose answer is waited for.
    pending: Option<(u32, Request, Mono)>,
    keep_alive_due: Option<Mono>,
    out: Vec<u8>,
}

impl PublishClient {
    /// A client that is to publish `description` at `url`, a transport a track.
    #[must_use]
    pub fn new(mut url: Url, description: String, asks: Vec<TransportAsk>) -> Self {
        let login = Login::take_from(&mut url);
        Self {
            state: State::Idle,
            url,
            description,
            asks,
            replies: Vec::new(),
            session_id: None,
            has_get_parameter: false,
            login,
            cseq: 0,
            pending: None,
            keep_alive_due: None,
            out: Vec::new(),
        }
    }

    /// Bytes for the server; the caller drains what it has written.
    pub const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// What the server answered to the SETUP of each track.
    #[must_use]
    pub fn replies(&self) -> &[TransportReply] {
        &self.replies
    }

    /// The connection stands.
    pub fn handle_connected(&mut self, now: Mono) {
        if self.state == State::Idle {
            self.state = State::Options;
            self.send(Request::Options, now);
        }
    }

    /// One message of the server.
    pub fn handle_message(
        &mut self,
        message: &Message<Vec<u8>>,
        now: Mono,
    ) -> Option<PublishEvent> {
        // What a server asks of a publisher, nobody waits for.
        let Message::Response(response) = message else { return None };
        let cseq = text(response, &names::CSEQ).and_then(|value| value.trim().parse::<u32>().ok());
        let (_, request, _) = self.pending.take_if(|(sent, _, _)| Some(*sent) == cseq)?;
        if self.is_repeated(request, response, now) {
            return None;
        }
        // Servers that refuse OPTIONS may still be published to.
        if !response.status().is_success() && request != Request::Options {
            let code = u16::from(response.status());
            return self.fail(Failure::Status { request, code });
        }
        match (self.state, request) {
            (State::Options, _) => {
                let public = text(response, &names::PUBLIC).unwrap_or_default();
                self.has_get_parameter = headers::public_lists(public, "GET_PARAMETER");
                self.state = State::Announce;
                self.send(Request::Announce, now);
            }
            (State::Announce, _) => {
                self.state = State::Setup { track: 0 };
                self.send(Request::Setup, now);
            }
            (State::Setup { track }, _) => return self.handle_setup(track, response, now),
            (State::Record, _) => {
                self.state = State::Recording;
                self.keep_alive_due = Some(now.after(KEEP_ALIVE_INTERVAL));
                return Some(PublishEvent::Recording);
            }
            (State::Teardown, _) => return self.close(PublishEvent::Ended),
            (State::Idle | State::Recording | State::Closed, _) => {}
        }
        None
    }

    /// The connection is gone. Some servers close at TEARDOWN without an answer.
    pub fn handle_closed(&mut self, failure: Failure) -> Option<PublishEvent> {
        match self.state {
            State::Teardown => self.close(PublishEvent::Ended),
            _ => self.fail(failure),
        }
    }

    /// Time has passed: what is due is sent, what is overdue given up.
    pub fn handle_time(&mut self, now: Mono) -> Option<PublishEvent> {
        if let Some((_, request, sent)) = self.pending {
            let waited = now.since(sent);
            if self.state == State::Teardown && waited >= TEARDOWN_WAIT {
                return self.close(PublishEvent::Ended);
            }
            if waited >= ANSWER_WAIT {
                return self.fail(Failure::NotAnswered(request));
            }
        }
        if self.state == State::Recording && self.keep_alive_due.is_some_and(|due| due <= now) {
            self.keep_alive_due = Some(now.after(KEEP_ALIVE_INTERVAL));
            self.send(Request::KeepAlive, now);
        }
        None
    }

    /// End it politely.
    pub fn teardown(&mut self, now: Mono) -> Option<PublishEvent> {
        match self.state {
            State::Closed | State::Teardown => None,
            _ if self.session_id.is_none() => self.close(PublishEvent::Ended),
            _ => {
                self.state = State::Teardown;
                self.send(Request::Teardown, now);
                None
            }
        }
    }

    fn handle_setup(
        &mut self,
        track: usize,
        response: &Response<Vec<u8>>,
        now: Mono,
    ) -> Option<PublishEvent> {
        let reply = text(response, &names::TRANSPORT).map(headers::transport_from);
        let reply = reply.unwrap_or_default();
        let asked_tcp = matches!(self.asks.get(track), Some(TransportAsk::Tcp { .. }));
        if reply.is_tcp != asked_tcp {
            return self.fail(Failure::OtherTransport);
        }
        self.replies.push(reply);
        if let Some(value) = text(response, &names::SESSION) {
            self.session_id = Some(headers::session_from(value).0);
        }
        let next = track + 1;
        if next < self.asks.len() {
            self.state = State::Setup { track: next };
            self.send(Request::Setup, now);
        } else {
            self.state = State::Record;
            self.send(Request::Record, now);
        }
        None
    }

    /// As `RtspClient::is_repeated`.
    fn is_repeated(&mut self, request: Request, response: &Response<Vec<u8>>, now: Mono) -> bool {
        let Some(login) = &mut self.login else { return false };
        if response.status() != StatusCode::Unauthorized {
            login.handle_accepted();
            return false;
        }
        let challenge = text(response, &names::WWW_AUTHENTICATE).unwrap_or_default();
        let is_worth_it = login.handle_challenge(challenge);
        if is_worth_it {
            self.send(request, now);
        }
        is_worth_it
    }

    fn fail(&mut self, failure: Failure) -> Option<PublishEvent> {
        self.close(PublishEvent::Failed(failure))
    }

    fn close(&mut self, event: PublishEvent) -> Option<PublishEvent> {
        let is_news = self.state != State::Closed;
        (self.state, self.pending) = (State::Closed, None);
        is_news.then_some(event)
    }

    fn send(&mut self, request: Request, now: Mono) {
        let track = match self.state {
            State::Setup { track } => Some(track),
            _ => None,
        };
        let url = match track {
            Some(track) => control_url(&self.url, &format!("trackID={track}")),
            None => self.url.clone(),
        };
        let method = request.method(self.has_get_parameter);
        let login = self.login.as_mut();
        let authorization =
            login.and_then(|login| login.authorization((&method).into(), url.as_str()));
        self.cseq = self.cseq.wrapping_add(1);
        let head = Head {
            cseq: self.cseq,
            url: &url,
            session_id: self.session_id.as_deref(),
            transport: track.and_then(|track| self.asks.get(track).copied()),
            is_secure: false,
            is_record: true,
            start: None,
            authorization: authorization.as_deref(),
            has_get_parameter: self.has_get_parameter,
            description: &self.description,
        };
        request.write(&head, &mut self.out);
        if request != Request::KeepAlive {
            self.pending = Some((self.cseq, request, now));
        }
    }
}

fn text<'a>(response: &'a Response<Vec<u8>>, name: &HeaderName) -> Option<&'a str> {
    response.header(name).map(|value| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtsp_types::{Method, Version};

    const NOW: Mono = Mono::from_ns(0);

    fn client(url: &str) -> PublishClient {
        let asks = vec![TransportAsk::Tcp { channel: 0 }, TransportAsk::Tcp { channel: 2 }];
        PublishClient::new(Url::parse(url).unwrap(), "v=0\r\n".to_owned(), asks)
    }

    /// What the client has just asked.
    fn asked(client: &mut PublishClient) -> rtsp_types::Request<Vec<u8>> {
        let bytes = std::mem::take(client.out());
        match Message::<Vec<u8>>::parse(&bytes) {
            Ok((Message::Request(request), taken)) if taken == bytes.len() => request,
            other => panic!("one request, not {other:?}"),
        }
    }

    fn answer(
        client: &mut PublishClient,
        status: StatusCode,
        more: &[(HeaderName, &str)],
    ) -> (Method, Option<PublishEvent>) {
        let request = asked(client);
        let cseq = request.header(&names::CSEQ).unwrap().as_str().to_owned();
        let builder = Response::builder(Version::V1_0, status).header(names::CSEQ, cseq);
        let response = more
            .iter()
            .fold(builder, |builder, (name, value)| builder.header(name.clone(), *value))
            .build(Vec::new());
        let event = client.handle_message(&Message::Response(response), NOW);
        (request.method().clone(), event)
    }

    #[test]
    fn path_is_announced_set_up_recorded_and_left() {
        let mut client = client("rtsp://h/live/a");
        client.handle_connected(NOW);
        assert_eq!(answer(&mut client, StatusCode::Ok, &[]), (Method::Options, None));
        assert_eq!(answer(&mut client, StatusCode::Ok, &[]), (Method::Announce, None));
        let more = |channels| [(names::TRANSPORT, channels), (names::SESSION, "77;timeout=60")];
        let first = more("RTP/AVP/TCP;unicast;interleaved=0-1;mode=record");
        assert_eq!(answer(&mut client, StatusCode::Ok, &first), (Method::Setup, None));
        let second = more("RTP/AVP/TCP;unicast;interleaved=2-3;mode=record");
        assert_eq!(answer(&mut client, StatusCode::Ok, &second), (Method::Setup, None));
        let recording = Some(PublishEvent::Recording);
        assert_eq!(answer(&mut client, StatusCode::Ok, &[]), (Method::Record, recording));
        assert_eq!(client.replies()[1].channels, Some((2, 3)));
        client.handle_time(NOW.after(KEEP_ALIVE_INTERVAL));
        assert_eq!(asked(&mut client).method(), &Method::Options);
        assert_eq!(client.teardown(NOW), None);
        let ended = Some(PublishEvent::Ended);
        assert_eq!(answer(&mut client, StatusCode::Ok, &[]), (Method::Teardown, ended));
        assert_eq!(client.handle_closed(Failure::Closed), None, "told once");
    }

    #[test]
    fn requests_carry_description_mode_and_password() {
        let mut client = client("rtsp://u:p@h/live/a");
        client.handle_connected(NOW);
        answer(&mut client, StatusCode::Ok, &[]);
        let challenge = [(names::WWW_AUTHENTICATE, "Basic realm=\"x\"")];
        let (method, event) = answer(&mut client, StatusCode::Unauthorized, &challenge);
        assert_eq!((method, event), (Method::Announce, None));
        let request = asked(&mut client);
        assert_eq!(request.body(), b"v=0\r\n");
        assert!(request.header(&names::AUTHORIZATION).is_some());
        let of = |name: &HeaderName| request.header(name).map(|value| value.as_str().to_owned());
        assert_eq!(of(&names::CONTENT_TYPE).as_deref(), Some("application/sdp"));
    }

    #[test]
    fn refusal_and_silence_are_failures() {
        let mut refused = client("rtsp://h/live/a");
        refused.handle_connected(NOW);
        answer(&mut refused, StatusCode::NotImplemented, &[]);
        let (_, event) = answer(&mut refused, StatusCode::Forbidden, &[]);
        let failure = Failure::Status { request: Request::Announce, code: 403 };
        assert_eq!(event, Some(PublishEvent::Failed(failure)));
        let mut silent = client("rtsp://h/live/a");
        silent.handle_connected(NOW);
        assert_eq!(silent.handle_time(NOW), None);
        let failure = Failure::NotAnswered(Request::Options);
        let event = silent.handle_time(NOW.after(ANSWER_WAIT));
        assert_eq!(event, Some(PublishEvent::Failed(failure)));
    }
}
