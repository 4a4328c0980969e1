//! No stranger makes the server send to a third party, and none speaks for another client.
//!
//! ```text
//!  SETUP by 127.0.0.1 that names 127.0.0.2 --> refused, or media goes to 127.0.0.1
//!  RTCP from anywhere but a client's own port --> counted, without effect on its session
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::support::baseline::Baseline;
use crate::support::http::{metric, sessions};
use crate::support::publish::{PICTURES_AND_SOUND, Publisher, interleaved, rtp};
use crate::support::rtp::receiver_report;
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session, UdpPair};
use crate::support::wait::{PATIENCE, until};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Another address of this machine, which the server takes for another host.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn demo_track(server: &Server) -> String {
    format!("{}/trackID=0", server.demo_url())
}

#[test]
fn no_way_to_name_another_host_gets_media_sent_there() {
    let server = Server::with_demo();
    let victim = UdpPair::bind(ELSEWHERE);
    let ports = format!("client_port={0}-{1}", victim.port(), victim.port() + 1);
    let base = server.demo_url();
    let mut refused = 0;
    for parameter in [
        "destination=127.0.0.2",
        "destination=\"127.0.0.2\"",
        "destination=::ffff:127.0.0.2",
        "destination=[::ffff:127.0.0.2]",
        "destination=127.2",
        "destination=2130706434",
        "destination=0x7f000002",
        "destination=localhost",
        "destination=127.0.0.1;destination=127.0.0.2",
        "destination=127.0.0.2;destination=127.0.0.1",
        "destination=127.0.0.1@127.0.0.2",
        "dest_addr=\"127.0.0.2:5000\"/\"127.0.0.2:5001\"",
        "source=127.0.0.2",
        "client_ip=127.0.0.2",
        "destination=239.255.0.1",
        "destination=255.255.255.255",
    ] {
        let mut client = Client::connect(server.rtsp);
        let transport = format!("RTP/AVP;unicast;{parameter};{ports}");
        let answer = client.request("SETUP", &demo_track(&server), &[("Transport", &transport)]);
        match answer.status {
            200 => {
                // Of two, the last one counts: this is the peer.
                let names_peer = parameter.ends_with("destination=127.0.0.1");
                assert!(names_peer || !parameter.starts_with("destination"), "{parameter}");
                assert_eq!(answer.transport("destination"), None, "{answer:?}");
                let id = answer.session_id();
                client.request("PLAY", &base, &[("Session", &id)]).expect(200);
                let sent = metric(server.admin, "headend_rtp_packets_sent_total").unwrap();
                until("media is sent, to the peer", || {
                    metric(server.admin, "headend_rtp_packets_sent_total").unwrap() > sent + 10.0
                });
                client.request("TEARDOWN", &base, &[("Session", &id)]).expect(200);
            }
            403 | 461 | 400 => refused += 1,
            status => panic!("{parameter}: {status}"),
        }
    }
    assert!(refused >= 12, "{refused}");
    assert!(victim.rtp.recv_from(&mut [0; 2_048]).is_err(), "a packet went elsewhere");
    assert!(victim.rtcp.recv_from(&mut [0; 2_048]).is_err(), "a report went elsewhere");
}

#[test]
fn multicast_goes_to_the_configured_range_alone_whatever_group_is_asked_for() {
    let config = "[rtsp.multicast]\nrange = \"239.255.7.0/24\"\nttl = 1\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let track = server.url("live/a/trackID=0");
    for asked in ["224.0.0.1", "239.1.1.1", "127.0.0.2", "10.0.0.1"] {
        let mut client = Client::connect(server.rtsp);
        let transport = format!("RTP/AVP;multicast;destination={asked};port=9000-9001;ttl=255");
        let answer = client.request("SETUP", &track, &[("Transport", &transport)]);
        if answer.status == 200 {
            let group: Ipv4Addr = answer.transport("destination").unwrap().parse().unwrap();
            assert_eq!(group.octets()[..3], [239, 255, 7], "{answer:?}");
            assert_eq!(answer.transport("ttl"), Some("1"));
        } else {
            assert!([403, 461].contains(&answer.status), "{answer:?}");
        }
        // Titles are sent to no group.
        let demo = demo_track(&server);
        client.request("SETUP", &demo, &[("Transport", &transport)]).expect(461);
    }
}

