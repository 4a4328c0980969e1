//! SRTP from outside: which keys clients get, what is refused, and packets that only their client
//! can read, across seeks, pauses and retransmissions.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::{SocketAddr, UdpSocket};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headend::base::ids::Ssrc;
use headend::rtp::RtpView;
use headend::rtp::srtp::mikey::{self, Uniques};
use headend::rtp::srtp::{MasterKey, Receiver, Sender, Suite, UnprotectError, sdes};
use headend::rtsp::key_mgmt::{parse_key_mgmt, write_key_mgmt};

use crate::support::http::metric;
use crate::support::rtsp::Client;
use crate::support::secure::{SecureClient, start, url};
use crate::support::server::{Options, Server};
use crate::support::wait::{PATIENCE, until};

const SDP: (&str, &str) = ("Accept", "application/sdp");
const UNIQUES: Uniques = Uniques { bundle: 1, ntp: 2, random: [3; 16] };

/// Values of lines that begin so.
fn values<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
}

/// A client over TLS with a socket for RTP and one for RTCP.
struct Player {
    rtsp: SecureClient,
    base: String,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    session: String,
    server_rtcp: SocketAddr,
    receiver: Receiver,
    /// What it sends its reports by.
    reports: Sender,
    ssrc: u32,
}

impl Player {
    /// Has set up the video of the clip, with a key of its own for its reports.
    fn set_up(server: &Server, query: &str, suite: Suite) -> Self {
        let mut rtsp = SecureClient::connect(server.rtsps());
        let base = url(server, "demo");
        let agent = ("User-Agent", "GStreamer/1.22.0");
        let (status, text) = rtsp.request("DESCRIBE", &format!("{base}?{query}"), &[SDP, agent]);
        assert_eq!(status, 200, "{text}");
        assert_eq!(values(&text, "Content-Base: "), [format!("{base}/")]);
        assert!(text.contains("m=video 0 RTP/SAVPF "), "{text}");
        let key = sdes::parse(values(&text, "a=crypto:")[0]).unwrap();
        assert_eq!(key.suite(), suite);
        let message = STANDARD.decode(values(&text, "a=key-mgmt:mikey ")[0]).unwrap();
        assert_eq!(mikey::parse(&message).unwrap().key, key, "one key, told both ways");
        let own = MasterKey::from_bytes(suite, &[7; 30][..suite.master_bytes()]).unwrap();
        let (rtp, rtcp) = sockets();
        let ports = format!("{}-{}", port(&rtp), port(&rtcp));
        let transport = format!("RTP/SAVPF;unicast;client_port={ports}");
        let track = format!("{base}/trackID=0");
        let header = write_key_mgmt(&track, &mikey::write(&own, &[(Ssrc(5), 0)], &UNIQUES));
        let headers = [("Transport", transport.as_str()), ("KeyMgmt", &header), agent];
        let (status, text) = rtsp.request("SETUP", &track, &headers);
        assert_eq!(status, 200, "{text}");
        assert!(text.contains(&format!("Transport: RTP/SAVPF;unicast;client_port={ports}")));
        let answered = parse_key_mgmt(values(&text, "KeyMgmt: ")[0]).unwrap();
        assert_eq!(mikey::parse(&answered).unwrap().key, key, "the same in the answer");
        let session = values(&text, "Session: ")[0].split(';').next().unwrap().to_owned();
        let field =
            |name: &str| text.split(name).nth(1).unwrap().split([';', '\r']).next().unwrap();
        let rtcp_port = field("server_port=").split('-').nth(1).unwrap().parse().unwrap();
        let server_rtcp = SocketAddr::new(server.rtsps().ip(), rtcp_port);
        let ssrc = u32::from_str_radix(field("ssrc="), 16).unwrap();
        let (receiver, reports) = (Receiver::new(&key, &[]), Sender::new(&own));
        Self { rtsp, base, rtp, rtcp, session, server_rtcp, receiver, reports, ssrc }
    }

