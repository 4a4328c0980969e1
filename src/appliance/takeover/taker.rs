//! The new process: it asks before it opens its ports, and takes in when everything else is made.
//!
//! ```text
//!  ask -> Offer: sockets, titles ..  take: titles open -> Freeze -> records -> shards -> the right
//!                                               `-- or Without, if their players may end
//!      Claim                         begin: shards go on -> Taken       serves: the other one ends
//! ```
//! Any failure before this process has the right ends it with a sentence, and the other one goes
//! on. After it nothing can fail but this process as a whole, and then nobody serves: the other one
//! cannot know what was sent.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, Resource, getpid, getrlimit, pidfd_open};

use super::super::reload::push_patiently;
use super::door::{Door, are_one};
use super::giver::tell_until;
use super::inherited::{Inherited, TAKEOVER};
use super::right::Right;
use super::wire::{Wire, WireError};
use super::{
    MESSAGE_MAX, PREPARE_MAX, QUIET_MAX, RECORD_MAX, SERVES_MAX, TAKE_MAX, TELL_MAX, within,
};
use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::library::title::{Adopted, FileIdentity, Title};
use crate::poll::poller::Poller;
use crate::poll::task::OpenFailure;
use crate::rtp::WireBase;
use crate::shard::inbox::{Inbox, Message};
use crate::shard::sockets::UdpPair;
use crate::shard::takeover::paths::Paths;
use crate::shard::takeover::shares::{Files, Shares};
use crate::shard::takeover::{Answer, Taken, TakeoverMessage};
use crate::takeover::v1::{Fd, ShardRecord, TitleRecord};
use crate::takeover::{Hello, Offer, ToNew, ToOld, WITHOUT_MAX};

/// A takeover that the old process has agreed to.
#[derive(Debug)]
pub(in crate::appliance) struct Claim {
    wire: Wire,
    path: PathBuf,
    /// Sessions that cannot be handed over may end.
    may_end: bool,
    titles: Vec<Arc<Adopted>>,
    door: Option<UnixListener>,
    sockets: Inherited,
    right: Right,
    /// The other process; none: its system has no such thing.
    process: Option<OwnedFd>,
}

/// Everything is here, and the right to go on.
#[derive(Debug)]
#[must_use]
pub(in crate::appliance) struct HandedOver {
    claim: Claim,
    sessions: usize,
    times: Times,
}

/// When it was frozen, received, read, and taken in: of the clock of the records.
#[derive(Debug, Clone, Copy)]
struct Times {
    frozen_ns: u64,
    parts_ns: [u64; 3],
}

/// What was taken over.
#[derive(Debug, Clone, Copy)]
pub(in crate::appliance) struct TakenOver {
    /// Number of sessions.
    pub(in crate::appliance) sessions: usize,
    /// How long nothing was sent.
    pub(in crate::appliance) gap: Duration,
    /// Of this: until everything had come here, until it was read, until shards had it.
    pub(in crate::appliance) parts: [Duration; 3],
}

impl TakenOver {
    pub(in crate::appliance) fn log(&self) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (sessions, gap_ms) = (self.sessions, ms(self.gap));
        let [received_ms, read_ms, taken_in_ms] = self.parts.map(ms);
        tracing::info!(
            code = "HE-I413",
            sessions,
            gap_ms,
            received_ms,
            read_ms,
            taken_in_ms,
            "the server is taken over"
        );
    }
}

type Key = (Option<String>, FileIdentity);
type Opened = HashMap<Key, Arc<Title>>;

impl Claim {
    /// Asks the server at `path`.
    ///
    /// # Errors
    /// A sentence: nobody is there, or it refuses.
    pub(in crate::appliance) fn ask(path: &Path, may_end: bool) -> Result<Self, String> {
        let stream = UnixStream::connect(path).map_err(|error| {
            format!(
                "no server to take over from at {}: {error}; start without --takeover, or name its \
                 socket by --takeover-at",
                path.display()
            )
        })?;
        Self::of(stream, path, may_end)
    }

