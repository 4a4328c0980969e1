//! A deterministic simulation: sources that come and go, an owner, two shards, readers of all
//! kinds.
//!
//! ```text
//!  camera: 25 frames/s, sound --lost--> Source --> Registry --> LivePath x 2 --> readers
//!    killed, started again                                        good, refused now and then,
//!    with other numbers                                           slow, stalled, pausing
//! ```
//! Every packet carries its own name. Checked for each stream of each reader: order, no packet
//! twice, one SSRC, numbers without a gap that the source did not make, time that never goes back,
//! and a key frame after each break; and that a good reader misses no packet. One seed gives one
//! run.

mod player;
mod world;

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::base::carrier::Carrier;
use crate::base::time::Mono;
use crate::live::core::batch::tests::{arrival, packet};
use crate::live::core::batch::{BatchBuilder, Generation};
use crate::live::core::clock::ticks_between;
use crate::live::core::message::owner_of;
use crate::live::core::path::{LivePath, Next, PathLimits, ReaderKey};
use crate::live::core::reader::To;
use crate::live::core::ring::RingLimits;
use crate::live::core::simulation::player::Manner;
use crate::live::core::simulation::world::{PATH, RATES, World, description};
use crate::live::core::start::StartPolicy;

fn limits(lag_budget_ms: u64, ring_bytes: usize) -> PathLimits {
    let lag_budget = std::time::Duration::from_millis(lag_budget_ms);
    let ring = RingLimits { bytes_max: ring_bytes, ..RingLimits::default() };
    PathLimits { ring, lag_budget, readers_max: 100, ..PathLimits::default() }
}

#[test]
fn readers_get_every_packet_at_once_beside_stalled_readers() {
    let mut world = World::new(7, u64::MAX, limits(500, 8 << 20));
    world.start_camera();
    world.run(3_050);
    assert!(world.join(0, Manner::Good, StartPolicy::Gop));
    assert!(world.join(1, Manner::Good, StartPolicy::Live));
    assert!(world.join(0, Manner::Stalled(5_000, 9_000), StartPolicy::Gop));
    assert!(world.join(1, Manner::Slow(60), StartPolicy::Gop));
    world.run(30);
    // A picture at once: the key frame came 650 ms ago.
    let instant = &world.players[0].got[0];
    assert!(instant.len() >= 40 && instant[0].is_sync, "{}", instant.len());
    world.run(8_000);
    world.drain();
    for player in &world.players[..2] {
        for stream in 0..2 {
            assert_eq!(player.check(stream), 0);
            let got = &player.got[stream];
            let span = got.last().unwrap().id - got[0].id + 1;
            assert_eq!(got.len() as u64, span, "nothing is missing");
            assert_eq!(got.last().unwrap().id + 1, world.ids[stream], "and nothing is late");
            assert!(got.iter().all(|got| got.is_untouched));
        }
    }
    for player in &world.players[2..] {
        let path = world.path(player.shard);
        let info = path.reader_info(player.key).unwrap();
        assert!(player.check(0) > 0 && info.skips_tcp_window > 0, "{info:?}");
        assert!(info.packets_skipped > 0 && info.skips_evicted == 0, "{info:?}");
    }
    let info = world.path(0).reader_info(world.players[0].key).unwrap();
    assert_eq!((info.packets_skipped, info.skips_tcp_window, info.lag_s), (0, 0, 0.0));
}

#[test]
fn readers_survive_their_publisher_and_their_reports_stay_true() {
    let mut world = World::new(3, u64::MAX, limits(500, 8 << 20));
    world.start_camera();
    world.run(2_000);
    world.join(0, Manner::Good, StartPolicy::Gop);
    world.run(2_000);
    for _ in 0..3 {
        world.kill_camera();
        world.run(1_500);
        world.start_camera();
        world.run(2_000);
    }
    world.drain();
    let player = &world.players[0];
    assert_eq!((player.check(0), player.check(1), world.ended), (3, 0, false));
    let utc_ns = world.at().utc_ns;
    for stream in 0..2_u8 {
        let got = &player.got[usize::from(stream)];
        assert_eq!(got.last().unwrap().id + 1, world.ids[usize::from(stream)]);
        let hz = RATES[usize::from(stream)];
        // Reader's time has advanced as the wall clock since its first packet.
        let ticks = ticks_between(got[0].ts, got.last().unwrap().ts);
        let wall = i64::from(hz) * 12_500 / 1_000;
        assert!((i64::from(ticks) - wall).abs() < i64::from(hz) * 2, "{ticks} of {wall}");
        let path = world.path(0);
        let report = path.report(player.key, stream, utc_ns).unwrap();
        let ahead = ticks_between(got.last().unwrap().ts, report.rtp_ts);
        assert!((0..i32::try_from(hz / 5).unwrap()).contains(&ahead), "{ahead}");
        assert_eq!(report.packets, got.len() as u64);
    }
}

