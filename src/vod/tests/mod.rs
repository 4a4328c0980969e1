//! Sessions without sockets and threads: commands, time and windows in; answers and packets out.
//!
//! ```text
//!  request() --> Sessions --> out --> windows from the file; the rig keeps answers and RTCP
//!  run_for() --> wheel ----> the pump --> TestSink --> sent
//! ```

mod clock;
mod exchange;
mod images;
mod lag;
mod leftovers;
mod life;
mod nack;
mod pacing;
mod pages;
mod play;
mod quality;
mod rates;
mod rewind;
mod seek;
mod setup;
mod sink;
mod sound;
mod states;
mod windows;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::base::ids::{SessionId, ShardId};
use crate::base::sink::Gathered;
use crate::base::sink::testing::FrameRecorder;
use crate::base::time::Mono;
use crate::consumers::sessions::Sessions;
use crate::consumers::testing::{Client, Rig, Room, config, entry, session_id};
use crate::library::testing;
use crate::library::title::Title;
use crate::media::window::Frame;
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{Task, TaskOwner, Work};
use crate::rtsp::range::{NptStart, Range, parse_range};
use crate::rtsp::request::Method;
use crate::rtsp::response::Response;
use crate::session::action::{Action, TimerKey};
use crate::session::cx::SessionConfig;
use crate::session::directory::SessionKey;
use crate::session::directory::SessionRef;
use crate::session::directory::StreamRef;
use crate::session::transport::Transport;
use crate::vod::playback::Session;
use crate::vod::pump::Refused;
use crate::vod::tests::sink::{SentPacket, TestSink};

/// A shard with players of one title: windows are made at once, and packets are kept.
type Bench = Rig<Players>;

/// The workers and sockets of players.
struct Players {
    title: Arc<Title>,
    /// Tasks are kept in `tasks` instead of being executed.
    keeps_tasks: bool,
    /// Tasks find the queue full.
    refuses_tasks: bool,
    sink: TestSink,
    /// Numbers of the submitted runs that the socket refuses.
    refuses_run: fn(usize) -> bool,
    runs_handed_over: usize,
    /// Packets of these that stand in images.
    image_packets: Vec<(SessionKey, u16)>,
    sent: Vec<Sent>,
}

/// A frame that was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Mono,
    due_at: Mono,
    session: SessionKey,
    track: u8,
    first_seq: u16,
    packets: u16,
    ts: u32,
    frame: Frame,
}

impl Room for Players {
    fn title(&self) -> Option<Arc<Title>> {
        Some(Arc::clone(&self.title))
    }

    fn act(bench: &mut Bench, action: Action) -> Option<Action> {
        match action {
            Action::Submit(Task { work: Work::Image { .. }, .. }) if bench.refuses_tasks => {}
            Action::Submit(task) if bench.refuses_tasks => {
                let Sessions { cx, vod, .. } = &mut bench.sessions;
                vod.handle_window_refused(cx, window_request(&task));
            }
            Action::Submit(task) if !bench.keeps_tasks => bench.finish_task(&task),
            Action::HangUp(entry) => panic!("{entry:?} of a title is closed"),
            other => return Some(other),
        }
        None
    }

    fn finish_turn(bench: &mut Bench, mut due: Vec<TimerKey>) {
        bench.sessions.vod.players.keep_due_streams(&mut due);
        for key in due {
            let Sessions { cx, vod, .. } = &mut bench.sessions;
            if let Some(connection) = vod.pump(cx, key, &mut bench.room.sink) {
                bench.flush(connection);
            }
            bench.take_runs();
        }
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(testing::title(20))
    }

    fn with(title: Arc<Title>) -> Self {
        let players = Players {
            title,
            keeps_tasks: false,
            refuses_tasks: false,
            sink: TestSink::default(),
            refuses_run: |_| false,
            runs_handed_over: 0,
            image_packets: Vec::new(),
            sent: Vec::new(),
        };
        Self::around(players, SessionConfig { adapts_quality: true, retransmits: true, ..config() })
    }

    /// A request over a connection; returns the answer if it comes at once.
    fn request(
        &mut self,
        connection: u32,
        method: Method,
        uri: &str,
        session: Option<SessionId>,
        headers: &[(&str, &str)],
    ) -> Option<Response> {
        self.request_from((ShardId(0), connection), method, uri, session, headers)
    }

