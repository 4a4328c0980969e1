//! How long a session lives, what keeps it alive, and how it ends.
//!
//! The shortest timeout that can be configured makes these tests last a few seconds each. They
//! wait for conditions; the media itself tells that the timeout has passed where that matters.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::support::http::{metric, sessions};
use crate::support::network::in_own_network;
use crate::support::process::run;
use crate::support::rtp::{Rtcp, receiver_report};
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session, Stream};
use crate::support::wait::{Deadline, PATIENCE, until};

/// The shortest that the configuration takes.
const TIMEOUT: Duration = Duration::from_secs(5);
const SHORT: &str = "[rtsp]\nsession_timeout = \"5s\"\n";

fn with_short_timeout() -> Server {
    Server::start(&Options { config: Some(SHORT), ..Options::default() })
}

fn is_listed(server: &Server, id: &str) -> bool {
    sessions(server.admin).iter().any(|session| session["id"] == *id)
}

/// Does `sign_of_life` twice a second for two timeouts; the session must be there all the time.
fn assert_kept_alive_by(
    server: &Server,
    session: &mut Session,
    mut sign_of_life: impl FnMut(&mut Session),
) {
    let deadline = Deadline::after(TIMEOUT * 2);
    while !deadline.has_passed() {
        sign_of_life(session);
        session.receive_until(Duration::from_millis(500), |_| false);
        assert!(is_listed(server, &session.id), "ended in spite of signs of life");
    }
}

