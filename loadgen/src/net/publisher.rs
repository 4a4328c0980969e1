//! The publishing thread: its sockets, and the clock that drives the film.
//!
//! ```text
//! loop: what came over RTSP -> client; what is due -> stamp, send; wait for the next of both
//! ```
//! A thread of its own, so that reading for thousands of sessions does not make the film late. The
//! time of a packet is read right before it is handed to the kernel.
//! Invariant: the thread ends when it is told so, or with a failure. Bound: [`UNSENT_BYTES_MAX`]
//! wait for a server that does not read; then publishing has failed.

use super::sockets::{any_address, port_pair};
use crate::auth::redacted;
use crate::failure::Failure;
use crate::publish::broadcast::{Broadcast, Out};
use crate::publish::client::{PublishClient, PublishEvent};
use crate::publish::{FilmOptions, PublishTransport, Published, stamp};
use crate::request::TransportAsk;
use crate::time::{Clock, Mono};
use crate::wire::{self, Item};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rtsp_types::Url;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockAddr, Socket};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes that may wait for a server that does not read.
pub const UNSENT_BYTES_MAX: usize = 16 << 20;
/// The thread looks around so often at least.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// A key picture of a high rate in one go.
const SEND_BUFFER_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 16 * 1024;
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// A publisher at work.
#[derive(Debug)]
pub struct Publishing {
    thread: JoinHandle<Result<Published, Failure>>,
    stop: Arc<AtomicBool>,
}

impl Publishing {
    /// Starts to publish; RECORD is answered when this returns.
    ///
    /// # Errors
    /// Why it is not.
    pub fn start(
        options: &FilmOptions,
        url: &Url,
        server: SocketAddr,
        seed: u64,
    ) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let (begun, has_begun) = channel();
        let options = options.clone();
        let (url, stopped) = (url.clone(), Arc::clone(&stop));
        let named = std::thread::Builder::new().name("publisher".to_owned());
        let thread =
            named.spawn(move || Publisher::new(&options, url, server, seed)?.run(&stopped, &begun));
        let thread = thread.map_err(|error| Failure::Connect(error.kind()))?;
        let publishing = Self { thread, stop };
        if wait_for(&has_begun) { Ok(publishing) } else { Err(publishing.failure()) }
    }

    /// It has ended by itself: something has failed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it; what was published.
    ///
    /// # Errors
    /// Why it had ended before.
    pub fn finish(self) -> Result<Published, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(Err(Failure::Closed))
    }

    fn failure(self) -> Failure {
        self.finish().err().unwrap_or(Failure::Closed)
    }
}

/// False: the thread has ended without a word.
fn wait_for(has_begun: &Receiver<()>) -> bool {
    has_begun.recv().is_ok()
}

struct Publisher {
    options: FilmOptions,
    url: Url,
    clock: Clock,
    client: PublishClient,
    broadcast: Broadcast,
    tcp: TcpStream,
    /// RTP and RTCP of each track, and where they go to.
    udp: Vec<(Socket, Socket)>,
    targets: Vec<(SockAddr, SockAddr)>,
    server: SocketAddr,
    unread: Vec<u8>,
    recording_since: Option<Mono>,
    figures: Published,
}

impl Publisher {
    fn new(
        options: &FilmOptions,
        url: Url,
        server: SocketAddr,
        seed: u64,
    ) -> Result<Self, Failure> {
        let broadcast = Broadcast::new(options, &mut SmallRng::seed_from_u64(seed));
        let refused = |error: io::Error| Failure::Connect(error.kind());
        let tcp = TcpStream::connect_timeout(&server, CONNECT_WAIT).map_err(refused)?;
        tcp.set_nodelay(true).and_then(|()| tcp.set_nonblocking(true)).map_err(refused)?;
        let (mut udp, mut asks) = (Vec::new(), Vec::new());
        for track in 0..broadcast.tracks().len() {
            asks.push(match options.publish_transport {
                PublishTransport::Udp => {
                    let any = any_address(server);
                    let pair = port_pair(Some(any), false, READ_BYTES);
                    let (pair, (rtp_port, rtcp_port)) =
                        pair.map_err(|error| Failure::LocalPorts(error.kind()))?;
                    // What the system allows; a smaller one shows as `own_drops`.
                    let _ = pair.0.set_send_buffer_size(SEND_BUFFER_BYTES);
                    udp.push(pair);
                    TransportAsk::Udp { rtp_port, rtcp_port }
                }
                PublishTransport::Tcp => {
                    let channel = u8::try_from(track * 2).unwrap_or(0);
                    TransportAsk::Tcp { channel }
                }
            });
        }
        let client = PublishClient::new(url.clone(), broadcast.description(), asks);
        Ok(Self {
            options: options.clone(),
            url,
            clock: Clock,
            client,
            broadcast,
            tcp,
            udp,
            targets: Vec::new(),
            server,
            unread: Vec::new(),
            recording_since: None,
            figures: Published::default(),
        })
    }

