//! The API of a base, as verbs ask it.
//!
//! Of bases that stand by for each other one answers; the others are tried in turn.
//!
//! ```text
//! GET          --not reached--> error
//! POST, PATCH  --not reached--> error
//!              --reached, no answer--> the same key again, until an answer says what was done
//! ```
//! Bounds: `ANSWER_BYTES_MAX` of an answer, `PATIENCE` for each, `PAGES_MAX` pages of a list,
//! `GIVE_UP_AFTER` for what is asked again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::typestate::WithBody;
use ureq::{Agent, Body, RequestBuilder, Timeout};
use uuid::Uuid;

use super::super::urls::encode_path;
use super::super::{Exit, Failure, printable};
use super::trust::tls_config;
use crate::dist::ids::JobId;
use crate::dist::token::split_token;
use crate::dist::wire::job::{CommandView, DeliveryView, EventView};
use crate::pki::fault::TlsFault;

/// A client of a base.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// `https://HOST:PORT` or `http://HOST:PORT` of each base, no slash behind; one at least.
    roots: Arc<[String]>,
    /// The one that is asked now. Clones ask the same.
    current: Arc<AtomicUsize>,
    /// `Bearer TOKEN`.
    authorization: String,
    agent: Agent,
}

/// Why the base did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BaseError {
    /// It cannot be reached, or its answer ended early.
    #[error("no answer from the base at {root}: {why}")]
    Unreachable {
        /// Where.
        root: String,
        /// For people.
        why: String,
        /// Something took the connection: what was asked may have been done.
        is_reached: bool,
    },
    /// It is not believed.
    #[error("the base at {root} is not trusted: {fault}")]
    Untrusted {
        /// Where.
        root: String,
        /// Why.
        fault: TlsFault,
    },
    /// It refuses.
    #[error("the base refuses: {detail} ({reason})")]
    Refused {
        /// Status of HTTP.
        status: u16,
        /// A name that does not change.
        reason: String,
        /// For people.
        detail: String,
        /// Where an upload goes on.
        expected_offset: Option<u64>,
    },
    /// What answers is no base.
    #[error("{root} does not answer as a base of headend does (HTTP {status})")]
    Stranger {
        /// Where.
        root: String,
        /// Status of HTTP.
        status: u16,
    },
}

impl BaseError {
    /// Another base may have what this one has not.
    pub(super) fn is_elsewhere(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Untrusted { .. } => true,
            // An answer to HEAD has no body that says why.
            Self::Refused { status: 503, reason, .. } => {
                matches!(reason.as_str(), "standby" | "ending" | "http_503")
            }
            Self::Refused { .. } | Self::Stranger { .. } => false,
        }
    }

    /// How much of several bases' errors this one says: the greatest is told.
    fn says(&self) -> u8 {
        match self {
            Self::Unreachable { is_reached: true, .. } => 2,
            Self::Unreachable { is_reached: false, .. } => 0,
            _ => 1,
        }
    }

    /// The same request may be answered later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 502..=504),
            Self::Untrusted { .. } | Self::Stranger { .. } => false,
        }
    }
}

impl From<BaseError> for Failure {
    fn from(error: BaseError) -> Self {
        let exit = match error {
            BaseError::Unreachable { .. } => Exit::Unreachable,
            BaseError::Untrusted { .. }
            | BaseError::Refused { .. }
            | BaseError::Stranger { .. } => Exit::Runtime,
        };
        Self { exit, message: error.to_string() }
    }
}

