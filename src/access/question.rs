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
use crate::config::added_paths::JobPath;

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
    /// The path is one of a job: a capability of the job is one more way.
    pub job: Option<Arc<JobPath>>,
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
    /// It shows a capability of a job that does not count: 401, or 403 where nothing else helps.
    NotCapable(NotCapable),
    /// It cannot be said now: 503.
    Unavailable,
}

/// Why a capability does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCapable {
    /// No job has brought the path here, or it was asked for another right than to read.
    #[error("no job has this path open here for others to read")]
    NotOpen,
    /// Not signed by the base of this node.
    #[error("it is not signed by the base of this node")]
    Forged,
    /// Rightly signed, for something else.
    #[error("it is for another path or another job")]
    Other,
    /// Its time is over, also by a clock that is some minutes off.
    #[error("it has expired: has the other node its base, and are both clocks right?")]
    Expired,
    /// It would count for longer than any does.
    #[error("it is of a time to come: are the clocks of the base and of this node right?")]
    Early,
}

/// Before the name of a node in [`Allowed::user`].
pub const NODE_PREFIX: &str = "node:";

/// A client that may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Name of the user, `sub` of the token, or `node:` and the name of a node of a job.
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
