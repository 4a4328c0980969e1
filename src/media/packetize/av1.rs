//! AV1 in RTP: RTP Payload Format For AV1 (AOMedia, v1.0).
//!
//! ```text
//! [Z Y W W N 0 0 0] {[length leb128][OBU]}.. [OBU]     up to three whole ones, last without length
//! [Z Y 0 1 N 0 0 0] [part of an OBU]                   one large one
//! ```
//! OBUs go out without their own size fields; their lengths are in the packet. Left out, as the
//! format asks: temporal delimiters (the marker and timestamp say it) and tile lists; and padding,
//! which says nothing. N is 1 on the first packet of a sync sample: a coded video sequence starts.
//!
//! Bound: [`OBUS_MAX`] OBUs in a sample.

use super::fragment::Unit;
use super::{Input, Packetizer, SampleFault};
use crate::base::leb128;
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::window::WindowBuilder;

/// OBUs in one sample at most: a frame header and as many tile groups as AV1 allows tiles (4,096),
/// with room for hidden frames and metadata.
const OBUS_MAX: usize = 8_192;
/// What the two bits of W can count.
const ELEMENTS_MAX: usize = 3;

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

const CONTINUES: u8 = 0x80;
const TO_BE_CONTINUED: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;

/// Packetizer of AV1.
#[derive(Debug)]
pub(super) struct Av1Packetizer<'a> {
    config_obus: &'a [u8],
}

impl<'a> Av1Packetizer<'a> {
    pub(super) fn new(config_obus: &'a [u8]) -> Self {
        Self { config_obus }
    }

    /// The sequence header of the configuration, for samples without one.
    fn sequence_header(&self) -> Option<Obu<'a>> {
        let mut obus = Vec::new();
        split(self.config_obus, None, &mut obus).ok()?;
        let has_sane_size = |obu: &Obu<'_>| obu.bytes() <= RTP_PAYLOAD_BYTES_MAX / 2;
        obus.into_iter().find(|obu| obu.kind() == SEQUENCE_HEADER).filter(has_sane_size)
    }
}

impl Packetizer for Av1Packetizer<'_> {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        let mut obus = Vec::new();
        split(input.bytes, Some(input.sample.offset), &mut obus)?;
        let is_sync = input.sample.is_sync;
        let needs_header = input.brings_config;
        if needs_header && !obus.iter().any(|obu| obu.kind() == SEQUENCE_HEADER) && !obus.is_empty()
        {
            obus.splice(0..0, self.sequence_header());
        }
        let mut new_sequence = if is_sync { NEW_SEQUENCE } else { 0 };
        let mut rest = obus.as_slice();
        while let Some(first) = rest.first() {
            let count = together_count(rest);
            let (group, behind) = rest.split_at(count.clamp(1, rest.len()));
            rest = behind;
            if count == 0 {
                push_fragments(first, new_sequence, out);
            } else {
                push_together(group, new_sequence, out);
            }
            new_sequence = 0;
        }
        out.mark_last_packet();
        out.end_frame(input.frame);
        Ok(())
    }
}

/// One OBU: its header without size field, and its payload.
#[derive(Debug, Clone, Copy)]
struct Obu<'a> {
    header: [u8; 2],
    header_bytes: usize,
    payload: Unit<'a>,
}

impl Obu<'_> {
    fn kind(&self) -> u8 {
        kind_of(self.header[0])
    }

    fn bytes(&self) -> usize {
        self.header_bytes + self.payload.bytes.len()
    }

    fn push_header(&self, out: &mut WindowBuilder) {
        out.push_inline(self.header.get(..self.header_bytes).unwrap_or_default());
    }
}

fn kind_of(header: u8) -> u8 {
    header >> 3 & 0x0f
}

