//! Decrypts RTP and RTCP of one stream (RFC 3711 s3.3, s3.4).
//!
//! Invariants: a packet with a wrong tag changes nothing; no packet is handed out twice.
//! Bound: `SOURCES_MAX` SSRCs that have shown a right tag.
#![deny(clippy::indexing_slicing)]

use super::keys::{Cipher, MasterKey, PacketId};
use super::sender::{INDEX_MAX, RTCP_ENCRYPTED, numbers, roc};
use super::window::IndexWindow;
use super::{RTCP_CLEAR_BYTES, RTCP_INDEX_BYTES, SOURCES_MAX, Suite};
use crate::base::ids::Ssrc;
use crate::rtp::payload_start;

/// Decrypts the packets of one stream.
#[derive(Debug)]
pub struct Receiver {
    suite: Suite,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_sources: Vec<(u32, IndexWindow)>,
    rtcp_sources: Vec<(u32, IndexWindow)>,
    /// Rollover counters that the sender has told (RFC 4563 s4 is not used).
    rocs: Vec<(Ssrc, u32)>,
}

/// Why a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnprotectError {
    /// Not an SRTP or SRTCP packet.
    #[error("the packet cannot be read")]
    Malformed,
    /// It was made without the key, or changed on its way.
    #[error("the tag is wrong")]
    Forged,
    /// It came before, or is too old to tell.
    #[error("the packet came before")]
    Replayed,
    /// More SSRCs than `SOURCES_MAX`.
    #[error("more than {SOURCES_MAX} SSRCs")]
    TooManySources,
}

impl Receiver {
    /// A receiver that has received nothing. `rocs` are rollover counters of SSRCs that did not
    /// begin at 0.
    #[must_use]
    pub fn new(key: &MasterKey, rocs: &[(Ssrc, u32)]) -> Self {
        Self {
            suite: key.suite(),
            rtp: key.rtp_cipher(),
            rtcp: key.rtcp_cipher(),
            rtp_sources: Vec::new(),
            rtcp_sources: Vec::new(),
            rocs: rocs.to_vec(),
        }
    }

    /// Decrypts an RTP packet in place. Returns its length without the tag.
    ///
    /// # Errors
    /// See [`UnprotectError`]; what is in `packet` means nothing then.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, UnprotectError> {
        let end = packet.len().checked_sub(self.rtp.tag_bytes());
        let end = end.ok_or(UnprotectError::Malformed)?;
        let signed = packet.get(..end).unwrap_or_default();
        let clear = payload_start(signed).ok_or(UnprotectError::Malformed)?;
        let (seq, ssrc) = numbers(signed).ok_or(UnprotectError::Malformed)?;
        let known = self.rtp_sources.iter().position(|(known, _)| *known == ssrc);
        let told = self.rocs.iter().find(|(known, _)| known.0 == ssrc).map_or(0, |(_, roc)| *roc);
        let window = known.and_then(|place| self.rtp_sources.get(place));
        let window = window.map_or_else(|| IndexWindow::new(told), |(_, window)| *window);
        let index = window.index_received(seq);
        if index > INDEX_MAX || !window.is_fresh(index) {
            return Err(UnprotectError::Replayed);
        }
        let id = PacketId { ssrc, index };
        if !self.rtp.open(packet, clear..end, id, roc(index).to_be_bytes(), false) {
            return Err(UnprotectError::Forged);
        }
        mark(&mut self.rtp_sources, ssrc, window, index)?;
        Ok(end)
    }

    /// Decrypts a compound RTCP packet in place. Returns its length without index and tag.
    ///
    /// # Errors
    /// See [`UnprotectError`]; what is in `packet` means nothing then.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, UnprotectError> {
        let trailer = self.rtcp.tag_bytes() + RTCP_INDEX_BYTES;
        let end = packet.len().checked_sub(trailer).filter(|end| *end >= RTCP_CLEAR_BYTES);
        let end = end.ok_or(UnprotectError::Malformed)?;
        let is_tag_first = self.suite == Suite::Aes128Gcm;
        let word_at = if is_tag_first { packet.len() - RTCP_INDEX_BYTES } else { end };
        let word = packet.get(word_at..).and_then(|bytes| bytes.first_chunk::<4>());
        let word = *word.ok_or(UnprotectError::Malformed)?;
        let ssrc = packet.get(4..).and_then(|bytes| bytes.first_chunk::<4>());
        let ssrc = u32::from_be_bytes(*ssrc.ok_or(UnprotectError::Malformed)?);
        let (index, is_encrypted) =
            (u32::from_be_bytes(word) & !RTCP_ENCRYPTED, word.first().is_some_and(|b| b >> 7 == 1));
        if !is_encrypted {
            // Only a policy without encryption sends these, and nobody was offered one.
            return Err(UnprotectError::Malformed);
        }
        let index = u64::from(index);
        let known = self.rtcp_sources.iter().find(|(known, _)| *known == ssrc);
        let window = known.map_or_else(|| IndexWindow::new(0), |(_, window)| *window);
        if !window.is_fresh(index) {
            return Err(UnprotectError::Replayed);
        }
        let id = PacketId { ssrc, index };
        if !self.rtcp.open(packet, RTCP_CLEAR_BYTES..end, id, word, true) {
            return Err(UnprotectError::Forged);
        }
        mark(&mut self.rtcp_sources, ssrc, window, index)?;
        Ok(end)
    }
}

fn mark(
    sources: &mut Vec<(u32, IndexWindow)>,
    ssrc: u32,
    mut window: IndexWindow,
    index: u64,
) -> Result<(), UnprotectError> {
    window.mark(index);
    if let Some((_, place)) = sources.iter_mut().find(|(known, _)| *known == ssrc) {
        *place = window;
    } else if sources.len() == SOURCES_MAX {
        return Err(UnprotectError::TooManySources);
    } else {
        sources.push((ssrc, window));
    }
    Ok(())
}
