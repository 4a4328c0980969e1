//! `headend job verify`: what the base says, held against hashes and the nodes' signatures.
//!
//! ```text
//! events of the base, from the first   -> each hash follows from the one before   (dist::chain)
//! report of the job                    -> its newest event is in that chain
//! receipts                             -> signed by the node; job, command, size, hash as reported
//! ```
//! Events of other clients come sealed: their hash is checked, their content is not shown. Of
//! those that the base has moved to files it remembers the last hash, behind which the chain goes
//! on; with `--archive` the files are held against it.
//! Bound: a page of events in memory, a line of a file.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use super::super::args::job::VerifyArgs;
use super::super::{Exit, Failure};
use super::base::{Base, job_id, job_path};
use super::write_json;
use crate::dist::chain::{ChainEntry, ChainHead, verify_entries};
use crate::dist::ids::{CommandKey, Digest};
use crate::dist::keys;
use crate::dist::wire::job::{DeliveryState, EventView};
use crate::dist::wire::report::{CommandReport, DeliveryReport, JobReport, NodeReport};

/// A page of events.
#[derive(Debug, Deserialize)]
struct Page {
    events: Vec<ChainEntry>,
    next: u64,
    /// The last event that the base does not keep any more.
    #[serde(default)]
    archived: Option<ChainHead>,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    events: u64,
    /// Of these, those that the base does not keep any more.
    archived: u64,
    receipts: u64,
    faults: Vec<String>,
}

/// `job verify`: 0 when everything holds, 1 when something does not.
pub(super) fn run(args: &VerifyArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let id = job_id(&args.job)?;
    let report: JobReport = base.get(&format!("{}/report", job_path(id)))?;
    let mut found = Found::default();
    let mut head = ChainHead::START;
    let mut reported: Option<Digest> = (report.event_seq == 0).then_some(report.event_hash);
    while head.seq < report.event_seq {
        let path = format!("/v1/events?after={}&limit={PAGE}", head.seq);
        let Page { events, next, archived } = base.get(&path)?;
        // The base begins its chain behind what it has moved to files.
        let first = events.first().map(ChainEntry::seq);
        if let Some(start) = archived.filter(|start| head.seq == 0 && first == Some(start.seq + 1))
        {
            head = start;
            found.archived = start.seq;
            if let Some(folder) = &args.archive {
                check_files(folder, start, &mut found);
            }
        }
        if events.is_empty() || next <= head.seq {
            let fault = format!("event {} is missing, and those behind it", head.seq + 1);
            found.faults.push(fault);
            break;
        }
        // In two pieces, so that the head stops at the event that the report names.
        let up_to = events.iter().take_while(|event| event.seq() <= report.event_seq).count();
        match verify_entries(head, &events[..up_to]) {
            Ok(new) => head = new,
            Err(error) => {
                found.faults.push(error.to_string());
                break;
            }
        }
    }
    found.events = head.seq;
    if head.seq == report.event_seq && found.faults.is_empty() {
        reported = Some(head.hash);
    }
    if found.faults.is_empty() && reported != Some(report.event_hash) {
        found.faults.push(format!("event {} has not the hash of the report", report.event_seq));
    }
    check_receipts(&report, &mut found);
    if args.base.json {
        write_json(
            &json!({
                "job_id": id, "events": found.events, "archived": found.archived,
                "receipts": found.receipts,
                "event_hash": report.event_hash, "faults": found.faults,
            }),
            out,
        )?;
    } else {
        for fault in &found.faults {
            writeln!(out, "fault     {fault}")?;
        }
        let verdict = if found.faults.is_empty() { "all well" } else { "NOT all well" };
        let Found { events, archived, receipts, .. } = &found;
        writeln!(
            out,
            "{verdict}: {events} events in a chain, {receipts} receipts signed by nodes"
        )?;
        if *archived > 0 {
            let how = match &args.archive {
                Some(folder) => format!("read in {}", folder.display()),
                None => "by the hash of the last one, which the base remembers".to_owned(),
            };
            writeln!(out, "archived  {archived} of them, {how}")?;
        }
        writeln!(out, "event     {} {}", report.event_seq, report.event_hash)?;
    }
    Ok(if found.faults.is_empty() { Exit::Ok } else { Exit::Runtime })
}

/// Whether files of events lead to the one behind which the base goes on.
fn check_files(folder: &Path, start: ChainHead, found: &mut Found) {
    let mut fault = |why: String| found.faults.push(format!("{}: {why}", folder.display()));
    let mut paths = match files_of(folder) {
        Ok(paths) => paths,
        Err(error) => return fault(error.to_string()),
    };
    paths.sort_unstable();
    let mut head = ChainHead::START;
    for path in paths {
        let lines = match File::open(&path) {
            Ok(file) => BufReader::new(file).lines(),
            Err(error) => return fault(format!("{}: {error}", path.display())),
        };
        for line in lines {
            let read = line.map_err(|error| error.to_string());
            let event = read.and_then(|line| {
                serde_json::from_str::<EventView>(&line).map_err(|error| error.to_string())
            });
            let checked = event.and_then(|event| {
                // The base may have been stopped before it let go of what follows.
                if head == start {
                    return Ok(());
                }
                head.check(&event).map_err(|error| error.to_string())
            });
            if let Err(why) = checked {
                return fault(format!("{}: {why}", path.display()));
            }
        }
    }
    if head != start {
        fault(format!(
            "they end with event {}, and the base goes on behind {}",
            head.seq, start.seq
        ));
    }
}

fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn check_receipts(report: &JobReport, found: &mut Found) {
    for node in &report.nodes {
        for delivery in &node.deliveries {
            let command =
                report.commands.iter().find(|command| command.command_id == delivery.command_id);
            match check(report, node, command, delivery) {
                Ok(true) => found.receipts += 1,
                Ok(false) => {}
                Err(why) => {
                    let (node, command) = (&node.node, delivery.command_id);
                    found.faults.push(format!("{node}, command {command}: {why}"));
                }
            }
        }
    }
}

/// `Ok(false)`: there is no receipt, and none is needed.
fn check(
    report: &JobReport,
    node: &NodeReport,
    command: Option<&CommandReport>,
    delivery: &DeliveryReport,
) -> Result<bool, &'static str> {
    let Some(signed) = &delivery.receipt else {
        return match delivery.state {
            DeliveryState::Completed => Err("completed without a receipt"),
            _ => Ok(false),
        };
    };
    let key = node.public_key.parse().map_err(|_| "the node's key is none")?;
    let receipt =
        keys::verify_receipt(&key, signed).map_err(|_| "the signature is not the node's")?;
    let named = CommandKey { job: report.job.job_id, command: delivery.command_id };
    if receipt.node != node.node || receipt.key != named {
        return Err("the receipt is for something else");
    }
    let is_put = command.is_some_and(|command| command.blake3.is_some());
    let same = command.is_none_or(|command| {
        !is_put || receipt.blake3 == command.blake3 && Some(receipt.size) == command.size
    });
    if same { Ok(true) } else { Err("size or hash are not those that the base has") }
}

/// Events of a page.
const PAGE: u64 = 10_000;
