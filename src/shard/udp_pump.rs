//! Sends what is due over the shared UDP sockets.
//!
//! ```text
//!  wheel --> stream --> due frames --> runs of equal packets --> ring
//!                         ^                                      |
//!                         +------------- rewind <----- no room --+
//! ```
//! A due frame is cut into runs of equal-size packets with at most one shorter tail; the runs that
//! a stream sends in a turn are linked, so that when the socket has no room for one, none behind
//! it overtakes it. More than `BURST_PACKETS_MAX` packets are spread over the turns that follow
//! (DESIGN section 6.3). Packets are counted on the stream as they are handed over, so that a run
//! the kernel takes, which nearly all are, needs no second look at it.

use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;

use super::live_pump::is_live_run;
use super::resend::is_resent;
use super::ring::{FileSlot, RangeOutside, Ring, SendFailure};
use super::sockets::{set_fragmentation, to_socket_address};
use super::turn::Shard;
use crate::base::ids::RtpTs;
use crate::base::time::Mono;
use crate::library::title::Title;
use crate::media::window::Frame;
use crate::metrics::cells::{ShardCells, TransportKind};
use crate::rtp;
use crate::session::desk::Waiter;
use crate::session::epoch::Epoch;
use crate::session::session::Session;
use crate::session::stream::{Due, Path, Phase, RunMark, Stream};
use crate::session::table::TimerKey;

/// How far a stream got in a turn.
enum Pumped {
    /// All that was due is with the ring; this comes next.
    Until(Due),
    /// The rest goes in the next turn.
    Part,
    /// The title's bytes are not where its index says.
    Broken,
    /// There is no such stream any more.
    Gone,
}

/// The way of a stream's packets to the ring.
struct Outlet<'a> {
    ring: &'a mut Ring,
    runs: &'a mut Slab<RunMark>,
    title: &'a Arc<Title>,
    at: Waiter,
    socket: FileSlot,
    to: SocketAddr,
}

impl Shard {
    /// A stream's key of the wheel has come up. Something before it in this turn may have ended
    /// what it was for.
    pub(super) fn pump(&mut self, key: TimerKey) {
        if !self.sessions.vod.is_stream_due(&key) {
            return;
        }
        let TimerKey::Stream { session, stream_index, epoch_count, .. } = key else { return };
        let at = Waiter { session, stream_index, epoch_count };
        let Some(session) = self.sessions.vod.session_mut(session) else { return };
        let connection = session.connection;
        let Some(stream) = session.streams.get_mut(usize::from(stream_index)) else { return };
        match stream.path {
            Path::Udp { .. } => self.pump_udp(at),
            Path::Tcp { .. } => {
                stream.phase = Phase::WaitsForConnection;
                if let Some(entry) = connection {
                    self.mark_dirty(entry);
                }
            }
            Path::Group { .. } => {}
        }
    }

    fn pump_udp(&mut self, at: Waiter) {
        let now = self.sessions.cx.now;
        match self.send_due(at) {
            Pumped::Until(due) => {
                self.request_ahead(at);
                self.plan(at, due);
            }
            Pumped::Part => self.plan(at, Due::At(later(now, BURST_NS))),
            Pumped::Broken => {
                self.cells.sessions_failed.add(1);
                self.sessions.vod.fail(&mut self.sessions.cx, at.session, Some("media failed"));
            }
            Pumped::Gone => {}
        }
    }

    /// Hands the frames of a stream that are due to the ring, as many as a turn may.
    fn send_due(&mut self, at: Waiter) -> Pumped {
        let Self { sessions, ring, runs, pairs, cells, .. } = self;
        let now = sessions.cx.now;
        let Some(session) = sessions.vod.session_mut(at.session) else { return Pumped::Gone };
        let Session { title, epoch: Some(epoch), end, streams, play_received, .. } = session else {
            return Pumped::Gone;
        };
        let Some(stream) = streams.get_mut(usize::from(at.stream_index)) else {
            return Pumped::Gone;
        };
        let Path::Udp { pair, rtp, .. } = stream.path else { return Pumped::Gone };
        let Some(Some(pair)) = pairs.get(usize::from(pair)) else { return Pumped::Part };
        let to = to_socket_address(rtp, pair.family);
        let mut out = Outlet { ring, runs, title, at, socket: pair.rtp, to };
        let (mut sent, mut sent_max) = (0, BURST_PACKETS_MAX);
        // Bounded by `sent_max`: every frame has a packet at least.
        let pumped = loop {
            let (frame, due_at) = match stream.due(epoch, *end, now) {
                Due::Now { frame, at } => (frame, at),
                due => break Pumped::Until(due),
            };
            let is_start = stream.is_at_frame_start();
            sent_max = sent_max.max(burst_max(stream, epoch, &frame));
            match out.send_frame(stream, epoch, &frame, sent_max - sent) {
                Ok((packets, is_whole)) => {
                    sent += packets;
                    if is_start && packets > 0 {
                        observe_lateness(cells, now, due_at, play_received.take());
                    }
                    if !is_whole {
                        break Pumped::Part;
                    }
                }
                Err(error) => {
                    tracing::error!(title = title.name, %error, "packet cannot be sent");
                    break Pumped::Broken;
                }
            }
        };
        if sent > 0 {
            cells.send_burst.observe_packets(sent as u64);
        }
        pumped
    }

