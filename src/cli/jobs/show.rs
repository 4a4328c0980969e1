//! `headend job ls|show|query|end|cancel|set|pause|resume|retry|report`, `headend node ls|show`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::super::args::job::{
    AskArgs, JobArgs, JobsArgs, NodeNameArgs, NodesArgs, OneOrNone, RetryArgs, SetArgs,
};
use super::super::remote::table;
use super::super::urls::encode_path;
use super::super::{Exit, Failure, printable};
use super::base::{Base, commands, deliveries, job_id, job_path, key, word};
use super::write_json;
use crate::base::rate::Rate;
use crate::dist::ids::NodeName;
use crate::dist::wire::agent::LiveTotals;
use crate::dist::wire::hook::NotificationView;
use crate::dist::wire::job::{
    CommandView, DeliveryState, DeliveryView, EventView, JobView, Limit, NodeView, Op, Policy,
    PolicyChange, Totals,
};
use crate::dist::wire::report::JobReport;

/// `job ls`.
pub(super) fn jobs(args: &JobsArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let state = args.state.as_deref().map(|state| format!("state={}&", encode_path(state)));
    let jobs: Vec<JobView> = base.list("/v1/jobs", &state.unwrap_or_default(), "jobs")?;
    if args.base.json {
        write_json(&json!({ "jobs": jobs }), out)?;
    } else {
        write_jobs(&jobs, out)?;
    }
    Ok(Exit::Ok)
}

/// `job show`.
pub(super) fn job(args: &JobArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let id = job_id(&args.job)?;
    let job: JobView = base.get(&job_path(id))?;
    let commands = commands(base, id)?;
    let path = format!("{}/notifications", job_path(id));
    let notifications: Vec<NotificationView> = base.list(&path, "", "notifications")?;
    if args.base.json {
        let shown = json!({ "job": job, "commands": commands, "notifications": notifications });
        write_json(&shown, out)?;
    } else {
        write_job(&job, out)?;
        write_notifications(&notifications, out)?;
        write_commands(&commands, out)?;
    }
    Ok(Exit::Ok)
}

/// `job query`.
pub(super) fn query(args: &JobArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let id = job_id(&args.job)?;
    let mut deliveries = deliveries(base, id, "")?;
    deliveries.retain(|delivery| {
        !matches!(delivery.state, DeliveryState::Completed | DeliveryState::Cancelled)
    });
    if args.base.json {
        write_json(&json!({ "deliveries": deliveries }), out)?;
    } else {
        write_deliveries(&deliveries, out)?;
    }
    Ok(Exit::Ok)
}

/// `job end`, `job cancel`, `job pause`, `job resume`.
pub(super) fn act(
    verb: &str,
    args: &JobArgs,
    base: &Base,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let path = format!("{}/{verb}", job_path(job_id(&args.job)?));
    tell(&base.post(&path, &key(), &json!({}))?, &args.base, out)
}

/// `job set`.
pub(super) fn set(args: &SetArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let rate = |word: &Option<OneOrNone<Rate>>| {
        word.as_ref().map(|OneOrNone(rate)| rate.map(Rate::bytes_per_s))
    };
    let change = PolicyChange {
        priority: args.priority,
        max_rate: rate(&args.max_rate),
        per_node_rate: rate(&args.node_rate),
        window: args.window.as_ref().map(|OneOrNone(window)| window.clone()),
        paused: None,
    };
    let job: JobView = base.patch(&job_path(job_id(&args.job)?), &key(), &change)?;
    if args.base.json {
        write_json(&job, out)?;
    } else {
        writeln!(out, "job {}: {}", job.job_id, policy(&job))?;
    }
    Ok(Exit::Ok)
}

/// `job retry`.
pub(super) fn retry(args: &RetryArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let nodes = args.nodes.iter().map(|name| {
        let wrong = |error| Failure::usage(format!("--nodes {}: {error}", printable(name)));
        NodeName::new(name).map_err(wrong)
    });
    let nodes: Vec<NodeName> = nodes.collect::<Result<_, _>>()?;
    let body = if nodes.is_empty() { json!({}) } else { json!({ "nodes": nodes }) };
    let path = format!("{}/retry", job_path(job_id(&args.job)?));
    tell(&base.post(&path, &key(), &body)?, &args.base, out)
}

