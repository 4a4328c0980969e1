//! What agents of nodes ask: hello, orders, reports.
//!
//! ```text
//! POST /agent/v1/hello     join token or own token    -> Welcome, with TLS a certificate
//! GET  /agent/v1/orders    own token                  -> a JSON line for each order, without end
//! POST /agent/v1/reports   own token                  -> ReportsTaken
//! GET  /agent/v1/probe     own token                  -> the bytes of a probe (dist::probe)
//! ```
//! Invariants: what a node says is taken for the node whose token it shows, and for no other; with
//! TLS orders and reports want its certificate, too. A certificate is for the key that signs the
//! node's receipts, and its request is signed by that key: a token alone makes nobody a node.
//! Bounds: `REPORTS_BYTES_MAX`, `HELLO_BYTES_MAX`; a stream of orders has an idle line each
//! `IDLE_EVERY`, so that both ends notice a peer that is gone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::timeout;

use super::auth::{shown, unauthorized};
use super::paging::bad_query;
use super::{Jobs, Shared, problem, read_body};
use crate::dist::book::{HelloBy, Refusal};
use crate::dist::ids::{Incarnation, NodeName};
use crate::dist::keys::VerifyKey;
use crate::dist::probe::PROBE_MAX;
use crate::dist::wire::agent::{
    Hello, HelloBody, NodeOrder, Report, Reports, ReportsTaken, SwitchCause, WelcomeBody,
};
use crate::dist::wire::relay::RelayCounts;
use crate::http::Remote;
use crate::http::caller::Caller;
use crate::http::clerk::{self, refused};
use crate::http::problem::Problem;
use crate::ledger::orders::OrderStream;
use crate::pki::authority::NodeRequest;

/// How far reports of each node are counted: one that is said again counts once.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<BTreeMap<NodeName, SoFar>>);

/// What was counted of a start of a node.
#[derive(Debug, Default)]
struct SoFar {
    incarnation: Incarnation,
    taken: u64,
    relays: RelayCounts,
}

/// The routes.
pub(super) fn routes() -> Router<Arc<Jobs>> {
    let hello = post(hello).layer(DefaultBodyLimit::max(HELLO_BYTES_MAX));
    let reports = post(reports).layer(DefaultBodyLimit::max(REPORTS_BYTES_MAX));
    Router::new()
        .route("/agent/v1/hello", hello)
        .route("/agent/v1/orders", get(orders))
        .route("/agent/v1/reports", reports)
        .route("/agent/v1/probe", get(probe))
}

enum Taken<T> {
    Done(T),
    NoToken,
    Refused(Refusal),
}

impl<T> Taken<T> {
    fn of(result: Result<T, Refusal>) -> Self {
        result.map_or_else(Self::Refused, Self::Done)
    }

    fn answer(self) -> Result<T, Problem> {
        match self {
            Self::Done(value) => Ok(value),
            Self::NoToken => Err(unauthorized("token_unknown", NO_NODE)),
            Self::Refused(refusal) => Err(refused(&refusal)),
        }
    }
}

