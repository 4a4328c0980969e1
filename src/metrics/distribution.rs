//! Numbers of a base: what its ledger and its nodes do, and how near to the bound jobs came.
//!
//! ```text
//! clerk --> LedgerCells ---+
//! reports of nodes --------+--> DistributionCells --text--> GET /metrics of the base
//! bytes in and out --------+
//! ```
//! Names begin with `ctp_`: the protocol's, for bases and nodes alike.
//! Bound: labels are states, causes and, for bad units, names of nodes that served some.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::TextEncoder;
use prometheus::proto::{MetricFamily, MetricType};

use super::cells::{Counter, SharedCounter};
use super::exposition::{family_of, histogram, sample};
use super::histogram::{Lateness, Ratios};

/// What the thread of the ledger writes.
#[derive(Debug, Default)]
pub struct LedgerCells {
    /// Rows that are durable.
    pub rows: Counter,
    /// Requests that were refused because too many waited; written by those who ask.
    pub refused: SharedCounter,
    /// Times of commits.
    pub commits: Lateness,
    /// Times of last nodes over the fluid bound, of jobs that ended.
    pub bound_ratios: Ratios,
    /// Bytes that left the base over the size of all contents, of jobs that ended.
    pub egress_ratios: Ratios,
}

impl LedgerCells {
    /// A commit of so many rows took so long.
    pub fn committed(&self, rows: usize, took: Duration) {
        self.rows.add(u64::try_from(rows).unwrap_or(u64::MAX));
        self.commits.observe_ns(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// What others at a base write.
#[derive(Debug, Default)]
pub struct DistributionCells {
    /// Bytes of contents that nodes fetched from the base.
    pub bytes_to_nodes: SharedCounter,
    /// Bytes of contents that clients brought.
    pub bytes_from_clients: SharedCounter,
    /// Changes of a source, in the order of [`SWITCH_CAUSES`].
    pub switches: [SharedCounter; SWITCH_CAUSES.len()],
    /// Times that nodes took further sources beside the one that they had, and left them, in the
    /// order of [`FURTHER_WORDS`].
    pub further: [SharedCounter; FURTHER_WORDS.len()],
    /// What nodes have handed on to each other, in the order of [`RELAY_WORDS`].
    pub relays: [SharedCounter; RELAY_WORDS.len()],
    /// Units that failed their hash, by the source that served them.
    bad_units: Mutex<BTreeMap<String, u64>>,
}

impl DistributionCells {
    /// A unit of `source` failed its hash.
    pub fn bad_unit(&self, source: &str) {
        let mut units = self.bad_units.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = units.contains_key(source) || units.len() < SOURCES_MAX;
        let source = if is_known { source } else { "other" };
        match units.get_mut(source) {
            Some(count) => *count += 1,
            None => {
                units.insert(source.to_owned(), 1);
            }
        }
    }
}

/// What is counted when it is asked for.
#[derive(Debug, Default, Clone)]
pub struct DistributionGauges {
    /// Deliveries by the word of their state.
    pub deliveries: Vec<(&'static str, u64)>,
    /// Nodes by the word of their state.
    pub nodes: Vec<(&'static str, u64)>,
    /// Jobs with open deliveries by what holds them back.
    pub limited_jobs: Vec<(&'static str, u64)>,
    /// Nodes that listen for orders.
    pub order_streams: u64,
    /// Streams of orders that ended because nobody read them.
    pub order_overflows: u64,
    /// Epoch of the base.
    pub epoch: u64,
    /// Orders that the base has had handed on: messages to first nodes, nodes that have theirs,
    /// nodes that it told itself because they did not say so.
    pub relays: [(&'static str, u64); 3],
    /// Notifications of jobs.
    pub webhooks: WebhookGauges,
}

/// Notifications of jobs; counts are since the start of the base.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WebhookGauges {
    /// Events that wait for a receiver.
    pub pending: u64,
    /// Attempts that are open.
    pub open: u64,
    /// Seconds for which the oldest event waits.
    pub lag_seconds: u64,
    /// Events that were taken.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Events that were not taken in time.
    pub dropped: u64,
    /// Receivers that said that they are gone.
    pub disabled: u64,
}

/// All of it as text.
///
/// # Errors
/// When a family cannot be encoded.
pub fn text(
    ledger: &LedgerCells,
    cells: &DistributionCells,
    gauges: &DistributionGauges,
) -> Result<String, prometheus::Error> {
    let mut families = of_ledger(ledger);
    families.extend(of_contents(cells));
    families.extend(of_base(gauges.epoch, true));
    families.extend([
        by_state("ctp_deliveries", "Deliveries of open and kept jobs.", &gauges.deliveries),
        by_state("ctp_nodes", "Nodes that the base knows.", &gauges.nodes),
        by_label(
            "by",
            "ctp_limited_jobs",
            "Jobs with open deliveries that their policy holds back.",
            &gauges.limited_jobs,
        ),
        one(
            "ctp_order_overflows_total",
            "Streams of orders that ended because their node did not read them.",
            MetricType::COUNTER,
            gauges.order_overflows,
        ),
        one(
            "ctp_order_streams",
            "Nodes that listen for orders.",
            MetricType::GAUGE,
            gauges.order_streams,
        ),
    ]);
    let relays = gauges
        .relays
        .iter()
        .map(|(word, count)| sample(&["what"], &[word], MetricType::COUNTER, *count));
    families.push(family_of(
        "ctp_base_relays_total",
        "Orders that the base has had handed on from node to node.",
        MetricType::COUNTER,
        relays.collect(),
    ));
    families.extend(of_webhooks(&gauges.webhooks));
    // A family without samples is none; bad units have none as long as all is well.
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&families)
}

/// What a base says that waits for its ledger: the epoch of the base that has it, and whether the
/// database answers.
///
/// # Errors
/// When a family cannot be encoded.
pub fn standby_text(epoch: u64, is_reached: bool) -> Result<String, prometheus::Error> {
    let mut families = of_base(epoch, false);
    families.push(one(
        "ctp_base_database_up",
        "Whether the database of the ledger answers a base that waits for it.",
        MetricType::GAUGE,
        is_reached.into(),
    ));
    families.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&families)
}

fn of_base(epoch: u64, is_active: bool) -> Vec<MetricFamily> {
    vec![
        one(
            "ctp_base_active",
            "1: this base has the ledger; 0: it stands by for another one.",
            MetricType::GAUGE,
            is_active.into(),
        ),
        one(
            "ctp_base_epoch",
            "Epoch of the base that has the ledger; it grows with each takeover and start.",
            MetricType::GAUGE,
            epoch,
        ),
    ]
}

fn of_webhooks(webhooks: &WebhookGauges) -> Vec<MetricFamily> {
    let gauge = |name, help, value| one(name, help, MetricType::GAUGE, value);
    let counter = |name, help, value| one(name, help, MetricType::COUNTER, value);
    vec![
        counter(
            "ctp_webhooks_delivered_total",
            "Events that receivers of notifications have taken.",
            webhooks.delivered,
        ),
        counter(
            "ctp_webhooks_disabled_total",
            "Receivers of notifications that said that they are gone (410).",
            webhooks.disabled,
        ),
        counter(
            "ctp_webhooks_dropped_total",
            "Events that receivers of notifications did not take in time.",
            webhooks.dropped,
        ),
        counter(
            "ctp_webhooks_failures_total",
            "Attempts to notify that failed; they are made again.",
            webhooks.failed,
        ),
        gauge(
            "ctp_webhooks_lag_seconds",
            "Time for which the oldest event waits for its receiver.",
            webhooks.lag_seconds,
        ),
        gauge("ctp_webhooks_open", "Attempts to notify that are open.", webhooks.open),
        gauge(
            "ctp_webhooks_pending",
            "Events that wait for receivers of notifications.",
            webhooks.pending,
        ),
    ]
}

fn of_ledger(ledger: &LedgerCells) -> Vec<MetricFamily> {
    let measured = |name, help, value| {
        family_of(name, help, MetricType::HISTOGRAM, vec![histogram(&[], &[], &value)])
    };
    vec![
        measured(
            "ctp_base_egress_ratio",
            "Bytes that left the base over the size of all contents, of jobs that ended.",
            ledger.egress_ratios.read(),
        ),
        measured(
            "ctp_bound_ratio",
            "Time of the last node over the fluid bound, of jobs that ended.",
            ledger.bound_ratios.read(),
        ),
        measured(
            "ctp_ledger_commit_seconds",
            "Times of transactions of the ledger, to the disk.",
            ledger.commits.read(),
        ),
        one(
            "ctp_ledger_refused_total",
            "Requests that were refused because too many waited for the ledger.",
            MetricType::COUNTER,
            ledger.refused.value(),
        ),
        one(
            "ctp_ledger_rows_total",
            "Rows that the ledger has written.",
            MetricType::COUNTER,
            ledger.rows.value(),
        ),
    ]
}

fn of_contents(cells: &DistributionCells) -> Vec<MetricFamily> {
    let count =
        |names: &[&str], values: &[&str], count| sample(names, values, MetricType::COUNTER, count);
    let bytes = [
        (["in", "client"], cells.bytes_from_clients.value()),
        (["out", "node"], cells.bytes_to_nodes.value()),
    ];
    let bytes = bytes.iter().map(|(labels, value)| count(&["dir", "peer_kind"], labels, *value));
    let switches = SWITCH_CAUSES.iter().zip(&cells.switches);
    let switches = switches.map(|(cause, switches)| count(&["why"], &[cause], switches.value()));
    let relays = RELAY_WORDS.iter().zip(&cells.relays);
    let relays = relays.map(|(word, relays)| count(&["what"], &[word], relays.value()));
    let further = FURTHER_WORDS.iter().zip(&cells.further);
    let further = further.map(|(word, further)| count(&["what"], &[word], further.value()));
    let bad_units = cells.bad_units.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let bad_units = bad_units.iter().map(|(source, units)| count(&["source"], &[source], *units));
    let counter = |name, help, samples| family_of(name, help, MetricType::COUNTER, samples);
    vec![
        counter(
            "ctp_bad_units_total",
            "Units that failed their hash, by the source that served them.",
            bad_units.collect(),
        ),
        counter("ctp_bytes_total", "Bytes of contents, by direction and peer.", bytes.collect()),
        counter(
            "ctp_further_sources_total",
            "Times that nodes took further sources at once, or other ones, and left all of them.",
            further.collect(),
        ),
        counter("ctp_relays_total", "Orders that nodes have handed on.", relays.collect()),
        counter("ctp_switches_total", "Sources that nodes took, by cause.", switches.collect()),
    ]
}

fn one(name: &str, help: &str, kind: MetricType, value: u64) -> MetricFamily {
    family_of(name, help, kind, vec![sample(&[], &[], kind, value)])
}

fn by_state(name: &str, help: &str, counts: &[(&'static str, u64)]) -> MetricFamily {
    by_label("state", name, help, counts)
}

fn by_label(label: &str, name: &str, help: &str, counts: &[(&'static str, u64)]) -> MetricFamily {
    let samples =
        counts.iter().map(|(word, count)| sample(&[label], &[word], MetricType::GAUGE, *count));
    family_of(name, help, MetricType::GAUGE, samples.collect())
}

/// Words for causes of a change of the source.
pub const SWITCH_CAUSES: [&str; 8] =
    ["first", "plan", "lost", "stall", "bad_unit", "busy", "faster", "slow"];

/// Words for what nodes do with further sources.
pub const FURTHER_WORDS: [&str; 2] = ["taken", "left"];

/// Words for what becomes of orders that nodes hand on.
pub const RELAY_WORDS: [&str; 5] = ["taken", "duplicate", "refused", "sent", "taken_back"];

/// Sources that are told apart: nobody has so many that fail.
const SOURCES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_a_sample_from_the_start() {
        let (ledger, cells) = (LedgerCells::default(), DistributionCells::default());
        let gauges = DistributionGauges {
            deliveries: vec![("pending", 0)],
            nodes: vec![("active", 2)],
            limited_jobs: vec![("window", 1)],
            ..Default::default()
        };
        let first = text(&ledger, &cells, &gauges).unwrap();
        for line in [
            "ctp_bytes_total{dir=\"in\",peer_kind=\"client\"} 0",
            "ctp_deliveries{state=\"pending\"} 0",
            "ctp_nodes{state=\"active\"} 2",
            "ctp_limited_jobs{by=\"window\"} 1",
            "ctp_switches_total{why=\"stall\"} 0",
            "ctp_bound_ratio_count 0",
            "ctp_ledger_commit_seconds_count 0",
            "ctp_order_streams 0",
            "ctp_further_sources_total{what=\"taken\"} 0",
            "ctp_relays_total{what=\"taken_back\"} 0",
            "ctp_webhooks_pending 0",
            "ctp_webhooks_dropped_total 0",
        ] {
            assert!(first.lines().any(|found| found == line), "{line}\n{first}");
        }
        assert!(!first.contains("ctp_bad_units_total"));
    }

    #[test]
    fn what_is_counted_is_shown() {
        let (ledger, cells) = (LedgerCells::default(), DistributionCells::default());
        ledger.committed(20, Duration::from_millis(3));
        ledger.bound_ratios.observe(1.04);
        cells.bad_unit("edge-1");
        cells.bad_unit("edge-1");
        cells.switches[3].add(1);
        let text = text(&ledger, &cells, &DistributionGauges::default()).unwrap();
        for line in [
            "ctp_bad_units_total{source=\"edge-1\"} 2",
            "ctp_switches_total{why=\"stall\"} 1",
            "ctp_ledger_rows_total 20",
            "ctp_ledger_commit_seconds_bucket{le=\"0.003\"} 1",
            "ctp_bound_ratio_bucket{le=\"1.05\"} 1",
            "ctp_bound_ratio_bucket{le=\"1.02\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
