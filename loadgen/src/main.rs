//! Entry point: command line in, report out, exit code.

use clap::Parser;
use headend_loadgen::cli::Options;
use headend_loadgen::run::{self, RunError};
use std::io::Write;
use std::process::ExitCode;

/// Some sessions failed, or packets were lost and that was asked to be a failure.
const EXIT_FAILED: u8 = 1;
/// As clap's own, for what only shows when the run begins.
const EXIT_USAGE: u8 = 2;
const EXIT_UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    let report = match run::run(&options) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("headend-loadgen: {error}");
            return ExitCode::from(match error {
                RunError::Unreachable { .. } => EXIT_UNREACHABLE,
                RunError::SharedPorts { .. } => EXIT_USAGE,
                RunError::System(_) => EXIT_FAILED,
            });
        }
    };
    let text = if options.json { report.to_json() } else { report.to_string() };
    // A reader that has gone away (a closed pipe) is no reason to fail.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    if report.is_failure(options.fail_on_loss) {
        return ExitCode::from(EXIT_FAILED);
    }
    ExitCode::SUCCESS
}
