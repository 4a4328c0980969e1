//! One session: the RTSP client and its streams, without sockets.
//!
//! ```text
//! TCP bytes --> wire --> RtspClient --events--+--> session_acts: script, reports, verdict, end
//!                 +----> Stream (interleaved) |
//! datagrams -----------> Stream (UDP) --------+
//! ```
//! This file takes bytes, packets and time in; `session_acts` decides what to do about them.
//! Invariant: the figures of a session are folded into [`Stats`] exactly once, when it closes.
//! Bound: at most one unfinished RTSP message (256 KiB) is held.

use crate::client::{Event, RtspClient};
use crate::failure::Failure;
use crate::interval::ReportInterval;
use crate::publish::stamp;
use crate::request::TransportAsk;
use crate::rtcp;
use crate::script::{Actor, Script, Wish};
use crate::stats::Stats;
use crate::stream::{Claims, Stream, Taken, bytes_per_s};
use crate::time::Mono;
use crate::wire::{self, Item};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rtsp_types::Url;
use std::sync::Arc;
use std::time::Duration;

/// PLAY without any packet for so long is a failure.
pub const FIRST_PACKET_WAIT: Duration = Duration::from_secs(5);
/// Silence that means "stalled" when the run ends.
pub const STALL: Duration = Duration::from_secs(2);
/// Silence that ends a session which plays to the end.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);
/// BYE may overtake the last packets on the way: the tail is looked at so long after it.
pub const LINGER: Duration = Duration::from_millis(200);
/// A tail that cannot be read to its end holds the session up no longer than this.
const TAIL_WAIT: Duration = Duration::from_secs(5);
/// A server may begin a live path with a few seconds of its past, and catch up with the present:
/// the way of packets through it is timed from so long after the first one on.
pub const SETTLING: Duration = Duration::from_secs(2);
/// Tolerance between the announced length and the silence at the end.
const LENGTH_SLACK: Duration = Duration::from_secs(1);
/// Spreads the numbers of sessions over the seeds.
const SEED_STEP: u64 = 0xd134_2543_de82_ef95;

/// How a session shall behave.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Interleaved transport.
    pub tcp: bool,
    /// Play until the title ends.
    pub to_end: bool,
    /// Packets are dropped on the way: a session without one is as it should be.
    pub is_blind: bool,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the session: what is random about it comes of the seed and this.
    pub index: usize,
    /// Title and transport, as a place in the figures.
    pub part: usize,
    /// What the viewer does.
    pub script: Option<Arc<Script>>,
    /// What its receiver reports claim.
    pub claims: Claims,
    /// Part of the packets that is dropped on purpose, 0 to 1.
    pub drop: f64,
    /// Stop reading so long after PLAY.
    pub stall_after: Option<Duration>,
    /// A 3xx answer has led here.
    pub is_redirected: bool,
}

/// One client session with its streams.
#[derive(Debug)]
pub struct Session {
    // What each packet needs comes first, so that it shares cache lines.
    is_leaving: bool,
    is_over: bool,
    /// The first packet of a PLAY has not come.
    is_awaiting: bool,
    is_stalled: bool,
    streams: Vec<Stream>,
    last_packet: Option<Mono>,
    /// From when on the way through the server is timed.
    timed_from: Mono,
    plan: Plan,
    rng: SmallRng,
    client: RtspClient,
    actor: Option<Actor>,
    wish: Option<Wish>,
    reports: Vec<ReportTimer>,
    report_due: Option<Mono>,
    receiver_ssrc: u32,
    channels: Vec<(u8, u8)>,
    unread: Vec<u8>,
    events: Vec<Event>,
    wants_ports: bool,
    play_sent: Option<Mono>,
    playing_since: Option<Mono>,
    position: Position,
    first_packet: Option<Mono>,
    bye_at: Option<Mono>,
    verdict: Option<Failure>,
    redirect: Option<Url>,
    ended_by_server: bool,
}

/// Reports of one stream.
#[derive(Debug, Clone, Copy)]
struct ReportTimer {
    interval: ReportInterval,
    due: Mono,
}

/// Where in the title the session is.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    at: Duration,
    /// Since when it goes on from there.
    running_since: Option<Mono>,
}

