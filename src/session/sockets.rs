//! RTP and RTCP sockets shared by many clients, told apart by the client's address.
//!
//! reference 001: each client may take part in only one connection through a given server socket,
//! so that client and server address together are unique. A client whose address is in use on a
//! pair is placed on another pair; when none is left, a new pair is opened.
//!
//! Where another process has had another number of shards, sessions are here whose ids name other
//! shards. Each such shard has pairs of its own, so that a pair and its sessions have one home
//! among any number of shards, when the next process takes over.
//!
//! Invariants: on a pair, an RTCP address names one stream, and an RTP address is used once; all
//! sessions of a pair have ids of one shard.
//! Bound: `PAIRS_MAX` pairs on each shard.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::base::ids::{SessionId, ShardId};
use crate::session::directory::SessionRef;

/// The shared pairs of one shard: see the module. The shard owns the sockets of each pair.
#[derive(Debug, Default)]
pub struct SharedSockets {
    /// Pairs by index; the next pair takes the index of a closed one.
    pairs: Vec<Option<Pair>>,
}

#[derive(Debug)]
struct Pair {
    rtp_port: u16,
    /// The pair sends to multicast groups, and is not for clients.
    is_for_groups: bool,
    /// Its home and its place there, for a pair of another shard by which streams are sent.
    home: Option<(ShardId, u16)>,
    /// The shard in the ids of its sessions, where that is not its home: another process has had
    /// as many shards.
    ids: Option<ShardId>,
    rtp_in_use: HashSet<SocketAddr>,
    by_rtcp: HashMap<SocketAddr, AddressOwner>,
}

/// Whose an RTCP address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressOwner {
    /// A stream of a session on this shard.
    Here(SessionRef, u8),
    /// A session that is on another shard, or on its way.
    Away(SessionId),
}

impl SharedSockets {
    /// Adds a pair that the shard has opened: RTP at `rtp_port`, RTCP one above. `None` when the
    /// shard has `PAIRS_MAX` pairs.
    pub fn add_pair(&mut self, rtp_port: u16) -> Option<u16> {
        self.add_pair_for(rtp_port, false)
    }

    /// As `add_pair`; a pair for multicast groups is never given to clients.
    pub fn add_pair_for(&mut self, rtp_port: u16, is_for_groups: bool) -> Option<u16> {
        self.add(rtp_port, is_for_groups, None)
    }

    /// As `add_pair`, for sessions whose ids name another shard than this one. They keep pairs of
    /// their own, so that a pair stays with all its sessions for whatever number of shards another
    /// process has.
    pub fn add_pair_of(&mut self, rtp_port: u16, ids: Option<ShardId>) -> Option<u16> {
        let place = self.add(rtp_port, false, None)?;
        if let Some(pair) = self.pair_mut(place) {
            pair.ids = ids;
        }
        Some(place)
    }

    /// As `add_pair`; a pair of another shard, by which streams of its sessions are sent.
    pub fn add_foreign_pair(&mut self, rtp_port: u16, home: (ShardId, u16)) -> Option<u16> {
        self.add(rtp_port, false, Some(home))
    }

    fn add(
        &mut self,
        rtp_port: u16,
        is_for_groups: bool,
        home: Option<(ShardId, u16)>,
    ) -> Option<u16> {
        let pair = self.next_place()?;
        let (rtp_in_use, by_rtcp) = (HashSet::new(), HashMap::new());
        let opened = Pair { rtp_port, is_for_groups, home, ids: None, rtp_in_use, by_rtcp };
        match self.pairs.get_mut(usize::from(pair)) {
            Some(place) => *place = Some(opened),
            None => self.pairs.push(Some(opened)),
        }
        Some(pair)
    }

    /// Index of the next pair; `None` when the shard has `PAIRS_MAX` pairs.
    #[must_use]
    pub fn next_place(&self) -> Option<u16> {
        let free = self.pairs.iter().position(Option::is_none).unwrap_or(self.pairs.len());
        u16::try_from(free).ok().filter(|place| *place < PAIRS_MAX)
    }

    /// Removes an unused pair. False when the pair is in use again, or is the first one, which
    /// always stays.
    pub fn remove_unused_pair(&mut self, pair: u16) -> bool {
        let place = self.pairs.get_mut(usize::from(pair)).filter(|_| pair != 0);
        let is_unused = |pair: &Pair| pair.rtp_in_use.is_empty() && pair.by_rtcp.is_empty();
        match place {
            Some(place) if place.as_ref().is_some_and(is_unused) => {
                *place = None;
                true
            }
            _ => false,
        }
    }

