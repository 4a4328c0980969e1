//! Remembers the routes on which segmentation offload does not work.
//!
//! A route refuses a run with `EMSGSIZE` (segment larger than its MTU), `EIO` (device without
//! checksum offload) or `EINVAL`; single packets still pass there (DESIGN section 6.9).

use std::net::IpAddr;

use super::routes::Routes;
use crate::base::mode::Mode;

#[derive(Debug)]
pub(super) struct GsoRoutes {
    mode: Mode,
    routes: Routes,
}

impl GsoRoutes {
    pub(super) fn new(mode: Mode) -> Self {
        Self { mode, routes: Routes::default() }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether a run from this file to `to` may have more than one packet.
    pub(super) fn is_allowed(&self, file_index: u32, to: IpAddr) -> bool {
        self.mode != Mode::Off && self.routes.is_open(file_index, to)
    }

    /// Handles the failure of a run of several packets. True: the route refuses segmentation, which
    /// is remembered, and single packets may pass.
    pub(super) fn handle_failure(&mut self, file_index: u32, to: IpAddr, errno: i32) -> bool {
        let is_refusal = matches!(errno, libc::EMSGSIZE | libc::EIO | libc::EINVAL);
        let is_learnt = self.mode == Mode::Auto && is_refusal;
        if is_learnt {
            self.routes.refuse(file_index, to);
        }
        is_learnt
    }

    /// Forgets a closed file, whose index will name another one.
    pub(super) fn forget(&mut self, file_index: u32) {
        self.routes.forget(file_index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_segmentation_is_learnt_and_until_the_socket_closes() {
        let mut routes = GsoRoutes::new(Mode::Auto);
        let to: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(!routes.handle_failure(1, to, libc::EAGAIN));
        assert!(routes.is_allowed(1, to));
        assert!(routes.handle_failure(1, to, libc::EMSGSIZE));
        assert!(!routes.is_allowed(1, to));
        routes.forget(1);
        assert!(routes.is_allowed(1, to));
    }

    #[test]
    fn mode_overrules_what_is_learnt() {
        let to: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(!GsoRoutes::new(Mode::Off).is_allowed(0, to));
        let mut on = GsoRoutes::new(Mode::On);
        assert!(!on.handle_failure(0, to, libc::EMSGSIZE));
        assert!(on.is_allowed(0, to));
    }
}
