//! How many lines of one kind are logged: what strangers cause must not fill a disk.
//!
//! A kind is a place in the code. Each may log `limits.log_lines_max` lines a second; others are
//! counted, and a line that quotes one of them says how many there were. Invariant: no lock and no
//! waiting; a shard asks for every line. Bound: `KINDS_MAX` kinds; further ones share one limit.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::writer::{MORE_EVERY, Queue, is_writer};
use crate::metrics::cells::LOG;

/// The limits of all kinds.
#[derive(Debug)]
pub(super) struct Limit {
    started: Instant,
    lines_max: u64,
    kinds: Box<[Kind]>,
    has_more: AtomicBool,
    /// When lines about lines left out were written last. Only the thread that writes takes it.
    told: Mutex<Instant>,
}

impl Limit {
    pub(super) fn new(lines_max: u64) -> Self {
        let started = Instant::now();
        let kinds = (0..KINDS_MAX).map(|_| Kind::default()).collect();
        Self {
            started,
            lines_max,
            kinds,
            has_more: AtomicBool::new(false),
            told: Mutex::new(started),
        }
    }

    /// Lines were left out, and nothing has been said about that.
    pub(super) fn has_more(&self) -> bool {
        self.has_more.load(Ordering::Relaxed)
    }

    /// Logs what was left out, once a second at most.
    pub(super) fn tell_when_due(&self, now: Instant) {
        if !self.has_more() {
            return;
        }
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if now.saturating_duration_since(*told) < MORE_EVERY {
                return;
            }
            *told = now;
        }
        self.has_more.store(false, Ordering::Relaxed);
        for kind in &self.kinds {
            kind.tell();
        }
    }

    /// Whether a line of the kind `key` may be logged at `second`.
    fn takes(&self, key: usize, second: u64, like: impl FnOnce() -> Like) -> Verdict {
        let kind = self.kind(key);
        if kind.takes(second, self.lines_max) {
            return Verdict::Log;
        }
        kind.like.get_or_init(like);
        kind.more.fetch_add(1, Ordering::Relaxed);
        LOG.lines_limited.add(1);
        if self.has_more.swap(true, Ordering::Relaxed) { Verdict::Leave } else { Verdict::First }
    }

    /// The row of `key`; it is never given up, because places in the code are few.
    fn kind(&self, key: usize) -> &Kind {
        let Some((last, kinds)) = self.kinds.split_last() else {
            unreachable!("KINDS_MAX rows were made")
        };
        let begin = (key >> 4) % kinds.len().max(1);
        let rows = kinds.iter().cycle().skip(begin).take(kinds.len());
        for kind in rows {
            let taken = kind.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() || taken == Err(key) {
                return kind;
            }
        }
        last
    }
}

enum Verdict {
    Log,
    Leave,
    /// To be left out, and the first one that is.
    First,
}

/// One place in the code.
#[derive(Debug, Default)]
struct Kind {
    /// Address of its metadata; 0 while the row is free.
    key: AtomicUsize,
    /// Second since the start in the upper half, lines in it in the lower.
    window: AtomicU64,
    /// Lines left out and not told of.
    more: AtomicU64,
    like: OnceLock<Like>,
}

impl Kind {
    fn takes(&self, second: u64, lines_max: u64) -> bool {
        let second = second << 32;
        let next = |window: u64| {
            let window = if window & (u64::MAX << 32) == second { window } else { second };
            (window & u64::from(u32::MAX) < lines_max).then_some(window + 1)
        };
        let taken = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if let Ok(before) = taken {
            let is_first = before & (u64::MAX << 32) != second;
            let line = if is_first { 1 } else { (before & u64::from(u32::MAX)) + 1 };
            LOG.lines_in_a_second.raise_to(line);
        }
        taken.is_ok()
    }

    fn tell(&self) {
        let Some(Like { level, text }) = self.like.get() else { return };
        let more = self.more.swap(0, Ordering::Relaxed);
        match (more, *level) {
            (0, _) => {}
            (_, Level::ERROR | Level::WARN) => {
                tracing::warn!(code = "HE-W803", "{text}: {more} more like this");
            }
            (_, Level::INFO) => {
                tracing::info!(code = "HE-I801", "{text}: {more} more like this");
            }
            _ => tracing::debug!("{text}: {more} more like this"),
        }
    }
}

/// What a line that was left out said.
#[derive(Debug)]
struct Like {
    level: Level,
    text: String,
}

impl Like {
    fn of(event: &Event<'_>) -> Self {
        let mut text = Message(String::new());
        event.record(&mut text);
        let Message(mut text) = text;
        if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(end);
        }
        Self { level: *event.metadata().level(), text }
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// The limit in front of the lines' way out.
pub(super) struct Limited {
    pub(super) limit: Arc<Limit>,
    pub(super) queue: Arc<Queue>,
}

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        if is_writer() {
            return true;
        }
        let metadata: &'static Metadata<'static> = event.metadata();
        let second = self.limit.started.elapsed().as_secs();
        let key = std::ptr::from_ref(metadata).addr();
        match self.limit.takes(key, second, || Like::of(event)) {
            Verdict::Log => true,
            Verdict::Leave => false,
            Verdict::First => {
                self.queue.wake();
                false
            }
        }
    }
}

/// Places in the code that log: five times those there are.
const KINDS_MAX: usize = 512;
/// What is quoted of a line: texts with names in them are longer.
const TEXT_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    const LINES_PER_SECOND: u64 = 50;

    fn like() -> Like {
        Like { level: Level::INFO, text: "said".to_owned() }
    }

    /// How many of `lines` are logged.
    fn logged(limit: &Limit, key: usize, second: u64, lines: u64) -> u64 {
        (0..lines).map(|_| u64::from(matches!(limit.takes(key, second, like), Verdict::Log))).sum()
    }

    #[test]
    fn each_kind_has_its_own_lines_in_each_second_and_the_others_are_counted() {
        let limit = Limit::new(LINES_PER_SECOND);
        assert_eq!(logged(&limit, 0x100, 1, 12_000), LINES_PER_SECOND);
        assert_eq!(logged(&limit, 0x200, 1, 3), 3);
        assert_eq!(logged(&limit, 0x100, 2, 3), 3);
        assert_eq!(LOG.lines_in_a_second.value(), LINES_PER_SECOND);
        assert_eq!(limit.kind(0x100).more.load(Ordering::Relaxed), 12_000 - LINES_PER_SECOND);
        assert_eq!(limit.kind(0x200).more.load(Ordering::Relaxed), 0);
        assert!(limit.has_more());
        limit.tell_when_due(limit.started + MORE_EVERY);
        assert!(!limit.has_more());
        assert_eq!(limit.kind(0x100).more.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn kinds_without_a_row_share_a_limit() {
        let limit = Limit::new(LINES_PER_SECOND);
        let all = (1..2 * KINDS_MAX).map(|kind| logged(&limit, kind << 4, 1, 1)).sum::<u64>();
        assert_eq!(all, KINDS_MAX as u64 - 1 + LINES_PER_SECOND);
    }
}