    fn request_from(
        &mut self,
        (shard, connection): (ShardId, u32),
        method: Method,
        uri: &str,
        session: Option<SessionId>,
        headers: &[(&str, &str)],
    ) -> Option<Response> {
        let client = Client { shard, connection, peer: SocketAddr::from((PEER, 40_000)) };
        self.send(client, method, uri, session, (headers, ""))
    }

    /// SETUP of a track over UDP, from a connection; in a session when one is given.
    fn setup_udp(&mut self, track: u8, session: Option<SessionId>, port: u16) -> Response {
        let uri = format!("{BASE}/trackID={track}");
        let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
        let headers = [("Transport", transport.as_str())];
        self.request(1, Method::Setup, &uri, session, &headers).unwrap()
    }

    /// SETUP of track 0 over UDP from a connection of its own.
    fn setup_from(&mut self, connection: u32, port: u16) -> Response {
        let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
        let (uri, headers) = (format!("{BASE}/trackID=0"), [("Transport", transport.as_str())]);
        self.request(connection, Method::Setup, &uri, None, &headers).unwrap()
    }

    /// SETUP of track 1 over TCP, forwarded by another shard.
    fn setup_on_shard(&mut self, shard: ShardId, id: SessionId) -> Response {
        let (uri, headers) = (format!("{BASE}/trackID=1"), [("Transport", "RTP/AVP/TCP")]);
        self.request_from((shard, 1), Method::Setup, &uri, Some(id), &headers).unwrap()
    }

    fn setup_tcp(&mut self, track: u8, session: Option<SessionId>) -> Response {
        let uri = format!("{BASE}/trackID={track}");
        let headers = [("Transport", "RTP/AVP/TCP;unicast")];
        self.request(1, Method::Setup, &uri, session, &headers).unwrap()
    }

    /// A session with video and sound over UDP.
    fn opened(&mut self) -> SessionId {
        let id = session_id(&self.setup_udp(0, None, 5_000));
        self.setup_udp(1, Some(id), 5_002);
        id
    }

    fn play(&mut self, id: SessionId, headers: &[(&str, &str)]) -> Option<Response> {
        self.request(1, Method::Play, BASE, Some(id), headers)
    }

    fn pause(&mut self, id: SessionId) -> Response {
        self.request(1, Method::Pause, BASE, Some(id), &[]).unwrap()
    }

    fn key(&self, id: SessionId) -> SessionKey {
        match self.sessions.cx.directory.find(id) {
            Some(SessionRef::Title(key)) => key,
            other => panic!("{other:?}"),
        }
    }

    fn session(&self, id: SessionId) -> &Session {
        self.sessions.vod.players.session(self.key(id)).unwrap()
    }

    fn finish_task(&mut self, task: &Task) {
        if let Work::Image { title, window, numbers } = &task.work {
            let image = testing::image(title, window, *numbers);
            window.image().store(Some(Arc::new(image)));
            return;
        }
        let Work::Window { title, key } = &task.work else { panic!("{task:?}") };
        let window = testing::window(title, *key);
        window.mark_pages_seen(self.sessions.cx.now);
        self.sessions.vod.handle_window(&mut self.sessions.cx, window_request(task), Ok(window));
    }

    /// Executes the tasks that were kept.
    fn finish_tasks(&mut self) {
        for task in std::mem::take(&mut self.tasks) {
            self.finish_task(&task);
        }
        self.settle();
    }

    /// The socket takes submitted runs, or refuses a run and with it the runs linked after it.
    fn take_runs(&mut self) {
        let mut refused_to = None;
        for run in std::mem::take(&mut self.sink.runs) {
            let is_refused =
                refused_to == Some(run.way) || (self.refuses_run)(self.runs_handed_over);
            self.runs_handed_over += 1;
            if is_refused {
                refused_to = Some(run.way);
                let Sessions { cx, vod, .. } = &mut self.sessions;
                vod.handle_run_refused(cx, &run.mark, Refused::Again);
                continue;
            }
            refused_to = None;
            if run.mark.is_image {
                let of_session = (run.mark.session, run.mark.packets);
                self.room.image_packets.push(of_session);
            }
            let at = (run.mark.session, run.mark.stream_index);
            run.packets.iter().for_each(|packet| self.note_sent(at, packet));
        }
    }

