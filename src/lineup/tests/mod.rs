//! Sessions that change what they play, without sockets: what a client receives across each kind
//! of change.

mod tune;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{RtpTs, SessionId, ShardId, Ssrc};
use crate::base::sink::Gathered;
use crate::base::sink::testing::{FrameRecorder, RecordedRun, SinkRecorder, Way};
use crate::base::time::Mono;
use crate::consumers::sessions::Sessions;
use crate::consumers::testing::{Client, Rig, Room, config, entry, session_id};
use crate::library::testing;
use crate::library::title::Title;
use crate::lineup::tune::{Channel, Roles, TuneDone, TuneError, Tuned, Tunings, described_text};
use crate::live::core::batch::{LivePacket, PacketBatch};
use crate::live::core::pump::{self, Fed, Left, LivePump, LiveRunMark};
use crate::live::core::testing::Received;
use crate::media::window::{Frame, Packet, PacketWindow};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{OpenFailure, Outcome, Task, TaskOwner, Work};
use crate::rtcp;
use crate::rtp::HEADER_BYTES;
use crate::rtp::srtp::SrtpStream;
use crate::rtsp::request::Method;
use crate::session::action::{Action, TimerKey};
use crate::session::directory::SessionRef;
use crate::session::rtcp::sender_info;
use crate::vod::pump::{TitleFrames, TitleRun, TitleSink};
use crate::vod::stream::RunMark;

const FRAME: Duration = Duration::from_millis(40);
const VIEWER: u32 = 1;
/// Frames of a publisher from one key frame to the next.
const GROUP: u32 = 25;

type Bench = Rig<Tv>;

/// Titles and sockets of a shard, and what the viewer has received.
struct Tv {
    titles: HashMap<String, Arc<Title>>,
    title_sink: SinkRecorder<RunMark, Got>,
    live_sink: SinkRecorder<LiveRunMark, Got>,
    /// Packets by stream, in order.
    got: [Vec<Got>; 2],
    /// Finished changes, each with the packets of each stream before it.
    done: Vec<(TuneDone, [usize; 2])>,
    /// The workers' queue is full.
    is_busy: bool,
}

/// A packet as the viewer gets it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Got {
    at: Mono,
    ssrc: u32,
    payload_type: u8,
    seq: u16,
    ts: u32,
    origin: Origin,
}

/// What a packet was made of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    /// A packet of a publisher: RTP time at the publisher, its SSRC, a key frame.
    Live { ts: u32, ssrc: u32, is_sync: bool },
    /// A frame of a title.
    Title(Frame),
}

impl Got {
    fn new(header: &[u8; HEADER_BYTES], origin: Origin) -> Self {
        let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        Self {
            at: Mono(0),
            ssrc: word(8),
            payload_type: header[1] & 0x7f,
            seq: u16::from_be_bytes([header[2], header[3]]),
            ts: word(4),
            origin,
        }
    }

    fn is_sync(&self) -> bool {
        match self.origin {
            Origin::Live { is_sync, .. } => is_sync,
            Origin::Title(frame) => frame.is_sync,
        }
    }
}

impl Received for Got {
    fn new(header: &[u8; HEADER_BYTES], _: &PacketBatch, packet: &LivePacket) -> Self {
        let (ts, is_sync) = (packet.ts.0, packet.is_sync);
        Self::new(header, Origin::Live { ts, ssrc: 0, is_sync })
    }
}

fn of_title(header: &[u8; HEADER_BYTES], window: &PacketWindow, packet: &Packet) -> Got {
    let has_packet =
        |frame: &&Frame| window.packets(frame).as_ptr_range().contains(&(&raw const *packet));
    let frame = *window.frames().iter().find(has_packet).expect("a packet of the window");
    Got::new(header, Origin::Title(frame))
}

impl TitleSink for SinkRecorder<RunMark, Got> {
    type Error = Infallible;
    type Run<'a> = RecordedRun<'a, RunMark, Got>;

    fn start_title_run(&mut self, way: Way, _: Option<&SrtpStream>) -> Option<Self::Run<'_>> {
        Some(self.start(way))
    }
}

impl TitleRun for RecordedRun<'_, RunMark, Got> {
    type Error = Infallible;

    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        _: &Arc<Title>,
    ) -> Result<bool, Infallible> {
        Ok(self.try_push(packet.payload_bytes, || of_title(header, window, packet)))
    }

    fn submit(self, mark: RunMark) {
        self.record(mark);
    }
}

impl TitleFrames for FrameRecorder<Got> {
    type Error = Infallible;