#[test]
fn session_header_has_id_and_timeout_as_players_read_them() {
    // Client rules C3, C18: the parameter right behind the semicolon, no dash in the id. C16: the
    // announced timeout is five seconds short of the real one, which is 60 s.
    let server = Server::with_demo();
    let session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    let setup = &session.streams[0].setup;
    let header = setup.header("Session").unwrap();
    assert!(header.contains(";timeout="), "{header}");
    assert_eq!(setup.session_timeout_s(), Some(55));
    let id = setup.session_id();
    assert!(id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!(session.streams[1].setup.session_id(), id);
}

#[test]
fn session_ids_cannot_be_guessed_from_one_another() {
    let server = Server::with_demo();
    let ids: Vec<u64> = (0..8)
        .map(|_| Session::open(server.rtsp, &server.demo_url(), Lower::Tcp).id)
        .map(|id| u64::from_str_radix(&id, 16).unwrap())
        .collect();
    for pair in ids.windows(2) {
        // Random in 56 bits: neighbours differ in many of them.
        assert!((pair[0] ^ pair[1]).count_ones() > 8, "{ids:x?}");
    }
}

#[test]
fn udp_session_whose_client_falls_silent_is_ended_with_bye() {
    let server = with_short_timeout();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    // The clip lasts 20 s: BYE before that is the timeout's.
    session.receive_until_bye(PATIENCE);
    assert!(session.stream("video").packets.len() < 480, "it was not the end of the clip");
    until("the session is gone", || !is_listed(&server, &session.id));
    session.request("PLAY", &[]).expect(454);
}

#[test]
fn session_that_never_plays_is_ended_by_the_timeout() {
    let server = with_short_timeout();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    until("the session is gone", || !is_listed(&server, &session.id));
    session.request("PLAY", &[]).expect(454);
}

#[test]
fn receiver_reports_keep_a_udp_session_alive_and_are_shown() {
    let server = with_short_timeout();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    assert_kept_alive_by(&server, &mut session, |session| {
        let stream = &session.streams[0];
        let report = receiver_report(7, stream.announced_ssrc().unwrap_or(0), 1_000);
        let (_, rtcp) = stream.server_ports();
        stream.udp().rtcp.send_to(&report, (Ipv4Addr::LOCALHOST, rtcp)).unwrap();
    });
    // The report says: an eighth lost, 5 packets in all.
    let listed = sessions(server.admin);
    let stream = &listed[0]["streams"][0];
    assert_eq!(stream["fraction_lost"], 0.125, "{listed:?}");
    assert_eq!(stream["packets_lost"], 5);
}

#[test]
fn receiver_reports_from_another_address_do_not_keep_a_session_alive() {
    let server = with_short_timeout();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    let stranger = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (_, rtcp) = session.streams[0].server_ports();
    let report = receiver_report(7, session.streams[0].announced_ssrc().unwrap_or(0), 1_000);
    until("the session is gone", || {
        stranger.send_to(&report, (Ipv4Addr::LOCALHOST, rtcp)).unwrap();
        session.drain();
        !is_listed(&server, &session.id)
    });
}

#[test]
fn rtsp_requests_keep_a_session_alive() {
    // Client rule C2: FFmpeg, VLC and rtspsrc send GET_PARAMETER; a client may send OPTIONS.
    for method in ["GET_PARAMETER", "OPTIONS", "SET_PARAMETER"] {
        let server = with_short_timeout();
        let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
        session.play(&[]);
        assert_kept_alive_by(&server, &mut session, |session| {
            session.request(method, &[]).expect(200);
        });
    }
}

#[test]
fn interleaved_session_that_takes_its_packets_needs_no_other_sign_of_life() {
    // Client rule C16: VLC sends no keep-alive over TCP.
    let server = with_short_timeout();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    session.play(&[]);
    assert_kept_alive_by(&server, &mut session, |_| {});
    assert!(!session.streams.iter().any(Stream::has_ended));
}

/// A player over TCP whose window is closed soon after PLAY, because it does not read.
fn with_full_window(server: &Server) -> Session {
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    socket2::SockRef::from(session.client.stream()).set_recv_buffer_size(64 << 10).unwrap();
    session.play(&[]);
    session
}

fn age_s(server: &Server, id: &str) -> f64 {
    let listed = sessions(server.admin);
    let session = listed.iter().find(|session| session["id"] == *id);
    session.expect("it is there").get("age_s").and_then(serde_json::Value::as_f64).unwrap()
}

#[test]
fn player_that_pauses_by_not_reading_loses_nothing_while_it_gives_signs_of_life() {
    let server = with_short_timeout();
    let mut session = with_full_window(&server);
    let (mut told, end) = (0, TIMEOUT * 3);
    until("three timeouts have passed", || {
        let age = Duration::from_secs_f64(age_s(&server, &session.id));
        if age > Duration::from_secs(told) {
            told += 1;
            // RTCP has no answer that would have to be read.
            let report = receiver_report(7, 0, 0);
            let mut frame = vec![b'$', 1, 0, u8::try_from(report.len()).unwrap()];
            frame.extend_from_slice(&report);
            session.client.send_raw(frame);
        }
        age > end
    });
    // Everything that was due meanwhile comes now, whole and in order.
    session.receive_until_bye(PATIENCE);
    for stream in &session.streams {
        let first = stream.packets[0].seq;
        for (number, packet) in stream.packets.iter().enumerate() {
            let expected = first.wrapping_add(u16::try_from(number).unwrap());
            assert_eq!(packet.seq, expected, "a packet is missing");
        }
    }
    assert!(!session.is_closed);
}

#[test]
fn player_that_reads_nothing_and_says_nothing_ends_with_the_timeout_and_a_reason() {
    let server = with_short_timeout();
    let session = with_full_window(&server);
    until("the session is gone", || !is_listed(&server, &session.id));
    server.assert_logs("has read nothing and sent nothing");
    server.assert_logs(&session.client.stream().local_addr().unwrap().to_string());
}

#[test]
fn session_of_a_dead_host_is_ended_and_the_reason_is_logged() {
    let chain = "nft add table inet t && nft add chain inet t c \
                 '{ type filter hook input priority 0; }'";
    let name = "session_of_a_dead_host_is_ended_and_the_reason_is_logged";
    in_own_network(module_path!(), name, chain, || {
        let server = with_short_timeout();
        let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
        // By both ports: a request to the admin port may come from the same one as this connection.
        let client = session.client.stream().local_addr().unwrap().port().to_string();
        let own = server.rtsp.port().to_string();
        for (from, to) in [(&client, &own), (&own, &client)] {
            let rule = ["tcp", "sport", from, "tcp", "dport", to, "drop"];
            run("nft", &[&["add", "rule", "inet", "t", "c"][..], &rule[..]].concat());
        }
        until("the session is gone", || !is_listed(&server, &session.id));
        server.assert_logs("host does not answer any more");
    });
}

#[test]
fn end_of_title_is_said_by_bye_on_every_stream() {
    // Client rule C9: players take the end from RTCP.
    for lower in [Lower::Udp, Lower::Tcp] {
        let server = Server::with_demo();
        let mut session = Session::open(server.rtsp, &server.demo_url(), lower);
        session.play(&[("Range", "npt=18-")]);
        session.receive_until_bye(PATIENCE);
        for stream in &session.streams {
            let packets = u32::try_from(stream.packets.len()).unwrap();
            let bye = stream.reports.iter().position(|r| matches!(r, Rtcp::Bye { .. })).unwrap();
            let Rtcp::Bye { ssrcs } = &stream.reports[bye] else { unreachable!() };
            assert_eq!(ssrcs, &[stream.packets[0].ssrc]);
            // The compound that holds the BYE counts what was sent (RFC 3550 s6.1, s6.4.1).
            let sent = stream.reports[..bye].iter().rev().find_map(|report| match report {
                Rtcp::SenderReport { packets, bytes, .. } => Some((*packets, *bytes)),
                _ => None,
            });
            let bytes: usize = stream.packets.iter().map(|p| p.payload.len()).sum();
            assert_eq!(sent, Some((packets, u32::try_from(bytes).unwrap())));
        }
        // The session is there for another round.
        session.play(&[("Range", "npt=0-")]);
        session.receive_packets(5, PATIENCE);
    }
}

#[test]
fn teardown_says_bye_frees_the_session_and_leaves_the_connection() {
    for lower in [Lower::Udp, Lower::Tcp] {
        let server = Server::with_demo();
        let mut session = Session::open(server.rtsp, &server.demo_url(), lower);
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
        session.request("TEARDOWN", &[]).expect(200);
        assert!(!is_listed(&server, &session.id));
        if lower == Lower::Udp {
            session.receive_until_bye(PATIENCE);
        }
        session.request("PLAY", &[]).expect(454);
        session.client.request("OPTIONS", "*", &[]).expect(200);
    }
}

#[test]
fn one_track_of_a_resting_session_can_be_torn_down_alone() {
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    let (url, id) = (session.streams[1].url.clone(), session.id.clone());
    session.client.request("TEARDOWN", &url, &[("Session", &id)]).expect(200);
    let reply = session.play(&[]);
    assert_eq!(reply.rtp_info().len(), 1, "{reply:?}");
    assert_eq!(reply.rtp_info()[0].url, session.streams[0].url);
}

#[test]
fn client_that_vanishes_leaves_nothing_behind() {
    let server = with_short_timeout();
    // Warm: what stays open for good is open now.
    drop(Session::open(server.rtsp, &server.demo_url(), Lower::Tcp));
    until("no session", || sessions(server.admin).is_empty());
    let descriptors = server.open_descriptors();
    for lower in [Lower::Udp, Lower::Tcp] {
        for _ in 0..10 {
            let mut session = Session::open(server.rtsp, &server.demo_url(), lower);
            session.play(&[]);
            // Dropped: the kernel closes its sockets, nobody says TEARDOWN.
        }
    }
    until("all sessions are reaped", || sessions(server.admin).is_empty());
    until("all descriptors are back", || server.open_descriptors() <= descriptors);
    assert_eq!(metric(server.admin, "headend_sessions"), Some(0.0));
}

#[test]
fn half_a_request_does_not_hold_a_connection_for_ever() {
    let server = with_short_timeout();
    let mut client = Client::connect(server.rtsp);
    client.send_raw("OPTIONS * RTSP/1.0\r\nCSeq:");
    client.assert_closed();
}
