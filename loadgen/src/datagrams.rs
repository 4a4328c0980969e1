//! The UDP sockets of a run: who owns which, and the way of a datagram to its session.
//!
//! ```text
//! entry 0  RTP   shared, track 0   --destination address--> session     (server on loopback)
//! entry 1  RTCP  shared, track 0
//! entry n  RTP   of session s      -----------------------> session s   (any other server)
//! ```
//! Entries keep their place for the whole run: it is their token in the poll.
//! Invariant: sockets of a session are closed with it; what they dropped is in the figures.
//! Bound: a pair per track, shared or per session; [`READS_MAX`] reads per socket and turn, and
//! [`TAIL_READS_MAX`] behind a BYE.

use crate::net::poll::{Poll, Token};
use crate::net::sockets::{self, Pair};
use crate::net::udp::{self, Datagram, Receiver};
use crate::slots::Slot;
use crate::stats::Stats;
use crate::time::{Clock, Mono};
use socket2::Socket;
use std::io;
use std::net::SocketAddr;

/// Reads of one socket before the others have their turn.
pub const READS_MAX: usize = 32;
/// Reads of one socket behind a BYE: more batches than a shared buffer of 64 MiB can hold.
pub const TAIL_READS_MAX: usize = 16_384;
const SHARED_BUFFER_BYTES: usize = 64 << 20;
const OWN_BUFFER_BYTES: usize = 1 << 20;

/// Where datagrams go: all sessions, by their index, and the figures of the run.
#[derive(Debug)]
pub struct Sessions<'a> {
    /// The open ones.
    pub slots: &'a mut [Option<Box<Slot>>],
    /// Figures of all.
    pub stats: &'a mut Stats,
}

/// All UDP sockets of a run.
#[derive(Debug)]
pub struct Datagrams {
    entries: Vec<Option<Entry>>,
    shared: Vec<SharedPair>,
    receiver: Receiver,
    buffer_bytes: Option<usize>,
}

#[derive(Debug)]
struct Entry {
    socket: Socket,
    /// Session that owns it; none for a shared port.
    session: Option<usize>,
    track: usize,
    is_rtcp: bool,
}

/// A port pair all sessions share for one track.
#[derive(Debug, Clone, Copy)]
struct SharedPair {
    rtp_entry: usize,
    rtcp_entry: usize,
    ports: (u16, u16),
}

impl Datagrams {
    /// No sockets yet; those to come get `buffer_bytes` to receive, or what fits their use.
    #[must_use]
    pub fn new(buffer_bytes: Option<usize>) -> Self {
        let (entries, shared) = (Vec::new(), Vec::new());
        Self { entries, shared, receiver: Receiver::default(), buffer_bytes }
    }

    /// A port pair per track: the shared ones, or new ones of the session's own.
    pub fn ports_for(
        &mut self,
        slot: &mut Slot,
        tracks: usize,
        poll: &Poll,
    ) -> io::Result<Vec<(u16, u16)>> {
        let mut ports = Vec::with_capacity(tracks);
        for track in 0..tracks {
            if slot.address.is_some() {
                if self.shared.len() <= track {
                    let bytes = self.buffer_bytes.unwrap_or(SHARED_BUFFER_BYTES);
                    let (pair, ports) = sockets::port_pair(None, true, bytes)?;
                    let (rtp_entry, rtcp_entry) = self.watch(pair, None, track, poll)?;
                    self.shared.push(SharedPair { rtp_entry, rtcp_entry, ports });
                }
                ports.extend(self.shared.get(track).map(|pair| pair.ports));
            } else {
                let bytes = self.buffer_bytes.unwrap_or(OWN_BUFFER_BYTES);
                let any = sockets::any_address(slot.server);
                let (pair, pair_ports) = sockets::port_pair(Some(any), false, bytes)?;
                let (rtp, rtcp) = self.watch(pair, Some(slot.index), track, poll)?;
                slot.sockets.extend([rtp, rtcp]);
                ports.push(pair_ports);
            }
        }
        Ok(ports)
    }

    /// Reads what waits at an entry that is ready, up to its turn.
    pub fn handle_ready(&mut self, entry: usize, to: &mut Sessions<'_>, clock: Clock) {
        for _ in 0..READS_MAX {
            // An error here is a late ICMP message about a report we sent; data goes on.
            match self.read_batch(entry, to, clock) {
                Ok(got) if got == udp::BATCH => {}
                _ => break,
            }
        }
    }

    /// Reads all that waits, before the sessions are told to stop: what has come is not owed.
    pub fn read_all(&mut self, to: &mut Sessions<'_>, clock: Clock) {
        for entry in 0..self.entries.len() {
            self.read_to_end(entry, to, clock);
        }
    }

