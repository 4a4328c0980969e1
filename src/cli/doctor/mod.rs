//! `headend doctor`: prints what this machine lacks, why it matters, and the command that fixes it.
//!
//! ```text
//! host --Checks--> text | JSON | script (`--fix-script`)
//! ```
//! Exit code 1 when a check fails, 0 otherwise.

use std::io::{self, Write};

use super::args::{DoctorArgs, load};
use super::{Exit, Failure, printable};
use crate::host::{self, Check, Level};
use crate::shard::ktls::is_available;
use crate::shard::priority::try_fifo;

mod script;

pub(super) fn run(args: &DoctorArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let config = load(args.config.as_ref(), std::env::vars_os(), &[])?.config;
    let checks = host::examine(&config, try_fifo, is_available);
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

#[cfg(test)]
mod tests;
