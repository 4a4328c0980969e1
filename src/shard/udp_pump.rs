//! Streams over the shared UDP sockets: the ring's side of `session::pump`.
//!
//! ```text
//!  wheel --> session::pump --> RingSink --> ring --RunSent--> counted
//!                 ^                                  `-- refused: the stream is told
//!                 `-----------------------------------------------'
//! ```

use super::live_pump::is_live_run;
use super::resend::is_resent;
use super::ring::SendFailure;
use super::sink::RingSink;
use super::sockets::set_fragmentation;
use super::turn::Shard;
use crate::metrics::cells::TransportKind;
use crate::session::pump::Refused;
use crate::session::stream::RunMark;
use crate::session::table::TimerKey;

impl Shard {
    /// A stream's key of the wheel has come up.
    pub(super) fn pump(&mut self, key: TimerKey) {
        let Self { sessions, ring, runs, pairs, .. } = self;
        let mut sink = RingSink { ring, runs, pairs };
        if let Some(connection) = sessions.vod.pump(&mut sessions.cx, key, &mut sink) {
            self.mark_dirty(connection);
        }
    }

    /// The kernel has taken a run, or not.
    pub(super) fn handle_run_sent(
        &mut self,
        token: u32,
        packets: u16,
        result: Result<(), SendFailure>,
    ) {
        if is_resent(token) {
            self.handle_resent(token, result);
            return;
        }
        if is_live_run(token) {
            self.handle_live_run_sent(token, packets, result);
            return;
        }
        let Some(mark) = self.runs.try_remove(token as usize) else { return };
        match result {
            Ok(()) => {
                let udp = TransportKind::Udp as usize;
                self.cells.send_calls[udp].add(1);
                self.cells.rtp_packets_sent[udp].add(u64::from(packets));
                self.cells.rtp_payload_bytes_sent[udp].add(u64::from(mark.payload_bytes));
                if packets > 1 {
                    self.cells.gso_segments.add(u64::from(packets));
                }
            }
            Err(error) => self.handle_run_refused(&mark, &error),
        }
    }

    #[cold]
    fn handle_run_refused(&mut self, mark: &RunMark, error: &SendFailure) {
        let refused = match error {
            SendFailure::Again | SendFailure::Cancelled => Refused::Again,
            SendFailure::TooLarge if self.allow_fragments_of(mark) => Refused::Again,
            SendFailure::Fault => Refused::Truncated,
            _ => Refused::Lost,
        };
        self.sessions.vod.handle_run_refused(&mut self.sessions.cx, mark, refused);
        if refused == Refused::Lost {
            self.warn_once("RTP packets could not be sent", error);
        }
    }

    /// A packet is larger than the client's route takes whole: from now on the pair's packets may
    /// be cut on the way. False when they might when it was sent.
    fn allow_fragments_of(&mut self, mark: &RunMark) -> bool {
        let pair = self.sessions.vod.pair_of(mark);
        pair.is_some_and(|pair| self.allow_fragments_on(pair))
    }

    /// The same, by the pair.
    pub(super) fn allow_fragments_on(&mut self, pair: u16) -> bool {
        let now = self.sessions.cx.now;
        let Some(Some(pair)) = self.pairs.get_mut(usize::from(pair)) else { return false };
        if let Some(since) = pair.fragments_since {
            return since == now;
        }
        pair.fragments_since = Some(now);
        let (socket, family) = (pair.rtp, pair.family);
        match set_fragmentation(self.ring.fd(socket), family, true) {
            Ok(()) => {
                tracing::info!(
                    shard = self.id.0,
                    "a client's route is too narrow for whole packets: they are fragmented"
                );
                true
            }
            Err(error) => {
                self.warn_once("packets cannot be fragmented", &error);
                false
            }
        }
    }
}
