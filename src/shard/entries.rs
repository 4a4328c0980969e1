//! The entries of a shard: rows of its PollTable, each with its descriptor in the ring.
//!
//! ```text
//!  install --> suspended --enable_events--> armed --event--> suspended ..   remove --> vacant
//! ```
//! Invariants: a row has a link from `install` to `remove`, and the ring closes the descriptor
//! after its last operation; a key of an earlier entry finds nothing.
//! Bounds: the rows of the table; a connection is in `dirty` at most once.

use std::os::fd::OwnedFd;

use super::ring::kernel::Kernel;
use super::ring::{FileSlot, Ring, RingError};
use crate::consumers::Consumer;
use crate::consumers::camera::Camera;
use crate::consumers::rtsp_connection::RtspConnection;
use crate::poll::poll_table::{EntryKey, PollTable};

/// PollTable of a shard, with the descriptor and the send state of each row.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) table: PollTable<Consumer>,
    /// By the index of the row.
    links: Vec<Option<Link>>,
    /// Connections with something to send.
    pub(super) dirty: Vec<EntryKey>,
    /// No RTSP connection is received from, but for those that are heard: another process takes
    /// over.
    pub(super) is_quiet: bool,
}

/// State of an entry beside its consumer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) slot: FileSlot,
    /// A send is in flight on the connection.
    pub(super) is_sending: bool,
    /// The connection is marked dirty when the send in flight has ended.
    pub(super) has_more: bool,
    /// The connection is in `Entries::dirty`.
    pub(super) is_dirty: bool,
    /// The connection waits for a visit, to go on with messages that are read already.
    pub(super) is_awaiting_visit: bool,
    /// The connection is about to move to another shard: nothing new begins on it.
    pub(super) is_frozen: bool,
    /// A TCP connection: its bytes are received one event at a time.
    pub(super) is_stream: bool,
    /// It is received from although connections are quiet: to a camera, or of a publisher.
    pub(super) is_heard: bool,
}

