//! A ledger in a PostgreSQL database, which several bases may stand by for.
//!
//! ```text
//! commit: BEGIN, fence: is the epoch of the lease mine?  --no--> Lost, nothing is written
//!                          '--yes--> rows of each table as arrays, COMMIT, in one go
//! ```
//! The fence shares a lock on the lease until the commit, and a base that takes over needs it
//! alone: so what is committed is there before the other base reads, or it is refused.
//! Invariants: a commit of an old epoch is refused; a commit whose answer was lost is looked up
//! before it is tried again, so that it is there once.
//! Bounds: `COMMIT_MAX` for a commit, `READ_MAX` for all rows of a table at the start, `EVENTS_MAX`
//! for events.

mod batch;
mod database;
mod prepare;
mod session;

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::{join, join_all};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Statement};

use super::LedgerError;
use super::lease::Tenure;
use super::read::{self, Read, Tables};
use super::tables::{Dialect, TABLES};
use super::value::{Record, Value};
use crate::dist::ids::{BaseEpoch, JobId};
use crate::dist::rows::{Change, Rows};
use crate::dist::wire::job::EventView;
use batch::Batch;
pub use database::Database;
pub(super) use database::{described, is_passing, is_refusal};
pub(super) use prepare::prepare;
use session::Session;

/// The database, open for writing.
#[derive(Debug)]
pub(super) struct Postgres {
    database: Database,
    tenure: Tenure,
    link: Option<Link>,
    /// Whether the last commit may be there although it failed.
    is_doubtful: bool,
}

/// The database, open for reading beside the writer. It connects when it is needed.
#[derive(Debug)]
pub(super) struct PostgresReader {
    database: Database,
    application: String,
    link: Option<(Session, [Statement; 3])>,
}

/// A connection, and the statements that it knows.
#[derive(Debug)]
struct Link {
    session: Session,
    fence: Statement,
    old_answers: Statement,
    old_events: Statement,
    event: Statement,
    /// In the order of the tables.
    writes: Vec<Statement>,
}

impl Postgres {
    pub(super) fn open(database: &Database, tenure: &Tenure) -> Result<(Self, Rows), LedgerError> {
        let link = Link::open(database, tenure)?;
        let rows = read::rows(&mut &link.session)?;
        let (database, tenure) = (database.clone(), tenure.clone());
        Ok((Self { database, tenure, link: Some(link), is_doubtful: false }, rows))
    }

    pub(super) fn epoch(&self) -> BaseEpoch {
        self.tenure.epoch()
    }

    pub(super) fn is_held(&self) -> bool {
        self.tenure.is_held()
    }

    pub(super) fn commit(&mut self, changes: &[Change]) -> Result<(), LedgerError> {
        if self.tenure.is_over() {
            return Err(LedgerError::Lost(LEASE_OVER));
        }
        let batch = Batch::new(changes)?;
        let link = match self.link.take().filter(|link| !link.session.is_closed()) {
            Some(link) => link,
            None => Link::open(&self.database, &self.tenure)?,
        };
        let writing = link.write(self.tenure.epoch(), &batch, self.is_doubtful);
        let outcome = link.session.run(COMMIT_MAX, writing);
        match outcome {
            Ok(()) => {
                self.is_doubtful = false;
                // One that failed is closed, and its transaction with it.
                self.link = Some(link);
                Ok(())
            }
            Err(LedgerError::Lost(why)) => {
                let epoch = self.tenure.epoch();
                tracing::warn!(code = "HE-W948", epoch = epoch.0, why, "a commit is refused");
                self.tenure.end();
                Err(LedgerError::Lost(why))
            }
            // The commit of before is still under way.
            Err(LedgerError::Postgres(error)) if self.is_doubtful && is_twice(&error) => {
                Err(LedgerError::Late(COMMIT_MAX.as_secs()))
            }
            Err(error) => {
                self.is_doubtful |= error.is_passing();
                Err(error)
            }
        }
    }

    pub(super) fn reader(&self) -> Result<PostgresReader, LedgerError> {
        let application = self.tenure.application();
        Ok(PostgresReader { database: self.database.clone(), application, link: None })
    }
}

impl Link {
    fn open(database: &Database, tenure: &Tenure) -> Result<Self, LedgerError> {
        let session = Session::open(database, &tenure.application())?;
        let client = session.client();
        let preparing = async {
            let mut writes = Vec::new();
            for table in &TABLES {
                writes.push(client.prepare(&table.write(Dialect::Postgres)).await?);
            }
            let fence = client.prepare(FENCE).await?;
            let old_answers = client.prepare("DELETE FROM answer WHERE at_ns < $1").await?;
            let old_events = client.prepare("DELETE FROM event WHERE seq <= $1").await?;
            let event = client.prepare("SELECT hash FROM event WHERE seq = $1").await?;
            Ok((fence, old_answers, old_events, event, writes))
        };
        let (fence, old_answers, old_events, event, writes) = session.run(COMMIT_MAX, preparing)?;
        Ok(Self { session, fence, old_answers, old_events, event, writes })
    }

