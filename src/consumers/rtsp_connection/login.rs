//! Whether the client of a connection may do what it requests: asked once for each request, before
//! it is executed.
//!
//! ```text
//! request -> leave: which right, to which path --> rules: Open  --> executed
//!                                               |         Closed --> 403
//!                  a capability of a job is shown: a task --> executed, 401, 403, or as without
//!                                               `-> Login: cached -----------------> executed
//!                                                    Digest: checked here --.
//!                                                    the rest: a task ------+--> 401, 403, 503
//!   an address that failed often waits for its turn first (`access::throttle`), but not with a
//!   capability: nobody guesses a signature
//! ```
//! Credentials count for the request that shows them: what was found out about them is kept, so
//! that the next request with the same ones costs nothing, but a request without any is asked anew.
//! Another configuration forgets it all. Bounds: `GRANTS_MAX`; one request at a time.

use std::sync::Arc;

use rand::RngExt;

use super::{Flow, RtspConnection, Waiting, refuse};
use crate::access::publish::{Denied, is_published};
use crate::access::question::{Allowed, Answer, NotCapable, Question};
use crate::access::rules::{Admission, UserSet, Ways, admission};
use crate::access::shown::Shown;
use crate::access::steering::steers;
use crate::access::throttle::Turn;
use crate::access::{DigestAlgorithm, Guard, GuardConfig, Refused};
use crate::base::ids::SessionId;
use crate::base::names::Name;
use crate::base::secret::Secret;
use crate::base::wheel::Timer;
use crate::config::access::{AccessConfig, Action, Methods, REALM, User};
use crate::config::added_paths::JobPath;
use crate::consumers::Context;
use crate::consumers::asked::Asked;
use crate::poll::task::{Task, TaskClass, TaskOwner, Work};
use crate::rtsp::request::{Method, Request};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::uri::Target;
use crate::session::action::TimerKey;
use crate::session::client::clip;
use crate::session::command::Given;
use crate::session::directory::SessionRef;

/// What a connection knows of who its client is.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// Made with the first challenge.
    guard: Option<Box<Guard>>,
    /// What was found out, the newest last.
    grants: Vec<Grant>,
    /// Under which configuration that was.
    configs_count: u64,
}

/// Leave that was given.
#[derive(Debug)]
struct Grant {
    action: Action,
    path: Arc<str>,
    /// Hash of the credentials.
    shown: blake3::Hash,
    user: Option<Arc<str>>,
    until_s: Option<i64>,
}

/// A request that waits for leave.
#[derive(Debug)]
pub(super) struct WaitsForLeave {
    pub(super) request: Request,
    target: Target,
    session: Option<SessionId>,
    pub(super) asked: Asked,
    wanted: Wanted,
}

/// What is asked about.
#[derive(Debug, Clone)]
struct Wanted {
    action: Action,
    path: Arc<str>,
    ways: Ways,
    /// A capability of this job gives it, too.
    job: Option<Arc<JobPath>>,
}

/// What becomes of a request.
enum Leave {
    /// It is executed, on behalf of this user.
    Given(Option<Arc<str>>),
    Refused(Response),
    /// Somebody else is asked.
    Ask(Box<Question>),
    /// It is looked at when its turn comes.
    Later,
}

/// Whether a login has waited for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turned {
    Not,
    Has,
}

impl RtspConnection {
    /// Executes a request if its client may; otherwise says what becomes of it.
    pub(super) fn ask_leave(
        &mut self,
        request: Request,
        target: Target,
        session: Option<SessionId>,
        cx: &mut Context<'_>,
    ) -> Flow {
        let wanted = match self.wanted(&request, &target, session, cx) {
            Ok(Some(wanted)) => wanted,
            Ok(None) => return self.obey(request, target, session, Given::default(), cx),
            Err(status) => return refuse(&request, status),
        };
        let asked = Asked::new(&request, cx.sessions.cx.now);
        let waits = WaitsForLeave { request, target, session, asked, wanted };
        self.go_on(Box::new(waits), Turned::Not, cx)
    }

    /// The turn of a login has come.
    pub(super) fn handle_turn(&mut self, waits: Box<WaitsForLeave>, cx: &mut Context<'_>) -> Flow {
        self.go_on(waits, Turned::Has, cx)
    }

