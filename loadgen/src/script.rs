//! What a viewer does with the remote control: a small language, drawn anew for every session.
//!
//! ```text
//! script  = step *( (";" | newline) step )          "#" begins a comment
//! step    = "play" TIMES | "pause" TIMES            so long; asks for it if it is not so already
//!         | "seek" PLACES                           PAUSE, then PLAY from there (RFC 2326 s10.5)
//!         | "jump" PLACES                           PLAY from there without PAUSE, as players do
//!         | "repeat" [count]                        last step: again, so many rounds in all
//! TIMES   = TIME | TIME "-" TIME                    a range is drawn from evenly
//! PLACES  = TIMES | P "%" | P "%" "-" P "%"         part of the title, where its length is known
//! ```
//! `play 3s-8s; pause 1s; seek 0%-90%; repeat` is a viewer who never finds what he looks for.
//! What a session draws depends on the seed and its number alone, never on what the server does.
//! After the last step the session plays on.
//! Invariant: [`Actor::poll`] asks for nothing while its last wish waits for an answer.
//! Bound: [`STEPS_MAX`] steps; a poll goes through the script once at most.

use crate::time::Mono;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Steps of one script.
pub const STEPS_MAX: usize = 1_000;
/// Spreads the numbers of sessions over the seeds.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Steps and how often they are gone through.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    steps: Vec<Step>,
    /// Rounds in all; `None` for ever.
    rounds: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Play(Times),
    Pause(Times),
    Seek { to: Places, pauses: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    least: Duration,
    most: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Places {
    Times(Times),
    /// Parts of the length, 0 to 1.
    Parts(f64, f64),
}

/// Why a text is not a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// Nothing to do.
    #[error("the script has no steps")]
    Empty,
    /// More than [`STEPS_MAX`].
    #[error("the script has more than {STEPS_MAX} steps")]
    TooLong,
    /// Not one of the words.
    #[error("step {step}: \"{word}\" is not play, pause, seek, jump or repeat")]
    Word {
        /// Counted from 1.
        step: usize,
        /// As written.
        word: String,
    },
    /// What comes behind the word cannot be read.
    #[error("step {step}: \"{value}\" is not a time (5s), a range (2s-8s) or a part (0%-90%)")]
    Value {
        /// Counted from 1.
        step: usize,
        /// As written.
        value: String,
    },
    /// Steps behind `repeat` would never be reached.
    #[error("step {step}: repeat must be the last step")]
    RepeatNotLast {
        /// Counted from 1.
        step: usize,
    },
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let parts = lines.flat_map(|line| line.split(';')).map(str::trim);
        let mut script = Self { steps: Vec::new(), rounds: Some(1) };
        let mut repeat_at = None;
        for (step, part) in (1..).zip(parts.filter(|part| !part.is_empty())) {
            if let Some(step) = repeat_at {
                return Err(ScriptError::RepeatNotLast { step });
            }
            if step > STEPS_MAX {
                return Err(ScriptError::TooLong);
            }
            let (word, value) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
            let value = value.trim();
            let wrong = || ScriptError::Value { step, value: value.to_owned() };
            let times = || times_from(value).ok_or_else(wrong);
            let places = || places_from(value).ok_or_else(wrong);
            match word {
                "play" => script.steps.push(Step::Play(times()?)),
                "pause" => script.steps.push(Step::Pause(times()?)),
                "seek" => script.steps.push(Step::Seek { to: places()?, pauses: true }),
                "jump" => script.steps.push(Step::Seek { to: places()?, pauses: false }),
                "repeat" => {
                    repeat_at = Some(step);
                    script.rounds = if value.is_empty() {
                        None
                    } else {
                        Some(value.parse().map_err(|_| wrong())?)
                    };
                }
                _ => return Err(ScriptError::Word { step, word: word.to_owned() }),
            }
        }
        if script.steps.is_empty() {
            return Err(ScriptError::Empty);
        }
        Ok(script)
    }
}

/// What the session should ask the server for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// PAUSE.
    Pause,
    /// PLAY: from a place, or from where it is.
    Play(Option<Duration>),
}

#[derive(Debug, Clone, Copy)]
enum Todo {
    Ask(Wish),
    Wait(Duration),
}

/// One session's way through the script.
#[derive(Debug)]
pub struct Actor {
    script: Arc<Script>,
    rng: StdRng,
    next: usize,
    rounds_done: u32,
    todo: VecDeque<Todo>,
    until: Option<Mono>,
    skipped: u64,
}

