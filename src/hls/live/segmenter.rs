//! Frames into parts, parts into segments.
//!
//! ```text
//! pictures  K . . . . . . . . . . . K . .      K: key frame
//! parts     |-----|-----|-----|-----|          as long as the part target lets them be
//! segments  |-----------------------|          at a key frame, once there is `SEGMENT_MIN_US`,
//!                                              else before the target duration is over
//! sound     goes with the part that it is decoded in, or with the next one when it comes late
//! ```
//! A frame's length is known when the next one is there, so one frame of each track waits. A
//! picture that lasts longer than a part may begins a segment, which is then listed without parts
//! (RFC 8216 s4.3.3.1; rfc8216bis s4.4.3.7). One that lasts longer than a segment may ends the
//! line: see `muxer`.
//! A part is one fragment of all tracks, or of several sounds one fragment of each track: they are
//! cut at the same times, so renditions have the same parts.
//! Invariants: parts are cut between pictures of the reference track, which is the video where
//! there is one; no part is longer than the part target, but where it begins a segment; no segment,
//! rounded to seconds, is longer than the target duration. Bounds: `PART_BYTES_MAX` of a part that
//! is not closed, `WAITING_MAX` frames of a track that wait for the reference (those of one that
//! has stopped are dropped), and the bytes of a segment.

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
    /// Of each rendition.
    pub(super) fragments: Vec<Fragment>,
    pub(super) duration_us: u64,
    pub(super) is_independent: bool,
    /// Decode time of the reference's first frame in microseconds.
    pub(super) begin_us: i64,
    /// Time at which that frame is shown.
    pub(super) shown_us: i64,
    /// A segment begins with it: the one before has ended.
    pub(super) begins_segment: bool,
    /// The segment ends with it.
    pub(super) ends_segment: bool,
}

/// `moof` and `mdat` of one rendition.
#[derive(Debug)]
pub(super) struct Fragment {
    pub(super) bytes: Vec<u8>,
    /// It has no frames.
    pub(super) is_empty: bool,
}

/// What a playlist says of the lengths of all parts and segments: it does not change while the path
/// runs (RFC 8216 s6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Targets {
    /// Microseconds of a part at most.
    pub(super) part_us: u64,
    /// Seconds of a segment at most, once it is rounded.
    pub(super) segment_s: u32,
}

impl Targets {
    /// By the length of a path's first frame: parts of as many whole frames as half a second has,
    /// and a tenth more. Times of cameras are uneven, and no part may be longer, nor shorter than
    /// 85 hundredths (rfc8216bis s4.4.4.9).
    pub(super) fn of(frame_us: u64) -> Self {
        let short_us = frame_us.clamp(1, FRAME_US_MAX);
        let frames = (HALF_SECOND_US / short_us).max(1);
        let part_us = (frames * short_us * 11 / 10).next_multiple_of(1_000);
        let seconds = frame_us.saturating_mul(5).div_ceil(4 * u64::from(MICROSECONDS));
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        Self { part_us, segment_s: seconds.clamp(TARGET_S, TARGET_S_MAX) }
    }

    /// Microseconds of a segment that are rounded to its target.
    fn longest_us(self) -> u64 {
        longest_us(self.segment_s)
    }
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
    /// One for all tracks, or one for each.
    renditions: usize,
    sequence: u32,
    targets: Option<Targets>,
    /// The next part begins a segment.
    begins_segment: bool,
    /// The segment under way has a picture that is longer than a part may be.
    is_long: bool,
    /// Of the parts of the segment under way.
    segment_us: u64,
    /// Of the parts of the segment under way.
    segment_bytes: usize,
    segment_bytes_max: usize,
    bytes: usize,
}

