//! The table of keys of a section of `[path]`: name, help, how the value is written and shown.

use std::time::Duration;

use super::keys::{quoted, to_usize};
use super::paths::{PathConfig, SourceTransport, StartConfig};
use super::source::SourceAddress;
use super::value::{Setting, ValueError, show_duration, show_size};
use crate::base::names::is_title_name;

/// One key of a path.
pub struct PathKey {
    /// Without the section.
    pub name: &'static str,
    /// What it is, with unit and range, for `config default`.
    pub help: &'static str,
    of: PathsOf,
    pub(super) write: fn(&mut PathConfig, &Setting) -> Result<(), ValueError>,
    /// The value as TOML, without passwords; `None` when it is not set.
    pub show: fn(&PathConfig) -> Option<String>,
}

/// Paths that a key says something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathsOf {
    /// Live ones.
    Live,
    /// Those that are published to.
    Published,
    /// Those with a source by RTSP.
    Rtsp,
    /// Those with a source that is fetched.
    Fetched,
    /// Of these, those whose source is fetched when it is wanted.
    OnDemand,
    /// Titles.
    Title,
}

impl PathKey {
    /// Whether it says something in a section of this name, about paths with this configuration.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, section: &str, config: &PathConfig) -> Result<(), ValueError> {
        if is_title_name(section) {
            return if self.of == PathsOf::Title { Ok(()) } else { Err(ValueError::OnlyLive) };
        }
        let is_rest = section == REST;
        let is_one = !is_rest && !section.starts_with(PATTERN);
        if !is_one && self.name == "source" && config.source.is_fetched() {
            return Err(ValueError::ManyFetched);
        }
        match self.of {
            // There it is the default of all.
            _ if is_rest => Ok(()),
            PathsOf::Title if is_one => Err(ValueError::OnlyFor { what: "titles: demo, vod/.." }),
            of => of.check(config),
        }
    }
}

impl PathsOf {
    fn check(self, config: &PathConfig) -> Result<(), ValueError> {
        let is_fetched = config.source.is_fetched();
        let (is_its, what) = match self {
            Self::Live | Self::Title => return Ok(()),
            Self::Published => (!is_fetched, "paths that are published to"),
            Self::Rtsp => (matches!(config.source, SourceAddress::Rtsp(_)), "rtsp:// sources"),
            Self::Fetched => (is_fetched, "paths whose source is fetched"),
            Self::OnDemand => (is_fetched && config.on_demand, "sources with on_demand = true"),
        };
        if is_its { Ok(()) } else { Err(ValueError::OnlyFor { what }) }
    }
}

