//! Every status an RTSP client can provoke, by what provokes it (RFC 2326 s7.1.1, s11).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use crate::support::Served;
use crate::support::http::metric;
use crate::support::media::title;
use crate::support::network::{OTHER_HOSTS, in_own_network};
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session, describe, joined};

const TCP: (&str, &str) = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");

fn connected() -> (Server, Client) {
    let server = Server::with_demo();
    let client = Client::connect(server.rtsp);
    (server, client)
}

fn opened(lower: Lower) -> (Server, Session) {
    let server = Server::with_demo();
    let session = Session::open(server.rtsp, &server.demo_url(), lower);
    (server, session)
}

/// URL of the first track of the clip.
fn track_url(server: &Server, client: &mut Client) -> String {
    let (base, sdp) = describe(client, &server.demo_url());
    joined(&base, &sdp.media[0].control)
}

#[test]
fn request_line_without_version_is_refused_with_400_and_the_connection_closes() {
    for line in ["HELLO\r\n\r\n", "OPTIONS *\r\n\r\n", "\u{0}\u{1}\u{2}\u{3}\r\n\r\n"] {
        let (_server, mut client) = connected();
        client.send_raw(line);
        assert_eq!(client.response().status, 400, "{line:?}");
        client.assert_closed();
    }
}

#[test]
fn request_without_cseq_is_refused_with_400() {
    // RFC 2326 s12.17: "This field MUST be present in all RTSP requests".
    let (server, mut client) = connected();
    client.send_raw(format!("OPTIONS {} RTSP/1.0\r\n\r\n", server.demo_url()));
    assert_eq!(client.response().status, 400);
}

#[test]
fn header_line_without_colon_is_refused_with_400() {
    let (server, mut client) = connected();
    client
        .send_raw(format!("OPTIONS {} RTSP/1.0\r\nCSeq: 1\r\nnonsense\r\n\r\n", server.demo_url()));
    assert_eq!(client.response().status, 400);
}

#[test]
fn content_length_that_is_no_number_is_refused_with_400_and_the_connection_closes() {
    // Where the next request begins can no longer be known.
    for length in ["x", "-1", "99999999999999999999", "1, 2"] {
        let (server, mut client) = connected();
        let url = server.demo_url();
        client.send_raw(format!(
            "SET_PARAMETER {url} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {length}\r\n\r\n"
        ));
        assert_eq!(client.response().status, 400, "{length}");
        client.assert_closed();
    }
}

#[test]
fn body_larger_than_the_limit_is_refused_and_the_connection_closes() {
    let (server, mut client) = connected();
    let url = server.demo_url();
    client.send_raw(format!(
        "SET_PARAMETER {url} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 4000000000\r\n\r\n"
    ));
    assert_eq!(client.response().status, 413);
    client.assert_closed();
}

#[test]
fn endless_header_line_is_refused_and_the_connection_closes() {
    let (server, mut client) = connected();
    let filler = "x".repeat(16 << 10);
    client.send_raw(format!("OPTIONS {} RTSP/1.0\r\nCSeq: 1\r\nX: {filler}", server.demo_url()));
    assert_eq!(client.response().status, 431);
    client.assert_closed();
}

#[test]
fn title_that_does_not_exist_is_answered_with_404() {
    // Client rule C13: any other status makes VLC try an HTTP tunnel instead of giving up.
    let (server, mut client) = connected();
    for path in ["nothing", "vod/nothing.mp4", "demo/nothing", ""] {
        let response = client.request("DESCRIBE", &server.url(path), &[]);
        assert_eq!(response.status, 404, "{path}: {response:?}");
    }
    for path in ["nothing/trackID=0", "vod/nothing.mp4/trackID=0", "demo/trackID=9"] {
        let response = client.request("SETUP", &server.url(path), &[TCP]);
        assert_eq!(response.status, 404, "{path}: {response:?}");
    }
}

#[test]
fn known_method_that_titles_do_not_have_is_refused_with_405_and_allow() {
    // RFC 2326 s11.3.2: the response MUST have an Allow header.
    let (server, mut client) = connected();
    for method in ["ANNOUNCE", "RECORD"] {
        let response = client.request(method, &server.demo_url(), &[]).expect(405);
        let allowed = response.list("Allow");
        // Client rule C20: when the header is there, rtspsrc looks for these.
        assert!(allowed.contains(&"DESCRIBE") && allowed.contains(&"SETUP"), "{response:?}");
        assert!(!allowed.contains(&method), "{response:?}");
    }
}

