//! Jobs of clients: asked for, looked at, ended, withdrawn, tried again, reported.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::act::Post;
use super::ask::Asker;
use super::events::{has_news, wait_of};
use super::paging::{bad_query, limit, page, read_word};
use super::{read_id, text_header};
use crate::dist::book::Book;
use crate::dist::ids::{JobId, NodeName};
use crate::dist::rows::JobRow;
use crate::dist::wire::job::{JobRequest, JobState, JobView, PolicyChange};
use crate::dist::wire::report::JobReport;
use crate::http::clerk::unanswered;
use crate::http::problem::Problem;
use crate::ledger::clerk::ClerkError;

/// `GET /v1/jobs`.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    q: Option<String>,
    state: Option<JobState>,
    after: Option<JobId>,
    limit: Option<usize>,
}

/// `GET /v1/jobs/{job}`.
#[derive(Debug, Deserialize)]
pub(super) struct ShowQuery {
    /// Seconds.
    wait: Option<u64>,
}

/// `POST /v1/jobs/{job}/retry`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryRequest {
    /// `None`: all that failed.
    #[serde(default)]
    nodes: Option<Vec<NodeName>>,
}

pub(super) async fn list(
    asker: Asker,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ListQuery { q, state, after, limit: asked }) = query.map_err(|r| bad_query(&r))?;
    let limit = limit(asked)?;
    let Some(word) = read_word(q.as_ref())? else {
        let found = asker.own(move |book, client| Ok(book.jobs(client, state, after, limit + 1)));
        return Ok(Json(page("jobs", found.await?, limit, |job| job.job_id.to_string())));
    };
    let is_found = move |job: &JobRow| {
        let id = job.id.to_string();
        let texts =
            [id.as_str(), job.client_ref.as_deref().unwrap_or_default(), job.state.as_str()];
        state.is_none_or(|state| job.state == state) && word.is_in(texts)
    };
    let found = asker.own(move |book, client| Ok(book.find_jobs(client, is_found, after, limit)));
    let (jobs, next) = found.await?;
    Ok(Json(json!({ "jobs": jobs, "next_cursor": next.map(|id| id.to_string()) })))
}

/// Answers at once, or with `wait` when nothing of the job is open or the wait is over. `ETag` is
/// that of the policy.
pub(super) async fn show(
    asker: Asker,
    Path(job): Path<String>,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Problem> {
    let job: JobId = read_id(&job, "job")?;
    let Query(ShowQuery { wait }) = query.map_err(|rejection| bad_query(&rejection))?;
    let deadline = Instant::now() + wait_of(wait)?;
    let mut newest = asker.jobs.clerk.events();
    loop {
        // Before the question: what comes meanwhile is noticed.
        newest.mark_unchanged();
        let asked_at = Instant::now();
        let view = asker.own(move |book, client| book.job_view(client, job)).await?;
        if view.is_settled() || !has_news(&mut newest, asked_at, deadline).await {
            return Ok(([(header::ETAG, etag(&view))], Json(view)));
        }
    }
}

pub(super) async fn report(
    asker: Asker,
    Path(job): Path<String>,
) -> Result<Json<JobReport>, Problem> {
    let job: JobId = read_id(&job, "job")?;
    let mut report = asker.own(move |book, client| book.report_unchecked(client, job)).await?;
    // Fifty microseconds a receipt: not on the clerk's time, nor on that of other requests.
    let checked = tokio::task::spawn_blocking(move || {
        report.check_signatures();
        report
    });
    checked.await.map(Json).map_err(|_runtime_ends| unanswered(ClerkError::Ended))
}

/// All of them: a job has few.
pub(super) async fn notifications(
    asker: Asker,
    Path(job): Path<String>,
) -> Result<Json<Value>, Problem> {
    let job: JobId = read_id(&job, "job")?;
    let found = asker.own(move |book, client| book.notifications(client, job)).await?;
    Ok(Json(json!({ "notifications": found })))
}

pub(super) async fn request(post: Post) -> Result<Response, Problem> {
    let request: JobRequest = post.read()?;
    let ask = move |book: &mut Book, client: &str, at| book.request_job(client, request, at);
    post.act(StatusCode::CREATED, ask).await
}

pub(super) async fn end(Path(job): Path<String>, post: Post) -> Result<Response, Problem> {
    let job: JobId = read_id(&job, "job")?;
    post.act(StatusCode::OK, move |book, client, at| book.end_job(client, job, at)).await
}

/// Changes the policy; with `If-Match` only the one that the client has seen. `ETag` is that of the
/// policy as it is now (RFC 9110 s8.8.3): the next change needs no look before.
pub(super) async fn change(
    Path(job): Path<String>,
    headers: HeaderMap,
    post: Post,
) -> Result<Response, Problem> {
    let job: JobId = read_id(&job, "job")?;
    let change: PolicyChange = post.read()?;
    let tag = text_header(&headers, "if-match").map(|tag| tag.trim().trim_matches('"').to_owned());
    let tag = tag.filter(|tag| tag != "*");
    let ask = move |book: &mut Book, client: &str, at| {
        book.change_job(client, job, change, tag.as_deref(), at)
    };
    let tag_of = |body: &str| {
        let view: JobView = serde_json::from_str(body).ok()?;
        HeaderValue::from_str(&etag(&view)).ok()
    };
    post.act_tagged(StatusCode::OK, ask, tag_of).await
}

/// That of the policy.
fn etag(view: &JobView) -> String {
    format!("\"{}\"", view.policy.tag())
}

pub(super) async fn pause(Path(job): Path<String>, post: Post) -> Result<Response, Problem> {
    set_paused(&job, true, post).await
}

pub(super) async fn resume(Path(job): Path<String>, post: Post) -> Result<Response, Problem> {
    set_paused(&job, false, post).await
}

async fn set_paused(job: &str, is_paused: bool, post: Post) -> Result<Response, Problem> {
    let job: JobId = read_id(job, "job")?;
    let change = PolicyChange { paused: Some(is_paused), ..PolicyChange::default() };
    let ask =
        move |book: &mut Book, client: &str, at| book.change_job(client, job, change, None, at);
    post.act(StatusCode::OK, ask).await
}

pub(super) async fn cancel(Path(job): Path<String>, post: Post) -> Result<Response, Problem> {
    let job: JobId = read_id(&job, "job")?;
    post.act(StatusCode::OK, move |book, client, at| book.cancel_job(client, job, at)).await
}

pub(super) async fn retry(Path(job): Path<String>, post: Post) -> Result<Response, Problem> {
    let job: JobId = read_id(&job, "job")?;
    let RetryRequest { nodes } =
        if post.is_empty() { RetryRequest::default() } else { post.read()? };
    let ask =
        move |book: &mut Book, client: &str, at| book.retry_job(client, job, nodes.as_deref(), at);
    post.act(StatusCode::OK, ask).await
}
