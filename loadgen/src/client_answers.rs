//! What the answers of the server mean to the client: the right-hand side of its picture.
//!
//! RFC 2326 s11.3 (redirection), s12.4 (CSeq), s12.33 (RTP-Info); RFC 7235 s3.1 (401).
//! Invariant: an answer to nothing that waits for one changes nothing.

use super::{Event, RtspClient, State, Track};
use crate::description;
use crate::failure::Failure;
use crate::headers;
use crate::request::{Request, TransportAsk};
use crate::time::Mono;
use rtsp_types::headers as names;
use rtsp_types::{HeaderName, Response, StatusCode, Url};
use std::time::Duration;

impl RtspClient {
    pub(super) fn handle_response(
        &mut self,
        response: &Response<Vec<u8>>,
        now: Mono,
        out: &mut Vec<Event>,
    ) {
        let cseq = text(response, &names::CSEQ).and_then(|value| value.trim().parse::<u32>().ok());
        let found = self.pending.iter().position(|p| Some(p.cseq) == cseq);
        // An answer to nothing we asked (late, or from before TEARDOWN) changes nothing.
        let Some(pending) = found.and_then(|at| self.pending.remove(at)) else { return };
        if response.status() == StatusCode::Continue {
            self.pending.push_front(pending);
            return;
        }
        out.push(Event::Answered(pending.request, now.since(pending.sent)));
        let code = u16::from(response.status());
        let is_ok = response.status().is_success();
        if self.is_repeated(pending.request, response, now) {
            return;
        }
        let failure = Failure::Status { request: pending.request, code };
        match (self.state, pending.request) {
            (State::Options | State::Describe, _) if is_redirect(code) => {
                let place = new_place(response, &self.url);
                let place = place.map(|url| self.with_login(url));
                self.close(place.map_or(Event::Failed(failure), Event::Redirected), out);
            }
            // Servers that refuse OPTIONS can still be played (live555 goes on as well).
            (State::Options, Request::Options) => self.handle_options(response, now),
            (State::Playing | State::Paused, Request::KeepAlive) if code == 454 => {
                self.close(Event::Failed(failure), out);
            }
            (_, Request::KeepAlive) => {}
            (State::Teardown, Request::Teardown) => self.close(Event::Ended, out),
            _ if !is_ok => self.close(Event::Failed(failure), out),
            (State::Describe, Request::Describe) => self.handle_described(response, out),
            (State::Setup { track }, Request::Setup) => {
                self.handle_setup(track, response, now, out);
            }
            (State::Play, Request::Play) => self.handle_play(response, now, out),
            (State::Pause, Request::Pause) => {
                self.state = State::Paused;
                out.push(Event::Paused);
            }
            // Only one request other than keep-alive is out at a time, so no other pair exists.
            _ => {}
        }
    }

    /// The same host may be told the same password.
    fn with_login(&self, mut url: Url) -> Url {
        if let Some(login) = &self.login
            && url.host() == self.url.host()
            && url.username().is_empty()
        {
            login.give_to(&mut url);
        }
        url
    }

    /// A refusal for want of a password is answered by the same request with one.
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

    fn handle_options(&mut self, response: &Response<Vec<u8>>, now: Mono) {
        let public = text(response, &names::PUBLIC).unwrap_or_default();
        self.has_get_parameter = headers::public_lists(public, "GET_PARAMETER");
        self.state = State::Describe;
        self.send(Request::Describe, now);
    }

    fn handle_described(&mut self, response: &Response<Vec<u8>>, out: &mut Vec<Event>) {
        let base = [&names::CONTENT_BASE, &names::CONTENT_LOCATION]
            .into_iter()
            .filter_map(|name| Url::parse(text(response, name)?.trim()).ok())
            .find(|url| url.has_host())
            .unwrap_or_else(|| self.url.clone());
        match description::description_from(response.body(), &base) {
            Ok(found) => {
                self.aggregate = found.aggregate;
                self.length = found.length;
                self.tracks = found
                    .tracks
                    .into_iter()
                    .map(|info| Track { info, transport: None, rtp_info: None })
                    .collect();
                self.state = State::Planning;
                out.push(Event::Described);
            }
            Err(error) => self.close(Event::Failed(error.into()), out),
        }
    }

    fn handle_setup(
        &mut self,
        index: usize,
        response: &Response<Vec<u8>>,
        now: Mono,
        out: &mut Vec<Event>,
    ) {
        let reply = text(response, &names::TRANSPORT).map(headers::transport_from);
        let asked_tcp = matches!(self.asks.get(index), Some(TransportAsk::Tcp { .. }));
        if reply.as_ref().is_some_and(|reply| reply.is_tcp != asked_tcp) {
            self.close(Event::Failed(Failure::OtherTransport), out);
            return;
        }
        if let Some(value) = text(response, &names::SESSION) {
            let (id, timeout) = headers::session_from(value);
            self.session_id = Some(id);
            self.session_timeout = timeout.unwrap_or(self.session_timeout);
        }
        if let Some(track) = self.tracks.get_mut(index) {
            track.transport = reply;
        }
        out.push(Event::TrackReady(index));
        let next = index + 1;
        if next < self.tracks.len() {
            self.state = State::Setup { track: next };
            self.send(Request::Setup, now);
        } else {
            self.state = State::Play;
            // A path without an end is live: "from the start" would mean nothing there.
            self.start = self.length.map(|_| Duration::ZERO);
            self.send(Request::Play, now);
        }
    }

    fn handle_play(&mut self, response: &Response<Vec<u8>>, now: Mono, out: &mut Vec<Event>) {
        let entries = text(response, &names::RTP_INFO).map(headers::rtp_info_from);
        let entries = entries.unwrap_or_default();
        let by_position = entries.len() == self.tracks.len();
        let aggregate = self.aggregate.clone();
        for (index, track) in self.tracks.iter_mut().enumerate() {
            let named = entries.iter().find(|entry| {
                description::control_url(&aggregate, &entry.url) == track.info.control
            });
            let placed = by_position.then(|| entries.get(index)).flatten();
            track.rtp_info = named.or(placed).cloned();
        }
        self.keep_alive_due = Some(now.after(self.keep_alive_interval()));
        self.state = State::Playing;
        out.push(Event::Playing);
    }
}

const fn is_redirect(code: u16) -> bool {
    matches!(code, 301 | 302 | 303 | 305 | 307 | 308)
}

/// The `Location` of an answer, which may be relative to what was asked for.
fn new_place(response: &Response<Vec<u8>>, asked: &Url) -> Option<Url> {
    let location = text(response, &names::LOCATION)?.trim();
    let url = asked.join(location).ok()?;
    (url.scheme() == "rtsp" && url.has_host()).then_some(url)
}

fn text<'a>(response: &'a Response<Vec<u8>>, name: &HeaderName) -> Option<&'a str> {
    response.header(name).map(|value| value.as_str())
}
