//! A ledger in an SQLite file: that of a base alone.
//!
//! Invariant: one process writes; a lock on a file beside it says which. Its lease has an epoch,
//! greater with each start, and does not run out.
//! Bound: `BUSY_MAX` for a file that another program holds.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Params, Row, TransactionBehavior, params, params_from_iter};

use super::LedgerError;
use super::read::{self, Read, Tables};
use super::tables::{Dialect, LEASE, TABLES, VERSION, upgrade};
use super::value::{Record, Value};
use super::write;
use crate::dist::ids::{BaseEpoch, JobId};
use crate::dist::rows::{Change, Rows};
use crate::dist::wire::job::EventView;

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct Sqlite {
    pub(super) db: Connection,
    path: PathBuf,
    /// Statements that write rows, in the order of the tables.
    writes: Vec<String>,
    epoch: BaseEpoch,
    /// Held until the ledger is dropped.
    lock: File,
}

/// The same file, open for reading beside the writer.
#[derive(Debug)]
pub(super) struct SqliteReader {
    db: Connection,
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<(Self, Rows), LedgerError> {
        let lock = lock(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY_MAX)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        db.execute_batch(SETTINGS)?;
        let epoch = prepare(&mut db, path)?;
        let rows = read::rows(&mut &db)?;
        let writes = TABLES.iter().map(|table| table.write(Dialect::Sqlite)).collect();
        Ok((Self { db, path: path.to_owned(), writes, epoch, lock }, rows))
    }

    pub(super) fn epoch(&self) -> BaseEpoch {
        self.epoch
    }

    pub(super) fn commit(&mut self, changes: &[Change]) -> Result<(), LedgerError> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in changes {
            if let Change::Answer(row) = change {
                let mut old = transaction.prepare_cached("DELETE FROM answer WHERE at_ns < ?")?;
                old.execute([write::oldest_answer_ns(row)])?;
            }
            if let Change::Trim(head) = change {
                let mut old = transaction.prepare_cached("DELETE FROM event WHERE seq <= ?")?;
                old.execute([head.seq.cast_signed()])?;
            }
            let (place, values) = write::values(change)?;
            let sql = self.writes.get(place as usize).map_or("", String::as_str);
            transaction.prepare_cached(sql)?.execute(params_from_iter(&values))?;
        }
        Ok(transaction.commit()?)
    }

    pub(super) fn reader(&self) -> Result<SqliteReader, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(BUSY_MAX)?;
        Ok(SqliteReader { db })
    }

    pub(super) fn fold(&self) -> Result<(), LedgerError> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

impl SqliteReader {
    pub(super) fn events(
        &self,
        job: Option<JobId>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<EventView>, LedgerError> {
        match job {
            None => all(&self.db, read::EVENTS, params![after, limit], read::event),
            Some(job) => {
                let params = params![after, job.to_string(), limit];
                all(&self.db, read::EVENTS_OF_JOB, params, read::event)
            }
        }
    }
}

impl SqliteReader {
    pub(super) fn kept_jobs(&self, until_ns: i64) -> Result<BTreeSet<JobId>, LedgerError> {
        Ok(all(&self.db, read::KEPT_JOBS, [until_ns], read::job_id)?.into_iter().collect())
    }
}

impl Tables for &Connection {
    fn all<T>(&mut self, sql: &str, read: Read<T>) -> Result<Vec<T>, LedgerError> {
        all(self, sql, [], read)
    }
}

fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: Read<T>,
) -> Result<Vec<T>, LedgerError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query(params)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(read(row)?);
    }
    Ok(rows)
}

impl Record for Row<'_> {
    fn value(&self, column: usize) -> Result<Value<'static>, String> {
        let value = self.get_ref(column).map_err(|error| error.to_string())?;
        Ok(match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(text) => {
                let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
                text.to_owned().into()
            }
            ValueRef::Blob(_) => return Err("bytes where none are expected".to_owned()),
        })
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// Makes the tables of a new file, brings those of an older version up to date, and gives the
/// epoch of this start.
///
/// # Errors
/// `LedgerError::Version` for a file of another version or of another program.
pub(super) fn prepare(db: &mut Connection, path: &Path) -> Result<BaseEpoch, LedgerError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (found, tables) {
        (0, 0) => {
            for table in TABLES.iter().chain([&LEASE]) {
                transaction.execute_batch(&table.create(Dialect::Sqlite))?;
            }
        }
        _ => match upgrade(found, Dialect::Sqlite) {
            Some(sql) => transaction.execute_batch(&sql)?,
            None => {
                let place = path.display().to_string();
                return Err(LedgerError::Version { place, found, known: VERSION });
            }
        },
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let epoch: i64 =
        transaction.query_row(NEXT_EPOCH, params![VERSION, seconds], |row| row.get(0))?;
    transaction.commit()?;
    Ok(BaseEpoch(epoch.cast_unsigned()))
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // A child process that is being started shares the open file until it runs its program:
        // a lock that ended with the last descriptor would outlive the ledger.
        let _ends_with_the_file = self.lock.unlock();
    }
}

/// SQLite's own locks would keep readers out as well, so a file beside it says whose it is.
fn lock(path: &Path) -> Result<File, LedgerError> {
    let path = path.with_extension("lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|source| LedgerError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Held(path)),
        Err(TryLockError::Error(source)) => Err(LedgerError::Io { path, source }),
    }
}

/// What each connection that writes is told first. FULL: a commit that was answered survives the
/// loss of power.
const SETTINGS: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA temp_store = MEMORY;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -65536;
PRAGMA temp_store = MEMORY;
";
/// The time in seconds, or one more than before: greater also when an older copy of the file has
/// been put back.
const NEXT_EPOCH: &str = "
INSERT INTO lease VALUES (1, ?1, ?2, '', '', 0, '')
ON CONFLICT (one) DO UPDATE SET version = ?1, epoch = max(epoch + 1, ?2)
RETURNING epoch
";
/// Another program reads the file for as long: a backup.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// One for each kind of row, and those of reads.
const STATEMENTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_ends_with_the_ledger_whoever_shares_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let (ledger, _) = Sqlite::open(&path).unwrap();
        assert!(matches!(Sqlite::open(&path), Err(LedgerError::Held(_))));
        // As a child process has it that does not run its program yet.
        let _shared = ledger.lock.try_clone().unwrap();
        drop(ledger);
        assert!(Sqlite::open(&path).is_ok());
    }
}
