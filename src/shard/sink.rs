//! The ring as what the pumps send into.
//!
//! ```text
//!  pump --packets--> RingRun --submit(mark)--> ring, mark in `runs` --RunSent(token)--> mark
//! ```
//! Invariant: a run that the ring has is in `runs`, by its token, until it has completed.

use std::net::SocketAddr;
use std::sync::Arc;

use slab::{Slab, VacantEntry};

use super::ring::{FileSlot, RangeOutside, Ring, Run, StreamSend};
use super::sockets::to_socket_address;
use super::turn::PairSlots;
use crate::base::sink::RunSink;
use crate::library::title::Title;
use crate::media::window::{Packet, PacketWindow};
use crate::rtp::HEADER_BYTES;
use crate::session::pump::{TitleFrames, TitleRun, TitleSink};
use crate::session::stream::RunMark;

/// A shard's ring with its pairs of sockets.
pub(super) struct RingSink<'a> {
    pub(super) ring: &'a mut Ring,
    pub(super) runs: &'a mut Slab<RunMark>,
    pub(super) pairs: &'a [Option<PairSlots>],
}

/// A run under construction, with the place that its mark will have.
pub(super) struct RingRun<'a> {
    run: Run<'a>,
    entry: VacantEntry<'a, RunMark>,
}

impl RunSink for RingSink<'_> {
    type Way = (FileSlot, SocketAddr);

    fn way_to(&self, pair: u16, client: SocketAddr) -> Option<Self::Way> {
        let pair = self.pairs.get(usize::from(pair))?.as_ref()?;
        Some((pair.rtp, to_socket_address(client, pair.family)))
    }

    fn has_free_run(&self) -> bool {
        self.ring.has_free_run()
    }
}

impl TitleSink for RingSink<'_> {
    type Error = RangeOutside;
    type Run<'a>
        = RingRun<'a>
    where
        Self: 'a;

    #[inline]
    fn start_title_run(&mut self, (socket, to): Self::Way) -> Option<RingRun<'_>> {
        let entry = self.runs.vacant_entry();
        let token = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        let run = self.ring.start_run(socket, to, token)?;
        Some(RingRun { run, entry })
    }
}

impl TitleRun for RingRun<'_> {
    type Error = RangeOutside;

    #[inline]
    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        self.run.try_packet(header, window, packet, title)
    }

    #[inline]
    fn submit(self, mark: RunMark) {
        self.entry.insert(mark);
        self.run.submit(true);
    }
}

impl TitleFrames for StreamSend<'_> {
    type Error = RangeOutside;

    #[inline]
    fn push_packet(
        &mut self,
        channel: u8,
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        StreamSend::push_packet(self, channel, header, window, packet, title)
    }
}