#[test]
fn lost_packet_is_found_by_the_readers_number_and_not_across_a_break() {
    let mut world = World::new(5, u64::MAX, limits(500, 8 << 20));
    world.start_camera();
    world.run(2_000);
    world.join(0, Manner::Good, StartPolicy::Gop);
    world.run(1_000);
    world.kill_camera();
    world.start_camera();
    world.run(2_000);
    let player = &world.players[0];
    let path = world.paths[0].path_mut(PATH).unwrap();
    let got = &player.got[0];
    let newest = got.last().unwrap();
    let found = path.find_sent(player.key, 0, newest.seq).unwrap();
    assert_eq!(found.batch.packet_bytes(&found.packet)[12..20], newest.id.to_be_bytes());
    assert!(path.find_sent(player.key, 0, newest.seq.plus(1)).is_err(), "not sent yet");
    let old = got.iter().rfind(|got| got.is_untouched).unwrap();
    assert!(path.find_sent(player.key, 0, old.seq).is_err(), "of another source");
}

#[test]
fn group_of_pictures_over_the_budget_gives_no_instant_start_and_still_a_start() {
    let mut world = World::new(5, u64::MAX, limits(500, 60_000));
    world.start_camera();
    world.run(1_000);
    world.join(0, Manner::Stalled(0, 3_000), StartPolicy::Gop);
    world.join(0, Manner::Good, StartPolicy::Gop);
    world.run(4_000);
    world.drain();
    for player in &world.players {
        player.check(0);
        player.check(1);
        assert_eq!(player.got[0].last().unwrap().id + 1, world.ids[0]);
    }
    let path = world.path(0);
    assert!(path.reader_info(world.players[0].key).unwrap().skips_evicted > 0);
    assert!(path.ring().memory_bytes() <= 60_000);
}

/// At first a reader went back to the key frame: a player got twenty frames twice, and time ran
/// back.
#[test]
fn pause_within_a_group_of_pictures_goes_on_where_it_was() {
    let mut world = World::new(11, u64::MAX, limits(500, 8 << 20));
    world.start_camera();
    world.run(650);
    world.join(0, Manner::Good, StartPolicy::Gop);
    world.run(600);
    world.pause(0);
    world.run(200);
    let before = world.players[0].got.clone().map(|got| got.last().unwrap().id);
    world.play(0);
    world.run(300);
    for (stream, before) in before.into_iter().enumerate() {
        let player = &world.players[0];
        assert_eq!(player.check(stream), 0, "no break");
        assert!(player.got[stream].iter().any(|got| got.id == before + 1), "nothing is left out");
    }
    // A longer pause ends with a picture of now.
    world.pause(0);
    world.run(2_000);
    world.play(0);
    world.run(300);
    world.drain();
    assert_eq!((world.players[0].check(0), world.players[0].check(1)), (1, 1));
    assert_eq!(world.players[0].got[0].last().unwrap().id + 1, world.ids[0]);
}

