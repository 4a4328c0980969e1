//! The wire identity of an RTP stream: SSRC, sequence numbers, RTP time and transport.
//!
//! ```text
//!  feed (a title's cursor, a live path's ring) --packets--> Outgoing --> SSRC, number, RTP time
//!                                                           transport, control URL, RTX, reports
//!  Numbers::Own      a title's stream: this type assigns and counts them, from SETUP on
//!  Numbers::Source   a live reader's stream: the path rewrites the source's headers, and counts
//!                    (`live::core::rewrite`); a run that is put back undoes both
//! ```
//! The receiver keeps the identity when another feed takes over (`vod::exchange`).
//!
//! Invariant: sequence numbers go up by one in sending order, whatever the feed is.
//! Bound: the size is fixed; control URL and newest report have memory of their own.

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::rtcp::ReportBlock;
use crate::rtp::srtp::SrtpStream;
use crate::rtp::{HEADER_BYTES, RtxStream, write_header};
use crate::session::transport::Transport;
use crate::takeover::v1::{
    NumbersRecord, OutgoingRecord, ReportRecord, RtxRecord, TransportRecord,
};

/// The wire identity of one stream. The fields that each send reads come first.
#[derive(Debug)]
#[repr(C)]
pub struct Outgoing {
    /// Payload type of the packets. Of several in a description it is the first.
    pub payload_type: u8,
    /// Rate of the RTP timestamps.
    pub clock_rate_hz: u32,
    /// The state from which RTP headers are written.
    pub numbers: Numbers,
    /// UDP addresses, interleaved channels or multicast group of the packets.
    pub transport: Transport,
    /// SRTP of the stream; `None`: it is sent in the clear.
    pub srtp: Option<SrtpStream>,
    /// Retransmission stream (RFC 4588); `None` when the player has not negotiated one.
    pub rtx: Option<RtxStream>,
    /// Newest receiver report of the player.
    pub report: Option<Box<Report>>,
    /// Control URL as the client spelled it in SETUP: RTP-Info must repeat it (client rule C6).
    pub control_url: Box<str>,
}

/// The wire identity of a stream without keys, on its way to another shard or process.
#[derive(Debug)]
pub struct PackedOutgoing {
    payload_type: u8,
    clock_rate_hz: u32,
    numbers: Numbers,
    /// A pair is named by its place on the home of the session.
    pub transport: Transport,
    rtx: Option<RtxStream>,
    report: Option<Box<Report>>,
    control_url: Box<str>,
}

/// The origin of a stream's SSRC, sequence numbers and RTP time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// The server assigns them.
    Own(Own),
    /// The source assigns them, until the first break. The SSRC is `None` until the first packet
    /// is sent.
    Source(Option<Ssrc>),
}

/// Numbers that the server assigns, and the counts of what was sent with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// SSRC of every packet and sender report of the stream.
    pub ssrc: Ssrc,
    /// Sequence number of the next packet.
    pub seq: SeqNo,
    /// RTP time at the start of the stream's clock. The clock runs on when the feed is exchanged.
    pub ts_zero: RtpTs,
    /// Counts for sender reports.
    pub sent: Sent,
}

/// Counters of a stream (RFC 3550 s6.4.1: packet count, octet count).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// RTP packets, those in flight included.
    pub packets: u64,
    /// Bytes of these packets without RTP headers.
    pub payload_bytes: u64,
}

