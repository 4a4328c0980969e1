//! A shard's knowledge of live paths, page by page.
//!
//! ```text
//!  Owners, by name --> Sources, by number --> Readers, by place --> Totals
//!                     ROOM_A_PAGE looks, then the page ends: `next` is the start of the next page
//! ```
//! Invariant: consecutive pages show once each owner, source and reader that exists all the time.
//! The counters of a path are shown at one time: counters that a reader adds to the tally at its
//! end are neither missed nor shown twice.
//! Bound: a page looks at `ROOM_A_PAGE` readers, or at fewer where looks take longer; the last page
//! looks at all paths and sources of the shard.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::live::core::info::{PathPart, PathsPage, PathsPlace};
use crate::live::front::Live;
use crate::live::sources::info::totals_of;
use crate::session::cx::Cx;

/// A page under construction, and the number of looks left.
#[derive(Default)]
struct Page {
    parts: HashMap<Arc<str>, PathPart>,
    room: usize,
}

impl Page {
    fn part(&mut self, path: &Arc<str>) -> &mut PathPart {
        self.parts.entry(Arc::clone(path)).or_insert_with(|| PathPart::new(Arc::clone(path)))
    }

    /// Takes `looks` from the page's room; false without enough room.
    fn take(&mut self, looks: usize) -> bool {
        let has_room = self.room >= looks;
        self.room -= if has_room { looks } else { 0 };
        has_room
    }
}

impl Live {
    /// A page of all paths, or of one, from a place on.
    #[must_use]
    pub fn paths_page(&self, cx: &Cx, wanted: Option<&str>, from: PathsPlace) -> PathsPage {
        let mut page = Page { room: ROOM_A_PAGE, ..Page::default() };
        let mut next = Some(from);
        // Bounded: a place without room ends the page, all others lead to the next place.
        while let Some(place) = next.take() {
            let (then, is_full) = match place {
                PathsPlace::Owners(after) => self.show_owners(cx, &mut page, wanted, after),
                PathsPlace::Sources(after) => self.show_sources(cx, &mut page, wanted, after),
                PathsPlace::Readers { .. } => self.show_readers(&mut page, wanted, place),
                PathsPlace::Totals => self.show_totals(cx, &mut page, wanted),
            };
            next = then;
            if is_full {
                break;
            }
        }
        PathsPage { parts: page.parts.into_values().collect(), next }
    }

    /// The parts of all pages.
    #[cfg(test)]
    pub(crate) fn path_parts(&self, cx: &Cx, wanted: Option<&str>) -> Vec<PathPart> {
        let (mut parts, mut next) = (Vec::new(), Some(PathsPlace::default()));
        while let Some(place) = next {
            let page = self.paths_page(cx, wanted, place);
            parts.extend(page.parts);
            next = page.next;
        }
        parts
    }
}

impl Live {
    /// Each of these functions continues until the page ends or its items do. The second value says
    /// whether the page had no more room.
    fn show_owners(
        &self,
        cx: &Cx,
        page: &mut Page,
        wanted: Option<&str>,
        after: Option<Arc<str>>,
    ) -> (Option<PathsPlace>, bool) {
        let behind = (Some(PathsPlace::Sources(None)), false);
        if let Some(path) = wanted {
            self.show_owner(cx, page, path);
            return behind;
        }
        let most = page.room / LOOKS_AN_OWNER;
        let known = self.hub.registry.names_behind(after.as_deref()).map(|name| &**name);
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let named = cx.configs.named.range::<str, _>((from, Bound::Unbounded));
        let named = named.map(|(name, _)| name.as_str());
        // One name more than there is room for shows whether names are left.
        let mut names: Vec<&str> = known.take(most + 1).chain(named.take(most + 1)).collect();
        names.sort_unstable();
        names.dedup();
        let has_more = names.len() > most;
        names.truncate(most);
        page.room -= names.len() * LOOKS_AN_OWNER;
        for name in &names {
            self.show_owner(cx, page, name);
        }
        match has_more {
            true => (Some(PathsPlace::Owners(names.last().map(|name| (*name).into()))), true),
            false => behind,
        }
    }

