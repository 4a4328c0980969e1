//! Sessions of one shard without sockets, clock and threads: the rig under the tests of titles and
//! of live paths.
//!
//! ```text
//!  send() --Command--> Sessions --Action--> Room: windows, cameras, groups: what its tests need
//!  turn() --timers----^                       `--the others--> Rig: answers, RTCP: recorded
//! ```
//! A room of the source has its tests' own part of the rig in a [`Room`] and adds methods to
//! `Rig<ItsRoom>`; the fields of the room read as fields of the rig.
//! Invariant: an action that neither the room nor the rig knows fails the test.
//! Bound: `SETTLE_ROUNDS_MAX` rounds of actions at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{SessionId, ShardId};
use crate::base::time::Mono;
use crate::config::limits::LimitsConfig;
use crate::consumers::sessions::Sessions;
use crate::library::title::Title;
use crate::metrics::cells::ShardCells;
use crate::poll::poll_table::EntryKey;
use crate::poll::task::Task;
use crate::rtsp::request::{Method, Request};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::uri::parse_target;
use crate::session::action::{Action, TimerKey};
use crate::session::command::{Command, Executed, Given, Led, ReplyTo};
use crate::session::cx::SessionConfig;

/// The part of a rig that one room's tests have for themselves.
pub(crate) trait Room: Sized {
    /// The title that commands are executed with.
    fn title(&self) -> Option<Arc<Title>> {
        None
    }

    /// Carries out an action, or hands it back to be recorded by the rig.
    fn act(rig: &mut Rig<Self>, action: Action) -> Option<Action>;

    /// The end of a turn in which these keys of the wheel were due.
    fn finish_turn(_: &mut Rig<Self>, _: Vec<TimerKey>) {}
}

/// A shard's sessions, and the record of their actions.
pub(crate) struct Rig<R> {
    pub(crate) sessions: Sessions,
    pub(crate) cells: Arc<ShardCells>,
    /// Pairs of sockets that are, or were, open.
    pub(crate) pairs_opened: u16,
    /// A pair beyond this number cannot be opened.
    pub(crate) pairs_max: u16,
    /// Answers, each with the index of its connection.
    pub(crate) answers: Vec<(u32, Response)>,
    /// RTCP over UDP, with its destination.
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// RTCP over TCP, with its channel.
    pub(crate) interleaved: Vec<(u8, Vec<u8>)>,
    /// Connections that were closed by the server.
    pub(crate) hung_up: Vec<u32>,
    /// Sequence numbers of requested retransmissions.
    pub(crate) resends: Vec<u16>,
    /// Tasks that the room has left to the test.
    pub(crate) tasks: Vec<Task>,
    /// How far the clock of the host is ahead of the time that passes.
    pub(crate) utc_ahead_ns: i64,
    pub(crate) room: R,
}

/// The origin of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) shard: ShardId,
    pub(crate) connection: u32,
    pub(crate) peer: SocketAddr,
}

/// A hundred sessions at most, which end after a minute of silence.
pub(crate) fn config() -> SessionConfig {
    SessionConfig {
        sessions_max: 100,
        addresses: Arc::default(),
        timeout: Duration::from_secs(60),
        host: "host".to_owned(),
        lag_budget: Duration::ZERO,
        adapts_quality: false,
        uses_images: true,
        retransmits: false,
        throttle: Arc::default(),
        session_roaming: false,
        low_client_ports: false,
        plain_media: false,
        limits: LimitsConfig::default(),
        shares: Arc::default(),
        srtp: crate::config::secure::SrtpMode::Optional,
    }
}

/// A command without a title, as a connection makes it from a request.
pub(crate) fn command(
    client: Client,
    method: Method,
    uri: &str,
    session: Option<SessionId>,
    (headers, body): (&[(&str, &str)], &str),
) -> Command {
    let headers = [&[("CSeq", "7")], headers].concat();
    Command {
        request: Request::new_for_test(method, uri, &headers, body.as_bytes()),
        target: parse_target(uri).unwrap(),
        session,
        reply_to: ReplyTo { shard: client.shard, entry: entry(client.connection) },
        peer: client.peer,
        local: IpAddr::V4(Ipv4Addr::LOCALHOST),
        title: None,
        led: Led::Not,
        given: Given::default(),
    }
}

/// The entry of a connection.
pub(crate) fn entry(index: u32) -> EntryKey {
    EntryKey { index, generation: 1 }
}

/// The session that an answer names.
pub(crate) fn session_id(response: &Response) -> SessionId {
    let header = response.header_value("Session").unwrap();
    SessionId::parse(header.split(';').next().unwrap()).unwrap()
}

impl<R: Room> Rig<R> {
    /// A shard without sessions, with one pair of sockets open.
    pub(crate) fn around(room: R, config: SessionConfig) -> Self {
        let cells = Arc::<ShardCells>::default();
        let start = Mono(1_000_000_000_000);
        let mut rig = Self {
            sessions: Sessions::new(ShardId(0), config, Arc::clone(&cells), start),
            cells,
            pairs_opened: 0,
            pairs_max: u16::MAX,
            answers: Vec::new(),
            datagrams: Vec::new(),
            interleaved: Vec::new(),
            hung_up: Vec::new(),
            resends: Vec::new(),
            tasks: Vec::new(),
            utc_ahead_ns: 0,
            room,
        };
        rig.open_pair();
        rig
    }

