//! `Camera`: one connection to a camera or another server that is pulled from.
//!
//! ```text
//!  Connected --> client of the path      what it asks --Write--> output
//!  bytes -> RequestReader --+-- $ frame ---> packets of the source
//!                           +-- answer, request --> client
//! ```
//! What is said is decided in `live::sources::pull`. Frames are handed on where they lie in the
//! reader's buffer. Bound: the reader's limits; `OUTPUT_BYTES_MAX` that the camera does not take.

use std::net::IpAddr;

use super::Context;
use super::garbage::Garbage;
use crate::base::ids::CameraName;
use crate::base::limits::OUTPUT_BYTES_MAX;
use crate::pki::stream::TlsStream;
use crate::poll::consumer::{Disposition, Event, PollEventConsumer};
use crate::rtsp::reader::{Input, RequestReader};

/// A connection to a camera or another server.
#[derive(Debug)]
pub struct Camera {
    name: CameraName,
    reader: RequestReader,
    garbage: Garbage,
    /// TLS around the connection.
    tls: Option<Box<TlsStream>>,
    /// What came decrypted; kept for its storage.
    plain: Vec<u8>,
    /// Our address, told when the handshake is over.
    local: Option<IpAddr>,
    output: Vec<u8>,
    is_connected: bool,
    is_closing: bool,
}

impl Camera {
    /// A connection that is being made.
    #[must_use]
    pub fn new(name: CameraName, tls: Option<TlsStream>) -> Self {
        let mut reader = RequestReader::new();
        reader.expect_media();
        Self {
            name,
            reader,
            garbage: Garbage::default(),
            tls: tls.map(Box::new),
            plain: Vec::new(),
            local: None,
            output: Vec::new(),
            is_connected: false,
            is_closing: false,
        }
    }

    /// Whether what is sent is encrypted.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// TLS around the connection.
    pub fn tls_mut(&mut self) -> Option<&mut TlsStream> {
        self.tls.as_deref_mut()
    }

    /// Neither requests nor records wait that could be sent now.
    #[must_use]
    pub fn has_nothing_to_send(&self) -> bool {
        match &self.tls {
            None => self.output.is_empty(),
            Some(tls) => {
                let is_shut = tls.is_handshaking() || tls.has_failed();
                tls.output().is_empty() && (self.output.is_empty() || is_shut)
            }
        }
    }

    /// Seals up to `bytes_max` bytes of what waits, and the end behind the last ones. Returns how
    /// many.
    pub fn seal(&mut self, bytes_max: usize) -> usize {
        let Some(tls) = self.tls.as_deref_mut().filter(|tls| !tls.is_handshaking()) else {
            return 0;
        };
        let bytes = self.output.len().min(bytes_max);
        tls.seal(self.output.get(..bytes).unwrap_or_default());
        self.output.drain(..bytes);
        if self.is_closing && self.output.is_empty() {
            tls.close();
        }
        bytes
    }

    /// Whose it is.
    #[must_use]
    pub fn name(&self) -> CameraName {
        self.name
    }

    /// What is to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `bytes` of the output are handed to the socket.
    pub fn consume_output(&mut self, bytes: usize) {
        self.output.drain(..bytes.min(self.output.len()));
    }

