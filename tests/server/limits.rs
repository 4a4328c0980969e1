//! Limits on what strangers can grow: what one too many is told, that everybody else is served, and
//! that used and limit can be read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use serde_json::Value;

use crate::support::baseline::{Baseline, serve_fresh_client};
use crate::support::http::{get_json, list, metric};
use crate::support::network::{OTHER_HOSTS, in_own_network};
use crate::support::process::run_command;
use crate::support::publish::{Publisher, SOUND, announce, rtp};
use crate::support::rtsp::{Client, Received};
use crate::support::secure::{self, SecureClient};
use crate::support::server::{Options, Server, binary};
use crate::support::session::Lower;
use crate::support::tunnel;
use crate::support::wait::{Deadline, PATIENCE, until};

fn start(config: &str) -> Server {
    Server::start(&Options { config: Some(config), ..Options::default() })
}

/// A row of `GET /v1/limits`.
fn limit(server: &Server, what: &str) -> Value {
    let rows = list(get_json(server.admin, "/v1/limits"));
    let row = rows.iter().find(|row| row["what"] == what);
    row.unwrap_or_else(|| panic!("no {what} in {rows:?}")).clone()
}

fn used(server: &Server, what: &str) -> u64 {
    limit(server, what)["used"].as_u64().unwrap()
}

/// The one answer that comes without a request, and the end of the connection.
fn last_words(client: &mut Client) -> u16 {
    let status = client.response().status;
    client.assert_closed();
    status
}

#[test]
fn request_that_does_not_come_in_time_is_answered_with_408_whatever_is_said_meanwhile() {
    let mut server = start("[limits]\nrequest_timeout = \"1s\"\n");
    let baseline = Baseline::of(&server);
    // Says nothing; a part of a request; a byte whenever one is taken; all but the body.
    let mut silent = Client::connect(server.rtsp);
    let mut part = Client::connect(server.rtsp);
    part.send_raw("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n");
    let mut body = Client::connect(server.rtsp);
    body.send_raw("SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 9\r\n\r\n12345678");
    // Has made a request before.
    let mut known = Client::connect(server.rtsp);
    known.request("OPTIONS", "*", &[]).expect(200);
    known.send_raw("OPTIONS * RTSP/1.0\r\n");
    for client in [&mut silent, &mut part, &mut body, &mut known] {
        assert_eq!(last_words(client), 408);
    }
    let slow = Client::connect(server.rtsp);
    let endless = b"OPTIONS * RTSP/1.0\r\nX: ".iter().copied().chain(std::iter::repeat(b'a'));
    let deadline = Deadline::after(PATIENCE);
    let mut answer = None;
    for byte in endless {
        assert!(!deadline.has_passed(), "it may go on for ever");
        let _ended = slow.stream().write_all(&[byte]);
        std::thread::park_timeout(std::time::Duration::from_millis(20));
        slow.stream().set_nonblocking(true).unwrap();
        let mut bytes = [0; 12];
        let read = (&mut slow.stream()).read(&mut bytes);
        slow.stream().set_nonblocking(false).unwrap();
        match read {
            Ok(0) => break,
            Ok(_) => {
                answer = Some(String::from_utf8_lossy(&bytes).into_owned());
                break;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_reset) => break,
        }
    }
    assert!(answer.is_none_or(|answer| answer == "RTSP/1.0 408"));
    let timed_out = metric(server.admin, "headend_rtsp_requests_timed_out_total").unwrap();
    assert!(timed_out >= 5.0, "{timed_out}");
    drop((silent, part, body, known, slow));
    baseline.assert_back(&mut server, "slow requests");
}

#[test]
fn session_outlives_the_time_for_a_request() {
    let server = start("[limits]\nrequest_timeout = \"1s\"\n");
    let mut publisher = Publisher::start(&server, "live/a", SOUND, Lower::Tcp);
    // A part of a frame, while others are ended for less.
    publisher.client.send_raw([b'$', 0, 0, 200, 1, 2, 3]);
    assert_eq!(last_words(&mut Client::connect(server.rtsp)), 408);
    assert_eq!(last_words(&mut Client::connect(server.rtsp)), 408);
    publisher.client.send_raw([0; 197]);
    publisher.request("GET_PARAMETER").expect(200);
}

