//! Records of version 1: what was written once is read for ever.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::exact::{Bytes, Exact};
use super::live::InputRecord;
use super::v1::*;
use super::{Hello, ToNew, ToOld, VERSIONS};

mod live;

/// Written by the first program that had version 1. It is never changed.
const SAMPLE: &str = include_str!("sample-v1.json");

#[test]
fn sample_of_the_first_version_is_read_and_written_as_it_was() {
    let record: ShardRecord = serde_json::from_str(SAMPLE).unwrap();
    assert_eq!(record, sample());
    let written: serde_json::Value = serde_json::to_value(&record).unwrap();
    let before: serde_json::Value = serde_json::from_str(SAMPLE).unwrap();
    assert_eq!(written, before);
}

#[test]
fn fields_that_are_not_known_are_passed_over_and_missing_ones_have_defaults() {
    let text = r#"{
        "shard": 3, "of_a_later_version": { "a": [1, 2] },
        "units": [{
            "connection": {
                "socket": 0, "peer": "[2001:db8::7]:40000", "local": "192.0.2.1:8554",
                "accepted_ns": 1, "heard_ns": 2, "colour": "red"
            }
        }]
    }"#;
    let record: ShardRecord = serde_json::from_str(text).unwrap();
    let connection = record.units[0].connection.as_ref().unwrap();
    assert!(record.titles.is_empty() && record.units[0].sessions.is_empty());
    assert!(!connection.is_rtsp && connection.output.0.is_empty() && connection.nonce.is_none());
}

