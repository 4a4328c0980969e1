//! What arrives: connections, requests, datagrams, wake-ups; and that each is reported once.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::shard::sockets;

fn received(completion: Completion) -> (u32, Vec<u8>) {
    match completion {
        Completion::Received { token, result } => (token, result.unwrap().to_vec()),
        other => panic!("{other:?}"),
    }
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

#[test]
fn request_arrives_and_polling_stays_off_until_armed_again() {
    let Some(mut ring) = ring() else { return };
    let (server, mut client) = connection();
    let slot = ring.install(server.into()).unwrap();
    ring.arm_receive(slot, 5);
    ring.enter(Some(0)).unwrap();
    assert!(ring.next_completion().is_none());
    client.write_all(b"OPTIONS").unwrap();
    assert_eq!(received(reap(&mut ring, 1).remove(0)), (5, b"OPTIONS".to_vec()));
    client.write_all(b"DESCRIBE").unwrap();
    ring.enter(Some(0)).unwrap();
    assert!(ring.next_completion().is_none(), "polling is off");
    ring.arm_receive(slot, 6);
    assert_eq!(received(reap(&mut ring, 1).remove(0)), (6, b"DESCRIBE".to_vec()));
    client.shutdown(Shutdown::Write).unwrap();
    ring.arm_receive(slot, 7);
    assert_eq!(received(reap(&mut ring, 1).remove(0)), (7, Vec::new()), "end of stream");
}

#[test]
fn nonblocking_connection_is_waited_for_as_well() {
    let Some(mut ring) = ring() else { return };
    let (server, mut client) = connection();
    server.set_nonblocking(true).unwrap();
    let slot = ring.install(server.into()).unwrap();
    ring.arm_receive(slot, 1);
    ring.enter(Some(0)).unwrap();
    assert!(ring.next_completion().is_none());
    client.write_all(b"x").unwrap();
    assert_eq!(received(reap(&mut ring, 1).remove(0)), (1, b"x".to_vec()));
}

#[test]
fn more_requests_than_buffers_all_arrive() {
    let Some(mut ring) = ring_with(|config| config.stream_buffers = 1) else { return };
    let mut clients = Vec::new();
    for token in 0..20 {
        let (server, mut client) = connection();
        client.write_all(format!("request {token}").as_bytes()).unwrap();
        let slot = ring.install(server.into()).unwrap();
        ring.arm_receive(slot, token);
        clients.push(client);
    }
    let mut requests: Vec<_> = reap(&mut ring, 20).into_iter().map(received).collect();
    requests.sort();
    for (token, request) in (0..20).zip(requests) {
        assert_eq!(request, (token, format!("request {token}").into_bytes()));
    }
    assert!(ring.stats().buffer_shortages > 0, "the shortage has happened");
}

#[test]
fn hundred_connections_are_accepted_by_one_arm() {
    let Some(mut ring) = ring() else { return };
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = ring.install(sockets::listen_tcp(address).unwrap()).unwrap();
    let address = sockets::local_addr(ring.fd(listener)).unwrap();
    ring.arm_accept(listener, 9);
    ring.enter(Some(0)).unwrap();
    let clients: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut peers: Vec<SocketAddr> = reap(&mut ring, 100)
        .into_iter()
        .map(|completion| match completion {
            Completion::Accepted { token: 9, result } => {
                sockets::peer_addr(result.unwrap()).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let mut wanted: Vec<SocketAddr> =
        clients.iter().map(|client| client.local_addr().unwrap()).collect();
    peers.sort();
    wanted.sort();
    assert_eq!(peers, wanted);
}

#[test]
fn failing_accept_is_tried_again_after_a_pause() {
    let Some(mut ring) = ring() else { return };
    // Bound, but it does not listen: accept fails at once, each time.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let slot = ring.install(socket.into()).unwrap();
    ring.arm_accept(slot, 1);
    let enters = ring.stats().enters;
    for _ in 0..2 {
        let failed = reap(&mut ring, 1);
        assert!(matches!(failed[0], Completion::Accepted { token: 1, result: Err(_) }));
    }
    assert!(ring.stats().enters - enters < 50, "it does not spin");
    assert_eq!(ring.stats().pauses, 2);
    ring.remove(slot);
    assert!(settle(&mut ring).is_empty());
}

#[test]
fn removed_connection_reports_nothing_and_closes_after_its_last_operation() {
    let Some(mut ring) = ring() else { return };
    let (server, client) = connection();
    let slot = ring.install(server.into()).unwrap();
    ring.arm_receive(slot, 1);
    ring.enter(Some(0)).unwrap();
    ring.remove(slot);
    assert!(settle(&mut ring).is_empty());
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(std::io::Read::read(&mut &client, &mut [0; 8]).unwrap(), 0, "closed");
    let (server, mut client) = connection();
    let next = ring.install(server.into()).unwrap();
    assert_eq!(next.index(), slot.index(), "the slot is free again");
    assert_ne!(next, slot);
    client.write_all(b"x").unwrap();
    ring.arm_receive(slot, 2);
    ring.arm_receive(next, 3);
    assert_eq!(received(reap(&mut ring, 1).remove(0)), (3, b"x".to_vec()), "old name, no effect");
}

#[test]
fn receive_that_is_ended_reports_what_has_come_or_nothing_and_is_not_armed_again() {
    let Some(mut ring) = ring() else { return };
    for has_data in [false, true, false] {
        let (server, mut client) = connection();
        let slot = ring.install(server.into()).unwrap();
        ring.end_receive(slot);
        assert!(!ring.is_receiving(slot), "nothing is under way");
        ring.arm_receive(slot, 1);
        ring.enter(Some(0)).unwrap();
        if has_data {
            client.write_all(b"x").unwrap();
        }
        ring.end_receive(slot);
        let mut bytes: Vec<u8> =
            settle(&mut ring).into_iter().flat_map(|one| received(one).1).collect();
        assert!(!ring.is_receiving(slot));
        assert_eq!(ring.stats().cancelled, 0, "not by the kernel itself");
        // What was not reported is in the socket, for this ring or another one.
        client.write_all(b"y").unwrap();
        ring.arm_receive(slot, 2);
        bytes.extend(received(reap(&mut ring, 1).remove(0)).1);
        assert_eq!(bytes, if has_data { b"xy".to_vec() } else { b"y".to_vec() });
    }
}

#[test]
fn end_of_a_receive_that_is_taken_back_leaves_the_connection_heard() {
    let Some(mut ring) = ring() else { return };
    let (server, mut client) = connection();
    let slot = ring.install(server.into()).unwrap();
    ring.arm_receive(slot, 1);
    ring.enter(Some(0)).unwrap();
    ring.end_receive(slot);
    ring.keep_receiving(slot);
    ring.arm_receive(slot, 1);
    assert!(settle(&mut ring).is_empty());
    assert_eq!(ring.stats().cancelled, 0, "not by the kernel itself");
    assert_eq!(ring.stats().pauses, 0, "it is heard at once");
    client.write_all(b"x").unwrap();
    assert_eq!(received(reap(&mut ring, 1).remove(0)), (1, b"x".to_vec()));
}

#[test]
fn connection_removed_while_data_arrives_swallows_it() {
    let Some(mut ring) = ring() else { return };
    for round in 0..50 {
        let (server, mut client) = connection();
        let slot = ring.install(server.into()).unwrap();
        ring.arm_receive(slot, 1);
        if round % 2 == 0 {
            ring.enter(Some(0)).unwrap();
        }
        client.write_all(&[1; 100]).unwrap();
        ring.remove(slot);
        assert!(settle(&mut ring).is_empty());
    }
    let (server, mut client) = connection();
    client.write_all(b"x").unwrap();
    let slot = ring.install(server.into()).unwrap();
    ring.arm_receive(slot, 1);
    assert_eq!(reap(&mut ring, 1).len(), 1, "no buffer was lost");
}

#[test]
fn connections_in_the_queue_of_a_removed_listener_are_closed() {
    let Some(mut ring) = ring() else { return };
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = ring.install(sockets::listen_tcp(address).unwrap()).unwrap();
    let address = sockets::local_addr(ring.fd(listener)).unwrap();
    ring.arm_accept(listener, 0);
    ring.enter(Some(0)).unwrap();
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    ring.enter(Some(0)).unwrap();
    ring.remove(listener);
    assert!(settle(&mut ring).is_empty());
    let ended = std::io::Read::read(&mut &client, &mut [0; 8]);
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
}

#[test]
fn datagrams_arrive_with_their_sender() {
    let Some(mut ring) = ring() else { return };
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let slot = ring.install(server.into()).unwrap();
    ring.arm_datagrams(slot, 4);
    let client = receiver("127.0.0.1:0");
    client.send_to(&[], to).unwrap();
    client.send_to(&[7; 2_048], to).unwrap();
    client.send_to(&[8; 2_100], to).unwrap();
    client.send_to(b"last", to).unwrap();
    let datagrams: Vec<Vec<u8>> = reap(&mut ring, 3)
        .into_iter()
        .map(|completion| match completion {
            Completion::Datagram { token: 4, from, bytes } => {
                assert_eq!(from, client.local_addr().unwrap());
                bytes.to_vec()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(datagrams, [vec![], vec![7; 2_048], b"last".to_vec()], "the long one is dropped");
    assert_eq!(ring.stats().datagrams_dropped, 1);
}

#[test]
fn v4_sender_on_a_dual_stack_socket_is_reported_as_v4() {
    let Some(mut ring) = ring() else { return };
    let Ok(pair) = sockets::udp_pair(IpAddr::from(Ipv6Addr::UNSPECIFIED), None) else {
        println!("skipped: no IPv6 here");
        return;
    };
    let slot = ring.install(pair.rtcp).unwrap();
    ring.arm_datagrams(slot, 0);
    let client = receiver("127.0.0.1:0");
    client.send_to(b"report", ("127.0.0.1", pair.rtp_port + 1)).unwrap();
    match reap(&mut ring, 1).remove(0) {
        Completion::Datagram { from, .. } => assert_eq!(from, client.local_addr().unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn datagram_flood_beyond_buffers_is_survived() {
    let Some(mut ring) = ring_with(|config| config.datagram_buffers = 4) else { return };
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let slot = ring.install(server.into()).unwrap();
    ring.arm_datagrams(slot, 0);
    ring.enter(Some(0)).unwrap();
    let client = receiver("127.0.0.1:0");
    for round in 0..20_u8 {
        for number in 0..50 {
            client.send_to(&[round, number], to).unwrap();
        }
        let numbers: Vec<u8> = reap(&mut ring, 50)
            .into_iter()
            .map(|completion| match completion {
                Completion::Datagram { bytes, .. } => bytes[1],
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(numbers, (0..50).collect::<Vec<u8>>());
    }
    assert!(ring.stats().buffer_shortages >= 20, "the flood was one");
}

#[test]
fn wake_from_another_thread_is_reported_each_time() {
    let Some(mut ring) = ring() else { return };
    for flags in [EventfdFlags::CLOEXEC, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK] {
        let wake = eventfd(0, flags).unwrap();
        let slot = ring.install(wake.try_clone().unwrap()).unwrap();
        ring.arm_wake(slot, 3);
        for _ in 0..3 {
            let other = wake.try_clone().unwrap();
            let waker = thread::spawn(move || {
                rustix::io::write(&other, &1_u64.to_ne_bytes()).unwrap();
            });
            // Not bounded by time: only the wake-up ends it.
            ring.enter(None).unwrap();
            assert!(matches!(ring.next_completion(), Some(Completion::Woken { token: 3 })));
            assert!(ring.next_completion().is_none());
            waker.join().unwrap();
        }
        ring.remove(slot);
        assert!(settle(&mut ring).is_empty());
    }
}

#[test]
fn wait_ends_by_time_without_completions() {
    let Some(mut ring) = ring() else { return };
    let before = Instant::now();
    ring.enter(Some(3_000_000)).unwrap();
    assert!(before.elapsed() >= Duration::from_millis(3), "never early");
    assert!(ring.next_completion().is_none());
}

#[test]
fn full_table_hands_the_descriptor_back() {
    let Some(mut ring) = ring_with(|config| config.files_max = 1) else { return };
    let (first, second) = connection();
    let slot = ring.install(first.into()).unwrap();
    let (handed_back, error) = ring.install(second.into()).unwrap_err();
    assert_eq!(error.to_string(), "all 1 registered files are in use");
    assert!(sockets::peer_addr(handed_back.as_fd()).is_ok(), "still open");
    ring.remove(slot);
    assert!(ring.install(handed_back).is_ok());
}
