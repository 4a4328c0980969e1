//! Publishers and readers of live paths that lie, flood, cheat, stall and break off.
//!
//! ```text
//!  witness: publisher + 2 readers of another path ---- no gap, whatever happens beside them
//!  culprit: garbage, lies, commands out of order ----- refused or dropped, and counted
//! ```
//! In every test the server lives on without a panic, and what was refused can be read somewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::Shutdown;
use std::time::Duration;

use crate::support;
use crate::support::http::{get_json, list, metric, readers};
use crate::support::live::describe;
use crate::support::publish::{
    PICTURES_AND_SOUND, Publisher, SOUND, Witness, announce, interleaved, rtp, sender_report,
    stranger,
};
use crate::support::rtp::{Rtp, assert_contiguous};
use crate::support::rtsp::{Client, Received};
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, until, until_within};

const SECOND: u32 = 8_000;

fn server() -> Server {
    Server::start(&Options { shards: "2", ..Options::default() })
}

/// The end of every test: everybody else is well, and so is the server.
fn assert_survived(mut server: Server, witness: Witness) {
    witness.assert_undisturbed();
    server.assert_alive();
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("panic was caught"), "{log}");
    assert_eq!(metric(server.admin, "headend_panics_total"), Some(0.0));
}

/// A reader that plays `path`.
fn reader(server: &Server, path: &str, lower: Lower) -> Session {
    let mut session = Session::open(server.rtsp, &server.url(path), lower);
    session.play(&[]);
    session
}

/// Receives until the reader's stream has a packet with this number.
fn receive_seq(reader: &mut Session, seq: u16) {
    let has = |packets: &[Rtp]| packets.last().map(|packet| packet.seq) == Some(seq);
    let came = reader.receive_until(PATIENCE, |streams| has(&streams[0].packets));
    let last = reader.streams[0].packets.last();
    assert!(came, "packet {seq} has not come, but {last:?}");
}

/// The numbers that came on the first stream.
fn seqs(reader: &Session) -> Vec<u16> {
    reader.streams[0].packets.iter().map(|packet| packet.seq).collect()
}

