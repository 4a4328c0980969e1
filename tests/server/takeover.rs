//! A new server takes over from the one that runs: players notice nothing, and whatever fails
//! leaves the old one as it was.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

mod changes;
mod manager;
mod right;
mod steps;

use std::io::Write as _;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path as FilePath;
use std::thread;

use headend::takeover::frame::{HEAD_BYTES, Head};
use headend::takeover::{Hello, ToNew, ToOld};
use tempfile::TempDir;

use crate::support::http::{get_json, list, metric, sessions};
use crate::support::rtp::{Rtp, assert_contiguous, receiver_report};
use crate::support::rtsp::Client;
use crate::support::secure::{SecureClient, certify, url};
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Path, Session};
use crate::support::takeover::{Site, read_message};
use crate::support::wait::{PATIENCE, until};
use crate::support::{demo_clip, scratch};

/// All packets of the clip, from a server that nobody takes over from.
fn witness() -> Session {
    let server = Server::start(&Options::default());
    let mut witness = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    witness.play(&[]);
    witness.receive_until_bye(PATIENCE);
    witness
}

/// Packets of a title are those of another player of it, number by number and tick by tick.
fn assert_same_title(what: &str, got: &[Rtp], all: &[Rtp]) {
    assert_contiguous(got);
    assert!(got.len() > 20 && got.len() <= all.len(), "{what}: {} of {}", got.len(), all.len());
    let since = |packets: &[Rtp], n: usize| packets[n].timestamp.wrapping_sub(packets[0].timestamp);
    for (n, packet) in got.iter().enumerate() {
        assert_eq!(packet.ssrc, got[0].ssrc, "{what}: packet {n}");
        assert_eq!(since(got, n), since(all, n), "{what}: time of packet {n}");
        assert!(packet.payload == all[n].payload, "{what}: bytes of packet {n}");
    }
}

pub(crate) fn assert_ended_well(old: &mut Server) {
    let status = old.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", old.log());
}

#[test]
fn player_of_a_title_notices_nothing_whatever_the_number_of_shards() {
    let all = witness();
    thread::scope(|scope| {
        for (before, after) in [("1", "1"), ("3", "2"), ("1", "3")] {
            let all = &all;
            scope.spawn(move || play_over_a_takeover(before, after, all));
        }
    });
}

fn play_over_a_takeover(before: &str, after: &str, all: &Session) {
    let site = Site::new("");
    let mut old = site.start(before);
    let mut players =
        [Lower::Udp, Lower::Tcp, Lower::Udp].map(|to| Session::open(old.rtsp, &old.demo_url(), to));
    for player in &mut players {
        player.play(&[]);
        player.receive_packets(5, PATIENCE);
    }
    let new = site.take_over(after, "--takeover");
    assert_eq!((new.rtsp, new.admin), (old.rtsp, old.admin), "the same ports");
    assert_ended_well(&mut old);
    assert_eq!(sessions(new.admin).len(), players.len());
    for player in &mut players {
        player.receive_packets(3, PATIENCE);
        // By its own connection, and by another one.
        player.request("GET_PARAMETER", &[]).expect(200);
        if let Path::Udp(_) = player.streams[0].path {
            let mut other = Client::connect(new.rtsp);
            let header = [("Session", player.id.as_str())];
            other.request("GET_PARAMETER", &player.base, &header).expect(200);
        }
    }
    // Reports find their streams.
    for player in &mut players {
        for stream in &player.streams {
            let last = stream.packets.last().unwrap();
            let report = receiver_report(7, last.ssrc, last.seq.into());
            match &stream.path {
                Path::Udp(pair) => {
                    let mut to = player.client.stream().peer_addr().unwrap();
                    to.set_port(stream.server_ports().1);
                    pair.rtcp.send_to(&report, to).unwrap();
                }
                Path::Tcp { rtcp, .. } => {
                    let bytes = crate::support::publish::interleaved(*rtcp, &report);
                    player.client.stream().write_all(&bytes).unwrap();
                }
            }
        }
        until("its reports are heard", || {
            let info = get_json(new.admin, &format!("/v1/sessions/{}", player.id));
            let mut streams = info["streams"].as_array().unwrap().iter();
            streams.all(|stream| stream["packets_lost"] == 5)
        });
    }
    for (n, player) in players.iter_mut().enumerate() {
        player.receive_until_bye(PATIENCE);
        for (stream, of_all) in player.streams.iter().zip(&all.streams) {
            let what = format!("{before} to {after}, {n}: {}", stream.media.kind);
            assert_same_title(&what, &stream.packets, &of_all.packets);
            assert_eq!(stream.packets.len(), of_all.packets.len(), "{what}");
            if let Path::Udp(_) = stream.path {
                let (rtp, rtcp) = stream.server_ports();
                for (is_rtp, from) in &stream.senders {
                    assert_eq!(from.port(), if *is_rtp { rtp } else { rtcp }, "{what}");
                }
            }
        }
        player.request("TEARDOWN", &[]).expect(200);
    }
    until("no session is left", || metric(new.admin, "headend_sessions").unwrap() < 0.5);
    drop(players);
    // A new player finds all as it was.
    let mut next = Session::open(new.rtsp, &new.demo_url(), Lower::Udp);
    next.play(&[]);
    next.receive_packets(5, PATIENCE);
    assert_eq!(metric(new.admin, "headend_panics_total"), Some(0.0));
}

