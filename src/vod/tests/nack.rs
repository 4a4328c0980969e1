//! AVPF in SETUP, and requests for lost packets on their way to the shard.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::ids::{SeqNo, SessionId, Ssrc};
use crate::rtcp::CompoundWriter;
use crate::rtp::RtxRefusal;
use crate::rtsp::request::Method;
use crate::vod::tests::{BASE, Bench, PEER, session_id, status};

fn setup(bench: &mut Bench, transport: &str) -> crate::rtsp::response::Response {
    let (uri, headers) = (format!("{BASE}/trackID=0"), [("Transport", transport)]);
    bench.request(1, Method::Setup, &uri, None, &headers).unwrap()
}

fn playing(profile: &str) -> (Bench, SessionId) {
    let mut bench = Bench::new();
    let answer = setup(&mut bench, &format!("{profile};unicast;client_port=5000-5001"));
    let id = session_id(&answer);
    bench.play(id, &[]).unwrap();
    bench.run_for(Duration::from_secs(1));
    (bench, id)
}

fn nack(bench: &mut Bench, id: SessionId, lost: &[u16]) {
    let media = bench.session(id).streams[0].outgoing.ssrc().unwrap();
    let lost: Vec<_> = lost.iter().copied().map(SeqNo).collect();
    let mut buffer = [0; 1_024];
    let mut out = CompoundWriter::new(&mut buffer);
    out.nack(Ssrc(1), media, &lost).unwrap();
    let from = SocketAddr::from((PEER, 5_001));
    bench.sessions.handle_report_datagram(0, from, out.as_bytes());
    bench.settle();
}

fn refused(bench: &Bench, refusal: RtxRefusal) -> u64 {
    bench.cells.rtx_refused[refusal as usize].value()
}

#[test]
fn setup_with_feedback_is_answered_with_feedback() {
    let mut bench = Bench::new();
    let answer = setup(&mut bench, "RTP/AVPF;unicast;client_port=5000-5001");
    let transport = answer.header_value("Transport").unwrap();
    assert!(transport.starts_with("RTP/AVPF;unicast;client_port=5000-5001;"), "{transport}");
    let stream = &bench.session(session_id(&answer)).streams[0];
    assert!(stream.resender.is_some());
    let answer = setup(&mut bench, "RTP/AVPF/TCP;unicast;interleaved=0-1");
    let transport = answer.header_value("Transport").unwrap();
    assert!(transport.starts_with("RTP/AVPF/TCP;unicast;interleaved=0-1;"), "{transport}");
    let stream = &bench.session(session_id(&answer)).streams[0];
    assert!(stream.resender.is_none(), "nothing is lost over TCP");
    let answer = setup(&mut bench, "RTP/AVP;unicast;client_port=6000-6001");
    assert!(answer.header_value("Transport").unwrap().starts_with("RTP/AVP;"));
    assert!(bench.session(session_id(&answer)).streams[0].resender.is_none());
    assert_eq!(status(&setup(&mut bench, "RTP/SAVPF;unicast;client_port=7000-7001")), 461);
}

#[test]
fn nack_requests_retransmissions_from_the_shard() {
    let (mut bench, id) = playing("RTP/AVPF");
    nack(&mut bench, id, &[7, 8, 20, 65_000]);
    assert_eq!(bench.resends, [7, 8, 20, 65_000]);
    assert_eq!(bench.cells.nacks_received.value(), 4);
}

#[test]
fn nack_without_feedback_or_outside_play_is_counted_and_ignored() {
    let (mut bench, id) = playing("RTP/AVP");
    nack(&mut bench, id, &[7, 8]);
    assert_eq!((bench.resends.len(), refused(&bench, RtxRefusal::Unknown)), (0, 2));
    let (mut bench, id) = playing("RTP/AVPF");
    bench.pause(id);
    nack(&mut bench, id, &[7, 8]);
    assert_eq!((bench.resends.len(), refused(&bench, RtxRefusal::Busy)), (0, 2));
}

#[test]
fn one_datagram_asks_for_a_bounded_number_of_packets() {
    let (mut bench, id) = playing("RTP/AVPF");
    let all: Vec<u16> = (0..900).collect();
    nack(&mut bench, id, &all);
    assert_eq!(bench.resends.len(), 256);
}

#[test]
fn no_retransmission_when_switched_off() {
    let mut bench = Bench::new();
    bench.sessions.cx.config.retransmits = false;
    let answer = setup(&mut bench, "RTP/AVPF;unicast;client_port=5000-5001");
    let transport = answer.header_value("Transport").unwrap();
    assert!(transport.starts_with("RTP/AVPF;"), "reports are the same: {transport}");
    assert!(bench.session(session_id(&answer)).streams[0].resender.is_none());
}
