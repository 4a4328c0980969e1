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

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ask::Asker;
use super::{Jobs, problem, read_body, text_header};
use crate::dist::book::{Book, Refusal};
use crate::dist::ids::{Digest, Stamp};
use crate::dist::rows::AnswerRow;
use crate::http::clerk::{self, refused};
use crate::http::problem::Problem;

/// A POST of a client, before anything is done.
pub(super) struct Post {
    asker: Asker,
    key: Option<String>,
    request: Digest,
    body: Bytes,
}

enum Outcome {
    Done(String),
    Again { status: u16, body: String },
    OtherRequest,
    Refused(Refusal),
}

/// The last argument of a handler: it reads the body.
impl FromRequest<Arc<Jobs>> for Post {
    type Rejection = Response;

    async fn from_request(request: Request, jobs: &Arc<Jobs>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let asker = Asker::from_request_parts(&mut parts, jobs).await;
        let asker = asker.map_err(IntoResponse::into_response)?;
        let key = match parts.headers.get("idempotency-key") {
            None => None,
            Some(_) => Some(key_of(&parts.headers).map_err(IntoResponse::into_response)?),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(parts.uri.path().as_bytes()).update(b"\0");
        let body = Bytes::from_request(Request::from_parts(parts, body), jobs).await;
        let body = body.map_err(IntoResponse::into_response)?;
        hasher.update(&body);
        Ok(Self { asker, key, request: Digest(*hasher.finalize().as_bytes()), body })
    }
}

impl Post {
    /// The body as JSON.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        read_body(&self.body)
    }

    /// There is no body.
    pub(super) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Runs `f` on the book for the client and answers with `status` when it succeeds.
    pub(super) async fn act<T: Serialize>(
        self,
        status: StatusCode,
        f: impl FnOnce(&mut Book, &str, Stamp) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response, Problem> {
        self.act_tagged(status, f, |_| None).await
    }

    /// The same, with the `ETag` of what the answer shows, by its body: an answer that is given
    /// again has that of then.
    pub(super) async fn act_tagged<T: Serialize>(
        self,
        status: StatusCode,
        f: impl FnOnce(&mut Book, &str, Stamp) -> Result<T, Refusal> + Send + 'static,
        tag: impl Fn(&str) -> Option<HeaderValue>,
    ) -> Result<Response, Problem> {
        let Self { asker: Asker { jobs, client }, key, request, body: _ } = self;
        let outcome = clerk::ask(&jobs.clerk, move |book, at| {
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
        match outcome.await? {
            Outcome::Done(body) => Ok(json_response(status, body, tag)),
            Outcome::Again { status, body } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                let mut response = json_response(status, body, tag);
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

fn json_response(
    status: StatusCode,
    body: String,
    tag: impl Fn(&str) -> Option<HeaderValue>,
) -> Response {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let tag = tag(&body);
    let mut response = (status, json, body).into_response();
    response.headers_mut().extend(tag.map(|tag| (header::ETAG, tag)));
    response
}

/// A UUID is shorter.
const KEY_BYTES_MAX: usize = 128;
