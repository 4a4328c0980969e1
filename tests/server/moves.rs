//! Sessions that move between shards while they play: what a client gets is what it would have got.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rand::RngExt;
use serde_json::json;

use crate::support::http::{get_json, metric, post_text, sessions};
use crate::support::players::publish;
use crate::support::process::{run, run_any};
use crate::support::publish::{Publisher, SOUND};
use crate::support::rtp::{Rtcp, Rtp, assert_contiguous, receiver_report};
use crate::support::rtsp::Client;
use crate::support::secure::{SecureClient, start, url};
use crate::support::server::{Options, Server, binary};
use crate::support::session::{Lower, Path, Session, Stream};
use crate::support::tunnel::Tunnel;
use crate::support::wait::{PATIENCE, until, until_within};
use crate::support::{demo_clip, scratch};

const SHARDS: u8 = 3;
/// Reports of these tests say that packets were lost: pictures are not to be thinned for that.
const CONFIG: &str = "[vod]\nquality = \"off\"\n[path.\"live/a\"]\n";

fn serve(folder: Option<&FilePath>) -> Server {
    Server::start(&Options { shards: "3", folder, config: Some(CONFIG), ..Options::default() })
}

fn ask(server: &Server, id: &str, shard: u8) -> (u16, String) {
    post_text(server.admin, &format!("/v1/sessions/{id}/move"), &format!("{{\"shard\":{shard}}}"))
}

/// Moves a session; where something was under way for too long it is asked again.
fn move_to(server: &Server, id: &str, shard: u8) {
    until("it is moved", || match ask(server, id, shard) {
        (200, _) => true,
        (503, _) => false,
        (status, text) => panic!("{status}: {text}"),
    });
    assert_eq!(get_json(server.admin, &format!("/v1/sessions/{id}"))["shard"], shard);
}

fn shard_of(server: &Server, id: &str) -> u8 {
    let shard = get_json(server.admin, &format!("/v1/sessions/{id}"))["shard"].as_u64();
    u8::try_from(shard.unwrap()).unwrap()
}

