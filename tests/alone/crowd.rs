//! A crowd at a live path: a made-up film of `headend-loadgen --publish`, read by hundreds over UDP
//! and TCP; a reader that stops beside others who do not; a publisher that comes back.
//!
//! Losses are counted by the readers, by sequence number. How long packets take is printed for
//! people and judged nowhere: the machine that runs the tests may be busy with anything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support;
use crate::support::http;
use crate::support::process::{Kept, PLAYER_PATIENCE, run_any};
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server, loadgen};
use crate::support::session::{Lower, Session, Stream};
use crate::support::wait::{PATIENCE, until};
use serde_json::Value;

/// What a run of the load generator has found.
fn report(args: &[&str]) -> Value {
    let args = [args, &["--json"]].concat();
    let run = run_any(&loadgen().to_string_lossy(), &args, Duration::from_secs(180));
    println!("{}", run.stdout);
    assert!(run.status.success(), "{}\n{}", run.stdout, run.stderr);
    serde_json::from_str(&run.stdout).expect("a JSON report")
}

/// Publishes until it is dropped.
fn publish(url: &str, more: &[&str]) -> Kept {
    let mut command = Command::new(loadgen());
    command.args(["--publish", url, "--duration", "1h"]).args(more);
    Kept(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn wait_until_described(server: &Server, url: &str) {
    let describe = || Client::connect(server.rtsp).request("DESCRIBE", url, &[]).status;
    until("the path is published", || describe() == 200);
}

fn count(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {report}"))
}

#[test]
fn crowd_over_udp_and_tcp_on_two_shards_loses_nothing() {
    let _machine = crate::shared();
    let mut server = Server::start(&Options { shards: "2", ..Options::default() });
    let url = server.url("live/crowd");
    // Over TCP: what is lost or turned around on the way to the server is so for all.
    let way = ["--publish", &url, "--publish-transport", "tcp"];
    let film = ["--bit-rate", "600k", "--gop", "25", "--sound"];
    let crowd = ["-n", "300", "--transport", "udp=1,tcp=1", "--duration", "4s", "--fail-on-loss"];
    let report = report(&[&way[..], &film, &crowd, &[&url]].concat());
    assert_eq!(count(&report, "/sessions/completed"), 300, "{report}");
    for oddity in ["lost", "silent", "reordered", "duplicates", "malformed", "breaks"] {
        assert_eq!(count(&report, &format!("/total/{oddity}")), 0, "{oddity}: {report}");
    }
    // Zero lost of nothing would be no proof.
    assert!(count(&report, "/published/pictures") >= 100, "{report}");
    assert!(count(&report, "/media/audio/packets") > 300 * 150, "{report}");
    assert!(count(&report, "/media/video/added/count") > 300 * 50, "{report}");
    for shard in ["0", "1"] {
        let of = |line: &&str| line.starts_with("headend_rtp_packets_sent_total{");
        let (_, text) = http::get(server.admin, "/metrics");
        let lines = text.lines().filter(of);
        let sent = lines.filter(|line| line.contains(&format!("shard=\"{shard}\"")));
        let sent: f64 =
            sent.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
        assert!(sent > 0.0, "shard {shard} has had readers");
    }
    server.assert_alive();
}

#[test]
fn stalled_reader_skips_without_effect_on_other_readers() {
    let _machine = crate::shared();
    let server = Server::with_demo();
    let url = server.url("live/crowd");
    let _publisher = publish(&url, &["--bit-rate", "4M", "--gop", "25"]);
    wait_until_described(&server, &url);
    let crowd = {
        let url = url.clone();
        std::thread::spawn(move || {
            let stalled = ["--stall", "3", "--stall-after", "500ms"];
            let all = ["-n", "30", "--transport", "udp=1,tcp=2", "--duration", "8s"];
            report(&[&all[..], &stalled, &["--fail-on-loss", &url]].concat())
        })
    };
    let mut stopped = Session::open(server.rtsp, &url, Lower::Tcp);
    socket2::SockRef::from(stopped.client.stream()).set_recv_buffer_size(16 << 10).unwrap();
    let mut healthy = Session::open(server.rtsp, &url, Lower::Tcp);
    for session in [&mut stopped, &mut healthy] {
        session.play(&[]);
        session.receive_packets(50, PATIENCE);
    }
    // Three times its lag budget passes, by the film's own clock, while it reads nothing.
    let begin = healthy.streams[0].packets.last().unwrap().timestamp;
    let has_passed = |streams: &[Stream]| {
        let last = streams[0].packets.last().unwrap().timestamp;
        last.wrapping_sub(begin) >= 6 * HZ
    };
    assert!(healthy.receive_until(PLAYER_PATIENCE, has_passed), "the film goes on");
    let gaps = |streams: &[Stream]| -> Vec<u32> {
        let pairs = streams[0].packets.windows(2);
        let steps = pairs.map(|pair| {
            assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1), "numbers go on in any case");
            assert_eq!(pair[1].ssrc, pair[0].ssrc);
            pair[1].timestamp.wrapping_sub(pair[0].timestamp)
        });
        steps.filter(|step| *step > HZ / 25).collect()
    };
    assert!(gaps(&healthy.streams).is_empty(), "a picture each 40 ms");
    let has_skipped = |streams: &[Stream]| !gaps(streams).is_empty();
    assert!(stopped.receive_until(PLAYER_PATIENCE, has_skipped), "it goes on with what is new");
    stopped.receive_packets(50, PATIENCE);
    let gaps = gaps(&stopped.streams);
    assert!(gaps.len() == 1 && gaps[0] > HZ, "{gaps:?}");
    let packets = &stopped.streams[0].packets;
    let step = |pair: &[support::rtp::Rtp]| pair[1].timestamp.wrapping_sub(pair[0].timestamp) > HZ;
    let behind = packets.windows(2).position(step).unwrap() + 1;
    // An FU-A that starts an IDR slice (RFC 6184 s5.8).
    assert_eq!(packets[behind].payload[1], 0x85, "with a key picture");
    let report = crowd.join().unwrap();
    assert_eq!(count(&report, "/sessions/stalled"), 3, "{report}");
    assert_eq!((count(&report, "/sessions/completed"), count(&report, "/total/lost")), (30, 0));
}