#[test]
fn tunnel_whose_heads_came_in_pieces_outlives_the_time_for_a_request() {
    let server = start("[limits]\nrequest_timeout = \"1s\"\n");
    let open = |method: &str| {
        let mut half = Client::connect(server.rtsp);
        let head = tunnel::head(method, "cookie-of-this-test");
        let (first, rest) = head.split_at(20);
        half.send_raw(first);
        half.send_raw(rest);
        half
    };
    let down = open("GET");
    let mut stream = down.stream();
    let mut opened = [0; 12];
    stream.read_exact(&mut opened).unwrap();
    assert_eq!(&opened, b"HTTP/1.0 200");
    let mut up = open("POST");
    let mut say = |cseq: u32| {
        let request = format!("OPTIONS * RTSP/1.0\r\nCSeq: {cseq}\r\n\r\n");
        up.send_raw(base64::engine::general_purpose::STANDARD.encode(request));
    };
    let hear = |cseq: u32| {
        let (mut text, mut block) = (String::new(), [0; 512]);
        while !text.contains(&format!("CSeq: {cseq}\r\n")) {
            let bytes = (&mut down.stream()).read(&mut block).unwrap();
            assert!(bytes > 0, "the tunnel has ended: {text}");
            text.push_str(&String::from_utf8_lossy(&block[..bytes]));
        }
    };
    say(1);
    hear(1);
    for _ in 0..3 {
        assert_eq!(last_words(&mut Client::connect(server.rtsp)), 408);
    }
    say(2);
    hear(2);
}

#[test]
fn request_that_is_too_long_is_told_what_of_it_is() {
    let server = start("[limits]\nrequest_head = \"4KiB\"\nrequest_body = \"2KiB\"\n");
    let url = server.demo_url();
    let ask = |line: &str, headers: &str, body: &str| {
        let mut client = Client::connect(server.rtsp);
        let head = format!("{line} RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n{body}");
        let _cut_short = client.stream().write_all(head.as_bytes());
        client.response().status
    };
    let long = |bytes: usize| "x".repeat(bytes);
    assert_eq!(ask(&format!("OPTIONS {url}"), &format!("X: {}\r\n", long(3_000)), ""), 200);
    assert_eq!(ask(&format!("OPTIONS {url}"), &format!("X: {}\r\n", long(5_000)), ""), 431);
    assert_eq!(ask(&format!("OPTIONS {url}"), &"X: y\r\n".repeat(100), ""), 431);
    assert_eq!(ask(&format!("OPTIONS {url}/{}", long(9_000)), "", ""), 414);
    let length = |bytes: usize| format!("Content-Length: {bytes}\r\n");
    assert_eq!(ask(&format!("SET_PARAMETER {url}"), &length(2_049), ""), 413);
    assert_eq!(ask(&format!("SET_PARAMETER {url}"), &length(2_048), &" ".repeat(2_048)), 200);
    assert_eq!(used(&server, "request_body_bytes"), 2_048);
    assert!((3_000..4_097).contains(&used(&server, "request_head_bytes")));
    assert_eq!(limit(&server, "request_head_bytes")["limit"], 4_096);
}

#[test]
fn oldest_half_open_connection_makes_room_and_who_asks_at_once_is_served() {
    let mut server = start("[limits]\nhalf_open_max = 16\n");
    let baseline = Baseline::of(&server);
    let mut held: Vec<_> = (0..16).map(|_| Client::connect(server.rtsp)).collect();
    until("all are there", || used(&server, "half_open_connections") == 16);
    serve_fresh_client(&server, Lower::Tcp);
    assert_eq!(last_words(&mut held[0]), 503);
    assert_eq!(metric(server.admin, "headend_rtsp_half_open_dropped_total"), Some(1.0));
    server.assert_logs("HE-W617");
    // The others may still ask.
    let url = server.demo_url();
    for client in &mut held[1..] {
        client.request("OPTIONS", &url, &[]).expect(200);
    }
    assert_eq!(used(&server, "half_open_connections"), 0);
    drop(held);
    baseline.assert_back(&mut server, "half-open connections");
}

