//! Rewrites sequence numbers and RTP time of a reader's stream after a break: another source,
//! another SSRC, a skip or a pause.
//!
//! ```text
//!  source     .. 17 18 19 |  (gone)  | 900 901 903 ..        another SSRC, another time
//!  reader     .. 17 18 19 |          |  20  21  23 ..        its SSRC, time goes on by the clock
//! ```
//! Before the first break a stream is sent the source's headers byte for byte. After it the headers
//! differ by constants, so packets lost between source and server stay visible as a gap. A path
//! with fallbacks does the same for all its tracks at once, before its readers: see
//! `live::sources::fallback::wire`.
//!
//! Invariants: after a break the next sequence number is the highest one sent, plus one; RTP time
//! never decreases across a break; a skip within one source does not change RTP time.
//! DESIGN section 5.5.

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::{Mono, rescale};
use crate::live::core::batch::{Generation, LivePacket, PacketBatch};
use crate::live::core::clock::{ClockPoint, ticks_between};
use crate::rtp::HEADER_BYTES;

/// Origin of packets: within one origin sequence numbers and RTP time are continuous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Generation of the path's source.
    pub generation: Generation,
    /// SSRC of the source's RTP stream.
    pub ssrc: Ssrc,
}

/// Constant differences between a reader's headers and the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderRewrite {
    /// Origin of the packets.
    pub origin: Origin,
    /// SSRC of the reader's stream; it never changes.
    pub ssrc: Ssrc,
    pub(super) seq_delta: u16,
    pub(super) ts_delta: u32,
    /// A payload type of the source, and what the reader was told instead; `None`: the same.
    pub(super) payload_type: Option<(u8, u8)>,
}

/// The fields of a reader's RTP header that differ from the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Synchronisation source.
    pub ssrc: Ssrc,
    /// Sequence number.
    pub seq: SeqNo,
    /// RTP time.
    pub ts: RtpTs,
}

impl HeaderRewrite {
    /// No difference: headers are sent as received.
    #[must_use]
    pub fn untouched(origin: Origin) -> Self {
        Self { origin, ssrc: origin.ssrc, seq_delta: 0, ts_delta: 0, payload_type: None }
    }

    /// Headers of a stream that had another feed before: this is its first packet from here.
    #[must_use]
    pub fn entering(first: &NextPacket, to: Stamp, payload_type: Option<(u8, u8)>) -> Self {
        Self {
            origin: first.origin,
            ssrc: to.ssrc,
            seq_delta: to.seq.0.wrapping_sub(first.seq.0),
            ts_delta: to.ts.0.wrapping_sub(first.ts.0),
            payload_type,
        }
    }

    /// Whether headers are sent as received.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        (self.seq_delta, self.ts_delta) == (0, 0)
            && self.ssrc == self.origin.ssrc
            && self.payload_type.is_none()
    }

    /// The reader's header fields of a packet.
    #[must_use]
    pub fn stamp(&self, packet: &LivePacket) -> Stamp {
        let seq = packet.seq.plus(self.seq_delta);
        Stamp { ssrc: self.ssrc, seq, ts: self.map_ts(packet.ts) }
    }

    /// The first 12 bytes of a packet for the reader; the bytes after them are sent as received.
    #[must_use]
    pub fn header(&self, batch: &PacketBatch, packet: &LivePacket) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        // No packet of a batch is shorter than its header.
        if let Some(came) = batch.packet_bytes(packet).first_chunk() {
            header = *came;
        }
        self.stamp(packet).patch(&mut header);
        if let Some((_, told)) = self.payload_type.filter(|(own, _)| header[1] & 0x7f == *own) {
            header[1] = header[1] & 0x80 | told;
        }
        header
    }

    /// RTP time of the reader's stream for an RTP time of the source.
    #[must_use]
    pub fn map_ts(&self, ts: RtpTs) -> RtpTs {
        RtpTs(ts.0.wrapping_add(self.ts_delta))
    }

    /// The source's sequence number of the packet that the reader knows by `seq`.
    #[must_use]
    pub fn source_seq(&self, seq: SeqNo) -> SeqNo {
        SeqNo(seq.0.wrapping_sub(self.seq_delta))
    }
}

impl Stamp {
    /// Writes the fields into a copy of the first 12 bytes of a packet; all else stays.
    pub fn patch(&self, header: &mut [u8; HEADER_BYTES]) {
        header[2..4].copy_from_slice(&self.seq.0.to_be_bytes());
        header[4..8].copy_from_slice(&self.ts.0.to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.0.to_be_bytes());
    }
}

