//! Turns of a whole shard, taken one by one: how much of what waits is done in each. Every test
//! passes by skipping, with a printed line, where io_uring is not available.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::clock::monotonic as clock;
use super::inbox::{Inbox, Message};
use super::network::Network;
use super::questions::Question;
use super::ring::{RingConfig, RingError};
use super::send::sink::{RingSink, RunOwner};
use super::sockets::{listen_tcp, local_addr, udp_pair};
use super::{Shard, ShardConfig, TlsSettings};
use crate::base::addresses::{AddressLimit, Addresses};
use crate::base::ids::{RtpTs, SeqNo, ShardId, Ssrc};
use crate::base::limits::{
    CONNECTIONS_A_TURN, MESSAGES_A_TURN, REFUSALS_A_TURN, REQUESTS_A_VISIT, TIMERS_A_TURN,
    VISITS_A_TURN,
};
use crate::base::sink::RunSink;
use crate::base::time::Mono;
use crate::config::limits::LimitsConfig;
use crate::config::paths::PathTable;
use crate::consumers::rtsp_listener::Speaks;
use crate::consumers::tunnel::TunnelMessage;
use crate::live::core::batch::{Arrival, BatchBuilder, Generation};
use crate::metrics::cells::ShardCells;
use crate::poll::poll_table::EntryKey;
use crate::poll::poller::Poller;
use crate::rtsp::reader::{Input, RequestReader};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::uri::parse_target;
use crate::session::action::{Action, TimerKey};
use crate::session::command::{Command, Given, Led, ReplyTo};
use crate::session::cx::SessionConfig;
use crate::worker::TaskQueue;

/// A shard with a listener, whose turns the test takes.
pub(super) struct Bench {
    pub(super) shard: Shard,
    inbox: Arc<Inbox>,
    pub(super) cells: Arc<ShardCells>,
    address: SocketAddr,
}

