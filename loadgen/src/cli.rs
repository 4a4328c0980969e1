//! The command line.
//!
//! Exit codes: 0 all sessions did as asked, 1 some failed (or packets were lost, with
//! `--fail-on-loss`), 2 wrong usage, 3 the server cannot be reached.

use clap::{Parser, ValueEnum};
use rtsp_types::Url;
use std::time::Duration;

/// More sessions than this do not fit one thread.
pub const SESSIONS_MAX: u32 = 100_000;

/// How media should come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Transport {
    /// RTP over UDP.
    #[default]
    Udp,
    /// Interleaved on the RTSP connection.
    Tcp,
}

impl Transport {
    /// Name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
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
                  Example: headend-loadgen -n 500 --duration 10s rtsp://127.0.0.1:8554/demo"
)]
pub struct Options {
    /// What to play; sessions take turns
    #[arg(required = true, value_name = "URL", value_parser = url_from)]
    pub urls: Vec<Url>,
    /// Sessions to open
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SESSIONS_MAX)))]
    pub sessions: u32,
    /// How media should come
    #[arg(long, value_enum, default_value_t)]
    pub transport: Transport,
    /// How long to play after every session is up
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration_from)]
    pub duration: Duration,
    /// Play until the title ends instead
    #[arg(long, conflicts_with = "duration")]
    pub to_end: bool,
    /// Sessions started per second
    #[arg(long, default_value_t = 200.0, value_name = "RATE", value_parser = rate_from)]
    pub ramp: f64,
    /// Seed of everything random
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
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
}

fn url_from(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match (url.scheme(), url.has_host()) {
        ("rtsp", true) => Ok(url),
        ("rtsp", false) => Err("the URL names no server".to_owned()),
        (scheme, _) => Err(format!("\"{scheme}\" is not supported, use rtsp://")),
    }
}

/// A number with `ms`, `s`, `m` or `h`; seconds without.
fn duration_from(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("\"{unit}\" is not a unit of time (ms, s, m, h)")),
    };
    let value: f64 = digits.parse().map_err(|_| format!("\"{digits}\" is not a number"))?;
    Duration::try_from_secs_f64(value * scale).map_err(|error| error.to_string())
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
    fn url_of_another_scheme_is_refused() {
        assert!(Options::try_parse_from(["x", "http://h/a"]).is_err());
        assert!(Options::try_parse_from(["x"]).is_err());
        assert!(Options::try_parse_from(["x", "rtsp://h/a", "--ramp", "0"]).is_err());
        let options = Options::try_parse_from(["x", "rtsp://h/a", "-n", "5"]).expect("valid");
        assert_eq!((options.sessions, options.duration), (5, Duration::from_secs(10)));
    }
}
