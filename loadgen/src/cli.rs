//! The command line.
//!
//! Exit codes: 0 all sessions did as asked, 1 some failed (or packets were lost, with
//! `--fail-on-loss`), 2 wrong usage, 3 the server cannot be reached.

use crate::mix::WEIGHT_MAX;
use crate::net::flood::FLOOD_MAX;
use crate::publish::FilmOptions;
use crate::script::{Script, ScriptError, time_from};
use clap::{Parser, ValueEnum};
use rtsp_types::Url;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// More sessions than this do not fit one thread.
pub const SESSIONS_MAX: u32 = 100_000;

/// How much of the load comes over which transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportMix {
    /// Weight of RTP over UDP.
    pub udp: u32,
    /// Weight of RTP interleaved on the RTSP connection.
    pub tcp: u32,
}

impl fmt::Display for TransportMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.udp, self.tcp) {
            (_, 0) => f.write_str("udp"),
            (0, _) => f.write_str("tcp"),
            (udp, tcp) => write!(f, "udp={udp},tcp={tcp}"),
        }
    }
}

impl FromStr for TransportMix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self { udp: 0, tcp: 0 };
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let weight = weight_from(weight).ok_or_else(|| weight_error(weight))?;
            match name.trim().to_ascii_lowercase().as_str() {
                "udp" => mix.udp = weight,
                "tcp" => mix.tcp = weight,
                name => return Err(format!("\"{name}\" is not udp or tcp")),
            }
        }
        Ok(mix)
    }
}

/// A title and its weight among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title {
    /// Where it is.
    pub url: Url,
    /// Sessions it gets, against the weights of the others.
    pub weight: u32,
}

impl FromStr for Title {
    type Err = String;

    /// A weight follows the last `=`. In a URL with a query that would be ambiguous, so such a URL
    /// weighs 1 and is repeated to weigh more.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('=').filter(|_| !text.contains('?')) {
            Some((url, weight)) => {
                let weight = weight_from(weight).ok_or_else(|| weight_error(weight))?;
                Ok(Self { url: played_url_from(url)?, weight })
            }
            None => Ok(Self { url: played_url_from(text)?, weight: 1 }),
        }
    }
}

/// Whether clients are loopback addresses on shared ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum SharedPorts {
    /// For servers on 127.0.0.0/8.
    #[default]
    Auto,
    /// Always; a server elsewhere cannot be reached this way.
    On,
    /// One UDP port pair per stream.
    Off,
}

/// Opens many sessions against any RTSP server and measures what arrives.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "headend-loadgen",
    version,
    after_help = "Exit codes: 0 ok, 1 sessions failed (or loss with --fail-on-loss), 2 usage, \
                  3 server not reachable.\n\n\
                  Examples: headend-loadgen -n 500 --duration 10s rtsp://127.0.0.1:8554/demo\n  \
                  headend-loadgen --publish rtsp://127.0.0.1:8554/live/a -n 1000 \
                  rtsp://127.0.0.1:8554/live/a"
)]
pub struct Options {
    /// What to play; sessions take turns, by weight. None with --publish: only publish
    #[arg(required_unless_present = "publish", value_name = "URL[=WEIGHT]")]
    pub titles: Vec<Title>,
    /// Sessions to open
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SESSIONS_MAX)))]
    pub sessions: u32,
    /// How media should come: udp, tcp, or a mix such as udp=3,tcp=1
    #[arg(long, default_value = "udp", value_name = "MIX")]
    pub transport: TransportMix,
    /// How long to play after every session is up
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration_from)]
    pub duration: Duration,
    /// Play until the title ends instead
    #[arg(long, conflicts_with = "duration")]
    pub to_end: bool,
    /// Sessions that get no packet are no failure: something on the way drops them
    #[arg(long, conflicts_with = "to_end")]
    pub blind: bool,
    /// Sessions started per second
    #[arg(long, default_value_t = 200.0, value_name = "RATE", value_parser = rate_from)]
    pub ramp: f64,
    /// Seed of everything random
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// What viewers do, such as "play 3s-8s; pause 1s; seek 0%-90%; repeat", or @FILE
    #[arg(long, value_name = "STEPS", value_parser = script_from)]
    pub script: Option<Script>,
    /// Loss that receiver reports claim, whatever arrived
    #[arg(long, value_name = "PERCENT", value_parser = part_from)]
    pub report_loss: Option<f64>,
    /// Received packets to take for lost in receiver reports, at random
    #[arg(long, value_name = "PERCENT", value_parser = part_from, conflicts_with = "report_loss")]
    pub drop: Option<f64>,
    /// TCP clients that stop reading in the midst of it
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub stall: u32,
    /// How long after PLAY they do so
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = duration_from)]
    pub stall_after: Duration,
    /// Connections beside the sessions that pipeline OPTIONS as fast as they are taken
    #[arg(long, default_value_t = 0, value_name = "N", requires = "titles",
          value_parser = clap::value_parser!(u32).range(..=i64::from(FLOOD_MAX)))]
    pub flood: u32,
    /// Clients as loopback addresses on one UDP port pair per track
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub shared_ports: SharedPorts,
    /// Receive buffer of an RTP socket [default: 64M shared, 1M otherwise]
    #[arg(long, value_name = "BYTES", value_parser = bytes_from)]
    pub rcvbuf: Option<usize>,
    /// Report CPU, context switches and memory of this process as the server's
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Lost packets are a failure
    #[arg(long)]
    pub fail_on_loss: bool,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
    /// Report as a page with plots, written to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// What to publish, beside or instead of playing
    #[command(flatten)]
    pub film: FilmOptions,
}

