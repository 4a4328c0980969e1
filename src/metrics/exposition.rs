//! All metrics as text, for `GET /metrics`.
//!
//! ```text
//! cells --families--> MetricFamily (labels, sums) --Registry--> sorted --TextEncoder--> text
//! tables of paths --PathSeries--------^
//! ```
//! Of the cells nothing is kept between scrapes, of the paths what `path_families` says.
//! Invariant: every name has HELP and TYPE, and every family has at least one sample from the first
//! scrape on, so that a rate over it is never missing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Registry, TextEncoder};

use super::cells::{ADMIN, CERTIFICATE, HLS, LOG, ShardCells, TASK_KINDS, WorkerCells};
use super::families::{Family, Read, families};
use super::histogram::HistogramValue;
use super::limits::{self, Limit, LimitState};
use super::path_families::PathSeries;
use super::paths::PathTallies;
use super::process::{PROCESS, as_f64, major_faults};
use super::requests::METHODS;
use super::whep::WHEP;

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of `headend_build_info`.
#[derive(Debug, Clone)]
pub struct BuildInfo {
    /// Version of headend.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// How sockets are driven: `uring`.
    pub backend: String,
}

/// What one scrape sees.
#[derive(Debug, Clone)]
pub struct CellSet {
    /// Cells of shard 0, 1, ...
    pub shards: Vec<Arc<ShardCells>>,
    /// Cells of the worker pool.
    pub workers: Arc<WorkerCells>,
    /// Whether the appliance serves.
    pub ready: bool,
    /// Limits on what strangers can grow.
    pub limits: Arc<[Limit]>,
}

/// Turns cells into text.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
    paths: Mutex<PathSeries>,
}

impl Exposition {
    /// `cells` is called at every scrape.
    ///
    /// # Errors
    /// Only when two metrics have one name, which is a mistake in the table.
    pub fn new(
        build: BuildInfo,
        cells: impl Fn() -> CellSet + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(Appliance::new(build, Box::new(cells))?))?;
        registry.register(Box::new(Process::new()?))?;
        Ok(Self { registry, paths: Mutex::default() })
    }

    /// The whole text. `paths` has the live paths of each shard, `None` for one that has not
    /// answered: its numbers are those of the scrape before.
    ///
    /// # Errors
    /// When a family cannot be encoded.
    pub fn text(&self, paths: Vec<Option<PathTallies>>) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        {
            let mut series = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
            series.update(paths);
            families.extend(series.families());
        }
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families)
    }
}

struct Appliance {
    build: BuildInfo,
    cells: Box<dyn Fn() -> CellSet + Send + Sync>,
    descs: Vec<Desc>,
}

impl Appliance {
    fn new(
        build: BuildInfo,
        cells: Box<dyn Fn() -> CellSet + Send + Sync>,
    ) -> Result<Self, prometheus::Error> {
        let descs = families().map(|f| desc(f.name, f.help, f.read.label_names()));
        Ok(Self { build, cells, descs: descs.collect::<Result<_, _>>()? })
    }
}

impl fmt::Debug for Appliance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appliance").field("build", &self.build).finish_non_exhaustive()
    }
}

impl Collector for Appliance {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let cells = (self.cells)();
        // Two families have them.
        let limits = limits::states(&cells);
        let family = |family| collect_family(family, &self.build, &cells, &limits);
        families().map(family).collect()
    }
}

