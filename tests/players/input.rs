//! Sources that listen: FFmpeg sends MPEG-TS and RTP to an address, to groups on loopback and as a
//! description tells; FFmpeg and GStreamer read it as a live path, from a key frame on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use crate::support;
use crate::support::compare::{coded_bytes, decoded_frames, hashes};
use crate::support::demo_clip;
use crate::support::live::state;
use crate::support::players::{
    assert_read_from_a_key_frame, assert_sound_without_a_gap, frames_in, frames_of, read_frames,
    send_file,
};
use crate::support::process::{Kept, PLAYER_PATIENCE, run, run_any, wait_for};
use crate::support::server::{Options, Server};
use crate::support::wait::until;

#[test]
fn transport_stream_is_read_as_it_was_sent() {
    let to = free_address("127.0.0.1");
    let server = server_of(&format!("udp://{to}"), "");
    // FFmpeg fills 1,472 bytes: packets are cut anywhere.
    let _sender = send(&["-f", "mpegts", &format!("udp://{to}")]);
    is_read_as_sent(&server, "a transport stream");
}

#[test]
fn transport_stream_in_rtp_is_read_as_it_was_sent() {
    let to = free_address("127.0.0.1");
    let server = server_of(&format!("udp://0.0.0.0:{}", to.port()), "");
    let _sender = send(&["-f", "rtp_mpegts", &format!("rtp://{to}")]);
    is_read_as_sent(&server, "a transport stream in RTP");
}

#[test]
fn group_is_read_as_it_was_sent_from_anyone_and_from_one_sender_alone() {
    for (group, source) in [("239.77.1.2", ""), ("232.77.1.2", "source=127.0.0.1&")] {
        let to = free_address(group);
        let server = server_of(&format!("udp://{to}?{source}interface=lo"), "");
        let url = format!("udp://{to}?localaddr=127.0.0.1&pkt_size=1316");
        let _sender = send(&["-f", "mpegts", &url]);
        is_read_as_sent(&server, group);
    }
}

#[test]
fn datagrams_of_a_sender_other_than_the_configured_one_are_dropped() {
    let to = free_address("232.77.1.3");
    let server = server_of(&format!("udp://{to}?source=192.0.2.1&interface=lo"), "");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_ip_multicast_if(&socket, &std::net::Ipv4Addr::LOCALHOST).unwrap();
    for _ in 0..20 {
        socket.send_to(&transport_packets(7), to).unwrap();
    }
    assert_eq!(state(&server, PATH), "starting");
    assert!(!server.log().contains("source received"), "{}", server.log());
}

#[test]
fn description_in_a_file_gives_each_track_as_it_was_sent() {
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    let file = folder.path().join("cam.sdp");
    let [video, sound] = ["127.0.0.1"; 2].map(|ip| format!("rtp://{}", free_address(ip)));
    let name = file.to_str().unwrap();
    let outputs = ["-map", "0:0", "-c", "copy", "-f", "rtp", &video];
    let outputs = [&outputs[..], &["-map", "0:1", "-c", "copy", "-f", "rtp", &sound]].concat();
    // The description is written when sending begins; this time nobody listens.
    let clip = demo_clip().to_string_lossy().into_owned();
    let once = ["-hide_banner", "-loglevel", "error", "-nostdin", "-t", "0.1", "-i", &clip];
    run("ffmpeg", &[&once[..], &outputs, &["-sdp_file", name]].concat());
    let server = server_of(&format!("file:{name}"), "");
    let _sender = send_file(&demo_clip(), &[], &outputs);
    let sound = folder.path().join("sound");
    is_read_as(&server, "a description", &["-map", "0:1", "-c", "copy", "-t", "1"], &sound);
    let (got, all) = (std::fs::read(&sound).unwrap(), coded_bytes(&demo_clip(), 1));
    assert_sound_without_a_gap("a description", &got, &all, 50);
}

