//! Streams over the shared UDP sockets: the shard's side of `vod::pump`, and the results of
//! runs of every owner.
//!
//! ```text
//!  wheel --> vod::pump --> RingSink --> ring --RunSent--> counted
//!                 ^                                  `-- refused: the stream is told
//!                 `-----------------------------------------------'
//! ```
//! | failure | what is done |
//! |---|---|
//! | `Again`, `Cancelled` | the stream builds the run again |
//! | `TooLarge` | the pair allows fragments, and the run is built again; once a pair |
//! | `Fault` | a file was truncated: the session ends |
//! | `Unreachable`, `Other` | the packets are lost, like any others on the network |
//! | `Closed` | nothing: no client uses the pair any more |
//!
//! An RTCP packet that cannot be sent is given up and counted, as if the network had lost it.

use super::sink::{RingSink, RunOwner};
use crate::base::carrier::Lower;
use crate::consumers::sessions::Sessions;
use crate::session::action::TimerKey;
use crate::shard::network::Network;
use crate::shard::ring::SendFailure;
use crate::shard::ring::kernel::Kernel;
use crate::shard::sockets::pairs::Fragmentation;
use crate::vod::pump::Refused;
use crate::vod::stream::RunMark;

impl<K: Kernel> Network<K> {
    /// Pumps the stream or connection of a timer key that is due.
    pub(in crate::shard) fn pump(&mut self, sessions: &mut Sessions, key: TimerKey) {
        let Self { ring, runs, pairs, srtp, .. } = self;
        let mut sink = RingSink { ring, runs, pairs, srtp };
        if let Some(connection) = sessions.vod.pump(&mut sessions.cx, key, &mut sink) {
            self.entries.mark_dirty(connection);
        }
    }

    /// Frees the owner of a run, and counts the run or handles its failure.
    pub(in crate::shard) fn handle_run_sent(
        &mut self,
        sessions: &mut Sessions,
        token: u32,
        packets: u16,
        result: Result<(), SendFailure>,
    ) {
        // RTCP datagrams and some retransmissions have no owner.
        let Some(owner) = self.runs.get(token as usize) else {
            match (result, packets) {
                (Ok(()), _) => {}
                (Err(_), 0) => self.cells.rtcp_packets_dropped.add(1),
                (Err(_), _) => self.cells.send_errors.add(1),
            }
            return;
        };
        if result.is_ok() {
            let payload_bytes = match owner {
                RunOwner::Title(mark) => {
                    if mark.is_image {
                        self.cells.image_packets.add(u64::from(packets));
                    }
                    Some(mark.payload_bytes)
                }
                RunOwner::Live(mark) => Some(mark.payload_bytes()),
                RunOwner::Resent { .. } => None,
            };
            self.runs.remove(token as usize);
            if let Some(payload_bytes) = payload_bytes {
                self.count_run(packets, payload_bytes);
            }
            return;
        }
        self.handle_run_refused(sessions, token, result);
    }

    /// Counts a run that was sent, as nearly all are. The stream is not looked at: it counted the
    /// packets when it submitted the run.
    fn count_run(&self, packets: u16, payload_bytes: u32) {
        let udp = Lower::Udp as usize;
        self.cells.send_calls[udp].add(1);
        self.cells.rtp_packets_sent[udp].add(u64::from(packets));
        self.cells.rtp_payload_bytes_sent[udp].add(u64::from(payload_bytes));
        if packets > 1 {
            self.cells.gso_segments.add(u64::from(packets));
        }
    }

    #[cold]
    fn handle_run_refused(
        &mut self,
        sessions: &mut Sessions,
        token: u32,
        result: Result<(), SendFailure>,
    ) {
        let (Some(owner), Err(error)) = (self.runs.try_remove(token as usize), result) else {
            return;
        };
        if error == SendFailure::Closed {
            return;
        }
        match owner {
            RunOwner::Title(mark) => self.handle_title_run_refused(sessions, &mark, &error),
            RunOwner::Live(mark) => self.handle_live_run_refused(sessions, &mark, &error),
            RunOwner::Resent { pair } => self.handle_resent_refused(sessions, pair, &error),
        }
    }

    fn handle_title_run_refused(
        &mut self,
        sessions: &mut Sessions,
        mark: &RunMark,
        error: &SendFailure,
    ) {
        let refused = match error {
            SendFailure::Again | SendFailure::Cancelled => Refused::Again,
            SendFailure::TooLarge if self.allow_fragments_of(sessions, mark) => Refused::Again,
            SendFailure::Fault => Refused::Truncated,
            SendFailure::TooLarge
            | SendFailure::Closed
            | SendFailure::Unreachable(_)
            | SendFailure::Other(_) => Refused::Lost,
        };
        sessions.vod.handle_run_refused(&mut sessions.cx, mark, refused);
        if refused == Refused::Lost {
            self.warn_of_lost_packets(error);
        }
    }

    /// Logs, once, why packets of titles or live paths were lost at the socket.
    pub(super) fn warn_of_lost_packets(&mut self, error: &SendFailure) {
        self.warnings.once("HE-W609", "RTP packets could not be sent", error);
    }

    /// Allows fragments on the pair of a stream whose packet is larger than the client's route
    /// takes whole. False: they were allowed when the packet was sent.
    fn allow_fragments_of(&mut self, sessions: &Sessions, mark: &RunMark) -> bool {
        let pair = sessions.vod.players.pair_of(mark);
        pair.is_some_and(|pair| self.allow_fragments_on(sessions, pair))
    }

    /// As `allow_fragments_of`, for a pair.
    pub(in crate::shard) fn allow_fragments_on(&mut self, sessions: &Sessions, pair: u16) -> bool {
        match self.pairs.allow_fragments(&self.ring, pair, sessions.cx.now) {
            Fragmentation::Allowed => {
                tracing::info!(
                    code = "HE-I604",
                    shard = self.id.0,
                    "a client's route is too narrow for whole packets: they are fragmented"
                );
                true
            }
            Fragmentation::AllowedNow => true,
            Fragmentation::Useless => false,
            Fragmentation::Refused(error) => {
                self.warnings.once("HE-W610", "packets cannot be fragmented", &error);
                false
            }
        }
    }
}
