//! Answers what a shard cannot judge of a client (`access::question`), on a thread of its own.
//!
//! ```text
//! worker --Question--> queue --> thread "gate" --+--> users: hashes, on threads beside it
//!    |                                           +--> tokens: keys from a file or a URL
//!    '--> capabilities of jobs: here, by a key   `--> webhook: POST, with a deadline
//! ```
//! The thread starts with the first question. Ways are tried in this order, and the first that
//! lets the client in counts. A capability is judged before, by the worker, and waits for nobody.
//! No other way gets it: where it does not count, its client is asked about as if it had shown
//! nothing. Invariant: a question is answered once, or its reply is dropped, which says that it
//! cannot be answered.
//! Bounds: `QUESTIONS_MAX` at once; `HASHES_AT_ONCE`; those of the caches.

mod cache;
mod hooks;
mod keys;
mod passwords;

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::access::jwt::is_token_like;
use crate::access::question::{Allowed, Answer, Judge, NODE_PREFIX, NotCapable, Question};
use crate::access::rules::UserSet;
use crate::access::shown::Shown;
use crate::base::secret::Secret;
use crate::config::added_paths::JobPath;
use crate::dist::ids::{CommandId, CommandKey, JobId};
use crate::dist::keys::{EXPIRY_LEEWAY_S, VerifyKey};
use crate::dist::wire::peer::LiveCapability;
use hooks::Hooks;
use keys::KeyRing;
use passwords::Passwords;

type Reply = Box<dyn FnOnce(Answer) + Send>;
type Asked = (Question, Reply);

/// A judge whose thread starts when it is first asked.
pub(super) fn judge() -> Arc<Judge> {
    let queue: OnceLock<Option<mpsc::Sender<Asked>>> = OnceLock::new();
    Arc::new(move |question, reply| {
        let Some((question, reply)) = first_by_capability(question, reply) else { return };
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
        let now_s = Timestamp::now().as_second();
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

/// Answers a question about who shows a capability. Gives what others are to be asked.
fn first_by_capability(mut question: Question, reply: Reply) -> Option<Asked> {
    let Shown::Bearer(token) = &question.shown else { return Some((question, reply)) };
    if !question.shown.is_capability() {
        return Some((question, reply));
    }
    let now_s = Timestamp::now().as_second();
    let why = match by_capability(question.job.as_deref(), token, &question.path, now_s) {
        Ok(allowed) => {
            reply(Answer::Allowed(allowed));
            return None;
        }
        Err(why) => why,
    };
    let has_token = question.token.is_some() && question.ways.jwt;
    if !question.ways.webhook && !has_token {
        reply(Answer::NotCapable(why));
        return None;
    }
    question.shown = Shown::Nothing;
    let reply = move |answer| {
        reply(match answer {
            Answer::Unknown => Answer::NotCapable(why),
            answer => answer,
        });
    };
    Some((question, Box::new(reply)))
}

/// Leave of a node of this job to read a path of it.
fn by_capability(
    job: Option<&JobPath>,
    token: &Secret,
    path: &str,
    now_s: i64,
) -> Result<Allowed, NotCapable> {
    let job = job.ok_or(NotCapable::NotOpen)?;
    let (id, command) = (JobId(Uuid::from_u128(job.job)), CommandId(job.command));
    let key = CommandKey { job: id, command };
    let base = VerifyKey::from_bytes(&job.base_key).map_err(|_| NotCapable::Forged)?;
    let LiveCapability { node, expires_s, .. } =
        base.admit_live(token.expose(), (key, path), now_s)?;
    Ok(Allowed {
        // No user has such a name, nor the subject of a token.
        user: Some(format!("{NODE_PREFIX}{node}").into()),
        until_s: Some(expires_s.saturating_add(EXPIRY_LEEWAY_S)),
        ..Allowed::default()
    })
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::access::rules::Ways;
    use crate::config::access::Action;
    use crate::dist::ids::NodeName;
    use crate::dist::keys::BaseKeys;

    const JOB: u128 = 7;

    fn keys() -> BaseKeys {
        BaseKeys::from_bytes(&[7; 32])
    }

    /// A capability of a node of the job, that ends so many seconds from now.
    fn capability(path: &str, ends_in_s: i64) -> Secret {
        let key = CommandKey { job: JobId(Uuid::from_u128(JOB)), command: CommandId(1) };
        keys().seal_live(&LiveCapability {
            key,
            path: path.to_owned(),
            node: NodeName::new("n2").unwrap(),
            expires_s: Timestamp::now().as_second() + ends_in_s,
        })
    }

    fn question(token: Secret, webhook: bool) -> Question {
        let base_key = *keys().verify_key().as_bytes();
        Question {
            action: Action::Read,
            path: "live/x".into(),
            protocol: "rtsp",
            peer: "192.0.2.7".parse().unwrap(),
            user_agent: None,
            shown: Shown::Bearer(token),
            token: None,
            query: None,
            ways: Ways { webhook, ..Ways::default() },
            job: Some(Arc::new(JobPath { base_key, job: JOB, command: 1 })),
            access: Arc::default(),
        }
    }

    /// The answer that is there at once, and what others are asked with the answer by `theirs`.
    fn ask(question: Question, theirs: Answer) -> (Option<Shown>, Answer) {
        let (sender, answers) = channel();
        let left =
            first_by_capability(question, Box::new(move |answer| sender.send(answer).unwrap()));
        let shown = left.map(|(question, reply)| {
            reply(theirs);
            question.shown
        });
        (shown, answers.try_recv().unwrap())
    }

    /// Nodes waited in one queue with strangers about whom a webhook was asked.
    #[test]
    fn node_with_a_capability_waits_for_no_queue() {
        for webhook in [true, false] {
            let question = question(capability("live/x", 60), webhook);
            let (asked, answer) = ask(question, Answer::Unknown);
            let Answer::Allowed(Allowed { user, .. }) = answer else { panic!("{answer:?}") };
            assert_eq!((asked, user.as_deref()), (None, Some("node:n2")));
        }
    }

    #[test]
    fn capability_that_does_not_count_is_nothing_shown_to_other_ways_and_they_never_get_it() {
        let allowed = || Answer::Allowed(Allowed::default());
        let cases = [
            (capability("live/y", 60), NotCapable::Other),
            (capability("live/x", -EXPIRY_LEEWAY_S - 5), NotCapable::Expired),
            (Secret::new("hdl_x"), NotCapable::Forged),
        ];
        for (token, why) in cases {
            let asked = question(token.clone(), false);
            assert_eq!(ask(asked, allowed()), (None, Answer::NotCapable(why)));
            for (theirs, answer) in [
                (allowed(), allowed()),
                (Answer::Unknown, Answer::NotCapable(why)),
                (Answer::Forbidden, Answer::Forbidden),
                (Answer::Unavailable, Answer::Unavailable),
            ] {
                let asked = question(token.clone(), true);
                assert_eq!(ask(asked, theirs), (Some(Shown::Nothing), answer));
            }
        }
        // By HLS and WebRTC, too, where no job gives leave.
        let token = capability("live/x", 60);
        let asked = Question { job: None, ..question(token.clone(), false) };
        assert_eq!(ask(asked, allowed()), (None, Answer::NotCapable(NotCapable::NotOpen)));
        let asked = Question { job: None, ..question(token, true) };
        assert_eq!(ask(asked, allowed()), (Some(Shown::Nothing), allowed()));
    }
}
