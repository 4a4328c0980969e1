//! One viewer's remote control: events in one order, and the two consumers that act on them.
//!
//! ```text
//!            EventRouter                                         the caller
//!  route --> [ 2 0 1 pause ] --+--> title: play, pause, seek --Perform--> handle_performed
//!                              |      | a digit: hand_over, switch
//!                              |      v
//!                              `--> tuner: digits, up, down --Tune--> handle_tuned
//!                                     `--no further digit--> handle_due
//! ```
//! While a title plays, the title's consumer is active. What it cannot handle goes straight into
//! the queue of the tuner, and the tuner becomes active (reference 003). While a live channel plays
//! the tuner is active. An event that takes time stays begun until the caller tells its outcome, so
//! those behind it act after it. A number is complete with its third digit, or when no further
//! event has come in time; another key drops its digits.
//!
//! A change of the channel plays at normal speed, whatever was paused or fast before.
//!
//! Invariants: every accepted event is answered once, in the order of acceptance; one thing is
//! under way at a time. Bounds: `EVENTS_MAX` events wait, `POSITIONS_MAX` titles are remembered.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::time::{Mono, Npt};
use crate::config::lineup::{ChannelSource, DIGITS_MAX, Lineup};
use crate::lineup::event::{Input, Outcome, Refusal};
use crate::router::{ConsumerId, Delivery, EventNo, EventRouter};

/// The remote control of one session. `W` names who waits for the outcome of an event.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Remote<W> {
    router: EventRouter<(Input, W)>,
    tuner: ConsumerId,
    title: ConsumerId,
    playing: Channel,
    /// The channel before this one.
    last: Option<u16>,
    digits: Digits,
    doing: Doing,
    rate: Rate,
    /// Where titles were left, the newest last.
    positions: VecDeque<(u16, Npt)>,
    out: VecDeque<Action<W>>,
}

/// What a session plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Its number.
    pub number: u16,
    /// Whether it is a recorded title.
    pub is_title: bool,
}

/// What the configuration says of the line-up, now.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The channels.
    pub lineup: &'a Lineup,
    /// A number is complete so long after its last digit.
    pub digit_timeout: Duration,
}

/// Work for the caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation {
    /// Play on, at normal speed.
    Play,
    /// Stop where it is.
    Pause,
    /// Play from here.
    Seek(Npt),
    /// Play on at this many times the normal speed.
    Scale(i8),
    /// The request of the client itself.
    Request,
}

/// What the caller must do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action<W> {
    /// `handle_performed` follows.
    Perform(Operation, W),
    /// `handle_tuned` follows. A title goes on where it was left.
    Tune {
        /// Number of the channel.
        number: u16,
        /// Where the title goes on; `None`: at its start.
        resume: Option<Npt>,
    },
    /// An event is consumed.
    Answer(W, Outcome),
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Doing {
    Nothing,
    Performing { by: ConsumerId, no: EventNo, input: Input, operation: Operation },
    Tuning(Tuning),
}

/// A change of the channel, for an event or for a number that time has completed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tuning {
    to: Channel,
    no: Option<EventNo>,
}

/// Digits of a number that is not complete.
#[derive(Debug, Clone, Default)]
struct Digits {
    text: String,
    due: Option<Mono>,
    is_over: bool,
}

/// How what plays runs, as far as keys have changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rate {
    Normal,
    Paused,
    Scaled(i8),
}

/// What one step did.
enum Step {
    Nothing,
    Something,
}

impl<W: Copy> Remote<W> {
    /// Of a session that plays this channel, or will.
    pub fn new(playing: Channel) -> Self {
        let mut router = EventRouter::new(EVENTS_MAX);
        let mut add = || router.add().unwrap_or_else(|_| unreachable!("there is room for two"));
        let (tuner, title) = (add(), add());
        let mut remote = Self {
            router,
            tuner,
            title,
            playing,
            last: None,
            digits: Digits::default(),
            doing: Doing::Nothing,
            rate: Rate::Normal,
            positions: VecDeque::new(),
            out: VecDeque::new(),
        };
        remote.choose_consumer();
        remote
    }

