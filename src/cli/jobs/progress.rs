//! How far each node of a job is, in numbers and in words.

use std::collections::{BTreeMap, BTreeSet};

use super::super::remote::table;
use crate::dist::ids::NodeName;
use crate::dist::wire::job::{DeliveryState, DeliveryView};

/// How far a node is with all its deliveries of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeProgress {
    /// Verified bytes.
    pub(super) bytes: u64,
    /// Bytes of the contents whose size is known, or as many as there are.
    pub(super) size: u64,
    /// Bytes per second.
    pub(super) rate: u64,
    /// Deliveries that are completed.
    pub(super) done: u64,
    /// Deliveries that have failed or were withdrawn.
    pub(super) failed: u64,
    /// Deliveries in all.
    pub(super) all: u64,
    /// Changes of sources.
    pub(super) switches: u64,
    /// From whom bytes come now, or came last; `base` is the base.
    pub(super) source: Option<String>,
    /// From whom parts come at the same time.
    pub(super) further: BTreeSet<String>,
}

/// How far each node is.
pub(super) fn by_node(deliveries: &[DeliveryView]) -> BTreeMap<NodeName, NodeProgress> {
    let mut nodes: BTreeMap<NodeName, NodeProgress> = BTreeMap::new();
    // The fastest source that sends now counts as the node's source, else the latest one.
    let mut fastest: BTreeMap<&NodeName, (bool, u64)> = BTreeMap::new();
    for delivery in deliveries {
        let node = nodes.entry(delivery.node.clone()).or_default();
        node.all += 1;
        node.switches += u64::from(delivery.switches);
        let is_fetching = delivery.state == DeliveryState::Fetching;
        let bytes = match delivery.state {
            DeliveryState::Completed => {
                node.done += 1;
                delivery.size.unwrap_or(delivery.offset)
            }
            DeliveryState::Failed | DeliveryState::Cancelled => {
                node.failed += 1;
                0
            }
            DeliveryState::Fetching => {
                node.rate += delivery.rate;
                delivery.offset
            }
            DeliveryState::Pending
            | DeliveryState::Received
            | DeliveryState::Applying
            | DeliveryState::RetryWait => delivery.offset,
        };
        node.bytes += bytes;
        node.size += delivery.size.unwrap_or(bytes).max(bytes);
        if is_fetching {
            node.further.extend(delivery.further.iter().cloned());
        }
        let Some(source) = &delivery.source else { continue };
        let speed = (is_fetching, if is_fetching { delivery.rate } else { 0 });
        let known = fastest.entry(&delivery.node).or_default();
        if speed >= *known {
            *known = speed;
            node.source = Some(source.clone());
        }
    }
    nodes
}

/// `3 of 4, 12.0 MiB/s, 1 failed`.
pub(super) fn message(node: &NodeProgress) -> String {
    let rate = match node.rate {
        0 => String::new(),
        rate => format!(", {}/s", table::bytes(rate)),
    };
    let failed = match node.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!("{} of {}{rate}{failed}", node.done, node.all)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A delivery as the base tells it.
    pub(crate) fn delivery(node: &str, state: &str, offset: u64, source: &str) -> DeliveryView {
        serde_json::from_value(json!({
            "command_id": 1, "node": node, "state": state, "shown": "new", "offset": offset,
            "size": 2_048, "rate": 1_024, "source": source, "switches": 1, "attempts": 0,
            "reason": null, "receipt": null,
        }))
        .unwrap()
    }

    #[test]
    fn source_of_a_node_is_the_fastest_that_sends_now_else_the_latest() {
        let mut slow = delivery("a", "fetching", 1, "slow");
        slow.rate = 9;
        let deliveries = [
            delivery("a", "completed", 2_048, "old"),
            delivery("a", "fetching", 1_024, "fast"),
            slow,
            delivery("b", "completed", 2_048, "first"),
            delivery("b", "completed", 2_048, "last"),
        ];
        let nodes = by_node(&deliveries);
        let of = |name: &str| &nodes[&NodeName::new(name).unwrap()];
        assert_eq!(of("a").source.as_deref(), Some("fast"));
        assert_eq!(of("b").source.as_deref(), Some("last"));
        assert_eq!((of("a").bytes, of("a").size, of("a").rate), (3_073, 6_144, 1_033));
        assert_eq!((of("a").done, of("a").all, of("a").switches), (1, 3, 3));
    }
}
