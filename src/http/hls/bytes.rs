//! Bodies and headers of answers: ranges, what caches may keep, what other origins may read.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use percent_encoding::utf8_percent_encode;

use super::leave::Leave;
use super::{Asked, HlsConfig, Problem};
use crate::base::secret::Secret;
use crate::base::url_path::UNRESERVED;
use crate::http::peer::range;
use crate::metrics::cells::HLS;

/// How long an answer may be kept by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Its name never stands for other bytes.
    ForEver,
    /// Seconds.
    Seconds(u32),
}

/// Type of playlists (RFC 8216 s10).
pub(super) const PLAYLIST: &str = "application/vnd.apple.mpegurl";
/// Type of initializations, segments and parts.
pub(super) const SEGMENT: &str = "video/mp4";

/// An answer with a body that is in memory, or the range of it that was asked for.
pub(super) fn whole(
    asked: &Asked<'_>,
    leave: Leave,
    (media_type, keep): (&'static str, Keep),
    body: Bytes,
) -> Result<Response, Problem> {
    let size = body.len() as u64;
    ranged(asked, leave, (media_type, keep), size, |from, to| {
        let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(body.len());
        HLS.sent_bytes.add(to - from);
        Body::from(body.slice(at(from)..at(to)))
    })
}

/// An answer of `size` bytes, or the range of it that was asked for: `body` gives the bytes between
/// two places.
pub(super) fn ranged(
    asked: &Asked<'_>,
    leave: Leave,
    (media_type, keep): (&'static str, Keep),
    size: u64,
    body: impl FnOnce(u64, u64) -> Body,
) -> Result<Response, Problem> {
    let wanted = asked.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = range::parse(wanted, size).map_err(|_| {
        Problem::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            format!("the range is behind the end: there are {size} bytes"),
        )
    })?;
    let (from, to) = range.as_ref().map_or((0, size), |range| (range.start, range.end));
    let body = if asked.is_head { Body::empty() } else { body(from, to) };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, cache_control(leave, keep));
    // What the bytes are is said above; a browser is not to guess.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if range.is_some() {
        let text = format!("bytes {from}-{}/{size}", to - 1);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn cache_control(leave: Leave, keep: Keep) -> HeaderValue {
    let whose = match leave {
        Leave::Public => "public",
        Leave::Private => "private",
    };
    let text = match keep {
        Keep::ForEver => format!("{whose}, max-age=31536000, immutable"),
        Keep::Seconds(0) => "no-cache".to_owned(),
        Keep::Seconds(seconds) => format!("{whose}, max-age={seconds}"),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("no-cache"))
}

/// Lets pages of `hls.allow_origin` read answers.
pub(super) fn allow_origin(config: &HlsConfig, asked: &HeaderMap, headers: &mut HeaderMap) {
    let allowed = &config.allow_origin;
    if allowed.is_empty() {
        return;
    }
    let value = if allowed.iter().any(|origin| origin == "*") {
        Some(HeaderValue::from_static("*"))
    } else {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let origin = asked.get(header::ORIGIN);
        origin
            .filter(|origin| allowed.iter().any(|known| known.as_bytes() == origin.as_bytes()))
            .cloned()
    };
    let Some(value) = value else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    let exposed =
        HeaderValue::from_static("Content-Length, Content-Range, Location, Headend-Left-Out");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// The answer to OPTIONS; [`allow_origin`] says whether the page may go on.
pub(super) fn preflight() -> Response {
    let headers = [
        (header::ALLOW, "GET, HEAD, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Range"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// What goes behind URIs, so that they are asked with the same token.
pub(super) fn token_suffix(token: &Secret) -> String {
    format!("?token={}", utf8_percent_encode(token.expose(), UNRESERVED))
}
