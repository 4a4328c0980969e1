//! Which receivers of a plan take parts from further sources, and from whom how much.
//!
//! ```text
//! plan: edges, uplinks --> the rate that all could have at once --> who lacks how much
//!                                                               `-> whose uplink has that over
//! ```
//! A tree gives a receiver what one uplink has for it. Where that is little, others may have some
//! left over, or would have if all received a little less: at the rate `r` a source needs `r` for
//! each child, and what is left of its uplink goes to those that lack something. The greatest `r`
//! at which nothing is lacking is looked for by halving. The source that is nearest to the base is
//! asked first: what it gives away slows the rest to `r`, and so all behind it have that much over.
//!
//! Invariants: what is planned of a source for children and others is at most its uplink; nobody is
//! to have parts of itself, its own source or a node behind it. Where the uplink of the base, or of
//! more than half of those that feed somebody, is not known, nothing is planned, because a guess
//! would slow those that are well. The others count as the one in the middle of those that are
//! known: nobody lacks anything for a guess, and nothing of it is given away.
//! Bounds: `FURTHER_MAX` further sources a receiver; `LOOKS_MAX` sources are looked at for each of
//! them. So the time grows with the members alone: some ten looks at each.
//! After Kumar and Ross (2006): all can have the least of what the base, a downlink and the sum of
//! all uplinks allow, where a receiver has several sources.

use std::collections::BTreeMap;
use std::ops::Range;

use super::plan::{Cascade, Edge, MemberId};

/// Further sources by receiver, those nearest to the base first. `base_up`: bytes per second that
/// the base can send, which may be more than was known when the plan was made. `knows`: whether an
/// uplink was declared or measured; `None` is the base.
#[must_use]
pub fn further(
    plan: &Cascade,
    base_up: u64,
    knows: impl Fn(Option<MemberId>) -> bool,
) -> BTreeMap<MemberId, Vec<Edge>> {
    let none = BTreeMap::new();
    let Some(level) = Level::new(plan, base_up, knows) else { return none };
    // What most have without this, and what the last one has.
    let Some((least, usual)) = level.least_and_usual() else { return none };
    if least >= usual {
        return none;
    }
    let most = level.most_down();
    let (mut fits, mut lacks) = (0, most.saturating_add(1));
    while lacks - fits > most / 256 + 1 {
        let rate = fits + (lacks - fits) / 2;
        if level.assign(rate, 0).is_some() { fits = rate } else { lacks = rate }
    }
    // Without further sources the last one gets the rest when all others have theirs.
    let (usual, least) = (u128::from(usual), u128::from(least));
    let is_worth = |rate: u64| {
        let gain = u128::from(rate) * (2 * usual).saturating_sub(least) * 100;
        gain >= usual * usual * WORTH_PERCENT && u128::from(rate) > least
    };
    let rate = fits - fits / MARGIN;
    if !is_worth(rate) {
        return none;
    }
    level.assign(rate, MORE_PERCENT).unwrap_or_default()
}

/// What a plan is levelled by: the base and all members, each behind its source.
#[derive(Debug)]
struct Level<'a> {
    plan: &'a Cascade,
    rows: Vec<Row>,
}

/// The base, or a member.
#[derive(Debug)]
struct Row {
    id: Option<MemberId>,
    /// Row of its source.
    source: Option<usize>,
    up: u64,
    down: u64,
    /// Its uplink was declared or measured.
    is_known: bool,
    /// Others may have what is left of its uplink.
    may_give: bool,
    /// Rows of its children.
    children: Range<usize>,
    /// Its place in a walk through the tree, and the one behind all that fetch through it.
    walk: Range<usize>,
}

impl<'a> Level<'a> {
    /// `None`: there is nothing to level, or too little is known.
    fn new(
        plan: &'a Cascade,
        base_up: u64,
        knows: impl Fn(Option<MemberId>) -> bool,
    ) -> Option<Self> {
        // Those without a source send as the base does.
        let roots = plan.members().filter(|id| plan.edge(*id).is_none()).map(Some);
        let mut order: Vec<(Option<MemberId>, Option<usize>)> =
            std::iter::once(None).chain(roots).map(|id| (id, None)).collect();
        let mut rows: Vec<Row> = Vec::new();
        while let Some((id, source)) = order.get(rows.len()).copied() {
            let (place, begin) = (rows.len(), order.len());
            let children = plan.children_of(id);
            order.extend(children.iter().map(|child| (Some(*child), Some(place))));
            let is_known = knows(id);
            if !is_known && id.is_none() {
                return None;
            }
            let up = plan.up_of(id);
            rows.push(Row {
                id,
                source,
                up: if id.is_none() { up.max(base_up) } else { up },
                down: id.map_or(u64::MAX, |id| plan.down(id)),
                is_known,
                may_give: is_known && plan.may_serve(id),
                children: begin..order.len(),
                walk: 0..0,
            });
        }
        if rows.len() < 3 {
            return None;
        }
        assume(&mut rows)?;
        walk(&mut rows);
        Some(Self { plan, rows })
    }

