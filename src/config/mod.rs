//! Configuration: where a value may come from, and what it may be.
//!
//! ```text
//! flag  >  HEADEND__RTSP__LISTEN  >  file.toml  >  default        first one wins
//! ```
//! The tables of [`keys`] name every key with its field, its help, and how it is read and shown;
//! the file, the environment, flags, `config default`, `config show` and reloads go through them.
//! What is said of paths ([`paths`]) comes from the file alone.
//! Invariant: a key that is not in the table is an error that names the nearest one, with line and
//! column. Bound: a file of at most `FILE_BYTES_MAX` bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub mod access;
pub mod access_list;
pub mod added_paths;
pub mod channel_paths;
pub mod confinement;
pub mod cpus;
pub mod daily;
pub mod error;
pub mod fallback;
mod file;
pub mod hls;
pub mod image_memory;
pub mod key;
pub mod keys;
pub mod limits;
pub mod lineup;
pub mod multicast;
mod path_file;
pub mod path_scope;
pub mod paths;
pub mod playlist;
pub mod priority;
pub mod redirect;
pub mod section;
pub mod secure;
pub mod source;
mod source_paths;
pub mod takeover;
mod user_file;
pub mod value;
pub mod value_error;
pub mod webrtc;

pub use cpus::CpuList;
pub use error::ConfigError;
pub use priority::ShardPriority;

use crate::base::mode::Mode;
use access::{AccessConfig, AuthConfig, User};
use confinement::ConfinementConfig;
use hls::HlsConfig;
use image_memory::ImageMemory;
use key::Key;
use keys::KEYS;
use limits::LimitsConfig;
use multicast::MulticastConfig;
use paths::PathTable;
use redirect::Redirect;
use secure::{HttpConfig, SrtpMode, TlsConfig};
use takeover::TakeoverConfig;
use value::Setting;
use value_error::ValueError;
use webrtc::WebrtcConfig;

/// Everything `headend serve` needs to know, checked and with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Addresses of RTSP listeners; port 0 takes any free one. `[::]` takes IPv4 as well.
    pub listen: Vec<SocketAddr>,
    /// Address of the HTTP API and of `/metrics`; port 0 takes any free one.
    pub admin: SocketAddr,
    /// File of the tokens by which other machines use the HTTP API.
    pub admin_tokens: Option<PathBuf>,
    /// UDP port for RTP of shard 0, even; RTCP is the next one, shard 1 takes the next pair, and
    /// so on. 0 takes any free pairs.
    pub rtp_port: u16,
    /// Groups that live paths are sent to.
    pub multicast: MulticastConfig,
    /// RTSP over TLS.
    pub tls: TlsConfig,
    /// RTSP over HTTP.
    pub http: HttpConfig,
    /// HLS.
    pub hls: HlsConfig,
    /// WebRTC.
    pub webrtc: WebrtcConfig,
    /// Which CPUs run a shard.
    pub shards: CpuList,
    /// Which CPUs run a worker.
    pub workers: CpuList,
    /// How urgent the shards are to the kernel.
    pub shard_priority: ShardPriority,
    /// Folder that is served under `/vod`; without one the built-in clip is.
    pub media_root: Option<PathBuf>,
    /// A session whose client was silent for so long is reaped.
    pub session_timeout: Duration,
    /// Sessions of each shard at most; one more is refused with 453.
    pub sessions_max: usize,
    /// Sessions of one address on all shards at most; `None`: a share of what there may be.
    pub sessions_per_address_max: Option<u32>,
    /// The same, of RTSP connections; one more is refused with 503.
    pub connections_per_address_max: Option<u32>,
    /// Rows of each shard's PollTable: connections, sockets and streams it can hold.
    pub poll_entries_max: usize,
    /// A client over TCP that is later than this skips to a sync sample of the title; zero: never.
    pub lag_budget: Duration,
    /// Memory for packet windows that no session needs at the moment.
    pub window_cache_bytes: usize,
    /// Memory for images of windows that several players are in.
    pub image_memory: ImageMemory,
    /// Recorded pictures are thinned for players whose way loses packets.
    pub adapts_quality: bool,
    /// Packets that players over UDP lost are sent again when they ask.
    pub retransmits: bool,
    /// Tasks that may wait for a worker.
    pub task_queue_max: usize,
    /// What strangers may take.
    pub limits: LimitsConfig,
    /// Folder that keeps what operators have changed; without one it ends with the server.
    pub state_dir: Option<PathBuf>,
    /// Servers that clients are sent to while this one is drained.
    pub redirect: Redirect,
    /// Sessions move from a busy shard to another one by themselves.
    pub rebalances: bool,
    /// Where another program may take over from this server.
    pub takeover: TakeoverConfig,
    /// What the process gives up once it has its ports.
    pub confinement: ConfinementConfig,
    /// The file that this was read from, which may be read again.
    pub file: Option<PathBuf>,
    /// Form of the log.
    pub log: LogFormat,
    /// Whether runs of UDP packets are cut by the kernel (`UDP_SEGMENT`).
    pub gso: Mode,
    /// Whether media is sent without a copy (`MSG_ZEROCOPY`).
    pub zerocopy: Mode,
    /// A user may go on with a session from another address.
    pub session_roaming: bool,
    /// UDP ports of clients may be privileged ones.
    pub low_client_ports: bool,
    /// Media is encrypted (SRTP).
    pub srtp: SrtpMode,
    /// Tokens and webhook; in force by `paths.access`.
    pub auth: AuthConfig,
    /// What is said of single paths, and of users.
    pub paths: Arc<PathTable>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 8_554))],
            admin: SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 9_997)),
            admin_tokens: None,
            rtp_port: 8_000,
            multicast: MulticastConfig::default(),
            tls: TlsConfig::default(),
            http: HttpConfig::default(),
            hls: HlsConfig::default(),
            webrtc: WebrtcConfig::default(),
            shards: CpuList::Auto,
            workers: CpuList::Auto,
            shard_priority: ShardPriority::Normal,
            media_root: None,
            session_timeout: Duration::from_secs(60),
            sessions_max: 16_384,
            sessions_per_address_max: None,
            connections_per_address_max: None,
            poll_entries_max: 16_384,
            lag_budget: Duration::ZERO,
            window_cache_bytes: 256 << 20,
            image_memory: ImageMemory::default(),
            adapts_quality: true,
            retransmits: true,
            task_queue_max: 4_096,
            limits: LimitsConfig::default(),
            state_dir: None,
            redirect: Redirect::default(),
            rebalances: false,
            takeover: TakeoverConfig::Auto,
            confinement: ConfinementConfig::default(),
            file: None,
            log: LogFormat::Auto,
            gso: Mode::Auto,
            zerocopy: Mode::Auto,
            session_roaming: false,
            low_client_ports: false,
            srtp: SrtpMode::Optional,
            auth: AuthConfig::default(),
            paths: Arc::default(),
        }
    }
}

