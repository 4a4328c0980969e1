//! What a base does by itself: it brings ledger and contents in line at its start, tells the book
//! what nodes have fetched, removes contents that nobody needs any more, and has the operator's
//! command mend nodes.
//!
//! Bound: one question of the clerk a second.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::super::RunError;
use super::hooks::Hooks;
use crate::dist::ids::ContentId;
use crate::dist::recovery::{self, Found};
use crate::dist::window::RateSchedule;
use crate::ledger::clerk::{self, Clerk, ClerkError};
use crate::metrics::distribution::DistributionCells;
use crate::store::{Recovered, Store, Upload};

/// Bytes of contents that left the base since the book was told.
#[derive(Debug)]
pub(super) struct Sent {
    cells: Arc<DistributionCells>,
    by_content: Mutex<HashMap<ContentId, u64>>,
}

/// What the base may send, by time of day.
pub(super) struct Uplink {
    pub(super) schedule: RateSchedule,
    pub(super) upload: Upload,
}

impl Uplink {
    /// Has streams keep to the rate of now.
    fn rate_now(&self) -> Option<u64> {
        let rate = self.schedule.at(clerk::now().utc_ns);
        if self.upload.rate() != rate {
            self.upload.set_rate(rate);
        }
        rate
    }
}

impl Sent {
    pub(super) fn new(cells: Arc<DistributionCells>) -> Self {
        Self { cells, by_content: Mutex::default() }
    }

    /// `bytes` more of a content have left.
    pub(super) fn add(&self, content: ContentId, bytes: u64) {
        self.cells.bytes_to_nodes.add(bytes);
        let mut sent = self.by_content.lock().unwrap_or_else(PoisonError::into_inner);
        *sent.entry(content).or_default() += bytes;
    }

    fn take(&self) -> HashMap<ContentId, u64> {
        std::mem::take(&mut *self.by_content.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Brings the book and the folder of contents in line after a start: an end that came when the base
/// was killed is told, and what the book does not know, or has no use for, is removed.
pub(super) async fn reconcile(
    clerk: &Clerk,
    store: &Store,
    recovered: Vec<Recovered>,
) -> Result<(), RunError> {
    let found = recovered.len();
    let useless = clerk.ask(move |book, at| {
        let found =
            recovered.into_iter().map(|Recovered { id, have, end, .. }| Found { id, have, end });
        recovery::reconcile(book, found, at)
    });
    let useless = useless.await.map_err(|error| RunError::Ledger(error.to_string()))?;
    let removed = useless.len();
    remove(store, useless).await;
    if found > 0 {
        tracing::info!(code = "HE-I932", found, removed, "contents of before are there");
    }
    Ok(())
}

/// Says which contents that open jobs need are not in the folder: nodes that lack them get them
/// from other nodes only.
pub(super) fn say_missing(mut needed: BTreeSet<ContentId>, recovered: &[Recovered]) {
    for content in recovered.iter().filter(|content| content.end.is_some()) {
        needed.remove(&content.id);
    }
    if let Some(first) = needed.first() {
        let (missing, fix) = (needed.len(), "give all bases of a ledger the same folder --data");
        tracing::warn!(code = "HE-W950", missing, %first, fix, "contents are not in the folder");
    }
}

/// Until `shutdown`.
pub(super) async fn each_second(
    clerk: Clerk,
    store: Store,
    sent: Arc<Sent>,
    (uplink, hooks): (Uplink, Option<Hooks>),
    mut shutdown: watch::Receiver<bool>,
) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        let counts = sent.take();
        let told = counts.clone();
        let up_rate = uplink.rate_now();
        let expired = clerk.ask(move |book, _| {
            book.set_up_rate(up_rate);
            for (content, bytes) in told {
                book.base_sent(content, bytes);
            }
            (book.take_expired(), book.take_repair_hooks())
        });
        match expired.await {
            Ok((expired, due)) => {
                if let Some(hooks) = &hooks {
                    due.into_iter().for_each(|hook| hooks.run(hook));
                }
                remove(&store, expired).await;
            }
            // It did not run: the next second tells it.
            Err(ClerkError::Busy) => {
                for (content, bytes) in counts {
                    let mut sent = sent.by_content.lock().unwrap_or_else(PoisonError::into_inner);
                    *sent.entry(content).or_default() += bytes;
                }
            }
            Err(ClerkError::Late | ClerkError::Unreadable) => {}
            Err(ClerkError::Ended) => return,
        }
    }
}

async fn remove(store: &Store, contents: Vec<ContentId>) {
    if contents.is_empty() {
        return;
    }
    let store = store.clone();
    let removing = tokio::task::spawn_blocking(move || {
        for content in contents {
            if let Err(error) = store.remove(content) {
                let fix = "it stays until the next start";
                tracing::warn!(code = "HE-W933", %content, %error, fix, "a content is not removed");
            }
        }
    });
    let _panicked = removing.await;
}
