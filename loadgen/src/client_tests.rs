//! The client against scripted servers: what it sends, in which order, and how it ends.

use super::*;
use crate::wire::{Item, next_item};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n\
    m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\na=control:trackID=1\r\n";

const T0: Mono = Mono::from_ns(0);

fn at(milliseconds: u64) -> Mono {
    T0.after(Duration::from_millis(milliseconds))
}

struct Script {
    client: RtspClient,
    events: Vec<Event>,
}

impl Script {
    fn connected() -> Self {
        let mut client = RtspClient::new(Url::parse("rtsp://h:8554/a").expect("url"));
        client.handle_connected(T0);
        Self { client, events: Vec::new() }
    }

    /// What the client has sent since the last call: request lines and notable headers.
    fn sent(&mut self) -> Vec<String> {
        let bytes = std::mem::take(self.client.out());
        let mut rest = bytes.as_slice();
        let mut lines = Vec::new();
        while let Some((item, taken)) = next_item(rest).expect("client speaks RTSP") {
            if let Item::Message(Message::Request(request)) = item {
                let header = |name| request.header(name).map_or("-", |value| value.as_str());
                let method: &str = request.method().into();
                lines.push(format!(
                    "{method} {} session={} transport={}",
                    request.request_uri().map_or("*", Url::as_str),
                    header(&names::SESSION),
                    header(&names::TRANSPORT),
                ));
            }
            rest = &rest[taken..];
        }
        lines
    }

