//! Where log lines go, and how they look.
//!
//! ```text
//! on a terminal   12:00:01 INFO session timed out code="HE-I201" session=..
//! otherwise       {"timestamp":"...","level":"INFO","message":"session..","code":"HE-I201",...}
//! ```
//! Filter: `HEADEND_LOG`, then `RUST_LOG`, then `info`. Lines are written by a thread of their own
//! (`log::writer`), and each kind of line has a limit (`log::limit`).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;

use super::Failure;
use crate::config::LogFormat;
use crate::config::limits::LimitsConfig;
use crate::http::LogLine;

mod limit;
mod recent;
mod writer;

use limit::{Limit, Limited};
use recent::{RECENT, Remember};
use writer::{Line, Queue};

/// Prepares the log, which panics are told to as well. Once per process. Lines wait until
/// [`start_writer`]. Who holds the [`Flush`] has the last lines written, however it ends.
///
/// # Errors
/// A filter that cannot be read, or a log that is there already.
pub fn init(format: LogFormat, limits: &LimitsConfig) -> Result<Flush, Failure> {
    let filter = filter(|name| std::env::var_os(name))?;
    let is_terminal = io::stderr().is_terminal();
    let is_text = match format {
        LogFormat::Auto => is_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let queue = Arc::new(Queue::new(io::stderr().as_fd().try_clone_to_owned()?));
    let limited = Limited {
        limit: Arc::new(Limit::new(limits.log_lines_max as u64)),
        queue: Arc::clone(&queue),
    };
    let limit = Arc::clone(&limited.limit);
    // `tracing-subscriber` tells of errors by `eprintln!`, which panics where standard error is
    // closed or full, and waits where it is not read.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let log = log.with_writer(Line(queue.clone()));
    let started = if is_text {
        let log = log.with_timer(WallClock).with_target(false).with_ansi(is_terminal);
        log.finish().with(limited).with(Remember).try_init()
    } else {
        let log = log.json().flatten_event(true).with_current_span(false).with_span_list(false);
        log.finish().with(limited).with(Remember).try_init()
    };
    started.map_err(|error| Failure::runtime(error.to_string()))?;
    let _running_before = RUNNING.set((queue, limit));
    std::panic::set_hook(Box::new(tell_panic));
    Ok(Flush(()))
}

/// Has a thread write the lines from now on. Not before the process has given up what it gives up:
/// a thread would keep it.
///
/// # Errors
/// The system has no thread.
pub fn start_writer() -> io::Result<()> {
    match RUNNING.get() {
        Some((queue, limit)) => queue.start(Arc::clone(limit)),
        None => Ok(()),
    }
}

/// Has the last lines written when it is dropped.
#[derive(Debug)]
pub struct Flush(());

impl Drop for Flush {
    fn drop(&mut self) {
        flush();
    }
}

/// Waits until all lines so far are written, for `FLUSH_MAX` at most.
pub fn flush() {
    if let Some((queue, _)) = RUNNING.get() {
        // A process that ends while it starts has none yet.
        let _no_thread = start_writer();
        let _stays_unread = queue.flush(FLUSH_MAX);
    }
}

/// The newest warnings and errors of this process, oldest first.
#[must_use]
pub fn recent() -> Vec<LogLine> {
    RECENT.lines()
}

/// Writes the sentence that a process ends with. Does not wait for a reader when the log runs.
pub(super) fn last_words(text: &str) {
    match RUNNING.get() {
        Some((queue, _)) => {
            queue.push(text.as_bytes());
            flush();
        }
        None => {
            let _closed = writer::write_fully(io::stderr(), text.as_bytes());
        }
    }
}

/// Writes `text` to standard output, on a thread of its own: who started the server may have
/// stopped to read.
pub fn print_aside(text: Vec<u8>) {
    let thread = std::thread::Builder::new().name("banner".to_owned());
    let spawned = thread.spawn(move || {
        // A closed pipe must not keep the server from serving.
        let _closed = writer::write_fully(io::stdout(), &text);
    });
    if let Err(error) = spawned {
        tracing::warn!(code = "HE-W802", %error, "no thread to write the start-up text");
    }
}

/// Panics go the way of all lines: a thread that panics may be a shard, which must not wait.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let at = panic.location().map(tracing::field::display);
    let why = panic.payload_as_str().unwrap_or("no text");
    let backtrace = Backtrace::capture();
    let is_captured = backtrace.status() == BacktraceStatus::Captured;
    let backtrace = is_captured.then(|| tracing::field::display(&backtrace));
    tracing::error!(code = "HE-E801", thread, at, why, backtrace, "panic; this is a bug");
}

static RUNNING: OnceLock<(Arc<Queue>, Arc<Limit>)> = OnceLock::new();

/// How long the end of the process waits for who reads its last lines.
const FLUSH_MAX: Duration = Duration::from_millis(500);

fn filter(variable: impl Fn(&str) -> Option<OsString>) -> Result<EnvFilter, Failure> {
    for name in ["HEADEND_LOG", "RUST_LOG"] {
        let Some(text) = variable(name).filter(|text| !text.is_empty()) else { continue };
        let text = text.to_string_lossy();
        return EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(format!("{name}: `{text}` is not a log filter like `debug`: {error}"))
        });
    }
    // Strangers cause warnings of the libraries of TLS and WebRTC; what matters of them has lines
    // of our own.
    Ok(EnvFilter::new("info,rustls=error,str0m=error,is=error,dimpl=error"))
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
        let usual = "rustls=error,str0m=error,dimpl=error,is=error,info";
        assert_eq!(with(&[]).unwrap(), usual);
        assert_eq!(with(&[("RUST_LOG", "warn")]).unwrap(), "warn");
        assert_eq!(with(&[("RUST_LOG", "warn"), ("HEADEND_LOG", "debug")]).unwrap(), "debug");
        assert_eq!(with(&[("HEADEND_LOG", "")]).unwrap(), usual);
    }

    #[test]
    fn wrong_filter_is_a_usage_failure() {
        let failure = with(&[("HEADEND_LOG", "a=b=c")]).unwrap_err();
        assert_eq!(failure.exit, super::super::Exit::Usage);
        assert!(failure.message.starts_with("HEADEND_LOG: `a=b=c`"), "{failure}");
    }
}
