//! One line of the examination: what was looked at, how bad it is, why, and how it is fixed.
//!
//! Invariant: what is bad has a cause and a fix; a [`Remedy`] is what a script may run of it.

use serde::Serialize;

use super::tuning::Entry;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Cannot be known here, or is not needed; no fault.
    Skip,
    /// Would be better otherwise on a busy server.
    Tip,
    /// Works, but worse than it could.
    Warn,
    /// Does not work.
    Fail,
}

/// One line of the examination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// The entry of `tuning/host.toml` that asks for it; `None` for what has none.
    pub entry: Option<&'static str>,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What follows from it, or why it is not known.
    pub cause: Option<String>,
    /// A command to copy; only where something is to be done.
    pub fix: Option<String>,
    /// What a script can do about it.
    #[serde(skip)]
    pub remedy: Option<Remedy>,
}

/// A fix that needs no decision of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// A sysctl, which lasts when it is written to a file.
    Sysctl {
        /// Its key.
        key: String,
        /// What it should be.
        value: String,
    },
    /// A command for root, whose effect lasts until the next boot.
    Command(String),
}

impl Check {
    pub(crate) fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        let (name, found) = (name.into(), found.into());
        let level = Level::Ok;
        Self { name, entry: None, level, found, cause: None, fix: None, remedy: None }
    }

    pub(crate) fn skip(name: impl Into<String>, cause: impl Into<String>) -> Self {
        let cause = Some(cause.into());
        Self { level: Level::Skip, cause, ..Self::ok(name, "") }
    }

    pub(crate) fn bad(
        level: Level,
        name: impl Into<String>,
        found: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (cause, fix) = (Some(cause.into()), Some(fix.into()));
        Self { level, cause, fix, ..Self::ok(name, found) }
    }

    /// The same, and a script can run what `fix` says.
    pub(crate) fn by_command(self) -> Self {
        Self { remedy: self.fix.clone().map(Remedy::Command), ..self }
    }

    /// The same, fixed by a sysctl.
    pub(crate) fn by_sysctl(self, key: &str, value: &str) -> Self {
        let word = if value.contains(' ') { format!("\"{value}\"") } else { value.to_owned() };
        let remedy = Remedy::Sysctl { key: key.to_owned(), value: value.to_owned() };
        let fix = format!("sudo sysctl -w {key}={word}");
        Self { fix: Some(fix), remedy: Some(remedy), ..self }
    }

    pub(super) fn of(self, entry: &'static Entry) -> Self {
        Self { entry: Some(&entry.key), ..self }
    }
}
