//! One session: the RTSP client and its streams, without sockets.
//!
//! ```text
//! TCP bytes --> wire --> RtspClient --events--+
//!                 +----> Stream (interleaved) |--> stop, teardown, verdict, figures
//! datagrams -----------> Stream (UDP) --------+
//! ```
//! Decides when a session is over: asked to stop, BYE on all streams, silence.
//! Invariant: the figures of a session are folded into [`Stats`] exactly once, when it closes.
//! Bound: at most one unfinished RTSP message (256 KiB) is held.

use crate::client::{Event, RtspClient};
use crate::failure::Failure;
use crate::request::{Request, TransportAsk};
use crate::rtcp;
use crate::stats::Stats;
use crate::stream::Stream;
use crate::time::Mono;
use crate::wire::{self, Item};
use rtsp_types::Url;
use std::time::Duration;

/// Interval of receiver reports (the minimum of RFC 3550 s6.2).
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);
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
/// Tolerance between the announced length and the silence at the end.
const LENGTH_SLACK: Duration = Duration::from_secs(1);

/// How a session shall behave.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Interleaved transport.
    pub tcp: bool,
    /// Play until the title ends.
    pub to_end: bool,
    /// SSRC of our receiver reports.
    pub receiver_ssrc: u32,
    /// When, after PLAY, the first receiver report is due.
    pub report_phase: Duration,
}

/// One client session with its streams.
#[derive(Debug)]
pub struct Session {
    client: RtspClient,
    plan: Plan,
    streams: Vec<Stream>,
    channels: Vec<(u8, u8)>,
    unread: Vec<u8>,
    events: Vec<Event>,
    wants_ports: bool,
    play_sent: Option<Mono>,
    playing_since: Option<Mono>,
    first_packet: Option<Mono>,
    last_packet: Option<Mono>,
    bye_at: Option<Mono>,
    report_due: Option<Mono>,
    report_next: usize,
    verdict: Option<Failure>,
    ended_by_server: bool,
    is_leaving: bool,
    is_over: bool,
}