    /// Asks at a connection.
    pub(super) fn of(stream: UnixStream, path: &Path, may_end: bool) -> Result<Self, String> {
        let mut wire = Wire::new(stream);
        let own = pidfd_open(getpid(), PidfdFlags::empty()).ok();
        let process = own.is_some().then_some(Fd(0));
        let hello = Hello { process, ..Hello::new(env!("CARGO_PKG_VERSION"), may_end) };
        let files: Vec<BorrowedFd<'_>> = own.iter().map(|file| file.as_fd()).collect();
        let said = wire.send(&ToOld::Hello(hello), &files, within(MESSAGE_MAX));
        let (offer, mut files) = match wire.receive::<ToNew>(within(2 * MESSAGE_MAX)) {
            Ok((ToNew::Offer(offer), files)) => {
                said.map_err(|error| error.to_string())?;
                (offer, Files::new(files))
            }
            Ok((ToNew::Refused { why }, _)) => return Err(refused(&why)),
            Ok(_) => return Err("the running server answers with something else".to_owned()),
            Err(error) => return Err(format!("the running server does not answer: {error}")),
        };
        let Offer { listeners, pairs, titles, right, process, .. } = offer;
        let right = Right::of(files.take(right)?);
        let process = process.map(|process| files.take(process)).transpose()?;
        let mut sockets = Inherited::default();
        let mut door = None;
        for one in listeners {
            match one.addr {
                None if one.speaks == TAKEOVER => {
                    door = Some(UnixListener::from(files.take(one.socket)?));
                }
                Some(addr) => {
                    let socket = files.take(one.socket)?;
                    sockets.listeners.push((one.speaks, addr, socket));
                }
                None => {}
            }
        }
        for pair in pairs {
            let (rtp, rtcp) = (files.take(pair.rtp)?, files.take(pair.rtcp)?);
            sockets.pairs.push((pair.shard, UdpPair { rtp, rtcp, rtp_port: pair.rtp_port }));
        }
        let titles = titles.into_iter().map(|title| to_open(title, &mut files));
        let titles = titles.collect::<Result<_, _>>()?;
        Ok(Self { wire, path: path.to_owned(), may_end, titles, door, sockets, right, process })
    }

    /// Takes the sockets out that the configuration may ask for.
    pub(in crate::appliance) fn take_sockets(&mut self) -> Inherited {
        std::mem::take(&mut self.sockets)
    }

    /// The socket by which the next program takes over, if it is to be at this path.
    pub(in crate::appliance) fn take_door(&mut self, path: &Path) -> Option<Door> {
        if !are_one(path, &self.path) {
            return None;
        }
        self.door.take().map(|listener| Door::inherited(path.to_owned(), listener))
    }

    /// Number here of the process that this one takes over from, of which the kernel knows;
    /// `None`: it has none, as one in another container, whose own number is that of somebody else
    /// here.
    pub(in crate::appliance) fn pid(&self) -> Option<u32> {
        let process = self.process.as_ref()?.as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{process}")).ok()?;
        let number = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        number.trim().parse().ok().filter(|pid| *pid > 0)
    }

    /// Looks whether the other process is still there, or waits for this one no more: the ports
    /// that it has offered are then for the next server that is started.
    ///
    /// # Errors
    /// A sentence.
    pub(in crate::appliance) fn check(&mut self) -> Result<(), String> {
        if self.wire.is_closed() { Err(self.refusal()) } else { Ok(()) }
    }

