//! Any sequence of operations, compared with a model that is built as the reference draws it: a
//! queue for each consumer, a queue of the router, and Reset as an item of a queue.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Route,
    Switch(u8),
    Begin(u8),
    /// With the number of the event, or with the next one.
    Consume(u8, bool),
    HandOver(u8, u8),
    ConsumeReset(u8),
    Add,
    Remove(u8, Option<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Item {
    Event(u32),
    Reset,
}

/// The model. Events are numbered by the test, so that a queue in order is a sorted one.
#[derive(Debug, Default)]
struct Model {
    queues: BTreeMap<u8, VecDeque<Item>>,
    held: VecDeque<u32>,
    active: Option<u8>,
    /// The consumer that a switch goes to, and the next one.
    target: Option<u8>,
    then: Option<u8>,
    begun: Option<(u8, u32)>,
    waiting: usize,
}

impl Model {
    fn put(&mut self, consumer: u8, event: u32) {
        let queue = self.queues.get_mut(&consumer).unwrap();
        let later = |item: &Item| match item {
            Item::Event(other) => *other > event,
            Item::Reset => true,
        };
        let place = queue.iter().position(later).unwrap_or(queue.len());
        queue.insert(place, Item::Event(event));
    }

    fn route(&mut self, event: u32) {
        self.waiting += 1;
        match self.active.filter(|_| self.target.is_none()) {
            Some(active) => self.put(active, event),
            None => self.held.push_back(event),
        }
    }

    fn begin(&mut self, consumer: u8) -> Option<Item> {
        let first = *self.queues.get(&consumer)?.front()?;
        if let Item::Event(event) = first {
            let others = self.queues.values().flatten().filter_map(|item| match item {
                Item::Event(event) => Some(*event),
                Item::Reset => None,
            });
            if others.chain(self.held.iter().copied()).any(|other| other < event) {
                return None;
            }
            self.begun = Some((consumer, event));
        }
        Some(first)
    }

    fn end(&mut self, consumer: u8) -> Option<u32> {
        let (_, event) = self.begun.filter(|(begun, _)| *begun == consumer)?;
        self.begun = None;
        assert_eq!(self.queues.get_mut(&consumer)?.pop_front(), Some(Item::Event(event)));
        Some(event)
    }

    fn switch(&mut self, to: u8) {
        match (self.active, self.target) {
            (None, _) => self.activate(to),
            (Some(active), None) if active != to => self.drain(active, to),
            (Some(_), None) => {}
            (Some(_), Some(target)) => self.then = Some(to).filter(|to| *to != target),
        }
    }

    fn drain(&mut self, from: u8, to: u8) {
        let queue = std::mem::take(self.queues.get_mut(&from).unwrap());
        for item in queue {
            match item {
                Item::Event(event) if self.begun == Some((from, event)) => self.put(from, event),
                Item::Event(event) => self.put(to, event),
                Item::Reset => {}
            }
        }
        self.queues.get_mut(&from).unwrap().push_back(Item::Reset);
        (self.target, self.then) = (Some(to), None);
    }

    fn activate(&mut self, to: u8) {
        let then = self.then.take();
        (self.active, self.target) = (Some(to), None);
        for event in std::mem::take(&mut self.held) {
            self.put(to, event);
        }
        if let Some(then) = then.filter(|then| *then != to) {
            self.drain(to, then);
        }
    }

    fn consume_reset(&mut self, consumer: u8) -> bool {
        let is_at_reset =
            self.queues.get(&consumer).is_some_and(|q| q.front() == Some(&Item::Reset));
        if is_at_reset {
            self.queues.get_mut(&consumer).unwrap().pop_front();
            self.activate(self.target.unwrap());
        }
        is_at_reset
    }

    fn remove(&mut self, gone: u8, heir: Option<u8>) {
        let queue = self.queues.remove(&gone).unwrap();
        self.begun = self.begun.filter(|(consumer, _)| *consumer != gone);
        self.then = self.then.filter(|then| *then != gone);
        let (active, target) = (self.active, self.target);
        let is_target = target == Some(gone);
        let next = heir.or(self.then).or(active).filter(|_| is_target);
        let to = match active {
            _ if is_target => next,
            Some(active) if active == gone => heir.or(target),
            _ => heir.or(target).or(active),
        };
        for item in queue {
            match (item, to) {
                (Item::Event(event), Some(to)) => self.put(to, event),
                (Item::Event(event), None) => {
                    let place = self.held.iter().position(|other| *other > event);
                    self.held.insert(place.unwrap_or(self.held.len()), event);
                }
                (Item::Reset, _) => {}
            }
        }
        match (active, target) {
            (Some(active), Some(_)) if next == Some(active) => {
                let old = self.queues.get_mut(&active).unwrap();
                old.retain(|item| *item != Item::Reset);
                self.activate(active);
            }
            (_, Some(_)) if is_target => {
                self.target = next;
                self.then = self.then.filter(|then| Some(*then) != next);
            }
            (Some(active), Some(target)) if active == gone => self.activate(target),
            (Some(active), None) if active == gone => {
                self.active = None;
                if let Some(heir) = heir {
                    self.activate(heir);
                }
            }
            _ => {}
        }
    }
}

const CAPACITY: usize = 6;
const COUNT: u8 = 4;

fn op() -> impl Strategy<Value = Op> {
    let consumer = || 0..COUNT;
    prop_oneof![
        6 => Just(Op::Route),
        3 => consumer().prop_map(Op::Switch),
        6 => consumer().prop_map(Op::Begin),
        5 => (consumer(), prop::bool::weighted(0.9)).prop_map(|(a, b)| Op::Consume(a, b)),
        3 => (consumer(), consumer()).prop_map(|(a, b)| Op::HandOver(a, b)),
        3 => consumer().prop_map(Op::ConsumeReset),
        1 => Just(Op::Add),
        1 => (consumer(), prop::option::of(consumer())).prop_map(|(a, b)| Op::Remove(a, b)),
    ]
}

fn shown(delivery: Delivery<'_, u32>) -> Item {
    match delivery {
        Delivery::Event(_, event) => Item::Event(*event),
        Delivery::Reset => Item::Reset,
    }
}

/// Applies an operation to both and compares what it gives. Events that are consumed are appended
/// to `done`.
fn apply(
    router: &mut EventRouter<u32>,
    model: &mut Model,
    names: &mut [ConsumerId; COUNT as usize],
    op: Op,
    next: &mut u32,
    done: &mut Vec<u32>,
) -> Result<(), TestCaseError> {
    let known = |model: &Model, consumer: u8| model.queues.contains_key(&consumer);
    match op {
        Op::Route if model.waiting == CAPACITY => {
            prop_assert_eq!(router.route(*next), Err(FullError(*next)));
        }
        Op::Route => {
            prop_assert_eq!(router.route(*next), Ok(EventNo(u64::from(*next))));
            model.route(*next);
            *next += 1;
        }
        Op::Switch(to) => {
            prop_assert_eq!(router.switch(names[usize::from(to)]).is_ok(), known(model, to));
            if known(model, to) {
                model.switch(to);
            }
        }
        Op::Begin(consumer) => {
            let item = router.begin(names[usize::from(consumer)]).map(shown);
            prop_assert_eq!(item, model.begin(consumer));
        }
        Op::Consume(consumer, is_right) => {
            let begun = model.begun.map_or(0, |(_, event)| u64::from(event));
            let no = EventNo(begun + u64::from(!is_right));
            let event = router.consume(names[usize::from(consumer)], no).ok();
            prop_assert_eq!(event, if is_right { model.end(consumer) } else { None });
            model.waiting -= usize::from(event.is_some());
            done.extend(event);
        }
        Op::HandOver(consumer, to) => {
            let no = EventNo(model.begun.map_or(0, |(_, event)| u64::from(event)));
            let (from, heir) = (names[usize::from(consumer)], names[usize::from(to)]);
            let is_done = router.hand_over(from, no, heir).is_ok();
            let event = if known(model, to) { model.end(consumer) } else { None };
            prop_assert_eq!(is_done, event.is_some());
            if let Some(event) = event {
                model.put(to, event);
            }
        }
        Op::ConsumeReset(consumer) => {
            let is_done = router.consume_reset(names[usize::from(consumer)]).is_ok();
            prop_assert_eq!(is_done, model.consume_reset(consumer));
        }
        Op::Add if model.queues.len() < usize::from(COUNT) => {
            let added = router.add().unwrap();
            names[usize::from(added.place)] = added;
            model.queues.insert(added.place, VecDeque::new());
        }
        Op::Add => {}
        Op::Remove(consumer, heir) => {
            let name = |place: u8| names[usize::from(place)];
            let is_done = router.remove(name(consumer), heir.map(name)).is_ok();
            let fits = heir.is_none_or(|heir| heir != consumer && known(model, heir));
            prop_assert_eq!(is_done, known(model, consumer) && fits);
            if is_done {
                model.remove(consumer, heir);
            }
        }
    }
    Ok(())
}

/// The queues of both.
fn compare(
    router: &EventRouter<u32>,
    model: &Model,
    names: &[ConsumerId; COUNT as usize],
) -> Result<(), TestCaseError> {
    let queue = |owner| router.queue(owner).map(|(_, event)| *event).collect::<Vec<u32>>();
    for (consumer, items) in &model.queues {
        let events = items.iter().filter_map(|item| match item {
            Item::Event(event) => Some(*event),
            Item::Reset => None,
        });
        prop_assert_eq!(queue(Some(names[usize::from(*consumer)])), events.collect::<Vec<u32>>());
        let has_reset = items.contains(&Item::Reset);
        let is_draining = matches!(
            router.routing(),
            Routing::Draining { from, .. } if from.place == *consumer
        );
        prop_assert_eq!(has_reset, is_draining);
    }
    prop_assert_eq!(queue(None), Vec::from(model.held.clone()));
    prop_assert_eq!(router.len(), model.waiting);
    prop_assert!(router.len() <= CAPACITY);
    Ok(())
}

proptest! {
    #[test]
    fn any_operations_consume_each_accepted_event_once_and_in_order(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let (mut router, mut model) = (EventRouter::new(CAPACITY), Model::default());
        let (mut next, mut done) = (0, Vec::new());
        // Names of nobody, until consumers are added.
        let mut names = [0, 1, 2, 3].map(|place| ConsumerId { place, serial: u32::MAX });
        for op in [Op::Add, Op::Add, Op::Add].into_iter().chain(ops) {
            apply(&mut router, &mut model, &mut names, op, &mut next, &mut done)?;
            compare(&router, &model, &names)?;
        }
        // What waits is consumed by whoever it is for, within two rounds an event and one a switch.
        apply(&mut router, &mut model, &mut names, Op::Add, &mut next, &mut done)?;
        if router.routing() == Routing::Idle {
            let first = *model.queues.keys().next().unwrap();
            apply(&mut router, &mut model, &mut names, Op::Switch(first), &mut next, &mut done)?;
        }
        for _ in 0..2 * CAPACITY + 2 {
            for consumer in 0..COUNT {
                for op in [Op::Begin, |consumer| Op::Consume(consumer, true), Op::ConsumeReset] {
                    apply(&mut router, &mut model, &mut names, op(consumer), &mut next, &mut done)?;
                    compare(&router, &model, &names)?;
                }
            }
        }
        prop_assert!(router.is_empty());
        prop_assert_eq!(done, (0..next).collect::<Vec<u32>>());
    }
}
