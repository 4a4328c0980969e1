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

/// Whether a path may have this name: what stands in a URL behind the host, decoded, without
/// slashes around it.
#[must_use]
pub fn is_path_name(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.len() <= PATH_NAME_BYTES_MAX
        && name.split('/').all(is_part)
        && !name.chars().any(char::is_control)
}

/// Whether a name is that of the clip, of the library or of what lies below it.
#[must_use]
pub fn is_title_name(name: &str) -> bool {
    name == CLIP_NAME || name.split('/').next() == Some(LIBRARY_PATH.trim_end_matches('/'))
}

/// Whether a URL's path names a live path: whatever no title can have.
#[must_use]
pub fn is_live_path(path: &str) -> bool {
    is_path_name(path) && !is_title_name(path)
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
    fn titles_are_the_clip_and_what_lies_below_the_library() {
        for title in ["demo", "vod", "vod/a/b.mp4"] {
            assert!(is_title_name(title), "{title}");
        }
        for live in ["demos", "vodka/b", "live/vod/a", ""] {
            assert!(!is_title_name(live), "{live}");
        }
    }
}
