//! An RTP packet over borrowed bytes (RFC 3550 s5.1, s5.3.1).
//!
//! ```text
//! |V P X CC|M PT| seq |  ts  | ssrc | csrc * CC | [profile, words, words * 4] | payload | [pad] |
//!                                                 `------ when X is set -----'            when P
//! ```
//! Invariant: every range that a view gives lies inside of its bytes; lengths that do not add up
//! are an error by name and never a view.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;

use super::HEADER_BYTES;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};

/// An RTP packet over borrowed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpView<'a> {
    bytes: &'a [u8],
    fixed: &'a [u8; HEADER_BYTES],
    /// CSRC list and extension.
    optional: &'a [u8],
    payload: &'a [u8],
}

/// What stands behind the CSRC list (s5.3.1), as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// 0xBEDE and 0x100n are RFC 8285, 0xABAC is ONVIF's.
    pub profile: u16,
    /// Whole words.
    pub data: &'a [u8],
}

/// Why bytes are not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtpError {
    /// Shorter than the fixed header.
    #[error("{have_bytes} bytes are no RTP packet")]
    TooShort {
        /// What is there.
        have_bytes: usize,
    },
    /// Not version 2: another protocol, or nothing at all.
    #[error("RTP version {version}")]
    Version {
        /// The first two bits.
        version: u8,
    },
    /// RTCP on the port of RTP.
    #[error("RTCP packet of type {packet_type}")]
    Rtcp {
        /// Second byte.
        packet_type: u8,
    },
    /// The CSRC list goes past the end.
    #[error("list of {count} CSRCs in a packet of {have_bytes} bytes")]
    CsrcList {
        /// By the header.
        count: u8,
        /// The packet.
        have_bytes: usize,
    },
    /// The extension goes past the end.
    #[error("extension of {extension_bytes} bytes in a packet of {have_bytes} bytes")]
    Extension {
        /// By its own length field, with its four bytes of header.
        extension_bytes: usize,
        /// The packet.
        have_bytes: usize,
    },
    /// The padding is longer than what is left, or of no length.
    #[error("padding of {padding_bytes} bytes in a packet of {have_bytes} bytes")]
    Padding {
        /// By the last byte.
        padding_bytes: u8,
        /// The packet.
        have_bytes: usize,
    },
}

impl<'a> RtpView<'a> {
    /// Reads a whole packet.
    ///
    /// # Errors
    /// See [`RtpError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpError> {
        let have_bytes = bytes.len();
        let (fixed, behind) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(RtpError::TooShort { have_bytes })?;
        let [first, second, ..] = *fixed;
        if first >> 6 != 2 {
            return Err(RtpError::Version { version: first >> 6 });
        }
        if is_rtcp(bytes) {
            return Err(RtpError::Rtcp { packet_type: second });
        }
        let count = first & CSRC_COUNT_MASK;
        let csrc_bytes = usize::from(count) * 4;
        let csrc_list = RtpError::CsrcList { count, have_bytes };
        let after_csrcs = behind.get(csrc_bytes..).ok_or(csrc_list)?;
        let mut extension_bytes = 0;
        if first & EXTENSION_BIT != 0 {
            extension_bytes = extension_size(after_csrcs).unwrap_or(EXTENSION_HEADER_BYTES);
        }
        let too_long = RtpError::Extension { extension_bytes, have_bytes };
        let (optional, payload) =
            behind.split_at_checked(csrc_bytes + extension_bytes).ok_or(too_long)?;
        let padding_bytes =
            if first & PADDING_BIT == 0 { 0 } else { padding_size(payload, have_bytes)? };
        let kept = payload.len().checked_sub(usize::from(padding_bytes));
        let payload = kept.and_then(|kept| payload.get(..kept));
        let payload = payload.ok_or(RtpError::Padding { padding_bytes, have_bytes })?;
        Ok(Self { bytes, fixed, optional, payload })
    }

    /// The whole packet.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The fixed header.
    #[must_use]
    pub fn fixed(&self) -> &'a [u8; HEADER_BYTES] {
        self.fixed
    }

    /// Marker bit: the end of a frame, or the start of talk.
    #[must_use]
    pub fn marker(&self) -> bool {
        let [_, second, ..] = *self.fixed;
        second & 0x80 != 0
    }

    /// Below 128.
    #[must_use]
    pub fn payload_type(&self) -> u8 {
        let [_, second, ..] = *self.fixed;
        second & 0x7f
    }

    /// Sequence number.
    #[must_use]
    pub fn seq(&self) -> SeqNo {
        let [_, _, high, low, ..] = *self.fixed;
        SeqNo(u16::from_be_bytes([high, low]))
    }

    /// Timestamp.
    #[must_use]
    pub fn ts(&self) -> RtpTs {
        let [_, _, _, _, a, b, c, d, ..] = *self.fixed;
        RtpTs(u32::from_be_bytes([a, b, c, d]))
    }

    /// Source.
    #[must_use]
    pub fn ssrc(&self) -> Ssrc {
        let [.., a, b, c, d] = *self.fixed;
        Ssrc(u32::from_be_bytes([a, b, c, d]))
    }

    /// Contributing sources, at most 15.
    pub fn csrcs(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        let list = self.optional.get(..self.csrc_bytes()).unwrap_or_default();
        list.as_chunks().0.iter().map(|csrc| Ssrc(u32::from_be_bytes(*csrc)))
    }

    /// The header extension.
    #[must_use]
    pub fn extension(&self) -> Option<Extension<'a>> {
        let bytes = self.optional.get(self.csrc_bytes()..)?;
        let (&[high, low, ..], data) = bytes.split_first_chunk::<EXTENSION_HEADER_BYTES>()?;
        Some(Extension { profile: u16::from_be_bytes([high, low]), data })
    }

    /// The payload, without padding. May be empty: probes and keep-alives are.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Where the payload lies in the packet.
    #[must_use]
    pub fn payload_range(&self) -> Range<usize> {
        let start = HEADER_BYTES + self.optional.len();
        start..start + self.payload.len()
    }

    fn csrc_bytes(&self) -> usize {
        let [first, ..] = *self.fixed;
        usize::from(first & CSRC_COUNT_MASK) * 4
    }
}