#[test]
fn what_cannot_be_understood_is_an_error() {
    for (text, part) in [
        (r#"{ "units": [] }"#, "missing field `shard`"),
        (r#"{ "shard": 0, "units": [{ "sessions": [{ "juggler": {} }] }] }"#, "juggler"),
        (r#"{ "shard": 300 }"#, "300"),
    ] {
        let error = serde_json::from_str::<ShardRecord>(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(serde_json::from_str::<Bytes>("\"not base64!\"").is_err());
}

#[test]
fn number_that_cannot_be_is_refused_with_the_session() {
    assert_eq!(sample().check(), Ok(()));
    type Change = fn(&mut TitleSessionRecord);
    let changes: [(&str, Change); 10] = [
        ("clock", |title| title.streams[0].rtp.clock_rate_hz = 0),
        ("scale", |title| title.epoch.as_mut().unwrap().scale = Exact(f64::NAN)),
        ("scale", |title| title.epoch.as_mut().unwrap().scale = Exact(0.0)),
        ("scale", |title| title.epoch.as_mut().unwrap().scale = Exact(f64::NEG_INFINITY)),
        ("speed", |title| title.epoch.as_mut().unwrap().speed = Exact(f64::NAN)),
        ("speed", |title| title.epoch.as_mut().unwrap().speed = Exact(-1.0)),
        ("payload type", |title| title.streams[0].rtp.payload_type = 128),
        ("payload type", |title| title.streams[0].rtp.rtx.as_mut().unwrap().payload_type = 200),
        ("centuries", |title| title.report_ns = u64::MAX),
        ("centuries", |title| title.epoch.as_mut().unwrap().wall_ns = u64::MAX),
    ];
    for (part, change) in changes {
        let mut record = sample();
        let SessionRecord::Title(title) = &mut record.units[0].sessions[0] else {
            panic!("the sample begins with a title")
        };
        let id = title.client.id.clone();
        change(title);
        let why = record.check().unwrap_err();
        assert!(why.contains(part) && why.contains(&id), "{part}: {why}");
    }
}

#[test]
fn newest_common_version_is_used_and_without_one_a_sentence_names_both() {
    let mut hello = Hello::new("1.0", false);
    assert_eq!(hello.common_version(), Ok(VERSIONS[0]));
    hello.versions = vec![99, 1];
    assert_eq!(hello.common_version(), Ok(1));
    hello.versions = vec![99];
    let why = hello.common_version().unwrap_err();
    assert!(why.contains("[99]") && why.contains("[1]"), "{why}");
}

#[test]
fn messages_are_told_apart() {
    let without = ToOld::Without { titles: vec![0, 7] };
    for message in [ToOld::Hello(Hello::new("1.0", true)), without, ToOld::Freeze, ToOld::Taken] {
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<ToOld>(&text).unwrap(), message);
    }
    for message in [ToNew::Frozen, ToNew::Shard(Box::new(sample()))] {
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<ToNew>(&text).unwrap(), message);
    }
}

#[expect(clippy::too_many_lines, reason = "a line for each field")]
fn sample() -> ShardRecord {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let stream = |transport, place| StreamRecord {
        phase: PhaseRecord::Sending,
        track: 0,
        level: LevelRecord::Reference,
        shares: true,
        feed: FeedRecord {
            track: 0,
            ts_epoch: 4_000_000_000,
            from_sample: Some(0),
            anchor_ticks: -1_800,
            ticks_max: 270_000,
            skip_before_ns: Some(40_000_000),
            place: Some(place),
        },
        rtp: OutgoingRecord {
            payload_type: 96,
            clock_rate_hz: 90_000,
            numbers: NumbersRecord::Own {
                ssrc: 0xdead_beef,
                seq: 65_535,
                ts_zero: 7,
                packets: 1_000,
                payload_bytes: 1_400_000,
            },
            transport,
            rtx: Some(RtxRecord { payload_type: 97, seq: 3, ssrc: 9 }),
            report: Some(ReportRecord {
                sender_ssrc: 1,
                ssrc: 0xdead_beef,
                fraction_lost: 2,
                cumulative_lost: -1,
                ext_highest_seq: 131_070,
                jitter: 30,
                lsr: 4,
                dlsr: 5,
                round_trip_ns: Some(20_000_000),
            }),
            control_url: "rtsp://host/vod/a.mp4/trackID=0".to_owned(),
        },
        quality: Some(QualityRecord {
            lowest: LevelRecord::Sync,
            bad: 1,
            clean: 0,
            patience: 6,
            lag_ns: 0,
            looked_ns: Some(11),
            changed_ns: None,
            thickened_ns: None,
        }),
        bye_ns: None,
        history: None,
    };
    let udp = TransportRecord::Udp {
        pair: 0,
        rtp: address("192.0.2.7:5000"),
        rtcp: address("192.0.2.7:5001"),
    };
    let tcp = TransportRecord::Tcp { channel: 2, rtcp_channel: 3 };
    let at = PlaceAt::Frame { frame: 17, packet: 2, sample: Some(117) };
    let place = PlaceRecord { is_sync: false, is_backward: false, at, window: 2 };
    let edge = PlaceRecord { is_sync: true, is_backward: true, at: PlaceAt::Edge, window: 1 };
    ShardRecord {
        shard: 3,
        titles: vec![
            TitleRecord { name: Some("a.mp4".to_owned()), file: Fd(3), wire: u64::MAX },
            TitleRecord { name: None, file: Fd(4), wire: 1 },
        ],
        pairs: vec![PairRecord { shard: 3, rtp_port: 8_006, rtp: Fd(0), rtcp: Fd(1) }],
        units: vec![
            UnitRecord {
                connection: Some(ConnectionRecord {
                    socket: Fd(2),
                    peer: address("192.0.2.7:40000"),
                    local: address("192.0.2.1:8554"),
                    is_rtsp: true,
                    input: Bytes(b"OPTIONS".to_vec()),
                    output: Bytes(vec![b'$', 2, 0, 1, 255]),
                    is_closing: false,
                    accepted_ns: 1,
                    has_asked: true,
                    begun_ns: Some(2),
                    heard_ns: 3,
                    served_ns: 4,
                    nonce: Some("0123456789abcdef".to_owned()),
                }),
                sessions: vec![SessionRecord::Title(Box::new(TitleSessionRecord {
                    client: ClientRecord {
                        id: "03123456789ABCDE".to_owned(),
                        peer: address("192.0.2.7:40000"),
                        user_agent: Some("VLC".to_owned()),
                        user: Some("ann".to_owned()),
                        created_ns: 5,
                        alive_ns: 6,
                        cname: "01234567@host".to_owned(),
                    },
                    title: 0,
                    described: 1,
                    state: StateRecord::Paused { at_ns: 7 },
                    streams: vec![stream(udp, place), stream(tcp, edge)],
                    liveness_ns: 8,
                    epoch: Some(EpochRecord {
                        wall_ns: 9,
                        npt_ns: 10,
                        due_zero_ns: -11,
                        scale: Exact(-1.5),
                        speed: Exact(1.0 / 3.0),
                        playout_ns: 12,
                    }),
                    end_ns: Some(13),
                    pause_point_ns: Some(14),
                    report_ns: 15,
                    play_received_ns: Some(16),
                }))],
            },
            live::unit(),
        ],
        datagrams: vec![DatagramRecord {
            pair: 0,
            is_rtcp: true,
            from: address("192.0.2.7:5001"),
            bytes: Bytes(vec![0x80, 201, 0, 1]),
        }],
        paths: vec![live::path()],
        inputs: vec![live::input()],
        packets: Some(Fd(5)),
        frozen_ns: 17,
        halted_ns: None,
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u16; 8], u16)>().prop_map(SocketAddr::from),
    ]
}

fn any_place() -> impl Strategy<Value = PlaceRecord> {
    let at = prop_oneof![
        Just(PlaceAt::Edge),
        any::<u32>().prop_map(PlaceAt::Sample),
        any::<(u32, u32, Option<u32>)>().prop_map(|(frame, packet, sample)| PlaceAt::Frame {
            frame,
            packet,
            sample
        }),
    ];
    (any::<(bool, bool, u32)>(), at).prop_map(|((is_sync, is_backward, window), at)| PlaceRecord {
        is_sync,
        is_backward,
        at,
        window,
    })
}

fn any_level() -> impl Strategy<Value = LevelRecord> {
    prop_oneof![Just(LevelRecord::Full), Just(LevelRecord::Reference), Just(LevelRecord::Sync)]
}

fn any_outgoing() -> impl Strategy<Value = OutgoingRecord> {
    let numbers = prop_oneof![
        any::<(u32, u16, u32, u64, u64)>().prop_map(
            |(ssrc, seq, ts_zero, packets, payload_bytes)| NumbersRecord::Own {
                ssrc,
                seq,
                ts_zero,
                packets,
                payload_bytes,
            }
        ),
        any::<Option<u32>>().prop_map(|ssrc| NumbersRecord::Source { ssrc }),
    ];
    let transport = prop_oneof![
        (any::<u32>(), any_address(), any_address())
            .prop_map(|(pair, rtp, rtcp)| TransportRecord::Udp { pair, rtp, rtcp }),
        any::<(u8, u8)>()
            .prop_map(|(channel, rtcp_channel)| TransportRecord::Tcp { channel, rtcp_channel }),
    ];
    let rtx = option::of(any::<(u8, u16, u32)>())
        .prop_map(|rtx| rtx.map(|(payload_type, seq, ssrc)| RtxRecord { payload_type, seq, ssrc }));
    (any::<(u8, u32)>(), numbers, transport, rtx, "\\PC{0,30}").prop_map(
        |((payload_type, clock_rate_hz), numbers, transport, rtx, control_url)| OutgoingRecord {
            payload_type,
            clock_rate_hz,
            numbers,
            transport,
            rtx,
            report: None,
            control_url,
        },
    )
}

fn any_stream() -> impl Strategy<Value = StreamRecord> {
    let feed = (any::<(u8, u32, Option<u32>, i64, i64, Option<i64>)>(), option::of(any_place()))
        .prop_map(|(fields, place)| {
            let (track, ts_epoch, from_sample, anchor_ticks, ticks_max, skip_before_ns) = fields;
            FeedRecord {
                track,
                ts_epoch,
                from_sample,
                anchor_ticks,
                ticks_max,
                skip_before_ns,
                place,
            }
        });
    let sent = any::<(u16, u16, u32, u32, u32)>().prop_map(|(seq, packets, window, packet, ts)| {
        SentRecord { seq, packets, window, packet, ts }
    });
    let history = option::of((any::<u32>(), vec(sent, 0..3)))
        .prop_map(|history| history.map(|(cut, sent)| HistoryRecord { cut, sent }));
    (any::<(u8, bool, Option<u64>)>(), any_level(), feed, any_outgoing(), history).prop_map(
        |((track, shares, bye_ns), level, feed, rtp, history)| StreamRecord {
            phase: PhaseRecord::Sending,
            track,
            level,
            shares,
            feed,
            rtp,
            quality: None,
            bye_ns,
            history,
        },
    )
}

fn any_session() -> impl Strategy<Value = SessionRecord> {
    let client =
        (
            "[0-9A-F]{16}",
            any_address(),
            option::of("\\PC{0,20}"),
            any::<(u64, u64)>(),
            "\\PC{0,20}",
        )
            .prop_map(|(id, peer, user_agent, (created_ns, alive_ns), cname)| {
                ClientRecord { id, peer, user_agent, user: None, created_ns, alive_ns, cname }
            });
    let rate = || any::<f64>().prop_filter("a rate", |rate| rate.is_finite()).prop_map(Exact);
    let epoch = (any::<(u64, i64, i64, i64)>(), rate(), rate()).prop_map(
        |((wall_ns, npt_ns, due_zero_ns, playout_ns), scale, speed)| EpochRecord {
            wall_ns,
            npt_ns,
            due_zero_ns,
            scale,
            speed,
            playout_ns,
        },
    );
    let rest = any::<(u32, u32, u64, u64, Option<i64>, Option<i64>)>();
    (client, vec(any_stream(), 0..3), option::of(epoch), rest).prop_map(
        |(client, streams, epoch, rest)| {
            let (title, described, liveness_ns, report_ns, end_ns, pause_point_ns) = rest;
            SessionRecord::Title(Box::new(TitleSessionRecord {
                client,
                title,
                described,
                state: StateRecord::Playing,
                streams,
                liveness_ns,
                epoch,
                end_ns,
                pause_point_ns,
                report_ns,
                play_received_ns: None,
            }))
        },
    )
}

proptest! {
    #[test]
    fn records_read_back_as_they_were_written(
        units in vec(vec(prop_oneof![any_session(), live::any_session()], 0..3), 0..4),
        paths in vec(live::any_path(), 0..3),
        came in vec((any_address(), any::<Vec<u8>>()), 0..3),
        halted_ns in any::<Option<u64>>(),
        datagrams in vec((any::<u32>(), any::<bool>(), any_address(), any::<Vec<u8>>()), 0..3),
    ) {
        let units = units.into_iter().map(|sessions| UnitRecord { connection: None, sessions });
        let datagrams = datagrams.into_iter().map(|(pair, is_rtcp, from, bytes)| DatagramRecord {
            pair,
            is_rtcp,
            from,
            bytes: Bytes(bytes),
        });
        let came = came.into_iter().map(|(from, bytes)| (from, Bytes(bytes)));
        let record = ShardRecord {
            units: units.collect(),
            datagrams: datagrams.collect(),
            paths,
            inputs: vec![InputRecord { datagrams: came.collect(), ..live::input() }],
            halted_ns,
            ..ShardRecord::default()
        };
        let text = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<ShardRecord>(&text).unwrap(), record);
    }

    #[test]
    fn no_text_of_another_process_panics(text in "\\PC{0,60}", bytes in any::<[u8; 12]>()) {
        let _refused = serde_json::from_str::<ToNew>(&text);
        let _refused = super::frame::Head::from_bytes(bytes);
    }
}
