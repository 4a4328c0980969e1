//! Viewers whose leave is over, and those whom operators end.
//!
//! ```text
//!  every second: look_after --> viewers whose leave is over are ended
//!                          `--> Asked: questions for a judge --answer--> handle_judged
//! ```
//! Invariant: at most one question of a viewer is under way. Bound: `ASKED_MAX` questions a look;
//! others wait for the next one.

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

impl Whep {
    /// Looks whether all viewers may still watch, under this configuration and at this UTC second.
    pub fn look_after(
        &mut self,
        paths: &Arc<PathTable>,
        now_s: i64,
        now: Instant,
        out: &mut Sink<'_>,
    ) -> Vec<Asked> {
        let (mut asked, mut over) = (Vec::new(), Vec::new());
        let mut compared = Compared::default();
        for (key, viewer) in self.viewers.iter_mut().filter(|(_, viewer)| !viewer.is_judged) {
            match viewer.permit.look(paths, now_s, &mut compared) {
                Look::Holds => {}
                Look::Over(why) => over.push((key, why)),
                Look::Ask(ways) if asked.len() < ASKED_MAX => {
                    viewer.is_judged = true;
                    let question = viewer.permit.question(ways, paths);
                    asked.push(Asked { session: viewer.session, question });
                }
                Look::Ask(_) => {}
            }
        }
        for (key, why) in over {
            self.end(key, &why.into(), now, out);
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
        let ids = self.by_session.keys().filter(|id| after.is_none_or(|after| **id > after));
        let mut ids: Vec<SessionId> = ids.copied().collect();
        ids.sort_unstable();
        ids.truncate(limit);
        ids.into_iter().filter_map(|id| self.viewer(id, now)).collect()
    }

    /// Paths that are watched, with the number of their viewers.
    pub fn watched(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        let watched = self.paths.iter().map(|(path, watched)| (path, watched.viewers.len()));
        watched.filter(|(_, viewers)| *viewers > 0)
    }
}

/// Questions of one look: each may be a hash of a password, which takes tens of milliseconds.
const ASKED_MAX: usize = 16;
