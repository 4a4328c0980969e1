//! When the next receiver report of one RTP session is due.
//!
//! ```text
//! T = max(5 s, members * average size / bandwidth of RTCP)     2.5 s before the first report
//! next = T * random(0.5 .. 1.5) / (e - 3/2)
//! ```
//! RFC 3550 s6.2, s6.3.1 and appendix A.7. A unicast stream has two members, the server and we;
//! with one sender of two the whole RTCP bandwidth is shared by both. The bandwidth is a twentieth
//! of what the stream was seen to use, so that a stream of a few packets gets few reports.
//! Nobody else is there to reconsider the timer for (s6.3.3).
//! Invariant: an interval is never shorter than half a minimum over the compensation.

use std::time::Duration;

/// RFC 3550 s6.2: the recommended least interval.
pub const INTERVAL_MIN: Duration = Duration::from_secs(5);
/// Part of the session's bandwidth that RTCP takes.
const RTCP_PART: f64 = 0.05;
const MEMBERS: f64 = 2.0;
/// e - 3/2: makes up for the mean that timer reconsideration moves (s6.3.1).
const COMPENSATION: f64 = 1.218_28;
/// UDP and IPv4 headers count as part of a packet (s6.2).
const LOWER_HEADERS_BYTES: f64 = 28.0;
/// A slow stream still gets a report now and then.
const INTERVAL_MAX: Duration = Duration::from_secs(600);

/// Timing of the reports of one stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReportInterval {
    average_bytes: Option<f64>,
    has_reported: bool,
}

impl ReportInterval {
    /// A compound RTCP packet was sent or received.
    pub fn handle_packet(&mut self, bytes: usize) {
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) + LOWER_HEADERS_BYTES;
        let average = self.average_bytes.unwrap_or(bytes);
        self.average_bytes = Some(average + (bytes - average) / 16.0);
    }

    /// A report of ours went out: from here on the full minimum holds.
    pub const fn handle_reported(&mut self) {
        self.has_reported = true;
    }

    /// Time to the next report of a stream of `rtp_bytes_per_s`; `random` is even in 0 to 1.
    #[must_use]
    pub fn next(&self, rtp_bytes_per_s: f64, random: f64) -> Duration {
        let least = if self.has_reported { INTERVAL_MIN } else { INTERVAL_MIN / 2 };
        let bandwidth = rtp_bytes_per_s * RTCP_PART;
        let needed = self.average_bytes.unwrap_or(0.0) * MEMBERS / bandwidth;
        // No bandwidth, as before the first packet, says nothing.
        let needed = Duration::try_from_secs_f64(needed).unwrap_or(Duration::ZERO);
        let interval = needed.clamp(least, INTERVAL_MAX);
        interval.mul_f64((random.clamp(0.0, 1.0) + 0.5) / COMPENSATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_report_comes_at_half_the_minimum() {
        //= test RFC 3550 s6.2: "the delay before the first packet is half the minimum"
        let mut interval = ReportInterval::default();
        interval.handle_packet(100);
        assert_eq!(interval.next(250_000.0, 0.5), Duration::from_millis(2_500).div_f64(1.218_28));
        interval.handle_reported();
        assert_eq!(interval.next(250_000.0, 0.5), INTERVAL_MIN.div_f64(1.218_28));
        assert_eq!(interval.next(250_000.0, 1.0), INTERVAL_MIN.mul_f64(1.5 / 1.218_28));
    }

    #[test]
    fn thin_stream_is_reported_on_as_its_bandwidth_allows() {
        let mut interval = ReportInterval::default();
        interval.handle_packet(72);
        interval.handle_reported();
        // 100 bytes and 2 members, 5 % of 100 bytes/s: 40 s.
        let next = interval.next(100.0, 0.5).as_secs_f64() * 1.218_28;
        assert!((next - 40.0).abs() < 0.001, "{next}");
    }

    #[test]
    fn stream_without_packets_has_the_minimum() {
        let interval = ReportInterval::default();
        assert!(interval.next(0.0, 0.0) >= Duration::from_secs(1));
        assert!(interval.next(f64::NAN, 1.0) <= INTERVAL_MIN);
    }
}
