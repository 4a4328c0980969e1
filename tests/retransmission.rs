//! A player that lost packets gets them again (RFC 4585, RFC 4588): GStreamer behind a network that
//! drops one packet in fifty has every frame.
//!
//! ```text
//! headend --RTP, RTX--> [nftables: 2 % dropped] --> rtspsrc -> jitter buffer -> file
//!         <--NACK-------------------------------------'
//! ```
//! The test runs itself again in a network namespace of its own, where it may drop what it likes.
//! Where the host allows none (or has no nftables), it says so and is skipped.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

mod support;

use std::path::{Path, PathBuf};

use support::compare::{EVERY_SAMPLE, assert_same_frames, decoded_frames};
use support::process::{PLAYER_PATIENCE, run, run_any};
use support::server::Server;

const INSIDE: &str = "HEADEND_TEST_IN_NAMESPACE";

#[test]
fn packets_lost_on_the_way_are_sent_again_and_every_frame_is_decoded() {
    if std::env::var_os(INSIDE).is_some() {
        return play_with_loss();
    }
    let probe = "ip link set lo up && nft add table inet t && nft add chain inet t c && \
                 nft add rule inet t c numgen random mod 100 lt 2 drop";
    let probed = run_any("unshare", &["-rn", "sh", "-c", probe], PLAYER_PATIENCE);
    if !probed.status.success() {
        println!("skipped: no network namespace with nftables here ({})", probed.stderr.trim());
        return;
    }
    let this = std::env::current_exe().unwrap().display().to_string();
    let name = "packets_lost_on_the_way_are_sent_again_and_every_frame_is_decoded";
    let inside = format!("{INSIDE}=1");
    let args = ["-rn", "env", &inside, &this, "--exact", name, "--nocapture"];
    let ended = run_any("unshare", &args, PLAYER_PATIENCE);
    assert!(ended.status.success(), "{}\n{}", ended.stdout, ended.stderr);
    println!("{}", ended.stdout);
}

fn play_with_loss() {
    run("ip", &["link", "set", "lo", "up"]);
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    let file = film(folder.path());
    let server = Server::with_folder(folder.path());
    let (_, behind) = server.banner.split_once("udp rtp ").unwrap();
    let port = behind.split_whitespace().next().unwrap();
    // Reports and the BYE at the end come from another port. Segments of one send fall together.
    let rules = format!(
        "add table inet t; add chain inet t c {{ type filter hook input priority 0; }}; \
         add rule inet t c udp sport {port} numgen random mod 100 lt 2 counter drop"
    );
    run("nft", &[&rules]);
    let out = folder.path().join("played");
    let pipeline = format!(
        "rtspsrc location={} protocols=udp udp-buffer-size=8000000 latency=1000 ! rtph264depay \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! identity single-segment=true \
         ! filesink location={}",
        server.vod_url("film.mp4"),
        out.display()
    );
    let args: Vec<_> = pipeline.split_whitespace().collect();
    let ended = run_any("gst-launch-1.0", &args, PLAYER_PATIENCE);
    assert!(ended.stdout.contains("Got EOS from element"), "{}\n{}", ended.stdout, ended.stderr);
    let dropped = run("nft", &["list", "ruleset"]).stdout;
    let (_, behind) = dropped.split_once("counter packets ").unwrap();
    let dropped: u32 = behind.split_whitespace().next().unwrap().parse().unwrap();
    let count = |name| support::http::metric(server.admin, name).unwrap();
    let asked = count("headend_nack_received_total");
    let sent = count("headend_rtx_packets_sent_total");
    println!("{dropped} datagrams dropped, {asked} packets asked for, {sent} sent again");
    assert!(dropped >= 5 && sent >= 5.0, "a test of nothing");
    let frames = |path: &Path, args: &[&str]| {
        let path = path.to_string_lossy().into_owned();
        decoded_frames(&[args, &["-i", &path]].concat(), 0)
    };
    assert_same_frames("film", &frames(&out, &["-f", "h264"]), &frames(&file, &EVERY_SAMPLE));
}

/// Eight seconds of 4 Mbit/s in which each frame needs the one before.
fn film(folder: &Path) -> PathBuf {
    let file = folder.join("film.mp4");
    let args = "-hide_banner -loglevel error -nostdin -f lavfi -i \
                testsrc2=size=480x270:rate=25:duration=8,noise=alls=30:allf=t -c:v libx264 \
                -preset ultrafast -bf 0 -g 50 -b:v 4M -pix_fmt yuv420p";
    let mut args: Vec<_> = args.split_whitespace().map(ToOwned::to_owned).collect();
    args.push(file.display().to_string());
    run("ffmpeg", &args);
    file
}
