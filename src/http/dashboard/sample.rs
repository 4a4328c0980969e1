//! Numbers of the process in one second, from the cells that shards keep anyway.
//!
//! ```text
//! cells, /proc --> Reading          Reading - Reading before --> Sample: rates, percentiles
//! ```
//! Plain code but for [`Reading::take`]. Rates are over the time that really passed.

use std::time::Duration;

use serde::Serialize;

use crate::metrics::cells::{Counter, HLS, ShardCells};
use crate::metrics::exposition::CellSet;
use crate::metrics::histogram::HistogramValue;
use crate::metrics::process::{Usage, as_f64, usage};
use crate::metrics::whep::WHEP;

/// Counters at one moment, summed over shards where they are not of one.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// By UDP and TCP.
    packets_sent: [u64; 2],
    /// By UDP and TCP.
    payload_bytes_sent: [u64; 2],
    packets_received: u64,
    bytes_received: u64,
    packets_dropped: u64,
    packets_again: u64,
    lateness: HistogramValue,
    reported_loss: HistogramValue,
    gauges: Gauges,
    usage: Usage,
    shards: usize,
}

/// How many there are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
struct Gauges {
    /// Sessions of all kinds.
    sessions: u64,
    /// Sessions that play.
    playing: u64,
    /// Publishers that have announced a path.
    publishers: u64,
    /// RTSP connections.
    connections: u64,
    /// Viewers by WebRTC.
    webrtc: u64,
    /// Clients of HLS, as they are told apart.
    hls: u64,
}

/// What a page is told of one second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Sample {
    /// UTC milliseconds.
    at_ms: i64,
    #[serde(flatten)]
    gauges: Gauges,
    /// RTP packets a second, by UDP and TCP.
    packets_out: [f64; 2],
    /// Bits of RTP payload a second, by UDP and TCP.
    bits_out: [f64; 2],
    /// RTP packets a second from sources of live paths.
    packets_in: f64,
    /// Their bits.
    bits_in: f64,
    /// Of these, packets a second that were not taken.
    dropped_in: f64,
    /// Packets a second sent again.
    again: f64,
    /// p50, p99 and p99.9 of the lateness of sends in milliseconds; absent while nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    late_ms: Option<[f64; 3]>,
    /// Mean and p99 of the loss that players reported, in percent; absent without a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_percent: Option<[f64; 2]>,
    /// CPU of the thread of each shard, in percent of a core.
    cpu: Vec<f64>,
    /// CPU of the process, in percent of a core.
    cpu_process: f64,
    /// Resident memory in MiB.
    memory_mib: f64,
}

impl Reading {
    /// Reads cells and what the kernel knows of the process.
    pub(super) fn take(cells: &CellSet) -> Self {
        Self::of(cells, usage())
    }

    fn of(CellSet { shards, .. }: &CellSet, usage: Usage) -> Self {
        let sum = |read: fn(&ShardCells) -> u64| shards.iter().map(|cells| read(cells)).sum();
        let both = |read: fn(&ShardCells) -> &[Counter; 2]| {
            [0, 1].map(|lower| shards.iter().map(|cells| read(cells)[lower].value()).sum())
        };
        let histogram = |read: fn(&ShardCells) -> HistogramValue| {
            let all = shards.iter().map(|cells| read(cells)).reduce(|mut sum, more| {
                sum.merge(&more);
                sum
            });
            all.unwrap_or_else(|| read(&ShardCells::default()))
        };
        Self {
            packets_sent: both(|cells| &cells.rtp_packets_sent),
            payload_bytes_sent: both(|cells| &cells.rtp_payload_bytes_sent),
            packets_received: sum(|cells| cells.source_packets_received.value()),
            bytes_received: sum(|cells| cells.source_bytes_received.value()),
            packets_dropped: sum(|cells| cells.source_packets_dropped.value()),
            packets_again: sum(|cells| cells.rtx_packets_sent.value()),
            lateness: histogram(|cells| cells.send_lateness.read()),
            reported_loss: histogram(|cells| cells.reported_loss_ratio.read()),
            gauges: Gauges {
                sessions: sum(|cells| cells.sessions_counted.value()),
                playing: sum(|cells| cells.sessions[1].value()),
                publishers: sum(|cells| cells.publishers.value()),
                connections: sum(|cells| cells.connections.value()),
                webrtc: WHEP.viewers.value(),
                hls: HLS.viewers.value(),
            },
            usage,
            shards: shards.len(),
        }
    }

