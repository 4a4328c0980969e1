//! The command line: `headend ./movies` and the verbs around it.
//!
//! ```text
//! words --args--> Cli --+-- serve          --> config --> appliance
//!                       +-- base           --> the base of a distribution
//!                       +-- node           --> the same, and what a base delivers
//!                       +-- probe FILE     --> tracks of a file
//!                       +-- doctor         --> what this machine lacks, and the fix
//!                       +-- config VERB    --> check, default, show
//!                       +-- cert VERB      --> certificate and key of the RTSPS port
//!                       +-- user VERB      --> hashes of passwords, tokens of operators
//!                       +-- path, session  --> API of a running server --> ls, show, kick
//!                       +-- drain, undrain --> the same --> no new sessions, and the deadline
//!                       +-- limits         --> the same --> what strangers use of each limit
//!                       +-- job            --> API of a base --> push, ls, show, report
//! ```
//! Invariant: results go to standard output, everything else to standard error; the exit code is
//! one of [`Exit`]. No other room prints.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

pub mod args;
pub mod banner;
mod base;
mod cert;
mod config_verb;
pub mod doctor;
mod generate;
mod jobs;
pub mod log;
pub mod missing;
mod node;
mod probe;
mod remote;
mod serve;
pub mod urls;
mod user;

pub use crate::base::text::printable;

use args::{Cli, Command};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Ok = 0,
    /// Something failed while it ran.
    Runtime = 1,
    /// What was asked for cannot be: wrong words, wrong configuration, a port that is taken.
    Usage = 2,
    /// A server that was to be asked does not answer.
    Unreachable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The end of a command that did not succeed: one sentence and an exit code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// One sentence: what, why, and what to do.
    pub message: String,
}

impl Failure {
    /// What was asked for cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    /// It failed while it ran.
    pub fn runtime(message: impl Into<String>) -> Self {
        Self { exit: Exit::Runtime, message: message.into() }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::runtime(error.to_string())
    }
}

/// Runs the command that `words` (the program's name first) ask for.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" with code 0; clap picks the stream by itself.
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return exit.into();
        }
    };
    // Not locked: the appliance writes its start-up text from a thread of its own choice.
    let mut out = io::stdout();
    let ended = run(cli, &mut out).and_then(|exit| out.flush().map(|()| exit).map_err(Into::into));
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            log::last_words(&format!("headend: {}\n", failure.message));
            failure.exit.into()
        }
    }
}

fn run(cli: Cli, out: &mut impl Write) -> Result<Exit, Failure> {
    match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Base(args)) => base::run(&args),
        Some(Command::Node(args)) => match &args.verb {
            Some(verb) => jobs::run_node(verb, std::env::vars_os(), out),
            None => node::run(&args, std::env::vars_os()),
        },
        Some(Command::Probe(args)) => probe::run(&args, out),
        Some(Command::Doctor(args)) => doctor::run(&args, out),
        Some(Command::Config { verb }) => config_verb::run(&verb, out),
        Some(Command::Cert { verb }) => cert::run(&verb, out),
        Some(Command::User { verb }) => user::run(&verb, out),
        Some(Command::Path { verb }) => remote::run_path(&verb, std::env::vars_os(), out),
        Some(Command::Session { verb }) => remote::run_session(&verb, std::env::vars_os(), out),
        Some(Command::Drain(args)) => remote::run_drain(&args, std::env::vars_os(), out),
        Some(Command::Undrain(args)) => remote::run_undrain(&args, std::env::vars_os(), out),
        Some(Command::Limits(args)) => remote::run_limits(&args, std::env::vars_os(), out),
        Some(Command::Job { verb }) => jobs::run_job(&verb, std::env::vars_os(), out),
        Some(Command::Generate(args)) => generate::run(&args),
    }
}
