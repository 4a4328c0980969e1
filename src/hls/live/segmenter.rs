//! Frames into parts, parts into segments.
//!
//! ```text
//! pictures  K . . . . . . . . . . . K . .      K: key frame
//! parts     |-----|-----|-----|-----|          as long as the part target lets them be
//! segments  |-----------------------|          at a key frame, once there is `SEGMENT_MIN_US`,
//!                                              else before the target duration is over
//! sound     goes with the part that it is decoded in, or with the next one when it comes late
//! ```
//! A frame's length is known when the next one is there, so one frame of each track waits.
//! Invariants: parts are cut between pictures of the reference track, which is the video where
//! there is one; no part is longer than the part target while pictures are not. Bounds:
//! `PART_BYTES_MAX` of a part that is not closed, `WAITING_MAX` frames of a track that wait for the
//! reference (those of one that has stopped are dropped), and the bytes of a segment.

use crate::base::time::rescale;
use crate::media::fmp4::{FragmentSample, TrackRun, fragment_head};

/// A frame with its times.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) dts: i64,
    pub(super) pts: i64,
    pub(super) bytes: Vec<u8>,
    pub(super) is_sync: bool,
    /// Ticks that it lasts, where the frame itself says so: for the last one of a line.
    pub(super) ticks: Option<u32>,
}

/// What a part is made of.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    pub(super) duration_us: u64,
    pub(super) is_independent: bool,
    /// Decode time of the reference's first frame in microseconds.
    pub(super) begin_us: i64,
    /// Time at which that frame is shown.
    pub(super) shown_us: i64,
    /// The segment ends with it.
    pub(super) ends_segment: bool,
}

#[derive(Debug)]
struct TrackState {
    clock_rate_hz: u32,
    pending: Option<Timed>,
    /// Frames of the part under way, with their lengths.
    frames: Vec<(Timed, u32)>,
    /// Ticks of the frame before the one that waits.
    last_ticks: u32,
}

/// The part under way: see the module.
#[derive(Debug)]
pub(super) struct Segmenter {
    tracks: Vec<TrackState>,
    /// Which of them is the reference.
    reference: usize,
    sequence: u32,
    part_target_us: Option<u64>,
    target_us: u64,
    segment_us: u64,
    /// Of the parts of the segment under way.
    segment_bytes: usize,
    segment_bytes_max: usize,
    bytes: usize,
}

impl Segmenter {
    /// For tracks with these clocks; `segment_bytes_max` ends a segment whatever its length.
    pub(super) fn new(
        clock_rates_hz: &[u32],
        reference: usize,
        target_us: u64,
        segment_bytes_max: usize,
    ) -> Self {
        let track = |clock_rate_hz: &u32| TrackState {
            clock_rate_hz: *clock_rate_hz,
            pending: None,
            frames: Vec::new(),
            last_ticks: 1,
        };
        Self {
            tracks: clock_rates_hz.iter().map(track).collect(),
            reference,
            sequence: 0,
            part_target_us: None,
            target_us,
            segment_us: 0,
            segment_bytes: 0,
            segment_bytes_max,
            bytes: 0,
        }
    }

    /// The longest that parts are, once it is known.
    pub(super) fn part_target_us(&self) -> Option<u64> {
        self.part_target_us
    }

    /// A picture or a frame of sound is longer than a segment is to be.
    pub(super) fn set_targets(&mut self, part_target_us: u64, target_us: u64) {
        (self.part_target_us, self.target_us) = (Some(part_target_us), target_us);
    }

