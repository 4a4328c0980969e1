//! Behaviours of `RequestReader`: tolerance, framing, limits, and independence of the cutting.

use proptest::prelude::*;

use super::*;
use crate::base::limits::RTSP_HEADERS_MAX;

fn read_all(pieces: &[&[u8]]) -> Vec<Input> {
    let mut reader = RequestReader::new();
    let mut inputs = Vec::new();
    for piece in pieces {
        reader.handle_bytes(piece);
        while let Some(input) = reader.poll() {
            inputs.push(input);
        }
    }
    inputs
}

fn only_request(bytes: &[u8]) -> Request {
    let inputs = read_all(&[bytes]);
    let [Input::Request(request)] = inputs.as_slice() else { panic!("{inputs:?}") };
    request.clone()
}

fn only_fault(bytes: &[u8]) -> (ParseError, Option<u32>, bool) {
    let inputs = read_all(&[bytes]);
    let [Input::Malformed { error, cseq, framing_lost }] = inputs.as_slice() else {
        panic!("{inputs:?}")
    };
    (*error, *cseq, *framing_lost)
}

#[test]
fn request_with_body_is_read_whole() {
    let request = only_request(
        b"SET_PARAMETER rtsp://h/a RTSP/1.0\r\nCSeq: 9\r\nContent-Length: 5\r\n\
          Session:  12;timeout=60 \r\n\r\nabc\r\n",
    );
    assert_eq!(request.method, Method::SetParameter);
    assert_eq!((request.uri.as_str(), request.version), ("rtsp://h/a", (1, 0)));
    assert_eq!(request.cseq, Some(9));
    assert_eq!(request.header("session"), Some("12;timeout=60"));
    assert_eq!(request.body, b"abc\r\n");
}

#[test]
fn lf_only_lines_blank_lines_and_folding_are_tolerated() {
    let request = only_request(
        b"\r\n\n\r\nOPTIONS * RTSP/1.0\ncseq : 3\nRequire: a,\n\t b\n  c\nX:\n folded\n\n\r\n",
    );
    assert_eq!(request.cseq, Some(3));
    assert_eq!(request.header("Require"), Some("a, b c"));
    assert_eq!(request.header("x"), Some("folded"));
}

#[test]
fn raw_spaces_and_unicode_in_the_uri_are_kept() {
    let text = "DESCRIBE rtsp://h/a b/\u{e9}.mp4 RTSP/1.0\r\nCSeq: 1\r\n\r\n";
    assert_eq!(only_request(text.as_bytes()).uri, "rtsp://h/a b/\u{e9}.mp4");
}

#[test]
fn user_and_password_of_the_uri_are_forgotten() {
    let text = "DESCRIBE rtsp://u:secret@h/a RTSP/1.0\r\nCSeq: 1\r\n\r\n";
    assert_eq!(only_request(text.as_bytes()).uri, "rtsp://h/a");
}

#[test]
fn header_value_that_is_not_utf8_is_still_read() {
    let request = only_request(b"OPTIONS * RTSP/1.0\r\nUser-Agent: \xe9\r\nCSeq: 1\r\n\r\n");
    assert_eq!(request.header("User-Agent"), Some("\u{fffd}"));
}

#[test]
fn other_versions_are_read_so_that_505_can_be_answered() {
    for (token, version) in [("RTSP/2.0", (2, 0)), ("RTSP/1.1", (1, 1)), ("rtsp/999.0", (255, 0))] {
        let text = format!("PLAY rtsp://h/ {token}\r\nCSeq: 1\r\n\r\n");
        assert_eq!(only_request(text.as_bytes()).version, version);
    }
}

#[test]
fn pipelined_requests_frames_and_answers_come_out_in_order() {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x01\x00\x03abc");
    bytes.extend_from_slice(b"RTSP/1.0 200 OK\r\nCSeq: 5\r\nContent-Length: 2\r\n\r\nxy\r\n");
    bytes.extend_from_slice(b"$\x02\x00\x00PAUSE * RTSP/1.0\r\nCSeq: 2\r\n\r\n");
    let inputs = read_all(&[&bytes]);
    assert!(
        matches!(
            inputs.as_slice(),
            [
                Input::Request(first),
                Input::Interleaved { channel: 1, payload },
                Input::Response(answer),
                Input::Interleaved { channel: 2, payload: empty },
                Input::Request(last),
            ] if first.cseq == Some(1) && (answer.status, answer.cseq) == (200, Some(5))
                && answer.body == b"xy" && payload == b"abc" && empty.is_empty()
                && last.method == Method::Pause
        ),
        "{inputs:?}"
    );
}

