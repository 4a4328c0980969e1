//! Many players of one title at a time: their packets come out of one place in memory then, and are
//! those that each would get alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use crate::support::compare::{assert_same_frames, decoded_frames};
use crate::support::demo_clip;
use crate::support::http::metric;
use crate::support::rtp::{Rtp, assert_contiguous};
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};

/// As many as have an image made, and some more.
const PLAYERS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// What came to raw players that begin together, and the server; FFmpeg plays beside them, and what
/// it decodes is right.
fn played(config: &str) -> (Vec<Session>, Server) {
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    let open = || Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    let mut sessions: Vec<Session> = (0..PLAYERS).map(|_| open()).collect();
    for session in &mut sessions {
        session.play(&[]);
    }
    std::thread::scope(|scope| {
        for session in &mut sessions {
            scope.spawn(|| session.receive_until_bye(PATIENCE));
        }
        let clip = demo_clip();
        let wanted = decoded_frames(&["-i", clip.to_str().unwrap()], 0);
        let got = decoded_frames(&["-rtsp_transport", "udp", "-i", &server.demo_url()], 0);
        assert_same_frames(config, &got, &wanted);
    });
    (sessions, server)
}

fn image_packets(server: &Server) -> f64 {
    metric(server.admin, "headend_rtp_image_packets_sent_total").unwrap_or(0.0)
}

/// All of a packet that does not differ between players: numbers count from the first packet.
fn contents(packets: &[Rtp]) -> Vec<(u8, bool, u16, u32, &[u8])> {
    let first = &packets[0];
    let content = |packet: &Rtp| {
        let seq = packet.seq.wrapping_sub(first.seq);
        let time = packet.timestamp.wrapping_sub(first.timestamp);
        (packet.payload_type, packet.marker, seq, time)
    };
    let all = packets.iter();
    all.map(|packet| {
        let (kind, marker, seq, time) = content(packet);
        (kind, marker, seq, time, &packet.payload[..])
    })
    .collect()
}

#[test]
fn packets_out_of_images_are_those_that_a_player_gets_alone() {
    let (alone, server) = played("[vod]\nimage_memory = \"off\"\n");
    assert!(image_packets(&server) < 0.5);
    let (together, server) = played("[vod]\nimage_memory = \"64MiB\"\n");
    let of_images = image_packets(&server);
    let (mut all, mut ssrcs) = (0, Vec::new());
    for session in &together {
        for stream in &session.streams {
            let kind = stream.media.kind.as_str();
            assert_contiguous(&stream.packets);
            let of_one = &alone[0].stream(kind).packets;
            assert_eq!(contents(&stream.packets), contents(of_one), "{kind}");
            let (first, ssrc) = (&stream.packets[0], stream.packets[0].ssrc);
            assert!(stream.packets.iter().all(|packet| packet.ssrc == ssrc));
            ssrcs.push(ssrc);
            let others = &together[0].stream(kind).packets[0];
            assert_eq!((first.seq, first.timestamp), (others.seq, others.timestamp), "{kind}");
            all += stream.packets.len();
        }
    }
    let most = 0.4 * f64::from(u32::try_from(all).unwrap());
    assert!(of_images > most, "{of_images} of {all} packets out of images");
    ssrcs.sort_unstable();
    ssrcs.dedup();
    assert_eq!(ssrcs.len(), together[0].streams.len(), "one for each track");
}

#[test]
fn sends_without_a_copy_out_of_images_carry_the_same() {
    let config = "[server]\nzerocopy = \"on\"\n[vod]\nimage_memory = \"64MiB\"\n";
    let (together, server) = played(config);
    assert!(image_packets(&server) > 0.5);
    for session in &together[1..] {
        for stream in &session.streams {
            let kind = stream.media.kind.as_str();
            assert_eq!(stream.packets, together[0].stream(kind).packets, "{kind}");
        }
    }
}
