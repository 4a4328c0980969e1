//! One RTP stream as its receiver sees it: order, lateness, reports.
//!
//! ```text
//! RTP  --> SSRC, payload type --> SequenceTracker --newest--> LatenessMeter, jitter
//! RTCP --> sender reports, BYE          +--> figures of the receiver report
//! ```
//! RFC 3550 s5.1, s6.4, appendices A.3 and A.8. The source is the SSRC of the first packet; a
//! server that announced another one is noted and measured all the same.
//!
//! A lost tail leaves no gap; only the sender's own count shows it, and only at an end of its own:
//! ```text
//! Open --BYE--> Bye --all RTP before it was read--> Read: the count is compared
//!   +------------+--our TEARDOWN--> Left: what the server still sent is nobody's loss
//! ```
//! Invariant: a packet of another source changes no figure but its own counter.

use crate::description::{MediaKind, TrackInfo};
use crate::lateness::{LatenessMeter, REORDER_FRAMES_MAX};
use crate::rtcp::{self, Figures, Incoming};
use crate::sequence::{Arrival, SequenceTracker};
use crate::stats::{Counts, Timing};
use crate::time::Mono;
use rtp_types::RtpPacket;
use std::time::Duration;

/// A last sender report further ahead than this is about something else than a lost tail.
const LOST_AT_END_MAX: u64 = 512;
const NS_PER_S: u64 = 1_000_000_000;

/// Receiver side of one stream.
#[derive(Debug)]
pub struct Stream {
    kind: MediaKind,
    payload_types: Vec<u8>,
    clock_rate_hz: u32,
    announced_ssrc: Option<u32>,
    ssrc: Option<u32>,
    sequence: SequenceTracker,
    lateness: LatenessMeter,
    jitter: Jitter,
    counts: Counts,
    end: End,
    last_report: Option<SenderReportSeen>,
    reported: (u64, u64),
}

/// How the stream ends, and so whether the sender's count can be held against what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// No BYE yet.
    Open,
    /// The server said BYE by itself at this time; packets from before may wait unread.
    Bye { at: Mono, packet_count: u32 },
    /// As before, and everything that was sent ahead of the BYE has been read or is lost.
    Read { packet_count: u32 },
    /// We left first. The count of a BYE that answers our TEARDOWN goes on past what we looked at.
    Left,
}

#[derive(Debug, Clone, Copy)]
struct SenderReportSeen {
    ntp_middle: u32,
    packet_count: u32,
    at: Mono,
}

impl Stream {
    /// A stream of `track` that has received nothing yet.
    #[must_use]
    pub fn new(track: &TrackInfo) -> Self {
        let clock_rate_hz = track.formats.first().map_or(1, |format| format.clock_rate_hz);
        let reorder_max = if track.kind == MediaKind::Video { REORDER_FRAMES_MAX } else { 0 };
        Self {
            kind: track.kind,
            payload_types: track.formats.iter().map(|format| format.payload_type).collect(),
            clock_rate_hz,
            announced_ssrc: None,
            ssrc: None,
            sequence: SequenceTracker::default(),
            lateness: LatenessMeter::new(clock_rate_hz, reorder_max),
            jitter: Jitter::default(),
            counts: Counts { streams: 1, ..Counts::default() },
            end: End::Open,
            last_report: None,
            reported: (0, 0),
        }
    }

    /// What it carries.
    #[must_use]
    pub const fn kind(&self) -> MediaKind {
        self.kind
    }

