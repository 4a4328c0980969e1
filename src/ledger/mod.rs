//! What the base keeps: a database, and the clerk who alone changes it.
//!
//! ```text
//! requests --> clerk: Book (in memory) --changes--> Ledger --commit--> answers, orders, events
//!                                                     |
//!                              Reader <---------------'      events of the past
//!
//! Ledger: an SQLite file of a base alone (`sqlite`)
//!         or a PostgreSQL database that bases stand by for (`postgres`), and its [`lease`]
//! ```
//! Both have the same tables (`tables`), written (`write`) and read (`read`) by the same code.
//! Invariant: what a client or a node is told is in the database and on its disk before it is told;
//! a base that has lost its lease writes nothing.
//! Bounds: `clerk::QUEUE_MAX` requests wait, `clerk::BATCH_ROWS_MAX` rows make a transaction (and
//! what one request more adds), `orders::WAITING_MAX` orders wait for a node.
//! Only this room names SQLite and PostgreSQL.

pub mod clerk;
mod columns;
pub mod lease;
pub mod orders;
mod postgres;
mod read;
mod sqlite;
mod tables;
mod value;
mod write;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::dist::ids::{BaseEpoch, JobId};
use crate::dist::rows::{Change, Rows};
use crate::dist::wire::job::EventView;
use lease::Tenure;
pub use postgres::Database;
use postgres::{Postgres, PostgresReader};
use sqlite::{Sqlite, SqliteReader};

/// The ledger of a base, open for writing. One base has it at a time.
#[derive(Debug)]
pub struct Ledger(Engine);

#[derive(Debug)]
enum Engine {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

/// The same ledger, open for reading beside the writer. Reads block.
#[derive(Debug)]
pub struct Reader(ReaderEngine);

#[derive(Debug)]
enum ReaderEngine {
    Sqlite(SqliteReader),
    Postgres(Box<PostgresReader>),
}

/// Why the ledger cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Another process has the file.
    #[error("{0}: another base has this ledger open")]
    Held(PathBuf),
    /// Another base has taken the lease, or nobody knows whether one has.
    #[error("the lease of the ledger is lost: {0}")]
    Lost(&'static str),
    /// The database is no ledger, or that of a newer version.
    #[error("{place}: a ledger of version {known} is expected, this one has version {found}")]
    Version {
        /// The file or database.
        place: String,
        /// Its version; 0 is none.
        found: i32,
        /// Version that this program writes.
        known: i32,
    },
    /// It is not a database that a base can use.
    #[error("{place}: {why}")]
    Unusable {
        /// The database.
        place: String,
        /// What is wrong, and what to do.
        why: String,
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
    /// PostgreSQL refuses, or is not reached.
    #[error("{}", postgres::described(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// PostgreSQL has not answered in time.
    #[error("the database has not answered within {0} s")]
    Late(u64),
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
    /// Whether the same write can succeed later: the disk is full, another program holds the file
    /// for a moment, the database restarts. A transaction that failed so has left nothing, or all
    /// of it; the same changes, committed again, are there once.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Sqlite(error) => {
                let passing =
                    [ErrorCode::DiskFull, ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
                error.sqlite_error_code().is_some_and(|code| passing.contains(&code))
            }
            Self::Postgres(error) => postgres::is_passing(error),
            Self::Late(_) => true,
            _ => false,
        }
    }

    /// Whether what was asked for cannot be had: another place, or another version of the program,
    /// is needed.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Held(_) | Self::Version { .. } | Self::Unusable { .. })
    }
}

impl Ledger {
    /// Opens an SQLite file, or makes it, and reads everything that a book is made from.
    ///
    /// # Errors
    /// See [`LedgerError`]. The file is as it was then.
    pub fn open(path: &Path) -> Result<(Self, Rows), LedgerError> {
        let (sqlite, rows) = Sqlite::open(path)?;
        Ok((Self(Engine::Sqlite(sqlite)), rows))
    }

    /// Reads everything that a book is made from, from a database whose lease this base has.
    /// Blocks.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn open_database(
        database: &Database,
        tenure: &Tenure,
    ) -> Result<(Self, Rows), LedgerError> {
        let (postgres, rows) = Postgres::open(database, tenure)?;
        Ok((Self(Engine::Postgres(Box::new(postgres))), rows))
    }

    /// The epoch of this base: greater than that of each base before on the same ledger.
    #[must_use]
    pub fn epoch(&self) -> BaseEpoch {
        match &self.0 {
            Engine::Sqlite(sqlite) => sqlite.epoch(),
            Engine::Postgres(postgres) => postgres.epoch(),
        }
    }

    /// Whether no other base can have the ledger now. Where false, an empty [`Ledger::commit`]
    /// finds out.
    #[must_use]
    pub fn is_held(&self) -> bool {
        match &self.0 {
            Engine::Sqlite(_) => true,
            Engine::Postgres(postgres) => postgres.is_held(),
        }
    }

    /// Writes all changes, or none: on return they are on the disk. After an error that
    /// [`LedgerError::is_passing`] the same changes have to come again before any others.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), LedgerError> {
        match &mut self.0 {
            Engine::Sqlite(sqlite) => sqlite.commit(changes),
            Engine::Postgres(postgres) => postgres.commit(changes),
        }
    }

    /// Another view of the ledger, which reads beside this one.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn reader(&self) -> Result<Reader, LedgerError> {
        Ok(Reader(match &self.0 {
            Engine::Sqlite(sqlite) => ReaderEngine::Sqlite(sqlite.reader()?),
            Engine::Postgres(postgres) => ReaderEngine::Postgres(Box::new(postgres.reader()?)),
        }))
    }

    /// Before an end in order: brings what a write-ahead log has into the file itself.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing is lost then, the next start reads the log.
    pub fn fold(&self) -> Result<(), LedgerError> {
        match &self.0 {
            Engine::Sqlite(sqlite) => sqlite.fold(),
            Engine::Postgres(_) => Ok(()),
        }
    }
}

impl Reader {
    /// Events behind number `after`, of one job or of all, in order.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn events(
        &mut self,
        job: Option<JobId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<EventView>, LedgerError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // A number beyond what the databases count to has nothing behind it.
        let Ok(after) = i64::try_from(after) else { return Ok(Vec::new()) };
        match &mut self.0 {
            ReaderEngine::Sqlite(sqlite) => sqlite.events(job, after, limit),
            ReaderEngine::Postgres(postgres) => postgres.events(job, after, limit),
        }
    }
}

impl Reader {
    /// Jobs that have not ended, or not before `until_ns` (UTC).
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn kept_jobs(&mut self, until_ns: i64) -> Result<BTreeSet<JobId>, LedgerError> {
        match &mut self.0 {
            ReaderEngine::Sqlite(sqlite) => sqlite.kept_jobs(until_ns),
            ReaderEngine::Postgres(postgres) => postgres.kept_jobs(until_ns),
        }
    }
}

#[cfg(test)]
mod kit;
#[cfg(test)]
mod tests;
