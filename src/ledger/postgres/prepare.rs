//! Makes the tables of an empty database, and refuses one that is no ledger of this base.
//!
//! Invariant: of bases that start at the same time one makes the tables, and its key is kept: a
//! base with another key is another base, whose hashes and capabilities nodes refuse.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::database::Database;
use crate::ledger::LedgerError;
use crate::ledger::tables::{Dialect, LEASE, TABLES, VERSION, upgrade};

/// Leaves a database that can be used, or an error that says what is wrong.
///
/// # Errors
/// `Unusable` and `Version` for a database of others; `Postgres` where it refuses.
pub(in crate::ledger) async fn prepare(
    client: &Client,
    database: &Database,
    base_key: &str,
) -> Result<(), LedgerError> {
    let place = database.to_string();
    let unusable = |why: &str| LedgerError::Unusable { place: place.clone(), why: why.to_owned() };
    let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.try_get(0)?;
    if encoding != "UTF8" {
        return Err(unusable("its encoding must be UTF8: make it with CREATE DATABASE .. UTF8"));
    }
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    client.query_one("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let found = client.query_one("SELECT to_regclass('lease') IS NOT NULL", &[]).await?;
    if !found.try_get::<_, bool>(0)? {
        let tables = TABLES.iter().chain([&LEASE]);
        let made = client
            .batch_execute(&tables.map(|table| table.create(Dialect::Postgres)).collect::<String>())
            .await;
        made.map_err(|error| match error.code() {
            Some(&SqlState::DUPLICATE_TABLE) => {
                unusable("it has tables of another program: give the base a database of its own")
            }
            _ => error.into(),
        })?;
        let version = i64::from(VERSION);
        let row = "INSERT INTO lease VALUES (1, $1, 0, '', '', 0, $2)";
        client.execute(row, &[&version, &base_key]).await?;
    }
    let row = client.query_opt("SELECT version, base_key FROM lease WHERE one = 1", &[]).await;
    let row = row.map_err(|error| match error.code() {
        Some(&SqlState::UNDEFINED_COLUMN) => {
            unusable("it has tables of another program: give the base a database of its own")
        }
        _ => error.into(),
    })?;
    let Some(row) = row else { return Err(unusable("the table lease has no row")) };
    let (found, key): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let found = i32::try_from(found).unwrap_or(i32::MAX);
    let Some(sql) = upgrade(found, Dialect::Postgres) else {
        return Err(LedgerError::Version { place, found, known: VERSION });
    };
    if key == base_key && found != VERSION {
        client.batch_execute(&sql).await?;
        let version = i64::from(VERSION);
        client.execute("UPDATE lease SET version = $1 WHERE one = 1", &[&version]).await?;
    }
    client.batch_execute("COMMIT").await?;
    if key != base_key {
        return Err(unusable(
            "it is the ledger of a base with another key: bases that stand by for each other need \
             the same base.key, provider.token and join.token in their --data",
        ));
    }
    Ok(())
}

/// Any number that nobody else locks: "headend".
const LOCK: i64 = 0x0068_6561_6465_6e64;
