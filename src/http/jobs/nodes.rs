//! Nodes as clients see them, and what an operator does to one.
//!
//! Every client sees all nodes, since any may be a target of its jobs.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::act::Post;
use super::ask::Asker;
use super::paging::{bad_query, limit, page, read_word};
use super::{Shared, problem};
use crate::dist::book::{Book, Refusal};
use crate::dist::ids::{NodeName, Stamp};
use crate::dist::wire::job::{NodePatch, NodeView};
use crate::http::problem::Problem;

/// `GET /v1/nodes`.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    q: Option<String>,
    after: Option<NodeName>,
    /// `None`: all.
    limit: Option<usize>,
}

/// By name: all of them, or page by page.
pub(super) async fn list(
    asker: Asker,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ListQuery { q, after, limit: asked }) = query.map_err(|r| bad_query(&r))?;
    let limit = asked.map(|asked| limit(Some(asked))).transpose()?.unwrap_or(usize::MAX - 1);
    let word = read_word(q.as_ref())?;
    let is_found = |node: &NodeView| {
        let is_behind = after.as_ref().is_none_or(|after| *after < node.node);
        let texts = || [node.node.as_str(), node.addr.as_str()];
        is_behind && word.as_ref().is_none_or(|word| word.is_in(texts()))
    };
    let mut nodes = asker.ask(|book| book.nodes()).await?;
    nodes.retain(is_found);
    nodes.truncate(limit + 1);
    Ok(Json(page("nodes", nodes, limit, |node| node.node.to_string())))
}

pub(super) async fn show(
    asker: Asker,
    Path(node): Path<String>,
) -> Result<Json<NodeView>, Problem> {
    let name = read_name(&node)?;
    let found = asker.ask(move |book| book.node(&name)).await?;
    found.map(Json).ok_or_else(|| no_node(&node))
}

pub(super) async fn drain(Path(node): Path<String>, post: Post) -> Result<Response, Problem> {
    change(post, &node, Book::drain_node).await
}

pub(super) async fn undrain(Path(node): Path<String>, post: Post) -> Result<Response, Problem> {
    change(post, &node, Book::undrain_node).await
}

pub(super) async fn query(Path(node): Path<String>, post: Post) -> Result<Response, Problem> {
    change(post, &node, Book::query_node).await
}

pub(super) async fn repair(Path(node): Path<String>, post: Post) -> Result<Response, Problem> {
    change(post, &node, Book::repair_node).await
}

pub(super) async fn activate(Path(node): Path<String>, post: Post) -> Result<Response, Problem> {
    change(post, &node, Book::activate_node).await
}

/// When the node is expected back.
pub(super) async fn patch(Path(node): Path<String>, post: Post) -> Result<Response, Problem> {
    let name = read_name(&node)?;
    let NodePatch { expected_back } = post.read()?;
    let at_ns = expected_back.as_deref().map(read_time).transpose()?;
    post.act(StatusCode::OK, move |book, _, at| book.expect_node(&name, at_ns, at)).await
}

/// UTC nanoseconds of a time as RFC 3339 has it.
fn read_time(text: &str) -> Result<i64, Problem> {
    let read = text.parse::<Timestamp>().ok();
    let at_ns = read.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    at_ns.ok_or_else(|| {
        let detail = "expected_back is a time like 2026-03-01T08:00:00Z, or null";
        problem(StatusCode::BAD_REQUEST, "bad_time", detail)
    })
}

pub(super) async fn retire(
    State(jobs): Shared,
    Path(node): Path<String>,
    post: Post,
) -> Result<Response, Problem> {
    let retired = change(post, &node, Book::retire_node).await?;
    if retired.status().is_success() {
        jobs.bearers.retire(read_name(&node)?);
    }
    Ok(retired)
}

async fn change(
    post: Post,
    node: &str,
    f: fn(&mut Book, &NodeName, Stamp) -> Result<NodeView, Refusal>,
) -> Result<Response, Problem> {
    let name = read_name(node)?;
    post.act(StatusCode::OK, move |book, _, at| f(book, &name, at)).await
}

fn read_name(node: &str) -> Result<NodeName, Problem> {
    NodeName::new(node).map_err(|_| no_node(node))
}

fn no_node(node: &str) -> Problem {
    problem(StatusCode::NOT_FOUND, "not_found", format!("there is no node `{node}`"))
}
