//! The image of a window: its packets in memory as they go on the wire, headers included.
//!
//! ```text
//! window  frame 0: [p 0][p 1][p 2]      frame 1: [p 3] ..
//! bytes   [hdr|p 0][hdr|p 1][hdr|p 2]            [hdr|p 3] ..         one block, in order
//! places  [at 0, run ends at 3]                  [at 4236, run ends at 4] ..
//! ```
//! A stream may send from an image while its own next header would be the one that stands there:
//! the same SSRC, payload type, sequence number and RTP time ([`PacketImage::shows`]). That is
//! looked at before each frame, so whatever changes a stream's numbers (a seek, a pause, frames
//! left out) makes it leave the image, and its packets go on by the numbers that it has.
//!
//! A window's [`ImageSlot`] also finds out whether an image is worth it: streams that enter the
//! window say what their numbers are, and the numbers that most have win.
//!
//! Invariants: an image is immutable once it is in its slot; each packet has the bytes that a
//! stream with these numbers would send. Bounds: `IMAGE_BYTES_MAX`; one image a window.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwapOption, Guard};

use super::payload_window::FilePart;
use super::window::{Frame, Packet, PacketWindow, Piece};
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::limits::UDP_SEND_BYTES_MAX;
use crate::base::time::Mono;
use crate::mapped::Block;

/// Bytes of an RTP header without extras (RFC 3550 s5.1).
pub const IMAGE_HEADER_BYTES: usize = 12;

/// What the headers of an image say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageNumbers {
    /// SSRC of all packets.
    pub ssrc: Ssrc,
    /// Payload type of all packets.
    pub payload_type: u8,
    /// Sequence number of the window's first packet.
    pub first_seq: SeqNo,
    /// RTP time at the start of the presentation: a frame has `Frame::rtp_ticks` more.
    pub ts_zero: RtpTs,
}

/// Header of a packet: marker, payload type, sequence number, RTP time, SSRC.
pub type WriteHeader = fn(&mut [u8; IMAGE_HEADER_BYTES], bool, u8, SeqNo, RtpTs, Ssrc);

/// See the module.
#[derive(Debug)]
pub struct PacketImage {
    numbers: ImageNumbers,
    bytes: Block,
    /// One for each packet of the window, and one behind the last.
    places: Box<[Place]>,
    /// When a stream entered its window last, in seconds of the shards' clock.
    entered_s: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    /// First byte of the packet.
    offset: u32,
    /// Packet behind the last one that may be in one run with this one.
    run_end: u32,
}

/// Packets that one send takes: of one size, except for a shorter last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageRun {
    /// Place of the first packet in the window.
    pub packet_index: u32,
    /// First byte in the image.
    pub offset: usize,
    /// Length, headers included.
    pub bytes: usize,
    /// Number of packets.
    pub packets: u16,
    /// Length of the first packet.
    pub segment_bytes: u16,
    /// Bytes without headers.
    pub payload_bytes: u32,
}

impl PacketImage {
    /// What its headers say.
    #[must_use]
    pub fn numbers(&self) -> ImageNumbers {
        self.numbers
    }

    /// Whether the packet of a frame that has this place in the window stands here with these
    /// numbers.
    #[must_use]
    pub fn shows(
        &self,
        frame: &Frame,
        packet_index: u32,
        (ssrc, payload_type): (Ssrc, u8),
        (seq, ts): (SeqNo, RtpTs),
    ) -> bool {
        let ImageNumbers { ssrc: of_all, payload_type: type_of_all, .. } = self.numbers;
        (of_all, type_of_all) == (ssrc, payload_type)
            && self.numbers.seq_of(packet_index) == seq
            && self.numbers.ts_of(frame) == ts
    }

    /// The longest run that begins with this packet and has `packets_max` packets at most. `None`:
    /// there is no such packet, or nothing may be sent.
    #[must_use]
    pub fn run(&self, packet_index: u32, packets_max: usize) -> Option<ImageRun> {
        let first = packet_index as usize;
        let place = self.places.get(first)?;
        let packets = usize::try_from(place.run_end).ok()?.checked_sub(first)?.min(packets_max);
        let start = place.offset as usize;
        let segment = self.places.get(first + 1)?.offset as usize - start;
        let bytes = self.places.get(first + packets)?.offset as usize - start;
        let headers = packets * IMAGE_HEADER_BYTES;
        (packets > 0).then_some(ImageRun {
            packet_index,
            offset: start,
            bytes,
            packets: u16::try_from(packets).ok()?,
            segment_bytes: u16::try_from(segment).ok()?,
            payload_bytes: u32::try_from(bytes.checked_sub(headers)?).ok()?,
        })
    }

    /// Bytes of a run, for the kernel.
    #[must_use]
    pub fn bytes_of(&self, run: &ImageRun) -> Option<&[u8]> {
        self.bytes.get(run.offset..run.offset + run.bytes)
    }

