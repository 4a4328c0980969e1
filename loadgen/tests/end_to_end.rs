//! A whole run against a small server in this process: what it drops must be what is reported.
//!
//! ```text
//! run (this test) <--RTSP, RTP, RTCP over loopback--> FakeServer: one thread per connection
//! ```
//! The server sends [`PACKETS`] packets per track at once, leaves some out, and says BYE with a
//! sender report: at the end of the title, or where it is told so, in answer to TEARDOWN. Nothing
//! here waits for time: every step waits for bytes.

#![expect(clippy::expect_used, reason = "helpers of tests fail the test they are called from")]

use clap::Parser;
use headend_loadgen::cli::Options;
use headend_loadgen::report::Report;
use headend_loadgen::run::{self, RunError};
use headend_loadgen::wire;
use rtcp_types::{Bye, Compound, RtcpPacketWriterExt, SenderReport};
use rtp_types::RtpPacketBuilder;
use rtsp_types::{Message, Method, Request, Response, StatusCode, Version, headers};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

const PACKETS: u16 = 60;
/// Packets sent after TEARDOWN by a server that ends only then.
const PACKETS_AFTER: u16 = 20;
const TRACKS: u8 = 2;
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\n\
    a=range:npt=0-2\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n\
    m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\na=control:trackID=1\r\n";

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// This packet of track 0 is not sent.
    dropped: Option<u16>,
    /// The last packet of track 1 is not sent.
    drops_tail: bool,
    /// This packet of track 0 is sent after the next.
    swapped: Option<u16>,
    /// SETUP is refused.
    refuses_setup: bool,
    /// The title goes on until TEARDOWN, which is answered by BYE, some packets, and a reply.
    plays_until_teardown: bool,
    /// DESCRIBE is answered with this place instead.
    redirects_to: Option<SocketAddr>,
    /// Requests without a password are refused.
    wants_password: bool,
    /// Media goes out ahead of the reply to PLAY, so that it has come when the window begins.
    sends_ahead: bool,
}

/// Serves `connections` connections; the threads end with their connections.
fn server(faults: Faults, connections: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            let stream = stream.expect("connection");
            thread::spawn(move || Peer::new(stream, faults).serve());
        }
    });
    address
}

