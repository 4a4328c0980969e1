//! Remembers where segmentation offload does not work.
//!
//! A route refuses a run with `EMSGSIZE` (segment larger than its MTU), `EIO` (device without
//! checksum offload) or `EINVAL`; single packets still pass there (DESIGN section 6.9).
//!
//! Bound: `ROUTES_MAX` destinations; when more refuse, their sockets do without altogether.

use std::collections::HashSet;
use std::net::IpAddr;

use super::config::GsoMode;

#[derive(Debug)]
pub(super) struct GsoRoutes {
    mode: GsoMode,
    refused: HashSet<(u32, IpAddr)>,
    sockets_off: HashSet<u32>,
}

impl GsoRoutes {
    pub(super) fn new(mode: GsoMode) -> Self {
        Self { mode, refused: HashSet::new(), sockets_off: HashSet::new() }
    }

    pub(super) fn mode(&self) -> GsoMode {
        self.mode
    }

    /// May a run from this file to `to` hold more than one packet?
    pub(super) fn is_allowed(&self, file_index: u32, to: IpAddr) -> bool {
        if self.mode == GsoMode::Off {
            return false;
        }
        // The usual case first: nothing was ever refused, nothing is hashed.
        (self.refused.is_empty() || !self.refused.contains(&(file_index, to.to_canonical())))
            && (self.sockets_off.is_empty() || !self.sockets_off.contains(&file_index))
    }

    /// Handles the failure of a run of several packets. True: the run failed for being one, it is
    /// remembered, and single packets may pass.
    pub(super) fn handle_failure(&mut self, file_index: u32, to: IpAddr, errno: i32) -> bool {
        if self.mode != GsoMode::Auto || !matches!(errno, libc::EMSGSIZE | libc::EIO | libc::EINVAL)
        {
            return false;
        }
        if self.refused.len() < ROUTES_MAX {
            self.refused.insert((file_index, to.to_canonical()));
        } else {
            self.sockets_off.insert(file_index);
        }
        true
    }

    /// The file is closed; its index will name another one.
    pub(super) fn forget(&mut self, file_index: u32) {
        if !self.refused.is_empty() {
            self.refused.retain(|(index, _)| *index != file_index);
            self.sockets_off.remove(&file_index);
        }
    }
}

/// A tunnel's clients fit; a network where everything refuses is better known by its socket.
const ROUTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_route_stays_refused_until_its_socket_closes() {
        let mut routes = GsoRoutes::new(GsoMode::Auto);
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert!(routes.is_allowed(1, v4));
        assert!(!routes.handle_failure(1, v4, libc::EAGAIN));
        assert!(routes.is_allowed(1, v4));
        assert!(routes.handle_failure(1, v4, libc::EMSGSIZE));
        assert!(!routes.is_allowed(1, v4));
        assert!(!routes.is_allowed(1, mapped), "the same route on a dual-stack socket");
        assert!(routes.is_allowed(2, v4), "another socket");
        routes.forget(1);
        assert!(routes.is_allowed(1, v4));
    }

    #[test]
    fn socket_with_too_many_refusing_routes_does_without() {
        let mut routes = GsoRoutes::new(GsoMode::Auto);
        for host in 0..=u32::try_from(ROUTES_MAX).unwrap() {
            assert!(routes.handle_failure(3, IpAddr::V4(host.into()), libc::EIO));
        }
        assert!(!routes.is_allowed(3, "203.0.113.9".parse().unwrap()));
        assert_eq!(routes.refused.len(), ROUTES_MAX);
    }

    #[test]
    fn mode_overrules_what_is_learnt() {
        let to: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(!GsoRoutes::new(GsoMode::Off).is_allowed(0, to));
        let mut on = GsoRoutes::new(GsoMode::On);
        assert!(!on.handle_failure(0, to, libc::EMSGSIZE));
        assert!(on.is_allowed(0, to));
    }
}
