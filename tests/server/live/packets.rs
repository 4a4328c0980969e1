//! Live paths with raw clients on both sides, which see each byte: what a publisher sends is what
//! readers get, tracks keep their distance in time, and who has gone has left nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::os::fd::AsFd;

use crate::support;
use crate::support::http::{get_json, list, metric, sessions};
use crate::support::live::describe;
use crate::support::publish::{Publisher, rtp, sender_report};
use crate::support::rtp::Rtcp;
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, readable, until};

#[test]
fn unknown_payload_format_is_forwarded_unchanged_with_its_header() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
        m=application 0 RTP/AVP 107\r\na=rtpmap:107 x-nobody/90000\r\n\
        a=fmtp:107 secret=1;other=2\r\na=control:streamid=0\r\n";
    let mut publisher = Publisher::start(&server, "live/odd", sdp, Lower::Udp);
    publisher.rtp(0, &rtp(107, 0, 0, 5, &[1; 10]));
    let url = server.url("live/odd");
    let mut session = Session::open_kinds(server.rtsp, &url, Lower::Udp, &["application"]);
    assert!(session.sdp.text.contains("a=fmtp:107 secret=1;other=2\r\n"), "{}", session.sdp.text);
    session.play(&[]);
    // CSRCs, an extension, padding, the marker; from 0 to the longest datagram, and one that is
    // longer and left out, since nobody knows how to cut it.
    let mut sent = vec![rtp(107, 0, 0, 5, &[1; 10])];
    for (place, length) in [0_usize, 1, 2, 3, 4, 100, 1_399, 1_400, 1_441, 2_000].iter().enumerate()
    {
        let seq = u16::try_from(place + 1).unwrap();
        let payload: Vec<u8> = (0..*length).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut packet = rtp(
            107 | 0x80,
            seq,
            77,
            5,
            &[&[9; 8], &[0xbe, 0xde, 0, 1, 5, 6, 7, 8][..], &payload, &[0, 0, 3]].concat(),
        );
        packet[0] = 0x80 | 0x20 | 0x10 | 2;
        publisher.rtp(0, &packet);
        if packet.len() <= 1_472 {
            sent.push(packet);
        }
    }
    let deadline = Deadline::after(PATIENCE);
    let (socket, mut got) = (&session.streams[0].udp().rtp, Vec::new());
    while got.len() < sent.len() && readable(&[socket.as_fd()], deadline)[0] {
        let mut block = [0; 4_096];
        let bytes = socket.recv(&mut block).unwrap();
        got.push(block[..bytes].to_vec());
    }
    assert_eq!(got, sent);
}

#[test]
fn offset_of_tracks_is_kept_whatever_the_publishers_clock_says() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    // 1970, in NTP: a camera that has just been switched on.
    let start_ntp = 2_208_988_800_u64 << 32;
    let sdp = support::publish::PICTURES_AND_SOUND;
    let mut publisher = Publisher::start(&server, "live/sync", sdp, Lower::Tcp);
    // What is shown at 0 s: pictures at 1,000,000, sound at 5,000; sound comes 2 s late.
    let [pictures, sound] = [1_000_000_u32, 5_000];
    publisher.rtcp(0, &sender_report(50, start_ntp, pictures));
    publisher.rtcp(1, &sender_report(60, start_ntp + (2 << 32), sound + 2 * 8_000));
    publisher.rtp(0, &rtp(96 | 0x80, 1, pictures + 2 * 90_000, 50, &[0x65; 50]));
    publisher.rtp(1, &rtp(0, 1, sound, 60, &[0; 160]));
    for lower in [Lower::Udp, Lower::Tcp] {
        let mut reader = Session::open(server.rtsp, &server.url("live/sync"), lower);
        let played = reader.play(&[]);
        let is_report = |report: &Rtcp| matches!(report, Rtcp::SenderReport { .. });
        let came = reader.receive_until(PATIENCE, |streams| {
            streams.iter().all(|stream| stream.reports.iter().any(is_report))
        });
        assert!(came, "a report on each stream, with its first packets");
        // When each track is at its 0 s, by the reports.
        let zero = |kind: &str, ts: u32, rate: f64| -> f64 {
            let Some(Rtcp::SenderReport { ntp, timestamp, .. }) =
                reader.stream(kind).reports.iter().find(|report| is_report(report))
            else {
                panic!("{kind}");
            };
            let ahead = f64::from(timestamp.wrapping_sub(ts).cast_signed()) / rate;
            to_s(*ntp) - ahead
        };
        let [pictures_s, sound_s] =
            [zero("video", pictures, 90_000.0), zero("audio", sound, 8_000.0)];
        assert!((pictures_s - sound_s).abs() < 0.001, "{pictures_s} {sound_s}");
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_s = since_1970.unwrap().as_secs_f64() + 2_208_988_800.0;
        assert!((pictures_s - now_s).abs() < 60.0, "by our clock, not by the camera's");
        // RTP-Info: the same instant for both.
        let info = played.rtp_info();
        let at = |place: usize, ts: u32, rate: f64| {
            f64::from(info[place].rtptime.wrapping_sub(ts).cast_signed()) / rate
        };
        let distance = at(0, pictures, 90_000.0) - at(1, sound, 8_000.0);
        assert!(distance.abs() < 0.001, "{distance} s in {info:?}");
    }
}

