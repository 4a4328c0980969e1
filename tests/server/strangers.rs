//! Bad input, kind by kind. After each kind a fresh client is served, and descriptors, rows,
//! sessions and memory are what they were.
//!
//! | kind | where |
//! |---|---|
//! | requests cut at every byte, NUL bytes, wrong lengths, numbers, interleaved garbage | here |
//! | half-open connections, clients that stop reading, no descriptors, no disk, kill -9 | here |
//! | slow requests, floods of one address | `limits` |
//! | floods of RTCP | `amplification` |
//! | path tricks, files that change or are cut | `bad_input` |
//! | tokens and certificates that have expired or do not count yet | `access::tokens`, `tls` |
//! | a clock that jumps | `vod::tests::clock`, in the library: no test may set this host's |

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where; one that does less says so"
)]

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::baseline::{Baseline, serve_fresh_client};
use crate::support::http::{self, metric};
use crate::support::media::title;
use crate::support::network::in_own_mounts;
use crate::support::rtsp::{Client, Received};
use crate::support::scratch;
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, until};

/// What came of bytes: the statuses of the answers, until the server closed or has said them all.
fn statuses(client: &mut Client, count: usize) -> Vec<u16> {
    let deadline = Deadline::after(PATIENCE);
    let mut statuses = Vec::new();
    while statuses.len() < count {
        match client.receive(deadline) {
            Some(Received::Response(response)) => statuses.push(response.status),
            Some(Received::Frame(..)) => {}
            Some(Received::Closed) => break,
            None => panic!("neither an answer nor the end of the connection"),
        }
    }
    statuses
}

/// Sends bytes on a connection of their own. The server may hang up before all of them are out.
fn throw(server: &Server, bytes: &[u8]) -> Client {
    let client = Client::connect(server.rtsp);
    let _cut_short = client.stream().write_all(bytes);
    client
}

/// The same, and nothing more: what came of it.
fn thrown(server: &Server, bytes: &[u8]) -> Vec<u16> {
    let mut client = throw(server, bytes);
    let _half = client.stream().shutdown(std::net::Shutdown::Write);
    statuses(&mut client, usize::MAX)
}

/// DESCRIBE, SETUP and OPTIONS of the clip.
fn conversation(server: &Server) -> String {
    let url = server.demo_url();
    format!(
        "DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n\
         SETUP {url}/trackID=0 RTSP/1.0\r\nCSeq: 2\r\n\
         Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n\
         SET_PARAMETER {url} RTSP/1.0\r\nCSeq: 3\r\nContent-Length: 2\r\n\r\n\r\n\
         OPTIONS {url} RTSP/1.0\r\nCSeq: 4\r\n\r\n"
    )
}

#[test]
fn requests_cut_at_every_byte_are_answered_as_if_they_came_whole() {
    let mut server = Server::with_demo();
    let baseline = Baseline::of(&server);
    let text = conversation(&server);
    let whole = thrown(&server, text.as_bytes());
    assert_eq!(whole, [200, 200, 200, 200]);
    for at in 1..text.len() {
        let (first, second) = text.as_bytes().split_at(at);
        let mut client = throw(&server, first);
        client.send_raw(second);
        assert_eq!(statuses(&mut client, 4), whole, "cut at {at}");
    }
    let mut client = Client::connect(server.rtsp);
    client.send_byte_by_byte(text.as_bytes());
    assert_eq!(statuses(&mut client, 4), whole);
    drop(client);
    baseline.assert_back(&mut server, "requests cut at every byte");
}

#[test]
fn nul_byte_anywhere_is_refused_or_harmless() {
    let mut server = Server::with_demo();
    let baseline = Baseline::of(&server);
    let url = server.demo_url();
    let text = format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n");
    for at in 0..=text.len() {
        for replaces in [false, true] {
            let mut bytes = text.clone().into_bytes();
            if !replaces {
                bytes.insert(at, 0);
            } else if at < bytes.len() {
                bytes[at] = 0;
            }
            for status in thrown(&server, &bytes) {
                assert!([200, 400, 404, 406, 501, 505].contains(&status), "{at}: {status}");
            }
        }
    }
    assert_eq!(thrown(&server, &[0; 100_000]), [400]);
    baseline.assert_back(&mut server, "NUL bytes");
}

