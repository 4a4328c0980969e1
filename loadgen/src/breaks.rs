//! Breaks of a live stream: in the midst of it its source begins anew, or another one takes over.
//!
//! ```text
//! ssrc 7: 100 101 102 |  ssrc 7: 9000 9001 ..     a jump: twice in a row, it is a new beginning
//! ssrc 7: 100 101 102 |  ssrc 9: 500 501 ..       another source: likewise
//! ```
//! RFC 3550 appendix A.1: what does not fit is believed when the next packet goes on with it. The
//! first one of the two is given up. A title has no breaks: there a jump is a loss, and another
//! source a fault.
//! Invariant: one strange packet alone changes nothing.

/// RFC 3550 A.1, MAX_DROPOUT: a larger gap is no loss.
pub const DROPOUT_MAX: u16 = 3_000;
/// Packets that come late by less are just late.
const LATE_MAX: u16 = 512;

/// What a packet is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It goes on, or it is no concern of this file.
    Usual,
    /// It does not fit; the next one will tell.
    Strange,
    /// The second one that does not fit, and fits the first.
    Begins,
}

/// Looks out for breaks of one stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Breaks {
    is_live: bool,
    /// Source and number that would make a break of the packet before.
    awaited: Option<(u32, u16)>,
}

impl Breaks {
    /// The stream is live.
    pub const fn handle_live(&mut self) {
        self.is_live = true;
    }

    /// A packet has come; `highest` is the newest number of the stream.
    pub fn handle_packet(
        &mut self,
        is_other: bool,
        highest: Option<u16>,
        (ssrc, seq): (u32, u16),
    ) -> Fit {
        if !self.is_live {
            return Fit::Usual;
        }
        let is_near = highest.is_none_or(|highest| {
            let ahead = seq.wrapping_sub(highest);
            ahead <= DROPOUT_MAX || ahead >= u16::MAX - LATE_MAX
        });
        if is_near && !is_other {
            self.awaited = None;
            return Fit::Usual;
        }
        if self.awaited.take() == Some((ssrc, seq)) {
            return Fit::Begins;
        }
        self.awaited = Some((ssrc, seq.wrapping_add(1)));
        Fit::Strange
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_is_believed_the_second_time_and_a_gap_is_not_one() {
        let mut breaks = Breaks::default();
        assert_eq!(breaks.handle_packet(true, Some(9), (1, 60_000)), Fit::Usual, "not live");
        breaks.handle_live();
        let mut at = |is_other, seq| breaks.handle_packet(is_other, Some(100), (7, seq));
        assert_eq!([at(false, 101), at(false, 3_100), at(false, 65_200)], [Fit::Usual; 3]);
        assert_eq!(at(false, 9_000), Fit::Strange);
        assert_eq!(at(false, 102), Fit::Usual, "a stray one");
        assert_eq!(at(false, 9_001), Fit::Strange);
        assert_eq!(at(false, 9_002), Fit::Begins);
        assert_eq!([at(true, 103), at(true, 104)], [Fit::Strange, Fit::Begins]);
    }
}
