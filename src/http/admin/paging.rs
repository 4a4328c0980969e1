//! Lists page by page.
//!
//! `next_cursor` of one page is `cursor` of the next, and is null on the last one. A handler
//! gathers one entry more than was asked for: that entry tells whether there is another page.
//! A search (`q=`) looks at so many entries for a page at most, so a page of it may be short, or
//! empty, and have a `next_cursor` all the same.
//! Bounds: the maximum of each [`Page`], and of its looks.

use axum::extract::rejection::QueryRejection;

use crate::http::problem::Problem;

/// Entries in one page.
#[derive(Clone, Copy)]
pub(super) struct Page {
    default: usize,
    max: usize,
}

impl Page {
    /// Entries of a page for which `asked` came in the query.
    pub(super) fn limit(self, asked: Option<usize>) -> Result<usize, Problem> {
        let limit = asked.unwrap_or(self.default);
        if limit == 0 || limit > self.max {
            return Err(Problem::bad_request(format!("limit must be 1 to {}", self.max)));
        }
        Ok(limit)
    }
}

/// Cuts a list to `limit` entries; the key of the last one when there are more.
pub(super) fn cut<T>(
    entries: &mut Vec<T>,
    limit: usize,
    key: impl FnOnce(&T) -> &String,
) -> Option<String> {
    let more = entries.len() > limit;
    entries.truncate(limit);
    entries.last().filter(|_| more).map(key).cloned()
}

pub(super) fn bad_query(rejection: QueryRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

/// A session with two streams is about 600 bytes of JSON: 6 MB at most.
pub(super) const SESSIONS_PAGE: Page = Page { default: 1_000, max: 10_000 };

/// A title may need a file to be opened, so pages are smaller.
pub(super) const TITLES_PAGE: Page = Page { default: 100, max: 1_000 };

/// Sessions that a search looks at for one page: sixteen answers of a shard.
pub(super) const SESSION_LOOKS_MAX: usize = 4_096;

/// Titles that a search looks at for one page: a folder is walked once.
pub(super) const TITLE_LOOKS_MAX: usize = 20_000;