#[test]
fn gstreamer_shows_a_transport_stream_from_a_key_frame_on() {
    let to = free_address("127.0.0.1");
    let server = server_of(&format!("udp://{to}"), "");
    let _sender = send(&["-f", "mpegts", &format!("udp://{to}?pkt_size=1316")]);
    until("the source is there", || state(&server, PATH) == "live");
    let out = tempfile::Builder::new().suffix(".h264").tempfile_in(support::scratch()).unwrap();
    let (url, to) = (server.url(PATH), out.path().to_str().unwrap());
    let pipeline = format!(
        "rtspsrc location={url} ! rtpmp2tdepay ! tsdemux ! h264parse \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! identity eos-after={FRAMES_MIN} \
         ! filesink location={to}"
    );
    let args: Vec<&str> = ["-q"].into_iter().chain(pipeline.split_whitespace()).collect();
    run_any("gst-launch-1.0", &args, PLAYER_PATIENCE);
    let got = decoded_frames(&["-i", to], 0);
    // What the decoder still held back at the end is not judged.
    assert_is_part("GStreamer", &got[..got.len().min(FRAMES_MIN - 10)], FRAMES_MIN - 10);
}

#[test]
fn readers_continue_when_a_silent_source_returns() {
    let to = free_address("127.0.0.1");
    let server = server_of(&format!("udp://{to}"), "hold = \"60s\"");
    let url = format!("udp://{to}");
    let mut first = send(&["-f", "mpegts", &url]);
    until("the source is there", || state(&server, PATH) == "live");
    let out = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = out.path().join("frames");
    // More than both senders have.
    let mut reader = read_frames(&server.url(PATH), "tcp", 1_000, &to, &[""; 0]);
    let frames = || std::fs::read_to_string(&to).map_or(0, |text| hashes(&text).len());
    until("the reader shows pictures", || frames() > 0);
    first.kill();
    until("the source is lost", || state(&server, PATH) == "held");
    assert_eq!(readers(&server), 1);
    let _second = send(&["-f", "mpegts", &url]);
    until("the source is back", || state(&server, PATH) == "live");
    let before = frames();
    until("the reader shows more", || frames() > before);
    let _ended = reader.0.kill();
}

#[test]
fn on_demand_source_is_open_while_it_has_readers() {
    let to = free_address("127.0.0.1");
    let server = server_of(&format!("udp://{to}"), "on_demand = true\nidle_close = \"1s\"");
    let may_bind = || UdpSocket::bind(to).is_ok();
    assert!(may_bind(), "nobody listens");
    let _sender = send(&["-f", "mpegts", &format!("udp://{to}")]);
    is_read_as_sent(&server, "on demand");
    until("nobody listens any more", may_bind);
}

#[test]
fn input_that_cannot_be_received_is_logged_with_its_reason() {
    let to = free_address("127.0.0.1");
    let server = server_of(&format!("udp://{to}"), "");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let named = |words: &str| server.log().contains(words);
    let mut seq = 0_u8;
    until("RTP of a dynamic type is refused", || {
        seq = seq.wrapping_add(1);
        let packet = [0x80, 96, 0, seq, 0, 0, 0, 0, 0, 0, 0, 1, b'x'];
        socket.send_to(&packet, to).unwrap();
        named("RTP of payload type 96") && named("file:NAME.sdp")
    });
    // The path is none the worse for it: it is tried again.
    until("a transport stream is taken", || {
        socket.send_to(&transport_packets(7), to).unwrap();
        state(&server, PATH) == "live"
    });
    drop(server);
    let holder = UdpSocket::bind(to).unwrap();
    let server = server_of(&format!("udp://{to}"), "");
    until("a port that is taken is named", || {
        server.log().contains(&format!("cannot listen at {to}"))
    });
    drop((server, holder));
    let server = server_of("file:/nowhere/cam.sdp", "");
    until("a file that is not there is named", || {
        server.log().contains("/nowhere/cam.sdp cannot be read: No such file")
    });
}

