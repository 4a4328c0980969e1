//! Behaviours of the choice, the place and the answer of a transport.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::config::limits::LimitsConfig;
use crate::config::secure::SrtpMode;
use crate::rtsp::reader::{Method, Request};
use crate::rtsp::uri::parse_target;
use crate::session::client::Client;
use crate::session::command::{Given, Led, ReplyTo};
use crate::session::cx::SessionConfig;
use crate::session::directory::SESSIONS_PER_CONNECTION_MAX;

const ENTRY: EntryKey = EntryKey { index: 1, generation: 0 };
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const UDP: &str = "RTP/AVP;unicast;client_port=5000-5001";
const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=2-3";
const GROUP: &str = "RTP/AVP;multicast;port=9000-9001";

fn address(port: u16) -> SocketAddr {
    SocketAddr::new(PEER, port)
}

/// A player's first stream.
const FIRST: Situation = Situation {
    low_ports: false,
    keys: Keys::Missing,
    srtp_required: false,
    mode: Mode::Play,
    peer: PEER,
    first: None,
    is_own_connection: true,
    serves_unicast: true,
    serves_group: false,
};

fn over_udp() -> Situation {
    let first = Transport::Udp { pair: 0, rtp: address(5_000), rtcp: address(5_001) };
    Situation { first: Some(first), ..FIRST }
}

fn over_tcp() -> Situation {
    Situation { first: Some(Transport::Tcp { channel: 0, rtcp_channel: 1 }), ..FIRST }
}

fn in_group() -> Situation {
    let first = Transport::Group { rtp: address(9_000), rtcp: address(9_001) };
    Situation { first: Some(first), serves_unicast: false, serves_group: true, ..FIRST }
}

/// The choice as one line.
fn chosen(header: Option<&str>, situation: &Situation) -> String {
    match choose(header, situation) {
        Ok(chosen) => format!("{:?} {:?}", chosen.profile, chosen.asked),
        Err(status) => status.code().to_string(),
    }
}

#[test]
fn header_and_situation_decide_the_transport_or_the_status() {
    let elsewhere = Situation { is_own_connection: false, ..FIRST };
    let grouped = Situation { serves_group: true, ..FIRST };
    let publisher = Situation { mode: Mode::Record, ..FIRST };
    let publisher_elsewhere = Situation { is_own_connection: false, ..publisher };
    let publisher_over_tcp = Situation { mode: Mode::Record, ..over_tcp() };
    let two = format!("{UDP},{TCP}");
    let three = format!("{GROUP},{TCP},{UDP}");
    let with = |parameter: &str| format!("{UDP};{parameter}");
    let cases: &[(&str, &Situation, &str)] = &[
        // A player's first stream: the first offer that is served.
        (UDP, &FIRST, "Avp Udp(5000, 5001)"),
        (TCP, &FIRST, "Avp Tcp(Some((2, 3)))"),
        ("RTP/AVP/TCP", &FIRST, "Avp Tcp(None)"),
        (&two, &FIRST, "Avp Udp(5000, 5001)"),
        (&three, &FIRST, "Avp Tcp(Some((2, 3)))"),
        ("RTP/AVPF;client_port=5000", &FIRST, "Avpf Udp(5000, 5001)"),
        ("RTP/SAVP;client_port=5000-5001", &FIRST, "461"),
        ("RTP/AVP", &FIRST, "461"),
        ("RTP/AVP;client_port=5000-5000", &FIRST, "461"),
        ("RTP/AVP;client_port=0-1", &FIRST, "400"),
        ("", &FIRST, "400"),
        (&with("mode=record"), &FIRST, "461"),
        (&with("mode=fly"), &FIRST, "461"),
        (GROUP, &FIRST, "461"),
        // Media goes to the peer only.
        (&with("destination=192.0.2.7"), &FIRST, "Avp Udp(5000, 5001)"),
        (&with("destination=192.0.2.9"), &FIRST, "461"),
        (&with("destination=192.0.2.9,RTP/AVP/TCP"), &FIRST, "Avp Tcp(None)"),
        // Interleaved with the session's own connection only.
        (TCP, &elsewhere, "461"),
        (&two, &elsewhere, "Avp Udp(5000, 5001)"),
        // A further stream has the session's lower transport.
        (UDP, &over_udp(), "Avp Udp(5000, 5001)"),
        (TCP, &over_udp(), "461"),
        (&two, &over_tcp(), "Avp Tcp(Some((2, 3)))"),
        (UDP, &over_tcp(), "461"),
        // Groups.
        (GROUP, &grouped, "Avp Group"),
        (&three, &grouped, "Avp Group"),
        (&two, &grouped, "Avp Udp(5000, 5001)"),
        ("RTP/AVP/TCP;multicast", &grouped, "461"),
        ("RTP/AVP;multicast;mode=record", &grouped, "461"),
        ("RTP/SAVP;multicast", &grouped, "461"),
        (&three, &in_group(), "Avp Group"),
        (&two, &in_group(), "461"),
        // A publisher: any mode, any destination, no group.
        (UDP, &publisher, "Avp Udp(5000, 5001)"),
        (&with("mode=record"), &publisher, "Avp Udp(5000, 5001)"),
        (&with("mode=receive"), &publisher, "Avp Udp(5000, 5001)"),
        (&with("mode=fly"), &publisher, "461"),
        (&with("destination=192.0.2.9"), &publisher, "Avp Udp(5000, 5001)"),
        ("RTP/AVP;client_port=5000-5000", &publisher, "Avp Udp(5000, 5000)"),
        ("RTP/AVPF/TCP;mode=record", &publisher, "Avpf Tcp(None)"),
        ("RTP/AVP", &publisher, "461"),
        (GROUP, &publisher, "461"),
        (TCP, &publisher_elsewhere, "461"),
        (&two, &publisher_over_tcp, "Avp Tcp(Some((2, 3)))"),
    ];
    for (header, situation, expected) in cases {
        assert_eq!(&chosen(Some(header), situation), expected, "{header} in {situation:?}");
    }
    assert_eq!(chosen(None, &FIRST), "461");
}

