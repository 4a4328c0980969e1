//! Leave that was given for as long as somebody watches, and is looked at again meanwhile.
//!
//! ```text
//! another configuration, `until_s` --look--> Holds       the address alone says so, or all that
//!                                                        was asked is as it was
//!                                        --> Over        nobody from there may, or who has shown
//!                                                        nothing would have to
//!                                        --> Ask         a judge, with what was shown then
//! Answer --settle--> Holds, Over                         no answer: again, `PATIENCE_S` at most
//! ```
//! Requests of RTSP and HLS are judged one by one; who watches by WebRTC asks once only.
//! Invariant: leave under another configuration holds only when that one gives it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::question::{Allowed, Answer, Question};
use super::rules::{Admission, Ways, admission};
use super::shown::Shown;
use crate::base::secret::Secret;
use crate::config::access::{AccessConfig, Action};
use crate::config::paths::PathTable;

/// Leave to watch a path: see the module.
#[derive(Debug)]
pub struct Permit {
    /// What was asked. Of who need not say who he is, what would be.
    question: Question,
    allowed: Allowed,
    /// It was found out under this configuration.
    paths: Arc<PathTable>,
    /// UTC seconds at which it was.
    since_s: i64,
    /// UTC seconds since which nobody could answer.
    unanswered_s: Option<i64>,
}

/// What becomes of who has leave.
#[derive(Debug)]
pub enum Look {
    /// It goes on.
    Holds,
    /// It is over.
    Over(Over),
    /// A judge is asked [`Permit::question`] of these ways, and its answer goes to
    /// [`Permit::settle`].
    Ask(Ways),
}

/// Why leave is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Over {
    /// The configuration has changed.
    #[error("the configuration does not let the viewer watch this path any more")]
    Rules,
    /// What was shown counts no longer.
    #[error("the name, password or token of the viewer does not count any more")]
    Credentials,
    /// A judge cannot be asked.
    #[error("it cannot be found out whether the viewer may still watch")]
    Unanswered,
}

impl Permit {
    /// Leave that was given for `question` under `paths`, at this UTC second.
    #[must_use]
    pub fn new(
        question: Question,
        allowed: Allowed,
        (paths, since_s): (Arc<PathTable>, i64),
    ) -> Self {
        Self { question, allowed, paths, since_s, unanswered_s: None }
    }

    /// Leave of somebody at this address who need not say who he is.
    #[must_use]
    pub fn open(path: Arc<str>, peer: IpAddr, paths: Arc<PathTable>) -> Self {
        let question = Question {
            action: Action::Read,
            path,
            protocol: "hls",
            peer,
            user_agent: None,
            shown: Shown::Nothing,
            token: None,
            query: None,
            ways: Ways::default(),
            job: None,
            access: Arc::clone(&paths.access),
        };
        Self::new(question, Allowed::default(), (paths, 0))
    }

    /// The user, where one was shown.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<str>> {
        self.allowed.user.as_ref()
    }

    /// Notes what the client has shown, where it need not have: another configuration may ask for
    /// it.
    pub fn set_shown(&mut self, shown: Shown, token: Option<Secret>, query: Option<Secret>) {
        self.question = Question { shown, token, query, ..self.question.clone() };
    }

    /// Notes the `User-Agent` of the client.
    pub fn set_user_agent(&mut self, user_agent: Option<String>) {
        self.question.user_agent = user_agent;
    }

    /// `User-Agent` of the client.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        self.question.user_agent.as_deref()
    }

    /// Looks at it under this configuration, at this time.
    pub fn look(&mut self, paths: &Arc<PathTable>, now_s: i64, compared: &mut Compared) -> Look {
        let least_s = if self.allowed.is_of_webhook { self.since_s + WEBHOOK_EVERY_S } else { 0 };
        let is_over = self.allowed.until_s.is_some_and(|until_s| until_s.max(least_s) <= now_s);
        if Arc::ptr_eq(&self.paths, paths) && !is_over {
            self.unanswered_s = None;
            return Look::Holds;
        }
        let entries = paths.entries(&self.question.path, self.question.action);
        let ways = match admission(&entries, self.question.peer) {
            Admission::Open => {
                (self.allowed, self.unanswered_s) = (Allowed::default(), None);
                self.question.ways = Ways::default();
                self.paths = Arc::clone(paths);
                return Look::Holds;
            }
            Admission::Closed => return Look::Over(Over::Rules),
            Admission::Login(ways) => ways,
        };
        let is_same =
            ways == self.question.ways && compared.are_same(&self.question.access, &paths.access);
        if is_same && !is_over {
            // The next configuration's is compared with this one, by its address.
            self.question.access = Arc::clone(&paths.access);
            (self.paths, self.unanswered_s) = (Arc::clone(paths), None);
            return Look::Holds;
        }
        let shows_nothing = self.question.shown == Shown::Nothing && self.question.token.is_none();
        if shows_nothing && !ways.webhook {
            return Look::Over(Over::Rules);
        }
        Look::Ask(ways)
    }

    /// What a judge is asked under this configuration.
    #[must_use]
    pub fn question(&self, ways: Ways, paths: &PathTable) -> Box<Question> {
        let access = Arc::clone(&paths.access);
        Box::new(Question { ways, access, ..self.question.clone() })
    }

    /// What the answer to a question of [`Self::look`] under `paths` makes of it.
    ///
    /// # Errors
    /// Leave is over.
    pub fn settle(
        &mut self,
        answer: Answer,
        paths: &Arc<PathTable>,
        now_s: i64,
    ) -> Result<(), Over> {
        match answer {
            Answer::Allowed(allowed) => {
                let entries = paths.entries(&self.question.path, self.question.action);
                if let Admission::Login(ways) = admission(&entries, self.question.peer) {
                    self.question.ways = ways;
                }
                self.question.access = Arc::clone(&paths.access);
                (self.allowed, self.unanswered_s) = (allowed, None);
                (self.paths, self.since_s) = (Arc::clone(paths), now_s);
                Ok(())
            }
            Answer::Unknown | Answer::Wrong | Answer::NotCapable(_) => Err(Over::Credentials),
            Answer::Forbidden => Err(Over::Rules),
            Answer::Unavailable => {
                let since_s = *self.unanswered_s.get_or_insert(now_s);
                if now_s.saturating_sub(since_s) < PATIENCE_S {
                    Ok(())
                } else {
                    Err(Over::Unanswered)
                }
            }
        }
    }
}