fn collect_family(
    family: &Family,
    build: &BuildInfo,
    cells: &CellSet,
    limits: &[LimitState],
) -> MetricFamily {
    let names = family.read.label_names();
    let kind = family.read.kind();
    let number = |values: &[&str], value: u64| sample(names, values, kind, value);
    let shards = || (0u32..).map(|i| i.to_string()).zip(&cells.shards);
    let metrics = match &family.read {
        Read::BuildInfo => vec![number(&[&build.backend, &build.kernel, &build.version], 1)],
        Read::Ready => vec![number(&[], u64::from(cells.ready))],
        Read::Shard(read) => shards().map(|(i, s)| number(&[&i], read(s).value())).collect(),
        Read::ShardGauge(read) => shards().map(|(i, s)| number(&[&i], read(s))).collect(),
        Read::ShardMajorFaults => {
            let faults = major_faults();
            // Shards' threads have these names.
            let of_shard = |i: &str| faults.get(&format!("shard-{i}")).copied().unwrap_or(0);
            shards().map(|(i, _)| number(&[&i], of_shard(&i))).collect()
        }
        Read::ShardList(_, labels, read) => shards()
            .flat_map(|(i, s)| {
                let values = labels.values.iter().enumerate();
                let samples = values.map(|(n, value)| number(&[&i, value], read(s, n)));
                samples.collect::<Vec<_>>()
            })
            .collect(),
        Read::ShardHistogram(read) => {
            shards().map(|(i, s)| histogram(names, &[&i], &read(s))).collect()
        }
        Read::SumHistogram(read) => {
            let sum = cells.shards.iter().map(|s| read(s)).reduce(|mut sum, value| {
                sum.merge(&value);
                sum
            });
            sum.map(|sum| histogram(names, &[], &sum)).into_iter().collect()
        }
        Read::Requests => collect_requests(&cells.shards)
            .iter()
            .map(|((method, code), count)| number(&[code, method], *count))
            .collect(),
        Read::WorkerOps(read) => {
            let pairs = TASK_KINDS.iter().zip(read(&cells.workers));
            pairs.map(|(op, cell)| number(&[op], cell.value())).collect()
        }
        Read::Worker(read) => vec![number(&[], read(&cells.workers).value())],
        Read::CertificateLeft => vec![number(&[], CERTIFICATE.seconds_left(now_s()))],
        Read::Log(read) => vec![number(&[], read(&LOG).value())],
        Read::WorkerGauge(read) => vec![number(&[], read(&cells.workers))],
        Read::Limits(read) => limits
            .iter()
            .map(|state| number(&[&state.shard_label(), state.what], read(state)))
            .collect(),
        Read::Admin(read) => vec![number(&[], read(&ADMIN).value())],
        Read::Hls(read) => vec![number(&[], read(&HLS).value())],
        Read::Whep(read) => vec![number(&[], read(&WHEP).value())],
    };
    family_of(family.name, family.help, kind, metrics)
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Sums over shards. Pairs that never occurred are left out, except for (method, 200): rates of
/// the ordinary case start at zero, and 300 empty lines are spared.
fn collect_requests(shards: &[Arc<ShardCells>]) -> BTreeMap<(&'static str, String), u64> {
    let mut sums: BTreeMap<_, u64> =
        METHODS.iter().map(|method| ((*method, "200".to_owned()), 0)).collect();
    for (method, status, count) in shards.iter().flat_map(|shard| shard.requests.iter()) {
        if count > 0 {
            let code = status.map_or_else(|| "other".to_owned(), |status| status.to_string());
            let sum = sums.entry((method, code)).or_default();
            *sum = sum.wrapping_add(count);
        }
    }
    sums
}

#[derive(Debug)]
struct Process {
    descs: Vec<Desc>,
}

impl Process {
    fn new() -> Result<Self, prometheus::Error> {
        let descs = PROCESS.iter().map(|metric| desc(metric.name, metric.help, &[]));
        Ok(Self { descs: descs.collect::<Result<_, _>>()? })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let families = PROCESS.iter().filter_map(|metric| {
            let value = (metric.read)()?;
            let kind = if metric.is_counter { MetricType::COUNTER } else { MetricType::GAUGE };
            let metrics = vec![sample_f64(&[], &[], kind, value)];
            Some(family_of(metric.name, metric.help, kind, metrics))
        });
        families.collect()
    }
}

fn desc(name: &str, help: &str, labels: &[&str]) -> Result<Desc, prometheus::Error> {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Desc::new(name.to_owned(), help.to_owned(), labels, std::collections::HashMap::new())
}

pub(super) fn family_of(
    name: &str,
    help: &str,
    kind: MetricType,
    metrics: Vec<Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub(super) fn sample(names: &[&str], values: &[&str], kind: MetricType, value: u64) -> Metric {
    sample_f64(names, values, kind, as_f64(value))
}

fn sample_f64(names: &[&str], values: &[&str], kind: MetricType, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels(names, values));
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

pub(super) fn histogram(names: &[&str], values: &[&str], value: &HistogramValue) -> Metric {
    let mut histogram = Histogram::default();
    let mut cumulative: u64 = 0;
    let buckets = value.bounds.iter().zip(&value.counts).map(|(bound, count)| {
        cumulative = cumulative.wrapping_add(*count);
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(as_f64(*bound) / as_f64(value.steps_per_unit));
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(value.count());
    histogram.set_sample_sum(as_f64(value.sum) / as_f64(value.steps_per_unit));
    let mut metric = Metric::from_label(labels(names, values));
    metric.set_histogram(histogram);
    metric
}

fn labels(names: &[&str], values: &[&str]) -> Vec<LabelPair> {
    debug_assert_eq!(names.len(), values.len(), "one value for each label");
    let pairs = names.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