#[test]
fn transport_is_encrypted_where_keys_are_there_and_asked_for_or_described() {
    let with = |keys, srtp_required| Situation { keys, srtp_required, ..FIRST };
    let savp = "RTP/SAVP;unicast;client_port=5000-5001";
    let both = format!("{savp},{UDP}");
    let group = Situation { serves_group: true, ..with(Keys::Here, false) };
    for (header, situation, expected) in [
        (savp, with(Keys::Missing, false), None),
        (savp, with(Keys::Here, false), Some((Profile::Savp, true))),
        (savp, with(Keys::Described, true), Some((Profile::Savp, true))),
        ("RTP/SAVPF/TCP", with(Keys::Here, false), Some((Profile::Savpf, true))),
        (UDP, with(Keys::Missing, false), Some((Profile::Avp, false))),
        (UDP, with(Keys::Here, false), Some((Profile::Avp, false))),
        // FFmpeg: it has read the key in the description.
        (UDP, with(Keys::Described, false), Some((Profile::Avp, true))),
        (UDP, with(Keys::Missing, true), None),
        (UDP, with(Keys::Here, true), None),
        (&both, with(Keys::Missing, false), Some((Profile::Avp, false))),
        (&both, with(Keys::Here, false), Some((Profile::Savp, true))),
        ("RTP/SAVP;multicast", group, None),
        (GROUP, group, Some((Profile::Avp, false))),
        (GROUP, Situation { keys: Keys::Described, ..group }, None),
    ] {
        let chosen = choose(Some(header), &situation).ok();
        let chosen = chosen.map(|chosen| (chosen.profile, chosen.is_secure));
        assert_eq!(chosen, expected, "{header} in {situation:?}");
    }
}

#[test]
fn retransmission_is_wanted_by_avpf_over_unicast_udp_only() {
    let grouped = Situation { serves_group: true, ..FIRST };
    for (header, expected) in [
        ("RTP/AVPF;client_port=5000", true),
        ("RTP/AVP;client_port=5000", false),
        ("RTP/AVPF/TCP", false),
        ("RTP/AVPF;multicast", false),
    ] {
        let wants = choose(Some(header), &grouped).unwrap().wants_retransmission();
        assert_eq!(wants, expected, "{header}");
    }
}

fn cx() -> Cx {
    let config = SessionConfig {
        sessions_max: 100,
        addresses: Arc::default(),
        timeout: Duration::from_secs(60),
        host: "host".to_owned(),
        lag_budget: Duration::ZERO,
        adapts_quality: true,
        uses_images: true,
        retransmits: true,
        throttle: Arc::default(),
        session_roaming: false,
        low_client_ports: false,
        plain_media: false,
        limits: LimitsConfig::default(),
        shares: Arc::default(),
        srtp: SrtpMode::Optional,
    };
    let mut cx = Cx::new(ShardId(0), config, Arc::default(), Mono(0));
    cx.sockets.add_pair(8_000);
    cx
}

