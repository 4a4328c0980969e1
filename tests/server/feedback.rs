//! Feedback on live paths over the wire (RFC 4585, RFC 5104, RFC 4588): raw readers that lose
//! packets and pictures, raw publishers that are asked for key pictures or must not be; and
//! descriptions that follow the parameter sets in band.
//!
//! ```text
//! raw publisher, GStreamer --RTP------> server --RTP, RTX--> raw reader, FFmpeg
//!                          <-PLI, FIR--        <-NACK, PLI--
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;

use crate::support;
use crate::support::compare::decoded_frames;
use crate::support::demo_clip;
use crate::support::http::metric;
use crate::support::live::wait_until_described;
use crate::support::players::{
    assert_read_from_a_key_frame, frames_in, launch, read_frames, sender,
};
use crate::support::process::Kept;
use crate::support::rtp::{Rtp, assert_contiguous};
use crate::support::rtsp::{Client, Received};
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session, UdpPair};
use crate::support::wait::{Deadline, PATIENCE, readable, until};

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xd9];
const PPS: &[u8] = &[0x68, 0xcb, 0x83];
const PLI: &str = "a=rtcp-fb:96 nack pli\r\n";

/// H.264 without parameter sets.
fn sdp(profile: &str, feedback: &str) -> String {
    format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 {profile} 96\r\n\
         a=rtpmap:96 H264/90000\r\n{feedback}a=control:streamid=0\r\n"
    )
}

/// One who publishes `live/a`, packet by packet.
struct Publisher {
    client: Client,
    session: String,
    way: Way,
    ssrc: u32,
    seq: u16,
    ts: u32,
}

/// How its packets go.
enum Way {
    Udp { pair: UdpPair, rtp: SocketAddr },
    Tcp,
}

