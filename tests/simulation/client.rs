//! Clients: they ask for a job, give its commands, upload, leave, come back, cancel, retry.
//!
//! ```text
//! Begin --job--> Command n --put--> Upload --end--> Command n + 1 .. --end--> Watch --> Done
//!                              '-- leaves: for good, or comes back and goes on at the offset
//! ```
//! A request without an answer is sent again: under the client's own name of the job, or under an
//! Idempotency-Key. What the base has acknowledged is noted in `promises`.

use std::sync::Arc;

use headend::dist::book::{Book, Refusal};
use headend::dist::ids::{CommandKey, ContentId, Digest, JobId, NodeName, Stamp};
use headend::dist::rows::AnswerRow;
use headend::dist::wire::hook::NotifyRequest;
use headend::dist::wire::job::{
    CommandAccepted, CommandRequest, JobRequest, JobState, JobView, Late, Op, Order, Policy,
    PolicyChange, Targets,
};
use headend::dist::wire::peer::ContentEnd;

use crate::base::Ask;
use crate::dice::{MS, S};
use crate::network::BASE;
use crate::world::{Event, World};

/// What a client is to do.
#[derive(Debug, Clone)]
pub(crate) struct JobPlan {
    pub(crate) at: u64,
    pub(crate) targets: Targets,
    pub(crate) order: Order,
    /// How it is done besides.
    pub(crate) policy: Policy,
    /// What is changed of that while it runs, and when.
    pub(crate) changes: Vec<(u64, PolicyChange)>,
    pub(crate) deadline_s: Option<u64>,
    pub(crate) commands: Vec<CommandPlan>,
    /// Bytes of an upload that come at once, and the time between them.
    pub(crate) chunk: usize,
    pub(crate) pause_ms: u64,
    pub(crate) leaves: Option<Leave>,
    pub(crate) cancels: Option<Cancel>,
    /// How often failed deliveries are tried again.
    pub(crate) retries: u32,
    /// What a node gets that was given up and is back.
    pub(crate) late: Late,
    /// It says that no command follows; otherwise the base finds out.
    pub(crate) says_end: bool,
    /// Who is called back.
    pub(crate) notify: Vec<NotifyRequest>,
}

/// A command of a job.
#[derive(Debug, Clone)]
pub(crate) struct CommandPlan {
    pub(crate) op: Op,
    /// Bytes of a put.
    pub(crate) size: usize,
    pub(crate) says_size: bool,
    pub(crate) hash: Said,
}

/// The hash that a client names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Nothing,
    Right,
    Wrong,
}

/// A client goes away in the middle of an upload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leave {
    /// In which command, behind how many thousandths of its bytes.
    pub(crate) command: usize,
    pub(crate) permille: u64,
    /// When it comes back.
    pub(crate) back: Option<u64>,
}

/// What a client withdraws, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cancel {
    pub(crate) at: u64,
    /// A command; `None`: the job.
    pub(crate) command: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) plan: JobPlan,
    pub(crate) job: Option<JobId>,
    pub(crate) commands: Vec<(CommandKey, Option<ContentId>)>,
    phase: Phase,
    asked: Option<(u64, ClientAsk)>,
    asks: u64,
    steps: u64,
    told_at: u64,
    retries: u32,
    has_left: bool,
    has_cancelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Begin,
    Command(usize),
    Upload(usize),
    End,
    Watch,
    Gone,
    Done,
}

/// A request of a client or an operator.
#[derive(Debug, Clone)]
pub(crate) enum ClientAsk {
    Job(JobRequest),
    Command {
        key: String,
        job: JobId,
        request: CommandRequest,
    },
    Grew(ContentId, u64),
    Ended(ContentId, ContentEnd),
    EndJob(JobId),
    Change(JobId, PolicyChange),
    Cancel(JobId),
    CancelCommand(CommandKey),
    Retry(JobId),
    View(JobId),
    Drain(NodeName),
    Undrain(NodeName),
    Retire(NodeName),
    /// When a node is expected back, in UTC nanoseconds.
    Expect(NodeName, i64),
}

/// Its answer.
#[derive(Debug, Clone)]
pub(crate) enum ClientAnswer {
    Failed,
    Refused(Refusal),
    Job(Box<JobView>),
    Command(CommandAccepted),
    Done,
}

impl ClientAnswer {
    fn shown(&self) -> String {
        match self {
            Self::Failed => "no answer".to_owned(),
            Self::Refused(refusal) => refusal.to_string(),
            Self::Job(view) => format!("job {} is {:?}", view.job_id, view.state),
            Self::Command(accepted) => format!("command {}", accepted.command_id),
            Self::Done => "done".to_owned(),
        }
    }
}