impl Segmenter {
    /// For tracks with these clocks. `targets`: those of the path, once it has any;
    /// `segment_bytes_max` ends a segment whatever its length. More than one of `renditions` have
    /// one track each, in the order of the clocks.
    pub(super) fn new(
        clock_rates_hz: &[u32],
        (reference, renditions): (usize, usize),
        targets: Option<Targets>,
        segment_bytes_max: usize,
    ) -> Self {
        let track = |clock_rate_hz: &u32| TrackState {
            clock_rate_hz: *clock_rate_hz,
            pending: None,
            frames: Vec::new(),
            last_ticks: (clock_rate_hz / USUAL_FRAMES_A_SECOND).max(1),
        };
        Self {
            tracks: clock_rates_hz.iter().map(track).collect(),
            reference,
            renditions,
            sequence: 0,
            targets,
            begins_segment: true,
            is_long: false,
            segment_us: 0,
            segment_bytes: 0,
            segment_bytes_max,
            bytes: 0,
        }
    }

    /// How long parts and segments are at most, once it is known.
    pub(super) fn targets(&self) -> Option<Targets> {
        self.targets
    }

    /// The longest that a frame of the reference may last, in microseconds.
    pub(super) fn frame_us_max(&self) -> u64 {
        self.targets.map_or_else(|| longest_us(TARGET_S_MAX), Targets::longest_us)
    }

    /// Takes the next frame of a track. Parts that it closes go to `out`.
    pub(super) fn push(&mut self, track: usize, frame: Timed, out: &mut Vec<Part>) {
        let Some(state) = self.tracks.get_mut(track) else { return };
        let rate = state.clock_rate_hz;
        let (next_dts, is_sync) = (frame.dts, frame.is_sync);
        let Some(before) = state.pending.replace(frame) else { return };
        let step = next_dts.saturating_sub(before.dts);
        let ticks = u32::try_from(step).unwrap_or(u32::MAX).max(1);
        state.last_ticks = ticks;
        if track == self.reference {
            self.take_reference(before, ticks, out);
            self.close_in_front_of(next_dts, is_sync, us(i64::from(ticks), rate), out);
            return;
        }
        self.bytes += before.bytes.len();
        state.frames.push((before, ticks));
        // The reference may have stopped: then nothing closes parts.
        if state.frames.len() > WAITING_MAX || self.bytes > 2 * PART_BYTES_MAX {
            self.bytes -= state.frames.iter().map(|(frame, _)| frame.bytes.len()).sum::<usize>();
            state.frames.clear();
        }
    }

    /// Closes what there is: nothing follows on this line.
    pub(super) fn finish(&mut self, out: &mut Vec<Part>) {
        for place in 0..self.tracks.len() {
            let Some(state) = self.tracks.get_mut(place) else { break };
            let Some(pending) = state.pending.take() else { continue };
            let ticks = pending.ticks.unwrap_or(state.last_ticks);
            if place == self.reference {
                self.take_reference(pending, ticks, out);
            } else {
                state.frames.push((pending, ticks));
            }
        }
        self.close(i64::MAX, true, out);
    }

    /// Puts a frame of the reference into the part under way, or, where that would become too long,
    /// into the next one.
    fn take_reference(&mut self, frame: Timed, ticks: u32, out: &mut Vec<Part>) {
        let Some(rate) = self.tracks.get(self.reference).map(|state| state.clock_rate_hz) else {
            return;
        };
        // The muxer lets none through that is longer.
        let ticks_max = self.frame_us_max() * u64::from(rate) / u64::from(MICROSECONDS);
        let ticks = ticks.min(u32::try_from(ticks_max).unwrap_or(u32::MAX)).max(1);
        let frame_us = us(i64::from(ticks), rate);
        let targets = *self.targets.get_or_insert_with(|| Targets::of(frame_us));
        let is_long = frame_us > targets.part_us;
        let with_it_us = us(self.part_ticks() + i64::from(ticks), rate);
        let is_full = self.segment_us + with_it_us > targets.longest_us();
        let has_begun = self.segment_us + self.part_us() > 0;
        let ends_segment = has_begun && (is_full || (is_long && !self.is_long));
        if ends_segment || with_it_us > targets.part_us {
            self.close(frame.dts, ends_segment, out);
        }
        if ends_segment {
            self.end_segment();
        }
        self.is_long |= is_long;
        self.bytes += frame.bytes.len();
        if let Some(state) = self.tracks.get_mut(self.reference) {
            state.frames.push((frame, ticks));
        }
    }

