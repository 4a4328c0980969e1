//! Rows into tables. A row is written whole, in place of the one with the same key; events are only
//! added.

use rusqlite::{Connection, params};

use super::LedgerError;
use super::columns::{json, number, number_if_any, word};
use crate::dist::ids::CommandKey;
use crate::dist::rows::{AnswerRow, Change, CommandRow, ContentRow, DeliveryRow, JobRow, NodeRow};
use crate::dist::wire::job::{Attributes, EventView, Op, Policy};

/// Writes a change within the transaction that `db` is in.
pub(super) fn change(db: &Connection, change: &Change) -> Result<(), LedgerError> {
    match change {
        Change::Job(row) => job(db, row),
        Change::Command(row) => command(db, row),
        Change::Delivery(row) => delivery(db, row),
        Change::Node(row) => node(db, row),
        Change::Content(row) => content(db, row),
        Change::Event(event) => add_event(db, event),
        Change::Answer(row) => answer(db, row),
    }
}

fn job(db: &Connection, row: &JobRow) -> Result<(), LedgerError> {
    let JobRow { id, client, client_ref, state, servers, list_version, policy, .. } = row;
    let Policy { order, priority, max_rate } = policy;
    let JobRow { created_at_ns, deadline_ns, ended_at_ns, bound_ratio, base_egress_ratio, .. } =
        row;
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    statement.execute(params![
        id.to_string(),
        client,
        client_ref,
        word(state)?,
        json(servers)?,
        list_version,
        word(order)?,
        priority,
        number_if_any(*max_rate),
        created_at_ns,
        deadline_ns,
        ended_at_ns,
        bound_ratio,
        base_egress_ratio,
    ])?;
    Ok(())
}

fn command(db: &Connection, row: &CommandRow) -> Result<(), LedgerError> {
    let CommandRow { key: CommandKey { job, command }, op, content, created_at_ns } = row;
    let Operation { name, path, to, attrs } = Operation::of(op);
    let attrs = attrs.map(json).transpose()?;
    let mut statement =
        db.prepare_cached("INSERT OR REPLACE INTO command VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
    statement.execute(params![
        job.to_string(),
        command.0,
        name,
        path,
        to,
        attrs,
        content.map(|content| content.to_string()),
        created_at_ns,
    ])?;
    Ok(())
}

/// The columns of an operation.
struct Operation<'o> {
    name: &'static str,
    path: Option<&'o str>,
    to: Option<&'o str>,
    attrs: Option<&'o Attributes>,
}

impl<'o> Operation<'o> {
    fn of(op: &'o Op) -> Self {
        let (name, path, to, attrs) = match op {
            Op::Put { path, attrs } => ("put", Some(path), None, Some(attrs)),
            Op::Mkdir { path, attrs } => ("mkdir", Some(path), None, Some(attrs)),
            Op::Delete { path } => ("delete", Some(path), None, None),
            Op::Move { path, to } => ("move", Some(path), Some(to), None),
            Op::SetAttributes { path, attrs } => ("set_attributes", Some(path), None, Some(attrs)),
            Op::Query => ("query", None, None, None),
        };
        Self { name, path: path.map(String::as_str), to: to.map(String::as_str), attrs }
    }
}

fn delivery(db: &Connection, row: &DeliveryRow) -> Result<(), LedgerError> {
    let DeliveryRow { key: CommandKey { job, command }, node, state, offset, source, .. } = row;
    let DeliveryRow { switches, attempts, reason, detail, receipt, updated_at_ns, .. } = row;
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    statement.execute(params![
        job.to_string(),
        command.0,
        node.as_str(),
        word(state)?,
        number(*offset),
        source.as_ref().map(|source| source.as_str()),
        switches,
        attempts,
        reason.as_ref().map(word).transpose()?,
        detail,
        receipt.as_ref().map(|signed| &signed.receipt),
        receipt.as_ref().map(|signed| &signed.signature),
        updated_at_ns,
    ])?;
    Ok(())
}

fn node(db: &Connection, row: &NodeRow) -> Result<(), LedgerError> {
    let NodeRow { name, state, token_hash, public_key, addr, labels, incarnation, .. } = row;
    let NodeRow { reports_taken, up_rate_cap, down_rate_cap, .. } = row;
    let NodeRow { up_rate_seen, down_rate_seen, heard_at_ns, .. } = row;
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO node VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    statement.execute(params![
        name.as_str(),
        word(state)?,
        token_hash.to_string(),
        public_key,
        addr,
        json(labels)?,
        number(incarnation.0),
        number(*reports_taken),
        number_if_any(*up_rate_cap),
        number_if_any(*down_rate_cap),
        number(*up_rate_seen),
        number(*down_rate_seen),
        heard_at_ns,
    ])?;
    Ok(())
}

fn content(db: &Connection, row: &ContentRow) -> Result<(), LedgerError> {
    let ContentRow { id, key, size, expected, blake3, ended_at_ns, is_abandoned } = row;
    let mut statement =
        db.prepare_cached("INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
    statement.execute(params![
        id.to_string(),
        key.job.to_string(),
        key.command.0,
        number_if_any(*size),
        expected.map(|digest| digest.to_string()),
        blake3.map(|digest| digest.to_string()),
        ended_at_ns,
        is_abandoned,
    ])?;
    Ok(())
}

fn add_event(db: &Connection, event: &EventView) -> Result<(), LedgerError> {
    let EventView { seq, at_ns, job, command, node, kind, detail, hash } = event;
    let mut statement = db.prepare_cached("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
    statement.execute(params![
        number(*seq),
        at_ns,
        job.map(|job| job.to_string()),
        command.map(|command| command.0),
        node.as_ref().map(|node| node.as_str()),
        kind,
        json(detail)?,
        hash.to_string(),
    ])?;
    Ok(())
}

/// An answer takes the place of those that are older than a day.
fn answer(db: &Connection, row: &AnswerRow) -> Result<(), LedgerError> {
    let AnswerRow { client, idempotency_key, request, status, body, at_ns } = row;
    let oldest_ns = at_ns.saturating_sub(ANSWERS_KEPT_NS);
    db.prepare_cached("DELETE FROM answer WHERE at_ns < ?")?.execute([oldest_ns])?;
    let mut statement =
        db.prepare_cached("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?, ?)")?;
    statement.execute(params![
        client,
        idempotency_key,
        request.to_string(),
        status,
        body,
        at_ns
    ])?;
    Ok(())
}

/// A day: longer than a client goes on asking.
const ANSWERS_KEPT_NS: i64 = 24 * 3_600 * 1_000_000_000;
