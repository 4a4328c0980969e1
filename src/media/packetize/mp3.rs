//! MPEG-1 and MPEG-2 audio in RTP: RFC 2250 s3.5, clock 90 kHz.
//!
//! ```text
//! [MBZ 16 bits][Frag_offset 16 bits = 0][frame][frame]..      several whole frames
//! [MBZ][offset of this part in the frame][part]               one large frame
//! ```
//! The marker stays 0: it would announce the first packet after silence (RFC 3551 s4.1), and
//! a recorded track has none.

use super::bundle::{Bundle, whole};
use super::fragment::fragment;
use super::{Input, Packetizer, SampleFault};
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::window::WindowBuilder;

const HEADER_BYTES: usize = 4;

/// The largest frame there is: layer 2 at 384 kbit/s and 32 kHz has 1,728 bytes, free format some
/// more; Frag_offset would express up to 65,535.
const FRAME_BYTES_MAX: usize = 65_535;

/// Packetizer of MPEG audio.
#[derive(Debug)]
pub(super) struct Mp3Packetizer {
    bundle: Bundle,
}

impl Mp3Packetizer {
    pub(super) fn new(timescale: u32) -> Self {
        Self { bundle: Bundle::new(timescale, RTP_PAYLOAD_BYTES_MAX - HEADER_BYTES, 0) }
    }
}

impl Packetizer for Mp3Packetizer {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        let bytes = input.bytes.len();
        if bytes > FRAME_BYTES_MAX {
            return Err(SampleFault::AuTooLarge { bytes, limit_bytes: FRAME_BYTES_MAX });
        }
        let is_large = bytes > RTP_PAYLOAD_BYTES_MAX - HEADER_BYTES;
        if is_large || !self.bundle.has_room_for(input) {
            self.handle_end(out);
        }
        if !is_large {
            self.bundle.push(input);
            return Ok(());
        }
        fragment(&whole(input), HEADER_BYTES, out, |part, out| push_header(part.start, out));
        out.end_frame(input.frame);
        Ok(())
    }

    fn handle_end(&mut self, out: &mut WindowBuilder) {
        self.bundle.flush(false, out, |_, out| push_header(0, out));
    }
}

fn push_header(offset: usize, out: &mut WindowBuilder) {
    let [high, low] = u16::try_from(offset).unwrap_or(u16::MAX).to_be_bytes();
    out.push_inline(&[0, 0, high, low]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{Sent, Title, check_packets, pattern, title};

    fn mp3(frames: &[Vec<u8>]) -> Title {
        let codec = Codec::Mp3 { sample_rate_hz: 48_000, channels: 2 };
        title(codec, 48_000, 1_152, 1, frames)
    }

    #[test]
    fn small_frames_share_a_packet_and_the_clock_is_90_khz() {
        let frames: Vec<Vec<u8>> = (0..5).map(|i| vec![i; 20]).collect();
        let sent = mp3(&frames).sent().unwrap();
        let first = [&[0; 4][..], &frames[..4].concat()].concat();
        assert_eq!(sent[0].1, [Sent { payload: first, marker: false }]);
        assert_eq!(sent[1].0.rtp_ticks, 4 * 2_160);
    }

    #[test]
    fn large_frame_is_fragmented_with_offsets() {
        let packets = mp3(&[pattern(0, 1_728)]).packets();
        let heads: Vec<(usize, &[u8])> =
            packets.iter().map(|packet| (packet.payload.len(), &packet.payload[..4])).collect();
        assert_eq!(heads, [(1_400, &[0, 0, 0, 0][..]), (336, &[0, 0, 0x05, 0x74])]);
    }

    proptest! {
        #[test]
        fn frames_come_back_from_packets(sizes in prop::collection::vec(1usize..3_000, 1..20)) {
            let frames: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(i, size)| pattern(i, *size)).collect();
            let title = mp3(&frames);
            check_packets(&title.sent().unwrap());
            let bytes: Vec<u8> =
                title.packets().iter().flat_map(|packet| packet.payload[4..].to_vec()).collect();
            prop_assert_eq!(bytes, frames.concat());
        }
    }
}
