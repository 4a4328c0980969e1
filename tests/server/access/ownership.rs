//! A session belongs to its owner, and media goes to nobody else.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::support::http::{metric, sessions};
use crate::support::login::{ask_as, basic, describe_as, password, users};
use crate::support::publish::{Publisher, SOUND, rtp};
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::until;

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn commands_from_another_address_get_454_and_the_session_plays_on() {
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(10, PATIENCE);
    let mut stranger = Client::connect_from(STRANGER, server.rtsp);
    let (id, base) = (session.id.clone(), session.base.clone());
    let headers = [("Session", id.as_str())];
    for method in ["TEARDOWN", "PAUSE", "PLAY", "SETUP", "GET_PARAMETER", "SET_PARAMETER"] {
        stranger.request(method, &base, &headers).expect(454);
    }
    // Rule C2: OPTIONS is answered in any case.
    stranger.request("OPTIONS", &base, &headers).expect(200);
    session.receive_packets(10, PATIENCE);
    // The same address, by another connection.
    let mut other = Client::connect(server.rtsp);
    other.request("GET_PARAMETER", &base, &headers).expect(200);
    other.request("TEARDOWN", &base, &headers).expect(200);
    stranger.request("TEARDOWN", &base, &headers).expect(454);
}

#[test]
fn interleaved_session_belongs_to_its_connection() {
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    session.play(&[]);
    session.receive_packets(10, PATIENCE);
    let mut other = Client::connect(server.rtsp);
    for method in ["TEARDOWN", "PAUSE", "GET_PARAMETER"] {
        other.request(method, &session.base, &[("Session", &session.id)]).expect(454);
    }
    session.receive_packets(10, PATIENCE);
    session.request("TEARDOWN", &[]).expect(200);
}

#[test]
fn publisher_is_not_ended_by_a_stranger() {
    let server = Server::with_demo();
    for lower in [Lower::Udp, Lower::Tcp] {
        let mut publisher = Publisher::start(&server, "live/a", SOUND, lower);
        publisher.rtp(0, &rtp(0, 1, 160, 7, &[0; 160]));
        let headers = [("Session", publisher.id.as_str())];
        let mut stranger = Client::connect_from(STRANGER, server.rtsp);
        for method in ["TEARDOWN", "PAUSE", "RECORD"] {
            stranger.request(method, &publisher.url, &headers).expect(454);
        }
        publisher.request("TEARDOWN").expect(200);
    }
}

#[test]
fn user_goes_on_with_a_session_from_another_address_where_that_is_allowed() {
    let config = users(&["ann", "bob"], true) + "[rtsp]\nsession_roaming = true\n";
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    let url = server.demo_url();
    let (ann, bob) = (basic("ann", &password("ann")), basic("bob", &password("bob")));
    let mut client = Client::connect(server.rtsp);
    let pair = crate::support::session::UdpPair::bind(Ipv4Addr::LOCALHOST.into());
    describe_as(&mut client, &url, &ann).expect(200);
    let transport = pair.transport();
    let transport = [("Transport", transport.as_str())];
    let setup = ask_as(&mut client, "SETUP", &format!("{url}/trackID=0"), (&transport, ""), &ann)
        .expect(200);
    let id = setup.session_id();
    let session = [("Session", id.as_str())];
    let mut away = Client::connect_from(STRANGER, server.rtsp);
    let mut ask = |authorization: &str| {
        ask_as(&mut away, "GET_PARAMETER", &url, (&session, ""), authorization)
    };
    let unknown = ask("").expect(401);
    assert!(!crate::support::login::challenges(&unknown).is_empty());
    ask(&bob).expect(454);
    ask(&basic("ann", "guess")).expect(401);
    // The capability of a node says of whom a session is as little as nothing does.
    ask("Bearer hdl_x").expect(454);
    ask(&ann).expect(200);
    // Where the media goes stays what it was.
    let setup = ask_as(
        &mut away,
        "SETUP",
        &format!("{url}/trackID=1"),
        (
            &[
                ("Session", &id),
                ("Transport", "RTP/AVP;unicast;client_port=9000-9001;destination=127.0.0.1"),
            ],
            "",
        ),
        &ann,
    );
    assert_eq!(setup.status, 461, "{setup:?}");
    ask_as(&mut away, "TEARDOWN", &url, (&session, ""), &ann).expect(200);
    // Not unless it is allowed.
    let server =
        Server::start(&Options { config: Some(&users(&["ann"], true)), ..Options::default() });
    let url = server.demo_url();
    let mut client = Client::connect(server.rtsp);
    let setup = ask_as(&mut client, "SETUP", &format!("{url}/trackID=0"), (&transport, ""), &ann)
        .expect(200);
    let id = setup.session_id();
    let mut away = Client::connect_from(STRANGER, server.rtsp);
    ask_as(&mut away, "GET_PARAMETER", &url, (&[("Session", &id)], ""), &ann).expect(454);
}