fn tell(job: &JobView, args: &AskArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    if args.json {
        write_json(job, out)?;
    } else {
        let (id, state, totals) = (job.job_id, word(job.state), sums(&job.totals));
        writeln!(out, "job {id} is {state}: {totals}")?;
    }
    Ok(Exit::Ok)
}

/// `job report`.
pub(super) fn report(args: &JobArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let report: Value = base.get(&format!("{}/report", job_path(job_id(&args.job)?)))?;
    if args.base.json {
        // Receipts are signed as they are: nothing is read and written again.
        write_json(&report, out)?;
        return Ok(Exit::Ok);
    }
    let report: JobReport = serde_json::from_value(report)
        .map_err(|error| Failure::runtime(format!("the report is not understood: {error}")))?;
    write_report(&report, out)?;
    write_steps(&base.events(report.job.job_id, is_step)?, out)?;
    Ok(Exit::Ok)
}

/// `node ls`.
pub(super) fn nodes(args: &NodesArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let nodes: Vec<NodeView> = base.list("/v1/nodes", "", "nodes")?;
    if args.base.json {
        write_json(&json!({ "nodes": nodes }), out)?;
    } else {
        write_nodes(&nodes, out)?;
    }
    Ok(Exit::Ok)
}

/// `node show`.
pub(super) fn node(
    args: &NodeNameArgs,
    base: &Base,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let node: NodeView = base.get(&format!("/v1/nodes/{}", encode_path(&args.node)))?;
    if args.base.json {
        write_json(&node, out)?
    } else {
        write_node(&node, out)?
    }
    Ok(Exit::Ok)
}

fn write_jobs(jobs: &[JobView], out: &mut impl Write) -> io::Result<()> {
    if jobs.is_empty() {
        return writeln!(out, "no jobs");
    }
    let row = |job: &JobView| {
        vec![
            job.job_id.to_string(),
            job.client_ref.as_deref().map_or_else(|| "-".to_owned(), printable),
            word(job.state),
            job.commands.to_string(),
            table::bytes(job.content_bytes),
            job.servers.len().to_string(),
            sums(&job.totals),
            time(job.created_at_ns),
        ]
    };
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    let heads = ["ID", "NAME", "STATE", "COMMANDS", "BYTES", "NODES", "DELIVERIES", "SINCE"];
    table::write(&heads, &rows, out)
}

fn write_job(job: &JobView, out: &mut impl Write) -> io::Result<()> {
    let name = job
        .client_ref
        .as_deref()
        .map_or_else(String::new, |name| format!(" ({})", printable(name)));
    writeln!(out, "{}{name}   {}", job.job_id, word(job.state))?;
    let ended = job.ended_at_ns.map_or_else(String::new, |at| format!(", ended {}", time(at)));
    writeln!(out, "since       {}{ended}", time(job.created_at_ns))?;
    let size = table::bytes(job.content_bytes);
    writeln!(out, "brings      {} commands, {size}, from {}", job.commands, job.ctp_url)?;
    writeln!(out, "deliveries  {}", sums(&job.totals))?;
    if job.policy != Policy::default() {
        writeln!(out, "policy      {}", policy(job))?;
    }
    if let Some(limit) = &job.limited_by {
        writeln!(out, "held back   {}", held_back(limit))?;
    }
    let nodes: Vec<&str> = job.servers.iter().map(|server| server.node.as_str()).collect();
    writeln!(out, "nodes       {}", nodes.join(" "))?;
    if let Some(ratio) = job.bound_ratio {
        writeln!(out, "time        {ratio:.2} times the shortest that the rates allow")?;
    }
    if let Some(ratio) = job.base_egress_ratio {
        writeln!(out, "egress      the base sent {ratio:.2} times the bytes")?;
    }
    Ok(())
}

/// What a job may take, and when.
fn policy(job: &JobView) -> String {
    let policy = &job.policy;
    let mut words = vec![format!("priority {}", policy.priority)];
    let rate = |name: &str, rate: Option<u64>| rate.map(|_| format!("{name} {}", cap(rate)));
    words.extend(rate("a source", policy.max_rate));
    words.extend(rate("a node", policy.per_node_rate));
    words.extend(policy.window.as_ref().map(|window| format!("window {window}")));
    words.extend(policy.paused.then(|| "paused".to_owned()));
    words.join(", ")
}

