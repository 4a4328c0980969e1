//! RTSP requests counted by method and status.
//!
//! Bound: both sides are fixed lists with an `other` at the end, so that a client cannot make the
//! exposition grow by inventing methods.

use super::cells::Counter;

/// Methods of RFC 2326 s10; the last one stands for all that are not in the list.
pub const METHODS: [&str; 12] = [
    "OPTIONS",
    "DESCRIBE",
    "ANNOUNCE",
    "SETUP",
    "PLAY",
    "PAUSE",
    "RECORD",
    "TEARDOWN",
    "GET_PARAMETER",
    "SET_PARAMETER",
    "REDIRECT",
    "other",
];

/// Statuses that are told apart, ascending (RFC 2326 s7.1.1 and s11; RFC 6585 s5).
pub const STATUSES: [u16; 29] = [
    200, 301, 302, 304, 400, 401, 403, 404, 405, 406, 408, 413, 414, 415, 431, 451, 453, 454, 455,
    456, 457, 459, 460, 461, 500, 501, 503, 505, 551,
];

/// Where a method stands in [`METHODS`]. Method names are case-sensitive (RFC 2326 s6.1).
#[must_use]
pub fn method_index(method: &str) -> usize {
    METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1)
}

/// The matrix. One writer.
#[derive(Debug)]
pub struct Requests([[Counter; STATUSES.len() + 1]; METHODS.len()]);

impl Requests {
    /// One more answer. An index outside of [`METHODS`] counts as `other`.
    pub fn count(&self, method_index: usize, status_code: u16) {
        let status = STATUSES.binary_search(&status_code).unwrap_or(STATUSES.len());
        let row = self.0.get(method_index).or_else(|| self.0.last());
        if let Some(cell) = row.and_then(|row| row.get(status)) {
            cell.add(1);
        }
    }

    /// Every cell as (method, status, count); a status of `None` stands for all others.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Option<u16>, u64)> + '_ {
        METHODS.iter().zip(&self.0).flat_map(|(method, row)| {
            let statuses = STATUSES.iter().copied().map(Some).chain([None]);
            statuses.zip(row).map(|(status, cell)| (*method, status, cell.value()))
        })
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self([const { [const { Counter::new() }; STATUSES.len() + 1] }; METHODS.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_ascend_so_that_they_are_found() {
        assert!(STATUSES.is_sorted());
    }

    #[test]
    fn unknown_method_and_status_count_as_other() {
        let requests = Requests::default();
        requests.count(method_index("PLAY"), 200);
        requests.count(method_index("play"), 299);
        requests.count(usize::MAX, 299);
        let seen: Vec<_> = requests.iter().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(seen, [("PLAY", Some(200), 1), ("other", None, 2)]);
    }
}