    fn go_on(&mut self, waits: Box<WaitsForLeave>, turned: Turned, cx: &mut Context<'_>) -> Flow {
        match self.judge(&waits, turned, cx) {
            Leave::Given(user) => {
                let WaitsForLeave { request, target, session, wanted, .. } = *waits;
                self.obey(request, target, session, wanted.given(user), cx)
            }
            Leave::Refused(response) => Flow::Answer(response),
            Leave::Ask(question) => {
                self.waiting = Waiting::Leave(waits);
                Flow::Submit(Task {
                    shard: cx.shard,
                    owner: TaskOwner::Connection(self.key),
                    class: TaskClass::Control,
                    work: Work::Judge(question),
                })
            }
            Leave::Later => {
                self.waiting = Waiting::Leave(waits);
                Flow::Held
            }
        }
    }

    /// The answer to a question is there.
    pub(super) fn handle_answer(
        &mut self,
        waits: Box<WaitsForLeave>,
        answer: Answer,
        cx: &mut Context<'_>,
    ) -> Flow {
        let WaitsForLeave { request, target, session, wanted, .. } = *waits;
        match answer {
            Answer::Allowed(allowed) => {
                let given = wanted.given(allowed.user.clone());
                let shown = hash_of(&request, &target);
                self.login.keep(wanted, shown, &allowed);
                self.obey(request, target, session, given, cx)
            }
            Answer::Unknown => {
                Flow::Answer(self.challenge(request.cseq, &wanted, Refused::Missing, cx))
            }
            Answer::Wrong => {
                self.note_wrong(&wanted, cx);
                Flow::Answer(self.challenge(request.cseq, &wanted, Refused::Wrong, cx))
            }
            Answer::Forbidden => refuse(&request, self.note_forbidden(&wanted, cx)),
            Answer::NotCapable(why) => {
                Flow::Answer(self.refuse_capability(request.cseq, &wanted, why, cx))
            }
            Answer::Unavailable => {
                cx.sessions.cx.cells.logins_unanswered.add(1);
                let response = Response::new(Status::ServiceUnavailable, request.cseq);
                Flow::Answer(response.header("Retry-After", "1"))
            }
        }
    }

    /// What the request needs leave for. `None`: nothing that anybody is asked about.
    fn wanted(
        &self,
        request: &Request,
        target: &Target,
        session: Option<SessionId>,
        cx: &mut Context<'_>,
    ) -> Result<Option<Wanted>, Status> {
        let is_of_publisher = || {
            let sessions = &cx.sessions;
            sessions.live.sources.publisher_on(&sessions.cx, self.key, &request.uri).is_some()
        };
        let action = match request.method {
            Method::Describe => Action::Read,
            Method::Setup if session.is_none() && !is_of_publisher() => Action::Read,
            Method::Announce if session.is_none() => Action::Publish,
            _ if session.is_some() && steers(request) && !is_publisher(session, cx) => {
                Action::Control
            }
            _ => return Ok(self.roaming(request, target, session, cx)),
        };
        let path = match target.name() {
            Name::Clip | Name::Title(_) if action != Action::Publish => {
                target.path.trim_end_matches('/')
            }
            Name::Live(path) => path,
            _ => return Ok(None),
        };
        let configs = Arc::clone(&cx.sessions.cx.configs);
        if action == Action::Publish {
            is_published(&configs, path)
                .map_err(|denied| self.note_unpublished(path, &denied, cx))?;
        }
        let path: Arc<str> = path.into();
        let job = configs.find(&path).job.clone().filter(|_| action == Action::Read);
        match admission(&configs.entries(&path, action), self.peer.ip()) {
            Admission::Open => Ok(self.roaming(request, target, session, cx)),
            Admission::Closed if !shows_capability(request) => {
                Err(self.note_closed(&path, action, &configs.section_of(&path), cx))
            }
            Admission::Closed => Ok(Some(Wanted { action, path, ways: Ways::default(), job })),
            Admission::Login(ways) => Ok(Some(Wanted { action, path, ways, job })),
        }
    }

    /// A client that goes on with a session by another connection, and says who it is: its name
    /// goes with the command, for the session to compare.
    fn roaming(
        &self,
        request: &Request,
        target: &Target,
        session: Option<SessionId>,
        cx: &Context<'_>,
    ) -> Option<Wanted> {
        let shared = &cx.sessions.cx;
        // OPTIONS is answered in any case (client rule C31).
        let is_asked = shared.config.session_roaming && request.method != Method::Options;
        request.header("Authorization").filter(|_| is_asked)?;
        // It says of whom a session is as little as nothing does.
        if shows_capability(request) {
            return None;
        }
        let own = shared.directory.of_connection(self.key);
        if shared.directory.find(session?).is_some_and(|session| own.contains(&session)) {
            return None;
        }
        let known = shared.configs.access.known(Action::Read);
        let users = if known.users { UserSet::All } else { UserSet::Nobody };
        let ways = Ways { users, jwt: known.jwt, webhook: false };
        let path = target.path.trim_end_matches('/').into();
        let wanted = Wanted { action: Action::Read, path, ways, job: None };
        (wanted.ways != Ways::default()).then_some(wanted)
    }