    /// Bytes per second that the last member, and the fastest one, get by the tree alone.
    fn least_and_usual(&self) -> Option<(u64, u64)> {
        let mut rates = vec![u64::MAX; self.rows.len()];
        let mut found: Option<(u64, u64)> = None;
        for (place, row) in self.rows.iter().enumerate() {
            let inflow = rates.get(place).copied().unwrap_or(0);
            let mut rest = row.up;
            for child in row.children.clone() {
                let (Some(rate), Some(known)) = (rates.get_mut(child), self.rows.get(child)) else {
                    continue;
                };
                *rate = rest.min(inflow).min(known.down);
                rest -= *rate;
                let (least, usual) = found.unwrap_or((*rate, *rate));
                found = Some((least.min(*rate), usual.max(*rate)));
            }
        }
        found
    }

    /// Bytes per second of the fastest downlink.
    fn most_down(&self) -> u64 {
        let fetching = self.rows.iter().filter(|row| row.source.is_some());
        fetching.map(|row| row.down).max().unwrap_or(0)
    }

    /// What each gets of whom when all are to have `rate`; `None` when something is lacking. When
    /// all have what they lack, they are given `more_percent` of it again, where there is so much.
    fn assign(&self, rate: u64, more_percent: u64) -> Option<BTreeMap<MemberId, Vec<Edge>>> {
        let mut left = Left::default();
        let mut lacking = Vec::new();
        for row in &self.rows {
            let mut rest = row.up;
            let children = self.rows.get(row.children.clone()).unwrap_or_default();
            for (place, child) in row.children.clone().zip(children) {
                let wanted = rate.min(child.down);
                let gives = wanted.min(rest);
                rest -= gives;
                if gives < wanted {
                    lacking.push((wanted - gives, place));
                }
            }
            left.push(if row.may_give { rest } else { 0 });
        }
        lacking.sort_unstable_by_key(|(lack, place)| (std::cmp::Reverse(*lack), *place));
        let mut found: Vec<(u64, usize, Vec<(usize, u64)>)> = Vec::with_capacity(lacking.len());
        for (lack, place) in lacking {
            let mut parts = Vec::new();
            let given = self.give(place, lack, &mut left, &mut parts);
            // A rest that is not worth a connection is lacking to nobody.
            if given.saturating_add(RATE_MIN) <= lack {
                return None;
            }
            found.push((lack, place, parts));
        }
        for (lack, place, parts) in &mut found {
            self.give(*place, lack.saturating_mul(more_percent) / 100, &mut left, parts);
        }
        let edges = |parts: Vec<(usize, u64)>| {
            let edge = |(source, rate): (usize, u64)| {
                Some(Edge { source: self.rows.get(source)?.id, rate })
            };
            parts.into_iter().filter_map(edge).collect::<Vec<_>>()
        };
        let found = found.into_iter().filter(|(.., parts)| !parts.is_empty());
        let found =
            found.filter_map(|(_, place, parts)| Some((self.rows.get(place)?.id?, edges(parts))));
        Some(found.collect())
    }

    /// Gives a member up to `wanted` of what is `left` of others than its source, by their rows;
    /// returns how much.
    fn give(
        &self,
        place: usize,
        wanted: u64,
        left: &mut Left,
        parts: &mut Vec<(usize, u64)>,
    ) -> u64 {
        let mut given = 0;
        // What is not worth a connection is worth more of one that there is.
        for (source, rate) in parts.iter_mut() {
            let gives = left.take(*source, wanted - given);
            *rate += gives;
            given += gives;
        }
        let mut next = left.next_from(0);
        for _ in 0..LOOKS_MAX {
            let Some(source) = next.filter(|_| parts.len() < FURTHER_MAX) else { break };
            if wanted - given < RATE_MIN {
                break;
            }
            let is_new = parts.iter().all(|(known, _)| *known != source);
            if is_new && self.may_give(source, place) {
                let gives = left.take(source, wanted - given);
                parts.push((source, gives));
                given += gives;
            }
            next = left.next_from(source + 1);
        }
        parts.sort_unstable();
        given
    }

