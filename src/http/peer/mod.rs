//! Contents for other nodes: the routes of `dist::wire::peer`.
//!
//! ```text
//! GET .../units --capability--> content (waited for) --slot--> frames --cap--> connection
//! ```
//! A base and every node have these routes. A stream goes on for as long as its content grows. A
//! node has those of `hand`, too: orders that other nodes hand on.
//! Invariant: bytes go out only to whoever shows a capability of the base for this content, with
//! TLS only to the node that it names, known by its certificate; a child that reads slowly is
//! served from the disk and holds up neither the intake nor its siblings.
//! Bounds: [`PeerOptions::children_max`] nodes at once, with [`PeerOptions::fits_uplink`] no more
//! than the uplink has room for, `slots::STREAMS_MAX` streams; beyond that 503 with `Retry-After`,
//! and nodes that have more than who asks. All streams together keep to [`PeerOptions::upload`],
//! and take turns there by the weight of their jobs.

mod hand;
pub mod range;
mod slots;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Bearers;
use super::caller::Caller;
use super::problem::Problem;
use crate::dist::ids::{ContentId, JobId, NodeName};
use crate::dist::wire::peer::{Capability, ContentState, UNITS_TYPE};
use crate::store::{Content, Store, Upload};
pub use hand::router as hand_router;
use slots::{Lane, Slot, Slots, Wish};

/// Is told of bytes of a content as they go out.
pub type Sent = Arc<dyn Fn(ContentId, u64) + Send + Sync>;

/// What the routes work with.
pub struct PeerOptions {
    /// Where contents are.
    pub store: Store,
    /// Nodes that are served at once.
    pub children_max: usize,
    /// Fewer where the uplink has no room for more (`dist::fanout`). The base is everyone's last
    /// source: it serves as many as may be.
    pub fits_uplink: bool,
    /// What all bytes go out through: jobs share it.
    pub upload: Upload,
    /// Counts bytes.
    pub sent: Sent,
    /// Who may use a capability.
    pub bearers: Bearers,
}

/// Shared by all requests.
#[derive(Clone)]
pub struct PeerState {
    store: Store,
    slots: Slots,
    upload: Upload,
    sent: Sent,
    bearers: Bearers,
}

/// `?from=OFFSET&leaves=NODE&slow=true&port=PORT&to=OFFSET&spare=true`.
#[derive(Debug, Deserialize)]
struct UnitsQuery {
    #[serde(default)]
    from: u64,
    /// From whom the node fetches now, and would not any more.
    leaves: Option<NodeName>,
    /// It gives less than it gets.
    #[serde(default)]
    slow: bool,
    /// Where the node serves others, at the address that the request comes from.
    #[serde(default)]
    port: u16,
    /// The byte behind the part that is asked for.
    to: Option<u64>,
    /// The node has another source for the rest.
    #[serde(default)]
    spare: bool,
}

/// The routes.
pub fn router(state: PeerState) -> Router {
    Router::new()
        .route("/peer/v1/contents/{content}", get(whole))
        .route("/peer/v1/contents/{content}/state", get(content_state))
        .route("/peer/v1/contents/{content}/units", get(units))
        .with_state(state)
}

impl PeerState {
    /// Nobody is served yet.
    #[must_use]
    pub fn new(options: PeerOptions) -> Self {
        let PeerOptions { store, children_max, fits_uplink, upload, sent, bearers } = options;
        let cap = upload.clone();
        let uplink = fits_uplink.then(|| Box::new(move || cap.rate()) as slots::Uplink);
        Self { store, slots: Slots::new(children_max, uplink), upload, sent, bearers }
    }

    /// Changes how many nodes are served at once; those that are stay.
    pub fn set_children_max(&self, children_max: usize) {
        self.slots.set_children_max(children_max);
    }

    /// Nodes that are served now.
    #[must_use]
    pub fn children(&self) -> usize {
        self.slots.children()
    }

    /// Who asks, if a capability of the base lets it have the content.
    fn authorize(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        content: &str,
    ) -> Result<Capability, Problem> {
        let id: ContentId = content.parse().map_err(|_| Problem::not_found("no such content"))?;
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let Some(token) = token else {
            let detail = "a capability of the base is needed: Authorization: Bearer CAPABILITY";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
        };
        let admitted = self.store.verify_key().admit(token.trim(), id, utc_s());
        let capability = admitted.map_err(|error| Problem::forbidden(error.to_string()))?;
        self.bearers.check(caller, &capability.node)?;
        Ok(capability)
    }

    /// The content, waited for until `patience` is over.
    async fn content(&self, id: ContentId, patience: Duration) -> Result<Arc<Content>, Problem> {
        if self.store.was_removed(id) {
            return Err(Problem::new(StatusCode::GONE, "the content was removed here"));
        }
        let found = self.store.wait_for(id, patience).await;
        found.ok_or_else(|| Problem::not_found("this server does not have that content"))
    }

    fn slot(&self, wish: &Wish) -> Result<Slot, Problem> {
        self.slots.take(wish).map_err(|others| {
            let busy = "as many nodes are served as this server may serve; take another source";
            Problem::unavailable(busy).with("alternatives", json!(others))
        })
    }

