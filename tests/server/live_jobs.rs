//! A live path that a job brings to nodes, which reflect it from each other: real processes, a
//! publisher and readers whose packets are looked at one by one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use headend::dist::ids::{CommandId, CommandKey, NodeName};
use headend::dist::keys::BaseKeys;
use headend::dist::wire::peer::LiveCapability;
use serde_json::json;

use crate::support::http::{get, metric};
use crate::support::live::{describe, path, wait_until_described};
use crate::support::login::{basic, describe_as, password, users};
use crate::support::players::publish;
use crate::support::process::run;
use crate::support::publish::{Publisher, SOUND, rtp};
use crate::support::reflect::Reflection;
use crate::support::rtp::{Rtp, assert_contiguous};
use crate::support::rtsp::Client;
use crate::support::server::Server;
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, until};

/// H.264 whose parameter sets are in the description.
const PICTURES: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==\r\n\
    a=control:streamid=0\r\n";

/// One who publishes numbered pictures, each a packet, 25 a second and each tenth a key frame,
/// until it is dropped.
struct Film {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Film {
    fn start(server: &Server, path: &str) -> Self {
        let mut publisher = Publisher::start(server, path, PICTURES, Lower::Tcp);
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut number = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                let kind = if number.is_multiple_of(10) { KEY } else { 0x41 };
                let payload = [&[kind][..], &number.to_be_bytes(), &[7; 60]].concat();
                let seq = u16::try_from(number & 0xffff).unwrap();
                publisher.rtp(0, &rtp(96 | 0x80, seq, number.wrapping_mul(3_600), 50, &payload));
                number += 1;
                std::thread::park_timeout(Duration::from_millis(40));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _publisher_refused = self.thread.take().unwrap().join();
    }
}

/// NAL unit type 5.
const KEY: u8 = 0x65;

/// Numbers of the pictures of a reader, and whether each is a key frame.
fn pictures(packets: &[Rtp]) -> Vec<(u32, bool)> {
    let pictures = packets.iter().filter(|packet| matches!(packet.payload[0] & 0x1f, 1 | 5));
    let number = |packet: &Rtp| u32::from_be_bytes(packet.payload[1..5].try_into().unwrap());
    pictures.map(|packet| (number(packet), packet.payload[0] == KEY)).collect()
}

/// Sequence numbers go up by one, and where pictures are missing or come again, a key frame
/// follows.
fn assert_unbroken(reader: &Session) {
    let packets = &reader.streams[0].packets;
    assert_contiguous(packets);
    assert!(packets.iter().all(|packet| packet.ssrc == packets[0].ssrc), "one stream");
    let pictures = pictures(packets);
    assert!(pictures[0].1, "it begins with a key frame");
    for pair in pictures.windows(2) {
        let ((before, _), (number, is_key)) = (pair[0], pair[1]);
        assert!(number == before + 1 || is_key, "{number} behind {before} is no key frame");
    }
}

fn newest(reader: &mut Session) -> u32 {
    reader.drain();
    pictures(&reader.streams[0].packets).last().map_or(0, |(number, _)| *number)
}

/// Reads until a picture comes that is so much newer than the newest now.
fn read_on(reader: &mut Session, more: u32) {
    let goal = newest(reader) + more;
    let came = reader.receive_until(PATIENCE, |streams| {
        pictures(&streams[0].packets).last().is_some_and(|(number, _)| *number >= goal)
    });
    assert!(came, "no picture {goal}");
}

#[test]
fn path_goes_from_node_to_node_and_on_when_the_one_in_the_middle_is_killed() {
    let mut lab = Reflection::start(3);
    let _film = Film::start(&lab.origin, "live/show");
    let job = lab.job("live/show");
    lab.until_fed(&job, 1, "origin");
    lab.until_fed(&job, 2, "n1");
    lab.until_fed(&job, 3, "n2");
    let url = lab.node(3).url("live/show");
    let mut reader = Session::open(lab.node(3).rtsp, &url, Lower::Tcp);
    reader.play(&[]);
    read_on(&mut reader, 20);
    let readers = |server: &Server| path(server, "live/show")["readers"]["tcp"].clone();
    // A node that was told late began at the origin, and lets go of it in time.
    until("the origin feeds one node", || readers(&lab.origin) == 1);

    lab.kill_node(2);
    read_on(&mut reader, 50);
    lab.until_fed(&job, 3, "n1");
    assert_unbroken(&reader);

    // It is back at the end of the cascade.
    lab.start_node(2, &[]);
    lab.until_fed(&job, 2, "n3");
    read_on(&mut reader, 50);
    assert_unbroken(&reader);
    until("the origin feeds one node again", || readers(&lab.origin) == 1);
    // More than a second of the film.
    until("the node that is back has had packets for a while", || {
        path(lab.node(2), "live/show")["source"]["tracks"][0]["packets"].as_u64() > Some(60)
    });

    let report = lab.end(&job);
    assert_eq!(report["job"]["state"], "completed", "{report}");
    for node in report["nodes"].as_array().unwrap() {
        let delivery = &node["deliveries"][0];
        assert_eq!(delivery["is_signature_valid"], true, "{delivery}");
        assert!(delivery["live"]["packets"].as_u64().unwrap() > 20, "{delivery}");
        assert!(delivery["live"]["flow_ms"].as_u64().unwrap() > 1_000, "{delivery}");
    }
    let via = |node: usize| report["nodes"][node - 1]["deliveries"][0]["via"].clone();
    assert!(via(1)["origin"].as_u64().unwrap() > 1_000, "{}", via(1));
    assert!(via(3)["n2"].as_u64().unwrap() > 100 && via(3)["n1"].as_u64().unwrap() > 100);
    let switches = report["nodes"][2]["deliveries"][0]["live"]["switches"].as_u64().unwrap();
    assert!((1..=3).contains(&switches), "{switches}");
    until("the nodes have let go of it", || {
        (1..=3).all(|n| describe(lab.node(n), "live/show") == 404)
    });
}

/// The only command of a job.
fn command_of(job: &str) -> CommandKey {
    CommandKey { job: job.parse().unwrap(), command: CommandId(1) }
}

/// The capability that a node was told last.
fn capability(lab: &Reflection, node: usize) -> String {
    let journal = lab.journal(node);
    let (_, behind) = journal.rsplit_once("\"capability\":\"").unwrap();
    behind.split('"').next().unwrap().to_owned()
}

#[test]
fn path_goes_through_nodes_that_let_nobody_read_without_a_login() {
    let users = users(&["ann"], true);
    let closed = "[path.\"*\"]\nread = []\n";
    // Nobody is there: who is asked about cannot be let in.
    let hook = "[auth]\non_read = \"http://127.0.0.1:9/\"\n";
    let lab = Reflection::start_with(&[&users, closed, hook, &users]);
    let _film = publish(&lab.origin.url("live/show"), "tcp", &["-stream_loop", "-1"]);
    wait_until_described(&lab.origin, "live/show");
    let job = lab.job("live/show");
    for (node, source) in [(1, "origin"), (2, "n1"), (3, "n2"), (4, "n3")] {
        lab.until_fed(&job, node, source);
    }
    // Strangers are judged by the rules, as ever.
    let status = |node: usize, path: &str, authorization: &str| {
        let server = lab.node(node);
        let mut client = Client::connect(server.rtsp);
        describe_as(&mut client, &server.url(path), authorization).status
    };
    for (node, expected) in [(1, 401), (2, 403), (3, 503), (4, 401)] {
        assert_eq!(status(node, "live/show", ""), expected, "n{node}");
    }
    let url = lab.node(4).url("live/show");
    let url = url.replace("rtsp://", &format!("rtsp://ann:{}@", password("ann")));
    let words = ["-v", "error", "-rtsp_transport", "tcp", "-i", &url, "-t", "2", "-f", "null", "-"];
    run("ffmpeg", &words);

    // Somebody at the address of the nodes guesses passwords, and shows what is no capability.
    for _ in 0..7 {
        assert_eq!(status(4, "live/show", "Bearer hdl_x"), 401);
    }
    let slowed = |node: usize| metric(lab.node(node).admin, "headend_logins_slowed_total");
    let ann = basic("ann", &password("ann"));
    assert_eq!((status(4, "live/show", &ann), slowed(4)), (200, Some(0.0)), "nobody is slowed");
    for _ in 0..6 {
        assert_eq!(status(1, "live/show", &basic("ann", "guess")), 401);
    }

    // What n3 shows counts at each node of the job, for this path and for reading only.
    let bearer = format!("Bearer {}", capability(&lab, 3));
    assert_eq!((status(1, "live/show", &bearer), slowed(1)), (200, Some(0.0)), "nor is a node");
    for node in 1..=4 {
        assert_eq!(status(node, "live/show", &bearer), 200, "n{node}");
    }
    for (node, path, expected) in
        [(1, "live/other", 401), (2, "live/show~0", 403), (3, "demo", 503), (1, "vod/x.mp4", 401)]
    {
        assert_eq!(status(node, path, &bearer), expected, "{path} of n{node}");
    }
    let mut client = Client::connect(lab.node(1).rtsp);
    let url = lab.node(1).url("live/mine");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/sdp")];
    let refused = client.request_with_body("ANNOUNCE", &url, &headers, SOUND);
    assert_eq!(refused.status, 401, "it is not for publishing");
    lab.node(1).assert_logs("HE-W513");
    lab.node(2).assert_logs("no job has this path open here for others to read");
    // Another base has signed this one.
    let strange = BaseKeys::from_bytes(&[3; 32]);
    let (key, node) = (command_of(&job), NodeName::new("n4").unwrap());
    let (path, expires_s) = ("live/show".to_owned(), i64::from(u32::MAX));
    let forged = strange.seal_live(&LiveCapability { key, path, node, expires_s });
    let forged = format!("Bearer {}", forged.expose());
    assert_eq!((status(2, "live/show", &forged), status(4, "live/show", &forged)), (403, 401));
    lab.node(4).assert_logs("it is not signed by the base of this node");

    // Nobody is shown one: it is in the journals of nodes alone.
    let mut said = Vec::new();
    for path in ["events", "deliveries", "report", "commands/1"] {
        said.push(lab.get(&format!("/v1/jobs/{job}/{path}")).to_string());
    }
    for node in 1..=4 {
        let admin = lab.node(node).admin;
        for path in ["/v1/paths", "/v1/sessions", "/metrics", "/v1/limits"] {
            said.push(get(admin, path).1);
        }
        said.push(lab.node(node).log());
    }
    assert!(said.iter().all(|text| !text.contains("hdl_")), "{said:?}");

    let report = lab.end(&job);
    assert_eq!(report["job"]["state"], "completed", "{report}");
    until("it counts nowhere any more", || status(2, "live/show", &bearer) == 403);
}

#[test]
fn node_in_the_middle_that_is_killed_is_followed_by_the_next_one_where_a_login_is_needed() {
    let closed = "[path.\"*\"]\nread = []\n";
    let mut lab = Reflection::start_with(&[closed; 3]);
    let _film = Film::start(&lab.origin, "live/show");
    let job = lab.job("live/show");
    for (node, source) in [(1, "origin"), (2, "n1"), (3, "n2")] {
        lab.until_fed(&job, node, source);
    }
    lab.kill_node(2);
    lab.until_fed(&job, 3, "n1");
    assert_eq!(describe(lab.node(3), "live/show"), 403);
    let offset = || lab.delivery(&job, 3)["offset"].as_u64().unwrap();
    let before = offset();
    until("it goes on", || offset() > before);
}

#[test]
fn path_that_the_origin_has_not_is_waited_for_and_ends_under_its_readers_with_the_job() {
    let lab = Reflection::start(1);
    let job = lab.job("live/late");
    until("the reason is there", || lab.delivery(&job, 1)["reason"] == "no_source");
    let report = lab.get(&format!("/v1/jobs/{job}/report"));
    let detail = report["nodes"][0]["deliveries"][0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("live/late") && detail.contains("404"), "{detail}");
    let film = Film::start(&lab.origin, "live/late");
    lab.until_fed(&job, 1, "origin");
    let url = lab.node(1).url("live/late");
    let mut reader = Session::open(lab.node(1).rtsp, &url, Lower::Tcp);
    reader.play(&[]);
    read_on(&mut reader, 10);
    // The origin goes and comes back: readers stay.
    drop(film);
    until("the base knows", || lab.delivery(&job, 1)["state"] == "retry_wait");
    let _film = Film::start(&lab.origin, "live/late");
    let seen = reader.streams[0].packets.len();
    assert!(reader.receive_until(PATIENCE, |s| s[0].packets.len() > seen + 10), "it goes on");
    assert_contiguous(&reader.streams[0].packets);
    lab.until_fed(&job, 1, "origin");
    let report = lab.end(&job);
    assert_eq!(report["job"]["state"], "completed", "{report}");
    reader.receive_until_ended(PATIENCE);
}

#[test]
fn path_that_a_node_has_itself_or_that_cannot_be_is_refused_with_the_reason() {
    let lab = Reflection::start(1);
    let mut publisher = Publisher::start(lab.node(1), "live/own", SOUND, Lower::Tcp);
    publisher.rtp(0, &rtp(0, 0, 0, 7, &[0; 160]));
    let _film = Film::start(&lab.origin, "live/own");
    let job = lab.job("live/own");
    until("it has failed", || lab.delivery(&job, 1)["state"] == "failed");
    assert_eq!(lab.delivery(&job, 1)["reason"], "path_conflict");
    publisher.rtp(0, &rtp(0, 1, 160, 7, &[0; 160]));
    assert_eq!(path(lab.node(1), "live/own")["source"]["kind"], "publish", "it goes on");
    let commands = format!("/v1/jobs/{job}/commands");
    for (name, from) in [
        ("live/../x", "rtsp://h/x"),
        ("vod/x", "rtsp://h/x"),
        ("live/x", "rtsp://u:secret@h/x"),
        ("live/x", "http://h/x"),
    ] {
        let (status, body) =
            lab.post(&commands, &json!({"op": "live", "path": name, "from": from}));
        assert_eq!(body["reason"], "bad_live", "{body}");
        assert!((400..500).contains(&status) && !body.to_string().contains("secret"), "{body}");
    }
    let ran = lab.headend(&["job", "live", "../x", "--from", "rtsp://h/x"]);
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("it is no name of a live path"), "{}", ran.stderr);

    // A second job with the same path is told that the first one has it.
    let one = lab.job("live/own2");
    let two = lab.job("live/own2");
    until("the second has failed", || lab.delivery(&two, 1)["reason"] == "path_conflict");
    assert_ne!(lab.delivery(&one, 1)["state"], "failed");
}

#[test]
fn paused_job_lets_go_of_its_path_and_takes_it_up_again() {
    let lab = Reflection::start(1);
    let _film = Film::start(&lab.origin, "live/show");
    let job = lab.job("live/show");
    lab.until_fed(&job, 1, "origin");
    let pause = |verb: &str| {
        let ran = lab.headend(&["job", verb, &job]);
        assert!(ran.status.success(), "{}", ran.stderr);
    };
    let readers = || path(&lab.origin, "live/show")["readers"]["tcp"].clone();
    pause("pause");
    until("nothing is pulled", || readers() == 0);
    let before = lab.delivery(&job, 1)["offset"].as_u64().unwrap();
    pause("resume");
    until("more has come", || lab.delivery(&job, 1)["offset"].as_u64().unwrap() > before);
    let deadline = Deadline::after(PATIENCE);
    let report = lab.end(&job);
    assert!(!deadline.has_passed() && report["job"]["state"] == "completed", "{report}");
}
