//! Commands of a job and their deliveries.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::act::Post;
use super::ask::Asker;
use super::paging::{bad_parameter, bad_query, limit, page};
use super::read_id;
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
    asker: Asker,
    Path(job): Path<String>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let job: JobId = read_id(&job, "job")?;
    let Query(ListQuery { after, limit: asked }) = query.map_err(|r| bad_query(&r))?;
    let limit = limit(asked)?;
    let found = asker.own(move |book, client| book.command_views(client, job, after, limit + 1));
    Ok(Json(page("commands", found.await?, limit, |command| command.command_id.to_string())))
}

pub(super) async fn show(
    asker: Asker,
    Path((job, command)): Path<(String, String)>,
) -> Result<Json<CommandView>, Problem> {
    let key = key_of(&job, &command)?;
    asker.own(move |book, client| book.command_view(client, key)).await.map(Json)
}

pub(super) async fn add(Path(job): Path<String>, post: Post) -> Result<Response, Problem> {
    let job: JobId = read_id(&job, "job")?;
    let request: CommandRequest = post.read()?;
    let ask = move |book: &mut Book, client: &str, at| book.command(client, job, request, at);
    post.act(StatusCode::CREATED, ask).await
}

pub(super) async fn cancel(
    Path((job, command)): Path<(String, String)>,
    post: Post,
) -> Result<Response, Problem> {
    let key = key_of(&job, &command)?;
    post.act(StatusCode::OK, move |book, client, at| book.cancel_command(client, key, at)).await
}

pub(super) async fn deliveries(
    asker: Asker,
    Path(job): Path<String>,
    query: Result<Query<DeliveriesQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
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
    let found = asker.own(move |book, client| book.deliveries(client, job, &filter)).await?;
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
