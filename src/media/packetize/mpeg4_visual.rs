//! MPEG-4 part 2 video in RTP: RFC 6416 s5, no payload header.
//!
//! ```text
//! [VOS VO VOL headers][VOP ..........] [.. VOP ..........] [.. VOP] M
//! ```
//! Headers of the configuration go in front of sync samples that have none of their own, in the
//! same packet as the VOP that follows, so that whoever joins or seeks can decode.

use super::bundle::whole;
use super::fragment::Unit;
use super::nalu::PARAMETER_SETS_BYTES_MAX;
use super::{Input, Packetizer, SampleFault};
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::window::{Frame, WindowBuilder};

const VISUAL_OBJECT_SEQUENCE: u8 = 0xb0;
const VISUAL_OBJECT: u8 = 0xb5;
const VOP: u8 = 0xb6;
/// Last start code of video object layers; video objects come before them, from 0 on.
const LAST_LAYER: u8 = 0x2f;

/// Packetizer of MPEG-4 part 2 video.
#[derive(Debug)]
pub(super) struct Mpeg4VisualPacketizer<'a> {
    config: &'a [u8],
}

impl<'a> Mpeg4VisualPacketizer<'a> {
    /// A configuration beyond any reasonable size is not repeated.
    pub(super) fn new(config: &'a [u8]) -> Self {
        Self { config: if config.len() > PARAMETER_SETS_BYTES_MAX { &[] } else { config } }
    }
}

impl Packetizer for Mpeg4VisualPacketizer<'_> {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        if input.brings_config && !has_headers(input.bytes) {
            push_filled(&Unit::inline(self.config), out);
        }
        push_filled(&whole(input), out);
        out.end_packet(false);
        out.mark_last_packet();
        let is_unused = input.frame.is_disposable || is_bidirectional(input.bytes);
        let is_disposable = is_unused && !input.is_needed();
        out.end_frame(Frame { is_disposable, ..input.frame });
        Ok(())
    }
}

/// Appends a unit, closing each packet that is full.
fn push_filled(unit: &Unit<'_>, out: &mut WindowBuilder) {
    let mut start = 0;
    while start < unit.bytes.len() {
        let room = RTP_PAYLOAD_BYTES_MAX.saturating_sub(out.open_bytes()).max(1);
        let end = (start + room).min(unit.bytes.len());
        unit.push_range(start..end, out);
        if out.open_bytes() >= RTP_PAYLOAD_BYTES_MAX {
            out.end_packet(false);
        }
        start = end;
    }
}

/// The sample starts with headers of its own.
fn has_headers(sample: &[u8]) -> bool {
    matches!(sample, [0, 0, 1, VISUAL_OBJECT_SEQUENCE | VISUAL_OBJECT | 0..=LAST_LAYER, ..])
}

/// The sample is a B-VOP (`vop_coding_type` 2), which nothing refers to.
fn is_bidirectional(sample: &[u8]) -> bool {
    matches!(sample, [0, 0, 1, VOP, head, ..] if head >> 6 == 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{
        Sent, Title, check_marker_is_last_only, check_packets, pattern, title,
    };

    const CONFIG: [u8; 10] = [0, 0, 1, 0xb0, 3, 0, 0, 1, 0x20, 9];

    fn video(samples: &[Vec<u8>]) -> Title {
        title(Codec::Mpeg4Visual { config: CONFIG.to_vec() }, 25, 1, 3, samples)
    }

    fn vop(head: u8, len: usize) -> Vec<u8> {
        [&[0, 0, 1, VOP, head][..], &pattern(usize::from(head), len)].concat()
    }

    #[test]
    fn headers_go_in_front_of_sync_samples_only() {
        let frames = video(&[vop(0x10, 20), vop(0x50, 20)]).sent().unwrap();
        let payload = [&CONFIG[..], &vop(0x10, 20)].concat();
        assert_eq!(frames[0].1, [Sent { payload, marker: true }]);
        assert_eq!(frames[1].1, [Sent { payload: vop(0x50, 20), marker: true }]);
    }

    #[test]
    fn own_headers_of_a_sample_are_kept_alone() {
        let sample = [&[0, 0, 1, 0xb0, 1, 0, 0, 1, 0x00, 0, 0, 1, 0x20][..], &vop(0, 9)].concat();
        assert_eq!(video(std::slice::from_ref(&sample)).packets()[0].payload, sample);
    }

    #[test]
    fn b_vop_is_disposable() {
        let frames = video(&[vop(0x10, 9), vop(0x50, 9), vop(0x90, 9)]).sent().unwrap();
        let disposable: Vec<bool> = frames.iter().map(|(frame, _)| frame.is_disposable).collect();
        assert_eq!(disposable, [false, false, true]);
    }

    proptest! {
        #[test]
        fn bytes_come_back_in_full_packets(
            lens in prop::collection::vec(prop_oneof![1usize..6_000, 1_380usize..1_410], 1..8),
        ) {
            let samples: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(i, len)| pattern(i, *len)).collect();
            let frames = video(&samples).sent().unwrap();
            check_packets(&frames);
            check_marker_is_last_only(&frames);
            for ((frame, packets), sample) in frames.iter().zip(&samples) {
                let bytes: Vec<u8> = packets.iter().flat_map(|p| p.payload.clone()).collect();
                let config = if frame.is_sync { &CONFIG[..] } else { &[] };
                prop_assert_eq!(bytes, [config, sample].concat());
                let is_full = |packet: &Sent| packet.payload.len() == RTP_PAYLOAD_BYTES_MAX;
                prop_assert!(packets[..packets.len() - 1].iter().all(is_full));
            }
        }
    }
}
