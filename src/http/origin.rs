//! Pages of others are kept out of the API, for every method and every resource.
//!
//! A browser near the API asks whatever any page tells it to, and this machine needs no token. So:
//! - `Host` must be a name that no stranger can have in the DNS: an address, `localhost`, a name
//!   without a dot, or the name of this machine. A page whose own name is led to this address
//!   (DNS rebinding) sends its own name there. A request with a token may name any host.
//! - `Origin`, where there is one, must name that host and port, by either scheme: a proxy speaks
//!   TLS with browsers and HTTP with this server, and passes `Host` on.
//! - `Sec-Fetch-Site`, where there is one, must not be another site's, but for a page that is
//!   opened by a link: nobody else can read it.
//!
//! No answer has a header of CORS, so no page of others reads one.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};

use super::problem::Problem;

/// Whether a page of this server asks, or no page at all.
pub(super) fn check_page(headers: &HeaderMap, method: &Method) -> Result<(), Problem> {
    let refused = || Problem::forbidden("a page of another origin may not ask this");
    let fetch = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let is_link = [Method::GET, Method::HEAD].contains(method)
        && fetch("sec-fetch-mode") == Some(b"navigate")
        && fetch("sec-fetch-dest") == Some(b"document");
    match fetch("sec-fetch-site") {
        None | Some(b"none" | b"same-origin") => {}
        Some(_) if is_link => {}
        Some(_) => return Err(refused()),
    }
    if is_own(headers) { Ok(()) } else { Err(refused()) }
}

/// Whether `Origin`, where there is one, is that of a page of this server.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let (Ok(origin), Some(Ok(host))) =
        (origin.to_str(), headers.get(header::HOST).map(HeaderValue::to_str))
    else {
        return false;
    };
    SCHEMES.iter().any(|(scheme, port)| {
        let named = origin.strip_prefix(scheme).and_then(|named| place(named, *port));
        named.is_some_and(|named| place(host, *port) == Some(named))
    })
}

/// Host and port, which is `port` where none is named.
fn place(text: &str, port: u16) -> Option<(String, u16)> {
    let authority: Authority = text.parse().ok().filter(|_| !text.contains('@'))?;
    Some((authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(port)))
}

/// Schemes of pages, and their ports.
const SCHEMES: [(&str, u16); 2] = [("http://", 80), ("https://", 443)];

/// Whether the server is asked by a name that nobody else can have.
pub(super) fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    // The authority of a request line that has one.
    let named = uri.authority().map(|authority| authority.as_str().as_bytes());
    let hosts = headers.get_all(header::HOST).into_iter().map(HeaderValue::as_bytes);
    // Without any it is HTTP/1.0, which browsers do not speak.
    if hosts.chain(named).all(is_ours) {
        return Ok(());
    }
    Err(Problem::forbidden("Host must be an IP address, localhost or the name of this machine"))
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
