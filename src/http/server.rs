//! A listener: how many may be connected, for how long they may be silent, and who they are.
//!
//! ```text
//! accept -> slot -> (TLS: handshake, beside others) -> HTTP with a Remote: address, certificate
//!            `-- none for its address, or for other machines: 503
//! ```
//! Invariant: a connection holds a slot until its socket is closed. When all are taken, the next
//! client waits in the kernel's backlog. Other machines never have all of them, nor does one
//! address: programs of this host always get in. A connection on which no byte moved for
//! `idle_max` is closed, and one whose request does not come in time (`slow`), so that slots come
//! back.
//! Bounds: [`Intake`], for operators, and for a base and sources of contents. Of
//! these `handshakes_max` are in a handshake, each for `HANDSHAKE_MAX` at most: whoever connects
//! and says nothing costs a slot for so long. An address has a share of them and no more: its next
//! one ends its oldest, and others need not wait in the backlog for it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{self, AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::slow::Timed;
use crate::base::addresses::{AddressLimit, AddressPlace, Addresses};
use crate::base::oldest::Oldest;
use crate::base::prefix::Prefix;
use crate::config::hls::HlsConfig;
use crate::config::limits::LimitsConfig;
use crate::metrics::cells::{ADMIN, HLS, HttpCells};
use crate::metrics::descriptors::is_kept;
use crate::pki::certificate::NodeCertificate;
use crate::pki::fault::TlsFault;

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at once.
    connections_max: usize,
    /// Of these, connections of other machines.
    remote_max: usize,
    /// Of these, connections in a handshake of TLS.
    handshakes_max: usize,
    /// Time for the head of a request.
    head_max: Duration,
    /// Where it is counted.
    cells: Option<&'static HttpCells>,
    /// Without a byte in either direction.
    idle_max: Duration,
    /// How long a peer that does not answer is kept, where that is shorter: the kernel probes it.
    dead_after: Option<Duration>,
    /// Bytes that the kernel takes and has not sent. More of them wait here, so that a peer that
    /// does not read is noticed.
    unsent_max: Option<u32>,
}

/// What a listener takes, and who has it: the server counts, others may look.
#[derive(Debug, Clone)]
pub struct Intake {
    limits: Limits,
    /// All connections.
    pub connections: Arc<Addresses>,
    /// Those of them in a handshake of TLS.
    pub handshakes: Arc<Addresses>,
    /// Connections are taken while it is true; none: always.
    opened: Option<watch::Receiver<bool>>,
}

impl Intake {
    /// The same, while `opened` is true: clients wait to be accepted otherwise.
    #[must_use]
    pub fn during(self, opened: watch::Receiver<bool>) -> Self {
        Self { opened: Some(opened), ..self }
    }

    /// Of the HTTP API. The silence is longer than any usual scrape interval, so that a scraper
    /// keeps its connection.
    #[must_use]
    pub fn of_admin(limits: &LimitsConfig) -> Self {
        let connections_max = limits.admin_connections_max;
        let all = of_all(connections_max);
        let remote = of_all(limits.admin_connections_per_address_max);
        let limit = AddressLimit { remote, local: all, site: all };
        Self {
            limits: Limits {
                connections_max,
                remote_max: connections_max * 3 / 4,
                // It has no TLS.
                handshakes_max: 1,
                head_max: limits.request_timeout,
                cells: Some(&ADMIN.http),
                idle_max: Duration::from_secs(90),
                dead_after: None,
                unsent_max: Some(UNSENT_MAX),
            },
            connections: Arc::new(Addresses::new(limit, connections_max)),
            handshakes: Addresses::sharing(0),
            opened: None,
        }
    }

    /// Connections at once.
    pub(super) fn connections_max(&self) -> usize {
        self.limits.connections_max
    }

