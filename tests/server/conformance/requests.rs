//! How requests may come in: split, glued, sloppy; and that answers come back in their order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use crate::support;
use crate::support::rtsp::{Client, Received};
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE};

fn connected() -> (Server, Client) {
    let server = Server::with_demo();
    let client = Client::connect(server.rtsp);
    (server, client)
}

#[test]
fn options_lists_the_methods_players_look_for() {
    // Client rules C2, C12, C20: keep-alive by GET_PARAMETER only if it is listed; rtspsrc wants
    // DESCRIBE and SETUP; FFmpeg's buffer is small.
    let (server, mut client) = connected();
    for url in ["*", &server.demo_url(), &server.url("")] {
        let response = client.request("OPTIONS", url, &[]).expect(200);
        let public = response.header("Public").unwrap();
        assert!(public.len() < 200, "{public}");
        for method in [
            "OPTIONS",
            "DESCRIBE",
            "SETUP",
            "PLAY",
            "PAUSE",
            "TEARDOWN",
            "GET_PARAMETER",
            "SET_PARAMETER",
        ] {
            assert!(response.list("Public").contains(&method), "{method} in {public}");
        }
    }
}

#[test]
fn every_method_that_is_listed_is_answered() {
    // Client rule C31: some servers list methods that they never answer.
    let (server, mut client) = connected();
    let public = client.request("OPTIONS", &server.demo_url(), &[]).expect(200);
    for method in public.list("Public") {
        let response = client.request(method, &server.demo_url(), &[]);
        assert!(![405, 501].contains(&response.status), "{method}: {response:?}");
    }
}

#[test]
fn timestamp_is_repeated_with_a_delay_and_headers_may_have_8_kib() {
    // RFC 2326 s12.38. Answers in place, from a worker, and refusals alike.
    let (server, mut client) = connected();
    let token = "x".repeat(8_192);
    let headers = [("Timestamp", "12.5"), ("Authorization", token.as_str())];
    for (method, url) in [
        ("OPTIONS", "*".to_owned()),
        ("DESCRIBE", server.demo_url()),
        ("DESCRIBE", server.url("vod/none.mp4")),
        ("SETUP", server.url("live/none")),
    ] {
        let response = client.request(method, &url, &headers);
        let text = response.header("Timestamp").unwrap();
        let (own, delay) = text.split_once(' ').unwrap();
        let delay_s: f64 = delay.parse().unwrap();
        assert!(own == "12.5" && (0.0..60.0).contains(&delay_s), "{method}: {text}");
    }
}