/// Datagrams come from the ports that SETUP told, whatever shard sends them.
fn assert_ports(stream: &Stream) {
    let Path::Udp(_) = &stream.path else { return };
    let (rtp, rtcp) = stream.server_ports();
    for (is_rtp, from) in &stream.senders {
        assert_eq!(from.port(), if *is_rtp { rtp } else { rtcp }, "{:?}", stream.senders);
    }
    // A live stream has reports when its source has told its clock.
    assert!(stream.senders.iter().any(|(is_rtp, _)| *is_rtp), "{:?}", stream.senders);
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

/// Packets of a live path are those that the source sent, without a gap.
fn assert_same_live(what: &str, got: &[Rtp], all: &HashMap<u16, Rtp>) {
    assert_contiguous(got);
    assert!(got.len() > 4, "{what}: {} packets", got.len());
    for packet in got {
        // The other reader may have begun later, or ended earlier.
        if let Some(same) = all.get(&packet.seq) {
            assert!(packet == same, "{what}: packet {}", packet.seq);
        }
    }
}

/// Counts of sender reports go up, and their times run together.
fn assert_reports(what: &str, reports: &[Rtcp], clock_rate_hz: f64) {
    let reports: Vec<(u64, u32, u32)> = reports
        .iter()
        .filter_map(|report| match report {
            Rtcp::SenderReport { ntp, timestamp, packets, .. } => {
                Some((*ntp, *timestamp, *packets))
            }
            _ => None,
        })
        .collect();
    for pair in reports.windows(2) {
        let [(ntp, ts, packets), (later, later_ts, later_packets)] = [pair[0], pair[1]];
        assert!(later_packets >= packets, "{what}: {reports:?}");
        #[expect(clippy::cast_precision_loss, reason = "seconds of a test")]
        let seconds = later.wrapping_sub(ntp) as f64 / 4_294_967_296.0;
        let ticks = f64::from(later_ts.wrapping_sub(ts).cast_signed());
        assert!((ticks / clock_rate_hz - seconds).abs() < 0.01, "{what}: {pair:?}");
    }
}

#[test]
fn player_notices_nothing_of_a_move_and_is_commanded_and_heard_everywhere() {
    for lower in [Lower::Udp, Lower::Tcp] {
        let server = serve(None);
        let mut witness = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
        let mut session = Session::open(server.rtsp, &server.demo_url(), lower);
        witness.play(&[]);
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
        let (id, home) = (session.id.clone(), shard_of(&server, &session.id));
        for step in [1, 2, 0, 2, 1, 0] {
            let shard = (home + step) % SHARDS;
            move_to(&server, &id, shard);
            session.receive_packets(3, PATIENCE);
            // By its own connection, and by one of any shard.
            session.request("GET_PARAMETER", &[]).expect(200);
            if lower == Lower::Udp {
                let mut other = Client::connect(server.rtsp);
                other.request("GET_PARAMETER", &server.demo_url(), &[("Session", &id)]).expect(200);
            }
            let listed = sessions(server.admin).iter().filter(|one| one["id"] == *id).count();
            assert_eq!(listed, 1, "in the list, once");
        }
        // Its reports find it away from home.
        move_to(&server, &id, (home + 1) % SHARDS);
        for stream in &session.streams {
            let last = stream.packets.last().unwrap();
            let report = receiver_report(7, last.ssrc, last.seq.into());
            match &stream.path {
                Path::Udp(pair) => {
                    let mut to = session.client.stream().peer_addr().unwrap();
                    to.set_port(stream.server_ports().1);
                    pair.rtcp.send_to(&report, to).unwrap();
                }
                Path::Tcp { rtcp, .. } => {
                    let bytes = crate::support::publish::interleaved(*rtcp, &report);
                    session.client.stream().write_all(&bytes).unwrap();
                }
            }
        }
        until("its reports are heard", || {
            let info = get_json(server.admin, &format!("/v1/sessions/{id}"));
            info["streams"].as_array().unwrap().iter().all(|stream| stream["packets_lost"] == 5)
        });
        // A pause, and a seek, as at home.
        session.request("PAUSE", &[]).expect(200);
        move_to(&server, &id, (home + 2) % SHARDS);
        session.drain();
        let paused: Vec<usize> = session.streams.iter().map(|s| s.packets.len()).collect();
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
        witness.receive_until_bye(PATIENCE);
        session.receive_until_bye(PATIENCE);
        for (n, stream) in session.streams.iter().enumerate() {
            let what = format!("{lower:?} {}", stream.media.kind);
            assert_same_title(&what, &stream.packets[..paused[n]], &witness.streams[n].packets);
            assert_contiguous(&stream.packets);
            assert_ports(stream);
        }
        session.request("TEARDOWN", &[]).expect(200);
        until("nothing is away", || metric(server.admin, "headend_sessions_away") == Some(0.0));
        // The addresses are free at home, too.
        let left = || metric(server.admin, "headend_sessions").unwrap();
        witness.request("TEARDOWN", &[]).expect(200);
        until("no session is left", || left() < 0.5);
    }
}

#[test]
fn reader_of_a_live_path_moves_without_a_gap() {
    for lower in [Lower::Udp, Lower::Tcp] {
        let server = serve(None);
        let _publisher = publish(&server.url("live/a"), "tcp", &["-stream_loop", "-1"]);
        until("it is live", || crate::support::live::state(&server, "live/a") == "live");
        let mut witness = Session::open(server.rtsp, &server.url("live/a"), Lower::Tcp);
        let mut session = Session::open(server.rtsp, &server.url("live/a"), lower);
        witness.play(&[]);
        session.play(&[]);
        session.receive_packets(2, PATIENCE);
        let home = shard_of(&server, &session.id);
        for step in [1, 2, 0, 2, 1, 0, 1] {
            move_to(&server, &session.id, (home + step) % SHARDS);
            session.receive_packets(1, PATIENCE);
            session.request("GET_PARAMETER", &[]).expect(200);
        }
        session.receive_packets(4, PATIENCE);
        witness.drain();
        for (stream, other) in session.streams.iter().zip(&witness.streams) {
            let all: HashMap<u16, Rtp> =
                other.packets.iter().map(|packet| (packet.seq, packet.clone())).collect();
            let what = format!("{lower:?} {}", stream.media.kind);
            assert_same_live(&what, &stream.packets, &all);
            assert_ports(stream);
        }
        assert_eq!(metric(server.admin, "headend_path_reader_skips_total"), Some(0.0));
        // What it was sent on all its shards, and of the path once.
        let info = get_json(server.admin, &format!("/v1/sessions/{}", session.id));
        let streams = info["streams"].as_array().unwrap().iter();
        let sent: u64 = streams.map(|stream| stream["packets_sent"].as_u64().unwrap()).sum();
        assert_eq!(info["reader"]["packets_sent"], sent, "{info}");
        session.request("TEARDOWN", &[]).expect(200);
        until("nothing is away", || metric(server.admin, "headend_sessions_away") == Some(0.0));
    }
}

/// A title of several minutes, in a folder of its own.
fn long_title() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let (clip, to) = (demo_clip(), folder.path().join("long.mp4"));
    let quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-stream_loop", "19"];
    let files = ["-i", clip.to_str().unwrap(), "-c", "copy", to.to_str().unwrap()];
    run("ffmpeg", &[&quiet[..], &files].concat());
    folder
}

