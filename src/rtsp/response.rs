//! One RTSP response (RFC 2326 s7, status codes s11) and how it is written.
//!
//! Every response carries `CSeq` (first, where simple players look for it), `Server`, `Date` and
//! `Content-Length`, so none depends on its caller to be complete.
//! Invariant: no header value can end its line; control characters are left out.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Status of a response: RFC 2326 s7.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
#[expect(missing_docs, reason = "each is named after its reason phrase in RFC 2326 s7.1.1")]
pub enum Status {
    Ok = 200,
    MovedPermanently = 301,
    MovedTemporarily = 302,
    NotModified = 304,
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    NotAcceptable = 406,
    RequestTimeout = 408,
    LengthRequired = 411,
    RequestEntityTooLarge = 413,
    RequestUriTooLarge = 414,
    UnsupportedMediaType = 415,
    RequestHeadersTooLarge = 431,
    ParameterNotUnderstood = 451,
    ConferenceNotFound = 452,
    NotEnoughBandwidth = 453,
    SessionNotFound = 454,
    MethodNotValidInThisState = 455,
    HeaderFieldNotValid = 456,
    InvalidRange = 457,
    ParameterIsReadOnly = 458,
    AggregateOperationNotAllowed = 459,
    OnlyAggregateOperationAllowed = 460,
    UnsupportedTransport = 461,
    DestinationUnreachable = 462,
    InternalServerError = 500,
    NotImplemented = 501,
    BadGateway = 502,
    ServiceUnavailable = 503,
    GatewayTimeout = 504,
    VersionNotSupported = 505,
    OptionNotSupported = 551,
}

impl Status {
    /// Three digits.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Reason phrase, as in RFC 2326 s7.1.1.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::MovedPermanently => "Moved Permanently",
            Self::MovedTemporarily => "Moved Temporarily",
            Self::NotModified => "Not Modified",
            Self::BadRequest => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::NotAcceptable => "Not Acceptable",
            Self::RequestTimeout => "Request Time-out",
            Self::LengthRequired => "Length Required",
            Self::RequestEntityTooLarge => "Request Entity Too Large",
            Self::RequestUriTooLarge => "Request-URI Too Large",
            Self::UnsupportedMediaType => "Unsupported Media Type",
            // RFC 6585 s5.
            Self::RequestHeadersTooLarge => "Request Header Fields Too Large",
            Self::ParameterNotUnderstood => "Parameter Not Understood",
            Self::ConferenceNotFound => "Conference Not Found",
            Self::NotEnoughBandwidth => "Not Enough Bandwidth",
            Self::SessionNotFound => "Session Not Found",
            Self::MethodNotValidInThisState => "Method Not Valid in This State",
            Self::HeaderFieldNotValid => "Header Field Not Valid for Resource",
            Self::InvalidRange => "Invalid Range",
            Self::ParameterIsReadOnly => "Parameter Is Read-Only",
            Self::AggregateOperationNotAllowed => "Aggregate operation not allowed",
            Self::OnlyAggregateOperationAllowed => "Only aggregate operation allowed",
            Self::UnsupportedTransport => "Unsupported transport",
            Self::DestinationUnreachable => "Destination unreachable",
            Self::InternalServerError => "Internal Server Error",
            Self::NotImplemented => "Not Implemented",
            Self::BadGateway => "Bad Gateway",
            Self::ServiceUnavailable => "Service Unavailable",
            Self::GatewayTimeout => "Gateway Time-out",
            Self::VersionNotSupported => "RTSP Version not supported",
            Self::OptionNotSupported => "Option not supported",
        }
    }
}

/// An RTSP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: Status,
    cseq: Option<u32>,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Response {
    /// Without headers of its own and without a body.
    #[must_use]
    pub fn new(status: Status, cseq: Option<u32>) -> Self {
        Self { status, cseq, headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header; they are written in the order of these calls.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body and its `Content-Type`.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.body = body;
        self.header("Content-Type", content_type)
    }

    /// Status, for metrics and logs.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Number of the request that it answers.
    #[must_use]
    pub fn cseq(&self) -> Option<u32> {
        self.cseq
    }

    /// Value of a header that was added.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.as_str())
    }

    /// Appends the response; `utc_s` is the time of day in seconds since 1970, for `Date`.
    pub fn write_to(&self, utc_s: i64, out: &mut Vec<u8>) {
        let mut head = String::with_capacity(HEAD_BYTES_USUAL);
        let (code, reason) = (self.status.code(), self.status.reason());
        // Writing to a String cannot fail.
        let _ = write!(head, "RTSP/1.0 {code} {reason}\r\n");
        if let Some(cseq) = self.cseq {
            let _ = write!(head, "CSeq: {cseq}\r\n");
        }
        let _ = write!(head, "Server: {SERVER}\r\n");
        if let Some(date) = http_date(utc_s) {
            let _ = write!(head, "Date: {date}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: ");
            head.extend(value.chars().filter(|c| !c.is_control() || *c == '\t'));
            head.push_str("\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n", self.body.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&self.body);
    }
}

/// RFC 2326 s12.18 by way of RFC 1123: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(utc_s: i64) -> Option<String> {
    let time = Timestamp::from_second(utc_s).ok()?;
    DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()
}

