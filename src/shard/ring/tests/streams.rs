//! Stream sends: whole frames in order, whatever the reader does.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (listener.accept().unwrap().0, client)
}

fn push_frame(send: &mut StreamSend<'_>, window: &Arc<PacketWindow>, title: &Arc<Title>) {
    for (number, packet) in window.packets(&window.frames()[0]).iter().enumerate() {
        assert!(send.push_packet(4, &header(number), window, packet, title).unwrap());
    }
}

fn expected_frame(sizes: &[usize], file: &[u8]) -> Vec<u8> {
    let framed = |packet: Vec<u8>| {
        let [high, low] = u16::try_from(packet.len()).unwrap().to_be_bytes();
        [[b'$', 4, high, low].as_slice(), &packet].concat()
    };
    expected(sizes, file).into_iter().flat_map(framed).collect()
}

fn result(completion: &Completion) -> (u32, Result<u32, std::io::ErrorKind>) {
    match completion {
        Completion::StreamSent { token, result } => {
            (*token, result.as_ref().copied().map_err(std::io::Error::kind))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_arrive_whole_and_in_order_at_a_slow_reader() {
    let Some(mut ring) = ring() else { return };
    let (server, mut client) = connection();
    // Small buffers: every frame takes many partial writes.
    rustix::net::sockopt::set_socket_send_buffer_size(&server, 16_384).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&client, 16_384).unwrap();
    let slot = ring.install(server.into()).unwrap();
    let sizes = [1_400; 200];
    let file = pattern(300_000);
    let frame = expected_frame(&sizes, &file);
    let reply = b"RTSP/1.0 200 OK\r\nCSeq: 4\r\n\r\n";
    let frames = 3;
    let wanted = (reply.len() + frame.len()) * frames;
    let reader = thread::spawn(move || {
        let mut read = Vec::with_capacity(wanted);
        let mut chunk = [0; 777];
        while read.len() < wanted {
            let len = client.read(&mut chunk).unwrap();
            assert!(len > 0, "closed early");
            read.extend_from_slice(&chunk[..len]);
            thread::yield_now();
        }
        read
    });
    let (title, window) = (title(&file), window(&sizes));
    for token in 0..u32::try_from(frames).unwrap() {
        let mut send = ring.start_stream_send(slot, token).unwrap();
        assert!(send.push_bytes(reply));
        push_frame(&mut send, &window, &title);
        let bytes = u32::try_from(send.bytes()).unwrap();
        send.submit();
        assert!(ring.start_stream_send(slot, 9).is_none(), "one at a time");
        assert_eq!(result(&reap(&mut ring, 1)[0]), (token, Ok(bytes)));
        assert_eq!(Arc::strong_count(&title), 1);
    }
    let read = reader.join().unwrap();
    assert!(read == [reply.as_slice(), &frame].concat().repeat(frames));
}

#[test]
fn send_that_the_kernel_cuts_where_it_encrypts_is_gone_on_with() {
    let Some(mut ring) = ring() else { return };
    let (server, mut client) = connection();
    rustix::net::sockopt::set_socket_send_buffer_size(&server, 16_384).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&client, 16_384).unwrap();
    let slot = ring.install(server.into()).unwrap();
    // Without keys nothing is encrypted, and sends are cut all the same: they are not waited for.
    ring.set_kernel_tls(slot);
    let sizes = [1_400; 200];
    let file = pattern(300_000);
    let frame = expected_frame(&sizes, &file);
    let wanted = frame.len() * 3;
    let reader = thread::spawn(move || {
        let mut read = vec![0; wanted];
        client.read_exact(&mut read).unwrap();
        read
    });
    let (title, window) = (title(&file), window(&sizes));
    for token in 0..3 {
        let mut send = ring.start_stream_send(slot, token).unwrap();
        push_frame(&mut send, &window, &title);
        let bytes = u32::try_from(send.bytes()).unwrap();
        send.submit();
        assert_eq!(result(&reap(&mut ring, 1)[0]), (token, Ok(bytes)));
        assert_eq!(Arc::strong_count(&title), 1);
    }
    assert!(reader.join().unwrap() == frame.repeat(3));
}

#[test]
fn send_that_is_ended_gives_back_what_the_kernel_has_not_taken() {
    let Some(mut ring) = ring() else { return };
    let (server, mut client) = connection();
    rustix::net::sockopt::set_socket_send_buffer_size(&server, 16_384).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&client, 16_384).unwrap();
    let slot = ring.install(server.into()).unwrap();
    ring.end_send(slot);
    let sizes = [1_400; 400];
    let file = pattern(600_000);
    let (title, window) = (title(&file), window(&sizes));
    let wanted = expected_frame(&sizes, &file);
    let mut send = ring.start_stream_send(slot, 5).unwrap();
    push_frame(&mut send, &window, &title);
    send.submit();
    // Nobody reads: a part is taken, the rest waits.
    ring.enter(Some(0)).unwrap();
    ring.end_send(slot);
    let reaped = reap(&mut ring, 1);
    let Completion::StreamCut { token: 5, rest: Ok(rest) } = &reaped[0] else {
        panic!("{reaped:?}");
    };
    assert!(!rest.is_empty() && rest.len() < wanted.len(), "{} bytes", rest.len());
    assert_eq!(Arc::strong_count(&title), 1);
    let rest = rest.clone();
    let reader = thread::spawn(move || {
        let mut read = vec![0; wanted.len()];
        client.read_exact(&mut read).unwrap();
        assert!(read == wanted);
    });
    let mut sent = 0;
    while sent < rest.len() {
        let piece = &rest[sent..rest.len().min(sent + 100_000)];
        let mut send = ring.start_stream_send(slot, 6).unwrap();
        assert!(send.push_bytes(piece));
        send.submit();
        assert!(result(&reap(&mut ring, 1)[0]).1.is_ok());
        sent += piece.len();
    }
    reader.join().unwrap();
}

