//! Relation between the RTP time of a source and wall-clock time.
//!
//! ```text
//!  sender report: NTP of the source <-> RTP time      the line of a track, exact between tracks
//!  our clock at its arrival                           one offset for the whole source
//! ```
//! Before the first report a track's line is guessed from the arrival of its packets. By default
//! all lines are in the server's wall clock: the source's clock plus an offset that is measured
//! once. So a camera whose clock says 1970 does no harm, and readers see no jump when one source
//! follows another. `keeps_source_time` keeps the source's clock instead. RFC 3550 s6.4.1.
//!
//! Invariant: two tracks of a source keep the distance to each other that its reports state.

use crate::base::ids::RtpTs;
use crate::base::time::rescale;
use crate::live::core::limits::LIVE_TRACKS_MAX;

/// One point of a track's line; the clock rate gives the slope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockPoint {
    /// Nanoseconds since 1970.
    pub utc_ns: i64,
    /// RTP time at that moment.
    pub ts: RtpTs,
}

impl ClockPoint {
    /// RTP time at `utc_ns`.
    #[must_use]
    pub fn ts_at(self, utc_ns: i64, clock_rate_hz: u32) -> RtpTs {
        let ns = utc_ns.saturating_sub(self.utc_ns);
        self.ts.offset_ticks(rescale(ns, NS_PER_S, clock_rate_hz))
    }

    /// The time of RTP time `ts`, taken the nearer way round the circle of 32 bits.
    #[must_use]
    pub fn utc_ns_of(self, ts: RtpTs, clock_rate_hz: u32) -> i64 {
        let ns = rescale(i64::from(ticks_between(self.ts, ts)), clock_rate_hz, NS_PER_S);
        self.utc_ns.saturating_add(ns)
    }
}

/// Ticks from one RTP time to another, the nearer way round.
#[must_use]
pub fn ticks_between(from: RtpTs, to: RtpTs) -> i32 {
    to.0.wrapping_sub(from.0).cast_signed()
}

/// The clocks of all tracks of one source.
#[derive(Debug)]
pub struct SourceClock {
    pub(super) tracks: Vec<TrackClock>,
    keeps_source_time: bool,
    /// The server's clock minus the source's.
    pub(super) offset_ns: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct TrackClock {
    clock_rate_hz: u32,
    pub(super) point: Option<ClockPoint>,
    pub(super) is_reported: bool,
}

impl SourceClock {
    /// Clocks of tracks with these clock rates, without any point yet.
    #[must_use]
    pub fn new(clock_rates_hz: impl IntoIterator<Item = u32>, keeps_source_time: bool) -> Self {
        let track = |clock_rate_hz| TrackClock { clock_rate_hz, point: None, is_reported: false };
        let tracks = clock_rates_hz.into_iter().take(LIVE_TRACKS_MAX).map(track).collect();
        Self { tracks, keeps_source_time, offset_ns: keeps_source_time.then_some(0) }
    }

    /// The newest point of a track's line.
    #[must_use]
    pub fn point(&self, track: u8) -> Option<ClockPoint> {
        self.tracks.get(usize::from(track))?.point
    }

    /// Takes the arrival of a packet: a guess of the line before the first report.
    pub fn handle_packet(&mut self, track: u8, ts: RtpTs, utc_ns: i64) {
        let Some(clock) = self.tracks.get_mut(usize::from(track)) else { return };
        let is_off = clock.point.is_none_or(|point| {
            let expected = point.utc_ns_of(ts, clock.clock_rate_hz);
            expected.abs_diff(utc_ns) > GUESS_OFF_NS
        });
        if !clock.is_reported && is_off {
            clock.point = Some(ClockPoint { utc_ns, ts });
        }
    }

    /// Takes a sender report: RTP time `ts` at the source's time `source_utc_ns`.
    pub fn handle_report(&mut self, track: u8, source_utc_ns: i64, ts: RtpTs, utc_ns: i64) {
        let Some(clock) = self.tracks.get_mut(usize::from(track)) else { return };
        let measured = utc_ns.saturating_sub(source_utc_ns);
        let offset = match self.offset_ns {
            // The source's clock was set, or the server's.
            Some(offset) if !self.keeps_source_time && offset.abs_diff(measured) > STEP_NS => {
                measured
            }
            Some(offset) => offset,
            None => measured,
        };
        self.offset_ns = Some(offset);
        clock.point = Some(ClockPoint { utc_ns: source_utc_ns.saturating_add(offset), ts });
        clock.is_reported = true;
    }

