//! Another title under a playing client allocates nothing: neither the exchange of its feed, made
//! ready beside the old one, nor what is sent behind it.
//!
//! ```text
//!  commands, time, windows built beforehand --> Sessions --> pump --> Kept: numbers and times
//! ```
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use headend::base::ids::{SessionId, ShardId};
use headend::base::sink::RunSink;
use headend::base::time::{Mono, Npt};
use headend::config::limits::LimitsConfig;
use headend::consumers::sessions::Sessions;
use headend::library::title::{FileIdentity, Title};
use headend::mapped::MappedFile;
use headend::media::asset::{Asset, Track};
use headend::media::codec::{Codec, MediaKind};
use headend::media::index::{Sample, SampleIndex};
use headend::media::packetize::{WindowJob, payload_format};
use headend::media::window::{Packet, PacketWindow, WindowKey, WindowKind};
use headend::poll::poll_table::EntryKey;
use headend::poll::task::{TaskOwner, Work};
use headend::rtp::HEADER_BYTES;
use headend::rtp::srtp::SrtpStream;
use headend::rtsp::request::{Method, Request};
use headend::rtsp::uri::parse_target;
use headend::session::action::{Action, TimerKey};
use headend::session::command::{Command, Executed, Given, ReplyTo};
use headend::session::cx::SessionConfig;
use headend::session::directory::SessionRef;
use headend::vod::exchange::NextFeed;
use headend::vod::pump::{TitleRun, TitleSink};
use headend::vod::stream::RunMark;

use crate::allocations::of_this_thread;

#[test]
fn exchange_of_a_feed_and_what_follows_allocate_nothing() {
    let _machine = crate::to_itself();
    let (film, other) = (film(), film());
    let mut player = Player::new(&film, &other);
    player.run_for(Duration::from_secs(5));
    let key = match player.sessions.cx.directory.find(player.id) {
        Some(SessionRef::Title(key)) => key,
        found => panic!("{found:?}"),
    };
    let session = player.sessions.vod.players.session(key).unwrap();
    let mut next = NextFeed::new(session, &other.title, Npt(3_500_000_000)).unwrap();
    for _ in 0..2 {
        let wanted = next.wanted().next().unwrap();
        next.handle_window(wanted, &other.windows[wanted.index as usize]);
    }
    let sent = player.kept.packets.len();
    let before = of_this_thread();
    player.sessions.vod.exchange_feed(&mut player.sessions.cx, key, &mut next).unwrap();
    let exchanged = of_this_thread();
    player.run_for(Duration::from_secs(5));
    let after = of_this_thread();
    let packets = &player.kept.packets;
    assert!(packets.len() >= sent + 300, "{} packets", packets.len());
    assert!(before > 0, "what is made ready is counted");
    assert_eq!((exchanged - before, after - exchanged), (0, 0));
    // The new feed begins with a sync sample, under the numbers and the clock of the old one.
    assert!(packets[sent].is_sync && packets[sent].npt == Npt(3_000_000_000));
    for pair in packets.windows(2) {
        assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1));
        assert!(pair[1].ts.wrapping_sub(pair[0].ts).cast_signed() >= 0);
        let passed = pair[1].at.since(pair[0].at).as_secs_f64();
        let stepped = f64::from(pair[1].ts.wrapping_sub(pair[0].ts)) / 90_000.0;
        assert!((passed - stepped).abs() < 0.01, "{stepped} s of RTP time in {passed} s");
    }
}

/// A title of one H.264 track, and its windows.
struct Film {
    title: Arc<Title>,
    windows: Vec<Arc<PacketWindow>>,
}

