//! The client against scripted cameras: the requests to each, in order, and the effects of its
//! answers. The oddities are those of FIELD's list of cameras.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::base::host::Host;
use crate::base::secret::Secret;
use crate::base::time::Mono;
use crate::poll::task::ResolveFailure;
use crate::rtsp::reader::{Input, RequestReader};
use crate::rtsp::source_url::parse_source_url;

const URL: &str = "rtsp://10.0.0.7/live";
const SDP: &str = "v=0\r\no=- 0 0 IN IP4 10.0.0.7\r\ns=cam\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:trackID=1\r\n";

/// A camera that answers from a script, one answer a request, and a shard that does all at once.
struct Rig {
    client: PullClient,
    now: Mono,
    answers: VecDeque<String>,
    /// Carried out orders: requests by their first line, the rest in words.
    log: Vec<String>,
    /// Requests as sent.
    requests: Vec<String>,
    ways: Vec<PullWay>,
    has_ports: bool,
    cseq_is_left_out: bool,
    cseq_off: i64,
}

impl Rig {
    fn new(url: &str, transport: SourceTransport, answers: &[&str]) -> Self {
        Self::with_memory(url, transport, None, answers)
    }

    fn with_memory(
        url: &str,
        transport: SourceTransport,
        worked: Option<Lower>,
        answers: &[&str],
    ) -> Self {
        let tls = SourceTls::Verify;
        let url = parse_source_url(url).unwrap();
        Self::with_plan(PullPlan { url, transport, tls, worked, capability: None }, answers)
    }

    fn with_plan(plan: PullPlan, answers: &[&str]) -> Self {
        let now = Mono(1_000_000_000_000);
        let mut rig = Self {
            client: PullClient::new(plan, now),
            now,
            answers: answers.iter().map(|&answer| answer.to_owned()).collect(),
            log: Vec::new(),
            requests: Vec::new(),
            ways: Vec::new(),
            has_ports: true,
            cseq_is_left_out: false,
            cseq_off: 0,
        };
        rig.run();
        rig
    }

    /// Carries out the client's orders until the client waits.
    fn run(&mut self) {
        for _ in 0..200 {
            let orders = std::mem::take(&mut self.client.out);
            if orders.is_empty() {
                return;
            }
            for order in orders {
                self.apply(order);
            }
        }
        panic!("it goes round and round: {:#?}", self.log);
    }

    fn apply(&mut self, order: PullOrder) {
        let now = self.now;
        let line = match &order {
            PullOrder::Send(bytes) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                text.lines().next().unwrap_or_default().replace(" RTSP/1.0", "")
            }
            PullOrder::Claim(sdp) => format!("claim {} tracks", sdp.medias().len()),
            PullOrder::Connect(to) => format!("connect {to}"),
            PullOrder::Resolve { host, zone: Some(zone) } => format!("resolve {host} of {zone}"),
            PullOrder::Resolve { host, zone: None } => format!("resolve {host}"),
            PullOrder::Failed(error) => format!("failed: {error}"),
            other => format!("{other:?}"),
        };
        self.log.push(line);
        match order {
            PullOrder::Resolve { host, zone: Some(_) } => {
                let host = Host::new(host.parse().unwrap(), 3);
                self.client.handle_resolved(Ok(&[host]), now);
            }
            PullOrder::Resolve { zone: None, .. } => {
                let hosts = [7, 8].map(|n| Host::from(IpAddr::from([10, 0, 0, n])));
                self.client.handle_resolved(Ok(&hosts), now);
            }
            PullOrder::Connect(_) => self.client.handle_connected(now),
            PullOrder::Claim(_) => self.client.handle_granted(now),
            PullOrder::WantPorts(_) => {
                self.client.handle_ports(self.has_ports.then_some((6_000, 6_001)), now);
            }
            PullOrder::SetUp { way, .. } => self.ways.push(way),
            PullOrder::Send(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.requests.push(text);
                if let Some(answer) = self.answers.pop_front().filter(|text| !text.is_empty()) {
                    self.answer(&answer);
                }
            }
            PullOrder::Disconnect | PullOrder::Begin | PullOrder::Failed(_) => {}
        }
    }

    /// The camera answers the newest request; `CSeq` is put in.
    fn answer(&mut self, text: &str) {
        let cseq = self.requests.last().and_then(|text| header(text, "CSeq")).unwrap();
        let cseq = cseq.parse::<i64>().unwrap() + self.cseq_off;
        let (status, rest) = text.split_once("\r\n").unwrap_or((text, "\r\n"));
        let cseq = if self.cseq_is_left_out { String::new() } else { format!("CSeq: {cseq}\r\n") };
        let mut reader = RequestReader::new();
        reader.handle_bytes(format!("RTSP/1.0 {status}\r\n{cseq}{rest}").as_bytes());
        let Some(Input::Response(answer)) = reader.poll() else { panic!("{text}") };
        self.client.handle_answer(&answer, self.now);
    }

    fn after(&mut self, s: u64) {
        self.now = self.now + Duration::from_secs(s);
        self.client.handle_tick(self.now);
        self.run();
    }

    fn last(&self) -> &str {
        self.log.last().map_or("", String::as_str)
    }

    /// Values of a header in all requests that have it.
    fn sent(&self, name: &str) -> Vec<String> {
        self.requests.iter().filter_map(|text| header(text, name)).collect()
    }
}

