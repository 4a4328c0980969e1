//! Clients: small machines that ask, wait, go on, and leave in every way there is.
//!
//! ```text
//!  player     DESCRIBE -> SETUP.. -> PLAY -> acts: PAUSE, seek, scale, reports, .. -> an end
//!  publisher  ANNOUNCE -> SETUP.. -> RECORD -> packets -> an end, and again
//!  stranger   anything
//! ```
//! A client asks one thing at a time, but for those that pipeline. Ends: TEARDOWN, the connection
//! closed, vanished without a word, or simply no further request.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use super::checks::{Asked, Method, Track};
use super::network::{ConnId, Event, Input, Mutation, Net, START_NS};
use super::wire::{Answer, Made, Part, Parts, Rtp, at_port, framed, nack, receiver_report};
use crate::dice::{MS, S};

/// What a client is and does, as the seed has drawn it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) path: &'static str,
    /// What it announces.
    pub(crate) sdp: &'static str,
    pub(crate) is_tcp: bool,
    pub(crate) has_feedback: bool,
    /// When it comes, after the start.
    pub(crate) begins: u64,
    pub(crate) acts: Vec<Act>,
    pub(crate) end: End,
    /// Its first UDP port, if it is one that others have, too.
    pub(crate) ports: Option<u16>,
    /// How often it comes back when it has left.
    pub(crate) returns: u32,
    /// Clients of one number share an address.
    pub(crate) host: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Player,
    Publisher,
    Stranger,
}

/// What a client does while it plays or publishes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Act {
    /// Nothing, for so many milliseconds.
    Wait(u64),
    Pause,
    Resume,
    /// PLAY from a second on.
    Seek(f64),
    Scale(f64),
    KeepAlive,
    /// Several requests at once: seeks, pauses, the end of all of it a PLAY.
    Pipeline,
    /// PAUSE by another connection, which may be on another shard.
    PauseElsewhere,
    /// Takes nothing for so many milliseconds.
    Deaf(u64),
    /// Takes bytes again.
    Hear,
    /// A receiver report: the fraction lost, of 256.
    Report(u8),
    /// Asks again for the packet so many before the last one.
    Nack(u16),
    /// Tunes a line-up to a channel.
    Tune(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Teardown,
    Close,
    Vanish,
    Silence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Away,
    Describing,
    SettingUp(usize),
    Starting,
    Acting,
    Ending,
    Gone,
}

/// A client.
pub(crate) struct Client {
    number: usize,
    plan: Plan,
    phase: Phase,
    conn: ConnId,
    /// A second connection, for commands that come by another way.
    other: Option<ConnId>,
    from: SocketAddr,
    cseq: u32,
    parts: Parts,
    acts: VecDeque<Act>,
    session: Option<String>,
    tracks: Vec<OwnTrack>,
    /// Answers that it waits for before it goes on.
    awaited: u32,
    step: u64,
    is_publishing: bool,
    sent: u32,
    returns: u32,
}

#[derive(Debug)]
struct OwnTrack {
    url: String,
    rate: u32,
    /// Port of its RTP; that of RTCP is the next.
    port: u16,
    /// The server's RTP port.
    server_port: Option<u16>,
    ssrc: Option<u32>,
    last: u16,
}

impl Client {
    pub(crate) fn new(number: usize, plan: Plan) -> Self {
        let ip = Ipv4Addr::new(10, 0, 1, plan.host);
        let port = 20_000 + u16::try_from(number).expect("few clients") * 100;
        Self {
            number,
            acts: VecDeque::new(),
            returns: plan.returns,
            plan,
            phase: Phase::Away,
            conn: 0,
            other: None,
            from: SocketAddr::new(ip.into(), port),
            cseq: 0,
            parts: Parts::default(),
            session: None,
            tracks: Vec::new(),
            awaited: 0,
            step: 0,
            is_publishing: false,
            sent: 0,
        }
    }

    pub(crate) fn begin(&mut self, net: &mut Net) {
        let begins = self.plan.begins;
        self.step_after(net, begins);
    }

    fn step_after(&mut self, net: &mut Net, delay: u64) {
        self.step += 1;
        net.after(delay, Event::Step { client: self.number, number: self.step });
    }

    /// Its time has come.
    pub(crate) fn step(&mut self, net: &mut Net, number: u64) {
        if number != self.step || self.phase == Phase::Gone {
            return;
        }
        match self.phase {
            Phase::Away => self.come(net),
            Phase::Acting if self.is_publishing => self.publish(net),
            Phase::Acting => self.act(net),
            Phase::Ending => self.leave(net),
            _ => {}
        }
    }