#[test]
fn wrong_lengths_are_refused_and_end_at_worst_their_connection() {
    let mut server = Server::with_demo();
    let baseline = Baseline::of(&server);
    let url = server.demo_url();
    let with = |length: &str, body: &str| {
        let head = format!("SET_PARAMETER {url} RTSP/1.0\r\nCSeq: 1\r\n{length}\r\n\r\n");
        let behind = format!("OPTIONS {url} RTSP/1.0\r\nCSeq: 2\r\n\r\n");
        thrown(&server, format!("{head}{body}{behind}").as_bytes())
    };
    for (length, body, expected) in [
        ("Content-Length: 2", "\r\n", &[200, 200][..]),
        // What is left of the body begins no message.
        ("Content-Length: 1", "\0\0\0", &[451, 400]),
        // The next request is the rest of the body, and the body is never whole.
        ("Content-Length: 60000", "abc", &[]),
        ("Content-Length: 65537", "", &[413]),
        ("Content-Length: 4294967295", "", &[413]),
        ("Content-Length: 4294967296", "", &[400]),
        ("Content-Length: 99999999999999999999", "", &[400]),
        ("Content-Length: -1", "", &[400]),
        ("Content-Length: +1", "", &[400]),
        ("Content-Length: 0x2", "", &[400]),
        ("Content-Length: 1e1", "", &[400]),
        ("Content-Length:", "", &[400]),
        ("Content-Length: 2\r\nContent-Length: 3", "", &[400]),
        ("Content-Length: 2, 3", "", &[400]),
        ("Content-Length: 2\r\nContent-Length: 2", "\r\n", &[200, 200]),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", "", &[200, 200]),
    ] {
        assert_eq!(with(length, body), expected, "{length}");
    }
    baseline.assert_back(&mut server, "wrong lengths");
}

/// Numbers that are none, or are too large, too small, or too many.
const NUMBERS: [&str; 22] = [
    "0",
    "-0",
    "-1",
    "+1",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "-9223372036854775809",
    "18446744073709551616",
    "99999999999999999999999999999999999999",
    "1e308",
    "1e999",
    "-1e-400",
    "NaN",
    "inf",
    "0x10",
    "",
    "\u{663}",
];

