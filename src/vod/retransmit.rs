//! Retransmission of a stream's packets (RFC 4585 NACK, RFC 4588 RTX): no packet is kept, only the
//! place in the file that each packet came from.
//!
//! ```text
//! marks    [seq 700, 18 packets: window 4, packet 210, ts][seq 718, 2 packets: ..] ..  256 at most
//! windows  4 -> descriptors    3 -> descriptors           the present one and the one before
//! NACK 705 -> mark 700 -> window 4, packet 215 -> the same bytes of the file, RTX header in front
//! ```
//! A mark is a frame, or the part of a frame that was sent in one turn: sixteen bytes. The marks
//! cover a second or two of any stream, two windows about four seconds.
//! Invariants: a number is answered with the packet that had this number, or not at all (rewound
//! packets are forgotten); at most a quarter of what is sent is sent again, and no packet more than
//! `TRIES_MAX` times; searches are not more than packets sent.
//! The budget is another one than a live reader's (`live::core::retransmit`): it counts bytes, has
//! one of searches beside it, and may be a quarter, since a title's video is thinned on a route
//! that loses much.
//! Bounds: `MARKS_MAX` marks, `TRIED_MAX` packets remembered as sent again. Both are allocated at
//! SETUP, so that playing allocates nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::ids::{RtpTs, SeqNo};
use crate::base::time::Mono;
use crate::media::packetize::CUT;
use crate::media::pages::Pages;
use crate::media::window::{Packet, PacketWindow};
use crate::rtp::{self, RtxRefusal, RtxStream};
use crate::takeover::v1::{HistoryRecord, SentRecord};

/// The retransmission state of one stream: see the module.
#[derive(Debug)]
pub struct Resender {
    marks: VecDeque<Mark>,
    /// Windows of recent packets, the newest first.
    windows: [Option<(u32, Arc<PacketWindow>)>; 2],
    /// Packets that were sent again, with the number of times; the newest last.
    tried: VecDeque<(SeqNo, u8)>,
    /// Bytes that may be sent again now.
    credit: usize,
    /// Searches that are allowed now.
    asks: u32,
}

/// Packets with consecutive numbers that are adjacent in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Sequence number of the first packet.
    pub seq: SeqNo,
    /// Number of packets.
    pub packets: u16,
    /// Index of the packets' window.
    pub window_index: u32,
    /// Index of the first packet in the window.
    pub packet_index: u32,
    /// RTP time of the packets.
    pub ts: RtpTs,
}

/// A packet to send again.
#[derive(Debug)]
pub struct Again<'a> {
    /// Window with the payload.
    pub window: &'a PacketWindow,
    /// The packet in the window.
    pub packet: &'a Packet,
    /// RTP time of the packet.
    pub ts: RtpTs,
    /// Header fields in the stream of retransmissions.
    pub rtx: RtxStream,
}

impl Default for Resender {
    fn default() -> Self {
        Self::new()
    }
}

