//! Reads what a server reports and writes our reports, a reader's or a publisher's.
//!
//! RFC 3550 s6.4 (SR, RR), s6.5 (SDES), s6.6 (BYE). A receiver report is always a compound of RR
//! and SDES with a CNAME (s6.1). Packets are `rtcp_types`' business; this file picks.
//! Invariant: malformed reports change nothing and are counted by the caller.

use rtcp_types::{
    Compound, Packet, ReceiverReport, ReportBlock, RtcpPacketWriterExt, Sdes, SdesChunk, SdesItem,
    SenderReport,
};

/// Largest report written: RR with one block, SDES with a short CNAME.
const REPORT_BYTES_MAX: usize = 256;
/// RFC 3550 s6.4.1: cumulative loss is a signed 24-bit number.
const CUMULATIVE_LOST_MAX: u64 = 0x007f_ffff;

/// A part of an incoming compound packet that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// Sender report.
    SenderReport {
        /// Who reports.
        ssrc: u32,
        /// Middle 32 bits of its NTP time, to be echoed.
        ntp_middle: u32,
        /// Packets sent since it began.
        packet_count: u32,
    },
    /// End of a source.
    Bye {
        /// Which.
        ssrc: u32,
    },
}

/// The datagram is not RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RTCP packet")]
pub struct NotRtcp;

/// Reads a compound packet; `on` is called per part, in order.
pub fn read(data: &[u8], mut on: impl FnMut(Incoming)) -> Result<(), NotRtcp> {
    for packet in Compound::parse(data).map_err(|_| NotRtcp)? {
        match packet.map_err(|_| NotRtcp)? {
            Packet::Sr(report) => {
                let middle = (report.ntp_timestamp() >> 16) & u64::from(u32::MAX);
                on(Incoming::SenderReport {
                    ssrc: report.ssrc(),
                    ntp_middle: u32::try_from(middle).unwrap_or(0),
                    packet_count: report.packet_count(),
                });
            }
            Packet::Bye(bye) => bye.ssrcs().for_each(|ssrc| on(Incoming::Bye { ssrc })),
            _ => {}
        }
    }
    Ok(())
}

/// Figures of one report block (RFC 3550 s6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Source reported on.
    pub ssrc: u32,
    /// Loss since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Loss since the start.
    pub lost: u64,
    /// Highest sequence number with cycles.
    pub extended_highest: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter_rtp: u32,
    /// Middle of the last sender report's NTP time, 0 when there was none.
    pub last_sender_report: u32,
    /// Time since that report, in 1/65536 s.
    pub delay_since_last: u32,
}

/// A compound of RR and SDES from `receiver_ssrc`; `None` before the first packet of a source.
#[must_use]
pub fn receiver_report(receiver_ssrc: u32, figures: Option<Figures>) -> Vec<u8> {
    let mut report = ReceiverReport::builder(receiver_ssrc);
    if let Some(figures) = figures {
        let lost = u32::try_from(figures.lost.min(CUMULATIVE_LOST_MAX)).unwrap_or(0);
        report = report.add_report_block(
            ReportBlock::builder(figures.ssrc)
                .fraction_lost(figures.fraction_lost)
                .cumulative_lost(lost)
                .extended_sequence_number(figures.extended_highest)
                .interarrival_jitter(figures.jitter_rtp)
                .last_sender_report_timestamp(figures.last_sender_report)
                .delay_since_last_sender_report_timestamp(figures.delay_since_last),
        );
    }
    let cname = format!("loadgen-{receiver_ssrc:08x}");
    let item = SdesItem::builder(SdesItem::CNAME, &cname);
    let sdes = Sdes::builder().add_chunk(SdesChunk::builder(receiver_ssrc).add_item(item));
    let mut bytes = vec![0; REPORT_BYTES_MAX];
    let compound = Compound::builder().add_packet(report).add_packet(sdes);
    let written = compound.write_into(&mut bytes).unwrap_or(0);
    bytes.truncate(written);
    bytes
}

