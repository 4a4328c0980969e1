//! Moves of one shard, step by step, with parcels that a test has made.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::shard::sockets::udp_pair;
use crate::shard::tests::Bench;

/// A shard that is not there: what is sent to it goes nowhere.
const OTHER: ShardId = ShardId(1);

/// Without a session; its home has so many pairs of sockets, which are all the same here.
fn parcel(pairs: u16) -> Parcel {
    let sockets = udp_pair(IpAddr::V4(Ipv4Addr::LOCALHOST), None).unwrap();
    let pair = |place| {
        let (rtp, rtcp) = (sockets.rtp.try_clone().unwrap(), sockets.rtcp.try_clone().unwrap());
        (place, UdpPair { rtp, rtcp, rtp_port: sockets.rtp_port })
    };
    Parcel {
        packed: Packed { connection: None, sessions: Vec::new() },
        files: ParcelFiles { connection: None, pairs: (0..pairs).map(pair).collect() },
        ids: Vec::new(),
        home: OTHER,
        from: OTHER,
        reply: None,
        returned: None,
        deadline: Mono(u64::MAX),
    }
}

/// They stayed open for as long as the process once.
#[test]
fn sockets_that_no_session_of_a_parcel_sends_by_are_closed() {
    let Some(mut bench) = Bench::new() else { return };
    bench.turn();
    let before = bench.shard.held().entries;
    // A shard has 64 pairs: the last of a parcel with as many finds no place beside its own.
    for (pairs, is_refused) in [(64, true), (1, false), (64, true)] {
        let refused = bench.cells.moves_refused.value();
        bench.shard.take_parcel(parcel(pairs));
        assert_eq!(bench.cells.moves_refused.value() > refused, is_refused, "{pairs}");
        bench.turn();
        assert_eq!(bench.shard.held().entries, before, "{pairs}");
    }
}

#[test]
fn parcel_that_finds_too_many_waiting_is_sent_back() {
    let Some(mut bench) = Bench::new() else { return };
    bench.shard.moves.arrivals.extend((0..ARRIVALS_MAX).map(|_| parcel(0)));
    bench.shard.take_parcel(parcel(0));
    let (to, message) = bench.shard.moves.outbox.pop_front().unwrap();
    let Message::Move(message) = message else { panic!("{message:?}") };
    let MoveMessage::Parcel(returned) = *message else { panic!("{message:?}") };
    assert_eq!((to, returned.returned), (OTHER, Some(MoveRefusal::TooMany)));
    // One that comes back has room besides: it has nowhere else to go.
    let (moved, failed) = (bench.cells.moves.value(), bench.cells.sessions_failed.value());
    bench.shard.take_parcel(*returned);
    assert_eq!((bench.cells.moves.value(), bench.cells.sessions_failed.value()), (moved, failed));
    assert_eq!(bench.shard.moves.arrivals.len(), ARRIVALS_MAX);
}

#[test]
fn reports_to_a_shard_whose_inbox_stays_full_are_dropped_and_counted_and_moves_are_not() {
    let Some(mut bench) = Bench::new() else { return };
    let id = SessionId::new(ShardId(0), 7 << 8);
    bench.shard.hold(id);
    bench.shard.settle_sessions(&[id], OTHER);
    let from = SocketAddr::from(([192, 0, 2, 1], 5_001));
    let report = || MoveMessage::Report { id, pair: 0, from, bytes: vec![0; 8] };
    for _ in 0..OUTBOX_MAX + 10 {
        assert!(bench.shard.route(Message::Move(Box::new(report()))).is_none());
    }
    assert_eq!(bench.shard.moves.outbox.len(), OUTBOX_MAX);
    assert_eq!(bench.cells.inbox_full.value(), 10);
    bench.shard.moves.send(OTHER, MoveMessage::Held { number: 1 });
    assert_eq!(bench.shard.moves.outbox.len(), OUTBOX_MAX + 1);
}

/// A connection that moved each second was never looked at once.
#[test]
fn look_at_an_idle_connection_is_due_when_it_was_whatever_shard_it_is_on() {
    let Some(mut bench) = Bench::new() else { return };
    let _client = bench.connect(1);
    let mut key = bench.connection();
    let due = |shard: &mut Shard, key| {
        let timer = *shard.net.entries.connection_mut(key).unwrap().idle_timer_mut();
        shard.sessions.cx.wheel.due(timer).unwrap()
    };
    let shard = &mut bench.shard;
    let first = due(shard, key);
    for _ in 0..3 {
        shard.sessions.cx.now = shard.sessions.cx.now + Duration::from_millis(500);
        let slot = shard.net.entries.link(key).unwrap().slot;
        let fd = shard.net.ring.fd(slot).try_clone_to_owned().unwrap();
        let connection = shard.take_connection(key).unwrap();
        key = shard.put_connection(connection, fd).unwrap();
        shard.watch_connection(key);
        assert_eq!(due(shard, key), first);
    }
}
