//! Places of viewers: how many there may be, of one address, and of those who have not come yet.
//!
//! ```text
//!  offer --enter--> Place                        connected: `Place::settle`
//!              `--> Full --oldest--> a viewer who has not come makes room, and it enters again
//! ```
//! An offer costs a stranger one request, a connection a browser. So who is not connected keeps
//! nobody out: an address that has its share of those, or of all viewers, loses the oldest of its
//! own that has not come; when all places are taken, the oldest of all that has not.
//! Bounds: `viewers_max`; the shares of `Addresses`; `UNCONNECTED_PER_ADDRESS` of one address,
//! three quarters of all of this host and of one site.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::addresses::{AddressLimit, AddressPlace, Addresses};
use crate::base::ids::SessionId;
use crate::base::oldest::Oldest;
use crate::base::prefix::Prefix;

/// All places: see the module.
#[derive(Debug)]
pub(super) struct Places {
    viewers_max: usize,
    addresses: Arc<Addresses>,
    unconnected: Arc<Addresses>,
    oldest: Oldest<SessionId>,
}

/// The place of one viewer.
#[derive(Debug)]
pub(super) struct Place {
    _address: AddressPlace,
    /// Until it is connected.
    unconnected: Option<AddressPlace>,
}

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All places are taken.
    All,
    /// An address, or a site, has its share.
    Address(Prefix),
    /// It has its share of those that are not connected.
    Unconnected(Prefix),
}

impl Places {
    /// Of `viewers_max`.
    pub(super) fn new(viewers_max: usize, addresses: Arc<Addresses>) -> Self {
        let share = AddressLimit::share_of(viewers_max);
        let limit = AddressLimit { remote: UNCONNECTED_PER_ADDRESS, ..share };
        let unconnected = Arc::new(Addresses::new(limit, viewers_max));
        Self { viewers_max, addresses, unconnected, oldest: Oldest::default() }
    }

    /// Viewers that there may be.
    pub(super) fn viewers_max(&self) -> usize {
        self.viewers_max
    }

    /// A place for one more than there are.
    ///
    /// # Errors
    /// What is full.
    pub(super) fn enter(&self, from: IpAddr, count: usize) -> Result<Place, Full> {
        if count >= self.viewers_max {
            return Err(Full::All);
        }
        let address = self.addresses.enter(from).map_err(Full::Address)?;
        let unconnected = self.unconnected.enter(from).map_err(Full::Unconnected)?;
        Ok(Place { _address: address, unconnected: Some(unconnected) })
    }

    /// Somebody has taken a place; `is_waiting` says who is not connected.
    pub(super) fn note(
        &mut self,
        session: SessionId,
        from: IpAddr,
        is_waiting: impl FnMut(&SessionId) -> bool,
    ) {
        self.oldest.push(session, from, self.viewers_max, is_waiting);
    }

    /// Who makes room; `None`: all who could are connected.
    pub(super) fn oldest(
        &mut self,
        full: Full,
        is_waiting: impl FnMut(&SessionId) -> bool,
    ) -> Option<SessionId> {
        match full {
            Full::All => self.oldest.take(is_waiting),
            Full::Address(prefix) | Full::Unconnected(prefix) => {
                self.oldest.take_of(prefix, is_waiting)
            }
        }
    }
}

impl Place {
    /// The viewer is connected.
    pub(super) fn settle(&mut self) {
        self.unconnected = None;
    }
}

/// Browsers connect within a second: a few people of one office begin in the same one.
const UNCONNECTED_PER_ADDRESS: u32 = 16;
