//! Frames of `wire::peer`: written, and read back from a byte stream that is cut anywhere.
//!
//! A frame keeps the bytes it was read from or written to, so that it is passed on as it is.
//! Invariant: what [`FrameReader`] gives has a length that fits its kind; signatures and hashes are
//! checked later, by [`super::UnitVerifier`].
//! Bound: a length is checked before memory is taken for it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::{
    FRAME_HEADER_LEN, HASHES_PER_FRAME_MAX, Signature, UNIT_HEADER_LEN, UNIT_LEN, end_message,
    hashes_message,
};
use crate::dist::ids::{ContentId, Digest};
use crate::dist::wire::peer::ContentEnd;

/// One of the three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Hashes of the units that follow.
    Hashes(HashFrame),
    /// A unit.
    Unit(UnitFrame),
    /// Size and root; nothing follows.
    End(EndFrame),
}

/// Signed hashes of 1 to [`HASHES_PER_FRAME_MAX`] units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashFrame {
    encoded: Bytes,
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFrame {
    encoded: Bytes,
}

/// Signed size and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndFrame {
    encoded: Bytes,
}

/// Bytes are no frame: the source speaks something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Kind other than 1, 2 and 3.
    #[error("no frame: its kind is {kind}")]
    Kind {
        /// First byte.
        kind: u8,
    },
    /// Length that a frame of this kind cannot have.
    #[error("no frame: one of kind {kind} cannot have {len} bytes")]
    Length {
        /// First byte.
        kind: u8,
        /// The next four.
        len: u32,
    },
}

impl Frame {
    /// The frame as it travels.
    #[must_use]
    pub const fn encoded(&self) -> &Bytes {
        match self {
            Self::Hashes(frame) => frame.encoded(),
            Self::Unit(frame) => frame.encoded(),
            Self::End(frame) => frame.encoded(),
        }
    }
}

impl HashFrame {
    /// Makes a frame of the hashes of units from `first` on; `sign` signs a message.
    ///
    /// # Panics
    /// Without hashes, or with more than [`HASHES_PER_FRAME_MAX`]: the caller counts them.
    #[must_use]
    pub fn sign(
        content: ContentId,
        first: u64,
        hashes: &[[u8; 32]],
        sign: impl FnOnce(&[u8]) -> Signature,
    ) -> Self {
        assert!((1..=HASHES_PER_FRAME_MAX).contains(&hashes.len()), "{} hashes", hashes.len());
        let hashes = hashes.as_flattened();
        let signature = sign(&hashes_message(content, first, hashes));
        let mut body = Vec::with_capacity(8 + hashes.len() + 64);
        body.extend_from_slice(&first.to_be_bytes());
        body.extend_from_slice(hashes);
        body.extend_from_slice(&signature);
        Self { encoded: encode(KIND_HASHES, &body) }
    }

    /// First unit.
    #[must_use]
    pub fn first(&self) -> u64 {
        u64_at(&self.encoded, FRAME_HEADER_LEN)
    }

    /// The unit behind the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first().saturating_add((self.hash_bytes().len() / 32) as u64)
    }

    /// Hashes, in the order of the units.
    pub fn hashes(&self) -> impl Iterator<Item = [u8; 32]> {
        self.hash_bytes().as_chunks::<32>().0.iter().copied()
    }

    /// Hash of unit `number`, if the frame has it.
    #[must_use]
    pub fn hash_of(&self, number: u64) -> Option<[u8; 32]> {
        let place = usize::try_from(number.checked_sub(self.first())?).ok()?;
        self.hash_bytes().as_chunks::<32>().0.get(place).copied()
    }

    /// True when `verify` says of message and signature that the base signed them.
    pub fn is_signed(
        &self,
        content: ContentId,
        verify: impl FnOnce(&[u8], &Signature) -> bool,
    ) -> bool {
        let message = hashes_message(content, self.first(), self.hash_bytes());
        self.encoded.last_chunk().is_some_and(|signature| verify(&message, signature))
    }

    /// The frame as it travels.
    #[must_use]
    pub const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    fn hash_bytes(&self) -> &[u8] {
        let end = self.encoded.len().saturating_sub(64);
        self.encoded.get(FRAME_HEADER_LEN + 8..end).unwrap_or_default()
    }
}

