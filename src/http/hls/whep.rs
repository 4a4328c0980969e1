//! WHEP over HTTP (draft-ietf-wish-whep s4; RFC 9725 s4 for what it shares with WHIP).
//!
//! ```text
//! POST   /<path>/whep        offer  -> 201, answer, Location     leave as for HLS and RTSP
//! DELETE /<path>/whep/<id>          -> 200
//! PATCH  /<path>/whep/<id>          -> 405: ICE needs no candidates of the browser
//! ```
//! The id is a secret of 128 bits, so who knows it may end the session, as RFC 9725 s5 wants it,
//! also when the token with which it began has expired.
//!
//! Bounds: `OFFER_BYTES_MAX` of an offer, within `OFFER_MAX`; `START_MAX` for a path to begin.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::view::{LiveRefusal, OfferAsked, Reached, WhepRefusal};
use super::{Asked, Hls, HlsConfig, Problem, Remote, check_host, suffix_of};
use crate::base::names::{Name, without_empty_segments};
use crate::hls::resource::Resource;
use crate::http::origin::is_own;
use crate::live::core::message::RefusedError;
use crate::whep::{OfferError, Opened};

/// What a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Where sessions of a path begin.
    Endpoint { path: String },
    /// A session.
    Session { path: String, id: String },
}

impl Target {
    /// Reads the decoded path of a URL; `None`: it is none of WHEP.
    pub(super) fn read(decoded: &str) -> Option<Self> {
        let (folder, name) = decoded.rsplit_once('/')?;
        if name == "whep" {
            let path = without_empty_segments(folder);
            return (!path.is_empty()).then_some(Self::Endpoint { path });
        }
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let is_id = name.len() == ID_DIGITS && name.bytes().all(is_hex);
        match folder.strip_suffix("/whep").map(without_empty_segments) {
            Some(path) if is_id && !path.is_empty() => {
                Some(Self::Session { path, id: name.to_owned() })
            }
            _ => None,
        }
    }

    fn allow(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } => "POST, OPTIONS",
            Self::Session { .. } => "DELETE, OPTIONS",
        }
    }

    /// The answer to OPTIONS.
    pub(super) fn preflight(&self) -> Response {
        let headers = [
            (header::ALLOW, self.allow()),
            (header::ACCESS_CONTROL_ALLOW_METHODS, self.allow()),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type"),
            (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        ];
        let accept_post = [("Accept-Post", SDP)];
        (StatusCode::NO_CONTENT, headers, accept_post).into_response()
    }
}

/// A request, whose body has not been read.
pub(super) struct Request<'a> {
    pub(super) remote: &'a Remote,
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Body,
}

/// Answers a request for `target`.
pub(super) async fn answer(
    hls: &Hls,
    target: &Target,
    request: Request<'_>,
) -> Result<Response, Problem> {
    check_host(&hls.config, request.uri, request.headers)?;
    check_origin(&hls.config, request.headers)?;
    match (target, request.method) {
        (Target::Endpoint { path }, &Method::POST) => open(hls, path, request).await,
        (Target::Session { path, id }, &Method::DELETE) => {
            let ended = timeout(OFFER_MAX, hls.view.end_session(path, id)).await;
            match ended {
                Ok(Ok(true)) => Ok(StatusCode::OK.into_response()),
                Ok(Ok(false)) => Err(Problem::not_found("there is no such session: it has ended")),
                _ => Err(Problem::unavailable("the session does not answer")),
            }
        }
        (Target::Session { .. }, &Method::PATCH) => {
            let detail = "candidates are not taken one by one: the server finds the address of a \
                          viewer by its first datagram";
            Ok(not_allowed(target, detail))
        }
        _ => Ok(not_allowed(target, "POST an offer to PATH/whep, DELETE what Location names")),
    }
}

