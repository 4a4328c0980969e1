//! Words behind `base`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::job::window_and_rate;
use crate::base::mode::Mode;
use crate::base::rate::Rate;
use crate::config::confinement::{AccountName, ConfinementConfig, SeccompMode};
use crate::config::value::parse_duration;
use crate::dist::book::RELAY_FROM;
use crate::dist::keys::LIFE_MAX_S;
use crate::dist::quota::count;
use crate::dist::webhook::target::AllowedNetwork;
use crate::dist::window::Window;
use crate::pki::authority::is_base_name;

/// Words behind `base`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BaseArgs {
    /// Address for clients and nodes; port 0 takes any free one
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// Folder of the ledger, of contents and of keys; it is made when it is not there
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Database of the ledger, like postgres://headend@db.example/headend: several bases may stand
    /// by for each other then; PGPASSWORD has the password [default: the file DIR/ledger.db]
    #[arg(long, value_name = "URL")]
    pub ledger: Option<String>,
    /// Address at which nodes reach the base, where --listen is not it
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<SocketAddr>,
    /// Host name or address by which the base is reached, for its certificate, beside those of
    /// --listen and --advertise; may be given several times
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    pub host_name: Vec<String>,
    /// Do without TLS: everyone on the way can read and change what is sent, tokens included
    #[arg(long, conflicts_with = "host_name")]
    pub insecure: bool,
    /// For how long certificates of nodes count, for tests
    #[arg(long, value_name = "TIME", value_parser = certificate_life, default_value = "720h", hide = true)]
    pub certificate_life: Duration,
    /// File with tokens of clients, a line for each: TOKEN, NAME TOKEN or NAME TOKEN EXPIRES
    /// (by default DIR/provider.token, which is made)
    #[arg(long, value_name = "FILE")]
    pub provider_token_file: Option<PathBuf>,
    /// File with the token by which nodes join (by default DIR/join.token, which is made)
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Rate at which contents leave the base at most: 200M is 200 Mbit/s [default: no limit]
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    pub up_rate: Option<Rate>,
    /// Another rate by time of day, like `mon-fri 08:00-18:00 Europe/Berlin=50M`; may be given
    /// several times: the first one whose window is open counts, else --up-rate
    #[arg(long, value_name = "WINDOW=RATE", value_parser = window_and_rate)]
    pub up_window: Vec<(Window, Rate)>,
    /// For how long a node may fetch a content by one permission: 1m to 24h
    #[arg(long, value_name = "TIME", value_parser = token_ttl, default_value = "1h")]
    pub token_ttl: Duration,
    /// For how long contents are kept behind the end of their job: a failed job can be tried again
    #[arg(long, value_name = "TIME", value_parser = keep, default_value = "24h")]
    pub keep: Duration,
    /// Open jobs that a client may have; a line of the file of tokens may say another quota:
    /// NAME TOKEN jobs=N,bytes=N,targets=N [default: no limit]
    #[arg(long, value_name = "N", value_parser = quota)]
    pub quota_jobs: Option<u64>,
    /// Bytes of contents that the base keeps for a client, like 500G [default: no limit]
    #[arg(long, value_name = "N", value_parser = quota)]
    pub quota_bytes: Option<u64>,
    /// Nodes that a job of a client may have [default: no limit]
    #[arg(long, value_name = "N", value_parser = quota)]
    pub quota_targets: Option<u64>,
    /// Network that notifications of jobs may go to, beside the public Internet, like 10.0.0.0/8;
    /// may be given several times
    #[arg(long, value_name = "NET")]
    pub webhook_allow: Vec<AllowedNetwork>,
    /// Until a notification that was not taken is sent a second time, for tests
    #[arg(long, value_name = "TIME", value_parser = webhook_retry, default_value = "5s", hide = true)]
    pub webhook_retry: Duration,
    /// Hand orders on from node to node when they are for so many nodes or more; 0: never
    #[arg(long, value_name = "N", default_value_t = RELAY_FROM)]
    pub relay_from: usize,
    /// Command that mends a node which does not get on, run by /bin/sh with HEADEND_NODE,
    /// HEADEND_NODE_ADDR, HEADEND_REPAIR_CAUSE and HEADEND_REPAIR_TRY in its environment: a power
    /// cycle, for instance. It has a minute
    #[arg(long, value_name = "COMMAND")]
    pub repair_hook: Option<String>,
    /// Days for which events stay in the ledger behind the end of their job; older ones go into
    /// files of DIR/events
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    pub keep_events: u16,
    /// Between two looks for events that are older, for tests
    #[arg(long, value_name = "TIME", value_parser = archive_every, default_value = "1h", hide = true)]
    pub archive_every: Duration,
    /// User that the base becomes when it has its port; it is started as root then
    #[arg(long, value_name = "NAME[:GROUP]", value_parser = account)]
    pub user: Option<AccountName>,
    /// Whether files are opened in the base's folder alone: auto is where the kernel can
    #[arg(long, value_name = "auto|on|off", value_parser = landlock, default_value = "auto")]
    pub landlock: Mode,
    /// System calls that a base does not need: on (they fail), log (by the kernel), off
    #[arg(long, value_name = "on|log|off", value_parser = seccomp, default_value = "on")]
    pub seccomp: SeccompMode,
    /// Form of the log [default: text on a terminal, json otherwise]
    #[arg(long, value_name = "text|json")]
    pub log: Option<String>,
}