/// Cuts a sample in the low-overhead format (AV1 s5.2) into the OBUs that are sent.
fn split<'a>(
    bytes: &'a [u8],
    file_offset: Option<u64>,
    out: &mut Vec<Obu<'a>>,
) -> Result<(), SampleFault> {
    let all = Unit { bytes, file_offset };
    let mut at = 0;
    while at < bytes.len() {
        let fault = SampleFault::ObuMalformed { offset: at };
        let rest = bytes.get(at..).unwrap_or_default();
        let (first, extension) = match *rest {
            [first, ..] if first & 0x80 != 0 => return Err(fault),
            [first, extension, ..] if first & 0x04 != 0 => (first, Some(extension)),
            [first, ..] if first & 0x04 == 0 => (first, None),
            _ => return Err(fault),
        };
        let header_bytes = 1 + usize::from(extension.is_some());
        let behind = rest.get(header_bytes..).unwrap_or_default();
        let (size, behind) = match first & 0x02 {
            0 => (behind.len(), behind),
            _ => leb128::read(behind).ok_or(fault)?,
        };
        let start = bytes.len() - behind.len();
        let end = start.checked_add(size).filter(|end| *end <= bytes.len()).ok_or(fault)?;
        at = end;
        if matches!(kind_of(first), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            continue;
        }
        if out.len() == OBUS_MAX {
            return Err(SampleFault::TooManyUnits { limit: OBUS_MAX });
        }
        out.push(Obu {
            header: [first & !0x02, extension.unwrap_or(0)],
            header_bytes,
            payload: Unit { bytes: bytes.get(start..end).unwrap_or_default(), ..all.skip(start) },
        });
    }
    Ok(())
}

