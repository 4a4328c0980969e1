//! Finds the source of a datagram at a shared socket by the address that the datagram is from.
//!
//! ```text
//!  SETUP client_port=5000-5001     --> 192.0.2.1:5000 is track 0 of source 7
//!  from 192.0.2.1:6123 (NAT)       --> a track of 192.0.2.1 without a packet yet, if it fits
//! ```
//! reference 001: client and server address together are unique. An address that is in use is not
//! given to a second source; the SETUP of that source is placed on another pair of sockets.
//!
//! Invariants: an address on a socket names one track; a track that has had a packet is found by
//! the address of that packet only. Bound: `EXPECTED_MAX` tracks of one host.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::base::host::Host;

/// A socket that several sources share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketName {
    /// Index of the shard's socket pair.
    pub pair: u16,
    /// True for the RTCP socket of the pair.
    pub is_rtcp: bool,
}

/// The track that a datagram belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// Number of the source on its shard.
    pub source: u32,
    /// Track of the source.
    pub track: u8,
}

/// Whether a datagram from a port that was not announced can belong to a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The datagram cannot belong to the track.
    No,
    /// The track has had no packet yet that would tell.
    Unknown,
    /// The datagram can belong to the track, or to another track: its RTP time is near.
    Likely,
    /// The datagram belongs to the track, by payload type or by SSRC.
    Sure,
}

/// The addresses of all sources at shared sockets: see the module.
#[derive(Debug, Default)]
pub struct Demux {
    by_address: HashMap<(SocketName, SocketAddr), Entry>,
    /// Announced addresses of a host whose tracks have had no packet yet.
    expected: HashMap<(SocketName, Host), Vec<SocketAddr>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    target: Target,
    is_heard: bool,
}

/// Why a track cannot be expected at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DemuxError {
    /// The address is in use on this pair; another pair is free.
    #[error("the address is in use on this pair")]
    Taken,
    /// The host has more waiting tracks than `EXPECTED_MAX`.
    #[error("{max} tracks of this host wait for their first packet already")]
    TooManyExpected {
        /// `EXPECTED_MAX`.
        max: usize,
    },
}

impl Demux {
    /// Expects a track's packets from `announced`, or from another port of that host.
    ///
    /// # Errors
    /// `Taken` when the address is in use, `TooManyExpected` when too many tracks wait.
    pub fn expect(
        &mut self,
        socket: SocketName,
        announced: SocketAddr,
        target: Target,
    ) -> Result<(), DemuxError> {
        if self.by_address.contains_key(&(socket, announced)) {
            return Err(DemuxError::Taken);
        }
        let waiting = self.expected.entry((socket, Host::of(announced))).or_default();
        if waiting.len() >= EXPECTED_MAX {
            return Err(DemuxError::TooManyExpected { max: EXPECTED_MAX });
        }
        waiting.push(announced);
        self.by_address.insert((socket, announced), Entry { target, is_heard: false });
        Ok(())
    }

    /// Expects packets at both sockets of a pair, RTP and RTCP; on an error at neither.
    ///
    /// # Errors
    /// As [`Self::expect`].
    pub fn expect_both(
        &mut self,
        pair: u16,
        [rtp, rtcp]: [SocketAddr; 2],
        target: Target,
    ) -> Result<(), DemuxError> {
        let socket = |is_rtcp| SocketName { pair, is_rtcp };
        self.expect(socket(false), rtp, target)?;
        self.expect(socket(true), rtcp, target).inspect_err(|_| {
            self.by_address.remove(&(socket(false), rtp));
            self.stop_waiting(socket(false), rtp);
        })
    }

    /// Takes packets of a track at the address that they are known to come from.
    pub fn enter_heard(&mut self, socket: SocketName, from: SocketAddr, target: Target) {
        self.by_address.insert((socket, from), Entry { target, is_heard: true });
    }

