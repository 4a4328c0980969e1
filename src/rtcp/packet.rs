//! Walks over a compound packet (RFC 3550 s6.1) without copying anything.
//!
//! ```text
//! [SR ...][SDES ...][NACK ...][BYE]   one datagram or interleaved frame
//!  `- Packet::SenderReport, Packet::Sdes, Packet::Nack, Packet::Bye -'
//! ```
//! Lenient: any packet type may come first (reduced size, RFC 5506), and a packet whose fields do
//! not fit into it is `Other`. The walk ends at the first packet without a sane header.
//! Bounds: what the headers count (31 blocks or sources), `NACK_PAIRS_MAX`, `FIRS_MAX`.
#![deny(clippy::indexing_slicing)]

use super::compound::SenderInfo;
use super::parse::{ReportBlock, RtcpError};
use crate::base::ids::{RtpTs, SeqNo, Ssrc};

/// One packet of a compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet<'a> {
    /// SR (RFC 3550 s6.4.1).
    SenderReport {
        /// Who reports.
        ssrc: Ssrc,
        /// Its clocks and counts.
        info: SenderInfo,
        /// What it receives.
        blocks: Blocks<'a>,
    },
    /// RR (s6.4.2).
    ReceiverReport {
        /// Who reports.
        ssrc: Ssrc,
        /// What it receives.
        blocks: Blocks<'a>,
    },
    /// SDES (s6.5).
    Sdes(Sdes<'a>),
    /// BYE (s6.6).
    Bye(Bye<'a>),
    /// Generic NACK (RFC 4585 s6.2.1).
    Nack(Nack<'a>),
    /// Picture loss indication (RFC 4585 s6.3.1).
    Pli {
        /// Who asks.
        sender: Ssrc,
        /// Of which stream.
        media: Ssrc,
    },
    /// Full intra request (RFC 5104 s4.3.1).
    Fir(Fir<'a>),
    /// APP, XR, other feedback, and what cannot be read.
    Other {
        /// Second byte.
        packet_type: u8,
    },
}

/// The packets in `bytes`. An error is the last item; where it is also the first, the bytes are
/// not RTCP at all.
#[must_use]
pub fn packets(bytes: &[u8]) -> Packets<'_> {
    Packets { rest: bytes }
}

/// See [`packets`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        match split_packet(self.rest) {
            Ok((packet, behind)) => {
                self.rest = behind;
                Some(Ok(read(packet)))
            }
            Err(_) if self.rest.is_empty() => None,
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// Report blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks<'a> {
    reporter: Ssrc,
    bytes: &'a [u8],
}

impl<'a> Blocks<'a> {
    /// Each block.
    pub fn iter(self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        let (blocks, _) = self.bytes.as_chunks::<BLOCK_BYTES>();
        blocks.iter().map(move |block| read_block(self.reporter, *block))
    }
}

/// Descriptions of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sdes<'a> {
    chunks: u8,
    bytes: &'a [u8],
}

impl<'a> Sdes<'a> {
    /// Source and canonical name of each chunk that has one. Damage ends it.
    pub fn cnames(self) -> impl Iterator<Item = (Ssrc, &'a [u8])> + use<'a> {
        let mut rest = self.bytes;
        let chunks = (0..self.chunks).map_while(move |_| {
            let (ssrc, cname, behind) = read_chunk(rest)?;
            rest = behind;
            Some(cname.map(|cname| (ssrc, cname)))
        });
        chunks.flatten()
    }
}

/// Sources that leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bye<'a> {
    sources: &'a [[u8; 4]],
    behind: &'a [u8],
}

impl<'a> Bye<'a> {
    /// Who leaves.
    pub fn sources(self) -> impl Iterator<Item = Ssrc> + use<'a> {
        self.sources.iter().map(|ssrc| Ssrc(u32::from_be_bytes(*ssrc)))
    }

    /// Why, as text that may be anything.
    #[must_use]
    pub fn reason(self) -> Option<&'a [u8]> {
        let (length, text) = self.behind.split_first()?;
        text.get(..usize::from(*length))
    }
}

