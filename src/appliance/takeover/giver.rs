//! The old process: a thread that waits for a program that takes over, and hands over to it.
//!
//! ```text
//!  accept -> who is it -> Hello -> Offer -> Freeze -> quiet, record -> Taken -> Leave, the end
//!                                     `--- refused, gone, late: Resume, the next one ---'
//! ```

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use tokio::sync::watch;

use super::super::end::End;
use super::super::reload::push_patiently;
use super::door::Door;
use super::inherited::{ADMIN, HLS, TAKEOVER, WEBRTC, spelled};
use super::wire::{Wire, WireError};
use super::{BEGIN_MAX, MESSAGE_MAX, PREPARE_MAX, QUIET_MAX, RECORD_MAX, TAKE_MAX};
use crate::appliance::listen::Sockets;
use crate::consumers::takeover::LeftBehind;
use crate::library::title::Title;
use crate::poll::poller::Poller;
use crate::shard::inbox::{Inbox, Message};
use crate::shard::sockets::{UdpPair, local_addr};
use crate::shard::takeover::{Answer, Given, TakeoverMessage};
use crate::takeover::v1::{Fd, PairRecord, TitleRecord};
use crate::takeover::{Hello, Offer, Offered, ToNew, ToOld};

/// Duplicates of the listening sockets, which every takeover is offered.
#[derive(Debug)]
pub(in crate::appliance) struct Kept {
    listeners: Vec<(&'static str, SocketAddr, OwnedFd)>,
}

impl Kept {
    /// Duplicates the sockets.
    pub(in crate::appliance) fn of(sockets: &Sockets) -> std::io::Result<Self> {
        let mut kept = Self { listeners: Vec::new() };
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
}

/// What became of a takeover.
enum Became {
    /// The other process has everything.
    Left,
    /// This one goes on.
    Resumed(String),
}

impl Giver {
    /// Starts the thread, which ends with the process or when another one has taken over.
    pub(in crate::appliance) fn start(self) -> std::io::Result<()> {
        thread::Builder::new().name("takeover".to_owned()).spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        loop {
            let wire = match self.door.accept() {
                Ok(wire) => wire,
                Err(error) => {
                    tracing::warn!(code = "HE-W410", %error, "no program can take over any more");
                    return;
                }
            };
            match self.serve(wire) {
                Became::Left => return,
                Became::Resumed(why) => {
                    tracing::warn!(code = "HE-W411", why, "a takeover did not take place");
                }
            }
        }
    }

    fn serve(&self, mut wire: Wire) -> Became {
        let peer = match wire.peer() {
            Ok(peer) => peer,
            Err(error) => return Became::Resumed(error.to_string()),
        };
        let (uid, own) = (peer.uid, geteuid());
        if uid != own && !uid.is_root() {
            let why = format!("user {} may not take over from user {}", uid.as_raw(), own.as_raw());
            return refuse(&wire, why);
        }
        let hello = match wire.receive::<ToOld>(MESSAGE_MAX) {
            Ok((ToOld::Hello(hello), _)) => hello,
            Ok(_) => return refuse(&wire, "it did not say hello".to_owned()),
            Err(error) => return Became::Resumed(error.to_string()),
        };
        let pid = peer.pid.as_raw_nonzero().get();
        tracing::info!(code = "HE-I411", pid, program = hello.program, "a program takes over");
        if let Err(why) = self.offer(&wire, &hello) {
            return refuse(&wire, why);
        }
        match wire.receive::<ToOld>(PREPARE_MAX) {
            Ok((ToOld::Freeze, _)) => {}
            Ok((ToOld::Refused { why }, _)) => return Became::Resumed(why),
            Ok(_) => return refuse(&wire, "it did not say what was due".to_owned()),
            Err(error) => return refuse(&wire, error.to_string()),
        }
        let became = self.hand_over(&mut wire, hello.may_end);
        match &became {
            Became::Left => {
                tracing::info!(code = "HE-I412", pid, "the server is that program's now: the end");
                // A service manager is told of it before this process ends.
                let _ended = wire.receive::<ToOld>(BEGIN_MAX);
                self.leave();
            }
            Became::Resumed(why) => {
                self.tell_all(|| TakeoverMessage::Resume);
                // Not before: the other one may look at what is served here.
                let _gone = wire.send(&ToNew::Refused { why: why.clone() }, &[], MESSAGE_MAX);
            }
        }
        became
    }

