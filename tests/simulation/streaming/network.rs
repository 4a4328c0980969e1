//! The network between clients and shards, and what is to happen.
//!
//! ```text
//!  client --segments, split and delayed--> rx of a connection --> a shard's receive
//!  client <--as fast as it reads-- tx of a connection <---------- a shard's send
//!  client --datagrams--> lost, late, twice --> a shard's socket;  and back
//! ```
//! A connection is in order and loses nothing, but may be reset, closed by either side, or half
//! open: then its client has vanished, and neither reads nor says so. `tx` has the bytes that the
//! kernel has taken and the client has not: a send that finds no room waits.
//!
//! Bounds: `TX_BYTES_MAX` of a connection, `DATAGRAMS_MAX` of a socket.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use headend::base::time::Mono;
use headend::poll::task::Task;

use super::checks::Watch;
use super::edges::Edges;
use super::kernel::Machine;
use super::workers::Fate;
use crate::dice::{Dice, MS, Seconds, Trace};
use crate::due::DueQueue;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// The virtual clock of this thread, for code that takes a function.
pub(crate) fn clock() -> Mono {
    Mono(NOW.get())
}

/// What is to happen.
#[derive(Debug)]
pub(crate) enum Event {
    Turn {
        shard: usize,
        number: u64,
    },
    Segment {
        conn: ConnId,
        segment: Segment,
    },
    Deliver {
        conn: ConnId,
    },
    ToServer {
        port: u16,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    ToClient {
        port: u16,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Done {
        house: usize,
        worker: usize,
        task: Box<Task>,
        fate: Fate,
    },
    Step {
        client: usize,
        number: u64,
    },
    Operator,
    TakeOver {
        shards: usize,
    },
    /// The next look at a takeover.
    TakingOver,
    Check,
    Leave,
    Stop,
}

/// What arrives at the server on a connection.
#[derive(Debug)]
pub(crate) enum Segment {
    Syn,
    Bytes(Vec<u8>),
    Fin,
    Reset,
    /// Probes of an idle connection were not answered.
    TimedOut,
}

/// What a client is told.
#[derive(Debug)]
pub(crate) enum Input {
    Bytes(ConnId, Vec<u8>),
    Closed(ConnId),
    Datagram { port: u16, to: SocketAddr, bytes: Vec<u8> },
}

pub(crate) type ConnId = usize;

/// How bad the network and the machine are; chances in a thousand.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    pub(crate) loss: u32,
    pub(crate) twice: u32,
    pub(crate) delay_us: (u64, u64),
    /// Sends of datagrams that find no room in the socket.
    pub(crate) again: u32,
    /// Sends of datagrams that fail for good.
    pub(crate) unreachable: u32,
    /// Accepts that find no descriptor.
    pub(crate) no_descriptor: u32,
    /// Turns after which the shard is not run for a while, and for long.
    pub(crate) preempted: u32,
    pub(crate) frozen: u32,
    /// The time of day jumps by a day.
    pub(crate) jumps: bool,
    pub(crate) edges: Edges,
    /// Tasks whose disk is slow, fails, has a shorter file, or whose worker panics.
    pub(crate) slow: u32,
    pub(crate) failing: u32,
    pub(crate) short: u32,
    pub(crate) panicking: u32,
}

/// A fault of the product that is switched on: each is found by a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A worker forgets an outcome.
    OutcomeLost,
    /// The clock of the shards is ahead of the presentation's.
    Early,
    /// An eventfd is written to, and nobody is woken.
    WakeLost,
    /// Two packets of a run change places.
    Swapped,
    /// A packet is sent although its stream is paused.
    SentWhilePaused,
    /// A descriptor is not closed.
    DescriptorKept,
    /// An answer comes twice.
    AnsweredTwice,
    /// The kernel forgets to say that a session's last answer is sent.
    CompletionLost,
    /// Completions for which the queue has no room are dropped.
    OverflowLost,
    /// The kernel ends an operation with many completions and says that more follow.
    EndUnsaid,
    /// The shard is told that time has not passed: it runs on without work.
    Spins,
    /// A process that has handed over goes on.
    BothGoOn,
    /// What a process has told of descriptors stays open.
    RecordKept,
    /// A packet of a publisher is lost, and numbers show no gap.
    LostUnseen,
}