    fn show_owner(&self, cx: &Cx, page: &mut Page, path: &str) {
        if let Some(owner) = self.owner_info(cx, path) {
            let part = page.part(&path.into());
            (part.owner, part.failover) = (Some(owner), self.failover_info(cx, path));
        }
    }

    fn show_sources(
        &self,
        cx: &Cx,
        page: &mut Page,
        wanted: Option<&str>,
        after: Option<u32>,
    ) -> (Option<PathsPlace>, bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = after;
        for (number, publisher) in self.sources.publishers.range_from(from) {
            let path = publisher.source.path();
            let is_shown =
                wanted.is_none_or(|wanted| wanted == &**path) && publisher.generation().is_some();
            if !page.take(if is_shown { LOOKS_A_SOURCE } else { 1 }) {
                return (Some(PathsPlace::Sources(last)), true);
            }
            last = Some(number);
            if is_shown {
                let is_named = self.hub.tally.numbers(path).is_some();
                let part = page.part(path);
                part.source = self.sources.publishers.source_info(cx, number);
                if !is_named {
                    part.totals.add(&totals_of(publisher));
                }
            }
        }
        let place = wanted.map_or(Some(0), |path| self.hub.paths.place_of(path));
        let readers = |place| PathsPlace::Readers { place, path: None, reader: 0 };
        (Some(place.map_or(PathsPlace::Totals, readers)), false)
    }

    fn show_readers(
        &self,
        page: &mut Page,
        wanted: Option<&str>,
        from: PathsPlace,
    ) -> (Option<PathsPlace>, bool) {
        let PathsPlace::Readers { place: mut at, path: begun, reader: mut next } = from else {
            return (Some(from), true);
        };
        let mut begun = begun;
        while at < self.hub.paths.place_count() {
            let found = self.hub.paths.at(at);
            let key = found.map(|path| path.key());
            if !page.take(1) {
                return (Some(PathsPlace::Readers { place: at, path: begun, reader: next }), true);
            }
            let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted == name);
            let Some(path) = found.filter(|path| is_wanted(path.name())) else {
                (at, begun, next) = (at + 1, None, 0);
                continue;
            };
            // Another path may have taken the place since.
            if begun.is_none() || begun != key {
                (begun, next) = (key, 0);
                let is_named = self.hub.tally.numbers(path.name()).is_some();
                let part = page.part(path.name());
                if !is_named {
                    part.totals.add(path.totals());
                }
            }
            while next < path.reader_places() {
                if !page.take(1) {
                    let place = PathsPlace::Readers { place: at, path: begun, reader: next };
                    return (Some(place), true);
                }
                if let Some((key, reader)) = path.reader_at(next) {
                    let lag_s = path.lag(key).as_secs_f64();
                    page.part(path.name()).readers.add_reader(reader.carrier, lag_s);
                }
                next += 1;
            }
            (at, begun, next) = (at + 1, None, 0);
            if wanted.is_some() {
                break;
            }
        }
        (Some(PathsPlace::Totals), false)
    }

    /// Shows counters in one turn, so that none is between a path and the tally: see the invariant.
    fn show_totals(
        &self,
        cx: &Cx,
        page: &mut Page,
        wanted: Option<&str>,
    ) -> (Option<PathsPlace>, bool) {
        let looks = self.sources.publishers.len() + self.hub.paths.here_count();
        if page.room < ROOM_A_PAGE && !page.take(looks) {
            return (Some(PathsPlace::Totals), true);
        }
        let table = self.path_table(cx);
        for (path, numbers) in table.named() {
            if wanted.is_none_or(|wanted| wanted == &**path) {
                page.part(path).totals.add(&numbers.totals);
            }
        }
        (None, false)
    }
}

/// Readers that a page looks at: a tenth of a microsecond each, or two where memory is cold.
const ROOM_A_PAGE: usize = 1_024;
/// Looks that the figures of an owner cost.
const LOOKS_AN_OWNER: usize = 4;
/// Looks that the figures of a source cost.
const LOOKS_A_SOURCE: usize = 16;
