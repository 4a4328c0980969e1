//! Connections to sources: frames of a content come in, verified units go to the store.
//!
//! ```text
//! connect -> first frame -> wait for Use -> append each frame -> whole
//!                 '---------- events to the agent ----------'
//! ```
//! Invariants: before [`Links::use_link`] no frame of a link is taken; a link that is closed ends
//! between two frames. Bound: one task a link; it reads no further than it appends, so that a slow
//! disk or the cap on downloads holds up its source.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Event;
use super::channel::Channel;
use crate::dist::agent::Failure;
use crate::dist::fetch::{AskId, LinkEvent, LinkId, Part};
use crate::dist::ids::{ContentId, JobId, NodeName};
use crate::dist::units::{Frame, FrameReader, UNIT_BYTES, UnitError};
use crate::dist::wire::agent::Source;
use crate::dist::wire::peer::{Behind, ContentState, NoRoom};
use crate::store::{Appended, Content, RateLimit, StoreError};

/// All links of a node.
#[derive(Debug)]
pub(super) struct Links {
    channel: Channel,
    /// URL of the base.
    base: String,
    /// Where this node serves others.
    port: u16,
    /// The cap on downloads.
    limit: Arc<RateLimit>,
    /// Caps of jobs.
    jobs: BTreeMap<JobId, Arc<RateLimit>>,
    /// Bytes that came.
    received: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
    open: HashMap<(ContentId, LinkId), Open>,
}

/// A link whose task may run.
#[derive(Debug)]
struct Open {
    wanted: watch::Sender<Wanted>,
    content: Arc<Content>,
    source: Option<NodeName>,
    /// A further source: it is not where the content comes from.
    is_spare: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Wait,
    Use,
    Close,
}

impl Links {
    pub(super) fn new(
        channel: Channel,
        (base, port): (String, u16),
        limit: Arc<RateLimit>,
        received: Arc<AtomicU64>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (jobs, open) = (BTreeMap::new(), HashMap::new());
        Self { channel, base, port, limit, jobs, received, events, open }
    }

    /// The base is elsewhere now.
    pub(super) fn move_base(&mut self, url: &str) {
        url.clone_into(&mut self.base);
    }

    /// A job may take so many bytes per second; links that are open keep to it too.
    pub(super) fn set_limit(&mut self, job: JobId, rate: Option<u64>) {
        self.limit_of(job).set(rate);
    }

    /// The cap of a job. Those that are none, and nobody has, are let go.
    fn limit_of(&mut self, job: JobId) -> Arc<RateLimit> {
        self.jobs.retain(|_, limit| limit.rate().is_some() || Arc::strong_count(limit) > 1);
        Arc::clone(self.jobs.entry(job).or_insert_with(|| Arc::new(RateLimit::new(None))))
    }

    /// Opens a link for a content, of the job whose cap counts.
    pub(super) fn connect(
        &mut self,
        (content, job): (Arc<Content>, Option<JobId>),
        id: LinkId,
        source: &Source,
        (from, part, is_slow): (u64, Option<Part>, bool),
    ) {
        let from = from.max(content.have());
        if part.and_then(|part| part.to).is_some_and(|to| to <= from) {
            // It came from elsewhere meanwhile.
            let (content, events) = (content.id(), self.events.clone());
            let done = Event::Link { content, link: id, event: LinkEvent::Done };
            tokio::spawn(async move { events.send(done).await.ok() });
            return;
        }
        let mut path = format!("units?from={from}&port={}", self.port);
        if let Some(to) = part.and_then(|part| part.to) {
            path.push_str("&to=");
            path.push_str(&to.to_string());
        }
        let is_spare = part.is_some_and(|part| part.is_spare);
        if is_spare {
            path.push_str("&spare=true");
        } else if let Some(node) = self.source_of(content.id()) {
            path.push_str("&leaves=");
            path.push_str(node.as_str());
            path.push_str(if is_slow { "&slow=true" } else { "" });
        }
        let (wanted, control) = watch::channel(Wanted::Wait);
        let (held, node) = (Arc::clone(&content), source.node.clone());
        self.open
            .insert((content.id(), id), Open { wanted, content: held, source: node, is_spare });
        let request = self.channel.own().get(self.url(source, content.id(), &path));
        let mut limits = vec![Arc::clone(&self.limit)];
        limits.extend(job.map(|job| self.limit_of(job)));
        let link = Link {
            id,
            content,
            limits,
            received: Arc::clone(&self.received),
            events: self.events.clone(),
            control,
            part,
            at: from,
            untold: 0,
            told_at: Instant::now(),
        };
        tokio::spawn(link.run(request.bearer_auth(&source.capability).send()));
    }