    /// A track restarts under another SSRC: its line is dropped.
    pub fn forget_track(&mut self, track: u8) {
        if let Some(clock) = self.tracks.get_mut(usize::from(track)) {
            (clock.point, clock.is_reported) = (None, false);
        }
    }
}

/// Nanoseconds since 1970 of an NTP timestamp (RFC 3550 s4). Seconds below 2^31 belong to the era
/// that begins in 2036.
#[must_use]
pub fn utc_ns_from_ntp(ntp: u64) -> i64 {
    let seconds = i64::try_from(ntp >> 32).unwrap_or(0);
    let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
    let fraction = (u128::from(ntp & 0xffff_ffff) * u128::from(NS_PER_S)) >> 32;
    let since_1970 = seconds + era - NTP_UNIX_S;
    since_1970
        .saturating_mul(i64::from(NS_PER_S))
        .saturating_add(i64::try_from(fraction).unwrap_or(0))
}

/// A clock that is farther from a packet's arrival is not taken for the server's wall clock.
/// Encoders look ahead for seconds, and their clocks begin with the first picture.
pub(crate) const PLAUSIBLE_NS: u64 = 10_000_000_000;
const NS_PER_S: u32 = 1_000_000_000;
/// Seconds from 1900 to 1970.
const NTP_UNIX_S: i64 = 2_208_988_800;
/// A guessed line is corrected when it is off by more: more than jitter, less than a viewer sees.
const GUESS_OFF_NS: u64 = 150_000_000;
/// An offset that changes by more means that a clock was set.
const STEP_NS: u64 = 5_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rtcp::ntp_from_utc_ns;

    const S: i64 = 1_000_000_000;
    const NOW: i64 = 1_790_000_000 * S;

    #[test]
    fn wall_clock_is_estimated_from_arrivals_before_the_first_sender_report() {
        let mut clock = SourceClock::new([90_000, 8_000], false);
        assert_eq!(clock.point(0), None);
        clock.handle_packet(0, RtpTs(u32::MAX), NOW);
        clock.handle_packet(0, RtpTs(8_999), NOW + S / 10 + 20_000_000);
        assert_eq!(clock.point(0), Some(ClockPoint { utc_ns: NOW, ts: RtpTs(u32::MAX) }));
        assert_eq!(clock.point(0).unwrap().ts_at(NOW + S / 10, 90_000), RtpTs(8_999));
        // The source's time jumps.
        clock.handle_packet(0, RtpTs(900_000), NOW + S);
        assert_eq!(clock.point(0), Some(ClockPoint { utc_ns: NOW + S, ts: RtpTs(900_000) }));
        clock.handle_packet(9, RtpTs(1), NOW);
    }

    #[test]
    fn sender_reports_set_the_offset_of_tracks_and_wall_clock_is_the_servers() {
        let mut clock = SourceClock::new([90_000, 8_000], false);
        clock.handle_packet(0, RtpTs(5), NOW);
        // A camera in 1970; the second report comes 70 ms late.
        clock.handle_report(0, 40 * S, RtpTs(90_000), NOW);
        clock.handle_report(1, 41 * S, RtpTs(16_000), NOW + S + 70_000_000);
        assert_eq!(clock.point(0), Some(ClockPoint { utc_ns: NOW, ts: RtpTs(90_000) }));
        assert_eq!(clock.point(1), Some(ClockPoint { utc_ns: NOW + S, ts: RtpTs(16_000) }));
        // Arrivals change nothing any more.
        clock.handle_packet(0, RtpTs(0), NOW + 9 * S);
        assert_eq!(clock.point(0).unwrap().ts, RtpTs(90_000));
        // Somebody sets the camera's clock.
        clock.handle_report(0, NOW, RtpTs(180_000), NOW + 2 * S);
        assert_eq!(clock.point(0), Some(ClockPoint { utc_ns: NOW + 2 * S, ts: RtpTs(180_000) }));
    }

    #[test]
    fn wall_clock_of_a_trusted_source_is_that_of_its_sender_reports() {
        let mut clock = SourceClock::new([90_000], true);
        clock.handle_report(0, 40 * S, RtpTs(90_000), NOW);
        assert_eq!(clock.point(0), Some(ClockPoint { utc_ns: 40 * S, ts: RtpTs(90_000) }));
        clock.forget_track(0);
        assert_eq!(clock.point(0), None);
    }

    proptest! {
        #[test]
        fn ntp_reads_back_to_the_nanosecond_over_both_eras(utc_ns in 0_i64..4_000_000_000_000_000_000) {
            let back = utc_ns_from_ntp(ntp_from_utc_ns(utc_ns));
            prop_assert!(utc_ns - back <= 1 && utc_ns >= back, "{utc_ns} {back}");
        }

        #[test]
        fn rtp_time_maps_to_wall_clock_and_back(utc_ns in 0..NOW, ts: u32, ahead in -20_000_i64..20_000, hz in 8_000_u32..90_001) {
            let point = ClockPoint { utc_ns, ts: RtpTs(ts) };
            let at = utc_ns + ahead * 1_000_000;
            let error = point.utc_ns_of(point.ts_at(at, hz), hz) - at;
            prop_assert!(error.abs() <= S / i64::from(hz), "{error}");
        }

        #[test]
        fn any_ntp_and_any_time_are_read_without_panic(ntp: u64, ts: u32, utc_ns: i64) {
            let mut clock = SourceClock::new([1, u32::MAX], false);
            clock.handle_report(0, utc_ns_from_ntp(ntp), RtpTs(ts), utc_ns);
            clock.handle_packet(1, RtpTs(ts), utc_ns);
            clock.handle_packet(1, RtpTs(!ts), i64::MAX);
        }
    }
}
