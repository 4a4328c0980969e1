//! The bytes of a content, verified by BLAKE3 in units of 64 KiB, and the frames they travel in.
//!
//! ```text
//! bytes --UnitHasher--> unit hashes, signed by the base --> HashFrame   (see `wire::peer`)
//!                \----> root ------- signed by the base --> EndFrame
//! connection --FrameReader--> Frame --UnitVerifier--> verified units, in order, each once
//! ```
//! The hash of a unit is the chaining value of its subtree of BLAKE3, so that all hashes together
//! give the BLAKE3 of the content without another pass over its bytes.
//!
//! Invariants: a unit is accepted only behind all units before it, and only when its hash is one
//! that the base signed for its place in this content. The end is accepted only when size and root
//! agree with what was accepted. Where several sources give at once, units that agree with their
//! hashes wait ahead of a gap (`ahead`).
//! Bounds: a frame has at most [`FRAME_BYTES_MAX`] bytes; a verifier keeps the hashes of at most
//! [`HASHES_AHEAD_MAX`] units that have not come, and units within [`AHEAD_BYTES_MAX`].

mod ahead;
mod frame;
mod hash;
#[cfg(test)]
mod tests;
mod verify;

pub use ahead::Caught;
pub use frame::{EndFrame, Frame, FrameError, FrameReader, HashFrame, UnitBuffer, UnitFrame};
pub use hash::{Tree, UnitHash, UnitHasher};
pub use verify::{Accepted, UnitError, UnitVerifier};

use crate::dist::ids::{ContentId, Digest};
use crate::dist::wire::peer::ContentEnd;

/// Bytes of every unit but the last, which has 1 to as many.
pub const UNIT_BYTES: u64 = 65_536;
/// The same where lengths of memory are meant.
pub const UNIT_LEN: usize = 65_536;
/// Hashes of a frame at most.
pub const HASHES_PER_FRAME_MAX: usize = 16;
/// Hashes that may be ahead of the units: two frames.
pub const HASHES_AHEAD_MAX: usize = 2 * HASHES_PER_FRAME_MAX;
/// Units of several sources may be so far ahead of a gap: bytes that one node receives in more than
/// half a second at 200 Mbit/s. What is ahead is in memory until the gap is closed.
pub const AHEAD_BYTES_MAX: u64 = 16 << 20;
/// Kind and length.
pub const FRAME_HEADER_LEN: usize = 5;
/// Header and number of a unit: what a unit's bytes stand behind.
pub const UNIT_HEADER_LEN: usize = FRAME_HEADER_LEN + 8;
/// The longest frame, with its header: a unit.
pub const FRAME_BYTES_MAX: usize = UNIT_HEADER_LEN + UNIT_LEN;

/// Ed25519 signature.
pub type Signature = [u8; 64];

/// What the base signs of a frame of hashes.
#[must_use]
pub fn hashes_message(content: ContentId, first: u64, hashes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(16 + 1 + 8 + hashes.len());
    message.extend_from_slice(content.0.as_bytes());
    message.push(b'H');
    message.extend_from_slice(&first.to_be_bytes());
    message.extend_from_slice(hashes);
    message
}

/// What the base signs of an end.
#[must_use]
pub fn end_message(content: ContentId, end: &ContentEnd) -> Vec<u8> {
    let mut message = Vec::with_capacity(16 + 1 + 8 + 32);
    message.extend_from_slice(content.0.as_bytes());
    message.push(b'E');
    message.extend_from_slice(&end.size.to_be_bytes());
    let Digest(root) = end.blake3;
    message.extend_from_slice(&root);
    message
}

/// Units of a content of `size` bytes.
#[must_use]
pub const fn units_of(size: u64) -> u64 {
    size.div_ceil(UNIT_BYTES)
}
