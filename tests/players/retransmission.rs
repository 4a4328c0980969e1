//! A player that lost packets gets them again (RFC 4585, RFC 4588): GStreamer behind a network that
//! drops one packet in fifty has every frame, of a title and of a live path.
//!
//! ```text
//! headend --RTP, RTX--> [nftables: 2 % dropped] --> rtspsrc -> jitter buffer -> file
//!         <--NACK-------------------------------------'
//! ```
//! A test runs itself again in a network namespace of its own, where it may drop what it likes.
//! Where the host allows none (or has no nftables), it says so and is skipped.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::path::{Path, PathBuf};

use crate::support;
use crate::support::compare::{assert_same_frames, decoded_frames};
use crate::support::live::wait_until_described;
use crate::support::network::full_name;
use crate::support::players::{frames_of, launch_to_the_end, publish_file};
use crate::support::process::{PLAYER_PATIENCE, run, run_any};
use crate::support::server::{Options, Server};

const INSIDE: &str = "HEADEND_TEST_IN_NAMESPACE";

#[test]
fn packets_lost_on_the_way_are_sent_again_and_every_frame_is_decoded() {
    in_namespace("packets_lost_on_the_way_are_sent_again_and_every_frame_is_decoded", || {
        let folder = tempfile::tempdir_in(support::scratch()).unwrap();
        let file = film(folder.path());
        let server = Server::with_folder(folder.path());
        drop_packets();
        let out = folder.path().join("played");
        play(&server.vod_url("film.mp4"), &out);
        assert_repaired(&server);
        let frames = decoded_frames(&["-f", "h264", "-i", &out.to_string_lossy()], 0);
        assert_same_frames("film", &frames, &frames_of(&file));
    });
}

#[test]
fn packets_of_a_live_path_that_are_lost_are_sent_again() {
    in_namespace("packets_of_a_live_path_that_are_lost_are_sent_again", || {
        let folder = tempfile::tempdir_in(support::scratch()).unwrap();
        let file = film(folder.path());
        // Single packets fall here, runs in the other test.
        let config = Some("[server]\ngso = \"off\"\n");
        let server = Server::start(&Options { shards: "2", config, ..Options::default() });
        drop_packets();
        let url = server.url("live/film");
        let _publisher = publish_file(&file, &url, "tcp", &[]);
        wait_until_described(&server, "live/film");
        let out = folder.path().join("played");
        play(&url, &out);
        assert_repaired(&server);
        let got = decoded_frames(&["-f", "h264", "-i", &out.to_string_lossy()], 0);
        // It begins with a key frame and misses none from there on.
        let all = frames_of(&file);
        let from = all.iter().position(|frame| Some(frame) == got.first()).unwrap();
        assert_eq!(from % FRAMES_A_GROUP, 0);
        assert_same_frames("path", &got, &all[from..]);
    });
}

/// Runs a test in a network namespace of its own.
fn in_namespace(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return test();
    }
    let probe = "ip link set lo up && nft add table inet t && nft add chain inet t c && \
                 nft add rule inet t c numgen inc mod 50 == 7 drop";
    let probed = run_any("unshare", &["-rn", "sh", "-c", probe], PLAYER_PATIENCE);
    if !probed.status.success() {
        println!("skipped: no network namespace with nftables here ({})", probed.stderr.trim());
        return;
    }
    let this = std::env::current_exe().unwrap().display().to_string();
    let inside = format!("{INSIDE}=1");
    let args =
        ["-rn", "env", &inside, &this, "--exact", &full_name(module_path!(), name), "--nocapture"];
    let ended = run_any("unshare", &args, PLAYER_PATIENCE);
    assert!(ended.status.success(), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("1 passed"), "{name}: no such test");
    println!("{}", ended.stdout);
}

/// Every fiftieth datagram with RTP of the payload types that are used here, retransmissions among
/// them, is dropped from now on; reports are not. Segments of one send are one datagram here, and
/// fall together.
fn drop_packets() {
    let second_byte = [96, 127].map(|number| format!("{number}, {}", number | 0x80)).join(", ");
    let rules = format!(
        "add table inet t; add chain inet t c {{ type filter hook input priority 0; }}; \
         add rule inet t c meta l4proto udp @th,72,8 {{ {second_byte} }} \
         numgen inc mod 50 == 7 counter drop"
    );
    run("nft", &[&rules]);
}

/// Plays to the end, into a file.
fn play(url: &str, to: &Path) {
    let pipeline = format!(
        "rtspsrc location={url} protocols=udp udp-buffer-size=8000000 latency=1000 ! rtph264depay \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! identity single-segment=true \
         ! filesink location={}",
        to.display()
    );
    launch_to_the_end(&pipeline);
}

fn assert_repaired(server: &Server) {
    let dropped = run("nft", &["list", "ruleset"]).stdout;
    let (_, behind) = dropped.split_once("counter packets ").unwrap();
    let dropped: u32 = behind.split_whitespace().next().unwrap().parse().unwrap();
    let count = |name| support::http::metric(server.admin, name).unwrap();
    let asked = count("headend_nack_received_total");
    let sent = count("headend_rtx_packets_sent_total");
    println!("{dropped} datagrams dropped, {asked} packets asked for, {sent} sent again");
    assert!(dropped >= 5 && sent >= 5.0, "a test of nothing");
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

/// See `film`.
const FRAMES_A_GROUP: usize = 50;
