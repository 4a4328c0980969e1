//! The sessions of line-ups on one shard: events in, answers out.
//!
//! ```text
//!  execute, handle_events --route--> remote --poll--> Perform --> what plays --handle_operation-.
//!                                      ^               Tune ----> tunings ------take_done-------+
//!                                      |               Answer --> requests --> client, operator |
//!                                      `------------------------------------------ drive <------'
//! ```
//! What plays answers the service first: the commands that it gets have an address of the service
//! in place of that of the client's connection (`ReplyTo::of_lineup`).
//! Invariants: an entry lasts as long as its session, whichever way that ends: the directory tells
//! of ids that have left. When a session ends, everyone who waits is answered.
//! Bounds: the sessions of the shard; for each, those of `remote` and `requests`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::base::ids::SessionId;
use crate::base::time::{Mono, Npt};
use crate::base::wheel::Timer;
use crate::config::channel_paths::channel_path;
use crate::config::lineup::{ChannelSource, Lineup};
use crate::lineup::event::{Input, Outcome, Refusal};
use crate::lineup::parameters;
use crate::lineup::remote::{Action, Channel, Operation, Remote, Rules};
use crate::lineup::requests::{
    Asker, EventRef, EventsDone, EventsError, EventsReply, EventsRequest, JOINED_MAX, Pending,
    Repeat, Repeats,
};
use crate::lineup::room::{Room, play_headers};
use crate::lineup::tune::{self, TuneDone, TuneError};
use crate::live::core::info::{PathPart, PathsPage};
use crate::rtsp::reader::Method;
use crate::rtsp::response::{Response, Status};
use crate::session::action::{self, TimerKey};
use crate::session::command::{Command, Executed, ReplyTo};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::info::ChannelInfo;

/// The sessions of line-ups on one shard: see the module.
#[derive(Debug, Default)]
pub struct Lineups {
    sessions: HashMap<SessionId, LineupSession>,
    /// Operations that what plays has not answered yet.
    operations: HashMap<u32, SessionId>,
    next_operation: u32,
    /// Sessions of each channel.
    viewers: BTreeMap<(Arc<str>, u16), usize>,
}

#[derive(Debug)]
struct LineupSession {
    /// The line-up.
    path: Arc<str>,
    remote: Remote<EventRef>,
    /// Requests that are not answered, by number.
    requests: BTreeMap<u32, Pending>,
    next_request: u32,
    repeats: Repeats,
    /// The event that what plays executes, with the number of the operation.
    performing: Option<(u32, EventRef)>,
    timer: (Option<Mono>, Timer),
}

