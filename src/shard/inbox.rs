//! The inbox of a shard: the pipe of its PollTable (reference 001), written by other threads.
//!
//! ```text
//!  workers --TaskDone--> outcomes --+
//!  shards, control ----> messages --+--> the shard, once a turn     (+ one wake when it sleeps)
//!  shards, live paths -> live ------+
//! ```
//! Invariant: no wake-up is lost. The shard announces its sleep, then checks the queues again. A
//! producer pushes its item, then checks whether sleep was announced. Sequentially consistent order
//! makes one of the two see the other.
//! Bounds: a full `messages` hands the message back. `outcomes` has room for every task that can be
//! under way, so a worker's outcome always fits. `live` takes messages with packets up to
//! `LIVE_PACKETS_MAX`, or `GUEST_PACKETS_MAX`; the room beyond is for messages that must not be
//! lost.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use super::moves::{MoveMessage, MoveReply};
use super::questions::{Question, Reply};
use super::takeover::TakeoverMessage;
use super::tls::TlsSettings;
use crate::base::ids::{SessionId, ShardId};
use crate::config::paths::PathTable;
use crate::consumers::tunnel::TunnelMessage;
use crate::lineup::requests::{EventsReply, EventsRequest};
use crate::live::core::failover::{SwitchReply, SwitchRequest};
use crate::live::core::message::LiveMessage;
use crate::live::sources::titles::playlists::{PlaylistAnswer, PlaylistRefusal, PlaylistRequest};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::TaskDone;
use crate::rtsp::response::Response;
use crate::session::command::Command;
use crate::session::draining::DrainOrder;

/// A message to a shard.
pub enum Message {
    /// A command for a session of the shard, from a connection of another shard.
    Forwarded(Box<Command>),
    /// The answer to a command that the shard has forwarded.
    Answered {
        /// Connection of the command.
        entry: EntryKey,
        /// Response for the connection.
        response: Box<Response>,
    },
    /// A question of the control thread.
    Asked(Question),
    /// Ends source and readers of a live path that the shard owns.
    KickPath {
        /// Name of the path.
        path: String,
        /// Takes whether there is such a path.
        reply: Box<dyn FnOnce(bool) + Send>,
    },
    /// Shows or edits the playlist of a live path that the shard owns.
    Playlist {
        /// Name of the path.
        path: String,
        /// What is asked.
        request: PlaylistRequest,
        /// Takes the answer.
        reply: Reply<Result<PlaylistAnswer, PlaylistRefusal>>,
    },
    /// Switches the source of a live path that the shard owns.
    SwitchPath {
        /// Name of the path.
        path: String,
        /// The source, and where it begins.
        request: SwitchRequest,
        /// Takes the outcome, when the switch is done or refused.
        reply: SwitchReply,
    },
    /// Ends a session.
    EndSession {
        /// Id of the session.
        id: SessionId,
        /// Takes whether there was such a session.
        reply: Box<dyn FnOnce(bool) + Send>,
    },
    /// Moves a session to another shard.
    MoveSession {
        /// Id of the session.
        id: SessionId,
        /// The shard that it is to be on.
        to: ShardId,
        /// Takes the outcome.
        reply: MoveReply,
    },
    /// Moves some sessions that play to another shard, which is less busy.
    Shed {
        /// The other shard.
        to: ShardId,
        /// Sessions at most.
        count: usize,
    },
    /// About sessions that move between shards.
    Move(Box<MoveMessage>),
    /// Has a session of a line-up consume events.
    Events {
        /// Id of the session.
        id: SessionId,
        /// The events.
        request: EventsRequest,
        /// Takes the outcomes when all events are consumed.
        reply: EventsReply,
    },
    /// Replaces the configuration of live paths.
    Configure {
        /// The whole configuration.
        paths: Arc<PathTable>,
        /// Called when the configuration is in force.
        done: Box<dyn FnOnce() + Send>,
    },
    /// Takes no new sessions, or takes them again.
    Drain {
        /// The order; `None`: serve again.
        order: Option<DrainOrder>,
        /// Called when the shard goes by it.
        done: Box<dyn FnOnce() + Send>,
    },
    /// About another process that takes over, or from which this one does.
    Takeover(Box<TakeoverMessage>),
    /// For a half of a tunnel over HTTP, or about one.
    Tunnel(Box<TunnelMessage>),
    /// Replaces the settings of TLS, for connections that begin.
    Tls(TlsSettings),
    /// Ends the shard: BYE to all sessions, what is queued is sent, connections are closed.
    Stop,
}

/// Queues to one shard, with the eventfd that wakes it.
#[derive(Debug)]
pub struct Inbox {
    outcomes: ArrayQueue<TaskDone>,
    messages: ArrayQueue<Message>,
    /// Messages of live paths. Their order matters: snapshot, batches, end.
    live: ArrayQueue<LiveMessage>,
    live_packets_max: usize,
    wake: OwnedFd,
    sleeps: AtomicBool,
    is_closed: AtomicBool,
}