    /// Closes the part in front of the reference's next frame, where that ends it. `frame_us`: the
    /// length of the frame before, which the next one is likely to have.
    fn close_in_front_of(&mut self, dts: i64, is_sync: bool, frame_us: u64, out: &mut Vec<Part>) {
        let Some(targets) = self.targets else { return };
        let part_us = self.part_us();
        let whole_us = self.segment_us + part_us;
        let ends_segment = (is_sync && whole_us >= SEGMENT_MIN_US)
            || whole_us + frame_us > targets.longest_us()
            || self.segment_bytes + self.bytes > self.segment_bytes_max;
        // The next frame may be a little longer than this one.
        let with_next_us = part_us + frame_us + frame_us / 8;
        if ends_segment || with_next_us > targets.part_us || self.bytes > PART_BYTES_MAX {
            self.close(dts, ends_segment, out);
        }
    }

    fn end_segment(&mut self) {
        (self.segment_us, self.segment_bytes) = (0, 0);
        (self.begins_segment, self.is_long) = (true, false);
    }

    /// Ticks of the reference's frames in the part under way.
    fn part_ticks(&self) -> i64 {
        let Some(state) = self.tracks.get(self.reference) else { return 0 };
        state.frames.iter().map(|(_, ticks)| i64::from(*ticks)).sum()
    }

    fn part_us(&self) -> u64 {
        let rate = self.tracks.get(self.reference).map_or(1, |state| state.clock_rate_hz);
        us(self.part_ticks(), rate)
    }

    /// Closes the part in front of the reference's time `end`.
    fn close(&mut self, end: i64, ends_segment: bool, out: &mut Vec<Part>) {
        let Some(reference) = self.tracks.get(self.reference) else { return };
        let rate = reference.clock_rate_hz;
        let Some((first, _)) = reference.frames.first() else { return };
        let (is_independent, begin_us) = (first.is_sync, rescale(first.dts, rate, MICROSECONDS));
        let shown_us = rescale(first.pts, rate, MICROSECONDS);
        let duration_us = self.part_us();
        let mut taken: Vec<Taken> = Vec::new();
        for (place, state) in self.tracks.iter_mut().enumerate() {
            let count = if place == self.reference {
                state.frames.len()
            } else {
                state.frames.partition_point(|(frame, _)| {
                    let (a, b) = (i128::from(frame.dts), i128::from(end));
                    a * i128::from(rate) < b * i128::from(state.clock_rate_hz)
                })
            };
            let begin = rescale(begin_us, MICROSECONDS, state.clock_rate_hz);
            taken.push((begin, state.frames.drain(..count).collect()));
        }
        self.sequence = self.sequence.wrapping_add(1);
        let left = self.tracks.iter().flat_map(|state| &state.frames);
        self.bytes = left.map(|(frame, _)| frame.bytes.len()).sum();
        let sequence = self.sequence;
        let fragments = match self.renditions {
            1 => fragment(sequence, &taken).into_iter().collect(),
            // A source may have fewer tracks than the one before it.
            count => {
                let nothing = (begin_us, Vec::new());
                let tracks = taken.iter().chain(std::iter::repeat(&nothing)).take(count);
                let made = tracks.map(|track| fragment(sequence, std::slice::from_ref(track)));
                made.collect::<Option<Vec<_>>>().unwrap_or_default()
            }
        };
        if fragments.is_empty() {
            return;
        }
        self.segment_us += duration_us;
        self.segment_bytes += fragments.iter().map(|of| of.bytes.len()).sum::<usize>();
        let begins_segment = std::mem::take(&mut self.begins_segment);
        if ends_segment {
            self.end_segment();
        }
        out.push(Part {
            fragments,
            duration_us,
            is_independent,
            begin_us,
            shown_us,
            begins_segment,
            ends_segment,
        });
    }
}

/// When a part begins, in ticks of a track, and the track's frames with their lengths.
type Taken = (i64, Vec<(Timed, u32)>);

