//! Tables into rows. The order of columns is that of the tables.

use serde_json::Value;

use super::LedgerError;
use super::columns::Columns;
use super::value::Record;
use crate::dist::chain::ChainHead;
use crate::dist::ids::{CommandId, CommandKey, HookId, Incarnation, JobId};
use crate::dist::rows::{
    AnswerRow, CareRow, CommandRow, ContentRow, DeliveryRow, HookRow, JobRow, NodeRow, Rows,
    WaitRow,
};
use crate::dist::wire::agent::SignedReceipt;
use crate::dist::wire::job::{EventView, Op, Policy};

/// Where rows come from, table by table.
pub(super) trait Tables {
    /// All rows that `sql` finds, as `read` reads them.
    fn all<T>(&mut self, sql: &str, read: Read<T>) -> Result<Vec<T>, LedgerError>;
}

/// Reads a row.
pub(super) type Read<T> = fn(&dyn Record) -> Result<T, LedgerError>;

/// Everything that a book is made from.
pub(super) fn rows(tables: &mut impl Tables) -> Result<Rows, LedgerError> {
    Ok(Rows {
        jobs: tables.all("SELECT * FROM job", job)?,
        commands: tables.all("SELECT * FROM command", command)?,
        deliveries: tables.all("SELECT * FROM delivery", delivery)?,
        nodes: tables.all("SELECT * FROM node", node)?,
        contents: tables.all("SELECT * FROM content", content)?,
        hooks: tables.all("SELECT * FROM webhook", webhook)?,
        answers: tables.all("SELECT * FROM answer", answer)?,
        waits: tables.all("SELECT * FROM wait", wait)?,
        cares: tables.all("SELECT * FROM care", care)?,
        trimmed: tables.all("SELECT * FROM trimmed", trim)?.pop(),
        last_event: tables.all("SELECT * FROM event ORDER BY seq DESC LIMIT 1", event)?.pop(),
    })
}

/// Events behind `$1`, in order, `$2` at most.
pub(super) const EVENTS: &str = "SELECT * FROM event WHERE seq > $1 ORDER BY seq LIMIT $2";
/// The same of the job `$2`, `$3` at most.
pub(super) const EVENTS_OF_JOB: &str =
    "SELECT * FROM event WHERE seq > $1 AND job = $2 ORDER BY seq LIMIT $3";

/// Jobs that have not ended at `$1`.
pub(super) const KEPT_JOBS: &str =
    "SELECT id FROM job WHERE ended_at_ns IS NULL OR ended_at_ns >= $1";

pub(super) fn job_id(row: &dyn Record) -> Result<JobId, LedgerError> {
    Columns::new(row, "job").word()
}

fn trim(row: &dyn Record) -> Result<ChainHead, LedgerError> {
    let mut columns = Columns::new(row, "trimmed");
    let _one: u32 = columns.take()?;
    Ok(ChainHead { seq: columns.take()?, hash: columns.word()? })
}

fn job(row: &dyn Record) -> Result<JobRow, LedgerError> {
    let mut columns = Columns::new(row, "job");
    let mut job = JobRow {
        id: columns.word()?,
        client: columns.take()?,
        client_ref: columns.take()?,
        state: columns.word()?,
        servers: columns.json()?,
        list_version: columns.take()?,
        policy: Policy {
            order: columns.word()?,
            priority: columns.take()?,
            max_rate: columns.take()?,
            ..Policy::default()
        },
        created_at_ns: columns.take()?,
        deadline_ns: columns.take()?,
        ended_at_ns: columns.take()?,
        first_ended_at_ns: None,
        bound_ratio: columns.take()?,
        base_egress_ratio: columns.take()?,
    };
    job.policy.late = columns.word()?;
    job.first_ended_at_ns = columns.take()?;
    let policy = &mut job.policy;
    policy.per_node_rate = columns.take()?;
    policy.window = columns.word_if_any()?;
    policy.paused = columns.take::<Option<bool>>()?.unwrap_or(false);
    Ok(job)
}

