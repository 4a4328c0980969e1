//! `InputReceiver`: packets of a source that listens, at a socket that is its alone.
//!
//! Its row is entered when an owner orders the source and removed with it; a datagram that was on
//! its way then finds an input that is gone, by a number that is never used again.

use super::{Context, canonical};
use crate::poll::consumer::{Disposition, Event, PollEventConsumer};

/// The consumer of a source's own socket.
#[derive(Debug)]
pub struct InputReceiver {
    /// The sessions' number for the input.
    pub number: u32,
    /// Track of it.
    pub track: u8,
    /// Its RTCP.
    pub is_rtcp: bool,
}

impl PollEventConsumer<Context<'_>> for InputReceiver {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        if let Event::Datagram { from, bytes } = event {
            let (socket, from) = ((self.track, self.is_rtcp), canonical(from));
            cx.sessions.live.handle_input_datagram(
                &mut cx.sessions.cx,
                self.number,
                socket,
                from,
                bytes,
            );
        }
        Disposition::Handled
    }
}
