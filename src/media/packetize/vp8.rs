//! VP8 in RTP: RFC 7741 with the shortest payload descriptor.
//!
//! ```text
//! [X=0 R N S R PID] [bytes of the frame ..]
//! ```
//! The frame is sent as one partition (PID 0): S is 1 on its first packet. Picture ids and layer
//! indices serve senders that change layers, which a recording does not.

use super::bundle::whole;
use super::fragment::fragment;
use super::{Input, Packetizer, SampleFault};
use crate::media::window::WindowBuilder;

const DESCRIPTOR_BYTES: usize = 1;
const NON_REFERENCE: u8 = 0x20;
const START_OF_PARTITION: u8 = 0x10;

/// Packetizer of VP8.
#[derive(Debug)]
pub(super) struct Vp8Packetizer;

impl Packetizer for Vp8Packetizer {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        let non_reference = if input.frame.is_disposable { NON_REFERENCE } else { 0 };
        fragment(&whole(input), DESCRIPTOR_BYTES, out, |part, out| {
            let start = if part.is_first { START_OF_PARTITION } else { 0 };
            out.push_inline(&[non_reference | start]);
        });
        out.mark_last_packet();
        out.end_frame(input.frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{
        check_marker_is_last_only, check_packets, pattern, title,
    };

    #[test]
    fn only_the_first_packet_starts_a_partition() {
        let frame = pattern(0, 3_000);
        let packets = title(Codec::Vp8, 90_000, 3_000, 1, std::slice::from_ref(&frame)).packets();
        let heads: Vec<(usize, u8)> =
            packets.iter().map(|packet| (packet.payload.len(), packet.payload[0])).collect();
        assert_eq!(heads, [(1_400, 0x10), (1_400, 0), (203, 0)]);
    }

    proptest! {
        #[test]
        fn frames_come_back_from_packets(lens in prop::collection::vec(1usize..5_000, 1..8)) {
            let samples: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(i, len)| pattern(i, *len)).collect();
            let frames = title(Codec::Vp8, 90_000, 3_000, 1, &samples).sent().unwrap();
            check_packets(&frames);
            check_marker_is_last_only(&frames);
            for ((_, packets), sample) in frames.iter().zip(&samples) {
                let bytes: Vec<u8> = packets.iter().flat_map(|p| p.payload[1..].to_vec()).collect();
                prop_assert_eq!(&bytes, sample);
            }
        }
    }
}
