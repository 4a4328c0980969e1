//! Sends notifications: asks the book which are due, reads their events, POSTs them.
//!
//! ```text
//! clerk --take_calls--> a task for each: events of the ledger --message--> POST --> called_back
//! ```
//! It has tasks of its own: a receiver that hangs holds up neither the clerk nor other receivers.
//! Only answers 200 to 299 count as taken, and 410 as gone; redirects are not followed.
//! Invariant: a connection goes to an address that was checked (`dist::webhook::target`); a name is
//! resolved here, and not again by whoever connects.
//! Bounds: `Limits::hooks_open` attempts at once, `ATTEMPT_MAX` each.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use tokio::sync::{OnceCell, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::dist::book::{Attempt, HookReport, first_and_stale};
use crate::dist::webhook::message::{CONTENT_TYPE, Call, Message};
use crate::dist::webhook::target::{AddressError, AllowedNetworks, Target};
use crate::dist::wire::job::EventView;
use crate::ledger::clerk::{Clerk, ClerkError, EVENTS_MAX};
use crate::pki::tls;
use crate::pki::trust::Trust;

/// What sends. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Sender(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clerk: Clerk,
    allowed: Arc<AllowedNetworks>,
    http: OnceCell<reqwest::Client>,
}

/// Resolves names, and gives the addresses that may be connected to.
#[derive(Debug)]
struct Checked(Arc<AllowedNetworks>);

/// A name has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
enum ResolveError {
    #[error("the name is not resolved: {0}")]
    Unknown(io::Error),
    #[error("the name has no address")]
    None,
    #[error("{0}")]
    Refused(AddressError),
}

impl Sender {
    pub(super) fn new(clerk: Clerk, allowed: AllowedNetworks) -> Self {
        Self(Arc::new(Inner { clerk, allowed: Arc::new(allowed), http: OnceCell::new() }))
    }

    /// Until `shutdown`: attempts that are open then are made again, by whoever has the ledger.
    pub(super) async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let clerk = self.0.clerk.clone();
        let mut events = clerk.events();
        let mut attempts = JoinSet::new();
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = seconds.tick() => {}
                changed = events.changed() => if changed.is_err() { return },
                Some(_) = attempts.join_next(), if !attempts.is_empty() => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            match clerk.ask(|book, at| book.take_calls(at)).await {
                Ok(calls) => {
                    for call in calls {
                        let sender = self.clone();
                        attempts.spawn(async move { sender.attempt(call).await });
                    }
                }
                // Those that it has given are lost attempts, and come again.
                Err(ClerkError::Busy | ClerkError::Late | ClerkError::Unreadable) => {}
                Err(ClerkError::Ended) => return,
            }
            tokio::select! {
                () = sleep(GATHER) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn attempt(&self, call: Call) {
        let (hook, newest) = (call.hook, call.newest);
        let report = match self.find(&call).await {
            Ok(Some((event, stale))) => {
                let attempt = self.send(&call, &event).await;
                let EventView { seq, at_ns, kind, .. } = event;
                HookReport { hook, seq, at_ns, kind, attempt, stale }
            }
            Ok(None) => {
                let (kind, attempt) = (String::new(), Attempt::Nothing);
                HookReport { hook, seq: newest, at_ns: 0, kind, attempt, stale: None }
            }
            Err(error) => {
                let (kind, attempt) = (String::new(), Attempt::Failed(error.to_string()));
                HookReport { hook, seq: newest, at_ns: 0, kind, attempt, stale: None }
            }
        };
        for _ in 0..REPORTS_MAX {
            let told = report.clone();
            match self.0.clerk.ask(move |book, at| book.called_back(told, at)).await {
                Ok(()) | Err(ClerkError::Ended) => return,
                Err(_) => sleep(REPORT_AGAIN).await,
            }
        }
    }

    /// The event that is next, and those that have waited for too long. The ledger has them: the
    /// clerk has answered with the call when they were durable.
    async fn find(&self, call: &Call) -> Result<Option<Found>, ClerkError> {
        let mut after = call.after;
        while after < call.newest {
            let events = self.0.clerk.read_events(Some(call.hook.job), after, EVENTS_MAX).await?;
            if let Some((event, stale)) = first_and_stale(call, &events) {
                return Ok(Some((event.clone(), stale)));
            }
            let Some(last) = events.last() else { return Ok(None) };
            after = last.seq;
        }
        Ok(None)
    }

    async fn send(&self, call: &Call, event: &EventView) -> Attempt {
        let checked = Target::parse(&call.url, &self.0.allowed);
        let target = match checked {
            Ok(target) => target,
            Err(error) => return Attempt::Failed(error.to_string()),
        };
        let http = match self.0.http.get_or_try_init(|| self.connections()).await {
            Ok(http) => http,
            Err(why) => return Attempt::Failed(why),
        };
        let Message { id, timestamp, signature, body } =
            call.message(event, Timestamp::now().as_second());
        let mut request = http
            .post(target.url())
            .header("content-type", CONTENT_TYPE)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp);
        if let Some(signature) = signature {
            request = request.header("webhook-signature", signature);
        }
        match request.body(body).send().await {
            Ok(answer) if answer.status().is_success() => Attempt::Taken,
            Ok(answer) if answer.status() == reqwest::StatusCode::GONE => Attempt::Gone,
            Ok(answer) => Attempt::Failed(format!("HTTP {}", answer.status().as_u16())),
            Err(error) => Attempt::Failed(cause(error)),
        }
    }

