//! A path in two processes: after the records it goes on as the one that was left would have.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::carrier::Carrier;
use crate::base::host::Host;
use crate::base::ids::{SeqNo, Ssrc};
use crate::live::core::batch::tests::packet;
use crate::live::core::latch::AddressLatch;
use crate::live::core::limits::PULL_START_MAX;
use crate::live::core::message::{PathRules, SourceKind};
use crate::live::core::path::{LivePath, Next, PathLimits, ReaderKey};
use crate::live::core::reader::To;
use crate::live::core::registry::{Effect, Registry};
use crate::live::core::source::{ArrivalTime, RtpFields, Source};
use crate::live::core::start::StartPolicy;
use crate::rtp::detect::DetectorFormat;
use crate::takeover::live::{
    BlockRecord, PathRecord, PublisherTrackRecord, ReaderRecord, ReaderStateRecord, SourceRecord,
};
use crate::takeover::v1::{ClientRecord, NumbersRecord, OutgoingRecord, TransportRecord};

const CLIENT: &str = "192.0.2.9:40000";

/// A packet that comes: milliseconds since the one before, track, lost ones before it, bytes, end
/// of a frame, start of a key frame.
type Came = (u64, u8, u16, usize, bool, bool);

fn any_packets() -> impl Strategy<Value = Vec<Came>> {
    let sizes = prop_oneof![Just(1_000_usize), 60_usize..1_400, 1_500_usize..4_000];
    let one = (0_u64..30, 0_u8..2, 0_u16..2, sizes, any::<bool>(), prop::bool::weighted(0.2));
    prop::collection::vec(one, 1..60)
}

/// Where a publisher is.
#[derive(Debug, Clone, Copy, Default)]
struct Pen {
    ms: u64,
    seq: [u16; 2],
}

fn description() -> Arc<Description> {
    let track = |payload_type, needs_sync| LiveTrack {
        clock_rate_hz: 90_000,
        payload_types: vec![payload_type],
        needs_sync,
        identity: format!("track {payload_type}").into(),
    };
    let made = Description::new("v=0".into(), vec![track(96, true), track(97, false)]).unwrap();
    Arc::new(made.with_feedback("v=0 AVPF".into()).with_awaits_sets(true))
}

fn address() -> SocketAddr {
    CLIENT.parse().unwrap()
}

fn formats() -> Vec<DetectorFormat> {
    vec![DetectorFormat::H264, DetectorFormat::Any]
}

fn source() -> Source {
    let mut source = Source::new("live/a".into(), description(), Ssrc(9), false, Mono(0));
    source.set_formats(formats());
    let latch = AddressLatch::Expected(Host::of(address()));
    assert!(source.set_up(0, latch, latch) && source.set_up(1, latch, latch));
    source.grant(Generation(3), Mono(0));
    source
}

/// A reader over UDP or TCP that plays.
fn reader(path: &mut LivePath, carrier: Carrier) -> ReaderKey {
    let key = path.add_reader(7, carrier).unwrap();
    for track in 0..2 {
        path.add_stream(key, track, To::Channel(track)).unwrap();
    }
    path.prepare(key, StartPolicy::Gop);
    path.play(key, Mono(0));
    key
}

impl Pen {
    /// Has sources take the same packet.
    fn write(&mut self, came: Came, sources: &mut [&mut Source]) {
        let (ms, track, lost, len, marker, is_sync) = came;
        self.ms += ms;
        let place = usize::from(track);
        self.seq[place] = self.seq[place].wrapping_add(lost + 1);
        let (seq, ssrc) = (self.seq[place], u32::from(track) + 50);
        let ts = u32::try_from(self.ms * 90).unwrap();
        let mut bytes = packet(seq, ts, ssrc, len);
        bytes[1] = (96 + track) | if marker { 0x80 } else { 0 };
        // A slice, which may be cut for readers over UDP.
        bytes[12] = 0x65;
        let fields = RtpFields {
            payload_type: 96 + track,
            seq: SeqNo(seq),
            ts: RtpTs(ts),
            ssrc: Ssrc(ssrc),
            marker,
            header_bytes: 12,
        };
        let utc_ns = i64::try_from(self.ms * 1_000_000).unwrap();
        let at = ArrivalTime { now: Mono(self.ms * 1_000_000), utc_ns };
        for source in sources {
            source.handle_rtp(track, Some(address()), &fields, is_sync, &bytes, at).unwrap();
        }
    }

    fn now(self) -> Mono {
        Mono(self.ms * 1_000_000)
    }
}

