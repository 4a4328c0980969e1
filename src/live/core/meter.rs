//! Counters and bit rate of a source's tracks, beside the figures of its reports.
//!
//! Counting costs a few additions for each packet of the source, and nothing for each reader.
//! Bound: `SAMPLES` samples of a rate.

use std::time::Duration;

use crate::base::ids::RtpTs;
use crate::base::time::Mono;
use crate::live::core::reception::Reception;

/// Bit rate over the last seconds: one sample a second, the newest compared with the oldest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    samples: [(Mono, u64); SAMPLES],
    count: usize,
}

impl Rate {
    /// Takes a sample of the sum of all bytes: to be called every second or so.
    pub fn measure(&mut self, bytes: u64, now: Mono) {
        self.samples.rotate_right(1);
        self.samples[0] = (now, bytes);
        self.count = (self.count + 1).min(SAMPLES);
    }

    /// Bits per second; zero before there are two samples.
    #[must_use]
    pub fn bits_per_s(&self) -> u64 {
        let Some(oldest) = self.count.checked_sub(1) else { return 0 };
        let ((newest, to), (before, from)) = (self.samples[0], self.samples[oldest]);
        let ns = newest.since(before).as_nanos();
        let bits = u128::from(to.wrapping_sub(from)) * 8 * 1_000_000_000;
        bits.checked_div(ns).and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
    }
}

/// Counters of one track.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrackMeter {
    /// Packets taken.
    pub packets: u64,
    /// Bytes of the packets taken.
    pub bytes: u64,
    /// Arrival of the newest packet.
    pub newest: Option<Mono>,
    /// Payload type of the newest packet.
    pub payload_type: Option<u8>,
    /// RTP time from the newest key frame but one to the newest.
    pub gop_ticks: Option<u32>,
    /// Packets lost in RTP streams before the present one.
    pub(super) lost_before: i64,
}

impl TrackMeter {
    pub(crate) fn handle_packet(&mut self, payload_type: u8, bytes: usize, now: Mono) {
        self.packets += 1;
        self.bytes += bytes as u64;
        (self.newest, self.payload_type) = (Some(now), Some(payload_type));
    }

    /// A key frame begins; `before` is the time of the preceding one in the same RTP stream.
    pub(crate) fn handle_sync(&mut self, before: Option<RtpTs>, ts: RtpTs) {
        self.gop_ticks = before.map(|before| ts.0.wrapping_sub(before.0));
    }

    /// Another RTP stream takes over.
    pub(crate) fn handle_end_of_stream(&mut self, reception: Option<&Reception>) {
        self.lost_before = self.lost(reception);
    }

    /// Packets lost in all RTP streams.
    #[must_use]
    pub fn lost(&self, reception: Option<&Reception>) -> i64 {
        self.lost_before.saturating_add(reception.map_or(0, Reception::lost))
    }
}

/// Gaps between a source's packets: the longest of the recent ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gaps {
    /// Arrivals of the first and the newest packet.
    heard: Option<(Mono, Mono)>,
    /// Start of the present period.
    period: Mono,
    /// The longest gap of the present period and of the one before.
    longest: [Duration; 2],
}

impl Gaps {
    /// A packet arrived.
    pub fn handle_packet(&mut self, now: Mono) {
        let Some((_, newest)) = &mut self.heard else {
            (self.heard, self.period) = (Some((now, now)), now);
            return;
        };
        let gap = now.since(*newest);
        *newest = now;
        if now.since(self.period) >= GAPS_PERIOD {
            self.longest = [Duration::ZERO, self.longest[0]];
            self.period = now;
        }
        self.longest[0] = self.longest[0].max(gap);
    }

    /// The longest gap that ended within `GAPS_PERIOD`, or somewhat before.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.longest[0].max(self.longest[1])
    }

    /// Time from the first packet to the newest.
    #[must_use]
    pub fn heard_for(&self) -> Duration {
        self.heard.map_or(Duration::ZERO, |(first, newest)| newest.since(first))
    }
}

/// A camera that sends a frame every 12 s shows three gaps in this time.
const GAPS_PERIOD: Duration = Duration::from_secs(30);

/// Six points in time, five seconds between the first and the last.
const SAMPLES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_that_of_the_last_five_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.bits_per_s(), 0);
        let at = |s: u64| Mono(s * 1_000_000_000);
        rate.measure(0, at(0));
        assert_eq!(rate.bits_per_s(), 0, "one point is no line");
        rate.measure(1_000, at(1));
        assert_eq!(rate.bits_per_s(), 8_000);
        for s in 2..10 {
            rate.measure(1_000 + (s - 1) * 3_000, at(s));
        }
        assert_eq!(rate.bits_per_s(), 24_000);
        rate.measure(rate.samples[0].1, at(9));
        rate.measure(0, at(9));
        let _any_number_without_panic = rate.bits_per_s();
    }

    #[test]
    fn longest_gap_is_one_of_the_last_half_minute_at_least() {
        let mut gaps = Gaps::default();
        assert_eq!((gaps.longest(), gaps.heard_for()), (Duration::ZERO, Duration::ZERO));
        let mut now = Mono(5);
        // (gap in ms, packets, longest afterwards)
        for (gap_ms, count, longest_ms) in
            [(12_000, 10, 12_000), (40, 749, 12_000), (40, 1_500, 40), (45_000, 1, 45_000)]
        {
            for _ in 0..count {
                gaps.handle_packet(now);
                now = now + Duration::from_millis(gap_ms);
            }
            gaps.handle_packet(now);
            assert_eq!(gaps.longest(), Duration::from_millis(longest_ms), "{gap_ms}");
        }
        assert_eq!(gaps.heard_for(), now.since(Mono(5)));
    }

    #[test]
    fn losses_of_rtp_streams_add_up_and_groups_of_pictures_are_measured_across_the_wrap() {
        use crate::base::ids::{SeqNo, Ssrc};
        let stream = |numbers: [u16; 2]| {
            let mut reception = Reception::new(Ssrc(1), 90_000, SeqNo(numbers[0]));
            for seq in numbers {
                reception.handle_packet(SeqNo(seq), RtpTs(0), Mono(0));
            }
            reception
        };
        let mut meter = TrackMeter::default();
        let first = stream([1, 4]);
        assert_eq!(meter.lost(Some(&first)), 2);
        meter.handle_end_of_stream(Some(&first));
        assert_eq!(meter.lost(Some(&stream([9, 11]))), 3);
        meter.handle_sync(None, RtpTs(7));
        assert_eq!(meter.gop_ticks, None);
        meter.handle_sync(Some(RtpTs(u32::MAX)), RtpTs(89_999));
        assert_eq!(meter.gop_ticks, Some(90_000));
    }
}
