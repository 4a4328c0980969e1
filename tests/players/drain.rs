//! Players of a server that is drained: FFmpeg goes on at the other server by itself.

use serde_json::json;

use crate::support::compare::{assert_same_frames, decoded_frames};
use crate::support::http::post_json;
use crate::support::players::{clip_frames, publish};
use crate::support::process::{PLAYER_PATIENCE, wait_for};
use crate::support::secure::{start, url};
use crate::support::server::{Options, Server};

fn drain(server: &Server, redirect: &[String]) {
    let order = json!({ "redirect": redirect });
    let (status, state) = post_json(server.admin, "/v1/drain", "", &order);
    assert_eq!(status, 200, "{state}");
}

fn played(transport: &str, url: &str) -> Vec<String> {
    decoded_frames(&["-rtsp_transport", transport, "-i", url], 0)
}

#[test]
fn ffmpeg_follows_to_the_other_server_by_every_transport() {
    let other = Server::with_demo();
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    drain(&server, &[format!("rtsp://{}", other.rtsp)]);
    let all = clip_frames();
    for transport in ["udp", "tcp", "http"] {
        assert_same_frames(transport, &played(transport, &server.demo_url()), &all);
    }
}

#[test]
fn ffmpeg_follows_to_the_other_server_over_tls() {
    let (other, _files) = start("", &Options::default());
    let (server, _more_files) = start("", &Options::default());
    drain(&server, &[format!("rtsps://{}", other.rtsps())]);
    assert_same_frames("rtsps", &played("tcp", &url(&server, "demo")), &clip_frames());
}

#[test]
fn ffmpeg_does_not_publish_to_a_drained_server() {
    let config = Some("[path.\"live/a\"]\n");
    let server = Server::start(&Options { config, ..Options::default() });
    drain(&server, &[]);
    let mut publisher = publish(&server.url("live/a"), "tcp", &["-t", "5"]);
    let status = wait_for(&mut publisher.0, PLAYER_PATIENCE).expect("it gives up");
    assert!(!status.success(), "{status}");
}
