//! Viewers whose leave is over, and those whom operators end.
//!
//! ```text
//!  every second: begin_looks; then, slice by slice:
//!      look_after --> viewers whose leave is over are ended
//!             `-----> Asked: questions for a judge --answer--> handle_judged
//! ```
//! A round of looks begins behind the viewer who was asked about last, so whoever has waited
//! longest is asked about next, however many want it.
//! Invariant: at most one question of a viewer is under way. Bounds: `LOOKS_MAX` viewers a slice,
//! of whom `ENDED_MAX` are ended; `ASKED_MAX` questions a round.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use crate::access::permit::{Compared, Look};
use crate::access::question::{Answer, Question};
use crate::base::ids::SessionId;
use crate::config::paths::PathTable;
use crate::whep::info::ViewerInfo;
use crate::whep::service::Whep;
use crate::whep::{End, Sink};

/// A question whose answer goes to [`Whep::handle_judged`].
#[derive(Debug)]
pub struct Asked {
    /// The viewer whom it is about.
    pub session: SessionId,
    /// What is asked.
    pub question: Box<Question>,
}

/// A round of looks at all viewers.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The viewer who was looked at last.
    at: Option<SessionId>,
    /// The viewer who was asked about last.
    asked: Option<SessionId>,
    /// Viewers that are to be looked at, and questions that may be asked meanwhile.
    left: usize,
    questions: usize,
    compared: Compared,
}

impl Whep {
    /// Begins a round of looks, once the one before is done.
    pub fn begin_looks(&mut self) {
        if self.looks.left == 0 {
            self.looks.at = self.looks.asked;
            (self.looks.left, self.looks.questions) = (self.by_session.len(), ASKED_MAX);
        }
    }

    /// Whether viewers are still to be looked at in this round.
    #[must_use]
    pub fn has_looks(&self) -> bool {
        self.looks.left > 0
    }

    /// Looks whether the next viewers may still watch, under this configuration and at this UTC
    /// second.
    pub fn look_after(
        &mut self,
        paths: &Arc<PathTable>,
        now_s: i64,
        now: Instant,
        out: &mut Sink<'_>,
    ) -> Vec<Asked> {
        let behind = self.looks.at.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.by_session.range((behind, Bound::Unbounded));
        let slice = rest.chain(&self.by_session).map(|(session, key)| (*session, *key));
        let slice: Vec<_> = slice.take(self.looks.left.min(LOOKS_MAX)).collect();
        if slice.is_empty() {
            self.looks.left = 0;
        }
        let (mut asked, mut ended) = (Vec::new(), 0);
        for (session, key) in slice {
            if ended == ENDED_MAX {
                break;
            }
            self.looks.left -= 1;
            self.looks.at = Some(session);
            let Some(viewer) = self.viewers.get_mut(key).filter(|viewer| !viewer.is_judged) else {
                continue;
            };
            match viewer.permit.look(paths, now_s, &mut self.looks.compared) {
                Look::Ask(ways) if self.looks.questions > 0 => {
                    self.looks.questions -= 1;
                    self.looks.asked = Some(session);
                    viewer.is_judged = true;
                    asked.push(Asked { session, question: viewer.permit.question(ways, paths) });
                }
                Look::Holds | Look::Ask(_) => {}
                Look::Over(why) => {
                    ended += 1;
                    self.end(key, &why.into(), now, out);
                }
            }
        }
        asked
    }

    /// A judge has answered, of `paths`.
    pub fn handle_judged(
        &mut self,
        session: SessionId,
        answer: Answer,
        (paths, now_s): (&Arc<PathTable>, i64),
        now: Instant,
        out: &mut Sink<'_>,
    ) {
        let Some(key) = self.by_session.get(&session).copied() else { return };
        let Some(viewer) = self.viewers.get_mut(key) else { return };
        viewer.is_judged = false;
        if let Err(why) = viewer.permit.settle(answer, paths, now_s) {
            self.end(key, &why.into(), now, out);
        }
    }

    /// Ends a session for an operator. False: there is none of that id.
    pub fn kick(&mut self, session: SessionId, now: Instant, out: &mut Sink<'_>) -> bool {
        let key = self.by_session.get(&session).copied();
        if let Some(key) = key {
            self.end(key, &End::Kicked, now, out);
        }
        key.is_some()
    }

    /// One viewer; `None`: there is none of that id.
    #[must_use]
    pub fn viewer(&self, session: SessionId, now: Instant) -> Option<ViewerInfo> {
        let key = self.by_session.get(&session)?;
        Some(self.viewers.get(*key)?.info(now))
    }

    /// At most `limit` viewers behind an id, or from the first on, in the order of their ids.
    #[must_use]
    pub fn viewers(&self, after: Option<SessionId>, limit: usize, now: Instant) -> Vec<ViewerInfo> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.by_session.range((behind, Bound::Unbounded)).take(limit);
        found.filter_map(|(_, key)| Some(self.viewers.get(*key)?.info(now))).collect()
    }

    /// Paths that are watched, with the number of their viewers.
    pub fn watched(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        let watched = self.paths.iter().map(|(path, watched)| (path, watched.viewers.len()));
        watched.filter(|(_, viewers)| *viewers > 0)
    }
}

/// Questions of one round: each may be a hash of a password, which takes tens of milliseconds.
const ASKED_MAX: usize = 16;
/// Viewers of one slice: a look takes less than a microsecond, unless the configuration is new.
const LOOKS_MAX: usize = 256;
/// Viewers that are ended in one slice: each is told by DTLS.
const ENDED_MAX: usize = 32;
