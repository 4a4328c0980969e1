//! Rules of paths: by user, network and pattern; reading, publishing, control.

use std::net::{IpAddr, Ipv4Addr};

use crate::support::demo_clip;
use crate::support::login::{ask_as, basic, describe_as, password, users};
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};

fn as_user(name: &str) -> String {
    basic(name, &password(name))
}

fn connect(host: u8, server: &Server) -> Client {
    Client::connect_from(IpAddr::from(Ipv4Addr::new(127, 0, 0, host)), server.rtsp)
}

#[test]
fn paths_are_read_by_whom_their_section_names_from_where_it_says() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secret")).unwrap();
    for name in ["open.mp4", "secret/film.mp4"] {
        std::fs::copy(demo_clip(), folder.path().join(name)).unwrap();
    }
    let config = users(&["ann", "bob"], false)
        + "[path.\"~^vod/secret/\"]\nread = [\"user:ann\"]\n\
           [path.demo]\nread = [\"user:ann@127.0.0.2/32\"]\n\
           [path.\"vod/open.mp4\"]\nread = [\"any\"]\n";
    let server = Server::start(&Options {
        folder: Some(folder.path()),
        config: Some(&config),
        ..Options::default()
    });
    let (secret, open, demo) =
        (server.vod_url("secret/film.mp4"), server.vod_url("open.mp4"), server.demo_url());
    let status = |host: u8, url: &str, authorization: &str| {
        describe_as(&mut connect(host, &server), url, authorization).status
    };
    for (host, url, user, expected) in [
        (1, &open, "", 200),
        (1, &secret, "", 401),
        (1, &secret, "bob", 403),
        (1, &secret, "ann", 200),
        (1, &demo, "", 403),
        (1, &demo, "ann", 403),
        (2, &demo, "", 401),
        (2, &demo, "bob", 403),
        (2, &demo, "ann", 200),
    ] {
        let authorization = if user.is_empty() { String::new() } else { as_user(user) };
        assert_eq!(status(host, url, &authorization), expected, "{url} from {host} as {user}");
    }
    // The same file by other spellings of its name.
    for spelling in [
        "vod//secret/film.mp4",
        "vod/secret//film.mp4/",
        "/vod/./secret/film.mp4",
        "vod/x/../secret/film.mp4",
    ] {
        let answer = status(1, &server.url(spelling), "");
        assert!([400, 401, 404].contains(&answer), "{spelling}: {answer}");
    }
    // A title that is not there is not told apart from one that may not be seen.
    assert_eq!(status(1, &server.vod_url("secret/none.mp4"), ""), 401);
}

#[test]
fn without_users_everything_is_as_open_as_it_was() {
    let server = Server::with_demo();
    describe_as(&mut connect(2, &server), &server.demo_url(), "").expect(200);
    // Credentials that nobody asks for are not looked at.
    describe_as(&mut connect(2, &server), &server.demo_url(), "Basic !").expect(200);
}

#[test]
fn session_is_steered_by_whom_the_list_of_its_path_names() {
    let config =
        users(&["ann", "bob"], false) + "[path.demo]\nread = [\"any\"]\ncontrol = [\"user:ann\"]\n";
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[("Range", "npt=0.000-"), ("Scale", "1.0")]);
    session.receive_packets(10, std::time::Duration::from_secs(20));
    let (id, base) = (session.id.clone(), session.base.clone());
    let mut ask = |method: &str, url: &str, headers: &[(&str, &str)], user: &str| {
        let mut all = vec![("Session", id.as_str())];
        all.extend_from_slice(headers);
        let authorization = if user.is_empty() { String::new() } else { as_user(user) };
        ask_as(&mut session.client, method, url, (&all, ""), &authorization).status
    };
    assert_eq!(ask("PAUSE", &base, &[], ""), 401);
    assert_eq!(ask("PAUSE", &base, &[], "bob"), 403);
    assert_eq!(ask("PAUSE", "*", &[], ""), 403, "whatever URL it names");
    assert_eq!(ask("PLAY", &base, &[("Range", "npt=2-")], ""), 401);
    assert_eq!(ask("PLAY", &base, &[("Scale", "2")], ""), 401);
    assert_eq!(ask("GET_PARAMETER", &base, &[], ""), 200);
    assert_eq!(ask("PAUSE", &base, &[], "ann"), 200);
    assert_eq!(ask("PLAY", &base, &[], ""), 200, "it goes on");
    assert_eq!(ask("PLAY", &base, &[("Range", "npt=2-")], "ann"), 200);
    assert_eq!(ask("TEARDOWN", &base, &[], ""), 200);
}

#[test]
fn channels_of_a_lineup_are_as_open_as_the_lineup() {
    let config = users(&["ann"], false)
        + "[path.tv]\nlineup = { 1 = \"demo\" }\nread = [\"users\"]\n[path.demo]\nread = []\n";
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    let mut client = Client::connect(server.rtsp);
    describe_as(&mut client, &server.url("tv"), "").expect(401);
    describe_as(&mut client, &server.url("tv~1"), "").expect(401);
    describe_as(&mut client, &server.demo_url(), &as_user("ann")).expect(403);
    describe_as(&mut client, &server.url("tv"), &as_user("ann")).expect(200);
}