impl Lineups {
    /// Whether nothing is kept of any session.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.operations.is_empty() && self.viewers.is_empty()
    }

    /// Whether a session is that of a line-up.
    pub(crate) fn has(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// A session has begun with this channel.
    pub(crate) fn enter(
        &mut self,
        room: &mut Room<'_>,
        id: SessionId,
        path: Arc<str>,
        number: u16,
    ) {
        let is_title = matches!(room.cx.directory.find(id), Some(SessionRef::Title(_)));
        room.cx.directory.mark(id);
        room.note_told(id);
        *self.viewers.entry((Arc::clone(&path), number)).or_default() += 1;
        let session = LineupSession {
            path,
            remote: Remote::new(Channel { number, is_title }),
            requests: BTreeMap::new(),
            next_request: 0,
            repeats: Repeats::default(),
            performing: None,
            timer: (None, Timer::NONE),
        };
        self.sessions.insert(id, session);
    }

    /// Executes a command of a line-up's client.
    pub(crate) fn execute(
        &mut self,
        room: &mut Room<'_>,
        command: Command,
        id: SessionId,
    ) -> Executed {
        let Some(session) = self.sessions.get(&id) else {
            return command.refuse(Status::SessionNotFound);
        };
        // `*` stands for the session's presentation.
        let path = command.target.path.trim_end_matches('/');
        if !path.is_empty() && path != &*session.path {
            let is_setup = command.request.method == Method::Setup;
            return command.refuse(match is_setup {
                // One session is one presentation.
                true => Status::AggregateOperationNotAllowed,
                false => Status::NotFound,
            });
        }
        let has_body = command.request.body.iter().any(|byte| !byte.is_ascii_whitespace());
        match command.request.method {
            Method::Play => self.accept(room, command, id, vec![Input::PlayRequest]),
            Method::Pause => self.accept(room, command, id, vec![Input::PauseRequest]),
            Method::SetParameter if has_body => {
                let lineup = room.cx.configs.lineup(&session.path);
                let none = Lineup::default();
                let lineup = lineup.map_or(&none, |config| &config.lineup);
                match parameters::parse(&command.request.body, lineup) {
                    Ok(inputs) => self.accept(room, command, id, inputs),
                    Err(bad) => Executed::Reply(bad.response(command.request.cseq)),
                }
            }
            Method::GetParameter if has_body => {
                Executed::Reply(self.get_parameters(room, &command, id))
            }
            // What the client was told of is that of the first channel.
            Method::Setup if session.remote.has_tuned() => {
                command.refuse(Status::MethodNotValidInThisState)
            }
            _ => room.lead(command, id),
        }
    }

    /// What plays has answered an operation.
    pub(crate) fn handle_operation(
        &mut self,
        room: &mut Room<'_>,
        number: u32,
        response: Response,
    ) {
        if let Some(id) = self.end_operation(number, response) {
            self.drive(room, id);
        }
    }

    /// Takes an operator's events. `reply` is called when they are consumed, or at once when they
    /// are not taken.
    pub(crate) fn handle_events(
        &mut self,
        room: &mut Room<'_>,
        id: SessionId,
        request: EventsRequest,
        reply: EventsReply,
    ) {
        let EventsRequest { inputs, key } = request;
        let Some(session) = self.sessions.get_mut(&id) else {
            return reply(Err(match room.cx.directory.find(id) {
                Some(_) => EventsError::NoLineup,
                None => EventsError::NoSession,
            }));
        };
        let repeat = key.as_ref().map_or(Repeat::New, |key| session.repeats.find(key, &inputs));
        match repeat {
            Repeat::New => {}
            Repeat::Answered(answer) => return reply(answer),
            Repeat::Waits(number) => {
                let pending = session.requests.get_mut(&number).map(|pending| &mut pending.asker);
                return match pending {
                    Some(Asker::Api { replies, .. }) if replies.len() < JOINED_MAX => {
                        replies.push(reply);
                    }
                    _ => reply(Err(EventsError::Full)),
                };
            }
        }
        let lineup = room.cx.configs.lineup(&session.path);
        let is_known = |number: u16| lineup.is_some_and(|of| of.lineup.get(number).is_some());
        let unknown = inputs.iter().find_map(|input| match input {
            Input::Channel(number) if !is_known(*number) => Some(*number),
            _ => None,
        });
        if let Some(number) = unknown {
            return reply(Err(EventsError::NoChannel(number)));
        }
        if session.remote.room() < inputs.len() || inputs.is_empty() {
            return reply(Err(EventsError::Full));
        }
        if let Some(key) = &key {
            session.repeats.enter(key, &inputs, session.next_request);
        }
        session.take(Asker::Api { replies: vec![reply], key }, inputs);
        self.drive(room, id);
    }

    /// The time of a digit that stayed the last one may have come.
    pub(crate) fn handle_due(&mut self, room: &mut Room<'_>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.timer = (None, Timer::NONE);
        session.remote.handle_due(room.cx.now);
        self.drive(room, id);
    }

    /// Ends the entries of sessions that have ended, and goes on with those whose change of the
    /// channel has ended.
    pub(crate) fn settle(&mut self, room: &mut Room<'_>) {
        for id in room.cx.directory.take_left() {
            if room.cx.directory.find(id).is_some() {
                // It has another role now.
                room.cx.directory.mark(id);
            } else {
                self.leave(room, id);
            }
        }
        // Bounded: one for each change that was begun.
        while let Some(TuneDone { session: id, result }) = room.tunings.take_done() {
            let left_at = result.map(|tuned| tuned.left_at);
            self.end_tuning(id, left_at);
            self.drive(room, id);
        }
    }

    /// What a session plays, for operators.
    pub(crate) fn channel_info(&self, cx: &Cx, id: SessionId) -> Option<ChannelInfo> {
        let session = self.sessions.get(&id)?;
        let number = session.remote.playing().number;
        let lineup = cx.configs.lineup(&session.path);
        let source = lineup.and_then(|config| config.lineup.get(number));
        Some(ChannelInfo {
            lineup: session.path.to_string(),
            number,
            source: source.map(|source| source.name().to_owned()),
            tuning_to: session.remote.tuning_to(),
            events_waiting: session.remote.waiting(),
        })
    }

    /// Adds to the last page of paths how many sessions each channel has: of one line-up, or of
    /// those that have some.
    pub(crate) fn show_viewers(&self, cx: &Cx, wanted: Option<&str>, page: &mut PathsPage) {
        let mut shown: BTreeMap<Arc<str>, PathPart> = BTreeMap::new();
        let mut part = |path: &Arc<str>, number: u16, sessions: usize| {
            let new = || PathPart::new(Arc::clone(path));
            let part = shown.entry(Arc::clone(path)).or_insert_with(new);
            *part.channels.entry(number).or_default() += sessions;
        };
        if let Some((path, config)) = wanted.and_then(|path| Some((path, cx.configs.lineup(path)?)))
        {
            let path = path.into();
            config.lineup.iter().for_each(|(number, _)| part(&path, number, 0));
        }
        for ((path, number), sessions) in &self.viewers {
            if wanted.is_none_or(|wanted| wanted == &**path) {
                part(path, *number, *sessions);
            }
        }
        page.parts.extend(shown.into_values());
    }

    fn accept(
        &mut self,
        room: &mut Room<'_>,
        command: Command,
        id: SessionId,
        inputs: Vec<Input>,
    ) -> Executed {
        let Some(session) = self.sessions.get_mut(&id) else {
            return command.refuse(Status::SessionNotFound);
        };
        if session.remote.room() < inputs.len() {
            let response = command.response(Status::NotEnoughBandwidth);
            return Executed::Reply(response.header("Retry-After", RETRY_AFTER_S));
        }
        session.take(Asker::Command(Box::new(command)), inputs);
        self.drive(room, id);
        Executed::Later
    }

    /// Does what the remote control of a session asks for, until it waits.
    fn drive(&mut self, room: &mut Room<'_>, id: SessionId) {
        // Bounded: each round ends a part of an event, and there are `EVENTS_MAX` of them.
        loop {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let config = room.cx.configs.lineup(&session.path).map(Arc::clone);
            let none = Lineup::default();
            let rules = Rules {
                lineup: config.as_ref().map_or(&none, |config| &config.lineup),
                digit_timeout: config.as_ref().map_or_else(
                    || room.cx.configs.others.lineup_digit_timeout,
                    |config| config.lineup_digit_timeout,
                ),
            };
            match session.remote.poll(room.cx.now, rules) {
                None => break,
                Some(Action::Answer(event, outcome)) => {
                    let number = session.remote.playing().number;
                    session.answer(room, event, outcome, number);
                }
                Some(Action::Perform(operation, event)) => {
                    self.perform(room, id, operation, event);
                }
                Some(Action::Tune { number, resume }) => {
                    let source = rules.lineup.get(number);
                    let to = source.map(|source| match source {
                        ChannelSource::Live(_) => {
                            let path = channel_path(&session.path, number).into();
                            tune::Channel::Live { path }
                        }
                        ChannelSource::Title(name) => {
                            tune::Channel::Title { name: name.as_str().into(), resume }
                        }
                    });
                    self.tune(room, id, to);
                }
            }
        }
        self.set_timer(room, id);
    }

    fn tune(&mut self, room: &mut Room<'_>, id: SessionId, to: Option<tune::Channel>) {
        let begun = match to {
            Some(to) => room.tune(id, to),
            None => Err(TuneError::Ended),
        };
        if let Err(error) = begun {
            self.end_tuning(id, Err(error));
        }
    }

    fn end_tuning(&mut self, id: SessionId, result: Result<Option<Npt>, TuneError>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = session.remote.playing().number;
        let to = session.remote.tuning_to().unwrap_or(before);
        if let Err(error) = &result {
            tracing::info!(
                code = "HE-I207", session = %id, path = %session.path, channel = to, %error,
                "channel not changed"
            );
        }
        session.remote.handle_tuned(result.map_err(|error| refusal(to, error)));
        let now = session.remote.playing().number;
        if now != before {
            let path = Arc::clone(&session.path);
            tracing::info!(
                code = "HE-I208", session = %id, %path, from = before, to = now, "channel changed"
            );
            self.uncount_viewer(&path, before);
            *self.viewers.entry((path, now)).or_default() += 1;
        }
    }

    /// Has what plays execute a key, or the command of the client itself.
    fn perform(
        &mut self,
        room: &mut Room<'_>,
        id: SessionId,
        operation: Operation,
        event: EventRef,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let number = self.next_operation;
        self.next_operation = number.wrapping_add(1);
        session.performing = Some((number, event));
        self.operations.insert(number, id);
        let reply_to = ReplyTo::of_lineup(room.cx.shard, number);
        let own = |method, headers: &[(&'static str, String)]| {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            room.own_command(id, (method, &headers), reply_to)
        };
        let command = match operation {
            Operation::Play => own(Method::Play, &play_headers(None, 1)),
            Operation::Pause => own(Method::Pause, &[]),
            Operation::Seek(npt) => own(Method::Play, &play_headers(Some(npt), 1)),
            Operation::Scale(scale) => own(Method::Play, &play_headers(None, scale)),
            Operation::Request => {
                let pending = session.requests.get(&event.request);
                pending.and_then(|pending| match &pending.asker {
                    Asker::Command(command) => Some(command.with_reply_to(reply_to)),
                    Asker::Api { .. } => None,
                })
            }
        };
        let response = match command {
            None => Response::new(Status::SessionNotFound, None),
            Some(command) => match room.lead(command, id) {
                Executed::Reply(response) => response,
                Executed::Later => return,
                Executed::NeedsPair(command) => command.response(Status::ServiceUnavailable),
            },
        };
        self.end_operation(number, response);
    }

    /// Ends an operation; returns its session.
    fn end_operation(&mut self, number: u32, response: Response) -> Option<SessionId> {
        let id = self.operations.remove(&number)?;
        let session = self.sessions.get_mut(&id)?;
        let status = response.status();
        let performing = session.performing.take();
        let request = performing.map(|(_, event)| event.request);
        if let Some(pending) = request.and_then(|request| session.requests.get_mut(&request)) {
            pending.response = Some(response);
        }
        let result = match status {
            Status::Ok => Ok(()),
            Status::MethodNotValidInThisState => Err(Refusal::NotPlaying),
            status => Err(Refusal::Status(status)),
        };
        session.remote.handle_performed(result);
        Some(id)
    }

    fn get_parameters(&self, room: &Room<'_>, command: &Command, id: SessionId) -> Response {
        let body = String::from_utf8_lossy(&command.request.body);
        let names = body.lines().map(str::trim).filter(|line| !line.is_empty());
        let (mut values, mut unknown) = (String::new(), String::new());
        for line in names.take(NAMES_MAX) {
            let name = line.split(':').next().unwrap_or(line).trim();
            match self.value(room, id, name) {
                Some(value) => values.push_str(&format!("{name}: {value}\r\n")),
                None => unknown.push_str(&format!("{name}\r\n")),
            }
        }
        match unknown.is_empty() {
            true => room.cx.answer(command).body(parameters::CONTENT_TYPE, values.into_bytes()),
            false => {
                let response = command.response(Status::ParameterNotUnderstood);
                response.body(parameters::CONTENT_TYPE, unknown.into_bytes())
            }
        }
    }

    fn value(&self, room: &Room<'_>, id: SessionId, name: &str) -> Option<String> {
        let info = self.channel_info(room.cx, id)?;
        match name.to_ascii_lowercase().as_str() {
            "channel" => Some(info.number.to_string()),
            "title" => Some(info.source.unwrap_or_default()),
            "state" if info.tuning_to.is_some() => Some("tuning".to_owned()),
            "state" => room.state(id).map(|state| state.as_str().to_owned()),
            _ => room.value(id, name),
        }
    }

    fn set_timer(&mut self, room: &mut Room<'_>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (set, timer) = &mut session.timer;
        let due = session.remote.due();
        if *set == due {
            return;
        }
        *set = due;
        match due {
            Some(due) => room.cx.wheel.replace(timer, due, TimerKey::Lineup(id)),
            None => {
                room.cx.wheel.cancel(*timer);
            }
        }
    }

    /// A session has ended: everyone who waits for one of its events is told.
    fn leave(&mut self, room: &mut Room<'_>, id: SessionId) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        room.cx.wheel.cancel(session.timer.1);
        // A session that loses its connection answers nobody.
        if let Some((operation, _)) = session.performing {
            self.operations.remove(&operation);
        }
        let number = session.remote.playing().number;
        let path = Arc::clone(&session.path);
        self.uncount_viewer(&path, number);
        let playing = session.remote.playing();
        let remote = std::mem::replace(&mut session.remote, Remote::new(playing));
        for event in remote.end() {
            session.answer(room, event, Outcome::Refused(Refusal::Ended), number);
        }
        debug_assert!(session.requests.is_empty(), "a request has no event left");
    }

    fn uncount_viewer(&mut self, path: &Arc<str>, number: u16) {
        let key = (Arc::clone(path), number);
        if let Some(count) = self.viewers.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.viewers.remove(&key);
            }
        }
    }
}

