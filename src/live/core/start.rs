//! Start of a reader: the first packet, the pace until the reader is live, and `RTP-Info`.
//!
//! ```text
//!  batches arrived |S....|.....|.....|.....|now      begin at S
//!  batches are due  S....|..|.|              now     four times as fast until they are live
//! ```
//! `RTP-Info` is exact or left out. It has the sequence number of the first packet that will be
//! sent, and an RTP time for every track. The RTP times are one instant: the earliest of the
//! tracks' first packets. DESIGN section 5.4, RFC 2326 s12.33.

use crate::base::ids::{RtpTs, SeqNo};
use crate::base::time::Mono;
use crate::live::core::clock::ClockPoint;
use crate::live::core::limits::{CATCH_UP_SPEED, RING_HISTORY};

/// Where readers of a path start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartPolicy {
    /// At the newest key frame in the ring: video at once, up to a group of pictures late.
    #[default]
    Gop,
    /// At the next key frame: video starts later, with the least lag.
    Live,
}

/// The time at which each batch is due to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub(super) wall: Mono,
    pub(super) received: Mono,
    /// Nanoseconds from the arrival of a batch to its due time, at least.
    pub(super) delay_ns: u64,
}

impl Pace {
    /// Each batch is due on its arrival.
    pub const LIVE: Self = Self { wall: Mono(0), received: Mono(0), delay_ns: 0 };

    /// The batch that arrived at `received` is due at `now`, later batches after it.
    #[must_use]
    pub fn catch_up(now: Mono, received: Mono) -> Self {
        Self { wall: now, received, delay_ns: 0 }
    }

    /// The batch that arrived at `received` is due at `wall`, and later batches as they arrived:
    /// the reader stays behind. From further behind than `DELAY_MAX` it catches up until there.
    #[must_use]
    pub fn behind(wall: Mono, received: Mono) -> Self {
        let delay_ns = wall.0.saturating_sub(received.0).min(DELAY_MAX_NS);
        Self { wall, received, delay_ns }
    }

    /// When a batch that arrived at `received` is due.
    #[must_use]
    pub fn due(self, received: Mono) -> Mono {
        let behind = received.0.saturating_sub(self.received.0);
        let earliest = Mono(received.0.saturating_add(self.delay_ns));
        earliest.max(Mono(self.wall.0.saturating_add(behind / CATCH_UP_SPEED)))
    }
}

/// The first packet of a stream, as known before the stream's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// Sequence number as the reader will see it.
    pub seq: SeqNo,
    /// RTP time as the reader will see it.
    pub ts: RtpTs,
    /// RTP time at the source.
    pub source_ts: RtpTs,
    /// The source's clock of the track.
    pub clock: Option<ClockPoint>,
    /// Clock rate of the track.
    pub clock_rate_hz: u32,
}

/// A stream's entry in `RTP-Info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStart {
    /// Sequence number of the first packet.
    pub seq: SeqNo,
    /// RTP time of the instant in `Range`; never 0.
    pub rtptime: RtpTs,
}

/// `RTP-Info` of streams that start together; `None` for a stream without a known first packet.
pub fn stream_starts(firsts: &[Option<First>]) -> Vec<Option<StreamStart>> {
    let instants = firsts.iter().flatten().filter_map(First::utc_ns);
    let earliest = instants.min();
    let start = |first: &First| {
        let lead_ns = first.utc_ns().zip(earliest).map_or(0, |(own, all)| own.saturating_sub(all));
        // First packets that are farther apart come from unrelated clocks.
        let lead_ns = if lead_ns <= APART_NS { lead_ns } else { 0 };
        let ticks = crate::base::time::rescale(lead_ns, NS_PER_S, first.clock_rate_hz);
        let rtptime = first.ts.offset_ticks(-ticks);
        // Client rule C6: FFmpeg takes rtptime=0 for absent.
        let rtptime = if rtptime == RtpTs(0) { RtpTs(1) } else { rtptime };
        StreamStart { seq: first.seq, rtptime }
    };
    firsts.iter().map(|first| first.as_ref().map(start)).collect()
}

impl First {
    fn utc_ns(&self) -> Option<i64> {
        Some(self.clock?.utc_ns_of(self.source_ts, self.clock_rate_hz))
    }
}

