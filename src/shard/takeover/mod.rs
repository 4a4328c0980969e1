//! One process takes over from another one: a shard's part on either side.
//!
//! ```text
//!  old   Serving --Quiet--> no request is read --SETTLING--> live paths are at rest
//!           ^                                                       |
//!           `-------- Resume -------- nothing is sent, record <--Freeze .. --Leave--> end
//!  new   Waiting --Open, Take: titles, sessions are here--Begin--> Serving
//! ```
//! The old shard makes records of its sessions and changes nothing of them, so it can go on at any
//! time before `Leave`. The new one arms and sends nothing before `Begin`. Who may go on is
//! decided once, by the two processes (`appliance::takeover`).
//!
//! | file | what is there |
//! |---|---|
//! | `giving` | the steps of the old shard |
//! | `waits` | what it waits for |
//! | `recording` | what goes along, and the record of it |
//! | `shares` | which new shard gets what |
//! | `taking` | the new shard |
//! | `live` | live paths, on either side |
//! | `paths` | which new shard gets what of live paths |
//!
//! Invariants: between `Freeze` and `Resume` nothing is sent of what goes along, and nothing is
//! received or accepted; what comes to the inbox meanwhile is handled after `Resume`, in order. No
//! batch is between two shards when they are recorded.
//! Bounds: `HELD_MAX`; `OPENS_MAX`.

mod giving;
mod live;
pub mod paths;
mod recording;
pub mod shares;
mod taking;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::config::paths::PathTable;
use crate::consumers::parcel::Unit;
use crate::consumers::takeover::LeftBehind;
use crate::library::title::{Adopted, Title};
use crate::live::core::message::LiveMessage;
use crate::live::core::takeover::TakenPath;
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{OpenFailure, Outcome, TaskDone};
use crate::shard::inbox::Message;
use crate::shard::sockets::UdpPair;
use crate::takeover::live::InputRecord;
use crate::takeover::v1::{ShardRecord, UnitRecord};
use waits::{FreezingWaits, QuietWaits};

/// Takes an answer; called once.
pub type Answer<T> = Box<dyn FnOnce(T) + Send>;

/// What the thread of a takeover has a shard do.
pub enum TakeoverMessage {
    /// Old: tell the titles that are played.
    Titles {
        /// Gets them.
        answer: Answer<Vec<Arc<Title>>>,
    },
    /// Old: give the pairs of UDP sockets that clients use.
    Pairs {
        /// Gets them, each with the number of the shard in the ids of its sessions, or a sentence:
        /// descriptors are running out.
        answer: Answer<Result<Vec<(u8, UdpPair)>, String>>,
    },
    /// Old: the other process does not open these titles. Until `Resume` or `Leave`.
    Without {
        /// The titles.
        titles: Arc<[Arc<Title>]>,
    },
    /// Old: read no request any more, and answer when none is at hand.
    Quiet {
        /// Gets the sessions that cannot be handed over, or a sentence: requests were at hand for
        /// too long, or the server stops.
        answer: Answer<Result<LeftBehind, String>>,
    },
    /// Old: write the packets of live paths that go along, while streams go on.
    Packets {
        /// Told then, or gets a sentence.
        answer: Answer<Result<(), String>>,
    },
    /// Old: receive no packet any more, and have what has come on its way.
    Halt {
        /// Told then, or gets a sentence.
        answer: Answer<Result<(), String>>,
    },
    /// Old: handle what other shards have told of live paths.
    Pass {
        /// Told then.
        answer: Answer<()>,
    },
    /// Old: send nothing any more, and record what there is.
    Freeze {
        /// Gets the record, or a sentence.
        answer: Answer<Result<Given, String>>,
    },
    /// Old: go on, as if nothing had been asked.
    Resume,
    /// Old: the sessions are another process's. Those that it has not taken are ended.
    Leave,
    /// New: open these titles.
    Open {
        /// The titles.
        titles: Vec<Arc<Adopted>>,
        /// Gets them in their order.
        answer: Answer<Vec<Result<Arc<Title>, OpenFailure>>>,
    },
    /// New: take these sessions in.
    Take {
        /// The sessions, with their descriptors.
        taken: Taken,
        /// Gets the number of sessions, or a sentence: they have no room or do not fit.
        answer: Answer<Result<usize, String>>,
    },
    /// New: everything is this process's now.
    Begin {
        /// When the other process ceased to send.
        frozen: Mono,
    },
}

