//! Metrics with the label `path`, and the sums behind them.
//!
//! ```text
//!  PathTallies of the shards --sum by path--> 200 names, `other` --> MetricFamily
//! ```
//! A shard that does not answer a scrape is shown as it was before: sums do not go back because a
//! shard is busy. Names are taken in order of appearance and kept, so that a path is not counted
//! under its name now and under `other` later.
//! Bound: `PATHS_NAMED_MAX` names of all shards, beside what the shards have named.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::exposition::{family_of, sample};
use super::families::Labels;
use super::paths::{DROPS, OTHER, PATH_STATES, PATHS_NAMED_MAX, PathNumbers, PathTallies, SKIPS};
use crate::base::carrier::Carrier;

/// One metric of paths.
pub(super) struct PathFamily {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    read: Read,
}

/// Where the samples of a path come from, and thereby which labels they have.
enum Read {
    /// Gauge `{path}`.
    Gauge(fn(&PathNumbers) -> u64),
    /// Counter `{path}`.
    Counter(fn(&PathNumbers) -> u64),
    /// Counter or gauge `{path, ..}`: the number at a place of the list.
    List(MetricType, Labels, fn(&PathNumbers, usize) -> u64),
}

impl Read {
    fn kind(&self) -> MetricType {
        match self {
            Self::Gauge(_) => MetricType::GAUGE,
            Self::Counter(_) => MetricType::COUNTER,
            Self::List(kind, ..) => *kind,
        }
    }

    /// The samples of one path.
    fn samples(&self, path: &str, numbers: &PathNumbers) -> Vec<Metric> {
        let kind = self.kind();
        match self {
            Self::Gauge(read) | Self::Counter(read) => {
                vec![sample(&["path"], &[path], kind, read(numbers))]
            }
            Self::List(_, labels, read) => {
                let values = (0_usize..).zip(labels.values);
                let samples = values
                    .map(|(n, value)| sample(labels.names, &[path, value], kind, read(numbers, n)));
                samples.collect()
            }
        }
    }
}

/// Paths by state; the only one here without the label `path`.
pub(super) const PATHS: (&str, &str) = ("headend_paths", "Live paths, by state.");

/// Metrics of live paths.
pub(super) static PATH_FAMILIES: &[PathFamily] = &[
    PathFamily {
        name: "headend_source_up",
        help: "1 while a path has a source. Of each family with the label path the first 200 \
               paths are named, the rest is summed up as path=\"other\".",
        read: Read::Gauge(|path| path.sources),
    },
    PathFamily {
        name: "headend_source_starts_total",
        help: "Sources that began to send.",
        read: Read::Counter(|path| path.totals.source_starts),
    },
    PathFamily {
        name: "headend_path_readers",
        help: "Readers of a path.",
        read: Read::List(MetricType::GAUGE, TRANSPORT, |path, n| path.readers[n]),
    },
    PathFamily {
        name: "headend_rtp_packets_received_total",
        help: "RTP packets that were taken from sources.",
        read: Read::Counter(|path| path.totals.packets_received),
    },
    PathFamily {
        name: "headend_path_received_bytes_total",
        help: "RTP packets that were taken from sources, in bytes with their headers.",
        read: Read::Counter(|path| path.totals.bytes_received),
    },
    PathFamily {
        name: "headend_rtp_packets_relayed_total",
        help: "RTP packets that a path with fallbacks took from the path of its source, which \
               counts them as received.",
        read: Read::Counter(|path| path.totals.packets_relayed),
    },
    PathFamily {
        name: "headend_rtp_packets_dropped_total",
        help: "Packets of sources that were not taken.",
        read: Read::List(MetricType::COUNTER, DROP, |path, n| path.totals.packets_dropped[n]),
    },
    PathFamily {
        name: "headend_rtp_packets_lost_total",
        help: "RTP packets that did not come, by their sequence numbers.",
        read: Read::List(MetricType::COUNTER, FROM_SOURCES, |path, _| path.totals.packets_lost),
    },
    PathFamily {
        name: "headend_path_sent_packets_total",
        help: "RTP packets that went to readers.",
        read: Read::List(MetricType::COUNTER, TRANSPORT, |path, n| path.totals.packets_sent[n]),
    },
    PathFamily {
        name: "headend_path_sent_bytes_total",
        help: "RTP payload that went to readers, without headers.",
        read: Read::List(MetricType::COUNTER, TRANSPORT, |path, n| {
            path.totals.payload_bytes_sent[n]
        }),
    },
    PathFamily {
        name: "headend_path_reader_skips_total",
        help: "Skips of late readers to a newer sync sample.",
        read: Read::List(MetricType::COUNTER, SKIP, |path, n| path.totals.skips[n]),
    },
    PathFamily {
        name: "headend_path_skipped_packets_total",
        help: "RTP packets that late readers were not sent.",
        read: Read::Counter(|path| path.totals.packets_skipped),
    },
];

