//! Images against what a stream gathers itself, and what streams want of a slot.

use proptest::prelude::*;

use super::*;
use crate::media::window::WindowBuilder;

/// A packet of a test: marker, and its pieces, each inline or at a place in the file.
type Made = (bool, Vec<(Option<u16>, u16)>);

fn made() -> impl Strategy<Value = Vec<Vec<Made>>> {
    let length = prop_oneof![Just(1_400), Just(1_400), 1..1_400_u16];
    let pieces = prop::collection::vec((prop::option::of(any::<u16>()), length), 1..3);
    prop::collection::vec(prop::collection::vec((any::<bool>(), pieces), 1..70), 1..5)
}

fn window_of(frames: &[Vec<Made>]) -> PacketWindow {
    let mut builder = WindowBuilder::new();
    for (number, packets) in frames.iter().enumerate() {
        for (marker, pieces) in packets {
            for (offset, bytes) in pieces {
                match offset {
                    Some(offset) => builder.push_file(u64::from(*offset), usize::from(*bytes)),
                    None => builder.push_inline(&vec![0xe5; usize::from(*bytes)]),
                }
            }
            builder.end_packet(*marker);
        }
        let rtp_ticks = i64::try_from(number).unwrap() * 3_600 - 1_800;
        builder.end_frame(Frame { rtp_ticks, ..Frame::SYNC });
    }
    builder.finish()
}

fn file() -> Vec<u8> {
    (0..70_000_u32).map(|at| (at % 251) as u8).collect()
}

/// Not that of the product, which is a layer above: any that puts all fields somewhere.
fn header(
    out: &mut [u8; IMAGE_HEADER_BYTES],
    marker: bool,
    payload_type: u8,
    seq: SeqNo,
    ts: RtpTs,
    ssrc: Ssrc,
) {
    let [a, b] = seq.0.to_be_bytes();
    let second = u8::from(marker) << 7 | payload_type;
    out[..4].copy_from_slice(&[0x80, second, a, b]);
    out[4..8].copy_from_slice(&ts.0.to_be_bytes());
    out[8..].copy_from_slice(&ssrc.0.to_be_bytes());
}

fn image_of(window: &PacketWindow, numbers: ImageNumbers) -> PacketImage {
    let mut job = ImageJob::new(window, numbers, header, Mono(0)).unwrap();
    let file = file();
    for part in job.parts().to_vec() {
        job.fill(part, &file[usize::try_from(part.offset).unwrap()..]);
    }
    job.finish()
}

/// What a stream with these numbers sends when it gathers a packet itself.
fn gathered(window: &PacketWindow, frame: &Frame, place: usize, numbers: ImageNumbers) -> Vec<u8> {
    let packet = &window.packets(frame)[place];
    let index = frame.packet_index + u32::try_from(place).unwrap();
    let seq = SeqNo(numbers.first_seq.0.wrapping_add(u16::try_from(index % 65_536).unwrap()));
    let ts = numbers.ts_zero.offset_ticks(frame.rtp_ticks);
    let mut bytes = [0; IMAGE_HEADER_BYTES];
    header(&mut bytes, packet.marker, numbers.payload_type, seq, ts, numbers.ssrc);
    let (mut bytes, file) = (bytes.to_vec(), file());
    for piece in window.pieces(packet) {
        match *piece {
            Piece::Inline { offset, bytes: count } => {
                bytes.extend(window.inline_bytes(offset, count));
            }
            Piece::File { offset, bytes: count } => {
                let at = usize::try_from(offset).unwrap();
                bytes.extend(&file[at..at + usize::from(count)]);
            }
        }
    }
    bytes
}

fn numbers(first_seq: u16, ts_zero: u32) -> ImageNumbers {
    let (ssrc, payload_type) = (Ssrc(0x1234_5678), 96);
    ImageNumbers { ssrc, payload_type, first_seq: SeqNo(first_seq), ts_zero: RtpTs(ts_zero) }
}

