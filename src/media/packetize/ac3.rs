//! AC-3 and E-AC-3 in RTP: RFC 4184, RFC 4598.
//!
//! ```text
//! [FT = 0][NF: frames]    [frame][frame]..      whole sync frames, M = 1
//! [FT > 0][NF: fragments] [part of a frame]     M = 1 on the last part
//! ```
//! FT of AC-3 is 1 for a first fragment with five eighths of its frame or more, 2 for a shorter
//! one, 3 for those behind it. E-AC-3 has one bit F in its place and a zero before it. Here a later
//! fragment of E-AC-3 has 3 as well: RFC 4598 s4.1 has receivers ignore that other bit, and
//! live555 and FFmpeg read both formats by the rules of RFC 4184.
//! Bound: frames of at most [`FRAME_BYTES_MAX`], what 8 bits of NF express.

use super::bundle::{Bundle, whole};
use super::fragment::{Unit, fragment};
use super::{Input, Packetizer, SampleFault};
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::window::WindowBuilder;

const HEADER_BYTES: usize = 2;
const PART_BYTES: usize = RTP_PAYLOAD_BYTES_MAX - HEADER_BYTES;
const FRAME_BYTES_MAX: usize = 255 * PART_BYTES;

const WHOLE: u8 = 0;
const FIRST_WITH_FIVE_EIGHTHS: u8 = 1;
const FIRST: u8 = 2;
const LATER: u8 = 3;

/// Packetizer of AC-3 and E-AC-3.
#[derive(Debug)]
pub(super) struct Ac3Packetizer {
    is_enhanced: bool,
    bundle: Bundle,
    /// Sync frames in the bundle.
    held_frames: usize,
}

impl Ac3Packetizer {
    pub(super) fn new(timescale: u32, is_enhanced: bool) -> Self {
        Self { is_enhanced, bundle: Bundle::new(timescale, PART_BYTES, 0), held_frames: 0 }
    }

    /// Sends a sample that needs several packets: whole sync frames together as far as they fit,
    /// each longer one in parts.
    fn push_large(&self, input: &Input<'_>, frames: &[usize], out: &mut WindowBuilder) {
        let unit = whole(input);
        let (mut start, mut end, mut count) = (0, 0, 0);
        let flush = |start: usize, end: usize, count: usize, out: &mut WindowBuilder| {
            if count > 0 {
                push_header(WHOLE, count, out);
                unit.push_range(start..end, out);
                out.end_packet(true);
            }
        };
        for bytes in frames {
            if end + bytes - start > PART_BYTES || count == usize::from(u8::MAX) {
                flush(start, end, count, out);
                (start, count) = (end, 0);
            }
            end += bytes;
            count += 1;
            if *bytes > PART_BYTES {
                let range = start..end;
                let part = input.bytes.get(range).unwrap_or_default();
                let offset = input.sample.offset.saturating_add(start as u64);
                self.push_parts(&Unit::in_file(part, offset), out);
                (start, count) = (end, 0);
            }
        }
        flush(start, end, count, out);
        out.end_frame(input.frame);
    }

    fn push_parts(&self, frame: &Unit<'_>, out: &mut WindowBuilder) {
        let bytes = frame.len();
        let parts = bytes.div_ceil(PART_BYTES);
        let has_five_eighths = PART_BYTES * 8 >= bytes * 5;
        fragment(frame, HEADER_BYTES, out, |part, out| {
            let frame_type = match (part.is_first, has_five_eighths || self.is_enhanced) {
                (true, true) => FIRST_WITH_FIVE_EIGHTHS,
                (true, false) => FIRST,
                (false, _) => LATER,
            };
            push_header(frame_type, parts, out);
        });
        out.mark_last_packet();
    }
}

impl Packetizer for Ac3Packetizer {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        // A sample of AC-3 is one frame. One of E-AC-3 has the frames of all its substreams.
        let frames = match self.is_enhanced {
            true => sync_frames(input.bytes),
            false => vec![input.bytes.len()],
        };
        let longest = frames.iter().copied().max().unwrap_or(0);
        if longest > FRAME_BYTES_MAX {
            let limit_bytes = FRAME_BYTES_MAX;
            return Err(SampleFault::AuTooLarge { bytes: longest, limit_bytes });
        }
        let is_large = input.bytes.len() > PART_BYTES;
        if is_large
            || !self.bundle.has_room_for(input)
            || self.held_frames + frames.len() > usize::from(u8::MAX)
        {
            self.handle_end(out);
        }
        if is_large {
            self.push_large(input, &frames, out);
        } else {
            self.held_frames += frames.len();
            self.bundle.push(input);
        }
        Ok(())
    }

    fn handle_end(&mut self, out: &mut WindowBuilder) {
        let frames = std::mem::take(&mut self.held_frames);
        self.bundle.flush(true, out, |_, out| push_header(WHOLE, frames, out));
    }
}

fn push_header(frame_type: u8, count: usize, out: &mut WindowBuilder) {
    out.push_inline(&[frame_type, u8::try_from(count).unwrap_or(u8::MAX)]);
}