/// The next packets of a reader, headers and payloads, `count` at most.
fn send(path: &mut LivePath, key: ReaderKey, now: Mono, count: usize) -> Vec<(u8, Vec<u8>)> {
    let mut sent = Vec::new();
    for track in [0, 1] {
        for _ in 0..count {
            let Next::Run(due) = path.next(key, track, now) else { break };
            let packet = due.batch.packets_of(&due.run)[usize::from(due.skip_packets)];
            let header = due.rewrite.header(due.batch, &packet);
            let bytes = due.batch.packet_bytes(&packet);
            sent.push((track, [&header[..], &bytes[12..]].concat()));
            let mark = path.take(key, track, 1).unwrap();
            path.confirm(key, &mark);
        }
    }
    sent
}

fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(record: &T) -> T {
    serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()
}

fn source_record(source: &Source) -> (SourceRecord, [PublisherTrackRecord; 2]) {
    let tracks = [0, 1].map(|index| {
        let mut record = PublisherTrackRecord::default();
        source.record_track(index, &mut record);
        through_json(&record)
    });
    (through_json(&source.record()), tracks)
}

fn source_of((record, tracks): &(SourceRecord, [PublisherTrackRecord; 2])) -> Source {
    let of = ("live/a".into(), description());
    let mut source = Source::of_record(of, Ssrc(9), Some(Generation(3)), record);
    source.set_formats(formats());
    for (index, track) in (0..).zip(tracks) {
        source.take_track(index, Some(Host::of(address())), track);
    }
    source
}

fn taken_path(path: &LivePath) -> TakenPath {
    let mut bytes = Vec::new();
    let blocks: Vec<BlockRecord> = path
        .ring()
        .batches_from(0)
        .map(|batch| {
            let record = batch.record(block_id(batch), bytes.len() as u64);
            bytes.extend_from_slice(batch.bytes());
            record
        })
        .collect();
    let record = PathRecord {
        name: "live/a".to_owned(),
        generation: 3,
        description: path.description().record(),
        owner: None,
        blocks,
    };
    let record = through_json(&record);
    let batch = |block: &BlockRecord| {
        let from = usize::try_from(block.offset).unwrap();
        let its = bytes[from..from + block.bytes_count()].to_vec();
        Arc::new(PacketBatch::of_record(block, its).unwrap())
    };
    let batches: Vec<_> = record.blocks.iter().map(batch).collect();
    for (old, new) in path.ring().batches_from(0).zip(&batches) {
        assert_eq!(old, new);
    }
    let places = record.blocks.iter().map(|block| block.id).zip(0..).collect();
    TakenPath {
        name: "live/a".into(),
        generation: Generation(record.generation),
        description: Arc::new(Description::of_record(record.description).unwrap()),
        batches: batches.into(),
        places: Arc::new(places),
        source: None,
        owner: None,
        has_readers: true,
    }
}

