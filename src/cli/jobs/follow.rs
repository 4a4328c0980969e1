//! `headend job watch`: who feeds whom, how fast, and what happens, until the job has ended.
//!
//! ```text
//! events behind the newest --> lines          job, deliveries --> tree, redrawn on a terminal
//! ```
//! What each file of each node does is in the tree; lines are for what people want to know of:
//! other sources, failures, nodes that are lost or repaired, the job itself. Without a terminal
//! there are lines only, and one of sums each `LINES_EACH`; as JSON, an event a line, then the job.
//! Bounds: asking takes a twentieth of the time at most; a page of events each time.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;

use super::super::args::job::JobArgs;
use super::super::remote::table;
use super::super::{Exit, Failure, printable};
use super::base::{Base, BaseError, GIVE_UP_AFTER, deliveries, job_id, job_path, word};
use super::progress::by_node;
use super::show::sums;
use super::tree;
use super::watch::pause;
use crate::dist::chain::ChainEntry;
use crate::dist::ids::JobId;
use crate::dist::wire::job::{EventView, JobState, JobView};
use crate::dist::wire::report::JobReport;

/// `job watch`: 0 when the job completes, 1 when something of it fails.
pub(super) fn run(args: &JobArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let id = job_id(&args.job)?;
    let report: JobReport = base.get(&format!("{}/report", job_path(id)))?;
    let mut following = Following { base, id, after: report.event_seq };
    let mut screen = match (args.base.json, io::stdout().is_terminal()) {
        (true, _) => Screen::Json,
        (false, true) => Screen::Tree(Pane::new()),
        (false, false) => Screen::Lines { told_at: None },
    };
    let mut heard = Instant::now();
    loop {
        let began = Instant::now();
        match following.look(&mut screen, out) {
            Ok(job) if has_ended(&job) => return end(&job, &screen, out),
            Ok(_) => heard = Instant::now(),
            Err(Trouble::Base(error)) if error.may_pass() && heard.elapsed() < GIVE_UP_AFTER => {}
            Err(Trouble::Base(error)) => return Err(error.into()),
            Err(Trouble::Output(error)) => return Err(error.into()),
        }
        std::thread::sleep(pause(began.elapsed(), LOOK_EACH));
    }
}

struct Following<'a> {
    base: &'a Base,
    id: JobId,
    /// The last event that was looked at.
    after: u64,
}

/// Why a look did not come to its end.
enum Trouble {
    Base(BaseError),
    Output(io::Error),
}

/// A page of events of the base.
#[derive(Deserialize)]
struct Page {
    events: Vec<ChainEntry>,
    next: u64,
}

/// Where it is shown.
enum Screen {
    Tree(Pane),
    Lines { told_at: Option<Instant> },
    Json,
}

/// Lines at the bottom of a terminal that are written anew; others scroll away above them.
struct Pane {
    group: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Following<'_> {
    /// Shows what has happened since, and how far the job is.
    fn look(&mut self, screen: &mut Screen, out: &mut impl Write) -> Result<JobView, Trouble> {
        // First the job: what ends it comes before its end.
        let job: JobView = self.base.get(&job_path(self.id))?;
        for _ in 0..PAGES_MAX {
            let path = format!("/v1/events?after={}&limit={PAGE}", self.after);
            let page: Page = self.base.get(&path)?;
            let is_last = page.events.len() < PAGE;
            for event in page.events.iter().filter_map(ChainEntry::event) {
                if self.concerns(event, &job) {
                    screen.tell(event, out)?;
                }
            }
            self.after = self.after.max(page.next);
            if is_last {
                break;
            }
        }
        if !matches!(screen, Screen::Json) {
            let nodes = by_node(&deliveries(self.base, self.id, "")?);
            let rate: u64 = nodes.values().map(|node| node.rate).sum();
            let sum = sum(&job, rate);
            match screen {
                Screen::Tree(pane) => pane.show(&sum, tree::lines(&nodes)),
                Screen::Lines { told_at } => {
                    if told_at.is_none_or(|at| at.elapsed() >= LINES_EACH) || has_ended(&job) {
                        *told_at = Some(Instant::now());
                        writeln!(out, "{sum}")?;
                    }
                }
                Screen::Json => {}
            }
        }
        Ok(job)
    }

    /// Events of the job, and those of its nodes that belong to no job.
    fn concerns(&self, event: &EventView, job: &JobView) -> bool {
        match (event.job, &event.node) {
            (Some(of), _) => of == self.id,
            (None, Some(node)) => job.servers.iter().any(|server| server.node == *node),
            (None, None) => false,
        }
    }
}

impl Screen {
    fn tell(&self, event: &EventView, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Json => {
                let text = serde_json::to_string(event).map_err(io::Error::other)?;
                writeln!(out, "{text}")
            }
            Self::Tree(pane) => match line(event) {
                Some(line) => pane.group.println(line),
                None => Ok(()),
            },
            Self::Lines { .. } => match line(event) {
                Some(line) => writeln!(out, "{line}"),
                None => Ok(()),
            },
        }
    }
}

