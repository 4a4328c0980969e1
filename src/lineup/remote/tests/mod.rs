//! The remote control: a sequential model that others are compared with, and single behaviours.

mod any_order;
mod digits;
mod table;

use std::collections::BTreeMap;

use super::*;

/// Channels of the tests: 7 and 201 are live, 20 and 300 titles.
pub(super) fn lineup() -> Lineup {
    let names = [("7", "live/a"), ("20", "demo"), ("201", "live/b"), ("300", "vod/c.mp4")];
    Lineup::parse(names.iter().map(|(key, name)| (*key, Ok(*name)))).unwrap()
}

pub(super) fn rules(lineup: &Lineup) -> Rules<'_> {
    Rules { lineup, digit_timeout: Duration::from_millis(1_500) }
}

pub(super) const LIVE: Channel = Channel { number: 7, is_title: false };
pub(super) const TITLE: Channel = Channel { number: 300, is_title: true };
pub(super) const NOW: Mono = Mono(1_000_000_000_000);
pub(super) const LATER: Mono = Mono(2_000_000_000_000);

/// What happened to a remote control, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Happened {
    /// An event with its number was accepted.
    Pressed(Input, u32),
    /// Time has completed a number.
    TimeUp,
}

/// What the caller told a remote control, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) tuned: VecDeque<Result<Option<Npt>, Refusal>>,
    pub(super) performed: VecDeque<Result<(), Refusal>>,
}

/// One event after the other, without queues: what should come of them.
#[derive(Debug)]
pub(super) struct Model {
    lineup: Lineup,
    playing: Channel,
    last: Option<u16>,
    digits: String,
    rate: i8,
    positions: BTreeMap<u16, Npt>,
    told: Told,
    pub(super) answers: Vec<(u32, Outcome)>,
    pub(super) tunes: Vec<(u16, Option<Npt>)>,
}

impl Model {
    pub(super) fn new(playing: Channel, told: Told) -> Self {
        let (last, digits, rate, positions) = (None, String::new(), 1, BTreeMap::new());
        let (answers, tunes, lineup) = (Vec::new(), Vec::new(), lineup());
        Self { lineup, playing, last, digits, rate, positions, told, answers, tunes }
    }

    pub(super) fn run(mut self, log: &[Happened]) -> Self {
        for happened in log {
            match happened {
                Happened::TimeUp => {
                    let number = std::mem::take(&mut self.digits).parse().unwrap();
                    self.tune(number);
                }
                Happened::Pressed(input, waiter) => {
                    let outcome = self.press(*input);
                    self.answers.push((*waiter, outcome));
                }
            }
        }
        self
    }

    fn press(&mut self, input: Input) -> Outcome {
        if let Input::Digit(digit) = input {
            self.digits.push_str(&digit.to_string());
            if self.digits.len() < 3 {
                return Outcome::Digits(self.digits.clone());
            }
            let number = std::mem::take(&mut self.digits).parse().unwrap();
            return self.tune(number);
        }
        self.digits.clear();
        let numbers: Vec<u16> = self.lineup.iter().map(|(number, _)| number).collect();
        let place = numbers.iter().position(|number| *number == self.playing.number).unwrap();
        let scale = |press: i8| match self.rate {
            rate if rate * press >= 8 => 16 * press,
            rate if rate * press == 4 => 8 * press,
            _ => 4 * press,
        };
        match input {
            Input::Digit(_) => unreachable!(),
            Input::Channel(number) => self.tune(number),
            Input::Up => self.tune(numbers[(place + 1) % numbers.len()]),
            Input::Down => self.tune(numbers[(place + numbers.len() - 1) % numbers.len()]),
            Input::Last => match self.last {
                Some(last) => self.tune(last),
                None => Outcome::Refused(Refusal::NoLast),
            },
            Input::Seek(_) | Input::Forward | Input::Rewind if !self.playing.is_title => {
                Outcome::Refused(Refusal::OfTitles)
            }
            Input::Play => self.perform(1, Outcome::Playing),
            Input::Pause => self.perform(0, Outcome::Paused),
            Input::Seek(npt) => self.perform(1, Outcome::Sought(npt)),
            Input::Forward => self.perform(scale(1), Outcome::Scaled(scale(1))),
            Input::Rewind => self.perform(scale(-1), Outcome::Scaled(scale(-1))),
            Input::PlayRequest | Input::PauseRequest => self.perform(1, Outcome::Answered),
        }
    }

