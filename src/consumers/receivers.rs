//! Receivers of the shared sockets: one for all clients of a pair (reference 001).

use std::sync::Arc;

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

/// `RtpReceiver`: what arrives at the RTP port of a pair. Publishers send there, and players knock
/// to open their NAT (client rule C21).
#[derive(Debug)]
pub struct RtpReceiver {
    /// Which pair of the shard.
    pub pair: u16,
}

impl PollEventConsumer<Context<'_>> for RtpReceiver {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        if let Event::Datagram { from, bytes } = event {
            cx.sessions.live.sources.handle_rtp_datagram(
                &mut cx.sessions.cx,
                self.pair,
                canonical(from),
                bytes,
            );
        }
        Disposition::Handled
    }
}

/// `GroupReceiver`: what members of a live path's group report to it. Publishers send elsewhere.
#[derive(Debug)]
pub struct GroupReceiver {
    /// Whose group.
    pub path: Arc<str>,
}

impl PollEventConsumer<Context<'_>> for GroupReceiver {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        if let Event::Datagram { from, bytes } = event {
            cx.sessions.live.readers.handle_group_datagram(
                &mut cx.sessions.cx,
                &cx.sessions.live.hub,
                &self.path,
                canonical(from),
                bytes,
            );
        }
        Disposition::Handled
    }
}
