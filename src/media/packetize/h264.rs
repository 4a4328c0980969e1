//! H.264 in RTP: RFC 6184, packetization mode 1.
//!
//! ```text
//! STAP-A [F NRI 24] {[size 16][NAL unit]}..     several small ones of one access unit
//! FU-A   [F NRI 28][S E 0 type][bytes..]        one large one; its header is in the first two
//! ```
//! Left out of packets: access unit delimiters and filler data. Marker and timestamp say where an
//! access unit ends, filler only fills a constant-rate channel; a decoder's output is the same
//! without them, and they would cost a gather entry and bytes in every frame. Types 0 and 24-31
//! mean something else in RTP (or are Dolby Vision metadata), so they cannot be sent either.

use super::fragment::{Fragment, Unit};
use super::nalu::{NaluFormat, ParameterSets, complete_parameter_sets, push_access_unit, split};
use super::{Input, Packetizer, SampleFault};
use crate::media::window::{Frame, WindowBuilder};

const SPS: u8 = 7;
const PPS: u8 = 8;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const FILLER_DATA: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Packetizer of H.264.
#[derive(Debug)]
pub(super) struct H264Packetizer<'a> {
    nal_length_bytes: u8,
    sps: ParameterSets<'a>,
    pps: ParameterSets<'a>,
}

impl<'a> H264Packetizer<'a> {
    pub(super) fn new(nal_length_bytes: u8, sps: &'a [Vec<u8>], pps: &'a [Vec<u8>]) -> Self {
        Self { nal_length_bytes, sps: ParameterSets::new(sps), pps: ParameterSets::new(pps) }
    }
}

impl Packetizer for H264Packetizer<'_> {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        let mut nalus = split(input.bytes, input.sample.offset, self.nal_length_bytes)?;
        nalus.retain(|nalu| is_sent(nalu_type(nalu)));
        let is_unused = input.frame.is_disposable || has_no_reference(&nalus);
        let is_disposable = is_unused && !input.is_needed();
        if input.brings_config && !nalus.is_empty() {
            let sets = [(SPS, self.sps), (PPS, self.pps)];
            complete_parameter_sets(&mut nalus, &sets, nalu_type);
            // What a file calls its sets may be of any type, too.
            nalus.retain(|nalu| is_sent(nalu_type(nalu)));
        }
        push_access_unit::<H264>(&nalus, out);
        out.end_frame(Frame { is_disposable, ..input.frame });
        Ok(())
    }
}

/// The payload format's headers.
struct H264;

impl NaluFormat for H264 {
    const HEADER_BYTES: usize = 1;

