//! When to send the next report: RFC 3550 s6.3.1 and its appendix A.7.
//!
//! Reports take 5 % of the session's bandwidth, a quarter of it for senders while they are few;
//! never closer than a minimum, spread by a random factor so that members do not fall into step.
//! The minimum is reduced for senders as s6.2 allows (360 divided by the bandwidth in kbit/s), but
//! not below a second: at 5 Mbit/s it would be 14 reports a second, for nobody's good.
//! Bound: `INTERVAL_MAX_S`; numbers that make no sense give the usual five seconds.

use std::time::Duration;

/// The time until the next report.
///
/// - `session_bandwidth_bits`: per second, without RTCP; 0 when it is not known.
/// - `members`, `senders`: as far as known, us included.
/// - `we_sent`: RTP since the report before the last.
/// - `avg_rtcp_bytes`: size of compound packets, with UDP and IP headers.
/// - `initial`: nothing was sent yet; the minimum is halved.
/// - `random_0_1`: uniform; outside of 0 to 1 it is clamped.
#[must_use]
pub fn interval(
    session_bandwidth_bits: u64,
    members: u32,
    senders: u32,
    we_sent: bool,
    avg_rtcp_bytes: f64,
    initial: bool,
    random_0_1: f64,
) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a rate, 53 bits are plenty")]
    let bandwidth_bits = session_bandwidth_bits as f64;
    let rtcp_bits = bandwidth_bits * RTCP_SHARE;
    let (members, senders) = (f64::from(members.max(1)), f64::from(senders));
    //= RFC 3550 s6.3.1: senders have a share of their own while they are at most a quarter
    let (share_bits, sharers) = if senders > members * SENDER_SHARE {
        (rtcp_bits, members)
    } else if we_sent {
        (rtcp_bits * SENDER_SHARE, senders.max(1.0))
    } else {
        (rtcp_bits * (1.0 - SENDER_SHARE), (members - senders).max(1.0))
    };
    let minimum_s = minimum_s(bandwidth_bits, we_sent) / if initial { 2.0 } else { 1.0 };
    let fair_s = avg_rtcp_bytes.max(0.0) * 8.0 * sharers / share_bits;
    let calculated_s = if fair_s.is_finite() { fair_s.max(minimum_s) } else { minimum_s };
    let random = if random_0_1.is_nan() { 0.5 } else { random_0_1.clamp(0.0, 1.0) };
    let spread_s = calculated_s * (random + 0.5) / COMPENSATION;
    Duration::from_secs_f64(spread_s.clamp(0.0, INTERVAL_MAX_S))
}

//= RFC 3550 s6.2: 360 divided by the bandwidth in kilobits per second
fn minimum_s(bandwidth_bits: f64, we_sent: bool) -> f64 {
    if !we_sent || bandwidth_bits <= 0.0 {
        return MINIMUM_S;
    }
    (360_000.0 / bandwidth_bits).clamp(REDUCED_MINIMUM_S, MINIMUM_S)
}

/// RTCP's share of the session bandwidth.
const RTCP_SHARE: f64 = 0.05;
/// Senders' share of that.
const SENDER_SHARE: f64 = 0.25;
const MINIMUM_S: f64 = 5.0;
/// Least interval to the first report. Lip sync needs the first report early.
const REDUCED_MINIMUM_S: f64 = 1.0;
/// s6.3.1: e - 3/2, for the reconsideration that settles below the intended average.
const COMPENSATION: f64 = std::f64::consts::E - 1.5;
/// A quarter of an hour: past it a stream would look dead whatever the bandwidth.
const INTERVAL_MAX_S: f64 = 900.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// At the middle of the spread, times the compensation: the calculated interval.
    fn calculated_ms(
        kbit: u64,
        members: u32,
        senders: u32,
        we_sent: bool,
        bytes: f64,
        initial: bool,
    ) -> u128 {
        let middle = interval(kbit * 1_000, members, senders, we_sent, bytes, initial, 0.5);
        middle.mul_f64(COMPENSATION).as_millis()
    }

    //= test RFC 3550 s6.3.1
    #[test]
    fn many_receivers_share_three_quarters() {
        // 100 bytes x 8 x 999 receivers / (1 Mbit/s x 5 % x 75 %)
        assert_eq!(calculated_ms(1_000, 1_000, 1, false, 100.0, false), 21_312);
        // One sender has the other quarter for itself: below every minimum.
        assert_eq!(calculated_ms(1_000, 1_000, 1, true, 100.0, false), 1_000);
        // More than a quarter send: all share all.
        assert_eq!(calculated_ms(1_000, 1_000, 251, true, 100.0, false), 16_000);
        assert_eq!(calculated_ms(1_000, 1_000, 251, false, 100.0, false), 16_000);
    }

    //= test RFC 3550 s6.2
    #[test]
    fn minimum_is_reduced_for_senders_and_halved_at_first() {
        assert_eq!(calculated_ms(64, 2, 1, true, 100.0, false), 5_000);
        assert_eq!(calculated_ms(144, 2, 1, true, 100.0, false), 2_500);
        assert_eq!(calculated_ms(5_000, 2, 1, true, 100.0, false), 1_000);
        assert_eq!(calculated_ms(5_000, 2, 1, true, 100.0, true), 500);
        assert_eq!(calculated_ms(5_000, 2, 1, false, 100.0, false), 5_000);
        assert_eq!(calculated_ms(5_000, 2, 1, false, 100.0, true), 2_500);
    }

    #[test]
    fn random_spreads_from_half_to_three_halves() {
        let at = |random| interval(0, 2, 1, true, 100.0, false, random).as_millis();
        assert_eq!((at(0.0), at(0.5), at(1.0)), (2_052, 4_104, 6_156));
        assert_eq!((at(-1.0), at(f64::NAN), at(9.0)), (2_052, 4_104, 6_156));
    }

    proptest! {
        #[test]
        fn any_numbers_stay_between_the_bounds(
            bandwidth: u64, members: u32, senders: u32, we_sent: bool, bytes: f64, initial: bool,
            random: f64,
        ) {
            let time = interval(bandwidth, members, senders, we_sent, bytes, initial, random);
            prop_assert!(time >= Duration::from_millis(200));
            prop_assert!(time <= Duration::from_secs(900));
        }

        #[test]
        fn more_members_never_make_it_shorter(
            bandwidth in 1_000u64..10_000_000, members in 8u32..100_000, random in 0.0f64..1.0,
        ) {
            let time = |members| interval(bandwidth, members, 1, false, 90.0, false, random);
            prop_assert!(time(members + 1) >= time(members));
        }
    }
}