impl BaseArgs {
    /// What the base gives up after its start.
    #[must_use]
    pub fn confinement(&self) -> ConfinementConfig {
        let (user, landlock, seccomp) = (self.user.clone(), self.landlock, self.seccomp);
        ConfinementConfig { user, landlock, seccomp }
    }
}

fn account(text: &str) -> Result<AccountName, String> {
    AccountName::parse(text).map_err(|error| error.to_string())
}

fn landlock(text: &str) -> Result<Mode, String> {
    let modes = [Mode::Auto, Mode::On, Mode::Off];
    let found = modes.into_iter().find(|mode| mode.as_str() == text);
    found.ok_or_else(|| "auto, on or off is expected".to_owned())
}

fn seccomp(text: &str) -> Result<SeccompMode, String> {
    SeccompMode::parse(text).map_err(|error| error.to_string())
}

fn token_ttl(text: &str) -> Result<Duration, String> {
    within(text, TTL_MIN, TTL_MAX)
}

fn certificate_life(text: &str) -> Result<Duration, String> {
    within(text, LIFE_MIN, LIFE_MAX)
}

fn host_name(text: &str) -> Result<String, String> {
    let name = is_base_name(text).then(|| text.to_owned());
    name.ok_or_else(|| "a host name or an address is expected, without a port".to_owned())
}

fn quota(text: &str) -> Result<u64, String> {
    count(text).ok_or_else(|| "a number like 500, 20k or 2T is expected".to_owned())
}

fn webhook_retry(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO, TTL_MAX)
}

fn archive_every(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_secs(1), KEEP_MAX)
}

fn keep(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO, KEEP_MAX)
}

fn within(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let found = parse_duration(text).filter(|time| (min..=max).contains(time));
    found.ok_or_else(|| {
        let (min_s, max_h) = (min.as_secs(), max.as_secs() / 3_600);
        format!("a time like 90s, 15m or 12h is expected, {min_s} s to {max_h} h")
    })
}

const TTL_MIN: Duration = Duration::from_secs(60);
const LIFE_MIN: Duration = Duration::from_secs(2);
const LIFE_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);
const TTL_MAX: Duration = Duration::from_secs(LIFE_MAX_S.unsigned_abs());
/// A year.
const KEEP_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn parse(line: &str) -> Result<BaseArgs, String> {
        let cli =
            Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        match cli.command {
            Some(Command::Base(args)) => Ok(args),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn address_and_folder_are_enough() {
        let args = parse("headend base --listen 127.0.0.1:0 --data d").unwrap();
        assert_eq!((args.data, args.token_ttl), ("d".into(), Duration::from_secs(3_600)));
        assert_eq!(args.up_rate, None);
    }

    #[test]
    fn rates_and_times_are_read_and_wrong_ones_are_refused() {
        let line = "headend base --listen [::]:1 --data d";
        let args = parse(&format!("{line} --up-rate 200M --token-ttl 5m --keep 0s")).unwrap();
        assert_eq!(args.up_rate.map(Rate::bytes_per_s), Some(25_000_000));
        assert_eq!((args.token_ttl, args.keep), (Duration::from_secs(300), Duration::ZERO));
        let args =
            parse(&format!("{line} --host-name base.example --host-name 192.0.2.1")).unwrap();
        assert_eq!(args.host_name, ["base.example", "192.0.2.1"]);
        for wrong in ["--host-name a:1", "--host-name a_-.b", "--host-name x.node.headend.internal"]
        {
            assert!(parse(&format!("{line} {wrong}")).is_err(), "{wrong}");
        }
        let args = parse(&format!("{line} --webhook-allow fd00::/8 --webhook-allow 10.0.0.1"));
        assert_eq!(args.unwrap().webhook_allow.len(), 2);
        assert!(parse(&format!("{line} --webhook-allow example")).is_err());
        let args = parse(&format!("{line} --quota-jobs 9 --quota-bytes 2T")).unwrap();
        assert_eq!((args.quota_jobs, args.quota_bytes), (Some(9), Some(2_000_000_000_000)));
        assert!(parse(&format!("{line} --quota-targets -1")).is_err());
        let args = parse(&format!("{line} --user a:b --seccomp log --landlock off")).unwrap();
        assert_eq!(args.confinement().user.unwrap().to_string(), "a:b");
        assert_eq!((args.seccomp, args.landlock), (SeccompMode::Log, Mode::Off));
        for wrong in ["--user :b", "--seccomp kill", "--landlock yes"] {
            assert!(parse(&format!("{line} {wrong}")).is_err(), "{wrong}");
        }
        for wrong in ["--up-rate 9", "--token-ttl 5", "--token-ttl 25h", "--listen x", "--keep -1s"]
        {
            assert!(parse(&format!("{line} {wrong}")).is_err(), "{wrong}");
        }
        assert!(parse("headend base --listen [::]:1").is_err());
    }
}
