//! Ledgers of both kinds, for tests: to be opened, closed and opened again.
//!
//! Where PostgreSQL is not installed, there are those of SQLite only, and the test says so.

use std::path::PathBuf;

use super::lease::{Candidate, Lease, LeaseState, Tenure};
use super::{Database, Ledger, LedgerError};
use crate::dist::rows::Rows;

#[path = "../../tests/support/postgres.rs"]
pub(super) mod server;

/// A place that keeps a ledger.
#[derive(Debug)]
pub(super) enum Kept {
    /// A file of a folder.
    File(tempfile::TempDir),
    /// A database, by its URL.
    Database(String),
}

/// A ledger that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) ledger: Ledger,
    pub(super) rows: Rows,
    pub(super) lease: Option<Lease>,
}

impl Kept {
    /// One of each kind.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::File(tempfile::tempdir().unwrap())];
        all.extend(server::Server::shared().map(|server| Self::Database(server.database())));
        all
    }

    /// Opens it as a base does.
    pub(super) fn open(&self) -> Opened {
        self.try_open().unwrap()
    }

    pub(super) fn try_open(&self) -> Result<Opened, LedgerError> {
        match self {
            Self::File(_) => {
                let (ledger, rows) = Ledger::open(&self.file())?;
                Ok(Opened { ledger, rows, lease: None })
            }
            Self::Database(url) => {
                let (lease, tenure) = held(url, "192.0.2.1:1");
                let database = Database::new(url, None)?;
                let (ledger, rows) = apart(|| Ledger::open_database(&database, &tenure))?;
                Ok(Opened { ledger, rows, lease: Some(lease) })
            }
        }
    }

    /// The file of an SQLite ledger.
    pub(super) fn file(&self) -> PathBuf {
        match self {
            Self::File(folder) => folder.path().join("ledger.db"),
            Self::Database(url) => panic!("{url} is no file"),
        }
    }

    /// Has a tool of the database do something.
    pub(super) fn sql(&self, statement: &str) {
        match self {
            Self::File(_) => {
                let db = rusqlite::Connection::open(self.file()).unwrap();
                db.execute_batch(statement).unwrap();
            }
            Self::Database(url) => {
                server::Server::shared().unwrap().sql(url, statement);
            }
        }
    }
}

impl Opened {
    /// Ends it as a base does.
    pub(super) fn close(self) {
        drop(self.ledger);
        if let Some(lease) = self.lease {
            lease.end();
        }
    }
}

/// Starts to keep a lease.
pub(super) fn lease(url: &str, addr: &str) -> Lease {
    let candidate = Candidate { addr: addr.to_owned(), base_key: "key".to_owned() };
    Lease::start(Database::new(url, None).unwrap(), candidate).unwrap()
}

/// Waits until the lease is had.
pub(super) fn held(url: &str, addr: &str) -> (Lease, Tenure) {
    let lease = lease(url, addr);
    match until(&lease, |state| !matches!(state, LeaseState::Unreachable(_))) {
        LeaseState::Held(tenure) => (lease, tenure),
        other => panic!("{other:?}"),
    }
}

/// Waits for a state of the lease.
pub(super) fn until(
    lease: &Lease,
    wanted: impl Fn(&LeaseState) -> bool + Send + Sync,
) -> LeaseState {
    let mut state = lease.state();
    apart(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let patience = std::time::Duration::from_secs(60);
            let found = tokio::time::timeout(patience, state.wait_for(|state| wanted(state))).await;
            found.expect("the lease changes").unwrap().clone()
        })
    })
}

/// Runs on a thread where waiting is allowed: that of an asynchronous test forbids it.
pub(super) fn apart<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(f).join().unwrap())
}