/// The last packet sent on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSent {
    /// Rewrite under which the packet was sent.
    pub rewrite: HeaderRewrite,
    /// Highest sequence number sent.
    pub seq: SeqNo,
    /// Newest RTP time sent.
    pub ts: RtpTs,
    /// Arrival of the packet from its source.
    pub received: Mono,
    /// The source's mapping from RTP time to wall clock when the packet was sent.
    pub clock: Option<ClockPoint>,
}

/// The first packet after a break.
#[derive(Debug, Clone, Copy)]
pub struct NextPacket {
    /// Origin of the packet.
    pub origin: Origin,
    /// Sequence number at the source.
    pub seq: SeqNo,
    /// RTP time at the source.
    pub ts: RtpTs,
    /// Arrival of the packet.
    pub received: Mono,
    /// The source's mapping from RTP time to wall clock.
    pub clock: Option<ClockPoint>,
}

impl LastSent {
    /// The first packet of a stream was sent.
    #[must_use]
    pub fn begin(rewrite: HeaderRewrite, packet: &LivePacket, received: Mono) -> Self {
        let Stamp { seq, ts, .. } = rewrite.stamp(packet);
        Self { rewrite, seq, ts, received, clock: None }
    }

    /// Another packet was sent. A packet that arrived out of order has a lower number.
    pub fn extend(&mut self, rewrite: HeaderRewrite, packet: &LivePacket, received: Mono) {
        let stamp = rewrite.stamp(packet);
        self.rewrite = rewrite;
        if stamp.seq.0.wrapping_sub(self.seq.0) < 1 << 15 {
            self.seq = stamp.seq;
        }
        if ticks_between(self.ts, stamp.ts) > 0 {
            self.ts = stamp.ts;
        }
        self.received = received;
    }

    /// The rewrite for packets after a break.
    #[must_use]
    pub fn rebase(&self, next: &NextPacket, clock_rate_hz: u32) -> HeaderRewrite {
        let seq_delta = self.seq.plus(1).0.wrapping_sub(next.seq.0);
        let ts_delta = if next.origin == self.rewrite.origin {
            self.rewrite.ts_delta
        } else {
            self.next_ts(next, clock_rate_hz).0.wrapping_sub(next.ts.0)
        };
        let HeaderRewrite { ssrc, payload_type, .. } = self.rewrite;
        HeaderRewrite { origin: next.origin, ssrc, seq_delta, ts_delta, payload_type }
    }

    /// RTP time of the first packet after a break. Sender reports of both sources decide, if there
    /// are any: then the offset between sound and video stays the same.
    fn next_ts(&self, next: &NextPacket, clock_rate_hz: u32) -> RtpTs {
        let waited_ns = i64::try_from(next.received.since(self.received).as_nanos());
        let by_arrival = rescale(waited_ns.unwrap_or(i64::MAX), NS_PER_S, clock_rate_hz);
        let by_reports = self.clock.zip(next.clock).map(|(old, new)| {
            let utc_ns = new.utc_ns_of(next.ts, clock_rate_hz);
            let ts = self.rewrite.map_ts(old.ts_at(utc_ns, clock_rate_hz));
            i64::from(ticks_between(self.ts, ts))
        });
        // Reports that contradict the server's own clock are ignored.
        let is_plausible = |ticks: &i64| ticks.abs_diff(by_arrival) <= u64::from(clock_rate_hz);
        let ticks = by_reports.filter(is_plausible).unwrap_or(by_arrival);
        self.ts.offset_ticks(ticks.max(i64::from(clock_rate_hz / 1_000).max(1)))
    }
}

const NS_PER_S: u32 = 1_000_000_000;

