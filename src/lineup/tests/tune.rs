//! What the client of a session receives across changes, and changes that fail.

use super::*;
use crate::base::ids::RtpTs;
use crate::base::random;
use crate::base::time::Npt;
use crate::rtp::srtp::{MasterKey, Suite};
use crate::rtp::write_header;

/// Ticks from one RTP time to another.
fn ticks(from: u32, to: u32) -> i64 {
    i64::from(to.wrapping_sub(from).cast_signed())
}

/// Position of a packet in what feeds the session, in nanoseconds.
fn media_ns(got: &Got, stream: usize, encoders: &[Encoder]) -> i64 {
    let hz = [90_000, 48_000][stream];
    match got.origin {
        Origin::Title(frame) => frame.rtp_ticks * 1_000_000_000 / hz,
        Origin::Live { ts, .. } => {
            let since = encoders.iter().map(|encoder| {
                let began = i64::try_from(encoder.began.0).unwrap();
                (ticks(encoder.zero[stream], ts), began)
            });
            let (since, began) = since.min_by_key(|(since, _)| since.abs()).unwrap();
            began + since * 1_000_000_000 / hz
        }
    }
}

/// Checks all that the client has received.
fn check(bench: &Bench, encoders: &[Encoder]) {
    let got = &bench.room.got;
    let changes: Vec<_> =
        bench.done.iter().filter(|(done, _)| done.result.is_ok()).map(|(_, at)| *at).collect();
    let mut lips: Vec<[i64; 2]> = Vec::new();
    for (stream, hz) in [(0, 90_000_i64), (1, 48_000)] {
        let got = &got[stream];
        assert!(got.len() > 20, "stream {stream}: {} packets", got.len());
        for pair in got.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            assert_eq!(b.seq, a.seq.wrapping_add(1), "stream {stream}: {a:?} {b:?}");
            assert_eq!((b.ssrc, b.payload_type), (a.ssrc, a.payload_type));
            assert!(stream == 0 || ticks(a.ts, b.ts) > 0, "{a:?} {b:?}");
        }
        let newest = |got: &[Got]| got.iter().map(|g| ticks(got[0].ts, g.ts)).max().unwrap();
        let bounds = changes.iter().map(|counts| counts[stream]).chain([got.len()]);
        let mut from = 0;
        for (number, to) in bounds.enumerate() {
            let (before, after) = (&got[..from], &got[from..to]);
            assert!(!after.is_empty(), "stream {stream} has no packet of feed {number}");
            if from > 0 {
                assert!(stream == 1 || after[0].is_sync(), "{:?}", after[0]);
                for packet in after {
                    assert!(ticks(got[0].ts, packet.ts) > newest(before), "{packet:?}");
                }
                let last = before[before.len() - 1];
                let waited = after[0].at.since(last.at);
                assert!(waited <= Duration::from_millis(200), "{waited:?} without a packet");
                let waited_ms = i64::try_from(waited.as_millis()).unwrap();
                let stepped_ms = ticks(last.ts, after[0].ts) * 1_000 / hz;
                assert!((stepped_ms - waited_ms).abs() <= 130, "{stepped_ms} in {waited_ms} ms");
            }
            if lips.len() <= number {
                lips.push([0; 2]);
            }
            // Where the feed's own time stands on the RTP time of the stream.
            let media = media_ns(&after[0], stream, encoders);
            lips[number][stream] = ticks(got[0].ts, after[0].ts) * 1_000_000_000 / hz - media;
            from = to;
        }
    }
    for (number, [video, sound]) in lips.iter().enumerate() {
        let apart = (video - sound) - (lips[0][0] - lips[0][1]);
        assert!(apart.abs() <= 1_000_000, "feed {number}: {apart} ns between sound and picture");
    }
}

