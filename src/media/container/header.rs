//! `tkhd`: whether a track is part of the presentation, and how its picture is turned.
//!
//! ISO 14496-12 s8.3.2 (flags, alternate group, matrix), s8.3.3 (references), s8.2.2 (`mvhd`).

use super::boxes::{children, full_box, u16_at, u32_at};

/// What a track header says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TrackHeader {
    pub(super) id: u32,
    flags: u32,
    /// Only one track of a group is to be played at a time; 0 is no group.
    pub(super) alternate_group: u16,
    pub(super) matrix: Matrix,
}

impl TrackHeader {
    /// Reads the body of a `tkhd`; `None` when it is cut.
    pub(super) fn read(tkhd: &[u8]) -> Option<Self> {
        let (version, flags, rest) = full_box(tkhd)?;
        let times_bytes = if version == 1 { 12 } else { 0 };
        Some(Self {
            id: u32_at(rest, if version == 1 { 16 } else { 8 })?,
            flags,
            alternate_group: u16_at(rest, 30 + times_bytes).unwrap_or(0),
            matrix: Matrix::read(rest, 36 + times_bytes),
        })
    }

    /// `track_enabled`.
    pub(super) fn is_enabled(self) -> bool {
        self.flags & 1 != 0
    }

    /// `track_in_movie`.
    pub(super) fn is_in_movie(self) -> bool {
        self.flags & 2 != 0
    }
}

/// The part of a transformation matrix that turns a picture: a, b, c, d in 16.16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matrix([i32; 4]);

impl Default for Matrix {
    fn default() -> Self {
        Self([ONE, 0, 0, ONE])
    }
}

impl Matrix {
    /// Of a movie header's body.
    pub(super) fn of_movie(mvhd: &[u8]) -> Self {
        let Some((version, _, rest)) = full_box(mvhd) else { return Self::default() };
        Self::read(rest, if version == 1 { 44 } else { 32 })
    }

    /// A cut matrix, or one of zeros (some writers leave it out), turns nothing.
    fn read(bytes: &[u8], at: usize) -> Self {
        let word = |place: usize| u32_at(bytes, at + 4 * place).map(u32::cast_signed);
        let read = || Some([word(0)?, word(1)?, word(3)?, word(4)?]);
        read().filter(|abcd| *abcd != [0; 4]).map_or_else(Self::default, Self)
    }

    /// This matrix, then `outer`.
    pub(super) fn then(self, outer: Self) -> Self {
        let ([a, b, c, d], [oa, ob, oc, od]) = (self.0, outer.0);
        let sum = |x: i32, y: i32, z: i32, w: i32| {
            let (left, right) = (i64::from(x) * i64::from(y), i64::from(z) * i64::from(w));
            let limit = if left < 0 { i32::MIN } else { i32::MAX };
            i32::try_from(left.saturating_add(right) >> 16).unwrap_or(limit)
        };
        Self([sum(a, oa, b, oc), sum(a, ob, b, od), sum(c, oa, d, oc), sum(c, ob, d, od)])
    }

    /// How a player of the file turns the picture, for people; `None` for a picture that stands
    /// upright. Scaling is not looked at: it changes the size on the screen alone.
    pub(super) fn turn(self) -> Option<&'static str> {
        match self.0.map(i32::signum) {
            [1, 0, 0, 1] => None,
            [0, 1, -1, 0] => Some("rotated by 90 degrees clockwise"),
            [-1, 0, 0, -1] => Some("rotated by 180 degrees"),
            [0, -1, 1, 0] => Some("rotated by 270 degrees clockwise"),
            [-1, 0, 0, 1] | [1, 0, 0, -1] | [0, 1, 1, 0] | [0, -1, -1, 0] => Some("mirrored"),
            _ => Some("turned by a free angle"),
        }
    }
}

/// What a track is for when it refers to another one so; `None` for a track in its own right.
pub(super) fn helper(tref: &[u8]) -> Option<&'static str> {
    children(tref).filter(|b| b.body.len() >= 4).find_map(|b| match &b.kind {
        b"thmb" => Some("holds thumbnails of another track"),
        b"auxl" | b"vdep" | b"vplx" => Some("holds auxiliary pictures of another track"),
        _ => None,
    })
}

/// 1.0.
const ONE: i32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(abcd: [i32; 4]) -> Matrix {
        Matrix(abcd.map(|value| value * ONE))
    }

    #[test]
    fn headers_of_both_versions_are_read() {
        for (version, shift) in [(0u8, 0), (1, 12)] {
            let mut body = vec![0; 84 + shift];
            body[0] = version;
            body[3] = 6;
            let id_at = if version == 1 { 20 } else { 12 };
            body[id_at + 3] = 9;
            body[34 + shift + 1] = 2;
            let at = 40 + shift;
            body[at + 5] = 1;
            body[at + 12..at + 16].copy_from_slice(&(-ONE).to_be_bytes());
            let header = TrackHeader::read(&body).unwrap();
            assert_eq!((header.id, header.alternate_group), (9, 2));
            assert_eq!((header.is_enabled(), header.is_in_movie()), (false, true));
            assert_eq!(header.matrix, matrix([0, 1, -1, 0]));
        }
        assert_eq!(TrackHeader::read(&[0; 12]), None);
        let cut = TrackHeader::read(&[0; 16]).unwrap();
        assert_eq!((cut.id, cut.matrix), (0, Matrix::default()));
    }

    #[test]
    fn turn_is_that_of_the_track_and_the_movie_together() {
        let quarter = matrix([0, 1, -1, 0]);
        assert_eq!(Matrix::default().turn(), None);
        assert_eq!(quarter.turn(), Some("rotated by 90 degrees clockwise"));
        assert_eq!(quarter.then(quarter).turn(), Some("rotated by 180 degrees"));
        assert_eq!(
            quarter.then(quarter).then(quarter).turn(),
            Some("rotated by 270 degrees clockwise")
        );
        assert_eq!(matrix([-1, 0, 0, 1]).turn(), Some("mirrored"));
        assert_eq!(matrix([2, 0, 0, 1]).turn(), None);
        assert_eq!(matrix([1, 1, -1, 1]).turn(), Some("turned by a free angle"));
        assert_eq!(Matrix::read(&[0; 40], 0), Matrix::default());
        let large = Matrix([i32::MIN; 4]);
        assert!(large.then(large).turn().is_some());
    }

    #[test]
    fn helpers_are_known_by_their_references() {
        let tref = |kind: &[u8; 4]| [&[0, 0, 0, 12], &kind[..], &[0, 0, 0, 1]].concat();
        assert!(helper(&tref(b"thmb")).is_some());
        assert!(helper(&tref(b"auxl")).is_some());
        for kind in [b"chap", b"hint", b"tmcd", b"cdsc"] {
            assert_eq!(helper(&tref(kind)), None);
        }
    }
}
