//! Words of a server, which `serve` and `node` have in common.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::Failure;
use super::load;
use crate::config::value::Setting;
use crate::config::{FlagSetting, Loaded, Origin};

/// What a server is told beside the folder that it serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct ServerArgs {
    /// Configuration file (TOML)
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address for RTSP, may be given several times; port 0 takes any free one
    /// (by default `[::]:8554`)
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Vec<String>,
    /// Address of the HTTP API and metrics [default: 127.0.0.1:9997]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// UDP port for RTP, even; RTCP takes the next one; 0 takes any free pair [default: 8000]
    #[arg(long, value_name = "N")]
    pub rtp_port: Option<String>,
    /// CPUs that serve players: a count like 4, or CPUs like 0-3,8 or cpu:1
    #[arg(long, value_name = "N|CPU LIST")]
    pub shards: Option<String>,
    /// CPUs that read files: a count like 2, or CPUs like 4-5 or cpu:1
    #[arg(long, value_name = "N|CPU LIST")]
    pub workers: Option<String>,
    /// How urgent shards are: fifo is SCHED_FIFO with priority 10, fifo:N with N [default: normal]
    #[arg(long, value_name = "normal|fifo[:N]")]
    pub shard_priority: Option<String>,
    /// Folder that keeps edits of playlists for the next start
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// User that the server becomes when it has its ports; it is started as root then
    #[arg(long, value_name = "NAME[:GROUP]")]
    pub user: Option<String>,
    /// Form of the log [default: text on a terminal, json otherwise]
    #[arg(long, value_name = "text|json")]
    pub log: Option<String>,
}

impl ServerArgs {
    /// The configuration that the folder `root`, these words, the file they name and the
    /// environment add up to.
    ///
    /// # Errors
    /// A usage failure that names what is wrong.
    pub fn load(
        &self,
        root: Option<&Path>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, Failure> {
        let mut loaded = load(self.config.as_ref(), env, &self.flags())?;
        // Not a text setting: a folder's name need not be UTF-8.
        if let Some(root) = root {
            loaded.config.media_root = Some(root.to_owned());
            loaded.origins.insert("vod.root", Origin::Flag);
        }
        if let Some(dir) = &self.state {
            loaded.config.state_dir = Some(dir.clone());
            loaded.origins.insert("server.state_dir", Origin::Flag);
        }
        Ok(loaded)
    }

    fn flags(&self) -> Vec<FlagSetting> {
        let one = |key, flag, value: &Option<String>| {
            let value = Setting::Text(value.clone()?);
            Some(FlagSetting { key, flag, value })
        };
        let listen = (!self.listen.is_empty()).then(|| FlagSetting {
            key: "rtsp.listen",
            flag: "--listen",
            value: Setting::List(self.listen.clone()),
        });
        let flags = [
            listen,
            one("admin.listen", "--admin", &self.admin),
            one("rtsp.udp.rtp", "--rtp-port", &self.rtp_port),
            one("server.shards", "--shards", &self.shards),
            one("server.workers", "--workers", &self.workers),
            one("server.shard_priority", "--shard-priority", &self.shard_priority),
            one("server.user", "--user", &self.user),
            one("server.log", "--log", &self.log),
        ];
        flags.into_iter().flatten().collect()
    }
}
