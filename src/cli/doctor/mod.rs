//! `headend doctor`: what this machine lacks, why it matters, and the command that fixes it.
//!
//! ```text
//! kernel --host, machine, nic, ring--> Facts --judge--> Check {ok | skip | tip | warn | fail}
//!                                                ^                        --script--> fixes
//!                                         tuning/host.toml
//! ```
//! What a host should be like is data; a check that is not `ok` has its reason from there. Reading
//! and judging are apart, so that judging is tested on sample texts. Nothing is changed on
//! the machine. Exit code 1 when a check fails, 0 otherwise.

use std::io::{self, Write};

use serde::Serialize;

use super::args::{DoctorArgs, load};
use super::{Exit, Failure, printable};

mod ethtool;
pub mod gso;
pub mod holder;
mod host;
mod judge;
mod machine;
mod nic;
mod qdisc;
pub mod ring;
mod script;
mod sockets;
mod tree;
mod tuning;

pub use host::kernel_release;

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
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        let (name, found) = (name.into(), found.into());
        let level = Level::Ok;
        Self { name, entry: None, level, found, cause: None, fix: None, remedy: None }
    }

    fn skip(name: impl Into<String>, cause: impl Into<String>) -> Self {
        let cause = Some(cause.into());
        Self { level: Level::Skip, cause, ..Self::ok(name, "") }
    }

    fn bad(
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
    fn by_command(self) -> Self {
        Self { remedy: self.fix.clone().map(Remedy::Command), ..self }
    }

    /// The same, fixed by a sysctl.
    fn by_sysctl(self, key: &str, value: &str) -> Self {
        let word = if value.contains(' ') { format!("\"{value}\"") } else { value.to_owned() };
        let remedy = Remedy::Sysctl { key: key.to_owned(), value: value.to_owned() };
        let fix = format!("sudo sysctl -w {key}={word}");
        Self { fix: Some(fix), remedy: Some(remedy), ..self }
    }

    fn of(self, entry: &'static tuning::Entry) -> Self {
        Self { entry: Some(&entry.key), ..self }
    }
}

pub(super) fn run(args: &DoctorArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let config = load(args.config.as_ref(), std::env::vars_os(), &[])?.config;
    let checks = judge::judge(&host::Facts::gather(&config));
    let count = |level| checks.iter().filter(|check| check.level == level).count();
    let (failed, warned) = (count(Level::Fail), count(Level::Warn));
    let (tips, skipped) = (count(Level::Tip), count(Level::Skip));
    if args.fix_script {
        script::write(&checks, out)?;
        return Ok(Exit::Ok);
    }
    if args.json {
        let report = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "checks": checks,
            "skipped": skipped,
            "tips": tips,
            "warned": warned,
            "failed": failed,
        });
        writeln!(out, "{report:#}")?;
    } else {
        print(&checks, out)?;
        writeln!(
            out,
            "{} checks: {failed} to fix, {warned} to improve, {tips} tips for busy servers, \
             {skipped} not to be known or not needed here",
            checks.len()
        )?;
        if checks.iter().any(|check| check.remedy.is_some()) {
            writeln!(out, "headend doctor --fix-script prints the commands as one script")?;
        }
    }
    Ok(if failed > 0 { Exit::Runtime } else { Exit::Ok })
}

/// Warnings about the machine for the start-up text: sentences with their fix.
#[must_use]
pub fn startup_warnings() -> Vec<String> {
    let tree = tree::Tree::of_this_machine();
    let buffers = ["net.core.rmem_max", "net.core.wmem_max"];
    let entries = buffers.into_iter().filter_map(tuning::sysctl);
    let warning = |entry: &'static tuning::Entry| {
        let check = judge::sysctl(entry, &tree.sysctl(&entry.key)?);
        let (fix, code) = (check.fix?, entry.code.as_deref().unwrap_or_default());
        Some(format!("{} {} is small for UDP ({code}); run: {fix}", check.name, check.found))
    };
    entries.filter_map(warning).collect()
}

fn print(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    for check in checks.iter().filter(|check| check.level != Level::Skip) {
        let level = match check.level {
            Level::Ok => "ok  ",
            Level::Skip => "skip",
            Level::Tip => "tip ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        writeln!(out, "{level}  {:<36} {}", check.name, printable(&check.found))?;
        if let Some(cause) = &check.cause {
            wrap(cause, "      why  ", "           ", out)?;
        }
        if let Some(fix) = &check.fix {
            writeln!(out, "      fix  {}", printable(fix))?;
        }
    }
    print_skipped(checks, out)
}

/// A sentence over as many lines as it takes; `first` and `next` stand before them.
fn wrap(text: &str, first: &str, next: &str, out: &mut impl Write) -> io::Result<()> {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in printable(text).split(' ') {
        if !is_empty && line.len() + 1 + word.len() > COLUMNS {
            writeln!(out, "{line}")?;
            line = next.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(out, "{line}")
}

/// Of a line of reasons; commands are never broken.
const COLUMNS: usize = 100;

/// What is not known, by its reason: many things are hidden together.
fn print_skipped(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for check in checks.iter().filter(|check| check.level == Level::Skip) {
        let cause = check.cause.as_deref().unwrap_or_default();
        match reasons.iter_mut().find(|(reason, _)| *reason == cause) {
            Some((_, names)) => names.push(&check.name),
            None => reasons.push((cause, vec![&check.name])),
        }
    }
    for (cause, names) in reasons {
        wrap(&names.join(", "), "skip  ", "      ", out)?;
        wrap(cause, "      why  ", "           ", out)?;
    }
    Ok(())
}
