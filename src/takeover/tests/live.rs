//! Records of live paths: a sample with all fields, and any of them.

use super::*;
use crate::takeover::live::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The path of the sample.
pub(super) fn path() -> PathRecord {
    let track = TrackRecord {
        clock_rate_hz: 90_000,
        payload_types: vec![96],
        needs_sync: true,
        identity: "video H264".to_owned(),
    };
    let span = |is_for_datagrams, clock| SpanRecord {
        track: 0,
        is_for_datagrams,
        clock,
        packets: vec![(1_400, 12, true), (60, 20, false)],
    };
    PathRecord {
        name: "live/a".to_owned(),
        generation: 4,
        description: DescriptionRecord {
            sdp: "v=0\r\n".to_owned(),
            feedback_sdp: Some("v=0\r\ns=-\r\n".to_owned()),
            tracks: vec![track],
            awaits_sets: true,
        },
        owner: Some(OwnerRecord { sources_seen: 2, batches: 3, hold_until_ns: Some(5) }),
        blocks: vec![BlockRecord {
            id: u64::MAX,
            offset: 6,
            generation: 3,
            received_ns: 7,
            tracks: vec![
                span(false, Some(ClockRecord { utc_ns: -8, ts: u32::MAX })),
                span(true, None),
            ],
            awaiting: 1,
            completing: 2,
            with_datagrams: 3,
        }],
    }
}

/// The input of the sample.
pub(super) fn input() -> InputRecord {
    InputRecord {
        path: "live/b".to_owned(),
        to: address("239.1.2.3:5004"),
        is_rtcp: true,
        senders: vec![address("192.0.2.5:0").ip()],
        interface: Some("eth1".to_owned()),
        socket: Fd(6),
        datagrams: Vec::new(),
    }
}

/// The connection of the sample that reads and publishes.
pub(super) fn unit() -> UnitRecord {
    let sessions = vec![
        SessionRecord::Reader(Box::new(reader())),
        SessionRecord::Publisher(Box::new(publisher())),
    ];
    UnitRecord { connection: None, sessions }
}

fn reader() -> ReaderRecord {
    let rewrite = RewriteRecord {
        generation: 4,
        source_ssrc: 5,
        ssrc: 6,
        seq_delta: 7,
        ts_delta: 8,
        payload_type: Some((96, 97)),
    };
    let clock = Some(ClockRecord { utc_ns: 9, ts: 10 });
    ReaderRecord {
        client: ClientRecord {
            id: "03123456789ABCDF".to_owned(),
            peer: address("192.0.2.8:40000"),
            user_agent: None,
            user: None,
            created_ns: 1,
            alive_ns: 2,
            cname: "01234567@host".to_owned(),
        },
        path: "live/a".to_owned(),
        state: ReaderStateRecord::Playing,
        report_ns: 3,
        pace: PaceRecord { wall_ns: 4, received_ns: 5, delay_ns: 6 },
        delay_ns: -7,
        skips: [8, 9, 10],
        skipped: 11,
        sent: (12, 13),
        streams: vec![ReaderStreamRecord {
            track: 0,
            rtp: OutgoingRecord {
                payload_type: 96,
                clock_rate_hz: 90_000,
                numbers: NumbersRecord::Source { ssrc: Some(14) },
                transport: TransportRecord::Tcp { channel: 0, rtcp_channel: 1 },
                rtx: None,
                report: None,
                control_url: "rtsp://host/live/a/trackID=0".to_owned(),
            },
            sent: (15, 16),
            is_datagram: true,
            has_begun: true,
            block: Some(u64::MAX),
            behind: None,
            run: 1,
            packet: 2,
            rewrite: Some(rewrite),
            rewrite_from: Some((17, 18)),
            last_sent: Some(LastSentRecord { rewrite, seq: 19, ts: 20, received_ns: 21, clock }),
            is_awaiting: true,
            awaiting_from_ns: Some(22),
            is_broken: true,
        }],
    }
}

