//! Takes frames of a source, whoever it is, and accepts what the base has signed.

use std::collections::VecDeque;
use std::ops::Range;

use super::ahead::{Ahead, Caught};
use super::{
    Frame, HASHES_AHEAD_MAX, HashFrame, Signature, Tree, UNIT_BYTES, UNIT_LEN, UnitFrame, UnitHash,
};
use crate::dist::ids::ContentId;
use crate::dist::wire::peer::ContentEnd;

/// Verifies a content from its first unit to its end. Frames of several sources may be mixed: what
/// is there already has no effect. Units behind a gap are taken by [`Self::handle_part`] and given
/// by [`Self::catch_up`] once the gap is closed.
#[derive(Debug)]
pub struct UnitVerifier {
    content: ContentId,
    tree: Tree,
    have: u64,
    /// Hashes of the units from `tree.units()` on.
    ahead: VecDeque<[u8; 32]>,
    /// What came before what is in front of it.
    parts: Ahead,
    end: Option<ContentEnd>,
}

/// What a frame was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Hashes that were not known.
    Hashes,
    /// The next unit.
    Unit,
    /// A unit that is, or was, ahead of others: [`UnitVerifier::catch_up`].
    Ahead,
    /// The end.
    End(ContentEnd),
    /// Nothing new.
    Known,
}

/// A frame is wrong: its source has bad bytes or breaks the order of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The bytes of a unit are not those that the base hashed.
    #[error("unit {unit} fails its hash")]
    BadUnit {
        /// Number, from 0.
        unit: u64,
    },
    /// The base did not sign this for this content.
    #[error("a frame is not signed by the base")]
    BadSignature,
    /// Units or hashes were left out.
    #[error("unit {unit} comes where unit {next} is expected")]
    Gap {
        /// What came.
        unit: u64,
        /// What is next.
        next: u64,
    },
    /// A unit came before its hash.
    #[error("unit {unit} comes before its hash")]
    NoHash {
        /// Number, from 0.
        unit: u64,
    },
    /// A unit is further ahead than others may be.
    #[error("unit {unit} comes too far ahead of unit {next}")]
    TooFar {
        /// What came.
        unit: u64,
        /// What is next.
        next: u64,
    },
    /// Hashes came without their units.
    #[error("more hashes than units")]
    TooManyHashes,
    /// Something follows a unit that is shorter than others, or the end.
    #[error("a unit follows the last")]
    BehindLast,
    /// Signed size or root and accepted units differ: the content was begun anew at the base.
    #[error("the content's end does not fit its {have} bytes")]
    BadEnd {
        /// Bytes so far.
        have: u64,
    },
}

impl UnitVerifier {
    /// Nothing accepted yet.
    #[must_use]
    pub fn new(content: ContentId) -> Self {
        Self {
            content,
            tree: Tree::default(),
            have: 0,
            ahead: VecDeque::new(),
            parts: Ahead::default(),
            end: None,
        }
    }

    /// Takes a unit of `len` bytes that was verified before, when a content is taken up again.
    pub fn trust(&mut self, hash: UnitHash, len: u64) {
        self.tree.push(hash);
        self.have = self.have.saturating_add(len);
    }

    /// Verified bytes.
    #[must_use]
    pub const fn have(&self) -> u64 {
        self.have
    }

    /// The end, once it is accepted.
    #[must_use]
    pub const fn end(&self) -> Option<ContentEnd> {
        self.end
    }

    /// Takes a frame; `is_signed` says of a message and a signature whether the base made it.
    ///
    /// # Errors
    /// See [`UnitError`]; nothing has changed then.
    pub fn handle(
        &mut self,
        frame: &Frame,
        is_signed: impl FnOnce(&[u8], &Signature) -> bool,
    ) -> Result<Accepted, UnitError> {
        match frame {
            Frame::Hashes(frame) => {
                let next = self.tree.units();
                let known = next.saturating_add(self.ahead.len() as u64);
                if frame.end() <= known {
                    return Ok(Accepted::Known);
                }
                if frame.first() > known {
                    return Err(UnitError::Gap { unit: frame.first(), next: known });
                }
                let new = frame.end() - known;
                if self.ahead.len() as u64 + new > HASHES_AHEAD_MAX as u64 {
                    return Err(UnitError::TooManyHashes);
                }
                if !frame.is_signed(self.content, is_signed) {
                    return Err(UnitError::BadSignature);
                }
                self.ahead.extend((known..frame.end()).filter_map(|unit| frame.hash_of(unit)));
                Ok(Accepted::Hashes)
            }
            Frame::Unit(frame) => self.handle_unit(frame.number(), frame.bytes()),
            Frame::End(frame) => {
                if self.end.is_some() {
                    return Ok(Accepted::Known);
                }
                if !frame.is_signed(self.content, is_signed) {
                    return Err(UnitError::BadSignature);
                }
                let end = frame.end();
                if end.size > self.have {
                    let next = self.tree.units();
                    return Err(UnitError::Gap { unit: super::units_of(end.size), next });
                }
                if end.size < self.have || self.tree.root() != Some(end.blake3) {
                    return Err(UnitError::BadEnd { have: self.have });
                }
                self.end = Some(end);
                Ok(Accepted::End(end))
            }
        }
    }

