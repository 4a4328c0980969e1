//! Messages with descriptors on a Unix socket, each with a deadline.
//!
//! ```text
//!  send: head, JSON, descriptors in pieces          receive: the same, or an end, or an error
//!            `-- a long one in a file in memory, which is the first descriptor
//! ```
//! A message without descriptors that is shorter than a page is one write: the kernel takes it
//! whole or not at all. What was read of a message when its deadline came is kept: the next call
//! goes on with it, so no message is lost by a deadline. Invariant: a deadline holds for the whole
//! message, however slowly the other end takes it or tells it. Bounds: [`Incoming`].

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::takeover::frame::{DESCRIPTORS_A_PIECE, HEAD_BYTES, Head};
use crate::takeover::{DESCRIPTORS_MAX, MESSAGE_BYTES_MAX, ToNew, ToOld};

/// One end of the connection between two processes.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    partial: Partial,
    /// The other end cannot tell messages from one another any more.
    is_cut: bool,
    /// What comes cannot be told into messages any more.
    is_unreadable: bool,
}

/// What was read of a message.
#[derive(Debug, Default)]
struct Partial {
    head: Vec<u8>,
    body: Vec<u8>,
    files: Vec<OwnedFd>,
}

/// A message that is received, with what may come at most.
pub(super) trait Incoming: DeserializeOwned {
    const BYTES_MAX: u32;
    const DESCRIPTORS_MAX: u32;
    /// It may stand in a file.
    const MAY_BE_APART: bool;
}

/// A process that takes over has little to say: whoever connects costs the old one no more.
impl Incoming for ToOld {
    const BYTES_MAX: u32 = 64 << 10;
    /// The process itself.
    const DESCRIPTORS_MAX: u32 = 1;
    const MAY_BE_APART: bool = false;
}

impl Incoming for ToNew {
    const BYTES_MAX: u32 = MESSAGE_BYTES_MAX;
    const DESCRIPTORS_MAX: u32 = DESCRIPTORS_MAX;
    const MAY_BE_APART: bool = true;
}

/// Why a message did not come or go.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The other process has closed the connection, or has ended.
    #[error("the other program has ended")]
    Ended,
    /// Nothing came in time.
    #[error("the other program did not answer in time")]
    Late,
    /// What came is no message.
    #[error("the other program sent something that cannot be read: {0}")]
    Unreadable(String),
    /// Descriptors were lost.
    #[error(
        "this process may not have as many descriptors as it is to take over: raise its limit \
         (LimitNOFILE= of the unit, ulimit -n)"
    )]
    NoDescriptors,
    /// The system refuses something.
    #[error("{0}")]
    Io(io::Error),
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, partial: Partial::default(), is_cut: false, is_unreadable: false }
    }

    /// Sends a message with descriptors, all of it before `until`.
    pub(super) fn send(
        &mut self,
        message: &impl Serialize,
        files: &[BorrowedFd<'_>],
        until: Instant,
    ) -> Result<(), WireError> {
        if self.is_cut {
            return Err(WireError::Late);
        }
        let body = serde_json::to_vec(message)
            .map_err(|error| WireError::Unreadable(error.to_string()))?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let apart = (body.len() > APART_BYTES).then(|| in_file(&body)).transpose()?;
        let is_apart = apart.is_some();
        let head = Head { bytes: number(body.len()), descriptors: number(files.len()), is_apart };
        let body = if is_apart { &[][..] } else { &body };
        let whole = [&head.to_bytes()[..], body].concat();
        let mut rest = &whole[..];
        while !rest.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = self.write(until, |stream| rustix::net::send(stream, rest, flags))?;
            rest = rest.get(sent..).unwrap_or_default();
            self.is_cut = true;
        }
        let apart = apart.iter().map(File::as_fd);
        let files: Vec<BorrowedFd<'_>> = apart.chain(files.iter().copied()).collect();
        for piece in files.chunks(DESCRIPTORS_A_PIECE) {
            self.send_piece(piece, until)?;
        }
        self.is_cut = false;
        Ok(())
    }

    fn send_piece(&self, files: &[BorrowedFd<'_>], until: Instant) -> Result<(), WireError> {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        // It fits: see `SPACE`.
        let _fits = ancillary.push(SendAncillaryMessage::ScmRights(files));
        let byte = [IoSlice::new(b"F")];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        self.write(until, |stream| sendmsg(stream, &byte, &mut ancillary, flags)).map(drop)
    }

    /// Makes a call that writes some bytes without waiting, when the other end has room for them.
    /// The kernel's own limit of time counts for each 32 KiB of a call anew.
    fn write<T>(
        &self,
        until: Instant,
        mut call: impl FnMut(&UnixStream) -> rustix::io::Result<T>,
    ) -> Result<T, WireError> {
        loop {
            let time = left(until)?;
            match call(&self.stream) {
                Err(rustix::io::Errno::INTR) => {}
                // As many descriptors of this user are on their way as a process may have open,
                // until somebody receives some.
                Err(rustix::io::Errno::TOOMANYREFS) => std::thread::sleep(REFS_PAUSE.min(time)),
                Err(rustix::io::Errno::AGAIN) => {
                    let mut polled = [PollFd::new(&self.stream, PollFlags::OUT)];
                    let time = Timespec::try_from(time).unwrap_or_default();
                    // What it says the next call finds out.
                    let _interrupted = rustix::event::poll(&mut polled, Some(&time));
                }
                done => return done.map_err(|error| of(error.into())),
            }
        }
    }

    /// The next message with its descriptors. One that is late is gone on with by the next call.
    pub(super) fn receive<T: Incoming>(
        &mut self,
        until: Instant,
    ) -> Result<(T, Vec<OwnedFd>), WireError> {
        if self.is_unreadable {
            return Err(unreadable("what it said before was no message"));
        }
        let result = self.receive_whole(until);
        self.is_unreadable =
            matches!(result, Err(WireError::Unreadable(_) | WireError::NoDescriptors));
        result
    }

    fn receive_whole<T: Incoming>(
        &mut self,
        until: Instant,
    ) -> Result<(T, Vec<OwnedFd>), WireError> {
        let Partial { head, body, files } = &mut self.partial;
        fill(&self.stream, head, HEAD_BYTES, until)?;
        let whole: [u8; HEAD_BYTES] = head[..].try_into().unwrap_or_default();
        let Head { bytes, descriptors, is_apart } = Head::from_bytes(whole)
            .filter(|head| head.bytes <= T::BYTES_MAX && head.descriptors <= T::DESCRIPTORS_MAX)
            .filter(|head| !head.is_apart || T::MAY_BE_APART)
            .ok_or_else(|| unreadable("it is no message of a takeover"))?;
        let count = descriptors as usize + usize::from(is_apart);
        if !is_apart {
            fill(&self.stream, body, bytes as usize, until)?;
        }
        while files.len() < count {
            receive_piece(&self.stream, files, until)?;
        }
        if files.len() > count {
            return Err(unreadable("there are too many descriptors"));
        }
        let Partial { mut body, mut files, .. } = std::mem::take(&mut self.partial);
        for file in files.drain(..usize::from(is_apart)) {
            body.resize(bytes as usize, 0);
            File::from(file).read_exact_at(&mut body, 0).map_err(|error| unreadable(&error))?;
        }
        let message = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
        Ok((message, files))
    }

    /// Whether the other end is closed. What it has said before is still received.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed_within(Duration::ZERO)
    }

    /// Waits until the other end is closed, this long at most.
    pub(super) fn is_closed_within(&self, time: Duration) -> bool {
        let mut polled = [PollFd::new(&self.stream, PollFlags::empty())];
        let time = Timespec::try_from(time).unwrap_or_default();
        // A signal that interrupts it has nothing of it known: who asks does so again.
        let _interrupted = rustix::event::poll(&mut polled, Some(&time));
        polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Who the other end is.
    pub(super) fn peer(&self) -> io::Result<Peer> {
        let found = getsockopt(&self.stream, PeerCredentials)?;
        Ok(Peer { user: found.uid(), pid: found.pid() })
    }
}

