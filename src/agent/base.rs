//! The base as a node sees it: hello, orders, reports.
//!
//! Invariant: a token is sent to the base of `--base` only, and never logged. Bounds: each request
//! has an end in time; a line of orders has `LINE_BYTES_MAX` bytes at most.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use reqwest::{RequestBuilder, Response, Url};
use serde::Deserialize;

use super::channel::Channel;
use crate::dist::ids::BaseEpoch;
use crate::dist::wire::agent::{
    EPOCH_HEADER, HelloBody, NodeOrder, Reports, ReportsTaken, WelcomeBody,
};
use crate::pki::fault::TlsFault;

/// The base did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// It says no.
    #[error("the base refuses: {detail} ({reason})")]
    Refused {
        /// Status of HTTP.
        status: u16,
        /// Stable name.
        reason: String,
        /// For people.
        detail: String,
    },
    /// It does not answer.
    #[error("the base cannot be reached: {0}")]
    Unreachable(String),
    /// Another base has followed it.
    #[error("the base of epoch {} answers, and one of epoch {} has followed it", .epoch.0, .heard.0)]
    Superseded {
        /// Its epoch.
        epoch: BaseEpoch,
        /// Greatest epoch that this node has heard of.
        heard: BaseEpoch,
    },
    /// It is not believed, or does not believe this node.
    #[error("the base at {base} is not trusted: {fault}")]
    Untrusted {
        /// `HOST:PORT`.
        base: String,
        /// Why.
        fault: TlsFault,
    },
    /// It answers with something else.
    #[error("the answer is not that of a base: {0}")]
    Strange(String),
}

impl BaseError {
    /// The stable name of a refusal.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            Self::Superseded { .. }
            | Self::Unreachable(_)
            | Self::Untrusted { .. }
            | Self::Strange(_) => None,
        }
    }

    /// The token is not taken.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }

    /// Another base may have what this one has not.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::Refused { reason, .. } => matches!(reason.as_str(), "standby" | "ending"),
            Self::Unreachable(_) | Self::Superseded { .. } | Self::Untrusted { .. } => true,
            Self::Strange(_) => false,
        }
    }

    /// Asking again does not help: what was sent is refused.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let passes = [408, 425, 429];
        match self {
            Self::Refused { status, .. } => *status < 500 && !passes.contains(status),
            // Clocks are set, and connections break.
            Self::Untrusted { fault, .. } => {
                !matches!(fault, TlsFault::Expired | TlsFault::NotYet | TlsFault::Other(_))
            }
            Self::Superseded { .. } | Self::Unreachable(_) | Self::Strange(_) => false,
        }
    }
}

/// Text is no URL of a base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It has another form.
    #[error("{url} is no URL of a base: https://HOST:PORT is expected")]
    Form {
        /// The text.
        url: String,
    },
    /// It asks for a connection without TLS.
    #[error(
        "{url} is without TLS: everyone on the way can read and change what is sent; take https://, or --insecure to do without"
    )]
    Plain {
        /// The text.
        url: String,
    },
    /// TLS is asked for, and not to be used.
    #[error("{url} is with TLS; leave --insecure out")]
    Tls {
        /// The text.
        url: String,
    },
}

/// A base.
#[derive(Debug, Clone)]
pub struct Base {
    channel: Channel,
    url: BaseUrl,
}

/// Where a base is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// With the scheme, without a slash behind.
    root: String,
    /// `HOST:PORT`.
    authority: String,
}

/// An answer, and which base gave it.
#[derive(Debug)]
pub struct Answer<T> {
    /// Epoch of the base; 0 when it does not say.
    pub epoch: BaseEpoch,
    /// What it said.
    pub value: T,
}

/// Orders as they come.
#[derive(Debug)]
pub struct Orders {
    response: Response,
    buffer: BytesMut,
}

#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    reason: String,
}

impl BaseUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// `UrlError` for anything but `https://HOST:PORT`, without TLS `http://HOST:PORT`.
    pub fn parse(url: &str, is_secure: bool) -> Result<Self, UrlError> {
        let wrong = || UrlError::Form { url: url.to_owned() };
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let is_plain = parsed.path() == "/"
            && parsed.query().is_none()
            && parsed.fragment().is_none()
            && parsed.username().is_empty();
        let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else {
            return Err(wrong());
        };
        let scheme = parsed.scheme();
        if !is_plain || !["http", "https"].contains(&scheme) {
            return Err(wrong());
        }
        match (scheme, is_secure) {
            ("http", true) => Err(UrlError::Plain { url: url.to_owned() }),
            ("https", false) => Err(UrlError::Tls { url: url.to_owned() }),
            _ => {
                let authority = format!("{host}:{port}");
                Ok(Self { root: format!("{scheme}://{authority}"), authority })
            }
        }
    }
}

impl Base {
    /// The base at `url`, by these connections.
    pub(super) fn new(channel: Channel, url: BaseUrl) -> Self {
        Self { channel, url }
    }

