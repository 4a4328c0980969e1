//! Ways of sending that are not the usual one: without a copy, without segmentation, over a narrow
//! route, to a client that does not read. What players get is the same in all of them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use crate::support::compare::{assert_same_frames, decoded_frames, hashes};
use crate::support::http::{metric, sessions};
use crate::support::process::{PLAYER_PATIENCE, run, run_any};
use crate::support::server::{Options, Server, binary};
use crate::support::session::{Lower, Session};
use crate::support::{demo_clip, folder_with, scratch, wait};

/// Frames that a player decodes from the built-in clip are those of the file.
fn demo_plays_whole(server: &Server, transport: &str) {
    let clip = demo_clip();
    let wanted = decoded_frames(&["-i", clip.to_str().unwrap()], 0);
    let got = decoded_frames(&["-rtsp_transport", transport, "-i", &server.demo_url()], 0);
    assert_same_frames(transport, &got, &wanted);
}

fn count(admin: SocketAddr, name: &str) -> f64 {
    metric(admin, name).unwrap_or(0.0)
}

#[test]
fn sends_without_a_copy_carry_the_same_and_are_counted() {
    let config = Some("[server]\nzerocopy = \"on\"\n");
    let server = Server::start(&Options { config, ..Options::default() });
    for transport in ["udp", "tcp"] {
        demo_plays_whole(&server, transport);
    }
    let sent = count(server.admin, "headend_send_zerocopy_total");
    let copied = count(server.admin, "headend_send_zerocopy_copied_total");
    // Loopback copies when it delivers, and says so.
    assert!(sent + copied > 100.0, "{sent} without a copy, {copied} copied after all");
}

#[test]
fn auto_copies_what_is_gathered_from_small_pieces() {
    let server = Server::with_demo();
    demo_plays_whole(&server, "tcp");
    assert!(count(server.admin, "headend_send_zerocopy_total") < 0.5);
    assert!(count(server.admin, "headend_send_zerocopy_copied_total") < 0.5);
}

#[test]
fn without_segmentation_each_packet_is_a_send() {
    let config = Some("[server]\ngso = \"off\"\n");
    let server = Server::start(&Options { config, ..Options::default() });
    demo_plays_whole(&server, "udp");
    assert!(count(server.admin, "headend_gso_segments_total") < 0.5);
    let packets = count(server.admin, "headend_rtp_packets_sent_total");
    let sends = count(server.admin, "headend_send_calls_total");
    assert!((packets - sends).abs() < 0.5, "{packets} packets in {sends} sends");
}

#[test]
fn route_narrower_than_a_packet_gets_fragments_and_every_frame() {
    let out = tempfile::tempdir_in(scratch()).unwrap();
    // A network of its own, whose loopback takes 1,280 bytes at once: the packets have 1,440.
    let script = r#"
        ip link set lo mtu 1280 up || exit 77
        "$1" serve --listen 127.0.0.1:8554 --admin 127.0.0.1:9997 --shards 1 --workers 1 \
            --log text >"$2/log" 2>&1 &
        server=$!
        tries=0
        until grep -q 9997 "$2/log" || [ $((tries += 1)) -gt 500 ]; do sleep 0.02; done
        ffmpeg -hide_banner -nostdin -loglevel error -rtsp_transport udp \
            -i rtsp://127.0.0.1:8554/demo -map 0:0 -fps_mode passthrough -f framemd5 "$2/frames"
        kill "$server"
        wait "$server"
    "#;
    let (binary, out_path) = (binary(), out.path().to_str().unwrap());
    let args = ["-n", "sh", "-c", script, "sh", binary.to_str().unwrap(), out_path];
    let finished = run_any("unshare", &args, PLAYER_PATIENCE);
    if finished.stderr.contains("Operation not permitted") || finished.status.code() == Some(77) {
        println!("skipped: no network namespaces here: {}", finished.stderr.trim());
        return;
    }
    let log = std::fs::read_to_string(out.path().join("log")).unwrap();
    let frames = std::fs::read_to_string(out.path().join("frames"))
        .unwrap_or_else(|error| panic!("{error}\n{}\n{log}", finished.stderr));
    let wanted = decoded_frames(&["-i", demo_clip().to_str().unwrap()], 0);
    assert_same_frames("over 1,280 bytes", &hashes(&frames), &wanted);
    assert!(log.contains("too narrow for whole packets"), "{log}");
}

/// A film of 4 Mbit/s with a sync sample a second, more than sockets hold. Made once, however many
/// tests want it at the same time.
static BROAD_FILM: LazyLock<PathBuf> = LazyLock::new(|| {
    let film = scratch().join("broad-4mbit.mp4");
    if !film.exists() {
        let part = scratch().join(format!("broad-{}.part.mp4", std::process::id()));
        let to = part.to_str().unwrap();
        let video = "testsrc2=size=640x360:rate=25:duration=20,noise=alls=40:allf=t";
        let sound = "sine=frequency=440:sample_rate=48000:duration=20";
        let mut args = vec!["-hide_banner", "-loglevel", "error", "-nostdin", "-y"];
        args.extend(["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", sound]);
        args.extend(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]);
        args.extend(["-b:v", "4M", "-minrate", "4M", "-maxrate", "4M", "-bufsize", "1M"]);
        args.extend(["-g", "25", "-sc_threshold", "0", "-c:a", "aac", to]);
        run("ffmpeg", &args);
        std::fs::rename(&part, &film).unwrap();
    }
    film
});

/// Plays over TCP, reads nothing until the session is nine seconds on, then everything; the video's
/// packets, and the skips that were counted.
fn stalled_player(config: &str) -> (Session, f64) {
    let folder = folder_with(&[&BROAD_FILM]);
    let options =
        Options { folder: Some(folder.path()), config: Some(config), ..Options::default() };
    let server = Server::start(&options);
    let url = server.vod_url("broad-4mbit.mp4");
    let mut session = Session::open(server.rtsp, &url, Lower::Tcp);
    // No more than this, or its kernel would read for it.
    socket2::SockRef::from(session.client.stream()).set_recv_buffer_size(128 << 10).unwrap();
    session.play(&[]);
    wait::until("nine seconds have gone by", || {
        sessions(server.admin)[0]["npt_s"].as_f64().unwrap() > 9.0
    });
    session.receive_until_bye(Duration::from_secs(60));
    let skips = count(server.admin, "headend_lag_skips_total");
    (session, skips)
}

/// Largest step of RTP time from a packet to the next, in seconds; sequence numbers have no gap.
fn largest_step_s(session: &Session) -> f64 {
    let packets = &session.stream("video").packets;
    let mut largest = 0;
    for pair in packets.windows(2) {
        assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1), "no gap in the numbers");
        largest = largest.max(pair[1].timestamp.wrapping_sub(pair[0].timestamp).cast_signed());
    }
    f64::from(largest) / 90_000.0
}

#[test]
fn client_that_stops_reading_loses_nothing_without_a_lag_budget() {
    let (session, skips) = stalled_player("");
    assert!(skips < 0.5, "{skips} skips");
    assert!(largest_step_s(&session) < 0.2, "every frame came");
}

#[test]
fn client_that_stops_reading_skips_to_a_sync_sample_past_its_lag_budget() {
    let (session, skips) = stalled_player("[vod]\nlag_budget = \"2s\"\n");
    assert!(skips > 0.5, "{skips} skips");
    let step = largest_step_s(&session);
    assert!(step > 2.0, "the largest step was {step} s");
}