#[test]
fn skip_over_a_refused_run_leaves_no_gap_in_numbers() {
    let at = |ms: u64| Mono(ms * 1_000_000);
    let batch = |first: u16, is_sync: bool, ms: u64| {
        let mut builder = BatchBuilder::default();
        for seq in first..first + 4 {
            let bytes = packet(seq, u32::from(first) * 900, 7, 1_000);
            let arrival = arrival(&bytes, 0, is_sync && seq == first);
            builder.push(&arrival, at(ms)).unwrap();
        }
        Arc::new(builder.build(Generation(1), |_| None).unwrap())
    };
    let of_source = (Generation(1), description());
    let snapshot = vec![batch(0, true, 0)];
    let mut path = LivePath::new(PATH.into(), of_source, snapshot, limits(500, 1 << 20), at(0));
    let key = path.add_reader(0, Carrier::Udp).unwrap();
    path.add_stream(key, 0, To::Nowhere).unwrap();
    path.prepare(key, StartPolicy::Gop);
    path.play(key, at(0));
    let first_seq = |path: &mut LivePath, ms| match path.next(key, 0, at(ms)) {
        Next::Run(due) => due.rewrite.stamp(&due.batch.packets_of(&due.run)[0]).seq.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(first_seq(&mut path, 0), 0);
    let sent = path.take(key, 0, 4).unwrap();
    path.confirm(key, &sent);
    path.push(batch(4, false, 40), at(40));
    assert_eq!(first_seq(&mut path, 40), 4);
    let refused = path.take(key, 0, 4).unwrap();
    assert!(path.rewind(key, &refused));
    assert!(!path.rewind(key, &refused), "once");
    assert_eq!(first_seq(&mut path, 42), 4);
    path.push(batch(8, true, 1_000), at(1_000));
    assert_eq!(first_seq(&mut path, 1_000), 4, "the sync sample, by the next number");
    assert!(!path.rewind(key, &sent), "from before the skip");
    let info = path.reader_info(key).unwrap();
    assert_eq!((info.packets_sent, info.packets_skipped, info.skips_lag_budget), (4, 4, 1));
}

/// A path of small batches, 100 ms apart, each a key frame, and a reader of the path.
fn path_with_reader(carrier: Carrier, limits: PathLimits) -> (LivePath, ReaderKey) {
    let of_source = (Generation(1), description());
    let mut path = LivePath::new(PATH.into(), of_source, Vec::new(), limits, Mono(0));
    let key = path.add_reader(0, carrier).unwrap();
    path.add_stream(key, 0, To::Nowhere).unwrap();
    push_picture(&mut path, 0);
    path.prepare(key, StartPolicy::Gop);
    path.play(key, Mono(0));
    (path, key)
}

fn push_picture(path: &mut LivePath, number: u16) {
    let now = Mono(u64::from(number) * 100_000_000);
    let bytes = packet(number, u32::from(number) * 9_000, 7, 1_000);
    let mut builder = BatchBuilder::default();
    builder.push(&arrival(&bytes, 0, true), now).unwrap();
    path.push(Arc::new(builder.build(Generation(1), |_| None).unwrap()), now);
}

#[test]
fn reader_is_ready_with_each_batch_unless_it_was_deferred() {
    let (mut path, key) = path_with_reader(Carrier::Udp, PathLimits::default());
    assert_eq!((path.pop_ready(), path.pop_ready()), (Some(key), None));
    push_picture(&mut path, 1);
    assert_eq!((path.pop_ready(), path.pop_ready()), (Some(key), None));
    path.defer(key);
    push_picture(&mut path, 2);
    assert_eq!(path.pop_ready(), None);
    path.queue(key);
    path.queue(key);
    assert_eq!((path.pop_ready(), path.pop_ready()), (Some(key), None), "once");
    path.pause(key);
    push_picture(&mut path, 3);
    assert_eq!(path.pop_ready(), None);
    path.prepare(key, StartPolicy::Gop);
    path.play(key, Mono(300_000_000));
    assert_eq!((path.pop_ready(), path.pop_ready()), (Some(key), None));
}

#[test]
fn reader_that_begins_behind_the_newest_batch_is_queued_as_catching_up() {
    let (mut path, live) = path_with_reader(Carrier::Udp, PathLimits::default());
    let late = path.add_reader(1, Carrier::Udp).unwrap();
    path.add_stream(late, 0, To::Nowhere).unwrap();
    path.prepare(late, StartPolicy::Gop);
    let now = Mono(90_000_000);
    path.play(late, now);
    assert_eq!((path.pop_ready(), path.pop_behind()), (Some(live), Some(late)));
    assert!(matches!(path.next(late, 0, now), Next::Run(_)));
    // It has had all; with the next picture it is one of the others.
    path.take(late, 0, 1).unwrap();
    push_picture(&mut path, 1);
    let popped = [path.pop_ready(), path.pop_ready()];
    assert!(popped.contains(&Some(late)) && popped.contains(&Some(live)));
}

#[test]
fn skip_over_evicted_batches_is_counted_as_eviction_only_if_the_ring_is_short() {
    let one = path_with_reader(Carrier::Tcp, PathLimits::default()).0.ring().memory_bytes();
    for (pictures_kept, now, wanted) in [(100, 90, (1, 0)), (3, 10, (0, 1))] {
        let limits = limits(2_000, one * pictures_kept);
        let (mut path, key) = path_with_reader(Carrier::Tcp, limits);
        (1..=now).for_each(|number| push_picture(&mut path, number));
        assert!(path.ring().first_no() > 0, "its picture has gone");
        let now = Mono(u64::from(now) * 100_000_000);
        assert!(matches!(path.next(key, 0, now), Next::Run(_)));
        let info = path.reader_info(key).unwrap();
        assert_eq!((info.skips_tcp_window, info.skips_evicted), wanted, "{pictures_kept}");
    }
}

#[test]
fn owner_of_a_path_is_one_of_the_shards() {
    assert!(owner_of(PATH, 2).0 < 2);
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        Just(Manner::Good),
        (2_u64..20).prop_map(Manner::Refusing),
        (20_usize..400).prop_map(Manner::Slow),
        (1_000_u64..4_000, 100_u64..4_000).prop_map(|(from, ms)| Manner::Stalled(from, from + ms)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn streams_are_in_order_without_gaps_made_by_the_server_under_any_events(
        seed: u64,
        loss_one_in in prop_oneof![Just(u64::MAX), 20_u64..200],
        ring_bytes in prop_oneof![Just(8_usize << 20), 40_000_usize..400_000],
        lag_ms in 100_u64..1_500,
        comings in prop::collection::vec((manner(), 0_usize..2, any::<bool>()), 1..8),
    ) {
        let mut world = World::new(seed, loss_one_in, limits(lag_ms, ring_bytes));
        world.start_camera();
        world.run(500);
        for (manner, shard, is_live) in comings {
            let policy = if is_live { StartPolicy::Live } else { StartPolicy::Gop };
            if world.camera.is_some() {
                prop_assert!(world.join(shard, manner, policy));
            }
            let wait = world.dice.roll(700);
            world.run(wait);
            match world.dice.roll(4) {
                0 if world.camera.is_some() => world.kill_camera(),
                1 if world.camera.is_none() => world.start_camera(),
                2 => {
                    let player = world.dice.roll(world.players.len().max(1) as u64);
                    let player = usize::try_from(player).unwrap();
                    world.pause(player);
                    world.play(player);
                }
                _ => {}
            }
        }
        if world.camera.is_none() {
            world.start_camera();
        }
        world.run(3_000);
        world.drain();
        for player in &world.players {
            let path = world.path(player.shard);
            let skipped = path.reader(player.key).unwrap().skipped();
            let reasons = skipped.skips.iter().sum::<u64>()
                + u64::from(world.sources) + player.pauses;
            for stream in 0..2 {
                prop_assert!(player.check(stream) <= reasons, "{:?}", skipped);
            }
            if player.manner == Manner::Good {
                prop_assert_eq!(player.got[0].last().map(|got| got.id), world.newest(0));
                prop_assert_eq!(player.got[1].last().map(|got| got.id), world.newest(1));
                prop_assert_eq!(skipped.skips[..2].iter().sum::<u64>(), 0);
            }
        }
    }
}

/// Several readers of a shard and the ring hold the same blocks, not copies of them.
#[test]
fn batch_is_one_block_for_all_shards() {
    let mut world = World::new(1, u64::MAX, limits(500, 8 << 20));
    world.start_camera();
    world.run(2_000);
    world.join(0, Manner::Good, StartPolicy::Gop);
    world.join(1, Manner::Good, StartPolicy::Gop);
    world.run(100);
    let blocks = |shard: usize| -> HashMap<usize, usize> {
        let ring = world.path(shard).ring();
        let batches = (ring.first_no()..ring.end_no()).filter_map(|no| ring.batch(no));
        batches.map(|batch| (Arc::as_ptr(batch).addr(), Arc::strong_count(batch))).collect()
    };
    let (one, two) = (blocks(0), blocks(1));
    assert!(!one.is_empty() && one == two);
    // The owner's ring and the two of the shards.
    assert!(one.values().all(|holders| *holders == 3), "{one:?}");
}
