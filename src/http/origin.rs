//! Who may ask the API: programs, and pages that this server itself has sent.
//!
//! The API has no password, and a browser near it asks whatever any page tells it to. Two checks
//! keep pages of others out, for every method and every resource:
//! - `Host` must be a name that no stranger can have in the DNS: an address, `localhost`, a name
//!   without a dot, or the name of this machine. A page whose own name is led to this address
//!   (DNS rebinding) sends its own name there.
//! - `Origin`, where there is one, must be `http://` and that host.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// Goes in front of all routes.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    match check_headers(named, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// `named` is the authority of a request line that has one.
fn check_headers(named: Option<&[u8]>, headers: &HeaderMap) -> Result<(), Problem> {
    let hosts = headers.get_all(header::HOST).into_iter().map(HeaderValue::as_bytes);
    // Without any it is HTTP/1.0, which browsers do not speak.
    if !hosts.chain(named).all(is_ours) {
        return Err(Problem::forbidden(
            "Host must be an IP address, localhost or the name of this machine",
        ));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    if host.is_some() && origin.as_bytes().strip_prefix(b"http://") == host {
        return Ok(());
    }
    Err(Problem::forbidden("a page of another origin may not ask this"))
}

fn is_ours(host: &[u8]) -> bool {
    let text = std::str::from_utf8(host).ok().filter(|text| !text.contains('@'));
    let Some(authority) = text.and_then(|text| text.parse::<Authority>().ok()) else {
        return false;
    };
    let host = authority.host();
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address = address.split_once('%').map_or(address, |(address, _scope)| address);
        return address.parse::<IpAddr>().is_ok();
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_name_of_machine = || {
        let machine = rustix::system::uname();
        machine.nodename().to_str().is_ok_and(|name| host.eq_ignore_ascii_case(name))
    };
    // A name of one label is one of the local network: the DNS of the world gives none away.
    host.parse::<IpAddr>().is_ok()
        || (!host.is_empty() && !host.contains('.'))
        || host.ends_with(".localhost")
        || is_name_of_machine()
}
