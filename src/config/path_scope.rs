//! Which keys say something in which section of `[path]`.
//!
//! Invariant: a key that would say nothing about its path is refused where it is set. In the
//! section for all others every key may stand: there it is the default of the paths that it is for.

use super::key::Key;
use super::paths::PathConfig;
use super::section::{PATTERN, REST};
use super::source_paths::check_fallbacks;
use super::value_error::ValueError;
use crate::base::names::Name;

/// Paths that a key says something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathsOf {
    /// Live ones.
    Live,
    /// Each that has a section of its own.
    Named,
    /// Those that are named, of which each has channels of its own.
    Channels,
    /// Those with channels.
    Lineup,
    /// Those with sources that take over.
    Fallback,
    /// Those that may play titles in order.
    Playlist,
    /// Those that do.
    Listed,
    /// Those that are published to.
    Published,
    /// Those with a source by RTSP.
    Rtsp,
    /// Those that the server feeds.
    Fetched,
    /// Of these, those that are fed when somebody wants them.
    OnDemand,
    /// Titles.
    Title,
    /// Live ones and titles.
    Any,
}

impl Key<PathConfig> {
    /// Whether it says something in a section of this name, about paths with this configuration.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, section: &str, config: &PathConfig) -> Result<(), ValueError> {
        if Name::parse(section).is_of_titles() {
            let is_meant = [PathsOf::Title, PathsOf::Any].contains(&self.of);
            return if is_meant { Ok(()) } else { Err(ValueError::OnlyLive) };
        }
        let is_rest = section == REST;
        let is_one = !is_rest && !section.starts_with(PATTERN);
        if !is_one && self.name == "source" && config.source.is_fetched() {
            return Err(ValueError::ManyFetched);
        }
        if is_one && !config.lineup.is_empty() && SOURCES.contains(&self.name) {
            return Err(ValueError::BesideLineup);
        }
        if is_one && self.name == "source" && config.is_playlist() {
            return Err(ValueError::PlaylistAndSource);
        }
        match self.of {
            PathsOf::Playlist if is_one => check_playlist(config),
            PathsOf::Playlist if !is_rest || config.is_playlist() => Err(ValueError::ManyPlaylists),
            PathsOf::Channels if is_one => config.lineup.check(),
            PathsOf::Channels if !is_rest || !config.lineup.is_empty() => {
                Err(ValueError::ManyLineups)
            }
            PathsOf::Named if is_one => check_fallbacks(section, config),
            PathsOf::Named if !is_rest || !config.fallback.is_empty() => {
                Err(ValueError::ManyFallbacks)
            }
            // There it is the default of all.
            _ if is_rest => Ok(()),
            PathsOf::Title if is_one => Err(ValueError::OnlyFor { what: "titles: demo, vod/.." }),
            of => of.check(config),
        }
    }
}

/// Checks what feeds a path that plays titles.
fn check_playlist(config: &PathConfig) -> Result<(), ValueError> {
    match config {
        _ if !config.is_playlist() => Err(ValueError::Empty),
        _ if config.source.is_fetched() => Err(ValueError::PlaylistAndSource),
        _ if !config.fallback.is_empty() => Err(ValueError::PlaylistAndFallback),
        _ => Ok(()),
    }
}

impl PathsOf {
    fn check(self, config: &PathConfig) -> Result<(), ValueError> {
        let is_fetched = config.is_fetched();
        let (has_meaning, what) = match self {
            Self::Live
            | Self::Named
            | Self::Playlist
            | Self::Channels
            | Self::Title
            | Self::Any => {
                return Ok(());
            }
            Self::Lineup => (!config.lineup.is_empty(), "paths with `lineup`"),
            Self::Fallback => (!config.fallback.is_empty(), "paths with `fallback`"),
            Self::Listed => (config.is_playlist(), "paths with `playlist`"),
            Self::Published => (config.is_published(), "paths that are published to"),
            Self::Rtsp => (config.has_rtsp_source(), "rtsp:// sources"),
            Self::Fetched => (is_fetched, "paths whose source is fetched"),
            Self::OnDemand => (is_fetched && config.on_demand, "sources with on_demand = true"),
        };
        if has_meaning { Ok(()) } else { Err(ValueError::OnlyFor { what }) }
    }
}

/// Keys that say what feeds a path.
const SOURCES: [&str; 3] = ["source", "fallback", "playlist"];