const NS_PER_S: u32 = 1_000_000_000;
/// Less than what a ring keeps before its newest group of pictures.
const DELAY_MAX_NS: u64 = 3_000_000_000;
const _: () = assert!(DELAY_MAX_NS as u128 + 500_000_000 < RING_HISTORY.as_nanos());
/// More than the sound of a group of pictures that arrives in one turn.
const APART_NS: i64 = 2_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn first(seq: u16, ts: u32, hz: u32, clock: Option<(i64, u32)>) -> Option<First> {
        let clock = clock.map(|(utc_ns, ts)| ClockPoint { utc_ns, ts: RtpTs(ts) });
        let (seq, ts) = (SeqNo(seq), RtpTs(ts));
        Some(First { seq, ts, source_ts: ts, clock, clock_rate_hz: hz })
    }

    #[test]
    fn reader_that_begins_behind_catches_up_four_times_as_fast() {
        let pace = Pace::catch_up(ms(1_000), ms(400));
        assert_eq!(pace.due(ms(400)), ms(1_000));
        assert_eq!(pace.due(ms(800)), ms(1_100));
        // 600 ms behind are caught up in 200 ms.
        assert_eq!(pace.due(ms(1_200)), ms(1_200));
        assert_eq!(pace.due(ms(1_300)), ms(1_300));
        assert_eq!(Pace::LIVE.due(ms(7)), ms(7));
    }

    #[test]
    fn reader_that_stays_behind_is_sent_batches_as_they_arrived() {
        let pace = Pace::behind(ms(2_400), ms(400));
        for (received, due) in [(400, 2_400), (440, 2_440), (9_000, 11_000)] {
            assert_eq!(pace.due(ms(received)), ms(due));
        }
        // Ten seconds behind: seven of them are caught up in seven thirds.
        let far = Pace::behind(ms(10_400), ms(400));
        for (received, due) in [(400, 10_400), (4_400, 11_400), (9_000, 12_550), (20_000, 23_000)] {
            assert_eq!(far.due(ms(received)), ms(due));
        }
    }

    #[test]
    fn rtptimes_of_all_tracks_are_the_instant_of_the_earliest_packet() {
        let second = 1_000_000_000;
        let starts = stream_starts(&[
            first(10, 90_000, 90_000, Some((5 * second, 0))),
            // 20 ms before the frame.
            first(20, 48_000 - 960, 48_000, Some((5 * second, 0))),
            None,
        ]);
        let expected =
            |seq, rtptime| Some(StreamStart { seq: SeqNo(seq), rtptime: RtpTs(rtptime) });
        assert_eq!(starts, [expected(10, 88_200), expected(20, 47_040), None]);
    }

    #[test]
    fn rtptime_is_the_first_packets_own_when_clocks_do_not_help_and_never_zero() {
        let far = Some((100_000_000_000, 0));
        let starts = stream_starts(&[first(1, 0, 90_000, None), first(2, 9, 8_000, far)]);
        let times: Vec<_> = starts.iter().flatten().map(|start| start.rtptime).collect();
        assert_eq!(times, [RtpTs(1), RtpTs(9)]);
        let hour = Some((3_600_000_000_000, 0));
        let starts = stream_starts(&[first(1, 5, 90_000, hour), first(2, 9, 8_000, Some((0, 0)))]);
        assert_eq!(starts[0].map(|start| start.rtptime), Some(RtpTs(5)));
    }

    proptest! {
        #[test]
        fn packets_are_due_in_order_and_not_before_their_arrival_or_the_start(
            now: u32, start: u32, steps in prop::collection::vec(0_u64..1_000_000_000, 1..50),
        ) {
            let pace = Pace::catch_up(Mono(now.into()), Mono(start.into()));
            let (mut received, mut last) = (Mono(start.into()), Mono(0));
            for step in steps {
                received = Mono(received.0 + step);
                let due = pace.due(received);
                prop_assert!(due >= received && due >= last && due >= Mono(now.into()));
                prop_assert!(due <= received.max(Mono(u64::from(now) + received.0 / 4)));
                last = due;
            }
        }
    }
}