#[test]
fn ten_takeovers_in_a_row_lose_and_double_nothing() {
    let all = witness();
    let site = Site::new("");
    let mut server = site.start("2");
    let mut players =
        [Lower::Udp, Lower::Tcp].map(|to| Session::open(server.rtsp, &server.demo_url(), to));
    for player in &mut players {
        player.play(&[]);
    }
    for _ in 0..10 {
        for player in &mut players {
            player.receive_packets(1, PATIENCE);
        }
        let new = site.take_over("2", "--takeover");
        assert_ended_well(&mut server);
        server = new;
    }
    for player in &mut players {
        player.receive_until_bye(PATIENCE);
        for (stream, of_all) in player.streams.iter().zip(&all.streams) {
            assert_same_title(&stream.media.kind, &stream.packets, &of_all.packets);
        }
    }
}

#[test]
fn pauses_idle_connections_and_half_a_request_are_taken_over() {
    let all = witness();
    let site = Site::new("");
    let mut old = site.start("2");
    let mut paused = Session::open(old.rtsp, &old.demo_url(), Lower::Udp);
    paused.play(&[]);
    paused.receive_packets(5, PATIENCE);
    paused.request("PAUSE", &[]).expect(200);
    paused.drain();
    let mut set_up = Session::open(old.rtsp, &old.demo_url(), Lower::Tcp);
    let silent = Client::connect(old.rtsp);
    let mut talking = Client::connect(old.rtsp);
    talking.request("OPTIONS", "*", &[]).expect(200);
    let mut half = Client::connect(old.rtsp);
    half.request("OPTIONS", "*", &[]).expect(200);
    half.send_raw("OPTIONS * RTSP/1.0\r\nCSeq: 77\r\nX-Half");
    // The server has read it: nothing is left in the socket.
    until("half a request is read", || {
        let rows = list(get_json(old.admin, "/v1/limits"));
        let held = rows.iter().filter(|row| row["what"] == "requests_held_bytes");
        held.filter_map(|row| row["used"].as_u64()).sum::<u64>() > 30
    });
    let new = site.take_over("2", "--takeover");
    assert_ended_well(&mut old);
    half.send_raw(": 1\r\n\r\n");
    let answer = half.response().expect(200);
    assert_eq!(answer.header("CSeq"), Some("77"));
    talking.request("OPTIONS", "*", &[]).expect(200);
    let mut silent = silent;
    silent.request("OPTIONS", "*", &[]).expect(200);
    set_up.play(&[]);
    set_up.receive_packets(5, PATIENCE);
    paused.play(&[]);
    paused.receive_until_bye(PATIENCE);
    for stream in &paused.streams {
        assert_contiguous(&stream.packets);
    }
    let bytes = |session: &Session| {
        session.streams[0].packets.iter().map(|p| p.payload.clone()).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&paused), bytes(&all));
    assert_eq!(metric(new.admin, "headend_panics_total"), Some(0.0));
}

/// A program that speaks the protocol and stops where the test says.
pub(crate) struct Peer {
    stream: UnixStream,
    /// The right to go on.
    right: Option<OwnedFd>,
}

impl Peer {
    pub(crate) fn connect(site: &Site) -> Self {
        Self::to(&site.socket())
    }

