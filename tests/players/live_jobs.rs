//! FFmpeg reads a live path from the last of three nodes, while the one in the middle is killed.

use std::fs::File;

use crate::support;
use crate::support::live::wait_until_described;
use crate::support::players::{PICTURES_IN_TICKS, ffmpeg, player};
use crate::support::process::{Kept, PLAYER_PATIENCE};
use crate::support::reflect::Reflection;
use crate::support::wait::until_within;

#[test]
fn decoder_has_no_complaint_when_the_node_that_feeds_its_own_is_killed() {
    let mut lab = Reflection::start(3);
    let mut film = ffmpeg();
    film.args(["-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25", "-c:v", "libx264"]);
    film.args(["-pix_fmt", "yuv420p", "-preset", "ultrafast", "-g", "25", "-bf", "0"]);
    film.args(["-f", "rtsp", "-rtsp_transport", "tcp", &lab.origin.url("live/show")]);
    let _film = Kept::start(&mut film);
    wait_until_described(&lab.origin, "live/show");
    let job = lab.job("live/show");
    lab.until_fed(&job, 3, "n2");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let (frames, errors) = (outputs.path().join("frames"), outputs.path().join("errors"));
    let mut command = player(&lab.node(3).url("live/show"), "tcp");
    command.args(["-map", "0:v"]).args(PICTURES_IN_TICKS);
    command.args(["-flush_packets", "1", "-f", "framemd5"]).arg(&frames);
    let mut reader = Kept::start(command.stderr(File::create(&errors).unwrap()));
    let count = || {
        let text = std::fs::read_to_string(&frames).unwrap_or_default();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    until_within(PLAYER_PATIENCE, "pictures", || count() > 50);
    lab.kill_node(2);
    let before = count();
    until_within(PLAYER_PATIENCE, "pictures behind the kill", || count() > before + 75);
    lab.until_fed(&job, 3, "n1");
    let before = count();
    until_within(PLAYER_PATIENCE, "pictures behind the new plan", || count() > before + 25);
    reader.kill();
    let errors = std::fs::read_to_string(&errors).unwrap();
    assert_eq!(errors, "", "the decoder has no complaint");
    let report = lab.get(&format!("/v1/jobs/{job}/deliveries?node=n3"));
    assert_eq!(report["deliveries"][0]["state"], "fetching");
}