/// Why a job is not as fast as links allow.
fn held_back(limit: &Limit) -> String {
    match limit {
        Limit::Paused => "it is paused: `headend job resume` lets it go on".to_owned(),
        Limit::Window { opens_at_ns: Some(at_ns) } => {
            format!("waiting for its window until {}", time(*at_ns))
        }
        Limit::Window { opens_at_ns: None } => "waiting for its window".to_owned(),
        Limit::Rate => "rate of its policy".to_owned(),
    }
}

/// A line for each; nothing where nobody is called back.
fn write_notifications(hooks: &[NotificationView], out: &mut impl Write) -> io::Result<()> {
    for hook in hooks {
        let events: Vec<String> = hook.events.iter().map(|topic| word(*topic)).collect();
        let mut line = format!("{} of {}", printable(&hook.url), events.join(", "));
        line.push_str(&format!(": {}, {} taken", word(hook.state), hook.delivered));
        for (count, what) in [(hook.pending, "waiting"), (hook.dropped, "dropped")] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        if let Some(at) = hook.next_attempt_at_ns.filter(|_| hook.attempts > 0) {
            line.push_str(&format!(", {} attempts failed, next {}", hook.attempts, time(at)));
        }
        if let Some(error) = &hook.last_error {
            line.push_str(&format!(": {}", printable(error)));
        }
        writeln!(out, "notifies    {line}")?;
    }
    Ok(())
}

fn write_commands(commands: &[CommandView], out: &mut impl Write) -> io::Result<()> {
    if commands.is_empty() {
        return writeln!(out, "no commands");
    }
    let row = |command: &CommandView| {
        let size = match (command.size, command.blake3) {
            (Some(size), Some(_)) => table::bytes(size),
            (Some(size), None) if matches!(command.op, Op::Put { .. }) => {
                format!("{} of {}", table::bytes(command.uploaded_bytes), table::bytes(size))
            }
            _ => "-".to_owned(),
        };
        let (state, sums) = (word(command.state), sums(&command.totals));
        let (verb, path) = told(&command.op);
        vec![command.command_id.to_string(), verb.to_owned(), size, state, sums, path]
    };
    let rows: Vec<Vec<String>> = commands.iter().map(row).collect();
    table::write(&["COMMAND", "DOES", "BYTES", "STATE", "DELIVERIES", "PATH"], &rows, out)
}

fn write_deliveries(deliveries: &[DeliveryView], out: &mut impl Write) -> io::Result<()> {
    if deliveries.is_empty() {
        return writeln!(out, "nothing is open, and nothing has failed");
    }
    let row = |delivery: &DeliveryView| {
        let (have, rate) = (table::bytes(delivery.offset), table::bytes(delivery.rate));
        vec![
            delivery.node.to_string(),
            delivery.command_id.to_string(),
            word(delivery.state),
            match delivery.size {
                Some(size) => format!("{have} of {}", table::bytes(size)),
                None => have,
            },
            format!("{rate}/s"),
            delivery.source.as_deref().map_or_else(|| "-".to_owned(), printable),
            delivery.switches.to_string(),
            delivery.attempts.to_string(),
            delivery.reason.map_or_else(|| "-".to_owned(), word),
        ]
    };
    let rows: Vec<Vec<String>> = deliveries.iter().map(row).collect();
    let heads =
        ["NODE", "COMMAND", "STATE", "BYTES", "RATE", "FROM", "SWITCHES", "ATTEMPTS", "REASON"];
    table::write(&heads, &rows, out)
}