#[test]
fn connection_that_is_to_be_closed_is_after_its_last_answer() {
    for method in ["OPTIONS", "DESCRIBE"] {
        let (server, mut client) = connected();
        let url = server.demo_url();
        let last = client.format(method, &url, &[("Connection", "close")], "");
        let behind = client.format("OPTIONS", "*", &[], "");
        client.send_raw(last + &behind);
        let response = client.response().expect(200);
        assert_eq!(response.header("Connection"), Some("close"));
        let next = client.receive(Deadline::after(PATIENCE));
        assert!(matches!(next, Some(Received::Closed)), "{next:?} behind the last answer");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    // DESCRIBE opens a file on another thread; OPTIONS does not. The answers keep the order of the
    // requests all the same.
    let (server, mut client) = connected();
    let url = server.demo_url();
    let mut text = String::new();
    for i in 0..40 {
        let (method, url) = match i % 4 {
            0 => ("OPTIONS", "*".to_owned()),
            1 => ("DESCRIBE", url.clone()),
            2 => ("DESCRIBE", server.url(&format!("vod/{i}.mp4"))),
            _ => ("GET_PARAMETER", url.clone()),
        };
        text += &client.format(method, &url, &[], "");
    }
    client.send_raw(text);
    for i in 1..=40 {
        assert_eq!(client.response().header("CSeq"), Some(i.to_string().as_str()));
    }
}

#[test]
fn whole_session_sent_at_once_is_answered_in_order() {
    let (server, mut client) = connected();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    let (base, id) = (session.base.clone(), session.id.clone());
    let inside = [("Session", id.as_str())];
    let text: Vec<String> = ["PLAY", "PAUSE", "GET_PARAMETER", "PLAY", "TEARDOWN", "OPTIONS"]
        .iter()
        .map(|method| session.client.format(method, &base, &inside, ""))
        .collect();
    session.client.send_raw(text.concat());
    // Two tracks took CSeq 1 to 3.
    let first: u32 = session.client.response().expect(200).header("CSeq").unwrap().parse().unwrap();
    for i in 1..5 {
        let response = session.client.response().expect(200);
        assert_eq!(response.header("CSeq"), Some((first + i).to_string().as_str()));
    }
    // OPTIONS names a session that is gone by then.
    let last = session.client.response();
    assert_eq!(last.header("CSeq"), Some((first + 5).to_string().as_str()));
    assert!([200, 454].contains(&last.status), "{last:?}");
    client.request("OPTIONS", "*", &[]).expect(200);
}

#[test]
fn request_may_come_byte_by_byte() {
    let (server, mut client) = connected();
    let url = server.demo_url();
    let text = client.format("DESCRIBE", &url, &[("Accept", "application/sdp")], "");
    client.send_byte_by_byte(text.as_bytes());
    assert!(client.response().expect(200).body.starts_with("v=0"));
    let text = client.format("GET_PARAMETER", &url, &[], "position\r\n");
    client.send_byte_by_byte(text.as_bytes());
    assert_eq!(client.response().header("CSeq"), Some("2"));
}

#[test]
fn lines_may_end_in_lf_alone() {
    // Client rule C31.
    let (server, mut client) = connected();
    let url = server.demo_url();
    client.send_raw(format!(
        "OPTIONS {url} RTSP/1.0\nCSeq: 7\n\nDESCRIBE {url} RTSP/1.0\nCSeq: 8\n\n"
    ));
    assert_eq!(client.response().expect(200).header("CSeq"), Some("7"));
    assert_eq!(client.response().expect(200).header("CSeq"), Some("8"));
}

#[test]
fn blank_lines_between_requests_are_skipped() {
    // Client rule C31.
    let (_server, mut client) = connected();
    for _ in 0..3 {
        client.send_raw("\r\n\r\n\n");
        client.request("OPTIONS", "*", &[]).expect(200);
    }
}

#[test]
fn header_names_are_read_without_regard_to_case() {
    // Client rule C31; RFC 2326 s4.2 by way of RFC 2068.
    let (server, mut client) = connected();
    let url = server.demo_url();
    client.send_raw(format!(
        "DESCRIBE {url} RTSP/1.0\r\ncseq: 1\r\nACCEPT: application/mheg\r\n\r\n"
    ));
    assert_eq!(client.response().status, 406);
    client.send_raw(format!("DESCRIBE {url} RTSP/1.0\r\nCSEQ:2\r\naccept:application/sdp\r\n\r\n"));
    assert_eq!(client.response().expect(200).header("CSeq"), Some("2"));
}

#[test]
fn body_is_skipped_even_where_none_is_wanted() {
    let (server, mut client) = connected();
    let body = "OPTIONS * RTSP/1.0\r\nCSeq: 99\r\n\r\n";
    let url = server.demo_url();
    let response = client.request_with_body("DESCRIBE", &url, &[], body);
    assert_eq!(response.status, 200);
    assert_eq!(client.request("OPTIONS", "*", &[]).header("CSeq"), Some("2"));
}

#[test]
fn url_may_name_the_server_as_the_client_knows_it() {
    // Names, another case of the scheme, no port: what counts is the path.
    let (_server, mut client) = connected();
    for url in ["rtsp://media.example.org/demo", "RTSP://localhost:8554/demo", "rtsp://[::1]/demo"]
    {
        client.request("DESCRIBE", url, &[]).expect(200);
    }
}

#[test]
fn interleaved_frames_from_a_client_do_not_disturb_its_requests() {
    // Receiver reports and rtspsrc's dummy packets (client rule C21) share the connection.
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    let report = support::rtp::receiver_report(1, 2, 3);
    let mut text = vec![b'$', 1, 0, u8::try_from(report.len()).unwrap()];
    text.extend(&report);
    text.extend(b"$\x00\x00\x04junk"); // no RTP
    text.extend(b"$\xfa\x00\x00"); // nothing, on a channel that nobody set up
    let (base, id) = (session.base.clone(), session.id.clone());
    text.extend(session.client.format("PLAY", &base, &[("Session", &id)], "").bytes());
    text.extend(b"$\x00\x00\x01x");
    session.client.send_raw(text);
    session.client.response().expect(200);
    session.receive_packets(10, PATIENCE);
    session.request("PAUSE", &[]).expect(200);
}

#[test]
fn server_sends_no_requests_to_clients() {
    // Client rule C8: FFmpeg answers most requests with 501. `Client` fails on a request.
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    session.play(&[("Range", "npt=19-")]);
    session.receive_until_bye(PATIENCE);
    session.request("TEARDOWN", &[]).expect(200);
}

#[test]
fn command_for_a_session_of_another_connection_is_carried_out() {
    // RFC 2326 s1.1: sessions are not bound to connections. With several shards the command lands
    // on another shard as a rule and is passed on.
    for shards in ["1", "2"] {
        let server = Server::start(&Options { shards, ..Options::default() });
        let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
        let (base, id) = (session.base.clone(), session.id.clone());
        let inside = [("Session", id.as_str())];
        // Enough connections that the kernel gives some to the other shard.
        for _ in 0..8 {
            let mut other = Client::connect(server.rtsp);
            other.request("PAUSE", &base, &inside).expect(200);
            let reply = other.request("PLAY", &base, &inside).expect(200);
            assert_eq!(reply.rtp_info().len(), 2, "{reply:?}");
            // Pipelined behind it: in order, though one answer comes from elsewhere.
            let text = other.format("GET_PARAMETER", &base, &inside, "")
                + &other.format("OPTIONS", "*", &[], "");
            other.send_raw(text);
            assert_eq!(other.response().expect(200).header("CSeq"), Some("3"));
            assert_eq!(other.response().expect(200).header("CSeq"), Some("4"));
        }
        session.forget();
        session.receive_packets(5, PATIENCE);
        Client::connect(server.rtsp).request("TEARDOWN", &base, &inside).expect(200);
        session.request("PLAY", &[]).expect(454);
    }
}