    fn run(mut self, stop: &AtomicBool, begun: &Sender<()>) -> Result<Published, Failure> {
        self.client.handle_connected(self.clock.now());
        loop {
            let now = self.clock.now();
            let mut event = self.client.handle_time(now);
            if stop.load(Ordering::Relaxed) {
                event = event.or_else(|| self.client.teardown(now));
            }
            event = event.or_else(|| self.read(now));
            match event {
                Some(PublishEvent::Recording) => {
                    self.begin(now)?;
                    // Nobody listens any more when the run has failed: then `stop` is set.
                    let _ = begun.send(());
                }
                Some(PublishEvent::Ended) => return Ok(self.result(now)),
                Some(PublishEvent::Failed(failure)) => return Err(failure),
                None => {}
            }
            if self.recording_since.is_some() && !stop.load(Ordering::Relaxed) {
                self.send_due(now);
            }
            self.flush()?;
            self.wait()?;
        }
    }

    /// RECORD is answered: it is known where packets go.
    fn begin(&mut self, now: Mono) -> Result<(), Failure> {
        if self.options.publish_transport == PublishTransport::Udp {
            for reply in self.client.replies() {
                let (rtp, rtcp) = reply.server_ports.ok_or(Failure::OtherTransport)?;
                let ip = self.server.ip();
                let to = |port| SockAddr::from(SocketAddr::new(ip, port));
                self.targets.push((to(rtp), to(rtcp)));
            }
        }
        self.recording_since = Some(now);
        self.broadcast.start(now);
        Ok(())
    }

    fn send_due(&mut self, now: Mono) {
        let Self { broadcast, client, clock, udp, targets, figures, options, .. } = self;
        let utc_ns = now.as_ns().saturating_add(clock.wall_minus_mono_ns());
        broadcast.send_due(now, utc_ns, &mut |out| {
            let (track, is_rtp) = match &out {
                Out::Rtp(track, ..) => (*track, true),
                Out::Rtcp(track, _) => (*track, false),
            };
            let bytes: &[u8] = match out {
                Out::Rtp(_, packet, behind) => {
                    stamp::write(packet, behind, clock.now());
                    figures.packets += 1;
                    figures.bytes += u64::try_from(packet.len()).unwrap_or(0);
                    packet
                }
                Out::Rtcp(_, bytes) => bytes,
            };
            if options.publish_transport == PublishTransport::Tcp {
                let asked = u8::try_from(track * 2).unwrap_or(0);
                let reply = client.replies().get(track).and_then(|reply| reply.channels);
                let (rtp, rtcp) = reply.unwrap_or_else(|| (asked, asked.saturating_add(1)));
                let channel = if is_rtp { rtp } else { rtcp };
                wire::push_interleaved(client.out(), channel, bytes);
                return;
            }
            let Some(((rtp, rtcp), (to_rtp, to_rtcp))) = udp.get(track).zip(targets.get(track))
            else {
                return;
            };
            let sent =
                if is_rtp { rtp.send_to(bytes, to_rtp) } else { rtcp.send_to(bytes, to_rtcp) };
            figures.own_drops += u64::from(sent.is_err());
        });
    }

    /// Reads and handles what came over RTSP, up to an event.
    fn read(&mut self, now: Mono) -> Option<PublishEvent> {
        let mut buffer = [0; READ_BYTES];
        match self.tcp.read(&mut buffer) {
            Ok(0) => return self.client.handle_closed(Failure::Closed),
            Ok(count) => self.unread.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if is_transient(&error) => {}
            Err(error) => return self.client.handle_closed(Failure::Connection(error.kind())),
        }
        // Bounded: each round takes an item, or there is none.
        loop {
            let (event, taken) = match wire::next_item(&self.unread) {
                Ok(Some((Item::Message(message), taken))) => {
                    (self.client.handle_message(&message, now), taken)
                }
                Ok(Some((Item::Interleaved { .. }, taken))) => (None, taken),
                Ok(None) => return None,
                Err(error) => return self.client.handle_closed(error.into()),
            };
            self.unread.drain(..taken.min(self.unread.len()));
            if event.is_some() {
                return event;
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let out = self.client.out();
        while !out.is_empty() {
            match self.tcp.write(out) {
                Ok(written) => drop(out.drain(..written)),
                Err(error) if is_transient(&error) => break,
                // Reading tells why.
                Err(_) => break,
            }
        }
        if out.len() > UNSENT_BYTES_MAX {
            return Err(Failure::Connection(ErrorKind::TimedOut));
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let now = self.clock.now();
        let due = self.recording_since.map(|_| self.broadcast.next_due().since(now));
        let wait = due.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        let is_full = !self.client.out().is_empty();
        let flags = if is_full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let timeout = Timespec {
            tv_sec: 0,
            // Below `WAIT_MAX`.
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&self.tcp, flags)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Failure::Connection(io::Error::from(error).kind())),
        }
    }

    fn result(self, now: Mono) -> Published {
        let since = self.recording_since.unwrap_or(now);
        let (pictures, late_max) = self.broadcast.pictures();
        Published {
            url: redacted(self.url.as_str()),
            transport: self.options.publish_transport.name(),
            seconds: now.since(since).as_secs_f64(),
            size: self.broadcast.size(),
            pictures,
            late_ms_max: late_max.as_secs_f64() * 1e3,
            ..self.figures
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
