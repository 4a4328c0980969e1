//! H.265 in RTP: RFC 7798, without DONL (`sprop-max-don-diff` 0).
//!
//! ```text
//! AP [F 48 LayerId TID] {[size 16][NAL unit]}..         several small ones of one access unit
//! FU [F 49 LayerId TID][S E type][bytes..]              one large one, its header left off
//! ```
//! Left out of packets: access unit delimiters and filler data, for the reasons given for H.264,
//! and types 48-63, which mean something else in RTP (or are Dolby Vision metadata).

use super::fragment::{Fragment, Unit};
use super::nalu::{NaluFormat, ParameterSets, complete_parameter_sets, push_access_unit, split};
use super::{Input, Packetizer, SampleFault};
use crate::media::window::{Frame, WindowBuilder};

const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
const ACCESS_UNIT_DELIMITER: u8 = 35;
const FILLER_DATA: u8 = 38;
const AP: u8 = 48;
const FU: u8 = 49;

/// Packetizer of H.265.
#[derive(Debug)]
pub(super) struct H265Packetizer<'a> {
    nal_length_bytes: u8,
    sets: [(u8, ParameterSets<'a>); 3],
}

impl<'a> H265Packetizer<'a> {
    pub(super) fn new(
        nal_length_bytes: u8,
        vps: &'a [Vec<u8>],
        sps: &'a [Vec<u8>],
        pps: &'a [Vec<u8>],
    ) -> Self {
        let sets = [(VPS, vps), (SPS, sps), (PPS, pps)];
        let sets = sets.map(|(set_type, sets)| (set_type, ParameterSets::new(sets)));
        Self { nal_length_bytes, sets }
    }
}

impl Packetizer for H265Packetizer<'_> {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        let mut nalus = split(input.bytes, input.sample.offset, self.nal_length_bytes)?;
        nalus.retain(is_sent);
        let is_disposable = input.frame.is_disposable && !input.is_needed();
        if input.brings_config && !nalus.is_empty() {
            complete_parameter_sets(&mut nalus, &self.sets, nalu_type);
            // What a file calls its sets may be of any type, too.
            nalus.retain(is_sent);
        }
        push_access_unit::<H265>(&nalus, out);
        out.end_frame(Frame { is_disposable, ..input.frame });
        Ok(())
    }
}

/// The payload format's headers.
struct H265;

impl NaluFormat for H265 {
    const HEADER_BYTES: usize = 2;

