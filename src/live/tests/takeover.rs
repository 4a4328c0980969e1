//! A shard whose live paths another process takes over: how much is recorded, and what waits.

use super::*;
use crate::live::core::message::OwnerRequest;
use crate::live::core::takeover::PACKETS_BYTES_MAX;
use crate::live::takeover::RecordedBatches;
use crate::takeover::live::PathRecord;

const H264: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n\
    a=control:streamid=0\r\n";

/// Shards of a large server: each has 129 KiB of the budget.
const SHARDS: u8 = 254;

/// A reader that plays, and takes nothing.
fn stuck_reader(bench: &mut Bench) {
    let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    bench.reader(Method::Play, URL, Some(session_id(&setup)));
    bench.packet(host(1, 5_000), 1);
    assert_eq!(bench.answer(READER).unwrap().status().code(), 200);
}

fn record(bench: &mut Bench, kept: &mut RecordedBatches) -> PathRecord {
    let now = bench.sessions.cx.now;
    let hub = &mut bench.sessions.live.hub;
    let shards = std::mem::replace(&mut hub.shard_count, SHARDS);
    let mut records = bench.sessions.live.record_paths(now, kept);
    bench.sessions.live.hub.shard_count = shards;
    records.pop().unwrap()
}

fn end_no(bench: &Bench) -> u64 {
    bench.sessions.live.hub.registry.owned("live/a").unwrap().ring.end_no()
}

/// A reader that did not read had its whole ring copied, up to 32 MiB, while nothing was sent.
#[test]
fn what_a_reader_needs_that_is_far_behind_has_a_budget_too() {
    let mut bench = Bench::new();
    bench.publish();
    stuck_reader(&mut bench);
    for seq in 2..2_000 {
        bench.packet(host(1, 5_000), seq);
    }
    let path = bench.sessions.live.hub.paths.path("live/a").unwrap();
    assert_eq!((path.needed_from(), path.ring().end_no()), (0, 1_999), "it needs all");
    let one = path.ring().batch(0).unwrap().memory_bytes();
    let newest = path.ring().newest().unwrap().record(0, 0).received_ns;
    let mut kept = RecordedBatches::default();
    let recorded = record(&mut bench, &mut kept);
    let most = PACKETS_BYTES_MAX / usize::from(SHARDS);
    let bytes = recorded.blocks.len() * one;
    assert!(bytes <= most && bytes + one > most, "{bytes} of {most}");
    assert_eq!(recorded.blocks.last().unwrap().received_ns, newest);
}

#[test]
fn packets_that_were_written_before_are_named_and_only_new_ones_are_added() {
    let mut bench = Bench::new();
    bench.publish();
    stuck_reader(&mut bench);
    for seq in 2..100 {
        bench.packet(host(1, 5_000), seq);
    }
    let mut kept = RecordedBatches::default();
    bench.sessions.live.keep_batches(bench.sessions.cx.now, &mut kept);
    let (mut written, mut rounds) = (0, 0);
    loop {
        let count = kept.next(1_000, 512).len();
        if count == 0 {
            break;
        }
        assert!(count <= 6, "{count} of 172 bytes are more than a thousand");
        (written, rounds) = (written + count, rounds + 1);
    }
    assert_eq!((written, rounds), (99, 17));
    bench.packet(host(1, 5_000), 100);
    let recorded = record(&mut bench, &mut kept);
    assert_eq!(kept.next(usize::MAX, 512).len(), 1);
    let offsets: Vec<u64> = recorded.blocks.iter().map(|block| block.offset).collect();
    assert_eq!(offsets, (0..100).map(|n| n * 172).collect::<Vec<_>>());
}