    /// Of HLS. A viewer that has paused keeps its connection for a while.
    #[must_use]
    pub fn of_hls(config: &HlsConfig, limits: &LimitsConfig) -> Self {
        let connections_max = config.connections_max;
        let usual = AddressLimit::share_of(connections_max);
        let limit = match config.connections_per_address_max {
            None => usual,
            Some(max) => usual.with_remote(max),
        };
        Self {
            limits: Limits {
                connections_max,
                remote_max: connections_max,
                // It has no TLS.
                handshakes_max: 1,
                head_max: limits.request_timeout,
                cells: Some(&HLS.http),
                idle_max: Duration::from_secs(60),
                dead_after: Some(Duration::from_secs(30)),
                unsent_max: None,
            },
            connections: Arc::new(Addresses::new(limit, connections_max)),
            handshakes: Addresses::sharing(0),
            opened: None,
        }
    }

    /// Of a port for contents. A node waits for the bytes of a client that is slow for as long as
    /// that takes; after an hour it asks for them again.
    #[must_use]
    pub fn of_distribution(limits: &LimitsConfig) -> Self {
        let connections_max = limits.peer_connections_max;
        let remote = of_all(limits.peer_connections_per_address_max);
        let site = AddressLimit::share_of(connections_max).site.max(remote);
        let limit = AddressLimit { remote, local: of_all(connections_max), site };
        Self {
            limits: Limits {
                connections_max,
                remote_max: connections_max,
                handshakes_max: limits.peer_handshakes_max,
                head_max: Duration::from_secs(30),
                cells: None,
                idle_max: Duration::from_secs(3_600),
                dead_after: Some(Duration::from_secs(10)),
                unsent_max: None,
            },
            connections: Arc::new(Addresses::new(limit, connections_max)),
            handshakes: Addresses::sharing(limits.peer_handshakes_max),
            opened: None,
        }
    }
}

fn of_all(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// TLS of a listener.
#[derive(Clone)]
pub struct Tls {
    /// Settings, with the certificate.
    pub config: Arc<ServerConfig>,
    /// Is told the own address that a connection came to, before the certificate is shown.
    pub reached: Option<Arc<dyn Fn(IpAddr) + Send + Sync>>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its address.
    pub addr: SocketAddr,
    /// The own address that it came to.
    pub local: Option<IpAddr>,
    /// Its certificate, if it has shown that of a node.
    pub node: Option<NodeCertificate>,
}

/// Answers requests until `shutdown`, then lets those in progress finish for a second. Handlers may
/// ask for `ConnectInfo<Remote>`.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    tls: Option<Tls>,
    router: Router,
    Intake { limits, connections, handshakes, opened }: Intake,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    if let Some(mut opened) = opened.clone() {
        tokio::select! {
            () = stopped(shutdown.clone()) => return Ok(()),
            is_open = opened.wait_for(|is_open| *is_open) => {
                if is_open.is_err() {
                    return Ok(());
                }
            }
        }
    }
    let limited = Limited {
        listener: TcpListener::from_std(listener)?,
        slots: Arc::new(Semaphore::new(limits.connections_max)),
        remote: Arc::new(Semaphore::new(limits.remote_max)),
        addresses: connections,
        limits,
        opened,
        says_why: tls.is_none(),
    };
    let handshakes = Handshakes::new(handshakes, limits.handshakes_max);
    let listener = Front { limited, tls, handshakes };
    // Of listeners that are not its own, axum knows the client's address only behind a tap.
    let listener = listener.tap_io(|_connection| {});
    let serving = axum::serve(listener, router.into_make_service_with_connect_info::<Remote>())
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

/// What axum accepts from: connections whose handshake is over.
struct Front {
    limited: Limited,
    tls: Option<Tls>,
    handshakes: Handshakes,
}

impl Front {
    fn timed(&self, (stream, remote): (Stream, Remote)) -> (Timed<Stream>, Remote) {
        let Limits { head_max, cells, .. } = self.limited.limits;
        (Timed::new(stream, head_max, cells), remote)
    }
}

impl Listener for Front {
    type Io = Timed<Stream>;
    type Addr = Remote;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.next() => {
                    if let Some(accepted) = done {
                        return self.timed(accepted);
                    }
                }
                (connection, addr) = self.limited.accept(), if self.handshakes.has_room() =>
                {
                    let Some(tls) = self.tls.clone() else {
                        let local = local_ip(&connection);
                        let remote = Remote { addr, local, node: None };
                        return self.timed((Stream::Plain(connection), remote));
                    };
                    self.handshakes.begin(tls, connection, addr);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Remote { addr: self.limited.listener.local_addr()?, local: None, node: None })
    }
}