/// Of all these tracks. `None`: there are more bytes than a fragment can state.
fn fragment(sequence: u32, tracks: &[Taken]) -> Option<Fragment> {
    let run = |(id, (begin, frames)): (u32, &Taken)| {
        let decode_time = frames.first().map_or(*begin, |(frame, _)| frame.dts);
        let decode_time = u64::try_from(decode_time).unwrap_or(0);
        TrackRun { id, decode_time, samples: frames.iter().map(sample).collect() }
    };
    let runs: Vec<TrackRun> = (1..).zip(tracks).map(run).collect();
    let mut bytes = fragment_head(sequence, &runs).ok()?;
    for (frame, _) in tracks.iter().flat_map(|(_, frames)| frames) {
        bytes.extend_from_slice(&frame.bytes);
    }
    Some(Fragment { bytes, is_empty: runs.iter().all(|run| run.samples.is_empty()) })
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

fn us(ticks: i64, rate: u32) -> u64 {
    u64::try_from(rescale(ticks, rate, MICROSECONDS)).unwrap_or(0)
}

/// Microseconds that are rounded to so many seconds.
fn longest_us(seconds: u32) -> u64 {
    u64::from(seconds) * u64::from(MICROSECONDS) + HALF_SECOND_US - 1
}

const MICROSECONDS: u32 = 1_000_000;
const HALF_SECOND_US: u64 = 500_000;
/// Seconds of a segment at most, where pictures come more often.
pub(super) const TARGET_S: u32 = 4;
/// And where they do not: a camera that takes one picture in twenty seconds is still shown whole.
const TARGET_S_MAX: u32 = 30;
/// The longest frame that parts are made for: behind it a viewer would be seconds late when
/// pictures come more often later.
const FRAME_US_MAX: u64 = 1_000_000;
/// For the length of a frame that none has followed.
const USUAL_FRAMES_A_SECOND: u32 = 30;
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
        let mut segmenter = Segmenter::new(&[90_000, 48_000], (0, 1), None, 1 << 20);
        let mut parts = Vec::new();
        for n in 0..pictures {
            let dts = n * 3_600 + jitter(n);
            segmenter.push(0, frame(dts, n % group == 0, None), &mut parts);
            for half in 0..2 {
                let at = n * 1_920 + half * 960;
                segmenter.push(1, frame(at, true, Some(960)), &mut parts);
            }
        }
        segmenter.finish(&mut parts);
        (segmenter, parts)
    }

    /// Lengths of segments; each begins where a part says so.
    fn segments(parts: &[Part]) -> Vec<Vec<u64>> {
        let mut segments: Vec<Vec<u64>> = Vec::new();
        let mut is_over = false;
        for part in parts {
            if part.begins_segment {
                segments.push(Vec::new());
            } else {
                assert!(!is_over, "a segment that has ended goes on");
            }
            segments.last_mut().unwrap().push(part.duration_us);
            is_over = part.ends_segment;
        }
        segments
    }

    #[test]
    fn parts_are_as_long_as_the_target_lets_them_be_and_segments_end_at_key_frames() {
        let (segmenter, parts) = parts(200, 50, |_| 0);
        let target = segmenter.targets().unwrap().part_us;
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

    /// Lengths of pictures in milliseconds, with key frames where a number is negative.
    fn of_lengths(lengths_ms: &[i64]) -> (Targets, Vec<Part>) {
        let mut segmenter = Segmenter::new(&[1_000], (0, 1), None, 1 << 20);
        let (mut parts, mut at) = (Vec::new(), 0);
        for length in lengths_ms {
            segmenter.push(0, frame(at, *length < 0, None), &mut parts);
            at += length.abs();
        }
        segmenter.finish(&mut parts);
        (segmenter.targets().unwrap(), parts)
    }

    #[test]
    fn picture_that_is_longer_than_a_part_begins_a_segment_of_its_own() {
        // 25 pictures a second, then one a second: a camera at night.
        let lengths = [&[-40; 1][..], &[40; 12], &[1_000; 8]].concat();
        let (targets, parts) = of_lengths(&lengths);
        assert_eq!(targets, Targets { part_us: 528_000, segment_s: 4 });
        let segments = segments(&parts);
        assert_eq!(segments[0], [520_000], "it ends in front of the first long picture");
        assert_eq!(segments[1], [1_000_000; 4]);
    }

    #[test]
    fn targets_follow_the_first_frame_within_limits() {
        let of = |us| {
            let Targets { part_us, segment_s } = Targets::of(us);
            (part_us, segment_s)
        };
        assert_eq!(of(40_000), (528_000, 4));
        assert_eq!(of(0), (550_000, 4));
        assert_eq!(of(1_000_000), (1_100_000, 4));
        assert_eq!(of(10_000_000), (1_100_000, 13), "a picture in ten seconds");
        assert_eq!(of(u64::MAX), (1_100_000, 30));
    }

    #[test]
    fn line_of_one_frame_is_a_part_of_its_own() {
        let (_, parts) = of_lengths(&[-40]);
        assert_eq!(segments(&parts), [[33_000]]);
        assert!(parts[0].ends_segment);
    }

    #[test]
    fn segment_ends_before_it_has_more_bytes_than_it_may() {
        let mut segmenter = Segmenter::new(&[90_000], (0, 1), None, 4_096);
        let mut parts = Vec::new();
        for n in 0..100 {
            let picture = Timed { bytes: vec![7; 400], ..frame(n * 3_600, n == 0, None) };
            segmenter.push(0, picture, &mut parts);
        }
        let mut bytes = 0;
        for part in &parts {
            bytes = if part.begins_segment { 0 } else { bytes } + part.fragments[0].bytes.len();
            // The picture that fills it is in it.
            assert!(bytes <= 4_096 + 400 + 200, "{bytes}");
        }
        let ends = parts.iter().filter(|part| part.ends_segment).count();
        assert!(ends >= 8, "{ends} segments of 40,000 bytes");
    }

    #[test]
    fn sound_that_waits_for_pictures_that_have_stopped_is_dropped() {
        let mut segmenter = Segmenter::new(&[90_000, 48_000], (0, 1), None, 1 << 20);
        let mut parts = Vec::new();
        segmenter.push(0, frame(0, true, None), &mut parts);
        for n in 0..20_000 {
            segmenter.push(1, frame(n * 960, true, Some(960)), &mut parts);
            let waiting = segmenter.tracks[1].frames.len();
            assert!(waiting <= WAITING_MAX && segmenter.bytes == waiting * 10, "{waiting}");
        }
        assert!(parts.is_empty());
        // A minute of large frames is less than that, and their bytes are bounded too.
        for n in 0..100 {
            let large =
                Timed { bytes: vec![7; 1 << 20], ..frame((30_000 + n) * 960, true, Some(960)) };
            segmenter.push(1, large, &mut parts);
            assert!(segmenter.bytes <= 2 * PART_BYTES_MAX, "{}", segmenter.bytes);
        }
        // When pictures come again, so does sound.
        segmenter.push(0, frame(90_000 * 10, false, None), &mut parts);
        segmenter.finish(&mut parts);
        assert!(!parts.is_empty());
    }

    proptest! {
        #[test]
        fn no_part_and_no_segment_is_longer_than_stated_whatever_lengths_pictures_have(
            lengths in proptest::collection::vec(
                prop_oneof![6 => 1_i64..100, 2 => 100_i64..5_000, 1 => 5_000_i64..400_000],
                1..120,
            ),
            group in 1_usize..60,
        ) {
            let signs = lengths.iter().enumerate();
            let lengths: Vec<i64> =
                signs.map(|(n, ms)| if n % group == 0 { -ms } else { *ms }).collect();
            let (targets, parts) = of_lengths(&lengths);
            for segment in segments(&parts) {
                let whole: u64 = segment.iter().sum();
                prop_assert!(whole <= targets.longest_us(), "{whole} of {targets:?}");
                let is_listed_in_parts = segment[0] <= targets.part_us;
                let is_within = segment.iter().all(|us| *us <= targets.part_us);
                prop_assert!(!is_listed_in_parts || is_within, "{segment:?} of {targets:?}");
            }
        }

        #[test]
        fn parts_keep_within_their_limits_whatever_the_jitter(
            group in 1_i64..80, seed in 0_i64..1_000,
        ) {
            let (segmenter, parts) = parts(300, group, |n| (n * 7 + seed) % 11 * 20);
            let target = segmenter.targets().unwrap().part_us;
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
