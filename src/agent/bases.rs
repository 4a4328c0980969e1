//! The bases that share a ledger, as a node sees them: one has it, the others stand by.
//!
//! ```text
//! hello -> current base --unreachable, or stands by--> the next one .. each once
//! ```
//! Invariants: a base that another one has followed is not believed, however late it wakes up: its
//! epoch is lower. The epoch counts once the base's key was compared. Bound: a round asks each base
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::base::{Answer, Base, BaseError, Orders};
use crate::dist::ids::BaseEpoch;
use crate::dist::wire::agent::{Hello, Reports, ReportsTaken, Welcome};

/// Bases of one ledger. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Bases {
    /// One at least.
    all: Arc<[Base]>,
    current: Arc<AtomicUsize>,
    /// Greatest epoch that this node has heard of.
    heard: Arc<AtomicU64>,
}

impl Bases {
    /// `first` is tried first.
    pub(super) fn new(
        first: Base,
        others: impl IntoIterator<Item = Base>,
        heard: BaseEpoch,
    ) -> Self {
        let all: Vec<_> = std::iter::once(first).chain(others).collect();
        let heard = Arc::new(AtomicU64::new(heard.0));
        Self { all: all.into(), current: Arc::default(), heard }
    }

    /// `HOST:PORT` of the base that answered last.
    pub(super) fn authority(&self) -> &str {
        self.current().authority()
    }

    /// Says hello, to each base until one takes it.
    pub(super) async fn hello(
        &self,
        hello: &Hello,
        token: &str,
    ) -> Result<Answer<Welcome>, BaseError> {
        let mut refused = None;
        for _ in 0..self.all.len() {
            let answer = self.current().hello(hello, token).await;
            match answer.and_then(|answer| self.checked(answer)) {
                Err(error) if error.is_elsewhere() => {
                    // What a base says tells more than that another one says nothing.
                    let is_silent = matches!(error, BaseError::Unreachable(_));
                    if refused.is_none() || !is_silent {
                        refused = Some(error);
                    }
                    self.turn();
                }
                answer => return answer,
            }
        }
        Err(refused.unwrap_or_else(|| BaseError::Unreachable("there is no base".to_owned())))
    }

    /// Sends reports to the base that has this node.
    pub(super) async fn report(
        &self,
        reports: &Reports,
        token: &str,
    ) -> Result<ReportsTaken, BaseError> {
        let answer = self.current().report(reports, token).await?;
        Ok(self.checked(answer)?.value)
    }

    /// Asks the base that has this node for orders.
    pub(super) async fn orders(&self, token: &str) -> Result<Answer<Orders>, BaseError> {
        let answer = self.current().orders(token).await?;
        self.checked(answer)
    }

    /// This node has joined a base of this epoch.
    pub(super) fn hear(&self, epoch: BaseEpoch) {
        self.heard.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// The answer, unless a base of a later epoch has been heard.
    fn checked<T>(&self, answer: Answer<T>) -> Result<Answer<T>, BaseError> {
        let heard = BaseEpoch(self.heard.load(Ordering::Acquire));
        let epoch = answer.epoch;
        // 0 is a base that does not say.
        if epoch != BaseEpoch(0) && epoch < heard {
            return Err(BaseError::Superseded { epoch, heard });
        }
        Ok(answer)
    }

    fn current(&self) -> &Base {
        let place = self.current.load(Ordering::Acquire) % self.all.len();
        &self.all[place]
    }

    fn turn(&self) {
        self.current.fetch_add(1, Ordering::AcqRel);
    }
}
