//! The old process: a thread that waits for a program that takes over, and hands over to it.
//!
//! ```text
//!  accept -> who is it -> Hello -> Offer -> Freeze -> quiet, record -> Taken -> Leave -> Serves
//!                                     `-- refused, late, gone: Resume, the next one
//! ```
//! Invariant: shards that were made quiet go on if this process has the right ([`Right`]), and
//! leave if the other one has it, whatever happens to this thread ([`Held`]).

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{PidfdFlags, geteuid, getpid, pidfd_open};
use tokio::sync::watch;

use super::super::end::End;
use super::super::hls::browsers;
use super::super::manager;
use super::super::opening::Opening;
use super::super::reload::push_patiently;
use super::door::Door;
use super::inherited::{ADMIN, HLS, TAKEOVER, WEBRTC, spelled};
use super::parting::Parting;
use super::right::Right;
use super::wire::{Peer, Wire, WireError};
use super::{
    MESSAGE_MAX, PREPARE_MAX, QUIET_MAX, RECORD_MAX, SERVES_MAX, TAKE_MAX, TELL_MAX, within,
};
use crate::appliance::listen::Sockets;
use crate::consumers::takeover::LeftBehind;
use crate::library::title::Title;
use crate::poll::poller::Poller;
use crate::shard::inbox::{Inbox, Message};
use crate::shard::sockets::{UdpPair, local_addr};
use crate::shard::takeover::{Answer, Given, SETTLING, TakeoverMessage};
use crate::takeover::v1::{Fd, PairRecord, TitleRecord};
use crate::takeover::{Hello, Offer, Offered, ToNew, ToOld};

/// What every takeover is offered: duplicates of the listening sockets.
#[derive(Debug, Default)]
pub(in crate::appliance) struct Kept {
    listeners: Vec<(&'static str, SocketAddr, OwnedFd)>,
    /// By which another process sees whether this one is there; none: the system has no such thing.
    process: Option<OwnedFd>,
    /// Counts viewers by WebRTC, which no shard knows.
    pub(super) browsers: Option<fn() -> u64>,
}

impl Kept {
    /// Duplicates the sockets.
    pub(in crate::appliance) fn of(sockets: &Sockets) -> std::io::Result<Self> {
        // Now: a server that runs may not ask for it.
        let process = pidfd_open(getpid(), PidfdFlags::empty()).ok();
        let mut kept = Self { process, browsers: Some(browsers), ..Self::default() };
        for shard in &sockets.shards {
            for (speaks, listener) in &shard.listeners {
                let addr = local_addr(listener)?;
                kept.listeners.push((spelled(*speaks), addr, listener.try_clone()?));
            }
        }
        let (hls, _) = &sockets.hls;
        for (speaks, listener) in
            std::iter::once((ADMIN, &sockets.admin)).chain(hls.iter().map(|one| (HLS, one)))
        {
            kept.listeners.push((speaks, listener.local_addr()?, listener.try_clone()?.into()));
        }
        for socket in &sockets.webrtc {
            kept.listeners.push((WEBRTC, socket.local_addr()?, socket.try_clone()?.into()));
        }
        Ok(kept)
    }
}

/// What hands over.
pub(in crate::appliance) struct Giver {
    pub(in crate::appliance) door: Door,
    pub(in crate::appliance) kept: Kept,
    pub(in crate::appliance) poller: Arc<Poller<Inbox>>,
    /// Ends the control thread and HLS.
    pub(in crate::appliance) stop: watch::Sender<bool>,
    pub(in crate::appliance) end: End,
    pub(in crate::appliance) opening: Opening,
    pub(super) parting: Parting,
}

/// What became of a takeover.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// The other process serves.
    Left,
    /// It has had the right to go on, and has ended before it served: nobody serves.
    Abandoned,
    /// This one goes on.
    Resumed(String),
}

/// Which process goes on.
enum Decided {
    /// This one, for this reason.
    GoesOn(String),
    /// The other one.
    Leaves,
}

/// Shards that were made quiet. At the end of this they go on if the right is still here, which is
/// taken then, and leave if the other process has it.
pub(super) struct Held<'a> {
    giver: &'a Giver,
    right: &'a Right,
    goes_on: Option<bool>,
    are_told: bool,
}

impl<'a> Held<'a> {
    pub(super) fn new(giver: &'a Giver, right: &'a Right) -> Self {
        Self { giver, right, goes_on: None, are_told: false }
    }

