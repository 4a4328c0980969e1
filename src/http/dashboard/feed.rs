//! Numbers for the pages that are open, as server-sent events.
//!
//! ```text
//! every second: Reading -> Sample -> history (a ring), and one text for all feeds
//! GET /v1/feed: event history (all samples so far), then event sample, sample, ..
//! ```
//! The sampler runs whether a page is open or not, so that one that is opened shows the last
//! minutes at once. It and all feeds are tasks of the control thread.
//! Invariant: a feed holds no text of its own but what its socket has not taken. One that is
//! [`BACKLOG_MAX`] samples behind is ended and counted; a socket that takes nothing is closed by
//! `server`. A feed ends after [`LIFE_MAX`]; the browser opens another one, and shows its token
//! again.
//! Bounds: [`feeds_max`] feeds, [`HISTORY_MAX`] samples.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::sample::{Reading, Sample};
use crate::http::problem::Problem;
use crate::metrics::cells::ADMIN;
use crate::metrics::exposition::CellSet;

/// What feeds and the sampler share. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::http) struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    history: Mutex<VecDeque<Arc<Sample>>>,
    news: broadcast::Sender<Bytes>,
    slots: Arc<Semaphore>,
    feeds_max: usize,
    shutdown: watch::Receiver<bool>,
}

impl Feed {
    /// Without a sample, for `feeds_max` feeds. They end when `shutdown` becomes true.
    pub(in crate::http) fn new(shutdown: watch::Receiver<bool>, feeds_max: usize) -> Self {
        Self(Arc::new(Shared {
            history: Mutex::default(),
            news: broadcast::Sender::new(BACKLOG_MAX),
            slots: Arc::new(Semaphore::new(feeds_max)),
            feeds_max,
            shutdown,
        }))
    }

    /// Reads `cells` every second, until `shutdown`.
    pub(in crate::http) async fn sample(self, cells: impl Fn() -> CellSet) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = self.0.shutdown.clone();
        let mut before: Option<(Reading, Instant)> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ended = shutdown.wait_for(|stop| *stop) => return,
            }
            let (reading, now) = (Reading::take(&cells()), Instant::now());
            if let Some((earlier, at)) = &before {
                let at_ms = Timestamp::now().as_millisecond();
                self.publish(reading.since(earlier, now - *at, at_ms));
            }
            before = Some((reading, now));
        }
    }

    fn publish(&self, sample: Sample) {
        let sample = Arc::new(sample);
        let text = event("sample", &*sample);
        let mut history = self.0.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY_MAX {
            history.pop_front();
        }
        history.push_back(sample);
        // With the lock: a page that comes now has the sample in its history, or hears of it.
        let _nobody_looks = self.0.news.send(text);
    }

    /// The samples so far, and those to come.
    fn subscribe(&self) -> (Bytes, broadcast::Receiver<Bytes>) {
        let history = self.0.history.lock().unwrap_or_else(PoisonError::into_inner);
        let samples: Vec<&Sample> = history.iter().map(|sample| &**sample).collect();
        (event("history", &samples), self.0.news.subscribe())
    }
}