impl Client {
    pub(crate) fn new(c: usize, plan: JobPlan) -> Self {
        Self {
            name: format!("client{c}"),
            plan,
            job: None,
            commands: Vec::new(),
            phase: Phase::Begin,
            asked: None,
            asks: 0,
            steps: 0,
            told_at: 0,
            retries: 0,
            has_left: false,
            has_cancelled: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Gone)
    }

    pub(crate) fn was_never_retried(&self) -> bool {
        self.retries == 0
    }

    /// What it waits for, for people.
    pub(crate) fn shown(&self) -> String {
        format!("{} in {:?}, asked {:?}", self.name, self.phase, self.asked)
    }
}

impl World {
    /// A client does its next step.
    pub(crate) fn client_step(&mut self, c: usize, step: u64) {
        let now = self.now;
        let client = &mut self.clients[c];
        if client.steps != step || client.asked.is_some() || client.is_done() {
            return;
        }
        if let (Some(cancel), Some(job), false) = (
            client.plan.cancels.filter(|cancel| cancel.at <= now),
            client.job,
            client.has_cancelled,
        ) {
            let what = match cancel.command {
                None => Some(ClientAsk::Cancel(job)),
                Some(at) => client.commands.get(at).map(|(key, _)| ClientAsk::CancelCommand(*key)),
            };
            if let Some(what) = what {
                client.has_cancelled = true;
                return self.ask_client(c, what);
            }
        }
        if let (Some((at, change)), Some(job)) = (client.plan.changes.first().cloned(), client.job)
            && at <= now
        {
            client.plan.changes.remove(0);
            return self.ask_client(c, ClientAsk::Change(job, change));
        }
        match client.phase {
            Phase::Begin => {
                let request = JobRequest {
                    client_ref: Some(client.name.clone()),
                    targets: client.plan.targets.clone(),
                    policy: Policy {
                        order: client.plan.order,
                        late: client.plan.late,
                        ..client.plan.policy.clone()
                    },
                    deadline_s: client.plan.deadline_s,
                    notify: client.plan.notify.clone(),
                };
                self.ask_client(c, ClientAsk::Job(request));
            }
            Phase::Command(at) => self.next_command(c, at),
            Phase::Upload(at) => self.upload(c, at),
            Phase::End => {
                if let Some(job) = client.job.filter(|_| client.plan.says_end) {
                    self.ask_client(c, ClientAsk::EndJob(job));
                } else {
                    client.phase = Phase::Watch;
                    self.client_later(c, WATCH);
                }
            }
            Phase::Watch => {
                if let Some(job) = client.job {
                    self.ask_client(c, ClientAsk::View(job));
                }
            }
            Phase::Gone | Phase::Done => {}
        }
    }

    fn next_command(&mut self, c: usize, at: usize) {
        let client = &mut self.clients[c];
        let (Some(plan), Some(job)) = (client.plan.commands.get(at), client.job) else {
            client.phase = Phase::End;
            return self.client_later(c, 0);
        };
        let is_put = matches!(plan.op, Op::Put { .. });
        let blake3 = match plan.hash {
            Said::Nothing => None,
            Said::Right => Some(hash_of(&bytes_of(c, at, plan.size))),
            Said::Wrong => Some(Digest([1; 32])),
        };
        let request = CommandRequest {
            op: plan.op.clone(),
            size: (is_put && plan.says_size).then_some(plan.size as u64),
            blake3: blake3.filter(|_| is_put),
        };
        let key = format!("{}-{at}", client.name);
        self.ask_client(c, ClientAsk::Command { key, job, request });
    }

