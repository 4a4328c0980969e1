//! Units of contents of all shapes, cut anywhere and damaged anywhere.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const CONTENT: ContentId = ContentId(Uuid::from_u128(7));

/// Stands for a signature: what is signed decides it.
fn sign(message: &[u8]) -> Signature {
    let mut signature = [0; 64];
    blake3::Hasher::new().update(message).finalize_xof().fill(&mut signature);
    signature
}

fn is_signed(message: &[u8], signature: &Signature) -> bool {
    sign(message) == *signature
}

fn content_of(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// All frames of a content, with `per_frame` hashes in each frame of them.
fn frames_of(bytes: &[u8], per_frame: usize) -> Vec<Frame> {
    let mut hasher = UnitHasher::new();
    let mut hashes = Vec::new();
    hasher.update(bytes, &mut hashes);
    let end = hasher.finish(&mut hashes);
    let mut frames = Vec::new();
    let units: Vec<&[u8]> = bytes.chunks(UNIT_LEN).collect();
    assert_eq!(units.len(), hashes.len());
    for (first, units) in (0..).step_by(per_frame).zip(units.chunks(per_frame)) {
        let values: Vec<[u8; 32]> =
            hashes[first..first + units.len()].iter().map(|hash| hash.value).collect();
        frames.push(Frame::Hashes(HashFrame::sign(CONTENT, first as u64, &values, sign)));
        for (number, unit) in (first..).zip(units) {
            frames.push(Frame::Unit(UnitFrame::new(number as u64, unit)));
        }
    }
    frames.push(Frame::End(EndFrame::sign(CONTENT, &end, sign)));
    frames
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.encoded().to_vec()).collect()
}