impl Session {
    /// A session for `url` that has not begun.
    #[must_use]
    pub fn new(url: Url, plan: Plan) -> Self {
        let index = u64::try_from(plan.index).unwrap_or(0);
        let seed = plan.seed ^ index.wrapping_add(1).wrapping_mul(SEED_STEP);
        let mut rng = SmallRng::seed_from_u64(seed);
        let actor =
            plan.script.as_ref().map(|script| Actor::new(Arc::clone(script), plan.seed, index));
        Self {
            is_leaving: false,
            is_over: false,
            is_awaiting: true,
            is_stalled: false,
            streams: Vec::new(),
            last_packet: None,
            timed_from: Mono::from_ns(u64::MAX),
            receiver_ssrc: rng.random(),
            plan,
            rng,
            client: RtspClient::new(url),
            actor,
            wish: None,
            reports: Vec::new(),
            report_due: None,
            channels: Vec::new(),
            unread: Vec::new(),
            events: Vec::new(),
            wants_ports: false,
            play_sent: None,
            playing_since: None,
            position: Position::default(),
            first_packet: None,
            bye_at: None,
            verdict: None,
            redirect: None,
            ended_by_server: false,
        }
    }

    /// Bytes for the RTSP connection.
    pub const fn out(&mut self) -> &mut Vec<u8> {
        self.client.out()
    }

    /// True when nothing more will happen: the connection can be closed.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// True until PLAY is answered or the session is over.
    #[must_use]
    pub const fn is_setting_up(&self) -> bool {
        self.playing_since.is_none() && !self.is_over
    }

