//! Paths that feed a path with fallbacks: one for each of its sources.
//!
//! ```text
//!  [path."live/a"]                               live/a~0    what `source` says
//!  source = "publish"                  -->       live/a~1    rtsp://10.0.0.6/x, on demand
//!  fallback = ["rtsp://10.0.0.6/x", "live/b"]    live/b      itself
//! ```
//! Each is a path with a configuration of its own in [`PathTable::named`], so that a publisher, a
//! camera or a socket feeds it like any other. Nothing that writes the configuration back has
//! those that were made here.
//! Invariants: names with `~N` behind a path with fallbacks are its alone; no path feeds itself.
//! Bounds: `FALLBACKS_MAX` and one sources of a path; `NAMED_MAX` with the paths that were made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fallback::{FALLBACKS_MAX, FallbackError, FallbackSource};
use super::paths::{NAMED_MAX, PathConfig, PathTable};
use super::source::SourceAddress;
use super::value_error::ValueError;
use crate::base::names::is_path_name;

impl PathTable {
    /// The paths that feed a path with fallbacks, in order of preference; none for others.
    #[must_use]
    pub fn source_paths(&self, path: &str) -> &[Arc<str>] {
        self.source_paths.get(path).map_or(&[], |paths| paths)
    }

    /// Where a publisher of a path goes: to its source path, or to the path itself.
    #[must_use]
    pub fn publish_path<'a>(&'a self, path: &'a str) -> &'a str {
        match self.source_paths(path).first() {
            Some(own) if !self.find(path).source.is_fetched() => own,
            _ => path,
        }
    }

    /// The path with fallbacks whose source path was made with this name.
    #[must_use]
    pub fn path_fed_by(&self, source_path: &str) -> Option<&str> {
        let (path, _number) = split(source_path)?;
        let (path, sources) = self.source_paths.get_key_value(path)?;
        sources.iter().any(|source| **source == *source_path).then_some(path)
    }

    /// Makes the source paths of a path, if it has fallbacks.
    ///
    /// # Errors
    /// A name that is too long, or more paths than there may be.
    pub(super) fn enter_sources(&mut self, path: &str) -> Result<(), ValueError> {
        let Some(config) = self.named.get(path).map(Arc::clone) else { return Ok(()) };
        if config.fallback.is_empty() {
            return Ok(());
        }
        let own = FallbackSource::Address(config.source.clone());
        let mut sources: Vec<Arc<str>> = Vec::with_capacity(1 + config.fallback.len());
        for (number, source) in std::iter::once(&own).chain(&config.fallback).enumerate() {
            let address = match source {
                FallbackSource::Path(name) => {
                    sources.push(name.as_str().into());
                    continue;
                }
                FallbackSource::Address(address) => address,
            };
            let name = format!("{path}{SOURCE_MARK}{number}");
            if !is_path_name(&name) {
                return Err(ValueError::PathName { text: name });
            }
            sources.push(name.as_str().into());
            self.named.insert(name, Arc::new(source_config(&config, address)));
        }
        self.source_paths.insert(path.to_owned(), sources);
        let found = self.named.len();
        if found > NAMED_MAX {
            return Err(ValueError::TooMany { found, max: NAMED_MAX });
        }
        Ok(())
    }

    /// Whether a section may have this name, before source paths are made.
    ///
    /// # Errors
    /// The name is for a source path.
    pub(super) fn check_name(&self, section: &str) -> Result<(), ValueError> {
        match self.reserved_for(section) {
            Some(path) => Err(ValueError::SourcePathName { path: path.to_owned() }),
            None => Ok(()),
        }
    }

    /// The path with fallbacks whose source paths have such names.
    fn reserved_for<'n>(&self, name: &'n str) -> Option<&'n str> {
        let (path, _number) = split(name)?;
        (!self.fallbacks(path).is_empty()).then_some(path)
    }

    fn fallbacks(&self, path: &str) -> &[FallbackSource] {
        self.named.get(path).map_or(&[], |config| &config.fallback)
    }
}

/// A search over paths that feed paths, before source paths are made: each is looked at once.
pub(super) struct LoopSearch<'t> {
    paths: &'t PathTable,
    /// Whether all that feeds a path was looked at, or the search is below it.
    seen: BTreeMap<&'t str, bool>,
}

impl<'t> LoopSearch<'t> {
    pub(super) fn new(paths: &'t PathTable) -> Self {
        Self { paths, seen: BTreeMap::new() }
    }

    /// Looks at all that feeds a path.
    ///
    /// # Errors
    /// The section that has an entry that cannot be, and why: it closes a loop, or is a source
    /// path.
    pub(super) fn check(&mut self, path: &'t str) -> Result<(), (&'t str, ValueError)> {
        if self.seen.contains_key(path) {
            return Ok(());
        }
        let paths = self.paths;
        self.seen.insert(path, false);
        // Not by recursion: a chain may be as long as the table.
        let mut way = vec![(path, 0)];
        while let Some((path, next)) = way.last_mut() {
            let (path, place) = (*path, *next);
            *next += 1;
            let Some(entry) = paths.fallbacks(path).get(place) else {
                self.seen.insert(path, true);
                way.pop();
                continue;
            };
            let FallbackSource::Path(name) = entry else { continue };
            let refused = |problem| (path, ValueError::Fallback { place, problem });
            if let Some(path) = paths.reserved_for(name) {
                let (text, path) = (name.clone(), path.to_owned());
                return Err(refused(FallbackError::SourcePath { text, path }));
            }
            match self.seen.get(name.as_str()) {
                Some(true) => {}
                Some(false) => {
                    let start = way.iter().position(|(path, _)| path == name).unwrap_or(0);
                    let names = way[start..].iter().map(|(path, _)| (*path).to_owned());
                    let way = std::iter::once(path.to_owned()).chain(names).collect();
                    return Err(refused(FallbackError::Loop { way }));
                }
                None => {
                    self.seen.insert(name, false);
                    way.push((name, 0));
                }
            }
        }
        Ok(())
    }
}

/// What is said of a source path: as of the path that it feeds, with a source of its own.
fn source_config(fed: &PathConfig, source: &SourceAddress) -> PathConfig {
    // What is said of the switches concerns the path that is fed.
    let PathConfig { standby, return_after, switch_interval, .. } = PathConfig::default();
    let fed =
        PathConfig { fallback: Vec::new(), standby, return_after, switch_interval, ..fed.clone() };
    if source.is_fetched() {
        let source = source.clone();
        PathConfig { source, on_demand: true, idle_close: SOURCE_IDLE_CLOSE, ..fed }
    } else {
        PathConfig { source: source.clone(), on_demand: false, ..fed }
    }
}

/// The path and the number in the name of a source path.
fn split(name: &str) -> Option<(&str, usize)> {
    let (path, number) = name.rsplit_once(SOURCE_MARK)?;
    let number = number.parse().ok().filter(|_| number.len() == 1)?;
    (number <= FALLBACKS_MAX).then_some((path, number))
}

/// Between the name of a path and the number of its source.
const SOURCE_MARK: char = '~';
/// A source that is not wanted any more is closed so soon: what it feeds has another one.
const SOURCE_IDLE_CLOSE: Duration = Duration::from_secs(1);
