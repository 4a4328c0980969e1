//! The list of all limits of a running server, for metrics, API and command line.
//!
//! Each row is a place where strangers can make the server grow; README has the same rows with what
//! becomes of one too many. A limit that is not in this list is a fixed one of a format
//! (`base::limits`).

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use super::limits::{OfAddresses, Titles, of_addresses};
use crate::base::addresses::{Addresses, Whose};
use crate::config::Config;
use crate::config::limits::LimitsConfig;
use crate::http::feeds_max;
use crate::metrics::cells::{ADMIN, HLS, LIVE, LOG};
use crate::metrics::descriptors::open_descriptors;
use crate::metrics::limits::{Limit, Used};
use crate::metrics::whep::WHEP;
use crate::poll::task::TaskClass;
use crate::session::shares::{HELD_PIECE_BYTES, Shares};
use crate::worker::TaskQueue;

/// Puts the limits in force that the process shares: what addresses may have, and the list of all.
/// `config` is fitted into what the machine gives.
pub(super) fn begin(
    config: &Config,
    titles: Titles,
    shard_count: usize,
    queue: &Arc<TaskQueue>,
) -> (OfAddresses, Arc<[Limit]>) {
    LIVE.bytes_max.set(config.limits.live_bytes_max as u64);
    let shared = of_addresses(config, shard_count);
    let list = list(config, titles, &shared, queue);
    (shared, list.into())
}

