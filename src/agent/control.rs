//! The connection to the base: hello, then orders, again and again.
//!
//! ```text
//! hello -> Online -> orders .. lost, or hello is wanted again -> Offline -> pause -> hello
//! ```
//! With TLS a hello asks for a certificate when the node has none, or a third of its life is left.
//! Invariant: the base's key is the one that the node joined, or nothing is taken of it. Bounds:
//! the pause grows to `PAUSE_MAX`; orders wait in a queue of `ORDERS_MAX`, then the connection
//! does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{Notify, mpsc};

use super::base::{Answer, BaseError};
use super::bases::Bases;
use super::channel::Channel;
use super::folder::{Folder, utc_ns};
use super::identity::{Identity, IdentityError};
use super::{Event, Facts};
use crate::dist::ids::{BaseEpoch, Incarnation, NodeName};
use crate::dist::wire::agent::{GivenCertificate, Hello, HelloBody, NodeOrder, WelcomeBody};
use crate::pki::credentials::node_request;

/// Why the base does not have this node.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The base refuses, or does not answer.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// There is neither a token of the node nor one to join.
    #[error("this node has not joined a base: give a join token with --join")]
    NoToken,
    /// It is another base.
    #[error(
        "the base has another key than the one this node joined; remove {folder} to join this base \
         as a new node"
    )]
    OtherBase {
        /// The agent's folder.
        folder: String,
    },
    /// What the base gave cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The base gave no certificate, or none that is of use.
    #[error("the base gave no certificate for this node: {0}")]
    Certificate(String),
}

/// What a hello gave.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) token: String,
    pub(super) incarnation: Incarnation,
    /// Time between reports at most.
    pub(super) heartbeat: Duration,
    /// Epoch of the base.
    pub(super) epoch: BaseEpoch,
    /// `HOST:PORT` of the base.
    pub(super) base: String,
    /// Its URL, without a slash behind.
    pub(super) url: String,
}

/// An order, and the epoch of the base that gave it.
pub(super) type EpochOrder = (BaseEpoch, NodeOrder);

/// Asks for another hello.
#[derive(Debug, Default)]
pub(super) struct HelloAgain {
    notify: Notify,
    is_new_start: AtomicBool,
}

impl HelloAgain {
    pub(super) fn ask(&self, is_new_start: bool) {
        self.is_new_start.fetch_or(is_new_start, Ordering::Relaxed);
        self.notify.notify_one();
    }
}

/// The node's side of the connection.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) bases: Bases,
    pub(super) channel: Channel,
    pub(super) join: Option<String>,
    pub(super) identity: Identity,
    pub(super) facts: Facts,
    pub(super) incarnation: Option<Incarnation>,
}

impl Control {
    /// Says hello once, as the same start or, the first time, as a new one.
    pub(super) async fn hello(&mut self, folder: &Folder) -> Result<Session, HelloError> {
        let own = self.identity.token().map(str::to_owned);
        let tokens: Vec<String> = own.into_iter().chain(self.join.clone()).collect();
        let mut refused = HelloError::NoToken;
        for token in tokens {
            match self.hello_with(&token, folder).await {
                // The base may have lost its node; a join token makes it one again.
                Err(HelloError::Base(error)) if error.is_unauthorized() => refused = error.into(),
                other => return other,
            }
        }
        Err(refused)
    }

    async fn hello_with(&mut self, token: &str, folder: &Folder) -> Result<Session, HelloError> {
        let mut stale = 0;
        let certificate_request = self.certificate_request()?;
        let (Answer { epoch, value }, incarnation) = loop {
            let incarnation = match self.incarnation {
                Some(incarnation) => incarnation,
                None => self.identity.next_start(utc_ns())?,
            };
            self.incarnation = Some(incarnation);
            let hello = self.as_hello(incarnation, folder.free_bytes().unwrap_or(0));
            let certificate_request = certificate_request.clone();
            let body = HelloBody { hello, certificate_request };
            match self.bases.hello(&body, token).await {
                // The base knows a later start: this one's clock was set back.
                Err(error) if error.reason() == Some("stale_incarnation") && stale < STALE_MAX => {
                    stale += 1;
                    self.incarnation = None;
                }
                answer => break (answer?, incarnation),
            }
        };
        let WelcomeBody { welcome, certificate } = value;
        let is_other = self.identity.base_key().is_some_and(|kept| kept != welcome.base_key);
        if is_other {
            let folder = self.identity.folder().display().to_string();
            return Err(HelloError::OtherBase { folder });
        }
        if certificate_request.is_some() {
            self.take(certificate)?;
        }
        self.identity.keep(welcome.node_token.clone(), welcome.base_key)?;
        self.identity.keep_epoch(epoch)?;
        self.bases.hear(epoch);
        let token = welcome.node_token.unwrap_or_else(|| token.to_owned());
        let heartbeat = Duration::from_millis(welcome.heartbeat_ms.clamp(100, 60_000));
        let (base, url) = (self.bases.authority().to_owned(), self.bases.url().to_owned());
        Ok(Session { token, incarnation, heartbeat, epoch, base, url })
    }

    /// When there is none, or it is to be renewed.
    fn certificate_request(&self) -> Result<Option<String>, HelloError> {
        if self.channel.is_ready() && !self.renew_in().is_zero() {
            return Ok(None);
        }
        let asked = node_request(self.identity.keys());
        asked.map(Some).map_err(|error| HelloError::Certificate(error.to_string()))
    }