fn film() -> Film {
    let mut media = Vec::new();
    let samples = (0..SECONDS * 25).map(|number| {
        let (offset, at) = (media.len() as u64, i64::from(number) * 3_600);
        let is_sync = number % 25 == 0;
        media.extend(2_996_u32.to_be_bytes());
        media.push(if is_sync { 0x65 } else { 0x41 });
        media.resize(media.len() + 2_995, 0xa5);
        let (dts, pts, bytes, duration) = (at, at, 3_000, 3_600);
        Sample { offset, bytes, dts, pts, duration, is_sync, is_disposable: false }
    });
    let index = SampleIndex::from_samples(samples.collect());
    let (sps, pps) = (vec![vec![0x67, 0x64, 0, 0x28, 0xac]], vec![vec![0x68, 0xee, 0x3c, 0xb0]]);
    let codec = Codec::H264 { nal_length_bytes: 4, sps, pps };
    let end = Npt(i64::from(SECONDS) * 1_000_000_000);
    let track = Track {
        id: 1,
        kind: MediaKind::Video,
        payload: payload_format(&codec, 0).unwrap(),
        codec: Some(codec),
        other_codecs: Vec::new(),
        fourcc: *b"avc1",
        timescale: 90_000,
        language: None,
        size_pixels: None,
        index,
        hint: None,
        window_samples: 50,
        end,
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&media).unwrap();
    let asset = Asset {
        tracks: vec![track],
        left_out: Vec::new(),
        duration: end,
        container: "mp4",
        file_bytes: media.len() as u64,
        created_utc_ns: None,
        problems: Vec::new(),
    };
    let title = Title {
        wire: headend::rtp::WireBase::new(1),
        name: "film.mp4".to_owned(),
        url_path: "vod/film.mp4".to_owned(),
        asset,
        map: MappedFile::new(&file).unwrap(),
        identity: FileIdentity::of(&file).unwrap(),
        file,
    };
    let window = |index| {
        let key = WindowKey { track_index: 0, kind: WindowKind::All, index };
        let mut job = WindowJob::new(&title.asset, key).unwrap();
        let mut bytes = Vec::new();
        while let Some(range) = job.wanted() {
            bytes.resize(range.bytes as usize, 0);
            title.file.read_exact_at(&mut bytes, range.offset).unwrap();
            job.handle_bytes(&bytes).unwrap();
        }
        let window = job.finish();
        window.mark_pages_seen(Mono(u64::MAX));
        Arc::new(window)
    };
    let windows = (0..SECONDS / 2).map(window).collect();
    Film { title: Arc::new(title), windows }
}

/// A client of a shard's sessions, with everything around them played by hand.
struct Player {
    sessions: Sessions,
    /// Titles, with their windows.
    films: Vec<(Arc<Title>, Vec<Arc<PacketWindow>>)>,
    id: SessionId,
    kept: Kept,
    due: Vec<TimerKey>,
    /// What the sessions ask for, while it is done.
    out: Vec<Action>,
}

impl Player {
    /// Sets up a film over UDP and plays it.
    fn new(film: &Film, other: &Film) -> Self {
        let config = SessionConfig {
            sessions_max: 10,
            addresses: Arc::default(),
            timeout: Duration::from_secs(60),
            host: "host".to_owned(),
            lag_budget: Duration::ZERO,
            adapts_quality: true,
            uses_images: true,
            retransmits: true,
            throttle: Arc::default(),
            session_roaming: false,
            low_client_ports: false,
            plain_media: false,
            limits: LimitsConfig::default(),
            shares: Arc::default(),
            srtp: headend::config::secure::SrtpMode::Off,
        };
        let start = Mono(1_000_000_000_000);
        let mut sessions = Sessions::new(ShardId(0), config, Arc::default(), start);
        sessions.cx.sockets.add_pair(8_000).unwrap();
        let told = [("CSeq", "1"), ("Transport", "RTP/AVP;unicast;client_port=5000-5001")];
        let setup = command(Method::Setup, &told, Some(&film.title), None);
        let Executed::Reply(answer) = sessions.execute(setup) else { panic!("no answer") };
        let header = answer.header_value("Session").unwrap();
        let id = SessionId::parse(header.split(';').next().unwrap()).unwrap();
        let films = [film, other].map(|film| (film.title.clone(), film.windows.clone()));
        let kept = Kept { packets: Vec::with_capacity(10_000), now: start };
        let (due, out) = (Vec::with_capacity(100), Vec::with_capacity(100));
        let mut player = Self { sessions, films: films.into(), id, kept, due, out };
        let play = command(Method::Play, &[("CSeq", "2")], None, Some(id));
        assert!(matches!(player.sessions.execute(play), Executed::Later));
        player.settle();
        player
    }