    /// Plans a stream's next step from what it has to send.
    pub(super) fn plan(&mut self, at: Waiter, next: Due) {
        let now = self.sessions.cx.now;
        match next {
            // The next frame is due already: in the next turn, behind the runs of this one.
            Due::Now { .. } => self.sessions.vod.schedule(&mut self.sessions.cx, at, later(now, 1)),
            Due::At(time) => self.sessions.vod.schedule(&mut self.sessions.cx, at, time),
            Due::Waiting => {
                self.cells.window_waits.add(1);
                if let Some(stream) = self.stream_mut(at) {
                    stream.phase = Phase::WaitsForWindow;
                }
                self.sessions.vod.request_windows(
                    &mut self.sessions.cx,
                    at.session,
                    at.stream_index,
                );
                // It may have been at hand.
                if let Some(due) = self.next_due(at)
                    && !matches!(due, Due::Waiting)
                {
                    self.sessions.vod.schedule(&mut self.sessions.cx, at, later(now, 1));
                }
            }
            Due::End => self.finish(at),
        }
    }

    /// What a stream has to send; also asks for the window ahead.
    pub(super) fn next_due(&mut self, at: Waiter) -> Option<Due> {
        let now = self.sessions.cx.now;
        let session = self.sessions.vod.session_mut(at.session)?;
        let (epoch, end) = (session.epoch?, session.end);
        let stream = session.streams.get_mut(usize::from(at.stream_index))?;
        let due = stream.due(&epoch, end, now);
        self.request_ahead(at);
        Some(due)
    }

    fn request_ahead(&mut self, at: Waiter) {
        let stream = self.sessions.vod.session(at.session).and_then(|session| {
            let stream = session.streams.get(usize::from(at.stream_index))?;
            stream.cursor.as_ref()?.unasked()
        });
        if stream.is_some() {
            self.sessions.vod.request_windows(&mut self.sessions.cx, at.session, at.stream_index);
        }
    }

    /// All is sent: BYE follows when the last frame has had its time on the screen.
    fn finish(&mut self, at: Waiter) {
        let now = self.sessions.cx.now;
        let Some(session) = self.sessions.vod.session_mut(at.session) else { return };
        let Some(epoch) = session.epoch else { return };
        let Some(stream) = session.streams.get(usize::from(at.stream_index)) else { return };
        let end = match (session.end, session.track(stream)) {
            (Some(end), _) => end,
            (None, Some(track)) if epoch.scale > 0.0 => track.end,
            (None, _) => epoch.npt_at(now),
        };
        let bye_due = epoch.wall_of_npt(end).max(now) + BYE_DELAY;
        self.sessions.vod.wait_for_bye(&mut self.sessions.cx, at, bye_due);
    }

    /// The kernel has taken a run, or not.
    pub(super) fn handle_run_sent(
        &mut self,
        token: u32,
        packets: u16,
        result: Result<(), SendFailure>,
    ) {
        if is_resent(token) {
            self.handle_resent(token, result);
            return;
        }
        if is_live_run(token) {
            self.handle_live_run_sent(token, packets, result);
            return;
        }
        let Some(mark) = self.runs.try_remove(token as usize) else { return };
        let error = match result {
            Ok(()) => {
                let udp = TransportKind::Udp as usize;
                self.cells.send_calls[udp].add(1);
                self.cells.rtp_packets_sent[udp].add(u64::from(packets));
                self.cells.rtp_payload_bytes_sent[udp].add(u64::from(mark.payload_bytes));
                if packets > 1 {
                    self.cells.gso_segments.add(u64::from(packets));
                }
                return;
            }
            Err(error) => error,
        };
        let (session, stream_index) = (mark.session, mark.stream_index);
        let at = Waiter { session, stream_index, epoch_count: mark.epoch_count };
        match error {
            SendFailure::Again | SendFailure::Cancelled => self.send_again(at, &mark),
            SendFailure::TooLarge if self.allow_fragments(at) => self.send_again(at, &mark),
            SendFailure::Fault => {
                self.cells.send_errors.add(1);
                if let Some(stream) = self.stream_mut(at) {
                    stream.uncount(&mark);
                    tracing::warn!("a file was truncated while it was playing: its session ends");
                    self.cells.sessions_failed.add(1);
                    self.sessions.vod.fail(&mut self.sessions.cx, at.session, Some("media failed"));
                }
            }
            error => {
                // The packets are lost like any others on the way.
                self.cells.send_errors.add(1);
                if let Some(stream) = self.stream_mut(at) {
                    stream.uncount(&mark);
                }
                self.warn_once("RTP packets could not be sent", &error);
            }
        }
    }

