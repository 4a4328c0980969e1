//! One viewer: its connection (str0m), and where it is in the path.
//!
//! ```text
//!  Connecting --ICE, DTLS--> Waiting --start--> Past --burst by burst--> Present
//!      |                        ^                 `-----behind-----.        |
//!      '--CONNECT_MAX--> End    '--------another source, behind----'--------'
//! ```
//! The newest group of pictures is there at once for who comes; it is sent in bursts of
//! `BURST_EVERY`, and what the path brings meanwhile behind it.
//!
//! Invariants: a viewer begins with a start; numbers go on without a gap that the path does not
//! have; after each change of str0m's state its output is taken until it has none.
//! Bounds: `BEHIND_MAX` packets wait; retransmissions have `AGAIN_MAX` packets to choose from.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use str0m::change::SdpOffer;
use str0m::format::{Codec, FormatParams};
use str0m::media::{Frequency, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::stats::MediaEgressStats;
use str0m::{Candidate, Event, IceConnectionState, IceCreds, Input, Output, Rtc};

use crate::access::permit::Permit;
use crate::base::ids::{RtpTs, SessionId};
use crate::base::random;
use crate::poll::poller::GUEST;
use crate::rtp::detect::nal::SetKind;
use crate::whep::clock::ViewerClock;
use crate::whep::crypto::Identity;
use crate::whep::format::{Format, Formats};
use crate::whep::info::{TrackInfo, TrackReport, ViewerInfo};
use crate::whep::lane::Packet;
use crate::whep::places::Place;
use crate::whep::{Datagram, End, OfferError, Sink, stun};

/// See the module.
pub(super) struct Viewer {
    pub(super) path: Arc<str>,
    /// Names the session in URLs, where it is a secret.
    pub(super) id: String,
    /// Names it in requests of STUN.
    pub(super) name: String,
    /// Names it for operators.
    pub(super) session: SessionId,
    pub(super) from: IpAddr,
    /// Leave to watch the path.
    pub(super) permit: Permit,
    /// A judge has been asked about it.
    pub(super) is_judged: bool,
    /// Addresses that its requests of STUN have come from.
    pub(super) tuples: Vec<SocketAddr>,
    /// Addresses of the server that its answers of STUN have named.
    pub(super) mapped: Vec<stun::Mapped>,
    pub(super) opened: Instant,
    /// Packets and payload bytes that were sent.
    pub(super) sent: (u64, u64),
    rtc: Rtc,
    state: State,
    video: Option<Track>,
    audio: Option<Track>,
    behind: VecDeque<Packet>,
    next_burst: Option<Instant>,
    burst_packets: usize,
    /// A moment and the path's time that belongs to it.
    anchor: Option<(Instant, i64)>,
    /// It has answered a request of ICE, so that more may be sent (RFC 7675 s5.1).
    heard: Instant,
    rtc_timeout: Instant,
    /// From its beginning on, once others have made room.
    pub(super) place: Option<Place>,
    /// Address that the newest of its packets went to.
    sent_to: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Waiting,
    Past,
    Present,
}

/// What happened while a viewer was driven.
#[derive(Debug, Default)]
pub(super) struct Happened {
    /// A datagram is of this viewer: its integrity was checked, or its address was.
    pub(super) is_accepted: bool,
    /// It is connected from now on.
    pub(super) is_connected: bool,
    /// It asked for a key frame, or needs one.
    pub(super) wants_sync: bool,
    /// Key frames that the browser asked for.
    pub(super) keyframe_requests: u64,
    /// It did not take what came, and begins anew.
    pub(super) skips: u64,
    /// It is over.
    pub(super) end: Option<End>,
}

/// A track as the viewer gets it.
#[derive(Debug)]
struct Track {
    mid: Mid,
    pt: Pt,
    /// What is shown of it.
    info: TrackInfo,
    clock_rate_hz: u32,
    /// A number of the path, and the viewer's for it.
    numbers: Option<(u64, u64)>,
    clock: Option<ViewerClock>,
    /// The viewer's number behind the newest.
    next: u64,
    newest: RtpTs,
}

impl Viewer {
    /// Accepts an offer, reduced (`offer`). The answer is for the browser, and the viewer is known
    /// to it by `name`.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub(super) fn new(
        (path, formats): (Arc<str>, &Formats),
        (sdp, name): (&str, &str),
        (from, permit): (IpAddr, Permit),
        candidates: &[SocketAddr],
        identity: &Identity,
        now: Instant,
    ) -> Result<(Self, String), OfferError> {
        let offer = SdpOffer::from_sdp_string(sdp);
        let offer = offer.map_err(|error| OfferError::Syntax(error.to_string()))?;
        let creds = IceCreds { ufrag: name.to_owned(), pass: random_name(PASSWORD_DIGITS) };
        let mut rtc = Rtc::builder()
            .set_crypto_provider(Arc::clone(&identity.provider))
            .set_dtls_cert(identity.certificate.clone())
            .set_local_ice_credentials(creds)
            .set_rtp_mode(true)
            .set_mtu(MTU..=usize::MAX)
            .set_stats_interval(Some(STATS_EVERY))
            .clear_codecs();
        let config = rtc.codec_config();
        if formats.video.is_some() {
            for (at, profile) in (0_u8..).zip(PROFILES) {
                let pt = FIRST_PT + 2 * at;
                config.add_h264(pt.into(), Some((pt + 1).into()), true, profile);
            }
        }
        if formats.audio.is_some() {
            // What a path has is not known: a browser that decodes two channels plays one as well.
            let (min_p_time, use_inband_fec) = (Some(10), Some(true));
            let (stereo, sprop_stereo) = (Some(true), Some(true));
            let format = FormatParams {
                min_p_time,
                use_inband_fec,
                stereo,
                sprop_stereo,
                ..FormatParams::default()
            };
            let rate = Frequency::FORTY_EIGHT_KHZ;
            config.add_config(OPUS_PT.into(), None, Codec::Opus, rate, Some(2), format);
        }
        let mut rtc = rtc.build(now);
        for addr in candidates {
            if let Ok(candidate) = Candidate::host(*addr, Protocol::Udp) {
                rtc.add_local_candidate(candidate);
            }
        }
        let answer = rtc.sdp_api().accept_offer(offer);
        let answer = answer.map_err(|error| OfferError::Refused(error.to_string()))?;
        let mut viewer = Self {
            path,
            id: random_name(ID_DIGITS),
            name: name.to_owned(),
            session: SessionId::new(GUEST, random::rng().next_u64()),
            from,
            permit,
            is_judged: false,
            tuples: Vec::new(),
            mapped: Vec::new(),
            opened: now,
            sent: (0, 0),
            rtc,
            state: State::Connecting,
            video: None,
            audio: None,
            behind: VecDeque::new(),
            next_burst: None,
            burst_packets: 0,
            anchor: None,
            heard: now,
            rtc_timeout: now,
            place: None,
            sent_to: None,
        };
        viewer.find_tracks(sdp, formats)?;
        Ok((viewer, answer.to_sdp_string()))
    }

    /// Finds the sections of the offer that tracks go to.
    fn find_tracks(&mut self, sdp: &str, formats: &Formats) -> Result<(), OfferError> {
        let profile = formats.video.as_ref().and_then(|(_, sets)| {
            let sps = sets.of_kind(SetKind::Sps).next()?;
            sps.get(1..3).map(|bytes| (bytes[0], bytes[1]))
        });
        // str0m tells of sections once it is connected, which is too late to refuse an offer.
        let sections: Vec<Mid> =
            sdp.lines().filter_map(|line| line.strip_prefix("a=mid:")).map(Mid::from).collect();
        let of_kind = |kind, codec, format: Option<&Format>, encoding| {
            let takes = |mid: &&Mid| {
                let media = self.rtc.media(**mid);
                media.is_some_and(|media| media.kind() == kind && media.direction().is_sending())
            };
            let mid = *sections.iter().find(takes)?;
            let pt = self.payload_type(mid, codec, profile)?;
            let (numbers, clock, next, newest) = (None, None, first_number(), RtpTs(0));
            let Format { place: track, clock_rate_hz, .. } = *format?;
            let (ssrc, packets, payload_bytes, report) = (0, 0, 0, None);
            let info = TrackInfo { track, encoding, ssrc, packets, payload_bytes, report };
            Some(Track { mid, pt, info, clock_rate_hz, numbers, clock, next, newest })
        };
        let video = formats.video.as_ref().map(|(format, _)| format);
        let video = of_kind(MediaKind::Video, Codec::H264, video, "H264");
        let audio = of_kind(MediaKind::Audio, Codec::Opus, formats.audio.as_ref(), "opus");
        (self.video, self.audio) = (video, audio);
        match (&formats.video, &formats.audio) {
            (Some(_), _) if self.video.is_none() => Err(OfferError::NoCodec("H.264 video")),
            (None, _) if self.audio.is_none() => Err(OfferError::NoCodec("Opus sound")),
            _ => Ok(()),
        }
    }

    /// The payload type that the browser has for a codec: of H.264 that of the path's profile, if
    /// it has that.
    fn payload_type(&self, mid: Mid, codec: Codec, profile: Option<(u8, u8)>) -> Option<Pt> {
        let media = self.rtc.media(mid)?;
        let known = self.rtc.codec_config().params();
        let found = media.remote_pts().iter().filter_map(|pt| {
            known.iter().find(|params| params.pt() == *pt && params.spec().codec == codec)
        });
        let found: Vec<_> = found.collect();
        let kind = |profile: u8, constraints: u8| (profile, constraints & told_apart(profile));
        let is_profile = |id: Option<u32>| {
            let of_offer = id.map(u32::to_be_bytes).map(|bytes| kind(bytes[1], bytes[2]));
            of_offer == profile.map(|(profile, constraints)| kind(profile, constraints))
        };
        let same = found.iter().find(|params| is_profile(params.spec().format.profile_level_id));
        same.or_else(|| found.first()).map(|params| params.pt())
    }

    /// Whether ICE and DTLS are done.
    pub(super) fn is_connected(&self) -> bool {
        self.state != State::Connecting
    }

    /// When `handle_timeout` is due.
    pub(super) fn timeout(&self) -> Instant {
        let limit = match self.state {
            State::Connecting => self.opened + CONNECT_MAX,
            _ => self.heard + SILENCE_MAX,
        };
        let burst = self.next_burst.unwrap_or(limit);
        self.rtc_timeout.min(limit).min(burst)
    }

    /// A datagram has come for it.
    pub(super) fn handle_datagram(
        &mut self,
        (source, destination): (SocketAddr, SocketAddr),
        bytes: &[u8],
        now: Instant,
        out: &mut Sink<'_>,
    ) -> Happened {
        let mut happened = Happened::default();
        let Ok(receive) = Receive::new(Protocol::Udp, source, destination, bytes) else {
            return happened;
        };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            return happened;
        }
        happened.is_accepted = true;
        if stun::is_answer(bytes) {
            self.heard = now;
        }
        let handled = self.rtc.handle_input(input);
        self.drain(handled.err(), &mut happened, out);
        happened
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Sink<'_>) -> Happened {
        let mut happened = Happened::default();
        if self.state == State::Connecting && now >= self.opened + CONNECT_MAX {
            happened.end = Some(End::NotConnected);
        } else if self.state != State::Connecting && now >= self.heard + SILENCE_MAX {
            happened.end = Some(End::Silent);
        }
        if happened.end.is_some() {
            return happened;
        }
        if self.next_burst.is_some_and(|at| at <= now) {
            self.burst(now, &mut happened, out);
        }
        self.flush(now, &mut happened, out);
        happened
    }

    /// It is connected: it begins with the newest group, or waits for a start.
    pub(super) fn begin(&mut self, group: &[Packet], now: Instant) -> Happened {
        let mut happened = Happened::default();
        if self.video.is_none() {
            self.state = State::Present;
        } else if group.is_empty() {
            self.wait(&mut happened);
        } else {
            self.behind = group.iter().cloned().collect();
            self.burst_packets = (group.len() / BURSTS).clamp(BURST_MIN, BURST_MAX);
            self.state = State::Past;
            self.restart(true);
            self.next_burst = Some(now);
        }
        happened
    }

    /// Packets have come from the path.
    pub(super) fn push(
        &mut self,
        packets: &[Packet],
        now: Instant,
        out: &mut Sink<'_>,
    ) -> Happened {
        let mut happened = Happened::default();
        let mut packets = packets;
        if self.state == State::Waiting {
            let start = packets.iter().position(|packet| packet.is_start && !packet.is_audio);
            packets = start.and_then(|start| packets.get(start..)).unwrap_or_default();
            if !packets.is_empty() {
                self.state = State::Present;
                self.restart(false);
            }
        }
        match self.state {
            State::Connecting | State::Waiting => return happened,
            State::Past if self.behind.len() + packets.len() > BEHIND_MAX => {
                happened.skips += 1;
                self.wait(&mut happened);
                return happened;
            }
            State::Past => self.behind.extend(packets.iter().cloned()),
            State::Present => {
                for packet in packets {
                    self.write(packet, now, &mut happened, out);
                }
            }
        }
        self.flush(now, &mut happened, out);
        happened
    }

    /// Another source follows: it begins anew with its first start.
    pub(super) fn wait_for_start(&mut self) -> Happened {
        let mut happened = Happened::default();
        if self.video.is_some() && self.state != State::Connecting {
            self.wait(&mut happened);
        }
        happened
    }

    /// Says to the browser that it is over.
    pub(super) fn close(&mut self, now: Instant, out: &mut Sink<'_>) {
        let mut happened = Happened::default();
        let closed = self.rtc.close();
        self.drain(closed.err(), &mut happened, out);
        self.flush(now, &mut happened, out);
    }

    fn wait(&mut self, happened: &mut Happened) {
        self.state = State::Waiting;
        self.behind = VecDeque::new();
        self.next_burst = None;
        happened.wants_sync = true;
    }

    /// What comes next is not what followed the last packet.
    fn restart(&mut self, is_past: bool) {
        for track in [&mut self.video, &mut self.audio].into_iter().flatten() {
            track.numbers = None;
            match &mut track.clock {
                Some(clock) if !is_past => clock.end_past(),
                clock => *clock = None,
            }
        }
    }

    fn burst(&mut self, now: Instant, happened: &mut Happened, out: &mut Sink<'_>) {
        for _ in 0..self.burst_packets {
            let Some(packet) = self.behind.pop_front() else { break };
            self.write(&packet, now, happened, out);
        }
        self.next_burst = Some(now + BURST_EVERY);
        if self.behind.is_empty() {
            self.behind = VecDeque::new();
            self.next_burst = None;
            self.state = State::Present;
            if let Some(clock) = self.video.as_mut().and_then(|track| track.clock.as_mut()) {
                clock.end_past();
            }
        }
    }

    fn write(
        &mut self,
        packet: &Packet,
        now: Instant,
        happened: &mut Happened,
        out: &mut Sink<'_>,
    ) {
        let is_past = self.state == State::Past && !packet.is_audio;
        let wallclock = if is_past { now } else { self.wallclock(packet.utc_ns, now) };
        let track = if packet.is_audio { &mut self.audio } else { &mut self.video };
        let Some(track) = track else { return };
        let Some((number, ts)) = track.place(packet, is_past) else { return };
        let payload = Arc::clone(&packet.payload);
        let bytes = payload.len() as u64;
        self.sent = (self.sent.0 + 1, self.sent.1 + bytes);
        track.info.packets += 1;
        track.info.payload_bytes += bytes;
        let (pt, mid) = (track.pt, track.mid);
        let write = RtpWrite::new(pt, number.into(), ts.0, wallclock, payload);
        let write = write.marker(packet.marker).nackable(!packet.is_audio);
        let mut direct = self.rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(mid, None) else { return };
        stream.write_rtp(write);
        self.drain(None, happened, out);
    }

    /// The moment at which a packet was captured, as str0m has it in its reports: sound and picture
    /// are shown together by it.
    fn wallclock(&mut self, utc_ns: Option<i64>, now: Instant) -> Instant {
        let Some(utc_ns) = utc_ns else { return now };
        let (moment, at_ns) = *self.anchor.get_or_insert((now, utc_ns));
        let ns = utc_ns.saturating_sub(at_ns);
        let distance = Duration::from_nanos(ns.unsigned_abs());
        let wallclock =
            if ns < 0 { moment.checked_sub(distance) } else { moment.checked_add(distance) };
        // The path's clock was set: what follows is relative to that.
        let is_off = |found: &Instant| {
            let off = found.duration_since(now).max(now.duration_since(*found));
            off > CLOCK_OFF_MAX
        };
        wallclock.filter(|found| !is_off(found)).unwrap_or_else(|| {
            self.anchor = Some((now, utc_ns));
            now
        })
    }

    /// Has str0m send what it has been given.
    fn flush(&mut self, now: Instant, happened: &mut Happened, out: &mut Sink<'_>) {
        let handled = self.rtc.handle_input(Input::Timeout(now));
        self.drain(handled.err(), happened, out);
    }

    fn drain(
        &mut self,
        error: Option<str0m::RtcError>,
        happened: &mut Happened,
        out: &mut Sink<'_>,
    ) {
        if let Some(error) = error {
            happened.end.get_or_insert_with(|| End::Failed(error.to_string()));
        }
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.rtc_timeout = at;
                    break;
                }
                Ok(Output::Transmit(transmit)) => {
                    // Requests of ICE go to addresses that are only tried.
                    if !stun::is_stun(&transmit.contents) {
                        self.sent_to = Some(transmit.destination);
                    }
                    out(Datagram {
                        from: transmit.source,
                        to: transmit.destination,
                        bytes: &transmit.contents,
                    });
                }
                Ok(Output::Event(event)) => self.note(&event, happened),
                Err(error) => {
                    happened.end.get_or_insert_with(|| End::Failed(error.to_string()));
                    break;
                }
            }
        }
        if !self.rtc.is_alive() {
            happened.end.get_or_insert(End::Left);
        }
    }

    fn note(&mut self, event: &Event, happened: &mut Happened) {
        match event {
            Event::Connected if self.state == State::Connecting => {
                self.state = State::Waiting;
                happened.is_connected = true;
                if let Some(place) = &mut self.place {
                    place.settle();
                }
                for track in [&mut self.video, &mut self.audio].into_iter().flatten() {
                    let mut direct = self.rtc.direct_api();
                    if let Some(stream) = direct.stream_tx_by_mid(track.mid, None) {
                        stream.set_rtx_cache(AGAIN_MAX, AGAIN_AGE, Some(AGAIN_SHARE));
                        track.info.ssrc = *stream.ssrc();
                    }
                }
            }
            Event::MediaEgressStats(stats) => self.note_report(stats),
            Event::KeyframeRequest(_) => {
                happened.keyframe_requests += 1;
                happened.wants_sync = true;
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                happened.end.get_or_insert(End::Silent);
            }
            Event::Closed => {
                happened.end.get_or_insert(End::Left);
            }
            _ => {}
        }
    }
}

