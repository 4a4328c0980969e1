//! CTP, the transfer protocol of clients: WebDAV (RFC 4918) over what jobs have.
//!
//! ```text
//! curl, rclone, cadaver, job push
//!   PUT PATCH ------> upload ---bytes--> store      /ctp/{job}/{path}   read and write
//!   MKCOL MOVE .. --> fs ------commands-> clerk     /dav/{job}/{path}   read only, for browsers
//!   GET PROPFIND <--- tree <---commands-- clerk
//! ```
//! `dav-server` speaks the protocol; the file system below it is ours. Each write is a command of
//! the job, in the order in which the base took it. What is read is what the job has so far.
//! - `place`: which job and path. `said`: headers of uploads. `tree`: the job as folders.
//! - `fs`, `meta`: the file system. `upload`, `begin`: bytes on their way in. `resume`: PATCH and
//!   offsets. `props`: attributes as properties. `locks`, `checksum`.
//!
//! Invariants: a client sees its own jobs only. The bytes of an upload that breaks off stay, at
//! their offset, until they are continued or replaced, or the book gives the upload up.
//! Bounds: `TREES_MAX` trees, `CHECKSUMS_MAX` hashes; bodies other than uploads 64 KiB; an upload
//! holds `begin::PIECE_BYTES` in memory.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use dav_server::{DavHandler, DavMethodSet};

use super::clerk::{self, problem};
use super::jobs::auth::Access;
use super::problem::Problem;
use crate::dist::book::{Book, Refusal};
use crate::dist::ids::{ContentId, JobId, Stamp};
use crate::dist::rows::ContentRow;
use crate::dist::wire::job::CommandState;
use crate::ledger::clerk::Clerk;
use crate::metrics::distribution::DistributionCells;
use crate::store::{Content, Store};

mod begin;
mod checksum;
#[doc(hidden)]
pub mod foreign;
mod fs;
mod locks;
mod meta;
mod place;
mod props;
mod resume;
mod said;
mod tree;
mod upload;

use checksum::Checksum;
use fs::Asked;
use locks::Locks;
use place::Place;
use said::Said;
use tree::Tree;

/// What requests share.
pub struct Ctp {
    access: Access,
    clerk: Clerk,
    store: Store,
    cells: Arc<DistributionCells>,
    locks: Locks,
    trees: Mutex<HashMap<JobId, JobTree>>,
    checksums: Mutex<Checksums>,
}

/// The tree of a job, and what it was folded from.
#[derive(Debug, Clone)]
struct JobTree {
    tree: Arc<Mutex<Tree>>,
    cancelled: u64,
    used: Instant,
}

/// Hashes that clients named and uploads had, the newest last.
#[derive(Debug, Default)]
struct Checksums {
    known: HashMap<ContentId, Vec<Checksum>>,
    order: VecDeque<ContentId>,
}

impl Ctp {
    /// Serves what jobs have, from the clerk's book and the store of contents.
    #[must_use]
    pub fn new(access: Access, clerk: Clerk, store: Store, cells: Arc<DistributionCells>) -> Self {
        let (trees, checksums) = (Mutex::default(), Mutex::default());
        Self { access, clerk, store, cells, locks: Locks::default(), trees, checksums }
    }

    /// Asks the book.
    async fn ask<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Book, Stamp) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        clerk::ask(&self.clerk, f).await
    }

    /// Asks the book for what it may refuse.
    async fn try_ask<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Book, Stamp) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        clerk::try_ask(&self.clerk, f).await
    }

    /// The tree of a job as it is now.
    async fn tree(&self, client: &str, job: JobId) -> Result<Arc<Mutex<Tree>>, Problem> {
        let mut known = lock(&self.trees).get(&job).cloned().unwrap_or_else(JobTree::new);
        loop {
            let (after, client) = (lock(&known.tree).last(), client.to_owned());
            let asked = move |book: &mut Book, _: Stamp| {
                let rows = book.commands(&client, job, after, COMMANDS_PAGE)?;
                Ok((rows, book.cancelled_commands(job)))
            };
            let (rows, cancelled) = self.try_ask(asked).await?;
            if cancelled != known.cancelled && after.is_some() {
                known = JobTree { cancelled, ..JobTree::new() };
                continue;
            }
            known.cancelled = cancelled;
            let is_all = rows.len() < COMMANDS_PAGE;
            let mut tree = lock(&known.tree);
            // Another request may have been here meanwhile.
            for (row, state) in &rows {
                if Some(row.key.command) > tree.last() {
                    tree.apply(row, *state == CommandState::Cancelled);
                }
            }
            drop(tree);
            if is_all {
                break;
            }
        }
        known.used = Instant::now();
        let tree = Arc::clone(&known.tree);
        let mut trees = lock(&self.trees);
        trees.insert(job, known);
        if trees.len() > TREES_MAX {
            let oldest = trees.iter().min_by_key(|(_, tree)| tree.used).map(|(job, _)| *job);
            oldest.map(|job| trees.remove(&job));
        }
        Ok(tree)
    }

    /// The row and the bytes of a content, as far as they are there.
    async fn content(
        &self,
        id: ContentId,
    ) -> Result<(Option<ContentRow>, Option<Arc<Content>>), Problem> {
        let row = self.ask(move |book, _| book.content(id).cloned()).await?;
        Ok((row, self.store.get(id)))
    }

    fn keep_checksums(&self, content: ContentId, found: Vec<Checksum>) {
        let mut checksums = lock(&self.checksums);
        if checksums.known.insert(content, found).is_none() {
            checksums.order.push_back(content);
        }
        if checksums.order.len() > CHECKSUMS_MAX {
            let oldest = checksums.order.pop_front();
            oldest.map(|content| checksums.known.remove(&content));
        }
    }

    fn checksums(&self, content: ContentId) -> Vec<Checksum> {
        lock(&self.checksums).known.get(&content).cloned().unwrap_or_default()
    }
}