fn header(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))?;
    Some(line.to_owned())
}

fn described(headers: &str, sdp: &str) -> String {
    format!("200 OK\r\n{headers}Content-Length: {}\r\n\r\n{sdp}", sdp.len())
}

fn usual() -> String {
    described("Content-Base: rtsp://10.0.0.7/live/\r\nContent-Type: application/sdp\r\n", SDP)
}

const PUBLIC: &str = "200 OK\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER\r\n\r\n";
const TCP_0: &str =
    "200 OK\r\nSession: 5;timeout=30\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n";
const TCP_1: &str =
    "200 OK\r\nSession: 5\r\nTransport: RTP/AVP/TCP;unicast;interleaved=2-3\r\n\r\n";
const UDP: &str = "200 OK\r\nSession: 5\r\n\
    Transport: RTP/AVP;unicast;client_port=6000-6001;server_port=8000-8001\r\n\r\n";
const OK: &str = "200 OK\r\n\r\n";

fn playing(transport: SourceTransport, set_ups: [&str; 2]) -> Rig {
    Rig::new(URL, transport, &[PUBLIC, &usual(), set_ups[0], set_ups[1], OK])
}

#[test]
fn camera_is_played_over_tcp_from_name_to_teardown() {
    let answers = [PUBLIC, &usual(), TCP_0, TCP_1, OK];
    let mut rig = Rig::new("rtsp://cam.lan:8554/live", SourceTransport::Tcp, &answers);
    rig.client.handle_media();
    rig.after(9);
    rig.after(1);
    rig.client.stop();
    rig.run();
    insta::assert_snapshot!(rig.log.join("\n"), @r#"
    resolve cam.lan
    connect 10.0.0.7:8554
    OPTIONS rtsp://cam.lan:8554/live
    DESCRIBE rtsp://cam.lan:8554/live
    claim 2 tracks
    SETUP rtsp://10.0.0.7/live/trackID=0
    SetUp { track: 0, way: Tcp { channels: (0, 1) } }
    SETUP rtsp://10.0.0.7/live/trackID=1
    SetUp { track: 1, way: Tcp { channels: (2, 3) } }
    Begin
    PLAY rtsp://10.0.0.7/live/
    GET_PARAMETER rtsp://10.0.0.7/live/
    TEARDOWN rtsp://10.0.0.7/live/
    Disconnect
    "#);
    assert_eq!(rig.sent("Session"), ["5", "5", "5", "5"], "from the second SETUP on");
    assert_eq!(rig.sent("User-Agent").len(), rig.requests.len(), "some answer 401 otherwise");
    assert_eq!(rig.client.worked(), Some(Lower::Tcp));
}

#[test]
fn udp_is_asked_with_our_ports_and_what_the_camera_leaves_out_is_found_later() {
    let rig = playing(SourceTransport::Udp, [UDP, "200 OK\r\nSession: 5\r\n\r\n"]);
    let asked = "RTP/AVP;unicast;client_port=6000-6001";
    assert_eq!(rig.sent("Transport"), [asked, asked]);
    let first = PullWay::Udp { server_port: Some((8_000, 8_001)), source: None };
    assert_eq!(rig.ways, [first, PullWay::Udp { server_port: None, source: None }]);
    assert_eq!(rig.client.step, client::Step::Playing);
}

#[test]
fn channels_other_than_requested_are_accepted_and_odd_ssrcs_ignored() {
    let odd = "200 OK\r\nSession: 5\r\n\
        Transport: RTP/AVP/TCP;interleaved=6-7;ssrc= 0x1A2b\r\n\r\n";
    // Names the way that it was asked for by half.
    let half = "200 OK\r\nSession: 5\r\nTransport: RTP/AVP;unicast;interleaved=8-9\r\n\r\n";
    let rig = playing(SourceTransport::Tcp, [odd, half]);
    let ways = [(6, 7), (8, 9)].map(|channels| PullWay::Tcp { channels });
    assert_eq!(rig.ways, ways);
    let forced = playing(SourceTransport::Auto, [TCP_0, TCP_1]);
    assert_eq!(forced.ways, [(0, 1), (2, 3)].map(|channels| PullWay::Tcp { channels }));
    assert_eq!(forced.sent("Transport")[1], "RTP/AVP/TCP;unicast;interleaved=2-3");
}

#[test]
fn udp_refused_with_461_is_replaced_by_tcp_if_the_transport_is_auto() {
    let answers = [PUBLIC, &usual(), "461 Unsupported transport\r\n\r\n", TCP_0, TCP_1, OK];
    let rig = Rig::new(URL, SourceTransport::Auto, &answers);
    assert_eq!(rig.ways.len(), 2);
    assert_eq!(rig.last(), "PLAY rtsp://10.0.0.7/live/");
    let rig = Rig::new(URL, SourceTransport::Udp, &answers);
    assert_eq!(rig.last(), "failed: 461 Unsupported transport to SETUP");
    // The second track only: the first one was promised to come over UDP.
    let answers = [PUBLIC, &usual(), UDP, "461 No\r\n\r\n", "", PUBLIC, &usual(), TCP_0, TCP_1, OK];
    let rig = Rig::new(URL, SourceTransport::Auto, &answers);
    insta::assert_snapshot!(rig.log[7..].join("\n"), @r"
    WantPorts(1)
    SETUP rtsp://10.0.0.7/live/trackID=1
    TEARDOWN rtsp://10.0.0.7/live/
    Disconnect
    connect 10.0.0.7:554
    OPTIONS rtsp://10.0.0.7/live
    DESCRIBE rtsp://10.0.0.7/live
    claim 2 tracks
    SETUP rtsp://10.0.0.7/live/trackID=0
    SetUp { track: 0, way: Tcp { channels: (0, 1) } }
    SETUP rtsp://10.0.0.7/live/trackID=1
    SetUp { track: 1, way: Tcp { channels: (2, 3) } }
    Begin
    PLAY rtsp://10.0.0.7/live/
    ");
}

#[test]
fn silence_over_udp_becomes_tcp_and_is_remembered() {
    let mut rig = playing(SourceTransport::Auto, [UDP, UDP]);
    rig.after(3);
    assert_eq!(rig.last(), "PLAY rtsp://10.0.0.7/live/");
    // To TEARDOWN nothing is answered any more.
    rig.answers = ["", PUBLIC, &usual(), TCP_0, TCP_1, OK].map(str::to_owned).into();
    rig.after(1);
    assert_eq!(rig.ways[2..], [(0, 1), (2, 3)].map(|channels| PullWay::Tcp { channels }));
    assert_eq!(rig.client.worked(), None);
    rig.client.handle_media();
    assert_eq!(rig.client.worked(), Some(Lower::Tcp));
    let answers = [PUBLIC, &usual(), TCP_0, TCP_1, OK];
    let again = Rig::with_memory(URL, SourceTransport::Auto, Some(Lower::Tcp), &answers);
    assert_eq!(again.ways.len(), 2);
    assert!(again.sent("Transport").iter().all(|asked| asked.contains("TCP")));
    // With packets it stays as it is, and with `udp` in any case.
    let mut rig = playing(SourceTransport::Auto, [UDP, UDP]);
    rig.client.handle_media();
    rig.after(6);
    let mut fixed = playing(SourceTransport::Udp, [UDP, UDP]);
    fixed.after(6);
    for rig in [rig, fixed] {
        assert_eq!(rig.last(), "PLAY rtsp://10.0.0.7/live/");
    }
}

#[test]
fn tcp_is_used_or_a_reason_given_without_a_free_pair_of_ports() {
    for (transport, ends) in [
        (SourceTransport::Auto, "SETUP rtsp://10.0.0.7/live/trackID=0"),
        (
            SourceTransport::Udp,
            "failed: no free pair of UDP ports for the camera's host; set source_transport = \"tcp\"",
        ),
    ] {
        let mut rig = Rig::new(URL, transport, &[PUBLIC]);
        rig.has_ports = false;
        rig.answer(&usual());
        rig.run();
        assert_eq!(rig.last(), ends);
    }
}

#[test]
fn options_may_be_refused_challenged_or_never_answered() {
    for answer in ["501 Not Implemented\r\n\r\n", "400\r\n\r\n"] {
        let rig = Rig::new(URL, SourceTransport::Tcp, &[answer]);
        assert_eq!(rig.last(), "DESCRIBE rtsp://10.0.0.7/live", "{answer}");
    }
    let challenge = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"\r\n\r\n";
    let rig = Rig::new(URL, SourceTransport::Tcp, &[challenge]);
    assert_eq!(rig.last(), "DESCRIBE rtsp://10.0.0.7/live", "it may be open to all");
    let mut rig = Rig::new(URL, SourceTransport::Tcp, &[]);
    rig.after(2);
    assert_eq!(rig.last(), "OPTIONS rtsp://10.0.0.7/live");
    rig.after(1);
    assert_eq!(rig.last(), "DESCRIBE rtsp://10.0.0.7/live");
}

#[test]
fn digest_is_preferred_and_answered_once_for_each_nonce() {
    let url = "rtsp://admin:secret@10.0.0.7/live";
    let ask = |nonce: &str, stale: &str| {
        format!(
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"c\"\r\n\
             WWW-Authenticate: Digest realm=\"c\", nonce=\"{nonce}\"{stale}\r\n\r\n"
        )
    };
    let (first, second) = (ask("1", ""), ask("2", ", stale=TRUE"));
    let answers = [PUBLIC, &first, &usual(), &second, TCP_0, TCP_1, OK];
    let rig = Rig::new(url, SourceTransport::Tcp, &answers);
    assert_eq!(rig.last(), "PLAY rtsp://10.0.0.7/live/");
    let sent = rig.sent("Authorization");
    assert_eq!(sent.len(), 5, "DESCRIBE, SETUP twice, SETUP, PLAY");
    assert!(sent.iter().all(|value| value.starts_with("Digest ")), "{sent:?}");
    assert!(sent[0].contains("nonce=\"1\"") && sent[4].contains("nonce=\"2\""), "{sent:?}");
    assert!(!rig.requests.concat().contains("secret"));
    let rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, &first, &first]);
    assert_eq!(rig.last(), "failed: 401: user name or password is wrong");
    let rig = Rig::new(URL, SourceTransport::Tcp, &[PUBLIC, &first]);
    assert_eq!(rig.last(), "failed: 401: the source URL has no user name and password");
    let rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, "401 Unauthorized\r\n\r\n"]);
    assert_eq!(rig.last(), "failed: 401: no challenge by Basic or Digest");
}

