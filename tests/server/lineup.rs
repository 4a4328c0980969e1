//! Line-ups over the wire: which channel a session begins with, keys by RTSP, the API and the
//! command line, and who may publish.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::process::Command;

use serde_json::{Value, json};

use crate::support::http::{get_json, post_json};
use crate::support::process::run_command;
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server, binary};
use crate::support::session::{Lower, Session};
use crate::support::wait::{PATIENCE, until};

/// The live channel is the first one, and nobody publishes it unless the test does.
const CONFIG: &str = "[path.tv]\nlineup = { 101 = \"live/news\", 201 = \"demo\", 202 = \"vod/none.mp4\" }\n\
    lineup_digit_timeout = \"300ms\"\n";

const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:streamid=0\r\n";

fn server() -> Server {
    Server::start(&Options { shards: "2", config: Some(CONFIG), ..Options::default() })
}

/// A viewer who plays the line-up.
fn viewer(server: &Server) -> Session {
    let mut session = Session::open(server.rtsp, &server.url("tv"), Lower::Tcp);
    session.play(&[]);
    session
}

fn set(session: &mut Session, body: &str) -> (u16, String) {
    let (url, id) = (session.base.trim_end_matches('/').to_owned(), session.id.clone());
    let headers = [("Session", id.as_str()), ("Content-Type", "text/parameters")];
    let answer = session.client.request_with_body("SET_PARAMETER", &url, &headers, body);
    (answer.status, answer.body)
}

fn get(session: &mut Session, body: &str) -> String {
    let (url, id) = (session.base.trim_end_matches('/').to_owned(), session.id.clone());
    let headers = [("Session", id.as_str())];
    session.client.request_with_body("GET_PARAMETER", &url, &headers, body).expect(200).body
}

fn events(server: &Server, id: &str, key: &str, body: &Value) -> (u16, Value) {
    let headers = format!("Idempotency-Key: {key}\r\n");
    post_json(server.admin, &format!("/v1/sessions/{id}/events"), &headers, body)
}

#[test]
fn session_begins_with_the_first_channel_that_is_there_and_takes_keys() {
    let server = server();
    let mut session = viewer(&server);
    assert!(session.base.ends_with("/tv/"), "{}", session.base);
    assert_eq!(get(&mut session, "channel\r\ntitle"), "channel: 201\r\ntitle: demo\r\n");
    let told = (200, "outcome: paused\r\noutcome: playing\r\n".to_owned());
    assert_eq!(set(&mut session, "key: pause\r\nkey: play\r\n"), told);
    let digits =
        (200, "outcome: digits 2\r\noutcome: digits 20\r\noutcome: tuned to 201\r\n".into());
    assert_eq!(set(&mut session, "key: 2\r\nkey: 0\r\nkey: 1\r\n"), digits);
    let (status, body) = set(&mut session, "channel: 202");
    assert_eq!((status, body.lines().next()), (404, Some("channel: 202")), "{body}");
    let (status, body) = set(&mut session, "channel: 7");
    assert_eq!((status, &*body), (404, "channel: 7\r\nreason: no channel 7\r\n"));
    assert_eq!(set(&mut session, "volume: 3").0, 451);
    session.receive_packets(10, PATIENCE);
    let shown = get_json(server.admin, &format!("/v1/sessions/{}", session.id));
    assert_eq!((&shown["path"], &shown["channel"]["number"]), (&json!("tv"), &json!(201)));
    assert_eq!(shown["channel"]["source"], "demo");
    let path = get_json(server.admin, "/v1/paths/tv");
    assert_eq!(path["state"], "lineup");
    assert_eq!(path["channels"], json!({ "101": 0, "201": 1, "202": 0 }));
    session.request("TEARDOWN", &[]).expect(200);
    let of_201 = || get_json(server.admin, "/v1/paths/tv")["channels"]["201"].clone();
    until("the viewer has left", || of_201() == json!(0));
}