    fn request(&mut self, method: &str, more: &[(&str, &str)]) -> String {
        let session = self.session.clone();
        let headers = [&[("Session", session.as_str())], more].concat();
        let (status, text) = self.rtsp.request(method, &self.base.clone(), &headers);
        assert_eq!(status, 200, "{text}");
        text
    }

    /// The next packet, as it came and decrypted.
    fn packet(&mut self) -> (Vec<u8>, Vec<u8>) {
        let mut bytes = [0; 2_000];
        let count = self.rtp.recv(&mut bytes).unwrap();
        let sealed = bytes[..count].to_vec();
        let opened = self.receiver.unprotect_rtp(&mut bytes[..count]);
        let opened = opened.unwrap_or_else(|error| panic!("{error}: {sealed:?}"));
        (sealed, bytes[..opened].to_vec())
    }

    /// Sends a compound packet, encrypted.
    fn report(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut bytes = plain.to_vec();
        self.reports.protect_rtcp(&mut bytes).unwrap();
        self.rtcp.send_to(&bytes, self.server_rtcp).unwrap();
        bytes
    }
}

fn sockets() -> (UdpSocket, UdpSocket) {
    let bind = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    (bind(), bind())
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().unwrap().port()
}

/// A receiver report without blocks, and a request for one packet (RFC 4585 s6.2.1).
fn nack(media: u32, seq: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, 201, 0, 1, 0, 0, 0, 5, 0x81, 205, 0, 3, 0, 0, 0, 5];
    bytes.extend(media.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

#[test]
fn only_its_client_reads_a_title_and_no_number_is_used_twice() {
    let (server, _files) = start("", &Options::default());
    for (query, suite) in [
        ("srtp", Suite::AesCm128Sha1Tag80),
        ("srtp=AES_CM_128_HMAC_SHA1_32", Suite::AesCm128Sha1Tag32),
        ("srtp=AEAD_AES_128_GCM", Suite::Aes128Gcm),
    ] {
        let mut player = Player::set_up(&server, query, suite);
        let mut other = Player::set_up(&server, query, suite);
        player.request("PLAY", &[]);
        let (mut seq, mut last) = (None, 0);
        for _ in 0..40 {
            let (sealed, opened) = player.packet();
            assert_eq!(sealed.len(), opened.len() + suite.rtp_tag_bytes());
            assert_ne!(sealed[12..opened.len()], opened[12..], "it is encrypted");
            let wrong = other.receiver.unprotect_rtp(&mut sealed.clone());
            assert_eq!(wrong, Err(UnprotectError::Forged), "by a key of its own");
            let view = RtpView::parse(&opened).unwrap();
            assert_eq!(view.ssrc().0, player.ssrc);
            let expected = seq.map_or_else(|| view.seq().0, |seq: u16| seq.wrapping_add(1));
            assert_eq!(view.seq().0, expected);
            (seq, last) = (Some(expected), expected);
        }
        assert!(last < 1 << 15, "far from the first wrap");
        // The receiver refuses an index that it has seen: a seek begins no new numbers.
        for range in ["npt=0-", "npt=1-", "npt=0-"] {
            player.request("PAUSE", &[]);
            player.request("PLAY", &[("Range", range)]);
            (0..60).for_each(|_| drop(player.packet()));
        }
        let (_, opened) = player.packet();
        let lost = RtpView::parse(&opened).unwrap().seq().0;
        let (media, mut has_again) = (player.ssrc, false);
        player.report(&nack(media, lost));
        // Among the packets that go on.
        for _ in 0..500 {
            let (_, again) = player.packet();
            let view = RtpView::parse(&again).unwrap();
            if view.ssrc().0 != media {
                let (osn, payload) = view.payload().split_at(2);
                assert_eq!(osn, lost.to_be_bytes());
                assert_eq!(payload, RtpView::parse(&opened).unwrap().payload());
                has_again = true;
                break;
            }
        }
        assert!(has_again, "{suite:?}: the packet is sent again");
        player.request("TEARDOWN", &[]);
    }
    assert_eq!(metric(server.admin, "headend_srtp_packets_dropped_total"), Some(0.0));
}

#[test]
fn reports_count_when_they_are_encrypted_and_fresh() {
    let (server, _files) = start("", &Options::default());
    let mut player = Player::set_up(&server, "srtp", Suite::AesCm128Sha1Tag80);
    player.request("PLAY", &[]);
    drop(player.packet());
    let refused = |reason: &str| {
        let (_, text) = crate::support::http::get(server.admin, "/metrics");
        let line = text
            .lines()
            .find(|line| line.starts_with("headend_srtp_refused_total{") && line.contains(reason));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap()
    };
    let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 5];
    report.extend(player.ssrc.to_be_bytes());
    report.extend([0; 20]);
    let sealed = player.report(&report);
    until("it is counted", || {
        metric(server.admin, "headend_rtcp_reports_received_total") == Some(1.0)
    });
    player.rtcp.send_to(&sealed, player.server_rtcp).unwrap();
    until("one that comes again is not", || refused("replayed") == 1.0);
    player.rtcp.send_to(&report, player.server_rtcp).unwrap();
    until("one in the clear is not", || refused("malformed") + refused("forged") == 1.0);
    let mut forged = player.report(&report);
    until("another one is", || {
        metric(server.admin, "headend_rtcp_reports_received_total") == Some(2.0)
    });
    forged[10] ^= 1;
    // A new index, which was not signed.
    let at = forged.len() - 11;
    forged[at] ^= 0x40;
    player.rtcp.send_to(&forged, player.server_rtcp).unwrap();
    until("a forged one is not", || refused("forged") >= 1.0);
    assert_eq!(metric(server.admin, "headend_rtcp_reports_received_total"), Some(2.0));
    // The server's own are encrypted, too.
    let mut bytes = [0; 500];
    let count = player.rtcp.recv(&mut bytes).unwrap();
    let opened = player.receiver.unprotect_rtcp(&mut bytes[..count]).unwrap();
    assert_eq!((bytes[1], opened % 4), (200, 0), "a sender report");
}

