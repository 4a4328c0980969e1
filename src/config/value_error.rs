//! Why a value of the configuration is refused, with what was found and what is allowed.
//!
//! Each kind of value has its reader beside its type (`cpus`, `publish`, `multicast`, ..) or in
//! `value`; all of them refuse with this type.

use std::time::Duration;

use super::cpus::CpuListError;
use super::fallback::FallbackError;
use super::lineup::LineupError;
use super::playlist::PlaylistError;
use super::source::SourceAddressError;

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A boolean where a duration stands, and the like.
    #[error("cannot be of type {found}; `headend config default` shows how it is written")]
    Kind {
        /// TOML's name of what was found.
        found: &'static str,
    },
    /// Not an IP address with a port.
    #[error("`{text}` is not an address like `0.0.0.0:8554`, `[::]:8554` or `127.0.0.1:0`")]
    Address {
        /// What was found.
        text: String,
    },
    /// Not an IP address without a port.
    #[error("`{text}` is not an IP address like `203.0.113.7` or `2001:db8::7`")]
    Ip {
        /// What was found.
        text: String,
    },
    /// A list that must not be empty is.
    #[error("needs at least one value")]
    Empty,
    /// More values than can be of use.
    #[error("{found} values are more than the {max} allowed")]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// Not a whole number.
    #[error("`{text}` is not a whole number")]
    Number {
        /// What was found.
        text: String,
    },
    /// A number outside of its range.
    #[error("{value} is not in {min} to {max}")]
    Range {
        /// What was found.
        value: u64,
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
    },
    /// RTP ports are even (RFC 3550 s11).
    #[error("{port} is odd: RTP takes an even port and RTCP the next one; write {}", port - 1)]
    OddPort {
        /// What was found.
        port: u16,
    },
    /// Nobody to be believed.
    #[error("`{text}` is none of verify, off, sha256: and the 64 digits of a fingerprint")]
    SourceTls {
        /// What was found.
        text: String,
    },
    /// Not a duration.
    #[error("`{text}` is not a duration like `500ms`, `10s`, `5m` or `1h`")]
    Duration {
        /// What was found.
        text: String,
    },
    /// A duration outside of its range.
    #[error("{value:?} is not in {min:?} to {max:?}")]
    DurationRange {
        /// What was found.
        value: Duration,
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// Not a size.
    #[error("`{text}` is not a size like `512KiB`, `8MiB` or `1GiB`")]
    Size {
        /// What was found.
        text: String,
    },
    /// Not a CPU list.
    #[error(transparent)]
    Cpus(#[from] CpuListError),
    /// Not one of a few words.
    #[error("`{text}` is not one of {}", choices.join(", "))]
    Choice {
        /// What was found.
        text: String,
        /// What it may be.
        choices: &'static [&'static str],
    },
    /// Neither yes nor no.
    #[error("`{text}` is neither true nor false")]
    Boolean {
        /// What was found.
        text: String,
    },
    /// Not a server that clients can be sent to.
    #[error(
        "`{text}` is not a server like rtsp://HOST:PORT, rtsps://HOST:PORT or http://HOST:PORT"
    )]
    Redirect {
        /// What was found, without a password.
        text: String,
    },
    /// Two servers for the same clients.
    #[error("there can be one {schemes} server that clients are sent to")]
    RedirectTwice {
        /// The schemes that such a server has.
        schemes: &'static str,
    },
    /// Not a source of packets.
    #[error(transparent)]
    Source(#[from] SourceAddressError),
    /// Not a fallback of this path.
    #[error("{problem}")]
    Fallback {
        /// Which entry of the list, from 0.
        place: usize,
        /// Why.
        problem: FallbackError,
    },
    /// Not an item of a playlist.
    #[error("{problem}")]
    Playlist {
        /// Which entry of the list, from 0.
        place: usize,
        /// Why.
        problem: PlaylistError,
    },
    /// A path with a source and a playlist.
    #[error("a path with `playlist` has no `source`: leave one of them out")]
    PlaylistAndSource,
    /// A path with fallbacks and a playlist.
    #[error("a path with `playlist` has no `fallback`: `slate` is shown where no title can play")]
    PlaylistAndFallback,
    /// The titles of one path for many.
    #[error("names the titles of one path: set it where that path is named")]
    ManyPlaylists,
    /// Not a channel of this path.
    #[error("channel {key}: {problem}")]
    Lineup {
        /// Key of the entry, as written.
        key: String,
        /// Why.
        problem: Box<LineupError>,
    },
    /// Nobody who could read or publish.
    #[error(
        "`{text}` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, \
         user:NAME@10.0.0.0/8, jwt, webhook"
    )]
    AccessEntry {
        /// What was found.
        text: String,
    },
    /// A user that the file does not have.
    #[error("there is no [user.\"{name}\"]")]
    NoUser {
        /// What was found.
        name: String,
    },
    /// A section of `[user]` whose name no user can have.
    #[error(
        "`{text}` is no name of a user: 1 to 64 ASCII characters without : , @ \" \\ and space"
    )]
    UserName {
        /// What was found.
        text: String,
    },
    /// A user who could never log in.
    #[error("has no password: `headend user add` makes these lines")]
    NoPassword,
    /// Not the hash of a password.
    #[error("is no Argon2 hash: `headend user add` makes one")]
    PasswordHash,
    /// A hash that takes too much to check.
    #[error("takes more than 256 MiB, 16 passes or 16 lanes to check: make it with less")]
    PasswordCost,
    /// Not a hash of Digest.
    #[error(
        "is not {digits} lower-case hexadecimal digits: `headend user add --digest` makes them"
    )]
    DigestHash {
        /// How many they are.
        digits: usize,
    },
    /// Not a URL to be asked.
    #[error("`{text}` is not an http:// or https:// URL")]
    HookUrl {
        /// What was found, as it may be shown.
        text: String,
    },
    /// A network with bits beyond its prefix: one digit of it is wrong.
    #[error("`{text}` has bits beyond its prefix; write {network}")]
    NetworkBits {
        /// What was found.
        text: String,
        /// What lies within the prefix.
        network: ipnet::IpNet,
    },
    /// Not a range of groups.
    #[error("`{text}` is not a range of multicast groups like 239.255.0.0/16, and not `off`")]
    Groups {
        /// What was found.
        text: String,
    },
    /// Not a user.
    #[error("`{text}` is no user like `headend`, `headend:media` or `65534:65534`")]
    Account {
        /// What was found.
        text: String,
    },
    /// A port without room for those of all tracks of a path.
    #[error("{port} is not an even port from 2 to {max}")]
    GroupPort {
        /// What was found.
        port: u16,
        /// With room for all tracks above it.
        max: u16,
    },
    /// A section of `[path]` that names nothing.
    #[error("`{text}` is no name of a path: parts between single slashes, 255 bytes at most")]
    PathName {
        /// What was found.
        text: String,
    },
    /// A section of `[path]` whose name is that of a source of another path.
    #[error("is the name of a source of `{path}`, which has `fallback`: choose another name")]
    SourcePathName {
        /// The path that it feeds.
        path: String,
    },
    /// A section of `[path]` whose name is that of a channel of a line-up.
    #[error("is the name of a channel of `{path}`, which has `lineup`: choose another name")]
    ChannelPathName {
        /// The line-up.
        path: String,
    },
    /// A section of `[path]` whose name should be a pattern.
    #[error("not a regular expression: {reason}")]
    Pattern {
        /// What the parser says.
        reason: String,
    },
    /// A key of live paths in the section of a title.
    #[error("is for live paths; of a title `quality`, `read` and `control` can be set")]
    OnlyLive,
    /// A source for many paths.
    #[error("a source that is fetched feeds one path: set it where that path is named")]
    ManyFetched,
    /// The sources of one path for many.
    #[error("names the sources of one path: set it where that path is named")]
    ManyFallbacks,
    /// The channels of one path for many.
    #[error("has the channels of one path: set it where that path is named")]
    ManyLineups,
    /// A source of a path that has channels instead.
    #[error("means nothing beside `lineup`: each channel has its own source")]
    BesideLineup,
    /// A key that says nothing about such a path.
    #[error("means nothing here: it is for {what}")]
    OnlyFor {
        /// Paths that it is for.
        what: &'static str,
    },
    /// Not an address of an interface.
    #[error("`{text}` is neither auto nor an IPv4 address of an interface, like 10.0.0.7")]
    Interface {
        /// What was found.
        text: String,
    },
    /// Two keys for one thing, with different values.
    #[error("contradicts {twin}, which means the same")]
    Contradiction {
        /// The other key.
        twin: &'static str,
    },
}