    /// True after a BYE that came before we left.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.end, End::Bye { .. } | End::Read { .. })
    }

    /// True when BYE came by `deadline` and packets from before it may still wait to be read.
    #[must_use]
    pub fn has_unread_tail(&self, deadline: Mono) -> bool {
        matches!(self.end, End::Bye { at, .. } if at <= deadline)
    }

    /// All packets that arrived before a BYE of up to `deadline` have been handed over.
    pub fn handle_tail_read(&mut self, deadline: Mono) {
        if let End::Bye { at, packet_count } = self.end
            && at <= deadline
        {
            self.end = End::Read { packet_count };
        }
    }

    /// We leave: what the server says about its end from here on is about packets we ignore.
    pub const fn handle_left(&mut self) {
        if !matches!(self.end, End::Read { .. }) {
            self.end = End::Left;
        }
    }

    /// Packets missing so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sequence.lost()
    }

    /// From `Transport` and `RTP-Info`; may come after the first packets.
    pub fn handle_announced(&mut self, ssrc: Option<u32>, seq: Option<u16>) {
        self.announced_ssrc = ssrc.or(self.announced_ssrc);
        if let Some(seq) = seq {
            self.sequence.handle_announced(seq);
        }
    }

    /// One RTP packet; true when it belongs to the stream.
    pub fn handle_rtp(&mut self, data: &[u8], arrival: Mono, late: &mut Timing) -> bool {
        let Ok(packet) = RtpPacket::parse(data) else {
            self.counts.malformed += 1;
            return false;
        };
        let ssrc = packet.ssrc();
        if *self.ssrc.get_or_insert(ssrc) != ssrc {
            self.counts.wrong_ssrc += 1;
            return false;
        }
        if !self.payload_types.contains(&packet.payload_type()) {
            self.counts.wrong_payload_type += 1;
        }
        self.counts.packets += 1;
        self.counts.bytes += u64::try_from(data.len()).unwrap_or(0);
        if self.sequence.handle_packet(packet.sequence_number()) == Arrival::Newest {
            self.lateness.handle_newest(packet.timestamp(), arrival, late);
            self.jitter.handle_packet(packet.timestamp(), arrival, self.clock_rate_hz);
        }
        true
    }

    /// One compound RTCP packet.
    pub fn handle_rtcp(&mut self, data: &[u8], now: Mono) {
        let own = self.ssrc;
        let is_own = |ssrc| own.is_none_or(|own| own == ssrc);
        let (counts, last_report) = (&mut self.counts, &mut self.last_report);
        let end = &mut self.end;
        let result = rtcp::read(data, |part| match part {
            Incoming::SenderReport { ssrc, ntp_middle, packet_count } if is_own(ssrc) => {
                counts.sender_reports += 1;
                *last_report = Some(SenderReportSeen { ntp_middle, packet_count, at: now });
            }
            Incoming::Bye { ssrc } if is_own(ssrc) && counts.byes == 0 => {
                counts.byes = 1;
                if *end == End::Open {
                    let packet_count = last_report.map_or(0, |report| report.packet_count);
                    *end = End::Bye { at: now, packet_count };
                }
            }
            Incoming::SenderReport { .. } | Incoming::Bye { .. } => {}
        });
        if result.is_err() {
            self.counts.malformed_rtcp += 1;
        }
    }

    /// Figures for the next receiver report; `None` before the first packet.
    pub fn report(&mut self, now: Mono) -> Option<Figures> {
        let ssrc = self.ssrc?;
        let (expected, received) = (self.sequence.expected(), self.sequence.received());
        let (expected_before, received_before) = self.reported;
        self.reported = (expected, received);
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now.saturating_sub(received.saturating_sub(received_before));
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0);
        let last = self.last_report;
        let delay = last.map_or(Duration::ZERO, |last| now.since(last.at));
        Some(Figures {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: self.sequence.lost(),
            extended_highest: self.sequence.extended_highest(),
            jitter_rtp: self.jitter.rounded(),
            last_sender_report: last.map_or(0, |last| last.ntp_middle),
            delay_since_last: u32::try_from((delay.as_nanos() << 16) / u128::from(NS_PER_S))
                .unwrap_or(u32::MAX),
        })
    }

    /// The session is over: closes the lateness account and gives the counts.
    pub fn finish(&mut self, has_played: bool, late: &mut Timing) -> Counts {
        self.lateness.finish(late);
        let mut counts = self.counts.clone();
        counts.lost_at_start = self.sequence.lost_at_start();
        counts.lost_at_end = self.lost_at_end();
        counts.lost = self.sequence.lost() + counts.lost_at_end;
        counts.reordered = self.sequence.reordered();
        counts.duplicates = self.sequence.duplicates();
        counts.strays = self.sequence.strays();
        counts.silent = u64::from(has_played && self.ssrc.is_none());
        let announced = self.announced_ssrc.zip(self.ssrc);
        counts.unannounced_ssrc = u64::from(announced.is_some_and(|(said, came)| said != came));
        counts
    }

    fn lost_at_end(&self) -> u64 {
        let End::Read { packet_count } = self.end else { return 0 };
        let missing = u64::from(packet_count).saturating_sub(self.sequence.expected());
        if missing > LOST_AT_END_MAX { 0 } else { missing }
    }
}

/// RFC 3550 appendix A.8, in sixteenths of a tick.
#[derive(Debug, Default)]
struct Jitter {
    transit: Option<u32>,
    scaled: u32,
}

