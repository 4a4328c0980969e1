//! The first bytes of a connection: RTSP, or the head of an HTTP request.
//!
//! `GET ` and `POST ` are no methods of RTSP (`GET_PARAMETER` has no blank), and nothing else
//! begins with them. Bounds: `HEAD_BYTES_MAX`, `HEADERS_MAX`.

use super::Cookie;

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Both can follow.
    Unclear,
    /// An HTTP request.
    Http,
    /// A record of TLS, on a connection without.
    Tls,
    /// RTSP, or what its reader makes of it.
    Rtsp,
}

/// An HTTP request for a tunnel.
#[derive(Debug, PartialEq, Eq)]
pub struct TunnelHead {
    /// POST, else GET.
    pub is_post: bool,
    /// Value of `x-sessioncookie`.
    pub cookie: Cookie,
    /// Bytes of the head.
    pub bytes: usize,
}

/// Why there is no tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// More bytes are to come.
    Incomplete,
    /// No HTTP, no cookie, or too long.
    Malformed,
}

/// Looks at the first bytes of a connection.
#[must_use]
pub fn classify(bytes: &[u8]) -> First {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return First::Tls;
    }
    for method in [&b"GET "[..], b"POST "] {
        if bytes.starts_with(method) {
            return First::Http;
        }
        if method.starts_with(bytes) {
            return First::Unclear;
        }
    }
    First::Rtsp
}

/// Reads the head of an HTTP request.
///
/// # Errors
/// See [`HeadError`].
pub fn parse(bytes: &[u8]) -> Result<TunnelHead, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes));
    let length = match parsed.map_err(|_| HeadError::Malformed)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() >= HEAD_BYTES_MAX => {
            return Err(HeadError::Malformed);
        }
        httparse::Status::Partial => return Err(HeadError::Incomplete),
    };
    let is_cookie = |name: &str| name.eq_ignore_ascii_case("x-sessioncookie");
    let cookie = request.headers.iter().find(|header| is_cookie(header.name));
    let cookie = cookie.and_then(|header| std::str::from_utf8(header.value).ok());
    let cookie = cookie.map(str::trim).filter(|cookie| COOKIE_BYTES.contains(&cookie.len()));
    let cookie = cookie.ok_or(HeadError::Malformed)?;
    let is_post = match request.method {
        Some("GET") => false,
        Some("POST") => true,
        _ => return Err(HeadError::Malformed),
    };
    Ok(TunnelHead { is_post, cookie: cookie.into(), bytes: length })
}

/// Type of the first record of TLS (RFC 8446 s5.1).
const TLS_HANDSHAKE: u8 = 22;
/// A browser's head with its cookies takes half of it.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// As many as a request of RTSP may have.
const HEADERS_MAX: usize = 64;
/// Shorter ones could be guessed. FFmpeg has 16, QuickTime 22, GStreamer 24, live555 32.
const COOKIE_BYTES: std::ops::RangeInclusive<usize> = 8..=128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_at_whatever_byte_they_are_cut() {
        for (text, first) in [
            ("GET /demo HTTP/1.0", First::Http),
            ("POST /demo HTTP/1.0", First::Http),
            ("GET_PARAMETER * RTSP/1.0", First::Rtsp),
            ("PLAY rtsp://h/ RTSP/1.0", First::Rtsp),
            ("OPTIONS", First::Rtsp),
            ("$\0\0\u{1}", First::Rtsp),
            ("\u{16}\u{3}\u{1}", First::Tls),
        ] {
            let looks = (0..=text.len()).map(|end| classify(&text.as_bytes()[..end]));
            let looks: Vec<First> = looks.filter(|look| *look != First::Unclear).collect();
            assert!(
                !looks.is_empty() && looks.iter().all(|look| *look == first),
                "{text}: {looks:?}"
            );
        }
        assert_eq!(classify(b""), First::Unclear);
    }

    #[test]
    fn head_is_read_when_it_is_whole() {
        let head = "POST /a?b HTTP/1.0\r\nX-SessionCookie:  0123456789abcdef \r\nAccept: x\r\n\r\n";
        for end in 0..head.len() {
            let expected = Err(HeadError::Incomplete);
            assert_eq!(parse(&head.as_bytes()[..end]), expected, "{end}");
        }
        let read = parse(format!("{head}T1BU").as_bytes()).unwrap();
        let cookie = "0123456789abcdef".into();
        assert_eq!(read, TunnelHead { is_post: true, cookie, bytes: head.len() });
    }

    #[test]
    fn head_without_a_cookie_or_without_an_end_is_refused() {
        let refused = |head: &str| assert_eq!(parse(head.as_bytes()), Err(HeadError::Malformed));
        refused("GET / HTTP/1.0\r\n\r\n");
        refused("GET / HTTP/1.0\r\nx-sessioncookie: short\r\n\r\n");
        refused(&format!("GET / HTTP/1.0\r\nx-sessioncookie: {}\r\n\r\n", "c".repeat(129)));
        refused("GET / RTSP/1.0\r\n\r\n");
        refused(&format!("GET / HTTP/1.0\r\na: {}", "b".repeat(HEAD_BYTES_MAX)));
        refused(&format!("GET / HTTP/1.0\r\n{}", "a: b\r\n".repeat(HEADERS_MAX + 1)));
    }
}
