//! The HTTP API, version 1: its routes, and what their handlers share.
//!
//! ```text
//! GET    /metrics                                     `scrape`
//! GET    /healthz  /readyz  /v1/info
//! GET    /v1/sessions?path=&state=&role=&q=&limit=&cursor=  GET, DELETE /v1/sessions/{id}
//! POST   /v1/sessions/{id}/events                     `events`
//! POST   /v1/sessions/{id}/move                       `moves`
//! GET    /v1/paths   GET /v1/paths/NAME   POST /v1/paths/NAME:kick   POST /v1/paths/NAME:switch
//! GET    /v1/paths/NAME/playlist   POST ..:insert :skip :remove   DELETE ../ITEM    `playlists`
//! GET    /v1/vod?q=&limit=&cursor=                    `titles`
//! GET    /v1/limits                                   `limits`
//! GET    /v1/doctor   GET /v1/log                     `health`
//! POST   /v1/config:reload
//! GET    /v1/drain   POST /v1/drain   POST /v1/undrain    `drain`
//! ```
//! Lists are sorted by a stable key (session id, title name) and paged by cursor, see `paging`.
//! Invariant: no handler waits for a shard without a limit, see `patience`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::operators::Role;
use super::problem::Problem;
use super::view::ApplianceView;
use crate::metrics::exposition::{BuildInfo, CellSet, Exposition};

mod drain;
mod events;
mod health;
mod limits;
mod moves;
mod paging;
mod paths;
mod patience;
mod playlists;
mod reload;
mod scrape;
mod sessions;
mod titles;
mod watch_pages;

/// What handlers share.
pub(super) struct Api {
    view: Arc<dyn ApplianceView>,
    exposition: Exposition,
    /// How long a shard may take to answer.
    answer_timeout: Duration,
    /// Live paths as they were not long ago, for pages that ask again and again.
    recent_paths: paths::Recent,
}

impl Api {
    pub(super) fn new(
        view: Arc<dyn ApplianceView>,
        answer_timeout: Duration,
    ) -> Result<Self, prometheus::Error> {
        let info = view.info();
        let build = BuildInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            backend: info["backend"].as_str().unwrap_or("uring").to_owned(),
        };
        let source = view.clone();
        let exposition = Exposition::new(build, move || cell_set(&*source))?;
        Ok(Self { view, exposition, answer_timeout, recent_paths: paths::Recent::default() })
    }

    /// What metrics and limits are read from, whenever it is called.
    pub(super) fn cells(&self) -> impl Fn() -> CellSet + Send + 'static {
        let view = Arc::clone(&self.view);
        move || cell_set(&*view)
    }
}

/// What metrics and limits are read from.
fn cell_set(view: &dyn ApplianceView) -> CellSet {
    CellSet {
        shards: view.shard_cells(),
        workers: view.worker_cells(),
        ready: view.is_ready(),
        limits: view.limits(),
    }
}

type Shared = State<Arc<Api>>;

/// Its routes; what is at none of them is the caller's.
pub(super) fn routes(api: Api) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(scrape::metrics))
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(readyz))
        .route("/v1/info", get(info))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/{id}", get(sessions::show).delete(sessions::end))
        .route("/v1/sessions/{id}/events", events::route())
        .route("/v1/sessions/{id}/move", moves::route())
        .route("/v1/paths", get(paths::list))
        .route("/v1/paths/{*name}", get(paths::show).post(paths::act).delete(paths::end))
        .route("/v1/vod", get(titles::list))
        .route("/v1/limits", get(limits::list))
        .route("/v1/doctor", get(health::doctor))
        .route("/v1/log", get(health::log))
        .route("/v1/config:reload", post(reload::reload))
        .route("/v1/drain", drain::route())
        .route("/v1/undrain", post(drain::undrain))
        .with_state(Arc::new(api))
}

async fn index() -> Json<Value> {
    Json(json!({
        "name": "headend",
        "version": env!("CARGO_PKG_VERSION"),
        "resources": ["/metrics", "/healthz", "/readyz", "/v1/info", "/v1/sessions", "/v1/paths",
            "/v1/vod", "/v1/limits", "/v1/doctor", "/v1/log", "/v1/feed", "/v1/config:reload",
            "/v1/drain"],
    }))
}

/// With what the one who asks may do.
async fn info(State(api): Shared, role: Option<Extension<Role>>) -> Json<Value> {
    let mut info = api.view.info();
    info["may"] = role.map_or(Role::Read, |Extension(role)| role).as_str().into();
    Json(info)
}

async fn readyz(State(api): Shared) -> Response {
    if api.view.is_ready() {
        text(StatusCode::OK, "ready\n")
    } else if api.view.drain_state().state != "serving" {
        Problem::unavailable("the server is drained: it takes no new sessions").into_response()
    } else {
        Problem::unavailable("the appliance does not serve players yet, or is stopping")
            .into_response()
    }
}

fn text(status: StatusCode, body: &'static str) -> Response {
    const PLAIN: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, PLAIN, body).into_response()
}