    /// True while it just plays, with nothing to do that could not wait a moment.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let has_plans = self.actor.is_some() || self.plan.stall_after.is_some();
        self.client.is_playing() && self.bye_at.is_none() && !has_plans && !self.is_leaving
    }

    /// False while the session acts as a client that has stopped reading.
    #[must_use]
    pub const fn is_reading(&self) -> bool {
        !self.is_stalled || self.is_leaving
    }

    /// Where a server has sent us, once: a session for that place, with a plan that says so, is to
    /// take over from this one.
    pub fn take_redirect(&mut self) -> Option<(Url, Plan)> {
        let plan = Plan { is_redirected: true, ..self.plan.clone() };
        self.redirect.take().map(|url| (url, plan))
    }

    /// Tracks that wait for UDP ports; give them to [`Session::handle_ports`].
    #[must_use]
    pub fn ports_wanted(&self) -> Option<usize> {
        self.wants_ports.then(|| self.client.tracks().len())
    }

    /// RTCP port of the server for `track`, when the stream is UDP.
    #[must_use]
    pub fn server_rtcp_port(&self, track: usize) -> Option<u16> {
        let transport = self.client.tracks().get(track)?.transport.as_ref()?;
        transport.server_ports.map(|(_, rtcp)| rtcp)
    }

    /// Packets missing so far, of all streams.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.streams.iter().map(Stream::lost).sum()
    }

    /// The connection stands.
    pub fn handle_connected(&mut self, now: Mono, stats: &mut Stats) {
        stats.connected += u64::from(!self.plan.is_redirected);
        self.client.handle_connected(now);
    }

    /// Our UDP ports, RTP and RTCP, one pair per track.
    pub fn handle_ports(&mut self, pairs: &[(u16, u16)], now: Mono) {
        self.wants_ports = false;
        let asks = pairs
            .iter()
            .map(|&(rtp_port, rtcp_port)| TransportAsk::Udp { rtp_port, rtcp_port })
            .collect();
        self.client.handle_transports(asks, now);
    }

    /// Bytes of the RTSP connection, cut anywhere.
    pub fn handle_tcp(&mut self, bytes: &[u8], now: Mono, stats: &mut Stats) {
        if self.unread.is_empty() {
            let taken = self.handle_items(bytes, now, stats);
            self.unread.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        } else {
            let mut held = std::mem::take(&mut self.unread);
            held.extend_from_slice(bytes);
            let taken = self.handle_items(&held, now, stats);
            held.drain(..taken.min(held.len()));
            self.unread = held;
        }
    }

    /// One RTP packet of `track`. Once the session leaves, packets are neither counted nor timed:
    /// what a server does to others while hundreds of clients leave at once is not playing.
    #[inline]
    pub fn handle_rtp(&mut self, track: usize, data: &[u8], arrival: Mono, stats: &mut Stats) {
        if self.is_leaving {
            return;
        }
        let Some(stream) = self.streams.get_mut(track) else { return };
        let taken = stream.handle_rtp(data, arrival, &mut stats.late(stream.kind()));
        if taken == Taken::No {
            return;
        }
        let kind = stream.kind();
        stream.burst.handle_packet(arrival, &mut stats.bursts);
        if self.plan.drop > 0.0 && self.rng.random_bool(self.plan.drop) {
            stream.handle_dropped();
        }
        stats.packets += 1;
        stats.bytes += u64::try_from(data.len()).unwrap_or(0);
        self.last_packet = self.last_packet.max(Some(arrival));
        if self.is_awaiting && taken == Taken::Yes {
            self.handle_awaited(arrival, stats);
        }
        if arrival >= self.timed_from
            && let Some(sent) = stamp::sent_at(data)
        {
            stats.kind_mut(kind).added.record(arrival.since(sent));
        }
    }

    /// One RTCP packet of `track`.
    pub fn handle_rtcp(&mut self, track: usize, data: &[u8], now: Mono) {
        let Some(stream) = self.streams.get_mut(track) else { return };
        stream.handle_rtcp(data, now);
        if let Some(timer) = self.reports.get_mut(track) {
            timer.interval.handle_packet(data.len());
        }
        if self.plan.tcp {
            // One connection keeps the order: nothing from before the BYE is still to come.
            stream.handle_tail_read(now);
        }
        if self.bye_at.is_none() && self.streams.iter().all(Stream::has_ended) {
            self.bye_at = Some(now);
        }
    }

    /// True when BYE came [`LINGER`] ago and packets that came before may wait in the sockets:
    /// read those to their end, then call [`Session::handle_tail_read`] with the same `now`.
    #[must_use]
    pub fn has_unread_tail(&self, now: Mono) -> bool {
        let deadline = now.before(LINGER);
        self.streams.iter().any(|stream| stream.has_unread_tail(deadline))
    }

    /// All RTP that waited at `now` or before has been handed over.
    pub fn handle_tail_read(&mut self, now: Mono) {
        let deadline = now.before(LINGER);
        self.streams.iter_mut().for_each(|stream| stream.handle_tail_read(deadline));
    }

    /// Time has passed.
    pub fn handle_time(&mut self, now: Mono, stats: &mut Stats) {
        self.act(now);
        self.begin_to_stall(now, stats);
        if self.client.is_settled() {
            self.judge(now, stats);
        }
        self.client.handle_time(now, &mut self.events);
        self.apply(now, stats);
    }

    /// The connection is gone.
    pub fn handle_closed(&mut self, failure: Failure, now: Mono, stats: &mut Stats) {
        self.client.handle_closed(failure, &mut self.events);
        self.apply(now, stats);
    }

    /// Something on our side makes the session impossible.
    pub fn fail(&mut self, failure: Failure, now: Mono, stats: &mut Stats) {
        self.client.fail(failure, &mut self.events);
        self.apply(now, stats);
    }

    /// The next receiver report that is due: its track and bytes. Interleaved ones go out by
    /// themselves. Call until `None`.
    pub fn poll_report(&mut self, now: Mono, stats: &mut Stats) -> Option<(usize, Vec<u8>)> {
        while self.report_due.is_some_and(|due| due <= now) && !self.is_leaving {
            let Some(track) = self.reports.iter().position(|timer| timer.due <= now) else {
                self.report_due = self.reports.iter().map(|timer| timer.due).min();
                return None;
            };
            let stream = self.streams.get_mut(track)?;
            let figures = stream.report(now, self.plan.claims);
            let report = rtcp::receiver_report(self.receiver_ssrc, figures);
            let played = self.playing_since.map_or(Duration::ZERO, |since| now.since(since));
            if let Some(timer) = self.reports.get_mut(track) {
                timer.interval.handle_packet(report.len());
                timer.interval.handle_reported();
                let rate = bytes_per_s(stream.bytes(), played);
                // From when it was due: being late must not add up.
                timer.due =
                    timer.due.after(timer.interval.next(rate, self.rng.random_range(0.0..1.0)));
            }
            stats.reports_sent += 1;
            if !self.plan.tcp {
                return Some((track, report));
            }
            if let Some(&(_, channel)) = self.channels.get(track) {
                wire::push_interleaved(self.client.out(), channel, &report);
            }
        }
        None
    }

    /// Bytes of `bytes` taken.
    fn handle_items(&mut self, bytes: &[u8], now: Mono, stats: &mut Stats) -> usize {
        let mut taken = 0;
        while !self.is_over {
            match wire::next_item(bytes.get(taken..).unwrap_or_default()) {
                Ok(Some((item, item_bytes))) => {
                    taken += item_bytes;
                    match item {
                        Item::Message(message) => {
                            self.client.handle_message(&message, now, &mut self.events);
                            self.apply(now, stats);
                        }
                        Item::Interleaved { channel, payload } => {
                            self.handle_interleaved(channel, payload, now, stats);
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.fail(error.into(), now, stats);
                }
            }
        }
        taken
    }

    fn handle_interleaved(&mut self, channel: u8, payload: &[u8], now: Mono, stats: &mut Stats) {
        let place = self.channels.iter().position(|&(rtp, rtcp)| channel == rtp || channel == rtcp);
        let Some(track) = place else {
            stats.unknown_datagrams += 1;
            return;
        };
        if self.channels.get(track).is_some_and(|&(rtp, _)| rtp == channel) {
            self.handle_rtp(track, payload, now, stats);
        } else {
            self.handle_rtcp(track, payload, now);
        }
    }
}

#[path = "session_acts.rs"]
mod acts;

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
