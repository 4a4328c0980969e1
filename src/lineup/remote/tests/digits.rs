//! The example of the reference: 2, 0, 1 pressed while a title plays tunes to channel 201, whatever
//! moment each step of the switch comes at. Every order of steps is tried, with and without the
//! timeout of a digit.

use std::collections::HashSet;

use super::*;

/// Keys in the order in which they are pressed.
const KEYS: [Input; 5] =
    [Input::Digit(2), Input::Digit(0), Input::Digit(1), Input::Pause, Input::Last];

/// A remote control, and all that happened to it.
#[derive(Debug, Clone)]
struct Scene {
    remote: Remote<u32>,
    pressed: usize,
    /// What the caller has to do.
    tuning: Option<u16>,
    is_performing: bool,
    log: Vec<Happened>,
    told: Told,
    answers: Vec<(u32, Outcome)>,
    tunes: Vec<(u16, Option<Npt>)>,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Press,
    /// One step of a consumer: it begins an event, hands one over, or consumes Reset.
    Step,
    /// The caller takes the next action.
    Take,
    TuneDone,
    TuneRefused,
    Performed,
    TimeUp,
}

impl Scene {
    fn new(playing: Channel) -> Self {
        Self {
            remote: Remote::new(playing),
            pressed: 0,
            tuning: None,
            is_performing: false,
            log: Vec::new(),
            told: Told::default(),
            answers: Vec::new(),
            tunes: Vec::new(),
        }
    }

    /// Does it; false when it cannot be done now.
    fn act(&mut self, act: Act, lineup: &Lineup) -> bool {
        match act {
            Act::Press => {
                let Some(key) = KEYS.get(self.pressed) else { return false };
                let waiter = u32::try_from(self.pressed).unwrap();
                assert!(self.remote.route(*key, waiter));
                self.log.push(Happened::Pressed(*key, waiter));
                self.pressed += 1;
            }
            Act::Step => match self.remote.step(NOW, rules(lineup)) {
                Step::Nothing => return false,
                Step::Something => {}
            },
            Act::Take => match self.remote.out.pop_front() {
                None => return false,
                Some(Action::Answer(waiter, outcome)) => self.answers.push((waiter, outcome)),
                Some(Action::Perform(..)) => self.is_performing = true,
                Some(Action::Tune { number, resume }) => {
                    self.tuning = Some(number);
                    self.tunes.push((number, resume));
                }
            },
            Act::TuneDone | Act::TuneRefused => {
                let Some(number) = self.tuning.take() else { return false };
                let result = match act {
                    Act::TuneDone => Ok(Some(Npt(i64::from(number)))),
                    _ => Err(Refusal::Late(number)),
                };
                self.told.tuned.push_back(result.clone());
                self.remote.handle_tuned(result);
            }
            Act::Performed => {
                if !std::mem::take(&mut self.is_performing) {
                    return false;
                }
                self.told.performed.push_back(Ok(()));
                self.remote.handle_performed(Ok(()));
            }
            Act::TimeUp => {
                let was_over = self.remote.digits.is_over;
                self.remote.handle_due(LATER);
                if !self.remote.digits.is_over || was_over {
                    return false;
                }
                self.log.push(Happened::TimeUp);
            }
        }
        true
    }

    fn is_over(&self) -> bool {
        let is_idle = self.remote.router.is_empty() && self.remote.out.is_empty();
        let is_done = self.remote.doing == Doing::Nothing && !self.remote.digits.is_over;
        self.pressed == KEYS.len() && is_idle && is_done
    }
}

/// Every order of these acts; each end is looked at. Returns the number of ends and of states.
fn explore(start: Scene, acts: &[Act], mut look: impl FnMut(&Scene)) -> (usize, usize) {
    let lineup = lineup();
    let (mut seen, mut open, mut ends) = (HashSet::new(), vec![start], 0);
    while let Some(scene) = open.pop() {
        if scene.is_over() {
            ends += 1;
            look(&scene);
        }
        for act in acts {
            let mut next = scene.clone();
            if next.act(*act, &lineup) && seen.insert(format!("{next:?}")) {
                open.push(next);
            }
        }
    }
    (ends, seen.len())
}

const STEPS: [Act; 5] = [Act::Press, Act::Step, Act::Take, Act::TuneDone, Act::Performed];

#[test]
fn digits_tune_to_201_at_every_moment_of_the_switch() {
    for playing in [TITLE, LIVE] {
        let (ends, states) = explore(Scene::new(playing), &STEPS, |scene| {
            let outcomes: Vec<_> = scene.answers.iter().map(|(_, of)| of.to_string()).collect();
            let back = format!("tuned to {}", playing.number);
            let expected = ["digits 2", "digits 20", "tuned to 201", "paused", &back];
            assert_eq!(outcomes, expected, "{scene:#?}");
            assert_eq!(scene.tunes[0], (201, None));
            let resume = playing.is_title.then_some(Npt(201));
            assert_eq!(scene.tunes[1..], [(playing.number, resume)]);
        });
        assert!(ends > 0 && states > 50, "{ends} ends in {states} states");
    }
}

#[test]
fn timeouts_and_refusals_at_every_moment_leave_what_one_key_after_the_other_would() {
    for playing in [TITLE, LIVE] {
        let acts = [&STEPS[..], &[Act::TimeUp, Act::TuneRefused]].concat();
        let mut numbers = HashSet::new();
        let (ends, states) = explore(Scene::new(playing), &acts, |scene| {
            let model = Model::new(playing, scene.told.clone()).run(&scene.log);
            assert_eq!(scene.answers, model.answers, "{scene:#?}");
            assert_eq!(scene.tunes, model.tunes, "{scene:#?}");
            numbers.extend(scene.tunes.iter().map(|(number, _)| *number));
        });
        assert!(ends > 10 && states > 400, "{ends} ends in {states} states");
        assert!(numbers.contains(&201) && numbers.contains(&20), "{numbers:?}");
    }
}

#[test]
fn session_that_ends_at_any_moment_answers_everyone_who_waits_once_and_in_order() {
    let lineup = lineup();
    let (mut seen, mut open) = (HashSet::new(), vec![Scene::new(TITLE)]);
    let acts = [&STEPS[..], &[Act::TimeUp]].concat();
    while let Some(scene) = open.pop() {
        let answered = scene.answers.iter().map(|(waiter, _)| *waiter);
        let waiters: Vec<u32> = answered.chain(scene.remote.clone().end()).collect();
        assert!(waiters.iter().copied().eq(0..u32::try_from(scene.pressed).unwrap()), "{scene:#?}");
        for act in &acts {
            let mut next = scene.clone();
            if next.act(*act, &lineup) && seen.insert(format!("{next:?}")) {
                open.push(next);
            }
        }
    }
}
