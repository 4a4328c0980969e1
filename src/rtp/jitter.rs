//! Interarrival jitter (RFC 3550 s6.4.1 and appendix A.8): how unevenly packets come, compared to
//! their timestamps, as a running mean in ticks of the stream's clock.
//!
//! Bound: two numbers a stream. Timestamps that jump give a spike that decays, never a panic.

use crate::base::ids::RtpTs;
use crate::base::time::Mono;

/// Running mean of the interarrival jitter.
#[derive(Debug, Clone)]
pub struct JitterMeter {
    clock_rate_hz: u32,
    transit: Option<u32>,
    /// Sixteen times the jitter, so that the mean keeps its fractions.
    jitter_16: u32,
}

impl JitterMeter {
    /// No packet yet.
    #[must_use]
    pub fn new(clock_rate_hz: u32) -> Self {
        Self { clock_rate_hz, transit: None, jitter_16: 0 }
    }

    /// Takes the arrival of a packet. Retransmissions and packets of the past do not count.
    pub fn handle_packet(&mut self, now: Mono, ts: RtpTs) {
        let transit = ticks(now, self.clock_rate_hz).wrapping_sub(ts.0);
        if let Some(before) = self.transit.replace(transit) {
            let difference = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            //= RFC 3550 A.8: J += |D| - J/16, rounded
            let decay = self.jitter_16.saturating_add(8) >> 4;
            self.jitter_16 = self.jitter_16.saturating_add(difference).saturating_sub(decay);
        }
    }

    /// For a report block, in ticks of the clock.
    #[must_use]
    pub fn jitter_rtp(&self) -> u32 {
        self.jitter_16 >> 4
    }

    /// The source has begun anew, or was silent: the next packet only sets the start.
    pub fn handle_restart(&mut self) {
        self.transit = None;
    }
}

/// Arrival in ticks; only differences matter, so it may wrap.
#[expect(clippy::cast_possible_truncation, reason = "modulo 2^32, as timestamps are")]
fn ticks(now: Mono, clock_rate_hz: u32) -> u32 {
    (u128::from(now.0) * u128::from(clock_rate_hz) / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meter(arrivals_ms: &[u64]) -> u32 {
        let mut meter = JitterMeter::new(90_000);
        for (place, ms) in (0u32..).zip(arrivals_ms) {
            // 40 ms a frame, with a start close to the wrap.
            let ts = RtpTs(0xffff_ff00_u32.wrapping_add(place * 3_600));
            meter.handle_packet(Mono(ms * 1_000_000), ts);
        }
        meter.jitter_rtp()
    }

    #[test]
    fn even_packets_have_no_jitter() {
        assert_eq!(meter(&[0, 40, 80, 120, 160, 200]), 0);
    }

    //= test RFC 3550 A.8
    #[test]
    fn one_packet_late_by_10_ms_counts_a_sixteenth() {
        // D = 900 ticks: 900 / 16 = 56.
        assert_eq!(meter(&[0, 50]), 56);
        assert_eq!(meter(&[0, 50, 80]), 109);
    }

    #[test]
    fn steady_unevenness_converges() {
        let arrivals: Vec<u64> = (0..500).map(|i| i * 40 + (i % 2) * 10).collect();
        assert!((890..=900).contains(&meter(&arrivals)), "{}", meter(&arrivals));
    }

    #[test]
    fn restart_does_not_count_the_gap() {
        let mut meter = JitterMeter::new(8_000);
        meter.handle_packet(Mono(0), RtpTs(0));
        meter.handle_restart();
        meter.handle_packet(Mono(1_000_000_000), RtpTs(0x8000_0000));
        assert_eq!(meter.jitter_rtp(), 0);
    }

    proptest! {
        #[test]
        fn any_times_are_taken(packets in prop::collection::vec(any::<(u64, u32)>(), 0..50), hz: u32) {
            let mut meter = JitterMeter::new(hz);
            for (now, ts) in packets {
                meter.handle_packet(Mono(now), RtpTs(ts));
            }
            let _ = meter.jitter_rtp();
        }
    }
}
