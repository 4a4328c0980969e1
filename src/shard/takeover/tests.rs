//! A shard that another process takes over from, turn by turn: what is recorded, and what is there
//! again when the other process fails. Every test passes by skipping, with a printed line, where
//! io_uring is not available.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;

use super::{Answer, Given, TakeoverMessage};
use crate::consumers::Consumer;
use crate::consumers::receivers::RtcpReceiver;
use crate::consumers::takeover::LeftBehind;
use crate::rtsp::reader::{Input, RequestReader};
use crate::shard::tests::Bench;
use crate::takeover::v1::ConnectionRecord;

/// Has the shard take turns until it has answered.
fn ask<T: Send + 'static>(
    bench: &mut Bench,
    message: impl FnOnce(Answer<T>) -> TakeoverMessage,
) -> T {
    let (answer, answered) = mpsc::channel();
    bench.shard.handle_takeover(message(Box::new(move |value| drop(answer.send(value)))));
    for _ in 0..TURNS_MAX {
        if let Ok(value) = answered.try_recv() {
            return value;
        }
        bench.turn();
    }
    panic!("no answer");
}

fn quiet(bench: &mut Bench) -> LeftBehind {
    ask(bench, |answer| TakeoverMessage::Quiet { answer }).unwrap()
}

fn freeze(bench: &mut Bench) -> Given {
    ask(bench, |answer| TakeoverMessage::Freeze { answer }).unwrap()
}

fn connections(given: &Given) -> Vec<&ConnectionRecord> {
    given.record.units.iter().filter_map(|unit| unit.connection.as_ref()).collect()
}

/// Strangers could keep every takeover from being by such requests.
#[test]
fn request_that_waits_goes_along_and_is_answered_here_when_the_takeover_fails() {
    let Some(mut bench) = Bench::new() else { return };
    let clients = bench.connect(1);
    // Nobody opens titles here.
    (&clients[0])
        .write_all(b"DESCRIBE rtsp://h/demo RTSP/1.0\r\nCSeq: 5\r\n\r\nOPTIONS * RT")
        .unwrap();
    let key = bench.connection();
    for _ in 0..TURNS_MAX {
        if bench.shard.net.entries.connection_mut(key).unwrap().is_waiting() {
            break;
        }
        bench.turn();
    }
    assert!(quiet(&mut bench).is_empty());
    let given = freeze(&mut bench);
    let input = connections(&given)[0].input.0.clone();
    let mut reader = RequestReader::new();
    reader.handle_bytes(&input);
    let Some(Input::Request(request)) = reader.poll() else { panic!("{input:?}") };
    assert_eq!((request.uri.as_str(), request.cseq), ("rtsp://h/demo", Some(5)));
    assert_eq!(reader.unread().unwrap(), b"OPTIONS * RT");
    // The other process fails: it still waits, and the next request is read.
    bench.shard.resume();
    assert!(bench.shard.net.entries.connection_mut(key).unwrap().is_waiting());
    for _ in 0..10 {
        bench.turn();
    }
    assert!(quiet(&mut bench).is_empty(), "another one may try");
}

/// Such a connection was left out without a word, and a session by UDP with it.
#[test]
fn connection_that_ends_when_its_answers_are_sent_goes_along() {
    let Some(mut bench) = Bench::new() else { return };
    let clients = bench.connect(1);
    let key = bench.connection();
    (&clients[0]).write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").unwrap();
    let mut answer = [0; 512];
    clients[0].set_nonblocking(true).unwrap();
    for _ in 0..TURNS_MAX {
        if (&clients[0]).read(&mut answer).is_ok_and(|bytes| bytes > 0) {
            break;
        }
        bench.turn();
    }
    assert!(quiet(&mut bench).is_empty());
    // As after `Connection: close`, with a client that reads nothing.
    let connection = bench.shard.net.entries.connection_mut(key).unwrap();
    connection.put_back(b"RTSP/1.0 200 OK\r\n\r\n".to_vec());
    connection.close_when_sent();
    let given = freeze(&mut bench);
    let recorded = connections(&given);
    assert!(recorded[0].is_closing && recorded[0].output.0.starts_with(b"RTSP/1.0 200 OK"));
    bench.shard.resume();
    for _ in 0..TURNS_MAX {
        if bench.shard.net.entries.link(key).is_none() {
            return;
        }
        bench.turn();
    }
    panic!("it is not closed");
}

/// They were taken from the socket, and lost where the old process went on.
#[test]
fn datagrams_of_a_socket_that_stays_are_there_again_when_the_takeover_fails() {
    let Some(mut bench) = Bench::new() else { return };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = socket.local_addr().unwrap();
    // None of a pair that goes along, as those of inputs and groups are.
    let consumer = Consumer::Rtcp(RtcpReceiver { pair: 40 });
    let net = &mut bench.shard.net;
    net.entries.install_datagrams(&mut net.ring, consumer, socket.into()).unwrap();
    let sender = UdpSocket::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
    assert!(quiet(&mut bench).is_empty());
    // One comes before sockets are let alone, one afterwards.
    sender.send_to(b"first", to).unwrap();
    let given = freeze(&mut bench);
    sender.send_to(b"second", to).unwrap();
    for _ in 0..10 {
        bench.turn();
    }
    assert!(given.record.datagrams.is_empty(), "they are not the other process's");
    let before = bench.cells.datagrams_unmatched.value();
    bench.shard.resume();
    for _ in 0..TURNS_MAX {
        // Nobody knows the sender: each is counted when it is handled.
        if bench.cells.datagrams_unmatched.value() == before + 2 {
            return;
        }
        bench.turn();
    }
    panic!("{} of 2 were handled", bench.cells.datagrams_unmatched.value() - before);
}

/// Turns of at most a millisecond each.
const TURNS_MAX: usize = 2_000;
