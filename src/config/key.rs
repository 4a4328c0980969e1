//! A key of the configuration: its name, its help, and how its value is read and shown.
//!
//! ```text
//! file, environment, flag --Setting--> Key::write --> Config, PathConfig
//! `config default`, `config show`, reload <--text of TOML-- Key::show
//! ```
//! Invariant: what `show` says, `write` takes, and it makes the same value of it. A source with a
//! password is the exception, and so is a URL with one: they are shown without.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::LogFormat;
use super::access::{Methods, OnFailure};
use super::access_list::AccessList;
use super::confinement::SeccompMode;
use super::lineup::Lineup;
use super::path_scope::PathsOf;
use super::paths::{SourceTransport, StartConfig};
use super::playlist::{PlaylistClock, PlaylistItem};
use super::redirect::Redirect;
use super::secure::SrtpMode;
use super::value::{METHODS, ON_FAILURE, STARTS, Setting, TRANSPORTS, show_duration, show_size};
use super::value_error::ValueError;
use crate::base::mode::Mode;

/// One key of a configuration `C`.
pub struct Key<C: 'static> {
    /// With dots: `rtsp.listen`. The part before the first dot is the TOML section; keys of paths
    /// have none.
    pub name: &'static str,
    /// What it is, with unit and range, for `config default`.
    pub help: &'static str,
    /// Why its default is what it is; empty where that needs no reason.
    pub why: &'static str,
    /// Another key that means the same and is the one shown.
    pub same_as: Option<&'static str>,
    /// Paths that it says something about, where it is a key of paths.
    pub(super) of: PathsOf,
    /// Puts a value into the configuration.
    pub(super) write: fn(&mut C, &Setting) -> Result<(), ValueError>,
    /// The value as TOML, without passwords; `None` when it is not set.
    pub show: fn(&C) -> Option<String>,
}

/// A row of a table of keys: name, field, how [`Setting`] reads it, which function of this module
/// shows it, what is special about it, help, the reason for its default.
macro_rules! key {
    (
        $name:literal, $($field:ident).+ = $read:ident($($limit:expr),*) => $show:ident
        $(, of $of:ident)? $(, same_as $twin:literal)?, $help:literal $(, why $why:literal)?
    ) => {
        $crate::config::key::Key {
            name: $name,
            help: $help,
            why: [$($why,)? ""][0],
            // The first one: what is said, or what is so unless it is said.
            same_as: [$(Some($twin),)? None][0],
            of: [$(PathsOf::$of,)? PathsOf::Live][0],
            write: |config, value| {
                config.$($field).+ = value.$read($($limit),*)?;
                Ok(())
            },
            show: |config| $crate::config::key::$show(&config.$($field).+).into(),
        }
    };
}
pub(super) use key;

impl<C> Key<C> {
    /// Its name within its section.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_section, name)| name)
    }
}

impl<C> std::fmt::Debug for Key<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// As it is: numbers and booleans.
pub(super) fn plain<T: ToString>(value: &T) -> String {
    value.to_string()
}

pub(super) fn text<T: ToString>(value: &T) -> String {
    quoted(&value.to_string())
}

pub(super) fn list<T: ToString>(values: &[T]) -> String {
    format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", "))
}

pub(super) fn list_or_off<T: ToString>(values: &[T]) -> String {
    if values.is_empty() { quoted("off") } else { list(values) }
}

pub(super) fn redirect(redirect: &Redirect) -> String {
    list(&redirect.urls().collect::<Vec<_>>())
}

pub(super) fn playlist(items: &[PlaylistItem]) -> String {
    format!("[{}]", items.iter().map(PlaylistItem::shown).collect::<Vec<_>>().join(", "))
}

pub(super) fn playlist_clock(clock: &PlaylistClock) -> String {
    quoted(clock.as_str())
}

pub(super) fn title(title: &Option<Arc<str>>) -> Option<String> {
    title.as_deref().map(quoted)
}

pub(super) fn access_list(clients: &AccessList) -> String {
    let texts = clients.texts();
    if clients.is_auto() { texts.iter().map(text).collect() } else { list(&texts) }
}

pub(super) fn methods(methods: &Methods) -> String {
    quoted(METHODS[*methods as usize])
}

pub(super) fn srtp_mode(mode: &SrtpMode) -> String {
    quoted(mode.as_str())
}

pub(super) fn on_failure(on_failure: &OnFailure) -> String {
    quoted(ON_FAILURE[*on_failure as usize])
}

pub(super) fn text_or_none<T: ToString>(value: &Option<T>) -> Option<String> {
    value.as_ref().map(text)
}

pub(super) fn lineup(lineup: &Lineup) -> String {
    let channels = lineup.iter().map(|(number, source)| {
        let name = quoted(source.name());
        format!("{number} = {name}")
    });
    match channels.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "{}".to_owned(),
        channels => format!("{{ {channels} }}"),
    }
}

pub(super) fn duration(value: &Duration) -> String {
    quoted(&show_duration(*value))
}

pub(super) fn duration_or_auto(value: &Option<Duration>) -> String {
    value.as_ref().map_or_else(|| quoted("auto"), duration)
}

pub(super) fn size(bytes: &usize) -> String {
    quoted(&show_size(*bytes))
}

pub(super) fn count_or_auto(count: &Option<u32>) -> String {
    count.as_ref().map_or_else(|| quoted("auto"), plain)
}

pub(super) fn auto_or_off(is_auto: &bool) -> String {
    quoted(if *is_auto { "auto" } else { "off" })
}

pub(super) fn auto_off_or_unset(is_auto: &Option<bool>) -> Option<String> {
    is_auto.as_ref().map(auto_or_off)
}

pub(super) fn mode(mode: &Mode) -> String {
    quoted(mode.as_str())
}

pub(super) fn seccomp(mode: &SeccompMode) -> String {
    quoted(mode.as_str())
}

pub(super) fn log_format(format: &LogFormat) -> String {
    quoted(format.as_str())
}

pub(super) fn group_range(range: &Option<(Ipv4Addr, u8)>) -> String {
    let text = range.map(|(first, prefix)| format!("{first}/{prefix}"));
    quoted(text.as_deref().unwrap_or("off"))
}

pub(super) fn interface(address: &Option<Ipv4Addr>) -> String {
    address.as_ref().map_or_else(|| quoted("auto"), text)
}

pub(super) fn folder(folder: &Option<PathBuf>) -> Option<String> {
    folder.as_ref().map(|folder| quoted(&folder.to_string_lossy()))
}

pub(super) fn transport(transport: &SourceTransport) -> String {
    quoted(TRANSPORTS[*transport as usize])
}

pub(super) fn start(start: &StartConfig) -> String {
    quoted(STARTS[*start as usize])
}
