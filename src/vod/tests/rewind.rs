//! Runs that the socket did not take: their packets come next again, with the same numbers.

use proptest::prelude::*;

use crate::base::ids::{RtpTs, SeqNo};
use crate::base::random;
use crate::rtp::srtp::{MasterKey, SrtpStream, Suite};
use crate::rtp::{HEADER_BYTES, write_header};
use crate::session::directory::SessionKey;
use crate::session::directory::StreamRef;
use crate::vod::stream::{Due, RunMark, Stream};
use crate::vod::tests::Bench;
use crate::vod::thinning::ThinningLevel;

/// A playing session, every window of the first seconds at hand.
fn playing() -> (Bench, SessionKey, u32) {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    let epoch_count = bench.session(id).epoch_count;
    let key = bench.key(id);
    (bench, key, epoch_count)
}

/// Takes up to `packets` packets of the due frame as one run; returns (sequence number, sample,
/// packet) of each.
fn take_run(
    bench: &mut Bench,
    key: SessionKey,
    epoch_count: u32,
    packets: u32,
) -> (RunMark, Vec<(u16, u32, u32)>) {
    let now = bench.sessions.cx.now + std::time::Duration::from_secs(100);
    let session = bench.sessions.vod.players.session_mut(key).unwrap();
    let epoch = session.epoch.unwrap();
    let stream = &mut session.streams[0];
    // Everything is due, and in memory. The second look is for the window that the first entered.
    let due = |stream: &mut Stream| {
        stream.window().inspect(|(window, _)| window.mark_pages_seen(now));
        stream.due(&epoch, None, now)
    };
    let looks = (due(stream), due(stream));
    let ((Due::Now { frame, .. }, _) | (_, Due::Now { frame, .. })) = looks else {
        panic!("nothing due")
    };
    let (seq, first) = (stream.next_seq(), packet_index(stream));
    let count = packets.min(frame.packet_count - first);
    let taken = (0..count)
        .map(|n| (seq.plus(u16::try_from(n).unwrap()).0, frame.sample_index, first + n))
        .collect();
    let at = StreamRef { session: key, stream_index: 0, epoch_count };
    let mark = stream.take_run(at, u16::try_from(count).unwrap(), 100 * count).unwrap();
    if first + count == frame.packet_count {
        stream.finish_frame();
    }
    bench.sessions.vod.request_windows(&mut bench.sessions.cx, key, 0);
    bench.settle();
    (mark, taken)
}

fn packet_index(stream: &Stream) -> u32 {
    stream.feed.cursor.as_ref().unwrap().packet_index()
}

fn rewind(bench: &mut Bench, key: SessionKey, mark: RunMark) -> bool {
    bench.sessions.vod.players.session_mut(key).unwrap().streams[0].rewind(&mark)
}

#[test]
fn runs_behind_a_rewound_one_are_rewound_with_it() {
    let (mut bench, key, epoch_count) = playing();
    let (first, sent) = take_run(&mut bench, key, epoch_count, 2);
    let (second, _) = take_run(&mut bench, key, epoch_count, 2);
    let (third, _) = take_run(&mut bench, key, epoch_count, 2);
    assert!(rewind(&mut bench, key, first));
    assert!(!rewind(&mut bench, key, second), "it went back with the first");
    assert!(!rewind(&mut bench, key, third));
    assert_eq!(take_run(&mut bench, key, epoch_count, 2).1, sent);
}

#[test]
fn refused_run_is_rewound_and_the_runs_before_it_stay_sent() {
    let (mut bench, key, epoch_count) = playing();
    let _sent = take_run(&mut bench, key, epoch_count, 2);
    let (second, lost) = take_run(&mut bench, key, epoch_count, 2);
    let _cancelled = take_run(&mut bench, key, epoch_count, 2);
    assert!(rewind(&mut bench, key, second));
    assert_eq!(take_run(&mut bench, key, epoch_count, 2).1, lost);
}

/// Takes a run, and encrypts its packets as the sink does.
fn take_sealed(bench: &mut Bench, key: SessionKey, epoch_count: u32) -> (RunMark, Vec<u16>) {
    let (mark, packets) = take_run(bench, key, epoch_count, 2);
    let outgoing = &bench.sessions.vod.players.session_mut(key).unwrap().streams[0].outgoing;
    let (srtp, ssrc) = (outgoing.srtp.as_ref().unwrap(), outgoing.ssrc().unwrap());
    let numbers = packets.into_iter().map(|(seq, ..)| {
        let mut packet = [0; HEADER_BYTES];
        write_header(&mut packet, false, 96, SeqNo(seq), RtpTs(0), ssrc);
        srtp.protect_rtp(&mut packet.to_vec(), 0).unwrap();
        seq
    });
    (mark, numbers.collect())
}

