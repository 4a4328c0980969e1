//! Words behind `user`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Verbs behind `user`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserVerb {
    /// Print the lines of a user for the configuration file; the password is read from standard
    /// input
    Add(UserAddArgs),
    /// Make a token of the HTTP API, and print its line for the file of `admin.tokens`
    Token(UserTokenArgs),
}

/// Words behind `user add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UserAddArgs {
    /// Name of the user
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Also print the hashes that Digest needs. Whoever reads them can log in by Digest, and the
    /// password is guessed from them a million times faster than from the other hash
    #[arg(long)]
    pub digest: bool,
    /// Make a random password and print it on standard error
    #[arg(long)]
    pub generate: bool,
    /// Add the lines to this configuration file instead of printing them
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

/// Words behind `user token`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UserTokenArgs {
    /// Who will have it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it is for: read, or control, which ends sessions and changes paths, too
    #[arg(long, value_enum, default_value_t, value_name = "ROLE")]
    pub role: TokenRole,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum TokenRole {
    /// To ask.
    #[default]
    Read,
    /// To change things, too.
    Control,
}