#[test]
fn capability_is_shown_with_each_request_and_to_its_own_server_alone() {
    let with = |answers: &[&str]| {
        let plan = PullPlan {
            url: parse_source_url(URL).unwrap(),
            transport: SourceTransport::Tcp,
            tls: SourceTls::Verify,
            worked: None,
            capability: Some(Secret::new("hdl_a.b")),
        };
        Rig::with_plan(plan, answers)
    };
    let rig = with(&[PUBLIC, &usual(), TCP_0, TCP_1, OK]);
    assert_eq!(rig.last(), "PLAY rtsp://10.0.0.7/live/");
    assert_eq!(rig.sent("Authorization"), ["Bearer hdl_a.b"; 5]);
    assert!(!format!("{:?}", rig.client.plan).contains("hdl_a"));
    let challenge = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"c\"\r\n\r\n";
    for (answer, status) in [(challenge, 401), ("403 Forbidden\r\n\r\n", 403)] {
        let rig = with(&[PUBLIC, answer]);
        let said = rig.last();
        assert!(said.starts_with(&format!("failed: {status}: the node does not take")), "{said}");
    }
    let elsewhere = "302 Found\r\nLocation: rtsp://10.0.0.8/live\r\n\r\n";
    let rig = with(&[PUBLIC, elsewhere, PUBLIC, challenge]);
    assert_eq!(rig.sent("Authorization").len(), 2, "OPTIONS and DESCRIBE at its own");
    assert_eq!(rig.last(), "failed: 401: the source URL has no user name and password");
}