impl Viewer {
    fn note_report(&mut self, stats: &MediaEgressStats) {
        let mut tracks = [&mut self.video, &mut self.audio].into_iter().flatten();
        let Some(track) = tracks.find(|track| track.mid == stats.mid) else { return };
        if stats.remote.is_none() && stats.loss.is_none() && stats.rtt.is_none() {
            return;
        }
        let remote = stats.remote.as_ref();
        let rate = f64::from(track.clock_rate_hz.max(1));
        track.info.report = Some(TrackReport {
            fraction_lost: stats.loss.map(f64::from),
            packets_lost: remote.map(|remote| lost(remote.packets_lost)),
            jitter_s: remote.map(|remote| f64::from(remote.jitter) / rate),
            round_trip: stats.rtt,
        });
    }

    /// As operators see it.
    pub(super) fn info(&self, now: Instant) -> ViewerInfo {
        let tracks = [&self.video, &self.audio].into_iter().flatten();
        ViewerInfo {
            session: self.session,
            path: Arc::clone(&self.path),
            from: self.from,
            addr: self.sent_to,
            user_agent: self.permit.user_agent().map(str::to_owned),
            user: self.permit.user().cloned(),
            is_connected: self.is_connected(),
            age: now.duration_since(self.opened),
            tracks: tracks.map(|track| track.info.clone()).collect(),
        }
    }
}

