//! Reads the `[path]` tables of a file.
//!
//! ```text
//! [path."*"]          read first, wherever it stands     --> all others
//! [path."~^a/"]       begins as a copy of it             --> patterns, in the order of the file
//! [path."live/cam1"]  begins as a copy of it             --> named
//! ```
//! Keys that say nothing about their path are refused where they are set; what is inherited from
//! "*" may mean nothing, because there it is for the paths that it means something to.
//! Bounds: `NAMED_MAX`, `PATTERNS_MAX`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::access::User;
use super::error::ConfigError;
use super::file::{File, setting};
use super::key::{Key, quoted};
use super::keys::PATH_KEYS;
use super::paths::{NAMED_MAX, PATTERNS_MAX, PathConfig, PathPattern, PathTable};
use super::playlist::HostZone;
use super::section::{PATTERN, REST};
use super::source_paths::LoopSearch;
use super::value_error::ValueError;
use super::{PathSection, nearest};
use crate::base::names::is_path_name;

/// Reads what stands below `path`, and which keys each section sets.
pub(super) fn read(
    file: &File<'_>,
    value: &Spanned<DeValue<'_>>,
    users: &BTreeMap<Arc<str>, User>,
) -> Result<(PathTable, Vec<PathSection>), ConfigError> {
    let all = file.table_of("path", value)?;
    let mut sections = Vec::with_capacity(all.len());
    for (key, value) in all.iter() {
        let name = key.get_ref().to_string();
        let shown = format!("path.{}", quoted(&name));
        let table = file.table_of(&shown, value)?;
        sections.push(Section { name, shown, at: key.span().start, table });
    }
    // The parser keeps keys sorted by name; patterns and errors go in the order of the file.
    sections.sort_by_key(|section| section.at);
    let mut paths = PathTable::default();
    let mut read = Vec::with_capacity(sections.len());
    let is_rest = |section: &&Section<'_>| section.name == REST;
    if let Some(rest) = sections.iter().find(is_rest) {
        let (config, set) = rest.apply(file, PathConfig::default(), users)?;
        read.push(PathSection { name: rest.name.clone(), set });
        paths.others = Arc::new(config);
    }
    for section in sections.iter().filter(|section| !is_rest(section)) {
        let (config, set) = section.apply(file, (*paths.others).clone(), users)?;
        let entered = enter(&mut paths, &section.name, Arc::new(config));
        entered.map_err(|problem| file.value_error(section.at, &section.shown, problem))?;
        read.push(PathSection { name: section.name.clone(), set });
    }
    feed(&mut paths, file, &sections)?;
    if paths.named.values().any(|config| config.is_playlist()) {
        paths.zone = HostZone::of_system();
    }
    Ok((paths, read))
}

/// Makes the source paths of all sections with fallbacks, when all sections are known.
fn feed(
    paths: &mut PathTable,
    file: &File<'_>,
    sections: &[Section<'_>],
) -> Result<(), ConfigError> {
    let mut search = LoopSearch::new(paths);
    for section in sections {
        let checked = paths.check_name(&section.name);
        checked.map_err(|problem| file.value_error(section.at, &section.shown, problem))?;
        search.check(&section.name).map_err(|(name, problem)| {
            let closing = sections.iter().find(|section| section.name == name);
            closing.unwrap_or(section).feed_error(file, FALLBACK, problem)
        })?;
        let checked = paths.check_lineup(&section.name);
        checked.map_err(|problem| section.feed_error(file, LINEUP, problem))?;
    }
    for section in sections {
        let entered = paths.enter_sources(&section.name);
        entered.map_err(|problem| section.feed_error(file, FALLBACK, problem))?;
        let entered = paths.enter_channels(&section.name);
        entered.map_err(|problem| section.feed_error(file, LINEUP, problem))?;
    }
    Ok(())
}

/// One `[path."..."]`.
struct Section<'a> {
    name: String,
    /// As errors call it.
    shown: String,
    at: usize,
    table: &'a DeTable<'a>,
}

