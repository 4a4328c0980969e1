//! Sends due frames of titles to their players, and sets the time of the next step.
//!
//! ```text
//!  wheel --> stream --> due frames --UDP--> runs of equal packets --> sink
//!              |            ^                                           |
//!              |            +--------------- rewind <------ refused ----+
//!              `--TCP--> connection is ready --> whole frames, the longest due first --> sink
//! ```
//! A due frame is cut into runs of equal-size packets with at most one shorter tail. The runs that
//! a stream sends in a turn are linked: when the socket refuses one, it refuses those behind it. A
//! frame of more than `BURST_PACKETS_MAX` packets is spread over several turns (DESIGN section
//! 6.3). The stream counts packets when it hands them over. A run that is sent, as nearly all are,
//! needs no second look at its stream.
//!
//! Invariants: no packet is sent before its time. BYE is due `BYE_DELAY` after the last frame was
//! shown. Frames and packets allocate no memory.

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::RtpTs;
use crate::base::limits::{BURST_INTERVAL, BURST_PACKETS_MAX};
use crate::base::sink::{Gathered, RunSink};
use crate::base::time::{Mono, Npt};
use crate::library::title::Title;
use crate::media::image::{ImageRun, PacketImage};
use crate::media::window::{Frame, Packet, PacketWindow};
use crate::metrics::cells::ShardCells;
use crate::poll::poll_table::EntryKey;
use crate::rtp::HEADER_BYTES;
use crate::rtp::srtp::SrtpStream;
use crate::session::action::TimerKey;
use crate::session::cx::Cx;
use crate::session::directory::SessionKey;
use crate::session::directory::SessionRef;
use crate::session::directory::StreamRef;
use crate::session::transport::Transport;
use crate::vod::cursor::Cursor;
use crate::vod::epoch::Epoch;
use crate::vod::playback::{Session, State};
use crate::vod::service::Vod;
use crate::vod::stream::{Due, Phase, RunMark, Stream};

/// Why a packet can never be sent.
pub trait SendError: Display {
    /// The title's file has become shorter since it was opened.
    fn is_truncation(&self) -> bool;
}

/// Sockets that send runs of packets of titles.
pub trait TitleSink: RunSink {
    /// Why a packet can never be sent.
    type Error: SendError;
    /// A run that takes packets.
    type Run<'a>: TitleRun<Error = Self::Error>
    where
        Self: 'a;

    /// Starts a run. `None`: the sink takes no more runs in this turn.
    /// With `srtp` its packets are encrypted.
    fn start_title_run(
        &mut self,
        way: Self::Way,
        srtp: Option<&SrtpStream>,
    ) -> Option<Self::Run<'_>>;
}

/// A run of a title's packets. Dropped without `submit`, nothing is sent.
pub trait TitleRun {
    /// Why a packet can never be sent.
    type Error;

    /// Adds a packet: `header`, then the payload from the title's file or from the window. False:
    /// the run is full, and the caller submits it and starts another.
    ///
    /// # Errors
    /// The packet can never be sent; the run is as before.
    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, Self::Error>;

    /// Makes this the whole run: packets as they stand in the image of `window`. False: the run is
    /// not empty, or the way takes no such run; the caller adds the packets one by one.
    fn set_image(
        &mut self,
        _window: &PacketWindow,
        _image: &Arc<PacketImage>,
        _part: &ImageRun,
    ) -> bool {
        false
    }

    /// Sends the run, linked to the next run to the same client. `Vod::handle_run_refused` gets
    /// `mark` when the socket refuses the run.
    fn submit(self, mark: RunMark);
}

/// A send on a connection that takes interleaved packets.
pub trait TitleFrames {
    /// Why a packet can never be sent.
    type Error: SendError;

