//! Places of viewers: how many there may be, of one address, and of those who have not come yet.
//!
//! ```text
//!  offer --make_room--> Room: who has not come, and makes room
//!              `------> Full: all who could have come already, or have just begun to
//!  ended --enter------> Place                        connected: `Place::settle`
//! ```
//! An offer costs a stranger one request, a connection a browser. So who is not connected keeps
//! nobody out: an address that has its share of those, or of all viewers, loses the oldest of its
//! own that has not come; when all places are taken, the oldest of all that has not. Browsers need
//! a moment to connect, and many begin in the same one when a path begins: nobody gives way
//! within `FIRST`, and a newcomer asks again.
//! Invariant: who is refused ends nobody. Bounds: `viewers_max`; the shares of `Addresses`; of
//! those who are not connected a quarter of what an address may have, `UNCONNECTED_MIN` at least,
//! and three quarters of all of this host and of one site.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Who makes room for one viewer more.
pub(super) type Room = Vec<SessionId>;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken by viewers who are connected.
    All,
    /// Those of an address, or of a site, are.
    Address,
    /// Some have just begun to connect.
    Young,
}

/// A viewer who is not connected: where it is, and since when.
pub(super) type Waiting = (IpAddr, Instant);

impl Places {
    /// Of `viewers_max`.
    pub(super) fn new(viewers_max: usize, addresses: Arc<Addresses>) -> Self {
        let share = AddressLimit::share_of(viewers_max);
        let remote = (addresses.limit().remote / 4).max(UNCONNECTED_MIN);
        let unconnected = Arc::new(Addresses::new(AddressLimit { remote, ..share }, viewers_max));
        Self { viewers_max, addresses, unconnected, oldest: Oldest::default() }
    }

    /// Viewers that there may be.
    pub(super) fn viewers_max(&self) -> usize {
        self.viewers_max
    }

    /// Finds who makes room for one more than `count`. `waiting` tells of a viewer who is not
    /// connected.
    ///
    /// # Errors
    /// Why nobody does.
    pub(super) fn make_room(
        &mut self,
        from: IpAddr,
        count: usize,
        now: Instant,
        waiting: impl Fn(&SessionId) -> Option<Waiting>,
    ) -> Result<Room, Full> {
        let mut room = Room::new();
        let of_address = self.addresses.enter(from).err();
        let of_unconnected = self.unconnected.enter(from).err();
        let is_one = |session: &SessionId| waiting(session).is_some();
        let gives_way = |found: Option<SessionId>, full: Full| {
            let session = found.ok_or(full)?;
            let is_young = |(_, since)| now < since + FIRST;
            if waiting(&session).is_none_or(is_young) { Err(Full::Young) } else { Ok(session) }
        };
        for prefix in [of_address, of_unconnected].into_iter().flatten() {
            let is_of = |session: &SessionId| {
                waiting(session).is_some_and(|(ip, _)| {
                    Prefix::of(ip) == prefix || Prefix::site_of(ip) == Some(prefix)
                })
            };
            if !room.iter().any(is_of) {
                let found = self.oldest.find_of(prefix, is_one);
                room.push(gives_way(found, Full::Address)?);
            }
        }
        if room.is_empty() && count >= self.viewers_max {
            room.push(gives_way(self.oldest.find(is_one), Full::All)?);
        }
        Ok(room)
    }

    /// A place, once those who make room are gone; `None`: there is none.
    pub(super) fn enter(&self, from: IpAddr) -> Option<Place> {
        let address = self.addresses.enter(from).ok()?;
        let unconnected = self.unconnected.enter(from).ok()?;
        Some(Place { _address: address, unconnected: Some(unconnected) })
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
}

impl Place {
    /// The viewer is connected.
    pub(super) fn settle(&mut self) {
        self.unconnected = None;
    }
}

/// For ICE and DTLS, which take browsers a second at most.
pub(super) const FIRST: Duration = Duration::from_secs(2);
/// A few people of one office begin in the same second.
const UNCONNECTED_MIN: u32 = 16;
