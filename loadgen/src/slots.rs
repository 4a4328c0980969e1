//! The sockets of one session beside the session itself.
//!
//! ```text
//! Slot = Session (sans-IO) + TCP socket + own UDP sockets, if ports are not shared
//! ```
//! Invariant: a slot that is over holds no descriptor.
//! Bound: [`WRITE_BYTES_MAX`] bytes wait for a server that does not read.

use crate::failure::Failure;
use crate::net::poll::{Interest, Poll, Ready, Token};
use crate::net::tls::Tls;
use crate::session::Session;
use crate::stats::Stats;
use crate::time::Mono;
use socket2::Socket;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long connecting may take.
pub const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Bytes that may wait for a server that does not read: far more than any request or report.
pub const WRITE_BYTES_MAX: usize = 256 * 1024;

/// A session and its sockets.
#[derive(Debug)]
pub struct Slot {
    /// Position among all sessions.
    pub index: usize,
    /// The session itself.
    pub session: Session,
    /// Server the connection goes to.
    pub server: SocketAddr,
    /// Loopback address that stands for this client, where ports are shared.
    pub address: Option<Ipv4Addr>,
    /// Own UDP sockets, by their place in the table of sockets.
    pub sockets: Vec<usize>,
    tcp: Socket,
    /// Around the connection, where the URL wants it.
    tls: Option<Box<Tls>>,
    connecting_since: Option<Mono>,
    watched: Interest,
}

impl Slot {
    /// A slot whose `tcp` has begun to connect and is watched for writing.
    #[must_use]
    pub fn new(
        index: usize,
        session: Session,
        (tcp, tls): (Socket, Option<Box<Tls>>),
        server: SocketAddr,
        address: Option<Ipv4Addr>,
        now: Mono,
    ) -> Self {
        Self {
            index,
            session,
            server,
            address,
            sockets: Vec::new(),
            tcp,
            tls,
            connecting_since: Some(now),
            watched: Interest { readable: true, writable: true },
        }
    }

    /// Something is ready at the connection.
    pub fn handle_ready(
        &mut self,
        ready: &Ready,
        buffer: &mut [u8],
        now: Mono,
        stats: &mut Stats,
    ) -> Result<(), Failure> {
        if self.connecting_since.is_some() {
            let error = self.tcp.take_error().unwrap_or_else(Some);
            if let Some(error) = error {
                return Err(Failure::Connect(error.kind()));
            }
            self.connecting_since = None;
            self.session.handle_connected(now, stats);
        }
        if !self.session.is_reading() {
            // What waits stays where it is; only the end of the connection is noticed.
            return if ready.closed { Err(Failure::Closed) } else { Ok(()) };
        }
        if !ready.readable {
            return Ok(());
        }
        if let Some(tls) = &mut self.tls {
            let session = &mut self.session;
            let read = tls.read(&self.tcp, buffer, |bytes| session.handle_tcp(bytes, now, stats));
            return match read {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::Closed),
                Err(error) if is_transient(error.kind()) => Ok(()),
                Err(error) => Err(Failure::Connection(error.kind())),
            };
        }
        match (&self.tcp).read(buffer) {
            Ok(0) => Err(Failure::Closed),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                self.session.handle_tcp(bytes, now, stats);
                Ok(())
            }
            Err(error) if is_transient(error.kind()) => Ok(()),
            Err(error) => Err(Failure::Connection(error.kind())),
        }
    }

    /// Gives up connecting when it takes too long.
    pub fn handle_time(&mut self, now: Mono, stats: &mut Stats) {
        let is_overdue = |since| now.since(since) >= CONNECT_WAIT;
        if self.connecting_since.is_some_and(is_overdue) {
            self.session.fail(Failure::Connect(ErrorKind::TimedOut), now, stats);
        }
        self.session.handle_time(now, stats);
    }

    /// Writes what the session has to say, and watches for room when there is none.
    pub fn flush(&mut self, poll: &Poll) -> Result<(), Failure> {
        if self.connecting_since.is_some() {
            return Ok(());
        }
        let out = self.session.out();
        let mut is_waiting = false;
        if let Some(tls) = &mut self.tls {
            let written = tls.write(&self.tcp, out);
            is_waiting = written.map_err(|error| Failure::Connection(error.kind()))?;
        }
        while self.tls.is_none() && !out.is_empty() {
            match (&self.tcp).write(out) {
                Ok(written) => drop(out.drain(..written)),
                Err(error) if is_transient(error.kind()) => break,
                Err(error) => return Err(Failure::Connection(error.kind())),
            }
        }
        if out.len() > WRITE_BYTES_MAX {
            return Err(Failure::Connection(ErrorKind::TimedOut));
        }
        // What waits for keys is written when those have come.
        let writable = is_waiting || self.tls.is_none() && !out.is_empty();
        let wanted = Interest { readable: self.session.is_reading(), writable };
        if wanted != self.watched {
            self.watched = wanted;
            let result = poll.watch(&self.tcp, Token::Tcp(self.index), wanted);
            result.map_err(|error| Failure::Connection(error.kind()))?;
        }
        Ok(())
    }
}

fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