fn command(shard: u8) -> Command {
    let uri = "rtsp://host/demo/trackID=0";
    Command {
        request: Request::new_for_test(Method::Setup, uri, &[("CSeq", "7")], b""),
        target: parse_target(uri).unwrap(),
        session: None,
        reply_to: ReplyTo { shard: ShardId(shard), entry: ENTRY },
        peer: address(40_000),
        local: IpAddr::V4(Ipv4Addr::LOCALHOST),
        title: None,
        led: Led::Not,
        given: Given::default(),
    }
}

fn enter(cx: &mut Cx, number: u32) -> SessionRef {
    let session = SessionRef::Reader(number);
    cx.directory.enter(SessionId::new(ShardId(0), u64::from(number) << 8), Some(ENTRY), session);
    session
}

#[test]
fn addresses_of_a_player_are_placed_once_on_each_pair() {
    let mut cx = cx();
    let asked = Asked::Udp(5_000, 5_001);
    let player = |number| Owner::Player(SessionRef::Reader(number), 0);
    let placed = |pair| Transport::Udp { pair, rtp: address(5_000), rtcp: address(5_001) };
    assert_eq!(cx.place(&command(0), asked, player(1), None), Ok(placed(0)));
    assert_eq!(cx.place(&command(0), asked, player(2), None), Err(NoPlace::NeedsPair));
    for pair in 1..64 {
        cx.sockets.add_pair(8_000 + 2 * pair).unwrap();
        assert_eq!(cx.place(&command(0), asked, player(2), None), Ok(placed(pair)));
    }
    assert_eq!(cx.place(&command(0), asked, player(3), None), Err(NoPlace::Full));
    assert_eq!(cx.sockets.find(0, address(5_001)), Some((SessionRef::Reader(1), 0)));
}

