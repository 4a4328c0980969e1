//! What one send is made of: copied headers and addresses in the film's map.
//!
//! ```text
//! copied  [$ ch len | rtp | fu][$ ch len | rtp | fu] ..      `$` only on TCP (RFC 2326 s10.12)
//! iovecs  [ copied ][ map ][ copied ][ map ] ..               copied neighbours share one
//! ```
//! Invariant: `copied` does not move while an iovec points into it: it grows in `start` alone, when
//! there is none. Mapped addresses are never read here.
//! Bound: what `start` was told.

use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::rtp::{self, HEADER_BYTES};

use crate::shape::{PacketShape, Part, TrackShape};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    copied: Vec<u8>,
    iovecs: Vec<libc::iovec>,
    /// The last iovec ends where `copied` ends.
    is_open: bool,
    bytes: usize,
    /// Of the iovecs: those that are sent already.
    done: usize,
}

/// What is different for each client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) ssrc: Ssrc,
    pub(crate) seq: SeqNo,
    pub(crate) ts: RtpTs,
}

impl Gather {
    /// Empties it, and makes room for so many copied bytes and iovecs.
    pub(crate) fn start(&mut self, copied_bytes: usize, parts: usize) {
        self.copied.clear();
        self.iovecs.clear();
        (self.is_open, self.bytes, self.done) = (false, 0, 0);
        self.copied.reserve(copied_bytes);
        self.iovecs.reserve(parts);
    }

    /// Appends a packet, on TCP with the interleaved channel in front.
    pub(crate) fn packet(
        &mut self,
        track: &TrackShape,
        packet: &PacketShape,
        head: Head,
        channel: Option<u8>,
    ) {
        if let Some(channel) = channel {
            let [high, low] = packet.bytes.to_be_bytes();
            self.copy(&[b'$', channel, high, low]);
        }
        let mut header = [0; HEADER_BYTES];
        let Head { ssrc, seq, ts } = head;
        rtp::write_header(&mut header, packet.marker, track.payload_type, seq, ts, ssrc);
        self.copy(&header);
        for part in &track.parts[packet.parts.clone()] {
            match part {
                Part::Copied(range) => self.copy(&track.inline[range.clone()]),
                Part::Mapped { address, bytes } => {
                    let iov_len = usize::from(*bytes);
                    self.iovecs.push(libc::iovec { iov_base: address.cast_mut().cast(), iov_len });
                    self.bytes += iov_len;
                    self.is_open = false;
                }
            }
        }
    }

    /// Appends bytes where they are.
    pub(crate) fn range(&mut self, bytes: &[u8]) {
        let iov_base = bytes.as_ptr().cast_mut().cast();
        self.iovecs.push(libc::iovec { iov_base, iov_len: bytes.len() });
        self.bytes += bytes.len();
        self.is_open = false;
    }

    /// What is left to send.
    pub(crate) fn iovecs(&mut self) -> &mut [libc::iovec] {
        &mut self.iovecs[self.done..]
    }

    /// Bytes left to send.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many bytes are sent.
    pub(crate) fn advance(&mut self, sent: usize) {
        let mut left = sent.min(self.bytes);
        self.bytes -= left;
        while let Some(iovec) = self.iovecs.get_mut(self.done).filter(|_| left > 0) {
            let step = left.min(iovec.iov_len);
            iovec.iov_base = iovec.iov_base.wrapping_byte_add(step);
            iovec.iov_len -= step;
            left -= step;
            self.done += usize::from(iovec.iov_len == 0);
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        assert!(self.copied.capacity() - self.copied.len() >= bytes.len(), "`start` made room");
        let at = self.copied.len();
        self.copied.extend_from_slice(bytes);
        self.bytes += bytes.len();
        match self.iovecs.last_mut().filter(|_| self.is_open) {
            Some(iovec) => iovec.iov_len += bytes.len(),
            None => {
                let iov_base = self.copied.as_mut_ptr().wrapping_add(at).cast();
                self.iovecs.push(libc::iovec { iov_base, iov_len: bytes.len() });
                self.is_open = true;
            }
        }
    }
}