/// Receives until it is told to stop, and talks meanwhile.
fn play_until(server: &Server, mut session: Session, is_over: &AtomicBool) -> Session {
    session.play(&[]);
    let mut other = Client::connect(server.rtsp);
    let is_udp = matches!(session.streams[0].path, Path::Udp(_));
    while !is_over.load(Ordering::Relaxed) {
        session.receive_until(Duration::from_millis(100), |_| is_over.load(Ordering::Relaxed));
        session.request("GET_PARAMETER", &[]).expect(200);
        if is_udp {
            let header = [("Session", session.id.as_str())];
            other.request("GET_PARAMETER", &session.base, &header).expect(200);
        }
    }
    session
}

#[test]
fn random_moves_under_load_lose_double_and_reorder_nothing() {
    let moves_wanted: usize =
        std::env::var("HEADEND_MOVES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let folder = long_title();
    let server = serve(Some(folder.path()));
    let _publisher = publish(&server.url("live/a"), "tcp", &["-stream_loop", "-1"]);
    until("it is live", || crate::support::live::state(&server, "live/a") == "live");
    let (title, live) = (server.vod_url("long.mp4"), server.url("live/a"));
    let kinds = [
        (&title, Lower::Udp),
        (&title, Lower::Tcp),
        (&title, Lower::Udp),
        (&title, Lower::Tcp),
        (&live, Lower::Udp),
        (&live, Lower::Tcp),
        (&live, Lower::Udp),
        (&live, Lower::Tcp),
    ];
    let witnesses = [&title, &live].map(|url| Session::open(server.rtsp, url, Lower::Tcp));
    let movers = kinds.map(|(url, lower)| Session::open(server.rtsp, url, lower));
    let ids: Vec<String> = movers.iter().map(|session| session.id.clone()).collect();
    let is_over = AtomicBool::new(false);
    let (witnesses, movers) = thread::scope(|scope| {
        let (server, is_over) = (&server, &is_over);
        let play = |session| scope.spawn(move || play_until(server, session, is_over));
        let (witnesses, movers) = (witnesses.map(play), movers.map(play));
        let ended = catch_unwind(AssertUnwindSafe(|| move_at_random(server, &ids, moves_wanted)));
        is_over.store(true, Ordering::Relaxed);
        let sessions = (
            witnesses.map(|thread| thread.join().unwrap()),
            movers.map(|thread| thread.join().unwrap()),
        );
        ended.unwrap_or_else(|panic| resume_unwind(panic));
        sessions
    });
    let [title, live] = &witnesses;
    let (of_titles, of_live) = movers.split_at(4);
    for (n, session) in of_titles.iter().enumerate() {
        for (stream, of_title) in session.streams.iter().zip(&title.streams) {
            let what = format!("title {n}, {}", stream.media.kind);
            let count = stream.packets.len().min(of_title.packets.len());
            assert_same_title(&what, &stream.packets[..count], &of_title.packets);
            assert_contiguous(&stream.packets);
        }
    }
    for (n, session) in of_live.iter().enumerate() {
        for (stream, witness) in session.streams.iter().zip(&live.streams) {
            let what = format!("live {n}, {}", stream.media.kind);
            let all: HashMap<u16, Rtp> =
                witness.packets.iter().map(|packet| (packet.seq, packet.clone())).collect();
            assert_same_live(&what, &stream.packets, &all);
        }
    }
    for stream in movers.iter().flat_map(|session| &session.streams) {
        assert_reports(&stream.media.kind, &stream.reports, clock(stream));
        assert_ports(stream);
    }
    for nothing in ["path_reader_skips_total", "sessions_failed_total", "panics_total"] {
        assert_eq!(metric(server.admin, &format!("headend_{nothing}")), Some(0.0), "{nothing}");
    }
    drop((witnesses, movers));
    until("nothing is away", || metric(server.admin, "headend_sessions_away") == Some(0.0));
}

/// Moves sessions from anywhere to anywhere, two of them by each thread, until so many moves are
/// done.
fn move_at_random(server: &Server, ids: &[String], wanted: usize) {
    let (moved, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let (moved, refused) = (&moved, &refused);
        for ids in ids.chunks(2) {
            scope.spawn(move || {
                while moved.load(Ordering::Relaxed) < wanted
                    && refused.load(Ordering::Relaxed) < wanted
                {
                    let mut rng = rand::rng();
                    let id = &ids[rng.random_range(0..ids.len())];
                    match ask(server, id, rng.random_range(0..SHARDS)) {
                        (200, _) => moved.fetch_add(1, Ordering::Relaxed),
                        (503, _) => refused.fetch_add(1, Ordering::Relaxed),
                        (status, text) => panic!("{status}: {text}"),
                    };
                }
            });
        }
    });
    let (moved, refused) = (moved.into_inner(), refused.into_inner());
    assert!(moved >= wanted && refused < moved / 10, "{moved} moves, {refused} refused");
}

