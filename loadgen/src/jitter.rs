//! Interarrival jitter as receiver reports carry it.
//!
//! RFC 3550 s6.4.1 and appendix A.8, in sixteenths of a tick. Arrival is taken modulo 32 bits of
//! RTP time, since only differences of transit times matter.

use crate::time::Mono;

const NS_PER_S: u64 = 1_000_000_000;

/// Jitter of one stream.
#[derive(Debug, Default)]
pub struct Jitter {
    transit: Option<u32>,
    scaled: u32,
}

impl Jitter {
    /// A packet that continues the stream has come.
    pub fn handle_packet(&mut self, timestamp: u32, arrival: Mono, clock_rate_hz: u32) {
        let (seconds, rest) = (arrival.as_ns() / NS_PER_S, arrival.as_ns() % NS_PER_S);
        let rate = u64::from(clock_rate_hz);
        let ticks = seconds.wrapping_mul(rate).wrapping_add(rest.wrapping_mul(rate) / NS_PER_S);
        let arrival_rtp = u32::try_from(ticks & u64::from(u32::MAX)).unwrap_or(0);
        let transit = arrival_rtp.wrapping_sub(timestamp);
        if let Some(last) = self.transit {
            let change = transit.wrapping_sub(last).cast_signed().unsigned_abs();
            let decay = self.scaled.saturating_add(8) >> 4;
            self.scaled = self.scaled.saturating_add(change).saturating_sub(decay);
        }
        self.transit = Some(transit);
    }

    /// The stream goes on elsewhere: what lies between is not jitter.
    pub const fn handle_break(&mut self) {
        self.transit = None;
    }

    /// In timestamp units.
    #[must_use]
    pub const fn rounded(&self) -> u32 {
        self.scaled >> 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_of_a_steady_stream_is_zero_and_grows_with_disorder() {
        let mut jitter = Jitter::default();
        for n in 0..50u32 {
            jitter.handle_packet(n * 3_600, Mono::from_ns(u64::from(n) * 40_000_000), 90_000);
        }
        assert_eq!(jitter.rounded(), 0);
        for n in 50..150u32 {
            let shift = if n % 2 == 0 { 10_000_000 } else { 0 };
            let at = Mono::from_ns(u64::from(n) * 40_000_000 + shift);
            jitter.handle_packet(n * 3_600, at, 90_000);
        }
        // Alternating by 10 ms: the mean difference is 900 ticks.
        assert!((850..=900).contains(&jitter.rounded()), "{}", jitter.rounded());
    }

    #[test]
    fn pause_of_the_stream_is_no_jitter() {
        let mut jitter = Jitter::default();
        jitter.handle_packet(0, Mono::from_ns(0), 90_000);
        jitter.handle_break();
        jitter.handle_packet(90_000 * 60, Mono::from_ns(5), 90_000);
        assert_eq!(jitter.rounded(), 0);
    }
}
