//! The tunnels whose cookies a shard knows.
//!
//! ```text
//!  GET --enter--> half open --a POST finds it--> open --leave--> gone
//! ```
//! Half-open tunnels end with their GET's connection, which has a time limit. Bounds: `tunnels_max`
//! rows, of which `half_open_max` may be half open.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Cookie;
use crate::poll::consumer::TunnelRefusal;
use crate::session::command::ReplyTo;

/// Tunnels by their cookie.
#[derive(Debug, Default)]
pub struct Tunnels {
    rows: HashMap<Cookie, Row>,
    half_open: usize,
    tunnels_max: usize,
    half_open_max: usize,
}

#[derive(Debug)]
struct Row {
    ip: IpAddr,
    down: ReplyTo,
    is_open: bool,
}

impl Tunnels {
    /// A table without rows.
    #[must_use]
    pub fn new(tunnels_max: usize, half_open_max: usize) -> Self {
        Self { tunnels_max, half_open_max, ..Self::default() }
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

    /// Enters the tunnel of a GET.
    ///
    /// # Errors
    /// `Off`, `Taken`, `Full`.
    pub fn enter(
        &mut self,
        cookie: Cookie,
        ip: IpAddr,
        down: ReplyTo,
    ) -> Result<(), TunnelRefusal> {
        if self.tunnels_max == 0 {
            return Err(TunnelRefusal::Off);
        }
        if self.rows.contains_key(&cookie) {
            return Err(TunnelRefusal::Taken);
        }
        if self.rows.len() >= self.tunnels_max || self.half_open >= self.half_open_max {
            return Err(TunnelRefusal::Full);
        }
        self.rows.insert(cookie, Row { ip, down, is_open: false });
        self.half_open += 1;
        Ok(())
    }

    /// The connection of the GET, for a POST of this address.
    ///
    /// # Errors
    /// `Unknown`, also when the cookie is another address's: a stranger learns nothing.
    pub fn find(&mut self, cookie: &str, ip: IpAddr) -> Result<ReplyTo, TunnelRefusal> {
        let row = self.rows.get_mut(cookie).filter(|row| row.ip == ip);
        let row = row.ok_or(TunnelRefusal::Unknown)?;
        if !std::mem::replace(&mut row.is_open, true) {
            self.half_open -= 1;
        }
        Ok(row.down)
    }

    /// The GET's connection is gone.
    pub fn leave(&mut self, cookie: &str, down: ReplyTo) {
        if self.rows.get(cookie).is_some_and(|row| row.down == down)
            && let Some(row) = self.rows.remove(cookie)
            && !row.is_open
        {
            self.half_open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;
    use crate::poll::poll_table::EntryKey;

    fn place(index: u32) -> ReplyTo {
        ReplyTo { shard: ShardId(1), entry: EntryKey { index, generation: 1 } }
    }

    #[test]
    fn tunnel_is_found_by_its_cookie_from_its_address_alone() {
        let mut tunnels = Tunnels::new(2, 8);
        let [own, other] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(tunnels.enter("cookie-1".into(), own, place(1)), Ok(()));
        assert_eq!(tunnels.enter("cookie-1".into(), own, place(2)), Err(TunnelRefusal::Taken));
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
    fn tunnels_and_half_open_ones_are_bounded() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let cookie = |n: usize| format!("cookie-{n}").into_boxed_str();
        let mut tunnels = Tunnels::new(usize::MAX, 8);
        for n in 0..8 {
            tunnels.enter(cookie(n), ip, place(0)).unwrap();
        }
        let more = cookie(8);
        assert_eq!(tunnels.enter(more.clone(), ip, place(0)), Err(TunnelRefusal::Full));
        tunnels.find(&cookie(0), ip).unwrap();
        tunnels.enter(more, ip, place(0)).unwrap();
        tunnels.leave(&cookie(0), place(0));
        tunnels.leave(&cookie(1), place(0));
        tunnels.enter(cookie(1), ip, place(0)).unwrap();
        assert_eq!(tunnels.enter(cookie(0), ip, place(0)), Err(TunnelRefusal::Full));
        let mut few = Tunnels::new(1, 8);
        few.enter(cookie(0), ip, place(0)).unwrap();
        few.find(&cookie(0), ip).unwrap();
        assert_eq!(few.enter(cookie(1), ip, place(0)), Err(TunnelRefusal::Full));
        assert_eq!(Tunnels::new(0, 8).enter(cookie(0), ip, place(0)), Err(TunnelRefusal::Off));
    }
}