struct Peer {
    stream: TcpStream,
    faults: Faults,
    /// RTP and RTCP destination per track; none when interleaved.
    ports: Vec<Option<(u16, u16)>>,
    sockets: (UdpSocket, UdpSocket),
    /// Reply to TEARDOWN that waits until the client has read everything else.
    held_reply: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream, faults: Faults) -> Self {
        let socket = || UdpSocket::bind("127.0.0.1:0").expect("socket");
        let sockets = (socket(), socket());
        Self { stream, faults, ports: Vec::new(), sockets, held_reply: Vec::new() }
    }

    fn serve(mut self) {
        let (mut held, mut buffer) = (Vec::new(), [0; 4_096]);
        loop {
            while let Some((item, taken)) = wire::next_item(&held).expect("client speaks RTSP") {
                let message = match item {
                    wire::Item::Message(message) => Some(message),
                    wire::Item::Interleaved { .. } => None,
                };
                held.drain(..taken);
                match message {
                    Some(Message::Request(request)) => self.answer(&request),
                    Some(Message::Response(_)) => {
                        let reply = std::mem::take(&mut self.held_reply);
                        self.stream.write_all(&reply).expect("sent");
                    }
                    _ => {}
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(length) => held.extend_from_slice(&buffer[..length]),
            }
        }
    }

    fn answer(&mut self, request: &Request<Vec<u8>>) {
        let cseq = request.header(&headers::CSEQ).expect("cseq").as_str();
        let is_describe = *request.method() == Method::Describe;
        let elsewhere = self.faults.redirects_to.filter(|_| is_describe);
        let is_known = request.header(&headers::AUTHORIZATION).is_some_and(|sent| {
            sent.as_str().starts_with("Digest ") && sent.as_str().contains("username=\"me\"")
        });
        let is_stranger = self.faults.wants_password && !is_known;
        let refused = *request.method() == Method::Setup && self.faults.refuses_setup;
        let status = match () {
            () if is_stranger => StatusCode::Unauthorized,
            () if elsewhere.is_some() => StatusCode::Found,
            () if refused => StatusCode::NotEnoughBandwidth,
            () => StatusCode::Ok,
        };
        let mut reply = Response::builder(Version::V1_0, status).header(headers::CSEQ, cseq);
        let mut body = Vec::new();
        if let Some(place) = elsewhere {
            reply = reply.header(headers::LOCATION, format!("rtsp://{place}/b"));
        }
        if is_stranger {
            let challenge = "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";
            reply = reply.header(headers::WWW_AUTHENTICATE, challenge);
        }
        match request.method() {
            _ if is_stranger || elsewhere.is_some() => {}
            Method::Describe => body = SDP.as_bytes().to_vec(),
            Method::Setup if !refused => {
                let asked = request.header(&headers::TRANSPORT).expect("transport").as_str();
                let ports = asked.split("client_port=").nth(1).map(|ports| {
                    let (rtp, rtcp) = ports.split_once('-').expect("pair");
                    (rtp.parse().expect("port"), rtcp.parse().expect("port"))
                });
                let track = self.ports.len();
                self.ports.push(ports);
                let rtcp_port = self.sockets.1.local_addr().expect("address").port();
                let transport = format!("{asked};ssrc={track:08X};server_port=9-{rtcp_port}");
                reply = reply.header(headers::TRANSPORT, transport);
                reply = reply.header(headers::SESSION, "fake;timeout=30");
            }
            Method::Play => {
                let info = (0..TRACKS).map(|n| format!("url=trackID={n};seq=65530;rtptime=1"));
                reply = reply.header(headers::RTP_INFO, info.collect::<Vec<_>>().join(","));
            }
            _ => {}
        }
        let mut bytes = Vec::new();
        reply.build(body).write(&mut bytes).expect("reply");
        match request.method() {
            _ if is_stranger => {}
            Method::Play if self.faults.sends_ahead => self.play(),
            Method::Teardown if self.faults.plays_until_teardown => {
                self.end_behind_teardown();
                self.held_reply = bytes;
                return;
            }
            _ => {}
        }
        self.stream.write_all(&bytes).expect("sent");
        if *request.method() == Method::Play && !self.faults.sends_ahead {
            self.play();
        }
    }

    fn play(&mut self) {
        for track in 0..TRACKS {
            self.send_title(track);
            if !self.faults.plays_until_teardown {
                self.say_bye(track, PACKETS);
            }
        }
    }

    /// The count of the BYE covers packets the client has not got when it says TEARDOWN, and RTCP
    /// comes first. The client reads UDP no later than in the turn in which it answers OPTIONS.
    fn end_behind_teardown(&mut self) {
        for track in 0..TRACKS {
            self.say_bye(track, PACKETS + PACKETS_AFTER);
            self.send_packets(track, PACKETS..PACKETS + PACKETS_AFTER);
        }
        let mut bytes = Vec::new();
        let options = Request::builder(Method::Options, Version::V1_0).header(headers::CSEQ, "1");
        options.empty().write(&mut bytes).expect("request");
        self.stream.write_all(&bytes).expect("sent");
    }

    fn send_title(&mut self, track: u8) {
        let mut order: Vec<u16> = (0..PACKETS).collect();
        if track == 0 {
            order.retain(|&n| Some(n) != self.faults.dropped);
            if let Some(at) = order.iter().position(|&n| Some(n) == self.faults.swapped) {
                order.swap(at, at + 1);
            }
        } else if self.faults.drops_tail {
            order.pop();
        }
        self.send_packets(track, order);
    }

    fn send_packets(&mut self, track: u8, numbers: impl IntoIterator<Item = u16>) {
        for number in numbers {
            let packet = RtpPacketBuilder::<&[u8], &[u8]>::new()
                .payload_type(96 + track)
                .ssrc(u32::from(track))
                .sequence_number(65_530u16.wrapping_add(number))
                .timestamp(1 + u32::from(number) * 3_600)
                .payload(b"media".as_slice())
                .write_vec()
                .expect("packet");
            self.send(track, false, &packet);
        }
    }

    fn say_bye(&mut self, track: u8, packet_count: u16) {
        let mut report = vec![0; 128];
        let ssrc = u32::from(track);
        let length = Compound::builder()
            .add_packet(SenderReport::builder(ssrc).packet_count(u32::from(packet_count)))
            .add_packet(Bye::builder().add_source(ssrc))
            .write_into(&mut report)
            .expect("report");
        self.send(track, true, &report[..length]);
    }

    fn send(&mut self, track: u8, is_rtcp: bool, packet: &[u8]) {
        match self.ports[usize::from(track)] {
            None => {
                let mut frame = Vec::new();
                wire::push_interleaved(&mut frame, track * 2 + u8::from(is_rtcp), packet);
                self.stream.write_all(&frame).expect("sent");
            }
            Some((rtp, rtcp)) => {
                let to = self.stream.peer_addr().expect("peer").ip();
                let (socket, port) =
                    if is_rtcp { (&self.sockets.1, rtcp) } else { (&self.sockets.0, rtp) };
                socket.send_to(packet, (to, port)).expect("sent");
            }
        }
    }
}

