//! A process that takes over from the one that serves, in the time of the simulation.
//!
//! ```text
//!  Quiet -> SETTLING -> Freeze -> records, as text -> new process: Open -> Take -> Leave, Begin
//!     `---------`----------`--- refused, late, or the dice let it fail: the new one goes, Resume
//! ```
//! Messages are those that `appliance::takeover` sends, in the order that `shard::takeover` has for
//! both. Records are written, read again, checked and shared out by the same code, and the sockets
//! are the same ones, by duplicates of their descriptors. What the two processes say on their wire
//! is not there.
//!
//! Invariant: a takeover that was not drawn to fail fails for want of room or time, in a run that
//! lacks these, or because of what cannot be handed over: see [`Node::refused`]. Bound: `STEPS_MAX`
//! looks, as long as the real one waits.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;

use headend::base::time::Mono;
use headend::consumers::takeover::LeftBehind;
use headend::library::title::{Adopted, Title};
use headend::poll::task::OpenFailure;
use headend::rtp::WireBase;
use headend::shard::inbox::Message;
use headend::shard::sockets::UdpPair;
use headend::shard::takeover::paths::Paths;
use headend::shard::takeover::shares::{Files, Shares};
use headend::shard::takeover::{Answer, Given, SETTLING, TakeoverMessage};
use headend::takeover::v1::{SessionRecord, ShardRecord};

use super::network::{Event, Mutation};
use super::node::{FIRST_PORT, Node, Setup};
use crate::dice::MS;

/// A takeover under way.
#[derive(Debug)]
pub(super) struct Taking {
    shards: usize,
    steps: u32,
    step: Step,
    /// When the old shards ceased to send.
    frozen_ns: u64,
    /// What goes along, as it is counted.
    of: BTreeSet<&'static str>,
}

#[derive(Debug)]
enum Step {
    Offer(Answers<Result<Pairs, String>>),
    Quiet(Pairs, Answers<Result<LeftBehind, String>>),
    /// One of `SETTLING`.
    Settle(usize, Pairs, Answers<Result<(), String>>),
    Freeze(Pairs, Answers<Result<Given, String>>),
    Open(Vec<Told>, Answers<Opened>),
    Take(Answers<Result<usize, String>>),
}

type Pairs = Vec<(u8, UdpPair)>;
type Opened = Vec<Result<Arc<Title>, OpenFailure>>;

/// What a shard has told, with its titles to be opened.
#[derive(Debug)]
struct Told {
    record: ShardRecord,
    files: Files,
    titles: Vec<Arc<Adopted>>,
}

/// Answers of shards, in their order.
#[derive(Debug)]
struct Answers<T> {
    awaited: Vec<mpsc::Receiver<T>>,
    here: Vec<T>,
}

impl<T: Send + 'static> Answers<T> {
    fn none() -> Self {
        Self { awaited: Vec::new(), here: Vec::new() }
    }

    /// Where the next shard answers.
    fn expect(&mut self) -> Answer<T> {
        let (answer, answered) = mpsc::channel();
        self.awaited.push(answered);
        Box::new(move |value| drop(answer.send(value)))
    }

    /// All answers; `None`: some have not come.
    fn take(&mut self) -> Option<Vec<T>> {
        while self.here.len() < self.awaited.len() {
            self.here.push(self.awaited[self.here.len()].try_recv().ok()?);
        }
        Some(std::mem::take(&mut self.here))
    }
}

impl Node {
    /// Another process asks for what there is.
    pub(super) fn take_over(&mut self, shards: usize) {
        if self.taking.is_some() {
            return;
        }
        self.count("takeover");
        let step = Step::Offer(self.ask(self.house, |answer| TakeoverMessage::Pairs { answer }));
        let of = BTreeSet::new();
        self.taking = Some(Taking { shards, steps: 0, step, frozen_ns: 0, of });
        self.go_on_later();
    }

