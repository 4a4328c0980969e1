//! RTSP: messages of both directions, and their headers.

use headend::base::ids::SessionId;
use headend::base::limits::{RTSP_BODY_BYTES_MAX, RTSP_HEADERS_MAX, RTSP_LINE_BYTES_MAX};
use headend::lineup::event::Input as Event;
use headend::rtsp::client_request::ClientRequest;
use headend::rtsp::client_response::{parse_rtp_info, parse_session};
use headend::rtsp::headers::{
    RtpInfo, is_accepted, list_tokens, parse_scale, parse_session_id, parse_speed, write_rate,
    write_rtp_info,
};
use headend::rtsp::range::{Range, parse_range};
use headend::rtsp::reader::{Channels, Input as Message, Method, Request, RequestReader};
use headend::rtsp::response::{Response, Status};
use headend::rtsp::source_url::{content_base, control_url, parse_source_url};
use headend::rtsp::transport::{Mode, Profile, parse_transport};
use headend::rtsp::transport_answer::{
    TransportParameters, TransportReply, parse_transport_answer,
};
use headend::rtsp::uri::{base_url, parse_target, track_url};

use crate::input::{Input, pieces, text};

/// A connection's bytes, with and without media: the same messages however they are cut, no more
/// of them than there are bytes, and requests that read back when they are written.
pub fn reader(data: &[u8]) {
    let mut input = Input::new(data);
    let (flags, seed) = (input.u8(), input.u8());
    let stream = input.rest();
    let whole = messages(flags, [stream].into_iter());
    assert_eq!(whole, messages(flags, pieces(stream, seed)), "cut by {seed}");
    assert_eq!(whole, messages(flags, pieces(stream, 0)), "cut into bytes");
    let body = |message: &Message| match message {
        Message::Request(request) => request.body.len(),
        Message::Response(response) => response.body.len(),
        Message::Interleaved { payload, .. } => payload.len() + 4,
        Message::Garbage { bytes } => *bytes,
        Message::Malformed { .. } => 0,
    };
    assert!(whole.iter().map(body).sum::<usize>() <= stream.len(), "more came out than went in");
    for message in &whole {
        match message {
            Message::Request(request) => check_request(request),
            Message::Response(response) => {
                assert!((100..1_000).contains(&response.status));
                assert!(response.headers().count() <= RTSP_HEADERS_MAX);
                let _ = (response.session(), response.is_public("PLAY"), response.has_sdp());
            }
            _ => {}
        }
    }
}

/// All messages of a connection, as `flags` has it read: 1 media is expected, 2 frames are taken
/// without a copy, 4 the buffer is kept.
fn messages<'a>(flags: u8, parts: impl Iterator<Item = &'a [u8]>) -> Vec<Message> {
    let mut reader = RequestReader::new();
    if flags & 1 != 0 {
        let mut channels = Channels::default();
        (0..4).for_each(|channel| channels.insert(channel));
        reader.set_channels(channels);
    }
    if flags & 4 != 0 {
        reader.expect_media();
    }
    let mut found = Vec::new();
    for part in parts {
        reader.handle_bytes(part);
        loop {
            if flags & 2 != 0
                && let Some((channel, packet)) = reader.frame()
            {
                found.push(Message::Interleaved { channel, payload: packet.to_vec() });
                reader.skip_frame();
                continue;
            }
            let Some(message) = reader.poll() else { break };
            found.push(message);
        }
        assert!(reader.buffered_bytes() <= RTSP_BODY_BYTES_MAX + (64 << 10), "held without bound");
    }
    found
}

/// Written as a client writes it, a request is read as the same one.
fn check_request(request: &Request) {
    assert!(!request.uri.chars().any(char::is_control), "{:?}", request.uri);
    if let Some((scheme, rest)) = request.uri.split_once("://")
        && scheme.bytes().all(|b| b.is_ascii_alphabetic())
        && parse_target(&request.uri).is_ok()
    {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        assert!(!rest[..end].contains('@'), "a password in {}", request.uri);
    }
    if request.uri.contains(' ') {
        return;
    }
    let body = (!request.body.is_empty()).then_some(("text/plain", request.body.as_slice()));
    let cseq = request.cseq.unwrap_or(0);
    let ours =
        ClientRequest { method: &request.method, url: &request.uri, cseq, headers: &[], body };
    let mut out = Vec::new();
    ours.write_to(&mut out);
    if out.iter().position(|b| *b == b'\n').is_some_and(|at| at > RTSP_LINE_BYTES_MAX) {
        return;
    }
    match messages(0, [out.as_slice()].into_iter()).as_slice() {
        [Message::Request(read)] => assert_eq!(
            (&read.method, &read.uri, read.cseq, &read.body),
            (&request.method, &request.uri, Some(cseq), &request.body),
        ),
        other => panic!("{:?} is read as {other:?}", text(&out)),
    }
}

