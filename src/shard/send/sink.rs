//! The ring as the sink of the pumps, and the owners of runs in flight.
//!
//! ```text
//!  pump --packets--> RingRun --submit(mark)--> ring, owner in `runs` --RunSent--> owner freed
//! ```
//! Invariant: the owner of a run is in `runs`, by the token of the run, from `submit` until the
//! ring has reported the end of the run. Every run is reported, also when its socket was closed.

use std::net::SocketAddr;
use std::sync::Arc;

use slab::{Slab, VacantEntry};

use super::srtp::{RunSeal, SrtpShare};
use crate::base::sink::RunSink;
use crate::library::title::Title;
use crate::live::core::batch::{LivePacket, LiveRun, PacketBatch};
use crate::live::core::pump::{BatchFrames, BatchRun, BatchSink, LiveRunMark};
use crate::media::image::{ImageRun, PacketImage};
use crate::media::window::{Packet, PacketWindow};
use crate::rtp::HEADER_BYTES;
use crate::rtp::srtp::SrtpStream;
use crate::shard::ring::kernel::Kernel;
use crate::shard::ring::{FileSlot, RangeOutside, Ring, Run, StreamSend};
use crate::shard::sockets::pairs::Pairs;
use crate::vod::pump::{SendError, TitleFrames, TitleRun, TitleSink};
use crate::vod::stream::RunMark;

/// The owner of a run in flight.
#[derive(Debug)]
pub(in crate::shard) enum RunOwner {
    /// A stream of a title.
    Title(RunMark),
    /// A reader of a live path.
    Live(LiveRunMark),
    /// A retransmission of a live path from this pair; it is not tried again.
    Resent { pair: u16 },
}

/// Token of datagrams and runs without an owner.
pub(in crate::shard) const NO_RUN: u32 = u32::MAX;

/// The ring of a shard with its pairs and the owners of its runs.
pub(in crate::shard) struct RingSink<'a, K: Kernel> {
    pub(in crate::shard) ring: &'a mut Ring<K>,
    pub(in crate::shard) runs: &'a mut Slab<RunOwner>,
    pub(in crate::shard) pairs: &'a Pairs,
    pub(in crate::shard) srtp: &'a mut SrtpShare,
}

/// A run under construction, with the vacant place of its owner.
pub(in crate::shard) struct RingRun<'a, K: Kernel> {
    pub(in crate::shard) run: Run<'a, K>,
    entry: VacantEntry<'a, RunOwner>,
    /// Encrypts the packets of the run.
    pub(in crate::shard) seal: Option<RunSeal<'a>>,
}

impl<K: Kernel> RingSink<'_, K> {
    /// Starts a run. `None`: the ring has no room in this turn.
    #[inline]
    pub(in crate::shard) fn start(
        &mut self,
        (socket, to): (FileSlot, SocketAddr),
        srtp: Option<&SrtpStream>,
    ) -> Option<RingRun<'_, K>> {
        let seal = match srtp {
            None => None,
            Some(srtp) => Some(self.srtp.start(srtp)?),
        };
        let entry = self.runs.vacant_entry();
        let token = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        let run = self.ring.start_run(socket, to, token)?;
        Some(RingRun { run, entry, seal })
    }
}

impl<K: Kernel> RingRun<'_, K> {
    /// Queues the run; see `Run::submit`.
    #[inline]
    pub(in crate::shard) fn submit(mut self, owner: RunOwner, linked: bool) {
        if let Some(seal) = &mut self.seal {
            seal.note_submitted();
            if self.run.packet_count() == 0 {
                // Nothing of it could be encrypted: no run is sent, and none is reported.
                return;
            }
        }
        self.entry.insert(owner);
        self.run.submit(linked);
    }
}

impl<K: Kernel> RunSink for RingSink<'_, K> {
    type Way = (FileSlot, SocketAddr);

    fn way_to(&self, pair: u16, client: SocketAddr) -> Option<Self::Way> {
        let pair = self.pairs.get(pair)?;
        Some((pair.rtp, pair.address_of(client)))
    }

    fn has_free_run(&self) -> bool {
        self.ring.has_free_run()
    }
}