#[test]
fn oldest_handshake_of_tls_makes_room_for_the_next() {
    let config = "[limits]\ntls_handshakes_max = 4\n";
    let (server, _files) = secure::start(config, &Options::default());
    let held: Vec<_> = (0..4).map(|_| TcpStream::connect(server.rtsps()).unwrap()).collect();
    until("all are there", || used(&server, "tls_handshakes") == 4);
    let mut client = SecureClient::connect(server.rtsps());
    let (status, text) = client.request("OPTIONS", &secure::url(&server, "demo"), &[]);
    assert_eq!(status, 200, "{text}");
    let mut first = &held[0];
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0, "the first was ended");
    drop(held);
    until("none is under way", || used(&server, "tls_handshakes") == 0);
}

#[test]
fn unfinished_requests_that_take_too_much_memory_are_refused_and_sessions_stay() {
    let mut server = start("[limits]\nrequests_held = \"1MiB\"\nrequest_body = \"512KiB\"\n");
    let baseline = Baseline::of(&server);
    let mut publisher = Publisher::start(&server, "live/a", SOUND, Lower::Tcp);
    let head = "SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 500000\r\n\r\n";
    let mut hoarders: Vec<_> = (0..4)
        .map(|_| {
            let mut client = Client::connect(server.rtsp);
            client.send_raw(head);
            let _ended = client.stream().write_all(&[b' '; 400_000]);
            client
        })
        .collect();
    until("one is refused", || {
        metric(server.admin, "headend_rtsp_requests_not_held_total").unwrap() >= 1.0
    });
    let limit = 1 << 20;
    assert!(used(&server, "requests_held_bytes") <= limit);
    publisher.client.send_raw([b'$', 0, 0, 200, 1, 2, 3]);
    publisher.client.send_raw([0; 197]);
    publisher.request("GET_PARAMETER").expect(200);
    serve_fresh_client(&server, Lower::Tcp);
    // Those that were not refused may end their requests.
    let mut statuses = Vec::new();
    for client in &mut hoarders {
        let _ended = client.stream().write_all(&[b' '; 100_000]);
        match client.receive(Deadline::after(PATIENCE)) {
            Some(Received::Response(response)) => statuses.push(response.status),
            Some(Received::Closed) => statuses.push(0),
            other => panic!("{other:?}"),
        }
    }
    assert!(statuses.iter().all(|status| [0, 200, 503].contains(status)), "{statuses:?}");
    drop((hoarders, publisher));
    until("nothing is held", || used(&server, "requests_held_bytes") == 0);
    baseline.assert_back(&mut server, "hoarded requests");
}

#[test]
fn publishers_have_a_limit_of_their_own_and_one_that_ends_makes_room() {
    let server = start("[limits]\npublishers_max = 2\n");
    let _first = Publisher::start(&server, "live/a", SOUND, Lower::Tcp);
    let mut second = Publisher::start(&server, "live/b", SOUND, Lower::Tcp);
    assert_eq!((used(&server, "publishers"), used(&server, "sessions")), (2, 2));
    let mut third = Client::connect(server.rtsp);
    let url = server.url("live/c");
    announce(&mut third, &url, SOUND).expect(453);
    assert_eq!(metric(server.admin, "headend_publishers_refused_total"), Some(1.0));
    second.request("TEARDOWN").expect(200);
    announce(&mut third, &url, SOUND).expect(200);
}

