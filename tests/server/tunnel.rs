//! RTSP over HTTP from outside: both halves on whichever shard they land, cut anywhere, of clients
//! that are wrong or hostile.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::IpAddr;

use crate::support::http::{get, metric};
use crate::support::login::{password, users};
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};
use crate::support::tunnel::{Half, Tunnel, head};
use crate::support::wait::until;

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const SETUP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";

/// Four shards: two connections land on two of them most of the time.
fn start(config: &str) -> Server {
    Server::start(&Options { shards: "4", config: Some(config), ..Options::default() })
}

fn cookie(number: usize) -> String {
    format!("cookie-of-the-test-{number}")
}

fn tunnels(server: &Server) -> f64 {
    let (_, text) = get(server.admin, "/metrics");
    let lines = text.lines().filter_map(|line| line.strip_prefix("headend_rtsp_tunnels{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn refused(server: &Server, reason: &str) -> f64 {
    let (_, text) = get(server.admin, "/metrics");
    let label = format!("reason=\"{reason}\"");
    let lines = text.lines().filter(|line| {
        line.starts_with("headend_rtsp_tunnels_refused_total{") && line.contains(&label)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn session_of(answer: &str) -> String {
    let line = answer.lines().find_map(|line| line.strip_prefix("Session: "));
    line.and_then(|line| line.split(';').next()).unwrap().to_owned()
}

fn play(tunnel: &mut Tunnel, server: &Server) -> String {
    let url = server.demo_url();
    let described = tunnel.request("DESCRIBE", &url, "");
    assert!(described.starts_with("RTSP/1.0 200"), "{described}");
    let set_up = tunnel.request("SETUP", &format!("{url}/trackID=0"), SETUP);
    assert!(set_up.starts_with("RTSP/1.0 200"), "{set_up}");
    let session = session_of(&set_up);
    let played = tunnel.request("PLAY", &url, &format!("Session: {session}\r\n"));
    assert!(played.starts_with("RTSP/1.0 200"), "{played}");
    session
}

#[test]
fn title_plays_whichever_shards_the_two_connections_are_on() {
    let server = start("");
    let mut open: Vec<Tunnel> = (0..8).map(|n| Tunnel::open(server.rtsp, &cookie(n))).collect();
    for tunnel in &mut open {
        play(tunnel, &server);
        assert_eq!(tunnel.down.frames(20), 20);
    }
    assert!((tunnels(&server) - 8.0).abs() < 0.1);
    drop(open);
    until("nothing is left of them", || tunnels(&server) < 0.5);
}

#[test]
fn head_and_body_may_be_cut_anywhere_and_requests_lie_behind_each_other() {
    let server = start("");
    let url = server.demo_url();
    let mut whole = Tunnel::open(server.rtsp, &cookie(0));
    for byte in
        [whole.encoded("OPTIONS", &url, ""), whole.encoded("OPTIONS", &url, "")].concat().bytes()
    {
        whole.up.send(&[byte]);
    }
    assert!(whole.down.message().contains("CSeq: 1\r\n"));
    assert!(whole.down.message().contains("CSeq: 2\r\n"));
    // The head byte by byte, with the begin of the body behind it.
    let mut client = Client::connect(server.rtsp);
    client.send_byte_by_byte(head("GET", &cookie(1)).as_bytes());
    let mut up = Client::connect(server.rtsp);
    // The GET is entered when it is answered.
    let mut first = [0; 15];
    std::io::Read::read_exact(&mut client.stream(), &mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.0 200 OK");
    let request = whole.encoded("OPTIONS", &url, "");
    up.send_byte_by_byte(format!("{}{request}", head("POST", &cookie(1))).as_bytes());
    let mut answer = [0; 512];
    let read = std::io::Read::read(&mut client.stream(), &mut answer).expect("an answer");
    assert!(read > 0);
}

#[test]
fn post_that_is_closed_and_comes_again_goes_on() {
    let server = start("");
    let mut tunnel = Tunnel::open(server.rtsp, &cookie(0));
    let session = play(&mut tunnel, &server);
    for _ in 0..5 {
        tunnel.post_again(server.rtsp, &cookie(0));
        let url = server.demo_url();
        let header = format!("Session: {session}\r\n");
        let answer = tunnel.request("GET_PARAMETER", &url, &header);
        assert!(answer.starts_with("RTSP/1.0 200"), "{answer}");
    }
    let torn = tunnel.request("TEARDOWN", &server.demo_url(), &format!("Session: {session}\r\n"));
    assert!(torn.starts_with("RTSP/1.0 200"), "{torn}");
}

#[test]
fn cookie_is_of_one_tunnel_and_of_one_address() {
    let server = start("");
    let other = IpAddr::from([127, 0, 0, 2]);
    let mut tunnel = Tunnel::open(server.rtsp, &cookie(0));
    let taken = Half::open(OWN, server.rtsp, "GET", &cookie(0)).until_closed();
    assert!(taken.starts_with("HTTP/1.0 409"), "{taken}");
    for (from, name) in [(other, cookie(0)), (OWN, cookie(1))] {
        let unknown = Half::open(from, server.rtsp, "POST", &name).until_closed();
        assert!(unknown.starts_with("HTTP/1.0 404"), "{unknown}");
    }
    for short in ["", "short"] {
        let malformed = Half::open(OWN, server.rtsp, "GET", short).until_closed();
        assert!(malformed.starts_with("HTTP/1.0 400"), "{malformed}");
    }
    assert!((refused(&server, "taken") - 1.0).abs() < 0.1);
    assert!((refused(&server, "unknown") - 2.0).abs() < 0.1);
    assert!(tunnel.request("OPTIONS", &server.demo_url(), "").starts_with("RTSP/1.0 200"));
}

#[test]
fn garbage_ends_its_tunnel_and_a_giant_body_does_not_grow() {
    let server = start("");
    let mut tunnel = Tunnel::open(server.rtsp, &cookie(0));
    tunnel.up.send(b"this is *not* base64");
    let answer = tunnel.up.until_closed();
    assert!(answer.starts_with("HTTP/1.0 400"), "{answer}");
    tunnel.down.until_closed();
    // Base64 of what is no RTSP, for as long as the server takes it.
    let mut giant = Tunnel::open(server.rtsp, &cookie(1));
    let block = "AAAA".repeat(16 << 10);
    let sent = (0..64).take_while(|_| giant.up.try_send(block.as_bytes())).count();
    assert!(sent > 0);
    let mut beside = Tunnel::open(server.rtsp, &cookie(2));
    assert!(beside.request("OPTIONS", &server.demo_url(), "").starts_with("RTSP/1.0 200"));
    drop((giant, beside));
    until("nothing is left of them", || tunnels(&server) < 0.5);
}

#[test]
fn tunnel_without_its_second_half_ends_by_itself() {
    let server = start("[rtsp]\nsession_timeout = \"1s\"\n");
    let mut half = Half::open(OWN, server.rtsp, "GET", &cookie(0));
    assert!(half.message().starts_with("HTTP/1.0 200"));
    half.until_closed();
    until("it is forgotten", || tunnels(&server) < 0.5);
    // The half of a head.
    let mut client = Client::connect(server.rtsp);
    client.send_raw("POST /demo HTTP/1.0\r\nx-session");
    client.assert_closed();
}

#[test]
fn post_of_a_player_that_says_nothing_lives_as_long_as_its_get() {
    let server = start("[rtsp]\nsession_timeout = \"1s\"\n");
    let mut tunnel = Tunnel::open(server.rtsp, &cookie(0));
    play(&mut tunnel, &server);
    // The clip is ten seconds long: several timeouts pass.
    tunnel.down.frames(100);
    let answer = tunnel.request("OPTIONS", &server.demo_url(), "");
    assert!(answer.starts_with("RTSP/1.0 200"), "{answer}");
    let Tunnel { down, mut up, .. } = tunnel;
    drop(down);
    up.until_closed();
}

#[test]
fn operator_bounds_tunnels_gives_them_a_port_or_has_none() {
    let server = start("[rtsp.http]\ntunnels_max = 0\n");
    let off = Half::open(OWN, server.rtsp, "GET", &cookie(0)).until_closed();
    assert!(off.starts_with("HTTP/1.0 403"), "{off}");
    drop(server);
    let config = "[rtsp.http]\ntunnels_max = 1\nlisten = [\"127.0.0.1:0\"]\n";
    let server =
        Server::start(&Options { shards: "1", config: Some(config), ..Options::default() });
    let mut tunnel = Tunnel::open(server.tunnels(), &cookie(0));
    assert!(tunnel.request("OPTIONS", &server.demo_url(), "").starts_with("RTSP/1.0 200"));
    let full = Half::open(OWN, server.tunnels(), "GET", &cookie(1)).until_closed();
    assert!(full.starts_with("HTTP/1.0 503"), "{full}");
}

#[test]
fn login_inside_a_tunnel_is_that_of_any_connection() {
    let server = start(&users(&["ann"], true));
    let mut tunnel = Tunnel::open(server.rtsp, &cookie(0));
    let url = server.demo_url();
    let challenge = tunnel.request("DESCRIBE", &url, "");
    assert!(challenge.starts_with("RTSP/1.0 401"), "{challenge}");
    use base64::Engine as _;
    let credentials = format!("ann:{}", password("ann"));
    let credentials = base64::engine::general_purpose::STANDARD.encode(credentials);
    let answer =
        tunnel.request("DESCRIBE", &url, &format!("Authorization: Basic {credentials}\r\n"));
    assert!(answer.starts_with("RTSP/1.0 200"), "{answer}");
    assert_eq!(metric(server.admin, "headend_logins_failed_total"), Some(0.0));
}
