//! The page with the player: embedded, the same for all paths; the script finds out the rest.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The page. Its status is that of the path.
pub(super) fn page(status: StatusCode) -> Response {
    let mut response = file("text/html; charset=utf-8", include_str!("page/page.html"));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // A token may be in its address.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Its script.
pub(super) fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/player.js"))
}

/// Its style.
pub(super) fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("page/player.css"))
}

fn file(media_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

/// Nothing is loaded from elsewhere; the dashboard and other pages may embed it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; form-action 'none'";