impl Bench {
    pub(super) fn new() -> Option<Self> {
        Self::with(|_config| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut ShardConfig)) -> Option<Self> {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = listen_tcp(SocketAddr::new(ip, 0)).unwrap();
        let address = local_addr(&listener).unwrap();
        let inbox = Arc::new(Inbox::new(16).unwrap());
        let cells = Arc::<ShardCells>::default();
        let mut config = ShardConfig {
            id: ShardId(0),
            poller: Arc::new(Poller::new(vec![Arc::clone(&inbox)])),
            queue: Arc::new(TaskQueue::new(16, 0).unwrap()),
            cells: Arc::clone(&cells),
            listeners: vec![(Speaks::Rtsp, listener)],
            tls: TlsSettings::default(),
            tunnels_max: 16,
            pair: udp_pair(ip, None).unwrap(),
            pair_host: ip.into(),
            multicast: None,
            poll_entries_max: 400,
            addresses: Arc::default(),
            sessions: SessionConfig {
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
                srtp: crate::config::secure::SrtpMode::Optional,
            },
            paths: Arc::new(PathTable::default()),
            ring: RingConfig { files_max: 512, run_slots: 128, ..RingConfig::default() },
            waits: false,
        };
        change(&mut config);
        match Shard::new(config) {
            Ok(shard) => Some(Self { shard, inbox, cells, address }),
            Err(error @ (RingError::Unavailable { .. } | RingError::KernelTooOld { .. })) => {
                println!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn turn(&mut self) {
        self.shard.work().unwrap();
        self.shard.net.ring.enter(Some(1_000_000)).unwrap();
    }

    fn turns_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if is_so(self) {
                return;
            }
            self.turn();
        }
        panic!("never: {what}");
    }

    /// Connections that the shard has accepted.
    pub(super) fn connect(&mut self, count: usize) -> Vec<TcpStream> {
        let before = self.cells.connections.value();
        let streams = (0..count).map(|_| TcpStream::connect(self.address).unwrap()).collect();
        let all = before + count as u64;
        self.turns_until("all connections", |bench| bench.cells.connections.value() == all);
        streams
    }

    /// The only connection.
    pub(super) fn connection(&mut self) -> EntryKey {
        let entries = &mut self.shard.net.entries;
        let keys: Vec<_> = entries.table.keys().collect();
        keys.into_iter().find(|key| entries.connection_mut(*key).is_some()).unwrap()
    }

    fn requests(&self) -> u64 {
        self.cells.requests.iter().map(|(_, _, count)| count).sum()
    }
}

/// About as much as one receive takes.
fn pipeline(mut stream: &TcpStream, count: usize) {
    let requests: String =
        (1..=count).map(|cseq| format!("OPTIONS * RTSP/1.0\r\nCSeq: {cseq}\r\n\r\n")).collect();
    stream.write_all(requests.as_bytes()).unwrap();
}

#[test]
fn requests_of_a_turn_are_bounded_and_all_are_answered_in_order() {
    let Some(mut bench) = Bench::new() else { return };
    let flooders = bench.connect(FLOODERS);
    for flooder in &flooders {
        pipeline(flooder, PIPELINED);
    }
    let all = (FLOODERS * PIPELINED) as u64;
    let most = u64::from(VISITS_A_TURN * REQUESTS_A_VISIT);
    assert!(all > most, "more than a turn takes");
    for _ in 0..TURNS_MAX {
        let before = bench.requests();
        bench.turn();
        let done = bench.requests() - before;
        assert!(done <= most, "{done} requests in a turn");
        if bench.requests() == all {
            break;
        }
        if !bench.shard.arrivals.is_empty() {
            assert_eq!(bench.shard.idle_until(), None, "it sleeps on work");
        }
    }
    assert_eq!(bench.requests(), all);
    bench.turns_until("all is sent", |bench| bench.shard.net.entries.dirty.is_empty());
    for mut flooder in flooders {
        let mut answers = String::new();
        let mut buffer = [0; 4_096];
        while answers.matches("CSeq: ").count() < PIPELINED {
            bench.turn();
            flooder.set_nonblocking(true).unwrap();
            match flooder.read(&mut buffer) {
                Ok(0) => panic!("closed"),
                Ok(bytes) => answers.push_str(std::str::from_utf8(&buffer[..bytes]).unwrap()),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        let numbers: Vec<usize> = answers
            .lines()
            .filter_map(|line| line.strip_prefix("CSeq: ")?.trim().parse().ok())
            .collect();
        assert_eq!(numbers, (1..=PIPELINED).collect::<Vec<_>>());
    }
}

#[test]
fn request_of_another_waits_for_one_round_of_those_who_flood() {
    let Some(mut bench) = Bench::new() else { return };
    let flooders = bench.connect(FLOODERS);
    let polite = bench.connect(1);
    for flooder in &flooders {
        pipeline(flooder, PIPELINED);
    }
    bench.turns_until("they wait", |bench| bench.requests() > 0);
    assert!(!bench.shard.arrivals.is_empty());
    pipeline(&polite[0], 1);
    // The kernel reports it with the end of this turn at the latest.
    bench.turn();
    let before = bench.requests();
    polite[0].set_nonblocking(true).unwrap();
    let mut answered = false;
    for _ in 0..TURNS_MAX {
        answered = (&polite[0]).read(&mut [0; 512]).is_ok_and(|bytes| bytes > 0);
        if answered {
            break;
        }
        bench.turn();
    }
    assert!(answered);
    let meanwhile = bench.requests() - before;
    // Its own round, and what a turn does before its answer is sent and seen.
    let most = FLOODERS as u64 * u64::from(REQUESTS_A_VISIT) + 2 * u64::from(VISITS_A_TURN * 8);
    assert!(meanwhile <= most, "{meanwhile} requests of others came before it");
}

#[test]
fn connections_accepted_in_a_turn_are_bounded_and_none_is_forgotten() {
    let Some(mut bench) = Bench::new() else { return };
    let streams: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(bench.address).unwrap()).collect();
    bench.turns_until("all connections", |bench| {
        bench.cells.connections.value() == streams.len() as u64
    });
    drop(streams);
    bench.turns_until("all have gone", |bench| bench.cells.connections.value() == 0);

    let more: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(bench.address).unwrap()).collect();
    for _ in 0..TURNS_MAX {
        let before = bench.cells.connections.value();
        bench.turn();
        let opened = bench.cells.connections.value() - before;
        assert!(opened <= u64::from(CONNECTIONS_A_TURN), "{opened} connections in a turn");
        if bench.cells.connections.value() == more.len() as u64 {
            return;
        }
    }
    panic!("some are forgotten");
}

#[test]
fn connections_beyond_the_rows_of_the_table_are_refused_before_their_turn() {
    let Some(mut bench) = Bench::new() else { return };
    let streams: Vec<TcpStream> =
        (0..450).map(|_| TcpStream::connect(bench.address).unwrap()).collect();
    // The inbox, the listener and a pair of sockets have rows, too.
    let rows = 400 - 4;
    bench.turns_until("each is open or refused", |bench| {
        bench.cells.connections.value() + bench.cells.connections_refused.value()
            == streams.len() as u64
    });
    assert_eq!(bench.cells.connections.value(), rows);
    let refused = streams.iter().filter(|stream| is_told(stream, "RTSP/1.0 503 "));
    assert_eq!(refused.count() as u64, 450 - rows);
}

/// Each of them cost a write and a close outside of all shares of a turn once.
#[test]
fn clients_that_are_told_in_a_turn_that_they_are_too_many_are_bounded() {
    let few = |config: &mut ShardConfig| config.addresses = Arc::new(addresses_of(10));
    let Some(mut bench) = Bench::with(few) else { return };
    let streams: Vec<TcpStream> =
        (0..310).map(|_| TcpStream::connect(bench.address).unwrap()).collect();
    let (mut told_max, mut most) = (0, 0);
    for _ in 0..TURNS_MAX {
        let before = bench.cells.connections_refused_address.value();
        bench.turn();
        let refused = bench.cells.connections_refused_address.value() - before;
        told_max += refused.min(u64::from(REFUSALS_A_TURN));
        most = refused.max(most);
        if bench.cells.connections_refused_address.value() == 300 {
            break;
        }
    }
    assert!(most > u64::from(REFUSALS_A_TURN), "a turn had {most} to refuse, which shows nothing");
    bench.turns_until("the others are open", |bench| bench.cells.connections.value() == 10);
    let told = streams.iter().filter(|stream| is_told(stream, "RTSP/1.0 503 ")).count() as u64;
    assert!((1..=told_max).contains(&told), "{told} of at most {told_max}");
}

#[test]
fn client_for_whom_there_is_no_place_is_told_in_the_language_of_its_port() {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let [http, tls] = [(), ()].map(|()| listen_tcp(SocketAddr::new(ip, 0)).unwrap());
    let ports = [&http, &tls].map(|listener| local_addr(listener).unwrap());
    let none = |config: &mut ShardConfig| {
        config.addresses = Arc::new(addresses_of(0));
        config.listeners.extend([(Speaks::Http, http), (Speaks::Tls, tls)]);
    };
    let Some(mut bench) = Bench::with(none) else { return };
    let [http, tls] = ports.map(|port| TcpStream::connect(port).unwrap());
    let rtsp = TcpStream::connect(bench.address).unwrap();
    bench.turns_until("all are refused", |bench| bench.cells.connections_refused.value() == 3);
    assert!(is_told(&rtsp, "RTSP/1.0 503 ") && is_told(&http, "HTTP/1.0 503 "));
    // No record of TLS could say it.
    tls.set_nonblocking(true).unwrap();
    assert_eq!((&tls).read(&mut [0]).unwrap(), 0);
}

/// The row stayed once, and an address's count of tunnels with it.
#[test]
fn tunnel_is_left_although_the_inbox_of_its_table_was_full() {
    let Some(mut bench) = Bench::new() else { return };
    let entry = EntryKey { index: 300, generation: 1 };
    let down = ReplyTo { shard: ShardId(0), entry };
    let cookie = || Box::<str>::from("cookie-of-this-test");
    let ip = bench.address.ip();
    bench.shard.tunnels.enter(cookie(), ip, down, &mut Vec::new()).unwrap();
    loop {
        let response = Box::new(Response::new(Status::Ok, None));
        if bench.inbox.push(Message::Answered { entry, response }).is_err() {
            break;
        }
    }
    bench.shard.post_tunnel(ShardId(0), TunnelMessage::Leave { cookie: cookie(), down });
    assert_eq!((bench.cells.inbox_full.value(), bench.shard.tunnels.count()), (1, 1));
    bench.turns_until("the row is gone", |bench| bench.shard.tunnels.count() == 0);
    assert!(bench.shard.leaves.is_empty());
}

fn addresses_of(count: u32) -> Addresses {
    Addresses::new(AddressLimit::of_all(count), 16)
}

/// Whether an answer that begins so has come.
fn is_told(mut stream: &TcpStream, beginning: &str) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut answer = [0; 128];
    let bytes = stream.read(&mut answer).unwrap_or(0);
    answer[..bytes].starts_with(beginning.as_bytes())
}

