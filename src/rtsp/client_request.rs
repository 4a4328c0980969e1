//! Writes requests (RFC 2326 s6): of a client that pulls from a camera or another server.
//!
//! Every request has `CSeq` and `User-Agent`: some cameras answer 401 to one that does not say who
//! it is. Invariant: no value can end its line; control characters are left out.

use std::fmt::Write as _;

use super::request::Method;

/// One request to write.
#[derive(Debug, Clone, Copy)]
pub struct ClientRequest<'a> {
    /// What to do.
    pub method: &'a Method,
    /// To what; without credentials.
    pub url: &'a str,
    /// The next number on this connection.
    pub cseq: u32,
    /// `Session`, `Transport`, `Authorization`, ... in this order.
    pub headers: &'a [(&'a str, &'a str)],
    /// Content type and bytes.
    pub body: Option<(&'a str, &'a [u8])>,
}

impl ClientRequest<'_> {
    /// Appends the request.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut head = String::with_capacity(HEAD_BYTES_USUAL);
        push_clean(&mut head, self.method.as_str(), |c| !c.is_control() && c != ' ');
        head.push(' ');
        push_clean(&mut head, self.url, |c| !c.is_control() && c != ' ');
        // Writing to a String cannot fail.
        let _ = write!(head, " RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: {USER_AGENT}\r\n", self.cseq);
        for (name, value) in self.headers {
            push_header(&mut head, name, value);
        }
        let body = self.body.map_or(&[][..], |(content_type, body)| {
            push_header(&mut head, "Content-Type", content_type);
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
            body
        });
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
    }
}

fn push_header(head: &mut String, name: &str, value: &str) {
    head.push_str(name);
    head.push_str(": ");
    push_clean(head, value, |c| !c.is_control() || c == '\t');
    head.push_str("\r\n");
}

fn push_clean(head: &mut String, text: &str, is_kept: impl Fn(char) -> bool) {
    head.extend(text.chars().filter(|c| is_kept(*c)));
}

const USER_AGENT: &str = concat!("headend/", env!("CARGO_PKG_VERSION"));

/// Capacity for a request with an `Authorization`.
const HEAD_BYTES_USUAL: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rtsp::reader::{Input, RequestReader};

    fn written(ask: &ClientRequest<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        ask.write_to(&mut out);
        out
    }

    #[test]
    fn request_without_body_has_no_length() {
        let headers = [("Session", "1"), ("Transport", "RTP/AVP/TCP;interleaved=0-1")];
        let method = Method::Setup;
        let ask = ClientRequest {
            method: &method,
            url: "rtsp://h/a",
            cseq: 3,
            headers: &headers,
            body: None,
        };
        let text = String::from_utf8(written(&ask)).unwrap();
        insta::assert_snapshot!(text.replace('\r', "").replace(env!("CARGO_PKG_VERSION"), "V"), @r"
        SETUP rtsp://h/a RTSP/1.0
        CSeq: 3
        User-Agent: headend/V
        Session: 1
        Transport: RTP/AVP/TCP;interleaved=0-1
        ");
    }

    proptest! {
        #[test]
        fn our_own_reader_reads_every_request_back(
            url in "[!-~]{1,40}", value in any::<String>(), cseq: u32,
            body in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let headers = [("X-Any", value.as_str())];
            let method = Method::Announce;
            let body_of = (!body.is_empty()).then_some(("application/sdp", body.as_slice()));
            let ask = ClientRequest { method: &method, url: &url, cseq, headers: &headers, body: body_of };
            let mut reader = RequestReader::new();
            reader.handle_bytes(&written(&ask));
            let Some(Input::Request(request)) = reader.poll() else { panic!() };
            prop_assert_eq!(reader.poll(), None);
            prop_assert_eq!((&request.method, &request.uri), (&method, &url));
            prop_assert_eq!((request.cseq, &request.body), (Some(cseq), &body));
        }
    }
}