/// Newest receiver report on a stream.
#[derive(Debug, Clone)]
pub struct Report {
    /// The report block about this stream, as received.
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
            srtp: None,
            rtx: None,
            report: None,
            control_url: control_url.into_boxed_str(),
        }
    }

    /// SSRC of the stream; `None` before the first packet of a source.
    #[must_use]
    pub fn ssrc(&self) -> Option<Ssrc> {
        match self.numbers {
            Numbers::Own(own) => Some(own.ssrc),
            Numbers::Source(ssrc) => ssrc,
        }
    }

    /// The server's numbers; `None` when the source assigns them.
    #[must_use]
    pub fn own(&self) -> Option<&Own> {
        match &self.numbers {
            Numbers::Own(own) => Some(own),
            Numbers::Source(_) => None,
        }
    }

    /// The server's numbers, mutable; `None` when the source assigns them.
    pub fn own_mut(&mut self) -> Option<&mut Own> {
        match &mut self.numbers {
            Numbers::Own(own) => Some(own),
            Numbers::Source(_) => None,
        }
    }

    /// Counts of what was sent; zero when the source assigns the numbers.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.own().map(|own| own.sent).unwrap_or_default()
    }

    /// RTP header of the packet that is `ahead` packets after the next one. `None` when the source
    /// assigns the numbers, because its packets bring their headers.
    #[must_use]
    pub fn header(&self, ahead: u16, marker: bool, ts: RtpTs) -> Option<[u8; HEADER_BYTES]> {
        let own = self.own()?;
        let mut header = [0; HEADER_BYTES];
        let seq = own.seq.plus(ahead);
        write_header(&mut header, marker, self.payload_type, seq, ts, own.ssrc);
        Some(header)
    }

    /// Other packets follow. With SRTP no number that was used is used again, not even that of a
    /// packet which the socket refused or will refuse.
    pub fn follow_with_others(&mut self) {
        let ssrc = self.ssrc();
        let next = self.srtp.as_ref().zip(ssrc).and_then(|(srtp, ssrc)| srtp.close(ssrc));
        if let (Some(next), Some(own)) = (next, self.own_mut()) {
            own.skip_to(next);
        }
    }

    /// The socket refused the packets from `seq` on: the same ones are sent again. False: `seq` is
    /// not behind the next number, or with SRTP other packets follow since, so these are lost.
    pub fn rewind(&mut self, seq: SeqNo) -> bool {
        let srtp = self.srtp.clone();
        let Some(own) = self.own_mut().filter(|own| own.is_behind(seq)) else { return false };
        srtp.is_none_or(|srtp| srtp.rewind(own.ssrc, seq)) && own.rewind(seq)
    }

    /// Packs an identity that has no keys.
    #[must_use]
    pub fn pack(self, transport: Transport) -> PackedOutgoing {
        debug_assert!(self.srtp.is_none(), "keys stay on their shard");
        PackedOutgoing {
            payload_type: self.payload_type,
            clock_rate_hz: self.clock_rate_hz,
            numbers: self.numbers,
            transport,
            rtx: self.rtx,
            report: self.report,
            control_url: self.control_url,
        }
    }

    /// For another process; `None` for what is not handed over. `pair_of` finds the place of a pair
    /// in the record of the shard.
    #[must_use]
    pub fn record(&self, pair_of: &dyn Fn(u16) -> Option<u32>) -> Option<OutgoingRecord> {
        if self.srtp.is_some() {
            return None;
        }
        let numbers = match self.numbers {
            Numbers::Own(own) => NumbersRecord::Own {
                ssrc: own.ssrc.0,
                seq: own.seq.0,
                ts_zero: own.ts_zero.0,
                packets: own.sent.packets,
                payload_bytes: own.sent.payload_bytes,
            },
            Numbers::Source(ssrc) => NumbersRecord::Source { ssrc: ssrc.map(|ssrc| ssrc.0) },
        };
        let transport = match self.transport {
            Transport::Udp { pair, rtp, rtcp } => {
                TransportRecord::Udp { pair: pair_of(pair)?, rtp, rtcp }
            }
            Transport::Tcp { channel, rtcp_channel } => {
                TransportRecord::Tcp { channel, rtcp_channel }
            }
            Transport::Group { .. } => return None,
        };
        Some(OutgoingRecord {
            payload_type: self.payload_type,
            clock_rate_hz: self.clock_rate_hz,
            numbers,
            transport,
            rtx: self.rtx.map(|RtxStream { payload_type, seq, ssrc }| RtxRecord {
                payload_type,
                seq: seq.0,
                ssrc: ssrc.0,
            }),
            report: self.report.as_deref().map(Report::record),
            control_url: self.control_url.to_string(),
        })
    }

    /// Stores a receiver report in place of the one before.
    pub fn note_report(&mut self, block: ReportBlock, round_trip_ns: Option<u64>) {
        let report = Report { block, round_trip_ns };
        match &mut self.report {
            Some(place) => **place = report,
            None => self.report = Some(Box::new(report)),
        }
    }
}

impl Report {
    fn record(&self) -> ReportRecord {
        let ReportBlock {
            sender_ssrc,
            ssrc,
            fraction_lost,
            cumulative_lost,
            ext_highest_seq,
            jitter,
            lsr,
            dlsr,
        } = self.block;
        ReportRecord {
            sender_ssrc,
            ssrc,
            fraction_lost,
            cumulative_lost,
            ext_highest_seq,
            jitter,
            lsr,
            dlsr,
            round_trip_ns: self.round_trip_ns,
        }
    }

    fn of(record: ReportRecord) -> Self {
        let ReportRecord {
            sender_ssrc,
            ssrc,
            fraction_lost,
            cumulative_lost,
            ext_highest_seq,
            jitter,
            lsr,
            dlsr,
            round_trip_ns,
        } = record;
        let block = ReportBlock {
            sender_ssrc,
            ssrc,
            fraction_lost,
            cumulative_lost,
            ext_highest_seq,
            jitter,
            lsr,
            dlsr,
        };
        Self { block, round_trip_ns }
    }
}