#[test]
fn garbage_and_packets_of_other_senders_do_not_disturb_a_source() {
    let to = free_address("127.0.0.1");
    let server = server_of(&format!("udp://{to}"), "");
    let _sender = send(&["-f", "mpegts", &format!("udp://{to}")]);
    until("the source is there", || state(&server, PATH) == "live");
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let out = tempfile::tempdir_in(support::scratch()).unwrap();
    let frames = out.path().join("frames");
    let mut reader = read_frames(&server.url(PATH), "tcp", FRAMES_MIN, &frames, &[""; 0]);
    let mut status = None;
    until("the reader has what it wants", || {
        for bytes in [&b"x"[..], &[0x80; 1_400], &transport_packets(7), &[0x47; 9_000], &[]] {
            stranger.send_to(bytes, to).unwrap();
        }
        status = reader.0.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
    assert_is_part("beside strangers", &frames_in(&frames), FRAMES_MIN);
}

/// A server with one path, always fetched unless `more` says otherwise.
fn server_of(source: &str, more: &str) -> Server {
    let config = format!("[path.\"{PATH}\"]\nsource = \"{source}\"\n{more}\n");
    Server::start(&Options { shards: "2", config: Some(&config), ..Options::default() })
}

/// Sends the clip at its own speed.
fn send(output: &[&str]) -> Kept {
    send_file(&demo_clip(), &[], &[&["-c", "copy"], output].concat())
}

fn is_read_as_sent(server: &Server, what: &str) {
    is_read_as(server, what, &[], Path::new(""));
}

/// Two readers, over UDP and TCP, get pictures of the clip from a key frame on, without a gap. The
/// second one keeps what else is asked for in `other`.
fn is_read_as(server: &Server, what: &str, more: &[&str], other: &Path) {
    let out = tempfile::tempdir_in(support::scratch()).unwrap();
    let extra = [more, &["-f", "data", other.to_str().unwrap()]].concat();
    let mut readers = ["udp", "tcp"].map(|way| {
        let to = out.path().join(way);
        let extra = if way == "tcp" && !more.is_empty() { &extra[..] } else { &[] };
        (read_frames(&server.url(PATH), way, FRAMES_MIN, &to, extra), to)
    });
    for (reader, to) in &mut readers {
        let status = wait_for(&mut reader.0, PLAYER_PATIENCE);
        let what = format!("{what}: {}", to.display());
        assert!(status.is_some_and(|status| status.success()), "{what}\n{}", server.log());
        assert_is_part(&what, &frames_in(to), FRAMES_MIN);
    }
}

/// Pictures are those of the clip from one of its key frames on.
fn assert_is_part(what: &str, got: &[String], count: usize) {
    assert!(got.len() >= count, "{what}: {} frames", got.len());
    assert_read_from_a_key_frame(what, got, &frames_of(&demo_clip()));
}

fn readers(server: &Server) -> usize {
    let sessions = support::http::sessions(server.admin);
    sessions.iter().filter(|session| session["state"] == "playing").count()
}

/// A port of `ip`, or of a group, that nobody has.
fn free_address(ip: &str) -> SocketAddr {
    // Even, with the next one free, as RTP wants it.
    let pairs = (0..100).find_map(|_| {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        (port.is_multiple_of(2) && UdpSocket::bind(("127.0.0.1", port + 1)).is_ok()).then_some(port)
    });
    SocketAddr::new(ip.parse().unwrap(), pairs.unwrap())
}

/// Packets of MPEG-TS that say nothing (PID 0x1fff).
fn transport_packets(count: usize) -> Vec<u8> {
    let mut packet = [0xff; 188];
    packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
    packet.repeat(count)
}

const PATH: &str = "live/in";
/// Two groups of pictures and a half.
const FRAMES_MIN: usize = 60;
