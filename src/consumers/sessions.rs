//! The sessions of one shard, of all roles: the front door that finds whose each thing is.
//!
//! ```text
//!  commands, RTCP, timers --> Sessions --title--> Vod  --.
//!                                |-------path---> Live --+--> actions in Cx (tasks, answers, RTCP)
//!                                `-----line-up--> Lineups: both of them
//! ```
//! Invariant: a method of a role takes its own tables and the context, never another role; a
//! line-up leads commands to the role that its session has at the moment.
//! Bound: `sessions_max` sessions of all roles together.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::access::rules::{Admission, admission};
use crate::access::steering::steers;
use crate::base::ids::{SessionId, ShardId};
use crate::base::time::Mono;
use crate::config::access::Action;
use crate::lineup::requests::{EventsReply, EventsRequest};
use crate::lineup::room::Room;
use crate::lineup::service::Lineups;
use crate::lineup::tune::{Roles, Tunings};
use crate::live::front::Live;
use crate::live::readers::recently_closed::answer_closed;
use crate::metrics::cells::ShardCells;
use crate::poll::poll_table::EntryKey;
use crate::poll::task::Outcome;
use crate::rtcp;
use crate::rtsp::headers::parse_session_id;
use crate::rtsp::reader::Method;
use crate::rtsp::response::{Response, Status};
use crate::session::action::{self, TimerKey};
use crate::session::command::{Command, Executed, Led, ReplyTo, public};
use crate::session::cx::{Cx, SessionConfig};
use crate::session::directory::SessionRef;
use crate::session::holder::{Holder, Sender};
use crate::session::srtp::open_rtcp;
use crate::session::transport::Transport;
use crate::vod::service::Vod;

/// All sessions of one shard.
#[derive(Debug)]
pub struct Sessions {
    /// What sessions of all roles share.
    pub cx: Cx,
    /// Players of titles.
    pub vod: Vod,
    /// Live paths, with the sessions of their publishers and readers.
    pub live: Live,
    /// Changes of what sessions of line-ups play.
    pub tunings: Tunings,
    /// What sessions of line-ups have beside their part in `vod` or `live`.
    pub lineups: Lineups,
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(shard: ShardId, config: SessionConfig, cells: Arc<ShardCells>, now: Mono) -> Self {
        let cx = Cx::new(shard, config, cells, now);
        let (vod, live) = (Vod::default(), Live::default());
        let (tunings, lineups) = (Tunings::default(), Lineups::default());
        Self { cx, vod, live, tunings, lineups }
    }

    /// Executes a command that names a session of this shard, or one that begins a session.
    pub fn execute(&mut self, command: Command) -> Executed {
        #[cfg(test)]
        self.cx.panic_once();
        if command.request.method == Method::Options {
            // Answered whatever becomes of the session (client rule C2).
            self.note_request(&Sender::of(&command), command.session);
            let response = command.response(Status::Ok);
            return Executed::Reply(response.header("Public", public(&command.target.path)));
        }
        let Some(id) = command.session else { return self.execute_first(command) };
        let Some(session) = self.cx.directory.find(id) else {
            return match self.live.readers.has_ended(id) {
                true => answer_closed(&self.cx, &command),
                false => command.refuse(Status::SessionNotFound),
            };
        };
        if !self.is_of(session, &Sender::of(&command)) {
            return command.refuse(Status::SessionNotFound);
        }
        if steers(&command.request) && !self.may_steer(session, id, &command) {
            return command.refuse(Status::Forbidden);
        }
        if command.led != Led::Within && self.lineups.has(id) {
            self.touch(session);
            return self.with_lineups(|lineups, room| lineups.execute(room, command, id));
        }
        let Self { cx, vod, live, tunings, .. } = self;
        Room { cx, vod, live, tunings }.execute(command, session)
    }

    /// Executes a command without a session. A SETUP that was led to a channel begins a session of
    /// a line-up.
    fn execute_first(&mut self, command: Command) -> Executed {
        let Self { cx, vod, live, .. } = self;
        let begins = [Method::Announce, Method::Describe, Method::Setup];
        let is_about_live = command.title.is_none() && begins.contains(&command.request.method);
        let is_setup = command.request.method == Method::Setup;
        let led = command.led.clone();
        let executed = if is_about_live {
            live.execute_first(cx, command)
        } else {
            vod.execute_first(cx, command)
        };
        if let (Led::ToChannel { lineup, number }, Executed::Reply(response)) = (led, &executed)
            && is_setup
            && response.status() == Status::Ok
            && let Some(id) = response.header_value("Session").and_then(parse_session_id)
            && let Some(id) = SessionId::parse(id)
        {
            self.with_lineups(|lineups, room| lineups.enter(room, id, lineup, number));
        }
        executed
    }

