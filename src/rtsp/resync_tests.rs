//! Bytes of nobody between frames, of every kind, and how little they cost.

use proptest::prelude::*;

use super::*;
use crate::rtsp::resync::{Seek, seek};

fn reader() -> RequestReader {
    let mut channels = Channels::default();
    [0, 1].into_iter().for_each(|channel| channels.insert(channel));
    let mut reader = RequestReader::new();
    reader.set_channels(channels);
    reader
}

fn read_all(pieces: &[&[u8]]) -> Vec<Input> {
    let (mut reader, mut inputs) = (reader(), Vec::new());
    for piece in pieces {
        reader.handle_bytes(piece);
        while let Some(input) = next(&mut reader) {
            inputs.push(input);
        }
    }
    inputs
}

/// As a camera's connection reads: whole frames where they lie.
fn next(reader: &mut RequestReader) -> Option<Input> {
    if let Some((channel, packet)) = reader.frame() {
        let input = Input::Interleaved { channel, payload: packet.to_vec() };
        reader.skip_frame();
        return Some(input);
    }
    reader.poll()
}

fn frame(channel: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[b'$', channel, high, low][..], payload].concat()
}

fn rtp(seq: u8, payload: &[u8]) -> Vec<u8> {
    let header = [0x80, 96, 0, seq, 0, 0, 0, 0, 0, 0, 0, 1];
    frame(0, &[&header[..], payload].concat())
}

/// The numbers of RTP packets that came out, and how many bytes did not.
fn outcome(inputs: &[Input]) -> (Vec<u8>, usize) {
    let (mut numbers, mut garbage) = (Vec::new(), 0);
    for input in inputs {
        match input {
            Input::Interleaved { channel: 0, payload } if payload.len() >= 12 => {
                numbers.push(payload[3]);
            }
            Input::Garbage { bytes } => garbage += bytes,
            _ => {}
        }
    }
    (numbers, garbage)
}

#[test]
fn garbage_between_frames_costs_no_frame() {
    let cut_off = rtp(99, &[0x24; 80])[..50].to_vec();
    let garbage: [&[u8]; 12] = [
        b"\0\0\0",
        b"tail of a packet \xff\x01\r\n",
        b"$",
        b"$\0",
        b"$\0\0\x20\x80",
        b"$\0\xea\x60\x00",
        b"$\x07\xff\xff\x80",
        b"$\x00\x04\x00\x80\x60 of a frame that was cut off",
        b"RTSP/1.0 200 OK\r\nCSeq: 7\r\nSess",
        b"RTSP/1.0 and no more than that ",
        b"PLAY\nOPTIONS",
        &[&[1, 2, 3], &*cut_off].concat(),
    ];
    for bytes in garbage {
        let frames: Vec<Vec<u8>> = (0..40).map(|seq| rtp(seq, &[seq; 1_000])).collect();
        let stream = [&frames[..20].concat(), bytes, &frames[20..].concat()].concat();
        let (numbers, passed) = outcome(&read_all(&[&stream]));
        // What could not be told from a message's line takes frames with it, up to its limits.
        let lost_max = match bytes {
            [b'R', ..] => 4,
            [b'$', 0, 4, ..] => 2,
            _ => 0,
        };
        let lost = 40 - numbers.iter().filter(|number| **number < 40).count();
        assert!(lost <= lost_max, "{bytes:?}: {numbers:?}");
        assert!(passed >= bytes.len() || bytes.starts_with(b"$"), "{bytes:?}: {passed}");
    }
}

#[test]
fn frame_whose_body_looks_like_frames_is_one_frame() {
    let inner = [rtp(7, b"inner"), rtp(8, b"inner")].concat();
    let stream = [rtp(1, &inner), b"garbage".to_vec(), rtp(2, &inner), rtp(3, &inner)].concat();
    assert_eq!(outcome(&read_all(&[&stream])), (vec![1, 2, 3], 7));
}

#[test]
fn frames_of_other_channels_and_without_rtp_are_framed_as_before() {
    let frames = [
        frame(7, &rtp(1, b"another channel")[4..]),
        frame(0, b""),
        rtp(1, b"x"),
        frame(9, b"keep-alive"),
        frame(1, &[0x80, 200, 0, 0]),
    ];
    let inputs = read_all(&[&frames.concat(), &rtp(2, b"y")]);
    assert_eq!(inputs.len(), 6, "{inputs:?}");
    assert_eq!(outcome(&inputs), (vec![1, 2], 0));
}

#[test]
fn messages_are_read_before_between_and_behind_garbage() {
    let text = b"GET_PARAMETER rtsp://h/a RTSP/1.0\r\nCSeq: 4\r\n\r\n".to_vec();
    let other = b"X_VENDOR rtsp://h/a RTSP/1.0\r\nCSeq: 5\r\n\r\n".to_vec();
    let answer = b"RTSP/1.0 200 OK\r\nCSeq: 6\r\nContent-Length: 3\r\n\r\n$\0\0".to_vec();
    let stream = [&b"\xffxx"[..], &text, b"\x01\x02$", &answer, &rtp(1, b""), b"$$$", &other];
    let inputs = read_all(&[&stream.concat()]);
    assert!(
        matches!(
            inputs.as_slice(),
            [
                Input::Garbage { bytes: 3 },
                Input::Request(first),
                Input::Garbage { bytes: 3 },
                Input::Response(answer),
                Input::Interleaved { .. },
                Input::Garbage { bytes: 3 },
                Input::Request(last),
            ] if (first.cseq, answer.cseq, last.cseq) == (Some(4), Some(6), Some(5))
        ),
        "{inputs:?}"
    );
}