#[test]
fn arena_that_moves_while_it_grows_keeps_its_bytes() {
    let Some(mut ring) = ring() else { return };
    let (server, mut client) = connection();
    let slot = ring.install(server.into()).unwrap();
    let sizes = [60; 40];
    let file = pattern(9_000);
    let (title, window) = (title(&file), window(&sizes));
    let mut send = ring.start_stream_send(slot, 0).unwrap();
    let mut wanted = Vec::new();
    for round in 1..=5_u8 {
        let reply = vec![round; 3_000 * usize::from(round)];
        assert!(send.push_bytes(&reply));
        push_frame(&mut send, &window, &title);
        wanted.extend(reply);
        wanted.extend(expected_frame(&sizes, &file));
    }
    send.submit();
    let mut read = vec![0; wanted.len()];
    reap(&mut ring, 1);
    client.read_exact(&mut read).unwrap();
    assert!(read == wanted);
}

#[test]
fn send_that_is_full_takes_no_part_of_a_packet() {
    let Some(mut ring) = ring() else { return };
    let (server, _client) = connection();
    let slot = ring.install(server.into()).unwrap();
    let (title, window) = (title(&pattern(900)), window(&[100]));
    let packet = window.packets(&window.frames()[0])[0];
    let mut send = ring.start_stream_send(slot, 0).unwrap();
    assert!(send.is_empty());
    let pushed = (0..2_000)
        .take_while(|_| send.push_packet(0, &header(0), &window, &packet, &title).unwrap())
        .count();
    assert_eq!(pushed, 450, "two iovecs a packet");
    assert_eq!(send.bytes(), 450 * (4 + 12 + 100));
    assert!(!send.push_bytes(&[0; 1 << 20]));
    assert_eq!(send.bytes(), 450 * (4 + 12 + 100));
}

#[test]
fn dropped_send_leaves_the_connection_free() {
    let Some(mut ring) = ring() else { return };
    let (server, _client) = connection();
    let slot = ring.install(server.into()).unwrap();
    drop(ring.start_stream_send(slot, 0).unwrap());
    ring.start_stream_send(slot, 0).unwrap().submit();
    assert!(ring.start_stream_send(slot, 0).is_some(), "an empty one is dropped as well");
}

#[test]
fn truncated_file_ends_the_stream_with_invalid_data() {
    let Some(mut ring) = ring() else { return };
    let (server, _client) = connection();
    let slot = ring.install(server.into()).unwrap();
    let (title, window) = (title(&pattern(9_000)), window(&[1_000]));
    let packet = window.packets(&window.frames()[0])[0];
    let mut send = ring.start_stream_send(slot, 0).unwrap();
    assert!(send.push_packet(0, &header(0), &window, &packet, &title).unwrap());
    send.submit();
    title.file.set_len(0).unwrap();
    let (_, ended) = result(&reap(&mut ring, 1)[0]);
    let kind = ended.unwrap_err();
    // The header may have gone out before the fault.
    assert!(matches!(kind, std::io::ErrorKind::InvalidData | std::io::ErrorKind::WriteZero));
}

#[test]
fn send_to_a_peer_that_has_gone_is_an_error_and_no_signal() {
    let Some(mut ring) = ring() else { return };
    let (server, client) = connection();
    server.shutdown(std::net::Shutdown::Write).unwrap();
    drop(client);
    let slot = ring.install(server.into()).unwrap();
    let mut send = ring.start_stream_send(slot, 3).unwrap();
    assert!(send.push_bytes(b"RTSP/1.0 200 OK\r\n\r\n"));
    send.submit();
    assert_eq!(result(&reap(&mut ring, 1)[0]), (3, Err(std::io::ErrorKind::BrokenPipe)));
}