#[test]
fn frames_left_out_meanwhile_do_not_give_the_numbers_of_a_refused_run_to_other_packets() {
    let (mut bench, key, epoch_count) = playing();
    let master = MasterKey::random(Suite::Aes128Gcm, &mut random::rng());
    let outgoing = &mut bench.sessions.vod.players.session_mut(key).unwrap().streams[0].outgoing;
    outgoing.srtp = Some(SrtpStream::new(&master, &master, &[]));
    outgoing.own_mut().unwrap().seq = SeqNo(7);
    // The socket refuses two runs, and the first of them can be sent again as it was.
    let (first, numbers) = take_sealed(&mut bench, key, epoch_count);
    let (second, _) = take_sealed(&mut bench, key, epoch_count);
    assert!(rewind(&mut bench, key, first));
    assert!(!rewind(&mut bench, key, second), "it went back with the first");
    let (first, again) = take_sealed(&mut bench, key, epoch_count);
    assert_eq!(again, numbers);
    let (second, last) = take_sealed(&mut bench, key, epoch_count);
    // A report comes before the socket says that it refuses them, too.
    let stream = bench.sessions.vod.players.stream_mut(key, 0).unwrap();
    stream.set_level(ThinningLevel::Reference);
    let place = packet_index(bench.sessions.vod.players.stream_mut(key, 0).unwrap());
    assert!(!rewind(&mut bench, key, first), "it is lost");
    assert!(!rewind(&mut bench, key, second), "it is lost");
    assert_eq!(packet_index(bench.sessions.vod.players.stream_mut(key, 0).unwrap()), place);
    let (_, next) = take_sealed(&mut bench, key, epoch_count);
    assert_eq!(next[0], last.last().unwrap() + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_packet_is_sent_once_and_in_order_whatever_runs_are_refused(
        runs in prop::collection::vec((1_u32..5, any::<bool>()), 1..200),
    ) {
        let (mut bench, key, epoch_count) = playing();
        let mut out: Vec<(u16, u32, u32)> = Vec::new();
        for (packets, is_taken) in runs {
            let (mark, packets) = take_run(&mut bench, key, epoch_count, packets);
            if is_taken {
                out.extend(packets);
            } else {
                prop_assert!(rewind(&mut bench, key, mark));
            }
        }
        for pair in out.windows(2) {
            let (seq, sample, packet) = pair[0];
            prop_assert_eq!(pair[1].0, seq.wrapping_add(1));
            let is_next_packet = pair[1].1 == sample && pair[1].2 == packet + 1;
            let is_next_frame = pair[1].1 == sample + 1 && pair[1].2 == 0;
            prop_assert!(is_next_packet || is_next_frame, "{pair:?}");
        }
    }
}

#[test]
fn client_gets_every_packet_once_and_in_order_whatever_its_socket_refuses() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    // A run in seven, and those of the same stream that are linked behind it.
    bench.refuses_run = |number| number % 7 == 3;
    // A stall: several frames are due at once and go out as a chain of runs.
    for _ in 0..10 {
        bench.run_for(std::time::Duration::from_millis(500));
        bench.sessions.cx.now = bench.sessions.cx.now + std::time::Duration::from_millis(200);
    }
    bench.refuses_run = |_| false;
    bench.run_for(std::time::Duration::from_secs(1));
    assert!(bench.cells.send_again.value() >= 10, "{}", bench.cells.send_again.value());
    for track in 0..2 {
        let sent = bench.sent_of(track);
        assert!(sent.last().unwrap().frame.npt.0 > 7_000_000_000, "nothing is left behind");
        for pair in sent.windows(2) {
            assert_eq!(pair[1].frame.sample_index, pair[0].frame.sample_index + 1);
            assert_eq!(pair[1].first_seq, pair[0].first_seq.wrapping_add(pair[0].packets));
        }
        let counted = bench.session(id).streams[usize::from(track)].outgoing.sent().packets;
        assert_eq!(counted, sent.iter().map(|sent| u64::from(sent.packets)).sum::<u64>());
    }
}