#[test]
fn request_that_loses_the_framing_is_answered_and_the_next_frame_is_read() {
    let text = b"PLAY * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: x\r\n\r\n".to_vec();
    let inputs = read_all(&[&[text, rtp(1, b"a"), rtp(2, b"b")].concat()]);
    let error = ParseError::BadContentLength;
    assert_eq!(inputs[0], Input::Malformed { error, cseq: Some(1), framing_lost: false });
    assert_eq!(outcome(&inputs).0, [1, 2]);
}

/// Its last line was counted twice: as part of the message, and as bytes that were passed over.
#[test]
fn message_that_is_given_up_counts_as_many_bytes_as_it_has() {
    let message = b"PLAY * HTTP/1.0\r\n".to_vec();
    let inputs = read_all(&[&[&message, rtp(1, b"a").as_slice(), &rtp(2, b"b")].concat()]);
    assert_eq!(inputs[0], Input::Garbage { bytes: message.len() });
    assert_eq!(outcome(&inputs).0, [1, 2]);
}

#[test]
fn endless_garbage_is_given_up_at_the_bound() {
    for byte in [b'\0', b'$', b'A', b'z', b'\n'] {
        let (mut reader, mut read) = (reader(), 0_usize);
        reader.handle_bytes(b"\xff");
        let fault = loop {
            match reader.poll() {
                Some(fault) => break fault,
                None => reader.handle_bytes(&[byte; 4_096]),
            }
            read += 4_096;
            assert!(reader.buffered_bytes() <= 70 << 10);
            assert!(read < 2 * RESYNC_BYTES_MAX);
        };
        let error = ParseError::Garbage { limit_bytes: 262_144 };
        assert_eq!(fault, Input::Malformed { error, cseq: None, framing_lost: true });
        assert!(read >= RESYNC_BYTES_MAX - 4_096);
        assert_eq!(reader.poll(), None);
    }
}

#[test]
fn without_channels_garbage_ends_the_connection_as_before() {
    let mut reader = RequestReader::new();
    reader.handle_bytes(b"\xff");
    assert!(matches!(reader.poll(), Some(Input::Malformed { framing_lost: true, .. })));
}

fn arb_garbage() -> impl Strategy<Value = Vec<u8>> {
    let any = prop::collection::vec(any::<u8>(), 0..120);
    // Bytes that frames and messages begin with, more often than chance has them.
    let near = prop::collection::vec(
        prop_oneof![Just(b'$'), Just(0_u8), Just(1), Just(0x80), Just(96), Just(b'\r'), Just(b'R')],
        0..60,
    );
    prop_oneof![any, near]
}

proptest! {
    #[test]
    fn stream_with_garbage_split_anywhere_gives_the_same_inputs(
        pieces in prop::collection::vec(
            prop_oneof![
                (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(n, p)| rtp(n, &p)),
                (any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(ch, p)| frame(ch, &p)),
                arb_garbage(),
                Just(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".to_vec()),
                Just(b"PLAY * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: x\r\n\r\n".to_vec()),
                Just(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 2\r\n\r\n$$".to_vec()),
                Just(b"RTSP/1.0 20\r\n".to_vec()),
            ],
            0..10,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream = pieces.concat();
        let whole = read_all(&[&stream]);
        let by_byte: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&whole, &read_all(&by_byte));
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let cut: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&whole, &read_all(&cut));
    }

    #[test]
    fn frames_around_garbage_of_any_bytes_come_out_in_order(
        garbage in prop::collection::vec(arb_garbage(), 1..6),
        body in prop::collection::vec(any::<u8>(), 30..300),
    ) {
        let (mut stream, mut strays) = (Vec::new(), Vec::new());
        for (seq, bytes) in (0..).zip(&garbage) {
            // What begins as a frame is taken for one.
            let bytes = bytes.get(usize::from(bytes.first() == Some(&b'$'))..).unwrap();
            let frames = [rtp(2 * seq, &body), rtp(2 * seq + 1, &body)];
            stream.extend([&frames.concat(), &b"\xff"[..], bytes].concat());
            strays.push(stream.len() - bytes.len()..stream.len());
        }
        let last = 2 * u8::try_from(garbage.len()).unwrap();
        stream.extend([rtp(last, &body), rtp(last + 1, &body)].concat());
        // What garbage may be the length of has to come before it is known to be none.
        (0..70).for_each(|_| stream.extend(rtp(255, &[0; 1_000])));
        // Garbage that by chance is a frame, with a start where it ends, cannot be told from one.
        let mut channels = Channels::default();
        [0, 1].into_iter().for_each(|channel| channels.insert(channel));
        let is_frame = |at: usize| {
            stream[at] == b'$' && seek(&stream[at..], &channels, 0) == Seek::Found(0)
        };
        prop_assume!(!strays.into_iter().flatten().any(is_frame));
        let numbers: Vec<u8> = outcome(&read_all(&[&stream])).0;
        let wanted: Vec<u8> = (0..last + 2).collect();
        let lost = wanted.iter().filter(|number| !numbers.contains(number)).count();
        prop_assert!(lost <= garbage.len(), "{numbers:?}");
    }
}
