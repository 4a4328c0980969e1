//! PLAY, PAUSE and seeking: continuity of the streams, and the content of the answers.

use std::time::Duration;

use crate::base::time::Npt;
use crate::library::testing;
use crate::rtsp::request::Method;
use crate::vod::stream::Phase;
use crate::vod::tests::{BASE, Bench, range_start_ms, rtp_info, status};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn first_packets_are_those_that_rtp_info_names() {
    let mut bench = Bench::new();
    let id = bench.opened();
    let answer = bench.play(id, &[]).unwrap();
    bench.run_for(SECOND);
    for (track, (seq, rtptime)) in (0_u8..).zip(rtp_info(&answer)) {
        let first = bench.sent_of(track)[0];
        assert_eq!((first.first_seq, first.ts), (seq, rtptime), "track {track}");
        assert_ne!(rtptime, 0, "rule C6: a client takes 0 for absent");
    }
    assert_eq!(range_start_ms(&answer), 0);
    assert_eq!(answer.header_value("Scale"), None);
}

#[test]
fn resume_goes_on_with_the_next_sample_and_sequence_number() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 3);
    let paused = bench.pause(id);
    let before = bench.sent.len();
    bench.run_for(SECOND * 5);
    assert_eq!(bench.sent.len(), before, "nothing is sent while paused");
    let resumed = bench.play(id, &[]).unwrap();
    assert_eq!(range_start_ms(&resumed), range_start_ms(&paused));
    bench.run_for(SECOND * 2);
    for (track, (seq, _)) in (0_u8..).zip(rtp_info(&resumed)) {
        let sent = bench.sent_of(track);
        for pair in sent.windows(2) {
            assert_eq!(pair[1].frame.sample_index, pair[0].frame.sample_index + 1);
            assert_eq!(pair[1].first_seq, pair[0].first_seq.wrapping_add(pair[0].packets));
        }
        let at = sent.iter().position(|s| s.at.since(sent[0].at) > SECOND * 4).unwrap();
        assert_eq!(sent[at].first_seq, seq, "RTP-Info names the first packet of the resume");
        // The wall clock went on for five seconds, so did RTP time.
        let ticks = sent[at].ts.wrapping_sub(sent[at - 1].ts);
        let rate = if track == 0 { 90_000 } else { 48_000 };
        assert!((5 * rate..6 * rate).contains(&ticks), "{ticks} ticks");
    }
}

#[test]
fn seek_begins_at_the_sync_sample_before_and_ends_the_old_epoch() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 2);
    let epoch_count = bench.session(id).epoch_count;
    let sent = bench.sent.len();
    let answer = bench.play(id, &[("Range", "npt=10.7-")]).unwrap();
    assert_ne!(bench.session(id).epoch_count, epoch_count);
    assert_eq!(range_start_ms(&answer), 10_000);
    bench.run_for(SECOND);
    let new = bench.sent[sent..].to_vec();
    assert!(new.iter().all(|s| s.frame.npt.0 >= 9_980_000_000), "{:?}", new[0]);
    for (track, (seq, rtptime)) in (0_u8..).zip(rtp_info(&answer)) {
        let first = new.iter().find(|s| s.track == track).unwrap();
        assert_eq!(first.first_seq, seq);
        assert_eq!(first.ts, rtptime);
    }
}

#[test]
fn rtp_time_never_goes_back_over_seeks_and_resumes() {
    let mut bench = Bench::new();
    let id = bench.opened();
    for headers in [
        &[][..],
        &[("Range", "npt=15-")],
        &[("Range", "npt=2-"), ("Scale", "4")],
        &[("Scale", "-2")],
        &[("Range", "npt=0-"), ("Speed", "2")],
    ] {
        bench.play(id, headers).unwrap();
        bench.run_for(SECOND);
    }
    // In the order of showing: b frames are sent behind the P that they come before.
    let sent = bench.sent_of(0);
    for pair in sent.windows(2) {
        let ahead = pair[1].ts.wrapping_sub(pair[0].ts).cast_signed();
        assert!(ahead >= -3_600 * 2, "{ahead} ticks back: {pair:?}");
        assert_eq!(pair[1].first_seq, pair[0].first_seq.wrapping_add(pair[0].packets));
    }
}

