//! Changes of rate, pauses and late players: RTP time and sequence numbers continue.
//!
//! A player over TCP that was seconds behind and changed its Scale once got an epoch that began at
//! the clock, while its next frame lay before that: RTP time went back by minutes.

use std::time::Duration;

use proptest::prelude::*;

use crate::base::ids::SessionId;
use crate::library::testing;
use crate::rtsp::range::{NptStart, Range, parse_range};
use crate::vod::tests::{Bench, Sent, rtp_info, status};

/// A change, and the time until the next one.
#[derive(Debug, Clone)]
struct Change {
    /// Index into `RATES`.
    rate: usize,
    is_paused_first: bool,
    /// Time for which the player reads.
    plays_ms: u64,
    /// Time after that for which the player reads nothing.
    stalls_ms: u64,
}

const RATES: [(&str, &str); 9] = [
    ("1", "1"),
    ("0.5", "1"),
    ("2", "1"),
    ("0.0625", "1"),
    ("1.5", "2"),
    ("1", "0.5"),
    ("4", "1"),
    ("16", "1"),
    ("-2", "1"),
];

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (0..RATES.len(), any::<bool>(), 0..2_500_u64, prop_oneof![Just(0), 0..90_000_u64])
        .prop_map(|(rate, is_paused_first, plays_ms, stalls_ms)| Change {
            rate,
            is_paused_first,
            plays_ms,
            stalls_ms,
        });
    proptest::collection::vec(change, 1..7)
}

/// Ticks from `from` to `to`; negative if `to` is earlier.
fn ticks(from: u32, to: u32) -> i64 {
    i64::from(to.wrapping_sub(from).cast_signed())
}

/// The answer to PLAY must agree with the first packets that follow.
fn check_answer(
    bench: &Bench,
    before: usize,
    id: SessionId,
    answer: &crate::rtsp::response::Response,
) {
    let Some(epoch) = bench.session(id).epoch else { panic!("playing") };
    let range = parse_range(answer.header_value("Range").unwrap()).unwrap().range;
    let Range::Npt { start: Some(NptStart::At(start)), .. } = range else { panic!("{range:?}") };
    assert!((start.0 - epoch.npt.0).abs() <= 500_000, "{start:?} for {:?}", epoch.npt);
    let infos = rtp_info(answer);
    let named = answer.header_value("RTP-Info").unwrap().split(',').collect::<Vec<_>>();
    for stream in &bench.session(id).streams {
        let track = stream.track_index;
        let Some(first) = bench.sent[before..].iter().find(|sent| sent.track == track) else {
            // Muted by the scale, played out, or not due yet.
            continue;
        };
        let place = named.iter().position(|entry| entry.contains(&format!("trackID={track};")));
        let Some(place) = place else { panic!("{named:?} lacks track {track}") };
        let (seq, rtptime) = infos[place];
        assert_eq!(first.first_seq, seq, "track {track}");
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "ticks")]
        let expected = ((first.frame.npt.0 - epoch.npt.0) as f64 / epoch.scale / 1e9
            * f64::from(stream.outgoing.clock_rate_hz)) as i64;
        let told = ticks(rtptime, first.ts);
        // The start of the range is a whole tick, which a slow scale stretches.
        assert!((told - expected).abs() <= 10, "track {track}: {told} ticks, not {expected}");
    }
}

/// Per track: numbers without a gap, and RTP time in order of presentation.
fn check_sent(sent: &[Sent]) {
    let mut newest: Option<Sent> = None;
    for pair in sent.windows(2) {
        let next = pair[0].first_seq.wrapping_add(pair[0].packets);
        assert_eq!(pair[1].first_seq, next, "a gap: {pair:?}");
    }
    for sent in sent {
        let Some(last) = newest else {
            newest = Some(*sent);
            continue;
        };
        let ahead = ticks(last.ts, sent.ts);
        // Pictures are sent up to three frames before those that they are shown behind.
        let is_reordered = sent.frame.npt < last.frame.npt && sent.frame.due > last.frame.due;
        assert!(ahead > 0 || is_reordered, "{ahead} ticks: {last:?} {sent:?}");
        if ahead > 0 {
            newest = Some(*sent);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn rtp_time_goes_on_over_any_change_of_rate_at_any_lag(
        changes in changes(), is_tcp in any::<bool>(),
    ) {
        let mut bench = Bench::with(testing::title(120));
        let id = if is_tcp {
            let id = crate::vod::tests::session_id(&bench.setup_tcp(0, None));
            bench.setup_tcp(1, Some(id));
            id
        } else {
            bench.opened()
        };
        bench.play(id, &[("Range", "npt=60-")]).unwrap();
        bench.run_for(Duration::from_millis(700));
        for change in &changes {
            if change.is_paused_first {
                let paused = bench.pause(id);
                prop_assert_eq!(status(&paused), 200);
                bench.run_for(Duration::from_millis(300));
            }
            let before = bench.sent.len();
            let (scale, speed) = RATES[change.rate];
            let answer = bench.play(id, &[("Scale", scale), ("Speed", speed)]);
            let Some(answer) = answer else { break };
            if status(&answer) != 200 {
                // Played to the end in this direction.
                break;
            }
            bench.run_for(Duration::from_millis(change.plays_ms));
            check_answer(&bench, before, id, &answer);
            // Nothing is asked of the streams: the connection takes nothing.
            bench.sessions.cx.now = bench.sessions.cx.now + Duration::from_millis(change.stalls_ms);
        }
        for track in [0, 1] {
            check_sent(&bench.sent_of(track));
        }
    }
}
