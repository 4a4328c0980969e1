//! Uploads that go on: PATCH at an offset (resumable uploads for HTTP, IETF draft).
//!
//! ```text
//! HEAD  /ctp/{job}/{path}   -> Upload-Offset: 100, Upload-Complete: ?0
//! PATCH /ctp/{job}/{path}      Upload-Offset: 100, Upload-Complete: ?1
//!                           -> 204, 409 with expected_offset
//! ```
//! The file itself is the upload resource of the draft. DELETE gives the upload up. The interim
//! response 104 is not sent: the HTTP library has no way to send one; a client that was cut off
//! asks by HEAD.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use dav_server::davpath::DavPath;
use futures_util::StreamExt;

use super::place::Place;
use super::said::Said;
use super::upload::Upload;
use super::{Ctp, problem};
use crate::http::problem::Problem;

/// PATCH: appends to an upload.
pub(super) async fn append(
    ctp: &Arc<Ctp>,
    client: &str,
    path: &DavPath,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers();
    if !headers.contains_key("upload-offset") || !headers.contains_key("upload-complete") {
        let detail = "PATCH appends to an upload: Upload-Offset and Upload-Complete are needed";
        return Err(Problem::bad_request(detail));
    }
    let said = Said::read(headers).map_err(|error| Problem::bad_request(error.to_string()))?;
    if !ctp.locks.admits(path, client, headers) {
        return Err(problem(StatusCode::LOCKED, "locked", "another client has locked the file"));
    }
    let mut upload = Upload::begin(ctp, client, place, &said, true).await?;
    let mut body = request.into_body().into_data_stream();
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|error| Problem::bad_request(error.to_string()))?;
        upload.write(&bytes).await?;
    }
    let outcome = upload.finish().await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    outcome.tell(true, &mut response);
    Ok(response)
}
