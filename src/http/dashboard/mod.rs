//! The page for operators at the admin address.
//!
//! ```text
//! GET /               to a browser: the page; to everybody else what the API says there
//! GET /dashboard/NAME its files, which are part of the program                    `files`
//! GET /v1/feed        numbers of the process, one event a second                  `feed`
//!                     shards' cells --`sample`--> one sampler --> all feeds
//! ```
//! All else that the page shows and does is the API. The page loads nothing from elsewhere, and a
//! browser that it tells to do so refuses (`Content-Security-Policy`). Who may see it, and what
//! pages of others may not, is decided in front of all routes: `operators`, `origin`.
//! Invariant: figures and plots come from the sampler, which reads the cells that shards keep
//! anyway, once a second for all pages: they cost no shard anything. A list that somebody sees is a
//! question to each shard every few seconds, as of any client of the API.
//! Bounds: [`feeds_max`] feeds at once, `feed::HISTORY_MAX` samples, `feed::BACKLOG_MAX` of them
//! unread.

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;

mod feed;
mod files;
mod sample;

pub(super) use feed::Feed;
pub use feed::feeds_max;

/// The page's files and its feed.
pub(super) fn routes(feed: Feed) -> Router {
    Router::new().route("/v1/feed", get(feed::open)).with_state(feed).merge(page_routes())
}

/// The page's files alone: a base has no shards to tell of.
pub(super) fn page_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/dashboard/{name}", get(files::show))
}

/// Answers a browser that opens `/` with the page; goes around the routes of an API.
pub(super) async fn answer_browsers(request: Request, next: Next) -> Response {
    let is_question = [Method::GET, Method::HEAD].contains(request.method());
    if !is_question || request.uri().path() != "/" {
        return next.run(request).await;
    }
    let accepts = request.headers().get_all(header::ACCEPT).into_iter();
    let accepts: Vec<&str> = accepts.filter_map(|value| value.to_str().ok()).collect();
    let is_browser = wants_html(&accepts.join(","));
    let mut response = if is_browser { files::page() } else { next.run(request).await };
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept"));
    response
}

/// Whether HTML is asked for by its name, and no less than JSON (RFC 9110 s12.5.1).
fn wants_html(accept: &str) -> bool {
    let weight = |kind: &str| {
        accept.split(',').find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_kind = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(kind));
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            is_kind.then(|| weight.map_or(1.0, |q| q.parse::<f64>().unwrap_or(0.0)))
        })
    };
    let html = weight("text/html").unwrap_or(0.0);
    html > 0.0 && html >= weight("application/json").unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_ask_for_html_by_name_and_programs_do_not() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for accept in
            [browser, "text/html", "Text/HTML;q=0.5, */*", "application/json;q=0.1, text/html"]
        {
            assert!(wants_html(accept), "{accept}");
        }
        let others = ["", "*/*", "application/json", "text/*", "text/html;q=0", "text/html;q=x"];
        for accept in others.into_iter().chain(["text/html;q=0.5, application/json"]) {
            assert!(!wants_html(accept), "{accept}");
        }
    }
}
