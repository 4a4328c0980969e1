//! What clients say in headers, paths and bodies, read without a job: the parsers of this room for
//! fuzz targets, which are a crate of their own.

use axum::http::HeaderMap;

use super::place::Place;
use super::props;
use super::said::{Said, SaidError};
use crate::dist::ids::JobId;

/// Headers of an upload, read.
#[derive(Debug)]
pub struct UploadHeaders {
    /// Bytes in all.
    pub size: Option<u64>,
    /// Where the bytes go on.
    pub offset: Option<u64>,
    /// Whether they go to the end.
    pub is_last: bool,
    /// The hash that the client named, as `KIND:HEX`.
    pub checksum: Option<String>,
}

/// Reads the headers of a PUT or PATCH.
///
/// # Errors
/// The header that makes no sense.
pub fn read_upload(headers: &HeaderMap) -> Result<UploadHeaders, SaidError> {
    let Said { size, offset, is_last, checksum, .. } = Said::read(headers)?;
    let checksum = checksum.map(|checksum| checksum.to_string());
    Ok(UploadHeaders { size, offset, is_last, checksum })
}

/// The job, and the path within it, that a URL's path leads to; `None` where it leads nowhere.
#[must_use]
pub fn read_place(path: &str, prefix: &str) -> Option<(Option<JobId>, String)> {
    match Place::of_url(path, prefix).ok()?.1 {
        Place::Jobs => Some((None, String::new())),
        Place::Within(job, path) => Some((Some(job), path)),
    }
}

/// How many properties the body of a PROPPATCH sets or removes; `None` where it is refused.
#[must_use]
pub fn count_properties(body: &[u8]) -> Option<usize> {
    props::count(body)
}