impl Session {
    /// A session for `url` that has not begun.
    #[must_use]
    pub fn new(url: Url, plan: Plan) -> Self {
        Self {
            client: RtspClient::new(url),
            plan,
            streams: Vec::new(),
            channels: Vec::new(),
            unread: Vec::new(),
            events: Vec::new(),
            wants_ports: false,
            play_sent: None,
            playing_since: None,
            first_packet: None,
            last_packet: None,
            bye_at: None,
            report_due: None,
            report_next: 0,
            verdict: None,
            ended_by_server: false,
            is_leaving: false,
            is_over: false,
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
        stats.connected += 1;
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
    pub fn handle_rtp(&mut self, track: usize, data: &[u8], arrival: Mono, stats: &mut Stats) {
        if self.is_leaving {
            return;
        }
        let Some(stream) = self.streams.get_mut(track) else { return };
        let late = &mut stats.kind_mut(stream.kind()).lateness;
        if !stream.handle_rtp(data, arrival, late) {
            return;
        }
        stats.packets += 1;
        stats.bytes += u64::try_from(data.len()).unwrap_or(0);
        self.last_packet = self.last_packet.max(Some(arrival));
        if self.first_packet.is_none() {
            self.first_packet = Some(arrival);
            self.record_first_packet(stats);
        }
    }

    /// One RTCP packet of `track`.
    pub fn handle_rtcp(&mut self, track: usize, data: &[u8], now: Mono) {
        let Some(stream) = self.streams.get_mut(track) else { return };
        stream.handle_rtcp(data, now);
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
        if self.client.is_playing() {
            self.judge(now);
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

    /// The run is over: leave politely. A title that has just ended is seen to its end; it is
    /// enough to go on with [`Session::handle_time`].
    pub fn stop(&mut self, now: Mono, stats: &mut Stats) {
        if self.client.is_playing() && self.bye_at.is_some() {
            return;
        }
        let is_silent = self.last_packet.is_some_and(|last| now.since(last) >= STALL);
        if self.playing_since.is_none() {
            self.verdict = Some(Failure::NotPlaying);
        } else if self.client.is_playing() && is_silent {
            self.verdict = Some(Failure::Stalled);
        } else if self.client.is_playing() && self.last_packet.is_none() {
            self.verdict = Some(Failure::NoPacket);
        }
        self.leave(now);
        self.apply(now, stats);
    }

    /// The next receiver report that is due: its track and bytes. Interleaved ones go out by
    /// themselves. Call until `None`.
    pub fn poll_report(&mut self, now: Mono, stats: &mut Stats) -> Option<(usize, Vec<u8>)> {
        if !self.client.is_playing() || self.report_due.is_none_or(|due| now < due) {
            return None;
        }
        while let Some(stream) = self.streams.get_mut(self.report_next) {
            let track = self.report_next;
            self.report_next += 1;
            let report = rtcp::receiver_report(self.plan.receiver_ssrc, stream.report(now));
            stats.reports_sent += 1;
            if !self.plan.tcp {
                return Some((track, report));
            }
            if let Some(&(_, channel)) = self.channels.get(track) {
                wire::push_interleaved(self.client.out(), channel, &report);
            }
        }
        self.report_next = 0;
        self.report_due = Some(now.after(REPORT_INTERVAL));
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

    /// Acts on what the client has told, until it tells no more.
    fn apply(&mut self, now: Mono, stats: &mut Stats) {
        while !self.events.is_empty() {
            for event in std::mem::take(&mut self.events) {
                self.apply_one(event, now, stats);
            }
        }
    }

    fn apply_one(&mut self, event: Event, now: Mono, stats: &mut Stats) {
        match event {
            Event::Answered(request, wait) => {
                stats.record_answer(request, wait);
                if request == Request::Play {
                    let sent = now.as_ns().saturating_sub(Mono::default().after(wait).as_ns());
                    self.play_sent = Some(Mono::from_ns(sent));
                    self.record_first_packet(stats);
                }
            }
            Event::Described => self.plan_transports(now),
            Event::TrackReady(index) => self.handle_track_ready(index),
            Event::Playing => {
                stats.played += 1;
                stats.playing += 1;
                self.playing_since = Some(now);
                self.report_due = Some(now.after(self.plan.report_phase));
                for (stream, track) in self.streams.iter_mut().zip(self.client.tracks()) {
                    stream.handle_announced(None, track.rtp_info.as_ref().and_then(|i| i.seq));
                }
            }
            Event::Ended => self.close(None, stats),
            Event::Failed(failure) => self.close(Some(failure), stats),
        }
    }

    fn plan_transports(&mut self, now: Mono) {
        let tracks = self.client.tracks();
        self.streams = tracks.iter().map(|track| Stream::new(&track.info)).collect();
        if self.plan.tcp {
            self.channels = (0..tracks.len())
                .filter_map(|index| u8::try_from(index * 2).ok())
                .map(|channel| (channel, channel.saturating_add(1)))
                .collect();
            let asks = self.channels.iter().map(|&(channel, _)| TransportAsk::Tcp { channel });
            self.client.handle_transports(asks.collect(), now);
        } else {
            self.wants_ports = true;
        }
    }

    /// The server may have chosen other channels than asked for (client rule C18).
    fn handle_track_ready(&mut self, index: usize) {
        let track = self.client.tracks().get(index);
        let Some(reply) = track.and_then(|track| track.transport.as_ref()) else { return };
        if let (Some(channels), Some(place)) = (reply.channels, self.channels.get_mut(index)) {
            *place = channels;
        }
        if let Some(stream) = self.streams.get_mut(index) {
            stream.handle_announced(reply.ssrc, None);
        }
    }

    /// Ends a playing session that has nothing more to give.
    fn judge(&mut self, now: Mono) {
        let Some(playing_since) = self.playing_since else { return };
        let played = now.since(playing_since);
        if let Some(bye_at) = self.bye_at {
            let waited = now.since(bye_at);
            if waited >= LINGER && (!self.has_unread_tail(now) || waited >= TAIL_WAIT) {
                self.ended_by_server = true;
                self.leave(now);
            }
            return;
        }
        let Some(last) = self.last_packet else {
            if played >= FIRST_PACKET_WAIT {
                self.verdict = Some(Failure::NoPacket);
                self.leave(now);
            }
            return;
        };
        if self.plan.to_end && now.since(last) >= SILENCE_MAX {
            let reached = played.saturating_sub(SILENCE_MAX) + LENGTH_SLACK;
            if self.client.length().is_some_and(|length| reached >= length) {
                self.ended_by_server = true;
            } else {
                self.verdict = Some(Failure::Stalled);
            }
            self.leave(now);
        }
    }

    fn leave(&mut self, now: Mono) {
        self.is_leaving = true;
        self.streams.iter_mut().for_each(Stream::handle_left);
        self.client.teardown(now, &mut self.events);
    }

    fn record_first_packet(&self, stats: &mut Stats) {
        if let (Some(sent), Some(first)) = (self.play_sent, self.first_packet) {
            stats.first_packet.record(first.since(sent));
        }
    }

    fn close(&mut self, failure: Option<Failure>, stats: &mut Stats) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        let has_played = self.playing_since.is_some();
        if has_played {
            stats.playing = stats.playing.saturating_sub(1);
        }
        for stream in &mut self.streams {
            let kind = stats.kind_mut(stream.kind());
            let counts = stream.finish(has_played, &mut kind.lateness);
            kind.counts.add(&counts);
        }
        match failure.or_else(|| self.verdict.take()) {
            Some(failure) => stats.record_failure(&failure),
            None => {
                stats.completed += 1;
                stats.ended_by_server += u64::from(self.ended_by_server);
            }
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