    /// Looks at the credentials of a request.
    fn judge(&mut self, waits: &WaitsForLeave, turned: Turned, cx: &mut Context<'_>) -> Leave {
        let WaitsForLeave { request, target, wanted, .. } = waits;
        self.login.keep_up(cx.sessions.cx.configs_count);
        let shown = match Shown::read(request.header("Authorization")) {
            Ok(shown) => shown,
            Err(refused) => {
                return Leave::Refused(self.challenge(request.cseq, wanted, refused, cx));
            }
        };
        let is_for_tokens = wanted.ways.jwt || wanted.ways.webhook;
        let token = Shown::token_in(target.query.as_deref()).filter(|_| is_for_tokens);
        let is_bare = shown == Shown::Nothing && token.is_none();
        if is_bare && !wanted.ways.webhook {
            return Leave::Refused(self.challenge(request.cseq, wanted, Refused::Missing, cx));
        }
        let now_s = cx.sessions.cx.utc_ns.div_euclid(1_000_000_000);
        let is_digest = matches!(shown, Shown::Digest(_));
        if !is_digest && let Some(user) = self.login.find(wanted, hash_of(request, target), now_s) {
            return Leave::Given(user);
        }
        // Who shows nothing guesses nothing, and nobody guesses a signature.
        let guesses = token.is_some() || (shown != Shown::Nothing && !shown.is_capability());
        if turned == Turned::Not
            && guesses
            && let Some(leave) = self.wait_for_turn(request, cx)
        {
            return leave;
        }
        let access = Arc::clone(&cx.sessions.cx.configs.access);
        let Shown::Digest(answer) = shown else {
            return Leave::Ask(Box::new(Question {
                action: wanted.action,
                path: Arc::clone(&wanted.path),
                protocol: "rtsp",
                peer: self.peer.ip().to_canonical(),
                user_agent: request.header("User-Agent").map(clip),
                shown,
                token,
                query: target.query.as_deref().map(Secret::new),
                ways: wanted.ways.clone(),
                job: wanted.job.clone(),
                access,
            }));
        };
        let ha1 = |user: &str, algorithm| ha1_of(access.users.get(user)?, algorithm);
        let guard = self.login.guard(offer(wanted, &access));
        match guard.check_digest(&answer, request.method.as_str(), &request.uri, ha1) {
            Ok(()) if wanted.ways.users.has(&answer.user) => Leave::Given(Some(answer.user.into())),
            Ok(()) => Leave::Refused(Response::new(self.note_forbidden(wanted, cx), request.cseq)),
            Err(refused) => {
                if refused == Refused::Wrong {
                    self.note_wrong(wanted, cx);
                }
                Leave::Refused(self.challenge(request.cseq, wanted, refused, cx))
            }
        }
    }

    /// An address that has failed often waits, on all of its connections together. `None`: it is
    /// its turn.
    fn wait_for_turn(&self, request: &Request, cx: &mut Context<'_>) -> Option<Leave> {
        let shared = &mut cx.sessions.cx;
        match shared.config.throttle.turn(self.peer.ip(), shared.now) {
            Turn::Now => None,
            Turn::At(due) => {
                // Never cancelled: a connection that is gone or waits for nothing ignores it.
                let mut timer = Timer::NONE;
                shared.wheel.replace(&mut timer, due, TimerKey::Login(self.key));
                shared.cells.logins_slowed.add(1);
                Some(Leave::Later)
            }
            Turn::Never { retry } => {
                shared.cells.logins_slowed.add(1);
                let response = Response::new(Status::ServiceUnavailable, request.cseq);
                Some(Leave::Refused(response.header("Retry-After", retry.as_secs().to_string())))
            }
        }
    }

    /// 401 with what is offered.
    fn challenge(
        &mut self,
        cseq: Option<u32>,
        wanted: &Wanted,
        refused: Refused,
        cx: &Context<'_>,
    ) -> Response {
        let guard = self.login.guard(offer(wanted, &cx.sessions.cx.configs.access));
        let response = Response::new(Status::Unauthorized, cseq);
        let challenges = guard.challenges(refused).into_iter();
        challenges
            .fold(response, |response, challenge| response.header("WWW-Authenticate", challenge))
    }

