//! Events: server-sent, or by long poll.
//!
//! ```text
//! Accept: text/event-stream   id: SEQ, event: KIND, data: EventView; until the client leaves
//! else                        {"events": [..], "next": SEQ}; wait=S waits for the first one
//! ```
//! `after=SEQ`, or `Last-Event-ID` of a browser that connects again, is the last event that the
//! client has. `GET /v1/events` is the whole chain: what belongs to jobs of others is sealed there,
//! so that everyone can check the chain and nobody reads what is not theirs. `archived` says behind
//! which event it begins, where the ledger has let go of older ones.
//! Invariant: events come in the order of their numbers, none is left out.
//! Bounds: `PAGE_MAX` events a page, `WAIT_MAX`, one read of the ledger each `READ_EVERY` a client.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::ask::Asker;
use super::paging::bad_query;
use super::{problem, read_id, text_header};
use crate::dist::chain::{ChainEntry, ChainHead};
use crate::dist::ids::JobId;
use crate::dist::wire::job::EventView;
use crate::http::clerk::unanswered;
use crate::http::problem::Problem;

/// The query of both resources.
#[derive(Debug, Deserialize)]
pub(super) struct EventsQuery {
    after: Option<u64>,
    limit: Option<usize>,
    /// Seconds that a long poll waits for the first event.
    wait: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Page {
    events: Vec<ChainEntry>,
    next: u64,
    /// Of the whole chain: the last event that the base does not keep any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    archived: Option<ChainHead>,
}

pub(super) async fn of_job(
    asker: Asker,
    Path(job): Path<String>,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let job: JobId = read_id(&job, "job")?;
    // Who may not see the job is told so, in the book's words.
    asker.own(move |book, client| book.job_view(client, job).map(drop)).await?;
    answer(asker, Some(job), &headers, query).await
}

pub(super) async fn of_all(
    asker: Asker,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    answer(asker, None, &headers, query).await
}

async fn answer(
    asker: Asker,
    job: Option<JobId>,
    headers: &HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(EventsQuery { after, limit, wait }) = query.map_err(|r| bad_query(&r))?;
    let last_id = text_header(headers, "last-event-id").and_then(|id| id.parse().ok());
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let wait = wait_of(wait)?;
    if !(1..=PAGE_MAX).contains(&limit) {
        let detail = format!("limit must be 1 to {PAGE_MAX}");
        return Err(problem(StatusCode::BAD_REQUEST, "bad_query", detail));
    }
    let newest = asker.jobs.clerk.events();
    let after = last_id.or(after).unwrap_or_default();
    let mut reader = EventReader { asker, job, after, newest };
    let accepts = text_header(headers, "accept").unwrap_or_default();
    if accepts.contains("text/event-stream") {
        return Ok(server_sent(reader));
    }
    let events = reader.read(limit, Instant::now() + wait).await?;
    let archived = reader.archived().await?;
    Ok(Json(Page { events, next: reader.after, archived }).into_response())
}

/// Reads on behind the last event.
struct EventReader {
    asker: Asker,
    job: Option<JobId>,
    after: u64,
    newest: watch::Receiver<u64>,
}

impl EventReader {
    /// The next events, none when there is none until `deadline`.
    async fn read(&mut self, limit: usize, deadline: Instant) -> Result<Vec<ChainEntry>, Problem> {
        loop {
            // Before the read: what comes meanwhile is noticed.
            self.newest.mark_unchanged();
            let read = self.asker.jobs.clerk.read_events(self.job, self.after, limit).await;
            let events = read.map_err(unanswered)?;
            let read_at = Instant::now();
            if let Some(last) = events.last() {
                self.after = last.seq;
                return self.seal(events).await;
            }
            if !has_news(&mut self.newest, read_at, deadline).await {
                return Ok(Vec::new());
            }
        }
    }

    /// Behind which event the chain of the ledger begins, if not behind nothing.
    async fn archived(&self) -> Result<Option<ChainHead>, Problem> {
        if self.job.is_some() {
            return Ok(None);
        }
        let start = self.asker.own(|book, _| Ok(book.chain_start())).await?;
        Ok(Some(start).filter(|start| *start != ChainHead::START))
    }

    async fn seal(&self, events: Vec<EventView>) -> Result<Vec<ChainEntry>, Problem> {
        if self.job.is_some() {
            return Ok(events.into_iter().map(ChainEntry::Open).collect());
        }
        let sealed = self.asker.own(move |book, client| {
            let mut is_own: BTreeMap<JobId, bool> = BTreeMap::new();
            let mut may_see =
                |job: JobId| *is_own.entry(job).or_insert_with(|| book.is_job_of(client, job));
            let entry = |event: EventView| {
                if event.job.is_none_or(&mut may_see) {
                    ChainEntry::Open(event)
                } else {
                    ChainEntry::sealed(&event)
                }
            };
            Ok(events.into_iter().map(entry).collect())
        });
        sealed.await
    }
}

/// The `wait` of a query.
pub(super) fn wait_of(seconds: Option<u64>) -> Result<Duration, Problem> {
    let wait = Duration::from_secs(seconds.unwrap_or_default());
    if wait > WAIT_MAX {
        let detail = format!("wait is at most {} seconds", WAIT_MAX.as_secs());
        return Err(problem(StatusCode::BAD_REQUEST, "bad_query", detail));
    }
    Ok(wait)
}

/// Waits for a commit with events, and a little longer behind `asked_at`, so that many commits in a
/// row are one question. False: the wait is over, or the base ends.
pub(super) async fn has_news(
    newest: &mut watch::Receiver<u64>,
    asked_at: Instant,
    deadline: Instant,
) -> bool {
    let is_changed = matches!(timeout_at(deadline, newest.changed()).await, Ok(Ok(())));
    if is_changed {
        sleep_until(asked_at + READ_EVERY).await;
    }
    is_changed
}

/// Events for as long as the client stays.
fn server_sent(reader: EventReader) -> Response {
    let body = stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        let deadline = Instant::now() + KEEP_ALIVE;
        let text = match reader.read(STREAM_BATCH, deadline).await {
            Ok(events) => lines(&events),
            // The client connects again, and asks behind the last event that it has.
            Err(_) => return None,
        };
        if text.is_empty() && reader.newest.has_changed().is_err() {
            return None;
        }
        let text = if text.is_empty() { ":\n\n".to_owned() } else { text };
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), Some(reader)))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn lines(events: &[ChainEntry]) -> String {
    let mut text = String::new();
    for event in events {
        let (seq, kind) = match event {
            ChainEntry::Open(event) => (event.seq, event.kind.as_str()),
            ChainEntry::Sealed { seq, .. } => (*seq, "sealed"),
        };
        // JSON has no line breaks outside of strings, and none unescaped in them.
        let data = serde_json::to_string(event).unwrap_or_default();
        let _never = write!(text, "id: {seq}\nevent: {kind}\ndata: {data}\n\n");
    }
    text
}

const PAGE_DEFAULT: usize = 1_000;
/// As many as the clerk reads at once.
const PAGE_MAX: usize = crate::ledger::clerk::EVENTS_MAX;
/// Proxies give up later.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A comment keeps the connection in use.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events in one piece of a stream.
const STREAM_BATCH: usize = 1_000;
/// Between questions of one client that waits.
const READ_EVERY: Duration = Duration::from_millis(20);
