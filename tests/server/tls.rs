//! TLS of distribution from outside: who is believed, who is refused, and what lasts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use headend::dist::ids::NodeName;
use headend::dist::token::{Fingerprint, split_token, with_fingerprint};
use headend::pki::host_of;
use reqwest::Method;
use serde_json::json;

use crate::support::base::{Base, Client, ScriptedNode, read};
use crate::support::process::{Finished, run_command};
use crate::support::rtsp;
use crate::support::scratch;
use crate::support::server::{Server, binary};
use crate::support::wait::{PATIENCE, until};

/// A folder, and a base with TLS that keeps its data there.
fn base(words: &[&str]) -> (tempfile::TempDir, Base) {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start_secure(&dir.path().join("data"), words);
    (dir, base)
}

/// `headend node` with a folder of its own beside `data`.
fn node_command(base: &str, join: &str, media: &Path) -> Command {
    std::fs::create_dir_all(media).unwrap();
    let mut command = Command::new(binary());
    command.args(["node", "--base", base, "--join", join, "--name", "n", "--media"]).arg(media);
    command.args(["--peer-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0", "--rtp-port", "0", "--shards", "1", "--workers", "1"]);
    command
}

fn start_node(base: &Base, media: &Path) -> Server {
    let command = node_command(&base.url(), &base.token("join.token"), media);
    Server::run(command, tempfile::tempdir_in(scratch()).unwrap())
}

fn headend(args: &[&str]) -> Finished {
    run_command(Command::new(binary()).args(args), PATIENCE)
}

/// A job for all nodes with one file.
async fn upload(client: &Client, name: &str, bytes: &[u8]) {
    let (status, job) = client.post("/v1/jobs", &json!({"targets": "all"})).await;
    assert_eq!(status, 201, "{job}");
    let path = format!("/ctp/{}/{name}", job["job_id"].as_str().unwrap());
    let put = client.request(Method::PUT, &path).body(bytes.to_vec()).send().await.unwrap();
    assert!(put.status().is_success(), "{put:?}");
}