    pub(crate) fn to(socket: &FilePath) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, right: None }
    }

    pub(crate) fn say(&mut self, message: &ToOld) -> std::io::Result<()> {
        let body = serde_json::to_vec(message).unwrap();
        let head =
            Head { bytes: u32::try_from(body.len()).unwrap(), descriptors: 0, is_apart: false };
        self.stream.write_all(&[&head.to_bytes()[..], &body].concat())
    }

    /// The next message. Of its descriptors the right is kept.
    pub(crate) fn hear(&mut self) -> ToNew {
        let (bytes, mut files) = read_message(&self.stream).unwrap();
        let message = serde_json::from_slice(&bytes[HEAD_BYTES..]).unwrap();
        if let ToNew::Offer(offer) = &message {
            self.right = Some(files.swap_remove(offer.right.0 as usize));
        }
        message
    }

    /// Takes the right to go on; false: the server has it.
    pub(crate) fn take_right(&self) -> bool {
        rustix::io::read(self.right.as_ref().unwrap(), &mut [0; 8]).is_ok()
    }

    pub(crate) fn hear_refusal(&mut self) -> String {
        // Bounded by the shards of the server, and its end.
        for _ in 0..16 {
            if let ToNew::Refused { why } = self.hear() {
                return why;
            }
        }
        panic!("no refusal came");
    }

    pub(crate) fn hello(&mut self) {
        self.say(&ToOld::Hello(Hello::new("test", false))).unwrap();
        assert!(matches!(self.hear(), ToNew::Offer(_)));
    }

    pub(crate) fn freeze(&mut self) {
        self.hello();
        self.say(&ToOld::Freeze).unwrap();
    }

    pub(crate) fn hear_all(&mut self) {
        self.freeze();
        until("all records have come", || matches!(self.hear(), ToNew::Frozen));
    }
}

#[test]
fn old_server_goes_on_when_the_new_one_dies_refuses_or_is_late_at_any_step() {
    let all = witness();
    let site = Site::new("");
    let mut server = site.start("2");
    let mut players =
        [Lower::Udp, Lower::Tcp].map(|to| Session::open(server.rtsp, &server.demo_url(), to));
    for player in &mut players {
        player.play(&[]);
        player.receive_packets(2, PATIENCE);
    }
    type Step = fn(&mut Peer);
    let steps: [(&str, Step); 7] = [
        ("it says nothing", |_| {}),
        ("it says something else", |peer| {
            peer.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap()
        }),
        ("it dies after the offer", Peer::hello),
        ("it dies after it has asked for the sessions", Peer::freeze),
        ("it dies when it has one record", |peer| {
            peer.freeze();
            assert!(matches!(peer.hear(), ToNew::Shard(_)));
        }),
        ("it dies when it has all records", Peer::hear_all),
        ("it refuses them", |peer| {
            peer.hear_all();
            peer.say(&ToOld::Refused { why: "as the test wants it".to_owned() }).unwrap();
            assert!(peer.hear_refusal().contains("as the test wants it"));
        }),
    ];
    for (what, step) in steps {
        let mut peer = Peer::connect(&site);
        step(&mut peer);
        drop(peer);
        println!("{what}");
        for player in &mut players {
            player.receive_packets(2, PATIENCE);
            player.request("GET_PARAMETER", &[]).expect(200);
        }
        Client::connect(server.rtsp).request("OPTIONS", "*", &[]).expect(200);
    }
    // One that is late is told so, and cannot take over any more.
    let mut late = Peer::connect(&site);
    late.hear_all();
    let why = late.hear_refusal();
    assert!(why.contains("in time"), "{why}");
    assert!(!late.take_right(), "it has come too late");
    drop(late);
    server.assert_alive();
    for player in &mut players {
        player.receive_until_bye(PATIENCE);
        for (stream, of_all) in player.streams.iter().zip(&all.streams) {
            assert_same_title(&stream.media.kind, &stream.packets, &of_all.packets);
        }
    }
    assert_eq!(metric(server.admin, "headend_sessions_failed_total"), Some(0.0));
}

#[test]
fn version_that_is_not_known_is_refused_with_a_sentence() {
    let site = Site::new("");
    let mut server = site.start("1");
    let mut peer = Peer::connect(&site);
    let versions = vec![7, 8];
    peer.say(&ToOld::Hello(Hello { versions, ..Hello::new("9.0", false) })).unwrap();
    let why = peer.hear_refusal();
    assert!(why.contains("[7, 8]") && why.contains("[1]"), "{why}");
    server.assert_alive();
}

