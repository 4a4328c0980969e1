//! What H.264 (RFC 6184) and H.265 (RFC 7798) have in common: samples made of NAL units, sent
//! alone, several in one packet, or one in several packets.
//!
//! ```text
//! sample  [len|SPS][len|PPS][len|SEI][len|slice .........]
//! packets [agg|len SPS|len PPS|len SEI] [fu|slice..] [fu|..slice] M
//! ```
//! Bound: [`NALUS_MAX`] NAL units in a sample.

use super::SampleFault;
use super::fragment::{Fragment, Unit, fragment};
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::window::WindowBuilder;

/// NAL units in one sample at most. H.265 allows 600 slices in a picture (level 6.2), H.264 one
/// per macroblock; encoders that aim at network packets write one per 1,000 bytes or so.
pub(super) const NALUS_MAX: usize = 8_192;

/// Bytes of parameter sets of one type that are announced, and repeated in front of sync samples,
/// at most. Real ones have under 200; a file that lies must not grow every window.
pub(in crate::media) const PARAMETER_SETS_BYTES_MAX: usize = 8_192;

/// What differs between the two payload formats.
pub(super) trait NaluFormat {
    /// Bytes of the NAL unit header, which an aggregation packet has as well.
    const HEADER_BYTES: usize;

    /// Writes the payload header of an aggregation packet that will hold `nalus`.
    fn push_aggregate_header(nalus: &[Unit<'_>], out: &mut WindowBuilder);

    /// Writes the payload header of a fragment: `HEADER_BYTES` + 1 bytes.
    fn push_fragment_header(nalu: &Unit<'_>, part: Fragment, out: &mut WindowBuilder);
}

/// Cuts a sample into its NAL units; empty ones are left out.
pub(super) fn split<'a>(
    bytes: &'a [u8],
    file_offset: u64,
    length_bytes: u8,
) -> Result<Vec<Unit<'a>>, SampleFault> {
    let length_bytes = usize::from(length_bytes.clamp(1, 4));
    let mut nalus = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let fault = SampleFault::NaluPastEnd { offset: at };
        let (length, rest) = rest.split_at_checked(length_bytes).ok_or(fault)?;
        let count = length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        let nalu = rest.get(..count).ok_or(fault)?;
        let start = at + length_bytes;
        at = start + count;
        if nalu.is_empty() {
            continue;
        }
        if nalus.len() == NALUS_MAX {
            return Err(SampleFault::TooManyUnits { limit: NALUS_MAX });
        }
        nalus.push(Unit::in_file(nalu, file_offset.saturating_add(start as u64)));
    }
    Ok(nalus)
}

/// Sends the NAL units of one access unit; the marker is set on the last packet
/// (RFC 6184 s5.1, RFC 7798 s4.1).
pub(super) fn push_access_unit<F: NaluFormat>(nalus: &[Unit<'_>], out: &mut WindowBuilder) {
    let mut rest = nalus;
    while !rest.is_empty() {
        let count = aggregated_count::<F>(rest);
        let (group, behind) = rest.split_at(count.clamp(1, rest.len()));
        rest = behind;
        match group {
            [single] if single.bytes.len() <= RTP_PAYLOAD_BYTES_MAX => {
                single.push(out);
                out.end_packet(false);
            }
            [large] => {
                fragment(&large.skip(F::HEADER_BYTES), F::HEADER_BYTES + 1, out, |part, out| {
                    F::push_fragment_header(large, part, out);
                });
            }
            several => push_aggregate::<F>(several, out),
        }
    }
    out.mark_last_packet();
}

/// How many of the first NAL units fit one aggregation packet together.
fn aggregated_count<F: NaluFormat>(nalus: &[Unit<'_>]) -> usize {
    let mut bytes = F::HEADER_BYTES;
    let fits = |nalu: &&Unit<'_>| {
        bytes += 2 + nalu.bytes.len();
        bytes <= RTP_PAYLOAD_BYTES_MAX
    };
    nalus.iter().take_while(fits).count()
}

fn push_aggregate<F: NaluFormat>(nalus: &[Unit<'_>], out: &mut WindowBuilder) {
    F::push_aggregate_header(nalus, out);
    for nalu in nalus {
        let count = u16::try_from(nalu.bytes.len()).unwrap_or(u16::MAX);
        out.push_inline(&count.to_be_bytes());
        nalu.push(out);
    }
    out.end_packet(false);
}

/// A decoder's parameter sets of one type, as sent in front of sync samples that have none of
/// their own, so that whoever joins or seeks can decode.
#[derive(Debug, Clone, Copy)]
pub(super) struct ParameterSets<'a> {
    sets: &'a [Vec<u8>],
}

impl<'a> ParameterSets<'a> {
    /// Sets beyond any reasonable size are not repeated.
    pub(super) fn new(sets: &'a [Vec<u8>]) -> Self {
        let bytes = sets.iter().fold(0usize, |sum, set| sum.saturating_add(set.len()));
        Self { sets: if bytes > PARAMETER_SETS_BYTES_MAX { &[] } else { sets } }
    }

    /// Puts the sets into the access unit in front of position `at`.
    pub(super) fn insert(self, nalus: &mut Vec<Unit<'a>>, at: usize) {
        let at = at.min(nalus.len());
        let sets = self.sets.iter().filter(|set| !set.is_empty());
        nalus.splice(at..at, sets.map(|set| Unit::inline(set)));
    }
}

/// Completes the parameter sets of a sync sample. `types` are the NAL unit types of the sets in
/// the order in which a decoder needs them (VPS, SPS, PPS), each with the configuration's sets:
/// those go in when the sample has none of that type, behind whatever they depend on.
pub(super) fn complete_parameter_sets<'a>(
    nalus: &mut Vec<Unit<'a>>,
    types: &[(u8, ParameterSets<'a>)],
    type_of: impl Fn(&Unit<'_>) -> u8,
) {
    let mut at = 0;
    for (set_type, sets) in types {
        let before = nalus.len();
        match nalus.iter().rposition(|nalu| type_of(nalu) == *set_type) {
            Some(last) => at = at.max(last + 1),
            None => {
                sets.insert(nalus, at);
                at += nalus.len() - before;
            }
        }
    }
}
