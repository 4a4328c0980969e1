//! Sends without a copy: the kernel reads the bytes in the program's memory.
//!
//! ```text
//! queue --> result (the send is under way) ... notice (the kernel has let go of the memory)
//!           caller is told, next send may start       slot is free
//! ```
//! Such a send costs the pinning of each page and a second completion. It pays where pieces are
//! large. Pieces of RTP packets are small unless they stand in an image or a batch (DESIGN section
//! 6.8), so `auto` looks at the shape of each send. Loopback, veth and devices without
//! scatter-gather copy after all. The notice tells, and `auto` copies on that route from then on.
//!
//! Kernels refuse such a send where its memory may not be locked or the socket does not know how.
//! The bytes are then sent with a copy, in every mode, as are all later ones of that route.
//!
//! Invariant: the memory of a send is not touched or freed before its notice.
//! Bound: `NOTICES_MAX` sends wait for their notice; further sends are copied.

use std::net::{IpAddr, Ipv4Addr};

use super::routes::Routes;
use crate::base::mode::Mode;

/// Shape of a send: its size and its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) bytes: usize,
    /// Pieces that lie in one page each.
    pub(super) fragments: usize,
}

/// Destination of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlet {
    /// Datagrams to this address.
    Datagrams(IpAddr),
    /// The peer of a connection.
    Stream,
}

/// Notices of sends without a copy, by kind: datagrams, streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ZerocopyStats {
    /// Sends that the kernel did not copy.
    pub sent: [u64; 2],
    /// Sends that the kernel copied after all.
    pub copied: [u64; 2],
    /// Sends that the kernel refused; their bytes were sent with a copy.
    pub refused: [u64; 2],
}

/// Decides which sends go without a copy, and counts their notices.
#[derive(Debug)]
pub(super) struct Zerocopy {
    mode: Mode,
    /// Routes on which the kernel copies.
    routes: Routes,
    /// Routes on which the kernel takes no such send.
    refusing: Routes,
    /// Number of sends whose notice has not come.
    awaited: u32,
    stats: ZerocopyStats,
}

