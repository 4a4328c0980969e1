//! Questions of HTTP requests to the book of a base, and what its answers are as problems.
//!
//! Invariant: every error that a client of a base sees has a `reason`, a name that does not change.

use axum::http::StatusCode;
use serde_json::Value;

use super::problem::Problem;
use crate::dist::book::{Book, Refusal};
use crate::dist::ids::Stamp;
use crate::ledger::clerk::{Clerk, ClerkError};

/// Asks the book.
pub(super) async fn ask<T: Send + 'static>(
    clerk: &Clerk,
    f: impl FnOnce(&mut Book, Stamp) -> T + Send + 'static,
) -> Result<T, Problem> {
    clerk.ask(f).await.map_err(unanswered)
}

/// Looks at the book for what it may refuse.
pub(super) async fn try_look<T: Send + 'static>(
    clerk: &Clerk,
    f: impl FnOnce(&Book) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Problem> {
    let found = clerk.look(f).await.map_err(unanswered)?;
    found.map_err(|refusal| refused(&refusal))
}

/// Asks the book for what it may refuse.
pub(super) async fn try_ask<T: Send + 'static>(
    clerk: &Clerk,
    f: impl FnOnce(&mut Book, Stamp) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Problem> {
    ask(clerk, f).await?.map_err(|refusal| refused(&refusal))
}

/// An error with its name.
pub(super) fn problem(
    status: StatusCode,
    reason: &'static str,
    detail: impl Into<String>,
) -> Problem {
    Problem::new(status, detail).with("reason", Value::from(reason))
}

/// What the book refuses.
pub(super) fn refused(refusal: &Refusal) -> Problem {
    let status = StatusCode::from_u16(refusal.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    problem(status, refusal.reason(), refusal.to_string())
}

/// The clerk has no answer.
pub(super) fn unanswered(error: ClerkError) -> Problem {
    let reason = match error {
        ClerkError::Busy => "busy",
        ClerkError::Late => "ledger_late",
        ClerkError::Ended => "ending",
        ClerkError::Unreadable => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return problem(status, "ledger_unreadable", error.to_string());
        }
    };
    problem(StatusCode::SERVICE_UNAVAILABLE, reason, error.to_string())
}
