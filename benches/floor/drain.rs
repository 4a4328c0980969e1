//! The receiving side, in a process of its own: what it costs is not the sender's.
//!
//! ```text
//! parent --spawn--> child: UDP: ports on stdout .. receive, gather 1 ms, receive ..
//!                          TCP: connects, says so .. receives, cuts the stream into packets ..
//!        --stdin closed-->  reads the rest, prints what came, ends
//! ```
//! It receives like `headend-loadgen --shared-ports`, by the same code: one wildcard socket for
//! each track with GRO, packet info and time stamps, and the same pause between reads; over TCP one
//! read of an event without a pause. On loopback the sender pays for waking the receiver.
//! Invariant: the child ends with its parent. Bound: one child at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use headend_loadgen::datagrams::READS_MAX;
use headend_loadgen::net::poll::{Poll, Token};
use headend_loadgen::net::sockets::{client_address, connect, port_pair};
use headend_loadgen::net::udp::{self, BATCH, Receiver};
use headend_loadgen::publish::stamp;
use headend_loadgen::run::GATHER;
use headend_loadgen::stats::{Summary, Timing};
use headend_loadgen::time::{Clock, Mono};
use headend_loadgen::wire::{self, Item};
use serde_json::{Value, json};
use socket2::Socket;

use crate::Failure;

/// The child, as its parent sees it.
pub(crate) struct Drain {
    child: Child,
    lines: BufReader<ChildStdout>,
    ports: Vec<u16>,
}

/// What came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) packets: u64,
    /// Datagrams that found no room in the receiver's buffer.
    pub(crate) drops: u64,
    /// From the stamp of a packet to its receipt, of those that have one.
    pub(crate) added: Summary,
}

impl Drain {
    /// Starts the child for UDP and waits until it listens.
    pub(crate) fn udp(tracks: usize, cpu: Option<usize>) -> Result<Self, Failure> {
        let mut drain = Self::start("--drain-udp", &tracks.to_string(), cpu)?;
        drain.ports = drain.numbers()?;
        if drain.ports.len() == tracks {
            Ok(drain)
        } else {
            Err("the receiver has no ports".into())
        }
    }

    /// Starts the child for TCP: it connects as so many clients.
    pub(crate) fn tcp(port: u16, clients: u32, cpu: Option<usize>) -> Result<Self, Failure> {
        Self::start("--drain-tcp", &format!("{port}x{clients}"), cpu)
    }

    /// All its connections stand.
    pub(crate) fn wait_until_connected(&mut self) -> Result<(), Failure> {
        let connected: Vec<u32> = self.numbers()?;
        if connected.is_empty() { Err("the receiver has not connected".into()) } else { Ok(()) }
    }

