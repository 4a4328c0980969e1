//! The routes of the HTTP API, version 1.
//!
//! ```text
//! GET    /metrics  /healthz  /readyz  /v1/info
//! GET    /v1/sessions?path=&state=&role=&limit=&cursor=     GET, DELETE /v1/sessions/{id}
//! GET    /v1/paths   GET /v1/paths/NAME   POST /v1/paths/NAME:kick    see `paths`
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

use super::problem::Problem;
use super::view::ApplianceView;
use crate::base::ids::{SessionId, ShardId};
use crate::metrics::exposition::{BuildInfo, CONTENT_TYPE, CellSet, Exposition};
use crate::metrics::paths::PathTallies;
use crate::session::info::SessionInfo;

mod paths;
pub(super) mod reload;

/// What handlers share.
pub(super) struct Api {
    pub(super) view: Arc<dyn ApplianceView>,
    exposition: Exposition,
    pub(super) answer_timeout: Duration,
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

pub(super) type Shared = State<Arc<Api>>;

pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(readyz))
        .route("/v1/info", get(async |State(api): Shared| Json(api.view.info())))
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/{id}", get(session).delete(end_session))
        .route("/v1/paths", get(paths::list))
        .route("/v1/paths/{*name}", get(paths::show).post(paths::act))
        .route("/v1/vod", get(titles))
        .route("/v1/config:reload", post(reload::reload))
        .fallback(async || Problem::not_found("no such resource; GET / lists them"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(axum::middleware::from_fn(crate::http::origin::check))
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
    let paths = path_tables(&api).await;
    let text = api.exposition.text(paths).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

/// Live paths of each shard; `None` where a shard is not heard of in time.
async fn path_tables(api: &Api) -> Vec<Option<PathTallies>> {
    let deadline = Instant::now() + api.answer_timeout;
    let mut tables = Vec::new();
    for receiver in api.view.request_path_tables() {
        tables.push(timeout_at(deadline, receiver).await.ok().and_then(Result::ok));
    }
    tables
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
    role: Option<SessionRole>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SessionState {
    Ready,
    Playing,
    Paused,
    Announced,
    Recording,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SessionRole {
    Reader,
    Publisher,
}

impl SessionsQuery {
    fn accepts(&self, session: &SessionInfo) -> bool {
        let state = self.state.map(|state| match state {
            SessionState::Ready => "ready",
            SessionState::Playing => "playing",
            SessionState::Paused => "paused",
            SessionState::Announced => "announced",
            SessionState::Recording => "recording",
        });
        let bare = |path: &str| path.trim_start_matches('/').to_owned();
        let is_path = self.path.as_ref().is_none_or(|path| bare(path) == bare(&session.path));
        let is_behind = self.cursor.as_ref().is_none_or(|cursor| *cursor < session.id);
        let role = self.role.map(|role| match role {
            SessionRole::Reader => "reader",
            SessionRole::Publisher => "publisher",
        });
        let is_role = role.is_none_or(|role| role == session.role);
        is_path && is_behind && is_role && state.is_none_or(|state| state == session.state)
    }
}

/// Ids are in the order of their shards: one shard after the other is asked, from the cursor's on,
/// until the page is full.
async fn sessions(
    State(api): Shared,
    query: Result<Query<SessionsQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(mut query) = query.map_err(bad_query)?;
    if let Some(cursor) = &mut query.cursor {
        cursor.make_ascii_uppercase();
    }
    let limit = page_limit(query.limit, SESSIONS_PAGE)?;
    let patience = Patience::new(&api);
    let cursor = query.cursor.as_deref().and_then(SessionId::parse);
    let (mut shard, mut after) = (cursor.map_or(ShardId(0), SessionId::shard), cursor);
    let mut sessions = Vec::new();
    // Bounded by `patience`; one more than asked for tells whether there is another page.
    while sessions.len() <= limit
        && let Some(asked) = api.view.request_sessions(shard, after)
    {
        let page = patience.answer(asked).await?.unwrap_or_default();
        sessions.extend(page.sessions.into_iter().filter(|session| query.accepts(session)));
        after = page.next;
        if after.is_none() {
            let Some(next) = shard.0.checked_add(1) else { break };
            shard = ShardId(next);
        }
    }
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next_cursor = sessions.last().filter(|_| more).map(|session| session.id.clone());
    Ok(Json(json!({ "sessions": sessions, "next_cursor": next_cursor })))
}

/// Only the shard that owns the id is asked.
async fn session(State(api): Shared, Path(id): Path<String>) -> Result<Json<SessionInfo>, Problem> {
    let id = SessionId::parse(&id).ok_or_else(no_session)?;
    let asked = api.view.request_session(id).ok_or_else(no_session)?;
    match Patience::new(&api).answer(asked).await? {
        Some(found) => found.map(Json).ok_or_else(no_session),
        None => Err(session_shard_gone()),
    }
}

/// Answers with the id once the session is ended: its players got BYE.
async fn end_session(State(api): Shared, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let answer = api.view.end_session(&id).ok_or_else(no_session)?;
    match timeout(api.answer_timeout, answer).await {
        Ok(Ok(true)) => Ok(Json(json!({ "id": id, "ended": true }))),
        Ok(Ok(false)) => Err(no_session()),
        Ok(Err(_gone)) => Err(session_shard_gone()),
        Err(_late) => Err(shard_silent()),
    }
}

/// How long shards may take: for each answer, and for all that a request needs.
pub(super) struct Patience {
    each: Duration,
    until: Instant,
}

impl Patience {
    pub(super) fn new(api: &Api) -> Self {
        let each = api.answer_timeout;
        Self { each, until: Instant::now() + each.max(LISTING_TIMEOUT) }
    }

    /// An answer; `None`: the shard is gone.
    pub(super) async fn answer<T>(
        &self,
        asked: oneshot::Receiver<T>,
    ) -> Result<Option<T>, Problem> {
        let deadline = self.until.min(Instant::now() + self.each);
        match timeout_at(deadline, asked).await {
            Ok(answer) => Ok(answer.ok()),
            Err(_late) => Err(shard_silent()),
        }
    }
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

pub(super) fn page_limit(asked: Option<usize>, page: Page) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(page.default);
    if limit == 0 || limit > page.max {
        return Err(Problem::bad_request(format!("limit must be 1 to {}", page.max)));
    }
    Ok(limit)
}

pub(super) fn bad_query(rejection: QueryRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

fn session_shard_gone() -> Problem {
    Problem::unavailable("the shard of this session is gone")
}

fn no_session() -> Problem {
    Problem::not_found("no session has this id; GET /v1/sessions lists them")
}

pub(super) fn shard_silent() -> Problem {
    Problem::unavailable("a shard did not answer in time")
}

fn text(status: StatusCode, body: &'static str) -> Response {
    const PLAIN: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, PLAIN, body).into_response()
}

/// Entries in one page.
#[derive(Clone, Copy)]
pub(super) struct Page {
    default: usize,
    max: usize,
}

/// A session with two streams is about 600 bytes of JSON: 6 MB at most.
pub(super) const SESSIONS_PAGE: Page = Page { default: 1_000, max: 10_000 };

/// A title may need a file to be opened, so pages are smaller.
const TITLES_PAGE: Page = Page { default: 100, max: 1_000 };

/// Disks that spin up, folders of 100,000 files; all pages of a busy shard's sessions.
const LISTING_TIMEOUT: Duration = Duration::from_secs(10);
