//! Who operates an appliance: this machine, and whoever shows a token.
//!
//! ```text
//! NAME ROLE TOKEN [EXPIRES]            a line of the file of `admin.tokens`; # begins a comment
//! grafana read blake3:9a2f..           its BLAKE3 stands for the token: `headend user token`
//! desk control hda_.. 2027-01-31T00:00:00Z
//!
//! Authorization: Bearer TOKEN          or the token as the password of Basic, with any user
//! ```
//! | asked by | without a token | with one |
//! |---|---|---|
//! | this machine (loopback), directly | everything | what its role may |
//! | this machine, for somebody: `FORWARDED` | as another machine | the same |
//! | another machine | `/healthz` and `/readyz`; 401 | the same |
//!
//! The role `read` may GET; `control` may do everything. Before that come the checks of `origin`,
//! which keep pages of others out. A token that is wrong slows down its address.
//! Invariant: tokens are compared in constant time, and only their BLAKE3 is kept. Bound:
//! `TOKENS_MAX`.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::problem::Problem;
use super::{Remote, origin};
use crate::access::throttle::{Throttle, Turn};
use crate::base::time::Mono;
use crate::dist::ids::Digest;
use crate::dist::token::{Token, is_token};

/// Who may ask, and for what. Clones share it.
#[derive(Debug, Clone)]
pub struct Operators(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tokens: RwLock<Arc<[OperatorToken]>>,
    throttle: Throttle,
    since: Instant,
}

/// A token of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorToken {
    /// Who has it, for the log.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// BLAKE3 of the token.
    pub hash: Digest,
    /// UTC seconds; from then on it does not count.
    pub expires_s: Option<i64>,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ask.
    Read,
    /// Change things, too.
    Control,
}

/// A line of the file is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TokenLineError {
    /// From 1.
    pub line: usize,
    /// What is expected.
    pub why: String,
}

/// What a request shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Wrong,
    Of(Role),
}

impl Role {
    /// As the file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Control => "control",
        }
    }
}

impl Operators {
    /// With these tokens, besides this machine.
    #[must_use]
    pub fn new(tokens: Vec<OperatorToken>) -> Self {
        Self(Arc::new(Shared {
            tokens: RwLock::new(tokens.into()),
            throttle: Throttle::default(),
            since: Instant::now(),
        }))
    }

    /// Other tokens count from now on.
    pub fn replace(&self, tokens: Vec<OperatorToken>) {
        *self.0.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens.into();
    }

