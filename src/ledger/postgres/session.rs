//! A connection to the database that is used from threads which may block.
//!
//! It has a runtime of its own, which runs while somebody waits for an answer.
//! Bound: who asks says how long an answer may take.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;

use super::database::Database;
use crate::ledger::LedgerError;

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    /// `None` when it is dropped.
    runtime: Option<Runtime>,
}

impl Session {
    pub(super) fn open(database: &Database, application: &str) -> Result<Self, LedgerError> {
        let built = Builder::new_current_thread().enable_all().build();
        let runtime = built.map_err(|source| broken(database, source))?;
        match runtime.block_on(database.connect(application)) {
            Ok(client) => Ok(Self { client, runtime: Some(runtime) }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits for an answer, `limit` at most.
    pub(super) fn run<T>(
        &self,
        limit: Duration,
        asking: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let late = || LedgerError::Late(limit.as_secs());
        let Some(runtime) = &self.runtime else { return Err(late()) };
        let limited = async { tokio::time::timeout(limit, asking).await };
        runtime.block_on(limited).map_err(|_elapsed| late())?
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Where it is dropped, waiting may be forbidden.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn broken(database: &Database, source: io::Error) -> LedgerError {
    LedgerError::Io { path: PathBuf::from(database.to_string()), source }
}