impl std::fmt::Debug for Viewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Viewer").field("path", &self.path).field("state", &self.state).finish()
    }
}

impl Track {
    /// The viewer's number and time of a packet; `None`: it lies before the viewer's beginning.
    fn place(&mut self, packet: &Packet, is_past: bool) -> Option<(u64, RtpTs)> {
        let (path, own) = *self.numbers.get_or_insert((packet.number, self.next));
        let number = own + packet.number.checked_sub(path)?;
        self.next = self.next.max(number + 1);
        let newest = self.newest;
        let begins = || {
            // Behind what it was sent before; a random one at first (RFC 3550 s5.1).
            let from = if newest.0 == 0 { random::rng().next_u32() } else { newest.0 };
            ViewerClock::new(packet.ts, RtpTs(from.wrapping_add(1)), is_past)
        };
        let ts = self.clock.get_or_insert_with(begins).map(packet.ts);
        self.newest = ts;
        Some((number, ts))
    }
}

/// Packets lost, of 24 bits with a sign (RFC 3550 s6.4.1), which str0m takes for a number without
/// one: duplicates make it negative.
fn lost(bits: u64) -> i64 {
    let bits = bits & 0xff_ffff;
    let is_negative = bits >> 23 == 1;
    bits.cast_signed() - if is_negative { 1 << 24 } else { 0 }
}

