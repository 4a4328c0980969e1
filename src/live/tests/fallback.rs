//! Paths with fallbacks: what a reader sees while sources come and go.

use super::*;

const TEXT: &str = "[path.\"live/a\"]\nfallback = [\"live/b\"]\nreturn_after = \"2s\"\n\
    switch_interval = \"500ms\"\n";
const FRAME: Duration = Duration::from_millis(40);
/// Frames from one key frame to the next.
const GROUP: u32 = 10;

/// H.264 with parameter sets that tell one source from the other.
pub(super) fn sdp(sets: &str) -> String {
    format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
         a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\n\
         a=control:streamid=0\r\n"
    )
}

pub(super) const SETS_A: &str = "Z0LAHtk=,aMuD";
pub(super) const SETS_B: &str = "Z0LAKNk=,aMuE";

/// A publisher that sends a frame in a packet each 40 ms.
pub(super) struct Encoder {
    path: &'static str,
    connection: u32,
    port: u16,
    pub(super) ssrc: u32,
    pub(super) seq: u16,
    pub(super) frame: u32,
    /// It has a sound track beside the video.
    has_sound: bool,
    /// Frames from one key frame to the next.
    pub(super) group: u32,
    pub(super) id: Option<SessionId>,
}

impl Encoder {
    pub(super) fn new(path: &'static str, connection: u32, port: u16) -> Self {
        let (ssrc, group) = (1_000 * connection, GROUP);
        Self {
            path,
            connection,
            port,
            ssrc,
            seq: 65_500,
            frame: 0,
            has_sound: false,
            group,
            id: None,
        }
    }

    pub(super) fn begin(&mut self, bench: &mut Bench, sdp: &str) {
        let from = (self.connection, host(1, 40_000 + self.port));
        let url = format!("rtsp://h/{}", self.path);
        let announced = bench.request(from, Method::Announce, &url, None, (&[], sdp)).unwrap();
        assert_eq!(announced.status().code(), 200);
        self.has_sound = sdp.contains("m=audio");
        for track in 0..=u16::from(self.has_sound) {
            let port = self.port + 2 * track;
            let ports = format!("{port}-{}", port + 1);
            let transport = format!("RTP/AVP/UDP;unicast;client_port={ports};mode=record");
            let headers = [("Transport", transport.as_str())];
            let uri = format!("{url}/streamid={track}");
            let setup = bench.request(from, Method::Setup, &uri, self.id, (&headers, "")).unwrap();
            self.id = Some(session_id(&setup));
        }
        let recorded = bench.request(from, Method::Record, &url, self.id, (&[], "")).unwrap();
        assert_eq!(recorded.status().code(), 200);
        (self.ssrc, self.frame) = (self.ssrc + 1, 0);
    }

    pub(super) fn end(&mut self, bench: &mut Bench) {
        assert!(bench.sessions.end_session(self.id.take().unwrap(), "test"));
        bench.settle();
    }

    pub(super) fn send(&mut self, bench: &mut Bench) {
        if self.id.is_none() {
            return;
        }
        let unit = if self.frame.is_multiple_of(self.group) { 0x65 } else { 0x41 };
        let ts = self.ssrc.wrapping_mul(0x1234_5678).wrapping_add(self.frame * 3_600);
        let head = [&[0x80, 0x80 | 96][..], &self.seq.to_be_bytes(), &ts.to_be_bytes()].concat();
        let origin = u8::try_from(self.connection).unwrap();
        let [.., high, low] = self.frame.to_be_bytes();
        let bytes = [&head[..], &self.ssrc.to_be_bytes(), &[unit, origin, high, low]].concat();
        let (live, cx) = (&mut bench.sessions.live, &mut bench.sessions.cx);
        live.sources.handle_rtp_datagram(cx, 0, host(1, self.port), &bytes);
        if self.has_sound {
            // 40 ms of sound, with the mark of the frame.
            let ts = self.ssrc.wrapping_mul(0x0765_4321).wrapping_add(self.frame * 320);
            let head = [&[0x80, 0][..], &self.seq.to_be_bytes(), &ts.to_be_bytes()].concat();
            let mark = [0xFF, origin, high, low];
            let bytes = [&head[..], &(self.ssrc + 500).to_be_bytes(), &mark].concat();
            live.sources.handle_rtp_datagram(cx, 0, host(1, self.port + 2), &bytes);
        }
        (self.seq, self.frame) = (self.seq.wrapping_add(1), self.frame + 1);
    }
}

