//! Packets by their numbers, and refusals.

use proptest::prelude::*;

use super::*;
use crate::base::ids::Ssrc;
use crate::media::window::{Frame, WindowBuilder};

const NOW: Mono = Mono(1_000_000_000_000);

/// Packets of `bytes` each; the content of a packet is its index in the window.
fn window(packets: u32, bytes: usize) -> Arc<PacketWindow> {
    let mut builder = WindowBuilder::new();
    for number in 0..packets {
        let mut content = number.to_be_bytes().to_vec();
        content.resize(bytes, 0);
        builder.push_inline(&content);
        builder.end_packet(false);
    }
    builder.end_frame(Frame::SYNC);
    let window = builder.finish();
    window.mark_pages_seen(NOW);
    Arc::new(window)
}

fn mark(seq: u16, packets: u16, window_index: u32, packet_index: u32) -> Mark {
    Mark { seq: SeqNo(seq), packets, window_index, packet_index, ts: RtpTs(packet_index) }
}

fn rtx_from(seq: u16) -> RtxStream {
    RtxStream { payload_type: 97, seq: SeqNo(seq), ssrc: Ssrc(9) }
}

/// Index in its window of the packet that is sent again.
fn again(resender: &mut Resender, seq: u16) -> Result<u32, RtxRefusal> {
    again_in(&mut rtx_from(0), resender, seq)
}

fn again_in(rtx: &mut RtxStream, resender: &mut Resender, seq: u16) -> Result<u32, RtxRefusal> {
    resender.handle_nack(SeqNo(seq), NOW, rtx).map(|again| {
        assert!(again.ts.0 <= again.packet.piece_index);
        again.packet.piece_index
    })
}

#[test]
fn number_maps_back_to_its_packet_over_wrap_and_window_edge() {
    let mut resender = Resender::new();
    let mut rtx = rtx_from(65_535);
    let (one, two) = (window(100, 10), window(100, 10));
    resender.handle_sent(mark(65_530, 10, 4, 90), &one, 100);
    resender.handle_sent(mark(4, 20, 5, 0), &two, 200);
    for (seq, expected) in [(65_530, 90), (3, 99), (4, 0), (23, 19)] {
        assert_eq!(again_in(&mut rtx, &mut resender, seq), Ok(expected), "{seq}");
    }
    for seq in [65_529, 24, 30_000] {
        assert_eq!(again_in(&mut rtx, &mut resender, seq), Err(RtxRefusal::Unknown), "{seq}");
    }
    let rtx = resender.handle_nack(SeqNo(5), NOW, &mut rtx).unwrap().rtx;
    assert_eq!((rtx.payload_type, rtx.seq, rtx.ssrc), (97, SeqNo(3), Ssrc(9)));
    resender.handle_sent(mark(24, 1, 6, 0), &one, 10);
    assert_eq!(again(&mut resender, 65_530), Err(RtxRefusal::Unknown), "its window is let go of");
}

#[test]
fn runs_of_a_frame_share_a_mark() {
    let mut resender = Resender::new();
    let window = window(40, 10);
    let run = |seq, packet_index| Mark { ts: RtpTs(0), ..mark(seq, 16, 0, packet_index) };
    resender.handle_sent(run(10, 0), &window, 160);
    resender.handle_sent(run(26, 16), &window, 160);
    assert_eq!(resender.marks.len(), 1);
    assert_eq!(again(&mut resender, 41), Ok(31));
}

#[test]
fn packet_is_sent_again_three_times_and_no_more() {
    let mut resender = Resender::new();
    resender.handle_sent(mark(10, 2, 0, 0), &window(10, 10), 20);
    for _ in 0..3 {
        assert_eq!(again(&mut resender, 10), Ok(0));
    }
    assert_eq!(again(&mut resender, 10), Err(RtxRefusal::Repeated));
    assert_eq!(again(&mut resender, 11), Ok(1));
}

#[test]
fn number_that_comes_again_after_a_wrap_is_another_packet() {
    let mut resender = Resender::new();
    let window = window(300, 10);
    resender.handle_sent(mark(10, 1, 0, 0), &window, 10);
    for _ in 0..3 {
        assert_eq!(again(&mut resender, 10), Ok(0));
    }
    for number in 1..=256 {
        resender.handle_sent(mark(1_000 + number * 2, 1, 0, u32::from(number)), &window, 10);
    }
    resender.handle_sent(mark(10, 1, 0, 270), &window, 10);
    assert_eq!(again(&mut resender, 10), Ok(270));
}

#[test]
fn packet_whose_pages_are_cold_is_refused() {
    let mut resender = Resender::new();
    resender.handle_sent(mark(10, 2, 0, 0), &window(10, 10), 20);
    let late = Mono(NOW.0 + 3_600_000_000_000);
    assert!(matches!(
        resender.handle_nack(SeqNo(10), late, &mut rtx_from(0)),
        Err(RtxRefusal::Cold)
    ));
}

#[test]
fn packet_dropped_from_the_history_is_not_sent_again() {
    let mut resender = Resender::new();
    resender.handle_sent(mark(10, 2, 0, 0), &window(10, 10), 20);
    resender.forget();
    assert_eq!(again(&mut resender, 10), Err(RtxRefusal::Unknown));
}