#[test]
fn scales_beyond_two_and_in_reverse_send_sync_samples_of_video_only() {
    for (scale, expected) in [("4.000", vec![250, 275, 300, 325]), ("-1.000", vec![250, 225, 200])]
    {
        let mut bench = Bench::new();
        let id = bench.opened();
        let answer = bench.play(id, &[("Range", "npt=10-"), ("Scale", scale)]).unwrap();
        assert_eq!(answer.header_value("Scale"), Some(scale));
        assert_eq!(rtp_info(&answer).len(), 1);
        bench.run_for(SECOND * 10);
        let samples: Vec<u32> = bench.sent_of(0).iter().map(|s| s.frame.sample_index).collect();
        assert!(samples.starts_with(&expected), "{samples:?}");
        assert!(bench.sent_of(1).is_empty());
    }
}

#[test]
fn scale_and_speed_of_the_answer_are_those_in_force() {
    let mut bench = Bench::new();
    let id = bench.opened();
    for (asked, answered) in
        [("0.0625", "0.0625"), ("1.23456", "1.23456"), ("0.0001", "0.0625"), ("99", "16.000")]
    {
        let answer = bench.play(id, &[("Scale", asked), ("Speed", asked)]).unwrap();
        assert_eq!(answer.header_value("Scale"), Some(answered));
        assert_eq!(answer.header_value("Speed"), Some(answered));
        let epoch = bench.session(id).epoch.unwrap();
        let rate: f64 = answered.parse().unwrap();
        assert_eq!(
            (epoch.scale.to_bits(), epoch.speed.to_bits()),
            (rate.to_bits(), rate.to_bits())
        );
        bench.run_for(SECOND);
    }
}

#[test]
fn rewind_to_the_start_says_bye_on_every_stream() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[("Range", "npt=3-"), ("Scale", "-1")]).unwrap();
    bench.run_for(SECOND * 5);
    let samples: Vec<u32> = bench.sent_of(0).iter().map(|s| s.frame.sample_index).collect();
    assert_eq!(samples, [75, 50, 25, 0]);
    let mut byes = bench.bye_ports();
    byes.sort_unstable();
    assert_eq!(byes, [5_001, 5_003], "the muted one too: rule C9");
}

#[test]
fn range_that_the_title_does_not_have_is_refused_and_changes_nothing() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    let epoch_count = bench.session(id).epoch_count;
    for range in ["npt=20-", "npt=21-", "npt=5-5", "npt=5-4", "smpte=00:01:00-"] {
        assert_eq!(status(&bench.play(id, &[("Range", range)]).unwrap()), 457, "{range}");
    }
    for headers in [("Range", "bytes=1-2"), ("Scale", "0"), ("Scale", "fast"), ("Speed", "-1")] {
        assert_eq!(status(&bench.play(id, &[headers]).unwrap()), 400, "{headers:?}");
    }
    assert_eq!(bench.session(id).epoch_count, epoch_count);
}

#[test]
fn end_of_range_says_bye_once_and_the_next_play_starts_again() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[("Range", "npt=2-4")]).unwrap();
    bench.run_for(SECOND * 4);
    assert!(bench.sent.iter().all(|s| s.frame.npt.0 < 4_000_000_000));
    let last = bench.sent_of(0).iter().map(|s| s.frame.npt.0).max().unwrap();
    assert_eq!(last, 3_960_000_000, "the frame before the end is sent");
    assert_eq!(bench.bye_ports().len(), 2);
    let (reports, frames) = (bench.datagrams.len(), bench.sent.len());
    // Signs of life keep the session; there is nothing left to report.
    bench.run_for(SECOND * 30);
    assert_eq!((bench.datagrams.len(), bench.sent.len()), (reports, frames));
    let again = bench.play(id, &[]).unwrap();
    assert_eq!(range_start_ms(&again), 0);
    bench.run_for(SECOND);
    assert!(bench.sent.len() > frames);
}