proptest! {
    #[test]
    fn packets_of_an_image_are_those_that_are_gathered_however_runs_are_cut(
        frames in made(), first_seq: u16, ts_zero: u32, cuts in prop::collection::vec(1..40_usize, 1..9)
    ) {
        let (window, numbers) = (window_of(&frames), numbers(first_seq, ts_zero));
        let image = image_of(&window, numbers);
        prop_assert_eq!(image.memory_bytes(), ImageJob::memory_bytes_of(&window));
        prop_assert!(image.memory_bytes() >= image.bytes.len() + 8 * window.all_packets().len());
        let mut cuts = cuts.iter().cycle();
        for frame in window.frames() {
            let mut place = 0;
            while place < frame.packet_count as usize {
                let index = frame.packet_index + u32::try_from(place).unwrap();
                let packets_max = *cuts.next().unwrap();
                let run = image.run(index, packets_max).unwrap();
                prop_assert!((1..=packets_max).contains(&usize::from(run.packets)));
                prop_assert!(run.bytes <= RUN_BYTES_MAX);
                let bytes = image.bytes_of(&run).unwrap();
                // As the kernel cuts it (UDP_SEGMENT).
                let segments: Vec<&[u8]> = bytes.chunks(run.segment_bytes.into()).collect();
                prop_assert_eq!(segments.len(), usize::from(run.packets));
                let mut payload = 0;
                for (number, segment) in segments.iter().enumerate() {
                    let expected = gathered(&window, frame, place + number, numbers);
                    prop_assert_eq!(*segment, &expected[..]);
                    payload += segment.len() - IMAGE_HEADER_BYTES;
                }
                prop_assert_eq!(run.payload_bytes as usize, payload);
                place += segments.len();
            }
            prop_assert_eq!(place, frame.packet_count as usize, "runs end with their frame");
        }
        prop_assert_eq!(image.run(u32::try_from(window.all_packets().len()).unwrap(), 9), None);
    }
}

#[test]
fn image_shows_a_packet_only_to_a_stream_with_all_its_numbers() {
    let frames = [vec![(true, vec![(None, 9)]); 3], vec![(true, vec![(Some(0), 9)]); 2]];
    let (window, numbers) = (window_of(&frames), numbers(65_534, u32::MAX));
    let (image, frame) = (image_of(&window, numbers), window.frames()[1]);
    let shows = |place, ssrc, kind, seq, ts| {
        image.shows(&frame, place, (Ssrc(ssrc), kind), (SeqNo(seq), RtpTs(ts)))
    };
    assert!(shows(4, 0x1234_5678, 96, 2, 1_799), "numbers wrap");
    assert!(!shows(4, 0x1234_5679, 96, 2, 1_799));
    assert!(!shows(4, 0x1234_5678, 97, 2, 1_799));
    assert!(!shows(4, 0x1234_5678, 96, 3, 1_799));
    assert!(!shows(3, 0x1234_5678, 96, 2, 1_799));
    assert!(!shows(4, 0x1234_5678, 96, 2, 1_800));
}

#[test]
fn image_is_asked_for_once_when_enough_streams_with_the_same_numbers_enter_in_time() {
    let at = |second: u64| Mono(second * NS_PER_S);
    let slot = ImageSlot::default();
    let wants = |first_seq, second| slot.want(numbers(first_seq, 7), at(second));
    for _ in 1..STREAMS_MIN {
        assert!(!wants(1, 100));
    }
    assert!(wants(1, 101), "the last of enough");
    assert!(!wants(1, 101) && !wants(2, 105), "it was asked for");
    let again: Vec<bool> = (0..STREAMS_MIN).map(|_| wants(2, 120)).collect();
    assert_eq!(again.iter().filter(|asks| **asks).count(), 1, "and again, because it did not come");
}

#[test]
fn streams_with_numbers_of_their_own_never_ask() {
    let slot = ImageSlot::default();
    for stream in 0..1_000 {
        assert!(!slot.want(numbers(stream, 7), Mono(5 * NS_PER_S)));
    }
    let slot = ImageSlot::default();
    for stream in 0..1_000 {
        let now = Mono(u64::from(WITHIN_S + 1) * stream * NS_PER_S);
        assert!(!slot.want(numbers(1, 7), now), "too far apart");
    }
}

#[test]
fn most_streams_win_over_a_few_others() {
    let slot = ImageSlot::default();
    let mut asked = Vec::new();
    for round in 0..20 {
        let first_seq = if round % 4 == 0 { round } else { 500 };
        asked.extend(slot.want(numbers(first_seq, 7), Mono(9 * NS_PER_S)).then_some(first_seq));
    }
    assert_eq!(asked, [500]);
}