    fn push_packet(
        &mut self,
        (channel, _): (u8, Option<&SrtpStream>),
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        _: &Arc<Title>,
    ) -> Result<bool, Infallible> {
        let bytes = packet.payload_bytes;
        Ok(self.try_push(channel, bytes, || of_title(header, window, packet)))
    }
}

impl Room for Tv {
    fn title(&self) -> Option<Arc<Title>> {
        None
    }

    fn act(bench: &mut Bench, action: Action) -> Option<Action> {
        match action {
            Action::Submit(task) => bench.finish_task(task),
            other => return Some(other),
        }
        None
    }

    fn finish_turn(bench: &mut Bench, mut due: Vec<TimerKey>) {
        while let Some(done) = bench.sessions.tunings.take_done() {
            let counts = [bench.got[0].len(), bench.got[1].len()];
            bench.done.push((done, counts));
        }
        bench.sessions.vod.players.keep_due_streams(&mut due);
        let mut connections = Vec::new();
        for key in due {
            let Sessions { cx, vod, .. } = &mut bench.sessions;
            connections.extend(vod.pump(cx, key, &mut bench.room.title_sink));
        }
        let Sessions { cx, live, .. } = &mut bench.sessions;
        if std::mem::take(&mut live.hub.is_ready) {
            live.hub.paths.list_all();
        }
        let mut left = Left::default();
        LivePump::new(&mut bench.room.live_sink, &cx.cells, &mut left, cx.now)
            .pump(&mut live.hub.paths);
        left.begun.into_iter().for_each(|begun| live.readers.note_begun(begun));
        for (owner, due) in left.wakes {
            live.readers.wake_reader(cx, u32::try_from(owner).unwrap(), due);
        }
        if !left.interleaved.is_empty() {
            connections.push(entry(VIEWER));
        }
        let now = bench.sessions.cx.now;
        let Self { title_sink, live_sink, got, .. } = &mut bench.room;
        let titles = title_sink.runs.drain(..).map(|run| (run.way, run.packets));
        let runs: Vec<_> =
            titles.chain(live_sink.runs.drain(..).map(|run| (run.way, run.packets))).collect();
        for ((_, client), packets) in runs {
            let stream = usize::from((client.port() - 6_000) / 2);
            got[stream].extend(packets.into_iter().map(|packet| Got { at: now, ..packet }));
        }
        for connection in connections {
            bench.flush(connection);
        }
    }
}

/// A publisher of video and sound in the encodings of the titles: a frame and two packets of sound
/// each 40 ms.
struct Encoder {
    port: u16,
    payload_types: (u8, u8),
    ssrc: u32,
    seq: [u16; 2],
    /// RTP time of the first frame, of video and sound.
    zero: [u32; 2],
    frame: u32,
    began: Mono,
    is_silent: bool,
    /// From the capture of a frame to its packet.
    latency_ms: u32,
}

impl Encoder {
    fn new(bench: &mut Bench, path: &'static str, number: u16) -> Self {
        let payload_types = if number.is_multiple_of(2) { (96, 97) } else { (100, 101) };
        Self::with(bench, path, number, payload_types, |sdp| sdp)
    }

    fn with(
        bench: &mut Bench,
        path: &'static str,
        number: u16,
        payload_types: (u8, u8),
        change: fn(String) -> String,
    ) -> Self {
        let connection = 10 + u32::from(number);
        let port = 7_000 + 4 * number;
        let described = described_text(&testing::title(10));
        let (video, sound) = described.split_once("m=audio").unwrap();
        let number_it = |media: &str, payload_type: u8| {
            let media = media.replace(" 96", &format!(" {payload_type}"));
            media.replace(":96", &format!(":{payload_type}"))
        };
        let (video, sound) = (number_it(video, payload_types.0), number_it(sound, payload_types.1));
        let sdp = change(format!("{video}m=audio{sound}"));
        let client =
            Client { shard: ShardId(0), connection, peer: SocketAddr::from(([10, 0, 0, 1], port)) };
        let url = format!("rtsp://h/{path}");
        let answer = bench.send(client, Method::Announce, &url, None, (&[], &sdp)).unwrap();
        assert_eq!(answer.status().code(), 200, "{sdp}");
        let mut id = None;
        for track in 0..2_u16 {
            let port = port + 2 * track;
            let transport =
                format!("RTP/AVP/UDP;unicast;client_port={port}-{};mode=record", port + 1);
            let uri = format!("{url}/trackID={track}");
            let headers = [("Transport", &*transport)];
            let answer = bench.send(client, Method::Setup, &uri, id, (&headers, "")).unwrap();
            id = Some(session_id(&answer));
        }
        let answer = bench.send(client, Method::Record, &url, id, (&[], "")).unwrap();
        assert_eq!(answer.status().code(), 200);
        let number = u32::from(number);
        Self {
            port,
            payload_types,
            ssrc: 0x1000 * (number + 1),
            seq: [65_530, 100 * u16::try_from(number).unwrap()],
            zero: [0xffff_0000_u32.wrapping_add(number << 28), number << 28],
            frame: 0,
            began: bench.sessions.cx.now,
            is_silent: false,
            latency_ms: 0,
        }
    }

