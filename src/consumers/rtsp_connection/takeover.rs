//! A connection that another process takes over.
//!
//! ```text
//!  old process: quiet --record--> ConnectionRecord --resumed--> new process: its input is handled
//! ```
//! What was read and not worked through goes along as bytes, as if it had not been read. Leave that
//! was given is asked for again; the nonce of challenges stays, so the client has not to be asked.
//! Invariant: bytes of the client are handled once, and answers are sent once.

use super::{Places, RtspConnection, Waiting};
use crate::base::time::Mono;
use crate::consumers::tunnel::Carries;
use crate::session::cx::Cx;
use crate::takeover::exact::Bytes;
use crate::takeover::v1::{ConnectionRecord, Fd};

impl RtspConnection {
    /// Whether no request is at hand, or none matters because the connection ends.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        matches!(self.waiting, Waiting::Nothing) || self.is_closing
    }

    /// For another process; `None`: it is not handed over.
    #[must_use]
    pub fn record(&self, socket: Fd) -> Option<ConnectionRecord> {
        let can_go = self.tls.is_none() && !self.media_keys.are_used() && !self.is_closing;
        let input = match &self.carries {
            Carries::Rtsp if can_go => self.reader.unread()?,
            Carries::Unknown(first) if can_go => first.clone(),
            _ => return None,
        };
        let (accepted, has_asked, begun) = self.beginning.so_far();
        Some(ConnectionRecord {
            socket,
            peer: self.peer,
            local: self.local,
            is_rtsp: matches!(self.carries, Carries::Rtsp),
            input: Bytes(input),
            output: Bytes(self.output.clone()),
            accepted_ns: accepted.0,
            has_asked,
            begun_ns: begun.map(|at| at.0),
            heard_ns: self.heard.0,
            served_ns: self.served.0,
            nonce: self.login.nonce().map(str::to_owned),
        })
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
        made.heard = Mono(record.heard_ns);
        made.served = Mono(record.served_ns);
        if let Some(nonce) = &record.nonce {
            made.login.resume(nonce.clone());
        }
        made
    }
}