const TRANSPORT: Labels = Labels { names: &["path", "transport"], values: &Carrier::LABELS };
const DROP: Labels = Labels { names: &["path", "reason"], values: &DROPS };
const SKIP: Labels = Labels { names: &["path", "reason"], values: &SKIPS };
const FROM_SOURCES: Labels = Labels { names: &["path", "dir"], values: &["in"] };

/// Values of all metrics of live paths.
#[derive(Debug, Default)]
pub(super) struct PathSeries {
    /// What each shard has said last.
    shards: Vec<PathTallies>,
    /// Names that are shown, each with the losses that were: a packet that comes late takes back
    /// one that was counted as lost, which a counter must not do.
    named: BTreeMap<Arc<str>, u64>,
    other_lost: u64,
}

impl PathSeries {
    /// New tables, by shard; `None` of one that has not answered.
    pub(super) fn update(&mut self, tables: Vec<Option<PathTallies>>) {
        self.shards.resize_with(tables.len().max(self.shards.len()), PathTallies::default);
        for (known, table) in self.shards.iter_mut().zip(tables) {
            if let Some(table) = table {
                *known = table;
            }
        }
    }

    /// All families, in the order of their table.
    pub(super) fn families(&mut self) -> Vec<MetricFamily> {
        let (paths, other) = self.sums();
        let owners = |state: usize| self.shards.iter().map(|shard| shard.owners[state]).sum();
        let states = PATH_STATES
            .iter()
            .enumerate()
            .map(|(place, state)| sample(&["state"], &[state], MetricType::GAUGE, owners(place)));
        let states = family_of(PATHS.0, PATHS.1, MetricType::GAUGE, states.collect());
        let families = PATH_FAMILIES.iter().map(|family| {
            let paths = paths.iter().map(|(name, numbers)| (&**name, numbers));
            let paths = paths.chain([(OTHER, &other)]);
            let metrics = paths.flat_map(|(path, numbers)| family.read.samples(path, numbers));
            family_of(family.name, family.help, family.read.kind(), metrics.collect())
        });
        [states].into_iter().chain(families).collect()
    }

    /// Sums of all shards by name, and of all that is not named.
    fn sums(&mut self) -> (BTreeMap<Arc<str>, PathNumbers>, PathNumbers) {
        let (mut sums, mut other) = (BTreeMap::new(), PathNumbers::default());
        for shard in &self.shards {
            other.add(shard.other());
            for (name, numbers) in shard.named() {
                sums.entry(Arc::clone(name)).or_insert_with(PathNumbers::default).add(numbers);
            }
        }
        // A path may have this name, and its line can be there once only.
        other.add(&sums.remove(OTHER).unwrap_or_default());
        sums.retain(|name, numbers| {
            let is_named = self.named.contains_key(name) || self.named.len() < PATHS_NAMED_MAX;
            if is_named {
                let lost = self.named.entry(Arc::clone(name)).or_default();
                *lost = numbers.totals.packets_lost.max(*lost);
                numbers.totals.packets_lost = *lost;
            } else {
                other.add(numbers);
            }
            is_named
        });
        self.other_lost = other.totals.packets_lost.max(self.other_lost);
        other.totals.packets_lost = self.other_lost;
        (sums, other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(n: u16) -> Arc<str> {
        format!("live/{n}").into()
    }

    proptest! {
        /// Shards name and count paths, more of them than may be named, and answer scrapes or not.
        #[test]
        fn no_sum_goes_back_whatever_shards_count_and_whoever_answers(
            scrapes in prop::collection::vec(
                (prop::collection::vec((0_usize..3, 0_u16..300, 1_u64..9), 0..150), 0_u8..8), 1..12),
        ) {
            let mut shards = vec![PathTallies::default(); 3];
            let mut series = PathSeries::default();
            let (mut before, mut other_before) = (BTreeMap::new(), 0);
            let mut counted = 0;
            for (counts, answering) in scrapes {
                for (shard, path, count) in counts {
                    shards[shard].enter(&name(path));
                    shards[shard].numbers_mut(&name(path)).totals.packets_received += count;
                    counted += count;
                }
                let table = |(place, table): (usize, &PathTallies)| {
                    (answering & 1 << place != 0).then(|| table.clone())
                };
                series.update(shards.iter().enumerate().map(table).collect());
                let (sums, other) = series.sums();
                prop_assert!(sums.len() <= PATHS_NAMED_MAX);
                let sums: BTreeMap<Arc<str>, u64> =
                    sums.into_iter().map(|(n, sum)| (n, sum.totals.packets_received)).collect();
                for (path, count) in &before {
                    prop_assert!(sums.get(path).is_some_and(|now| now >= count), "{path}");
                }
                prop_assert!(other.totals.packets_received >= other_before);
                (before, other_before) = (sums, other.totals.packets_received);
            }
            series.update(shards.into_iter().map(Some).collect());
            let (sums, other) = series.sums();
            let named: u64 = sums.values().map(|sum| sum.totals.packets_received).sum();
            prop_assert_eq!(named + other.totals.packets_received, counted);
        }
    }
}
