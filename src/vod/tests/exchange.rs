//! Another title under a playing client: numbers, RTP time, the first packet, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::SessionId;
use crate::base::time::Npt;
use crate::library::testing::{self, VideoClock};
use crate::library::title::Title;
use crate::rtsp::request::Method;
use crate::vod::exchange::{FeedError, NextFeed};
use crate::vod::pump::Refused;
use crate::vod::stream::Phase;
use crate::vod::tests::{BASE, Bench, Sent, session_id, status};

const SECOND: Duration = Duration::from_secs(1);

/// A feed of `title`, with its windows as far as it wants them.
fn feed_of(bench: &Bench, id: SessionId, title: &Arc<Title>, npt: Npt) -> NextFeed {
    let mut next = NextFeed::new(bench.session(id), title, npt).unwrap();
    // Bounded: each stream wants two.
    for _ in 0..4 {
        for key in next.wanted().collect::<Vec<_>>() {
            let window = testing::window(title, key);
            window.mark_pages_seen(bench.sessions.cx.now);
            next.handle_window(key, &window);
        }
    }
    next
}

fn exchange(bench: &mut Bench, id: SessionId, next: &mut NextFeed) -> Result<(), FeedError> {
    let key = bench.key(id);
    let exchanged = bench.sessions.vod.exchange_feed(&mut bench.sessions.cx, key, next);
    bench.settle();
    exchanged
}

/// RTP time that sender reports would tell now, for each stream.
fn reported(bench: &Bench, id: SessionId) -> Vec<u32> {
    let session = bench.session(id);
    let (epoch, now) = (session.epoch.unwrap(), bench.sessions.cx.now);
    session.streams.iter().map(|stream| stream.ts_at(&epoch, now).0).collect()
}

/// Ticks from one RTP time to another.
fn ticks(from: u32, to: u32) -> i64 {
    i64::from(to.wrapping_sub(from).cast_signed())
}

/// What is sent of a track has no gap in its numbers.
fn assert_no_gap(sent: &[Sent]) {
    for pair in sent.windows(2) {
        assert_eq!(pair[1].first_seq, pair[0].first_seq.wrapping_add(pair[0].packets), "{pair:?}");
    }
}

/// Exchanges the feed of a client that has played for `played`, and looks at what it gets.
fn check_exchange(bench: &mut Bench, id: SessionId, played: Duration, npt: Npt) {
    bench.run_for(played);
    let other = testing::title(30);
    let ssrcs = |bench: &Bench| {
        bench.session(id).streams.iter().map(|s| s.outgoing.ssrc()).collect::<Vec<_>>()
    };
    let (told, ssrcs_before) = (reported(bench, id), ssrcs(bench));
    let mut next = feed_of(bench, id, &other, npt);
    let before = bench.sent.len();
    exchange(bench, id, &mut next).unwrap();
    assert_eq!(exchange(bench, id, &mut next), Err(FeedError::Changed), "it is used up");
    for (old, new) in told.iter().zip(reported(bench, id)) {
        assert!(ticks(*old, new).abs() <= 1, "sender reports keep their mapping");
    }
    bench.run_for(SECOND * 3);
    assert_eq!(ssrcs(bench), ssrcs_before);
    for (track, clock_rate_hz) in [(0, 90_000), (1, 48_000)] {
        let of_track = |sent: &[Sent]| {
            sent.iter().copied().filter(|sent| sent.track == track).collect::<Vec<_>>()
        };
        assert_no_gap(&of_track(&bench.sent));
        let (old, new) = (of_track(&bench.sent[..before]), of_track(&bench.sent[before..]));
        let first = new[0];
        assert!(first.frame.is_sync, "{first:?}");
        let begins = npt.0 / 1_000_000_000 * 1_000_000_000;
        assert!((begins - 20_000_000..=begins).contains(&first.frame.npt.0), "{first:?}");
        for pair in new.windows(2) {
            assert!(pair[1].frame.sample_index == pair[0].frame.sample_index + 1);
            assert!(track == 0 || ticks(pair[0].ts, pair[1].ts) > 0);
        }
        let Some(last) = old.last() else { continue };
        let latest = old.iter().max_by_key(|sent| ticks(old[0].ts, sent.ts)).unwrap();
        for sent in &new {
            assert!(ticks(latest.ts, sent.ts) > 0, "{latest:?} {sent:?}");
        }
        // By the wall clock, but for what a picture is sent before it is shown.
        let passed = i64::try_from((first.at.since(last.at)).as_millis()).unwrap();
        let stepped = ticks(last.ts, first.ts) * 1_000 / clock_rate_hz;
        assert!((stepped - passed).abs() <= 120, "{stepped} ms of RTP time in {passed} ms");
        assert!(passed <= 200, "{passed} ms without a packet");
    }
}

