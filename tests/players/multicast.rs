//! Live paths by multicast: what players are told, what is sent and when it ends, and that FFmpeg
//! and GStreamer decode what was published. In networks of the tests' own, over loopback.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;

use crate::support;
use crate::support::compare::decoded_frames;
use crate::support::http::{get_json, list, metric, readers};
use crate::support::live::wait_until_url_is_described;
use crate::support::network::{OtherHost, in_own_network};
use crate::support::players::{
    assert_read_to_the_end, frames_in, launch_as, player, publish, published_frames,
};
use crate::support::process::{Kept, PLAYER_PATIENCE, wait_for};
use crate::support::rtp::{Rtcp, Rtp, parse_compound};
use crate::support::rtsp::{Client, Response};
use crate::support::server::{Options, Server};
use crate::support::session::{describe, joined};
use crate::support::wait::until;
use socket2::{Domain, Protocol, Socket, Type};

/// The clip without end.
const AGAIN: [&str; 2] = ["-stream_loop", "-1"];
/// Multicast goes by loopback.
const ROUTE: &str = "ip link set lo multicast on && ip route add 239.0.0.0/8 dev lo src 127.0.0.1";

#[test]
fn members_of_a_group_receive_one_stream_until_the_last_leaves() {
    in_own_network(
        module_path!(),
        "members_of_a_group_receive_one_stream_until_the_last_leaves",
        ROUTE,
        one_stream_for_all,
    );
}

fn one_stream_for_all() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let (a, b) = (server.url("live/a"), server.url("live/b"));
    let _publishers = [&a, &b].map(|url| publish(url, "tcp", &AGAIN));
    wait_until_url_is_described(&server, &a);
    wait_until_url_is_described(&server, &b);
    let mut members = [&a, &a, &b].map(|url| Member::open(server.rtsp, url));
    let groups: Vec<_> = members.iter().map(|member| member.streams[0].group).collect();
    assert_eq!(groups[0], groups[1], "one group a path");
    assert_ne!(groups[0].ip(), groups[2].ip(), "another for another path");
    assert!(members.iter().all(|member| member.streams[0].group.ip().is_multicast()));
    assert!(readers(server.admin).iter().all(|session| session["transport"] == "multicast"));
    let shown = list(get_json(server.admin, "/v1/paths"));
    let shown: BTreeSet<_> = shown.iter().map(|path| path["group"].to_string()).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    until("all hear two hundred pictures' packets", || {
        members.iter_mut().all(|member| member.receive() >= 200)
    });
    // Both members of a path hear the very same packets, and nobody those of the other path.
    let ssrcs = members.each_ref().map(Member::ssrcs);
    assert_eq!(ssrcs[0], ssrcs[1]);
    assert!(ssrcs[0].is_disjoint(&ssrcs[2]), "{ssrcs:?}");
    members.iter().for_each(Member::assert_no_gaps);
    let sent = metric(server.admin, "headend_rtp_packets_sent_total").unwrap();
    members.iter_mut().for_each(|member| _ = member.receive());
    let heard = [0, 2].map(|place: usize| members[place].count());
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let once = (heard[0] + heard[1]) as f64;
    assert!(sent < once * 1.3, "{sent} packets sent, {once} heard of two paths");
    assert!(members[0].has_sender_reports(), "sender reports go to the group");
    // Key frames of the clip are several packets: they went out by one send, and were not refused.
    assert!(metric(server.admin, "headend_gso_segments_total").unwrap() > 0.5);
    assert!(metric(server.admin, "headend_gso_refusals_total").unwrap() < 0.5);
    // The first member of a path leaves: the second hears on. The second leaves: nothing is sent.
    let [first, mut second, third] = members;
    first.teardown();
    third.teardown();
    let before = second.count();
    until("the one that stays hears on", || second.receive() >= before + 50);
    second.teardown();
    let groups = || list(get_json(server.admin, "/v1/paths"));
    until("no group is open", || groups().iter().all(|path| path["group"].is_null()));
    let sent = metric(server.admin, "headend_rtp_packets_sent_total");
    let batches = || groups().iter().map(|path| path["batches"].as_u64().unwrap()).sum::<u64>();
    let before = batches();
    until("the publishers go on", || batches() > before + 50);
    assert_eq!(metric(server.admin, "headend_rtp_packets_sent_total"), sent);
}

#[test]
fn title_is_refused_and_a_player_that_goes_silent_leaves_its_group() {
    in_own_network(
        module_path!(),
        "title_is_refused_and_a_player_that_goes_silent_leaves_its_group",
        ROUTE,
        refused_and_reaped,
    );
}

