//! The tunnels whose cookies a shard knows.
//!
//! ```text
//!  GET --enter--> half open --a POST finds it--> open --leave--> gone
//!                   `-- makes room for the next one ------------^
//! ```
//! Half-open tunnels end with their GET's connection, which has a time limit. Bounds: `tunnels_max`
//! rows, of which an address may have its share; one more is refused, because a tunnel that is open
//! is somebody's session. `half_open_max` may be half open; one more ends the oldest, of its
//! address where that has its share of these.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Cookie;
use crate::base::addresses::{AddressPlace, Addresses};
use crate::base::oldest::Oldest;
use crate::base::prefix::Prefix;
use crate::poll::consumer::TunnelRefusal;
use crate::session::command::ReplyTo;
use crate::session::shares::Shares;

/// Tunnels by their cookie.
#[derive(Debug, Default)]
pub struct Tunnels {
    rows: HashMap<Cookie, Row>,
    half_open: usize,
    tunnels_max: usize,
    half_open_max: usize,
    of_address: Arc<Addresses>,
    half_open_of_address: Arc<Addresses>,
    /// Half-open tunnels.
    oldest: Oldest<(Cookie, ReplyTo)>,
}

#[derive(Debug)]
struct Row {
    ip: IpAddr,
    down: ReplyTo,
    /// `None`: it is open.
    half_open: Option<AddressPlace>,
    _place: AddressPlace,
}

impl Tunnels {
    /// A table without rows.
    #[must_use]
    pub fn new(tunnels_max: usize, half_open_max: usize, shares: &Shares) -> Self {
        let of_address = Arc::clone(&shares.tunnels);
        let half_open_of_address = Arc::clone(&shares.half_open_tunnels);
        Self { tunnels_max, half_open_max, of_address, half_open_of_address, ..Self::default() }
    }

    /// Number of tunnels.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Number of tunnels whose second connection has not come.
    #[must_use]
    pub fn half_open_count(&self) -> usize {
        self.half_open
    }

    /// Enters the tunnel of a GET. Connections of GETs whose tunnels have made room are added to
    /// `ended`: they are to be closed.
    ///
    /// # Errors
    /// `Off`, `Taken`, `Full`.
    pub fn enter(
        &mut self,
        cookie: Cookie,
        ip: IpAddr,
        down: ReplyTo,
        ended: &mut Vec<ReplyTo>,
    ) -> Result<(), TunnelRefusal> {
        if self.tunnels_max == 0 {
            return Err(TunnelRefusal::Off);
        }
        if self.rows.contains_key(&cookie) {
            return Err(TunnelRefusal::Taken);
        }
        let (half_open, place) = self.places(ip, ended).ok_or(TunnelRefusal::Full)?;
        if self.half_open >= self.half_open_max {
            ended.extend(self.end_oldest(None));
        }
        if self.rows.len() >= self.tunnels_max {
            return Err(TunnelRefusal::Full);
        }
        let Self { rows, oldest, half_open_max, .. } = self;
        let key = (cookie.clone(), down);
        rows.insert(cookie, Row { ip, down, half_open: Some(half_open), _place: place });
        oldest.push(key, ip, *half_open_max, |key| is_half_open(rows, key));
        self.half_open += 1;
        Ok(())
    }

    /// Places for a tunnel of an address, among its half-open ones and among all of its. Where its
    /// share of half-open ones is used up, the oldest makes room; none does when that would not
    /// help.
    fn places(
        &mut self,
        ip: IpAddr,
        ended: &mut Vec<ReplyTo>,
    ) -> Option<(AddressPlace, AddressPlace)> {
        let places = (self.half_open_of_address.enter(ip), self.of_address.enter(ip));
        let full = match places {
            (Ok(half_open), Ok(place)) => return Some((half_open, place)),
            (Ok(_), Err(_)) => return None,
            (Err(full), Ok(place)) => {
                ended.extend(self.end_oldest(Some(full)));
                return Some((self.half_open_of_address.enter(ip).ok()?, place));
            }
            // One of both: the oldest of a site may be another network's.
            (Err(Prefix::Site(_)), Err(full)) | (Err(full), Err(_)) => full,
        };
        ended.extend(self.end_oldest(Some(full)));
        let place = self.of_address.enter(ip).ok()?;
        Some((self.half_open_of_address.enter(ip).ok()?, place))
    }