#[test]
fn keep_alive_with_a_challenge_is_answered_and_goes_on() {
    let url = "rtsp://admin:secret@10.0.0.7/live";
    let challenge = "401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"c\", nonce=\"9\"\r\n\r\n";
    let answers = [PUBLIC, &usual(), TCP_0, TCP_1, OK, challenge, OK];
    let mut rig = Rig::new(url, SourceTransport::Tcp, &answers);
    rig.after(10);
    assert_eq!(rig.sent("Authorization").len(), 1);
    assert_eq!(rig.client.step, client::Step::Playing);
    rig.after(10);
    assert_eq!(rig.sent("Authorization").len(), 2, "the next one at once");
}

#[test]
fn redirects_are_followed_a_few_times_and_take_no_password_elsewhere() {
    let url = "rtsp://admin:secret@10.0.0.7/live";
    let to = |location: &str| format!("302 Moved\r\nLocation: {location}\r\n\r\n");
    let basic = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"c\"\r\n\r\n";
    let elsewhere = to("rtsp://10.0.0.9:8554/x");
    let rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, &elsewhere, PUBLIC, basic]);
    assert!(rig.log.contains(&"connect 10.0.0.9:8554".to_owned()), "{:?}", rig.log);
    let kept = "failed: 401 after a redirect to 10.0.0.9 port 8554: the source URL's user name and \
                password are not sent there";
    assert_eq!(rig.last(), kept);
    assert_eq!(rig.sent("Authorization"), [""; 0]);
    let same = to("rtsp://10.0.0.7/other");
    let rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, &same, PUBLIC, basic]);
    assert_eq!(rig.sent("Authorization").len(), 1);
    let other_port = to("rtsp://10.0.0.7:8554/other");
    let rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, &other_port, PUBLIC, basic]);
    assert_eq!(rig.sent("Authorization"), [""; 0], "another port is another server");
    for inside in ["rtsp://127.0.0.1:9997/v1/info", "rtsp://169.254.169.254/x"] {
        let rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, &to(inside), PUBLIC]);
        let text = rig.last();
        assert!(text.contains("refused: not allowed for a source at 10.0.0.7"), "{text}");
    }
    let circle = [PUBLIC, &same].repeat(9);
    let rig = Rig::new(url, SourceTransport::Tcp, &circle);
    assert_eq!(rig.last(), "failed: more than 4 redirects");
    let rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, &to("rtsps://10.0.0.7/live")]);
    let other = "failed: redirect refused: it may not lead from rtsp:// to rtsps:// or back";
    assert_eq!(rig.last(), other);
    let rig = Rig::new("rtsps://10.0.0.7/a", SourceTransport::Tcp, &[PUBLIC, &same]);
    assert_eq!(rig.last(), other, "what TLS protects stays with it");
    let rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, &to("http://x/")]);
    assert!(rig.last().contains("begins neither with rtsp://"), "{}", rig.last());
}

