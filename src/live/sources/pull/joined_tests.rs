//! Pulled sources without sockets: an owner orders, a camera answers, packets reach a reader's
//! shard.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::base::host::Host;
use crate::base::ids::CameraName;
use crate::config::paths::{PathConfig, PathTable, SourceTransport};
use crate::config::source::SourceAddress;
use crate::consumers::testing::{Rig, Room, config};
use crate::live::core::info::OwnerInfo;
use crate::live::core::message::{OwnerRequest, ToOwner};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{Task, TaskOwner, Work};
use crate::rtsp::reader::{Input, RequestReader};
use crate::session::action::Action;

const SDP: &str =
    "v=0\r\nm=audio 0 RTP/AVP 0\r\na=control:0\r\nm=audio 0 RTP/AVP 8\r\na=control:1\r\n";

/// A shard that is the owner of the path, and the camera that the path is pulled from.
type Bench = Rig<Camera>;

struct Camera {
    path: Arc<str>,
    camera: Option<(CameraName, SocketAddr)>,
    /// Requests without an answer.
    asked: Vec<String>,
    done: Vec<String>,
    connections: u32,
}

impl Room for Camera {
    fn act(bench: &mut Bench, action: Action) -> Option<Action> {
        match action {
            Action::Connect { camera, to, .. } => {
                bench.camera = Some((camera, to));
                bench.connections += 1;
                let entry = EntryKey { index: bench.connections, generation: 0 };
                assert!(bench.sessions.live.sources.handle_camera_opened(camera, entry));
                let local = IpAddr::from([10, 0, 0, 1]);
                bench.sessions.live.sources.handle_camera_connected(
                    &mut bench.sessions.cx,
                    &mut bench.sessions.live.hub,
                    camera,
                    Ok(local),
                );
            }
            Action::Submit(Task {
                owner: TaskOwner::Camera(name),
                work: Work::Resolve { host, zone },
                ..
            }) => {
                assert_eq!(zone.as_deref(), Some("eth0"));
                let host = Host::new(host.parse().unwrap(), 3);
                bench.sessions.live.sources.handle_resolved(
                    &mut bench.sessions.cx,
                    &mut bench.sessions.live.hub,
                    name,
                    &Ok(vec![host]),
                );
            }
            Action::Write { bytes, .. } => {
                let text = String::from_utf8(bytes).unwrap();
                bench.asked.push(text);
            }
            Action::OpenPair { source, track } => {
                bench.open_pair();
                bench.sessions.live.sources.handle_pull_pair(
                    &mut bench.sessions.cx,
                    &mut bench.sessions.live.hub,
                    source,
                    track,
                );
            }
            Action::PunchNat { pair, rtp, rtcp } => {
                bench.done.push(format!("punch {pair} {rtp} {rtcp}"))
            }
            Action::ClosePair(pair) => bench.done.push(format!("close pair {pair}")),
            Action::HangUp(entry) => bench.done.push(format!("hang up {}", entry.index)),
            Action::Datagram { pair, to, .. } => bench.done.push(format!("rtcp {pair} {to}")),
            Action::Interleaved { channel, .. } => bench.done.push(format!("rtcp on {channel}")),
            other => panic!("{other:?}"),
        }
        None
    }
}

impl Bench {
    fn new(transport: SourceTransport) -> Self {
        Self::of("rtsp://u:p@10.0.0.7/live", transport)
    }

    fn of(url: &str, transport: SourceTransport) -> Self {
        let camera = Camera {
            path: "live/cam".into(),
            camera: None,
            asked: Vec::new(),
            done: Vec::new(),
            connections: 0,
        };
        let mut bench = Self::around(camera, config());
        let path = PathConfig {
            source: SourceAddress::parse(url).unwrap(),
            source_transport: transport,
            ..PathConfig::default()
        };
        let named = [("live/cam".to_owned(), Arc::new(path))].into();
        bench.sessions.cx.configs = Arc::new(PathTable { named, ..PathTable::default() });
        let rules = bench.sessions.cx.path_rules(&bench.path);
        bench.request(OwnerRequest::Open { rules });
        bench
    }

    fn request(&mut self, request: OwnerRequest) {
        let path = Arc::clone(&self.path);
        self.sessions.live.hub.registry.handle(ToOwner { path, request }, self.sessions.cx.now);
        self.settle();
    }

    fn name(&self) -> CameraName {
        self.camera.unwrap().0
    }