impl Publisher {
    fn start(server: &Server, sdp: &str, is_udp: bool, (ssrc, seq): (u32, u16)) -> Self {
        let pair = is_udp.then(|| UdpPair::bind(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let profile = if sdp.contains("RTP/AVPF") { "RTP/AVPF" } else { "RTP/AVP" };
        let transport = match &pair {
            Some(pair) => pair.transport().replace("RTP/AVP", profile),
            None => format!("{profile}/TCP;unicast;interleaved=0-1"),
        };
        let (client, session, server_port) = announce(server, sdp, &transport);
        let way = match pair {
            Some(pair) => Way::Udp { pair, rtp: (server.rtsp.ip(), server_port.unwrap()).into() },
            None => Way::Tcp,
        };
        Self { client, session, way, ssrc, seq, ts: 90_000 }
    }

    fn send(&mut self, payload: &[u8], marker: bool) {
        let mut bytes = vec![0x80, 96 | u8::from(marker) << 7];
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ts.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(payload);
        match &self.way {
            Way::Udp { pair, rtp } => {
                pair.rtp.send_to(&bytes, rtp).unwrap();
            }
            Way::Tcp => {
                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                self.client.send_raw([&[b'$', 0][..], &length, &bytes].concat());
            }
        }
        self.seq = self.seq.wrapping_add(1);
        self.ts += if marker { 3_600 } else { 0 };
    }

    /// A picture that needs no other, its sets in front.
    fn send_key_picture(&mut self, number: u8) {
        self.send(SPS, false);
        self.send(PPS, false);
        self.send(&[0x65, 0x88, 0x80, number], true);
    }

    fn send_picture(&mut self, number: u8) {
        self.send(&[0x41, 0x9a, 0x20, number], true);
    }

    /// RTCP that comes next, as packet type and bytes of each packet.
    fn receive_report(&mut self) -> Vec<(u8, Vec<u8>)> {
        let bytes = match &self.way {
            Way::Udp { pair, .. } => {
                let deadline = Deadline::after(PATIENCE);
                assert!(readable(&[pair.rtcp.as_fd()], deadline)[0], "no RTCP for the publisher");
                let mut block = [0; 2_048];
                let bytes = pair.rtcp.recv(&mut block).unwrap();
                block[..bytes].to_vec()
            }
            Way::Tcp => match self.client.receive(Deadline::after(PATIENCE)) {
                Some(Received::Frame(1, data)) => data,
                other => panic!("{other:?}"),
            },
        };
        split(&bytes)
    }

    /// The next request for a key picture, as FMT and what stands behind the sender's SSRC.
    fn receive_picture_request(&mut self) -> (u8, Vec<u8>) {
        // Bounded: a report comes every five seconds.
        for _ in 0..10 {
            let packets = self.receive_report();
            assert_eq!(packets[0].0, 201, "a report first");
            if let Some((_, bytes)) = packets.iter().find(|(kind, _)| *kind == 206) {
                return (bytes[0] & 0x1f, bytes[8..].to_vec());
            }
        }
        panic!("no request");
    }

    fn stop(mut self, server: &Server) {
        let headers = [("Session", self.session.as_str())];
        self.client.request("TEARDOWN", &server.url("live/a"), &headers).expect(200);
    }
}

/// ANNOUNCE, SETUP and RECORD of `live/a`: connection, session and the server's port.
fn announce(server: &Server, sdp: &str, transport: &str) -> (Client, String, Option<u16>) {
    let (mut client, url) = (Client::connect(server.rtsp), server.url("live/a"));
    let headers = [("Content-Type", "application/sdp")];
    client.request_with_body("ANNOUNCE", &url, &headers, sdp).expect(200);
    let transport = format!("{transport};mode=record");
    let headers = [("Transport", transport.as_str())];
    let setup = client.request("SETUP", &format!("{url}/streamid=0"), &headers).expect(200);
    let profile = transport.split([';', '/']).nth(1).unwrap();
    assert_eq!(setup.header("Transport").unwrap().split([';', '/']).nth(1), Some(profile));
    let session = setup.session_id();
    let ports = setup.transport("server_port").map(|ports| ports.split('-').next().unwrap());
    let port = ports.map(|port| port.parse().unwrap());
    client.request("RECORD", &url, &[("Session", &session)]).expect(200);
    (client, session, port)
}

/// Packets of a compound.
fn split(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut packets = Vec::new();
    while let [_, kind, high, low, ..] = *bytes {
        let (packet, rest) = bytes.split_at(4 + 4 * usize::from(u16::from_be_bytes([high, low])));
        packets.push((kind, packet.to_vec()));
        bytes = rest;
    }
    packets
}

/// An empty report and feedback on `media` behind it.
fn feedback(kind: u8, format: u8, media: u32, behind: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 201, 0, 1, 0, 0, 0, 7, 0x80 | format, kind];
    out.extend(u16::try_from(2 + behind.len() / 4).unwrap().to_be_bytes());
    out.extend(7_u32.to_be_bytes());
    out.extend(media.to_be_bytes());
    out.extend(behind);
    out
}

fn say(session: &Session, server: &Server, bytes: &[u8]) {
    let stream = session.stream("video");
    let to = (server.rtsp.ip(), stream.server_ports().1);
    stream.udp().rtcp.send_to(bytes, to).unwrap();
}

fn nack(session: &Session, server: &Server, lost: u16) {
    let media = session.stream("video").packets[0].ssrc;
    let [high, low] = lost.to_be_bytes();
    say(session, server, &feedback(205, 1, media, &[high, low, 0, 0]));
}

fn receive(session: &mut Session, what: impl Fn(&Rtp) -> bool) -> Rtp {
    let found =
        session.receive_until(PATIENCE, |streams| streams[0].packets.last().is_some_and(&what));
    assert!(found, "{:?}", session.stream("video").packets);
    session.stream("video").packets.last().unwrap().clone()
}

/// The packet that is the `count`th to be sent again.
fn receive_again(session: &mut Session, count: usize) -> Rtp {
    let is_rtx = |packet: &&Rtp| packet.payload_type == 127;
    let found = session.receive_until(PATIENCE, |streams| {
        streams[0].packets.iter().filter(is_rtx).count() == count
    });
    assert!(found, "{:?}", session.stream("video").packets);
    session.stream("video").packets.iter().rfind(is_rtx).unwrap().clone()
}

fn is_picture(number: u8) -> impl Fn(&Rtp) -> bool {
    move |packet| packet.payload.last() == Some(&number)
}

#[test]
fn lost_packet_is_sent_again_also_after_a_change_of_publisher() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let sdp = sdp("RTP/AVP", "");
    let mut publisher = Publisher::start(&server, &sdp, true, (0x1111_1111, 65_530));
    publisher.send_key_picture(1);
    let url = server.url("live/a");
    let mut session = Session::open(server.rtsp, &url, Lower::UdpFeedback);
    let transport = session.streams[0].setup.header("Transport").unwrap();
    assert!(transport.starts_with("RTP/AVPF;"), "{transport}");
    session.play(&[]);
    publisher.send_picture(2);
    let lost = receive(&mut session, is_picture(2));
    let mut seqs = Vec::new();
    for count in 1..=2 {
        nack(&session, &server, lost.seq);
        let again = receive_again(&mut session, count);
        assert_eq!(again.payload, [&lost.seq.to_be_bytes()[..], &lost.payload].concat());
        assert_eq!((again.timestamp, again.marker), (lost.timestamp, true));
        assert_ne!(again.ssrc, lost.ssrc);
        seqs.push(again.seq);
    }
    assert_eq!(seqs[1], seqs[0].wrapping_add(1));
    publisher.stop(&server);
    // Another source goes on under its feet: numbers and times are the reader's own from here on.
    let mut publisher = Publisher::start(&server, &sdp, true, (0x2222_2222, 700));
    publisher.send_key_picture(3);
    publisher.send_picture(4);
    let newer = receive(&mut session, is_picture(4));
    assert_eq!(newer.ssrc, lost.ssrc);
    let mut packets = session.stream("video").packets.clone();
    packets.retain(|packet| packet.payload_type == 96);
    assert_contiguous(&packets);
    nack(&session, &server, newer.seq);
    let again = receive_again(&mut session, 3);
    assert_eq!(again.payload, [&newer.seq.to_be_bytes()[..], &newer.payload].concat());
    assert_eq!(again.timestamp, newer.timestamp);
    // From before the break, and never sent.
    for seq in [lost.seq, newer.seq.wrapping_add(1)] {
        nack(&session, &server, seq);
    }
    until("both are refused", || metric(server.admin, "headend_rtx_refused_total") == Some(2.0));
    assert_eq!(metric(server.admin, "headend_rtx_packets_sent_total"), Some(3.0));
    assert_eq!(metric(server.admin, "headend_nack_received_total"), Some(5.0));
}