impl Config {
    /// What is allowed but should be known: sentences with their code and fix.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.admin.ip().is_loopback() && self.admin_tokens.is_none() {
            warnings.push(format!(
                "the admin API on {} answers this machine alone, because there are no tokens for \
                 others; set admin.tokens, or use --admin 127.0.0.1:{} (HE-W109)",
                self.admin,
                self.admin.port()
            ));
        }
        warnings.extend(self.access_warnings());
        warnings.extend(self.tls.warning());
        let open = self.paths.open_sections();
        if let Some(first) = open.first() {
            let more = match open.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            warnings.push(format!(
                "everyone who reaches the RTSP port may publish to [path.{}]{more}; unless that \
                 is meant, name networks: publish = [\"10.0.0.0/8\"] (HE-W106)",
                key::quoted(first)
            ));
        }
        warnings
    }

    /// Lists that ask for what cannot be shown, and users who can show less than others.
    fn access_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let access = &self.paths.access;
        for (word, fix) in self.paths.idle_ways() {
            warnings.push(format!("`{word}` in a list of [path] lets nobody in: {fix} (HE-W113)"));
        }
        if access.is_mixed() {
            warnings.push(
                "some users have hashes for Digest and others have none: it is offered to nobody; \
                 `headend user add --digest` makes them (HE-W114)"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Keys that have another value in `new` and count from the next start on: not those of paths,
    /// users, `[auth]` and tokens.
    #[must_use]
    pub fn changed_keys(&self, new: &Self) -> Vec<&'static str> {
        let counts_at_once = |name: &str| name.starts_with("auth.") || name == "admin.tokens";
        let keys = KEYS.iter().filter(|key| key.same_as.is_none() && !counts_at_once(key.name));
        keys.filter(|key| (key.show)(self) != (key.show)(new)).map(|key| key.name).collect()
    }
}

/// Form of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As configuration spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Who set a value; a later one beats an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nobody.
    Default,
    /// The configuration file.
    File,
    /// A `HEADEND__*` variable.
    Env,
    /// The command line.
    Flag,
}

impl Origin {
    /// As `config show` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Env => "env",
            Self::Flag => "flag",
        }
    }
}

/// A setting of the command line: the key it stands for, the flag to name in errors, the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagSetting {
    /// As in [`keys::KEYS`].
    pub key: &'static str,
    /// As the user wrote it: `--listen`.
    pub flag: &'static str,
    /// What followed it.
    pub value: Setting,
}

