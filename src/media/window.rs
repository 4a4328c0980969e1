//! A packet window: about two seconds of one track as packet descriptors.
//!
//! ```text
//! frames   [dts, rtp ticks, sync | packets 0..3] [..]
//! packets  [pieces 0..2, marker] [pieces 2..4] ..
//! pieces   [Inline 2 bytes] [File 1398 bytes at 0x4711] ..
//! inline   FU headers, AU headers, parameter sets: bytes that are not in the file; sound whose
//!          bytes had to be swapped or converted
//! ```
//! Invariant: a window is immutable once built and shared by every session on the title; what
//! changes is when its pages were last seen in memory (see [`super::pages`]), and whether its
//! packets stand in memory as on the wire (see [`super::image`]).
//! A packet's payload is the concatenation of its pieces; the RTP header is not part of it.
//! DESIGN section 4.2.

use std::sync::Arc;

use super::image::ImageSlot;
use super::pages::{Pages, PagesSeen};
use crate::base::time::{Mono, Npt};

/// Names a window of a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowKey {
    /// Index into `Asset::tracks`.
    pub track_index: u8,
    /// Which samples the window is cut from.
    pub kind: WindowKind,
    /// Window number from the start of the title, 0-based.
    pub index: u32,
}

/// Which samples of a track a series of windows holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowKind {
    /// Every sample, in decode order.
    All,
    /// Sync samples only, in decode order: trick modes.
    Sync,
}

/// One sample (or several small ones) turned into packets that are due together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Decode time: when the packets are due at normal speed.
    pub due: Npt,
    /// Composition (presentation) time of the first sample.
    pub npt: Npt,
    /// Composition time in RTP clock ticks from the start of the presentation.
    pub rtp_ticks: i64,
    /// First sample, 0-based in the order of the track's `SampleIndex`.
    pub sample_index: u32,
    /// First packet in the window.
    pub packet_index: u32,
    /// Packets of this frame, at least 1.
    pub packet_count: u32,
    /// A decoder can start here.
    pub is_sync: bool,
    /// No other sample depends on this one.
    pub is_disposable: bool,
}

#[cfg(test)]
impl Frame {
    /// One for tests: at the beginning, and a decoder can start here.
    pub(crate) const SYNC: Self = Self {
        due: Npt::ZERO,
        npt: Npt::ZERO,
        rtp_ticks: 0,
        sample_index: 0,
        packet_index: 0,
        packet_count: 0,
        is_sync: true,
        is_disposable: false,
    };
}

/// One RTP packet without its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// First piece in the window.
    pub piece_index: u32,
    /// Number of pieces, at least 1.
    pub piece_count: u16,
    /// Sum of the pieces' lengths.
    pub payload_bytes: u16,
    /// RTP marker bit.
    pub marker: bool,
}

/// Part of a packet's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Bytes in the window's `inline` block.
    Inline {
        /// From its start.
        offset: u32,
        /// Length.
        bytes: u16,
    },
    /// Bytes of the media file.
    File {
        /// From the start of the file.
        offset: u64,
        /// Length.
        bytes: u16,
    },
}

/// Packet descriptors of about two seconds of one track.
#[derive(Debug)]
pub struct PacketWindow {
    frames: Box<[Frame]>,
    packets: Box<[Packet]>,
    pieces: Box<[Piece]>,
    inline: Arc<[u8]>,
    pages_seen: PagesSeen,
    image: ImageSlot,
}

impl PartialEq for PacketWindow {
    /// The same packets; where their bytes are at the moment does not matter.
    fn eq(&self, other: &Self) -> bool {
        let Self { frames, packets, pieces, inline, pages_seen: _, image: _ } = self;
        *frames == other.frames
            && *packets == other.packets
            && *pieces == other.pieces
            && *inline == other.inline
    }
}

impl Eq for PacketWindow {}

impl PacketWindow {
    /// A worker has all pages of the payload in memory and mapped at `now`.
    pub fn mark_pages_seen(&self, now: Mono) {
        self.pages_seen.set(now);
    }

    /// Whether the payload may be sent from at `now`.
    #[must_use]
    pub fn pages(&self, now: Mono) -> Pages {
        self.pages_seen.at(now)
    }

    /// The window's image, if it has one.
    #[must_use]
    pub fn image(&self) -> &ImageSlot {
        &self.image
    }

    /// All frames in sending order.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The packets of one of this window's frames.
    #[must_use]
    pub fn packets(&self, frame: &Frame) -> &[Packet] {
        let first = frame.packet_index as usize;
        &self.packets[first..first + frame.packet_count as usize]
    }

    /// The packets of all frames, in sending order.
    #[must_use]
    pub fn all_packets(&self) -> &[Packet] {
        &self.packets
    }

    /// One of this window's packets, by its place.
    #[must_use]
    pub fn packet(&self, packet_index: u32) -> Option<&Packet> {
        self.packets.get(packet_index as usize)
    }