#[cfg(test)]
pub(in crate::live::core) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::live::core) fn live_packet(seq: u16, ts: u32) -> LivePacket {
        LivePacket {
            offset: 0,
            bytes: 12,
            header_bytes: 12,
            seq: SeqNo(seq),
            ts: RtpTs(ts),
            marker: false,
            is_sync: false,
        }
    }

    fn origin(generation: u32, ssrc: u32) -> Origin {
        Origin { generation: Generation(generation), ssrc: Ssrc(ssrc) }
    }

    fn last_sent() -> LastSent {
        let rewrite = HeaderRewrite::untouched(origin(1, 7));
        LastSent::begin(rewrite, &live_packet(65_535, 90_000), Mono(1_000_000_000))
    }

    fn next_packet(origin: Origin, received: Mono, clock: Option<ClockPoint>) -> NextPacket {
        NextPacket { origin, seq: SeqNo(900), ts: RtpTs(5), received, clock }
    }

    #[test]
    fn headers_are_untouched_before_the_first_break() {
        let rewrite = HeaderRewrite::untouched(origin(1, 7));
        assert!(rewrite.is_untouched());
        let stamp = rewrite.stamp(&live_packet(3, 4));
        assert_eq!(stamp, Stamp { ssrc: Ssrc(7), seq: SeqNo(3), ts: RtpTs(4) });
    }

    #[test]
    fn next_source_continues_the_readers_ssrc_numbers_and_clock() {
        let next = next_packet(origin(2, 8), Mono(3_000_000_000), None);
        let rewrite = last_sent().rebase(&next, 90_000);
        assert!(!rewrite.is_untouched());
        let first = rewrite.stamp(&live_packet(900, 5));
        assert_eq!(first, Stamp { ssrc: Ssrc(7), seq: SeqNo(0), ts: RtpTs(270_000) });
        // 902 was lost on its way to us, and the reader sees that.
        assert_eq!(rewrite.stamp(&live_packet(903, 3_605)).seq, SeqNo(3));
        assert_eq!(rewrite.source_seq(SeqNo(3)), SeqNo(903));
        let mut header = *b"\x90\xe0......abcd";
        first.patch(&mut header);
        assert_eq!(&header, b"\x90\xe0\x00\x00\x00\x04\x1e\xb0\x00\x00\x00\x07");
    }

    #[test]
    fn skip_within_a_source_closes_the_gap_in_numbers_and_leaves_time() {
        let next = next_packet(origin(1, 7), Mono(9_000_000_000), None);
        let rewrite = last_sent().rebase(&next, 90_000);
        let stamp = rewrite.stamp(&live_packet(900, 800_000));
        assert_eq!(stamp, Stamp { ssrc: Ssrc(7), seq: SeqNo(0), ts: RtpTs(800_000) });
    }

    #[test]
    fn time_across_a_source_change_goes_by_sender_reports_that_agree_with_the_servers_clock() {
        let mut last_sent = last_sent();
        last_sent.clock = Some(ClockPoint { utc_ns: 50_000_000_000, ts: RtpTs(90_000) });
        // It came 2 s later, but was taken 2.1 s later.
        let told = |utc_ns| Some(ClockPoint { utc_ns, ts: RtpTs(5) });
        let next = next_packet(origin(2, 8), Mono(3_000_000_000), told(52_100_000_000));
        let ts = |next| last_sent.rebase(&next, 90_000).stamp(&live_packet(900, 5)).ts;
        assert_eq!(ts(next), RtpTs(90_000 + 189_000));
        // An hour is not believed.
        let next = next_packet(origin(2, 8), Mono(3_000_000_000), told(3_652_100_000_000));
        assert_eq!(ts(next), RtpTs(90_000 + 180_000));
    }

    #[test]
    fn late_packet_does_not_move_the_last_sent_number_back() {
        let mut last_sent = last_sent();
        let rewrite = last_sent.rewrite;
        last_sent.extend(rewrite, &live_packet(1, 93_600), Mono(1));
        last_sent.extend(rewrite, &live_packet(0, 90_000), Mono(2));
        assert_eq!((last_sent.seq, last_sent.ts), (SeqNo(1), RtpTs(93_600)));
    }

    proptest! {
        #[test]
        fn stream_continues_after_any_break_with_the_next_number_and_no_earlier_time(
            seq: u16, ts: u32, next_seq: u16, next_ts: u32, wait_ns in 0..3_600_000_000_000_u64,
            clocks in prop::option::of((any::<i64>(), any::<u32>(), any::<i64>(), any::<u32>())),
            hz in 1_u32..200_000, is_other: bool,
        ) {
            let rewrite = HeaderRewrite::untouched(origin(1, 7));
            let mut last_sent = LastSent::begin(rewrite, &live_packet(seq, ts), Mono(0));
            let next = NextPacket {
                origin: if is_other { origin(2, 7) } else { origin(1, 7) },
                seq: SeqNo(next_seq),
                ts: RtpTs(next_ts),
                received: Mono(wait_ns),
                clock: clocks.map(|(_, _, utc_ns, ts)| ClockPoint { utc_ns, ts: RtpTs(ts) }),
            };
            last_sent.clock = clocks.map(|(utc_ns, ts, _, _)| ClockPoint { utc_ns, ts: RtpTs(ts) });
            let rewrite = last_sent.rebase(&next, hz);
            let stamp = rewrite.stamp(&live_packet(next_seq, next_ts));
            prop_assert_eq!(stamp.seq, SeqNo(seq).plus(1));
            prop_assert_eq!(rewrite.source_seq(stamp.seq), SeqNo(next_seq));
            if is_other {
                prop_assert!(ticks_between(RtpTs(ts), stamp.ts) > 0);
            } else {
                prop_assert_eq!(stamp.ts, RtpTs(next_ts));
            }
        }
    }
}
