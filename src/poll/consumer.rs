//! What a consumer is told, and what it answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use super::poll_table::EntryKey;
use super::task::{Outcome, Task};
use crate::base::addresses::AddressPlace;
use crate::base::ids::ShardId;
use crate::rtsp::response::Response;

/// An event at the descriptor that a consumer is responsible for, or the end of work it waited for.
#[derive(Debug)]
pub enum Event<'a> {
    /// A listener's new connection.
    Accepted {
        /// The connection.
        fd: OwnedFd,
        /// Its other end.
        peer: SocketAddr,
        /// Our end of it.
        local: SocketAddr,
        /// Its place among the connections of its address.
        place: AddressPlace,
    },
    /// A connection of ours is there, with our address on it, or cannot be made.
    Connected(io::Result<IpAddr>),
    /// Bytes of a stream; empty at its end.
    Received(&'a [u8]),
    /// A datagram.
    Datagram {
        /// Who sent it.
        from: SocketAddr,
        /// Its payload.
        bytes: &'a [u8],
    },
    /// The consumer may go on with what it has read: what it has written is sent, or the others
    /// have had their turn.
    Writable,
    /// The consumer's Task is done.
    Outcome(Outcome),
    /// The time has come that the consumer waited for.
    Due,
    /// The TaskQueue is full and has handed the consumer's Task back.
    Refused(Task),
    /// The answer to a command that the consumer forwarded or left with a session.
    Answered(Response),
    /// What the other half of a tunnel over HTTP says, or who knows of tunnels.
    Tunnel(TunnelEvent),
}

/// What a half of a tunnel over HTTP is told.
#[derive(Debug)]
pub enum TunnelEvent {
    /// The cookie of a GET is entered, or not.
    Entered(Result<(), TunnelRefusal>),
    /// The connection of the GET with the cookie of a POST.
    Found(Result<(ShardId, EntryKey), TunnelRefusal>),
    /// Decoded bytes, for the half to the client; answered with `Taken`.
    Bytes {
        /// The half that they came in at.
        from: (ShardId, EntryKey),
        /// None: it wants to know whether this half is there.
        bytes: Vec<u8>,
    },
    /// The bytes are worked through: more may come.
    Taken,
    /// The client has made another connection in place of this one.
    Replaced,
    /// The other half is gone.
    Gone,
}

/// Why there is no tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelRefusal {
    /// No GET has come with the cookie, from this address.
    Unknown = 0,
    /// Another tunnel has the cookie.
    Taken = 1,
    /// There are as many as there may be.
    Full = 2,
    /// The configuration wants none.
    Off = 3,
    /// The request or its body is none of a tunnel.
    Malformed = 4,
}

/// What became of an event.
#[derive(Debug)]
pub enum Disposition {
    /// Done in place: the entry is armed again.
    Handled,
    /// Some of it is done: the entry stays suspended until `Event::Writable`, which comes when the
    /// others have had their turn.
    Unfinished,
    /// Large work: the entry stays suspended until the Task's outcome.
    Submit(Task),
    /// The entry stays suspended until `Event::Answered`: another shard, or a session that waits
    /// for its first windows, has the command. Or until `Event::Due`.
    Wait,
    /// The consumer is finished: the entry is removed once what it has written is sent.
    Close,
}

/// An object responsible for the events of one descriptor (reference 001). `Cx` is what it may
/// touch of the shard it lives on.
pub trait PollEventConsumer<Cx> {
    /// Handles small work in place and turns large work into a Task.
    fn create_task(&mut self, event: Event<'_>, cx: &mut Cx) -> Disposition;
}
