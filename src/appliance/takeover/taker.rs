//! The new process: it asks before it opens its ports, and takes in when everything else is made.
//!
//! ```text
//!  ask -> Offer: sockets, titles ..  take: titles open -> Freeze -> records -> shards -> Taken
//!      Claim                         begin: shards go on        confirm: the other one leaves
//! ```
//! Any failure before `Taken` ends this process with a sentence, and the other one goes on. After
//! it nothing can fail but this process as a whole, and then the other one goes on, too: it sees
//! that this one is gone without having begun.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, getrlimit};

use super::super::reload::push_patiently;
use super::door::Door;
use super::giver::tell_until;
use super::inherited::{Inherited, TAKEOVER};
use super::wire::{Wire, WireError};
use super::{
    GONE_MAX, MESSAGE_MAX, PREPARE_MAX, QUIET_MAX, RECORD_MAX, TAKE_MAX, TELL_MAX, within,
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
use crate::takeover::v1::{ShardRecord, TitleRecord};
use crate::takeover::{BEGUN, BEGUN_ELSEWHERE, Hello, Offer, ToNew, ToOld};

/// A takeover that the old process has agreed to.
#[derive(Debug)]
pub(in crate::appliance) struct Claim {
    wire: Wire,
    path: PathBuf,
    titles: Vec<Arc<Adopted>>,
    door: Option<UnixListener>,
    sockets: Inherited,
    old: OldProcess,
}

/// The process that this one takes over from.
#[derive(Debug)]
struct OldProcess {
    pid: u32,
    /// Can be read when it has ended.
    process: Option<OwnedFd>,
    /// Tells it that this process has begun.
    begun: OwnedFd,
}

impl OldProcess {
    /// Whether it is gone for sure, or goes within some time. Its connection alone does not tell
    /// that: it may have closed that, and go on.
    fn is_gone(&self) -> bool {
        let Some(process) = &self.process else { return false };
        let mut polled = [PollFd::new(process, PollFlags::IN)];
        let time = Timespec::try_from(GONE_MAX).unwrap_or_default();
        rustix::event::poll(&mut polled, Some(&time)).is_ok_and(|ready| ready > 0)
    }
}

/// Everything is here, and the other process knows.
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
        let hello = Hello::new(env!("CARGO_PKG_VERSION"), may_end);
        let said = wire.send(&ToOld::Hello(hello), &[], within(MESSAGE_MAX));
        let (offer, mut files) = match wire.receive::<ToNew>(within(2 * MESSAGE_MAX)) {
            Ok((ToNew::Offer(offer), files)) => {
                said.map_err(|error| error.to_string())?;
                (offer, Files::new(files))
            }
            Ok((ToNew::Refused { why }, _)) => return Err(refused(&why)),
            Ok(_) => return Err("the running server answers with something else".to_owned()),
            Err(error) => return Err(format!("the running server does not answer: {error}")),
        };
        let Offer { listeners, pairs, titles, begun, process, pid, .. } = offer;
        let begun = begun.ok_or("the running server does not say how it hears of the begin")?;
        let begun = files.take(begun)?;
        let process = process.map(|process| files.take(process)).transpose()?;
        let old = OldProcess { pid, process, begun };
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
        Ok(Self { wire, path: path.to_owned(), titles, door, sockets, old })
    }

    /// Takes the sockets out that the configuration may ask for.
    pub(in crate::appliance) fn take_sockets(&mut self) -> Inherited {
        std::mem::take(&mut self.sockets)
    }

    /// The socket by which the next program takes over, if it is to be at this path.
    pub(in crate::appliance) fn take_door(&mut self, path: &Path) -> Option<Door> {
        if path != self.path {
            return None;
        }
        self.door.take().map(|listener| Door::inherited(self.path.clone(), listener))
    }

    /// The process that this one takes over from.
    pub(in crate::appliance) fn pid(&self) -> u32 {
        self.old.pid
    }

    /// Takes the sessions in, and tells the other process. `ports` are those of the first pairs of
    /// the shards. `last` is called when everything is here, for what is to be done at the last
    /// moment.
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
        let titles = std::mem::take(&mut self.titles);
        // One that does not open may have no player any more when it counts.
        open(poller, titles, &mut opened, PREPARE_MAX)?;
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
        self.say_taken()?;
        Ok((sessions, Times { frozen_ns, parts_ns }))
    }

    /// The decision. An old process that has ended meanwhile needs not be told.
    fn say_taken(&mut self) -> Result<(), String> {
        let Err(error) = self.wire.send(&ToOld::Taken, &[], within(MESSAGE_MAX)) else {
            return Ok(());
        };
        match self.wire.receive::<ToNew>(within(MESSAGE_MAX)) {
            Ok((ToNew::Refused { why }, _)) => Err(refused(&why)),
            Err(WireError::Ended) if self.old.is_gone() => Ok(()),
            _ => Err(error.to_string()),
        }
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
    /// The shards go on with the sessions.
    ///
    /// # Errors
    /// A shard that hangs: this process must end, so that the other one goes on.
    pub(in crate::appliance) fn begin(self, poller: &Poller<Inbox>) -> Result<Begun, usize> {
        let Times { frozen_ns, parts_ns } = self.times;
        let begin = || TakeoverMessage::Begin { frozen: Mono(frozen_ns) };
        if let Err(shard) = tell_until(poller, begin, within(TELL_MAX)) {
            // Closed by the end of this process alone: some shards may send until then.
            std::mem::forget(self);
            return Err(shard);
        }
        let since_frozen = |ns: u64| Duration::from_nanos(ns.saturating_sub(frozen_ns));
        let (gap, parts) = (since_frozen(monotonic_ns()), parts_ns.map(since_frozen));
        let over = TakenOver { sessions: self.sessions, gap, parts };
        Ok(Begun { claim: self.claim, over })
    }
}