#[test]
fn full_memory_for_live_packets_refuses_publishers_and_keeps_those_that_publish() {
    // What a ring keeps when too much is held, an eighth of its buffer, is more than all may have.
    let config = "[limits]\nlive_memory = \"16MiB\"\n[path.\"*\"]\nbuffer = \"256MiB\"\n";
    let server = start(config);
    let mut publisher = Publisher::start(&server, "live/a", SOUND, Lower::Tcp);
    let mut seq = 0_u16;
    let url = server.url("live/b");
    let deadline = Deadline::after(PATIENCE);
    let mut refused = false;
    while !refused {
        assert!(!deadline.has_passed(), "nobody was refused");
        for _ in 0..100 {
            publisher.rtp(0, &rtp(0, seq, u32::from(seq) * 160, 5, &[0; 60_000]));
            seq = seq.wrapping_add(1);
        }
        let mut client = Client::connect(server.rtsp);
        match announce(&mut client, &url, SOUND).status {
            453 => refused = true,
            status => assert_eq!(status, 200),
        }
    }
    assert!(used(&server, "live_bytes") < 48 << 20, "rings keep less then");
    publisher.request("GET_PARAMETER").expect(200);
    publisher.request("TEARDOWN").expect(200);
    until("room is there again", || {
        announce(&mut Client::connect(server.rtsp), &url, SOUND).status == 200
    });
}

#[test]
fn titles_open_have_a_limit_and_one_more_is_told_to_come_again() {
    let folder = tempfile::tempdir_in(crate::support::scratch()).unwrap();
    for name in ["a.m4a", "b.m4a"] {
        let film = crate::support::media::title("aac_m4a").file();
        std::fs::copy(film, folder.path().join(name)).unwrap();
    }
    let config = Some("[limits]\ntitles_open_max = 1\n");
    let server =
        Server::start(&Options { folder: Some(folder.path()), config, ..Options::default() });
    let mut client = Client::connect(server.rtsp);
    let track = format!("{}/trackID=0", server.vod_url("a.m4a"));
    let tcp = ("Transport", "RTP/AVP/TCP;unicast");
    let id = client.request("SETUP", &track, &[tcp]).expect(200).session_id();
    let mut other = Client::connect(server.rtsp);
    let refused = other.request("DESCRIBE", &server.vod_url("b.m4a"), &[]).expect(503);
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(limit(&server, "titles_open")["limit"], 1);
    client.request("TEARDOWN", &server.vod_url("a.m4a"), &[("Session", &id)]).expect(200);
    until("the other one is opened", || {
        other.request("DESCRIBE", &server.vod_url("b.m4a"), &[]).status == 200
    });
}

#[test]
fn flood_of_one_address_keeps_no_other_waiting() {
    let name = "flood_of_one_address_keeps_no_other_waiting";
    in_own_network(module_path!(), name, OTHER_HOSTS, || {
        let config = "[rtsp]\nconnections_per_address_max = 40\n";
        let listen = "10.77.0.1:0";
        let mut server =
            Server::start(&Options { config: Some(config), listen, ..Options::default() });
        let baseline = Baseline::of(&server);
        let stop = AtomicBool::new(false);
        let flooder = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut held = std::collections::VecDeque::new();
                    while !stop.load(Ordering::Relaxed) {
                        held.push_back(Client::connect_from(flooder, server.rtsp));
                        if held.len() > 200 {
                            held.pop_front();
                        }
                    }
                });
            }
            until("the flood is refused", || {
                metric(server.admin, "headend_rtsp_connections_refused_address_total")
                    .is_some_and(|count| count > 100.0)
            });
            for _ in 0..20 {
                serve_fresh_client(&server, Lower::Tcp);
            }
            assert!(used(&server, "connections_per_address") <= 40);
            stop.store(true, Ordering::Relaxed);
        });
        baseline.assert_back(&mut server, "a flood of one address");
    });
}

/// Another address of this host than that of the clients of other tests.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// One address could end the handshakes of all others once, by connecting often enough.
#[test]
fn address_that_begins_handshakes_without_end_ends_its_own_and_no_other() {
    let (server, _files) = secure::start("", &Options::default());
    let mut client = SecureClient::begin(server.rtsps());
    until("its handshake is under way", || used(&server, "tls_handshakes") == 1);
    let held: Vec<_> = (0..300).map(|_| Client::connect_from(STRANGER, server.rtsps())).collect();
    // Of 256 an address of this host may have three quarters.
    until("the stranger has its share", || used(&server, "tls_handshakes") == 1 + 192);
    until("its oldest is ended", || is_ended(&held[107]));
    assert!(!is_ended(&held[108]), "the newest stay");
    client.flush(usize::MAX);
    client.finish_handshake(usize::MAX);
    let (status, text) = client.request("OPTIONS", &secure::url(&server, "demo"), &[]);
    assert_eq!(status, 200, "{text}");
    drop(held);
    until("none is under way", || used(&server, "tls_handshakes") == 0);
}

