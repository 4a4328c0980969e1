//! The table of states and operations, `table.txt`: what each operation does in each state.

use std::fmt::Write;

use super::*;

/// The states, by name. Consumer a has begun event 1; event 2 is behind it; event 3 came during the
/// switch.
fn states() -> [(&'static str, EventRouter<u32>); 6] {
    let (mut idle, [a, b, c]) = router(4);
    idle.route(1).unwrap();
    let mut active = EventRouter { entries: VecDeque::new(), next_no: 0, ..idle.clone() };
    active.switch(a).unwrap();
    active.route(1).unwrap();
    active.route(2).unwrap();
    active.begin(a).unwrap();
    let mut draining = active.clone();
    draining.switch(b).unwrap();
    draining.route(3).unwrap();
    let (mut back, mut onward, mut at_reset) =
        (draining.clone(), draining.clone(), draining.clone());
    back.switch(a).unwrap();
    onward.switch(c).unwrap();
    at_reset.consume(a, FIRST).unwrap();
    [
        ("idle", idle),
        ("active a", active),
        ("a to b", draining),
        ("a to b, a at Reset", at_reset),
        ("a to b, then a", back),
        ("a to b, then c", onward),
    ]
}

const A: ConsumerId = ConsumerId { place: 0, serial: 0 };
const B: ConsumerId = ConsumerId { place: 1, serial: 1 };
const C: ConsumerId = ConsumerId { place: 2, serial: 2 };
const FIRST: EventNo = EventNo(0);

type Operation = (&'static str, fn(&mut EventRouter<u32>) -> String);

fn operations() -> [Operation; 13] {
    [
        ("route 4", |router| outcome(router.route(4).map(|_| "accepted".into()))),
        ("switch to a", |router| outcome(router.switch(A).map(requested))),
        ("switch to b", |router| outcome(router.switch(B).map(requested))),
        ("switch to c", |router| outcome(router.switch(C).map(requested))),
        ("a consumes", |router| {
            outcome(router.consume(A, FIRST).map(|event| format!("event {event}")))
        }),
        ("a hands over to b", |router| outcome(router.hand_over(A, FIRST, B).map(done))),
        ("a hands over to c", |router| outcome(router.hand_over(A, FIRST, C).map(done))),
        ("a consumes Reset", |router| {
            outcome(router.consume_reset(A).map(|now| format!("to {}", name(now))))
        }),
        ("a disappears", |router| outcome(router.remove(A, None).map(done))),
        ("a disappears, heir c", |router| outcome(router.remove(A, Some(C)).map(done))),
        ("b disappears", |router| outcome(router.remove(B, None).map(done))),
        ("b disappears, heir c", |router| outcome(router.remove(B, Some(C)).map(done))),
        ("c disappears", |router| outcome(router.remove(C, None).map(done))),
    ]
}

fn outcome<E: std::fmt::Display>(result: Result<String, E>) -> String {
    result.unwrap_or_else(|error| error.to_string())
}

fn done((): ()) -> String {
    "done".into()
}

fn requested(switch: Switch) -> String {
    match switch {
        Switch::Active => "active".into(),
        Switch::Begun => "begun".into(),
        Switch::Queued { replaced: None } => "queued".into(),
        Switch::Queued { replaced: Some(old) } => format!("queued in place of {}", name(old)),
    }
}

fn name(consumer: ConsumerId) -> char {
    char::from(b'a' + consumer.place)
}

fn shown(routing: Routing) -> String {
    match routing {
        Routing::Idle => "idle".into(),
        Routing::Active(a) => format!("active {}", name(a)),
        Routing::Draining { from, to, then: None } => format!("{} to {}", name(from), name(to)),
        Routing::Draining { from, to, then: Some(then) } => {
            format!("{} to {}, then {}", name(from), name(to), name(then))
        }
    }
}

fn queues(router: &EventRouter<u32>) -> String {
    let mut text = String::new();
    for (owner, label) in [(Some(A), "a"), (Some(B), "b"), (Some(C), "c"), (None, "held")] {
        let events: Vec<String> = router.queue(owner).map(|(_, n)| n.to_string()).collect();
        if !events.is_empty() {
            write!(text, " {label}:{}", events.join(",")).unwrap();
        }
    }
    text
}

#[test]
fn each_operation_in_each_state_is_as_in_the_table() {
    let mut table = String::new();
    for (state, router) in states() {
        writeln!(table, "{state}:{}", queues(&router)).unwrap();
        for (operation, act) in operations() {
            let mut after = router.clone();
            let outcome = act(&mut after);
            let state = shown(after.routing());
            let line = format!("  {operation:<22}{state:<18}{:<28} {outcome}", queues(&after));
            writeln!(table, "{}", line.trim_end()).unwrap();
        }
    }
    assert_eq!(table, include_str!("../table.txt"), "\n{table}");
}