impl Base {
    /// Asks nothing of the API yet; the base of a token with a fingerprint is asked for its CA.
    /// `urls` is `https://HOST:PORT`, `HOST:PORT` or without TLS `http://HOST:PORT`, or several
    /// with commas between.
    pub(super) fn new(urls: &str, token: &str, ca: Option<&Path>) -> Result<Self, Failure> {
        let roots = urls.split(',').map(|url| root(url.trim())).collect::<Result<Vec<_>, _>>()?;
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage("the token has characters that no token has"));
        }
        let (token, fingerprint) = split_token(token);
        let config = Agent::config_builder()
            .tls_config(tls_config(&roots, fingerprint, ca)?)
            .timeout_connect(Some(CONNECT_PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .timeout_per_write(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections_per_host(CONNECTIONS_KEPT)
            // The base is named; a proxy of the environment is for other things.
            .proxy(None)
            .build();
        Ok(Self {
            roots: roots.into(),
            current: Arc::default(),
            authorization: format!("Bearer {token}"),
            agent: config.into(),
        })
    }

    /// `path` begins with a slash and is encoded.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.root())
    }

    /// The base that is asked now.
    fn root(&self) -> &str {
        let place = self.current.load(Ordering::Relaxed) % self.roots.len().max(1);
        self.roots.get(place).map_or("", String::as_str)
    }

    /// The base of this URL does not answer as the base: the next one is asked, unless another
    /// thread has seen to that.
    pub(super) fn turn_from(&self, url: &str) {
        let current = self.current.load(Ordering::Relaxed);
        if url.starts_with(self.root()) {
            let next = current.wrapping_add(1);
            let _turned_by_another =
                self.current.compare_exchange(current, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// What the first base says that is the base; else that one was reached which did not answer,
    /// because it may have done what was asked; else what one that stands by says, or nobody.
    fn first<T>(&self, ask: impl Fn(&str) -> Result<T, BaseError>) -> Result<T, BaseError> {
        let mut refused = None;
        for _ in self.roots.iter() {
            let root = self.root().to_owned();
            match ask(&root) {
                Err(error) if error.is_elsewhere() => {
                    if refused.as_ref().is_none_or(|old: &BaseError| error.says() >= old.says()) {
                        refused = Some(error);
                    }
                    self.turn_from(&root);
                }
                answer => return answer,
            }
        }
        Err(refused.unwrap_or_else(|| self.stranger(0)))
    }

    /// Asks until the base answers, which may be starting again.
    pub(super) fn persist<T>(
        &self,
        mut ask: impl FnMut(&Self) -> Result<T, BaseError>,
    ) -> Result<T, BaseError> {
        let (began, mut wait) = (Instant::now(), WAIT_MIN);
        loop {
            match ask(self) {
                Err(error) if error.may_pass() && began.elapsed() < GIVE_UP_AFTER => {}
                answer => return answer,
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// GET of JSON.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, BaseError> {
        self.first(|root| self.value(self.allowed(self.agent.get(format!("{root}{path}"))).call()))
    }

    /// POST of JSON. A second request with the same key does nothing.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<T, BaseError> {
        self.send(Agent::post, path, key, body)
    }

    /// PATCH of JSON, as [`Base::post`].
    pub(super) fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<T, BaseError> {
        self.send(Agent::patch, path, key, body)
    }

    fn send<T: DeserializeOwned>(
        &self,
        begin: fn(&Agent, String) -> RequestBuilder<WithBody>,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<T, BaseError> {
        let text = serde_json::to_string(body).unwrap_or_default();
        let ask = |base: &Self| {
            base.first(|root| {
                let request = base.allowed(begin(&base.agent, format!("{root}{path}")));
                let request =
                    request.header("idempotency-key", key).content_type("application/json");
                base.value(request.send(&text))
            })
        };
        match ask(self) {
            Err(BaseError::Unreachable { is_reached: true, .. }) => self.persist(ask),
            answer => answer,
        }
    }

    /// All elements of a list that the base gives in pages.
    pub(super) fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &str,
        key: &str,
    ) -> Result<Vec<T>, BaseError> {
        let mut all = Vec::new();
        let mut after = String::new();
        for _ in 0..PAGES_MAX {
            let mut page: Value = self.get(&format!("{path}?{query}limit={PAGE}{after}"))?;
            let list = page.get_mut(key).map(Value::take).unwrap_or_default();
            let list: Vec<T> = serde_json::from_value(list).map_err(|_| self.stranger(200))?;
            all.extend(list);
            let Some(next) = page["next_cursor"].as_str() else { break };
            after = format!("&after={}", encode_path(next));
        }
        Ok(all)
    }

    /// Events of a job that are wanted, in order; the others are passed over.
    pub(super) fn events(
        &self,
        job: JobId,
        is_wanted: impl Fn(&EventView) -> bool,
    ) -> Result<Vec<EventView>, BaseError> {
        let (mut wanted, mut after) = (Vec::new(), 0);
        for _ in 0..PAGES_MAX {
            let path = format!("{}/events?after={after}&limit={PAGE}", job_path(job));
            let page: Value = self.get(&path)?;
            let events: Result<Vec<EventView>, _> = Deserialize::deserialize(&page["events"]);
            let events = events.map_err(|_| self.stranger(200))?;
            let Some(last) = events.last().map(|event| event.seq).filter(|seq| *seq > after) else {
                break;
            };
            after = last;
            wanted.extend(events.into_iter().filter(&is_wanted));
        }
        Ok(wanted)
    }

    /// A PUT or PATCH or HEAD of a file, to be filled in.
    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Adds the token.
    pub(super) fn allowed<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        request.header("authorization", &self.authorization)
    }

    fn value<T: DeserializeOwned>(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, BaseError> {
        let (status, body) = self.read(answer)?;
        serde_json::from_str(&body).map_err(|_| self.stranger(status))
    }

    /// The answer's text, or the problem that it is.
    pub(super) fn read(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<(u16, String), BaseError> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| self.unreachable(&error))?;
        if (200..300).contains(&status) {
            return Ok((status, body));
        }
        let problem: Value = serde_json::from_str(&body).map_err(|_| self.stranger(status))?;
        let text = |key: &str| problem[key].as_str().map(printable);
        Err(BaseError::Refused {
            status,
            reason: text("reason").unwrap_or_else(|| format!("http_{status}")),
            detail: text("detail").unwrap_or_else(|| "it does not say why".to_owned()),
            expected_offset: problem["expected_offset"].as_u64(),
        })
    }

    pub(super) fn unreachable(&self, error: &ureq::Error) -> BaseError {
        let fault = match error {
            ureq::Error::Rustls(error) => Some(TlsFault::of(error)),
            other => TlsFault::find(other),
        };
        let root = self.root().to_owned();
        match fault {
            Some(fault) => BaseError::Untrusted { root, fault },
            None => {
                let is_reached = is_reached(error);
                BaseError::Unreachable { root, why: error.to_string(), is_reached }
            }
        }
    }

    fn stranger(&self, status: u16) -> BaseError {
        BaseError::Stranger { root: self.root().to_owned(), status }
    }
}

/// Whether a connection was there before the error.
fn is_reached(error: &ureq::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        ureq::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        ),
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => false,
        _ => true,
    }
}

/// `https://HOST:PORT` or `http://HOST:PORT` of a base.
fn root(url: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::usage(format!("--base {}: {why}", printable(url)));
    let (scheme, host) = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), host)) => (scheme, host),
        Some(_) => return Err(wrong("only https:// and http:// can be asked")),
        None => ("https", url),
    };
    let root = format!("{scheme}://{}", host.trim_end_matches('/'));
    let uri: Uri = root.parse().map_err(|_| wrong("not a URL like https://192.0.2.1:9000"))?;
    let has_host = uri.authority().is_some_and(|authority| {
        let host = authority.host();
        let has_port = authority.port_u16().is_some();
        !host.is_empty() && (has_port || authority.as_str() == host)
    });
    if !has_host || uri.path() != "/" || uri.query().is_some() {
        return Err(wrong("a host and a port are expected, like https://192.0.2.1:9000"));
    }
    Ok(root)
}