impl Actor {
    /// The actor of session `index` of a run with this seed.
    #[must_use]
    pub fn new(script: Arc<Script>, seed: u64, index: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ index.wrapping_add(1).wrapping_mul(SEED_STEP));
        let (todo, until) = (VecDeque::new(), None);
        Self { script, rng, next: 0, rounds_done: 0, todo, until, skipped: 0 }
    }

    /// What to ask for now. To be called while the session plays or is paused and no wish waits
    /// for its answer: waits begin when the answer to what comes before them is there.
    pub fn poll(&mut self, now: Mono, is_paused: bool, length: Option<Duration>) -> Option<Wish> {
        // A script of steps that are all left out must not turn for ever.
        for _ in 0..=self.script.steps.len() * 2 {
            if let Some(until) = self.until {
                if now < until {
                    return None;
                }
                self.until = None;
            }
            match self.todo.pop_front() {
                Some(Todo::Wait(wait)) => self.until = Some(now.after(wait)),
                Some(Todo::Ask(wish)) => return Some(wish),
                None if self.has_ended() => return None,
                None => self.begin_step(is_paused, length),
            }
        }
        None
    }

    /// Steps left out because the title has no known length.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    fn has_ended(&self) -> bool {
        self.script.rounds.is_some_and(|rounds| self.rounds_done >= rounds)
    }

    fn begin_step(&mut self, is_paused: bool, length: Option<Duration>) {
        let Some(&step) = self.script.steps.get(self.next) else { return };
        self.next += 1;
        if self.next == self.script.steps.len() {
            self.next = 0;
            self.rounds_done = self.rounds_done.saturating_add(1);
        }
        match step {
            Step::Play(times) => {
                if is_paused {
                    self.todo.push_back(Todo::Ask(Wish::Play(None)));
                }
                self.todo.push_back(Todo::Wait(times.draw(&mut self.rng)));
            }
            Step::Pause(times) => {
                if !is_paused {
                    self.todo.push_back(Todo::Ask(Wish::Pause));
                }
                self.todo.push_back(Todo::Wait(times.draw(&mut self.rng)));
            }
            Step::Seek { to, pauses } => {
                let Some(place) = to.draw(length, &mut self.rng) else {
                    self.skipped += 1;
                    return;
                };
                if pauses && !is_paused {
                    self.todo.push_back(Todo::Ask(Wish::Pause));
                }
                self.todo.push_back(Todo::Ask(Wish::Play(Some(place))));
            }
        }
    }
}

impl Times {
    fn draw(self, rng: &mut StdRng) -> Duration {
        let part: f64 = rng.random_range(0.0..1.0);
        self.least + self.most.saturating_sub(self.least).mul_f64(part)
    }
}

impl Places {
    /// Draws in any case, so that the next steps draw the same with and without a length.
    fn draw(self, length: Option<Duration>, rng: &mut StdRng) -> Option<Duration> {
        match self {
            Self::Times(times) => Some(times.draw(rng)),
            Self::Parts(least, most) => {
                let part: f64 = rng.random_range(0.0..1.0);
                Some(length?.mul_f64((most - least).mul_add(part, least)))
            }
        }
    }
}

/// A number with `ms`, `s`, `m` or `h`; seconds without.
#[must_use]
pub fn time_from(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(digits.parse::<f64>().ok()? * scale).ok()
}

fn times_from(text: &str) -> Option<Times> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let times = Times { least: time_from(least.trim())?, most: time_from(most.trim())? };
    (times.least <= times.most).then_some(times)
}

fn places_from(text: &str) -> Option<Places> {
    if !text.contains('%') {
        return times_from(text).map(Places::Times);
    }
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let part = |text: &str| text.trim().strip_suffix('%')?.parse::<f64>().ok();
    let (least, most) = (part(least)?, part(most)?);
    let is_range = (0.0..=100.0).contains(&least) && (least..=100.0).contains(&most);
    is_range.then_some(Places::Parts(least / 100.0, most / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn actor(text: &str, index: u64) -> Actor {
        Actor::new(Arc::new(text.parse().expect("script")), 7, index)
    }

    /// Polls every 100 ms for `seconds` with answers at once: when what was asked, in tenths.
    fn acted(actor: &mut Actor, seconds: u64, length: Option<Duration>) -> Vec<(u64, Wish)> {
        let (mut asked, mut is_paused) = (Vec::new(), false);
        for tenth in 0..seconds * 10 {
            while let Some(wish) = actor.poll(Mono::from_ns(tenth * 100_000_000), is_paused, length)
            {
                is_paused = wish == Wish::Pause;
                asked.push((tenth, wish));
                assert!(asked.len() < 1_000, "asks for ever");
            }
        }
        asked
    }

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn steps_come_one_after_the_other_and_the_session_plays_on() {
        let mut actor = actor("play 5s; pause 2s; seek 30s; play 5s; jump 1s", 0);
        assert_eq!(
            acted(&mut actor, 60, None),
            [(50, Wish::Pause), (70, Wish::Play(Some(S(30)))), (120, Wish::Play(Some(S(1)))),]
        );
    }

    #[test]
    fn seek_while_playing_pauses_first_and_play_after_pause_resumes() {
        let mut actor = actor("play 1s\nseek 9s # again\npause 500ms\nplay 1s", 0);
        assert_eq!(
            acted(&mut actor, 9, None),
            [
                (10, Wish::Pause),
                (10, Wish::Play(Some(S(9)))),
                (10, Wish::Pause),
                (15, Wish::Play(None)),
            ]
        );
    }

    #[test]
    fn same_seed_draws_the_same_and_sessions_differ() {
        let text = "play 1s-3s; seek 0%-90%; repeat 4";
        let run = |index| acted(&mut actor(text, index), 60, Some(S(100)));
        assert_eq!(run(0), run(0));
        assert_ne!(run(0), run(1));
        assert_eq!(run(3).iter().filter(|(_, wish)| *wish == Wish::Pause).count(), 4);
    }

    #[test]
    fn part_of_a_title_without_length_is_left_out_and_counted() {
        let mut actor = actor("seek 50%; repeat", 0);
        assert_eq!(actor.poll(Mono::from_ns(0), false, None), None);
        assert!(actor.skipped() > 0);
    }

    #[test]
    fn what_is_not_a_script_says_where() {
        let error = |text: &str| text.parse::<Script>().expect_err("no script").to_string();
        assert_eq!(error(" ; # x"), "the script has no steps");
        assert!(error("play 1s; stop 2s").starts_with("step 2: \"stop\""));
        assert!(error("play 1s-x").starts_with("step 1: \"1s-x\""));
        assert!(error("play 9s-1s").starts_with("step 1"));
        assert!(error("seek 120%").starts_with("step 1"));
        assert_eq!(error("repeat; play 1s"), "step 1: repeat must be the last step");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<Script>();
        }
    }
}
