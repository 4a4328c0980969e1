//! Encrypts RTP and RTCP of one stream (RFC 3711 s3.3, s3.4).
//!
//! ```text
//!  header, payload --index of its number--> header, encrypted payload, tag
//!  RTCP --next index--> clear 8 bytes, encrypted rest, tag, E flag and index (its order by suite)
//! ```
//! Invariant: that of the module. Bound: `SOURCES_MAX` SSRCs.

use super::keys::{Cipher, MasterKey, PacketId};
use super::window::{IndexWindow, low};
use super::{RTCP_CLEAR_BYTES, RTCP_INDEX_BYTES, SOURCES_MAX, Suite};
use crate::base::ids::{SeqNo, Ssrc};
use crate::rtp::{HEADER_BYTES, payload_start};

/// Encrypts the packets of one stream.
#[derive(Debug)]
pub struct Sender {
    suite: Suite,
    rtp: Cipher,
    rtcp: Cipher,
    sources: Vec<(u32, IndexWindow)>,
    rtcp_index: u32,
}

/// The indexes of an SSRC that were used at some time.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    ssrc: Ssrc,
    window: IndexWindow,
}

/// Why a packet is not encrypted. It is not sent then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectError {
    /// Not an RTP or RTCP packet, or longer than a cipher takes.
    #[error("the packet cannot be read")]
    Malformed,
    /// The index was used: encrypting a second packet under it would open both.
    #[error("sequence number {seq} was sent before")]
    Repeated {
        /// Sequence number of the packet.
        seq: u16,
    },
    /// It lies before the wrap that the first packet was sent behind. Receivers begin there and
    /// have no rollover counter for what is before.
    #[error("sequence number {seq} lies before the first one that was sent")]
    BeforeFirst {
        /// Sequence number of the packet.
        seq: u16,
    },
    /// More SSRCs than `SOURCES_MAX`.
    #[error("more than {SOURCES_MAX} SSRCs")]
    TooManySources,
    /// All indexes of the key are used (RFC 3711 s9.2).
    #[error("the key is used up")]
    Exhausted,
}

impl Sender {
    /// A sender that has sent nothing.
    #[must_use]
    pub fn new(key: &MasterKey) -> Self {
        Self {
            suite: key.suite(),
            rtp: key.rtp_cipher(),
            rtcp: key.rtcp_cipher(),
            sources: Vec::with_capacity(2),
            rtcp_index: 0,
        }
    }

    /// Bytes that an RTP packet grows by.
    #[must_use]
    pub fn rtp_tag_bytes(&self) -> usize {
        self.suite.rtp_tag_bytes()
    }

    /// Encrypts the RTP packet that is `bytes[start..]`, and appends its tag.
    ///
    /// # Errors
    /// See [`ProtectError`]. The packet is not to be sent; if it is too long for the cipher, its
    /// index counts as used all the same.
    pub fn protect_rtp(&mut self, bytes: &mut Vec<u8>, start: usize) -> Result<(), ProtectError> {
        let packet = bytes.get_mut(start..).unwrap_or_default();
        let clear = payload_start(packet).ok_or(ProtectError::Malformed)?;
        let (seq, ssrc) = numbers(packet).ok_or(ProtectError::Malformed)?;
        let window = self.source(ssrc)?;
        let index = window.index_of(seq).ok_or(ProtectError::BeforeFirst { seq })?;
        if index > INDEX_MAX {
            return Err(ProtectError::Exhausted);
        }
        if !window.is_fresh(index) {
            return Err(ProtectError::Repeated { seq });
        }
        window.mark(index);
        let id = PacketId { ssrc, index };
        let tag = self.rtp.seal(packet, clear, id, roc(index).to_be_bytes(), false);
        let tag = tag.ok_or(ProtectError::Malformed)?;
        bytes.extend_from_slice(tag.get(..self.rtp.tag_bytes()).unwrap_or_default());
        Ok(())
    }

    /// Encrypts a compound RTCP packet, and appends index and tag.
    ///
    /// # Errors
    /// See [`ProtectError`].
    pub fn protect_rtcp(&mut self, bytes: &mut Vec<u8>) -> Result<(), ProtectError> {
        let ssrc = bytes.get(4..8).and_then(|ssrc| ssrc.try_into().ok().map(u32::from_be_bytes));
        let ssrc = ssrc.ok_or(ProtectError::Malformed)?;
        let index = self.rtcp_index;
        if index > RTCP_INDEX_MAX {
            return Err(ProtectError::Exhausted);
        }
        self.rtcp_index += 1;
        let word = (RTCP_ENCRYPTED | index).to_be_bytes();
        let id = PacketId { ssrc, index: index.into() };
        let tag = self.rtcp.seal(bytes, RTCP_CLEAR_BYTES, id, word, true);
        let tag = tag.ok_or(ProtectError::Malformed)?;
        let tag = tag.get(..self.rtcp.tag_bytes()).unwrap_or_default();
        let is_tag_first = self.suite == Suite::Aes128Gcm;
        let (first, second) = if is_tag_first { (tag, &word[..]) } else { (&word[..], tag) };
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        debug_assert_eq!(word.len(), RTCP_INDEX_BYTES, "the word is the index with its flag");
        Ok(())
    }

