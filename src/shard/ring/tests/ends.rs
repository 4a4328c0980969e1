//! The end of a ring with operations in flight.

use std::io::Read;
use std::net::{TcpListener, TcpStream};

use rustix::event::{EventfdFlags, eventfd};

use super::runs::results;
use super::*;

#[test]
fn drop_with_operations_in_flight_frees_everything() {
    let Some(mut ring) = ring() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let server = listener.accept().unwrap().0;
    rustix::net::sockopt::set_socket_send_buffer_size(&server, 4_096).unwrap();

    let accepts = ring.install(listener.into()).unwrap();
    let connection = ring.install(server.into()).unwrap();
    let datagrams = ring.install(UdpSocket::bind("127.0.0.1:0").unwrap().into()).unwrap();
    let wake = ring.install(eventfd(0, EventfdFlags::CLOEXEC).unwrap()).unwrap();
    ring.arm_accept(accepts, 0);
    ring.arm_receive(connection, 0);
    ring.arm_datagrams(datagrams, 0);
    ring.arm_wake(wake, 0);

    // A stream send that waits for a reader, a run that is done but not reaped, one not submitted.
    let (title, window) = (title(&pattern(900_000)), window(&[1_400; 440]));
    let mut send = ring.start_stream_send(connection, 0).unwrap();
    for packet in window.packets(&window.frames()[0]) {
        assert!(send.push_packet(0, &header(0), &window, packet, &title).unwrap());
    }
    send.submit();
    let packet = window.packets(&window.frames()[0])[0];
    let to = receiver("127.0.0.1:0").local_addr().unwrap();
    for enters in [true, false] {
        let mut run = ring.start_run(datagrams, to, 0).unwrap();
        assert!(run.try_packet(&header(0), &window, &packet, &title).unwrap());
        run.submit(false);
        if enters {
            ring.enter(Some(0)).unwrap();
        }
    }
    // A connection that is accepted by the kernel, but not reaped.
    let mut late = TcpStream::connect(address).unwrap();
    ring.enter(Some(0)).unwrap();
    assert!(ring.uring.in_kernel() > 0);
    assert_eq!(Arc::strong_count(&title), 4);

    drop(ring);
    assert_eq!(Arc::strong_count(&title), 1, "memory was freed, not leaked");
    for client in [&mut client, &mut late] {
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut rest = Vec::new();
        let ended = client.read_to_end(&mut rest);
        let kind = ended.map_err(|error| error.kind());
        assert!(!matches!(kind, Err(std::io::ErrorKind::WouldBlock)), "closed");
    }
}

#[test]
fn removed_socket_with_runs_in_flight_reports_each_and_lets_go_of_them() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = ring.install(UdpSocket::bind("127.0.0.1:0").unwrap().into()).unwrap();
    let (title, window) = (title(&pattern(900)), window(&[100]));
    let packet = window.packets(&window.frames()[0])[0];
    // The first is sent, the second cannot be, and the third follows it.
    let nowhere = "127.0.0.1:0".parse().unwrap();
    for (token, to, linked) in
        [(7, client.local_addr().unwrap(), false), (8, nowhere, true), (9, nowhere, false)]
    {
        let mut run = ring.start_run(from, to, token).unwrap();
        assert!(run.try_packet(&header(0), &window, &packet, &title).unwrap());
        run.submit(linked);
    }
    assert!(ring.send_datagram(from, nowhere, &[0x81; 8], 10));
    ring.remove(from);
    assert!(ring.start_run(from, client.local_addr().unwrap(), 0).is_none());
    assert!(ring.start_stream_send(from, 0).is_none());
    let mut reported = results(settle(&mut ring));
    reported.sort_by_key(|sent| sent.0);
    let closed = Err(SendFailure::Closed);
    assert_eq!(reported, [(7, 1, Ok(())), (8, 1, closed), (9, 1, closed)], "runs, no datagram");
    assert_eq!(receive(&client).len(), 112, "what was queued before is still sent");
    assert_eq!(Arc::strong_count(&title), 1);
}

#[test]
fn ring_that_was_never_used_ends_quietly() {
    let Some(ring) = ring() else { return };
    assert!(ring.features().contains(&"registered files"));
    assert!(format!("{ring:?}").starts_with("Ring"));
}

#[test]
fn port_of_a_dropped_ring_is_free_at_once() {
    let mut address = "127.0.0.1:0".parse().unwrap();
    for round in 0..20 {
        let Some(mut ring) = ring() else { return };
        // As another program would: a listener that lingers is in its way.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = listener.unwrap();
        let bound = listener.bind(&std::net::SocketAddr::into(address));
        bound.unwrap_or_else(|error| panic!("round {round}: {error}"));
        listener.listen(8).unwrap();
        address = listener.local_addr().unwrap().as_socket().unwrap();
        let accepts = ring.install(listener.into()).unwrap();
        ring.arm_accept(accepts, 0);
        ring.enter(Some(0)).unwrap();
        drop(ring);
    }
}