/// Opens a feed.
pub(super) async fn open(State(feed): State<Feed>) -> Result<Response, Problem> {
    let Ok(slot) = Arc::clone(&feed.0.slots).try_acquire_owned() else {
        ADMIN.feeds_refused.add(1);
        return Err(Problem::unavailable(format!(
            "{} pages are open already; close one, or wait",
            feed.0.feeds_max
        )));
    };
    let (history, news) = feed.subscribe();
    let end = Instant::now() + LIFE_MAX;
    let reader = Reader { open: Open::new(slot), news, shutdown: feed.0.shutdown.clone(), end };
    let first = stream::iter([Ok::<_, Infallible>(history)]);
    let rest = stream::unfold(reader, |mut reader| async move {
        let text = reader.next().await?;
        Some((Ok(text), reader))
    });
    let mut response = Body::from_stream(stream::StreamExt::chain(first, rest)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A feed that is open.
struct Reader {
    open: Open,
    news: broadcast::Receiver<Bytes>,
    shutdown: watch::Receiver<bool>,
    end: Instant,
}

impl Reader {
    /// The next text; `None` ends the feed.
    async fn next(&mut self) -> Option<Bytes> {
        let heard = tokio::select! {
            heard = self.news.recv() => heard,
            _ended = self.shutdown.wait_for(|stop| *stop) => return None,
            () = sleep_until(self.end) => return None,
        };
        match heard {
            Ok(text) => Some(text),
            Err(RecvError::Lagged(_)) => {
                self.open.is_slow = true;
                None
            }
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // A socket that took nothing was closed before the feed could hear that it is behind.
        self.open.is_slow |= self.news.len() >= BACKLOG_MAX;
    }
}

/// The place of a feed, while it is open.
struct Open {
    _slot: OwnedSemaphorePermit,
    is_slow: bool,
}

impl Open {
    fn new(slot: OwnedSemaphorePermit) -> Self {
        ADMIN.feeds.add(1);
        Self { _slot: slot, is_slow: false }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        ADMIN.feeds.sub(1);
        if self.is_slow {
            ADMIN.feeds_dropped.add(1);
        }
    }
}

/// Text of one event: JSON has no line breaks outside of strings, and none unescaped in them.
fn event(kind: &str, data: &impl serde::Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(format!("event: {kind}\ndata: {data}\n\n"))
}

/// Pages that are shown numbers at once, where the API has so many connections: half of them are
/// left for questions.
#[must_use]
pub fn feeds_max(connections_max: usize) -> usize {
    (connections_max / 2).min(FEEDS_MAX)
}

/// Nobody looks at more.
const FEEDS_MAX: usize = 32;
/// A token that does not count any more has its numbers for so long at most.
const LIFE_MAX: Duration = Duration::from_secs(3_600);
/// Between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// Five minutes, which is 100 kB to a page that is opened.
const HISTORY_MAX: usize = 300;
/// Samples that a feed may be behind, beside what its socket holds (`server`, two minutes).
const BACKLOG_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use futures_util::StreamExt;

    fn cells() -> CellSet {
        CellSet {
            shards: vec![Arc::default()],
            workers: Arc::default(),
            ready: true,
            limits: Arc::from([]),
        }
    }

    fn feed() -> (Feed, watch::Sender<bool>) {
        let (stop, shutdown) = watch::channel(false);
        (Feed::new(shutdown, feeds_max(64)), stop)
    }

    fn sample(at_ms: i64) -> Sample {
        let reading = Reading::take(&cells());
        reading.since(&reading, EVERY, at_ms)
    }

    fn slots_left(feed: &Feed) -> usize {
        feed.0.slots.available_permits()
    }

    async fn text(body: &mut axum::body::BodyDataStream) -> Option<String> {
        let bytes = body.next().await?.unwrap();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn page_is_told_what_was_and_then_what_comes_and_nothing_behind_the_end() {
        let (feed, stop) = feed();
        (0..305).for_each(|at_ms| feed.publish(sample(at_ms)));
        let mut body = open(State(feed.clone())).await.unwrap().into_body().into_data_stream();
        let history = text(&mut body).await.unwrap();
        let data = history.strip_prefix("event: history\ndata: ").unwrap();
        let samples: Vec<serde_json::Value> = serde_json::from_str(data).unwrap();
        assert_eq!((samples.len(), &samples[0]["at_ms"]), (HISTORY_MAX, &5.into()));
        feed.publish(sample(1_000));
        let next = text(&mut body).await.unwrap();
        assert!(next.starts_with("event: sample\ndata: {\"at_ms\":1000,"), "{next}");
        stop.send(true).unwrap();
        assert_eq!(text(&mut body).await, None);
    }

    #[tokio::test]
    async fn sampler_reads_the_cells_every_second_until_the_end() {
        let (feed, stop) = feed();
        let sampler = tokio::spawn(feed.clone().sample(cells));
        let mut news = feed.0.news.subscribe();
        let text = news.recv().await.unwrap();
        assert!(text.starts_with(b"event: sample\n"));
        stop.send(true).unwrap();
        sampler.await.unwrap();
    }

    #[tokio::test]
    async fn page_that_does_not_read_is_ended_and_counted_and_others_hear_all() {
        let (feed, _stop) = feed();
        let mut slow = open(State(feed.clone())).await.unwrap().into_body().into_data_stream();
        let never = open(State(feed.clone())).await.unwrap();
        let mut fast = open(State(feed.clone())).await.unwrap().into_body().into_data_stream();
        let before = ADMIN.feeds_dropped.value();
        assert!(text(&mut slow).await.unwrap().starts_with("event: history"));
        assert!(text(&mut fast).await.unwrap().starts_with("event: history"));
        for at_ms in 0..40 {
            feed.publish(sample(at_ms));
            assert!(text(&mut fast).await.unwrap().contains(&format!("\"at_ms\":{at_ms},")));
        }
        assert_eq!(text(&mut slow).await, None, "it is behind");
        drop((slow, never));
        assert!(ADMIN.feeds_dropped.value() >= before + 2);
        assert_eq!(slots_left(&feed), FEEDS_MAX - 1);
    }

    #[tokio::test]
    async fn feed_ends_when_its_time_is_over() {
        let (feed, _stop) = feed();
        let slot = Arc::clone(&feed.0.slots).try_acquire_owned().unwrap();
        let (_, news) = feed.subscribe();
        let (shutdown, end) = (feed.0.shutdown.clone(), Instant::now());
        let mut reader = Reader { open: Open::new(slot), news, shutdown, end };
        assert_eq!(reader.next().await, None);
    }

    #[test]
    fn pages_leave_half_of_the_connections_to_questions() {
        assert_eq!([4, 5, 20, 64, 65_536].map(feeds_max), [2, 2, 10, 32, 32]);
    }

    #[tokio::test]
    async fn page_too_many_is_refused_until_another_one_is_closed() {
        let (feed, _stop) = feed();
        let mut pages = Vec::new();
        for _ in 0..FEEDS_MAX {
            pages.push(open(State(feed.clone())).await.unwrap());
        }
        let refused = open(State(feed.clone())).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        pages.pop();
        assert!(open(State(feed)).await.is_ok());
    }
}