    fn send(&mut self, bench: &mut Bench) {
        if self.is_silent {
            return;
        }
        let is_key = self.frame.is_multiple_of(GROUP);
        let ts = self.zero[0].wrapping_add(self.frame * 3_600);
        // A packet of a picture is the start of a partition; the lowest bit of the frame's header
        // says that it is no key frame (RFC 7741 s4.2, s4.3).
        self.packet(bench, 0, ts, &[0x10, u8::from(!is_key), 0, 0, 1]);
        for half in 0..2 {
            let ts = self.zero[1].wrapping_add((self.frame * 2 + half) * 960);
            self.packet(bench, 1, ts, &[7; 40]);
        }
        self.frame += 1;
        if is_key {
            self.report(bench);
        }
    }

    /// Sender reports of both tracks: the first frame, and the first sample of sound, were captured
    /// when the encoder began, or so long before that as it takes.
    fn report(&self, bench: &mut Bench) {
        let now = bench.sessions.cx.now;
        let since_ms = u32::try_from(now.since(self.began).as_millis()).unwrap();
        let since_ms = since_ms.wrapping_add(self.latency_ms);
        for (track, ticks_per_ms) in [(0, 90), (1, 48)] {
            let ts = RtpTs(self.zero[track].wrapping_add(since_ms.wrapping_mul(ticks_per_ms)));
            let info = sender_info(i64::try_from(now.0).unwrap(), ts, 1, 1);
            let ssrc = Ssrc(self.ssrc + u32::try_from(track).unwrap());
            let mut bytes = Vec::new();
            rtcp::write_sender_report(&mut bytes, ssrc, &info, "encoder", None);
            let port = self.port + 2 * u16::try_from(track).unwrap() + 1;
            bench.sessions.handle_report_datagram(0, ([10, 0, 0, 1], port).into(), &bytes);
        }
    }

    fn packet(&mut self, bench: &mut Bench, track: usize, ts: u32, payload: &[u8]) {
        let payload_type = [self.payload_types.0, self.payload_types.1][track];
        let mut bytes = vec![0x80, 0x80 | payload_type];
        bytes.extend_from_slice(&self.seq[track].to_be_bytes());
        bytes.extend_from_slice(&ts.to_be_bytes());
        let ssrc = self.ssrc + u32::try_from(track).unwrap();
        bytes.extend_from_slice(&ssrc.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.seq[track] = self.seq[track].wrapping_add(1);
        let (live, cx) = (&mut bench.sessions.live, &mut bench.sessions.cx);
        let from = SocketAddr::from(([10, 0, 0, 1], self.port + 2 * u16::try_from(track).unwrap()));
        live.sources.handle_rtp_datagram(cx, 0, from, &bytes);
    }
}

impl Bench {
    fn new() -> Self {
        let room = Tv {
            titles: [10, 20, 30].map(|s| (format!("{s}.mp4"), testing::title(s))).into(),
            title_sink: SinkRecorder::default(),
            live_sink: SinkRecorder::default(),
            got: [Vec::new(), Vec::new()],
            done: Vec::new(),
            is_busy: false,
        };
        Self::around(room, config())
    }

    fn finish_task(&mut self, task: Task) {
        if self.is_busy {
            if let TaskOwner::Tuning { number, .. } = task.owner {
                self.sessions.handle_tuning_refused(number);
            }
            return;
        }
        let outcome = match task.work {
            Work::Open { name } => {
                let title = self.titles.get(&name.unwrap()).cloned();
                Outcome::Opened(title.ok_or(OpenFailure::NotFound))
            }
            Work::Window { title, key } => {
                let window = testing::window(&title, key);
                window.mark_pages_seen(self.sessions.cx.now);
                Outcome::Window(Ok(window))
            }
            other => panic!("{other:?}"),
        };
        let Sessions { cx, vod, .. } = &mut self.sessions;
        match (task.owner, outcome) {
            (TaskOwner::Window(request), Outcome::Window(window)) => {
                vod.handle_window(cx, request, window);
            }
            (TaskOwner::Tuning { number, stream }, outcome) => {
                self.sessions.handle_tuning_outcome((number, stream), outcome);
            }
            other => panic!("{other:?}"),
        }
    }

