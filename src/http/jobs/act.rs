//! POSTs of clients, each of which counts once for its Idempotency-Key.
//!
//! ```text
//! key known, same request  --> the answer of then, with `Idempotency-Replayed: true`
//! key known, other request --> 422
//! else                     --> act; answer and key go into the ledger with what was changed
//! ```
//! Invariant: what is looked up, done and kept is one step of the book and one transaction. A
//! refusal has changed nothing and is not kept: the same request may succeed later.
//! Bound: `KEY_BYTES_MAX`; answers are kept for a day.

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::auth::ClientName;
use super::{Jobs, problem, refused, text_header, unanswered};
use crate::dist::book::{Book, Refusal};
use crate::dist::ids::{Digest, Stamp};
use crate::dist::rows::AnswerRow;
use crate::http::problem::Problem;

/// A POST, before anything is done.
pub(super) struct Post {
    client: ClientName,
    key: Option<String>,
    request: Digest,
}

enum Outcome {
    Done(String),
    Again { status: u16, body: String },
    OtherRequest,
    Refused(Refusal),
}

impl Post {
    /// Who asks, and under which key.
    pub(super) fn read(
        jobs: &Jobs,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, Problem> {
        let client = jobs.access.client(headers)?;
        let key = match headers.get("idempotency-key") {
            None => None,
            Some(_) => Some(key_of(headers)?),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(uri.path().as_bytes()).update(b"\0").update(body);
        Ok(Self { client, key, request: Digest(*hasher.finalize().as_bytes()) })
    }

    /// Runs `f` on the book for the client and answers with `status` when it succeeds.
    pub(super) async fn act<T: Serialize>(
        self,
        jobs: &Jobs,
        status: StatusCode,
        f: impl FnOnce(&mut Book, &str, Stamp) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response, Problem> {
        let Self { client, key, request } = self;
        let outcome = jobs.clerk.ask(move |book, at| {
            let client = client.as_str();
            let kept = key.as_ref().and_then(|key| book.answer(client, key));
            if let Some(kept) = kept {
                let AnswerRow { status, body, .. } = kept.clone();
                let is_same = kept.request == request;
                return if is_same {
                    Outcome::Again { status, body }
                } else {
                    Outcome::OtherRequest
                };
            }
            let value = match f(book, client, at) {
                Ok(value) => value,
                Err(refusal) => return Outcome::Refused(refusal),
            };
            // Views have text keys only: writing them cannot fail.
            let body = serde_json::to_string(&value).unwrap_or_default();
            if let Some(idempotency_key) = key {
                book.keep_answer(AnswerRow {
                    client: client.to_owned(),
                    idempotency_key,
                    request,
                    status: status.as_u16(),
                    body: body.clone(),
                    at_ns: at.utc_ns,
                });
            }
            Outcome::Done(body)
        });
        match outcome.await.map_err(unanswered)? {
            Outcome::Done(body) => Ok(json_response(status, body)),
            Outcome::Again { status, body } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                let mut response = json_response(status, body);
                let replayed = HeaderValue::from_static("true");
                response.headers_mut().insert("idempotency-replayed", replayed);
                Ok(response)
            }
            Outcome::OtherRequest => {
                let detail = "this Idempotency-Key was used for another request";
                Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail))
            }
            Outcome::Refused(refusal) => Err(refused(&refusal)),
        }
    }
}

fn key_of(headers: &HeaderMap) -> Result<String, Problem> {
    let key = text_header(headers, "idempotency-key").unwrap_or_default();
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(key.to_owned());
    }
    let detail = format!("Idempotency-Key must have 1 to {KEY_BYTES_MAX} visible characters");
    Err(problem(StatusCode::BAD_REQUEST, "bad_idempotency_key", detail))
}

fn json_response(status: StatusCode, body: String) -> Response {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (status, json, body).into_response()
}

/// A UUID is shorter.
const KEY_BYTES_MAX: usize = 128;