    /// Keeps and shows a certificate.
    fn take(&mut self, given: Option<GivenCertificate>) -> Result<(), HelloError> {
        let of = |why: &str| HelloError::Certificate(why.to_owned());
        let given = given.ok_or_else(|| of("it has no CA; does it run with --insecure?"))?;
        if !self.channel.believes(&given.authority) {
            return Err(of("it is of another CA than the base's own"));
        }
        let keys = self.identity.keys();
        let installed = self.channel.install(keys, &given.certificate, &given.authority);
        installed.map_err(|error| of(&error.to_string()))?;
        let node = self.identity.node();
        tracing::info!(code = "HE-I923", %node, life_s = given.life_s, "the node has a certificate");
        Ok(self.identity.keep_certificate(given, utc_s())?)
    }

    /// Time until the certificate is to be renewed: none when there is none. Without TLS it is
    /// never renewed.
    fn renew_in(&self) -> Duration {
        if !self.channel.is_secure() {
            return Duration::MAX;
        }
        let kept = self.identity.certificate();
        let left_s = kept.map_or(0, |kept| kept.renew_at_s.saturating_sub(utc_s()));
        Duration::from_secs(u64::try_from(left_s).unwrap_or(0))
    }

    fn as_hello(&self, incarnation: Incarnation, free_bytes: u64) -> Hello {
        Hello {
            node: self.identity.node().clone(),
            incarnation,
            public_key: self.identity.keys().verify_key().to_string(),
            addr: self.facts.addr.to_string(),
            labels: self.facts.labels.clone(),
            up_rate_cap: self.facts.up_rate.at(utc_ns()),
            down_rate_cap: self.facts.down_rate,
            free_bytes,
            utc_ns: utc_ns(),
            rtsp: self.facts.rtsp.map(|addr| addr.to_string()),
            takes_capability: true,
        }
    }

    /// Keeps the connection until the agent ends.
    pub(super) async fn run(
        mut self,
        folder: &Folder,
        again: &HelloAgain,
        events: mpsc::Sender<Event>,
        orders: mpsc::Sender<EpochOrder>,
    ) {
        let mut pause = PAUSE_MIN;
        let mut was_told = Told::Nothing;
        loop {
            if again.is_new_start.swap(false, Ordering::Relaxed) {
                self.incarnation = None;
            }
            let lost = match self.hello(folder).await {
                Ok(session) => {
                    let node = self.identity.node();
                    was_told.online(node, &session.base);
                    let (token, epoch) = (session.token.clone(), session.epoch);
                    if events.send(Event::Online(session)).await.is_err() {
                        return;
                    }
                    pause = PAUSE_MIN;
                    self.take_orders(&token, epoch, again, &orders).await
                }
                Err(error) => {
                    // A base that stands by becomes the base within seconds.
                    let is_standby =
                        matches!(&error, HelloError::Base(e) if e.reason() == Some("standby"));
                    let most = if is_standby { STANDBY_PAUSE_MAX } else { PAUSE_MAX };
                    pause = (pause * 2).min(most);
                    Lost::Error(error.to_string())
                }
            };
            if events.send(Event::Offline).await.is_err() {
                return;
            }
            if let Lost::Error(reason) = &lost {
                was_told.offline(self.bases.authority(), reason);
            }
            let spread = rand::rng().random_range(0.75..1.25);
            tokio::time::sleep(pause.mul_f64(spread)).await;
        }
    }

    /// Until the certificate is to be renewed. Clocks may be set: it is looked at again and again.
    async fn renewal(&self) {
        loop {
            let left = self.renew_in();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(CLOCK_EVERY)).await;
        }
    }

    /// Until the connection is lost or a hello is wanted.
    async fn take_orders(
        &self,
        token: &str,
        epoch: BaseEpoch,
        again: &HelloAgain,
        orders: &mpsc::Sender<EpochOrder>,
    ) -> Lost {
        let mut stream = match self.bases.orders(token).await {
            Ok(answer) if answer.epoch == epoch => answer.value,
            Ok(_) => return Lost::Error("another base has taken its place".to_owned()),
            Err(error) => return Lost::Error(error.to_string()),
        };
        loop {
            let order = tokio::select! {
                order = stream.next() => order,
                () = again.notify.notified() => return Lost::Asked,
                () = self.renewal() => return Lost::Asked,
            };
            match order {
                Ok(Some(order)) => {
                    let sent = tokio::select! {
                        sent = orders.send((epoch, order)) => sent,
                        () = again.notify.notified() => return Lost::Asked,
                    };
                    if sent.is_err() {
                        return Lost::Asked;
                    }
                }
                Ok(None) => {
                    let fix = "update this node: the base is newer";
                    tracing::warn!(code = "HE-W922", fix, "an order of the base is not understood");
                }
                Err(error) => return Lost::Error(error.to_string()),
            }
        }
    }
}

fn utc_s() -> i64 {
    utc_ns() / 1_000_000_000
}

enum Lost {
    Error(String),
    Asked,
}

/// What the log said last: it says changes only.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Online,
    Offline(String),
}

impl Told {
    fn online(&mut self, node: &NodeName, base: &str) {
        if *self != Self::Online {
            *self = Self::Online;
            tracing::info!(code = "HE-I921", %node, base, "the base has this node");
        }
    }

    fn offline(&mut self, base: &str, reason: &str) {
        if !matches!(self, Self::Offline(known) if known == reason) {
            *self = Self::Offline(reason.to_owned());
            tracing::warn!(
                code = "HE-W921",
                base,
                reason,
                "no connection to the base: trying again"
            );
        }
    }
}

/// Orders that the agent has not taken.
pub(super) const ORDERS_MAX: usize = 1_024;
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// A base that has come back is found within so long.
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// The same for one that stands by.
const STANDBY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often the clock is compared with the time at which a certificate is renewed.
const CLOCK_EVERY: Duration = Duration::from_secs(600);
/// Attempts with a greater number in one hello.
const STALE_MAX: u32 = 2;