    /// Takes the next frame of a track. A part that it closes is returned.
    pub(super) fn push(&mut self, track: usize, frame: Timed) -> Option<Part> {
        let state = self.tracks.get_mut(track)?;
        let rate = state.clock_rate_hz;
        let (next_dts, is_sync) = (frame.dts, frame.is_sync);
        let before = state.pending.replace(frame)?;
        let step = next_dts.saturating_sub(before.dts);
        let ticks = u32::try_from(step).unwrap_or(0).max(1);
        self.bytes += before.bytes.len();
        state.last_ticks = ticks;
        state.frames.push((before, ticks));
        if track != self.reference {
            // The reference may have stopped: then nothing closes parts.
            if state.frames.len() > WAITING_MAX || self.bytes > 2 * PART_BYTES_MAX {
                self.bytes -=
                    state.frames.iter().map(|(frame, _)| frame.bytes.len()).sum::<usize>();
                state.frames.clear();
            }
            return None;
        }
        let frame_us = us(i64::from(ticks), rate);
        let target = *self.part_target_us.get_or_insert_with(|| part_target(frame_us));
        let part_us = self.part_us();
        let whole_us = self.segment_us + part_us;
        let ends_segment = (is_sync && whole_us >= SEGMENT_MIN_US)
            || whole_us + frame_us > self.target_us + HALF_SECOND_US - 1
            || self.segment_bytes + self.bytes > self.segment_bytes_max;
        // The next frame may be a little longer than this one.
        let with_next_us = part_us + frame_us + frame_us / 8;
        if ends_segment || with_next_us > target || self.bytes > PART_BYTES_MAX {
            return self.close(next_dts, ends_segment);
        }
        None
    }

    /// Closes what there is: nothing follows on this line.
    pub(super) fn finish(&mut self) -> Option<Part> {
        let mut end = 0;
        for (place, state) in self.tracks.iter_mut().enumerate() {
            let last = state.last_ticks;
            if let Some(pending) = state.pending.take() {
                let ticks = pending.ticks.unwrap_or(last);
                if place == self.reference {
                    end = pending.dts + i64::from(ticks);
                }
                state.frames.push((pending, ticks));
            }
        }
        self.close(end.max(i64::MAX / 2), true)
    }

    fn part_us(&self) -> u64 {
        let Some(state) = self.tracks.get(self.reference) else { return 0 };
        let ticks: i64 = state.frames.iter().map(|(_, ticks)| i64::from(*ticks)).sum();
        us(ticks, state.clock_rate_hz)
    }

    /// Closes the part in front of the reference's time `end`.
    fn close(&mut self, end: i64, ends_segment: bool) -> Option<Part> {
        let reference = self.tracks.get(self.reference)?;
        let rate = reference.clock_rate_hz;
        let first = &reference.frames.first()?.0;
        let (is_independent, begin_us) = (first.is_sync, rescale(first.dts, rate, MICROSECONDS));
        let shown_us = rescale(first.pts, rate, MICROSECONDS);
        let duration_us = self.part_us();
        let mut runs = Vec::new();
        let mut taken = Vec::new();
        for (place, state) in self.tracks.iter_mut().enumerate() {
            let count = if place == self.reference {
                state.frames.len()
            } else {
                state.frames.partition_point(|(frame, _)| {
                    let (a, b) = (i128::from(frame.dts), i128::from(end));
                    a * i128::from(rate) < b * i128::from(state.clock_rate_hz)
                })
            };
            let frames: Vec<(Timed, u32)> = state.frames.drain(..count).collect();
            let samples: Vec<FragmentSample> = frames.iter().map(sample).collect();
            let decode_time = frames.first().map_or(0, |(frame, _)| frame.dts);
            let id = u32::try_from(place + 1).unwrap_or(u32::MAX);
            let decode_time = u64::try_from(decode_time).unwrap_or(0);
            runs.push(TrackRun { id, decode_time, samples });
            taken.push(frames);
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = fragment_head(self.sequence, &runs).ok()?;
        for (frame, _) in taken.iter().flatten() {
            bytes.extend_from_slice(&frame.bytes);
        }
        (self.segment_us, self.segment_bytes) = match ends_segment {
            true => (0, 0),
            false => (self.segment_us + duration_us, self.segment_bytes + bytes.len()),
        };
        let left = self.tracks.iter().flat_map(|state| &state.frames);
        self.bytes = left.map(|(frame, _)| frame.bytes.len()).sum();
        Some(Part { bytes, duration_us, is_independent, begin_us, shown_us, ends_segment })
    }
}

fn sample((frame, ticks): &(Timed, u32)) -> FragmentSample {
    let offset = frame.pts.saturating_sub(frame.dts);
    FragmentSample {
        bytes: u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX),
        duration: *ticks,
        composition_offset: i32::try_from(offset).unwrap_or(0),
        is_sync: frame.is_sync,
        is_disposable: false,
    }
}