    /// Appends what is to be sent. What a camera that does not read is not sent any more, it does
    /// not miss: it is closed for its silence.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.output.len() + bytes.len() <= OUTPUT_BYTES_MAX {
            self.output.extend_from_slice(bytes);
        }
    }

    /// Appends an interleaved packet (RFC 2326 s10.12).
    pub fn push_interleaved(&mut self, channel: u8, payload: &[u8]) {
        let Ok(bytes) = u16::try_from(payload.len()) else { return };
        let [high, low] = bytes.to_be_bytes();
        if self.output.len() + payload.len() < OUTPUT_BYTES_MAX {
            self.output.extend_from_slice(&[b'$', channel, high, low]);
            self.output.extend_from_slice(payload);
        }
    }

    /// The connection is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Close as soon as the output is sent.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Closes when what is there is sent; at once when there is nobody to send it to.
    pub fn close_when_sent(&mut self) {
        self.is_closing = true;
        if !self.is_connected {
            self.output.clear();
        }
    }

    fn pump(&mut self, cx: &mut Context<'_>) -> Disposition {
        while !self.is_closing {
            if let Some((channel, packet)) = self.reader.frame() {
                cx.sessions.live.sources.handle_camera_frame(
                    &mut cx.sessions.cx,
                    self.name,
                    channel,
                    packet,
                );
                self.reader.skip_frame();
                continue;
            }
            match self.reader.poll() {
                None => return Disposition::Handled,
                Some(Input::Interleaved { channel, payload }) => {
                    cx.sessions.live.sources.handle_camera_frame(
                        &mut cx.sessions.cx,
                        self.name,
                        channel,
                        &payload,
                    );
                }
                Some(Input::Response(answer)) => {
                    cx.sessions.live.sources.handle_camera_answer(
                        &mut cx.sessions.cx,
                        &mut cx.sessions.live.hub,
                        self.name,
                        &answer,
                    );
                }
                Some(Input::Request(request)) => {
                    cx.sessions.live.sources.handle_camera_request(
                        &mut cx.sessions.cx,
                        &mut cx.sessions.live.hub,
                        self.name,
                        &request,
                    );
                }
                Some(Input::Garbage { bytes }) => {
                    cx.sessions.cx.count_resync();
                    let peer = cx.sessions.live.sources.camera_address(self.name);
                    self.garbage.handle(bytes, peer, cx.sessions.cx.now);
                }
                Some(Input::Malformed { error, framing_lost: true, .. }) => {
                    cx.sessions.live.sources.handle_camera_garbage(
                        &mut cx.sessions.cx,
                        &mut cx.sessions.live.hub,
                        self.name,
                        error,
                    );
                    return self.closing();
                }
                // It is a request that we would not answer with more than an error.
                Some(Input::Malformed { .. }) => {}
            }
        }
        Disposition::Close
    }

    fn closing(&mut self) -> Disposition {
        self.is_closing = true;
        Disposition::Close
    }

    fn tell_connected(&self, result: Result<IpAddr, &str>, cx: &mut Context<'_>) {
        cx.sessions.live.sources.handle_camera_connected(
            &mut cx.sessions.cx,
            &mut cx.sessions.live.hub,
            self.name,
            result,
        );
    }

    fn handle_closed(&mut self, cx: &mut Context<'_>) -> Disposition {
        cx.sessions.live.sources.handle_camera_closed(
            &mut cx.sessions.cx,
            &mut cx.sessions.live.hub,
            self.name,
        );
        self.output.clear();
        self.closing()
    }

    /// Takes bytes of the socket. `Some`: the connection ends.
    fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Option<Disposition> {
        let Some(mut tls) = self.tls.take() else {
            self.read(bytes, cx);
            return None;
        };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let was_handshaking = tls.is_handshaking();
        let result = tls.handle_bytes(bytes, &mut plain);
        self.tls = Some(tls);
        let ended = match result {
            Ok(progress) => {
                if let Some(local) = self.local.filter(|_| progress.is_shaken) {
                    self.tell_connected(Ok(local), cx);
                }
                self.read(&plain, cx);
                progress.is_closed.then(|| self.handle_closed(cx))
            }
            Err(failure) if was_handshaking => {
                self.tell_connected(Err(&format!("no TLS: {failure}")), cx);
                self.output.clear();
                Some(self.closing())
            }
            Err(_) => Some(self.handle_closed(cx)),
        };
        self.plain = plain;
        ended
    }

    fn read(&mut self, bytes: &[u8], cx: &Context<'_>) {
        let channels = cx.sessions.live.sources.media_channels_of(self.name.source);
        self.reader.set_channels(channels);
        self.reader.handle_bytes(bytes);
    }
}

impl PollEventConsumer<Context<'_>> for Camera {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        match event {
            Event::Connected(Ok(local)) => {
                self.is_connected = true;
                self.local = Some(local);
                if self.tls.is_none() {
                    self.tell_connected(Ok(local), cx);
                }
                Disposition::Handled
            }
            Event::Connected(Err(error)) => {
                self.tell_connected(Err(&error.to_string()), cx);
                self.output.clear();
                self.closing()
            }
            Event::Received([]) => {
                let is_handshaking = self.tls.as_ref().is_some_and(|tls| tls.is_handshaking());
                if is_handshaking {
                    self.tell_connected(Err("no TLS: it closes the connection"), cx);
                    self.output.clear();
                    return self.closing();
                }
                self.handle_closed(cx)
            }
            Event::Received(bytes) => match self.receive(bytes, cx) {
                Some(ended) => ended,
                None => self.pump(cx),
            },
            Event::Accepted { .. }
            | Event::Datagram { .. }
            | Event::Writable
            | Event::Due
            | Event::Outcome(_)
            | Event::Refused(_)
            | Event::Answered(_)
            | Event::Tunnel(_) => Disposition::Handled,
        }
    }
}
