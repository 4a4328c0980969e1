//! `Camera`: one connection to a camera or another server that is pulled from.
//!
//! ```text
//!  Connected --> client of the path      what it asks --Write--> output
//!  bytes -> RequestReader --+-- $ frame ---> packets of the source
//!                           +-- answer, request --> client
//! ```
//! What is said is decided in `live::sources::pull`. Frames are handed on where they lie in the
//! reader's buffer. Bound: the reader's limits; `OUTPUT_BYTES_MAX` that the camera does not take.

use super::Context;
use super::garbage::Garbage;
use crate::base::ids::CameraName;
use crate::poll::consumer::{Disposition, Event, PollEventConsumer};
use crate::rtsp::reader::{Input, RequestReader};

/// A connection to a camera or another server.
#[derive(Debug)]
pub struct Camera {
    name: CameraName,
    reader: RequestReader,
    garbage: Garbage,
    output: Vec<u8>,
    is_connected: bool,
    is_closing: bool,
}

impl Camera {
    /// A connection that is being made.
    #[must_use]
    pub fn new(name: CameraName) -> Self {
        let mut reader = RequestReader::new();
        reader.expect_media();
        let (garbage, output) = (Garbage::default(), Vec::new());
        Self { name, reader, garbage, output, is_connected: false, is_closing: false }
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
}

impl PollEventConsumer<Context<'_>> for Camera {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        match event {
            Event::Connected(Ok(local)) => {
                self.is_connected = true;
                cx.sessions.live.sources.handle_camera_connected(
                    &mut cx.sessions.cx,
                    &mut cx.sessions.live.hub,
                    self.name,
                    Ok(local),
                );
                Disposition::Handled
            }
            Event::Connected(Err(error)) => {
                cx.sessions.live.sources.handle_camera_connected(
                    &mut cx.sessions.cx,
                    &mut cx.sessions.live.hub,
                    self.name,
                    Err(&error.to_string()),
                );
                self.output.clear();
                self.closing()
            }
            Event::Received([]) => {
                cx.sessions.live.sources.handle_camera_closed(
                    &mut cx.sessions.cx,
                    &mut cx.sessions.live.hub,
                    self.name,
                );
                self.output.clear();
                self.closing()
            }
            Event::Received(bytes) => {
                self.reader
                    .set_channels(cx.sessions.live.sources.media_channels_of(self.name.source));
                self.reader.handle_bytes(bytes);
                self.pump(cx)
            }
            Event::Accepted { .. }
            | Event::Datagram { .. }
            | Event::Writable
            | Event::Due
            | Event::Outcome(_)
            | Event::Refused(_)
            | Event::Answered(_) => Disposition::Handled,
        }
    }
}

/// Requests and reports that wait: a few hundred. A camera takes one every few seconds.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
