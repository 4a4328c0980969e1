//! Fail-over with raw clients: connections that close, a camera and an input that go, and an
//! operator's switch by the API and by the command line.
//!
//! `source_timeout` is so long here that silence ends no source: only its end does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::{Shutdown, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use crate::support;
use crate::support::camera::{Camera, Udp, Wants};
use crate::support::http::{get_json, post_text};
use crate::support::process::{Finished, PLAYER_PATIENCE, run_any};
use crate::support::publish::{Publisher, SOUND, rtp};
use crate::support::rtp::assert_contiguous;
use crate::support::server::{Options, Server, binary};
use crate::support::session::{Lower, Session};
use crate::support::wait::until;

const CONFIG: &str = "[path.\"live/a\"]\nfallback = [\"live/b\"]\nstandby = true\n\
    return_after = \"0s\"\nswitch_interval = \"100ms\"\nsource_timeout = \"10m\"\nhold = \"1m\"\n";

fn serve(config: &str) -> Server {
    Server::start(&Options { shards: "2", config: Some(config), ..Options::default() })
}

/// Sound that somebody publishes, a packet with each call.
struct Sound {
    publisher: Publisher,
    seq: u16,
    ssrc: u32,
}

impl Sound {
    fn start(server: &Server, path: &str, ssrc: u32) -> Self {
        let publisher = Publisher::start(server, path, SOUND, Lower::Tcp);
        Self { publisher, seq: 0, ssrc }
    }

    fn send(&mut self) {
        let payload = [u8::try_from(self.ssrc).unwrap(); 160];
        let packet = rtp(0, self.seq, u32::from(self.seq) * 160, self.ssrc, &payload);
        self.publisher.rtp(0, &packet);
        self.seq = self.seq.wrapping_add(1);
    }
}

fn failover(server: &Server) -> Value {
    get_json(server.admin, "/v1/paths/live/a")["failover"].clone()
}

fn wait_until_fed_from(server: &Server, path: &str, mut send: impl FnMut()) {
    until(path, || {
        send();
        failover(server)["active"] == path
    });
}

fn headend(server: &Server, words: &[&str]) -> Finished {
    let admin = server.admin.to_string();
    run_any(binary().to_str().unwrap(), &[words, &["--admin", &admin]].concat(), PLAYER_PATIENCE)
}

#[test]
fn connection_of_a_publisher_that_is_closed_or_reset_is_a_loss_at_once() {
    let server = serve(CONFIG);
    let mut b = Sound::start(&server, "live/b", 2);
    wait_until_fed_from(&server, "live/b", || b.send());
    let mut reader = Session::open(server.rtsp, &server.url("live/a"), Lower::Udp);
    reader.play(&[]);
    for is_reset in [false, true] {
        let mut a = Sound::start(&server, "live/a", 1);
        wait_until_fed_from(&server, "live/a~0", || {
            a.send();
            b.send();
        });
        let stream = a.publisher.client.stream();
        if is_reset {
            let at_once = Some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(stream, at_once).unwrap();
            drop(a);
        } else {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        wait_until_fed_from(&server, "live/b", || b.send());
        let failover = failover(&server);
        assert_eq!(failover["last_switch"]["cause"], "lost", "{failover}");
        let own = &failover["sources"][0];
        assert_eq!((&own["name"], &own["state"]), (&"publish".into(), &"down".into()), "{own}");
    }
    until("the reader is served on", || {
        b.send();
        reader.drain();
        reader.stream("audio").packets.len() > 10
    });
    assert_contiguous(&reader.stream("audio").packets);
}

#[test]
fn camera_that_goes_is_left_at_once_and_taken_again_when_it_is_back() {
    let camera = Camera::start(Wants::Nothing, Udp::Refused);
    let url = format!("rtsp://{}/x", camera.address);
    let config = CONFIG.replace("fallback", &format!("source = \"{url}\"\nfallback"));
    let server = serve(&config);
    let mut b = Sound::start(&server, "live/b", 2);
    wait_until_fed_from(&server, "live/a~0", || b.send());
    drop(camera);
    wait_until_fed_from(&server, "live/b", || b.send());
    assert_eq!(failover(&server)["last_switch"]["cause"], "lost");
    let shown = failover(&server);
    assert_eq!(
        (&shown["sources"][0]["name"], &shown["sources"][1]["name"]),
        (&url.into(), &"live/b".into())
    );
}

/// Without `standby` the camera is connected when it is needed.
#[test]
fn camera_is_a_fallback_that_is_connected_for_a_loss_and_closed_after_the_return() {
    let camera = Camera::start(Wants::Nothing, Udp::Refused);
    let has_closed = |camera: &Camera, times: usize| {
        let requests = camera.requests();
        requests.iter().filter(|line| line.starts_with("TEARDOWN")).count() >= times
    };
    let (url, shown) =
        (format!("rtsp://u:p@{}/x", camera.address), format!("rtsp://{}/x", camera.address));
    let config = CONFIG.replace("live/b", &url).replace("standby = true\n", "");
    let server = serve(&config);
    let mut a = Sound::start(&server, "live/a", 1);
    wait_until_fed_from(&server, "live/a~0", || a.send());
    until("nobody needs the camera", || {
        a.send();
        has_closed(&camera, 1) || camera.requests().is_empty()
    });
    let before = camera.requests().len();
    drop(a);
    wait_until_fed_from(&server, "live/a~1", || {});
    assert!(camera.requests().len() > before);
    let failover = failover(&server);
    let gap_ms = failover["last_switch"]["gap_ms"].as_u64().unwrap();
    println!("{gap_ms} ms for the connection of a camera on this machine");
    assert!(gap_ms < 10_000, "{failover}");
    assert_eq!(failover["sources"][1]["name"], shown, "without the password");
    let mut a = Sound::start(&server, "live/a", 3);
    wait_until_fed_from(&server, "live/a~0", || a.send());
    until("the camera is left", || {
        a.send();
        has_closed(&camera, if before == 0 { 1 } else { 2 })
    });
}

#[test]
fn input_without_packets_is_left_after_its_timeout() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() & !1;
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    let file = folder.path().join("input.sdp");
    let sdp = format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\n"
    );
    std::fs::write(&file, sdp).unwrap();
    let source = format!("source = \"file:{}\"\nfallback", file.display());
    let config = CONFIG.replace("fallback", &source).replace("10m", "500ms");
    let server = serve(&config);
    let mut b = Sound::start(&server, "live/b", 2);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut seq = 0_u16;
    wait_until_fed_from(&server, "live/a~0", || {
        b.send();
        let packet = rtp(0, seq, u32::from(seq) * 160, 9, &[9; 160]);
        sender.send_to(&packet, ("127.0.0.1", port)).unwrap();
        seq += 1;
    });
    wait_until_fed_from(&server, "live/b", || b.send());
    let shown = failover(&server);
    assert_eq!(shown["last_switch"]["cause"], "lost", "{shown}");
    assert!(shown["last_switch"]["gap_ms"].as_u64().unwrap() < 5_000, "{shown}");
    // The input may be the first to notice.
    let reason = shown["sources"][0]["reason"].as_str().unwrap();
    assert!(["no packets for 500ms", "its source has gone"].contains(&reason), "{shown}");
}

