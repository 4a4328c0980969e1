//! Bytes of RTSP, SDP, RTP and RTCP, in and out.

#![expect(clippy::expect_used, reason = "an input that is refused measures nothing")]

use std::net::Ipv4Addr;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::rtcp::{SenderInfo, ntp_from_utc_ns, write_sender_report};
use headend::rtp::HEADER_BYTES;
use headend::rtsp::reader::{Input, RequestReader};
use headend::rtsp::transport::parse_transport;
use headend::sdp::{Description, describe};
use rtcp_types::{ReceiverReport, ReportBlock, RtcpPacketWriterExt};

use crate::film::Film;

/// SETUP as FFmpeg writes it.
const SETUP: &str = "SETUP rtsp://192.0.2.1:8554/vod/big%20film.mp4/trackID=0 RTSP/1.0\r\n\
    Transport: RTP/AVP/UDP;unicast;client_port=21566-21567\r\n\
    CSeq: 3\r\n\
    User-Agent: Lavf60.16.100\r\n\
    \r\n";

#[divan::bench]
fn read_request(bencher: Bencher<'_, '_>) {
    let mut reader = RequestReader::new();
    bencher.counter(BytesCount::of_str(SETUP)).bench_local(|| {
        reader.handle_bytes(black_box(SETUP.as_bytes()));
        let input = reader.poll();
        assert!(matches!(input, Some(Input::Request(_))));
        input
    });
}

/// Byte by byte, as a hostile or a very slow client sends it.
#[divan::bench]
fn read_request_in_single_bytes(bencher: Bencher<'_, '_>) {
    let mut reader = RequestReader::new();
    bencher.counter(BytesCount::of_str(SETUP)).bench_local(|| {
        SETUP
            .as_bytes()
            .iter()
            .filter_map(|byte| {
                reader.handle_bytes(std::slice::from_ref(byte));
                reader.poll()
            })
            .count()
    });
}

#[divan::bench]
fn read_transport_header() -> usize {
    let header = "RTP/AVP/UDP;unicast;client_port=21566-21567,RTP/AVP/TCP;unicast;interleaved=0-1";
    parse_transport(black_box(header)).map_or(0, |offers| offers.len())
}

#[divan::bench]
fn describe_film(bencher: Bencher<'_, '_>) {
    let asset = Film::of_seconds(60).open().expect("the film opens");
    let origin = Ipv4Addr::new(192, 0, 2, 1).into();
    let description = Description {
        asset: &asset,
        name: "big film.mp4",
        session_id: 11,
        version: 22,
        origin,
        rtx: None,
        calls_eac3_ac3: false,
    };
    bencher.bench(|| describe(black_box(&description)));
}

#[divan::bench]
fn write_rtp_header(bencher: Bencher<'_, '_>) {
    let mut out = [0; HEADER_BYTES];
    bencher.bench_local(|| {
        let (seq, ts, ssrc) = black_box((SeqNo(7), RtpTs(90_000), Ssrc(0x1234_5678)));
        headend::rtp::write_header(&mut out, true, 96, seq, ts, ssrc);
        black_box(out)
    });
}

#[divan::bench]
fn write_sender_report_with_cname(bencher: Bencher<'_, '_>) {
    let info = SenderInfo {
        ntp: ntp_from_utc_ns(1_790_000_000_000_000_000),
        rtp_ts: RtpTs(90_000),
        packet_count: 1_000,
        octet_count: 1_000_000,
    };
    let mut out = Vec::with_capacity(256);
    bencher.bench_local(|| {
        out.clear();
        write_sender_report(&mut out, Ssrc(1), black_box(&info), "1f2e3d4c@192.0.2.1", None);
        out.len()
    });
}

#[divan::bench]
fn read_receiver_report(bencher: Bencher<'_, '_>) {
    let block = ReportBlock::builder(1)
        .fraction_lost(3)
        .cumulative_lost(9)
        .extended_sequence_number(70_000);
    let report = ReceiverReport::builder(2).add_report_block(block);
    let mut bytes = [0; 256];
    let written = report.write_into(&mut bytes).expect("a report fits");
    let bytes = &bytes[..written];
    bencher.bench(|| headend::rtcp::parse(black_box(bytes)).expect("our own report"));
}
