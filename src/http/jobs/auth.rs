//! Who asks a base: a client by a provider's token, a node by its own or by the join token.
//!
//! ```text
//! Authorization: Bearer TOKEN          programs
//! Authorization: Basic user:TOKEN      curl -u, rclone, cadaver, file managers; any user
//! ```
//! A file of providers has a line for each: `TOKEN`, `NAME TOKEN` or `NAME TOKEN EXPIRES`, the last
//! as in `2027-01-31T00:00:00Z`; `#` begins a comment. A word `jobs=N,bytes=N,targets=N` in a line
//! is the client's quota, in place of the base's. The name is what the base knows a client by: two
//! tokens with one name are one client, so a token can be changed while jobs run. Invariant: a
//! token is compared in constant time, and only its BLAKE3 is kept. Bound: `PROVIDERS_MAX`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::problem;
use crate::dist::ids::Digest;
use crate::dist::quota::{Quota, QuotaError};
use crate::dist::token::{Token, is_token, split_token};
use crate::http::problem::Problem;

/// Who may ask. Clones share it.
#[derive(Debug, Clone)]
pub struct Access(Arc<Tokens>);

#[derive(Debug)]
struct Tokens {
    providers: Vec<Provider>,
    join: Digest,
}

/// A provider's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The client that it stands for.
    pub name: String,
    /// BLAKE3 of the token.
    pub hash: Digest,
    /// UTC seconds; from then on it does not count.
    pub expires_s: Option<i64>,
    /// What its line says of the client's quota.
    pub quota: Quota,
}

/// Name of a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientName(String);

impl ClientName {
    /// As the book knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A line of a file of providers is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ProviderError {
    /// From 1.
    pub line: usize,
    /// What is expected.
    pub why: String,
}

impl Access {
    /// `join` is BLAKE3 of the join token.
    #[must_use]
    pub fn new(providers: Vec<Provider>, join: Digest) -> Self {
        Self(Arc::new(Tokens { providers, join }))
    }

    /// The client whose token a request shows.
    ///
    /// # Errors
    /// 401 without a token, or with one that is not known or does not count any more.
    pub fn client(&self, headers: &HeaderMap) -> Result<ClientName, Problem> {
        let now_s = Timestamp::now().as_second();
        self.client_at(headers, now_s)
    }

    fn client_at(&self, headers: &HeaderMap, now_s: i64) -> Result<ClientName, Problem> {
        let token = shown(headers)?;
        // All are compared, whichever it is.
        let mut found = None;
        for provider in &self.0.providers {
            if is_token(&token, &provider.hash) {
                found = Some(provider);
            }
        }
        let Some(provider) = found else {
            return Err(unauthorized("token_unknown", "no client has this token"));
        };
        if provider.expires_s.is_some_and(|end_s| end_s <= now_s) {
            return Err(unauthorized("token_expired", "this token does not count any more"));
        }
        Ok(ClientName(provider.name.clone()))
    }

    /// Whether this is the join token.
    pub(super) fn is_join(&self, token: &str) -> bool {
        is_token(token, &self.0.join)
    }
}

/// The token of a request, as Bearer or as the password of Basic.
pub(super) fn shown(headers: &HeaderMap) -> Result<String, Problem> {
    let missing = || {
        unauthorized("token_missing", "show a token: Authorization: Bearer TOKEN, or as a password")
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let value = value.to_str().map_err(|_| missing())?;
    let (scheme, rest) = value.split_once(' ').ok_or_else(missing)?;
    let rest = rest.trim();
    // The fingerprint behind a token is for whoever asks.
    let secret = |token: &str| split_token(token).0.to_owned();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(secret(rest));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(missing());
    }
    let pair = STANDARD.decode(rest).ok().and_then(|pair| String::from_utf8(pair).ok());
    let pair = pair.ok_or_else(missing)?;
    let (_user, password) = pair.split_once(':').ok_or_else(missing)?;
    Ok(secret(password))
}

/// 401, with its reason.
pub(super) fn unauthorized(reason: &'static str, detail: &str) -> Problem {
    problem(StatusCode::UNAUTHORIZED, reason, detail)
}