/// A URL that names an RTSP server.
pub fn url_from(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match (url.scheme(), url.has_host()) {
        ("rtsp", true) => Ok(url),
        ("rtsp", false) => Err("the URL names no server".to_owned()),
        (scheme, _) => Err(format!("\"{scheme}\" is not supported, use rtsp://")),
    }
}

/// The same, or one that names an RTSPS server.
fn played_url_from(text: &str) -> Result<Url, String> {
    match text.strip_prefix("rtsps://") {
        // The rules of both are the same.
        Some(rest) => url_from(&format!("rtsp://{rest}"))
            .and_then(|_| Url::parse(text).map_err(|error| error.to_string())),
        None => url_from(text),
    }
}

fn duration_from(text: &str) -> Result<Duration, String> {
    time_from(text).ok_or_else(|| format!("\"{text}\" is not a time (250ms, 5s, 2m, 1h)"))
}

fn weight_from(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight))
}

fn weight_error(text: &str) -> String {
    format!("\"{text}\" is not a weight (1 to {WEIGHT_MAX})")
}

/// A percentage, with or without its sign, as a part of 1.
fn part_from(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>().ok();
    let percent = number.filter(|percent| (0.0..=100.0).contains(percent));
    percent.map(|percent| percent / 100.0).ok_or_else(|| format!("\"{text}\" is not 0% to 100%"))
}

/// The steps themselves, or `@` and the name of a file with them.
fn script_from(text: &str) -> Result<Script, String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let text = text.strip_prefix('@').map_or_else(|| Ok(text.to_owned()), read)?;
    text.parse().map_err(|error: ScriptError| error.to_string())
}

/// A number with `K`, `M` or `G` (powers of 1024); bytes without.
fn bytes_from(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default() {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        unit => return Err(format!("\"{unit}\" is not a unit of bytes (K, M, G)")),
    };
    let value: usize = digits.parse().map_err(|_| format!("\"{digits}\" is not a number"))?;
    value.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

fn rate_from(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("the rate must be above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        assert_eq!(duration_from("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration_from("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration_from("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(bytes_from("4M"), Ok(4 << 20));
        assert!(duration_from("-1s").is_err() && duration_from("1y").is_err());
        assert!(bytes_from("9999999999999G").is_err());
    }

    #[test]
    fn titles_and_transports_have_weights() {
        let title = |text: &str| text.parse::<Title>().map(|t| (t.url.to_string(), t.weight));
        assert_eq!(title("rtsp://h/a=3"), Ok(("rtsp://h/a".to_owned(), 3)));
        assert_eq!(title("rtsp://h/a"), Ok(("rtsp://h/a".to_owned(), 1)));
        assert_eq!(title("rtsp://h/a?x=3"), Ok(("rtsp://h/a?x=3".to_owned(), 1)));
        assert_eq!(title("rtsps://h/a"), Ok(("rtsps://h/a".to_owned(), 1)));
        assert!(title("rtsps:///a").is_err());
        assert!(title("rtsp://h/a=0").is_err() && title("rtsp://h/a=b").is_err());
        let mix = |text: &str| text.parse::<TransportMix>().map(|mix| mix.to_string());
        assert_eq!(mix("udp=3,tcp=1"), Ok("udp=3,tcp=1".to_owned()));
        assert_eq!(mix("TCP"), Ok("tcp".to_owned()));
        assert!(mix("sctp").is_err() && mix("udp=-1").is_err());
    }

    #[test]
    fn percentages_are_read_with_and_without_sign() {
        assert_eq!(part_from("5%"), Ok(0.05));
        assert_eq!(part_from("100"), Ok(1.0));
        assert!(part_from("101%").is_err() && part_from("NaN").is_err());
    }

    #[test]
    fn script_comes_from_the_line_or_a_file() {
        assert!(script_from("play 1s; pause 1s").is_ok());
        assert!(script_from("dance").is_err());
        assert!(script_from("@/no/such/file").is_err_and(|error| error.contains("/no/such/file")));
    }

    #[test]
    fn url_of_another_scheme_is_refused() {
        assert!(Options::try_parse_from(["x", "http://h/a"]).is_err());
        assert!(Options::try_parse_from(["x"]).is_err());
        assert!(Options::try_parse_from(["x", "rtsp://h/a", "--ramp", "0"]).is_err());
        let options = Options::try_parse_from(["x", "rtsp://h/a", "-n", "5"]).expect("valid");
        assert_eq!((options.sessions, options.duration), (5, Duration::from_secs(10)));
        assert!(Options::try_parse_from(["x", "--publish", "rtsp://h/a"]).is_ok());
        assert!(Options::try_parse_from(["x", "rtsp://h/a", "--gop", "5"]).is_err());
    }
}