    /// Memory that the image takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        memory_bytes(self.places.len(), self.bytes.len())
    }

    /// A stream that it fits has entered its window.
    pub fn note_entered(&self, now: Mono) {
        let now_s = now.0 / NS_PER_S;
        if self.entered_s.load(Ordering::Relaxed) != now_s {
            self.entered_s.store(now_s, Ordering::Relaxed);
        }
    }

    /// Seconds since a stream entered its window.
    #[must_use]
    pub fn idle_s(&self, now: Mono) -> u64 {
        (now.0 / NS_PER_S).saturating_sub(self.entered_s.load(Ordering::Relaxed))
    }

    /// Whether a stream may be in its window: one is played for two seconds.
    #[must_use]
    pub fn is_in_use(&self, now: Mono) -> bool {
        self.idle_s(now) <= IN_USE_S
    }
}

impl ImageNumbers {
    fn seq_of(&self, packet_index: u32) -> SeqNo {
        // Numbers wrap, however many packets a window has.
        self.first_seq.plus((packet_index & 0xffff) as u16)
    }

    fn ts_of(&self, frame: &Frame) -> RtpTs {
        self.ts_zero.offset_ticks(frame.rtp_ticks)
    }
}

/// The window is too large for an image, or there is no memory.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// More bytes than an image may have.
    #[error("{bytes} bytes of packets in one window are more than {IMAGE_BYTES_MAX}")]
    TooLarge {
        /// Bytes of the packets, headers included.
        bytes: usize,
    },
    /// The system gives no memory.
    #[error("there is no memory for an image: {0}")]
    NoMemory(#[from] io::Error),
}

/// An image whose payload is being read.
#[derive(Debug)]
pub struct ImageJob {
    image: PacketImage,
    parts: Vec<FilePart>,
}

impl ImageJob {
    /// Memory that the image of a window will take.
    #[must_use]
    pub fn memory_bytes_of(window: &PacketWindow) -> usize {
        memory_bytes(window.all_packets().len() + 1, Self::bytes_of(window))
    }

    /// Bytes of the packets of a window, headers included.
    fn bytes_of(window: &PacketWindow) -> usize {
        let of = |packet: &Packet| IMAGE_HEADER_BYTES + usize::from(packet.payload_bytes);
        window.all_packets().iter().map(of).sum()
    }

    /// Writes the headers and what is in the window, and finds what is in the file.
    ///
    /// # Errors
    /// The window is too large, or there is no memory.
    pub fn new(
        window: &PacketWindow,
        numbers: ImageNumbers,
        write_header: WriteHeader,
        now: Mono,
    ) -> Result<Self, ImageError> {
        let total = Self::bytes_of(window);
        if total > IMAGE_BYTES_MAX {
            return Err(ImageError::TooLarge { bytes: total });
        }
        let mut bytes = Block::zeroed(total)?;
        let mut places = Vec::with_capacity(window.all_packets().len() + 1);
        let (mut parts, mut at) = (Vec::new(), 0_usize);
        for frame in window.frames() {
            let first = places.len();
            for packet in window.packets(frame) {
                let (seq, ts) = (numbers.seq_of(place(places.len())), numbers.ts_of(frame));
                places.push(Place { offset: place(at), run_end: 0 });
                let mut header = [0; IMAGE_HEADER_BYTES];
                let ImageNumbers { ssrc, payload_type, .. } = numbers;
                write_header(&mut header, packet.marker, payload_type, seq, ts, ssrc);
                at = put(&mut bytes, at, &header);
                for piece in window.pieces(packet) {
                    match *piece {
                        Piece::Inline { offset, bytes: count } => {
                            at = put(&mut bytes, at, window.inline_bytes(offset, count));
                        }
                        Piece::File { offset, bytes } => {
                            parts.push(FilePart { offset, bytes, to: place(at) });
                            at += usize::from(bytes);
                        }
                    }
                }
            }
            cut_runs(places.get_mut(first..).unwrap_or_default(), first, at);
        }
        places.push(Place { offset: place(at), run_end: 0 });
        parts.sort_unstable_by_key(|part| part.offset);
        let entered_s = AtomicU64::new(now.0 / NS_PER_S);
        let image = PacketImage { numbers, bytes, places: places.into_boxed_slice(), entered_s };
        Ok(Self { image, parts })
    }

    /// Parts in the file, in its order.
    #[must_use]
    pub fn parts(&self) -> &[FilePart] {
        &self.parts
    }

    /// Puts the bytes of a part in place; `bytes` begins with them.
    pub fn fill(&mut self, part: FilePart, bytes: &[u8]) {
        part.place(bytes, &mut self.image.bytes);
    }

    /// The image, when all parts are in place.
    #[must_use]
    pub fn finish(self) -> PacketImage {
        self.image
    }
}

fn memory_bytes(places: usize, bytes: usize) -> usize {
    size_of::<PacketImage>() + places * size_of::<Place>() + Block::memory_bytes_of(bytes)
}

