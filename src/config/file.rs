//! Reads a TOML file into a configuration.
//!
//! ```text
//! [rtsp]                 rtsp            a table: part of a key
//! udp = { rtp = 8000 }   rtsp.udp.rtp    a value: looked up in the table of keys
//! [path."live/cam1"]     path            `path_file` reads it
//! [user."ann"]           user            `user_file` reads it
//! ```
//! Invariant: every leaf of the file is either applied or reported with its place.

use std::borrow::Cow;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Position};
use super::keys::KEYS;
use super::value::{ListEntry, Setting};
use super::value_error::ValueError;
use super::{Loaded, Origin, nearest, path_file, set, user_file};

/// Applies the text of a file; `name` is for errors.
pub(super) fn apply(name: &str, text: &str, loaded: &mut Loaded) -> Result<(), ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        file: name.to_owned(),
        at: Position::of(text, error.span().map_or(0, |span| span.start)),
        message: one_line(error.message()),
    })?;
    let file = File { name, text };
    // Before paths, whose lists name them.
    if let Some(users) = table.get_ref().get(USERS) {
        loaded.users = user_file::read(&file, users)?;
    }
    file.apply_table("", table.get_ref(), loaded)
}

/// A file that is read.
pub(super) struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn apply_table(
        &self,
        prefix: &str,
        table: &DeTable<'_>,
        loaded: &mut Loaded,
    ) -> Result<(), ConfigError> {
        // The parser keeps keys sorted by name; errors are wanted in the order of the file.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let word = key.get_ref();
            let path =
                if prefix.is_empty() { word.to_string() } else { format!("{prefix}.{word}") };
            if path == USERS {
                continue;
            }
            if path == PATHS {
                (loaded.config.paths, loaded.paths) =
                    path_file::read(self, value, &loaded.users)
                        .map(|(paths, sections)| (Arc::new(paths), sections))?;
                continue;
            }
            let known = KEYS.iter().find(|known| known.name == path);
            let is_section = KEYS.iter().any(|known| is_below(known.name, &path));
            match (known, value.get_ref()) {
                // Depth is bounded by the keys: only sections of known keys are entered.
                (None, DeValue::Table(inner)) if is_section => {
                    self.apply_table(&path, inner, loaded)?;
                }
                (Some(known), _) => {
                    let at = value.span().start;
                    let applied = setting(value)
                        .and_then(|setting| set(loaded, known, &setting, Origin::File));
                    applied.map_err(|problem| self.value_error(at, &path, problem))?;
                }
                (None, _) if is_section => {
                    let problem = ValueError::Kind { found: value.get_ref().type_str() };
                    return Err(self.value_error(value.span().start, &path, problem));
                }
                (None, _) => return Err(self.unknown(key.span().start, path)),
            }
        }
        Ok(())
    }

    /// A value that has to be a table.
    pub(super) fn table_of<'v>(
        &self,
        key: &str,
        value: &'v Spanned<DeValue<'v>>,
    ) -> Result<&'v DeTable<'v>, ConfigError> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            other => {
                let problem = ValueError::Kind { found: other.type_str() };
                Err(self.value_error(value.span().start, key, problem))
            }
        }
    }

    pub(super) fn value_error(&self, offset: usize, key: &str, problem: ValueError) -> ConfigError {
        ConfigError::Value {
            file: self.name.to_owned(),
            at: Position::of(self.text, offset),
            key: key.to_owned(),
            problem,
        }
    }

    fn unknown(&self, offset: usize, key: String) -> ConfigError {
        // A wrong section is compared with sections, a wrong key with whole keys.
        let sections = KEYS.iter().filter_map(|known| known.name.split_once('.')).map(|(s, _)| s);
        let sections = sections.chain([PATHS, USERS]);
        let nearest = if key.contains('.') {
            nearest(&key, KEYS.iter().map(|known| known.name))
        } else {
            let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
            let by_last = KEYS.iter().find(|known| last(known.name) == key);
            let by_last = by_last.map(|known| known.name.to_owned());
            by_last.or_else(|| nearest(&key, sections))
        };
        self.unknown_key(offset, key, nearest)
    }

    pub(super) fn unknown_key(
        &self,
        offset: usize,
        key: String,
        nearest: Option<String>,
    ) -> ConfigError {
        ConfigError::UnknownKey {
            file: self.name.to_owned(),
            at: Position::of(self.text, offset),
            key,
            nearest,
        }
    }
}

fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

pub(super) fn setting(value: &Spanned<DeValue<'_>>) -> Result<Setting, ValueError> {
    match value.get_ref() {
        DeValue::String(text) => Ok(Setting::Text(text.to_string())),
        DeValue::Boolean(is_so) => Ok(Setting::Boolean(*is_so)),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map(Setting::Integer)
            .map_err(|_| ValueError::Kind { found: "integer of more than 64 bits" }),
        DeValue::Array(items) if items.iter().any(|item| is_table(item.get_ref())) => {
            items.iter().map(entry).collect::<Result<_, _>>().map(Setting::Entries)
        }
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(ValueError::Kind { found: other.type_str() }),
            });
            texts.collect::<Result<_, _>>().map(Setting::List)
        }
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| key.span().start);
            let text = |value: &DeValue<'_>| match value {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(other.type_str()),
            };
            let entry = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                (key.get_ref().to_string(), text(value.get_ref()))
            };
            Ok(Setting::Table(entries.into_iter().map(entry).collect()))
        }
        other => Err(ValueError::Kind { found: other.type_str() }),
    }
}

fn is_table(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::Table(_))
}

/// An entry of a list that has tables. A time of TOML is taken as its text.
fn entry(item: &Spanned<DeValue<'_>>) -> Result<ListEntry, ValueError> {
    let text = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Datetime(time) => Ok(time.to_string()),
        other => Err(other.type_str()),
    };
    match item.get_ref() {
        DeValue::Table(table) => {
            let mut words: Vec<_> = table.iter().collect();
            words.sort_by_key(|(word, _)| word.span().start);
            let words = words
                .iter()
                .map(|(word, value)| (word.get_ref().to_string(), text(value.get_ref())));
            Ok(ListEntry::Table(words.collect()))
        }
        other => text(other).map(ListEntry::Text).map_err(|found| ValueError::Kind { found }),
    }
}

/// The table that has a section for each user.
const USERS: &str = "user";
/// The table that has a section for each path.
const PATHS: &str = "path";

/// The parser's messages have line breaks; ours are one sentence.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