/// Such a connection was looked at in each slot of the wheel once, until a timeout was over: its
/// request was due, and a connection that closes is not ended for that.
#[test]
fn connection_that_closes_behind_a_stuck_answer_is_looked_at_seldom() {
    let Some(mut bench) = Bench::new() else { return };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&bench.address.into()).unwrap();
    let client = TcpStream::from(socket);
    bench.turns_until("the connection", |bench| bench.cells.connections.value() == 1);
    let key = bench.connection();
    let is_sending = |bench: &Bench| bench.shard.net.entries.link(key).unwrap().is_sending;
    // It reads nothing: answers are in flight for ever sooner or later.
    let mut asked = 0;
    let mut stuck_turns = 0;
    for _ in 0..TURNS_MAX {
        if stuck_turns == 8 {
            break;
        }
        if stuck_turns == 0 {
            pipeline(&client, PIPELINED);
            asked += PIPELINED as u64;
            bench.turns_until("its requests are handled", |bench| bench.requests() == asked);
        }
        bench.turn();
        stuck_turns = if is_sending(&bench) { stuck_turns + 1 } else { 0 };
    }
    assert_eq!(stuck_turns, 8, "all answers were taken");
    (&client).write_all(b"OPT").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut is_closing = false;
    for _ in 0..TURNS_MAX {
        is_closing = bench.shard.net.entries.connection_mut(key).unwrap().is_closing();
        if is_closing {
            break;
        }
        bench.turn();
    }
    assert!(is_closing, "the end was not read");
    // Ten seconds from the time on at which its request was due.
    let start = clock() + Duration::from_secs(11);
    let (mut now, mut looks) = (start, 0);
    while now < start + Duration::from_secs(10) {
        bench.shard.sessions.cx.now = now;
        let mut due = Vec::new();
        bench.shard.sessions.cx.wheel.expire(now, &mut due);
        if due.contains(&TimerKey::Connection(key)) {
            looks += 1;
            bench.shard.handle_idle_connection(key);
        }
        assert!(looks < 100, "{looks} looks in {:?}", now.since(start));
        now = now + Duration::from_millis(1);
    }
    assert!(looks > 0, "nobody looks after it");
    drop(client);
}

