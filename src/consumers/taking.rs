//! Whether the client of a connection takes what it is sent (RFC 9293 s3.8.6).
//!
//! ```text
//! every quarter of a session timeout, where something is outstanding:
//!   it has acknowledged more, or was heard of  --> it lives, however full its window is
//!   neither for a session timeout              --> the connection ends, with the reason
//! ```
//! A player that pauses by not reading keeps its window closed for as long as it likes, and its
//! kernel answers every probe: `TCP_USER_TIMEOUT` would count that as silence and reset the
//! connection. A host that is gone answers nothing, and is found by the same rule. Where nothing
//! is outstanding the kernel's keep-alive finds it.
//!
//! A receive buffer that overflows before the window is closed, as small packets make it, drops
//! packets; then our acknowledgements lie outside the client's window, and its keep-alives come
//! again and again, always the same one. That is heard of, too, at the pace of its kernel.

use std::fmt;
use std::time::Duration;

use crate::base::time::Mono;

/// What the kernel knows of the other end of a connection (`TCP_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerState {
    /// Bytes that it has acknowledged since the connection was made.
    pub acked_bytes: u64,
    /// Segments with data that came from it, repeated ones too.
    pub data_segments: u32,
    /// Bytes wait for it, sent or not.
    pub is_outstanding: bool,
    /// What was sent last, a probe perhaps, is not acknowledged.
    pub is_unanswered: bool,
    /// Since its newest acknowledgement, that of a probe included.
    pub last_ack: Duration,
}

/// What was seen of the client when it was looked at last.
#[derive(Debug, Default)]
pub struct Taking {
    seen: Option<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    peer: PeerState,
    at: Mono,
    /// It had acknowledged more.
    took: Mono,
    /// Segments came that made no message.
    repeated: Option<Mono>,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// Its window is closed, and it sends nothing.
    ReadsNothing,
    /// Its host does not answer any more.
    Gone,
}

impl Taking {
    /// Judges what is seen of the client `now`, which was last heard of at `heard`.
    pub fn judge(
        &mut self,
        peer: &PeerState,
        heard: Mono,
        now: Mono,
        timeout: Duration,
    ) -> Option<Stall> {
        if !peer.is_outstanding {
            self.seen = None;
            return None;
        }
        let mut seen = match self.seen {
            Some(seen) if seen.peer.acked_bytes == peer.acked_bytes => seen,
            _ => Seen { peer: *peer, at: now, took: now, repeated: None },
        };
        if peer.data_segments != seen.peer.data_segments {
            seen.repeated = (heard <= seen.at).then_some(now);
        }
        (seen.peer, seen.at) = (*peer, now);
        self.seen = Some(seen);
        let (last, patience) = match seen.repeated.filter(|at| *at > heard) {
            Some(at) => (at, timeout + REPETITION_MAX),
            None => (heard, timeout),
        };
        if now.since(last.max(seen.took)) < patience {
            return None;
        }
        let is_gone = peer.is_unanswered && peer.last_ack >= timeout / 2;
        Some(if is_gone { Stall::Gone } else { Stall::ReadsNothing })
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadsNothing => "the client has read nothing and sent nothing for too long",
            Self::Gone => "the client's host does not answer any more",
        })
    }
}

/// RFC 6298 s2.5: a segment is sent again after two minutes at the latest, on Linux.
const REPETITION_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn at(second: u64) -> Mono {
        Mono(1_000_000_000_000 + second * 1_000_000_000)
    }

    /// The second at which a client is given up that is looked at every 15 s for ten minutes.
    fn given_up(
        peer: impl Fn(u64) -> PeerState,
        heard: impl Fn(u64) -> u64,
    ) -> Option<(u64, Stall)> {
        let mut taking = Taking::default();
        (0..=600).step_by(15).find_map(|second| {
            let stall = taking.judge(&peer(second), at(heard(second)), at(second), TIMEOUT)?;
            Some((second, stall))
        })
    }

    fn closed_window() -> PeerState {
        PeerState {
            acked_bytes: 7,
            data_segments: 9,
            is_outstanding: true,
            is_unanswered: false,
            // Probes become rare.
            last_ack: Duration::from_secs(50),
        }
    }

    #[test]
    fn client_with_a_full_window_is_kept_while_it_gives_signs_of_life() {
        assert_eq!(given_up(|_| closed_window(), |second| second), None);
    }

    #[test]
    fn client_with_a_full_window_that_says_nothing_ends_with_the_session_timeout() {
        assert_eq!(given_up(|_| closed_window(), |_| 0), Some((60, Stall::ReadsNothing)));
        assert_eq!(
            given_up(|_| closed_window(), |second| second.min(100)),
            Some((165, Stall::ReadsNothing))
        );
    }

    #[test]
    fn keep_alive_that_is_sent_again_and_again_is_a_sign_of_life() {
        // The kernel's pace: twice as long each time, two minutes at most.
        let repeated = |second: u64| match second {
            0..25 => 9,
            25..51 => 10,
            51..102 => 11,
            102..222 => 12,
            _ => 13,
        };
        let peer = |second| PeerState { data_segments: repeated(second), ..closed_window() };
        let given_up = given_up(peer, |_| 1).unwrap();
        assert_eq!(given_up, (225 + 60 + 120, Stall::ReadsNothing), "after the last of them");
    }

    #[test]
    fn message_that_came_whole_is_no_repetition() {
        let peer = |second| PeerState { data_segments: (second >= 20).into(), ..closed_window() };
        let heard = |second| if second >= 20 { 20 } else { 0 };
        assert_eq!(given_up(peer, heard), Some((90, Stall::ReadsNothing)));
    }

    #[test]
    fn client_that_reads_slowly_needs_no_other_sign_of_life() {
        let sips = |second| PeerState { acked_bytes: second / 45, ..closed_window() };
        assert_eq!(given_up(sips, |_| 0), None);
    }

    #[test]
    fn host_that_does_not_answer_is_distinguished_from_a_client_that_reads_nothing() {
        let gone = |second| PeerState {
            is_unanswered: true,
            last_ack: Duration::from_secs(second),
            ..closed_window()
        };
        assert_eq!(given_up(gone, |_| 0), Some((60, Stall::Gone)));
    }

    #[test]
    fn client_without_outstanding_bytes_is_not_stalled() {
        let idle = |_| PeerState { is_outstanding: false, ..closed_window() };
        assert_eq!(given_up(idle, |_| 0), None);
        // Time begins with what is sent then.
        let from_300 = |second| PeerState { is_outstanding: second >= 300, ..closed_window() };
        assert_eq!(given_up(from_300, |_| 0), Some((360, Stall::ReadsNothing)));
    }
}
