//! The sockets of a simulated shard: the packets that players get from the pump.
//!
//! ```text
//!  LivePump --packets--> SimRun --submit--> runs --taken--> Player::got
//!                                             `--refused, with those linked behind it--> put back
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::sink::RunSink;
use crate::live::core::batch::{LivePacket, LiveRun, PacketBatch};
use crate::live::core::pump::{BatchFrames, BatchRun, BatchSink, LiveRunMark};
use crate::live::core::simulation::player::Got;
use crate::rtp::HEADER_BYTES;

/// A player, by its index, and a stream of the player.
pub(crate) type Way = (usize, u8);

/// A player's streams have a port each.
pub(crate) fn client(stream_index: u8) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, u16::from(stream_index)).into()
}

/// A run that was submitted.
#[derive(Debug)]
pub(crate) struct SentRun {
    pub(crate) way: Way,
    pub(crate) mark: LiveRunMark,
    pub(crate) got: Vec<Got>,
}

/// Sockets that take everything.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) runs: Vec<SentRun>,
    /// The routes take no segmentation: each run is one packet.
    pub(crate) is_plain: bool,
}

/// A run under construction.
pub(crate) struct SimRun<'a> {
    sockets: &'a mut Sockets,
    way: Way,
    got: Vec<Got>,
}

/// A send on a connection that takes so many bytes, in packets of `PACKET_BYTES_MAX` at most.
pub(crate) struct Connection {
    pub(crate) credit: usize,
    /// Packets with their channels.
    pub(crate) got: Vec<(u8, Got)>,
}

impl RunSink for Sockets {
    type Way = Way;

    fn way_to(&self, pair: u16, client: SocketAddr) -> Option<Way> {
        Some((usize::from(pair), u8::try_from(client.port()).unwrap()))
    }

    fn has_free_run(&self) -> bool {
        true
    }
}

impl BatchSink for Sockets {
    type Run<'a> = SimRun<'a>;

    fn start_batch_run(&mut self, way: Way) -> Option<SimRun<'_>> {
        Some(SimRun { sockets: self, way, got: Vec::new() })
    }
}

impl BatchRun for SimRun<'_> {
    fn set_range(&mut self, batch: &Arc<PacketBatch>, range: &LiveRun) -> bool {
        if !self.got.is_empty() || (range.packet_count > 1 && self.sockets.is_plain) {
            return false;
        }
        // The kernel cuts it into equal pieces, the last one apart.
        let pieces = batch.run_bytes(range).chunks(usize::from(range.segment_bytes));
        let packets = batch.packets_of(range);
        assert!(pieces.eq(packets.iter().map(|packet| batch.packet_bytes(packet))));
        self.got.extend(
            packets.iter().map(|packet| {
                got(batch.packet_bytes(packet).first_chunk().unwrap(), batch, packet)
            }),
        );
        true
    }

    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        let packets_max = if self.sockets.is_plain { 1 } else { RUN_PACKETS_MAX };
        let has_room = self.got.len() < packets_max;
        if has_room {
            self.got.push(got(header, batch, packet));
        }
        has_room
    }

    fn packet_count(&self) -> u16 {
        u16::try_from(self.got.len()).unwrap()
    }

    fn submit(self, mark: LiveRunMark) {
        assert_eq!(mark.stream_index(), self.way.1);
        self.sockets.runs.push(SentRun { way: self.way, mark, got: self.got });
    }
}

impl BatchFrames for Connection {
    fn push_packet(
        &mut self,
        channel: u8,
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        let has_room = self.credit >= PACKET_BYTES_MAX;
        if has_room {
            self.credit -= usize::from(packet.bytes);
            self.got.push((channel, got(header, batch, packet)));
        }
        has_room
    }
}

/// Parses a packet as a player does.
fn got(header: &[u8; HEADER_BYTES], batch: &PacketBatch, packet: &LivePacket) -> Got {
    let bytes = batch.packet_bytes(packet);
    let be32 = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    Got {
        id: u64::from_be_bytes(bytes[12..20].try_into().unwrap()),
        seq: SeqNo(u16::from_be_bytes([header[2], header[3]])),
        ts: RtpTs(be32(4)),
        ssrc: Ssrc(be32(8)),
        is_sync: bytes[20] == 1,
        is_untouched: header[..] == bytes[..HEADER_BYTES],
    }
}

/// The same limit as the ring's.
const RUN_PACKETS_MAX: usize = 16;
/// No packet of the camera is longer.
const PACKET_BYTES_MAX: usize = 1_500;
