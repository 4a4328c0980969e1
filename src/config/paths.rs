//! Live paths in the configuration: what each may do, and which words are for which path.
//!
//! ```text
//!  [path."live/cam1"]         one path
//!  [path."~^live/hall\\d+$"]   paths whose names match, the first such section of the file
//!  [path."*"]                 every other one, and what the sections above leave unsaid
//! ```
//! Invariants: every path has a configuration; a fetched source is that of one named path.
//! Bounds: `NAMED_MAX` paths, `PATTERNS_MAX` patterns that are matched in linear time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::access::{AccessConfig, Action};
use super::access_list::{AccessList, Entry, Known, Place, Who};
use super::added_paths::{JobPath, ShownCapability};
use super::fallback::FallbackSource;
use super::lineup::Lineup;
use super::playlist::{EditedPlaylist, HostZone, PlaylistClock, PlaylistItem};
use super::source::{SourceAddress, SourceTls};
use super::value_error::ValueError;
use crate::base::limits::{
    IDLE_CLOSE, LAG_BUDGET, PATHS_MAX, READERS_HOLD, READERS_MAX, RING_BYTES,
};

/// `source_transport`: how a fetched source is asked to send. What it does send by, once it was set
/// up, is a `base::carrier::Lower`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceTransport {
    /// UDP, and TCP when that is refused or nothing comes.
    #[default]
    Auto,
    /// UDP.
    Udp,
    /// Interleaved with its RTSP connection.
    Tcp,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartConfig {
    /// At the newest sync sample that is kept.
    #[default]
    Gop,
    /// At the next one.
    Live,
}

/// What the configuration says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathConfig {
    /// Where its packets come from.
    pub source: SourceAddress,
    /// How they are to be sent, when they are fetched by RTSP.
    pub source_transport: SourceTransport,
    /// Which sources at `rtsps://` are believed.
    pub source_tls: SourceTls,
    /// A source is fetched when a reader wants it, not always.
    pub on_demand: bool,
    /// How long a source on demand lives without readers.
    pub idle_close: Duration,
    /// How long a source may be silent. `None`: as its transport has it (`live::core::liveness`).
    pub source_timeout: Option<Duration>,
    /// Sources that take over while `source` is gone, the best one first.
    pub fallback: Vec<FallbackSource>,
    /// The next source is kept connected.
    pub standby: bool,
    /// How long a better source must have been good before it takes over.
    pub return_after: Duration,
    /// The least time between two switches of the source.
    pub switch_interval: Duration,
    /// Titles that play in order; none: it is no playlist channel.
    pub playlist: Arc<[PlaylistItem]>,
    /// The list begins again behind its last title.
    pub playlist_loops: bool,
    /// By which clock items with a time begin.
    pub playlist_clock: PlaylistClock,
    /// Title that is shown while no title of the list can play.
    pub slate: Option<Arc<str>>,
    /// Channels that a session of the path tunes to; empty for a path that is no line-up.
    pub lineup: Lineup,
    /// A number of fewer than three digits is complete so long after its last digit.
    pub lineup_digit_timeout: Duration,
    /// Parameter sets are sent before each key frame: the path is a channel of a line-up.
    pub sets_before_key_frames: bool,
    /// How long readers wait for a source that has gone.
    pub hold: Duration,
    /// A second publisher takes the path from the first.
    pub may_override: bool,
    /// Where readers begin.
    pub start: StartConfig,
    /// How late a reader may be before it skips.
    pub lag_budget: Duration,
    /// Memory of what is kept of it, on each shard that has readers.
    pub ring_bytes: usize,
    /// Readers on each shard at most.
    pub readers_max: usize,
    /// Who may publish, when it is published to.
    pub publish: AccessList,
    /// Who may read.
    pub read: AccessList,
    /// Who may steer a session.
    pub control: AccessList,
    /// What is shown to the source: other nodes of a job ask for it.
    pub source_capability: Option<ShownCapability>,
    /// The job that has brought the path: its nodes may read it.
    pub job: Option<Arc<JobPath>>,
    /// Pictures of the title with this name are thinned for players whose way loses packets;
    /// `None`: as `vod.quality` says.
    pub adapts_quality: Option<bool>,
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            source: SourceAddress::Publish,
            source_transport: SourceTransport::Auto,
            source_tls: SourceTls::Verify,
            on_demand: false,
            idle_close: IDLE_CLOSE,
            source_timeout: None,
            fallback: Vec::new(),
            standby: false,
            return_after: RETURN_AFTER,
            switch_interval: SWITCH_INTERVAL,
            playlist: Arc::default(),
            playlist_loops: true,
            playlist_clock: PlaylistClock::default(),
            slate: None,
            lineup: Lineup::default(),
            lineup_digit_timeout: DIGIT_TIMEOUT,
            sets_before_key_frames: false,
            hold: READERS_HOLD,
            may_override: false,
            start: StartConfig::Gop,
            lag_budget: LAG_BUDGET,
            ring_bytes: RING_BYTES,
            readers_max: READERS_MAX,
            publish: AccessList::AUTO,
            read: AccessList::AUTO,
            control: AccessList::everyone(),
            source_capability: None,
            job: None,
            adapts_quality: None,
        }
    }
}

