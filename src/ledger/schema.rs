//! The tables of a ledger, as SQL.
//!
//! Times are UTC nanoseconds, states and reasons the words of the API, ids text, so that any tool
//! that opens SQLite files can ask: `SELECT node, state, reason FROM delivery WHERE job = '...'`.
//! Unsigned 64-bit numbers are kept as SQLite's signed ones, bit for bit.
//! Bound: a table has one index beside its key at most.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::LedgerError;

/// What each connection that writes is told first. FULL: a commit that was answered survives the
/// loss of power.
pub(super) const SETTINGS: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -65536;
PRAGMA temp_store = MEMORY;
";

/// Makes the tables of a new file.
///
/// # Errors
/// `LedgerError::Version` for a file of another version or of another program.
pub(super) fn prepare(db: &mut Connection, path: &Path) -> Result<(), LedgerError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if (found, tables) == (0, 0) {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    } else if found != VERSION {
        return Err(LedgerError::Version { path: path.to_owned(), found, known: VERSION });
    }
    Ok(transaction.commit()?)
}

/// Version of the tables.
const VERSION: i32 = 1;

const TABLES: &str = "
CREATE TABLE job (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, client_ref TEXT, state TEXT NOT NULL,
    servers TEXT NOT NULL, list_version INTEGER NOT NULL, sequence TEXT NOT NULL,
    priority INTEGER NOT NULL, max_rate INTEGER, created_at_ns INTEGER NOT NULL,
    deadline_ns INTEGER, ended_at_ns INTEGER, bound_ratio REAL, base_egress_ratio REAL
) WITHOUT ROWID;
CREATE TABLE command (
    job TEXT NOT NULL, command INTEGER NOT NULL, op TEXT NOT NULL, path TEXT, to_path TEXT,
    attrs TEXT, content TEXT, created_at_ns INTEGER NOT NULL,
    PRIMARY KEY (job, command)
) WITHOUT ROWID;
CREATE TABLE delivery (
    job TEXT NOT NULL, command INTEGER NOT NULL, node TEXT NOT NULL, state TEXT NOT NULL,
    offset INTEGER NOT NULL, source TEXT, switches INTEGER NOT NULL, attempts INTEGER NOT NULL,
    reason TEXT, detail TEXT, receipt TEXT, signature TEXT, updated_at_ns INTEGER NOT NULL,
    PRIMARY KEY (job, command, node)
) WITHOUT ROWID;
CREATE TABLE node (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, token_hash TEXT NOT NULL,
    public_key TEXT NOT NULL, addr TEXT NOT NULL, labels TEXT NOT NULL,
    incarnation INTEGER NOT NULL, reports_taken INTEGER NOT NULL, up_rate_cap INTEGER,
    down_rate_cap INTEGER, up_rate_seen INTEGER NOT NULL, down_rate_seen INTEGER NOT NULL,
    heard_at_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE content (
    id TEXT PRIMARY KEY, job TEXT NOT NULL, command INTEGER NOT NULL, size INTEGER,
    expected TEXT, blake3 TEXT, ended_at_ns INTEGER, is_abandoned INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, job TEXT, command INTEGER, node TEXT,
    kind TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE INDEX event_of_job ON event (job, seq);
CREATE TABLE answer (
    client TEXT NOT NULL, idempotency_key TEXT NOT NULL, request TEXT NOT NULL,
    status INTEGER NOT NULL, body TEXT NOT NULL, at_ns INTEGER NOT NULL,
    PRIMARY KEY (client, idempotency_key)
) WITHOUT ROWID;
CREATE INDEX answer_by_age ON answer (at_ns);
";
