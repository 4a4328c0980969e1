//! AV1, VP8 (RFC 7741), VP9 (RFC 9628), MPEG-4 part 2 (RFC 6416) and motion JPEG (RFC 2435).
#![deny(clippy::indexing_slicing)]

use super::PayloadContent;
use crate::base::leb128;

/// Aggregation header (AV1 RTP s4.4): `Z Y W W N - - -`; N begins a coded video sequence.
pub(super) fn detect_av1(payload: &[u8]) -> PayloadContent {
    let [header, rest @ ..] = payload else { return PayloadContent::default() };
    let is_new_sequence = header & 0x08 != 0;
    let is_continued = header & 0x80 != 0;
    let count = header >> 4 & 3;
    // With W = 1 there is no length in front of the only OBU.
    let first_obu = if count == 1 {
        rest.first()
    } else {
        leb128::read(rest).and_then(|(_, behind)| behind.first())
    };
    let is_sequence_header =
        !is_continued && first_obu.is_some_and(|obu| obu >> 3 & 0x0f == OBU_SEQUENCE_HEADER);
    PayloadContent {
        picture: true,
        sync: is_new_sequence,
        sets: is_new_sequence || is_sequence_header,
        tables: false,
    }
}

/// Payload descriptor (RFC 7741 s4.2): `X R N S R PID`; then the payload header, whose lowest bit
/// is zero in a key frame.
pub(super) fn detect_vp8(payload: &[u8]) -> PayloadContent {
    let Some((descriptor, mut rest)) = payload.split_first() else {
        return PayloadContent::default();
    };
    if descriptor & 0x80 != 0 {
        let Some((extended, behind)) = rest.split_first() else { return PayloadContent::default() };
        // I: picture id of one or two bytes; L: one byte; T or K: one byte together.
        let is_long = extended & 0x80 != 0 && behind.first().is_some_and(|id| id & 0x80 != 0);
        let bytes = usize::from(extended & 0x80 != 0)
            + usize::from(is_long)
            + usize::from(extended & 0x40 != 0)
            + usize::from(extended & 0x30 != 0);
        rest = behind.get(bytes..).unwrap_or_default();
    }
    let is_start = descriptor & 0x10 != 0 && descriptor & 0x07 == 0;
    let is_key = is_start && rest.first().is_some_and(|header| header & 1 == 0);
    PayloadContent { picture: true, sync: is_key, sets: false, tables: false }
}

/// Payload descriptor (RFC 9628 s4.2): `I P L F B E V Z`. A key picture is a start of a frame (B)
/// that is not predicted from others (P is zero), in the lowest spatial layer.
pub(super) fn detect_vp9(payload: &[u8]) -> PayloadContent {
    let Some((descriptor, mut rest)) = payload.split_first() else {
        return PayloadContent::default();
    };
    let is_predicted = descriptor & 0x40 != 0;
    let is_start = descriptor & 0x08 != 0;
    if descriptor & 0x80 != 0 {
        let is_long = rest.first().is_some_and(|id| id & 0x80 != 0);
        rest = rest.get(1 + usize::from(is_long)..).unwrap_or_default();
    }
    // `TID U SID D`: inter-layer prediction is within the same picture.
    let has_layers = descriptor & 0x20 != 0;
    let is_lowest = !has_layers || rest.first().is_some_and(|layer| layer >> 1 & 7 == 0);
    let is_key = is_start && !is_predicted && is_lowest;
    PayloadContent { picture: true, sync: is_key, sets: false, tables: false }
}

/// Start codes (ISO 14496-2 s6.2): a packet that begins with headers or a picture has one first.
pub(super) fn detect_mpeg4_visual(payload: &[u8]) -> PayloadContent {
    let mut all = PayloadContent::MIDDLE;
    // Headers are short and the first picture ends the search.
    let head = payload.get(..MPEG4_HEAD_BYTES_MAX.min(payload.len())).unwrap_or_default();
    if !matches!(head, [0, 0, 1, ..]) {
        return all;
    }
    for window in head.windows(5) {
        match *window {
            [0, 0, 1, VISUAL_OBJECT_SEQUENCE | 0x20..=0x2f, _] => all.sets = true,
            // `vop_coding_type`: 0 is intra.
            [0, 0, 1, VOP, coding] => {
                all.sync = coding >> 6 == 0;
                return all;
            }
            _ => {}
        }
    }
    PayloadContent { picture: false, ..all }
}

/// Main header (RFC 2435 s3.1): the fragment offset is zero where a frame begins, and every frame
/// stands for itself.
pub(super) fn detect_jpeg(payload: &[u8]) -> PayloadContent {
    let is_start = matches!(payload, [_, 0, 0, 0, ..]);
    PayloadContent { picture: true, sync: is_start, sets: false, tables: false }
}

const OBU_SEQUENCE_HEADER: u8 = 1;
const VISUAL_OBJECT_SEQUENCE: u8 = 0xb0;
const VOP: u8 = 0xb6;
/// Bytes of headers that may stand in front of a picture in one packet.
const MPEG4_HEAD_BYTES_MAX: usize = 256;
