//! The list of all limits of a running server, for metrics, API and command line.
//!
//! Each row is a place where strangers can make the server grow; README has the same rows with what
//! becomes of one too many. A limit that is not in this list is a fixed one of a format
//! (`base::limits`).

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use super::limits::{OfAddresses, Titles, of_addresses};
use crate::base::addresses::Addresses;
use crate::config::Config;
use crate::http::FEEDS_MAX;
use crate::metrics::cells::{ADMIN, HLS, LIVE, LOG};
use crate::metrics::descriptors::open_descriptors;
use crate::metrics::limits::{Limit, Used};

/// Puts the limits in force that the process shares: what addresses may have, and the list of all.
/// `config` is fitted into what the machine gives.
pub(super) fn begin(
    config: &Config,
    titles: Titles,
    shard_count: usize,
    task_classes: usize,
) -> (OfAddresses, Arc<[Limit]>) {
    LIVE.bytes_max.set(config.limits.live_bytes_max as u64);
    let shared = of_addresses(config, shard_count);
    let list = list(config, titles, &shared, task_classes);
    (shared, list.into())
}

fn list(config: &Config, titles: Titles, shared: &OfAddresses, task_classes: usize) -> Vec<Limit> {
    let mut list = of_shards(config);
    list.extend(of_address(
        "rtsp.connections_per_address_max",
        ["connections_per_address", "connections_per_local_address"],
        &shared.connections,
    ));
    list.extend(of_address(
        "rtsp.sessions_per_address_max",
        ["sessions_per_address", "sessions_per_local_address"],
        &shared.sessions,
    ));
    list.extend(of_process(config, titles, task_classes));
    list
}

fn row(what: &'static str, key: &'static str, max: usize, used: Used) -> Limit {
    Limit { what, key, max: max as u64, used }
}

fn of_shards(config: &Config) -> Vec<Limit> {
    let limits = &config.limits;
    let pollers = config.poll_entries_max;
    vec![
        row(
            "table_entries",
            "server.poll_entries_max",
            pollers,
            Used::Shard(|s| s.poll_entries.value()),
        ),
        row(
            "half_open_connections",
            "limits.half_open_max",
            limits.half_open_max,
            Used::Shard(|s| s.half_open.value()),
        ),
        row(
            "request_head_bytes",
            "limits.request_head",
            limits.head_bytes_max,
            Used::Shard(|s| s.head_bytes_seen.value()),
        ),
        row(
            "request_body_bytes",
            "limits.request_body",
            limits.body_bytes_max,
            Used::Shard(|s| s.body_bytes_seen.value()),
        ),
        row(
            "requests_held_bytes",
            "limits.requests_held",
            limits.held_bytes_max,
            Used::Shard(|s| s.request_bytes_held.value()),
        ),
        row(
            "tls_handshakes",
            "limits.tls_handshakes_max",
            limits.handshakes_max,
            Used::Shard(|s| s.tls_handshakes_open.value()),
        ),
        row(
            "tunnels",
            "rtsp.http.tunnels_max",
            config.http.tunnels_max,
            Used::Shard(|s| s.tunnels.value()),
        ),
        row(
            "half_open_tunnels",
            "limits.half_open_tunnels_max",
            limits.half_open_tunnels_max,
            Used::Shard(|s| s.tunnels_half_open.value()),
        ),
        row(
            "sessions",
            "rtsp.sessions_max",
            config.sessions_max,
            Used::Shard(|s| s.sessions_counted.value()),
        ),
        row(
            "publishers",
            "limits.publishers_max",
            limits.publishers_max,
            Used::Shard(|s| s.publishers.value()),
        ),
    ]
}

/// What the address with most has, of other hosts and of this one.
fn of_address(
    key: &'static str,
    [remote, local]: [&'static str; 2],
    addresses: &Arc<Addresses>,
) -> [Limit; 2] {
    let limit = addresses.limit();
    let of = |what, max, is_local| {
        let addresses = Arc::clone(addresses);
        let used = Used::Process(Box::new(move || addresses.most(is_local)));
        Limit { what, key, max: u64::from(max), used }
    };
    [of(remote, limit.remote, false), of(local, limit.local, true)]
}

fn of_process(config: &Config, titles: Titles, task_classes: usize) -> Vec<Limit> {
    let limits = &config.limits;
    let process = |read: fn() -> u64| Used::Process(Box::new(read));
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    vec![
        row(
            "tasks_queued",
            "server.task_queue_max",
            config.task_queue_max * task_classes,
            Used::Workers(|w| w.queue_depth.value()),
        ),
        row(
            "window_bytes",
            "vod.window_cache",
            config.window_cache_bytes,
            Used::Workers(|w| w.windows_cached_bytes.value()),
        ),
        row(
            "titles_open",
            "limits.titles_open_max",
            titles.open_max,
            Used::Workers(|w| w.titles_open.value()),
        ),
        row(
            "live_bytes",
            "limits.live_memory",
            limits.live_bytes_max,
            process(|| LIVE.bytes.value()),
        ),
        Limit {
            what: "descriptors",
            key: "",
            max: descriptors,
            used: process(|| open_descriptors().unwrap_or(0)),
        },
        row(
            "log_lines_a_second",
            "limits.log_lines_max",
            limits.log_lines_max,
            process(|| LOG.lines_in_a_second.value()),
        ),
        row(
            "admin_connections",
            "limits.admin_connections_max",
            limits.admin_connections_max,
            process(|| ADMIN.connections.value()),
        ),
        row("dashboard_feeds", "", FEEDS_MAX, process(|| ADMIN.feeds.value())),
        row(
            "hls_connections",
            "hls.connections_max",
            config.hls.connections_max,
            process(|| HLS.http.connections.value()),
        ),
        row(
            "hls_live_paths",
            "hls.paths_max",
            config.hls.paths_max,
            process(|| HLS.live_paths.value()),
        ),
        row(
            "hls_live_bytes",
            "hls.path_memory",
            config.hls.path_bytes_max.saturating_mul(config.hls.paths_max),
            process(|| HLS.live_bytes.value()),
        ),
    ]
}
