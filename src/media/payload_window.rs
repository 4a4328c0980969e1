//! A packet window together with the bytes of its packets.
//!
//! ```text
//! window   [piece inline 2][piece file 1398] [piece file 700] ..
//! bytes    |------- packet 0 -------------| |-- packet 1 --| ..    one block, in order
//! ```
//! For packets that do not leave from the file's pages: those of a live path are copied to many
//! readers, and a shard never reads a mapped file.
//! Invariant: each packet has as many bytes as the window says. Bound: `PAYLOAD_BYTES_MAX`.

use super::window::{Frame, PacketWindow, Piece};

/// A window with its payload.
#[derive(Debug)]
pub struct PayloadWindow {
    window: PacketWindow,
    /// Where each packet begins in `bytes`.
    starts: Box<[u32]>,
    bytes: Box<[u8]>,
}

/// A part of the payload that is still in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePart {
    /// From the start of the file.
    pub offset: u64,
    /// Length.
    pub bytes: u16,
    /// Place in the payload.
    pub to: u32,
}

impl FilePart {
    /// First byte of the file behind the part.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.bytes))
    }

    /// Puts the bytes of the part in its place; `bytes` begins with them.
    pub(super) fn place(self, bytes: &[u8], all: &mut [u8]) {
        let (at, count) = (self.to as usize, usize::from(self.bytes));
        if let (Some(to), Some(from)) = (all.get_mut(at..at + count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
    }
}

/// The payload of a window has too many bytes to be kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of packets in one window are more than {PAYLOAD_BYTES_MAX}")]
pub struct PayloadTooLarge {
    /// Length of the payload.
    pub bytes: u64,
}

/// A window whose payload is being gathered.
#[derive(Debug)]
pub struct PayloadJob {
    window: PayloadWindow,
    parts: Vec<FilePart>,
}

impl PayloadJob {
    /// Copies what is in the window, and finds what is in the file.
    ///
    /// # Errors
    /// The payload is too large.
    pub fn new(window: PacketWindow) -> Result<Self, PayloadTooLarge> {
        let sum: u64 = window.all_packets().iter().map(|p| u64::from(p.payload_bytes)).sum();
        let total = usize::try_from(sum).ok().filter(|total| *total <= PAYLOAD_BYTES_MAX);
        let total = total.ok_or(PayloadTooLarge { bytes: sum })?;
        let mut bytes = vec![0; total];
        let (mut starts, mut parts) = (Vec::with_capacity(window.all_packets().len()), Vec::new());
        let mut at = 0_usize;
        for packet in window.all_packets() {
            starts.push(place(at));
            for piece in window.pieces(packet) {
                match *piece {
                    Piece::Inline { offset, bytes: count } => {
                        let inline = window.inline_bytes(offset, count);
                        if let Some(to) = bytes.get_mut(at..at + inline.len()) {
                            to.copy_from_slice(inline);
                        }
                        at += inline.len();
                    }
                    Piece::File { offset, bytes } => {
                        parts.push(FilePart { offset, bytes, to: place(at) });
                        at += usize::from(bytes);
                    }
                }
            }
        }
        parts.sort_unstable_by_key(|part| part.offset);
        let (starts, bytes) = (starts.into_boxed_slice(), bytes.into_boxed_slice());
        Ok(Self { window: PayloadWindow { window, starts, bytes }, parts })
    }

    /// Parts in the file, in its order.
    #[must_use]
    pub fn parts(&self) -> &[FilePart] {
        &self.parts
    }

    /// Puts the bytes of a part in place; `bytes` begins with them.
    pub fn fill(&mut self, part: FilePart, bytes: &[u8]) {
        part.place(bytes, &mut self.window.bytes);
    }

    /// The window, when all parts are in place.
    #[must_use]
    pub fn finish(self) -> PayloadWindow {
        self.window
    }
}

impl PayloadWindow {
    /// All frames in sending order.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        self.window.frames()
    }

    /// Marker bit and payload of a packet of a frame, counted from 0; `None` behind the last one.
    #[must_use]
    pub fn packet(&self, frame: &Frame, place: u32) -> Option<(bool, &[u8])> {
        if place >= frame.packet_count {
            return None;
        }
        let index = frame.packet_index.checked_add(place)?;
        let packet = self.window.packet(index)?;
        let start = *self.starts.get(index as usize)? as usize;
        let bytes = self.bytes.get(start..start + usize::from(packet.payload_bytes))?;
        Some((packet.marker, bytes))
    }

    /// Memory that the window takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.window.memory_bytes() + size_of_val(&*self.starts) + self.bytes.len()
    }
}

/// `PAYLOAD_BYTES_MAX` fits.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Payload of one window at most: two seconds of 128 Mbit/s.
pub const PAYLOAD_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::window::WindowBuilder;

    fn window(packets: &[&[(Option<u64>, usize)]]) -> PacketWindow {
        let mut builder = WindowBuilder::new();
        for (number, pieces) in (0..=u8::MAX).cycle().zip(packets) {
            for (offset, bytes) in *pieces {
                match offset {
                    Some(offset) => builder.push_file(*offset, *bytes),
                    None => builder.push_inline(&vec![number | 0x80; *bytes]),
                }
            }
            builder.end_packet(number % 2 == 0);
        }
        builder.end_frame(Frame::SYNC);
        builder.finish()
    }

    #[test]
    fn packets_are_their_pieces_one_behind_the_other() {
        let pieces: [&[_]; 3] = [
            &[(None, 2), (Some(100), 3)],
            &[(Some(10), 2), (None, 1), (Some(50), 1)],
            &[(Some(103), 4)],
        ];
        let mut job = PayloadJob::new(window(&pieces)).unwrap();
        let parts = job.parts().to_vec();
        assert_eq!(parts.iter().map(|part| part.offset).collect::<Vec<_>>(), [10, 50, 100, 103]);
        for part in parts {
            let file: Vec<u8> = (0..200).collect();
            job.fill(part, &file[usize::try_from(part.offset).unwrap()..]);
        }
        let window = job.finish();
        let frame = window.frames()[0];
        let packets: Vec<_> = (0..4).map_while(|place| window.packet(&frame, place)).collect();
        let expected: [(bool, &[u8]); 3] = [
            (true, &[0x80, 0x80, 100, 101, 102]),
            (false, &[10, 11, 0x81, 50]),
            (true, &[103, 104, 105, 106]),
        ];
        assert_eq!(packets, expected);
        assert!(window.memory_bytes() > 13);
    }

    #[test]
    fn window_with_too_much_payload_is_refused_before_it_is_read() {
        let packet: &[_] = &[(Some(0), 60_000)];
        let error = PayloadJob::new(window(&vec![packet; 600])).unwrap_err();
        assert_eq!(error, PayloadTooLarge { bytes: 36_000_000 });
    }
}