/// Sender reports to the client name one line from wall clock to RTP time for each stream.
fn check_reports(bench: &Bench) {
    for (port, hz) in [(6_001, 90_000_i64), (6_003, 48_000)] {
        let to: SocketAddr = ([10, 0, 0, 9], port).into();
        let reports = bench.datagrams.iter().filter(|(at, bytes)| *at == to && bytes[1] == 200);
        let lines: Vec<u32> = reports
            .map(|(_, bytes)| {
                let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
                let fraction_ns = (i64::from(word(12)) * 1_000_000_000) >> 32;
                let ns = i64::from(word(8) & 0xffff) * 1_000_000_000 + fraction_ns;
                let ticks = ns * (hz / 1_000) / 1_000_000;
                word(16).wrapping_sub(u32::try_from(ticks & 0xffff_ffff).unwrap())
            })
            .collect();
        assert!(lines.len() >= 6, "{} reports", lines.len());
        for line in &lines {
            let apart_us = ticks(lines[0], *line) * 1_000_000 / hz;
            assert!(apart_us.abs() <= 2_000, "port {port}: {apart_us} us: {lines:?}");
        }
    }
}

#[test]
fn channels_and_titles_follow_each_other_under_one_wire_identity() {
    for (over_tcp, latency_ms) in [(false, 0), (true, 0), (false, 1_370)] {
        for moment in 0..12 {
            let mut bench = Bench::new();
            let mut encoders = vec![Encoder::new(&mut bench, "live/a", 0)];
            encoders[0].latency_ms = latency_ms;
            bench.run(&mut encoders, Duration::from_millis(360));
            encoders.push(Encoder::new(&mut bench, "live/b", 1));
            bench.run(&mut encoders, Duration::from_millis(1_000));
            let id = bench.watch("live/a", over_tcp);
            bench.run(&mut encoders, Duration::from_millis(1_000 + 40 * moment));
            let channels =
                [live("live/b"), title(20), title(30), live("live/a"), title(20), live("live/b")];
            for channel in channels {
                let tuned = bench.tuned(&mut encoders, id, channel.clone());
                assert!(tuned.is_ok(), "{channel:?}: {tuned:?}");
                bench.run(&mut encoders, Duration::from_millis(700 + 120 * moment));
            }
            check(&bench, &encoders);
            if !over_tcp {
                check_reports(&bench);
            }
            assert_eq!(bench.done.len(), 6);
        }
    }
}

#[test]
fn title_that_was_left_goes_on_where_it_was() {
    let mut bench = Bench::new();
    let mut encoders = vec![Encoder::new(&mut bench, "live/a", 0)];
    bench.run(&mut encoders, Duration::from_secs(1));
    let id = bench.watch("live/a", false);
    bench.run(&mut encoders, Duration::from_secs(1));
    assert_eq!(bench.tuned(&mut encoders, id, title(20)).unwrap().left_at, None);
    bench.run(&mut encoders, Duration::from_secs(5));
    let left_at = bench.tuned(&mut encoders, id, live("live/a")).unwrap().left_at;
    let at = left_at.unwrap();
    assert!((Npt(4_900_000_000)..Npt(5_200_000_000)).contains(&at), "{at:?}");
    let again = Channel::Title { name: "vod/20.mp4".into(), resume: left_at };
    bench.tuned(&mut encoders, id, again).unwrap();
    bench.run(&mut encoders, Duration::from_secs(1));
    let (_, [first, _]) = bench.done[2];
    let Origin::Title(frame) = bench.got[0][first].origin else { panic!("no title") };
    assert_eq!(frame.npt, Npt(5_000_000_000), "the sync sample at or before it");
}

