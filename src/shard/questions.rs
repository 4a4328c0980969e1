//! Questions of the control thread to a shard. One question a turn is answered.
//!
//! ```text
//!  API, scrape --> inbox --> questions --one a turn--> reply: a page, and where the next begins
//! ```
//! Lists are long, and no playback depends on them. So each answer is a page, the control thread
//! asks for the next one, and commands of players do not wait behind lists.
//!
//! Bounds: `QUESTIONS_MAX` questions wait; a question beyond is dropped, and its asker sees
//! the reply dropped. The work for an answer is bounded by the page.

use std::collections::VecDeque;

use crate::base::ids::SessionId;
use crate::consumers::sessions::Sessions;
use crate::live::core::info::{PathsPage, PathsPlace};
use crate::metrics::paths::PathTallies;
use crate::session::info::{SessionInfo, SessionsPage};

/// Takes an answer; called once.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// A question with the place for its answer.
pub enum Question {
    /// Sessions of the shard, in pages.
    Sessions {
        /// The page begins behind this id; `None`: with the first session.
        after: Option<SessionId>,
        /// Takes the page.
        reply: Reply<SessionsPage>,
    },
    /// One session.
    Session {
        /// Id of the session.
        id: SessionId,
        /// Takes the session; `None`: the shard has none of that id.
        reply: Reply<Option<SessionInfo>>,
    },
    /// State of live paths, in pages.
    Paths {
        /// Name of one path; `None`: all paths.
        wanted: Option<String>,
        /// Start of the page.
        from: PathsPlace,
        /// Takes the page.
        reply: Reply<PathsPage>,
    },
    /// Sums of all live paths, for the metrics.
    PathTable(Reply<PathTallies>),
}

/// Questions that wait for their turn, oldest first.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: VecDeque<Question>,
}

impl Questions {
    /// Queues a question. It is dropped when `QUESTIONS_MAX` wait already.
    pub(super) fn put(&mut self, question: Question) {
        if self.waiting.len() < QUESTIONS_MAX {
            self.waiting.push_back(question);
        }
    }

    /// The oldest question, which is answered next.
    pub(super) fn pop(&mut self) -> Option<Question> {
        self.waiting.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Question {
    pub(super) fn answer(self, sessions: &Sessions) {
        match self {
            Self::Sessions { after, reply } => reply(sessions.page(after)),
            Self::Session { id, reply } => reply(sessions.session_info(id)),
            Self::Paths { wanted, from, reply } => {
                let wanted = wanted.as_deref();
                let mut page = sessions.live.paths_page(&sessions.cx, wanted, from);
                if page.next.is_none() {
                    sessions.lineups.show_viewers(&sessions.cx, wanted, &mut page);
                }
                reply(page);
            }
            Self::PathTable(reply) => reply(sessions.live.path_table(&sessions.cx)),
        }
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