/// Constraints that make another profile of this one (RFC 6184 s8.1, table 5).
fn told_apart(profile: u8) -> u8 {
    match profile {
        BASELINE => 0x40,
        MAIN => 0x80,
        _ => 0,
    }
}

/// A name that nobody can guess, of so many hexadecimal digits.
pub(super) fn random_name(digits: usize) -> String {
    let mut rng = random::rng();
    let word = |_| format!("{:016x}", rng.next_u64());
    let mut name: String = (0..digits.div_ceil(16)).map(word).collect();
    name.truncate(digits);
    name
}

/// Half of the numbers are before the first wrap, which a browser could take for one of SRTP.
fn first_number() -> u64 {
    u64::from(random::rng().next_u32() >> 17)
}

/// Time for ICE and DTLS.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(15);
/// Who answers no request of ICE for so long is sent nothing more (RFC 7675 s5.1). str0m asks every
/// few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Packets that wait for a viewer: a group, and as many again.
const BEHIND_MAX: usize = 20_480;
/// The newest group takes so many bursts, 5 ms apart: half a second.
const BURSTS: usize = 100;
const BURST_EVERY: Duration = Duration::from_millis(5);
/// Packets of a burst: 35 Mbit/s, and 140.
const BURST_MIN: usize = 16;
const BURST_MAX: usize = 64;
/// Packets that can be sent again, how old they may be, and their share of all.
const AGAIN_MAX: usize = 1_024;
const AGAIN_AGE: Duration = Duration::from_secs(2);
const AGAIN_SHARE: f32 = 0.25;
/// A capture time that is farther from now is not one.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(30);
/// Of DTLS.
const MTU: usize = 1_200;
/// Between two looks at what a browser reports; Chromium reports every second or so.
const STATS_EVERY: Duration = Duration::from_secs(5);
/// 64 bits for the name of STUN (RFC 8445 s5.3 wants 24), 128 for its password and for the session.
pub(super) const NAME_DIGITS: usize = 16;
const PASSWORD_DIGITS: usize = 32;
pub(super) const ID_DIGITS: usize = 32;
const BASELINE: u8 = 0x42;
const MAIN: u8 = 0x4d;
/// Own payload types until the offer names its own.
const FIRST_PT: u8 = 100;
const OPUS_PT: u8 = 111;
/// Baseline, Constrained Baseline, Main, High, Constrained High: level 3.1, as browsers name them;
/// they decode whatever level comes.
const PROFILES: [u32; 5] = [0x42_001f, 0x42_e01f, 0x4d_001f, 0x64_001f, 0x64_0c1f];

#[cfg(test)]
mod tests {
    use super::*;

    /// A duplicate was sixteen million packets lost.
    #[test]
    fn packets_lost_have_a_sign() {
        assert_eq!([0, 5, 0x7f_ffff].map(lost), [0, 5, 0x7f_ffff]);
        assert_eq!([0xff_ffff, 0x80_0000].map(lost), [-1, -0x80_0000]);
    }
}