    pub(super) fn go_on_taking_over(&mut self) {
        let Some(mut taking) = self.taking.take() else { return };
        taking.steps += 1;
        if taking.steps > STEPS_MAX {
            return self.undo("a shard did not answer in time");
        }
        let went_on = match &mut taking.step {
            Step::Offer(answers) => answers.take().map(|pairs| self.make_quiet(pairs)),
            Step::Quiet(pairs, answers) => {
                answers.take().map(|left| self.settle_first(std::mem::take(pairs), left))
            }
            Step::Settle(number, pairs, answers) => answers
                .take()
                .map(|settled| self.settle_next(*number, std::mem::take(pairs), settled)),
            Step::Freeze(pairs, answers) => {
                answers.take().map(|given| (std::mem::take(pairs), given)).map(|told| {
                    let (told, frozen_ns) = self.start(taking.shards, told)?;
                    taking.frozen_ns = frozen_ns;
                    taking.of = told.iter().flat_map(|one| kinds_in(&one.record)).collect();
                    Ok(self.open_titles(told))
                })
            }
            Step::Open(told, answers) => answers
                .take()
                .map(|opened| self.hand_out(taking.shards, std::mem::take(told), opened)),
            Step::Take(answers) => match answers.take() {
                Some(taken) => return self.decide(taken, &taking),
                None => None,
            },
        };
        match went_on {
            None => {}
            Some(Ok(step)) => taking.step = step,
            Some(Err(why)) => return self.undo(&why),
        }
        self.taking = Some(taking);
        self.go_on_later();
    }

    fn make_quiet(&self, pairs: Vec<Result<Pairs, String>>) -> Result<Step, String> {
        let pairs: Result<Vec<Pairs>, String> = pairs.into_iter().collect();
        let pairs = pairs.expect("descriptors").into_iter().flatten().collect();
        let answers = self.ask(self.house, |answer| TakeoverMessage::Quiet { answer });
        Ok(Step::Quiet(pairs, answers))
    }

    fn settle_first(
        &self,
        pairs: Pairs,
        left: Vec<Result<LeftBehind, String>>,
    ) -> Result<Step, String> {
        let mut all = LeftBehind::default();
        for left in left {
            all.add(&left?);
        }
        if !all.is_empty() {
            return Err(format!("sessions cannot be handed over: {all}"));
        }
        Ok(Step::Settle(0, pairs, self.ask(self.house, SETTLING[0])))
    }

    fn settle_next(
        &self,
        number: usize,
        pairs: Pairs,
        settled: Vec<Result<(), String>>,
    ) -> Result<Step, String> {
        settled.into_iter().collect::<Result<(), String>>()?;
        if let Some(next) = SETTLING.get(number + 1) {
            return Ok(Step::Settle(number + 1, pairs, self.ask(self.house, *next)));
        }
        let answers = self.ask(self.house, |answer| TakeoverMessage::Freeze { answer });
        Ok(Step::Freeze(pairs, answers))
    }

    /// Starts the new process, which has read what the shards have told.
    fn start(
        &mut self,
        shards: usize,
        (pairs, given): (Pairs, Vec<Result<Given, String>>),
    ) -> Result<(Vec<Told>, u64), String> {
        let given: Vec<Given> = given.into_iter().collect::<Result<_, String>>()?;
        if self.net.borrow().mutation == Some(Mutation::RecordKept) {
            let files = given.iter().flat_map(|one| &one.files);
            let kept = files.map(|file| file.try_clone().expect("a descriptor"));
            self.net.borrow_mut().kept.extend(kept);
        }
        let told: Vec<Told> = given.into_iter().map(told_of).collect();
        let frozen_ns = told.iter().map(|one| one.record.frozen_ns).min().expect("a shard");
        let first = self.first_pairs(shards, pairs);
        self.first_ports = first.iter().map(|pair| pair.rtp_port).collect();
        let mut listeners: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
        // As `appliance::listen` shares them: shards that are more accept at one together.
        let count = self.net.borrow().backlogs.len();
        for (shard, of_shard) in listeners.iter_mut().enumerate().skip(count) {
            of_shard.extend(self.net.borrow().listeners().into_iter().nth(shard % count));
        }
        for (listener, fd) in self.net.borrow().listeners().into_iter().enumerate() {
            listeners[listener % shards].push(fd);
        }
        self.open(listeners.into_iter().zip(first).collect(), true);
        Ok((told, frozen_ns))
    }