/// Whether the bytes are RTCP rather than RTP, where both share a port (RFC 5761 s4): packet types
/// 192 to 223, which are payload types 64 to 95 with a marker, and nobody uses those.
#[must_use]
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [first, 192..=223, ..] if first >> 6 == 2)
}

/// Bytes in front of the payload: header, CSRC list and extension. Padding is not looked at: SRTP
/// encrypts it. `None`: no RTP packet.
#[must_use]
pub fn payload_start(bytes: &[u8]) -> Option<usize> {
    let (&[first, ..], behind) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    if first >> 6 != 2 || is_rtcp(bytes) {
        return None;
    }
    let csrc_bytes = usize::from(first & CSRC_COUNT_MASK) * 4;
    let after_csrcs = behind.get(csrc_bytes..)?;
    let extension_bytes = if first & EXTENSION_BIT == 0 { 0 } else { extension_size(after_csrcs)? };
    after_csrcs.get(extension_bytes..)?;
    Some(HEADER_BYTES + csrc_bytes + extension_bytes)
}

/// With its header; `None` when that is not there.
fn extension_size(bytes: &[u8]) -> Option<usize> {
    let [_, _, high, low, ..] = *bytes else { return None };
    Some(EXTENSION_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])) * 4)
}

/// The last byte counts the padding, itself included.
fn padding_size(payload: &[u8], have_bytes: usize) -> Result<u8, RtpError> {
    let bytes = payload.last().copied().filter(|bytes| *bytes > 0);
    bytes.ok_or(RtpError::Padding { padding_bytes: 0, have_bytes })
}

