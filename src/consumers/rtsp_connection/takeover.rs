//! A connection that another process takes over.
//!
//! ```text
//!  old process: quiet --record--> ConnectionRecord --resumed--> new process: its input is handled
//! ```
//! What was read and not worked through goes along as bytes, as if it had not been read. So does a
//! request that waits for a title, for leave or for a path: it has had no effect yet. Leave that
//! was given is asked for again; the nonce of challenges stays, so the client has not to be asked.
//! A connection that ends when its answers are sent does so in the new process.
//! Invariants: bytes of the client are handled once, and answers are sent once; what passes
//! `check_takeover` and waits for nothing else is recorded.

use super::{Places, RtspConnection, Waiting};
use crate::base::time::Mono;
use crate::consumers::tunnel::Carries;
use crate::rtsp::request::Request;
use crate::session::cx::Cx;
use crate::session::handover::MoveRefusal;
use crate::takeover::exact::Bytes;
use crate::takeover::v1::{ConnectionRecord, Fd};

impl RtspConnection {
    /// Whether no request is at hand, or none matters because the connection ends.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        matches!(self.waiting, Waiting::Nothing) || self.is_closing
    }

    /// Whether the connection can be handed over.
    ///
    /// # Errors
    /// `Tls`, `Tunnel`; `Srtp`: keys were told that the other process does not have.
    pub fn check_takeover(&self) -> Result<(), MoveRefusal> {
        if self.tls.is_some() {
            return Err(MoveRefusal::Tls);
        }
        if self.media_keys.are_used() {
            return Err(MoveRefusal::Srtp);
        }
        match &self.carries {
            Carries::Rtsp | Carries::Unknown(_) => Ok(()),
            Carries::Up(_) | Carries::Down(_) | Carries::Nothing => Err(MoveRefusal::Tunnel),
        }
    }

    /// The request at hand, if it has had no effect yet: another process may work through it.
    #[must_use]
    pub fn request_at_hand(&self) -> Option<&Request> {
        match &self.waiting {
            Waiting::Nothing | Waiting::Answer(_) => None,
            Waiting::Leave(waits) => Some(&waits.request),
            Waiting::Title(waits) => Some(&waits.request),
            Waiting::Channel(waits) => Some(&waits.request),
        }
    }

    /// For another process, which works through the request at hand again.
    #[must_use]
    pub fn record(&self, socket: Fd, at_hand: Option<&Request>) -> ConnectionRecord {
        let unread = match &self.carries {
            Carries::Unknown(first) => Some(first.clone()),
            _ => self.reader.unread(),
        };
        let is_closing = self.is_closing || unread.is_none();
        let mut input = at_hand.map(Request::to_bytes).unwrap_or_default();
        input.extend(unread.unwrap_or_default());
        if is_closing {
            input.clear();
        }
        let (accepted, has_asked, begun) = self.beginning.so_far();
        ConnectionRecord {
            socket,
            peer: self.peer,
            local: self.local,
            is_rtsp: matches!(self.carries, Carries::Rtsp),
            input: Bytes(input),
            output: Bytes(self.output.clone()),
            is_closing,
            accepted_ns: accepted.0,
            has_asked,
            begun_ns: begun.map(|at| at.0),
            heard_ns: self.heard.0,
            served_ns: self.served.0,
            nonce: self.login.nonce().map(str::to_owned),
        }
    }

    /// As another process has told. `input` of the record is to be given to it as what is received.
    #[must_use]
    pub fn resumed(record: &ConnectionRecord, places: Places, cx: &Cx) -> Self {
        let mut made = Self::new((record.peer, record.local), places, cx);
        let begun = record.begun_ns.map(Mono);
        made.beginning.resume((Mono(record.accepted_ns), record.has_asked, begun));
        if record.is_rtsp {
            made.carries = Carries::Rtsp;
        }
        made.output.clone_from(&record.output.0);
        made.is_closing = record.is_closing;
        made.heard = Mono(record.heard_ns);
        made.served = Mono(record.served_ns);
        if let Some(nonce) = &record.nonce {
            made.login.resume(nonce.clone());
        }
        made
    }
}
