//! Which database it is, and how it is reached.
//!
//! Invariant: the password is neither logged nor shown. Bound: `CONNECT_MAX` for a connection.

use std::fmt;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::ledger::LedgerError;

/// A PostgreSQL database, by its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    config: Config,
    shown: String,
}

impl Database {
    /// Takes `postgres://USER@HOST:PORT/NAME`. Several hosts are tried in turn; a folder as host
    /// (`%2Frun%2Fpostgresql`) is that of a Unix socket. `password` is used where the URL has none.
    ///
    /// # Errors
    /// `LedgerError::Unusable` for any other form, and for a URL that asks for TLS.
    pub fn new(url: &str, password: Option<&str>) -> Result<Self, LedgerError> {
        let unusable = |why: String| LedgerError::Unusable { place: "--ledger".to_owned(), why };
        let is_url = ["postgres://", "postgresql://"].iter().any(|start| url.starts_with(start));
        let parsed = url.parse::<Config>().ok().filter(|_| is_url);
        let mut config = parsed
            .ok_or_else(|| unusable("postgres://USER@HOST:PORT/NAME is expected".to_owned()))?;
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(unusable("the URL must name a host and a database".to_owned()));
        }
        if config.get_ssl_mode() == SslMode::Require {
            let why = "TLS to the database is not there: leave sslmode=require out, and use a \
                       Unix socket, a private network or a tunnel";
            return Err(unusable(why.to_owned()));
        }
        config.ssl_mode(SslMode::Disable);
        if let Some(password) = password.filter(|_| config.get_password().is_none()) {
            config.password(password);
        }
        // Of several hosts the one that is written to.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(CONNECT_MAX).tcp_user_timeout(DEAD_AFTER);
        config.keepalives_idle(DEAD_AFTER / 2).keepalives_interval(DEAD_AFTER / 4);
        let shown = shown(&config);
        Ok(Self { config, shown })
    }

    /// Connects, by the runtime that this is awaited on. The database shows the connection under
    /// the name `application`.
    pub(in crate::ledger) async fn connect(
        &self,
        application: &str,
    ) -> Result<Client, LedgerError> {
        let mut config = self.config.clone();
        config.application_name(application);
        let connecting = async {
            let (client, connection) = config.connect(NoTls).await?;
            // Its error is that of the request under way.
            tokio::spawn(async move { drop(connection.await) });
            client.batch_execute(SETTINGS).await?;
            Ok(client)
        };
        let late = |_elapsed| LedgerError::Late(CONNECT_MAX.as_secs());
        timeout(CONNECT_MAX, connecting).await.map_err(late)?
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(place, host)| {
        let port = ports.get(place).or_else(|| ports.first()).copied().unwrap_or(5_432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    format!("postgres://{hosts}/{}", config.get_dbname().unwrap_or_default())
}

/// Error and cause: the error alone does not say what the database said.
pub(in crate::ledger) fn described(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = if error.as_db_error().is_some() {
            inner.to_string()
        } else {
            format!("{text}: {inner}")
        };
        cause = inner.source();
    }
    text
}

/// Whether the same can succeed later: the connection was lost, the database restarts, is full or
/// was asked to give up.
pub(in crate::ledger) fn is_passing(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        let is_io = std::error::Error::source(error)
            .is_some_and(|source| source.downcast_ref::<std::io::Error>().is_some());
        return error.is_closed() || is_io;
    };
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "53" | "57")
        || *code == SqlState::LOCK_NOT_AVAILABLE
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// Whether the database refuses this user, has no such name, or has no such table: nothing that
/// trying again would mend.
pub(in crate::ledger) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    matches!(class, Some("0A" | "28" | "3D" | "3F" | "42")) || is_authentication(error)
}

/// A password is asked for and there is none, or the server wants what is not understood.
fn is_authentication(error: &tokio_postgres::Error) -> bool {
    error.code().is_none() && error.to_string().contains("authentication")
}

/// A commit that was answered survives a crash, whatever the database's own settings; a transaction
/// whose base is stopped ends by itself.
const SETTINGS: &str = "
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off';
SET idle_in_transaction_session_timeout = '5s';
SET client_min_messages = 'warning';
";
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A server that does not answer at all.
const DEAD_AFTER: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://a:secret@db.example/ledger", "postgres://db.example:5432/ledger"),
            ("postgresql://a@h1:1,h2:2/l", "postgres://h1:1,h2:2/l"),
            ("postgres://a@%2Frun%2Fpg:7/l", "postgres:///run/pg:7/l"),
        ] {
            let database = Database::new(url, Some("secret")).unwrap();
            assert_eq!(database.to_string(), shown);
            assert!(!format!("{database:?}").contains("secret"), "{database:?}");
        }
    }

    #[test]
    fn what_names_no_database_or_asks_for_tls_is_refused() {
        for url in ["postgres://", "postgres:///l", "mysql://a@h/l", "postgres://a@h:x/l"] {
            let error = Database::new(url, None).unwrap_err();
            assert!(error.is_usage(), "{url}: {error}");
        }
        let error = Database::new("postgres://a@h/l?sslmode=require", None).unwrap_err();
        assert!(error.to_string().contains("TLS"), "{error}");
    }
}
