//! Tables into rows. The order of columns is that of the tables.

use rusqlite::{Connection, Params, Row, params};
use serde_json::Value;

use super::LedgerError;
use super::columns::Columns;
use crate::dist::ids::{CommandId, CommandKey, Incarnation, JobId};
use crate::dist::rows::{AnswerRow, CommandRow, ContentRow, DeliveryRow, JobRow, NodeRow, Rows};
use crate::dist::wire::agent::SignedReceipt;
use crate::dist::wire::job::{EventView, Op, Policy};

/// Everything that a book is made from.
pub(super) fn rows(db: &Connection) -> Result<Rows, LedgerError> {
    let last = "SELECT * FROM event ORDER BY seq DESC LIMIT 1";
    Ok(Rows {
        jobs: all(db, "SELECT * FROM job", [], job)?,
        commands: all(db, "SELECT * FROM command", [], command)?,
        deliveries: all(db, "SELECT * FROM delivery", [], delivery)?,
        nodes: all(db, "SELECT * FROM node", [], node)?,
        contents: all(db, "SELECT * FROM content", [], content)?,
        answers: all(db, "SELECT * FROM answer", [], answer)?,
        last_event: all(db, last, [], event)?.pop(),
    })
}

/// Events behind `after`, in order.
pub(super) fn events(
    db: &Connection,
    job: Option<JobId>,
    after: u64,
    limit: usize,
) -> Result<Vec<EventView>, LedgerError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // A number beyond what SQLite counts to has nothing behind it.
    let Ok(after) = i64::try_from(after) else { return Ok(Vec::new()) };
    match job {
        None => {
            let sql = "SELECT * FROM event WHERE seq > ? ORDER BY seq LIMIT ?";
            all(db, sql, params![after, limit], event)
        }
        Some(job) => {
            let sql = "SELECT * FROM event WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?";
            all(db, sql, params![job.to_string(), after, limit], event)
        }
    }
}

fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: fn(&Row<'_>) -> Result<T, LedgerError>,
) -> Result<Vec<T>, LedgerError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query(params)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(read(row)?);
    }
    Ok(rows)
}

fn job(row: &Row<'_>) -> Result<JobRow, LedgerError> {
    let mut columns = Columns::new(row, "job");
    Ok(JobRow {
        id: columns.word()?,
        client: columns.take()?,
        client_ref: columns.take()?,
        state: columns.word()?,
        servers: columns.json()?,
        list_version: columns.take()?,
        policy: Policy {
            order: columns.word()?,
            priority: columns.take()?,
            max_rate: columns.number_if_any()?,
        },
        created_at_ns: columns.take()?,
        deadline_ns: columns.take()?,
        ended_at_ns: columns.take()?,
        bound_ratio: columns.take()?,
        base_egress_ratio: columns.take()?,
    })
}

fn key(columns: &mut Columns<'_>) -> Result<CommandKey, LedgerError> {
    Ok(CommandKey { job: columns.word()?, command: CommandId(columns.take()?) })
}

fn command(row: &Row<'_>) -> Result<CommandRow, LedgerError> {
    let mut columns = Columns::new(row, "command");
    Ok(CommandRow {
        key: key(&mut columns)?,
        op: op(&mut columns)?,
        content: columns.word_if_any()?,
        created_at_ns: columns.take()?,
    })
}

fn op(columns: &mut Columns<'_>) -> Result<Op, LedgerError> {
    let mut fields = serde_json::Map::new();
    for name in ["op", "path", "to"] {
        if let Some(text) = columns.take::<Option<String>>()? {
            fields.insert(name.to_owned(), Value::String(text));
        }
    }
    if let Some(attrs) = columns.take::<Option<String>>()? {
        let read = serde_json::from_str(&attrs).map_err(|error| columns.wrong(error.to_string()));
        fields.insert("attrs".to_owned(), read?);
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| columns.wrong(error.to_string()))
}

fn delivery(row: &Row<'_>) -> Result<DeliveryRow, LedgerError> {
    let mut columns = Columns::new(row, "delivery");
    Ok(DeliveryRow {
        key: key(&mut columns)?,
        node: columns.word()?,
        state: columns.word()?,
        offset: columns.number()?,
        source: columns.word_if_any()?,
        switches: columns.take()?,
        attempts: columns.take()?,
        reason: columns.word_if_any()?,
        detail: columns.take()?,
        receipt: receipt(&mut columns)?,
        updated_at_ns: columns.take()?,
    })
}

fn receipt(columns: &mut Columns<'_>) -> Result<Option<SignedReceipt>, LedgerError> {
    let (receipt, signature): (Option<String>, Option<String>) = (columns.take()?, columns.take()?);
    match (receipt, signature) {
        (Some(receipt), Some(signature)) => Ok(Some(SignedReceipt { receipt, signature })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(columns.wrong("a receipt without its signature")),
        (None, Some(_)) => Err(columns.wrong("a signature without its receipt")),
    }
}

fn node(row: &Row<'_>) -> Result<NodeRow, LedgerError> {
    let mut columns = Columns::new(row, "node");
    Ok(NodeRow {
        name: columns.word()?,
        state: columns.word()?,
        token_hash: columns.word()?,
        public_key: columns.take()?,
        addr: columns.take()?,
        labels: columns.json()?,
        incarnation: Incarnation(columns.number()?),
        reports_taken: columns.number()?,
        up_rate_cap: columns.number_if_any()?,
        down_rate_cap: columns.number_if_any()?,
        up_rate_seen: columns.number()?,
        down_rate_seen: columns.number()?,
        heard_at_ns: columns.take()?,
    })
}

fn content(row: &Row<'_>) -> Result<ContentRow, LedgerError> {
    let mut columns = Columns::new(row, "content");
    Ok(ContentRow {
        id: columns.word()?,
        key: key(&mut columns)?,
        size: columns.number_if_any()?,
        expected: columns.word_if_any()?,
        blake3: columns.word_if_any()?,
        ended_at_ns: columns.take()?,
        is_abandoned: columns.take()?,
    })
}

fn answer(row: &Row<'_>) -> Result<AnswerRow, LedgerError> {
    let mut columns = Columns::new(row, "answer");
    Ok(AnswerRow {
        client: columns.take()?,
        idempotency_key: columns.take()?,
        request: columns.word()?,
        status: columns.take()?,
        body: columns.take()?,
        at_ns: columns.take()?,
    })
}

fn event(row: &Row<'_>) -> Result<EventView, LedgerError> {
    let mut columns = Columns::new(row, "event");
    Ok(EventView {
        seq: columns.number()?,
        at_ns: columns.take()?,
        job: columns.word_if_any()?,
        command: columns.take::<Option<u32>>()?.map(CommandId),
        node: columns.word_if_any()?,
        kind: columns.take()?,
        detail: columns.json()?,
        hash: columns.word()?,
    })
}