fn reader_record(path: &LivePath, key: ReaderKey) -> ReaderRecord {
    let rtp = |track| OutgoingRecord {
        payload_type: 96,
        clock_rate_hz: 90_000,
        numbers: NumbersRecord::Source { ssrc: None },
        transport: TransportRecord::Tcp { channel: track, rtcp_channel: track + 4 },
        rtx: None,
        report: None,
        control_url: String::new(),
    };
    let feed = path.record_reader(key, vec![rtp(0), rtp(1)]).unwrap();
    through_json(&ReaderRecord {
        client: ClientRecord {
            id: String::new(),
            peer: address(),
            user_agent: None,
            user: None,
            created_ns: 0,
            alive_ns: 0,
            cname: String::new(),
        },
        path: "live/a".to_owned(),
        state: ReaderStateRecord::Playing,
        report_ns: 0,
        pace: feed.pace,
        delay_ns: feed.delay_ns,
        skips: feed.skips,
        skipped: feed.skipped,
        sent: feed.sent,
        streams: feed.streams,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Packets come, some are sent, all is recorded, and packets come again: to the path that was
    /// there before, and to the one that was made of the records.
    #[test]
    fn path_goes_on_from_its_records_as_it_would_have_gone_on(
        before in any_packets(),
        after in any_packets(),
        sent_before in 0_usize..60,
        is_udp in any::<bool>(),
    ) {
        let (mut old_source, mut pen) = (source(), Pen::default());
        let made = (Generation(3), description());
        let limits = PathLimits::default();
        let mut old = LivePath::new("live/a".into(), made, Vec::new(), limits, Mono(0));
        let carrier = if is_udp { Carrier::Udp } else { Carrier::Tcp };
        let old_key = reader(&mut old, carrier);
        for came in before {
            pen.write(came, &mut [&mut old_source]);
            while let Some(batch) = old_source.poll_batch(pen.now()) {
                old.push(batch, pen.now());
            }
        }
        while let Some(batch) = old_source.finish() {
            old.push(batch, pen.now());
        }
        send(&mut old, old_key, pen.now(), sent_before);

        let mut new_source = source_of(&source_record(&old_source));
        prop_assert_eq!(source_record(&new_source), source_record(&old_source));
        let taken = taken_path(&old);
        let mut new = LivePath::of_taken(&taken, limits, pen.now());
        let to = [To::Channel(0), To::Channel(1)];
        let record = reader_record(&old, old_key);
        let new_key = new.take_reader(&record, &taken, 7, &to, pen.now()).unwrap();
        new.go_on_with(new_key);
        // The destination decides what it is sent by; here both are channels.
        new.reader_mut(new_key).unwrap().carrier = carrier;
        prop_assert_eq!(new.ring().newest_start(), old.ring().newest_start());

        for came in after {
            pen.write(came, &mut [&mut old_source, &mut new_source]);
            loop {
                let batch = old_source.poll_batch(pen.now());
                let twin = new_source.poll_batch(pen.now());
                prop_assert_eq!(&batch, &twin);
                let (Some(batch), Some(twin)) = (batch, twin) else { break };
                old.push(batch, pen.now());
                new.push(twin, pen.now());
            }
            let packets = send(&mut old, old_key, pen.now(), 3);
            prop_assert_eq!(send(&mut new, new_key, pen.now(), 3), packets);
        }
        let later = Mono(pen.now().0 + 6_000_000_000);
        prop_assert_eq!(new_source.poll_reports(later), old_source.poll_reports(later));
        let sent = |path: &LivePath, key| path.reader(key).map(|reader| reader.counts().sent);
        prop_assert_eq!(sent(&new, new_key), sent(&old, old_key));
    }

    #[test]
    fn records_of_packets_that_do_not_fit_their_bytes_are_refused(
        lens in prop::collection::vec((0_u16..40, 0_u16..40), 0..6),
        tracks in prop::collection::vec(0_u8..20, 1..3),
        bytes in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let span = |track: &u8| crate::takeover::live::SpanRecord {
            track: *track,
            is_for_datagrams: false,
            clock: None,
            packets: lens.iter().map(|(len, header)| (*len, *header, true)).collect(),
        };
        let record = BlockRecord {
            id: 1,
            offset: 0,
            generation: 1,
            received_ns: 2,
            tracks: tracks.iter().map(span).collect(),
            awaiting: 0,
            completing: 0,
            with_datagrams: 0,
        };
        let made = PacketBatch::of_record(&record, bytes.clone());
        let is_whole = record.bytes_count() == bytes.len()
            && !lens.is_empty()
            && lens.iter().all(|(len, header)| *header >= 12 && header <= len)
            && tracks.is_sorted_by(|a, b| a < b)
            && tracks.iter().all(|track| *track < 16);
        prop_assert_eq!(made.is_some(), is_whole);
    }
}

#[test]
fn reader_whose_packets_did_not_come_begins_with_the_newest_picture() {
    let (mut source, mut pen) = (source(), Pen::default());
    let made = (Generation(3), description());
    let limits = PathLimits::default();
    let mut old = LivePath::new("live/a".into(), made, Vec::new(), limits, Mono(0));
    let key = reader(&mut old, Carrier::Tcp);
    for n in 0..20_u64 {
        pen.write((40, 0, 0, 900, true, n % 10 == 0), &mut [&mut source]);
        while let Some(batch) = source.poll_batch(pen.now()) {
            old.push(batch, pen.now());
        }
    }
    let first = send(&mut old, key, pen.now(), 2);
    let mut taken = taken_path(&old);
    // Only the newest group has come.
    let all: Vec<_> = taken.batches.iter().skip(10).cloned().collect();
    let places = taken.places.iter().filter(|(_, no)| **no >= 10).map(|(id, no)| (*id, no - 10));
    (taken.places, taken.batches) = (Arc::new(places.collect()), all.into());
    let mut new = LivePath::of_taken(&taken, limits, pen.now());
    let record = reader_record(&old, key);
    let to = [To::Channel(0), To::Channel(1)];
    let key = new.take_reader(&record, &taken, 7, &to, pen.now()).unwrap();
    let skipped = new.reader(key).unwrap().skipped();
    assert_eq!(skipped.skips, [1, 0, 0], "one for all streams");
    assert_eq!((new.totals().skips, new.totals().packets_skipped), ([1, 0, 0], skipped.packets));
    new.go_on_with(key);
    let next = send(&mut new, key, pen.now(), 1);
    let number = |packet: &[u8]| u16::from_be_bytes([packet[2], packet[3]]);
    assert_eq!(number(&next[0].1), number(&first.last().unwrap().1) + 1, "numbers have no gap");
    assert_eq!(next[0].1[13..], packet(11, 0, 0, 900)[13..], "the newest key frame");
}

/// A batch that had come to one shard and not to another one was never sent, and the reader's
/// numbers went on without a gap.
#[test]
fn reader_of_a_shard_that_was_behind_is_sent_what_another_one_had() {
    let (mut source, mut pen) = (source(), Pen::default());
    let path = || {
        let made = (Generation(3), description());
        LivePath::new("live/a".into(), made, Vec::new(), PathLimits::default(), Mono(0))
    };
    let (mut behind, mut ahead) = (path(), path());
    let key = reader(&mut behind, Carrier::Tcp);
    for n in 0..8_u64 {
        pen.write((40, 0, 0, 900, true, n == 0), &mut [&mut source]);
        while let Some(batch) = source.poll_batch(pen.now()) {
            if n < 7 {
                behind.push(Arc::clone(&batch), pen.now());
            }
            ahead.push(batch, pen.now());
        }
    }
    let first = send(&mut behind, key, pen.now(), 100);
    assert_eq!(first.len(), 7, "all that came to its shard");
    let taken = taken_path(&ahead);
    let record = reader_record(&behind, key);
    let to = [To::Channel(0), To::Channel(1)];
    let mut new = LivePath::of_taken(&taken, PathLimits::default(), pen.now());
    let key = new.take_reader(&record, &taken, 7, &to, pen.now()).unwrap();
    new.go_on_with(key);
    let next = send(&mut new, key, pen.now(), 100);
    let number = |packet: &[u8]| u16::from_be_bytes([packet[2], packet[3]]);
    assert_eq!(next.len(), 1, "the one that it lacks");
    assert_eq!(number(&next[0].1), number(&first[6].1).wrapping_add(1));
    // Where nothing of the path has come there is nothing to be behind of.
    let nothing = TakenPath { batches: Vec::new().into(), places: Arc::default(), ..taken };
    let mut new = LivePath::of_taken(&nothing, PathLimits::default(), pen.now());
    let key = new.take_reader(&record, &nothing, 7, &to, pen.now()).unwrap();
    new.go_on_with(key);
    assert!(send(&mut new, key, pen.now(), 1).is_empty());
}

/// The longer list was taken for the newer one: its newest packets were skipped.
#[test]
fn lists_of_two_shards_are_joined_by_their_newest_blocks() {
    for (first, second, is_newer, both) in [
        (&[1, 2, 3, 4][..], &[3, 4, 5][..], true, &[1, 2, 3, 4, 5][..]),
        (&[3, 4, 5], &[1, 2, 3, 4], false, &[1, 2, 3, 4, 5]),
        // What is known of blocks is more than what times tell.
        (&[1, 2, 3, 4], &[3, 4, 5], false, &[1, 2, 3, 4, 5]),
        (&[3, 4, 5], &[1, 2, 3, 4], true, &[1, 2, 3, 4, 5]),
        (&[1, 2, 3, 4], &[3, 4], false, &[1, 2, 3, 4]),
        (&[3, 4], &[1, 2, 3, 4], false, &[1, 2, 3, 4]),
        // Without a block in common: the newer one alone, or what is between would be missing.
        (&[1, 2, 3], &[7, 8], true, &[7, 8]),
        (&[7, 8], &[1, 2, 3], false, &[7, 8]),
        (&[], &[1, 2], true, &[1, 2]),
        (&[1, 2], &[], false, &[1, 2]),
        (&[], &[], false, &[]),
    ] {
        let joined = joined(first.to_vec(), second.to_vec(), is_newer);
        assert_eq!(joined, both, "{first:?} {second:?}");
    }
}

/// A hold that is shorter than a camera needs ended its readers by a takeover.
#[test]
fn readers_of_a_path_that_is_fetched_anew_wait_as_long_as_a_camera_may_take() {
    let now = Mono(5_000_000_000);
    let held_until = |kind, hold_until| {
        let rules = PathRules { kind, hold: Duration::ZERO, ..PathRules::default() };
        let made = (Generation(3), description());
        let path = LivePath::new("live/a".into(), made, Vec::new(), PathLimits::default(), now);
        let owner = TakenOwner { listeners: vec![ShardId(0)], hold_until, ..TakenOwner::default() };
        let taken = TakenPath { owner: Some(owner), ..taken_path(&path) };
        let mut registry = Registry::new(None);
        registry.take_in(&taken, Arc::new(rules), now);
        match registry.out.pop() {
            Some(Effect::Timer(_, until)) => until,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(held_until(SourceKind::Always, None), now + PULL_START_MAX);
    assert_eq!(held_until(SourceKind::OnDemand, None), now + PULL_START_MAX);
    // A publisher that did not come along has left.
    assert_eq!(held_until(SourceKind::Publish, None), now);
    // They had begun to wait before: the fetch begins anew.
    assert_eq!(held_until(SourceKind::Always, Some(Mono(7))), now + PULL_START_MAX);
    let late = now + 2 * PULL_START_MAX;
    assert_eq!(held_until(SourceKind::OnDemand, Some(late)), late);
    assert_eq!(held_until(SourceKind::Publish, Some(Mono(7))), Mono(7));
}
