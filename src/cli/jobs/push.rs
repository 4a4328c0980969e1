//! `headend job push`: a job for files and folders, its uploads, and its end at every node.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::super::args::job::{PushArgs, PushLate, PushOrder};
use super::super::remote::table;
use super::super::{Exit, Failure, printable};
use super::base::{Base, deliveries, job_id, job_path, key, word};
use super::files::{Item, Items};
use super::upload::{self, Progress, UploadError};
use super::watch::{self, Watch};
use super::write_json;
use crate::base::rate::Rate;
use crate::dist::ids::{CommandId, JobId, NodeName};
use crate::dist::webhook::secret::{Secret, SecretError};
use crate::dist::wire::hook::NotifyRequest;
use crate::dist::wire::job::{
    CommandAccepted, CommandRequest, JobRequest, JobState, JobView, Late, Op, Order, Policy,
    Targets,
};

/// `headend job push`.
pub(super) fn run(args: &PushArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let began = Instant::now();
    let items = Items::find(&args.files, args.into.as_deref())?;
    let job = match &args.job {
        Some(id) => base.get(&job_path(job_id(id)?))?,
        None => request(args, base)?,
    };
    if job.state != JobState::Open {
        let (id, state) = (job.job_id, word(job.state));
        return Err(Failure::runtime(format!("job {id} takes no more files: it is {state}")));
    }
    let (files, bytes) = (count(&items.items), total(&items.items));
    if !args.base.json {
        let size = table::bytes(bytes);
        let (id, nodes) = (job.job_id, nodes(job.servers.len()));
        writeln!(out, "job {id}   {files}, {size}, to {nodes}")?;
        out.flush()?;
    }
    tell_left_out(&items.left_out)?;
    let sent = send_all(args, base, &job, &items.items)?;
    withdraw(base, job.job_id, &sent.errors);
    if args.job.is_none() {
        let (path, key) = (format!("{}/end", job_path(job.job_id)), key());
        base.persist(|base| base.post::<Value>(&path, &key, &json!({})))?;
    }
    let job = match args.detach {
        true => base.persist(|base| base.get(&job_path(job.job_id)))?,
        false => Watch::new(base, &job, bytes, args.watch && !args.base.json).wait()?,
    };
    tell(args, base, &job, &sent, began, out)
}

/// Asks for a job.
fn request(args: &PushArgs, base: &Base) -> Result<JobView, Failure> {
    let order = match args.order {
        PushOrder::Prefix => Order::Prefix,
        PushOrder::Strict => Order::Strict,
        PushOrder::None => Order::None,
    };
    let late = match args.late {
        PushLate::Deliver => Late::Deliver,
        PushLate::Drop => Late::Drop,
    };
    let request = JobRequest {
        client_ref: args.name.clone(),
        targets: targets(&args.to)?,
        policy: Policy {
            order,
            priority: args.priority,
            max_rate: args.max_rate.map(Rate::bytes_per_s),
            per_node_rate: args.node_rate.map(Rate::bytes_per_s),
            window: args.window.clone(),
            paused: args.paused,
            late,
        },
        deadline_s: args.deadline,
        notify: notify(args)?,
    };
    Ok(base.post("/v1/jobs", &key(), &request)?)
}

/// Who is called back.
fn notify(args: &PushArgs) -> Result<Vec<NotifyRequest>, Failure> {
    let Some(url) = args.notify.clone() else { return Ok(Vec::new()) };
    let secret = args.notify_secret_file.as_deref().map(|file| {
        let failed = |why: String| {
            let file = printable(&file.display().to_string());
            Failure::usage(format!("--notify-secret-file {file}: {why}"))
        };
        let mut text = String::new();
        let read =
            File::open(file).and_then(|file| file.take(SECRET_FILE_MAX).read_to_string(&mut text));
        read.map_err(|error| failed(error.to_string()))?;
        text.trim().parse().map_err(|error: SecretError| failed(error.to_string()))
    });
    let secret: Option<Secret> = secret.transpose()?;
    Ok(vec![NotifyRequest { url, secret, events: args.notify_events.clone() }])
}

