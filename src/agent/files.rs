//! The thread that makes and removes files of contents.
//!
//! ```text
//! reserve, discard, collect --> Work (one of a content) --> thread: store --> Event::Reserved
//! ```
//! Invariants: what is asked of one content is done in that order, and the last of it counts: a
//! content that is discarded is not reserved before; room is made before anything is reserved.
//! Bound: one entry of a content, so what waits is at most what the agent knows and forgets.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::thread::Builder;

use tokio::sync::mpsc;

use super::Event;
use super::feed::{Feeder, Taker, feed};
use crate::dist::agent::{Failure, Reserved};
use crate::dist::ids::ContentId;
use crate::store::Store;

/// Where work goes.
#[derive(Debug)]
pub(super) struct Files(Feeder<Work>);

/// What is to be done.
#[derive(Debug, Default)]
struct Work {
    /// All contents but these are to go.
    collect: Option<Vec<ContentId>>,
    /// In the order in which they were asked for first.
    order: VecDeque<ContentId>,
    of: BTreeMap<ContentId, Job>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    discards: bool,
    /// Behind that; with a size, where it is known.
    reserves: Option<Option<u64>>,
}

impl Files {
    /// # Errors
    /// The system has no thread.
    pub(super) fn spawn(store: Store, events: mpsc::Sender<Event>) -> io::Result<Self> {
        let (feeder, taker) = feed();
        let runtime = tokio::runtime::Handle::current();
        Builder::new().name("agent-files".into()).spawn(move || {
            let _within = runtime.enter();
            run(taker, &store, &events);
        })?;
        Ok(Self(feeder))
    }

    /// Makes place for a content; [`Event::Reserved`] says whether there is.
    pub(super) fn reserve(&self, content: ContentId, size: Option<u64>) {
        self.0.change(|work| work.job(content).reserves = Some(size));
    }

    /// Removes a content.
    pub(super) fn discard(&self, content: ContentId) {
        self.0.change(|work| *work.job(content) = Job { discards: true, reserves: None });
    }

    /// Removes all contents but these.
    pub(super) fn collect(&self, known: Vec<ContentId>) {
        self.0.change(|work| work.collect = Some(known));
    }
}

impl Work {
    fn job(&mut self, content: ContentId) -> &mut Job {
        let order = &mut self.order;
        self.of.entry(content).or_insert_with(|| {
            order.push_back(content);
            Job { discards: false, reserves: None }
        })
    }
}

/// Ends with the agent.
fn run(mut taker: Taker<Work>, store: &Store, events: &mpsc::Sender<Event>) {
    while let Some(Work { collect, order, of }) = taker.take() {
        if let Some(known) = collect {
            let is_asked = |id: &ContentId| of.contains_key(id);
            let strange = store.ids().into_iter().filter(|id| !known.contains(id) && !is_asked(id));
            strange.for_each(|content| discard(store, content));
        }
        for content in order {
            let Some(Job { discards, reserves }) = of.get(&content).copied() else { continue };
            if discards {
                discard(store, content);
            }
            let Some(size) = reserves else { continue };
            let reserved = reserve(store, content, size);
            if events.blocking_send(Event::Reserved { content, reserved }).is_err() {
                return;
            }
        }
    }
}

fn reserve(store: &Store, content: ContentId, size: Option<u64>) -> Result<Reserved, Failure> {
    let reserved = store.create(content, size);
    let reserved = reserved.map(|content| Reserved {
        have: content.have(),
        here: content.ranges_ahead(),
        is_whole: content.end().is_some_and(|end| end.size == content.have()),
    });
    reserved.map_err(|error| Failure { reason: error.reason(), detail: error.to_string() })
}

fn discard(store: &Store, content: ContentId) {
    if let Err(error) = store.remove(content) {
        tracing::warn!(code = "HE-W927", %content, %error, "files of a content stay");
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn content(number: u128) -> ContentId {
        ContentId(Uuid::from_u128(number))
    }

    #[test]
    fn newest_of_what_is_asked_of_a_content_counts_and_waits_once() {
        let (feeder, mut taker) = feed::<Work>();
        let files = Files(feeder);
        for _ in 0..10_000 {
            files.reserve(content(1), Some(7));
            files.discard(content(2));
            files.reserve(content(2), None);
            files.reserve(content(3), None);
            files.discard(content(3));
            files.collect(vec![content(1)]);
        }
        let Work { collect, order, of } = taker.take().unwrap();
        assert_eq!(order, [1, 2, 3].map(content));
        // A content that was only reserved is not discarded before.
        let job = |number| of[&content(number)];
        assert_eq!(job(1), Job { discards: false, reserves: Some(Some(7)) });
        assert_eq!(job(2), Job { discards: true, reserves: Some(None) });
        assert_eq!(job(3), Job { discards: true, reserves: None });
        assert_eq!(collect, Some(vec![content(1)]));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn contents_are_made_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let keys = crate::dist::keys::BaseKeys::from_bytes(&[7; 32]);
        let key = crate::store::StoreKey::Verifies(keys.verify_key());
        let (store, _) = Store::open(folder.path(), key).unwrap();
        let (events, mut heard) = mpsc::channel(4);
        let files = Files::spawn(store.clone(), events).unwrap();
        for number in 1..=2 {
            files.reserve(content(number), None);
            let Some(Event::Reserved { content: of, reserved }) = heard.recv().await else {
                panic!("no answer");
            };
            let made = Reserved { have: 0, here: Vec::new(), is_whole: false };
            assert_eq!((of, reserved), (content(number), Ok(made)));
        }
        files.discard(content(2));
        files.collect(vec![content(2)]);
        files.reserve(content(3), None);
        assert!(matches!(heard.recv().await, Some(Event::Reserved { .. })));
        assert_eq!(store.ids(), [content(3)]);
    }
}