    //= RFC 6184 s5.7 F is set if any has it, NRI is the highest of all
    fn push_aggregate_header(nalus: &[Unit<'_>], out: &mut WindowBuilder) {
        let forbidden = nalus.iter().fold(0, |bits, nalu| bits | header(nalu) & 0x80);
        let nri = nalus.iter().map(|nalu| header(nalu) & 0x60).max().unwrap_or(0);
        out.push_inline(&[forbidden | nri | STAP_A]);
    }

    //= RFC 6184 s5.8 the NAL unit header is split over FU indicator and FU header
    fn push_fragment_header(nalu: &Unit<'_>, part: Fragment, out: &mut WindowBuilder) {
        let start = u8::from(part.is_first) << 7;
        let end = u8::from(part.is_last) << 6;
        out.push_inline(&[header(nalu) & 0xe0 | FU_A, start | end | nalu_type(nalu)]);
    }
}

fn header(nalu: &Unit<'_>) -> u8 {
    nalu.bytes.first().copied().unwrap_or(0)
}

fn nalu_type(nalu: &Unit<'_>) -> u8 {
    header(nalu) & 0x1f
}

fn is_sent(nalu_type: u8) -> bool {
    !matches!(nalu_type, 0 | ACCESS_UNIT_DELIMITER | FILLER_DATA | 24..)
}

/// No slice of the access unit is kept for reference (`nal_ref_idc` is 0 in all of them).
fn has_no_reference(nalus: &[Unit<'_>]) -> bool {
    let mut slices = nalus.iter().filter(|nalu| matches!(nalu_type(nalu), 1..=5)).peekable();
    slices.peek().is_some() && slices.all(|nalu| header(nalu) & 0x60 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
    use crate::media::codec::Codec;
    use crate::media::packetize::WindowError;
    use crate::media::packetize::testing::{
        Sent, Title, check_marker_is_last_only, check_packets, pattern, title,
    };

    /// A receiver took a set of type 28 for a fragment.
    #[test]
    fn sets_of_types_with_another_meaning_in_rtp_are_not_sent() {
        let (sps, pps) = (vec![vec![0x67, 1, 2]], vec![vec![28, 0x80, 3]]);
        let codec = Codec::H264 { nal_length_bytes: 2, sps, pps };
        let title = title(codec, 90_000, 3_600, 9, &[vec![0, 2, 0x65, 7]]);
        let payload = vec![0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x65, 7];
        assert_eq!(title.packets(), [Sent { payload, marker: true }]);
    }

    fn h264(samples: &[Vec<u8>]) -> Title {
        let codec = Codec::H264 {
            nal_length_bytes: 4,
            sps: vec![vec![0x67, 0x64, 0x00, 0x1f, 0xac]],
            pps: vec![vec![0x68, 0xee]],
        };
        title(codec, 90_000, 3_600, 4, samples)
    }

    /// NAL units with 4-byte lengths in front.
    fn avcc(nalus: &[Vec<u8>]) -> Vec<u8> {
        let length = |nalu: &Vec<u8>| u32::try_from(nalu.len()).unwrap().to_be_bytes();
        nalus.iter().flat_map(|nalu| [length(nalu).as_slice(), nalu].concat()).collect()
    }

    fn nalu(header: u8, len: usize) -> Vec<u8> {
        let mut nalu = pattern(usize::from(header), len);
        nalu[0] = header;
        nalu
    }

    /// NAL units back from packets, written from RFC 6184 alone.
    fn depacketize(packets: &[Sent]) -> Vec<Vec<u8>> {
        let mut nalus: Vec<Vec<u8>> = Vec::new();
        let mut is_open = false;
        for Sent { payload, .. } in packets {
            match payload[0] & 0x1f {
                24 => {
                    let mut rest = &payload[1..];
                    while let [high, low, behind @ ..] = rest {
                        let len = usize::from(*high) << 8 | usize::from(*low);
                        nalus.push(behind[..len].to_vec());
                        rest = &behind[len..];
                    }
                    assert!(rest.is_empty());
                }
                28 => {
                    let (is_start, is_end) = (payload[1] & 0x80 != 0, payload[1] & 0x40 != 0);
                    assert!(is_start != is_open && !(is_start && is_end));
                    if is_start {
                        nalus.push(vec![payload[0] & 0xe0 | payload[1] & 0x1f]);
                    }
                    nalus.last_mut().unwrap().extend_from_slice(&payload[2..]);
                    is_open = !is_end;
                }
                _ => nalus.push(payload.clone()),
            }
        }
        assert!(!is_open);
        nalus
    }

    #[test]
    fn sync_sample_without_parameter_sets_gets_them_in_one_stap_a() {
        let packets = h264(&[avcc(&[vec![0x65, 1, 2, 3], vec![0x41, 9]])]).packets();
        let stap = [
            &[0x78][..],
            &[0, 5, 0x67, 0x64, 0x00, 0x1f, 0xac],
            &[0, 2, 0x68, 0xee],
            &[0, 4, 0x65, 1, 2, 3],
            &[0, 2, 0x41, 9],
        ];
        assert_eq!(packets, [Sent { payload: stap.concat(), marker: true }]);
    }

    #[test]
    fn own_parameter_sets_of_a_sample_are_kept_alone() {
        let own = [vec![0x67, 0x42, 0, 0x1e], vec![0x68, 1], vec![0x65, 2]];
        assert_eq!(depacketize(&h264(&[avcc(&own)]).packets()), own);
        let sps_only = [vec![0x67, 0x42, 0, 0x1e], vec![0x65, 2]];
        let completed = [vec![0x67, 0x42, 0, 0x1e], vec![0x68, 0xee], vec![0x65, 2]];
        assert_eq!(depacketize(&h264(&[avcc(&sps_only)]).packets()), completed);
    }

    #[test]
    fn large_nalu_becomes_fu_a_of_equal_size() {
        let slice = nalu(0x41, 1 + 2 * 1_398 + 100);
        let title = h264(&[avcc(&[vec![0x65, 1]]), avcc(std::slice::from_ref(&slice))]);
        let packets = title.sent().unwrap().remove(1).1;
        let sizes: Vec<usize> = packets.iter().map(|packet| packet.payload.len()).collect();
        assert_eq!(sizes, [1_400, 1_400, 102]);
        let headers: Vec<&[u8]> = packets.iter().map(|packet| &packet.payload[..2]).collect();
        assert_eq!(headers, [[0x5c, 0x81], [0x5c, 0x01], [0x5c, 0x41]]);
        assert_eq!(depacketize(&packets), [slice]);
    }

    #[test]
    fn delimiters_filler_and_rtp_types_are_not_sent() {
        let sample = avcc(&[
            vec![0x09, 0xf0],
            vec![0x0c, 0xff, 0x80],
            vec![],
            vec![0x41, 1],
            vec![0x18, 5],
            vec![0x7c, 5],
        ]);
        let title = h264(&[avcc(&[vec![0x65, 1]]), sample]);
        assert_eq!(depacketize(&title.sent().unwrap()[1].1), [[0x41, 1]]);
    }

    #[test]
    fn access_unit_without_reference_slices_is_disposable() {
        let samples = [&[0x65u8, 0x06][..], &[0x01, 0x01], &[0x01, 0x41], &[0x06]];
        let nalus =
            |headers: &&[u8]| avcc(&headers.iter().map(|h| nalu(*h, 9)).collect::<Vec<_>>());
        let samples: Vec<Vec<u8>> = samples.iter().map(nalus).collect();
        let frames = h264(&samples).sent().unwrap();
        let disposable: Vec<bool> = frames.iter().map(|(frame, _)| frame.is_disposable).collect();
        assert_eq!(disposable, [false, true, false, false]);
    }

    #[test]
    fn nalu_past_end_of_sample_is_corrupt() {
        let error = h264(&[vec![0, 0, 0, 3, 0x65, 1]]).sent().unwrap_err();
        let fault = SampleFault::NaluPastEnd { offset: 0 };
        assert_eq!(error, WindowError::Corrupt { sample: 0, fault });
        assert_eq!(error.to_string(), "sample 0: NAL unit at byte 0 leaves the sample");
    }

    #[test]
    fn frame_times_come_from_the_index() {
        let frames = h264(&[avcc(&[vec![0x65, 1]]), avcc(&[vec![0x41, 1]])]).sent().unwrap();
        let frame = frames[1].0;
        assert_eq!((frame.due.0, frame.npt.0, frame.rtp_ticks), (40_000_000, 40_000_000, 3_600));
        assert_eq!((frame.sample_index, frame.is_sync), (1, false));
    }

    fn any_nalu() -> impl Strategy<Value = Vec<u8>> {
        let header = (0u8..4, 1u8..=6).prop_map(|(nri, kind)| nri << 5 | kind);
        let len = prop_oneof![1usize..40, 1usize..3_000, 1_390usize..1_410, 2_790usize..2_805];
        (header, len).prop_map(|(header, len)| nalu(header, len))
    }

    proptest! {
        #[test]
        fn nalus_come_back_from_packets(nalus in prop::collection::vec(any_nalu(), 1..12)) {
            let title = h264(&[avcc(&[vec![0x65, 1]]), avcc(&nalus)]);
            let frames = title.sent().unwrap();
            check_packets(&frames);
            check_marker_is_last_only(&frames);
            let packets = &frames[1].1;
            prop_assert_eq!(depacketize(packets), nalus);
            for Sent { payload, .. } in packets {
                let is_inner_fragment = payload[0] & 0x1f == 28 && payload[1] & 0x40 == 0;
                prop_assert!(!is_inner_fragment || payload.len() == RTP_PAYLOAD_BYTES_MAX);
            }
        }

        #[test]
        fn any_bytes_give_packets_or_a_fault(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            nal_length_bytes in 0u8..=5,
        ) {
            let codec = Codec::H264 { nal_length_bytes, sps: vec![vec![]], pps: vec![] };
            if let Ok(frames) = title(codec, 0, 1, 1, &[bytes]).sent() {
                check_packets(&frames);
            }
        }
    }
}