#[test]
fn operator_switches_by_api_and_command_line_and_sees_the_sources() {
    let server = serve(&CONFIG.replace("10m", "10s"));
    let (mut a, mut b) = (Sound::start(&server, "live/a", 1), Sound::start(&server, "live/b", 2));
    wait_until_fed_from(&server, "live/a~0", || {
        a.send();
        b.send();
    });
    until("the standby sends", || {
        a.send();
        b.send();
        failover(&server)["sources"][1]["state"] == "standby"
    });
    let mut done = None;
    until("the source has not changed just now", || {
        a.send();
        b.send();
        let words = ["path", "switch", "live/a", "--to", "live/b", "--at", "now"];
        done = Some(headend(&server, &words)).filter(|done| done.status.success());
        done.is_some()
    });
    let done = done.unwrap();
    assert!(done.stdout.starts_with("live/a: fed from live/b instead of live/a~0, "), "{done:?}");
    assert!(done.stdout.contains("it stays until another switch, or the loss"), "{done:?}");
    let shown = headend(&server, &["path", "show", "live/a"]);
    assert!(shown.stdout.contains("active, pinned"), "{shown:?}");
    assert!(shown.stdout.contains("switched live/a~0 to live/b (operator) at "), "{shown:?}");
    let listed = headend(&server, &["path", "ls"]);
    assert!(listed.stdout.contains("(2 of 2 good, pinned)"), "{listed:?}");

    let unknown = headend(&server, &["path", "switch", "live/a", "--to", "live/c"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(unknown.stderr.contains("it has publish (live/a~0), live/b"), "{unknown:?}");
    let ask = |path: &str, to: &str| {
        post_text(server.admin, &format!("/v1/paths/{path}:switch"), &format!(r#"{{"to":"{to}"}}"#))
    };
    assert_eq!(ask("live/b", "0").0, 400, "it has no fallbacks");
    assert_eq!(ask("live/x", "0").0, 404);
    assert_eq!(ask("live/a", "9").0, 404);
    let (status, body) = ask("live/a", "auto");
    assert_eq!((status, body.contains("\"pinned\":false")), (200, true), "{body}");
    wait_until_fed_from(&server, "live/a~0", || {
        a.send();
        b.send();
    });
    server.assert_logs("path live/a is fed from live/b instead of live/a~0 (operator)");
}