#[test]
fn description_in_another_format_is_refused_with_406() {
    let (server, mut client) = connected();
    let url = server.demo_url();
    client.request("DESCRIBE", &url, &[("Accept", "application/mheg")]).expect(406);
    for accept in
        ["application/sdp", "*/*", "application/rtsl, application/sdp;level=-2", "application/*"]
    {
        client.request("DESCRIBE", &url, &[("Accept", accept)]).expect(200);
    }
    client.request("DESCRIBE", &url, &[]).expect(200);
}

#[test]
fn parameter_that_is_not_known_is_refused_with_451() {
    let (_server, mut session) = opened(Lower::Tcp);
    let (base, id) = (session.base.clone(), session.id.clone());
    let headers = [("Session", id.as_str()), ("Content-Type", "text/parameters")];
    let client = &mut session.client;
    let get = client.request_with_body("GET_PARAMETER", &base, &headers, "barparam\r\n");
    assert_eq!(get.status, 451, "{get:?}");
    let set = client.request_with_body("SET_PARAMETER", &base, &headers, "barparam: barstuff\r\n");
    assert_eq!(set.status, 451, "{set:?}");
    // RFC 2326 s10.8: without a body it is a ping.
    client.request("GET_PARAMETER", &base, &[("Session", &id)]).expect(200);
}

#[test]
fn session_that_does_not_exist_is_refused_with_454() {
    let (server, mut client) = connected();
    let url = server.demo_url();
    // One that looks like ours, one of a shard that there is not, two that cannot be ours.
    for id in ["00123456789ABCDE", "FF123456789ABCDE", "12345678", "a b;c"] {
        for method in ["PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER"] {
            let response = client.request(method, &url, &[("Session", id)]);
            assert_eq!(response.status, 454, "{method} {id}: {response:?}");
        }
    }
    let track = track_url(&server, &mut client);
    client.request("SETUP", &track, &[TCP, ("Session", "00123456789ABCDE")]).expect(454);
}

#[test]
fn play_and_pause_without_a_session_are_refused() {
    // 454 says which header is missing, 455 that there is nothing set up yet: both are right.
    let (server, mut client) = connected();
    for method in ["PLAY", "PAUSE", "TEARDOWN"] {
        let response = client.request(method, &server.demo_url(), &[]);
        assert!([454, 455].contains(&response.status), "{method}: {response:?}");
    }
}

#[test]
fn setup_of_a_playing_session_is_refused_with_455() {
    // RFC 2326 s10.4: a server that cannot change transport parameters while playing.
    let (_server, mut session) = opened(Lower::Tcp);
    session.play(&[]);
    let (url, id) = (session.streams[0].url.clone(), session.id.clone());
    let headers = [("Session", id.as_str()), ("Transport", "RTP/AVP/TCP;unicast;interleaved=8-9")];
    let response = session.client.request("SETUP", &url, &headers).expect(455);
    // RFC 2326 s11.3.6: the response SHOULD say what can be done.
    assert!(response.list("Allow").contains(&"PAUSE"), "{response:?}");
}

#[test]
fn range_past_the_end_is_refused_with_457() {
    let (_server, mut session) = opened(Lower::Tcp);
    for range in ["npt=9999-", "npt=100-110", "clock=20990101T000000Z-"] {
        let response = session.request("PLAY", &[("Range", range)]);
        assert_eq!(response.status, 457, "{range}: {response:?}");
    }
    // The session is as good as before.
    session.play(&[("Range", "npt=0-")]);
}

#[test]
fn range_that_cannot_be_read_is_refused() {
    let (_server, mut session) = opened(Lower::Tcp);
    for range in ["npt=x-", "npt=--", "parsecs=1-2", "npt"] {
        let response = session.request("PLAY", &[("Range", range)]);
        assert!([400, 457].contains(&response.status), "{range}: {response:?}");
    }
    session.play(&[]);
}

#[test]
fn setup_of_a_whole_presentation_with_two_tracks_is_refused_with_459() {
    // Client rule C31; with one track there is no doubt which is meant: see the next test.
    let (server, mut client) = connected();
    let (base, _) = describe(&mut client, &server.demo_url());
    client.request("SETUP", &base, &[TCP]).expect(459);
}