async fn reason(request: reqwest::RequestBuilder) -> (u16, String) {
    let (status, body) = read(request).await.unwrap();
    (status, body["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_gives_bytes_to_the_node_of_the_capability_and_to_nobody_else() {
    let (dir, base) = base(&[]);
    let media = dir.path().join("n");
    let _node = start_node(&base, &media);
    let (joining, client) = (base.joining(), base.client());
    let (mut own, mut third) = (ScriptedNode::new("edge-1"), ScriptedNode::new("edge-3"));
    own.join(&joining).await.unwrap();
    third.join(&joining).await.unwrap();
    let (_elsewhere, other_base) = self::base(&[]);
    let mut foreign = ScriptedNode::new("edge-1");
    foreign.join(&other_base.joining()).await.unwrap();

    let bytes = vec![7; 200_000];
    upload(&client, "a.bin", &bytes).await;
    let (content, capability) = own.source(&joining).await;
    until("the node has the file", || media.join("a.bin").exists());
    let addr = client.found("/v1/nodes/n").await["addr"].as_str().unwrap().to_owned();
    let addr: SocketAddr = addr.parse().unwrap();
    let host = host_of(&NodeName::new("n").unwrap());
    let url = format!("https://{host}:{}/peer/v1/contents/{content}/units", addr.port());
    let hosts = [(host, addr)];
    let ask = |http: &reqwest::Client| http.get(&url).bearer_auth(&capability).timeout(PATIENCE);
    let given = |node: &ScriptedNode| node.given.clone().unwrap();

    let answer = ask(&own.certified(&given(&own), &hosts)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.unwrap().len() > bytes.len());
    // The node of another capability; the same name and key, certified by another base; nobody.
    let stolen = reason(ask(&third.certified(&given(&third), &hosts))).await;
    assert_eq!(stolen, (403, "certificate_of_another_node".to_owned()));
    let mut shown = given(&foreign);
    shown.authority = given(&own).authority;
    ask(&foreign.certified(&shown, &hosts)).send().await.unwrap_err();
    let mut plain = TcpStream::connect(addr).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: n\r\n\r\n").unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("tls_needed"), "{answer}");
    // Whoever has no certificate comes as far as the handshake.
    let stranger = base.client_with(&capability);
    let stranger = stranger.request_at(&url, &hosts).await;
    assert!(stranger.is_err(), "{stranger:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_names_a_node_counts_with_its_certificate_until_it_is_retired() {
    let (dir, mut base) = base(&[]);
    let (joining, client) = (base.joining(), base.client());
    let (mut own, mut third) = (ScriptedNode::new("edge-1"), ScriptedNode::new("edge-3"));
    own.join(&joining).await.unwrap();
    third.join(&joining).await.unwrap();
    upload(&client, "a.bin", b"abc").await;
    let (content, capability) = own.source(&joining).await;
    let orders = |client: &Client| reason(client.request(Method::GET, "/agent/v1/orders"));
    let units = format!("/peer/v1/contents/{content}/units");
    let fetch = |client: Client| async move {
        reason(client.with_token(&capability).request(Method::GET, &units)).await
    };
    let told = |status: u16, reason: &str| (status, reason.to_owned());
    let own_token = own.own(&joining);
    let without = joining.with_token(own_token.token());
    let stolen = third.own(&joining).with_token(own_token.token());
    assert_eq!(orders(&without).await, told(401, "certificate_missing"));
    assert_eq!(orders(&stolen).await, told(403, "certificate_of_another_node"));
    assert_eq!(fetch.clone()(joining.clone()).await, told(401, "certificate_missing"));
    assert_eq!(fetch.clone()(third.own(&joining)).await, told(403, "certificate_of_another_node"));
    assert_eq!(fetch.clone()(own_token.clone()).await.0, 200);
    // A request for the key of another node.
    let mut hello = serde_json::to_value(own.hello()).unwrap();
    hello["certificate_request"] = json!(third.request());
    let answer = joining.post("/agent/v1/hello", &hello).await;
    assert_eq!((answer.0, &answer.1["reason"]), (400, &json!("bad_certificate_request")));

    // The CA and the certificates outlive the base.
    base.kill();
    let base = Base::start_secure_at(&dir.path().join("data"), base.addr, &[]);
    assert_eq!(fetch.clone()(own.own(&base.joining())).await.0, 200);
    let (status, _) = base.client().post("/v1/nodes/edge-1/retire", &json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(fetch.clone()(own_token.clone()).await, told(403, "node_retired"));
    assert_eq!(orders(&own_token).await, told(401, "token_unknown"));
    let hello = serde_json::to_value(own.hello()).unwrap();
    let again = base.joining().post("/agent/v1/hello", &hello).await;
    assert_eq!(again.1["reason"], "node_retired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_renews_its_certificate_in_time_and_an_expired_one_is_refused() {
    let (dir, base) = base(&["--certificate-life", "4s"]);
    let media = dir.path().join("n");
    let node = start_node(&base, &media);
    let (joining, client) = (base.joining(), base.client());
    let mut idle = ScriptedNode::new("edge-1");
    idle.join(&joining).await.unwrap();
    let given = idle.given.clone().unwrap();
    until("the node has its third certificate", || node.log().matches("HE-I923").count() >= 3);
    // The base has a new one, too: its first has expired as well. So has the idle node's.
    upload(&base.client(), "late.bin", b"abc").await;
    until("the node fetches", || media.join("late.bin").exists());
    let old = idle.own(&joining).over(idle.certified(&given, &[]));
    let refused = old.request(Method::GET, "/agent/v1/orders").send().await;
    assert!(refused.is_err(), "{refused:?}");
    until("the base logs why", || {
        base.log().lines().any(|line| line.contains("HE-I933") && line.contains("expired"))
    });
    // It may say hello, as its key is its own.
    idle.join(&joining).await.unwrap();
    let orders = idle.own(&joining).request(Method::GET, "/agent/v1/orders").send().await.unwrap();
    assert_eq!(orders.status(), 200);
    assert_eq!(client.found("/v1/nodes/n").await["state"], "active");
}

#[test]
fn wrong_fingerprint_or_way_ends_with_one_sentence() {
    let (dir, base) = base(&[]);
    let media = dir.path().join("n");
    let wrong = |name: &str| {
        let token = base.token(name);
        with_fingerprint(split_token(&token).0, &Fingerprint([9; 32]))
    };
    let join = |url: &str, token: &str| {
        run_command(&mut node_command(url, token, &media), Duration::from_secs(30))
    };
    let (url, plain) = (base.url(), format!("http://{}", base.addr));
    let good = base.token("join.token");
    let secret = split_token(&good).0;
    for (finished, exit, words) in [
        (
            join(&url, &wrong("join.token")),
            2,
            "is not trusted: its certificate is not one of the CA",
        ),
        (join(&url, secret), 2, "nothing tells this node the right base"),
        (join(&plain, &good), 2, "--insecure to do without"),
        (
            headend(&["job", "ls", "--base", &url, "--token", &wrong("provider.token")]),
            1,
            "is not trusted: its certificate is not one of the CA",
        ),
        (
            headend(&["job", "ls", "--base", &url, "--token", "hdp_0123456789abcdef"]),
            2,
            "--ca FILE",
        ),
        (
            headend(&["job", "ls", "--base", &plain, "--token", &base.token("provider.token")]),
            1,
            "(tls_needed)",
        ),
    ] {
        assert_eq!(finished.status.code(), Some(exit), "{}", finished.stderr);
        assert!(finished.stderr.contains(words), "{words}: {}", finished.stderr);
        assert_eq!(finished.stderr.trim_end().lines().count(), 1, "{}", finished.stderr);
    }
    let good = base.token("provider.token");
    let asked = headend(&["job", "ls", "--base", &url, "--token", &good]);
    assert!(asked.status.success(), "{}", asked.stderr);
    // By another name it is not believed, with the remedy.
    let other = format!("https://127.0.0.2:{}", base.addr.port());
    let asked = headend(&["job", "ls", "--base", &other, "--token", &good]);
    assert_ne!(asked.status.code(), Some(0), "{}", asked.stdout);
}

#[test]
fn base_without_tls_says_so_and_is_told_from_one_with_it() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start(&dir.path().join("data"));
    assert!(base.banner.contains("warning  without TLS"), "{}", base.banner);
    assert!(base.banner.contains("headend node --insecure"), "{}", base.banner);
    let token = with_fingerprint(&base.token("provider.token"), &Fingerprint([9; 32]));
    let url = format!("https://{}", base.addr);
    let asked = headend(&["job", "ls", "--base", &url, "--token", &token]);
    assert!(asked.stderr.contains("it does not speak TLS"), "{}", asked.stderr);
}

#[tokio::test]
async fn base_is_named_by_each_address_that_it_is_reached_at_and_by_those_it_is_told() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let words = ["--host-name", "base.example"];
    let all: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let base = Base::start_secure_at(&dir.path().join("data"), all, &words);
    let port = base.addr.port();
    for host in ["127.0.0.1", "127.0.0.3", "localhost", "base.example"] {
        let at: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        let hosts = [("base.example".to_owned(), at)];
        let url = format!("https://{host}:{port}/healthz");
        let answer = base.client().request_at(&url, &hosts).await;
        assert_eq!(answer.unwrap().status(), 200, "{host}");
    }
    let other = format!("https://other.example:{port}/healthz");
    let at = [("other.example".to_owned(), format!("127.0.0.1:{port}").parse().unwrap())];
    base.client().request_at(&other, &at).await.unwrap_err();
}

#[tokio::test]
async fn strangers_that_connect_and_say_nothing_are_hung_up_on() {
    let (_dir, base) = base(&[]);
    // As many as may be in a handshake, and some more: of one address, with the client.
    let mut silent: Vec<_> =
        (0..HANDSHAKES + 20).map(|_| TcpStream::connect(base.addr).unwrap()).collect();
    let answer = base.client().bare("/healthz").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let first = &mut silent[0];
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(first.read(&mut [0]).unwrap(), 0, "it was hung up on");
}

/// Handshakes that a base has at once.
const HANDSHAKES: usize = 512;

/// All others waited in the backlog once until its handshakes had timed out.
#[test]
fn address_that_begins_handshakes_without_end_has_its_share_and_no_more() {
    let (_dir, base) = base(&[]);
    let stranger = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let held: Vec<_> = (0..520).map(|_| rtsp::Client::connect_from(stranger, base.addr)).collect();
    let is_closed = |client: &&rtsp::Client| {
        client.stream().set_nonblocking(true).unwrap();
        !client.stream().peek(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
    };
    // Of 512 an address of this host may have three quarters.
    let (oldest, others) = held.split_at(520 - 384);
    until("its oldest are closed", || oldest.iter().all(|client| is_closed(&client)));
    assert_eq!(others.iter().filter(is_closed).count(), 0, "these have not timed out");
}
