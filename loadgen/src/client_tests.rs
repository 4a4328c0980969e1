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
    script.client.handle_time(at(5_010), &mut script.events);
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

fn kinds(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| !matches!(event, Event::Answered(..))).collect()
}

#[test]
fn pause_and_seek_are_asked_for_one_after_the_other() {
    let mut script = Script::played();
    script.sent();
    script.events.clear();
    script.client.pause(at(5));
    script.client.play(Some(Duration::from_secs(3)), at(6));
    script.answer("200 OK", "", "", at(7));
    assert!(script.client.is_paused());
    script.client.play(Some(Duration::from_millis(3_500)), at(8));
    let bytes = String::from_utf8(script.client.out().clone()).expect("text");
    assert!(bytes.contains("Range: npt=3.500-\r\n"), "{bytes}");
    script.answer("200 OK", "RTP-Info: url=rtsp://h:8554/a/trackID=0;seq=90\r\n", "", at(9));
    script.client.pause(at(10));
    script.answer("200 OK", "", "", at(11));
    script.client.play(None, at(12));
    assert_eq!(
        script.sent(),
        [
            "PAUSE rtsp://h:8554/a/ session=abc transport=-",
            "PLAY rtsp://h:8554/a/ session=abc transport=-",
            "PAUSE rtsp://h:8554/a/ session=abc transport=-",
            "PLAY rtsp://h:8554/a/ session=abc transport=-",
        ],
        "the PLAY behind an unanswered PAUSE is not sent"
    );
    assert_eq!(kinds(&script.events), [&Event::Paused, &Event::Playing, &Event::Paused]);
    assert_eq!(script.client.tracks()[1].rtp_info, None, "of the last answer only");
}

#[test]
fn title_without_an_end_is_played_without_a_range() {
    let mut script = Script::connected();
    script.answer("200 OK", "", "", T0);
    script.answer("200 OK", "", SDP, T0);
    let asks = vec![TransportAsk::Tcp { channel: 0 }, TransportAsk::Tcp { channel: 2 }];
    script.client.handle_transports(asks, T0);
    let transport = "Session: a\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n";
    script.answer("200 OK", transport, "", T0);
    script.client.out().clear();
    script.answer("200 OK", transport, "", T0);
    let play = String::from_utf8(script.client.out().clone()).expect("text");
    assert!(play.starts_with("PLAY ") && !play.contains("Range"), "{play}");
}

#[test]
fn refused_request_is_sent_again_with_the_password_and_so_are_all_behind_it() {
    let mut client = RtspClient::new(Url::parse("rtsp://u:p@h/a").expect("url"));
    client.handle_connected(T0);
    let mut script = Script { client, events: Vec::new() };
    assert_eq!(script.sent(), ["OPTIONS rtsp://h/a session=- transport=-"]);
    script.answer("200 OK", "", "", T0);
    script.client.out().clear();
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\
                     WWW-Authenticate: Basic realm=\"r\"\r\n";
    script.answer("401 Unauthorized", challenge, "", T0);
    let again = String::from_utf8(std::mem::take(script.client.out())).expect("text");
    assert!(again.starts_with("DESCRIBE rtsp://h/a ") && again.contains("Authorization: Digest "));
    assert!(!again.contains("u:p"), "{again}");
    script.answer("200 OK", "", SDP, T0);
    assert_eq!(kinds(&script.events), [&Event::Described]);
}

#[test]
fn wrong_password_ends_the_session_with_401() {
    let mut client = RtspClient::new(Url::parse("rtsp://u:p@h/a").expect("url"));
    client.handle_connected(T0);
    let mut script = Script { client, events: Vec::new() };
    for _ in 0..=crate::auth::CHALLENGES_MAX {
        script.answer("401 No", "WWW-Authenticate: Basic realm=\"r\"\r\n", "", T0);
    }
    // OPTIONS may be refused and the title open all the same; DESCRIBE may not.
    for _ in 0..=crate::auth::CHALLENGES_MAX {
        script.answer("401 No", "WWW-Authenticate: Basic realm=\"r\"\r\n", "", T0);
    }
    let failure = Failure::Status { request: Request::Describe, code: 401 };
    assert_eq!(kinds(&script.events), [&Event::Failed(failure)]);
}

#[test]
fn redirection_names_the_new_place_and_keeps_the_password_on_the_same_host() {
    let redirected = |location: &str| {
        let mut client = RtspClient::new(Url::parse("rtsp://u:p@h/a").expect("url"));
        client.handle_connected(T0);
        let mut script = Script { client, events: Vec::new() };
        script.answer("200 OK", "", "", T0);
        script.answer("302 Moved", &format!("Location: {location}\r\n"), "", T0);
        assert!(script.client.is_closed());
        kinds(&script.events).last().map(|event| (*event).clone())
    };
    let to = |text: &str| Some(Event::Redirected(Url::parse(text).expect("url")));
    assert_eq!(redirected("rtsp://h:9/b"), to("rtsp://u:p@h:9/b"));
    assert_eq!(redirected("rtsp://other/b"), to("rtsp://other/b"));
    assert_eq!(redirected("/c"), to("rtsp://u:p@h/c"));
    let failure = Failure::Status { request: Request::Describe, code: 302 };
    assert_eq!(redirected("http://other/b"), Some(Event::Failed(failure)));
}
