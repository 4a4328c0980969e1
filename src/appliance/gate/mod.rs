//! Answers what a shard cannot judge of a client (`access::question`), on a thread of its own.
//!
//! ```text
//! worker --Question--> queue --> thread "gate" --+--> users: hashes, on threads beside it
//!                                                +--> tokens: keys from a file or a URL
//!                                                `--> webhook: POST, with a deadline
//! ```
//! The thread starts with the first question. Ways are tried in this order, and the first that
//! lets the client in counts. Invariant: a question is answered once, or its reply is dropped,
//! which says that it cannot be answered. Bounds: `QUESTIONS_MAX` at once; `HASHES_AT_ONCE`; those
//! of the caches.

mod cache;
mod hooks;
mod keys;
mod passwords;

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::access::jwt::is_token_like;
use crate::access::question::{Allowed, Answer, Judge, Question};
use crate::access::rules::UserSet;
use crate::access::shown::Shown;
use crate::base::secret::Secret;
use hooks::Hooks;
use keys::KeyRing;
use passwords::Passwords;

type Asked = (Question, Box<dyn FnOnce(Answer) + Send>);

/// A judge whose thread starts when it is first asked.
pub(super) fn judge() -> Arc<Judge> {
    let queue: OnceLock<Option<mpsc::Sender<Asked>>> = OnceLock::new();
    Arc::new(move |question, reply| {
        let Some(queue) = queue.get_or_init(start) else { return };
        // A full queue drops the reply: the client is told to come later.
        let _full = queue.try_send((question, reply));
    })
}

fn start() -> Option<mpsc::Sender<Asked>> {
    let (queue, questions) = mpsc::channel(QUESTIONS_MAX);
    let started = std::thread::Builder::new().name("gate".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("gate-io")
            .build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(serve(questions));
                runtime.shutdown_background();
            }
            Err(error) => {
                tracing::error!(code = "HE-E501", %error, "nobody can be let in by a password");
            }
        }
    });
    match started {
        Ok(_never_joined) => Some(queue),
        Err(error) => {
            tracing::error!(code = "HE-E501", %error, "nobody can be let in by a password");
            None
        }
    }
}

/// Until nobody can ask any more.
async fn serve(mut questions: mpsc::Receiver<Asked>) {
    let gate = Arc::new(Gate::default());
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            Some(_answered) = answering.join_next(), if !answering.is_empty() => {}
            asked = questions.recv(), if answering.len() < QUESTIONS_MAX => {
                let Some((question, reply)) = asked else { return };
                let gate = Arc::clone(&gate);
                answering.spawn(async move { reply(gate.answer(&question).await) });
            }
        }
    }
}

/// What answers.
#[derive(Debug, Default)]
struct Gate {
    passwords: Passwords,
    keys: KeyRing,
    hooks: Hooks,
}

impl Gate {
    async fn answer(&self, question: &Question) -> Answer {
        let ways = &question.ways;
        let mut refused = Answer::Unknown;
        let token = token_of(question);
        if let Shown::Basic { user, password } = &question.shown
            && ways.users != UserSet::Nobody
            && token.is_none()
        {
            let known = question.access.users.get(user.as_str());
            let is_right = self.passwords.check(user, password, known).await;
            match is_right {
                Some(true) if ways.users.has(user) => {
                    let user = Some(user.as_str().into());
                    return Answer::Allowed(Allowed { user, ..Allowed::default() });
                }
                Some(true) => refused = Answer::Forbidden,
                Some(false) => refused = Answer::Wrong,
                None => return Answer::Unavailable,
            }
        }
        let now_s = Timestamp::now().as_second();
        if let Some(token) = token {
            match self.keys.check(question, &token, &self.hooks, now_s).await {
                answer @ Answer::Allowed(_) => return answer,
                answer => refused = answer,
            }
        }
        if ways.webhook
            && let Some(url) = question.access.auth.hook(question.action)
        {
            match (self.hooks.ask(question, url, now_s).await, &refused) {
                (answer @ Answer::Allowed(_), _) => return answer,
                // Who is known is not asked for a name again.
                (_, Answer::Forbidden) => {}
                (answer, _) => refused = answer,
            }
        }
        refused
    }
}

/// The token of a question that may be answered by one.
fn token_of(question: &Question) -> Option<Secret> {
    if !question.ways.jwt {
        return None;
    }
    match &question.shown {
        Shown::Bearer(token) => Some(token.clone()),
        Shown::Basic { password, .. } if is_token_like(password.expose()) => Some(password.clone()),
        _ => question.token.clone(),
    }
}

/// A player waits for its answer: more of them would wait for seconds.
const QUESTIONS_MAX: usize = 1_024;
/// For hashes, and for files and names of hosts.
const BLOCKING_THREADS_MAX: usize = 4;
