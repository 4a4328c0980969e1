//! The clerk with a real book and real databases.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use super::*;
use crate::dist::book::{BookOptions, HelloBy};
use crate::dist::ids::{Digest, Incarnation, NodeName};
use crate::dist::keys::{BaseKeys, NodeKeys};
use crate::dist::wire::agent::Hello;
use crate::dist::wire::job::{CommandRequest, JobRequest, Op, Policy, Targets};
use crate::ledger::kit::{Kept, Opened};
use crate::ledger::lease::Lease;

/// A clerk at work.
struct Office {
    clerk: Clerk,
    thread: ClerkThread,
    lease: Option<Lease>,
}

impl Office {
    fn end(self) {
        self.thread.end();
        if let Some(lease) = self.lease {
            lease.end();
        }
    }
}

fn start(kept: &Kept) -> Office {
    let Opened { ledger, rows, lease } = kept.open();
    let keys = BaseKeys::from_bytes(&[1; 32]);
    let options = BookOptions::new("127.0.0.1:1".to_owned(), Digest([0; 32]));
    let (clerk, thread) = Clerk::start(ledger, Book::new(rows, keys, options, now())).unwrap();
    Office { clerk, thread, lease }
}

fn hello(name: &str) -> Hello {
    Hello {
        node: NodeName::new(name).unwrap(),
        incarnation: Incarnation(1),
        public_key: NodeKeys::from_bytes(&[2; 32]).verify_key().to_string(),
        addr: "127.0.0.1:2".to_owned(),
        labels: Default::default(),
        up_rate_cap: None,
        down_rate_cap: None,
        free_bytes: 0,
        utc_ns: 0,
        rtsp: None,
        takes_capability: true,
    }
}

fn request() -> JobRequest {
    let (policy, targets) = (Policy::default(), Targets::All);
    JobRequest { client_ref: None, targets, policy, deadline_s: None, notify: Vec::new() }
}

/// Whether the future has ended, polled once.
async fn is_ready(mut future: Pin<&mut impl Future>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

async fn join(clerk: &Clerk) {
    let hello = hello("a");
    clerk.ask(move |book, at| book.hello(hello, HelloBy::Join, at)).await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_at_once_share_commits_and_are_there_after_a_restart() {
    for kept in Kept::all() {
        let office = start(&kept);
        let clerk = office.clerk.clone();
        join(&clerk).await;
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let clerk = clerk.clone();
            asking.spawn(async move {
                clerk.ask(|book, at| book.request_job("news", request(), at)).await
            });
        }
        for answer in asking.join_all().await {
            assert!(matches!(answer, Ok(Ok(_))), "{answer:?}");
        }
        let commits = clerk.cells().commits.read().count();
        assert!(commits < 200, "{commits} commits of 300 requests");
        office.end();
        assert_eq!(clerk.ask(|_, _| ()).await, Err(ClerkError::Ended));
        let office = start(&kept);
        let clerk = office.clerk.clone();
        let jobs = clerk.ask(|book, _| book.jobs("news", None, None, 1_000)).await.unwrap();
        assert_eq!(jobs.len(), 300);
        office.end();
    }
}

#[tokio::test]
async fn what_finds_no_room_in_the_queue_is_handed_back() {
    for kept in Kept::all() {
        let office = start(&kept);
        let clerk = office.clerk.clone();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let mut holding = Box::pin(clerk.ask(move |_, _| held.recv().is_ok()));
        assert!(!is_ready(holding.as_mut()).await);
        let mut asks: Vec<_> = (0..=QUEUE_MAX).map(|_| Box::pin(clerk.ask(|_, _| ()))).collect();
        let mut busy = 0;
        for ask in &mut asks {
            busy += usize::from(is_ready(ask.as_mut()).await);
        }
        assert!(busy >= 1);
        release.send(()).unwrap();
        holding.await.unwrap();
        assert!(clerk.cells().refused.value() >= 1);
        clerk.ask(|_, _| ()).await.unwrap();
        office.end();
    }
}

#[tokio::test]
async fn events_are_announced_when_they_are_durable() {
    for kept in Kept::all() {
        let office = start(&kept);
        let clerk = office.clerk.clone();
        let mut newest = clerk.events();
        join(&clerk).await;
        let newest = *newest.wait_for(|seq| *seq > 0).await.unwrap();
        let events = clerk.read_events(None, 0, 100).await.unwrap();
        assert!(events.iter().any(|event| event.seq == newest));
        assert!(events.iter().any(|event| event.kind == "node.joined"));
        let rest = clerk.read_events(None, newest, 100).await.unwrap();
        assert!(rest.iter().all(|event| event.seq > newest));
        office.end();
    }
}

#[tokio::test]
async fn orders_reach_a_node_that_listens_and_end_with_the_clerk() {
    for kept in Kept::all() {
        let office = start(&kept);
        let clerk = office.clerk.clone();
        join(&clerk).await;
        let mut orders = clerk.orders(NodeName::new("a").unwrap());
        let ask = clerk.ask(|book, at| {
            let job = book.request_job("news", request(), at).unwrap();
            let query = CommandRequest { op: Op::Query, size: None, blake3: None };
            book.command("news", job.job_id, query, at).unwrap()
        });
        ask.await.unwrap();
        let orders_now = orders.next().await.unwrap();
        assert!(!orders_now.is_empty());
        office.end();
        while orders.next().await.is_some() {}
    }
}

#[tokio::test]
async fn look_sees_what_is_committed_and_does_not_wait_behind_requests() {
    for kept in Kept::all() {
        let office = start(&kept);
        let clerk = office.clerk.clone();
        join(&clerk).await;
        let count = |clerk: &Clerk| {
            let clerk = clerk.clone();
            async move { clerk.look(|book| book.jobs("news", None, None, 0).len()).await }
        };
        assert_eq!(count(&clerk).await, Ok(0));
        // Requests that take some time, more than one batch has room for.
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let clerk = clerk.clone();
            asking.spawn(async move {
                let slow = clerk.ask(|book, at| {
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_millis(4) {}
                    book.request_job("news", request(), at).map(drop)
                });
                slow.await
            });
        }
        tokio::task::yield_now().await;
        let seen = count(&clerk).await.unwrap();
        assert!(seen < 50, "{seen} of 50 are before it");
        for done in asking.join_all().await {
            done.unwrap().unwrap();
        }
        // What has been answered is seen.
        assert_eq!(count(&clerk).await, Ok(50));
        office.end();
        assert_eq!(count(&clerk).await, Err(ClerkError::Ended));
    }
}
