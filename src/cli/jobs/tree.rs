//! Who feeds whom, as a tree in text.
//!
//! ```text
//! base
//! |- a       62 %  5.0 MiB of 8.0 MiB, 0 of 1, 12.0 MiB/s
//! |  '- b    60 %  4.8 MiB of 8.0 MiB, 0 of 1, 11.9 MiB/s, 1 switch
//! |- c      100 %  8.0 MiB of 8.0 MiB, 1 of 1
//! '- d       40 %  3.2 MiB of 8.0 MiB, 0 of 1, 9.0 MiB/s, too from a b base
//! not fed yet: e
//! ```
//! A node stands below the source of most of its bytes now; those that give it parts at the same
//! time are named in its line. Files of one job may go other ways, so
//! that two nodes may feed each other: then one of them stands at the top.
//! Bounds: each node has one line; the caller cuts the lines to what fits.

use std::collections::{BTreeMap, BTreeSet};

use super::super::printable;
use super::super::remote::table;
use super::progress::{NodeProgress, message};
use crate::dist::ids::NodeName;
use crate::dist::reflect::ORIGIN_NAME;

/// The lines of a tree.
pub(super) fn lines(nodes: &BTreeMap<NodeName, NodeProgress>) -> Vec<String> {
    let mut children: BTreeMap<&str, Vec<&NodeName>> = BTreeMap::new();
    let mut unfed = Vec::new();
    for (name, node) in nodes {
        match &node.source {
            Some(source) => children.entry(source.as_str()).or_default().push(name),
            None => unfed.push(name),
        }
    }
    let mut tree = Tree { nodes, children, seen: BTreeSet::new(), rows: Vec::new() };
    let is_live = tree.children.contains_key(ORIGIN_NAME) && !tree.children.contains_key(BASE);
    tree.add_root(if is_live { ORIGIN_NAME } else { BASE });
    // What the base does not feed, through others: a source that is no node of the job, a node that
    // has ended, or nodes that feed each other.
    let sources: Vec<&str> = tree.children.keys().copied().collect();
    let is_fed = |source: &str| nodes.keys().any(|n| n.as_str() == source && !unfed.contains(&n));
    let (fed, tops): (Vec<&str>, Vec<&str>) = sources.into_iter().partition(|s| is_fed(s));
    for source in tops.into_iter().chain(fed) {
        let has_more = tree.children[source].iter().any(|child| !tree.seen.contains(child));
        if has_more {
            tree.add_root(source);
        }
    }
    let widest = tree.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let mut lines: Vec<String> = tree.rows.iter().map(|row| row.line(widest)).collect();
    let unfed: Vec<&str> =
        unfed.into_iter().filter(|name| !tree.seen.contains(name)).map(|n| n.as_str()).collect();
    if !unfed.is_empty() {
        lines.push(format!("not fed yet: {}", unfed.join(" ")));
    }
    lines
}

/// Rows of a tree, from the top.
struct Tree<'a> {
    nodes: &'a BTreeMap<NodeName, NodeProgress>,
    children: BTreeMap<&'a str, Vec<&'a NodeName>>,
    seen: BTreeSet<&'a NodeName>,
    rows: Vec<Row>,
}

struct Row {
    label: String,
    told: String,
}

impl<'a> Tree<'a> {
    /// A source, and all whom it feeds through others.
    fn add_root(&mut self, source: &'a str) {
        let own = self.nodes.keys().find(|name| name.as_str() == source);
        let told = own.map_or_else(String::new, |name| self.told(name));
        self.seen.extend(own);
        self.rows.push(Row { label: printable(source), told });
        // Nodes of a level wait with what stands before their names; the last one is next.
        let mut waiting = self.below(source, "");
        while let Some((name, lead, is_last)) = waiting.pop() {
            if !self.seen.insert(name) {
                continue;
            }
            let (branch, space) = if is_last { ("'- ", "   ") } else { ("|- ", "|  ") };
            let told = self.told(name);
            self.rows.push(Row { label: format!("{lead}{branch}{name}"), told });
            let below = self.below(name.as_str(), &format!("{lead}{space}"));
            waiting.extend(below);
        }
    }

    fn told(&self, name: &NodeName) -> String {
        self.nodes.get(name).map_or_else(String::new, told)
    }

    /// Whom a source feeds, the last one first.
    fn below(&self, source: &str, lead: &str) -> Vec<(&'a NodeName, String, bool)> {
        let children = self.children.get(source).map(Vec::as_slice).unwrap_or_default();
        let new = children.iter().filter(|child| !self.seen.contains(*child)).rev();
        new.enumerate().map(|(place, child)| (*child, lead.to_owned(), place == 0)).collect()
    }
}

impl Row {
    fn line(&self, widest: usize) -> String {
        let gap = widest.saturating_sub(self.label.chars().count());
        format!("{}{:gap$}  {}", self.label, "", self.told).trim_end().to_owned()
    }
}

