//! Selects the RTP stream of a track: by the place that it comes from, then by its SSRC.
//!
//! ```text
//!  Open --first packet--> Held(a)
//!  Held(a) --b, same place, numbers and time continue-----> Held(b), told to readers as a
//!  Held(a) --b, same place, numbers restart---------------> Held(b), a break
//!  Held(a) --b, another place-----> Foreign until a is silent for `SSRC_SILENCE`, then a break
//!  Held(b) --a, which was replaced--> Foreign until b is silent for `SSRC_REORDER`, then a break
//! ```
//! The place is the interleaved channel or the latched address. The place proves more than the
//! SSRC: some cameras take another SSRC with each group of pictures, and an encoder that restarts
//! within a session has another SSRC, too. A foreign sender sends from another place.
//! A new SSRC begins with its first packet, because a group of pictures may be one packet. So a
//! stray packet takes over as well; the stream before is back as soon as nothing follows the stray.
//!
//! Invariants: packets from another place change nothing while the holder sends; an SSRC that
//! readers are told stands for one row of numbers; of several streams at one place one is taken as
//! long as it sends; no packet of the same payload type and place is refused once it is silent.
//! Bound: the present stream and `REPLACED_MAX` replaced ones. DESIGN section 5.7.

use std::net::SocketAddr;

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::{Mono, rescale};
use crate::live::core::clock::ticks_between;
use crate::live::core::limits::{SSRC_REORDER, SSRC_SILENCE};

/// The header fields by which a packet is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign {
    /// Synchronisation source (RFC 3550 s5.1).
    pub ssrc: Ssrc,
    /// Payload type: streams of repair data have their own payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: SeqNo,
    /// RTP time.
    pub ts: RtpTs,
}

/// The verdict on a packet's SSRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SsrcVerdict {
    /// The stream continues.
    Same,
    /// The stream continues under another SSRC.
    GoesOn,
    /// A stream begins: the first one, or a successor.
    Begins {
        /// The RTP time continues that of the stream before.
        keeps_time: bool,
    },
    /// The packet is not of the stream that is taken.
    Foreign,
}

/// The latch of one track: see the module.
#[derive(Debug, Clone, Default)]
pub struct SsrcLatch {
    pub(super) held: Option<Held>,
    /// SSRCs of replaced streams, the newest first, and when each was last heard.
    pub(super) replaced: [Option<(Ssrc, Mono)>; REPLACED_MAX],
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// The newest packet in order of sequence numbers.
    pub(super) sign: Sign,
    /// Address of the newest packet; `None` on a connection.
    pub(super) from: Option<SocketAddr>,
    pub(super) heard: Mono,
    /// The SSRC that readers are told.
    pub(super) name: Ssrc,
}

impl SsrcLatch {
    /// Judges a packet that arrived at `now`; `from` is `None` on a connection.
    pub fn admit(
        &mut self,
        sign: Sign,
        from: Option<SocketAddr>,
        clock_rate_hz: u32,
        now: Mono,
    ) -> SsrcVerdict {
        let Some(held) = &mut self.held else {
            return self.begin(sign, from, now, false);
        };
        if held.sign.ssrc == sign.ssrc {
            held.advance(sign);
            (held.from, held.heard) = (from, now);
            return SsrcVerdict::Same;
        }
        let is_silent = now.since(held.heard) >= SSRC_SILENCE;
        if held.from != from {
            return if is_silent {
                self.begin(sign, from, now, false)
            } else {
                SsrcVerdict::Foreign
            };
        }
        let keeps_time = held.is_time(sign.ts, clock_rate_hz, now);
        let is_type = held.sign.payload_type == sign.payload_type;
        if is_type && keeps_time && held.is_number(sign.seq) {
            held.advance(sign);
            held.heard = now;
            return SsrcVerdict::GoesOn;
        }
        // Packets that were overtaken on their way, or a second stream at the same place.
        let is_of_late = |(ssrc, heard): &&mut (Ssrc, Mono)| {
            *ssrc == sign.ssrc && now.since(*heard) < SSRC_SILENCE
        };
        if now.since(held.heard) < SSRC_REORDER
            && let Some((_, heard)) = self.replaced.iter_mut().flatten().find(is_of_late)
        {
            *heard = now;
            return SsrcVerdict::Foreign;
        }
        if !is_type && !is_silent {
            return SsrcVerdict::Foreign;
        }
        self.begin(sign, from, now, keeps_time)
    }