    //= RFC 7798 s4.4.2 F is set if any has it, LayerId and TID are the lowest of all
    fn push_aggregate_header(nalus: &[Unit<'_>], out: &mut WindowBuilder) {
        let headers = || nalus.iter().map(header);
        let forbidden = headers().fold(0, |bits, header| bits | header & 0x8000);
        let layer_id = headers().map(|header| header & 0x01f8).min().unwrap_or(0);
        let temporal_id = headers().map(|header| header & 0x0007).min().unwrap_or(1);
        let header = forbidden | u16::from(AP) << 9 | layer_id | temporal_id;
        out.push_inline(&header.to_be_bytes());
    }

    //= RFC 7798 s4.4.3 the type moves into the FU header, the rest of the header stays
    fn push_fragment_header(nalu: &Unit<'_>, part: Fragment, out: &mut WindowBuilder) {
        let [high, low] = (header(nalu) & !0x7e00 | u16::from(FU) << 9).to_be_bytes();
        let start = u8::from(part.is_first) << 7;
        let end = u8::from(part.is_last) << 6;
        out.push_inline(&[high, low, start | end | nalu_type(nalu)]);
    }
}

fn header(nalu: &Unit<'_>) -> u16 {
    match nalu.bytes {
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

fn nalu_type(nalu: &Unit<'_>) -> u8 {
    nalu.bytes.first().map_or(0, |high| high >> 1 & 0x3f)
}

/// A NAL unit without a whole header is not sent either: receivers drop it, or worse.
fn is_sent(nalu: &Unit<'_>) -> bool {
    let is_kept = !matches!(nalu_type(nalu), ACCESS_UNIT_DELIMITER | FILLER_DATA | AP..);
    is_kept && nalu.bytes.len() >= 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{
        Sent, Title, check_marker_is_last_only, check_packets, pattern, title,
    };

    /// A receiver took a set of type 49 for a fragment.
    #[test]
    fn sets_of_types_with_another_meaning_in_rtp_are_not_sent() {
        let codec = Codec::H265 {
            nal_length_bytes: 2,
            vps: vec![vec![49 << 1, 1, 0x80]],
            sps: vec![vec![0x42, 1, 0xbb]],
            pps: vec![vec![0x44]],
        };
        let title = title(codec, 90_000, 3_600, 9, &[vec![0, 3, 0x26, 1, 7]]);
        let packets = title.packets();
        let payload = vec![48 << 1, 1, 0, 3, 0x42, 1, 0xbb, 0, 3, 0x26, 1, 7];
        assert_eq!(packets, [Sent { payload, marker: true }]);
    }

    fn h265(samples: &[Vec<u8>]) -> Title {
        let codec = Codec::H265 {
            nal_length_bytes: 2,
            vps: vec![vec![0x40, 1, 0xaa]],
            sps: vec![vec![0x42, 1, 0xbb]],
            pps: vec![vec![0x44, 1, 0xcc]],
        };
        title(codec, 90_000, 3_600, 9, samples)
    }

    fn hvcc(nalus: &[Vec<u8>]) -> Vec<u8> {
        let length = |nalu: &Vec<u8>| u16::try_from(nalu.len()).unwrap().to_be_bytes();
        nalus.iter().flat_map(|nalu| [length(nalu).as_slice(), nalu].concat()).collect()
    }

    fn nalu(kind: u8, low: u8, len: usize) -> Vec<u8> {
        let mut nalu = pattern(usize::from(kind), len);
        nalu[..2].copy_from_slice(&[kind << 1, low]);
        nalu
    }

    /// NAL units back from packets, written from RFC 7798 alone.
    fn depacketize(packets: &[Sent]) -> Vec<Vec<u8>> {
        let mut nalus: Vec<Vec<u8>> = Vec::new();
        let mut is_open = false;
        for Sent { payload, .. } in packets {
            match payload[0] >> 1 & 0x3f {
                48 => {
                    let mut rest = &payload[2..];
                    while let [high, low, behind @ ..] = rest {
                        let len = usize::from(*high) << 8 | usize::from(*low);
                        nalus.push(behind[..len].to_vec());
                        rest = &behind[len..];
                    }
                    assert!(rest.is_empty());
                }
                49 => {
                    let (is_start, is_end) = (payload[2] & 0x80 != 0, payload[2] & 0x40 != 0);
                    assert!(is_start != is_open && !(is_start && is_end));
                    if is_start {
                        let high = payload[0] & 0x81 | (payload[2] & 0x3f) << 1;
                        nalus.push(vec![high, payload[1]]);
                    }
                    nalus.last_mut().unwrap().extend_from_slice(&payload[3..]);
                    is_open = !is_end;
                }
                _ => nalus.push(payload.clone()),
            }
        }
        assert!(!is_open);
        nalus
    }

    #[test]
    fn irap_sample_without_parameter_sets_gets_them_in_one_ap() {
        let packets = h265(&[hvcc(&[vec![0x26, 0x02, 7]])]).packets();
        let payload = [
            &[0x60, 0x01][..],
            &[0, 3, 0x40, 1, 0xaa],
            &[0, 3, 0x42, 1, 0xbb],
            &[0, 3, 0x44, 1, 0xcc],
            &[0, 3, 0x26, 0x02, 7],
        ];
        assert_eq!(packets, [Sent { payload: payload.concat(), marker: true }]);
    }

    #[test]
    fn large_nalu_becomes_fu_of_equal_size() {
        let slice = nalu(1, 0x0b, 2 + 1_397 + 50);
        let title = h265(&[hvcc(&[vec![0x26, 1, 1]]), hvcc(std::slice::from_ref(&slice))]);
        let packets = title.sent().unwrap().remove(1).1;
        let heads: Vec<(usize, &[u8])> =
            packets.iter().map(|packet| (packet.payload.len(), &packet.payload[..3])).collect();
        let expected = [(1_400, &[0x62, 0x0b, 0x81][..]), (53, &[0x62, 0x0b, 0x41])];
        assert_eq!(heads, expected);
        assert_eq!(depacketize(&packets), [slice]);
    }

    #[test]
    fn delimiters_filler_and_unspecified_types_are_not_sent() {
        let dropped = [35, 38, 48, 49, 50, 62, 63].map(|kind| nalu(kind, 1, 5));
        let kept = [nalu(39, 1, 6), nalu(1, 1, 7)];
        let all = [&dropped[..], &kept, &[vec![2]]].concat();
        let title = h265(&[hvcc(&[vec![0x26, 1, 1]]), hvcc(&all)]);
        assert_eq!(depacketize(&title.sent().unwrap()[1].1), kept);
    }

    fn any_nalu() -> impl Strategy<Value = Vec<u8>> {
        let head = (0u8..22, 1u8..=7);
        let len = prop_oneof![2usize..40, 2usize..3_000, 1_390usize..1_410, 2_790usize..2_805];
        (head, len).prop_map(|((kind, low), len)| nalu(kind, low, len))
    }

    proptest! {
        #[test]
        fn nalus_come_back_from_packets(nalus in prop::collection::vec(any_nalu(), 1..12)) {
            let frames = h265(&[hvcc(&[vec![0x26, 1, 1]]), hvcc(&nalus)]).sent().unwrap();
            check_packets(&frames);
            check_marker_is_last_only(&frames);
            let packets = &frames[1].1;
            prop_assert_eq!(depacketize(packets), nalus);
            for Sent { payload, .. } in packets {
                let is_inner_fragment = payload[0] >> 1 == 49 && payload[2] & 0x40 == 0;
                prop_assert!(!is_inner_fragment || payload.len() == RTP_PAYLOAD_BYTES_MAX);
            }
        }

        #[test]
        fn any_bytes_give_packets_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(frames) = h265(&[bytes]).sent() {
                check_packets(&frames);
            }
        }
    }
}
