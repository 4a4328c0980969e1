//! The run: starts sessions at the ramp's rate, moves bytes, ends them, and takes the figures.
//!
//! ```text
//! loop: start what is due -> tick (timers, reports, end) -> wait -> TCP and UDP that is ready
//!       a session that was sent elsewhere (3xx) gets a new connection in the same place
//!
//!  start ....... ramp ....... full ======= window (--duration) ======= stop .. TEARDOWNs .. end
//! ```
//! The window begins when every session plays or has failed, so that it shows the whole load; CPU
//! and rates are taken over it.
//! Invariant: the run ends: every wait of a session has a limit (10 s), and so has the window,
//! except that `--to-end` lasts as long as packets come. A signal ends any run early.
//! Bound: one tick every [`TICK`] over the sessions that have something to do soon, and over each
//! of the others every [`CALM_TICK`].

use crate::cli::{Options, Title};
use crate::datagrams::{Datagrams, Sessions};
use crate::failure::Failure;
use crate::history::{History, Sample};
use crate::mix::Mix;
use crate::net::flood::Flooding;
use crate::net::poll::{Poll, Ready, Token};
use crate::net::process;
use crate::net::publisher::Publishing;
use crate::net::sockets;
use crate::net::tls::Tls;
use crate::progress::Progress;
use crate::publish::Published;
use crate::report::{Measured, Report};
use crate::script::Script;
use crate::session::{Plan, Session};
use crate::slots::Slot;
use crate::stats::Stats;
use crate::stream::Claims;
use crate::targets::{SECURE, Target, publish, target_from};
use crate::time::{Clock, Mono};
use rtsp_types::Url;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often timers of sessions are looked at.
pub const TICK: Duration = Duration::from_millis(50);
/// The same for a session that just plays: ten thousand of them are looked at in turn, not at once.
pub const CALM_TICK: Duration = Duration::from_millis(250);
/// How long datagrams gather between two waits of a run in its window.
pub const GATHER: Duration = Duration::from_millis(4);
/// UDP and TCP: each title has a part of the figures for each of them.
pub const TRANSPORTS: usize = 2;
const TCP_READ_BYTES: usize = 256 * 1024;
/// Standard streams, the poll, shared ports, files of `/proc` while they are read.
const OTHER_DESCRIPTORS: u64 = 16;
/// Receive buffer of a client that will stop reading: the system's own would hold half a minute of
/// film before the server felt anything.
const STALL_BUFFER_BYTES: usize = 64 * 1024;

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
    /// A film could not be published.
    #[error("cannot publish to {url}: {failure}")]
    Publish {
        /// Where, without a password.
        url: String,
        /// Why.
        failure: Failure,
    },
    /// Shared ports need a server on loopback.
    #[error("--shared-ports on needs an IPv4 server on 127.0.0.0/8, {server} is not")]
    SharedPorts {
        /// As resolved.
        server: SocketAddr,
    },
    /// Only a connection can be left unread.
    #[error("--stall needs clients with --transport tcp")]
    StallWithoutTcp,
    /// Each session is a connection at least.
    #[error("{sessions} sessions need more than the {allowed} descriptors allowed: ulimit -Hn")]
    Descriptors {
        /// Asked for.
        sessions: u32,
        /// Hard limit of this process.
        allowed: u64,
    },
    /// The system refused something the run needs.
    #[error("system: {0}")]
    System(#[from] io::Error),
}

/// Plays as `options` say and reports.
pub fn run(options: &Options) -> Result<Report, RunError> {
    run_until(options, &AtomicBool::new(false))
}

/// The same, but leaves politely and reports so far once `interrupted` is set.
pub fn run_until(options: &Options, interrupted: &AtomicBool) -> Result<Report, RunError> {
    if options.stall > 0 && options.transport.tcp == 0 {
        return Err(RunError::StallWithoutTcp);
    }
    raise_descriptor_limit(options.sessions.saturating_add(options.flood))?;
    let started = jiff::Timestamp::now();
    let publishing = publish(options)?;
    let mut run = Run::new(options, interrupted)?;
    run.publishing = publishing;
    let flooding = run.flood()?;
    let driven = run.drive();
    run.stats.flooded = flooding.map(Flooding::finish).transpose()?;
    // In any case: a publisher that is left behind would keep its path.
    let published = run.publishing.take().map(Publishing::finish).transpose();
    driven?;
    run.progress.finish();
    run.note_published(published);
    if run.stats.connected == 0 && !run.stats.is_interrupted && !options.titles.is_empty() {
        return Err(run.unreachable_for(io::ErrorKind::TimedOut));
    }
    let last = run.sample();
    run.stats.own_drops += run.datagrams.drops();
    let (begin, end) = run.window(last);
    Ok(Report::new(&Measured {
        options,
        stats: &run.stats,
        before: run.begin,
        window: (begin, end),
        last,
        history: &run.history,
        started: format!("{started:.0}"),
    }))
}