#[test]
fn other_user_may_not_take_over() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let site = Site::new("");
    let mut server = site.start("1");
    let open = |path: &FilePath, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // Somebody opens the door: who comes in is asked all the same.
    for path in [site.state.path(), site.socket().parent().unwrap()] {
        open(path, 0o711);
    }
    open(&site.socket(), 0o666);
    open(scratch(), 0o711);
    let socket = site.socket();
    // The user of a thread is its own, and goes with it.
    let told = thread::spawn(move || {
        let user = rustix::process::Uid::from_raw(65_532);
        rustix::thread::set_thread_res_uid(Some(user), Some(user), Some(user)).unwrap();
        Peer::to(&socket).hear_refusal()
    });
    let told = told.join().unwrap();
    assert!(told.contains("user 65532 may not take over"), "{told}");
    server.assert_alive();
}

#[test]
fn nobody_to_take_over_from_and_two_servers_of_one_folder_are_told() {
    let site = Site::new("");
    let refused = site.refused("1");
    assert!(refused.contains("no server to take over from"), "{refused}");
    let mut server = site.start("1");
    let second = site.start("1");
    assert!(second.banner.contains("HE-W124"), "{}", second.banner);
    drop(second);
    assert!(site.socket().exists(), "it is the first one's");
    server.assert_alive();
    drop(server);
    assert!(!site.socket().exists(), "it goes with its server");
}

#[test]
fn what_cannot_be_handed_over_is_named_and_ends_only_if_that_is_wanted() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let tls = certify(folder.path(), &[]);
    let mut site = Site::new("");
    site.config = tls + &site.config;
    let mut old = site.start("2");
    let mut title = Session::open(old.rtsp, &old.demo_url(), Lower::Udp);
    title.play(&[]);
    let mut secure = SecureClient::connect(old.rtsps());
    let track = format!("{}/trackID=0", url(&old, "demo"));
    let transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
    let (status, _) = secure.request("SETUP", &track, &[transport]);
    assert_eq!(status, 200);
    let refused = site.refused("2");
    for part in ["1 sessions", "1 over TLS", "--takeover=drop"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    old.assert_alive();
    title.receive_packets(5, PATIENCE);
    let new = site.take_over("2", "--takeover=drop");
    assert_ended_well(&mut old);
    title.receive_until_bye(PATIENCE);
    for stream in &title.streams {
        assert_contiguous(&stream.packets);
    }
    assert_eq!(sessions(new.admin).len(), 1);
}

/// A title of a minute, in a folder of its own.
fn long_title() -> TempDir {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let (clip, to) = (demo_clip(), folder.path().join("long.mp4"));
    let quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-stream_loop", "9"];
    let files = ["-i", clip.to_str().unwrap(), "-c", "copy", to.to_str().unwrap()];
    crate::support::process::run("ffmpeg", &[&quiet[..], &files].concat());
    folder
}

#[test]
fn client_that_does_not_read_loses_nothing() {
    let folder = long_title();
    let mut site = Site::new("");
    site.folder = Some(folder.path().to_owned());
    let mut old = site.start("2");
    let url = old.vod_url("long.mp4");
    let mut whole = Session::open(old.rtsp, &url, Lower::Tcp);
    let mut slow = Session::open(old.rtsp, &url, Lower::Tcp);
    let fast = [("Speed", "8"), ("Scale", "1")];
    whole.play(&fast);
    slow.play(&fast);
    // Nothing is read of the second one: the socket is full when the server is taken over.
    whole.receive_packets(200, PATIENCE);
    until("its socket is full", || {
        rustix::io::ioctl_fionread(slow.client.stream()).unwrap() > 60_000
    });
    let _new = site.take_over("2", "--takeover");
    assert_ended_well(&mut old);
    whole.receive_until_bye(PATIENCE);
    slow.receive_until_bye(PATIENCE);
    for (slow, whole) in slow.streams.iter().zip(&whole.streams) {
        assert_eq!(slow.packets.len(), whole.packets.len(), "{}", slow.media.kind);
        assert_same_title(&slow.media.kind, &slow.packets, &whole.packets);
    }
}