    fn open_titles(&self, told: Vec<Told>) -> Step {
        let titles = told.iter().flat_map(|one| one.titles.iter().map(Arc::clone)).collect();
        let mut answers = Answers::none();
        let message = TakeoverMessage::Open { titles, answer: answers.expect() };
        let new = self.shards_of(self.houses.len() - 1);
        self.inbox(new[0]).push(Message::Takeover(Box::new(message))).expect("room");
        Step::Open(told, answers)
    }

    /// As `appliance::listen` finds them: the pair that a shard is told to have, or its own, or one
    /// at any ports.
    fn first_pairs(&self, shards: usize, mut offered: Pairs) -> Vec<UdpPair> {
        let mut net = self.net.borrow_mut();
        let all = (0..shards).map(|shard| {
            let port = FIRST_PORT + 2 * u16::try_from(shard).expect("few");
            let is_fixed = self.setup.has_fixed_ports;
            let is_it = |(of, pair): &(u8, UdpPair)| {
                usize::from(*of) == shard && (!is_fixed || pair.rtp_port == port)
            };
            if let Some(place) = offered.iter().position(is_it) {
                return offered.remove(place).1;
            }
            let (rtp, rtcp, rtp_port) =
                if is_fixed { net.bind_pair_at(port) } else { net.bind_pair() };
            UdpPair { rtp, rtcp, rtp_port }
        });
        all.collect()
    }

    fn hand_out(
        &mut self,
        shards: usize,
        told: Vec<Told>,
        opened: Vec<Opened>,
    ) -> Result<Step, String> {
        let opened: Result<Vec<Arc<Title>>, _> = opened.into_iter().flatten().collect();
        let opened = opened.map_err(|_| NO_TITLE)?;
        let new = self.shards_of(self.houses.len() - 1);
        assert_eq!(new.len(), shards);
        let ports = std::mem::take(&mut self.first_ports);
        let (mut shares, mut paths) = (Shares::new(&ports), Paths::default());
        let mut opened = opened.into_iter();
        for Told { mut record, mut files, titles } in told {
            record.check()?;
            paths.add(&mut record, &mut files)?;
            let titles: Arc<[Arc<Title>]> = opened.by_ref().take(titles.len()).collect();
            shares.add(record, &mut files, &titles)?;
        }
        let mut answers = Answers::none();
        for (shard, taken) in new.into_iter().zip(paths.share(shares.finish())?) {
            let message = TakeoverMessage::Take { taken, answer: answers.expect() };
            self.inbox(shard).push(Message::Takeover(Box::new(message))).expect("room");
        }
        Ok(Step::Take(answers))
    }

    /// One of the two processes goes on.
    fn decide(&mut self, taken: Vec<Result<usize, String>>, taking: &Taking) {
        let taken: Vec<usize> = match taken.into_iter().collect() {
            Ok(taken) => taken,
            Err(why) => return self.undo(&why),
        };
        let mutation = self.net.borrow().mutation;
        if self.net.borrow_mut().dice.chance(self.setup.takeovers_fail) {
            return self.undo(DRAWN);
        }
        let new = self.houses.len() - 1;
        let sessions: usize = taken.into_iter().sum();
        let shards = (self.shards_of(self.house).len(), self.shards_of(new).len());
        self.count(match shards {
            (before, after) if before < after => "takeover.more shards",
            (before, after) if before > after => "takeover.fewer shards",
            _ => "takeover.as many shards",
        });
        if sessions > 0 {
            self.count("takeover.of sessions");
        }
        taking.of.iter().for_each(|kind| self.count(kind));
        self.tell(new, || TakeoverMessage::Begin { frozen: Mono(taking.frozen_ns) });
        match mutation {
            Some(Mutation::BothGoOn) => self.tell(self.house, || TakeoverMessage::Resume),
            _ => self.tell(self.house, || TakeoverMessage::Leave),
        }
        self.house = new;
    }