    /// Appends a packet on an interleaved channel, encrypted with `srtp`. False: the send is full.
    ///
    /// # Errors
    /// The packet can never be sent; the send is as before.
    fn push_packet(
        &mut self,
        channel: (u8, Option<&SrtpStream>),
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, Self::Error>;
}

/// What happens to a run that the socket refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The stream sends it again: the socket had no room, or a run linked before it was refused.
    Again,
    /// The session ends: the title's file was truncated.
    Truncated,
    /// The packets are lost, like packets that the network loses.
    Lost,
}

/// How far a stream got in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// All due frames are handed over; the stream goes on with this step.
    Until(Due),
    /// The stream goes on in the next turn.
    Part,
    /// The session ends: the index names bytes that the file does not have.
    Broken,
}

/// Whether a send took a frame.
enum Taken {
    All,
    NoRoom,
    Broken,
}

/// A stream over UDP, with the fields of its session that sending needs.
#[derive(Debug)]
pub struct Pumping<'a> {
    /// Names the stream in marks of runs.
    pub at: StreamRef,
    /// Stream that sends.
    pub stream: &'a mut Stream,
    /// Present epoch of the session.
    pub epoch: &'a Epoch,
    /// End of the range; `None`: the end of the title.
    pub end: Option<Npt>,
    /// Title that feeds the stream.
    pub title: &'a Arc<Title>,
    /// Arrival of the PLAY that has sent no packet yet.
    pub play_received: &'a mut Option<Mono>,
}

impl Vod {
    /// Handles the timer of a stream; the timer may be out of date by now. A stream over UDP sends
    /// what is due. A stream over TCP waits for its connection, which is returned.
    pub fn pump(
        &mut self,
        cx: &mut Cx,
        key: TimerKey,
        sink: &mut impl TitleSink,
    ) -> Option<EntryKey> {
        if !self.players.is_stream_due(&key) {
            return None;
        }
        let TimerKey::Stream { session, stream_index, epoch_count, .. } = key else { return None };
        let at = StreamRef { session, stream_index, epoch_count };
        let session = self.players.session_mut(session)?;
        let connection = session.client.connection;
        let stream = session.streams.get_mut(usize::from(stream_index))?;
        match stream.outgoing.transport {
            Transport::Udp { .. } => {
                self.pump_udp(cx, at, sink);
                None
            }
            Transport::Tcp { .. } => {
                stream.phase = Phase::WaitsForConnection;
                connection
            }
            Transport::Group { .. } => None,
        }
    }

    fn pump_udp(&mut self, cx: &mut Cx, at: StreamRef, sink: &mut impl TitleSink) {
        match self.send_due(cx, at, sink) {
            Some(Pumped::Until(due)) => {
                self.request_ahead(cx, at);
                self.plan(cx, at, due);
            }
            Some(Pumped::Part) => self.plan(cx, at, Due::At(cx.now + BURST_INTERVAL)),
            Some(Pumped::Broken) => {
                cx.cells.sessions_failed.add(1);
                self.players.fail(cx, at.session, Some("media failed"));
            }
            None => {}
        }
    }

    /// Hands due frames of a stream to the sink, within the burst of a turn. `None`: the stream is
    /// gone.
    fn send_due(&mut self, cx: &Cx, at: StreamRef, sink: &mut impl TitleSink) -> Option<Pumped> {
        let session = self.players.session_mut(at.session)?;
        let Session { title, epoch: Some(epoch), end, streams, play_received, .. } = session else {
            return None;
        };
        let (end, stream) = (*end, streams.get_mut(usize::from(at.stream_index))?);
        let Transport::Udp { pair, rtp, .. } = stream.outgoing.transport else { return None };
        let Some(way) = sink.way_to(pair, rtp) else { return Some(Pumped::Part) };
        let pumping = Pumping { at, stream, epoch, end, title, play_received };
        Some(pumping.send_due(&cx.cells, cx.now, way, sink))
    }

