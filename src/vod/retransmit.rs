//! Which packets of a stream can be sent again (RFC 4585 NACK, RFC 4588 RTX): no packet is kept,
//! only where each came from.
//!
//! ```text
//! marks    [seq 700, 18 packets: window 4, packet 210, ts][seq 718, 2 packets: ..] ..  256 at most
//! windows  4 -> descriptors    3 -> descriptors           the present one and the one before
//! NACK 705 -> mark 700 -> window 4, packet 215 -> the same bytes of the file, RTX header in front
//! ```
//! A mark is a frame, or the part of it that went out in a turn: sixteen bytes, for a second or two
//! of any stream. Two windows are about four seconds.
//! Invariants: a number is answered with the packet that bore it, or not at all (what was rewound
//! is forgotten); what is sent again is at most a quarter of what is sent, and no packet more than
//! `TRIES_MAX` times; no more numbers are looked for than packets are sent.
//! Bounds: `MARKS_MAX` marks, `TRIED_MAX` packets remembered as sent again; both are there from the
//! SETUP on, so that playing allocates nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::media::pages::Pages;
use crate::media::window::{Packet, PacketWindow};
use crate::rtp::RtxStream;
use crate::session::feedback::Refusal;

/// See the module.
#[derive(Debug)]
pub struct Resender {
    rtx: RtxStream,
    marks: VecDeque<Mark>,
    /// Newest first.
    windows: [Option<(u32, Arc<PacketWindow>)>; 2],
    /// Packets that were sent again, and how often; the newest behind.
    tried: VecDeque<(SeqNo, u8)>,
    /// Bytes that may be sent again now.
    credit: usize,
    /// Numbers that may be looked for now.
    asks: u32,
}

/// Packets with consecutive numbers that lie behind each other in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Number of the first.
    pub seq: SeqNo,
    /// How many.
    pub packets: u16,
    /// Window that they are in.
    pub window_index: u32,
    /// The first, in the window.
    pub packet_index: u32,
    /// Their time.
    pub ts: RtpTs,
}

/// A packet to send again.
#[derive(Debug)]
pub struct Again<'a> {
    /// Where its payload is.
    pub window: &'a PacketWindow,
    /// The packet.
    pub packet: &'a Packet,
    /// Its time.
    pub ts: RtpTs,
    /// What it is in the stream of retransmissions.
    pub rtx: RtxStream,
}

impl Resender {
    /// Nothing is sent yet. `random` feeds the first sequence number.
    #[must_use]
    pub fn new(payload_type: u8, ssrc: Ssrc, random: u16) -> Self {
        Self {
            rtx: RtxStream { payload_type, seq: SeqNo(random), ssrc },
            marks: VecDeque::with_capacity(MARKS_MAX),
            windows: [None, None],
            tried: VecDeque::with_capacity(TRIED_MAX),
            credit: CREDIT_AT_START,
            asks: ASKS_MAX,
        }
    }

