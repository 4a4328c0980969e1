//! A fetch against scripted sources; `further` has those from several at once.

mod further;

use proptest::prelude::*;

use super::*;
use crate::dist::ids::Digest;
use crate::dist::wire::peer::ContentEnd;

const MS: Duration = Duration::from_millis(1);

fn name(text: &str) -> Peer {
    (text != "base").then(|| NodeName::new(text).unwrap())
}

fn source(text: &str) -> Source {
    let addr = format!("{text}:1");
    let capability = format!("for {text}");
    Source { node: name(text), addr, capability, rate: 1_000_000, is_last_resort: false }
}

fn sources(list: &str) -> Vec<Source> {
    list.split_whitespace().map(source).collect()
}

fn state(have: u64, via: &str) -> ContentState {
    let via = via.split_whitespace().map(|name| NodeName::new(name).unwrap()).collect();
    ContentState { have, end: None, via, rate: 0, is_held: false }
}

/// A fetch of node `me` with a clock and the log of its actions, in short.
struct Rig {
    fetch: Fetch,
    now: Mono,
}

impl Rig {
    fn new(list: &str) -> (Self, Vec<String>) {
        let fetch = Fetch::new(NodeName::new("me").unwrap(), 0, Some(100_000_000));
        let mut rig = Self { fetch, now: Mono(1) };
        let out = rig.plan(1, list);
        (rig, out)
    }

    fn run(&mut self, step: impl FnOnce(&mut Fetch, Mono, &mut Vec<FetchAction>)) -> Vec<String> {
        let mut out = Vec::new();
        step(&mut self.fetch, self.now, &mut out);
        out.iter().map(short).collect()
    }

    fn plan(&mut self, epoch: u64, list: &str) -> Vec<String> {
        self.run(|fetch, now, out| fetch.handle_sources(Epoch(epoch), sources(list), now, out))
    }

    fn link(&mut self, link: u32, event: LinkEvent) -> Vec<String> {
        self.run(|fetch, now, out| fetch.handle_link(LinkId(link), event, now, out))
    }

    fn grow(&mut self, link: u32, have: u64, bytes: u64) {
        assert_eq!(self.link(link, LinkEvent::Grew { have, bytes, at: have }), [""; 0]);
    }

    fn answer(&mut self, ask: u32, state: Option<ContentState>) -> Vec<String> {
        self.run(|fetch, now, out| fetch.handle_state(AskId(ask), state.as_ref(), now, out))
    }

    /// Bytes come at `mine` a second, to a source that gets `theirs` and says so. Ends when
    /// something else is done, or after so many milliseconds.
    fn go(&mut self, link: u32, mine: u64, theirs: u64, ms: u64) -> Vec<String> {
        let (mut have, mut ahead) = (self.fetch.have(), self.fetch.have() + 600_000);
        for _ in 0..ms / 100 {
            (have, ahead) = (have + mine / 10, ahead + theirs / 10);
            self.grow(link, have, mine / 10);
            let out = self.wait(100 * MS);
            let Some(ask) = out.first().and_then(|out| out.strip_prefix("ask ")) else {
                if out.is_empty() {
                    continue;
                }
                return out;
            };
            let (ask, _) = ask.split_once(' ').unwrap();
            let out = self.answer(ask.parse().unwrap(), Some(state(ahead, "")));
            if !out.is_empty() {
                return out;
            }
        }
        Vec::new()
    }

    fn wait(&mut self, time: Duration) -> Vec<String> {
        self.now = self.now + time;
        self.run(|fetch, now, out| fetch.handle_time(now, out))
    }
}