    /// Sets the timer of a stream, or requests its window, or ends it.
    pub fn plan(&mut self, cx: &mut Cx, at: StreamRef, next: Due) {
        match next {
            // The next frame is due already: in the next turn, behind the runs of this one.
            Due::Now { .. } => self.players.schedule(cx, at, cx.now + NEXT_TURN),
            Due::At(time) => self.players.schedule(cx, at, time),
            Due::Waiting => {
                cx.cells.window_waits.add(1);
                if let Some(stream) = self.players.current_stream(at) {
                    stream.phase = Phase::WaitsForWindow;
                }
                self.request_windows(cx, at.session, at.stream_index);
                // It may have been at hand.
                if let Some(due) = self.next_due(cx, at)
                    && !matches!(due, Due::Waiting)
                {
                    self.players.schedule(cx, at, cx.now + NEXT_TURN);
                }
            }
            Due::End => self.finish(cx, at),
        }
    }

    /// Finds the next step of a stream, and requests the window ahead.
    fn next_due(&mut self, cx: &mut Cx, at: StreamRef) -> Option<Due> {
        let session = self.players.session_mut(at.session)?;
        let (epoch, end) = (session.epoch?, session.end);
        let stream = session.streams.get_mut(usize::from(at.stream_index))?;
        let due = stream.due(&epoch, end, cx.now);
        self.request_ahead(cx, at);
        Some(due)
    }

    fn request_ahead(&mut self, cx: &mut Cx, at: StreamRef) {
        let Some(stream) = self.players.stream_mut(at.session, at.stream_index.into()) else {
            return;
        };
        let unasked = stream.feed.cursor.as_ref().and_then(Cursor::unasked);
        if stream.enters_window() {
            self.want_image(cx, at);
        }
        if unasked.is_some() {
            self.request_windows(cx, at.session, at.stream_index);
        }
    }

    /// Sets the time of BYE for a stream that has sent its last frame.
    fn finish(&mut self, cx: &mut Cx, at: StreamRef) {
        let Some(session) = self.players.session(at.session) else { return };
        let Some(epoch) = session.epoch else { return };
        let Some(stream) = session.streams.get(usize::from(at.stream_index)) else { return };
        let end = match (session.end, session.track(stream)) {
            (Some(end), _) => end,
            (None, Some(track)) if epoch.scale > 0.0 => track.end,
            (None, _) => epoch.npt_at(cx.now),
        };
        let bye_due = epoch.wall_of_npt(end).max(cx.now) + BYE_DELAY;
        self.players.wait_for_bye(cx, at, bye_due);
    }

    /// Handles a run that the socket refused.
    pub fn handle_run_refused(&mut self, cx: &mut Cx, mark: &RunMark, refused: Refused) {
        let RunMark { session, stream_index, epoch_count, .. } = *mark;
        let at = StreamRef { session, stream_index, epoch_count };
        match refused {
            // What the socket did not take is next again, a little later.
            Refused::Again => {
                cx.cells.send_again.add(1);
                if self.players.current_stream(at).is_some_and(|stream| stream.rewind(mark)) {
                    self.players.schedule(cx, at, cx.now + BURST_INTERVAL);
                } else if let Some(stream) = self.players.stream_mut(session, stream_index.into()) {
                    stream.take_back(mark);
                }
            }
            Refused::Truncated => {
                cx.cells.send_errors.add(1);
                if let Some(stream) = self.players.current_stream(at) {
                    stream.uncount(mark);
                    log_truncated();
                    cx.cells.sessions_failed.add(1);
                    self.players.fail(cx, session, Some("media failed"));
                }
            }
            Refused::Lost => {
                cx.cells.send_errors.add(1);
                if let Some(stream) = self.players.current_stream(at) {
                    stream.uncount(mark);
                }
            }
        }
    }

