//! What the headers of an upload say: how large it is, where it goes on, what the file is to have.
//!
//! ```text
//! Content-Range: bytes 100-199/200       curl -C 100 -T FILE         goes on at 100
//! Upload-Offset: 100, Upload-Complete: ?1   resumable uploads for HTTP (IETF draft)
//! X-OC-Mtime: 1700000000                 rclone: time of last change, seconds
//! OC-Checksum: SHA1:..                   rclone: checked when all bytes are there
//! Repr-Digest: sha-256=:..:              RFC 9530: the same
//! Headend-Attributes: {"mode":420}       attributes as JSON
//! Headend-Blake3: ..                     hash that is expected
//! ```
//! Invariant: a header that is there and makes no sense is an error, never passed over.

use axum::http::{HeaderMap, header};

use super::checksum::{Checksum, Kind};
use crate::dist::ids::Digest;
use crate::dist::wire::job::Attributes;

/// What an upload's headers say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Said {
    /// Size of the whole file, where it is known before the bytes.
    pub(super) size: Option<u64>,
    /// The byte of the file that comes first; `None`: the file begins anew.
    pub(super) offset: Option<u64>,
    /// The file ends with this request.
    pub(super) is_last: bool,
    /// The client speaks the draft of resumable uploads.
    pub(super) is_resumable: bool,
    /// Attributes of the file.
    pub(super) attrs: Attributes,
    /// BLAKE3 that the client expects.
    pub(super) blake3: Option<Digest>,
    /// Another hash that the client expects.
    pub(super) checksum: Option<Checksum>,
}

/// A header that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaidError {
    /// Its form is wrong.
    #[error("{name}: {want} is expected")]
    Form {
        /// The header.
        name: &'static str,
        /// What is expected.
        want: &'static str,
    },
    /// `Content-Range` and `Content-Length` differ.
    #[error("Content-Range names {range} bytes and Content-Length {length}")]
    Length {
        /// By the range.
        range: u64,
        /// By the length.
        length: u64,
    },
}

impl Said {
    /// Reads the headers of a PUT or PATCH.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, SaidError> {
        let length = number(headers, header::CONTENT_LENGTH.as_str(), "Content-Length")?;
        let expected = number(headers, "x-expected-entity-length", "X-Expected-Entity-Length")?;
        let mut said = Self { is_last: true, ..Self::default() };
        said.size = length.or(expected);
        if let Some(range) = text(headers, "content-range", "Content-Range")? {
            let (first, last, total) = content_range(range).ok_or(RANGE)?;
            let bytes = last - first + 1;
            if let Some(length) = length.filter(|length| *length != bytes) {
                return Err(SaidError::Length { range: bytes, length });
            }
            said.offset = (first > 0).then_some(first);
            said.size = total;
            said.is_last = total == Some(last + 1);
        }
        if let Some(word) = text(headers, "upload-complete", "Upload-Complete")? {
            said.is_resumable = true;
            said.is_last = match word {
                "?1" => true,
                "?0" => false,
                _ => return Err(form("Upload-Complete", "?0 or ?1")),
            };
            let offset = number(headers, "upload-offset", "Upload-Offset")?;
            said.offset = offset.filter(|offset| *offset > 0);
            let whole = said.offset.unwrap_or(0).checked_add(length.unwrap_or(0));
            let told = number(headers, "upload-length", "Upload-Length")?;
            let by_length = whole.filter(|_| said.is_last && length.is_some());
            said.size = told.or(by_length);
        }
        said.attrs = attributes(headers)?;
        if let Some(hash) = text(headers, "headend-blake3", "Headend-Blake3")? {
            let digest = hash.parse().map_err(|_| form("Headend-Blake3", "64 hexadecimal digits"));
            said.blake3 = Some(digest?);
        }
        said.checksum = checksum(headers)?;
        Ok(said)
    }
}

fn attributes(headers: &HeaderMap) -> Result<Attributes, SaidError> {
    let mut attrs: Attributes = match text(headers, "headend-attributes", "Headend-Attributes")? {
        Some(json) => serde_json::from_str(json)
            .map_err(|_| form("Headend-Attributes", "JSON of mode, mtime_ns and xattr"))?,
        None => Attributes::default(),
    };
    if let Some(mtime) = text(headers, "x-oc-mtime", "X-OC-Mtime")? {
        attrs.mtime_ns = Some(seconds_as_ns(mtime).ok_or(form("X-OC-Mtime", SECONDS))?);
    }
    Ok(attrs)
}

/// The first hash of a kind that is known; others are no error (RFC 9530 s3).
fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>, SaidError> {
    if let Some(word) = text(headers, "oc-checksum", "OC-Checksum")? {
        let (kind, hex) = word.split_once(':').ok_or(form("OC-Checksum", "KIND:HEX"))?;
        let Some(kind) = Kind::of_owncloud(kind) else { return Ok(None) };
        return Checksum::of_hex(kind, hex).ok_or(form("OC-Checksum", "KIND:HEX")).map(Some);
    }
    let Some(list) = text(headers, "repr-digest", "Repr-Digest")? else { return Ok(None) };
    let wanted = list.split(',').find_map(|item| item.trim().strip_prefix("sha-256="));
    let Some(wanted) = wanted else { return Ok(None) };
    let inner = wanted.strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    let checksum = inner.and_then(|base64| Checksum::of_base64(Kind::Sha256, base64));
    checksum.ok_or(form("Repr-Digest", "sha-256=:BASE64:")).map(Some)
}

/// `bytes FIRST-LAST/TOTAL`, the total may be `*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<u64>().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let is_sound = first <= last && last < u64::MAX && total.is_none_or(|total| last < total);
    is_sound.then_some((first, last, total))
}

