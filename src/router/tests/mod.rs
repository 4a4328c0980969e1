//! Tests of the event router: against a model with separate queues, as a table, and at each moment
//! of a switch.

mod any_order;
mod digits;
mod table;

use super::*;

/// A router with `COUNT` consumers.
fn router<const COUNT: usize>(capacity: usize) -> (EventRouter<u32>, [ConsumerId; COUNT]) {
    let mut router = EventRouter::new(capacity);
    let consumers = std::array::from_fn(|_| router.add().unwrap());
    (router, consumers)
}

fn consumed(router: &mut EventRouter<u32>, consumer: ConsumerId) -> Option<u32> {
    match router.begin(consumer)? {
        Delivery::Event(no, _) => Some(router.consume(consumer, no).unwrap()),
        Delivery::Reset => None,
    }
}

#[test]
fn events_of_the_old_consumer_go_to_the_new_one_before_those_held_during_the_switch() {
    let (mut router, [native, managed]) = router(16);
    assert_eq!(router.switch(managed), Ok(Switch::Active));
    for event in [1, 2, 3] {
        router.route(event).unwrap();
    }
    assert_eq!(router.begin(managed), Some(Delivery::Event(EventNo(0), &1)));
    assert_eq!(router.switch(native), Ok(Switch::Begun));
    router.route(4).unwrap();
    assert_eq!(router.begin(native), None, "event 1 is still at the managed consumer");
    router.hand_over(managed, EventNo(0), native).unwrap();
    for event in [1, 2, 3] {
        assert_eq!(consumed(&mut router, native), Some(event));
    }
    assert_eq!(router.begin(native), None, "event 4 is held until Reset is consumed");
    assert_eq!(router.begin(managed), Some(Delivery::Reset));
    assert_eq!(router.consume_reset(managed), Ok(native));
    assert_eq!(consumed(&mut router, native), Some(4));
    assert!(router.is_empty());
}

#[test]
fn full_router_hands_the_event_back_and_takes_it_when_there_is_room() {
    let (mut router, [only]) = router(2);
    router.route(1).unwrap();
    router.switch(only).unwrap();
    router.route(2).unwrap();
    assert_eq!(router.route(3), Err(FullError(3)));
    assert_eq!(consumed(&mut router, only), Some(1));
    assert_eq!(router.route(3), Ok(EventNo(2)));
    assert_eq!((consumed(&mut router, only), consumed(&mut router, only)), (Some(2), Some(3)));
}

#[test]
fn consumers_end_only_what_they_have_begun() {
    let (mut router, [a, b]) = router(4);
    router.switch(a).unwrap();
    router.route(1).unwrap();
    let first = EventNo(0);
    assert_eq!(router.consume(a, first), Err(RouterError::NotBegun));
    assert_eq!(router.hand_over(a, first, b), Err(RouterError::NotBegun));
    router.begin(a).unwrap();
    assert_eq!(router.consume(b, first), Err(RouterError::NotBegun));
    assert_eq!(router.consume(a, EventNo(1)), Err(RouterError::NotBegun));
    assert_eq!(router.consume_reset(a), Err(RouterError::NotAtReset));
    router.switch(b).unwrap();
    assert_eq!(router.consume_reset(a), Err(RouterError::NotAtReset), "an event is before it");
    assert_eq!(router.consume(a, first), Ok(1));
    assert_eq!(router.consume(a, first), Err(RouterError::NotBegun), "a second time");
    assert_eq!(router.consume_reset(a), Ok(b));
}

#[test]
fn late_word_of_a_removed_consumer_ends_nothing() {
    let (mut router, [old]) = router(4);
    router.switch(old).unwrap();
    let no = router.route(1).unwrap();
    router.begin(old).unwrap();
    router.remove(old, None).unwrap();
    let new = router.add().unwrap();
    assert_ne!(new, old, "the place is the same, the name is not");
    router.switch(new).unwrap();
    assert_eq!(router.begin(new), Some(Delivery::Event(no, &1)));
    assert_eq!(router.consume(old, no), Err(RouterError::NotBegun));
    assert_eq!(router.switch(old), Err(RouterError::NoConsumer));
    assert_eq!(router.consume(new, no), Ok(1));
}

#[test]
fn places_of_removed_consumers_are_given_again_and_are_bounded() {
    let (mut router, consumers) = router::<CONSUMERS_MAX>(1);
    assert_eq!(router.add(), Err(RouterError::TooManyConsumers));
    router.remove(consumers[3], None).unwrap();
    assert_eq!(router.remove(consumers[3], None), Err(RouterError::NoConsumer));
    assert_eq!(router.switch(consumers[3]), Err(RouterError::NoConsumer));
    assert_eq!(router.remove(consumers[1], Some(consumers[1])), Err(RouterError::NoConsumer));
    let added = router.add().unwrap();
    assert_eq!((added.place, added == consumers[3]), (3, false));
}