/// How many of the first OBUs share a packet; 0 when the first one does not fit alone.
fn together_count(obus: &[Obu<'_>]) -> usize {
    let mut count = 0;
    let mut before = 1;
    for obu in obus.iter().take(ELEMENTS_MAX) {
        if before + obu.bytes() > RTP_PAYLOAD_BYTES_MAX {
            break;
        }
        count += 1;
        before += leb128::write(obu.bytes(), &mut [0; leb128::BYTES_MAX]).len() + obu.bytes();
    }
    count
}

fn push_together(obus: &[Obu<'_>], new_sequence: u8, out: &mut WindowBuilder) {
    let count = u8::try_from(obus.len()).unwrap_or(0);
    out.push_inline(&[count << 4 | new_sequence]);
    for (number, obu) in obus.iter().enumerate() {
        if number + 1 < obus.len() {
            out.push_inline(leb128::write(obu.bytes(), &mut [0; leb128::BYTES_MAX]));
        }
        obu.push_header(out);
        obu.payload.push(out);
    }
    out.end_packet(false);
}

/// One OBU over several packets. Its header counts as part of the first.
fn push_fragments(obu: &Obu<'_>, new_sequence: u8, out: &mut WindowBuilder) {
    let step = RTP_PAYLOAD_BYTES_MAX - 1;
    let len = obu.bytes();
    for start in (0..len).step_by(step) {
        let end = (start + step).min(len);
        let (z, n) = if start == 0 { (0, new_sequence) } else { (CONTINUES, 0) };
        let y = if end < len { TO_BE_CONTINUED } else { 0 };
        out.push_inline(&[z | y | 1 << 4 | n]);
        if start == 0 {
            obu.push_header(out);
        }
        let from = start.saturating_sub(obu.header_bytes);
        obu.payload.push_range(from..end - obu.header_bytes, out);
        out.end_packet(false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{
        Sent, Title, check_marker_is_last_only, check_packets, pattern, title,
    };

    const SEQUENCE: [u8; 4] = [0x0a, 2, 0xaa, 0xbb];

    fn av1(samples: &[Vec<u8>]) -> Title {
        let config_obus = SEQUENCE.to_vec();
        title(Codec::Av1 { config_obus, profile: 0, level_idx: 8, tier: 0 }, 25, 1, 9, samples)
    }

    /// An OBU with size field; `extension` 0 for none.
    fn obu(kind: u8, extension: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind << 3 | 0x02];
        if extension != 0 {
            bytes[0] |= 0x04;
            bytes.push(extension);
        }
        let mut size = payload.len();
        while size >= 0x80 {
            bytes.push(0x80 | u8::try_from(size & 0x7f).unwrap());
            size >>= 7;
        }
        bytes.push(u8::try_from(size).unwrap());
        [bytes, payload.to_vec()].concat()
    }

    /// What `obu` is without its size field.
    fn bare(kind: u8, extension: u8, payload: &[u8]) -> Vec<u8> {
        match extension {
            0 => [&[kind << 3][..], payload].concat(),
            _ => [&[kind << 3 | 0x04, extension][..], payload].concat(),
        }
    }

    /// OBUs back from packets, written from the payload format's text alone.
    fn depacketize(packets: &[Sent]) -> Vec<Vec<u8>> {
        let mut obus: Vec<Vec<u8>> = Vec::new();
        let mut is_open = false;
        for Sent { payload, .. } in packets {
            let (aggregation, mut rest) = payload.split_first().unwrap();
            assert_eq!(aggregation & 0x80 != 0, is_open);
            let count = aggregation >> 4 & 3;
            assert_ne!(count, 0);
            for number in 1..=count {
                let mut len = rest.len();
                if number < count {
                    len = usize::from(rest[0] & 0x7f);
                    let is_long = rest[0] & 0x80 != 0;
                    rest = &rest[1..];
                    if is_long {
                        len |= usize::from(rest[0]) << 7;
                        rest = &rest[1..];
                    }
                }
                let (element, behind) = rest.split_at(len);
                rest = behind;
                if is_open {
                    obus.last_mut().unwrap().extend_from_slice(element);
                } else {
                    obus.push(element.to_vec());
                }
                is_open = false;
            }
            is_open = aggregation & 0x40 != 0;
        }
        assert!(!is_open);
        obus
    }

    #[test]
    fn sync_sample_gets_the_sequence_header_and_n() {
        let sample = [obu(2, 0, &[]), obu(6, 0, &[1, 2, 3])].concat();
        let packets = av1(&[sample.clone(), sample]).packets();
        let with_header = vec![0x28, 3, 0x08, 0xaa, 0xbb, 0x30, 1, 2, 3];
        assert_eq!(packets[0], Sent { payload: with_header, marker: true });
        assert_eq!(packets[1], Sent { payload: vec![0x10, 0x30, 1, 2, 3], marker: true });
    }

    #[test]
    fn large_obu_is_fragmented_with_z_and_y() {
        let payload = pattern(2, 3_000);
        let sample = [obu(1, 0, &[9]), obu(6, 0x08, &payload)].concat();
        let packets = av1(&[sample]).packets();
        let heads: Vec<(usize, u8)> =
            packets.iter().map(|packet| (packet.payload.len(), packet.payload[0])).collect();
        assert_eq!(heads, [(3, 0x18), (1_400, 0x50), (1_400, 0xd0), (205, 0x90)]);
        assert_eq!(depacketize(&packets), [bare(1, 0, &[9]), bare(6, 0x08, &payload)]);
    }

    #[test]
    fn last_obu_may_lack_its_size() {
        let sample = [obu(1, 0, &[9]), vec![0x30, 5, 6]].concat();
        let obus = depacketize(&av1(&[sample]).packets());
        assert_eq!(obus, [bare(1, 0, &[9]), vec![0x30, 5, 6]]);
    }

    #[test]
    fn obu_past_end_of_sample_is_corrupt() {
        let error = av1(&[vec![0x0a, 0x01, 0x00, 0x32, 0x05, 1]]).sent().unwrap_err();
        assert_eq!(error.to_string(), "sample 0: OBU at byte 3 is malformed or leaves the sample");
    }

    proptest! {
        #[test]
        fn obus_come_back_from_packets(obus in prop::collection::vec(
            (3u8..=7, prop_oneof![Just(0u8), 0x20u8..0x28], prop_oneof![
                0usize..40, 120usize..135, 1_385usize..1_405, 2_790usize..2_805, 0usize..6_000,
            ]), 1..10,
        )) {
            let obus: Vec<(u8, u8, Vec<u8>)> = obus
                .iter()
                .map(|(kind, ext, len)| (*kind, *ext, pattern(usize::from(*kind), *len)))
                .collect();
            let sample: Vec<u8> =
                obus.iter().flat_map(|(kind, ext, payload)| obu(*kind, *ext, payload)).collect();
            let frames = av1(&[obu(1, 0, &[1]), sample]).sent().unwrap();
            check_packets(&frames);
            check_marker_is_last_only(&frames);
            let expected: Vec<Vec<u8>> =
                obus.iter().map(|(kind, ext, payload)| bare(*kind, *ext, payload)).collect();
            prop_assert_eq!(depacketize(&frames[1].1), expected);
            for Sent { payload, .. } in &frames[1].1 {
                let is_inner = payload[0] & TO_BE_CONTINUED != 0;
                prop_assert!(!is_inner || payload.len() == RTP_PAYLOAD_BYTES_MAX);
            }
        }

        #[test]
        fn any_bytes_give_packets_or_a_fault(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            config_obus in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let codec = Codec::Av1 { config_obus, profile: 0, level_idx: 0, tier: 0 };
            if let Ok(frames) = title(codec, 25, 1, 1, &[bytes]).sent() {
                check_packets(&frames);
            }
        }
    }
}