    /// Removes the oldest half-open tunnel, of a prefix or of all.
    fn end_oldest(&mut self, of: Option<Prefix>) -> Option<ReplyTo> {
        let Self { rows, oldest, .. } = self;
        let is_one = |key: &(Cookie, ReplyTo)| is_half_open(rows, key);
        let (cookie, down) = match of {
            Some(prefix) => oldest.take_of(prefix, is_one),
            None => oldest.take(is_one),
        }?;
        self.leave(&cookie, down);
        Some(down)
    }

    /// The connection of the GET, for a POST of this address.
    ///
    /// # Errors
    /// `Unknown`, also when the cookie is another address's: a stranger learns nothing.
    pub fn find(&mut self, cookie: &str, ip: IpAddr) -> Result<ReplyTo, TunnelRefusal> {
        let row = self.rows.get_mut(cookie).filter(|row| row.ip == ip);
        let row = row.ok_or(TunnelRefusal::Unknown)?;
        if row.half_open.take().is_some() {
            self.half_open -= 1;
        }
        Ok(row.down)
    }

    /// The GET's connection is gone.
    pub fn leave(&mut self, cookie: &str, down: ReplyTo) {
        if self.rows.get(cookie).is_some_and(|row| row.down == down)
            && let Some(row) = self.rows.remove(cookie)
            && row.half_open.is_some()
        {
            self.half_open -= 1;
        }
    }
}