/// Finds the runs of a frame's packets, which begin with the window's packet `first` and end at
/// byte `end`.
fn cut_runs(packets: &mut [Place], first: usize, end: usize) {
    let offsets: Vec<usize> =
        packets.iter().map(|packet| packet.offset as usize).chain([end]).collect();
    let bytes_of = |packet: usize| offsets[packet + 1] - offsets[packet];
    let mut start = 0;
    // Bounded: each round takes a packet at least.
    while start < packets.len() {
        let segment = bytes_of(start);
        let mut next = start + 1;
        while next < packets.len()
            && next - start < RUN_PACKETS_MAX
            && bytes_of(next) <= segment
            && bytes_of(next - 1) == segment
            && offsets[next + 1] - offsets[start] <= RUN_BYTES_MAX
        {
            next += 1;
        }
        for packet in &mut packets[start..next] {
            packet.run_end = place(first + next);
        }
        start = next;
    }
}

/// Puts bytes in place; the place behind them.
fn put(block: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let end = at + bytes.len();
    if let Some(to) = block.get_mut(at..end) {
        to.copy_from_slice(bytes);
    }
    end
}

/// `IMAGE_BYTES_MAX` fits.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Where a window has its image, and what streams want of it.
#[derive(Debug, Default)]
pub struct ImageSlot {
    image: ArcSwapOption<PacketImage>,
    demand: AtomicU64,
}

impl ImageSlot {
    /// The image, while the guard lives; no count of it is touched. Cheap: it is asked for with
    /// each frame.
    #[must_use]
    pub fn load(&self) -> Guard<Option<Arc<PacketImage>>> {
        self.image.load()
    }

    /// Puts an image in place, or takes it away.
    pub fn store(&self, image: Option<Arc<PacketImage>>) {
        self.image.store(image);
    }

    /// A stream without a fitting image has entered the window with these numbers. True: so many
    /// have that somebody should make an image, and it is the caller who asks for it.
    pub fn want(&self, numbers: ImageNumbers, now: Mono) -> bool {
        let mut is_enough = false;
        let _ = self.demand.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            let (next, enough) = Demand::from_bits(old).and(numbers, now);
            is_enough = enough;
            Some(next.as_bits())
        });
        is_enough
    }
}

/// The numbers that most streams have that entered a window within some seconds: each of others is
/// one less, and at none the others are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Demand {
    first_seq: SeqNo,
    ts_zero: RtpTs,
    /// Streams; `ASKED`: the image was asked for.
    count: u8,
    /// Of the last stream, or of the question; modulo 256.
    second: u8,
}

impl Demand {
    fn and(self, numbers: ImageNumbers, now: Mono) -> (Self, bool) {
        let ImageNumbers { first_seq, ts_zero, .. } = numbers;
        let second = ((now.0 / NS_PER_S) & 0xff) as u8;
        let age = second.wrapping_sub(self.second);
        let alone = Self { first_seq, ts_zero, count: 1, second };
        let is_same = (self.first_seq, self.ts_zero) == (first_seq, ts_zero);
        let next = match self.count {
            0 => alone,
            ASKED if age <= ASKED_AGAIN_S => return (self, false),
            ASKED => alone,
            _ if age > WITHIN_S => alone,
            count if is_same => Self { count: count + 1, second, ..self },
            1 => alone,
            count => Self { count: count - 1, ..self },
        };
        if next.count >= STREAMS_MIN {
            (Self { count: ASKED, ..next }, true)
        } else {
            (next, false)
        }
    }

    fn as_bits(self) -> u64 {
        u64::from(self.ts_zero.0) << 32
            | u64::from(self.first_seq.0) << 16
            | u64::from(self.count) << 8
            | u64::from(self.second)
    }

    fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, count, second] = bits.to_be_bytes();
        let ts_zero = RtpTs(u32::from_be_bytes([a, b, c, d]));
        Self { first_seq: SeqNo(u16::from_be_bytes([e, f])), ts_zero, count, second }
    }
}

/// Streams that want the same image before it is made. Making it costs a worker as much as two
/// streams save, so it is worth it for some more.
pub const STREAMS_MIN: u8 = 4;
/// They come within so many seconds of each other: a window is played for two.
const WITHIN_S: u8 = 3;
/// An image that was asked for and is not there, because there was no room for it, is asked for
/// again behind so many seconds.
const ASKED_AGAIN_S: u8 = 10;
const ASKED: u8 = u8::MAX;
/// Nobody is in a window that was entered longer ago.
const IN_USE_S: u64 = 3;

/// What every kernel cuts a send into (`UDP_MAX_SEGMENTS`).
const RUN_PACKETS_MAX: usize = 64;
const RUN_BYTES_MAX: usize = UDP_SEND_BYTES_MAX as usize;
/// Packets of one window at most: two seconds of 128 Mbit/s.
pub const IMAGE_BYTES_MAX: usize = 32 << 20;
const NS_PER_S: u64 = 1_000_000_000;

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
