//! A time limit for the head of each request: whoever draws it out holds a connection for nothing.
//!
//! ```text
//!  accepted --> Head --blank line--> Rest (body, answer under way) --answer begins--> Idle
//!                ^                                                                      |
//!                '---------------------------- first byte of the next request ----------'
//! ```
//! Bodies have no limit here: uploads take hours, and what moves no byte for too long ends in
//! `server`. An interim answer (100) leaves the request where it is.
//! Invariant: a connection is ended in `Head` alone, with 408.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::metrics::cells::HttpCells;

/// Where a connection is in its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a request line and headers since then.
    Head {
        since: Instant,
        /// Something else than line ends has come.
        has_begun: bool,
        /// Line feeds at the end of what came.
        line_feeds: u8,
    },
    Rest,
    Idle,
}

impl At {
    fn head(since: Instant) -> Self {
        Self::Head { since, has_begun: false, line_feeds: 0 }
    }

    fn after_read(self, bytes: &[u8], now: Instant) -> Self {
        let mut at = if self == Self::Idle && !bytes.is_empty() { Self::head(now) } else { self };
        let Self::Head { has_begun, line_feeds, .. } = &mut at else { return at };
        for byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' if *has_begun => *line_feeds += 1,
                b'\n' => {}
                _ => (*has_begun, *line_feeds) = (true, 0),
            }
            if *line_feeds == 2 {
                return Self::Rest;
            }
        }
        at
    }

    fn after_write(self, bytes: &[u8]) -> Self {
        let is_interim = bytes.starts_with(b"HTTP/1.1 1");
        if bytes.is_empty() || is_interim { self } else { Self::Idle }
    }

    fn due(self, head_max: Duration) -> Option<Instant> {
        match self {
            Self::Head { since, .. } => Some(since + head_max),
            Self::Rest | Self::Idle => None,
        }
    }
}

/// A connection whose requests have a time limit.
#[derive(Debug)]
pub(super) struct Timed<S> {
    stream: S,
    at: At,
    head_max: Duration,
    timer: Pin<Box<Sleep>>,
    cells: Option<&'static HttpCells>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Timed<S> {
    /// A connection that has just been accepted.
    pub(super) fn new(stream: S, head_max: Duration, cells: Option<&'static HttpCells>) -> Self {
        let now = Instant::now();
        let timer = Box::pin(sleep_until(now + head_max));
        Self { stream, at: At::head(now), head_max, timer, cells }
    }

    /// Whether the request should have been there; has the task woken when it should be.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = self.at.due(self.head_max) else { return false };
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        Instant::now() >= due || self.timer.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let new = buf.filled().get(before..).unwrap_or_default();
        let is_end = matches!(polled, Poll::Ready(_)) && new.is_empty();
        self.at = self.at.after_read(new, Instant::now());
        if is_end || !self.is_late(cx) {
            return polled;
        }
        if let Some(cells) = self.cells {
            cells.requests_timed_out.add(1);
        }
        // It may not read either.
        let _unsaid = Pin::new(&mut self.stream).poll_write(cx, LATE);
        self.at = At::Idle;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.at = self.at.after_write(buf);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.at = self.at.after_write(first.map_or(&[], |first| first));
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[test]
    fn head_ends_with_its_blank_line_however_it_comes_and_an_answer_ends_the_request() {
        let now = Instant::now();
        let start = At::head(now);
        for whole in ["GET / HTTP/1.1\r\na: b\r\n\r\n", "\r\n\r\nGET /\n\n", "GET /\r\n\r\nbody"] {
            let mut at = start;
            for byte in whole.as_bytes() {
                at = at.after_read(&[*byte], now);
            }
            assert_eq!((at, start.after_read(whole.as_bytes(), now)), (At::Rest, At::Rest));
        }
        for part in ["\r\n\r\n\r\n", "GET / HTTP/1.1\r\n", "GET /\r\na: b\r\nc"] {
            assert!(start.after_read(part.as_bytes(), now).due(Duration::ZERO).is_some(), "{part}");
        }
        let at = At::Rest.after_write(b"HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(at.after_read(b"a body, slowly", now), At::Rest);
        assert_eq!(at.after_write(b"HTTP/1.1 200 OK\r\n"), At::Idle);
        assert_eq!(At::Idle.due(Duration::ZERO), None);
        assert!(At::Idle.after_read(b"G", now).due(Duration::ZERO).is_some());
    }

    #[tokio::test]
    async fn request_that_is_late_ends_with_408() {
        let (mut client, server) = duplex(4_096);
        let mut timed = Timed::new(server, Duration::ZERO, None);
        client.write_all(b"GET / HT").await.unwrap();
        let ended = timed.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(timed);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }

    #[tokio::test]
    async fn request_that_is_whole_has_no_limit_any_more() {
        let (mut client, server) = duplex(4_096);
        let mut timed = Timed::new(server, Duration::ZERO, None);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(timed.read(&mut [0; 64]).await.unwrap(), 18);
        client.write_all(b"body").await.unwrap();
        assert_eq!(timed.read(&mut [0; 64]).await.unwrap(), 4);
    }
}