#[expect(clippy::too_many_lines, reason = "a line for each field")]
fn publisher() -> PublisherRecord {
    PublisherRecord {
        id: "03123456789ABCE0".to_owned(),
        path: "live/a".to_owned(),
        generation: 4,
        is_recording: true,
        uri: "rtsp://host/live/a".to_owned(),
        peer: address("192.0.2.9:40000"),
        user_agent: Some("Lavf".to_owned()),
        user: Some("bob".to_owned()),
        sdp: "v=0\r\nm=video 0 RTP/AVP 96\r\n".to_owned(),
        local: address("192.0.2.1:0").ip(),
        sdp_session_id: 1,
        sdp_version: 2,
        alive_ns: 3,
        cname: "01234567@host".to_owned(),
        own_ssrc: 4,
        redescribed_ns: Some(5),
        fed_since_ns: Some(6),
        source: SourceRecord {
            began_ns: Some(7),
            packet_ns: 8,
            sign_ns: 9,
            reported_ns: 10,
            sync_asked_ns: Some(11),
            clock_offset_ns: Some(-12),
            packets: 13,
            bytes: 14,
            batches: 15,
            sync_samples: 16,
            dropped: vec![0, 1],
        },
        tracks: vec![PublisherTrackRecord {
            transport: Some(TransportRecord::Udp {
                pair: 0,
                rtp: address("192.0.2.9:5000"),
                rtcp: address("192.0.2.9:5001"),
            }),
            heard_from: [Some(address("192.0.2.9:6000")), None],
            has_fresh_sets: true,
            sets: vec![Bytes(vec![0x67, 66, 0, 30])],
            untold_sets: Some(true),
            has_changed: true,
            fir_number: 17,
            clock: Some(ClockRecord { utc_ns: 18, ts: 19 }),
            is_clock_reported: true,
            stream: Some(StreamHeldRecord {
                ssrc: 20,
                name: 21,
                payload_type: 96,
                seq: 22,
                ts: 23,
                from: Some(address("192.0.2.9:6000")),
                heard_ns: 24,
            }),
            replaced: vec![Some((25, 26)), None],
            reception: Some(ReceptionRecord {
                ssrc: 20,
                base: 27,
                highest: 28,
                received: 29,
                expected_before: 30,
                received_before: 31,
                earlier_lost: -32,
                transit: Some(33),
                jitter: 34,
                sender_report: Some((35, 36)),
            }),
            sync_ts: Some(37),
            cuts: Some(CutsRecord { newest: Some(38), extra: 39, moved: vec![(40, 41)] }),
            counts: (42, 43),
            lost_before: -44,
        }],
    }
}

