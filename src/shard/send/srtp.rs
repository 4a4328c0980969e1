//! Encrypts packets of SRTP streams on the shard.
//!
//! ```text
//!  header, pieces --read--> buffer of the run --protect--> the same place, and a tag --> one send
//! ```
//! Each player has keys of its own, so nothing of a packet is shared; its bytes of files are read
//! from the page cache, as for TLS (`reads`). A stream without SRTP comes here never.
//!
//! Invariants: the marks of what is not handed to the kernel after all are taken back, so that its
//! numbers are used again; a packet that cannot be encrypted is never sent. Bound:
//! `SRTP_BYTES_A_TURN`; runs beyond that wait for a later turn, and are counted.

use std::io;
use std::sync::Arc;

use super::reads::FileReads;
use crate::base::ids::Ssrc;
use crate::base::limits::SRTP_BYTES_A_TURN;
use crate::library::title::Title;
use crate::media::window::{Packet, PacketWindow};
use crate::metrics::cells::ShardCells;
use crate::rtp::srtp::{Marks, SrtpStream, numbers};
use crate::shard::ring::RangeOutside;
use crate::shard::ring::Run;
use crate::shard::ring::kernel::Kernel;

/// What is left of a turn's share.
#[derive(Debug)]
pub(in crate::shard) struct SrtpShare {
    left: usize,
    cells: Arc<ShardCells>,
    reads: FileReads,
}

/// The encryption of one run.
#[derive(Debug)]
pub(in crate::shard) struct RunSeal<'a> {
    share: &'a mut SrtpShare,
    srtp: SrtpStream,
    /// The indexes that were used before the run.
    before: Option<Marks>,
    /// Packets that were left out because they could not be encrypted.
    left_out: u16,
    is_submitted: bool,
}

impl SrtpShare {
    pub(in crate::shard) fn new(cells: Arc<ShardCells>) -> Self {
        Self { left: SRTP_BYTES_A_TURN, cells, reads: FileReads::default() }
    }

    /// A turn begins.
    pub(in crate::shard) fn begin_turn(&mut self) {
        self.left = SRTP_BYTES_A_TURN;
    }

    /// The encryption of a run. `None`: the turn has no share left.
    pub(in crate::shard) fn start(&mut self, srtp: &SrtpStream) -> Option<RunSeal<'_>> {
        if self.left == 0 {
            self.cells.srtp_waits.add(1);
            return None;
        }
        let srtp = srtp.clone();
        Some(RunSeal { share: self, srtp, before: None, left_out: 0, is_submitted: false })
    }
}

impl RunSeal<'_> {
    /// Adds a packet of a title. False: the run is full.
    ///
    /// # Errors
    /// The packet can never be sent; the run is as before.
    pub(in crate::shard) fn try_packet<K: Kernel>(
        &mut self,
        run: &mut Run<'_, K>,
        header: &[u8],
        (window, packet): (&PacketWindow, &Packet),
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        let plain_bytes = header.len() + usize::from(packet.payload_bytes);
        let bytes = plain_bytes + self.srtp.rtp_tag_bytes();
        if !run.has_sealed_room(bytes) {
            return Ok(false);
        }
        let buffer = run.sealed_mut();
        let start = buffer.len();
        let mut cold = 0;
        let (reads, packet) = (&mut self.share.reads, (window, packet));
        let pushed = push_plain(buffer, reads, header, packet, title, &mut cold);
        self.share.cells.tls_reads_cold.add(cold);
        if let Err(error) = pushed {
            buffer.truncate(start);
            return Err(error);
        }
        // Numbers of titles are the server's: one that was used ends the session.
        if !self.protect(buffer, start) {
            return Err(RangeOutside::NotEncrypted);
        }
        run.count_sealed(bytes);
        Ok(true)
    }

    /// Adds a packet that is at hand in pieces. False: the run is full. A packet that cannot be
    /// encrypted is left out.
    pub(in crate::shard) fn try_pieces<K: Kernel>(
        &mut self,
        run: &mut Run<'_, K>,
        pieces: &[&[u8]],
    ) -> bool {
        let plain_bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let bytes = plain_bytes + self.srtp.rtp_tag_bytes();
        if !run.has_sealed_room(bytes) {
            return false;
        }
        let buffer = run.sealed_mut();
        let start = buffer.len();
        pieces.iter().for_each(|piece| buffer.extend_from_slice(piece));
        if self.protect(buffer, start) {
            run.count_sealed(bytes);
        } else {
            self.left_out += 1;
        }
        true
    }

    /// Packets that were left out.
    pub(in crate::shard) fn left_out(&self) -> u16 {
        self.left_out
    }

    /// The run is submitted.
    pub(in crate::shard) fn note_submitted(&mut self) {
        self.is_submitted = true;
    }

    fn protect(&mut self, buffer: &mut Vec<u8>, start: usize) -> bool {
        if self.before.is_none() {
            // All packets of a run have one SSRC.
            let numbers = buffer.get(start..).and_then(numbers);
            self.before = numbers.map(|(_, ssrc)| self.srtp.marks(Ssrc(ssrc)));
        }
        let is_sealed = protect(&self.share.cells, &self.srtp, buffer, start);
        if is_sealed {
            self.share.left = self.share.left.saturating_sub(buffer.len() - start);
        }
        is_sealed
    }
}

impl Drop for RunSeal<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before.filter(|_| !self.is_submitted) {
            self.srtp.restore(&before);
        }
    }
}

/// Encrypts the packet `buffer[start..]`. False: it is taken out of the buffer, and counted.
pub(super) fn protect(
    cells: &ShardCells,
    srtp: &SrtpStream,
    buffer: &mut Vec<u8>,
    start: usize,
) -> bool {
    if let Err(error) = srtp.protect_rtp(buffer, start) {
        tracing::debug!(%error, "packet not encrypted");
        buffer.truncate(start);
        cells.srtp_packets_dropped.add(1);
        return false;
    }
    cells.srtp_packets_encrypted.add(1);
    cells.srtp_bytes_encrypted.add((buffer.len() - start) as u64);
    true
}

/// Appends a packet of a title in the clear: header, and payload from the window and the file.
/// `reads` is empty before and behind it.
///
/// # Errors
/// The packet can never be sent; the buffer has a part of it.
pub(super) fn push_plain(
    buffer: &mut Vec<u8>,
    reads: &mut FileReads,
    header: &[u8],
    packet: (&PacketWindow, &Packet),
    title: &Arc<Title>,
    cold: &mut u64,
) -> Result<(), RangeOutside> {
    buffer.extend_from_slice(header);
    reads.push_pieces(buffer, packet, title).inspect_err(|_| reads.clear())?;
    reads.fill(buffer, cold).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => RangeOutside::Truncated,
        kind => RangeOutside::Unreadable(kind),
    })
}