#[test]
fn ports_of_services_are_not_sent_media_unless_that_is_allowed() {
    let server = Server::with_demo();
    let url = format!("{}/trackID=0", server.demo_url());
    for ports in ["53-54", "1022-1023", "1023-1024"] {
        let transport = format!("RTP/AVP;unicast;client_port={ports}");
        let answer =
            Client::connect(server.rtsp).request("SETUP", &url, &[("Transport", &transport)]);
        assert_eq!(answer.status, 461, "{ports}");
    }
    // What comes behind it in the list is taken.
    let both = "RTP/AVP;unicast;client_port=53-54,RTP/AVP/TCP;unicast;interleaved=0-1";
    let answer = Client::connect(server.rtsp).request("SETUP", &url, &[("Transport", both)]);
    assert_eq!(answer.expect(200).transport("interleaved"), Some("0-1"));
    let mut publisher = Publisher::announce(&server, "live/a", SOUND);
    let low = "RTP/AVP;unicast;client_port=1000-1001;mode=record";
    let url = publisher.track_url(0);
    assert_eq!(publisher.try_setup(&url, low).status, 461, "reports would go there");

    let config = "[rtsp]\nlow_client_ports = true\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    let url = format!("{}/trackID=0", server.demo_url());
    let transport = [("Transport", "RTP/AVP;unicast;client_port=1022-1023")];
    Client::connect(server.rtsp).request("SETUP", &url, &transport).expect(200);
}

#[test]
fn reports_of_strangers_change_nothing_and_are_sent_nothing() {
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::UdpFeedback);
    session.play(&[]);
    session.receive_packets(10, PATIENCE);
    let stream = session.stream("video");
    let ssrc = stream.announced_ssrc().unwrap().to_be_bytes();
    let (rtp_port, rtcp_port) = stream.server_ports();
    let before = metric(server.admin, "headend_datagrams_unmatched_total").unwrap();
    let bye = [&[0x81, 203, 0, 1][..], &ssrc].concat();
    let empty_report = [0x80, 201, 0, 1, 0, 0, 0, 9];
    let nack = [&[0x81, 205, 0, 3, 0, 0, 0, 9][..], &ssrc, &[0, 1, 0xff, 0xff]].concat();
    let lossy = [
        &[0x81, 201, 0, 7, 0, 0, 0, 9][..],
        &ssrc,
        &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let compound = |more: &[u8]| [&empty_report[..], more].concat();
    for (round, from) in [(1.0, IpAddr::V4(Ipv4Addr::LOCALHOST)), (2.0, STRANGER)] {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        for packet in [compound(&bye), compound(&nack), lossy.clone(), vec![0x80; 1_200]] {
            for port in [rtp_port, rtcp_port] {
                socket.send_to(&packet, (Ipv4Addr::LOCALHOST, port)).unwrap();
            }
        }
        until("the server has looked at them", || {
            metric(server.admin, "headend_datagrams_unmatched_total").unwrap()
                >= before + 4.0 * round
        });
        assert!(socket.recv_from(&mut [0; 1_500]).is_err(), "nothing is sent to a stranger");
    }
    session.receive_packets(10, PATIENCE);
    let shown = sessions(server.admin);
    assert_eq!(shown.len(), 1);
    assert!(shown[0]["streams"][0]["fraction_lost"].is_null(), "{shown:?}");
}
