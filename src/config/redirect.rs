//! Servers that clients are sent to while this one takes no new sessions (RFC 2326 s11.3.3).
//!
//! ```text
//!  server.redirect = ["rtsp://b.example:8554", "rtsps://b.example:8322"]
//!  DESCRIBE rtsp://a.example/vod/x.mp4?t=1 --> Location: rtsp://b.example:8554/vod/x.mp4?t=1
//! ```
//! Invariant: a client that came by TLS is never sent to a server without.
//! Bounds: one server of each scheme; `URL_BYTES_MAX`.

use super::value_error::ValueError;
use crate::rtsp::uri::{parse_target, presentation};

/// Where clients are sent: one server for RTSP, one for RTSPS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `rtsp://HOST:PORT`.
    plain: Option<String>,
    /// `rtsps://HOST:PORT`.
    secure: Option<String>,
}

impl Redirect {
    /// Reads URLs that name a server alone.
    ///
    /// # Errors
    /// One that is no such URL, or a second one of a scheme.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, ValueError> {
        let mut redirect = Self::default();
        for text in texts.iter().map(AsRef::as_ref) {
            let server = server_of(text).ok_or_else(|| ValueError::Redirect {
                text: crate::base::secrets::shown_url(text),
            })?;
            let is_secure = server.starts_with(SECURE);
            let place = if is_secure { &mut redirect.secure } else { &mut redirect.plain };
            if place.replace(server).is_some() {
                return Err(ValueError::RedirectTwice { is_secure });
            }
        }
        Ok(redirect)
    }

    /// Whether there is no server to be sent to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plain.is_none() && self.secure.is_none()
    }

    /// The URLs.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.plain.iter().chain(&self.secure).map(String::as_str)
    }

    /// Where a client goes on that has asked for `uri`: path and query stay, a track is left out
    /// because the client begins with a description again. `None`: there is no server for it.
    #[must_use]
    pub fn location(&self, uri: &str, is_secure: bool) -> Option<String> {
        let plain = self.plain.as_ref().filter(|_| !is_secure);
        let server = plain.or(self.secure.as_ref())?;
        Some(format!("{server}{}", presentation(uri)))
    }
}

/// Scheme, host and port of a URL that has nothing else.
fn server_of(text: &str) -> Option<String> {
    let bare = text.strip_suffix('/').unwrap_or(text);
    let (scheme, host) = bare.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let is_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\"<>\\".contains(&b));
    let is_known = scheme == "rtsp" || scheme == "rtsps";
    let is_url = matches!(parse_target(bare), Ok(target) if target.path.is_empty());
    (is_known && is_host && is_url && text.len() <= URL_BYTES_MAX)
        .then(|| format!("{scheme}://{host}"))
}

const SECURE: &str = "rtsps:";
/// A host name has 253 bytes at most (RFC 1035 s2.3.4).
const URL_BYTES_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_keeps_path_and_query_and_leaves_the_track_out() {
        let redirect =
            Redirect::parse(&["rtsp://b.example:8554/", "RTSPS://[2001:db8::1]"]).unwrap();
        for (uri, is_secure, expected) in [
            (
                "rtsp://a/vod/x%20y.mp4?token=1",
                false,
                "rtsp://b.example:8554/vod/x%20y.mp4?token=1",
            ),
            ("rtsp://a:554/demo/", false, "rtsp://b.example:8554/demo"),
            ("rtsp://a/demo/trackID=1", false, "rtsp://b.example:8554/demo"),
            ("rtsp://a/demo?x=1/trackID=1", false, "rtsp://b.example:8554/demo?x=1"),
            ("rtsp://a", false, "rtsp://b.example:8554/"),
            ("/demo", false, "rtsp://b.example:8554/demo"),
            ("demo", false, "rtsp://b.example:8554/demo"),
            ("rtsps://a/live/x", true, "rtsps://[2001:db8::1]/live/x"),
        ] {
            assert_eq!(redirect.location(uri, is_secure).as_deref(), Some(expected), "{uri}");
        }
    }

    #[test]
    fn client_with_tls_is_not_sent_to_a_server_without() {
        let plain = Redirect::parse(&["rtsp://b"]).unwrap();
        assert_eq!(plain.location("rtsps://a/x", true), None);
        let secure = Redirect::parse(&["rtsps://b"]).unwrap();
        assert_eq!(secure.location("rtsp://a/x", false).as_deref(), Some("rtsps://b/x"));
        assert!(!secure.is_empty() && Redirect::default().is_empty());
        assert_eq!(Redirect::default().location("rtsp://a/x", false), None);
    }

    #[test]
    fn what_names_more_than_a_server_is_refused() {
        for text in [
            "",
            "b.example",
            "http://b",
            "rtsp://",
            "rtsp:///",
            "rtsp://b/x",
            "rtsp://b?x",
            "rtsp://u:secret@b",
            "rtsp://b:port",
            "rtsp://b c",
            "rtspu://b",
            "rtsp://b\r\nX: y",
        ] {
            let error = Redirect::parse(&[text]).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let twice = Redirect::parse(&["rtsp://b", "rtsp://c"]).unwrap_err();
        assert!(matches!(twice, ValueError::RedirectTwice { is_secure: false }));
    }
}
