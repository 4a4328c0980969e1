//! Outgoing connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::*;
use crate::shard::sockets::stream_to;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn connection_is_made_and_carries_bytes_both_ways() {
    let Some(mut ring) = ring() else { return };
    let (listener, address) = listener();
    let slot = ring.install(stream_to(address).unwrap()).unwrap();
    assert!(ring.start_connect(slot, address, 7));
    let reaped = reap(&mut ring, 1);
    assert!(matches!(reaped[0], Completion::Connected { token: 7, result: Ok(()) }), "{reaped:?}");
    let (mut peer, _) = listener.accept().unwrap();
    let mut send = ring.start_stream_send(slot, 7).unwrap();
    assert!(send.push_bytes(b"hello"));
    send.submit();
    reap(&mut ring, 1);
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    peer.write_all(b"well").unwrap();
    ring.arm_receive(slot, 7);
    let reaped = reap(&mut ring, 1);
    let Completion::Received { token: 7, result: Ok(bytes) } = &reaped[0] else { panic!() };
    assert_eq!(&bytes[..], b"well");
}

#[test]
fn nobody_there_is_an_error_and_the_slot_is_used_again() {
    let Some(mut ring) = ring() else { return };
    let (listener, address) = listener();
    drop(listener);
    for token in [1, 2] {
        let slot = ring.install(stream_to(address).unwrap()).unwrap();
        assert!(ring.start_connect(slot, address, token));
        let reaped = reap(&mut ring, 1);
        let Completion::Connected { result: Err(error), .. } = &reaped[0] else { panic!() };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        ring.remove(slot);
        settle(&mut ring);
        assert!(!ring.start_connect(slot, address, token), "the file is gone");
    }
}

#[test]
fn connect_that_nobody_answers_ends_with_its_file() {
    let Some(mut ring) = ring() else { return };
    // A listener that takes nobody, with its queue full: what comes then is not answered.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let slots: Vec<_> = (0..8)
        .map(|token| {
            let slot = ring.install(stream_to(address).unwrap()).unwrap();
            assert!(ring.start_connect(slot, address, token));
            slot
        })
        .collect();
    ring.enter(Some(20_000_000)).unwrap();
    let done = std::iter::from_fn(|| ring.next_completion()).count();
    assert!(done < slots.len(), "{done} connections to a queue of one");
    for slot in slots {
        ring.remove(slot);
    }
    assert!(settle(&mut ring).is_empty(), "nothing is said of files that were removed");
}
