//! The sessions of a shard that read live paths, and the multicast senders.
//!
//! Commands of a session with UDP or TCP transport in each state (RFC 2326 A.2):
//!
//! | method | Ready | Priming | Playing | Paused |
//! |---|---|---|---|---|
//! | SETUP | 200 | 455 | 455 | 200 |
//! | PLAY | held Priming | 455 | 200 | held Priming |
//! | PAUSE | 455 | 455 | 200 Paused | 200 |
//! | TEARDOWN | 200 ends | 200 ends | 200 ends | 200 ends |
//! | GET_PARAMETER | 200 | 200 | 200 | 200 |
//! | SET_PARAMETER | 200 | 200 | 200 | 200 |
//! | OPTIONS | 200 | 200 | 200 | 200 |
//! | ANNOUNCE | 455 | 455 | 455 | 455 |
//! | RECORD | 455 | 455 | 455 | 455 |
//! | DESCRIBE | 455 | 455 | 455 | 455 |
//! | REDIRECT | 455 | 455 | 455 | 455 |
//! | another | 455 | 455 | 455 | 455 |
//!
//! A cell is the answer's status, or `held` while there is none; then the state behind it, where
//! that is another one. A PLAY that is held is answered with 200 when the first packets are known,
//! or have been waited for long enough, and the state is Playing then; with 454 when the session
//! ends before.
//! Members of a group have a table of their own (`live::multicast::member`), publishers too.
//! The connection keeps some of these methods from coming here: it answers OPTIONS, REDIRECT and
//! methods that are none, and DESCRIBE as without a session.
//! Unlike titles, commands that come over another connection are not held behind a PLAY: it waits
//! for a source, not for a disk, and they say nothing that depends on it.
//!
//! Invariant: every reader that is a session is in the directory; a command that waits for a path
//! is in `held` until the path's owner has answered.
//! Bounds: `sessions_max` readers; those of `held`, `backlog` and `recently_closed`.

mod backlog;
mod end;
mod feedback;
pub mod handover;
pub(crate) mod held;
mod liveness;
pub(crate) mod log;
pub mod moving;
mod play;
pub mod reader;
pub(crate) mod recently_closed;
mod reports;
mod setup;
mod takeover;

use slab::Slab;

use crate::base::ids::SessionId;
use crate::live::core::message::OwnerRequest;
use crate::live::core::paths::Wanted;
use crate::live::core::reader::Begun;
use crate::live::hub::Hub;
use crate::live::multicast::member::Groups;
use crate::live::readers::backlog::Backlog;
use crate::live::readers::held::HeldCommands;
use crate::live::readers::held::refuse_to_hold;
use crate::live::readers::reader::{LiveReader, ReaderState};
use crate::live::readers::recently_closed::RecentlyClosed;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::reader::Method;
use crate::rtsp::response::Status;
use crate::session::action::Action;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::outgoing::Numbers;
use std::sync::Arc;

/// All readers of one shard: see the module.
#[derive(Debug, Default)]
pub struct Readers {
    /// Readers by index; the readers of a path have this index as owner.
    pub table: Slab<LiveReader>,
    /// Commands that wait for a path.
    pub(crate) held: HeldCommands,
    /// Readers to be ended or looked at: some of them each turn.
    pub(crate) backlog: Backlog,
    /// Sessions that the server ended recently.
    pub(crate) recently_closed: RecentlyClosed,
    /// Groups that paths are sent to.
    pub groups: Groups,
}

impl Readers {
    /// Whether the server has ended the session recently.
    pub(crate) fn has_ended(&self, id: SessionId) -> bool {
        self.recently_closed.has(id)
    }

    /// A stream of a reader was sent its first packet.
    pub fn note_begun(&mut self, begun: Begun) {
        let reader = usize::try_from(begun.owner).ok().and_then(|index| self.table.get_mut(index));
        let stream = reader.and_then(|r| r.streams.get_mut(usize::from(begun.stream_index)));
        if let Some(stream) = stream {
            stream.outgoing.numbers = Numbers::Source(Some(begun.ssrc));
        }
    }

