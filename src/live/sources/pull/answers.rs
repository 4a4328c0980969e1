//! Handles the camera's answers.
//!
//! Invariant: only an answer to the step at hand moves the client on; any answer may change the
//! session's id (client rules, camera side).

use std::time::Duration;

use crate::base::host::Host;
use crate::base::time::Mono;
use crate::config::paths::SourceTransport;
use crate::live::core::limits::LIVE_TRACKS_MAX;
use crate::live::sources::pull::client::{Asked, PullClient, PullTrack, Step};
use crate::live::sources::pull::keepalive::KeepAlive;
use crate::live::sources::pull::redirect;
use crate::live::sources::pull::{PullError, PullOrder, PullWay};
use crate::rtsp::auth::{ClientAuth, ClientAuthError};
use crate::rtsp::client_response::ClientResponse;
use crate::rtsp::source_url::{content_base, control_url, parse_source_url};
use crate::rtsp::transport::Lower;
use crate::rtsp::transport_answer::parse_transport_answer;
use crate::sdp::read::read_session;
use crate::sdp::session::{MediaSdp, Protocol};

impl PullClient {
    /// Handles an answer of the camera.
    pub(crate) fn handle_answer(&mut self, answer: &ClientResponse, now: Mono) {
        let Some(asked) = self.take_pending(answer.cseq, answer.is_success()) else { return };
        if answer.is_success() {
            self.learn(answer);
        }
        let is_at_hand = match asked {
            Asked::Options => self.step == Step::Options,
            Asked::Describe => self.step == Step::Describe,
            Asked::Setup(track) => self.step == Step::Setup(track),
            Asked::Play => self.step == Step::Play,
            Asked::KeepAlive(_) => self.step == Step::Playing,
            Asked::Teardown => false,
        };
        if !is_at_hand {
            return;
        }
        match answer.status {
            401 => self.handle_challenge(asked, answer, now),
            300..=303 | 305 | 307 | 308 => self.handle_redirect(asked, answer, now),
            _ => self.handle_outcome(asked, answer, now),
        }
    }

    /// Takes over what every answer may contain: `Public`, and the session's id.
    fn learn(&mut self, answer: &ClientResponse) {
        if let Some(auth) = &mut self.auth {
            auth.handle_success();
        }
        if answer.is_public("GET_PARAMETER") {
            self.keep_alive.handle_listed();
        }
        if self.session.is_none() && !matches!(self.step, Step::Setup(_)) {
            // Some cameras name a session in the answer to OPTIONS: there is no session before
            // SETUP.
            return;
        }
        if let Some(session) = answer.session() {
            self.session = Some(session.id.to_owned());
            if let Some(timeout_s) = session.timeout_s {
                self.session_timeout = Duration::from_secs(timeout_s.into());
            }
        }
    }