    fn come(&mut self, net: &mut Net) {
        self.conn = net.connect(self.number, self.from);
        net.watch.connection(self.conn, self.from, net.now);
        self.phase = Phase::Describing;
        self.acts = self.plan.acts.iter().copied().collect();
        self.parts = Parts::default();
        self.tracks.clear();
        (self.session, self.awaited, self.sent, self.is_publishing) = (None, 0, 0, false);
        match self.plan.kind {
            Kind::Stranger => self.babble(net),
            Kind::Publisher => {
                let headers = "Content-Type: application/sdp\r\n";
                self.ask(net, "ANNOUNCE", &self.url(), headers, self.plan.sdp, None);
            }
            Kind::Player => {
                let agent = if self.plan.has_feedback { "GStreamer/1.24.2" } else { "Lavf61" };
                let headers = format!("User-Agent: {agent}\r\nAccept: application/sdp\r\n");
                self.ask(net, "DESCRIBE", &self.url(), &headers, "", None);
            }
        }
    }

    fn url(&self) -> String {
        format!("rtsp://10.0.0.1/{}", self.plan.path)
    }

    fn ask(
        &mut self,
        net: &mut Net,
        method: &str,
        url: &str,
        headers: &str,
        body: &str,
        track: Option<Track>,
    ) {
        self.ask_on(net, self.conn, method, url, headers, (body, track));
    }

    fn ask_on(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        method: &str,
        url: &str,
        headers: &str,
        (body, track): (&str, Option<Track>),
    ) {
        self.cseq += 1;
        self.awaited += 1;
        let cseq = self.cseq;
        let session = self.session.as_ref().map(|id| format!("Session: {id}\r\n"));
        let len = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let text = format!(
            "{method} {url} RTSP/1.0\r\nCSeq: {cseq}\r\n{}{headers}{len}\r\n{body}",
            session.unwrap_or_default()
        );
        let kind = match method {
            "SETUP" => Method::Setup,
            "PLAY" => Method::Play,
            "PAUSE" => Method::Pause,
            "TEARDOWN" => Method::Teardown,
            "SET_PARAMETER" => Method::Tune,
            "RECORD" => Method::Record,
            _ => Method::Other,
        };
        let at = net.now;
        let is_scaled = headers.contains("Scale");
        let session = self.session.clone();
        let line = || format!("client {} on {conn}: {}", self.number, text.replace("\r\n", " | "));
        net.trace.say(net.now - START_NS, line);
        net.watch.request(conn, Asked { cseq, method: kind, session, at, is_scaled, track });
        net.send(conn, text.as_bytes());
    }

    /// Something has come.
    pub(crate) fn handle(&mut self, net: &mut Net, input: Input) {
        if self.phase == Phase::Gone {
            return;
        }
        match input {
            Input::Bytes(conn, bytes) if conn == self.conn => {
                self.parts.push(&bytes);
                while self.plan.kind != Kind::Stranger
                    && let Some(part) = self.parts.next()
                {
                    match part {
                        Part::Answer(answer) => self.answered(net, &answer),
                        Part::Frame(channel, bytes) if channel % 2 == 0 => {
                            self.received(usize::from(channel / 2), &bytes);
                        }
                        Part::Frame(..) => {}
                    }
                }
            }
            Input::Bytes(..) => self.go_on(net),
            Input::Closed(conn) if conn == self.conn => {
                net.close(conn);
                self.gone(net);
            }
            Input::Closed(_) => {}
            Input::Datagram { port, to, bytes } => {
                let is_its = |t: &OwnTrack| t.port == to.port() && t.server_port == Some(port);
                let track = self.tracks.iter().position(is_its);
                if let Some(track) = track {
                    self.received(track, &bytes);
                }
            }
        }
    }

    fn received(&mut self, track: usize, bytes: &[u8]) {
        if let (Some(track), Some(rtp)) = (self.tracks.get_mut(track), Rtp::read(bytes)) {
            track.last = rtp.seq;
        }
    }