#[test]
fn stream_that_said_bye_stays_silent_on_resume_and_comes_back_with_a_seek() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[("Range", "npt=15-")]).unwrap();
    bench.run_for(SECOND);
    let key = bench.key(id);
    bench.sessions.vod.players.session_mut(key).unwrap().streams[1].phase = Phase::Ended;
    bench.pause(id);
    assert_eq!(rtp_info(&bench.play(id, &[]).unwrap()).len(), 1);
    let sound = bench.sent_of(1).len();
    bench.run_for(SECOND);
    assert_eq!(bench.sent_of(1).len(), sound);
    assert_eq!(rtp_info(&bench.play(id, &[("Range", "npt=5-")]).unwrap()).len(), 2);
    bench.run_for(SECOND);
    assert!(bench.sent_of(1).len() > sound);
}

#[test]
fn title_without_samples_ends_at_once() {
    let mut bench = Bench::with(testing::title_without_samples());
    let id = crate::vod::tests::session_id(&bench.setup_udp(0, None, 5_000));
    assert_eq!(status(&bench.play(id, &[]).unwrap()), 200);
    bench.run_for(SECOND);
    assert_eq!(bench.bye_ports(), [5_001]);
}

#[test]
fn stream_that_is_set_up_during_a_pause_plays_with_the_others() {
    let mut bench = Bench::new();
    let id = crate::vod::tests::session_id(&bench.setup_udp(0, None, 5_000));
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 3);
    bench.pause(id);
    assert_eq!(status(&bench.setup_udp(1, Some(id), 5_002)), 200);
    let answer = bench.play(id, &[]).unwrap();
    assert_eq!(rtp_info(&answer).len(), 2);
    bench.run_for(SECOND);
    assert!(!bench.sent_of(1).is_empty());
    let track = format!("{BASE}/trackID=1");
    bench.pause(id);
    let torn = bench.request(1, Method::Teardown, &track, Some(id), &[]).unwrap();
    assert_eq!((status(&torn), bench.session(id).streams.len()), (200, 1));
    let sound = bench.sent_of(1).len();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND);
    assert_eq!(bench.sent_of(1).len(), sound);
}

#[test]
fn pause_with_a_range_plays_up_to_its_point_and_loses_nothing() {
    // RFC 2326 s10.6: the pause point.
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND);
    let answer = bench.request(1, Method::Pause, BASE, Some(id), &[("Range", "npt=3-")]).unwrap();
    assert_eq!(status(&answer), 200);
    bench.run_for(SECOND);
    assert_eq!(bench.session(id).state.shown().as_str(), "playing");
    bench.run_for(SECOND * 4);
    assert_eq!(bench.session(id).state.shown().as_str(), "paused");
    let position = bench.session(id).npt_at(bench.sessions.cx.now);
    assert!((3_000..3_010).contains(&(position.0 / 1_000_000)), "{position:?}");
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 30);
    for track in 0..2 {
        let sent = bench.sent_of(track);
        for pair in sent.windows(2) {
            assert_eq!(pair[1].frame.sample_index, pair[0].frame.sample_index + 1);
        }
    }
    assert_eq!(bench.session(id).state.shown().as_str(), "paused");
    assert!(matches!(bench.session(id).streams[0].phase, Phase::Ended), "played to its end");
}

#[test]
fn bye_follows_when_the_last_frame_has_been_shown() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[("Range", "npt=2-4")]).unwrap();
    let shown = bench.session(id).epoch.unwrap().wall_of_npt(Npt(4_000_000_000));
    bench.run_for(shown.since(bench.sessions.cx.now) + Duration::from_millis(99));
    let last = bench.sent_of(0).last().copied().unwrap();
    assert!(shown.since(last.at) >= Duration::from_millis(40), "sent before it is shown");
    assert!(bench.bye_ports().is_empty(), "not before it has been shown for 100 ms");
    bench.run_for(Duration::from_millis(3));
    assert_eq!(bench.bye_ports(), [5_001]);
    // Sound is sent later than the picture that it belongs to: BYE follows its last packet.
    let heard = bench.sent_of(1).last().unwrap().at.max(shown);
    bench.run_for(Duration::from_millis(101).saturating_sub(bench.sessions.cx.now.since(heard)));
    assert_eq!(bench.bye_ports(), [5_001, 5_003]);
}