#[test]
fn channel_that_cannot_be_played_leaves_the_session_where_it_is() {
    let mut bench = Bench::new();
    let mut encoders = vec![Encoder::new(&mut bench, "live/a", 0)];
    encoders.push(Encoder::with(&mut bench, "live/h264", 2, (96, 97), |sdp| {
        sdp.replace("VP8/90000", "H264/90000")
    }));
    encoders.push(Encoder::new(&mut bench, "live/silent", 3));
    encoders[2].is_silent = true;
    bench.run(&mut encoders, Duration::from_secs(1));
    let id = bench.watch("live/a", false);
    bench.run(&mut encoders, Duration::from_secs(1));
    let mut refused = |to: Channel| {
        let before = bench.got[0].len();
        let error = bench.tuned(&mut encoders, id, to).unwrap_err();
        bench.run(&mut encoders, Duration::from_secs(1));
        assert!(bench.got[0].len() >= before + 24, "the old channel plays on");
        error.to_string()
    };
    assert_eq!(
        refused(live("live/h264")),
        "the client was told video VP8/90000, audio opus/48000/2, the channel has video \
         H264/90000, audio opus/48000/2"
    );
    assert_eq!(refused(live("live/none")), "no packets of live/none: it has no source");
    assert_eq!(refused(title(7)), "no title vod/7.mp4: no such title");
    assert_eq!(refused(live("live/silent")), "nothing of the channel came within 10 s");
    let no_title = Channel::Title { name: "live/a".into(), resume: None };
    assert_eq!(refused(no_title), "no title live/a: no name of a title");
    check(&bench, &encoders);
    bench.is_busy = true;
    assert_eq!(bench.tune(id, title(20)), Ok(()));
    bench.run(&mut encoders, FRAME);
    let (done, _) = bench.done.last().unwrap();
    assert_eq!(done.result, Err(TuneError::TooManyTasks));
    assert_eq!(bench.sessions.live.readers.table.len(), 1);
    let readers = bench.sessions.live.hub.paths.iter().map(|path| path.reader_count());
    assert_eq!(readers.sum::<usize>(), 1, "no reader looks any more");
}

#[test]
fn session_changes_once_at_a_time_and_only_while_it_plays() {
    let mut bench = Bench::new();
    let mut encoders =
        vec![Encoder::new(&mut bench, "live/a", 0), Encoder::new(&mut bench, "live/silent", 2)];
    encoders[1].is_silent = true;
    bench.run(&mut encoders, Duration::from_secs(1));
    let id = bench.watch("live/a", false);
    bench.run(&mut encoders, Duration::from_secs(1));
    assert_eq!(bench.tune(id, live("live/silent")), Ok(()));
    assert_eq!(bench.tune(id, title(20)), Err(TuneError::Busy));
    assert_eq!(bench.viewer(Method::Teardown, "rtsp://h/live/a", Some(id), ""), 200);
    bench.run(&mut encoders, Duration::from_millis(200));
    assert_eq!(bench.done.len(), 1);
    assert_eq!(bench.done[0].0, TuneDone { session: id, result: Err(TuneError::Ended) });
    assert_eq!(bench.tune(id, title(20)), Err(TuneError::Ended));
    assert!(bench.sessions.tunings.is_empty());
    let readers = bench.sessions.live.hub.paths.iter().map(|path| path.reader_count());
    assert_eq!(readers.sum::<usize>(), 0);
    assert_eq!(bench.sessions.cx.sockets.tuple_count(), 0);
}

#[test]
fn paused_session_plays_the_next_channel() {
    let mut bench = Bench::new();
    let mut encoders = vec![Encoder::new(&mut bench, "live/a", 0)];
    bench.run(&mut encoders, Duration::from_secs(1));
    let id = bench.watch("live/a", false);
    bench.run(&mut encoders, Duration::from_secs(1));
    assert_eq!(bench.viewer(Method::Pause, "rtsp://h/live/a", Some(id), ""), 200);
    bench.run(&mut encoders, Duration::from_secs(3));
    let paused_at = bench.got[0].len();
    bench.tuned(&mut encoders, id, title(20)).unwrap();
    bench.run(&mut encoders, Duration::from_secs(2));
    let got = &bench.got[0];
    let (last, first) = (got[paused_at - 1], got[paused_at]);
    assert_eq!((first.seq, first.ssrc), (last.seq.wrapping_add(1), last.ssrc));
    let paused_ms = ticks(last.ts, first.ts) / 90;
    assert!((3_000..3_200).contains(&paused_ms), "RTP time goes on: {paused_ms} ms");
}