/// Seconds since 1970, with a fraction or without, as nanoseconds.
pub(super) fn seconds_as_ns(text: &str) -> Option<i64> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = fraction.bytes().all(|digit| digit.is_ascii_digit());
    let seconds: i64 = whole.parse().ok().filter(|_| is_plain)?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let ns: i64 = digits.parse().ok()?;
    let ns = if whole.starts_with('-') { -ns } else { ns };
    seconds.checked_mul(1_000_000_000)?.checked_add(ns)
}

fn number(headers: &HeaderMap, key: &str, name: &'static str) -> Result<Option<u64>, SaidError> {
    let Some(word) = text(headers, key, name)? else { return Ok(None) };
    word.trim().parse().map(Some).map_err(|_| form(name, "a number of bytes"))
}

fn text<'a>(
    headers: &'a HeaderMap,
    key: &str,
    name: &'static str,
) -> Result<Option<&'a str>, SaidError> {
    let Some(value) = headers.get(key) else { return Ok(None) };
    value.to_str().map(|text| Some(text.trim())).map_err(|_| form(name, "ASCII"))
}

const fn form(name: &'static str, want: &'static str) -> SaidError {
    SaidError::Form { name, want }
}

const RANGE: SaidError = form("Content-Range", "bytes FIRST-LAST/TOTAL");
const SECONDS: &str = "seconds since 1970";

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn said(lines: &[(&'static str, &str)]) -> Result<Said, SaidError> {
        let lines = lines.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        Said::read(&lines.collect())
    }

    #[test]
    fn whole_upload_has_its_size_or_none() {
        let whole = said(&[("content-length", "7")]).unwrap();
        assert_eq!((whole.size, whole.offset, whole.is_last), (Some(7), None, true));
        let chunked = said(&[]).unwrap();
        assert_eq!((chunked.size, chunked.offset, chunked.is_last), (None, None, true));
        let finder = said(&[("x-expected-entity-length", "9")]).unwrap();
        assert_eq!(finder.size, Some(9));
    }

    #[test]
    fn range_of_curl_says_where_it_goes_on_and_whether_it_ends() {
        let end = said(&[("content-range", "bytes 100-199/200"), ("content-length", "100")]);
        let end = end.unwrap();
        assert_eq!((end.size, end.offset, end.is_last), (Some(200), Some(100), true));
        let part = said(&[("content-range", "bytes 0-99/200")]).unwrap();
        assert_eq!((part.size, part.offset, part.is_last), (Some(200), None, false));
        let open = said(&[("content-range", "bytes 0-99/*")]).unwrap();
        assert_eq!((open.size, open.is_last), (None, false));
    }

    #[test]
    fn draft_of_resumable_uploads_says_offset_and_end() {
        let lines = [("upload-complete", "?0"), ("upload-length", "50"), ("content-length", "20")];
        let first = said(&lines).unwrap();
        assert_eq!((first.size, first.is_last, first.is_resumable), (Some(50), false, true));
        let lines = [("upload-complete", "?1"), ("upload-offset", "20"), ("content-length", "30")];
        let last = said(&lines).unwrap();
        assert_eq!((last.size, last.offset, last.is_last), (Some(50), Some(20), true));
    }

    #[test]
    fn attributes_come_from_headers_of_rclone_and_our_own() {
        let json = r#"{"mode":416,"mtime_ns":5,"xattr":{"user.a":"Yg=="}}"#;
        let attrs = said(&[("headend-attributes", json)]).unwrap().attrs;
        assert_eq!((attrs.mode, attrs.mtime_ns), (Some(416), Some(5)));
        assert_eq!(attrs.xattr["user.a"].as_deref(), Some("Yg=="));
        let rclone = said(&[("x-oc-mtime", "1700000000.25")]).unwrap().attrs;
        assert_eq!(rclone.mtime_ns, Some(1_700_000_000_250_000_000));
        assert_eq!(seconds_as_ns("-1.5"), Some(-1_500_000_000));
    }

    #[test]
    fn hashes_are_read_and_kinds_that_are_not_known_are_no_error() {
        let sha1 = format!("SHA1:{}", "a".repeat(40));
        assert!(said(&[("oc-checksum", &sha1)]).unwrap().checksum.is_some());
        assert_eq!(said(&[("oc-checksum", "ADLER32:0011")]).unwrap().checksum, None);
        let empty = "sha-512=:AA==:, sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        assert!(said(&[("repr-digest", empty)]).unwrap().checksum.is_some());
        assert_eq!(said(&[("repr-digest", "sha-512=:AA==:")]).unwrap().checksum, None);
    }

    #[test]
    fn header_that_makes_no_sense_is_an_error_that_names_it() {
        let lines = [
            ("content-range", "bytes 5-4/9"),
            ("content-range", "bytes 0-9/9"),
            ("content-range", "0-9/10"),
            ("upload-complete", "1"),
            ("headend-attributes", "{"),
            ("headend-blake3", "00"),
            ("x-oc-mtime", "yesterday"),
            ("x-oc-mtime", "99999999999999"),
            ("oc-checksum", "SHA1:zz"),
            ("repr-digest", "sha-256=:AA==:"),
        ];
        for (name, value) in lines {
            let error = said(&[(name, value)]).unwrap_err().to_string();
            assert!(error.to_lowercase().starts_with(name), "{name}: {value}: {error}");
        }
        let both = said(&[("content-range", "bytes 0-9/10"), ("content-length", "9")]);
        assert_eq!(both, Err(SaidError::Length { range: 10, length: 9 }));
    }
}