#[test]
fn camera_at_a_link_local_address_is_reached_by_its_interface_and_does_not_see_its_name() {
    let url = "rtsp://admin:secret@[fe80::7%25eth0]:8554/live";
    let sdp = described("", SDP);
    let mut rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, &sdp, TCP_0, TCP_1, OK]);
    assert_eq!(rig.log[..2], ["resolve fe80::7 of eth0", "connect [fe80::7%3]:8554"]);
    assert_eq!(rig.client.step, client::Step::Playing);
    rig.client.stop();
    rig.run();
    assert!(rig.requests.len() > 5, "{:?}", rig.requests);
    for request in &rig.requests {
        assert!(request.contains(" rtsp://[fe80::7]:8554/live"), "{request}");
        assert!(!request.contains('%') && !request.contains("eth0"), "{request}");
    }
}

#[test]
fn redirect_of_a_link_local_camera_stays_on_its_link() {
    let url = "rtsp://admin:secret@[fe80::7%eth0]/live";
    let to = |location: &str| format!("302 Moved\r\nLocation: {location}\r\n\r\n");
    let basic = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"c\"\r\n\r\n";
    for (location, host, passwords) in [
        ("rtsp://[fe80::7]/other", "fe80::7", 1),
        ("rtsp://[fe80::7%25wlan0]/other", "fe80::7", 1),
        ("rtsp://[fe80::8]/other", "fe80::8", 0),
    ] {
        let rig = Rig::new(url, SourceTransport::Tcp, &[PUBLIC, &to(location), PUBLIC, basic]);
        let resolve = format!("resolve {host} of eth0");
        assert!(rig.log.contains(&resolve), "{location}: {:?}", rig.log);
        assert!(rig.log.contains(&format!("connect [{host}%3]:554")), "{location}: {:?}", rig.log);
        assert_eq!(rig.sent("Authorization").len(), passwords, "{location}");
    }
    let rig = Rig::new(URL, SourceTransport::Tcp, &[PUBLIC, &to("rtsp://[fe80::8]/x")]);
    let why = "failed: fe80::8 is link-local and its network interface is unknown";
    assert_eq!(rig.last(), why);
}