fn play(faults: Faults, sessions: usize, arguments: &[&str]) -> Report {
    play_for(&["--to-end"], faults, sessions, arguments)
}

fn play_for(time: &[&str], faults: Faults, sessions: usize, arguments: &[&str]) -> Report {
    let url = format!("rtsp://{}/a", server(faults, sessions));
    let count = sessions.to_string();
    let all = [&["x", &url, "-n", &count, "--ramp", "10000"], time, arguments].concat();
    let options = Options::try_parse_from(all).expect("options");
    run::run(&options).expect("report")
}

const WAYS: [&[&str]; 3] = [
    &["--transport", "udp"],
    &["--transport", "udp", "--shared-ports", "off"],
    &["--transport", "tcp"],
];

#[test]
fn flawless_server_gives_a_flawless_report() {
    for way in WAYS {
        let report = play(Faults::default(), 20, way);
        let text = report.to_string();
        assert_eq!(report.sessions.ended_by_server, 20, "{way:?}\n{text}");
        assert_eq!(report.total.packets, 20 * 2 * u64::from(PACKETS), "{way:?}\n{text}");
        assert_eq!((report.total.lost, report.total.byes), (0, 40), "{way:?}\n{text}");
        assert!(!report.is_failure(true), "{way:?}\n{text}");
    }
}

#[test]
fn dropped_packets_are_reported_as_lost() {
    for way in WAYS {
        let report = play(Faults { dropped: Some(20), ..Faults::default() }, 3, way);
        assert_eq!((report.total.lost, report.total.lost_at_start), (3, 0), "{way:?}");
        assert!(report.is_failure(true) && !report.is_failure(false));
    }
}

#[test]
fn packet_dropped_at_either_end_is_reported_as_lost() {
    for way in WAYS {
        let faults = Faults { dropped: Some(0), drops_tail: true, ..Faults::default() };
        let total = play(faults, 2, way).total;
        assert_eq!((total.lost, total.lost_at_start, total.lost_at_end), (4, 2, 2), "{way:?}");
    }
}

// Servers count what they sent up to the moment they read our TEARDOWN, and that was reported as a
// lost tail of sessions that had only stopped to look.
#[test]
fn bye_that_answers_teardown_is_no_loss() {
    for way in WAYS {
        let faults = Faults { plays_until_teardown: true, sends_ahead: true, ..Faults::default() };
        let report = play_for(&["--duration", "100ms"], faults, 3, way);
        let (total, text) = (&report.total, report.to_string());
        assert_eq!(report.sessions.completed, 3, "{way:?}\n{text}");
        assert_eq!(total.packets, 3 * 2 * u64::from(PACKETS), "{way:?}\n{text}");
        assert_eq!((total.lost, total.lost_at_end, total.byes), (0, 0, 6), "{way:?}\n{text}");
        assert!(!report.is_failure(true), "{way:?}\n{text}");
    }
}

#[test]
fn tail_dropped_before_the_end_of_the_title_is_lost_though_the_run_ends_with_it() {
    for way in WAYS {
        let faults = Faults { drops_tail: true, sends_ahead: true, ..Faults::default() };
        // The window is over before the sessions have looked at their tails.
        let total = play_for(&["--duration", "1ms"], faults, 3, way).total;
        assert_eq!((total.lost, total.lost_at_end), (3, 3), "{way:?}");
    }
}

#[test]
fn swapped_packets_are_reported_as_reordered_and_not_lost() {
    for way in WAYS {
        let report = play(Faults { swapped: Some(30), ..Faults::default() }, 2, way);
        assert_eq!((report.total.lost, report.total.reordered), (0, 2), "{way:?}");
    }
}