#[test]
fn headers_of_proxies_do_not_say_who_the_peer_is() {
    let server = Server::with_demo();
    let victim = UdpPair::bind(ELSEWHERE);
    let own = UdpPair::bind(SocketAddr::new(OWN, victim.port()).ip());
    let transport = own.transport();
    let base = server.demo_url();
    let headers = [
        ("X-Forwarded-For", "127.0.0.2"),
        ("X-Real-IP", "127.0.0.2"),
        ("Forwarded", "for=127.0.0.2;proto=rtsp;host=127.0.0.2"),
        ("Via", "1.0 127.0.0.2"),
        ("X-Client-IP", "127.0.0.2"),
        ("Host", "127.0.0.2"),
        ("Referer", "rtsp://127.0.0.2/demo"),
        ("Transport", &transport),
    ];
    let mut client = Client::connect(server.rtsp);
    let answer = client.request("SETUP", &demo_track(&server), &headers).expect(200);
    let id = answer.session_id();
    let shown = sessions(server.admin);
    assert!(shown[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{shown:?}");
    let mut play = headers[..7].to_vec();
    play.push(("Session", &id));
    client.request("PLAY", &base, &play).expect(200);
    until("media comes to the peer", || own.rtp.recv_from(&mut [0; 2_048]).is_ok());
    assert!(victim.rtp.recv_from(&mut [0; 2_048]).is_err(), "a packet went elsewhere");
    // Nor do they open another's session.
    let mut stranger = Client::connect_from(ELSEWHERE, server.rtsp);
    let forged = [("X-Forwarded-For", "127.0.0.1"), ("Via", "127.0.0.1"), ("Session", &id)];
    stranger.request("TEARDOWN", &base, &forged).expect(454);
}

/// An empty report and feedback on `media` behind it.
fn feedback(kind: u8, format: u8, media: u32, behind: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 201, 0, 1, 0, 0, 0, 7, 0x80 | format, kind];
    out.extend(u16::try_from(2 + behind.len() / 4).unwrap().to_be_bytes());
    out.extend(7_u32.to_be_bytes());
    out.extend(media.to_be_bytes());
    out.extend(behind);
    out
}

/// What a client could say with effect: a report, a NACK, lost pictures, BYE.
fn told(ssrc: u32, seq: u16) -> [Vec<u8>; 5] {
    let bye = [&[0x80, 201, 0, 1, 0, 0, 0, 7, 0x81, 203, 0, 1][..], &ssrc.to_be_bytes()].concat();
    let lost = [&seq.to_be_bytes()[..], &[0xff, 0xff]].concat();
    [
        receiver_report(7, ssrc, u32::from(seq)),
        feedback(205, 1, ssrc, &lost),
        feedback(206, 1, ssrc, &[]),
        feedback(206, 4, ssrc, &[0, 0, 0, 7, 1, 0, 0, 0]),
        bye,
    ]
}

const WITHOUT_EFFECT: [&str; 5] = [
    "headend_rtcp_reports_received_total",
    "headend_nack_received_total",
    "headend_rtx_packets_sent_total",
    "headend_picture_requests_received_total",
    "headend_picture_requests_sent_total",
];

#[test]
fn rtcp_from_a_stranger_has_no_effect_and_is_counted() {
    let config = "[rtsp]\nsession_timeout = \"3s\"\n";
    let mut server = Server::start(&Options { config: Some(config), ..Options::default() });
    let baseline = Baseline::of(&server);
    let counted = |name| metric(server.admin, name).unwrap();
    let before = WITHOUT_EFFECT.map(counted);
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::UdpFeedback);
    session.play(&[]);
    session.receive_packets(10, PATIENCE);
    let strangers = [UdpSocket::bind((OWN, 0)).unwrap(), UdpSocket::bind((ELSEWHERE, 0)).unwrap()];
    let mut sent = 0.0;
    // The client says nothing more; it is gone when its time is over, whatever strangers say.
    until("the session has timed out", || {
        for stream in &session.streams {
            let (rtp, rtcp) = stream.server_ports();
            let last = stream.packets.last().unwrap();
            for packet in told(last.ssrc, last.seq) {
                for stranger in &strangers {
                    for port in [rtp, rtcp] {
                        stranger.send_to(&packet, (OWN, port)).unwrap();
                        sent += 1.0;
                    }
                }
                // The client's own socket, but not the one for reports.
                stream.udp().rtp.send_to(&packet, (OWN, rtcp)).unwrap();
            }
        }
        sessions(server.admin).is_empty()
    });
    assert_eq!(WITHOUT_EFFECT.map(counted), before, "{WITHOUT_EFFECT:?}");
    let unmatched = counted("headend_datagrams_unmatched_total");
    assert!(unmatched > 0.0 && unmatched <= sent * 1.25, "{unmatched} of {sent}");
    assert!(counted("headend_sessions_timed_out_total") >= 1.0);
    drop(session);
    baseline.assert_back(&mut server, "RTCP of strangers");
}