    /// Sends on a connection that takes everything, until all due packets are sent.
    fn flush(&mut self, connection: EntryKey) {
        for _ in 0..1_000 {
            let Sessions { cx, vod, .. } = &mut self.sessions;
            let (mut ready, mut send) = (Vec::new(), FrameRecorder::with_credit(usize::MAX));
            let sessions = cx.directory.of_connection(connection).to_vec();
            vod.find_ready_streams(cx, &sessions, &mut ready);
            let mut gathered = Gathered::default();
            assert_eq!(vod.gather(cx, &ready, &mut send, &mut gathered), None);
            assert_eq!(gathered.packets, send.packets.len() as u64);
            for (channel, packet) in send.packets {
                let at = ready.iter().map(|(_, at)| (at.session, at.stream_index));
                let is_of_stream = |(session, stream_index): &(SessionKey, u8)| {
                    let session = self.sessions.vod.players.session(*session).unwrap();
                    let outgoing = &session.streams[usize::from(*stream_index)].outgoing;
                    matches!(outgoing.transport, Transport::Tcp { channel: its, .. } if its == channel)
                };
                let at = at.clone().find(is_of_stream).unwrap();
                self.note_sent(at, &packet);
            }
            let Sessions { cx, vod, .. } = &mut self.sessions;
            if !vod.replan(cx, &ready) {
                return;
            }
        }
        panic!("something is always due");
    }

    /// Records a packet: the first one of a frame, or a further one of the present frame.
    fn note_sent(&mut self, (key, stream_index): (SessionKey, u8), packet: &SentPacket) {
        let session = self.sessions.vod.players.session(key).unwrap();
        let stream = &session.streams[usize::from(stream_index)];
        let (track, SentPacket { seq, ts, frame }) = (stream.track_index, *packet);
        let is_of_stream = |sent: &&mut Sent| (sent.session, sent.track) == (key, track);
        if let Some(begun) = self.room.sent.iter_mut().rev().find(is_of_stream)
            && begun.frame == frame
            && u32::from(begun.packets) < frame.packet_count
        {
            let next = begun.first_seq.wrapping_add(begun.packets);
            assert_eq!((next, begun.ts), (seq, ts), "{frame:?}");
            begun.packets += 1;
            return;
        }
        let due_at = session.epoch.unwrap().wall_of(&frame, stream.window_kind().unwrap());
        let (at, first_seq, packets) = (self.sessions.cx.now, seq, 1);
        let sent = Sent { at, due_at, session: key, track, first_seq, packets, ts, frame };
        self.room.sent.push(sent);
    }

    /// Frames of a track that were sent.
    fn sent_of(&self, track: u8) -> Vec<Sent> {
        self.sent.iter().copied().filter(|sent| sent.track == track).collect()
    }

    /// BYE packets among the RTCP that was sent, by the client's port.
    fn bye_ports(&self) -> Vec<u16> {
        let is_bye = |bytes: &[u8]| !crate::rtcp::parse(bytes).unwrap().byes.is_empty();
        let byes = self.datagrams.iter().filter(|(_, bytes)| is_bye(bytes));
        byes.map(|(to, _)| to.port()).collect()
    }
}

/// The number of the request that a window's task is for.
fn window_request(task: &Task) -> u32 {
    let TaskOwner::Window(request) = task.owner else { panic!("{task:?}") };
    request
}

fn status(response: &Response) -> u16 {
    response.status().code()
}

/// Start of the Range of an answer, in milliseconds.
fn range_start_ms(response: &Response) -> i64 {
    let header = parse_range(response.header_value("Range").unwrap()).unwrap();
    let Range::Npt { start: Some(NptStart::At(npt)), .. } = header.range else {
        panic!("{response:?}")
    };
    npt.0 / 1_000_000
}

/// `seq` and `rtptime` of each stream in RTP-Info.
fn rtp_info(response: &Response) -> Vec<(u16, u32)> {
    let text = response.header_value("RTP-Info").unwrap();
    let value = |entry: &str, name: &str| {
        let parts: Vec<&str> = entry.split(';').collect();
        parts.iter().find_map(|part| part.strip_prefix(name)).unwrap().to_owned()
    };
    let entries = text.split(',').filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            (value(entry, "seq=").parse().unwrap(), value(entry, "rtptime=").parse().unwrap())
        })
        .collect()
}

const BASE: &str = "rtsp://host/vod/film.mp4";
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