    /// Receivers are believed by the CAs of this machine.
    async fn connections(&self) -> Result<reqwest::Client, String> {
        let roots = spawn_blocking(|| rustls_native_certs::load_native_certs().certs);
        let roots = roots.await.map_err(|error| error.to_string())?;
        let config = tls::client(&Trust::usable(roots), None).map_err(|error| error.to_string())?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .dns_resolver(Arc::new(Checked(Arc::clone(&self.0.allowed))))
            .redirect(Policy::none())
            .timeout(ATTEMPT_MAX)
            // It would resolve the name itself, and connect to where it likes.
            .no_proxy()
            .user_agent(concat!("headend/", env!("CARGO_PKG_VERSION")))
            .build();
        http.map_err(|error| error.to_string())
    }
}

/// An event, and those of its receiver that have waited for too long.
type Found = (EventView, Option<(u64, u64)>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found = found.map_err(ResolveError::Unknown)?.map(|addr| addr.ip());
            let addrs = admitted(&allowed, found)?.into_iter().map(|ip| SocketAddr::new(ip, 0));
            let addrs: Addrs = Box::new(addrs);
            Ok(addrs)
        })
    }
}

/// Addresses of a name that may be connected to, one at least.
fn admitted(
    allowed: &AllowedNetworks,
    found: impl Iterator<Item = IpAddr>,
) -> Result<Vec<IpAddr>, ResolveError> {
    let (mut addrs, mut refused) = (Vec::new(), ResolveError::None);
    for ip in found {
        match allowed.check(ip) {
            Ok(()) => addrs.push(ip),
            Err(error) => refused = ResolveError::Refused(error),
        }
    }
    if addrs.is_empty() { Err(refused) } else { Ok(addrs) }
}

/// The innermost cause, without the URL: there may be a secret in it.
fn cause(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", ATTEMPT_MAX.as_secs());
    }
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// For an answer, from the first byte of the connection on.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// Events of this time are asked for at once.
const GATHER: Duration = Duration::from_millis(50);
/// While the clerk has too much to do. An attempt whose end is not told is made again.
const REPORT_AGAIN: Duration = Duration::from_millis(500);
const REPORTS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_leads_to_addresses_that_are_checked_and_to_no_others() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let allowed = AllowedNetworks(vec!["10.0.0.0/8".parse().unwrap()]);
        let found = [ip("127.0.0.1"), ip("10.1.1.1"), ip("93.184.216.34"), ip("fe80::1")];
        let addrs = admitted(&allowed, found.into_iter()).unwrap();
        assert_eq!(addrs, [ip("10.1.1.1"), ip("93.184.216.34")]);
        let refused = admitted(&allowed, [ip("169.254.169.254")].into_iter()).unwrap_err();
        assert!(refused.to_string().contains("169.254.169.254"), "{refused}");
        let none = admitted(&allowed, std::iter::empty()).unwrap_err();
        assert!(matches!(none, ResolveError::None));
    }
}
