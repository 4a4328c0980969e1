//! Words behind `node`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::ServerArgs;
use super::job::{NodeVerb, window_and_rate};
use crate::base::rate::Rate;
use crate::dist::ids::NodeName;
use crate::dist::window::Window;

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

/// Words behind `node` that start one. Ports that nobody has set may be others than those of a
/// server alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(mut_arg("admin", |arg| arg.help(ADMIN_HELP)))]
#[command(mut_arg("rtp_port", |arg| arg.help(RTP_HELP)))]
pub struct NodeStartArgs {
    /// The base, like https://192.0.2.1:9000; bases that stand by for each other with commas
    /// between
    #[arg(long, value_name = "URL")]
    pub base: Option<String>,
    /// Join token, or a file that holds it; needed the first time only
    /// [default: of the environment, HEADEND_JOIN_TOKEN]
    #[arg(long, value_name = "TOKEN|FILE")]
    pub join: Option<String>,
    /// Certificate of the base's CA (PEM), where the join token has no fingerprint of it
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Do without TLS: everyone on the way can read and change what is sent
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
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
    /// Another rate by time of day, like `mon-fri 08:00-18:00 Europe/Berlin=50M`; may be given
    /// several times: the first one whose window is open counts, else --up-rate
    #[arg(long, value_name = "WINDOW=RATE", value_parser = window_and_rate)]
    pub up_window: Vec<(Window, Rate)>,
    /// Rate at which contents are received at most
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    pub down_rate: Option<Rate>,
    /// Address for other nodes [default: `[::]:9996`, or a free port where that is taken]
    #[arg(long, value_name = "IP:PORT")]
    pub peer_listen: Option<SocketAddr>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
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
const ADMIN_HELP: &str =
    "Address of the HTTP API and metrics [default: 127.0.0.1:9997, or a free port]";
const RTP_HELP: &str =
    "UDP port for RTP, even; RTCP takes the next one [default: 8000, or a free pair]";

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
            "headend node --base https://b:1 --join hdj_x --media m --listen 127.0.0.1:0 --name e-1 \
             --label site=north --label tier=edge --up-rate 20M --up-window 08:00-18:00=5M --peer-listen 127.0.0.1:0",
        )
        .unwrap();
        assert_eq!(args.label.len(), 2);
        assert_eq!(args.up_rate.map(Rate::bytes_per_s), Some(2_500_000));
        assert_eq!(args.up_window[0].1.bytes_per_s(), 625_000);
        let config = args.server.load(args.media.as_deref(), []).unwrap().config;
        assert_eq!(config.media_root, Some("m".into()));
        assert_eq!(config.listen.len(), 1);
    }

    #[test]
    fn wrong_words_are_refused() {
        let wrong = [
            "--insecure --ca f",
            "--name A",
            "--label x",
            "--label a=b,c",
            "--up-rate x",
            "--up-window 22:00-06:00",
            "--up-window x=1M",
            "--peer-listen x",
            "x",
        ];
        for wrong in wrong {
            assert!(parse(&format!("headend node {wrong}")).is_err(), "{wrong}");
        }
    }
}
