//! Any keys, outcomes and times in any order, compared with one key after the other.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Press(Input),
    Poll,
    Tuned(Result<Option<Npt>, Refusal>),
    Performed(Result<(), Refusal>),
    TimeUp,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => prop_oneof![Just(2_u8), Just(0), Just(1), Just(7), Just(3)].prop_map(Input::Digit),
        1 => prop_oneof![Just(7_u16), Just(20), Just(201), Just(300), Just(5)].prop_map(Input::Channel),
        3 => prop::sample::select(vec![
            Input::Up, Input::Down, Input::Last, Input::Play, Input::Pause, Input::Forward,
            Input::Rewind, Input::Seek(Npt(9)), Input::PlayRequest, Input::PauseRequest,
        ]),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let tuned = prop_oneof![
        3 => (0_i64..5).prop_map(|npt| Ok(Some(Npt(npt)))),
        1 => Just(Ok(None)),
        1 => Just(Err(Refusal::NotPlaying)),
    ];
    let performed = prop_oneof![3 => Just(Ok(())), 1 => Just(Err(Refusal::NotPlaying))];
    prop_oneof![
        4 => input().prop_map(Act::Press),
        4 => Just(Act::Poll),
        2 => tuned.prop_map(Act::Tuned),
        2 => performed.prop_map(Act::Performed),
        1 => Just(Act::TimeUp),
    ]
}

/// What the caller is doing.
#[derive(Debug, Default)]
struct Caller {
    is_tuning: bool,
    is_performing: bool,
    told: Told,
    answers: Vec<(u32, Outcome)>,
    tunes: Vec<(u16, Option<Npt>)>,
}

impl Caller {
    fn poll(&mut self, remote: &mut Remote<u32>, lineup: &Lineup) -> bool {
        match remote.poll(NOW, rules(lineup)) {
            None => return false,
            Some(Action::Answer(waiter, outcome)) => self.answers.push((waiter, outcome)),
            Some(Action::Perform(..)) => {
                assert!(!self.is_tuning && !self.is_performing, "one thing at a time");
                self.is_performing = true;
            }
            Some(Action::Tune { number, resume }) => {
                assert!(!self.is_tuning && !self.is_performing, "one thing at a time");
                self.is_tuning = true;
                self.tunes.push((number, resume));
            }
        }
        true
    }

    fn tuned(&mut self, remote: &mut Remote<u32>, result: Result<Option<Npt>, Refusal>) {
        if std::mem::take(&mut self.is_tuning) {
            self.told.tuned.push_back(result.clone());
            remote.handle_tuned(result);
        }
    }

    fn performed(&mut self, remote: &mut Remote<u32>, result: Result<(), Refusal>) {
        if std::mem::take(&mut self.is_performing) {
            self.told.performed.push_back(result.clone());
            remote.handle_performed(result);
        }
    }
}

proptest! {
    #[test]
    fn events_are_answered_once_in_order_and_as_one_after_the_other(
        acts in prop::collection::vec(act(), 1..200),
        starts_with_title: bool,
        ends_early: bool,
    ) {
        let lineup = lineup();
        let playing = if starts_with_title { TITLE } else { LIVE };
        let (mut remote, mut caller) = (Remote::new(playing), Caller::default());
        let (mut log, mut next) = (Vec::new(), 0);
        for act in acts {
            match act {
                Act::Press(input) => {
                    let has_room = remote.room() > 0;
                    prop_assert_eq!(remote.route(input, next), has_room);
                    if has_room {
                        log.push(Happened::Pressed(input, next));
                        next += 1;
                    }
                }
                Act::Poll => {
                    caller.poll(&mut remote, &lineup);
                }
                Act::Tuned(result) => caller.tuned(&mut remote, result),
                Act::Performed(result) => caller.performed(&mut remote, result),
                Act::TimeUp => {
                    let was_over = remote.digits.is_over;
                    remote.handle_due(LATER);
                    if remote.digits.is_over && !was_over {
                        log.push(Happened::TimeUp);
                    }
                }
            }
            prop_assert!(remote.router.len() <= EVENTS_MAX && remote.out.len() <= 2);
        }
        if ends_early {
            let answered = caller.answers.iter().map(|(waiter, _)| *waiter);
            let waiters: Vec<u32> = answered.chain(remote.end()).collect();
            prop_assert!(waiters.into_iter().eq(0..next), "each once, in order");
            return Ok(());
        }
        // Bounded: an event takes a change of the channel and what goes before it.
        for _ in 0..8 * next + 8 {
            if !caller.poll(&mut remote, &lineup) {
                caller.tuned(&mut remote, Ok(None));
                caller.performed(&mut remote, Ok(()));
            }
        }
        prop_assert!(remote.router.is_empty() && remote.doing == Doing::Nothing);
        let model = Model::new(playing, caller.told).run(&log);
        prop_assert_eq!(caller.answers, model.answers);
        prop_assert_eq!(caller.tunes, model.tunes);
        let is_titles = remote.playing().is_title && remote.digits.text.is_empty();
        let active = if is_titles { remote.title } else { remote.tuner };
        prop_assert_eq!(remote.router.routing(), crate::router::Routing::Active(active));
    }
}
