//! A shard that another process takes over from, turn by turn: what is recorded, and what is there
//! again when the other process fails. Every test passes by skipping, with a printed line, where
//! io_uring is not available.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, mpsc};

use super::{Answer, Given, Step, TakeoverMessage};
use crate::base::ids::ShardId;
use crate::base::limits::{MESSAGES_A_TURN, VISITS_A_TURN};
use crate::base::time::Mono;
use crate::config::paths::{PathConfig, PathTable};
use crate::config::source::SourceAddress;
use crate::consumers::Consumer;
use crate::consumers::receivers::RtcpReceiver;
use crate::consumers::takeover::LeftBehind;
use crate::live::core::message::{LiveMessage, OwnerRequest, ToOwner};
use crate::poll::poll_table::EntryKey;
use crate::rtsp::reader::{Input, RequestReader};
use crate::session::action::InputSocket;
use crate::shard::tests::Bench;
use crate::takeover::exact::Bytes;
use crate::takeover::v1::{ConnectionRecord, ShardRecord};

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

/// A path that is fed at an address.
fn listening() -> Option<(Bench, SocketAddr)> {
    let to = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let source = SourceAddress::parse(&format!("udp://{to}")).unwrap();
    let mut paths = PathTable::default();
    paths.named.insert("live/in".to_owned(), Arc::new(PathConfig { source, ..Default::default() }));
    let mut bench = Bench::with(|config| config.paths = Arc::new(paths))?;
    for _ in 0..TURNS_MAX {
        if bench.shard.net.inputs.each().next().is_some() {
            return Some((bench, to));
        }
        bench.turn();
    }
    panic!("nobody listens");
}

/// They were kept for the old process and not recorded, so they were in neither.
#[test]
fn datagrams_for_an_input_are_recorded_with_its_socket_and_kept() {
    let Some((mut bench, to)) = listening() else { return };
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(quiet(&mut bench).is_empty());
    sender.send_to(b"before", to).unwrap();
    // The kernel has reported it, and the shard has not looked.
    bench.shard.net.ring.enter(Some(1_000_000)).unwrap();
    let given = freeze(&mut bench);
    let input = &given.record.inputs[0];
    let from = sender.local_addr().unwrap();
    assert_eq!((input.path.as_str(), input.to), ("live/in", to));
    assert_eq!(input.datagrams, [(from, Bytes(b"before".to_vec()))]);
    assert_eq!(bench.shard.takeover.held.datagrams.len(), 1, "it is here if that one fails");
}

/// They were received until the freeze, and lost with the path that the other process fetches.
#[test]
fn sockets_of_inputs_are_let_alone_from_the_halt_on() {
    let Some((mut bench, to)) = listening() else { return };
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(quiet(&mut bench).is_empty());
    ask(&mut bench, |answer| TakeoverMessage::Packets { answer }).unwrap();
    ask(&mut bench, |answer| TakeoverMessage::Halt { answer }).unwrap();
    sender.send_to(b"it waits", to).unwrap();
    for _ in 0..10 {
        bench.turn();
    }
    ask(&mut bench, |answer| TakeoverMessage::Pass { answer });
    let given = freeze(&mut bench);
    let input = &given.record.inputs[0];
    assert!(input.datagrams.is_empty());
    let socket = given.files[usize::try_from(input.socket.0).unwrap()].try_clone().unwrap();
    let mut buffer = [0; 99];
    let socket = UdpSocket::from(socket);
    socket.set_nonblocking(true).unwrap();
    let (bytes, _) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..bytes], b"it waits");
    let ShardRecord { halted_ns, frozen_ns, .. } = given.record;
    assert!(halted_ns.unwrap() <= frozen_ns, "the gap of paths begins with the halt");
}

/// Connections and bytes of cameras were waited for, which nobody had stopped: on a busy server no
/// takeover took place.
#[test]
fn halt_waits_for_packets_of_clients_alone() {
    let Some(mut bench) = Bench::new() else { return };
    assert!(quiet(&mut bench).is_empty());
    let (answer, answered) = mpsc::channel();
    let answer = Box::new(move |value| drop(answer.send(value)));
    bench.shard.handle_takeover(TakeoverMessage::Halt { answer });
    // As of a camera that sends more than a turn's share.
    let nobody = EntryKey { index: 300, generation: 1 };
    for _ in 0..TURNS_MAX {
        (0..2 * VISITS_A_TURN).for_each(|_| bench.shard.queue_received(nobody, b"x"));
        bench.turn();
        if let Ok(result) = answered.try_recv() {
            assert_eq!(result, Ok(()));
            assert!(!bench.shard.arrivals.is_empty(), "which shows nothing");
            return;
        }
    }
    panic!("no answer");
}