/// Packets that a receiver misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack<'a> {
    /// Who misses them.
    pub sender: Ssrc,
    /// Of which stream.
    pub media: Ssrc,
    pairs: &'a [[u8; 4]],
}

impl<'a> Nack<'a> {
    /// Their numbers, 17 for each pair at most.
    pub fn lost(self) -> impl Iterator<Item = SeqNo> + use<'a> {
        self.pairs.iter().take(NACK_PAIRS_MAX).flat_map(|[high, low, mask_high, mask_low]| {
            let first = SeqNo(u16::from_be_bytes([*high, *low]));
            let mask = u16::from_be_bytes([*mask_high, *mask_low]);
            let others = (0..16u16).filter(move |bit| mask >> bit & 1 == 1);
            std::iter::once(first).chain(others.map(move |bit| first.plus(bit + 1)))
        })
    }
}

/// Requests for a key picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fir<'a> {
    /// Who asks.
    pub sender: Ssrc,
    entries: &'a [[u8; 8]],
}

impl<'a> Fir<'a> {
    /// Of which streams, each with the number of the request: the same number is a repetition.
    pub fn entries(self) -> impl Iterator<Item = (Ssrc, u8)> + use<'a> {
        self.entries
            .iter()
            .take(FIRS_MAX)
            .map(|[a, b, c, d, number, ..]| (Ssrc(u32::from_be_bytes([*a, *b, *c, *d])), *number))
    }
}

/// Cuts the first packet off, by its length field.
fn split_packet(bytes: &[u8]) -> Result<(&[u8], &[u8]), RtcpError> {
    let [first, packet_type, high, low, ..] = *bytes else { return Err(RtcpError::NotRtcp) };
    if first >> 6 != 2 || !PACKET_TYPES.contains(&packet_type) {
        return Err(RtcpError::NotRtcp);
    }
    let packet_bytes = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
    let truncated = RtcpError::Truncated { packet_bytes, have_bytes: bytes.len() };
    bytes.split_at_checked(packet_bytes).ok_or(truncated)
}

/// A packet with a sane header.
fn read(packet: &[u8]) -> Packet<'_> {
    let [first, packet_type, ..] = *packet else { return Packet::Other { packet_type: 0 } };
    let body = packet.get(4..).unwrap_or_default();
    let body = if first & PADDING_BIT == 0 { Some(body) } else { without_padding(body) };
    let count = first & COUNT_MASK;
    let read = body.and_then(|body| match (packet_type, count) {
        (SENDER_REPORT, _) => read_sender_report(body, count),
        (RECEIVER_REPORT, _) => {
            let (ssrc, behind) = split_ssrc(body)?;
            Some(Packet::ReceiverReport { ssrc, blocks: blocks(ssrc, behind, count)? })
        }
        (SDES, _) => Some(Packet::Sdes(Sdes { chunks: count, bytes: body })),
        (BYE, _) => {
            let (sources, behind) = body.split_at_checked(usize::from(count) * 4)?;
            Some(Packet::Bye(Bye { sources: sources.as_chunks().0, behind }))
        }
        (TRANSPORT_FEEDBACK, FMT_NACK) => {
            let (sender, media, behind) = split_feedback(body)?;
            Some(Packet::Nack(Nack { sender, media, pairs: behind.as_chunks().0 }))
        }
        (PAYLOAD_FEEDBACK, FMT_PLI) => {
            split_feedback(body).map(|(sender, media, _)| Packet::Pli { sender, media })
        }
        (PAYLOAD_FEEDBACK, FMT_FIR) => {
            let (sender, _, behind) = split_feedback(body)?;
            Some(Packet::Fir(Fir { sender, entries: behind.as_chunks().0 }))
        }
        _ => None,
    });
    read.unwrap_or(Packet::Other { packet_type })
}

fn read_sender_report(body: &[u8], count: u8) -> Option<Packet<'_>> {
    let (ssrc, behind) = split_ssrc(body)?;
    let (ntp, behind) = behind.split_first_chunk()?;
    let (rtp_ts, behind) = behind.split_first_chunk()?;
    let (packet_count, behind) = behind.split_first_chunk()?;
    let (octet_count, behind) = behind.split_first_chunk()?;
    let info = SenderInfo {
        ntp: u64::from_be_bytes(*ntp),
        rtp_ts: RtpTs(u32::from_be_bytes(*rtp_ts)),
        packet_count: u32::from_be_bytes(*packet_count),
        octet_count: u32::from_be_bytes(*octet_count),
    };
    Some(Packet::SenderReport { ssrc, info, blocks: blocks(ssrc, behind, count)? })
}

