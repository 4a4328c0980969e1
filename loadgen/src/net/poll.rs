//! Which descriptors are ready.
//!
//! Level-triggered epoll: what is left unread after one read is reported again, so one busy socket
//! cannot starve the others and nothing needs a list of unfinished work.
//! Bound: [`EVENTS_MAX`] events per wait; the rest come with the next.

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::time::Timespec;
use std::fmt;
use std::io;
use std::time::Duration;

/// Events taken from the kernel at once.
pub const EVENTS_MAX: usize = 1_024;
const UDP_BIT: u64 = 1 << 63;

/// What a descriptor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// RTSP connection of this session.
    Tcp(usize),
    /// Entry of the table of UDP sockets.
    Udp(usize),
}

/// A ready descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// Whose.
    pub token: Token,
    /// Bytes, an end or an error wait to be read.
    pub readable: bool,
    /// There is room to write, or connecting has come to an end.
    pub writable: bool,
    /// The other side is gone for good.
    pub closed: bool,
}

/// What is waited for at a descriptor; that the other side is gone is told in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Bytes.
    pub readable: bool,
    /// Room to write.
    pub writable: bool,
}

/// An epoll instance.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Poll {
    /// A new one, watching nothing.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Watches `source` until it is closed.
    pub fn add(&self, source: impl AsFd, token: Token, writable: bool) -> io::Result<()> {
        let flags = Interest { readable: true, writable }.flags();
        Ok(epoll::add(&self.epoll, source, token.to_data(), flags)?)
    }

    /// Changes what is waited for.
    pub fn watch(&self, source: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, token.to_data(), interest.flags())?)
    }

    /// Waits at most `wait`, rounded up to milliseconds, and appends what is ready.
    pub fn wait(&mut self, wait: Duration, out: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            // A signal that was handled is not an error: the caller looks at its flags.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let (flags, data) = (event.flags, event.data);
            let closing = EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP;
            out.push(Ready {
                token: Token::from_data(data),
                readable: flags.intersects(EventFlags::IN | closing),
                writable: flags.intersects(EventFlags::OUT | closing),
                closed: flags.intersects(EventFlags::HUP | EventFlags::ERR),
            });
        }
        Ok(())
    }
}

impl Token {
    fn to_data(self) -> EventData {
        let (index, bit) = match self {
            Self::Tcp(index) => (index, 0),
            Self::Udp(index) => (index, UDP_BIT),
        };
        EventData::new_u64(u64::try_from(index).unwrap_or(0) | bit)
    }

    fn from_data(data: EventData) -> Self {
        let value = data.u64();
        let index = usize::try_from(value & !UDP_BIT).unwrap_or(usize::MAX);
        if value & UDP_BIT == 0 { Self::Tcp(index) } else { Self::Udp(index) }
    }
}

impl Interest {
    fn flags(self) -> EventFlags {
        let of = |flag, is_on| if is_on { flag } else { EventFlags::empty() };
        of(EventFlags::IN, self.readable) | of(EventFlags::OUT, self.writable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_the_kernel() {
        for token in [Token::Tcp(0), Token::Tcp(77), Token::Udp(0), Token::Udp(123_456)] {
            assert_eq!(Token::from_data(token.to_data()), token);
        }
    }
}