impl UnitFrame {
    /// Makes a frame of a unit.
    #[must_use]
    pub fn new(number: u64, bytes: &[u8]) -> Self {
        let mut unit = UnitBuffer::default();
        unit.fill(&mut &*bytes);
        unit.finish(number)
    }

    /// Makes a frame of a unit of `len` bytes, which `fill` writes.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn fill<E>(
        number: u64,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut buffer = BytesMut::zeroed(UNIT_HEADER_LEN + len.min(UNIT_LEN));
        write_unit_header(&mut buffer, number);
        fill(&mut buffer[UNIT_HEADER_LEN..])?;
        Ok(Self { encoded: buffer.freeze() })
    }

    /// Number of the unit, from 0.
    #[must_use]
    pub fn number(&self) -> u64 {
        u64_at(&self.encoded, FRAME_HEADER_LEN)
    }

    /// Bytes of the unit.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.encoded.get(UNIT_HEADER_LEN..).unwrap_or_default()
    }

    /// Bytes of the unit, for whoever keeps them.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.encoded.slice(UNIT_HEADER_LEN..)
    }

    /// The frame as it travels.
    #[must_use]
    pub const fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

impl EndFrame {
    /// Makes the frame of an end; `sign` signs a message.
    #[must_use]
    pub fn sign(
        content: ContentId,
        end: &ContentEnd,
        sign: impl FnOnce(&[u8]) -> Signature,
    ) -> Self {
        let signature = sign(&end_message(content, end));
        let mut body = Vec::with_capacity(END_BODY_LEN);
        body.extend_from_slice(&end.size.to_be_bytes());
        let Digest(root) = end.blake3;
        body.extend_from_slice(&root);
        body.extend_from_slice(&signature);
        Self { encoded: encode(KIND_END, &body) }
    }

    /// Size and root.
    #[must_use]
    pub fn end(&self) -> ContentEnd {
        let mut root = [0; 32];
        let bytes = self.encoded.get(FRAME_HEADER_LEN + 8..FRAME_HEADER_LEN + 40);
        root.copy_from_slice(bytes.unwrap_or(&[0; 32]));
        ContentEnd { size: u64_at(&self.encoded, FRAME_HEADER_LEN), blake3: Digest(root) }
    }

    /// True when `verify` says of message and signature that the base signed them.
    pub fn is_signed(
        &self,
        content: ContentId,
        verify: impl FnOnce(&[u8], &Signature) -> bool,
    ) -> bool {
        let message = end_message(content, &self.end());
        self.encoded.last_chunk().is_some_and(|signature| verify(&message, signature))
    }

    /// The frame as it travels.
    #[must_use]
    pub const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Bytes of such a frame.
    pub const LEN: usize = FRAME_HEADER_LEN + END_BODY_LEN;
}

/// A unit that is filled piece by piece, in the place where its frame will be.
#[derive(Debug, Default)]
pub struct UnitBuffer {
    /// Room for the header, then bytes; empty before the first byte.
    buffer: BytesMut,
}

impl UnitBuffer {
    /// Takes bytes from `input` until the unit is full or nothing is left.
    pub fn fill(&mut self, input: &mut impl Buf) {
        if self.buffer.is_empty() && input.has_remaining() {
            self.buffer.reserve(UNIT_HEADER_LEN + UNIT_LEN);
            self.buffer.resize(UNIT_HEADER_LEN, 0);
        }
        while input.has_remaining() && !self.is_full() {
            let room = UNIT_HEADER_LEN + UNIT_LEN - self.buffer.len();
            let piece = input.chunk();
            let taken = piece.len().min(room);
            self.buffer.extend_from_slice(&piece[..taken]);
            input.advance(taken);
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(UNIT_HEADER_LEN..).unwrap_or_default()
    }

    /// True with [`UNIT_LEN`] bytes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.buffer.len() == UNIT_HEADER_LEN + UNIT_LEN
    }

