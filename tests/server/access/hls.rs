//! Who may watch by HLS: tokens, which playlists hand on, and webhooks.

use serde_json::{Value, json};

use super::tokens::{claims, key_set, now_s, signed};
use super::webhook::{Receiver, knows_ann};
use crate::support::hls::{Answer, ask, check, get};
use crate::support::login::basic;
use crate::support::server::{Options, Server};

fn start(config: &str) -> Server {
    let options = Options { hls: "127.0.0.1:0", ..Options::USUAL };
    Server::start(&Options { config: Some(config), ..options })
}

fn with(server: &Server, path: &str, authorization: &str) -> Answer {
    ask(server.hls(), "GET", path, &format!("Authorization: {authorization}\r\n"))
}

#[test]
fn token_of_the_query_is_handed_on_to_everything_that_a_playlist_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, key_set("one")).unwrap();
    let server = start(&format!("[auth]\njwks = \"{}\"\n", file.display()));
    let hls = server.hls();
    let token = signed("one", &claims("read", "demo"));
    let suffix = format!("?token={token}");
    assert_eq!(get(hls, "/demo/index.m3u8").status, 401);
    let multivariant = get(hls, &format!("/demo/index.m3u8{suffix}"));
    assert_eq!(
        (multivariant.status, multivariant.header("cache-control")),
        (200, "private, max-age=5")
    );
    assert!(
        multivariant.text().ends_with(&format!("main.m3u8{suffix}\n")),
        "{}",
        multivariant.text()
    );
    let list = check(get(hls, &format!("/demo/main.m3u8{suffix}")).text());
    for uri in [&list.segments[0].map, &list.segments[0].uri, &list.segments[1].uri] {
        assert!(uri.ends_with(&suffix), "{uri}");
        assert_eq!(get(hls, &format!("/demo/{uri}")).status, 200, "{uri}");
        let bare = uri.trim_end_matches(&suffix);
        assert_eq!(get(hls, &format!("/demo/{bare}")).status, 401, "{bare}");
    }
    assert_eq!(with(&server, "/demo/index.m3u8", &format!("Bearer {token}")).status, 200);
    assert_eq!(with(&server, "/demo/index.m3u8", &basic("anybody", &token)).status, 200);
    let expired = json!({ "sub": "ann", "exp": now_s() - 3_600 });
    for (what, token, status) in [
        ("expired", signed("one", &expired), 401),
        ("for another path", signed("one", &claims("read", "live/a")), 403),
        ("of an unknown key", signed("two", &claims("read", "")), 401),
        ("too long", "x".repeat(3_000), 400),
    ] {
        assert_eq!(get(hls, &format!("/demo/index.m3u8?token={token}")).status, status, "{what}");
    }
    assert!(!server.log().contains(&token), "no token in the log");
}

#[test]
fn webhook_decides_who_watches_and_is_told_that_it_is_by_hls() {
    let receiver = Receiver::start(knows_ann);
    let server = start(&format!("[auth]\non_read = \"{}\"\n", receiver.url("/hook")));
    let path = "/demo/index.m3u8?x=1";
    assert_eq!(get(server.hls(), path).status, 401, "it is to say who it is");
    assert_eq!(with(&server, path, &basic("eve", "right")).status, 403);
    for _ in 0..3 {
        assert_eq!(with(&server, path, &basic("ann", "right")).status, 200);
    }
    let asked = receiver.asked();
    assert_eq!(asked.len(), 3, "the same question is asked once: {asked:?}");
    let last: Value = serde_json::from_str(&asked[2]).unwrap();
    for (name, value) in [
        ("action", "read"),
        ("path", "demo"),
        ("ip", "127.0.0.1"),
        ("protocol", "hls"),
        ("user", "ann"),
        ("query", "x=1"),
    ] {
        assert_eq!(last[name], value, "{name}");
    }
    assert!(!server.log().contains("right"), "no password in the log");
}