    /// 401 in place of 454, where the client may say that the session is its user's.
    pub(super) fn challenge_roaming(&mut self, cseq: Option<u32>, cx: &Context<'_>) -> Response {
        let known = cx.sessions.cx.configs.access.known(Action::Read);
        let ways = Ways { users: UserSet::All, jwt: known.jwt, webhook: false };
        let wanted = Wanted { action: Action::Read, path: "".into(), ways, job: None };
        self.challenge(cseq, &wanted, Refused::Missing, cx)
    }

    /// The capability of a job that does not count. A client that may try something else is told
    /// what.
    fn refuse_capability(
        &mut self,
        cseq: Option<u32>,
        wanted: &Wanted,
        why: NotCapable,
        cx: &mut Context<'_>,
    ) -> Response {
        let shared = &mut cx.sessions.cx;
        if why == NotCapable::Forged {
            shared.cells.logins_failed.add(1);
        } else {
            shared.cells.requests_forbidden.add(1);
        }
        // What anybody can bring about hides nothing of what only nodes of this base can.
        let said = &mut shared.refusals_said;
        let said = match why {
            NotCapable::NotOpen | NotCapable::Forged => &mut said.strange_capability,
            NotCapable::Other | NotCapable::Expired | NotCapable::Early => &mut said.capability,
        };
        if let Some(count) = said.happened(shared.now) {
            let (ip, path) = (self.peer.ip(), &wanted.path);
            tracing::warn!(
                code = "HE-W513", %ip, %path, %why, count,
                "who shows the capability of a job is refused: it does not count"
            );
        }
        if wanted.ways == Ways::default() {
            return Response::new(Status::Forbidden, cseq);
        }
        self.challenge(cseq, wanted, Refused::Wrong, cx)
    }

    fn note_wrong(&self, wanted: &Wanted, cx: &mut Context<'_>) {
        let shared = &mut cx.sessions.cx;
        shared.config.throttle.fail(self.peer.ip(), shared.now);
        shared.cells.logins_failed.add(1);
        if let Some(count) = shared.refusals_said.login.happened(shared.now) {
            let (ip, path) = (self.peer.ip(), &wanted.path);
            tracing::warn!(
                code = "HE-W506", %ip, %path, action = wanted.action.as_str(), count,
                "a login failed: name, password or token is wrong"
            );
        }
    }

    fn note_forbidden(&self, wanted: &Wanted, cx: &mut Context<'_>) -> Status {
        let section = cx.sessions.cx.configs.section_of(&wanted.path);
        self.note_closed(&wanted.path, wanted.action, &section, cx)
    }

    fn note_closed(
        &self,
        path: &str,
        action: Action,
        section: &str,
        cx: &mut Context<'_>,
    ) -> Status {
        let shared = &mut cx.sessions.cx;
        let (peer, ip) = (self.peer, self.peer.ip());
        shared.cells.requests_forbidden.add(1);
        if action == Action::Publish {
            if let Some(count) = shared.refusals_said.publish.happened(shared.now) {
                tracing::warn!(
                    code = "HE-W504", %peer, path, count,
                    fix = format!("add {ip} to `publish` of [path.{section:?}]"),
                    "publishing is refused: the configuration does not allow it"
                );
            }
        } else if let Some(count) = shared.refusals_said.forbidden.happened(shared.now) {
            let action = action.as_str();
            tracing::warn!(
                code = "HE-W507", %ip, path, action, count,
                fix = format!("see `{action}` of [path.{section:?}]"),
                "a request is refused: the configuration does not allow it"
            );
        }
        Status::Forbidden
    }

    fn note_unpublished(&self, path: &str, denied: &Denied<'_>, cx: &mut Context<'_>) -> Status {
        let (peer, shared) = (self.peer, &mut cx.sessions.cx);
        let Some(count) = shared.refusals_said.fed_otherwise.happened(shared.now) else {
            return Status::Forbidden;
        };
        match denied {
            Denied::Fetched { address } => tracing::warn!(
                code = "HE-W505", %peer, path, count, source = %address,
                "publishing is refused: the path's source is fetched"
            ),
            Denied::Playlist => tracing::warn!(
                code = "HE-W505", %peer, path, count, source = "playlist",
                "publishing is refused: the path plays titles"
            ),
            Denied::Lineup => tracing::warn!(
                code = "HE-W505", %peer, path, count,
                fix = "publish to the path that a channel of `lineup` names",
                "publishing is refused: the path is a line-up"
            ),
        }
        Status::Forbidden
    }
}

