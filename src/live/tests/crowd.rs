//! Work for many readers: some of them in each turn, and every reader gets its turn.

use super::*;
use crate::live::core::path::Next;
use crate::session::outgoing::Numbers;

/// Players of the path, each at an address of its own.
fn crowd(bench: &mut Bench, count: u16) -> Vec<SessionId> {
    bench.sessions.cx.config.sessions_max = usize::from(count) + 10;
    (0..count)
        .map(|number| {
            let peer = address(number);
            let transport = [("Transport", "RTP/AVP;unicast;client_port=6000-6001")];
            let uri = "rtsp://h/live/a/trackID=0";
            let from = (connection(number), peer);
            let answer = bench.request(from, Method::Setup, uri, None, (&transport, "")).unwrap();
            let id = session_id(&answer);
            let _later = bench.request(from, Method::Play, URL, Some(id), (&[], ""));
            id
        })
        .collect()
}

/// A connection has few sessions.
fn connection(number: u16) -> u32 {
    READER + u32::from(number)
}

fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([127, 1, high, low], 40_001))
}

/// As `crowd`, and all of them have had a packet.
fn playing(count: u16) -> (Bench, SessionId) {
    let mut bench = Bench::new();
    let publisher = bench.publish();
    crowd(&mut bench, count);
    for seq in 1..=count / 32 {
        bench.packet(host(1, 5_000), seq);
    }
    assert_eq!(bench.answers.len(), usize::from(count), "all PLAYs are answered");
    for (_, reader) in &mut bench.sessions.live.readers.table {
        reader.streams[0].outgoing.numbers = Numbers::Source(Some(Ssrc(9)));
    }
    (bench, publisher)
}

/// RFC 3550 s6.6.
fn is_bye(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|header| header == [0x81, 203])
}

/// A path waits some seconds for its source to come back.
const STEPS_MAX: usize = 300;

#[test]
fn each_of_1000_readers_gets_one_bye_when_its_path_ends() {
    let (mut bench, publisher) = playing(1_000);
    let from = (PUBLISHER, host(1, 40_000));
    bench.request(from, Method::Teardown, URL, Some(publisher), (&[], "")).unwrap();
    let mut told = 0;
    for _ in 0..STEPS_MAX {
        bench.pass(Duration::from_millis(100));
        bench.datagrams.retain(|(_, bytes)| is_bye(bytes));
        let now = bench.datagrams.len();
        assert!(now - told <= 256, "{} in a turn", now - told);
        if told == 0 && now > 0 {
            // The name is given to another source while the others wait.
            bench.publish();
        }
        told = now;
        if told == 1_000 {
            break;
        }
        assert!(told == 0 || bench.sessions.live.is_unsettled(), "the shard sleeps on them");
    }
    let mut addresses: Vec<SocketAddr> = bench.datagrams.iter().map(|(to, _)| *to).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!((addresses.len(), told), (1_000, 1_000));
    assert_eq!(bench.sessions.live.readers.table.len(), 0);
}

#[test]
fn reader_awaiting_its_bye_is_no_session_but_may_send_teardown() {
    let mut bench = Bench::new();
    let publisher = bench.publish();
    let ids = crowd(&mut bench, 600);
    let from = (PUBLISHER, host(1, 40_000));
    bench.request(from, Method::Teardown, URL, Some(publisher), (&[], "")).unwrap();
    for _ in 0..STEPS_MAX {
        bench.pass(Duration::from_millis(100));
        if bench.sessions.live.readers.table.len() < ids.len() {
            break;
        }
    }
    assert!(!bench.sessions.live.readers.table.is_empty(), "some wait");
    let (last, peer) = (ids[599], address(599));
    let mut ask = |method| {
        bench.answers.clear();
        let answer =
            bench.request((connection(599), peer), method, URL, Some(last), (&[], "")).unwrap();
        answer.status().code()
    };
    assert_eq!(ask(Method::Play), 454);
    assert_eq!(ask(Method::Teardown), 200);
}

/// The path lives on with another source's packets while readers wait for their turn to leave.
#[test]
fn reader_awaiting_its_bye_gets_no_packets_of_the_next_source() {
    for is_played in [true, false] {
        let (mut bench, publisher) = if is_played {
            playing(600)
        } else {
            let mut bench = Bench::new();
            let publisher = bench.publish();
            crowd(&mut bench, 600);
            (bench, publisher)
        };
        bench.answers.clear();
        let camera = (PUBLISHER, host(1, 40_000));
        bench.request(camera, Method::Teardown, URL, Some(publisher), (&[], "")).unwrap();
        bench.publish_as(&SDP.replace("RTP/AVP 0", "RTP/AVP 8"));
        let mut turns: u16 = 0;
        while !bench.sessions.live.readers.table.is_empty() {
            let mut packet = rtp(1_000 + turns);
            packet[1] = 8;
            let Sessions { cx, live, .. } = &mut bench.sessions;
            live.sources.handle_rtp_datagram(cx, 0, host(1, 5_000), &packet);
            live.feed_live(cx);
            bench.settle();
            let now = bench.sessions.cx.now + Duration::from_secs(1);
            let live = &mut bench.sessions.live;
            for (_, reader) in &live.readers.table {
                let path = live.hub.paths.path_of(reader.key).unwrap();
                assert!(!matches!(path.next(reader.key, 0, now), Next::Run(_)), "in turn {turns}");
            }
            // Time for all that waits for it.
            bench.sessions.cx.now = now;
            turns += 1;
            assert!(turns < 10, "{} are left", bench.sessions.live.readers.table.len());
        }
        assert!(turns > 1, "some waited");
        let codes = bench.answers.iter().map(|(_, answer)| answer.status().code());
        let expected = if is_played { 0 } else { 600 };
        assert_eq!(codes.filter(|code| *code == 454).count(), expected, "PLAYs that waited");
        assert_eq!(bench.answers.len(), expected);
    }
}