#[test]
fn refused_sessions_are_counted_by_reason() {
    let report = play(Faults { refuses_setup: true, ..Faults::default() }, 4, &[]);
    assert_eq!(report.sessions.failed, 4);
    assert_eq!(report.sessions.failures.get("SETUP answered with 453"), Some(&4));
    assert!(report.is_failure(false));
}

#[test]
fn session_that_is_sent_elsewhere_plays_there() {
    let place = server(Faults::default(), 6);
    for way in &WAYS[..2] {
        let report = play(Faults { redirects_to: Some(place), ..Faults::default() }, 3, way);
        let (s, text) = (&report.sessions, report.to_string());
        assert_eq!((s.connected, s.redirected, s.ended_by_server), (3, 3, 3), "{text}");
        assert_eq!(report.total.packets, 3 * 2 * u64::from(PACKETS), "{text}");
    }
}

#[test]
fn session_that_is_sent_on_and_on_fails() {
    let end = server(Faults::default(), 1);
    let between = server(Faults { redirects_to: Some(end), ..Faults::default() }, 1);
    let report = play(Faults { redirects_to: Some(between), ..Faults::default() }, 1, &[]);
    assert_eq!(report.sessions.failures.get("redirected more than once"), Some(&1));
}

#[test]
fn password_of_the_url_opens_a_server_that_asks_for_one() {
    let play_as = |user: &str| {
        let server = server(Faults { wants_password: true, ..Faults::default() }, 1);
        let url = format!("rtsp://{user}{server}/a");
        let all = ["x", &url, "-n", "1", "--to-end", "--transport", "tcp"];
        run::run(&Options::try_parse_from(all).expect("options")).expect("report")
    };
    let report = play_as("me:secret@");
    assert_eq!(report.sessions.ended_by_server, 1, "{report}");
    assert!(!report.to_json().contains("secret"));
    let report = play_as("");
    assert_eq!(report.sessions.failures.get("DESCRIBE answered with 401"), Some(&1), "{report}");
}

#[test]
fn stalled_reader_needs_a_connection_to_leave_unread() {
    let options = Options::try_parse_from(["x", "rtsp://127.0.0.1:1/a", "--stall", "1"]);
    let result = run::run(&options.expect("options"));
    assert!(matches!(result, Err(RunError::StallWithoutTcp)));
}

#[test]
fn server_that_is_not_there_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0").expect("listener");
    let url = format!("rtsp://{}/a", free.local_addr().expect("address"));
    drop(free);
    let options = Options::try_parse_from(["x", &url]).expect("options");
    assert!(matches!(run::run(&options), Err(RunError::Unreachable { .. })));
}

#[test]
fn json_report_has_the_figures_of_the_table() {
    let report = play(Faults { dropped: Some(9), ..Faults::default() }, 1, &[]);
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    assert_eq!(json["total"]["lost"], 1);
    assert_eq!(json["media"]["video"]["lost"], 1);
    assert_eq!(json["sessions"]["ended_by_server"], 1);
    assert_eq!(json["media"]["audio"]["lateness"]["count"], u64::from(PACKETS));
    assert!(json["answers"]["PLAY"]["p99_ms"].is_number());
}

#[test]
fn exit_code_tells_success_failure_usage_and_unreachable() {
    let code = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_headend-loadgen"));
        command.args(arguments).output().expect("program").status.code()
    };
    let lossy = Faults { dropped: Some(20), ..Faults::default() };
    let url = |faults| format!("rtsp://{}/a", server(faults, 1));
    assert_eq!(code(&["-n1", "--to-end", "--fail-on-loss", &url(Faults::default())]), Some(0));
    assert_eq!(code(&["-n1", "--to-end", &url(lossy)]), Some(0));
    assert_eq!(code(&["-n1", "--to-end", "--fail-on-loss", &url(lossy)]), Some(1));
    assert_eq!(code(&["-n1", "http://127.0.0.1/"]), Some(2));
    let free = TcpListener::bind("127.0.0.1:0").expect("listener");
    let closed = format!("rtsp://{}/a", free.local_addr().expect("address"));
    drop(free);
    assert_eq!(code(&["-n1", &closed]), Some(3));
}