fn blocks(reporter: Ssrc, behind: &[u8], count: u8) -> Option<Blocks<'_>> {
    let bytes = behind.get(..usize::from(count) * BLOCK_BYTES)?;
    Some(Blocks { reporter, bytes })
}

fn read_block(reporter: Ssrc, block: [u8; BLOCK_BYTES]) -> ReportBlock {
    let mut words = block.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
    let mut word = || words.next().unwrap_or_default();
    let (ssrc, loss) = (word(), word());
    let [fraction_lost, ..] = loss.to_be_bytes();
    ReportBlock {
        sender_ssrc: reporter.0,
        ssrc,
        fraction_lost,
        // 24 bits with a sign.
        cumulative_lost: (loss << 8).cast_signed() >> 8,
        ext_highest_seq: word(),
        jitter: word(),
        lsr: word(),
        dlsr: word(),
    }
}

/// One chunk of an SDES packet: source, CNAME if it is there, and what stands behind.
fn read_chunk(bytes: &[u8]) -> Option<(Ssrc, Cname<'_>, &[u8])> {
    let (ssrc, mut rest) = split_ssrc(bytes)?;
    let mut cname = None;
    // A list of items ends with a zero, or with the packet.
    while let Some((item, behind)) = rest.split_first() {
        if *item == SDES_END {
            break;
        }
        let (length, behind) = behind.split_first()?;
        let (text, behind) = behind.split_at_checked(usize::from(*length))?;
        if *item == SDES_CNAME {
            cname = cname.or(Some(text));
        }
        rest = behind;
    }
    // The next chunk begins at a multiple of four; the zero itself is at least one byte.
    let used_bytes = bytes.len() - rest.len();
    let end = (used_bytes + 1).next_multiple_of(4).min(bytes.len());
    Some((ssrc, cname, bytes.get(end..).unwrap_or_default()))
}

type Cname<'a> = Option<&'a [u8]>;

fn split_ssrc(bytes: &[u8]) -> Option<(Ssrc, &[u8])> {
    let (ssrc, behind) = bytes.split_first_chunk()?;
    Some((Ssrc(u32::from_be_bytes(*ssrc)), behind))
}

fn split_feedback(bytes: &[u8]) -> Option<(Ssrc, Ssrc, &[u8])> {
    let (sender, behind) = split_ssrc(bytes)?;
    let (media, behind) = split_ssrc(behind)?;
    Some((sender, media, behind))
}

/// RFC 3550 s6.4.1: the last byte counts the padding, itself included.
fn without_padding(body: &[u8]) -> Option<&[u8]> {
    let padding_bytes = usize::from(*body.last()?);
    body.get(..body.len().checked_sub(padding_bytes.max(1))?)
}

/// Pairs of one NACK at most: 17 packets each, far more than a receiver can still use.
pub const NACK_PAIRS_MAX: usize = 64;

/// Requests of one FIR packet at most: a presentation has few streams.
pub const FIRS_MAX: usize = 64;

/// RFC 5761 s4: what tells RTCP from RTP with a marker.
const PACKET_TYPES: std::ops::RangeInclusive<u8> = 192..=223;
const PADDING_BIT: u8 = 0x20;
const COUNT_MASK: u8 = 31;
pub(super) const SENDER_REPORT: u8 = 200;
pub(super) const RECEIVER_REPORT: u8 = 201;
pub(super) const SDES: u8 = 202;
pub(super) const BYE: u8 = 203;
pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
pub(super) const FMT_NACK: u8 = 1;
pub(super) const FMT_PLI: u8 = 1;
pub(super) const FMT_FIR: u8 = 4;
const SDES_END: u8 = 0;
pub(super) const SDES_CNAME: u8 = 1;
const BLOCK_BYTES: usize = 24;

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
