//! What a session decides: what to ask next, when to report, stall and leave, and how it went.
//!
//! ```text
//! begun --PLAY answered--> playing <--script: PAUSE, PLAY--> paused
//!   playing --stop asked, BYE on all streams, silence, no packet--> leaving --TEARDOWN--> over
//!   playing --after so long--> stalled (reads nothing)  --stop asked--> leaving
//! ```
//! Invariant: a verdict is given once; what is asked to end badly (a stalled reader that the server
//! hangs up on) is not a failure.

use super::{
    FIRST_PACKET_WAIT, LENGTH_SLACK, LINGER, Position, ReportTimer, SETTLING, SILENCE_MAX, STALL,
    Session, TAIL_WAIT,
};
use crate::client::Event;
use crate::epoch::Announced;
use crate::failure::Failure;
use crate::interval::ReportInterval;
use crate::request::{Request, TransportAsk};
use crate::script::Wish;
use crate::stats::Stats;
use crate::stream::Stream;
use crate::time::Mono;
use rand::RngExt;
use rtsp_types::Url;
use std::time::Duration;

impl Session {
    /// The run is over: leave politely. A title that has just ended is seen to its end; it is
    /// enough to go on with [`Session::handle_time`].
    pub fn stop(&mut self, now: Mono, stats: &mut Stats) {
        if self.is_leaving {
            return;
        }
        if self.client.is_playing() && self.bye_at.is_some() && !self.is_stalled {
            return;
        }
        let is_expected = self.client.is_playing() && !self.is_stalled;
        let last_sign = self.last_packet.max(self.position.running_since);
        let is_silent = last_sign.is_some_and(|last| now.since(last) >= STALL);
        if self.playing_since.is_none() {
            if stats.is_interrupted {
                stats.cancelled += 1;
            } else {
                self.verdict = Some(Failure::NotPlaying);
            }
        } else if is_expected && self.first_packet.is_none() && !self.plan.is_blind {
            self.verdict = Some(Failure::NoPacket);
        } else if is_expected && is_silent && !self.plan.is_blind {
            self.verdict = Some(Failure::Stalled);
        }
        self.leave(now, stats);
        self.apply(now, stats);
    }

    /// The packet that a PLAY was to bring.
    pub(super) fn handle_awaited(&mut self, arrival: Mono, stats: &mut Stats) {
        self.is_awaiting = false;
        self.timed_from = arrival.after(SETTLING);
        if self.first_packet.is_none() {
            self.first_packet = Some(arrival);
            self.record_first_packet(stats);
        } else if let Some(sent) = self.play_sent {
            stats.again_packet.record(arrival.since(sent));
        }
    }

    /// Does what the script has for now.
    pub(super) fn act(&mut self, now: Mono) {
        if !self.client.is_settled() || self.bye_at.is_some() || self.is_stalled {
            return;
        }
        let (is_paused, length) = (self.client.is_paused(), self.client.length());
        let Some(actor) = &mut self.actor else { return };
        let Some(wish) = actor.poll(now, is_paused, length) else { return };
        self.wish = Some(wish);
        match wish {
            Wish::Pause => self.client.pause(now),
            Wish::Play(start) => {
                self.streams.iter_mut().for_each(Stream::handle_switch);
                self.client.play(start, now);
            }
        }
    }

    pub(super) fn begin_to_stall(&mut self, now: Mono, stats: &mut Stats) {
        let due = self.plan.stall_after.zip(self.playing_since);
        let is_due = due.is_some_and(|(wait, since)| now.since(since) >= wait);
        if is_due && !self.is_stalled && !self.is_leaving {
            self.is_stalled = true;
            stats.stalled += 1;
        }
    }

