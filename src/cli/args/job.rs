//! Words behind `headend job`, and behind `headend node` where a base is asked.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use crate::base::rate::Rate;
use crate::dist::window::Window;
use crate::dist::wire::hook::Topic;

/// Verbs behind `job`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum JobVerb {
    /// Send files and folders to nodes; ends well only when every node has every byte
    Push(PushArgs),
    /// Bring a live path to nodes, which reflect it from each other until the job is ended
    Live(LiveArgs),
    /// List jobs, the newest last
    Ls(JobsArgs),
    /// Show a job: its commands and how far they are
    Show(JobArgs),
    /// Watch a job until it has ended: who feeds whom, how fast, and what happens
    Watch(JobArgs),
    /// Show how far each node is with what is not done yet
    Query(JobArgs),
    /// Say that no more commands come: the job ends when all nodes are done
    End(JobArgs),
    /// Withdraw what is not done yet
    Cancel(JobArgs),
    /// Change rates, window or priority of a job while it runs
    Set(SetArgs),
    /// Let nodes fetch nothing more until `job resume`; what they have stays
    Pause(JobArgs),
    /// Let nodes go on behind `job pause`
    Resume(JobArgs),
    /// Try again what failed
    Retry(RetryArgs),
    /// Show what arrived where, when, from whom and with which hash
    Report(JobArgs),
    /// Check the chain of events and the nodes' signed receipts
    Verify(VerifyArgs),
}

/// Where a base is, and how to show what it says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct AskArgs {
    /// The base, like https://192.0.2.1:9000; of several with commas between, the one that has the
    /// ledger is asked [default: of the environment, HEADEND_BASE]
    #[arg(long, value_name = "URL")]
    pub base: Option<String>,
    /// Token of a provider, or a file that holds it [default: of the environment, HEADEND_TOKEN]
    #[arg(long, value_name = "TOKEN|FILE")]
    pub token: Option<String>,
    /// Certificate of the base's CA (PEM), where the token has no fingerprint of it
    /// [default: of the environment, HEADEND_CA]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print JSON, with the names of the API
    #[arg(long)]
    pub json: bool,
}

/// Words behind `job push`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PushArgs {
    /// Files and folders
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Nodes: all, names like a,b, or those with labels like site=north,tier=edge
    #[arg(long, value_name = "all|NAME,..|KEY=VALUE,..", default_value = "all")]
    pub to: String,
    /// Show how far each node is while it goes on
    #[arg(long)]
    pub watch: bool,
    /// Return when the base has all bytes, and leave the rest to it
    #[arg(long, conflicts_with = "watch")]
    pub detach: bool,
    /// Folder of the nodes' media folders that the files go into
    #[arg(long, value_name = "PATH")]
    pub into: Option<String>,
    /// Name of the job, one of a kind: a job of that name that is still open is continued
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Job that is still open, to which the files are added
    #[arg(long, value_name = "ID", conflicts_with_all = ["name", "to", "priority", "order", "late", "deadline", "notify", "max_rate", "node_rate", "window", "paused"])]
    pub job: Option<String>,
    /// Share of the uplinks, 0 to 9
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: u8,
    /// Rate at which the base and each node may send the job in all: 200M is 200 Mbit/s
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    pub max_rate: Option<Rate>,
    /// Rate at which each node may receive the job
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    pub node_rate: Option<Rate>,
    /// When nodes may fetch, like 22:00-06:00 or `mon-fri 22:00-06:00 Europe/Berlin`; UTC without a
    /// zone
    #[arg(long, value_name = "[DAYS] HH:MM-HH:MM [ZONE]")]
    pub window: Option<Window>,
    /// Let nodes fetch nothing until `job resume`
    #[arg(long)]
    pub paused: bool,
    /// Which files wait for others on a node
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    pub order: PushOrder,
    /// What a node gets that was given up and is back when the job has ended
    #[arg(long, value_enum, default_value_t, value_name = "deliver|drop")]
    pub late: PushLate,
    /// Seconds after which what is not there counts as failed
    #[arg(long, value_name = "S")]
    pub deadline: Option<u64>,
    /// Where the base POSTs what happens, as CloudEvents: this program need not wait for it
    #[arg(long, value_name = "URL")]
    pub notify: Option<String>,
    /// File with the secret that signs it: whsec_ and base64 (Standard Webhooks)
    #[arg(long, value_name = "FILE", requires = "notify")]
    pub notify_secret_file: Option<PathBuf>,
    /// What is POSTed: receipt, completion, failure, end, several with commas between
    #[arg(long, value_name = "EVENT,..", value_delimiter = ',', default_value = "end", requires = "notify", value_parser = topic)]
    pub notify_events: Vec<Topic>,
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

