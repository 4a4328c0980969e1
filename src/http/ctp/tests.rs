//! WebDAV over a real loopback listener, with a real book, ledger and store, by a raw client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value;

use super::*;
use crate::dist::book::{BookOptions, HelloBy};
use crate::dist::keys::{BaseKeys, NodeKeys};
use crate::dist::token::Token;
use crate::dist::wire::agent::Hello;
use crate::dist::wire::job::{CommandView, JobRequest, Op, Policy, Targets};
use crate::http::jobs::auth::read_providers;
use crate::ledger::Ledger;
use crate::ledger::clerk::ClerkThread;
use crate::store::StoreKey;

/// A base without nodes that fetch: what matters here is what the book has been told.
struct Rig {
    runtime: tokio::runtime::Runtime,
    clerk: Clerk,
    thread: Option<ClerkThread>,
    addr: SocketAddr,
    job: JobId,
    _folder: tempfile::TempDir,
}

/// An answer.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn reason(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["reason"].as_str().unwrap_or("-").to_owned()
    }
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let keys = BaseKeys::from_bytes(&[7; 32]);
        let (ledger, rows) = Ledger::open(&folder.path().join("ledger")).unwrap();
        let join = Token::parse("hdj_0123456789abcdef").unwrap();
        let options = BookOptions::new("127.0.0.1:1".to_owned(), join.hash());
        let book = Book::new(rows, keys.clone(), options, Stamp::default());
        let (clerk, thread) = Clerk::start(ledger, book).unwrap();
        let tokens = format!("me {TOKEN}\nother hdp_other-0123456789");
        let access = Access::new(read_providers(&tokens).unwrap(), join.hash());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = clerk.clone();
        let store = folder.path().join("store");
        let job = runtime.block_on(async move {
            let (store, _) = Store::open(&store, StoreKey::Signs(keys)).unwrap();
            let ctp = Arc::new(Ctp::new(access, asked.clone(), store, Arc::default()));
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::spawn(async move { axum::serve(listener, router(ctp)).await });
            asked.ask(begin_job).await.unwrap()
        });
        Self { runtime, clerk, thread: Some(thread), addr, job, _folder: folder }
    }

    fn ask<T: Send + 'static>(&self, f: impl FnOnce(&mut Book) -> T + Send + 'static) -> T {
        self.runtime.block_on(self.clerk.ask(move |book, _| f(book))).unwrap()
    }

    /// What the commands of the job do, and whether they were withdrawn.
    fn commands(&self) -> Vec<String> {
        let job = self.job;
        let views: Vec<CommandView> =
            self.ask(move |book| book.command_views("me", job, None, 1_000)).unwrap();
        let tell = |view: CommandView| {
            if view.state == CommandState::Cancelled {
                return "withdrawn".to_owned();
            }
            match view.op {
                Op::Put { path, .. } => format!("put {path} {}", view.uploaded_bytes),
                Op::Mkdir { path, .. } => format!("mkdir {path}"),
                Op::Delete { path } => format!("delete {path}"),
                Op::Move { path, to } => format!("move {path} {to}"),
                Op::SetAttributes { path, attrs } => {
                    let names: Vec<_> = attrs.xattr.keys().collect();
                    format!("set {path} {:?} {:?} {names:?}", attrs.mode, attrs.mtime_ns)
                }
                Op::Query => "query".to_owned(),
                Op::Live { path, from } => format!("live {path} {from}"),
            }
        };
        views.into_iter().map(tell).collect()
    }

    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let path = match path.strip_prefix('!') {
            Some(path) => path.to_owned(),
            None => format!("/ctp/{}/{path}", self.job),
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            head += &format!("authorization: Bearer {TOKEN}\r\n");
        }
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let head = self.head(method, path, headers);
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // It may refuse before it has read everything.
        let _refused = stream.write_all(body);
        let mut bytes = Vec::new();
        let _reset = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn put(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send("PUT", path, headers, body)
    }

    /// An upload that ends after `bytes`, of `size` that were announced.
    fn break_off(&self, path: &str, bytes: &[u8], size: usize) {
        let head = self.head("PUT", path, &[]);
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.write_all(format!("{head}Content-Length: {size}\r\n\r\n").as_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _reset = stream.read_to_end(&mut Vec::new());
        let have = bytes.len().to_string();
        for _ in 0..1_000 {
            if self.send("HEAD", path, &[], b"").header("upload-offset") == Some(&have) {
                return;
            }
            std::thread::yield_now();
        }
        panic!("{path} is not parked at {have}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.end();
        }
    }
}

