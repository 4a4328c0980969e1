//! The newest warnings and errors of this process, for the page of operators.
//!
//! ```text
//! shards, workers, control --push--> queue --who asks--> the newest lines
//!                                     full: the oldest one goes
//! ```
//! Invariant: `push` never waits; who asks is not a shard. Lines that `log::limit` leaves out do
//! not come here either. Bounds: `LINES_MAX` lines of `TEXT_CHARS_MAX` characters.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{LazyLock, Mutex, PoisonError};

use crossbeam_queue::ArrayQueue;
use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::http::LogLine;

/// Lines of this process.
pub(super) static RECENT: LazyLock<Recent> = LazyLock::new(Recent::default);

/// The newest lines.
#[derive(Debug)]
pub(super) struct Recent {
    new: ArrayQueue<LogLine>,
    /// What was asked for before. Only who asks takes it.
    kept: Mutex<VecDeque<LogLine>>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { new: ArrayQueue::new(LINES_MAX), kept: Mutex::default() }
    }
}

impl Recent {
    fn push(&self, line: LogLine) {
        let _oldest = self.new.force_push(line);
    }

    /// All of them, oldest first.
    pub(super) fn lines(&self) -> Vec<LogLine> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // No more than there were: others go on.
        for _ in 0..LINES_MAX {
            let Some(line) = self.new.pop() else { break };
            if kept.len() == LINES_MAX {
                kept.pop_front();
            }
            kept.push_back(line);
        }
        kept.iter().cloned().collect()
    }
}

/// Notes warnings and errors on their way out.
pub(super) struct Remember;

impl<S: Subscriber> Layer<S> for Remember {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        let mut words = Words::default();
        event.record(&mut words);
        let Words { message, fields, code } = words;
        let mut text = message + &fields;
        if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(end);
        }
        let at_ms = Timestamp::now().as_millisecond();
        RECENT.push(LogLine { at_ms, level, code, text });
    }
}

/// What a line says.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
    code: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "code" => self.code = value.to_owned(),
            "message" => self.message = value.to_owned(),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Text never fails to be written.
        let _written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// More than a person reads; some minutes of a server in trouble.
const LINES_MAX: usize = 200;
/// Of one line.
const TEXT_CHARS_MAX: usize = 600;

#[cfg(test)]
mod tests;