#[test]
fn setup_of_a_presentation_with_one_track_sets_up_that_track() {
    // Client rule C4: some FFmpeg inputs and NVRs set up the base URL, with or without a slash.
    let served = Served::new(title("aac_m4a"));
    for slash in ["", "/"] {
        let mut client = Client::connect(served.server.rtsp);
        let url = format!("{}{slash}", served.url);
        client.request("SETUP", &url, &[TCP]).expect(200);
    }
}

#[test]
fn play_of_one_track_of_several_is_refused_with_460() {
    // RFC 2326 s11.3.11: "may not be applied on the URL in question since it is not an aggregate".
    let (_server, mut session) = opened(Lower::Tcp);
    let (url, id) = (session.streams[0].url.clone(), session.id.clone());
    session.client.request("PLAY", &url, &[("Session", &id)]).expect(460);
    session.play(&[]);
    session.client.request("PAUSE", &url, &[("Session", &id)]).expect(460);
}

#[test]
fn play_of_the_only_track_of_a_session_is_accepted_by_its_own_url() {
    let server = Server::with_demo();
    let url = server.demo_url();
    let mut session = Session::open_kinds(server.rtsp, &url, Lower::Tcp, &["video"]);
    let (url, id) = (session.streams[0].url.clone(), session.id.clone());
    session.client.request("PLAY", &url, &[("Session", &id)]).expect(200);
    session.client.request("PAUSE", &url, &[("Session", &id)]).expect(200);
    session.client.request("TEARDOWN", &url, &[("Session", &id)]).expect(200);
}

#[test]
fn transport_that_is_not_served_is_refused_with_461() {
    // Client rules C1 and C13: the status that makes players ask for the next transport.
    let (server, mut client) = connected();
    let track = track_url(&server, &mut client);
    for transport in [
        "RTP/AVP;multicast;port=9000-9001",
        "RTP/SAVP;unicast;client_port=40000-40001",
        "RAW/RAW/UDP;unicast;client_port=40000-40001",
        "MP2T/H2221/UDP;unicast;client_port=40000-40001",
    ] {
        let response = client.request("SETUP", &track, &[("Transport", transport)]);
        assert_eq!(response.status, 461, "{transport}: {response:?}");
    }
}

#[test]
fn setup_without_transport_is_refused() {
    let (server, mut client) = connected();
    let track = track_url(&server, &mut client);
    let response = client.request("SETUP", &track, &[]);
    assert!([400, 461].contains(&response.status), "{response:?}");
}

#[test]
fn unknown_method_is_refused_with_501() {
    let (server, mut client) = connected();
    for method in ["FLY", "GET", "PLAY_NOTIFY", "describe"] {
        let response = client.request(method, &server.demo_url(), &[]).expect(501);
        assert!(!response.list("Public").is_empty() || !response.list("Allow").is_empty());
    }
    // And the connection goes on.
    client.request("OPTIONS", "*", &[]).expect(200);
}

#[test]
fn version_2_is_refused_with_505() {
    let (server, mut client) = connected();
    let url = server.demo_url();
    client.send_raw(format!("DESCRIBE {url} RTSP/2.0\r\nCSeq: 1\r\n\r\n"));
    assert_eq!(client.response().status, 505);
    client.send_raw(format!("OPTIONS {url} RTSP/9.9\r\nCSeq: 2\r\n\r\n"));
    assert_eq!(client.response().status, 505);
}

#[test]
fn required_option_that_is_not_known_is_refused_with_551_and_named() {
    // RFC 2326 s12.32; client rule C23: ONVIF clients ask for the back channel like this.
    let tag = "www.onvif.org/ver20/backchannel";
    let (server, mut client) = connected();
    for header in ["Require", "Proxy-Require"] {
        let response = client.request("DESCRIBE", &server.demo_url(), &[(header, tag)]);
        assert_eq!(response.status, 551, "{header}");
        assert_eq!(response.header("Unsupported"), Some(tag), "{header}");
    }
}

