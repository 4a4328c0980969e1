//! Verbs that ask a running server: `headend path ...`, `headend session ...`, `config reload`.
//!
//! ```text
//! words --> client --HTTP--> API of the server --JSON--> table for people, or JSON as it came
//! ```
//! Nothing is decided here: a verb is one question of the API, or one for each page of a list.
//! Text of a server goes through [`super::printable`]: names of paths and clients are strangers'.

mod client;
mod config;
mod path;
mod playlist;
mod session;
pub(super) mod table;

use std::ffi::OsString;
use std::io::{self, Write};

use serde_json::Value;

use super::args::{PathVerb, RemoteArgs, SessionVerb};
use super::{Exit, Failure};
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

/// The server that the words mean.
fn connect(
    args: &RemoteArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Client, Failure> {
    Client::new(args.address(env)?)
}

fn write_json(value: &Value, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{value:#}")
}
