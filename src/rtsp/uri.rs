//! Request URI (RFC 2326 s3.2) to path and track, and back to the base of control URLs.
//!
//! ```text
//! rtsp://host:8554/films/a%20b.mp4?x=1/trackID=2
//!                  `-----path-----' `-query-`-track
//! ```
//! FFmpeg glues a relative control URL behind the whole base, query included, others put the
//! query last: both orders are read (client rule C4). A `#` is part of the path: no client sends
//! fragments, and files have such names.
//! Empty segments are left out, in titles, live paths and control URLs alike: `rtsp://h//a//b` is
//! the path `a/b`.
//! Invariant: `path` is UTF-8 without NUL and without empty segments. Dots are not resolved: they
//! are the library's business.
#![deny(clippy::indexing_slicing)]

use percent_encoding::percent_decode_str;

use crate::base::names::{Name, without_empty_segments};

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// Percent-decoded; empty for `*` and for the root.
    pub path: String,
    /// Behind the `?`, as written, without the track.
    pub query: Option<String>,
    /// N of `trackID=N`; without it the request is about the presentation.
    pub track: Option<u8>,
    /// No track, but a slash at the end: in SETUP it stands for track 0 (client rule C4).
    pub trailing_slash: bool,
}

impl Target {
    /// What the path leads to.
    #[must_use]
    pub fn name(&self) -> Name<'_> {
        Name::parse(&self.path)
    }
}

/// Why a request URI is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// Not rtsp, rtspu or rtsps.
    #[error("scheme is not rtsp, rtspu or rtsps")]
    UnknownScheme,
    /// No host, or a port that is not a number.
    #[error("host or port is malformed")]
    BadAuthority,
    /// The path, percent-decoded, is not UTF-8 or holds a NUL.
    #[error("path is not UTF-8 text")]
    BadPath,
    /// No name in a folder contains a slash, so this cannot name anything.
    #[error("path has an encoded slash")]
    EncodedSlash,
    /// `trackID=` without a number below 256.
    #[error("track is not a number below 256")]
    BadTrack,
}

/// Reads a request URI: absolute, relative or `*`.
///
/// # Errors
/// See [`UriError`].
pub fn parse_target(uri: &str) -> Result<Target, UriError> {
    if uri == "*" {
        return Ok(Target::default());
    }
    let (_, path_and_query) = split_authority(uri)?;
    let (raw_path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let decoded = percent_decode_str(raw_path).decode_utf8().map_err(|_| UriError::BadPath)?;
    if decoded.contains('\0') {
        return Err(UriError::BadPath);
    }
    if raw_path.to_ascii_lowercase().contains("%2f") {
        return Err(UriError::EncodedSlash);
    }
    let (path, path_track) = split_track(&decoded)?;
    let (query, query_track) = match query.map(split_track).transpose()? {
        Some((query, track)) => (Some(query), track),
        None => (None, None),
    };
    let track = path_track.or(query_track);
    // Only the very end tells: with a query it is the query's end, where the client glued.
    let trailing_slash = track.is_none() && path_and_query.ends_with('/');
    Ok(Target {
        path: without_empty_segments(path),
        query: query.map(|query| query.trim_end_matches('/').to_owned()),
        track,
        trailing_slash,
    })
}

/// The URL that relative control URLs are resolved against, for `Content-Base`: the request URI
/// without a track, and with a slash at its end so that clients that only glue are right too.
#[must_use]
pub fn base_url(uri: &str) -> String {
    let trimmed = uri.trim_end_matches('/');
    // As in `parse_target`, which looks at the name decoded.
    let is_track = |segment: &str| {
        let decoded = percent_decode_str(segment).decode_utf8_lossy();
        strip_track_name(&decoded).is_some()
    };
    let (front, query) = match trimmed.split_once('?') {
        Some((front, query)) => (front, Some(query)),
        None => (trimmed, None),
    };
    let cut = |text: &str| match text.rsplit_once('/') {
        Some((before, last)) if is_track(last) => before.trim_end_matches('/').to_owned(),
        _ => text.trim_end_matches('/').to_owned(),
    };
    match query {
        Some(query) => format!("{}?{}/", cut(front), cut(query)),
        None => format!("{}/", cut(front)),
    }
}

/// Path and query of the presentation that a request URI is about, as written: from the slash on,
/// without a track and without a slash at the end.
#[must_use]
pub fn presentation(uri: &str) -> String {
    let base = base_url(uri);
    let behind = split_authority(&base).map_or("", |(_, behind)| behind);
    let bare = behind.trim_end_matches('/');
    if bare.starts_with('/') { bare.to_owned() } else { format!("/{bare}") }
}

/// The control URL of a track, as a client makes it from `Content-Base` and the SDP: RTP-Info
/// must name exactly this (client rule C6). `base` comes from [`base_url`].
#[must_use]
pub fn track_url(base: &str, track: u8) -> String {
    format!("{base}{TRACK_NAME}{track}")
}

/// The URI without `user:password@`, which a client may have left in its request line. Answers and
/// logs repeat the URI, and neither may carry a password (RFC 3986 s7.5).
#[must_use]
pub(super) fn without_userinfo(uri: &str) -> String {
    let absolute = uri.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
    let Some((scheme, rest)) = absolute else { return uri.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host_port)) => format!("{scheme}://{host_port}{behind}"),
        None => uri.to_owned(),
    }
}

