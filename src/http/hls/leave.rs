//! Whether a client may watch a path: the rules of RTSP, by Basic, a token, or its address.
//!
//! ```text
//! list of the path, address --Open--> yes
//!                           --Closed--> 403
//!                           --Login--> known? --> throttle --> judge (`appliance::gate`) --> ..
//! ```
//! Digest is not offered: a nonce belongs to one connection, and browsers open many. What was found
//! out of credentials counts for `KNOWN_MAX_S`, for the same path and the same configuration.
//! Bound: `KNOWN_MAX` of these; the oldest half is forgotten when there are more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{StatusCode, header};
use tokio::time::{sleep, timeout};

use super::view::HlsView;
use super::{Asked, Problem};
use crate::access::question::{Answer, Question};
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
    /// Hash of path, address and credentials; until when.
    until: HashMap<[u8; 32], Mono>,
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
    ) -> Result<Leave, Problem> {
        let paths = view.paths();
        let entries = paths.entries(asked.path, Action::Read);
        let ways = match admission(&entries, ip) {
            Admission::Open => {
                let is_for_all = |entry: &crate::config::access_list::Entry| {
                    entry.who == Who::Anyone && entry.from == Place::Anywhere
                };
                let is_public = entries.iter().any(is_for_all);
                return Ok(if is_public { Leave::Public } else { Leave::Private });
            }
            Admission::Closed => return Err(self.forbidden(asked.path, ip, view.now())),
            Admission::Login(ways) => ways,
        };
        let header = asked.headers.get(header::AUTHORIZATION);
        let header = header.map(|value| value.to_str().unwrap_or("-"));
        let shown = Shown::read(header).map_err(|_| unauthorized(&ways))?;
        let token = Shown::token_in(asked.query).filter(|_| ways.jwt || ways.webhook);
        let is_bare = shown == Shown::Nothing && token.is_none();
        if (is_bare && !ways.webhook) || matches!(shown, Shown::Digest(_)) {
            return Err(unauthorized(&ways));
        }
        let mark = mark(asked, ip, header);
        let now = view.now();
        if self.is_known(&paths, &mark, now) {
            return Ok(Leave::Private);
        }
        if !is_bare {
            wait_for_turn(view, ip, now).await?;
        }
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
            access: Arc::clone(&paths.access),
        };
        match timeout(ANSWER_MAX, view.judge(question)).await {
            Ok(Ok(Answer::Allowed(_))) => {
                self.keep(&paths, mark, now);
                Ok(Leave::Private)
            }
            Ok(Ok(Answer::Unknown)) => Err(unauthorized(&ways)),
            Ok(Ok(Answer::Wrong)) => {
                view.throttle().fail(ip, view.now());
                HLS.logins_failed.add(1);
                if let Some(count) = self.is_to_be_said(FAILED, now) {
                    tracing::warn!(
                        code = "HE-W511", %ip, path = asked.path, action = "read", count,
                        "a login failed: name, password or token is wrong"
                    );
                }
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

    fn forbidden(&self, path: &str, ip: IpAddr, now: Mono) -> Problem {
        if let Some(count) = self.is_to_be_said(REFUSED, now) {
            tracing::warn!(
                code = "HE-W512", %ip, path, action = "read", count,
                "a request is refused: the configuration does not allow it"
            );
        }
        Problem::forbidden("the configuration does not let you watch this path")
    }

    fn is_known(&self, paths: &Arc<PathTable>, mark: &[u8; 32], now: Mono) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.paths.as_ref().is_none_or(|known| !Arc::ptr_eq(known, paths)) {
            *known = Known { paths: Some(Arc::clone(paths)), until: HashMap::new() };
        }
        known.until.get(mark).is_some_and(|until| now < *until)
    }

    fn keep(&self, paths: &Arc<PathTable>, mark: [u8; 32], now: Mono) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What was asked under another configuration is not known under this one.
        if known.paths.as_ref().is_none_or(|known| !Arc::ptr_eq(known, paths)) {
            return;
        }
        if known.until.len() >= KNOWN_MAX {
            let mut times: Vec<Mono> = known.until.values().copied().collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or(now);
            known.until.retain(|_, until| *until > middle);
        }
        known.until.insert(mark, now + Duration::from_secs(KNOWN_MAX_S));
    }
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
