//! A made-up film: H.264 pictures of raw macroblocks, as large as they are asked to be.
//!
//! ```text
//! key picture    [slice header][mb raw][mb raw] .. all of the picture .. [mb raw][1 byte]
//! others         [slice header, skip run][mb raw][mb raw] .. the last ones .. [1 byte]
//! raw            2 bytes of header (I_PCM), 384 of samples; those that are skipped stay as before
//! ```
//! The picture has as many macroblocks as its key pictures' bytes make, so a film of few bits is
//! a small one. Rec. ITU-T H.264: 7.3.2 (sets), 7.3.3 (slice header), 7.3.5 (I_PCM); baseline
//! profile, level 5.1, pictures shown in the order in which they are sent.
//!
//! Invariant: from `raw_from` on, all but the headers and the last byte are samples, none is 0.
//! Bound: [`MACROBLOCKS_MAX`] macroblocks.

use super::bits::{Bits, push_escaped};

/// What level 5.1 allows in a picture.
pub const MACROBLOCKS_MAX: u32 = 36_864;
/// Bytes of a raw macroblock, and of the header before it.
pub const MACROBLOCK_BYTES: usize = 384;
/// A raw macroblock's header.
pub const MACROBLOCK_HEADER_BYTES: usize = 2;

/// See the module.
#[derive(Debug, Clone)]
pub struct Film {
    width: u32,
    height: u32,
    /// Raw macroblocks of a picture that is no key picture.
    changed: u32,
    gop: u64,
}

/// A picture as one NAL unit; its memory is used again.
#[derive(Debug, Default)]
pub struct Picture {
    /// Header and slice.
    pub nalu: Vec<u8>,
    /// Where the samples of the first raw macroblock begin.
    pub raw_from: usize,
    /// A decoder can begin with it.
    pub is_key: bool,
}

impl Film {
    /// A film of `bit_rate` bits a second: `frame_rate` pictures, every one of `gop` a key picture
    /// that is `key_ratio` times as large as the others.
    #[must_use]
    pub fn new(bit_rate: u32, frame_rate: u32, gop: u32, key_ratio: u32) -> Self {
        let (gop, ratio) = (gop.max(1), u64::from(key_ratio.max(1)));
        let group_bytes = u64::from(bit_rate) * u64::from(gop) / 8 / u64::from(frame_rate.max(1));
        let changed_bytes = group_bytes / (u64::from(gop - 1) + ratio);
        let macroblocks = |bytes: u64| {
            let bytes_each = MACROBLOCK_BYTES + MACROBLOCK_HEADER_BYTES;
            let count = bytes / u64::try_from(bytes_each).unwrap_or(1);
            u32::try_from(count).unwrap_or(MACROBLOCKS_MAX).clamp(1, MACROBLOCKS_MAX)
        };
        let all = macroblocks(changed_bytes * ratio);
        // As near to 16:9 as whole macroblocks allow.
        let width = (all * 16 / 9).isqrt().max(1);
        let height = (all / width).max(1);
        let changed = macroblocks(changed_bytes).min(width * height);
        Self { width, height, changed, gop: u64::from(gop) }
    }

    /// Width and height in samples.
    #[must_use]
    pub const fn size(&self) -> (u32, u32) {
        (self.width * 16, self.height * 16)
    }

    /// Sequence parameter set.
    #[must_use]
    pub fn sps(&self) -> Vec<u8> {
        let bits = Bits::default()
            .u(8, 66) // profile_idc: baseline,
            .u(8, 0b1100_0000) // which is main as well
            .u(8, 51) // level_idc
            .ue(0) // seq_parameter_set_id
            .ue(0) // log2_max_frame_num_minus4: 16 numbers
            .ue(2) // pic_order_cnt_type: the order of decoding
            .ue(1) // max_num_ref_frames
            .u(1, 0) // gaps_in_frame_num_value_allowed_flag
            .ue(self.width - 1)
            .ue(self.height - 1)
            .u(4, 0b1100) // frames, 8x8 inference; not cropped, no VUI
            .closed();
        nalu_of(SPS, &bits)
    }

    /// Picture parameter set.
    #[must_use]
    pub fn pps(&self) -> Vec<u8> {
        let bits = Bits::default()
            .ue(0) // pic_parameter_set_id
            .ue(0) // seq_parameter_set_id
            .u(2, 0) // CAVLC, no order in fields
            .ue(0) // one slice group
            .ue(0) // one reference in list 0,
            .ue(0) // and in list 1
            .u(3, 0) // no weighted prediction
            .ue(0) // pic_init_qp
            .ue(0) // pic_init_qs
            .ue(0) // chroma_qp_index_offset
            .u(3, 0b100) // slices tell of the deblocking filter
            .closed();
        nalu_of(PPS, &bits)
    }

    /// Makes picture `number`, counted from 0.
    pub fn make(&self, number: u64, picture: &mut Picture) {
        let place = number % self.gop;
        let all = self.width * self.height;
        let (header, slice, raw) = match place {
            0 => (KEY_SLICE, key_slice(number / self.gop), all),
            _ => (SLICE, changed_slice(place, all - self.changed), self.changed),
        };
        picture.is_key = place == 0;
        let between = if picture.is_key { KEY_RAW } else { CHANGED_RAW };
        picture.nalu.clear();
        picture.nalu.push(header);
        push_escaped(&mut picture.nalu, &slice);
        picture.raw_from = picture.nalu.len();
        for at in 0..raw {
            if at > 0 {
                picture.nalu.extend_from_slice(&between);
            }
            let light = (number * 3 + u64::from(at) * 7) % 200 + 16;
            let luma_to = picture.nalu.len() + LUMA_BYTES;
            picture.nalu.resize(luma_to, u8::try_from(light).unwrap_or(GREY));
            picture.nalu.resize(luma_to + CHROMA_BYTES, GREY);
        }
        picture.nalu.push(SLICE_END);
    }
}

