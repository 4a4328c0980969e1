//! Live paths go from one server to the next: what is published comes to readers once and in
//! order, whatever the number of shards, and whoever sends and reads.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use headend::takeover::ToOld;

use crate::support::http::{get_json, metric, sessions};
use crate::support::live::{path, state, wait_until_described};
use crate::support::players::{
    assert_launched_well, assert_read_to_the_end, clip_frames, frames_in, launch, publish, read,
    receiver, send_file,
};
use crate::support::process::{PLAYER_PATIENCE, wait_for};
use crate::support::publish::{Publisher, Track, rtp};
use crate::support::rtp::{Rtp, assert_contiguous, receiver_report, ticks_between};
use crate::support::rtsp::Client;
use crate::support::server::Server;
use crate::support::session::{Lower, Session, Stream};
use crate::support::takeover::Site;
use crate::support::wait::{Deadline, PATIENCE, readable, until};
use crate::support::{demo_clip, scratch};
use crate::takeover::{Peer, assert_ended_well};

/// Pictures with their parameter sets, and sound.
const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==\r\n\
    a=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:streamid=1\r\n";

/// Between two pictures; sound has one packet with each.
const STEP: Duration = Duration::from_millis(20);
/// Pictures in a group.
const GROUP: u32 = 25;
const SSRC: [u32; 2] = [0x1234_5670, 0x1234_5671];

/// Packet `n` of a track, as it is published.
fn packet(track: usize, n: u32) -> Vec<u8> {
    let seq = u16::try_from((n + 65_500) % 65_536).unwrap();
    let mut payload = n.to_be_bytes().repeat(20);
    match track {
        0 => {
            payload[0] = if n.is_multiple_of(GROUP) { 0x65 } else { 0x41 };
            // Longer ones and shorter ones: runs of all kinds.
            payload.resize(100 + usize::try_from(n * 37 % 900).unwrap(), 0x55);
            rtp(0x80 | 96, seq, n.wrapping_mul(1_800), SSRC[0], &payload)
        }
        _ => rtp(0, seq, n.wrapping_mul(160), SSRC[1], &payload),
    }
}

/// A publisher that sends a picture and sound every `STEP`, in a thread.
struct Studio {
    stop: Arc<AtomicBool>,
    /// Pictures published so far.
    count: Arc<AtomicU32>,
    thread: Option<JoinHandle<(Publisher, u32)>>,
}