#[test]
fn title_of_a_line_up_ends_without_bye_and_the_session_goes_on() {
    let mut bench = Bench::new();
    let mut encoders = vec![Encoder::new(&mut bench, "live/a", 0)];
    bench.run(&mut encoders, Duration::from_secs(1));
    let id = bench.watch("live/a", false);
    bench.run(&mut encoders, Duration::from_secs(1));
    bench.tuned(&mut encoders, id, title(10)).unwrap();
    bench.run(&mut encoders, Duration::from_secs(12));
    let is_bye = |bytes: &Vec<u8>| !rtcp::parse(bytes).unwrap().byes.is_empty();
    assert!(!bench.datagrams.iter().any(|(_, bytes)| is_bye(bytes)));
    let tuned = bench.tuned(&mut encoders, id, live("live/a")).unwrap();
    assert!(tuned.left_at >= Some(Npt(10_000_000_000)));
    bench.run(&mut encoders, Duration::from_secs(1));
    let got = &bench.got[0];
    assert!(got.windows(2).all(|pair| pair[1].seq == pair[0].seq.wrapping_add(1)));
    assert!(matches!(got[got.len() - 1].origin, Origin::Live { .. }));
    assert_eq!(bench.viewer(Method::Teardown, "rtsp://h/live/a", Some(id), ""), 200);
    let byes = bench.datagrams.iter().filter(|(_, bytes)| is_bye(bytes)).count();
    assert_eq!(byes, 2);
}

#[test]
fn hundred_changes_leave_rtp_time_where_it_stands_on_the_wall_clock() {
    let mut bench = Bench::new();
    let mut encoders = vec![Encoder::new(&mut bench, "live/a", 0)];
    bench.run(&mut encoders, Duration::from_millis(360));
    encoders.push(Encoder::new(&mut bench, "live/b", 1));
    bench.run(&mut encoders, Duration::from_secs(1));
    let id = bench.watch("live/a", false);
    bench.run(&mut encoders, Duration::from_secs(2));
    let place_ms = |bench: &Bench, stream: usize| {
        let (first, last) = (bench.got[stream][0], *bench.got[stream].last().unwrap());
        let passed = i64::try_from(last.at.since(first.at).as_millis()).unwrap();
        ticks(first.ts, last.ts) / [90, 48][stream] - passed
    };
    let at_first = [place_ms(&bench, 0), place_ms(&bench, 1)];
    let channels = [live("live/b"), title(30), live("live/a")];
    for (round, channel) in (0..100_u64).zip(channels.iter().cycle()) {
        bench.tuned(&mut encoders, id, channel.clone()).unwrap();
        bench.run(&mut encoders, Duration::from_millis(40 + 120 * (round % 7)));
        for (stream, at_first) in at_first.iter().enumerate() {
            let moved = place_ms(&bench, stream) - at_first;
            assert!(moved.abs() <= 120, "round {round}, stream {stream}: {moved} ms");
        }
    }
    for stream in 0..2 {
        let got = &bench.got[stream];
        assert!(got.windows(2).all(|pair| pair[1].seq == pair[0].seq.wrapping_add(1)));
        assert!(stream == 0 || got.windows(2).all(|pair| ticks(pair[0].ts, pair[1].ts) > 0));
    }
}

#[test]
fn reports_and_the_end_of_the_connection_reach_the_session_in_its_present_role() {
    let mut bench = Bench::new();
    let mut encoders = vec![Encoder::new(&mut bench, "live/a", 0)];
    bench.run(&mut encoders, Duration::from_secs(1));
    let id = bench.watch("live/a", false);
    bench.run(&mut encoders, Duration::from_secs(1));
    for channel in [title(20), live("live/a"), title(30)] {
        bench.datagrams.clear();
        bench.tuned(&mut encoders, id, channel).unwrap();
        bench.run(&mut encoders, Duration::from_millis(400));
        let reports = bench.datagrams.iter().filter(|(to, _)| to.ip().to_string() == "10.0.0.9");
        assert!(reports.count() >= 2, "a sender report of each stream comes with the change");
        let ssrc = bench.got[0].last().unwrap().ssrc;
        let block = rtcp::ReportBlock {
            sender_ssrc: 9,
            ssrc,
            fraction_lost: 64,
            cumulative_lost: 1,
            ext_highest_seq: 0,
            jitter: 0,
            lsr: 0,
            dlsr: 0,
        };
        let mut bytes = [0; 64];
        let mut report = rtcp::CompoundWriter::new(&mut bytes);
        report.receiver_report(Ssrc(9), &[block]).unwrap();
        let bytes = report.as_bytes().to_vec();
        bench.sessions.handle_report_datagram(0, ([10, 0, 0, 9], 6_001).into(), &bytes);
        let infos = bench.sessions.infos();
        let info = infos.iter().find(|info| info.id == id.to_string()).unwrap();
        assert_eq!(info.streams[0].fraction_lost, Some(0.25), "{}", info.path);
    }
    assert!(bench.sessions.end_session(id, "test"));
    bench.settle();
    assert_eq!(bench.sessions.cx.sockets.tuple_count(), 0);
    assert!(bench.sessions.vod.players.count() == 0 && bench.sessions.cx.directory.len() == 1);
}

