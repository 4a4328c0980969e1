//! Names as they stand in the path of a URL (RFC 3986 s3.3).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but unreserved characters and slashes is encoded, so that a URL survives being pasted
/// into a shell.
#[must_use]
pub fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}

/// What is percent-encoded: all but unreserved characters (RFC 3986 s2.3).
pub const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same, but for the slashes between segments.
const ENCODED: &AsciiSet = &UNRESERVED.remove(b'/');
