//! RTCP of readers: sender reports and BYE to them, and their reports. DESIGN section 5.8.

use std::time::Duration;

use rand::RngExt;

use crate::base::ids::Ssrc;
use crate::base::random;
use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::live::readers::reader::{LiveStream, ReaderState};
use crate::rtcp::{self, Feedback};
use crate::session::cx::Cx;
use crate::session::rtcp::{observe_report, send_rtcp, sender_info};

impl Readers {
    /// Sends a sender report on every stream of a reader that has been sent packets.
    pub(crate) fn send_live_reports(&mut self, cx: &mut Cx, hub: &mut Hub, index: u32) {
        let interval = Duration::from_millis(random::rng().random_range(2_500..7_500));
        let Some(reader) = self.table.get_mut(index as usize) else { return };
        // A player that has just joined a group needs a report to synchronise sound and video (RFC
        // 3550 s6.2: the reduced minimum).
        let due = cx.now + if reader.is_session() { interval } else { interval / 5 };
        let has_begun = reader.streams.iter().any(|stream| stream.outgoing.ssrc().is_some());
        // Without packets there is nothing to report: the report stays due.
        if !matches!(reader.state, ReaderState::Playing) || !has_begun {
            return;
        }
        reader.report_due = due;
        for stream_index in 0..reader.streams.len() {
            self.send_live_report(cx, hub, index, stream_index, None);
        }
    }

    /// Sends BYE on every stream that the reader has had packets of.
    pub(crate) fn say_live_bye(&self, cx: &mut Cx, hub: &mut Hub, index: u32, reason: &str) {
        let count = self.table.get(index as usize).map_or(0, |r| r.streams.len());
        for stream_index in 0..count {
            self.send_live_report(cx, hub, index, stream_index, Some(reason));
        }
    }

    fn send_live_report(
        &self,
        cx: &mut Cx,
        hub: &mut Hub,
        index: u32,
        stream_index: usize,
        bye: Option<&str>,
    ) {
        let mut bytes = cx.take_bytes();
        let utc_ns = cx.utc_ns;
        let Some(reader) = self.table.get(index as usize) else { return };
        let Some(stream) = reader.streams.get(stream_index) else { return };
        let Some(ssrc) = stream.outgoing.ssrc() else { return };
        let place = u8::try_from(stream_index).unwrap_or(u8::MAX);
        let path = hub.paths.path_of(reader.key);
        let report = path.and_then(|path| path.report(reader.key, place, utc_ns));
        match (report, bye) {
            (Some(report), bye) => {
                let (packets, payload_bytes) = (report.packets, report.payload_bytes);
                let info = sender_info(utc_ns, report.rtp_ts, packets, payload_bytes);
                rtcp::write_sender_report(&mut bytes, ssrc, &info, &reader.client.cname, bye);
            }
            (None, Some(reason)) => {
                rtcp::write_empty_rr_bye(&mut bytes, ssrc, &reader.client.cname, reason);
            }
            // The track has no known clock.
            (None, None) => return,
        }
        let way = (stream.outgoing.transport, stream.outgoing.srtp.as_ref());
        send_rtcp(cx, way, reader.client.connection, bytes);
    }

    /// Handles RTCP from a reader.
    pub(crate) fn handle_reader_report(&mut self, cx: &Cx, index: u32, feedback: &Feedback) {
        let (now, ntp) = (cx.now, rtcp::ntp_from_utc_ns(cx.utc_ns));
        let Some(reader) = self.table.get_mut(index as usize) else { return };
        reader.client.alive = now;
        for block in &feedback.reports {
            let has_ssrc =
                |stream: &&mut LiveStream| stream.outgoing.ssrc() == Some(Ssrc(block.ssrc));
            let Some(stream) = reader.streams.iter_mut().find(has_ssrc) else { continue };
            let (cells, clock_rate_hz) = (&cx.cells, stream.outgoing.clock_rate_hz);
            let round_trip_ns = observe_report(cells, block, clock_rate_hz, ntp);
            stream.outgoing.note_report(*block, round_trip_ns);
        }
    }
}