    /// Finds the streams of a connection's sessions that wait for the connection and have a due
    /// frame, the longest due first.
    pub fn find_ready_streams(
        &mut self,
        cx: &mut Cx,
        sessions: &[SessionRef],
        ready: &mut Vec<(Mono, StreamRef)>,
    ) {
        for session in sessions {
            let SessionRef::Title(session) = *session else { continue };
            let Some(entry) = self.players.session(session) else { continue };
            if !matches!(entry.state, State::Playing) {
                continue;
            }
            let (epoch_count, count) = (entry.epoch_count, entry.streams.len());
            let first = ready.len();
            for stream in 0..count {
                let is_waiting = self.players.session(session).is_some_and(|entry| {
                    entry.streams.get(stream).map(|s| s.phase) == Some(Phase::WaitsForConnection)
                });
                if !is_waiting {
                    continue;
                }
                let stream_index = u8::try_from(stream).unwrap_or(u8::MAX);
                let at = StreamRef { session, stream_index, epoch_count };
                match self.next_due(cx, at) {
                    Some(Due::Now { at: due_at, .. }) => ready.push((due_at, at)),
                    Some(other) => self.plan(cx, at, other),
                    None => {}
                }
            }
            let latest = ready[first..].iter().map(|(due_at, _)| *due_at).min();
            if latest.is_some_and(|due_at| self.players.skip_if_late(cx, session, due_at)) {
                ready.truncate(first);
                for stream_index in (0..count).filter_map(|index| u8::try_from(index).ok()) {
                    self.plan_skipped(cx, StreamRef { session, stream_index, epoch_count });
                }
            }
        }
        ready.sort_by_key(|(due_at, _)| *due_at);
    }

    /// Requests the window of a stream that a skip has moved.
    fn plan_skipped(&mut self, cx: &mut Cx, at: StreamRef) {
        if self
            .players
            .current_stream(at)
            .is_some_and(|stream| stream.phase == Phase::WaitsForWindow)
        {
            self.plan(cx, at, Due::Waiting);
        }
    }

    /// Puts frames of ready streams into a send until it is full. Returns the session of a broken
    /// title: its index names bytes that the file does not have.
    pub fn gather(
        &mut self,
        cx: &Cx,
        ready: &[(Mono, StreamRef)],
        send: &mut impl TitleFrames,
        gathered: &mut Gathered,
    ) -> Option<SessionKey> {
        for (_, at) in ready {
            match self.take_frame(cx, send, *at, gathered) {
                Taken::All => {}
                Taken::NoRoom => return None,
                Taken::Broken => return Some(at.session),
            }
        }
        None
    }

    /// Puts the rest of a stream's due frame into a send.
    fn take_frame(
        &mut self,
        cx: &Cx,
        send: &mut impl TitleFrames,
        at: StreamRef,
        gathered: &mut Gathered,
    ) -> Taken {
        let Some(session) = self.players.session_mut(at.session) else { return Taken::All };
        let Session { title, epoch: Some(epoch), end, streams, play_received, .. } = session else {
            return Taken::All;
        };
        let Some(stream) = streams.get_mut(usize::from(at.stream_index)) else {
            return Taken::All;
        };
        let Due::Now { frame, at: due_at } = stream.due(epoch, *end, cx.now) else {
            return Taken::All;
        };
        let Transport::Tcp { channel, .. } = stream.outgoing.transport else { return Taken::All };
        if stream.is_at_frame_start() {
            observe(&cx.cells, cx.now, due_at, play_received);
        }
        let ts = stream.stamp(epoch, &frame);
        let Some((window, first)) = stream.window() else { return Taken::All };
        let (mut count, mut payload_bytes, mut taken) = (0, 0, Taken::All);
        for packet in window.packets(&frame).iter().skip(first) {
            let header = rtp_header(stream, count, packet.marker, ts);
            let channel = (channel, stream.outgoing.srtp.as_ref());
            match send.push_packet(channel, &header, window, packet, title) {
                Ok(true) => {}
                // The rest of the frame goes with the next send: between packets nothing is cut.
                Ok(false) => {
                    taken = Taken::NoRoom;
                    break;
                }
                Err(error) => {
                    log_broken(title, &error);
                    return Taken::Broken;
                }
            }
            count += 1;
            payload_bytes += u32::from(packet.payload_bytes);
        }
        stream.take_packets(count, payload_bytes);
        gathered.packets += u64::from(count);
        gathered.payload_bytes += u64::from(payload_bytes);
        if matches!(taken, Taken::All) {
            stream.finish_frame();
        }
        taken
    }