    /// The track of a datagram. For a port that was not announced, `fit` says whether the datagram
    /// can belong to a track. The first sure track counts. A likely track counts unless the
    /// datagram can belong to another waiting track, too.
    pub fn find(
        &mut self,
        socket: SocketName,
        from: SocketAddr,
        fit: impl Fn(Target) -> Fit,
    ) -> Option<Target> {
        if let Some(entry) = self.by_address.get_mut(&(socket, from)) {
            if !entry.is_heard {
                entry.is_heard = true;
                let target = entry.target;
                self.stop_waiting(socket, from);
                return Some(target);
            }
            return Some(entry.target);
        }
        let waiting = self.expected.get(&(socket, Host::of(from)))?;
        let mut possible = None;
        let (mut count, mut sure) = (0, None);
        // At most `EXPECTED_MAX`, and only until the port of each track is known.
        for announced in waiting {
            let entry = self.by_address.get(&(socket, *announced));
            match entry.map_or(Fit::No, |entry| fit(entry.target)) {
                Fit::No => {}
                Fit::Unknown => count += 1,
                Fit::Likely => (count, possible) = (count + 1, Some(*announced)),
                Fit::Sure => {
                    sure = Some(*announced);
                    break;
                }
            }
        }
        let announced = sure.or_else(|| possible.filter(|_| count == 1))?;
        let Entry { target, .. } = self.by_address.remove(&(socket, announced))?;
        self.stop_waiting(socket, announced);
        self.by_address.insert((socket, from), Entry { target, is_heard: true });
        Some(target)
    }

    /// Removes all tracks of a source.
    pub fn forget(&mut self, source: u32) {
        self.by_address.retain(|_, entry| entry.target.source != source);
        self.forget_waiting();
    }

    fn forget_waiting(&mut self) {
        let by_address = &self.by_address;
        self.expected.retain(|(socket, _), waiting| {
            waiting.retain(|announced| by_address.contains_key(&(*socket, *announced)));
            !waiting.is_empty()
        });
    }

    /// Removes a track that is expected elsewhere from now on.
    pub fn forget_track(&mut self, target: Target) {
        self.by_address.retain(|_, entry| entry.target != target);
        self.forget_waiting();
    }

    /// Whether a pair receives tracks of a host.
    #[must_use]
    pub fn uses_host(&self, pair: u16, host: Host) -> bool {
        let is_of_host = |from: SocketAddr| Host::of(from) == host;
        self.by_address.keys().any(|(socket, from)| socket.pair == pair && is_of_host(*from))
    }

    /// Whether a pair receives any track.
    #[must_use]
    pub fn uses_pair(&self, pair: u16) -> bool {
        self.by_address.keys().any(|(socket, _)| socket.pair == pair)
    }

    fn stop_waiting(&mut self, socket: SocketName, announced: SocketAddr) {
        let key = (socket, Host::of(announced));
        let Some(waiting) = self.expected.get_mut(&key) else { return };
        waiting.retain(|other| *other != announced);
        if waiting.is_empty() {
            self.expected.remove(&key);
        }
    }
}