    /// Takes an event; `poll` acts on it. False: as many wait as may, and it is not taken.
    #[must_use]
    pub fn route(&mut self, input: Input, waiter: W) -> bool {
        self.router.route((input, waiter)).is_ok()
    }

    /// How many more events it takes.
    pub fn room(&self) -> usize {
        EVENTS_MAX.saturating_sub(self.router.len())
    }

    /// What the caller must do next; `None`: nothing until something is handled.
    pub fn poll(&mut self, now: Mono, rules: Rules<'_>) -> Option<Action<W>> {
        // Bounded: an event takes a few steps at most, and none is consumed twice.
        while self.out.is_empty() {
            match self.step(now, rules) {
                Step::Something => {}
                Step::Nothing => break,
            }
        }
        self.out.pop_front()
    }

    /// When a number is complete without a further digit.
    pub fn due(&self) -> Option<Mono> {
        self.digits.due
    }

    /// The time of `due` may have come. What was accepted before it belongs to the number, or
    /// drops it.
    pub fn handle_due(&mut self, now: Mono) {
        if self.digits.due.is_some_and(|due| due <= now) && self.router.is_empty() {
            self.digits.is_over = true;
        }
    }

    /// What `Perform` asked for is done.
    pub fn handle_performed(&mut self, result: Result<(), Refusal>) {
        match self.doing {
            Doing::Performing { by, no, input, operation } => {
                self.doing = Doing::Nothing;
                if result.is_ok() {
                    self.rate = match operation {
                        Operation::Pause => Rate::Paused,
                        Operation::Scale(scale) => Rate::Scaled(scale),
                        // A client that has paused by itself plays again by itself.
                        Operation::Play | Operation::Seek(_) | Operation::Request => Rate::Normal,
                    };
                }
                let done = match operation {
                    Operation::Play => Outcome::Playing,
                    Operation::Pause => Outcome::Paused,
                    Operation::Seek(npt) => Outcome::Sought(npt),
                    Operation::Scale(scale) => Outcome::Scaled(scale),
                    Operation::Request => Outcome::Answered,
                };
                debug_assert!(!input.is_of_tuner(), "{input} was performed");
                self.consume(by, no, result.map_or_else(Outcome::Refused, |()| done));
            }
            Doing::Nothing | Doing::Tuning(_) => {}
        }
    }

    /// What `Tune` asked for is done; a title that was left stood here. Or the old channel stays.
    pub fn handle_tuned(&mut self, result: Result<Option<Npt>, Refusal>) {
        let Doing::Tuning(tuning) = self.doing else { return };
        let left = match result {
            Ok(left) => left,
            Err(refusal) => return self.end_tuning(tuning, Outcome::Refused(refusal)),
        };
        let before = std::mem::replace(&mut self.playing, tuning.to);
        self.last = Some(before.number);
        self.rate = Rate::Normal;
        if let Some(npt) = left.filter(|_| before.is_title) {
            self.positions.retain(|(number, _)| *number != before.number);
            if self.positions.len() >= POSITIONS_MAX {
                self.positions.pop_front();
            }
            self.positions.push_back((before.number, npt));
        }
        self.end_tuning(tuning, Outcome::Tuned(tuning.to.number));
    }

    /// The session has ended: everyone who waits, in order.
    pub fn end(mut self) -> Vec<W> {
        // What the title has goes to the tuner, which is active then: so is what was held.
        let _known = self.router.remove(self.title, Some(self.tuner));
        let mut waiters: Vec<W> = Vec::with_capacity(self.router.len());
        waiters.extend(self.out.drain(..).filter_map(|action| match action {
            Action::Answer(waiter, _) => Some(waiter),
            Action::Perform(..) | Action::Tune { .. } => None,
        }));
        while let Some(Delivery::Event(no, _)) = self.router.begin(self.tuner) {
            let Ok((_, waiter)) = self.router.consume(self.tuner, no) else { break };
            waiters.push(waiter);
        }
        waiters
    }