impl PathConfig {
    /// Whether the server feeds it: from an address, from the sources of a list, or from titles.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        self.source.is_fetched() || !self.fallback.is_empty() || self.is_playlist()
    }

    /// Whether it plays titles in order.
    #[must_use]
    pub fn is_playlist(&self) -> bool {
        !self.playlist.is_empty()
    }

    /// Whether publishers feed it.
    #[must_use]
    pub fn is_published(&self) -> bool {
        !self.source.is_fetched() && !self.is_playlist() && self.lineup.is_empty()
    }

    /// Whether one of its sources is asked by RTSP.
    #[must_use]
    pub fn has_rtsp_source(&self) -> bool {
        let is_own = matches!(self.source, SourceAddress::Rtsp(_));
        is_own || self.fallback.iter().any(FallbackSource::is_rtsp)
    }
}

/// Paths by the pattern that their names match.
#[derive(Debug, Clone)]
pub struct PathPattern {
    regex: Regex,
    /// What is said of them.
    pub config: Arc<PathConfig>,
}

impl PathPattern {
    pub(super) fn new(text: &str, config: Arc<PathConfig>) -> Result<Self, ValueError> {
        let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
        let regex = built.map_err(|error| {
            // Of several lines, with a caret below the place; the last one says what it is.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            ValueError::Pattern { reason: reason.trim_start_matches("error: ").to_owned() }
        })?;
        Ok(Self { regex, config })
    }

    /// The pattern, without the `~` in front of it.
    #[must_use]
    pub fn text(&self) -> &str {
        self.regex.as_str()
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text() && self.config == other.config
    }
}

impl Eq for PathPattern {}

/// All that is configured of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathTable {
    /// Those that are named.
    pub named: BTreeMap<String, Arc<PathConfig>>,
    /// Those that are not, by their names, in the order of the file.
    pub patterns: Vec<PathPattern>,
    /// All others.
    pub others: Arc<PathConfig>,
    /// Paths that feed those with fallbacks: `PathTable::source_paths`.
    pub source_paths: BTreeMap<String, Vec<Arc<str>>>,
    /// Playlists that operators have changed, by path: not from the file.
    pub edited_playlists: BTreeMap<String, EditedPlaylist>,
    /// What `local` means of `playlist_clock`; set where a path plays titles.
    pub zone: HostZone,
    /// What can be checked of who a client is.
    pub access: Arc<AccessConfig>,
}

impl PathTable {
    /// What is said of a path.
    #[must_use]
    pub fn find(&self, path: &str) -> &Arc<PathConfig> {
        let pattern = || self.pattern_of(path).map(|pattern| &pattern.config);
        self.named.get(path).or_else(pattern).unwrap_or(&self.others)
    }

    /// Who may do something with a path or a title.
    #[must_use]
    pub fn entries(&self, path: &str, action: Action) -> Vec<Entry> {
        let config = self.find(path);
        let (list, otherwise) = match action {
            Action::Read => (&config.read, Place::Anywhere),
            Action::Publish => (&config.publish, Place::Loopback),
            Action::Control => (&config.control, Place::Anywhere),
        };
        list.resolve(self.access.known(action), otherwise)
    }