    /// Decides, and tells the shards what can be told soon. True: this process goes on.
    pub(super) fn end(&mut self) -> bool {
        let goes_on = *self.goes_on.get_or_insert_with(|| self.right.take());
        if !self.are_told {
            self.are_told = if goes_on { self.giver.resume() } else { self.giver.leave() };
        }
        goes_on
    }
}

impl Drop for Held<'_> {
    /// Shards that do not hear that they go on are told again and again. One that has ended does
    /// not hear it, and then the process ends. To hear it twice changes nothing.
    fn drop(&mut self) {
        self.end();
        let mut is_logged = false;
        while !self.are_told {
            if !std::mem::replace(&mut is_logged, true) {
                tracing::error!(code = "HE-E415", "a shard does not read its inbox");
            }
            self.end();
        }
    }
}

/// The new process, as the old one sees it.
struct Other {
    wire: Wire,
    /// Its number here; 0: it has none.
    pid: i32,
    /// By which its end is seen, even where the connection has ended before; none: its system has
    /// no such thing.
    process: Option<OwnedFd>,
}

/// Has the process end, whatever becomes of the thread that waits for the other one.
struct Finishing<'a> {
    giver: &'a Giver,
    is_served: bool,
}

impl Drop for Finishing<'_> {
    fn drop(&mut self) {
        self.giver.finish(self.is_served);
    }
}

impl Giver {
    /// Starts the thread, which ends with the process or when another one has taken over.
    pub(in crate::appliance) fn start(self) -> std::io::Result<()> {
        thread::Builder::new().name("takeover".to_owned()).spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        self.opening.wait();
        let (mut has_failed, mut heeds_signals) = (false, false);
        loop {
            let wire = match self.door.accept() {
                Ok(wire) => wire,
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        let fix = "it is tried again each second";
                        tracing::warn!(
                            code = "HE-W410", %error, fix,
                            "no program can take over at the moment"
                        );
                    }
                    thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            has_failed = false;
            if !std::mem::replace(&mut heeds_signals, true) {
                self.parting.heed_signals();
            }
            match self.serve(wire) {
                Became::Left | Became::Abandoned => return,
                Became::Resumed(why) => {
                    tracing::warn!(code = "HE-W411", why, "a takeover did not take place");
                }
            }
        }
    }

    /// Hands over to a process that has connected, if all goes well.
    pub(super) fn serve(&self, wire: Wire) -> Became {
        let mut other = Other { wire, pid: 0, process: None };
        let decided = catch_unwind(AssertUnwindSafe(|| self.decide(&mut other)));
        match decided.unwrap_or_else(|_panic| self.after_panic()) {
            Decided::GoesOn(why) => Became::Resumed(why),
            Decided::Leaves => self.part(other),
        }
    }

    /// Everything until one of the two processes has the right to go on.
    fn decide(&self, other: &mut Other) -> Decided {
        let Other { wire, pid: number, process } = other;
        let peer = match wire.peer() {
            Ok(peer) => peer,
            Err(error) => return refuse(wire, error.to_string()),
        };
        let (Peer { user, pid }, own) = (peer, geteuid().as_raw());
        *number = pid;
        if user != own && user != 0 {
            let why = format!("user {user} may not take over from user {own}");
            return refuse(wire, why);
        }
        if let Some(why) = manager::keeps(pid > 0) {
            return refuse(wire, why);
        }
        if !self.parting.is_known(MESSAGE_MAX) {
            let why = "the running server has begun just now, and its service manager, or the \
                       server before it, does not know that yet; its log may say why";
            return refuse(wire, why.to_owned());
        }
        let hello = match wire.receive::<ToOld>(within(MESSAGE_MAX)) {
            Ok((ToOld::Hello(hello), files)) => {
                *process = hello.process.and_then(|_| files.into_iter().next());
                hello
            }
            Ok(_) => return refuse(wire, "it did not say hello".to_owned()),
            Err(error) => return refuse(wire, error.to_string()),
        };
        tracing::info!(code = "HE-I411", pid, program = hello.program, "a program takes over");
        let right = match Right::new() {
            Ok(right) => right,
            Err(error) => return refuse(wire, error.to_string()),
        };
        let titles = match self.offer(wire, &hello, right.as_fd()) {
            Ok(titles) => titles,
            Err(why) => return refuse(wire, why),
        };
        let until = within(PREPARE_MAX);
        let mut said = wire.receive::<ToOld>(until);
        let mut without: Vec<Arc<Title>> = Vec::new();
        if let Ok((ToOld::Without { titles: places }, _)) = &said {
            let title = |place: &u32| titles.get(*place as usize).map(Arc::clone);
            without = places.iter().filter_map(title).collect();
            said = wire.receive::<ToOld>(until);
        }
        drop(titles);
        match said {
            Ok((ToOld::Freeze, _)) => {}
            Ok((ToOld::Refused { why }, _)) => return Decided::GoesOn(why),
            Ok(_) => return refuse(wire, "it did not say what was due".to_owned()),
            Err(error) => return refuse(wire, error.to_string()),
        }
        let mut held = Held::new(self, &right);
        let given = self.give(wire, hello.may_end, without.into());
        if held.end() {
            // Not said before: the other one may look at what is served here.
            let has_not = "it said that it goes on, and had not taken the right to";
            return refuse(wire, given.err().unwrap_or_else(|| has_not.to_owned()));
        }
        Decided::Leaves
    }

