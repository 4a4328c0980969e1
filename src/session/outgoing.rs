//! The wire identity of an RTP stream: what its receiver knows it by, whatever feeds it.
//!
//! ```text
//!  feed (a title's cursor, a live path's ring) --packets--> Outgoing --> SSRC, number, RTP time
//!                                                           transport, control URL, RTX, reports
//!  Numbers::Own      counted here: a title's stream, from its SETUP on
//!  Numbers::Source   the source's headers byte for byte until the first break; the path maps and
//!                    counts them (`live::core::switch`), since a run put back undoes both
//! ```
//! A feed is exchanged under its `Outgoing`, which goes on from where it is (`vod::exchange`).
//!
//! Invariant: numbers are given out in sending order and go on by one, whatever the feed is.
//! Bound: a fixed size; its control URL and its newest report stand apart.

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::rtcp::ReportBlock;
use crate::rtp::{HEADER_BYTES, RtxStream, write_header};
use crate::session::transport::Transport;

/// See the module. What each send reads stands first.
#[derive(Debug)]
#[repr(C)]
pub struct Outgoing {
    /// RTP payload type; the first one of a description that names several.
    pub payload_type: u8,
    /// RTP clock.
    pub clock_rate_hz: u32,
    /// SSRC, sequence numbers and RTP time.
    pub numbers: Numbers,
    /// How its packets travel.
    pub transport: Transport,
    /// The stream that packets are sent again in; `None` for a player that did not ask for it.
    pub rtx: Option<RtxStream>,
    /// What the player last reported.
    pub report: Option<Box<Report>>,
    /// Control URL as the client spelled it in SETUP: RTP-Info must repeat it (client rule C6).
    pub control_url: Box<str>,
}

/// Who gives a stream its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// We do.
    Own(Own),
    /// Its source does, until its first break. The SSRC is known once a packet has gone out.
    Source(Option<Ssrc>),
}

/// Numbers that are counted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Our SSRC.
    pub ssrc: Ssrc,
    /// Sequence number of the next packet.
    pub seq: SeqNo,
    /// RTP time at the start of the stream's clock, which runs on through every change of feed.
    pub ts_zero: RtpTs,
    /// What was sent.
    pub sent: Sent,
}

/// Counters of a stream (RFC 3550 s6.4.1: packet count, octet count).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// RTP packets.
    pub packets: u64,
    /// RTP payload bytes.
    pub payload_bytes: u64,
}

/// Newest receiver report on a stream.
#[derive(Debug, Clone)]
pub struct Report {
    /// As received.
    pub block: ReportBlock,
    /// Round-trip time, when the report allows to compute it.
    pub round_trip_ns: Option<u64>,
}

impl Outgoing {
    /// An identity that has sent nothing.
    #[must_use]
    pub fn new(
        (payload_type, clock_rate_hz): (u8, u32),
        numbers: Numbers,
        transport: Transport,
        control_url: String,
    ) -> Self {
        Self {
            payload_type,
            clock_rate_hz,
            numbers,
            transport,
            rtx: None,
            report: None,
            control_url: control_url.into_boxed_str(),
        }
    }

    /// Its SSRC; `None` before the first packet of a source.
    #[must_use]
    pub fn ssrc(&self) -> Option<Ssrc> {
        match self.numbers {
            Numbers::Own(own) => Some(own.ssrc),
            Numbers::Source(ssrc) => ssrc,
        }
    }

    /// Numbers that are counted here.
    #[must_use]
    pub fn own(&self) -> Option<&Own> {
        match &self.numbers {
            Numbers::Own(own) => Some(own),
            Numbers::Source(_) => None,
        }
    }

    /// As `own`, to change them.
    pub fn own_mut(&mut self) -> Option<&mut Own> {
        match &mut self.numbers {
            Numbers::Own(own) => Some(own),
            Numbers::Source(_) => None,
        }
    }