    /// Answers the newest request.
    fn answer(&mut self, headers: &str, body: &str) {
        let request = self.asked.pop().unwrap();
        let cseq = request.lines().find(|line| line.starts_with("CSeq")).unwrap().to_owned();
        let mut reader = RequestReader::new();
        let length = body.len();
        let text =
            format!("RTSP/1.0 {headers}\r\n{cseq}\r\nContent-Length: {length}\r\n\r\n{body}");
        reader.handle_bytes(text.as_bytes());
        let Some(Input::Response(answer)) = reader.poll() else { panic!("{text}") };
        let name = self.name();
        self.sessions.live.sources.handle_camera_answer(
            &mut self.sessions.cx,
            &mut self.sessions.live.hub,
            name,
            &answer,
        );
        self.settle();
    }

    fn play(&mut self, set_ups: [&str; 2]) {
        self.answer("200 OK", "");
        self.answer("200 OK", SDP);
        for set_up in set_ups {
            self.answer(&format!("200 OK\r\nSession: 1\r\nTransport: {set_up}"), "");
        }
        self.answer("200 OK", "");
    }

    fn at(&mut self, s: u64) {
        self.jump(Duration::from_secs(s));
    }

    /// A frame on the camera's connection.
    fn frame(&mut self, name: CameraName, channel: u8, bytes: &[u8]) {
        self.sessions.live.sources.handle_camera_frame(&mut self.sessions.cx, name, channel, bytes);
    }

    fn info(&self) -> OwnerInfo {
        self.sessions.live.hub.registry.infos().remove(0)
    }
}

fn rtp(payload_type: u8, seq: u8, ssrc: u8) -> Vec<u8> {
    [&[0x80, payload_type, 0, seq, 0, 0, seq, 0, 0, 0, 0, ssrc][..], &[7; 160]].concat()
}

const TCP: [&str; 2] = ["RTP/AVP/TCP;interleaved=4-5", "RTP/AVP/TCP;interleaved=6-7"];
const UDP: [&str; 2] = ["RTP/AVP;server_port=8000-8001", "RTP/AVP;server_port=8000-8001"];