    /// What the socket did not take is next again, a little later.
    fn send_again(&mut self, at: Waiter, mark: &RunMark) {
        self.cells.send_again.add(1);
        let due = later(self.sessions.cx.now, BURST_NS);
        if self.stream_mut(at).is_some_and(|stream| stream.rewind(mark)) {
            self.sessions.vod.schedule(&mut self.sessions.cx, at, due);
        }
    }

    /// A packet is larger than the client's route takes whole: from now on the pair's packets may
    /// be cut on the way. False when they might when it was sent.
    fn allow_fragments(&mut self, at: Waiter) -> bool {
        let Some(Path::Udp { pair, .. }) = self.stream_mut(at).map(|stream| stream.path) else {
            return false;
        };
        self.allow_fragments_on(pair)
    }

    /// The same, by the pair.
    pub(super) fn allow_fragments_on(&mut self, pair: u16) -> bool {
        let now = self.sessions.cx.now;
        let Some(Some(pair)) = self.pairs.get_mut(usize::from(pair)) else { return false };
        if let Some(since) = pair.fragments_since {
            return since == now;
        }
        pair.fragments_since = Some(now);
        let (socket, family) = (pair.rtp, pair.family);
        match set_fragmentation(self.ring.fd(socket), family, true) {
            Ok(()) => {
                tracing::info!(
                    shard = self.id.0,
                    "a client's route is too narrow for whole packets: they are fragmented"
                );
                true
            }
            Err(error) => {
                self.warn_once("packets cannot be fragmented", &error);
                false
            }
        }
    }

    /// A stream, if it still plays the epoch that is meant.
    pub(super) fn stream_mut(&mut self, at: Waiter) -> Option<&mut Stream> {
        let is_current = |session: &&mut Session| session.epoch_count == at.epoch_count;
        let session = self.sessions.vod.session_mut(at.session).filter(is_current)?;
        session.streams.get_mut(usize::from(at.stream_index))
    }
}

impl Outlet<'_> {
    /// Cuts what is left of a frame into runs, at most `packets_max` packets of it. How many there
    /// were, and whether the frame is finished: otherwise the rest goes in the next turn.
    fn send_frame(
        &mut self,
        stream: &mut Stream,
        epoch: &Epoch,
        frame: &Frame,
        packets_max: usize,
    ) -> Result<(usize, bool), RangeOutside> {
        let ts = stream.stamp(epoch, frame);
        let mut sent = 0;
        loop {
            let Some((window, first)) = stream.window() else { return Ok((sent, false)) };
            let packets = window.packets(frame).get(first..).unwrap_or_default();
            if packets.is_empty() {
                stream.finish_frame();
                return Ok((sent, true));
            }
            if sent == packets_max {
                return Ok((sent, false));
            }
            let entry = self.runs.vacant_entry();
            let token = u32::try_from(entry.key()).unwrap_or(u32::MAX);
            let Some(mut run) = self.ring.start_run(self.socket, self.to, token) else {
                return Ok((sent, false));
            };
            let (mut count, mut payload_bytes) = (0, 0);
            for packet in packets.iter().take(packets_max - sent) {
                let header = rtp_header(stream, count, packet.marker, ts);
                if !run.try_packet(&header, window, packet, self.title)? {
                    break;
                }
                count += 1;
                payload_bytes += u32::from(packet.payload_bytes);
            }
            if count == 0 {
                return Ok((sent, false));
            }
            let Some(mark) = stream.take_run(self.at, count, payload_bytes) else {
                return Ok((sent, false));
            };
            stream.remember(&mark, frame, ts);
            entry.insert(mark);
            // Whatever this stream sends next in this turn must not overtake it.
            run.submit(true);
            sent += usize::from(count);
        }
    }
}

