//! Jobs of clients: asked for, looked at, ended, withdrawn, tried again, reported.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::act::Post;
use super::paging::{bad_query, limit, page};
use super::{Jobs, Shared, read_body, read_id, refused, unanswered};
use crate::dist::book::{Book, Refusal};
use crate::dist::ids::{JobId, NodeName, Stamp};
use crate::dist::wire::job::{JobRequest, JobState, JobView};
use crate::dist::wire::report::JobReport;
use crate::http::problem::Problem;
use crate::ledger::clerk::ClerkError;

/// `GET /v1/jobs`.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    state: Option<JobState>,
    after: Option<JobId>,
    limit: Option<usize>,
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
    State(jobs): Shared,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let client = jobs.access.client(&headers)?;
    let Query(ListQuery { state, after, limit: asked }) = query.map_err(|r| bad_query(&r))?;
    let limit = limit(asked)?;
    let found =
        jobs.clerk.ask(move |book, _| book.jobs(client.as_str(), state, after, limit + 1)).await;
    Ok(Json(page("jobs", found.map_err(unanswered)?, limit, |job| job.job_id.to_string())))
}

pub(super) async fn show(
    State(jobs): Shared,
    Path(job): Path<String>,
    headers: HeaderMap,
) -> Result<Json<JobView>, Problem> {
    let client = jobs.access.client(&headers)?;
    let job: JobId = read_id(&job, "job")?;
    let found = jobs.clerk.ask(move |book, _| book.job_view(client.as_str(), job)).await;
    found.map_err(unanswered)?.map(Json).map_err(|refusal| refused(&refusal))
}

pub(super) async fn report(
    State(jobs): Shared,
    Path(job): Path<String>,
    headers: HeaderMap,
) -> Result<Json<JobReport>, Problem> {
    let client = jobs.access.client(&headers)?;
    let job: JobId = read_id(&job, "job")?;
    let found = jobs.clerk.ask(move |book, _| book.report_unchecked(client.as_str(), job)).await;
    let mut report = found.map_err(unanswered)?.map_err(|refusal| refused(&refusal))?;
    // Fifty microseconds a receipt: not on the clerk's time, nor on that of other requests.
    let checked = tokio::task::spawn_blocking(move || {
        report.check_signatures();
        report
    });
    checked.await.map(Json).map_err(|_runtime_ends| unanswered(ClerkError::Ended))
}

pub(super) async fn request(
    State(jobs): Shared,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let post = Post::read(&jobs, &uri, &headers, &body)?;
    let request: JobRequest = read_body(&body)?;
    let ask = move |book: &mut Book, client: &str, at| book.request_job(client, request, at);
    post.act(&jobs, StatusCode::CREATED, ask).await
}

pub(super) async fn end(
    State(jobs): Shared,
    Path(job): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    change(&jobs, &job, (&uri, &headers, &body), |book, client, job, at| {
        book.end_job(client, job, at)
    })
    .await
}

pub(super) async fn cancel(
    State(jobs): Shared,
    Path(job): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    change(&jobs, &job, (&uri, &headers, &body), |book, client, job, at| {
        book.cancel_job(client, job, at)
    })
    .await
}

pub(super) async fn retry(
    State(jobs): Shared,
    Path(job): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let RetryRequest { nodes } =
        if body.is_empty() { RetryRequest::default() } else { read_body(&body)? };
    change(&jobs, &job, (&uri, &headers, &body), move |book, client, job, at| {
        book.retry_job(client, job, nodes.as_deref(), at)
    })
    .await
}

async fn change(
    jobs: &Arc<Jobs>,
    job: &str,
    (uri, headers, body): (&Uri, &HeaderMap, &Bytes),
    f: impl FnOnce(&mut Book, &str, JobId, Stamp) -> Result<JobView, Refusal> + Send + 'static,
) -> Result<Response, Problem> {
    let post = Post::read(jobs, uri, headers, body)?;
    let job: JobId = read_id(job, "job")?;
    post.act(jobs, StatusCode::OK, move |book, client, at| f(book, client, job, at)).await
}
