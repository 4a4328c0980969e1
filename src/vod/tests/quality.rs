//! Video that is thinned by receiver reports: the frames that are left out, and the frames that a
//! decoder gets.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use crate::base::ids::SessionId;
use crate::media::window::Frame;
use crate::vod::stream::Phase;
use crate::vod::tests::{Bench, PEER, Sent};
use crate::vod::thinning::ThinningLevel;

const REPORT: Duration = Duration::from_secs(5);

/// A receiver report on a stream of the session, from the client's RTCP port of its SETUP.
fn report(bench: &mut Bench, id: SessionId, track: usize, lost_percent: u32) {
    let ssrc = bench.session(id).streams[track].outgoing.ssrc().unwrap().0;
    let mut bytes = vec![0x81, 201, 0, 7];
    bytes.extend(0x1234_u32.to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.push(u8::try_from(lost_percent * 256 / 100).unwrap());
    bytes.extend([0; 19]);
    let from = SocketAddr::from((PEER, 5_001 + 2 * u16::try_from(track).unwrap()));
    bench.sessions.handle_report_datagram(0, from, &bytes);
}

/// Reports of the video's loss, one each five seconds.
fn reports(bench: &mut Bench, id: SessionId, percents: &[u32]) {
    for percent in percents {
        bench.run_for(REPORT);
        report(bench, id, 0, *percent);
    }
}

fn playing(seconds: u32) -> (Bench, SessionId) {
    let mut bench = Bench::with(crate::library::testing::title(seconds));
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    (bench, id)
}

#[test]
fn title_whose_path_says_off_is_never_thinned() {
    for (text, is_thinned) in [
        ("[path.\"vod/film.mp4\"]\nquality = \"off\"\n", false),
        ("[path.\"~[.]mp4$\"]\nquality = \"off\"\n", false),
        ("[path.\"vod/other.mp4\"]\nquality = \"off\"\n", true),
        ("[path.\"*\"]\nquality = \"off\"\n[path.\"vod/film.mp4\"]\nquality = \"auto\"\n", true),
    ] {
        let mut bench = Bench::with(crate::library::testing::title(4));
        let loaded = crate::config::load(Some(("f", text)), [], &[]).unwrap();
        bench.sessions.live.configure_paths(&mut bench.sessions.cx, loaded.config.paths);
        let id = bench.opened();
        assert_eq!(bench.session(id).streams[0].quality.is_some(), is_thinned, "{text}");
    }
}

/// Sequence numbers have no gap, and each frame has its own time.
fn check_wire(sent: &[Sent]) {
    for pair in sent.windows(2) {
        let (one, two) = (&pair[0], &pair[1]);
        assert_eq!(two.first_seq, one.first_seq.wrapping_add(one.packets), "{pair:?}");
        let ticks = two.frame.rtp_ticks - one.frame.rtp_ticks;
        assert_eq!(i64::from(two.ts.wrapping_sub(one.ts).cast_signed()), ticks, "{pair:?}");
    }
}

/// What each frame of the test's title refers to: the sync sample of its group and the P frames
/// since; a b at the head of the group also to the group before, when it is shown before the sync.
fn check_decodable(sent: &[Sent]) {
    let mut known: Vec<Frame> = Vec::new();
    for Sent { frame, .. } in sent {
        if frame.is_sync {
            known.clear();
        } else {
            let sync = known.first().expect("a sync sample before anything else");
            assert!(frame.sample_index < sync.sample_index + 25, "{frame:?} of another group");
            // Every P of the group that was decoded before it.
            let due = sync.sample_index + 1..frame.sample_index;
            let missing: Vec<_> = due
                .filter(|sample| (sample - sync.sample_index) % 2 == 1)
                .filter(|sample| known.iter().all(|frame| frame.sample_index != *sample))
                .collect();
            assert!(missing.is_empty(), "{frame:?} refers to {missing:?}");
        }
        if !frame.is_disposable {
            known.push(*frame);
        }
    }
}

fn level(bench: &Bench, id: SessionId) -> ThinningLevel {
    bench.session(id).streams[0].level()
}

fn gauges(bench: &Bench) -> Vec<u64> {
    bench.cells.quality_levels.iter().map(|gauge| gauge.value()).collect()
}

#[test]
fn picture_is_thinned_in_steps_and_comes_back() {
    let (mut bench, id) = playing(160);
    assert_eq!(gauges(&bench), [1, 0, 0], "the sound is not counted");
    reports(&mut bench, id, &[40; 3]);
    assert_eq!((level(&bench, id), gauges(&bench)), (ThinningLevel::Reference, vec![0, 1, 0]));
    let full = bench.sent.len();
    reports(&mut bench, id, &[40; 3]);
    assert_eq!((level(&bench, id), gauges(&bench)), (ThinningLevel::Sync, vec![0, 0, 1]));
    let reference = bench.sent.len();
    reports(&mut bench, id, &[40; 3]);
    let sync = bench.sent.len();
    let of_track = |range: &[Sent], track| range.iter().filter(|sent| sent.track == track).count();
    assert!(
        bench.sent[full..reference].iter().all(|sent| !sent.frame.is_disposable || sent.track == 1)
    );
    assert_eq!(of_track(&bench.sent[full..reference], 0), 15 * 13);
    assert_eq!(of_track(&bench.sent[reference..sync], 0), 15);
    assert_eq!(of_track(&bench.sent[reference..sync], 1), 15 * 50, "sound is never thinned");
    reports(&mut bench, id, &[0; 12]);
    assert_eq!((level(&bench, id), gauges(&bench)), (ThinningLevel::Full, vec![1, 0, 0]));
    let back = bench.sent.len();
    bench.run_for(Duration::from_secs(10));
    assert_eq!(of_track(&bench.sent[back..], 0), 250);
    let sent = bench.sent_of(0);
    check_wire(&sent);
    check_decodable(&sent);
    let changes: Vec<u64> = bench.cells.quality_changes.iter().map(|cell| cell.value()).collect();
    assert_eq!(changes, [2, 0, 2]);
    assert_eq!(bench.sessions.infos()[0].streams[0].quality, Some("full"));
    assert_eq!(bench.sessions.infos()[0].streams[1].quality, None);
    let key = bench.key(id);
    bench.sessions.vod.players.remove(&mut bench.sessions.cx, key);
    assert_eq!(gauges(&bench), [0, 0, 0]);
}

#[test]
fn loss_of_sound_thins_nothing() {
    let (mut bench, id) = playing(60);
    for _ in 0..6 {
        bench.run_for(REPORT);
        report(&mut bench, id, 1, 90);
    }
    assert_eq!(gauges(&bench), [1, 0, 0]);
}

#[test]
fn picture_is_sent_in_full_when_adaptation_is_off() {
    let mut bench = Bench::with(crate::library::testing::title(60));
    bench.sessions.cx.config.adapts_quality = false;
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    reports(&mut bench, id, &[90; 8]);
    assert_eq!((bench.sent_of(0).len(), gauges(&bench)), (40 * 25 + 1, vec![0, 0, 0]));
    assert_eq!(bench.sessions.infos()[0].streams[0].quality, None);
}

#[test]
fn thinned_stream_does_not_run_ahead_and_ends_in_time() {
    let (mut bench, id) = playing(60);
    reports(&mut bench, id, &[90; 6]);
    assert_eq!(level(&bench, id), ThinningLevel::Sync);
    assert!(bench.sent.iter().all(|sent| sent.at >= sent.due_at));
    bench.run_for(Duration::from_secs(29));
    assert!(bench.bye_ports().is_empty());
    bench.run_for(Duration::from_secs(2));
    assert_eq!(bench.bye_ports().len(), 2);
}

#[test]
fn reports_of_a_paused_player_do_not_count() {
    let (mut bench, id) = playing(60);
    reports(&mut bench, id, &[90; 2]);
    bench.pause(id);
    reports(&mut bench, id, &[90; 4]);
    assert_eq!(level(&bench, id), ThinningLevel::Full);
}

#[test]
fn seek_and_trick_modes_of_a_thinned_stream_begin_with_a_sync_sample() {
    let (mut bench, id) = playing(160);
    reports(&mut bench, id, &[90; 6]);
    for headers in [[("Range", "npt=20-")].as_slice(), &[("Range", "npt=90-"), ("Scale", "-4")]] {
        let before = bench.sent.len();
        bench.play(id, headers).unwrap();
        bench.run_for(Duration::from_secs(2));
        let sent: Vec<_> = bench.sent[before..].iter().filter(|sent| sent.track == 0).collect();
        assert!(sent.len() >= 2 && sent.iter().all(|sent| sent.frame.is_sync), "{sent:?}");
    }
    // It thickens while it plays backwards; forwards again, all is sent.
    reports(&mut bench, id, &[0; 3]);
    bench.play(id, &[("Range", "npt=1-")]).unwrap();
    reports(&mut bench, id, &[0; 12]);
    assert_eq!(level(&bench, id), ThinningLevel::Full);
    let before = bench.sent.len();
    bench.play(id, &[("Range", "npt=30-")]).unwrap();
    bench.run_for(Duration::from_secs(2));
    assert!(bench.sent[before..].iter().filter(|sent| sent.track == 0).count() >= 50);
}

#[test]
fn interleaved_player_that_falls_behind_is_thinned_and_one_that_keeps_up_is_not() {
    let mut bench = Bench::with(crate::library::testing::title(60));
    bench.sessions.cx.config.lag_budget = Duration::from_secs(30);
    let id = crate::vod::tests::session_id(&bench.setup_tcp(0, None));
    bench.play(id, &[]).unwrap();
    let key = bench.key(id);
    let epoch_count = bench.session(id).epoch_count;
    bench.run_for(Duration::from_secs(1));
    // Its connection takes nothing more.
    bench.sessions.vod.players.session_mut(key).unwrap().streams[0].phase =
        Phase::WaitsForConnection;
    for _ in 0..3 {
        assert_eq!(level(&bench, id), ThinningLevel::Full);
        bench.sessions.cx.now = bench.sessions.cx.now + Duration::from_secs(2);
        bench.sessions.vod.players.handle_report_due(&mut bench.sessions.cx, key, epoch_count);
    }
    assert_eq!(level(&bench, id), ThinningLevel::Reference);
    bench.sessions.vod.players.session_mut(key).unwrap().streams[0].phase = Phase::Scheduled;
    for _ in 0..9 {
        bench.sessions.cx.now = bench.sessions.cx.now + Duration::from_secs(2);
        bench.sessions.vod.players.handle_report_due(&mut bench.sessions.cx, key, epoch_count);
    }
    assert_eq!(level(&bench, id), ThinningLevel::Full);
}

#[test]
fn interleaved_player_without_a_lag_budget_is_sent_everything_however_late() {
    let mut bench = Bench::with(crate::library::testing::title(60));
    let id = crate::vod::tests::session_id(&bench.setup_tcp(0, None));
    bench.play(id, &[]).unwrap();
    let key = bench.key(id);
    let epoch_count = bench.session(id).epoch_count;
    bench.run_for(Duration::from_secs(1));
    bench.sessions.vod.players.session_mut(key).unwrap().streams[0].phase =
        Phase::WaitsForConnection;
    for _ in 0..10 {
        bench.sessions.cx.now = bench.sessions.cx.now + Duration::from_secs(2);
        bench.sessions.vod.players.handle_report_due(&mut bench.sessions.cx, key, epoch_count);
    }
    assert_eq!(level(&bench, id), ThinningLevel::Full);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn decoder_never_gets_a_frame_whose_reference_was_left_out(
        script in prop::collection::vec((0_u8..3, 1_u64..3_000), 1..30),
    ) {
        let (mut bench, id) = playing(60);
        let key = bench.key(id);
        for (level, wait_ms) in script {
            let level = [ThinningLevel::Full, ThinningLevel::Reference, ThinningLevel::Sync][usize::from(level)];
            bench.sessions.vod.players.session_mut(key).unwrap().streams[0].set_level(level);
            bench.run_for(Duration::from_millis(wait_ms));
        }
        let sent = bench.sent_of(0);
        check_wire(&sent);
        check_decodable(&sent);
    }
}