/// Authority and what stands behind it; a relative URI has no authority.
fn split_authority(uri: &str) -> Result<(&str, &str), UriError> {
    let Some((scheme, rest)) = uri.split_once("://").filter(|(s, _)| is_scheme(s)) else {
        return Ok(("", uri));
    };
    if !["rtsp", "rtspu", "rtsps"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(UriError::UnknownScheme);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host_port)| host_port);
    let (host, port) = match host_port.strip_prefix('[') {
        Some(v6) => {
            let (host, behind) = v6.split_once(']').ok_or(UriError::BadAuthority)?;
            match behind {
                "" => (host, ""),
                _ => (host, behind.strip_prefix(':').ok_or(UriError::BadAuthority)?),
            }
        }
        None => host_port.split_once(':').unwrap_or((host_port, "")),
    };
    let is_port = port.is_empty()
        || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    if host.is_empty() || !is_port { Err(UriError::BadAuthority) } else { Ok((authority, behind)) }
}

/// RFC 3986 s3.1: so that `films/a://b` is a relative path and not a scheme.
fn is_scheme(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(is_part)
}

/// Cuts `/trackID=N` off the end; slashes behind it do not count.
fn split_track(text: &str) -> Result<(&str, Option<u8>), UriError> {
    let trimmed = text.trim_end_matches('/');
    let (before, last) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    let Some(number) = strip_track_name(last) else { return Ok((text, None)) };
    let is_digits = number.bytes().all(|b| b.is_ascii_digit());
    let track = is_digits.then(|| number.parse().ok()).flatten().ok_or(UriError::BadTrack)?;
    Ok((before, Some(track)))
}

fn strip_track_name(segment: &str) -> Option<&str> {
    let (name, number) = segment.split_at_checked(TRACK_NAME.len())?;
    name.eq_ignore_ascii_case(TRACK_NAME).then_some(number)
}