impl Zerocopy {
    /// Makes the decision for a mode; always off when the kernel lacks the operation.
    pub(super) fn new(mode: Mode, is_supported: bool) -> Self {
        let mode = if is_supported { mode } else { Mode::Off };
        Self {
            mode,
            routes: Routes::default(),
            refusing: Routes::default(),
            awaited: 0,
            stats: ZerocopyStats::default(),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn stats(&self) -> ZerocopyStats {
        self.stats
    }

    #[cfg(test)]
    pub(super) fn awaited(&self) -> u32 {
        self.awaited
    }

    /// Whether to send without a copy. `shape` is called only when it may matter.
    pub(super) fn is_wanted(
        &self,
        file_index: u32,
        outlet: Outlet,
        bytes: usize,
        shape: impl FnOnce() -> Shape,
    ) -> bool {
        let may_pay = match self.mode {
            Mode::Off => false,
            Mode::On => true,
            Mode::Auto => match outlet {
                Outlet::Datagrams(_) => bytes >= AUTO_DATAGRAM_BYTES_MIN,
                Outlet::Stream => bytes >= AUTO_BYTES_MIN,
            },
        };
        let is_refused = || !self.refusing.is_open(file_index, ip(outlet));
        if !may_pay || self.awaited >= NOTICES_MAX || is_refused() {
            return false;
        }
        let Shape { bytes, fragments } = shape();
        let fits = match outlet {
            Outlet::Datagrams(_) => fragments <= DATAGRAM_FRAGMENTS_MAX,
            Outlet::Stream => true,
        };
        let pays = self.mode == Mode::On
            || bytes >= fragments.saturating_mul(AUTO_FRAGMENT_BYTES_MIN)
                && self.routes.is_open(file_index, ip(outlet));
        fits && pays
    }

    /// Counts a queued send without a copy.
    pub(super) fn start(&mut self) {
        self.awaited += 1;
    }

    /// Handles the failure of a send. True: the kernel takes no such send here, and the same bytes
    /// may pass with a copy. The file is open.
    pub(super) fn handle_failure(&mut self, file_index: u32, outlet: Outlet, errno: i32) -> bool {
        let is_refusal =
            matches!(errno, libc::EINVAL | libc::EOPNOTSUPP | libc::ENOMEM | libc::ENOBUFS);
        if is_refusal {
            self.refusing.refuse(file_index, ip(outlet));
            self.stats.refused[usize::from(outlet == Outlet::Stream)] += 1;
        }
        is_refusal
    }

    /// Counts a failed send, which gets no notice.
    pub(super) fn end_unnoticed(&mut self) {
        self.awaited -= 1;
    }

    /// Handles a notice: the kernel has released the memory of a send. `result` is that of the
    /// notice. The file may be closed by now.
    pub(super) fn end(&mut self, file_index: Option<u32>, outlet: Outlet, result: i32) {
        self.awaited -= 1;
        let was_copied = result.cast_unsigned() & COPIED != 0;
        let counts = if was_copied { &mut self.stats.copied } else { &mut self.stats.sent };
        counts[usize::from(outlet == Outlet::Stream)] += 1;
        if let Some(file_index) = file_index.filter(|_| was_copied) {
            self.routes.refuse(file_index, ip(outlet));
        }
    }

    /// Forgets a closed file, whose index will name another one.
    pub(super) fn forget(&mut self, file_index: u32) {
        self.routes.forget(file_index);
        self.refusing.forget(file_index);
    }
}

/// Stands for the peer of a connection.
fn ip(outlet: Outlet) -> IpAddr {
    match outlet {
        Outlet::Datagrams(ip) => ip,
        Outlet::Stream => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Number of pages that a piece of memory lies in.
pub(super) fn fragments(iovecs: &[libc::iovec]) -> usize {
    let pages = |iovec: &libc::iovec| {
        let offset = iovec.iov_base.addr() % PAGE_BYTES;
        (offset + iovec.iov_len).div_ceil(PAGE_BYTES)
    };
    iovecs.iter().map(pages).sum()
}

/// `IORING_SEND_ZC_REPORT_USAGE`: the notice tells whether bytes were copied.
pub(super) const REPORT_USAGE: u16 = 8;
/// `IORING_NOTIF_USAGE_ZC_COPIED`: bytes were copied.
const COPIED: u32 = 1 << 31;

/// Size of the smallest page.
const PAGE_BYTES: usize = 4_096;
/// `MAX_SKB_FRAGS`: a run of datagrams is one packet to the kernel until it is cut.
const DATAGRAM_FRAGMENTS_MAX: usize = 17;
/// msg_zerocopy.rst finds gains from about 10 KB on.
const AUTO_BYTES_MIN: usize = 16 << 10;
/// A run in one piece, out of an image or a batch: at 7.4 KB a send on average both ways cost the
/// same (`scripts/card.sh`).
const AUTO_DATAGRAM_BYTES_MIN: usize = 8 << 10;
/// Below half a page, pinning it and describing it to the device costs more than the copy.
const AUTO_FRAGMENT_BYTES_MIN: usize = 2_048;
/// Memory that may stay with the kernel: a peer that acknowledges nothing holds its sends' slots.
const NOTICES_MAX: u32 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Shape = Shape { bytes: 64 << 10, fragments: 17 };
    const GATHERED: Shape = Shape { bytes: 64 << 10, fragments: 94 };
    const NEAR: Outlet = Outlet::Datagrams(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn wants(zerocopy: &Zerocopy, outlet: Outlet, shape: Shape) -> bool {
        zerocopy.is_wanted(1, outlet, shape.bytes, || shape)
    }

    #[test]
    fn auto_takes_large_pieces_only() {
        let auto = Zerocopy::new(Mode::Auto, true);
        assert!(wants(&auto, Outlet::Stream, LARGE) && wants(&auto, NEAR, LARGE));
        assert!(!wants(&auto, Outlet::Stream, GATHERED));
        assert!(!wants(&auto, Outlet::Stream, Shape { bytes: 4_096, fragments: 1 }));
        let run = Shape { bytes: 11_296, fragments: 4 };
        assert!(wants(&auto, NEAR, run) && !wants(&auto, Outlet::Stream, run));
        assert!(!wants(&auto, NEAR, Shape { bytes: 7_060, fragments: 3 }));
        assert!(!wants(&auto, NEAR, Shape { bytes: 11_296, fragments: 17 }), "gathered");
    }

    #[test]
    fn on_takes_all_that_the_kernel_can_and_off_nothing() {
        let on = Zerocopy::new(Mode::On, true);
        assert!(wants(&on, Outlet::Stream, GATHERED) && wants(&on, NEAR, LARGE));
        assert!(!wants(&on, NEAR, Shape { bytes: 20_000, fragments: 18 }));
        assert!(!wants(&Zerocopy::new(Mode::Off, true), Outlet::Stream, LARGE));
        assert!(!wants(&Zerocopy::new(Mode::On, false), Outlet::Stream, LARGE));
    }

    #[test]
    fn auto_gives_up_where_the_kernel_copies_until_the_socket_closes() {
        let mut auto = Zerocopy::new(Mode::Auto, true);
        auto.start();
        auto.end(Some(1), NEAR, COPIED.cast_signed());
        assert!(!wants(&auto, NEAR, LARGE));
        assert!(wants(&auto, Outlet::Datagrams([192, 0, 2, 1].into()), LARGE), "another route");
        auto.forget(1);
        assert!(wants(&auto, NEAR, LARGE));
        let stats = ZerocopyStats { copied: [1, 0], ..ZerocopyStats::default() };
        assert_eq!(auto.stats(), stats);
    }

    #[test]
    fn sends_are_copied_while_too_many_wait_for_their_notice() {
        let mut on = Zerocopy::new(Mode::On, true);
        (0..NOTICES_MAX).for_each(|_| on.start());
        assert!(!wants(&on, Outlet::Stream, LARGE));
        on.end(None, Outlet::Stream, 0);
        assert!(wants(&on, Outlet::Stream, LARGE));
        let stats = ZerocopyStats { sent: [0, 1], ..ZerocopyStats::default() };
        assert_eq!(on.stats(), stats);
    }

    #[test]
    fn refused_route_is_copied_to_in_every_mode_until_its_socket_closes() {
        for mode in [Mode::Auto, Mode::On] {
            let mut zerocopy = Zerocopy::new(mode, true);
            for errno in [libc::EPIPE, libc::EAGAIN, libc::ECANCELED, libc::EFAULT] {
                assert!(!zerocopy.handle_failure(1, Outlet::Stream, errno), "{errno}");
            }
            assert!(wants(&zerocopy, Outlet::Stream, LARGE));
            for errno in [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOMEM, libc::ENOBUFS] {
                assert!(zerocopy.handle_failure(1, Outlet::Stream, errno), "{errno}");
                assert!(!wants(&zerocopy, Outlet::Stream, LARGE));
                assert!(wants(&zerocopy, NEAR, LARGE), "another route");
                zerocopy.forget(1);
                assert!(wants(&zerocopy, Outlet::Stream, LARGE));
            }
            assert_eq!(zerocopy.stats().refused, [0, 4]);
        }
    }

    #[test]
    fn fragments_are_the_pages_touched() {
        let at = |base: usize, len| libc::iovec {
            iov_base: std::ptr::without_provenance_mut(base),
            iov_len: len,
        };
        assert_eq!(fragments(&[at(4_096, 4_096), at(100, 50)]), 2);
        assert_eq!(fragments(&[at(4_000, 200), at(0, 8_193)]), 5);
    }
}