/// A batch that was dropped on its way was recorded as if it had never been.
#[test]
fn takeover_fails_when_a_batch_finds_no_room_on_its_way() {
    let Some(mut bench) = Bench::new() else { return };
    for is_lost in [true, false] {
        assert!(quiet(&mut bench).is_empty());
        ask(&mut bench, |answer| TakeoverMessage::Halt { answer }).unwrap();
        // A guest, as HLS is one, loses what it does not read in time.
        bench.shard.note_lost(ShardId(1));
        if is_lost {
            bench.shard.note_lost(ShardId(0));
        }
        let result = ask(&mut bench, |answer| TakeoverMessage::Freeze { answer });
        assert_eq!(result.is_err(), is_lost, "{result:?}");
        bench.shard.resume();
    }
}

#[test]
fn pass_is_answered_when_no_message_of_live_paths_is_left() {
    let Some(mut bench) = Bench::new() else { return };
    assert!(quiet(&mut bench).is_empty());
    for number in 0..3 * MESSAGES_A_TURN {
        let (path, request) = (format!("live/{number}").into(), OwnerRequest::WantSync);
        let message = LiveMessage::ToOwner(ToOwner { path, request });
        bench.shard.inbox.push_live(message).unwrap();
    }
    let (answer, answered) = mpsc::channel();
    let answer = Box::new(move |()| answer.send(()).unwrap_or_default());
    bench.shard.handle_takeover(TakeoverMessage::Pass { answer });
    bench.turn();
    assert!(answered.try_recv().is_err(), "a turn has its share");
    for _ in 0..TURNS_MAX {
        bench.turn();
        if answered.try_recv().is_ok() {
            return assert!(bench.shard.inbox.has_no_live());
        }
    }
    panic!("no answer");
}

/// A publisher over TCP on a connection that has recorded.
fn publish(bench: &mut Bench) -> TcpStream {
    let stream = bench.connect(1).remove(0);
    stream.set_nonblocking(true).unwrap();
    let url = "rtsp://127.0.0.1/live/a";
    let sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
        m=audio 0 RTP/AVP 0\r\na=control:streamid=0\r\n";
    let mut session = String::new();
    let length = sdp.len();
    for (line, headers, body) in [
        (
            format!("ANNOUNCE {url}"),
            format!("Content-Type: application/sdp\r\nContent-Length: {length}\r\n"),
            sdp,
        ),
        (
            format!("SETUP {url}/streamid=0"),
            "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record\r\n".to_owned(),
            "",
        ),
        (format!("RECORD {url}"), String::new(), ""),
    ] {
        let of_session = match session.is_empty() {
            true => String::new(),
            false => format!("Session: {session}\r\n"),
        };
        let request = format!("{line} RTSP/1.0\r\nCSeq: 1\r\n{of_session}{headers}\r\n{body}");
        (&stream).write_all(request.as_bytes()).unwrap();
        let answer = answer_on(bench, &stream);
        assert!(answer.starts_with("RTSP/1.0 200"), "{line}: {answer}");
        if let Some(told) = answer.lines().find_map(|line| line.strip_prefix("Session: ")) {
            session = told.split(';').next().unwrap().to_owned();
        }
    }
    stream
}

fn answer_on(bench: &mut Bench, mut stream: &TcpStream) -> String {
    let mut buffer = [0; 4_096];
    for _ in 0..TURNS_MAX {
        if let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            return String::from_utf8_lossy(&buffer[..bytes]).into_owned();
        }
        bench.turn();
    }
    panic!("no answer");
}

fn frame(seq: u8) -> Vec<u8> {
    let packet = [&[0x80, 0, 0, seq, 0, 0, seq, 0, 0, 0, 0, 9][..], &[7; 100]].concat();
    [&[b'$', 0, 0, 112][..], &packet].concat()
}