#[test]
fn descriptions_of_cameras_are_taken_as_they_come() {
    let sdp = SDP.replace("s=cam", "s=cam\r\ns=again\r\ns= ");
    for (headers, first) in [
        // No Content-Type; a base without a scheme; none.
        ("Content-Base: rtsp://10.0.0.7/live/\r\n", "rtsp://10.0.0.7/live/trackID=0"),
        ("Content-Base: 10.0.0.7/live/\r\n", "rtsp://10.0.0.7/live/trackID=0"),
        ("", "rtsp://10.0.0.7/live/trackID=0"),
        ("Content-Location: rtsp://10.0.0.7/other/\r\n", "rtsp://10.0.0.7/other/trackID=0"),
    ] {
        let answers = [PUBLIC, &described(headers, &sdp)];
        let rig = Rig::new(URL, SourceTransport::Tcp, &answers);
        assert_eq!(rig.last(), format!("SETUP {first}"), "{headers}");
    }
    let other = described("Content-Type: text/html\r\n", "<html>");
    let rig = Rig::new(URL, SourceTransport::Tcp, &[PUBLIC, &other]);
    assert_eq!(rig.last(), "failed: answer to DESCRIBE is not SDP");
    let keyed = described("", "v=0\r\nm=video 0 RTP/SAVP 96\r\n");
    let rig = Rig::new(URL, SourceTransport::Tcp, &[PUBLIC, &keyed]);
    assert_eq!(rig.last(), "failed: description has no RTP media that can be carried");
    // What is no RTP is left out, the rest is had.
    let mixed =
        SDP.replace("m=video 0 RTP/AVP 96", "m=application 0 TCP/FOO x\r\nm=video 0 RTP/AVP 96");
    let rig = Rig::new(URL, SourceTransport::Tcp, &[PUBLIC, &described("", &mixed)]);
    assert!(rig.log.contains(&"claim 2 tracks".to_owned()), "{:?}", rig.log);
}

#[test]
fn session_id_may_change_with_any_answer_and_rtp_info_is_not_believed() {
    let changed = "200 OK\r\nSession: 6\r\n\
        RTP-Info: url=rtsp://10.0.0.7/live/trackID=0;seq=0;rtptime=1\r\n\r\n";
    let answers = [PUBLIC, &usual(), TCP_0, TCP_1, changed];
    let mut rig = Rig::new(URL, SourceTransport::Tcp, &answers);
    rig.after(10);
    rig.client.stop();
    rig.run();
    assert_eq!(rig.sent("Session"), ["5", "5", "6", "6"]);
    // None before SETUP: one that is named in the answer to OPTIONS is not sent back.
    let early = "200 OK\r\nSession: 1\r\n\r\n";
    let rig = Rig::new(URL, SourceTransport::Tcp, &[early, early]);
    assert_eq!(rig.sent("Session"), [""; 0]);
}

#[test]
fn keep_alive_waits_for_no_answer_and_comes_as_often_as_the_camera_needs() {
    for (timeout, every_s) in [(";timeout=5", 2), (";timeout=60", 20), ("", 20), (";timeout=1", 1)]
    {
        let set_up = TCP_0.replace(";timeout=30", timeout);
        let mut rig = playing(SourceTransport::Tcp, [&set_up, TCP_1]);
        let before = rig.requests.len();
        for _ in 0..every_s * 40 {
            rig.after(1);
        }
        let count = rig.requests.len() - before;
        assert!((39..=40).contains(&count), "{timeout}: {count}");
        assert!(rig.last().starts_with("GET_PARAMETER"), "{}", rig.last());
    }
    // One that does not do what it lists is asked in another way from then on.
    let mut rig = playing(SourceTransport::Tcp, [TCP_0, TCP_1]);
    rig.answers.push_back("405 Method Not Allowed\r\n\r\n".to_owned());
    rig.after(10);
    rig.after(10);
    assert_eq!(rig.last(), "OPTIONS rtsp://10.0.0.7/live/");
    rig.answers.push_back("454 Session Not Found\r\n\r\n".to_owned());
    rig.after(10);
    assert_eq!(rig.last(), "failed: 454 Session Not Found to keep-alive");
}

