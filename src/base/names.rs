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
    fn titles_are_the_clip_and_what_lies_below_the_library() {
        for title in ["demo", "vod", "vod/a/b.mp4"] {
            assert!(is_title_name(title), "{title}");
        }
        for live in ["demos", "vodka/b", "live/vod/a", ""] {
            assert!(!is_title_name(live), "{live}");
        }
    }
}
