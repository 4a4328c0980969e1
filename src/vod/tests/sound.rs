//! Sound alone, and sound that begins before the video of a seek.

use std::time::Duration;

use proptest::prelude::*;

use crate::base::time::Npt;
use crate::library::testing::{VideoClock, title_of_clock};
use crate::rtsp::range::{NptStart, Range, parse_range};
use crate::vod::tests::{Bench, rtp_info, session_id};

const CLOCK: VideoClock =
    VideoClock { timescale: 90_000, frame_ticks: 3_003, group: 50, count: 300 };

fn start(range: &str) -> Npt {
    match parse_range(range).unwrap().range {
        Range::Npt { start: Some(NptStart::At(npt)), .. } => npt,
        range => panic!("{range:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sound_alone_begins_at_once_with_the_packet_that_its_range_names(
        ms in 100_i64..9_000, scale in prop::sample::select(vec!["1", "2", "0.5", "0.0625"]),
    ) {
        let mut bench = Bench::with(title_of_clock(CLOCK));
        let id = session_id(&bench.setup_udp(1, None, 5_000));
        let mut range = format!("npt={}.{:03}-", ms / 1_000, ms % 1_000);
        let mut firsts = Vec::new();
        for _ in 0..2 {
            let (asked, before) = (bench.sessions.cx.now, bench.sent.len());
            let answer = bench.play(id, &[("Range", &range), ("Scale", scale)]).unwrap();
            bench.run_for(Duration::from_millis(400));
            let first = bench.sent[before];
            prop_assert!(first.at.since(asked) < Duration::from_millis(5), "{first:?}");
            prop_assert_eq!(vec![(first.first_seq, first.ts)], rtp_info(&answer));
            range = answer.header_value("Range").unwrap().to_owned();
            prop_assert_eq!(start(&range), first.frame.npt);
            let before_ns = ms * 1_000_000 - first.frame.npt.0;
            prop_assert!((0..24_000_000).contains(&before_ns), "{first:?}");
            firsts.push(first.frame.sample_index);
        }
        prop_assert_eq!(firsts[0], firsts[1]);
    }

    #[test]
    fn rtp_time_of_sound_steps_over_what_begins_before_a_seek(
        seeks in prop::collection::vec((0_i64..9_000, 1_u64..200), 2..8),
        scale in prop::sample::select(vec!["1", "0.5", "0.0625"]),
    ) {
        let mut bench = Bench::with(title_of_clock(CLOCK));
        let id = bench.opened();
        for (ms, run_ms) in seeks {
            let range = format!("npt={}.{:03}-", ms / 1_000, ms % 1_000);
            bench.play(id, &[("Range", &range), ("Scale", scale)]).unwrap();
            bench.run_for(Duration::from_millis(run_ms));
        }
        for pair in bench.sent_of(1).windows(2) {
            let ahead = pair[1].ts.wrapping_sub(pair[0].ts).cast_signed();
            prop_assert!(ahead > 0, "{ahead} ticks: {pair:?}");
        }
    }
}