/// Reads a file of providers.
///
/// # Errors
/// `ProviderError` names the first line that is wrong.
pub fn read_providers(text: &str) -> Result<Vec<Provider>, ProviderError> {
    let mut providers: Vec<Provider> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let wrong = |why: String| ProviderError { line, why };
        let words = text.split('#').next().unwrap_or_default().split_whitespace();
        let (quotas, words): (Vec<&str>, Vec<&str>) = words.partition(|word| is_quota(word));
        let quota = match quotas[..] {
            [] => Quota::default(),
            [quota] => quota.parse().map_err(|error: QuotaError| wrong(error.to_string()))?,
            _ => return Err(wrong("one quota is expected, like jobs=9,bytes=2T".to_owned())),
        };
        let (name, token, expires) = match words[..] {
            [] if quota == Quota::default() => continue,
            [] => return Err(wrong("a quota without a token".to_owned())),
            [token] => (DEFAULT_NAME, token, None),
            [name, token] => (name, token, None),
            [name, token, expires] => (name, token, Some(expires)),
            _ => return Err(wrong("NAME TOKEN EXPIRES is expected".to_owned())),
        };
        let token = Token::parse(token).map_err(|error| wrong(error.to_string()))?;
        if name.len() > NAME_BYTES_MAX {
            return Err(wrong(format!("a name has {NAME_BYTES_MAX} bytes at most")));
        }
        let expires = expires.map(str::parse::<Timestamp>).transpose();
        let expires =
            expires.map_err(|error| wrong(format!("a time like 2027-01-31T00:00:00Z: {error}")))?;
        if providers.iter().any(|other| other.hash == token.hash()) {
            return Err(wrong("this token is there already".to_owned()));
        }
        if providers.len() == PROVIDERS_MAX {
            return Err(wrong(format!("more than {PROVIDERS_MAX} tokens")));
        }
        providers.push(Provider {
            name: name.to_owned(),
            hash: token.hash(),
            expires_s: expires.map(Timestamp::as_second),
            quota,
        });
    }
    Ok(providers)
}

/// Quotas of single clients, by name. The first line of a client that says one counts.
#[must_use]
pub fn quotas_of(providers: &[Provider]) -> BTreeMap<String, Quota> {
    let mut quotas: BTreeMap<String, Quota> = BTreeMap::new();
    for Provider { name, quota, .. } in providers {
        let known = quotas.entry(name.clone()).or_default();
        *known = known.or(*quota);
    }
    quotas
}

/// A token has no such beginning.
fn is_quota(word: &str) -> bool {
    ["jobs=", "bytes=", "targets="].iter().any(|name| word.starts_with(name))
}

/// Client of a token without a name.
const DEFAULT_NAME: &str = "provider";
const NAME_BYTES_MAX: usize = 64;
/// Each request compares with all.
const PROVIDERS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::token::{Fingerprint, with_fingerprint};

    const FILE: &str = "
        # of the newsroom
        news hdp_0123456789abcdef
        sport hdp_sport-0123456789 2026-01-02T03:04:05Z   # a season
        0123456789abcdef";

    fn access() -> Access {
        let join = Token::parse("hdj_0123456789abcdef").unwrap();
        Access::new(read_providers(FILE).unwrap(), join.hash())
    }

    fn asked(authorization: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        if !authorization.is_empty() {
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        let found = access().client_at(&headers, 1_767_323_045);
        found.map(|name| name.0).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn clients_are_known_by_bearer_and_by_any_user_of_basic() {
        assert_eq!(asked("Bearer hdp_0123456789abcdef"), Ok("news".to_owned()));
        assert_eq!(asked("bearer 0123456789abcdef"), Ok("provider".to_owned()));
        let basic = format!("Basic {}", STANDARD.encode("me:hdp_0123456789abcdef"));
        assert_eq!(asked(&basic), Ok("news".to_owned()));
        let printed = with_fingerprint("hdp_0123456789abcdef", &Fingerprint([7; 32]));
        assert_eq!(asked(&format!("Bearer {printed}")), Ok("news".to_owned()));
    }

    #[test]
    fn tokens_that_are_missing_strange_or_over_are_told_apart() {
        let colonless = format!("Basic {}", STANDARD.encode("x"));
        for (authorization, reason) in [
            ("", "token_missing"),
            ("Bearer", "token_missing"),
            ("Digest username=x", "token_missing"),
            ("Basic %", "token_missing"),
            (&colonless, "token_missing"),
            ("Bearer hdp_0123456789abcdeX", "token_unknown"),
            ("Bearer hdj_0123456789abcdef", "token_unknown"),
            ("Bearer hdp_sport-0123456789", "token_expired"),
        ] {
            let problem = asked(authorization).unwrap_err();
            assert!(
                problem.contains(reason) && problem.contains("401"),
                "{authorization}: {problem}"
            );
        }
    }

    #[test]
    fn wrong_line_of_a_file_is_named() {
        for (text, line, part) in [
            ("a b c d", 1, "NAME TOKEN EXPIRES"),
            ("a hdp_0123456789abcdef jobs=x", 1, "jobs=N"),
            ("a hdp_0123456789abcdef jobs=1 bytes=2", 1, "one quota"),
            ("jobs=1", 1, "without a token"),
            ("\nshort", 2, "token"),
            ("a hdp_0123456789abcdef tomorrow", 1, "2027-01-31"),
            ("0123456789abcdef\nx 0123456789abcdef", 2, "already"),
        ] {
            let error = read_providers(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.why.contains(part), "{error}");
        }
        assert_eq!(read_providers("# nobody\n"), Ok(vec![]));
    }

    #[test]
    fn quota_of_a_client_is_that_of_its_lines() {
        let file = "news hdp_0123456789abcdef jobs=2,bytes=1G\nnews hdp_0123456789abcdeg targets=5";
        let quotas = quotas_of(&read_providers(file).unwrap());
        let expected = "jobs=2,bytes=1G,targets=5".parse().unwrap();
        assert_eq!(quotas, BTreeMap::from([("news".to_owned(), expected)]));
    }
}
