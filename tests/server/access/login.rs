//! Basic and Digest as raw clients speak them, right and wrong.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::support::http::metric;
use crate::support::login::{ask_as, basic, challenges, describe_as, password, respond, users};
use crate::support::publish::PICTURES_AND_SOUND;
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};

fn start(config: &str) -> Server {
    Server::start(&Options { config: Some(config), ..Options::default() })
}

/// What comes of one login: the answer to a challenge that was asked for first.
fn log_in(client: &mut Client, url: &str, kind: &str, (name, secret): (&str, &str)) -> u16 {
    let refused = describe_as(client, url, "").expect(401);
    let challenge = challenges(&refused).into_iter().find(|challenge| challenge.contains(kind));
    let challenge = challenge.unwrap_or_else(|| panic!("no {kind} in {refused:?}"));
    let answer = respond(challenge, (name, secret), ("DESCRIBE", url));
    describe_as(client, url, &answer).status
}

#[test]
fn each_kind_of_login_is_let_in_and_nobody_else() {
    let server = start(&users(&["ann", "bob"], true));
    let url = server.demo_url();
    for kind in 0..3 {
        let mut client = Client::connect(server.rtsp);
        let refused = describe_as(&mut client, &url, "").expect(401);
        let offered = challenges(&refused);
        assert_eq!(offered.len(), 3, "{offered:?}");
        assert!(offered[0].ends_with("algorithm=SHA-256"), "{offered:?}");
        assert!(offered[1].starts_with("Digest") && !offered[1].contains("algorithm"));
        assert_eq!(offered[2], "Basic realm=\"headend\"");
        let answer =
            |name: &str, secret: &str| respond(offered[kind], (name, secret), ("DESCRIBE", &url));
        describe_as(&mut client, &url, &answer("ann", &password("ann"))).expect(200);
        describe_as(&mut client, &url, &answer("bob", &password("bob"))).expect(200);
        describe_as(&mut client, &url, &answer("ann", &password("bob"))).expect(401);
        describe_as(&mut client, &url, &answer("eve", "")).expect(401);
        // What was shown before counts for no request without it.
        describe_as(&mut client, &url, "").expect(401);
        client.request("SETUP", &format!("{url}/trackID=0"), &[]).expect(401);
        client.request("OPTIONS", &url, &[]).expect(200);
    }
    assert_eq!(metric(server.admin, "headend_logins_failed_total"), Some(6.0));
    assert!(!server.log().contains("secret"), "{}", server.log());
}

#[test]
fn basic_alone_is_offered_where_a_user_cannot_answer_digest() {
    let config = users(&["ann"], true) + &users(&["bob"], false);
    let server = start(&config);
    let mut client = Client::connect(server.rtsp);
    let refused = describe_as(&mut client, &server.demo_url(), "").expect(401);
    assert_eq!(challenges(&refused), ["Basic realm=\"headend\""]);
    for name in ["ann", "bob"] {
        assert_eq!(log_in(&mut client, &server.demo_url(), "Basic", (name, &password(name))), 200);
    }
    assert!(server.banner.contains("HE-W114"), "{}", server.banner);
    let only = users(&["ann"], true) + "[auth]\nmethods = \"digest\"\n";
    let server = start(&only);
    let refused = describe_as(&mut Client::connect(server.rtsp), &server.demo_url(), "");
    assert!(challenges(&refused.expect(401)).iter().all(|offered| offered.starts_with("Digest")));
}

#[test]
fn nonce_of_another_connection_is_stale_and_answer_for_another_url_is_refused() {
    let server = start(&users(&["ann"], true));
    let url = server.demo_url();
    let (mut first, mut second) = (Client::connect(server.rtsp), Client::connect(server.rtsp));
    let refused = describe_as(&mut first, &url, "").expect(401);
    let (name, secret) = ("ann", password("ann"));
    let ann = (name, secret.as_str());
    for challenge in challenges(&refused).into_iter().filter(|c| c.starts_with("Digest")) {
        let overheard = respond(challenge, ann, ("DESCRIBE", &url));
        describe_as(&mut first, &url, &overheard).expect(200);
        let stale = describe_as(&mut second, &url, &overheard).expect(401);
        let fresh = challenges(&stale);
        assert!(fresh[0].contains("stale=true") && fresh[1].contains("stale=true"), "{fresh:?}");
        let again = respond(fresh[1], ann, ("DESCRIBE", &url));
        describe_as(&mut second, &url, &again).expect(200);
        let elsewhere = respond(challenge, ann, ("DESCRIBE", "rtsp://h/other"));
        describe_as(&mut first, &url, &elsewhere).expect(401);
        let method = respond(challenge, ann, ("OPTIONS", &url));
        describe_as(&mut first, &url, &method).expect(401);
    }
    assert_eq!(metric(server.admin, "headend_logins_failed_total"), Some(2.0), "of the method");
}