#[test]
fn giant_and_negative_numbers_in_every_numeric_header_get_an_answer() {
    let mut server = Server::with_demo();
    let baseline = Baseline::of(&server);
    let base = server.demo_url();
    let track = format!("{base}/trackID=0");
    let tcp = "RTP/AVP/TCP;unicast;interleaved=0-1";
    let of_setup = [
        "Transport: RTP/AVP;unicast;client_port=#-#",
        "Transport: RTP/AVP;unicast;client_port=#",
        "Transport: RTP/AVP;unicast;client_port=50000-#",
        "Transport: RTP/AVP/TCP;unicast;interleaved=#-#",
        "Transport: RTP/AVP/TCP;unicast;interleaved=0-#",
        "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=#",
        "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ttl=#;layers=#;port=#-#",
        "Transport: RTP/AVP;multicast;ttl=#;port=#-#",
        "Transport: RTP/AVP/TCP;unicast\r\nBlocksize: #",
        "Transport: RTP/AVP/TCP;unicast\r\nBandwidth: #",
        "Transport: RTP/AVP/TCP;unicast\r\nSession: #",
        "Transport: RTP/AVP/TCP;unicast\r\nTimestamp: # #",
        "Transport: RTP/AVP/TCP;unicast\r\nExpires: #\r\nCache-Control: max-age=#",
    ];
    let of_play = [
        "Range: npt=#-",
        "Range: npt=#-#",
        "Range: npt=-#",
        "Range: npt=0-#",
        "Range: npt=#:#:#.#-",
        "Range: smpte=#:#:#:#.#-",
        "Range: clock=#T#Z-",
        "Range: npt=0-;time=#T#Z",
        "Scale: #",
        "Speed: #",
        "Bandwidth: #",
        "Blocksize: #",
        "RTP-Info: url=x;seq=#;rtptime=#",
    ];
    for number in NUMBERS {
        for header in of_setup {
            let header = header.replace('#', number);
            let request = format!("SETUP {track} RTSP/1.0\r\nCSeq: 1\r\n{header}\r\n\r\n");
            let answer = thrown(&server, request.as_bytes());
            assert!(answer.len() == 1 && answer[0] != 500, "{header}: {answer:?}");
        }
        for header in of_play {
            let header = header.replace('#', number);
            let mut client = Client::connect(server.rtsp);
            let id = client.request("SETUP", &track, &[("Transport", tcp)]).expect(200);
            let id = id.session_id();
            client.send_raw(format!(
                "PLAY {base} RTSP/1.0\r\nCSeq: 9\r\nSession: {id}\r\n{header}\r\n\r\n\
                 TEARDOWN {base} RTSP/1.0\r\nCSeq: 10\r\nSession: {id}\r\n\r\n"
            ));
            let answer = statuses(&mut client, 2);
            assert!(!answer.is_empty() && !answer.contains(&500), "{header}: {answer:?}");
        }
        for line in [
            format!("OPTIONS {base} RTSP/1.0\r\nCSeq: {number}"),
            format!("OPTIONS {base} RTSP/{number}.{number}\r\nCSeq: 1"),
            format!("DESCRIBE rtsp://127.0.0.1:{number}/demo RTSP/1.0\r\nCSeq: 1"),
            format!("SETUP {base}/trackID={number} RTSP/1.0\r\nCSeq: 1\r\nTransport: {tcp}"),
        ] {
            let answer = thrown(&server, format!("{line}\r\n\r\n").as_bytes());
            assert!(answer.len() == 1 && answer[0] != 500, "{line}: {answer:?}");
        }
    }
    baseline.assert_back(&mut server, "numbers");
}

#[test]
fn interleaved_garbage_ends_at_worst_its_connection() {
    let mut server = Server::with_demo();
    let baseline = Baseline::of(&server);
    let frame = |channel: u8, length: u16, bytes: usize| {
        let mut frame = vec![b'$', channel];
        frame.extend(length.to_be_bytes());
        frame.extend((0..bytes).map(|n| u8::try_from(n % 251).unwrap()));
        frame
    };
    let garbage = [
        frame(0, 0, 0).repeat(10_000),
        frame(255, 65_535, 65_535),
        frame(1, 65_535, 100),
        frame(1, 4, 400),
        b"$".repeat(50_000),
        (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect(),
    ];
    for bytes in &garbage {
        // On a connection without a session, and on one that plays interleaved.
        let _answered = thrown(&server, bytes);
        let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
        session.play(&[]);
        let _cut_short = session.client.stream().write_all(bytes);
        let _half = session.client.stream().shutdown(std::net::Shutdown::Write);
        session.client.assert_closed();
    }
    baseline.assert_back(&mut server, "interleaved garbage");
}

#[test]
fn clients_that_stop_reading_are_not_waited_for_and_their_memory_comes_back() {
    let mut server = Server::with_demo();
    let baseline = Baseline::of(&server);
    let url = server.demo_url();
    let options = format!("OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n").repeat(2_000);
    let stuck: Vec<_> = (0..50)
        .map(|_| {
            let client = Client::connect(server.rtsp);
            socket2::SockRef::from(client.stream()).set_recv_buffer_size(4_096).unwrap();
            client.stream().set_nonblocking(true).unwrap();
            // Until the server takes no more: it does not read from who does not read.
            while matches!(client.stream().write(options.as_bytes()), Ok(bytes) if bytes > 0) {}
            client
        })
        .collect();
    serve_fresh_client(&server, Lower::Tcp);
    drop(stuck);
    baseline.assert_back(&mut server, "clients that stop reading");
}

/// Connections that the test can hold, of `wanted`.
fn connections_to_hold(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // What other tests of this program hold meanwhile.
    let kept = 1_024;
    let needed = (wanted + kept) as u64;
    let target = maximum.map_or(needed, |maximum| maximum.min(needed));
    let limit = current.map_or(u64::MAX, |current| current.max(target));
    let _as_it_is = setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum });
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(kept).max(64);
    if most < wanted {
        println!("only {most} half-open connections instead of {wanted}: RLIMIT_NOFILE is {limit}");
    }
    wanted.min(most)
}