    /// What happened since `before`, which was read `passed` ago.
    pub(super) fn since(&self, before: &Self, passed: Duration, at_ms: i64) -> Sample {
        let seconds = passed.as_secs_f64().max(1e-3);
        let rate = |now: u64, before: u64| rounded(as_f64(now.wrapping_sub(before)) / seconds);
        let percent = |now: f64, before: f64| rounded((now - before).max(0.0) / seconds * 100.0);
        let both = |now: &[u64; 2], before: &[u64; 2], times: f64| {
            [0, 1].map(|lower| rounded(rate(now[lower], before[lower]) * times))
        };
        let late = self.lateness.since(&before.lateness);
        let late = [0.5, 0.99, 0.999].map(|part| late.quantile(part).map(|s| rounded(s * 1e3)));
        let lost = self.reported_loss.since(&before.reported_loss);
        let lost = [lost.mean(), lost.quantile(0.99)].map(|part| part.map(|p| rounded(p * 100.0)));
        let of_shard = |usage: &Usage, shard: usize| {
            // Shards' threads have these names.
            usage.threads_s.get(&format!("shard-{shard}")).copied().unwrap_or_default()
        };
        let (used, used_before) = (&self.usage, &before.usage);
        Sample {
            at_ms,
            gauges: self.gauges,
            packets_out: both(&self.packets_sent, &before.packets_sent, 1.0),
            bits_out: both(&self.payload_bytes_sent, &before.payload_bytes_sent, 8.0),
            packets_in: rate(self.packets_received, before.packets_received),
            bits_in: rounded(rate(self.bytes_received, before.bytes_received) * 8.0),
            dropped_in: rate(self.packets_dropped, before.packets_dropped),
            again: rate(self.packets_again, before.packets_again),
            late_ms: all(late),
            lost_percent: all(lost),
            cpu: (0..self.shards)
                .map(|shard| percent(of_shard(used, shard), of_shard(used_before, shard)))
                .collect(),
            cpu_process: percent(used.cpu_s, used_before.cpu_s),
            memory_mib: rounded(used.resident_bytes / f64::from(1 << 20)),
        }
    }
}

fn all<const N: usize>(values: [Option<f64>; N]) -> Option<[f64; N]> {
    values.iter().all(Option::is_some).then(|| values.map(Option::unwrap_or_default))
}

/// Three digits behind the point: a sample of a thousand is read by people.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;

    fn cells(shards: &[Arc<ShardCells>]) -> CellSet {
        let (workers, limits) = (Arc::default(), Arc::from([]));
        CellSet { shards: shards.to_vec(), workers, ready: true, limits }
    }

    fn used(seconds: f64) -> Usage {
        let threads_s = HashMap::from([("shard-0".to_owned(), seconds)]);
        Usage { cpu_s: seconds * 2.0, resident_bytes: 1_048_576.0, threads_s }
    }

    #[test]
    fn sample_has_the_rates_and_percentiles_of_its_own_second() {
        let shards = [Arc::<ShardCells>::default(), Arc::default()];
        shards[0].rtp_packets_sent[0].add(1_000);
        shards[0].send_lateness.observe_ns(900_000_000);
        let before = Reading::of(&cells(&shards), used(1.0));
        shards[0].rtp_packets_sent[0].add(10);
        shards[1].rtp_packets_sent[1].add(20);
        shards[1].rtp_payload_bytes_sent[1].add(1_000);
        shards[1].sessions_counted.set(3);
        (0..100).for_each(|_| shards[1].send_lateness.observe_ns(1_500_000));
        shards[0].reported_loss_ratio.observe_fraction(0);
        let now = Reading::of(&cells(&shards), used(1.5));
        let sample = now.since(&before, Duration::from_secs(2), 7);
        assert_eq!((sample.packets_out, sample.bits_out), ([5.0, 10.0], [0.0, 4_000.0]));
        assert_eq!((sample.cpu, sample.cpu_process), (vec![25.0, 0.0], 50.0));
        assert_eq!((sample.gauges.sessions, sample.memory_mib, sample.at_ms), (3, 1.0, 7));
        let late = sample.late_ms.unwrap();
        assert!(late.iter().all(|ms| (1.0..=2.0).contains(ms)), "{late:?}");
        assert_eq!(sample.lost_percent, Some([0.0, 0.0]));
    }

    #[test]
    fn second_without_a_packet_has_no_lateness_and_counters_that_wrap_no_negative_rate() {
        let shards = [Arc::<ShardCells>::default()];
        shards[0].rtp_packets_sent[0].add(u64::MAX);
        let before = Reading::of(&cells(&shards), used(1.0));
        shards[0].rtp_packets_sent[0].add(2);
        let sample =
            Reading::of(&cells(&shards), used(0.5)).since(&before, Duration::from_secs(1), 0);
        assert_eq!((sample.packets_out[0], sample.late_ms, sample.lost_percent), (2.0, None, None));
        assert_eq!(sample.cpu, [0.0]);
        let text = serde_json::to_value(&sample).unwrap();
        assert!(text.get("late_ms").is_none() && text["sessions"] == 0, "{text}");
    }
}