#[test]
fn frames_of_a_camera_feed_its_path_until_it_says_bye() {
    let mut bench = Bench::new(SourceTransport::Tcp);
    assert_eq!((bench.info().state, bench.info().reason), ("starting", None));
    bench.play(TCP);
    assert_eq!((bench.info().state, bench.info().tracks), ("live", 2));
    let name = bench.name();
    for seq in 0..3 {
        bench.sessions.live.sources.handle_camera_frame(
            &mut bench.sessions.cx,
            name,
            4,
            &rtp(0, seq, 1),
        );
        bench.sessions.live.sources.handle_camera_frame(
            &mut bench.sessions.cx,
            name,
            6,
            &rtp(8, seq, 2),
        );
        bench.sessions.live.sources.handle_camera_frame(
            &mut bench.sessions.cx,
            name,
            9,
            &rtp(8, seq, 2),
        );
    }
    bench.at(1);
    assert_eq!(bench.info().batches, 1);
    bench.at(5);
    assert_eq!(bench.done, ["rtcp on 5", "rtcp on 7"], "receiver reports");
    let bye = |ssrc| [0x80, 201, 0, 1, 0, 0, 0, 9, 0x81, 203, 0, 1, 0, 0, 0, ssrc];
    bench.sessions.live.sources.handle_camera_frame(&mut bench.sessions.cx, name, 5, &bye(1));
    bench.settle();
    assert_eq!(bench.info().state, "live", "one of two");
    bench.sessions.live.sources.handle_camera_frame(&mut bench.sessions.cx, name, 7, &bye(2));
    // It goes on under another SSRC.
    bench.sessions.cx.now = bench.sessions.cx.now + Duration::from_millis(40);
    bench.sessions.live.sources.handle_camera_frame(&mut bench.sessions.cx, name, 6, &rtp(8, 4, 3));
    bench.at(6);
    assert_eq!((bench.info().state, bench.connections), ("live", 1));
    bench.sessions.live.sources.handle_camera_frame(&mut bench.sessions.cx, name, 5, &bye(1));
    bench.sessions.live.sources.handle_camera_frame(&mut bench.sessions.cx, name, 7, &bye(3));
    bench.at(2);
    assert_eq!(bench.info().state, "live", "it has been silent for 6 s before");
    bench.at(11);
    let info = bench.info();
    assert_eq!(
        (info.state, info.reason.as_deref()),
        ("failed", Some("RTCP BYE received on all tracks"))
    );
    assert_eq!((info.failed_tries, info.retry_after_s), (1, Some(1)));
    assert!(bench.asked.last().unwrap().starts_with("TEARDOWN"), "{:?}", bench.asked);
    bench.at(1);
    assert_eq!((bench.connections, bench.info().state), (2, "starting"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// A slow camera: a frame every few seconds, each with an SSRC of its own, and BYE for the old
    /// SSRC, at once or when the next frame comes.
    #[test]
    fn camera_that_sends_bye_for_each_frame_is_kept_until_no_packets_follow(
        shortest_s in 2_u64..=7, more_s in prop::collection::vec((0_u64..=7, any::<bool>()), 0..8),
    ) {
        let mut bench = Bench::new(SourceTransport::Tcp);
        bench.play(TCP);
        let name = bench.name();
        let bye = |ssrc| [0x80, 201, 0, 1, 0, 0, 0, 9, 0x81, 203, 0, 1, 0, 0, 0, ssrc];
        let (mut ssrc, mut longest_s) = (1, 0);
        bench.frame(name, 4, &rtp(0, ssrc, ssrc));
        for (more_s, is_late) in more_s {
            if !is_late {
                bench.frame(name, 5, &bye(ssrc));
            }
            let gap_s = shortest_s + more_s % (shortest_s + 1);
            for _ in 0..gap_s {
                bench.at(1);
                prop_assert_eq!((bench.info().state, bench.connections), ("live", 1));
            }
            longest_s = gap_s.max(longest_s);
            if is_late {
                bench.frame(name, 5, &bye(ssrc));
            }
            ssrc += 1;
            bench.sessions.cx.now = bench.sessions.cx.now + Duration::from_millis(1);
            bench.frame(name, 4, &rtp(0, ssrc, ssrc));
        }
        bench.at(1);
        bench.frame(name, 5, &bye(ssrc));
        let wait_s = if longest_s == 0 { 24 } else { 2 * longest_s + 1 };
        for _ in 0..wait_s {
            bench.at(1);
            if bench.info().state != "live" {
                break;
            }
        }
        let reason = bench.info().reason;
        prop_assert_eq!((bench.info().state, reason.as_deref()), ("failed", Some("RTCP BYE received on all tracks")));
    }
}

#[test]
fn tracks_of_one_host_use_a_pair_of_ports_each_and_release_it() {
    let mut bench = Bench::new(SourceTransport::Udp);
    bench.play(UDP);
    assert_eq!(
        bench.done,
        ["punch 0 10.0.0.7:8000 10.0.0.7:8001", "punch 1 10.0.0.7:8000 10.0.0.7:8001"]
    );
    let from = SocketAddr::from(([10, 0, 0, 7], 8_000));
    bench.sessions.live.sources.handle_rtp_datagram(&mut bench.sessions.cx, 0, from, &rtp(0, 1, 1));
    bench.sessions.live.sources.handle_rtp_datagram(&mut bench.sessions.cx, 1, from, &rtp(8, 1, 2));
    bench.sessions.live.sources.handle_rtp_datagram(
        &mut bench.sessions.cx,
        1,
        SocketAddr::from(([10, 0, 0, 8], 8_000)),
        &rtp(8, 2, 2),
    );
    bench.at(0);
    bench.at(0);
    assert_eq!(bench.info().batches, 1);
    let publisher = bench.sessions.live.sources.publishers.values().next().unwrap();
    assert_eq!(publisher.source.counts().packets, 2);
    bench.at(6);
    assert_eq!(bench.done[2..], ["rtcp 0 10.0.0.7:8001", "rtcp 1 10.0.0.7:8001"]);
    bench.request(OwnerRequest::Kick);
    assert!(bench.done.contains(&"close pair 1".to_owned()), "{:?}", bench.done);
    // The path is fetched always: it is begun anew.
    assert_eq!(bench.connections, 2);
    assert!(!bench.sessions.cx.demux.uses_pair(1));
}

#[test]
fn camera_without_server_ports_is_recognised_by_its_first_packets() {
    let mut bench = Bench::new(SourceTransport::Udp);
    bench.play(["RTP/AVP;unicast", "RTP/AVP;unicast;source=10.0.0.70;server_port=5000-5001"]);
    bench.sessions.live.sources.handle_rtp_datagram(
        &mut bench.sessions.cx,
        0,
        SocketAddr::from(([10, 0, 0, 7], 9)),
        &rtp(0, 1, 1),
    );
    bench.sessions.live.sources.handle_rtp_datagram(
        &mut bench.sessions.cx,
        1,
        SocketAddr::from(([10, 0, 0, 70], 5_000)),
        &rtp(8, 1, 2),
    );
    let publisher = bench.sessions.live.sources.publishers.values().next().unwrap();
    assert_eq!(publisher.source.counts().packets, 2);
    bench.at(6);
    assert_eq!(bench.done, ["punch 1 10.0.0.7:5000 10.0.0.7:5001", "rtcp 1 10.0.0.7:5001"]);
}

#[test]
fn link_local_camera_is_addressed_and_recognised_with_its_interface() {
    let mut bench = Bench::of("rtsp://[fe80::7%25eth0]/live", SourceTransport::Udp);
    assert_eq!(bench.camera.unwrap().1, "[fe80::7%3]:554".parse().unwrap());
    let moved = "RTP/AVP;unicast;source=fe80::70;server_port=5000-5001";
    bench.play(["RTP/AVP;unicast;source=fe80::7;server_port=8000-8001", moved]);
    let from = |bench: &mut Bench, pair, address: &str, packet: &[u8]| {
        let address = address.parse().unwrap();
        bench.sessions.live.sources.handle_rtp_datagram(
            &mut bench.sessions.cx,
            pair,
            address,
            packet,
        );
        let publisher = bench.sessions.live.sources.publishers.values().next().unwrap();
        publisher.source.counts().packets
    };
    // The same addresses on another link are other hosts.
    assert_eq!(from(&mut bench, 0, "[fe80::7%4]:8000", &rtp(0, 1, 1)), 0);
    assert_eq!(from(&mut bench, 0, "[fe80::7]:8000", &rtp(0, 1, 1)), 0);
    assert_eq!(from(&mut bench, 0, "[fe80::7%3]:8000", &rtp(0, 1, 1)), 1);
    assert_eq!(from(&mut bench, 1, "[fe80::70%4]:5000", &rtp(8, 1, 2)), 1);
    assert_eq!(from(&mut bench, 1, "[fe80::70%3]:5000", &rtp(8, 1, 2)), 2);
    bench.at(6);
    let wanted = [
        "punch 0 [fe80::7%3]:8000 [fe80::7%3]:8001",
        "punch 1 [fe80::7%3]:5000 [fe80::7%3]:5001",
        "rtcp 0 [fe80::7%3]:8001",
        "rtcp 1 [fe80::7%3]:5001",
    ];
    assert_eq!(bench.done, wanted);
}

#[test]
fn retry_delay_grows_with_each_failure_until_packets_come() {
    let mut bench = Bench::new(SourceTransport::Tcp);
    for (tries, wait_s) in [(1, 1), (2, 2), (3, 4)] {
        bench.answer("200 OK", "");
        bench.answer("404 Not Found", "");
        let info = bench.info();
        assert_eq!((info.failed_tries, info.retry_after_s), (tries, Some(wait_s)));
        assert_eq!(info.reason.as_deref(), Some("404 Not Found to DESCRIBE"));
        bench.at(wait_s);
    }
    // It describes itself and sends nothing: still a failure in a row.
    bench.play(TCP);
    assert_eq!(bench.info().reason.as_deref(), Some("404 Not Found to DESCRIBE"));
    bench.at(10);
    let info = bench.info();
    assert_eq!((info.failed_tries, info.retry_after_s), (4, Some(8)));
    assert_eq!(info.reason.as_deref(), Some("no RTP from the source"));
    bench.at(8);
    bench.play(TCP);
    let name = bench.name();
    bench.sessions.live.sources.handle_camera_frame(&mut bench.sessions.cx, name, 4, &rtp(0, 1, 1));
    bench.at(1);
    assert_eq!((bench.info().failed_tries, bench.info().reason), (0, None));
    // Longer than any datagram: over a connection that is usual.
    bench.sessions.live.sources.handle_camera_closed(
        &mut bench.sessions.cx,
        &mut bench.sessions.live.hub,
        name,
    );
    bench.settle();
    bench.at(1);
    bench.play(TCP);
    let name = bench.name();
    let long = [&rtp(0, 1, 1)[..], &[0; 10_000]].concat();
    for _ in 0..3 {
        bench.sessions.live.sources.handle_camera_frame(&mut bench.sessions.cx, name, 4, &long);
    }
    bench.at(9);
    assert_eq!((bench.info().state, bench.info().reason, bench.info().batches), ("live", None, 2));
}

#[test]
fn events_of_an_earlier_connection_are_ignored() {
    let mut bench = Bench::new(SourceTransport::Tcp);
    let first = bench.name();
    bench.sessions.live.sources.handle_camera_closed(
        &mut bench.sessions.cx,
        &mut bench.sessions.live.hub,
        first,
    );
    bench.settle();
    bench.at(1);
    bench.play(TCP);
    bench.sessions.live.sources.handle_camera_closed(
        &mut bench.sessions.cx,
        &mut bench.sessions.live.hub,
        first,
    );
    bench.sessions.live.sources.handle_camera_frame(
        &mut bench.sessions.cx,
        first,
        4,
        &rtp(0, 1, 1),
    );
    bench.sessions.live.sources.handle_camera_connected(
        &mut bench.sessions.cx,
        &mut bench.sessions.live.hub,
        first,
        Err("late"),
    );
    assert!(
        !bench
            .sessions
            .live
            .sources
            .handle_camera_opened(first, EntryKey { index: 9, generation: 0 })
    );
    bench.settle();
    assert_eq!(bench.info().state, "live");
    let publisher = bench.sessions.live.sources.publishers.values().next().unwrap();
    assert_eq!(publisher.source.counts().packets, 0);
}