    fn handle_challenge(&mut self, asked: Asked, answer: &ClientResponse, now: Mono) {
        let shows_capability = self.shown_capability().is_some();
        let answered = match (&mut self.auth, answer.header("WWW-Authenticate")) {
            (None, _) if self.plan.url.credentials.is_some() => {
                let to = format!("{} port {}", self.target.host, self.target.port);
                Err(PullError::CredentialsKept { to })
            }
            (None, _) => Err(match shows_capability {
                true => PullError::NotCapable { status: answer.status },
                false => PullError::NoCredentials,
            }),
            (Some(_), None) => Err(ClientAuthError::Unsupported.into()),
            (Some(auth), Some(challenges)) => {
                auth.handle_challenges(challenges).map_err(PullError::from)
            }
        };
        match answered {
            Ok(()) => self.request(asked, self.step, now),
            // The camera decides for each method whether it needs credentials.
            Err(_) if asked == Asked::Options => {
                self.request(Asked::Describe, Step::Describe, now);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Follows a redirect. Credentials go to the host that they were given for, and to no other.
    fn handle_redirect(&mut self, asked: Asked, answer: &ClientResponse, now: Mono) {
        let Some(location) = answer.header("Location") else {
            return self.handle_outcome(asked, answer, now);
        };
        if self.redirects >= REDIRECTS_MAX {
            return self.fail(PullError::Redirects { max: REDIRECTS_MAX });
        }
        let mut target = match parse_source_url(location.trim()) {
            Ok(target) if target.is_secure != self.plan.url.is_secure => {
                return self.fail(PullError::Secure);
            }
            Ok(target) => target,
            Err(error) => return self.fail(error.into()),
        };
        self.redirects += 1;
        self.origin = self.origin.or_else(|| self.address.map(Host::of));
        target.zone = redirect::zone_of(&target, &self.plan.url, self.origin);
        let is_same_server = redirect::is_same_server(&target, &self.plan.url);
        let own = self.plan.url.credentials.clone().filter(|_| is_same_server);
        self.auth = target.credentials.clone().or(own).map(ClientAuth::new);
        self.target = target;
        self.keep_alive = KeepAlive::default();
        self.leave();
        self.locate(now);
    }

    fn handle_outcome(&mut self, asked: Asked, answer: &ClientResponse, now: Mono) {
        match asked {
            // Any answer to OPTIONS will do.
            Asked::Options => self.request(Asked::Describe, Step::Describe, now),
            Asked::KeepAlive(_) if answer.status == 454 => self.fail_by_status(asked, answer),
            Asked::KeepAlive(kind) => {
                // The camera lists a method that it does not support, or supports only with a body.
                if !answer.is_success() && self.keep_alive.handle_refused(kind) {
                    self.send(Asked::KeepAlive(self.keep_alive.kind()));
                }
            }
            Asked::Teardown => {}
            Asked::Setup(track) if answer.status == 461 => {
                let may_change = self.plan.transport == SourceTransport::Auto;
                if may_change && self.lower == Lower::Udp {
                    self.fall_back(track, now);
                } else {
                    self.fail_by_status(asked, answer);
                }
            }
            _ if !answer.is_success() => self.fail_by_status(asked, answer),
            Asked::Describe => self.handle_description(answer, now),
            Asked::Setup(track) => self.handle_set_up(track, answer, now),
            Asked::Play => self.begin_playing(now),
        }
    }

    fn fail_by_status(&mut self, asked: Asked, answer: &ClientResponse) {
        self.fail(match answer.status {
            403 if self.shown_capability().is_some() => PullError::NotCapable { status: 403 },
            status => PullError::status(status, &answer.reason, asked.as_str()),
        });
    }

    fn handle_description(&mut self, answer: &ClientResponse, now: Mono) {
        if !answer.has_sdp() {
            return self.fail(PullError::NotSdp);
        }
        let mut sdp = match read_session(&answer.body) {
            Ok(sdp) => sdp,
            Err(error) => return self.fail(error.into()),
        };
        sdp.keep_medias(LIVE_TRACKS_MAX, is_carried);
        if sdp.medias().is_empty() {
            return self.fail(PullError::NoMedia);
        }
        let (given, location) = (answer.header("Content-Base"), answer.header("Content-Location"));
        let base = content_base(&self.target.url, given, location);
        self.presentation = control_url(&base, sdp.control());
        // RFC 2326 C.1.1: an absolute URL of the presentation is the base of the other URLs.
        let is_absolute = sdp.control().is_some_and(|control| control.contains("://"));
        let base = if is_absolute { &self.presentation } else { &base };
        let track =
            |media: &MediaSdp| PullTrack { url: control_url(base, media.control()), lower: None };
        self.tracks = sdp.medias().iter().map(track).collect();
        self.wait_for(Step::Claim, now);
        self.out.push(PullOrder::Claim(Box::new(sdp)));
    }

    fn handle_set_up(&mut self, track: u8, answer: &ClientResponse, now: Mono) {
        let Some(way) = self.way_of(track, answer.header("Transport")) else {
            return self.fail(PullError::Transport);
        };
        let lower = match way {
            PullWay::Tcp { .. } => Lower::Tcp,
            PullWay::Udp { .. } => Lower::Udp,
        };
        if let Some(place) = self.tracks.get_mut(usize::from(track)) {
            place.lower = Some(lower);
        }
        // A camera that answers a request for UDP with TCP on the first track is asked for TCP
        // only.
        self.lower = lower;
        self.out.push(PullOrder::SetUp { track, way });
        self.set_up(track.saturating_add(1), now);
    }

    /// The transport of a track by the camera's answer; missing parts are as requested.
    fn way_of(&self, track: u8, transport: Option<&str>) -> Option<PullWay> {
        let first = track.saturating_mul(2);
        let asked = (first, first.saturating_add(1));
        let Some(answer) = transport.and_then(parse_transport_answer) else {
            return Some(match self.lower {
                Lower::Tcp => PullWay::Tcp { channels: asked },
                Lower::Udp => PullWay::Udp { server_port: None, source: None },
            });
        };
        if answer.multicast || answer.profile.is_secure() {
            return None;
        }
        match (self.lower, answer.protocol) {
            (_, Lower::Tcp) => Some(PullWay::Tcp { channels: answer.interleaved.unwrap_or(asked) }),
            // A camera that repeats half of the request means all of it.
            (Lower::Tcp, Lower::Udp) if answer.server_port.is_none() => {
                Some(PullWay::Tcp { channels: answer.interleaved.unwrap_or(asked) })
            }
            (Lower::Tcp, Lower::Udp) => None,
            (Lower::Udp, Lower::Udp) => {
                let source = answer.source.filter(|ip| !ip.is_unspecified());
                Some(PullWay::Udp { server_port: answer.server_port, source })
            }
        }
    }
}

/// Whether the media is RTP without encryption, with known payload types.
fn is_carried(media: &MediaSdp) -> bool {
    matches!(media.protocol, Protocol::Rtp { .. }) && media.payload_types().next().is_some()
}

/// A load balancer and the server behind it make two redirects.
const REDIRECTS_MAX: u8 = 4;
