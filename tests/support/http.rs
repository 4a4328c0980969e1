//! The admin port, asked as curl would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::wait::PATIENCE;

/// Status and body of `GET path`.
pub(crate) fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    ask(admin, "GET", path, "", "")
}

/// Status and body of `GET path` with header lines that end with CRLF.
pub(crate) fn get_with(admin: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    ask(admin, "GET", path, headers, "")
}

/// Status and body of `POST path` without a body.
pub(crate) fn post(admin: SocketAddr, path: &str) -> (u16, String) {
    ask(admin, "POST", path, "", "")
}

/// Status and body of `POST path` with JSON as text.
pub(crate) fn post_text(admin: SocketAddr, path: &str, json: &str) -> (u16, String) {
    ask(admin, "POST", path, "", json)
}

/// Status and JSON of `POST path` with a body, and with header lines that end with CRLF.
pub(crate) fn post_json(
    admin: SocketAddr,
    path: &str,
    headers: &str,
    body: &serde_json::Value,
) -> (u16, serde_json::Value) {
    let (status, answer) = ask(admin, "POST", path, headers, &body.to_string());
    (status, serde_json::from_str(&answer).unwrap_or_else(|_| panic!("POST {path}: {answer}")))
}

fn ask(admin: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let headers =
        format!("Host: {admin}\r\n{headers}Connection: close\r\nContent-Length: {length}");
    write!(stream, "{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n{body}").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let text = String::from_utf8(all).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { dechunk(body) } else { body.to_owned() })
}

/// Whether somebody answers there.
pub(crate) fn is_up(admin: SocketAddr) -> bool {
    TcpStream::connect(admin).is_ok()
}

/// Body of `GET path` as JSON.
pub(crate) fn get_json(admin: SocketAddr, path: &str) -> serde_json::Value {
    let (status, body) = get(admin, path);
    assert_eq!(status, 200, "GET {path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {path}: {error}: {body}"))
}

/// The sessions of `GET /v1/sessions`, as an array or inside one named `sessions` or `items`.
pub(crate) fn sessions(admin: SocketAddr) -> Vec<serde_json::Value> {
    list(get_json(admin, "/v1/sessions"))
}

/// The same of those who play.
pub(crate) fn readers(admin: SocketAddr) -> Vec<serde_json::Value> {
    list(get_json(admin, "/v1/sessions?role=reader"))
}

/// The array in `value`, which is one itself or has one as its only array field.
pub(crate) fn list(value: serde_json::Value) -> Vec<serde_json::Value> {
    match value {
        serde_json::Value::Array(items) => items,
        serde_json::Value::Object(fields) => fields
            .into_iter()
            .find_map(|(_, field)| match field {
                serde_json::Value::Array(items) => Some(items),
                _ => None,
            })
            .expect("an array in the answer"),
        other => panic!("no list: {other}"),
    }
}

/// Sum of all samples of the metric `name`, whatever their labels; `None` when there is none.
pub(crate) fn metric(admin: SocketAddr, name: &str) -> Option<f64> {
    let (status, body) = get(admin, "/metrics");
    assert_eq!(status, 200);
    let values: Vec<f64> = body
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

fn dechunk(body: &str) -> String {
    let (mut rest, mut out) = (body, String::new());
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let bytes = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if bytes == 0 || tail.len() < bytes {
            break;
        }
        out.push_str(&tail[..bytes]);
        rest = tail[bytes..].trim_start_matches("\r\n");
    }
    out
}