#[test]
fn messages_of_a_turn_are_bounded() {
    let Some(mut bench) = Bench::new() else { return };
    for _ in 0..3_000 {
        let response = Box::new(Response::new(Status::Ok, None));
        let entry = EntryKey { index: 300, generation: 1 };
        bench.inbox.push(Message::Answered { entry, response }).unwrap();
    }
    let mut before = bench.inbox.message_count();
    for _ in 0..TURNS_MAX {
        bench.turn();
        let left = bench.inbox.message_count();
        assert!(before - left <= MESSAGES_A_TURN as usize, "{} in a turn", before - left);
        before = left;
        if left == 0 {
            return;
        }
    }
    panic!("{before} messages are left");
}

#[test]
fn timers_of_a_turn_are_bounded_and_what_is_left_keeps_the_shard_awake() {
    let Some(mut bench) = Bench::new() else { return };
    let now = clock();
    let keys = 3 * TIMERS_A_TURN;
    for _ in 0..keys {
        let entry = EntryKey { index: 300, generation: 1 };
        bench.shard.sessions.cx.wheel.insert(now, TimerKey::Connection(entry));
    }
    let mut left = None;
    for _ in 0..TURNS_MAX {
        bench.shard.work().unwrap();
        let waiting = bench.shard.waiting_timers.len();
        // Nothing is due before the wheel's next slot: a turn within it leaves no timer.
        let before = left.unwrap_or(if waiting > 0 { keys as usize } else { 0 });
        assert!(before <= waiting + TIMERS_A_TURN as usize, "{before} to {waiting}");
        left = (waiting > 0).then_some(waiting).or(left);
        if waiting == 0 && left.is_some() {
            return;
        }
        if waiting > 0 {
            assert_eq!(bench.shard.idle_until(), None, "it sleeps on timers");
        }
        bench.shard.net.ring.enter(Some(1_000_000)).unwrap();
    }
    panic!("{left:?} timers are left");
}