    /// Indices of the pairs that clients may use.
    #[must_use]
    pub fn places(&self) -> Vec<u16> {
        self.places_where(|pair| !pair.is_for_groups && pair.home.is_none())
    }

    /// Of these, those for sessions whose ids name another shard; `None`: this one.
    #[must_use]
    pub fn places_for(&self, ids: Option<ShardId>) -> Vec<u16> {
        self.places_where(|pair| !pair.is_for_groups && pair.home.is_none() && pair.ids == ids)
    }

    fn places_where(&self, is_it: impl Fn(&Pair) -> bool) -> Vec<u16> {
        let open = (0..).zip(&self.pairs);
        let open = open.filter(|(_, pair)| pair.as_ref().is_some_and(&is_it));
        open.map(|(place, _)| place).collect()
    }

    /// The shard in the ids of the sessions of a pair, which may only have such; `own` is this one.
    #[must_use]
    pub fn ids_of(&self, pair: u16, own: ShardId) -> Option<ShardId> {
        let open = self.pairs.get(usize::from(pair))?.as_ref()?;
        Some(open.ids.unwrap_or(own))
    }

    /// Indices of all pairs but that for groups.
    #[must_use]
    pub fn all_places(&self) -> Vec<u16> {
        self.places_where(|pair| !pair.is_for_groups)
    }

    /// The pair that sends to multicast groups.
    #[must_use]
    pub fn group_pair(&self) -> Option<u16> {
        let is_of_groups =
            |pair: &Option<Pair>| pair.as_ref().is_some_and(|pair| pair.is_for_groups);
        self.pairs.iter().position(is_of_groups).and_then(|place| u16::try_from(place).ok())
    }

    /// Registers a stream to a group on the pair for multicast groups, until `release`.
    pub fn place_group(&mut self, rtp: SocketAddr, rtcp: SocketAddr, owner: (SessionRef, u8)) {
        let pair = self.group_pair().and_then(|place| self.pair_mut(place));
        if let Some(pair) = pair {
            pair.rtp_in_use.insert(rtp);
            pair.by_rtcp.insert(rtcp, AddressOwner::Here(owner.0, owner.1));
        }
    }

    /// The home of a pair, and its place there; `own` is this shard.
    #[must_use]
    pub fn home_of(&self, pair: u16, own: ShardId) -> Option<(ShardId, u16)> {
        let open = self.pairs.get(usize::from(pair))?.as_ref()?;
        Some(open.home.unwrap_or((own, pair)))
    }

    /// The place here of another shard's pair, if it is open.
    #[must_use]
    pub fn foreign(&self, home: (ShardId, u16)) -> Option<u16> {
        let is_it = |pair: &Option<Pair>| pair.as_ref().is_some_and(|p| p.home == Some(home));
        self.pairs.iter().position(is_it).and_then(|place| u16::try_from(place).ok())
    }

    /// The session of an address leaves this shard, which stays its home: the address stays in use.
    pub fn send_away(&mut self, pair: u16, rtcp: SocketAddr, id: SessionId) {
        if let Some(owner) = self.pair_mut(pair).and_then(|pair| pair.by_rtcp.get_mut(&rtcp)) {
            *owner = AddressOwner::Away(id);
        }
    }

    /// Registers addresses that no other stream of the pair has: their session has come to this
    /// shard.
    pub fn enter(
        &mut self,
        pair: u16,
        rtp: SocketAddr,
        rtcp: SocketAddr,
        (session, stream): (SessionRef, u8),
    ) {
        if let Some(pair) = self.pair_mut(pair) {
            pair.rtp_in_use.insert(rtp);
            pair.by_rtcp.insert(rtcp, AddressOwner::Here(session, stream));
        }
    }

    /// The session that an RTCP datagram from `from` belongs to, if it is not on this shard.
    #[must_use]
    pub fn find_away(&self, pair: u16, from: SocketAddr) -> Option<SessionId> {
        match self.pairs.get(usize::from(pair))?.as_ref()?.by_rtcp.get(&from)? {
            AddressOwner::Away(id) => Some(*id),
            AddressOwner::Here(..) => None,
        }
    }