    /// The node from which a content comes now.
    fn source_of(&self, content: ContentId) -> Option<&NodeName> {
        let links = self.open.iter().filter(|((of, _), _)| *of == content);
        let is_main = |open: &Open| *open.wanted.borrow() == Wanted::Use && !open.is_spare;
        let mut used = links.filter(|(_, open)| is_main(open));
        used.next().and_then(|(_, open)| open.source.as_ref())
    }

    pub(super) fn use_link(&self, content: ContentId, link: LinkId) {
        if let Some(Open { wanted, content, source, is_spare }) = self.open.get(&(content, link)) {
            if *is_spare {
                wanted.send_replace(Wanted::Use);
                return;
            }
            content.set_via(source.iter().cloned().collect());
            wanted.send_replace(Wanted::Use);
        }
    }

    pub(super) fn close(&mut self, content: ContentId, link: LinkId) {
        if let Some(open) = self.open.remove(&(content, link)) {
            open.wanted.send_replace(Wanted::Close);
        }
    }

    /// Asks a source how much it has.
    pub(super) fn ask(&self, content: ContentId, ask: AskId, source: &Source) {
        let request = self.channel.own().get(self.url(source, content, "state"));
        let request = request.bearer_auth(&source.capability).timeout(STATE_MAX);
        let events = self.events.clone();
        tokio::spawn(async move {
            let state = async {
                let response = request.send().await.ok()?.error_for_status().ok()?;
                response.json::<ContentState>().await.ok()
            };
            let state = state.await;
            let _agent_ended = events.send(Event::State { content, ask, state }).await;
        });
    }

    fn url(&self, source: &Source, content: ContentId, what: &str) -> String {
        let at_node = source.node.as_ref().map(|node| self.channel.url_of(node, &source.addr));
        let root = at_node.unwrap_or_else(|| self.base.clone());
        format!("{root}/peer/v1/contents/{content}/{what}")
    }
}

/// How a link ended.
enum End {
    /// For the agent.
    Event(LinkEvent),
    /// The store does not take its bytes.
    Unwritable(StoreError),
    /// It was closed.
    Closed,
}

struct Link {
    id: LinkId,
    content: Arc<Content>,
    /// Of its job and of the node.
    limits: Vec<Arc<RateLimit>>,
    received: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
    control: watch::Receiver<Wanted>,
    /// What was asked for, if not all.
    part: Option<Part>,
    /// The byte behind the last unit.
    at: u64,
    /// Bytes that were appended and not told.
    untold: u64,
    told_at: Instant,
}

impl Link {
    async fn run(mut self, request: impl Future<Output = reqwest::Result<Response>>) {
        let mut control = self.control.clone();
        let opened = tokio::select! {
            opened = timeout(ANSWER_MAX, request) => opened,
            () = closed(&mut control) => return,
        };
        let is_unreachable = matches!(&opened, Ok(Err(error)) if error.is_connect());
        let mut response = opened.ok().and_then(Result::ok);
        let end = match &mut response {
            Some(response) => match refusal(response) {
                None => self.read(response).await,
                Some(event) => {
                    if matches!(event, LinkEvent::Busy { .. }) {
                        self.say_others(response).await;
                    }
                    if response.status() == StatusCode::CONFLICT && self.part.is_some() {
                        let text = refusal_text(response).await;
                        let Behind { have } =
                            serde_json::from_slice(&text).unwrap_or(Behind { have: 0 });
                        End::Event(LinkEvent::Behind { have })
                    } else {
                        End::Event(event)
                    }
                }
            },
            None if is_unreachable => End::Event(LinkEvent::Unreachable),
            None => End::Event(LinkEvent::Lost),
        };
        self.tell().await;
        let content = self.content.id();
        match end {
            End::Event(event) => self.say(event).await,
            End::Unwritable(error) => {
                let failure = Failure { reason: error.reason(), detail: error.to_string() };
                let _ended = self.events.send(Event::Unwritable { content, failure }).await;
            }
            End::Closed => return,
        }
        if let Some(response) = response {
            finish(response).await;
        }
    }

