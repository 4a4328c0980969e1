//! Nodes as clients see them, and what an operator does to one.
//!
//! Every client sees all nodes, since any may be a target of its jobs.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use super::act::Post;
use super::{Jobs, Shared, problem, unanswered};
use crate::dist::book::{Book, Refusal};
use crate::dist::ids::{NodeName, Stamp};
use crate::dist::wire::job::NodeView;
use crate::http::problem::Problem;

pub(super) async fn list(State(jobs): Shared, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    jobs.access.client(&headers)?;
    let nodes = jobs.clerk.ask(|book, _| book.nodes()).await.map_err(unanswered)?;
    Ok(Json(json!({"nodes": nodes})))
}

pub(super) async fn show(
    State(jobs): Shared,
    Path(node): Path<String>,
    headers: HeaderMap,
) -> Result<Json<NodeView>, Problem> {
    jobs.access.client(&headers)?;
    let name = read_name(&node)?;
    let found = jobs.clerk.ask(move |book, _| book.node(&name)).await.map_err(unanswered)?;
    found.map(Json).ok_or_else(|| no_node(&node))
}

pub(super) async fn drain(
    State(jobs): Shared,
    Path(node): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let post = Post::read(&jobs, &uri, &headers, &body)?;
    change(&jobs, post, &node, Book::drain_node).await
}

pub(super) async fn undrain(
    State(jobs): Shared,
    Path(node): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let post = Post::read(&jobs, &uri, &headers, &body)?;
    change(&jobs, post, &node, Book::undrain_node).await
}

pub(super) async fn retire(
    State(jobs): Shared,
    Path(node): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let post = Post::read(&jobs, &uri, &headers, &body)?;
    change(&jobs, post, &node, Book::retire_node).await
}

async fn change(
    jobs: &Jobs,
    post: Post,
    node: &str,
    f: fn(&mut Book, &NodeName, Stamp) -> Result<NodeView, Refusal>,
) -> Result<Response, Problem> {
    let name = read_name(node)?;
    post.act(jobs, StatusCode::OK, move |book, _, at| f(book, &name, at)).await
}

fn read_name(node: &str) -> Result<NodeName, Problem> {
    NodeName::new(node).map_err(|_| no_node(node))
}

fn no_node(node: &str) -> Problem {
    problem(StatusCode::NOT_FOUND, "not_found", format!("there is no node `{node}`"))
}
