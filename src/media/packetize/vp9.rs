//! VP9 in RTP: RFC 9628, non-flexible mode, one layer.
//!
//! ```text
//! [I=1 P L=0 F=0 B E V=0 Z=0][M=1 picture id 15 bits] [bytes of the frame ..]
//! ```
//! P says that the frame refers to others, B and E where it begins and ends; receivers insist on E
//! and the marker being the same. The picture id is the sample's number, so that a window can be
//! built without its neighbours; sync-only play skips numbers, as dropped frames do.

use super::bundle::whole;
use super::fragment::fragment;
use super::{Input, Packetizer, SampleFault};
use crate::media::window::WindowBuilder;

const DESCRIPTOR_BYTES: usize = 3;
const PICTURE_ID: u8 = 0x80;
const INTER_PICTURE: u8 = 0x40;
const BEGIN: u8 = 0x08;
const END: u8 = 0x04;
const PICTURE_ID_IS_LONG: u8 = 0x80;

/// Packetizer of VP9.
#[derive(Debug)]
pub(super) struct Vp9Packetizer;

impl Packetizer for Vp9Packetizer {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        let [_, _, id_high, id_low] = input.frame.sample_index.to_be_bytes();
        let inter = if input.sample.is_sync { 0 } else { INTER_PICTURE };
        fragment(&whole(input), DESCRIPTOR_BYTES, out, |part, out| {
            let begin = if part.is_first { BEGIN } else { 0 };
            let end = if part.is_last { END } else { 0 };
            let flags = PICTURE_ID | inter | begin | end;
            out.push_inline(&[flags, id_high | PICTURE_ID_IS_LONG, id_low]);
        });
        out.mark_last_packet();
        out.end_frame(input.frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{
        check_marker_is_last_only, check_packets, pattern, title,
    };

    #[test]
    fn descriptor_marks_begin_end_and_inter_pictures() {
        let samples = [pattern(0, 2_000), pattern(1, 10)];
        let packets = title(Codec::Vp9 { profile: 0 }, 90_000, 3_000, 2, &samples).packets();
        let heads: Vec<&[u8]> = packets.iter().map(|packet| &packet.payload[..3]).collect();
        assert_eq!(heads, [[0x88, 0x80, 0], [0x84, 0x80, 0], [0xcc, 0x80, 1]]);
    }

    proptest! {
        #[test]
        fn frames_come_back_from_packets(lens in prop::collection::vec(1usize..5_000, 1..8)) {
            let samples: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(i, len)| pattern(i, *len)).collect();
            let codec = Codec::Vp9 { profile: 0 };
            let frames = title(codec, 90_000, 3_000, 3, &samples).sent().unwrap();
            check_packets(&frames);
            check_marker_is_last_only(&frames);
            for ((_, packets), sample) in frames.iter().zip(&samples) {
                let bytes: Vec<u8> = packets.iter().flat_map(|p| p.payload[3..].to_vec()).collect();
                prop_assert_eq!(&bytes, sample);
                let is_end = |p: &crate::media::packetize::testing::Sent| p.payload[0] & END != 0;
                prop_assert!(packets.iter().all(|packet| is_end(packet) == packet.marker));
            }
        }
    }
}
