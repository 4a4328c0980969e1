//! How far a job is, asked again and again: bars on a terminal, lines elsewhere.
//!
//! ```text
//! job view --each POLL_MIN or more--> ended?    deliveries --> bytes of each node --> bars, lines
//! ```
//! Bound: asking takes a twentieth of the time at most, however many deliveries there are.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::remote::table;
use super::super::{Failure, printable};
use super::base::{Base, BaseError, GIVE_UP_AFTER, deliveries, job_path, word};
use super::progress::{NodeProgress, by_node, message};
use super::upload::Progress;
use crate::dist::ids::{JobId, NodeName};
use crate::dist::wire::job::{DeliveryView, JobView};

/// Watches a job.
pub(super) struct Watch<'a> {
    base: &'a Base,
    job: &'a JobView,
    /// Bytes that each node gets by this run.
    bytes: u64,
    screen: Screen,
}

/// Where progress is shown.
enum Screen {
    /// Nowhere.
    None,
    /// Bars, on standard error.
    Bars { all: Bars },
    /// Lines, on standard error.
    Lines,
}

struct Bars {
    _group: MultiProgress,
    upload: ProgressBar,
    total: ProgressBar,
    nodes: BTreeMap<NodeName, ProgressBar>,
}

impl<'a> Watch<'a> {
    /// `is_shown`: progress is.
    pub(super) fn new(base: &'a Base, job: &'a JobView, bytes: u64, is_shown: bool) -> Self {
        let screen = match (is_shown, io::stderr().is_terminal()) {
            (false, _) => Screen::None,
            (true, true) => Screen::Bars { all: Bars::new(job, bytes) },
            (true, false) => Screen::Lines,
        };
        Self { base, job, bytes, screen }
    }

    /// Until `is_done`: all files are sent, or have failed.
    pub(super) fn uploads(&self, progress: &Progress, is_done: impl Fn() -> bool) {
        let mut next = Instant::now() + POLL_MIN;
        while !is_done() {
            std::thread::sleep(UPLOAD_TICK);
            let sent = progress.sent.load(Ordering::Relaxed);
            if let Screen::Bars { all } = &self.screen {
                all.upload.set_position(sent);
            }
            if Instant::now() >= next && !matches!(self.screen, Screen::None) {
                let began = Instant::now();
                // The uploads say what is wrong.
                let _shown = self.nodes(Some(sent));
                next = Instant::now() + pause(began.elapsed(), LINES_EACH);
            }
        }
        if let Screen::Bars { all } = &self.screen {
            all.upload.set_position(progress.sent.load(Ordering::Relaxed));
        }
    }

    /// Until nothing of the job is open. A base that is away for a while is waited for.
    pub(super) fn wait(&self) -> Result<JobView, Failure> {
        let mut heard = Instant::now();
        let mut shown = Instant::now();
        let path = job_path(self.job.job_id);
        // Bars move meanwhile; without them the base answers when there is something to say.
        let path = match self.screen {
            Screen::Bars { .. } => path,
            Screen::Lines => format!("{path}?wait={}", LINES_EACH.as_secs()),
            Screen::None => format!("{path}?wait={WAIT_S}"),
        };
        loop {
            let began = Instant::now();
            match self.base.get::<JobView>(&path) {
                Ok(job) => {
                    heard = Instant::now();
                    if job.is_settled() {
                        self.show_end();
                        return Ok(job);
                    }
                }
                Err(error) if error.may_pass() && heard.elapsed() < GIVE_UP_AFTER => {}
                Err(error) => return Err(error.into()),
            }
            if matches!(self.screen, Screen::Bars { .. }) {
                let _shown = self.nodes(None);
                std::thread::sleep(pause(began.elapsed(), POLL_SHOWN));
            } else {
                if shown.elapsed() >= LINES_EACH {
                    shown = Instant::now();
                    let _shown = self.nodes(None);
                }
                // A base that does not wait, as it restarts, is not asked without end.
                std::thread::sleep(POLL_MIN.saturating_sub(began.elapsed()));
            }
        }
    }

    /// Asks how far the nodes are, and shows it.
    fn nodes(&self, sent: Option<u64>) -> Result<(), BaseError> {
        let is_shown = !matches!(self.screen, Screen::None);
        if !is_shown {
            return Ok(());
        }
        let deliveries = deliveries(self.base, self.job.job_id, "")?;
        let nodes = by_node(&deliveries);
        match &self.screen {
            Screen::None => {}
            Screen::Bars { all } => all.show(&nodes),
            Screen::Lines => {
                let lines = lines(&nodes, sent, self.bytes);
                // Standard error that is closed shows nothing.
                let _closed = io::stderr().lock().write_all(lines.as_bytes());
            }
        }
        Ok(())
    }

    fn show_end(&self) {
        let _shown = self.nodes(None);
        if let Screen::Bars { all } = &self.screen {
            all.nodes.values().chain([&all.upload, &all.total]).for_each(ProgressBar::abandon);
        }
    }
}

