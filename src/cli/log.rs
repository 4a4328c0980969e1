//! Where log lines go, and how they look.
//!
//! ```text
//! on a terminal   12:00:01 WARN cold page code="HE-W203" path="vod/a.mp4"
//! otherwise       {"timestamp":"...","level":"WARN","message":"cold page","code":"HE-W203",...}
//! ```
//! Filter: `HEADEND_LOG`, then `RUST_LOG`, then `info`.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::Failure;
use crate::config::LogFormat;

/// Starts the log. Once per process.
///
/// # Errors
/// A filter that cannot be read, or a log that is running already.
pub fn init(format: LogFormat) -> Result<(), Failure> {
    let filter = filter(|name| std::env::var_os(name))?;
    let is_terminal = io::stderr().is_terminal();
    let is_text = match format {
        LogFormat::Auto => is_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if is_text {
        log.with_timer(WallClock).with_target(false).with_ansi(is_terminal).try_init()
    } else {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    started.map_err(|error| Failure::runtime(error.to_string()))
}

fn filter(variable: impl Fn(&str) -> Option<OsString>) -> Result<EnvFilter, Failure> {
    for name in ["HEADEND_LOG", "RUST_LOG"] {
        let Some(text) = variable(name).filter(|text| !text.is_empty()) else { continue };
        let text = text.to_string_lossy();
        return EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(format!("{name}: `{text}` is not a log filter like `debug`: {error}"))
        });
    }
    Ok(EnvFilter::new("info"))
}

/// Local time of day: a person at a terminal knows the date.
struct WallClock;

impl FormatTime for WallClock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", jiff::Zoned::now().strftime("%H:%M:%S"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &'static [(&'static str, &'static str)]) -> Result<String, Failure> {
        let variable = |name: &str| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        filter(variable).map(|filter| filter.to_string())
    }

    #[test]
    fn own_variable_beats_the_common_one() {
        assert_eq!(with(&[]).unwrap(), "info");
        assert_eq!(with(&[("RUST_LOG", "warn")]).unwrap(), "warn");
        assert_eq!(with(&[("RUST_LOG", "warn"), ("HEADEND_LOG", "debug")]).unwrap(), "debug");
        assert_eq!(with(&[("HEADEND_LOG", "")]).unwrap(), "info");
    }

    #[test]
    fn wrong_filter_is_a_usage_failure() {
        let failure = with(&[("HEADEND_LOG", "a=b=c")]).unwrap_err();
        assert_eq!(failure.exit, super::super::Exit::Usage);
        assert!(failure.message.starts_with("HEADEND_LOG: `a=b=c`"), "{failure}");
    }
}