fn write_report(report: &JobReport, out: &mut impl Write) -> io::Result<()> {
    write_job(&report.job, out)?;
    writeln!(out, "events      {} {}", report.event_seq, report.event_hash)?;
    let commands: BTreeMap<_, _> =
        report.commands.iter().map(|command| (command.command_id, command)).collect();
    for node in &report.nodes {
        let back = node.expected_back_ns.map(time);
        let back = back.map_or_else(String::new, |back| format!(", expected back {back}"));
        writeln!(out, "\n{}   {}   {}{back}", node.node, sums(&node.totals), word(node.state))?;
        let rows = node.deliveries.iter().map(|delivery| {
            let path = commands.get(&delivery.command_id).map(|command| told(&command.op).1);
            let via = delivery.via.iter();
            let via: Vec<String> = via
                .map(|(from, bytes)| format!("{} {}", printable(from), table::bytes(*bytes)))
                .collect();
            let hash = delivery.blake3.map(|hash| hash.to_string());
            vec![
                delivery.command_id.to_string(),
                match delivery.is_late {
                    true => format!("{}, late", word(delivery.state)),
                    false => word(delivery.state),
                },
                delivery.reason.map_or_else(|| "-".to_owned(), word),
                delivery.finished_at_ns.map_or_else(|| "-".to_owned(), time),
                match (&delivery.receipt, delivery.is_signature_valid) {
                    (None, _) => "-".to_owned(),
                    (Some(_), true) => "signed".to_owned(),
                    (Some(_), false) => "BAD".to_owned(),
                },
                delivery.size.map_or_else(|| "-".to_owned(), table::bytes),
                hash.and_then(|hash| hash.get(..16).map(str::to_owned))
                    .unwrap_or_else(|| "-".to_owned()),
                if via.is_empty() { "-".to_owned() } else { via.join(", ") },
                path.unwrap_or_default() + &delivery.live.as_ref().map_or_else(String::new, came),
            ]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        let heads = [
            "COMMAND", "STATE", "REASON", "FINISHED", "RECEIPT", "BYTES", "BLAKE3", "FROM", "PATH",
        ];
        table::write(&heads, &rows, out)?;
    }
    Ok(())
}

/// What came of a live path.
fn came(totals: &LiveTotals) -> String {
    let LiveTotals { packets, flow_ms, switches } = totals;
    format!(" ({packets} packets in {} s, {switches} switches)", flow_ms / 1_000)
}

/// What was done about nodes that did not get on.
fn write_steps(events: &[EventView], out: &mut impl Write) -> io::Result<()> {
    let rows = events.iter().map(|event| {
        vec![
            time(event.at_ns),
            event.node.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            printable(&event.kind),
            printable(&event.detail.to_string()),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    table::write(&["AT", "NODE", "STEP", "DETAIL"], &rows, out)
}

/// A step of a wait period, a repair or a late delivery.
fn is_step(event: &EventView) -> bool {
    STEPS.iter().any(|kind| event.kind.starts_with(kind))
}

fn write_nodes(nodes: &[NodeView], out: &mut impl Write) -> io::Result<()> {
    if nodes.is_empty() {
        return writeln!(out, "no nodes");
    }
    let row = |node: &NodeView| {
        vec![
            node.node.to_string(),
            word(node.state),
            printable(&node.addr),
            cap(node.up_rate_cap),
            cap(node.down_rate_cap),
            table::bytes(node.free_bytes),
            node.open_deliveries.to_string(),
            time(node.heard_at_ns),
            labels(node),
        ]
    };
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    let heads = ["NODE", "STATE", "ADDRESS", "UP", "DOWN", "FREE", "OPEN", "HEARD", "LABELS"];
    table::write(&heads, &rows, out)
}

fn write_node(node: &NodeView, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}   {}", node.node, word(node.state))?;
    writeln!(out, "address     {}", printable(&node.addr))?;
    writeln!(out, "labels      {}", labels(node))?;
    writeln!(out, "rates       up {}, down {}", cap(node.up_rate_cap), cap(node.down_rate_cap))?;
    writeln!(out, "free        {}", table::bytes(node.free_bytes))?;
    writeln!(out, "open        {} deliveries", node.open_deliveries)?;
    writeln!(out, "heard       {}", time(node.heard_at_ns))?;
    let Some(repair) = node.repair else { return Ok(()) };
    let cause = repair.cause.map_or_else(|| "-".to_owned(), word);
    writeln!(out, "repair      {}, {cause}, {} tries", word(repair.phase), repair.tries)?;
    let Some(at_ns) = repair.expected_back_ns else { return Ok(()) };
    writeln!(out, "back        {} is expected", time(at_ns))
}

fn labels(node: &NodeView) -> String {
    let labels: Vec<String> =
        node.labels.iter().map(|(key, value)| printable(&format!("{key}={value}"))).collect();
    if labels.is_empty() { "-".to_owned() } else { labels.join(" ") }
}

/// What a command does, and to what.
fn told(op: &Op) -> (&'static str, String) {
    match op {
        Op::Put { path, .. } => ("put", printable(path)),
        Op::Mkdir { path, .. } => ("mkdir", printable(path)),
        Op::Delete { path } => ("delete", printable(path)),
        Op::Move { path, to } => ("move", printable(&format!("{path} to {to}"))),
        Op::SetAttributes { path, .. } => ("set", printable(path)),
        Op::Query => ("query", "-".to_owned()),
        Op::Live { path, from } => ("live", printable(&format!("{path} from {from}"))),
    }
}

/// `3 completed, 1 failed`.
pub(super) fn sums(totals: &Totals) -> String {
    let Totals { new, in_progress, completed, failed, cancelled } = *totals;
    let named = [
        (completed, "completed"),
        (in_progress, "in progress"),
        (new, "new"),
        (failed, "failed"),
        (cancelled, "cancelled"),
    ];
    let named = named.iter().filter(|(count, _)| *count > 0);
    let named: Vec<String> = named.map(|(count, name)| format!("{count} {name}")).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

/// A cap in bytes per second, as people say rates: bits.
fn cap(bytes_per_s: Option<u64>) -> String {
    bytes_per_s.map_or_else(|| "-".to_owned(), |rate| table::bit_rate(rate.saturating_mul(8)))
}

/// How kinds of events begin that are steps of what is done about a node.
const STEPS: [&str; 4] = ["wait.", "repair.", "late.", "node.expected"];

/// `2026-11-29T20:00:00Z`.
fn time(ns: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn view() -> JobView {
        serde_json::from_value(json!({
            "job_id": "01890a5d-ac96-774b-bcce-b302099a8057", "client_ref": "news\u{1b}",
            "state": "completed", "list_version": 1, "policy": {}, "commands": 2,
            "servers": [
                { "index": 0, "node": "a", "addr": "192.0.2.1:1", "up_rate": 1 },
                { "index": 1, "node": "b", "addr": "192.0.2.2:1", "up_rate": 1 },
            ],
            "ctp_url": "/ctp/01890a5d-ac96-774b-bcce-b302099a8057/", "content_bytes": 2_048,
            "totals": { "new": 0, "in_progress": 0, "completed": 3, "failed": 1, "cancelled": 0 },
            "created_at_ns": 1_700_000_000_000_000_000_i64, "ended_at_ns": null,
            "bound_ratio": 1.044, "base_egress_ratio": 1.0,
        }))
        .unwrap()
    }

    #[test]
    fn jobs_are_told_in_a_table_and_one_by_one() {
        insta::assert_snapshot!(written(|out| write_jobs(&[view()], out)), @r"
        ID                                    NAME   STATE      COMMANDS  BYTES    NODES  DELIVERIES             SINCE
        01890a5d-ac96-774b-bcce-b302099a8057  news?  completed  2         2.0 KiB  2      3 completed, 1 failed  2023-11-14T22:13:20Z
        ");
        insta::assert_snapshot!(written(|out| write_job(&view(), out)), @r"
        01890a5d-ac96-774b-bcce-b302099a8057 (news?)   completed
        since       2023-11-14T22:13:20Z
        brings      2 commands, 2.0 KiB, from /ctp/01890a5d-ac96-774b-bcce-b302099a8057/
        deliveries  3 completed, 1 failed
        nodes       a b
        time        1.04 times the shortest that the rates allow
        egress      the base sent 1.00 times the bytes
        ");
        assert_eq!(written(|out| write_jobs(&[], out)), "no jobs\n");
    }

    #[test]
    fn commands_are_told_with_what_has_been_uploaded() {
        let totals =
            json!({ "new": 2, "in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0 });
        let command = |id: u32, op: Value| {
            let mut view = json!({
                "command_id": id, "state": "new", "uploaded_bytes": 512, "size": null,
                "blake3": null, "totals": totals,
            });
            view.as_object_mut().unwrap().extend(op.as_object().unwrap().clone());
            serde_json::from_value::<CommandView>(view).unwrap()
        };
        let commands = [
            command(1, json!({ "op": "put", "path": "a.mp4", "size": 1_024 })),
            command(2, json!({ "op": "move", "path": "a", "to": "b" })),
        ];
        insta::assert_snapshot!(written(|out| write_commands(&commands, out)), @r"
        COMMAND  DOES  BYTES             STATE  DELIVERIES  PATH
        1        put   512 B of 1.0 KiB  new    2 new       a.mp4
        2        move  -                 new    2 new       a to b
        ");
    }
}