/// Requests and responses with any values in them: exactly one message is read of what is written.
pub fn write(data: &[u8]) {
    let mut input = Input::new(data);
    let method =
        Method::from_token(["OPTIONS", "PLAY", "SETUP", "X-OWN"][usize::from(input.u8() & 3)]);
    let cseq = input.u32();
    let (url, name) = (text(input.short()), usize::from(input.u8()) % NAMES.len());
    let (value, body) = (text(input.long()), input.rest());
    let headers = [(NAMES[name], value.as_ref())];
    let body = &body[..body.len().min(RTSP_BODY_BYTES_MAX)];
    let mut out = Vec::new();
    let with_body = (!body.is_empty()).then_some(("text/parameters", body));
    ClientRequest { method: &method, url: &url, cseq, headers: &headers, body: with_body }
        .write_to(&mut out);
    let kept: String = value.chars().filter(|c| !c.is_control() || *c == '\t').collect();
    // Blanks around a value are none of it.
    let fits = kept.len() + 64 < RTSP_LINE_BYTES_MAX;
    let has_url = url.chars().any(|c| !c.is_control() && !c.is_whitespace());
    match messages(0, [out.as_slice()].into_iter()).as_slice() {
        [Message::Request(read)] => {
            assert_eq!((&read.method, read.cseq, &*read.body), (&method, Some(cseq), body));
            assert_eq!(read.header(NAMES[name]), Some(kept.trim()));
        }
        other => assert!(!fits || !has_url, "{:?} is read as {other:?}", text(&out)),
    }
    out.clear();
    let mut response = Response::new(Status::Ok, Some(cseq)).header(NAMES[name], value.as_ref());
    if !body.is_empty() {
        response = response.body("application/sdp", body.to_vec());
    }
    response.write_to(i64::from(cseq), &mut out);
    match messages(0, [out.as_slice()].into_iter()).as_slice() {
        [Message::Response(read)] => {
            assert_eq!((read.status, read.cseq, &*read.body), (200, Some(cseq), body));
            assert_eq!(read.header(NAMES[name]), Some(kept.trim()));
        }
        other => assert!(!fits, "{:?} is read as {other:?}", text(&out)),
    }
}

const NAMES: [&str; 6] =
    ["Session", "Transport", "RTP-Info", "Authorization", "Content-Base", "Range"];

/// The small headers, and parameters of line-ups: numbers are finite and read back, ids and lists
/// have no separators in them.
pub fn headers(data: &[u8]) {
    let text = text(data);
    for rate in [parse_scale(&text), parse_speed(&text)].into_iter().flatten() {
        assert!(rate.is_finite() && rate != 0.0, "{rate}");
        assert_eq!(parse_scale(&write_rate(rate)), Ok(rate));
    }
    let id = parse_session_id(&text);
    assert_eq!(id, parse_session(&text).map(|session| session.id));
    assert!(id.is_none_or(|id| !id.is_empty() && id.trim() == id && !id.contains(';')));
    assert!(parse_session(&text).and_then(|session| session.timeout_s) != Some(0));
    if let Some(id) = SessionId::parse(&text) {
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
    }
    for token in list_tokens(&text) {
        assert!(!token.is_empty() && token.trim() == token && !token.contains(','));
    }
    let _ = is_accepted(&text, "application/sdp");
    if let Some((name, value)) = text.split_once(':')
        && let Ok(event) = Event::parse(name, value)
    {
        match event {
            Event::Digit(digit) => assert!(digit <= 9),
            Event::Channel(number) => assert!((1..=999).contains(&number)),
            Event::Seek(npt) => assert!(npt.0 >= 0),
            _ => {}
        }
    }
    let entries = parse_rtp_info(&text);
    assert!(entries.len() * "url=".len() <= text.len());
    let is_plain = |url: &str| !url.is_empty() && url.bytes().all(|b| b.is_ascii_alphanumeric());
    let known = entries.iter().filter(|entry| is_plain(entry.url));
    let known: Vec<RtpInfo> = known
        .map(|entry| RtpInfo {
            url: entry.url.to_owned(),
            seq: entry.seq.unwrap_or(7),
            rtptime: entry.rtptime.unwrap_or(9),
        })
        .collect();
    let written = write_rtp_info(&known);
    let read: Vec<RtpInfo> = parse_rtp_info(&written)
        .into_iter()
        .map(|entry| RtpInfo {
            url: entry.url.to_owned(),
            seq: entry.seq.unwrap_or_default(),
            rtptime: entry.rtptime.unwrap_or_default(),
        })
        .collect();
    assert_eq!(read, known, "{written}");
}