/// Tracks of one host that wait at one socket: an encoder with a dozen channels restarts.
const EXPECTED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const RTP: SocketName = SocketName { pair: 0, is_rtcp: false };

    fn from(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    fn target(source: u32, track: u8) -> Target {
        Target { source, track }
    }

    fn any(_: Target) -> Fit {
        Fit::Sure
    }

    #[test]
    fn announced_address_is_matched_to_its_own_track_only() {
        let mut demux = Demux::default();
        demux.expect(RTP, from(1, 5_000), target(7, 0)).unwrap();
        let taken = demux.expect(RTP, from(1, 5_000), target(8, 0));
        assert_eq!(taken, Err(DemuxError::Taken));
        let rtcp = SocketName { is_rtcp: true, ..RTP };
        assert_eq!(demux.find(rtcp, from(1, 5_000), any), None);
        assert_eq!(demux.find(RTP, from(2, 5_000), any), None);
        assert_eq!(demux.find(RTP, from(1, 5_000), any), Some(target(7, 0)));
        assert_eq!(demux.find(RTP, from(1, 5_001), any), None, "its port is known now");
    }

    #[test]
    fn publisher_behind_a_nat_is_known_by_its_first_packet() {
        let mut demux = Demux::default();
        demux.expect(RTP, from(1, 5_000), target(7, 0)).unwrap();
        demux.expect(RTP, from(1, 5_002), target(7, 1)).unwrap();
        let sound = |target: Target| if target.track == 1 { Fit::Sure } else { Fit::No };
        assert_eq!(demux.find(RTP, from(1, 6_000), sound), Some(target(7, 1)));
        assert_eq!(demux.find(RTP, from(1, 6_001), sound), None);
        assert_eq!(demux.find(RTP, from(1, 6_001), any), Some(target(7, 0)));
        assert_eq!(demux.find(RTP, from(1, 6_000), any), Some(target(7, 1)));
        assert_eq!(demux.find(RTP, from(1, 5_000), any), None, "as announced, and too late");
    }

    #[test]
    fn publishers_with_one_link_local_address_on_two_links_are_told_apart() {
        let mut demux = Demux::default();
        let on = |link: u32, port: u16| Host::new("fe80::7".parse().unwrap(), link).at(port);
        demux.expect(RTP, on(3, 5_000), target(7, 0)).unwrap();
        assert_eq!(demux.find(RTP, on(4, 5_000), any), None, "as announced, by another link");
        assert_eq!(demux.find(RTP, on(4, 6_000), any), None);
        demux.expect(RTP, on(4, 5_000), target(8, 0)).unwrap();
        assert!(demux.uses_host(0, Host::of(on(3, 0))) && !demux.uses_host(0, Host::of(on(5, 0))));
        assert_eq!(demux.find(RTP, on(4, 6_000), any), Some(target(8, 0)));
        assert_eq!(demux.find(RTP, on(3, 6_000), any), Some(target(7, 0)));
    }

    #[test]
    fn likely_track_is_chosen_only_when_no_other_is_possible_and_a_sure_one_before_it() {
        use Fit::{Likely, No, Sure, Unknown};
        for (fits, found) in [
            ([Likely, Sure, Sure], Some(1)),
            ([Likely, No, Sure], Some(2)),
            ([No, Likely, No], Some(1)),
            ([Likely, Likely, No], None),
            ([Likely, No, Unknown], None),
            ([Unknown, No, No], None),
            ([No, No, No], None),
        ] {
            let mut demux = Demux::default();
            for track in 0..3 {
                demux.expect(RTP, from(1, 5_000 + u16::from(track)), target(7, track)).unwrap();
            }
            let fit = |target: Target| fits[usize::from(target.track)];
            assert_eq!(
                demux.find(RTP, from(1, 6_000), fit).map(|target| target.track),
                found,
                "{fits:?}"
            );
            let again = demux.find(RTP, from(1, 6_000), |_| No);
            assert_eq!(again.map(|target| target.track), found, "it is latched or not");
        }
    }

    #[test]
    fn ended_source_leaves_no_addresses_behind() {
        let mut demux = Demux::default();
        demux.expect(RTP, from(1, 5_000), target(7, 0)).unwrap();
        demux.expect(RTP, from(1, 5_002), target(7, 1)).unwrap();
        demux.find(RTP, from(1, 5_000), any).unwrap();
        assert!(demux.uses_pair(0));
        demux.forget(7);
        assert_eq!(demux.find(RTP, from(1, 5_000), any), None);
        assert_eq!(demux.find(RTP, from(1, 9_000), any), None);
        assert!(!demux.uses_pair(0) && demux.expected.is_empty());
    }

    #[test]
    fn pair_with_one_address_taken_is_refused_as_a_whole() {
        let mut demux = Demux::default();
        demux.expect_both(0, [from(1, 5_000), from(1, 5_001)], target(7, 0)).unwrap();
        for addresses in [[from(1, 6_000), from(1, 5_001)], [from(1, 5_000), from(1, 6_001)]] {
            assert_eq!(demux.expect_both(0, addresses, target(8, 0)), Err(DemuxError::Taken));
        }
        demux.forget(7);
        assert!(demux.by_address.is_empty() && demux.expected.is_empty(), "{demux:?}");
    }

    #[test]
    fn number_of_expected_addresses_of_a_host_is_bounded() {
        let mut demux = Demux::default();
        for port in 0..64 {
            demux.expect(RTP, from(1, 5_000 + port), target(port.into(), 0)).unwrap();
        }
        let refused = demux.expect(RTP, from(1, 9_000), target(99, 0));
        assert_eq!(refused, Err(DemuxError::TooManyExpected { max: 64 }));
        demux.expect(RTP, from(2, 9_000), target(99, 0)).unwrap();
    }
}