/// `all`, `a,b` or `site=north,tier=edge`.
pub(super) fn targets(word: &str) -> Result<Targets, Failure> {
    if word == "all" {
        return Ok(Targets::All);
    }
    if word.contains('=') {
        return Ok(Targets::Selector(word.to_owned()));
    }
    let names = word.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<NodeName> = names
        .map(|name| {
            let wrong = |error| Failure::usage(format!("--to {}: {error}", printable(name)));
            NodeName::new(name).map_err(wrong)
        })
        .collect::<Result<_, _>>()?;
    match names.is_empty() {
        true => Err(Failure::usage("--to names no node")),
        false => Ok(Targets::Nodes(names)),
    }
}

/// What became of the files and folders.
#[derive(Debug, Default)]
struct Sent {
    /// Commands of the job.
    commands: BTreeSet<CommandId>,
    errors: Vec<UploadError>,
}

/// Makes the folders, then sends the files, a few at once. Nothing else is begun after a failure.
fn send_all(args: &PushArgs, base: &Base, job: &JobView, items: &[Item]) -> Result<Sent, Failure> {
    let (folders, files): (Vec<&Item>, Vec<&Item>) =
        items.iter().partition(|item| item.size.is_none());
    let commands = format!("{}/commands", job_path(job.job_id));
    let mut all = Sent::default();
    for folder in folders {
        let op = Op::Mkdir { path: folder.path.clone(), attrs: folder.attrs.clone() };
        let request = CommandRequest { op, size: None, blake3: None };
        let key = key();
        let accepted: CommandAccepted =
            base.persist(|base| base.post(&commands, &key, &request))?;
        all.commands.insert(accepted.command_id);
    }
    let (next, progress) = (AtomicUsize::new(0), Progress::default());
    let all = Mutex::new(all);
    let bytes = total(items);
    std::thread::scope(|scope| {
        let sender = || {
            while let Some(item) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let sent = match progress.is_stopped.load(Ordering::Relaxed) {
                    true => Err(UploadError::Stopped { path: printable(&item.path) }),
                    false => upload::send(base, job.job_id, item, &progress),
                };
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                match sent {
                    Ok(command) => drop(all.commands.insert(command)),
                    Err(error) => {
                        progress.is_stopped.store(true, Ordering::Relaxed);
                        all.errors.push(error);
                    }
                }
            }
        };
        let senders: Vec<_> = (0..files.len().min(SENDERS)).map(|_| scope.spawn(sender)).collect();
        let watch = Watch::new(base, job, bytes, args.watch && !args.base.json);
        watch.uploads(&progress, || senders.iter().all(|sender| sender.is_finished()));
    });
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Withdraws puts whose bytes are not those of their files. It is tried once: the job tells what
/// remains.
fn withdraw(base: &Base, job: JobId, errors: &[UploadError]) {
    for command in errors.iter().filter_map(UploadError::command) {
        let path = format!("{}/commands/{command}/cancel", job_path(job));
        let _tried = base.post::<Value>(&path, &key(), &json!({}));
    }
}

fn tell_left_out(files: &[PathBuf]) -> io::Result<()> {
    let mut err = io::stderr().lock();
    files.iter().try_for_each(|file| {
        let file = printable(&file.display().to_string());
        writeln!(err, "headend: {file} is left out: neither a file nor a folder")
    })
}