    async fn write(
        &self,
        epoch: BaseEpoch,
        batch: &Batch<'_>,
        is_doubtful: bool,
    ) -> Result<(), LedgerError> {
        let client = self.session.client();
        let begin = client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED");
        let (begun, found) = join(begin, client.query_opt(&self.fence, &[])).await;
        begun?;
        let found: Option<i64> = found?.map(|row| row.try_get(0)).transpose()?;
        if found != Some(epoch.0.cast_signed()) {
            return Err(LedgerError::Lost("another base has taken it"));
        }
        if is_doubtful && let Some((seq, hash)) = batch.last_event() {
            let found = client.query_opt(&self.event, &[&seq]).await?;
            let found: Option<String> = found.map(|row| row.try_get(0)).transpose()?;
            match found {
                Some(found) if found == hash => {
                    return Ok(client.batch_execute("ROLLBACK").await?);
                }
                Some(_) => return Err(LedgerError::Lost("another base has written")),
                None => {}
            }
        }
        let old =
            [(&self.old_answers, batch.oldest_answer_ns()), (&self.old_events, batch.trimmed())];
        let old = old.iter().filter_map(|(statement, bound)| {
            let params: Vec<&(dyn ToSql + Sync)> = vec![bound.as_ref()?];
            Some((*statement, params))
        });
        let writes = batch
            .writes()
            .filter_map(|(place, params)| Some((self.writes.get(place as usize)?, params)));
        let statements: Vec<_> = old.chain(writes).collect();
        let statements =
            statements.iter().map(|(statement, params)| client.execute(*statement, params));
        // All of it is sent before the first answer is waited for. Behind a statement that fails
        // the commit is a rollback.
        let (written, committed) = join(join_all(statements), client.batch_execute("COMMIT")).await;
        for result in written {
            result?;
        }
        Ok(committed?)
    }
}

impl PostgresReader {
    pub(super) fn events(
        &mut self,
        job: Option<JobId>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<EventView>, LedgerError> {
        let job = job.map(|job| job.to_string());
        let rows = match &job {
            None => self.query(|[of_all, ..]| (of_all, vec![&after, &limit])),
            Some(job) => self.query(|[_, of_job, _]| (of_job, vec![&after, job, &limit])),
        };
        rows?.iter().map(|row| read::event(row)).collect()
    }

    pub(super) fn kept_jobs(&mut self, until_ns: i64) -> Result<BTreeSet<JobId>, LedgerError> {
        let rows = self.query(|[_, _, kept]| (kept, vec![&until_ns]));
        rows?.iter().map(|row| read::job_id(row)).collect()
    }

    fn query<'p>(
        &mut self,
        what: impl FnOnce(&[Statement; 3]) -> (&Statement, Vec<&'p (dyn ToSql + Sync)>),
    ) -> Result<Vec<Row>, LedgerError> {
        let link = self.link.take().filter(|(session, _)| !session.is_closed());
        let (session, statements) = match link {
            Some(link) => link,
            None => self.connect()?,
        };
        let (statement, params) = what(&statements);
        let client = session.client();
        let rows =
            session.run(EVENTS_MAX, async { Ok(client.query(statement, &params).await?) })?;
        self.link = Some((session, statements));
        Ok(rows)
    }

    fn connect(&self) -> Result<(Session, [Statement; 3]), LedgerError> {
        let session = Session::open(&self.database, &self.application)?;
        let client = session.client();
        let statements = session.run(EVENTS_MAX, async {
            Ok([
                client.prepare(read::EVENTS).await?,
                client.prepare(read::EVENTS_OF_JOB).await?,
                client.prepare(read::KEPT_JOBS).await?,
            ])
        })?;
        Ok((session, statements))
    }
}

impl Tables for &Session {
    fn all<T>(&mut self, sql: &str, read: Read<T>) -> Result<Vec<T>, LedgerError> {
        let params: [&(dyn ToSql + Sync); 0] = [];
        self.run(READ_MAX, async {
            let mut found = pin!(self.client().query_raw(sql, params).await?);
            let mut rows = Vec::new();
            while let Some(row) = found.try_next().await? {
                rows.push(read(&row)?);
            }
            Ok(rows)
        })
    }
}

impl Record for Row {
    fn value(&self, column: usize) -> Result<Value<'static>, String> {
        let kind = self.columns().get(column).map(|column| column.type_().clone());
        let text = |error: tokio_postgres::Error| described(&error);
        Ok(match kind {
            Some(Type::INT8) => self.try_get::<_, Option<i64>>(column).map_err(text)?.into(),
            Some(Type::FLOAT8) => self.try_get::<_, Option<f64>>(column).map_err(text)?.into(),
            Some(Type::TEXT) => {
                let found = self.try_get::<_, Option<String>>(column).map_err(text)?;
                found.map(batch::unescaped).into()
            }
            Some(other) => return Err(format!("a column of type {other}")),
            None => return Err("no such column".to_owned()),
        })
    }
}

fn is_twice(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
}

/// The lock is shared with the commits of this base only, and kept until the commit.
const FENCE: &str = "SELECT epoch FROM lease WHERE one = 1 FOR KEY SHARE";
const LEASE_OVER: &str = "it has run out or another base has taken it";
/// For a commit: no longer than a lease.
const COMMIT_MAX: Duration = Duration::from_secs(10);
/// For all rows of a table.
const READ_MAX: Duration = Duration::from_secs(3_600);
/// For a page of events.
const EVENTS_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