#[test]
fn answers_of_odd_cameras_are_read() {
    let bytes = b"RTSP/1.0 200\nsession: 12 ; timeout=30\nno colon here\n\n\
        RTSP/1.0 401 Unauthorized\r\nCSeq: 2\r\nWWW-Authenticate: Basic realm=\"a\"\r\n\
        WWW-Authenticate: Digest realm=\"a\", nonce=\"b\"\r\nCSeq: x\r\n\r\n\
        $\x00\x00\x01.\r\nRTSP/1.1 200  OK now \r\nPublic: OPTIONS, describe\r\n\
        content-length: 3\r\n\r\nv=0";
    let inputs = read_all(&[bytes]);
    let [
        Input::Response(bare),
        Input::Response(refused),
        Input::Interleaved { .. },
        Input::Response(last),
    ] = inputs.as_slice()
    else {
        panic!("{inputs:?}")
    };
    assert_eq!((bare.status, bare.reason.as_str(), bare.cseq), (200, "", None));
    let session = bare.session().unwrap();
    assert_eq!((session.id, session.timeout_s), ("12", Some(30)));
    assert!(!refused.is_success() && refused.cseq == Some(2));
    let challenges = "Basic realm=\"a\", Digest realm=\"a\", nonce=\"b\"";
    assert_eq!(refused.header("www-authenticate"), Some(challenges));
    assert_eq!((last.reason.as_str(), last.body.as_slice()), ("OK now", b"v=0".as_slice()));
    assert!(last.is_public("DESCRIBE") && !last.is_public("GET_PARAMETER") && last.has_sdp());
}

#[test]
fn answer_without_a_status_loses_the_framing() {
    for bytes in [&b"RTSP/1.0\r\n\r\n"[..], b"RTSP/1.0 OK\r\n", b"RTSP/1.0 99 x\r\n"] {
        assert_eq!(only_fault(bytes), (ParseError::BadStatusLine, None, true));
    }
}

#[test]
fn frames_are_given_without_a_copy_between_other_messages() {
    let mut reader = RequestReader::new();
    reader.expect_media();
    reader.handle_bytes(b"$\x00\x00\x02ab$\x01\x00\x00RTSP/1.0 200 OK\r\n\r\n$\x02\x00\x05xyz");
    assert_eq!(reader.frame(), Some((0, b"ab".as_slice())));
    assert_eq!(reader.frame(), Some((0, b"ab".as_slice())), "still there");
    reader.skip_frame();
    assert_eq!(reader.frame(), Some((1, b"".as_slice())));
    reader.skip_frame();
    assert_eq!(reader.frame(), None);
    reader.skip_frame();
    assert!(matches!(reader.poll(), Some(Input::Response(_))));
    assert_eq!(reader.frame(), None);
    assert_eq!(reader.poll(), None);
    reader.handle_bytes(b"..");
    assert_eq!(reader.frame(), Some((2, b"xyz..".as_slice())));
    reader.skip_frame();
    reader.handle_bytes(&[b'\n'; 100_000]);
    assert_eq!(reader.poll(), None);
    assert!(reader.buf.capacity() >= 100_000, "the next read needs it again");
}

#[test]
fn faulty_request_is_reported_and_the_next_one_is_read() {
    let cases: [(&[u8], ParseError, Option<u32>); 7] = [
        (b"PLAY rtsp://h RTSP/1.0\r\n\r\n", ParseError::MissingCseq, None),
        (b"PLAY rtsp://h RTSP/1.0\r\nCSeq: -1\r\n\r\n", ParseError::BadCseq, None),
        (b"PLAY rtsp://h RTSP/1.0\r\nCSeq: 4294967296\r\n\r\n", ParseError::BadCseq, None),
        (b"PLAY RTSP/1.0\r\nCSeq: 4\r\n\r\n", ParseError::BadRequestLine, Some(4)),
        (b"PLAY \xff RTSP/1.0\r\nCSeq: 4\r\n\r\n", ParseError::BadRequestLine, Some(4)),
        (
            b"PLAY * RTSP/1.0\r\nno colon\r\nCSeq: 4\r\nContent-Length: 1\r\n\r\nx",
            ParseError::BadHeaderLine { offset: 17 },
            Some(4),
        ),
        (
            b"PLAY * RTSP/1.0\r\nA: \0\r\nCSeq: 4\r\n\r\n",
            ParseError::BadHeaderLine { offset: 17 },
            Some(4),
        ),
    ];
    for (bytes, error, cseq) in cases {
        let inputs = read_all(&[bytes, b"OPTIONS * RTSP/1.0\r\nCSeq: 5\r\n\r\n"]);
        let [fault, Input::Request(next)] = inputs.as_slice() else { panic!("{inputs:?}") };
        assert_eq!(*fault, Input::Malformed { error, cseq, framing_lost: false });
        assert_eq!(next.cseq, Some(5));
    }
}