#[test]
fn operators_press_keys_by_the_api_and_the_command_line_once_for_each_idempotency_key() {
    let server = server();
    let session = viewer(&server);
    let forward = json!({ "key": "forward" });
    let (status, first) = events(&server, &session.id, "a", &forward);
    assert_eq!((status, &first["outcomes"][0]["outcome"]), (200, &json!("playing at 4x")));
    assert_eq!(events(&server, &session.id, "a", &forward), (200, first));
    assert_eq!(events(&server, &session.id, "a", &json!({ "key": "rewind" })).0, 422);
    let (status, refused) = events(&server, &session.id, "b", &json!({ "channel": 202 }));
    assert_eq!(status, 404, "{refused}");
    assert_eq!(events(&server, "0000000000000001", "c", &forward).0, 404);
    let headend = |words: &[&str]| {
        let mut command = Command::new(binary());
        let admin = server.admin.to_string();
        command.args(["session", words[0], &session.id]).args(&words[1..]);
        run_command(command.args(["--admin", &admin]), PATIENCE)
    };
    let keys = headend(&["keys", "pause", "2", "0", "1"]);
    assert_eq!(keys.status.code(), Some(0), "{}", keys.stderr);
    let told = "key: pause    paused\nkey: 2        digits 2\nkey: 0        digits 20\n\
                key: 1        tuned to 201\nchannel 201\n";
    assert_eq!(keys.stdout, told);
    let tuned = headend(&["tune", "201", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&tuned.stdout).unwrap()["channel"], 201);
    for (words, code, text) in [
        (&["tune", "202"][..], 1, "channel 202"),
        (&["tune", "7"], 1, "no channel 7"),
        (&["tune", "x"], 2, "no channel number"),
        (&["keys", "menu"], 2, "no such key"),
    ] {
        let ended = headend(words);
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(text), "{words:?}: {}", ended.stderr);
    }
}

#[test]
fn live_channel_that_is_published_comes_first_and_nobody_publishes_to_a_line_up() {
    let server = server();
    let mut client = Client::connect(server.rtsp);
    let sdp = [("Content-Type", "application/sdp")];
    for path in ["tv", "tv~101"] {
        let answer = client.request_with_body("ANNOUNCE", &server.url(path), &sdp, SDP);
        assert_eq!(answer.status, 403, "{path}");
    }
    server.assert_logs("HE-W505");
    let url = server.url("live/news");
    client.request_with_body("ANNOUNCE", &url, &sdp, SDP).expect(200);
    let transport = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";
    let track = format!("{url}/streamid=0");
    let setup = client.request("SETUP", &track, &[("Transport", transport)]).expect(200);
    client.request("RECORD", &url, &[("Session", &setup.session_id())]).expect(200);
    let mut seq = 0_u16;
    let mut send = || {
        for _ in 0..5 {
            let [high, low] = seq.to_be_bytes();
            let time = (u32::from(seq) * 160).to_be_bytes();
            let packet = [&[0x80, 0, high, low][..], &time, &[0, 0, 0, 9], &[7; 160]].concat();
            client.send_raw([&[b'$', 0, 0, 172][..], &packet].concat());
            seq += 1;
        }
    };
    send();
    let rtsp = server.rtsp;
    let url = server.url("tv");
    let opened = std::thread::spawn(move || Session::open(rtsp, &url, Lower::Tcp));
    // The relay begins with packets that are new.
    until("the channel is described and set up", || {
        send();
        opened.is_finished()
    });
    let mut session = opened.join().unwrap();
    assert_eq!(session.streams.len(), 1);
    let mut member = Client::connect(server.rtsp);
    let track = format!("{}/trackID=0", server.url("tv"));
    member.request("SETUP", &track, &[("Transport", "RTP/AVP;multicast")]).expect(461);
    assert!(format!("{:?}", session.sdp).contains("PCMU"), "{:?}", session.sdp);
    assert_eq!(get(&mut session, "channel\r\ntitle"), "channel: 101\r\ntitle: live/news\r\n");
}

#[test]
fn reloaded_line_up_counts_for_sessions_that_are_there() {
    let server = server();
    let mut session = viewer(&server);
    server.write_config(&CONFIG.replace("202 = ", "7 = "));
    let reloaded = post_json(server.admin, "/v1/config:reload", "", &Value::Null);
    assert_eq!(reloaded.1["changed"], json!(["tv"]), "{}", reloaded.1);
    let (status, body) = set(&mut session, "channel: 202");
    assert_eq!((status, &*body), (404, "channel: 202\r\nreason: no channel 202\r\n"));
    assert!(set(&mut session, "channel: 7").1.contains("channel 7 is not there"));
    assert_eq!(set(&mut session, "key: pause").0, 200, "it plays on");
}
