//! Seeks in titles of every clock: the answer, the first sample and the first packet agree.
//!
//! A seek once began one group of pictures late: the time of the sync sample lost a tick on its way
//! through nanoseconds, and the sample before was found instead.

use std::time::Duration;

use proptest::prelude::*;

use crate::base::ids::SessionId;
use crate::library::testing::{self, VideoClock};
use crate::rtsp::response::Response;
use crate::vod::tests::{Bench, rtp_info, status};

const SECOND: Duration = Duration::from_secs(1);
const NS_PER_S: i64 = 1_000_000_000;

/// A seek starts its streams within this time: sessions that start together get different slots.
const AT_ONCE: Duration = Duration::from_millis(50);

fn clocks() -> impl Strategy<Value = VideoClock> {
    let times = prop_oneof![
        (Just(90_000), prop_oneof![Just(3_003), Just(3_600), Just(1_501), 1_400_u32..9_000]),
        (Just(30_000), prop_oneof![Just(1_001), Just(1_000), 400_u32..3_000]),
        (Just(24_000), prop_oneof![Just(1_001), Just(1_000), 400_u32..3_000]),
        (Just(44_100), prop_oneof![Just(1_024), Just(1_470), 700_u32..5_000]),
        (Just(600), prop_oneof![Just(20), Just(25), 7_u32..60]),
        (Just(1), Just(1)),
    ];
    let counts = (1_u32..30, 30_u32..200);
    (times, counts).prop_map(|((timescale, frame_ticks), (group, count))| VideoClock {
        timescale,
        frame_ticks,
        group,
        count,
    })
}

/// The range in one of the units; all of them name a time to the millisecond or better.
fn range_in(unit: usize, at_ns: i64, utc_ns: i64) -> String {
    match unit {
        0 => format!("npt={}.{:03}-", at_ns / NS_PER_S, at_ns % NS_PER_S / 1_000_000),
        1 => format!("npt={}.{:09}-", at_ns / NS_PER_S, at_ns % NS_PER_S),
        2 => {
            let seconds = at_ns / NS_PER_S;
            let hundredths = at_ns % NS_PER_S / 400_000;
            let (minutes, seconds) = (seconds / 60, seconds % 60);
            let (frames, subframes) = (hundredths / 100, hundredths % 100);
            format!("smpte-25=00:{minutes:02}:{seconds:02}:{frames:02}.{subframes:02}-")
        }
        _ => {
            let at = utc_ns + at_ns;
            let range = crate::rtsp::range::Range::Clock { start_utc_ns: at, end_utc_ns: None };
            range.to_string()
        }
    }
}

/// Result of a seek: the answer, and the first frame of the video.
struct Seek {
    range: String,
    sample_index: u32,
}

fn seek(bench: &mut Bench, id: SessionId, headers: &[(&str, &str)], group: u32) -> Seek {
    let before = bench.sent.len();
    let asked = bench.sessions.cx.now;
    let answer = bench.play(id, headers).unwrap();
    assert_eq!(status(&answer), 200, "{headers:?}");
    bench.run_for(SECOND * 2);
    let video = bench.sent[before..].iter().find(|sent| sent.track == 0).unwrap();
    let text = |name| Response::header_value(&answer, name).unwrap().to_owned();
    let (range, sample_index) = (text("Range"), video.frame.sample_index);
    assert!(sample_index.is_multiple_of(group), "{headers:?}: {range} begins at {sample_index}");
    let (seq, rtptime) = rtp_info(&answer)[0];
    assert_eq!((video.first_seq, video.ts), (seq, rtptime), "{headers:?}: {range}");
    let first = bench.sent[before..].iter().map(|sent| sent.at).min().unwrap();
    assert!(first.since(asked) <= AT_ONCE, "{headers:?}: {range}, first packet late");
    Seek { range, sample_index }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn seek_begins_at_the_sync_sample_that_its_range_names(
        clock in clocks(), place in 0.0_f64..0.98, unit in 0_usize..4, scale in 0_usize..4,
    ) {
        let title = testing::title_of_clock(clock);
        let (utc_ns, duration) = (title.recorded_utc_ns(), title.asset.duration);
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a place")]
        let wanted_ns = (duration.0 as f64 * place) as i64;
        let mut bench = Bench::with(title);
        let id = bench.opened();
        let range = range_in(unit, wanted_ns, utc_ns);
        let scale = ["1", "0.5", "2", "4"][scale];
        let headers = [("Range", range.as_str()), ("Scale", scale)];
        let first = seek(&mut bench, id, &headers, clock.group);

        // The last sync sample at or before, give or take what the unit rounds away.
        let group_ticks = i64::from(clock.group * clock.frame_ticks);
        let time_of = |number: i64| number * group_ticks * NS_PER_S / i64::from(clock.timescale);
        let last = i64::from((clock.count - 1) / clock.group);
        let number = i64::from(first.sample_index / clock.group);
        prop_assert!(time_of(number) <= wanted_ns + 1_000_000, "{range} -> {}", first.range);
        prop_assert!(
            number == last || time_of(number + 1) >= wanted_ns - 1_000_000,
            "{range} -> {}: a later sync sample fits", first.range
        );
        // What the answer says is understood as it was meant.
        let headers = [("Range", first.range.as_str()), ("Scale", scale)];
        let again = seek(&mut bench, id, &headers, clock.group);
        prop_assert_eq!(again.range, first.range);
        prop_assert_eq!(again.sample_index, first.sample_index);
    }
}