    /// The other process has the right: this one is there until that serves, or is gone.
    fn part(&self, mut other: Other) -> Became {
        let mut finishing = Finishing { giver: self, is_served: false };
        let pid = other.pid;
        tracing::info!(code = "HE-I412", pid, "the server is that program's now: the end");
        let served = other.await_serves();
        if served == Some(true) {
            self.door.hand_over();
        }
        if served.is_some() {
            // A manager may hear its main process alone, which is this one so far. One that has
            // heard the other one has nothing to change.
            let _told_already = manager::is_followed_by(pid);
        }
        finishing.is_served = served.is_some();
        if finishing.is_served { Became::Left } else { Became::Abandoned }
    }

    /// A fault of the program has ended a takeover, and its shards have been told what is right.
    fn after_panic(&self) -> Decided {
        match self.parting.has_begun() {
            true => Decided::Leaves,
            false => Decided::GoesOn("a fault of the program has ended it".to_owned()),
        }
    }

    /// Returns whether all shards have heard it.
    fn resume(&self) -> bool {
        self.opening.go_on();
        tell_until(&self.poller, || TakeoverMessage::Resume, within(RESUME_MAX)).is_ok()
    }

    /// Nothing that goes along is sent by this process any more. It ends by [`Giver::finish`].
    fn leave(&self) -> bool {
        self.parting.begin();
        // A stop that came before has armed one.
        self.end.lift();
        let _ended_already = self.stop.send(true);
        // One that does not hear it is frozen, and ends with the process.
        if let Err(shard) = tell_until(&self.poller, || TakeoverMessage::Leave, within(TELL_MAX)) {
            tracing::error!(code = "HE-E415", shard, "a shard does not read its inbox");
        }
        true
    }

    /// The process may end. `is_served`: by the other one.
    fn finish(&self, is_served: bool) {
        if !is_served {
            let why = "the program that has taken over ended before it said that it served";
            tracing::error!(code = "HE-E416", why, "nobody serves");
        }
        self.end.limit();
        self.parting.finish(is_served);
    }

    /// Returns the titles of the offer.
    fn offer(
        &self,
        wire: &mut Wire,
        hello: &Hello,
        right: BorrowedFd<'_>,
    ) -> Result<Vec<Arc<Title>>, String> {
        let version = hello.common_version()?;
        let open = self.ask_all(MESSAGE_MAX, |answer| TakeoverMessage::Pairs { answer })?;
        let open: Vec<Vec<(u8, UdpPair)>> = open.into_iter().collect::<Result<_, _>>()?;
        let open: Vec<(u8, UdpPair)> = open.into_iter().flatten().collect();
        let mut files: Vec<BorrowedFd<'_>> = Vec::new();
        let mut add = |file| {
            files.push(file);
            Fd(u32::try_from(files.len() - 1).unwrap_or(u32::MAX))
        };
        let mut listeners = Vec::new();
        for (speaks, addr, socket) in &self.kept.listeners {
            let socket = add(socket.as_fd());
            listeners.push(Offered { speaks: (*speaks).to_owned(), addr: Some(*addr), socket });
        }
        let door: &UnixListener = &self.door.listener;
        let socket = add(door.as_fd());
        listeners.push(Offered { speaks: TAKEOVER.to_owned(), addr: None, socket });
        let mut pairs = Vec::new();
        for (shard, UdpPair { rtp, rtcp, rtp_port }) in &open {
            let (rtp, rtcp) = (add(rtp.as_fd()), add(rtcp.as_fd()));
            pairs.push(PairRecord { shard: *shard, rtp_port: *rtp_port, rtp, rtcp });
        }
        let titles = self.titles()?;
        let mut records = Vec::new();
        for title in &titles {
            let file = add(title.file.as_fd());
            records.push(TitleRecord { name: name_of(title), file, wire: title.wire.random() });
        }
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let right = add(right);
        let process = self.kept.process.as_ref().map(|one| add(one.as_fd()));
        let pid = std::process::id();
        let offer =
            Offer { version, program, listeners, pairs, titles: records, right, process, pid };
        wire.send(&ToNew::Offer(offer), &files, within(MESSAGE_MAX))
            .map_err(|error| error.to_string())?;
        drop(files);
        Ok(titles)
    }