#[test]
fn interleaved_reports_of_another_connection_have_no_effect() {
    let server = Server::with_demo();
    let counted = |name| metric(server.admin, name).unwrap();
    let before = WITHOUT_EFFECT.map(counted);
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    session.play(&[]);
    session.receive_packets(5, PATIENCE);
    let last = session.stream("video").packets.last().unwrap();
    let mut stranger = Client::connect(server.rtsp);
    for packet in told(last.ssrc, last.seq) {
        for channel in 0..4 {
            stranger.send_raw(interleaved(channel, &packet));
        }
    }
    stranger.request("OPTIONS", "*", &[]).expect(200);
    assert_eq!(WITHOUT_EFFECT.map(counted), before, "{WITHOUT_EFFECT:?}");
    session.receive_packets(20, PATIENCE);
}

#[test]
fn flood_of_rtcp_drops_what_is_too_much_and_streams_go_on() {
    let mut server = Server::with_demo();
    let baseline = Baseline::of(&server);
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(5, PATIENCE);
    let (_, rtcp) = session.stream("video").server_ports();
    let media = session.stream("video").packets[0].ssrc;
    let stranger = UdpSocket::bind((OWN, 0)).unwrap();
    let noise = vec![0x81; 1_400];
    let report = receiver_report(7, media, 1);
    for round in 0..200_u32 {
        for _ in 0..100 {
            stranger.send_to(if round % 2 == 0 { &noise } else { &report }, (OWN, rtcp)).unwrap();
        }
        // The client itself exaggerates as well.
        let own = session.stream("video").udp();
        own.rtcp.send_to(&report, (OWN, rtcp)).unwrap();
        own.rtcp.send_to(&noise, (OWN, rtcp)).unwrap();
    }
    session.receive_packets(40, PATIENCE);
    crate::support::rtp::assert_contiguous(&session.stream("video").packets);
    assert!(metric(server.admin, "headend_datagrams_unmatched_total").unwrap() > 0.0);
    session.request("TEARDOWN", &[]).expect(200);
    drop(session);
    baseline.assert_back(&mut server, "a flood of RTCP");
}

#[test]
fn packets_of_a_stranger_are_not_a_publishers() {
    let server = Server::with_demo();
    let mut publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Udp);
    publisher.rtp(0, &rtp(96, 1, 0, 5, &[0x65; 100]));
    let [to_rtp, to_rtcp] = publisher.server_ports(0);
    let received = || metric(server.admin, "headend_source_packets_received_total").unwrap();
    until("its packet has come", || received() >= 1.0);
    let before = received();
    let unmatched = || metric(server.admin, "headend_datagrams_unmatched_total").unwrap();
    let unmatched_before = unmatched();
    let strangers = [UdpSocket::bind((OWN, 0)).unwrap(), UdpSocket::bind((ELSEWHERE, 0)).unwrap()];
    for stranger in &strangers {
        for to in [to_rtp, to_rtcp] {
            stranger.send_to(&rtp(96, 2, 0, 5, &[0x65; 100]), to).unwrap();
        }
    }
    until("they are counted", || unmatched() >= unmatched_before + 4.0);
    assert!((received() - before).abs() < 0.5);
}