impl PackedOutgoing {
    /// As another process has told. `pair_of` finds the pair that has a place in its record.
    /// `None`: there is no such pair.
    #[must_use]
    pub fn of(record: OutgoingRecord, pair_of: &dyn Fn(u32) -> Option<u16>) -> Option<Self> {
        let numbers = match record.numbers {
            NumbersRecord::Own { ssrc, seq, ts_zero, packets, payload_bytes } => {
                let sent = Sent { packets, payload_bytes };
                let (ssrc, seq, ts_zero) = (Ssrc(ssrc), SeqNo(seq), RtpTs(ts_zero));
                Numbers::Own(Own { ssrc, seq, ts_zero, sent })
            }
            NumbersRecord::Source { ssrc } => Numbers::Source(ssrc.map(Ssrc)),
        };
        let transport = match record.transport {
            TransportRecord::Udp { pair, rtp, rtcp } => {
                Transport::Udp { pair: pair_of(pair)?, rtp, rtcp }
            }
            TransportRecord::Tcp { channel, rtcp_channel } => {
                Transport::Tcp { channel, rtcp_channel }
            }
        };
        Some(Self {
            payload_type: record.payload_type,
            clock_rate_hz: record.clock_rate_hz,
            numbers,
            transport,
            rtx: record.rtx.map(|RtxRecord { payload_type, seq, ssrc }| RtxStream {
                payload_type,
                seq: SeqNo(seq),
                ssrc: Ssrc(ssrc),
            }),
            report: record.report.map(|report| Box::new(Report::of(report))),
            control_url: record.control_url.into_boxed_str(),
        })
    }

    /// Whether its client has negotiated retransmissions.
    #[must_use]
    pub fn has_rtx(&self) -> bool {
        self.rtx.is_some()
    }

    /// The identity, as it was packed.
    #[must_use]
    pub fn unpack(self) -> Outgoing {
        Outgoing {
            payload_type: self.payload_type,
            clock_rate_hz: self.clock_rate_hz,
            numbers: self.numbers,
            transport: self.transport,
            srtp: None,
            rtx: self.rtx,
            report: self.report,
            control_url: self.control_url,
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

    /// The same for a stream that has sent nothing and is encrypted: see [`low_half`].
    #[must_use]
    pub fn for_srtp(self) -> Self {
        Self { seq: low_half(self.seq), ..self }
    }

    /// Uses up sequence numbers for the packets that are built next, and counts them as sent.
    pub fn take(&mut self, packets: u16, payload_bytes: u32) {
        self.seq = self.seq.plus(packets);
        self.sent.packets += u64::from(packets);
        self.sent.payload_bytes += u64::from(payload_bytes);
    }

    /// Takes packets out of the counts: they were counted as sent and the socket refused them.
    pub fn uncount(&mut self, packets: u16, payload_bytes: u32) {
        self.sent.packets = self.sent.packets.saturating_sub(u64::from(packets));
        self.sent.payload_bytes = self.sent.payload_bytes.saturating_sub(u64::from(payload_bytes));
    }

    /// Makes `seq` the next sequence number, unless it is behind that.
    fn skip_to(&mut self, seq: SeqNo) {
        if seq.0.wrapping_sub(self.seq.0) <= u16::MAX / 2 {
            self.seq = seq;
        }
    }

    /// Makes `seq` the next sequence number again, because the socket refused the packets from
    /// there on. False when `seq` is not behind the next number.
    pub fn rewind(&mut self, seq: SeqNo) -> bool {
        let is_behind = self.is_behind(seq);
        if is_behind {
            self.seq = seq;
        }
        is_behind
    }

    fn is_behind(&self, seq: SeqNo) -> bool {
        let behind = self.seq.0.wrapping_sub(seq.0);
        behind != 0 && behind <= u16::MAX / 2
    }
}

/// A first sequence number that is 2^15 packets from its wrap at least: a client of SRTP that has
/// lost the packets before the wrap does not know of it (RFC 3711 s3.3.1).
#[must_use]
pub fn low_half(seq: SeqNo) -> SeqNo {
    SeqNo(seq.0 & (u16::MAX >> 1))
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
    fn sequence_numbers_increase_by_one_and_step_back_over_refused_packets() {
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
    fn encrypted_stream_begins_far_from_the_first_wrap_of_its_numbers() {
        for (drawn, seq) in [(0x0000, 0), (0x7fff, 0x7fff), (0x8000, 0), (0xffff, 0x7fff)] {
            let own = Own::new(Ssrc(7), 0x0102_0304_0000_0000 | drawn << 16);
            let encrypted = own.for_srtp();
            assert_eq!(encrypted.seq, SeqNo(seq));
            assert_eq!((encrypted.ssrc, encrypted.ts_zero), (own.ssrc, own.ts_zero));
        }
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
