//! Errors of the HTTP API as problem details (RFC 9457).

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A refusal. `type` is `about:blank`: the status says what kind it is (RFC 9457 s4.2.1), `detail`
/// what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    /// `Retry-After`; `None`: a second, where the status has the header.
    retry_after_s: Option<u64>,
    /// Members beside those of RFC 9457.
    more: Vec<(&'static str, Value)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after_s: None, more: Vec::new() }
    }

    /// Its status of HTTP.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Adds a member (RFC 9457 s3.2).
    pub(super) fn with(mut self, name: &'static str, value: Value) -> Self {
        self.more.push((name, value));
        self
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        let detail = "this resource does not have that method; see the Allow header";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    /// Not in this state of affairs.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// What was to be read is wrong.
    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Too soon after the last time.
    pub(super) fn too_many(detail: impl Into<String>, wait: Duration) -> Self {
        let retry_after_s =
            Some(wait.as_nanos().div_ceil(1_000_000_000)).and_then(|s| u64::try_from(s).ok());
        Self { retry_after_s, ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// Something did not answer in time; asking again may help.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// Not for so long.
    pub(super) fn unavailable_for(detail: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after_s: Some(wait.as_secs()), ..Self::unavailable(detail) }
    }

    /// What is waited for did not come in time.
    pub(super) fn timed_out(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        for (name, value) in self.more {
            body[name] = value;
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            // WebDAV clients ask their user for a password only when they see Basic.
            for scheme in ["Basic realm=\"headend\", charset=\"UTF-8\"", "Bearer realm=\"headend\""]
            {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
        }
        let is_later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        let usual = is_later.contains(&self.status).then_some(1);
        if let Some(seconds) = self.retry_after_s.or(usual) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
