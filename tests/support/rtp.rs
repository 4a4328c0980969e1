//! RTP and RTCP read back (RFC 3550 s5.1, s6.4).
//!
//! Written apart from the product's own code on purpose: a mistake there must not be repeated here.

/// One RTP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rtp {
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) seq: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload: Vec<u8>,
}

impl Rtp {
    /// # Panics
    /// When `bytes` is no RTP packet of version 2.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        assert!(bytes.len() > 12, "RTP packet of {} bytes", bytes.len());
        assert_eq!(bytes[0] >> 6, 2, "RTP version");
        let csrc_bytes = usize::from(bytes[0] & 0x0f) * 4;
        let mut payload = &bytes[12 + csrc_bytes..];
        if bytes[0] & 0x10 != 0 {
            let words = usize::from(u16::from_be_bytes([payload[2], payload[3]]));
            payload = &payload[4 + words * 4..];
        }
        if bytes[0] & 0x20 != 0 {
            let padding = usize::from(*payload.last().unwrap());
            payload = &payload[..payload.len() - padding];
        }
        Self {
            payload_type: bytes[1] & 0x7f,
            marker: bytes[1] & 0x80 != 0,
            seq: u16::from_be_bytes([bytes[2], bytes[3]]),
            timestamp: word(bytes, 4),
            ssrc: word(bytes, 8),
            payload: payload.to_vec(),
        }
    }
}

/// One RTCP packet of a compound.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rtcp {
    SenderReport { ssrc: u32, ntp: u64, timestamp: u32, packets: u32, bytes: u32 },
    SourceDescription { ssrc: u32, cname: Option<String> },
    Bye { ssrcs: Vec<u32> },
    Other { packet_type: u8 },
}

/// Packets of a compound, in order.
///
/// # Panics
/// When `bytes` is not a well-formed compound that begins with a report (RFC 3550 s6.1).
pub(crate) fn parse_compound(bytes: &[u8]) -> Vec<Rtcp> {
    let mut packets = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        assert!(rest.len() >= 4 && rest[0] >> 6 == 2, "RTCP header in {bytes:02x?}");
        let length = 4 + 4 * usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        assert!(rest.len() >= length, "RTCP packet is cut: {bytes:02x?}");
        packets.push(parse_one(&rest[..length]));
        rest = &rest[length..];
    }
    assert!(
        matches!(bytes[1], 200 | 201),
        "a compound begins with a report, this one with {}",
        bytes[1]
    );
    packets
}

fn parse_one(packet: &[u8]) -> Rtcp {
    let count = usize::from(packet[0] & 0x1f);
    match packet[1] {
        200 => Rtcp::SenderReport {
            ssrc: word(packet, 4),
            ntp: u64::from(word(packet, 8)) << 32 | u64::from(word(packet, 12)),
            timestamp: word(packet, 16),
            packets: word(packet, 20),
            bytes: word(packet, 24),
        },
        202 => Rtcp::SourceDescription { ssrc: word(packet, 4), cname: cname(&packet[8..]) },
        203 => Rtcp::Bye { ssrcs: (0..count).map(|i| word(packet, 4 + 4 * i)).collect() },
        packet_type => Rtcp::Other { packet_type },
    }
}

fn cname(mut items: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = items {
        let (text, next) = rest.split_at(usize::from(*length));
        match kind {
            0 => return None,
            1 => return Some(String::from_utf8(text.to_vec()).unwrap()),
            _ => items = next,
        }
    }
    None
}

/// A compound of receiver report and SDES, as a player sends it (RFC 3550 s6.4.2).
pub(crate) fn receiver_report(own_ssrc: u32, of_ssrc: u32, highest_seq: u32) -> Vec<u8> {
    let mut out = vec![0x81, 201, 0, 7];
    out.extend(own_ssrc.to_be_bytes());
    out.extend(of_ssrc.to_be_bytes());
    out.extend([0x20, 0, 0, 5]); // an eighth lost since the last report, 5 in all
    out.extend(highest_seq.to_be_bytes());
    out.extend(900_u32.to_be_bytes()); // jitter
    out.extend([0; 8]); // no LSR yet, so no DLSR
    out.extend([0x81, 202, 0, 3]);
    out.extend(own_ssrc.to_be_bytes());
    out.extend(*b"\x01\x04test\0\0"); // CNAME, one null to end, one to fill
    out
}

/// Access units in an AAC-hbr packet (RFC 3640 s3.2.1: 16-bit AU headers).
pub(crate) fn aac_units(payload: &[u8]) -> Vec<Vec<u8>> {
    let header_bits = usize::from(u16::from_be_bytes([payload[0], payload[1]]));
    assert_eq!(header_bits % 16, 0, "AAC-hbr has headers of 16 bits");
    let count = header_bits / 16;
    let mut at = 2 + 2 * count;
    let mut units = Vec::new();
    for i in 0..count {
        let header = u16::from_be_bytes([payload[2 + 2 * i], payload[3 + 2 * i]]);
        let end = (at + usize::from(header >> 3)).min(payload.len());
        units.push(payload[at..end].to_vec());
        at = end;
    }
    units
}

/// Packets grouped into frames: runs of the same timestamp, each closed by the marker.
pub(crate) fn frames(packets: &[Rtp]) -> Vec<&[Rtp]> {
    packets.chunk_by(|a, b| a.timestamp == b.timestamp).collect()
}

/// Asserts that sequence numbers go up by one from packet to packet.
pub(crate) fn assert_contiguous(packets: &[Rtp]) {
    for pair in packets.windows(2) {
        assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1), "gap or repeat in sequence numbers");
    }
}

/// Signed distance of two RTP timestamps.
pub(crate) fn ticks_between(from: u32, to: u32) -> i64 {
    i64::from(to.wrapping_sub(from).cast_signed())
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
