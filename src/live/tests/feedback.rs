//! Lost packets of readers, requests to publishers, and descriptions that follow the stream.

use super::*;
use crate::base::ids::{SeqNo, Ssrc};
use crate::rtcp::{self, CompoundWriter, Packet};
use crate::rtp::RtxRefusal;
use crate::session::outgoing::Numbers;

const VIDEO: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVPF 96\r\na=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack pli\r\n\
    a=control:streamid=0\r\n";
const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xd9];
const OTHER_SPS: &[u8] = &[0x67, 0x4d, 0x40, 0x1f, 0xd9];
const PPS: &[u8] = &[0x68, 0xcb, 0x83];
const IDR: &[u8] = &[0x65, 0x88, 0x80];
const SLICE: &[u8] = &[0x41, 0x9a, 0x20];
/// SSRC of all packets of the publisher.
const MEDIA: Ssrc = Ssrc(9);

impl Bench {
    fn video(&mut self, seq: u16, payload: &[u8]) {
        let [high, low] = seq.to_be_bytes();
        // A picture ends its frame, and with it the batch.
        let marker = if matches!(payload[0] & 0x1f, 1 | 5) { 0x80 } else { 0 };
        let header = [0x80, 96 | marker, high, low, 0, 0, high, low, 0, 0, 0, 9];
        let bytes = [&header[..], payload].concat();
        self.sessions.live.sources.handle_rtp_datagram(
            &mut self.sessions.cx,
            0,
            host(1, 5_000),
            &bytes,
        );
        self.sessions.live.feed_live(&mut self.sessions.cx);
        self.settle();
    }

    fn describe(&mut self, agent: &str) -> String {
        let from = (READER, host(3, 40_001));
        let headers = [("User-Agent", agent)];
        let answer = self.request(from, Method::Describe, URL, None, (&headers, ""));
        let answer = answer.unwrap_or_else(|| {
            // Parameter sets may come.
            self.pass(Duration::from_secs(5));
            self.answer(READER).unwrap()
        });
        self.datagrams.clear();
        let mut text = Vec::new();
        answer.write_to(0, &mut text);
        String::from_utf8(text).unwrap()
    }

    fn setup_as(&mut self, transport: &str) -> Response {
        let from = (READER, host(3, 40_001));
        let (uri, headers) = ("rtsp://h/live/a/trackID=0", [("Transport", transport)]);
        self.request(from, Method::Setup, uri, None, (&headers, "")).unwrap()
    }

    /// A reader that plays and has had packets.
    fn playing(&mut self, profile: &str) -> SessionId {
        let setup = self.setup_as(&format!("{profile};unicast;client_port=6000-6001"));
        let id = session_id(&setup);
        assert_eq!(self.reader(Method::Play, URL, Some(id)).unwrap().status().code(), 200);
        for (_, reader) in &mut self.sessions.live.readers.table {
            reader.streams[0].outgoing.numbers = Numbers::Source(Some(MEDIA));
        }
        id
    }

