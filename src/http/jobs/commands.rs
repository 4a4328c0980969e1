//! Commands of a job and their deliveries.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::act::Post;
use super::paging::{bad_parameter, bad_query, limit, page};
use super::{Shared, read_body, read_id, refused, unanswered};
use crate::dist::book::{Book, DeliveryFilter};
use crate::dist::ids::{CommandId, CommandKey, JobId, NodeName};
use crate::dist::wire::job::{CommandRequest, CommandView, DeliveryState};
use crate::http::problem::Problem;

/// `GET /v1/jobs/{job}/commands`.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    after: Option<CommandId>,
    limit: Option<usize>,
}

/// `GET /v1/jobs/{job}/deliveries`.
#[derive(Debug, Deserialize)]
pub(super) struct DeliveriesQuery {
    command: Option<CommandId>,
    node: Option<NodeName>,
    state: Option<DeliveryState>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(jobs): Shared,
    Path(job): Path<String>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let client = jobs.access.client(&headers)?;
    let job: JobId = read_id(&job, "job")?;
    let Query(ListQuery { after, limit: asked }) = query.map_err(|r| bad_query(&r))?;
    let limit = limit(asked)?;
    let ask = move |book: &mut Book, _| book.command_views(client.as_str(), job, after, limit + 1);
    let found = jobs.clerk.ask(ask).await.map_err(unanswered)?.map_err(|r| refused(&r))?;
    Ok(Json(page("commands", found, limit, |command| command.command_id.to_string())))
}

pub(super) async fn show(
    State(jobs): Shared,
    Path((job, command)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<CommandView>, Problem> {
    let client = jobs.access.client(&headers)?;
    let key = key_of(&job, &command)?;
    let found = jobs.clerk.ask(move |book, _| book.command_view(client.as_str(), key)).await;
    found.map_err(unanswered)?.map(Json).map_err(|refusal| refused(&refusal))
}

pub(super) async fn add(
    State(jobs): Shared,
    Path(job): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let post = Post::read(&jobs, &uri, &headers, &body)?;
    let job: JobId = read_id(&job, "job")?;
    let request: CommandRequest = read_body(&body)?;
    let ask = move |book: &mut Book, client: &str, at| book.command(client, job, request, at);
    post.act(&jobs, StatusCode::CREATED, ask).await
}

pub(super) async fn cancel(
    State(jobs): Shared,
    Path((job, command)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let post = Post::read(&jobs, &uri, &headers, &body)?;
    let key = key_of(&job, &command)?;
    let ask = move |book: &mut Book, client: &str, at| book.cancel_command(client, key, at);
    post.act(&jobs, StatusCode::OK, ask).await
}

pub(super) async fn deliveries(
    State(jobs): Shared,
    Path(job): Path<String>,
    headers: HeaderMap,
    query: Result<Query<DeliveriesQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let client = jobs.access.client(&headers)?;
    let job: JobId = read_id(&job, "job")?;
    let Query(query) = query.map_err(|r| bad_query(&r))?;
    let limit = limit(query.limit)?;
    let after = query
        .after
        .as_deref()
        .map(|text| place_of(text).ok_or_else(|| bad_parameter("after", text)));
    let filter = DeliveryFilter {
        command: query.command,
        node: query.node,
        state: query.state,
        after: after.transpose()?,
        limit: limit + 1,
    };
    let ask = move |book: &mut Book, _| book.deliveries(client.as_str(), job, &filter);
    let found = jobs.clerk.ask(ask).await.map_err(unanswered)?.map_err(|r| refused(&r))?;
    Ok(Json(page("deliveries", found, limit, |delivery| {
        format!("{}/{}", delivery.command_id, delivery.node)
    })))
}

/// `17/edge-1`: a delivery's place in the list.
fn place_of(text: &str) -> Option<(CommandId, NodeName)> {
    let (command, node) = text.split_once('/')?;
    Some((CommandId(command.parse().ok()?), NodeName::new(node).ok()?))
}

fn key_of(job: &str, command: &str) -> Result<CommandKey, Problem> {
    let job: JobId = read_id(job, "job")?;
    let command: u32 = read_id(command, "command")?;
    Ok(CommandKey { job, command: CommandId(command) })
}
