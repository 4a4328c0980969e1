//! What cannot be judged on a shard: hashes of passwords that take tens of milliseconds to check,
//! signatures of tokens, and what a webhook says.
//!
//! ```text
//! shard --Question--> task of the pool --> Judge, on threads of its own --Answer--> shard
//! ```
//! A question has all that is needed to answer it, so a judge keeps no configuration. Invariant:
//! neither a question nor an answer shows a secret when it is printed.

use std::net::IpAddr;
use std::sync::Arc;

use super::rules::Ways;
use super::shown::Shown;
use crate::base::secret::Secret;
use crate::config::access::{AccessConfig, Action};

/// May this client do that?
#[derive(Debug, Clone)]
pub struct Question {
    /// What it wants to do.
    pub action: Action,
    /// Name of the path, or of the title with its folder.
    pub path: Arc<str>,
    /// By which protocol it asks, as webhooks are told: `rtsp` or `hls`.
    pub protocol: &'static str,
    /// Address of the client.
    pub peer: IpAddr,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// Its credentials. Never those of Digest: a shard checks them itself.
    pub shown: Shown,
    /// Token in the query of the URL.
    pub token: Option<Secret>,
    /// The query of the URL: webhooks get it as it is.
    pub query: Option<Secret>,
    /// How it may show that it may.
    pub ways: Ways,
    /// What can be checked.
    pub access: Arc<AccessConfig>,
}

/// What becomes of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may.
    Allowed(Allowed),
    /// It is to say who it is: 401 with challenges.
    Unknown,
    /// Its credentials are wrong: 401 with challenges, and the next one of its address waits.
    Wrong,
    /// It is who it says, and may not: 403.
    Forbidden,
    /// It cannot be said now: 503.
    Unavailable,
}

/// A client that may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Name of the user, or `sub` of the token.
    pub user: Option<Arc<str>>,
    /// UTC seconds: from then on it is asked again. `None`: as long as the connection lives.
    pub until_s: Option<i64>,
    /// A webhook said so, or was to: it need not be asked every few seconds about one client.
    pub is_of_webhook: bool,
}

/// Answers questions, later and on another thread. A reply that is dropped counts as
/// [`Answer::Unavailable`].
pub type Judge = dyn Fn(Question, Box<dyn FnOnce(Answer) + Send>) + Send + Sync;

/// A judge for servers without users: it answers nothing.
#[must_use]
pub fn nobody() -> Arc<Judge> {
    Arc::new(|_question, reply| drop(reply))
}