/// Cameras, titles and relays went on between the shards while they were recorded.
#[test]
fn what_any_source_feeds_waits_while_the_shard_is_halted_and_comes_in_order() {
    let mut bench = Bench::new();
    bench.publish();
    bench.packet(host(1, 5_000), 1);
    bench.sessions.live.hub.halt();
    for seq in 2..5 {
        bench.packet(host(1, 5_000), seq);
    }
    assert_eq!(end_no(&bench), 1, "nothing is on its way");
    assert!(!bench.sessions.live.is_unsettled(), "and it does not keep the shard awake");
    bench.sessions.live.hub.go_on();
    bench.settle();
    bench.packet(host(1, 5_000), 5);
    let ring = bench.sessions.live.hub.registry.owned("live/a").unwrap().ring;
    let seq = |no: u64| {
        let batch = ring.batch(no).unwrap();
        batch.packets_of(&batch.runs_of(0)[0])[0].seq.0
    };
    assert_eq!((0..ring.end_no()).map(seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    // More than may wait is let go, and whoever records is told.
    let hub = &mut bench.sessions.live.hub;
    hub.halt();
    let path: Arc<str> = "live/a".into();
    (0..4_095).for_each(|_| hub.request(&path, OwnerRequest::WantSync));
    assert!(!hub.has_overrun() && hub.requests.is_empty());
    hub.request(&path, OwnerRequest::WantSync);
    assert!(hub.has_overrun());
    assert_eq!(hub.requests.len(), 4_096);
    hub.go_on();
    assert!(!hub.has_overrun());
}

/// All publishers of a shard were flushed at once: inboxes of other shards overflowed.
#[test]
fn sources_are_flushed_some_at_a_time() {
    let mut bench = Bench::new();
    bench.publish();
    let of_publisher = bench.sessions.live.sources.publishers.numbers()[0];
    let from = host(1, 5_000);
    bench.sessions.live.sources.handle_rtp_datagram(&mut bench.sessions.cx, 0, from, &rtp(1));
    let mut numbers = vec![of_publisher, 1_001, 1_002, 1_003];
    let Sessions { cx, live, .. } = &mut bench.sessions;
    live.flush_sources(cx, &mut numbers, 3);
    assert_eq!(numbers, [of_publisher]);
    assert!(live.sources.publishers.has_packets());
    live.flush_sources(cx, &mut numbers, 3);
    assert!(numbers.is_empty() && !live.sources.publishers.has_packets());
    assert_eq!(end_no(&bench), 1);
}

/// The new process had the description of before, until the next change.
#[test]
fn description_that_changed_with_the_last_packets_is_told_before_them() {
    let mut bench = Bench::new();
    bench.publish_as(H264);
    let send = |bench: &mut Bench, first: u8, level: u8| {
        let sps = [0x67, 0x42, 0xc0, level, 0xd9];
        let sets = [&sps[..], &[0x68, 0xcb, 0x83], &[0x65, 0x88, 0x80]];
        for (seq, payload) in (first..).zip(sets) {
            let packet = [&[0x80, 96, 0, seq, 0, 0, 0, seq, 0, 0, 0, 9][..], payload].concat();
            let Sessions { cx, live, .. } = &mut bench.sessions;
            live.sources.handle_rtp_datagram(cx, 0, host(1, 5_000), &packet);
        }
    };
    let has_sets = |bench: &Bench| {
        let owned = bench.sessions.live.hub.registry.owned("live/a").unwrap();
        owned.description.sdp.contains("sprop-parameter-sets")
    };
    send(&mut bench, 1, 0x1e);
    assert!(!has_sets(&bench));
    let Sessions { cx, live, .. } = &mut bench.sessions;
    let mut numbers = live.sources.publishers.numbers();
    live.flush_sources(cx, &mut numbers, 64);
    assert!(has_sets(&bench));
    // What comes later goes along with the publisher, and is not told to a hub that waits.
    let described = |bench: &Bench| {
        Arc::clone(&bench.sessions.live.sources.publishers.values().next().unwrap().described)
    };
    let before = described(&bench);
    bench.sessions.live.hub.halt();
    send(&mut bench, 4, 0x1f);
    bench.pass(Duration::from_secs(3));
    assert!(Arc::ptr_eq(&before, &described(&bench)));
    bench.sessions.live.hub.go_on();
    bench.pass(Duration::from_secs(3));
    assert!(!Arc::ptr_eq(&before, &described(&bench)));
}

/// It waited a second for a key frame that was not read any more.
#[test]
fn play_that_waits_for_its_first_packet_is_answered_when_a_takeover_asks() {
    let mut bench = Bench::new();
    bench.publish();
    let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    let id = session_id(&setup);
    assert!(bench.reader(Method::Play, URL, Some(id)).is_none(), "nothing has come yet");
    let reader = SessionRef::Reader(0);
    assert!(!bench.sessions.is_quiet(reader));
    bench.sessions.answer_early(reader);
    bench.settle();
    assert!(bench.sessions.is_quiet(reader));
    let played = bench.answer(READER).unwrap();
    let info = played.header_value("RTP-Info").unwrap();
    assert!(info.contains("trackID=0") && !info.contains("seq="), "{info}");
}
