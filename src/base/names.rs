//! What stands in a URL behind the host: names of titles, and names of live paths.
//!
//! ```text
//!  rtsp://host/demo              the built-in clip
//!  rtsp://host/vod/big.mp4       a title of the library
//!  rtsp://host/anything/else     a live path
//! ```
//! Invariant: no name is both. Bound: `PATH_NAME_BYTES_MAX`.

/// The built-in clip.
pub const CLIP_NAME: &str = "demo";

/// Below this path of a URL lies the library.
pub const LIBRARY_PATH: &str = "vod/";

/// Bytes of a live path's name at most: it is part of URLs, metrics and log lines.
pub const PATH_NAME_BYTES_MAX: usize = 255;

/// The name that a URL's path means: empty segments do not count, at the ends or in between.
/// Players and people glue `rtsp://host/` and `/vod/a.mp4`.
#[must_use]
pub fn without_empty_segments(path: &str) -> String {
    let mut name = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(segment);
    }
    name
}

/// A name as somebody wrote it, without slashes and white space behind it.
#[must_use]
pub fn without_end(text: &str) -> &str {
    text.trim_end_matches(|c: char| c == '/' || c.is_whitespace())
}

/// Whether a path may have this name: what stands in a URL behind the host, decoded, without
/// slashes around it.
#[must_use]
pub fn is_path_name(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.len() <= PATH_NAME_BYTES_MAX
        && name.split('/').all(is_part)
        && !name.chars().any(char::is_control)
}

/// What the path of a URL leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// The server as a whole.
    Root,
    /// The built-in clip.
    Clip,
    /// The folder of titles, which is no title itself.
    Library,
    /// A title, by its path in the library.
    Title(&'a str),
    /// A live path.
    Live(&'a str),
    /// Neither a title nor a live path can have this name.
    Nothing,
}

impl<'a> Name<'a> {
    /// Reads a path: decoded, without empty segments. One slash at the end does not count.
    #[must_use]
    pub fn parse(path: &'a str) -> Self {
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            return Self::Root;
        }
        if path == CLIP_NAME {
            return Self::Clip;
        }
        if path == LIBRARY_PATH.trim_end_matches('/') {
            return Self::Library;
        }
        match path.strip_prefix(LIBRARY_PATH) {
            Some(name) => Self::Title(name),
            None if is_path_name(path) => Self::Live(path),
            None => Self::Nothing,
        }
    }

    /// Whether a live path can never have this name: the clip, the library and what lies below it.
    #[must_use]
    pub fn is_of_titles(self) -> bool {
        match self {
            Self::Clip | Self::Library | Self::Title(_) => true,
            Self::Root | Self::Live(_) | Self::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_path_is_parts_between_single_slashes() {
        for good in ["live/cam1", "a", "live/caf\u{e9} 1/b"] {
            assert!(is_path_name(good), "{good}");
        }
        let long = "x".repeat(256);
        for bad in ["", "/a", "a/", "a//b", "a/../b", ".", "a\nb", long.as_str()] {
            assert!(!is_path_name(bad), "{bad}");
        }
    }

    #[test]
    fn empty_segments_of_a_path_do_not_count() {
        for path in ["vod/a b.mp4", "/vod/a b.mp4", "//vod//a b.mp4", "vod///a b.mp4//"] {
            assert_eq!(without_empty_segments(path), "vod/a b.mp4", "{path}");
        }
        for root in ["", "/", "///"] {
            assert_eq!(without_empty_segments(root), "", "{root}");
        }
        assert_eq!(without_empty_segments("a/./../b"), "a/./../b");
    }

    #[test]
    fn path_leads_to_the_server_a_title_or_a_live_path() {
        let long = "x".repeat(256);
        for (path, expected) in [
            ("", Name::Root),
            ("/", Name::Root),
            ("demo", Name::Clip),
            ("demo/", Name::Clip),
            ("vod", Name::Library),
            ("vod/", Name::Library),
            ("vod/a b.mp4", Name::Title("a b.mp4")),
            ("vod/x/y.mov/", Name::Title("x/y.mov")),
            ("demos", Name::Live("demos")),
            ("demo/a", Name::Live("demo/a")),
            ("vodka/b", Name::Live("vodka/b")),
            ("live/vod/a", Name::Live("live/vod/a")),
            ("live/cam1/", Name::Live("live/cam1")),
            ("a/../b", Name::Nothing),
            ("a//b", Name::Nothing),
            (long.as_str(), Name::Nothing),
        ] {
            let name = Name::parse(path);
            assert_eq!(name, expected, "{path}");
            let is_of_titles = path.starts_with("vod/") || ["demo", "demo/", "vod"].contains(&path);
            assert_eq!(name.is_of_titles(), is_of_titles, "{path}");
        }
    }
}