fn list(
    config: &Config,
    titles: Titles,
    shared: &OfAddresses,
    queue: &Arc<TaskQueue>,
) -> Vec<Limit> {
    let mut list = of_shards(config);
    list.extend(of_shares(&shared.shares));
    list.extend(of_address(
        "rtsp.connections_per_address_max",
        ["connections_per_address", "connections_per_local_address", "connections_per_site"],
        &shared.connections,
    ));
    list.extend(of_address(
        "rtsp.sessions_per_address_max",
        ["sessions_per_address", "sessions_per_local_address", "sessions_per_site"],
        &shared.sessions,
    ));
    list.extend(of_tasks(config.task_queue_max, queue));
    list.extend(of_process(config, titles));
    list.extend(of_http(&config.limits, shared));
    list.extend(of_browsers(config, shared));
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
            "request_ms",
            "limits.request_timeout",
            usize::try_from(limits.request_timeout.as_millis()).unwrap_or(usize::MAX),
            Used::Shard(|s| s.request_ms_seen.value()),
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

/// Counts of one kind.
type OfShares = fn(&Shares) -> &Arc<Addresses>;

/// For each shard: the most that one address of another host has. An address may have a quarter of
/// what the key says, and `addresses::SHARE_MIN` at least.
fn of_shares(shares: &Arc<[Arc<Shares>]>) -> Vec<Limit> {
    let held = HELD_PIECE_BYTES as u64;
    let all: [([&'static str; 2], OfShares, u64); 6] = [
        (["half_open_per_address", "limits.half_open_max"], |of| &of.half_open, 1),
        (["requests_held_per_address", "limits.requests_held"], |of| &of.held, held),
        (["tls_handshakes_per_address", "limits.tls_handshakes_max"], |of| &of.handshakes, 1),
        (["tunnels_per_address", "rtsp.http.tunnels_max"], |of| &of.tunnels, 1),
        (
            ["half_open_tunnels_per_address", "limits.half_open_tunnels_max"],
            |of| &of.half_open_tunnels,
            1,
        ),
        (["publishers_per_address", "limits.publishers_max"], |of| &of.publishers, 1),
    ];
    let of = |([what, key], addresses, unit): ([_; 2], OfShares, u64)| {
        let max = shares.first().map_or(0, |first| addresses(first).limit().remote);
        let shares = Arc::clone(shares);
        let most = move |shard: usize| {
            shares.get(shard).map_or(0, |own| addresses(own).most(Whose::Remote) * unit)
        };
        Limit { what, key, max: u64::from(max) * unit, used: Used::Each(Box::new(most)) }
    };
    all.map(of).into()
}

/// What the one has that has most: the address of another host, of this one, an IPv6 /48.
fn of_address(
    key: &'static str,
    [remote, local, site]: [&'static str; 3],
    addresses: &Arc<Addresses>,
) -> [Limit; 3] {
    let limit = addresses.limit();
    let of = |(what, max, whose)| {
        let addresses = Arc::clone(addresses);
        let used = Used::Process(Box::new(move || addresses.most(whose)));
        Limit { what, key, max: u64::from(max), used }
    };
    [
        (remote, limit.remote, Whose::Remote),
        (local, limit.local, Whose::Local),
        (site, limit.site, Whose::Site),
    ]
    .map(of)
}

fn of_process(config: &Config, titles: Titles) -> Vec<Limit> {
    let limits = &config.limits;
    let process = |read: fn() -> u64| Used::Process(Box::new(read));
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    vec![
        row(
            "window_bytes",
            "vod.window_cache",
            config.window_cache_bytes,
            Used::Workers(|w| w.windows_cached_bytes.value()),
        ),
        row(
            "image_bytes",
            "vod.image_memory",
            config.image_memory.bytes(super::memory_of_machine()),
            Used::Workers(|w| w.images_bytes.value()),
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
    ]
}

/// Each class of tasks has a queue of its own: a full one refuses, whatever the others have.
fn of_tasks(max: usize, queue: &Arc<TaskQueue>) -> [Limit; 3] {
    [
        ("tasks_queued_control", TaskClass::Control),
        ("tasks_queued_prefetch", TaskClass::Prefetch),
        ("tasks_queued_bulk", TaskClass::Bulk),
    ]
    .map(|(what, class)| {
        let queue = Arc::clone(queue);
        let used = Used::Process(Box::new(move || queue.len_of(class) as u64));
        row(what, "server.task_queue_max", max, used)
    })
}

/// Connections to the HTTP API, and to a node's port for contents.
fn of_http(limits: &LimitsConfig, shared: &OfAddresses) -> Vec<Limit> {
    let all = |addresses: &Arc<Addresses>| {
        let addresses = Arc::clone(addresses);
        Used::Process(Box::new(move || addresses.counted()))
    };
    vec![
        row(
            "admin_connections",
            "limits.admin_connections_max",
            limits.admin_connections_max,
            Used::Process(Box::new(|| ADMIN.http.connections.value())),
        ),
        row(
            "admin_connections_per_address",
            "limits.admin_connections_per_address_max",
            limits.admin_connections_per_address_max,
            most_of(&shared.admin.connections),
        ),
        row(
            "peer_connections",
            "limits.peer_connections_max",
            limits.peer_connections_max,
            all(&shared.peers.connections),
        ),
        row(
            "peer_connections_per_address",
            "limits.peer_connections_per_address_max",
            limits.peer_connections_per_address_max,
            most_of(&shared.peers.connections),
        ),
        row(
            "peer_handshakes",
            "limits.peer_handshakes_max",
            limits.peer_handshakes_max,
            all(&shared.peers.handshakes),
        ),
    ]
}

/// What browsers are shown: feeds of the page for operators, HLS and WebRTC.
fn of_browsers(config: &Config, shared: &OfAddresses) -> Vec<Limit> {
    let process = |read: fn() -> u64| Used::Process(Box::new(read));
    vec![
        row(
            "dashboard_feeds",
            "limits.admin_connections_max",
            feeds_max(config.limits.admin_connections_max),
            process(|| ADMIN.feeds.value()),
        ),
        row(
            "hls_connections_per_address",
            "hls.connections_per_address_max",
            usize::try_from(shared.hls.connections.limit().remote).unwrap_or(usize::MAX),
            most_of(&shared.hls.connections),
        ),
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
        row(
            "webrtc_viewers",
            "webrtc.viewers_max",
            config.webrtc.viewers_max,
            process(|| WHEP.viewers.value()),
        ),
        row(
            "webrtc_viewers_per_address",
            "webrtc.viewers_per_address_max",
            usize::try_from(shared.viewers.limit().remote).unwrap_or(usize::MAX),
            most_of(&shared.viewers),
        ),
    ]
}

/// What the address of another host has that has most.
fn most_of(addresses: &Arc<Addresses>) -> Used {
    let addresses = Arc::clone(addresses);
    Used::Process(Box::new(move || addresses.most(Whose::Remote)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;
    use crate::poll::task::{Task, TaskOwner, Work};

    /// Three queues were one row once, which showed a third when one of them was full.
    #[test]
    fn queue_of_one_class_that_is_full_is_shown_as_full() {
        let queue = Arc::new(TaskQueue::new(16, 0).unwrap());
        let task = || Task {
            shard: ShardId(0),
            owner: TaskOwner::Image,
            class: TaskClass::Control,
            work: Work::Open { name: None },
        };
        while queue.submit(task()).is_ok() {}
        let used = of_tasks(16, &queue).map(|limit| match limit.used {
            Used::Process(read) => (limit.what, read(), limit.max),
            other => panic!("{other:?}"),
        });
        assert_eq!(used[0], ("tasks_queued_control", 16, 16));
        assert!(used[1..].iter().all(|(_, used, _)| *used == 0));
    }
}
