//! A stream that waits for a key frame starts at last, whatever its source sends.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::base::carrier::Carrier;
use crate::base::time::Mono;
use crate::live::core::batch::tests::{arrival, packet};
use crate::live::core::batch::{BatchBuilder, Generation};
use crate::live::core::description::{Description, LiveTrack};
use crate::live::core::limits::SYNC_WAIT_MAX;
use crate::live::core::path::{LivePath, Next, PathLimits};
use crate::live::core::reader::To;
use crate::live::core::start::StartPolicy;

/// A path with a frame each 100 ms, and one reader.
struct Rig {
    path: LivePath,
    key: crate::live::core::path::ReaderKey,
    now: Mono,
    seq: u16,
    generation: u32,
}

impl Rig {
    fn new(limits: PathLimits) -> Self {
        let (clock_rate_hz, payload_types) = (90_000, vec![96]);
        let track =
            LiveTrack { clock_rate_hz, payload_types, needs_sync: true, identity: "a".into() };
        let description = Arc::new(Description::new("".into(), vec![track]).unwrap());
        let of_source = (Generation(1), description);
        let mut path = LivePath::new("live/a".into(), of_source, Vec::new(), limits, Mono(0));
        let key = path.add_reader(0, Carrier::Tcp).unwrap();
        path.add_stream(key, 0, To::Nowhere).unwrap();
        Self { path, key, now: Mono(0), seq: 0, generation: 1 }
    }

    fn play(&mut self, policy: StartPolicy) {
        self.path.prepare(self.key, policy);
        self.path.play(self.key, self.now);
    }

    fn picture(&mut self, is_sync: bool) {
        self.now = self.now + Duration::from_millis(100);
        self.seq = self.seq.wrapping_add(1);
        let ts = u32::from(self.seq) * 9_000;
        let mut builder = BatchBuilder::default();
        let bytes = packet(self.seq, ts, self.generation, 1_000);
        builder.push(&arrival(&bytes, 0, is_sync), self.now).unwrap();
        let batch = builder.build(Generation(self.generation), |_| None).unwrap();
        self.path.push(Arc::new(batch), self.now);
    }

    /// Takes all due packets. Returns their number.
    fn read(&mut self) -> u32 {
        let mut count = 0;
        for _ in 0..1_000 {
            let Next::Run(due) = self.path.next(self.key, 0, self.now) else { return count };
            let packets = due.run.packet_count - due.skip_packets;
            self.path.take(self.key, 0, packets).unwrap();
            count += u32::from(packets);
        }
        panic!("it does not end");
    }

    /// Sends frames without key frames until the reader gets a packet; returns the seconds.
    fn seconds_to_first(&mut self) -> f64 {
        let from = self.now;
        for _ in 0..300 {
            self.picture(false);
            if self.read() > 0 {
                return self.now.since(from).as_secs_f64();
            }
        }
        f64::INFINITY
    }
}

const LIMIT_S: f64 = SYNC_WAIT_MAX.as_millis() as f64 / 1_000.0 + 0.2;

#[test]
fn late_reader_of_a_stream_without_sync_samples_begins_in_time_and_stays() {
    for policy in [StartPolicy::Gop, StartPolicy::Live] {
        let mut rig = Rig::new(PathLimits::default());
        (0..200).for_each(|_| rig.picture(false));
        rig.play(policy);
        let waited = rig.seconds_to_first();
        assert!((LIMIT_S - 0.3..=LIMIT_S).contains(&waited), "{waited}");
        for _ in 0..100 {
            rig.picture(false);
            assert_eq!(rig.read(), 1, "and goes on with every picture");
        }
    }
}

#[test]
fn reader_begins_at_a_sync_sample_that_comes_before_its_wait_is_over() {
    let mut rig = Rig::new(PathLimits::default());
    rig.play(StartPolicy::Gop);
    for _ in 0..70 {
        rig.picture(false);
        assert_eq!(rig.read(), 0);
    }
    rig.picture(true);
    assert_eq!(rig.read(), 1);
}

#[test]
fn reader_whose_source_is_another_without_sync_samples_goes_on_in_time() {
    let mut rig = Rig::new(PathLimits::default());
    rig.picture(true);
    rig.play(StartPolicy::Gop);
    assert_eq!(rig.read(), 1);
    rig.generation = 2;
    let description = Arc::clone(rig.path.description());
    rig.path.handle_source(Generation(2), description);
    let waited = rig.seconds_to_first();
    assert!(waited <= LIMIT_S, "{waited}");
}

#[test]
fn reader_that_was_evicted_goes_on_in_time_without_a_sync_sample() {
    let mut limits = PathLimits::default();
    limits.ring.bytes_max = 64 << 10;
    let mut rig = Rig::new(limits);
    rig.picture(true);
    rig.play(StartPolicy::Gop);
    assert_eq!(rig.read(), 1);
    // It does not read for a minute.
    (0..600).for_each(|_| rig.picture(false));
    assert!(rig.seconds_to_first() <= LIMIT_S);
}

proptest! {
    #[test]
    fn no_reader_waits_longer_than_the_limit_whatever_is_sent(
        pictures in prop::collection::vec((0_u8..100, any::<bool>()), 100..400),
        is_live in any::<bool>(),
    ) {
        let mut rig = Rig::new(PathLimits::default());
        rig.play(if is_live { StartPolicy::Live } else { StartPolicy::Gop });
        let mut sent = rig.now;
        for (event, is_reading) in pictures {
            if event == 0 {
                rig.generation += 1;
                let description = Arc::clone(rig.path.description());
                rig.path.handle_source(Generation(rig.generation), description);
            }
            rig.picture(event == 1);
            if (event > 50 || is_reading) && rig.read() > 0 {
                sent = rig.now;
            }
            let waited = rig.now.since(sent).as_secs_f64();
            // Breaks may come one after the other; between them no wait is longer.
            prop_assert!(event == 0 || waited <= 2.0 * LIMIT_S, "{}", waited);
            if event == 0 {
                sent = rig.now;
            }
        }
    }
}
