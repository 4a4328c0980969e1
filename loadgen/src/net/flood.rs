//! Neighbours who misbehave: connections that pipeline OPTIONS as fast as they are taken.
//!
//! ```text
//! each connection:  writable -> requests, as many as the kernel takes
//!                   readable -> answers, counted and forgotten
//! ```
//! A thread of its own, so that the players' packets are read all the same; they are what is
//! measured. Towards loopback each connection has an address of its own, behind those of players.
//! Invariant: the thread ends when it is told so. Bound: a connection that the server closes is
//! not made again.

use crate::cli::SESSIONS_MAX;
use crate::net::poll::{Poll, Ready, Token};
use crate::net::sockets;
use crate::targets::Target;
use serde::Serialize;
use socket2::Socket;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Flooding connections at most.
pub const FLOOD_MAX: u32 = 20_000;
/// The thread looks around so often at least.
const WAIT_MAX: Duration = Duration::from_millis(20);
const REQUEST: &[u8] = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";
/// Requests handed to the kernel at once.
const REQUESTS_A_WRITE: usize = 128;
const READ_BYTES: usize = 64 * 1024;
/// What every answer ends with: they have no bodies.
const ANSWER_END: &[u8; 4] = b"\r\n\r\n";

/// Flooding connections at work.
#[derive(Debug)]
pub struct Flooding {
    thread: JoinHandle<io::Result<Flooded>>,
    stop: Arc<AtomicBool>,
}

/// What became of the flood.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Flooded {
    /// Connections begun.
    pub connections: u64,
    /// Requests that were answered.
    pub answers: u64,
    /// Connections that the server has closed or refused.
    pub closed: u64,
}

#[derive(Debug)]
struct Flooder {
    socket: Socket,
    /// Bytes of the block of requests that are written.
    written: usize,
    /// Bytes of an answer's end that have come.
    matched: usize,
}

impl Flooding {
    /// Begins.
    ///
    /// # Errors
    /// The system refuses a thread, a descriptor or an address.
    pub fn start(count: u32, target: &Target) -> io::Result<Self> {
        let flooders = (0..count).map(|number| connect(number, target).map(Some));
        let flooders = flooders.collect::<io::Result<Vec<_>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let named = std::thread::Builder::new().name("flood".to_owned());
        let thread = named.spawn(move || run(flooders, &stopped))?;
        Ok(Self { thread, stop })
    }

    /// Ends it; what came of it.
    ///
    /// # Errors
    /// Waiting has failed.
    pub fn finish(self) -> io::Result<Flooded> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()))
    }
}

fn connect(number: u32, target: &Target) -> io::Result<Flooder> {
    let place = usize::try_from(SESSIONS_MAX.saturating_add(number)).unwrap_or(usize::MAX);
    let source = target.is_shared.then(|| sockets::client_address(place)).flatten();
    let socket = sockets::connect(target.server, source, None)?;
    Ok(Flooder { socket, written: 0, matched: 0 })
}

fn run(mut flooders: Vec<Option<Flooder>>, stop: &AtomicBool) -> io::Result<Flooded> {
    let mut poll = Poll::new()?;
    for (index, flooder) in flooders.iter().enumerate() {
        if let Some(flooder) = flooder {
            poll.add(&flooder.socket, Token::Tcp(index), true)?;
        }
    }
    let requests = REQUEST.repeat(REQUESTS_A_WRITE);
    let mut buffer = vec![0; READ_BYTES];
    let mut flooded = Flooded {
        connections: flooders.len().try_into().unwrap_or(u64::MAX),
        ..Flooded::default()
    };
    let mut ready: Vec<Ready> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        ready.clear();
        poll.wait(WAIT_MAX, &mut ready)?;
        for event in &ready {
            let Token::Tcp(index) = event.token else { continue };
            let Some(place) = flooders.get_mut(index) else { continue };
            let Some(flooder) = place else { continue };
            let served = flooder.serve(event, &requests, &mut buffer, &mut flooded.answers);
            if served.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                flooded.closed += 1;
                *place = None;
            }
        }
    }
    Ok(flooded)
}

impl Flooder {
    fn serve(
        &mut self,
        event: &Ready,
        requests: &[u8],
        buffer: &mut [u8],
        answers: &mut u64,
    ) -> io::Result<()> {
        if event.readable {
            match self.socket.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => *answers += self.count_answers(buffer.get(..bytes).unwrap_or(&[])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if event.writable {
            let rest = requests.get(self.written..).unwrap_or(requests);
            self.written = (self.written + self.socket.write(rest)?) % requests.len();
        }
        Ok(())
    }

    fn count_answers(&mut self, bytes: &[u8]) -> u64 {
        let mut ends = 0;
        for byte in bytes {
            let expected = ANSWER_END.get(self.matched);
            self.matched = match (expected == Some(byte), *byte) {
                (true, _) => self.matched + 1,
                (false, b'\r') => 1,
                (false, _) => 0,
            };
            if self.matched == ANSWER_END.len() {
                self.matched = 0;
                ends += 1;
            }
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Type};

    #[test]
    fn answers_are_counted_however_they_are_cut() {
        let answer = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS\r\n\r\n".repeat(3);
        for cut in 0..answer.len() {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
            let mut flooder = Flooder { socket, written: 0, matched: 0 };
            let (first, second) = answer.split_at(cut);
            assert_eq!(flooder.count_answers(first) + flooder.count_answers(second), 3, "{cut}");
        }
    }
}
