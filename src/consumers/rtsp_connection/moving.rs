//! A connection that moves to another shard.
//!
//! ```text
//!  at rest --depart--> counted nowhere, without timer and place --arrive--> as before, elsewhere
//! ```
//! Messages that are read and not handled go with it, and so do answers that are not sent.
//! Invariant: what a connection adds to the gauges of a shard is taken back on that shard.

use super::RtspConnection;
use super::Waiting;
use crate::base::time::Mono;
use crate::base::wheel::Timer;
use crate::consumers::tunnel::Carries;
use crate::poll::poll_table::EntryKey;
use crate::session::cx::Cx;
use crate::session::handover::MoveRefusal;

impl RtspConnection {
    /// Whether the connection can ever move.
    ///
    /// # Errors
    /// `Tls`, `Tunnel`.
    pub fn check_move(&self) -> Result<(), MoveRefusal> {
        if self.tls.is_some() {
            return Err(MoveRefusal::Tls);
        }
        match &self.carries {
            Carries::Rtsp => Ok(()),
            Carries::Unknown(_) | Carries::Up(_) | Carries::Down(_) | Carries::Nothing => {
                Err(MoveRefusal::Tunnel)
            }
        }
    }

    /// Whether no request is at hand.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        matches!(self.waiting, Waiting::Nothing) && !self.is_closing
    }

    /// Whether bytes that were read wait to be handled.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        self.reader.buffered_bytes() > 0
    }

    /// Leaves its shard. Its key of the wheel is cancelled, which was due at `look_due`.
    pub fn depart(&mut self, look_due: Option<Mono>) {
        self.beginning.depart();
        (self.idle_timer, self.look_due) = (Timer::NONE, look_due);
        self.key = EntryKey { index: u32::MAX, generation: 0 };
    }

    /// When the next look at the connection was due on the shard that it has left. Once.
    pub fn take_look_due(&mut self) -> Option<Mono> {
        self.look_due.take()
    }

    /// Has this entry on another shard.
    pub fn arrive(&mut self, key: EntryKey, cx: &Cx) {
        self.key = key;
        self.beginning.arrive(&cx.cells, self.reader.buffered_bytes() as u64);
    }
}