/// Methods of the keep-alives to a camera that answers them by `statuses` in turn, with the number
/// of each answer off by `off`.
fn keep_alives(off: i64, statuses: &[&str], rounds: u64) -> Vec<String> {
    let mut rig = playing(SourceTransport::Tcp, [TCP_0, TCP_1]);
    let before = rig.requests.len();
    let mut statuses = statuses.iter();
    let mut answered = before;
    for _ in 0..rounds {
        rig.after(10);
        for _ in 0..10 {
            let (Some(request), true) = (rig.requests.last(), rig.requests.len() > answered) else {
                break;
            };
            answered = rig.requests.len();
            let Some(status) = statuses.next() else { break };
            let cseq: i64 = header(request, "CSeq").unwrap().parse().unwrap();
            let text = format!("RTSP/1.0 {status}\r\nCSeq: {}\r\n\r\n", cseq + off);
            let mut reader = RequestReader::new();
            reader.handle_bytes(text.as_bytes());
            let Some(Input::Response(answer)) = reader.poll() else { panic!("{text}") };
            rig.client.handle_answer(&answer, rig.now);
            rig.run();
        }
    }
    assert_eq!(rig.client.step, client::Step::Playing);
    let sent = rig.requests[before..].iter();
    sent.map(|text| text.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn refused_keep_alive_is_repeated_at_once_with_another_method_whatever_its_cseq() {
    let (no, ok) = ("405 Method Not Allowed", "200 OK");
    let listed = "200 OK\r\nPublic: OPTIONS, GET_PARAMETER";
    for off in [0, 1, -1, 100, -4] {
        let sent = keep_alives(off, &[no, ok, ok], 3);
        assert_eq!(sent, ["GET_PARAMETER", "OPTIONS", "OPTIONS", "OPTIONS"], "{off}");
        let sent = keep_alives(off, &[no, listed, listed], 3);
        assert_eq!(sent, ["GET_PARAMETER", "OPTIONS", "OPTIONS", "OPTIONS"], "{off}");
        let sent = keep_alives(off, &[no, no, ok], 2);
        assert_eq!(sent, ["GET_PARAMETER", "OPTIONS", "SET_PARAMETER", "SET_PARAMETER"], "{off}");
        let sent = keep_alives(off, &[no; 9], 3);
        let all = ["GET_PARAMETER", "OPTIONS", "SET_PARAMETER", "OPTIONS", "OPTIONS"];
        assert_eq!(sent, all, "{off}");
    }
}

#[test]
fn camera_whose_cseq_is_off_by_one_is_played() {
    for off in [1_i64, -1] {
        let mut rig = Rig::new(URL, SourceTransport::Tcp, &[]);
        rig.cseq_off = off;
        for answer in [PUBLIC, &usual(), TCP_0, TCP_1, OK] {
            rig.answer(answer);
            rig.run();
        }
        assert_eq!(rig.client.step, client::Step::Playing, "{off}");
    }
}

#[test]
fn repeated_answer_is_for_one_request() {
    let mut rig = Rig::new(URL, SourceTransport::Tcp, &[]);
    let mut reader = RequestReader::new();
    reader.handle_bytes(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n");
    let Some(Input::Response(answer)) = reader.poll() else { panic!() };
    for _ in 0..3 {
        rig.client.handle_answer(&answer, rig.now);
        rig.run();
        assert_eq!(rig.last(), "DESCRIBE rtsp://10.0.0.7/live");
    }
}

#[test]
fn answers_without_cseq_are_for_the_oldest_request_and_late_ones_for_none() {
    let mut rig = Rig::new(URL, SourceTransport::Tcp, &[]);
    rig.cseq_is_left_out = true;
    for answer in [PUBLIC, &usual(), TCP_0, TCP_1, OK] {
        rig.answer(answer);
        rig.run();
    }
    assert_eq!(rig.client.step, client::Step::Playing);
    let mut rig = Rig::new(URL, SourceTransport::Tcp, &[]);
    rig.after(3);
    rig.cseq_is_left_out = true;
    // The answer to OPTIONS, after DESCRIBE was asked.
    rig.answer(PUBLIC);
    rig.run();
    assert_eq!(rig.last(), "DESCRIBE rtsp://10.0.0.7/live");
    rig.answer(&usual());
    rig.run();
    assert_eq!(rig.last(), "SETUP rtsp://10.0.0.7/live/trackID=0");
}

#[test]
fn requests_of_the_camera_are_answered() {
    let mut rig = playing(SourceTransport::Tcp, [TCP_0, TCP_1]);
    for (method, status) in [("OPTIONS", "200 OK"), ("SET_PARAMETER", "501 Not Implemented")] {
        let mut reader = RequestReader::new();
        reader.handle_bytes(format!("{method} * RTSP/1.0\r\nCSeq: 77\r\n\r\n").as_bytes());
        let Some(Input::Request(request)) = reader.poll() else { panic!() };
        rig.client.handle_request(&request, 0);
        rig.run();
        let answer = rig.requests.last().unwrap();
        assert!(answer.starts_with(&format!("RTSP/1.0 {status}\r\nCSeq: 77\r\n")), "{answer}");
    }
}

#[test]
fn every_step_times_out_with_a_reason() {
    let refused = |answers: &[&str], s: u64| {
        let mut rig = Rig::new(URL, SourceTransport::Tcp, answers);
        rig.after(s);
        rig.last().to_owned()
    };
    assert_eq!(refused(&[PUBLIC], 10), "failed: DESCRIBE takes longer than 10 s");
    assert_eq!(refused(&[PUBLIC, &usual()], 10), "failed: SETUP takes longer than 10 s");
    let set_up = [PUBLIC, &usual(), TCP_0, TCP_1];
    assert_eq!(refused(&set_up, 10), "failed: PLAY takes longer than 10 s");
    assert_eq!(refused(&[PUBLIC, "404 Gone\r\n\r\n"], 0), "failed: 404 Gone to DESCRIBE");
    let grouped = "200 OK\r\nTransport: RTP/AVP;multicast;destination=239.1.1.1\r\n\r\n";
    let why = "failed: SETUP answered with a transport that was not requested";
    assert_eq!(refused(&[PUBLIC, &usual(), grouped], 0), why);
    let mut rig = playing(SourceTransport::Tcp, [TCP_0, TCP_1]);
    rig.client.handle_closed(rig.now);
    rig.run();
    assert_eq!(rig.last(), "failed: connection closed by the camera during playing");
    let said = rig.log.len();
    rig.client.handle_closed(rig.now);
    rig.client.stop();
    rig.after(60);
    assert_eq!(rig.log.len(), said, "what is over is over");
}

#[test]
fn packets_before_the_answer_to_play_count_as_playing() {
    let mut rig = Rig::new(URL, SourceTransport::Tcp, &[PUBLIC, &usual(), TCP_0, TCP_1]);
    rig.client.handle_media();
    rig.after(10);
    assert_eq!(rig.client.step, client::Step::Playing);
}

#[test]
fn addresses_are_tried_one_after_the_other() {
    let plan = PullPlan {
        url: parse_source_url("rtsp://cam/x").unwrap(),
        transport: SourceTransport::Tcp,
        tls: SourceTls::Verify,
        worked: None,
        capability: None,
    };
    let now = Mono(0);
    let mut client = PullClient::new(plan, now);
    let hosts: Vec<Host> = (1..=20).map(|n| IpAddr::from([10, 0, 0, n]).into()).collect();
    client.handle_resolved(Ok(&hosts), now);
    client.handle_refused("refused", now);
    let later = now + Duration::from_secs(5);
    client.handle_tick(later);
    let to = |n: u8| PullOrder::Connect(SocketAddr::from(([10, 0, 0, n], 554)));
    let resolve = PullOrder::Resolve { host: "cam".to_owned(), zone: None };
    let wanted = [resolve, to(1), to(2), PullOrder::Disconnect, to(3)];
    assert_eq!(std::mem::take(&mut client.out), wanted);
    for _ in 3..8 {
        client.handle_refused("refused", later);
    }
    assert_eq!(std::mem::take(&mut client.out), [4, 5, 6, 7, 8].map(to));
    client.handle_refused("connection refused", later);
    let Some(PullOrder::Failed(error)) = client.out.last() else { panic!("{:?}", client.out) };
    assert_eq!(error.to_string(), "no connection to 10.0.0.8:554: connection refused");
    let mut client = PullClient::new(
        PullPlan {
            url: parse_source_url("rtsp://cam/x").unwrap(),
            transport: SourceTransport::Tcp,
            tls: SourceTls::Verify,
            worked: None,
            capability: None,
        },
        now,
    );
    client.handle_resolved(Err(&ResolveFailure::Name("no such name".to_owned())), now);
    let Some(PullOrder::Failed(error)) = client.out.last() else { panic!("{:?}", client.out) };
    assert_eq!(error.to_string(), "the name of its host is not found: no such name");
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn answers_in_any_order_never_panic_and_end_in_one_failure_at_most(
            answers in prop::collection::vec(
                prop::sample::select(vec![
                    PUBLIC, TCP_0, TCP_1, UDP, OK, "", "461 X\r\n\r\n", "500\r\n\r\n",
                    "401 X\r\nWWW-Authenticate: Basic realm=\"c\"\r\n\r\n",
                    "302 X\r\nLocation: rtsp://10.0.0.9/y\r\n\r\n",
                    "200 OK\r\nContent-Length: 28\r\n\r\nv=0\r\nm=video 0 RTP/AVP 96\r\n\r\n",
                ]),
                0..30,
            ),
            ticks in prop::collection::vec(1..12_u64, 0..20),
        ) {
            let mut rig = Rig::new("rtsp://u:p@10.0.0.7/live", SourceTransport::Auto, &answers);
            for s in ticks {
                rig.after(s);
            }
            let failures = rig.log.iter().filter(|line| line.starts_with("failed")).count();
            prop_assert!(failures <= 1);
            if failures == 1 {
                prop_assert!(rig.last().starts_with("failed"));
            }
        }
    }
}