/// Path of a job in the API.
pub(super) fn job_path(job: impl std::fmt::Display) -> String {
    format!("/v1/jobs/{job}")
}

/// The id of a job on the command line.
pub(super) fn job_id(word: &str) -> Result<JobId, Failure> {
    let wrong = |error| Failure::usage(format!("{}: {error}", printable(word)));
    word.parse().map_err(wrong)
}

/// A key for one request: sent again, it has no second effect.
pub(super) fn key() -> String {
    Uuid::now_v7().to_string()
}

/// Deliveries of a job. `query` is empty or ends with `&`.
pub(super) fn deliveries(
    base: &Base,
    job: JobId,
    query: &str,
) -> Result<Vec<DeliveryView>, BaseError> {
    base.list(&format!("{}/deliveries", job_path(job)), query, "deliveries")
}

/// Commands of a job.
pub(super) fn commands(base: &Base, job: JobId) -> Result<Vec<CommandView>, BaseError> {
    base.list(&format!("{}/commands", job_path(job)), "", "commands")
}

/// A state or reason by its name in the API.
pub(super) fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or("-").to_owned()
}

/// A base that starts again is there within a minute.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(120);
/// Between two questions to a base that does not answer.
pub(super) const WAIT_MIN: Duration = Duration::from_millis(200);
/// As [`WAIT_MIN`], in the end.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(5);
/// The base is up, or it is not.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Longer than the base keeps a question open.
const PATIENCE: Duration = Duration::from_secs(60);
/// A page of a thousand deliveries is less than 1 MB.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Elements of a page.
const PAGE: usize = 1_000;
/// Ten million elements: more than a base holds of a job.
const PAGES_MAX: usize = 10_000;
/// As many as upload at once, and one that watches.
const CONNECTIONS_KEPT: usize = 16;

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A base that gives these answers, a connection each, and returns the heads of the questions.
    pub(crate) fn base(answers: Vec<(&'static str, String)>) -> (Base, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let asked = answers.into_iter().map(|(head, body)| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut question = Vec::new();
                while !question.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    question.push(byte[0]);
                }
                let question = String::from_utf8(question).unwrap().to_lowercase();
                let length = question.split("content-length: ").nth(1);
                let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
                let mut body_in = vec![0; length.unwrap_or(0)];
                stream.read_exact(&mut body_in).unwrap();
                write!(
                    stream,
                    "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
                question
            });
            asked.collect()
        });
        (Base::new(&url, "hdp_secret", None).unwrap(), thread)
    }

    #[test]
    fn pages_are_put_together_and_the_token_is_sent() {
        let (base, thread) = base(vec![
            ("200 OK", r#"{"jobs":[1,2],"next_cursor":"a b"}"#.to_owned()),
            ("200 OK", r#"{"jobs":[3],"next_cursor":null}"#.to_owned()),
        ]);
        assert_eq!(base.list::<u32>("/v1/jobs", "state=open&", "jobs"), Ok(vec![1, 2, 3]));
        let asked = thread.join().unwrap();
        assert!(asked[0].starts_with("get /v1/jobs?state=open&limit=1000 http"), "{asked:?}");
        assert!(asked[1].starts_with("get /v1/jobs?state=open&limit=1000&after=a%20b "));
        assert!(asked[0].contains("authorization: bearer hdp_secret"));
    }

    #[test]
    fn refusal_has_its_reason_and_strangers_are_told_from_bases() {
        let refusal = r#"{"detail":"no\u0007","reason":"no_targets","status":422}"#.to_owned();
        let (base, thread) =
            base(vec![("422 Unprocessable Entity", refusal), ("200 OK", "<html>".to_owned())]);
        let refused = base.post::<Value>("/v1/jobs", "key", &Value::Null).unwrap_err();
        assert_eq!(refused.to_string(), "the base refuses: no? (no_targets)");
        assert!(!refused.may_pass() && Failure::from(refused).exit == Exit::Runtime);
        assert!(matches!(base.get::<Value>("/v1"), Err(BaseError::Stranger { .. })));
        assert!(thread.join().unwrap()[0].contains("idempotency-key: key"));
    }

    #[test]
    fn base_that_is_not_there_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let base = Base::new(&format!("http://{addr}"), "t", None).unwrap();
        drop(listener);
        let error = base.get::<Value>("/v1/jobs").unwrap_err();
        assert!(error.may_pass() && Failure::from(error).exit == Exit::Unreachable);
    }

    #[test]
    fn command_that_may_have_been_done_is_sent_again_with_its_key_until_an_answer_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let base = Base::new(&format!("http://{addr}"), "t", None).unwrap();
        let thread = std::thread::spawn(move || {
            let read = |stream: &mut std::net::TcpStream| {
                let mut question = Vec::new();
                while !question.ends_with(b"\r\n\r\n1") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    question.push(byte[0]);
                }
                assert!(String::from_utf8(question).unwrap().contains("idempotency-key: k"));
            };
            read(&mut listener.accept().unwrap().0);
            // Nobody listens for a while: the base starts again.
            drop(listener);
            let listener = TcpListener::bind(addr).unwrap();
            let mut stream = listener.accept().unwrap().0;
            read(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7").unwrap();
        });
        assert_eq!(base.post::<u32>("/v1/jobs", "k", &1), Ok(7));
        thread.join().unwrap();
        // What nobody took was not done.
        assert!(matches!(
            base.post::<u32>("/v1/jobs", "k", &1),
            Err(BaseError::Unreachable { is_reached: false, .. })
        ));
    }

    #[test]
    fn base_that_was_reached_counts_before_those_that_stand_by_or_are_not_there() {
        let unreachable = |is_reached| BaseError::Unreachable {
            root: String::new(),
            why: String::new(),
            is_reached,
        };
        let standby = BaseError::Refused {
            status: 503,
            reason: "standby".to_owned(),
            detail: String::new(),
            expected_offset: None,
        };
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for order in orders {
            let errors = [unreachable(true), standby.clone(), unreachable(false)];
            let base = Base::new("http://a:1,http://b:1,http://c:1", "t", None).unwrap();
            let asked = std::cell::Cell::new(0);
            let told = base.first::<()>(|_| {
                let at = asked.replace(asked.get() + 1);
                Err(errors[order[at]].clone())
            });
            assert_eq!(told, Err(unreachable(true)), "{order:?}");
        }
    }

    #[test]
    fn base_that_stands_by_is_passed_over_and_the_one_that_answers_is_asked_on() {
        let standby = || {
            let refusal = r#"{"detail":"standby","reason":"standby","status":503}"#.to_owned();
            base(vec![("503 Service Unavailable", refusal)])
        };
        let answer = || ("200 OK", "7".to_owned());
        let ((waiting, waits), (active, answers)) = (standby(), base(vec![answer(), answer()]));
        let both = format!("{},{}", waiting.url(""), active.url(""));
        let bases = Base::new(&both, "t", None).unwrap();
        assert_eq!(bases.get::<u32>("/v1/a"), Ok(7));
        assert_eq!(bases.post::<u32>("/v1/b", "k", &1), Ok(7));
        assert_eq!(waits.join().unwrap().len(), 1);
        assert_eq!(answers.join().unwrap().len(), 2);
        let (waiting, waits) = standby();
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let none = Base::new(&format!("{},http://{gone}", waiting.url("")), "t", None).unwrap();
        let error = none.get::<u32>("/v1/a").unwrap_err();
        assert!(matches!(&error, BaseError::Refused { reason, .. } if reason == "standby"));
        assert!(error.may_pass());
        waits.join().unwrap();
    }

    #[test]
    fn url_that_is_none_is_a_usage_failure() {
        for bad in ["http://", "http://b:1/x", "http://b:x", "ftp://b", "a b"] {
            assert_eq!(Base::new(bad, "t", None).unwrap_err().exit, Exit::Usage, "{bad}");
        }
        assert_eq!(Base::new("http://b:1", "a b", None).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn base_that_nothing_is_known_of_is_not_asked() {
        for url in ["https://127.0.0.1:1", "127.0.0.1:1"] {
            let failure = Base::new(url, "hdp_secret", None).unwrap_err();
            assert!(failure.exit == Exit::Usage && failure.message.contains("--ca"), "{failure}");
        }
        let missing = Base::new("https://b:1", "t", Some("/nonexistent".as_ref())).unwrap_err();
        assert!(missing.exit == Exit::Usage && missing.message.contains("/nonexistent"));
    }
}
