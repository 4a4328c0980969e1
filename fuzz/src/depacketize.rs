//! Frames out of RTP packets: what a camera sends, as MP4 stores it.

use headend::base::ids::{RtpTs, SeqNo};
use headend::rtp::depacketize::{AacFormat, Depacketizer, Frame, Packet};

use crate::input::Input;

/// Packets of one track: frames are whole, no longer than what came, and the same of a twin.
pub fn depacketize(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8() % 5;
    let sizes = input.u8();
    let (mut depacketizer, mut twin) = (made(kind, sizes), made(kind, sizes));
    let (mut seq, mut ts) = (u16::MAX, 0_u32);
    let (mut frames, mut same) = (Vec::new(), Vec::new());
    let (mut packets, mut bytes) = (0, 0);
    while !input.is_empty() {
        let step = input.u8();
        if step & 0xe0 == 0xe0 {
            depacketizer.restart();
            twin.restart();
        }
        // A packet that is lost, one that comes late, or the next one.
        seq = match step >> 3 & 3 {
            3 => seq.wrapping_add(2),
            2 => seq.wrapping_sub(1),
            _ => seq.wrapping_add(1),
        };
        ts = ts.wrapping_add(u32::from(step & 1) * 3_000);
        let payload = input.short();
        let (marker, is_sync) = (step & 2 != 0, step & 4 != 0);
        let packet = Packet { seq: SeqNo(seq), ts: RtpTs(ts), marker, is_sync, payload };
        let before = frames.len();
        depacketizer.push(&packet, &mut frames);
        twin.push(&packet, &mut same);
        assert_eq!(frames, same);
        frames[before..].iter().for_each(|frame| check(kind, frame));
        packets += 1;
        bytes += payload.len();
    }
    // A unit of one byte behind a length of two has one of four.
    let made: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    assert!(made <= 5 * bytes, "{made} bytes of {bytes}");
    let lost = depacketizer.take_lost();
    assert!(lost <= packets + bytes as u64, "{lost} frames of {packets} packets");
    assert_eq!((twin.take_lost(), depacketizer.take_lost()), (lost, 0));
}

fn made(kind: u8, sizes: u8) -> Depacketizer {
    match kind {
        0 => Depacketizer::h264(),
        1 => Depacketizer::h265(),
        2 => Depacketizer::av1(),
        3 => Depacketizer::aac(AacFormat {
            size_bits: 1 + (sizes & 15),
            index_bits: sizes >> 4,
            index_delta_bits: sizes >> 5,
            frame_ticks: 1_024,
        }),
        _ => Depacketizer::opus(),
    }
}

fn check(kind: u8, frame: &Frame) {
    let mut rest = frame.bytes.as_slice();
    match kind {
        // Units behind their lengths, and no parameter sets.
        0 | 1 => {
            assert!(!rest.is_empty());
            while let Some((length, behind)) = rest.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                let (unit, behind) = behind.split_at_checked(length).expect("a whole unit");
                let unit_type = match kind {
                    0 => unit[0] & 0x1f,
                    _ => unit[0] >> 1 & 0x3f,
                };
                let is_set = if kind == 0 { 7..=9 } else { 32..=35 };
                assert!(!is_set.contains(&unit_type), "{unit_type}");
                rest = behind;
            }
            assert!(rest.is_empty());
        }
        // OBUs with their sizes.
        2 => {
            assert!(!rest.is_empty());
            while let Some(header) = rest.first() {
                assert!(header & 2 != 0, "an OBU without its size");
                let mut at = 1 + usize::from(header >> 2 & 1);
                let (mut bytes, mut shift) = (0, 0);
                loop {
                    let byte = rest[at];
                    at += 1;
                    bytes |= usize::from(byte & 0x7f) << shift;
                    shift += 7;
                    if byte & 0x80 == 0 {
                        break;
                    }
                }
                rest = &rest[at + bytes..];
            }
        }
        _ => {}
    }
}
