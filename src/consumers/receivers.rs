//! Receivers of the shared sockets: one for all clients of a pair (reference 001).

use super::{Context, canonical};
use crate::poll::consumer::{Disposition, Event, PollEventConsumer};

/// `RtcpReceiver`: receiver reports of every client of a pair, told apart by their address.
#[derive(Debug)]
pub struct RtcpReceiver {
    /// Which pair of the shard.
    pub pair: u16,
}

impl PollEventConsumer<Context<'_>> for RtcpReceiver {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        if let Event::Datagram { from, bytes } = event {
            cx.sessions.handle_report_datagram(self.pair, canonical(from), bytes);
        }
        Disposition::Handled
    }
}

/// What arrives at the RTP port of a pair: players knock there to open their NAT (client rule C21).
/// Nothing in it concerns recorded titles, so it is counted and left.
#[derive(Debug)]
pub struct RtpReceiver;

impl PollEventConsumer<Context<'_>> for RtpReceiver {
    fn create_task(&mut self, _event: Event<'_>, _cx: &mut Context<'_>) -> Disposition {
        Disposition::Handled
    }
}