/// Lengths around the edges of units and of trees.
fn length() -> impl Strategy<Value = usize> {
    let edge = (0_usize..9, -2_i64..3).prop_map(|(units, more)| {
        usize::try_from(i64::try_from(units * UNIT_LEN).unwrap() + more).unwrap_or(0)
    });
    prop_oneof![edge, 0..6 * UNIT_LEN, 0_usize..3_000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn root_is_blake3_of_the_content_however_it_is_cut(
        len in length(), seed: u64, cuts in vec(1_usize..100_000, 1..8),
    ) {
        let bytes = content_of(len, seed);
        let mut hasher = UnitHasher::new();
        let mut hashes = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at(rest.len().min(*cut));
            hasher.update(piece, &mut hashes);
            rest = behind;
        }
        let end = hasher.finish(&mut hashes);
        prop_assert_eq!(end.size, len as u64);
        prop_assert_eq!(end.blake3.0, *blake3::hash(&bytes).as_bytes());
        prop_assert_eq!(hashes.len() as u64, units_of(end.size));
        for (number, (hash, unit)) in (0..).zip(hashes.iter().zip(bytes.chunks(UNIT_LEN))) {
            prop_assert_eq!(*hash, UnitHash::of(number, unit));
        }
    }

    #[test]
    fn frames_cut_anywhere_are_read_whole_and_verify(
        len in length(), seed: u64, per_frame in 1_usize..17, cuts in vec(1_usize..90_000, 1..8),
    ) {
        let bytes = content_of(len, seed);
        let frames = frames_of(&bytes, per_frame);
        let mut rest = Bytes::from(encoded(&frames));
        let mut reader = FrameReader::new();
        let mut verifier = UnitVerifier::new(CONTENT);
        let mut read = Vec::new();
        let mut had = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            reader.push(rest.split_to(rest.len().min(*cut)));
            while let Some(frame) = reader.next_frame().unwrap() {
                let before = verifier.have();
                let accepted = verifier.handle(&frame, is_signed);
                prop_assert!(accepted.is_ok_and(|accepted| accepted != Accepted::Known));
                prop_assert!(verifier.have() >= before);
                if let Frame::Unit(unit) = &frame {
                    had.extend_from_slice(unit.bytes());
                }
                read.push(frame);
            }
        }
        prop_assert!(reader.is_between_frames());
        prop_assert_eq!(&read, &frames);
        prop_assert_eq!(had, bytes);
        prop_assert_eq!(verifier.end().map(|end| end.size), Some(len as u64));
    }

    #[test]
    fn flipped_bit_anywhere_is_found_and_nothing_wrong_is_accepted(
        len in length(), seed: u64, per_frame in 1_usize..17, place: prop::sample::Index, bit in 0_u8..8,
    ) {
        let bytes = content_of(len, seed);
        let mut stream = encoded(&frames_of(&bytes, per_frame));
        let at = place.index(stream.len());
        stream[at] ^= 1 << bit;
        let mut reader = FrameReader::new();
        reader.push(stream.into());
        let mut verifier = UnitVerifier::new(CONTENT);
        let mut had = Vec::new();
        // Anything that is not a frame, or not accepted, or not the end, ends the stream.
        while let Ok(Some(frame)) = reader.next_frame() {
            match verifier.handle(&frame, is_signed) {
                Ok(Accepted::Unit) => {
                    let Frame::Unit(unit) = &frame else { panic!("a unit is a unit") };
                    had.extend_from_slice(unit.bytes());
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // A flipped bit in the number of a unit or of hashes can make a frame one that is known.
        prop_assert!(bytes.starts_with(&had));
        prop_assert_eq!(verifier.end(), None);
    }

    #[test]
    fn content_taken_up_again_ends_as_if_it_had_never_been_left(
        len in length(), seed: u64, kept: prop::sample::Index,
    ) {
        let bytes = content_of(len, seed);
        let frames = frames_of(&bytes, 5);
        let units: Vec<&[u8]> = bytes.chunks(UNIT_LEN).collect();
        let kept = kept.index(units.len() + 1);
        let mut verifier = UnitVerifier::new(CONTENT);
        for (number, unit) in (0..).zip(&units[..kept]) {
            verifier.trust(UnitHash::of(number, unit), unit.len() as u64);
        }
        for frame in &frames {
            prop_assert!(verifier.handle(frame, is_signed).is_ok());
        }
        prop_assert_eq!(verifier.have(), len as u64);
        prop_assert!(verifier.end().is_some());
    }

    #[test]
    fn bytes_that_are_no_frames_are_refused_without_much_memory(
        bytes in vec(any::<u8>(), 0..400),
    ) {
        let mut reader = FrameReader::new();
        reader.push(bytes.into());
        while let Ok(Some(frame)) = reader.next_frame() {
            prop_assert!(frame.encoded().len() <= FRAME_BYTES_MAX);
        }
        prop_assert!(reader.begun.capacity() <= FRAME_BYTES_MAX + 400);
    }
}

#[test]
fn frames_out_of_order_are_refused_and_change_nothing() {
    let bytes = content_of(3 * UNIT_LEN + 10, 1);
    let frames = frames_of(&bytes, 2);
    let [hashes, first, second, more, third, last, end] = frames.as_slice() else {
        panic!("{} frames", frames.len());
    };
    let mut verifier = UnitVerifier::new(CONTENT);
    let mut handle = |frame: &Frame| verifier.handle(frame, is_signed);
    assert_eq!(handle(first), Err(UnitError::NoHash { unit: 0 }));
    assert_eq!(handle(more), Err(UnitError::Gap { unit: 2, next: 0 }));
    assert_eq!(handle(end), Err(UnitError::Gap { unit: 4, next: 0 }));
    assert_eq!(handle(hashes), Ok(Accepted::Hashes));
    assert_eq!(handle(hashes), Ok(Accepted::Known));
    assert_eq!(handle(second), Err(UnitError::Gap { unit: 1, next: 0 }));
    assert_eq!(handle(first), Ok(Accepted::Unit));
    assert_eq!(handle(first), Ok(Accepted::Known));
    let swapped = Frame::Unit(UnitFrame::new(1, &bytes[..UNIT_LEN]));
    assert_eq!(handle(&swapped), Err(UnitError::BadUnit { unit: 1 }));
    assert_eq!(handle(second), Ok(Accepted::Unit));
    assert_eq!(handle(more), Ok(Accepted::Hashes));
    assert_eq!(handle(third), Ok(Accepted::Unit));
    assert_eq!(handle(last), Ok(Accepted::Unit));
    let behind = Frame::Unit(UnitFrame::new(4, &[1]));
    assert_eq!(handle(&behind), Err(UnitError::BehindLast));
    assert!(matches!(handle(end), Ok(Accepted::End(_))));
    assert_eq!(handle(end), Ok(Accepted::Known));
}

#[test]
fn frames_of_another_content_or_another_key_are_refused() {
    let frames = frames_of(&content_of(10, 2), 1);
    let mut other = UnitVerifier::new(ContentId(Uuid::from_u128(8)));
    assert_eq!(other.handle(&frames[0], is_signed), Err(UnitError::BadSignature));
    let mut verifier = UnitVerifier::new(CONTENT);
    assert_eq!(verifier.handle(&frames[0], |_, _| false), Err(UnitError::BadSignature));
}

#[test]
fn hashes_without_their_units_are_refused_at_the_bound() {
    let mut verifier = UnitVerifier::new(CONTENT);
    for first in [0, 16] {
        let frame = Frame::Hashes(HashFrame::sign(CONTENT, first, &[[0; 32]; 16], sign));
        assert_eq!(verifier.handle(&frame, is_signed), Ok(Accepted::Hashes));
    }
    let frame = Frame::Hashes(HashFrame::sign(CONTENT, 32, &[[0; 32]; 1], sign));
    assert_eq!(verifier.handle(&frame, is_signed), Err(UnitError::TooManyHashes));
}

#[test]
fn end_that_does_not_fit_the_units_is_refused() {
    let bytes = content_of(2 * UNIT_LEN, 3);
    let frames = frames_of(&bytes, 16);
    let mut verifier = UnitVerifier::new(CONTENT);
    for frame in &frames[..3] {
        verifier.handle(frame, is_signed).unwrap();
    }
    let have = 2 * UNIT_BYTES;
    for (size, root) in [(have, [9; 32]), (have - 1, [0; 32])] {
        let end = ContentEnd { size, blake3: Digest(root) };
        let frame = Frame::End(EndFrame::sign(CONTENT, &end, sign));
        assert_eq!(verifier.handle(&frame, is_signed), Err(UnitError::BadEnd { have }));
    }
    assert!(verifier.handle(&frames[3], is_signed).is_ok());
}

proptest! {
    /// Units come in any order, in frames of two kinds, some twice and some spoilt.
    #[test]
    fn parts_in_any_order_give_each_unit_once_and_in_its_place(
        len in length(),
        seed in any::<u64>(),
        (one, other) in (1_usize..=16, 1_usize..=16),
        picks in vec((any::<u16>(), any::<bool>(), 0_u8..12), 0..60),
    ) {
        let bytes = content_of(len, seed);
        let kinds = [frames_of(&bytes, one), frames_of(&bytes, other)];
        let units = len.div_ceil(UNIT_LEN);
        let mut verifier = UnitVerifier::new(CONTENT);
        let (mut logged, mut found) = (0_u64, Vec::new());
        let mut give = |verifier: &mut UnitVerifier, unit: usize, kind: bool, spoils: bool| {
            let kind = &kinds[usize::from(kind)];
            let hashes = kind.iter().find(|frame| match frame {
                Frame::Hashes(frame) => frame.hash_of(unit as u64).is_some(),
                Frame::Unit(_) | Frame::End(_) => false,
            });
            verifier.handle_part(hashes.unwrap().clone(), is_signed).unwrap();
            let start = unit * UNIT_LEN;
            let mut unit_bytes = bytes[start..bytes.len().min(start + UNIT_LEN)].to_vec();
            unit_bytes[0] ^= u8::from(spoils);
            let frame = Frame::Unit(UnitFrame::new(unit as u64, &unit_bytes));
            let given = verifier.handle_part(frame, is_signed);
            let bad = UnitError::BadUnit { unit: unit as u64 };
            assert!(!spoils || given == Err(bad) || given == Ok(Accepted::Known), "{given:?}");
            while let Some(Caught { hashes, unit }) = verifier.catch_up() {
                if let Some(frame) = hashes {
                    assert!(frame.first() <= logged && frame.end() > logged, "a log has no gap");
                    logged = frame.end();
                }
                assert_eq!(unit.number(), (found.len() / UNIT_LEN) as u64);
                assert!(unit.number() < logged);
                found.extend_from_slice(unit.bytes());
            }
        };
        for (at, kind, spoils) in picks.into_iter().filter(|_| units > 0) {
            give(&mut verifier, usize::from(at) % units, kind, spoils == 0);
        }
        for unit in (0..units).rev() {
            give(&mut verifier, unit, false, false);
        }
        prop_assert_eq!(&found, &bytes);
        prop_assert_eq!((verifier.have(), verifier.bytes_ahead()), (len as u64, 0));
        let end = verifier.handle_part(kinds[0].last().unwrap().clone(), is_signed).unwrap();
        prop_assert!(matches!(end, Accepted::End(_)));
    }
}

#[test]
fn end_and_units_that_are_too_far_ahead_are_not_taken() {
    let bytes = content_of(3 * UNIT_LEN, 1);
    let frames = frames_of(&bytes, 16);
    let mut verifier = UnitVerifier::new(CONTENT);
    let end = frames.last().unwrap().clone();
    assert_eq!(verifier.handle_part(end, is_signed), Ok(Accepted::Known));
    let early = verifier.handle_part(frames[2].clone(), is_signed);
    assert_eq!(early, Err(UnitError::NoHash { unit: 1 }));
    let far = AHEAD_BYTES_MAX / UNIT_BYTES;
    let hashes = HashFrame::sign(CONTENT, far, &[[0; 32]], sign);
    let too_far = UnitError::TooFar { unit: far, next: 0 };
    assert_eq!(verifier.handle_part(Frame::Hashes(hashes), is_signed), Err(too_far));
    let unit = Frame::Unit(UnitFrame::new(far, &[1]));
    assert_eq!(verifier.handle_part(unit, is_signed), Err(too_far));
    let unsigned = HashFrame::sign(CONTENT, 0, &[[0; 32]], |_| [0; 64]);
    let refused = verifier.handle_part(Frame::Hashes(unsigned), is_signed);
    assert_eq!(refused, Err(UnitError::BadSignature));
}