impl Wanted {
    /// What a request is given that is let through.
    fn given(&self, user: Option<Arc<str>>) -> Given {
        let is_control = self.action == Action::Control;
        let controls = is_control.then(|| Arc::clone(&self.path));
        Given { user, controls, ..Given::default() }
    }
}

impl Login {
    /// Nonce that the client was told.
    pub(super) fn nonce(&self) -> Option<&str> {
        self.guard.as_deref().map(Guard::nonce)
    }

    /// Goes on with a nonce that the client was told by another process.
    pub(super) fn resume(&mut self, nonce: String) {
        // What is offered is set before anything is.
        let config = GuardConfig { realm: REALM, digests: &[], basic: false };
        self.guard = Some(Box::new(Guard::with_nonce(config, nonce)));
    }

    /// The guard, with these challenges.
    fn guard(&mut self, config: GuardConfig) -> &Guard {
        let new = || Box::new(Guard::new(config, rand::rng().random()));
        let guard = self.guard.get_or_insert_with(new);
        guard.offer(config);
        guard
    }

    /// Forgets what was found out under another configuration.
    fn keep_up(&mut self, configs_count: u64) {
        if self.configs_count != configs_count {
            self.grants.clear();
            self.configs_count = configs_count;
        }
    }

    /// The user of these credentials, if they give this leave now.
    fn find(&self, wanted: &Wanted, shown: blake3::Hash, now_s: i64) -> Option<Option<Arc<str>>> {
        let found = self.grants.iter().find(|grant| {
            let is_wanted = grant.action == wanted.action && grant.path == wanted.path;
            is_wanted && grant.shown == shown && grant.until_s.is_none_or(|end_s| now_s < end_s)
        });
        found.map(|grant| grant.user.clone())
    }

    fn keep(&mut self, wanted: Wanted, shown: blake3::Hash, allowed: &Allowed) {
        let Wanted { action, path, .. } = wanted;
        self.grants.retain(|grant| (grant.action, &grant.path) != (action, &path));
        if self.grants.len() >= GRANTS_MAX {
            self.grants.remove(0);
        }
        let Allowed { user, until_s, .. } = allowed.clone();
        self.grants.push(Grant { action, path, shown, user, until_s });
    }
}

/// Whether a request shows a capability of a job, right or not.
fn shows_capability(request: &Request) -> bool {
    Shown::read(request.header("Authorization")).is_ok_and(|shown| shown.is_capability())
}

/// A publisher steers what it publishes.
fn is_publisher(session: Option<SessionId>, cx: &Context<'_>) -> bool {
    let found = session.and_then(|id| cx.sessions.cx.directory.find(id));
    matches!(found, Some(SessionRef::Publisher(_)))
}

/// Challenges for whoever may show that he may. Digest only where nobody needs Basic: players
/// answer Digest when they see it, and a token cannot be shown by it.
fn offer(wanted: &Wanted, access: &AccessConfig) -> GuardConfig {
    let Wanted { ways, .. } = wanted;
    let is_for_users = ways.users != UserSet::Nobody;
    let can = is_for_users && access.has_digest() && !ways.jwt && !ways.webhook;
    let methods = access.auth.methods;
    let digests: &'static [DigestAlgorithm] =
        if can && methods != Methods::Basic { &DIGESTS } else { &[] };
    // Never without any challenge.
    let basic = digests.is_empty() || methods != Methods::Digest;
    GuardConfig { realm: REALM, digests, basic }
}

fn ha1_of(user: &User, algorithm: DigestAlgorithm) -> Option<String> {
    let hash = match algorithm {
        DigestAlgorithm::Md5 => &user.digest_md5,
        DigestAlgorithm::Sha256 => &user.digest_sha256,
    };
    hash.as_ref().map(|hash| hash.expose().to_owned())
}

/// Hash of the credentials of a request.
fn hash_of(request: &Request, target: &Target) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(request.header("Authorization").unwrap_or_default().as_bytes());
    hasher.update(b"\0");
    hasher.update(target.query.as_deref().unwrap_or_default().as_bytes());
    hasher.finalize()
}

/// FFmpeg knows MD5 alone, and takes the last challenge of Digest that it sees; others take the
/// first that they know (client rule C11). All have the same nonce.
const DIGESTS: [DigestAlgorithm; 2] = [DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
/// A player reads one path, a proxy a few.
const GRANTS_MAX: usize = 8;