/// Which users and keys are the same as others: all who watch are looked at when a file has been
/// read again, and it may name thousands of users.
/// Bound: `COMPARED_MAX` pairs; the oldest goes.
#[derive(Debug, Default)]
pub struct Compared(VecDeque<(Arc<AccessConfig>, Arc<AccessConfig>, bool)>);

impl Compared {
    fn are_same(&mut self, one: &Arc<AccessConfig>, other: &Arc<AccessConfig>) -> bool {
        if Arc::ptr_eq(one, other) {
            return true;
        }
        let mut pairs = self.0.iter();
        let is_pair = |(a, b, _): &&(Arc<AccessConfig>, Arc<AccessConfig>, bool)| {
            Arc::ptr_eq(a, one) && Arc::ptr_eq(b, other)
        };
        if let Some((_, _, is_same)) = pairs.find(is_pair) {
            return *is_same;
        }
        let is_same = one == other;
        if self.0.len() >= COMPARED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((Arc::clone(one), Arc::clone(other), is_same));
        is_same
    }
}

/// Who watches has leave under the newest configuration, or one of a few before.
const COMPARED_MAX: usize = 4;
/// A webhook that is started again does not end who watches; one that is gone does.
const PATIENCE_S: i64 = 60;
/// Between two questions to a webhook for one viewer: players of RTSP say as often that they are
/// still there.
const WEBHOOK_EVERY_S: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn table(read: &str, users: &[&str]) -> Arc<PathTable> {
        let users: String =
            users.iter().map(|name| format!("[user.{name}]\npassword = \"{HASH}\"\n")).collect();
        let text = format!("{users}[path.\"live/a\"]\nread = {read}\n");
        config::load(Some(("f", &text)), [], &[]).unwrap().config.paths
    }

    /// Of a form that can be configured; nothing is compared with it here.
    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2g";

    fn shown(paths: &Arc<PathTable>, until_s: Option<i64>) -> Permit {
        let peer = IpAddr::from([192, 0, 2, 1]);
        let entries = paths.entries("live/a", Action::Read);
        let Admission::Login(ways) = admission(&entries, peer) else { panic!("no login") };
        let open = Permit::open("live/a".into(), peer, Arc::clone(paths));
        let shown = Shown::Basic { user: "ann".to_owned(), password: Secret::new("secret") };
        let question = Question { shown, ways, ..open.question };
        let allowed = Allowed { user: Some("ann".into()), until_s, ..Allowed::default() };
        Permit::new(question, allowed, (Arc::clone(paths), 0))
    }

    fn look(permit: &mut Permit, paths: &Arc<PathTable>, now_s: i64) -> Look {
        permit.look(paths, now_s, &mut Compared::default())
    }

    fn word(look: &Look) -> &'static str {
        match look {
            Look::Holds => "holds",
            Look::Over(Over::Rules) => "rules",
            Look::Over(_) => "over",
            Look::Ask(_) => "ask",
        }
    }

    #[test]
    fn leave_without_a_name_holds_while_the_rules_want_none() {
        let open = table("[\"any\"]", &[]);
        for (read, expected) in [
            ("[\"any\"]", "holds"),
            ("[\"192.0.2.0/24\"]", "holds"),
            ("[\"10.0.0.0/8\"]", "rules"),
            ("[\"users\"]", "rules"),
        ] {
            let mut permit =
                Permit::open("live/a".into(), [192, 0, 2, 1].into(), Arc::clone(&open));
            assert_eq!(word(&look(&mut permit, &open, 0)), "holds");
            assert_eq!(word(&look(&mut permit, &table(read, &["ann"]), 0)), expected, "{read}");
        }
    }

    #[test]
    fn leave_of_a_user_is_judged_again_when_something_of_it_has_changed() {
        let paths = table("[\"users\"]", &["ann"]);
        for (read, users, expected) in [
            ("[\"users\"]", &["ann"][..], "holds"),
            ("[\"users\"]", &["bob"], "ask"),
            ("[\"user:bob\"]", &["ann", "bob"], "ask"),
            ("[\"10.0.0.0/8\"]", &["ann"], "rules"),
            ("[\"any\"]", &["bob"], "holds"),
        ] {
            let other = table(read, users);
            let mut permit = shown(&paths, None);
            let looked = look(&mut permit, &other, 0);
            assert_eq!(word(&looked), expected, "{read}");
            if let Look::Ask(ways) = looked {
                assert_eq!(permit.question(ways, &other).access, other.access);
                assert_eq!(permit.settle(Answer::Forbidden, &other, 0), Err(Over::Rules));
                assert_eq!(permit.settle(Answer::Wrong, &other, 0), Err(Over::Credentials));
                let allowed = Allowed { user: Some("ann".into()), ..Allowed::default() };
                assert_eq!(permit.settle(Answer::Allowed(allowed), &other, 0), Ok(()));
                assert_eq!(word(&look(&mut permit, &other, 0)), "holds");
            }
        }
    }

    #[test]
    fn leave_that_runs_out_is_asked_for_again_and_a_judge_that_is_gone_is_waited_for_a_while() {
        let paths = table("[\"users\"]", &["ann"]);
        let mut permit = shown(&paths, Some(100));
        assert_eq!(word(&look(&mut permit, &paths, 99)), "holds");
        assert_eq!(word(&look(&mut permit, &paths, 100)), "ask");
        assert_eq!(permit.settle(Answer::Unavailable, &paths, 100), Ok(()));
        assert_eq!(word(&look(&mut permit, &paths, 159)), "ask");
        assert_eq!(permit.settle(Answer::Unavailable, &paths, 159), Ok(()));
        assert_eq!(permit.settle(Answer::Unavailable, &paths, 160), Err(Over::Unanswered));
    }

    /// Hours later the first missing answer ended a viewer.
    #[test]
    fn patience_begins_anew_when_leave_holds_meanwhile() {
        let paths = table("[\"users\"]", &["ann"]);
        let mut permit = shown(&paths, None);
        let other = table("[\"users\"]", &["bob"]);
        assert_eq!(word(&look(&mut permit, &other, 100)), "ask");
        assert_eq!(permit.settle(Answer::Unavailable, &other, 100), Ok(()));
        assert_eq!(word(&look(&mut permit, &table("[\"users\"]", &["ann"]), 101)), "holds");
        assert_eq!(word(&look(&mut permit, &other, 9_000)), "ask");
        assert_eq!(permit.settle(Answer::Unavailable, &other, 9_000), Ok(()));
    }

    /// The end of a token was put off by half a minute where a webhook could be asked as well.
    #[test]
    fn webhook_is_asked_seldom_and_a_token_has_its_own_end() {
        let paths = table("[\"users\"]", &["ann"]);
        for (is_of_webhook, expected) in [(false, 103), (true, 130)] {
            let mut permit = shown(&paths, None);
            let allowed = Allowed { user: None, until_s: Some(103), is_of_webhook };
            permit.settle(Answer::Allowed(allowed), &paths, 100).unwrap();
            permit.question.ways.webhook = true;
            assert_eq!(word(&look(&mut permit, &paths, expected - 1)), "holds");
            assert_eq!(word(&look(&mut permit, &paths, expected)), "ask");
        }
    }

    /// Who had shown a name all the while was ended when one was asked for.
    #[test]
    fn what_was_shown_on_an_open_path_is_judged_when_it_is_asked_for() {
        let open = table("[\"any\"]", &[]);
        let mut permit = Permit::open("live/a".into(), [192, 0, 2, 1].into(), Arc::clone(&open));
        let shown = Shown::Basic { user: "ann".to_owned(), password: Secret::new("secret") };
        permit.set_shown(shown.clone(), None, Some(Secret::new("a=b")));
        assert_eq!(word(&look(&mut permit, &open, 0)), "holds");
        let closed = table("[\"users\"]", &["ann"]);
        let Look::Ask(ways) = look(&mut permit, &closed, 0) else { panic!("it is not asked") };
        let question = permit.question(ways, &closed);
        assert_eq!((question.shown, question.query), (shown, Some(Secret::new("a=b"))));
    }

    #[test]
    fn configurations_are_compared_once() {
        let of = |users: &[&str]| Arc::clone(&table("[\"users\"]", users).access);
        let (first, same, other) = (of(&["ann"]), of(&["ann"]), of(&["bob"]));
        let mut compared = Compared::default();
        for _ in 0..10 {
            assert!(compared.are_same(&first, &same) && !compared.are_same(&first, &other));
        }
        assert_eq!(compared.0.len(), 2);
        for _ in 0..10 {
            assert!(compared.are_same(&of(&["ann"]), &first));
        }
        assert_eq!(compared.0.len(), COMPARED_MAX);
    }
}