fn wait(row: &dyn Record) -> Result<WaitRow, LedgerError> {
    let mut columns = Columns::new(row, "wait");
    Ok(WaitRow {
        job: columns.word()?,
        until_ns: columns.take()?,
        period_s: columns.take()?,
        periods: columns.take()?,
    })
}

fn care(row: &dyn Record) -> Result<CareRow, LedgerError> {
    let mut columns = Columns::new(row, "care");
    Ok(CareRow {
        node: columns.word()?,
        phase: columns.word()?,
        cause: columns.word_if_any()?,
        tries: columns.take()?,
        extensions: columns.take()?,
        due_at_ns: columns.take()?,
        expected_back_ns: columns.take()?,
    })
}

fn key(columns: &mut Columns<'_>) -> Result<CommandKey, LedgerError> {
    Ok(CommandKey { job: columns.word()?, command: CommandId(columns.take()?) })
}

fn command(row: &dyn Record) -> Result<CommandRow, LedgerError> {
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
    // The column of a second path has the origin of a live path, too.
    if fields.get("op").is_some_and(|op| op == "live")
        && let Some(from) = fields.remove("to")
    {
        fields.insert("from".to_owned(), from);
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| columns.wrong(error.to_string()))
}

fn delivery(row: &dyn Record) -> Result<DeliveryRow, LedgerError> {
    let mut columns = Columns::new(row, "delivery");
    Ok(DeliveryRow {
        key: key(&mut columns)?,
        node: columns.word()?,
        state: columns.word()?,
        offset: columns.take()?,
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

fn node(row: &dyn Record) -> Result<NodeRow, LedgerError> {
    let mut columns = Columns::new(row, "node");
    Ok(NodeRow {
        name: columns.word()?,
        state: columns.word()?,
        token_hash: columns.word()?,
        public_key: columns.take()?,
        addr: columns.take()?,
        labels: columns.json()?,
        incarnation: Incarnation(columns.take()?),
        reports_taken: columns.take()?,
        up_rate_cap: columns.take()?,
        down_rate_cap: columns.take()?,
        up_rate_seen: columns.take()?,
        down_rate_seen: columns.take()?,
        heard_at_ns: columns.take()?,
    })
}

fn content(row: &dyn Record) -> Result<ContentRow, LedgerError> {
    let mut columns = Columns::new(row, "content");
    Ok(ContentRow {
        id: columns.word()?,
        key: key(&mut columns)?,
        size: columns.take()?,
        expected: columns.word_if_any()?,
        blake3: columns.word_if_any()?,
        ended_at_ns: columns.take()?,
        is_abandoned: columns.take()?,
    })
}

fn webhook(row: &dyn Record) -> Result<HookRow, LedgerError> {
    let mut columns = Columns::new(row, "webhook");
    Ok(HookRow {
        id: HookId { job: columns.word()?, hook: columns.take()? },
        url: columns.take()?,
        secret: columns.word_if_any()?,
        topics: columns.json()?,
        client_ref: columns.take()?,
        state: columns.word()?,
        place: columns.take()?,
        newest: columns.take()?,
        pending: columns.take()?,
        waits_since_ns: columns.take()?,
        delivered: columns.take()?,
        dropped: columns.take()?,
        attempts: columns.take()?,
        due_at_ns: columns.take()?,
        delivered_at_ns: columns.take()?,
        last_error: columns.take()?,
    })
}

fn answer(row: &dyn Record) -> Result<AnswerRow, LedgerError> {
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

pub(super) fn event(row: &dyn Record) -> Result<EventView, LedgerError> {
    let mut columns = Columns::new(row, "event");
    Ok(EventView {
        seq: columns.take()?,
        at_ns: columns.take()?,
        job: columns.word_if_any()?,
        command: columns.take::<Option<u32>>()?.map(CommandId),
        node: columns.word_if_any()?,
        kind: columns.take()?,
        detail: columns.json()?,
        hash: columns.word()?,
    })
}
