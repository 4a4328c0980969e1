//! The HTTP API of a base: jobs for clients, orders and reports for nodes.
//!
//! ```text
//! clients  POST /v1/jobs    GET /v1/jobs?q=&state=&after=&limit=    GET /v1/jobs/{j}
//!          POST /v1/jobs/{j}/end  /cancel  /retry                GET /v1/jobs/{j}/report
//!          PATCH /v1/jobs/{j}    POST /v1/jobs/{j}/pause  /resume
//!          POST, GET /v1/jobs/{j}/commands   GET .../commands/{c}   POST .../commands/{c}/cancel
//!          GET  /v1/jobs/{j}/deliveries?state=&node=&command=&after=&limit=
//!          GET  /v1/jobs/{j}/notifications                   (who is called back, how far that is)
//!          GET  /v1/jobs/{j}/events?after=&limit=&wait=    (server-sent events, or long poll)
//!          GET  /v1/events    GET /v1/nodes?q=&after=&limit=  /v1/nodes/{n}    PATCH /v1/nodes/{n}
//!          POST /v1/nodes/{n}/query  /repair  /activate  /drain  /undrain  /retire
//! nodes    POST /agent/v1/hello   GET /agent/v1/orders   POST /agent/v1/reports
//! anyone   GET  /  /healthz  /readyz  /metrics  /v1/info     (`standby`: of a base that waits)
//!          GET  /  of a browser: the page of `dashboard`, which asks for a client's token
//! ```
//! `auth` says who asks. `ask` is a client's question; `act` a POST of one, which counts once for
//! its Idempotency-Key.
//! Invariants: nothing is answered before the ledger has it; every error is a problem (RFC 9457)
//! with a `reason` that does not change.
//! Bounds: sizes of bodies by route, `paging` for lists, `events::WAIT_MAX` for a long poll.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Bearers;
use super::clerk::{self, problem};
use super::dashboard;
use super::origin;
use super::problem::Problem;
use crate::dist::ids::BaseEpoch;
use crate::dist::wire::agent::EPOCH_HEADER;
use crate::ledger::clerk::Clerk;
use crate::metrics::distribution::DistributionCells;
use crate::pki::authority::NodeSigner;

mod act;
mod agent;
mod ask;
pub mod auth;
mod commands;
mod events;
mod nodes;
mod paging;
mod scrape;
mod sessions;
pub mod standby;

use auth::Access;

/// What the routes share.
#[derive(Debug, Clone)]
pub struct JobsState {
    /// Book and ledger.
    pub clerk: Clerk,
    /// Who may ask.
    pub access: Access,
    /// Ed25519 key of the base, base64.
    pub base_key: String,
    /// What reports of nodes are counted in.
    pub cells: Arc<DistributionCells>,
    /// Epoch of the base: said with each answer.
    pub epoch: BaseEpoch,
    /// Signs certificates of nodes; none without TLS.
    pub signer: Option<NodeSigner>,
    /// Who may use the token of a node.
    pub bearers: Bearers,
}

struct Jobs {
    clerk: Clerk,
    access: Access,
    base_key: String,
    cells: Arc<DistributionCells>,
    counted: agent::Counted,
    epoch: BaseEpoch,
    signer: Option<NodeSigner>,
    bearers: Bearers,
}

type Shared = State<Arc<Jobs>>;