    fn answer(&mut self, status: &str, headers: &str, body: &str, now: Mono) {
        let cseq = self.client.cseq;
        let length = body.len();
        let text = format!(
            "RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        self.bytes(&text, now);
    }

    fn bytes(&mut self, text: &str, now: Mono) {
        let item = next_item(text.as_bytes()).expect("script speaks RTSP");
        let Some((Item::Message(message), _)) = item else { panic!("script is a message") };
        self.client.handle_message(&message, now, &mut self.events);
    }

    fn played() -> Self {
        let mut script = Self::connected();
        script.answer("200 OK", "Public: OPTIONS, GET_PARAMETER, PLAY\r\n", "", T0);
        script.answer("200 OK", "Content-Base: rtsp://h:8554/a/\r\n", SDP, T0);
        let asks =
            [5000, 5002].map(|rtp_port| TransportAsk::Udp { rtp_port, rtcp_port: rtp_port + 1 });
        script.client.handle_transports(asks.to_vec(), T0);
        let transport = "Transport: RTP/AVP;unicast;server_port=8000-8001;ssrc=0000000A\r\n";
        let session = "Session: abc;timeout=20\r\n";
        script.answer("200 OK", &format!("{session}{transport}"), "", T0);
        script.answer("200 OK", &format!("{session}{transport}"), "", T0);
        let info = "RTP-Info: url=rtsp://h:8554/a/trackID=1;seq=7,\
                    url=rtsp://h:8554/a/trackID=0;seq=9;rtptime=3\r\n";
        script.answer("200 OK", info, "", at(4));
        script
    }
}

#[test]
fn whole_session_sends_every_request_once_and_in_order() {
    let mut script = Script::played();
    script.client.teardown(at(5), &mut script.events);
    script.answer("200 OK", "", "", at(6));
    assert_eq!(
        script.sent(),
        [
            "OPTIONS rtsp://h:8554/a session=- transport=-",
            "DESCRIBE rtsp://h:8554/a session=- transport=-",
            "SETUP rtsp://h:8554/a/trackID=0 session=- \
             transport=RTP/AVP;unicast;client_port=5000-5001",
            "SETUP rtsp://h:8554/a/trackID=1 session=abc \
             transport=RTP/AVP;unicast;client_port=5002-5003",
            "PLAY rtsp://h:8554/a/ session=abc transport=-",
            "TEARDOWN rtsp://h:8554/a/ session=abc transport=-",
        ]
    );
    let rest: Vec<&Event> =
        script.events.iter().filter(|e| !matches!(e, Event::Answered(..))).collect();
    let expected = [
        Event::Described,
        Event::TrackReady(0),
        Event::TrackReady(1),
        Event::Playing,
        Event::Ended,
    ];
    assert_eq!(rest, expected.iter().collect::<Vec<_>>());
    assert!(script.client.is_closed());
}

#[test]
fn rtp_info_is_matched_by_url_not_by_position() {
    let script = Script::played();
    let seqs: Vec<_> = script
        .client
        .tracks()
        .iter()
        .map(|track| track.rtp_info.as_ref().and_then(|info| info.seq))
        .collect();
    assert_eq!(seqs, [Some(9), Some(7)]);
    assert_eq!(script.client.tracks()[0].transport.as_ref().and_then(|t| t.ssrc), Some(10));
}

#[test]
fn answer_time_is_measured_from_the_request() {
    let script = Script::played();
    assert!(script.events.contains(&Event::Answered(Request::Play, Duration::from_millis(4))));
}

#[test]
fn keep_alive_is_sent_at_half_the_timeout_and_needs_no_answer() {
    let mut script = Script::played();
    script.sent();
    script.client.handle_time(at(9_000), &mut script.events);
    assert!(script.sent().is_empty());
    for round in 1..=100 {
        script.client.handle_time(at(4 + 10_000 * round), &mut script.events);
        assert_eq!(script.sent(), ["GET_PARAMETER rtsp://h:8554/a/ session=abc transport=-"]);
    }
    assert!(script.client.is_playing());
    assert!(script.client.pending.len() <= PENDING_MAX);
}

#[test]
fn refused_setup_ends_the_session_with_its_code() {
    let mut script = Script::connected();
    script.answer("405 No", "", "", T0);
    script.answer("200 OK", "", SDP, T0);
    let asks = vec![TransportAsk::Tcp { channel: 0 }, TransportAsk::Tcp { channel: 2 }];
    script.client.handle_transports(asks, T0);
    script.answer("453 Not Enough Bandwidth", "", "", T0);
    let failure = Failure::Status { request: Request::Setup, code: 453 };
    assert_eq!(script.events.last(), Some(&Event::Failed(failure)));
    script.sent();
    script.client.teardown(at(1), &mut script.events);
    assert!(script.sent().is_empty(), "a closed session says nothing");
}

#[test]
fn request_without_answer_fails_after_the_wait() {
    let mut script = Script::connected();
    script.client.handle_time(at(9_999), &mut script.events);
    assert!(script.events.is_empty());
    script.client.handle_time(at(10_000), &mut script.events);
    assert_eq!(script.events, [Event::Failed(Failure::NotAnswered(Request::Options))]);
}

#[test]
fn teardown_without_answer_ends_all_the_same() {
    let mut script = Script::played();
    script.client.teardown(at(10), &mut script.events);
    script.client.handle_time(at(2_010), &mut script.events);
    assert_eq!(script.events.last(), Some(&Event::Ended));
}

#[test]
fn connection_closed_while_playing_is_a_failure_and_after_teardown_is_not() {
    let mut script = Script::played();
    script.client.handle_closed(Failure::Closed, &mut script.events);
    assert_eq!(script.events.last(), Some(&Event::Failed(Failure::Closed)));
    let mut script = Script::played();
    script.client.teardown(at(10), &mut script.events);
    script.client.handle_closed(Failure::Closed, &mut script.events);
    assert_eq!(script.events.last(), Some(&Event::Ended));
}

#[test]
fn udp_answer_to_a_tcp_request_is_refused() {
    let mut script = Script::connected();
    script.answer("200 OK", "", "", T0);
    script.answer("200 OK", "", SDP, T0);
    let asks = vec![TransportAsk::Tcp { channel: 0 }, TransportAsk::Tcp { channel: 2 }];
    script.client.handle_transports(asks, T0);
    script.answer("200 OK", "Session: a\r\nTransport: RTP/AVP;unicast\r\n", "", T0);
    assert_eq!(script.events.last(), Some(&Event::Failed(Failure::OtherTransport)));
}

#[test]
fn request_of_the_server_is_answered() {
    let mut script = Script::played();
    script.client.out().clear();
    script.bytes("OPTIONS * RTSP/1.0\r\nCSeq: 77\r\n\r\n", at(9));
    script.bytes("ANNOUNCE rtsp://h/a RTSP/1.0\r\nCSeq: 78\r\n\r\n", at(9));
    let sent = String::from_utf8(std::mem::take(script.client.out())).expect("text");
    assert!(sent.contains("RTSP/1.0 200 Ok\r\nCSeq: 77\r\n"), "{sent}");
    assert!(sent.contains("RTSP/1.0 501 Not Implemented\r\nCSeq: 78\r\n"), "{sent}");
}