/// A job for one node, which the book has heard of.
fn begin_job(book: &mut Book, at: Stamp) -> JobId {
    let node = crate::dist::ids::NodeName::new("n1").unwrap();
    let hello = Hello {
        node,
        incarnation: crate::dist::ids::Incarnation(1),
        public_key: NodeKeys::from_bytes(&[1; 32]).verify_key().to_string(),
        addr: "127.0.0.1:1".to_owned(),
        labels: std::collections::BTreeMap::new(),
        up_rate_cap: None,
        down_rate_cap: None,
        free_bytes: 1 << 40,
        utc_ns: at.utc_ns,
        rtsp: None,
        takes_capability: true,
    };
    book.hello(hello, HelloBy::Join, at).unwrap();
    let request = JobRequest {
        client_ref: None,
        targets: Targets::All,
        policy: Policy::default(),
        deadline_s: None,
        notify: Vec::new(),
    };
    book.request_job("me", request, at).unwrap().job_id
}

fn film(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect()
}

const TOKEN: &str = "hdp_0123456789abcdef";

#[test]
fn file_that_was_put_is_read_whole_and_in_ranges_and_listed() {
    let rig = Rig::new();
    let film = film(300_000);
    let put = rig.put("a/film%201.mp4", &[("x-oc-mtime", "1700000000")], &film);
    assert_eq!((put.status, put.header("upload-complete")), (201, Some("?1")), "{}", put.text());
    let hash = blake3::hash(&film).to_string();
    assert_eq!(put.header("headend-blake3"), Some(hash.as_str()));
    assert_eq!(rig.send("GET", "a/film%201.mp4", &[], b"").body, film);
    let part = rig.send("GET", "a/film%201.mp4", &[("range", "bytes=65530-65540")], b"");
    assert_eq!((part.status, &part.body[..]), (206, &film[65_530..=65_540]));
    let list = rig.send("PROPFIND", "a/", &[("depth", "1")], b"").text();
    assert!(list.contains("/a/film%201.mp4</D:href>"), "{list}");
    assert!(list.contains(">300000<") && list.contains("Tue, 14 Nov 2023 22:13:20 GMT"), "{list}");
    let jobs = rig.send("PROPFIND", "!/dav/", &[("depth", "1")], b"").text();
    assert!(jobs.contains(&format!("/dav/{}/", rig.job)), "{jobs}");
    let page = rig.send("GET", &format!("!/dav/{}/a/", rig.job), &[], b"").text();
    assert!(page.contains("film 1.mp4"), "{page}");
    assert_eq!(rig.send("PUT", &format!("!/dav/{}/b", rig.job), &[], b"x").status, 405);
    assert_eq!(rig.commands(), ["put a/film 1.mp4 300000"]);
}