/// Makes a question.
type Settling = fn(Answer<Result<(), String>>) -> TakeoverMessage;

/// What all old shards are asked between `Quiet` and `Freeze`, in this order: each when all have
/// answered the one before. Packets go from the shard of their source to the owner of its path, and
/// on to shards with readers.
pub const SETTLING: [Settling; 4] = [packets, halt, pass, pass];

fn packets(answer: Answer<Result<(), String>>) -> TakeoverMessage {
    TakeoverMessage::Packets { answer }
}

fn halt(answer: Answer<Result<(), String>>) -> TakeoverMessage {
    TakeoverMessage::Halt { answer }
}

fn pass(answer: Answer<Result<(), String>>) -> TakeoverMessage {
    TakeoverMessage::Pass { answer: Box::new(move |()| answer(Ok(()))) }
}

/// What a shard hands over: its record names descriptors by their places in `files`.
#[derive(Debug)]
pub struct Given {
    /// The record.
    pub record: ShardRecord,
    /// Its descriptors: the sockets themselves, not duplicates.
    pub files: Vec<Arc<OwnedFd>>,
}

/// What a shard takes in.
#[derive(Debug, Default)]
pub struct Taken {
    /// Live paths that the shard owns or has readers or a publisher of.
    pub paths: Vec<TakenPath>,
    /// Sockets at which sources of its paths are listened for.
    pub inputs: Vec<(InputRecord, OwnedFd)>,
    /// Pairs of sockets whose home the shard becomes, beside its first one, each with the shard in
    /// the ids of its sessions.
    pub pairs: Vec<(ShardId, UdpPair)>,
    /// Connections and sessions.
    pub units: Vec<TakenUnit>,
    /// Datagrams that came to the process before: port of RTP of the pair, whether it was the
    /// socket of RTCP, sender, bytes.
    pub datagrams: Vec<(u16, bool, SocketAddr, Vec<u8>)>,
    /// When packets of live paths ceased to come to it.
    pub halted: Option<Mono>,
}

/// Sessions that stay together, with what their record refers to.
#[derive(Debug)]
pub struct TakenUnit {
    /// The record.
    pub record: UnitRecord,
    /// Socket of its connection.
    pub socket: Option<OwnedFd>,
    /// Titles by their places in the record of the shard.
    pub titles: Arc<[Arc<Title>]>,
    /// Ports of RTP of pairs, by their places there.
    pub ports: Arc<[u16]>,
}

/// How far a takeover is on this shard.
#[derive(Default)]
pub(super) struct Takeover {
    step: Step,
    /// What came while nothing was to change.
    held: Held,
    live: live::Giving,
    /// Sockets at which datagrams are received again when the shard goes on.
    unheard: Vec<EntryKey>,
    /// Titles whose sessions cannot be handed over.
    without: Arc<[Arc<Title>]>,
}

#[derive(Default)]
enum Step {
    #[default]
    Serving,
    /// Requests are not read.
    Quiet(Quiet),
    /// Sends and receives end.
    Freezing(Box<Freezing>),
    /// The record is made, of these units.
    Frozen { given: Vec<Unit> },
    /// Another process has the sessions.
    Left,
    /// The other process has not handed over yet.
    Waiting(Box<Waiting>),
}

/// A shard that reads no request.
struct Quiet {
    since: Mono,
    waits: QuietWaits,
    /// Sessions of which it was said that they cannot be handed over.
    told: LeftBehind,
    /// Until it has come to rest.
    answer: Option<Answer<Result<LeftBehind, String>>>,
}

/// A shard that ceases to send.
struct Freezing {
    since: Mono,
    waits: FreezingWaits,
    told: LeftBehind,
    answer: Answer<Result<Given, String>>,
}

/// A shard whose sessions are to come.
struct Waiting {
    paths: Arc<PathTable>,
    opening: Option<Opening>,
    /// What connections have received.
    inputs: Vec<(EntryKey, Vec<u8>)>,
    /// Row of a socket, sender, bytes.
    datagrams: Vec<(EntryKey, SocketAddr, Vec<u8>)>,
    /// When packets of live paths ceased to come to the other process.
    halted: Option<Mono>,
}

/// Titles that are being opened.
struct Opening {
    waiting: VecDeque<(u32, Arc<Adopted>)>,
    under_way: usize,
    opened: Vec<Option<Result<Arc<Title>, OpenFailure>>>,
    answer: Answer<Vec<Result<Arc<Title>, OpenFailure>>>,
}

