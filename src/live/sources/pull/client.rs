//! Requests to the camera: the client's steps, their deadlines, the keep-alive.
//!
//! A step is one request, or a piece of work for the shard. `CSeq` matches an answer to its
//! request; an answer without `CSeq` belongs to the oldest request. Late answers are ignored. The
//! keep-alive waits for no step (client rules, camera side).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::host::Host;
use crate::base::secret::Secret;
use crate::base::time::Mono;
use crate::config::paths::SourceTransport;
use crate::live::sources::pull::keepalive::{KeepAlive, Kind};
use crate::live::sources::pull::{PullError, PullOrder, PullPlan, redirect};
use crate::poll::task::ResolveFailure;
use crate::rtsp::auth::ClientAuth;
use crate::rtsp::client_request::ClientRequest;
use crate::rtsp::request::{Method, Request};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::source_url::SourceUrl;
use crate::rtsp::transport::{Lower, Mode, Profile};
use crate::rtsp::transport_answer::{TransportParameters, TransportReply};
use crate::session::action::CameraSecurity;

/// The client of one source: see `super`.
#[derive(Debug)]
pub(crate) struct PullClient {
    pub(crate) plan: PullPlan,
    /// Present target: another server after a redirect.
    pub(crate) target: SourceUrl,
    pub(crate) auth: Option<ClientAuth>,
    pub(crate) redirects: u8,
    /// Host at which the configured source was reached, once that host has redirected the client.
    pub(crate) origin: Option<Host>,
    /// Transport that SETUP asks for.
    pub(crate) lower: Lower,
    pub(crate) step: Step,
    deadline: Mono,
    /// Addresses that are still to be tried.
    addresses: VecDeque<SocketAddr>,
    pub(crate) address: Option<SocketAddr>,
    cseq: u32,
    /// Requests without an answer.
    pending: VecDeque<(u32, Asked)>,
    /// `CSeq` of the newest answers: a repeated answer must not answer another request.
    seen: VecDeque<u32>,
    pub(crate) session: Option<String>,
    pub(crate) session_timeout: Duration,
    pub(crate) keep_alive: KeepAlive,
    /// URL of PLAY, TEARDOWN and keep-alive.
    pub(crate) presentation: String,
    pub(crate) tracks: Vec<PullTrack>,
    /// The server's ports for the track that is being set up.
    pub(crate) ports: (u16, u16),
    keepalive_due: Mono,
    played: Mono,
    has_media: bool,
    /// Orders to the shard.
    pub(crate) out: Vec<PullOrder>,
}

/// A media of the camera's description.
#[derive(Debug)]
pub(crate) struct PullTrack {
    pub(crate) url: String,
    pub(crate) lower: Option<Lower>,
}

/// The step that the client waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Resolve,
    Connect,
    Options,
    Describe,
    Claim,
    Ports(u8),
    Setup(u8),
    Play,
    Playing,
    /// The client has failed or was stopped: all input is late.
    Over,
}

/// Kind of a request to the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Options,
    Describe,
    Setup(u8),
    Play,
    KeepAlive(Kind),
    Teardown,
}

impl PullClient {
    /// Starts to fetch.
    pub(crate) fn new(plan: PullPlan, now: Mono) -> Self {
        let lower = match (plan.transport, plan.worked) {
            (SourceTransport::Tcp, _) | (SourceTransport::Auto, Some(Lower::Tcp)) => Lower::Tcp,
            (SourceTransport::Udp | SourceTransport::Auto, _) => Lower::Udp,
        };
        let mut client = Self {
            target: plan.url.clone(),
            auth: plan.url.credentials.clone().map(ClientAuth::new),
            plan,
            redirects: 0,
            origin: None,
            lower,
            step: Step::Over,
            deadline: now,
            addresses: VecDeque::new(),
            address: None,
            cseq: 0,
            pending: VecDeque::new(),
            seen: VecDeque::new(),
            session: None,
            session_timeout: SESSION_TIMEOUT,
            keep_alive: KeepAlive::default(),
            presentation: String::new(),
            tracks: Vec::new(),
            ports: (0, 0),
            keepalive_due: now,
            played: now,
            has_media: false,
            out: Vec::new(),
        };
        client.locate(now);
        client
    }

    /// TLS that the connection is to have.
    pub(crate) fn security(&self) -> Option<CameraSecurity> {
        let SourceUrl { is_secure, host, .. } = &self.target;
        is_secure.then(|| CameraSecurity { host: host.clone(), trust: self.plan.tls })
    }

    /// Transport of the packets, once packets have arrived.
    pub(crate) fn worked(&self) -> Option<Lower> {
        let first = self.tracks.first().and_then(|track| track.lower);
        first.filter(|_| self.has_media)
    }