    /// The pieces of one of this window's packets.
    #[must_use]
    pub fn pieces(&self, packet: &Packet) -> &[Piece] {
        let first = packet.piece_index as usize;
        &self.pieces[first..first + usize::from(packet.piece_count)]
    }

    /// The bytes of an inline piece.
    #[must_use]
    pub fn inline_bytes(&self, offset: u32, bytes: u16) -> &[u8] {
        &self.inline[offset as usize..offset as usize + usize::from(bytes)]
    }

    /// All inline bytes. A sender that refers to long pieces keeps the block until they are sent;
    /// `inline_bytes` lies in it.
    #[must_use]
    pub fn inline_block(&self) -> &Arc<[u8]> {
        &self.inline
    }

    /// Memory that the window takes, for the cache's budget.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.frames)
            + size_of_val(&*self.packets)
            + size_of_val(&*self.pieces)
            + self.inline.len()
    }
}

/// Collects a window: packetizers push pieces, close packets and close frames.
///
/// Empty pieces are ignored; a frame without packets is dropped.
#[derive(Debug, Default)]
pub struct WindowBuilder {
    frames: Vec<Frame>,
    packets: Vec<Packet>,
    pieces: Vec<Piece>,
    inline: Vec<u8>,
    open_piece: usize,
    open_packet: usize,
    open_bytes: usize,
}

impl WindowBuilder {
    /// An empty window.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes that are not in the file; merged with an inline piece just before.
    pub fn push_inline(&mut self, bytes: &[u8]) {
        let Ok(count) = u16::try_from(bytes.len()) else { return };
        if count == 0 {
            return;
        }
        self.open_bytes += bytes.len();
        let open = &mut self.pieces[self.open_piece..];
        if let Some(Piece::Inline { bytes: last, .. }) = open.last_mut()
            && let Some(sum) = last.checked_add(count)
        {
            *last = sum;
        } else {
            let offset = u32::try_from(self.inline.len()).unwrap_or(u32::MAX);
            self.pieces.push(Piece::Inline { offset, bytes: count });
        }
        self.inline.extend_from_slice(bytes);
    }

    /// Appends a range of the file; merged with the range just before when it continues it.
    pub fn push_file(&mut self, offset: u64, bytes: usize) {
        let Ok(count) = u16::try_from(bytes) else { return };
        if count == 0 {
            return;
        }
        self.open_bytes += bytes;
        let open = &mut self.pieces[self.open_piece..];
        if let Some(Piece::File { offset: start, bytes: last }) = open.last_mut()
            && *start + u64::from(*last) == offset
            && let Some(sum) = last.checked_add(count)
        {
            *last = sum;
        } else {
            self.pieces.push(Piece::File { offset, bytes: count });
        }
    }

    /// Payload bytes pushed since the last packet was closed.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// Packets closed since the last frame was closed.
    #[must_use]
    pub fn open_packet_count(&self) -> usize {
        self.packets.len() - self.open_packet
    }

    /// Closes the packet made of the pieces pushed since the last one. Nothing pushed: no packet.
    pub fn end_packet(&mut self, marker: bool) {
        let piece_count = self.pieces.len() - self.open_piece;
        if piece_count > 0 {
            self.packets.push(Packet {
                piece_index: u32::try_from(self.open_piece).unwrap_or(u32::MAX),
                piece_count: u16::try_from(piece_count).unwrap_or(u16::MAX),
                payload_bytes: u16::try_from(self.open_bytes).unwrap_or(u16::MAX),
                marker,
            });
        }
        self.open_piece = self.pieces.len();
        self.open_bytes = 0;
    }

    /// Sets the marker of the packet closed last in the open frame.
    pub fn mark_last_packet(&mut self) {
        if let Some(packet) = self.packets[self.open_packet..].last_mut() {
            packet.marker = true;
        }
    }

    /// Closes the frame made of the packets closed since the last one. `frame`'s packet fields are
    /// filled in here.
    pub fn end_frame(&mut self, frame: Frame) {
        let packet_count = self.packets.len() - self.open_packet;
        if packet_count > 0 {
            self.frames.push(Frame {
                packet_index: u32::try_from(self.open_packet).unwrap_or(u32::MAX),
                packet_count: u32::try_from(packet_count).unwrap_or(u32::MAX),
                ..frame
            });
        }
        self.open_packet = self.packets.len();
    }

    /// The finished window; an unclosed packet or frame is left out.
    #[must_use]
    pub fn finish(mut self) -> PacketWindow {
        self.packets.truncate(self.open_packet);
        PacketWindow {
            frames: self.frames.into_boxed_slice(),
            packets: self.packets.into_boxed_slice(),
            pieces: self.pieces.into_boxed_slice(),
            inline: self.inline.into(),
            pages_seen: PagesSeen::default(),
            image: ImageSlot::default(),
        }
    }
}