/// A socket of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    Listener(usize),
    Conn(ConnId),
    Datagrams(u16),
    Wake,
}

/// A TCP connection of a client.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) client: usize,
    pub(crate) from: SocketAddr,
    /// Where it is accepted.
    listener: usize,
    /// Shards that have its socket, of one process or two, with its index among their files.
    pub(crate) holders: Vec<(usize, u32)>,
    pub(crate) rx: VecDeque<u8>,
    pub(crate) rx_ended: bool,
    pub(crate) is_reset: bool,
    arrives: u64,
    pub(crate) tx: VecDeque<u8>,
    pub(crate) tx_max: usize,
    /// Bytes of sends that were looked at and that the kernel did not take: they come before all
    /// others.
    pub(crate) untaken: Vec<u8>,
    is_delivering: bool,
    /// The client takes bytes.
    pub(crate) is_reading: bool,
    /// The client has left without a word.
    pub(crate) is_half_open: bool,
    /// The client has closed or reset the connection.
    pub(crate) is_left: bool,
    pub(crate) server_closed: bool,
    is_told_closed: bool,
    pub(crate) acked_bytes: u64,
    pub(crate) segments: u32,
    pub(crate) last_ack: u64,
    /// Our end of the descriptor that the shard has.
    pub(crate) other_end: Option<UnixStream>,
}

/// UDP sockets of shards by port, with their shards and files.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    pub(crate) holders: Vec<(usize, u32)>,
    pub(crate) rx: VecDeque<(SocketAddr, Vec<u8>)>,
}

/// Everything that is not a shard, a worker or a client.
pub(crate) struct Net {
    pub(crate) now: u64,
    queue: DueQueue<Event>,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) weather: Weather,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) watch: Watch,
    pub(crate) machines: Vec<Machine>,
    pub(crate) conns: Vec<Conn>,
    pub(crate) datagrams: BTreeMap<u16, Datagrams>,
    /// Sockets by what `fstat` says of their descriptors: duplicates are the same socket.
    fds: BTreeMap<(u64, u64), Socket>,
    /// Connections that wait to be accepted, by listener.
    pub(crate) backlogs: Vec<VecDeque<ConnId>>,
    /// Descriptors of listeners that every process is offered.
    listening: Vec<OwnedFd>,
    /// Ends of descriptors of sockets other than connections.
    pub(crate) other_ends: Vec<UnixStream>,
    /// Clients by their UDP addresses, which some share behind a NAT.
    pub(crate) homes: BTreeMap<SocketAddr, BTreeSet<usize>>,
    next_port: u16,
    /// For faults that are switched on.
    pub(crate) kept: Vec<OwnedFd>,
    pub(crate) last_packet: Option<(u16, SocketAddr, Vec<u8>)>,
    /// The last events, for whoever looks into a run that failed.
    pub(crate) last: VecDeque<String>,
}

impl Net {
    pub(crate) fn new(seed: u64, shards: usize, weather: Weather, is_shown: bool) -> Self {
        let now = START_NS;
        NOW.set(now);
        Self {
            now,
            queue: DueQueue::new(),
            dice: Dice::new(seed),
            trace: Trace::new(is_shown),
            machines: (0..shards).map(|_| Machine::new(weather.edges.completions)).collect(),
            weather,
            mutation: None,
            watch: Watch::default(),
            conns: Vec::new(),
            datagrams: BTreeMap::new(),
            fds: BTreeMap::new(),
            backlogs: Vec::new(),
            listening: Vec::new(),
            other_ends: Vec::new(),
            homes: BTreeMap::new(),
            next_port: FIRST_PORT,
            kept: Vec::new(),
            last_packet: None,
            last: VecDeque::new(),
        }
    }