#[test]
fn upload_without_a_length_is_taken_as_it_comes() {
    let rig = Rig::new();
    let head = rig.head("PUT", "empty-or-not", &[("transfer-encoding", "chunked")]);
    let mut stream = TcpStream::connect(rig.addr).unwrap();
    stream.write_all(format!("{head}\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(rig.send("GET", "empty-or-not", &[], b"").body, b"abcde");
    assert_eq!(rig.put("none", &[], b"").status, 201);
    assert_eq!(rig.commands(), ["put empty-or-not 5", "put none 0"]);
}

#[test]
fn upload_that_broke_off_goes_on_by_patch_by_range_and_by_the_whole_file() {
    let film = film(500_000);
    for way in ["patch", "range", "whole"] {
        let rig = Rig::new();
        rig.break_off("f", &film[..200_001], film.len());
        let known = rig.send("HEAD", "f", &[], b"");
        assert_eq!(known.header("upload-complete"), Some("?0"));
        assert_eq!(known.header("upload-length"), Some("500000"));
        let rest = &film[200_001..];
        let done = match way {
            "patch" => {
                let lines = [("upload-offset", "200001"), ("upload-complete", "?1")];
                rig.send("PATCH", "f", &lines, rest)
            }
            "range" => rig.put("f", &[("content-range", "bytes 200001-499999/500000")], rest),
            _ => rig.put("f", &[], &film),
        };
        assert_eq!(done.status, 204, "{way}: {}", done.text());
        assert_eq!(done.header("upload-offset"), Some("500000"), "{way}");
        assert_eq!(rig.send("GET", "f", &[], b"").body, film, "{way}");
        assert_eq!(rig.commands(), ["put f 500000"], "{way}");
    }
}

#[test]
fn upload_goes_on_at_its_offset_and_nowhere_else() {
    let rig = Rig::new();
    let film = film(1_000);
    let lines = [("upload-complete", "?0"), ("upload-length", "1000")];
    let first = rig.put("f", &lines, &film[..400]);
    assert_eq!((first.status, first.header("upload-offset")), (201, Some("400")));
    let wrong = rig.send(
        "PATCH",
        "f",
        &[("upload-offset", "300"), ("upload-complete", "?1")],
        &film[300..],
    );
    assert_eq!((wrong.status, wrong.reason().as_str()), (409, "mismatching_offset"));
    assert!(wrong.text().contains("\"expected_offset\":400"), "{}", wrong.text());
    let beyond = rig.put("f", &[("content-range", "bytes 500-999/1000")], &film[500..]);
    assert_eq!(beyond.reason(), "mismatching_offset");
    let other = rig.put("g", &[("content-range", "bytes 500-999/1000")], &film[500..]);
    assert_eq!((other.status, other.reason().as_str()), (409, "no_upload"));
    let rest = [("upload-offset", "400"), ("upload-complete", "?1")];
    assert_eq!(rig.send("PATCH", "f", &rest, &film[400..]).status, 204);
    assert_eq!(rig.send("PATCH", "f", &rest, &film[400..]).reason(), "no_upload");
}

#[test]
fn file_that_changed_since_its_upload_broke_off_is_another_put() {
    let rig = Rig::new();
    let mut film = film(400_000);
    rig.break_off("f", &film[..300_000], film.len());
    film[200_000] ^= 1;
    let done = rig.put("f", &[], &film);
    assert_eq!(done.status, 204, "{}", done.text());
    assert_eq!(rig.send("GET", "f", &[], b"").body, film);
    assert_eq!(rig.commands(), ["withdrawn", "put f 400000"]);
    // Of another size it is another from the start.
    rig.break_off("g", &film[..10], 100);
    assert_eq!(rig.put("g", &[], b"short").status, 204);
    assert_eq!(rig.commands()[2..], ["withdrawn", "put g 5"]);
}

#[test]
fn folders_moves_deletions_and_properties_are_commands_in_order() {
    let rig = Rig::new();
    let destination = format!("/ctp/{}/b", rig.job);
    assert_eq!(rig.send("MKCOL", "a", &[], b"").status, 201);
    assert_eq!(rig.send("MKCOL", "a", &[], b"").status, 405);
    assert_eq!(rig.send("MKCOL", "x/y", &[], b"").status, 409);
    assert_eq!(rig.put("a/f", &[], b"12").status, 201);
    let props = "<D:propertyupdate xmlns:D='DAV:'><D:set><D:prop>\
                 <D:lastmodified>9</D:lastmodified><m xmlns='urn:m'>v</m></D:prop></D:set>\
                 </D:propertyupdate>";
    let patched = rig.send("PROPPATCH", "a/f", &[], props.as_bytes());
    assert!(
        patched.status == 207 && !patched.text().contains("403 Forbidden"),
        "{}",
        patched.text()
    );
    let asked =
        "<propfind xmlns='DAV:'><prop><m xmlns='urn:m'/><getlastmodified/></prop></propfind>";
    let told = rig.send("PROPFIND", "a/f", &[("depth", "0")], asked.as_bytes()).text();
    assert!(told.contains(">v<") && told.contains("Thu, 01 Jan 1970 00:00:09 GMT"), "{told}");
    assert_eq!(rig.send("MOVE", "a", &[("destination", &destination)], b"").status, 201);
    assert_eq!(rig.send("GET", "b/f", &[], b"").body, b"12");
    let copy = format!("/ctp/{}/c", rig.job);
    assert_eq!(rig.send("COPY", "b/f", &[("destination", &copy)], b"").status, 201);
    assert_eq!(rig.send("DELETE", "b", &[], b"").status, 204);
    assert_eq!(rig.send("GET", "b/f", &[], b"").status, 404);
    assert_eq!(
        rig.commands(),
        [
            "mkdir a",
            "put a/f 2",
            "set a/f None Some(9000000000) [\"user.{urn:m}m\"]",
            "move a b",
            "put c 2",
            "delete b",
        ]
    );
}

/// 64 KiB of `<a>` ended the process: the parser of XML calls itself for each level.
#[test]
fn xml_that_is_nested_deeply_is_refused_and_the_base_goes_on() {
    let rig = Rig::new();
    assert_eq!(rig.put("f", &[], &film(10)).status, 201);
    for body in ["<a>".repeat(20_000), "<a b=\"/>\"><![CDATA[</a>]]>".repeat(2_000)] {
        for method in ["PROPFIND", "PROPPATCH", "LOCK"] {
            let answer = rig.send(method, "f", &[], body.as_bytes());
            assert_eq!(answer.status, 400, "{method} {}", answer.text());
        }
    }
    let asked = "<propfind xmlns=\"DAV:\"><prop><getetag/></prop></propfind>";
    assert_eq!(rig.send("PROPFIND", "f", &[("depth", "0")], asked.as_bytes()).status, 207);
}

#[test]
fn upload_that_is_deleted_before_its_end_is_withdrawn() {
    let rig = Rig::new();
    rig.break_off("f", b"abc", 10);
    assert_eq!(rig.send("DELETE", "f", &[], b"").status, 204);
    assert_eq!(rig.send("HEAD", "f", &[], b"").status, 404);
    assert_eq!(rig.commands(), ["withdrawn"]);
}

#[test]
fn hashes_and_sizes_that_the_client_named_are_held_to() {
    let rig = Rig::new();
    let sha1 = "SHA1:a9993e364706816aba3e25717850c26c9cd0d89d";
    assert_eq!(rig.put("good", &[("oc-checksum", sha1)], b"abc").status, 201);
    let asked = "<propfind xmlns='DAV:'><prop><c:checksums xmlns:c='http://owncloud.org/ns'/></prop>\
                 </propfind>";
    let told = rig.send("PROPFIND", "good", &[("depth", "0")], asked.as_bytes()).text();
    assert!(told.contains(sha1), "{told}");
    let bad = rig.put("bad", &[("oc-checksum", sha1)], b"abd");
    assert_eq!((bad.status, bad.reason().as_str()), (422, "bad_hash"));
    let hash = blake3::hash(b"abc").to_string();
    assert_eq!(rig.put("good2", &[("headend-blake3", &hash)], b"abc").status, 201);
    let bad = rig.put("bad2", &[("headend-blake3", &hash)], b"abd");
    assert_eq!((bad.status, bad.reason().as_str()), (422, "bad_hash"));
    let short = rig.put("short", &[("upload-complete", "?1"), ("upload-length", "9")], b"abc");
    assert_eq!((short.status, short.reason().as_str()), (400, "wrong_size"));
    let commands = rig.commands();
    assert_eq!(commands[..3], ["put good 3", "withdrawn", "put good2 3"], "{commands:?}");
}

#[test]
fn strangers_and_paths_that_lead_elsewhere_are_refused() {
    let rig = Rig::new();
    let unknown =
        rig.send("PROPFIND", "", &[("authorization", "Bearer hdp_0123456789abcdeX")], b"");
    assert_eq!(unknown.status, 401);
    assert!(unknown.header("www-authenticate").is_some_and(|asks| asks.contains("Basic")));
    let other = rig.put("f", &[("authorization", "Bearer hdp_other-0123456789")], b"x");
    assert_eq!(other.status, 404, "{}", other.text());
    let basic = [("authorization", "Basic bWU6aGRwXzAxMjM0NTY3ODlhYmNkZWY=")];
    assert_eq!(rig.put("f", &basic, b"x").status, 201);
    assert_eq!(rig.put("f/g", &[], b"x").reason(), "path_conflict");
    assert_eq!(rig.send("MKCOL", "d", &[], b"").status, 201);
    assert_eq!(rig.put("d", &[], b"x").status, 405);
    for (path, status) in [("%ff", 400), ("../x", 400), ("a/%2e%2e/%2e%2e/%2e%2e/x", 400)] {
        assert_eq!(rig.put(path, &[], b"x").status, status, "{path}");
    }
    assert_eq!(rig.put("h", &[("content-range", "bytes 9-1/2")], b"x").status, 400);
    assert_eq!(rig.put("!/ctp/not-a-job/x", &[], b"x").status, 400);
    assert_eq!(rig.commands(), ["put f 1", "mkdir d"]);
}

#[test]
fn job_that_takes_no_more_commands_refuses_uploads_with_its_reason() {
    let rig = Rig::new();
    let job = rig.job;
    rig.runtime
        .block_on(rig.clerk.ask(move |book, at| book.end_job("me", job, at)))
        .unwrap()
        .unwrap();
    let refused = rig.put("f", &[], b"x");
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_ne!(refused.reason(), "-");
}

#[test]
fn lock_keeps_everyone_out_who_does_not_show_it() {
    let rig = Rig::new();
    let wanted = "<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/></D:lockscope>\
                  <D:locktype><D:write/></D:locktype></D:lockinfo>";
    let locked = rig.send("LOCK", "f", &[("depth", "0")], wanted.as_bytes());
    assert_eq!(locked.status, 201, "{}", locked.text());
    let token = locked.header("lock-token").unwrap().to_owned();
    assert_eq!(rig.put("f", &[], b"x").status, 423);
    assert_eq!(rig.put("f", &[("if", &format!("({token})"))], b"x").status, 201);
    let props = "<propertyupdate xmlns='DAV:'/>";
    assert_eq!(rig.send("PROPPATCH", "f", &[], props.as_bytes()).status, 423);
    assert_eq!(rig.send("UNLOCK", "f", &[("lock-token", &token)], b"").status, 204);
    assert_eq!(rig.put("f", &[], b"y").status, 204);
    assert_eq!(rig.commands(), ["put f 1", "put f 1"]);
}
