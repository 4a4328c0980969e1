//! Whether a client may watch a path: the rules of RTSP, by Basic, a token, or its address.
//!
//! ```text
//! list of the path, address --Open--> yes
//!                           --Closed--> 403
//!                           --Login--> known? --> throttle --> judge (`appliance::gate`) --> ..
//! ```
//! Digest is not offered: a nonce belongs to one connection, and browsers open many. What was found
//! out of credentials counts for `KNOWN_MAX_S`, and no longer than a token, for the same path and
//! the same configuration. Who watches by WebRTC asks once, so its leave is looked at again
//! (`access::permit`).
//! Bound: `KNOWN_MAX` of these; the oldest half is forgotten when there are more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{StatusCode, header};
use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::view::HlsView;
use super::{Asked, Problem};
use crate::access::permit::Permit;
use crate::access::question::{Allowed, Answer, Question};
use crate::access::rules::{Admission, UserSet, Ways, admission};
use crate::access::shown::Shown;
use crate::access::throttle::Turn;
use crate::base::secret::Secret;
use crate::base::seldom::Seldom;
use crate::base::time::Mono;
use crate::config::access::Action;
use crate::config::access_list::{Place, Who};
use crate::config::paths::PathTable;
use crate::metrics::cells::HLS;

/// Leave that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Everybody has it: caches may keep answers.
    Public,
    /// This client has it.
    Private,
}

/// Leave, and how it can be looked at again.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) leave: Leave,
    pub(super) permit: Permit,
}

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    known: Mutex<Known>,
    /// Logins that failed, and requests that were refused.
    said: Mutex<[Seldom; 2]>,
}

#[derive(Debug, Default)]
struct Known {
    /// Under which configuration.
    paths: Option<Arc<PathTable>>,
    /// Hash of path, address and credentials; what was found out, and until when it counts.
    until: HashMap<[u8; 32], (Mono, Allowed)>,
}

impl Leaves {
    /// Asks for leave.
    ///
    /// # Errors
    /// 401, 403 or 503.
    pub(super) async fn ask(
        &self,
        view: &dyn HlsView,
        asked: &Asked<'_>,
        ip: IpAddr,
    ) -> Result<Given, Problem> {
        let paths = view.paths();
        let entries = paths.entries(asked.path, Action::Read);
        let ways = match admission(&entries, ip) {
            Admission::Open => {
                let is_for_all = |entry: &crate::config::access_list::Entry| {
                    entry.who == Who::Anyone && entry.from == Place::Anywhere
                };
                let is_public = entries.iter().any(is_for_all);
                let leave = if is_public { Leave::Public } else { Leave::Private };
                let mut permit = Permit::open(asked.path.into(), ip.to_canonical(), paths);
                let (shown, query) = (shown_anyway(asked), asked.query.map(Secret::new));
                permit.set_shown(shown, Shown::token_in(asked.query), query);
                permit.set_user_agent(user_agent(asked));
                return Ok(Given { leave, permit });
            }
            Admission::Closed => return Err(self.forbidden(asked.path, ip, view.now())),
            Admission::Login(ways) => ways,
        };
        let header = asked.headers.get(header::AUTHORIZATION);
        let header = header.map(|value| value.to_str().unwrap_or("-"));
        let shown = Shown::read(header).map_err(|_| unauthorized(&ways))?;
        let token = Shown::token_in(asked.query);
        let is_bare = shown == Shown::Nothing && !(token.is_some() && (ways.jwt || ways.webhook));
        if (is_bare && !ways.webhook) || matches!(shown, Shown::Digest(_)) {
            return Err(unauthorized(&ways));
        }
        let mark = mark(asked, ip, header);
        let (now, now_s) = (view.now(), Timestamp::now().as_second());
        let question = Question {
            action: Action::Read,
            path: asked.path.into(),
            protocol: "hls",
            peer: ip.to_canonical(),
            user_agent: user_agent(asked),
            shown,
            token,
            query: asked.query.map(Secret::new),
            ways: ways.clone(),
            job: None,
            access: Arc::clone(&paths.access),
        };
        let given = |question, allowed, paths| {
            let permit = Permit::new(question, allowed, (paths, now_s));
            Ok(Given { leave: Leave::Private, permit })
        };
        if let Some(allowed) = self.find(&paths, &mark, now) {
            return given(question, allowed, paths);
        }
        if !is_bare {
            wait_for_turn(view, ip, now).await?;
        }
        match timeout(ANSWER_MAX, view.judge(question.clone())).await {
            Ok(Ok(Answer::Allowed(allowed))) => {
                let until = known_until(&allowed, now, now_s);
                self.keep(&paths, mark, (now, until), &allowed);
                given(question, allowed, paths)
            }
            // Capabilities are for RTSP: here one is as good as nothing.
            Ok(Ok(Answer::Unknown | Answer::NotCapable(_))) => Err(unauthorized(&ways)),
            Ok(Ok(Answer::Wrong)) => {
                view.throttle().fail(ip, view.now());
                self.note_failure(asked.path, ip, now);
                Err(unauthorized(&ways))
            }
            Ok(Ok(Answer::Forbidden)) => Err(self.forbidden(asked.path, ip, now)),
            Ok(Ok(Answer::Unavailable) | Err(_)) | Err(_) => {
                Err(Problem::unavailable("it cannot be found out now whether you may watch this"))
            }
        }
    }

