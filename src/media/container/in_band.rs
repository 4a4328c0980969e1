//! Decoder configurations that the sample description leaves to the samples (`avc3`, `hev1`,
//! `dva1`, `dvhe`, and `mp4v` without DecoderSpecificInfo): taken from the first sync sample.
//!
//! ```text
//! avcC  SPS -  PPS -      first sync sample  [AUD][SPS][PPS][SEI][IDR slice ..]
//!         ^     ^----------------------------------------'
//!         '-----------------------------------------'
//! ```
//! Players need them before the first packet: some read parameter sets from the SDP alone. What
//! the sample description has is kept as it is; only a kind of set that it lacks is taken.
//!
//! Bounds: [`LACKS_OF_TRACK_MAX`] configurations of a track are completed, whose samples are found
//! in one pass over the table. [`START_BYTES_MAX`] of a sample are looked at. Sets of a kind that
//! have more bytes together than packetizers take are not taken.
//! ISO 14496-15 s5.3.2, s8.3.2.

use super::boxes::array_at;
use crate::media::asset::Track;
use crate::media::codec::Codec;
use crate::media::index::Sample;
use crate::media::packetize::PARAMETER_SETS_BYTES_MAX;

/// A decoder configuration of a track that lacks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lack {
    pub(super) track_index: usize,
    /// As `SampleIndex::description` counts.
    pub(super) description: u16,
    /// The sample to look into: the first sync sample with that description, the one that a player
    /// gets first where the track has only one.
    pub(super) sample: Option<Sample>,
}

/// What is to be looked for in samples, by ascending tracks: of a track, the announced
/// configuration and the first others.
pub(super) fn lacks(tracks: &[Track]) -> Vec<Lack> {
    let mut out = Vec::new();
    for (track_index, track) in tracks.iter().enumerate().filter(|(_, t)| t.hint.is_none()) {
        let codecs = (0..).zip(track.codec.iter().chain(&track.other_codecs));
        let lacking = codecs.filter(|(_, codec)| !is_complete(codec));
        let first = out.len();
        out.extend(lacking.take(LACKS_OF_TRACK_MAX).map(|(description, _)| Lack {
            track_index,
            description,
            sample: None,
        }));
        find_samples(track, out.get_mut(first..).unwrap_or(&mut []));
    }
    out
}

/// Every kind of parameter set is in the configuration.
pub(super) fn is_complete(codec: &Codec) -> bool {
    match codec {
        Codec::H264 { sps, pps, .. } => has_any(sps) && has_any(pps),
        Codec::H265 { vps, sps, pps, .. } => has_any(vps) && has_any(sps) && has_any(pps),
        Codec::Mpeg4Visual { config } => !config.is_empty(),
        _ => true,
    }
}

/// Fills in the samples of a track's lacks.
fn find_samples(track: &Track, lacks: &mut [Lack]) {
    let index = &track.index;
    let first = index.sync_sample(0);
    if let Some(first) = first
        && let Some(lack) = lacks.iter_mut().find(|l| l.description == index.description(first))
    {
        lack.sample = index.sample(first);
    }
    let table = index.raw();
    let mut left = lacks.iter().filter(|lack| lack.sample.is_none()).count();
    for (run, which) in table.description_runs() {
        if left == 0 {
            break;
        }
        let is_unfilled = |lack: &&mut Lack| lack.description == which && lack.sample.is_none();
        let Some(lack) = lacks.iter_mut().find(is_unfilled) else { continue };
        let sync = table.sync_sample(table.sync_before(run.start));
        lack.sample = sync.filter(|sync| run.contains(sync)).and_then(|sync| table.sample(sync));
        left -= usize::from(lack.sample.is_some());
    }
}

/// Takes what `codec` lacks from the start of a sample.
pub(super) fn complete(codec: &mut Codec, start: &[u8]) {
    match codec {
        Codec::H264 { nal_length_bytes, sps, pps } => {
            let sets = [(7, sps), (8, pps)];
            take_sets(sets, nal_units(start, *nal_length_bytes), |nalu| {
                nalu.first().map(|header| header & 0x1f)
            });
        }
        Codec::H265 { nal_length_bytes, vps, sps, pps } => {
            let sets = [(32, vps), (33, sps), (34, pps)];
            take_sets(sets, nal_units(start, *nal_length_bytes), |nalu| {
                nalu.first().map(|header| header >> 1 & 0x3f)
            });
        }
        Codec::Mpeg4Visual { config } if config.is_empty() => {
            let headers = visual_headers(start);
            if headers.len() <= PARAMETER_SETS_BYTES_MAX {
                *config = headers.to_vec();
            }
        }
        _ => {}
    }
}

fn has_any(sets: &[Vec<u8>]) -> bool {
    sets.iter().any(|set| !set.is_empty())
}

fn take_sets<'a, const N: usize>(
    sets: [(u8, &mut Vec<Vec<u8>>); N],
    nal_units: impl Iterator<Item = &'a [u8]> + Clone,
    type_of: impl Fn(&[u8]) -> Option<u8>,
) {
    for (kind, sets) in sets {
        if has_any(sets) {
            continue;
        }
        sets.clear();
        let mut bytes = 0;
        for unit in nal_units.clone().filter(|unit| type_of(unit) == Some(kind)) {
            if sets.len() >= SETS_MAX || sets.iter().any(|set| set == unit) {
                continue;
            }
            bytes += unit.len();
            if bytes > PARAMETER_SETS_BYTES_MAX {
                // Some of them would be no configuration.
                sets.clear();
                break;
            }
            sets.push(unit.to_vec());
        }
    }
}

/// The NAL units that are whole in the start of a sample.
fn nal_units(start: &[u8], length_bytes: u8) -> impl Iterator<Item = &[u8]> + Clone {
    let mut rest = start;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_at_checked(usize::from(length_bytes))?;
        let bytes = length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        let (unit, behind) = behind.split_at_checked(bytes)?;
        rest = behind;
        Some(unit)
    })
}

/// Visual object sequence, visual object and layer headers: what stands in front of the first
/// group or picture (ISO 14496-2 s6.2.1). Nothing when no layer is among it.
fn visual_headers(start: &[u8]) -> &[u8] {
    let mut has_layer = false;
    for at in 0..start.len() {
        match array_at::<4>(start, at) {
            Some([0, 0, 1, 0x20..=0x2f]) => has_layer = true,
            Some([0, 0, 1, 0xb3 | 0xb6]) if has_layer => return start.get(..at).unwrap_or(&[]),
            _ => {}
        }
    }
    &[]
}

/// Configurations of a track that are completed at most: recordings are joined of a few. The rest
/// have their sets in the samples alone, where they are sent too.
pub(super) const LACKS_OF_TRACK_MAX: usize = 8;

/// Bytes of a sample that are looked at: parameter sets are its first NAL units, and packetizers
/// take less than half of this.
pub(super) const START_BYTES_MAX: u32 = 64 << 10;

/// Parameter sets of one kind at most: H.265 has 64 PPS, H.264 has 256.
const SETS_MAX: usize = 256;