impl Resender {
    /// A resender before the first packet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            marks: VecDeque::with_capacity(MARKS_MAX),
            windows: [None, None],
            tried: VecDeque::with_capacity(TRIED_MAX),
            credit: CREDIT_AT_START,
            asks: ASKS_MAX,
        }
    }

    /// What may be asked for again, for another process: packets of the windows that are here. How
    /// often each was sent again is not told.
    #[must_use]
    pub fn record(&self) -> Option<HistoryRecord> {
        let is_here = |mark: &&Mark| self.window(mark.window_index).is_some();
        let sent: Vec<SentRecord> = self.marks.iter().filter(is_here).map(Mark::record).collect();
        (!sent.is_empty()).then_some(HistoryRecord { cut: CUT, sent })
    }

    /// As another process has told; the windows are to be given (`wanted`). Packets that it has
    /// cut in another way are not known.
    #[must_use]
    pub fn resumed(record: &HistoryRecord) -> Self {
        let mut resumed = Self::new();
        if record.cut == CUT {
            let excess = record.sent.len().saturating_sub(MARKS_MAX);
            let marks = record.sent.iter().skip(excess).filter_map(Mark::of);
            resumed.marks.extend(marks);
        }
        resumed
    }

    /// Windows of recent packets that are not here.
    #[must_use]
    pub fn wanted(&self) -> Vec<u32> {
        let recent = self.recent().into_iter().flatten();
        recent.filter(|index| self.window(*index).is_none()).collect()
    }

    /// Takes a window of recent packets, if it is one that is not here.
    pub fn handle_window(&mut self, index: u32, window: &Arc<PacketWindow>) {
        let place = self.recent().iter().position(|recent| *recent == Some(index));
        if let Some(place) = place.and_then(|place| self.windows.get_mut(place))
            && place.is_none()
        {
            *place = Some((index, Arc::clone(window)));
        }
    }

    /// Windows of the newest packets, and of those before.
    fn recent(&self) -> [Option<u32>; 2] {
        let newest = self.marks.back().map(|mark| mark.window_index);
        let mut before = self.marks.iter().rev().map(|mark| mark.window_index);
        [newest, before.find(|index| Some(*index) != newest)]
    }

    fn window(&self, index: u32) -> Option<&Arc<PacketWindow>> {
        let held = self.windows.iter().flatten().find(|held| held.0 == index);
        held.map(|(_, window)| window)
    }

    /// Records packets that were sent, with numbers after all earlier ones.
    pub fn handle_sent(&mut self, mark: Mark, window: &Arc<PacketWindow>, payload_bytes: u32) {
        let bytes = usize::try_from(payload_bytes).unwrap_or(usize::MAX);
        self.credit = self.credit.saturating_add(bytes / RATE_SHARE).min(CREDIT_MAX);
        self.asks = self.asks.saturating_add(mark.packets.into()).min(ASKS_MAX);
        let [newest, before] = &mut self.windows;
        match newest {
            Some((index, held)) if *index == mark.window_index => {
                // The same packets, perhaps with pages that were read again since.
                if !Arc::ptr_eq(held, window) {
                    *held = Arc::clone(window);
                }
            }
            // It was asked for, for packets of another process, and has not come.
            None if self
                .marks
                .back()
                .is_some_and(|last| last.window_index == mark.window_index) =>
            {
                *newest = Some((mark.window_index, Arc::clone(window)));
            }
            _ => *before = newest.replace((mark.window_index, Arc::clone(window))),
        }
        if let Some(last) = self.marks.back_mut()
            && last.continues_with(&mark)
            && let Some(packets) = last.packets.checked_add(mark.packets)
        {
            last.packets = packets;
            return;
        }
        if self.marks.len() == MARKS_MAX
            && let Some(oldest) = self.marks.pop_front()
        {
            // Numbers wrap: the next packet with such a number is another packet.
            self.tried.retain(|(seq, _)| !oldest.holds(*seq));
        }
        self.marks.push_back(mark);
    }

    /// Forgets the packets from `seq` on: they were not sent after all.
    pub fn rewind(&mut self, seq: SeqNo) {
        // Bounded by `MARKS_MAX`: each round takes one mark out or ends.
        while let Some(last) = self.marks.back_mut() {
            let ahead = last.seq.0.wrapping_sub(seq.0);
            if ahead > u16::MAX / 2 {
                last.packets = last.packets.min(seq.0.wrapping_sub(last.seq.0));
                return;
            }
            self.marks.pop_back();
        }
    }

    /// Forgets all packets: none of them is sent again.
    pub fn forget(&mut self) {
        self.marks.clear();
        self.tried.clear();
        self.windows = [None, None];
    }

    /// The packet with a number, if it may be sent again now; the packet then counts as sent again,
    /// in the stream `rtx`.
    ///
    /// # Errors
    /// The cause, when the packet is not sent again.
    pub fn handle_nack(
        &mut self,
        seq: SeqNo,
        now: Mono,
        rtx: &mut RtxStream,
    ) -> Result<Again<'_>, RtxRefusal> {
        // Before the search: a search for numbers that were never sent costs as much.
        self.asks = self.asks.checked_sub(1).ok_or(RtxRefusal::Rate)?;
        let mark = self.find(seq).ok_or(RtxRefusal::Unknown)?;
        let held = self.windows.iter().flatten().find(|held| held.0 == mark.window_index);
        let (_, window) = held.ok_or(RtxRefusal::Unknown)?;
        let offset = u32::from(seq.0.wrapping_sub(mark.seq.0));
        let packet = window.packet(mark.packet_index + offset).ok_or(RtxRefusal::Unknown)?;
        if window.pages(now) == Pages::Cold {
            return Err(RtxRefusal::Cold);
        }
        let bytes = usize::from(packet.payload_bytes);
        let place = self.tried.iter().rposition(|(tried, _)| *tried == seq);
        if place.is_some_and(|place| self.tried[place].1 >= TRIES_MAX) {
            return Err(RtxRefusal::Repeated);
        }
        self.credit = self.credit.checked_sub(bytes).ok_or(RtxRefusal::Rate)?;
        match place {
            Some(place) => self.tried[place].1 += 1,
            None => {
                if self.tried.len() == TRIED_MAX {
                    self.tried.pop_front();
                }
                self.tried.push_back((seq, 1));
            }
        }
        let own = *rtx;
        rtx.seq = own.seq.plus(1);
        Ok(Again { window, packet, ts: mark.ts, rtx: own })
    }

    /// The newest mark first: a requested packet was sent a moment ago.
    fn find(&self, seq: SeqNo) -> Option<Mark> {
        self.marks.iter().rev().find(|mark| mark.holds(seq)).copied()
    }
}

