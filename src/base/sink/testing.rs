//! A sink that records: the sockets and connections of tests of the pumps.
//!
//! ```text
//!  pump --packets--> RecordedRun --submit--> SinkRecorder::runs --> the test: sent or refused
//!  pump --packets--> FrameRecorder::packets
//! ```
//! `vod::tests` and `live::core::testing` add what their packets are made of and what is kept of a
//! packet. Runs have the shape of the ring's runs: equal packets, a shorter one at the end.
//! Bound: `RUN_PACKETS_MAX` packets in a run.

use std::net::SocketAddr;

use crate::base::sink::RunSink;

/// Sockets that take everything: `M` is the mark of a run, `P` what is kept of a packet.
#[derive(Debug)]
pub(crate) struct SinkRecorder<M, P> {
    pub(crate) runs: Vec<SentRun<M, P>>,
    /// The routes take no segmentation: each run is one packet.
    pub(crate) is_plain: bool,
}

/// A run that was submitted.
#[derive(Debug)]
pub(crate) struct SentRun<M, P> {
    pub(crate) way: Way,
    pub(crate) mark: M,
    pub(crate) packets: Vec<P>,
}

/// A pair of sockets, and the address of a client.
pub(crate) type Way = (u16, SocketAddr);

/// A run under construction.
pub(crate) struct RecordedRun<'a, M, P> {
    recorder: &'a mut SinkRecorder<M, P>,
    way: Way,
    packets: Vec<P>,
    first_bytes: u16,
    has_tail: bool,
}

/// A send on a connection that takes so many bytes, in packets of `PACKET_BYTES_MAX` at most.
#[derive(Debug)]
pub(crate) struct FrameRecorder<P> {
    pub(crate) credit: usize,
    /// Packets with their channels.
    pub(crate) packets: Vec<(u8, P)>,
}

impl<M, P> Default for SinkRecorder<M, P> {
    fn default() -> Self {
        Self { runs: Vec::new(), is_plain: false }
    }
}

impl<M, P> SinkRecorder<M, P> {
    /// Starts a run.
    pub(crate) fn start(&mut self, way: Way) -> RecordedRun<'_, M, P> {
        let (packets, first_bytes, has_tail) = (Vec::new(), 0, false);
        RecordedRun { recorder: self, way, packets, first_bytes, has_tail }
    }
}

impl<M, P> RunSink for SinkRecorder<M, P> {
    type Way = Way;

    fn way_to(&self, pair: u16, client: SocketAddr) -> Option<Way> {
        Some((pair, client))
    }

    fn has_free_run(&self) -> bool {
        true
    }
}

impl<M, P> RecordedRun<'_, M, P> {
    /// Whether the route has each packet sent by itself.
    pub(crate) fn is_plain(&self) -> bool {
        self.recorder.is_plain
    }

    /// Packets in the run.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Makes these the whole run.
    pub(crate) fn fill(&mut self, packets: impl Iterator<Item = P>) {
        assert!(self.packets.is_empty());
        self.packets.extend(packets);
    }

    /// Adds a packet of this length. False: the run takes no more.
    pub(crate) fn try_push(&mut self, bytes: u16, packet: impl FnOnce() -> P) -> bool {
        if self.packets.is_empty() {
            self.first_bytes = bytes;
        }
        let packets_max = if self.is_plain() { 1 } else { RUN_PACKETS_MAX };
        let fits = !self.has_tail && bytes <= self.first_bytes;
        if !fits || self.packets.len() == packets_max {
            return false;
        }
        self.has_tail = bytes < self.first_bytes;
        self.packets.push(packet());
        true
    }

    /// Records the run.
    pub(crate) fn record(self, mark: M) {
        let Self { recorder, way, packets, .. } = self;
        recorder.runs.push(SentRun { way, mark, packets });
    }
}

impl<P> FrameRecorder<P> {
    /// A connection that takes this many bytes.
    pub(crate) fn with_credit(credit: usize) -> Self {
        Self { credit, packets: Vec::new() }
    }

    /// Adds a packet of this length. False: the send takes no more.
    pub(crate) fn try_push(&mut self, channel: u8, bytes: u16, packet: impl FnOnce() -> P) -> bool {
        let has_room = self.credit >= PACKET_BYTES_MAX;
        if has_room {
            self.credit = self.credit.saturating_sub(usize::from(bytes));
            self.packets.push((channel, packet()));
        }
        has_room
    }
}

/// The same limit as the ring's.
const RUN_PACKETS_MAX: usize = 16;
/// No packet of a test is longer.
const PACKET_BYTES_MAX: usize = 1_500;
