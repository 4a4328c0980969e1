//! How many nodes a source feeds at once: as many as its uplink has room for.
//!
//! ```text
//! most children of a job = uplink that others leave to the job / max(5 Mbit/s, median of their
//!                          rates), 1 at least and CHILDREN_MAX at most
//! a node that asks --has_room--> served      else: 503, with nodes that have more than it
//! ```
//! A child is a node, whatever number of streams it has. A child that takes nothing holds no place:
//! its connection may be gone without a word. One that is so new that its rate is not known counts,
//! but not for the median. Jobs do not take each other's places: the uplink splits bytes among them
//! by weight ([`super::uplink`]).
//!
//! A further source (`to` and `spare` of `wire::peer`) gives parts of a content to a node that has
//! another source for the rest: such a node is no child and takes no place. It is served where the
//! children leave something over ([`has_spare`]).
//!
//! A node that leaves a slow child of this source for the source itself has the uplink for a while,
//! without that child ([`GIVE_WAY`]). So what the node gets tells whose link is slow, and those
//! that wait behind the node do not get half of what there is.
//!
//! Invariants: whoever is fed already, and the first of a job, finds room; so does a node that
//! leaves a child of this source for the source itself: what it takes, that child passes on no
//! more. Who is refused would have had less than those who are served.
//! After Shastri (US 2002/0065918, paragraph 69).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::time::Mono;
use crate::dist::ids::{JobId, NodeName};

/// How fast a child takes bytes.
#[derive(Debug, Clone, Copy)]
pub struct ChildMeter {
    since: Mono,
    last_at: Mono,
    bytes: u64,
    /// Of the last whole second with bytes.
    rate: Option<u64>,
}

/// A stream to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed<'a> {
    /// Who.
    pub node: &'a NodeName,
    /// Of which job.
    pub job: Option<JobId>,
    /// Bytes per second; `None`: not known yet.
    pub rate: Option<u64>,
    /// It is a part for a node that has another source.
    pub is_spare: bool,
}

/// Who asks for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker<'a> {
    /// Who.
    pub node: &'a NodeName,
    /// Of which job.
    pub job: Option<JobId>,
    /// From whom it fetches the content now, and would not any more.
    pub leaves: Option<&'a NodeName>,
}

impl ChildMeter {
    /// Of a stream that begins.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self { since: now, last_at: now, bytes: 0, rate: None }
    }

    /// The child takes bytes.
    pub fn add(&mut self, bytes: u64, now: Mono) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.last_at = now;
        let past = now.since(self.since);
        if past >= SECOND {
            let rate = u128::from(self.bytes) * 1_000_000_000 / past.as_nanos().max(1);
            self.rate = Some(u64::try_from(rate).unwrap_or(u64::MAX));
            (self.since, self.bytes) = (now, 0);
        }
    }

    /// Bytes per second; 0 of a child that takes nothing, `None` when that is not known yet.
    #[must_use]
    pub fn rate(&self, now: Mono) -> Option<u64> {
        if now.since(self.last_at) >= SECOND { Some(0) } else { self.rate }
    }
}

/// Whether a source with an uplink of so many bytes per second serves one more. `None`: nobody
/// knows what it can send, and [`CHILDREN_MAX`] alone counts.
#[must_use]
pub fn has_room<'a>(
    uplink: Option<u64>,
    asker: Asker<'_>,
    streams: impl Iterator<Item = Fed<'a>>,
) -> bool {
    let mut children: BTreeMap<&NodeName, (u64, bool)> = BTreeMap::new();
    let mut others = 0_u64;
    let streams = streams.filter(|stream| stream.rate != Some(0) && !stream.is_spare);
    for Fed { node, job, rate, .. } in streams {
        if job != asker.job {
            others = others.saturating_add(rate.unwrap_or(0));
            continue;
        }
        let (sum, is_known) = children.entry(node).or_insert((0, true));
        *sum = sum.saturating_add(rate.unwrap_or(0));
        *is_known &= rate.is_some();
    }
    let is_fed = children.contains_key(asker.node);
    let takes_over = asker.leaves.is_some_and(|node| children.contains_key(node));
    if children.is_empty() || is_fed || takes_over {
        return true;
    }
    let own = children.values().fold(0_u64, |sum, (rate, _)| sum.saturating_add(*rate));
    let uplink = uplink.map(|uplink| uplink.saturating_sub(others).max(own));
    let known = children.values().filter(|(_, is_known)| *is_known).map(|(rate, _)| *rate);
    children.len() < children_max(uplink, known.collect())
}