    /// Has something happen after `delay` nanoseconds.
    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    /// The next event; time passes to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let (at, event) = self.queue.pop()?;
        self.now = at;
        NOW.set(at);
        Some(event)
    }

    /// Notes a step for the trace, and a line for people.
    pub(crate) fn note(&mut self, kind: &str, who: u64, what: u64) {
        self.trace.note(self.now, kind, who, what);
        let now = self.now - START_NS;
        self.trace.say(now, || format!("{kind} {who} {what}"));
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(format!("{:>10.3} {kind} {who} {what}", Seconds(now)));
    }

    /// A descriptor for a socket, by which its shard names it.
    pub(crate) fn descriptor(&mut self, socket: Socket) -> OwnedFd {
        let (ours, theirs) = UnixStream::pair().expect("a descriptor");
        ours.set_nonblocking(true).expect("an option");
        theirs.set_nonblocking(true).expect("an option");
        let fd = OwnedFd::from(theirs);
        self.fds.insert(name_of(&fd), socket);
        match socket {
            Socket::Conn(conn) => self.conns[conn].other_end = Some(ours),
            _ => self.other_ends.push(ours),
        }
        fd
    }

    /// The socket that a descriptor is one of.
    pub(crate) fn socket_of(&self, fd: impl AsFd) -> Option<Socket> {
        self.fds.get(&name_of(fd)).copied()
    }

    /// One more listener.
    pub(crate) fn listen(&mut self) {
        let listener = self.backlogs.len();
        self.backlogs.push(VecDeque::new());
        let fd = self.descriptor(Socket::Listener(listener));
        self.listening.push(fd);
    }

    /// Duplicates of all listeners.
    pub(crate) fn listeners(&self) -> Vec<OwnedFd> {
        self.listening.iter().map(|fd| fd.try_clone().expect("a descriptor")).collect()
    }

    /// The machine of one more shard.
    pub(crate) fn add_machine(&mut self) -> usize {
        self.machines.push(Machine::new(self.weather.edges.completions));
        self.machines.len() - 1
    }

    /// A pair of UDP sockets at any free ports: descriptors and the port of the first.
    pub(crate) fn bind_pair(&mut self) -> (OwnedFd, OwnedFd, u16) {
        self.next_port += 2;
        self.bind_pair_at(self.next_port - 2)
    }

    /// As `bind_pair`, at a port that must be free.
    pub(crate) fn bind_pair_at(&mut self, port: u16) -> (OwnedFd, OwnedFd, u16) {
        let mut bind = |port| {
            let before = self.datagrams.insert(port, Datagrams::default());
            assert!(before.is_none(), "port {port} is taken");
            self.descriptor(Socket::Datagrams(port))
        };
        (bind(port), bind(port + 1), port)
    }

    // What clients do.

    pub(crate) fn connect(&mut self, client: usize, from: SocketAddr) -> ConnId {
        let listener = self.dice.index(self.backlogs.len());
        let conn = self.conns.len();
        let tx_max = self.dice.pick(&[6_000, 20_000, TX_BYTES_MAX]);
        self.conns.push(Conn {
            client,
            from,
            listener,
            holders: Vec::new(),
            rx: VecDeque::new(),
            rx_ended: false,
            is_reset: false,
            arrives: 0,
            tx: VecDeque::new(),
            tx_max,
            untaken: Vec::new(),
            is_delivering: false,
            is_reading: true,
            is_half_open: false,
            is_left: false,
            server_closed: false,
            is_told_closed: false,
            acked_bytes: 0,
            segments: 0,
            last_ack: self.now,
            other_end: None,
        });
        self.send_segment(conn, Segment::Syn);
        conn
    }

    fn send_segment(&mut self, conn: ConnId, segment: Segment) {
        let (low, high) = self.weather.delay_us;
        let delay = self.dice.between(low * 1_000, high * 1_000);
        let at = (self.now + delay).max(self.conns[conn].arrives + 1);
        self.conns[conn].arrives = at;
        self.at(at, Event::Segment { conn, segment });
    }

    /// Sends bytes in segments that are cut anywhere.
    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let whole = self.dice.chance(700);
            let cut = if whole { rest.len() } else { 1 + self.dice.index(rest.len()) };
            let (segment, left) = rest.split_at(cut.min(SEGMENT_MAX));
            self.send_segment(conn, Segment::Bytes(segment.to_vec()));
            rest = left;
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        if !std::mem::replace(&mut self.conns[conn].is_left, true) {
            self.watch.connection_left(conn);
            let segment = if self.dice.chance(300) { Segment::Reset } else { Segment::Fin };
            self.send_segment(conn, segment);
        }
    }

    /// The client is there no more: nothing comes from it, and nothing is taken by it.
    pub(crate) fn vanish(&mut self, client: usize) {
        for id in 0..self.conns.len() {
            let conn = &mut self.conns[id];
            if conn.client == client && !std::mem::replace(&mut conn.is_half_open, true) {
                self.watch.connection_left(id);
                self.after(KEEP_ALIVE_NS, Event::Segment { conn: id, segment: Segment::TimedOut });
            }
        }
        self.homes.values_mut().for_each(|clients| {
            clients.remove(&client);
        });
    }

    pub(crate) fn set_reading(&mut self, conn: ConnId, is_reading: bool) {
        self.conns[conn].is_reading = is_reading;
        self.watch.connection_reads(conn, is_reading, self.now);
        self.begin_delivery(conn);
    }

    pub(crate) fn send_datagram(&mut self, from: SocketAddr, port: u16, bytes: &[u8]) {
        for delay in self.ways() {
            self.after(delay, Event::ToServer { port, from, bytes: bytes.to_vec() });
        }
    }

    /// The delays of one datagram: none when it is lost, two when it comes twice.
    pub(crate) fn ways(&mut self) -> Vec<u64> {
        let Weather { loss, twice, delay_us: (low, high), .. } = self.weather;
        if self.dice.chance(loss) {
            return Vec::new();
        }
        let count = 1 + usize::from(self.dice.chance(twice));
        (0..count).map(|_| self.dice.between(low * 1_000, high * 1_000)).collect()
    }

    // What reaches the server.

    pub(crate) fn handle_segment(&mut self, id: ConnId, segment: Segment) {
        let conn = &mut self.conns[id];
        let listener = conn.listener;
        if conn.is_half_open && !matches!(segment, Segment::Syn | Segment::TimedOut) {
            return;
        }
        if !matches!(segment, Segment::TimedOut) {
            conn.last_ack = self.now;
        }
        match segment {
            Segment::Syn => {
                self.note("connect", id as u64, listener as u64);
                self.backlogs[listener].push_back(id);
                return self.try_accept(listener);
            }
            Segment::Bytes(bytes) => {
                conn.segments += 1;
                conn.rx.extend(bytes);
            }
            Segment::Fin => conn.rx_ended = true,
            // Probes are sent where nothing waits to be acknowledged.
            Segment::TimedOut if !conn.tx.is_empty() => return,
            Segment::Reset | Segment::TimedOut => {
                conn.is_reset = true;
                conn.tx.clear();
                self.note("reset", id as u64, 0);
                self.end_stream_send(id, -libc::ECONNRESET);
            }
        }
        self.try_receive(id);
    }

    pub(crate) fn handle_datagram(&mut self, port: u16, from: SocketAddr, bytes: Vec<u8>) {
        let Some(socket) = self.datagrams.get_mut(&port) else { return };
        if socket.rx.len() < DATAGRAMS_MAX {
            socket.rx.push_back((from, bytes));
        }
        self.try_receive_datagrams(port);
    }

    // What reaches the client.

    pub(crate) fn begin_delivery(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        let has_end = conn.server_closed && !conn.is_told_closed;
        let has_some = !conn.tx.is_empty() || has_end;
        let takes = conn.is_reading && !conn.is_half_open && !conn.is_left;
        if has_some && takes && !conn.is_delivering {
            conn.is_delivering = true;
            let (low, high) = self.weather.delay_us;
            let delay = self.dice.between(low * 1_000, high * 1_000);
            self.after(delay, Event::Deliver { conn: id });
        }
    }

    /// Hands some bytes over to the client of a connection.
    pub(crate) fn deliver(&mut self, id: ConnId) -> Option<Input> {
        let most = 1 + self.dice.index(16_000);
        let conn = &mut self.conns[id];
        conn.is_delivering = false;
        if !conn.is_reading || conn.is_half_open || conn.is_left {
            return None;
        }
        let count = conn.tx.len().min(most);
        let bytes: Vec<u8> = conn.tx.drain(..count).collect();
        conn.acked_bytes += bytes.len() as u64;
        conn.last_ack = self.now;
        let input = if !bytes.is_empty() {
            Some(Input::Bytes(id, bytes))
        } else if conn.server_closed && !std::mem::replace(&mut conn.is_told_closed, true) {
            Some(Input::Closed(id))
        } else {
            None
        };
        self.go_on_sending(id);
        self.begin_delivery(id);
        input
    }

    /// Closes connections whose descriptor was dropped before it was registered, with what was
    /// written to it last.
    pub(crate) fn look_after_refused(&mut self, shard: usize) {
        let refused = std::mem::take(&mut self.machines[shard].accepted);
        for id in refused {
            let conn = &mut self.conns[id];
            if !conn.holders.is_empty() || conn.server_closed {
                continue;
            }
            let mut last = [0; 256];
            let end = conn.other_end.as_mut().expect("it was accepted");
            let mut written = Vec::new();
            let is_closed = loop {
                match end.read(&mut last) {
                    Ok(0) => break true,
                    Ok(count) => written.extend_from_slice(&last[..count]),
                    // It waits for its share of a turn.
                    Err(_) => break false,
                }
            };
            conn.tx.extend(written);
            conn.server_closed = is_closed;
            if is_closed {
                self.note("refused", id as u64, 0);
                self.watch.connection_left(id);
                self.begin_delivery(id);
            } else {
                self.machines[shard].accepted.push(id);
            }
        }
    }

    /// Descriptors that shards have not closed.
    pub(crate) fn open_descriptors(&mut self) -> usize {
        self.listening.clear();
        let ends = self.conns.iter_mut().filter_map(|conn| conn.other_end.as_mut());
        let ends = ends.chain(&mut self.other_ends);
        ends.filter_map(|end| match end.read(&mut [0; 256]) {
            Ok(0) => None,
            _ => Some(()),
        })
        .count()
    }
}

/// Device and number of what a descriptor stands for.
fn name_of(fd: impl AsFd) -> (u64, u64) {
    let stat = rustix::fs::fstat(fd).expect("an open descriptor");
    (stat.st_dev, stat.st_ino)
}

/// Where the server is.
pub(crate) const SERVER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const SERVER: SocketAddr = SocketAddr::new(SERVER_IP, 554);
/// The clock of a machine that has run for a while.
pub(crate) const START_NS: u64 = 1_000_000 * MS;

/// When the kernel gives up an idle connection whose client is gone.
const KEEP_ALIVE_NS: u64 = 12_000 * MS;
/// Above those that servers are told to take.
const FIRST_PORT: u16 = 9_000;
const SEGMENT_MAX: usize = 1_400;
const TX_BYTES_MAX: usize = 200_000;
const DATAGRAMS_MAX: usize = 256;
const LAST_MAX: usize = 60;
