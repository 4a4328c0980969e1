//! Running figures second by second: the course of a run.
//!
//! ```text
//! Sample  Sample  Sample ...  --differences--> Moment: rates, CPU, memory between two of them
//! ```
//! Invariant: samples are in order of time. Bound: [`SAMPLES_MAX`]; when there are more every
//! second one goes, and the steps are twice as long from there on.

use crate::net::process::Usage;
use crate::time::Mono;
use serde::Serialize;
use std::time::Duration;

/// Samples kept.
pub const SAMPLES_MAX: usize = 1_024;
const STEP: Duration = Duration::from_secs(1);

/// Running figures at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// When.
    pub at: Mono,
    /// RTP packets so far.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sessions playing.
    pub playing: u64,
    /// CPU time of this process.
    pub own_cpu: Duration,
    /// Figures of the server's process, when it was named and lives.
    pub server: Option<Usage>,
}

/// Samples in a row.
#[derive(Debug)]
pub struct History {
    samples: Vec<Sample>,
    step: Duration,
}

/// What happened between two samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Moment {
    /// Its end, seconds after the start of the run.
    pub at_s: f64,
    /// Sessions playing at its end.
    pub playing: u64,
    /// RTP packets per second.
    pub packets_per_s: f64,
    /// Megabits of RTP per second.
    pub mbit_per_s: f64,
    /// CPU of this program, in percent of a core.
    pub loadgen_core_percent: f64,
    /// CPU of the server, in percent of a core.
    pub server_core_percent: Option<f64>,
    /// Resident memory of the server at its end.
    pub server_resident_bytes: Option<u64>,
}

impl History {
    /// A history that begins with `first`.
    #[must_use]
    pub fn starting_with(first: Sample) -> Self {
        Self { samples: vec![first], step: STEP }
    }

    /// True when it is time for another sample.
    #[must_use]
    pub fn is_due(&self, now: Mono) -> bool {
        self.samples.last().is_none_or(|last| now.since(last.at) >= self.step)
    }

    /// Adds a sample.
    pub fn push(&mut self, sample: Sample) {
        if self.samples.len() >= SAMPLES_MAX {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.step *= 2;
        }
        self.samples.push(sample);
    }

    /// The course.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        let start = self.samples.first().map(|first| first.at).unwrap_or_default();
        let pairs = self.samples.windows(2).filter_map(|pair| match pair {
            [before, after] if after.at > before.at => Some((before, after)),
            _ => None,
        });
        pairs.map(|(before, after)| Moment::between(start, before, after)).collect()
    }
}

impl Moment {
    fn between(start: Mono, before: &Sample, after: &Sample) -> Self {
        let seconds = after.at.since(before.at).as_secs_f64();
        let percent = |cpu: Duration| cpu.as_secs_f64() / seconds * 100.0;
        let server = before.server.zip(after.server);
        Self {
            at_s: after.at.since(start).as_secs_f64(),
            playing: after.playing,
            packets_per_s: rate(after.packets.saturating_sub(before.packets), seconds),
            mbit_per_s: rate(after.bytes.saturating_sub(before.bytes), seconds) * 8e-6,
            loadgen_core_percent: percent(after.own_cpu.saturating_sub(before.own_cpu)),
            server_core_percent: server.map(|(a, b)| percent(b.cpu.saturating_sub(a.cpu))),
            server_resident_bytes: after.server.map(|server| server.resident_bytes),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64) -> Sample {
        Sample {
            at: Mono::from_ns((100 + second) * 1_000_000_000),
            packets: second * 1_000,
            bytes: second * 1_250_000,
            own_cpu: Duration::from_millis(second * 250),
            server: Some(Usage { cpu: Duration::from_millis(second * 500), ..Usage::default() }),
            playing: second,
        }
    }

    #[test]
    fn rates_are_those_between_samples() {
        let mut history = History::starting_with(sample(0));
        assert!(!history.is_due(Mono::from_ns(100_999_999_999)));
        assert!(history.is_due(sample(1).at));
        history.push(sample(2));
        let moments = history.moments();
        let [moment] = moments.as_slice() else { panic!("one step") };
        assert_eq!((moment.at_s, moment.playing, moment.packets_per_s), (2.0, 2, 1_000.0));
        assert_eq!((moment.mbit_per_s, moment.loadgen_core_percent), (10.0, 25.0));
        assert_eq!(moment.server_core_percent, Some(50.0));
    }

    #[test]
    fn long_run_keeps_its_whole_course_in_longer_steps() {
        let mut history = History::starting_with(sample(0));
        (1..5_000).filter(|&n| history_push(&mut history, n)).count();
        let moments = history.moments();
        assert!(moments.len() < SAMPLES_MAX);
        assert!(moments.iter().all(|moment| (moment.packets_per_s - 1_000.0).abs() < 0.01));
        assert!(moments.last().is_some_and(|last| last.at_s > 4_980.0));
    }

    fn history_push(history: &mut History, second: u64) -> bool {
        let is_due = history.is_due(sample(second).at);
        if is_due {
            history.push(sample(second));
        }
        is_due
    }
}