const PADDING_BIT: u8 = 0x20;
const EXTENSION_BIT: u8 = 0x10;
const CSRC_COUNT_MASK: u8 = 0x0f;
const EXTENSION_HEADER_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtp_types::{RtpPacket, RtpPacketBuilder};

    use super::*;

    const FIXED: [u8; 12] = [0x80, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

    fn packet(first: u8, behind: &[u8]) -> Vec<u8> {
        let [_, rest @ ..] = FIXED;
        [&[first], rest.as_slice(), behind].concat()
    }

    #[test]
    fn plain_packet_is_header_and_payload() {
        let bytes = packet(0x80, b"abc");
        let view = RtpView::parse(&bytes).unwrap();
        assert!(view.marker());
        assert_eq!((view.payload_type(), view.seq()), (96, SeqNo(0x0102)));
        assert_eq!((view.ts(), view.ssrc()), (RtpTs(0x0304_0506), Ssrc(0x0708_090a)));
        assert_eq!((view.payload(), view.payload_range()), (b"abc".as_slice(), 12..15));
        assert_eq!((view.extension(), view.csrcs().count()), (None, 0));
    }

    #[test]
    fn csrcs_extension_and_padding_surround_the_payload() {
        let behind = [
            &[0, 0, 0, 1, 0, 0, 0, 2][..],
            &[0xab, 0xac, 0, 1, 9, 9, 9, 9],
            b"payload",
            &[0, 0, 3],
        ];
        let bytes = packet(0xb2, &behind.concat());
        let view = RtpView::parse(&bytes).unwrap();
        assert_eq!(view.csrcs().collect::<Vec<_>>(), [Ssrc(1), Ssrc(2)]);
        let data = [9u8; 4].as_slice();
        assert_eq!(view.extension(), Some(Extension { profile: 0xabac, data }));
        assert_eq!((view.payload(), view.payload_range()), (b"payload".as_slice(), 28..35));
    }

    #[test]
    fn absurd_lengths_are_refused_by_name() {
        let csrcs = packet(0x8f, &[0; 59]);
        assert_eq!(RtpView::parse(&csrcs), Err(RtpError::CsrcList { count: 15, have_bytes: 71 }));
        let extension = packet(0x90, &[0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        let error = RtpError::Extension { extension_bytes: 4 + 65_535 * 4, have_bytes: 20 };
        assert_eq!(RtpView::parse(&extension), Err(error));
        let headless = packet(0x90, &[0, 0, 0]);
        let error = RtpError::Extension { extension_bytes: 4, have_bytes: 15 };
        assert_eq!(RtpView::parse(&headless), Err(error));
        let padding = packet(0xa0, &[1, 2, 4]);
        let error = RtpError::Padding { padding_bytes: 4, have_bytes: 15 };
        assert_eq!(RtpView::parse(&padding), Err(error));
        for none in [&[][..], &[1, 2, 0]] {
            let error = RtpView::parse(&packet(0xa0, none)).unwrap_err();
            assert!(matches!(error, RtpError::Padding { padding_bytes: 0, .. }), "{error}");
        }
        // Padding is behind the extension, not inside of it.
        let both = packet(0xb0, &[0, 0, 0, 1, 0, 0, 0, 4]);
        assert!(matches!(RtpView::parse(&both), Err(RtpError::Padding { .. })));
    }

    #[test]
    fn other_protocols_are_refused_by_name() {
        assert_eq!(RtpView::parse(&[0x80; 11]), Err(RtpError::TooShort { have_bytes: 11 }));
        assert_eq!(RtpView::parse(b"GET / HTTP/1.1"), Err(RtpError::Version { version: 1 }));
        let report = [0x80, 200, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(RtpView::parse(&report), Err(RtpError::Rtcp { packet_type: 200 }));
        assert!(is_rtcp(&report) && !is_rtcp(&FIXED) && !is_rtcp(b"\x80"));
    }

    #[test]
    fn packet_of_padding_alone_has_an_empty_payload() {
        let bytes = packet(0xa0, &[0, 0, 0, 4]);
        assert_eq!(RtpView::parse(&bytes).unwrap().payload_range(), 12..12);
    }

    proptest! {
        #[test]
        fn what_rtp_types_writes_is_read(
            marker: bool, payload_type in 0u8..64, seq: u16, ts: u32, ssrc: u32,
            csrcs in prop::collection::vec(any::<u32>(), 0..15),
            words in prop::option::of(0usize..20), padding in 0u8..20,
            payload in prop::collection::vec(any::<u8>(), 1..100),
        ) {
            let extension = words.map(|words| vec![7u8; words * 4]);
            let mut builder = RtpPacketBuilder::new()
                .marker_bit(marker).payload_type(payload_type).sequence_number(seq)
                .timestamp(ts).ssrc(ssrc).payload(payload.as_slice());
            for csrc in &csrcs {
                builder = builder.add_csrc(*csrc);
            }
            if let Some(extension) = &extension {
                builder = builder.extension(0xbede, extension.as_slice());
            }
            if padding > 0 {
                builder = builder.padding(padding);
            }
            let bytes = builder.write_vec().unwrap();
            let view = RtpView::parse(&bytes).unwrap();
            prop_assert_eq!((view.marker(), view.payload_type()), (marker, payload_type));
            prop_assert_eq!((view.seq(), view.ts(), view.ssrc()), (SeqNo(seq), RtpTs(ts), Ssrc(ssrc)));
            prop_assert_eq!(view.csrcs().map(|csrc| csrc.0).collect::<Vec<_>>(), csrcs);
            prop_assert_eq!(view.extension().map(|e| e.data.to_vec()), extension);
            prop_assert_eq!(view.payload(), payload.as_slice());
            prop_assert_eq!(bytes.get(view.payload_range()).unwrap(), payload.as_slice());
        }

        #[test]
        fn arbitrary_bytes_are_read_as_rtp_types_reads_them(
            first in 0x80u8..=0xbf, rest in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut bytes = vec![first];
            bytes.extend(rest);
            match (RtpView::parse(&bytes), RtpPacket::parse(&bytes)) {
                (Ok(view), Ok(oracle)) => prop_assert_eq!(view.payload(), oracle.payload()),
                // RTCP, and padding of no length, are ours to refuse.
                (Err(RtpError::Rtcp { .. } | RtpError::Padding { .. }), _) | (Err(_), Err(_)) => {}
                (Ok(view), Err(error)) => panic!("{view:?}: {error}"),
                (Err(error), Ok(oracle)) => panic!("{oracle:?}: {error}"),
            }
        }
    }
}