/// Handshakes under way. An address that has its share of them loses its own oldest.
struct Handshakes {
    tasks: JoinSet<Option<(Stream, Remote)>>,
    places: HashMap<task::Id, AddressPlace>,
    oldest: Oldest<AbortHandle>,
    addresses: Arc<Addresses>,
    count_max: usize,
}

impl Handshakes {
    fn new(addresses: Arc<Addresses>, count_max: usize) -> Self {
        let (tasks, places, oldest) = (JoinSet::new(), HashMap::new(), Oldest::default());
        Self { tasks, places, oldest, addresses, count_max }
    }

    fn has_room(&self) -> bool {
        self.tasks.len() < self.count_max
    }

    fn begin(&mut self, tls: Tls, connection: Connection, addr: SocketAddr) {
        let addresses = Arc::clone(&self.addresses);
        let place = addresses.enter(addr.ip()).or_else(|prefix| {
            self.end_oldest(prefix);
            addresses.enter(addr.ip())
        });
        let Ok(place) = place else { return };
        let task = self.tasks.spawn(handshake(tls, connection, addr));
        let Self { places, oldest, count_max, .. } = self;
        places.insert(task.id(), place);
        oldest.push(task, addr.ip(), *count_max, |task| places.contains_key(&task.id()));
    }

    fn end_oldest(&mut self, prefix: Prefix) {
        let Self { places, oldest, .. } = self;
        if let Some(task) = oldest.take_of(prefix, |task| places.contains_key(&task.id())) {
            task.abort();
            places.remove(&task.id());
        }
    }

    /// The next that is over. `None`: none is under way; `Some(None)`: it has failed.
    async fn next(&mut self) -> Option<Option<(Stream, Remote)>> {
        let (id, accepted) = match self.tasks.join_next_with_id().await? {
            Ok((id, accepted)) => (id, accepted),
            Err(ended) => (ended.id(), None),
        };
        self.places.remove(&id);
        Some(accepted)
    }
}

/// `None` when it fails, or takes too long.
async fn handshake(tls: Tls, connection: Connection, addr: SocketAddr) -> Option<(Stream, Remote)> {
    let local = local_ip(&connection);
    if let (Some(reached), Some(own)) = (&tls.reached, local) {
        reached(own);
    }
    let shaken = async {
        let mut first = [0];
        connection.stream.peek(&mut first).await.ok()?;
        if first[0].is_ascii_uppercase() {
            refuse_plain(connection).await;
            return None;
        }
        match TlsAcceptor::from(tls.config).accept(connection).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                // Scanners and clients that hang up are no news; certificates are.
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
                if let Some(
                    error @ (rustls::Error::InvalidCertificate(_)
                    | rustls::Error::NoCertificatesPresented),
                ) = inner
                {
                    let reason = TlsFault::of(error);
                    tracing::info!(code = "HE-I933", from = %addr, %reason, "a certificate is refused");
                }
                None
            }
        }
    };
    let stream = timeout(HANDSHAKE_MAX, shaken).await.ok()??;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let node = shown.and_then(NodeCertificate::read);
    Some((Stream::Tls(Box::new(stream)), Remote { addr, local, node }))
}

/// The own address that a connection came to.
fn local_ip(connection: &Connection) -> Option<IpAddr> {
    connection.stream.local_addr().ok().map(|own| own.ip().to_canonical())
}