    /// Titles that are played, each once.
    fn titles(&self) -> Result<Vec<Arc<Title>>, String> {
        let titles = self.ask_all(MESSAGE_MAX, |answer| TakeoverMessage::Titles { answer })?;
        let mut all: Vec<Arc<Title>> = Vec::new();
        for title in titles.into_iter().flatten() {
            if !all.iter().any(|known| Arc::ptr_eq(known, &title)) {
                all.push(title);
            }
        }
        Ok(all)
    }

    /// From the last request to the decision. The error is why this process goes on.
    fn give(
        &self,
        wire: &mut Wire,
        may_end: bool,
        without: Arc<[Arc<Title>]>,
    ) -> Result<(), String> {
        if !without.is_empty() {
            let message = || TakeoverMessage::Without { titles: Arc::clone(&without) };
            tell_until(&self.poller, message, within(MESSAGE_MAX))
                .map_err(|shard| format!("shard {shard} does not read its inbox"))?;
        }
        self.make_quiet(may_end)?;
        // Who connects from now on waits for the process that goes on, as at the ports of shards.
        self.opening.pause();
        let mut time = QUIET_MAX;
        for settling in SETTLING {
            let settled = self.ask_all(time, settling)?;
            settled.into_iter().collect::<Result<(), String>>()?;
            // No packet of a live path is received from the second one on.
            time = HALTED_MAX;
            if wire.is_closed() {
                return Err("the new process has ended".to_owned());
            }
        }
        let freeze = |answer| TakeoverMessage::Freeze { answer };
        let until = within(RECORD_MAX + TAKE_MAX);
        // One is written, and read, while others are frozen.
        for given in ask_each(&self.poller, RECORD_MAX, freeze) {
            send_record(wire, given??, until).map_err(|error| error.to_string())?;
        }
        let until = within(TAKE_MAX);
        wire.send(&ToNew::Frozen, &[], until).map_err(|error| error.to_string())?;
        await_taken(wire, until)
    }

    /// Has requests at hand answered, and no more read.
    fn make_quiet(&self, may_end: bool) -> Result<(), String> {
        let quiet = self.ask_all(QUIET_MAX, |answer| TakeoverMessage::Quiet { answer })?;
        let mut left = LeftBehind::default();
        for shard in quiet {
            left.add(&shard?);
        }
        let browsers = self.kept.browsers.map_or(0, |count| count());
        left.add_others("by WebRTC", usize::try_from(browsers).unwrap_or(usize::MAX));
        if !left.is_empty() && !may_end {
            return Err(format!(
                "{} sessions cannot be handed over ({left}); --takeover=drop ends them, or \
                 wait until they have ended: headend drain",
                left.count()
            ));
        }
        if !left.is_empty() {
            tracing::warn!(
                code = "HE-W412",
                sessions = left.count(),
                kinds = %left,
                "sessions that cannot be handed over will end"
            );
        }
        Ok(())
    }

    fn ask_all<T: Send + 'static>(
        &self,
        time: Duration,
        message: impl Fn(Answer<T>) -> TakeoverMessage,
    ) -> Result<Vec<T>, String> {
        ask_all(&self.poller, time, message)
    }
}

/// Asks all shards, and waits for their answers.
fn ask_all<T: Send + 'static>(
    poller: &Poller<Inbox>,
    time: Duration,
    message: impl Fn(Answer<T>) -> TakeoverMessage,
) -> Result<Vec<T>, String> {
    ask_each(poller, time, message).collect()
}