fn clock(stream: &Stream) -> f64 {
    if stream.media.kind == "video" { 90_000.0 } else { 48_000.0 }
}

#[test]
fn what_cannot_move_is_refused_with_a_sentence_and_goes_on() {
    let (server, _files) = start(CONFIG, &Options { shards: "0,1", ..Options::default() });
    let moved = |id: &str, part: &str| {
        let other = 1 - shard_of(&server, id);
        let (status, text) = ask(&server, id, other);
        assert!(status == 409 && text.contains(part), "{status}: {text}");
    };
    let tcp = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let mut tunnel = Tunnel::open(server.rtsp, "cookie-of-the-test");
    let track = format!("{}/trackID=0", server.demo_url());
    let set_up = tunnel.request("SETUP", &track, tcp);
    let id = |answer: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix("Session: ")).unwrap();
        line.split(';').next().unwrap().to_owned()
    };
    moved(&id(&set_up), "tunnel");
    let mut secure = SecureClient::connect(server.rtsps());
    let track = format!("{}/trackID=0", url(&server, "demo"));
    let transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
    let (_, set_up) = secure.request("SETUP", &track, &[transport]);
    moved(&id(&set_up), "TLS");
    let mut publisher = Publisher::start(&server, "live/a", SOUND, Lower::Tcp);
    let published = sessions(server.admin).into_iter().find(|one| one["role"] == "publisher");
    moved(published.unwrap()["id"].as_str().unwrap(), "publisher");
    publisher.request("GET_PARAMETER").expect(200);
    let mut plain = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    assert_eq!(ask(&server, &plain.id, 9).0, 400, "no such shard");
    assert_eq!(ask(&server, "0000000000000000", 1).0, 404, "no such session");
    let own = shard_of(&server, &plain.id);
    assert_eq!(ask(&server, &plain.id, own).0, 200, "it is there");
    plain.play(&[]);
    plain.receive_packets(5, PATIENCE);
    let id = json!(plain.id);
    assert!(sessions(server.admin).iter().any(|one| one["id"] == id));
}

