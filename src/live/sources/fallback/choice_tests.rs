//! The choice of a source: cases, and a simulation of sources that come and go.

use proptest::prelude::*;

use super::*;

const RULES: ChoiceRules = ChoiceRules {
    silence: Duration::from_secs(10),
    return_after: Duration::from_secs(5),
    switch_interval: Duration::from_secs(2),
    has_standby: false,
};

fn at(ms: u64) -> Mono {
    Mono(1_000_000_000 + ms * 1_000_000)
}

/// A choice with the steps that it asked for.
struct Bench {
    choice: Choice,
}

impl Bench {
    fn new(count: usize, rules: ChoiceRules) -> Self {
        Self { choice: Choice::new(count, rules) }
    }

    fn settle(&mut self, ms: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        self.choice.settle(at(ms), &mut steps);
        steps
    }

    /// A batch of each of these sources.
    fn hear(&mut self, sources: &[usize], ms: u64) -> Vec<Step> {
        for source in sources {
            self.choice.handle_batch(*source, at(ms));
        }
        self.settle(ms)
    }

    fn switched(&mut self, to: usize, ms: u64) {
        self.choice.handle_switched(to, at(ms));
        assert_eq!(self.settle(ms).iter().find(|step| matches!(step, Step::Switch(_))), None);
    }
}

fn switch(to: usize, timing: Timing, cause: Cause) -> Step {
    Step::Switch(Change { to, timing, cause })
}

/// A choice that is fed from source 0 at 0 ms, then every second.
fn fed_by_first(rules: ChoiceRules, count: usize) -> Bench {
    let mut bench = Bench::new(count, rules);
    assert_eq!(bench.settle(0)[0], Step::Want(0));
    assert_eq!(bench.hear(&[0], 0)[0], switch(0, Timing::Now, Cause::Start));
    bench.switched(0, 0);
    bench
}

#[test]
fn next_source_is_asked_for_when_the_one_before_fails_or_does_not_send() {
    let mut bench = Bench::new(3, RULES);
    assert_eq!(bench.settle(0), [Step::Want(0)]);
    bench.choice.handle_failed(0, at(10));
    assert_eq!(bench.settle(10), [Step::Want(1)]);
    assert_eq!(bench.choice.due(), Some(at(1_010)), "when source 0 is asked for again");
    assert_eq!(bench.settle(1_010), [Step::Want(0)]);
    assert_eq!(bench.settle(2_009), [], "source 1 is waited for, source 0 is not");
    assert_eq!(bench.settle(2_010), [Step::Want(2)]);
    let steps = bench.hear(&[2], 3_500);
    assert_eq!(steps, [switch(2, Timing::Now, Cause::Start)]);
}

#[test]
fn lost_source_is_followed_at_once_by_a_standby_and_the_return_waits() {
    let mut bench = fed_by_first(ChoiceRules { has_standby: true, ..RULES }, 2);
    assert_eq!(bench.hear(&[0, 1], 9_000), []);
    bench.choice.handle_lost(0, at(9_100));
    assert_eq!(bench.settle(9_100), [switch(1, Timing::Now, Cause::Lost)]);
    bench.switched(1, 9_100);
    assert_eq!(bench.hear(&[0, 1], 10_000), []);
    assert_eq!(bench.choice.due(), Some(at(15_000)));
    assert_eq!(bench.hear(&[0, 1], 14_999), []);
    let steps = bench.hear(&[0, 1], 15_000);
    assert_eq!(steps, [switch(0, Timing::NextKeyFrame, Cause::Better)]);
    assert_eq!(bench.hear(&[0, 1], 15_100), [], "the switch is requested once");
}

#[test]
fn source_is_lost_after_its_silence_and_the_path_is_released_without_another() {
    let mut bench = fed_by_first(RULES, 1);
    assert_eq!(bench.choice.due(), Some(at(10_000)));
    assert_eq!(bench.settle(9_999), []);
    assert_eq!(bench.settle(10_000), [Step::Release]);
    assert_eq!(bench.choice.active(), None);
    assert_eq!(bench.hear(&[0], 11_000), [switch(0, Timing::Now, Cause::Start)]);
}

