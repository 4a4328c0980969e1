//! RTSP over TLS: a server with a certificate of its own, and a client that says what a test wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use headend::config::source::SourceTls;
use headend::pki::camera::{CameraRoots, CameraTls};
use headend::pki::stream::TlsStream;

use super::process::run_command;
use super::server::{Options, Server, binary};
use super::wait::{Deadline, PATIENCE, readable};

/// Makes certificate and key in a folder; returns the lines of the configuration with a free port.
pub(crate) fn certify(folder: &Path, more: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.args(["cert", "self-signed", "--host", "127.0.0.1", "--host", "localhost"]);
    command.args(more).arg("--out").arg(folder);
    let made = run_command(&mut command, PATIENCE);
    assert!(made.status.success(), "{made:?}");
    made.stdout + "listen = [\"127.0.0.1:0\"]\n"
}

/// SHA-256 of the certificate, as `certify` has printed it.
pub(crate) fn fingerprint(lines: &str) -> &str {
    let line = lines.lines().find_map(|line| line.strip_prefix("# pinned by clients: "));
    line.expect("a fingerprint")
}

/// A server with RTSPS, and the folder of its certificate.
pub(crate) fn start(config: &str, options: &Options<'_>) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir_in(super::scratch()).unwrap();
    let config = certify(folder.path(), &[]) + config;
    (Server::start(&Options { config: Some(&config), ..*options }), folder)
}

/// `rtsps://HOST:PORT/PATH`.
pub(crate) fn url(server: &Server, path: &str) -> String {
    format!("rtsps://{}/{path}", server.rtsps())
}

/// One RTSP connection with TLS.
#[derive(Debug)]
pub(crate) struct SecureClient {
    stream: TcpStream,
    tls: TlsStream,
    plain: Vec<u8>,
    cseq: u32,
}

impl SecureClient {
    /// Connects, and has the handshake done.
    pub(crate) fn connect(server: SocketAddr) -> Self {
        let mut client = Self::begin(server);
        client.flush(usize::MAX);
        client.finish_handshake(usize::MAX);
        client
    }

    /// Connects. The first message of the handshake waits to be sent.
    pub(crate) fn begin(server: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&server, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let trust = CameraTls::new(SourceTls::Off, &CameraRoots::default()).unwrap();
        let tls = TlsStream::client(&trust, "localhost").unwrap();
        Self { stream, tls, plain: Vec::new(), cseq: 0 }
    }

    /// Reads until the handshake is over, and answers in segments of so many bytes.
    pub(crate) fn finish_handshake(&mut self, step: usize) {
        self.read_until_in("the handshake", step, |client| !client.tls.is_handshaking());
        self.flush(step);
    }

    /// Sends what waits, in segments of so many bytes.
    pub(crate) fn flush(&mut self, step: usize) {
        for piece in self.tls.output().chunks(step.min(1 << 20)) {
            self.stream.write_all(piece).unwrap();
        }
        self.tls.consume_output(usize::MAX);
    }

    /// Sends bytes, which are records in segments of so many bytes.
    pub(crate) fn send(&mut self, bytes: &[u8], step: usize) {
        self.tls.seal(bytes);
        self.flush(step);
    }

    /// Bytes that go to the socket as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a request; status and text of the answer, frames before it are dropped.
    pub(crate) fn request(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> (u16, String) {
        self.cseq += 1;
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let lines: String = lines.collect();
        let text = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{lines}\r\n", self.cseq);
        self.send(text.as_bytes(), usize::MAX);
        self.answer()
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> (u16, String) {
        loop {
            self.read_until("an answer", |client| client.has_message());
            if self.plain[0] == b'$' {
                self.frame();
                continue;
            }
            let end = find(&self.plain, b"\r\n\r\n").unwrap() + 4;
            let head = String::from_utf8(self.plain[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let end = end + length.map_or(0, |length| length.parse().unwrap());
            self.read_until("a body", |client| client.plain.len() >= end);
            let text = String::from_utf8(self.plain.drain(..end).collect()).unwrap();
            let status = text.split(' ').nth(1).unwrap().parse().unwrap();
            return (status, text);
        }
    }

    /// The next frame: channel and packet.
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        self.read_until("a frame", Self::has_message);
        assert_eq!(self.plain[0], b'$', "a frame");
        let length = usize::from(u16::from_be_bytes([self.plain[2], self.plain[3]]));
        let frame: Vec<u8> = self.plain.drain(..4 + length).collect();
        (frame[1], frame[4..].to_vec())
    }

    fn has_message(&self) -> bool {
        match self.plain.as_slice() {
            [b'$', _, high, low, rest @ ..] => {
                rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
            }
            [b'$', ..] | [] => false,
            text => find(text, b"\r\n\r\n").is_some(),
        }
    }

    /// Waits until the socket has much that is not read.
    pub(crate) fn wait_until_full(&self) {
        super::wait::until("its socket is full", || {
            rustix::io::ioctl_fionread(&self.stream).unwrap() > 60_000
        });
    }

    /// Waits until the server closes the connection.
    pub(crate) fn assert_closed(&mut self) {
        let deadline = Deadline::after(PATIENCE);
        let mut block = [0; 4_096];
        loop {
            use std::os::fd::AsFd as _;
            assert!(readable(&[self.stream.as_fd()], deadline)[0], "it is still open");
            if matches!(self.stream.read(&mut block), Ok(0) | Err(_)) {
                return;
            }
        }
    }

    fn read_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        self.read_until_in(what, usize::MAX, is_so);
    }

    fn read_until_in(&mut self, what: &str, step: usize, is_so: impl Fn(&Self) -> bool) {
        use std::os::fd::AsFd as _;
        let deadline = Deadline::after(PATIENCE);
        while !is_so(self) {
            assert!(readable(&[self.stream.as_fd()], deadline)[0], "{what} does not come");
            let mut block = [0; 4_096];
            let read = self.stream.read(&mut block).unwrap();
            assert!(read > 0, "closed instead of {what}");
            self.tls.handle_bytes(&block[..read], &mut self.plain).unwrap();
            self.flush(step);
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