    fn offer(&self, wire: &Wire, hello: &Hello) -> Result<(), String> {
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
        let offer = Offer { version, program, listeners, pairs, titles: records };
        wire.send(&ToNew::Offer(offer), &files, MESSAGE_MAX).map_err(|error| error.to_string())
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

    /// From the last request to the decision.
    fn hand_over(&self, wire: &mut Wire, may_end: bool) -> Became {
        let given = match self.record(may_end) {
            Ok(given) => given,
            Err(why) => return Became::Resumed(why),
        };
        let until = Instant::now() + TAKE_MAX;
        if let Err(error) = send_records(wire, given) {
            return Became::Resumed(error.to_string());
        }
        let left = until.saturating_duration_since(Instant::now());
        let why = match wire.receive::<ToOld>(left) {
            Ok((ToOld::Taken, _)) => return Became::Left,
            Ok((ToOld::Refused { why }, _)) => why,
            Ok(_) => "it did not say what was due".to_owned(),
            Err(error) => error.to_string(),
        };
        // It may say so at this very moment: the kernel decides which comes first.
        wire.close_for_reading();
        match wire.receive::<ToOld>(MESSAGE_MAX) {
            Ok((ToOld::Taken, _)) => Became::Left,
            _ => Became::Resumed(why),
        }
    }

    fn record(&self, may_end: bool) -> Result<Vec<Given>, String> {
        let quiet = self.ask_all(QUIET_MAX, |answer| TakeoverMessage::Quiet { answer })?;
        let mut left = LeftBehind::default();
        for shard in quiet {
            left.add(&shard?);
        }
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
        super::live::settle(&self.poller)?;
        let given = self.ask_all(RECORD_MAX, |answer| TakeoverMessage::Freeze { answer })?;
        given.into_iter().collect()
    }

    /// The other process has everything: this one ends.
    fn leave(&self) {
        self.door.hand_over();
        self.tell_all(|| TakeoverMessage::Leave);
        self.end.limit();
        let _ended_already = self.stop.send(true);
    }

    fn tell_all(&self, message: impl Fn() -> TakeoverMessage) {
        for inbox in self.poller.inboxes() {
            let _hangs = push_patiently(inbox, Message::Takeover(Box::new(message())));
        }
    }

    fn ask_all<T: Send + 'static>(
        &self,
        within: Duration,
        message: impl Fn(Answer<T>) -> TakeoverMessage,
    ) -> Result<Vec<T>, String> {
        ask_all(&self.poller, within, message)
    }
}

/// Asks all shards, and waits for their answers.
pub(super) fn ask_all<T: Send + 'static>(
    poller: &Poller<Inbox>,
    within: Duration,
    message: impl Fn(Answer<T>) -> TakeoverMessage,
) -> Result<Vec<T>, String> {
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
    let until = Instant::now() + within;
    let answers = answers.into_iter().map(|answered| {
        let left = until.saturating_duration_since(Instant::now());
        answered.recv_timeout(left).map_err(|_| "a shard did not answer in time".to_owned())
    });
    answers.collect()
}

fn send_records(wire: &Wire, given: Vec<Given>) -> Result<(), WireError> {
    for Given { record, files } in given {
        let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
        wire.send(&ToNew::Shard(Box::new(record)), &borrowed, TAKE_MAX)?;
    }
    wire.send(&ToNew::Frozen, &[], TAKE_MAX)
}

fn refuse(wire: &Wire, why: String) -> Became {
    let _gone = wire.send(&ToNew::Refused { why: why.clone() }, &[], MESSAGE_MAX);
    Became::Resumed(why)
}

/// Name of a title in a record; `None`: the built-in clip.
fn name_of(title: &Title) -> Option<String> {
    (!title.is_clip()).then(|| title.name.clone())
}