proptest! {
    #[test]
    fn no_more_than_a_quarter_of_the_rate_is_sent_again(
        frames in prop::collection::vec((1_u16..30, prop::collection::vec(any::<u16>(), 0..20)), 1..200),
    ) {
        let mut resender = Resender::new();
        let window = window(6_000, 1_400);
        let (mut sent, mut repeated, mut seq) = (0_usize, 0_usize, 65_000_u16);
        let mut packet_index = 0;
        for (packets, nacks) in frames {
            let bytes = u32::from(packets) * 1_400;
            resender.handle_sent(mark(seq, packets, 0, packet_index), &window, bytes);
            sent += usize::from(packets) * 1_400;
            seq = seq.wrapping_add(packets);
            packet_index += u32::from(packets);
            for nack in nacks {
                let asked = seq.wrapping_sub(nack % 300);
                if let Ok(found) = again(&mut resender, asked) {
                    repeated += 1_400;
                    prop_assert_eq!(found, u32::from(asked.wrapping_sub(65_000)));
                }
            }
            prop_assert!(repeated <= CREDIT_AT_START + sent / RATE_SHARE + 1_400);
        }
        prop_assert!(resender.marks.len() <= MARKS_MAX && resender.tried.len() <= TRIED_MAX);
    }

    #[test]
    fn rewound_numbers_are_unknown_until_they_are_sent_and_then_mean_the_new_packet(
        runs in prop::collection::vec((1_u16..20, prop::option::of(0_u16..60)), 1..60),
    ) {
        let mut resender = Resender::new();
        let window = window(2_000, 4);
        let first = 65_500_u16;
        // The packet of each number; a gap for each rewind, so that old and new differ.
        let mut known: Vec<u32> = Vec::new();
        let mut next_packet = 0;
        for (packets, back) in runs {
            let seq = first.wrapping_add(u16::try_from(known.len()).unwrap());
            resender.handle_sent(mark(seq, packets, 0, next_packet), &window, 4);
            known.extend((next_packet..).take(usize::from(packets)));
            next_packet += u32::from(packets);
            if let Some(back) = back {
                known.truncate(known.len().saturating_sub(usize::from(back)));
                resender.rewind(SeqNo(first.wrapping_add(u16::try_from(known.len()).unwrap())));
                next_packet += 1;
            }
        }
        for (place, packet) in (0_u16..).zip(&known) {
            let mark = resender.find(SeqNo(first.wrapping_add(place))).unwrap();
            let offset = u32::from(first.wrapping_add(place).wrapping_sub(mark.seq.0));
            prop_assert_eq!(mark.packet_index + offset, *packet);
        }
        let behind = first.wrapping_add(u16::try_from(known.len()).unwrap());
        prop_assert_eq!(resender.find(SeqNo(behind)), None);
    }
}

#[test]
fn numbers_that_were_never_sent_are_not_looked_for_without_end() {
    let mut resender = Resender::new();
    let window = window(100, 10);
    resender.handle_sent(mark(0, 10, 4, 0), &window, 100);
    let refused: Vec<RtxRefusal> =
        (0..1_000).filter_map(|number| again(&mut resender, 20_000 + number).err()).collect();
    let looked_for = refused.iter().filter(|why| **why == RtxRefusal::Unknown).count();
    assert_eq!(looked_for, ASKS_MAX as usize);
    assert!(refused[looked_for..].iter().all(|why| *why == RtxRefusal::Rate));
    // Packets that are sent make room for as many numbers.
    resender.handle_sent(mark(10, 3, 4, 10), &window, 30);
    assert_eq!(again(&mut resender, 11), Ok(11));
    assert_eq!([again(&mut resender, 9), again(&mut resender, 10)], [Ok(9), Ok(10)]);
    assert_eq!(again(&mut resender, 8), Err(RtxRefusal::Rate));
}

#[test]
fn packets_of_another_process_are_sent_again_when_their_windows_are_here() {
    let (old, new) = (window(40, 100), window(30, 100));
    let mut resender = Resender::new();
    resender.handle_sent(mark(65_530, 20, 3, 10), &old, 2_000);
    resender.handle_sent(mark(14, 5, 4, 0), &new, 500);
    let record = resender.record().unwrap();
    let mut resumed = Resender::resumed(&record);
    assert_eq!(resumed.wanted(), [4, 3]);
    assert_eq!(again(&mut resumed, 2), Err(RtxRefusal::Unknown), "no window is here");
    resumed.handle_window(3, &old);
    resumed.handle_window(7, &new);
    assert_eq!(resumed.wanted(), [4]);
    assert_eq!((again(&mut resumed, 2), again(&mut resumed, 65_530)), (Ok(18), Ok(10)));
    assert_eq!(again(&mut resumed, 15), Err(RtxRefusal::Unknown));
    // It goes on from there, whichever window comes first.
    resumed.handle_sent(mark(19, 2, 4, 5), &new, 200);
    assert_eq!((again(&mut resumed, 15), again(&mut resumed, 3)), (Ok(1), Ok(19)));
    resumed.handle_sent(mark(21, 2, 5, 0), &new, 200);
    assert_eq!(resumed.wanted(), [0_u32; 0]);
    assert_eq!((again(&mut resumed, 21), again(&mut resumed, 20)), (Ok(0), Ok(6)));
}

#[test]
fn packets_that_were_cut_in_another_way_are_not_known() {
    let mut resender = Resender::new();
    resender.handle_sent(mark(5, 2, 0, 0), &window(2, 100), 200);
    let record = resender.record().unwrap();
    let other = HistoryRecord { cut: CUT + 1, ..record };
    assert!(
        Resender::resumed(&other).record().is_none()
            && Resender::resumed(&other).wanted().is_empty()
    );
    // Nor is one that no window has, however large the numbers are.
    let sent = vec![SentRecord { seq: 1, packets: 9, window: 0, packet: u32::MAX - 3, ts: 0 }];
    assert!(Resender::resumed(&HistoryRecord { cut: CUT, sent }).wanted().is_empty());
}