#[test]
fn ten_thousand_half_open_connections_keep_nobody_out_and_end_by_themselves() {
    let config = "[limits]\nrequest_timeout = \"3s\"\n";
    let mut server = Server::start(&Options { config: Some(config), ..Options::default() });
    let baseline = Baseline::of(&server);
    let count = connections_to_hold(10_000);
    let request = format!("OPTIONS {} RTSP/1.0\r\nCSeq: 1\r\n", server.demo_url());
    let mut held = Vec::with_capacity(count);
    for number in 0..count {
        let from = Ipv4Addr::new(127, 1, 0, u8::try_from(1 + number % 20).unwrap());
        let client = Client::connect_from(IpAddr::V4(from), server.rtsp);
        if number % 2 == 1 {
            let _ended_already = client.stream().write_all(request.as_bytes());
        }
        held.push(client);
        if number % 2_500 == 1_250 {
            serve_fresh_client(&server, Lower::Tcp);
            let half_open = limit_used(&server, "half_open_connections");
            let limit = limit_of(&server, "half_open_connections");
            assert!(half_open <= limit, "{half_open} of {limit}");
        }
    }
    serve_fresh_client(&server, Lower::Udp);
    // They are still held by the client.
    until("the server has ended them", || {
        limit_used(&server, "half_open_connections") < 0.5
            && metric(server.admin, "headend_rtsp_connections") == Some(0.0)
    });
    let counted = |name| metric(server.admin, name).unwrap();
    let slow = counted("headend_rtsp_requests_timed_out_total");
    let dropped = counted("headend_rtsp_half_open_dropped_total");
    let all = f64::from(u32::try_from(count).unwrap());
    assert!(slow + dropped >= all, "{slow} were slow, {dropped} made room, of {count}");
    let mut told = 0;
    for client in &mut held {
        let answer = statuses(client, 1);
        assert!(matches!(answer[..], [] | [408 | 503]), "{answer:?}");
        told += answer.len();
    }
    // Who has sent something that was not read may be reset before it has read the answer.
    assert!(told >= count / 4, "{told} of {count} were told why");
    drop(held);
    baseline.assert_back(&mut server, "half-open connections");
}

/// Value of `headend_limit` for this, the sum over shards.
fn limit_of(server: &Server, what: &str) -> f64 {
    labelled(server, "headend_limit{", what)
}

fn limit_used(server: &Server, what: &str) -> f64 {
    labelled(server, "headend_limit_used{", what)
}

fn labelled(server: &Server, start: &str, what: &str) -> f64 {
    let (_, text) = http::get(server.admin, "/metrics");
    let label = format!("what=\"{what}\"}} ");
    let lines = text.lines().filter(|line| line.starts_with(start));
    let values: Vec<f64> = lines
        .filter_map(|line| line.split_once(&label))
        .map(|(_, value)| value.parse().unwrap())
        .collect();
    assert!(!values.is_empty(), "no {start}..{label}");
    values.iter().sum()
}