    /// Packets are sent, with the numbers behind all others.
    pub fn handle_sent(&mut self, mark: Mark, window: &Arc<PacketWindow>, payload_bytes: u32) {
        let bytes = usize::try_from(payload_bytes).unwrap_or(usize::MAX);
        self.credit = self.credit.saturating_add(bytes / RATE_SHARE).min(CREDIT_MAX);
        self.asks = self.asks.saturating_add(mark.packets.into()).min(ASKS_MAX);
        let [newest, before] = &mut self.windows;
        match newest {
            Some((index, held)) if *index == mark.window_index => {
                // The same packets, perhaps with pages that were seen to since.
                if !Arc::ptr_eq(held, window) {
                    *held = Arc::clone(window);
                }
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
            // Numbers wrap: the next packet with one of these is another.
            self.tried.retain(|(seq, _)| !oldest.holds(*seq));
        }
        self.marks.push_back(mark);
    }

    /// From `seq` on, nothing was sent after all.
    pub fn rewind(&mut self, seq: SeqNo) {
        // Bounded by `MARKS_MAX`: each round takes one out or ends.
        while let Some(last) = self.marks.back_mut() {
            let ahead = last.seq.0.wrapping_sub(seq.0);
            if ahead > u16::MAX / 2 {
                last.packets = last.packets.min(seq.0.wrapping_sub(last.seq.0));
                return;
            }
            self.marks.pop_back();
        }
    }

    /// What was sent belongs to the past: nothing of it is sent again.
    pub fn forget(&mut self) {
        self.marks.clear();
        self.tried.clear();
        self.windows = [None, None];
    }

    /// The packet that bore a number, if it may be sent again now; from then on it counts as sent.
    ///
    /// # Errors
    /// Why it is not sent.
    pub fn handle_nack(&mut self, seq: SeqNo, now: Mono) -> Result<Again<'_>, Refusal> {
        // Whatever becomes of it: to look for numbers that were never sent costs the same.
        self.asks = self.asks.checked_sub(1).ok_or(Refusal::Rate)?;
        let mark = self.find(seq).ok_or(Refusal::Unknown)?;
        let is_its = |held: &&(u32, Arc<PacketWindow>)| held.0 == mark.window_index;
        let held = self.windows.iter().flatten().find(is_its).ok_or(Refusal::Unknown)?;
        let window = &held.1;
        let offset = u32::from(seq.0.wrapping_sub(mark.seq.0));
        let packet = window.packet(mark.packet_index + offset).ok_or(Refusal::Unknown)?;
        if window.pages(now) == Pages::Cold {
            return Err(Refusal::Cold);
        }
        let bytes = usize::from(packet.payload_bytes);
        let place = self.tried.iter().rposition(|(tried, _)| *tried == seq);
        if place.is_some_and(|place| self.tried[place].1 >= TRIES_MAX) {
            return Err(Refusal::Repeated);
        }
        self.credit = self.credit.checked_sub(bytes).ok_or(Refusal::Rate)?;
        match place {
            Some(place) => self.tried[place].1 += 1,
            None => {
                if self.tried.len() == TRIED_MAX {
                    self.tried.pop_front();
                }
                self.tried.push_back((seq, 1));
            }
        }
        let rtx = self.rtx;
        self.rtx.seq = rtx.seq.plus(1);
        Ok(Again { window, packet, ts: mark.ts, rtx })
    }

    /// Newest first: what is asked for was sent a moment ago.
    fn find(&self, seq: SeqNo) -> Option<Mark> {
        self.marks.iter().rev().find(|mark| mark.holds(seq)).copied()
    }
}

impl Mark {
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

/// Payload type of the retransmissions of a stream: each is described on its own, so one number
/// does for all.
#[must_use]
pub fn rtx_payload_type(payload_type: u8) -> u8 {
    if payload_type == RTX_PAYLOAD_TYPE { RTX_PAYLOAD_TYPE - 1 } else { RTX_PAYLOAD_TYPE }
}

/// The last dynamic one (RFC 3551): titles take theirs from the first on.
const RTX_PAYLOAD_TYPE: u8 = 127;
/// Two seconds of 120 frames; a mark of a stream with more frames than that is forgotten sooner.
const MARKS_MAX: usize = 256;
/// Packets that are lost in one round trip at 2 % of 20 Mbit/s, several times over.
const TRIED_MAX: usize = 128;
/// A player asks again when the retransmission is lost too; at 10 % loss one in a thousand packets
/// needs more.
const TRIES_MAX: u8 = 3;
/// A quarter of the stream's rate: a way that loses more than that does not get better by sending
/// more.
const RATE_SHARE: usize = 4;
/// Two of the largest bursts: what a full queue on the way loses at once.
const CREDIT_MAX: usize = 64 * 1_400;
/// A player asks for a packet that it has not got, so for no more than are sent. Two datagrams full
/// of numbers beside that.
const ASKS_MAX: u32 = 2 * 256;
/// A loss among the first packets, of a sync sample as a rule, can be answered too.
const CREDIT_AT_START: usize = 16 * 1_400;

#[cfg(test)]
#[path = "retransmit_tests.rs"]
mod tests;
