//! RTCP of sessions of all roles: sends compound packets, and observes players' reports.
//!
//! ```text
//!  bytes --transport, connection--> Action::Datagram | Action::Interleaved
//!  report block --> loss and jitter into the metrics, round-trip time
//! ```
//! Invariant: a datagram or frame that is sent is counted once; the buffer of a packet without a
//! destination is reused.

use crate::base::ids::RtpTs;
use crate::base::time::Npt;
use crate::metrics::cells::ShardCells;
use crate::poll::poll_table::EntryKey;
use crate::rtcp::{self, ReportBlock, SenderInfo};
use crate::rtp::srtp::SrtpStream;
use crate::session::action::Action;
use crate::session::cx::Cx;
use crate::session::transport::Transport;

/// Sends a compound packet to the other end of a stream, encrypted with `srtp`. `connection` is the
/// session's, for interleaved streams. Members of a group, and sessions whose connection has
/// closed, get nothing.
pub(crate) fn send_rtcp(
    cx: &mut Cx,
    (transport, srtp): (Transport, Option<&SrtpStream>),
    connection: Option<EntryKey>,
    mut bytes: Vec<u8>,
) {
    if let Some(Err(error)) = srtp.map(|srtp| srtp.protect_rtcp(&mut bytes)) {
        tracing::debug!(%error, "RTCP not encrypted");
        cx.cells.srtp_packets_dropped.add(1);
        cx.give_bytes_back(bytes);
        return;
    }
    let action = match (transport, connection) {
        (Transport::Udp { pair, rtcp, .. }, _) => Action::Datagram { pair, to: rtcp, bytes },
        (Transport::Tcp { rtcp_channel, .. }, Some(entry)) => {
            Action::Interleaved { entry, channel: rtcp_channel, bytes }
        }
        (Transport::Tcp { .. }, None) | (Transport::Group { .. }, _) => {
            cx.give_bytes_back(bytes);
            return;
        }
    };
    cx.cells.rtcp_packets_sent.add(1);
    cx.out.push(action);
}

/// The sender information of a stream at `utc_ns` (RFC 3550 s6.4.1).
#[must_use]
pub(crate) fn sender_info(
    utc_ns: i64,
    rtp_ts: RtpTs,
    packets: u64,
    payload_bytes: u64,
) -> SenderInfo {
    SenderInfo {
        ntp: rtcp::ntp_from_utc_ns(utc_ns),
        rtp_ts,
        packet_count: wrap(packets),
        octet_count: wrap(payload_bytes),
    }
}

/// Counts a player's report block of a stream. Returns the round-trip time in nanoseconds; `None`
/// without a plausible LSR. `ntp` is the arrival time of the report.
pub(crate) fn observe_report(
    cells: &ShardCells,
    block: &ReportBlock,
    clock_rate_hz: u32,
    ntp: u64,
) -> Option<u64> {
    cells.rtcp_reports_received.add(1);
    cells.reported_loss_ratio.observe_fraction(block.fraction_lost);
    let jitter = Npt::from_ticks(i64::from(block.jitter), clock_rate_hz);
    cells.reported_jitter.observe_ns(u64::try_from(jitter.0).unwrap_or(0));
    rtcp::round_trip_ns(ntp, block.lsr, block.dlsr)
}

/// The low 32 bits: RTCP counters wrap (RFC 3550 s6.4.1).
#[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is what the field means")]
fn wrap(count: u64) -> u32 {
    count as u32
}