#[test]
fn more_sessions_than_configured_are_refused_with_453() {
    let config = "[rtsp]\nsessions_max = 3\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    let mut client = Client::connect(server.rtsp);
    let track = track_url(&server, &mut client);
    // Sessions of one connection: each SETUP without a Session header begins another one.
    let setup = [("Transport", "RTP/AVP/TCP;unicast")];
    let first = client.request("SETUP", &track, &setup).expect(200).session_id();
    for _ in 1..3 {
        client.request("SETUP", &track, &setup).expect(200);
    }
    client.request("SETUP", &track, &setup).expect(453);
    // One that ends makes room for another one.
    client.request("TEARDOWN", &server.demo_url(), &[("Session", &first)]).expect(200);
    client.request("SETUP", &track, &setup).expect(200);
}

#[test]
fn sessions_of_titles_readers_and_publishers_count_together() {
    let config = "[rtsp]\nsessions_max = 3\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    let mut client = Client::connect(server.rtsp);
    let track = track_url(&server, &mut client);
    let setup = [("Transport", "RTP/AVP/TCP;unicast")];
    client.request("SETUP", &track, &setup).expect(200);
    let sdp = "v=0\r\nm=audio 0 RTP/AVP 0\r\na=control:a\r\n";
    let kind = [("Content-Type", "application/sdp")];
    let mut announce =
        |path: &str| client.request_with_body("ANNOUNCE", &server.url(path), &kind, sdp);
    announce("live/a").expect(200);
    announce("live/b").expect(200);
    announce("live/c").expect(453);
    let mut other = Client::connect(server.rtsp);
    other.request("SETUP", &track, &setup).expect(453);
    let reader = server.url("live/a/trackID=0");
    other.request("SETUP", &reader, &setup).expect(453);
}

#[test]
fn address_with_too_many_connections_or_sessions_does_not_exclude_others() {
    let name = "address_with_too_many_connections_or_sessions_does_not_exclude_others";
    in_own_network(module_path!(), name, OTHER_HOSTS, || {
        let config = "[server]\nshards = 2\n[rtsp]\nsessions_per_address_max = 3\n\
            connections_per_address_max = 2\n";
        let listen = "10.77.0.1:0";
        let server = Server::start(&Options { config: Some(config), listen, ..Options::default() });
        let from = |host| Client::connect_from([10, 77, 0, host].into(), server.rtsp);
        let setup = [("Transport", "RTP/AVP/TCP;unicast")];
        let mut greedy = [from(2), from(2)];
        let track = track_url(&server, &mut greedy[0]);
        greedy[0].request("SETUP", &track, &setup).expect(200);
        greedy[0].request("SETUP", &track, &setup).expect(200);
        let last = greedy[1].request("SETUP", &track, &setup).expect(200).session_id();
        greedy[1].request("SETUP", &track, &setup).expect(453);
        assert_eq!(from(2).response().status, 503, "a third connection");
        from(3).request("SETUP", &track, &setup).expect(200);
        let refused = |name| metric(server.admin, name);
        assert_eq!(refused("headend_rtsp_connections_refused_address_total"), Some(1.0));
        assert_eq!(refused("headend_sessions_refused_address_total"), Some(1.0));
        // What ends makes room again.
        greedy[1].request("TEARDOWN", &server.demo_url(), &[("Session", &last)]).expect(200);
        greedy[1].request("SETUP", &track, &setup).expect(200);
    });
}

/// The keys are about other hosts: a proxy of this one speaks for many.
#[test]
fn number_for_an_address_does_not_bind_this_host() {
    let config = "[rtsp]\nsessions_per_address_max = 1\nconnections_per_address_max = 1\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    let mut clients = [(), (), ()].map(|()| Client::connect(server.rtsp));
    let track = track_url(&server, &mut clients[0]);
    for client in &mut clients {
        client.request("SETUP", &track, &[("Transport", "RTP/AVP/TCP;unicast")]).expect(200);
    }
}

#[test]
fn each_refusal_says_why_and_carries_no_stale_headers() {
    let (server, mut client) = connected();
    let response = client.request("DESCRIBE", &server.url("vod/nothing.mp4"), &[]);
    assert_eq!(response.status_line, "RTSP/1.0 404 Not Found");
    assert_eq!(response.header("Session"), None);
    // Client rule C15: these names switch off rate control in VLC.
    let name = response.header("Server").unwrap_or_default();
    assert!(!name.starts_with("Kasenna") && !name.starts_with("WMServer"), "{name}");
}