    /// The channel that plays.
    pub fn playing(&self) -> Channel {
        self.playing
    }

    /// The channel that is being tuned to.
    pub fn tuning_to(&self) -> Option<u16> {
        match self.doing {
            Doing::Tuning(tuning) => Some(tuning.to.number),
            Doing::Nothing | Doing::Performing { .. } => None,
        }
    }

    /// Whether another channel has been tuned to.
    pub fn has_tuned(&self) -> bool {
        self.last.is_some()
    }

    /// Events that are not consumed.
    pub fn waiting(&self) -> usize {
        self.router.len()
    }

    /// A step of one consumer, when nothing is under way.
    fn step(&mut self, now: Mono, rules: Rules<'_>) -> Step {
        if self.doing != Doing::Nothing {
            return Step::Nothing;
        }
        if self.digits.is_over {
            let number = self.digits.take();
            self.tune_to(None, number, rules);
            return Step::Something;
        }
        for consumer in [self.title, self.tuner] {
            match self.router.begin(consumer) {
                None => {}
                Some(Delivery::Reset) => {
                    let ended = self.router.consume_reset(consumer);
                    debug_assert!(ended.is_ok(), "it is at its Reset");
                    return Step::Something;
                }
                Some(Delivery::Event(no, (input, waiter))) => {
                    let (input, waiter) = (*input, *waiter);
                    if consumer == self.title {
                        self.handle_as_title(no, input, waiter);
                    } else {
                        self.handle_as_tuner(no, input, waiter, now, rules);
                    }
                    return Step::Something;
                }
            }
        }
        Step::Nothing
    }

    /// The title's consumer acts on an event, or puts it into the queue of the tuner.
    fn handle_as_title(&mut self, no: EventNo, input: Input, waiter: W) {
        if input.is_of_tuner() || !self.playing.is_title {
            self.hand_over(self.title, no, self.tuner);
        } else {
            // Digits before it may have gone to the tuner, and have asked for the switch.
            self.digits.clear();
            self.switch(self.title);
            self.perform(self.title, no, input, waiter);
        }
    }

    fn handle_as_tuner(
        &mut self,
        no: EventNo,
        input: Input,
        waiter: W,
        now: Mono,
        rules: Rules<'_>,
    ) {
        if let Input::Digit(digit) = input {
            return self.handle_digit(no, digit, now, rules);
        }
        self.digits.clear();
        let at = self.playing.number;
        let (number, missing) = match input {
            Input::Channel(number) => (Some(number), Refusal::NoChannel(number)),
            Input::Up => (rules.lineup.above(at), Refusal::NoLineup),
            Input::Down => (rules.lineup.below(at), Refusal::NoLineup),
            Input::Last => (self.last, Refusal::NoLast),
            _ if self.playing.is_title => return self.hand_over(self.tuner, no, self.title),
            Input::Seek(_) | Input::Forward | Input::Rewind => (None, Refusal::OfTitles),
            Input::Play
            | Input::Pause
            | Input::PlayRequest
            | Input::PauseRequest
            | Input::Digit(_) => return self.perform(self.tuner, no, input, waiter),
        };
        match number {
            Some(number) => self.tune_to(Some(no), number, rules),
            None => {
                self.consume(self.tuner, no, Outcome::Refused(missing));
                self.choose_consumer();
            }
        }
    }

    fn handle_digit(&mut self, no: EventNo, digit: u8, now: Mono, rules: Rules<'_>) {
        self.digits.text.push(char::from(b'0' + digit.min(9)));
        if self.digits.text.len() >= DIGITS_MAX {
            let number = self.digits.take();
            return self.tune_to(Some(no), number, rules);
        }
        self.digits.due = Some(now + rules.digit_timeout);
        let text = self.digits.text.clone();
        self.consume(self.tuner, no, Outcome::Digits(text));
    }