#[test]
fn flapping_source_switches_no_more_often_than_the_interval() {
    let rules = ChoiceRules { has_standby: true, ..RULES };
    let mut bench = fed_by_first(rules, 3);
    bench.hear(&[0, 1], 500);
    bench.choice.handle_lost(0, at(1_000));
    let steps = bench.settle(1_000);
    assert!(steps.contains(&Step::Release), "{steps:?}: 1 s after the last switch");
    assert_eq!(bench.choice.due(), Some(at(2_000)));
    let steps = bench.hear(&[1], 2_000);
    assert!(steps.contains(&switch(1, Timing::Now, Cause::Start)), "{steps:?}");
}

#[test]
fn operators_choice_goes_before_the_order_while_it_is_good() {
    let mut bench = fed_by_first(RULES, 3);
    assert_eq!(bench.choice.wait(at(500)), Some(Duration::from_millis(1_500)));
    assert_eq!(bench.choice.wait(at(2_000)), None);
    bench.choice.pin(2, Timing::Now, at(5_000));
    assert_eq!(bench.hear(&[0], 5_000), [Step::Want(2)]);
    let steps = bench.hear(&[0, 2], 5_100);
    assert_eq!(steps, [switch(2, Timing::Now, Cause::Operator)]);
    bench.switched(2, 5_100);
    assert_eq!(bench.hear(&[0, 2], 12_000), [], "the better source does not take over");
    bench.choice.handle_failed(2, at(12_100));
    assert_eq!(bench.settle(12_100)[0], switch(0, Timing::Now, Cause::Lost));
    assert_eq!(bench.choice.pinned(), None, "the order of preference rules again");
    bench.switched(0, 12_100);
    bench.hear(&[0], 13_000);
    assert_eq!(bench.choice.standing(2), Standing::Off);
}

#[test]
fn operators_choice_of_a_source_that_fails_or_does_not_send_in_time_is_dropped() {
    let mut bench = fed_by_first(RULES, 3);
    bench.choice.pin(1, Timing::Now, at(5_000));
    assert_eq!(bench.hear(&[0], 5_000), [Step::Want(1)]);
    bench.choice.handle_failed(1, at(5_100));
    bench.hear(&[0], 5_100);
    assert_eq!((bench.choice.pinned(), bench.choice.standing(1)), (None, Standing::Off));
    bench.choice.pin(2, Timing::Now, at(6_000));
    bench.hear(&[0], 12_000);
    assert_eq!((bench.choice.pinned(), bench.choice.standing(2)), (Some(2), Standing::Wanted));
    assert_eq!(bench.choice.due(), Some(at(14_000)));
    assert_eq!(bench.hear(&[0], 14_000), [Step::Leave(2)]);
    assert_eq!((bench.choice.pinned(), bench.choice.active()), (None, Some(0)));
    // A source that sends, and no key frame: the switch is asked for and called off.
    bench.choice.pin(1, Timing::NextKeyFrame, at(15_000));
    bench.hear(&[0], 15_000);
    let steps = bench.hear(&[0, 1], 15_100);
    assert_eq!(steps, [switch(1, Timing::NextKeyFrame, Cause::Operator)]);
    bench.hear(&[0, 1], 22_900);
    assert_eq!(bench.hear(&[0, 1], 23_000), [Step::Leave(1)]);
    assert_eq!((bench.choice.pending(), bench.choice.active()), (None, Some(0)));
}

