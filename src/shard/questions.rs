//! What the control thread asks of a shard: one question a turn is answered.
//!
//! ```text
//!  API, scrape --> inbox --> questions --one a turn--> reply: a page, and where the next begins
//! ```
//! Lists are long and nobody's playback depends on them: each answer is a page, the control thread
//! asks on, and commands of players do not wait behind them.
//!
//! Bounds: `QUESTIONS_MAX` wait; one beyond is dropped, which its asker sees. What an answer looks
//! at is bounded by the page.

use super::build::Shard;
use crate::base::ids::SessionId;
use crate::live::core::info::{PathsPage, PathsPlace};
use crate::metrics::paths::PathTallies;
use crate::session::info::{SessionInfo, SessionsPage};

/// Called with an answer.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// See the module.
pub enum Question {
    /// Its sessions, from one on.
    Sessions {
        /// Those behind this id; all without it.
        after: Option<SessionId>,
        /// Takes a page.
        reply: Reply<SessionsPage>,
    },
    /// One session.
    Session {
        /// Which.
        id: SessionId,
        /// Takes it, if there is one.
        reply: Reply<Option<SessionInfo>>,
    },
    /// What it knows of live paths, of all or of one.
    Paths {
        /// Which.
        wanted: Option<String>,
        /// Where the page begins.
        from: PathsPlace,
        /// Takes a page.
        reply: Reply<PathsPage>,
    },
    /// Sums of all live paths, for the metrics.
    PathTable(Reply<PathTallies>),
}

impl Shard {
    /// It is answered in a turn of its own.
    pub(super) fn put_question(&mut self, question: Question) {
        if self.questions.len() < QUESTIONS_MAX {
            self.questions.push_back(question);
        }
    }

    /// Answers the one that has waited longest.
    pub(super) fn answer_question(&mut self) {
        let Some(question) = self.questions.pop_front() else { return };
        self.guarded(None, |shard| {
            let sessions = &shard.sessions;
            match question {
                Question::Sessions { after, reply } => reply(sessions.page(after)),
                Question::Session { id, reply } => reply(sessions.session_info(id)),
                Question::Paths { wanted, from, reply } => {
                    reply(sessions.live.paths_page(&sessions.cx, wanted.as_deref(), from));
                }
                Question::PathTable(reply) => reply(sessions.live.path_table(&sessions.cx)),
            }
        });
    }
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sessions { .. } => "Sessions",
            Self::Session { .. } => "Session",
            Self::Paths { .. } => "Paths",
            Self::PathTable(_) => "PathTable",
        })
    }
}

/// A few from each client of the API, whose number is bounded too.
const QUESTIONS_MAX: usize = 256;
