//! The SRTP state of one stream, shared by those who send for it: its feed, its retransmissions and
//! its reports.
//!
//! All of them are on the stream's shard. Invariant: nobody keeps a borrow from one call to the
//! next, so no call finds the state taken.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Marks, MasterKey, ProtectError, Receiver, Sender, UnprotectError};
use crate::base::ids::{SeqNo, Ssrc};

/// A handle of the SRTP state of one stream.
#[derive(Debug, Clone)]
pub struct SrtpStream {
    both: Rc<RefCell<(Sender, Receiver)>>,
    rtp_tag_bytes: usize,
}

impl SrtpStream {
    /// A stream that has sent and received nothing. `ours` is the key of what is sent, `theirs` of
    /// what is received, with rollover counters that the other side has told.
    #[must_use]
    pub fn new(ours: &MasterKey, theirs: &MasterKey, rocs: &[(Ssrc, u32)]) -> Self {
        let sender = Sender::new(ours);
        let rtp_tag_bytes = sender.rtp_tag_bytes();
        Self { both: Rc::new(RefCell::new((sender, Receiver::new(theirs, rocs)))), rtp_tag_bytes }
    }

    /// Bytes that an RTP packet grows by.
    #[must_use]
    pub fn rtp_tag_bytes(&self) -> usize {
        self.rtp_tag_bytes
    }

    /// See [`Sender::protect_rtp`].
    ///
    /// # Errors
    /// See [`ProtectError`].
    pub fn protect_rtp(&self, bytes: &mut Vec<u8>, start: usize) -> Result<(), ProtectError> {
        self.both.borrow_mut().0.protect_rtp(bytes, start)
    }

    /// See [`Sender::protect_rtcp`].
    ///
    /// # Errors
    /// See [`ProtectError`].
    pub fn protect_rtcp(&self, bytes: &mut Vec<u8>) -> Result<(), ProtectError> {
        self.both.borrow_mut().0.protect_rtcp(bytes)
    }

    /// See [`Sender::rewind`].
    #[must_use]
    pub fn rewind(&self, ssrc: Ssrc, seq: SeqNo) -> bool {
        self.both.borrow_mut().0.rewind(ssrc, seq)
    }

    /// See [`Sender::restart`].
    #[must_use]
    pub fn restart(&self, ssrc: Ssrc) -> bool {
        self.both.borrow_mut().0.restart(ssrc)
    }

    /// See [`Sender::marks`].
    #[must_use]
    pub fn marks(&self, ssrc: Ssrc) -> Marks {
        self.both.borrow().0.marks(ssrc)
    }

    /// See [`Sender::restore`].
    pub fn restore(&self, marks: &Marks) {
        self.both.borrow_mut().0.restore(marks);
    }

    /// See [`Sender::close`].
    #[must_use]
    pub fn close(&self, ssrc: Ssrc) -> Option<SeqNo> {
        self.both.borrow_mut().0.close(ssrc)
    }

    /// See [`Receiver::unprotect_rtp`].
    ///
    /// # Errors
    /// See [`UnprotectError`].
    pub fn unprotect_rtp(&self, packet: &mut [u8]) -> Result<usize, UnprotectError> {
        self.both.borrow_mut().1.unprotect_rtp(packet)
    }

    /// See [`Receiver::unprotect_rtcp`].
    ///
    /// # Errors
    /// See [`UnprotectError`].
    pub fn unprotect_rtcp(&self, packet: &mut [u8]) -> Result<usize, UnprotectError> {
        self.both.borrow_mut().1.unprotect_rtcp(packet)
    }
}