/// Words behind `job live`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LiveArgs {
    /// Name of the live path, like live/show
    #[arg(value_name = "PATH")]
    pub path: String,
    /// Where the first nodes pull it from, like rtsp://192.0.2.1:8554/live/show
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// Nodes: all, names like a,b, or those with labels like site=north,tier=edge
    #[arg(long, value_name = "all|NAME,..|KEY=VALUE,..", default_value = "all")]
    pub to: String,
    /// Another name of the path at the nodes
    #[arg(long = "as", value_name = "PATH")]
    pub name_at_nodes: Option<String>,
    /// Show who feeds whom, and what happens, until the job has ended
    #[arg(long)]
    pub watch: bool,
    /// Name of the job, one of a kind
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Job that is still open, to which the path is added
    #[arg(long, value_name = "ID", conflicts_with_all = ["name", "to", "deadline"])]
    pub job: Option<String>,
    /// Seconds after which the job is ended
    #[arg(long, value_name = "S")]
    pub deadline: Option<u64>,
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

fn topic(text: &str) -> Result<Topic, String> {
    let found = Topic::ALL.into_iter().find(|topic| topic.as_str() == text);
    let names = || Topic::ALL.map(Topic::as_str).join(", ");
    found.ok_or_else(|| format!("one of {} is expected", names()))
}

/// Which commands of a job wait for earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PushOrder {
    /// Those with the same path, or a path within theirs.
    #[default]
    Prefix,
    /// All: one after the other.
    Strict,
    /// None.
    None,
}

/// What a node gets that is back late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PushLate {
    /// What it missed, for as long as the base has it.
    #[default]
    Deliver,
    /// Nothing.
    Drop,
}

/// Words behind `job ls`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct JobsArgs {
    /// Only jobs in this state, like open, closing or completed
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

/// Words behind verbs about one job.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct JobArgs {
    /// Id of the job
    #[arg(value_name = "ID")]
    pub job: String,
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

/// Words behind `job verify`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct VerifyArgs {
    /// Id of the job
    #[arg(value_name = "ID")]
    pub job: String,
    /// Folder with the files of events that the base does not keep any more, `events` of its
    /// folder: they are checked, too [default: the hash that the base remembers is believed]
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

/// Words behind `job set`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["priority", "max_rate", "node_rate", "window"]))]
pub struct SetArgs {
    /// Id of the job
    #[arg(value_name = "ID")]
    pub job: String,
    /// Share of the uplinks, 0 to 9
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: Option<u8>,
    /// Rate at which the base and each node may send the job in all
    #[arg(long, value_name = "RATE|none", value_parser = one_or_none(Rate::parse))]
    pub max_rate: Option<OneOrNone<Rate>>,
    /// Rate at which each node may receive the job
    #[arg(long, value_name = "RATE|none", value_parser = one_or_none(Rate::parse))]
    pub node_rate: Option<OneOrNone<Rate>>,
    /// When nodes may fetch
    #[arg(long, value_name = "WINDOW|none", value_parser = one_or_none(Window::from_str))]
    pub window: Option<OneOrNone<Window>>,
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

/// A value, or `none`, which takes it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrNone<T>(pub Option<T>);

/// Words behind `job retry`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RetryArgs {
    /// Id of the job
    #[arg(value_name = "ID")]
    pub job: String,
    /// Only at these nodes, like a,b
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

/// Verbs behind `node` that ask a base.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum NodeVerb {
    /// List the nodes of a base: state, rates, free bytes, labels
    Ls(NodesArgs),
    /// Show one node of a base
    Show(NodeNameArgs),
    /// Give a node no new jobs; what is open there goes on
    Drain(NodeDrainArgs),
    /// Give a node jobs again; a quarantine ends too
    Undrain(NodeNameArgs),
    /// Mend a node that does not get on: ask it, begin its agent anew, run the base's hook
    Repair(NodeNameArgs),
}