    /// The viewer's connection takes all that is due.
    fn flush(&mut self, connection: EntryKey) {
        let now = self.sessions.cx.now;
        for _ in 0..1_000 {
            let Sessions { cx, vod, live, .. } = &mut self.sessions;
            let (mut ready, mut gathered) = (Vec::new(), Gathered::default());
            let mut send = FrameRecorder::with_credit(usize::MAX);
            let sessions = cx.directory.of_connection(connection).to_vec();
            vod.find_ready_streams(cx, &sessions, &mut ready);
            assert_eq!(vod.gather(cx, &ready, &mut send, &mut gathered), None);
            for at in sessions {
                let SessionRef::Reader(index) = at else { continue };
                let key = live.readers.table[index as usize].key;
                let mut note = |begun| live.readers.note_begun(begun);
                let at = (&*cx.cells, cx.now);
                let paths = &mut live.hub.paths;
                let fed = pump::gather(paths, key, at, &mut send, &mut gathered, &mut note);
                if let Fed::Until(Some(due)) = fed {
                    live.readers.wake_reader(cx, index, due);
                }
            }
            for (channel, packet) in send.packets {
                let packet: Got = packet;
                self.room.got[usize::from(channel / 2)].push(Got { at: now, ..packet });
            }
            let Sessions { cx, vod, .. } = &mut self.sessions;
            if !vod.replan(cx, &ready) {
                return;
            }
        }
        panic!("something is always due");
    }

    fn viewer(&mut self, method: Method, uri: &str, id: Option<SessionId>, transport: &str) -> u16 {
        let peer = SocketAddr::from(([10, 0, 0, 9], 40_000));
        let client = Client { shard: ShardId(0), connection: VIEWER, peer };
        let headers = [("Transport", transport)];
        let answer = self.send(client, method, uri, id, (&headers, ""));
        answer.map_or(0, |answer| answer.status().code())
    }

    /// A session of a live path that plays its two tracks.
    fn watch(&mut self, path: &str, over_tcp: bool) -> SessionId {
        let peer = SocketAddr::from(([10, 0, 0, 9], 40_000));
        let client = Client { shard: ShardId(0), connection: VIEWER, peer };
        let mut id = None;
        for track in 0..2 {
            let transport = match over_tcp {
                true => format!("RTP/AVP/TCP;interleaved={}-{}", 2 * track, 2 * track + 1),
                false => format!(
                    "RTP/AVP;unicast;client_port={0}-{1}",
                    6_000 + 2 * track,
                    6_001 + 2 * track
                ),
            };
            let (uri, headers) =
                (format!("rtsp://h/{path}/trackID={track}"), [("Transport", &*transport)]);
            let answer = self.send(client, Method::Setup, &uri, id, (&headers, "")).unwrap();
            assert_eq!(answer.status().code(), 200);
            id = Some(session_id(&answer));
            let Sessions { cx, vod, live, .. } = &mut self.sessions;
            Tunings::enter(cx, &mut Roles { vod, live }, id.unwrap());
        }
        self.viewer(Method::Play, &format!("rtsp://h/{path}"), id, "");
        id.unwrap()
    }

    fn tune(&mut self, id: SessionId, to: Channel) -> Result<(), TuneError> {
        let Sessions { cx, vod, live, tunings, .. } = &mut self.sessions;
        let begun = tunings.begin(cx, &mut Roles { vod, live }, id, to);
        self.settle();
        begun
    }

    /// Tunes and lets time pass until the change is done.
    fn tuned(
        &mut self,
        encoders: &mut [Encoder],
        id: SessionId,
        to: Channel,
    ) -> Result<Tuned, TuneError> {
        self.tune(id, to)?;
        let before = self.done.len();
        for _ in 0..400 {
            if let Some((TuneDone { session, result }, _)) = self.done.get(before) {
                assert_eq!(*session, id);
                return result.clone();
            }
            self.run(encoders, FRAME);
        }
        panic!("the change is never done");
    }

    /// Time with frames of all encoders, in turns whenever something is due.
    fn run(&mut self, encoders: &mut [Encoder], duration: Duration) {
        let end = self.sessions.cx.now + duration;
        while self.sessions.cx.now < end {
            let frame_due = self.sessions.cx.now + FRAME;
            encoders.iter_mut().for_each(|encoder| encoder.send(self));
            let now = self.sessions.cx.now;
            self.turn(now);
            self.run_for(frame_due.since(now));
        }
    }
}

fn live(path: &str) -> Channel {
    Channel::Live { path: path.into() }
}

fn title(seconds: u32) -> Channel {
    Channel::Title { name: format!("vod/{seconds}.mp4").into(), resume: None }
}
