//! The table of keys: name, help, how the value is written and how it is shown.

use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use super::multicast::MulticastConfig;
use super::priority::ShardPriority;
use super::value::{Setting, ValueError, show_duration, show_size};

/// One key of the configuration.
pub struct Key {
    /// With dots: `rtsp.listen`. The part before the first dot is the TOML section.
    pub name: &'static str,
    /// What it is, with unit and range, for `config default`.
    pub help: &'static str,
    /// Another key that means the same and is the one shown.
    pub same_as: Option<&'static str>,
    /// Puts a value into the configuration.
    pub(super) write: fn(&mut Config, &Setting) -> Result<(), ValueError>,
    /// The value as TOML; `None` when it is not set.
    pub show: fn(&Config) -> Option<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All keys, in the order of `config default`.
pub static KEYS: &[Key] = &[
    Key {
        name: "server.shards",
        help: "CPUs that serve players: auto, a count (1-255), or CPUs like 0-3,8 or cpu:1",
        same_as: None,
        write: |config, value| value.cpus().map(|cpus| config.shards = cpus),
        show: |config| Some(quoted(&config.shards.to_string())),
    },
    Key {
        name: "server.workers",
        help: "CPUs that read files: auto, a count (1-255), or CPUs like 0-3,8 or cpu:1",
        same_as: None,
        write: |config, value| value.cpus().map(|cpus| config.workers = cpus),
        show: |config| Some(quoted(&config.workers.to_string())),
    },
    Key {
        name: "server.shard_priority",
        help: "normal, or fifo:N (1-98, fifo alone is 10): shards before all normal threads",
        same_as: None,
        write: |config, value| {
            ShardPriority::parse(&value.text()?).map(|priority| config.shard_priority = priority)
        },
        show: |config| Some(quoted(&config.shard_priority.to_string())),
    },
    Key {
        name: "server.poll_entries_max",
        help: "connections, sockets and streams that one shard can hold, 64 to 1048576",
        same_as: None,
        write: |config, value| {
            let number = value.number(64, 1 << 20)?;
            to_usize(number).map(|number| config.poll_entries_max = number)
        },
        show: |config| Some(config.poll_entries_max.to_string()),
    },
    Key {
        name: "server.task_queue_max",
        help: "tasks that may wait for a worker, 16 to 1048576",
        same_as: None,
        write: |config, value| {
            let number = value.number(16, 1 << 20)?;
            to_usize(number).map(|number| config.task_queue_max = number)
        },
        show: |config| Some(config.task_queue_max.to_string()),
    },
    Key {
        name: "server.log",
        help: "form of the log: auto (text on a terminal, json otherwise), text, json",
        same_as: None,
        write: |config, value| value.log_format().map(|format| config.log = format),
        show: |config| Some(quoted(config.log.as_str())),
    },
    Key {
        name: "server.gso",
        help: "UDP segmentation offload: auto (until a route refuses it), on, off",
        same_as: None,
        write: |config, value| value.mode().map(|mode| config.gso = mode),
        show: |config| Some(quoted(config.gso.as_str())),
    },
    Key {
        name: "server.zerocopy",
        help: "sends without a copy: auto (where it pays and works), on, off",
        same_as: None,
        write: |config, value| value.mode().map(|mode| config.zerocopy = mode),
        show: |config| Some(quoted(config.zerocopy.as_str())),
    },
    Key {
        name: "rtsp.listen",
        help: "addresses of RTSP listeners, 1 to 64; [::] takes IPv4 as well; port 0 = any free",
        same_as: None,
        write: |config, value| value.addresses().map(|addresses| config.listen = addresses),
        show: |config| {
            let listen: Vec<_> = config.listen.iter().map(|a| quoted(&a.to_string())).collect();
            Some(format!("[{}]", listen.join(", ")))
        },
    },
    Key {
        name: "rtsp.session_timeout",
        help: "a session whose client was silent for so long is ended, 1s to 1h",
        same_as: None,
        write: |config, value| {
            let range = (Duration::from_secs(1), Duration::from_secs(3_600));
            value.duration(range.0, range.1).map(|timeout| config.session_timeout = timeout)
        },
        show: |config| Some(quoted(&show_duration(config.session_timeout))),
    },
    Key {
        name: "rtsp.sessions_max",
        help: "sessions that one shard can hold, 1 to 1048576",
        same_as: None,
        write: |config, value| {
            let number = value.number(1, 1 << 20)?;
            to_usize(number).map(|number| config.sessions_max = number)
        },
        show: |config| Some(config.sessions_max.to_string()),
    },
    Key {
        name: "rtsp.sessions_per_address_max",
        help: "sessions of one IPv4 address or IPv6 /64: auto (a quarter of all), 1 to 1048576",
        same_as: None,
        write: |config, value| {
            value.count_or_auto().map(|count| config.sessions_per_address_max = count)
        },
        show: |config| Some(shown_or_auto(config.sessions_per_address_max)),
    },
    Key {
        name: "rtsp.connections_per_address_max",
        help: "RTSP connections of one IPv4 address or IPv6 /64: auto (a quarter of all), or count",
        same_as: None,
        write: |config, value| {
            value.count_or_auto().map(|count| config.connections_per_address_max = count)
        },
        show: |config| Some(shown_or_auto(config.connections_per_address_max)),
    },
    Key {
        name: "rtsp.retransmission",
        help: "packets that UDP players lost: auto (sent again when asked by RTP/AVPF), off",
        same_as: None,
        write: |config, value| value.auto_or_off().map(|is_auto| config.retransmits = is_auto),
        show: |config| Some(quoted(if config.retransmits { "auto" } else { "off" })),
    },
    Key {
        name: "rtsp.udp.rtp",
        help: "UDP port of RTP, even; RTCP takes the next; two more for each shard; 0 = any free",
        same_as: None,
        write: |config, value| value.rtp_port().map(|port| config.rtp_port = port),
        show: |config| Some(config.rtp_port.to_string()),
    },
    Key {
        name: "rtsp.multicast.range",
        help: "groups that live paths are sent to, one each, when a player asks for it; off = none",
        same_as: None,
        write: |config, value| {
            MulticastConfig::parse_range(&value.text()?).map(|range| config.multicast.range = range)
        },
        show: |config| Some(quoted(&config.multicast.shown_range())),
    },
    Key {
        name: "rtsp.multicast.rtp",
        help: "RTP port of a group's first track, even; RTCP is the next one, two more each track",
        same_as: None,
        write: |config, value| {
            let port = value.number(0, u64::from(u16::MAX))?;
            MulticastConfig::check_port(port).map(|port| config.multicast.rtp_port = port)
        },
        show: |config| Some(config.multicast.rtp_port.to_string()),
    },
    Key {
        name: "rtsp.multicast.ttl",
        help: "routers that packets to groups may pass, 1 to 255",
        same_as: None,
        write: |config, value| {
            let ttl = value.number(1, u64::from(u8::MAX))?;
            config.multicast.ttl = u8::try_from(ttl).unwrap_or(u8::MAX);
            Ok(())
        },
        show: |config| Some(config.multicast.ttl.to_string()),
    },
    Key {
        name: "rtsp.multicast.interface",
        help: "an IPv4 address of the interface that groups are reached by; auto = by the routes",
        same_as: None,
        write: |config, value| {
            MulticastConfig::parse_interface(&value.text()?)
                .map(|address| config.multicast.interface = address)
        },
        show: |config| Some(quoted(&config.multicast.shown_interface())),
    },
    Key {
        name: "vod.root",
        help: "folder that is served under /vod; without one the built-in clip is",
        same_as: None,
        write: |config, value| {
            // Not trimmed: a folder's name may end with a space.
            let Setting::Text(text) = value else {
                return Err(ValueError::Kind { found: "integer, boolean or array" });
            };
            config.media_root = (!text.is_empty()).then(|| PathBuf::from(text));
            Ok(())
        },
        show: |config| config.media_root.as_ref().map(|root| quoted(&root.to_string_lossy())),
    },
    Key {
        name: "vod.lag_budget",
        help: "over TCP: skip to a sync sample when so late, up to 1h; 0s = never, lose nothing",
        same_as: None,
        write: |config, value| {
            let range = (Duration::ZERO, Duration::from_secs(3_600));
            value.duration(range.0, range.1).map(|budget| config.lag_budget = budget)
        },
        show: |config| Some(quoted(&show_duration(config.lag_budget))),
    },
    Key {
        name: "vod.window_cache",
        help: "memory for packet windows, 1MiB to 1024GiB",
        same_as: None,
        write: |config, value| {
            value.size(1 << 20, 1 << 40).map(|bytes| config.window_cache_bytes = bytes)
        },
        show: |config| Some(quoted(&show_size(config.window_cache_bytes))),
    },
    Key {
        name: "vod.quality",
        help: "pictures for players whose way loses packets: auto (thinned), off (always full)",
        same_as: None,
        write: |config, value| value.auto_or_off().map(|is_auto| config.adapts_quality = is_auto),
        show: |config| Some(quoted(if config.adapts_quality { "auto" } else { "off" })),
    },
    Key {
        name: "admin.listen",
        help: "address of the HTTP API and of /metrics; port 0 = any free",
        same_as: None,
        write: |config, value| value.address().map(|address| config.admin = address),
        show: |config| Some(quoted(&config.admin.to_string())),
    },
    Key {
        name: "metrics.listen",
        help: "the same as admin.listen: there is one port",
        same_as: Some("admin.listen"),
        write: |config, value| value.address().map(|address| config.admin = address),
        show: |config| Some(quoted(&config.admin.to_string())),
    },
];

fn shown_or_auto(count: Option<u32>) -> String {
    count.map_or_else(|| quoted("auto"), |count| count.to_string())
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(super) fn to_usize(number: u64) -> Result<usize, ValueError> {
    usize::try_from(number).map_err(|_| ValueError::Number { text: number.to_string() })
}