/// A packet as the batches of `live/a` have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: Duration,
    pub(super) seq: u16,
    pub(super) ts: u32,
    pub(super) ssrc: u32,
    pub(super) payload: Vec<u8>,
}

impl Seen {
    pub(super) fn unit(&self) -> u8 {
        self.payload[0] & 0x1f
    }
}

/// Two encoders, and a reader's shard that keeps all packets of the path.
pub(super) struct Scene {
    pub(super) bench: Bench,
    pub(super) a: Encoder,
    pub(super) b: Encoder,
    pub(super) seen: Vec<Seen>,
    /// Packets of its second track.
    pub(super) sounds: Vec<Seen>,
    cursor: u64,
    /// The path that is looked at.
    path: &'static str,
    start: crate::base::time::Mono,
}

impl Scene {
    pub(super) fn new(text: &str) -> Self {
        let bench = Bench::configured(text);
        let start = bench.sessions.cx.now;
        let (a, b) = (Encoder::new("live/a", 11, 5_000), Encoder::new("live/b", 12, 5_100));
        let (seen, sounds, path) = (Vec::new(), Vec::new(), "live/a");
        Self { bench, a, b, seen, sounds, cursor: 0, path, start }
    }

    /// Time with frames of both.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.bench.sessions.cx.now + duration;
        while self.bench.sessions.cx.now < end {
            self.a.send(&mut self.bench);
            self.b.send(&mut self.bench);
            self.bench.turn(self.bench.sessions.cx.now + FRAME);
            self.look();
        }
    }

    pub(super) fn look(&mut self) {
        let now = self.bench.sessions.cx.now;
        let Some(path) = self.bench.sessions.live.hub.paths.path(self.path) else { return };
        let ring = path.ring();
        self.cursor = self.cursor.max(ring.first_no());
        while let Some(batch) = ring.batch(self.cursor) {
            self.cursor += 1;
            for (track, list) in [(0, &mut self.seen), (1, &mut self.sounds)] {
                for packet in batch.runs_of(track).iter().flat_map(|run| batch.packets_of(run)) {
                    let bytes = batch.packet_bytes(packet);
                    let word =
                        |from: usize| u32::from_be_bytes(bytes[from..from + 4].try_into().unwrap());
                    list.push(Seen {
                        at: now.since(self.start),
                        seq: u16::from_be_bytes([bytes[2], bytes[3]]),
                        ts: word(4),
                        ssrc: word(8),
                        payload: bytes[12..].to_vec(),
                    });
                }
            }
        }
    }

    /// Plays the path, which keeps it here.
    pub(super) fn read(&mut self) -> SessionId {
        let setup = self.bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
        let id = session_id(&setup);
        let played = self.bench.reader(Method::Play, URL, Some(id));
        assert!(played.is_none_or(|answer| answer.status().code() == 200));
        id
    }

    /// Encoders in the order in which they were seen, each with the units of its first packets.
    pub(super) fn order(&self) -> Vec<(u8, Vec<u8>)> {
        let mut order: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut before = Vec::new();
        for seen in &self.seen {
            match seen.unit() {
                1 | 5 => {
                    before.push(seen.unit());
                    if order.last().is_none_or(|(of, _)| *of != seen.payload[1]) {
                        order.push((seen.payload[1], before.clone()));
                    }
                    before.clear();
                }
                set => before.push(set),
            }
        }
        order
    }

    /// One SSRC, numbers without a gap, time forward and with the clock.
    pub(super) fn assert_continuous(&self) {
        for pair in self.seen.windows(2) {
            let [one, next] = pair else { unreachable!() };
            assert_eq!(next.ssrc, one.ssrc);
            assert_eq!(next.seq, one.seq.wrapping_add(1), "{one:?} {next:?}");
            let ahead = next.ts.wrapping_sub(one.ts);
            let is_set = matches!(one.unit(), 7 | 8);
            assert!(if is_set { ahead == 0 } else { (90..90_000 * 4).contains(&ahead) }, "{ahead}");
        }
        let (first, last) = (self.seen.first().unwrap(), self.seen.last().unwrap());
        let ticks = i64::from(last.ts.wrapping_sub(first.ts).cast_signed());
        let by_clock = i64::try_from((last.at - first.at).as_millis()).unwrap() * 90;
        // The first packets come from the ring; a group from before a switch is sent after it.
        let groups = 2 * i64::from(GROUP * 3_600);
        assert!((by_clock - 100..by_clock + groups).contains(&ticks), "{ticks} for {by_clock}");
    }

    pub(super) fn handovers(&self) -> Vec<u64> {
        self.bench.cells.handovers.iter().map(|cell| cell.value()).collect()
    }
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn reader_sees_one_stream_while_the_publisher_is_lost_and_comes_back() {
    let mut scene = Scene::new(TEXT);
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.run(ms(2_000));
    scene.read();
    scene.run(ms(1_000));
    scene.a.end(&mut scene.bench);
    scene.run(ms(3_000));
    assert_eq!(scene.order().last().unwrap(), &(12, vec![7, 8, 5]));
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    let back = scene.bench.sessions.cx.now.since(scene.start);
    scene.run(ms(5_000));
    let order = scene.order();
    assert_eq!(order.iter().map(|(of, _)| *of).collect::<Vec<_>>(), [11, 12, 11]);
    assert_eq!(order[2].1, [7, 8, 5], "a key frame behind its own parameter sets");
    let returned = scene.seen.iter().rev().take_while(|s| s.unit() > 5 || s.payload[1] == 11);
    let returned = returned.last().unwrap().at - back;
    assert!((ms(2_000)..ms(3_600)).contains(&returned), "good for a while before: {returned:?}");
    scene.assert_continuous();
    assert_eq!(scene.bench.sessions.live.readers.table.len(), 1);
    assert_eq!(scene.handovers(), [0, 1, 1, 0]);
    assert_eq!(scene.bench.cells.handover_gap.read().count(), 2);
}

