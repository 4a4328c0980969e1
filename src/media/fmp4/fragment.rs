//! The head of a fragment: `moof` and the first bytes of `mdat`.

use mp4_atom::{Encode, Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry, TrunSamples};

/// One sample of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentSample {
    /// Length.
    pub bytes: u32,
    /// Ticks until the next sample is decoded.
    pub duration: u32,
    /// Ticks from its decode time to its presentation.
    pub composition_offset: i32,
    /// A decoder can start here.
    pub is_sync: bool,
    /// No other sample depends on it.
    pub is_disposable: bool,
}

/// The samples of one track in a fragment.
#[derive(Debug, Clone)]
pub struct TrackRun {
    /// `track_ID`.
    pub id: u32,
    /// Decode time of the first sample in ticks.
    pub decode_time: u64,
    /// In decode order.
    pub samples: Vec<FragmentSample>,
}

/// Why a fragment cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FragmentError {
    /// Its samples are longer than offsets can state.
    #[error("a fragment of {bytes} bytes is longer than {FRAGMENT_BYTES_MAX}")]
    TooLong {
        /// Length of the samples.
        bytes: u64,
    },
    /// The boxes cannot be encoded.
    #[error("the boxes of a fragment cannot be encoded")]
    Encoding,
}

/// Bytes of the samples of one fragment at most: offsets are signed numbers of 32 bits.
pub const FRAGMENT_BYTES_MAX: u64 = 1 << 30;

/// `moof` and the head of `mdat`; the samples' bytes follow, those of the first track first.
/// Tracks without samples are left out, but for the first one where none has any: a fragment has a
/// track (ISO BMFF Byte Stream Format s4).
///
/// # Errors
/// See [`FragmentError`].
pub fn fragment_head(sequence: u32, tracks: &[TrackRun]) -> Result<Vec<u8>, FragmentError> {
    let bytes_of =
        |track: &TrackRun| track.samples.iter().map(|sample| u64::from(sample.bytes)).sum::<u64>();
    let bytes = tracks.iter().map(bytes_of).sum();
    if bytes > FRAGMENT_BYTES_MAX {
        return Err(FragmentError::TooLong { bytes });
    }
    let mut kept: Vec<&TrackRun> =
        tracks.iter().filter(|track| !track.samples.is_empty()).collect();
    if kept.is_empty() {
        kept.extend(tracks.first());
    }
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number: sequence },
        traf: kept.iter().map(|track| traf(track)).collect(),
    };
    let mut head = Vec::new();
    moof.encode(&mut head).map_err(|_| FragmentError::Encoding)?;
    // The length of the box does not depend on the offsets.
    let mut at = (head.len() + MDAT_HEAD_BYTES) as u64;
    for (traf, track) in moof.traf.iter_mut().zip(&kept) {
        for trun in &mut traf.trun {
            trun.data_offset = i32::try_from(at).ok();
        }
        at += bytes_of(track);
    }
    head.clear();
    moof.encode(&mut head).map_err(|_| FragmentError::Encoding)?;
    let mdat = u32::try_from(bytes + MDAT_HEAD_BYTES as u64).unwrap_or(u32::MAX);
    head.extend_from_slice(&mdat.to_be_bytes());
    head.extend_from_slice(b"mdat");
    Ok(head)
}

fn traf(track: &TrackRun) -> Traf {
    let entry = |sample: &FragmentSample| TrunEntry {
        duration: Some(sample.duration),
        size: Some(sample.bytes),
        flags: Some(flags(sample)),
        cts: Some(i64::from(sample.composition_offset)),
    };
    let duration_is_empty = track.samples.is_empty();
    let samples = TrunSamples::Explicit(track.samples.iter().map(entry).collect());
    let run = (!duration_is_empty).then_some(Trun { data_offset: Some(0), samples });
    Traf {
        tfhd: Tfhd {
            track_id: track.id,
            duration_is_empty,
            default_base_is_moof: true,
            ..Tfhd::default()
        },
        tfdt: Some(Tfdt { base_media_decode_time: track.decode_time }),
        trun: run.into_iter().collect(),
        ..Traf::default()
    }
}

/// `sample_flags` (ISO 14496-12 s8.8.3.1).
fn flags(sample: &FragmentSample) -> u32 {
    let depends = if sample.is_sync { 2 << 24 } else { 1 << 24 | 1 << 16 };
    let is_depended_on = if sample.is_disposable { 2 << 22 } else { 0 };
    depends | is_depended_on
}

const MDAT_HEAD_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use mp4_atom::{Any, ReadFrom as _};
    use proptest::prelude::*;

    use super::*;

    fn sample(bytes: u32) -> FragmentSample {
        let (duration, composition_offset) = (3_000, -3_000);
        FragmentSample { bytes, duration, composition_offset, is_sync: true, is_disposable: false }
    }

    #[test]
    fn fragment_that_offsets_cannot_state_is_refused() {
        let samples = [sample(1 << 29), sample(1 << 29), sample(1)];
        let track = TrackRun { id: 1, decode_time: 0, samples: samples.to_vec() };
        let refused = fragment_head(1, &[track]);
        assert_eq!(refused, Err(FragmentError::TooLong { bytes: (1 << 30) + 1 }));
    }

    #[test]
    fn fragment_without_samples_says_of_which_track_it_has_none() {
        let empty = |id| TrackRun { id, decode_time: 7, samples: Vec::new() };
        let head = fragment_head(1, &[empty(3), empty(4)]).unwrap();
        let mut rest = head.as_slice();
        let Any::Moof(moof) = Any::read_from(&mut rest).unwrap() else { panic!("no moof") };
        let [traf] = moof.traf.as_slice() else { panic!("{moof:?}") };
        assert!(traf.tfhd.duration_is_empty && traf.trun.is_empty());
        assert_eq!((traf.tfhd.track_id, rest), (3, &b"\0\0\0\x08mdat"[..]));
    }

    proptest! {
        #[test]
        fn offsets_find_each_track_behind_the_head(
            video in proptest::collection::vec(1_u32..5_000, 0..40),
            audio in proptest::collection::vec(1_u32..500, 0..40),
            time in 0_u64..1 << 40,
        ) {
            let of = |sizes: &[u32]| sizes.iter().map(|bytes| sample(*bytes)).collect::<Vec<_>>();
            let (first, second) = (of(&video), of(&audio));
            let tracks = [
                TrackRun { id: 1, decode_time: time, samples: first },
                TrackRun { id: 2, decode_time: time, samples: second },
            ];
            let head = fragment_head(7, &tracks).unwrap();
            let mut rest = head.as_slice();
            let Any::Moof(moof) = Any::read_from(&mut rest).unwrap() else { panic!("no moof") };
            let (sum, audio_sum) = (video.iter().sum::<u32>(), audio.iter().sum::<u32>());
            prop_assert_eq!(rest, [&(8 + sum + audio_sum).to_be_bytes()[..], b"mdat"].concat());
            let mut at = i32::try_from(head.len()).unwrap();
            for traf in &moof.traf {
                if traf.trun.is_empty() {
                    prop_assert!(video.is_empty() && audio.is_empty());
                    continue;
                }
                prop_assert_eq!(traf.trun[0].data_offset, Some(at));
                prop_assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, time);
                let bytes: u32 = traf.trun[0].samples.iter().filter_map(|entry| entry.size).sum();
                at += i32::try_from(bytes).unwrap();
            }
            prop_assert_eq!(u32::try_from(at).unwrap(), u32::try_from(head.len()).unwrap() + sum + audio_sum);
        }
    }
}