impl Mark {
    fn record(&self) -> SentRecord {
        let Self { seq, packets, window_index, packet_index, ts } = *self;
        SentRecord { seq: seq.0, packets, window: window_index, packet: packet_index, ts: ts.0 }
    }

    /// `None`: no window has as many packets.
    fn of(record: &SentRecord) -> Option<Self> {
        let SentRecord { seq, packets, window, packet, ts } = *record;
        packet.checked_add(u32::from(packets))?;
        let (seq, ts) = (SeqNo(seq), RtpTs(ts));
        Some(Self { seq, packets, window_index: window, packet_index: packet, ts })
    }

    fn holds(&self, seq: SeqNo) -> bool {
        seq.0.wrapping_sub(self.seq.0) < self.packets
    }

    fn continues_with(&self, next: &Self) -> bool {
        self.seq.plus(self.packets) == next.seq
            && self.window_index == next.window_index
            && self.packet_index + u32::from(self.packets) == next.packet_index
            && self.ts == next.ts
    }
}

/// Payload type of a stream's retransmissions: each stream has its own description, so one payload
/// type serves all streams.
#[must_use]
pub fn rtx_payload_type(payload_type: u8) -> u8 {
    rtp::rtx_payload_type(&[payload_type]).unwrap_or(payload_type)
}

/// Two seconds of 120 frames; a stream with more frames a second forgets its marks sooner.
const MARKS_MAX: usize = 256;
/// Packets that are lost in one round trip at 2 % of 20 Mbit/s, several times over.
const TRIED_MAX: usize = 128;
/// A player asks again when the retransmission is lost, too; at 10 % loss one in a thousand packets
/// needs more tries.
const TRIES_MAX: u8 = 3;
/// A quarter of the stream's rate: a route that loses more does not get better by sending more.
const RATE_SHARE: usize = 4;
/// Two of the largest bursts: the loss of one full queue on the route.
const CREDIT_MAX: usize = 64 * 1_400;
/// A player asks for packets that it has not got, so for no more than are sent. Two datagrams full
/// of numbers come on top.
const ASKS_MAX: u32 = 2 * 256;
/// A loss among the first packets, as a rule of a sync sample, can be answered, too.
const CREDIT_AT_START: usize = 16 * 1_400;

#[cfg(test)]
#[path = "retransmit_tests.rs"]
mod tests;
