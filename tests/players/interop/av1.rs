//! AV1 reaches a decoder whole: depacketized here, since players of today cannot (see
//! `support::av1`), and decoded by FFmpeg frame by frame as it decodes the file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use crate::support;
use crate::support::Served;
use crate::support::compare::{EVERY_SAMPLE, assert_same_frames, decoded_frames};
use crate::support::media::title;
use crate::support::process::PLAYER_PATIENCE;
use crate::support::session::{Lower, Session};

#[test]
fn every_frame_arrives_over_udp() {
    every_frame_arrives(Lower::Udp);
}

#[test]
fn every_frame_arrives_over_tcp() {
    every_frame_arrives(Lower::Tcp);
}

fn every_frame_arrives(lower: Lower) {
    let served = Served::new(title("av1_mp4"));
    let mut session = Session::open(served.server.rtsp, &served.url, lower);
    assert_eq!(session.streams[0].media.encoding, "AV1");
    assert_eq!(session.streams[0].media.clock_rate_hz, 90_000);
    session.play(&[("Range", "npt=0-")]);
    session.receive_until_bye(PLAYER_PATIENCE);
    let units = support::av1::temporal_units(&session.streams[0].packets);
    let bitstream = tempfile::Builder::new().suffix(".obu").tempfile_in(support::scratch());
    let bitstream = bitstream.unwrap();
    std::fs::write(bitstream.path(), units.concat()).unwrap();
    let path = bitstream.path().to_string_lossy().into_owned();
    let got = decoded_frames(&["-f", "obu", "-i", &path], 0);
    let file = served.file.to_string_lossy().into_owned();
    let wanted = decoded_frames(&[&EVERY_SAMPLE[..], &["-i", &file]].concat(), 0);
    assert_same_frames("av1", &got, &wanted);
}
