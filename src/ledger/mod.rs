//! What the base keeps: an SQLite file, and the clerk who alone changes it.
//!
//! ```text
//! requests --> clerk: Book (in memory) --changes--> Ledger --commit--> answers, orders, events
//!                                                     |
//!                              Reader <---- WAL ------'      events of the past
//! ```
//! Invariant: what a client or a node is told is in the file and on the disk before it is told.
//! Bounds: `clerk::QUEUE_MAX` requests wait, `clerk::BATCH_ROWS_MAX` rows make a transaction (and
//! what one request more adds), `orders::WAITING_MAX` orders wait for a node.
//! Only this room names SQLite.

pub mod clerk;
mod columns;
pub mod orders;
mod read;
mod schema;
mod write;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::dist::ids::JobId;
use crate::dist::rows::{Change, Rows};
use crate::dist::wire::job::EventView;

/// The file of a base, open for writing. One process has it at a time.
#[derive(Debug)]
pub struct Ledger {
    db: Connection,
    path: PathBuf,
    /// Held until the ledger is dropped.
    _lock: File,
}

/// The same file, open for reading beside the writer.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
}

/// Why the ledger cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Another process has it.
    #[error("{0}: another base has this ledger open")]
    Held(PathBuf),
    /// The file is no ledger, or that of a newer version.
    #[error("{path}: a ledger of version {known} is expected, this one has version {found}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version; 0 is none.
        found: i32,
        /// Version that this program writes.
        known: i32,
    },
    /// A row cannot be read back.
    #[error("the ledger is damaged: table {table}, column {column}: {why}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// Which column, from 0.
        column: usize,
        /// What is wrong.
        why: String,
    },
    /// A row cannot be written as text.
    #[error("a row cannot be written: {0}")]
    Form(#[from] serde_json::Error),
    /// SQLite refuses.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The operating system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl LedgerError {
    /// Whether the same write can succeed later: the disk is full, or another program holds the
    /// file for a moment. A transaction that failed so has left nothing.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        let passing = [ErrorCode::DiskFull, ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
        error.sqlite_error_code().is_some_and(|code| passing.contains(&code))
    }
}

impl Ledger {
    /// Opens the file, or makes it, and reads everything that a book is made from.
    ///
    /// # Errors
    /// See [`LedgerError`]. The file is as it was then.
    pub fn open(path: &Path) -> Result<(Self, Rows), LedgerError> {
        let lock = lock(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY_MAX)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        db.execute_batch(schema::SETTINGS)?;
        schema::prepare(&mut db, path)?;
        let rows = read::rows(&db)?;
        Ok((Self { db, path: path.to_owned(), _lock: lock }, rows))
    }

    /// Writes all changes, or none: on return they are on the disk.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing of it is written then.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), LedgerError> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in changes {
            write::change(&transaction, change)?;
        }
        Ok(transaction.commit()?)
    }

    /// Another view of the file, which reads beside this one.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn reader(&self) -> Result<Reader, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(BUSY_MAX)?;
        Ok(Reader { db })
    }

    /// Brings what the write-ahead log has into the file itself, before an end in order.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing is lost then, the next start reads the log.
    pub fn fold(&self) -> Result<(), LedgerError> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

impl Reader {
    /// Events behind number `after`, of one job or of all, in order.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn events(
        &self,
        job: Option<JobId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<EventView>, LedgerError> {
        read::events(&self.db, job, after, limit)
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

/// Another program reads the file for as long: a backup.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// One for each kind of row, and those of reads.
const STATEMENTS_MAX: usize = 32;

#[cfg(test)]
mod tests;
