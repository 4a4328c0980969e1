//! The tables of keys: those of the whole server, and those of each section of `[path]`.
//!
//! What [`KEYS`] say counts from the next start on; what [`PATH_KEYS`] say is taken over when the
//! file is read again. Both are in the order of `config default`. A row is made by `key!`.

use std::time::Duration;

use super::Config;
use super::key::{Key, key};
use super::path_scope::PathsOf;
use super::paths::PathConfig;

/// All keys but those of paths.
pub static KEYS: &[Key<Config>] = &[
    key!("server.shards", shards = cpus() => text,
        "CPUs that serve players: auto, a count (1-255), or CPUs like 0-3,8 or cpu:1"),
    key!("server.workers", workers = cpus() => text,
        "CPUs that read files: auto, a count (1-255), or CPUs like 0-3,8 or cpu:1"),
    key!("server.shard_priority", shard_priority = shard_priority() => text,
        "normal, or fifo:N (1-98, fifo alone is 10): shards before all normal threads"),
    key!("server.poll_entries_max", poll_entries_max = count(64, 1 << 20) => plain,
        "connections, sockets and streams that one shard can hold, 64 to 1048576"),
    key!("server.task_queue_max", task_queue_max = count(16, 1 << 20) => plain,
        "tasks that may wait for a worker, 16 to 1048576"),
    key!("server.log", log = log_format() => log_format,
        "form of the log: auto (text on a terminal, json otherwise), text, json"),
    key!("server.state_dir", state_dir = folder() => folder,
        "folder that keeps edits of playlists; without one they end with the server"),
    key!("server.gso", gso = mode() => mode,
        "UDP segmentation offload: auto (until a route refuses it), on, off"),
    key!("server.zerocopy", zerocopy = mode() => mode,
        "sends without a copy: auto (where it pays and works), on, off"),
    key!("rtsp.listen", listen = addresses() => list,
        "addresses of RTSP listeners, 1 to 64; [::] takes IPv4 as well; port 0 = any free"),
    key!("rtsp.session_timeout", session_timeout = duration(SECOND, HOUR) => duration,
        "a session whose client was silent for so long is ended, 1s to 1h"),
    key!("rtsp.sessions_max", sessions_max = count(1, 1 << 20) => plain,
        "sessions that one shard can hold, 1 to 1048576"),
    key!("rtsp.sessions_per_address_max",
        sessions_per_address_max = count_or_auto() => count_or_auto,
        "sessions of one IPv4 address or IPv6 /64: auto (a quarter of all), 1 to 1048576"),
    key!("rtsp.connections_per_address_max",
        connections_per_address_max = count_or_auto() => count_or_auto,
        "RTSP connections of one IPv4 address or IPv6 /64: auto (a quarter of all), or count"),
    key!("rtsp.retransmission", retransmits = auto_or_off() => auto_or_off,
        "packets that UDP players lost: auto (sent again when asked by RTP/AVPF), off"),
    key!("rtsp.udp.rtp", rtp_port = rtp_port() => plain,
        "UDP port of RTP, even; RTCP takes the next; two more for each shard; 0 = any free"),
    key!("rtsp.multicast.range", multicast.range = group_range() => group_range,
        "groups that live paths are sent to, one each, when a player asks for it; off = none"),
    key!("rtsp.multicast.rtp", multicast.rtp_port = group_port() => plain,
        "RTP port of a group's first track, even; RTCP is the next one, two more each track"),
    key!("rtsp.multicast.ttl", multicast.ttl = ttl() => plain,
        "routers that packets to groups may pass, 1 to 255"),
    key!("rtsp.multicast.interface", multicast.interface = interface() => interface,
        "an IPv4 address of the interface that groups are reached by; auto = by the routes"),
    key!("vod.root", media_root = folder() => folder,
        "folder that is served under /vod; without one the built-in clip is"),
    key!("vod.lag_budget", lag_budget = duration(Duration::ZERO, HOUR) => duration,
        "over TCP: skip to a sync sample when so late, up to 1h; 0s = never, lose nothing"),
    key!("vod.window_cache", window_cache_bytes = size(1 << 20, 1 << 40) => size,
        "memory for packet windows, 1MiB to 1024GiB"),
    key!("vod.quality", adapts_quality = auto_or_off() => auto_or_off,
        "pictures for players whose way loses packets: auto (thinned), off (always full)"),
    key!("admin.listen", admin = address() => text,
        "address of the HTTP API and of /metrics; port 0 = any free"),
    key!("metrics.listen", admin = address() => text, same_as "admin.listen",
        "the same as admin.listen: there is one port"),
];