    fn say(&mut self, write: impl FnOnce(&mut CompoundWriter<'_>)) {
        let mut buffer = [0; 1_024];
        let mut out = CompoundWriter::new(&mut buffer);
        write(&mut out);
        self.sessions.handle_report_datagram(0, host(3, 6_001), out.as_bytes());
        self.settle();
    }

    /// Requests for a key frame that the publisher got since the last call.
    fn picture_requests(&mut self) -> Vec<String> {
        let mut requests = Vec::new();
        for (to, bytes) in self.datagrams.drain(..) {
            for packet in rtcp::packets(&bytes) {
                let text = match packet.unwrap() {
                    Packet::Pli { media, .. } => format!("PLI {}", media.0),
                    Packet::Fir(fir) => format!("FIR {:?}", fir.entries().collect::<Vec<_>>()),
                    _ => continue,
                };
                assert_eq!(to, host(1, 5_001));
                requests.push(text);
            }
        }
        requests
    }

    fn refused(&self, refusal: RtxRefusal) -> u64 {
        self.sessions.cx.cells.rtx_refused[refusal as usize].value()
    }
}

#[test]
fn feedback_is_offered_to_readers_that_take_it_and_setup_repeats_it() {
    let mut bench = Bench::new();
    bench.publish_as(VIDEO);
    let offered = bench.describe("GStreamer/1.22.0");
    assert!(offered.contains("m=video 0 RTP/AVPF 96 127\r\n"), "{offered}");
    assert!(offered.contains("a=fmtp:127 apt=96;rtx-time=2000\r\n"), "{offered}");
    assert!(offered.contains("a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n"), "{offered}");
    let plain = bench.describe("Lavf60");
    assert!(plain.contains("m=video 0 RTP/AVP 96\r\n") && !plain.contains("rtx"), "{plain}");
    let told = bench.setup_as("RTP/AVPF;unicast;client_port=6000-6001");
    let told = told.header_value("Transport").unwrap();
    assert!(told.starts_with("RTP/AVPF;unicast;client_port=6000-6001;"), "{told}");
    let told = bench.setup_as("RTP/AVPF/TCP;unicast;interleaved=0-1");
    assert!(told.header_value("Transport").unwrap().starts_with("RTP/AVPF/TCP;"));
    assert_eq!(bench.setup_as("RTP/SAVPF;unicast;client_port=6002-6003").status().code(), 461);
    let rtx: Vec<_> = bench
        .sessions
        .live
        .readers
        .table
        .iter()
        .map(|(_, r)| (r.streams[0].outgoing.rtx, r.streams[0].outgoing.payload_type))
        .collect();
    assert_eq!(rtx.iter().map(|(rtx, _)| rtx.is_some()).collect::<Vec<_>>(), [true, false]);
    let (rtx, original) = rtx[0];
    assert_eq!((rtx.unwrap().payload_type, original), (127, 96));
}

#[test]
fn picture_loss_indication_is_offered_to_readers_if_the_publisher_takes_requests() {
    let mut bench = Bench::new();
    bench.publish_as(&VIDEO.replace("AVPF", "AVP"));
    let offered = bench.describe("GStreamer/1.22.0");
    assert!(
        offered.contains("a=rtcp-fb:96 nack\r\n") && !offered.contains("nack pli"),
        "{offered}"
    );
}

#[test]
fn feedback_is_not_offered_where_it_is_switched_off() {
    let mut bench = Bench::new();
    bench.sessions.cx.config.retransmits = false;
    bench.publish_as(VIDEO);
    let plain = bench.describe("GStreamer/1.22.0");
    assert!(plain.contains("m=video 0 RTP/AVP 96\r\n"), "{plain}");
    bench.setup_as("RTP/AVPF;unicast;client_port=6000-6001");
    assert!(
        bench.sessions.live.readers.table.iter().all(|(_, r)| r.streams[0].outgoing.rtx.is_none())
    );
}

#[test]
fn nack_of_a_playing_reader_requests_retransmissions() {
    let mut bench = Bench::new();
    bench.publish_as(VIDEO);
    bench.video(1, IDR);
    let id = bench.playing("RTP/AVPF");
    let lost = [7, 8, 20].map(SeqNo);
    bench.say(|out| out.nack(Ssrc(1), MEDIA, &lost).unwrap());
    assert_eq!(bench.resends, [7, 8, 20]);
    bench.say(|out| out.nack(Ssrc(1), Ssrc(77), &lost).unwrap());
    assert_eq!((bench.resends.len(), bench.sessions.cx.cells.nacks_received.value()), (3, 3));
    let all: Vec<_> = (0..900).map(SeqNo).collect();
    bench.say(|out| out.nack(Ssrc(1), MEDIA, &all).unwrap());
    assert_eq!(bench.resends.len(), 3 + 256);
    bench.reader(Method::Pause, URL, Some(id));
    bench.say(|out| out.nack(Ssrc(1), MEDIA, &lost).unwrap());
    assert_eq!((bench.resends.len(), bench.refused(RtxRefusal::Busy)), (3 + 256, 3));
}

#[test]
fn nack_of_a_reader_without_feedback_is_counted_and_ignored() {
    let mut bench = Bench::new();
    bench.publish_as(VIDEO);
    bench.video(1, IDR);
    bench.playing("RTP/AVP");
    bench.say(|out| out.nack(Ssrc(1), MEDIA, &[SeqNo(1)]).unwrap());
    assert_eq!((bench.resends.len(), bench.refused(RtxRefusal::Unknown)), (0, 1));
}

#[test]
fn reader_without_a_key_frame_to_begin_with_requests_one_from_the_publisher() {
    let mut bench = Bench::new();
    bench.publish_as(VIDEO);
    bench.video(1, SLICE);
    let setup = bench.setup_as("RTP/AVP;unicast;client_port=6000-6001");
    assert!(bench.reader(Method::Play, URL, Some(session_id(&setup))).is_none());
    assert_eq!(bench.picture_requests(), ["PLI 9"]);
    bench.video(2, IDR);
    assert_eq!(bench.answer(READER).unwrap().status().code(), 200);
    bench.setup_as("RTP/AVP;unicast;client_port=6002-6003");
    let setup = bench.setup_as("RTP/AVP;unicast;client_port=6004-6005");
    bench.reader(Method::Play, URL, Some(session_id(&setup))).unwrap();
    assert!(bench.picture_requests().is_empty(), "there is one by now");
}

#[test]
fn picture_losses_of_readers_are_forwarded_to_the_publisher_two_seconds_apart() {
    let mut bench = Bench::new();
    bench.publish_as(VIDEO);
    bench.video(1, IDR);
    bench.playing("RTP/AVPF");
    for _ in 0..3 {
        bench.say(|out| out.pli(Ssrc(1), MEDIA).unwrap());
    }
    assert_eq!(bench.picture_requests(), ["PLI 9"]);
    bench.pass(Duration::from_millis(2_100));
    bench.say(|out| out.fir(Ssrc(1), MEDIA, 5).unwrap());
    bench.say(|out| out.pli(Ssrc(1), Ssrc(77)).unwrap());
    assert_eq!(bench.picture_requests(), ["PLI 9"]);
    let cells = &bench.sessions.cx.cells;
    let counted = (&cells.picture_requests_received, &cells.picture_requests_sent);
    assert_eq!((counted.0.value(), counted.1.value()), (4, 2));
}

#[test]
fn key_frame_request_is_of_the_kind_that_the_publisher_offers() {
    let pli = "a=rtcp-fb:96 nack pli";
    for (sdp, expected) in [
        (VIDEO.replace(pli, "a=rtcp-fb:* ccm fir"), ["FIR [(Ssrc(9), 0)]", "FIR [(Ssrc(9), 1)]"]),
        (VIDEO.replace(pli, &format!("a=rtcp-fb:96 ccm fir\r\n{pli}")), ["PLI 9", "PLI 9"]),
        (VIDEO.replace(&format!("{pli}\r\n"), ""), ["PLI 9", "PLI 9"]),
        (VIDEO.replace(pli, "a=rtcp-fb:96 nack"), [""; 2]),
        (VIDEO.replace(pli, "a=rtcp-fb:97 nack pli"), [""; 2]),
        (VIDEO.replace("AVPF", "AVP"), [""; 2]),
    ] {
        let mut bench = Bench::new();
        bench.publish_as(&sdp);
        bench.video(1, IDR);
        bench.playing("RTP/AVP");
        for expected in expected {
            bench.say(|out| out.pli(Ssrc(1), MEDIA).unwrap());
            assert_eq!(bench.picture_requests().concat(), expected, "{sdp}");
            bench.pass(Duration::from_millis(2_100));
        }
    }
}

#[test]
fn parameter_sets_in_band_are_in_the_description_of_later_readers() {
    let mut bench = Bench::new();
    bench.publish_as(VIDEO);
    assert!(!bench.describe("x").contains("sprop"));
    bench.video(1, SPS);
    bench.video(2, PPS);
    assert!(!bench.describe("x").contains("sprop"), "more of them may come");
    bench.video(3, IDR);
    let first = bench.describe("x");
    let fmtp = "a=fmtp:96 packetization-mode=1;profile-level-id=42C01E;\
        sprop-parameter-sets=Z0LAHtk=,aMuD\r\n";
    assert!(first.contains(fmtp), "{first}");
    assert!(bench.describe("GStreamer").contains(fmtp));
    // The same again, as in front of each key picture.
    for (seq, payload) in (4..).zip([SPS, PPS, IDR]) {
        bench.video(seq, payload);
    }
    assert_eq!(bench.describe("x"), first);
    // Others, twice within a second.
    for (seq, payload) in (7..).zip([OTHER_SPS, IDR]) {
        bench.video(seq, payload);
    }
    assert_eq!(bench.describe("x"), first, "a second has not passed");
    bench.pass(Duration::from_secs(1));
    bench.video(9, SLICE);
    let other = bench.describe("x");
    assert!(other.contains("profile-level-id=4D401F;sprop-parameter-sets=Z01AH9k=,aMuD"));
    let version = |text: &str| {
        let (_, origin) = text.split_once("o=- ").unwrap();
        origin.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    assert!(version(&other) > version(&first));
}

#[test]
fn in_band_parameter_sets_equal_to_the_description_or_of_another_address_change_nothing() {
    let mut bench = Bench::new();
    let sdp = VIDEO.replace(
        "a=rtcp-fb",
        "a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LAHtk=,aMuD; \
         profile-level-id=42C01E\r\na=rtcp-fb",
    );
    bench.publish_as(&sdp);
    let announced = bench.describe("x");
    for (seq, payload) in (1..).zip([SPS, PPS, IDR]) {
        bench.video(seq, payload);
    }
    assert_eq!(bench.describe("x"), announced);
    // From another port of the publisher's host, under its SSRC and another.
    for (seq, payload, ssrc) in [(4, OTHER_SPS, 9), (5, IDR, 9), (6, OTHER_SPS, 66), (7, IDR, 66)] {
        let header = [0x80, 96, 0, seq, 0, 0, 0, 0, 0, 0, 0, ssrc];
        let bytes = [&header[..], payload].concat();
        bench.sessions.live.sources.handle_rtp_datagram(
            &mut bench.sessions.cx,
            0,
            host(1, 5_002),
            &bytes,
        );
    }
    bench.sessions.live.feed_live(&mut bench.sessions.cx);
    bench.settle();
    assert_eq!(bench.describe("x"), announced);
}