    /// Changes a reader's state and the gauge.
    pub(crate) fn set_reader_state(&mut self, cx: &Cx, index: u32, state: ReaderState) {
        let Some(reader) = self.table.get_mut(index as usize) else { return };
        cx.recount_player(reader.state.shown(), state.shown());
        reader.state = state;
    }

    pub(crate) fn execute_reader(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        command: Command,
        index: u32,
    ) -> Executed {
        let now = cx.now;
        if let Some(reader) = self.table.get_mut(index as usize) {
            reader.client.alive = now;
        }
        match command.request.method {
            Method::Setup => self.setup_reader(cx, hub, command, Some(index)),
            Method::Play => self.play_live(cx, hub, &command, index),
            Method::Pause => self.pause_live(cx, hub, &command, index),
            Method::Teardown => {
                let response = cx.answer(&command);
                self.end_reader(cx, hub, index, Some("teardown"));
                Executed::Reply(response)
            }
            Method::GetParameter | Method::SetParameter => Executed::Reply(cx.answer(&command)),
            Method::Options
            | Method::Describe
            | Method::Announce
            | Method::Record
            | Method::Redirect
            | Method::Unknown(_) => command.refuse(Status::MethodNotValidInThisState),
        }
    }

    /// Executes a held command again, or refuses it, after the owner has answered.
    pub(crate) fn resume(&mut self, cx: &mut Cx, waiter: u64, is_refused: bool) {
        let Some(command) = self.held.take(waiter) else { return };
        cx.out.push(if is_refused {
            let response = command.response(Status::NotFound);
            Action::Respond { reply_to: command.reply_to, response }
        } else {
            Action::Execute(Box::new(command))
        });
    }

    /// Whether the path is here; otherwise the command is held until the owner has answered.
    pub(crate) fn want_path(
        &mut self,
        cx: &Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        command: Command,
    ) -> Result<Command, Executed> {
        // A path that is here makes no command wait, however many wait for other paths.
        if hub.paths.path(path).is_none() && !self.held.has_room(path) {
            return Err(refuse_to_hold(cx, path, &command));
        }
        let (waiter, limits) = (self.held.next_name(), cx.path_limits(path));
        match hub.paths.want(path, limits, waiter, cx.now) {
            Wanted::Here => return Ok(command),
            Wanted::TooMany => return Err(refuse_to_hold(cx, path, &command)),
            Wanted::Requested => {}
            Wanted::Request => {
                let rules = cx.path_rules(path);
                hub.request(path, OwnerRequest::Subscribe { shard: cx.shard, rules });
            }
        }
        self.held.hold(path, command, cx.shard);
        Err(Executed::Later)
    }

    /// Holds a DESCRIBE while the path's description lacks parameter sets that may still arrive.
    /// Without room the DESCRIBE is answered with the present description.
    pub(crate) fn want_sets(
        &mut self,
        cx: &Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        command: Command,
    ) -> Result<Command, Executed> {
        let waiter = self.held.next_name();
        let may_wait = self.held.has_room(path);
        if !may_wait || !hub.paths.await_sets(path, waiter, cx.now) {
            return Ok(command);
        }
        self.held.hold(path, command, cx.shard);
        // A key frame brings the parameter sets, if the source can be asked for one.
        hub.request(path, OwnerRequest::WantSync);
        Err(Executed::Later)
    }

    /// Drops the held command of a closed connection.
    pub(crate) fn forget_held(&mut self, hub: &mut Hub, entry: EntryKey) {
        if let Some((path, waiter)) = self.held.forget(entry) {
            hub.paths.forget_waiter(&path, waiter);
            self.groups.forget_waiter(&path, waiter);
        }
    }
}