/// The routes. What is at none of them is the caller's.
pub fn router(state: JobsState) -> Router {
    let JobsState { clerk, access, base_key, cells, epoch, signer, bearers } = state;
    let counted = agent::Counted::default();
    let jobs = Jobs { clerk, access, base_key, cells, counted, epoch, signer, bearers };
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape::metrics))
        .route("/v1/info", get(info))
        .route("/v1/jobs", get(sessions::list).post(sessions::request))
        .route("/v1/jobs/{job}", get(sessions::show).patch(sessions::change))
        .route("/v1/jobs/{job}/pause", post(sessions::pause))
        .route("/v1/jobs/{job}/resume", post(sessions::resume))
        .route("/v1/jobs/{job}/end", post(sessions::end))
        .route("/v1/jobs/{job}/cancel", post(sessions::cancel))
        .route("/v1/jobs/{job}/retry", post(sessions::retry))
        .route("/v1/jobs/{job}/report", get(sessions::report))
        .route("/v1/jobs/{job}/notifications", get(sessions::notifications))
        .route("/v1/jobs/{job}/commands", get(commands::list).post(commands::add))
        .route("/v1/jobs/{job}/commands/{command}", get(commands::show))
        .route("/v1/jobs/{job}/commands/{command}/cancel", post(commands::cancel))
        .route("/v1/jobs/{job}/deliveries", get(commands::deliveries))
        .route("/v1/jobs/{job}/events", get(events::of_job))
        .route("/v1/events", get(events::of_all))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{node}", get(nodes::show).patch(nodes::patch))
        .route("/v1/nodes/{node}/query", post(nodes::query))
        .route("/v1/nodes/{node}/repair", post(nodes::repair))
        .route("/v1/nodes/{node}/activate", post(nodes::activate))
        .route("/v1/nodes/{node}/drain", post(nodes::drain))
        .route("/v1/nodes/{node}/undrain", post(nodes::undrain))
        .route("/v1/nodes/{node}/retire", post(nodes::retire))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .merge(agent::routes())
        .layer(map_response(as_problem))
        .merge(dashboard::page_routes())
        .layer(from_fn(dashboard::answer_browsers))
        .layer(map_response(move |response: Response| async move { with_epoch(response, epoch) }))
        .with_state(Arc::new(jobs))
}

async fn index() -> Json<Value> {
    Json(json!({
        "name": "headend base",
        "version": env!("CARGO_PKG_VERSION"),
        "resources": ["/v1/jobs", "/v1/nodes", "/v1/events", "/v1/info", "/ctp/{job}/{path}",
            "/dav/{job}/", "/metrics", "/healthz", "/readyz"],
    }))
}

/// Whether the ledger takes changes now.
async fn readyz(State(jobs): Shared) -> Result<&'static str, Problem> {
    clerk::ask(&jobs.clerk, |_, _| ()).await?;
    Ok("ready\n")
}

async fn info(State(jobs): Shared) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "base_key": jobs.base_key,
        "role": "active",
        "epoch": jobs.epoch,
    }))
}

/// Says which base answers: a node takes nothing of one that another has followed.
fn with_epoch(mut response: Response, epoch: BaseEpoch) -> Response {
    response.headers_mut().insert(EPOCH_HEADER, HeaderValue::from(epoch.0));
    response
}

/// Keeps pages of other sites from asking with the password that a browser has kept for this one.
pub(in crate::http) async fn check_origin(request: Request, next: Next) -> Response {
    if origin::is_own(request.headers()) {
        next.run(request).await
    } else {
        let detail = "a page of another origin may not ask this";
        problem(StatusCode::FORBIDDEN, "other_origin", detail).into_response()
    }
}

/// What axum refuses by itself is plain text: a body that is too long, a path that is not UTF-8.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_plain = kind.is_none_or(|kind| kind.starts_with(b"text/plain"));
    let reason = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
        status if status.is_client_error() && status != StatusCode::METHOD_NOT_ALLOWED => {
            "bad_request"
        }
        _ => return response,
    };
    if !is_plain {
        return response;
    }
    let detail = status.canonical_reason().unwrap_or("the request is not understood");
    problem(status, reason, detail).into_response()
}

/// A body as JSON.
fn read_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        problem(StatusCode::BAD_REQUEST, "bad_body", format!("the body is not understood: {error}"))
    })
}

/// A name or number in a path.
fn read_id<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Problem> {
    let detail = || format!("there is no {what} `{text}`");
    text.parse().map_err(|_| problem(StatusCode::NOT_FOUND, "not_found", detail()))
}

/// A text header.
fn text_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Ten thousand targets by name, or a command with many attributes.
const BODY_BYTES_MAX: usize = 2 << 20;