async fn open(hls: &Hls, path: &str, request: Request<'_>) -> Result<Response, Problem> {
    let Request { remote, uri, headers, body, .. } = request;
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = named.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case(SDP) {
        let detail = format!("an offer of WHEP is of type {SDP}, not `{media_type}`");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let (resource, query, suffix) = (Resource::Page, uri.query(), suffix_of(uri.query())?);
    if let Some(mut answer) = hls.turn_away(&resource, uri)? {
        // The method stays (RFC 9725 s4.5).
        *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        return Ok(answer);
    }
    let asked = Asked { path, resource, query, headers, is_head: false, suffix };
    let ip = remote.addr.ip();
    let permit = hls.leaves.ask(&*hls.view, &asked, ip).await?.permit;
    let Name::Live(path) = Name::parse(path) else {
        let detail = format!("`{path}` is no live path; WHEP plays live paths, HLS titles too");
        return Err(Problem::not_found(detail));
    };
    let sdp = read(body).await?;
    let reached = reached(ip, remote.local.unwrap_or(ip), headers);
    let path = path.to_owned();
    let offer = OfferAsked { path: path.clone(), sdp, from: ip.to_canonical(), reached, permit };
    let answered = timeout(START_MAX, hls.view.offer(offer)).await;
    let late = || Problem::unavailable("the live path does not answer");
    let opened = answered.map_err(|_| late())?.map_err(|_| late())?;
    let opened = opened.map_err(|refusal| refused(&path, &refusal))?;
    created(uri, opened)
}

/// A proxy says that it is one (RFC 7239 s4, RFC 9110 s7.6.3). One elsewhere has reached this
/// machine at an address that browsers may reach as well; loopback is of no use to them.
fn reached(from: IpAddr, local: IpAddr, headers: &HeaderMap) -> Reached {
    let is_sent_on = SENT_ON.iter().any(|name| headers.contains_key(*name));
    if is_sent_on && from.to_canonical().is_loopback() {
        Reached::ByProxy
    } else {
        Reached::At(local)
    }
}

async fn read(body: Body) -> Result<String, Problem> {
    let too_long = || {
        let detail = format!("an offer has {OFFER_BYTES_MAX} bytes at most");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let read = timeout(OFFER_MAX, to_bytes(body, OFFER_BYTES_MAX)).await;
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the offer did not come in time");
    let bytes = read.map_err(late)?.map_err(|_| too_long())?;
    String::from_utf8(bytes.into()).map_err(|_| Problem::bad_request("the offer is not UTF-8"))
}

/// The session, below the URL by which it was opened: one slash in front, or another host is meant.
fn created(uri: &Uri, opened: Opened) -> Result<Response, Problem> {
    let location = format!("/{}/{}", uri.path().trim_matches('/'), opened.id);
    let location = HeaderValue::from_str(&location)
        .map_err(|_| Problem::bad_request("the path cannot be a header"))?;
    let headers = [(header::CONTENT_TYPE, SDP), (header::CACHE_CONTROL, "no-store")];
    let mut response = (StatusCode::CREATED, headers, opened.answer).into_response();
    response.headers_mut().insert(header::LOCATION, location);
    if let Some(Ok(codec)) = opened.left_out.map(|codec| HeaderValue::from_str(&codec)) {
        response.headers_mut().insert(LEFT_OUT, codec);
    }
    Ok(response)
}

fn refused(path: &str, refusal: &WhepRefusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        WhepRefusal::Live(LiveRefusal::Refused(RefusedError::NoSource)) => {
            Problem::not_found(format!("nothing is at `{path}`: {detail}"))
        }
        WhepRefusal::Offer(OfferError::NoPath) | WhepRefusal::Off => Problem::not_found(detail),
        WhepRefusal::Live(LiveRefusal::Refused(_) | LiveRefusal::TooMany { .. }) => {
            Problem::unavailable(detail)
        }
        WhepRefusal::Offer(OfferError::Crowded | OfferError::TooOften) => {
            Problem::unavailable_for(detail, CROWDED)
        }
        WhepRefusal::Offer(
            OfferError::TooMany { .. } | OfferError::AddressFull | OfferError::NoCandidate,
        ) => Problem::unavailable_for(detail, FULL),
        WhepRefusal::Live(LiveRefusal::NotShown(_) | LiveRefusal::Lineup)
        | WhepRefusal::Offer(OfferError::NotSent(_)) => {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        }
        WhepRefusal::Offer(OfferError::NoCodec(_)) => {
            Problem::new(StatusCode::NOT_ACCEPTABLE, detail)
        }
        WhepRefusal::Offer(OfferError::Syntax(_) | OfferError::Refused(_)) => {
            Problem::bad_request(detail)
        }
    }
}

/// A page of another origin opens no session here, unless `hls.allow_origin` names it: a session
/// costs more than the answer, which it could not read anyway.
fn check_origin(config: &HlsConfig, headers: &HeaderMap) -> Result<(), Problem> {
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let is_allowed = |known: &String| known == "*" || Some(known.as_bytes()) == origin;
    if is_own(headers) || config.allow_origin.iter().any(is_allowed) {
        return Ok(());
    }
    Err(Problem::forbidden("a page of another origin may not ask this; see hls.allow_origin"))
}

fn not_allowed(target: &Target, detail: &str) -> Response {
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(target.allow()));
    response
}