    /// Whether another pair may be opened.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.next_place().is_some()
    }

    /// Registers both client addresses on the first pair where they are free.
    pub fn place(
        &mut self,
        rtp: SocketAddr,
        rtcp: SocketAddr,
        owner: (SessionRef, u8),
    ) -> Option<u16> {
        self.place_for(None, rtp, rtcp, owner)
    }

    /// As `place`, for a session whose id names another shard; `None`: this one.
    pub fn place_for(
        &mut self,
        ids: Option<ShardId>,
        rtp: SocketAddr,
        rtcp: SocketAddr,
        owner: (SessionRef, u8),
    ) -> Option<u16> {
        let is_free = |pair: &Pair| {
            !pair.is_for_groups
                && pair.home.is_none()
                && pair.ids == ids
                && !pair.rtp_in_use.contains(&rtp)
                && !pair.by_rtcp.contains_key(&rtcp)
        };
        let index = self.pairs.iter().position(|pair| pair.as_ref().is_some_and(is_free))?;
        let pair = self.pairs.get_mut(index)?.as_mut()?;
        pair.rtp_in_use.insert(rtp);
        pair.by_rtcp.insert(rtcp, AddressOwner::Here(owner.0, owner.1));
        u16::try_from(index).ok()
    }

    /// Frees what `place` took. True when a further pair may be closed now (`remove_unused_pair`).
    pub fn release(&mut self, pair: u16, rtp: SocketAddr, rtcp: SocketAddr) -> bool {
        let Some(open) = self.pair_mut(pair) else { return false };
        open.rtp_in_use.remove(&rtp);
        open.by_rtcp.remove(&rtcp);
        pair != 0 && open.by_rtcp.is_empty()
    }

    /// Registers the new index of a stream in its session.
    pub fn rename(&mut self, pair: u16, rtcp: SocketAddr, owner: (SessionRef, u8)) {
        if let Some(name) = self.pair_mut(pair).and_then(|pair| pair.by_rtcp.get_mut(&rtcp)) {
            *name = AddressOwner::Here(owner.0, owner.1);
        }
    }

    /// The stream that an RTCP datagram from `from` belongs to.
    #[must_use]
    pub fn find(&self, pair: u16, from: SocketAddr) -> Option<(SessionRef, u8)> {
        match self.pairs.get(usize::from(pair))?.as_ref()?.by_rtcp.get(&from)? {
            AddressOwner::Here(session, stream) => Some((*session, *stream)),
            AddressOwner::Away(_) => None,
        }
    }

    /// Server ports of a pair, RTP and RTCP.
    #[must_use]
    pub fn ports(&self, pair: u16) -> Option<(u16, u16)> {
        let rtp_port = self.pairs.get(usize::from(pair))?.as_ref()?.rtp_port;
        Some((rtp_port, rtp_port.checked_add(1)?))
    }

    /// Number of client addresses in use, over all pairs.
    #[must_use]
    pub fn tuple_count(&self) -> usize {
        self.pairs.iter().flatten().map(|pair| pair.by_rtcp.len()).sum()
    }

    fn pair_mut(&mut self, pair: u16) -> Option<&mut Pair> {
        self.pairs.get_mut(usize::from(pair))?.as_mut()
    }
}

