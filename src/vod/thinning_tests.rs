//! Scripts of reports and lags with known levels, and properties of any script.

use proptest::prelude::*;

use super::*;

const START: Mono = Mono(1_000_000_000_000);
const REPORT: Duration = Duration::from_secs(5);

fn quality() -> Quality {
    Quality::new(Duration::from_secs(2))
}

/// Reports of `percent` lost each five seconds; returns the changed levels, by report.
fn levels(quality: &mut Quality, now: &mut Mono, percents: &[u32]) -> Vec<(usize, ThinningLevel)> {
    let mut changes = Vec::new();
    for (place, percent) in percents.iter().enumerate() {
        *now = *now + REPORT;
        let fraction = u8::try_from(percent * 256 / 100).unwrap();
        let change = quality.handle_report(fraction, *now);
        changes.extend(change.map(|change| (place, change.level)));
    }
    changes
}

#[test]
fn three_bad_reports_in_a_row_thin_by_a_step() {
    let (mut quality, mut now) = (quality(), START);
    let found = levels(&mut quality, &mut now, &[40, 40, 10, 40, 40, 40, 40, 40, 40, 40]);
    assert_eq!(found, [(5, ThinningLevel::Reference), (8, ThinningLevel::Sync)]);
}

#[test]
fn six_clean_reports_in_a_row_thicken_by_a_step() {
    let (mut quality, mut now) = (quality(), START);
    levels(&mut quality, &mut now, &[50; 6]);
    let mut script = vec![0, 0, 0, 0, 0, 10];
    script.extend([2; 12]);
    let found = levels(&mut quality, &mut now, &script);
    assert_eq!(found, [(11, ThinningLevel::Reference), (17, ThinningLevel::Full)]);
    assert_eq!(levels(&mut quality, &mut now, &[0; 40]), [], "nothing is above full");
}

#[test]
fn loss_that_is_neither_bad_nor_clean_changes_nothing() {
    let (mut quality, mut now) = (quality(), START);
    assert_eq!(levels(&mut quality, &mut now, &[20; 40]), []);
    levels(&mut quality, &mut now, &[50; 3]);
    assert_eq!(levels(&mut quality, &mut now, &[20; 40]), []);
}

#[test]
fn route_that_is_clean_only_when_thinned_is_tested_less_and_less_often() {
    let (mut quality, mut now) = (quality(), START);
    levels(&mut quality, &mut now, &[50; 3]);
    let mut waits = Vec::new();
    for _ in 0..5 {
        let found = levels(&mut quality, &mut now, &[0; 24]);
        let (place, level) = found[0];
        assert_eq!(level, ThinningLevel::Full);
        waits.push(place + 1);
        // Those behind the step up do not count: the way is back in time to where it failed.
        now = Mono(now.0 - (23 - place as u64) * 5_000_000_000);
        quality.looked = None;
        assert_eq!(levels(&mut quality, &mut now, &[50; 3]), [(2, ThinningLevel::Reference)]);
    }
    assert_eq!(waits, [6, 12, 24, 24, 24]);
}

#[test]
fn title_with_rare_sync_samples_keeps_its_reference_frames() {
    let (mut quality, mut now) = (Quality::new(Duration::from_secs(60)), START);
    assert_eq!(levels(&mut quality, &mut now, &[90; 30]), [(2, ThinningLevel::Reference)]);
}

#[test]
fn lag_thins_only_while_it_grows() {
    let (mut quality, mut now) = (quality(), START);
    let mut lags = |lags_ms: &[u64]| {
        let mut changes = Vec::new();
        for lag in lags_ms {
            now = now + Duration::from_secs(2);
            changes.extend(quality.handle_lag(Duration::from_millis(*lag), now));
        }
        changes
    };
    assert_eq!(
        lags(&[9_000, 9_000, 9_000, 8_000, 7_000, 7_000]),
        [],
        "far behind, but it keeps up"
    );
    assert_eq!(lags(&[0, 200, 1_400, 800, 1_600, 900]), []);
    let change = Change { level: ThinningLevel::Reference, cause: Cause::Lag };
    assert_eq!(lags(&[1_600, 2_000, 2_500]), [change]);
    let change = Change { level: ThinningLevel::Full, cause: Cause::Clean };
    assert_eq!(lags(&[1_000, 200, 0, 0, 0, 0, 0, 0, 0]), [change]);
}

proptest! {
    #[test]
    fn changes_are_steps_and_never_closer_than_the_settling_time(
        script in prop::collection::vec((0_u64..20_000, any::<u8>()), 0..400),
    ) {
        let (mut quality, mut now, mut before) = (quality(), START, ThinningLevel::Full);
        let mut last: Option<Mono> = None;
        for (wait_ms, fraction_lost) in script {
            now = now + Duration::from_millis(wait_ms);
            let Some(change) = quality.handle_report(fraction_lost, now) else { continue };
            prop_assert_eq!((change.level as u8).abs_diff(before as u8), 1);
            let least = SETTLE + LOOK_MIN * (u32::from(BAD_TO_THIN) - 1);
            prop_assert!(last.is_none_or(|at| now.since(at) >= least));
            // A step up takes longer than one down.
            let least = SETTLE + LOOK_MIN * (u32::from(PATIENCE_MIN) - 1);
            let is_up = change.level < before;
            prop_assert!(!is_up || last.is_none_or(|at| now.since(at) >= least));
            (before, last) = (change.level, Some(now));
        }
    }

    #[test]
    fn clean_reports_always_lead_back_to_full(
        script in prop::collection::vec((0_u64..20_000, any::<u8>()), 0..400),
    ) {
        let (mut quality, mut now) = (quality(), START);
        for (wait_ms, fraction_lost) in script {
            now = now + Duration::from_millis(wait_ms);
            let _ = quality.handle_report(fraction_lost, now);
        }
        for _ in 0..2 * (u32::from(PATIENCE_MAX) + 1) {
            now = now + REPORT;
            let _ = quality.handle_report(0, now);
        }
        prop_assert_eq!(quality.level, ThinningLevel::Full);
    }
}
