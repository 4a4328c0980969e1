//! The receiving side, in a process of its own: what it costs is not the sender's.
//!
//! ```text
//! parent --spawn--> child: ports on stdout .. receive, gather 1 ms, receive ..
//!        --stdin closed-->  reads the rest, prints counts, ends
//! ```
//! It receives like `headend-loadgen --shared-ports`, by the same code: one wildcard socket for
//! each track with GRO, packet info and time stamps, and the same pause between reads, because on
//! loopback the sender pays for waking the receiver.
//! Invariant: the child ends with its parent. Bound: one child at a time.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use headend_loadgen::datagrams::READS_MAX;
use headend_loadgen::net::poll::{Poll, Token};
use headend_loadgen::net::sockets::port_pair;
use headend_loadgen::net::udp::{self, BATCH, Receiver};
use headend_loadgen::run::GATHER;

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
}

impl Drain {
    /// Starts the child and waits until it listens.
    pub(crate) fn start(tracks: usize, cpu: Option<usize>) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--drain").arg(tracks.to_string());
        if let Some(cpu) = cpu {
            command.arg("--drain-cpu").arg(cpu.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("the receiver has no output")?;
        let mut drain = Self { child, lines: BufReader::new(stdout), ports: Vec::new() };
        drain.ports = drain.numbers()?;
        if drain.ports.len() == tracks {
            Ok(drain)
        } else {
            Err("the receiver has no ports".into())
        }
    }

    /// A port for each track.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Ends the child; what it has received.
    pub(crate) fn finish(mut self) -> Result<Received, Failure> {
        drop(self.child.stdin.take());
        let found: Vec<u64> = self.numbers()?;
        self.child.wait()?;
        match found[..] {
            [packets, drops] => Ok(Received { packets, drops }),
            _ => Err("the receiver has not said what came".into()),
        }
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

/// The child itself: receives until its input ends.
pub(crate) fn receive(tracks: usize) -> Result<(), Failure> {
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
    let (mut packets, mut ready) = (0, Vec::new());
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
                        if read(&mut receiver, socket, &mut packets)? < BATCH {
                            break;
                        }
                    }
                }
            }
        }
    }
    for (socket, _) in &sockets {
        while read(&mut receiver, socket, &mut packets)? > 0 {}
    }
    let drops: u64 = sockets.iter().map(|(socket, _)| udp::drops(socket)).sum();
    Ok(writeln!(io::stdout(), "{packets} {drops}")?)
}

fn read(receiver: &mut Receiver, socket: &socket2::Socket, packets: &mut u64) -> io::Result<usize> {
    receiver.receive(socket, |datagram| {
        *packets += datagram.payload.len().div_ceil(datagram.segment_bytes) as u64;
    })
}

/// As headend-loadgen gives to shared ports.
const RECEIVE_BYTES: usize = 64 << 20;
/// As long as headend-loadgen waits at most.
const WAIT: Duration = Duration::from_millis(50);
