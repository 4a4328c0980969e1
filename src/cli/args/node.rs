//! Words behind `node`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::ServeArgs;
use super::job::NodeVerb;
use crate::base::rate::Rate;
use crate::dist::ids::NodeName;

/// Words behind `node`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NodeArgs {
    /// Asks a base; without one a node is started.
    #[command(subcommand)]
    pub verb: Option<NodeVerb>,
    /// The node to start.
    #[command(flatten)]
    pub start: NodeStartArgs,
}

/// Words behind `node` that start one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct NodeStartArgs {
    /// The base, like http://192.0.2.1:9000
    #[arg(long, value_name = "URL")]
    pub base: Option<String>,
    /// Join token, or a file that holds it; needed the first time only
    /// [default: of the environment, HEADEND_JOIN_TOKEN]
    #[arg(long, value_name = "TOKEN|FILE")]
    pub join: Option<String>,
    /// Folder that contents are delivered to and that is served, at /vod/; it is made when it is
    /// not there
    #[arg(long, value_name = "DIR")]
    pub media: Option<PathBuf>,
    /// Name of the node, one of a kind [default: the name of this host]
    #[arg(long, value_name = "NAME", value_parser = NodeName::new)]
    pub name: Option<NodeName>,
    /// Label by which jobs choose nodes, like site=north; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Rate at which contents are sent to other nodes at most: 200M is 200 Mbit/s
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    pub up_rate: Option<Rate>,
    /// Rate at which contents are received at most
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    pub down_rate: Option<Rate>,
    /// Address for other nodes [default: `[::]:9996`, or a free port where that is taken]
    #[arg(long, value_name = "IP:PORT")]
    pub peer_listen: Option<SocketAddr>,
    /// Configuration file (TOML)
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address for RTSP, may be given several times; port 0 takes any free one
    /// (by default `[::]:8554`)
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Vec<String>,
    /// Address of the HTTP API and metrics [default: 127.0.0.1:9997, or a free port]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// UDP port for RTP, even; RTCP takes the next one [default: 8000, or a free pair]
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
    /// Form of the log [default: text on a terminal, json otherwise]
    #[arg(long, value_name = "text|json")]
    pub log: Option<String>,
}

impl NodeStartArgs {
    /// What the same words say behind `serve`.
    #[must_use]
    pub fn as_serve(&self) -> ServeArgs {
        ServeArgs {
            dir: self.media.clone(),
            config: self.config.clone(),
            listen: self.listen.clone(),
            admin: self.admin.clone(),
            rtp_port: self.rtp_port.clone(),
            shards: self.shards.clone(),
            workers: self.workers.clone(),
            shard_priority: self.shard_priority.clone(),
            state: self.state.clone(),
            log: self.log.clone(),
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let is_word = |word: &str| {
        (1..=LABEL_BYTES_MAX).contains(&word.len())
            && !word.contains([',', '=', ' '])
            && !word.chars().any(char::is_control)
    };
    let pair = text.split_once('=').filter(|(key, value)| is_word(key) && is_word(value));
    let (key, value) = pair.ok_or("KEY=VALUE is expected, without commas and spaces")?;
    Ok((key.to_owned(), value.to_owned()))
}

const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn parse(line: &str) -> Result<NodeStartArgs, String> {
        let cli =
            Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        match cli.command {
            Some(Command::Node(args)) => Ok(args.start),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn words_of_a_node_and_of_serving_go_together() {
        let args = parse(
            "headend node --base http://b:1 --join hdj_x --media m --listen 127.0.0.1:0 --name e-1 \
             --label site=north --label tier=edge --up-rate 20M --peer-listen 127.0.0.1:0",
        )
        .unwrap();
        assert_eq!(args.label.len(), 2);
        assert_eq!(args.up_rate.map(Rate::bytes_per_s), Some(2_500_000));
        let config = args.as_serve().load([]).unwrap().config;
        assert_eq!(config.media_root, Some("m".into()));
        assert_eq!(config.listen.len(), 1);
    }

    #[test]
    fn wrong_words_are_refused() {
        let wrong =
            ["--name A", "--label x", "--label a=b,c", "--up-rate x", "--peer-listen x", "x"];
        for wrong in wrong {
            assert!(parse(&format!("headend node {wrong}")).is_err(), "{wrong}");
        }
    }
}