#[test]
fn publishers_and_readers_that_come_and_go_leave_nothing_behind() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let rest = |what: &str, wanted: Option<[f64; 3]>| -> [f64; 3] {
        let now = || {
            let count = |name| metric(server.admin, name).unwrap();
            let descriptors = f64::from(u32::try_from(server.open_descriptors()).unwrap());
            [count("headend_poll_table_entries"), count("headend_rtsp_connections"), descriptors]
        };
        // The question itself may have a descriptor that is not closed yet.
        until(what, || {
            let is_as_before = wanted
                .is_none_or(|wanted| now().iter().zip(wanted).all(|(now, wanted)| *now <= wanted));
            is_as_before && sessions(server.admin).is_empty()
        });
        now()
    };
    let before = rest("it has begun", None);
    let sound = support::publish::SOUND;
    // One who reads on while publishers come and go under it.
    let mut publisher = Publisher::start(&server, "live/a", sound, Lower::Tcp);
    publisher.rtp(0, &rtp(0, 0, 0, 1, &[0; 160]));
    let mut reader = Session::open(server.rtsp, &server.url("live/a"), Lower::Tcp);
    reader.play(&[]);
    for round in 0..20_u16 {
        let lower = [Lower::Udp, Lower::Tcp][usize::from(round % 2)];
        if round % 3 == 0 {
            publisher.request("TEARDOWN").expect(200);
        }
        drop(publisher);
        until("the path is free", || {
            list(get_json(server.admin, "/v1/paths")).iter().all(|path| path["state"] != "live")
        });
        publisher = Publisher::start(&server, "live/a", sound, lower);
        let count = reader.streams[0].packets.len();
        publisher.rtp(0, &rtp(0, round.wrapping_mul(5_000), 9, u32::from(round) + 2, &[3; 160]));
        assert!(reader.receive_until(PATIENCE, |s| s[0].packets.len() > count), "round {round}");
    }
    let packets = &reader.streams[0].packets;
    support::rtp::assert_contiguous(packets);
    assert!(packets.iter().all(|packet| packet.ssrc == 1), "one stream to its reader");
    // Readers that leave at once: politely, or not; before PLAY, or behind it.
    for round in 0..50 {
        let lower = [Lower::Udp, Lower::Tcp][round % 2];
        let mut other = Session::open(server.rtsp, &server.url("live/a"), lower);
        publisher.rtp(0, &rtp(0, 40_000 + u16::try_from(round).unwrap(), 9, 21, &[3; 160]));
        if round % 5 != 0 {
            other.play(&[]);
        }
        if lower == Lower::Udp || round % 3 == 0 {
            other.request("TEARDOWN", &[]).expect(200);
        }
    }
    drop((publisher, reader));
    rest("all is as it was", Some(before));
    until("the path is forgotten", || list(get_json(server.admin, "/v1/paths")).is_empty());
    assert_eq!(describe(&server, "live/a"), 404);
}

/// Seconds of an NTP timestamp.
fn to_s(ntp: u64) -> f64 {
    let [whole, part] =
        [ntp >> 32, ntp & 0xffff_ffff].map(|v| f64::from(u32::try_from(v).unwrap()));
    whole + part / 4_294_967_296.0
}