#[test]
fn publisher_that_offers_pli_is_sent_pli_over_udp_and_tcp() {
    for is_udp in [true, false] {
        let server = Server::with_demo();
        let sdp = sdp("RTP/AVPF", PLI);
        let mut publisher = Publisher::start(&server, &sdp, is_udp, (0x0102_0304, 1));
        publisher.send_picture(1);
        let url = server.url("live/a");
        let mut session = Session::open(server.rtsp, &url, Lower::Udp);
        // Answered without a picture after a while; the publisher is asked for one at once.
        session.play(&[]);
        assert_eq!(publisher.receive_picture_request(), (1, vec![1, 2, 3, 4]));
        publisher.send_key_picture(2);
        let media = receive(&mut session, is_picture(2)).ssrc;
        say(&session, &server, &feedback(206, 1, media, &[]));
        assert_eq!(publisher.receive_picture_request(), (1, vec![1, 2, 3, 4]));
    }
}

#[test]
fn publisher_that_offers_fir_alone_is_sent_fir_with_a_new_number_each_time() {
    let server = Server::with_demo();
    let fir = "a=rtcp-fb:* ccm fir\r\n";
    let mut publisher = Publisher::start(&server, &sdp("RTP/AVPF", fir), true, (0x0102_0304, 1));
    publisher.send_picture(1);
    let mut session = Session::open(server.rtsp, &server.url("live/a"), Lower::Udp);
    session.play(&[]);
    let request = |number| (4, vec![0, 0, 0, 0, 1, 2, 3, 4, number, 0, 0, 0]);
    assert_eq!(publisher.receive_picture_request(), request(0));
    publisher.send_key_picture(2);
    let media = receive(&mut session, is_picture(2)).ssrc;
    say(&session, &server, &feedback(206, 1, media, &[]));
    assert_eq!(publisher.receive_picture_request(), request(1));
}

#[test]
fn publisher_that_offers_neither_pli_nor_fir_is_sent_neither() {
    for (profile, offered) in [("RTP/AVP", PLI), ("RTP/AVPF", "a=rtcp-fb:96 nack\r\n")] {
        let server = Server::with_demo();
        let mut publisher = Publisher::start(&server, &sdp(profile, offered), true, (9, 1));
        publisher.send_picture(1);
        let mut session = Session::open(server.rtsp, &server.url("live/a"), Lower::Udp);
        session.play(&[]);
        publisher.send_key_picture(2);
        let media = receive(&mut session, is_picture(2)).ssrc;
        say(&session, &server, &feedback(206, 1, media, &[]));
        let count = |name| metric(server.admin, name);
        until("the request has come", || {
            count("headend_picture_requests_received_total") == Some(1.0)
        });
        assert_eq!(count("headend_picture_requests_sent_total"), Some(0.0));
        // The next report, and nothing with it.
        let kinds: Vec<_> = publisher.receive_report().into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [201, 202], "{profile} {offered}");
    }
}

