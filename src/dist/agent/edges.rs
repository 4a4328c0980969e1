//! Sources that this node cannot connect to: they are taken last for a while.
//!
//! ```text
//! Connect --no connection--> barred for 30 s: behind all others in each list --> as before
//!         --first byte--> not barred any more
//! ```
//! A node that others reach may be out of this one's reach. So what is barred is the edge, and not
//! the source. Where nothing else is left it is tried all the same.
//! Bound: `BARRED_MAX` sources; the one that is free first makes room.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::time::Mono;
use crate::dist::fetch::LinkId;
use crate::dist::ids::{ContentId, NodeName};
use crate::dist::wire::agent::Source;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Edges {
    /// Until when each is barred.
    barred: BTreeMap<NodeName, Mono>,
    /// Whom links are being opened to.
    opening: BTreeMap<(ContentId, LinkId), NodeName>,
}

impl Edges {
    /// A link to a source is being opened.
    pub(super) fn open(&mut self, content: ContentId, link: LinkId, source: &Source) {
        if let Some(node) = &source.node {
            self.opening.insert((content, link), node.clone());
        }
    }

    /// A link is closed.
    pub(super) fn close(&mut self, content: ContentId, link: LinkId) {
        self.opening.remove(&(content, link));
    }

    /// The source of a link answers.
    pub(super) fn connected(&mut self, content: ContentId, link: LinkId) {
        if let Some(node) = self.opening.remove(&(content, link)) {
            self.barred.remove(&node);
        }
    }

    /// The source of a link cannot be reached. Gives the source that is barred from now on, when it
    /// was not.
    pub(super) fn failed(
        &mut self,
        content: ContentId,
        link: LinkId,
        now: Mono,
    ) -> Option<NodeName> {
        let node = self.opening.remove(&(content, link))?;
        self.expire(now);
        let is_full = self.barred.len() >= BARRED_MAX && !self.barred.contains_key(&node);
        let first = self.barred.iter().min_by_key(|(_, until)| **until);
        if let Some(first) = first.filter(|_| is_full).map(|(node, _)| node.clone()) {
            self.barred.remove(&first);
        }
        let known = self.barred.insert(node.clone(), now + BARRED);
        known.is_none().then_some(node)
    }

    /// Whether a source is barred.
    pub(super) fn is_barred(&self, source: &Source, now: Mono) -> bool {
        let until = source.node.as_ref().and_then(|node| self.barred.get(node));
        until.is_some_and(|until| *until > now)
    }

    /// A list in which barred sources are behind all others.
    pub(super) fn in_order(&self, sources: &[Source], now: Mono) -> Vec<Source> {
        let is_barred = |source: &&Source| self.is_barred(source, now);
        let (barred, open): (Vec<_>, Vec<_>) = sources.iter().partition(is_barred);
        open.into_iter().chain(barred).cloned().collect()
    }

    /// Lets time pass. True when a source is not barred any more.
    pub(super) fn expire(&mut self, now: Mono) -> bool {
        let before = self.barred.len();
        self.barred.retain(|_, until| *until > now);
        self.barred.len() < before
    }
}

/// For so long a source to which no connection could be made is taken last.
pub(super) const BARRED: Duration = Duration::from_secs(30);
const BARRED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const CONTENT: ContentId = ContentId(Uuid::nil());

    fn source(name: &str) -> Source {
        Source {
            node: NodeName::new(name).ok().filter(|name| name.as_str() != "base"),
            addr: String::new(),
            capability: String::new(),
            rate: 0,
            is_last_resort: false,
        }
    }

    fn at(seconds: u64) -> Mono {
        Mono(1) + Duration::from_secs(seconds)
    }

    fn order(edges: &Edges, now: Mono) -> Vec<String> {
        let list = edges.in_order(&["a", "b", "base"].map(source), now);
        let name =
            |source: &Source| source.node.as_ref().map_or("base", NodeName::as_str).to_owned();
        list.iter().map(name).collect()
    }

    #[test]
    fn source_that_does_not_connect_is_last_for_half_a_minute() {
        let mut edges = Edges::default();
        edges.open(CONTENT, LinkId(1), &source("a"));
        assert_eq!(edges.failed(CONTENT, LinkId(1), at(0)), source("a").node);
        assert_eq!(order(&edges, at(29)), ["b", "base", "a"]);
        // A second time is not told again, and bars it anew.
        edges.open(CONTENT, LinkId(2), &source("a"));
        assert_eq!(edges.failed(CONTENT, LinkId(2), at(20)), None);
        assert_eq!(order(&edges, at(49)), ["b", "base", "a"]);
        assert!(!edges.expire(at(49)) && edges.expire(at(50)));
        assert_eq!(order(&edges, at(50)), ["a", "b", "base"]);
    }

    #[test]
    fn source_that_answers_and_the_base_are_not_barred() {
        let mut edges = Edges::default();
        for (link, name) in [(1, "a"), (2, "base"), (3, "a")] {
            edges.open(CONTENT, LinkId(link), &source(name));
        }
        assert!(edges.failed(CONTENT, LinkId(1), at(0)).is_some());
        assert!(edges.failed(CONTENT, LinkId(2), at(0)).is_none());
        edges.connected(CONTENT, LinkId(3));
        assert_eq!(order(&edges, at(1)), ["a", "b", "base"]);
        assert!(edges.opening.is_empty());
    }

    #[test]
    fn sources_that_are_barred_are_bounded() {
        let mut edges = Edges::default();
        for n in 0..2 * BARRED_MAX {
            let link = LinkId(u32::try_from(n).unwrap());
            edges.open(CONTENT, link, &source(&format!("n{n}")));
            assert!(edges.failed(CONTENT, link, at(1)).is_some());
        }
        assert_eq!(edges.barred.len(), BARRED_MAX);
    }
}
