//! RTSP over HTTP as a client does it: a GET that carries RTSP down, POSTs that carry base64 up.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use socket2::{Domain, Socket, Type};

use super::wait::{Deadline, PATIENCE, readable};

/// A connection of HTTP.
#[derive(Debug)]
pub(crate) struct Half {
    stream: TcpStream,
    received: Vec<u8>,
}

/// Both connections of a tunnel.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) down: Half,
    pub(crate) up: Half,
    cseq: u32,
}

impl Half {
    /// Connects from an address of this host, and sends a head.
    pub(crate) fn open(from: IpAddr, server: SocketAddr, method: &str, cookie: &str) -> Self {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect_timeout(&server.into(), PATIENCE).unwrap();
        let stream: TcpStream = socket.into();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut half = Self { stream, received: Vec::new() };
        half.send(head(method, cookie).as_bytes());
        half
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Whether the bytes could be sent: the server may close while a long body is written.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// What has come up to an empty line and the body that it announces.
    pub(crate) fn message(&mut self) -> String {
        let deadline = Deadline::after(PATIENCE);
        loop {
            if self.received.first() == Some(&b'$') && self.received.len() >= 4 {
                let length = usize::from(u16::from_be_bytes([self.received[2], self.received[3]]));
                if self.received.len() >= 4 + length {
                    self.received.drain(..4 + length);
                    continue;
                }
            } else if let Some(end) = self.received.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                let end = end + 4 + length.map_or(0, |length| length.parse().unwrap());
                if self.received.len() >= end {
                    let bytes: Vec<u8> = self.received.drain(..end).collect();
                    return String::from_utf8(bytes).unwrap();
                }
            }
            assert!(self.read(deadline), "closed instead of a message: {:?}", self.received);
        }
    }

    /// Interleaved packets that come until there are so many.
    pub(crate) fn frames(&mut self, count: usize) -> usize {
        let deadline = Deadline::after(PATIENCE);
        let mut seen = 0;
        while seen < count {
            let length = match self.received.as_slice() {
                [b'$', _, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
                _ => usize::MAX,
            };
            if self.received.len() >= length {
                self.received.drain(..length);
                seen += 1;
            } else {
                assert!(self.read(deadline), "closed instead of frames");
            }
        }
        seen
    }

    /// All that comes until the server closes the connection.
    pub(crate) fn until_closed(&mut self) -> String {
        let deadline = Deadline::after(PATIENCE);
        while self.read(deadline) {}
        String::from_utf8_lossy(&self.received).into_owned()
    }

    fn read(&mut self, deadline: Deadline) -> bool {
        assert!(readable(&[self.stream.as_fd()], deadline)[0], "nothing comes");
        let mut block = [0; 4_096];
        match self.stream.read(&mut block) {
            Ok(0) | Err(_) => false,
            Ok(bytes) => {
                self.received.extend_from_slice(&block[..bytes]);
                true
            }
        }
    }
}

impl Tunnel {
    /// From 127.0.0.1.
    pub(crate) fn open(server: SocketAddr, cookie: &str) -> Self {
        let own = IpAddr::from([127, 0, 0, 1]);
        let mut down = Half::open(own, server, "GET", cookie);
        let opened = down.message();
        assert!(opened.starts_with("HTTP/1.0 200 OK\r\n"), "{opened}");
        assert!(opened.contains("application/x-rtsp-tunnelled"), "{opened}");
        Self { down, up: Half::open(own, server, "POST", cookie), cseq: 0 }
    }

    /// Another POST in place of the one before, which is closed.
    pub(crate) fn post_again(&mut self, server: SocketAddr, cookie: &str) {
        self.up = Half::open(IpAddr::from([127, 0, 0, 1]), server, "POST", cookie);
    }

    /// The next request, encoded.
    pub(crate) fn encoded(&mut self, method: &str, url: &str, headers: &str) -> String {
        self.cseq += 1;
        let text = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{headers}\r\n", self.cseq);
        STANDARD.encode(text)
    }

    /// Sends a request and returns the answer.
    pub(crate) fn request(&mut self, method: &str, url: &str, headers: &str) -> String {
        let encoded = self.encoded(method, url, headers);
        self.up.send(encoded.as_bytes());
        self.down.message()
    }
}

/// The head of a request for a tunnel.
pub(crate) fn head(method: &str, cookie: &str) -> String {
    let length = if method == "POST" { "Content-Length: 32767\r\n" } else { "" };
    format!(
        "{method} /demo HTTP/1.0\r\nUser-Agent: test\r\nx-sessioncookie: {cookie}\r\n\
         Accept: application/x-rtsp-tunnelled\r\n{length}\r\n"
    )
}