#[derive(Default)]
struct Held {
    outcomes: Vec<TaskDone>,
    live: Vec<LiveMessage>,
    messages: Vec<Message>,
    /// Row of a socket, sender, bytes.
    datagrams: Vec<(EntryKey, SocketAddr, Vec<u8>)>,
}

impl Takeover {
    /// Whether the shard takes turns of its own kind: nothing is sent in them.
    pub(super) fn is_still(&self) -> bool {
        matches!(self.step, Step::Freezing(_) | Step::Frozen { .. } | Step::Waiting(_))
    }

    /// Keeps what is said of paths for the begin; gives it back when it counts at once.
    pub(super) fn hold_paths(&mut self, paths: Arc<PathTable>) -> Option<Arc<PathTable>> {
        let Step::Waiting(waiting) = &mut self.step else { return Some(paths) };
        waiting.paths = paths;
        None
    }

    /// Keeps a failure for the begin: a session that ends for it says so, and may be the other
    /// process's yet. Gives back what counts at once.
    pub(super) fn hold_failure(&mut self, done: TaskDone) -> Option<TaskDone> {
        let outcome = &done.outcome;
        let has_failed = matches!(outcome, Outcome::Window(Err(_)) | Outcome::WindowBytes(Err(_)));
        if !has_failed || !matches!(self.step, Step::Waiting(_)) {
            return Some(done);
        }
        self.held.outcomes.push(done);
        None
    }

    /// Until when a shard in such a turn may sleep.
    pub(super) fn idle_until(&self, now: Mono) -> Option<Mono> {
        match &self.step {
            Step::Freezing(_) => Some(now + FREEZING_STEP),
            Step::Frozen { .. } | Step::Waiting(_) => Some(now + STILL_STEP),
            Step::Serving | Step::Quiet(_) | Step::Left => None,
        }
    }

    /// Whether work waits.
    pub(super) fn is_pressing(&self) -> bool {
        self.live.is_pressing()
    }

    /// When a shard that comes to rest is looked at again.
    pub(super) fn next_due(&self, now: Mono) -> Option<Mono> {
        match &self.step {
            Step::Quiet(quiet) if quiet.answer.is_some() || self.live.is_under_way() => {
                Some(now + QUIET_STEP)
            }
            _ => None,
        }
    }
}

impl Held {
    fn len(&self) -> usize {
        self.outcomes.len() + self.live.len() + self.messages.len()
    }
}

impl std::fmt::Debug for Takeover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.step {
            Step::Serving => "Serving",
            Step::Quiet(_) => "Quiet",
            Step::Freezing(_) => "Freezing",
            Step::Frozen { .. } => "Frozen",
            Step::Left => "Left",
            Step::Waiting(_) => "Waiting",
        })
    }
}

impl std::fmt::Debug for TakeoverMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Titles { .. } => "Titles",
            Self::Pairs { .. } => "Pairs",
            Self::Without { .. } => "Without",
            Self::Quiet { .. } => "Quiet",
            Self::Packets { .. } => "Packets",
            Self::Halt { .. } => "Halt",
            Self::Pass { .. } => "Pass",
            Self::Freeze { .. } => "Freeze",
            Self::Resume => "Resume",
            Self::Leave => "Leave",
            Self::Open { .. } => "Open",
            Self::Take { .. } => "Take",
            Self::Begin { .. } => "Begin",
        })
    }
}

/// Items that wait while a shard is frozen, which is less than a second.
const HELD_MAX: usize = 16_384;
/// Titles that workers open at once.
const OPENS_MAX: usize = 64;
/// Between two looks at what is under way.
const FREEZING_STEP: Duration = Duration::from_millis(1);
/// The longest sleep of a shard without work.
const STILL_STEP: Duration = Duration::from_millis(100);
/// Between two looks at requests at hand.
const QUIET_STEP: Duration = Duration::from_millis(5);
/// How long a request is waited for that may as well go along.
const REQUEST_PATIENCE: Duration = Duration::from_millis(100);
/// How long requests may take that were at hand, and sends that were under way.
const QUIET_MAX: Duration = Duration::from_secs(2);
const FREEZING_MAX: Duration = Duration::from_millis(500);
/// How long a send may take that is not cut: what is cut is copied twice, and that takes longer.
const SEND_PATIENCE: Duration = Duration::from_millis(4);