/// This process goes on; the other one waits to hear that.
#[derive(Debug)]
#[must_use]
pub(in crate::appliance) struct Begun {
    claim: Claim,
    over: TakenOver,
}

impl Begun {
    /// Has the other process leave.
    pub(in crate::appliance) fn confirm(self) -> TakenOver {
        let OldProcess { begun, .. } = &self.claim.old;
        // Where the door was not taken nobody listens at its path any more.
        let word = if self.claim.door.is_none() { BEGUN } else { BEGUN_ELSEWHERE };
        // It fails where nobody is left to hear it.
        let _gone = rustix::io::write(begun, &word.to_ne_bytes());
        self.over
    }
}

fn to_open(record: TitleRecord, files: &mut Files) -> Result<Arc<Adopted>, String> {
    let file = File::from(files.take(record.file)?);
    Ok(Arc::new(Adopted { name: record.name, file, wire: WireBase::new(record.wire) }))
}

/// Opens titles on the first shard; those that do not open are left out.
fn open(
    poller: &Poller<Inbox>,
    titles: Vec<Arc<Adopted>>,
    opened: &mut Opened,
    time: Duration,
) -> Result<(), String> {
    let mut keys = Vec::new();
    let mut wanted = Vec::new();
    for title in titles {
        let identity = FileIdentity::of(&title.file).map_err(|error| error.to_string())?;
        let key = (title.name.clone(), identity);
        if !opened.contains_key(&key) && !keys.contains(&key) {
            keys.push(key);
            wanted.push(title);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let (answer, answered) = mpsc::channel();
    let answer: Answer<Vec<Result<Arc<Title>, OpenFailure>>> = Box::new(move |titles| {
        let _nobody_waits = answer.send(titles);
    });
    let message = TakeoverMessage::Open { titles: wanted, answer };
    let first = poller.inbox(ShardId(0)).ok_or_else(|| "there is no shard".to_owned())?;
    let _hangs = push_patiently(first, Message::Takeover(Box::new(message)));
    let titles = answered
        .recv_timeout(time)
        .map_err(|_| "titles that are played did not open in time".to_owned())?;
    for (key, title) in keys.into_iter().zip(titles) {
        match title {
            Ok(title) => drop(opened.insert(key, title)),
            Err(failure) => {
                let name = key.0.as_deref().unwrap_or("the clip");
                tracing::warn!(code = "HE-W413", name, ?failure, "a title did not open");
            }
        }
    }
    Ok(())
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
    let keys: Vec<Key> = titles
        .iter()
        .map(|title| Ok((title.name.clone(), FileIdentity::of(&title.file)?)))
        .collect::<std::io::Result<_>>()
        .map_err(|error| error.to_string())?;
    open(poller, titles, opened, TAKE_MAX)?;
    let titles: Option<Vec<Arc<Title>>> =
        keys.iter().map(|key| opened.get(key).map(Arc::clone)).collect();
    let titles = titles.ok_or("a title that is played does not open here")?.into();
    shares.add(record, &mut files, &titles)
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