    /// `HOST:PORT`, as a URL has it.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.url.authority
    }

    /// With the scheme, without a slash behind.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url.root
    }

    /// Says hello.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub async fn hello(
        &self,
        hello: &HelloBody,
        token: &str,
    ) -> Result<Answer<WelcomeBody>, BaseError> {
        let http = self.channel.first();
        let request = http.post(format!("{}/agent/v1/hello", self.url.root)).json(hello);
        self.read(self.send(request, token).await?).await
    }

    /// Sends a batch of reports.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub async fn report(
        &self,
        reports: &Reports,
        token: &str,
    ) -> Result<Answer<ReportsTaken>, BaseError> {
        let http = self.channel.own();
        let request = http.post(format!("{}/agent/v1/reports", self.url.root)).json(reports);
        self.read(self.send(request, token).await?).await
    }

    /// Asks for orders, which come for as long as the connection lives.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub async fn orders(&self, token: &str) -> Result<Answer<Orders>, BaseError> {
        let http = self.channel.own();
        let request = http.get(format!("{}/agent/v1/orders", self.url.root)).bearer_auth(token);
        let sent = tokio::time::timeout(ANSWER_MAX, request.send()).await;
        let response = sent.map_err(|_| late())?.map_err(|error| self.failed(&error))?;
        let response = checked(response).await?;
        let epoch = epoch_of(&response);
        Ok(Answer { epoch, value: Orders { response, buffer: BytesMut::new() } })
    }

    /// Fetches the bytes of a probe: no more than were asked for, and one.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub async fn probe(
        &self,
        number: u64,
        bytes: u64,
        token: &str,
    ) -> Result<Answer<Vec<u8>>, BaseError> {
        let url = format!("{}/agent/v1/probe?number={number}&bytes={bytes}", self.url.root);
        let request = self.channel.own().get(url).bearer_auth(token);
        let sent = tokio::time::timeout(ANSWER_MAX, request.send()).await;
        let response = sent.map_err(|_| late())?.map_err(|error| self.failed(&error))?;
        let mut response = checked(response).await?;
        let epoch = epoch_of(&response);
        let mut value = Vec::new();
        while u64::try_from(value.len()).is_ok_and(|len| len <= bytes)
            && let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))?
        {
            value.extend_from_slice(&chunk);
        }
        Ok(Answer { epoch, value })
    }

    async fn send(&self, request: RequestBuilder, token: &str) -> Result<Response, BaseError> {
        let sent = request.bearer_auth(token).timeout(ANSWER_MAX).send().await;
        checked(sent.map_err(|error| self.failed(&error))?).await
    }

    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        response: Response,
    ) -> Result<Answer<T>, BaseError> {
        let epoch = epoch_of(&response);
        let bytes = response.bytes().await.map_err(|error| self.failed(&error))?;
        let value = serde_json::from_slice(&bytes);
        let value = value.map_err(|error| BaseError::Strange(error.to_string()))?;
        Ok(Answer { epoch, value })
    }

    fn failed(&self, error: &reqwest::Error) -> BaseError {
        match TlsFault::find(error) {
            Some(fault) => BaseError::Untrusted { base: self.url.authority.clone(), fault },
            None => unreachable(error),
        }
    }
}

impl Orders {
    /// The next order; `None` for one that this version does not know.
    ///
    /// # Errors
    /// When the connection has ended, or nothing came for too long.
    pub async fn next(&mut self) -> Result<Option<NodeOrder>, BaseError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(serde_json::from_slice(&line).ok());
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(BaseError::Strange("an order without an end".to_owned()));
            }
            let chunk = tokio::time::timeout(IDLE_MAX, self.response.chunk()).await;
            match chunk.map_err(|_| late())?.map_err(|error| unreachable(&error))? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Err(BaseError::Unreachable("it ended the connection".to_owned())),
            }
        }
    }
}

/// Which base answers.
fn epoch_of(response: &Response) -> BaseEpoch {
    let said = response.headers().get(EPOCH_HEADER).and_then(|value| value.to_str().ok());
    BaseEpoch(said.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// The answer, or what its problem says.
async fn checked(response: Response) -> Result<Response, BaseError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = tokio::time::timeout(ANSWER_MAX, response.bytes()).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    let Problem { title, detail, reason } = serde_json::from_slice(&body).unwrap_or_default();
    let detail = if detail.is_empty() { title } else { detail };
    let detail = if detail.is_empty() { status.to_string() } else { detail };
    let reason = if reason.is_empty() { status.as_u16().to_string() } else { reason };
    Err(BaseError::Refused { status: status.as_u16(), reason, detail })
}

/// The innermost cause says what happened; the layers around it repeat the URL.
fn unreachable(error: &reqwest::Error) -> BaseError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    BaseError::Unreachable(cause.to_string())
}

fn late() -> BaseError {
    BaseError::Unreachable("no answer in time".to_owned())
}

/// For an answer that is no stream.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The base says something each five seconds at least.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// A list of sources with its capabilities has fewer.
const LINE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_of_a_base_is_host_and_port() {
        for (url, authority) in [
            ("https://base:7000", "base:7000"),
            ("https://base:7000/", "base:7000"),
            ("https://10.0.0.1", "10.0.0.1:443"),
            ("https://[::1]:7", "[::1]:7"),
        ] {
            let parsed = BaseUrl::parse(url, true).unwrap();
            assert_eq!(
                (parsed.authority.as_str(), parsed.root),
                (authority, format!("https://{authority}"))
            );
        }
        for bad in ["base:7000", "https://base/v1", "https://a@base", "https://", "ftp://b", ""] {
            assert!(matches!(BaseUrl::parse(bad, true), Err(UrlError::Form { .. })), "{bad}");
        }
    }

    #[test]
    fn way_without_tls_is_gone_only_when_it_is_asked_for() {
        let error = BaseUrl::parse("http://base:7000", true).unwrap_err();
        assert!(error.to_string().contains("--insecure"), "{error}");
        assert_eq!(BaseUrl::parse("http://b", false).unwrap().root, "http://b:80");
        let error = BaseUrl::parse("https://base:7000", false).unwrap_err();
        assert!(matches!(error, UrlError::Tls { .. }), "{error}");
    }
}