#[test]
fn publisher_that_comes_back_is_no_loss_to_its_readers() {
    let _machine = crate::shared();
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let url = server.url("live/crowd");
    let first = publish(&url, &["--bit-rate", "500k", "--publish-transport", "tcp"]);
    wait_until_described(&server, &url);
    let crowd = {
        let url = url.clone();
        let args = ["-n", "40", "--transport", "udp=1,tcp=1", "--duration", "6s", "--fail-on-loss"];
        std::thread::spawn(move || report(&[&args[..], &[&url]].concat()))
    };
    let playing = || {
        let sessions = http::sessions(server.admin);
        sessions.iter().filter(|session| session["state"] == "playing").count()
    };
    until("all play", || playing() == 40);
    drop(first);
    let _publisher = publish(&url, &["--bit-rate", "500k", "--seed", "9"]);
    // A reader that comes now is served by the second one.
    wait_until_described(&server, &url);
    let mut late = Session::open(server.rtsp, &url, Lower::Udp);
    late.play(&[]);
    late.receive_packets(30, PLAYER_PATIENCE);
    let report = crowd.join().unwrap();
    assert_eq!(count(&report, "/sessions/completed"), 40, "{report}");
    for oddity in ["lost", "wrong_ssrc", "breaks"] {
        assert_eq!(count(&report, &format!("/total/{oddity}")), 0, "{oddity}: {report}");
    }
}

#[test]
fn made_up_film_is_what_decoders_understand() {
    let _machine = crate::shared();
    let server = Server::with_demo();
    let url = server.url("live/film");
    let _publisher = publish(&url, &["--bit-rate", "400k", "--gop", "10", "--sound"]);
    wait_until_described(&server, &url);
    let input = ["-hide_banner", "-v", "warning", "-nostdin", "-rtsp_transport", "tcp", "-i", &url];
    let output = ["-frames:v", "30", "-f", "framemd5", "-map", "0:v", "-"];
    let decoded = run_any("ffmpeg", &[&input[..], &["-xerror"], &output].concat(), PLAYER_PATIENCE);
    assert!(decoded.status.success(), "{}", decoded.stderr);
    for wrong in ["error", "corrupt", "conceal", "missing"] {
        assert!(!decoded.stderr.contains(wrong), "{}", decoded.stderr);
    }
    let mut hashes: Vec<&str> = decoded
        .stdout
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit(',').next().unwrap().trim())
        .collect();
    assert_eq!(hashes.len(), 30, "{}", decoded.stdout);
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 30, "every picture is another one");
}

/// Of H.264 in RTP.
const HZ: u32 = 90_000;
