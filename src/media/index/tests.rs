//! The compact index against the plain list of samples it was made from.

use super::*;
use proptest::prelude::*;

fn arbitrary_samples() -> impl Strategy<Value = Vec<Sample>> {
    let one = (
        prop_oneof![Just(0u64), Just(0), 1u64..1_000_000],
        prop_oneof![0u32..400, 60_000u32..70_000, Just(7)],
        prop_oneof![Just(512u32), 0u32..2_000],
        prop_oneof![Just(0i64), -3_000i64..3_000],
        prop::bool::weighted(0.2),
        any::<bool>(),
    );
    prop::collection::vec(one, 0..300).prop_map(|parts| {
        let (mut dts, mut offset) = (-100, 0);
        let sample = |(gap, bytes, duration, shift, is_sync, is_disposable)| {
            offset += gap;
            let pts = dts + shift;
            let sample = Sample { offset, bytes, dts, pts, duration, is_sync, is_disposable };
            offset += u64::from(bytes);
            dts += i64::from(duration);
            sample
        };
        parts.into_iter().map(sample).collect()
    })
}

proptest! {
    #[test]
    fn index_gives_back_every_sample(mut samples in arbitrary_samples(), first in 0u32..310) {
        let index = SampleIndex::from_samples(samples.clone());
        if let Some(sample) = samples.first_mut() && index.sync_count() == 1 && !sample.is_sync {
            sample.is_sync = index.sync_sample(0) == Some(0);
        }
        prop_assert_eq!(index.count() as usize, samples.len());
        let all: Vec<Sample> = index.iter(0, u32::MAX).collect();
        prop_assert_eq!(&all, &samples);
        let tail: Vec<Sample> = index.iter(first, 20).collect();
        let want: Vec<Sample> = samples.iter().skip(first as usize).take(20).copied().collect();
        prop_assert_eq!(tail, want);
        for (i, sample) in (0u32..).zip(&samples) {
            prop_assert_eq!(index.sample(i), Some(*sample));
        }
        let sync: Vec<u32> = (0..index.sync_count()).filter_map(|i| index.sync_sample(i)).collect();
        let numbered = (0u32..).zip(&samples);
        let want: Vec<u32> = numbered.filter(|(_, s)| s.is_sync).map(|(i, _)| i).collect();
        prop_assert_eq!(sync, want);
    }

    #[test]
    fn first_at_or_after_agrees_with_a_scan(
        samples in arbitrary_samples(),
        dts in -200i64..400_000,
    ) {
        let index = SampleIndex::from_samples(samples.clone());
        let scan = samples.iter().position(|s| s.dts >= dts).unwrap_or(samples.len());
        prop_assert_eq!(index.raw().first_at_or_after(dts) as usize, scan);
    }
}

fn steady(count: u32) -> Vec<Sample> {
    let sample = |i: u32| Sample {
        offset: u64::from(i) * 10,
        bytes: 10,
        dts: i64::from(i) * 100,
        pts: i64::from(i) * 100 + 200,
        duration: 100,
        is_sync: i.is_multiple_of(10),
        is_disposable: false,
    };
    (0..count).map(sample).collect()
}

#[test]
fn segments_repeat_and_move_samples_without_going_back_in_time() {
    let mut table = Table::default();
    for sample in &steady(40) {
        assert!(table.push(sample));
    }
    let index = SampleIndex::from_ranges(
        table,
        &[
            PlayRange { raw_first: 10, count: 10, shift: -1_200, lead: 0, floor: i64::MIN },
            PlayRange { raw_first: 0, count: 30, shift: 400, lead: 0, floor: 1_000 },
            PlayRange { raw_first: 38, count: 30, shift: 0, lead: 0, floor: i64::MIN },
        ],
    );
    assert_eq!((index.count(), index.sync_count()), (42, 4));
    assert_eq!(index.sample(0).map(|s| (s.dts, s.pts, s.offset)), Some((-200, 0, 100)));
    assert_eq!(index.sample(10).map(|s| (s.dts, s.pts, s.offset)), Some((1_000, 1_000, 0)));
    assert_eq!(index.sync_sample(2), Some(20));
    assert_eq!(index.sync_sample(3), Some(30));
    let all: Vec<Sample> = index.iter(0, 100).collect();
    assert_eq!(all.len(), 42);
    assert!(all.windows(2).all(|w| w[0].dts + i64::from(w[0].duration) == w[1].dts));
    assert_eq!(index.sync_at_or_before(Npt(1_500_000_000), 1_000), Some(1));
    assert_eq!(index.entry_at_or_before(Npt(1_600_000_000), 1_000), Some(20));
}

#[test]
fn empty_index_has_nothing_to_start_from() {
    let index = SampleIndex::from_samples(Vec::new());
    assert_eq!(index.sync_at_or_before(Npt(5), 1_000), None);
    assert_eq!((index.sample(0), index.sync_sample(0), index.end_ticks()), (None, None, 0));
}

#[test]
fn track_without_any_sync_sample_starts_at_its_first() {
    let mut samples = steady(5);
    samples[0].is_sync = false;
    let index = SampleIndex::from_samples(samples);
    assert_eq!((index.sync_count(), index.sync_sample(0)), (1, Some(0)));
}

proptest! {
    #[test]
    fn every_sample_keeps_its_description_in_play_order(
        described in prop::collection::vec(0u16..3, 1..60),
        ranges in prop::collection::vec((0u32..60, 1u32..30), 1..5),
        number in 0u32..60,
    ) {
        let mut table = Table::default();
        for (sample, which) in steady(60).iter().zip(&described) {
            prop_assert!(table.describe(*which));
            table.push(sample);
        }
        let count = table.count();
        let number = number % count;
        let runs: Vec<_> = table.description_runs().collect();
        let all = runs.iter().flat_map(|(run, which)| run.clone().map(|_| *which));
        prop_assert_eq!(all.collect::<Vec<_>>(), described.clone());
        let wanted = runs.iter().filter(|(run, _)| run.end > number).cloned().collect::<Vec<_>>();
        prop_assert_eq!(table.description_runs_from(number).collect::<Vec<_>>(), wanted);
        // 0 and 1 become one.
        table.renumber_descriptions(|which| which / 2 * 7);
        let ranges: Vec<PlayRange> = ranges
            .into_iter()
            .filter(|(first, _)| *first < count)
            .map(|(raw_first, count)| PlayRange { raw_first, ..PlayRange::all(count) })
            .collect();
        let index = SampleIndex::from_ranges(table, &ranges);
        let mut at = 0;
        for range in index.ranges() {
            for raw in range.raw_first..range.raw_first + range.count {
                prop_assert_eq!(index.description(at), described[raw as usize] / 2 * 7);
                at += 1;
            }
        }
    }
}

#[test]
fn descriptions_that_change_too_often_are_refused() {
    let mut table = Table::default();
    let limit = u32::try_from(crate::base::limits::DESCRIPTION_RUNS_MAX).unwrap();
    for (i, sample) in (0..).zip(&steady(limit)) {
        // The first run, of description 0, takes no memory.
        assert!(table.describe(u16::from(i % 2 == 1)));
        assert!(table.push(sample));
    }
    assert!(table.describe(0) && table.push(&steady(1)[0]));
    assert!(!table.describe(1));
}
