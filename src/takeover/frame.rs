//! The head of a message on the socket: how many bytes and descriptors follow.
//!
//! ```text
//!  "HETK" | bytes u32 | descriptors u32 | bytes .. | one byte for each DESCRIPTORS_A_PIECE of them
//!  "HETM" | bytes u32 | descriptors u32 | the same of one more descriptor: the first is a file
//! ```
//! A large message stands in a file in memory: a socket takes 200 KiB at a time, and both processes
//! would wait for each other again and again.

use super::{DESCRIPTORS_MAX, MESSAGE_BYTES_MAX};

/// Head of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the message.
    pub bytes: u32,
    /// Descriptors beside it.
    pub descriptors: u32,
    /// The message stands in a file, whose descriptor comes before the others.
    pub is_apart: bool,
}

/// Bytes of a head.
pub const HEAD_BYTES: usize = 12;
/// Descriptors that the kernel takes with one byte: `SCM_MAX_FD` is 253.
pub const DESCRIPTORS_A_PIECE: usize = 200;

const MAGIC: [u8; 4] = *b"HETK";
const MAGIC_APART: [u8; 4] = *b"HETM";

impl Head {
    /// As on the socket.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(if self.is_apart { &MAGIC_APART } else { &MAGIC });
        bytes[4..8].copy_from_slice(&self.bytes.to_be_bytes());
        bytes[8..].copy_from_slice(&self.descriptors.to_be_bytes());
        bytes
    }

    /// Reads a head. `None`: it is none of ours, or too much follows.
    #[must_use]
    pub fn from_bytes(head: [u8; HEAD_BYTES]) -> Option<Self> {
        let [m0, m1, m2, m3, a, b, c, d, e, f, g, h] = head;
        let bytes = u32::from_be_bytes([a, b, c, d]);
        let descriptors = u32::from_be_bytes([e, f, g, h]);
        let magic = [m0, m1, m2, m3];
        let is_apart = magic == MAGIC_APART;
        let fits = bytes <= MESSAGE_BYTES_MAX && descriptors <= DESCRIPTORS_MAX;
        let is_ours = is_apart || magic == MAGIC;
        (is_ours && fits).then_some(Self { bytes, descriptors, is_apart })
    }
}