    async fn read(&mut self, response: &mut Response) -> End {
        let mut control = self.control.clone();
        let mut frames = FrameReader::new();
        let mut is_first = true;
        loop {
            loop {
                let frame = match frames.next_frame() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(_) => return self.bad_unit(),
                };
                if std::mem::take(&mut is_first) {
                    self.say(LinkEvent::FirstByte).await;
                    let is_decided = |wanted: &Wanted| *wanted != Wanted::Wait;
                    let _agent_ended = control.wait_for(is_decided).await;
                }
                if *control.borrow() != Wanted::Use {
                    return End::Closed;
                }
                self.take(frame.encoded().len() as u64).await;
                if *control.borrow() != Wanted::Use {
                    return End::Closed;
                }
                if let Some(end) = self.append(frame).await {
                    return end;
                }
            }
            let chunk = tokio::select! {
                chunk = timeout(TELL_EVERY, response.chunk()) => chunk,
                () = closed(&mut control) => return End::Closed,
            };
            match chunk {
                Ok(Ok(Some(bytes))) => {
                    self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    frames.push(bytes);
                }
                Ok(Ok(None) | Err(_)) => return End::Event(LinkEvent::Lost),
                // Nothing came for a moment: what came before is told.
                Err(_) => self.tell().await,
            }
        }
    }

    /// Gives a frame to the store. Gives how the link ends, where it does.
    async fn append(&mut self, frame: Frame) -> Option<End> {
        let bytes = match &frame {
            Frame::Unit(unit) => {
                let bytes = unit.bytes().len() as u64;
                self.at = unit.number() * UNIT_BYTES + bytes;
                bytes
            }
            Frame::Hashes(_) | Frame::End(_) => 0,
        };
        let is_end = matches!(frame, Frame::End(_));
        let appended = match self.part {
            Some(_) => self.content.append_part(frame).await,
            None => self.content.append_frame(frame).await,
        };
        match appended {
            Ok(Appended::Unit { .. } | Appended::Ahead) => self.grew(bytes).await,
            Ok(Appended::Hashes) => {}
            Ok(Appended::End(_) | Appended::Known) => {
                let end = self.content.end();
                if end.is_some_and(|end| end.size == self.content.have()) {
                    return Some(End::Event(LinkEvent::Whole));
                }
                // Other parts of the content are missing.
                if is_end {
                    return Some(End::Event(LinkEvent::Done));
                }
            }
            // It was asked for when more was expected to be here by now.
            Err(StoreError::Frames(UnitError::TooFar { .. })) => {
                return Some(End::Event(LinkEvent::Lost));
            }
            Err(StoreError::BadUnit { unit }) => {
                return Some(End::Event(LinkEvent::BadUnit { unit }));
            }
            Err(StoreError::BadSignature | StoreError::Frames(_)) => return Some(self.bad_unit()),
            Err(StoreError::Removed) => return Some(End::Closed),
            Err(error) => return Some(End::Unwritable(error)),
        }
        let is_done = self.part.and_then(|part| part.to).is_some_and(|to| self.at >= to);
        is_done.then_some(End::Event(LinkEvent::Done))
    }

    /// Waits until the caps let `bytes` in. Meanwhile the agent hears that they are there.
    async fn take(&self, bytes: u64) {
        for limit in &self.limits {
            let mut passed = pin!(limit.take(bytes));
            while timeout(HELD_EVERY, passed.as_mut()).await.is_err() {
                self.say(LinkEvent::Held).await;
            }
        }
    }

    /// A frame that cannot be read, or is not signed: the unit that would have been next.
    fn bad_unit(&self) -> End {
        End::Event(LinkEvent::BadUnit { unit: self.content.have() / UNIT_BYTES })
    }

    async fn grew(&mut self, bytes: u64) {
        self.untold += bytes;
        if self.untold >= TELL_BYTES || self.told_at.elapsed() >= TELL_EVERY {
            self.tell().await;
        }
    }

    async fn tell(&mut self) {
        if self.untold == 0 {
            return;
        }
        let bytes = std::mem::take(&mut self.untold);
        let ms = u64::try_from(self.told_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.part.is_none_or(|part| !part.is_spare) {
            self.content.set_rate(bytes.saturating_mul(1_000) / ms.max(1));
        }
        self.told_at = Instant::now();
        let (have, at) = (self.content.have(), self.at);
        self.say(LinkEvent::Grew { have, bytes, at }).await;
    }

    /// Whom a source that has no room names instead.
    async fn say_others(&self, response: &mut Response) {
        let body = refusal_text(response).await;
        let NoRoom { mut alternatives } = serde_json::from_slice(&body).unwrap_or_default();
        alternatives.retain(|other| other.addr.parse::<SocketAddr>().is_ok());
        alternatives.truncate(ALTERNATIVES_MAX);
        if !alternatives.is_empty() {
            let (content, link) = (self.content.id(), self.id);
            let event = Event::Alternatives { content, link, others: alternatives };
            let _agent_ended = self.events.send(event).await;
        }
    }

    async fn say(&self, event: LinkEvent) {
        let event = Event::Link { content: self.content.id(), link: self.id, event };
        let _agent_ended = self.events.send(event).await;
    }
}