fn short(action: &FetchAction) -> String {
    let peer = |peer: &Peer| peer.as_ref().map_or_else(|| "base".to_owned(), NodeName::to_string);
    match action {
        FetchAction::Connect { link, source, from, part: Some(part), .. } => {
            let to = part.to.map_or_else(|| "end".to_owned(), |to| to.to_string());
            let kind = if part.is_spare { "spare" } else { "part" };
            format!("{kind} {} {} {from}-{to}", link.0, peer(&source.node))
        }
        FetchAction::Connect { link, source, from, part: None, .. } => {
            format!("connect {} {} {from}", link.0, peer(&source.node))
        }
        FetchAction::Use { link } => format!("use {}", link.0),
        FetchAction::Close { link } => format!("close {}", link.0),
        FetchAction::Ask { ask, source } => format!("ask {} {}", ask.0, peer(&source.node)),
        FetchAction::Switched { source, cause, .. } => format!("from {} {cause:?}", peer(source)),
        FetchAction::BadUnit { source, unit } => format!("bad {} {unit}", peer(source)),
        FetchAction::GaveUp(GaveUp { reason, busy, is_refused }) => {
            format!("gave up {reason:?} {busy:?} {is_refused}")
        }
        FetchAction::Further { sources } => {
            let names: Vec<_> = sources.iter().map(peer).collect();
            format!("further {}", names.join(" "))
        }
        FetchAction::Whole => "whole".to_owned(),
    }
}

#[test]
fn bytes_come_from_the_first_source_until_all_are_there() {
    let (mut rig, out) = Rig::new("a base");
    assert_eq!(out, ["connect 1 a 0"]);
    assert_eq!(rig.link(1, LinkEvent::FirstByte), ["use 1", "from a First"]);
    rig.grow(1, 65_536, 65_536);
    rig.grow(1, 131_072, 65_536);
    assert_eq!((rig.fetch.have(), rig.fetch.via()["a"]), (131_072, 131_072));
    assert_eq!(rig.link(1, LinkEvent::Whole), ["close 1", "whole"]);
    assert_eq!(rig.link(1, LinkEvent::Lost), [""; 0]);
    assert_eq!(rig.plan(2, "b base"), [""; 0]);
}

#[test]
fn lost_source_is_left_for_the_next_one_at_the_same_offset() {
    let (mut rig, _) = Rig::new("a b base");
    rig.link(1, LinkEvent::FirstByte);
    rig.grow(1, 65_536, 65_536);
    assert_eq!(rig.link(1, LinkEvent::Lost), ["close 1", "connect 2 b 65536"]);
    assert_eq!(rig.link(2, LinkEvent::Lost), ["close 2", "connect 3 base 65536"]);
    assert_eq!(rig.link(3, LinkEvent::FirstByte), ["use 3", "from base Lost"]);
    rig.grow(3, 131_072, 65_536);
    // Bytes came: all are tried again, this one last.
    assert_eq!(rig.link(3, LinkEvent::Lost), ["close 3", "connect 4 a 131072"]);
    assert_eq!(rig.link(4, LinkEvent::Lost), ["close 4", "connect 5 b 131072"]);
    let out = rig.link(5, LinkEvent::Lost);
    assert_eq!(out, ["close 5", "gave up NoSource None false"], "no byte in this round");
}

#[test]
fn only_source_that_gave_bytes_is_tried_again_at_once() {
    let (mut rig, _) = Rig::new("base");
    rig.link(1, LinkEvent::FirstByte);
    rig.grow(1, 65_536, 65_536);
    assert_eq!(rig.link(1, LinkEvent::Lost), ["close 1", "connect 2 base 65536"]);
    assert_eq!(rig.link(2, LinkEvent::Lost), ["close 2", "gave up NoSource None false"]);
}

