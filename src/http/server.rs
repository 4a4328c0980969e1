//! The admin listener: how many may be connected, and for how long they may be silent.
//!
//! Invariant: a connection holds a slot until its socket is closed. When all are taken, the next
//! client waits in the kernel's backlog; it is not refused. A connection on which no byte moved for
//! `IDLE_MAX` is closed, so that slots come back.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};

/// Answers requests until `shutdown`, then lets those in progress finish for a second.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    router: Router,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = Limited {
        listener: TcpListener::from_std(listener)?,
        slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    let serving = axum::serve(listener, router)
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
            // Small answers in one piece: waiting for more to send only delays them.
            if stream.set_nodelay(true).is_ok() {
                let idle = Box::pin(sleep(IDLE_MAX));
                return (Connection { stream, idle, _slot: slot }, addr);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
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
        self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
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

/// Clients at once: a few scrapers, dashboards and scripts.
const CONNECTIONS_MAX: usize = 64;

/// Longer than any usual scrape interval, so that a scraper keeps its connection.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// For requests in progress when the appliance stops.
const DRAIN_MAX: Duration = Duration::from_secs(1);