    /// A body of `pieces` that keeps to the cap, is counted, and ends when its slot is lost.
    fn body(
        &self,
        (id, job): (ContentId, Option<JobId>),
        slot: Slot,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Body {
        let (upload, sent) = (self.upload.clone(), Arc::clone(&self.sent));
        let start = (Box::pin(pieces), slot);
        Body::from_stream(futures_util::stream::try_unfold(start, move |(mut pieces, slot)| {
            let (upload, sent) = (upload.clone(), Arc::clone(&sent));
            async move {
                let Some(bytes) = next_piece(pieces.as_mut(), slot.lost()).await? else {
                    slot.set_fed();
                    return Ok(None);
                };
                let len = bytes.len() as u64;
                slot.set_waiting(true);
                let may_leave = async {
                    slot.give_way().await;
                    upload.take_as(slot.rank(), job, len).await;
                };
                tokio::select! {
                    () = may_leave => {}
                    () = slot.lost().cancelled() => return Err(lost_place()),
                }
                slot.set_waiting(false);
                slot.count(len);
                sent(id, len);
                Ok::<_, io::Error>(Some((bytes, (pieces, slot))))
            }
        }))
    }
}

impl fmt::Debug for PeerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerOptions")
            .field("children_max", &self.children_max)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerState").field("slots", &self.slots).finish_non_exhaustive()
    }
}

async fn units(
    State(state): State<PeerState>,
    caller: Caller,
    Path(content): Path<String>,
    query: Result<Query<UnitsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let capability = state.authorize(&caller, &headers, &content)?;
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let content = state.content(capability.content, PATIENCE).await?;
    if let Some(end) = content.end().filter(|end| query.from > end.size) {
        let detail = format!("from={} is behind the end, {}", query.from, end.size);
        return Err(Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail));
    }
    let Capability { node, job, .. } = capability;
    let UnitsQuery { from, leaves, slow, port, to, spare } = query;
    let to = to.unwrap_or(u64::MAX);
    // Who has another source does not wait here for bytes to come.
    let have = content.have();
    if spare && (to > have || from >= to) {
        let behind = Problem::conflict("not all of that part is here yet");
        return Err(behind.with("have", json!(have)));
    }
    let lane = match (spare, to) {
        (true, _) => Lane::Spare(from),
        (false, u64::MAX) => Lane::Main,
        (false, _) => Lane::Part,
    };
    let slot = state.slot(&Wish {
        node,
        content: content.id(),
        job,
        from,
        lane,
        leaves,
        is_slow: slow,
        addr: caller.server(port),
    })?;
    let body = state.body((content.id(), job), slot, content.frames_until(from, to));
    Ok(([(header::CONTENT_TYPE, UNITS_TYPE)], body).into_response())
}

async fn content_state(
    State(state): State<PeerState>,
    caller: Caller,
    Path(content): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ContentState>, Problem> {
    let capability = state.authorize(&caller, &headers, &content)?;
    let content = state.content(capability.content, STATE_PATIENCE).await?;
    let (node, id) = (&capability.node, content.id());
    let is_held = state.slots.gives_way(node, id)
        || state.slots.waits(node, id) && state.upload.holds(capability.job);
    Ok(Json(ContentState { is_held, ..content.peer_state() }))
}

async fn whole(
    State(state): State<PeerState>,
    caller: Caller,
    Path(content): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let capability = state.authorize(&caller, &headers, &content)?;
    let content = state.content(capability.content, PATIENCE).await?;
    let Some(end) = content.end() else {
        return Err(Problem::conflict("the content is not whole yet; ask for its units"));
    };
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = range::parse(asked, end.size).map_err(|range::Unsatisfiable| {
        let detail = format!("the content has {} bytes", end.size);
        Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail)
    })?;
    let (status, range) = match range {
        Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        None => (StatusCode::OK, 0..end.size),
    };
    let Capability { node, job, .. } = capability;
    let (from, id) = (range.start, content.id());
    let lane = Lane::Main;
    let wish =
        Wish { node, content: id, job, from, lane, leaves: None, is_slow: false, addr: None };
    let slot = state.slot(&wish)?;
    let body = state.body((id, job), slot, content.bytes(range.clone()));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let text = |text: String| HeaderValue::from_str(&text).ok();
    if let Some(etag) = text(format!("\"{}\"", end.blake3)) {
        headers.insert(header::ETAG, etag);
    }
    if status == StatusCode::PARTIAL_CONTENT
        && let Some(value) =
            text(format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), end.size))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

async fn next_piece(
    mut pieces: Pin<&mut (impl Stream<Item = io::Result<Bytes>> + Send)>,
    lost: &CancellationToken,
) -> io::Result<Option<Bytes>> {
    tokio::select! {
        piece = pieces.next() => piece.transpose(),
        () = lost.cancelled() => Err(lost_place()),
    }
}

fn lost_place() -> io::Error {
    io::Error::other("a newer stream of the same node has its place")
}

fn utc_s() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}

/// Time for which a content is waited for: the order of a child may come before that of its source.
/// Shorter than the time after which a child takes a silent source for a dead one.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for a state: a child gives a source 700 ms to say how it is.
const STATE_PATIENCE: Duration = Duration::from_millis(400);
