//! Takes the bytes of a fuzzer apart: a few numbers that steer a body, then what is read.
//!
//! Numbers stand at the front, so that an input of the corpus is a few bytes and then a message as
//! it is sent. Bytes that are not there are zeros: every input is good for every body.

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// The next two bytes, as networks order them.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// The next bytes, fewer at the end.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes with their number in front, in one byte.
    pub fn short(&mut self) -> &'a [u8] {
        let count = self.u8();
        self.take(usize::from(count))
    }

    /// Bytes with their number in front, in two bytes.
    pub fn long(&mut self) -> &'a [u8] {
        let count = self.u16();
        self.take(usize::from(count))
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }
}

/// `bytes` in pieces whose lengths follow from `seed`: single bytes for 0, up to 64 for others.
pub fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut state) = (bytes, u32::from(seed).wrapping_mul(0x9e37_79b9));
    std::iter::from_fn(move || {
        // Xorshift: any sequence does that the same input repeats.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let count = 1 + usize::from(u8::try_from(state & 63).unwrap_or(0));
        let (piece, behind) = rest.split_at(count.min(rest.len()));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The bytes as text, as edges read them.
#[must_use]
pub fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A text of at most `chars_max` characters without control characters, for a field of a message.
#[must_use]
pub fn field(bytes: &[u8], chars_max: usize) -> String {
    text(bytes).chars().filter(|c| !c.is_control()).take(chars_max).collect()
}
