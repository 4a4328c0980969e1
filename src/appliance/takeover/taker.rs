//! The new process: it asks before it opens its ports, and takes in when everything else is made.
//!
//! ```text
//!  ask -> Offer: sockets, titles ..  finish: titles open -> Freeze -> records -> shards -> Taken
//! ```
//! Any failure ends this process with a sentence, and the other one goes on.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::super::reload::push_patiently;
use super::door::Door;
use super::inherited::{Inherited, TAKEOVER};
use super::live::Paths;
use super::wire::{Wire, WireError};
use super::{MESSAGE_MAX, PREPARE_MAX, QUIET_MAX, RECORD_MAX, TAKE_MAX, TakeoverAsk};
use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::library::title::{Adopted, FileIdentity, Title};
use crate::poll::poller::Poller;
use crate::poll::task::OpenFailure;
use crate::rtp::WireBase;
use crate::shard::inbox::{Inbox, Message};
use crate::shard::sockets::UdpPair;
use crate::shard::takeover::shares::{Files, Shares};
use crate::shard::takeover::{Answer, Taken, TakeoverMessage};
use crate::takeover::v1::{ShardRecord, TitleRecord};
use crate::takeover::{Hello, Offer, ToNew, ToOld};

/// A takeover that the old process has agreed to.
#[derive(Debug)]
pub(in crate::appliance) struct Claim {
    wire: Wire,
    path: PathBuf,
    titles: Vec<Arc<Adopted>>,
    door: Option<UnixListener>,
    sockets: Inherited,
}

/// What was taken over.
#[derive(Debug, Clone, Copy)]
pub(in crate::appliance) struct TakenOver {
    /// Number of sessions.
    pub(in crate::appliance) sessions: usize,
    /// How long nothing was sent.
    pub(in crate::appliance) gap: Duration,
    /// The last part of it: everything had been received.
    pub(in crate::appliance) taken_in: Duration,
}

impl TakenOver {
    pub(in crate::appliance) fn log(&self) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (sessions, gap_ms, taken_in_ms) = (self.sessions, ms(self.gap), ms(self.taken_in));
        tracing::info!(code = "HE-I413", sessions, gap_ms, taken_in_ms, "the server is taken over");
    }
}

type Key = (Option<String>, FileIdentity);
type Opened = HashMap<Key, Arc<Title>>;

impl Claim {
    /// Asks the server at `path`.
    ///
    /// # Errors
    /// A sentence: nobody is there, or it refuses.
    pub(in crate::appliance) fn ask(path: &Path, how: TakeoverAsk) -> Result<Self, String> {
        let stream = UnixStream::connect(path).map_err(|error| {
            format!(
                "no server to take over from at {}: {error}; start without --takeover",
                path.display()
            )
        })?;
        let mut wire = Wire::new(stream);
        let hello = Hello::new(env!("CARGO_PKG_VERSION"), how == TakeoverAsk::Drop);
        let said = wire.send(&ToOld::Hello(hello), &[], MESSAGE_MAX);
        let (offer, mut files) = match wire.receive::<ToNew>(2 * MESSAGE_MAX) {
            Ok((ToNew::Offer(offer), files)) => {
                said.map_err(|error| error.to_string())?;
                (offer, Files::new(files))
            }
            Ok((ToNew::Refused { why }, _)) => return Err(refused(&why)),
            Ok(_) => return Err("the running server answers with something else".to_owned()),
            Err(error) => return Err(format!("the running server does not answer: {error}")),
        };
        let Offer { listeners, pairs, titles, .. } = offer;
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
        Ok(Self { wire, path: path.to_owned(), titles, door, sockets })
    }

    /// Takes the sockets out that the configuration may ask for.
    pub(in crate::appliance) fn take_sockets(&mut self) -> Inherited {
        std::mem::take(&mut self.sockets)
    }

    /// The socket by which the next program takes over.
    pub(in crate::appliance) fn take_door(&mut self) -> Option<Door> {
        self.door.take().map(|listener| Door::inherited(self.path.clone(), listener))
    }

    /// Takes the sessions in and goes on with them. `ports` are those of the first pairs of the
    /// shards.
    ///
    /// # Errors
    /// A sentence: the old process goes on.
    pub(in crate::appliance) fn finish(
        mut self,
        poller: &Poller<Inbox>,
        ports: &[u16],
    ) -> Result<TakenOver, String> {
        let result = self.take_over(poller, ports);
        if let Err(why) = &result {
            let _gone = self.wire.send(&ToOld::Refused { why: why.clone() }, &[], MESSAGE_MAX);
        }
        result
    }

    fn take_over(&mut self, poller: &Poller<Inbox>, ports: &[u16]) -> Result<TakenOver, String> {
        let mut opened = Opened::new();
        let titles = std::mem::take(&mut self.titles);
        // One that does not open may have no player any more when it counts.
        open(poller, titles, &mut opened, PREPARE_MAX)?;
        self.wire.send(&ToOld::Freeze, &[], MESSAGE_MAX).map_err(|error| error.to_string())?;
        let records = self.records()?;
        let frozen_ns = records.iter().map(|(record, _)| record.frozen_ns).min().unwrap_or(0);
        let (mut shares, mut paths) = (Shares::new(ports), Paths::default());
        for (mut record, files) in records {
            let mut files = Files::new(files);
            paths.add(&mut record, &mut files)?;
            add(poller, record, files, (&mut opened, &mut shares))?;
        }
        let received_ns = monotonic_ns();
        let sessions = take_in(paths.share(shares.finish())?, poller)?;
        if let Err(error) = self.wire.send(&ToOld::Taken, &[], MESSAGE_MAX) {
            return Err(match self.wire.receive::<ToNew>(MESSAGE_MAX) {
                Ok((ToNew::Refused { why }, _)) => refused(&why),
                _ => error.to_string(),
            });
        }
        for inbox in poller.inboxes() {
            let frozen = Mono(frozen_ns);
            let begin = Message::Takeover(Box::new(TakeoverMessage::Begin { frozen }));
            let _hangs = push_patiently(inbox, begin);
        }
        let now_ns = monotonic_ns();
        let since = |ns: u64| Duration::from_nanos(now_ns.saturating_sub(ns));
        Ok(TakenOver { sessions, gap: since(frozen_ns), taken_in: since(received_ns) })
    }

    /// What all shards have told.
    fn records(&mut self) -> Result<Vec<(ShardRecord, Vec<OwnedFd>)>, String> {
        let until = Instant::now() + QUIET_MAX + RECORD_MAX + TAKE_MAX;
        let mut records = Vec::new();
        // Bounded by the number of shards of the other process.
        while records.len() <= usize::from(u8::MAX) {
            let left = until.saturating_duration_since(Instant::now());
            match self.wire.receive::<ToNew>(left) {
                Ok((ToNew::Shard(record), files)) => records.push((*record, files)),
                Ok((ToNew::Frozen, _)) => return Ok(records),
                Ok((ToNew::Refused { why }, _)) => return Err(refused(&why)),
                Ok((ToNew::Offer(_), _)) => break,
                Err(error @ (WireError::Ended | WireError::Late)) => return Err(error.to_string()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("the running server sends something that cannot be".to_owned())
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
    within: Duration,
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
        .recv_timeout(within)
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
    let until = Instant::now() + TAKE_MAX;
    let mut sessions = 0;
    for answered in answers {
        let left = until.saturating_duration_since(Instant::now());
        let result = answered.recv_timeout(left);
        sessions += result.map_err(|_| "a shard did not answer in time".to_owned())??;
    }
    Ok(sessions)
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