#[test]
fn addresses_of_a_publisher_are_expected_once_on_each_pair_and_a_crowd_of_them_is_refused() {
    let mut cx = cx();
    let publisher = |source, track| Owner::Publisher(Target { source, track });
    let place = |cx: &mut Cx, port, owner| {
        let asked = Asked::Udp(port, port + 1);
        cx.place(&command(0), asked, owner, None).map(|transport| match transport {
            Transport::Udp { pair, .. } => pair,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(place(&mut cx, 5_000, publisher(1, 0)), Ok(0));
    assert_eq!(place(&mut cx, 5_000, publisher(2, 0)), Err(NoPlace::NeedsPair));
    cx.sockets.add_pair(8_002).unwrap();
    assert_eq!(place(&mut cx, 5_000, publisher(2, 0)), Ok(1));
    // A host's tracks without a packet are limited on a pair; another pair would not help.
    for track in 1..64 {
        let port = 5_000 + 2 * u16::from(track);
        assert_eq!(place(&mut cx, port, publisher(1, track)), Ok(0));
        assert_eq!(place(&mut cx, port, publisher(2, track)), Ok(1));
    }
    assert_eq!(place(&mut cx, 6_000, publisher(3, 0)), Err(NoPlace::Full));
}

#[test]
fn channels_are_those_asked_for_while_free_and_end_at_256() {
    let mut cx = cx();
    let session = enter(&mut cx, 1);
    let owner = Owner::Player(session, 0);
    let tcp = |channel, rtcp_channel| Ok(Transport::Tcp { channel, rtcp_channel });
    let mut place = |channels| cx.place(&command(0), Asked::Tcp(channels), owner, Some(ENTRY));
    assert_eq!(place(Some((6, 7))), tcp(6, 7));
    assert_eq!(place(Some((6, 7))), tcp(0, 1), "in use");
    assert_eq!(place(Some((9, 9))), tcp(2, 3), "the same twice");
    assert_eq!(place(None), tcp(4, 5));
    for pair in 4..128 {
        assert_eq!(place(None), tcp(pair * 2, pair * 2 + 1));
    }
    assert_eq!(place(None), Err(NoPlace::Full));
    assert_eq!(cx.directory.of_channel(ENTRY, 6), Some(session));
}

#[test]
fn channels_on_the_connection_of_another_shard_are_not_taken_here() {
    let mut cx = cx();
    enter(&mut cx, 1);
    let owner = Owner::Player(SessionRef::Reader(2), 0);
    let placed = cx.place(&command(1), Asked::Tcp(None), owner, None);
    assert_eq!(placed, Ok(Transport::Tcp { channel: 0, rtcp_channel: 1 }));
    assert_eq!(cx.directory.of_channel(ENTRY, 0), None);
}

#[test]
fn answer_has_the_session_and_the_one_transport_that_was_placed() {
    let cx = cx();
    let id = SessionId::new(ShardId(0), 0x1_00);
    let udp = Transport::Udp { pair: 0, rtp: address(5_000), rtcp: address(5_001) };
    let tcp = Transport::Tcp { channel: 4, rtcp_channel: 7 };
    let at = |port| SocketAddr::from(([239, 255, 1, 2], port));
    let group = Transport::Group { rtp: at(8_002), rtcp: at(8_003) };
    let source = Some(Ipv4Addr::new(192, 0, 2, 1));
    let groups = Some(MulticastSettings { source, ttl: 8, ..MulticastSettings::default() });
    let ssrc = Some(Ssrc(0xbeef));
    for (profile, mode, transport, ssrc, expected) in [
        (
            Profile::Avp,
            Mode::Play,
            udp,
            ssrc,
            "RTP/AVP;unicast;client_port=5000-5001;server_port=8000-8001;ssrc=0000BEEF",
        ),
        (
            Profile::Avpf,
            Mode::Record,
            udp,
            None,
            "RTP/AVPF;unicast;client_port=5000-5001;server_port=8000-8001;mode=record",
        ),
        (Profile::Avpf, Mode::Play, tcp, None, "RTP/AVPF/TCP;unicast;interleaved=4-7"),
        (Profile::Avp, Mode::Record, tcp, None, "RTP/AVP/TCP;unicast;interleaved=4-7;mode=record"),
        (
            Profile::Avp,
            Mode::Play,
            group,
            None,
            "RTP/AVP;multicast;destination=239.255.1.2;port=8002-8003;ttl=8;source=192.0.2.1",
        ),
    ] {
        let chosen = Chosen { profile, is_secure: false, mode, asked: Asked::Group };
        let answer = cx.answer_setup(&command(0), id, &chosen, transport, ssrc, groups);
        let Executed::Reply(response) = answer else { panic!("{answer:?}") };
        assert_eq!(response.header_value("Transport"), Some(expected));
        assert_eq!(response.header_value("Session"), Some(format!("{id};timeout=55").as_str()));
        assert_eq!(response.status().code(), 200);
    }
}

#[test]
fn sessions_left_behind_are_those_of_the_connection_on_its_shard() {
    let mut cx = cx();
    for number in 1..=3 {
        enter(&mut cx, number);
    }
    let odd = |session| match session {
        SessionRef::Reader(number) if number % 2 == 1 => Some(number),
        _ => None,
    };
    assert_eq!(cx.left_behind(&command(0), odd), [1, 3]);
    assert!(cx.left_behind(&command(1), odd).is_empty(), "a namesake of another shard");
}

#[test]
fn command_is_on_the_connection_of_a_client_on_its_shard_only() {
    let mut cx = cx();
    let admitted = cx.admit_player(&command(0)).unwrap();
    let client = Client::new(&cx, &command(0), admitted);
    assert_eq!((client.connection, client.peer), (Some(ENTRY), address(40_000)));
    assert!(client.is_on_connection_of(&command(0), ShardId(0)));
    assert!(!client.is_on_connection_of(&command(1), ShardId(0)), "a namesake of another shard");
    let mut other = command(0);
    other.reply_to.entry.index += 1;
    assert!(!client.is_on_connection_of(&other, ShardId(0)));
    let admitted = cx.admit_player(&command(1)).unwrap();
    assert_eq!(Client::new(&cx, &command(1), admitted).connection, None, "it is not here");
}

#[test]
fn connection_has_room_for_64_sessions() {
    let mut cx = cx();
    for number in 0..64 {
        assert!(cx.admit_player(&command(0)).is_ok(), "{number}");
        enter(&mut cx, number);
    }
    assert_eq!(SESSIONS_PER_CONNECTION_MAX, 64);
    assert!(!cx.has_room_on_connection(&command(0)));
    assert_eq!(cx.admit_player(&command(0)).err(), Some(Status::NotEnoughBandwidth));
}
