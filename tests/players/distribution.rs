//! A title that a provider has pushed plays from each node.

use crate::support::compare::{EVERY_SAMPLE, assert_same_frames, decoded_frames};
use crate::support::distribution::Distribution;
use crate::support::lab::Lab;
use crate::support::network::in_own_network;
use crate::support::{media, scratch};

#[test]
fn pushed_title_plays_from_each_node_bit_for_bit() {
    let name = "pushed_title_plays_from_each_node_bit_for_bit";
    in_own_network(module_path!(), name, "true", || {
        let title = media::title("h264_aac_faststart_mp4").file();
        let headend = env!("CARGO_BIN_EXE_headend").as_ref();
        let distribution = Distribution::start(headend, scratch(), 2, RATE);
        distribution.push(&[&title]);
        distribution.assert_delivered(&title);
        let file = title.to_str().unwrap();
        for track in [0, 1] {
            let wanted = decoded_frames(&[&EVERY_SAMPLE[..], &["-i", file]].concat(), track);
            for node in [1, 2] {
                let name = title.file_name().unwrap().to_str().unwrap();
                let url = format!("rtsp://{}:8554/vod/{name}", Lab::ip(node));
                let got = decoded_frames(&["-rtsp_transport", "tcp", "-i", &url], track);
                assert_same_frames(&url, &got, &wanted);
            }
        }
    });
}

/// Bits per second of each link.
const RATE: u64 = 200_000_000;