#[test]
fn source_without_room_is_left_for_those_that_it_names_before_those_further_up() {
    let (mut rig, _) = Rig::new("a base");
    let named = |names: &str| -> Vec<Alternative> {
        let names = names.split_whitespace();
        let node = |name| NodeName::new(name).unwrap();
        names.map(|name| Alternative { node: node(name), addr: format!("{name}:1") }).collect()
    };
    let busy = LinkEvent::Busy { retry_after: Duration::from_secs(1) };
    rig.fetch.handle_alternatives(LinkId(7), &named("x"));
    rig.fetch.handle_alternatives(LinkId(1), &named("me b a c"));
    assert_eq!(rig.link(1, busy), ["close 1", "connect 2 b 0"]);
    // The capability of the content counts at each of its sources.
    assert_eq!(rig.fetch.sources[1].capability, "for a");
    assert_eq!(rig.link(2, busy), ["close 2", "connect 3 c 0"]);
    assert_eq!(rig.link(3, LinkEvent::Lost), ["close 3", "connect 4 base 0"]);
    assert_eq!(rig.link(4, busy), ["close 4", "gave up NoSource Some(1s) false"]);
    // No more of them than a list has room for, and none in the next plan.
    let (mut rig, _) = Rig::new("a base");
    let many: Vec<_> = (0..40).map(|n| format!("n{n}")).collect();
    rig.fetch.handle_alternatives(LinkId(1), &named(&many.join(" ")));
    assert_eq!(rig.fetch.sources.len(), SOURCES_MAX);
    rig.plan(2, "b base");
    assert_eq!(rig.fetch.sources.len(), 2);
}

#[test]
fn starved_source_is_waited_for_and_a_dead_one_is_left() {
    let (mut rig, _) = Rig::new("a base");
    rig.link(1, LinkEvent::FirstByte);
    rig.grow(1, 65_536, 65_536);
    assert_eq!(rig.wait(1_499 * MS), [""; 0]);
    assert_eq!(rig.wait(MS), ["ask 1 a"]);
    assert_eq!(rig.answer(1, Some(state(65_536, ""))), [""; 0]);
    assert_eq!(rig.wait(2_000 * MS), ["ask 2 a"]);
    assert_eq!(rig.answer(2, None), ["close 1", "connect 2 base 65536"]);
    assert_eq!(rig.link(2, LinkEvent::FirstByte), ["use 2", "from base Stall"]);
}

#[test]
fn source_that_has_more_and_gives_nothing_is_left() {
    let (mut rig, _) = Rig::new("a base");
    rig.link(1, LinkEvent::FirstByte);
    rig.wait(2_000 * MS);
    assert_eq!(rig.answer(1, Some(state(1, ""))), ["close 1", "connect 2 base 0"]);
    // The same for one that has never given a byte, and one that has the end only.
    rig.wait(2_000 * MS);
    let end = Some(ContentEnd { size: 0, blake3: Digest([0; 32]) });
    let out = rig.answer(2, Some(ContentState { end, ..state(0, "") }));
    assert_eq!(out, ["close 2", "gave up NoSource None false"]);
}

#[test]
fn source_that_fetches_from_this_node_is_left() {
    let (mut rig, _) = Rig::new("a base");
    rig.link(1, LinkEvent::FirstByte);
    rig.wait(2_000 * MS);
    assert_eq!(rig.answer(1, Some(state(0, "b me"))), ["close 1", "connect 2 base 0"]);
}

#[test]
fn answer_that_comes_too_late_counts_as_none_and_a_byte_meanwhile_counts() {
    let (mut rig, _) = Rig::new("a base");
    rig.link(1, LinkEvent::FirstByte);
    assert_eq!(rig.wait(2_000 * MS), ["ask 1 a"]);
    rig.grow(1, 65_536, 65_536);
    assert_eq!(rig.answer(1, None), [""; 0], "bytes have come since");
    assert_eq!(rig.wait(2_000 * MS), ["ask 2 a"]);
    assert_eq!(rig.wait(2_000 * MS), ["close 1", "connect 2 base 65536"]);
    assert_eq!(rig.answer(2, Some(state(0, ""))), [""; 0]);
}

