//! Webhooks: asked before a client reads or publishes, answered, late, and not at all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::http::metric;
use crate::support::login::{ask_as, basic, describe_as, password, users};
use crate::support::publish::PICTURES_AND_SOUND;
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};

/// Status and body of an answer to a body.
type Answer = dyn Fn(&str) -> (u16, String) + Send + Sync;

/// An HTTP server that answers as a test says; ends with the value.
pub(super) struct Receiver {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(super) fn start(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let answer: Arc<Answer> = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, is_ending) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (known, ends) = (Arc::clone(&asked), Arc::clone(&is_ending));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (known, answer) = (Arc::clone(&known), Arc::clone(&answer));
                // Ends with its connection, which the server under test closes.
                std::thread::spawn(move || serve(stream.unwrap(), &known, &*answer));
            }
        });
        Self { address, asked, is_ending, thread: Some(thread) }
    }

    /// One that takes a request and says nothing.
    fn silent() -> Self {
        Self::start(|_| (0, String::new()))
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Bodies that were sent.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        let _wakes_it = TcpStream::connect(self.address);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut stream: TcpStream, known: &Mutex<Vec<String>>, answer: &Answer) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut received = Vec::new();
    let mut block = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |text| text.parse().unwrap());
            if body.len() >= length {
                known.lock().unwrap().push(body.to_owned());
                received.clear();
                let (status, answer) = answer(body);
                if status != 0 {
                    let length = answer.len();
                    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n");
                    if stream.write_all((head + &answer).as_bytes()).is_err() {
                        return;
                    }
                }
            }
        }
        match stream.read(&mut block) {
            Ok(0) | Err(_) => return,
            Ok(bytes) => received.extend_from_slice(&block[..bytes]),
        }
    }
}

fn start(config: &str) -> Server {
    Server::start(&Options { config: Some(config), ..Options::default() })
}

/// Lets ann in, asks strangers for their names, and knows nobody else.
pub(super) fn knows_ann(body: &str) -> (u16, String) {
    let asked: Value = serde_json::from_str(body).unwrap();
    let status = match (asked["user"].as_str().unwrap(), asked["password"].as_str().unwrap()) {
        ("ann", "right") => 204,
        ("ann" | "", _) => 401,
        _ => 403,
    };
    (status, String::new())
}

#[test]
fn webhook_decides_who_reads_and_who_publishes_and_its_answers_are_kept() {
    let receiver = Receiver::start(knows_ann);
    let url = receiver.url("/hook");
    let server = start(&format!("[auth]\non_read = \"{url}\"\non_publish = \"{url}\"\n"));
    let demo = format!("{}?x=1", server.demo_url());
    let describe = |authorization: &str| {
        describe_as(&mut Client::connect(server.rtsp), &demo, authorization).status
    };
    assert_eq!(describe(""), 401);
    assert_eq!(describe(&basic("ann", "wrong")), 401);
    assert_eq!(describe(&basic("eve", "right")), 403);
    for _ in 0..3 {
        assert_eq!(describe(&basic("ann", "right")), 200);
    }
    let asked = receiver.asked();
    assert_eq!(asked.len(), 4, "the same question is asked once: {asked:?}");
    let last: Value = serde_json::from_str(&asked[3]).unwrap();
    for (name, value) in [
        ("action", "read"),
        ("path", "demo"),
        ("ip", "127.0.0.1"),
        ("protocol", "rtsp"),
        ("user", "ann"),
        ("query", "x=1"),
    ] {
        assert_eq!(last[name], value, "{name}");
    }
    let headers = [("Content-Type", "application/sdp")];
    let mut client = Client::connect(server.rtsp);
    let mut announce = |authorization: &str| {
        let url = server.url("live/a");
        ask_as(&mut client, "ANNOUNCE", &url, (&headers, PICTURES_AND_SOUND), authorization).status
    };
    assert_eq!(announce(&basic("eve", "x")), 403);
    assert_eq!(announce(&basic("ann", "right")), 200);
    assert!(!server.log().contains("right"), "no password in the log");
}

#[test]
fn webhook_that_does_not_answer_holds_up_nobody_and_the_configuration_says_what_is_done() {
    for (on_failure, expected) in [("deny", 503), ("allow", 200)] {
        let receiver = Receiver::silent();
        let url = receiver.url("/hook");
        let server = start(&format!(
            "[auth]\non_read = \"{url}\"\nwebhook_timeout = \"500ms\"\n\
             webhook_failure = \"{on_failure}\"\n[path.\"live/x\"]\nread = [\"any\"]\n"
        ));
        let mut client = Client::connect(server.rtsp);
        let text = client.format("DESCRIBE", &server.demo_url(), &[], "");
        let since = Instant::now();
        client.send_raw(text);
        // The shard goes on meanwhile: another client is answered before the deadline.
        let mut other = Client::connect(server.rtsp);
        other.request("OPTIONS", &server.demo_url(), &[]).expect(200);
        describe_as(&mut other, &server.url("live/x"), "").expect(404);
        let answer = client.response();
        assert_eq!(answer.status, expected, "{answer:?}");
        assert!(since.elapsed() >= Duration::from_millis(450), "{:?}", since.elapsed());
        server.assert_logs("HE-W508");
        let unanswered = if expected == 503 { 1.0 } else { 0.0 };
        assert_eq!(metric(server.admin, "headend_logins_unanswered_total"), Some(unanswered));
    }
}

#[test]
fn webhook_that_is_not_there_or_broken_is_no_yes() {
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let broken = Receiver::start(|_| (500, "oops".to_owned()));
    let moved = Receiver::start(|_| (302, String::new()));
    for url in [gone, broken.url("/"), moved.url("/")] {
        let server = start(&format!("[auth]\non_read = \"{url}\"\n"));
        describe_as(&mut Client::connect(server.rtsp), &server.demo_url(), "").expect(503);
    }
}

#[test]
fn users_of_the_file_need_no_webhook_and_their_networks_neither() {
    let receiver = Receiver::start(knows_ann);
    let url = receiver.url("/");
    let server = start(&format!(
        "[auth]\non_read = \"{url}\"\n{}[path.\"live/x\"]\nread = [\"loopback\", \"webhook\"]\n",
        users(&["bob"], true)
    ));
    let mut client = Client::connect(server.rtsp);
    describe_as(&mut client, &server.url("live/x"), "").expect(404);
    describe_as(&mut client, &server.demo_url(), &basic("bob", &password("bob"))).expect(200);
    assert!(receiver.asked().is_empty());
    describe_as(&mut client, &server.demo_url(), &basic("ann", "right")).expect(200);
    assert_eq!(receiver.asked().len(), 1);
}