/// Asks all shards at once; gives their answers one after the other.
fn ask_each<T: Send + 'static>(
    poller: &Poller<Inbox>,
    time: Duration,
    message: impl Fn(Answer<T>) -> TakeoverMessage,
) -> impl Iterator<Item = Result<T, String>> {
    let answers: Vec<mpsc::Receiver<T>> = poller
        .inboxes()
        .map(|inbox| {
            let (answer, answered) = mpsc::channel();
            let answer: Answer<T> = Box::new(move |value| {
                let _nobody_waits = answer.send(value);
            });
            let _hangs = push_patiently(inbox, Message::Takeover(Box::new(message(answer))));
            answered
        })
        .collect();
    let until = within(time);
    answers.into_iter().map(move |answered| {
        let left = until.saturating_duration_since(Instant::now());
        answered.recv_timeout(left).map_err(|_| "a shard did not answer in time".to_owned())
    })
}

/// Tells all shards something. The error is one that has not taken it by then.
pub(super) fn tell_until(
    poller: &Poller<Inbox>,
    message: impl Fn() -> TakeoverMessage,
    until: Instant,
) -> Result<(), usize> {
    let inboxes: Vec<&Arc<Inbox>> = poller.inboxes().collect();
    let mut waiting: Vec<usize> = (0..inboxes.len()).collect();
    loop {
        waiting.retain(|shard| {
            let message = Message::Takeover(Box::new(message()));
            inboxes.get(*shard).is_some_and(|inbox| inbox.push(message).is_err())
        });
        match waiting.first() {
            None => return Ok(()),
            Some(shard) if until <= Instant::now() => return Err(*shard),
            Some(_) => thread::sleep(TELL_PAUSE),
        }
    }
}

fn send_record(wire: &mut Wire, given: Given, until: Instant) -> Result<(), WireError> {
    let Given { record, files } = given;
    let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
    wire.send(&ToNew::Shard(Box::new(record)), &borrowed, until)
}

/// Waits for the word of the new process that it has everything and goes on. After an error it may
/// do so all the same: the right tells that.
fn await_taken(wire: &mut Wire, until: Instant) -> Result<(), String> {
    match wire.receive::<ToOld>(until) {
        Ok((ToOld::Taken, _)) => Ok(()),
        Ok((ToOld::Refused { why }, _)) => Err(why),
        Ok(_) => Err("it did not say what was due".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Other {
    /// Waits until the new process serves, as long as it is there: it may be stopped, or a service
    /// manager may not be told yet which process it is to watch. Returns whether it has the socket
    /// of this one; `None`: it has ended before.
    fn await_serves(&mut self) -> Option<bool> {
        let mut is_logged = false;
        loop {
            // Looked at first: what it said before its end is still received.
            let has_ended = self.has_ended(Duration::ZERO);
            match self.wire.receive::<ToOld>(within(SERVES_MAX)) {
                Ok((ToOld::Serves { has_socket }, _)) => return Some(has_socket),
                // `Taken`, which is late, or what it should not say.
                Ok(_) => continue,
                Err(_) if has_ended => return None,
                Err(WireError::Late) => {}
                // It says nothing any more, and may serve all the same.
                Err(_) => {
                    if self.has_ended(SERVES_MAX) {
                        continue;
                    }
                }
            }
            if !std::mem::replace(&mut is_logged, true) {
                let pid = self.pid;
                let fix = "look at that program; when it ends this one does, with exit code 1";
                tracing::warn!(
                    code = "HE-W415",
                    pid,
                    fix,
                    "the program that has taken over does not say that it serves"
                );
            }
        }
    }

    /// Waits for its end, this long at most.
    fn has_ended(&self, time: Duration) -> bool {
        match &self.process {
            Some(process) => {
                let mut polled = [PollFd::new(process, PollFlags::IN)];
                let time = Timespec::try_from(time).unwrap_or_default();
                // Who asks does so again after a signal.
                let _interrupted = rustix::event::poll(&mut polled, Some(&time));
                polled[0].revents().contains(PollFlags::IN)
            }
            None => self.wire.is_closed_within(time),
        }
    }
}

fn refuse(wire: &mut Wire, why: String) -> Decided {
    let _gone = wire.send(&ToNew::Refused { why: why.clone() }, &[], within(MESSAGE_MAX));
    Decided::GoesOn(why)
}

/// Name of a title in a record; `None`: the built-in clip.
fn name_of(title: &Title) -> Option<String> {
    (!title.is_clip()).then(|| title.name.clone())
}

/// After connections could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// For shards to hear that they go on, before the other process is told that it does not.
const RESUME_MAX: Duration = Duration::from_secs(1);
/// For a step while no packet is received: twice as long as shards wait.
const HALTED_MAX: Duration = Duration::from_secs(1);
/// Between two attempts at a full inbox.
const TELL_PAUSE: Duration = Duration::from_millis(1);
