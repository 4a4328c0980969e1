//! Verbs that ask a running server: `headend path ...`, `headend session ...`, `headend limits`,
//! `config reload`, `headend drain`.
//!
//! ```text
//! words --> client --HTTP--> API of the server --JSON--> table for people, or JSON as it came
//! ```
//! Nothing is decided here: a verb is one question of the API, or one for each page of a list.
//! Text of a server goes through [`super::printable`]: names of paths and clients are strangers'.

mod client;
mod config;
mod drain;
mod limits;
mod path;
mod playlist;
mod session;
pub(super) mod table;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use super::args::{DrainArgs, PathVerb, RemoteArgs, SessionVerb};
use super::{Exit, Failure};
use crate::base::secret::Secret;
use client::Client;

/// `headend path VERB`.
pub(super) fn run_path(
    verb: &PathVerb,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    path::run(verb, env, out)
}

/// `headend session VERB`.
pub(super) fn run_session(
    verb: &SessionVerb,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    session::run(verb, env, out)
}

/// `headend config reload`.
pub(super) fn run_reload(
    args: &RemoteArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    config::reload(args, env, out)
}

/// `headend drain`.
pub(super) fn run_drain(
    args: &DrainArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    drain::drain(args, env, out)
}

/// `headend undrain`.
pub(super) fn run_undrain(
    args: &RemoteArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    drain::undrain(args, env, out)
}

/// `headend limits`.
pub(super) fn run_limits(
    args: &RemoteArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    limits::run(args, env, out)
}

/// The server that the words mean.
fn connect(
    args: &RemoteArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Client, Failure> {
    let env: Vec<(OsString, OsString)> = env.into_iter().collect();
    let of_env = env.iter().find(|(name, _)| name == "HEADEND_ADMIN_TOKEN");
    let token = match (&args.token, of_env) {
        (Some(file), _) => Some(read_token(file)?),
        (None, Some((_, value))) => Some(Secret::new(value.to_string_lossy().trim())),
        (None, None) => None,
    };
    Client::new(args.address(env)?, token)
}

/// The token in a file: its first word.
fn read_token(file: &Path) -> Result<Secret, Failure> {
    let wrong = |why: &dyn Display| Failure::usage(format!("--token: {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let word = text.split_whitespace().next().ok_or_else(|| wrong(&"there is no token in it"))?;
    Ok(Secret::new(word))
}

fn write_json(value: &Value, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{value:#}")
}