#[test]
fn key_serves_one_setup() {
    let (server, _files) = start("", &Options::default());
    let base = url(&server, "demo");
    let track = format!("{base}/trackID=0");
    let mut client = SecureClient::connect(server.rtsps());
    let savp = ("Transport", "RTP/SAVP;unicast;client_port=40000-40001");
    let avp = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
    assert_eq!(client.request("SETUP", &track, &[savp]).0, 461, "no key was told");
    let (_, text) = client.request("DESCRIBE", &format!("{base}?srtp"), &[SDP]);
    let first = values(&text, "a=crypto:")[0].to_owned();
    // What is refused leaves the key for the next try.
    let unserved = ("Transport", "RTP/SAVP;multicast");
    assert_eq!(client.request("SETUP", &track, &[unserved]).0, 461);
    let (status, text) = client.request("SETUP", &track, &[savp]);
    assert_eq!(status, 200, "{text}");
    assert!(values(&text, "KeyMgmt: ").is_empty(), "not asked for");
    let session = values(&text, "Session: ")[0].split(';').next().unwrap().to_owned();
    assert_eq!(client.request("TEARDOWN", &base, &[("Session", &session)]).0, 200);
    assert_eq!(client.request("SETUP", &track, &[savp]).0, 461, "it is used up");
    // FFmpeg would take what is sent in the clear for encrypted.
    assert_eq!(client.request("SETUP", &track, &[avp]).0, 461, "it was told a key");
    let (_, text) = client.request("DESCRIBE", &format!("{base}?srtp"), &[SDP]);
    assert_ne!(values(&text, "a=crypto:")[0], first, "the next one is new");
    // FFmpeg asks for RTP/AVP and decrypts.
    let (status, text) = client.request("SETUP", &track, &[avp]);
    assert!(status == 200 && text.contains("Transport: RTP/AVP/TCP;"), "{text}");
    let session = values(&text, "Session: ")[0].split(';').next().unwrap().to_owned();
    assert_eq!(client.request("TEARDOWN", &base, &[("Session", &session)]).0, 200);
    assert_eq!(client.request("SETUP", &track, &[avp]).0, 461);
    // A description without keys says that nothing is encrypted.
    assert_eq!(client.request("DESCRIBE", &base, &[SDP]).0, 200);
    let (status, text) = client.request("SETUP", &track, &[avp]);
    assert!(status == 200 && text.contains("Transport: RTP/AVP/TCP;"), "{text}");
}