#[test]
fn gstreamer_publishes_a_key_frame_after_a_readers_picture_loss() {
    let server = Server::with_demo();
    let url = server.url("live/a");
    let pipeline = format!(
        "-q videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120 \
         ! vp8enc deadline=1 keyframe-max-dist=100000 ! video/x-vp8,profile=(string)0 \
         ! rtspclientsink location={url} protocols=udp profiles=avpf"
    );
    let log = tempfile::NamedTempFile::new_in(support::scratch()).unwrap();
    let _publisher = launch(&pipeline, log.path());
    wait_until_described(&server, "live/a");
    let mut session = Session::open(server.rtsp, &url, Lower::Udp);
    session.play(&[]);
    let begins = |packets: &[Rtp]| packets.iter().filter(|p| begins_vp8_key_picture(p)).count();
    assert!(session.receive_until(PATIENCE, |streams| streams[0].packets.len() > 20));
    assert_eq!(begins(&session.streams[0].packets), 1, "its first picture");
    let media = session.streams[0].packets[0].ssrc;
    say(&session, &server, &feedback(206, 1, media, &[]));
    assert!(session.receive_until(PATIENCE, |streams| begins(&streams[0].packets) == 2));
}

/// RFC 7741 s4.2, s4.3.
fn begins_vp8_key_picture(packet: &Rtp) -> bool {
    let payload = &packet.payload;
    let mut header_bytes = 1;
    if payload[0] & 0x80 != 0 {
        header_bytes += 1;
        if payload[1] & 0x80 != 0 {
            header_bytes += if payload[2] & 0x80 != 0 { 2 } else { 1 };
        }
        header_bytes += usize::from(payload[1] & 0x40 != 0) + usize::from(payload[1] & 0x30 != 0);
    }
    payload[0] & 0x17 == 0x10 && payload[header_bytes] & 1 == 0
}

#[test]
fn parameter_sets_in_band_are_in_the_description_and_ffmpeg_decodes_by_them() {
    let server = Server::with_demo();
    let pair = UdpPair::bind(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (sdp, ports) = (sdp("RTP/AVP", ""), (pair.port(), pair.port() + 1));
    let (_client, _, to) = announce(&server, &sdp, &pair.transport());
    drop(pair);
    let described = || {
        let url = server.url("live/a");
        Client::connect(server.rtsp).request("DESCRIBE", &url, &[]).expect(200).body
    };
    wait_until_described(&server, "live/a");
    // Nobody waits for them any more.
    assert!(!described().contains("sprop"), "{}", described());
    let _encoder = send_by_rtp(&demo_clip(), to.unwrap(), ports);
    until("the sets are described", || described().contains("sprop-parameter-sets=Z"));
    let level = described().contains("a=fmtp:96 packetization-mode=1;profile-level-id=");
    assert!(level, "{}", described());
    let to = tempfile::NamedTempFile::new_in(support::scratch()).unwrap();
    let mut reader = read_frames(&server.url("live/a"), "udp", 40, to.path(), &[""; 0]);
    reader.assert_ends_well("reader");
    let got = frames_in(to.path());
    let clip = demo_clip().to_string_lossy().into_owned();
    let all = decoded_frames(&["-stream_loop", "1", "-i", &clip], 0);
    assert_eq!(got.len(), 40);
    assert_read_from_a_key_frame("path", &got, &all);
}

/// The clip's picture over and over, its parameter sets in front of each key frame.
fn send_by_rtp(clip: &Path, to: u16, (rtp, rtcp): (u16, u16)) -> Kept {
    let url = format!("rtp://127.0.0.1:{to}?localrtpport={rtp}&localrtcpport={rtcp}");
    // FFmpeg writes the description to its standard output.
    let mut command = sender(clip, &["-stream_loop", "-1"]);
    command.args(["-map", "0:v", "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "rtp", &url]);
    Kept::start(command.stdout(Stdio::null()))
}