    fn shown(&self, headers: &HeaderMap, now_s: i64) -> Shown {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Shown::Nothing };
        let Some(token) = value.to_str().ok().and_then(token_of) else { return Shown::Wrong };
        let tokens = Arc::clone(&self.0.tokens.read().unwrap_or_else(PoisonError::into_inner));
        // All are compared, whichever it is.
        let mut found = None;
        for known in tokens.iter() {
            if is_token(&token, &known.hash) {
                found = Some(known);
            }
        }
        let counts = |known: &&OperatorToken| known.expires_s.is_none_or(|end_s| now_s < end_s);
        found.filter(counts).map_or(Shown::Wrong, |known| Shown::Of(known.role))
    }

    fn now(&self) -> Mono {
        Mono(u64::try_from(self.0.since.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Waits for the turn of an address that has shown wrong tokens.
    async fn wait(&self, ip: IpAddr) -> Result<(), Problem> {
        let now = self.now();
        match self.0.throttle.turn(ip, now) {
            Turn::Now => Ok(()),
            Turn::At(due) => {
                tokio::time::sleep(due.since(now)).await;
                Ok(())
            }
            Turn::Never { retry } => {
                Err(Problem::too_many("too many wrong tokens from this address", retry))
            }
        }
    }

    async fn admit(&self, request: &Parts, ip: IpAddr) -> Result<Role, Problem> {
        let Parts { headers, method, uri, .. } = request;
        origin::check_page(headers, method)?;
        if headers.contains_key(header::AUTHORIZATION) {
            self.wait(ip).await?;
        }
        let shown = self.shown(headers, Timestamp::now().as_second());
        if shown == Shown::Wrong {
            self.0.throttle.fail(ip, self.now());
            tracing::warn!(code = "HE-W401", %ip, "a token of the admin API is wrong");
        }
        let is_here = ip.is_loopback() && !FORWARDED.iter().any(|name| headers.contains_key(*name));
        judge(shown, is_here, method, uri.path())?;
        // Whoever shows a token is no page of others: a browser shows it to the host that asked.
        match shown {
            Shown::Of(role) => Ok(role),
            Shown::Nothing | Shown::Wrong => {
                origin::check_host(uri, headers)?;
                Ok(if is_here { Role::Control } else { Role::Read })
            }
        }
    }
}

/// Goes in front of all routes. Handlers may ask for `Extension<Role>`.
pub(super) async fn check(
    State(operators): State<Operators>,
    request: Request,
    next: Next,
) -> Response {
    let remote = request.extensions().get::<ConnectInfo<Remote>>();
    let Some(ip) = remote.map(|ConnectInfo(remote)| remote.addr.ip().to_canonical()) else {
        return Problem::internal("the connection has no address").into_response();
    };
    let (mut parts, body) = request.into_parts();
    match operators.admit(&parts, ip).await {
        Ok(role) => {
            parts.extensions.insert(role);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// What may be done with what is shown.
fn judge(shown: Shown, is_here: bool, method: &Method, path: &str) -> Result<(), Problem> {
    let is_question = [Method::GET, Method::HEAD].contains(method);
    match shown {
        Shown::Of(Role::Control) => Ok(()),
        Shown::Of(Role::Read) if is_question => Ok(()),
        Shown::Of(Role::Read) => {
            Err(Problem::forbidden("this token may only read; it takes one with the role control"))
        }
        Shown::Nothing if is_here => Ok(()),
        // They tell nothing but that the server is there.
        Shown::Nothing if is_question && OPEN.contains(&path) => Ok(()),
        Shown::Nothing => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "show a token: Authorization: Bearer TOKEN; admin.tokens names their file",
        )),
        Shown::Wrong => {
            Err(Problem::new(StatusCode::UNAUTHORIZED, "this token is not known, or has expired"))
        }
    }
}

/// The token in a header, as Bearer or as the password of Basic.
fn token_of(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    Some(pair.split_once(':')?.1.to_owned())
}

/// Reads a file of tokens.
///
/// # Errors
/// `TokenLineError` names the first line that is wrong.
pub fn read_tokens(text: &str) -> Result<Vec<OperatorToken>, TokenLineError> {
    let mut tokens: Vec<OperatorToken> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let wrong = |why: &str| TokenLineError { line, why: why.to_owned() };
        let words: Vec<&str> =
            text.split('#').next().unwrap_or_default().split_whitespace().collect();
        let (name, role, token, expires) = match words[..] {
            [] => continue,
            [name, role, token] => (name, role, token, None),
            [name, role, token, expires] => (name, role, token, Some(expires)),
            _ => return Err(wrong("NAME ROLE TOKEN, and perhaps EXPIRES, are expected")),
        };
        let role = match role {
            "read" => Role::Read,
            "control" => Role::Control,
            _ => return Err(wrong("a role is read or control")),
        };
        let hash = match token.strip_prefix(HASHED) {
            Some(digits) => digits.parse().map_err(|_| wrong("64 digits are expected"))?,
            None => Token::parse(token).map_err(|error| wrong(&error.to_string()))?.hash(),
        };
        let expires_s = match expires.map(str::parse::<Timestamp>) {
            None => None,
            Some(Ok(time)) => Some(time.as_second()),
            Some(Err(_)) => return Err(wrong("a time like 2027-01-31T00:00:00Z is expected")),
        };
        if name.len() > NAME_BYTES_MAX {
            return Err(wrong("a name has 64 bytes at most"));
        }
        if tokens.iter().any(|other| other.hash == hash) {
            return Err(wrong("this token is there already"));
        }
        if tokens.len() == TOKENS_MAX {
            return Err(wrong("more than 1000 tokens"));
        }
        tokens.push(OperatorToken { name: name.to_owned(), role, hash, expires_s });
    }
    Ok(tokens)
}

/// A line of the file for a token.
#[must_use]
pub fn token_line(name: &str, role: Role, token: &Token) -> String {
    format!("{name} {} {HASHED}{}", role.as_str(), token.hash())
}

/// What proxies say of those for whom they ask.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
/// What anybody may ask who reaches the port: probes of a cluster have no tokens.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];
/// In front of the BLAKE3 of a token.
const HASHED: &str = "blake3:";
const NAME_BYTES_MAX: usize = 64;
/// Each request compares with all.
const TOKENS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
        # of the monitoring
        grafana read hda_0123456789abcdef
        desk control 0123456789abcdef0 2026-01-02T03:04:05Z   # a season
        boss control blake3:";

    fn file() -> String {
        let hash = Token::parse("hda_bossbossbossboss").unwrap().hash();
        format!("{FILE}{hash}\n")
    }

    fn shown(authorization: &str) -> Shown {
        let operators = Operators::new(read_tokens(&file()).unwrap());
        let mut headers = HeaderMap::new();
        if !authorization.is_empty() {
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        operators.shown(&headers, 1_767_323_045)
    }

    #[test]
    fn tokens_are_known_by_bearer_and_basic_with_their_roles() {
        let basic = format!("Basic {}", STANDARD.encode("me:hda_bossbossbossboss"));
        for (authorization, expected) in [
            ("", Shown::Nothing),
            ("Bearer hda_0123456789abcdef", Shown::Of(Role::Read)),
            ("bearer hda_bossbossbossboss", Shown::Of(Role::Control)),
            (&*basic, Shown::Of(Role::Control)),
            ("Bearer 0123456789abcdef0", Shown::Wrong),
            ("Bearer hda_0123456789abcdeX", Shown::Wrong),
            ("Bearer", Shown::Wrong),
            ("Digest x", Shown::Wrong),
            ("Basic %", Shown::Wrong),
        ] {
            assert_eq!(shown(authorization), expected, "{authorization}");
        }
        let operators = Operators::new(Vec::new());
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer hda_0123456789abcdef".parse().unwrap());
        assert_eq!(operators.shown(&headers, 0), Shown::Wrong);
        operators.replace(read_tokens(&file()).unwrap());
        assert_eq!(operators.shown(&headers, 0), Shown::Of(Role::Read));
    }

    #[test]
    fn this_machine_may_all_and_others_what_their_token_is_for() {
        let judge = |shown, is_here, method: &Method, path: &str| {
            judge(shown, is_here, method, path).map_err(|problem| problem.status().as_u16())
        };
        let (get, post, delete) = (&Method::GET, &Method::POST, &Method::DELETE);
        for (shown, is_here, method, path, expected) in [
            (Shown::Nothing, true, post, "/v1/config:reload", Ok(())),
            (Shown::Nothing, false, get, "/v1/sessions", Err(401)),
            (Shown::Nothing, false, get, "/metrics", Err(401)),
            (Shown::Nothing, false, get, "/healthz", Ok(())),
            (Shown::Nothing, false, get, "/readyz", Ok(())),
            (Shown::Nothing, false, post, "/readyz", Err(401)),
            (Shown::Nothing, false, get, "/healthz/x", Err(401)),
            (Shown::Wrong, true, get, "/metrics", Err(401)),
            (Shown::Wrong, false, get, "/healthz", Err(401)),
            (Shown::Of(Role::Read), false, get, "/metrics", Ok(())),
            (Shown::Of(Role::Read), false, &Method::HEAD, "/metrics", Ok(())),
            (Shown::Of(Role::Read), false, delete, "/v1/sessions/1", Err(403)),
            (Shown::Of(Role::Read), true, post, "/v1/config:reload", Err(403)),
            (Shown::Of(Role::Control), false, delete, "/v1/sessions/1", Ok(())),
        ] {
            assert_eq!(judge(shown, is_here, method, path), expected, "{shown:?} {method} {path}");
        }
    }

    #[test]
    fn wrong_line_of_a_file_is_named() {
        for (text, line, part) in [
            ("a read", 1, "NAME ROLE TOKEN"),
            ("a admin hda_0123456789abcdef", 1, "read or control"),
            ("\na read short", 2, "token"),
            ("a read blake3:12", 1, "64 digits"),
            ("a read hda_0123456789abcdef tomorrow", 1, "2027-01-31"),
            ("a read hda_0123456789abcdef\nb read hda_0123456789abcdef", 2, "already"),
        ] {
            let error = read_tokens(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.why.contains(part), "{error}");
        }
        let token = Token::parse("hda_0123456789abcdef").unwrap();
        let line = token_line("a", Role::Read, &token);
        assert!(!line.contains("hda_"), "{line}");
        assert_eq!(read_tokens(&line).unwrap()[0].hash, token.hash());
    }
}
