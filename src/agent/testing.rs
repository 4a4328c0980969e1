//! A server of HTTP with a script, for tests of clients.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

/// An answer, on a connection of its own.
#[derive(Debug, Clone)]
pub(crate) struct Scripted {
    /// `200 OK`.
    pub(crate) status: &'static str,
    /// Lines, each with its `\r\n`.
    pub(crate) headers: String,
    pub(crate) body: &'static str,
}

impl Scripted {
    pub(crate) fn new(status: &'static str, body: &'static str) -> Self {
        Self { status, headers: String::new(), body }
    }
}

/// Gives these answers, one after the other. The thread ends with the last one, and gives the first
/// lines of the questions.
pub(crate) fn serve(answers: Vec<Scripted>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let asked = answers.into_iter().map(|Scripted { status, headers, body }| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let lower = head.to_lowercase();
            let length = lower.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            stream.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
            let length = body.len();
            let end = format!("content-length: {length}\r\nconnection: close\r\n\r\n{body}");
            write!(stream, "HTTP/1.1 {status}\r\n{headers}{end}").unwrap();
            head.lines().next().unwrap_or_default().to_owned()
        });
        asked.collect()
    });
    (addr, thread)
}