    /// An answer on its way to a connection. `None`: a line-up has asked for it, and has it.
    pub fn take_answer(&mut self, reply_to: ReplyTo, response: Response) -> Option<Response> {
        let Some(operation) = reply_to.operation() else { return Some(response) };
        self.with_lineups(|lineups, room| lineups.handle_operation(room, operation, response));
        None
    }

    /// Goes on with line-ups whose sessions have ended or changed: to be called when actions are
    /// carried out.
    pub fn settle_lineups(&mut self) {
        self.with_lineups(Lineups::settle);
    }

    /// Takes an operator's events for a session.
    pub fn handle_events(&mut self, id: SessionId, request: EventsRequest, reply: EventsReply) {
        self.with_lineups(|lineups, room| lineups.handle_events(room, id, request, reply));
    }

    fn with_lineups<T>(&mut self, act: impl FnOnce(&mut Lineups, &mut Room<'_>) -> T) -> T {
        let Self { cx, vod, live, tunings, lineups } = self;
        act(lineups, &mut Room { cx, vod, live, tunings })
    }

    /// A request came, whatever it asks for: a sign of life of the session that it names (RFC 2326
    /// s12.37), or else of all that were made on its connection. Many name none in OPTIONS.
    pub fn note_request(&mut self, sender: &Sender<'_>, session: Option<SessionId>) {
        match session {
            Some(id) => {
                let session = self.cx.directory.find(id);
                if let Some(session) = session.filter(|session| self.is_of(*session, sender)) {
                    self.touch(session);
                }
            }
            None => self.touch_connection(sender.connection.entry),
        }
    }

    /// Whether a command was given leave to steer the session that it names. Its connection has
    /// asked by the URL; what the session plays is known here.
    fn may_steer(&self, session: SessionRef, id: SessionId, command: &Command) -> bool {
        let configs = &self.cx.configs;
        let path = match session {
            SessionRef::Title(key) => {
                self.vod.players.session(key).map(|session| session.described.url_path.as_str())
            }
            SessionRef::Reader(index) => {
                self.live.readers.table.get(index as usize).map(|reader| &*reader.path)
            }
            // It steers what it publishes.
            SessionRef::Publisher(_) => return true,
        };
        let lineup = self.lineups.channel_info(&self.cx, id).map(|channel| channel.lineup);
        let Some(path) = lineup.as_deref().or(path) else { return true };
        configs.find(path).control.is_open()
            || command.given.controls.as_deref() == Some(path)
            || admission(&configs.entries(path, Action::Control), command.peer.ip())
                == Admission::Open
    }

    /// Whether a session is the sender's, too.
    fn is_of(&self, session: SessionRef, sender: &Sender<'_>) -> bool {
        let holder = match session {
            SessionRef::Title(key) => self.vod.players.session(key).map(|session| {
                let streams = session.streams.iter();
                Holder::of(
                    &session.client,
                    self.cx.shard,
                    streams.map(|stream| stream.outgoing.transport),
                )
            }),
            SessionRef::Reader(index) => {
                self.live.readers.table.get(index as usize).map(|reader| {
                    let streams = reader.streams.iter();
                    Holder::of(
                        &reader.client,
                        self.cx.shard,
                        streams.map(|stream| stream.outgoing.transport),
                    )
                })
            }
            SessionRef::Publisher(number) => self
                .live
                .sources
                .publishers
                .get(&number)
                .map(|publisher| publisher.holder(self.cx.shard)),
        };
        holder.is_some_and(|holder| holder.is(sender, self.cx.config.session_roaming))
    }

    /// A request came on a connection that names no session: a sign of life of all that were made
    /// on it.
    pub fn touch_connection(&mut self, entry: EntryKey) {
        for at in 0..self.cx.directory.of_connection(entry).len() {
            if let Some(session) = self.cx.directory.of_connection(entry).get(at).copied() {
                self.touch(session);
            }
        }
    }

    /// The client of a session was heard of.
    pub fn touch(&mut self, session: SessionRef) {
        match session {
            SessionRef::Title(key) => self.vod.players.touch(&mut self.cx, key),
            SessionRef::Reader(_) | SessionRef::Publisher(_) => {
                self.live.touch(session, self.cx.now);
            }
        }
    }

    /// An RTSP connection is gone. Sessions that need it end with it.
    pub fn handle_connection_closed(&mut self, entry: EntryKey) {
        let Self { cx, vod, live, .. } = self;
        live.readers.forget_held(&mut live.hub, entry);
        for session in cx.directory.close_connection(entry) {
            match session {
                SessionRef::Title(key) => vod.players.handle_connection_closed(cx, key),
                SessionRef::Reader(index) => {
                    live.readers.handle_reader_connection_closed(cx, &mut live.hub, index)
                }
                SessionRef::Publisher(number) => {
                    live.sources.end_publisher(cx, &mut live.hub, number, "connection closed");
                }
            }
        }
    }

    /// Ends a session from our side: its client gets BYE. False: there is no such session.
    pub fn end_session(&mut self, id: SessionId, why: &'static str) -> bool {
        let Self { cx, vod, live, .. } = self;
        match cx.directory.find(id) {
            Some(SessionRef::Title(key)) => vod.players.fail(cx, key, Some(why)),
            Some(SessionRef::Reader(index)) => {
                live.readers.dismiss_reader(cx, &mut live.hub, index, why)
            }
            Some(SessionRef::Publisher(number)) => {
                live.sources.dismiss_publisher(cx, &mut live.hub, number, why)
            }
            None => return false,
        }
        true
    }

    /// A key of the wheel has come up. Streams are for the pacer and connections for the shard: it
    /// looks after both itself.
    pub fn handle_timer(&mut self, key: TimerKey) {
        #[cfg(test)]
        self.cx.panic_once();
        let Self { cx, vod, live, .. } = self;
        match key {
            TimerKey::Report { session, epoch_count } => {
                vod.players.handle_report_due(cx, session, epoch_count);
            }
            TimerKey::Bye { session, stream_index, epoch_count } => {
                vod.players.handle_bye_due(cx, session, stream_index, epoch_count);
            }
            TimerKey::Pause { session, epoch_count } => {
                vod.players.handle_pause_due(cx, session, epoch_count)
            }
            TimerKey::Liveness { session, id } => {
                vod.players.handle_liveness(cx, session, id);
            }
            TimerKey::LiveReader { index, serial } => {
                live.readers.handle_reader_due(cx, &mut live.hub, index, serial)
            }
            TimerKey::LiveTick => live.handle_live_tick(cx),
            TimerKey::Relay(number) => live.sources.handle_relay_due(number),
            TimerKey::Tuning(number) => {
                self.tunings.handle_due(cx, &mut Roles { vod, live }, number);
            }
            TimerKey::Titles(number) => live.handle_titles_due(cx, number),
            TimerKey::Lineup(id) => {
                self.with_lineups(|lineups, room| lineups.handle_due(room, id));
            }
            TimerKey::Connection(_) | TimerKey::Login(_) | TimerKey::Stream { .. } => {}
        }
    }

    /// A worker has done a task of a change of what a session plays.
    pub fn handle_tuning_outcome(&mut self, (number, stream): (u32, u8), outcome: Outcome) {
        let Self { cx, vod, live, tunings, .. } = self;
        let mut roles = Roles { vod, live };
        match outcome {
            Outcome::Opened(opened) => tunings.handle_opened(cx, &mut roles, number, opened),
            Outcome::Window(built) => {
                tunings.handle_window(cx, &mut roles, (number, stream), built);
            }
            outcome => debug_assert!(false, "no change asks for {outcome:?}"),
        }
    }

    /// The workers have no room for a task of a change of what a session plays.
    pub fn handle_tuning_refused(&mut self, number: u32) {
        let Self { cx, vod, live, tunings, .. } = self;
        tunings.handle_task_refused(cx, &mut Roles { vod, live }, number);
    }

    /// Looks at changes of what sessions play: to be called once a turn, behind `feed_live`.
    pub fn go_on_with_tunings(&mut self) {
        let Self { cx, vod, live, tunings, .. } = self;
        if !tunings.is_empty() {
            tunings.go_on(cx, &mut Roles { vod, live });
            live.settle_live(cx);
        }
    }

    /// RTCP from a player or a publisher, over a shared socket.
    pub fn handle_report_datagram(&mut self, pair: u16, from: SocketAddr, bytes: &[u8]) {
        let Self { cx, live, .. } = self;
        if live.sources.handle_publisher_datagram(cx, pair, from, bytes) {
            return;
        }
        match cx.sockets.find(pair, from) {
            Some((session, stream)) => self.handle_stream_report(session, stream.into(), bytes),
            None if let Some(id) = cx.sockets.find_away(pair, from) => {
                cx.out.push(action::Action::Report { id, pair, from, bytes: bytes.to_vec() });
            }
            None if cx.sockets.group_pair() == Some(pair) => {
                live.readers.handle_member(cx, &live.hub, from, bytes)
            }
            None => cx.cells.datagrams_unmatched.add(1),
        }
    }

    /// What comes interleaved with a connection: RTCP from a player, all that a publisher sends.
    pub fn handle_report_interleaved(&mut self, entry: EntryKey, channel: u8, bytes: &[u8]) {
        let Self { cx, vod, live, .. } = self;
        if live.sources.handle_publisher_interleaved(cx, entry, channel, bytes) {
            return;
        }
        let is_on_channel = |transport: Transport| matches!(transport, Transport::Tcp { rtcp_channel, .. } if rtcp_channel == channel);
        let owner = cx.directory.of_channel(entry, channel);
        let stream = match owner {
            Some(SessionRef::Title(key)) => {
                let session = vod.players.session(key);
                let streams = session.into_iter().flat_map(|session| &session.streams);
                streams.map(|stream| stream.outgoing.transport).position(is_on_channel)
            }
            Some(SessionRef::Reader(index)) => {
                let reader = live.readers.table.get(index as usize);
                let streams = reader.into_iter().flat_map(|reader| &reader.streams);
                streams.map(|stream| stream.outgoing.transport).position(is_on_channel)
            }
            Some(SessionRef::Publisher(_)) | None => None,
        };
        match owner.zip(stream) {
            Some((session, stream)) => self.handle_stream_report(session, stream, bytes),
            // RTP towards us or a channel that nobody set up.
            None => cx.cells.datagrams_unmatched.add(1),
        }
    }

    /// Handles RTCP from a player, decrypted where its stream has SRTP: what comes in the clear
    /// there is nobody's.
    fn handle_stream_report(&mut self, session: SessionRef, stream: usize, bytes: &[u8]) {
        let srtp = match session {
            SessionRef::Title(key) => self.vod.players.session(key).and_then(|session| {
                session.streams.get(stream).and_then(|stream| stream.outgoing.srtp.clone())
            }),
            SessionRef::Reader(index) => {
                let reader = self.live.readers.table.get(index as usize);
                let stream = reader.and_then(|reader| reader.streams.get(stream));
                stream.and_then(|stream| stream.outgoing.srtp.clone())
            }
            SessionRef::Publisher(_) => None,
        };
        let Some(srtp) = srtp else { return self.handle_report(session, bytes) };
        let mut place = self.cx.take_bytes();
        let opened = open_rtcp(&self.cx.cells, &srtp, bytes, &mut place).map(<[u8]>::len);
        if let Some(opened) = opened.and_then(|bytes| place.get(..bytes)) {
            self.handle_report(session, opened);
        }
        self.cx.give_bytes_back(place);
    }

    fn handle_report(&mut self, session: SessionRef, bytes: &[u8]) {
        let Self { cx, vod, live, .. } = self;
        let feedback = match rtcp::parse(bytes) {
            Ok(feedback) => feedback,
            Err(error) => {
                // Players knock with bytes that are no RTCP to open NATs (rule C21).
                tracing::trace!(%error, "not RTCP");
                cx.cells.rtcp_malformed.add(1);
                return;
            }
        };
        match session {
            SessionRef::Title(key) => vod.players.handle_report(cx, key, &feedback, bytes),
            SessionRef::Reader(index) => {
                live.readers.handle_reader_report(cx, index, &feedback);
                live.readers.handle_reader_feedback(cx, &mut live.hub, index, bytes);
            }
            // Publishers are found by their own tables.
            SessionRef::Publisher(_) => cx.cells.datagrams_unmatched.add(1),
        }
    }
}