#[derive(Debug)]
struct Run<'a> {
    options: &'a Options,
    targets: Vec<Target>,
    interrupted: &'a AtomicBool,
    script: Option<Arc<Script>>,
    mix: Mix,
    /// Sessions over TCP started so far.
    tcp_started: u32,
    clock: Clock,
    poll: Poll,
    slots: Vec<Option<Box<Slot>>>,
    /// When each slot is looked at next: apart from them, so that the others stay out of the cache.
    visits: Vec<Mono>,
    datagrams: Datagrams,
    tcp_buffer: Vec<u8>,
    stats: Stats,
    progress: Progress,
    started_at: Mono,
    begin: Sample,
    history: History,
    publishing: Option<Publishing>,
    full: Option<Sample>,
    stop: Option<Sample>,
    unreachable: Option<io::ErrorKind>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, interrupted: &'a AtomicBool) -> Result<Self, RunError> {
        let target = |title: &Title| target_from(&title.url, options.shared_ports);
        let targets = options.titles.iter().map(target).collect::<Result<Vec<_>, _>>()?;
        let weights: Vec<u32> = options.titles.iter().map(|title| title.weight).collect();
        let clock = Clock;
        let started_at = clock.now();
        let begin = Sample::take(options.server_pid, clock, &Stats::default());
        Ok(Self {
            options,
            interrupted,
            script: options.script.clone().map(Arc::new),
            mix: Mix::of_pairs(&weights, &[options.transport.udp, options.transport.tcp]),
            tcp_started: 0,
            targets,
            clock,
            poll: Poll::new()?,
            slots: Vec::new(),
            visits: Vec::new(),
            datagrams: Datagrams::new(options.rcvbuf),
            tcp_buffer: vec![0; TCP_READ_BYTES],
            stats: Stats::starting_at(started_at),
            progress: Progress::new(started_at),
            started_at,
            history: History::starting_with(begin),
            begin,
            publishing: None,
            full: None,
            stop: None,
            unreachable: None,
        })
    }

    /// Begins the flood, if there is to be one: the sessions are its neighbours.
    fn flood(&self) -> io::Result<Option<Flooding>> {
        let target = self.targets.first().filter(|_| self.options.flood > 0);
        target.map(|target| Flooding::start(self.options.flood, target)).transpose()
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
    /// nor seeks, and neither do interleaved packets.
    fn gather(&self, wait: Duration) {
        let is_untimed = self.options.transport.tcp == 0 && self.script.is_none();
        if is_untimed && self.full.is_some() && self.stop.is_none() && wait > GATHER {
            std::thread::sleep(GATHER);
        }
    }

    fn unreachable_for(&self, reason: io::ErrorKind) -> RunError {
        let server = self.targets.first().map(|target| target.url.to_string());
        RunError::Unreachable { server: server.unwrap_or_default(), reason }
    }

    /// When session `index` is due; `None` when there is none, or no more shall start.
    fn start_time(&self, index: usize) -> Option<Mono> {
        let sessions = if self.options.titles.is_empty() { 0 } else { self.options.sessions };
        let number = u32::try_from(index).ok().filter(|&n| n < sessions)?;
        let wait = Duration::try_from_secs_f64(f64::from(number) / self.options.ramp);
        self.stop.is_none().then(|| self.started_at.after(wait.unwrap_or(Duration::MAX)))
    }

    fn start_due(&mut self, now: Mono) -> Result<(), RunError> {
        while self.start_time(self.slots.len()).is_some_and(|due| due <= now) {
            let index = self.slots.len();
            let slot = self.start(index, now)?;
            self.slots.push(slot.map(Box::new));
            self.visits.push(now);
            self.settle(index, now);
        }
        Ok(())
    }

    /// `None` when the session has failed at once, which is counted.
    fn start(&mut self, index: usize, now: Mono) -> Result<Option<Slot>, RunError> {
        let Some(part) = self.mix.pick() else { return Ok(None) };
        let tcp = part % TRANSPORTS == 1;
        self.stats.started += 1;
        self.stats.part_mut(part).sessions += 1;
        self.tcp_started += u32::from(tcp);
        let stalls = tcp && self.tcp_started <= self.options.stall;
        let plan = Plan {
            tcp,
            to_end: self.options.to_end,
            is_blind: self.options.blind,
            seed: self.options.seed,
            index,
            part,
            script: self.script.clone(),
            claims: Claims { loss: self.options.report_loss },
            drop: self.options.drop.unwrap_or(0.0),
            stall_after: stalls.then_some(self.options.stall_after),
            is_redirected: false,
        };
        let Some(target) = self.targets.get(part / TRANSPORTS).cloned() else { return Ok(None) };
        self.connect(&target, index, plan, now)
    }

    /// `None` when that has failed at once, which is counted.
    fn connect(
        &mut self,
        target: &Target,
        index: usize,
        plan: Plan,
        now: Mono,
    ) -> Result<Option<Slot>, RunError> {
        let address = if target.is_shared { sockets::client_address(index) } else { None };
        let buffer = plan.stall_after.map(|_| STALL_BUFFER_BYTES);
        let session = Session::new(target.url.clone(), plan);
        match sockets::connect(target.server, address, buffer) {
            Ok(tcp) => {
                self.poll.add(&tcp, Token::Tcp(index), true)?;
                let tls = match target.url.scheme() {
                    SECURE => Some(Box::new(Tls::new(target.host())?)),
                    _ => None,
                };
                Ok(Some(Slot::new(index, session, (tcp, tls), target.server, address, now)))
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
        let result = slot.handle_ready(event, &mut self.tcp_buffer, now, &mut self.stats);
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
            let Some((url, plan)) = slot.session.take_redirect() else { return };
            // The old connection is closed before the new one takes its place in the poll.
            drop(slot);
            let slot = self.follow(&url, index, plan, now);
            if let Some(place) = self.slots.get_mut(index) {
                *place = slot.map(Box::new);
            }
        } else if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
        }
    }

    /// Goes where a server has sent session `index`.
    fn follow(&mut self, url: &Url, index: usize, plan: Plan, now: Mono) -> Option<Slot> {
        let failure = match target_from(url, self.options.shared_ports) {
            Ok(target) => match self.connect(&target, index, plan, now) {
                Ok(slot) => return slot,
                Err(_) => Failure::Connect(io::ErrorKind::Other),
            },
            Err(_) => Failure::Connect(io::ErrorKind::NotFound),
        };
        self.stats.record_failure(&failure);
        None
    }

    /// Timers of all sessions; true when the run is over.
    fn tick(&mut self, now: Mono) -> bool {
        for index in 0..self.slots.len() {
            if self.visits.get(index).is_some_and(|&visit| now < visit) {
                continue;
            }
            let mut to = Sessions { slots: &mut self.slots, stats: &mut self.stats };
            self.datagrams.read_tail(index, now, &mut to, self.clock);
            let Some(Some(slot)) = self.slots.get_mut(index) else { continue };
            slot.handle_time(now, &mut self.stats);
            while let Some((track, report)) = slot.session.poll_report(now, &mut self.stats) {
                self.datagrams.send_report(slot, track, &report);
            }
            if let Some(visit) = self.visits.get_mut(index)
                && slot.session.is_calm()
            {
                *visit = now.after(CALM_TICK);
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
        self.stats.is_interrupted |= self.interrupted.load(Ordering::Relaxed);
        let is_over = is_duration_over || self.stats.is_interrupted;
        let has_first_ended = self.full.is_some() && self.stats.ended_by_server > 0;
        if self.stop.is_none() && (is_over || has_first_ended) {
            // Once titles end, the load is not whole any more: the window closes.
            self.stop = Some(self.sample());
        }
        if is_over {
            self.stop_all(now);
        }
        if self.history.is_due(now) {
            let server = self.options.server_pid.and_then(process::cpu_and_memory);
            self.history.push(Sample { server, ..Sample::take(None, self.clock, &self.stats) });
        }
        self.show_progress(now);
        let is_done = (all_started || is_over) && self.slots.iter().all(Option::is_none);
        // Who only publishes does so until the time is over, or it has failed.
        let is_publishing = self.publishing.as_ref().is_some_and(|it| !it.is_over());
        is_done && (is_over || !self.options.titles.is_empty() || !is_publishing)
    }

    /// A film that broke off is a failure, as a session that does.
    fn note_published(&mut self, published: Result<Option<Published>, Failure>) {
        match published {
            Ok(published) => self.stats.published = published,
            Err(failure) => {
                self.stats.failed += 1;
                *self.stats.failures.entry(format!("publishing: {failure}")).or_default() += 1;
            }
        }
    }

    fn stop_all(&mut self, now: Mono) {
        let mut to = Sessions { slots: &mut self.slots, stats: &mut self.stats };
        self.datagrams.read_all(&mut to, self.clock);
        for index in 0..self.slots.len() {
            if let Some(Some(slot)) = self.slots.get_mut(index) {
                slot.session.stop(now, &mut self.stats);
            }
            self.settle(index, now);
        }
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
    fn window(&self, last: Sample) -> (Sample, Sample) {
        match (&self.full, &self.stop) {
            (Some(full), Some(stop)) if stop.at > full.at => (*full, *stop),
            _ => (self.begin, last),
        }
    }
}

/// A descriptor per session at least: take what the system allows.
fn raise_descriptor_limit(sessions: u32) -> Result<(), RunError> {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if allowed < u64::from(sessions) + OTHER_DESCRIPTORS {
        return Err(RunError::Descriptors { sessions, allowed });
    }
    Ok(())
}

impl Sample {
    /// The figures now.
    #[must_use]
    pub fn take(server_pid: Option<u32>, clock: Clock, stats: &Stats) -> Self {
        Self {
            at: clock.now(),
            packets: stats.packets,
            bytes: stats.bytes,
            playing: stats.playing,
            own_cpu: clock.process_cpu(),
            server: server_pid.and_then(process::usage),
        }
    }
}
