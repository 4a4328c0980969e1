//! Lists page by page: `next_cursor` of one page is `after` of the next, null on the last one.
//!
//! Bound: `PAGE_MAX` entries in a page.

use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::problem;
use crate::http::problem::Problem;
use crate::http::word::Word;

/// Entries of a page for which `asked` came in the query.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit must be 1 to {PAGE_MAX}");
    Err(problem(StatusCode::BAD_REQUEST, "bad_query", detail))
}

/// The page, from one entry more than `limit` where there are more.
pub(super) fn page<T: serde::Serialize>(
    name: &str,
    mut entries: Vec<T>,
    limit: usize,
    cursor: impl FnOnce(&T) -> String,
) -> Value {
    let has_more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| has_more).map(cursor);
    json!({name: entries, "next_cursor": next})
}

/// The word that is looked for.
pub(super) fn read_word(asked: Option<&String>) -> Result<Option<Word>, Problem> {
    Word::read(asked).map_err(|problem| problem.with("reason", json!("bad_query")))
}

/// What is wrong with a query.
pub(super) fn bad_query(rejection: &QueryRejection) -> Problem {
    problem(StatusCode::BAD_REQUEST, "bad_query", rejection.body_text())
}

/// One parameter of a query is wrong.
pub(super) fn bad_parameter(name: &str, text: &str) -> Problem {
    problem(StatusCode::BAD_REQUEST, "bad_query", format!("{name}={text} is not understood"))
}

const PAGE_DEFAULT: usize = 1_000;
/// A delivery with its receipt is about 1.5 kB of JSON.
const PAGE_MAX: usize = 5_000;