impl LineupSession {
    /// Routes the events of a request; the caller has looked for room.
    fn take(&mut self, asker: Asker, inputs: Vec<Input>) {
        let request = self.next_request;
        self.next_request = request.wrapping_add(1);
        for (place, input) in inputs.iter().enumerate() {
            let is_taken = self.remote.route(*input, EventRef { request, place });
            debug_assert!(is_taken, "there is room");
        }
        self.requests.insert(request, Pending::new(asker, inputs));
    }

    /// An event is consumed; the last one of its request answers it.
    fn answer(&mut self, room: &mut Room<'_>, event: EventRef, outcome: Outcome, channel: u16) {
        let Some(pending) = self.requests.get_mut(&event.request) else { return };
        debug_assert_eq!(pending.outcomes.len(), event.place, "events are consumed in order");
        pending.outcomes.push(outcome);
        if pending.outcomes.len() < pending.inputs.len() {
            return;
        }
        let Some(pending) = self.requests.remove(&event.request) else { return };
        let outcomes = pending.done();
        match pending.asker {
            Asker::Command(command) => {
                let response = response(room, &command, &outcomes, pending.response);
                let reply_to = command.reply_to;
                room.cx.out.push(action::Action::Respond { reply_to, response });
            }
            Asker::Api { replies, key } => {
                let done = EventsDone { outcomes, channel };
                if let Some(key) = &key {
                    self.repeats.answer(key, &done);
                }
                for reply in replies {
                    reply(Ok(done.clone()));
                }
            }
        }
    }
}

