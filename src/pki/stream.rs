//! TLS of one connection: bytes in, bytes out (RFC 8446, RFC 5246).
//!
//! ```text
//!  bytes of the socket --handle_bytes--> requests, frames
//!  answers, frames     --seal---------> records --output--> bytes for the socket
//! ```
//! rustls is fed whole records, so that it never holds a part of one. What is sealed at once is one
//! record, as long as it is no longer than [`RECORD_BYTES_MAX`].
//!
//! Invariants: nothing is sealed before the handshake is over; after a failure the output ends with
//! an alert, and nothing is read any more. Bounds: one record that is not whole; the output, which
//! grows by what its owner seals, and by a few KiB in a handshake.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConnection, Connection, Error, InvalidMessage, ProtocolVersion, ServerConnection,
};

use super::camera::{CameraTls, CameraTrustError};
use super::kernel::KernelKeys;
use super::serving::ServerTls;

/// TLS of one connection.
pub struct TlsStream {
    connection: Connection,
    /// Begin of a record.
    partial: Vec<u8>,
    /// Records for the socket.
    output: Vec<u8>,
    has_failed: bool,
}

/// What came of received bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The handshake has ended.
    pub is_shaken: bool,
    /// The other side sends nothing more (`close_notify`).
    pub is_closed: bool,
}

/// Why there is no TLS with the other side, or no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// It has begun with a request.
    #[error("the client speaks RTSP without TLS: rtsps:// is for this port")]
    Plain,
    /// It has ended the handshake.
    #[error("the other side ends it: {0}")]
    Alert(String),
    /// Its certificate is not believed.
    #[error("{0}")]
    Certificate(String),
    /// No version or cipher suits both.
    #[error("no version or cipher of TLS that both sides know: {0}")]
    Incompatible(String),
    /// What it sends is no TLS.
    #[error("not TLS: {0}")]
    Protocol(String),
}

/// Place in `TLS_FAILURES` of a handshake that took too long.
pub const FAILED_BY_TIMEOUT: usize = 5;
/// Place in `TLS_FAILURES` of a handshake whose client went away.
pub const FAILED_BY_CLOSE: usize = 6;
/// Place in `TLS_FAILURES` of a handshake that was not begun, because there were too many.
pub const FAILED_BY_LIMIT: usize = 7;

impl TlsStream {
    /// The server's side of a connection that was accepted.
    ///
    /// # Errors
    /// `Protocol`: the settings are of no use.
    pub fn server(tls: &ServerTls) -> Result<Self, TlsFailure> {
        let connection = ServerConnection::new(Arc::clone(tls.config()));
        Ok(Self::new(connection.map_err(|error| TlsFailure::of(&error))?.into()))
    }