    fn perform(&mut self, rate: i8, outcome: Outcome) -> Outcome {
        match self.told.performed.pop_front().unwrap() {
            Ok(()) => {
                self.rate = rate;
                outcome
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn tune(&mut self, number: u16) -> Outcome {
        let Some(source) = self.lineup.get(number) else {
            return Outcome::Refused(Refusal::NoChannel(number));
        };
        let to = Channel { number, is_title: source.is_title() };
        if to == self.playing {
            return Outcome::Tuned(number);
        }
        let resume = self.positions.get(&number).copied().filter(|_| to.is_title);
        self.tunes.push((number, resume));
        match self.told.tuned.pop_front().unwrap() {
            Ok(left) => {
                if let Some(npt) = left.filter(|_| self.playing.is_title) {
                    self.positions.insert(self.playing.number, npt);
                }
                self.last = Some(self.playing.number);
                (self.playing, self.rate) = (to, 1);
                Outcome::Tuned(number)
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }
}

/// A remote control whose caller does all at once, and what it did.
struct Viewer {
    remote: Remote<u32>,
    lineup: Lineup,
    now: Mono,
}

impl Viewer {
    fn new(playing: Channel) -> Self {
        Self { remote: Remote::new(playing), lineup: lineup(), now: NOW }
    }

    /// All that follows, with outcomes that succeed.
    fn settle(&mut self) -> Vec<String> {
        let mut did = Vec::new();
        while let Some(action) = self.remote.poll(self.now, rules(&self.lineup)) {
            match action {
                Action::Answer(_, outcome) => did.push(outcome.to_string()),
                Action::Tune { number, resume } => {
                    did.push(format!("tune {number} at {resume:?}"));
                    self.remote.handle_tuned(Ok(Some(Npt(5))));
                }
                Action::Perform(operation, _) => {
                    did.push(format!("perform {operation:?}"));
                    self.remote.handle_performed(Ok(()));
                }
            }
        }
        did
    }

    fn press(&mut self, input: Input) -> Vec<String> {
        assert!(self.remote.route(input, 0));
        self.settle()
    }

    fn wait(&mut self, ms: u64) -> Vec<String> {
        self.now = self.now + Duration::from_millis(ms);
        self.remote.handle_due(self.now);
        self.settle()
    }
}

#[test]
fn number_is_complete_with_its_third_digit_or_after_the_timeout() {
    let mut viewer = Viewer::new(LIVE);
    assert_eq!(viewer.press(Input::Digit(2)), ["digits 2"]);
    assert_eq!(viewer.wait(1_400), [""; 0]);
    assert_eq!(viewer.press(Input::Digit(0)), ["digits 20"]);
    assert_eq!(viewer.wait(1_499), [""; 0]);
    assert_eq!(viewer.wait(1), ["tune 20 at None"], "1.5 s after the second digit");
    for digit in [0, 0] {
        viewer.press(Input::Digit(digit));
    }
    assert_eq!(viewer.press(Input::Digit(7)), ["tune 7 at None", "tuned to 7"]);
    viewer.press(Input::Digit(0));
    assert_eq!((viewer.wait(1_500), viewer.remote.due()), (vec![], None), "no channel 0");
    viewer.press(Input::Digit(9));
    viewer.press(Input::Digit(9));
    assert_eq!(viewer.press(Input::Digit(9)), ["refused: no channel 999"]);
    assert_eq!(viewer.remote.playing(), LIVE);
}

#[test]
fn another_key_drops_digits_and_acts_on_what_plays() {
    let mut viewer = Viewer::new(TITLE);
    assert_eq!(viewer.press(Input::Digit(2)), ["digits 2"]);
    assert_eq!(viewer.press(Input::Pause), ["perform Pause", "paused"]);
    assert_eq!((viewer.remote.due(), viewer.wait(2_000)), (None, vec![]));
    let up = ["tune 7 at None", "tuned to 7"];
    assert_eq!(viewer.press(Input::Up), up, "around the end");
}

#[test]
fn title_goes_on_where_it_was_left_and_last_swaps() {
    let mut viewer = Viewer::new(TITLE);
    assert_eq!(viewer.press(Input::Last), ["refused: there was no other channel before"]);
    viewer.press(Input::Channel(201));
    let back = ["tune 300 at Some(Npt(5))", "tuned to 300"];
    assert_eq!(viewer.press(Input::Last), back);
    assert_eq!(viewer.press(Input::Last), ["tune 201 at None", "tuned to 201"]);
    assert_eq!(viewer.press(Input::Down), ["tune 20 at None", "tuned to 20"]);
    assert_eq!(viewer.press(Input::Channel(20)), ["tuned to 20"], "it plays already");
    assert_eq!(viewer.press(Input::Last), ["tune 201 at None", "tuned to 201"]);
}

#[test]
fn forward_and_rewind_are_faster_with_each_press_and_play_is_normal_again() {
    let mut viewer = Viewer::new(TITLE);
    let mut press = |input| viewer.press(input).pop().unwrap();
    let forward = [(); 4].map(|()| press(Input::Forward));
    assert_eq!(forward, [4, 8, 16, 16].map(|scale| format!("playing at {scale}x")));
    let rewind = [(); 4].map(|()| press(Input::Rewind));
    assert_eq!(rewind, [4, 8, 16, 16].map(|scale| format!("playing at -{scale}x")));
    assert_eq!(press(Input::Play), "playing");
    assert_eq!(press(Input::Forward), "playing at 4x");
}

#[test]
fn full_remote_control_takes_no_event_and_loses_none() {
    let mut viewer = Viewer::new(LIVE);
    let keys = u32::try_from(EVENTS_MAX).unwrap();
    for key in 0..keys {
        assert!(viewer.remote.route(Input::Channel(if key % 2 == 0 { 201 } else { 7 }), key));
    }
    assert!(!viewer.remote.route(Input::Up, keys));
    assert_eq!(viewer.remote.room(), 0);
    let answers = viewer.settle().into_iter().filter(|did| did.starts_with("tuned"));
    assert_eq!(answers.count(), EVENTS_MAX);
    assert_eq!(viewer.remote.room(), EVENTS_MAX);
}

#[test]
fn positions_of_the_newest_titles_are_kept() {
    let names: Vec<String> = (1..=40).map(|n| format!("vod/{n}.mp4")).collect();
    let keys: Vec<String> = (1..=40).map(|n| n.to_string()).collect();
    let entries = keys.iter().zip(&names).map(|(key, name)| (&**key, Ok(&**name)));
    let lineup = Lineup::parse(entries).unwrap();
    let mut viewer = Viewer::new(Channel { number: 1, is_title: true });
    viewer.lineup = lineup;
    for _ in 0..39 {
        viewer.press(Input::Up);
    }
    assert_eq!(viewer.remote.positions.len(), POSITIONS_MAX);
    assert_eq!(viewer.press(Input::Channel(39))[0], "tune 39 at Some(Npt(5))");
    assert_eq!(viewer.press(Input::Channel(1))[0], "tune 1 at None");
}

#[test]
fn line_up_that_is_gone_is_told() {
    let mut viewer = Viewer::new(LIVE);
    viewer.lineup = Lineup::default();
    assert_eq!(viewer.press(Input::Up), ["refused: the path has no channels any more"]);
    assert_eq!(viewer.press(Input::Channel(7)), ["refused: no channel 7"]);
}
