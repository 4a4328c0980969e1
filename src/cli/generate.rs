//! `headend generate DIR`: files of a package that follow from the program itself.
//!
//! ```text
//! command line --> DIR/man/headend.1, headend-serve.1, ..    DIR/completions/headend.bash, ..
//! sandbox      --> DIR/seccomp.json
//! ```
//! For who makes packages: it is not in `--help`.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::{Cli, GenerateArgs};
use super::{Exit, Failure};
use crate::sandbox::profile;

pub(super) fn run(args: &GenerateArgs) -> Result<Exit, Failure> {
    let (man, completions) = (args.dir.join("man"), args.dir.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    }
    clap_mangen::generate_to(Cli::command(), &man).map_err(|error| failed(&man, &error))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "headend", &completions)
            .map_err(|error| failed(&completions, &error))?;
    }
    let file = args.dir.join("seccomp.json");
    fs::write(&file, profile::to_json()).map_err(|error| failed(&file, &error))?;
    Ok(Exit::Ok)
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::runtime(format!("{}: {error}", path.display()))
}