impl Entries {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            table: PollTable::new(entries_max),
            links: Vec::new(),
            dirty: Vec::new(),
            is_quiet: false,
        }
    }

    /// Enters a consumer, suspended, and gives its descriptor to the ring.
    ///
    /// # Errors
    /// The table or the ring is full. The descriptor is handed back, nothing has changed.
    pub(super) fn install(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        consumer: Consumer,
        fd: OwnedFd,
    ) -> Result<(EntryKey, FileSlot), (OwnedFd, RingError)> {
        let is_stream = matches!(consumer, Consumer::Connection(_) | Consumer::Camera(_));
        let is_heard = matches!(consumer, Consumer::Camera(_));
        let Ok(key) = self.table.register(consumer) else {
            let why = "the PollTable is full: raise poll_entries_max";
            return Err((fd, RingError::unavailable(why)));
        };
        let slot = match ring.install(fd) {
            Ok(slot) => slot,
            Err(refused) => {
                self.table.unregister(key);
                return Err(refused);
            }
        };
        let index = key.index as usize;
        if self.links.len() <= index {
            self.links.resize(index + 1, None);
        }
        self.links[index] = Some(Link {
            slot,
            is_sending: false,
            has_more: false,
            is_dirty: false,
            is_awaiting_visit: false,
            is_frozen: false,
            is_stream,
            is_heard,
        });
        Ok((key, slot))
    }

    /// Enters the inbox or a listener; its events come from now on.
    ///
    /// # Errors
    /// As `install`; the descriptor is closed.
    pub(super) fn install_own(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        consumer: Consumer,
        fd: OwnedFd,
    ) -> Result<(), RingError> {
        let is_inbox = matches!(consumer, Consumer::Inbox);
        let (key, slot) = self.install(ring, consumer, fd).map_err(|(_, error)| error)?;
        if is_inbox {
            ring.arm_wake(slot, key.index);
        } else {
            ring.arm_accept(slot, key.index);
        }
        self.table.enable_events(key);
        Ok(())
    }

    /// Enters a listener on which another process accepts connections so far.
    ///
    /// # Errors
    /// As `install_own`.
    pub(super) fn install_waiting(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        consumer: Consumer,
        fd: OwnedFd,
    ) -> Result<(), RingError> {
        let (key, _) = self.install(ring, consumer, fd).map_err(|(_, error)| error)?;
        self.table.enable_events(key);
        Ok(())
    }

    /// Keys of RTSP connections, while their consumers do not run.
    pub(super) fn connections(&mut self) -> Vec<EntryKey> {
        let keys: Vec<EntryKey> = self.table.keys().collect();
        keys.into_iter().filter(|key| self.connection_mut(*key).is_some()).collect()
    }

    /// Keys of listeners.
    pub(super) fn listeners(&mut self) -> Vec<EntryKey> {
        let keys: Vec<EntryKey> = self.table.keys().collect();
        keys.into_iter()
            .filter(|key| matches!(self.table.consumer_mut(*key), Some(Consumer::Listener(_))))
            .collect()
    }

    /// Keys of sockets at which datagrams are received.
    pub(super) fn receivers(&mut self) -> Vec<EntryKey> {
        let keys: Vec<EntryKey> = self.table.keys().collect();
        let is_receiver = |consumer: &Consumer| match consumer {
            Consumer::Rtp(_) | Consumer::Rtcp(_) | Consumer::Input(_) | Consumer::Group(_) => true,
            Consumer::Listener(_)
            | Consumer::Connection(_)
            | Consumer::Camera(_)
            | Consumer::Inbox => false,
        };
        let is_it =
            |key: &EntryKey| self.table.consumer_mut(*key).is_some_and(|it| is_receiver(it));
        keys.into_iter().filter(is_it).collect()
    }

    /// Enters a UDP socket of another shard, by which datagrams are sent: none are received.
    ///
    /// # Errors
    /// As `install`; the descriptor is closed.
    pub(super) fn install_sender(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        consumer: Consumer,
        fd: OwnedFd,
    ) -> Result<(EntryKey, FileSlot), RingError> {
        let installed = self.install(ring, consumer, fd).map_err(|(_, error)| error)?;
        self.table.enable_events(installed.0);
        Ok(installed)
    }

    /// Enters the consumer of a UDP socket; its datagrams come from now on.
    ///
    /// # Errors
    /// As `install`; the socket is closed.
    pub(super) fn install_datagrams(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        consumer: Consumer,
        fd: OwnedFd,
    ) -> Result<(EntryKey, FileSlot), RingError> {
        let (key, slot) = self.install(ring, consumer, fd).map_err(|(_, error)| error)?;
        ring.arm_datagrams(slot, key.index);
        self.table.enable_events(key);
        Ok((key, slot))
    }

    /// Frees the row and closes its descriptor. The consumer comes back unless it is running.
    pub(super) fn remove(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        key: EntryKey,
    ) -> Option<Consumer> {
        let link = self.link(key)?;
        self.links[key.index as usize] = None;
        ring.remove(link.slot);
        self.table.unregister(key)
    }

    /// The link of an entry that is still there.
    pub(super) fn link(&self, key: EntryKey) -> Option<Link> {
        if self.table.key_at(key.index) != Some(key) {
            return None;
        }
        self.links.get(key.index as usize).copied().flatten()
    }

    pub(super) fn link_mut(&mut self, key: EntryKey) -> Option<&mut Link> {
        if self.table.key_at(key.index) != Some(key) {
            return None;
        }
        self.links.get_mut(key.index as usize)?.as_mut()
    }

    /// An RTSP connection, while its consumer does not run.
    pub(super) fn connection_mut(&mut self, key: EntryKey) -> Option<&mut RtspConnection> {
        match self.table.consumer_mut(key) {
            Some(Consumer::Connection(connection)) => Some(connection),
            _ => None,
        }
    }

    /// A connection to a camera, while its consumer does not run.
    pub(super) fn camera_mut(&mut self, key: EntryKey) -> Option<&mut Camera> {
        match self.table.consumer_mut(key) {
            Some(Consumer::Camera(camera)) => Some(camera),
            _ => None,
        }
    }

    /// Whether nothing is read of a connection any more: another process takes over.
    pub(super) fn is_silenced(&self, key: EntryKey) -> bool {
        self.is_quiet && self.link(key).is_none_or(|link| !link.is_heard)
    }

    /// Whether there are TCP connections.
    pub(super) fn has_connections(&self) -> bool {
        self.links.iter().flatten().any(|link| link.is_stream)
    }

    /// The connection is flushed before the turn ends.
    pub(super) fn mark_dirty(&mut self, key: EntryKey) {
        if let Some(link) = self.link_mut(key)
            && link.is_stream
            && !std::mem::replace(&mut link.is_dirty, true)
        {
            self.dirty.push(key);
        }
    }

    /// Arms an entry again. A connection whose client does not take its answers stays suspended
    /// until it does.
    pub(super) fn enable(&mut self, ring: &mut Ring<impl Kernel>, key: EntryKey) {
        let Some(link) = self.link(key).filter(|link| !link.is_frozen) else { return };
        let is_quiet = self.is_silenced(key);
        if let Some(connection) = self.connection_mut(key)
            && (is_quiet
                || connection.is_congested()
                || connection.is_closing()
                || connection.is_waiting())
        {
            return;
        }
        if self.camera_mut(key).is_some_and(|camera| camera.is_closing()) {
            return;
        }
        if self.table.enable_events(key) && link.is_stream {
            ring.arm_receive(link.slot, key.index);
        }
    }

    /// The connection ends when its answers are sent. No-op for other entries.
    pub(super) fn close_when_sent(&mut self, key: EntryKey) {
        match self.table.consumer_mut(key) {
            Some(Consumer::Connection(connection)) => connection.close_when_sent(),
            Some(Consumer::Camera(camera)) => camera.close_when_sent(),
            _ => {}
        }
    }
}
