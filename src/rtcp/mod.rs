//! RTCP (RFC 3550 s6): the reports we send, and what players and publishers report back.
//!
//! ```text
//! stream -> CompoundWriter -> SR | RR, SDES(CNAME) [, NACK, PLI, FIR] [, BYE]   one datagram
//! peer   -> packets -> one Packet after the other, borrowed
//!           parse   -> report blocks and BYEs as lists                     all else skipped
//! ```
//! Both are ours, checked against the `rtcp-types` crate in tests. Its parser wants SR or RR first
//! and gives the whole up at the first packet that it does not like; its writers allocate several
//! times for each report, and a report is due every second for each of thousands of streams.
//! Invariant: no input panics. Bound: `REPORTS_MAX` report blocks and `BYES_MAX` BYEs a packet.
//!
//! [`interval`] says when to send.

mod compound;
mod feedback;
pub mod interval;
mod packet;
mod parse;
mod write;

pub use compound::{CompoundWriter, NoRoom, REPORT_BYTES_MAX, SenderInfo};
pub use packet::{
    Blocks, Bye, FIRS_MAX, Fir, NACK_PAIRS_MAX, Nack, Packet, Packets, Sdes, packets,
};
pub use parse::{BYES_MAX, Feedback, REPORTS_MAX, ReportBlock, RtcpError, parse};
pub use write::{write_empty_rr_bye, write_sender_report};

/// NTP timestamp (RFC 3550 s4) of a time in nanoseconds since 1970: seconds since 1900 in the
/// upper 32 bits (modulo 2^32: era 1 begins in 2036), fractions in the lower.
#[must_use]
pub fn ntp_from_utc_ns(utc_ns: i64) -> u64 {
    let seconds = utc_ns.div_euclid(NS_PER_S).wrapping_add(NTP_UNIX_S) & 0xffff_ffff;
    let fraction = (i128::from(utc_ns.rem_euclid(NS_PER_S)) << 32) / i128::from(NS_PER_S);
    u64::try_from(seconds).unwrap_or(0) << 32 | u64::try_from(fraction).unwrap_or(0)
}

/// Round-trip time from a report block that arrived at `now_ntp` (RFC 3550 s6.4.1). `None` when
/// the player has not yet seen a sender report, or when the numbers make it negative: clocks run
/// apart, and some players set DLSR without LSR.
#[must_use]
pub fn round_trip_ns(now_ntp: u64, lsr: u32, dlsr: u32) -> Option<u64> {
    let now_middle = u32::try_from(now_ntp >> 16 & 0xffff_ffff).ok()?;
    let trip = now_middle.wrapping_sub(lsr).wrapping_sub(dlsr);
    // The middle 32 bits wrap every 18 hours; the upper half of the circle is the past.
    let is_plausible = lsr != 0 && trip <= u32::MAX / 2;
    is_plausible.then_some((u64::from(trip) * 1_000_000_000) >> 16)
}

const NS_PER_S: i64 = 1_000_000_000;

/// Seconds from 1900 to 1970.
const NTP_UNIX_S: i64 = 2_208_988_800;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ntp_counts_from_1900_and_wraps_in_2036() {
        assert_eq!(ntp_from_utc_ns(0), 2_208_988_800 << 32);
        assert_eq!(ntp_from_utc_ns(500_000_000), 2_208_988_800 << 32 | 1 << 31);
        assert_eq!(ntp_from_utc_ns(-500_000_000), 2_208_988_799 << 32 | 1 << 31);
        // 2036-02-07T06:28:16Z
        assert_eq!(ntp_from_utc_ns(2_085_978_496_000_000_000), 0);
    }

    /// RFC 3550 s6.4.1, figure 2.
    #[test]
    fn round_trip_of_the_example_in_the_rfc() {
        let now = 0xb710_8000_u64 << 16;
        let trip = round_trip_ns(now, 0xb705_2000, 0x0005_4000).unwrap();
        assert_eq!(trip, 6_125_000_000);
    }

    #[test]
    fn round_trip_is_unknown_without_report_or_when_negative() {
        assert_eq!(round_trip_ns(1 << 40, 0, 0), None);
        assert_eq!(round_trip_ns(10 << 16, 5, 6), None);
        assert_eq!(round_trip_ns(2 << 16, 0xffff_fffe, 0), Some((4 * 1_000_000_000) >> 16));
    }

    proptest! {
        #[test]
        fn ntp_grows_with_time_within_an_era(
            utc_ns in 0i64..2_085_978_495_000_000_000, step in 1i64..1 << 40,
        ) {
            prop_assume!(utc_ns + step < 2_085_978_496_000_000_000);
            prop_assert!(ntp_from_utc_ns(utc_ns + step) > ntp_from_utc_ns(utc_ns));
        }

        #[test]
        fn any_numbers_give_at_most_nine_hours(now: u64, lsr: u32, dlsr: u32) {
            let trip = round_trip_ns(now, lsr, dlsr).unwrap_or(0);
            prop_assert!(trip <= 32_768 * 1_000_000_000);
        }
    }
}