    /// Starts again at `target`: after a redirect, or to ask for TCP.
    pub(crate) fn locate(&mut self, now: Mono) {
        self.pending.clear();
        self.seen.clear();
        self.tracks.clear();
        self.session = None;
        self.has_media = false;
        self.addresses.clear();
        let (host, zone) = (self.target.host.clone(), self.target.zone.clone());
        match (host.parse::<IpAddr>(), &zone) {
            (Ok(ip), None) => {
                self.addresses.push_back(Host::from(ip).at(self.target.port));
                self.connect_next(now, None);
            }
            // The system resolves the interface's present number, as it resolves addresses.
            (Ok(_), Some(_)) | (Err(_), _) => {
                self.wait_for(Step::Resolve, now);
                self.out.push(PullOrder::Resolve { host, zone });
            }
        }
    }

    /// The resolver has answered: the host's addresses, or the cause of its failure.
    pub(crate) fn handle_resolved(
        &mut self,
        resolved: Result<&[Host], &ResolveFailure>,
        now: Mono,
    ) {
        if self.step != Step::Resolve {
            return;
        }
        match resolved {
            Ok(hosts) => {
                let port = self.target.port;
                let addresses = hosts.iter().map(|host| host.at(port));
                self.addresses = addresses.take(ADDRESSES_MAX).collect();
                self.connect_next(now, None);
            }
            Err(why) => self.fail(why.clone().into()),
        }
    }

    fn connect_next(&mut self, now: Mono, failed: Option<PullError>) {
        self.address = self.addresses.pop_front();
        let forbidden = self.address.and_then(|to| self.forbidden(Host::of(to)));
        if let Some(error) = forbidden {
            return self.connect_next(now, Some(failed.unwrap_or(error)));
        }
        match (self.address, failed) {
            (Some(to), _) => {
                self.wait_for(Step::Connect, now);
                self.out.push(PullOrder::Connect(to));
            }
            (None, Some(error)) => self.fail(error),
            (None, None) => self.fail(ResolveFailure::Name("no address".to_owned()).into()),
        }
    }

    /// Why the client must not connect to an address: a redirect may not lead there, or the address
    /// cannot be reached.
    fn forbidden(&self, to: Host) -> Option<PullError> {
        if to.lacks_interface() {
            return Some(PullError::NoInterface { ip: to.ip() });
        }
        let (origin, to) = (self.origin?.ip(), to.ip());
        let is_allowed = redirect::may_lead(origin, to);
        (!is_allowed).then_some(PullError::RedirectInside { to, origin })
    }

    /// The connection is established.
    pub(crate) fn handle_connected(&mut self, now: Mono) {
        if self.step == Step::Connect {
            self.request(Asked::Options, Step::Options, now);
        }
    }

    /// The connection could not be established.
    pub(crate) fn handle_refused(&mut self, why: &str, now: Mono) {
        if let (Step::Connect, Some(to)) = (self.step, self.address) {
            self.connect_next(now, Some(PullError::Refused { to, why: why.to_owned() }));
        }
    }

    /// The camera has closed the connection.
    pub(crate) fn handle_closed(&mut self, now: Mono) {
        match self.step {
            Step::Connect => self.handle_refused("closed", now),
            step => self.fail(PullError::Closed { step: step.as_str() }),
        }
    }

    /// The owner has granted the path.
    pub(crate) fn handle_granted(&mut self, now: Mono) {
        if self.step == Step::Claim {
            self.set_up(0, now);
        }
    }

    /// Ports for the track that is being set up; `None` when there are none.
    pub(crate) fn handle_ports(&mut self, ports: Option<(u16, u16)>, now: Mono) {
        let Step::Ports(track) = self.step else { return };
        match ports {
            Some(ports) => {
                self.ports = ports;
                self.request(Asked::Setup(track), Step::Setup(track), now);
            }
            None if self.plan.transport == SourceTransport::Auto => self.fall_back(track, now),
            None => self.fail(PullError::NoPorts),
        }
    }

    /// Sets up a track, or sends PLAY after the last track.
    pub(crate) fn set_up(&mut self, track: u8, now: Mono) {
        if usize::from(track) >= self.tracks.len() {
            self.out.push(PullOrder::Begin);
            self.request(Asked::Play, Step::Play, now);
        } else if self.lower == Lower::Udp {
            self.wait_for(Step::Ports(track), now);
            self.out.push(PullOrder::WantPorts(track));
        } else {
            self.request(Asked::Setup(track), Step::Setup(track), now);
        }
    }

    /// UDP does not work: asks for TCP for this track. If other tracks were set up over UDP, all
    /// tracks start again.
    pub(crate) fn fall_back(&mut self, track: u8, now: Mono) {
        self.lower = Lower::Tcp;
        if track == 0 {
            self.set_up(0, now);
        } else {
            self.leave();
            self.locate(now);
        }
    }

