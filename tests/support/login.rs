//! Users of a server, and answers to its challenges.

use http_auth::{PasswordClient, PasswordParams};

use super::rtsp::{Client, Response};
use headend::access::password::hash;

/// Sections of `[user]`: each has the password `NAME-secret`.
pub(crate) fn users(names: &[&str], has_digest: bool) -> String {
    names.iter().map(|name| user(name, has_digest)).collect()
}

fn user(name: &str, has_digest: bool) -> String {
    let hashes = hash(name, &password(name), [7; 16]).unwrap();
    let digest = format!(
        "digest_md5 = \"{}\"\ndigest_sha256 = \"{}\"\n",
        hashes.digest_md5, hashes.digest_sha256
    );
    let digest = if has_digest { digest } else { String::new() };
    format!("[user.\"{name}\"]\npassword = \"{}\"\n{digest}", hashes.password)
}

/// The password of a user.
pub(crate) fn password(name: &str) -> String {
    format!("{name}-secret")
}

/// `Authorization` by Basic.
pub(crate) fn basic(name: &str, password: &str) -> String {
    let challenge = "Basic realm=\"headend\"";
    respond(challenge, (name, password), ("GET", "/"))
}

/// The answer of a client to one challenge.
pub(crate) fn respond(
    challenge: &str,
    (username, password): (&str, &str),
    (method, uri): (&str, &str),
) -> String {
    let mut client = PasswordClient::try_from(challenge).unwrap();
    client.respond(&PasswordParams { username, password, uri, method, body: None }).unwrap()
}

/// The challenges of a 401, in their order.
pub(crate) fn challenges(response: &Response) -> Vec<&str> {
    let headers = response.headers.iter();
    let found = headers.filter(|(name, _)| name.eq_ignore_ascii_case("WWW-Authenticate"));
    found.map(|(_, value)| value.as_str()).collect()
}

/// A DESCRIBE with `Authorization`, where that is not empty.
pub(crate) fn describe_as(client: &mut Client, url: &str, authorization: &str) -> Response {
    ask_as(client, "DESCRIBE", url, (&[], ""), authorization)
}

/// Any request with `Authorization`, where that is not empty.
pub(crate) fn ask_as(
    client: &mut Client,
    method: &str,
    url: &str,
    (headers, body): (&[(&str, &str)], &str),
    authorization: &str,
) -> Response {
    let mut all = headers.to_vec();
    if !authorization.is_empty() {
        all.push(("Authorization", authorization));
    }
    client.request_with_body(method, url, &all, body)
}
