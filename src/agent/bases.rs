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
use crate::dist::wire::agent::{HelloBody, Reports, ReportsTaken, WelcomeBody};

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

    /// Its URL, without a slash behind.
    pub(super) fn url(&self) -> &str {
        self.current().url()
    }

    /// Says hello, to each base until one takes it.
    pub(super) async fn hello(
        &self,
        hello: &HelloBody,
        token: &str,
    ) -> Result<Answer<WelcomeBody>, BaseError> {
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

    /// Fetches the bytes of a probe from the base that has this node.
    pub(super) async fn probe(
        &self,
        number: u64,
        bytes: u64,
        token: &str,
    ) -> Result<Vec<u8>, BaseError> {
        let answer = self.current().probe(number, bytes, token).await?;
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

#[cfg(test)]
mod tests {
    use super::super::base::BaseUrl;
    use super::super::channel::Channel;
    use super::super::testing::{Scripted, serve};
    use super::*;

    /// A base that gives these answers, a connection each: status, epoch and body.
    fn base(answers: Vec<(&'static str, Option<u64>, &'static str)>) -> Base {
        let answers = answers.into_iter().map(|(status, epoch, body)| {
            let headers = epoch.map(|epoch| format!("ctp-base-epoch: {epoch}\r\n"));
            Scripted { headers: headers.unwrap_or_default(), ..Scripted::new(status, body) }
        });
        let (addr, _) = serve(answers.collect());
        let url = BaseUrl::parse(&format!("http://{addr}"), false).unwrap();
        Base::new(Channel::plain().unwrap(), url)
    }

    fn hello() -> HelloBody {
        serde_json::from_value(serde_json::json!({
            "node": "a", "incarnation": 1, "public_key": "k", "addr": "127.0.0.1:1",
        }))
        .unwrap()
    }

    const STANDBY: (&str, Option<u64>, &str) =
        ("503 Service Unavailable", None, r#"{"reason": "standby", "detail": "stands by"}"#);
    const WELCOME: &str = r#"{"base_key": "k", "heartbeat_ms": 2000}"#;

    #[tokio::test]
    async fn base_that_stands_by_or_is_gone_is_passed_over_and_the_base_is_asked_on() {
        let gone = base(vec![]);
        let active = base(vec![("200 OK", Some(7), WELCOME), ("200 OK", Some(7), "")]);
        let authority = active.authority().to_owned();
        let bases = Bases::new(base(vec![STANDBY]), [gone, active], BaseEpoch(0));
        let welcome = bases.hello(&hello(), "t").await.unwrap();
        assert_eq!((welcome.epoch, bases.authority()), (BaseEpoch(7), authority.as_str()));
        assert_eq!(bases.orders("t").await.unwrap().epoch, BaseEpoch(7));
        // What a base says is told, not that the other one is silent.
        let bases = Bases::new(base(vec![STANDBY]), [base(vec![])], BaseEpoch(0));
        let error = bases.hello(&hello(), "t").await.unwrap_err();
        assert_eq!(error.reason(), Some("standby"));
        assert!(!error.is_final());
    }

    #[tokio::test]
    async fn base_that_another_one_has_followed_is_not_believed() {
        let orders = ("200 OK", Some(7), "");
        let old = base(vec![orders, orders, ("200 OK", Some(7), WELCOME), ("200 OK", None, "")]);
        let bases = Bases::new(old, [], BaseEpoch(6));
        assert_eq!(bases.orders("t").await.unwrap().epoch, BaseEpoch(7));
        bases.hear(BaseEpoch(9));
        let superseded = BaseError::Superseded { epoch: BaseEpoch(7), heard: BaseEpoch(9) };
        assert_eq!(bases.orders("t").await.unwrap_err(), superseded);
        assert_eq!(bases.hello(&hello(), "t").await.unwrap_err(), superseded);
        assert_eq!(bases.orders("t").await.unwrap().epoch, BaseEpoch(0), "it does not say");
    }
}
