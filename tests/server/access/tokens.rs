//! Tokens (JWT): in the query, as a password, as Bearer; expired, not yet valid, of strangers.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::webhook::Receiver;
use crate::support::login::{ask_as, basic, challenges, describe_as};
use crate::support::publish::PICTURES_AND_SOUND;
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};

const SECRET: &[u8] = b"thirty-two bytes of a secret ...";

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(super) fn key_set(id: &str) -> String {
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    json!({ "keys": [{ "kty": "oct", "kid": id, "k": secret }] }).to_string()
}

pub(super) fn signed(id: &str, claims: &Value) -> String {
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(SECRET).unwrap()).unwrap()
}

pub(super) fn claims(action: &str, path: &str) -> Value {
    json!({
        "sub": "ann",
        "exp": now_s() + 600,
        "headend_permissions": [{ "action": action, "path": path }],
    })
}

fn start(jwks: &str) -> Server {
    let config = format!("[auth]\njwks = \"{jwks}\"\n");
    Server::start(&Options { config: Some(&config), ..Options::default() })
}

fn start_with_file(folder: &Path) -> Server {
    let file = folder.join("keys.json");
    std::fs::write(&file, key_set("one")).unwrap();
    start(file.to_str().unwrap())
}

fn status(server: &Server, url: &str, authorization: &str) -> u16 {
    describe_as(&mut Client::connect(server.rtsp), url, authorization).status
}

#[test]
fn token_is_shown_in_the_query_as_a_password_or_as_bearer() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_with_file(folder.path());
    let (url, token) = (server.demo_url(), signed("one", &claims("read", "demo")));
    let refused = describe_as(&mut Client::connect(server.rtsp), &url, "").expect(401);
    assert_eq!(challenges(&refused), ["Basic realm=\"headend\""], "a token is no answer to Digest");
    for name in ["token", "jwt"] {
        let with_token = format!("{url}?{name}={token}");
        let mut client = Client::connect(server.rtsp);
        let described = describe_as(&mut client, &with_token, "").expect(200);
        // Players put the track behind the query.
        let base = described.header("Content-Base").unwrap().to_owned();
        let transport = [("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1")];
        client.request("SETUP", &format!("{base}trackID=0"), &transport).expect(200);
    }
    assert_eq!(status(&server, &url, &basic("anybody", &token)), 200);
    assert_eq!(status(&server, &url, &format!("Bearer {token}")), 200);
    assert!(!server.log().contains(&token));
}

#[test]
fn token_that_is_over_not_yet_valid_or_for_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_with_file(folder.path());
    let url = server.demo_url();
    let with = |name: &str, value: Value| {
        let mut claims = claims("read", "~^demo$");
        claims[name] = value;
        signed("one", &claims)
    };
    for (what, token, expected) in [
        ("right", with("x", json!(1)), 200),
        ("expired", with("exp", json!(now_s() - 3_600)), 401),
        ("without an end", with("exp", Value::Null), 401),
        ("not yet valid", with("nbf", json!(now_s() + 3_600)), 401),
        ("for another path", signed("one", &claims("read", "live/a")), 403),
        ("for another action", signed("one", &claims("publish", "")), 403),
        ("of an unknown key", signed("two", &claims("read", "")), 401),
    ] {
        assert_eq!(status(&server, &format!("{url}?token={token}"), ""), expected, "{what}");
    }
}

#[test]
fn token_lets_its_bearer_publish() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_with_file(folder.path());
    let announce = |action: &str| {
        let token = signed("one", &claims(action, "live/a"));
        let url = format!("{}?token={token}", server.url("live/a"));
        let headers = [("Content-Type", "application/sdp")];
        let mut client = Client::connect(server.rtsp);
        ask_as(&mut client, "ANNOUNCE", &url, (&headers, PICTURES_AND_SOUND), "").status
    };
    assert_eq!(announce("read"), 403);
    assert_eq!(announce("publish"), 200);
}

#[test]
fn keys_come_from_a_url_and_new_ones_are_found_when_a_token_names_them() {
    let keys = Receiver::start(|_| (200, key_set("one")));
    let server = start(&keys.url("/keys"));
    let url = server.demo_url();
    let token = |id: &str| format!("Bearer {}", signed(id, &claims("read", "")));
    assert_eq!(status(&server, &url, &token("one")), 200);
    assert_eq!(status(&server, &url, &token("one")), 200);
    assert_eq!(keys.asked().len(), 1, "they are kept");
    let none = Receiver::start(|_| (404, String::new()));
    let missing = start(&none.url("/keys"));
    assert_eq!(status(&missing, &missing.demo_url(), &token("one")), 503);
    missing.assert_logs("HE-W509");
}