/// A configuration and who set what.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Keys that are not at their default.
    pub origins: BTreeMap<&'static str, Origin>,
    /// Sections of `[path]`, the one for all others first, the rest in the order of the file.
    pub paths: Vec<PathSection>,
    /// Sections of `[user]`.
    users: BTreeMap<Arc<str>, User>,
}

/// A section of `[path]`, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSection {
    /// A path, a pattern behind `~`, or `*`.
    pub name: String,
    /// Keys that it sets itself.
    pub set: BTreeSet<&'static str>,
}

impl Loaded {
    /// Who set `key`, under this name or under another one for the same thing.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        let twins = KEYS.iter().filter(|other| other.same_as == Some(key)).map(|other| other.name);
        let origins = twins.chain([key]).filter_map(|name| self.origins.get(name).copied());
        origins.max().unwrap_or(Origin::Default)
    }
}

/// Puts the sources together. `file` is (name for errors, text); `env` any list of variables, of
/// which those that begin with `HEADEND__` count.
///
/// # Errors
/// The first thing that is wrong, in the order file, environment, flags.
pub fn load(
    file: Option<(&str, &str)>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &[FlagSetting],
) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded {
        config: Config::default(),
        origins: BTreeMap::new(),
        paths: Vec::new(),
        users: BTreeMap::new(),
    };
    if let Some((name, text)) = file {
        file::apply(name, text, &mut loaded)?;
    }
    // Sorted, so that of two wrong variables the same one is always reported.
    let env: BTreeMap<_, _> =
        env.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    for (name, text) in env {
        let Some(key) = KEYS.iter().find(|key| env_name(key.name) == name) else {
            // Compared as keys: the prefix that all have in common would make all look alike.
            let key = name.trim_start_matches(ENV_PREFIX).replace("__", ".").to_ascii_lowercase();
            let nearest = nearest(&key, KEYS.iter().map(|key| key.name));
            let nearest = nearest.map(|key| env_name(&key));
            return Err(ConfigError::UnknownVariable { name, nearest });
        };
        let setting = Setting::Text(text);
        set(&mut loaded, key, &setting, Origin::Env)
            .map_err(|problem| ConfigError::Variable { name, problem })?;
    }
    for setting in flags {
        let Some(key) = KEYS.iter().find(|key| key.name == setting.key) else {
            return Err(ConfigError::UnknownFlagKey { flag: setting.flag });
        };
        set(&mut loaded, key, &setting.value, Origin::Flag)
            .map_err(|problem| ConfigError::Flag { flag: setting.flag, problem })?;
    }
    let (users, auth) = (std::mem::take(&mut loaded.users), loaded.config.auth.clone());
    let access = AccessConfig { users, auth };
    if *loaded.config.paths.access != access {
        Arc::make_mut(&mut loaded.config.paths).access = Arc::new(access);
    }
    Ok(loaded)
}

/// Applies one value. Two keys may name one field; then the later origin counts, and two
/// different values of the same origin are refused.
fn set(
    loaded: &mut Loaded,
    key: &'static Key<Config>,
    setting: &Setting,
    origin: Origin,
) -> Result<(), ValueError> {
    let before = loaded.config.clone();
    (key.write)(&mut loaded.config, setting)?;
    let twin = KEYS.iter().find(|other| other.same_as == Some(key.name));
    let twin = key.same_as.or_else(|| twin.map(|twin| twin.name));
    if let Some(twin) = twin
        && loaded.origins.get(twin) == Some(&origin)
        && before != loaded.config
    {
        return Err(ValueError::Contradiction { twin });
    }
    loaded.origins.insert(key.name, origin);
    Ok(())
}

/// `rtsp.udp.rtp` -> `HEADEND__RTSP__UDP__RTP`.
#[must_use]
pub fn env_name(key: &str) -> String {
    key.split('.')
        .fold(String::from("HEADEND"), |name, part| name + "__" + &part.to_ascii_uppercase())
}

/// The candidate most like `word`, when one is like it at all.
fn nearest<S: AsRef<str>>(word: &str, candidates: impl IntoIterator<Item = S>) -> Option<String> {
    let scored = candidates.into_iter().map(|candidate| {
        (strsim::jaro_winkler(word, candidate.as_ref()), candidate.as_ref().to_owned())
    });
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

/// Environment variables that begin so are ours, and must be known.
const ENV_PREFIX: &str = "HEADEND__";

/// Bytes of a configuration file at most; a thousand paths with comments take a tenth of it.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Below this, a suggestion would be a guess.
const LIKENESS_MIN: f64 = 0.7;

#[cfg(test)]
mod tests;