impl Pane {
    fn new() -> Self {
        let group = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        Self { group, lines: Vec::new() }
    }

    fn show(&mut self, sum: &str, tree: Vec<String>) {
        let more = tree.len().saturating_sub(LINES_MAX);
        let mut texts = vec![sum.to_owned()];
        texts.extend(tree.into_iter().take(LINES_MAX));
        if more > 0 {
            texts.push(format!("{more} more; headend job query shows them"));
        }
        while self.lines.len() < texts.len() {
            let style = ProgressStyle::with_template("{wide_msg}")
                .unwrap_or_else(|_wrong| ProgressStyle::default_bar());
            self.lines.push(self.group.add(ProgressBar::no_length().with_style(style)));
        }
        let empty = std::iter::repeat(String::new());
        for (bar, text) in self.lines.iter().zip(texts.into_iter().chain(empty)) {
            bar.set_message(text);
            bar.tick();
        }
    }
}

/// Ends the view: what was shown last stays.
fn end(job: &JobView, screen: &Screen, out: &mut impl Write) -> Result<Exit, Failure> {
    match screen {
        Screen::Tree(pane) => pane.lines.iter().for_each(ProgressBar::abandon),
        Screen::Lines { .. } => {}
        Screen::Json => {
            let text = serde_json::to_string(job).map_err(io::Error::other)?;
            writeln!(out, "{text}")?;
        }
    }
    Ok(if job.state == JobState::Completed { Exit::Ok } else { Exit::Runtime })
}

fn has_ended(job: &JobView) -> bool {
    match job.state {
        JobState::Denied
        | JobState::Completed
        | JobState::CompletedWithFailures
        | JobState::Cancelled => true,
        JobState::Open | JobState::Requested | JobState::Closing => false,
    }
}

/// `closing: 3 completed, 1 in progress; 12.0 MiB/s`.
fn sum(job: &JobView, rate: u64) -> String {
    let rate = match rate {
        0 => String::new(),
        rate => format!("; {}/s", table::bytes(rate)),
    };
    format!("{}: {}{rate}", word(job.state), sums(&job.totals))
}

/// `12:03:04 b: delivery.source, cause stall, source base`; `None` for what each file does on its
/// way.
fn line(event: &EventView) -> Option<String> {
    let is_first = event.detail["cause"] == "first";
    let is_usual = matches!(
        event.kind.as_str(),
        "delivery.pending"
            | "delivery.received"
            | "delivery.fetching"
            | "delivery.applying"
            | "delivery.completed"
            | "command.in_progress"
            | "command.completed"
            | "node.hello"
    );
    if is_usual || is_first {
        return None;
    }
    let time = jiff::Timestamp::from_nanosecond(i128::from(event.at_ns)).unwrap_or_default();
    let time = time.strftime("%H:%M:%S");
    let who = event.node.as_ref().map_or_else(|| "job".to_owned(), ToString::to_string);
    let command = event.command.map_or_else(String::new, |id| format!(" command {id}"));
    let details = event.detail.as_object().into_iter().flatten();
    let details = details.filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => printable(text),
            Value::Number(number) => number.to_string(),
            Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (text.len() <= DETAIL_MAX).then(|| format!(", {} {text}", printable(name)))
    });
    let details: String = details.collect();
    Some(format!("{time} {who}{command}: {}{details}", printable(&event.kind)))
}

impl From<BaseError> for Trouble {
    fn from(error: BaseError) -> Self {
        Self::Base(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

const LOOK_EACH: Duration = Duration::from_millis(300);
/// Logs are read later.
const LINES_EACH: Duration = Duration::from_secs(2);
/// Events of a page.
const PAGE: usize = 1_000;
/// Pages of one look; the rest comes with the next one.
const PAGES_MAX: usize = 10;
/// Lines of the tree: what fits on a terminal.
const LINES_MAX: usize = 40;
/// Longer details are hashes, keys and signatures.
const DETAIL_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, node: Option<&str>, detail: Value) -> EventView {
        serde_json::from_value(json!({
            "seq": 7, "at_ns": 1_700_000_000_000_000_000_i64, "job": null, "command": 3,
            "node": node, "kind": kind, "detail": detail, "hash": "00".repeat(32),
        }))
        .unwrap()
    }

    #[test]
    fn what_people_want_to_know_is_a_line() {
        let told = |kind, node, detail| line(&event(kind, node, detail));
        let switched = json!({ "source": "base", "cause": "stall", "signature": "x".repeat(80) });
        assert_eq!(
            told("delivery.source", Some("b"), switched).as_deref(),
            Some("22:13:20 b command 3: delivery.source, cause stall, source base")
        );
        let failed = json!({ "text": "no\u{1b}", "attempts": 2, "receipt": {} });
        assert_eq!(
            told("delivery.failed", Some("b"), failed).as_deref(),
            Some("22:13:20 b command 3: delivery.failed, attempts 2, text no?")
        );
        assert_eq!(told("delivery.completed", Some("b"), json!({})), None);
        assert_eq!(told("delivery.source", Some("b"), json!({ "cause": "first" })), None);
        assert!(told("job.completed", None, json!({})).is_some());
    }
}
