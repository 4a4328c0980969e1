//! DESCRIBE of a source whose parameter sets come in band only.

use super::*;

const H264: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n\
    a=control:streamid=0\r\n";
const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xd9];
const PPS: &[u8] = &[0x68, 0xcb, 0x83];
const KEY_FRAME: &[u8] = &[0x65, 0x88, 0x80];
const SLICE: &[u8] = &[0x41, 0x9a, 0x02];

fn describe(bench: &mut Bench, connection: u32) -> Option<Response> {
    bench.request((connection, host(3, 40_001)), Method::Describe, URL, None, (&[], ""))
}

fn text(answer: &Response) -> String {
    assert_eq!(answer.status(), Status::Ok);
    let mut written = Vec::new();
    answer.write_to(0, &mut written);
    String::from_utf8(written).unwrap()
}

fn send(bench: &mut Bench, seq: u16, payload: &[u8]) {
    let [high, low] = seq.to_be_bytes();
    let packet = [&[0x80, 96, high, low, 0, 0, 0, low, 0, 0, 0, 9][..], payload].concat();
    bench.sessions.live.sources.handle_rtp_datagram(
        &mut bench.sessions.cx,
        0,
        host(1, 5_000),
        &packet,
    );
    bench.sessions.live.feed_live(&mut bench.sessions.cx);
    bench.settle();
}

#[test]
fn describe_requests_before_the_parameter_sets_are_answered_with_them() {
    let mut bench = Bench::new();
    bench.publish_as(H264);
    for connection in [7, 8] {
        assert!(describe(&mut bench, connection).is_none(), "it waits");
    }
    bench.pass(Duration::from_millis(500));
    for (seq, payload) in (1..).zip([SLICE, SPS, PPS, KEY_FRAME]) {
        assert!(bench.answer(7).is_none());
        send(&mut bench, seq, payload);
    }
    for connection in [7, 8] {
        let answer = bench.answer(connection).unwrap();
        assert!(text(&answer).contains("sprop-parameter-sets=Z0LAHtk=,aMuD"), "{}", text(&answer));
    }
    let at_once = describe(&mut bench, 9).unwrap();
    assert!(text(&at_once).contains("sprop-parameter-sets"));
    assert_eq!(bench.sessions.live.readers.held.len(), 0);
}

#[test]
fn describe_waits_for_parameter_sets_up_to_a_limit_and_again_for_another_source() {
    let mut bench = Bench::new();
    let id = bench.publish_as(H264);
    assert!(describe(&mut bench, 7).is_none());
    bench.pass(Duration::from_millis(3_500));
    assert!(bench.answer(7).is_none());
    bench.pass(Duration::from_millis(2_000));
    assert!(!text(&bench.answer(7).unwrap()).contains("sprop"));
    assert!(describe(&mut bench, 8).is_some(), "nobody waits a second time");
    let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    assert_eq!(setup.status(), Status::Ok);
    let from = (PUBLISHER, host(1, 40_000));
    bench.request(from, Method::Teardown, URL, Some(id), (&[], "")).unwrap();
    bench.publish_as(H264);
    assert!(describe(&mut bench, 9).is_none(), "this one may have them");
}

#[test]
fn parameter_sets_that_did_not_come_in_time_are_not_waited_for_again() {
    let mut bench = Bench::new();
    bench.publish_as(H264);
    let mut seq = 0;
    // Longer than a shard keeps a path that nobody reads.
    for _ in 0..15 {
        seq += 1;
        send(&mut bench, seq, SLICE);
        bench.pass(Duration::from_secs(1));
    }
    assert!(!text(&describe(&mut bench, 7).unwrap()).contains("sprop"));
    for payload in [SPS, PPS, KEY_FRAME] {
        seq += 1;
        send(&mut bench, seq, payload);
    }
    assert!(text(&describe(&mut bench, 7).unwrap()).contains("sprop"), "when they come they count");
}

#[test]
fn describe_held_for_parameter_sets_is_answered_when_the_source_ends_and_dropped_with_its_connection()
 {
    let mut bench = Bench::new();
    let id = bench.publish_as(H264);
    for connection in [7, 8] {
        assert!(describe(&mut bench, connection).is_none());
    }
    bench.sessions.handle_connection_closed(entry(8));
    assert_eq!(bench.sessions.live.readers.held.len(), 1);
    let from = (PUBLISHER, host(1, 40_000));
    bench.request(from, Method::Teardown, URL, Some(id), (&[], "")).unwrap();
    bench.pass(Duration::from_secs(12));
    assert!(bench.answer(7).is_some());
    assert!(bench.answer(8).is_none());
    assert_eq!(bench.sessions.live.readers.held.len(), 0);
}

#[test]
fn describe_of_a_source_without_or_with_announced_parameter_sets_does_not_wait() {
    for sdp in [
        SDP.to_owned(),
        H264.replace("mode=1", "mode=1;sprop-parameter-sets=Z0LAHtk=,aMuD"),
        H264.replace("H264", "VP8"),
    ] {
        let mut bench = Bench::new();
        bench.publish_as(&sdp);
        assert!(describe(&mut bench, 7).is_some(), "{sdp}");
    }
}
