//! The files of the page, as they are part of the program.
//!
//! A browser asks for them again each time and is told in a few bytes that they are the same
//! (`ETag`), so that a new version of the program never runs an old page.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::problem::Problem;

/// A file and its type.
struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

/// The page itself.
pub(super) fn page() -> Response {
    let kind = [(header::CONTENT_TYPE, HTML), (header::CACHE_CONTROL, "no-cache")];
    (PAGE_HEADERS, kind, INDEX).into_response()
}

/// A file of the page.
pub(super) async fn show(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = FILES.iter().zip(&*TAGS).find(|(file, _)| file.name == name);
    let Some((file, tag)) = found else {
        return Err(Problem::not_found("the dashboard has no such file; it is at /"));
    };
    let same = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    let known = headers.get_all(header::IF_NONE_MATCH).into_iter();
    if known.filter_map(|value| value.to_str().ok()).any(|value| value.contains(tag.as_str())) {
        return Ok((StatusCode::NOT_MODIFIED, same).into_response());
    }
    let kind = [(header::CONTENT_TYPE, file.kind)];
    Ok((PAGE_HEADERS, same, kind, file.text).into_response())
}

/// The `ETag` of each file with its quotes, in the order of [`FILES`].
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |file: &File| {
        let hash = blake3::hash(file.text.as_bytes()).to_hex();
        format!("\"{}\"", hash.get(..16).unwrap_or_default())
    };
    FILES.iter().map(tag).collect()
});

/// What each answer with a part of the page says. Nothing is loaded from elsewhere, no text of the
/// page becomes a script, and no other page shows this one.
const PAGE_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const INDEX: &str = include_str!("page/index.html");

macro_rules! file {
    ($kind:expr, $name:literal) => {
        File { name: $name, kind: $kind, text: include_str!(concat!("page/", $name)) }
    };
}

/// Everything that `index.html` names, and what those name.
static FILES: &[File] = &[
    file!("image/svg+xml", "icon.svg"),
    file!(STYLE, "style.css"),
    file!(STYLE, "plots.css"),
    file!(SCRIPT, "plots.js"),
    file!(SCRIPT, "app.js"),
    file!(SCRIPT, "api.js"),
    file!(SCRIPT, "dialog.js"),
    file!(SCRIPT, "dom.js"),
    file!(SCRIPT, "feed.js"),
    file!(SCRIPT, "repeat.js"),
    file!(SCRIPT, "overview.js"),
    file!(SCRIPT, "table.js"),
    file!(SCRIPT, "sessions.js"),
    file!(SCRIPT, "paths.js"),
    file!(SCRIPT, "titles.js"),
    file!(SCRIPT, "health.js"),
    file!(SCRIPT, "connect.js"),
    file!(SCRIPT, "jobs.js"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in quotes behind `from` and in `href` and `src`.
    fn named(text: &str) -> Vec<&str> {
        let marks = ["from \"./", "href=\"/dashboard/", "src=\"/dashboard/"];
        let named = marks.iter().flat_map(|mark| text.split(mark).skip(1));
        named.filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_file_that_the_page_names_is_there_and_no_other() {
        let mut wanted = named(INDEX);
        let mut at = 0;
        while let Some(name) = wanted.get(at).copied() {
            let file = FILES.iter().find(|file| file.name == name);
            let file = file.unwrap_or_else(|| panic!("{name} is named and not there"));
            wanted.extend(
                named(file.text)
                    .into_iter()
                    .filter(|name| !wanted.contains(name))
                    .collect::<Vec<_>>(),
            );
            at += 1;
        }
        let spare = FILES.iter().filter(|file| !wanted.contains(&file.name));
        assert_eq!(spare.map(|file| file.name).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn files_are_ascii_load_nothing_from_elsewhere_and_have_no_script_or_style_inline() {
        for (name, text) in FILES.iter().map(|file| (file.name, file.text)).chain([("/", INDEX)]) {
            assert!(text.is_ascii(), "{name}");
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for word in ["http://", "https://", "@import", "innerHTML", "eval(", " style=\""] {
                assert!(!text.contains(word), "{name} has {word}");
            }
            assert!(!name.ends_with(".css") || !text.contains("url("), "{name}");
            assert!(text.lines().count() <= 800, "{name} is too long");
        }
        assert!(!INDEX.contains("<style"));
        assert_eq!(
            INDEX.matches("<script").count(),
            INDEX.matches("<script type=\"module\" src").count()
        );
    }

    #[test]
    fn tags_are_quoted_and_tell_files_apart() {
        let mut tags: Vec<&str> = TAGS.iter().map(String::as_str).collect();
        assert!(tags.iter().all(|tag| tag.len() == 18 && tag.starts_with('"')));
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), FILES.len());
    }
}