impl fmt::Debug for Ctp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctp").finish_non_exhaustive()
    }
}

impl JobTree {
    fn new() -> Self {
        Self { tree: Arc::default(), cancelled: 0, used: Instant::now() }
    }
}

/// The routes `/ctp/..` and `/dav/..`.
pub fn router(ctp: Arc<Ctp>) -> Router {
    let write = any(async |State(ctp): State<Arc<Ctp>>, request: Request| {
        serve(ctp, "/ctp", request).await
    });
    let read = any(async |State(ctp): State<Arc<Ctp>>, request: Request| {
        serve(ctp, "/dav", request).await
    });
    Router::new()
        .route("/ctp", write.clone())
        .route("/ctp/", write.clone())
        .route("/ctp/{*path}", write)
        .route("/dav", read.clone())
        .route("/dav/", read.clone())
        .route("/dav/{*path}", read)
        .with_state(ctp)
}

async fn serve(ctp: Arc<Ctp>, prefix: &'static str, request: Request) -> Result<Response, Problem> {
    let client = ctp.access.client(request.headers())?.as_str().to_owned();
    let place = Place::of_url(request.uri().path(), prefix);
    let (path, place) = place.map_err(|error| Problem::bad_request(error.to_string()))?;
    let is_writing = prefix == "/ctp";
    match request.method().as_str() {
        "PATCH" if is_writing => resume::append(&ctp, &client, &path, place, request).await,
        "PROPPATCH" if is_writing => props::patch(&ctp, &client, &path, place, request).await,
        _ => dav(ctp, client, prefix, request).await,
    }
}

/// Has `dav-server` answer, over our file system.
async fn dav(
    ctp: Arc<Ctp>,
    client: String,
    prefix: &'static str,
    request: Request,
) -> Result<Response, Problem> {
    let said = match *request.method() {
        Method::PUT => Said::read(request.headers()),
        _ => Ok(Said::default()),
    };
    let said = said.map_err(|error| Problem::bad_request(error.to_string()))?;
    let method = request.method().clone();
    let (request, is_naming) = props::read_names(request).await?;
    let asked = Asked::new(Arc::clone(&ctp), client.clone(), method.clone(), said, is_naming);
    let methods = match prefix {
        "/ctp" => DavMethodSet::WEBDAV_RW,
        _ => DavMethodSet::WEBDAV_RO,
    };
    let handler = DavHandler::<Asked>::builder()
        .filesystem(Box::new(fs::JobFs))
        .locksystem(Box::new(ctp.locks.clone()))
        .strip_prefix(prefix)
        .methods(methods)
        .autoindex(true)
        .read_buf_size(READ_BYTES)
        .build_handler();
    let response = handler.handle_guarded(request, client, asked.clone()).await;
    let is_failed = response.status().is_client_error() || response.status().is_server_error();
    if let Some(problem) = asked.take_problem().filter(|_| is_failed) {
        // What `dav-server` says about the connection still holds: the body may be unread.
        let mut answer = problem.into_response();
        if let Some(connection) = response.headers().get(header::CONNECTION) {
            answer.headers_mut().insert(header::CONNECTION, connection.clone());
        }
        return Ok(answer);
    }
    let mut response = response.map(Body::new);
    if let Some(outcome) = asked.take_outcome().filter(|_| !is_failed) {
        outcome.tell(method == Method::PUT, &mut response);
    }
    Ok(response)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs to its end even if the request that wants it is gone.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::spawn(work).await;
    done.map_err(|_ended| Problem::unavailable("the base ends"))
}

/// Jobs that clients write to at once; another is folded anew.
const TREES_MAX: usize = 64;
/// Hashes of rclone, 100 bytes each.
const CHECKSUMS_MAX: usize = 100_000;
/// Commands that are taken over in one question.
const COMMANDS_PAGE: usize = 1_000;
/// Bytes read for one piece of an answer.
const READ_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests;
