//! Seams between titles of any lengths, clocks and frames: order, gaps, sound and picture.

use proptest::prelude::*;

use super::*;

/// Frames of a track with one duration, decoded `reorder` frames before they are shown.
#[derive(Debug, Clone)]
struct Track {
    end: TrackEnd,
    frames: Vec<Frame>,
}

fn frame(rtp_ticks: i64, decoded: i64, hz: u32, is_disposable: bool) -> Frame {
    Frame {
        due: Npt::from_ticks(decoded, hz),
        npt: Npt::from_ticks(rtp_ticks, hz),
        rtp_ticks,
        sample_index: 0,
        packet_index: 0,
        packet_count: 1,
        is_sync: false,
        is_disposable,
    }
}

/// Sound of `count` frames, the first of which lies `priming` ticks before the start.
fn sound(track: u8, hz: u32, duration: i64, count: i64, priming: i64) -> Track {
    let frames = (0..count).map(|n| n * duration - priming);
    let frames: Vec<Frame> = frames.map(|ticks| frame(ticks, ticks, hz, false)).collect();
    let ticks = count * duration - priming;
    let end = TrackEnd { track, kind: MediaKind::Audio, clock_rate_hz: hz, ticks };
    Track { end, frames }
}

/// Pictures, every second one a B-picture if they are reordered.
fn pictures(track: u8, duration: i64, count: i64, is_reordered: bool) -> Track {
    let hz = 90_000;
    let shown = |n: i64| match (is_reordered, n) {
        (false, n) | (true, n @ 0) => n,
        (true, n) if n % 2 == 1 => (n + 1).min(count - 1).max(n),
        (true, n) => n - 1,
    };
    let delay = if is_reordered { duration } else { 0 };
    let frames = (0..count).map(|n| {
        let is_disposable = is_reordered && n > 0 && n % 2 == 0;
        frame(shown(n) * duration, n * duration - delay, hz, is_disposable)
    });
    let end =
        TrackEnd { track, kind: MediaKind::Video, clock_rate_hz: hz, ticks: count * duration };
    Track { end, frames: frames.collect() }
}

/// What is sent of items: by track (item, ticks, frame) and each item's zero.
#[derive(Debug, Default)]
struct Sent {
    frames: Vec<Vec<(usize, i64, Frame)>>,
    zeros: Vec<Npt>,
}

/// Plays items one behind the other; `cut` ends the first one early.
fn play(items: &[Vec<Track>], cut: Option<Seam>) -> Sent {
    let mut lines: Vec<Line> =
        items[0].iter().map(|t| Line::new(t.end.kind, t.end.clock_rate_hz)).collect();
    let mut sent = Sent { frames: vec![Vec::new(); lines.len()], zeros: Vec::new() };
    let mut seam: Option<Seam> = None;
    for (number, tracks) in items.iter().enumerate() {
        let ends: Vec<TrackEnd> = tracks.iter().map(|track| track.end).collect();
        let end = cut.filter(|_| number == 0).unwrap_or_else(|| Seam::natural(&ends));
        let firsts = tracks.iter().map(|track| {
            let is_later = seam.is_some() && track.end.kind == MediaKind::Audio;
            let first =
                first_sound(&track.frames[..track.frames.len().min(50)], track.end.clock_rate_hz);
            first.filter(|_| is_later)
        });
        let firsts: Vec<Option<i64>> = firsts.collect();
        let zero = seam.map_or(Npt::ZERO, |seam| {
            let of = seam.sound.map(|mark| usize::from(mark.track));
            seam.next_zero(of.and_then(|track| firsts[track]))
        });
        for (place, track) in tracks.iter().enumerate() {
            let part = Part { track: track.end.track, kind: track.end.kind, from: firsts[place] };
            lines[place].begin_item();
            for frame in &track.frames {
                match part.judge(frame, end) {
                    Verdict::Send => {
                        if let Some(ticks) = lines[place].place(zero, frame.rtp_ticks) {
                            sent.frames[place].push((number, ticks, *frame));
                        }
                    }
                    Verdict::Skip => {}
                    Verdict::Over => break,
                }
            }
        }
        sent.zeros.push(zero);
        seam = Some(end.moved(zero));
    }
    sent
}

