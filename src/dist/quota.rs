//! How much of a base a client may use.
//!
//! ```text
//! jobs=100,bytes=2T,targets=500      beside a token, or for all clients; else there is no limit
//! ```
//! Bytes are those of contents that the base keeps for the client: of open jobs, and of ended ones
//! until they are removed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Limits of a client; `None`: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Jobs that have not ended.
    pub jobs: Option<u64>,
    /// Bytes of contents at the base.
    pub bytes: Option<u64>,
    /// Nodes of a job.
    pub targets: Option<u64>,
}

/// Limits of all clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Of a client for which nothing else is said.
    pub all: Quota,
    /// What is said for single clients, by name.
    pub by_client: BTreeMap<String, Quota>,
}

/// Text is no quota.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}`: jobs=N, bytes=N or targets=N is expected, like bytes=500G")]
pub struct QuotaError {
    word: String,
}

impl Quota {
    /// This quota; what it does not say is that of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.or(other.jobs),
            bytes: self.bytes.or(other.bytes),
            targets: self.targets.or(other.targets),
        }
    }
}

impl Quotas {
    /// Those of a client.
    #[must_use]
    pub fn of(&self, client: &str) -> Quota {
        self.by_client.get(client).copied().unwrap_or_default().or(self.all)
    }
}

impl FromStr for Quota {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let mut quota = Self::default();
        for word in text.split(',') {
            let wrong = || QuotaError { word: word.chars().take(WORD_SHOWN).collect() };
            let (name, value) = word.split_once('=').ok_or_else(wrong)?;
            let value = Some(count(value).ok_or_else(wrong)?);
            let place = match name {
                "jobs" => &mut quota.jobs,
                "bytes" => &mut quota.bytes,
                "targets" => &mut quota.targets,
                _ => return Err(wrong()),
            };
            // Said twice is not understood.
            if place.is_some() {
                return Err(wrong());
            }
            *place = value;
        }
        Ok(quota)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [("jobs", self.jobs), ("bytes", self.bytes), ("targets", self.targets)];
        let said = all.iter().filter_map(|(name, limit)| Some(format!("{name}={}", (*limit)?)));
        f.write_str(&said.collect::<Vec<_>>().join(","))
    }
}

/// `500`, `20k`, `3M`, `2G`, `1T`: powers of 1,000.
#[must_use]
pub fn count(text: &str) -> Option<u64> {
    let (digits, factor) = match text.char_indices().next_back()? {
        (at, 'k') => (&text[..at], 1_000),
        (at, 'M') => (&text[..at], 1_000_000),
        (at, 'G') => (&text[..at], 1_000_000_000),
        (at, 'T') => (&text[..at], 1_000_000_000_000),
        _ => (text, 1),
    };
    // `parse` takes a sign as well.
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse::<u64>().ok()?.checked_mul(factor)).flatten()
}

const WORD_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_is_read_and_what_is_not_said_is_that_of_all() {
        let some: Quota = "bytes=2T,jobs=3".parse().unwrap();
        let expected = Quota { jobs: Some(3), bytes: Some(2_000_000_000_000), targets: None };
        assert_eq!(some, expected);
        let all: Quota = "jobs=9,targets=500".parse().unwrap();
        let by_client = BTreeMap::from([("news".to_owned(), some)]);
        let quotas = Quotas { all, by_client };
        assert_eq!(quotas.of("news"), Quota { targets: Some(500), ..expected });
        assert_eq!(quotas.of("sport"), all);
        assert_eq!(some.to_string().parse(), Ok(some));
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "jobs",
            "jobs=",
            "jobs=-1",
            "jobs=+1",
            "jobs=1,jobs=2",
            "rows=1",
            "bytes=1X",
            "bytes=k",
            "bytes=99999999999T",
            "bytes=\u{e9}",
        ] {
            assert!(bad.parse::<Quota>().is_err(), "{bad}");
        }
    }
}