async fn hello(
    State(jobs): Shared,
    ConnectInfo(from): ConnectInfo<Remote>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<WelcomeBody>, Problem> {
    let token = shown(&headers)?;
    let HelloBody { mut hello, certificate_request } = read_body(&body)?;
    hello.addr = reachable("addr", &hello.addr, from.addr)?;
    let rtsp = hello.rtsp.map(|rtsp| reachable("rtsp", &rtsp, from.addr));
    hello.rtsp = rtsp.transpose()?;
    let request = certificate_request.as_deref().zip(jobs.signer.as_ref());
    let request = request.map(|(text, _)| own_request(text, &hello)).transpose()?;
    let node = hello.node.clone();
    let is_join = jobs.access.is_join(&token);
    let taken = clerk::ask(&jobs.clerk, move |book, at| {
        let by = if is_join {
            HelloBy::Join
        } else {
            match book.node_of_token(&token) {
                Some(node) => HelloBy::Node(node.clone()),
                None => return Taken::NoToken,
            }
        };
        Taken::of(book.hello(hello, by, at))
    });
    let welcome = taken.await?.answer()?;
    let certificate = request.zip(jobs.signer.as_ref()).map(|(request, signer)| {
        let made = signer.give(&node, &request, Timestamp::now().as_second());
        made.map_err(|error| Problem::internal(error.to_string()))
    });
    Ok(Json(WelcomeBody { welcome, certificate: certificate.transpose()? }))
}

/// A request for a certificate that is signed by the key of the node that says hello.
fn own_request(text: &str, hello: &Hello) -> Result<NodeRequest, Problem> {
    let wrong =
        |detail: String| problem(StatusCode::BAD_REQUEST, "bad_certificate_request", detail);
    let request = NodeRequest::read(text).map_err(|error| wrong(error.to_string()))?;
    let key = hello.public_key.parse::<VerifyKey>();
    if key.is_ok_and(|key| key.as_bytes()[..] == *request.key()) {
        Ok(request)
    } else {
        Err(wrong("certificate_request: it is of another key than public_key".to_owned()))
    }
}

/// An address of a node, in the field `name`. A node that listens on all of its addresses is
/// reached where it came from.
fn reachable(name: &str, addr: &str, from: SocketAddr) -> Result<String, Problem> {
    let Ok(addr) = addr.parse::<SocketAddr>() else {
        let detail = format!("{name}: `{addr}` is not IP:PORT");
        return Err(problem(StatusCode::BAD_REQUEST, "bad_addr", detail));
    };
    if addr.port() == 0 {
        let detail = format!("{name}: port 0 cannot be reached");
        return Err(problem(StatusCode::BAD_REQUEST, "bad_addr", detail));
    }
    let ip = if addr.ip().is_unspecified() { from.ip().to_canonical() } else { addr.ip() };
    Ok(SocketAddr::new(ip, addr.port()).to_string())
}

async fn orders(
    State(jobs): Shared,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = shown(&headers)?;
    let node = clerk::ask(&jobs.clerk, move |book, _| book.node_of_token(&token).cloned()).await?;
    let node = node.ok_or_else(|| unauthorized("token_unknown", NO_NODE))?;
    jobs.bearers.check(&caller, &node)?;
    let orders = jobs.clerk.orders(node);
    let mut response = Body::from_stream(stream::unfold(orders, next_lines)).into_response();
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    Ok(response)
}

/// `?number=N&bytes=B`.
#[derive(Debug, Deserialize)]
struct ProbeQuery {
    number: u64,
    bytes: u64,
}

/// What a node fetches to show that it can.
async fn probe(
    State(jobs): Shared,
    caller: Caller,
    query: Result<Query<ProbeQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = shown(&headers)?;
    let node = clerk::ask(&jobs.clerk, move |book, _| book.node_of_token(&token).cloned()).await?;
    let node = node.ok_or_else(|| unauthorized("token_unknown", NO_NODE))?;
    jobs.bearers.check(&caller, &node)?;
    let Query(ProbeQuery { number, bytes }) = query.map_err(|rejection| bad_query(&rejection))?;
    if bytes > PROBE_MAX {
        let detail = format!("bytes is at most {PROBE_MAX}");
        return Err(problem(StatusCode::BAD_REQUEST, "bad_query", detail));
    }
    Ok(crate::dist::probe::bytes(number, bytes).into_response())
}

/// The next lines of the stream, and what comes behind them.
async fn next_lines(
    mut orders: OrderStream,
) -> Option<(Result<Bytes, std::convert::Infallible>, OrderStream)> {
    let next = match timeout(IDLE_EVERY, orders.next()).await {
        Ok(next) => next?,
        Err(_elapsed) => vec![NodeOrder::Idle],
    };
    let mut text = String::new();
    for order in &next {
        // Orders have text keys only: writing them cannot fail.
        text.push_str(&serde_json::to_string(order).unwrap_or_default());
        text.push('\n');
    }
    Some((Ok(Bytes::from(text)), orders))
}

async fn reports(
    State(jobs): Shared,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ReportsTaken>, Problem> {
    let token = shown(&headers)?;
    let reports: Reports = read_body(&body)?;
    jobs.bearers.check(&caller, &reports.node)?;
    let noted = Noted::of(&reports);
    let node = reports.node.clone();
    let taken = clerk::ask(&jobs.clerk, move |book, at| match book.node_of_token(&token) {
        Some(owner) if *owner == reports.node => Taken::of(book.reports(reports, at)),
        _ => Taken::NoToken,
    });
    let taken = taken.await?.answer()?;
    noted.count(&jobs, node, taken.taken);
    Ok(Json(taken))
}

/// What metrics count of a batch of reports, each with its number.
struct Noted {
    incarnation: Incarnation,
    switches: Vec<(u64, SwitchCause)>,
    bad_units: Vec<(u64, String)>,
    /// True where further sources were taken, false where they were left.
    further: Vec<(u64, bool)>,
    relays: RelayCounts,
}

impl Noted {
    fn of(reports: &Reports) -> Self {
        let mut noted = Self {
            incarnation: reports.incarnation,
            switches: Vec::new(),
            bad_units: Vec::new(),
            further: Vec::new(),
            relays: reports.relays,
        };
        for (number, report) in (reports.first..).zip(&reports.reports) {
            match report {
                Report::Fetching { cause, .. } => noted.switches.push((number, *cause)),
                Report::Further { sources, .. } => {
                    noted.further.push((number, !sources.is_empty()));
                }
                Report::BadUnit { source, .. } => {
                    let source = source.as_ref().map_or("base", NodeName::as_str);
                    noted.bad_units.push((number, source.to_owned()));
                }
                _ => {}
            }
        }
        noted
    }

    fn count(self, jobs: &Jobs, node: NodeName, taken: u64) {
        let mut counted = jobs.counted.0.lock().unwrap_or_else(PoisonError::into_inner);
        let so_far = counted.entry(node).or_default();
        if so_far.incarnation != self.incarnation {
            *so_far = SoFar { incarnation: self.incarnation, ..SoFar::default() };
        }
        let is_new = |number: u64| number > so_far.taken && number <= taken;
        for (_, cause) in self.switches.iter().filter(|(number, _)| is_new(*number)) {
            if let Some(count) = jobs.cells.switches.get(place_of(*cause)) {
                count.add(1);
            }
        }
        for (_, is_taken) in self.further.iter().filter(|(number, _)| is_new(*number)) {
            let [taken, left] = &jobs.cells.further;
            if *is_taken { taken.add(1) } else { left.add(1) }
        }
        for (_, source) in self.bad_units.iter().filter(|(number, _)| is_new(*number)) {
            jobs.cells.bad_unit(source);
        }
        so_far.taken = so_far.taken.max(taken);
        let counts = in_words(self.relays).into_iter().zip(in_words(so_far.relays));
        for ((now, before), cell) in counts.zip(&jobs.cells.relays) {
            cell.add(now.saturating_sub(before));
        }
        so_far.relays = self.relays;
    }
}

/// In the order of `metrics::distribution::RELAY_WORDS`.
fn in_words(counts: RelayCounts) -> [u64; 5] {
    let RelayCounts { taken, duplicates, refused, sent, taken_back } = counts;
    [taken, duplicates, refused, sent, taken_back]
}

/// Place in `metrics::distribution::SWITCH_CAUSES`.
fn place_of(cause: SwitchCause) -> usize {
    match cause {
        SwitchCause::First => 0,
        SwitchCause::Plan => 1,
        SwitchCause::Lost => 2,
        SwitchCause::Stall => 3,
        SwitchCause::BadUnit => 4,
        SwitchCause::Busy => 5,
        SwitchCause::Faster => 6,
        SwitchCause::Slow => 7,
    }
}

/// What is wrong with a token.
const NO_NODE: &str = "this is neither the join token nor the token of one of its nodes";
/// A name, a key, an address and labels.
const HELLO_BYTES_MAX: usize = 64 << 10;
/// Several thousand receipts.
const REPORTS_BYTES_MAX: usize = 8 << 20;
/// Shorter than a node waits for a sign of life.
const IDLE_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::distribution::SWITCH_CAUSES;

    #[test]
    fn wildcard_address_becomes_the_one_that_the_node_came_from() {
        let from: SocketAddr = "[::ffff:192.0.2.7]:5000".parse().unwrap();
        assert_eq!(reachable("addr", "0.0.0.0:81", from).unwrap(), "192.0.2.7:81");
        assert_eq!(reachable("addr", "[::]:81", from).unwrap(), "192.0.2.7:81");
        assert_eq!(reachable("addr", "198.51.100.1:81", from).unwrap(), "198.51.100.1:81");
        assert!(reachable("addr", "edge-1:81", from).is_err());
        assert!(reachable("addr", "198.51.100.1:0", from).is_err());
    }

    #[test]
    fn causes_are_counted_under_their_own_words() {
        for cause in [
            SwitchCause::First,
            SwitchCause::Plan,
            SwitchCause::Lost,
            SwitchCause::Stall,
            SwitchCause::BadUnit,
            SwitchCause::Busy,
            SwitchCause::Faster,
            SwitchCause::Slow,
        ] {
            let word = serde_json::to_value(cause).unwrap();
            assert_eq!(word, SWITCH_CAUSES[place_of(cause)]);
        }
    }
}