    /// The name of the section that says it: what an operator is to change.
    #[must_use]
    pub fn section_of(&self, path: &str) -> String {
        let path = self.path_fed_by(path).unwrap_or(path);
        let path = self.lineup_over(path).map_or(path, |(lineup, _)| lineup);
        match self.pattern_of(path) {
            _ if self.named.contains_key(path) => path.to_owned(),
            Some(pattern) => format!("~{}", pattern.text()),
            None => "*".to_owned(),
        }
    }

    /// Sections in which everyone may publish.
    #[must_use]
    pub fn open_sections(&self) -> Vec<String> {
        let is_open = |config: &PathConfig| config.is_published() && config.publish.is_open();
        let others = is_open(&self.others).then(|| "*".to_owned());
        let patterns = self.patterns.iter().filter(|pattern| is_open(&pattern.config));
        let named = self.named.iter().filter(|(_, config)| is_open(config));
        let named = named.map(|(name, _)| name).filter(|name| self.path_fed_by(name).is_none());
        let named = named.cloned();
        let patterns = patterns.map(|pattern| format!("~{}", pattern.text()));
        others.into_iter().chain(patterns).chain(named).collect()
    }

    /// Words of lists that let nobody in, because what they ask for is not configured, and the fix.
    #[must_use]
    pub fn idle_ways(&self) -> Vec<(&'static str, &'static str)> {
        let patterns = self.patterns.iter().map(|pattern| &pattern.config);
        let configs = patterns.chain(self.named.values()).chain([&self.others]);
        let lists: Vec<(&AccessList, Action)> = configs
            .flat_map(|config| {
                let (publish, control) = (&config.publish, &config.control);
                [
                    (&config.read, Action::Read),
                    (publish, Action::Publish),
                    (control, Action::Control),
                ]
            })
            .collect();
        let is_asked = |who: &Who, is_there: IsThere| {
            lists.iter().any(|(list, action)| {
                let is_named = list.entries().any(|entry| entry.who == *who);
                is_named && !is_there(self.access.known(*action))
            })
        };
        let ways: [(&Who, IsThere, (&str, &str)); 3] = [
            (&Who::Users, |known| known.users, ("users", "add one with `headend user add`")),
            (&Who::Jwt, |known| known.jwt, ("jwt", "set auth.jwks")),
            (
                &Who::Webhook,
                |known| known.webhook,
                ("webhook", "set auth.on_read, auth.on_publish"),
            ),
        ];
        let idle = ways.into_iter().filter(|(who, is_there, _)| is_asked(who, *is_there));
        idle.map(|(_, _, told)| told).collect()
    }

    /// What is different in `new`.
    #[must_use]
    pub fn changes(&self, new: &Self) -> PathChanges {
        let names: BTreeSet<&String> = self.named.keys().chain(new.named.keys()).collect();
        let mut changes = PathChanges {
            are_others_changed: self.are_others_changed(new),
            is_access_changed: self.access != new.access,
            ..Default::default()
        };
        for name in names {
            let list = match (self.named.get(name), new.named.get(name)) {
                (Some(old), Some(new)) if old == new => continue,
                (Some(_), Some(_)) => &mut changes.changed,
                (Some(_), None) => &mut changes.removed,
                (None, _) => &mut changes.added,
            };
            list.push(name.clone());
        }
        changes
    }

    /// Whether paths that are not named are told something else.
    fn are_others_changed(&self, new: &Self) -> bool {
        self.others != new.others || self.patterns != new.patterns
    }

    fn pattern_of(&self, path: &str) -> Option<&PathPattern> {
        self.patterns.iter().find(|pattern| pattern.regex.is_match(path))
    }
}

/// Whether what a word asks for can be checked.
type IsThere = fn(Known) -> bool;