/// Words behind `node drain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct NodeDrainArgs {
    /// Name of the node
    #[arg(value_name = "NAME")]
    pub node: String,
    /// When it is expected back, like 2026-03-01T08:00:00Z, or `none`; clients are told when it is
    /// given up
    #[arg(long, value_name = "TIME")]
    pub back: Option<String>,
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

/// Words behind `node ls`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct NodesArgs {
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

/// Words behind `node show`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct NodeNameArgs {
    /// Name of the node
    #[arg(value_name = "NAME")]
    pub node: String,
    /// The base.
    #[command(flatten)]
    pub base: AskArgs,
}

/// Reads `WINDOW=RATE`, for rates by time of day.
pub(super) fn window_and_rate(text: &str) -> Result<(Window, Rate), String> {
    let (window, rate) = text.rsplit_once('=').ok_or("WINDOW=RATE is expected")?;
    let window = window.parse::<Window>().map_err(|error| error.to_string())?;
    Ok((window, Rate::parse(rate).map_err(|error| error.to_string())?))
}

/// Reads `none`, or what `parse` reads.
fn one_or_none<T, E>(
    parse: impl Fn(&str) -> Result<T, E> + Clone,
) -> impl Fn(&str) -> Result<OneOrNone<T>, E> + Clone {
    move |text| match text {
        "none" => Ok(OneOrNone(None)),
        text => parse(text).map(|value| OneOrNone(Some(value))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn parse(line: &str) -> Result<JobVerb, String> {
        let words = shell(line);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Some(Command::Job { verb }) => Ok(verb),
            other => Err(format!("{other:?}")),
        }
    }

    /// Words; `_` stands for a space within one.
    fn shell(line: &str) -> Vec<String> {
        line.split(' ').map(|word| word.replace('_', " ")).collect()
    }

    #[test]
    fn rates_and_windows_of_a_job_are_read() {
        let line = "headend job push f --priority 9 --max-rate 20M --node-rate 8M \
                    --window mon-fri_22:00-06:00_Europe/Berlin --paused";
        let JobVerb::Push(args) = parse(line).unwrap() else { panic!("another verb") };
        assert_eq!((args.priority, args.paused), (9, true));
        assert_eq!(args.max_rate.map(Rate::bytes_per_s), Some(2_500_000));
        assert_eq!(args.node_rate.map(Rate::bytes_per_s), Some(1_000_000));
        assert!(args.window.is_some());
        for wrong in ["--window 22-06", "--max-rate x", "--priority 10", "--job 1 --node-rate 8M"] {
            assert!(parse(&format!("headend job push f {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn live_path_has_an_origin_and_may_have_another_name_at_nodes() {
        let line = "headend job live live/show --from rtsp://h/live/a --as live/b --to a,b --watch";
        let JobVerb::Live(args) = parse(line).unwrap() else { panic!("another verb") };
        assert_eq!((&*args.path, &*args.from, &*args.to), ("live/show", "rtsp://h/live/a", "a,b"));
        assert_eq!((args.name_at_nodes.as_deref(), args.watch), (Some("live/b"), true));
        assert!(parse("headend job live live/show").is_err());
        assert!(parse("headend job live x --from rtsp://h/x --job 1 --to a").is_err());
    }

    #[test]
    fn what_is_set_is_named_and_none_takes_it_away() {
        let line = "headend job set 1 --max-rate none --window 01:00-02:00";
        let JobVerb::Set(args) = parse(line).unwrap() else { panic!("another verb") };
        assert_eq!((args.max_rate, args.node_rate), (Some(OneOrNone(None)), None));
        assert!(args.window.is_some_and(|window| window.0.is_some()));
        assert!(parse("headend job set 1").is_err());
    }
}
