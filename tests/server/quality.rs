//! A player that reports much loss is sent fewer frames of the picture, and all of the sound.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use crate::support::media::title;
use crate::support::process::PLAYER_PATIENCE;
use crate::support::rtp::{assert_contiguous, frames, receiver_report, ticks_between};
use crate::support::session::{Lower, Session};
use crate::support::{Served, http, wait};

#[test]
fn player_that_reports_much_loss_gets_no_disposable_frames_any_more() {
    let served = Served::new(title("h264_aac_ten_seconds_mp4"));
    let mut session = Session::open(served.server.rtsp, &served.url, Lower::Udp);
    session.play(&[]);
    for seconds in [1, 2, 3, 4] {
        // Reports a little more than a second of media apart.
        let has_come = session.receive_until(PLAYER_PATIENCE, |streams| {
            let video = streams.iter().find(|stream| stream.media.kind == "video").unwrap();
            let ends = (video.packets.first(), video.packets.last());
            let (Some(first), Some(last)) = ends else { return false };
            ticks_between(first.timestamp, last.timestamp) > seconds * 99_000
        });
        assert!(has_come);
        let video = session.stream("video");
        let mut report = receiver_report(7, video.announced_ssrc().unwrap(), 1_000);
        // Half of all since the report before.
        report[12] = 128;
        let to = (served.server.rtsp.ip(), video.server_ports().1);
        video.udp().rtcp.send_to(&report, to).unwrap();
    }
    let admin = served.server.admin;
    wait::until("the picture is thinned", || {
        let session = &http::sessions(admin)[0];
        let levels = session["streams"].as_array().unwrap().iter().map(|s| s["quality"].as_str());
        levels.eq([Some("reference"), None])
    });
    session.receive_until_bye(PLAYER_PATIENCE);
    for stream in &session.streams {
        assert_contiguous(&stream.packets);
    }
    let pictures = frames(&session.stream("video").packets).len();
    // Two of three frames of the file are B frames, and of these one is disposable at least.
    assert!((120..230).contains(&pictures), "{pictures} of 250");
    let sound: usize = session.stream("audio").packets.len();
    assert!(sound > 100, "{sound}");
}