#[test]
fn address_with_its_share_of_half_open_connections_ends_its_own_and_no_other() {
    let server = start("[limits]\nhalf_open_max = 128\n");
    let mut client = Client::connect(server.rtsp);
    until("it is there", || used(&server, "half_open_connections") == 1);
    let held: Vec<_> = (0..200).map(|_| Client::connect_from(STRANGER, server.rtsp)).collect();
    until("the stranger has its share", || used(&server, "half_open_connections") == 1 + 96);
    until("its oldest is ended", || is_ended(&held[103]));
    client.request("OPTIONS", "*", &[]).expect(200);
    server.assert_logs("HE-W617");
}

/// Tells it by what has come, or by the end of what comes.
fn is_ended(client: &Client) -> bool {
    client.stream().set_nonblocking(true).unwrap();
    let read = client.stream().peek(&mut [0]);
    client.stream().set_nonblocking(false).unwrap();
    !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn address_that_hoards_unfinished_requests_is_refused_and_no_other() {
    let server = start("[limits]\nrequests_held = \"1MiB\"\nrequest_body = \"512KiB\"\n");
    let head = "SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 500000\r\n\r\n";
    let part = |from: IpAddr, bytes: usize| {
        let mut client = Client::connect_from(from, server.rtsp);
        client.send_raw(head);
        let _ended = client.stream().write_all(&vec![b' '; bytes]);
        client
    };
    // An address of this host may have three quarters of it.
    let _first = part(STRANGER, 400_000);
    until("the first is held", || used(&server, "requests_held_bytes") >= 400_000);
    let mut second = part(STRANGER, 400_000);
    match second.receive(Deadline::after(PATIENCE)) {
        Some(Received::Response(response)) => assert_eq!(response.status, 503),
        ended => assert!(matches!(ended, Some(Received::Closed)), "{ended:?}"),
    }
    let mut innocent = part(IpAddr::V4(Ipv4Addr::LOCALHOST), 499_990);
    until("it is held, too", || used(&server, "requests_held_bytes") >= 800_000);
    innocent.send_raw([b' '; 10]);
    assert_eq!(innocent.response().status, 200);
    assert_eq!(metric(server.admin, "headend_rtsp_requests_not_held_total"), Some(1.0));
}

#[test]
fn address_that_begins_tunnels_without_end_ends_its_own_and_no_other() {
    let server = start("");
    let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut down = tunnel::Half::open(own, server.rtsp, "GET", "cookie-of-a-client");
    assert!(down.message().starts_with("HTTP/1.0 200"));
    let begin = |n: usize| {
        let cookie = format!("cookie-of-a-stranger-{n}");
        let mut half = tunnel::Half::open(STRANGER, server.rtsp, "GET", &cookie);
        assert!(half.message().starts_with("HTTP/1.0 200"), "{n}");
        half
    };
    let held: Vec<_> = (0..300).map(begin).collect();
    assert_eq!(used(&server, "half_open_tunnels"), 1 + 192);
    let _up = tunnel::Half::open(own, server.rtsp, "POST", "cookie-of-a-client");
    until("its tunnel is open", || used(&server, "half_open_tunnels") == 192);
    drop(held);
    until("all are gone", || used(&server, "half_open_tunnels") == 0);
}

#[test]
fn every_limit_is_in_the_api_the_metrics_and_the_command_line() {
    let server = start("");
    let rows = list(get_json(server.admin, "/v1/limits"));
    let (_, metrics) = crate::support::http::get(server.admin, "/metrics");
    let readme = include_str!("../../README.md");
    for row in &rows {
        let what = row["what"].as_str().unwrap();
        assert!(row["limit"].as_u64().unwrap() > 0 && row["used"].is_u64(), "{row}");
        for name in ["headend_limit", "headend_limit_used"] {
            let has = |line: &str| {
                line.starts_with(&format!("{name}{{")) && line.contains(&format!("what=\"{what}\""))
            };
            assert!(metrics.lines().any(has), "{name} of {what}");
        }
        assert!(readme.contains(&format!("| `{what}` ")), "README has no row for {what}");
    }
    let mut command = Command::new(binary());
    command.args(["limits", "--admin", &server.admin.to_string()]);
    let shown = run_command(&mut command, PATIENCE);
    assert!(shown.status.success(), "{shown:?}");
    for row in &rows {
        assert!(shown.stdout.contains(row["what"].as_str().unwrap()), "{}", shown.stdout);
    }
}

/// Keys that limit what strangers take, in the order of `config default`. What is not there: keys
/// of `[path]`, which are limits of each path; `GET /v1/paths` shows what a path has.
fn keys_of_limits() -> Vec<String> {
    let shown = run_command(Command::new(binary()).args(["config", "default"]), PATIENCE);
    let mut section = "";
    let mut keys = Vec::new();
    for line in shown.stdout.lines() {
        if let Some(named) = line.strip_prefix('[') {
            section = named.trim_end_matches(']');
        } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ")
            && name.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c))
        {
            keys.push(format!("{section}.{name}"));
        }
    }
    let memory = ["vod.window_cache", "vod.image_memory", "hls.path_memory"];
    let is_limit = |key: &String| {
        !key.starts_with("path.")
            && (key.starts_with("limits.") || key.ends_with("_max") || memory.contains(&&**key))
    };
    keys.into_iter().filter(is_limit).collect()
}

