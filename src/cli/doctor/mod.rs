//! `headend doctor`: what this machine lacks, why it matters, and the command that fixes it.
//!
//! ```text
//! kernel --host, ring, gso, sockets--> Facts --judge--> Check {ok | warn | fail, cause, fix}
//! ```
//! Reading and judging are apart, so that judging is tested on sample texts. Nothing is changed on
//! the machine. Exit code 1 when a check fails, 0 otherwise.

use std::io::{self, Write};

use serde::Serialize;

use super::args::{DoctorArgs, load};
use super::{Exit, Failure, printable};

pub mod gso;
pub mod holder;
mod host;
mod judge;
pub mod ring;
mod sockets;

pub use host::kernel_release;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but worse than it could.
    Warn,
    /// Does not work.
    Fail,
}

/// One line of the examination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What follows from it, when it is not as it should be.
    pub cause: Option<String>,
    /// A command to copy.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, found: found.into(), cause: None, fix: None }
    }

    fn bad(
        level: Level,
        name: &'static str,
        found: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (cause, fix) = (Some(cause.into()), Some(fix.into()));
        Self { name, level, found: found.into(), cause, fix }
    }
}

pub(super) fn run(args: &DoctorArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let config = load(args.config.as_ref(), std::env::vars_os(), &[])?.config;
    let checks = judge::judge(&host::Facts::gather(&config));
    let failed = checks.iter().filter(|check| check.level == Level::Fail).count();
    let warned = checks.iter().filter(|check| check.level == Level::Warn).count();
    if args.json {
        let report = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "checks": checks,
            "warned": warned,
            "failed": failed,
        });
        writeln!(out, "{report:#}")?;
    } else {
        print(&checks, out)?;
        writeln!(out, "{} checks: {warned} to improve, {failed} to fix", checks.len())?;
    }
    Ok(if failed > 0 { Exit::Runtime } else { Exit::Ok })
}

/// Warnings about the machine for the start-up text: sentences with their fix.
#[must_use]
pub fn startup_warnings() -> Vec<String> {
    let checks = judge::buffers(&host::Sysctls::read());
    let bad = checks.into_iter().filter(|check| check.level != Level::Ok);
    bad.filter_map(|check| {
        let (cause, fix) = (check.cause?, check.fix?);
        Some(format!("{} {} {cause}; run: {fix}", check.name, check.found))
    })
    .collect()
}

fn print(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    for check in checks {
        let level = match check.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        writeln!(out, "{level}  {:<31} {}", check.name, printable(&check.found))?;
        if let Some(cause) = &check.cause {
            writeln!(out, "      why  {}", printable(cause))?;
        }
        if let Some(fix) = &check.fix {
            writeln!(out, "      fix  {}", printable(fix))?;
        }
    }
    Ok(())
}