impl Inbox {
    /// `outcomes_max`: tasks that can be queued and under way at once.
    ///
    /// # Errors
    /// The process or the host is out of descriptors.
    pub fn new(outcomes_max: usize) -> std::io::Result<Self> {
        Ok(Self {
            outcomes: ArrayQueue::new(outcomes_max.max(1)),
            messages: ArrayQueue::new(MESSAGES_MAX),
            live: ArrayQueue::new(LIVE_PACKETS_MAX + MESSAGES_MAX),
            live_packets_max: LIVE_PACKETS_MAX,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            sleeps: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        })
    }

    /// An inbox of somebody who is no shard: the other end of its wake is a socket, which becomes
    /// readable when there is something to read.
    ///
    /// # Errors
    /// The process or the host is out of descriptors.
    pub fn of_guest(outcomes_max: usize) -> std::io::Result<(Self, UnixStream)> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let inbox = Self::new(outcomes_max)?;
        Ok((Self { wake: wake.into(), live_packets_max: GUEST_PACKETS_MAX, ..inbox }, woken))
    }

    /// A duplicate of the eventfd that becomes readable when the shard must wake.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn wake_fd(&self) -> std::io::Result<OwnedFd> {
        self.wake.try_clone()
    }

    /// Pushes a message.
    ///
    /// # Errors
    /// The inbox is full; the message is handed back.
    pub fn push(&self, message: Message) -> Result<(), Message> {
        self.messages.push(message)?;
        if self.is_closed() {
            self.drop_messages();
        }
        self.wake_if_asleep();
        Ok(())
    }

    /// Nobody reads it any more: messages are dropped, which tells those who wait for a reply.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.drop_messages();
        while self.live.pop().is_some() {}
        while self.outcomes.pop().is_some() {}
    }

    /// As for a sleep: whoever pushes looks after it has, so one of the two finds the message.
    fn is_closed(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_closed.load(Ordering::SeqCst)
    }

    fn drop_messages(&self) {
        while self.messages.pop().is_some() {}
    }

    /// Pushes a message about a live path.
    ///
    /// # Errors
    /// The message is handed back: one with packets when the shard is far behind, another one when
    /// the shard hangs.
    pub fn push_live(&self, message: LiveMessage) -> Result<(), LiveMessage> {
        let is_behind = message.is_packets() && self.live.len() >= self.live_packets_max;
        if is_behind || self.is_closed.load(Ordering::Relaxed) {
            return Err(message);
        }
        self.live.push(message)?;
        self.wake_if_asleep();
        Ok(())
    }

    /// Takes the oldest message about a live path.
    #[must_use]
    pub fn pop_live(&self) -> Option<LiveMessage> {
        self.live.pop()
    }

    /// Whether no message about a live path waits.
    #[must_use]
    pub fn has_no_live(&self) -> bool {
        self.live.is_empty()
    }

    /// Pushes the outcome of a task.
    pub fn deliver(&self, done: TaskDone) {
        let mut done = done;
        // The queue has room for every task that can be under way. Should it be full all the same,
        // the worker waits for the shard, and no outcome is lost.
        while let Err(back) = self.outcomes.push(done) {
            if self.is_closed() {
                return;
            }
            done = back;
            self.wake_if_asleep();
            std::thread::yield_now();
        }
        self.wake_if_asleep();
    }

    /// Takes the oldest outcome.
    #[must_use]
    pub fn pop_outcome(&self) -> Option<TaskDone> {
        self.outcomes.pop()
    }

    /// Takes the oldest message.
    #[must_use]
    pub fn pop_message(&self) -> Option<Message> {
        self.messages.pop()
    }

    /// Whether nothing waits to be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.messages.is_empty() && self.live.is_empty()
    }

    #[cfg(test)]
    pub(super) fn message_count(&self) -> usize {
        self.messages.len()
    }

    /// The shard is about to sleep. False: an item has arrived, and the shard must not sleep.
    #[must_use]
    pub fn announce_sleep(&self) -> bool {
        self.sleeps.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_empty = self.is_empty();
        if !is_empty {
            self.sleeps.store(false, Ordering::SeqCst);
        }
        is_empty
    }

    /// The shard is awake.
    pub fn announce_awake(&self) {
        self.sleeps.store(false, Ordering::SeqCst);
    }

    fn wake_if_asleep(&self) {
        fence(Ordering::SeqCst);
        if self.sleeps.swap(false, Ordering::SeqCst) {
            // The write fails only when the counter or the socket is full: it is woken already.
            let _ = rustix::io::write(self.wake.as_fd(), &1_u64.to_ne_bytes());
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Forwarded(_) => "Forwarded",
            Self::Answered { .. } => "Answered",
            Self::Asked(_) => "Asked",
            Self::KickPath { .. } => "KickPath",
            Self::Playlist { .. } => "Playlist",
            Self::SwitchPath { .. } => "SwitchPath",
            Self::EndSession { .. } => "EndSession",
            Self::MoveSession { .. } => "MoveSession",
            Self::Shed { .. } => "Shed",
            Self::Move(_) => "Move",
            Self::Events { .. } => "Events",
            Self::Configure { .. } => "Configure",
            Self::Drain { .. } => "Drain",
            Self::Takeover(_) => "Takeover",
            Self::Tunnel(_) => "Tunnel",
            Self::Tls(_) => "Tls",
            Self::Stop => "Stop",
        })
    }
}