/// All keys of a path.
pub static PATH_KEYS: &[Key<PathConfig>] = &[
    key!("source", source = source() => text,
        "publish, rtsp://USER:PASSWORD@HOST/.., udp://ADDRESS:PORT, file:NAME.sdp, vod/TITLE"),
    key!("source_transport", source_transport = source_transport() => transport, of Rtsp,
        "how an rtsp:// source sends: auto (UDP, else TCP), udp, tcp"),
    key!("on_demand", on_demand = boolean() => plain, of Fetched,
        "true: a source is fetched when a player wants it; false: always"),
    key!("idle_close", idle_close = duration(SECOND, DAY) => duration, of OnDemand,
        "a source on demand is closed so long after its last player, 1s to 24h"),
    key!("source_timeout", source_timeout = duration_or_auto(HALF_SECOND, DAY) => duration_or_auto,
        "a source silent for so long is gone, 500ms to 24h; auto: 10s, open TCP counts"),
    key!("fallback", fallback = fallbacks() => list, of Named,
        "up to 8 sources that take over from it, best first: as above, or live paths"),
    key!("standby", standby = boolean() => plain, of Fallback,
        "true: the next source is kept connected, so that it takes over at once"),
    key!("return_after", return_after = duration(Duration::ZERO, TEN_MINUTES) => duration, of Fallback,
        "a better source takes over when it has been good for so long, up to 10m"),
    key!("switch_interval", switch_interval = duration(TENTH, TEN_MINUTES) => duration, of Fallback,
        "least time between two changes of the source, 100ms to 10m"),
    key!("playlist", playlist = playlist() => playlist, of Playlist,
        "titles that play in order: names, { title = .., at = \"20:15:00\" }; no `source`"),
    key!("playlist_loop", playlist_loops = boolean() => plain, of Listed,
        "true: the list begins again behind its last title; false: it plays once"),
    key!("playlist_clock", playlist_clock = playlist_clock() => playlist_clock, of Listed,
        "whose time `at` is: local (the time zone of this host), utc"),
    key!("slate", slate = title() => title, of Listed,
        "title that is shown while no title of the list can play"),
    key!("lineup", lineup = lineup() => lineup, of Channels,
        "channels of a session: { 101 = \"live/news\", 201 = \"vod/film.mp4\" }, 1 to 999"),
    key!("lineup_digit_timeout", lineup_digit_timeout = duration(TENTH, TEN_SECONDS) => duration, of Lineup,
        "a number is complete so long after its last digit, or with the third, 100ms to 10s"),
    key!("hold", hold = duration(Duration::ZERO, HOUR) => duration,
        "players wait so long for a source that has gone, up to 1h"),
    key!("publish", publish = publish_list() => publishers, of Published,
        "who may publish: loopback, private, any, networks, addresses; [] is nobody"),
    key!("override", may_override = boolean() => plain, of Published,
        "true: a second publisher takes the path from the first; false: it is refused"),
    key!("start", start = start() => start,
        "where players begin: gop (newest key frame, at once), live (the next one)"),
    key!("lag_budget", lag_budget = duration(TENTH, MINUTE) => duration,
        "a player so late skips to the newest key frame, 100ms to 1m"),
    key!("buffer", ring_bytes = size(1 << 20, 4 << 30) => size,
        "memory for the newest pictures and late players, once a shard, 1MiB to 4GiB"),
    key!("readers_max", readers_max = count(1, 1 << 20) => plain,
        "players of the path on one shard, 1 to 1048576"),
    key!("quality", adapts_quality = auto_off_or_unset() => auto_off_or_unset, of Title,
        "of a title such as \"vod/a.mp4\": auto or off instead of what vod.quality says"),
];

const TENTH: Duration = Duration::from_millis(100);
const HALF_SECOND: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);
const TEN_SECONDS: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