/// Its packets were not read while requests of others were waited for.
#[test]
fn publisher_over_tcp_is_heard_until_packets_are_to_end() {
    let Some(mut bench) = Bench::new() else { return };
    let stream = publish(&mut bench);
    let heard = |bench: &mut Bench, count: u64| {
        for _ in 0..TURNS_MAX {
            if bench.cells.source_packets_received.value() == count {
                return true;
            }
            bench.turn();
        }
        false
    };
    for round in 0..2_u8 {
        let (before, seq) = (bench.cells.source_packets_received.value(), 10 * round);
        assert!(quiet(&mut bench).is_empty());
        // Several reads, each of which is armed anew.
        for n in 1..4 {
            (&stream).write_all(&frame(seq + n)).unwrap();
            assert!(heard(&mut bench, before + u64::from(n)), "packet {n}");
        }
        (&stream).write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n").unwrap();
        assert!(answer_on(&mut bench, &stream).starts_with("RTSP/1.0 200"));
        ask(&mut bench, |answer| TakeoverMessage::Packets { answer }).unwrap();
        ask(&mut bench, |answer| TakeoverMessage::Halt { answer }).unwrap();
        (&stream).write_all(&frame(seq + 4)).unwrap();
        for _ in 0..10 {
            bench.turn();
        }
        assert_eq!(bench.cells.source_packets_received.value(), before + 3, "it waits");
        ask(&mut bench, |answer| TakeoverMessage::Pass { answer });
        let given = freeze(&mut bench);
        let record = &given.record;
        assert_eq!((record.paths.len(), record.units[0].sessions.len()), (1, 1));
        // The other process fails.
        bench.shard.resume();
        assert!(heard(&mut bench, before + 4), "it goes on here");
    }
}

/// All that had come to the old process was handled before the first packet was sent.
#[test]
fn what_connections_had_received_is_handled_in_shares_of_a_turn() {
    let Some(mut bench) = Bench::new() else { return };
    let _clients = bench.connect(300);
    let keys = bench.shard.net.entries.connections();
    let paths = Arc::new(PathTable::default());
    bench.shard.wait_for_takeover(paths);
    let Step::Waiting(waiting) = &mut bench.shard.takeover.step else { panic!("it waits") };
    let request = b"OPTIONS * RTSP/1.0\r\nCSeq: 7\r\n\r\n";
    waiting.inputs.extend(keys.iter().map(|key| (*key, request.to_vec())));
    let requests =
        |bench: &Bench| -> u64 { bench.cells.requests.iter().map(|(_, _, count)| count).sum() };
    let before = requests(&bench);
    bench.shard.handle_takeover(TakeoverMessage::Begin { frozen: Mono(1) });
    assert_eq!(requests(&bench), before, "the first packets come first");
    for turn in 0..TURNS_MAX {
        bench.turn();
        let done = requests(&bench) - before;
        assert!(turn > 0 || done <= u64::from(VISITS_A_TURN), "{done} in a turn");
        if done == 300 {
            return;
        }
    }
    panic!("some were forgotten");
}

/// Its port stayed bound for a source that had another one now.
#[test]
fn socket_of_an_input_comes_along_when_the_new_configuration_may_ask_for_it() {
    let socket = |to: &str, is_rtcp, interface: Option<&str>| InputSocket {
        track: 0,
        is_rtcp,
        to: to.parse().unwrap(),
        senders: Vec::new(),
        interface: interface.map(str::to_owned),
        may_widen: false,
    };
    let source = |text: &str| SourceAddress::parse(text).unwrap();
    let udp = source("udp://239.1.2.3:5004?interface=lo");
    for (to, is_rtcp, interface, is_asked_for) in [
        ("239.1.2.3:5004", false, Some("lo"), true),
        ("239.1.2.3:5005", true, Some("lo"), true),
        ("239.1.2.3:5004", false, None, false),
        ("239.1.2.3:5006", false, Some("lo"), false),
        ("239.1.2.4:5004", false, Some("lo"), false),
    ] {
        let asked = super::live::may_ask_for(&udp, &socket(to, is_rtcp, interface));
        assert_eq!(asked, is_asked_for, "{to} {interface:?}");
    }
    let any = socket("239.1.2.3:5004", false, None);
    assert!(super::live::may_ask_for(&source("file:cam.sdp"), &any));
    assert!(!super::live::may_ask_for(&source("publish"), &any));
}

/// Turns of at most a millisecond each.
const TURNS_MAX: usize = 2_000;
