//! One RTSP request, read (RFC 2326 s6).
//!
//! Header names are compared without case (RFC 2326 s4.2 by way of RFC 2068). A header given
//! several times is one value joined by commas, as RFC 2068 s4.2 says it means.
//! Bound: what `RequestReader` lets in.

use std::fmt;

/// Method of a request (RFC 2326 s10). Case matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Method {
    /// s10.1
    Options,
    /// s10.2
    Describe,
    /// s10.4
    Setup,
    /// s10.5
    Play,
    /// s10.6
    Pause,
    /// s10.7
    Teardown,
    /// s10.8
    GetParameter,
    /// s10.9
    SetParameter,
    /// s10.3
    Announce,
    /// s10.11
    Record,
    /// s10.10
    Redirect,
    /// None of RFC 2326: answered with 501.
    Unknown(String),
}

impl Method {
    /// From the token of a request line.
    #[must_use]
    pub fn from_token(token: &str) -> Self {
        match token {
            "OPTIONS" => Self::Options,
            "DESCRIBE" => Self::Describe,
            "SETUP" => Self::Setup,
            "PLAY" => Self::Play,
            "PAUSE" => Self::Pause,
            "TEARDOWN" => Self::Teardown,
            "GET_PARAMETER" => Self::GetParameter,
            "SET_PARAMETER" => Self::SetParameter,
            "ANNOUNCE" => Self::Announce,
            "RECORD" => Self::Record,
            "REDIRECT" => Self::Redirect,
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// As a request line spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Options => "OPTIONS",
            Self::Describe => "DESCRIBE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::Pause => "PAUSE",
            Self::Teardown => "TEARDOWN",
            Self::GetParameter => "GET_PARAMETER",
            Self::SetParameter => "SET_PARAMETER",
            Self::Announce => "ANNOUNCE",
            Self::Record => "RECORD",
            Self::Redirect => "REDIRECT",
            Self::Unknown(token) => token,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// Request URI as the client wrote it, without user and password; `uri::parse_target` reads it.
    pub uri: String,
    /// Major and minor version; anything but (1, 0) is answered with 505.
    pub version: (u8, u8),
    /// Number to echo. `RequestReader` lets no request without one pass.
    pub cseq: Option<u32>,
    /// `Content-Length` bytes.
    pub body: Vec<u8>,
    pub(super) headers: Headers,
}

impl Request {
    /// Value of a header, whatever the case of its name; several are joined by `, `.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.value(name)
    }

    /// Replaces the value of a header.
    pub fn set_header(&mut self, name: &str, value: &str) {
        self.headers.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push(name, value);
    }

    /// The request as it could have come.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { method, uri, version: (major, minor), body, headers, .. } = self;
        let mut head = format!("{} {uri} RTSP/{major}.{minor}\r\n", method.as_str());
        for (name, value) in headers.iter() {
            if !name.eq_ignore_ascii_case("Content-Length") {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), body].concat()
    }

    /// A request of the server itself, for one of its sessions.
    #[must_use]
    pub fn made(method: Method, headers: &[(&str, &str)]) -> Self {
        let mut made = Headers::default();
        for (name, value) in headers {
            made.push(name, value);
        }
        let (uri, body) = ("*".to_owned(), Vec::new());
        Self { method, uri, version: (1, 0), cseq: None, body, headers: made }
    }

    /// A request as if it had been read; `CSeq` is taken from `headers`.
    #[doc(hidden)]
    #[must_use]
    pub fn new_for_test(method: Method, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut read = Headers::default();
        for (name, value) in headers {
            read.push(name, value);
        }
        let cseq = read.value("CSeq").and_then(|value| value.trim().parse().ok());
        let uri = super::uri::without_userinfo(uri);
        Self { method, uri, version: (1, 0), cseq, body: body.to_vec(), headers: read }
    }
}

/// Header fields in the order of their first appearance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Headers {
    fields: Vec<(String, String)>,
    /// The field that a folded line continues.
    last: Option<usize>,
}

impl Headers {
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    /// Names and values, each name once.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn push(&mut self, name: &str, value: &str) {
        let known = self.fields.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
        let at = known.unwrap_or(self.fields.len());
        self.last = Some(at);
        if let Some((_, joined)) = self.fields.get_mut(at) {
            joined.push_str(", ");
            joined.push_str(value);
        } else {
            self.fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Continues the field pushed last (RFC 2068 s2.2: folding stands for one space).
    /// `false` when there is none.
    pub(super) fn continue_last(&mut self, value: &str) -> bool {
        let Some((_, joined)) = self.last.and_then(|at| self.fields.get_mut(at)) else {
            return false;
        };
        if !joined.is_empty() && !value.is_empty() {
            joined.push(' ');
        }
        joined.push_str(value);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_header_is_joined_and_found_in_any_case() {
        let headers = [("CSeq", "7"), ("Require", "a"), ("REQUIRE", "b")];
        let request = Request::new_for_test(Method::Options, "*", &headers, b"");
        assert_eq!(request.header("require"), Some("a, b"));
        assert_eq!(request.header("Session"), None);
        assert_eq!(request.cseq, Some(7));
    }

    #[test]
    fn request_is_read_again_as_it_was() {
        let text = "ANNOUNCE rtsp://host/live/a?b=c RTSP/1.0\r\nCSeq: 7\r\nRequire: a\r\n\
            x-folded: one\r\n two\r\nRequire: b\r\nContent-Length: 4\r\n\r\nv=0\n";
        let read = |bytes: &[u8]| {
            let mut reader = super::super::reader::RequestReader::default();
            reader.handle_bytes(bytes);
            match reader.poll() {
                Some(super::super::reader::Input::Request(request)) => request,
                other => panic!("{other:?}"),
            }
        };
        let request = read(text.as_bytes());
        let again = read(&request.to_bytes());
        assert_eq!(again.to_bytes(), request.to_bytes());
        assert_eq!((again.cseq, &again.body), (Some(7), &b"v=0\n".to_vec()));
        assert_eq!(
            (again.header("require"), again.header("X-Folded")),
            (Some("a, b"), Some("one two"))
        );
        assert_eq!(again.uri, "rtsp://host/live/a?b=c");
        // Neither DESCRIBE nor SETUP keeps a body while it waits.
        let bare = read(&Request { body: Vec::new(), ..request }.to_bytes());
        assert_eq!((bare.header("Content-Length"), bare.body.len()), (None, 0));
    }

    #[test]
    fn every_method_is_spelled_as_it_is_read() {
        for token in [
            "OPTIONS",
            "DESCRIBE",
            "SETUP",
            "PLAY",
            "PAUSE",
            "TEARDOWN",
            "GET_PARAMETER",
            "SET_PARAMETER",
            "ANNOUNCE",
            "RECORD",
            "REDIRECT",
            "PLAY_NOTIFY",
            "options",
        ] {
            assert_eq!(Method::from_token(token).as_str(), token);
        }
        assert_eq!(Method::from_token("play"), Method::Unknown("play".to_owned()));
    }
}