#[test]
fn lost_framing_is_reported_once_and_nothing_is_read_after_it() {
    let cases: [(&[u8], ParseError, Option<u32>); 8] = [
        (b"\0", ParseError::NotRtsp, None),
        (b"\x16\x03\x01", ParseError::NotRtsp, None),
        (b"GET / HTTP/1.1\r\n", ParseError::NotRtsp, None),
        (b"hello\n", ParseError::NotRtsp, None),
        (b"OPTIONS * RTSP/x.0\r\n", ParseError::NotRtsp, None),
        (
            b"PLAY * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: x\r\n\r\n",
            ParseError::BadContentLength,
            Some(1),
        ),
        (
            b"PLAY * RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            ParseError::BadContentLength,
            None,
        ),
        (
            b"PLAY * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 65537\r\n\r\n",
            ParseError::BodyTooLong { limit_bytes: 65_536 },
            Some(1),
        ),
    ];
    for (bytes, error, cseq) in cases {
        let inputs = read_all(&[bytes, b"OPTIONS * RTSP/1.0\r\nCSeq: 5\r\n\r\n"]);
        assert_eq!(inputs, [Input::Malformed { error, cseq, framing_lost: true }]);
    }
}

#[test]
fn line_at_the_limit_passes_and_one_byte_more_does_not() {
    let head = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n";
    for ending in ["\n", "\r\n"] {
        let line = "a:".to_owned() + &"x".repeat(RTSP_LINE_BYTES_MAX - 2);
        only_request(format!("{head}{line}{ending}\r\n").as_bytes());
        let fault = only_fault(format!("{head}{line}x{ending}\r\n").as_bytes());
        let error = ParseError::LineTooLong { offset: 29, limit_bytes: 8_448 };
        assert_eq!(fault, (error, Some(1), true));
    }
    let endless = "a".repeat(RTSP_LINE_BYTES_MAX + 2);
    assert!(matches!(only_fault(endless.as_bytes()), (ParseError::LineTooLong { .. }, None, true)));
}

#[test]
fn too_many_or_too_long_headers_lose_the_framing() {
    let head = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n";
    only_request(format!("{head}{}\r\n", "a: b\r\n".repeat(RTSP_HEADERS_MAX - 1)).as_bytes());
    let fault = only_fault(format!("{head}{}\r\n", "a: b\r\n".repeat(RTSP_HEADERS_MAX)).as_bytes());
    assert_eq!(fault, (ParseError::TooManyHeaders { limit_count: 64 }, Some(1), true));
    only_request(format!("{head}Authorization: {}\r\n\r\n", "x".repeat(8_192)).as_bytes());
    let line = format!("a: {}\r\n", "x".repeat(4_000));
    let fault = only_fault(format!("{head}{}\r\n", line.repeat(9)).as_bytes());
    assert_eq!(fault, (ParseError::HeadTooLong { limit_bytes: 32_768 }, Some(1), true));
}

#[test]
fn caller_that_never_polls_is_cut_off_at_the_bound() {
    let mut reader = RequestReader::new();
    for _ in 0..400 {
        reader.handle_bytes(&[b'\n'; 1_024]);
        assert!(reader.buffered_bytes() <= buffer_bytes_max(&MessageLimits::default()));
    }
    assert!(matches!(reader.poll(), Some(Input::Malformed { framing_lost: true, .. })));
    assert_eq!((reader.poll(), reader.buffered_bytes()), (None, 0));
}

#[test]
fn idle_connection_holds_no_large_buffer() {
    let mut reader = RequestReader::new();
    let body = "x".repeat(60_000);
    let text =
        format!("SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 60000\r\n\r\n{body}");
    reader.handle_bytes(text.as_bytes());
    assert!(reader.poll().is_some());
    assert_eq!(reader.poll(), None);
    assert_eq!(reader.buffered_bytes(), 0);
    assert!(reader.buf.capacity() <= KEPT_BYTES_MAX);
}