/// What is no RTP, or lies about its lengths.
fn lies() -> Vec<Vec<u8>> {
    let good = rtp(0, 500, 0, 5, &[1; 20]);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let mut extension = rtp(0, 500, 0, 5, &[0xbe, 0xde, 0xff, 0xff, 1, 2, 3, 4]);
    extension[0] = 0x90;
    let mut padding = rtp(0, 500, 0, 5, &[0; 20]);
    padding[0] = 0xa0;
    let mut long_padding = rtp(0, 500, 0, 5, &[255; 20]);
    long_padding[0] = 0xa0;
    let mut extension_cut = rtp(0, 500, 0, 5, &[0xbe]);
    extension_cut[0] = 0x90;
    vec![
        Vec::new(),
        vec![0x80],
        vec![0xff; 11],
        good[..11].to_vec(),
        with(0, 0x00),
        with(0, 0x40),
        with(0, 0xc0),
        with(0, 0x8f),
        extension,
        extension_cut,
        padding,
        long_padding,
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}

#[test]
fn garbage_at_the_ports_is_dropped_and_the_stream_goes_on() {
    let server = server();
    let witness = Witness::start(&server);
    let mut publisher = Publisher::start(&server, "live/victim", SOUND, Lower::Udp);
    publisher.rtp(0, &rtp(0, 1, 160, 5, &[0; 160]));
    until("it feeds its path", || {
        list(get_json(server.admin, "/v1/paths")).iter().any(|path| path["batches"] != 0)
    });
    let mut reader = reader(&server, "live/victim", Lower::Udp);
    let [to_rtp, to_rtcp] = publisher.server_ports(0);
    let mut seq = 1;
    let stranger = stranger();
    let unmatched = || metric(server.admin, "headend_datagrams_unmatched_total").unwrap();
    let before = unmatched();
    let huge = vec![0x80; 65_507];
    for junk in lies().iter().chain([&huge]) {
        // From the publisher itself, and from others: one has its payload type, SSRC and number.
        publisher.rtp(0, junk);
        publisher.rtcp(0, junk);
        for to in [to_rtp, to_rtcp] {
            stranger.send_to(junk, to).unwrap();
            stranger.send_to(&rtp(0, seq + 1, 0, 5, &[0xee; 160]), to).unwrap();
            stranger.send_to(&rtp(0, seq + 1, 0, 6, &[0xee; 160]), to).unwrap();
            stranger.send_to(&rtp(0, seq + 1, 0, 5, &[0xee; 2_040]), to).unwrap();
            stranger.send_to(&sender_report(5, 1 << 40, 0), to).unwrap();
        }
        // Another payload type. The address of the publisher is trusted before the SSRC, so
        // another SSRC from there would be the stream.
        publisher.rtp(0, &rtp(33, seq + 1, 0, 5, &[0xee; 160]));
        publisher.rtcp(0, &sender_report(6, 1 << 40, 0));
        seq += 1;
        publisher.rtp(0, &rtp(0, seq, u32::from(seq) * 160, 5, &[0; 160]));
    }
    receive_seq(&mut reader, seq);
    let packets = &reader.streams[0].packets;
    assert_contiguous(packets);
    assert!(packets.iter().all(|packet| packet.payload == [0; 160] && packet.ssrc == 5));
    assert!(unmatched() >= before + 3.0 * 14.0, "what nobody sent is counted");
    let oversized = metric(server.admin, "headend_datagrams_oversized_total").unwrap();
    assert!(oversized >= 4.0, "{oversized}: what no buffer holds");
    // When the first has been silent for two seconds, another SSRC is the stream.
    until("the other stream takes over", || {
        publisher.rtp(0, &rtp(0, 9_000, 0, 6, &[0x66; 160]));
        reader.drain();
        reader.streams[0].packets.last().unwrap().payload == [0x66; 160]
    });
    let packets = &reader.streams[0].packets;
    assert!(packets.iter().all(|packet| packet.ssrc == 5), "and readers see one stream");
    assert_survived(server, witness);
}

#[test]
fn junk_in_frames_of_a_connection_is_dropped_and_the_stream_goes_on() {
    let server = server();
    let witness = Witness::start(&server);
    let mut publisher = Publisher::start(&server, "live/victim", SOUND, Lower::Tcp);
    publisher.rtp(0, &rtp(0, 0, 0, 5, &[0; 160]));
    let mut reader = reader(&server, "live/victim", Lower::Tcp);
    // Not RTP: a packet of that length would be taken, whatever its SSRC.
    let huge = vec![0x00; 65_535];
    let mut seq = 0;
    for junk in lies().iter().chain([&huge]) {
        // More than 256 KiB without a frame in between end the connection.
        let channels = if junk.len() > 2_048 { &[0, 1, 77][..] } else { &[0, 1, 2, 77, 255] };
        for &channel in channels {
            publisher.client.send_raw(interleaved(channel, junk));
        }
        // Of a channel that nobody set up: not even when it looks right.
        publisher.client.send_raw(interleaved(9, &rtp(0, seq + 1, 0, 5, &[0xee; 160])));
        seq += 1;
        publisher.rtp(0, &rtp(0, seq, u32::from(seq) * 160, 5, &[0; 160]));
    }
    // Requests and packets, byte by byte.
    let ping = publisher.client.format("GET_PARAMETER", &publisher.url.clone(), &[], "");
    seq += 1;
    let packet = interleaved(0, &rtp(0, seq, u32::from(seq) * 160, 5, &[0; 160]));
    publisher.client.send_byte_by_byte(&[ping.as_bytes(), &packet, ping.as_bytes()].concat());
    for _ in 0..2 {
        publisher.client.response().expect(200);
    }
    receive_seq(&mut reader, seq);
    assert_contiguous(&reader.streams[0].packets);
    assert!(reader.streams[0].packets.iter().all(|packet| packet.payload == [0; 160]));
    // It breaks off inside a frame: what was whole has come, the rest is nobody's.
    seq += 1;
    let last = interleaved(0, &rtp(0, seq, 0, 5, &[0; 160]));
    let part = interleaved(0, &rtp(0, seq + 1, 0, 5, &[0; 160]));
    publisher.client.send_raw([&last[..], &part[..90]].concat());
    publisher.client.stream().shutdown(Shutdown::Both).unwrap();
    receive_seq(&mut reader, seq);
    until("the path is free", || {
        let other = announce(&mut Client::connect(server.rtsp), &publisher.url, SOUND);
        other.status == 200
    });
    assert_survived(server, witness);
}

#[test]
fn false_sdp_is_refused_or_forwarded_without_effect() {
    let server = server();
    let witness = Witness::start(&server);
    let head = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n";
    let media = |count: usize| "m=audio 0 RTP/AVP 0\r\n".repeat(count);
    let line = |bytes: usize| format!("a={}\r\n", "x".repeat(bytes));
    let refused = [
        (format!("{head}{}", media(17)), [415, 415]),
        (format!("{head}{}", media(100)), [400, 415]),
        (head.to_owned(), [400, 415]),
        (format!("{head}m=audio 0 RTP/AVP\r\n"), [400, 415]),
        (format!("{head}m=audio 0 RTP/AVP 999\r\n"), [415, 415]),
        (format!("{head}m=audio 0 RTP/SAVP 0\r\n"), [415, 415]),
        ("m=audio 0 RTP/AVP 0\r\n".repeat(2_000), [400, 415]),
        (format!("{head}{}", line(1).repeat(5_000)), [400, 415]),
        ("\0\r\n\0\r\n".to_owned(), [400, 415]),
    ];
    for (place, (sdp, statuses)) in refused.iter().enumerate() {
        let url = server.url(&format!("live/refused{place}"));
        let answer = announce(&mut Client::connect(server.rtsp), &url, sdp);
        assert!(statuses.contains(&answer.status), "{place}: {answer:?}");
        assert_eq!(describe(&server, &format!("live/refused{place}")), 404);
    }
    // Beyond what a body may have: the connection cannot go on.
    let mut client = Client::connect(server.rtsp);
    let sdp = format!("{head}{}", line(70_000));
    let request = client.format("ANNOUNCE", &server.url("live/big"), &[], &sdp);
    // It may be hung up on before all is sent.
    let _cut = std::io::Write::write_all(&mut client.stream(), request.as_bytes());
    let answer = client.receive(Deadline::after(PATIENCE));
    assert!(matches!(answer, Some(Received::Response(answer)) if answer.status >= 400));
    let pictures =
        |lines: &str| format!("{head}m=video 0 RTP/AVP 96\r\n{lines}a=control:streamid=0\r\n");
    let long = format!("a=rtpmap:96 H264/90000\r\n{}", line(50_000));
    let twice = "a=control:streamid=0\r\nm=audio 0 RTP/AVP 0\r\n";
    let odd = [
        // No clock, or none that counts: nobody can read it, and nobody has to.
        pictures("a=rtpmap:96 H264/0\r\n"),
        pictures(""),
        pictures("a=rtpmap:96 H264/4294967295\r\n"),
        pictures("a=rtpmap:97 H264/90000\r\n"),
        pictures(&long),
        // Two tracks of one name: the first is meant.
        pictures(twice),
    ];
    for (place, sdp) in odd.iter().enumerate() {
        let path = format!("live/odd{place}");
        let mut publisher = Publisher::announce(&server, &path, sdp);
        publisher.setup(0, Lower::Tcp);
        publisher.record().expect(200);
        // H.264 it is not.
        for seq in 0..200_u16 {
            let byte = u8::try_from(seq).unwrap();
            publisher.rtp(0, &rtp(96, seq, u32::from(seq), 5, &[byte; 100]));
            publisher.rtp(0, &rtp(96, seq, u32::from(seq), 5, &[]));
        }
        publisher.rtcp(0, &sender_report(5, u64::MAX, u32::MAX));
        publisher.request("GET_PARAMETER").expect(200);
        assert_eq!(describe(&server, &path), 200, "{sdp}");
        assert!(publisher.request("TEARDOWN").status == 200);
    }
    assert_survived(server, witness);
}

#[test]
fn commands_out_of_order_are_refused_and_sessions_of_others_are_out_of_reach() {
    let server = server();
    let witness = Witness::start(&server);
    let mut publisher = Publisher::announce(&server, "live/a", PICTURES_AND_SOUND);
    // Nothing is set up: no session is known, and none can be made up.
    publisher.id = "0000000000000001".to_owned();
    assert_eq!(publisher.record().status, 454);
    publisher.id.clear();
    let url = publisher.url.clone();
    assert_ne!(publisher.client.request("RECORD", &url, &[]).status, 200);
    let interleaved = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";
    let unknown = publisher.try_setup(&format!("{url}/streamid=7"), interleaved);
    assert_eq!(unknown.status, 404);
    publisher.setup(0, Lower::Tcp);
    let first = publisher.track_url(0);
    assert_eq!(publisher.try_setup(&first, interleaved).status, 455, "it is set up");
    let second = publisher.track_url(1);
    let udp = publisher.try_setup(&second, "RTP/AVP;unicast;client_port=5000-5001;mode=record");
    assert_eq!(udp.status, 461, "one way for all");
    assert_eq!(publisher.request("PLAY").status, 455);
    assert_eq!(publisher.request("PAUSE").status, 455, "it does not record yet");
    assert_eq!(publisher.request("ANNOUNCE").status, 455);
    publisher.rtp(0, &rtp(96, 0, 0, 5, &[0x65; 100]));
    publisher.record().expect(200);
    publisher.record().expect(200);
    assert_eq!(publisher.try_setup(&second, interleaved).status, 455, "it records");
    // Others: a second publisher, and one who guesses.
    let mut other = Client::connect(server.rtsp);
    assert_eq!(announce(&mut other, &url, SOUND).status, 403);
    let guess = format!("{:016x}", u64::from_str_radix(&publisher.id, 16).unwrap_or(0) ^ 1);
    for method in ["TEARDOWN", "RECORD", "PLAY", "SETUP"] {
        let headers = [("Session", guess.as_str()), ("Transport", interleaved)];
        assert_eq!(other.request(method, &url, &headers).status, 454, "{method}");
    }
    // A stranger's interleaved frames are not the publisher's.
    other.send_raw(support::publish::interleaved(0, &rtp(96, 1, 0, 5, &[0x65; 100])));
    // Who knows the session may not end it: an interleaved one belongs to its connection.
    let headers = [("Session", publisher.id.as_str())];
    other.request("TEARDOWN", &url, &headers).expect(454);
    publisher.request("TEARDOWN").expect(200);
    until("the path is free", || announce(&mut other, &url, SOUND).status == 200);
    // Again on the same connection: it is described anew.
    announce(&mut other, &url, PICTURES_AND_SOUND).expect(200);
    let body = Client::connect(server.rtsp).request("DESCRIBE", &url, &[]).expect(200).body;
    assert!(body.contains("H264"), "{body}");
    assert_survived(server, witness);
}

#[test]
fn whole_publication_in_one_segment_is_answered_in_order() {
    let server = server();
    let witness = Witness::start(&server);
    let mut client = Client::connect(server.rtsp);
    let url = server.url("live/a");
    let type_ = ("Content-Type", "application/sdp");
    let describe = client.format("DESCRIBE", &url, &[], "");
    let announced = client.format("ANNOUNCE", &url, &[type_], SOUND);
    let transport = [("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record")];
    let setup = client.format("SETUP", &format!("{url}/streamid=0"), &transport, "");
    let ping = client.format("OPTIONS", &url, &[], "");
    client.send_raw([describe, announced, setup, ping].concat());
    assert_eq!(client.response().status, 404, "nothing is announced yet");
    client.response().expect(200);
    let id = client.response().expect(200).session_id();
    client.response().expect(200);
    let record = client.format("RECORD", &url, &[("Session", &id)], "");
    let packets = (0..50).map(|seq| interleaved(0, &rtp(0, seq, 0, 5, &[0; 160])));
    let packets = packets.collect::<Vec<_>>().concat();
    client.send_raw([record.as_bytes(), &packets].concat());
    client.response().expect(200);
    until("packets behind RECORD are taken", || {
        list(get_json(server.admin, "/v1/paths"))
            .iter()
            .any(|path| path["path"] == "live/a" && path["batches"] != 0)
    });
    assert_survived(server, witness);
}

#[test]
fn jumps_of_numbers_and_time_are_forwarded_unchanged() {
    let server = server();
    let witness = Witness::start(&server);
    let mut publisher = Publisher::start(&server, "live/victim", SOUND, Lower::Tcp);
    publisher.rtp(0, &rtp(0, 65_534, 0, 5, &[0; 160]));
    let mut reader = reader(&server, "live/victim", Lower::Tcp);
    // Numbers: over the end, forwards, backwards. Times: hours ahead, and back.
    let jumps = [
        (65_535, 160),
        (0, 320),
        (1, u32::MAX - 5),
        (30_000, 480),
        (30_001, 4_000 * SECOND),
        (12, 640),
        (13, 800),
    ];
    for (seq, ts) in jumps {
        publisher.rtp(0, &rtp(0, seq, ts, 5, &[0; 160]));
        publisher.rtcp(0, &sender_report(5, u64::from(ts) << 32 | 1, ts));
        receive_seq(&mut reader, seq);
    }
    let mut wanted = vec![65_534];
    wanted.extend(jumps.map(|(seq, _)| seq));
    assert_eq!(seqs(&reader), wanted, "numbers are the source's");
    assert!(reader.streams[0].packets.iter().all(|packet| packet.ssrc == 5));
    assert_survived(server, witness);
}

#[test]
fn publisher_that_stops_within_a_frame_leaves_path_and_readers_intact() {
    let server = server();
    let witness = Witness::start(&server);
    for (path, is_polite) in [("live/polite", true), ("live/killed", false)] {
        let key = |seq: u16, payload_type: u8, first: u8| {
            // FU-A of an IDR picture: begins, or goes on.
            rtp(payload_type, seq, 9_000, 5, &[&[0x7c, first][..], &[7; 500]].concat())
        };
        let mut publisher = Publisher::start(&server, path, PICTURES_AND_SOUND, Lower::Tcp);
        publisher.rtp(0, &key(0, 96, 0x85));
        let mut reader = reader(&server, path, Lower::Tcp);
        publisher.rtp(0, &key(1, 96, 0x05));
        receive_seq(&mut reader, 1);
        if is_polite {
            publisher.rtp(0, &key(2, 96, 0x05));
            publisher.request("TEARDOWN").expect(200);
            receive_seq(&mut reader, 2);
        } else {
            publisher.client.stream().shutdown(Shutdown::Both).unwrap();
        }
        drop(publisher);
        // The next one goes on under the reader's feet, and begins with a picture.
        let mut next = None;
        until("the path is free", || {
            let mut client = Client::connect(server.rtsp);
            let is_free =
                announce(&mut client, &server.url(path), PICTURES_AND_SOUND).status == 200;
            next = is_free.then_some(client);
            is_free
        });
        let (url, id, tracks) = (server.url(path), String::new(), Vec::new());
        let mut publisher = Publisher { client: next.unwrap(), url, id, tracks };
        publisher.setup(0, Lower::Tcp);
        publisher.record().expect(200);
        let before = reader.streams[0].packets.len();
        publisher.rtp(0, &key(77, 96, 0x05));
        publisher.rtp(0, &rtp(96 | 0x80, 78, 12_600, 5, &[&[0x65][..], &[8; 300]].concat()));
        let came = reader.receive_until(PATIENCE, |s| s[0].packets.len() > before);
        assert!(came, "{path}: the next publisher's picture");
        let packets = &reader.streams[0].packets;
        assert_contiguous(packets);
        assert!(packets.iter().all(|packet| packet.ssrc == 5), "{path}: one stream");
        assert_eq!(packets[before].payload[0], 0x65, "{path}: begins with a picture");
    }
    assert_survived(server, witness);
}

#[test]
fn reader_that_never_reads_does_not_disturb_others() {
    let server = server();
    let witness = Witness::start(&server);
    let mut publisher = Publisher::start(&server, "live/victim", SOUND, Lower::Tcp);
    publisher.rtp(0, &rtp(0, 0, 0, 5, &[0; 1_200]));
    let stalled = reader(&server, "live/victim", Lower::Tcp);
    let mut good = reader(&server, "live/victim", Lower::Tcp);
    // 24 MB, more than its window holds; as fast as the good one takes it.
    for seq in 1..=20_000_u16 {
        publisher.rtp(0, &rtp(0, seq, u32::from(seq) * 160, 5, &[0; 1_200]));
        if seq.is_multiple_of(100) {
            receive_seq(&mut good, seq);
            good.streams[0].packets.drain(..99);
        }
    }
    let mut all = readers(server.admin);
    all.retain(|session| session["path"] == "live/victim");
    assert_eq!(all.len(), 2, "a stalled reader is not ended: {all:?}");
    drop(stalled);
    assert_survived(server, witness);
}

#[test]
fn publisher_that_falls_silent_is_ended_over_udp_and_over_tcp_with_its_connection() {
    let server = server();
    let witness = Witness::start(&server);
    let mut silent = [("live/udp", Lower::Udp), ("live/tcp", Lower::Tcp)].map(|(path, lower)| {
        let mut publisher = Publisher::start(&server, path, SOUND, lower);
        publisher.rtp(0, &rtp(0, 0, 0, 5, &[0; 160]));
        publisher.request("GET_PARAMETER").expect(200);
        assert_eq!(describe(&server, path), 200);
        publisher
    });
    let [udp, tcp] = &mut silent;
    let limit = Duration::from_secs(60);
    until_within(limit, "the path over UDP has ended", || describe(&server, "live/udp") == 404);
    udp.client.assert_closed();
    assert_eq!(describe(&server, "live/tcp"), 200, "its connection is open");
    tcp.request("GET_PARAMETER").expect(200);
    drop(silent);
    until_within(limit, "both paths have ended", || describe(&server, "live/tcp") == 404);
    server.assert_logs("source down: no RTP from the source");
    assert_eq!(server.log().matches("source down: no RTP from the source").count(), 1);
    assert_survived(server, witness);
}
