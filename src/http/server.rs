//! A listener: how many may be connected, and for how long they may be silent.
//!
//! Invariant: a connection holds a slot until its socket is closed. When all are taken, the next
//! client waits in the kernel's backlog; it is not refused. A connection on which no byte moved for
//! `idle_max` is closed, so that slots come back.
//! Bounds: [`ADMIN`] for operators, [`DISTRIBUTION`] for a base and for sources of contents.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};

/// What a listener takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once.
    connections_max: usize,
    /// Without a byte in either direction.
    idle_max: Duration,
    /// How long a peer that does not answer is kept, where that is shorter: the kernel probes it.
    dead_after: Option<Duration>,
}

/// Answers requests until `shutdown`, then lets those in progress finish for a second. Handlers may
/// ask for `ConnectInfo<SocketAddr>`.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    router: Router,
    limits: Limits,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = Limited {
        listener: TcpListener::from_std(listener)?,
        slots: Arc::new(Semaphore::new(limits.connections_max)),
        idle_max: limits.idle_max,
        dead_after: limits.dead_after,
    };
    // Of listeners that are not its own, axum knows the client's address only behind a tap.
    let listener = listener.tap_io(|_connection| {});
    let serving = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(stopped(shutdown.clone()))
        .into_future();
    let deadline = async {
        stopped(shutdown).await;
        sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        served = serving => served,
        () = deadline => Ok(()),
    }
}

/// A sender that is gone asks to stop as well: there is nobody left to do it later.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

struct Limited {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    idle_max: Duration,
    dead_after: Option<Duration>,
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let slot = match self.slots.clone().acquire_owned().await {
                Ok(slot) => slot,
                // The semaphore is never closed; without one, nothing can be accepted.
                Err(_closed) => std::future::pending().await,
            };
            let (stream, addr) = Listener::accept(&mut self.listener).await;
            let is_probed = self.dead_after.is_none_or(|dead| probe(&stream, dead).is_ok());
            // Small answers in one piece: waiting for more to send only delays them.
            if is_probed && stream.set_nodelay(true).is_ok() {
                let idle_max = self.idle_max;
                let idle = Box::pin(sleep(idle_max));
                return (Connection { stream, idle, idle_max, _slot: slot }, addr);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Has the kernel end the connection when its peer does not answer for `dead_after`.
fn probe(stream: &TcpStream, dead_after: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let every = dead_after / 4;
    let probes = TcpKeepalive::new().with_time(every).with_interval(every).with_retries(2);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(dead_after))
}

struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// `Pending` for too long becomes an error; anything else starts the wait anew.
    fn watch_idle<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            return match self.idle.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            };
        }
        let end = Instant::now() + self.idle_max;
        self.idle.as_mut().reset(end);
        polled
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch_idle(polled, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch_idle(polled, cx)
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
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch_idle(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A few scrapers, dashboards and scripts; longer than any usual scrape interval, so that a scraper
/// keeps its connection.
pub(super) const ADMIN: Limits =
    Limits { connections_max: 64, idle_max: Duration::from_secs(90), dead_after: None };

/// Thousands of nodes, each with a few connections. A node waits for the bytes of a client that is
/// slow for as long as that takes; after an hour it asks for them again.
pub(super) const DISTRIBUTION: Limits = Limits {
    connections_max: 16_384,
    idle_max: Duration::from_secs(3_600),
    dead_after: Some(Duration::from_secs(10)),
};

/// For requests in progress when the appliance stops.
const DRAIN_MAX: Duration = Duration::from_secs(1);