    /// Sets the next step of streams after a send was gathered. True: some have another due frame
    /// and wait for the connection.
    pub fn replan(&mut self, cx: &mut Cx, ready: &[(Mono, StreamRef)]) -> bool {
        let mut has_more = false;
        for (_, at) in ready {
            match self.next_due(cx, *at) {
                // Its next frame goes with the next send.
                Some(Due::Now { .. }) => has_more = true,
                None => {}
                Some(other) => self.plan(cx, *at, other),
            }
        }
        has_more
    }
}

impl Pumping<'_> {
    /// Hands due frames to the sink, within the burst of a turn.
    pub fn send_due<S: TitleSink>(
        mut self,
        cells: &ShardCells,
        now: Mono,
        way: S::Way,
        sink: &mut S,
    ) -> Pumped {
        let (mut sent, mut sent_max) = (0, BURST_PACKETS_MAX);
        // Bounded by `sent_max`: every frame has a packet at least.
        let pumped = loop {
            let (frame, due_at) = match self.stream.due(self.epoch, self.end, now) {
                Due::Now { frame, at } => (frame, at),
                due => break Pumped::Until(due),
            };
            let is_start = self.stream.is_at_frame_start();
            sent_max = sent_max.max(burst_max(self.stream, self.epoch, &frame));
            match self.send_frame(&frame, sent_max - sent, way, sink) {
                Ok((packets, is_whole)) => {
                    sent += packets;
                    if is_start && packets > 0 {
                        observe(cells, now, due_at, self.play_received);
                    }
                    if !is_whole {
                        break Pumped::Part;
                    }
                }
                Err(error) => {
                    log_broken(self.title, &error);
                    break Pumped::Broken;
                }
            }
        };
        if sent > 0 {
            cells.send_burst.observe_packets(sent as u64);
        }
        pumped
    }

    /// Cuts the rest of a frame into runs of together at most `packets_max` packets. Returns the
    /// number of packets sent, and whether the frame is finished; if not, it goes on in the next
    /// turn.
    fn send_frame<S: TitleSink>(
        &mut self,
        frame: &Frame,
        packets_max: usize,
        way: S::Way,
        sink: &mut S,
    ) -> Result<(usize, bool), S::Error> {
        let stream = &mut *self.stream;
        let ts = stream.stamp(self.epoch, frame);
        let image = stream.image(frame, ts);
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
            let srtp = stream.outgoing.srtp.as_ref();
            let Some(mut run) = sink.start_title_run(way, srtp) else { return Ok((sent, false)) };
            let (mut count, mut payload_bytes) = (0, 0);
            let is_image = match image.as_ref().and_then(|image| image.as_ref()) {
                Some(image) => {
                    let packet_index =
                        frame.packet_index + u32::try_from(first).unwrap_or(u32::MAX);
                    let part = image.run(packet_index, packets_max - sent);
                    part.filter(|part| run.set_image(window, image, part)).is_some_and(|part| {
                        (count, payload_bytes) = (part.packets, part.payload_bytes);
                        true
                    })
                }
                None => false,
            };
            if !is_image {
                for packet in packets.iter().take(packets_max - sent) {
                    let header = rtp_header(stream, count, packet.marker, ts);
                    if !run.try_packet(&header, window, packet, self.title)? {
                        break;
                    }
                    count += 1;
                    payload_bytes += u32::from(packet.payload_bytes);
                }
            }
            if count == 0 {
                return Ok((sent, false));
            }
            let Some(mut mark) = stream.take_run(self.at, count, payload_bytes) else {
                return Ok((sent, false));
            };
            mark.is_image = is_image;
            stream.remember(&mark, frame, ts);
            run.submit(mark);
            sent += usize::from(count);
        }
    }
}

/// RTP header of the packet that is `ahead` packets after the next packet of a stream.
fn rtp_header(stream: &Stream, ahead: u16, marker: bool, ts: RtpTs) -> [u8; HEADER_BYTES] {
    stream.outgoing.header(ahead, marker, ts).unwrap_or_default()
}