    /// Packets of the camera have arrived.
    pub(crate) fn handle_media(&mut self) {
        self.has_media = true;
    }

    /// Checks deadlines: to be called every second or so.
    pub(crate) fn handle_tick(&mut self, now: Mono) {
        match self.step {
            Step::Over => {}
            Step::Playing => self.tick_playing(now),
            _ if now < self.deadline => {}
            Step::Connect => {
                self.out.push(PullOrder::Disconnect);
                let limit = self.step.limit().as_secs();
                self.handle_refused(&format!("no answer in {limit} s"), now);
            }
            // Some cameras do not know OPTIONS.
            Step::Options => self.request(Asked::Describe, Step::Describe, now),
            Step::Play if self.has_media => self.begin_playing(now),
            step => {
                let limit_s = step.limit().as_secs();
                self.fail(PullError::Late { step: step.as_str(), limit_s });
            }
        }
    }

    fn tick_playing(&mut self, now: Mono) {
        let is_udp = self.tracks.iter().any(|track| track.lower == Some(Lower::Udp));
        let may_change = self.plan.transport == SourceTransport::Auto && is_udp;
        if may_change && !self.has_media && now.since(self.played) >= UDP_PROBE {
            self.lower = Lower::Tcp;
            self.leave();
            self.locate(now);
        } else if now >= self.keepalive_due {
            self.keepalive_due = now + self.keepalive_interval();
            self.send(Asked::KeepAlive(self.keep_alive.kind()));
        }
    }

    pub(crate) fn begin_playing(&mut self, now: Mono) {
        (self.step, self.played) = (Step::Playing, now);
        self.keepalive_due = now + self.keepalive_interval();
    }

    /// A third of the camera's timeout, so that one keep-alive may be lost; at most `KEEPALIVE_MAX`
    /// for cameras that state a minute and mean less.
    fn keepalive_interval(&self) -> Duration {
        (self.session_timeout / 3).clamp(KEEPALIVE_MIN, KEEPALIVE_MAX)
    }

    /// Answers a request of the camera: a client supports OPTIONS only (client rule C8).
    pub(crate) fn handle_request(&mut self, request: &Request, utc_s: i64) {
        if self.step == Step::Over {
            return;
        }
        let response = match request.method {
            Method::Options => Response::new(Status::Ok, request.cseq).header("Public", "OPTIONS"),
            _ => Response::new(Status::NotImplemented, request.cseq),
        };
        let mut bytes = Vec::new();
        response.write_to(utc_s, &mut bytes);
        self.out.push(PullOrder::Send(bytes));
    }

    /// Stops: the owner does not need the source any more.
    pub(crate) fn stop(&mut self) {
        if self.step != Step::Over {
            self.leave();
            self.step = Step::Over;
        }
    }

    /// Fails; the first cause counts.
    pub(crate) fn fail(&mut self, error: PullError) {
        if self.step != Step::Over {
            self.leave();
            self.step = Step::Over;
            self.out.push(PullOrder::Failed(error));
        }
    }

    /// Sends TEARDOWN if the camera has a session, and closes the connection. The answer is
    /// ignored.
    pub(crate) fn leave(&mut self) {
        if self.session.is_some() {
            self.send(Asked::Teardown);
        }
        self.session = None;
        self.out.push(PullOrder::Disconnect);
    }

    pub(crate) fn wait_for(&mut self, step: Step, now: Mono) {
        self.step = step;
        self.deadline = now + step.limit();
    }

    pub(crate) fn request(&mut self, asked: Asked, step: Step, now: Mono) {
        self.wait_for(step, now);
        self.send(asked);
    }

    /// By the challenge of the server, or the capability.
    fn authorization(&mut self, method: &str, url: &str) -> Option<String> {
        if let Some(auth) = &mut self.auth {
            return auth.authorize(method, url);
        }
        self.shown_capability().map(|capability| format!("Bearer {}", capability.expose()))
    }

    /// The capability, where it is shown: to no server that a redirect leads to.
    pub(crate) fn shown_capability(&self) -> Option<&Secret> {
        let is_own = redirect::is_same_server(&self.target, &self.plan.url);
        self.plan.capability.as_ref().filter(|_| self.auth.is_none() && is_own)
    }

