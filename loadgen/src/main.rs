//! Entry point: command line in, report out, exit code.

use clap::Parser;
use headend_loadgen::auth::redacted;
use headend_loadgen::cli::Options;
use headend_loadgen::html;
use headend_loadgen::run::{self, RunError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Some sessions failed, or packets were lost and that was asked to be a failure.
const EXIT_FAILED: u8 = 1;
/// As clap's own, for what only shows when the run begins.
const EXIT_USAGE: u8 = 2;
const EXIT_UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    let mut report = match run::run_until(&options, &interrupts()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("headend-loadgen: {error}");
            return ExitCode::from(match error {
                RunError::Unreachable { .. } | RunError::Publish { .. } => EXIT_UNREACHABLE,
                RunError::SharedPorts { .. } | RunError::StallWithoutTcp => EXIT_USAGE,
                RunError::Descriptors { .. } | RunError::System(_) => EXIT_FAILED,
            });
        }
    };
    report.command = std::env::args().map(|word| redacted(&word)).collect::<Vec<_>>().join(" ");
    let text = if options.json { report.to_json() } else { report.to_string() };
    // A reader that has gone away (a closed pipe) is no reason to fail.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    if let Some(path) = &options.html
        && let Err(error) = std::fs::write(path, html::page(&report))
    {
        eprintln!("headend-loadgen: {}: {error}", path.display());
        return ExitCode::from(EXIT_FAILED);
    }
    if report.is_failure(options.fail_on_loss) {
        return ExitCode::from(EXIT_FAILED);
    }
    ExitCode::SUCCESS
}

/// Set by the first SIGINT or SIGTERM; a second one ends the program at once.
fn interrupts() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first must not find the flag set by itself.
        let second = flag::register_conditional_default(signal, Arc::clone(&flag));
        if second.and_then(|_| flag::register(signal, Arc::clone(&flag))).is_err() {
            eprintln!("headend-loadgen: signals end the program without a report");
        }
    }
    flag
}
