//! The run: starts sessions at the ramp's rate, moves bytes, ends them, and takes the figures.
//!
//! ```text
//! loop: start what is due -> tick (timers, reports, end) -> wait -> TCP and UDP that is ready
//!
//!  start ....... ramp ....... full ======= window (--duration) ======= stop .. TEARDOWNs .. end
//! ```
//! The window begins when every session plays or has failed, so that it shows the whole load; CPU
//! and rates are taken over it.
//! Invariant: the run ends: every wait of a session has a limit (10 s), and so has the window,
//! except that `--to-end` lasts as long as packets come.
//! Bound: one tick over all sessions every [`TICK`].

use crate::cli::{Options, SharedPorts, Transport};
use crate::datagrams::{Datagrams, Sessions};
use crate::failure::Failure;
use crate::net::poll::{Poll, Ready, Token};
use crate::net::process;
use crate::net::sockets;
use crate::progress::Progress;
use crate::report::{Report, Sample};
use crate::session::{Plan, REPORT_INTERVAL, Session};
use crate::slots::Slot;
use crate::stats::Stats;
use crate::time::{Clock, Mono};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rtsp_types::Url;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// How often timers of sessions are looked at.
pub const TICK: Duration = Duration::from_millis(50);
/// How long datagrams gather between two waits of a run in its window.
pub const GATHER: Duration = Duration::from_millis(1);
const TCP_READ_BYTES: usize = 256 * 1024;
const RTSP_PORT: u16 = 554;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No session could be connected.
    #[error("cannot reach {server}: {reason}")]
    Unreachable {
        /// As asked for.
        server: String,
        /// What the system says.
        reason: io::ErrorKind,
    },
    /// Shared ports need a server on loopback.
    #[error("--shared-ports on needs an IPv4 server on 127.0.0.0/8, {server} is not")]
    SharedPorts {
        /// As resolved.
        server: SocketAddr,
    },
    /// The system refused something the run needs.
    #[error("system: {0}")]
    System(#[from] io::Error),
}

/// Plays as `options` say and reports.
pub fn run(options: &Options) -> Result<Report, RunError> {
    raise_descriptor_limit();
    let mut run = Run::new(options)?;
    run.drive()?;
    run.progress.finish();
    if run.stats.connected == 0 {
        return Err(run.unreachable_for(io::ErrorKind::TimedOut));
    }
    let end = run.sample();
    run.stats.own_drops += run.datagrams.drops();
    Ok(Report::new(options, &run.stats, &run.samples(end)))
}

#[derive(Debug)]
struct Target {
    url: Url,
    server: SocketAddr,
    is_shared: bool,
}