/// Name of a track in control URLs; players know it from other servers.
const TRACK_NAME: &str = "trackID=";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(uri: &str) -> (String, Option<String>, Option<u8>, bool) {
        let target = parse_target(uri).unwrap_or_else(|error| panic!("{uri}: {error}"));
        (target.path, target.query, target.track, target.trailing_slash)
    }

    fn path(
        path: &str,
        track: Option<u8>,
        slash: bool,
    ) -> (String, Option<String>, Option<u8>, bool) {
        (path.to_owned(), None, track, slash)
    }

    #[test]
    fn absolute_relative_and_star_are_read() {
        assert_eq!(target("rtsp://h:8554/vod/a.mp4/trackID=1"), path("vod/a.mp4", Some(1), false));
        assert_eq!(target("RTSPS://u:p@[::1]:322/a"), path("a", None, false));
        assert_eq!(target("rtspu://[::1]/a"), path("a", None, false));
        assert_eq!(target("/vod/a.mp4"), path("vod/a.mp4", None, false));
        assert_eq!(target("vod/a.mp4/trackID=0"), path("vod/a.mp4", Some(0), false));
        assert_eq!(target("*"), path("", None, false));
        assert_eq!(target("rtsp://h"), path("", None, false));
    }

    #[test]
    fn trailing_slash_is_told_apart_from_a_track() {
        assert_eq!(target("rtsp://h/a/"), path("a", None, true));
        assert_eq!(target("rtsp://h/a/trackID=2/"), path("a", Some(2), false));
        assert_eq!(target("rtsp://h/"), path("", None, true));
    }

    #[test]
    fn track_is_found_before_and_behind_the_query() {
        let expected = ("a".to_owned(), Some("x=1&y=/z".to_owned()), Some(3), false);
        assert_eq!(target("rtsp://h/a?x=1&y=/z/trackID=3"), expected);
        assert_eq!(target("rtsp://h/a/trackID=3?x=1&y=/z"), expected);
        assert_eq!(target("rtsp://h/a?x/"), ("a".to_owned(), Some("x".to_owned()), None, true));
    }

    #[test]
    fn path_is_percent_decoded_and_not_normalised() {
        assert_eq!(target("rtsp://h/a%20b/%C3%A9.mp4"), path("a b/\u{e9}.mp4", None, false));
        assert_eq!(target("rtsp://h/a b/../%2e%2e/x#1"), path("a b/../../x#1", None, false));
        assert_eq!(target("rtsp://h/100%.mp4"), path("100%.mp4", None, false));
        assert_eq!(target("rtsp://h/a/TrackID%3D1"), path("a", Some(1), false));
    }

    #[test]
    fn empty_segments_do_not_count() {
        assert_eq!(target("rtsp://h//vod//a.mp4"), path("vod/a.mp4", None, false));
        assert_eq!(target("rtsp://h//vod//a.mp4//trackID=1"), path("vod/a.mp4", Some(1), false));
        assert_eq!(target("//vod/a.mp4//"), path("vod/a.mp4", None, true));
        let expected = ("a/b".to_owned(), Some("x=//y".to_owned()), Some(0), false);
        assert_eq!(target("rtsp://h/a//b?x=//y/trackID=0"), expected);
        assert_eq!(base_url("rtsp://h//vod//a.mp4"), "rtsp://h//vod//a.mp4/");
    }

    #[test]
    fn user_and_password_are_left_out_of_absolute_uris() {
        for (uri, bare) in [
            ("rtsp://u:p@h:8554/a", "rtsp://h:8554/a"),
            ("rtsp://u@h", "rtsp://h"),
            ("rtsp://u:p@w@[::1]:322/a?b=c@d", "rtsp://[::1]:322/a?b=c@d"),
            ("rtsp://h/a@b", "rtsp://h/a@b"),
            ("rtsp://h?a=b@c", "rtsp://h?a=b@c"),
            ("a/b://c@d", "a/b://c@d"),
            ("*", "*"),
        ] {
            assert_eq!(without_userinfo(uri), bare, "{uri}");
        }
    }

    #[test]
    fn bad_uris_are_refused_by_name() {
        for (uri, error) in [
            ("http://h/a", UriError::UnknownScheme),
            ("rtsp:///a", UriError::BadAuthority),
            ("rtsp://h:x/a", UriError::BadAuthority),
            ("rtsp://h:65536/a", UriError::BadAuthority),
            ("rtsp://[::1/a", UriError::BadAuthority),
            ("rtsp://[::1]x/a", UriError::BadAuthority),
            ("rtsp://h/%ff", UriError::BadPath),
            ("rtsp://h/a%00", UriError::BadPath),
            ("rtsp://h/a/trackID=256", UriError::BadTrack),
            ("rtsp://h/a/trackID=", UriError::BadTrack),
            ("rtsp://h/a?x/trackID=+1", UriError::BadTrack),
        ] {
            assert_eq!(parse_target(uri).unwrap_err(), error, "{uri}");
        }
    }

    #[test]
    fn base_ends_with_a_slash_and_names_no_track() {
        for (uri, base) in [
            ("rtsp://h/a", "rtsp://h/a/"),
            ("rtsp://h/a/", "rtsp://h/a/"),
            ("rtsp://h", "rtsp://h/"),
            ("rtsp://h/a/trackID=1", "rtsp://h/a/"),
            ("rtsp://h/a?x=1", "rtsp://h/a?x=1/"),
            ("rtsp://h/a?x=1/trackID=1", "rtsp://h/a?x=1/"),
            ("rtsp://h/a/trackID=1?x=1", "rtsp://h/a?x=1/"),
            ("rtsp://h/a/TrackID%3D1", "rtsp://h/a/"),
        ] {
            assert_eq!(base_url(uri), base, "{uri}");
        }
        assert_eq!(track_url("rtsp://h/a/", 1), "rtsp://h/a/trackID=1");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(uri in "\\PC{0,60}") {
            let _ = (base_url(&uri), without_userinfo(&uri));
            if let Ok(target) = parse_target(&uri) {
                prop_assert!(!target.path.starts_with('/') && !target.path.contains('\0'));
            }
        }

        #[test]
        fn track_url_of_any_target_leads_back_to_it(
            path in "[a-z%. /]{1,20}", query in prop::option::of("[a-z=/]{1,10}"), track: u8,
        ) {
            let query_text = query.map(|query| format!("?{query}")).unwrap_or_default();
            let uri = format!("rtsp://[::1]:8554/{path}{query_text}");
            if let Ok(whole) = parse_target(&uri) {
                let part = parse_target(&track_url(&base_url(&uri), track)).unwrap();
                prop_assert_eq!((part.path, part.query), (whole.path, whole.query));
                prop_assert_eq!(part.track, Some(track));
            }
        }
    }
}