    /// RTCP has a socket of its own, and a BYE may be read long before the packets that came ahead
    /// of it: reads those of session `index` before anybody calls them lost.
    pub fn read_tail(&mut self, index: usize, now: Mono, to: &mut Sessions<'_>, clock: Clock) {
        let Some(Some(slot)) = to.slots.get(index) else { return };
        if !slot.session.has_unread_tail(now) {
            return;
        }
        let entries: Vec<usize> = if slot.address.is_some() {
            self.shared.iter().map(|pair| pair.rtp_entry).collect()
        } else {
            slot.sockets.iter().copied().step_by(2).collect()
        };
        let is_read = entries.into_iter().all(|entry| self.read_to_end(entry, to, clock));
        if let Some(Some(slot)) = to.slots.get_mut(index)
            && is_read
        {
            slot.session.handle_tail_read(now);
        }
    }

    /// Sends a report of ours; one that cannot be sent is lost like any other datagram.
    pub fn send_report(&self, slot: &Slot, track: usize, report: &[u8]) {
        let Some(port) = slot.session.server_rtcp_port(track) else { return };
        let own = slot.sockets.get(track * 2 + 1).copied();
        let index = own.or_else(|| self.shared.get(track).map(|pair| pair.rtcp_entry));
        if let Some(Some(entry)) = index.and_then(|index| self.entries.get(index)) {
            let to = SocketAddr::new(slot.server.ip(), port);
            let _ = udp::send(&entry.socket, report, slot.address, to);
        }
    }

    /// Closes the sockets of a session; what they had dropped.
    pub fn close(&mut self, entries: &[usize]) -> u64 {
        let taken =
            entries.iter().filter_map(|&at| self.entries.get_mut(at).and_then(Option::take));
        taken.map(|entry| udp::drops(&entry.socket)).sum()
    }

    /// Datagrams that the open sockets have dropped.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.entries.iter().flatten().map(|entry| udp::drops(&entry.socket)).sum()
    }

    fn watch(
        &mut self,
        pair: Pair,
        session: Option<usize>,
        track: usize,
        poll: &Poll,
    ) -> io::Result<(usize, usize)> {
        let rtp = self.entries.len();
        for (socket, is_rtcp) in [(pair.0, false), (pair.1, true)] {
            poll.add(&socket, Token::Udp(self.entries.len()), false)?;
            self.entries.push(Some(Entry { socket, session, track, is_rtcp }));
        }
        Ok((rtp, rtp + 1))
    }

    /// False when there is still more after [`TAIL_READS_MAX`] reads.
    fn read_to_end(&mut self, entry: usize, to: &mut Sessions<'_>, clock: Clock) -> bool {
        let mut read = || self.read_batch(entry, to, clock);
        (0..TAIL_READS_MAX).any(|_| read().is_ok_and(|got| got < udp::BATCH))
    }

    fn read_batch(
        &mut self,
        index: usize,
        to: &mut Sessions<'_>,
        clock: Clock,
    ) -> io::Result<usize> {
        let Some(Some(entry)) = self.entries.get(index) else { return Ok(0) };
        let (now, wall_minus_mono_ns) = (clock.now(), clock.wall_minus_mono_ns());
        self.receiver.receive(&entry.socket, |datagram| {
            let arrival = arrival_of(&datagram, wall_minus_mono_ns, now);
            to.deliver(entry, &datagram, arrival);
        })
    }
}

impl Sessions<'_> {
    fn deliver(&mut self, entry: &Entry, datagram: &Datagram<'_>, arrival: Mono) {
        let session = entry.session.or_else(|| sockets::client_index(datagram.destination?));
        let Some(Some(slot)) = session.and_then(|index| self.slots.get_mut(index)) else {
            self.stats.unknown_datagrams += 1;
            return;
        };
        for packet in datagram.payload.chunks(datagram.segment_bytes) {
            if entry.is_rtcp {
                slot.session.handle_rtcp(entry.track, packet, arrival);
            } else {
                slot.session.handle_rtp(entry.track, packet, arrival, self.stats);
            }
        }
    }
}

/// The kernel's stamp, moved to the monotonic clock; never later than now.
fn arrival_of(datagram: &Datagram<'_>, wall_minus_mono_ns: u64, now: Mono) -> Mono {
    let stamp = datagram.arrival_wall_ns.and_then(|wall| wall.checked_sub(wall_minus_mono_ns));
    stamp.map_or(now, |ns| Mono::from_ns(ns).min(now))
}
