//! Units of a sample: bytes with the place they have in the file, and how they become pieces.

use std::ops::Range;

use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::window::WindowBuilder;

/// Bytes up to this count are copied into the window instead of being sent from the file: a piece
/// of the descriptor is as long itself, and each piece costs the kernel a gather entry.
const COPY_BYTES_MAX: usize = 16;

/// Bytes to be sent: of the file, or of a decoder configuration that is not in the media data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit<'a> {
    /// Its bytes, for looking into.
    pub(super) bytes: &'a [u8],
    /// Where they are in the file; `None` when they are not there.
    pub(super) file_offset: Option<u64>,
}

impl<'a> Unit<'a> {
    /// Bytes of the file.
    pub(super) fn in_file(bytes: &'a [u8], offset: u64) -> Self {
        Self { bytes, file_offset: Some(offset) }
    }

    /// Bytes that are not in the file.
    pub(super) fn inline(bytes: &'a [u8]) -> Self {
        Self { bytes, file_offset: None }
    }

    /// The part of the unit from `start` on.
    pub(super) fn skip(self, start: usize) -> Self {
        let start = start.min(self.bytes.len());
        Self {
            bytes: self.bytes.get(start..).unwrap_or_default(),
            file_offset: self.file_offset.map(|offset| offset.saturating_add(start as u64)),
        }
    }

    /// Length.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the whole unit to the open packet.
    pub(super) fn push(&self, out: &mut WindowBuilder) {
        self.push_range(0..self.bytes.len(), out);
    }

    /// Appends part of the unit to the open packet; the range is cut to the unit.
    pub(super) fn push_range(&self, range: Range<usize>, out: &mut WindowBuilder) {
        let end = range.end.min(self.bytes.len());
        let part = self.bytes.get(range.start..end).unwrap_or_default();
        match self.file_offset {
            Some(offset) if part.len() > COPY_BYTES_MAX => {
                out.push_file(offset.saturating_add(range.start as u64), part.len());
            }
            _ => out.push_inline(part),
        }
    }
}

/// Sends `unit` in as many packets as it takes. `push_header` writes the payload header of each,
/// which has always `header_bytes` bytes, so all packets but the last have the same length.
/// No marker is set.
pub(super) fn fragment(
    unit: &Unit<'_>,
    header_bytes: usize,
    out: &mut WindowBuilder,
    mut push_header: impl FnMut(Fragment, &mut WindowBuilder),
) {
    let step = RTP_PAYLOAD_BYTES_MAX - header_bytes;
    let len = unit.bytes.len();
    for start in (0..len).step_by(step) {
        let end = (start + step).min(len);
        push_header(Fragment { start, is_first: start == 0, is_last: end == len }, out);
        unit.push_range(start..end, out);
        out.end_packet(false);
    }
}

/// Place of a fragment in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Its first byte, from the start of the unit.
    pub(super) start: usize,
    /// Nothing of the unit was sent before.
    pub(super) is_first: bool,
    /// Nothing of the unit is left.
    pub(super) is_last: bool,
}