/// What a new configuration does to paths.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct PathChanges {
    /// Named now, and not before.
    pub added: Vec<String>,
    /// Told something else.
    pub changed: Vec<String>,
    /// Named no more.
    pub removed: Vec<String>,
    /// Patterns, or what is for all others.
    #[serde(rename = "others_changed")]
    pub are_others_changed: bool,
    /// Users, tokens or the webhook.
    #[serde(rename = "access_changed")]
    pub is_access_changed: bool,
}

impl PathChanges {
    /// Nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Paths that are named at most: as many as a shard can be the owner of.
pub(super) const NAMED_MAX: usize = PATHS_MAX;
/// Patterns at most: each is tried on the name of a path that is not named itself.
pub(super) const PATTERNS_MAX: usize = 64;
/// A source that comes and goes is left alone until it has lasted.
const RETURN_AFTER: Duration = Duration::from_secs(5);
/// Players get a key frame and show it before the next switch.
const SWITCH_INTERVAL: Duration = Duration::from_secs(2);
/// As long as people take from one key of a remote control to the next.
const DIGIT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Memory of a pattern: names are short, and what needs more is a mistake.
const PATTERN_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hold_s: u64) -> Arc<PathConfig> {
        Arc::new(PathConfig { hold: Duration::from_secs(hold_s), ..PathConfig::default() })
    }

    fn table() -> PathTable {
        let pattern = |text, hold_s| PathPattern::new(text, config(hold_s)).unwrap();
        PathTable {
            named: [("live/cam1".to_owned(), config(1))].into(),
            patterns: vec![pattern("^live/", 2), pattern("cam", 3)],
            others: config(4),
            ..PathTable::default()
        }
    }

    #[test]
    fn name_beats_patterns_and_the_first_pattern_beats_the_next() {
        let table = table();
        for (path, hold_s, section) in [
            ("live/cam1", 1, "live/cam1"),
            ("live/cam2", 2, "~^live/"),
            ("hall/cam2", 3, "~cam"),
            ("hall", 4, "*"),
        ] {
            assert_eq!(table.find(path).hold.as_secs(), hold_s, "{path}");
            assert_eq!(table.section_of(path), section);
        }
    }

    #[test]
    fn changes_name_the_paths_that_are_told_something_else_and_no_others() {
        let old = table();
        assert!(old.changes(&table()).is_empty());
        let mut new = table();
        new.named.insert("b".to_owned(), config(9));
        let added = PathChanges { added: vec!["b".to_owned()], ..Default::default() };
        assert_eq!(old.changes(&new), added);
        let removed = PathChanges { removed: vec!["b".to_owned()], ..Default::default() };
        assert_eq!(new.changes(&old), removed);
        new = table();
        new.named.insert("live/cam1".to_owned(), config(7));
        new.patterns.pop();
        let changed = vec!["live/cam1".to_owned()];
        let both = PathChanges { changed, are_others_changed: true, ..Default::default() };
        assert_eq!(old.changes(&new), both);
    }

    #[test]
    fn sections_for_everyone_are_found_and_fetched_ones_are_none() {
        let open = || PathConfig {
            publish: AccessList::parse(&["any"]).unwrap(),
            ..PathConfig::default()
        };
        let fetched = SourceAddress::parse("rtsp://cam/x").unwrap();
        let table = PathTable {
            named: [
                ("a".to_owned(), Arc::new(open())),
                ("b".to_owned(), Arc::new(PathConfig { source: fetched, ..open() })),
                ("c".to_owned(), config(1)),
            ]
            .into(),
            patterns: vec![PathPattern::new("x", Arc::new(open())).unwrap()],
            others: Arc::new(open()),
            ..PathTable::default()
        };
        assert_eq!(table.open_sections(), ["*", "~x", "a"]);
        assert!(PathTable::default().open_sections().is_empty());
    }

    #[test]
    fn pattern_that_is_none_or_takes_too_much_is_refused_in_one_line() {
        let refuse = |text: &str| PathPattern::new(text, Arc::default()).unwrap_err().to_string();
        assert_eq!(refuse("a("), "not a regular expression: unclosed group");
        assert!(refuse("(a{1000}){1000}").contains("size limit"), "{}", refuse("(a{1000}){1000}"));
    }
}
