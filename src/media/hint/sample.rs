//! Bytes of a hint sample to packets and constructors.
//!
//! ```text
//! u16 packets, u16 -, packet*
//! packet       i32 time, u16 RTP bits (marker 0x80, type), u16 sequence, u16 flags, u16 entries,
//!              [flags & 4: u32 bytes, (u32 size, kind, value)*], constructor*
//! constructor  u8 kind, 15 bytes: 1 = immediate, 2 = sample range
//! ```
//! QuickTime File Format "RTP Hint Sample Data Format"; ISO 14496-12 s9.1.3.

use super::HintError;

/// One packet of a hint sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) marker: bool,
    pub(super) is_disposable: bool,
    pub(super) is_repeated: bool,
    /// `rtpo`: ticks from the hint sample's time to the RTP timestamp.
    pub(super) rtp_offset: Option<i32>,
    constructors: &'a [u8],
    /// Where `constructors` starts in the hint sample.
    at: u32,
}

/// What a constructor adds to a packet's payload.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op<'a> {
    Immediate(&'a [u8]),
    Range(Range),
}

/// A range of a sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) source: Source,
    pub(super) bytes: u16,
    /// 1-based, as the file counts.
    pub(super) sample: u32,
    pub(super) offset: u32,
}

/// Whose sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Entry of `tref/hint`.
    Media(i8),
    /// The hint track itself.
    Hint,
}

/// The packets of a hint sample, in order; ends after the first error.
pub(super) fn packets(bytes: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, HintError>> {
    let mut reader = Reader { bytes, at: 0 };
    let mut left = reader.u16().unwrap_or(0);
    let mut head = reader.u16();
    std::iter::from_fn(move || {
        head?;
        left = left.checked_sub(1)?;
        let packet = reader.packet();
        if packet.is_none() {
            head = None;
        }
        Some(packet.ok_or_else(|| HintError::Cut { offset: reader.offset() }))
    })
}

impl<'a> Packet<'a> {
    /// What the packet is made of, each with the constructor's place in the hint sample.
    pub(super) fn ops(&self) -> impl Iterator<Item = Result<(u32, Op<'a>), HintError>> + use<'a> {
        let at = self.at;
        let entries = (0u32..).zip(self.constructors.chunks_exact(CONSTRUCTOR_BYTES));
        entries.filter_map(move |(i, entry)| {
            let offset = at.saturating_add(i * 16);
            constructor(entry, offset).transpose().map(|op| op.map(|op| (offset, op)))
        })
    }
}

fn constructor(entry: &[u8], offset: u32) -> Result<Option<Op<'_>>, HintError> {
    let kind = entry.first().copied().unwrap_or(0);
    let cut = HintError::Cut { offset };
    match kind {
        0 => Ok(None),
        1 => {
            let bytes = entry.get(1).copied().map_or(0, usize::from);
            entry.get(2..2 + bytes).map(|b| Some(Op::Immediate(b))).ok_or(cut)
        }
        2 => {
            let mut reader = Reader { bytes: entry, at: 1 };
            let mut read = || {
                let reference = reader.array::<1>().map(i8::from_be_bytes)?;
                let (bytes, sample, offset) = (reader.u16()?, reader.u32()?, reader.u32()?);
                let (block_bytes, block_samples) = (reader.u16()?, reader.u16()?);
                let source = if reference == -1 { Source::Hint } else { Source::Media(reference) };
                Some((Range { source, bytes, sample, offset }, block_bytes, block_samples))
            };
            let (range, block_bytes, block_samples) = read().ok_or(cut)?;
            if block_bytes > 1 && block_samples > 1 {
                // Old QuickTime sound compression, counted in blocks.
                return Err(HintError::Constructor { kind, offset });
            }
            Ok(Some(Op::Range(range)))
        }
        _ => Err(HintError::Constructor { kind, offset }),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn offset(&self) -> u32 {
        u32::try_from(self.at).unwrap_or(u32::MAX)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn packet(&mut self) -> Option<Packet<'a>> {
        // When to transmit relative to the sample's time: our pacer spreads packets itself.
        let _transmit_at = self.u32()?;
        let bits = self.u16()?;
        let _sequence = self.u16()?;
        let flags = self.u16()?;
        let entries = self.u16()?;
        let mut rtp_offset = None;
        if flags & 4 != 0 {
            let bytes = self.u32()? as usize;
            let extra = self.take(bytes.checked_sub(4)?)?;
            rtp_offset = rtp_offset_in(extra);
        }
        let at = self.offset();
        let constructors = self.take(usize::from(entries) * CONSTRUCTOR_BYTES)?;
        Some(Packet {
            marker: bits & 0x80 != 0,
            is_disposable: flags & 2 != 0,
            is_repeated: flags & 1 != 0,
            rtp_offset,
            constructors,
            at,
        })
    }
}

/// `rtpo` among the extra information, whose entries are padded to 4 bytes.
fn rtp_offset_in(extra: &[u8]) -> Option<i32> {
    let mut reader = Reader { bytes: extra, at: 0 };
    loop {
        let bytes = reader.u32()? as usize;
        let kind = reader.array::<4>()?;
        if kind == *b"rtpo" {
            return reader.u32().map(u32::cast_signed);
        }
        reader.take(bytes.checked_sub(8)?.checked_next_multiple_of(4)?)?;
    }
}

const CONSTRUCTOR_BYTES: usize = 16;