/// The answer to a client: that of what plays, or one made of the outcomes.
fn response(
    room: &Room<'_>,
    command: &Command,
    outcomes: &[(Input, Outcome)],
    answered: Option<Response>,
) -> Response {
    if command.request.method == Method::SetParameter {
        return parameters::answer(room.cx.answer(command), command.request.cseq, outcomes);
    }
    answered.unwrap_or_else(|| {
        let refused = outcomes.iter().find_map(|(_, outcome)| match outcome {
            Outcome::Refused(refusal) => Some(refusal.status()),
            _ => None,
        });
        command.response(refused.unwrap_or(Status::Ok))
    })
}

fn refusal(number: u16, error: TuneError) -> Refusal {
    match error {
        TuneError::NotPlaying => Refusal::NotPlaying,
        TuneError::Unfit { told, found } => Refusal::Unfit { number, told, found },
        TuneError::NoTitle { reason, .. } | TuneError::NoSource { reason, .. } => {
            Refusal::NotThere { number, reason }
        }
        TuneError::TimedOut => Refusal::Late(number),
        TuneError::Busy | TuneError::TooManyTasks => Refusal::Busy,
        TuneError::Ended => Refusal::Ended,
    }
}

/// After a moment the first of the waiting events is consumed.
const RETRY_AFTER_S: &str = "1";
/// Names in one GET_PARAMETER.
const NAMES_MAX: usize = 64;