    /// The socket has refused the packets of an SSRC from `seq` on: the same ones are encrypted
    /// again, under the same numbers. False: other packets follow since ([`Self::close`]), so these
    /// are lost.
    #[must_use]
    pub fn rewind(&mut self, ssrc: Ssrc, seq: SeqNo) -> bool {
        let Some(window) = self.known(ssrc) else { return true };
        window.index_of(seq.0).is_some_and(|index| window.rewind(index))
    }

    /// The socket has refused the first packets of an SSRC: as [`Self::rewind`] to the first one.
    #[must_use]
    pub fn restart(&mut self, ssrc: Ssrc) -> bool {
        self.known(ssrc).is_none_or(IndexWindow::restart)
    }

    /// The indexes of an SSRC that are used, for [`Self::restore`].
    #[must_use]
    pub fn marks(&self, ssrc: Ssrc) -> Marks {
        let found = self.sources.iter().find(|(known, _)| *known == ssrc.0);
        Marks { ssrc, window: found.map_or_else(|| IndexWindow::new(0), |(_, window)| *window) }
    }

    /// What was encrypted since `marks` were taken was handed to nobody: other packets may have its
    /// numbers.
    pub fn restore(&mut self, marks: &Marks) {
        if let Some(window) = self.known(marks.ssrc) {
            *window = marks.window;
        }
    }

    /// Other packets of an SSRC follow: no number that was used so far is used again, also if the
    /// socket has refused its packet. Gives the next number; `None` before the first packet.
    ///
    /// Of packets that the socket has refused, those behind the first may have left the host (where
    /// the kernel took a chain of sends in two parts).
    pub fn close(&mut self, ssrc: Ssrc) -> Option<SeqNo> {
        let next = self.known(ssrc)?.close()?;
        Some(SeqNo(low(next)))
    }

    fn known(&mut self, ssrc: Ssrc) -> Option<&mut IndexWindow> {
        let found = self.sources.iter_mut().find(|(known, _)| *known == ssrc.0);
        found.map(|(_, window)| window)
    }

    /// Rollover counter of an SSRC; 0 before its first packet.
    #[must_use]
    pub fn roc(&self, ssrc: Ssrc) -> u32 {
        let found = self.sources.iter().find(|(known, _)| *known == ssrc.0);
        found.and_then(|(_, window)| window.highest()).map_or(0, roc)
    }

    fn source(&mut self, ssrc: u32) -> Result<&mut IndexWindow, ProtectError> {
        let place = self.sources.iter().position(|(known, _)| *known == ssrc);
        let place = match place {
            Some(place) => place,
            None if self.sources.len() == SOURCES_MAX => return Err(ProtectError::TooManySources),
            None => {
                self.sources.push((ssrc, IndexWindow::new(0)));
                self.sources.len() - 1
            }
        };
        self.sources.get_mut(place).map(|(_, window)| window).ok_or(ProtectError::TooManySources)
    }
}

/// Sequence number and SSRC of a packet; `None` if it is shorter than its header.
#[must_use]
pub fn numbers(packet: &[u8]) -> Option<(u16, u32)> {
    let header: &[u8; HEADER_BYTES] = packet.first_chunk()?;
    let [_, _, seq_high, seq_low, _, _, _, _, ssrc @ ..] = *header;
    Some((u16::from_be_bytes([seq_high, seq_low]), u32::from_be_bytes(ssrc)))
}

/// Rollover counter of an index.
pub(super) fn roc(index: u64) -> u32 {
    u32::try_from(index >> 16).unwrap_or(u32::MAX)
}

/// The flag of SRTCP that a packet is encrypted (RFC 3711 s3.4).
pub(super) const RTCP_ENCRYPTED: u32 = 1 << 31;
/// Indexes of RTP have 48 bits, those of RTCP 31.
pub(super) const INDEX_MAX: u64 = (1 << 48) - 1;
const RTCP_INDEX_MAX: u32 = RTCP_ENCRYPTED - 1;