/// A process, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) user: u32,
    /// 0: it has no number here, as one in another container.
    pub(super) pid: i32,
}

/// A file in memory with these bytes.
fn in_file(bytes: &[u8]) -> Result<File, WireError> {
    let made = memfd_create("headend-takeover", MemfdFlags::CLOEXEC);
    let mut file = File::from(made.map_err(|error| WireError::Io(error.into()))?);
    file.write_all(bytes).map_err(WireError::Io)?;
    Ok(file)
}

/// Reads until there are `count` bytes. What was read before an error stays.
fn fill(
    stream: &UnixStream,
    bytes: &mut Vec<u8>,
    count: usize,
    until: Instant,
) -> Result<(), WireError> {
    while bytes.len() < count {
        let have = bytes.len();
        // No more memory than has come, or nearly so, whatever the head says.
        bytes.resize(count.min(have + READ_BYTES_MAX), 0);
        let read = read(stream, until, |stream| {
            let rest = bytes.get_mut(have..).unwrap_or_default();
            rustix::net::recv(stream, rest, RecvFlags::empty()).map(|(read, _)| read)
        });
        bytes.truncate(have + *read.as_ref().unwrap_or(&0));
        if read? == 0 {
            return Err(WireError::Ended);
        }
    }
    Ok(())
}

fn receive_piece(
    stream: &UnixStream,
    files: &mut Vec<OwnedFd>,
    until: Instant,
) -> Result<(), WireError> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = read(stream, until, |stream| {
        let mut byte = [IoSliceMut::new(&mut byte)];
        recvmsg(stream, &mut byte, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Err(WireError::Ended);
    }
    let before = files.len();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(WireError::NoDescriptors);
    }
    if files.len() == before { Err(unreadable("a descriptor is missing")) } else { Ok(()) }
}

fn read<T>(
    stream: &UnixStream,
    until: Instant,
    mut call: impl FnMut(&UnixStream) -> rustix::io::Result<T>,
) -> Result<T, WireError> {
    loop {
        stream.set_read_timeout(Some(left(until)?)).map_err(WireError::Io)?;
        match call(stream) {
            Err(rustix::io::Errno::INTR) => {}
            done => return done.map_err(|error| of(error.into())),
        }
    }
}

fn left(until: Instant) -> Result<Duration, WireError> {
    let left = until.saturating_duration_since(Instant::now());
    // The kernel counts microseconds, and takes none for no limit.
    if left < Duration::from_micros(1) { Err(WireError::Late) } else { Ok(left) }
}

fn unreadable(why: &(impl ToString + ?Sized)) -> WireError {
    WireError::Unreadable(why.to_string())
}

fn of(error: io::Error) -> WireError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => WireError::Late,
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => WireError::Ended,
        _ => WireError::Io(error),
    }
}

/// A message that is longer stands in a file.
const APART_BYTES: usize = 64 << 10;
/// Bytes that are read at once.
const READ_BYTES_MAX: usize = 1 << 20;
/// Between two attempts to send descriptors.
const REFS_PAUSE: Duration = Duration::from_millis(1);
/// Room for the descriptors of a piece.
const SPACE: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_A_PIECE));

#[cfg(test)]
mod tests;