    /// Why the other process goes on, or that it is gone.
    fn refusal(&mut self) -> String {
        match self.wire.receive::<ToNew>(within(MESSAGE_MAX)) {
            Ok((ToNew::Refused { why }, _)) => refused(&why),
            Ok(_) => "the running server goes on".to_owned(),
            Err(WireError::Ended) => "the running server has ended".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Takes the sessions in, and the right to go on. `ports` are those of the first pairs of the
    /// shards. `last` is called when everything is here, for what is to be done at the last moment.
    ///
    /// # Errors
    /// A sentence: the old process goes on.
    pub(in crate::appliance) fn take(
        mut self,
        poller: &Poller<Inbox>,
        ports: &[u16],
        last: impl FnOnce() -> Result<(), String>,
    ) -> Result<HandedOver, String> {
        match self.take_over(poller, ports, last) {
            Ok((sessions, times)) => Ok(HandedOver { claim: self, sessions, times }),
            Err(why) => {
                let refused = ToOld::Refused { why: why.clone() };
                let _gone = self.wire.send(&refused, &[], within(MESSAGE_MAX));
                Err(why)
            }
        }
    }

    fn take_over(
        &mut self,
        poller: &Poller<Inbox>,
        ports: &[u16],
        last: impl FnOnce() -> Result<(), String>,
    ) -> Result<(usize, Times), String> {
        let mut opened = Opened::new();
        self.open_offered(poller, &mut opened)?;
        let asked = self.wire.send(&ToOld::Freeze, &[], within(MESSAGE_MAX));
        asked.map_err(|error| error.to_string())?;
        let records = self.records()?;
        let frozen_ns = records.iter().map(|(record, _)| record.frozen_ns).min().unwrap_or(0);
        let received_ns = monotonic_ns();
        let (mut shares, mut paths) = (Shares::new(ports), Paths::default());
        for (mut record, files) in records {
            record.check()?;
            let mut files = Files::new(files);
            paths.add(&mut record, &mut files)?;
            add(poller, record, files, (&mut opened, &mut shares))?;
        }
        let read_ns = monotonic_ns();
        let sessions = take_in(paths.share(shares.finish())?, poller)?;
        let parts_ns = [received_ns, read_ns, monotonic_ns()];
        last()?;
        // The decision.
        match self.right.take() {
            true => Ok((sessions, Times { frozen_ns, parts_ns })),
            false => Err(self.refusal()),
        }
    }

    /// Opens the titles of the offer, before anything has moved. Players of those that do not open
    /// end, if they may.
    fn open_offered(&mut self, poller: &Poller<Inbox>, opened: &mut Opened) -> Result<(), String> {
        let titles = std::mem::take(&mut self.titles);
        let keys = keys_of(&titles)?;
        let failed = open(poller, titles, opened, PREPARE_MAX, || self.check())?;
        let Some(first) = failed.first() else { return Ok(()) };
        let count = failed.len();
        if !self.may_end || count > WITHOUT_MAX {
            return Err(format!(
                "{count} titles that are played do not open in this program, the first of them is \
                 {}; --takeover=drop ends their players, {WITHOUT_MAX} titles at most",
                unopened(first)
            ));
        }
        let without = (0..).zip(&keys).filter(|(_, key)| !opened.contains_key(key));
        let titles = without.map(|(place, _)| place).take(WITHOUT_MAX).collect();
        let said = self.wire.send(&ToOld::Without { titles }, &[], within(MESSAGE_MAX));
        said.map_err(|error| error.to_string())
    }

    /// What all shards have told.
    fn records(&mut self) -> Result<Vec<(ShardRecord, Vec<OwnedFd>)>, String> {
        let until = within(QUIET_MAX + RECORD_MAX + TAKE_MAX);
        let mut records = Vec::new();
        // Bounded by the number of shards of the other process.
        while records.len() <= usize::from(u8::MAX) {
            match self.wire.receive::<ToNew>(until) {
                Ok((ToNew::Shard(record), files)) => records.push((*record, files)),
                Ok((ToNew::Frozen, _)) => return Ok(records),
                Ok((ToNew::Refused { why }, _)) => return Err(refused(&why)),
                Ok((ToNew::Offer(_), _)) => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("the running server sends something that cannot be".to_owned())
    }
}

impl HandedOver {
    /// The shards go on with the sessions, and the other process hears that.
    ///
    /// # Errors
    /// A shard that hangs: this process must end, and nobody serves.
    pub(in crate::appliance) fn begin(mut self, poller: &Poller<Inbox>) -> Result<Begun, usize> {
        let Times { frozen_ns, parts_ns } = self.times;
        let begin = || TakeoverMessage::Begin { frozen: Mono(frozen_ns) };
        tell_until(poller, begin, within(TELL_MAX))?;
        // Where this is not heard the other process finds that the right is gone.
        let _unheard = self.claim.wire.send(&ToOld::Taken, &[], within(MESSAGE_MAX));
        let since_frozen = |ns: u64| Duration::from_nanos(ns.saturating_sub(frozen_ns));
        let (gap, parts) = (since_frozen(monotonic_ns()), parts_ns.map(since_frozen));
        let over = TakenOver { sessions: self.sessions, gap, parts };
        Ok(Begun { claim: self.claim, over })
    }
}

/// This process goes on; the other one sends nothing any more, and waits to hear that it may end.
#[derive(Debug)]
#[must_use]
pub(in crate::appliance) struct Begun {
    claim: Claim,
    over: TakenOver,
}

impl Begun {
    /// What was taken over.
    pub(in crate::appliance) fn over(&self) -> TakenOver {
        self.over
    }

    /// The service manager knows that this process serves: the other one may end.
    pub(in crate::appliance) fn serves(mut self) -> Ending {
        // Where the door was not taken nobody listens at its path any more.
        let serves = ToOld::Serves { has_socket: self.claim.door.is_none() };
        // It fails where nobody is left to hear it.
        let _gone = self.claim.wire.send(&serves, &[], within(MESSAGE_MAX));
        Ending(self.claim.wire)
    }
}

/// The other process, which has heard that it may end, and tells the service manager, too.
#[derive(Debug)]
pub(in crate::appliance) struct Ending(Wire);

impl Ending {
    /// Waits until the other process has told everything.
    pub(in crate::appliance) fn wait(self) {
        while !self.0.is_closed_within(SERVES_MAX) {}
    }
}

fn to_open(record: TitleRecord, files: &mut Files) -> Result<Arc<Adopted>, String> {
    let file = File::from(files.take(record.file)?);
    Ok(Arc::new(Adopted { name: record.name, file, wire: WireBase::new(record.wire) }))
}

fn keys_of(titles: &[Arc<Adopted>]) -> Result<Vec<Key>, String> {
    let key = |title: &Arc<Adopted>| Ok((title.name.clone(), FileIdentity::of(&title.file)?));
    titles.iter().map(key).collect::<std::io::Result<_>>().map_err(|error| error.to_string())
}

/// A title that does not open, with the reason.
fn unopened((name, failure): &(Option<String>, OpenFailure)) -> String {
    format!("{} ({failure})", name.as_deref().unwrap_or("the clip"))
}

/// Opens titles on the first shard. Returns those that do not open, by their names. `check` is
/// called now and then, and its error ends that.
fn open(
    poller: &Poller<Inbox>,
    titles: Vec<Arc<Adopted>>,
    opened: &mut Opened,
    time: Duration,
    mut check: impl FnMut() -> Result<(), String>,
) -> Result<Vec<(Option<String>, OpenFailure)>, String> {
    let (mut keys, mut seen) = (Vec::new(), HashSet::new());
    let mut wanted = Vec::new();
    for (key, title) in keys_of(&titles)?.into_iter().zip(titles) {
        if !opened.contains_key(&key) && seen.insert(key.clone()) {
            keys.push(key);
            wanted.push(title);
        }
    }
    let mut failed = Vec::new();
    if wanted.is_empty() {
        return Ok(failed);
    }
    let (answer, answered) = mpsc::channel();
    let answer: Answer<Vec<Result<Arc<Title>, OpenFailure>>> = Box::new(move |titles| {
        let _nobody_waits = answer.send(titles);
    });
    let message = TakeoverMessage::Open { titles: wanted, answer };
    let first = poller.inbox(ShardId(0)).ok_or_else(|| "there is no shard".to_owned())?;
    let _hangs = push_patiently(first, Message::Takeover(Box::new(message)));
    let until = within(time);
    let titles = loop {
        match answered.recv_timeout(CHECK_STEP) {
            Ok(titles) => break titles,
            Err(RecvTimeoutError::Timeout) if Instant::now() < until => check()?,
            Err(_) => return Err("titles that are played did not open in time".to_owned()),
        }
    };
    for (key, title) in keys.into_iter().zip(titles) {
        match title {
            Ok(title) => drop(opened.insert(key, title)),
            Err(failure) => {
                let name = key.0.as_deref().unwrap_or("the clip");
                tracing::warn!(code = "HE-W413", name, %failure, "a title did not open");
                failed.push((key.0, failure));
            }
        }
    }
    Ok(failed)
}

/// Adds what a shard has told, when the titles that were opened since the offer are open, too.
fn add(
    poller: &Poller<Inbox>,
    record: ShardRecord,
    mut files: Files,
    (opened, shares): (&mut Opened, &mut Shares),
) -> Result<(), String> {
    let titles = record.titles.iter().map(|title| to_open(title.clone(), &mut files));
    let titles: Vec<Arc<Adopted>> = titles.collect::<Result<_, _>>()?;
    let keys = keys_of(&titles)?;
    // Whatever becomes of the other process: it has told everything soon.
    if let Some(first) = open(poller, titles, opened, TAKE_MAX, || Ok(()))?.first() {
        return Err(format!(
            "a title that has been played for some moments does not open in this program: {}; try \
             again",
            unopened(first)
        ));
    }
    let titles: Vec<Arc<Title>> = keys.iter().filter_map(|key| opened.get(key).cloned()).collect();
    shares.add(record, &mut files, &titles.into())
}

/// Has the shards take in what is theirs; returns the number of sessions.
fn take_in(shares: Vec<Taken>, poller: &Poller<Inbox>) -> Result<usize, String> {
    let answers: Vec<mpsc::Receiver<Result<usize, String>>> = poller
        .inboxes()
        .zip(shares)
        .map(|(inbox, taken)| {
            let (answer, answered) = mpsc::channel();
            let answer: Answer<Result<usize, String>> = Box::new(move |result| {
                let _nobody_waits = answer.send(result);
            });
            let message = TakeoverMessage::Take { taken, answer };
            let _hangs = push_patiently(inbox, Message::Takeover(Box::new(message)));
            answered
        })
        .collect();
    let until = within(TAKE_MAX);
    let mut sessions = 0;
    for answered in answers {
        let left = until.saturating_duration_since(Instant::now());
        let result = answered.recv_timeout(left);
        sessions += result.map_err(|_| "a shard did not answer in time".to_owned())??;
    }
    Ok(sessions)
}

/// Has the kernel make this process's table of descriptors as large as it may become. A table that
/// grows under a process with threads waits for all CPUs (`synchronize_rcu`), some ten milliseconds
/// each time, and sockets come while nothing is sent. Called before the first thread.
pub(super) fn make_room_for_descriptors(count: usize) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let highest = u64::try_from(count).unwrap_or(u64::MAX).min(limit.saturating_sub(1));
    let Ok(highest) = i32::try_from(highest) else { return };
    // A descriptor that is there, once more with this number or a higher one. It is closed at once,
    // and the table stays. Where it cannot be had, the takeover takes longer.
    let _closed = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), highest);
}

/// The clock of the records.
fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let ns = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    u64::try_from(ns).unwrap_or(0)
}

fn refused(why: &str) -> String {
    format!("the running server refuses: {why}")
}

/// Between two looks at the other process.
const CHECK_STEP: Duration = Duration::from_millis(50);
