//! Servers that clients are sent to while this one takes no new sessions (RFC 2326 s11.3.3) and no
//! new viewers by HLS.
//!
//! ```text
//!  server.redirect = ["rtsp://b.example:8554", "rtsps://b.example:8322", "http://b.example:8888"]
//!  DESCRIBE rtsp://a.example/vod/x.mp4?t=1 --> Location: rtsp://b.example:8554/vod/x.mp4?t=1
//!  GET /vod/x.mp4/index.m3u8?t=1 --> Location: http://b.example:8888/vod/x.mp4/index.m3u8?t=1
//! ```
//! Invariant: a client that came by TLS is never sent to a server without.
//! Bounds: one server for RTSP, RTSPS and HLS each; `URL_BYTES_MAX`.

use super::value_error::ValueError;
use crate::rtsp::uri::{parse_target, presentation};

/// Where clients are sent: one server for RTSP, one for RTSPS, one for HLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `rtsp://HOST:PORT`.
    plain: Option<String>,
    /// `rtsps://HOST:PORT`.
    secure: Option<String>,
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    hls: Option<String>,
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
            let (place, schemes) = match server.split_once(':') {
                Some(("rtsps", _)) => (&mut redirect.secure, "rtsps://"),
                Some(("rtsp", _)) => (&mut redirect.plain, "rtsp://"),
                _ => (&mut redirect.hls, "http:// or https://"),
            };
            if place.replace(server).is_some() {
                return Err(ValueError::RedirectTwice { schemes });
            }
        }
        Ok(redirect)
    }

    /// Whether there is no server to be sent to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.urls().next().is_none()
    }

    /// The URLs.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.plain.iter().chain(&self.secure).chain(&self.hls).map(String::as_str)
    }

    /// Where a client goes on that has asked for `uri`: path and query stay, a track is left out
    /// because the client begins with a description again. `None`: there is no server for it.
    #[must_use]
    pub fn location(&self, uri: &str, is_secure: bool) -> Option<String> {
        let plain = self.plain.as_ref().filter(|_| !is_secure);
        let server = plain.or(self.secure.as_ref())?;
        Some(format!("{server}{}", presentation(uri)))
    }

    /// Where a viewer by HLS goes on that has asked for a path with its query. `None`: there is no
    /// server for it.
    #[must_use]
    pub fn hls_location(&self, path_and_query: &str) -> Option<String> {
        Some(format!("{}{path_and_query}", self.hls.as_ref()?))
    }
}

/// Scheme, host and port of a URL that has nothing else.
fn server_of(text: &str) -> Option<String> {
    let bare = text.strip_suffix('/').unwrap_or(text);
    let (scheme, host) = bare.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let is_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\"<>\\".contains(&b));
    let is_known = ["rtsp", "rtsps", "http", "https"].contains(&scheme.as_str());
    // A host and a port are the same in all of them.
    let as_rtsp = format!("rtsp://{host}");
    let is_url = matches!(parse_target(&as_rtsp), Ok(target) if target.path.is_empty());
    (is_known && is_host && is_url && text.len() <= URL_BYTES_MAX)
        .then(|| format!("{scheme}://{host}"))
}

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
            "ftp://b",
            "http://b/x",
            "http://u:secret@b",
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
        let twice = |urls: [&str; 2]| Redirect::parse(&urls).unwrap_err().to_string();
        let sentence = twice(["rtsp://b", "rtsp://c"]);
        assert_eq!(sentence, "there can be one rtsp:// server that clients are sent to");
        let sentence = twice(["http://b", "https://c"]);
        assert_eq!(
            sentence,
            "there can be one http:// or https:// server that clients are sent to"
        );
    }

    #[test]
    fn viewer_by_hls_is_sent_to_a_server_of_its_own() {
        let redirect = Redirect::parse(&["rtsp://b", "HTTP://b.example:8888/"]).unwrap();
        assert_eq!(redirect.urls().collect::<Vec<_>>(), ["rtsp://b", "http://b.example:8888"]);
        let location = redirect.hls_location("/vod/x.mp4/index.m3u8?token=1");
        let expected = "http://b.example:8888/vod/x.mp4/index.m3u8?token=1";
        assert_eq!(location.as_deref(), Some(expected));
        assert_eq!(Redirect::parse(&["rtsp://b"]).unwrap().hls_location("/x"), None);
        let hls = Redirect::parse(&["https://b"]).unwrap();
        assert!(!hls.is_empty() && hls.location("rtsp://a/x", false).is_none());
    }
}