    /// How often it has happened since it was said; `None`: it is not to be said now.
    fn is_to_be_said(&self, kind: usize, now: Mono) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.get_mut(kind)?.happened(now)
    }

    fn note_failure(&self, path: &str, ip: IpAddr, now: Mono) {
        HLS.logins_failed.add(1);
        if let Some(count) = self.is_to_be_said(FAILED, now) {
            tracing::warn!(
                code = "HE-W511", %ip, path, action = "read", count,
                "a login failed: name, password or token is wrong"
            );
        }
    }

    fn forbidden(&self, path: &str, ip: IpAddr, now: Mono) -> Problem {
        if let Some(count) = self.is_to_be_said(REFUSED, now) {
            tracing::warn!(
                code = "HE-W512", %ip, path, action = "read", count,
                "a request is refused: the configuration does not allow it"
            );
        }
        Problem::forbidden("the configuration does not let you watch this path")
    }

    fn find(&self, paths: &Arc<PathTable>, mark: &[u8; 32], now: Mono) -> Option<Allowed> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.paths.as_ref().is_none_or(|known| !Arc::ptr_eq(known, paths)) {
            *known = Known { paths: Some(Arc::clone(paths)), until: HashMap::new() };
        }
        let (until, allowed) = known.until.get(mark)?;
        (now < *until).then(|| allowed.clone())
    }

    fn keep(
        &self,
        paths: &Arc<PathTable>,
        mark: [u8; 32],
        (now, until): (Mono, Mono),
        allowed: &Allowed,
    ) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What was asked under another configuration is not known under this one.
        if known.paths.as_ref().is_none_or(|known| !Arc::ptr_eq(known, paths)) {
            return;
        }
        if known.until.len() >= KNOWN_MAX {
            let mut times: Vec<Mono> = known.until.values().map(|(until, _)| *until).collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or(now);
            known.until.retain(|_, (until, _)| *until > middle);
        }
        known.until.insert(mark, (until, allowed.clone()));
    }
}

/// Until when leave that was given now counts without another question.
fn known_until(allowed: &Allowed, now: Mono, now_s: i64) -> Mono {
    let left = |until_s: i64| u64::try_from(until_s.saturating_sub(now_s)).unwrap_or(0);
    let left_s = allowed.until_s.map_or(KNOWN_MAX_S, left).min(KNOWN_MAX_S);
    now + Duration::from_secs(left_s)
}

async fn wait_for_turn(view: &dyn HlsView, ip: IpAddr, now: Mono) -> Result<(), Problem> {
    match view.throttle().turn(ip, now) {
        Turn::Now => Ok(()),
        Turn::At(due) => {
            sleep(Duration::from_nanos(due.0.saturating_sub(now.0))).await;
            Ok(())
        }
        Turn::Never { retry } => {
            Err(Problem::too_many("too many logins of this address have failed", retry))
        }
    }
}

/// A hash that tells what was asked with what, without keeping a secret.
fn mark(asked: &Asked<'_>, ip: IpAddr, header: Option<&str>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // A webhook is told all of it. What players add by themselves is no credential.
    let query = asked.query.unwrap_or_default().split('&');
    let query: Vec<&str> = query.filter(|pair| !pair.starts_with("_HLS_")).collect();
    for part in [asked.path, header.unwrap_or_default(), &query.join("&"), &ip.to_string()] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// What a client shows that need not; nothing, where that cannot be read.
fn shown_anyway(asked: &Asked<'_>) -> Shown {
    let header = asked.headers.get(header::AUTHORIZATION);
    let shown = Shown::read(header.and_then(|value| value.to_str().ok()));
    shown.ok().filter(|shown| !matches!(shown, Shown::Digest(_))).unwrap_or(Shown::Nothing)
}

fn user_agent(asked: &Asked<'_>) -> Option<String> {
    let value = asked.headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(value.chars().take(USER_AGENT_MAX).collect())
}

fn unauthorized(ways: &Ways) -> Problem {
    let how = match (&ways.users, ways.jwt || ways.webhook) {
        (UserSet::Nobody, _) => "a token: ?token=.. or Authorization: Bearer",
        (_, false) => "a name and a password",
        (_, true) => "a name and a password, or a token (?token=..)",
    };
    Problem::new(StatusCode::UNAUTHORIZED, format!("watching this path needs {how}"))
}

/// Places in `Leaves::said`.
const FAILED: usize = 0;
const REFUSED: usize = 1;
/// As long as a viewer needs for a few segments; a user that is removed goes with the
/// configuration, at once.
const KNOWN_MAX_S: u64 = 30;
/// As many as viewers.
const KNOWN_MAX: usize = 8_192;
/// A hash of a password takes tens of milliseconds, a webhook its own time limit.
const ANSWER_MAX: Duration = Duration::from_secs(65);
/// Characters of `User-Agent` for a webhook.
const USER_AGENT_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// A viewer of HLS went on for half a minute behind the end of its token.
    #[test]
    fn leave_by_a_token_counts_no_longer_than_the_token() {
        let at = |until_s| {
            known_until(&Allowed { until_s, ..Allowed::default() }, Mono(7_000_000_000), 100)
        };
        let seconds = |until_s| at(until_s).since(Mono(7_000_000_000)).as_secs();
        assert_eq!(
            [None, Some(110), Some(100), Some(90), Some(9_999)].map(seconds),
            [30, 10, 0, 0, 30]
        );
        let (leaves, paths, mark) = (Leaves::default(), Arc::<PathTable>::default(), [7; 32]);
        let known = |at: u64| leaves.find(&paths, &mark, Mono(at));
        assert_eq!(known(0), None);
        let allowed =
            Allowed { user: Some("ann".into()), until_s: Some(110), ..Allowed::default() };
        leaves.keep(&paths, mark, (Mono(1), Mono(10)), &allowed);
        assert_eq!((known(9), known(10)), (Some(allowed), None));
        assert_eq!(leaves.find(&Arc::default(), &mark, Mono(9)), None, "another configuration");
    }
}
