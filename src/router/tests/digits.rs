//! The example of the reference: 2, 0, 1 pressed while a title plays tunes to channel 201, at
//! whatever moment the switch to the tuner begins. Every order of steps is tried.

use std::collections::HashSet;

use super::*;

const PAUSE: u32 = 100;
/// Keys in the order in which they are pressed.
const KEYS: [u32; 4] = [2, 0, 1, PAUSE];

/// Who asks for the switch to the tuner, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Asks {
    /// The title, before it hands over the digit with this place.
    TitleBefore(usize),
    /// The title, after it has handed over the digit with this place.
    TitleAfter(usize),
    /// The tuner, when it consumes the digit with this place.
    Tuner(usize),
    /// An operator, at any moment.
    Outside,
}

/// A title that plays and a tuner, with what they have done.
#[derive(Debug, Clone)]
struct Screen {
    router: EventRouter<u32>,
    title: ConsumerId,
    tuner: ConsumerId,
    pressed: usize,
    has_asked: bool,
    handed_over: usize,
    digits: Vec<u32>,
    tuned: Option<u32>,
    /// Events in the order in which they were consumed.
    consumed: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Press,
    Title,
    TitleEnds,
    Tuner,
    TunerEnds,
    Outside,
}

impl Screen {
    fn new() -> Self {
        let (mut router, [title, tuner]) = router(KEYS.len());
        router.switch(title).unwrap();
        let (digits, consumed) = (Vec::new(), Vec::new());
        let (pressed, has_asked, handed_over, tuned) = (0, false, 0, None);
        Self { router, title, tuner, pressed, has_asked, handed_over, digits, tuned, consumed }
    }

    fn ask(&mut self) {
        if !self.has_asked {
            self.has_asked = true;
            self.router.switch(self.tuner).unwrap();
        }
    }

    /// Begins the next event of a consumer, or consumes its Reset: another step may come between
    /// the beginning and the end.
    fn begin(&mut self, consumer: ConsumerId) {
        if self.router.begin(consumer) == Some(Delivery::Reset) {
            self.router.consume_reset(consumer).unwrap();
        }
    }

    /// The event that a consumer has begun.
    fn begun_by(&self, consumer: ConsumerId) -> Option<(EventNo, u32)> {
        let (no, event) = self.router.queue(Some(consumer)).next()?;
        let (no, event) = (no, *event);
        self.router.clone().consume(consumer, no).ok().map(|_| (no, event))
    }

    fn end_title(&mut self, asks: Asks) {
        let Some((no, event)) = self.begun_by(self.title) else { return };
        match event {
            digit @ 0..10 => {
                if asks == Asks::TitleBefore(self.handed_over) {
                    self.ask();
                }
                self.router.hand_over(self.title, no, self.tuner).unwrap();
                if asks == Asks::TitleAfter(self.handed_over) {
                    self.ask();
                }
                assert_eq!(KEYS[self.handed_over], digit, "digits are handed over in order");
                self.handed_over += 1;
            }
            _ => self.consumed.push(self.router.consume(self.title, no).unwrap()),
        }
    }

    fn end_tuner(&mut self, asks: Asks) {
        let Some((no, event)) = self.begun_by(self.tuner) else { return };
        self.consumed.push(self.router.consume(self.tuner, no).unwrap());
        if event >= 10 {
            return;
        }
        if asks == Asks::Tuner(self.digits.len()) {
            self.ask();
        }
        self.digits.push(event);
        if self.digits.len() == 3 {
            self.tuned = Some(self.digits.iter().fold(0, |number, digit| number * 10 + digit));
        }
    }

    fn take(&mut self, step: Step, asks: Asks) {
        match step {
            Step::Press => {
                if let Some(key) = KEYS.get(self.pressed) {
                    self.router.route(*key).unwrap();
                    self.pressed += 1;
                }
            }
            Step::Title => self.begin(self.title),
            Step::TitleEnds => self.end_title(asks),
            Step::Tuner => self.begin(self.tuner),
            Step::TunerEnds => self.end_tuner(asks),
            Step::Outside if asks == Asks::Outside => self.ask(),
            Step::Outside => {}
        }
    }

    fn is_over(&self) -> bool {
        self.pressed == KEYS.len() && self.router.is_empty()
    }
}

const STEPS: [Step; 6] =
    [Step::Press, Step::Title, Step::TitleEnds, Step::Tuner, Step::TunerEnds, Step::Outside];

#[test]
fn digits_tune_to_201_at_every_moment_of_the_switch() {
    let by_title = (0..3).flat_map(|n| [Asks::TitleBefore(n), Asks::TitleAfter(n)]);
    let by_tuner = (0..3).map(Asks::Tuner);
    for asks in by_title.chain(by_tuner).chain([Asks::Outside]) {
        let (mut seen, mut open, mut ends) = (HashSet::new(), vec![Screen::new()], 0);
        while let Some(screen) = open.pop() {
            if screen.is_over() {
                ends += 1;
                assert_eq!(screen.tuned, Some(201), "{asks:?}");
                assert_eq!(screen.consumed, KEYS, "{asks:?}");
            }
            for step in STEPS {
                let mut next = screen.clone();
                next.take(step, asks);
                if seen.insert(format!("{next:?}")) {
                    open.push(next);
                }
            }
        }
        assert!(ends > 0, "{asks:?} never ends");
    }
}