    /// The source's present SSRC.
    #[must_use]
    pub fn ssrc(&self) -> Option<Ssrc> {
        self.held.map(|held| held.sign.ssrc)
    }

    /// The SSRC that readers are told.
    #[must_use]
    pub fn name(&self) -> Option<Ssrc> {
        self.held.map(|held| held.name)
    }

    /// Whether RTP time `ts` is near the stream's RTP time at `now`.
    #[must_use]
    pub fn is_time(&self, ts: RtpTs, clock_rate_hz: u32, now: Mono) -> bool {
        self.held.is_some_and(|held| held.is_time(ts, clock_rate_hz, now))
    }

    fn begin(
        &mut self,
        sign: Sign,
        from: Option<SocketAddr>,
        now: Mono,
        keeps_time: bool,
    ) -> SsrcVerdict {
        let before = self.held;
        // Replaces the entry of the SSRC that begins, or else the oldest entry.
        let is_replaced =
            |replaced: &Option<(Ssrc, Mono)>| replaced.is_some_and(|(s, _)| s == sign.ssrc);
        let place = self.replaced.iter().position(is_replaced).unwrap_or(REPLACED_MAX - 1);
        self.replaced[place] = before.map(|before| (before.sign.ssrc, before.heard));
        self.replaced[..=place].rotate_right(1);
        // A reader that is told the same SSRC again would not see the break.
        let is_taken = before.is_some_and(|before| before.name == sign.ssrc);
        let name = if is_taken { Ssrc(sign.ssrc.0.wrapping_add(1)) } else { sign.ssrc };
        self.held = Some(Held { sign, from, heard: now, name });
        SsrcVerdict::Begins { keeps_time }
    }
}

impl Held {
    /// A late packet does not become the newest.
    fn advance(&mut self, sign: Sign) {
        let behind = self.sign.seq.0.wrapping_sub(sign.seq.0);
        if behind == 0 || behind > MISORDER_MAX {
            self.sign = sign;
        }
    }

    /// Whether a number can be the next one, with some packets lost or out of order.
    fn is_number(&self, seq: SeqNo) -> bool {
        let ahead = seq.0.wrapping_sub(self.sign.seq.0);
        ahead <= LOST_MAX || ahead >= u16::MAX - MISORDER_MAX
    }

    fn is_time(&self, ts: RtpTs, clock_rate_hz: u32, now: Mono) -> bool {
        let waited_ns = i64::try_from(now.since(self.heard).as_nanos()).unwrap_or(i64::MAX);
        let waited = rescale(waited_ns, NS_PER_S, clock_rate_hz);
        let second = i64::from(clock_rate_hz);
        let ahead = i64::from(ticks_between(self.sign.ts, ts));
        ahead > -second && ahead < waited.saturating_add(second.saturating_mul(TIME_OFF_S))
    }
}