impl Section<'_> {
    /// What it makes of `config`, and which keys it sets.
    fn apply(
        &self,
        file: &File<'_>,
        mut config: PathConfig,
        users: &BTreeMap<Arc<str>, User>,
    ) -> Result<(PathConfig, BTreeSet<&'static str>), ConfigError> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut set = BTreeSet::new();
        let mut written: Vec<(&'static Key<PathConfig>, &Spanned<DeValue<'_>>)> =
            Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let word: &str = key.get_ref();
            let Some(known) = PATH_KEYS.iter().find(|known| known.name == word) else {
                let nearest = self.nearest(word, value.get_ref());
                let key_shown = format!("{}.{word}", self.shown);
                return Err(file.unknown_key(key.span().start, key_shown, nearest));
            };
            let read = setting(value).and_then(|value| {
                (known.write)(&mut config, &value)?;
                check_users(known.name, &config, users)
            });
            read.map_err(|problem| self.error(file, known, value, problem))?;
            set.insert(known.name);
            written.push((known, value));
        }
        // When all is known: a key may stand before the source that it is for.
        for (known, value) in written {
            let checked = known.check(&self.name, &config);
            checked.map_err(|problem| self.error(file, known, value, problem))?;
        }
        Ok((config, set))
    }

    /// What was meant: a key, or a path whose name was not quoted.
    fn nearest(&self, word: &str, value: &DeValue<'_>) -> Option<String> {
        match value {
            DeValue::Table(_) => {
                Some(format!("[path.{}]", quoted(&format!("{}/{word}", self.name))))
            }
            _ => nearest(word, PATH_KEYS.iter().map(|key| key.name)),
        }
    }

    fn error(
        &self,
        file: &File<'_>,
        key: &Key<PathConfig>,
        value: &Spanned<DeValue<'_>>,
        problem: ValueError,
    ) -> ConfigError {
        let at = place(value, &problem);
        file.value_error(at, &format!("{}.{}", self.shown, key.name), problem)
    }

    /// A problem of what feeds it, which the key says, with other sections.
    fn feed_error(&self, file: &File<'_>, key: &str, problem: ValueError) -> ConfigError {
        let found = self.table.iter().find(|(known, _)| known.get_ref() == key);
        let at = found.map_or(self.at, |(_, value)| place(value, &problem));
        file.value_error(at, &format!("{}.{key}", self.shown), problem)
    }
}

/// Whether the users exist that a list names.
fn check_users(
    key: &str,
    config: &PathConfig,
    users: &BTreeMap<Arc<str>, User>,
) -> Result<(), ValueError> {
    let list = match key {
        "read" => &config.read,
        "publish" => &config.publish,
        "control" => &config.control,
        _ => return Ok(()),
    };
    match list.users().find(|name| !users.contains_key(*name)) {
        Some(name) => Err(ValueError::NoUser { name: name.to_string() }),
        None => Ok(()),
    }
}

/// Where the problem of a value is: at one entry of it, or at the whole.
fn place(value: &Spanned<DeValue<'_>>, problem: &ValueError) -> usize {
    let entry = match (value.get_ref(), problem) {
        (
            DeValue::Array(entries),
            ValueError::Fallback { place, .. } | ValueError::Playlist { place, .. },
        ) => entries.get(*place),
        (DeValue::Table(entries), ValueError::Lineup { key, problem }) => {
            match entries.iter().find(|(known, _)| known.get_ref() == key.as_str()) {
                Some((number, _)) if problem.is_of_number() => return number.span().start,
                found => found.map(|(_, entry)| entry),
            }
        }
        _ => None,
    };
    entry.unwrap_or(value).span().start
}

fn enter(paths: &mut PathTable, name: &str, config: Arc<PathConfig>) -> Result<(), ValueError> {
    if let Some(text) = name.strip_prefix(PATTERN) {
        paths.patterns.push(PathPattern::new(text, config)?);
        let found = paths.patterns.len();
        return at_most(found, PATTERNS_MAX);
    }
    if !is_path_name(name) {
        return Err(ValueError::PathName { text: name.to_owned() });
    }
    paths.named.insert(name.to_owned(), config);
    at_most(paths.named.len(), NAMED_MAX)
}

fn at_most(found: usize, max: usize) -> Result<(), ValueError> {
    if found > max { Err(ValueError::TooMany { found, max }) } else { Ok(()) }
}

/// The key whose entries are other sections.
const FALLBACK: &str = "fallback";
/// The key whose entries lead to other sections.
const LINEUP: &str = "lineup";

#[cfg(test)]
mod tests;