/// Lengths of the sync frames of an E-AC-3 sample; one of its whole length when they do not add up
/// (ETSI TS 102 366 s E.1.2: syncword, strmtyp, substreamid, frmsiz).
fn sync_frames(bytes: &[u8]) -> Vec<usize> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let [0x0b, 0x77, high, low, ..] = rest {
        let words = (usize::from(*high) & 7) << 8 | usize::from(*low);
        let frame_bytes = (words + 1) * 2;
        let Some(behind) = rest.get(frame_bytes..) else { break };
        frames.push(frame_bytes);
        rest = behind;
    }
    if rest.is_empty() { frames } else { vec![bytes.len()] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{Sent, Title, check_packets, pattern, title};

    fn dolby(is_enhanced: bool, samples: &[Vec<u8>]) -> Title {
        let (sample_rate_hz, channels) = (48_000, 2);
        let codec = match is_enhanced {
            true => Codec::Eac3 { sample_rate_hz, channels },
            false => Codec::Ac3 { sample_rate_hz, channels },
        };
        title(codec, 48_000, 1_536, 1, samples)
    }

    /// A sync frame of E-AC-3 of that many bytes, an even count.
    fn sync_frame(seed: usize, bytes: usize) -> Vec<u8> {
        let words = u16::try_from(bytes / 2 - 1).unwrap().to_be_bytes();
        let mut frame = pattern(seed, bytes);
        frame[..4].copy_from_slice(&[0x0b, 0x77, words[0], words[1]]);
        frame
    }

    /// (FT, NF, payload bytes, marker) of each packet.
    fn shape(title: &Title) -> Vec<(u8, u8, usize, bool)> {
        let packets = title.packets();
        let one = |Sent { payload, marker }: Sent| (payload[0], payload[1], payload.len(), marker);
        packets.into_iter().map(one).collect()
    }

    #[test]
    fn small_frames_share_a_packet_of_at_most_100_ms() {
        let frames: Vec<Vec<u8>> = (0..4).map(|i| pattern(i, 256)).collect();
        assert_eq!(shape(&dolby(false, &frames)), [(0, 3, 770, true), (0, 1, 258, true)]);
        let frames: Vec<Vec<u8>> = (0..2).map(|i| pattern(i, 768)).collect();
        assert_eq!(shape(&dolby(false, &frames)), [(0, 1, 770, true), (0, 1, 770, true)]);
    }

    #[test]
    fn fragments_tell_whether_the_first_has_five_eighths() {
        let title = dolby(false, &[pattern(0, 1_792)]);
        assert_eq!(shape(&title), [(1, 2, 1_400, false), (3, 2, 396, true)]);
        let title = dolby(false, &[pattern(0, 3_840)]);
        let parts = [(2, 3, 1_400, false), (3, 3, 1_400, false), (3, 3, 1_046, true)];
        assert_eq!(shape(&title), parts);
    }

    #[test]
    fn fragments_of_e_ac_3_have_the_bit_f() {
        let title = dolby(true, &[sync_frame(0, 3_840)]);
        let parts = [(1, 3, 1_400, false), (3, 3, 1_400, false), (3, 3, 1_046, true)];
        assert_eq!(shape(&title), parts);
        assert!(parts.iter().all(|(frame_type, ..)| frame_type & 1 == 1));
    }

    #[test]
    fn frames_of_all_substreams_are_counted_and_cut_between_frames() {
        let sample = |sizes: &[usize]| {
            sizes
                .iter()
                .enumerate()
                .map(|(i, bytes)| sync_frame(i, *bytes))
                .collect::<Vec<_>>()
                .concat()
        };
        assert_eq!(shape(&dolby(true, &[sample(&[400, 300])])), [(0, 2, 702, true)]);
        let title = dolby(true, &[sample(&[800, 400, 700, 2_000, 100])]);
        let packets = [
            (0, 2, 1_202, true),
            (0, 1, 702, true),
            (1, 2, 1_400, false),
            (3, 2, 604, true),
            (0, 1, 102, true),
        ];
        assert_eq!(shape(&title), packets);
        assert_eq!(title.sent().unwrap().len(), 1, "one access unit, one time");
        // What does not look like sync frames is one.
        assert_eq!(shape(&dolby(true, &[vec![7; 900]])), [(0, 1, 902, true)]);
    }

    proptest! {
        #[test]
        fn frames_come_back_from_packets(
            sizes in prop::collection::vec(prop_oneof![8usize..700, 1_000usize..2_100], 1..20),
            is_enhanced: bool, has_sync: bool,
        ) {
            let frame = |(i, size): (usize, &usize)| match has_sync {
                true => sync_frame(i, size / 2 * 2),
                false => pattern(i, *size),
            };
            let samples: Vec<Vec<u8>> = sizes.iter().enumerate().map(frame).collect();
            let title = dolby(is_enhanced, &samples);
            check_packets(&title.sent().unwrap());
            let packets = title.packets();
            // Written from the RFCs: a fragmented frame has NF packets, the marker ends it.
            let mut parts = 0;
            for Sent { payload, marker } in &packets {
                match payload[0] {
                    0 => prop_assert!(*marker && payload[1] > 0 && parts == 0),
                    frame_type => {
                        parts += 1;
                        prop_assert_eq!(frame_type == 3, parts > 1);
                        prop_assert_eq!(*marker, parts == payload[1]);
                        parts = if *marker { 0 } else { parts };
                    }
                }
            }
            prop_assert_eq!(parts, 0);
            let bytes: Vec<u8> = packets.iter().flat_map(|p| p.payload[2..].to_vec()).collect();
            prop_assert_eq!(bytes, samples.concat());
        }
    }
}