    /// The next bytes of a put go to the base, at the offset that it has.
    fn upload(&mut self, c: usize, at: usize) {
        let now = self.now;
        let client = &mut self.clients[c];
        let Some((_, Some(id))) = client.commands.get(at).copied() else {
            client.phase = Phase::Command(at + 1);
            return self.client_later(c, 0);
        };
        let Some(book) = self.base.book.as_ref().filter(|_| !self.base.is_dark) else {
            return self.client_later(c, RETRY);
        };
        let is_open = book.content(id).is_some_and(|row| row.ended_at_ns.is_none());
        let Some(pushed) = self.pushed.get(&id).cloned().filter(|_| is_open) else {
            // Withdrawn, abandoned, or ended before an answer was lost.
            client.phase = Phase::Command(at + 1);
            return self.client_later(c, 0);
        };
        let stored = self.base.contents.entry(id).or_default();
        let offset = usize::try_from(stored.accepted()).unwrap_or(usize::MAX).min(pushed.len());
        let goal = client.plan.leaves.filter(|leave| leave.command == at && !client.has_left);
        if let Some(leave) = goal
            && offset as u64 * 1_000 >= pushed.len() as u64 * leave.permille
        {
            // What came is parked, and is kept.
            stored.sync();
            client.has_left = true;
            self.trace.note(now, "leaves", c as u64, offset as u64);
            return match leave.back {
                Some(back) => self.client_later(c, back),
                None => client.phase = Phase::Gone,
            };
        }
        let end = pushed.len().min(offset + client.plan.chunk);
        stored.append(id, &pushed[offset..end], &self.base.keys);
        if self.dice.chance(200) {
            stored.sync();
        }
        let accepted = stored.accepted();
        let pause = client.plan.pause_ms * MS;
        let is_told = offset > 0 && now - client.told_at < S;
        if !is_told {
            client.told_at = now;
        }
        self.trace.note(now, "upload", c as u64, accepted);
        self.wake(BASE, id);
        if end < pushed.len() {
            if !is_told {
                let what = Box::new(ClientAsk::Grew(id, accepted));
                self.asked(Ask::Client { c, ask: 0, what });
            }
            return self.client_later(c, pause);
        }
        let said = self.clients[c].plan.commands[at].hash;
        let expected = match said {
            Said::Nothing => None,
            Said::Right => Some(hash_of(&pushed)),
            Said::Wrong => Some(Digest([1; 32])),
        };
        let Some(stored) = self.base.contents.get_mut(&id) else { return };
        let (Ok(end) | Err(end)) = stored.finish(id, expected, &self.base.keys);
        self.wake(BASE, id);
        self.ask_client(c, ClientAsk::Ended(id, end));
    }

    pub(crate) fn client_later(&mut self, c: usize, wait: u64) {
        let client = &mut self.clients[c];
        client.steps += 1;
        let step = client.steps;
        self.after(wait, Event::ClientStep { c, step });
    }

    /// Sends a request, which is sent again until there is an answer.
    fn ask_client(&mut self, c: usize, what: ClientAsk) {
        let client = &mut self.clients[c];
        client.asks += 1;
        let ask = client.asks;
        client.asked = Some((ask, what.clone()));
        let wait = self.latency();
        self.after(wait, Event::Asked(Ask::Client { c, ask, what: Box::new(what) }));
        let answer = Box::new(ClientAnswer::Failed);
        self.after(ANSWER_MAX, Event::ClientAnswered { c, ask, answer });
    }

    pub(crate) fn client_answered(&mut self, c: usize, ask: u64, answer: ClientAnswer) {
        let Some(client) = self.clients.get_mut(c) else { return };
        let Some((_, what)) = client.asked.take_if(|(known, _)| *known == ask) else { return };
        self.trace.note(self.now, "answered", c as u64, ask);
        if let ClientAnswer::Failed = answer {
            client.asked = Some((u64::MAX, what));
            return self.after(RETRY, Event::ClientAgain { c });
        }
        self.trace.say(self.now, || format!("client{c}: {what:?} -> {}", answer.shown()));
        let client = &mut self.clients[c];
        match (what, answer) {
            (ClientAsk::Job(_), ClientAnswer::Job(view)) => {
                client.job = Some(view.job_id);
                client.phase = Phase::Command(0);
                self.promises.jobs.insert(view.job_id);
            }
            (ClientAsk::Command { request, job, .. }, ClientAnswer::Command(accepted)) => {
                let Phase::Command(at) = client.phase else { return };
                let key = CommandKey { job, command: accepted.command_id };
                client.commands.push((key, accepted.content));
                let is_put = accepted.content.is_some();
                client.phase = if is_put { Phase::Upload(at) } else { Phase::Command(at + 1) };
                if let Some(content) = accepted.content {
                    let bytes = bytes_of(c, at, client.plan.commands[at].size);
                    self.pushed.insert(content, bytes);
                }
                self.promises.commands.insert(key, request.op);
            }
            (ClientAsk::Ended(content, end), answer) => {
                if let Phase::Upload(at) = client.phase {
                    client.phase = Phase::Command(at + 1);
                }
                if matches!(answer, ClientAnswer::Done) {
                    self.promises.uploads.insert(content, end);
                }
            }
            (ClientAsk::EndJob(job), answer) => {
                client.phase = Phase::Watch;
                if matches!(answer, ClientAnswer::Job(_)) {
                    self.promises.ended.insert(job);
                }
            }
            (ClientAsk::Cancel(job), answer) => {
                if matches!(answer, ClientAnswer::Job(_)) {
                    self.promises.cancelled.insert(job);
                    client.phase = Phase::Done;
                }
            }
            (ClientAsk::View(_), ClientAnswer::Job(view)) => return self.watched(c, *view),
            (ClientAsk::Change(..), _) => {}
            (ClientAsk::Job(_) | ClientAsk::View(_), _) => client.phase = Phase::Done,
            (ClientAsk::Command { .. }, _) => client.phase = Phase::End,
            _ => {}
        }
        self.client_later(c, 5 * MS);
    }