/// As many whole frames as half a second has, and a tenth more: times of cameras are uneven, and no
/// part may be longer, nor shorter than 85 hundredths (rfc8216bis s4.4.4.9).
fn part_target(frame_us: u64) -> u64 {
    let frames = (HALF_SECOND_US / frame_us.max(1)).max(1);
    (frames * frame_us.max(1) * 11 / 10).next_multiple_of(1_000)
}

fn us(ticks: i64, rate: u32) -> u64 {
    u64::try_from(rescale(ticks, rate, MICROSECONDS)).unwrap_or(0)
}

const MICROSECONDS: u32 = 1_000_000;
const HALF_SECOND_US: u64 = 500_000;
/// A segment ends at the first key frame behind that: a viewer begins with few parts to load.
const SEGMENT_MIN_US: u64 = 1_500_000;
/// A second of 200 Mbit/s.
const PART_BYTES_MAX: usize = 24 << 20;
/// More than a minute of sound.
const WAITING_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(dts: i64, is_sync: bool, ticks: Option<u32>) -> Timed {
        Timed { dts, pts: dts, bytes: vec![7; 10], is_sync, ticks }
    }

    /// Pictures of 25 a second with key frames every `group`, and sound of 48 kHz.
    fn parts(pictures: i64, group: i64, jitter: impl Fn(i64) -> i64) -> (Segmenter, Vec<Part>) {
        let mut segmenter = Segmenter::new(&[90_000, 48_000], 0, 4_000_000, 1 << 20);
        let mut parts = Vec::new();
        for n in 0..pictures {
            let dts = n * 3_600 + jitter(n);
            parts.extend(segmenter.push(0, frame(dts, n % group == 0, None)));
            for half in 0..2 {
                let at = n * 1_920 + half * 960;
                parts.extend(segmenter.push(1, frame(at, true, Some(960))));
            }
        }
        parts.extend(segmenter.finish());
        (segmenter, parts)
    }

    #[test]
    fn parts_are_as_long_as_the_target_lets_them_be_and_segments_end_at_key_frames() {
        let (segmenter, parts) = parts(200, 50, |_| 0);
        let target = segmenter.part_target_us().unwrap();
        assert_eq!(target, 528_000, "twelve pictures and a tenth more");
        let lengths: Vec<_> = parts.iter().map(|part| part.duration_us).collect();
        assert_eq!(lengths[..4], [520_000, 520_000, 520_000, 440_000]);
        let ends: Vec<_> = parts.iter().filter(|part| part.ends_segment).collect();
        assert_eq!(ends.len(), 4);
        assert_eq!(lengths.iter().sum::<u64>(), 8_000_000);
        assert!(parts[4].is_independent && !parts[5].is_independent);
    }

    #[test]
    fn segment_without_a_key_frame_ends_within_the_target_duration() {
        let (_, parts) = parts(500, 1_000, |_| 0);
        let mut length = 0;
        for part in parts {
            length += part.duration_us;
            if part.ends_segment {
                assert!(length < 4_500_000, "{length} is rounded to 4 s");
                length = 0;
            }
        }
    }

    proptest! {
        #[test]
        fn parts_keep_within_their_limits_whatever_the_jitter(
            group in 1_i64..80, seed in 0_i64..1_000,
        ) {
            let (segmenter, parts) = parts(300, group, |n| (n * 7 + seed) % 11 * 20);
            let target = segmenter.part_target_us().unwrap();
            for (place, part) in parts.iter().enumerate() {
                prop_assert!(part.duration_us <= target, "{} > {target}", part.duration_us);
                let is_last = part.ends_segment || place + 1 == parts.len();
                prop_assert!(is_last || part.duration_us * 100 >= target * 85);
            }
            let sum: u64 = parts.iter().map(|part| part.duration_us).sum();
            prop_assert!(sum.abs_diff(12_000_000) < 10_000);
        }
    }
}