#[test]
fn long_starved_link_is_kept_until_another_source_has_more() {
    let (mut rig, _) = Rig::new("a b base");
    rig.link(1, LinkEvent::FirstByte);
    rig.grow(1, 65_536, 65_536);
    let mut asks = Vec::new();
    for _ in 0..40 {
        for ask in rig.wait(2_000 * MS) {
            let (number, who) = ask.strip_prefix("ask ").unwrap().split_once(' ').unwrap();
            let number = number.parse().unwrap();
            asks.push(who.to_owned());
            let have = if who == "base" && asks.len() > 12 { 131_072 } else { 65_536 };
            let out = rig.answer(number, Some(state(have, "")));
            if have > 65_536 {
                assert_eq!(out, ["connect 2 base 65536"], "beside the link in use");
                let out = rig.link(2, LinkEvent::FirstByte);
                assert_eq!(out, ["close 1", "use 2", "from base Stall"]);
                assert!(asks.contains(&"b".to_owned()));
                return;
            }
            for more in out {
                let rest = more.strip_prefix("ask ").unwrap().to_owned();
                let (number, who) = rest.split_once(' ').unwrap();
                asks.push(who.to_owned());
                let have = if who == "base" && asks.len() > 12 { 131_072 } else { 65_536 };
                let out = rig.answer(number.parse().unwrap(), Some(state(have, "")));
                if have > 65_536 {
                    assert_eq!(out, ["connect 2 base 65536"], "beside the link in use");
                    let out = rig.link(2, LinkEvent::FirstByte);
                    assert_eq!(out, ["close 1", "use 2", "from base Stall"]);
                    assert!(asks.contains(&"b".to_owned()));
                    return;
                }
                assert_eq!(out, [""; 0]);
            }
        }
    }
    panic!("the base was never asked: {asks:?}");
}

#[test]
fn source_that_has_not_heard_of_the_content_is_asked_again_for_two_seconds() {
    let (mut rig, _) = Rig::new("a base");
    let mut link = 1;
    let mut tries = 0;
    while tries < 100 {
        tries += 1;
        let out = rig.link(link, LinkEvent::NotYet);
        link += 1;
        if out.len() == 2 {
            assert_eq!(out[1], format!("connect {link} base 0"));
            break;
        }
        let mut again = Vec::new();
        while again.is_empty() {
            again = rig.wait(10 * MS);
        }
        assert_eq!(again, [format!("connect {link} a 0")]);
    }
    assert!((5..20).contains(&tries), "{tries}");
    assert!(rig.now.since(Mono(1)) >= 2_000 * MS && rig.now.since(Mono(1)) < 3_000 * MS);
}

#[test]
fn source_of_a_bad_unit_is_named_and_not_asked_again() {
    let (mut rig, _) = Rig::new("a base");
    rig.link(1, LinkEvent::FirstByte);
    rig.grow(1, 65_536, 65_536);
    let out = rig.link(1, LinkEvent::BadUnit { unit: 1 });
    assert_eq!(out, ["bad a 1", "close 1", "connect 2 base 65536"]);
    assert_eq!(rig.link(2, LinkEvent::FirstByte), ["use 2", "from base BadUnit"]);
    rig.grow(2, 131_072, 65_536);
    assert_eq!(rig.link(2, LinkEvent::Lost), ["close 2", "connect 3 base 131072"]);
    let out = rig.link(3, LinkEvent::BadUnit { unit: 2 });
    assert_eq!(out, ["bad base 2", "close 3", "gave up BadHash None false"]);
}

#[test]
fn busy_and_refusing_sources_are_said_when_none_is_left() {
    let (mut rig, _) = Rig::new("a base");
    let busy = |s| LinkEvent::Busy { retry_after: Duration::from_secs(s) };
    assert_eq!(rig.link(1, busy(7)), ["close 1", "connect 2 base 0"]);
    assert_eq!(rig.link(2, busy(3)), ["close 2", "gave up NoSource Some(3s) false"]);
    let (mut rig, _) = Rig::new("base");
    assert_eq!(rig.link(1, LinkEvent::Refused), ["close 1", "gave up NoSource None true"]);
}

