//! Words of `drain`.

use clap::Args;

use super::RemoteArgs;

/// Words behind `drain`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct DrainArgs {
    /// Sessions that are left after this time are ended, like 30s or 10m [default: they may stay]
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<String>,
    /// Server that clients are sent to (302), rtsp://HOST:PORT; once more for rtsps://
    /// [default: server.redirect of the configuration]
    #[arg(long, value_name = "URL")]
    pub redirect: Vec<String>,
    /// The server ends when no session is left
    #[arg(long)]
    pub exit: bool,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}