/// Messages and damage in the proportions in which they meet every branch.
fn arb_stream() -> impl Strategy<Value = Vec<u8>> {
    let request = ("[A-Z]{1,8}", "[ -~]{0,12}", "[ -~\r\n\t]{0,40}", 0u8..4).prop_map(
        |(method, uri, header, body)| {
            let body_text = "$".repeat(usize::from(body));
            format!(
                "{method} {uri} RTSP/1.0\r\nCSeq: {body}\r\n{header}\r\nContent-Length: {body}\
                 \r\n\r\n{body_text}"
            )
            .into_bytes()
        },
    );
    let frame = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(ch, bytes)| {
        let mut frame = vec![b'$', ch, 0, u8::try_from(bytes.len()).unwrap()];
        frame.extend_from_slice(&bytes);
        frame
    });
    let noise = prop::collection::vec(any::<u8>(), 0..6);
    let answer = Just(b"RTSP/1.0 200 OK\nCSeq: 1\n\n".to_vec());
    let blank = Just(b"\r\n".to_vec());
    let piece = prop_oneof![6 => request, 4 => frame, 1 => noise, 2 => answer, 1 => blank];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn stream_split_anywhere_gives_the_same_inputs(
        stream in arb_stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = read_all(&[&stream]);
        let by_byte: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&whole, &read_all(&by_byte));
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.sort_unstable();
        let mut pieces = Vec::new();
        let mut rest = stream.as_slice();
        for cut in at {
            let (piece, behind) = rest.split_at(cut - (stream.len() - rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        prop_assert_eq!(&whole, &read_all(&pieces));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_exceed_the_bound(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut reader = RequestReader::new();
        reader.handle_bytes(&bytes);
        for _ in 0..=bytes.len() {
            if reader.poll().is_none() {
                break;
            }
        }
        prop_assert!(reader.buffered_bytes() <= bytes.len());
        prop_assert_eq!(reader.poll(), None);
    }

    /// What the reference crate writes is what we read.
    #[test]
    fn well_formed_request_is_read_as_rtsp_types_reads_it(
        cseq in any::<u32>(),
        path in "[a-z0-9_-]{1,20}",
        session in "[A-Z0-9]{8,16}",
        body in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        use rtsp_types::{Message, Method as TheirMethod, Version, headers};
        let uri = format!("rtsp://127.0.0.1:8554/{path}");
        let url = rtsp_types::Url::parse(&uri).unwrap();
        let theirs = rtsp_types::Request::builder(TheirMethod::SetParameter, Version::V1_0)
            .request_uri(url)
            .header(headers::CSEQ, cseq.to_string())
            .header(headers::SESSION, session.clone())
            .build(body);
        let mut bytes = Vec::new();
        theirs.write(&mut bytes).unwrap();
        let ours = only_request(&bytes);
        prop_assert_eq!((&ours.method, &ours.uri), (&Method::SetParameter, &uri));
        prop_assert_eq!(ours.cseq, Some(cseq));
        prop_assert_eq!(ours.header("session"), Some(session.as_str()));
        prop_assert_eq!(ours.header("content-length").is_some(), !ours.body.is_empty());
        let (read, _) = Message::<Vec<u8>>::parse(&bytes).unwrap();
        prop_assert_eq!(read, Message::Request(theirs));
    }
}

#[test]
fn message_beyond_the_limits_of_its_connection_is_refused_with_the_status_of_what_is_too_long() {
    let limits = MessageLimits { head_bytes: 100, body_bytes: 10 };
    let fault = |text: &str| {
        let mut reader = RequestReader::with_limits(limits);
        reader.handle_bytes(text.as_bytes());
        match reader.poll() {
            Some(Input::Malformed { error, framing_lost: true, .. }) => error.status().code(),
            other => panic!("{other:?}"),
        }
    };
    let head = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n";
    assert_eq!(fault(&format!("{head}Content-Length: 11\r\n\r\n")), 413);
    assert_eq!(fault(&format!("{head}a: {}\r\n\r\n", "b".repeat(80))), 431);
    assert_eq!(fault(&format!("{head}{}\r\n", "a:\r\n".repeat(30))), 431);
    assert_eq!(fault(&format!("OPTIONS {} RTSP/1.0\r\n", "x".repeat(9_000))), 414);
    let mut reader = RequestReader::with_limits(limits);
    reader.handle_bytes(format!("{head}Content-Length: 10\r\n\r\n0123456789").as_bytes());
    assert!(matches!(reader.poll(), Some(Input::Request(_))));
    assert_eq!(reader.longest(), (head.len() + 22, 10));
}
