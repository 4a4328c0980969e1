//! How far the run is, for people: a bar on a terminal, a line now and then elsewhere.
//!
//! Goes to standard error, so that the report on standard output stays clean.
//! Bound: a line every 5 s, a redraw every 200 ms.

use crate::stats::Stats;
use crate::time::Mono;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;

const LINE_INTERVAL: Duration = Duration::from_secs(5);
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// Steps of the bar.
const LENGTH: u64 = 1_000;

/// Shows progress.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    next: Mono,
    last: (Mono, u64),
}

impl Progress {
    /// A bar when standard error is a terminal.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(LENGTH).with_style(style.progress_chars("=> "))
        });
        let first = if bar.is_some() { Duration::ZERO } else { LINE_INTERVAL };
        Self { bar, next: now.after(first), last: (now, 0) }
    }

    /// True when it is time for [`Progress::show`].
    #[must_use]
    pub fn is_due(&self, now: Mono) -> bool {
        now >= self.next
    }

    /// Shows the figures; `done` is the part of the run that is over, 0 to 1.
    pub fn show(&mut self, now: Mono, stats: &Stats, lost: u64, done: f64) {
        let text = self.text(now, stats, lost);
        match &self.bar {
            Some(bar) => {
                let step = Duration::from_secs(1).mul_f64(done.clamp(0.0, 1.0)).as_millis();
                bar.set_position(u64::try_from(step).unwrap_or(LENGTH));
                bar.set_message(text);
                self.next = now.after(BAR_INTERVAL);
            }
            None => {
                let _ = writeln!(std::io::stderr(), "{text}");
                self.next = now.after(LINE_INTERVAL);
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn text(&mut self, now: Mono, stats: &Stats, lost: u64) -> String {
        let (at, bytes) = std::mem::replace(&mut self.last, (now, stats.bytes));
        let rate = mbit_per_s(stats.bytes.saturating_sub(bytes), now.since(at));
        format!(
            "{} started, {} playing, {} failed, {} packets, {rate:.1} Mbit/s, {lost} lost",
            stats.started, stats.playing, stats.failed, stats.packets,
        )
    }
}

fn mbit_per_s(bytes: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people: three digits are enough")]
    let bits = bytes as f64 * 8.0;
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { bits / seconds / 1e6 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_of_a_gigabyte_in_five_seconds_is_told_as_it_is() {
        // More bits than 32 of them can count.
        assert!((mbit_per_s(1_250_000_000, Duration::from_secs(5)) - 2_000.0).abs() < 0.1);
        assert!(mbit_per_s(1, Duration::ZERO).abs() < f64::EPSILON);
    }
}