fn refused_and_reaped() {
    let config = Some("[rtsp]\nsession_timeout = \"6s\"\n");
    let server = Server::start(&Options { config, ..Options::default() });
    let mut client = Client::connect(server.rtsp);
    let transport = [("Transport", "RTP/AVP;multicast")];
    let track = format!("{}/trackID=1", server.demo_url());
    assert_eq!(client.request("SETUP", &track, &transport).status, 461);
    let url = server.url("live/a");
    let _publisher = publish(&url, "tcp", &AGAIN);
    wait_until_url_is_described(&server, &url);
    let mut member = Member::open(server.rtsp, &url);
    until("it has reported for longer than it may be silent", || {
        member.report();
        member.receive();
        readers(server.admin)[0]["age_s"].as_f64().unwrap() > 8.0
    });
    drop(member);
    until("nobody is left", || readers(server.admin).is_empty());
    let paths = list(get_json(server.admin, "/v1/paths"));
    assert!(paths[0]["group"].is_null(), "{paths:?}");
}

#[test]
fn players_decode_what_was_published() {
    in_own_network(module_path!(), "players_decode_what_was_published", ROUTE, decoded_by_players);
}

fn decoded_by_players() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    // Apart: GStreamer says BYE to the group when it hears itself there, and when it leaves, and
    // FFmpeg takes any BYE for the sender's.
    let urls = ["live/a", "live/b"].map(|path| server.url(path));
    let mut publishers = urls.each_ref().map(|url| publish(url, "tcp", &["-t", "9"]));
    urls.iter().for_each(|url| wait_until_url_is_described(&server, url));
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = |name: &str| outputs.path().join(name);
    let mut players = [
        ("ffmpeg", ffmpeg(&urls[0], &to("one"))),
        ("another ffmpeg", ffmpeg(&urls[0], &to("two"))),
        ("gstreamer", gstreamer(&urls[1], &to("three.h264"), &to("log"))),
    ];
    until("three listen", || {
        let playing = readers(server.admin).iter().filter(|s| s["state"] == "playing").count();
        playing == 3
    });
    until("players report to their groups", || {
        metric(server.admin, "headend_rtcp_reports_received_total").is_some_and(|n| n > 2.0)
    });
    publishers.iter_mut().for_each(|publisher| publisher.assert_ends_well("publisher"));
    for (what, player) in &mut players {
        let status = wait_for(&mut player.0, PLAYER_PATIENCE);
        let is_well = status.is_some_and(|status| status.success());
        // The exit code of gst-launch says little: see `support::players::launch_to_the_end`.
        assert!(is_well || *what == "gstreamer" && status.is_some(), "{what}: {status:?}");
    }
    let frames = published_frames("9");
    let coded = to("three.h264").to_string_lossy().into_owned();
    let framed = |name| frames_in(&to(name));
    let got = [framed("one"), framed("two"), decoded_frames(&["-f", "h264", "-i", &coded], 0)];
    for ((what, _), got) in players.iter().zip(&got) {
        assert_read_to_the_end(what, got, &frames);
    }
}

#[test]
fn player_on_another_host_receives_the_group_and_its_reports_arrive() {
    in_own_network(
        module_path!(),
        "player_on_another_host_receives_the_group_and_its_reports_arrive",
        "true",
        over_a_cable,
    );
}

/// By the default route alone, as on most hosts.
fn over_a_cable() {
    let other = OtherHost::connect();
    let server = Server::start(&Options { listen: "0.0.0.0:0", shards: "2", ..Options::default() });
    let at = |ip: &str| format!("rtsp://{ip}:{}/live/a", server.rtsp.port());
    let mut publisher = publish(&at("127.0.0.1"), "tcp", &["-t", "9"]);
    wait_until_url_is_described(&server, &at("127.0.0.1"));
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = outputs.path().join("clip.h264");
    let log = outputs.path().join("log");
    // FFmpeg reports nothing when it listens to a group.
    let player = other.command("gst-launch-1.0");
    let mut player = gstreamer_as(player, &at(OtherHost::HERE), &to, &log);
    until("its reports have come to the group", || {
        let sessions = readers(server.admin);
        let session = sessions.first().filter(|s| s["transport"] == "multicast");
        session.is_some_and(|s| s["streams"][0]["fraction_lost"].is_number())
    });
    let session = readers(server.admin)[0].clone();
    assert!(session["peer"].as_str().unwrap().starts_with(OtherHost::THERE), "{session}");
    publisher.assert_ends_well("publisher");
    assert!(wait_for(&mut player.0, PLAYER_PATIENCE).is_some(), "the player ends");
    let got = decoded_frames(&["-f", "h264", "-i", to.to_str().unwrap()], 0);
    assert_read_to_the_end("over a cable", &got, &published_frames("9"));
}

/// A player that was set up by multicast.
struct Member {
    client: Client,
    base: String,
    id: String,
    streams: Vec<Stream>,
}

struct Stream {
    group: SocketAddr,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    packets: Vec<Rtp>,
    reports: Vec<Rtcp>,
}