#[test]
fn plays_of_300_readers_are_answered_in_portions_and_queued_once() {
    let mut bench = Bench::new();
    bench.publish();
    let ids = crowd(&mut bench, 300);
    assert!(bench.answers.is_empty(), "nothing has come yet");
    bench.packet(host(1, 5_000), 1);
    let mut answered = bench.answers.len();
    assert!((1..=128).contains(&answered), "{answered} in the turn of the first packet");
    for _ in 0..10 {
        bench.sessions.live.feed_live(&mut bench.sessions.cx);
        bench.settle();
        let now = bench.answers.len();
        assert!(now - answered <= 64, "{} in a turn", now - answered);
        answered = now;
    }
    assert_eq!(answered, ids.len());
    assert!(!bench.sessions.live.readers.backlog.is_waiting());
}

#[test]
fn periodic_work_for_all_readers_is_spread_over_turns() {
    let (mut bench, _) = playing(600);
    bench.datagrams.clear();
    for (_, reader) in &mut bench.sessions.live.readers.table {
        reader.report_due = bench.sessions.cx.now;
    }
    bench.sessions.live.handle_live_tick(&mut bench.sessions.cx);
    bench.settle();
    let mut reported = bench.datagrams.len();
    assert!((1..=256).contains(&reported), "{reported} at once");
    for _ in 0..4 {
        bench.sessions.live.feed_live(&mut bench.sessions.cx);
        bench.settle();
        assert!(bench.datagrams.len() - reported <= 256);
        reported = bench.datagrams.len();
    }
    assert_eq!(reported, 600);
}

#[test]
fn number_of_plays_answered_in_a_turn_does_not_grow_with_its_batches() {
    let mut bench = Bench::new();
    bench.publish();
    let ids = crowd(&mut bench, 300);
    bench.packet(host(1, 5_000), 1);
    bench.sessions.live.feed_live(&mut bench.sessions.cx);
    bench.settle();
    let mut answered = bench.answers.len();
    let path: Arc<str> = "live/a".into();
    for _ in 0..10 {
        for _ in 0..20 {
            bench.sessions.live.readers.retry_plays(
                &mut bench.sessions.cx,
                &mut bench.sessions.live.hub,
                &path,
            );
        }
        bench.settle();
        let now = bench.answers.len();
        assert!(now - answered <= 64, "{} in a turn", now - answered);
        answered = now;
        assert!(now == ids.len() || bench.sessions.live.is_unsettled(), "it sleeps on them");
        bench.sessions.live.feed_live(&mut bench.sessions.cx);
        bench.settle();
        answered = answered.max(bench.answers.len());
    }
    assert_eq!(answered, ids.len());
}

/// A source at a path of its own, at an address of its own; it has announced.
fn announce_at(bench: &mut Bench, number: u16) {
    let from = (1_000 + u32::from(number), address(number));
    let uri = format!("rtsp://h/live/{number}");
    let answer = bench.request(from, Method::Announce, &uri, None, (&[], SDP)).unwrap();
    assert_eq!(answer.status().code(), 200);
}

#[test]
fn periodic_work_for_all_sources_is_spread_over_turns() {
    let mut bench = Bench::new();
    bench.sessions.cx.config.sessions_max = 1_000;
    (0..300).for_each(|number| announce_at(&mut bench, number));
    assert_eq!(bench.sessions.live.sources.publishers.len(), 300);
    bench.sessions.cx.now = bench.sessions.cx.now + Duration::from_secs(61);
    let mut left = 300;
    bench.sessions.live.handle_live_tick(&mut bench.sessions.cx);
    for _ in 0..10 {
        bench.settle();
        let now = bench.sessions.live.sources.publishers.len();
        assert!(left - now <= 64, "{} in a turn", left - now);
        left = now;
        if left == 0 {
            return;
        }
        assert!(bench.sessions.live.is_unsettled(), "it sleeps on them");
        bench.sessions.live.feed_live(&mut bench.sessions.cx);
    }
    panic!("{left} are left");
}
