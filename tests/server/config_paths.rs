//! The configuration of paths as publishers, readers and operators meet it: who may publish, who
//! takes a path from whom, and a file that is read again under readers of other paths.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use serde_json::{Value, json};

use crate::support::http::{get_json, list, post};
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::{PATIENCE, until};

const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:streamid=0\r\n";

/// A publisher of G.711 over TCP, who sends when the test says so.
struct Publisher {
    client: Client,
    seq: u16,
}

impl Publisher {
    fn start(server: &Server, path: &str) -> Self {
        let (mut client, status) = announce(server, path);
        assert_eq!(status, 200, "{}", server.log());
        let url = server.url(path);
        let transport = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";
        let track = format!("{url}/streamid=0");
        let setup = client.request("SETUP", &track, &[("Transport", transport)]).expect(200);
        client.request("RECORD", &url, &[("Session", &setup.session_id())]).expect(200);
        Self { client, seq: 0 }
    }

    /// Sends so many packets more.
    fn send(&mut self, count: u16) {
        for _ in 0..count {
            let [high, low] = self.seq.to_be_bytes();
            let time = (u32::from(self.seq) * 160).to_be_bytes();
            let header = [&[0x80, 0, high, low][..], &time, &[0, 0, 0, 9], &[7; 160]].concat();
            self.client.send_raw([&[b'$', 0, 0, 172][..], &header].concat());
            self.seq += 1;
        }
    }
}

fn announce(server: &Server, path: &str) -> (Client, u16) {
    let mut client = Client::connect(server.rtsp);
    let headers = [("Content-Type", "application/sdp")];
    let status = client.request_with_body("ANNOUNCE", &server.url(path), &headers, SDP).status;
    (client, status)
}

fn with_config(config: &str) -> Server {
    Server::start(&Options { shards: "2", config: Some(config), ..Options::default() })
}

/// Puts another file in place of the server's, and has it read.
fn reload(server: &Server, config: &str) -> (u16, Value) {
    server.write_config(config);
    let (status, body) = post(server.admin, "/v1/config:reload");
    (status, serde_json::from_str(&body).unwrap())
}

/// A reader that plays what is published to a path: its packets without a gap so far.
fn reader(server: &Server, path: &str, lower: Lower, publisher: &mut Publisher) -> Session {
    publisher.send(1);
    let arrived = || {
        let paths = list(get_json(server.admin, "/v1/paths"));
        paths.iter().any(|known| known["path"] == path && known["batches"] != 0)
    };
    until("the first packet has come", arrived);
    let mut session = Session::open(server.rtsp, &server.url(path), lower);
    session.play(&[]);
    session
}

/// Receives until the stream has `count` packets, and looks whether all of them are there.
fn assert_has(session: &mut Session, count: usize) {
    let has = session.receive_until(PATIENCE, |streams| streams[0].packets.len() >= count);
    let seqs: Vec<u16> = session.streams[0].packets.iter().map(|packet| packet.seq).collect();
    assert!(has, "{seqs:?}");
    assert!(seqs.windows(2).all(|two| two[1] == two[0].wrapping_add(1)), "a gap: {seqs:?}");
}

#[test]
fn reload_does_not_disturb_readers_of_other_paths() {
    let server = with_config("[path.\"live/b\"]\nhold = \"5s\"\n[path.\"live/d\"]\n");
    let mut publisher = Publisher::start(&server, "live/a");
    let mut readers = [Lower::Udp, Lower::Tcp, Lower::Udp]
        .map(|lower| reader(&server, "live/a", lower, &mut publisher));
    publisher.send(5);
    let counts = readers.each_mut().map(|reader| {
        assert_has(reader, 5);
        reader.streams[0].packets.len()
    });
    let text = "[path.\"live/b\"]\nhold = \"6s\"\n[path.\"live/c\"]\nstart = \"live\"\n\
        [vod]\nquality = \"off\"\n";
    let (status, report) = reload(&server, text);
    assert_eq!(status, 200, "{report}");
    for (key, names) in [
        ("added", ["live/c"]),
        ("changed", ["live/b"]),
        ("removed", ["live/d"]),
        ("needs_restart", ["vod.quality"]),
    ] {
        assert_eq!(report[key], json!(names), "{key}");
    }
    publisher.send(20);
    for (reader, count) in readers.iter_mut().zip(counts) {
        assert_has(reader, count + 20);
    }
}