    fn answered(&mut self, net: &mut Net, answer: &Answer) {
        let line = || format!("client {} hears: {answer:?}", self.number);
        net.trace.say(net.now - START_NS, line);
        let is_ok = answer.status == 200;
        match self.phase {
            Phase::Describing if is_ok => {
                self.read_description(net, answer);
                self.awaited -= 1;
                self.set_up(net, 0);
            }
            Phase::SettingUp(index) if is_ok => {
                self.awaited -= 1;
                self.session = answer.session().map(ToOwned::to_owned);
                let track = &mut self.tracks[index];
                let hex = answer.transport("ssrc");
                track.ssrc = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok());
                let ports = answer.transport("server_port").and_then(|p| p.split('-').next());
                track.server_port = ports.and_then(|port| port.parse().ok());
                if index + 1 < self.tracks.len() {
                    self.set_up(net, index + 1);
                } else {
                    self.phase = Phase::Starting;
                    let method = if self.plan.kind == Kind::Publisher { "RECORD" } else { "PLAY" };
                    self.ask(net, method, &self.url(), "Range: npt=0.000-\r\n", "", None);
                }
            }
            Phase::Starting if is_ok => {
                self.phase = Phase::Acting;
                self.is_publishing = self.plan.kind == Kind::Publisher;
                self.go_on(net);
            }
            Phase::Describing | Phase::SettingUp(_) | Phase::Starting => {
                // Refused: it leaves.
                net.watch.count("client.refused");
                self.phase = Phase::Ending;
                let delay = net.dice.ms(1, 200);
                self.step_after(net, delay);
            }
            Phase::Acting => self.go_on(net),
            Phase::Ending => {
                net.close(self.conn);
                self.gone(net);
            }
            Phase::Away | Phase::Gone => {}
        }
    }

    fn read_description(&mut self, net: &mut Net, answer: &Answer) {
        let is_publisher = self.plan.kind == Kind::Publisher;
        let body = if is_publisher { self.plan.sdp } else { &answer.body };
        let base = answer.header("Content-Base").unwrap_or_default().trim_end_matches('/');
        let base = if base.is_empty() { self.url() } else { base.to_owned() };
        for media in body.split("m=").skip(1) {
            let attribute = |name| media.lines().find_map(|line| line.strip_prefix(name));
            let Some(control) = attribute("a=control:") else { continue };
            let clock = attribute("a=rtpmap:").and_then(|map| map.split('/').nth(1));
            let rate = clock.and_then(|text| text.trim().parse().ok()).unwrap_or(8_000);
            let place = u16::try_from(self.tracks.len()).expect("few tracks");
            let port = self.plan.ports.unwrap_or_else(|| self.from.port() + 10) + 2 * place;
            let is_whole = control.starts_with("rtsp://");
            let url = if is_whole { control.to_owned() } else { format!("{base}/{control}") };
            for port in [port, port + 1] {
                net.homes.entry(at_port(self.from, port)).or_default().insert(self.number);
            }
            let (server_port, ssrc) = (None, None);
            self.tracks.push(OwnTrack { url, rate, port, server_port, ssrc, last: 0 });
        }
    }

    fn set_up(&mut self, net: &mut Net, index: usize) {
        if index >= self.tracks.len() {
            self.phase = Phase::Ending;
            return self.step_after(net, MS);
        }
        self.phase = Phase::SettingUp(index);
        let is_published = self.plan.kind == Kind::Publisher;
        let mode = if is_published { ";mode=record" } else { "" };
        let own = &self.tracks[index];
        let profile = if self.plan.has_feedback { "RTP/AVPF" } else { "RTP/AVP" };
        let transport = if self.plan.is_tcp {
            let channel = 2 * index;
            format!("{profile}/TCP;unicast;interleaved={channel}-{}{mode}", channel + 1)
        } else {
            format!("{profile};unicast;client_port={}-{}{mode}", own.port, own.port + 1)
        };
        let track = Track {
            url: own.url.clone(),
            rate: own.rate,
            is_title: ["demo", "vod/film.mp4"].contains(&self.plan.path),
            is_own: !self.plan.path.starts_with("live/"),
            has_feedback: self.plan.has_feedback,
            is_published,
        };
        let url = own.url.clone();
        let headers = format!("Transport: {transport}\r\n");
        self.ask(net, "SETUP", &url, &headers, "", Some(track));
    }

    /// Does the next act when all that it waits for has come.
    fn go_on(&mut self, net: &mut Net) {
        self.awaited = self.awaited.saturating_sub(1);
        if self.awaited == 0 {
            let delay = net.dice.between(0, 20 * MS);
            self.step_after(net, delay);
        }
    }

    fn act(&mut self, net: &mut Net) {
        let url = self.url();
        let Some(act) = self.acts.pop_front() else {
            self.phase = Phase::Ending;
            return self.leave(net);
        };
        net.watch.count(act.name());
        match act {
            Act::Wait(ms) => return self.step_after(net, ms * MS),
            Act::Pause => self.ask(net, "PAUSE", &url, "", "", None),
            Act::Resume => self.ask(net, "PLAY", &url, "", "", None),
            Act::Seek(second) => {
                let range = format!("Range: npt={second:.3}-\r\n");
                self.ask(net, "PLAY", &url, &range, "", None);
            }
            Act::Scale(scale) => {
                let scale = format!("Scale: {scale}\r\n");
                self.ask(net, "PLAY", &url, &scale, "", None);
            }
            Act::KeepAlive => self.ask(net, "GET_PARAMETER", &url, "", "", None),
            Act::Pipeline => {
                for (method, headers) in [
                    ("PAUSE", ""),
                    ("PLAY", "Range: npt=2-\r\n"),
                    ("OPTIONS", ""),
                    ("PLAY", "Range: npt=5-\r\n"),
                    ("PAUSE", ""),
                    ("PLAY", ""),
                ] {
                    self.ask(net, method, &url, headers, "", None);
                }
            }
            Act::PauseElsewhere => {
                let port = self.from.port() + 1;
                let conn = *self.other.get_or_insert_with(|| {
                    let from = at_port(self.from, port);
                    let conn = net.connect(self.number, from);
                    net.watch.connection(conn, from, net.now);
                    conn
                });
                self.ask_on(net, conn, "PAUSE", &url, "", ("", None));
            }
            Act::Deaf(ms) => {
                net.set_reading(self.conn, false);
                self.acts.push_front(Act::Hear);
                return self.step_after(net, ms * MS);
            }
            Act::Hear => net.set_reading(self.conn, true),
            Act::Tune(channel) => {
                let headers = "Content-Type: text/parameters\r\n";
                let body = format!("channel: {channel}\r\n");
                self.ask(net, "SET_PARAMETER", &url, headers, &body, None);
            }
            Act::Report(lost) => self.send_rtcp(net, |track, ours| {
                receiver_report(ours, track.ssrc.unwrap_or(0), lost, track.last)
            }),
            Act::Nack(before) => self.send_rtcp(net, |track, ours| {
                nack(ours, track.ssrc.unwrap_or(0), track.last.wrapping_sub(before))
            }),
        }
        if self.awaited == 0 {
            self.step_after(net, MS);
        }
    }

    fn send_rtcp(&self, net: &mut Net, write: impl Fn(&OwnTrack, u32) -> Vec<u8>) {
        for (index, track) in self.tracks.iter().enumerate() {
            let bytes = write(track, u32::try_from(self.number).expect("few clients"));
            if self.plan.is_tcp {
                let channel = u8::try_from(2 * index + 1).expect("few tracks");
                net.send(self.conn, &framed(channel, &bytes));
            } else if let Some(port) = track.server_port {
                net.send_datagram(at_port(self.from, track.port + 1), port + 1, &bytes);
            }
        }
    }

    fn publish(&mut self, net: &mut Net) {
        if self.sent >= 50 * u32::try_from(self.plan.acts.len()).expect("few acts") {
            self.phase = Phase::Ending;
            return self.leave(net);
        }
        self.sent += 1;
        // A run of the client is known by its last CSeq.
        let run = u32::try_from(self.number).expect("few clients") * 1_000 + self.cseq;
        for (index, track) in self.tracks.iter().enumerate() {
            let is_sound = track.rate == 8_000;
            if !is_sound && !self.sent.is_multiple_of(2) {
                continue;
            }
            let ssrc = run * 2 + u32::from(is_sound);
            let number = if is_sound { self.sent } else { self.sent / 2 - 1 };
            let made = Made { run, number };
            net.watch.published(made, is_sound, net.now);
            let mut bytes = if is_sound { made.sound(ssrc) } else { made.picture(ssrc) };
            if net.mutation == Some(Mutation::LostUnseen) && is_sound && number >= LOST {
                if number == LOST {
                    continue;
                }
                let seq = u16::from_be_bytes([bytes[2], bytes[3]]) - 1;
                bytes[2..4].copy_from_slice(&seq.to_be_bytes());
            }
            if self.plan.is_tcp {
                let channel = u8::try_from(2 * index).expect("few tracks");
                net.send(self.conn, &framed(channel, &bytes));
            } else if let Some(port) = track.server_port {
                net.send_datagram(at_port(self.from, track.port), port, &bytes);
            }
        }
        self.step_after(net, 20 * MS);
    }

    /// What no client should send, and clients that stop in the middle.
    fn babble(&mut self, net: &mut Net) {
        net.watch.garbled(self.conn);
        let texts: [&[u8]; 7] = [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PLAY rtsp://10.0.0.1/demo RTSP/1.0\r\nCSeq: 9\r\nSession: 0123456789ABCDEF\r\n\r\n",
            b"OPTIONS * RTSP/1.0\r\nCSeq:",
            b"$\x00\xff\xff\x80\x00\x00\x01",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"SETUP rtsp://10.0.0.1/demo/trackID=1 RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 99999999\r\n\r\n",
            b"DESCRIBE rtsp://10.0.0.1/../../etc RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        ];
        for _ in 0..1 + net.dice.index(4) {
            let text = net.dice.pick(&texts);
            net.send(self.conn, text);
        }
        let port = 8_000 + u16::try_from(net.dice.index(4)).expect("four");
        let noise = vec![net.dice.pick(&[0, 0x80, 0x81, 0xff]); net.dice.index(200)];
        net.send_datagram(at_port(self.from, 40_000), port, &noise);
        self.phase = Phase::Ending;
        let delay = net.dice.ms(1, 3_000);
        self.step_after(net, delay);
    }

    fn leave(&mut self, net: &mut Net) {
        if let Some(other) = self.other.take() {
            net.close(other);
        }
        let url = self.url();
        match self.plan.end {
            End::Teardown if self.session.is_some() => {
                self.ask(net, "TEARDOWN", &url, "", "", None);
                // The answer ends it.
                return;
            }
            End::Teardown | End::Close => net.close(self.conn),
            End::Vanish => net.vanish(self.number),
            End::Silence => {}
        }
        net.watch.count(match self.plan.end {
            End::Teardown => "end.teardown",
            End::Close => "end.close",
            End::Vanish => "end.vanish",
            End::Silence => "end.silence",
        });
        self.gone(net);
    }

    /// It has left, and may come back.
    fn gone(&mut self, net: &mut Net) {
        self.phase = Phase::Gone;
        if self.returns > 0 && !matches!(self.plan.end, End::Silence | End::Vanish) {
            self.returns -= 1;
            self.phase = Phase::Away;
            net.watch.count("client.back");
            let delay = net.dice.ms(1, 600);
            self.step_after(net, delay);
        }
    }

    /// The run is over: whoever is still there goes.
    pub(crate) fn dismiss(&mut self, net: &mut Net) {
        match self.plan.end {
            _ if self.phase == Phase::Away => {}
            // A session over TCP that has played lives as long as its connection.
            End::Silence | End::Vanish if self.plan.is_tcp => net.vanish(self.number),
            End::Silence => {}
            End::Teardown | End::Close | End::Vanish => {
                if let Some(other) = self.other.take() {
                    net.close(other);
                }
                net.close(self.conn);
            }
        }
        (self.phase, self.returns) = (Phase::Gone, 0);
    }
}