    /// Opens another pair of sockets.
    pub(crate) fn open_pair(&mut self) {
        self.sessions.cx.sockets.add_pair(8_000 + 2 * self.pairs_opened).unwrap();
        self.pairs_opened += 1;
    }

    /// Executes a request. Returns its answer if that comes at once.
    pub(crate) fn send(
        &mut self,
        client: Client,
        method: Method,
        uri: &str,
        session: Option<SessionId>,
        content: (&[(&str, &str)], &str),
    ) -> Option<Response> {
        let title = self.room.title();
        let before = self.answers.len();
        self.execute(Command { title, ..command(client, method, uri, session, content) });
        self.settle();
        let mut new = self.answers.iter().skip(before);
        let place = new.position(|(to, _)| *to == client.connection)?;
        Some(self.answers.remove(before + place).1)
    }

    /// Executes a command, with another pair of sockets if it needs one.
    pub(crate) fn execute(&mut self, command: Command) {
        let connection = command.reply_to.entry.index;
        match self.sessions.execute(command) {
            Executed::Reply(response) => self.answers.push((connection, response)),
            Executed::Later => {}
            Executed::NeedsPair(command) if self.pairs_opened < self.pairs_max => {
                self.open_pair();
                self.execute(*command);
            }
            Executed::NeedsPair(command) => {
                self.answers.push((connection, command.response(Status::NotEnoughBandwidth)));
            }
        }
    }

    /// Carries out the actions of the sessions until there are none.
    pub(crate) fn settle(&mut self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            self.sessions.live.settle_live(&mut self.sessions.cx);
            // Tests of changes without line-ups look at these themselves.
            if !self.sessions.lineups.is_empty() {
                self.sessions.settle_lineups();
            }
            if self.sessions.cx.out.is_empty() {
                return;
            }
            for action in std::mem::take(&mut self.sessions.cx.out) {
                if let Some(action) = R::act(self, action) {
                    self.record(action);
                }
            }
        }
        panic!("actions cause actions without end: {:?}", self.sessions.cx.out);
    }

    fn record(&mut self, action: Action) {
        match action {
            Action::Respond { reply_to, response } => {
                let answered = self.sessions.take_answer(reply_to, response);
                self.answers.extend(answered.map(|response| (reply_to.entry.index, response)));
            }
            Action::Datagram { to, bytes, .. } => self.datagrams.push((to, bytes)),
            Action::Interleaved { channel, bytes, .. } => self.interleaved.push((channel, bytes)),
            Action::Resend { seq, .. } => self.resends.push(seq.0),
            Action::Execute(command) => self.execute(*command),
            Action::HangUp(entry) => self.hung_up.push(entry.index),
            Action::ClosePair(pair) => assert!(self.sessions.cx.sockets.remove_unused_pair(pair)),
            Action::Submit(task) => self.tasks.push(task),
            other => panic!("nothing in this test does {other:?}"),
        }
    }

    /// A turn of the shard at this time: timers that are due, then the packets that have come.
    pub(crate) fn turn(&mut self, now: Mono) {
        self.sessions.cx.now = now;
        self.sessions.cx.utc_ns = i64::try_from(now.0).unwrap() + self.utc_ahead_ns;
        let mut due = Vec::new();
        self.sessions.cx.wheel.expire(now, &mut due);
        for key in &due {
            self.sessions.handle_timer(*key);
        }
        self.sessions.live.feed_live(&mut self.sessions.cx);
        self.sessions.go_on_with_tunings();
        self.settle();
        R::finish_turn(self, due);
        self.settle();
    }

    /// Lets time pass in turns whenever the wheel has something due, at most 100 ms apart.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.sessions.cx.now + duration;
        while self.sessions.cx.now < end {
            let step = self.sessions.cx.now + Duration::from_millis(100);
            let next = self.sessions.cx.wheel.next_due().unwrap_or(step).min(step).min(end);
            self.turn(next.max(self.sessions.cx.now + Duration::from_nanos(1)));
        }
    }

    /// Lets time pass at once, to the next periodic work of live paths.
    pub(crate) fn jump(&mut self, duration: Duration) {
        self.sessions.cx.now = self.sessions.cx.now + duration;
        self.sessions.live.feed_live(&mut self.sessions.cx);
        self.sessions.live.handle_live_tick(&mut self.sessions.cx);
        self.settle();
    }
}

impl<R> Deref for Rig<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.room
    }
}

impl<R> DerefMut for Rig<R> {
    fn deref_mut(&mut self) -> &mut R {
        &mut self.room
    }
}

/// More than any chain of actions takes.
const SETTLE_ROUNDS_MAX: usize = 1_000;
