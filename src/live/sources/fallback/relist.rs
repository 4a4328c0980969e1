//! A relay whose list of sources changes while it relays.
//!
//! ```text
//!  [a, b*, c]  --new list: b, d-->  [b*, d]      b, which feeds the path, goes on
//!  [a*, b]     --new list: b, c-->  [b, c]       the path waits for b, as when a is lost
//! ```
//! A source is known by the name of its path. One that is in both lists keeps its subscription and
//! its state; one that is dropped is not listened to any more.
//! Invariant: the path keeps its claim and its streams; while the source that feeds it stays in the
//! list, no packet is missed or repeated. Bound: `SOURCES_MAX` sources.

use std::sync::Arc;

use crate::live::core::failover::SwitchError;
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::fallback::choice::SOURCES_MAX;
use crate::live::sources::fallback::relay::{NOBODY, Relay, RelaySource};
use crate::session::cx::Cx;

impl Sources {
    /// The configuration has another list of sources for a path. No effect while it has no relay.
    pub(crate) fn relist_relay(&mut self, cx: &Cx, hub: &mut Hub, path: &str) {
        let Some(number) = self.relays.table.number_of(path) else { return };
        let Some(relay) = self.relays.table.get_mut(number) else { return };
        let sources: Vec<Arc<str>> =
            cx.configs.source_paths(path).iter().take(SOURCES_MAX).cloned().collect();
        let is_same = relay.source_paths().eq(&sources);
        if is_same {
            return;
        }
        for source in relay.relist(&sources, cx) {
            hub.paths.forget_waiter(&source, NOBODY);
        }
        self.relays.listeners.retain(|_, listeners| {
            listeners.retain(|(listener, _)| *listener != number);
            !listeners.is_empty()
        });
        for (place, source) in sources.into_iter().enumerate() {
            self.relays.listeners.entry(source).or_default().push((number, place));
        }
        self.relays.make_ready(number);
    }
}

impl Relay {
    /// Has these sources from now on, in this order. Gives the paths that are not listened to any
    /// more.
    fn relist(&mut self, names: &[Arc<str>], cx: &Cx) -> Vec<Arc<str>> {
        self.end_switch(SwitchError::Ended);
        let mut before: Vec<Option<RelaySource>> = self.sources.drain(..).map(Some).collect();
        let place_before = |name: &Arc<str>, before: &[Option<RelaySource>]| {
            before.iter().position(|source| source.as_ref().is_some_and(|s| s.path == *name))
        };
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            let place = place_before(name, &before);
            let kept = place.and_then(|place| before.get_mut(place)?.take());
            self.sources.push(kept.unwrap_or_else(|| RelaySource::new(name, cx.now)));
            places.push(place);
        }
        self.choice.relist(&places);
        let place_of = |before: usize| places.iter().position(|place| *place == Some(before));
        let feed = self.feed.take();
        self.feed = feed.and_then(|mut feed| {
            feed.source = place_of(feed.source)?;
            Some(feed)
        });
        self.move_places(place_of);
        self.is_unsettled = true;
        let dropped = before.into_iter().flatten();
        dropped.filter(|source| source.is_wanted).map(|source| source.path).collect()
    }
}
