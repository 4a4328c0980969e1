//! Sending again what a reader has lost (RFC 4585 NACK, RFC 4588): no cache but the ring.
//!
//! ```text
//!  NACK 17 --mapping--> source's 912 --ring--> the packet as it came --caller--> RTX packet
//! ```
//! Invariant: only what was sent to this reader since the last break of its stream is sent again.
//! Bound: a tenth of what was sent, with a burst of `RETRANSMIT_BURST`, so that lost packets do not
//! double the load of a line that loses them. DESIGN section 5.8.

use super::limits::{RETRANSMIT_BURST, RETRANSMIT_SHARE};
use super::reader::ReaderStream;
use super::ring::{BatchRing, Found};
use crate::base::ids::SeqNo;

/// How much may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetransmitBudget {
    /// In shares of a packet.
    credit: u32,
}

impl Default for RetransmitBudget {
    fn default() -> Self {
        Self { credit: CREDIT_MAX }
    }
}

impl RetransmitBudget {
    /// Packets went out.
    pub fn handle_sent(&mut self, packets: u16) {
        self.credit = self.credit.saturating_add(packets.into()).min(CREDIT_MAX);
    }

    /// One is to be sent again. False: not now.
    pub fn take(&mut self) -> bool {
        let left = self.credit.checked_sub(RETRANSMIT_SHARE);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }
}

/// Why nothing is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetransmitError {
    /// Not sent to this reader, or before a break.
    #[error("the reader was not sent this packet")]
    NotSent,
    /// It has left the ring, or was lost before it came to us.
    #[error("the packet is not here any more")]
    Gone,
    /// The reader asks for too much.
    #[error("too much is asked for again")]
    OverBudget,
}

impl ReaderStream {
    /// Finds the packet that the reader knows as `seq`.
    pub(super) fn find_sent(
        &mut self,
        ring: &BatchRing,
        seq: SeqNo,
    ) -> Result<Found, RetransmitError> {
        let (Some(trail), Some(mapping)) = (&self.cursor.trail, self.cursor.mapping) else {
            return Err(RetransmitError::NotSent);
        };
        let is_sent = trail.seq.0.wrapping_sub(seq.0) < 1 << 15 && trail.mapping == mapping;
        if !is_sent {
            return Err(RetransmitError::NotSent);
        }
        let from = self.cursor.mapped_from;
        let found = ring.find(self.track, mapping.source_seq(seq), from.0);
        let found = found.ok_or(RetransmitError::Gone)?;
        let is_of_source = found.batch.generation() == mapping.origin.generation;
        if !is_of_source || (found.no, found.packet.offset) < from {
            return Err(RetransmitError::NotSent);
        }
        if !self.retransmit.take() {
            return Err(RetransmitError::OverBudget);
        }
        Ok(found)
    }
}

const CREDIT_MAX: u32 = RETRANSMIT_BURST * RETRANSMIT_SHARE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenth_of_what_was_sent_may_be_sent_again_and_a_burst_at_once() {
        let mut budget = RetransmitBudget::default();
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), 64);
        budget.handle_sent(9);
        assert!(!budget.take());
        budget.handle_sent(1);
        assert!(budget.take() && !budget.take());
        for _ in 0..1_000 {
            budget.handle_sent(u16::MAX);
        }
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), 64);
    }
}