/// Commands between shards and from the control thread: thousands wait only when a shard hangs.
const MESSAGES_MAX: usize = 4_096;
/// Batches that wait: a few tenths of a second of a hundred paths.
const LIVE_PACKETS_MAX: usize = 4_096;
/// Batches that wait for a guest, whose thread has a lower priority: they are held in memory until
/// it reads them. A tenth of a second of sixty cameras.
const GUEST_PACKETS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{RtpTs, SeqNo, Ssrc};
    use crate::base::time::Mono;
    use crate::live::core::batch::{Arrival, BatchBuilder, Generation};
    use crate::live::core::message::{OwnerRequest, ToOwner};
    use crate::poll::task::{OpenFailure, Outcome, TaskOwner};

    fn done(number: u64) -> TaskDone {
        TaskDone {
            owner: TaskOwner::numbered(number),
            outcome: Outcome::Opened(Err(OpenFailure::NotFound)),
        }
    }

    /// Operators waited in vain for a thread that had ended.
    #[test]
    fn who_asks_a_closed_inbox_is_told() {
        let inbox = Inbox::new(1).unwrap();
        let (token, asked) = (Arc::new(()), |token: &Arc<()>| {
            let token = Arc::clone(token);
            Message::Drain { order: None, done: Box::new(move || drop(token)) }
        });
        inbox.push(asked(&token)).unwrap();
        assert_eq!(Arc::strong_count(&token), 2);
        inbox.close();
        assert_eq!(Arc::strong_count(&token), 1, "what waited");
        inbox.push(asked(&token)).unwrap();
        assert_eq!(Arc::strong_count(&token), 1, "what came later");
        for number in 0..3 {
            inbox.deliver(done(number));
        }
    }

    #[test]
    fn full_inbox_hands_the_message_back() {
        let inbox = Inbox::new(1).unwrap();
        for _ in 0..MESSAGES_MAX {
            inbox.push(Message::Stop).unwrap();
        }
        assert!(matches!(inbox.push(Message::Stop), Err(Message::Stop)));
    }

    #[test]
    fn packets_of_live_paths_leave_room_for_what_must_not_be_lost() {
        assert_packets_leave_room(&Inbox::new(1).unwrap(), 4_096);
        let (guest, _wake) = Inbox::of_guest(1).unwrap();
        assert_packets_leave_room(&guest, 256);
    }

    fn assert_packets_leave_room(inbox: &Inbox, packets_max: usize) {
        let message = |request| LiveMessage::ToOwner(ToOwner { path: "live/a".into(), request });
        let mut builder = BatchBuilder::default();
        let (ssrc, seq, ts) = (Ssrc(1), SeqNo(1), RtpTs(1));
        let (marker, is_sync, bytes) = (false, false, &[0; 20]);
        let header_bytes = 12;
        let arrival = Arrival { track: 0, ssrc, seq, ts, marker, header_bytes, is_sync, bytes };
        builder.push(&arrival, Mono(0)).unwrap();
        let generation = Generation(1);
        let batch = Arc::new(builder.build(generation, |_| None).unwrap());
        let feed = || message(OwnerRequest::Feed { generation, batch: Arc::clone(&batch) });
        for _ in 0..packets_max {
            inbox.push_live(feed()).unwrap();
        }
        assert!(!inbox.announce_sleep(), "they are to be read");
        assert!(inbox.push_live(feed()).is_err());
        inbox.push_live(message(OwnerRequest::Release { generation })).unwrap();
        let order: Vec<bool> =
            std::iter::from_fn(|| inbox.pop_live()).map(|message| message.is_packets()).collect();
        assert_eq!(order.len(), packets_max + 1);
        assert!(order[..packets_max].iter().all(|is_packets| *is_packets), "in order");
    }

    #[test]
    fn shard_does_not_sleep_on_what_came_before_its_announcement() {
        let inbox = Inbox::new(4).unwrap();
        inbox.deliver(done(1));
        assert!(!inbox.announce_sleep());
        assert_eq!(inbox.pop_outcome().map(|d| d.owner.number()), Some(1));
        assert!(inbox.announce_sleep());
    }

    #[test]
    fn sleeper_is_woken_once_for_many_items_and_loses_none() {
        let inbox = Inbox::new(4).unwrap();
        assert!(inbox.announce_sleep());
        let count = 10_000;
        std::thread::scope(|scope| {
            scope.spawn(|| (0..count).for_each(|n| inbox.deliver(done(n))));
            let mut next = 0;
            while next < count {
                while let Some(done) = inbox.pop_outcome() {
                    assert_eq!(done.owner.number(), next);
                    next += 1;
                }
                if next < count && inbox.announce_sleep() {
                    let mut fds =
                        [rustix::event::PollFd::new(&inbox.wake, rustix::event::PollFlags::IN)];
                    let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
                    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1), "lost wake");
                    let _ = rustix::io::read(&inbox.wake, &mut [0; 8]);
                }
            }
        });
    }
}
