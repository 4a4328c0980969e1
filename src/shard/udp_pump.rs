//! Sends what is due over the shared UDP sockets.
//!
//! ```text
//!  wheel --> stream --> due frames --> runs of equal packets --> ring
//!                         ^                                      |
//!                         +------------- rewind <----- no room --+
//! ```
//! A due frame is cut into runs of equal-size packets with at most one shorter tail; the runs that
//! a stream sends in a turn are linked, so that when the socket has no room for one, none behind
//! it overtakes it. More than `BURST_PACKETS_MAX` packets are spread over the following turns
//! (DESIGN section 6.3).

use std::sync::Arc;

use super::ring::SendFailure;
use super::sockets::to_socket_address;
use super::turn::Shard;
use crate::base::ids::RtpTs;
use crate::base::time::Mono;
use crate::base::wheel::SLOT_NS;
use crate::media::window::Frame;
use crate::metrics::cells::{ShardCells, TransportKind};
use crate::rtp;
use crate::session::desk::Waiter;
use crate::session::session::{Session, State};
use crate::session::stream::{Due, Path, Phase, Stream};
use crate::session::table::{SessionKey, TimerKey};

/// How far the packets of a frame got.
enum Sent {
    /// All of them are with the ring.
    All,
    /// The rest goes in the next turn.
    Part,
    /// The title's bytes are not where its index says.
    Broken,
}

impl Shard {
    /// A key of the wheel for a stream has come up.
    pub(super) fn pump(
        &mut self,
        key: SessionKey,
        stream_index: u8,
        epoch_count: u32,
        timer_count: u32,
    ) {
        let Some(session) = self.sessions.session_mut(key) else { return };
        if session.epoch_count != epoch_count || !matches!(session.state, State::Playing) {
            return;
        }
        let connection = session.connection;
        let Some(stream) = session.streams.get_mut(usize::from(stream_index)) else { return };
        if stream.phase != Phase::Scheduled || stream.timer_count != timer_count {
            return;
        }
        match stream.path {
            Path::Udp { .. } => self.pump_udp(Waiter { session: key, stream_index, epoch_count }),
            Path::Tcp { .. } => {
                stream.phase = Phase::WaitsForConnection;
                if let Some(entry) = connection {
                    self.mark_dirty(entry);
                }
            }
        }
    }

    fn pump_udp(&mut self, at: Waiter) {
        let now = self.sessions.now;
        let mut budget = BURST_PACKETS_MAX;
        // Bounded by the budget: every frame has a packet at least.
        while let Some(due) = self.next_due(at) {
            let Due::Now { frame, at: due_at } = due else { return self.plan(at, due) };
            match self.send_frame(at, &frame, due_at, &mut budget) {
                Sent::All => {}
                Sent::Part => return self.plan(at, Due::At(later(now, SLOT_NS))),
                Sent::Broken => {
                    self.cells.sessions_failed.add(1);
                    return self.sessions.fail(at.session, Some("media failed"));
                }
            }
        }
    }

    /// Plans a stream's next step from what it has to send.
    pub(super) fn plan(&mut self, at: Waiter, next: Due) {
        let now = self.sessions.now;
        match next {
            // The next frame is due already: in the next turn, behind the runs of this one.
            Due::Now { .. } => self.sessions.schedule(at, later(now, 1)),
            Due::At(time) => self.sessions.schedule(at, time),
            Due::Waiting => {
                self.cells.window_waits.add(1);
                if let Some(stream) = self.stream_mut(at) {
                    stream.phase = Phase::WaitsForWindow;
                }
                self.sessions.request_windows(at.session, at.stream_index);
                // It may have been at hand.
                if let Some(due) = self.next_due(at)
                    && !matches!(due, Due::Waiting)
                {
                    self.sessions.schedule(at, later(now, 1));
                }
            }
            Due::End => self.finish(at),
        }
    }

    /// What a stream has to send; also asks for the window ahead.
    pub(super) fn next_due(&mut self, at: Waiter) -> Option<Due> {
        let now = self.sessions.now;
        let session = self.sessions.session_mut(at.session)?;
        let (epoch, end) = (session.epoch?, session.end);
        let stream = session.streams.get_mut(usize::from(at.stream_index))?;
        let due = stream.due(&epoch, end, now);
        if stream.cursor.as_ref().is_some_and(|cursor| cursor.wanted().is_some()) {
            self.sessions.request_windows(at.session, at.stream_index);
        }
        Some(due)
    }

    /// All is sent: BYE follows when the last frame has had its time on the screen.
    fn finish(&mut self, at: Waiter) {
        let now = self.sessions.now;
        let Some(session) = self.sessions.session_mut(at.session) else { return };
        let Some(epoch) = session.epoch else { return };
        let Some(stream) = session.streams.get(usize::from(at.stream_index)) else { return };
        let end = match (session.end, session.track(stream)) {
            (Some(end), _) => end,
            (None, Some(track)) if epoch.scale > 0.0 => track.end,
            (None, _) => epoch.npt_at(now),
        };
        let bye_due = epoch.wall_of_npt(end).max(now) + BYE_DELAY;
        if let Some(stream) = self.stream_mut(at) {
            stream.phase = Phase::Finishing;
        }
        let Waiter { session, stream_index, epoch_count } = at;
        let key = TimerKey::Bye { session, stream_index, epoch_count };
        self.sessions.wheel.insert(bye_due, key);
    }