#[test]
fn sets_of_the_present_source_come_with_each_key_frame_after_a_switch() {
    let mut scene = Scene::new(TEXT);
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.run(ms(1_000));
    scene.read();
    scene.run(ms(200));
    scene.a.end(&mut scene.bench);
    scene.seen.clear();
    scene.run(ms(2_000));
    let units: Vec<u8> = scene.seen.iter().map(Seen::unit).collect();
    let keys = units.iter().filter(|unit| **unit == 5).count();
    assert!(keys >= 4);
    for (place, _) in units.iter().enumerate().filter(|(_, unit)| **unit == 5) {
        assert_eq!(units[place - 2..place], [7, 8]);
    }
    let described = scene.bench.reader(Method::Describe, URL, None).unwrap();
    let mut text = Vec::new();
    described.write_to(0, &mut text);
    assert!(String::from_utf8(text).unwrap().contains(SETS_B), "new readers are told of them");
}

#[test]
fn silent_source_is_left_after_its_timeout_and_the_standby_is_followed_at_once() {
    let text = format!("{TEXT}source_timeout = \"1s\"\n");
    let mut scene = Scene::new(&text);
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.run(ms(2_000));
    scene.read();
    let id = scene.a.id.take();
    scene.run(ms(900));
    assert_eq!(scene.order().len(), 1);
    scene.run(ms(1_500));
    assert_eq!(scene.order().iter().map(|(of, _)| *of).collect::<Vec<_>>(), [11, 12]);
    scene.assert_continuous();
    scene.a.id = id;
}

#[test]
fn source_with_another_encoding_is_refused_and_the_path_released_and_held() {
    let mut scene = Scene::new(&format!("{TEXT}hold = \"3s\"\n"));
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.b.begin(&mut scene.bench, &sdp(SETS_B).replace("H264", "H265"));
    scene.run(ms(2_000));
    scene.read();
    scene.run(ms(200));
    scene.a.end(&mut scene.bench);
    scene.run(ms(2_000));
    assert!(scene.seen.iter().all(|seen| seen.payload[1] == 11 || seen.unit() > 5));
    assert_eq!(shown(&scene.bench).0.unwrap().owner.state, "held");
    assert_eq!(scene.bench.sessions.live.readers.table.len(), 1, "it waits");
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.run(ms(2_500));
    assert_eq!(shown(&scene.bench).0.unwrap().owner.state, "live");
    assert_eq!(scene.bench.sessions.live.readers.table.len(), 1);
    scene.assert_continuous();
    scene.a.end(&mut scene.bench);
    scene.run(ms(5_000));
    assert!(scene.bench.sessions.live.readers.table.is_empty(), "the hold time is over");
}