fn is_half_open(rows: &HashMap<Cookie, Row>, (cookie, down): &(Cookie, ReplyTo)) -> bool {
    rows.get(cookie).is_some_and(|row| row.half_open.is_some() && row.down == *down)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;
    use crate::config::limits::LimitsConfig;
    use crate::poll::poll_table::EntryKey;

    fn place(index: u32) -> ReplyTo {
        ReplyTo { shard: ShardId(1), entry: EntryKey { index, generation: 1 } }
    }

    fn cookie(n: u32) -> Cookie {
        format!("cookie-{n}").into_boxed_str()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Limits without shares of an address.
    fn tunnels(tunnels_max: usize, half_open_max: usize) -> Tunnels {
        Tunnels::new(tunnels_max, half_open_max, &Shares::default())
    }

    /// Enters a tunnel; returns the connections that are to be closed.
    fn enter(tunnels: &mut Tunnels, n: u32, from: &str) -> Result<Vec<ReplyTo>, TunnelRefusal> {
        let mut ended = Vec::new();
        tunnels.enter(cookie(n), ip(from), place(n), &mut ended).map(|()| ended)
    }

    #[test]
    fn tunnel_is_found_by_its_cookie_from_its_address_alone() {
        let mut tunnels = tunnels(2, 8);
        let [own, other] = ["10.0.0.1", "10.0.0.2"].map(ip);
        let mut enter = |down| tunnels.enter(cookie(1), own, down, &mut Vec::new());
        assert_eq!(enter(place(1)), Ok(()));
        assert_eq!(enter(place(2)), Err(TunnelRefusal::Taken));
        assert_eq!(tunnels.find("cookie-1", other), Err(TunnelRefusal::Unknown));
        assert_eq!(tunnels.find("cookie-2", own), Err(TunnelRefusal::Unknown));
        assert_eq!(tunnels.find("cookie-1", own), Ok(place(1)));
        assert_eq!(tunnels.find("cookie-1", own), Ok(place(1)), "another POST goes on");
        tunnels.leave("cookie-1", place(2));
        assert_eq!(tunnels.count(), 1, "that connection is not the tunnel's");
        tunnels.leave("cookie-1", place(1));
        assert_eq!(tunnels.find("cookie-1", own), Err(TunnelRefusal::Unknown));
    }

    #[test]
    fn oldest_half_open_tunnel_makes_room_and_one_that_is_open_does_not() {
        let from = "10.0.0.1";
        let mut tunnels = tunnels(9, 8);
        for n in 0..8 {
            assert_eq!(enter(&mut tunnels, n, from), Ok(vec![]));
        }
        tunnels.find("cookie-0", ip(from)).unwrap();
        assert_eq!(enter(&mut tunnels, 8, from), Ok(vec![]));
        assert_eq!((tunnels.count(), tunnels.half_open_count()), (9, 8));
        assert_eq!(enter(&mut tunnels, 9, from), Ok(vec![place(1)]), "0 is open");
        assert_eq!(tunnels.find("cookie-1", ip(from)), Err(TunnelRefusal::Unknown));
        tunnels.leave("cookie-1", place(1));
        assert_eq!((tunnels.count(), tunnels.half_open_count()), (9, 8), "it has left already");
        for n in 2..10 {
            tunnels.find(&cookie(n), ip(from)).unwrap();
        }
        assert_eq!(enter(&mut tunnels, 10, from), Err(TunnelRefusal::Full), "all are open");
        let mut none = Tunnels::new(0, 8, &Shares::default());
        assert_eq!(enter(&mut none, 0, from), Err(TunnelRefusal::Off));
    }

    /// An IPv6 site whose networks share its half-open tunnels, and one network that has its share
    /// of open ones.
    #[test]
    fn tunnel_that_is_refused_has_ended_no_other_one() {
        let limits = LimitsConfig { half_open_tunnels_max: 256, ..LimitsConfig::default() };
        let mut tunnels = Tunnels::new(4_096, 256, &Shares::of(&limits, 4_096));
        let mut open = 0;
        while enter(&mut tunnels, open, "2001:db8:0:1::1").is_ok() {
            tunnels.find(&cookie(open), ip("2001:db8:0:1::1")).unwrap();
            open += 1;
            assert!(open < 4_096, "a network has a share");
        }
        let mut half_open = 10_000;
        let mut ended = Vec::new();
        while ended.is_empty() {
            let network = format!("2001:db8:0:{:x}::1", half_open % 50 + 2);
            ended = enter(&mut tunnels, half_open, &network).unwrap();
            half_open += 1;
            assert!(half_open < 20_000, "a site has a share");
        }
        let before = tunnels.half_open_count();
        let mut ended = Vec::new();
        let one_more = cookie(9_999);
        let refused = tunnels.enter(one_more, ip("2001:db8:0:1::1"), place(9_999), &mut ended);
        assert_eq!((refused, ended), (Err(TunnelRefusal::Full), vec![]));
        assert_eq!(tunnels.half_open_count(), before);
    }

    #[test]
    fn address_has_its_share_of_tunnels_and_ends_none_of_others() {
        let limits = LimitsConfig { half_open_tunnels_max: 256, ..LimitsConfig::default() };
        let mut tunnels = Tunnels::new(1_024, 256, &Shares::of(&limits, 1_024));
        enter(&mut tunnels, 0, "10.0.0.1").unwrap();
        for n in 1..1_000 {
            let ended = enter(&mut tunnels, n, "10.0.0.2").unwrap();
            let expected = if n <= 64 { vec![] } else { vec![place(n - 64)] };
            assert_eq!(ended, expected, "its own oldest");
        }
        assert_eq!(tunnels.half_open_count(), 65);
        tunnels.find("cookie-0", ip("10.0.0.1")).unwrap();
        // Open ones: 192 more than the 64 that are open after the first round.
        let mut open = 0;
        for n in 1_000..2_000 {
            if enter(&mut tunnels, n, "10.0.0.3").is_ok() {
                tunnels.find(&cookie(n), ip("10.0.0.3")).unwrap();
                open += 1;
            }
        }
        assert_eq!(open, 256, "a quarter of the rows");
        enter(&mut tunnels, 2_000, "10.0.0.1").unwrap();
    }
}