impl Bars {
    fn new(job: &JobView, bytes: u64) -> Self {
        let group = MultiProgress::new();
        let style = ProgressStyle::with_template(TEMPLATE)
            .unwrap_or_else(|_wrong| ProgressStyle::default_bar());
        let bar = |name: &str, bytes: u64| {
            let bar = group.add(ProgressBar::new(bytes).with_style(style.clone()));
            bar.set_prefix(printable(name));
            bar
        };
        let count = u64::try_from(job.servers.len()).unwrap_or(u64::MAX);
        let upload = bar("upload", bytes);
        let nodes = job.servers.iter().take(BARS_MAX);
        let nodes = nodes.map(|server| (server.node.clone(), bar(server.node.as_str(), bytes)));
        let nodes = nodes.collect();
        let total = bar("all", bytes.saturating_mul(count));
        Self { _group: group, upload, total, nodes }
    }

    fn show(&self, nodes: &BTreeMap<NodeName, NodeProgress>) {
        for (name, bar) in &self.nodes {
            let Some(node) = nodes.get(name) else { continue };
            // A job that was there before brings more than this run does.
            bar.set_length(bar.length().unwrap_or(0).max(node.bytes));
            bar.set_position(node.bytes);
            bar.set_message(message(node));
        }
        let sum = |of: fn(&NodeProgress) -> u64| nodes.values().map(of).sum::<u64>();
        let bytes = sum(|node| node.bytes);
        self.total.set_length(self.total.length().unwrap_or(0).max(bytes));
        self.total.set_position(bytes);
        self.total.set_message(message(&NodeProgress {
            bytes,
            rate: sum(|node| node.rate),
            done: sum(|node| node.done),
            failed: sum(|node| node.failed),
            all: sum(|node| node.all),
            ..NodeProgress::default()
        }));
    }
}

fn lines(nodes: &BTreeMap<NodeName, NodeProgress>, sent: Option<u64>, bytes: u64) -> String {
    let mut lines = String::new();
    if let Some(sent) = sent {
        lines += &format!("upload: {} of {}\n", table::bytes(sent), table::bytes(bytes));
    }
    for (name, node) in nodes {
        lines += &format!("{name}: {}, {}\n", table::bytes(node.bytes), message(node));
    }
    lines
}

/// Deliveries that failed.
pub(super) fn failures(base: &Base, job: JobId) -> Result<Vec<DeliveryView>, BaseError> {
    deliveries(base, job, "state=failed&")
}

/// A line for each of the first `most` failures.
pub(super) fn write_failures(
    failed: &[DeliveryView],
    most: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    for delivery in failed.iter().take(most) {
        let (node, command) = (&delivery.node, delivery.command_id);
        let reason = delivery.reason.map_or_else(|| "-".to_owned(), word);
        writeln!(out, "failed    {node}: command {command} ({reason})")?;
    }
    match failed.len().saturating_sub(most) {
        0 => Ok(()),
        more => writeln!(out, "failed    {more} more; headend job report shows them"),
    }
}

pub(super) fn pause(asking: Duration, each: Duration) -> Duration {
    (asking * 19).max(each)
}

const TEMPLATE: &str = "{prefix:>16} [{bar:30}] {bytes}/{total_bytes} {msg}";
/// What fits on a terminal; the last bar is for all.
const BARS_MAX: usize = 20;
const UPLOAD_TICK: Duration = Duration::from_millis(50);
const POLL_MIN: Duration = Duration::from_millis(100);
/// Seconds that the base waits with its answer.
const WAIT_S: u64 = 30;
const POLL_SHOWN: Duration = Duration::from_millis(300);
/// Logs are read later.
const LINES_EACH: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn delivery(node: &str, state: &str, offset: u64, reason: Option<&str>) -> DeliveryView {
        serde_json::from_value(json!({
            "command_id": 1, "node": node, "state": state, "shown": "new", "offset": offset,
            "size": 2_048, "rate": 1_024, "source": null, "switches": 0, "attempts": 0,
            "reason": reason, "receipt": null,
        }))
        .unwrap()
    }

    #[test]
    fn bytes_and_rates_are_told_for_each_node() {
        let deliveries = [
            delivery("a", "completed", 0, None),
            delivery("a", "fetching", 1_024, None),
            delivery("b", "failed", 9, Some("no_space")),
        ];
        insta::assert_snapshot!(lines(&by_node(&deliveries), Some(512), 4_096), @r"
        upload: 512 B of 4.0 KiB
        a: 3.0 KiB, 1 of 2, 1.0 KiB/s
        b: 0 B, 0 of 1, 1 failed
        ");
        let mut out = Vec::new();
        let failed = vec![delivery("b", "failed", 9, Some("no_space")); 3];
        write_failures(&failed, 1, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        failed    b: command 1 (no_space)
        failed    2 more; headend job report shows them
        ");
    }

    #[test]
    fn asking_takes_a_twentieth_of_the_time_at_most() {
        assert_eq!(pause(Duration::from_secs(1), POLL_MIN), Duration::from_secs(19));
        assert_eq!(pause(Duration::ZERO, POLL_MIN), POLL_MIN);
    }
}
