//! Packets of batches in a sink that records: the sockets of tests that run the pump.

use std::sync::Arc;

use crate::base::sink::testing::{FrameRecorder, RecordedRun, SinkRecorder, Way};
use crate::live::core::batch::{LivePacket, LiveRun, PacketBatch};
use crate::live::core::pump::{BatchFrames, BatchRun, BatchSink, LiveRunMark};
use crate::rtp::HEADER_BYTES;
use crate::rtp::srtp::SrtpStream;

/// What a test keeps of a packet.
pub(crate) trait Received {
    /// A packet of a batch as it was sent, with `header` instead of its first bytes.
    fn new(header: &[u8; HEADER_BYTES], batch: &PacketBatch, packet: &LivePacket) -> Self;
}

/// The header alone.
impl Received for [u8; HEADER_BYTES] {
    fn new(header: &[u8; HEADER_BYTES], _: &PacketBatch, _: &LivePacket) -> Self {
        *header
    }
}

impl<P: Received + 'static> BatchSink for SinkRecorder<LiveRunMark, P> {
    type Run<'a> = RecordedRun<'a, LiveRunMark, P>;

    fn start_batch_run(&mut self, way: Way, _: Option<&SrtpStream>) -> Option<Self::Run<'_>> {
        Some(self.start(way))
    }
}

impl<P: Received> BatchRun for RecordedRun<'_, LiveRunMark, P> {
    fn set_range(&mut self, batch: &Arc<PacketBatch>, range: &LiveRun) -> bool {
        if self.len() > 0 || (range.packet_count > 1 && self.is_plain()) {
            return false;
        }
        // The kernel cuts it into equal pieces, the last one apart.
        let pieces = batch.run_bytes(range).chunks(usize::from(range.segment_bytes));
        let packets = batch.packets_of(range);
        assert!(pieces.eq(packets.iter().map(|packet| batch.packet_bytes(packet))));
        self.fill(packets.iter().map(|packet| {
            P::new(batch.packet_bytes(packet).first_chunk().unwrap(), batch, packet)
        }));
        true
    }

    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        self.try_push(packet.bytes, || P::new(header, batch, packet))
    }

    fn packet_count(&self) -> u16 {
        u16::try_from(self.len()).unwrap()
    }

    fn submit(self, mark: LiveRunMark) {
        self.record(mark);
    }
}

impl<P: Received> BatchFrames for FrameRecorder<P> {
    fn push_packet(
        &mut self,
        (channel, _): (u8, Option<&SrtpStream>),
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        self.try_push(channel, packet.bytes, || P::new(header, batch, packet))
    }
}