impl Studio {
    fn start(server: &Server, path: &str, lower: Lower) -> Self {
        let publisher = Publisher::start(server, path, SDP, lower);
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::<AtomicU32>::default();
        let (is_over, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = Some(thread::spawn(move || run_studio(publisher, &is_over, &counted)));
        let studio = Self { stop, count, thread };
        wait_until_described(server, path);
        studio
    }

    fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Stops sending. Returns the publisher, which stays connected, and the number of pictures.
    fn finish(mut self) -> (Publisher, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run_studio(
    mut publisher: Publisher,
    stop: &AtomicBool,
    counted: &AtomicU32,
) -> (Publisher, u32) {
    let mut count = 0;
    // Bounded by the test, which drops it.
    while !stop.load(Ordering::Relaxed) {
        for track in [0, 1] {
            publisher.rtp(track, &packet(track, count));
        }
        count += 1;
        counted.store(count, Ordering::SeqCst);
        listen(&mut publisher, STEP);
    }
    (publisher, count)
}

/// Reads what the publisher is told, for so long.
fn listen(publisher: &mut Publisher, time: Duration) {
    let deadline = Deadline::after(time);
    while !deadline.has_passed() {
        if readable(&[publisher.client.stream().as_fd()], deadline)[0] {
            assert!(publisher.client.fill(), "the publisher was hung up on");
            while publisher.client.take().is_some() {}
        }
    }
}

fn open(server: &Server, path: &str, lower: Lower) -> Session {
    let mut session = Session::open(server.rtsp, &server.url(path), lower);
    session.play(&[]);
    session
}

/// Receives until the last packets have come; they are what was published, each once.
fn assert_has_all(what: &str, reader: &mut Session, published: u32) {
    let last = |track| Rtp::parse(&packet(track, published - 1)).seq;
    let has_last = reader.receive_until(PATIENCE, |streams| {
        streams.iter().enumerate().all(|(track, stream)| {
            stream.packets.last().is_some_and(|packet| packet.seq == last(track))
        })
    });
    assert!(has_last, "{what}: the last packets have not come");
    for (track, stream) in reader.streams.iter().enumerate() {
        assert_contiguous(&stream.packets);
        let count = u32::try_from(stream.packets.len()).unwrap();
        assert!(count > 2 && count <= published, "{what}: {count} of {published}");
        for (n, got) in (published - count..published).zip(&stream.packets) {
            let sent = Rtp::parse(&packet(track, n));
            assert!(*got == sent, "{what}: packet {n} of track {track}");
        }
        if track == 0 {
            assert_eq!((published - count) % GROUP, 0, "{what}: it begins with a key frame");
        }
    }
}

/// Numbers of packets as they were published, whatever numbers the server gives them.
fn numbers(track: usize, packets: &[Rtp]) -> Vec<u32> {
    let number = |got: &Rtp| {
        let n = u32::from_be_bytes([0, got.payload[1], got.payload[2], got.payload[3]]);
        assert_eq!(got.payload, Rtp::parse(&packet(track, n)).payload, "packet {n}");
        n
    };
    packets.iter().map(number).collect()
}

/// Waits until readers have something that is published from now on. Returns what was before.
fn catch_up(studio: &Studio, readers: &mut [Session]) -> u32 {
    let count = studio.count();
    for reader in readers {
        let is_there = reader.receive_until(PATIENCE, |streams| {
            let last = |(track, stream): (usize, &Stream)| {
                let newest = stream.packets.last().map(std::slice::from_ref);
                numbers(track, newest.unwrap_or_default()).pop()
            };
            streams.iter().enumerate().map(last).all(|last| last >= Some(count))
        });
        assert!(is_there, "packet {count} has not come");
    }
    count
}

/// Readers of a path that is fetched anew have what was published, in order and without gaps, but
/// where a source begins: there some may be missing that were published while nobody fetched it,
/// and some come again, because a source begins with its newest group. All of them have the same:
/// nobody lacks what the others were sent last. `gaps`: numbers of pictures when a takeover began,
/// and when the path was there again.
fn assert_lacks_only(what: &str, readers: &[&Session], gaps: &[(u32, u32)]) {
    for track in [0, 1] {
        let mut of_all: Vec<Vec<(u32, u32)>> = Vec::new();
        for reader in readers {
            let packets = &reader.streams[track].packets;
            assert_contiguous(packets);
            for pair in packets.windows(2) {
                let step = ticks_between(pair[0].timestamp, pair[1].timestamp);
                assert!(step >= 0, "{what}, track {track}: time goes back by {step}");
                assert_eq!(pair[0].ssrc, pair[1].ssrc, "{what}, track {track}");
            }
            let numbers = numbers(track, packets);
            let pairs = numbers.windows(2).map(|pair| (pair[0], pair[1]));
            of_all.push(pairs.filter(|(last, first)| *first != last + 1).collect());
        }
        let breaks = &of_all[0];
        assert!(of_all.iter().all(|other| other == breaks), "{what}, track {track}: {of_all:?}");
        assert!(breaks.len() <= gaps.len(), "{what}, track {track}: {breaks:?}, {gaps:?}");
        for (last, first) in breaks {
            let is_of = |(began, ended): &&(u32, u32)| {
                began <= last && first <= ended && *began < first + 2 * GROUP
            };
            assert!(
                gaps.iter().any(|gap| is_of(&gap)),
                "{what}, track {track}: {first} comes after {last}, not within {gaps:?}"
            );
            assert!(track == 1 || first % GROUP == 0, "{what}: {first} is no key frame");
        }
    }
}

#[test]
fn readers_and_publishers_notice_nothing_whatever_the_number_of_shards() {
    thread::scope(|scope| {
        for (shards, lower) in [
            (["1", "1", "1"], Lower::Tcp),
            (["3", "2", "3"], Lower::Udp),
            (["1", "3", "1"], Lower::Tcp),
            (["2", "2", "2"], Lower::Udp),
        ] {
            scope.spawn(move || publish_over_takeovers(shards, lower));
        }
    });
}

fn publish_over_takeovers(shards: [&str; 3], lower: Lower) {
    let what = format!("{shards:?} {lower:?}");
    let site = Site::new("");
    let mut server = site.start(shards[0]);
    let studio = Studio::start(&server, "live/a", lower);
    let tos = [Lower::Udp, Lower::Tcp, Lower::Udp, Lower::Tcp];
    let mut readers: Vec<Session> = tos.iter().map(|to| open(&server, "live/a", *to)).collect();
    for number in &shards[1..] {
        for reader in &mut readers {
            reader.receive_packets(5, PATIENCE);
        }
        let new = site.take_over(number, "--takeover");
        assert_ended_well(&mut server);
        server = new;
        let info = path(&server, "live/a");
        assert_eq!((&info["state"], &info["sources_seen"]), (&"live".into(), &1.into()), "{what}");
        // Readers that come later begin with the group that the old server had.
        readers.push(open(&server, "live/a", tos[readers.len() % 4]));
    }
    assert_eq!(sessions(server.admin).len(), readers.len() + 1, "{what}");
    for reader in &mut readers {
        reader.receive_packets(3, PATIENCE);
        reader.request("GET_PARAMETER", &[]).expect(200);
    }
    let (mut publisher, count) = studio.finish();
    for (n, reader) in readers.iter_mut().enumerate() {
        assert_has_all(&format!("{what}, reader {n}"), reader, count);
    }
    for figure in ["path_reader_skips_total", "sessions_failed_total", "panics_total"] {
        assert_eq!(
            metric(server.admin, &format!("headend_{figure}")),
            Some(0.0),
            "{what} {figure}"
        );
    }
    let source = &path(&server, "live/a")["source"];
    assert_eq!((&source["packets"], &source["packets_lost"]), (&(2 * count).into(), &0.into()));
    publisher.request("GET_PARAMETER").expect(200);
    publisher.request("TEARDOWN").expect(200);
    until("its path has ended", || state(&server, "live/a") != "live");
}

#[test]
fn group_that_was_kept_is_there_for_who_comes_when_nothing_more_is_published() {
    let site = Site::new("");
    let mut old = site.start("2");
    let studio = Studio::start(&old, "live/a", Lower::Tcp);
    let mut reader = open(&old, "live/a", Lower::Udp);
    reader.receive_packets(30, PATIENCE);
    let (_publisher, count) = studio.finish();
    let new = site.take_over("3", "--takeover");
    assert_ended_well(&mut old);
    let mut late = open(&new, "live/a", Lower::Tcp);
    let of_group = usize::try_from((count - 1) % GROUP + 1).unwrap();
    let has_group = late.receive_until(PATIENCE, |streams| streams[0].packets.len() == of_group);
    assert!(has_group, "{} of {of_group}", late.streams[0].packets.len());
    assert_eq!(late.streams[0].packets[0].payload[0], 0x65);
    // The reader that was there has all, and nothing twice.
    reader.drain();
    assert_has_all("the reader that was there", &mut reader, count);
}

#[test]
fn live_path_goes_on_when_the_new_server_dies_or_refuses() {
    let site = Site::new("");
    let server = site.start("2");
    let studios = [("live/a", Lower::Tcp), ("live/b", Lower::Udp)]
        .map(|(path, lower)| (path, Studio::start(&server, path, lower)));
    let mut readers = Vec::new();
    for path in ["live/a", "live/b"] {
        readers.extend([Lower::Udp, Lower::Tcp].map(|to| (path, open(&server, path, to))));
    }
    type Step = fn(&mut Peer);
    let steps: [Step; 4] = [Peer::hello, Peer::freeze, Peer::hear_all, |peer| {
        peer.hear_all();
        peer.say(&ToOld::Refused { why: "as the test wants it".to_owned() }).unwrap();
        assert!(peer.hear_refusal().contains("as the test wants it"));
    }];
    for step in steps {
        let mut peer = Peer::connect(&site);
        step(&mut peer);
        drop(peer);
        for (_, reader) in &mut readers {
            reader.receive_packets(3, PATIENCE);
        }
    }
    for (path, studio) in studios {
        let (_publisher, count) = studio.finish();
        for (of, reader) in &mut readers {
            if *of == path {
                assert_has_all(path, reader, count);
            }
        }
    }
    assert_eq!(metric(server.admin, "headend_path_reader_skips_total"), Some(0.0));
}

#[test]
fn paused_and_waiting_readers_and_a_paused_publisher_go_on_where_they_were() {
    let site = Site::new("");
    let mut old = site.start("2");
    let studio = Studio::start(&old, "live/a", Lower::Udp);
    let mut set_up = Session::open(old.rtsp, &old.url("live/a"), Lower::Tcp);
    let mut paused = open(&old, "live/a", Lower::Udp);
    paused.receive_packets(5, PATIENCE);
    paused.request("PAUSE", &[]).expect(200);
    paused.drain();
    let before = paused.streams[0].packets.last().unwrap().clone();
    let (mut publisher, count) = studio.finish();
    publisher.request("PAUSE").expect(200);
    let new = site.take_over("2", "--takeover");
    assert_ended_well(&mut old);
    publisher.request("RECORD").expect(200);
    set_up.play(&[]);
    paused.play(&[]);
    for n in count..count + 2 * GROUP {
        for track in [0, 1] {
            publisher.rtp(track, &packet(track, n));
        }
        listen(&mut publisher, Duration::from_millis(5));
    }
    for reader in [&mut set_up, &mut paused] {
        let before = reader.streams.iter().map(|stream| stream.packets.len()).collect::<Vec<_>>();
        let goes_on = reader.receive_until(PATIENCE, |streams| {
            streams.iter().zip(&before).all(|(stream, before)| stream.packets.len() > before + 10)
        });
        assert!(goes_on, "it goes on");
        assert_contiguous(&reader.streams[0].packets);
    }
    // Its numbers and time go on behind the pause.
    let after =
        paused.streams[0].packets.iter().find(|packet| packet.seq == before.seq.wrapping_add(1));
    let after = after.unwrap();
    assert!(ticks_between(before.timestamp, after.timestamp) > 0);
    assert_eq!(after.ssrc, before.ssrc);
    assert_eq!(metric(new.admin, "headend_panics_total"), Some(0.0));
}

#[test]
fn reports_find_their_streams_and_lost_packets_are_sent_again() {
    let site = Site::new("");
    let mut old = site.start("2");
    let studio = Studio::start(&old, "live/a", Lower::Tcp);
    let mut reader = open(&old, "live/a", Lower::Udp);
    reader.receive_packets(10, PATIENCE);
    let new = site.take_over("1", "--takeover");
    assert_ended_well(&mut old);
    reader.receive_packets(3, PATIENCE);
    let server = reader.client.stream().peer_addr().unwrap();
    for stream in &reader.streams {
        let last = stream.packets.last().unwrap();
        let mut to = server;
        to.set_port(stream.server_ports().1);
        let report = receiver_report(7, last.ssrc, last.seq.into());
        stream.udp().rtcp.send_to(&report, to).unwrap();
    }
    until("its reports are heard", || {
        let info = get_json(new.admin, &format!("/v1/sessions/{}", reader.id));
        let mut streams = info["streams"].as_array().unwrap().iter();
        streams.all(|stream| stream["packets_lost"] == 5)
    });
    let (_publisher, count) = studio.finish();
    assert_has_all("with reports", &mut reader, count);
}

#[test]
fn stranger_takes_no_publishers_place_after_a_takeover() {
    let site = Site::new("");
    let mut old = site.start("2");
    let studio = Studio::start(&old, "live/a", Lower::Udp);
    let mut reader = open(&old, "live/a", Lower::Tcp);
    reader.receive_packets(5, PATIENCE);
    let new = site.take_over("2", "--takeover");
    assert_ended_well(&mut old);
    // Another client may not have the path, and packets of another port are nobody's.
    let mut other = Client::connect(new.rtsp);
    let refused = crate::support::publish::announce(&mut other, &new.url("live/a"), SDP);
    assert_eq!(refused.status, 403);
    let (publisher, count) = studio.finish();
    let Track::Udp(_, [to, _]) = &publisher.tracks[0] else { panic!("over UDP") };
    let before = metric(new.admin, "headend_datagrams_unmatched_total").unwrap();
    crate::support::publish::stranger().send_to(&packet(0, count), to).unwrap();
    until("the stranger is counted", || {
        metric(new.admin, "headend_datagrams_unmatched_total").unwrap() > before
    });
    assert_has_all("whoever sends", &mut reader, count);
}

/// Numbers of the server have no gap, whatever is lost: this looks at those of the publisher.
#[test]
fn pulled_path_is_fetched_anew_and_its_readers_lack_only_what_nobody_fetched() {
    let origin = Server::start(&crate::support::server::Options::default());
    let studio = Studio::start(&origin, "live/a", Lower::Tcp);
    for transport in ["tcp", "udp"] {
        let url = origin.url("live/a");
        let site = Site::new(&format!(
            "[path.\"live/pulled\"]\nsource = \"{url}\"\nsource_transport = \"{transport}\"\n"
        ));
        let mut server = site.start("2");
        until("it is fetched", || state(&server, "live/pulled") == "live");
        let tos = [Lower::Udp, Lower::Tcp, Lower::Udp, Lower::Tcp];
        let mut readers = tos.map(|to| open(&server, "live/pulled", to));
        let mut gaps = Vec::new();
        for number in ["3", "1"] {
            let began = catch_up(&studio, &mut readers);
            let new = site.take_over(number, "--takeover");
            assert_ended_well(&mut server);
            server = new;
            until("it is fetched again", || state(&server, "live/pulled") == "live");
            gaps.push((began, studio.count()));
        }
        catch_up(&studio, &mut readers);
        assert_lacks_only(transport, &readers.each_ref(), &gaps);
    }
}

#[test]
fn paths_on_demand_and_with_fallbacks_go_on_for_their_readers() {
    let origin = Server::start(&crate::support::server::Options::default());
    let studio = Studio::start(&origin, "live/a", Lower::Tcp);
    let url = origin.url("live/a");
    let site = Site::new(&format!(
        "[path.\"live/demand\"]\nsource = \"{url}\"\non_demand = true\n\
         [path.\"live/relay\"]\nsource = \"{url}\"\nfallback = [\"live/demand\"]\n"
    ));
    let paths = ["live/demand", "live/relay"];
    let mut server = site.start("2");
    wait_until_described(&server, "live/demand");
    until("the relay is fed", || state(&server, "live/relay") == "live");
    let mut readers: Vec<Session> = paths
        .iter()
        .flat_map(|path| [Lower::Udp, Lower::Tcp].map(|to| open(&server, path, to)))
        .collect();
    let mut gaps = Vec::new();
    for number in ["1", "3"] {
        let began = catch_up(&studio, &mut readers);
        let new = site.take_over(number, "--takeover");
        assert_ended_well(&mut server);
        server = new;
        until("both are fed", || paths.iter().all(|path| state(&server, path) == "live"));
        gaps.push((began, studio.count()));
    }
    for reader in &mut readers {
        reader.receive_packets(60, PATIENCE);
    }
    let [by_udp, by_tcp, relayed @ ..] = readers.as_slice() else { unreachable!("four readers") };
    assert_lacks_only("on demand", &[by_udp, by_tcp], &gaps);
    // A relay changes its source by itself, too.
    for reader in relayed {
        for (track, stream) in reader.streams.iter().enumerate() {
            assert_contiguous(&stream.packets);
            let numbers = numbers(track, &stream.packets);
            let missing = numbers.windows(2).map(|pair| pair[1].saturating_sub(pair[0] + 1));
            let (missing, most): (u32, u32) =
                (missing.sum(), gaps.iter().map(|(a, b)| b - a + GROUP).sum());
            assert!(missing < most, "{missing} of track {track} are missing, {most} at most");
        }
    }
    assert_eq!(metric(server.admin, "headend_panics_total"), Some(0.0));
}

#[test]
fn input_goes_on_at_its_socket_and_its_readers_see_no_gap() {
    let to = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = Site::new(&format!("[path.\"live/input\"]\nsource = \"udp://{to}\"\n"));
    let mut server = site.start("2");
    let url = format!("udp://{to}?pkt_size=1316");
    let output = ["-c", "copy", "-f", "mpegts", url.as_str()];
    let _sender = send_file(&demo_clip(), &["-stream_loop", "-1"], &output);
    until("it is fed", || state(&server, "live/input") == "live");
    let mut readers = [Lower::Udp, Lower::Tcp].map(|to| open(&server, "live/input", to));
    for number in ["3", "1"] {
        for reader in &mut readers {
            reader.receive_packets(5, PATIENCE);
        }
        let new = site.take_over(number, "--takeover");
        assert_ended_well(&mut server);
        server = new;
        until("it is fed again", || state(&server, "live/input") == "live");
    }
    for reader in &mut readers {
        reader.receive_packets(60, PATIENCE);
        assert_contiguous(&reader.streams[0].packets);
    }
    assert!(!server.log().contains("HE-W301"), "its address was in use: {}", server.log());
}

#[test]
fn ffmpeg_and_gstreamer_read_what_ffmpeg_publishes_through_takeovers() {
    let all = clip_frames();
    thread::scope(|scope| {
        for transport in ["tcp", "udp"] {
            let all = &all;
            scope.spawn(move || play_through_takeovers(transport, all));
        }
    });
}

fn play_through_takeovers(transport: &str, all: &[String]) {
    let site = Site::new("");
    let mut server = site.start("2");
    let url = server.url("live/a");
    let mut publisher = publish(&url, transport, &[]);
    wait_until_described(&server, "live/a");
    let outputs = tempfile::tempdir_in(scratch()).unwrap();
    let to = |name: &str| outputs.path().join(name);
    let mut readers = ["tcp", "udp"].map(|by| (by, read(&url, by, &to(by))));
    let log = to("gst.log");
    let mut gst = launch(&receiver(&url, "protocols=tcp", &to("gst.h264")), &log);
    until("all read", || path(&server, "live/a")["readers"]["tcp"].as_u64() >= Some(2));
    until("all read", || path(&server, "live/a")["readers"]["udp"].as_u64() >= Some(1));
    for number in ["1", "3", "2"] {
        let new = site.take_over(number, "--takeover");
        assert_ended_well(&mut server);
        server = new;
    }
    let published = wait_for(&mut publisher.0, PLAYER_PATIENCE);
    assert!(published.is_some_and(|status| status.success()), "{transport}");
    for (by, reader) in &mut readers {
        let what = format!("published by {transport}, read by {by}");
        wait_for(&mut reader.0, PLAYER_PATIENCE);
        assert_read_to_the_end(&what, &frames_in(&to(by).with_extension("video")), all);
    }
    assert_launched_well(&mut gst, &log, "gstreamer");
    let file = to("gst.h264");
    let got =
        crate::support::compare::decoded_frames(&["-f", "h264", "-i", file.to_str().unwrap()], 0);
    assert_read_to_the_end(&format!("published by {transport}, GStreamer"), &got, all);
    assert_eq!(metric(server.admin, "headend_path_reader_skips_total"), Some(0.0));
}