#[test]
fn session_is_moved_by_the_command_line_and_ended_where_it_is() {
    let server = serve(None);
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(5, PATIENCE);
    let to = ((shard_of(&server, &session.id) + 1) % SHARDS).to_string();
    let admin = server.admin.to_string();
    let binary = binary();
    let headend = |words: &[&str]| {
        run_any(binary.to_str().unwrap(), &[words, &["--admin", &admin]].concat(), PATIENCE)
    };
    let moved = headend(&["session", "move", &session.id, "--shard", &to]);
    assert!(moved.stdout.contains(&format!("on shard {to}")), "{moved:?}");
    session.receive_packets(5, PATIENCE);
    let kicked = headend(&["session", "kick", &session.id]);
    assert!(kicked.status.success(), "{kicked:?}");
    session.receive_until_bye(PATIENCE);
    until("nothing is away", || metric(server.admin, "headend_sessions_away") == Some(0.0));
    // Its addresses are free: the same ports again, at home.
    let unknown = headend(&["session", "move", &session.id, "--shard", "0"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

/// Its place was taken while the parcel was on its way; nobody tells a shard of that before.
#[test]
fn session_whose_new_shard_is_full_goes_on_where_it_was() {
    for lower in [Lower::Udp, Lower::Tcp] {
        let config = format!("[rtsp]\nsessions_max = 4\n{CONFIG}");
        let options = Options { shards: "0,1", config: Some(&config), ..Options::default() };
        let server = Server::start(&options);
        // No shard is full while another one begins, whichever its connection comes to.
        let mut all: Vec<Session> = (0..5_u8)
            .map(|n| {
                let session = Session::open(server.rtsp, &server.demo_url(), lower);
                move_to(&server, &session.id, n % 2);
                session
            })
            .collect();
        all.iter_mut().for_each(|session| drop(session.play(&[])));
        move_to(&server, &all[4].id, 1);
        for session in all.iter().take(4) {
            move_to(&server, &session.id, 0);
        }
        let (status, text) = ask(&server, &all[4].id, 0);
        assert!(status == 503 && text.contains("no room"), "{status}: {text}");
        assert_eq!(shard_of(&server, &all[4].id), 1);
        all[4].request("GET_PARAMETER", &[]).expect(200);
        for session in &mut all {
            session.receive_until_bye(PATIENCE);
        }
        let (last, first) = (&all[4], &all[0]);
        for (stream, other) in last.streams.iter().zip(&first.streams) {
            let what = format!("{lower:?} {}", stream.media.kind);
            assert_same_title(&what, &stream.packets, &other.packets);
            assert_ports(stream);
        }
        assert!(metric(server.admin, "headend_session_moves_refused_total") >= Some(1.0));
        for session in &mut all {
            session.request("TEARDOWN", &[]).expect(200);
        }
        until("nothing is away", || metric(server.admin, "headend_sessions_away") == Some(0.0));
    }
}

/// Asks for moves until nobody answers or the test is over, and counts those that are done.
fn move_to_the_end(
    admin: SocketAddr,
    ids: &[String],
    (moved, is_over): (&AtomicUsize, &AtomicBool),
) {
    let order = |id: &str, shard: usize| -> io::Result<bool> {
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = format!("{{\"shard\":{shard}}}");
        let head = format!("Host: {admin}\r\nConnection: close\r\nContent-Length: {}", body.len());
        write!(stream, "POST /v1/sessions/{id}/move HTTP/1.1\r\n{head}\r\n\r\n{body}")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    for step in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        match order(&ids[step % ids.len()], (step / ids.len()) % usize::from(SHARDS)) {
            Ok(is_done) => moved.fetch_add(usize::from(is_done), Ordering::Relaxed),
            Err(_gone) => return,
        };
    }
}

/// A parcel came to a shard that had ended once, and nobody heard of its sessions again.
#[test]
fn sessions_that_move_while_the_server_stops_are_ended_by_bye() {
    let folder = long_title();
    for _ in 0..3 {
        let mut server = serve(Some(folder.path()));
        let url = server.vod_url("long.mp4");
        let mut all = [Lower::Udp, Lower::Tcp, Lower::Udp, Lower::Tcp]
            .map(|lower| Session::open(server.rtsp, &url, lower));
        for session in &mut all {
            session.play(&[]);
            session.receive_packets(2, PATIENCE);
        }
        let ids = all.each_ref().map(|session| session.id.clone());
        let admin = server.admin;
        let (moved, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for ids in ids.chunks(2) {
                scope.spawn(|| move_to_the_end(admin, ids, (&moved, &is_over)));
            }
            let ended = catch_unwind(AssertUnwindSafe(|| {
                until("sessions move", || moved.load(Ordering::Relaxed) > 20);
                server.signal_term();
                for session in &mut all {
                    session.receive_until_bye(PATIENCE);
                }
                let status = server.wait(PATIENCE);
                assert_eq!(status.and_then(|status| status.code()), Some(0));
            }));
            is_over.store(true, Ordering::Relaxed);
            ended.unwrap_or_else(|panic| resume_unwind(panic));
        });
        for stream in all.iter().flat_map(|session| &session.streams) {
            assert_contiguous(&stream.packets);
        }
    }
}

/// Keeps the shard of a connection busy with small requests, until it is told to stop.
fn flood(server: &Server, session: &Session, is_over: &AtomicBool) {
    let request = format!(
        "GET_PARAMETER {} RTSP/1.0\r\nCSeq: 1000\r\nSession: {}\r\n\r\n",
        server.demo_url(),
        session.id
    );
    let (requests, mut stream) = (request.repeat(FLOOD), session.client.stream());
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(requests.as_bytes()).unwrap();
        let (mut answered, mut tail) = (0, Vec::new());
        while answered < FLOOD {
            let mut block = [0; 65_536];
            let bytes = stream.read(&mut block).unwrap();
            assert!(bytes > 0, "closed");
            tail.extend_from_slice(&block[..bytes]);
            answered += tail.windows(4).filter(|end| *end == b"\r\n\r\n").count();
            // The end of an answer may be cut in two.
            let kept = tail.len().saturating_sub(3);
            tail.drain(..kept);
        }
    }
}

#[test]
fn sessions_move_by_themselves_from_a_shard_that_is_busy_to_one_that_is_not() {
    let folder = long_title();
    let config =
        format!("[server]\nrebalance = \"auto\"\n[rtsp]\nsession_timeout = \"300s\"\n{CONFIG}");
    let server = Server::start(&Options {
        shards: "0,1",
        folder: Some(folder.path()),
        config: Some(&config),
        ..Options::default()
    });
    let title = server.vod_url("long.mp4");
    let flooders: Vec<Session> =
        (0..4).map(|_| Session::open(server.rtsp, &server.demo_url(), Lower::Tcp)).collect();
    let mut players: Vec<Session> = [Lower::Udp, Lower::Tcp, Lower::Udp, Lower::Tcp]
        .map(|lower| Session::open(server.rtsp, &title, lower))
        .into();
    for session in flooders.iter().chain(&players) {
        move_to(&server, &session.id, 0);
    }
    for player in &mut players {
        player.play(&[]);
        player.receive_packets(2, PATIENCE);
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (server, is_over) = (&server, &is_over);
        for session in &flooders {
            scope.spawn(move || flood(server, session, is_over));
        }
        let moved = catch_unwind(AssertUnwindSafe(|| {
            // Who uses half a CPU is busy: beside other tests a shard may not get so much.
            until_within(PATIENCE * 8, "some have moved by themselves", || {
                players.iter_mut().for_each(Session::drain);
                players.iter().any(|player| shard_of(server, &player.id) == 1)
            });
        }));
        is_over.store(true, Ordering::Relaxed);
        moved.unwrap_or_else(|panic| resume_unwind(panic));
    });
    server.assert_logs("HE-I407");
    for player in &mut players {
        player.receive_packets(5, PATIENCE);
        player.streams.iter().for_each(|stream| assert_contiguous(&stream.packets));
    }
    // Those that do not play stay.
    assert!(flooders.iter().all(|session| shard_of(&server, &session.id) == 0));
}

/// Requests that are sent at once: their answers fit the socket.
const FLOOD: usize = 200;