    /// What a failure is counted as.
    ///
    /// # Panics
    /// Nothing in the run is a reason for it.
    fn refused(&self, why: &str) -> &'static str {
        let Setup { weather, clients, .. } = &self.setup;
        let is_late = ["in time", "for too long", "kept coming"].iter().any(|it| why.contains(it));
        let lacks_time = weather.frozen + weather.slow + weather.preempted > 0;
        let cannot_go = why.contains("cannot be handed over");
        match why {
            DRAWN => "takeover.fails",
            _ if is_late && lacks_time => "takeover.late",
            NO_TITLE if weather.failing + weather.short + weather.panicking > 0 => {
                "takeover.no title"
            }
            _ if cannot_go && clients.iter().any(|plan| plan.path == "tv") => "takeover.not whole",
            _ if why.starts_with("there is no room for all ") => "takeover.no room",
            _ if why.contains("Cannot allocate memory") && weather.edges.no_memory > 0 => {
                "takeover.no room"
            }
            _ => panic!("a takeover has failed without a reason: {why}"),
        }
    }

    /// The new process ends, and the other one goes on.
    fn undo(&mut self, why: &str) {
        self.count(self.refused(why));
        self.taking = None;
        if self.houses.len() - 1 > self.house {
            for shard in self.shards_of(self.houses.len() - 1) {
                self.shards[shard] = None;
            }
        }
        self.tell(self.house, || TakeoverMessage::Resume);
    }

    fn ask<T: Send + 'static>(
        &self,
        house: usize,
        message: impl Fn(Answer<T>) -> TakeoverMessage,
    ) -> Answers<T> {
        let mut answers = Answers::none();
        for shard in self.shards_of(house) {
            let message = message(answers.expect());
            self.inbox(shard).push(Message::Takeover(Box::new(message))).expect("room");
        }
        answers
    }

    fn tell(&self, house: usize, message: impl Fn() -> TakeoverMessage) {
        for shard in self.shards_of(house) {
            self.inbox(shard).push(Message::Takeover(Box::new(message()))).expect("room");
        }
    }

    fn count(&self, what: &'static str) {
        self.net.borrow_mut().watch.count(what);
    }

    fn go_on_later(&self) {
        self.net.borrow_mut().after(STEP_NS, Event::TakingOver);
    }
}

/// What a shard has told, written and read.
fn told_of(Given { record, files }: Given) -> Told {
    let text = serde_json::to_string(&record).expect("a record");
    let read: ShardRecord = serde_json::from_str(&text).expect("what was written");
    assert_eq!(read, record);
    // As a message between processes has them.
    let files = files.iter().map(|file| file.try_clone().unwrap()).collect();
    let mut files = Files::new(files);
    let titles = read.titles.iter().map(|title| {
        let file = File::from(files.take(title.file).expect("its file"));
        Arc::new(Adopted { name: title.name.clone(), file, wire: WireBase::new(title.wire) })
    });
    let titles = titles.collect();
    Told { record: read, files, titles }
}

/// Sessions of live paths in a record, as they are counted.
fn kinds_in(record: &ShardRecord) -> impl Iterator<Item = &'static str> {
    let sessions = record.units.iter().flat_map(|unit| &unit.sessions);
    sessions.filter_map(|session| match session {
        SessionRecord::Title(_) => None,
        SessionRecord::Reader(_) => Some("takeover.of readers"),
        SessionRecord::Publisher(_) => Some("takeover.of publishers"),
    })
}

/// Why a takeover fails that was drawn to.
const DRAWN: &str = "it was drawn to fail";
/// As `appliance::takeover` says it.
const NO_TITLE: &str = "a title that is played does not open here";
const STEP_NS: u64 = MS / 2;
/// Two seconds and a half, in virtual time.
const STEPS_MAX: u32 = 5_000;