#[derive(Debug)]
struct Run<'a> {
    options: &'a Options,
    targets: Vec<Target>,
    clock: Clock,
    rng: StdRng,
    poll: Poll,
    slots: Vec<Option<Box<Slot>>>,
    datagrams: Datagrams,
    tcp_buffer: Vec<u8>,
    stats: Stats,
    progress: Progress,
    started_at: Mono,
    begin: Sample,
    full: Option<Sample>,
    stop: Option<Sample>,
    unreachable: Option<io::ErrorKind>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options) -> Result<Self, RunError> {
        let targets = options.urls.iter().map(|url| target_from(url, options.shared_ports));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let clock = Clock;
        let started_at = clock.now();
        Ok(Self {
            options,
            targets,
            clock,
            rng: StdRng::seed_from_u64(options.seed),
            poll: Poll::new()?,
            slots: Vec::new(),
            datagrams: Datagrams::new(options.rcvbuf),
            tcp_buffer: vec![0; TCP_READ_BYTES],
            stats: Stats::default(),
            progress: Progress::new(started_at),
            started_at,
            begin: Sample::take(options.server_pid, clock, &Stats::default()),
            full: None,
            stop: None,
            unreachable: None,
        })
    }

    fn drive(&mut self) -> Result<(), RunError> {
        let mut ready: Vec<Ready> = Vec::new();
        let mut next_tick = self.started_at;
        loop {
            let now = self.clock.now();
            self.start_due(now)?;
            if now >= next_tick {
                next_tick = now.after(TICK);
                if self.tick(now) {
                    return Ok(());
                }
            }
            let next_start = self.start_time(self.slots.len()).unwrap_or(next_tick);
            let wait = next_tick.min(next_start).since(self.clock.now());
            ready.clear();
            self.gather(wait);
            let wait = next_tick.min(next_start).since(self.clock.now());
            self.poll.wait(wait, &mut ready)?;
            // Connections first: a PLAY answer should be read before the packets it announces.
            for event in ready.iter().filter(|event| matches!(event.token, Token::Tcp(_))) {
                self.handle_tcp(event);
            }
            for event in &ready {
                if let Token::Udp(entry) = event.token {
                    let mut to = Sessions { slots: &mut self.slots, stats: &mut self.stats };
                    self.datagrams.handle_ready(entry, &mut to, self.clock);
                }
            }
            if let Some(reason) = self.unreachable {
                return Err(self.unreachable_for(reason));
            }
        }
    }

    /// Lets datagrams gather once all sessions play over UDP: being woken costs more than reading,
    /// and arrival times are the kernel's. Requests are still timed by us, so set-up does not wait,
    /// and neither do interleaved packets.
    fn gather(&self, wait: Duration) {
        let is_udp = self.options.transport == Transport::Udp;
        if is_udp && self.full.is_some() && self.stop.is_none() && wait > GATHER {
            std::thread::sleep(GATHER);
        }
    }

    fn unreachable_for(&self, reason: io::ErrorKind) -> RunError {
        let server = self.targets.first().map(|target| target.url.to_string());
        RunError::Unreachable { server: server.unwrap_or_default(), reason }
    }

    /// When session `index` is due; `None` when there is none, or no more shall start.
    fn start_time(&self, index: usize) -> Option<Mono> {
        let number = u32::try_from(index).ok().filter(|&n| n < self.options.sessions)?;
        let wait = Duration::try_from_secs_f64(f64::from(number) / self.options.ramp);
        self.stop.is_none().then(|| self.started_at.after(wait.unwrap_or(Duration::MAX)))
    }

    fn start_due(&mut self, now: Mono) -> Result<(), RunError> {
        while self.start_time(self.slots.len()).is_some_and(|due| due <= now) {
            let index = self.slots.len();
            let slot = self.start(index, now)?;
            self.slots.push(slot.map(Box::new));
            self.settle(index, now);
        }
        Ok(())
    }

    /// `None` when the session has failed at once, which is counted.
    fn start(&mut self, index: usize, now: Mono) -> Result<Option<Slot>, RunError> {
        let Some(target) = self.targets.get(index % self.targets.len().max(1)) else {
            return Ok(None);
        };
        let address = if target.is_shared { sockets::client_address(index) } else { None };
        let plan = Plan {
            tcp: self.options.transport == Transport::Tcp,
            to_end: self.options.to_end,
            receiver_ssrc: self.rng.random(),
            report_phase: REPORT_INTERVAL.mul_f64(self.rng.random_range(0.1..1.0)),
        };
        let session = Session::new(target.url.clone(), plan);
        let server = target.server;
        self.stats.started += 1;
        match sockets::connect(server, address) {
            Ok(tcp) => {
                self.poll.add(&tcp, Token::Tcp(index), true)?;
                Ok(Some(Slot::new(index, session, tcp, server, address, now)))
            }
            Err(error) => {
                self.note_failure(&Failure::Connect(error.kind()));
                self.stats.record_failure(&Failure::Connect(error.kind()));
                Ok(None)
            }
        }
    }

    fn handle_tcp(&mut self, event: &Ready) {
        let Token::Tcp(index) = event.token else { return };
        let now = self.clock.now();
        let Some(Some(slot)) = self.slots.get_mut(index) else { return };
        let result = slot.handle_ready(event.readable, &mut self.tcp_buffer, now, &mut self.stats);
        if let Err(failure) = result {
            slot.session.handle_closed(failure.clone(), now, &mut self.stats);
            self.note_failure(&failure);
        }
        self.settle(index, now);
    }

    /// While no session has ever connected, as many refusals as targets mean: not reachable.
    fn note_failure(&mut self, failure: &Failure) {
        let targets = u64::try_from(self.targets.len()).unwrap_or(u64::MAX);
        if let Failure::Connect(reason) = failure
            && self.stats.connected == 0
            && self.stats.started >= targets
        {
            self.unreachable = Some(*reason);
        }
    }

    /// After anything happened to a session: ports, bytes, end.
    fn settle(&mut self, index: usize, now: Mono) {
        let Some(place) = self.slots.get_mut(index) else { return };
        let Some(mut slot) = place.take() else { return };
        if let Some(tracks) = slot.session.ports_wanted() {
            match self.datagrams.ports_for(&mut slot, tracks, &self.poll) {
                Ok(ports) => slot.session.handle_ports(&ports, now),
                Err(error) => {
                    let failure = Failure::LocalPorts(error.kind());
                    slot.session.fail(failure, now, &mut self.stats);
                }
            }
        }
        if let Err(failure) = slot.flush(&self.poll) {
            slot.session.handle_closed(failure, now, &mut self.stats);
        }
        if slot.session.is_over() {
            self.stats.own_drops += self.datagrams.close(&slot.sockets);
        } else if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
        }
    }

    /// Timers of all sessions; true when the run is over.
    fn tick(&mut self, now: Mono) -> bool {
        for index in 0..self.slots.len() {
            let mut to = Sessions { slots: &mut self.slots, stats: &mut self.stats };
            self.datagrams.read_tail(index, now, &mut to, self.clock);
            let Some(Some(slot)) = self.slots.get_mut(index) else { continue };
            slot.handle_time(now, &mut self.stats);
            while let Some((track, report)) = slot.session.poll_report(now, &mut self.stats) {
                self.datagrams.send_report(slot, track, &report);
            }
            self.settle(index, now);
        }
        let all_started = self.start_time(self.slots.len()).is_none();
        let mut setting_up = self.slots.iter().flatten().filter(|s| s.session.is_setting_up());
        if self.full.is_none() && all_started && setting_up.next().is_none() {
            self.full = Some(self.sample());
        }
        let is_time = |full: &Sample| now.since(full.at) >= self.options.duration;
        let is_duration_over = !self.options.to_end && self.full.as_ref().is_some_and(is_time);
        let has_first_ended = self.full.is_some() && self.stats.ended_by_server > 0;
        if self.stop.is_none() && (is_duration_over || has_first_ended) {
            // Once titles end, the load is not whole any more: the window closes.
            self.stop = Some(self.sample());
        }
        if is_duration_over {
            for index in 0..self.slots.len() {
                if let Some(Some(slot)) = self.slots.get_mut(index) {
                    slot.session.stop(now, &mut self.stats);
                }
                self.settle(index, now);
            }
        }
        self.show_progress(now);
        all_started && self.slots.iter().all(Option::is_none)
    }

    fn show_progress(&mut self, now: Mono) {
        if !self.progress.is_due(now) {
            return;
        }
        let open: u64 = self.slots.iter().flatten().map(|slot| slot.session.lost()).sum();
        let lost = open + self.stats.total().lost;
        let ramp = f64::from(self.options.sessions) / self.options.ramp;
        let whole = ramp + self.options.duration.as_secs_f64();
        let done = now.since(self.started_at).as_secs_f64() / whole.max(0.001);
        self.progress.show(now, &self.stats, lost, done);
    }

    fn sample(&self) -> Sample {
        Sample::take(self.options.server_pid, self.clock, &self.stats)
    }

    /// Begin and end of the window; the whole run when sessions ended before all were up.
    fn samples(&self, end: Sample) -> [Sample; 3] {
        match (&self.full, &self.stop) {
            (Some(full), Some(stop)) if stop.at > full.at => [*full, *stop, end],
            _ => [self.begin, end, end],
        }
    }
}

fn target_from(url: &Url, shared: SharedPorts) -> Result<Target, RunError> {
    let unreachable = |reason| RunError::Unreachable { server: url.to_string(), reason };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port().unwrap_or(RTSP_PORT);
    let mut found = (host, port).to_socket_addrs().map_err(|error| unreachable(error.kind()))?;
    let server = found.next().ok_or_else(|| unreachable(io::ErrorKind::NotFound))?;
    let is_loopback = server.is_ipv4() && server.ip().is_loopback();
    if shared == SharedPorts::On && !is_loopback {
        return Err(RunError::SharedPorts { server });
    }
    let is_shared = is_loopback && shared != SharedPorts::Off;
    Ok(Target { url: url.clone(), server, is_shared })
}

/// A descriptor per session at least: take what the system allows.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

impl Sample {
    /// The figures now.
    #[must_use]
    pub fn take(server_pid: Option<u32>, clock: Clock, stats: &Stats) -> Self {
        Self {
            at: clock.now(),
            packets: stats.packets,
            bytes: stats.bytes,
            own_cpu: clock.process_cpu(),
            server: server_pid.and_then(process::usage),
        }
    }
}
