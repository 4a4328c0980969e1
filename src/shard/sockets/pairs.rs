//! Pairs of RTP and RTCP sockets that many clients share.
//!
//! ```text
//!  open --> place: two sockets, two entries, datagrams are received --> close: both are gone
//!             `-- a route is too narrow --> packets of the pair may be fragmented
//! ```
//! A pair has the place by which `session::sockets` knows it. Invariant: both sockets of a pair are
//! open or neither is; a pair that is known but cannot send would swallow the sessions that are
//! placed on it. Bound: the places that `session::sockets` gives out.

use std::net::SocketAddr;

use super::open::{Family, UdpPair, to_socket_address};
use crate::base::time::Mono;
use crate::consumers::Consumer;
use crate::consumers::receivers::{RtcpReceiver, RtpReceiver};
use crate::poll::poll_table::EntryKey;
use crate::shard::entries::Entries;
use crate::shard::ring::kernel::Kernel;
use crate::shard::ring::{FileSlot, Ring, RingError};

/// Open pairs of a shard, by their places.
#[derive(Debug, Default)]
pub(in crate::shard) struct Pairs {
    /// By place.
    pairs: Vec<Option<Pair>>,
}

/// The sockets of a pair.
#[derive(Debug, Clone, Copy)]
pub(in crate::shard) struct Pair {
    pub(in crate::shard) rtp: FileSlot,
    pub(in crate::shard) rtcp: FileSlot,
    entries: [EntryKey; 2],
    family: Family,
    /// When a route was found that does not take whole packets.
    fragments_since: Option<Mono>,
}

/// Handling of a packet that is larger than the MTU of its route.
#[derive(Debug)]
pub(in crate::shard) enum Fragmentation {
    /// Packets of the pair may be fragmented from now on: the packet can be sent again.
    Allowed,
    /// Fragments were allowed in this turn: the packet may have been sent before that.
    AllowedNow,
    /// Fragments were allowed when the packet was sent, or the pair is closed.
    Useless,
    /// The kernel refuses.
    Refused(std::io::Error),
}

impl Pairs {
    /// Opens the pair of a place.
    ///
    /// # Errors
    /// The table or the ring is full; both sockets are closed.
    pub(in crate::shard) fn open(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        entries: &mut Entries,
        place: u16,
        sockets: UdpPair,
        family: Family,
    ) -> Result<(), RingError> {
        self.open_foreign(ring, entries, place, sockets, family)?;
        self.arm(ring, place);
        Ok(())
    }

    /// Receives at the pair of a place from now on.
    pub(in crate::shard) fn arm(&self, ring: &mut Ring<impl Kernel>, place: u16) {
        if let Some(Pair { rtp, rtcp, entries: [rtp_entry, rtcp_entry], .. }) = self.get(place) {
            for (slot, entry) in [(*rtp, rtp_entry), (*rtcp, rtcp_entry)] {
                ring.keep_arrivals(slot);
                ring.arm_datagrams(slot, entry.index);
            }
        }
    }

    /// Opens another shard's pair, by which streams of its sessions are sent: nothing is received.
    ///
    /// # Errors
    /// As `open`.
    pub(in crate::shard) fn open_foreign(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        entries: &mut Entries,
        place: u16,
        sockets: UdpPair,
        family: Family,
    ) -> Result<(), RingError> {
        let consumer = Consumer::Rtp(RtpReceiver { pair: place });
        let (rtp_entry, rtp) = entries.install_sender(ring, consumer, sockets.rtp)?;
        let consumer = Consumer::Rtcp(RtcpReceiver { pair: place });
        let (rtcp_entry, rtcp) =
            entries.install_sender(ring, consumer, sockets.rtcp).inspect_err(|_| {
                entries.remove(ring, rtp_entry);
            })?;
        let pair =
            Pair { rtp, rtcp, entries: [rtp_entry, rtcp_entry], family, fragments_since: None };
        match self.pairs.get_mut(usize::from(place)) {
            Some(vacant) => *vacant = Some(pair),
            None => self.pairs.push(Some(pair)),
        }
        Ok(())
    }

    pub(in crate::shard) fn close(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        entries: &mut Entries,
        place: u16,
    ) {
        let pair = self.pairs.get_mut(usize::from(place)).and_then(Option::take);
        for entry in pair.into_iter().flat_map(|pair| pair.entries) {
            entries.remove(ring, entry);
        }
    }

    /// The row of a socket of a pair.
    pub(in crate::shard) fn entry(&self, place: u16, is_rtcp: bool) -> Option<EntryKey> {
        let [rtp, rtcp] = self.get(place)?.entries;
        Some(if is_rtcp { rtcp } else { rtp })
    }

    /// The place of the pair whose socket has this row, and whether it is that of RTCP.
    pub(in crate::shard) fn place_of(&self, key: EntryKey) -> Option<(u16, bool)> {
        let pairs = (0..).zip(&self.pairs);
        pairs.filter_map(|(place, pair)| Some((place, pair.as_ref()?.entries))).find_map(
            |(place, [rtp, rtcp])| match key {
                _ if key == rtp => Some((place, false)),
                _ if key == rtcp => Some((place, true)),
                _ => None,
            },
        )
    }

    pub(in crate::shard) fn get(&self, place: u16) -> Option<&Pair> {
        self.pairs.get(usize::from(place))?.as_ref()
    }

    /// Allows fragments of the pair's packets, since one is larger than its route takes whole.
    pub(in crate::shard) fn allow_fragments(
        &mut self,
        ring: &Ring<impl Kernel>,
        place: u16,
        now: Mono,
    ) -> Fragmentation {
        let Some(Some(pair)) = self.pairs.get_mut(usize::from(place)) else {
            return Fragmentation::Useless;
        };
        match pair.fragments_since {
            Some(since) if since == now => return Fragmentation::AllowedNow,
            Some(_) => return Fragmentation::Useless,
            None => pair.fragments_since = Some(now),
        }
        match ring.kernel().set_fragmentation(ring.fd(pair.rtp), pair.family, true) {
            Ok(()) => Fragmentation::Allowed,
            Err(error) => Fragmentation::Refused(error),
        }
    }
}

impl Pair {
    /// `client` as the sockets of the pair must be given it.
    pub(in crate::shard) fn address_of(&self, client: SocketAddr) -> SocketAddr {
        to_socket_address(client, self.family)
    }
}