/// Whether a source with an uplink of so many bytes per second gives one part more: its children
/// take less than all of it, and not many parts are on their way.
#[must_use]
pub fn has_spare<'a>(uplink: Option<u64>, streams: impl Iterator<Item = Fed<'a>>) -> bool {
    let (mut taken, mut parts) = (0_u64, 0_usize);
    for Fed { rate, is_spare, .. } in streams {
        if is_spare {
            parts += 1;
        } else {
            taken = taken.saturating_add(rate.unwrap_or(0));
        }
    }
    // A stream of a child is as fast as its own links at most, and measured a moment ago.
    let is_free = uplink.is_none_or(|uplink| taken < uplink - uplink / SPARE_PART);
    parts < PARTS_MAX && is_free
}

/// Children that an uplink has room for, by the rates of those that are there.
#[must_use]
pub fn children_max(uplink: Option<u64>, mut rates: Vec<u64>) -> usize {
    rates.sort_unstable();
    let median = rates.get(rates.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    let fit = uplink.map_or(u64::MAX, |uplink| uplink / median.max(CHILD_RATE_MIN));
    usize::try_from(fit).unwrap_or(usize::MAX).clamp(1, CHILDREN_MAX)
}

/// 5 Mbit/s: nobody is fed with less, where that can be helped.
pub const CHILD_RATE_MIN: u64 = 625_000;
/// Parts for nodes with other sources that a node gives at once.
pub const PARTS_MAX: usize = 4;
/// A twentieth of an uplink is nothing to give away.
const SPARE_PART: u64 = 20;
/// So long the stream of a child that another one leaves as slow, for the source itself, sends
/// nothing: until a base has judged by what comes from the source instead, and has told the child
/// where it is to go.
pub const GIVE_WAY: Duration = Duration::from_millis(1_500);
/// So long after that its silence is no fault of the source either: its next bytes are on their
/// way.
pub const GAVE_WAY: Duration = Duration::from_millis(500);
/// Nodes that a node feeds at once.
pub const CHILDREN_MAX: usize = 16;
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const UP: u64 = 25_000_000;

    fn name(number: usize) -> NodeName {
        NodeName::new(&format!("n{number}")).unwrap()
    }

    fn job(number: u128) -> Option<JobId> {
        Some(JobId(Uuid::from_u128(number)))
    }

    /// Whether somebody new finds room beside children of these jobs and rates.
    fn finds_room(uplink: u64, children: &[(u128, Option<u64>)], leaves: Option<usize>) -> bool {
        let names: Vec<_> = (0..children.len()).map(name).collect();
        let streams = names.iter().zip(children);
        let streams = streams.map(|(node, (of, rate))| Fed {
            node,
            job: job(*of),
            rate: *rate,
            is_spare: false,
        });
        let (me, leaves) = (name(99), leaves.map(name));
        let asker = Asker { node: &me, job: job(1), leaves: leaves.as_ref() };
        has_room(Some(uplink), asker, streams)
    }

    #[test]
    fn uplink_with_room_takes_another_and_one_that_is_full_does_not() {
        let full = (1, Some(UP));
        let cases = [
            (UP, vec![], true),
            (UP, vec![full], false),
            (UP, vec![(1, Some(UP * 98 / 100))], false),
            (UP, vec![(1, Some(UP / 2))], true),
            (UP, vec![(1, Some(UP / 2)); 2], false),
            // Nobody knows yet what they take: 5 Mbit/s each.
            (UP, vec![(1, None); 15], true),
            (UP, vec![(1, None); 16], false),
            (2 * CHILD_RATE_MIN, vec![(1, None)], true),
            (2 * CHILD_RATE_MIN, vec![(1, None); 2], false),
            (0, vec![], true),
            (0, vec![(1, None)], false),
            // Whoever takes nothing may be gone.
            (UP, vec![(1, Some(0))], true),
            (UP, vec![full, (1, Some(0))], false),
            // The first of another job, and one more beside those of another job.
            (UP, vec![(2, Some(UP))], true),
            (UP, vec![(2, Some(UP / 2)), (1, Some(UP / 2))], false),
            (UP, vec![(2, Some(UP / 2)), (1, Some(UP / 8))], true),
            // Few with little do not make room for others.
            (UP, vec![(1, Some(UP / 2)), (1, Some(UP / 2)), (1, Some(1))], false),
        ];
        for (uplink, children, is_expected) in cases {
            assert_eq!(finds_room(uplink, &children, None), is_expected, "{uplink} {children:?}");
        }
        assert!(finds_room(UP, &[full], Some(0)), "it takes the bytes of the one it leaves");
        assert!(!finds_room(UP, &[full], Some(1)));
    }

    #[test]
    fn whoever_is_fed_already_may_have_more_streams() {
        let (me, of) = (name(0), job(1));
        let asker = Asker { node: &me, job: of, leaves: None };
        let fed = Fed { node: &me, job: of, rate: Some(UP), is_spare: false };
        assert!(has_room(Some(UP), asker, [fed, fed].into_iter()));
        assert!(has_room(None, Asker { node: &name(1), ..asker }, [fed].into_iter()));
    }

    #[test]
    fn parts_take_no_place_of_a_child_and_are_given_where_children_leave_something() {
        let (me, of) = (name(0), job(1));
        let fed = |rate, is_spare| Fed { node: &me, job: of, rate: Some(rate), is_spare };
        let asker = Asker { node: &name(1), job: of, leaves: None };
        let full = [fed(UP, true), fed(UP, true)];
        assert!(has_room(Some(UP), asker, full.into_iter()), "no child is there");
        assert!(has_spare(Some(UP), full.into_iter()));
        assert!(!has_spare(Some(UP), [fed(UP, false)].into_iter()));
        assert!(has_spare(Some(UP), [fed(UP * 9 / 10, false)].into_iter()));
        assert!(has_spare(None, [fed(UP, false)].into_iter()), "nobody knows what it can send");
        assert!(!has_spare(None, [fed(1, true); PARTS_MAX].into_iter()));
    }

    #[test]
    fn meter_tells_a_rate_after_a_second_and_silence_after_another() {
        let at = |ms: u64| Mono(1) + Duration::from_millis(ms);
        let mut meter = ChildMeter::new(at(0));
        assert_eq!(meter.rate(at(500)), None);
        for step in 1..=12 {
            meter.add(1_000, at(step * 100));
        }
        assert_eq!(meter.rate(at(1_200)), Some(10_000));
        assert_eq!(meter.rate(at(2_199)), Some(10_000));
        assert_eq!(meter.rate(at(2_200)), Some(0));
        assert_eq!(ChildMeter::new(at(0)).rate(at(1_000)), Some(0));
    }

    proptest! {
        #[test]
        fn who_is_refused_would_have_less_than_most_who_are_served(
            uplink in 0_u64..100_000_000,
            rates in prop::collection::vec(prop::option::of(1_u64..30_000_000), 0..20),
        ) {
            let children: Vec<_> = rates.iter().map(|rate| (1, *rate)).collect();
            let count = children.len();
            let is_served = finds_room(uplink, &children, None);
            prop_assert!(is_served || count > 0);
            prop_assert!(!is_served || count < CHILDREN_MAX);
            if !is_served && count < CHILDREN_MAX {
                let mut known: Vec<u64> = rates.into_iter().flatten().collect();
                known.sort_unstable();
                let median = known.get(known.len().saturating_sub(1) / 2).copied().unwrap_or(0);
                let share = uplink.max(known.iter().sum()) / (count as u64 + 1);
                prop_assert!(share < median.max(CHILD_RATE_MIN));
            }
        }
    }
}
