//! How well a job went: its time over the fluid bound, what left the base over its contents.
//!
//! Only a job that arrived everywhere, and all of which this book has seen, is measured.

use crate::dist::book::link::known_rate;
use crate::dist::book::nodes::Nodes;
use crate::dist::book::records::Job;
use crate::dist::plan::fluid_bound_ns;
use crate::dist::wire::job::Policy;

/// What the ratios of a job are made from.
#[derive(Debug, Default)]
pub(super) struct Measure {
    /// First byte of the first content at the base.
    pub(super) first_byte_ns: Option<u64>,
    /// Last receipt that counted.
    pub(super) last_receipt_ns: u64,
    /// Bytes of contents that left the base.
    pub(super) base_sent: u64,
}

/// Time over the fluid bound, in thousandths. `base_up`: bytes per second that the base can send,
/// where that is known.
pub(super) fn bound_permille(job: &Job, nodes: &Nodes, base_up: Option<u64>) -> Option<u64> {
    let measure = measured(job)?;
    let Policy { max_rate, per_node_rate, window: None, .. } = &job.row.policy else {
        // The time in which nothing may be sent says nothing of how it went.
        return None;
    };
    let (up_max, down_max) = (max_rate.unwrap_or(u64::MAX), per_node_rate.unwrap_or(u64::MAX));
    let rates = job.targets.iter().filter_map(|node| nodes.get(*node)).map(|node| {
        let down = known_rate(node.row.down_rate_cap, node.row.down_rate_seen);
        let up = known_rate(node.row.up_rate_cap, node.row.up_rate_seen).unwrap_or(0);
        Some((up.min(up_max), down?.min(down_max)))
    });
    let rates: Vec<(u64, u64)> = rates.collect::<Option<_>>()?;
    let bound_ns = fluid_bound_ns(job.content_bytes, base_up?.min(up_max), rates.into_iter());
    let took_ns = measure.last_receipt_ns.saturating_sub(measure.first_byte_ns?);
    Some(permille(took_ns, bound_ns))
}

/// Bytes that left the base over those of the contents, in thousandths.
pub(super) fn egress_permille(job: &Job) -> Option<u64> {
    measured(job).map(|measure| permille(measure.base_sent, job.content_bytes))
}

/// A float for people: the chain has the whole number.
pub(super) fn from_permille(permille: u64) -> f64 {
    f64::from(u32::try_from(permille).unwrap_or(u32::MAX)) / 1_000.0
}

/// What a job was measured by, if all of it arrived everywhere and was seen.
fn measured(job: &Job) -> Option<&Measure> {
    // A live path takes as long as its client wants.
    let has_live = job.commands.iter().any(|command| command.row.op.is_live());
    let has_all = job.totals.failed + job.totals.cancelled == 0;
    let is_whole = job.content_bytes > 0 && has_all && !has_live;
    job.measure.as_ref().filter(|_| is_whole)
}

fn permille(part: u64, whole: u64) -> u64 {
    let ratio = u128::from(part) * 1_000 / u128::from(whole.max(1));
    u64::try_from(ratio).unwrap_or(u64::MAX)
}