#[test]
fn session_that_begins_within_a_group_of_pictures_is_sent_it_as_it_came() {
    let mut bench = Bench::new();
    let mut encoders = vec![Encoder::new(&mut bench, "live/a", 0)];
    bench.run(&mut encoders, Duration::from_millis(1_800));
    bench.watch("live/a", false);
    bench.run(&mut encoders, Duration::from_secs(3));
    for (stream, ticks_per_ms) in [(0, 90), (1, 48)] {
        let got = &bench.got[stream];
        for packet in got {
            let passed = i64::try_from(packet.at.since(got[0].at).as_millis()).unwrap();
            let stamped = ticks(got[0].ts, packet.ts) / ticks_per_ms;
            assert!((stamped - passed).abs() <= 40, "{stamped} ms of RTP time in {passed} ms");
        }
    }
}

#[test]
fn channel_behind_a_title_with_srtp_begins_behind_all_numbers_that_may_have_left() {
    let mut bench = Bench::new();
    let mut encoders = vec![Encoder::new(&mut bench, "live/a", 0)];
    bench.run(&mut encoders, Duration::from_millis(360));
    let id = bench.watch("live/a", false);
    bench.run(&mut encoders, Duration::from_millis(1_000));
    bench.tuned(&mut encoders, id, title(20)).unwrap();
    bench.run(&mut encoders, Duration::from_millis(400));
    let Some(SessionRef::Title(key)) = bench.sessions.cx.directory.find(id) else {
        panic!("it is no title's")
    };
    let outgoing = &mut bench.sessions.vod.players.stream_mut(key, 0).unwrap().outgoing;
    let own = *outgoing.own().unwrap();
    let master = MasterKey::random(Suite::Aes128Gcm, &mut random::rng());
    let srtp = SrtpStream::new(&master, &master, &[]);
    // Runs that the socket has refused, where some packet may have left all the same.
    for ahead in 0..100 {
        let mut packet = [0; HEADER_BYTES];
        write_header(&mut packet, false, 96, own.seq.plus(ahead), RtpTs(0), own.ssrc);
        srtp.protect_rtp(&mut packet.to_vec(), 0).unwrap();
    }
    assert!(srtp.rewind(own.ssrc, own.seq));
    outgoing.srtp = Some(srtp);
    bench.tuned(&mut encoders, id, live("live/a")).unwrap();
    bench.run(&mut encoders, Duration::from_millis(200));
    let change = bench.done.last().unwrap().1[0];
    let first = &bench.room.got[0][change];
    assert!(matches!(first.origin, Origin::Live { .. }), "{first:?}");
    assert_eq!(first.seq, own.seq.plus(100).0);
}

#[test]
fn stream_with_srtp_that_was_sent_nothing_begins_its_title_far_from_the_first_wrap() {
    // The numbers are drawn: each of twelve would be low by chance in one of two cases.
    for _ in 0..6 {
        let mut bench = Bench::new();
        let _silent = Encoder::new(&mut bench, "live/a", 0);
        let id = bench.watch("live/a", false);
        bench.run(&mut [], Duration::from_secs(2));
        let Some(SessionRef::Reader(index)) = bench.sessions.cx.directory.find(id) else {
            panic!("it is no reader's")
        };
        let reader = bench.sessions.live.readers.table.get_mut(index as usize).unwrap();
        for stream in &mut reader.streams {
            let master = MasterKey::random(Suite::Aes128Gcm, &mut random::rng());
            stream.outgoing.srtp = Some(SrtpStream::new(&master, &master, &[]));
        }
        bench.tuned(&mut [], id, title(20)).unwrap();
        bench.run(&mut [], Duration::from_millis(400));
        for got in &bench.room.got {
            assert!(got[0].seq < 1 << 15, "{:?}", got[0]);
        }
    }
}