/// A record with one of these was looked at by nobody.
#[test]
fn numbers_of_live_paths_that_cannot_be_are_refused_with_what_they_are_of() {
    const FAR: u64 = u64::MAX;
    type OfPath = fn(&mut PathRecord);
    let of_path: [OfPath; 4] = [
        |path| path.owner.as_mut().unwrap().hold_until_ns = Some(FAR),
        |path| path.blocks[0].received_ns = FAR,
        |path| path.blocks[0].tracks[0].clock.as_mut().unwrap().utc_ns = i64::MIN,
        |path| path.description.tracks[0].clock_rate_hz = 0,
    ];
    for (number, change) in of_path.iter().enumerate() {
        let mut record = sample();
        change(&mut record.paths[0]);
        let why = record.check().unwrap_err();
        assert!(why.contains("path live/a"), "{number}: {why}");
    }
    type OfReader = fn(&mut ReaderRecord);
    let of_reader: [OfReader; 8] = [
        |reader| reader.client.created_ns = FAR,
        |reader| reader.pace.delay_ns = FAR,
        |reader| reader.delay_ns = i64::MIN,
        |reader| reader.skips[2] = FAR,
        |reader| reader.streams[0].sent.1 = FAR,
        |reader| reader.streams[0].awaiting_from_ns = Some(FAR),
        |reader| reader.streams[0].last_sent.as_mut().unwrap().received_ns = FAR,
        |reader| reader.streams[0].rtp.clock_rate_hz = 0,
    ];
    type OfPublisher = fn(&mut PublisherRecord);
    let of_publisher: [OfPublisher; 11] = [
        |publisher| publisher.redescribed_ns = Some(FAR),
        |publisher| publisher.fed_since_ns = Some(FAR),
        |publisher| publisher.source.began_ns = Some(FAR),
        |publisher| publisher.source.sync_asked_ns = Some(FAR),
        |publisher| publisher.source.clock_offset_ns = Some(i64::MAX),
        |publisher| publisher.source.dropped[1] = FAR,
        |publisher| publisher.tracks[0].stream.as_mut().unwrap().heard_ns = FAR,
        |publisher| publisher.tracks[0].replaced[0] = Some((1, FAR)),
        |publisher| publisher.tracks[0].reception.as_mut().unwrap().received = FAR,
        |publisher| publisher.tracks[0].reception.as_mut().unwrap().sender_report = Some((1, FAR)),
        |publisher| publisher.tracks[0].lost_before = i64::MIN,
    ];
    for number in 0..of_reader.len() + of_publisher.len() {
        let mut record = sample();
        let session = &mut record.units[1].sessions[usize::from(number >= of_reader.len())];
        match session {
            SessionRecord::Reader(reader) => of_reader[number](reader),
            SessionRecord::Publisher(publisher) => {
                of_publisher[number - of_reader.len()](publisher);
            }
            SessionRecord::Title(_) => unreachable!("the sample has none there"),
        }
        let id = session.id().to_owned();
        let why = record.check().unwrap_err();
        assert!(why.contains(&id), "{number}: {why}");
    }
}

pub(super) fn any_path() -> impl Strategy<Value = PathRecord> {
    let block = (any::<(u64, u64, u32, u64)>(), vec(any::<(u16, u16, bool)>(), 0..5)).prop_map(
        |((id, offset, generation, received_ns), packets)| BlockRecord {
            id,
            offset,
            generation,
            received_ns,
            tracks: vec![SpanRecord { track: 1, is_for_datagrams: false, clock: None, packets }],
            awaiting: 0,
            completing: 0,
            with_datagrams: 0,
        },
    );
    ("\\PC{0,20}", any::<u32>(), vec(block, 0..4))
        .prop_map(|(name, generation, blocks)| PathRecord { name, generation, blocks, ..path() })
}

pub(super) fn any_session() -> impl Strategy<Value = SessionRecord> {
    let places = any::<([Option<u64>; 2], u32, u16, Option<(u64, u32)>, bool, Option<u64>)>();
    let reader = (places, any::<([u64; 3], i64)>()).prop_map(|(places, (skips, delay_ns))| {
        let ([block, behind], run, packet, rewrite_from, is_awaiting, awaiting_from_ns) = places;
        let mut made = ReaderRecord { skips, delay_ns, ..reader() };
        let stream = made.streams.remove(0);
        made.streams = vec![ReaderStreamRecord {
            block,
            behind,
            run,
            packet,
            rewrite_from,
            is_awaiting,
            awaiting_from_ns,
            ..stream
        }];
        SessionRecord::Reader(Box::new(made))
    });
    let heard = [option::of(any_address()), option::of(any_address())];
    let counts = any::<(u64, u64, i64, Option<i64>)>();
    let publisher = (heard, vec(any::<Vec<u8>>(), 0..3), "\\PC{0,40}", counts).prop_map(
        |(heard_from, sets, sdp, (packets, bytes, lost_before, clock_offset_ns))| {
            let mut made = PublisherRecord { sdp, ..publisher() };
            made.source = SourceRecord { packets, bytes, clock_offset_ns, ..made.source };
            let sets = sets.into_iter().map(Bytes).collect();
            let track = made.tracks.remove(0);
            made.tracks = vec![PublisherTrackRecord { heard_from, sets, lost_before, ..track }];
            SessionRecord::Publisher(Box::new(made))
        },
    );
    prop_oneof![reader, publisher]
}