#[test]
fn exhausted_descriptors_refuse_new_work_keep_the_old_and_are_made_good_by_themselves() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    std::fs::copy(title("aac_m4a").file(), folder.path().join("film.m4a")).unwrap();
    // As few as a ring needs; connections to the API take most of them, so that those of RTSP find
    // no descriptor before they find no row.
    let config = "[limits]\nrequest_timeout = \"1m\"\nadmin_connections_max = 200\n";
    let (open_files, config) = (Some(OPEN_FILES), Some(config));
    let folder_path = Some(folder.path());
    let mut server =
        Server::start(&Options { open_files, config, folder: folder_path, ..Options::default() });
    let baseline = Baseline::of(&server);
    let mut old = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    old.play(&[]);
    old.receive_packets(5, PATIENCE);
    let (url, film) = (server.demo_url(), server.vod_url("film.m4a"));
    let left = OPEN_FILES as usize - server.open_descriptors();
    let at_the_api: Vec<_> =
        (16..left).map(|_| TcpStream::connect(server.admin).unwrap()).collect();
    until("most are taken", || server.open_descriptors() + 16 >= OPEN_FILES as usize);
    // Those for whom there is none are told so.
    let request = format!("OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    let mut crowd: Vec<_> = (0..50).map(|_| throw(&server, request.as_bytes())).collect();
    let answers: Vec<_> = crowd.iter_mut().flat_map(|client| statuses(client, 1)).collect();
    assert!(answers.contains(&503) && answers.iter().all(|status| [200, 503].contains(status)));
    server.assert_logs("descriptors are running out");
    // Old work goes on; new work on an old connection is refused, and told when to come again.
    old.receive_packets(20, PATIENCE);
    let answer = old.client.request("DESCRIBE", &film, &[]);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("Retry-After").is_some(), "{answer:?}");
    old.receive_packets(20, PATIENCE);
    drop((crowd, at_the_api));
    until("the film can be opened again", || {
        old.client.request("DESCRIBE", &film, &[]).status == 200
    });
    old.receive_packets(20, PATIENCE);
    old.request("TEARDOWN", &[]).expect(200);
    drop(old);
    // The film stays open for the next who wants it.
    std::fs::remove_file(folder.path().join("film.m4a")).unwrap();
    Client::connect(server.rtsp).request("DESCRIBE", &film, &[]).expect(404);
    baseline.assert_back(&mut server, "exhausted descriptors");
}

/// Rows of the smallest table, and the files of its ring beside them.
const OPEN_FILES: u32 = 128;

#[test]
fn full_disk_costs_what_would_be_kept_and_nothing_else() {
    let small = scratch().join("full-state");
    let mount = format!(
        "mkdir -p '{0}' && mount -t tmpfs -o size=256k headend-test '{0}'",
        small.display()
    );
    let name = "full_disk_costs_what_would_be_kept_and_nothing_else";
    in_own_mounts(module_path!(), name, &mount, || fill_state_folder(&small));
}

fn fill_state_folder(state: &Path) {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    std::fs::copy(title("aac_m4a").file(), folder.path().join("film.m4a")).unwrap();
    let config = format!(
        "[server]\nstate_dir = \"{}\"\n[path.linear]\nplaylist = [\"film.m4a\"]\n",
        state.display()
    );
    let options =
        Options { folder: Some(folder.path()), config: Some(&config), ..Options::default() };
    let mut server = Server::start(&options);
    serve_fresh_client(&server, Lower::Tcp);
    let filler = state.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let filled =
        std::iter::repeat_n([0_u8; 4_096], 1_000).try_for_each(|block| file.write_all(&block));
    assert!(filled.is_err(), "the disk is larger than was asked for");
    let insert = |server: &Server| {
        let edit = "{\"title\": \"film.m4a\"}";
        let path = "/v1/paths/linear/playlist:insert";
        let (status, answer) = http::post_text(server.admin, path, edit);
        assert!((200..300).contains(&status), "{status} {answer}");
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()
    };
    let answer = insert(&server);
    assert_eq!(answer["kept"], false, "{answer}");
    assert!(answer["problem"].as_str().is_some_and(|why| why.contains("space")), "{answer}");
    serve_fresh_client(&server, Lower::Udp);
    // Its blocks are free when nobody has it open.
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let answer = insert(&server);
    assert_eq!(answer["kept"], true, "{answer}");
    server.assert_alive();
}

#[test]
fn server_that_was_killed_among_strangers_starts_again_at_once_and_serves() {
    let mut server = Server::with_demo();
    let listen = server.rtsp.to_string();
    for _ in 0..3 {
        let half_open: Vec<_> = (0..50).map(|_| throw(&server, b"OPTIONS")).collect();
        let mut player = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
        player.play(&[]);
        player.receive_packets(5, PATIENCE);
        server.kill();
        server = Server::start(&Options { listen: &listen, ..Options::default() });
        drop((half_open, player));
        for lower in [Lower::Tcp, Lower::Udp] {
            serve_fresh_client(&server, lower);
        }
    }
    server.assert_alive();
}