impl Sent {
    /// Largest and smallest step of sound beyond one frame's duration, over all seams.
    fn sound_steps(&self, track: usize) -> Vec<i64> {
        self.frames[track].windows(2).map(|pair| pair[1].1 - pair[0].1).collect()
    }

    fn check_order(&self) {
        for frames in &self.frames {
            let mut before = i64::MIN;
            let items = frames.last().map_or(0, |(item, _, _)| *item);
            for item in 0..=items {
                let of_item = || frames.iter().filter(|(of, _, _)| *of == item);
                let first = of_item().map(|(_, ticks, _)| *ticks).min();
                assert!(first.is_none_or(|first| first > before), "item {item}");
                before = of_item().map(|(_, ticks, _)| *ticks).max().unwrap_or(before).max(before);
            }
        }
    }

    /// Each frame lies where its item's zero says, within a tick.
    fn check_sync(&self, items: &[Vec<Track>]) {
        for (place, frames) in self.frames.iter().enumerate() {
            let hz = items[0][place].end.clock_rate_hz;
            for (item, ticks, frame) in frames {
                let at = Npt::from_ticks(*ticks, hz) - self.zeros[*item];
                let tick_ns = i64::from(1_000_000_000 / hz) + 1;
                assert!((at - frame.npt.0).abs() <= tick_ns, "{item} {frame:?}");
            }
        }
    }
}

#[test]
fn sound_goes_on_to_the_tick_and_the_picture_moves_with_it() {
    // 10 s of pictures; the sound is a frame longer, and has two frames of priming.
    let item = || vec![pictures(0, 3_600, 250, true), sound(1, 48_000, 1_024, 471, 2_048)];
    let items = vec![item(), item(), item()];
    let sent = play(&items, None);
    assert!(sent.sound_steps(1).iter().all(|step| *step == 1_024));
    sent.check_order();
    sent.check_sync(&items);
    let first = sent.frames[1].iter().find(|(item, _, _)| *item == 1).unwrap();
    assert_eq!(first.2.rtp_ticks, 0, "priming is sent once");
    assert_eq!(sent.frames[0].len(), 750, "no picture is lost");
    assert_eq!(sent.zeros[1], Npt::from_ticks(471 * 1_024 - 2_048, 48_000));
}

#[test]
fn priming_that_is_no_whole_frame_moves_the_next_item_by_less_than_a_frame() {
    let item = || vec![pictures(0, 3_600, 250, false), sound(1, 44_100, 1_024, 433, 1_600)];
    let items = vec![item(), item()];
    let sent = play(&items, None);
    assert!(sent.sound_steps(1).iter().all(|step| *step == 1_024));
    sent.check_sync(&items);
    let end = Npt::from_ticks(433 * 1_024 - 1_600, 44_100);
    assert!((0..24_000_000).contains(&(sent.zeros[1] - end)));
}

#[test]
fn picture_that_outlasts_its_sound_by_far_is_shown_to_its_end() {
    let items = |count| {
        let item = || vec![pictures(0, 3_600, 250, false), sound(1, 48_000, 960, count, 0)];
        vec![item(), item()]
    };
    assert_eq!(play(&items(100), None).zeros[1], Npt(10_000_000_000));
    assert_eq!(play(&items(480), None).zeros[1], Npt(9_600_000_000), "a little is dropped");
    let silent = |_| vec![vec![pictures(0, 3_600, 250, true)], vec![pictures(0, 3_600, 5, true)]];
    assert_eq!(play(&silent(0), None).zeros[1], Npt(10_000_000_000));
}

#[test]
fn pictures_that_need_a_dropped_one_are_dropped_with_it() {
    let end = Seam { at: Npt(39_000_000), sound: None };
    let part = Part { track: 0, kind: MediaKind::Video, from: None };
    let of =
        |rtp_ticks, is_disposable| part.judge(&frame(rtp_ticks, 0, 90_000, is_disposable), end);
    assert_eq!(of(3_500, false), Verdict::Send);
    assert_eq!(of(3_600, true), Verdict::Skip);
    assert_eq!(of(3_600, false), Verdict::Over);
}