    /// Acts on what the client has told, until it tells no more.
    pub(super) fn apply(&mut self, now: Mono, stats: &mut Stats) {
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
                    let sent = now.before(wait);
                    if self.playing_since.is_none() {
                        self.play_sent = Some(sent);
                        self.record_first_packet(stats);
                    }
                    self.play_sent = Some(sent);
                }
            }
            Event::Described => self.plan_transports(now),
            Event::TrackReady(index) => self.handle_track_ready(index),
            Event::Playing if self.playing_since.is_none() => self.handle_first_play(now, stats),
            Event::Playing => self.handle_play_again(now, stats),
            Event::Paused => {
                stats.acts.pauses += 1;
                self.position.stop(now);
                for stream in &mut self.streams {
                    stream.handle_paused(&mut stats.late(stream.kind()));
                }
            }
            Event::Redirected(url) => self.handle_redirected(url, stats),
            Event::Ended => self.close(None, stats),
            Event::Failed(failure) => self.close(Some(failure), stats),
        }
    }

    fn handle_redirected(&mut self, url: Url, stats: &mut Stats) {
        if self.plan.is_redirected {
            self.close(Some(Failure::RedirectedAgain), stats);
        } else {
            stats.redirected += 1;
            self.redirect = Some(url);
            self.is_over = true;
        }
    }

    fn handle_first_play(&mut self, now: Mono, stats: &mut Stats) {
        stats.played += 1;
        stats.playing += 1;
        self.playing_since = Some(now);
        self.position.start(Duration::ZERO, now);
        for (stream, track) in self.streams.iter_mut().zip(self.client.tracks()) {
            let info = track.rtp_info.as_ref();
            let (seq, time) = (info.and_then(|i| i.seq), info.and_then(|i| i.rtptime));
            stream.handle_announced(None, seq, time);
            let interval = ReportInterval::default();
            let first = interval.next(0.0, self.rng.random_range(0.0..1.0));
            self.reports.push(ReportTimer { interval, due: now.after(first) });
        }
        self.report_due = self.reports.iter().map(|timer| timer.due).min();
    }

    fn handle_play_again(&mut self, now: Mono, stats: &mut Stats) {
        match self.wish.take() {
            Some(Wish::Play(Some(start))) => {
                stats.acts.seeks += 1;
                self.position.start(start, now);
            }
            Some(Wish::Play(None) | Wish::Pause) | None => {
                stats.acts.resumes += 1;
                self.position.start(self.position.at, now);
            }
        }
        let mut first: Option<Mono> = None;
        for (stream, track) in self.streams.iter_mut().zip(self.client.tracks()) {
            let info = track.rtp_info.as_ref();
            let (seq, time) = (info.and_then(|i| i.seq), info.and_then(|i| i.rtptime));
            let came = stream.handle_epoch(Announced { seq, time }, &mut stats.late(stream.kind()));
            first = [first, came].into_iter().flatten().min();
        }
        self.is_awaiting = true;
        if let Some(first) = first {
            self.handle_awaited(first, stats);
        }
    }

    fn plan_transports(&mut self, now: Mono) {
        let tracks = self.client.tracks();
        self.streams = tracks.iter().map(|track| Stream::new(&track.info)).collect();
        if self.client.length().is_none() {
            self.streams.iter_mut().for_each(Stream::handle_live);
        }
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
            stream.handle_announced(reply.ssrc, None, None);
        }
    }

    /// Ends a session that has nothing more to give.
    pub(super) fn judge(&mut self, now: Mono, stats: &mut Stats) {
        let Some(playing_since) = self.playing_since.filter(|_| !self.is_stalled) else { return };
        if let Some(bye_at) = self.bye_at {
            let waited = now.since(bye_at);
            if waited >= LINGER && (!self.has_unread_tail(now) || waited >= TAIL_WAIT) {
                self.ended_by_server = true;
                self.leave(now, stats);
            }
            return;
        }
        let Some(last) = self.last_packet.max(self.position.running_since) else { return };
        if self.first_packet.is_none() {
            if self.plan.is_blind {
                return;
            }
            if now.since(playing_since) >= FIRST_PACKET_WAIT && !self.client.is_paused() {
                self.verdict = Some(Failure::NoPacket);
                self.leave(now, stats);
            }
            return;
        }
        let is_silent = now.since(last) >= SILENCE_MAX && !self.client.is_paused();
        if self.plan.to_end && is_silent {
            let reached = self.position.now(now).saturating_sub(SILENCE_MAX) + LENGTH_SLACK;
            if self.client.length().is_some_and(|length| reached >= length) {
                self.ended_by_server = true;
            } else {
                self.verdict = Some(Failure::Stalled);
            }
            self.leave(now, stats);
        }
    }

    fn leave(&mut self, now: Mono, stats: &mut Stats) {
        if self.is_leaving {
            return;
        }
        // A stream that should be going owes what is due; one that ended, pauses or is not read
        // does not.
        let owes = self.client.is_playing() && !self.is_stalled && !self.ended_by_server;
        self.is_leaving = true;
        for stream in &mut self.streams {
            let mut late = stats.late(stream.kind());
            stream.handle_left(now, owes.then_some(&mut late));
        }
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
            stream.burst.finish(&mut stats.bursts);
            let counts = stream.finish(has_played, &mut stats.late(stream.kind()));
            stats.kind_mut(stream.kind()).counts.add(&counts);
            stats.part_mut(self.plan.part).counts.add(&counts);
        }
        stats.acts.skipped += self.actor.as_ref().map_or(0, |actor| actor.skipped());
        let mut failure = failure.or_else(|| self.verdict.take());
        let is_hang_up = matches!(failure, Some(Failure::Closed | Failure::Connection(_)));
        if self.is_stalled && is_hang_up {
            stats.stalled_closed += 1;
            failure = None;
        }
        match failure {
            Some(failure) => stats.record_failure(&failure),
            None => {
                let is_cancelled = stats.is_interrupted && !has_played;
                stats.completed += u64::from(!is_cancelled);
                stats.ended_by_server += u64::from(self.ended_by_server);
            }
        }
    }
}

impl Position {
    const fn start(&mut self, at: Duration, now: Mono) {
        *self = Self { at, running_since: Some(now) };
    }

    fn stop(&mut self, now: Mono) {
        *self = Self { at: self.now(now), running_since: None };
    }

    fn now(&self, now: Mono) -> Duration {
        self.at + self.running_since.map_or(Duration::ZERO, |since| now.since(since))
    }
}