#[test]
fn path_is_shown_with_the_source_that_feeds_it_and_a_second_publisher_is_refused() {
    let mut scene = Scene::new(TEXT);
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.run(ms(3_500));
    let source = shown(&scene.bench).0.unwrap().source.unwrap();
    assert_eq!((source.kind, source.state), ("fallback", "recording"));
    assert_eq!((source.url.as_deref(), source.peer.as_str()), (Some("live/b"), "live/b"));
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    assert_eq!(scene.bench.announce(9, host(4, 40_009)), 403);
    scene.run(ms(5_000));
    let source = shown(&scene.bench).0.unwrap().source.unwrap();
    assert_eq!(source.url.as_deref(), Some("live/a~0"));
}

#[test]
fn relay_ends_with_its_section_and_leaves_the_other_path_alone() {
    let mut scene = Scene::new(TEXT);
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.run(ms(3_500));
    assert_eq!(scene.bench.sessions.live.sources.publishers.len(), 2);
    scene.bench.configure("");
    assert!(scene.bench.sessions.live.sources.relays.is_empty());
    assert_eq!(scene.bench.sessions.live.sources.publishers.len(), 1);
    scene.run(ms(15_000));
    assert!(scene.bench.sessions.live.hub.paths.path("live/b").is_none(), "nobody wants it");
}

/// Each source is asked for a key frame as readers of its own path would ask for it.
#[test]
fn key_frame_that_readers_want_is_asked_of_the_source_that_feeds_the_path() {
    let mut scene = Scene::new(TEXT);
    let feedback = |sdp: String| sdp.replace("RTP/AVP ", "RTP/AVPF ");
    scene.a.begin(&mut scene.bench, &feedback(sdp(SETS_A)));
    scene.run(ms(3_000));
    let sent = |scene: &Scene| scene.bench.cells.picture_requests_sent.value();
    let before = sent(&scene);
    let live = &mut scene.bench.sessions.live;
    live.hub.request(&"live/a".into(), crate::live::core::message::OwnerRequest::WantSync);
    scene.bench.settle();
    assert_eq!(sent(&scene), before + 1);
}

#[test]
fn source_that_is_lost_without_another_is_followed_by_itself_at_its_key_frame() {
    let mut scene = Scene::new(TEXT);
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.run(ms(2_000));
    scene.read();
    scene.run(ms(500));
    scene.a.end(&mut scene.bench);
    scene.run(ms(3_000));
    scene.a.begin(&mut scene.bench, &sdp(SETS_B));
    scene.seen.clear();
    scene.run(ms(3_000));
    let units: Vec<u8> = scene.seen.iter().map(Seen::unit).collect();
    assert_eq!(units[..3], [7, 8, 5], "with the sets of its new description");
    assert!(units.len() > 40);
    assert_eq!(scene.bench.sessions.live.readers.table.len(), 1);
}

#[test]
fn channel_of_a_line_up_has_parameter_sets_before_each_key_frame() {
    let lineup = "[path.tv]\nlineup = { 101 = \"live/b\" }\n";
    let mut scene = Scene { path: "tv~101", ..Scene::new(lineup) };
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    let url = "rtsp://h/tv~101/trackID=0";
    let setup = scene.bench.reader(Method::Setup, url, None);
    scene.run(Duration::from_secs(2));
    let setup = setup.or_else(|| scene.bench.answer(READER)).unwrap();
    assert_eq!(setup.status().code(), 200);
    scene.run(Duration::from_secs(1));
    let units: Vec<u8> = scene.seen.iter().map(Seen::unit).collect();
    let key_frames = (0..units.len()).filter(|place| units[*place] == 5);
    assert!(key_frames.clone().count() > 3, "{units:?}");
    for place in key_frames {
        assert_eq!(units[place - 2..place], [7, 8], "{units:?}");
    }
}
