//! Words behind `cert`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Verbs behind `cert`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CertVerb {
    /// Make a certificate that is signed by itself, with its key, and print the lines for the
    /// configuration file
    SelfSigned(SelfSignedArgs),
}

/// Words behind `cert self-signed`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SelfSignedArgs {
    /// Host name or address of the server, may be given several times; by default this machine's
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Folder for cert.pem and key.pem
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// For how many days it counts
    #[arg(long, value_name = "N", default_value_t = 825,
        value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
}
