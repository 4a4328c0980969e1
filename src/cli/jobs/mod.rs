//! Verbs that ask a base: `headend job ..`, `headend node ls|show|drain|undrain|repair`.
//!
//! ```text
//! push --files--> uploads (a few at once) --PUT--> base <--polls-- watch --> bars, lines or JSON
//! live --command--> base     a live path, until the job is ended
//! watch <--events, deliveries-- base --> tree of who feeds whom
//! ls, show, query, report, verify --GET--> base          set --PATCH--> base
//! end, cancel, retry, pause, resume, drain, undrain, repair --POST--> base
//! ```
//! Everything is asked over the API of the base; nothing is decided here. Text of others goes
//! through [`super::printable`].
//! Invariant: `push` ends with 0 only when every target has verified every byte, unless `--detach`
//! says not to wait for that.

mod base;
mod files;
mod follow;
mod live;
mod nodes;
mod progress;
mod push;
mod show;
mod tree;
mod trust;
mod upload;
mod verify;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::job::{AskArgs, JobVerb, NodeVerb};
use super::{Exit, Failure, printable};
use crate::dist::quota::Quota;
use base::Base;

/// Variables of the environment.
type Env = Vec<(OsString, OsString)>;

/// `headend job VERB`.
pub(super) fn run_job(
    verb: &JobVerb,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let env: Env = env.into_iter().collect();
    match verb {
        JobVerb::Push(args) => push::run(args, &connect(&args.base, &env)?, out),
        JobVerb::Live(args) => live::run(args, &connect(&args.base, &env)?, out),
        JobVerb::Ls(args) => show::jobs(args, &connect(&args.base, &env)?, out),
        JobVerb::Show(args) => show::job(args, &connect(&args.base, &env)?, out),
        JobVerb::Watch(args) => follow::run(args, &connect(&args.base, &env)?, out),
        JobVerb::Query(args) => show::query(args, &connect(&args.base, &env)?, out),
        JobVerb::End(args) => show::act("end", args, &connect(&args.base, &env)?, out),
        JobVerb::Cancel(args) => show::act("cancel", args, &connect(&args.base, &env)?, out),
        JobVerb::Set(args) => show::set(args, &connect(&args.base, &env)?, out),
        JobVerb::Pause(args) => show::act("pause", args, &connect(&args.base, &env)?, out),
        JobVerb::Resume(args) => show::act("resume", args, &connect(&args.base, &env)?, out),
        JobVerb::Retry(args) => show::retry(args, &connect(&args.base, &env)?, out),
        JobVerb::Report(args) => show::report(args, &connect(&args.base, &env)?, out),
        JobVerb::Verify(args) => verify::run(args, &connect(&args.base, &env)?, out),
    }
}

/// `headend node VERB`.
pub(super) fn run_node(
    verb: &NodeVerb,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let env: Env = env.into_iter().collect();
    match verb {
        NodeVerb::Ls(args) => show::nodes(args, &connect(&args.base, &env)?, out),
        NodeVerb::Show(args) => show::node(args, &connect(&args.base, &env)?, out),
        NodeVerb::Drain(args) => nodes::drain(args, &connect(&args.base, &env)?, out),
        NodeVerb::Undrain(args) => nodes::act("undrain", args, &connect(&args.base, &env)?, out),
        NodeVerb::Repair(args) => nodes::act("repair", args, &connect(&args.base, &env)?, out),
    }
}

/// The base that the words or the environment name.
fn connect(args: &AskArgs, env: &Env) -> Result<Base, Failure> {
    let variable = |name: &str| {
        let found = env.iter().find(|(key, _)| key == name);
        found.and_then(|(_, value)| value.to_str()).map(str::to_owned)
    };
    let one = |flag: &Option<String>, name: &str, what: &str| {
        let word = flag.clone().or_else(|| variable(name)).filter(|word| !word.is_empty());
        word.ok_or_else(|| Failure::usage(format!("{what}, or {name} in the environment")))
    };
    let url = one(&args.base, "HEADEND_BASE", "where is the base? --base https://HOST:PORT")?;
    let token = one(&args.token, "HEADEND_TOKEN", "a provider's token is needed: --token T")?;
    let token = match Path::new(&token).is_file() {
        true => token_of(&token)?,
        false => token.trim().to_owned(),
    };
    let ca = args.ca.clone().or_else(|| variable("HEADEND_CA").map(PathBuf::from));
    Base::new(&url, &token, ca.as_deref())
}

/// The first token of a file of a base: `TOKEN`, or `NAME TOKEN` with more behind.
fn token_of(file: &str) -> Result<String, Failure> {
    let failed = |why: String| Failure::usage(format!("{}: {why}", printable(file)));
    let mut text = String::new();
    let opened =
        File::open(file).and_then(|file| file.take(TOKEN_FILE_MAX).read_to_string(&mut text));
    opened.map_err(|error| failed(error.to_string()))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut found = lines.filter_map(|line| {
        let mut words = line.split_whitespace().filter(|word| word.parse::<Quota>().is_err());
        let first = words.next()?;
        Some(words.next().unwrap_or(first).to_owned())
    });
    found.next().ok_or_else(|| failed("there is no token in it".to_owned()))
}

fn write_json(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    writeln!(out, "{text}")
}

/// A file of tokens has a line of a hundred bytes for each client.
const TOKEN_FILE_MAX: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_and_token_are_flags_before_the_environment_and_are_asked_for() {
        let env = |pairs: &[(&str, &str)]| -> Env {
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        let both = [("HEADEND_BASE", "http://127.0.0.1:7"), ("HEADEND_TOKEN", "hdp_x")];
        let args =
            |base: Option<&str>| AskArgs { base: base.map(str::to_owned), ..AskArgs::default() };
        let url = |base: &Base| base.url("/x");
        assert_eq!(url(&connect(&args(None), &env(&both)).unwrap()), "http://127.0.0.1:7/x");
        let flag = connect(&args(Some("http://b:8/")), &env(&both)).unwrap();
        assert_eq!(url(&flag), "http://b:8/x");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        std::fs::write(&file, "# of the newsroom\nnews hdp_y 2030-01-01T00:00:00Z\n").unwrap();
        let found = token_of(file.to_str().unwrap()).unwrap();
        assert_eq!(found, "hdp_y");
        std::fs::write(&file, "hdp_z jobs=2,bytes=1T\n").unwrap();
        assert_eq!(token_of(file.to_str().unwrap()).unwrap(), "hdp_z");
        std::fs::write(&file, "#\n").unwrap();
        assert_eq!(token_of(file.to_str().unwrap()).unwrap_err().exit, Exit::Usage);
        let failure = connect(&args(None), &env(&both[1..])).unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.contains("HEADEND_BASE"));
        let failure = connect(&args(None), &env(&both[..1])).unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.contains("--token"));
    }
}