/// Must not begin with Kasenna or WMServer, or VLC gives up rate control (client rule C15).
const SERVER: &str = concat!("headend/", env!("CARGO_PKG_VERSION"));

/// Capacity for a head without RTP-Info.
const HEAD_BYTES_USUAL: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &Response) -> String {
        let mut out = Vec::new();
        response.write_to(784_111_777, &mut out);
        String::from_utf8(out).unwrap().replace(env!("CARGO_PKG_VERSION"), "VERSION")
    }

    #[test]
    fn response_with_body_is_complete() {
        let response = Response::new(Status::Ok, Some(2))
            .header("Content-Base", "rtsp://h/demo/")
            .body("application/sdp", b"v=0\r\n".to_vec());
        insta::assert_snapshot!(written(&response).replace('\r', ""), @r"
        RTSP/1.0 200 OK
        CSeq: 2
        Server: headend/VERSION
        Date: Sun, 06 Nov 1994 08:49:37 GMT
        Content-Base: rtsp://h/demo/
        Content-Type: application/sdp
        Content-Length: 5

        v=0
        ");
    }

    #[test]
    fn response_to_an_unreadable_request_has_no_cseq() {
        let text = written(&Response::new(Status::BadRequest, None));
        assert!(text.starts_with("RTSP/1.0 400 Bad Request\r\nServer: "), "{text}");
        assert!(text.ends_with("\r\nContent-Length: 0\r\n\r\n"), "{text}");
    }

    #[test]
    fn header_value_cannot_begin_a_new_line() {
        let evil = "a\r\nSession: 1\0";
        let text = written(&Response::new(Status::Ok, Some(1)).header("Unsupported", evil));
        assert!(text.contains("\r\nUnsupported: aSession: 1\r\n"), "{text}");
    }

    #[test]
    fn rtsp_types_reads_every_status_back() {
        for status in ALL {
            let mut out = Vec::new();
            Response::new(status, Some(1)).header("Session", "1").write_to(0, &mut out);
            let (read, bytes) = rtsp_types::Message::<Vec<u8>>::parse(&out).unwrap();
            let rtsp_types::Message::Response(read) = read else { panic!("{read:?}") };
            assert_eq!((u16::from(read.status()), bytes), (status.code(), out.len()));
            assert_eq!(read.reason_phrase(), status.reason());
        }
    }

    #[test]
    fn time_out_of_the_calendar_leaves_the_date_out() {
        let mut out = Vec::new();
        Response::new(Status::Ok, Some(1)).write_to(i64::MAX, &mut out);
        assert!(!String::from_utf8(out).unwrap().contains("Date"));
    }

    const ALL: [Status; 35] = [
        Status::Ok,
        Status::MovedPermanently,
        Status::MovedTemporarily,
        Status::NotModified,
        Status::BadRequest,
        Status::Unauthorized,
        Status::Forbidden,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::NotAcceptable,
        Status::RequestTimeout,
        Status::LengthRequired,
        Status::RequestEntityTooLarge,
        Status::RequestUriTooLarge,
        Status::UnsupportedMediaType,
        Status::RequestHeadersTooLarge,
        Status::ParameterNotUnderstood,
        Status::ConferenceNotFound,
        Status::NotEnoughBandwidth,
        Status::SessionNotFound,
        Status::MethodNotValidInThisState,
        Status::HeaderFieldNotValid,
        Status::InvalidRange,
        Status::ParameterIsReadOnly,
        Status::AggregateOperationNotAllowed,
        Status::OnlyAggregateOperationAllowed,
        Status::UnsupportedTransport,
        Status::DestinationUnreachable,
        Status::InternalServerError,
        Status::NotImplemented,
        Status::BadGateway,
        Status::ServiceUnavailable,
        Status::GatewayTimeout,
        Status::VersionNotSupported,
        Status::OptionNotSupported,
    ];
}
