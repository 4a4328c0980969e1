//! Remembers the destinations of each socket for which a kind of send does not work.
//!
//! Bound: `ROUTES_MAX` destinations. When more refuse, their sockets are remembered as a whole.

use std::collections::HashSet;
use std::net::IpAddr;

/// Routes that refuse. Sockets are named by their place in the table of registered files.
#[derive(Debug, Default)]
pub(super) struct Routes {
    refusing: HashSet<(u32, IpAddr)>,
    sockets: HashSet<u32>,
}

impl Routes {
    /// Whether no refusal of the route is known.
    pub(super) fn is_open(&self, file_index: u32, to: IpAddr) -> bool {
        // The usual case first: nothing was ever refused, nothing is hashed.
        (self.refusing.is_empty() || !self.refusing.contains(&(file_index, to.to_canonical())))
            && (self.sockets.is_empty() || !self.sockets.contains(&file_index))
    }

    /// Remembers that the route refuses.
    pub(super) fn refuse(&mut self, file_index: u32, to: IpAddr) {
        if self.refusing.len() < ROUTES_MAX {
            self.refusing.insert((file_index, to.to_canonical()));
        } else {
            self.sockets.insert(file_index);
        }
    }

    /// Forgets a closed file, whose index will name another one.
    pub(super) fn forget(&mut self, file_index: u32) {
        if !self.refusing.is_empty() {
            self.refusing.retain(|(index, _)| *index != file_index);
            self.sockets.remove(&file_index);
        }
    }
}

/// Enough for the clients behind a tunnel. Where a whole network refuses, the socket is remembered.
const ROUTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_route_stays_refused_until_its_socket_closes() {
        let mut routes = Routes::default();
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert!(routes.is_open(1, v4));
        routes.refuse(1, v4);
        assert!(!routes.is_open(1, v4));
        assert!(!routes.is_open(1, mapped), "the same route on a dual-stack socket");
        assert!(routes.is_open(2, v4), "another socket");
        routes.forget(1);
        assert!(routes.is_open(1, v4));
    }

    #[test]
    fn socket_with_too_many_refusing_routes_does_without() {
        let mut routes = Routes::default();
        for host in 0..=u32::try_from(ROUTES_MAX).unwrap() {
            routes.refuse(3, IpAddr::V4(host.into()));
        }
        assert!(!routes.is_open(3, "203.0.113.9".parse().unwrap()));
        assert_eq!(routes.refusing.len(), ROUTES_MAX);
    }
}