    /// How a job is.
    fn watched(&mut self, c: usize, view: JobView) {
        let client = &mut self.clients[c];
        match view.state {
            JobState::Requested | JobState::Open | JobState::Closing => {}
            JobState::CompletedWithFailures if client.retries < client.plan.retries => {
                client.retries += 1;
                return self.ask_client(c, ClientAsk::Retry(view.job_id));
            }
            // What it has held back it lets go: a node that is back late would wait for ever.
            JobState::CompletedWithFailures if !client.plan.changes.is_empty() => {}
            JobState::Completed
            | JobState::CompletedWithFailures
            | JobState::Cancelled
            | JobState::Denied => client.phase = Phase::Done,
        }
        self.client_later(c, WATCH);
    }

    /// The same request again.
    pub(crate) fn client_again(&mut self, c: usize) {
        let client = &mut self.clients[c];
        if let Some((_, what)) = client.asked.take_if(|(ask, _)| *ask == u64::MAX) {
            self.ask_client(c, what);
        }
    }

    /// Runs a request of a client on the book.
    pub(crate) fn run_client(
        book: &mut Book,
        c: usize,
        what: &ClientAsk,
        at: Stamp,
    ) -> ClientAnswer {
        let name = format!("client{c}");
        let job = |done: Result<JobView, Refusal>| match done {
            Ok(view) => ClientAnswer::Job(Box::new(view)),
            Err(refusal) => ClientAnswer::Refused(refusal),
        };
        let done = |done: Result<(), Refusal>| match done {
            Ok(()) => ClientAnswer::Done,
            Err(refusal) => ClientAnswer::Refused(refusal),
        };
        match what.clone() {
            ClientAsk::Job(request) => job(book.request_job(&name, request, at)),
            ClientAsk::Command { key, job, request } => {
                run_command(book, &name, key, job, request, at)
            }
            ClientAsk::Grew(content, have) => {
                book.upload_grew(content, have, at);
                ClientAnswer::Done
            }
            ClientAsk::Ended(content, end) => done(book.upload_ended(content, end, at)),
            ClientAsk::EndJob(id) => job(book.end_job(&name, id, at)),
            ClientAsk::Change(id, change) => job(book.change_job(&name, id, change, None, at)),
            ClientAsk::Cancel(id) => job(book.cancel_job(&name, id, at)),
            ClientAsk::CancelCommand(key) => done(book.cancel_command(&name, key, at).map(drop)),
            ClientAsk::Retry(id) => job(book.retry_job(&name, id, None, at)),
            ClientAsk::View(id) => job(book.job_view(&name, id)),
            ClientAsk::Drain(node) => done(book.drain_node(&node, at).map(drop)),
            ClientAsk::Undrain(node) => done(book.undrain_node(&node, at).map(drop)),
            ClientAsk::Retire(node) => done(book.retire_node(&node, at).map(drop)),
            ClientAsk::Expect(node, at_ns) => {
                done(book.expect_node(&node, Some(at_ns), at).map(drop))
            }
        }
    }
}

/// A command under an Idempotency-Key, as `http::jobs` has it.
fn run_command(
    book: &mut Book,
    client: &str,
    key: String,
    job: JobId,
    request: CommandRequest,
    at: Stamp,
) -> ClientAnswer {
    if let Some(kept) = book.answer(client, &key) {
        let accepted = serde_json::from_str(&kept.body).expect("what was kept can be read");
        return ClientAnswer::Command(accepted);
    }
    let accepted = match book.command(client, job, request, at) {
        Ok(accepted) => accepted,
        Err(refusal) => return ClientAnswer::Refused(refusal),
    };
    book.keep_answer(AnswerRow {
        client: client.to_owned(),
        idempotency_key: key,
        request: Digest([0; 32]),
        status: 201,
        body: serde_json::to_string(&accepted).expect("text keys"),
        at_ns: at.utc_ns,
    });
    ClientAnswer::Command(accepted)
}

/// Bytes that a client pushes: the same for each run of a seed.
fn bytes_of(c: usize, at: usize, size: usize) -> Arc<[u8]> {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(c as u64).to_be_bytes()).update(&(at as u64).to_be_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn hash_of(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

const RETRY: u64 = S;
const WATCH: u64 = 2 * S;
const ANSWER_MAX: u64 = 10 * S;
