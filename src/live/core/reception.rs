//! Reception figures of one RTP stream, for the receiver reports to its source.
//!
//! RFC 3550 appendix A.1 (numbers), A.3 (loss), A.8 (jitter), without probation: `latch` has
//! checked the sender before. Invariants: any sequence numbers give a report; only numbers that the
//! source used are expected.

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::live::core::clock::ticks_between;
use crate::rtcp::ReportBlock;

/// Counters of one RTP stream: see the module.
#[derive(Debug, Clone)]
pub struct Reception {
    pub(super) ssrc: Ssrc,
    pub(super) clock_rate_hz: u32,
    /// First sequence number, with its wraps counted in the upper 16 bits.
    pub(super) base: u32,
    pub(super) highest: u32,
    pub(super) received: u64,
    /// Expected packets at the last report.
    pub(super) expected_before: u64,
    pub(super) received_before: u64,
    /// Packets lost before the source restarted its numbers.
    pub(super) earlier_lost: i64,
    pub(super) transit: Option<u32>,
    /// Jitter in 16ths of a tick.
    pub(super) jitter: u32,
    /// The middle 32 bits of the newest sender report's NTP time, and the report's arrival.
    pub(super) sender_report: Option<(u32, Mono)>,
}

impl Reception {
    /// A stream that begins with number `seq`.
    #[must_use]
    pub fn new(ssrc: Ssrc, clock_rate_hz: u32, seq: SeqNo) -> Self {
        Self {
            ssrc,
            clock_rate_hz,
            base: seq.0.into(),
            highest: seq.0.into(),
            received: 0,
            expected_before: 0,
            received_before: 0,
            earlier_lost: 0,
            transit: None,
            jitter: 0,
            sender_report: None,
        }
    }

    /// The stream continues under another SSRC.
    pub fn rename(&mut self, ssrc: Ssrc) {
        self.ssrc = ssrc;
    }

    /// Counts a packet.
    pub fn handle_packet(&mut self, seq: SeqNo, ts: RtpTs, now: Mono) {
        let ahead = seq.0.wrapping_sub(self.low_of_highest());
        if ahead < DROPOUT_MAX {
            self.highest = self.highest.wrapping_add(ahead.into());
        } else if ahead < u16::MAX - MISORDER_MAX {
            // The source restarted its numbers, or is another source: the two look the same.
            self.earlier_lost = self.lost();
            (self.base, self.highest) = (seq.0.into(), seq.0.into());
            self.received = 0;
            (self.expected_before, self.received_before) = (0, 0);
        }
        self.received += 1;
        self.handle_transit(ts, now);
    }

    /// Takes a sender report.
    pub fn handle_sender_report(&mut self, ntp: u64, now: Mono) {
        let middle = u32::try_from(ntp >> 16 & 0xffff_ffff).unwrap_or(0);
        self.sender_report = Some((middle, now));
    }

    /// The report block for the source. `sender_ssrc` is the reporter's SSRC.
    pub fn report(&mut self, sender_ssrc: Ssrc, now: Mono) -> ReportBlock {
        let expected = self.expected();
        let expected_since = expected.saturating_sub(self.expected_before);
        let received_since = self.received.saturating_sub(self.received_before);
        (self.expected_before, self.received_before) = (expected, self.received);
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction = (lost_since << 8).checked_div(expected_since).unwrap_or(0);
        let (lsr, dlsr) = self.sender_report.map_or((0, 0), |(middle, came)| {
            let units = now.since(came).as_nanos() * 65_536 / 1_000_000_000;
            (middle, u32::try_from(units).unwrap_or(u32::MAX))
        });
        ReportBlock {
            sender_ssrc: sender_ssrc.0,
            ssrc: self.ssrc.0,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(self.lost().clamp(-LOST_MAX - 1, LOST_MAX)).unwrap_or(0),
            ext_highest_seq: self.highest,
            jitter: self.jitter >> 4,
            lsr,
            dlsr,
        }
    }

    /// Packets received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets lost, negative when packets arrived twice.
    #[must_use]
    pub fn lost(&self) -> i64 {
        let expected = i64::try_from(self.expected()).unwrap_or(i64::MAX);
        let received = i64::try_from(self.received).unwrap_or(i64::MAX);
        self.earlier_lost.saturating_add(expected.saturating_sub(received))
    }

    /// Interarrival jitter in ticks of the clock.
    #[must_use]
    pub fn jitter_ticks(&self) -> u32 {
        self.jitter >> 4
    }

    fn expected(&self) -> u64 {
        u64::from(self.highest.wrapping_sub(self.base)) + 1
    }