/// `Transport` of both sides: offers within their bounds, and answers that read back.
pub fn transport(data: &[u8]) {
    let text = text(data);
    if let Ok(offers) = parse_transport(&text) {
        assert!((1..=16).contains(&offers.len()));
        for offer in offers {
            assert!(offer.client_port.is_none_or(|(rtp, rtcp)| rtp > 0 && rtcp > 0));
            let carried = offer.check(true);
            assert!(offer.check(false).is_err() || carried.is_ok());
            let parameters = match (offer.client_port, offer.interleaved) {
                (Some(client), _) => {
                    let server = Some((6_970, 6_971));
                    TransportParameters::Unicast { client, server, source: None }
                }
                (None, Some(channels)) => TransportParameters::Interleaved { channels },
                (None, None) => continue,
            };
            let profile = if offer.profile == Profile::Avpf { Profile::Avpf } else { Profile::Avp };
            check_reply(TransportReply { profile, parameters, ssrc: offer.ssrc, mode: offer.mode });
        }
    }
    let Some(answer) = parse_transport_answer(&text) else { return };
    let profile = if answer.profile == Profile::Avpf { Profile::Avpf } else { Profile::Avp };
    let (mode, ssrc, source) = (answer.mode.unwrap_or(Mode::Play), answer.ssrc, answer.source);
    let (group, port, ttl) = (answer.destination, answer.port, answer.ttl);
    let parameters = TransportParameters::Multicast { group, port, ttl, source };
    check_reply(TransportReply { profile, parameters, ssrc, mode });
    if let Some(client) = answer.client_port {
        let parameters =
            TransportParameters::Unicast { client, server: answer.server_port, source };
        check_reply(TransportReply { profile, parameters, ssrc, mode });
    }
}

/// What we write is read as what it says, as an answer and as an offer.
fn check_reply(reply: TransportReply) {
    let text = reply.write();
    let read = parse_transport_answer(&text).expect("an answer of ours");
    assert_eq!((read.profile, read.ssrc), (reply.profile, reply.ssrc), "{text}");
    assert_eq!(read.mode.unwrap_or(Mode::Play), reply.mode, "{text}");
    match reply.parameters {
        TransportParameters::Unicast { client, server, source } => {
            assert_eq!((read.client_port, read.server_port), (Some(client), server), "{text}");
            assert_eq!(read.source, source, "{text}");
        }
        TransportParameters::Interleaved { channels } => {
            assert_eq!(read.interleaved, Some(channels), "{text}");
        }
        TransportParameters::Multicast { group, port, ttl, source } => {
            assert!(read.multicast);
            assert_eq!((read.destination, read.port, read.ttl), (group, port, ttl), "{text}");
            assert_eq!(read.source, source, "{text}");
        }
    }
    if let Ok(offers) = parse_transport(&text) {
        assert_eq!(offers.len(), 1, "{text}");
        assert_eq!(offers[0].ssrc, reply.ssrc, "{text}");
    }
}

/// `Range`: what is written reads back as the same range, npt and clock to the nanosecond.
pub fn range(data: &[u8]) {
    let Ok(header) = parse_range(&text(data)) else { return };
    let written = header.to_string();
    let read = parse_range(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
    match header.range {
        Range::Npt { .. } | Range::Clock { .. } => assert_eq!(read, header, "{written}"),
        // A time between two codes is told by the later one: from then on it stays.
        Range::Smpte { .. } => assert_eq!(read.to_string(), written),
    }
}

/// URIs of requests, and URLs of sources: paths without empty parts, control URLs that lead back
/// to their track, and no password in anything that is sent.
pub fn uri(data: &[u8]) {
    let mut input = Input::new(data);
    let track = input.u8();
    let uri = text(input.rest());
    if let Ok(target) = parse_target(&uri) {
        let path = &target.path;
        assert!(!path.contains('\0') && !path.contains("//"), "{path:?}");
        assert!(!path.starts_with('/') && !path.ends_with('/'), "{path:?}");
        let _ = target.name();
        let base = base_url(&uri);
        assert!(base.ends_with('/'), "{base}");
        // In a query a slash may be part of a value. Who sends a relative URI is not told a base.
        if uri.starts_with("rtsp://h/") && !uri.contains('?') {
            let part = parse_target(&track_url(&base, track)).expect("a control URL of ours");
            assert_eq!((&part.path, part.track), (path, Some(track)), "{base}");
        }
    }
    let request = "rtsp://camera/live";
    let base = content_base(request, Some(&uri), None);
    for url in [&base, &control_url(&base, Some(&uri)), &control_url(request, Some(&uri))] {
        let rest = url.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        assert!(!rest[..end].contains('@') || !url.starts_with("rtsp"), "a password in {url}");
    }
    let Ok(source) = parse_source_url(&uri) else { return };
    assert!(source.port > 0 && !source.host.is_empty());
    let again = parse_source_url(&source.url).unwrap_or_else(|e| panic!("{}: {e}", source.url));
    assert_eq!((again.credentials, again.zone), (None, None), "{}", source.url);
    assert_eq!((&again.host, again.port), (&source.host, source.port), "{}", source.url);
    assert_eq!((&again.url, again.is_secure), (&source.url, source.is_secure));
    let shown = source.to_string();
    let password = source.credentials.map(|c| c.password).unwrap_or_default();
    if password.len() >= 8 && !source.url.contains(&password) {
        assert!(!shown.contains(&password), "{shown}");
    }
}