#[test]
fn pictures_from_before_the_start_come_behind_those_of_the_item_before() {
    let mut line = Line::new(MediaKind::Video, 90_000);
    for n in 0..10 {
        assert_eq!(line.place(Npt::ZERO, n * 3_600), Some(n * 3_600));
    }
    line.begin_item();
    let zero = Npt(400_000_000);
    assert_eq!(line.place(zero, -7_200), Some(32_401));
    assert_eq!(line.place(zero, -10_800), Some(32_402));
    assert_eq!(line.place(zero, 0), Some(36_000));
    let mut line = Line::new(MediaKind::Audio, 48_000);
    assert_eq!(line.place(Npt::ZERO, 960), Some(960));
    line.begin_item();
    assert_eq!(line.place(Npt(40_000_000), -960), None, "it was sent");
    assert_eq!(line.place(Npt(40_000_000), 0), Some(1_920));
}

#[test]
fn time_of_the_wall_is_that_of_the_timeline() {
    let origin = Origin(Mono(5_000));
    assert_eq!((origin.wall_of(Npt(-4_000)), origin.wall_of(Npt(10))), (Mono(1_000), Mono(5_010)));
    assert_eq!((origin.at(Mono(1_000)), origin.at(Mono(u64::MAX))), (Npt(-4_000), Npt(i64::MAX)));
}

fn any_item(hz: u32, duration: i64) -> impl Strategy<Value = Vec<Track>> {
    let pictures = (1_500_i64..9_000, 5_i64..80, any::<bool>());
    let sound = (10_i64..150, 0_i64..3_000);
    (pictures, sound).prop_map(move |((ticks, count, is_reordered), (frames, priming))| {
        let priming = priming.min(frames * duration / 2);
        vec![pictures_of(ticks, count, is_reordered), self::sound(1, hz, duration, frames, priming)]
    })
}

fn pictures_of(ticks: i64, count: i64, is_reordered: bool) -> Track {
    pictures(0, ticks, count, is_reordered)
}

fn any_items() -> impl Strategy<Value = (i64, Vec<Vec<Track>>)> {
    let clocks = prop::sample::select(vec![
        (48_000_u32, 1_024_i64),
        (44_100, 1_024),
        (48_000, 960),
        (8_000, 160),
        (90_000, 2_351),
        (22_050, 2_048),
    ]);
    clocks.prop_flat_map(|(hz, duration)| {
        (Just(duration), prop::collection::vec(any_item(hz, duration), 2..6))
    })
}

proptest! {
    #[test]
    fn any_titles_follow_each_other_in_order_and_in_step((duration, items) in any_items()) {
        let sent = play(&items, None);
        sent.check_order();
        sent.check_sync(&items);
        let pairs = sent.frames[1].windows(2);
        for (pair, step) in pairs.zip(sent.sound_steps(1)) {
            let [(before, ..), (after, ..)] = pair else { unreachable!() };
            prop_assert!(step > 0);
            let ends = items[*before].iter().map(|track| track.end.npt()).collect::<Vec<_>>();
            let is_silent = before != after && ends[0] - ends[1] > SILENT_NS_MAX;
            prop_assert!(is_silent || (step - duration).abs() <= 1, "{} {}", step, duration);
        }
    }

    #[test]
    fn any_cut_leaves_order_and_step((_, items) in any_items(), at in 0_i64..3_000) {
        let end = Seam::natural(&items[0].iter().map(|track| track.end).collect::<Vec<_>>());
        let at = Npt(at * 1_000_000);
        if at < end.at {
            let track = &items[0][1];
            let mut behind = track.frames.iter().map(|f| f.rtp_ticks);
            let hz = track.end.clock_rate_hz;
            let mark = behind.find(|ticks| Npt::from_ticks(*ticks, hz) >= at);
            let cut = mark.map_or(Seam { at, sound: None }, |ticks| {
                Seam::of_sound(SoundMark { track: 1, clock_rate_hz: hz, ticks })
            });
            let sent = play(&items, Some(cut));
            sent.check_order();
            sent.check_sync(&items);
        }
    }
}