    fn start(what: &str, value: &str, cpu: Option<usize>) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(what).arg(value);
        if let Some(cpu) = cpu {
            command.arg("--drain-cpu").arg(cpu.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("the receiver has no output")?;
        Ok(Self { child, lines: BufReader::new(stdout), ports: Vec::new() })
    }

    /// A port for each track, on UDP.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Ends the child; what it has received.
    pub(crate) fn finish(mut self) -> Result<Received, Failure> {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        self.child.wait()?;
        let found: Value = serde_json::from_str(&line)?;
        let n = |name: &str| found.get(name).and_then(Value::as_u64);
        let f = |name: &str| found.pointer(&format!("/added/{name}")).and_then(Value::as_f64);
        let received = || {
            let added = Summary {
                count: found.pointer("/added/count")?.as_u64()?,
                p50_ms: f("p50_ms")?,
                p90_ms: f("p90_ms")?,
                p99_ms: f("p99_ms")?,
                p999_ms: f("p999_ms")?,
                max_ms: f("max_ms")?,
            };
            Some(Received { packets: n("packets")?, drops: n("drops")?, added })
        };
        received().ok_or_else(|| "the receiver has not said what came".into())
    }

    fn numbers<T: std::str::FromStr>(&mut self) -> io::Result<Vec<T>> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Ok(line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect())
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        // After a failure: its input ends, so it does, and is not left behind as a zombie.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The child itself on UDP: receives until its input ends.
pub(crate) fn receive_udp(tracks: usize) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let (mut sockets, mut ports) = (Vec::new(), Vec::new());
    for track in 0..tracks {
        let (pair, (port, _)) = port_pair(None, true, RECEIVE_BYTES)?;
        poll.add(&pair.0, Token::Udp(track), false)?;
        sockets.push(pair);
        ports.push(port.to_string());
    }
    poll.add(io::stdin(), Token::Tcp(0), false)?;
    writeln!(io::stdout(), "{}", ports.join(" "))?;
    let mut receiver = Receiver::default();
    let (mut seen, mut ready) = (Seen::default(), Vec::new());
    let mut is_over = false;
    while !is_over {
        std::thread::sleep(GATHER);
        ready.clear();
        poll.wait(WAIT, &mut ready)?;
        for event in &ready {
            match event.token {
                Token::Tcp(_) => is_over = true,
                Token::Udp(track) => {
                    for _ in 0..READS_MAX {
                        let Some((socket, _)) = sockets.get(track) else { break };
                        if read(&mut receiver, socket, &mut seen)? < BATCH {
                            break;
                        }
                    }
                }
            }
        }
    }
    for (socket, _) in &sockets {
        while read(&mut receiver, socket, &mut seen)? > 0 {}
    }
    let drops: u64 = sockets.iter().map(|(socket, _)| udp::drops(socket)).sum();
    seen.say(drops)
}

/// The child itself on TCP: `what` is the port, an x, and the clients.
pub(crate) fn receive_tcp(what: &str) -> Result<(), Failure> {
    let (port, clients) = what.split_once('x').ok_or("PORTxCLIENTS")?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    let mut poll = Poll::new()?;
    let mut clients: Vec<Client> = (0..clients.parse()?)
        .map(|index| {
            let address = client_address(index).ok_or("too many clients")?;
            let socket = connect(server, Some(address), None)?;
            poll.add(&socket, Token::Tcp(index), false)?;
            Ok(Client { socket, unread: Vec::new() })
        })
        .collect::<Result<_, Failure>>()?;
    poll.add(io::stdin(), Token::Udp(0), false)?;
    writeln!(io::stdout(), "{}", clients.len())?;
    let (mut seen, mut ready) = (Seen::default(), Vec::new());
    let mut buffer = vec![0; READ_BYTES];
    let mut is_over = false;
    loop {
        ready.clear();
        poll.wait(if is_over { Duration::ZERO } else { WAIT }, &mut ready)?;
        let mut is_quiet = true;
        for event in &ready {
            match event.token {
                Token::Udp(_) => is_over = true,
                Token::Tcp(index) => {
                    is_quiet = false;
                    let Some(client) = clients.get_mut(index) else { continue };
                    client.read(&mut buffer, &mut seen)?;
                }
            }
        }
        // The sender has ended all sends before, so quiet means that nothing is left.
        if is_over && is_quiet {
            break;
        }
    }
    seen.say(0)
}

struct Client {
    socket: Socket,
    /// The beginning of a packet.
    unread: Vec<u8>,
}

/// What the child has seen.
#[derive(Debug, Default)]
struct Seen {
    packets: u64,
    added: Timing,
}

impl Seen {
    fn count(&mut self, packet: &[u8], arrival: Mono) {
        self.packets += 1;
        if let Some(sent) = stamp::sent_at(packet) {
            self.added.record(arrival.since(sent));
        }
    }

    /// Tells the parent.
    fn say(&self, drops: u64) -> Result<(), Failure> {
        let (packets, added) = (self.packets, self.added.summary());
        let line = json!({ "packets": packets, "drops": drops, "added": added });
        Ok(writeln!(io::stdout(), "{line}")?)
    }
}

impl Client {
    /// One read, as headend-loadgen does.
    fn read(&mut self, buffer: &mut [u8], seen: &mut Seen) -> Result<(), Failure> {
        let length = match (&self.socket).read(buffer) {
            Ok(0) => return Err("the sender has closed a connection".into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let bytes = &buffer[..length];
        if self.unread.is_empty() {
            let taken = cut(bytes, seen)?;
            self.unread.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        self.unread.extend_from_slice(bytes);
        let taken = cut(&self.unread, seen)?;
        self.unread.drain(..taken);
        Ok(())
    }
}

/// Looks at whole packets in `bytes`; the bytes that they take.
fn cut(bytes: &[u8], seen: &mut Seen) -> Result<usize, Failure> {
    let (now, mut taken) = (Clock.now(), 0);
    while let Some((item, item_bytes)) = wire::next_item(&bytes[taken..])? {
        match item {
            Item::Interleaved { payload, .. } => seen.count(payload, now),
            Item::Message(_) => return Err("something that is not a packet came".into()),
        }
        taken += item_bytes;
    }
    Ok(taken)
}

fn read(receiver: &mut Receiver, socket: &Socket, seen: &mut Seen) -> io::Result<usize> {
    let (now, wall_minus_mono_ns) = (Clock.now(), Clock.wall_minus_mono_ns());
    receiver.receive(socket, |datagram| {
        // As headend-loadgen times it.
        let stamp = datagram.arrival_wall_ns.and_then(|wall| wall.checked_sub(wall_minus_mono_ns));
        let arrival = stamp.map_or(now, Mono::from_ns).min(now);
        for packet in datagram.payload.chunks(datagram.segment_bytes) {
            seen.count(packet, arrival);
        }
    })
}

/// As headend-loadgen gives to shared ports.
const RECEIVE_BYTES: usize = 64 << 20;
/// As headend-loadgen reads at once.
const READ_BYTES: usize = 256 * 1024;
/// As long as headend-loadgen waits at most.
const WAIT: Duration = Duration::from_millis(50);
