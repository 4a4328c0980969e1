//! A client on a raw socket: sends what the test says, right or wrong, and reads what comes back.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;

use super::wait::{Deadline, PATIENCE, readable};

/// One RTSP connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    cseq: u32,
    /// Interleaved frames that came while a response was awaited: channel and data.
    pub(crate) frames: VecDeque<(u8, Vec<u8>)>,
}

/// What the server sent.
#[derive(Debug)]
pub(crate) enum Received {
    Response(Response),
    Frame(u8, Vec<u8>),
    /// It closed the connection, or reset it.
    Closed,
}

/// An RTSP response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) status_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn connect(server: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&server, PATIENCE).unwrap())
    }

    /// From an address of this host.
    pub(crate) fn connect_from(from: IpAddr, server: SocketAddr) -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect_timeout(&server.into(), PATIENCE).unwrap();
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, received: Vec::new(), cseq: 0, frames: VecDeque::new() }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends `bytes` as they are.
    pub(crate) fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends `bytes`, each in a segment of its own.
    pub(crate) fn send_byte_by_byte(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send_raw([*byte]);
        }
    }

    /// Sends a request and returns its response.
    ///
    /// # Panics
    /// When the response does not carry the CSeq of the request.
    pub(crate) fn request(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        self.request_with_body(method, url, headers, "")
    }

    /// As [`Self::request`], with a body.
    pub(crate) fn request_with_body(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let text = self.format(method, url, headers, body);
        self.send_raw(text);
        let response = self.response();
        assert_eq!(
            response.header("CSeq"),
            Some(self.cseq.to_string().as_str()),
            "CSeq of {response:?}"
        );
        response
    }

    /// The text of the next request; takes the next CSeq.
    pub(crate) fn format(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> String {
        use std::fmt::Write as _;
        self.cseq += 1;
        let mut text = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n", self.cseq);
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        if !body.is_empty() {
            write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        text + "\r\n" + body
    }

    /// The next response; frames before it are kept in `frames`.
    pub(crate) fn response(&mut self) -> Response {
        let deadline = Deadline::after(PATIENCE);
        loop {
            match self.receive(deadline) {
                Some(Received::Response(response)) => return response,
                Some(Received::Frame(channel, data)) => self.frames.push_back((channel, data)),
                Some(Received::Closed) => panic!("closed instead of a response"),
                None => panic!("no response within {PATIENCE:?}"),
            }
        }
    }

    /// # Panics
    /// When the server does not close the connection. Responses before that are fine.
    pub(crate) fn assert_closed(&mut self) {
        let deadline = Deadline::after(PATIENCE);
        loop {
            match self.receive(deadline) {
                Some(Received::Closed) => return,
                Some(_) => {}
                None => panic!("the connection is still open"),
            }
        }
    }

    /// The next thing, `None` at the deadline.
    pub(crate) fn receive(&mut self, deadline: Deadline) -> Option<Received> {
        loop {
            if let Some(received) = self.take() {
                return Some(received);
            }
            if !readable(&[self.stream.as_fd()], deadline)[0] {
                return None;
            }
            if !self.fill() {
                return Some(Received::Closed);
            }
        }
    }

    /// What is already here, without waiting.
    pub(crate) fn take(&mut self) -> Option<Received> {
        if self.received.first() == Some(&b'$') {
            let length =
                usize::from(u16::from_be_bytes([*self.received.get(2)?, *self.received.get(3)?]));
            self.received.get(4..4 + length)?;
            let frame: Vec<u8> = self.received.drain(..4 + length).collect();
            return Some(Received::Frame(frame[1], frame[4..].to_vec()));
        }
        let end = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.received[..end]).expect("responses are text");
        let mut response = Response::parse(head);
        let length = response.header("Content-Length").map_or(0, |text| text.parse().unwrap());
        let body = self.received.get(end..end + length)?;
        response.body = String::from_utf8(body.to_vec()).unwrap();
        self.received.drain(..end + length);
        Some(Received::Response(response))
    }

    /// Reads once; `false` when the server has closed.
    pub(crate) fn fill(&mut self) -> bool {
        let mut block = [0; 65_536];
        match self.stream.read(&mut block) {
            Ok(0) => false,
            Ok(bytes) => {
                self.received.extend_from_slice(&block[..bytes]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("read: {error}"),
        }
    }
}

impl Response {
    fn parse(head: &str) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap().to_owned();
        // Client rule C8: a server has nothing to ask its clients.
        assert!(status_line.starts_with("RTSP/1.0 "), "not a response: {status_line:?}");
        let status = status_line[9..12].parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap_or_else(|| panic!("header {line:?}")))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Self { status, status_line, headers, body: String::new() }
    }

    /// Value of the header `name`.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = found.next()?;
        assert!(found.next().is_none(), "{name} is there twice in {self:?}");
        Some(&value.1)
    }

    /// Items of a comma-separated header, empty without the header.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.header(name).map_or_else(Vec::new, |v| v.split(',').map(str::trim).collect())
    }

    /// # Panics
    /// When the status is another one.
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The session id, without its parameters.
    pub(crate) fn session_id(&self) -> String {
        let header = self.header("Session").expect("a Session header");
        header.split(';').next().unwrap().to_owned()
    }

    /// Seconds of the session's `timeout` parameter.
    pub(crate) fn session_timeout_s(&self) -> Option<u32> {
        self.header("Session")?.split_once(";timeout=")?.1.parse().ok()
    }

    /// Parameter `name` of the Transport header; `Some("")` for one without a value.
    pub(crate) fn transport(&self, name: &str) -> Option<&str> {
        self.header("Transport")?.split(';').find_map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            key.trim().eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Start and end in seconds of an npt Range header.
    pub(crate) fn npt(&self) -> (f64, Option<f64>) {
        let range = self.header("Range").expect("a Range header");
        let (from, to) = range.strip_prefix("npt=").expect("npt").split_once('-').unwrap();
        (from.parse().unwrap(), to.parse().ok())
    }

    /// `RTP-Info`: URL, seq and rtptime of each stream (RFC 2326 s12.33).
    pub(crate) fn rtp_info(&self) -> Vec<RtpInfo> {
        self.list("RTP-Info").into_iter().map(RtpInfo::parse).collect()
    }
}

/// One stream of RTP-Info.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RtpInfo {
    pub(crate) url: String,
    pub(crate) seq: u16,
    pub(crate) rtptime: u32,
}

impl RtpInfo {
    fn parse(item: &str) -> Self {
        let value = |name: &str| {
            item.split(';')
                .find_map(|parameter| parameter.trim().strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_else(|| panic!("no {name} in RTP-Info {item:?}"))
        };
        Self {
            url: value("url").to_owned(),
            seq: value("seq").parse().unwrap(),
            rtptime: value("rtptime").parse().unwrap(),
        }
    }
}