#[test]
fn next_title_continues_the_numbers_and_rtp_time_of_the_one_before() {
    for moment in 0..24 {
        let played = Duration::from_millis(2_000 + 17 * moment);
        let npt = Npt(i64::try_from(moment % 4).unwrap() * 2_400_000_000);
        let mut bench = Bench::new();
        let id = bench.opened();
        bench.play(id, &[]).unwrap();
        check_exchange(&mut bench, id, played, npt);
        // And once more, in the middle of the next one.
        check_exchange(&mut bench, id, SECOND / 3, Npt(7_000_000_000));
    }
}

#[test]
fn interleaved_client_is_fed_from_another_title_too() {
    let mut bench = Bench::new();
    let id = session_id(&bench.setup_tcp(0, None));
    bench.setup_tcp(1, Some(id));
    bench.play(id, &[]).unwrap();
    check_exchange(&mut bench, id, SECOND * 2, Npt(4_000_000_000));
}

#[test]
fn title_with_another_description_is_refused_and_the_old_title_plays_on() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND);
    let clock = VideoClock { timescale: 90_000, frame_ticks: 3_600, group: 25, count: 250 };
    let refused = |title: &Arc<Title>| {
        NextFeed::new(bench.session(id), title, Npt::ZERO).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&testing::title_without_samples()),
        "stream 1: the title has no audio track left"
    );
    let mut other = Arc::into_inner(testing::title(10)).unwrap();
    let mut payload = other.asset.tracks[1].payload.clone();
    payload.clock_rate_hz = 44_100;
    let told = std::mem::replace(&mut other.asset.tracks[1].payload, payload);
    let mut other = Arc::new(other);
    assert_eq!(refused(&other), "stream 1: clock rate is 44100, and the client was told 48000");
    let mut differs = |change: fn(&mut crate::media::codec::PayloadFormat)| {
        let track = &mut Arc::get_mut(&mut other).unwrap().asset.tracks[1];
        track.payload = told.clone();
        change(&mut track.payload);
        refused(&other)
    };
    let names = [
        differs(|payload| payload.encoding_name = "L16".to_owned()),
        differs(|payload| payload.channels = Some(1)),
    ];
    assert_eq!(
        names,
        [
            "stream 1: payload format is L16, and the client was told opus",
            "stream 1: number of channels is 1, and the client was told 2",
        ]
    );
    // A feed whose windows have not come, and one for another scale.
    let fitting = testing::title_of_clock(clock);
    assert!(NextFeed::new(bench.session(id), &fitting, Npt::ZERO).is_ok());
    let other = testing::title(30);
    let mut next = NextFeed::new(bench.session(id), &other, Npt::ZERO).unwrap();
    assert_eq!(exchange(&mut bench, id, &mut next), Err(FeedError::NotHere { stream: 0 }));
    let mut next = feed_of(&bench, id, &other, Npt::ZERO);
    bench.play(id, &[("Scale", "2")]).unwrap();
    assert_eq!(exchange(&mut bench, id, &mut next), Err(FeedError::Changed));
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND);
    for track in 0..2 {
        let sent = bench.sent_of(track);
        assert_no_gap(&sent);
        for pair in sent.windows(2) {
            assert_eq!(pair[1].frame.sample_index, pair[0].frame.sample_index + 1);
        }
    }
    bench.pause(id);
    let mut next = feed_of(&bench, id, &other, Npt::ZERO);
    assert_eq!(exchange(&mut bench, id, &mut next), Err(FeedError::NotPlaying));
}