#[test]
fn one_question_is_answered_in_a_turn_and_those_that_wait_keep_the_shard_awake() {
    let Some(mut bench) = Bench::new() else { return };
    let answered = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let answered = Arc::clone(&answered);
        let reply = Box::new(move |_page| {
            answered.fetch_add(1, Ordering::Relaxed);
        });
        Question::Sessions { after: None, reply }
    };
    for _ in 0..5 {
        bench.inbox.push(Message::Asked(ask())).unwrap();
    }
    for count in 1..=5 {
        bench.shard.work().unwrap();
        assert_eq!(answered.load(Ordering::Relaxed), count);
        assert_eq!(bench.shard.idle_until().is_none(), count < 5, "{count}");
        bench.shard.net.ring.enter(Some(0)).unwrap();
    }
    for _ in 0..1_000 {
        bench.shard.questions.put(ask());
    }
    assert_eq!(bench.shard.questions.len(), 256, "those beyond are dropped");
}

#[test]
fn sends_that_do_not_end_are_counted_each_time_and_said_once() {
    let Some(mut bench) = Bench::new() else { return };
    for _ in 0..3 {
        bench.shard.note_unsent_runs();
    }
    assert_eq!(bench.cells.turns_with_unsent_runs.value(), 3);
    assert_eq!(bench.shard.net.warnings.count(), 1);
}

/// The owners of such runs were kept for ever once: one for each run in flight at the close.
#[test]
fn owners_of_runs_in_flight_are_freed_when_their_pair_is_closed() {
    let Some(mut bench) = Bench::new() else { return };
    let mut builder = BatchBuilder::default();
    let (ssrc, seq, ts) = (Ssrc(1), SeqNo(1), RtpTs(1));
    let (marker, is_sync, header_bytes, bytes) = (false, false, 12, &[0x80; 100]);
    let arrival = Arrival { track: 0, ssrc, seq, ts, marker, header_bytes, is_sync, bytes };
    builder.push(&arrival, Mono(0)).unwrap();
    let batch = Arc::new(builder.build(Generation(1), |_| None).unwrap());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let pair = bench
        .shard
        .net
        .add_pair(&mut bench.shard.sessions, udp_pair(bench.address.ip(), None).unwrap())
        .unwrap();
    let nowhere = SocketAddr::new(bench.address.ip(), 0);
    for to in [client.local_addr().unwrap(), nowhere, nowhere] {
        let Network { ring, runs, pairs, srtp, .. } = &mut bench.shard.net;
        let mut sink = RingSink { ring, runs, pairs, srtp };
        let way = sink.way_to(pair, to).unwrap();
        let mut run = sink.start(way, None).unwrap();
        assert!(run.run.set_range(&batch, &batch.runs_of(0)[0]));
        run.submit(RunOwner::Resent { pair }, true);
    }
    assert_eq!(bench.shard.net.runs.len(), 3);
    bench.shard.net.close_pair(&mut bench.shard.sessions, pair);
    bench.turns_until("their owners are freed", |bench| bench.shard.net.runs.is_empty());
    assert_eq!(bench.cells.send_errors.value(), 0, "nobody is told of a closed socket");
    assert_eq!(Arc::strong_count(&batch), 1);
    let mut packet = [0; 200];
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(client.recv(&mut packet).unwrap(), 100, "what was queued before is still sent");
}

#[test]
fn panic_over_a_timer_of_any_kind_or_a_command_does_not_end_the_shard() {
    let Some(mut bench) = Bench::new() else { return };
    let entry = EntryKey { index: 300, generation: 1 };
    let text = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";
    let mut reader = RequestReader::new();
    let timers = [TimerKey::LiveTick, TimerKey::LiveReader { index: 0, serial: 0 }];
    for nth in 0..3 {
        bench.shard.sessions.cx.panics_next = true;
        if let Some(timer) = timers.get(nth) {
            bench.shard.sessions.cx.wheel.insert(clock(), *timer);
        } else {
            reader.handle_bytes(text);
            let Some(Input::Request(request)) = reader.poll() else { panic!("no request") };
            let target = parse_target(&request.uri).unwrap();
            let reply_to = ReplyTo { shard: ShardId(0), entry };
            let (peer, local) = (bench.address, bench.address.ip());
            let (session, title) = (None, None);
            let led = Led::Not;
            let command = Command {
                request,
                target,
                session,
                reply_to,
                peer,
                local,
                title,
                led,
                given: Given::default(),
            };
            bench.shard.sessions.cx.out.push(Action::Execute(Box::new(command)));
        }
        let panics = nth as u64 + 1;
        bench.turns_until("a panic", |bench| bench.cells.panics.value() == panics);
    }
}

/// Together they pipeline more requests than a turn takes.
const FLOODERS: usize = 40;
const PIPELINED: usize = 100;
const TURNS_MAX: usize = 10_000;