#[test]
fn plan_is_followed_when_it_is_worth_it_and_before_the_old_link_is_closed() {
    let (mut rig, _) = Rig::new("a base");
    rig.link(1, LinkEvent::FirstByte);
    for second in 1..=4 {
        rig.grow(1, second * 500_000, 500_000);
        assert_eq!(rig.wait(1_000 * MS), [""; 0]);
    }
    assert_eq!(rig.plan(1, "b a base"), [""; 0], "not a new plan");
    assert_eq!(rig.plan(0, "b a base"), [""; 0], "an old plan");
    assert_eq!(rig.plan(2, "b a base"), [""; 0]);
    rig.grow(1, 2_500_000, 500_000);
    assert_eq!(rig.wait(10 * MS), ["connect 2 b 2500000"]);
    rig.grow(1, 3_000_000, 500_000);
    assert_eq!(rig.link(2, LinkEvent::FirstByte), ["close 1", "use 2", "from b Plan"]);
    // Back again, but not at once.
    assert_eq!(rig.plan(3, "a b base"), [""; 0]);
    rig.grow(2, 3_100_000, 100_000);
    assert_eq!(rig.wait(1_000 * MS), [""; 0]);
    rig.grow(2, 3_150_000, 50_000);
    assert_eq!(rig.wait(1_000 * MS), [""; 0]);
    rig.grow(2, 3_200_000, 50_000);
    assert_eq!(rig.wait(1_000 * MS), ["connect 3 a 3200000"]);
    // A source that the plan does not have any more is left at once.
    assert_eq!(rig.link(3, LinkEvent::Lost), ["close 3"]);
    assert_eq!(rig.plan(4, "base"), [""; 0]);
    rig.grow(2, 3_300_000, 100_000);
    assert_eq!(rig.wait(10 * MS), ["connect 4 base 3300000", "ask 1 base"]);
    assert_eq!(rig.link(2, LinkEvent::Lost), ["close 2"]);
    assert_eq!(rig.link(4, LinkEvent::FirstByte), ["use 4", "from base Lost"]);
}

#[test]
fn source_that_gives_a_tenth_of_what_it_gets_is_left_for_the_one_above() {
    let (mut rig, _) = Rig::new("a b c base");
    rig.link(1, LinkEvent::FirstByte);
    let out = rig.go(1, 100_000, 1_000_000, 5_000);
    assert_eq!(out, ["connect 2 b 150000"]);
    rig.grow(1, 160_000, 10_000);
    assert_eq!(rig.link(2, LinkEvent::FirstByte), ["close 1", "use 2", "from b Slow"]);
    // It keeps up: nobody is left, and the plan's first choice is not taken again.
    assert_eq!(rig.go(2, 1_000_000, 1_000_000, 20_000), [""; 0]);
}

#[test]
fn source_that_holds_the_stream_back_for_another_is_not_slow() {
    let (mut rig, _) = Rig::new("a b c base");
    rig.link(1, LinkEvent::FirstByte);
    assert_eq!(rig.go(1, 100_000, 1_000_000, 1_000), [""; 0]);
    let asked = (0..10).find_map(|_| {
        let out = rig.wait(100 * MS);
        out.first()?.strip_prefix("ask ")?.split_once(' ')?.0.parse().ok()
    });
    let held = ContentState { is_held: true, ..state(9_000_000, "") };
    assert_eq!(rig.answer(asked.expect("it asks"), Some(held)), [""; 0]);
    assert_eq!(rig.go(1, 100_000, 1_000_000, 1_300), [""; 0], "what was before does not count");
    assert_eq!(rig.go(1, 100_000, 1_000_000, 4_000).len(), 1, "it is slow afterwards, too");
}

#[test]
fn job_that_keeps_to_a_rate_has_no_slow_source_and_takes_parts_of_others_all_the_same() {
    let (mut rig, _) = Rig::new("a b base");
    rig.fetch.set_capped(true);
    rig.link(1, LinkEvent::FirstByte);
    assert_eq!(rig.go(1, 100_000, 1_000_000, 20_000), [""; 0]);
    rig.run(|fetch, now, _| fetch.handle_further(vec![source("c")], now));
    let out = rig.go(1, 100_000, 1_000_000, 5_000);
    assert!(out[0].starts_with("spare 2 c "), "{out:?}");
}