#[test]
fn run_of_the_old_feed_that_is_refused_leaves_no_gap() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 2);
    let other = testing::title(30);
    let mut next = feed_of(&bench, id, &other, Npt(3_000_000_000));
    // Handed over, and the socket's answer comes behind the exchange.
    let mut runs = Vec::new();
    while runs.is_empty() {
        let now = bench.sessions.cx.wheel.next_due().unwrap().max(bench.sessions.cx.now);
        bench.sessions.cx.now = now;
        let mut due = Vec::new();
        bench.sessions.cx.wheel.expire(now, &mut due);
        bench.sessions.vod.players.keep_due_streams(&mut due);
        for key in due {
            bench.sessions.vod.pump(&mut bench.sessions.cx, key, &mut bench.room.sink);
        }
        runs = std::mem::take(&mut bench.room.sink.runs);
    }
    exchange(&mut bench, id, &mut next).unwrap();
    for run in runs {
        let cx = &mut bench.sessions.cx;
        bench.sessions.vod.handle_run_refused(cx, &run.mark, Refused::Again);
    }
    bench.run_for(SECOND);
    for track in 0..2 {
        let sent = bench.sent_of(track);
        assert_no_gap(&sent);
        let counted = bench.session(id).streams[usize::from(track)].outgoing.sent().packets;
        assert_eq!(counted, sent.iter().map(|s| u64::from(s.packets)).sum::<u64>());
    }
}

#[test]
fn session_keeps_its_url_and_plays_within_the_title_that_feeds_it() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[("Range", "npt=0-4")]).unwrap();
    bench.run_for(SECOND);
    let mut other = Arc::into_inner(testing::title(30)).unwrap();
    (other.name, other.url_path) = ("other.mp4".to_owned(), "vod/other.mp4".to_owned());
    let mut next = feed_of(&bench, id, &Arc::new(other), Npt(1_000_000_000));
    exchange(&mut bench, id, &mut next).unwrap();
    bench.run_for(SECOND * 6);
    assert_eq!(
        bench.session(id).state.shown().as_str(),
        "playing",
        "the range was the old title's"
    );
    assert_eq!(status(&bench.pause(id)), 200);
    assert_eq!(bench.sessions.infos()[0].path, "vod/film.mp4");
    assert_eq!(status(&bench.play(id, &[("Range", "npt=25-")]).unwrap()), 200);
    bench.run_for(SECOND);
    let last = bench.sent_of(0).last().unwrap().frame.npt;
    assert!((25_500_000_000..26_200_000_000).contains(&last.0), "{last:?}");
    let torn = bench.request(1, Method::Teardown, BASE, Some(id), &[]).unwrap();
    assert_eq!(status(&torn), 200);
}

#[test]
fn exchange_is_refused_once_a_stream_has_said_bye_and_changes_nothing() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[("Range", "npt=2-4")]).unwrap();
    // The picture ends a few milliseconds before the sound does.
    while bench.bye_ports().is_empty() {
        bench.run_for(Duration::from_millis(1));
    }
    assert_eq!(bench.bye_ports(), [5_001]);
    let kept = |bench: &Bench| {
        let session = bench.session(id);
        let streams = session.streams.iter();
        let streams = streams.map(|stream| (stream.phase, stream.outgoing.own().copied()));
        (session.epoch_count, session.end, streams.collect::<Vec<_>>())
    };
    let (before, sent) = (kept(&bench), bench.sent_of(0).len());
    assert_eq!(before.2[0].0, Phase::Ended);
    let title = Arc::clone(&bench.session(id).title);
    let mut next = feed_of(&bench, id, &testing::title(30), Npt(3_000_000_000));
    let refused = exchange(&mut bench, id, &mut next).unwrap_err();
    assert_eq!(refused, FeedError::Ended { stream: 0 });
    assert_eq!(refused.to_string(), "stream 0: it has said BYE");
    assert_eq!(kept(&bench), before);
    assert!(Arc::ptr_eq(&bench.session(id).title, &title));
    bench.run_for(SECOND);
    assert_eq!(bench.sent_of(0).len(), sent, "it stays silent");
    assert_eq!(bench.bye_ports(), [5_001, 5_003], "the other stream ends as it would have");
    assert_eq!(bench.session(id).streams[0].phase, Phase::Ended);
}
