//! What of a request is needed for its answer: kept while the request is executed.

use super::rtsp_connection::{media_of, without_srtp};
use crate::base::time::Mono;
use crate::metrics::requests;
use crate::rtsp::headers::list_tokens;
use crate::rtsp::request::{Method, Request};
use crate::rtsp::response::Response;
use crate::rtsp::uri::{base_url, parse_target};

/// Fields of a request that its answer needs.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Its method, as an index into the counters of requests.
    pub(super) method_index: usize,
    /// When it was read.
    pub(super) since: Mono,
    /// `Timestamp`, when it has the form of RFC 2326 s12.38.
    timestamp: Option<Box<str>>,
    /// `Connection: close`: its answer is the last one.
    pub(super) is_last: bool,
    /// It names a session and shows no credentials.
    pub(super) is_bare_in_session: bool,
    /// What keys of SRTP may be needed for.
    pub(super) media: Option<Box<AskedMedia>>,
}

/// What a DESCRIBE or SETUP is about, as the client wrote it.
#[derive(Debug, Clone)]
pub(super) enum AskedMedia {
    /// A presentation.
    Describe {
        /// Its path.
        path: String,
        /// The query of the URL.
        query: Option<String>,
        /// Base of control URLs when keys are told: without `srtp`, since GStreamer loses the path
        /// of a base with a query (client rule C33).
        base: String,
    },
    /// One stream of a presentation.
    Setup {
        /// Path of the presentation.
        path: String,
        /// The stream.
        track: u8,
    },
}

impl Asked {
    pub(super) fn new(request: &Request, now: Mono) -> Self {
        let timestamp = request.header("Timestamp").and_then(client_time).map(Into::into);
        let mut options = request.header("Connection").into_iter().flat_map(list_tokens);
        Self {
            method_index: requests::method_index(request.method.as_str()),
            since: now,
            timestamp,
            is_last: options.any(|option| option.eq_ignore_ascii_case("close")),
            is_bare_in_session: request.header("Session").is_some()
                && request.header("Authorization").is_none(),
            media: AskedMedia::of(request).map(Box::new),
        }
    }

    /// What could not be read as a request.
    pub(super) fn malformed(now: Mono) -> Self {
        Self {
            method_index: requests::method_index(""),
            since: now,
            timestamp: None,
            is_last: false,
            is_bare_in_session: false,
            media: None,
        }
    }

    /// Adds what the request asks of every answer: its `Timestamp` with the seconds that the
    /// answer took (RFC 2326 s12.38), and `Connection: close`.
    pub(super) fn complete(&self, response: Response, now: Mono) -> Response {
        let response = match &self.timestamp {
            Some(timestamp) => {
                let delay_us = now.since(self.since).as_micros();
                let (seconds, us) = (delay_us / 1_000_000, delay_us % 1_000_000);
                response.header("Timestamp", format!("{timestamp} {seconds}.{us:06}"))
            }
            None => response,
        };
        if self.is_last { response.header("Connection", "close") } else { response }
    }
}

impl AskedMedia {
    fn of(request: &Request) -> Option<Self> {
        if !matches!(request.method, Method::Describe | Method::Setup) {
            return None;
        }
        let target = parse_target(&request.uri).ok()?;
        let (path, track) = media_of(&target);
        let path = path.to_owned();
        Some(match request.method {
            Method::Describe => {
                let base = base_url(&without_srtp(&request.uri));
                Self::Describe { path, query: target.query, base }
            }
            _ => Self::Setup { path, track },
        })
    }
}

/// The client's part of a `Timestamp`: digits with at most one point, and no more of them than a
/// clock has.
fn client_time(header: &str) -> Option<&str> {
    let text = header.split_ascii_whitespace().next()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = [whole, fraction].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    let has_digits = whole.len() + fraction.len() > 0;
    (are_digits && has_digits && text.len() <= TIMESTAMP_BYTES_MAX).then_some(text)
}

/// Seconds since 1900 in attoseconds are shorter.
const TIMESTAMP_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rtsp::request::Method;
    use crate::rtsp::response::Status;

    fn answered(headers: &[(&str, &str)]) -> Response {
        let request = Request::new_for_test(Method::Options, "*", headers, b"");
        let asked = Asked::new(&request, Mono(5));
        asked.complete(Response::new(Status::Ok, None), Mono(5) + Duration::from_millis(1_250))
    }

    #[test]
    fn timestamp_is_repeated_with_the_delay_of_the_answer() {
        for (sent, expected) in [
            ("12.5", Some("12.5 1.250000")),
            ("12", Some("12 1.250000")),
            (".5", Some(".5 1.250000")),
            (" 7.25 0.1 ", Some("7.25 1.250000")),
            ("", None),
            (".", None),
            ("now", None),
            ("1.2.3", None),
            ("000000000000000000000000000000000", None),
        ] {
            assert_eq!(
                answered(&[("Timestamp", sent)]).header_value("Timestamp"),
                expected,
                "{sent}"
            );
        }
        assert_eq!(answered(&[]).header_value("Timestamp"), None);
    }

    #[test]
    fn close_is_repeated_however_it_is_listed() {
        for (sent, expected) in [
            ("close", Some("close")),
            ("Keep-Alive, Close", Some("close")),
            ("keep-alive", None),
            ("closed", None),
        ] {
            let answer = answered(&[("Connection", sent)]);
            assert_eq!(answer.header_value("Connection"), expected, "{sent}");
        }
    }
}