#[test]
fn node_that_gets_no_more_from_the_next_source_is_slow_itself_and_stays() {
    let (mut rig, _) = Rig::new("a b c base");
    rig.link(1, LinkEvent::FirstByte);
    assert_eq!(rig.go(1, 100_000, 1_000_000, 5_000).len(), 1);
    rig.link(2, LinkEvent::FirstByte);
    assert_eq!(rig.go(2, 100_000, 1_000_000, 50_000), [""; 0]);
    // A good while later it looks again.
    assert_eq!(rig.go(2, 100_000, 1_000_000, 15_000).len(), 1);
}

#[test]
fn source_that_left_the_plan_is_given_up_when_its_heir_lives_but_has_less() {
    let (mut rig, _) = Rig::new("a base");
    rig.link(1, LinkEvent::FirstByte);
    rig.grow(1, 500_000, 500_000);
    rig.plan(2, "z base");
    assert_eq!(rig.wait(10 * MS), ["connect 2 z 500000", "ask 1 z"]);
    assert_eq!(rig.answer(1, Some(state(400_000, "y"))), ["close 1"]);
    assert_eq!(rig.wait(1_000 * MS), [""; 0]);
    assert_eq!(rig.link(2, LinkEvent::FirstByte), ["use 2", "from z Plan"]);
}

#[test]
fn source_of_the_list_that_others_need_is_given_up_the_same_way() {
    let (mut rig, _) = Rig::new("a base");
    rig.link(1, LinkEvent::FirstByte);
    rig.grow(1, 500_000, 500_000);
    let last_resort = |text| Source { is_last_resort: true, ..source(text) };
    let list = vec![source("z"), last_resort("a"), last_resort("base")];
    rig.run(|fetch, now, out| fetch.handle_sources(Epoch(2), list, now, out));
    assert_eq!(rig.wait(10 * MS), ["connect 2 z 500000", "ask 1 z"]);
    assert_eq!(rig.answer(1, Some(state(400_000, "y"))), ["close 1"]);
    // When the heir is gone, it is there for that.
    assert_eq!(rig.link(2, LinkEvent::Lost), ["close 2", "connect 3 a 500000"]);
    rig.link(3, LinkEvent::FirstByte);
    rig.grow(3, 600_000, 100_000);
    assert_eq!(rig.wait(10 * MS), [""; 0]);
}

#[test]
fn source_that_left_the_plan_is_kept_until_its_heir_gives_bytes() {
    for answer in [None, Some(state(900_000, "")), Some(state(0, "me"))] {
        let (mut rig, _) = Rig::new("a base");
        rig.link(1, LinkEvent::FirstByte);
        rig.grow(1, 500_000, 500_000);
        rig.plan(2, "z base");
        assert_eq!(rig.wait(10 * MS), ["connect 2 z 500000", "ask 1 z"]);
        assert_eq!(rig.answer(1, answer), [""; 0]);
        rig.grow(1, 600_000, 100_000);
        assert_eq!(rig.link(2, LinkEvent::FirstByte), ["close 1", "use 2", "from z Plan"]);
    }
}

#[test]
fn fast_enough_source_of_the_list_is_kept() {
    let (mut rig, _) = Rig::new("a base");
    rig.link(1, LinkEvent::FirstByte);
    rig.plan(2, "b a base");
    for second in 1..=9 {
        rig.grow(1, second * 900_000, 900_000);
        let out = rig.wait(1_000 * MS);
        assert_eq!(out, [""; 0], "900 kB/s of 1 MB/s that is planned");
    }
}

#[test]
fn own_name_in_a_plan_is_passed_over() {
    let (_, out) = Rig::new("me base");
    assert_eq!(out, ["connect 1 base 0"]);
}

