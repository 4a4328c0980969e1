//! Walking boxes inside a box that is in memory, and reading big-endian fields at an offset.
//!
//! The crate that decodes single boxes gives up a whole movie for one box it dislikes; here a
//! broken child ends only the list it is in.
//!
//! Invariant: every step of the walk moves on by at least 8 bytes, and nothing allocates.
//! ISO 14496-12 s4.2; QuickTime File Format "Atoms".

/// A box in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxRef<'a> {
    pub(super) kind: [u8; 4],
    pub(super) body: &'a [u8],
}

/// The boxes in `bytes`, one after the other. Ends at the first one that does not fit: QuickTime
/// closes some lists with four zero bytes, and some writers pad.
pub(super) fn children(bytes: &[u8]) -> Children<'_> {
    Children { rest: bytes }
}

/// The first child of that type.
pub(super) fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    children(bytes).find(|b| b.kind == *kind).map(|b| b.body)
}

/// Follows a path of first children.
pub(super) fn descend<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| child(bytes, kind))
}

/// Version, flags and the rest of a box that has them.
pub(super) fn full_box(body: &[u8]) -> Option<(u8, u32, &[u8])> {
    let word = u32_at(body, 0)?;
    Some((word.to_be_bytes()[0], word & 0xff_ffff, body.get(4..)?))
}

/// See [`children`].
#[derive(Debug, Clone)]
pub(super) struct Children<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Children<'a> {
    type Item = BoxRef<'a>;

    fn next(&mut self) -> Option<BoxRef<'a>> {
        let size = u32_at(self.rest, 0)?;
        let kind = array_at::<4>(self.rest, 4)?;
        let (head, bytes) = match size {
            0 if kind == [0; 4] => return None,
            0 => (8, self.rest.len()),
            1 => (16, usize::try_from(u64_at(self.rest, 8)?).ok()?),
            _ => (8, size as usize),
        };
        let body = self.rest.get(head..bytes)?;
        self.rest = self.rest.get(bytes..)?;
        Some(BoxRef { kind, body })
    }
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_be_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_be_bytes)
}