impl std::fmt::Debug for PathKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PathKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All keys of a path, in the order of `config default`.
pub static PATH_KEYS: &[PathKey] = &[
    PathKey {
        name: "source",
        help: "publish, rtsp://USER:PASSWORD@HOST/.., udp://ADDRESS:PORT, file:NAME.sdp",
        of: PathsOf::Live,
        write: |config, value| value.source().map(|source| config.source = source),
        show: |config| Some(quoted(&config.source.to_string())),
    },
    PathKey {
        name: "source_transport",
        help: "how an rtsp:// source sends: auto (UDP, else TCP), udp, tcp",
        of: PathsOf::Rtsp,
        write: |config, value| {
            let values = [SourceTransport::Auto, SourceTransport::Udp, SourceTransport::Tcp];
            value.word(TRANSPORTS, &values).map(|transport| config.source_transport = transport)
        },
        show: |config| Some(quoted(TRANSPORTS[config.source_transport as usize])),
    },
    PathKey {
        name: "on_demand",
        help: "true: a source is fetched when a player wants it; false: always",
        of: PathsOf::Fetched,
        write: |config, value| value.boolean().map(|is_so| config.on_demand = is_so),
        show: |config| Some(config.on_demand.to_string()),
    },
    PathKey {
        name: "idle_close",
        help: "a source on demand is closed so long after its last player, 1s to 24h",
        of: PathsOf::OnDemand,
        write: |config, value| {
            let range = (Duration::from_secs(1), Duration::from_secs(24 * 3_600));
            value.duration(range.0, range.1).map(|idle| config.idle_close = idle)
        },
        show: |config| Some(quoted(&show_duration(config.idle_close))),
    },
    PathKey {
        name: "source_timeout",
        help: "a source silent for so long is gone, 1s to 24h; auto: 10s, open TCP counts",
        of: PathsOf::Live,
        write: |config, value| {
            let range = (Duration::from_secs(1), Duration::from_secs(24 * 3_600));
            let timeout = value.duration_or_auto(range.0, range.1);
            timeout.map(|timeout| config.source_timeout = timeout)
        },
        show: |config| {
            let text = config.source_timeout.map_or_else(|| "auto".to_owned(), show_duration);
            Some(quoted(&text))
        },
    },
    PathKey {
        name: "hold",
        help: "players wait so long for a source that has gone, up to 1h",
        of: PathsOf::Live,
        write: |config, value| {
            let range = (Duration::ZERO, Duration::from_secs(3_600));
            value.duration(range.0, range.1).map(|hold| config.hold = hold)
        },
        show: |config| Some(quoted(&show_duration(config.hold))),
    },
    PathKey {
        name: "publish",
        help: "who may publish: loopback, private, any, networks, addresses; [] is nobody",
        of: PathsOf::Published,
        write: |config, value| value.publish_list().map(|list| config.publish = list),
        show: |config| {
            let texts: Vec<String> = config.publish.texts().map(|text| quoted(&text)).collect();
            Some(format!("[{}]", texts.join(", ")))
        },
    },
    PathKey {
        name: "override",
        help: "true: a second publisher takes the path from the first; false: it is refused",
        of: PathsOf::Published,
        write: |config, value| value.boolean().map(|is_so| config.may_override = is_so),
        show: |config| Some(config.may_override.to_string()),
    },
    PathKey {
        name: "start",
        help: "where players begin: gop (newest key frame, at once), live (the next one)",
        of: PathsOf::Live,
        write: |config, value| {
            let values = [StartConfig::Gop, StartConfig::Live];
            value.word(STARTS, &values).map(|start| config.start = start)
        },
        show: |config| Some(quoted(STARTS[config.start as usize])),
    },
    PathKey {
        name: "lag_budget",
        help: "a player so late skips to the newest key frame, 100ms to 1m",
        of: PathsOf::Live,
        write: |config, value| {
            let range = (Duration::from_millis(100), Duration::from_secs(60));
            value.duration(range.0, range.1).map(|budget| config.lag_budget = budget)
        },
        show: |config| Some(quoted(&show_duration(config.lag_budget))),
    },
    PathKey {
        name: "buffer",
        help: "memory for the newest pictures and late players, once a shard, 1MiB to 4GiB",
        of: PathsOf::Live,
        write: |config, value| value.size(1 << 20, 4 << 30).map(|bytes| config.ring_bytes = bytes),
        show: |config| Some(quoted(&show_size(config.ring_bytes))),
    },
    PathKey {
        name: "readers_max",
        help: "players of the path on one shard, 1 to 1048576",
        of: PathsOf::Live,
        write: |config, value| {
            let number = value.number(1, 1 << 20)?;
            to_usize(number).map(|number| config.readers_max = number)
        },
        show: |config| Some(config.readers_max.to_string()),
    },
    PathKey {
        name: "quality",
        help: "of a title such as \"vod/a.mp4\": auto or off instead of what vod.quality says",
        of: PathsOf::Title,
        write: |config, value| {
            value.auto_or_off().map(|is_auto| config.adapts_quality = Some(is_auto))
        },
        show: |config| {
            config.adapts_quality.map(|is_auto| quoted(if is_auto { "auto" } else { "off" }))
        },
    },
];

/// The section for all others.
pub const REST: &str = "*";
/// How the name of a pattern begins.
pub(super) const PATTERN: char = '~';
/// In the order of `SourceTransport`.
const TRANSPORTS: &[&str] = &["auto", "udp", "tcp"];
/// In the order of `StartConfig`.
const STARTS: &[&str] = &["gop", "live"];