#[test]
fn every_key_of_a_limit_has_a_row_and_every_row_with_a_key_is_one() {
    let server = start("");
    let rows = list(get_json(server.admin, "/v1/limits"));
    let named: Vec<_> = rows.iter().map(|row| row["key"].as_str().unwrap()).collect();
    let keys = keys_of_limits();
    assert!(keys.len() > 20, "{keys:?}");
    let without: Vec<_> = keys.iter().filter(|key| !named.contains(&key.as_str())).collect();
    assert!(without.is_empty(), "keys without a row: {without:?}");
    let is_key = |named: &&&str| !named.is_empty() && !keys.iter().any(|key| key == **named);
    let strange: Vec<_> = named.iter().filter(is_key).collect();
    assert!(strange.is_empty(), "rows of keys that are no limits: {strange:?}");
}

/// An answer of HTTP to what is sent, or to nothing.
fn http_says(from: IpAddr, to: SocketAddr, bytes: &str) -> String {
    let client = Client::connect_from(from, to);
    let _ended = client.stream().write_all(bytes.as_bytes());
    let mut answer = String::new();
    let _reset = client.stream().read_to_string(&mut answer);
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn other_machine_cannot_have_all_connections_to_the_api() {
    let name = "other_machine_cannot_have_all_connections_to_the_api";
    in_own_network(module_path!(), name, OTHER_HOSTS, || {
        let config = "[limits]\nadmin_connections_max = 8\n\
            admin_connections_per_address_max = 4\nrequest_timeout = \"2s\"\n";
        let admin = "10.77.0.1:0";
        let server = Server::start(&Options { config: Some(config), admin, ..Options::default() });
        let [stranger, other] =
            [[10, 77, 0, 1], [10, 77, 0, 2]].map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
        let ask = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let held: Vec<_> = (0..4).map(|_| Client::connect_from(stranger, server.admin)).collect();
        until("its address has as many as it may have", || {
            http_says(stranger, server.admin, ask).contains(" 503 ")
        });
        assert!(!http_says(other, server.admin, ask).contains(" 503 "));
        // The connections that say nothing end in the time for a request.
        until("they are ended", || !http_says(stranger, server.admin, ask).contains(" 503 "));
        drop(held);
    });
}