impl Member {
    /// SETUP of all tracks, and PLAY.
    fn open(server: SocketAddr, url: &str) -> Self {
        let mut client = Client::connect(server);
        let (base, sdp) = describe(&mut client, url);
        let mut member = Self { client, base, id: String::new(), streams: Vec::new() };
        for media in &sdp.media {
            let url = joined(&member.base, &media.control);
            let mut headers = vec![("Transport", "RTP/AVP;multicast;destination=239.1.1.1")];
            let id = member.id.clone();
            if !id.is_empty() {
                headers.push(("Session", &id));
            }
            let setup = member.client.request("SETUP", &url, &headers).expect(200);
            member.id = setup.session_id();
            member.streams.push(Stream::join(&setup));
        }
        let played = member.request("PLAY");
        assert_eq!(played.header("RTP-Info").unwrap().matches("url=").count(), 2);
        member
    }

    fn request(&mut self, method: &str) -> Response {
        let id = self.id.clone();
        self.client.request(method, &self.base, &[("Session", &id)]).expect(200)
    }

    fn teardown(mut self) {
        self.request("TEARDOWN");
    }

    /// Takes in what has come; how many packets there are now.
    fn receive(&mut self) -> usize {
        let mut block = [0; 65_536];
        for stream in &mut self.streams {
            while let Ok(bytes) = stream.rtp.recv(&mut block) {
                stream.packets.push(Rtp::parse(&block[..bytes]));
            }
            while let Ok(bytes) = stream.rtcp.recv(&mut block) {
                stream.reports.extend(parse_compound(&block[..bytes]));
            }
        }
        self.count()
    }

    fn count(&self) -> usize {
        self.streams.iter().map(|stream| stream.packets.len()).sum()
    }

    fn ssrcs(&self) -> BTreeSet<u32> {
        self.streams.iter().flat_map(|stream| &stream.packets).map(|packet| packet.ssrc).collect()
    }

    fn assert_no_gaps(&self) {
        for stream in &self.streams {
            for pair in stream.packets.windows(2) {
                assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1), "{}", stream.group);
            }
        }
    }

    fn has_sender_reports(&self) -> bool {
        let is_one = |report: &Rtcp| matches!(report, Rtcp::SenderReport { .. });
        self.streams.iter().all(|stream| stream.reports.iter().any(is_one))
    }

    /// An empty receiver report to the group, as a player sends it.
    fn report(&self) {
        let stream = &self.streams[0];
        let to = SocketAddr::new(stream.group.ip(), stream.group.port() + 1);
        stream.rtcp.send_to(&[0x80, 201, 0, 1, 0, 0, 0, 7], to).unwrap();
    }
}

impl Stream {
    /// Joins the group that the answer to SETUP names.
    fn join(setup: &Response) -> Self {
        assert_eq!(setup.transport("ttl"), Some("8"));
        assert_eq!(setup.transport("source"), Some("127.0.0.1"));
        let group: Ipv4Addr = setup.transport("destination").unwrap().parse().unwrap();
        assert_eq!(group.octets()[..2], [239, 255], "not what was wished for");
        let (rtp, rtcp) = setup.transport("port").unwrap().split_once('-').unwrap();
        let at = |port: &str| SocketAddr::new(group.into(), port.parse().unwrap());
        let (group, rtcp) = (at(rtp), at(rtcp));
        let [rtp, rtcp] = [group, rtcp].map(listen);
        Self { group, rtp, rtcp, packets: Vec::new(), reports: Vec::new() }
    }
}

fn listen(group: SocketAddr) -> UdpSocket {
    let SocketAddr::V4(v4) = group else { panic!("{group} is no group of IPv4") };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_recv_buffer_size(8 << 20).unwrap();
    socket.bind(&group.into()).unwrap();
    socket.join_multicast_v4(v4.ip(), &Ipv4Addr::UNSPECIFIED).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

fn ffmpeg(url: &str, to: &Path) -> Kept {
    let mut command = player(url, "udp_multicast");
    command.args(["-map", "0:0", "-fps_mode", "passthrough", "-f", "framemd5"]).arg(to);
    Kept::start(&mut command)
}

fn gstreamer(url: &str, to: &Path, log: &Path) -> Kept {
    gstreamer_as(Command::new("gst-launch-1.0"), url, to, log)
}

fn gstreamer_as(command: Command, url: &str, to: &Path, log: &Path) -> Kept {
    let pipeline = format!(
        "rtspsrc location={url} protocols=udp-mcast udp-buffer-size=8000000 name=s \
         s. ! rtph264depay ! video/x-h264,stream-format=byte-stream,alignment=au \
         ! identity single-segment=true ! filesink location={} \
         s. ! rtpmp4gdepay ! fakesink",
        to.display()
    );
    launch_as(command, &pipeline, log)
}
