//! Messages with descriptors on a Unix socket, each with a deadline.
//!
//! ```text
//!  send: head, JSON, descriptors in pieces          receive: the same, or an end, or an error
//! ```
//! A message without descriptors is one write: the kernel takes it whole or not at all.

use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::takeover::frame::{DESCRIPTORS_A_PIECE, HEAD_BYTES, Head};

/// One end of the connection between two processes.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
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
    /// The system refuses something.
    #[error("{0}")]
    Io(io::Error),
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Sends a message with descriptors.
    pub(super) fn send(
        &self,
        message: &impl Serialize,
        files: &[BorrowedFd<'_>],
        within: Duration,
    ) -> Result<(), WireError> {
        self.stream.set_write_timeout(Some(within)).map_err(WireError::Io)?;
        let body = serde_json::to_vec(message)
            .map_err(|error| WireError::Unreadable(error.to_string()))?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let head = Head { bytes: number(body.len()), descriptors: number(files.len()) };
        let whole = [&head.to_bytes()[..], &body].concat();
        let mut rest = &whole[..];
        while !rest.is_empty() {
            let flags = SendFlags::NOSIGNAL;
            let sent = retried(|| rustix::net::send(&self.stream, rest, flags))?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        for piece in files.chunks(DESCRIPTORS_A_PIECE) {
            self.send_piece(piece)?;
        }
        Ok(())
    }

    fn send_piece(&self, files: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        // It fits: see `SPACE`.
        let _fits = ancillary.push(SendAncillaryMessage::ScmRights(files));
        let flags = SendFlags::NOSIGNAL;
        retried(|| sendmsg(&self.stream, &[IoSlice::new(b"F")], &mut ancillary, flags))?;
        Ok(())
    }

    /// The next message with its descriptors.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        within: Duration,
    ) -> Result<(T, Vec<OwnedFd>), WireError> {
        let until = Instant::now() + within;
        let mut head = [0; HEAD_BYTES];
        self.read(&mut head, until)?;
        let head = Head::from_bytes(head)
            .ok_or_else(|| WireError::Unreadable("it is no message of a takeover".to_owned()))?;
        let mut body = vec![0; head.bytes as usize];
        self.read(&mut body, until)?;
        let mut files = Vec::with_capacity(head.descriptors as usize);
        while files.len() < head.descriptors as usize {
            let before = files.len();
            self.receive_piece(&mut files, until)?;
            if files.len() == before {
                return Err(WireError::Unreadable("a descriptor is missing".to_owned()));
            }
        }
        let message = serde_json::from_slice(&body)
            .map_err(|error| WireError::Unreadable(error.to_string()))?;
        Ok((message, files))
    }

    fn read(&mut self, bytes: &mut [u8], until: Instant) -> Result<(), WireError> {
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            self.stream.set_read_timeout(Some(left(until)?)).map_err(WireError::Io)?;
            match self.stream.read(rest) {
                Ok(0) => return Err(WireError::Ended),
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(of(error)),
            }
        }
        Ok(())
    }

    fn receive_piece(&self, files: &mut Vec<OwnedFd>, until: Instant) -> Result<(), WireError> {
        self.stream.set_read_timeout(Some(left(until)?)).map_err(WireError::Io)?;
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = retried(|| {
            recvmsg(&self.stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)
        })?;
        if received.bytes == 0 {
            return Err(WireError::Ended);
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
        Ok(())
    }

    /// From now on the other end can write nothing more. What it has written is still read.
    pub(super) fn close_for_reading(&self) {
        // It fails where the other end is gone, which is what is wanted.
        let _gone = self.stream.shutdown(Shutdown::Read);
    }

    /// The user of the other end.
    pub(super) fn peer(&self) -> io::Result<rustix::net::UCred> {
        Ok(rustix::net::sockopt::socket_peercred(self.stream.as_fd())?)
    }
}

fn left(until: Instant) -> Result<Duration, WireError> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(WireError::Late) } else { Ok(left) }
}

fn retried<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> Result<T, WireError> {
    loop {
        match call() {
            Ok(done) => return Ok(done),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(of(error.into())),
        }
    }
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

/// Room for the descriptors of a piece.
const SPACE: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_A_PIECE));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::takeover::ToOld;
    use std::fs::File;
    use std::io::Write as _;

    const SOON: Duration = Duration::from_secs(10);

    fn pair() -> (Wire, Wire) {
        let (a, b) = UnixStream::pair().unwrap();
        (Wire::new(a), Wire::new(b))
    }

    #[test]
    fn message_comes_with_as_many_descriptors_as_were_sent_in_their_order() {
        let (from, mut to) = pair();
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<File> = (0..450)
            .map(|number: u32| {
                let path = folder.path().join(number.to_string());
                std::fs::write(&path, number.to_string()).unwrap();
                File::open(path).unwrap()
            })
            .collect();
        let sender = std::thread::spawn(move || {
            let borrowed: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
            from.send(&ToOld::Freeze, &borrowed, SOON).unwrap();
            from.send(&ToOld::Taken, &[], SOON).unwrap();
            from
        });
        let (message, files): (ToOld, _) = to.receive(SOON).unwrap();
        assert_eq!((message, files.len()), (ToOld::Freeze, 450));
        for (number, file) in files.into_iter().enumerate() {
            let mut text = String::new();
            File::from(file).read_to_string(&mut text).unwrap();
            assert_eq!(text, number.to_string());
        }
        let (message, files): (ToOld, _) = to.receive(SOON).unwrap();
        assert_eq!((message, files.len()), (ToOld::Taken, 0));
        drop(sender.join().unwrap());
        assert!(matches!(to.receive::<ToOld>(SOON), Err(WireError::Ended)));
    }

    #[test]
    fn what_is_no_message_or_does_not_come_is_told() {
        let (mut from, mut to) = pair();
        assert!(matches!(to.receive::<ToOld>(Duration::from_millis(1)), Err(WireError::Late)));
        from.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(matches!(to.receive::<ToOld>(SOON), Err(WireError::Unreadable(_))));
    }

    #[test]
    fn end_that_was_closed_for_reading_takes_no_message_and_gives_those_that_came_before() {
        let (new, mut old) = pair();
        new.send(&ToOld::Freeze, &[], SOON).unwrap();
        old.close_for_reading();
        assert!(matches!(new.send(&ToOld::Taken, &[], SOON), Err(WireError::Ended)));
        assert_eq!(old.receive::<ToOld>(SOON).unwrap().0, ToOld::Freeze);
        assert!(matches!(old.receive::<ToOld>(SOON), Err(WireError::Ended)));
    }
}