const NS_PER_S: u32 = 1_000_000_000;
/// More streams than this at one place are a fault of the source.
pub(super) const REPLACED_MAX: usize = 4;
/// Packets that may arrive late: RFC 3550 appendix A.1.
const MISORDER_MAX: u16 = 100;
/// Packets that may be missing at a change of SSRC: a burst that was lost.
const LOST_MAX: u16 = 100;
/// A stream whose time is further ahead, or more than a second back, is another.
const TIME_OFF_S: i64 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn sign(ssrc: u32, seq: u16, ts: u32) -> Sign {
        Sign { ssrc: Ssrc(ssrc), payload_type: 96, seq: SeqNo(seq), ts: RtpTs(ts) }
    }

    fn host(port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    const BEGINS: SsrcVerdict = SsrcVerdict::Begins { keeps_time: false };

    #[test]
    fn another_address_takes_over_from_a_silent_stream_only() {
        let mut latch = SsrcLatch::default();
        let mut admit = |ssrc, port, ms| latch.admit(sign(ssrc, 1, 1), host(port), 90_000, at(ms));
        assert_eq!(admit(1, 7, 0), BEGINS);
        assert_eq!(admit(1, 7, 1_500), SsrcVerdict::Same);
        assert_eq!(admit(2, 8, 3_000), SsrcVerdict::Foreign);
        assert_eq!(admit(2, 8, 3_500), BEGINS);
        assert_eq!(admit(1, 7, 3_600), SsrcVerdict::Foreign);
        assert_eq!(latch.ssrc(), Some(Ssrc(2)));
    }

    #[test]
    fn stream_with_continuous_numbers_and_time_keeps_its_ssrc_for_readers() {
        let mut latch = SsrcLatch::default();
        let mut admit = |ssrc, seq, ts, ms| latch.admit(sign(ssrc, seq, ts), None, 90_000, at(ms));
        assert_eq!(admit(1, 65_534, u32::MAX, 0), BEGINS);
        assert_eq!(admit(2, 65_535, 3_599, 40), SsrcVerdict::GoesOn);
        // The first was overtaken, and some are lost.
        assert_eq!(admit(1, 65_533, u32::MAX, 41), SsrcVerdict::GoesOn);
        assert_eq!(admit(2, 0, 3_599, 42), SsrcVerdict::Same);
        assert_eq!(admit(3, 90, 7_199, 80), SsrcVerdict::GoesOn);
        assert_eq!(admit(1, 91, 7_199 + 90_000 * 60, 60_080), SsrcVerdict::GoesOn, "after a pause");
        assert_eq!((latch.ssrc(), latch.name()), (Some(Ssrc(1)), Some(Ssrc(1))));
        assert_eq!(latch.admit(sign(5, 92, 1 << 31), None, 90_000, at(60_081)), BEGINS);
    }

    #[test]
    fn stream_that_restarts_its_numbers_is_a_break_with_a_new_ssrc() {
        let mut latch = SsrcLatch::default();
        let mut admit = |ssrc, seq, ts, ms| {
            let verdict = latch.admit(sign(ssrc, seq, ts), None, 90_000, at(ms));
            (verdict, latch.name().unwrap().0)
        };
        assert_eq!(admit(1, 10, 10, 0), (BEGINS, 1));
        let keeps_time = SsrcVerdict::Begins { keeps_time: true };
        assert_eq!(admit(2, 30_000, 3_610, 40), (keeps_time, 2));
        assert_eq!(admit(1, 11, 10, 41), (SsrcVerdict::Foreign, 2), "it was overtaken");
        assert_eq!(admit(1, 12, 1 << 31, 500), (BEGINS, 1), "it is back");
        assert_eq!(admit(4, 13, 1 << 31, 501), (SsrcVerdict::GoesOn, 1));
        assert_eq!(admit(1, 40_000, 5, 900), (BEGINS, 2), "1 was told for other numbers");
    }

    #[test]
    fn second_stream_at_the_same_address_does_not_interrupt_the_accepted_stream() {
        let mut latch = SsrcLatch::default();
        let mut breaks = 0;
        for n in 0..1_000_u16 {
            for (ssrc, seq) in [(1, n), (2, n.wrapping_add(30_000))] {
                let verdict = latch.admit(sign(ssrc, seq, 0), None, 90_000, at(u64::from(n) * 20));
                breaks += usize::from(matches!(verdict, SsrcVerdict::Begins { .. }));
            }
        }
        assert_eq!(breaks, 2);
        let repair = Sign { payload_type: 97, ..sign(3, 5, 0) };
        assert_eq!(latch.admit(repair, None, 90_000, at(20_000)), SsrcVerdict::Foreign);
        let verdict = latch.admit(repair, None, 90_000, at(22_000));
        assert!(matches!(verdict, SsrcVerdict::Begins { .. }), "nothing else comes");
    }

    #[test]
    fn stray_packet_interrupts_the_stream_for_250_ms_at_most() {
        let mut latch = SsrcLatch::default();
        let mut taken = Vec::new();
        for n in 0..25_u16 {
            let ms = u64::from(n) * 40;
            let a = sign(1, n, u32::from(n) * 3_600);
            if latch.admit(a, None, 90_000, at(ms)) != SsrcVerdict::Foreign {
                taken.push(n);
            }
            if n == 9 {
                let stray = latch.admit(sign(2, 40_000, 1 << 31), None, 90_000, at(ms));
                assert_eq!(stray, BEGINS, "it may be a group of one packet");
            }
        }
        // 250 ms behind the stray packet.
        assert_eq!(taken, [(0..10).collect::<Vec<_>>(), (16..25).collect()].concat());
    }

    #[test]
    fn restart_of_numbers_with_each_packet_loses_nothing() {
        let mut latch = SsrcLatch::default();
        for n in 0..1_000_u16 {
            let one = sign(u32::from(n), n.wrapping_mul(7_919), u32::from(n) * 3_600);
            let verdict = latch.admit(one, None, 90_000, at(u64::from(n) * 40));
            assert!(matches!(verdict, SsrcVerdict::Begins { .. }), "{n}: {verdict:?}");
        }
    }

    #[test]
    fn stream_of_another_payload_type_does_not_continue_the_accepted_stream() {
        let mut latch = SsrcLatch::default();
        for n in 0..100_u16 {
            let (ts, ms) = (u32::from(n) * 3_600, u64::from(n) * 40);
            let verdict = latch.admit(sign(1, n, ts), None, 90_000, at(ms));
            assert!(verdict == BEGINS && n == 0 || verdict == SsrcVerdict::Same);
            // Retransmission (RFC 4588): the original's RTP time, and numbers that are near.
            let again = Sign { payload_type: 97, ..sign(2, n / 2, ts) };
            assert_eq!(latch.admit(again, None, 90_000, at(ms)), SsrcVerdict::Foreign);
        }
        assert_eq!(latch.ssrc(), Some(Ssrc(1)));
    }

    proptest! {
        #[test]
        fn one_of_several_streams_at_an_address_is_accepted_until_it_is_silent(
            packets in prop::collection::vec((0_u16..4, 0_u64..400), 1..300),
        ) {
            let mut latch = SsrcLatch::default();
            let (mut ms, mut count) = (0, [0_u16; 4]);
            // When the holder and each stream was heard.
            let (mut holder, mut heard) = (None, [None::<u64>; 4]);
            for (stream, gap_ms) in packets {
                ms += gap_ms;
                let n = &mut count[usize::from(stream)];
                *n += 1;
                let sign = sign(stream.into(), stream * 16_000 + *n, u32::from(stream) << 30);
                let verdict = latch.admit(sign, None, 90_000, at(ms));
                let last = heard[usize::from(stream)].replace(ms);
                let is_of_late = last.is_some_and(|last| ms - last < 2_000);
                let is_held = holder.is_some_and(|(held, last)| held != stream && ms - last < 250);
                let wanted = match holder {
                    Some((held, _)) if held == stream => SsrcVerdict::Same,
                    Some(_) if is_held && is_of_late => SsrcVerdict::Foreign,
                    _ => BEGINS,
                };
                prop_assert_eq!(verdict, wanted, "{} at {}", stream, ms);
                if verdict != SsrcVerdict::Foreign {
                    holder = Some((stream, ms));
                }
            }
        }

        #[test]
        fn packets_of_another_address_change_nothing_while_the_accepted_stream_sends(
            packets in prop::collection::vec((any::<bool>(), 0_u32..4, any::<u16>(), any::<u32>()), 1..200),
        ) {
            let (mut latch, mut alone) = (SsrcLatch::default(), SsrcLatch::default());
            for (ms, (is_stranger, ssrc, seq, ts)) in (0..).zip(packets) {
                let place = if is_stranger && latch.held.is_some() { host(9) } else { host(7) };
                // Only one that gives the SSRC of the holder passes for it.
                let ssrc = if place == host(9) { ssrc + 100 } else { ssrc };
                let sign = sign(ssrc, seq, ts);
                let verdict = latch.admit(sign, place, 90_000, at(ms));
                if place == host(9) {
                    prop_assert_eq!(verdict, SsrcVerdict::Foreign);
                } else {
                    prop_assert_eq!(verdict, alone.admit(sign, place, 90_000, at(ms)));
                }
                prop_assert_eq!(latch.name(), alone.name());
            }
        }
    }
}