/// A compound of SR and SDES: at `utc_ns` since 1970 the source's time is `ts`; packets and payload
/// bytes sent so far.
#[must_use]
pub fn sender_report(ssrc: u32, utc_ns: u64, ts: u32, (packets, octets): (u64, u64)) -> Vec<u8> {
    let seconds = utc_ns / NS_PER_S + NTP_EPOCH_S;
    let fraction = ((utc_ns % NS_PER_S) << 32) / NS_PER_S;
    // The counters wrap (RFC 3550 s6.4.1).
    let low = |count: u64| u32::try_from(count & u64::from(u32::MAX)).unwrap_or(0);
    let report = SenderReport::builder(ssrc)
        .ntp_timestamp((seconds << 32) | fraction)
        .rtp_timestamp(ts)
        .packet_count(low(packets))
        .octet_count(low(octets));
    let cname = format!("loadgen-{ssrc:08x}");
    let item = SdesItem::builder(SdesItem::CNAME, &cname);
    let sdes = Sdes::builder().add_chunk(SdesChunk::builder(ssrc).add_item(item));
    let mut bytes = vec![0; REPORT_BYTES_MAX];
    let compound = Compound::builder().add_packet(report).add_packet(sdes);
    let written = compound.write_into(&mut bytes).unwrap_or(0);
    bytes.truncate(written);
    bytes
}

const NS_PER_S: u64 = 1_000_000_000;
/// From 1900 to 1970.
const NTP_EPOCH_S: u64 = 2_208_988_800;

#[cfg(test)]
mod tests {
    use super::*;
    use rtcp_types::Bye;

    #[test]
    fn sender_report_of_ours_tells_the_time_of_1970_as_that_of_1900() {
        let bytes = sender_report(7, 1_500_000_000, 90_000, (3, 4_000));
        let packets: Vec<_> = Compound::parse(&bytes).expect("compound").collect();
        let [Ok(Packet::Sr(report)), Ok(Packet::Sdes(_))] = packets.as_slice() else {
            panic!("SR and SDES, got {packets:?}")
        };
        assert_eq!(report.ntp_timestamp(), (2_208_988_801 << 32) | (1 << 31));
        assert_eq!((report.rtp_timestamp(), report.octet_count()), (90_000, 4_000));
    }

    #[test]
    fn sender_report_and_bye_are_read_in_order() {
        let mut bytes = vec![0; 256];
        let written = Compound::builder()
            .add_packet(
                SenderReport::builder(7).ntp_timestamp(0x1111_2222_3333_4444).packet_count(5),
            )
            .add_packet(Bye::builder().add_source(7))
            .write_into(&mut bytes)
            .expect("fits");
        let mut parts = Vec::new();
        read(&bytes[..written], |part| parts.push(part)).expect("valid");
        let report = Incoming::SenderReport { ssrc: 7, ntp_middle: 0x2222_3333, packet_count: 5 };
        assert_eq!(parts, [report, Incoming::Bye { ssrc: 7 }]);
    }

    #[test]
    fn report_with_figures_is_read_back() {
        let figures = Figures {
            ssrc: 9,
            fraction_lost: 3,
            lost: u64::MAX,
            extended_highest: 70_000,
            jitter_rtp: 12,
            last_sender_report: 1,
            delay_since_last: 2,
        };
        let bytes = receiver_report(1, Some(figures));
        let packets: Vec<_> = Compound::parse(&bytes).expect("compound").collect();
        let [Ok(Packet::Rr(report)), Ok(Packet::Sdes(_))] = packets.as_slice() else {
            panic!("RR and SDES, got {packets:?}")
        };
        let block = report.report_blocks().next().expect("block");
        assert_eq!((block.ssrc(), block.cumulative_lost()), (9, 0x7f_ffff));
        assert_eq!(block.extended_sequence_number(), 70_000);
    }

    #[test]
    fn report_before_any_packet_has_no_block() {
        let bytes = receiver_report(1, None);
        assert_eq!(bytes.get(1), Some(&201));
        assert_eq!(bytes.first(), Some(&0x80));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(data in proptest::collection::vec(0u8.., 0..200)) {
            let _ = read(&data, |_| {});
        }
    }
}