    pub(crate) fn send(&mut self, asked: Asked) {
        let method = asked.method();
        let url = match asked {
            Asked::Options | Asked::Describe => self.target.url.clone(),
            Asked::Setup(track) => {
                let track = self.tracks.get(usize::from(track));
                track.map_or_else(String::new, |track| track.url.clone())
            }
            Asked::Play | Asked::KeepAlive(_) | Asked::Teardown => self.presentation.clone(),
        };
        let authorization = self.authorization(method.as_str(), &url);
        let transport = match asked {
            Asked::Setup(track) => Some(self.transport(track)),
            Asked::Options
            | Asked::Describe
            | Asked::Play
            | Asked::KeepAlive(_)
            | Asked::Teardown => None,
        };
        let mut headers: Vec<(&str, &str)> = Vec::new();
        match asked {
            Asked::Describe => headers.push(("Accept", "application/sdp")),
            Asked::Play => headers.push(("Range", "npt=0.000-")),
            Asked::Options | Asked::Setup(_) | Asked::KeepAlive(_) | Asked::Teardown => {}
        }
        headers.extend(transport.as_deref().map(|value| ("Transport", value)));
        headers.extend(self.session.as_deref().map(|id| ("Session", id)));
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        self.cseq = self.cseq.wrapping_add(1);
        let ask = ClientRequest {
            method: &method,
            url: &url,
            cseq: self.cseq,
            headers: &headers,
            body: None,
        };
        let mut bytes = Vec::new();
        ask.write_to(&mut bytes);
        self.out.push(PullOrder::Send(bytes));
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((self.cseq, asked));
    }

    fn transport(&self, track: u8) -> String {
        let parameters = match self.lower {
            Lower::Tcp => {
                let first = track.saturating_mul(2);
                TransportParameters::Interleaved { channels: (first, first.saturating_add(1)) }
            }
            Lower::Udp => {
                TransportParameters::Unicast { client: self.ports, server: None, source: None }
            }
        };
        TransportReply { profile: Profile::Avp, parameters, ssrc: None, mode: Mode::Play }.write()
    }

    /// The request that an answer belongs to. Some cameras are off by one in `CSeq`: a new number
    /// that fits no request answers the oldest request. While the camera plays, an error whose
    /// number fits no request answers the keep-alive.
    pub(crate) fn take_pending(&mut self, cseq: Option<u32>, is_success: bool) -> Option<Asked> {
        let place = match cseq {
            Some(cseq) => {
                let is_again = self.seen.contains(&cseq);
                if self.seen.len() >= PENDING_MAX {
                    self.seen.pop_front();
                }
                self.seen.push_back(cseq);
                let fits = self.pending.iter().position(|(number, _)| *number == cseq);
                let is_keep_alive =
                    |(_, asked): &(u32, Asked)| matches!(asked, Asked::KeepAlive(_));
                match fits {
                    Some(place) => place,
                    None if self.step == Step::Playing && !is_success => {
                        self.pending.iter().position(is_keep_alive)?
                    }
                    None if is_again => return None,
                    None => 0,
                }
            }
            None => 0,
        };
        self.pending.remove(place).map(|(_, asked)| asked)
    }
}

impl Step {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolving its name",
            Self::Connect => "connecting",
            Self::Options => "OPTIONS",
            Self::Describe => "DESCRIBE",
            Self::Claim => "claiming the path",
            Self::Ports(_) => "opening ports",
            Self::Setup(_) => "SETUP",
            Self::Play => "PLAY",
            Self::Playing => "playing",
            Self::Over => "its end",
        }
    }

    /// Longest duration of the step.
    fn limit(self) -> Duration {
        match self {
            Self::Options => OPTIONS_MAX,
            Self::Connect => CONNECT_MAX,
            Self::Resolve
            | Self::Describe
            | Self::Claim
            | Self::Ports(_)
            | Self::Setup(_)
            | Self::Play
            | Self::Playing
            | Self::Over => STEP_MAX,
        }
    }
}

impl Asked {
    fn method(self) -> Method {
        match self {
            Self::KeepAlive(kind) => kind.method(),
            Self::Options => Method::Options,
            Self::Describe => Method::Describe,
            Self::Setup(_) => Method::Setup,
            Self::Play => Method::Play,
            Self::Teardown => Method::Teardown,
        }
    }

    /// Name of the request in messages.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Describe => "DESCRIBE",
            Self::Setup(_) => "SETUP",
            Self::Play => "PLAY",
            Self::KeepAlive(_) => "keep-alive",
            Self::Teardown => "TEARDOWN",
        }
    }
}

/// Session timeout when the camera states none (RFC 2326 s12.37).
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// A camera on the local network answers within milliseconds, one behind a mobile link in a second.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// OPTIONS is of little use, and some cameras never answer OPTIONS.
const OPTIONS_MAX: Duration = Duration::from_secs(3);
/// Cameras that wake their encoder for SETUP or PLAY take seconds.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Without RTP for this long after PLAY, UDP does not get through: as a rule frames arrive at once.
const UDP_PROBE: Duration = Duration::from_secs(4);
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
/// NATs keep a silent TCP connection for longer than that.
const KEEPALIVE_MAX: Duration = Duration::from_secs(20);
/// A name with more addresses is a pool of servers, all up or all down.
const ADDRESSES_MAX: usize = 8;
/// Unanswered keep-alives must not pile up.
const PENDING_MAX: usize = 16;