impl Picture {
    /// Whether `bytes` from `at` on are samples and nothing else.
    #[must_use]
    pub fn is_raw(&self, at: usize, bytes: usize) -> bool {
        let Some(behind) = at.checked_sub(self.raw_from) else { return false };
        let place = behind % (MACROBLOCK_BYTES + MACROBLOCK_HEADER_BYTES);
        place + bytes <= MACROBLOCK_BYTES && at + bytes < self.nalu.len()
    }
}

/// Up to the first raw macroblock's samples (7.3.3, 7.3.5).
fn key_slice(group: u64) -> Vec<u8> {
    Bits::default()
        .ue(0) // first_mb_in_slice
        .ue(7) // slice_type: I, as all of the picture
        .ue(0) // pic_parameter_set_id
        .u(4, 0) // frame_num
        .ue(u32::from(!group.is_multiple_of(2))) // idr_pic_id: not that of the one before
        .u(2, 0) // all that was before may go; short-term
        .ue(0) // slice_qp_delta
        .ue(1) // disable_deblocking_filter_idc
        .ue(I_PCM)
        .aligned()
}

fn changed_slice(place: u64, skipped: u32) -> Vec<u8> {
    Bits::default()
        .ue(0) // first_mb_in_slice
        .ue(5) // slice_type: P, as all of the picture
        .ue(0) // pic_parameter_set_id
        .u(4, u32::try_from(place % 16).unwrap_or(0)) // frame_num
        .u(3, 0) // one reference, in its place; nothing is marked
        .ue(0) // slice_qp_delta
        .ue(1) // disable_deblocking_filter_idc
        .ue(skipped) // mb_skip_run
        .ue(P_TYPES + I_PCM)
        .aligned()
}

fn nalu_of(header: u8, bytes: &[u8]) -> Vec<u8> {
    let mut nalu = vec![header];
    push_escaped(&mut nalu, bytes);
    nalu
}

const SPS: u8 = 0x67;
const PPS: u8 = 0x68;
const KEY_SLICE: u8 = 0x65;
const SLICE: u8 = 0x41;
/// mb_type (table 7-11); in P slices it is counted on from their own (table 7-13).
const I_PCM: u32 = 25;
const P_TYPES: u32 = 5;
/// From the samples of a raw macroblock to those of the next: mb_type, with mb_skip_run 0 before it
/// where macroblocks can be skipped, and zeros up to the byte's end.
const KEY_RAW: [u8; MACROBLOCK_HEADER_BYTES] = [0b0000_1101, 0];
const CHANGED_RAW: [u8; MACROBLOCK_HEADER_BYTES] = [0b1000_0111, 0b1100_0000];
/// `rbsp_trailing_bits` of a slice that ends with its byte.
const SLICE_END: u8 = 0x80;
const LUMA_BYTES: usize = 256;
const CHROMA_BYTES: usize = MACROBLOCK_BYTES - LUMA_BYTES;
const GREY: u8 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_of_raw_macroblocks_are_what_the_tables_say() {
        assert_eq!(Bits::default().ue(I_PCM).aligned(), KEY_RAW);
        assert_eq!(Bits::default().ue(0).ue(P_TYPES + I_PCM).aligned(), CHANGED_RAW);
    }

    #[test]
    fn film_of_two_megabits_has_that_rate_and_key_pictures_eight_times_as_large() {
        let film = Film::new(2_000_000, 25, 50, 8);
        let mut picture = Picture::default();
        let sizes: Vec<usize> = (0..100)
            .map(|number| {
                film.make(number, &mut picture);
                assert_eq!(picture.is_key, number % 50 == 0);
                picture.nalu.len()
            })
            .collect();
        let bytes: usize = sizes.iter().sum();
        assert!((940_000..1_010_000).contains(&bytes), "{bytes} in four seconds");
        assert!((7..=9).contains(&(sizes[0] / sizes[1])), "{} and {}", sizes[0], sizes[1]);
        assert_eq!(film.size(), (272, 160));
    }

    proptest! {
        #[test]
        fn any_film_has_no_zeros_but_in_headers_and_stays_within_its_level(
            rate in 16_000_u32..=400_000_000, fps in 1_u32..=240, gop in 1_u32..300,
            ratio in 1_u32..100, number in 0_u64..1_000,
        ) {
            let film = Film::new(rate, fps, gop, ratio);
            let (width, height) = film.size();
            prop_assert!(width / 16 * (height / 16) <= MACROBLOCKS_MAX);
            let mut picture = Picture::default();
            film.make(number, &mut picture);
            let is_start = |three: &[u8]| three[0] == 0 && three[1] == 0 && three[2] <= 3;
            let escaped = |three: &[u8]| three[0] == 0 && three[1] == 0 && three[2] == 3;
            prop_assert!(!picture.nalu.windows(3).any(|w| is_start(w) && !escaped(w)));
            prop_assert!(picture.is_raw(picture.raw_from, MACROBLOCK_BYTES));
            prop_assert!(!picture.is_raw(picture.raw_from + 1, MACROBLOCK_BYTES));
        }
    }
}