    /// A source gives no parts to its children, to itself and to those that it fetches through.
    fn may_give(&self, source: usize, place: usize) -> bool {
        let (Some(from), Some(to)) = (self.rows.get(source), self.rows.get(place)) else {
            return false;
        };
        let is_beneath = to.walk.contains(&from.walk.start);
        let is_barred = to.id.is_none_or(|id| self.plan.is_barred(from.id, id));
        to.source != Some(source) && !is_beneath && !is_barred
    }
}

/// Uplinks that are not known, of those that feed somebody, count as the one in the middle of those
/// that are; `None` when these are fewer.
fn assume(rows: &mut [Row]) -> Option<()> {
    let feeding = rows.iter_mut().filter(|row| !row.children.is_empty());
    let (known, unknown): (Vec<_>, Vec<_>) = feeding.partition(|row| row.is_known);
    if known.len() < unknown.len() {
        return None;
    }
    let mut ups: Vec<u64> = known.iter().map(|row| row.up).collect();
    ups.sort_unstable();
    let middle = ups.get(ups.len().saturating_sub(1) / 2).copied()?;
    unknown.into_iter().for_each(|row| row.up = row.up.max(middle));
    Some(())
}

/// Says of each row where a walk through the tree comes to it.
fn walk(rows: &mut [Row]) {
    let mut sizes = vec![1_usize; rows.len()];
    for (place, row) in rows.iter().enumerate().rev() {
        let beneath = sizes.get(row.children.clone()).unwrap_or_default().iter().sum::<usize>();
        if let Some(size) = sizes.get_mut(place) {
            *size += beneath;
        }
    }
    let mut root = 0;
    for place in 0..rows.len() {
        let size = sizes.get(place).copied().unwrap_or(1);
        let Some(row) = rows.get_mut(place) else { return };
        if row.source.is_none() {
            row.walk = root..root + size;
            root += size;
        }
        let (mut start, children) = (row.walk.start + 1, row.children.clone());
        for child in children {
            let Some((row, size)) = rows.get_mut(child).zip(sizes.get(child)) else { return };
            row.walk = start..start + size;
            start += size;
        }
    }
}

/// What is left of uplinks, by row. Those with nothing that is worth a connection are not looked at
/// again.
#[derive(Debug, Default)]
struct Left {
    rates: Vec<u64>,
    /// Of each row that has too little, one behind it, with no row in between that has enough.
    next: Vec<usize>,
}

impl Left {
    fn push(&mut self, rate: u64) {
        let place = self.rates.len();
        self.rates.push(rate);
        self.next.push(if rate >= RATE_MIN { place } else { place + 1 });
    }

    /// The first row from `place` on with enough for a connection.
    fn next_from(&mut self, place: usize) -> Option<usize> {
        let mut found = place;
        while let Some(next) = self.next.get(found).copied().filter(|next| *next != found) {
            found = next;
        }
        // Whoever comes this way again takes one step.
        let mut at = place;
        while let Some(next) = self.next.get_mut(at).filter(|_| at < found) {
            at = std::mem::replace(next, found);
        }
        (found < self.rates.len()).then_some(found)
    }

    /// Takes up to `wanted` of what a row has left; returns how much.
    fn take(&mut self, place: usize, wanted: u64) -> u64 {
        let Some(rate) = self.rates.get_mut(place) else { return 0 };
        let taken = wanted.min(*rate);
        *rate -= taken;
        if *rate < RATE_MIN
            && let Some(next) = self.next.get_mut(place).filter(|next| **next == place)
        {
            *next = place + 1;
        }
        taken
    }
}

/// As many as `dist::fetch` takes.
pub const FURTHER_MAX: usize = 7;
/// Sources that are looked at for one receiver: some are behind it, or it cannot connect to them.
const LOOKS_MAX: usize = 64;
/// 2.5 Mbit/s: less is not worth a connection.
pub const RATE_MIN: u64 = 312_500;
/// All get a fourteenth less than could be: nothing is exact.
const MARGIN: u64 = 14;
/// Sources may have less than planned: others have it then.
const MORE_PERCENT: u64 = 30;
/// It has to be better by so much than to wait for those that are done.
const WORTH_PERCENT: u128 = 105;

#[cfg(test)]
#[path = "level_tests.rs"]
mod tests;