    /// Gives the unit as a frame and is empty again.
    pub fn finish(&mut self, number: u64) -> UnitFrame {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(buffer.len().max(UNIT_HEADER_LEN), 0);
        write_unit_header(&mut buffer, number);
        UnitFrame { encoded: buffer.freeze() }
    }
}

/// Reads frames from a byte stream.
#[derive(Debug, Default)]
pub struct FrameReader {
    input: VecDeque<Bytes>,
    /// The frame that has begun: header, then body.
    pub(super) begun: BytesMut,
}

impl FrameReader {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. The caller calls [`Self::next_frame`] until it has none
    /// before it pushes more, so no more than one piece waits here.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.input.push_back(bytes);
        }
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the stream is no stream of frames; it cannot be read any further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if !self.fill_to(FRAME_HEADER_LEN) {
            return Ok(None);
        }
        let (kind, len) = header_of(&self.begun);
        let total = FRAME_HEADER_LEN + check_length(kind, len)?;
        self.begun.reserve(total.saturating_sub(self.begun.len()));
        if !self.fill_to(total) {
            return Ok(None);
        }
        let encoded = std::mem::take(&mut self.begun).freeze();
        Ok(Some(match kind {
            KIND_HASHES => Frame::Hashes(HashFrame { encoded }),
            KIND_UNIT => Frame::Unit(UnitFrame { encoded }),
            _ => Frame::End(EndFrame { encoded }),
        }))
    }

    /// True when the bytes so far end behind a frame.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.begun.is_empty() && self.input.is_empty()
    }

    fn fill_to(&mut self, len: usize) -> bool {
        while self.begun.len() < len {
            let Some(front) = self.input.front_mut() else { return false };
            let taken = front.len().min(len - self.begun.len());
            self.begun.extend_from_slice(&front[..taken]);
            front.advance(taken);
            if front.is_empty() {
                self.input.pop_front();
            }
        }
        true
    }
}

/// Writes kind, length and number in front of a unit's bytes. `buffer` has the room for them.
fn write_unit_header(buffer: &mut [u8], number: u64) {
    let len = u32::try_from(buffer.len().saturating_sub(FRAME_HEADER_LEN)).unwrap_or(u32::MAX);
    if let Some(header) = buffer.first_chunk_mut::<UNIT_HEADER_LEN>() {
        header[0] = KIND_UNIT;
        header[1..5].copy_from_slice(&len.to_be_bytes());
        header[5..].copy_from_slice(&number.to_be_bytes());
    }
}

fn encode(kind: u8, body: &[u8]) -> Bytes {
    let mut encoded = Vec::with_capacity(FRAME_HEADER_LEN + body.len());
    encoded.push(kind);
    encoded.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    encoded.extend_from_slice(body);
    encoded.into()
}

fn header_of(bytes: &[u8]) -> (u8, u32) {
    match bytes.first_chunk::<FRAME_HEADER_LEN>() {
        Some(&[kind, a, b, c, d]) => (kind, u32::from_be_bytes([a, b, c, d])),
        None => (0, 0),
    }
}

fn check_length(kind: u8, len: u32) -> Result<usize, FrameError> {
    let bytes = usize::try_from(len).unwrap_or(usize::MAX);
    let fits = match kind {
        KIND_HASHES => bytes.checked_sub(8 + 64).is_some_and(|hashes| {
            hashes % 32 == 0 && (1..=HASHES_PER_FRAME_MAX).contains(&(hashes / 32))
        }),
        KIND_UNIT => (8 + 1..=8 + UNIT_LEN).contains(&bytes),
        KIND_END => bytes == END_BODY_LEN,
        _ => return Err(FrameError::Kind { kind }),
    };
    if fits { Ok(bytes) } else { Err(FrameError::Length { kind, len }) }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

const KIND_HASHES: u8 = 1;
const KIND_UNIT: u8 = 2;
const KIND_END: u8 = 3;
const END_BODY_LEN: usize = 8 + 32 + 64;
