//! The Poller: knows the shards, places what is new on their PollTables and says which of them
//! owns a session.
//!
//! reference 001: the Poller creates PollTables and balances their population. Here each shard has
//! one PollTable; connections are spread by the kernel (one SO_REUSEPORT listener a shard), and
//! everything else reaches a shard through its inbox, which this type hands out.

use std::sync::Arc;

use crate::base::ids::{SessionId, ShardId};

/// The shards and their inboxes. `I` is the inbox of a shard.
#[derive(Debug)]
pub struct Poller<I> {
    inboxes: Vec<Arc<I>>,
    guest: Option<Arc<I>>,
}

/// The id by which shards and workers answer the guest: see [`Poller::with_guest`].
pub const GUEST: ShardId = ShardId(254);

impl<I> Poller<I> {
    /// One inbox per shard, in the order of their ids.
    #[must_use]
    pub fn new(inboxes: Vec<Arc<I>>) -> Self {
        Self { inboxes, guest: None }
    }

    /// Adds somebody who is no shard, but listens to live paths and has tasks done as a shard does:
    /// by the id [`GUEST`]. It owns neither paths nor sessions.
    #[must_use]
    pub fn with_guest(self, guest: Option<Arc<I>>) -> Self {
        Self { guest, ..self }
    }

    /// The inbox of a shard, or of the guest; `None` for an id that nobody has.
    #[must_use]
    pub fn inbox(&self, shard: ShardId) -> Option<&Arc<I>> {
        let guest = self.guest.as_ref().filter(|_| shard == GUEST);
        guest.or_else(|| self.inboxes.get(usize::from(shard.0)))
    }

    /// The inbox of the guest.
    #[must_use]
    pub fn guest(&self) -> Option<&Arc<I>> {
        self.guest.as_ref()
    }

    /// The shard that is the home of a session; `None` without shards.
    #[must_use]
    pub fn owner(&self, session: SessionId) -> Option<ShardId> {
        let count = u8::try_from(self.inboxes.len()).unwrap_or(u8::MAX);
        (count > 0).then(|| session.home(count))
    }

    /// The shard or guest that an operator's question about a session goes to, `None` when the id
    /// cannot be ours. No command of RTSP goes to a guest.
    #[must_use]
    pub fn asked_about(&self, session: SessionId) -> Option<ShardId> {
        let is_guests = session.shard() == GUEST && self.guest.is_some();
        if is_guests { Some(GUEST) } else { self.owner(session) }
    }

    /// All inboxes in the order of their shards.
    pub fn inboxes(&self) -> impl Iterator<Item = &Arc<I>> {
        self.inboxes.iter()
    }
}