    /// What was sent, as far as it is counted here.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.own().map(|own| own.sent).unwrap_or_default()
    }

    /// The header of the packet that is `ahead` packets after the next one. Packets of a source
    /// have theirs.
    #[must_use]
    pub fn header(&self, ahead: u16, marker: bool, ts: RtpTs) -> Option<[u8; HEADER_BYTES]> {
        let own = self.own()?;
        let mut header = [0; HEADER_BYTES];
        let seq = own.seq.plus(ahead);
        write_header(&mut header, marker, self.payload_type, seq, ts, own.ssrc);
        Some(header)
    }

    /// The newest receiver report.
    pub fn note_report(&mut self, block: ReportBlock, round_trip_ns: Option<u64>) {
        let report = Report { block, round_trip_ns };
        match &mut self.report {
            Some(place) => **place = report,
            None => self.report = Some(Box::new(report)),
        }
    }
}

impl Own {
    /// Numbers of a stream that has sent nothing. `random` feeds sequence number and timestamp,
    /// which RFC 3550 s5.1 wants to be unpredictable.
    #[must_use]
    pub fn new(ssrc: Ssrc, random: u64) -> Self {
        let [a, b, c, d, e, f, ..] = random.to_be_bytes();
        let (ts_zero, seq) = (RtpTs(u32::from_be_bytes([a, b, c, d])), u16::from_be_bytes([e, f]));
        Self { ssrc, seq: SeqNo(seq), ts_zero, sent: Sent::default() }
    }

    /// Gives numbers to the packets that are built next, and counts them as sent.
    pub fn take(&mut self, packets: u16, payload_bytes: u32) {
        self.seq = self.seq.plus(packets);
        self.sent.packets += u64::from(packets);
        self.sent.payload_bytes += u64::from(payload_bytes);
    }

    /// Packets counted as sent are not.
    pub fn uncount(&mut self, packets: u16, payload_bytes: u32) {
        self.sent.packets = self.sent.packets.saturating_sub(u64::from(packets));
        self.sent.payload_bytes = self.sent.payload_bytes.saturating_sub(u64::from(payload_bytes));
    }

    /// From `seq` on, no number was used after all. False when it is not behind the next one.
    pub fn rewind(&mut self, seq: SeqNo) -> bool {
        let behind = self.seq.0.wrapping_sub(seq.0);
        let is_behind = behind != 0 && behind <= u16::MAX / 2;
        if is_behind {
            self.seq = seq;
        }
        is_behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO_GROUP: Transport = {
        use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
        let at = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 1), 5_000));
        Transport::Group { rtp: at, rtcp: at }
    };

    #[test]
    fn numbers_go_on_by_one_and_back_over_what_was_refused() {
        let mut own = Own::new(Ssrc(7), 0x0000_0001_fffe_0000);
        own.take(3, 30);
        assert_eq!((own.seq, own.sent), (SeqNo(1), Sent { packets: 3, payload_bytes: 30 }));
        own.uncount(2, 20);
        assert!(own.rewind(SeqNo(65_535)));
        assert_eq!((own.seq, own.sent), (SeqNo(65_535), Sent { packets: 1, payload_bytes: 10 }));
        assert!(!own.rewind(SeqNo(65_535)), "nothing is behind it");
        assert!(!own.rewind(SeqNo(3)), "it is ahead");
    }

    #[test]
    fn headers_of_a_source_are_its_own() {
        let own = Numbers::Own(Own::new(Ssrc(7), 0x0000_0001_0004_0000));
        let ours = Outgoing::new((96, 90_000), own, TO_GROUP, String::new());
        let header = ours.header(1, true, RtpTs(9)).unwrap();
        assert_eq!(header, [0x80, 0xe0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7]);
        let source = Numbers::Source(None);
        let mut theirs = Outgoing::new((96, 90_000), source, TO_GROUP, String::new());
        assert_eq!((theirs.header(0, false, RtpTs(0)), theirs.ssrc()), (None, None));
        theirs.numbers = Numbers::Source(Some(Ssrc(3)));
        assert_eq!((theirs.ssrc(), theirs.sent()), (Some(Ssrc(3)), Sent::default()));
    }
}