#[test]
fn what_is_not_served_has_a_status() {
    let (server, _files) = start("", &Options::default());
    let base = url(&server, "demo");
    let track = format!("{base}/trackID=0");
    let mut client = SecureClient::connect(server.rtsps());
    let (status, _) = client.request("DESCRIBE", &format!("{base}?srtp=ROT13"), &[SDP]);
    assert_eq!(status, 400, "an unknown suite");
    let savp = ("Transport", "RTP/SAVP;unicast;client_port=40000-40001");
    let mut setup = |header: &str| client.request("SETUP", &track, &[savp, ("KeyMgmt", header)]).0;
    assert_eq!(setup("prot=mikey;data=\"!\""), 400);
    assert_eq!(setup("prot=other;data=\"AQAF\""), 400);
    assert_eq!(setup("prot=mikey;data=\"AQAF\""), 400, "a message that is cut");
    let key = MasterKey::from_bytes(Suite::AesCm128Sha1Tag80, &[1; 30]).unwrap();
    let mut message = mikey::write(&key, &[], &UNIQUES);
    let at = message.windows(3).position(|part| part == [1, 1, 16]).unwrap();
    message[at + 2] = 32;
    assert_eq!(setup(&write_key_mgmt("", &message)), 461, "AES-256");
    message[at + 2] = 16;
    assert_eq!(setup(&write_key_mgmt("", &message)), 200, "keys in SETUP alone are enough");
    // Keys do not go over a connection in the clear.
    let mut plain = Client::connect(server.rtsp);
    let url = format!("{}?srtp", server.demo_url());
    assert_eq!(plain.request("DESCRIBE", &url, &[SDP]).status, 403);
    let header = write_key_mgmt("", &message);
    let track = format!("{}/trackID=0", server.demo_url());
    let setup = plain.request("SETUP", &track, &[savp, ("KeyMgmt", &header)]);
    assert_eq!(setup.status, 461);
}

#[test]
fn srtp_can_be_switched_off_or_required() {
    let (server, _files) = start("[rtsp]\nsrtp = \"off\"\n", &Options::default());
    let mut client = SecureClient::connect(server.rtsps());
    let base = url(&server, "demo");
    assert_eq!(client.request("DESCRIBE", &format!("{base}?srtp"), &[SDP]).0, 403);
    let (_, text) = client.request("DESCRIBE", &base, &[SDP]);
    assert!(text.contains("m=video 0 RTP/AVP ") && !text.contains("a=crypto"), "{text}");

    let (server, _files) = start("[rtsp]\nsrtp = \"required\"\n", &Options::default());
    let mut client = SecureClient::connect(server.rtsps());
    let base = url(&server, "demo");
    let avp = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
    assert_eq!(client.request("SETUP", &format!("{base}/trackID=0"), &[avp]).0, 461);
    let (_, text) = client.request("DESCRIBE", &base, &[SDP]);
    assert_eq!(values(&text, "a=crypto:").len(), 2, "{text}");
    assert_eq!(client.request("SETUP", &format!("{base}/trackID=0"), &[avp]).0, 200);
    let mut plain = Client::connect(server.rtsp);
    assert_eq!(plain.request("DESCRIBE", &server.demo_url(), &[SDP]).status, 403);
}