    /// Takes a frame of a part of the content, which may be ahead of what is verified: hashes, then
    /// their units, from any unit on. An end counts behind all units, as for [`Self::handle`].
    ///
    /// # Errors
    /// See [`UnitError`]; nothing has changed then.
    pub fn handle_part(
        &mut self,
        frame: Frame,
        is_signed: impl FnOnce(&[u8], &Signature) -> bool,
    ) -> Result<Accepted, UnitError> {
        let next = self.tree.units();
        match frame {
            Frame::Hashes(frame) => {
                if frame.end() <= next || self.parts.knows(&frame) {
                    return Ok(Accepted::Known);
                }
                if frame.first() >= Ahead::limit(next) {
                    return Err(UnitError::TooFar { unit: frame.first(), next });
                }
                if !frame.is_signed(self.content, is_signed) {
                    return Err(UnitError::BadSignature);
                }
                self.parts.add_hashes(frame);
                Ok(Accepted::Hashes)
            }
            Frame::Unit(frame) => self.handle_unit_of_part(frame),
            // What is in front of it is missing: the end comes again behind that.
            Frame::End(frame) if frame.end().size > self.have => Ok(Accepted::Known),
            Frame::End(frame) => self.handle(&Frame::End(frame), is_signed),
        }
    }

    fn handle_unit_of_part(&mut self, frame: UnitFrame) -> Result<Accepted, UnitError> {
        let (unit, next) = (frame.number(), self.tree.units());
        if unit < next || self.parts.has(unit) {
            return Ok(Accepted::Known);
        }
        if unit >= Ahead::limit(next) {
            return Err(UnitError::TooFar { unit, next });
        }
        if self.end.is_some() || !self.have.is_multiple_of(UNIT_BYTES) {
            return Err(UnitError::BehindLast);
        }
        let expected = usize::try_from(unit - next).ok().and_then(|at| self.ahead.get(at).copied());
        let expected = expected
            .or_else(|| self.parts.frame_of(unit).and_then(|frame| frame.hash_of(unit)))
            .ok_or(UnitError::NoHash { unit })?;
        let bytes = frame.bytes();
        if bytes.is_empty() || bytes.len() > UNIT_LEN {
            return Err(UnitError::BadUnit { unit });
        }
        let hash = UnitHash::of(unit, bytes);
        if hash.value != expected {
            return Err(UnitError::BadUnit { unit });
        }
        self.parts.add_unit(hash, frame);
        Ok(Accepted::Ahead)
    }

    /// The next unit, if it came before: it counts as verified from now on. To be called until
    /// there is none, behind each [`Accepted::Ahead`] and [`Accepted::Unit`].
    pub fn catch_up(&mut self) -> Option<Caught> {
        let next = self.tree.units();
        let Some((hash, unit)) = self.parts.take_unit(next) else {
            self.parts.pass(next);
            return None;
        };
        let mut hashes = None;
        if self.ahead.is_empty() {
            // A unit is ahead only behind the frame of its hash.
            let frame = self.parts.frame_of(next)?.clone();
            self.ahead.extend((next..frame.end()).filter_map(|unit| frame.hash_of(unit)));
            hashes = Some(frame);
        }
        self.ahead.pop_front();
        self.trust(hash, unit.bytes().len() as u64);
        Some(Caught { hashes, unit })
    }

    /// The frame with the hash of a unit that is ahead.
    #[must_use]
    pub fn frame_ahead(&self, unit: u64) -> Option<&HashFrame> {
        self.parts.frame_of(unit)
    }

    /// Bytes that are ahead of a gap, in pieces.
    #[must_use]
    pub fn ranges_ahead(&self) -> Vec<Range<u64>> {
        self.parts.ranges()
    }

    /// Number of bytes that are ahead of a gap.
    #[must_use]
    pub fn bytes_ahead(&self) -> u64 {
        self.parts.bytes()
    }

    /// Units that are ahead of a gap, each with the frame of its hash.
    pub fn units_ahead(&self) -> impl Iterator<Item = (&HashFrame, &UnitFrame)> {
        self.parts.units().filter_map(|unit| Some((self.parts.frame_of(unit.number())?, unit)))
    }

    fn handle_unit(&mut self, unit: u64, bytes: &[u8]) -> Result<Accepted, UnitError> {
        let next = self.tree.units();
        if unit < next {
            return Ok(Accepted::Known);
        }
        if unit > next {
            return Err(UnitError::Gap { unit, next });
        }
        if self.end.is_some() || !self.have.is_multiple_of(UNIT_BYTES) {
            return Err(UnitError::BehindLast);
        }
        let Some(&expected) = self.ahead.front() else { return Err(UnitError::NoHash { unit }) };
        if bytes.is_empty() || bytes.len() > UNIT_LEN {
            return Err(UnitError::BadUnit { unit });
        }
        let hash = UnitHash::of(unit, bytes);
        if hash.value != expected {
            return Err(UnitError::BadUnit { unit });
        }
        self.ahead.pop_front();
        self.trust(hash, bytes.len() as u64);
        Ok(Accepted::Unit)
    }
}