    /// Tunes to a number; `no` is the event that has completed it.
    fn tune_to(&mut self, no: Option<EventNo>, number: u16, rules: Rules<'_>) {
        let Some(source) = rules.lineup.get(number) else {
            let to = Channel { number, is_title: false };
            let refused = Outcome::Refused(Refusal::NoChannel(number));
            return self.end_tuning(Tuning { to, no }, refused);
        };
        let to = Channel { number, is_title: ChannelSource::is_title(source) };
        let tuning = Tuning { to, no };
        if number == self.playing.number {
            self.end_tuning(tuning, Outcome::Tuned(number));
        } else {
            self.tune(tuning);
        }
    }

    fn tune(&mut self, tuning: Tuning) {
        self.doing = Doing::Tuning(tuning);
        let Channel { number, is_title } = tuning.to;
        let left = self.positions.iter().find(|(known, _)| *known == number);
        let resume = left.filter(|_| is_title).map(|(_, npt)| *npt);
        self.out.push_back(Action::Tune { number, resume });
    }

    fn end_tuning(&mut self, tuning: Tuning, outcome: Outcome) {
        self.doing = Doing::Nothing;
        if let Some(no) = tuning.no {
            self.consume(self.tuner, no, outcome);
        }
        self.choose_consumer();
    }

    fn perform(&mut self, by: ConsumerId, no: EventNo, input: Input, waiter: W) {
        let operation = match input {
            Input::Pause => Operation::Pause,
            Input::Seek(npt) => Operation::Seek(npt),
            Input::Forward => Operation::Scale(self.rate.faster(1)),
            Input::Rewind => Operation::Scale(self.rate.faster(-1)),
            Input::PlayRequest | Input::PauseRequest => Operation::Request,
            Input::Play
            | Input::Digit(_)
            | Input::Up
            | Input::Down
            | Input::Last
            | Input::Channel(_) => Operation::Play,
        };
        self.doing = Doing::Performing { by, no, input, operation };
        self.out.push_back(Action::Perform(operation, waiter));
    }

    fn consume(&mut self, by: ConsumerId, no: EventNo, outcome: Outcome) {
        let consumed = self.router.consume(by, no);
        debug_assert!(consumed.is_ok(), "its consumer has begun it");
        if let Ok((_, waiter)) = consumed {
            self.out.push_back(Action::Answer(waiter, outcome));
        }
    }

    /// Puts an event that a consumer has begun into the queue of the other one, which is to be
    /// active from now on.
    fn hand_over(&mut self, from: ConsumerId, no: EventNo, to: ConsumerId) {
        let handed = self.router.hand_over(from, no, to);
        debug_assert!(handed.is_ok(), "its consumer has begun it");
        self.switch(to);
    }

    /// The consumer of what plays, or the tuner while a number is not complete.
    fn choose_consumer(&mut self) {
        let is_of_title = self.playing.is_title && self.digits.text.is_empty();
        self.switch(if is_of_title { self.title } else { self.tuner });
    }

    fn switch(&mut self, to: ConsumerId) {
        let switched = self.router.switch(to);
        debug_assert!(switched.is_ok(), "both consumers stay");
    }
}

impl Digits {
    fn take(&mut self) -> u16 {
        let number = self.text.parse().unwrap_or(0);
        self.clear();
        number
    }

    fn clear(&mut self) {
        self.text.clear();
        (self.due, self.is_over) = (None, false);
    }
}

impl Rate {
    /// The next speed in this direction.
    fn faster(self, direction: i8) -> i8 {
        let present = match self {
            Self::Scaled(scale) if scale.signum() == direction => scale.abs(),
            Self::Normal | Self::Paused | Self::Scaled(_) => 0,
        };
        let next = SPEEDS.iter().copied().find(|speed| *speed > present);
        direction * next.unwrap_or(SPEEDS[SPEEDS.len() - 1])
    }
}

/// Events of one session that wait at most: keys of a few seconds.
pub const EVENTS_MAX: usize = 32;
/// Titles whose positions are remembered.
const POSITIONS_MAX: usize = 32;
/// Speeds of fast forward and rewind, one press after the other.
const SPEEDS: [i8; 3] = [4, 8, 16];

#[cfg(test)]
mod tests;
