//! Words of `session move`.

use clap::Args;

use super::RemoteArgs;

/// Words behind `session move`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SessionMoveArgs {
    /// Id of the session
    #[arg(value_name = "ID")]
    pub id: String,
    /// Shard that it is to be on, as `session show` counts them, from 0
    #[arg(long, value_name = "N")]
    pub shard: u8,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}