/// Headers of requests that a proxy has sent on.
const SENT_ON: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
/// Type of offers and answers.
const SDP: &str = "application/sdp";
/// Names the codec of sound that is not sent.
const LEFT_OUT: &str = "headend-left-out";
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;
/// Bytes of an offer: those of browsers have eight thousand.
const OFFER_BYTES_MAX: usize = 32 << 10;
/// Time in which an offer comes, and in which a session answers.
const OFFER_MAX: Duration = Duration::from_secs(10);
/// `Retry-After` of who comes with many others, whom those who do not connect make room for; the
/// page follows it.
const CROWDED: Duration = Duration::from_secs(2);
/// Of who finds viewers who watch: the page plays HLS meanwhile.
const FULL: Duration = Duration::from_secs(60);
/// For the owner of a path: a source on demand has ten seconds to answer.
const START_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn url_names_the_endpoint_of_a_path_or_a_session_below_it() {
        let id = "0123456789abcdef0123456789abcdef";
        let path = "live/a".to_owned();
        assert_eq!(Target::read("/live//a/whep"), Some(Target::Endpoint { path: path.clone() }));
        let session = Target::Session { path, id: id.to_owned() };
        assert_eq!(Target::read(&format!("/live/a/whep/{id}")), Some(session));
        for other in ["/whep", "/live/a/whep/", "/live/a/whep/x", "/live/a", "whep", "/a/xwhep"] {
            assert_eq!(Target::read(other), None, "{other}");
        }
        assert_eq!(Target::read(&format!("/whep/{id}")), None);
    }

    #[test]
    fn proxy_of_this_machine_is_known_by_what_it_adds() {
        let headers = |name: Option<&'static str>| {
            let value = HeaderValue::from_static("192.0.2.9");
            name.into_iter().map(|name| (HeaderName::from_static(name), value.clone())).collect()
        };
        let (own, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [192, 0, 2, 1].into());
        assert_eq!(
            reached(own, own, &headers(None)),
            Reached::At(own),
            "a browser of this machine"
        );
        for name in SENT_ON {
            assert_eq!(reached(own, own, &headers(Some(name))), Reached::ByProxy, "{name}");
            assert_eq!(reached(other, other, &headers(Some(name))), Reached::At(other), "{name}");
        }
    }

    #[test]
    fn page_of_another_origin_is_refused_unless_it_is_named() {
        let check = |allowed: &[&str], origin: Option<&'static str>| {
            let allow_origin = allowed.iter().map(|&origin| origin.to_owned()).collect();
            let config = HlsConfig { allow_origin, ..HlsConfig::default() };
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("tv:8888"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            check_origin(&config, &headers).is_ok()
        };
        assert!(check(&[], None) && check(&[], Some("http://tv:8888")));
        assert!(!check(&[], Some("http://evil.example")) && !check(&[], Some("null")));
        assert!(check(&["https://a.example"], Some("https://a.example")));
        assert!(!check(&["https://a.example"], Some("https://b.example")));
        assert!(check(&["*"], Some("https://b.example")));
    }
}