/// Says to a client of plain HTTP what is wrong.
async fn refuse_plain(mut connection: Connection) {
    // What is not read when a socket is closed makes the kernel drop the answer.
    let _begin = connection.read(&mut [0; REQUEST_READ]).await;
    let body = "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"reason\":\"tls_needed\",\
                \"detail\":\"this port speaks TLS: ask by https://\"}";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // It may be gone; there is nobody to tell.
    let _gone = connection.write_all(answer.as_bytes()).await;
    let _gone = connection.shutdown().await;
}

struct Limited {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    remote: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    limits: Limits,
    opened: Option<watch::Receiver<bool>>,
    /// A client that is refused is told so: it speaks plain HTTP.
    says_why: bool,
}

impl Limited {
    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let slot = match self.slots.clone().acquire_owned().await {
                Ok(slot) => slot,
                // The semaphore is never closed; without one, nothing can be accepted.
                Err(_closed) => std::future::pending().await,
            };
            let (stream, addr) = self.next().await;
            let place = self.admit(slot, addr.ip().to_canonical());
            let Some(place) = place.filter(|_| !is_kept(&stream)) else {
                self.refuse(&stream);
                continue;
            };
            let Limits { idle_max, dead_after, unsent_max, .. } = self.limits;
            let is_probed = dead_after.is_none_or(|dead| probe(&stream, dead).is_ok());
            if let Some(bytes) = unsent_max {
                // Without it a peer that does not read is noticed later.
                let _unknown = SockRef::from(&stream).set_tcp_notsent_lowat(bytes);
            }
            // Small answers in one piece: waiting for more to send only delays them.
            if is_probed && stream.set_nodelay(true).is_ok() {
                let idle = Box::pin(sleep(idle_max));
                return (Connection { stream, idle, idle_max, _place: place }, addr);
            }
        }
    }

    /// The next connection, which is accepted while connections are taken.
    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        let Some(opened) = &mut self.opened else {
            return Listener::accept(&mut self.listener).await;
        };
        loop {
            if opened.wait_for(|is_open| *is_open).await.is_err() {
                // Who would say so is gone: this is the end.
                return std::future::pending().await;
            }
            tokio::select! {
                biased;
                _ = opened.wait_for(|is_open| !*is_open) => {}
                accepted = Listener::accept(&mut self.listener) => return accepted,
            }
        }
    }

    /// `None`: the address, or all other machines together, have as many as they may have.
    fn admit(&self, slot: OwnedSemaphorePermit, ip: IpAddr) -> Option<Place> {
        let remote = match ip.is_loopback() {
            true => None,
            false => Some(Arc::clone(&self.remote).try_acquire_owned().ok()?),
        };
        let address = self.addresses.enter(ip).ok()?;
        if let Some(cells) = self.limits.cells {
            cells.connections.add(1);
        }
        Some(Place { _slot: slot, _remote: remote, _address: address, cells: self.limits.cells })
    }

    fn refuse(&self, stream: &TcpStream) {
        if let Some(cells) = self.limits.cells {
            cells.connections_refused.add(1);
        }
        if self.says_why {
            // Best effort: the connection is closed next.
            let _unsaid = stream.try_write(REFUSAL);
        }
    }
}

/// What a connection takes of the limits.
struct Place {
    _slot: OwnedSemaphorePermit,
    _remote: Option<OwnedSemaphorePermit>,
    _address: AddressPlace,
    cells: Option<&'static HttpCells>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(cells) = self.cells {
            cells.connections.sub(1);
        }
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
    _place: Place,
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

/// A connection as HTTP has it.
enum Stream {
    Plain(Connection),
    Tls(Box<TlsStream<Connection>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("config", &self.config).finish_non_exhaustive()
    }
}

/// To a client for whom there is no place.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";
/// For a handshake: three round trips and what waits before it.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Of a request that is refused: head and beginning of its body.
const REQUEST_READ: usize = 4_096;

/// Two minutes of a dashboard's feed.
const UNSENT_MAX: u32 = 64 << 10;

/// For requests in progress when the appliance stops.
const DRAIN_MAX: Duration = Duration::from_secs(1);
