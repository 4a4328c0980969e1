//! Fail-over of a path's source, as operators ask for it and see it.
//!
//! ```text
//!  POST :switch --SwitchRequest--> shard of the path's owner --key frame, refusal--> SwitchResult
//!  GET ---------FailoverInfo-----> state of each source, the last switch, the operator's choice
//! ```
//! Invariant: a request is answered once, when the path is fed from the source, or when it is known
//! that it will not be. Bound: `SWITCH_WAIT`.

use std::time::Duration;

use serde::Serialize;

/// An operator's request for a source of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchRequest {
    /// The source.
    pub to: SwitchTo,
    /// The first packets of the source.
    pub timing: Timing,
}

/// The source that an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwitchTo {
    /// The best one, as without an operator.
    Auto,
    /// As the configuration names it, or its path, or its place.
    Source(String),
}

/// Where a new source begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// At its next key frame; the old source feeds the path until then.
    NextKeyFrame,
    /// At its newest key frame, at once.
    Now,
}

/// What a switch has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchReport {
    /// Name of the path.
    pub path: String,
    /// Path of the source that fed it before.
    pub from: Option<String>,
    /// Path of the source that feeds it now.
    pub to: Option<String>,
    /// Whether the source has changed.
    pub switched: bool,
    /// Time without packets between the two; `None` without a change.
    pub gap_ms: Option<u64>,
    /// The source goes before better ones.
    pub pinned: bool,
    /// What ends that.
    pub pinned_until: Option<&'static str>,
}

/// Why a switch was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// The owner does not know the path.
    #[error("no such path")]
    NoPath,
    /// The path has one source alone.
    #[error("the path has no `fallback`: there is no other source to switch to")]
    NoFallbacks,
    /// The path has no such source.
    #[error("the path has no such source; it has {known}")]
    NoSource {
        /// Names of the sources that it has.
        known: String,
    },
    /// Nobody wants the path.
    #[error("nobody reads the path, and it is fetched on demand: nothing feeds it")]
    Idle,
    /// The source does not send.
    #[error("the source {path} is down: {reason}")]
    Down {
        /// Path of the source.
        path: String,
        /// The cause.
        reason: String,
    },
    /// The source was changed less than `switch_interval` ago.
    #[error("the source was changed just now: ask again in {:.1} s", wait.as_secs_f64())]
    TooSoon {
        /// Time until a switch is possible.
        wait: Duration,
    },
    /// The source sends, and has sent no key frame in time.
    #[error("no key frame of {path} came in time: the source before goes on")]
    NoKeyFrame {
        /// Path of the source.
        path: String,
    },
    /// Another switch was asked for before this one was done.
    #[error("another switch was asked for meanwhile")]
    Superseded,
    /// The path has ended, or its sources have changed.
    #[error("the path has ended meanwhile, or its configuration has changed")]
    Ended,
}

/// Outcome of a `SwitchRequest`.
pub type SwitchResult = Result<SwitchReport, SwitchError>;

/// The place for the answer to a `SwitchRequest`.
pub struct SwitchReply(Box<dyn FnOnce(SwitchResult) + Send>);

impl SwitchReply {
    /// `answer` is called once.
    #[must_use]
    pub fn new(answer: impl FnOnce(SwitchResult) + Send + 'static) -> Self {
        Self(Box::new(answer))
    }

    /// Answers the request.
    pub fn answer(self, result: SwitchResult) {
        self.0(result);
    }
}

impl std::fmt::Debug for SwitchReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SwitchReply")
    }
}

/// Sources of a path with fallbacks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailoverInfo {
    /// Path of the source that feeds the path.
    pub active: Option<String>,
    /// Path of the source that an operator has chosen.
    pub pinned: Option<String>,
    /// The newest change of the source.
    pub last_switch: Option<SwitchInfo>,
    /// In the order of preference.
    pub sources: Vec<FailoverSource>,
}

/// A change of a path's source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwitchInfo {
    /// Path of the source before; `None` when the path had none.
    pub from: Option<String>,
    /// Path of the source since.
    pub to: String,
    /// `start`, `lost`, `better` or `operator`.
    pub cause: &'static str,
    /// Time without packets between the two.
    pub gap_ms: Option<u64>,
    /// When, in UTC (RFC 3339).
    pub at: Option<String>,
    /// Seconds since `at`.
    pub age_s: f64,
}

/// One of the sources of a path with fallbacks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailoverSource {
    /// Place in the order of preference; 0 is the path's own source.
    pub place: usize,
    /// As the configuration names it, without a password.
    pub name: String,
    /// Path of the source.
    pub path: String,
    /// `active`, `standby` (sends, and is kept ready), `good` (sends, and will take over), `wanted`
    /// (asked for, nothing has come yet), `down`, `refused` (its encodings do not fit) or `off`.
    pub state: &'static str,
    /// Why it is `down` or `refused`.
    pub reason: Option<String>,
    /// Since when it is in this state, in UTC (RFC 3339).
    pub since: Option<String>,
    /// Seconds since `since`.
    pub age_s: f64,
}

/// Time within which a switch is done or refused: a source on demand is connected, and waits for a
/// key frame.
pub const SWITCH_WAIT: Duration = Duration::from_secs(8);