#[test]
fn wrong_file_is_refused_with_its_place_and_the_running_configuration_stays() {
    let server = with_config("[path.\"live/a\"]\npublish = []\n");
    assert_eq!(announce(&server, "live/a").1, 403);
    let (status, problem) = reload(&server, "[path.\"live/a\"]\npublsh = []\n");
    assert_eq!(status, 422, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("headend.toml:2:1: ") && detail.contains("`publish`"), "{detail}");
    server.signal_hup();
    until("the log says so too", || server.log().matches("HE-E403").count() == 2);
    assert_eq!(announce(&server, "live/a").1, 403, "as before");
    let (status, report) = reload(&server, "");
    assert_eq!((status, &report["removed"][0]), (200, &json!("live/a")));
    assert_eq!(announce(&server, "live/a").1, 200);
}

#[test]
fn hangup_has_the_file_read_again() {
    let server = with_config("[path.\"*\"]\npublish = []\n");
    assert_eq!(announce(&server, "live/a").1, 403);
    server.assert_logs("`publish` of [path.\\\"*\\\"]");
    server.write_config("[path.\"live/a\"]\n");
    server.signal_hup();
    until("the path may be published to", || announce(&server, "live/a").1 == 200);
    server.assert_logs("the configuration was read again");
}

#[test]
fn server_without_a_file_has_nothing_to_read_again() {
    let server = Server::with_demo();
    let (status, body) = post(server.admin, "/v1/config:reload");
    assert_eq!(status, 409, "{body}");
    assert!(body.contains("-c FILE"), "{body}");
}

#[test]
fn second_publisher_takes_over_with_override_and_readers_continue() {
    let server = with_config("[path.\"live/a\"]\noverride = true\n");
    let mut first = Publisher::start(&server, "live/a");
    let mut reader = reader(&server, "live/a", Lower::Tcp, &mut first);
    first.send(5);
    assert_has(&mut reader, 5);
    let count = reader.streams[0].packets.len();
    let mut second = Publisher::start(&server, "live/a");
    first.client.assert_closed();
    second.seq = 30_000;
    second.send(10);
    // Its numbers go on where those of the first ended.
    assert_has(&mut reader, count + 10);
}

#[test]
fn new_source_url_ends_the_publisher_of_a_path() {
    let server = with_config("");
    let mut publisher = Publisher::start(&server, "live/a");
    publisher.send(1);
    let source = "source = \"rtsp://user:s3cret@127.0.0.1:1/x\"\non_demand = true\n";
    let (status, report) = reload(&server, &format!("[path.\"live/a\"]\n{source}"));
    assert_eq!((status, &report["added"][0]), (200, &json!("live/a")));
    publisher.client.assert_closed();
    assert_eq!(announce(&server, "live/a").1, 403);
    assert!(!server.log().contains("s3cret"), "{}", server.log());
}

#[test]
fn path_that_is_fetched_always_is_started_with_the_server_and_by_a_reload() {
    // Nobody listens there: it is tried again and again.
    let source = "source = \"rtsp://127.0.0.1:1/x\"\n";
    let server = with_config(&format!("[path.\"live/one\"]\n{source}"));
    let names = || -> Vec<String> {
        let paths = list(get_json(server.admin, "/v1/paths"));
        // What is said of a path is shown before anybody wants it.
        let wanted = paths.iter().filter(|path| path["state"] != "idle");
        wanted.map(|path| path["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(), ["live/one"]);
    let on_demand = "[path.\"live/late\"]\non_demand = true\n";
    let text = format!("{on_demand}{source}[path.\"live/two\"]\n{source}");
    assert_eq!(reload(&server, &text).0, 200);
    // The answer comes when every shard goes by it.
    assert_eq!(names(), ["live/two"]);
    assert_eq!(reload(&server, "").0, 200);
    assert!(names().is_empty());
}

#[test]
fn publishing_over_the_network_is_allowed_by_the_configuration_alone() {
    let start = |config| {
        let listen = "0.0.0.0:0";
        Server::start(&Options { listen, config: Some(config), ..Options::default() })
    };
    let server = start("");
    if server.rtsp.ip().is_loopback() {
        println!("this machine has no address but loopback: nothing to see");
        return;
    }
    assert_eq!(announce(&server, "live/a").1, 403, "from {}", server.rtsp.ip());
    let own = format!("[path.\"~^live/\"]\npublish = [\"{}\"]\n", server.rtsp.ip());
    let (status, _) = reload(&server, &own);
    assert_eq!(status, 200);
    assert_eq!(announce(&server, "live/a").1, 200);
    assert_eq!(announce(&server, "other").1, 403, "the pattern is not for this one");
    let server = start("[path.\"*\"]\npublish = [\"any\"]\n");
    assert!(server.banner.contains("HE-W106"), "{}", server.banner);
    assert_eq!(announce(&server, "other").1, 200);
}