    fn low_of_highest(&self) -> u16 {
        let [_, _, high, low] = self.highest.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    //= RFC 3550 s6.4.1: interarrival jitter
    fn handle_transit(&mut self, ts: RtpTs, now: Mono) {
        let ticks = u128::from(now.0) * u128::from(self.clock_rate_hz) / 1_000_000_000;
        let arrival = u32::try_from(ticks & 0xffff_ffff).unwrap_or(0);
        let transit = arrival.wrapping_sub(ts.0);
        if let Some(before) = self.transit {
            let change = ticks_between(RtpTs(before), RtpTs(transit)).unsigned_abs();
            // A jump in time does not count as jitter.
            if change < self.clock_rate_hz.saturating_mul(JITTER_MAX_S) {
                let decay = (self.jitter + 8) >> 4;
                self.jitter = self.jitter.saturating_add(change).saturating_sub(decay);
            }
        }
        self.transit = Some(transit);
    }
}

/// RFC 3550 appendix A.1.
const DROPOUT_MAX: u16 = 3_000;
/// RFC 3550 appendix A.1.
const MISORDER_MAX: u16 = 100;
/// A signed number of 24 bits.
const LOST_MAX: i64 = 0x7f_ffff;
const JITTER_MAX_S: u32 = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn reception(numbers: &[u16]) -> Reception {
        let mut reception = Reception::new(Ssrc(1), 90_000, SeqNo(numbers[0]));
        for (at, seq) in (0_u32..).zip(numbers) {
            reception.handle_packet(SeqNo(*seq), RtpTs(at * 3_600), ms(u64::from(at) * 40));
        }
        reception
    }

    #[test]
    fn loss_is_counted_over_the_wrap_of_numbers_and_since_the_last_report() {
        let mut reception = reception(&[65_534, 65_535, 1, 2]);
        let report = reception.report(Ssrc(9), ms(200));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (51, 1));
        assert_eq!((report.ext_highest_seq, report.jitter), (65_538, 0));
        assert_eq!((report.sender_ssrc, report.ssrc, report.lsr), (9, 1, 0));
        reception.handle_packet(SeqNo(3), RtpTs(0), ms(200));
        let report = reception.report(Ssrc(9), ms(200));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 1));
    }

    #[test]
    fn late_and_double_packets_are_no_loss() {
        let mut reception = reception(&[10, 12, 11, 11]);
        let report = reception.report(Ssrc(9), ms(0));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, -1));
    }

    #[test]
    fn restart_of_sequence_numbers_counts_no_loss() {
        let mut reception = reception(&[10, 11, 40_000, 40_001]);
        assert_eq!(
            (reception.lost(), reception.report(Ssrc(9), ms(0)).ext_highest_seq),
            (0, 40_001)
        );
    }

    #[test]
    fn sender_report_is_answered_with_its_time_and_our_delay() {
        let mut reception = reception(&[1]);
        reception.handle_sender_report(0x1122_3344_5566_7788, ms(1_000));
        let report = reception.report(Ssrc(9), ms(1_500));
        assert_eq!((report.lsr, report.dlsr), (0x3344_5566, 32_768));
    }

    #[test]
    fn jitter_follows_the_spread_of_arrivals_and_not_a_jump_in_time() {
        let mut reception = Reception::new(Ssrc(1), 90_000, SeqNo(0));
        for at in 0..200_u16 {
            let late = u64::from(at % 2) * 10;
            let ts = RtpTs(u32::from(at) * 3_600);
            reception.handle_packet(SeqNo(at), ts, ms(u64::from(at) * 40 + late));
        }
        // Every packet is 10 ms nearer or farther than the one before.
        let jitter = reception.report(Ssrc(9), ms(0)).jitter;
        assert!((880..=900).contains(&jitter), "{jitter}");
        reception.handle_packet(SeqNo(200), RtpTs(1 << 31), ms(8_000));
        assert!(reception.report(Ssrc(9), ms(0)).jitter <= jitter);
    }

    proptest! {
        #[test]
        fn any_numbers_and_times_give_a_report(
            packets in prop::collection::vec((any::<u16>(), any::<u32>(), any::<u64>()), 1..200),
            hz: u32, ntp: u64,
        ) {
            let mut reception = Reception::new(Ssrc(1), hz, SeqNo(packets[0].0));
            for (seq, ts, now) in packets {
                reception.handle_packet(SeqNo(seq), RtpTs(ts), Mono(now));
                reception.handle_sender_report(ntp, Mono(now));
                reception.report(Ssrc(2), Mono(now.wrapping_add(ntp)));
            }
        }
    }
}
