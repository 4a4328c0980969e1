//! The routes of the HTTP API, version 1.
//!
//! ```text
//! GET    /metrics  /healthz  /readyz  /v1/info
//! GET    /v1/sessions?path=&state=&limit=&cursor=     GET, DELETE /v1/sessions/{id}
//! GET    /v1/paths?limit=&cursor=                     live paths
//! GET    /v1/vod?limit=&cursor=
//! POST   /v1/config:reload                            see `reload`
//! ```
//! Lists are sorted by a stable key (session id, title name) and paged by cursor: `next_cursor` of
//! one page is `cursor` of the next, and is null on the last one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::appliance::ApplianceView;
use super::problem::Problem;
use crate::live::info::HomeInfo;
use crate::metrics::exposition::{BuildInfo, CONTENT_TYPE, CellSet, Exposition};
use crate::session::info::SessionInfo;

/// What handlers share.
pub(super) struct Api {
    view: Arc<dyn ApplianceView>,
    exposition: Exposition,
    answer_timeout: Duration,
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
        let exposition = Exposition::new(build, move || CellSet {
            shards: source.shard_cells(),
            workers: source.worker_cells(),
            ready: source.is_ready(),
        })?;
        Ok(Self { view, exposition, answer_timeout })
    }

    pub(super) fn view(&self) -> Arc<dyn ApplianceView> {
        Arc::clone(&self.view)
    }

    /// How long a shard may take to answer.
    pub(super) fn answer_timeout(&self) -> Duration {
        self.answer_timeout
    }
}

type Shared = State<Arc<Api>>;

pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(readyz))
        .route("/v1/info", get(async |State(api): Shared| Json(api.view.info())))
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/{id}", get(session).delete(end_session))
        .route("/v1/paths", get(paths))
        .route("/v1/vod", get(titles))
        .route("/v1/config:reload", post(super::reload::reload))
        .fallback(async || Problem::not_found("no such resource; GET / lists them"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(Arc::new(api))
}

async fn index() -> Json<Value> {
    Json(json!({
        "name": "headend",
        "version": env!("CARGO_PKG_VERSION"),
        "resources": ["/metrics", "/healthz", "/readyz", "/v1/info", "/v1/sessions", "/v1/paths",
            "/v1/vod", "/v1/config:reload"],
    }))
}

async fn metrics(State(api): Shared) -> Result<impl IntoResponse, Problem> {
    let text = api.exposition.text().map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

async fn readyz(State(api): Shared) -> Response {
    if api.view.is_ready() {
        text(StatusCode::OK, "ready\n")
    } else {
        Problem::unavailable("the appliance does not serve players yet, or is stopping")
            .into_response()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionsQuery {
    path: Option<String>,
    state: Option<SessionState>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SessionState {
    Ready,
    Playing,
    Paused,
}

impl SessionsQuery {
    fn accepts(&self, session: &SessionInfo) -> bool {
        let state = self.state.map(|state| match state {
            SessionState::Ready => "ready",
            SessionState::Playing => "playing",
            SessionState::Paused => "paused",
        });
        let bare = |path: &str| path.trim_start_matches('/').to_owned();
        let is_path = self.path.as_ref().is_none_or(|path| bare(path) == bare(&session.path));
        let is_behind = self.cursor.as_ref().is_none_or(|cursor| *cursor < session.id);
        is_path && is_behind && state.is_none_or(|state| state == session.state)
    }
}

async fn sessions(
    State(api): Shared,
    query: Result<Query<SessionsQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(bad_query)?;
    let limit = page_limit(query.limit, SESSIONS_PAGE)?;
    let mut sessions = collect_sessions(&api).await?;
    sessions.retain(|session| query.accepts(session));
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next_cursor = sessions.last().filter(|_| more).map(|session| session.id.clone());
    Ok(Json(json!({ "sessions": sessions, "next_cursor": next_cursor })))
}

async fn session(State(api): Shared, Path(id): Path<String>) -> Result<Json<SessionInfo>, Problem> {
    let sessions = collect_sessions(&api).await?;
    let found = sessions.into_iter().find(|session| session.id.eq_ignore_ascii_case(&id));
    found.map(Json).ok_or_else(no_session)
}

/// Answers with the id once the session is ended: its players got BYE.
async fn end_session(State(api): Shared, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let answer = api.view.end_session(&id).ok_or_else(no_session)?;
    match timeout(api.answer_timeout, answer).await {
        Ok(Ok(true)) => Ok(Json(json!({ "id": id, "ended": true }))),
        Ok(Ok(false)) => Err(no_session()),
        Ok(Err(_gone)) => Err(Problem::unavailable("the shard of this session is gone")),
        Err(_late) => Err(shard_silent()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathsQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Live paths of all shards, sorted by name.
async fn paths(
    State(api): Shared,
    query: Result<Query<PathsQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(bad_query)?;
    let limit = page_limit(query.limit, SESSIONS_PAGE)?;
    let mut paths: Vec<HomeInfo> = collect(&api, api.view.request_paths()).await?;
    paths.retain(|info| query.cursor.as_ref().is_none_or(|cursor| *cursor < info.path));
    paths.sort_by(|a, b| a.path.cmp(&b.path));
    let more = paths.len() > limit;
    paths.truncate(limit);
    let next_cursor = paths.last().filter(|_| more).map(|info| info.path.clone());
    Ok(Json(json!({ "paths": paths, "next_cursor": next_cursor })))
}

/// What all shards answer. A shard that is gone has nothing.
async fn collect<T>(api: &Api, asked: Vec<oneshot::Receiver<Vec<T>>>) -> Result<Vec<T>, Problem> {
    let deadline = Instant::now() + api.answer_timeout;
    let mut all = Vec::new();
    for receiver in asked {
        match timeout_at(deadline, receiver).await {
            Ok(Ok(some)) => all.extend(some),
            Ok(Err(_gone)) => {}
            Err(_late) => return Err(shard_silent()),
        }
    }
    Ok(all)
}

/// Sessions of all shards, sorted by id.
async fn collect_sessions(api: &Api) -> Result<Vec<SessionInfo>, Problem> {
    let mut sessions = collect(api, api.view.request_sessions()).await?;
    sessions.sort_by(|a: &SessionInfo, b| a.id.cmp(&b.id));
    Ok(sessions)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TitlesQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn titles(
    State(api): Shared,
    query: Result<Query<TitlesQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(bad_query)?;
    let limit = page_limit(query.limit, TITLES_PAGE)?;
    let view = api.view.clone();
    // One more than asked for tells whether there is another page.
    let listing =
        tokio::task::spawn_blocking(move || view.titles(query.cursor.as_deref(), limit + 1));
    let listed = match timeout(LISTING_TIMEOUT, listing).await {
        Ok(Ok(listed)) => listed,
        Ok(Err(_panicked)) => return Err(Problem::internal("listing the library failed")),
        Err(_late) => return Err(Problem::unavailable("the media folder does not answer")),
    };
    let mut titles =
        listed.map_err(|error| Problem::unavailable(format!("the media folder: {error}")))?;
    let more = titles.len() > limit;
    titles.truncate(limit);
    let next_cursor = titles.last().filter(|_| more).map(|title| title.name.clone());
    Ok(Json(json!({ "titles": titles, "next_cursor": next_cursor })))
}

fn page_limit(asked: Option<usize>, page: Page) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(page.default);
    if limit == 0 || limit > page.max {
        return Err(Problem::bad_request(format!("limit must be 1 to {}", page.max)));
    }
    Ok(limit)
}

fn bad_query(rejection: QueryRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

fn no_session() -> Problem {
    Problem::not_found("no session has this id; GET /v1/sessions lists them")
}

fn shard_silent() -> Problem {
    Problem::unavailable("a shard did not answer in time")
}

fn text(status: StatusCode, body: &'static str) -> Response {
    const PLAIN: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, PLAIN, body).into_response()
}

/// Entries in one page.
#[derive(Clone, Copy)]
struct Page {
    default: usize,
    max: usize,
}

/// A session with two streams is about 600 bytes of JSON: 6 MB at most.
const SESSIONS_PAGE: Page = Page { default: 1_000, max: 10_000 };

/// A title may need a file to be opened, so pages are smaller.
const TITLES_PAGE: Page = Page { default: 100, max: 1_000 };

/// Disks that spin up, folders of 100,000 files.
const LISTING_TIMEOUT: Duration = Duration::from_secs(10);