impl Jitter {
    fn handle_packet(&mut self, timestamp: u32, arrival: Mono, clock_rate_hz: u32) {
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

    const fn rounded(&self) -> u32 {
        self.scaled >> 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Format;
    use rtcp_types::{Bye, Compound, RtcpPacketWriterExt, SenderReport};
    use rtp_types::RtpPacketBuilder;

    fn stream() -> Stream {
        Stream::new(&TrackInfo {
            control: rtsp_types::Url::parse("rtsp://h/t").expect("url"),
            kind: MediaKind::Video,
            formats: vec![Format { payload_type: 96, clock_rate_hz: 90_000 }],
        })
    }

    fn rtp(seq: u16, ssrc: u32, payload_type: u8) -> Vec<u8> {
        RtpPacketBuilder::<&[u8], &[u8]>::new()
            .payload_type(payload_type)
            .ssrc(ssrc)
            .sequence_number(seq)
            .timestamp(u32::from(seq) * 3_600)
            .payload(b"media".as_slice())
            .write_vec()
            .expect("packet")
    }

    fn feed(stream: &mut Stream, packets: &[Vec<u8>]) -> Counts {
        let mut late = Timing::default();
        for (packet, at) in packets.iter().zip((0..).map(|n| Mono::from_ns(n * 40_000_000))) {
            stream.handle_rtp(packet, at, &mut late);
        }
        stream.finish(true, &mut late)
    }

    fn ended_after(packet_count: u32) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        let written = Compound::builder()
            .add_packet(SenderReport::builder(1).ntp_timestamp(3 << 16).packet_count(packet_count))
            .add_packet(Bye::builder().add_source(1))
            .write_into(&mut bytes)
            .expect("fits");
        bytes.truncate(written);
        bytes
    }

    #[test]
    fn packet_of_another_source_or_type_is_counted_apart() {
        let mut stream = stream();
        stream.handle_announced(Some(2), Some(5));
        let packets = [rtp(5, 1, 96), rtp(6, 9, 96), rtp(6, 1, 97), b"noise".to_vec()];
        let counts = feed(&mut stream, &packets);
        assert_eq!((counts.packets, counts.lost), (2, 0));
        assert_eq!((counts.wrong_ssrc, counts.wrong_payload_type, counts.malformed), (1, 1, 1));
        assert_eq!(counts.unannounced_ssrc, 1);
    }

    #[test]
    fn tail_lost_before_bye_is_known_from_the_sender_report() {
        let mut stream = stream();
        stream.handle_rtcp(&ended_after(5), Mono::from_ns(0));
        assert!(stream.has_ended());
        stream.handle_tail_read(Mono::from_ns(0));
        stream.handle_left();
        let counts = feed(&mut stream, &[rtp(1, 1, 96), rtp(2, 1, 96), rtp(3, 1, 96)]);
        assert_eq!((counts.lost, counts.lost_at_end, counts.byes), (2, 2, 1));
    }

    #[test]
    fn tail_that_may_wait_unread_behind_bye_is_not_lost() {
        let mut stream = stream();
        stream.handle_rtcp(&ended_after(5), Mono::from_ns(7));
        assert!(!stream.has_unread_tail(Mono::from_ns(6)));
        stream.handle_tail_read(Mono::from_ns(6));
        assert!(stream.has_unread_tail(Mono::from_ns(7)));
        stream.handle_left();
        assert!(!stream.has_unread_tail(Mono::from_ns(7)));
        let counts = feed(&mut stream, &[rtp(1, 1, 96)]);
        assert_eq!((counts.lost, counts.lost_at_end, counts.byes), (0, 0, 1));
    }

    #[test]
    fn count_of_a_bye_after_we_left_is_not_compared() {
        let mut stream = stream();
        feed(&mut stream, &[rtp(1, 1, 96)]);
        stream.handle_left();
        stream.handle_rtcp(&ended_after(5), Mono::from_ns(0));
        stream.handle_tail_read(Mono::from_ns(9));
        let counts = stream.finish(true, &mut Timing::default());
        assert_eq!((counts.lost, counts.lost_at_end, counts.byes), (0, 0, 1));
    }

    #[test]
    fn bye_of_another_source_does_not_end_the_stream() {
        let mut stream = stream();
        feed(&mut stream, &[rtp(1, 33, 96)]);
        stream.handle_rtcp(&ended_after(5), Mono::from_ns(0));
        assert!(!stream.has_ended());
    }

    #[test]
    fn report_tells_the_loss_since_the_last_one() {
        let mut stream = stream();
        assert_eq!(stream.report(Mono::from_ns(0)), None);
        feed(&mut stream, &[rtp(1, 1, 96), rtp(2, 1, 96), rtp(4, 1, 96)]);
        stream.handle_rtcp(&ended_after(5), Mono::from_ns(0));
        let first = stream.report(Mono::from_ns(NS_PER_S / 2)).expect("report");
        assert_eq!((first.fraction_lost, first.lost), (64, 1));
        assert_eq!((first.last_sender_report, first.delay_since_last), (3, 32_768));
        let second = stream.report(Mono::from_ns(NS_PER_S)).expect("report");
        assert_eq!((second.fraction_lost, second.lost), (0, 1));
    }

    #[test]
    fn stream_without_packets_of_a_played_session_is_silent() {
        assert_eq!(feed(&mut stream(), &[]).silent, 1);
    }

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
}