    /// Does what the sessions ask for, with no allocation of its own.
    fn settle(&mut self) {
        while !self.sessions.cx.out.is_empty() {
            let Sessions { cx, vod, .. } = &mut self.sessions;
            std::mem::swap(&mut cx.out, &mut self.out);
            for action in self.out.drain(..) {
                match action {
                    Action::Submit(task) => {
                        let (TaskOwner::Window(number), Work::Window { title, key }) =
                            (task.owner, &task.work)
                        else {
                            panic!("{task:?}")
                        };
                        let mut films = self.films.iter();
                        let (_, windows) = films.find(|(its, _)| Arc::ptr_eq(its, title)).unwrap();
                        let window = Arc::clone(&windows[key.index as usize]);
                        vod.handle_window(cx, number, Ok(window));
                    }
                    Action::Datagram { bytes, .. } => cx.give_bytes_back(bytes),
                    Action::Respond { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.sessions.cx.now + duration;
        while self.sessions.cx.now < end {
            let now = self.sessions.cx.now + Duration::from_millis(1);
            (self.sessions.cx.now, self.kept.now) = (now, now);
            let mut due = std::mem::take(&mut self.due);
            self.sessions.cx.wheel.expire(now, &mut due);
            for key in &due {
                self.sessions.handle_timer(*key);
            }
            self.settle();
            self.sessions.vod.players.keep_due_streams(&mut due);
            for key in due.drain(..) {
                let Sessions { cx, vod, .. } = &mut self.sessions;
                assert_eq!(vod.pump(cx, key, &mut self.kept), None);
            }
            self.due = due;
            self.settle();
        }
    }
}

fn command(
    method: Method,
    headers: &[(&str, &str)],
    title: Option<&Arc<Title>>,
    session: Option<SessionId>,
) -> Command {
    let uri = match method {
        Method::Setup => "rtsp://host/vod/film.mp4/trackID=0",
        _ => "rtsp://host/vod/film.mp4",
    };
    Command {
        led: headend::session::command::Led::Not,
        request: Request::new_for_test(method, uri, headers, b""),
        target: parse_target(uri).unwrap(),
        session,
        reply_to: ReplyTo { shard: ShardId(0), entry: EntryKey { index: 1, generation: 1 } },
        peer: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 40_000)),
        local: IpAddr::V4(Ipv4Addr::LOCALHOST),
        title: title.cloned(),
        given: Given::default(),
    }
}

/// Takes every packet and keeps what a receiver sees of it.
struct Kept {
    packets: Vec<KeptPacket>,
    now: Mono,
}

#[derive(Debug, Clone, Copy)]
struct KeptPacket {
    at: Mono,
    seq: u16,
    ts: u32,
    is_sync: bool,
    npt: Npt,
}

impl RunSink for Kept {
    type Way = ();

    fn way_to(&self, _: u16, _: SocketAddr) -> Option<()> {
        Some(())
    }

    fn has_free_run(&self) -> bool {
        true
    }
}

impl TitleSink for Kept {
    type Error = Infallible;
    type Run<'a> = &'a mut Self;

    fn start_title_run(&mut self, (): (), _: Option<&SrtpStream>) -> Option<&mut Self> {
        Some(self)
    }
}

impl TitleRun for &mut Kept {
    type Error = Infallible;

    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        _: &Arc<Title>,
    ) -> Result<bool, Infallible> {
        let its = std::ptr::from_ref(packet);
        let mut frames = window.frames().iter();
        let frame = frames.find(|frame| window.packets(frame).as_ptr_range().contains(&its));
        let frame = frame.unwrap();
        let seq = u16::from_be_bytes([header[2], header[3]]);
        let ts = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let (at, is_sync, npt) = (self.now, frame.is_sync, frame.npt);
        self.packets.push(KeptPacket { at, seq, ts, is_sync, npt });
        Ok(true)
    }

    fn submit(self, _: RunMark) {}
}

/// Length of the films.
const SECONDS: u32 = 20;