    fn send_frame(&mut self, at: Waiter, frame: &Frame, due_at: Mono, budget: &mut usize) -> Sent {
        let now = self.sessions.now;
        let Some(session) = self.sessions.session_mut(at.session) else { return Sent::Part };
        let title = Arc::clone(&session.title);
        let Some(epoch) = session.epoch else { return Sent::Part };
        let play_received = session.play_received.take();
        let Some(stream) = session.streams.get_mut(usize::from(at.stream_index)) else {
            return Sent::Part;
        };
        let Path::Udp { pair, rtp: to, .. } = stream.path else { return Sent::Part };
        let Some(Some(pair)) = self.pairs.get(usize::from(pair)) else { return Sent::Part };
        let to = to_socket_address(to, pair.family);
        let (Some(window), Some(cursor)) = (stream.window(), &stream.cursor) else {
            return Sent::Part;
        };
        let packets = window.packets(frame);
        let first = cursor.packet_index() as usize;
        if first == 0 {
            observe_lateness(&self.cells, now, due_at, play_received);
        }
        let ts = stream.stamp(&epoch, frame);
        let last = packets.len().min(first + *budget);
        let mut next = first;
        while next < last {
            let Some(mut mark) = stream.mark(at.session, at.stream_index, at.epoch_count) else {
                return Sent::Part;
            };
            let entry = self.runs.vacant_entry();
            let token = u32::try_from(entry.key()).unwrap_or(u32::MAX);
            let Some(mut run) = self.ring.start_run(pair.rtp, to, token) else {
                return Sent::Part;
            };
            let run_first = next;
            while let Some(packet) = packets.get(next).filter(|_| next < last) {
                let header = rtp_header(stream, packet.marker, ts);
                match run.try_packet(&header, &window, packet, &title) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::error!(title = title.name, %error, "packet cannot be sent");
                        return Sent::Broken;
                    }
                }
                mark.payload_bytes += u32::from(packet.payload_bytes);
                stream.take_packet();
                next += 1;
            }
            if next == run_first {
                // A packet that does not fit an empty run fits none.
                return Sent::Broken;
            }
            // Whatever this stream sends next in this turn must not overtake it.
            run.submit(true);
            entry.insert(mark);
            *budget -= next - run_first;
        }
        if next < packets.len() {
            return Sent::Part;
        }
        if let Some(cursor) = &mut stream.cursor {
            cursor.advance_frame();
        }
        Sent::All
    }

    /// The kernel has taken a run, or not.
    pub(super) fn handle_run_sent(
        &mut self,
        token: u32,
        packets: u16,
        result: Result<(), SendFailure>,
    ) {
        let Some(mark) = self.runs.try_remove(token as usize) else { return };
        let at = Waiter {
            session: mark.session,
            stream_index: mark.stream_index,
            epoch_count: mark.epoch_count,
        };
        let udp = TransportKind::Udp as usize;
        match result {
            Ok(()) => {
                self.cells.send_calls[udp].add(1);
                self.cells.rtp_packets_sent[udp].add(u64::from(packets));
                self.cells.rtp_payload_bytes_sent[udp].add(u64::from(mark.payload_bytes));
                if packets > 1 {
                    self.cells.gso_segments.add(u64::from(packets));
                }
                if let Some(stream) = self.stream_mut(at) {
                    stream.count_sent(u64::from(packets), u64::from(mark.payload_bytes));
                }
            }
            Err(SendFailure::Again | SendFailure::Cancelled) => {
                self.cells.send_again.add(1);
                let due = later(self.sessions.now, SLOT_NS);
                if self.stream_mut(at).is_some_and(|stream| stream.rewind(mark)) {
                    self.sessions.schedule(at, due);
                }
            }
            Err(SendFailure::Fault) => {
                self.cells.send_errors.add(1);
                if self.stream_mut(at).is_some() {
                    tracing::warn!("a file was truncated while it was playing: its session ends");
                    self.cells.sessions_failed.add(1);
                    self.sessions.fail(at.session, Some("media failed"));
                }
            }
            Err(error) => {
                // The packets are lost like any others on the way.
                self.cells.send_errors.add(1);
                self.warn_once("RTP packets could not be sent", &error);
            }
        }
    }

    /// A stream, if it still plays the epoch that is meant.
    pub(super) fn stream_mut(&mut self, at: Waiter) -> Option<&mut Stream> {
        let is_current = |session: &&mut Session| session.epoch_count == at.epoch_count;
        let session = self.sessions.session_mut(at.session).filter(is_current)?;
        session.streams.get_mut(usize::from(at.stream_index))
    }
}

/// The header of a stream's next packet.
pub(super) fn rtp_header(stream: &Stream, marker: bool, ts: RtpTs) -> [u8; 12] {
    let mut header = [0; 12];
    let seq = stream.next_seq();
    rtp::write_header(&mut header, marker, stream.payload_type, seq, ts, stream.ssrc);
    header
}

/// Counts how late a frame is, and how long a PLAY waited for its first one.
pub(super) fn observe_lateness(
    cells: &ShardCells,
    now: Mono,
    due_at: Mono,
    play_received: Option<Mono>,
) {
    let ns =
        |later: Mono, earlier| u64::try_from(later.since(earlier).as_nanos()).unwrap_or(u64::MAX);
    cells.send_lateness.observe_ns(ns(now, due_at));
    if let Some(received) = play_received {
        cells.first_packet_delay.observe_ns(ns(now, received));
    }
}

pub(super) fn later(now: Mono, ns: u64) -> Mono {
    now + std::time::Duration::from_nanos(ns)
}

/// Packets to one client in one turn (DESIGN section 6.3): a default receive buffer holds about 92.
const BURST_PACKETS_MAX: usize = 32;
/// BYE comes on another socket than the last packets and must not overtake them: a player that
/// polls RTCP first would drop what it has not read yet.
const BYE_DELAY: std::time::Duration = std::time::Duration::from_millis(100);
