//! Sockets and connections of the tests: submitted packets are kept, or refused.
//!
//! ```text
//!  pump --packets--> TestRun --submit--> runs --taken--> Bench::sent
//!                                          `--refused, with those linked behind it--> the pump
//! ```
//! Runs have the shape of the ring's runs: equal packets, a shorter one at the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::sink::RunSink;
use crate::library::title::Title;
use crate::media::window::{Frame, Packet, PacketWindow};
use crate::rtp::HEADER_BYTES;
use crate::vod::pump::{TitleFrames, TitleRun, TitleSink};
use crate::vod::stream::RunMark;

/// A packet that was submitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentPacket {
    pub(crate) seq: u16,
    pub(crate) ts: u32,
    /// The packet's frame.
    pub(crate) frame: Frame,
}

/// A run that was submitted.
#[derive(Debug)]
pub(crate) struct SentRun {
    pub(crate) to: SocketAddr,
    pub(crate) mark: RunMark,
    pub(crate) packets: Vec<SentPacket>,
}

/// Sockets that take everything.
#[derive(Debug, Default)]
pub(crate) struct TestSink {
    pub(crate) runs: Vec<SentRun>,
}

/// A run under construction.
pub(crate) struct TestRun<'a> {
    runs: &'a mut Vec<SentRun>,
    to: SocketAddr,
    packets: Vec<SentPacket>,
    first_bytes: u16,
    has_tail: bool,
}

/// A send on a connection: packets with their channels.
#[derive(Debug, Default)]
pub(crate) struct TestFrames(pub(crate) Vec<(u8, SentPacket)>);

impl RunSink for TestSink {
    type Way = SocketAddr;

    fn way_to(&self, _: u16, client: SocketAddr) -> Option<SocketAddr> {
        Some(client)
    }

    fn has_free_run(&self) -> bool {
        true
    }
}

impl TitleSink for TestSink {
    type Error = Infallible;
    type Run<'a> = TestRun<'a>;

    fn start_title_run(&mut self, to: SocketAddr) -> Option<TestRun<'_>> {
        let (packets, first_bytes, has_tail) = (Vec::new(), 0, false);
        Some(TestRun { runs: &mut self.runs, to, packets, first_bytes, has_tail })
    }
}

impl TitleRun for TestRun<'_> {
    type Error = Infallible;

    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        _: &Arc<Title>,
    ) -> Result<bool, Infallible> {
        let bytes = packet.payload_bytes;
        if self.packets.is_empty() {
            self.first_bytes = bytes;
        }
        let fits = !self.has_tail && bytes <= self.first_bytes;
        if !fits || self.packets.len() == RUN_PACKETS_MAX {
            return Ok(false);
        }
        self.has_tail = bytes < self.first_bytes;
        self.packets.push(sent_packet(header, window, packet));
        Ok(true)
    }

    fn submit(self, mark: RunMark) {
        assert_eq!(usize::from(mark.packets), self.packets.len());
        self.runs.push(SentRun { to: self.to, mark, packets: self.packets });
    }
}

impl TitleFrames for TestFrames {
    type Error = Infallible;

    fn push_packet(
        &mut self,
        channel: u8,
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        _: &Arc<Title>,
    ) -> Result<bool, Infallible> {
        self.0.push((channel, sent_packet(header, window, packet)));
        Ok(true)
    }
}

/// Fields that a client reads in a packet, and the packet's frame.
fn sent_packet(header: &[u8; HEADER_BYTES], window: &PacketWindow, packet: &Packet) -> SentPacket {
    let is_its =
        |frame: &&Frame| window.packets(frame).as_ptr_range().contains(&(&raw const *packet));
    let frame = *window.frames().iter().find(is_its).expect("a packet of the window");
    assert_eq!(header[1] & 0x80 != 0, packet.marker);
    let seq = u16::from_be_bytes([header[2], header[3]]);
    let ts = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    SentPacket { seq, ts, frame }
}

/// The same limit as the ring's.
const RUN_PACKETS_MAX: usize = 16;