impl<K: Kernel> TitleSink for RingSink<'_, K> {
    type Error = RangeOutside;
    type Run<'a>
        = RingRun<'a, K>
    where
        Self: 'a;

    #[inline]
    fn start_title_run(
        &mut self,
        way: Self::Way,
        srtp: Option<&SrtpStream>,
    ) -> Option<RingRun<'_, K>> {
        self.start(way, srtp)
    }
}

impl<K: Kernel> TitleRun for RingRun<'_, K> {
    type Error = RangeOutside;

    #[inline]
    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        match &mut self.seal {
            None => self.run.try_packet(header, window, packet, title),
            Some(seal) => seal.try_packet(&mut self.run, header, (window, packet), title),
        }
    }

    /// Images are in the clear: a run that is encrypted never takes one.
    #[inline]
    fn set_image(&mut self, _: &PacketWindow, image: &Arc<PacketImage>, part: &ImageRun) -> bool {
        self.seal.is_none() && self.run.set_image(image, part)
    }

    #[inline]
    fn submit(self, mark: RunMark) {
        self.submit(RunOwner::Title(mark), true);
    }
}

impl<K: Kernel> BatchSink for RingSink<'_, K> {
    type Run<'a>
        = RingRun<'a, K>
    where
        Self: 'a;

    #[inline]
    fn start_batch_run(
        &mut self,
        way: Self::Way,
        srtp: Option<&SrtpStream>,
    ) -> Option<RingRun<'_, K>> {
        self.start(way, srtp)
    }
}

impl<K: Kernel> BatchRun for RingRun<'_, K> {
    #[inline]
    fn set_range(&mut self, batch: &Arc<PacketBatch>, range: &LiveRun) -> bool {
        self.seal.is_none() && self.run.set_range(batch, range)
    }

    #[inline]
    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        let Some(seal) = &mut self.seal else {
            return self.run.try_live_packet(header, batch, packet);
        };
        let rest = batch.bytes_in(packet.range_behind(HEADER_BYTES));
        rest.is_some_and(|rest| seal.try_pieces(&mut self.run, &[header, rest]))
    }

    #[inline]
    fn packet_count(&self) -> u16 {
        self.run.packet_count() + self.seal.as_ref().map_or(0, RunSeal::left_out)
    }

    #[inline]
    fn submit(self, mark: LiveRunMark) {
        self.submit(RunOwner::Live(mark), true);
    }
}

impl SendError for RangeOutside {
    fn is_truncation(&self) -> bool {
        *self == Self::Truncated
    }
}

impl<K: Kernel> TitleFrames for StreamSend<'_, K> {
    type Error = RangeOutside;

    #[inline]
    fn push_packet(
        &mut self,
        (channel, srtp): (u8, Option<&SrtpStream>),
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        // Keys are told over TLS alone, and interleaved media stays on that connection.
        if srtp.is_some() {
            return Err(RangeOutside::NotEncrypted);
        }
        StreamSend::push_packet(self, channel, header, window, packet, title)
    }
}

impl<K: Kernel> BatchFrames for StreamSend<'_, K> {
    #[inline]
    fn push_packet(
        &mut self,
        (channel, srtp): (u8, Option<&SrtpStream>),
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        // As above.
        srtp.is_none() && self.push_live_packet(channel, header, batch, packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_of_a_run_takes_no_more_memory_than_the_mark_of_a_live_run() {
        let (of_owner, of_mark) = (size_of::<RunOwner>(), size_of::<LiveRunMark>());
        assert!(
            of_owner <= of_mark,
            "{of_owner} and {of_mark}, of a title {}",
            size_of::<RunMark>()
        );
        // As the slab keeps it.
        assert_eq!(size_of::<Option<RunOwner>>(), size_of::<Option<LiveRunMark>>());
    }
}