#[test]
fn switch_at_a_key_frame_becomes_urgent_when_the_old_source_is_lost() {
    let mut bench = fed_by_first(RULES, 2);
    bench.choice.pin(1, Timing::NextKeyFrame, at(3_000));
    bench.hear(&[0], 3_000);
    assert_eq!(bench.hear(&[0, 1], 3_100), [switch(1, Timing::NextKeyFrame, Cause::Operator)]);
    bench.choice.handle_lost(0, at(3_200));
    assert_eq!(bench.settle(3_200), [switch(1, Timing::Now, Cause::Operator)]);
}

/// What happens to a source at a time.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Sends,
    Silent,
    Lost,
    Ends,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Sends),
        1 => Just(Fate::Silent),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Ends),
    ]
}

/// Sources that come and go, with a caller that carries out each step.
struct World {
    choice: Choice,
    wanted: Vec<bool>,
    switches: Vec<(u64, usize)>,
}

impl World {
    fn settle(&mut self, ms: u64, key_frame: bool) {
        let mut steps = Vec::new();
        self.choice.settle(at(ms), &mut steps);
        for step in steps {
            match step {
                Step::Want(source) => {
                    assert!(!std::mem::replace(&mut self.wanted[source], true));
                }
                Step::Leave(source) => {
                    assert!(std::mem::replace(&mut self.wanted[source], false));
                    assert_ne!(self.choice.active(), Some(source));
                }
                Step::Switch(change) => {
                    assert!(self.choice.is_good(change.to));
                    assert!(self.wanted[change.to]);
                    assert_eq!(self.choice.pending(), Some(change));
                }
                Step::Release => assert_eq!(self.choice.active(), None),
            }
        }
        let change = self.choice.pending();
        if let Some(change) = change.filter(|change| change.timing == Timing::Now || key_frame) {
            self.choice.handle_switched(change.to, at(ms));
            self.switches.push((ms, change.to));
        }
    }
}

proptest! {
    #[test]
    fn any_life_of_the_sources_ends_with_the_best_good_one_and_never_flaps(
        count in 1..=4_usize,
        has_standby: bool,
        fates in prop::collection::vec((0..4_usize, fate(), 0..20_u64), 0..60),
        pins in prop::collection::vec((0..60_usize, prop::option::of(0..4_usize)), 0..3),
    ) {
        let rules = ChoiceRules { has_standby, ..RULES };
        let choice = Choice::new(count, rules);
        let mut world = World { choice, wanted: vec![false; count], switches: Vec::new() };
        let (mut ms, mut present) = (0, vec![Fate::Sends; count]);
        let lives = (0..).zip(fates.iter().copied().map(Some)).chain([(usize::MAX, None)]);
        for (turn, fate) in lives {
            // After the last event all sources send for a while.
            let turns = match fate {
                Some((source, fate, turns)) => {
                    present[source % count] = fate;
                    turns
                }
                None => {
                    present.fill(Fate::Sends);
                    world.choice.unpin();
                    120
                }
            };
            if let Some((_, pin)) = pins.iter().find(|(when, _)| *when == turn) {
                match pin {
                    Some(pin) => world.choice.pin(*pin % count, Timing::NextKeyFrame, at(ms)),
                    None => world.choice.unpin(),
                }
            }
            for _ in 0..=turns {
                for (source, fate) in present.iter().enumerate() {
                    match fate {
                        Fate::Sends if world.wanted[source] => {
                            world.choice.handle_batch(source, at(ms));
                        }
                        Fate::Lost => world.choice.handle_lost(source, at(ms)),
                        Fate::Ends => {
                            world.choice.handle_failed(source, at(ms));
                            world.wanted[source] = false;
                        }
                        Fate::Sends | Fate::Silent => {}
                    }
                }
                world.settle(ms, ms % 1_000 == 0);
                prop_assert!(world.choice.due().is_none_or(|due| due > at(ms)));
                ms += 200;
            }
        }
        prop_assert_eq!(world.choice.active(), Some(0));
        let times = world.switches.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let least = times.min().unwrap_or(u64::MAX);
        prop_assert!(least >= 2_000, "{:?}", world.switches);
    }
}
