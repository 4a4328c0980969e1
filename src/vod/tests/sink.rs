//! Packets of titles in a sink that records: what a client reads in a packet, and the packet's
//! frame.

use std::convert::Infallible;
use std::sync::Arc;

use crate::base::sink::testing::{FrameRecorder, RecordedRun, SinkRecorder, Way};
use crate::library::title::Title;
use crate::media::image::{ImageRun, PacketImage};
use crate::media::window::{Frame, Packet, PacketWindow};
use crate::rtp::HEADER_BYTES;
use crate::rtp::srtp::SrtpStream;
use crate::vod::pump::{TitleFrames, TitleRun, TitleSink};
use crate::vod::stream::RunMark;

/// Sockets that take everything.
pub(crate) type TestSink = SinkRecorder<RunMark, SentPacket>;

/// A packet that was submitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentPacket {
    pub(crate) seq: u16,
    pub(crate) ts: u32,
    /// The packet's frame.
    pub(crate) frame: Frame,
}

impl TitleSink for TestSink {
    type Error = Infallible;
    type Run<'a> = RecordedRun<'a, RunMark, SentPacket>;

    fn start_title_run(&mut self, way: Way, _: Option<&SrtpStream>) -> Option<Self::Run<'_>> {
        Some(self.start(way))
    }
}

impl TitleRun for RecordedRun<'_, RunMark, SentPacket> {
    type Error = Infallible;

    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        _: &Arc<Title>,
    ) -> Result<bool, Infallible> {
        Ok(self.try_push(packet.payload_bytes, || sent_packet(header, window, packet)))
    }

    fn set_image(
        &mut self,
        window: &PacketWindow,
        image: &Arc<PacketImage>,
        part: &ImageRun,
    ) -> bool {
        if self.len() > 0 || (self.is_plain() && part.packets > 1) {
            return false;
        }
        let mut bytes = image.bytes_of(part).unwrap();
        let mut packets = Vec::new();
        for packet_index in part.packet_index..part.packet_index + u32::from(part.packets) {
            let packet = window.packet(packet_index).unwrap();
            let payload = usize::from(packet.payload_bytes);
            let (this, rest) = bytes.split_at(HEADER_BYTES + payload);
            let header = this.first_chunk().unwrap();
            packets.push(sent_packet(header, window, packet));
            bytes = rest;
        }
        assert!(bytes.is_empty());
        self.fill(packets.into_iter());
        true
    }

    fn submit(self, mark: RunMark) {
        assert_eq!(usize::from(mark.packets), self.len());
        self.record(mark);
    }
}

impl TitleFrames for FrameRecorder<SentPacket> {
    type Error = Infallible;

    fn push_packet(
        &mut self,
        (channel, _): (u8, Option<&SrtpStream>),
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        _: &Arc<Title>,
    ) -> Result<bool, Infallible> {
        let bytes = packet.payload_bytes;
        Ok(self.try_push(channel, bytes, || sent_packet(header, window, packet)))
    }
}

/// Fields that a client reads in a packet, and the packet's frame.
fn sent_packet(header: &[u8; HEADER_BYTES], window: &PacketWindow, packet: &Packet) -> SentPacket {
    let has_packet =
        |frame: &&Frame| window.packets(frame).as_ptr_range().contains(&(&raw const *packet));
    let frame = *window.frames().iter().find(has_packet).expect("a packet of the window");
    assert_eq!(header[1] & 0x80 != 0, packet.marker);
    let seq = u16::from_be_bytes([header[2], header[3]]);
    let ts = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    SentPacket { seq, ts, frame }
}