/// Says how it ended.
fn tell(
    args: &PushArgs,
    base: &Base,
    job: &JobView,
    sent: &Sent,
    began: Instant,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let failed = match job.totals.failed {
        0 => Vec::new(),
        _ => watch::failures(base, job.job_id)?,
    };
    let withdrawn = match job.totals.cancelled {
        0 => Vec::new(),
        _ => deliveries(base, job.job_id, "state=cancelled&")?,
    };
    // A put of a file that was sent again in another form is withdrawn, and nothing is missing.
    let is_lacking = withdrawn.iter().any(|lost| sent.commands.contains(&lost.command_id));
    let is_well = sent.errors.is_empty() && !is_lacking && is_well(job, args.detach);
    if args.base.json {
        let errors: Vec<String> = sent.errors.iter().map(UploadError::to_string).collect();
        write_json(&json!({ "job": job, "failed": failed, "not_sent": errors }), out)?;
    } else {
        for error in sent.errors.iter().take(FAILURES_SHOWN) {
            writeln!(out, "not sent  {error}")?;
        }
        watch::write_failures(&failed, FAILURES_SHOWN, out)?;
        writeln!(out, "{}", summary(job, args.detach, began.elapsed().as_secs_f64()))?;
    }
    out.flush()?;
    Ok(if is_well { Exit::Ok } else { Exit::Runtime })
}

/// Every target has all that the job brings, or, with `--detach`, nothing has failed so far.
fn is_well(job: &JobView, is_detached: bool) -> bool {
    let totals = job.totals;
    let is_done = totals.new == 0 && totals.in_progress == 0;
    totals.failed == 0 && (is_detached || is_done && job.state != JobState::Cancelled)
}

fn summary(job: &JobView, is_detached: bool, seconds: f64) -> String {
    let totals = job.totals;
    let all = totals.new + totals.in_progress + totals.completed + totals.failed + totals.cancelled;
    if is_detached {
        return format!("the base has all bytes after {seconds:.1}s; job {}", job.job_id);
    }
    let (state, done) = (word(job.state), totals.completed);
    let ratio = job.bound_ratio.map_or_else(String::new, |ratio| {
        format!(", {ratio:.2} times the shortest time that the rates allow")
    });
    format!("{state} after {seconds:.1}s: {done} of {all} deliveries{ratio}")
}

fn total(items: &[Item]) -> u64 {
    items.iter().filter_map(|item| item.size).sum()
}

fn count(items: &[Item]) -> String {
    match items.iter().filter(|item| item.size.is_some()).count() {
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    }
}

pub(super) fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// A secret has less than a hundred characters.
const SECRET_FILE_MAX: u64 = 4_096;
/// Files that are sent at once: more than a disk of the base commits in the time of a round trip.
const SENDERS: usize = 12;
/// Lines of failures; `job report` has all.
const FAILURES_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn targets_are_all_names_or_labels() {
        assert_eq!(targets("all").unwrap(), Targets::All);
        let names = ["a", "b"].map(|name| NodeName::new(name).unwrap()).to_vec();
        assert_eq!(targets("a, b").unwrap(), Targets::Nodes(names));
        let selector = "site=north,tier=edge";
        assert_eq!(targets(selector).unwrap(), Targets::Selector(selector.to_owned()));
        for bad in ["", ",", "A", "a b"] {
            assert_eq!(targets(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn only_deliveries_that_are_all_done_are_well() {
        let view = |state: &str, totals: Value| -> JobView {
            serde_json::from_value(json!({
                "job_id": Uuid::nil(), "client_ref": null, "state": state, "servers": [],
                "list_version": 1, "policy": {}, "ctp_url": "", "commands": 1,
                "content_bytes": 1, "totals": totals, "created_at_ns": 0, "ended_at_ns": null,
                "bound_ratio": 1.044, "base_egress_ratio": null,
            }))
            .unwrap()
        };
        let totals = |in_progress: u64, failed: u64| {
            json!({ "new": 0, "in_progress": in_progress, "completed": 2, "failed": failed,
                "cancelled": 0 })
        };
        let done = view("completed", totals(0, 0));
        assert!(is_well(&done, false));
        assert_eq!(
            summary(&done, false, 1.25),
            "completed after 1.2s: 2 of 2 deliveries, 1.04 times the shortest time that the rates \
             allow"
        );
        assert!(!is_well(&view("completed_with_failures", totals(0, 1)), true));
        assert!(!is_well(&view("closing", totals(1, 0)), false));
        assert!(is_well(&view("closing", totals(1, 0)), true));
    }
}
