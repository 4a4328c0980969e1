//! Which deliveries of a job a client asks for.

use crate::dist::ids::{CommandId, NodeName};
use crate::dist::wire::job::DeliveryState;

/// Deliveries that fit all that is set, in the order of commands and of the server list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this command.
    pub command: Option<CommandId>,
    /// At this node.
    pub node: Option<NodeName>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Behind this one: the last of the page before.
    pub after: Option<(CommandId, NodeName)>,
    /// At most; 0 is 1,000.
    pub limit: usize,
}

/// Entries of a page at most.
pub const PAGE_MAX: usize = 10_000;

/// What a page has when its request does not say.
pub const PAGE_DEFAULT: usize = 1_000;

/// The limit that a request gets.
pub(super) fn page(limit: usize) -> usize {
    if limit == 0 { PAGE_DEFAULT } else { limit.min(PAGE_MAX) }
}