/// ` 62 %  5.0 MiB of 8.0 MiB, 12.0 MiB/s, 0 of 1`.
fn told(node: &NodeProgress) -> String {
    // Of a live path, or an upload that goes on, nobody knows how much will come.
    let has_no_end = node.rate > 0 && node.bytes == node.size;
    let percent = match node.size {
        0 if node.done == node.all => "100".to_owned(),
        _ if has_no_end => "-".to_owned(),
        size => (node.bytes.saturating_mul(100) / size.max(1)).to_string(),
    };
    let (bytes, size) = (table::bytes(node.bytes), table::bytes(node.size));
    let switches = match node.switches {
        0 => String::new(),
        1 => ", 1 switch".to_owned(),
        more => format!(", {more} switches"),
    };
    let further = match node.further.len() {
        0 => String::new(),
        _ => {
            let names: Vec<_> = node.further.iter().map(|name| printable(name)).collect();
            format!(", too from {}", names.join(" "))
        }
    };
    format!("{percent:>3} %  {bytes} of {size}, {}{switches}{further}", message(node))
}

/// What the API calls the base where a source is named.
const BASE: &str = "base";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::progress::by_node;
    use super::super::progress::tests::delivery;
    use super::*;

    #[test]
    fn live_path_has_its_origin_at_the_top_and_no_end() {
        let mut deliveries =
            [delivery("a", "fetching", 1_024, "origin"), delivery("b", "fetching", 512, "a")];
        deliveries.iter_mut().for_each(|delivery| delivery.size = None);
        insta::assert_snapshot!(lines(&by_node(&deliveries)).join("\n"), @r"
        origin
        '- a       - %  1.0 KiB of 1.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch
           '- b    - %  512 B of 512 B, 0 of 1, 1.0 KiB/s, 1 switch
        ");
    }

    #[test]
    fn nodes_stand_below_their_sources() {
        let mut waiting = delivery("e", "received", 0, "");
        waiting.source = None;
        let deliveries = [
            delivery("a", "fetching", 1_024, "base"),
            delivery("b", "fetching", 512, "a"),
            delivery("c", "completed", 2_048, "base"),
            delivery("d", "fetching", 512, "b"),
            delivery("f", "fetching", 256, "a"),
            waiting,
        ];
        insta::assert_snapshot!(lines(&by_node(&deliveries)).join("\n"), @r"
        base
        |- a         50 %  1.0 KiB of 2.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch
        |  |- b      25 %  512 B of 2.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch
        |  |  '- d   25 %  512 B of 2.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch
        |  '- f      12 %  256 B of 2.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch
        '- c        100 %  2.0 KiB of 2.0 KiB, 1 of 1, 1 switch
        not fed yet: e
        ");
    }

    #[test]
    fn node_with_several_sources_stands_below_the_main_one_and_names_the_others() {
        let mut several = delivery("b", "fetching", 512, "a");
        several.further = vec!["c".to_owned(), "base".to_owned()];
        let mut done = delivery("c", "completed", 2_048, "base");
        done.further = vec!["a".to_owned()];
        let deliveries = [delivery("a", "fetching", 1_024, "base"), several, done];
        insta::assert_snapshot!(lines(&by_node(&deliveries)).join("\n"), @r"
        base
        |- a      50 %  1.0 KiB of 2.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch
        |  '- b   25 %  512 B of 2.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch, too from base c
        '- c     100 %  2.0 KiB of 2.0 KiB, 1 of 1, 1 switch
        ");
    }

    #[test]
    fn nodes_that_feed_each_other_and_unknown_sources_are_shown() {
        let deliveries = [
            delivery("a", "fetching", 1_024, "b"),
            delivery("b", "fetching", 512, "a"),
            delivery("c", "fetching", 0, "gone\u{1b}"),
        ];
        insta::assert_snapshot!(lines(&by_node(&deliveries)).join("\n"), @r"
        base
        gone?
        '- c     0 %  0 B of 2.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch
        a       50 %  1.0 KiB of 2.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch
        '- b    25 %  512 B of 2.0 KiB, 0 of 1, 1.0 KiB/s, 1 switch
        ");
    }

    proptest! {
        #[test]
        fn each_node_has_one_place(sources in prop::collection::vec(0_usize..12, 1..12)) {
            let name = |place: usize| match place {
                0 => "base".to_owned(),
                node => format!("n{node:02}"),
            };
            let deliveries = sources.iter().enumerate().map(|(node, source)| {
                let mut view = delivery(&name(node + 1), "fetching", 1, &name(*source));
                view.source = view.source.filter(|_| *source < 11);
                view
            });
            let text = lines(&by_node(&deliveries.collect::<Vec<_>>())).join("\n");
            for node in 1..=sources.len() {
                prop_assert_eq!(text.matches(&name(node)).count(), 1, "{}", text);
            }
        }
    }
}