impl Act {
    fn name(self) -> &'static str {
        match self {
            Self::Wait(_) => "act.wait",
            Self::Pause => "act.pause",
            Self::Resume => "act.resume",
            Self::Seek(_) => "act.seek",
            Self::Scale(_) => "act.scale",
            Self::KeepAlive => "act.keep-alive",
            Self::Pipeline => "act.pipeline",
            Self::PauseElsewhere => "act.pause elsewhere",
            Self::Deaf(_) => "act.deaf",
            Self::Hear => "act.hear",
            Self::Report(_) => "act.report",
            Self::Nack(_) => "act.nack",
            Self::Tune(_) => "act.tune",
        }
    }
}

/// What publishers announce: G.711.
pub(crate) const SOUND: &str = "v=0\r\no=- 0 0 IN IP4 10.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:streamid=0\r\n";

/// G.711, and H.264.
pub(crate) const SOUND_AND_PICTURES: &str = "v=0\r\no=- 0 0 IN IP4 10.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:streamid=0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;\
    sprop-parameter-sets=Z0IAH5WoFAFuQA==,aM4yyA==\r\n\
    a=control:streamid=1\r\n";

/// Number of the packet of sound that is lost where that is a fault that is switched on.
const LOST: u32 = 60;
/// The longest run of a client.
pub(crate) const ACTS_MAX_NS: u64 = 6 * S;