/// Largest number of packets of a frame in one turn. A frame of more than `BURST_PACKETS_MAX`
/// packets is spread over half the time to the next frame, so that it is sent when that is due.
fn burst_max(stream: &Stream, epoch: &Epoch, frame: &Frame) -> usize {
    let packets = frame.packet_count as usize;
    if packets <= BURST_PACKETS_MAX {
        return packets;
    }
    let interval_ns = stream.frame_interval_ns(epoch, frame).unwrap_or(FRAME_INTERVAL_NS);
    let burst_ns = u64::from(BURST_INTERVAL.subsec_nanos());
    let turns = usize::try_from(interval_ns / 2 / burst_ns).unwrap_or(usize::MAX).max(1);
    packets.div_ceil(turns)
}

impl SendError for Infallible {
    fn is_truncation(&self) -> bool {
        match *self {}
    }
}

fn log_broken(title: &Title, error: &impl SendError) {
    if error.is_truncation() {
        return log_truncated();
    }
    tracing::error!(code = "HE-E201", title = title.name, %error, "packet cannot be sent");
}

fn log_truncated() {
    tracing::warn!(code = "HE-W202", "session ended: the file was truncated while it was played");
}

/// Records the lateness of a frame, and the time from PLAY to its first packet.
fn observe(cells: &ShardCells, now: Mono, due_at: Mono, play_received: &mut Option<Mono>) {
    cells.observe_lateness(now, due_at);
    if let Some(received) = play_received.take() {
        cells.observe_first_packet(now, received);
    }
}

/// Least time from one turn to the next.
const NEXT_TURN: Duration = Duration::from_nanos(1);
/// Duration of a frame that nothing tells the duration of.
const FRAME_INTERVAL_NS: u64 = 40_000_000;
/// BYE leaves by another socket than the last packets and must not overtake them: a player that
/// polls RTCP first would drop the packets that it has not read.
const BYE_DELAY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::base::ids::Ssrc;
    use crate::media::window::{WindowBuilder, WindowKind};
    use crate::session::outgoing::{Numbers, Outgoing, Own};
    use crate::vod::cursor::Cursor;

    /// A stream at the first of two frames, 40 ms apart, and that frame.
    fn stream_at_frame_of(packets: usize) -> (Stream, Epoch, Frame) {
        let mut builder = WindowBuilder::new();
        for sample_index in 0..2 {
            (0..packets).for_each(|_| {
                builder.push_inline(&[1]);
                builder.end_packet(false);
            });
            let due = Npt(i64::from(sample_index) * 40_000_000);
            let rtp_ticks = i64::from(sample_index) * 3_600;
            builder.end_frame(Frame { due, npt: due, rtp_ticks, sample_index, ..Frame::SYNC });
        }
        let window = Arc::new(builder.finish());
        let frame = window.frames()[0];
        let mut cursor = Cursor::new(WindowKind::All, false, 1, 0, 0);
        cursor.handle_window(0, window);
        let client = SocketAddr::from(([192, 0, 2, 1], 5_000));
        let transport = Transport::Udp { pair: 0, rtp: client, rtcp: client };
        let numbers = Numbers::Own(Own::new(Ssrc(1), 1));
        let outgoing = Outgoing::new((96, 90_000), numbers, transport, String::new());
        let mut stream = Stream::new(0, outgoing);
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
            let taken = BURST_INTERVAL * u32::try_from(turns).unwrap();
            assert!(taken <= Duration::from_millis(20), "{packets} packets");
        }
    }

    #[test]
    fn frame_of_a_faster_epoch_has_less_time() {
        let (stream, epoch, frame) = stream_at_frame_of(400);
        let fast = Epoch { scale: 2.0, speed: 5.0, ..epoch };
        assert_eq!(burst_max(&stream, &fast, &frame), 400, "one turn of the 2 ms that it has");
    }
}