/// Sessions that were made on a second shard live on the only one for a while, and go back.
#[test]
fn session_by_udp_goes_from_two_shards_to_one_and_back() {
    let all = witness();
    thread::scope(|scope| {
        for rtp_port in [0, free_ports()] {
            let all = &all;
            scope.spawn(move || go_back_and_forth(rtp_port, all));
        }
    });
}

fn go_back_and_forth(rtp_port: u16, all: &Session) {
    let mut site = Site::new("");
    site.rtp_port = rtp_port.to_string();
    let mut server = site.start("2");
    // The kernel spreads connections over the shards: each is to have one.
    let is_on = |shard: &str, players: &[Session]| players.iter().any(|p| p.id.starts_with(shard));
    let mut players: Vec<Session> = Vec::new();
    for _ in 0..64 {
        if is_on("00", &players) && is_on("01", &players) {
            break;
        }
        players.push(Session::open(server.rtsp, &server.demo_url(), Lower::Udp));
    }
    assert!(is_on("00", &players) && is_on("01", &players));
    for player in &mut players {
        player.play(&[]);
        player.receive_packets(2, PATIENCE);
    }
    for shards in ["1", "2", "4", "2"] {
        let new = site.take_over(shards, "--takeover");
        assert_ended_well(&mut server);
        server = new;
        for player in &mut players {
            player.receive_packets(2, PATIENCE);
            // By another connection, wherever that comes in.
            let header = [("Session", player.id.as_str())];
            let mut other = Client::connect(server.rtsp);
            other.request("GET_PARAMETER", &player.base, &header).expect(200);
        }
    }
    for player in &mut players {
        player.receive_until_bye(PATIENCE);
        for (stream, of_all) in player.streams.iter().zip(&all.streams) {
            assert_same_title(&stream.media.kind, &stream.packets, &of_all.packets);
        }
    }
}

/// The first of eight ports that nobody has.
fn free_ports() -> u16 {
    let own = 2 * u16::try_from(std::process::id() % 8).unwrap();
    let are_free = |first: &u16| {
        let sockets = (*first..first + 8).map(|port| UdpSocket::bind(("0.0.0.0", port)));
        let held: Vec<_> = sockets.collect();
        held.iter().all(Result::is_ok)
    };
    (20_000..30_000).step_by(16).map(|port| port + own).find(are_free).unwrap()
}

/// What the kernel has not taken of a send with TLS was encrypted a second time.
#[test]
fn connection_with_tls_goes_on_when_a_takeover_fails() {
    let folder = long_title();
    let keys = tempfile::tempdir_in(scratch()).unwrap();
    let mut site = Site::new("");
    site.folder = Some(folder.path().to_owned());
    site.config = certify(keys.path(), &[]) + &site.config;
    let mut server = site.start("1");
    let title = url(&server, "vod/long.mp4");
    let mut client = SecureClient::connect(server.rtsps());
    let transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
    let (status, answer) = client.request("SETUP", &format!("{title}/trackID=0"), &[transport]);
    assert_eq!(status, 200, "{answer}");
    let session = answer.lines().find_map(|line| line.strip_prefix("Session: ")).unwrap();
    let session = session.split(';').next().unwrap().to_owned();
    let headers = [("Session", session.as_str()), ("Speed", "32"), ("Scale", "1")];
    let (status, answer) = client.request("PLAY", &title, &headers);
    assert_eq!(status, 200, "{answer}");
    for _ in 0..3 {
        // Nothing is read: a send is under way when the sessions are recorded.
        client.wait_until_full();
        let mut peer = Peer::connect(&site);
        peer.say(&ToOld::Hello(Hello::new("test", true))).unwrap();
        assert!(matches!(peer.hear(), ToNew::Offer(_)));
        peer.say(&ToOld::Freeze).unwrap();
        until("all records have come", || matches!(peer.hear(), ToNew::Frozen));
        drop(peer);
        let mut last: Option<u16> = None;
        for _ in 0..300 {
            let (channel, packet) = client.frame();
            if channel == 0 {
                let seq = u16::from_be_bytes([packet[2], packet[3]]);
                assert!(
                    last.is_none_or(|last| seq == last.wrapping_add(1)),
                    "{seq} after {last:?}"
                );
                last = Some(seq);
            }
        }
    }
    server.assert_alive();
    assert_eq!(metric(server.admin, "headend_send_errors_total"), Some(0.0));
}