/// The header of the packet that is `ahead` packets after a stream's next one.
pub(super) fn rtp_header(stream: &Stream, ahead: u16, marker: bool, ts: RtpTs) -> [u8; 12] {
    let mut header = [0; 12];
    let seq = stream.next_seq().plus(ahead);
    rtp::write_header(&mut header, marker, stream.payload_type, seq, ts, stream.ssrc);
    header
}

/// Packets of a frame that go out in one turn at most. A frame of more than `BURST_PACKETS_MAX` is
/// spread over the turns of half the time to the next one, so that it is through when that is due.
fn burst_max(stream: &Stream, epoch: &Epoch, frame: &Frame) -> usize {
    let packets = frame.packet_count as usize;
    if packets <= BURST_PACKETS_MAX {
        return packets;
    }
    let interval_ns = stream.frame_interval_ns(epoch, frame).unwrap_or(FRAME_INTERVAL_NS);
    let turns = usize::try_from(interval_ns / 2 / BURST_NS).unwrap_or(usize::MAX).max(1);
    packets.div_ceil(turns)
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

/// Packets of one stream in one turn, unless a frame is larger than its time allows (DESIGN section
/// 6.3): a default receive buffer holds about 92.
pub(super) const BURST_PACKETS_MAX: usize = 32;
/// From one burst of a stream to the next, and to another try when the socket was full.
pub(super) const BURST_NS: u64 = 2_000_000;
/// Where nothing tells how long a frame lasts.
const FRAME_INTERVAL_NS: u64 = 40_000_000;
/// BYE comes on another socket than the last packets and must not overtake them: a player that
/// polls RTCP first would drop what it has not read yet.
const BYE_DELAY: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Ssrc;
    use crate::base::time::Npt;
    use crate::media::window::{WindowBuilder, WindowKind};
    use crate::session::cursor::Cursor;

    /// A stream at the first of two frames, 40 ms apart, and that frame.
    fn stream_at_frame_of(packets: usize) -> (Stream, Epoch, Frame) {
        let mut builder = WindowBuilder::new();
        for sample_index in 0..2 {
            (0..packets).for_each(|_| {
                builder.push_inline(&[1]);
                builder.end_packet(false);
            });
            let due = Npt(i64::from(sample_index) * 40_000_000);
            let (packet_index, packet_count) = (0, 0);
            let (is_sync, is_disposable) = (true, false);
            let rtp_ticks = i64::from(sample_index) * 3_600;
            let npt = due;
            builder.end_frame(Frame {
                due,
                npt,
                rtp_ticks,
                sample_index,
                packet_index,
                packet_count,
                is_sync,
                is_disposable,
            });
        }
        let window = Arc::new(builder.finish());
        let frame = window.frames()[0];
        let mut cursor = Cursor::new(WindowKind::All, false, 1, 0, 0);
        cursor.handle_window(0, window);
        let client = SocketAddr::from(([192, 0, 2, 1], 5_000));
        let path = Path::Udp { pair: 0, rtp: client, rtcp: client };
        let mut stream = Stream::new(0, (96, 90_000), path, String::new(), Ssrc(1), 1);
        stream.seek(cursor, None);
        let (npt, due_zero, wall) = (Npt::ZERO, Npt::ZERO, Mono(1));
        let epoch = Epoch { wall, npt, due_zero, scale: 1.0, speed: 1.0, playout_ns: 0 };
        (stream, epoch, frame)
    }

    #[test]
    fn frame_is_sent_within_half_of_its_time_however_large_it_is() {
        for (packets, in_a_turn) in [(1, 1), (32, 32), (33, 4), (320, 32), (4_000, 400)] {
            let (stream, epoch, frame) = stream_at_frame_of(packets);
            let most = burst_max(&stream, &epoch, &frame);
            assert_eq!(most, in_a_turn, "{packets} packets");
            // What `send_due` makes of it: never less than the usual burst.
            let turns = packets.div_ceil(most.max(BURST_PACKETS_MAX));
            assert!(turns as u64 * BURST_NS <= 20_000_000, "{packets} packets");
        }
    }

    #[test]
    fn frame_of_a_faster_epoch_has_less_time() {
        let (stream, epoch, frame) = stream_at_frame_of(400);
        let fast = Epoch { scale: 2.0, speed: 5.0, ..epoch };
        assert_eq!(burst_max(&stream, &fast, &frame), 400, "one turn of the 2 ms that it has");
    }
}