/// Limit of pairs. A second use of one client address comes from players behind one NAT port or
/// from tests; a stranger who opens sessions with the same ports must not use up the host's ports.
const PAIRS_MAX: u16 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn same_client_tuple_twice_on_one_pair_goes_to_a_second_pair() {
        let mut sockets = SharedSockets::default();
        sockets.add_pair(8_000);
        let (one, two) = ((SessionRef::Reader(1), 0), (SessionRef::Reader(2), 0));
        assert_eq!(sockets.place(addr(5_000), addr(5_001), one), Some(0));
        assert_eq!(sockets.place(addr(5_000), addr(5_001), two), None);
        sockets.add_pair(8_002);
        assert_eq!(sockets.place(addr(5_000), addr(5_001), two), Some(1));
        assert_eq!(sockets.find(0, addr(5_001)), Some(one));
        assert_eq!(sockets.find(1, addr(5_001)), Some(two));
        assert_eq!(sockets.ports(1), Some((8_002, 8_003)));
    }

    #[test]
    fn further_pair_is_closed_when_its_last_client_goes_and_its_place_is_taken_again() {
        let mut sockets = SharedSockets::default();
        sockets.add_pair(8_000);
        sockets.add_pair(8_002);
        let (one, two) = ((SessionRef::Reader(1), 0), (SessionRef::Reader(2), 0));
        sockets.place(addr(5_000), addr(5_001), one);
        sockets.place(addr(5_000), addr(5_001), two);
        assert!(!sockets.remove_unused_pair(1), "in use");
        assert!(sockets.release(1, addr(5_000), addr(5_001)));
        assert!(sockets.remove_unused_pair(1));
        assert_eq!(sockets.ports(1), None);
        assert!(!sockets.release(0, addr(5_000), addr(5_001)), "the first pair stays");
        assert!(!sockets.remove_unused_pair(0));
        assert_eq!(sockets.add_pair(8_004), Some(1));
    }

    #[test]
    fn pair_of_multicast_groups_is_not_given_to_clients_and_closes_with_the_last_group() {
        let mut sockets = SharedSockets::default();
        sockets.add_pair(8_000);
        let owner = (SessionRef::Reader(1), 0);
        sockets.place(addr(5_000), addr(5_001), owner);
        assert_eq!((sockets.group_pair(), sockets.add_pair_for(9_000, true)), (None, Some(1)));
        assert_eq!((sockets.group_pair(), sockets.places()), (Some(1), vec![0]));
        assert_eq!(sockets.place(addr(5_000), addr(5_001), owner), None);
        sockets.place_group(addr(8_002), addr(8_003), owner);
        assert!(!sockets.remove_unused_pair(1));
        assert!(sockets.release(1, addr(8_002), addr(8_003)) && sockets.remove_unused_pair(1));
        assert_eq!(sockets.group_pair(), None);
    }

    #[test]
    fn pair_for_the_ids_of_another_shard_is_given_to_its_sessions_alone() {
        let mut sockets = SharedSockets::default();
        let (own, other) = (ShardId(0), ShardId(2));
        sockets.add_pair(8_000);
        assert_eq!(sockets.add_pair_of(8_004, Some(other)), Some(1));
        assert_eq!((sockets.places_for(None), sockets.places_for(Some(other))), (vec![0], vec![1]));
        assert_eq!(sockets.places(), [0, 1], "at both is received");
        assert_eq!((sockets.ids_of(0, own), sockets.ids_of(1, own)), (Some(own), Some(other)));
        let (one, two) = ((SessionRef::Reader(1), 0), (SessionRef::Reader(2), 0));
        assert_eq!(sockets.place(addr(5_000), addr(5_001), one), Some(0));
        assert_eq!(sockets.place(addr(5_000), addr(5_001), two), None, "not on the other one's");
        let placed = sockets.place_for(Some(other), addr(5_000), addr(5_001), two);
        assert_eq!(placed, Some(1));
        assert!(sockets.release(1, addr(5_000), addr(5_001)) && sockets.remove_unused_pair(1));
    }

    #[test]
    fn address_of_a_session_that_is_away_stays_in_use_at_home() {
        let (own, other) = (ShardId(0), ShardId(1));
        let id = SessionId::new(own, 7);
        let (mut home, mut away) = (SharedSockets::default(), SharedSockets::default());
        home.add_pair(8_000);
        away.add_pair(8_002);
        let owner = (SessionRef::Reader(1), 0);
        home.place(addr(5_000), addr(5_001), owner);
        assert_eq!(home.home_of(0, own), Some((own, 0)));
        home.send_away(0, addr(5_001), id);
        assert_eq!((home.find(0, addr(5_001)), home.find_away(0, addr(5_001))), (None, Some(id)));
        assert_eq!(home.place(addr(5_000), addr(5_001), owner), None, "it is in use");
        let pair = away.add_foreign_pair(8_000, (own, 0)).unwrap();
        assert_eq!((away.foreign((own, 0)), away.foreign((own, 1))), (Some(pair), None));
        assert_eq!(
            (away.home_of(pair, other), away.ports(pair)),
            (Some((own, 0)), Some((8_000, 8_001)))
        );
        assert_eq!(away.places(), [0], "no client is placed on it");
        away.enter(pair, addr(5_000), addr(5_001), owner);
        assert_eq!(away.find(pair, addr(5_001)), Some(owner));
        assert!(away.release(pair, addr(5_000), addr(5_001)) && away.remove_unused_pair(pair));
        assert_eq!(away.foreign((own, 0)), None);
        home.enter(0, addr(5_000), addr(5_001), owner);
        assert_eq!((home.find(0, addr(5_001)), home.tuple_count()), (Some(owner), 1));
    }

    #[test]
    fn released_tuple_is_free_and_matches_no_session() {
        let mut sockets = SharedSockets::default();
        sockets.add_pair(8_000);
        sockets.place(addr(5_000), addr(5_001), (SessionRef::Reader(1), 0));
        sockets.release(0, addr(5_000), addr(5_001));
        assert_eq!(sockets.find(0, addr(5_001)), None);
        assert_eq!(sockets.tuple_count(), 0);
        assert_eq!(sockets.place(addr(5_000), addr(5_001), (SessionRef::Reader(2), 1)), Some(0));
    }
}