fn arb_event() -> impl Strategy<Value = LinkEvent> {
    prop_oneof![
        4 => Just(LinkEvent::FirstByte),
        6 => (1_u64..100).prop_map(|units| LinkEvent::Grew {
            have: units << 16,
            bytes: 65_536,
            at: units << 16,
        }),
        2 => Just(LinkEvent::Lost),
        1 => Just(LinkEvent::Busy { retry_after: Duration::from_secs(1) }),
        2 => Just(LinkEvent::NotYet),
        1 => Just(LinkEvent::Refused),
        1 => (0_u64..9).prop_map(|unit| LinkEvent::BadUnit { unit }),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Link(u32, LinkEvent),
    Wait(u64),
    Answer(Option<u64>),
    Plan(u64, Vec<u8>),
}

fn arb_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u32..3, arb_event()).prop_map(|(back, event)| Step::Link(back, event)),
        4 => (1_u64..3_000).prop_map(Step::Wait),
        3 => prop::option::of(0_u64..8_000_000).prop_map(Step::Answer),
        2 => (0_u64..9, prop::collection::vec(0_u8..5, 1..5)).prop_map(|(e, s)| Step::Plan(e, s)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_links_are_few_and_something_follows(
        steps in prop::collection::vec(arb_step(), 1..120),
    ) {
        let mut fetch = Fetch::new(NodeName::new("me").unwrap(), 0, None);
        let mut now = Mono(1);
        let mut open: BTreeMap<u32, bool> = BTreeMap::new();
        let (mut newest, mut asked, mut have) = (0, 0, 0);
        let mut bad: BTreeSet<Peer> = BTreeSet::new();
        let mut is_over = false;
        let mut out = Vec::new();
        fetch.handle_sources(Epoch(0), sources("a b base"), now, &mut out);
        for step in steps {
            for action in out.drain(..) {
                match action {
                    FetchAction::Connect { link, source, from, .. } => {
                        prop_assert!(link.0 > newest && !bad.contains(&source.node));
                        prop_assert_eq!(from, fetch.have());
                        newest = link.0;
                        open.insert(link.0, false);
                    }
                    FetchAction::Use { link } => {
                        prop_assert_eq!(open.insert(link.0, true), Some(false));
                        prop_assert_eq!(open.values().filter(|used| **used).count(), 1);
                    }
                    FetchAction::Close { link } => {
                        prop_assert!(open.remove(&link.0).is_some());
                    }
                    FetchAction::Ask { ask, .. } => asked = ask.0,
                    FetchAction::BadUnit { source, .. } => { bad.insert(source); }
                    FetchAction::GaveUp(_) => is_over = true,
                    FetchAction::Switched { .. }
                    | FetchAction::Further { .. }
                    | FetchAction::Whole => {}
                }
            }
            prop_assert!(open.len() <= 2);
            prop_assert!(fetch.have() >= have, "offsets go forwards");
            have = fetch.have();
            prop_assert!(!is_over || open.is_empty());
            let waits = fetch.again.is_some();
            prop_assert!(is_over || waits || !open.is_empty(), "something follows");
            match step {
                Step::Link(back, event) => {
                    let link = newest.saturating_sub(back);
                    // Bytes come of links in use only.
                    let is_used = open.get(&link).copied().unwrap_or(false);
                    if is_used || !matches!(event, LinkEvent::Grew { .. }) {
                        fetch.handle_link(LinkId(link), event, now, &mut out);
                    }
                }
                Step::Wait(ms) => {
                    now = now + Duration::from_millis(ms);
                    fetch.handle_time(now, &mut out);
                }
                Step::Answer(have) => {
                    let state = have.map(|have| state(have, ""));
                    fetch.handle_state(AskId(asked), state.as_ref(), now, &mut out);
                }
                Step::Plan(epoch, list) => {
                    let names = ["a", "b", "c", "d", "base"];
                    let list = list.into_iter().map(|at| source(names[usize::from(at)]));
                    fetch.handle_sources(Epoch(epoch), list.collect(), now, &mut out);
                }
            }
        }
    }
}