/// Reads what is left behind the last frame, so that the connection serves the next content.
async fn finish(mut response: Response) {
    for _ in 0..REST_PIECES_MAX {
        match timeout(REST_MAX, response.chunk()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        }
    }
}

/// The text of a refusal, as far as it is read.
async fn refusal_text(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < REFUSAL_BYTES_MAX
        && let Ok(Ok(Some(bytes))) = timeout(REST_MAX, response.chunk()).await
    {
        body.extend_from_slice(&bytes);
    }
    body
}

/// What an answer without frames means.
fn refusal(response: &Response) -> Option<LinkEvent> {
    match response.status() {
        StatusCode::OK => None,
        StatusCode::NOT_FOUND => Some(LinkEvent::NotYet),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::GONE => {
            Some(LinkEvent::Refused)
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            let seconds = response.headers().get(RETRY_AFTER);
            let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
            let retry_after = seconds.map_or(BUSY, Duration::from_secs);
            Some(LinkEvent::Busy { retry_after })
        }
        _ => Some(LinkEvent::Lost),
    }
}

/// Until the link is closed, or the agent has ended.
async fn closed(control: &mut watch::Receiver<Wanted>) {
    let _agent_ended = control.wait_for(|wanted| *wanted == Wanted::Close).await;
}

/// For the head of an answer: a source that knows nothing of a content yet waits a while for it.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// For a state. A source that is alive answers within a round trip.
const STATE_MAX: Duration = Duration::from_millis(700);
/// For the end of an answer.
const REST_MAX: Duration = Duration::from_millis(500);
/// Pieces of an answer behind its last frame, or of the text of a refusal.
const REST_PIECES_MAX: usize = 4;
/// Text of a refusal that is read, and sources that are taken of it.
const REFUSAL_BYTES_MAX: usize = 16 << 10;
const ALTERNATIVES_MAX: usize = 8;
/// A source that is busy and does not say for how long.
const BUSY: Duration = Duration::from_secs(1);
/// A unit that waits for a cap is told so often: before its source seems to have stalled.
const HELD_EVERY: Duration = Duration::from_millis(500);
/// Growth is told when it is so large,
const TELL_BYTES: u64 = 1 << 20;
/// or so old.
const TELL_EVERY: Duration = Duration::from_millis(100);