#[test]
fn user_publishes_and_others_are_refused_before_a_byte_of_their_description_is_read() {
    let config = users(&["ann", "bob"], true) + "[path.\"live/a\"]\npublish = [\"user:ann\"]\n";
    let server = start(&config);
    let url = server.url("live/a");
    let headers = [("Content-Type", "application/sdp")];
    let mut client = Client::connect(server.rtsp);
    let mut announce = |authorization: &str, sdp: &str| {
        ask_as(&mut client, "ANNOUNCE", &url, (&headers, sdp), authorization)
    };
    let refused = announce("", "no description").expect(401);
    let offered = challenges(&refused)[1].to_owned();
    let answer = |name: &str| respond(&offered, (name, &password(name)), ("ANNOUNCE", &url));
    announce(&answer("bob"), "no description").expect(403);
    announce(&answer("ann"), "no description").expect(400);
    announce(&answer("ann"), PICTURES_AND_SOUND).expect(200);
    // What was announced is set up as part of it.
    let transport = [("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record")];
    client.request("SETUP", &format!("{url}/streamid=0"), &transport).expect(200);
    server.assert_logs("HE-W504");
}

#[test]
fn failed_logins_slow_their_address_down_and_no_other() {
    let server = start(&users(&["ann"], true));
    let url = server.demo_url();
    let (wrong, right) = (basic("ann", "guess"), basic("ann", &password("ann")));
    let mut guesser = Client::connect(server.rtsp);
    for _ in 0..6 {
        describe_as(&mut guesser, &url, &wrong).expect(401);
    }
    let since = Instant::now();
    describe_as(&mut Client::connect(server.rtsp), &url, &right).expect(200);
    let slowed = since.elapsed();
    assert!(slowed >= Duration::from_millis(800), "{slowed:?}, on another connection as well");
    let other = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    let since = Instant::now();
    describe_as(&mut Client::connect_from(other, server.rtsp), &url, &right).expect(200);
    assert!(since.elapsed() < Duration::from_millis(800), "{:?}", since.elapsed());
    // A login that is not looked at holds up nobody: requests without one are answered.
    let mut client = Client::connect(server.rtsp);
    client.request("OPTIONS", &url, &[]).expect(200);
    assert!(metric(server.admin, "headend_logins_slowed_total").unwrap() >= 1.0);
    server.assert_logs("HE-W506");
}

#[test]
fn many_guesses_at_once_are_refused_and_the_server_answers_others() {
    let server = start(&users(&["ann"], false));
    let url = server.demo_url();
    let wrong = basic("eve", "guess");
    let mut first = Client::connect(server.rtsp);
    for _ in 0..9 {
        // The last of them wait for seconds; who waits is not looked at.
        let text = first.format("DESCRIBE", &url, &[("Authorization", &wrong)], "");
        first.send_raw(text);
    }
    let mut others: Vec<Client> = (0..40).map(|_| Client::connect(server.rtsp)).collect();
    for other in &mut others {
        let text = other.format("DESCRIBE", &url, &[("Authorization", &wrong)], "");
        other.send_raw(text);
    }
    let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    let mut client = Client::connect_from(from, server.rtsp);
    let right = basic("ann", &password("ann"));
    describe_as(&mut client, &url, &right).expect(200);
}

#[test]
fn reading_the_file_again_changes_users_at_once() {
    let server = start(&users(&["ann"], false));
    let url = server.demo_url();
    let mut client = Client::connect(server.rtsp);
    let ann = basic("ann", &password("ann"));
    describe_as(&mut client, &url, &ann).expect(200);
    server.write_config(&users(&["bob"], false));
    let (status, report) = crate::support::http::post(server.admin, "/v1/config:reload");
    assert_eq!(status, 200, "{report}");
    assert!(report.contains("\"access_changed\":true"), "{report}");
    assert!(report.contains("\"needs_restart\":[]"), "{report}");
    describe_as(&mut client, &url, &ann).expect(401);
    describe_as(&mut client, &url, &basic("bob", &password("bob"))).expect(200);
    server.write_config("");
    crate::support::http::post(server.admin, "/v1/config:reload");
    describe_as(&mut client, &url, "").expect(200);
}

#[test]
fn credentials_that_cannot_be_read_are_refused_and_the_connection_goes_on() {
    let server = start(&users(&["ann"], true));
    let mut client = Client::connect(server.rtsp);
    let long = format!("Basic {}", "x".repeat(3_000));
    for text in ["Basic", "Basic !", "Bearer", "Negotiate abc", "Digest username=\"a\"", &long] {
        describe_as(&mut client, &server.demo_url(), text).expect(401);
    }
    describe_as(&mut client, &server.demo_url(), &basic("ann", &password("ann"))).expect(200);
    let left = metric(server.admin, "headend_logins_failed_total");
    assert!(left.unwrap() <= 1.0, "what cannot be read is no guess: {left:?}");
}