    /// The client's side of a connection to a camera, which is called `host`.
    ///
    /// # Errors
    /// `Protocol`: the name is no name of a host.
    pub fn client(tls: &CameraTls, host: &str) -> Result<Self, TlsFailure> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsFailure::Protocol(format!("{host} is no name of a host")))?;
        let connection = ClientConnection::new(Arc::clone(tls.config()), name);
        let mut stream = Self::new(connection.map_err(|error| TlsFailure::of(&error))?.into());
        stream.collect();
        Ok(stream)
    }

    fn new(mut connection: Connection) -> Self {
        // Its owner decides how much is sealed.
        connection.set_buffer_limit(None);
        Self { connection, partial: Vec::new(), output: Vec::new(), has_failed: false }
    }

    /// The handshake is under way.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Nothing more can be read or sealed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Bytes for the socket.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `bytes` of the output are handed to the socket.
    pub fn consume_output(&mut self, bytes: usize) {
        self.output.drain(..bytes.min(self.output.len()));
        if self.output.is_empty() && self.output.capacity() > OUTPUT_KEPT_BYTES {
            self.output = Vec::new();
        }
    }

    /// Takes bytes of the socket, and appends what they say to `plain`.
    ///
    /// # Errors
    /// There is no TLS any more. The output may end with an alert that says why.
    pub fn handle_bytes(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<Progress, TlsFailure> {
        if self.has_failed {
            return Ok(Progress { is_shaken: false, is_closed: true });
        }
        let was_handshaking = self.is_handshaking();
        let mut progress = Progress::default();
        let result = self.take(bytes, plain, &mut progress);
        self.collect();
        self.has_failed |= result.is_err();
        result?;
        progress.is_shaken = was_handshaking && !self.is_handshaking();
        Ok(progress)
    }

    fn take(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        progress: &mut Progress,
    ) -> Result<(), TlsFailure> {
        // A record that came whole with others is not copied.
        if self.partial.is_empty() {
            let taken = self.take_records(bytes, plain, progress)?;
            self.partial.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            return Ok(());
        }
        self.partial.extend_from_slice(bytes);
        let mut whole = std::mem::take(&mut self.partial);
        let taken = self.take_records(&whole, plain, progress)?;
        whole.drain(..taken);
        self.partial = whole;
        Ok(())
    }

    /// Takes the whole records at the begin of `bytes`; returns their length.
    fn take_records(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        progress: &mut Progress,
    ) -> Result<usize, TlsFailure> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..)
            && let Some(length) = record_length(rest, self.is_handshaking())?
            && let Some(mut record) = rest.get(..length)
        {
            taken += length;
            while !record.is_empty() {
                let read = self.connection.read_tls(&mut record);
                let read = read.map_err(|error| TlsFailure::Protocol(error.to_string()))?;
                if read == 0 {
                    // Behind `close_notify` nothing counts.
                    break;
                }
            }
            let state = self.connection.process_new_packets();
            let state = state.map_err(|error| TlsFailure::of(&error))?;
            progress.is_closed |= state.peer_has_closed();
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            if let Some(room) = plain.get_mut(start..).filter(|room| !room.is_empty()) {
                let read = self.connection.reader().read_exact(room);
                read.map_err(|error| TlsFailure::Protocol(error.to_string()))?;
            }
        }
        Ok(taken)
    }

    /// Seals bytes for the other side: one record, unless they are longer than one takes.
    ///
    /// # Panics
    /// In a handshake: its owner waits for the end of it.
    pub fn seal(&mut self, plain: &[u8]) {
        assert!(!self.is_handshaking(), "there are no keys yet");
        if self.has_failed || plain.is_empty() {
            return;
        }
        // It fails only when the connection has failed before.
        self.has_failed |= self.connection.writer().write_all(plain).is_err();
        self.collect();
    }

    /// Whether the kernel could go on from here: the handshake is that of TLS 1.3 and over, no part
    /// of a record is read, and none waits to be sent.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        !self.is_handshaking()
            && !self.has_failed
            && self.partial.is_empty()
            && self.output.is_empty()
            && self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// The keys for the kernel. `None`: they cannot be had, and the connection is of no use.
    #[must_use]
    pub fn into_keys(self) -> Option<KernelKeys> {
        let version = self.connection.protocol_version()?;
        let secrets = self.connection.dangerous_extract_secrets().ok()?;
        KernelKeys::new(&secrets, version)
    }

    /// Tells the other side that nothing more comes.
    pub fn close(&mut self) {
        if !self.has_failed {
            self.connection.send_close_notify();
            self.collect();
            self.has_failed = true;
        }
    }

    /// Moves what rustls wants to send to the output.
    fn collect(&mut self) {
        while self.connection.wants_write() {
            // A vector takes everything.
            match self.connection.write_tls(&mut self.output) {
                Ok(written) if written > 0 => {}
                _ => return,
            }
        }
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("is_handshaking", &self.is_handshaking())
            .field("output_bytes", &self.output.len())
            .finish_non_exhaustive()
    }
}

impl TlsFailure {
    /// What an error of rustls means.
    fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            Error::InvalidCertificate(why) => {
                let known = CameraTrustError::find(why).map(ToString::to_string);
                Self::Certificate(known.unwrap_or_else(|| error.to_string()))
            }
            Error::PeerIncompatible(why) => Self::Incompatible(format!("{why:?}")),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                Self::Protocol("its bytes are no record".to_owned())
            }
            other => Self::Protocol(other.to_string()),
        }
    }

    /// Place in `metrics::cells::TLS_FAILURES`.
    #[must_use]
    pub fn index(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Alert(_) => 1,
            Self::Certificate(_) => 2,
            Self::Incompatible(_) => 3,
            Self::Protocol(_) => 4,
        }
    }
}

/// Length of the record that begins here, header included. `None`: it is not known yet.
fn record_length(bytes: &[u8], is_first: bool) -> Result<Option<usize>, TlsFailure> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    if !(CONTENT_TYPE_MIN..=CONTENT_TYPE_MAX).contains(&kind) {
        // Methods of RTSP and of HTTP are in capitals.
        return Err(match is_first && kind.is_ascii_uppercase() {
            true => TlsFailure::Plain,
            false => TlsFailure::Protocol("its bytes are no record".to_owned()),
        });
    }
    let &[_, _, _, high, low, ..] = bytes else { return Ok(None) };
    let payload = usize::from(u16::from_be_bytes([high, low]));
    if payload > PAYLOAD_BYTES_MAX {
        return Err(TlsFailure::Protocol(format!("a record of {payload} bytes")));
    }
    Ok(Some(RECORD_HEADER_BYTES + payload))
}

/// Bytes that one record takes before they are encrypted (RFC 8446 s5.1).
pub const RECORD_BYTES_MAX: usize = 1 << 14;
/// Bytes that a record has more than it says, at most: header, nonce, padding of one byte, tag.
pub const RECORD_OVERHEAD_BYTES: usize = 40;
/// RFC 5246 s6.2.3 allows 2,048 bytes more than the text; TLS 1.3 fewer.
const PAYLOAD_BYTES_MAX: usize = RECORD_BYTES_MAX + 2_048;
/// Type, version, length.
const RECORD_HEADER_BYTES: usize = 5;
/// change_cipher_spec is the first one, heartbeat the last (RFC 8446 s5.1, RFC 6520 s2).
const CONTENT_TYPE_MIN: u8 = 20;
const CONTENT_TYPE_MAX: u8 = 24;
/// Memory that an idle connection keeps for its output: as much as a usual frame takes.
const OUTPUT_KEPT_BYTES: usize = 32 << 10;

#[cfg(test)]
mod tests;
